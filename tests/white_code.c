/* Codes that a walk reads: what an estimate is worth, what decoding gives back, and sizes. */
#include "code.c"
#include "rv_test.h"

enum { ROWS = 300 };

typedef struct box {
    rv__store store;
    rv__code code;
    float *rows;     /* [ROWS, dim] */
    float *prepared; /* [ROWS, dim] as the store keeps them */
    size_t dim;
} box;

static void box_open(rv_ctx *ctx, box *b, size_t dim, rv_metric metric, int kind, uint32_t n_bytes,
                     uint64_t seed)
{
    rv__store_spec spec;
    rv_test_rng rng;
    void *query;
    memset(b, 0, sizeof *b);
    memset(&spec, 0, sizeof spec);
    b->dim = dim;
    b->rows = (float *)malloc(ROWS * dim * sizeof(float));
    b->prepared = (float *)malloc(ROWS * dim * sizeof(float));
    spec.dim = (uint32_t)dim;
    spec.metric = metric;
    spec.capacity = ROWS;
    rv_test_seed(&rng, seed);
    for (size_t i = 0; i < ROWS * dim; i++) b->rows[i] = rv_test_f32(&rng) + 0.3f;
    RV_OKAY(ctx, rv__store_init(ctx, &b->store, &spec));
    RV_OKAY(ctx, rv__store_append(ctx, &b->store, NULL, b->rows, ROWS));
    query = rv__get(&b->store.alloc, rv__store_query_bytes(&b->store), 1);
    if (!b->rows || !b->prepared || !query) exit(2);
    for (uint32_t i = 0; i < ROWS; i++) {
        rv__store_prepare_row(&b->store, i, query);
        memcpy(b->prepared + i * dim, query, dim * sizeof(float));
    }
    rv__put(&b->store.alloc, query, rv__store_query_bytes(&b->store), 1);
    RV_OKAY(ctx, rv__code_train(ctx, &b->code, kind, &b->store, n_bytes));
    RV_EQUAL(b->code.kind, kind);
    RV_OKAY(ctx, rv__code_reserve(ctx, &b->code, ROWS));
    RV_OKAY(ctx, rv__code_encode_rows(ctx, &b->code, &b->store, ROWS));
}

static void box_close(box *b)
{
    rv__code_free(&b->code);
    rv__store_free(&b->store);
    free(b->rows);
    free(b->prepared);
}

static double exact(rv_metric metric, const float *x, const float *y, size_t dim)
{
    double dot = 0, l2 = 0;
    for (size_t i = 0; i < dim; i++) {
        double d = (double)x[i] - (double)y[i];
        dot += (double)x[i] * (double)y[i];
        l2 += d * d;
    }
    return metric == RV_METRIC_L2 ? l2 : metric == RV_METRIC_IP ? -dot : 1 - dot;
}

/* Length of row minus mean in double. */
static double spread(const box *b, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < b->dim; i++) {
        double d = (double)x[i] - (double)b->code.mean[i];
        sum += d * d;
    }
    return sqrt(sum);
}

/* Estimates of rows 0..n-1 for the query that row q is. */
static void estimate(const box *b, const float *x, size_t n, float *out)
{
    const rv__kernels *kernels = rv__kernels_for(rv_test_isa());
    size_t elements = rv__round_up(rv__code_elements(&b->code), 64),
           floats = rv__code_scratch(&b->code);
    int8_t *element = (int8_t *)rv__get(&b->code.alloc, elements, 1);
    float *scratch = (float *)rv__get(&b->code.alloc, floats, sizeof(float));
    uint32_t ids[ROWS];
    rv__code_query query;
    if (!element || !scratch) exit(2);
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)i;
    rv__code_prepare(&b->code, x, element, scratch, &query);
    rv__code_scan(&b->code, kernels, &query, ids, n, out);
    rv__put(&b->code.alloc, element, elements, 1);
    rv__put(&b->code.alloc, scratch, floats, sizeof(float));
}

/* Relative error of <x - mean, q - mean>, measured against |x - mean| |q - mean|. Rounding to b
   bits: codes of 8 bits with a step of peak / 127 on both sides; 4 bits with 16 levels over 5.2
   deviations; one bit: sqrt(pi / 2 - 1) / sqrt(dim) is RaBitQ's standard deviation; bounds are 4
   deviations. */
