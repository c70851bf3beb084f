/* Quantizers: distances against double loops over what codes decode to and over the rows
   themselves,
   bounds, images, and everything a caller can do wrong. */
#include "rv_test.h"
#include "golden/quant.h"
#include "rv_image_sign.h"

#define N_KINDS 8u

static const rv_metric METRICS[] = {RV_METRIC_L2, RV_METRIC_IP, RV_METRIC_COSINE};

typedef struct bed {
    rv_ctx ctx;
    rv_quant_config config;
    rv_quant *quant;
    size_t n, dim, code_bytes;
    float *rows, *queries, *decoded; /* [n, dim], [n_queries, dim], [n, dim]                      */
    size_t n_queries;
    unsigned char *codes, *raw;
    void *prepared;
    float *out, *bounds;
} bed;

/* Rows with a mean and a different width in each dimension, as real vectors have. */
static void fill(rv_test_rng *rng, float *x, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < dim; j++) {
            float g = 0;
            for (int t = 0; t < 4; t++) g += rv_test_f32(rng);
            x[i * dim + j] = g * (1.0f + (float)(j % 5)) + 0.4f * (float)(j % 3);
        }
    }
}

static void *room(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(2);
    return p;
}

/* epsilon 0: the default. */
static int bed_open(bed *b, rv_quant_kind kind, uint32_t bits, rv_metric metric, size_t dim,
                    size_t n, uint64_t seed)
{
    rv_test_rng rng;
    memset(b, 0, sizeof *b);
    rv_test_ctx(&b->ctx);
    b->ctx.seed = seed;
    rv_test_seed(&rng, seed);
    b->n = n;
    b->n_queries = 6;
    b->dim = dim;
    b->config.kind = kind;
    b->config.bits = bits;
    b->config.metric = metric;
    b->config.dim = (uint32_t)dim;
    b->rows = (float *)room(n * dim * sizeof(float));
    b->queries = (float *)room(b->n_queries * dim * sizeof(float));
    b->decoded = (float *)room(n * dim * sizeof(float));
    fill(&rng, b->rows, n, dim);
    fill(&rng, b->queries, b->n_queries, dim);
    if (RV_OKAY(&b->ctx, rv_quant_create(&b->ctx, &b->config, &b->quant))) return 0;
    RV_OKAY(&b->ctx, rv_quant_train(&b->ctx, b->quant, b->rows, 0, n));
    RV_CHECK(rv_quant_trained(b->quant));
    b->code_bytes = rv_quant_code_bytes(b->quant);
    b->raw = (unsigned char *)room(n * b->code_bytes + 1);
    b->codes = b->raw + 1; /* codes at odd addresses */
    b->prepared = room(rv_quant_query_bytes(b->quant));
    b->out = (float *)room(n * sizeof(float));
    b->bounds = (float *)room(n * sizeof(float));
    RV_OKAY(&b->ctx, rv_quant_encode(&b->ctx, b->quant, b->rows, 0, n, b->codes));
    RV_OKAY(&b->ctx, rv_quant_decode(&b->ctx, b->quant, b->codes, n, b->decoded));
    return 1;
}

static void bed_close(bed *b)
{
    rv_quant_destroy(b->quant);
    free(b->rows);
    free(b->queries);
    free(b->decoded);
    free(b->raw);
    free(b->prepared);
    free(b->out);
    free(b->bounds);
}

/* In double; magnitude: of the terms that were summed. unit: y has length about 1 already. */
static double measure(rv_metric metric, const float *x, const float *y, size_t dim, int unit,
                      double *magnitude)
{
    double sum = 0, xx = 0, yy = 0;
    *magnitude = 0;
    for (size_t j = 0; j < dim; j++) {
        double a = (double)x[j], b = (double)y[j];
        xx += a * a;
        yy += b * b;
        sum += metric == RV_METRIC_L2 ? (a - b) * (a - b) : -a * b;
        *magnitude += a * a + b * b;
    }
    if (metric != RV_METRIC_COSINE) return sum;
    *magnitude = 2;
    if (unit) yy = 1;
    return xx > 0 && yy > 0 ? 1 + sum / sqrt(xx * yy) : 1;
}

static int deterministic(rv_quant_kind kind)
{
    return kind != RV_QUANT_RABITQ;
}

/* Bound on every estimate, and the estimate equal to the distance from what was decoded. */
static void check_kind(rv_quant_kind kind, uint32_t bits, rv_metric metric, size_t dim, size_t n)
{
    bed b;
    double violations = 0, pairs = 0;
    rv_test_row(rv_quant_kind_at((size_t)kind)->name, dim * 100 + bits * 10 + (size_t)metric);
    if (!bed_open(&b, kind, bits, metric, dim, n, 1000 + dim)) return;
    for (size_t q = 0; q < b.n_queries; q++) {
        const float *query = b.queries + q * dim;
        RV_OKAY(&b.ctx, rv_quant_prepare(&b.ctx, b.quant, query, b.prepared));
        rv_quant_distance(b.quant, b.prepared, b.codes, n, b.out, b.bounds);
        for (size_t i = 0; i < n; i++) {
            double magnitude, exact = measure(metric, query, b.rows + i * dim, dim, 0, &magnitude),
                              error;
            error = fabs((double)b.out[i] - exact);
            pairs += 1;
            violations += error > (double)b.bounds[i];
            RV_CHECK(b.bounds[i] >= 0);
            if (deterministic(kind) && kind != RV_QUANT_SQ4 && kind != RV_QUANT_BINARY) {
                /* floats all the way: n rounded products and sums */
                double decoded = measure(metric, query, b.decoded + i * dim, dim, 1, &magnitude);
                RV_NEAR(b.out[i], decoded, 3e-6 * magnitude + 1e-6 * fabs(decoded));
            }
        }
    }
    if (deterministic(kind)) RV_CHECK(violations == 0);
    /* 1.9 deviations: 5.7 %; dependent pairs and few dimensions scatter */
    else RV_CHECK(violations <= 0.1 * pairs);
    bed_close(&b);
}

static void test_bounds(void)
{
    static const size_t dims[] = {1, 2, 7, 31, 64, 65, 100, 128, 129, 300};
    const size_t n = 300; /* less would be too few for the share of strays */
    for (size_t d = 0; d < RV_COUNT_OF(dims); d += RV_TEST_SCALE > 4 ? 2 : 1) {
        if (RV_TEST_SCALE > 16 && dims[d] > 64) break;
        for (size_t kind = 0; kind < N_KINDS; kind++) {
            for (size_t m = 0; m < 3; m++) {
                if (kind == RV_QUANT_PQ) {
                    check_kind((rv_quant_kind)kind, 4, METRICS[m], dims[d], n);
                    if (dims[d] < 80) check_kind((rv_quant_kind)kind, 8, METRICS[m], dims[d], n);
                } else if (kind == RV_QUANT_RABITQ) {
                    for (uint32_t bits = 1; bits <= 8; bits += RV_TEST_SCALE > 1 ? 3 : 1) {
                        check_kind((rv_quant_kind)kind, bits, METRICS[m], dims[d], n);
                    }
                } else {
                    check_kind((rv_quant_kind)kind, 0, METRICS[m], dims[d], n);
                }
            }
        }
    }
}

/* The mean error over many rotations vanishes like 1 / sqrt(their number), and at epsilon 3 the
   bound
   fails for about 0.3 % of pairs. */
