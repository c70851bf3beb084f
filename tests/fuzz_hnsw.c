/* Images of the graph index from bytes that nobody vouches for: load or view, then everything that
   can be done with the index.

   First byte: 0..8: take a good image of that form, then apply changes of four bytes each (place:
   three bytes, value: one byte, which also stands for some large numbers) and make the checksums
   right; anything else: the rest is the image itself, whose checksums are made right when the byte
   is odd. */
#include "hnsw_set.h"

#ifdef __cplusplus
extern "C"
#endif
    int
    LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DIM = 20, ROWS = 40 };

static unsigned char *good[9];
static size_t good_bytes[9];

/* Each image is made once. */
static void make_good(size_t i)
{
    static const struct {
        rv_metric metric;
        rv_dtype type;
        rv_hnsw_codes codes;
        int drop;
    } forms[9] = {
        {RV_METRIC_L2, RV_DTYPE_F32, RV_HNSW_CODES_PCA, 0},
        {RV_METRIC_COSINE, RV_DTYPE_F16, RV_HNSW_CODES_SQ8, 0},
        {RV_METRIC_IP, RV_DTYPE_BF16, RV_HNSW_CODES_SQ4, 0},
        {RV_METRIC_L2, RV_DTYPE_I8, RV_HNSW_CODES_RABITQ, 0},
        {RV_METRIC_COSINE, RV_DTYPE_F32, RV_HNSW_CODES_PCA, 1},
        {RV_METRIC_L2, RV_DTYPE_F32, RV_HNSW_CODES_RABITQ, 1},
        {RV_METRIC_L1, RV_DTYPE_F32, RV_HNSW_CODES_NONE, 0},
        {RV_METRIC_HAMMING, RV_DTYPE_U1, RV_HNSW_CODES_NONE, 0},
        {RV_METRIC_CUSTOM, RV_DTYPE_F32, RV_HNSW_CODES_NONE, 0},
    };
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    uint64_t keys[ROWS];
    hnsw_set set;
    if (good[i]) return;
    hnsw_set_make(&set, ROWS, 0, DIM, 300 + i);
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    config.m = 3;
    config.metric = forms[i].metric;
    config.type = forms[i].type;
    config.codes = forms[i].codes;
    config.drop_vectors = forms[i].drop;
    config.custom = forms[i].metric == RV_METRIC_CUSTOM ? hnsw_custom : NULL;
    for (size_t j = 0; j < ROWS; j++) keys[j] = 3 * j;
    if (rv_hnsw_create(NULL, &config, &index) ||
        rv_hnsw_build(NULL, index, i % 2 ? keys : NULL, set.rows, ROWS))
        abort();
    if (i % 3 == 1 && rv_hnsw_remove(NULL, index, 3)) abort();
    if (rv_hnsw_save(NULL, index, NULL, 0, &good_bytes[i])) abort();
    good[i] = (unsigned char *)hnsw_aligned(good_bytes[i]);
    if (rv_hnsw_save(NULL, index, good[i], good_bytes[i], &good_bytes[i])) abort();
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
}

static void change(unsigned char *image, size_t bytes, const uint8_t *p)
{
    static const uint32_t large[] = {0xFFFFFFFFu, 0x7FFFFFFFu, 0x80000000u, 0x7F800000u,
                                     0xFFFFu,     0x10000u,    1u << 30,    1u << 24};
    const size_t at = (p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16) % bytes;
    if (p[3] < 0xF8 || at + 4 > bytes) image[at] = p[3];
    else memcpy(image + at, &large[p[3] - 0xF8], 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float query[64];
    unsigned char *image;
    size_t bytes;
    if (size < 1) return 0;
    for (size_t i = 0; i < 64; i++) query[i] = (float)i / 64.0f - 0.4f;
    if (data[0] < 9) {
        make_good(data[0]);
        bytes = good_bytes[data[0]];
        image = (unsigned char *)hnsw_aligned(bytes);
        memcpy(image, good[data[0]], bytes);
        for (size_t at = 1; at + 4 <= size && at < 400; at += 4) change(image, bytes, data + at);
        hnsw_image_sum(image, bytes);
    } else {
        bytes = size - 1;
        image = (unsigned char *)hnsw_aligned(bytes);
        memcpy(image, data + 1, bytes);
        if ((data[0] & 1) && bytes >= 64 && bytes % 32 == 0) hnsw_image_sum(image, bytes);
    }
    for (int view = 0; view < 2; view++) {
        const rv_custom_fn custom = data[0] == 8 ? hnsw_custom : NULL;
        rv_hnsw *index = NULL;
        rv_status status = view ? rv_hnsw_view(NULL, image, bytes, custom, NULL, &index)
                                : rv_hnsw_load(NULL, image, bytes, custom, NULL, &index);
        if (status != RV_OK) continue;
        /* the query has 64 elements; a crafted image may ask for more, which a program would
           know */
        if (hnsw_dim(image, bytes) <= 64) hnsw_exercise(index, query, !view);
        rv_hnsw_destroy(index);
    }
    hnsw_aligned_free(image);
    return 0;
}
