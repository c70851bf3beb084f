/* Loading and viewing of flat images. First byte: bit 0 makes the checksums right, bit 1 views
   instead of loading, bit 2 also makes the total length right; the rest is the image. An accepted
   index must answer, take changes, and save to an image that loads again. */
#include "rv_fuzz.h"

static float custom(void *user, const void *a, const void *b, size_t dim)
{
    (void)user;
    (void)dim;
    return *(const unsigned char *)a == *(const unsigned char *)b ? 0.0f : 1.0f;
}

static void use(rv_ctx *ctx, rv_flat *index, int viewed)
{
    static unsigned char vector[65535 * 4];
    rv_hit hits[8];
    size_t n_hits = 0, bytes = 0;
    unsigned char *image;
    rv_flat *copy = NULL;
    REQUIRE(rv_flat_search(ctx, index, vector, 8, NULL, hits, &n_hits) == RV_OK);
    REQUIRE(n_hits == (rv_flat_count(index) < 8 ? rv_flat_count(index) : 8));
    for (size_t i = 0; i < n_hits; i++) {
        REQUIRE(rv_flat_contains(index, hits[i].key));
        REQUIRE(rv_flat_get(ctx, index, hits[i].key, vector) == RV_OK);
        (void)rv_flat_search(ctx, index, vector, 8, NULL, hits, &bytes);
    }
    memset(vector, 0, sizeof vector);
    (void)rv_flat_range(ctx, index, vector, 1.0f, NULL, hits, 8, &n_hits);
    if (viewed) {
        REQUIRE(rv_flat_add(ctx, index, 1, vector) == RV_ERR_UNSUPPORTED);
        return;
    }
    for (uint64_t key = 0; key < 3; key++)
        REQUIRE(rv_flat_upsert(ctx, index, key, vector) == RV_OK);
    REQUIRE(rv_flat_remove(ctx, index, 1) == RV_OK);
    REQUIRE(rv_flat_save(ctx, index, NULL, 0, &bytes) == RV_OK);
    image = (unsigned char *)malloc(bytes);
    REQUIRE(image != NULL);
    REQUIRE(rv_flat_save(ctx, index, image, bytes, &bytes) == RV_OK);
    REQUIRE(rv_flat_load(ctx, image, bytes, custom, NULL, &copy) == RV_OK);
    REQUIRE(rv_flat_count(copy) == rv_flat_count(index));
    free(image);
    REQUIRE(rv_flat_compact(ctx, copy) == RV_OK);
    rv_flat_destroy(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rv_ctx ctx;
    fuzz_heap h;
    rv_flat *index = NULL;
    unsigned char *image;
    rv_status status;
    int mode;
    if (size < 1) return 0;
    mode = data[0];
    size--;
    image = sign_aligned(size);
    memcpy(image, data + 1, size);
    if ((mode & 4) && size >= 64) sign_put(image + 16, 8, size);
    if (mode & 1) sign_image(image, size);
    fuzz_ctx(&ctx, &h, 4 * size + 4096);
    if (mode & 2) status = rv_flat_view(&ctx, image, size, custom, NULL, &index);
    else status = rv_flat_load(&ctx, image, size, custom, NULL, &index);
    REQUIRE((status == RV_OK) == (index != NULL));
    REQUIRE(status == RV_OK || ctx.message[0]);
    h.limit = (size_t)1 << 26; /* beyond loading: growing, scratch of searches */
    if (index) use(&ctx, index, mode & 2);
    rv_flat_destroy(index);
    REQUIRE(h.live == 0);
    sign_aligned_free(image);
    return 0;
}
