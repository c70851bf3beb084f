/* Images of the graph index from bytes that nobody vouches for: load or view, then everything that
   can be done with the index.

   First byte: 0..8: a good image of that form, changed; anything else: see rv_fuzz.h. */
#include "hnsw_set.h"
#include "rv_fuzz.h"

enum { DIM = 20, ROWS = 40 };

static fuzz_good good[9];

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
    if (good[i].image) return;
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
    if (rv_hnsw_save(NULL, index, NULL, 0, &good[i].bytes)) abort();
    good[i].image = sign_aligned(good[i].bytes);
    if (rv_hnsw_save(NULL, index, good[i].image, good[i].bytes, &good[i].bytes)) abort();
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float query[64];
    unsigned char *image;
    size_t bytes;
    if (size < 1) return 0;
    for (size_t i = 0; i < 64; i++) query[i] = (float)i / 64.0f - 0.4f;
    if (data[0] < 9) make_good(data[0]);
    image = fuzz_image(data, size, data[0] < 9 ? &good[data[0]] : NULL, &bytes);
    for (int view = 0; view < 2; view++) {
        const rv_custom_fn custom = data[0] == 8 ? hnsw_custom : NULL;
        rv_hnsw *index = NULL;
        fuzz_heap heap;
        rv_ctx ctx;
        fuzz_ctx(&ctx, &heap, 4 * bytes + 65536);
        if (view) (void)rv_hnsw_view(&ctx, image, bytes, custom, NULL, &index);
        else (void)rv_hnsw_load(&ctx, image, bytes, custom, NULL, &index);
        heap.limit = (size_t)1 << 28;
        /* the query has 64 elements; a crafted image may ask for more, which a program would
           know */
        if (index && sign_dim(image) <= 64) hnsw_exercise(index, query, !view);
        rv_hnsw_destroy(index);
        REQUIRE(heap.live == 0);
    }
    sign_aligned_free(image);
    return 0;
}