static void test_unbiased(void)
{
    static const uint32_t bits[] = {1, 2, 4, 8};
    for (size_t t = 0; t < RV_COUNT_OF(bits); t++) {
        const size_t dim = 96, n = 40, turns = RV_SCALED(60, 12);
        double sum = 0, squares = 0, count = 0, violations = 0;
        float rows[40 * 96], query[96];
        unsigned char codes[40 * 140];
        rv_test_rng rng;
        rv_test_seed(&rng, 90 + t);
        fill(&rng, rows, n, dim);
        fill(&rng, query, 1, dim);
        for (size_t turn = 0; turn < turns; turn++) {
            rv_quant_config config;
            rv_quant *quant;
            float out[40], bound[40];
            void *prepared;
            rv_ctx ctx;
            rv_test_ctx(&ctx);
            ctx.seed = turn + 1;
            memset(&config, 0, sizeof config);
            config.kind = RV_QUANT_RABITQ;
            config.dim = (uint32_t)dim;
            config.bits = bits[t];
            config.epsilon = 3;
            RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
            RV_OKAY(&ctx, rv_quant_train(&ctx, quant, rows, 0, n));
            RV_CHECK(rv_quant_code_bytes(quant) <= 140);
            RV_OKAY(&ctx, rv_quant_encode(&ctx, quant, rows, 0, n, codes));
            prepared = room(rv_quant_query_bytes(quant));
            RV_OKAY(&ctx, rv_quant_prepare(&ctx, quant, query, prepared));
            rv_quant_distance(quant, prepared, codes, n, out, bound);
            for (size_t i = 0; i < n; i++) {
                double magnitude,
                    error = (double)out[i] -
                            measure(RV_METRIC_L2, query, rows + i * dim, dim, 0, &magnitude);
                sum += error;
                squares += error * error;
                count += 1;
                violations += fabs(error) > (double)bound[i];
            }
            free(prepared);
            rv_quant_destroy(quant);
        }
        /* rows of one turn share the rotation: their errors are close to independent, 5 deviations
           */
        RV_NEAR(sum / count, 0, 5 * sqrt(squares / count / count));
        RV_CHECK(violations <= 0.012 * count + 3);
    }
}

/* More bits, smaller error; the expected size for a Gaussian: a factor of about 2 per bit. */
static void test_bits(void)
{
    double last = 0;
    for (uint32_t bits = 1; bits <= 8; bits++) {
        bed b;
        double squares = 0, magnitude;
        if (!bed_open(&b, RV_QUANT_RABITQ, bits, RV_METRIC_L2, 192, 200, 5)) return;
        RV_OKAY(&b.ctx, rv_quant_prepare(&b.ctx, b.quant, b.queries, b.prepared));
        rv_quant_distance(b.quant, b.prepared, b.codes, b.n, b.out, NULL);
        for (size_t i = 0; i < b.n; i++) {
            double error = (double)b.out[i] -
                           measure(RV_METRIC_L2, b.queries, b.rows + i * 192, 192, 0, &magnitude);
            squares += error * error;
        }
        if (bits > 1) RV_CHECK(squares < last / 2.5 && squares > last / 7);
        last = squares;
        bed_close(&b);
    }
}

/* Blocks agree with single codes up to the rounding of the tables, which their bounds hold. */
static void test_blocks(void)
{
    static const size_t dims[] = {5, 64, 100, 384, 1200};
    for (size_t d = 0; d < RV_COUNT_OF(dims); d++) {
        for (size_t m = 0; m < 3; m++) {
            for (int kind = RV_QUANT_PQ; kind <= RV_QUANT_RABITQ; kind++) {
                bed b;
                size_t block, n = 77;
                unsigned char *blocks;
                float sums[80], bounds[80];
                double violations = 0;
                rv_test_row(rv_quant_kind_at((size_t)kind)->name, dims[d] * 10 + m);
                if (!bed_open(&b, (rv_quant_kind)kind, 0, METRICS[m], dims[d], n, 3)) return;
                block = rv_quant_block_bytes(b.quant);
                RV_CHECK(block > 0 && block % 64 == 0);
                blocks = (unsigned char *)room(3 * block);
                rv_quant_pack(b.quant, b.codes, n, blocks);
                RV_OKAY(&b.ctx, rv_quant_prepare(&b.ctx, b.quant, b.queries, b.prepared));
                rv_quant_distance(b.quant, b.prepared, b.codes, n, b.out, b.bounds);
                rv_quant_scan(b.quant, b.prepared, blocks, n, sums, bounds);
                for (size_t i = 0; i < n; i++) {
                    double magnitude, exact = measure(METRICS[m], b.queries, b.rows + i * dims[d],
                                                      dims[d], 0, &magnitude);
                    violations += fabs((double)sums[i] - exact) > (double)bounds[i];
                    RV_CHECK(bounds[i] >= b.bounds[i] * 0.99f || kind == RV_QUANT_RABITQ);
                    /* the two estimates share the code: they differ by rounding of query and
                       tables */
                    RV_CHECK(fabsf(sums[i] - b.out[i]) <= bounds[i]);
                }
                if (kind == RV_QUANT_PQ) RV_CHECK(violations == 0);
                else RV_CHECK(violations <= 0.15 * (double)n);
                rv_quant_scan(b.quant, b.prepared, blocks, n, b.out, NULL);
                RV_CHECK(memcmp(b.out, sums, n * sizeof(float)) == 0);
                free(blocks);
                bed_close(&b);
            }
        }
    }
}

/* Codes against codes, lists of ids, and any subset of rows alone. */
static void test_pair_gather(void)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        for (size_t m = 0; m < 3; m++) {
            bed b;
            uint32_t ids[] = {299, 0, 7, 7, 150, 31, 32, 33};
            float some[8], bounds[8];
            rv_test_row(rv_quant_kind_at(kind)->name, m);
            /* a multiple of 64, so that RABITQ has no padding that decoding takes away */
            if (!bed_open(&b, (rv_quant_kind)kind, 0, METRICS[m], 192, 300, 9)) return;
            for (size_t i = 0; i + 1 < 40; i++) {
                double magnitude, exact;
                float pair = rv_quant_pair(b.quant, b.codes + i * b.code_bytes,
                                           b.codes + (i + 1) * b.code_bytes, NULL);
                exact = measure(m == 2 ? RV_METRIC_IP : METRICS[m], b.decoded + i * 192,
                                b.decoded + (i + 1) * 192, 192, 1, &magnitude);
                RV_NEAR(pair, m == 2 ? 1 + exact : exact, 1e-5 * magnitude);
            }
            RV_OKAY(&b.ctx, rv_quant_prepare(&b.ctx, b.quant, b.queries, b.prepared));
            rv_quant_distance(b.quant, b.prepared, b.codes, b.n, b.out, b.bounds);
            rv_quant_gather(b.quant, b.prepared, b.codes, ids, 8, some, bounds);
            for (size_t i = 0; i < 8; i++) {
                RV_NEAR(some[i], b.out[ids[i]], 1e-5 * fabs((double)b.out[ids[i]]) + 1e-5);
                RV_NEAR(bounds[i], b.bounds[ids[i]], 1e-4 * (double)bounds[i] + 1e-4);
            }
            rv_quant_distance(b.quant, b.prepared, b.codes, 0, b.out, NULL);
            /* little-endian machines: nothing to turn; everywhere: twice is nothing */
            memcpy(b.decoded, b.codes, 4 * b.code_bytes);
            rv_quant_portable(b.quant, b.codes, 4);
            rv_quant_portable(b.quant, b.codes, 4);
            RV_CHECK(memcmp(b.decoded, b.codes, 4 * b.code_bytes) == 0);
            bed_close(&b);
        }
    }
}

