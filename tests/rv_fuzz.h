/* What the fuzz targets share: a heap with a limit, and images made from good ones by small
   changes. */
#ifndef RV_FUZZ_H
#define RV_FUZZ_H

#include "ruvector.h"
#include "rv_image_sign.h"

#include <stdlib.h>

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

#ifdef __cplusplus
extern "C"
#endif
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a heap that counts and has a limit ---- */

typedef struct fuzz_heap {
    size_t live, limit; /* bytes in all, bytes of one block */
} fuzz_heap;

SIGN_FN void *fuzz_realloc(void *user, void *ptr, size_t old_bytes, size_t new_bytes)
{
    fuzz_heap *h = (fuzz_heap *)user;
    if (!new_bytes) {
        h->live -= old_bytes;
        free(ptr);
        return NULL;
    }
    REQUIRE(new_bytes <= h->limit);
    h->live += new_bytes - (ptr ? old_bytes : 0);
    return realloc(ptr, new_bytes);
}

/* A context over the heap; limit: more than loading an image of that size can ask for. */
SIGN_FN void fuzz_ctx(rv_ctx *ctx, fuzz_heap *heap, size_t limit)
{
    memset(ctx, 0, sizeof *ctx);
    heap->live = 0;
    heap->limit = limit;
    ctx->alloc.realloc = fuzz_realloc;
    ctx->alloc.user = heap;
}

/* ---- images ---- */

typedef struct fuzz_good {
    unsigned char *image; /* NULL: not made yet */
    size_t bytes;
} fuzz_good;

/* One change: three bytes say where, one what; the largest of those stand for large numbers. */
SIGN_FN void fuzz_change(unsigned char *image, size_t bytes, const uint8_t *p)
{
    static const uint32_t large[] = {0xFFFFFFFFu, 0x7FFFFFFFu, 0x80000000u, 0x7F800000u,
                                     0xFFFFu,     0x10000u,    1u << 30,    1u << 24};
    const size_t at = (p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16) % bytes;
    if (p[3] < 0xF8 || at + 4 > bytes) image[at] = p[3];
    else sign_put(image + at, 4, large[p[3] - 0xF8]);
}

/* The image that an input asks for, to be freed with sign_aligned_free. good: what its first byte
   names, which the rest changes, then the checksums are made right; NULL: the rest is the image
   itself, whose checksums are made right when the first byte is odd. */
SIGN_FN unsigned char *fuzz_image(const uint8_t *data, size_t size, const fuzz_good *good,
                                  size_t *bytes)
{
    unsigned char *image;
    *bytes = good ? good->bytes : size - 1;
    image = sign_aligned(*bytes);
    memcpy(image, good ? good->image : data + 1, *bytes);
    for (size_t at = 1; good && at + 4 <= size && at < 400; at += 4)
        fuzz_change(image, *bytes, data + at);
    if ((good || (data[0] & 1)) && *bytes % 32 == 0) sign_image(image, *bytes);
    return image;
}

#endif /* RV_FUZZ_H */
