/* The image format read and signed by someone else: written from the description in image.h, not
   from the library's code. For tests and fuzzers that need a changed image to pass its
   checksums. */
#ifndef RV_IMAGE_SIGN_H
#define RV_IMAGE_SIGN_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define SIGN_FN static __attribute__((unused))
#else
#define SIGN_FN static
#endif

SIGN_FN uint64_t sign_get(const unsigned char *p, int bytes)
{
    uint64_t x = 0;
    for (int i = bytes; i-- > 0;) x = x << 8 | p[i];
    return x;
}

SIGN_FN void sign_put(unsigned char *p, int bytes, uint64_t x)
{
    for (int i = 0; i < bytes; i++) p[i] = (unsigned char)(x >> (8 * i) & 255u);
}

SIGN_FN uint64_t sign_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15ull;
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9ull;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBull;
    return x ^ x >> 31;
}

/* bytes: a multiple of 32. */
SIGN_FN uint64_t sign_checksum(const unsigned char *p, size_t bytes)
{
    uint64_t a[4], h = sign_mix(bytes / 8);
    for (size_t j = 0; j < 4; j++) a[j] = sign_mix(j);
    for (size_t i = 0; i < bytes / 8; i++) {
        uint64_t x = (a[i % 4] ^ sign_get(p + 8 * i, 8)) * 0x9E3779B97F4A7C15ull;
        a[i % 4] = x << 29 | x >> 35;
    }
    for (size_t j = 0; j < 4; j++) h = sign_mix(h ^ a[j]);
    return h;
}

/* Makes both checksums of an image right; bytes: its total, at least 64, as far as it has them. */
SIGN_FN void sign_image(unsigned char *image, size_t bytes)
{
    if (bytes < 64) return;
    sign_put(image + 32, 8, sign_checksum(image + 64, (bytes - 64) / 32 * 32));
    sign_put(image + 40, 8, 0);
    sign_put(image + 40, 8, sign_checksum(image, 64));
}

/* The row of a section in the table of a valid image, NULL when there is none. */
SIGN_FN unsigned char *sign_row(unsigned char *image, const char *tag)
{
    size_t total = (size_t)sign_get(image + 16, 8), n = (size_t)sign_get(image + 24, 4);
    for (size_t i = 0; i < n; i++) {
        unsigned char *row = image + total - 32 * (n - i);
        if (memcmp(row, tag, 4) == 0) return row;
    }
    return NULL;
}

/* The first byte of a section that is there. */
SIGN_FN unsigned char *sign_section(unsigned char *image, const char *tag)
{
    return image + (size_t)sign_get(sign_row(image, tag) + 8, 8);
}

/* dim of the rows in a valid image: the first element of section SPAR; 0 without one. */
SIGN_FN size_t sign_dim(unsigned char *image)
{
    unsigned char *row = sign_row(image, "SPAR");
    return row ? (size_t)sign_get(image + (size_t)sign_get(row + 8, 8), 4) : 0;
}

/* A block that starts on a multiple of 64 bytes, as a view wants its image; less than 64 bytes
   behind it are the heap's. */
SIGN_FN unsigned char *sign_aligned(size_t bytes)
{
    unsigned char *raw = (unsigned char *)malloc(bytes + 64), *block;
    if (!raw) exit(2);
    block = raw + 64 - (size_t)((uintptr_t)raw % 64);
    block[-1] = (unsigned char)(block - raw);
    return block;
}

SIGN_FN void sign_aligned_free(void *ptr)
{
    unsigned char *block = (unsigned char *)ptr;
    if (block) free(block - block[-1]);
}

#endif /* RV_IMAGE_SIGN_H */