/* Rows as training saw them, the last nine far from it: zero, huge, tiny, equal, nearly equal. */
static void pair_rows(rv_quant_kind kind, float *rows, size_t n, size_t dim, float scale)
{
    rv_test_rng rng;
    float *last = rows + (n - 9) * dim;
    rv_test_seed(&rng, 77 + dim);
    fill(&rng, rows, n, dim);
    for (size_t j = 0; j < dim; j++) {
        last[j] = last[dim + j] = 0;
        last[2 * dim + j] *= kind == RV_QUANT_F16 ? 2000.0f : 1e15f;
        last[3 * dim + j] *= kind == RV_QUANT_F16 ? -2000.0f : -1e12f;
        last[4 * dim + j] *= 1e-12f;
        last[5 * dim + j] *= 1e-25f;
        last[6 * dim + j] = last[7 * dim + j];
        last[8 * dim + j] = last[7 * dim + j] * 1.0001f;
    }
    for (size_t i = 0; i < n * dim; i++) rows[i] *= scale;
}

/* The largest |distance of rows a, b - distance of what they decode to| that the lengths of what
   was lost allow. */
static double pair_most(rv_metric metric, const float *rows, const float *back, size_t a, size_t b,
                        size_t dim)
{
    double lost[2] = {0, 0}, length[2] = {0, 0}, gap = 0, under = 2e-38 * (double)dim;
    const size_t row[2] = {a, b};
    for (int t = 0; t < 2; t++) {
        double square = 0;
        for (size_t j = 0; j < dim; j++) {
            double x = (double)rows[row[t] * dim + j];
            square += x * x;
        }
        if (metric != RV_METRIC_COSINE || square == 0) square = 1;
        for (size_t j = 0; j < dim; j++) {
            double y = (double)back[row[t] * dim + j];
            double d = (double)rows[row[t] * dim + j] / sqrt(square) - y;
            lost[t] += d * d;
            length[t] += y * y;
        }
        /* floats have 24 bits, rotations of them some less, and they end at 1e-38 */
        lost[t] = sqrt(lost[t]) + 1e-5 * sqrt(length[t]) + 2e-38;
        length[t] = sqrt(length[t]);
    }
    for (size_t j = 0; j < dim; j++) {
        double d = (double)back[a * dim + j] - (double)back[b * dim + j];
        gap += d * d;
    }
    gap += under;
    if (metric == RV_METRIC_L2)
        return (lost[0] + lost[1]) * (2 * sqrt(gap) + lost[0] + lost[1]) + 1e-5 * gap + under;
    return under + lost[0] * length[1] + lost[1] * length[0] + lost[0] * lost[1] +
           1e-5 * length[0] * length[1] + (metric == RV_METRIC_COSINE ? 1e-6 : 0);
}

/* Every pair of neighbours, and of rows far apart: the true distance, in double, lies within the
   bound; and the bound is what the triangle inequality gives for rows that lost what these lost,
   measured here from the decoded rows, with room for two bytes and for the rotation. */
static void check_pair(rv_quant_kind kind, uint32_t bits, rv_metric metric, size_t dim,
                       float scale)
{
    /* of the distance, on average; RABITQ by bits */
    static const double share[] = {0.03, 0.04, 0.6, 0.001, 0.007, 4, 4};
    static const double rabitq[] = {0, 2.5, 1.5, 0.8, 0.4, 0.2, 0.11, 0.06, 0.04};
    const size_t n = 300;
    double bounds = 0, distances = 0;
    rv_quant_config config;
    rv_quant *quant;
    float *rows = (float *)room(n * dim * sizeof(float)), *back;
    unsigned char *codes;
    size_t bytes;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_row(rv_quant_kind_at((size_t)kind)->name, dim * 100 + bits * 10 + (size_t)metric);
    pair_rows(kind, rows, n, dim, scale);
    memset(&config, 0, sizeof config);
    config.kind = kind;
    config.bits = bits;
    config.metric = metric;
    config.dim = (uint32_t)dim;
    config.iterations = kind == RV_QUANT_PQ ? 1 : 0;
    RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
    RV_OKAY(&ctx, rv_quant_train(&ctx, quant, rows, 0, n - 9));
    bytes = rv_quant_code_bytes(quant);
    codes = (unsigned char *)room(n * bytes);
    back = (float *)room(n * dim * sizeof(float));
    RV_OKAY(&ctx, rv_quant_encode(&ctx, quant, rows, 0, n, codes));
    RV_OKAY(&ctx, rv_quant_decode(&ctx, quant, codes, n, back));
    for (size_t i = 0; i < 2 * n; i++) {
        const size_t a = i % n, b = i < n ? (a + 1) % n : (7 * a + 3) % n;
        double magnitude, exact = measure(metric, rows + a * dim, rows + b * dim, dim, 0,
                                          &magnitude);
        float bound, pair = rv_quant_pair(quant, codes + a * bytes, codes + b * bytes, &bound);
        RV_CHECK(fabs((double)pair - exact) <= (double)bound);
        RV_CHECK(rv_quant_pair(quant, codes + a * bytes, codes + b * bytes, NULL) == pair);
        if (dim % 64 == 0) {
            double most = pair_most(metric, rows, back, a, b, dim);
            bounds += a + 9 < n && b + 9 < n ? (double)bound : 0;
            distances += a + 9 < n && b + 9 < n ? exact : 0;
            RV_CHECK((double)bound <= most * (kind == RV_QUANT_RABITQ ? 1.25 : 1.02));
            /* few pairs come near their bound: a bound that is too small shows here */
            RV_CHECK(kind != RV_QUANT_RABITQ || (double)bound >= most * 0.99 - 1e-6);
        }
    }
    if (metric == RV_METRIC_L2)
        RV_CHECK(bounds <= distances * (kind == RV_QUANT_RABITQ ? rabitq[bits] : share[kind]));
    rv_quant_destroy(quant);
    free(rows);
    free(back);
    free(codes);
}

static void test_pair_bound(void)
{
    static const size_t dims[] = {1, 3, 63, 65, 768};
    static const float scales[] = {1, 1e-18f, 8};
    for (size_t d = 0; d < RV_COUNT_OF(dims); d++) {
        const size_t dim = dims[d] == 768 ? RV_SCALED(768, 64) : dims[d];
        for (size_t kind = 0; kind < N_KINDS; kind++) {
            const uint32_t first = kind == RV_QUANT_PQ ? 4 : kind == RV_QUANT_RABITQ ? 1 : 0;
            const uint32_t each = RV_TEST_SCALE > 4 ? 3 : 1;
            const uint32_t step = kind == RV_QUANT_PQ ? 4 : kind == RV_QUANT_RABITQ ? each : 9;
            for (uint32_t bits = first; bits <= 8; bits += step) {
                for (size_t m = 0; m < 3; m += RV_TEST_SCALE > 16 ? 2 : 1) {
                    for (size_t s = 0; s < RV_COUNT_OF(scales); s++) {
                        if (s > 0 && (kind == RV_QUANT_F16 || bits != first)) continue;
                        check_pair((rv_quant_kind)kind, bits, METRICS[m], dim, scales[s]);
                    }
                }
            }
        }
    }
}