static double bound_of(int kind, size_t dim)
{
    const double root = sqrt((double)dim);
    if (kind == RV__CODE_SQ8) return 4 * 2 * 3.0 / 127 / sqrt(12.0) / root + 1e-5;
    if (kind == RV__CODE_SQ4) return 4 * (5.2 / 16 / sqrt(12.0) + 0.1) / root;
    return 4 * 0.76 / root;
}

static void test_estimates(void)
{
    static const int kinds[] = {RV__CODE_SQ8, RV__CODE_SQ4, RV__CODE_BIT};
    static const size_t dims[] = {17, 55, 56, 57, 64, 100, 121, 184, 320};
    for (size_t k = 0; k < RV_COUNT_OF(kinds); k++) {
        for (size_t d = 0; d < RV_COUNT_OF(dims); d++) {
            for (int metric = 0; metric <= (int)RV_METRIC_COSINE; metric++) {
                float out[ROWS];
                double bias = 0, mass = 0, worst = 0;
                box b;
                rv_ctx ctx;
                rv_test_ctx(&ctx);
                rv_test_row(metric == 0 ? "l2" : metric == 1 ? "ip" : "cosine", dims[d] * 10 + k);
                box_open(&ctx, &b, dims[d], (rv_metric)metric, kinds[k], 0, 400 + d);
                for (size_t q = 0; q < 10; q++) {
                    const float *x = b.prepared + (ROWS - 1 - q) * dims[d];
                    estimate(&b, x, ROWS - 20, out);
                    for (size_t i = 0; i < ROWS - 20; i++) {
                        const float *row = b.prepared + i * dims[d];
                        double scale = spread(&b, x) * spread(&b, row) * (metric == 0 ? 2 : 1);
                        double error =
                            ((double)out[i] - exact((rv_metric)metric, x, row, dims[d])) / scale;
                        bias += error;
                        mass += 1;
                        worst = fabs(error) > worst ? fabs(error) : worst;
                    }
                }
                RV_CHECK(worst <= 1.3 * bound_of(kinds[k], dims[d])); /* the most of 2800 errors */
                RV_CHECK(fabs(bias / mass) <= bound_of(kinds[k], dims[d]) / 8);
                box_close(&b);
            }
        }
    }
}

/* The estimate between a row and itself is exact as far as the query's bytes go: the scale of the
   record makes it so. */
static void test_own_distance(void)
{
    static const int kinds[] = {RV__CODE_PCA, RV__CODE_SQ8, RV__CODE_SQ4, RV__CODE_BIT};
    for (size_t k = 0; k < RV_COUNT_OF(kinds); k++) {
        float out[ROWS];
        box b;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        box_open(&ctx, &b, 96, RV_METRIC_L2, kinds[k], 128, 450);
        for (size_t q = 0; q < 20; q++) {
            const float *x = b.prepared + q * 96;
            double length = spread(&b, x);
            estimate(&b, x, ROWS, out);
            /* the query is rounded with a step of at most peak / 127; one bit more by its scale */
            RV_NEAR(
                (double)out[q], 0,
                2 * length * length *
                    (4 * 3.0 / 127 / sqrt(12.0 * 96) * (kinds[k] == RV__CODE_BIT ? 2 : 1) + 1e-4));
        }
        box_close(&b);
    }
}

/* Without loss of components the decoded row is the row up to the rounding of its code. */
static void test_decode(void)
{
    static const struct {
        int kind;
        double step; /* of a code, in largest elements */
    } cases[] = {{RV__CODE_PCA, 1.0 / 127}, {RV__CODE_SQ8, 1.0 / 127}, {RV__CODE_SQ4, 0.25}};
    for (size_t k = 0; k < RV_COUNT_OF(cases); k++) {
        for (size_t dim = 20; dim < 140; dim += 35) {
            float x[192], *scratch;
            box b;
            rv_ctx ctx;
            rv_test_ctx(&ctx);
            rv_test_row("dim", dim);
            box_open(&ctx, &b, dim, RV_METRIC_L2, cases[k].kind, 512, 460 + k);
            scratch = (float *)malloc(rv__code_scratch(&b.code) * sizeof(float));
            if (!scratch) exit(2);
            for (uint32_t i = 0; i < 50; i++) {
                double error = 0, length = spread(&b, b.prepared + i * dim);
                rv__code_decode(&b.code, i, x, scratch);
                for (size_t j = 0; j < dim; j++) {
                    double d = (double)x[j] - (double)b.prepared[i * dim + j];
                    error += d * d;
                }
                /* root mean square of rounding is step / sqrt(12); peaks are below 4 deviations */
                RV_CHECK(sqrt(error) <= 2 * length * cases[k].step * 4 / sqrt(12.0) + 1e-4);
            }
            free(scratch);
            box_close(&b);
        }
    }
}

