/* Images of quantizers from bytes that nobody vouches for, then the use of what loads, on rows and
   on codes that no encoder made.

   First byte: 0..9: a good image of that form, changed; anything else: see rv_fuzz.h. */
#include "rv_fuzz.h"

enum { ROWS = 260, DIM = 10, MOST = 64, SOME = 40 };

typedef struct form {
    rv_quant_kind kind;
    rv_metric metric;
    uint32_t bits, m;
    int trained;
} form;

static const form forms[] = {
    {RV_QUANT_SQ8, RV_METRIC_L2, 0, 0, 1},     {RV_QUANT_SQ8_ROW, RV_METRIC_IP, 0, 0, 1},
    {RV_QUANT_SQ4, RV_METRIC_COSINE, 0, 0, 1}, {RV_QUANT_F16, RV_METRIC_L2, 0, 0, 1},
    {RV_QUANT_BINARY, RV_METRIC_L2, 0, 0, 1},  {RV_QUANT_PQ, RV_METRIC_L2, 4, 3, 1},
    {RV_QUANT_PQ, RV_METRIC_COSINE, 8, 2, 1},  {RV_QUANT_RABITQ, RV_METRIC_L2, 1, 0, 1},
    {RV_QUANT_RABITQ, RV_METRIC_IP, 5, 0, 1},  {RV_QUANT_PQ, RV_METRIC_IP, 4, 0, 0},
};
enum { FORMS = sizeof forms / sizeof forms[0] };

static fuzz_good good[FORMS];

/* Rows of any size. */
static void fill(float *rows, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) rows[i] = scale * ((float)(i * 7919 % 401) / 100.0f - 2.0f);
}

/* Each image is made once. */
static void make_good(size_t f)
{
    static float rows[ROWS * DIM];
    rv_quant_config config;
    rv_quant *quant = NULL;
    fuzz_good *to = &good[f];
    if (to->image) return;
    fill(rows, (size_t)ROWS * DIM, 1);
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    config.kind = forms[f].kind;
    config.metric = forms[f].metric;
    config.bits = forms[f].bits;
    config.m = forms[f].m;
    config.iterations = config.kind == RV_QUANT_PQ ? 2 : 0;
    REQUIRE(rv_quant_create(NULL, &config, &quant) == RV_OK);
    if (forms[f].trained) REQUIRE(rv_quant_train(NULL, quant, rows, 0, ROWS) == RV_OK);
    REQUIRE(rv_quant_save(NULL, quant, NULL, 0, &to->bytes) == RV_OK);
    to->image = sign_aligned(to->bytes);
    REQUIRE(rv_quant_save(NULL, quant, to->image, to->bytes, &to->bytes) == RV_OK);
    rv_quant_destroy(quant);
}

/* Everything that reads SOME codes. */
static void read_codes(rv_ctx *ctx, const rv_quant *quant, const float *query, unsigned char *codes,
                       float *rows)
{
    static const uint32_t ids[] = {3, 0, SOME - 1, 3};
    const size_t block = rv_quant_block_bytes(quant);
    unsigned char *prepared = (unsigned char *)malloc(rv_quant_query_bytes(quant));
    unsigned char *blocks = (unsigned char *)malloc(2 * block + 1);
    float out[64], bounds[64];
    REQUIRE(prepared && blocks);
    REQUIRE(rv_quant_decode(ctx, quant, codes, SOME, rows) == RV_OK);
    (void)rv_quant_pair(quant, codes, codes + rv_quant_code_bytes(quant), NULL);
    (void)rv_quant_pair(quant, codes, codes + rv_quant_code_bytes(quant), bounds);
    if (rv_quant_prepare(ctx, quant, query, prepared) == RV_OK) {
        rv_quant_distance(quant, prepared, codes, SOME, out, bounds);
        rv_quant_gather(quant, prepared, codes, ids, 4, out, bounds);
        if (block) {
            rv_quant_pack(quant, codes, SOME, blocks);
            rv_quant_scan(quant, prepared, blocks, SOME, out, bounds);
        }
    }
    free(prepared);
    free(blocks);
}

/* salt: what codes consist of that no encoder made. */
static void use(rv_ctx *ctx, rv_quant *quant, const uint8_t *salt, size_t salts)
{
    static const float scales[] = {1, 1e-20f, 1e19f};
    static float rows[SOME * MOST], back[SOME * MOST];
    rv_quant_config config;
    size_t code_bytes;
    unsigned char *codes;
    rv_quant_config_of(quant, &config);
    if (config.dim > MOST) return;
    fill(rows, (size_t)SOME * config.dim, 1);
    if (!rv_quant_trained(quant) && config.iterations < 50) {
        rv_status status = rv_quant_train(ctx, quant, rows, 0, SOME);
        REQUIRE(status == RV_OK || status == RV_ERR_ARG);
    }
    if (!rv_quant_trained(quant)) {
        REQUIRE(rv_quant_decode(ctx, quant, rows, 1, back) == RV_ERR_UNSUPPORTED);
        return;
    }
    code_bytes = rv_quant_code_bytes(quant);
    codes = (unsigned char *)malloc(SOME * code_bytes);
    REQUIRE(codes != NULL);
    for (size_t s = 0; s < 3; s++) {
        fill(rows, (size_t)SOME * config.dim, scales[s]);
        if (rv_quant_encode(ctx, quant, rows, 0, SOME, codes) == RV_OK)
            read_codes(ctx, quant, rows, codes, back);
    }
    for (size_t i = 0; i < SOME * code_bytes; i++)
        codes[i] = (unsigned char)(salt[i % salts] + i / salts * 29);
    fill(rows, config.dim, 1);
    read_codes(ctx, quant, rows, codes, back);
    free(codes);
}

/* What was loaded saves to an image that loads to the same. */
static void save_again(rv_ctx *ctx, const rv_quant *quant)
{
    size_t bytes = 0, again = 0;
    unsigned char *first, *second;
    rv_quant *copy = NULL;
    REQUIRE(rv_quant_save(ctx, quant, NULL, 0, &bytes) == RV_OK);
    first = sign_aligned(bytes);
    second = sign_aligned(bytes);
    REQUIRE(rv_quant_save(ctx, quant, first, bytes, &bytes) == RV_OK);
    REQUIRE(rv_quant_load(ctx, first, bytes, &copy) == RV_OK);
    REQUIRE(rv_quant_save(ctx, copy, second, bytes, &again) == RV_OK);
    REQUIRE(again == bytes && memcmp(first, second, bytes) == 0);
    rv_quant_destroy(copy);
    sign_aligned_free(first);
    sign_aligned_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rv_quant *quant = NULL;
    unsigned char *image;
    fuzz_heap heap;
    rv_ctx ctx;
    rv_status status;
    size_t bytes;
    if (size < 1) return 0;
    if (data[0] < FORMS) make_good(data[0]);
    image = fuzz_image(data, size, data[0] < FORMS ? &good[data[0]] : NULL, &bytes);
    /* the room of a quantizer follows from dim, which is below 2^16 */
    fuzz_ctx(&ctx, &heap, 4 * bytes + (1u << 21));
    status = rv_quant_load(&ctx, image, bytes, &quant);
    REQUIRE((status == RV_OK) == (quant != NULL));
    REQUIRE(status == RV_OK || ctx.message[0]);
    heap.limit = (size_t)1 << 28;
    if (quant) {
        save_again(&ctx, quant);
        use(&ctx, quant, data, size);
    }
    rv_quant_destroy(quant);
    REQUIRE(heap.live == 0);
    sign_aligned_free(image);
    return 0;
}