/* Each run of a row decodes to a centroid that no other is nearer than. All centroids are what
   codes of one value decode to. */
static void check_nearest(uint32_t bits, size_t dim, size_t m)
{
    const size_t size = (size_t)1 << bits, n = 300;
    float *rows = (float *)room(n * dim * sizeof(float)), *back, *book;
    unsigned char *codes;
    size_t bytes;
    rv_quant_config config;
    rv_quant *quant;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, dim);
    rv_test_row(bits == 4 ? "4 bits" : "8 bits", dim * 100 + m);
    fill(&rng, rows, n, dim);
    memset(&config, 0, sizeof config);
    config.kind = RV_QUANT_PQ;
    config.bits = bits;
    config.dim = (uint32_t)dim;
    config.m = (uint32_t)m;
    config.iterations = 1;
    RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
    RV_OKAY(&ctx, rv_quant_train(&ctx, quant, rows, 0, n));
    bytes = rv_quant_code_bytes(quant);
    codes = (unsigned char *)room(n * bytes);
    back = (float *)room(n * dim * sizeof(float));
    book = (float *)room(size * dim * sizeof(float));
    for (size_t c = 0; c < size; c++)
        memset(codes + c * bytes, (int)(bits == 4 ? c | c << 4 : c), bytes);
    RV_OKAY(&ctx, rv_quant_decode(&ctx, quant, codes, size, book));
    RV_OKAY(&ctx, rv_quant_encode(&ctx, quant, rows, 0, n, codes));
    RV_OKAY(&ctx, rv_quant_decode(&ctx, quant, codes, n, back));
    for (size_t i = 0; i < n; i++) {
        size_t from = 0;
        for (size_t s = 0; s < m; s++) {
            const size_t to = from + dim / m + (s < dim % m);
            double least = 1e300, got = 0, magnitude = 0;
            for (size_t c = 0; c < size; c++) {
                double sum = 0, square = 0;
                for (size_t j = from; j < to; j++) {
                    double d = (double)rows[i * dim + j] - (double)book[c * dim + j];
                    sum += d * d;
                    square += (double)book[c * dim + j] * (double)book[c * dim + j];
                }
                least = sum < least ? sum : least;
                magnitude = square > magnitude ? square : magnitude;
            }
            for (size_t j = from; j < to; j++) {
                double x = (double)rows[i * dim + j], d = x - (double)back[i * dim + j];
                got += d * d;
                magnitude += x * x;
            }
            RV_CHECK(got <= least + 4e-6 * magnitude);
            from = to;
        }
    }
    rv_quant_destroy(quant);
    free(rows);
    free(codes);
    free(back);
    free(book);
}

static void test_nearest(void)
{
    static const struct {
        size_t dim, m;
    } cases[] = {{1, 1}, {7, 2}, {16, 1}, {17, 1}, {30, 30}, {70, 3}};
    for (size_t t = 0; t < RV_COUNT_OF(cases); t++) {
        check_nearest(4, cases[t].dim, cases[t].m);
        check_nearest(8, cases[t].dim, cases[t].m);
    }
}

/* Integer sums are exact: every instruction set gives the same estimate of the same code, up to the
   float factors around them; float kinds differ by rounding. */
static void test_isa(void)
{
    for (size_t turn = 0; turn < N_KINDS + 7; turn++) {
        const size_t kind = turn < N_KINDS ? turn : (size_t)RV_QUANT_RABITQ;
        const uint32_t bits = turn < N_KINDS ? 0 : (uint32_t)(turn - N_KINDS + 2);
        bed b;
        size_t bytes = 0;
        unsigned char *image, *other_codes;
        rv_quant *other;
        float out[120];
        void *prepared;
        rv_ctx ctx;
        rv_test_row(rv_quant_kind_at(kind)->name, bits);
        if (!bed_open(&b, (rv_quant_kind)kind, bits, RV_METRIC_L2, 130, 120, 17)) return;
        RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, NULL, 0, &bytes));
        image = (unsigned char *)room(bytes);
        RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, image, bytes, &bytes));
        rv_test_ctx(&ctx);
        ctx.isa = RV_ISA_SCALAR;
        RV_OKAY(&ctx, rv_quant_load(&ctx, image, bytes, &other));
        other_codes = (unsigned char *)room(120 * b.code_bytes);
        RV_OKAY(&ctx, rv_quant_encode(&ctx, other, b.rows, 0, 120, other_codes));
        prepared = room(rv_quant_query_bytes(other));
        RV_OKAY(&ctx, rv_quant_prepare(&ctx, other, b.queries, prepared));
        RV_OKAY(&b.ctx, rv_quant_prepare(&b.ctx, b.quant, b.queries, b.prepared));
        rv_quant_distance(b.quant, b.prepared, b.codes, 120, b.out, b.bounds);
        rv_quant_distance(other, prepared, b.codes, 120, out, NULL);
        for (size_t i = 0; i < 120; i++)
            RV_NEAR(out[i], b.out[i], 1e-5 * fabs((double)out[i]) + 1e-5);
        if (kind != RV_QUANT_PQ) RV_CHECK(memcmp(b.codes, other_codes, 120 * b.code_bytes) == 0);
        free(image);
        free(other_codes);
        free(prepared);
        rv_quant_destroy(other);
        bed_close(&b);
    }
}

/* Zero vectors, constant dimensions, one row, rows outside what training saw, huge and tiny
   values. */
static void test_edges(void)
{
    static const float scales[] = {1.0f, 1e-18f, 1e15f};
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        for (size_t m = 0; m < 3; m++) {
            for (size_t s = 0; s < RV_COUNT_OF(scales); s++) {
                rv_quant_config config;
                rv_quant *quant;
                float rows[20 * 9], query[9], out[20], bounds[20];
                unsigned char codes[20 * 100];
                void *prepared;
                rv_ctx ctx;
                rv_test_ctx(&ctx);
                rv_test_row(rv_quant_kind_at(kind)->name, m * 10 + s);
                if (kind == RV_QUANT_F16 && s > 0 && m < 2) continue; /* beyond its range */
#if defined(__FAST_MATH__)
                if (s == 1) continue; /* squares of steps are denormal: taken as zero */
#endif
                memset(&config, 0, sizeof config);
                config.kind = (rv_quant_kind)kind;
                config.metric = METRICS[m];
                config.dim = 9;
                RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
                for (size_t i = 0; i < 180; i++) {
                    rows[i] = i / 9 == 3   ? 0.0f
                              : i % 9 == 4 ? 2.0f
                                           : (float)((i * 7919) % 23) - 11.0f;
                    rows[i] *= scales[s];
                }
                for (size_t j = 0; j < 9; j++) query[j] = scales[s] * (float)(j + 1);
                RV_OKAY(&ctx, rv_quant_train(&ctx, quant, rows, 0, 16));
                rows[19 * 9] = 100 * scales[s]; /* outside */
                RV_CHECK(rv_quant_code_bytes(quant) <= 100);
                RV_OKAY(&ctx, rv_quant_encode(&ctx, quant, rows, 0, 20, codes));
                prepared = room(rv_quant_query_bytes(quant));
                for (int zero = 0; zero < 2; zero++) {
                    if (zero) memset(query, 0, sizeof query);
                    RV_OKAY(&ctx, rv_quant_prepare(&ctx, quant, query, prepared));
                    rv_quant_distance(quant, prepared, codes, 20, out, bounds);
                    for (size_t i = 0; i < 20; i++) {
                        double magnitude,
                            exact = measure(METRICS[m], query, rows + i * 9, 9, 0, &magnitude);
                        RV_CHECK(out[i] == out[i]);
                        if (deterministic((rv_quant_kind)kind)) {
                            RV_CHECK(fabs((double)out[i] - exact) <= (double)bounds[i] + 1e-36);
                        }
                    }
                }
                free(prepared);
                rv_quant_destroy(quant);
            }
        }
    }
}

