/* rv_image_info: the first look at a file that may be anything. First byte: bit 0 makes the
   checksums right, bit 1 also makes the total length right, the rest shifts the image to an odd
   address; what follows is the image. An accepted header must agree with its bytes, whatever stands
   behind it. */
#include "rv_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rv_ctx ctx;
    fuzz_heap h;
    unsigned char *image, *raw;
    char kind[5] = "none", again[5] = "none";
    uint64_t total = 77, other = 78;
    rv_status status, brief;
    size_t shift;
    int mode;
    if (size < 1) return 0;
    mode = data[0];
    size--;
    shift = (size_t)(mode >> 2);
    raw = (unsigned char *)malloc(size + shift + 1); /* exact: a sanitizer sees reads behind it */
    REQUIRE(raw != NULL);
    image = sign_aligned(size);
    memcpy(image, data + 1, size);
    if ((mode & 2) && size >= 64) sign_put(image + 16, 8, size);
    if (mode & 1) sign_image(image, size);
    memcpy(raw + shift + 1, image, size);
    sign_aligned_free(image);
    image = raw + shift + 1;
    fuzz_ctx(&ctx, &h, 0); /* it needs no memory */
    status = rv_image_info(&ctx, image, size, kind, &total);
    REQUIRE(status == RV_OK || status == RV_ERR_FORMAT);
    REQUIRE(status == ctx.status);
    brief = rv_image_info(NULL, image, size < 64 ? size : 64, again, &other);
    REQUIRE(brief == status); /* 64 bytes are all it looks at */
    REQUIRE(rv_image_info(&ctx, image, size, NULL, NULL) == status);
    if (status) {
        REQUIRE(memcmp(kind, "none", 5) == 0 && total == 77);
        REQUIRE(ctx.message[0] != 0);
    } else {
        REQUIRE(size >= 64 && memcmp(image, "RVIM", 4) == 0 && sign_get(image + 4, 4) == 1);
        REQUIRE(memcmp(kind, image + 8, 4) == 0 && kind[4] == 0);
        REQUIRE(total == sign_get(image + 16, 8) && total == other);
        REQUIRE(memcmp(kind, again, 5) == 0);
        REQUIRE(total >= 64 + 32 * sign_get(image + 24, 4) && sign_get(image + 24, 4) <= 48);
    }
    REQUIRE(h.live == 0);
    free(raw);
    return 0;
}