/* One row alone and many rows at once are coded alike; the spare bytes of a record are zero. */
static void test_encode_one_and_many(void)
{
    static const int kinds[] = {RV__CODE_PCA, RV__CODE_SQ8, RV__CODE_SQ4, RV__CODE_BIT};
    for (size_t k = 0; k < RV_COUNT_OF(kinds); k++) {
        float out[ROWS], again[ROWS];
        unsigned char *record;
        float *scratch;
        box b;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        box_open(&ctx, &b, 70, RV_METRIC_COSINE, kinds[k], 128, 470);
        RV_EQUAL(b.code.record % 64, 0);
        RV_EQUAL((uintptr_t)b.code.records % 64, 0);
        record = (unsigned char *)rv__get(&b.code.alloc, b.code.record, 1);
        scratch = (float *)malloc(rv__code_scratch(&b.code) * sizeof(float));
        if (!record || !scratch) exit(2);
        estimate(&b, b.prepared + 5 * 70, ROWS, out);
        for (size_t i = 0; i < ROWS; i++) {
            rv__code_encode(&b.code, b.prepared + i * 70, record, scratch);
            memcpy(b.code.records + i * b.code.record, record, b.code.record);
        }
        estimate(&b, b.prepared + 5 * 70, ROWS, again);
        /* sums are made in another order, so that a code on an edge may fall to the other side */
        for (size_t i = 0; i < ROWS; i++)
            RV_NEAR((double)out[i], (double)again[i], kinds[k] == RV__CODE_BIT ? 0.05 : 5e-3);
        rv__put(&b.code.alloc, record, b.code.record, 1);
        free(scratch);
        box_close(&b);
    }
}

/* Rows that are all equal, zero, or huge have finite records. */
static void test_odd_rows(void)
{
    static const int kinds[] = {RV__CODE_PCA, RV__CODE_SQ8, RV__CODE_SQ4, RV__CODE_BIT};
    static const float values[] = {0, 1, -3e4f, 1e-30f};
    for (size_t k = 0; k < RV_COUNT_OF(kinds); k++) {
        for (size_t v = 0; v < RV_COUNT_OF(values); v++) {
            rv__store store;
            rv__store_spec spec;
            rv__code code;
            float rows[40 * 20];
            rv_status status;
            rv_ctx ctx;
            rv_test_ctx(&ctx);
            rv_test_row("value", v);
            memset(&spec, 0, sizeof spec);
            spec.dim = 20;
            for (size_t i = 0; i < 40 * 20; i++) rows[i] = values[v];
            RV_OKAY(&ctx, rv__store_init(&ctx, &store, &spec));
            RV_OKAY(&ctx, rv__store_append(&ctx, &store, NULL, rows, 40));
            status = RV_OKAY(&ctx, rv__code_train(&ctx, &code, kinds[k], &store, 0));
            if (!status && code.kind != RV__CODE_NONE) {
                RV_OKAY(&ctx, rv__code_reserve(&ctx, &code, 40));
                RV_OKAY(&ctx, rv__code_encode_rows(&ctx, &code, &store, 40));
                for (size_t i = 0; i < 40; i++) {
                    float head[2];
                    memcpy(head, code.records + i * code.record, sizeof head);
                    RV_CHECK(rv__finite_f32(head[0]) && rv__finite_f32(head[1]));
                }
            }
            rv__code_free(&code);
            rv__store_free(&store);
        }
    }
}

static void test_places(void)
{
    static const uint32_t bits[] = {8, 4, 1};
    for (size_t b = 0; b < 3; b++) {
        for (size_t n = 1; n < 700; n++) {
            size_t record = rv__code_record(bits[b], n), last = rv__code_place(bits[b], n - 1);
            RV_EQUAL(record % 64, 0);
            RV_CHECK(last < record * 8 / bits[b]);
            RV_CHECK(last * bits[b] / 8 >= RV__CODE_HEAD || bits[b] == 4);
            RV_CHECK(n == 1 || rv__code_place(bits[b], n - 2) < last);
        }
    }
}

int main(void)
{
    rv_test_begin("white_code");
    RV_RUN(test_estimates);
    RV_RUN(test_own_distance);
    RV_RUN(test_decode);
    RV_RUN(test_encode_one_and_many);
    RV_RUN(test_odd_rows);
    RV_RUN(test_places);
    return rv_test_end();
}