static void test_single_row(void)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        rv_quant_config config;
        rv_quant *quant;
        float row[3] = {1, -2, 3}, back[3];
        unsigned char code[100];
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row(rv_quant_kind_at(kind)->name, 0);
        memset(&config, 0, sizeof config);
        config.kind = (rv_quant_kind)kind;
        config.dim = 3;
        RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
        if (kind == RV_QUANT_PQ) { /* 16 centroids cannot come from one row */
            RV_EQUAL(rv_quant_train(&ctx, quant, row, 0, 1), RV_ERR_ARG);
            RV_CHECK(!rv_quant_trained(quant));
        } else {
            RV_OKAY(&ctx, rv_quant_train(&ctx, quant, row, 0, 1));
            RV_OKAY(&ctx, rv_quant_encode(&ctx, quant, row, 0, 1, code));
            RV_OKAY(&ctx, rv_quant_decode(&ctx, quant, code, 1, back));
            for (size_t j = 0; j < 3; j++) {
                if (kind != RV_QUANT_BINARY) RV_NEAR(back[j], row[j], 0.05);
            }
        }
        rv_quant_destroy(quant);
    }
}

static void test_table(void)
{
    size_t n = 0;
    for (; rv_quant_kind_at(n); n++) {
        const rv_quant_info *info = rv_quant_kind_at(n);
        RV_CHECK(info->name[0] && info->bits[0] && info->source[0]);
    }
    RV_EQUAL(n, N_KINDS);
    RV_CHECK(rv_quant_kind_at(SIZE_MAX) == NULL);
}

static void test_config(void)
{
    static const struct {
        const char *name;
        rv_quant_config config;
    } rows[] = {
        {"dim 0", {RV_QUANT_SQ8, 0, RV_METRIC_L2, 0, 0, 0, 0}},
        {"dim large", {RV_QUANT_SQ8, 65536, RV_METRIC_L2, 0, 0, 0, 0}},
        {"kind", {RV_QUANT_SQ8, 4, RV_METRIC_L2, 0, 0, 0, 0}},
        {"metric", {RV_QUANT_SQ8, 4, RV_METRIC_L1, 0, 0, 0, 0}},
        {"bits", {RV_QUANT_SQ8, 4, RV_METRIC_L2, 4, 0, 0, 0}},
        {"pq bits", {RV_QUANT_PQ, 4, RV_METRIC_L2, 5, 0, 0, 0}},
        {"pq m", {RV_QUANT_PQ, 4, RV_METRIC_L2, 4, 5, 0, 0}},
        {"pq iterations", {RV_QUANT_PQ, 4, RV_METRIC_L2, 4, 1, 10001, 0}},
        {"rabitq bits", {RV_QUANT_RABITQ, 4, RV_METRIC_L2, 9, 0, 0, 0}},
        {"rabitq epsilon", {RV_QUANT_RABITQ, 4, RV_METRIC_L2, 1, 0, 0, -1}},
        {"rabitq epsilon large", {RV_QUANT_RABITQ, 4, RV_METRIC_L2, 1, 0, 0, 101}},
    };
    rv_quant_config config;
    rv_quant *quant = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        size_t beyond = N_KINDS + i - 2; /* not a constant, of which compilers warn */
        rv_test_row(rows[i].name, i);
        config = rows[i].config;
        if (strcmp(rows[i].name, "kind") == 0) config.kind = (rv_quant_kind)beyond;
        RV_EQUAL(rv_quant_create(&ctx, &config, &quant), RV_ERR_CONFIG);
        RV_CHECK(ctx.message[0] != 0 && quant == NULL);
    }
    RV_EQUAL(rv_quant_create(&ctx, NULL, &quant), RV_ERR_ARG);
    memset(&config, 0, sizeof config);
    config.dim = 10;
    RV_EQUAL(rv_quant_create(&ctx, &config, NULL), RV_ERR_ARG);
    RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
    rv_quant_config_of(quant, &config); /* resolved, and accepted as it is */
    RV_EQUAL(config.bits, 8);
    rv_quant_destroy(quant);
    RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
    RV_EQUAL(rv_quant_code_bytes(quant), 10 + 4 + 2);
    RV_EQUAL(rv_quant_block_bytes(quant), 0);
    rv_quant_destroy(quant);
    rv_quant_destroy(NULL);
}

static void test_errors(void)
{
    static const uint32_t specials[] = {0x7FC00000u, 0x7F800000u, 0xFF800000u};
    rv_quant_config config;
    rv_quant *quant;
    float rows[40 * 4], query[4] = {1, 2, 3, 4};
    unsigned char codes[40 * 40];
    void *prepared;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.dim = 4;
    for (size_t i = 0; i < 160; i++) rows[i] = (float)(i % 13);
    RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
    prepared = room(rv_quant_query_bytes(quant));
    RV_EQUAL(rv_quant_encode(&ctx, quant, rows, 0, 1, codes), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_quant_decode(&ctx, quant, codes, 1, rows), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_quant_prepare(&ctx, quant, query, prepared), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_quant_train(&ctx, quant, rows, 0, 0), RV_ERR_ARG);
    RV_EQUAL(rv_quant_train(&ctx, quant, rows, 3, 4), RV_ERR_DIM);
    RV_EQUAL(rv_quant_train(&ctx, quant, NULL, 0, 4), RV_ERR_ARG);
    RV_EQUAL(rv_quant_train(&ctx, NULL, rows, 0, 4), RV_ERR_ARG);
    RV_OKAY(&ctx, rv_quant_train(&ctx, quant, rows, 0, 40));
    RV_EQUAL(rv_quant_encode(&ctx, quant, rows, 3, 4, codes), RV_ERR_DIM);
    RV_EQUAL(rv_quant_encode(&ctx, quant, NULL, 0, 4, codes), RV_ERR_ARG);
    RV_EQUAL(rv_quant_encode(&ctx, quant, rows, 0, 4, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_quant_decode(&ctx, quant, NULL, 4, rows), RV_ERR_ARG);
    RV_EQUAL(rv_quant_prepare(&ctx, quant, NULL, prepared), RV_ERR_ARG);
    RV_OKAY(&ctx, rv_quant_encode(&ctx, quant, NULL, 0, 0, NULL));
    RV_OKAY(&ctx, rv_quant_decode(&ctx, quant, NULL, 0, NULL));
    for (size_t s = 0; s < RV_COUNT_OF(specials); s++) {
        float keep = rows[66];
        memcpy(rows + 66, specials + s, 4);
        RV_EQUAL(rv_quant_encode(&ctx, quant, rows, 0, 40, codes), RV_ERR_ARG);
        RV_EQUAL(ctx.where, 66);
        RV_EQUAL(rv_quant_train(&ctx, quant, rows, 0, 40), RV_ERR_ARG);
        RV_EQUAL(ctx.where, 66);
        RV_CHECK(rv_quant_trained(quant)); /* as before */
        rows[66] = keep;
        memcpy(query + 2, specials + s, 4);
        RV_EQUAL(rv_quant_prepare(&ctx, quant, query, prepared), RV_ERR_ARG);
        RV_EQUAL(ctx.where, 2);
        query[2] = 3;
    }
    free(prepared);
    rv_quant_destroy(quant);
    config.kind = RV_QUANT_F16;
    RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
    RV_OKAY(&ctx, rv_quant_train(&ctx, quant, rows, 0, 1)); /* nothing to learn, but allowed */
    rows[9] = 65519;
    RV_OKAY(&ctx, rv_quant_encode(&ctx, quant, rows, 0, 40, codes));
    rows[9] = 65520; /* rounds to infinity */
    RV_EQUAL(rv_quant_encode(&ctx, quant, rows, 0, 40, codes), RV_ERR_ARG);
    RV_EQUAL(ctx.where, 9);
    rv_quant_destroy(quant);
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static void test_workers(void)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        bed b;
        rv_quant *other;
        unsigned char *codes;
        rv_test_row(rv_quant_kind_at(kind)->name, 0);
        if (!bed_open(&b, (rv_quant_kind)kind, 0, RV_METRIC_COSINE, 70, 300, 23)) return;
        b.ctx.parallel = backwards;
        b.ctx.workers = 3;
        codes = (unsigned char *)room(300 * b.code_bytes);
        RV_OKAY(&b.ctx, rv_quant_create(&b.ctx, &b.config, &other));
        RV_OKAY(&b.ctx, rv_quant_train(&b.ctx, other, b.rows, 70, 300));
        RV_OKAY(&b.ctx, rv_quant_encode(&b.ctx, other, b.rows, 0, 300, codes));
        RV_CHECK(memcmp(codes, b.codes, 300 * b.code_bytes) == 0);
        RV_CHECK(rv_quant_bytes(other) == rv_quant_bytes(b.quant));
        free(codes);
        rv_quant_destroy(other);
        bed_close(&b);
    }
}

/* Loaded quantizers read the same codes in the same way; images cut short or changed are errors. */
static void test_images(void)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        bed b;
        rv_quant *other = NULL;
        rv_quant_config config, loaded;
        unsigned char *image, *hostile;
        size_t bytes = 0, again = 0;
        float out[64];
        rv_test_row(rv_quant_kind_at(kind)->name, 0);
        if (!bed_open(&b, (rv_quant_kind)kind, 0, METRICS[kind % 3], 66, 64, 29)) return;
        RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, NULL, 0, &bytes));
        image = (unsigned char *)room(bytes);
        hostile = (unsigned char *)room(bytes);
        RV_EQUAL(rv_quant_save(&b.ctx, b.quant, image, bytes - 1, &again), RV_ERR_ARG);
        RV_EQUAL(again, bytes);
        RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, image, bytes, &bytes));
        RV_OKAY(&b.ctx, rv_quant_load(&b.ctx, image, bytes, &other));
        rv_quant_config_of(b.quant, &config);
        rv_quant_config_of(other, &loaded);
        RV_CHECK(memcmp(&config, &loaded, sizeof config) == 0);
        RV_OKAY(&b.ctx, rv_quant_prepare(&b.ctx, b.quant, b.queries, b.prepared));
        rv_quant_distance(b.quant, b.prepared, b.codes, 64, b.out, NULL);
        RV_OKAY(&b.ctx, rv_quant_prepare(&b.ctx, other, b.queries, b.prepared));
        rv_quant_distance(other, b.prepared, b.codes, 64, out, NULL);
        RV_CHECK(memcmp(out, b.out, sizeof out) == 0);
        rv_quant_destroy(other);
        for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 50) {
            RV_EQUAL(rv_quant_load(&b.ctx, image, cut, &other), RV_ERR_FORMAT);
        }
        /* every byte changed, with the checksum made right: loads or is refused, never worse */
        for (size_t at = 8; at < bytes; at += 1 + (bytes > 600) * bytes / 600) {
            memcpy(hostile, image, bytes);
            hostile[at] ^= (unsigned char)(1u << (at % 8));
            if (at >= 32 && at < 64) {
                RV_EQUAL(rv_quant_load(&b.ctx, hostile, bytes, &other), RV_ERR_FORMAT);
                continue;
            }
            sign_image(hostile, bytes);
            other = NULL;
            if (rv_quant_load(&b.ctx, hostile, bytes, &other) == RV_OK) {
                if (rv_quant_trained(other)) {
                    unsigned char *code = (unsigned char *)room(rv_quant_code_bytes(other));
                    rv_quant_config_of(other, &loaded);
                    if (loaded.dim <= 66) (void)rv_quant_encode(&b.ctx, other, b.rows, 0, 1, code);
                    free(code);
                }
                rv_quant_destroy(other);
            } else {
                RV_CHECK(b.ctx.message[0] != 0 && other == NULL);
            }
        }
        free(image);
        free(hostile);
        bed_close(&b);
    }
}

/* A dim that what was learned does not have is refused before memory is asked for. */
static void test_image_of_other_dim(void)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        bed b;
        rv_test_faults faults;
        rv_ctx ctx;
        rv_quant *other = NULL;
        unsigned char *image;
        size_t bytes = 0;
        if (!rv_quant_kind_at(kind)->trained) continue;
        rv_test_row(rv_quant_kind_at(kind)->name, 0);
        if (!bed_open(&b, (rv_quant_kind)kind, 0, RV_METRIC_L2, 20, 64, 31)) return;
        RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, NULL, 0, &bytes));
        image = (unsigned char *)room(bytes);
        RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, image, bytes, &bytes));
        sign_put(sign_section(image, "CONF") + 4, 4, 65535);
        sign_image(image, bytes);
        rv_test_ctx_faults(&ctx, &faults);
        RV_EQUAL(rv_quant_load(&ctx, image, bytes, &other), RV_ERR_FORMAT);
        RV_EQUAL(faults.allocs, 0);
        free(image);
        bed_close(&b);
    }
}

/* The unit of the steps must be a positive number. */
static void test_image_unit(void)
{
    static const uint32_t units[] = {0, 0x80000000u, 0xBF800000u, 0x7F800000u, 0x7FC00000u};
    bed b;
    unsigned char *image;
    rv_quant *other = NULL;
    size_t bytes = 0;
    if (!bed_open(&b, RV_QUANT_SQ8, 0, RV_METRIC_L2, 20, 64, 37)) return;
    RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, NULL, 0, &bytes));
    image = (unsigned char *)room(bytes);
    RV_OKAY(&b.ctx, rv_quant_save(&b.ctx, b.quant, image, bytes, &bytes));
    for (size_t i = 0; i < RV_COUNT_OF(units); i++) {
        rv_test_row("unit", i);
        sign_put(sign_section(image, "UNIT"), 4, units[i]);
        sign_image(image, bytes);
        RV_EQUAL(rv_quant_load(&b.ctx, image, bytes, &other), RV_ERR_FORMAT);
    }
    free(image);
    bed_close(&b);
}

/* Many rows, or long ones, are cut into sections by what a row of the kind costs: a poll for two
   million nanoseconds or so, of which a row of PQ with 8 bits takes tens for each element. */
static void test_polls(void)
{
    static const struct {
        rv_quant_kind kind;
        uint32_t bits;
        size_t n, dim, polls;
    } rows[] = {
        {RV_QUANT_PQ, 8, 600, 96, 2},      {RV_QUANT_PQ, 4, 1800, 96, 2},
        {RV_QUANT_RABITQ, 1, 1800, 96, 2}, {RV_QUANT_RABITQ, 8, 800, 96, 2},
        {RV_QUANT_SQ8, 0, 80, 60000, 4},   {RV_QUANT_RABITQ, 8, 40, 9000, 10},
    };
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_test_faults faults;
        bed b;
        rv_test_row(rv_quant_kind_at((size_t)rows[i].kind)->name, rows[i].dim);
        if (RV_TEST_SCALE > 1 && rows[i].dim > 96) continue;
        if (!bed_open(&b, rows[i].kind, rows[i].bits, RV_METRIC_L2, rows[i].dim,
                      rows[i].kind == RV_QUANT_PQ ? 256 : 2, 3))
            return;
        free(b.raw);
        free(b.rows);
        free(b.decoded);
        b.raw = (unsigned char *)room(rows[i].n * b.code_bytes);
        b.rows = (float *)room(rows[i].n * rows[i].dim * sizeof(float));
        b.decoded = (float *)room(rows[i].n * rows[i].dim * sizeof(float));
        for (size_t j = 0; j < rows[i].n * rows[i].dim; j++) b.rows[j] = (float)(j % 13);
        rv_test_ctx_faults(&b.ctx, &faults);
        RV_OKAY(&b.ctx, rv_quant_encode(&b.ctx, b.quant, b.rows, 0, rows[i].n, b.raw));
        RV_CHECK(faults.polls >= rows[i].polls);
        if (rows[i].n * rows[i].dim > 300000) {
            faults.polls = 0;
            RV_OKAY(&b.ctx, rv_quant_decode(&b.ctx, b.quant, b.raw, rows[i].n, b.decoded));
            RV_CHECK(faults.polls >= 2);
        }
        bed_close(&b);
    }
}

static void test_image_untrained(void)
{
    rv_quant_config config;
    rv_quant *quant, *other;
    unsigned char image[512];
    size_t bytes = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.dim = 3;
    RV_OKAY(&ctx, rv_quant_create(&ctx, &config, &quant));
    RV_OKAY(&ctx, rv_quant_save(&ctx, quant, image, sizeof image, &bytes));
    RV_OKAY(&ctx, rv_quant_load(&ctx, image, bytes, &other));
    RV_CHECK(!rv_quant_trained(other));
    rv_quant_destroy(other);
    RV_EQUAL(rv_quant_load(&ctx, NULL, 0, &other), RV_ERR_ARG);
    RV_EQUAL(rv_quant_load(&ctx, image, bytes, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_quant_save(&ctx, NULL, NULL, 0, &bytes), RV_ERR_ARG);
    rv_quant_destroy(quant);
}

/* ---- against numpy, see tools/golden.py ---- */

/* The rows of the golden values. */
static void golden_rows(float *rows, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < dim; j++)
            rows[i * dim + j] = (float)((int)((i * 37 + j * 101 + i * j * 13) % 97) - 48) / 16.0f;
    }
}

/* A quantizer with what training made replaced: values of a section of its image. */
static rv_quant *golden_load(rv_ctx *ctx, rv_quant *quant, const char *tag, const float *values,
                             size_t n, float unit)
{
    size_t bytes = 0;
    unsigned char *image, *p;
    rv_quant *out = NULL;
    RV_OKAY(ctx, rv_quant_save(ctx, quant, NULL, 0, &bytes));
    image = (unsigned char *)room(bytes);
    RV_OKAY(ctx, rv_quant_save(ctx, quant, image, bytes, &bytes));
    p = sign_section(image, tag);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, 4);
        sign_put(p + 4 * i, 4, bits);
    }
    if (unit > 0) {
        uint32_t bits;
        memcpy(&bits, &unit, 4);
        sign_put(sign_section(image, "UNIT"), 4, bits);
    }
    sign_image(image, bytes);
    rv_quant_destroy(quant);
    if (RV_OKAY(ctx, rv_quant_load(ctx, image, bytes, &out))) exit(2);
    free(image);
    return out;
}

static rv_quant *golden_make(rv_ctx *ctx, rv_quant_config *config, rv_quant_kind kind,
                             rv_metric metric, uint32_t dim, const float *rows, size_t n)
{
    rv_quant *quant = NULL;
    memset(config, 0, sizeof *config);
    config->kind = kind;
    config->metric = metric;
    config->dim = dim;
    config->m = kind == RV_QUANT_PQ ? 3 : 0;
    if (RV_OKAY(ctx, rv_quant_create(ctx, config, &quant))) exit(2);
    RV_OKAY(ctx, rv_quant_train(ctx, quant, rows, 0, n));
    return quant;
}

/* Rows [n + 1, dim]: n are encoded and decoded into back (may be NULL), the last is the query whose
   distances go to out, their bounds to bounds (may be NULL). Takes the quantizer; the codes are the
   caller's. */
static unsigned char *golden_run(rv_ctx *ctx, rv_quant *quant, const float *rows, size_t n,
                                 size_t dim, float *back, float *out, float *bounds)
{
    unsigned char *codes = (unsigned char *)room(n * rv_quant_code_bytes(quant));
    void *prepared = room(rv_quant_query_bytes(quant));
    RV_OKAY(ctx, rv_quant_encode(ctx, quant, rows, 0, n, codes));
    if (back) RV_OKAY(ctx, rv_quant_decode(ctx, quant, codes, n, back));
    RV_OKAY(ctx, rv_quant_prepare(ctx, quant, rows + n * dim, prepared));
    rv_quant_distance(quant, prepared, codes, n, out, bounds);
    free(prepared);
    rv_quant_destroy(quant);
    return codes;
}

static void test_golden_rotation(void)
{
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_rotation); i++) {
        const size_t dim = (size_t)rv_golden_rotation[i].dim;
        float x[2 * 150], y[192];
        rv_rotation *rotation = NULL;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        ctx.seed = 7;
        rv_test_row("dim", dim);
        golden_rows(x, 2, dim);
        RV_OKAY(&ctx, rv_rotation_create(&ctx, dim, &rotation));
        rv_rotation_apply(rotation, x + dim, y);
        RV_NEAR(y[rv_golden_rotation[i].at], rv_golden_rotation[i].value, 2e-5);
        rv_rotation_destroy(rotation);
    }
}

/* The estimator of Gao and Long, its bound, and the distance to what the code stands for. */
static void test_golden_rabitq(void)
{
    enum { DIM = 64, N = RV_COUNT_OF(rv_golden_rabitq) };
    float rows[(N + 1) * DIM], back[N * DIM], out[N], bounds[N];
    rv_quant_config config;
    rv_quant *quant;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    ctx.seed = 7;
    golden_rows(rows, N + 1, DIM);
    quant = golden_make(&ctx, &config, RV_QUANT_RABITQ, RV_METRIC_L2, DIM, rows, N);
    free(golden_run(&ctx, quant, rows, N, DIM, back, out, bounds));
    for (size_t i = 0; i < N; i++) {
        const double slack = rv_golden_rabitq[i].slack, bound = rv_golden_rabitq[i].bound;
        double lost = 0;
        for (size_t j = 0; j < DIM; j++) {
            double d = (double)rows[i * DIM + j] - (double)back[i * DIM + j];
            lost += d * d;
        }
        RV_NEAR(out[i], rv_golden_rabitq[i].estimate, slack);
        RV_NEAR(lost, rv_golden_rabitq[i].lost, 1e-3 * rv_golden_rabitq[i].lost);
        /* kept rounded up to 8 bits, and room for the rounding of the query */
        RV_CHECK((double)bounds[i] >= bound && (double)bounds[i] <= 1.01 * bound + slack);
    }
}

/* Nearest centroids of a given book and the sums of asymmetric distances. */
static void test_golden_pq(void)
{
    enum { DIM = 7, N = RV_COUNT_OF(rv_golden_pq), SIZE = 16 };
    static const int widths[] = {3, 2, 2};
    for (int metric = (int)RV_METRIC_L2; metric <= (int)RV_METRIC_IP; metric++) {
        float rows[SIZE * DIM], book[SIZE * DIM], out[N], *to = book;
        unsigned char *codes;
        size_t code_bytes;
        rv_quant_config config;
        rv_quant *quant;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row(rv_metric_name((rv_metric)metric), 0);
        golden_rows(rows, SIZE, DIM);
        for (int s = 0; s < 3; s++) {
            for (int c = 0; c < SIZE; c++) {
                for (int j = 0; j < widths[s]; j++)
                    *to++ = (float)((s * 53 + c * 29 + j * 71 + c * c * 7) % 101 - 50) / 11.0f;
            }
        }
        quant = golden_make(&ctx, &config, RV_QUANT_PQ, (rv_metric)metric, DIM, rows, SIZE);
        quant = golden_load(&ctx, quant, "BOOK", book, SIZE * DIM, 0);
        code_bytes = rv_quant_code_bytes(quant);
        codes = golden_run(&ctx, quant, rows, N, DIM, NULL, out, NULL);
        for (size_t i = 0; i < N; i++) {
            const unsigned char *code = codes + i * code_bytes;
            RV_EQUAL(code[0] & 15, rv_golden_pq[i].code[0]);
            RV_EQUAL(code[0] >> 4, rv_golden_pq[i].code[1]);
            RV_EQUAL(code[1] & 15, rv_golden_pq[i].code[2]);
            RV_NEAR(out[i], metric ? rv_golden_pq[i].ip : rv_golden_pq[i].l2, 1e-4);
        }
        free(codes);
    }
}

/* The nearest level of each dimension, its middle and step given. */
static void test_golden_scalar(void)
{
    enum { DIM = 9, N = RV_COUNT_OF(rv_golden_sq8) };
    for (int four = 0; four < 2; four++) {
        float rows[(N + 1) * DIM], back[N * DIM], out[N], mids[2 * DIM];
        rv_quant_config config;
        rv_quant *quant;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row(four ? "sq4" : "sq8", 0);
        golden_rows(rows, N + 1, DIM);
        for (size_t i = 0; i < RV_COUNT_OF(rows); i++) rows[i] = (float)((double)rows[i] * 1.01);
        for (int j = 0; j < DIM; j++) {
            mids[j] = (float)(j - 4) / 4.0f;
            mids[DIM + j] = (float)(j + 3) / 16.0f;
        }
        quant = golden_make(&ctx, &config, four ? RV_QUANT_SQ4 : RV_QUANT_SQ8, RV_METRIC_L2, DIM,
                            rows, N);
        quant = golden_load(&ctx, quant, "MIDS", mids, 2 * DIM, four ? 2.0f : 0.125f);
        free(golden_run(&ctx, quant, rows, N, DIM, back, out, NULL));
        for (size_t i = 0; i < N; i++) {
            const double *decoded = four ? rv_golden_sq4[i].decoded : rv_golden_sq8[i].decoded;
            for (size_t j = 0; j < DIM; j++) RV_NEAR(back[i * DIM + j], decoded[j], 1e-6);
            RV_NEAR(out[i], four ? rv_golden_sq4[i].l2 : rv_golden_sq8[i].l2,
                    1e-4 + (four ? rv_golden_sq4[i].slack : rv_golden_sq8[i].slack));
        }
    }
}

typedef struct sweep_arg {
    rv_quant_kind kind;
    const float *rows;
    size_t n, dim;
} sweep_arg;

static rv_status sweep(rv_ctx *ctx, void *user)
{
    const sweep_arg *arg = (const sweep_arg *)user;
    rv_quant_config config;
    rv_quant *quant = NULL, *other = NULL;
    unsigned char *codes = NULL, *image = NULL;
    float *back = (float *)room(arg->n * arg->dim * sizeof(float));
    size_t bytes = 0;
    rv_status status;
    memset(&config, 0, sizeof config);
    config.kind = arg->kind;
    config.dim = (uint32_t)arg->dim;
    config.iterations = 2;
    status = rv_quant_create(ctx, &config, &quant);
    if (!status) {
        codes = (unsigned char *)room(arg->n * rv_quant_code_bytes(quant));
        status = rv_quant_train(ctx, quant, arg->rows, 0, arg->n);
    }
    if (!status) status = rv_quant_encode(ctx, quant, arg->rows, 0, arg->n, codes);
    if (!status) status = rv_quant_decode(ctx, quant, codes, arg->n, back);
    if (!status) status = rv_quant_save(ctx, quant, NULL, 0, &bytes);
    if (!status) {
        image = (unsigned char *)room(bytes);
        status = rv_quant_save(ctx, quant, image, bytes, &bytes);
    }
    if (!status) status = rv_quant_load(ctx, image, bytes, &other);
    rv_quant_destroy(other);
    rv_quant_destroy(quant);
    free(codes);
    free(image);
    free(back);
    return status;
}

static void test_faults(void)
{
    float rows[100 * 20];
    rv_test_rng rng;
    rv_test_seed(&rng, 37);
    fill(&rng, rows, 100, 20);
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        sweep_arg arg;
        arg.kind = (rv_quant_kind)kind;
        arg.rows = rows;
        arg.n = 100;
        arg.dim = 20;
        RV_CHECK(rv_test_oom_sweep(sweep, &arg) > 3);
        RV_CHECK(rv_test_cancel_sweep(sweep, &arg) > 2);
    }
}

int main(void)
{
    rv_test_begin("quant");
    RV_RUN(test_table);
    RV_RUN(test_config);
    RV_RUN(test_bounds);
    RV_RUN(test_unbiased);
    RV_RUN(test_bits);
    RV_RUN(test_blocks);
    RV_RUN(test_pair_gather);
    RV_RUN(test_pair_bound);
    RV_RUN(test_nearest);
    RV_RUN(test_isa);
    RV_RUN(test_edges);
    RV_RUN(test_single_row);
    RV_RUN(test_errors);
    RV_RUN(test_workers);
    RV_RUN(test_images);
    RV_RUN(test_image_of_other_dim);
    RV_RUN(test_image_unit);
    RV_RUN(test_polls);
    RV_RUN(test_image_untrained);
    RV_RUN(test_golden_rotation);
    RV_RUN(test_golden_rabitq);
    RV_RUN(test_golden_pq);
    RV_RUN(test_golden_scalar);
    RV_RUN(test_faults);
    return rv_test_end();
}
