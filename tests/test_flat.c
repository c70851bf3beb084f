/* Exact search against a brute-force loop in double, and everything a caller can do wrong. */
#include "rv_test.h"

/* ---- reference ---- */

#define MAX_ROWS 600
#define MAX_DIM 130

/* Elements of a vector or of bits as numbers. */
static double element(rv_dtype type, const void *vec, size_t i)
{
    if (type == RV_DTYPE_U1) return (double)(((const uint8_t *)vec)[i / 8] >> (i % 8) & 1);
    return (double)((const float *)vec)[i];
}

static float custom_sum(void *user, const void *a, const void *b, size_t dim)
{
    const float *x = (const float *)a, *y = (const float *)b;
    float sum = 0;
    if (!user) return 0; /* the pointer arrives */
    for (size_t i = 0; i < dim; i++) sum += fabsf(x[i] - y[i]) / (1.0f + fabsf(x[i]) + fabsf(y[i]));
    return sum;
}

typedef struct reference {
    double distance, error; /* error: how far a float computation may be off */
} reference;

/* Sums of dim terms in float lanes, in any order: off by at most (dim + 3) 2^-24 of the sum of the
   magnitudes. `length` is that of the row before it was stored (cosine only). */
static reference measure(rv_metric metric, rv_dtype type, const void *query, const void *row,
                         size_t dim, double length)
{
    double sum = 0, magnitude = 0, own = 0, both = 0, any = 0;
    reference r;
    for (size_t i = 0; i < dim; i++) {
        double x = element(type, query, i), y = element(type, row, i), d = x - y;
        own += x * x;
        both += x * y;
        any += x + y > 0;
        if (metric == RV_METRIC_L2) sum += d * d;
        else if (metric == RV_METRIC_IP || metric == RV_METRIC_COSINE) sum -= x * y;
        else if (metric == RV_METRIC_L1) sum += fabs(d);
        else if (metric == RV_METRIC_LINF) sum = fabs(d) > sum ? fabs(d) : sum;
        else if (metric == RV_METRIC_HAMMING) sum += d != 0;
        else if (metric == RV_METRIC_CUSTOM) sum += fabs(d) / (1 + fabs(x) + fabs(y));
        /* a rounded difference is off relative to its operands */
        magnitude += metric == RV_METRIC_L2 ? d * d + fabs(d) * (fabs(x) + fabs(y))
                                            : fabs(x * y) + fabs(x) + fabs(y);
    }
    r.error = ((double)dim + 3) * ldexp(1, -24) * magnitude;
    r.distance = sum;
    if (metric == RV_METRIC_COSINE) {
        double scale = sqrt(own) * length;
        r.distance = scale > 0 ? 1 + sum / scale : own > 0 || length > 0;
        r.error = ((double)dim + 8) * ldexp(1, -24) * 4;
    } else if (metric == RV_METRIC_JACCARD) {
        r.distance = any > 0 ? 1 - both / any : 0;
        r.error = 1e-7;
    } else if (metric == RV_METRIC_HAMMING) {
        r.error = 0;
    }
    return r;
}

typedef struct bed { /* an index and what is in it */
    rv_flat *index;
    rv_dtype type;
    rv_metric metric;
    size_t dim, n, vector_bytes;
    uint64_t keys[MAX_ROWS];
    double length[MAX_ROWS];
    int gone[MAX_ROWS];
    unsigned char *rows; /* [n] as given */
    float *stored;       /* [n, dim] as given back by get, or bits */
    int user;
} bed;

static void bed_vector(rv_test_rng *rng, const bed *b, void *out)
{
    if (b->type == RV_DTYPE_U1) {
        for (size_t i = 0; i < b->vector_bytes; i++)
            ((uint8_t *)out)[i] = (uint8_t)rv_test_u64(rng);
        if (b->dim % 8)
            ((uint8_t *)out)[b->vector_bytes - 1] &= (uint8_t)((1u << (b->dim % 8)) - 1u);
        return;
    }
    rv_test_fill(rng, (float *)out, b->dim);
}

static void bed_open(rv_ctx *ctx, bed *b, rv_metric metric, rv_dtype type, size_t dim, size_t n,
                     rv_test_rng *rng)
{
    rv_flat_config config;
    memset(b, 0, sizeof *b);
    memset(&config, 0, sizeof config);
    config.dim = (uint32_t)dim;
    config.metric = metric;
    config.type = type;
    if (metric == RV_METRIC_CUSTOM) {
        config.custom = custom_sum;
        config.custom_user = &b->user;
    }
    b->type = type;
    b->metric = metric;
    b->dim = dim;
    b->n = n;
    b->vector_bytes = type == RV_DTYPE_U1 ? (dim + 7) / 8 : dim * sizeof(float);
    b->rows = (unsigned char *)malloc(n * b->vector_bytes + 1);
    b->stored = (float *)malloc(n * dim * sizeof(float) + 1);
    RV_OKAY(ctx, rv_flat_create(ctx, &config, &b->index));
    for (size_t i = 0; i < n; i++) {
        unsigned char *row = b->rows + i * b->vector_bytes;
        b->keys[i] = rv_test_u64(rng) >> rv_test_below(rng, 40);
        bed_vector(rng, b, row);
        if (i % 50 == 7) memset(row, 0, b->vector_bytes);
        if (i % 20 == 9) memcpy(row, b->rows, b->vector_bytes); /* duplicates of row 0 */
        for (size_t k = 0; type != RV_DTYPE_U1 && k < dim; k++) {
            b->length[i] += element(type, row, k) * element(type, row, k);
        }
        b->length[i] = sqrt(b->length[i]);
    }
    RV_OKAY(ctx, rv_flat_build(ctx, b->index, b->keys, b->rows, n));
    for (size_t i = 0; i < n; i++) {
        RV_OKAY(ctx, rv_flat_get(ctx, b->index, b->keys[i], b->stored + i * dim));
    }
}

static void bed_close(bed *b)
{
    rv_flat_destroy(b->index);
    free(b->rows);
    free(b->stored);
}

static size_t bed_find(const bed *b, uint64_t key)
{
    size_t i = 0;
    while (i < b->n && (b->keys[i] != key || b->gone[i])) i++;
    return i;
}

/* The hits are sorted, each distance is right, and no row that is missing is nearer than the last
   by more than both errors. accept NULL: all rows. */
static void bed_verify(const bed *b, const void *query, size_t k, const rv_filter *filter,
                       const rv_hit *hits, size_t n_hits)
{
    size_t possible = 0;
    char seen[MAX_ROWS];
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < n_hits; i++) {
        size_t at = bed_find(b, hits[i].key);
        reference r;
        RV_CHECK(at < b->n);
        if (at == b->n) return;
        RV_CHECK(!seen[at]);
        seen[at] = 1;
        r = measure(b->metric, b->type, query, b->stored + at * b->dim, b->dim, b->length[at]);
        RV_NEAR((double)hits[i].distance, r.distance, r.error);
        if (i == 0) continue;
        RV_CHECK(hits[i - 1].distance < hits[i].distance ||
                 (!(hits[i - 1].distance > hits[i].distance) && hits[i - 1].key < hits[i].key));
    }
    for (size_t i = 0; i < b->n; i++) {
        reference r;
        if (b->gone[i] || (filter && !filter->accept(filter->user, b->keys[i]))) continue;
        possible++;
        if (seen[i] || n_hits == 0) continue;
        r = measure(b->metric, b->type, query, b->stored + i * b->dim, b->dim, b->length[i]);
        RV_CHECK(r.distance + r.error >= (double)hits[n_hits - 1].distance);
    }
    RV_EQUAL(n_hits, k < possible ? k : possible);
}

static int accept_third(void *user, uint64_t key)
{
    return user != NULL && key % 3 == 0;
}

static int accept_none(void *user, uint64_t key)
{
    return user != NULL && key == 0; /* user is NULL here */
}

static void search_all(rv_ctx *ctx, bed *b, rv_test_rng *rng)
{
    static const size_t ks[] = {1, 10, 64, MAX_ROWS + 5};
    float query[MAX_DIM];
    rv_hit hits[MAX_ROWS + 5];
    rv_filter third, none;
    memset(&third, 0, sizeof third);
    memset(&none, 0, sizeof none);
    third.accept = accept_third;
    third.user = b;
    none.accept = accept_none;
    for (size_t q = 0; q < 4; q++) {
        if (q == 0) memset(query, 0, sizeof query);
        else bed_vector(rng, b, query);
        for (size_t i = 0; i < RV_COUNT_OF(ks); i++) {
            size_t n_hits = 99;
            RV_OKAY(ctx, rv_flat_search(ctx, b->index, query, ks[i], NULL, hits, &n_hits));
            bed_verify(b, query, ks[i], NULL, hits, n_hits);
            RV_OKAY(ctx, rv_flat_search(ctx, b->index, query, ks[i], &third, hits, &n_hits));
            bed_verify(b, query, ks[i], &third, hits, n_hits);
            RV_OKAY(ctx, rv_flat_search(ctx, b->index, query, ks[i], &none, hits, &n_hits));
            RV_EQUAL(n_hits, 0);
        }
    }
}

static void test_all_pairs(void)
{
    static const struct {
        size_t dim, n;
    } sizes[] = {{1, 40}, {3, 1}, {17, 100}, {64, 520}, {100, MAX_ROWS}, {130, 77}};
    rv_test_rng rng;
    rv_ctx ctx;
    bed *b = (bed *)malloc(sizeof *b);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_U1; type++) {
        for (int metric = RV_METRIC_L2; metric <= (int)RV_METRIC_CUSTOM; metric++) {
            int custom = metric == RV_METRIC_CUSTOM && type != (int)RV_DTYPE_U1;
            if (!custom && !rv_metric_has((rv_metric)metric, (rv_dtype)type)) continue;
            for (size_t s = 0; s < RV_COUNT_OF(sizes); s += RV_TEST_SCALE > 1 ? 2 : 1) {
                if (RV_TEST_SCALE > 16 && sizes[s].n > 100) continue;
                rv_test_row(rv_metric_name((rv_metric)metric), (size_t)type * 1000 + sizes[s].dim);
                bed_open(&ctx, b, (rv_metric)metric, (rv_dtype)type, sizes[s].dim, sizes[s].n,
                         &rng);
                search_all(&ctx, b, &rng);
                for (size_t i = 0; i < b->n; i += 11) { /* few: measured and dropped */
                    b->gone[i] = 1;
                    RV_OKAY(&ctx, rv_flat_remove(&ctx, b->index, b->keys[i]));
                }
                search_all(&ctx, b, &rng);
                for (size_t i = 1; i < b->n; i += 3) { /* many: not measured */
                    if (b->gone[i]) continue;
                    b->gone[i] = 1;
                    RV_OKAY(&ctx, rv_flat_remove(&ctx, b->index, b->keys[i]));
                }
                search_all(&ctx, b, &rng);
                RV_OKAY(&ctx, rv_flat_compact(&ctx, b->index));
                search_all(&ctx, b, &rng);
                bed_close(b);
            }
        }
    }
    free(b);
}

/* Half a step of the type; the details are in white_store.c. */
static void test_get(void)
{
    static const double step[] = {0, 1.0 / 2048, 1.0 / 256, 1.0 / 254};
    rv_test_rng rng;
    rv_ctx ctx;
    bed *b = (bed *)malloc(sizeof *b);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_U1; type++) {
        for (int metric = 0; metric < 3; metric += 2) {
            if (type == RV_DTYPE_U1 && metric) continue;
            bed_open(&ctx, b, type == RV_DTYPE_U1 ? RV_METRIC_HAMMING : (rv_metric)metric,
                     (rv_dtype)type, 31, 60, &rng);
            for (size_t i = 0; i < b->n; i++) {
                if (type == RV_DTYPE_U1) {
                    RV_CHECK(memcmp(b->stored + i * b->dim, b->rows + i * b->vector_bytes,
                                    b->vector_bytes) == 0);
                    continue;
                }
                for (size_t k = 0; k < b->dim; k++) {
                    double x = element(b->type, b->rows + i * b->vector_bytes, k);
                    RV_NEAR((double)b->stored[i * b->dim + k], x,
                            step[type] + (metric ? 3e-7 + step[type] * 2 : 0));
                }
            }
            bed_close(b);
        }
    }
    free(b);
}

/* ---- ties, order, NaN ---- */

static rv_flat *plain(rv_ctx *ctx, uint32_t dim, rv_metric metric)
{
    rv_flat_config config;
    rv_flat *index = NULL;
    memset(&config, 0, sizeof config);
    config.dim = dim;
    config.metric = metric;
    RV_OKAY(ctx, rv_flat_create(ctx, &config, &index));
    return index;
}

/* Equal rows have equal distances wherever they lie, so that keys alone decide. */
static void test_ties(void)
{
    static const uint32_t dims[] = {2, 33, 100};
    rv_test_rng rng;
    rv_ctx ctx;
    rv_hit hits[100];
    size_t n_hits = 0;
    rv_filter filter;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 9);
    memset(&filter, 0, sizeof filter);
    filter.accept = accept_third;
    filter.user = &rng;
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_I8; type++) {
        for (size_t d = 0; d < RV_COUNT_OF(dims); d++) {
            rv_flat_config config;
            rv_flat *index = NULL;
            float x[100], query[100];
            rv_test_row(rv_dtype_name((rv_dtype)type), dims[d]);
            memset(&config, 0, sizeof config);
            config.dim = dims[d];
            config.type = (rv_dtype)type;
            rv_test_fill(&rng, x, dims[d]);
            rv_test_fill(&rng, query, dims[d]);
            RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
            for (uint64_t i = 0; i < 1003; i++) {
                RV_OKAY(&ctx, rv_flat_add(&ctx, index, i * 7919 % 1003, x));
            }
            RV_OKAY(&ctx, rv_flat_search(&ctx, index, query, 100, NULL, hits, &n_hits));
            RV_EQUAL(n_hits, 100);
            for (uint64_t i = 0; i < 100; i++) RV_EQUAL(hits[i].key, i);
            RV_OKAY(&ctx, rv_flat_search(&ctx, index, query, 100, &filter, hits, &n_hits));
            RV_EQUAL(n_hits, 100);
            for (uint64_t i = 0; i < 100; i++) RV_EQUAL(hits[i].key, 3 * i);
            rv_flat_destroy(index);
        }
    }
}

/* A metric that is the row's own number; 98 and 99 stand for infinity and NaN. */
static float own_number(void *user, const void *a, const void *b, size_t dim)
{
    uint32_t bits = 0x7F800000u;
    float x;
    (void)user;
    (void)a;
    memcpy(&x, b, sizeof x);
    if (x != 98.0f && x != 99.0f) return x;
    bits |= x == 99.0f ? (uint32_t)dim << 31 | 1u : 0; /* a NaN whose sign is set */
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* -0 and 0 are one distance; infinity comes late, NaN last. */
static void test_order(void)
{
    static const float rows[7] = {99, 98, 0, 1e-30f, -0.0f, -2, 99};
    static const uint64_t expected[7] = {5, 2, 4, 3, 1, 0, 6};
    rv_flat_config config;
    rv_ctx ctx;
    rv_hit hits[7];
    size_t n_hits = 0;
    rv_flat *index = NULL;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.dim = 1;
    config.metric = RV_METRIC_CUSTOM;
    config.custom = own_number;
    RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, rows, 7));
    for (size_t k = 1; k <= 7; k++) {
        RV_OKAY(&ctx, rv_flat_search(&ctx, index, rows, k, NULL, hits, &n_hits));
        RV_EQUAL(n_hits, k);
        for (size_t i = 0; i < k; i++) RV_EQUAL(hits[i].key, expected[i]);
    }
    rv_flat_destroy(index);
}

/* ---- parallel: the same bits for any number of workers, in any order ---- */

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

typedef struct setup {
    size_t n, dim, k, n_queries;
    int filtered;
} setup;

static void test_workers(void)
{
    static const setup rows[] = {
        {20000, 16, 10, 1, 0},  {20000, 16, 100, 40, 0}, {3000, 100, 7, 33, 0},
        {200, 5, 300, 100, 0},  {20000, 16, 10, 9, 1},   {1, 1, 1, 3, 0},
        {9000, 40, 3000, 5, 0},
    };
    static const uint32_t workers[] = {0, 1, 2, 3, 8, 300};
    rv_test_rng rng;
    rv_filter filter;
    memset(&filter, 0, sizeof filter);
    filter.accept = accept_third;
    filter.user = &rng;
    for (size_t r = 0; r < RV_COUNT_OF(rows); r++) {
        size_t n = RV_SCALED(rows[r].n, 1), dim = rows[r].dim, k = rows[r].k,
               nq = rows[r].n_queries;
        float *x = (float *)malloc((n + nq) * dim * sizeof(float));
        rv_hit *hits = (rv_hit *)malloc(2 * k * nq * sizeof(rv_hit));
        size_t *n_hits = (size_t *)malloc(2 * nq * sizeof(size_t));
        const rv_filter *f = rows[r].filtered ? &filter : NULL;
        rv_flat *index;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_seed(&rng, r + 1);
        rv_test_row("setup", r);
        rv_test_fill(&rng, x, (n + nq) * dim);
        index = plain(&ctx, (uint32_t)dim, RV_METRIC_L2);
        RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, x, n));
        memset(hits, 0, 2 * k * nq * sizeof(rv_hit)); /* padding of rv_hit is compared too */
        for (size_t q = 0; q < nq; q++) {
            RV_OKAY(&ctx,
                    rv_flat_search(&ctx, index, x + (n + q) * dim, k, f, hits + q * k, n_hits + q));
        }
        for (size_t w = 0; w < RV_COUNT_OF(workers); w++) {
            ctx.parallel = w % 2 ? backwards : NULL;
#ifdef RV_THREADS
            if (w % 3 == 2) ctx.parallel = rv_parallel_threads;
#endif
            ctx.workers = workers[w];
            memset(hits + k * nq, 0, k * nq * sizeof(rv_hit));
            RV_OKAY(&ctx, rv_flat_search_batch(&ctx, index, x + n * dim, nq, k, f, hits + k * nq,
                                               n_hits + nq));
            RV_CHECK(memcmp(n_hits, n_hits + nq, nq * sizeof(size_t)) == 0);
            for (size_t q = 0; q < nq; q++) {
                for (size_t i = 0; i < n_hits[q]; i++) {
                    const rv_hit *a = hits + q * k + i, *b = a + k * nq;
                    RV_CHECK(a->key == b->key &&
                             memcmp(&a->distance, &b->distance, sizeof(float)) == 0);
                }
            }
            RV_OKAY(&ctx,
                    rv_flat_search(&ctx, index, x + n * dim, k, f, hits + k * nq, n_hits + nq));
            RV_EQUAL(n_hits[0], n_hits[nq]);
            for (size_t i = 0; i < n_hits[0]; i++) RV_EQUAL(hits[i].key, hits[k * nq + i].key);
        }
        rv_flat_destroy(index);
        free(x);
        free(hits);
        free(n_hits);
    }
}

/* ---- filters, range ---- */

static void test_filter(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_flat *index;
    uint8_t bits[125];
    static float x[1000 * 50];
    rv_hit all[1000], some[1000];
    size_t n_all = 0, n_some = 0, at = 0;
    rv_filter filter;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    rv_test_fill(&rng, x, 50000);
    for (size_t i = 0; i < 125; i++) bits[i] = (uint8_t)rv_test_u64(&rng);
    index = plain(&ctx, 50, RV_METRIC_L1);
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, x, 1000));
    memset(&filter, 0, sizeof filter);
    RV_OKAY(&ctx, rv_flat_search(&ctx, index, x, 1000, &filter, all, &n_all));
    RV_EQUAL(n_all, 1000);
    filter.bits = bits;
    filter.n_bits = 900;
    for (int both = 0; both < 2; both++) {
        filter.accept = both ? accept_third : NULL;
        filter.user = &rng;
        RV_OKAY(&ctx, rv_flat_search(&ctx, index, x, 1000, &filter, some, &n_some));
        at = 0;
        for (size_t i = 0; i < n_all;
             i++) { /* what passes, in the same order, with the same bits */
            uint64_t key = all[i].key;
            if (key >= 900 || !(bits[key / 8] >> (key % 8) & 1) || (both && key % 3)) continue;
            RV_CHECK(at < n_some && some[at].key == key);
            RV_CHECK(memcmp(&some[at].distance, &all[i].distance, sizeof(float)) == 0);
            at++;
        }
        RV_EQUAL(n_some, at);
    }
    rv_flat_destroy(index);
}

static void test_range(void)
{
    float x[500];
    rv_hit hits[600];
    size_t n_hits = 0;
    rv_filter filter;
    rv_ctx ctx;
    rv_flat *index;
    float query = 100.25f;
    rv_test_ctx(&ctx);
    memset(&filter, 0, sizeof filter);
    filter.accept = accept_third;
    filter.user = &ctx;
    for (int i = 0; i < 500; i++) x[i] = (float)i;
    index = plain(&ctx, 1, RV_METRIC_L1);
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, x, 500));
    RV_OKAY(&ctx, rv_flat_range(&ctx, index, &query, 2.25f, NULL, hits, 600, &n_hits));
    RV_EQUAL(n_hits, 5); /* 98 .. 102, the bound is inclusive */
    RV_CHECK(hits[0].key == 100 && hits[1].key == 101 && hits[2].key == 99 && hits[3].key == 102 &&
             hits[4].key == 98);
    RV_OKAY(&ctx, rv_flat_range(&ctx, index, &query, 2.25f, NULL, hits, 2, &n_hits));
    RV_CHECK(n_hits == 5 && hits[0].key == 100 && hits[1].key == 101 && hits[2].key == 99);
    RV_OKAY(&ctx, rv_flat_range(&ctx, index, &query, 2.25f, NULL, NULL, 0, &n_hits));
    RV_EQUAL(n_hits, 5);
    RV_OKAY(&ctx, rv_flat_range(&ctx, index, &query, 2.25f, &filter, hits, 600, &n_hits));
    RV_CHECK(n_hits == 2 && hits[0].key == 102 - 3 && hits[1].key == 102);
    RV_OKAY(&ctx, rv_flat_range(&ctx, index, &query, -1.0f, NULL, hits, 600, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_OKAY(&ctx, rv_flat_range(&ctx, index, &query, INFINITY, NULL, hits, 600, &n_hits));
    RV_EQUAL(n_hits, 500);
    RV_EQUAL(rv_flat_range(&ctx, index, &query, NAN, NULL, hits, 600, &n_hits), RV_ERR_ARG);
    ctx.parallel = backwards;
    ctx.workers = 5;
    RV_OKAY(&ctx, rv_flat_range(&ctx, index, &query, 7.25f, NULL, hits, 3, &n_hits));
    RV_CHECK(n_hits == 15 && hits[2].key == 99);
    rv_flat_destroy(index);
}

/* ---- iterator ---- */

/* All that comes, at most cap; then nothing more, also when asked again. */
static size_t drain(rv_ctx *ctx, const rv_flat *index, const void *query, const rv_filter *filter,
                    rv_hit *hits, size_t cap)
{
    rv_flat_iter *iter = NULL;
    rv_hit hit;
    size_t n = 0;
    rv_status status;
    RV_OKAY(ctx, rv_flat_iter_create(ctx, index, query, filter, &iter));
    while ((status = rv_flat_iter_next(ctx, iter, &hit)) == RV_OK && n < cap) {
        RV_EQUAL(ctx->status, RV_OK);
        hits[n++] = hit;
    }
    RV_EQUAL(status, RV_DONE);
    RV_EQUAL(ctx->status, RV_DONE);
    RV_EQUAL(rv_flat_iter_next(ctx, iter, &hit), RV_DONE);
    rv_flat_iter_destroy(iter);
    return n;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Against a full sort of the distances in double. */
static void drain_bed(rv_ctx *ctx, const bed *b, const void *query, const rv_filter *filter)
{
    static rv_hit hits[MAX_ROWS + 1];
    static double sorted[MAX_ROWS];
    size_t n = drain(ctx, b->index, query, filter, hits, MAX_ROWS + 1), possible = 0;
    double error = 0;
    bed_verify(b, query, MAX_ROWS + 1, filter, hits, n);
    for (size_t i = 0; i < b->n; i++) {
        reference r;
        if (b->gone[i] || (filter && !filter->accept(filter->user, b->keys[i]))) continue;
        r = measure(b->metric, b->type, query, b->stored + i * b->dim, b->dim, b->length[i]);
        sorted[possible++] = r.distance;
        if (r.error > error) error = r.error;
    }
    RV_EQUAL(n, possible);
    qsort(sorted, possible, sizeof sorted[0], ascending);
    for (size_t i = 0; i < n && i < possible; i++)
        RV_NEAR((double)hits[i].distance, sorted[i], error);
}

static void test_iterator(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_filter third;
    bed *b = (bed *)malloc(sizeof *b);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 21);
    memset(&third, 0, sizeof third);
    third.accept = accept_third;
    third.user = b;
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_U1; type++) {
        for (int metric = RV_METRIC_L2; metric <= (int)RV_METRIC_CUSTOM; metric++) {
            int custom = metric == RV_METRIC_CUSTOM && type != (int)RV_DTYPE_U1;
            float query[MAX_DIM];
            if (!custom && !rv_metric_has((rv_metric)metric, (rv_dtype)type)) continue;
            rv_test_row(rv_metric_name((rv_metric)metric), (size_t)type);
            bed_open(&ctx, b, (rv_metric)metric, (rv_dtype)type, 19, MAX_ROWS, &rng);
            bed_vector(&rng, b, query);
            drain_bed(&ctx, b, query, NULL);
            drain_bed(&ctx, b, query, &third);
            for (size_t step = 9; step > 2; step /= 3) { /* few removed rows, then many */
                for (size_t i = 1; i < b->n; i += step) {
                    if (b->gone[i]) continue;
                    b->gone[i] = 1;
                    RV_OKAY(&ctx, rv_flat_remove(&ctx, b->index, b->keys[i]));
                }
                drain_bed(&ctx, b, query, NULL);
                drain_bed(&ctx, b, query, &third);
            }
            bed_close(b);
        }
    }
    free(b);
}

/* A row of the sorted list that an iterator over numbers must give. */
typedef struct ranked {
    int kind; /* 1: infinity, 2: NaN */
    double distance;
    uint64_t key;
} ranked;

static int ranked_before(const void *a, const void *b)
{
    const ranked *x = (const ranked *)a, *y = (const ranked *)b;
    if (x->kind != y->kind) return x->kind - y->kind;
    if (x->kind == 0 && x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->key > y->key) - (x->key < y->key);
}

/* Small whole numbers: distances are exact, so that the order is, with runs of ties longer than
   a scan, among them infinities and NaN. */
static void test_iterator_order(void)
{
    size_t n = RV_SCALED(30000, 3000), expected = 0;
    float *x = (float *)malloc(n * sizeof(float));
    uint64_t *keys = (uint64_t *)malloc(n * sizeof(uint64_t));
    ranked *want = (ranked *)malloc(n * sizeof(ranked));
    rv_hit *hits = (rv_hit *)malloc((n + 1) * sizeof(rv_hit));
    rv_flat_config config;
    rv_filter third;
    rv_ctx ctx;
    rv_test_rng rng;
    rv_flat *index = NULL;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 22);
    memset(&config, 0, sizeof config);
    memset(&third, 0, sizeof third);
    third.accept = accept_third;
    third.user = &rng;
    config.dim = 1;
    config.metric = RV_METRIC_CUSTOM;
    config.custom = own_number;
    RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(rv_test_below(&rng, 13) * 9) - 10.0f + (i % 4 ? 0.0f : 0.0f * -1.0f);
        if (i % 7 == 0) x[i] = 98;
        if (i % 9 == 0) x[i] = 99;
        keys[i] = (uint64_t)i * 7919 % n * 3 + i % 2;
    }
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, keys, x, n));
    for (int round = 0; round < 4; round++) {
        const rv_filter *filter = round % 2 ? &third : NULL;
        size_t given;
        rv_test_row("round", (size_t)round);
        if (round >= 2) {
            ctx.parallel = backwards;
            ctx.workers = 3;
        }
        expected = 0;
        for (size_t i = 0; i < n; i++) {
            if (filter && keys[i] % 3) continue;
            want[expected].kind = x[i] == 99.0f ? 2 : x[i] == 98.0f;
            want[expected].distance = (double)x[i];
            want[expected++].key = keys[i];
        }
        qsort(want, expected, sizeof want[0], ranked_before);
        given = drain(&ctx, index, x, filter, hits, n + 1);
        RV_EQUAL(given, expected);
        for (size_t i = 0; i < given && i < expected; i++) {
            uint32_t bits;
            RV_EQUAL(hits[i].key, want[i].key);
            memcpy(&bits, &hits[i].distance, sizeof bits);
            if (want[i].kind == 2) RV_CHECK((bits & 0x7FFFFFFFu) > 0x7F800000u);
            else if (want[i].kind == 1) RV_EQUAL(bits, 0x7F800000u);
            else RV_CHECK((double)hits[i].distance == want[i].distance);
        }
    }
    rv_flat_destroy(index);
    free(x);
    free(keys);
    free(want);
    free(hits);
}

/* Query and filter are copied, and one instruction set measures for the whole of an iterator's
   life: in another one the distances have other last bits. */
static void test_iterator_calls(void)
{
    enum { DIM = 100, N = 900 };
    static float x[N * DIM];
    static rv_hit hits[N + 1];
    float query[DIM];
    rv_flat_iter *iter = NULL;
    rv_filter third;
    rv_hit hit;
    rv_test_rng rng;
    rv_ctx ctx, scalar;
    rv_flat *index;
    size_t n, i = 0;
    rv_test_ctx(&ctx);
    rv_test_ctx(&scalar);
    scalar.isa = RV_ISA_SCALAR;
    rv_test_seed(&rng, 23);
    rv_test_fill(&rng, x, N * DIM);
    rv_test_fill(&rng, query, DIM);
    memset(&third, 0, sizeof third);
    third.accept = accept_third;
    third.user = &rng;
    index = plain(&ctx, DIM, RV_METRIC_L2);
    RV_EQUAL(drain(&ctx, index, query, NULL, hits, N), 0);
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, x, N));
    n = drain(&ctx, index, query, &third, hits, N + 1);
    RV_EQUAL(n, N / 3);
    RV_OKAY(&ctx, rv_flat_iter_create(&ctx, index, query, &third, &iter));
    memset(query, 0, sizeof query);
    memset(&third, 0, sizeof third);
    while (rv_flat_iter_next(i % 3 ? &scalar : NULL, iter, &hit) == RV_OK && i < n) {
        RV_EQUAL(hit.key, hits[i].key);
        RV_CHECK(memcmp(&hit.distance, &hits[i].distance, sizeof(float)) == 0);
        i++;
    }
    RV_EQUAL(i, n);
    rv_flat_iter_destroy(iter);
    rv_flat_iter_destroy(NULL);
    RV_EQUAL(rv_flat_iter_create(&ctx, NULL, x, NULL, &iter), RV_ERR_ARG);
    RV_EQUAL(rv_flat_iter_create(&ctx, index, NULL, NULL, &iter), RV_ERR_ARG);
    RV_EQUAL(rv_flat_iter_create(&ctx, index, x, NULL, NULL), RV_ERR_ARG);
    third.selectivity = 2;
    RV_EQUAL(rv_flat_iter_create(&ctx, index, x, &third, &iter), RV_ERR_ARG);
    query[3] = NAN;
    RV_EQUAL(rv_flat_iter_create(&ctx, index, query, NULL, &iter), RV_ERR_ARG);
    RV_EQUAL(ctx.where, 3);
    RV_OKAY(&ctx, rv_flat_iter_create(&ctx, index, x, NULL, &iter));
    RV_EQUAL(rv_flat_iter_next(&ctx, NULL, &hit), RV_ERR_ARG);
    RV_EQUAL(rv_flat_iter_next(&ctx, iter, NULL), RV_ERR_ARG);
    RV_OKAY(&ctx, rv_flat_iter_next(&ctx, iter, &hit));
    RV_EQUAL(hit.key, 0);
    rv_flat_iter_destroy(iter);
    rv_flat_destroy(index);
}

/* Holds hits of one scan, not a place for every row. */
static void test_iterator_memory(void)
{
    size_t n = 40000;
    float *x = (float *)calloc(n, sizeof(float));
    rv_test_faults faults;
    rv_flat_iter *iter = NULL;
    rv_hit hit;
    rv_ctx ctx, calm;
    rv_flat *index;
    rv_test_ctx(&calm);
    rv_test_ctx_faults(&ctx, &faults);
    index = plain(&calm, 1, RV_METRIC_L1);
    RV_OKAY(&calm, rv_flat_build(&calm, index, NULL, x, n));
    RV_OKAY(&ctx, rv_flat_iter_create(&ctx, index, x, NULL, &iter));
    for (size_t i = 0; i < n; i++) {
        RV_OKAY(&ctx, rv_flat_iter_next(&ctx, iter, &hit));
        RV_EQUAL(hit.key, i);
        if (i == 64 + 256 - 1) RV_CHECK(faults.live_bytes < 256 * sizeof(rv_hit) + 1000);
    }
    RV_CHECK(faults.peak_bytes < n / 8 * 33 + n); /* hits and heap of an eighth of the rows */
    rv_flat_iter_destroy(iter);
    RV_EQUAL(faults.live_blocks, 0);
    rv_flat_destroy(index);
    free(x);
}

/* ---- stats, proof ---- */

/* The counting allocator tells what is held: 128 bytes more per block, for its alignment. */
static void test_stats(void)
{
    static const float x[50 * 16] = {1, 2, 3};
    rv_test_faults faults;
    rv_flat_config config;
    rv_flat_stats stats;
    rv_flat *index = NULL;
    rv_ctx ctx;
    for (int keyed = 0; keyed < 2; keyed++) {
        for (int cosine = 0; cosine < 2; cosine++) {
            uint64_t keys[50];
            const size_t row = 64 + (cosine ? sizeof(float) : 0);
            for (uint64_t i = 0; i < 50; i++) keys[i] = i * 1000;
            rv_test_row(keyed ? "keyed" : "identity", (size_t)cosine);
            rv_test_ctx_faults(&ctx, &faults);
            memset(&config, 0, sizeof config);
            config.dim = 16;
            config.capacity = 80;
            config.metric = cosine ? RV_METRIC_COSINE : RV_METRIC_L2;
            RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
            RV_OKAY(&ctx, rv_flat_build(&ctx, index, keyed ? keys : NULL, x, 50));
            rv_flat_stats_get(index, &stats);
            RV_CHECK(stats.count == 50 && stats.removed == 0 && stats.capacity == 80);
            RV_CHECK(stats.row_bytes == 64 && stats.vector_bytes == 80 * row);
            /* keys, and a map of 4 bytes for at most three quarters of a power of two places */
            RV_EQUAL(stats.key_bytes, keyed ? 80 * 8 + 128 * 4 : 0);
            RV_EQUAL(stats.total_bytes + 128 * faults.live_blocks, faults.live_bytes);
            RV_OKAY(&ctx, rv_flat_remove(&ctx, index, 0));
            rv_flat_stats_get(index, &stats);
            RV_CHECK(stats.count == 49 && stats.removed == 1);
            RV_EQUAL(stats.key_bytes, (keyed ? 80 * 8 + 128 * 4 : 0) + 16);
            RV_EQUAL(stats.total_bytes + 128 * faults.live_blocks, faults.live_bytes);
            RV_EQUAL(stats.total_bytes, rv_flat_bytes(index));
            RV_OKAY(&ctx, rv_flat_check(&ctx, index));
            RV_OKAY(&ctx, rv_flat_compact(&ctx, index));
            rv_flat_stats_get(index, &stats);
            RV_CHECK(stats.count == 49 && stats.removed == 0 && stats.capacity == 49);
            RV_EQUAL(stats.total_bytes + 128 * faults.live_blocks, faults.live_bytes);
            RV_OKAY(&ctx, rv_flat_check(&ctx, index));
            rv_flat_destroy(index);
        }
    }
    rv_flat_stats_get(NULL, &stats);
    RV_CHECK(stats.count == 0 && stats.capacity == 0 && stats.total_bytes == 0);
    rv_flat_stats_get(NULL, NULL);
    RV_EQUAL(rv_flat_check(&ctx, NULL), RV_ERR_ARG);
}

/* ---- keys ---- */

static void test_edit(void)
{
    static const float a[2] = {1, 0}, b[2] = {0, 1}, c[2] = {5, 5};
    static const uint64_t keys[2] = {7, 7};
    float out[2];
    rv_hit hit;
    size_t n_hits = 9;
    rv_ctx ctx;
    rv_flat *index;
    rv_test_ctx(&ctx);
    index = plain(&ctx, 2, RV_METRIC_L2);
    RV_EQUAL(rv_flat_count(index), 0);
    RV_OKAY(&ctx, rv_flat_search(&ctx, index, a, 1, NULL, &hit, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_EQUAL(rv_flat_update(&ctx, index, 5, a), RV_ERR_NOT_FOUND);
    RV_EQUAL(rv_flat_remove(&ctx, index, 5), RV_ERR_NOT_FOUND);
    RV_EQUAL(rv_flat_get(&ctx, index, 5, out), RV_ERR_NOT_FOUND);
    RV_OKAY(&ctx, rv_flat_add(&ctx, index, UINT64_MAX, a));
    RV_EQUAL(rv_flat_add(&ctx, index, UINT64_MAX, b), RV_ERR_EXISTS);
    RV_CHECK(strstr(ctx.message, "18446744073709551615") != NULL);
    RV_OKAY(&ctx, rv_flat_upsert(&ctx, index, 0, c));
    RV_OKAY(&ctx, rv_flat_upsert(&ctx, index, 0, b));
    RV_OKAY(&ctx, rv_flat_get(&ctx, index, 0, out));
    RV_CHECK(out[0] == 0.0f && out[1] == 1.0f);
    RV_OKAY(&ctx, rv_flat_update(&ctx, index, UINT64_MAX, c));
    RV_OKAY(&ctx, rv_flat_search(&ctx, index, c, 1, NULL, &hit, &n_hits));
    RV_CHECK(n_hits == 1 && hit.key == UINT64_MAX && hit.distance == 0.0f);
    RV_EQUAL(rv_flat_count(index), 2);
    RV_EQUAL(rv_flat_build(&ctx, index, keys, a, 1), RV_OK);
    RV_OKAY(&ctx, rv_flat_remove(&ctx, index, 7));
    RV_CHECK(!rv_flat_contains(index, 7) && rv_flat_contains(index, 0));
    RV_EQUAL(rv_flat_build(&ctx, index, NULL, a, 1), RV_ERR_EXISTS); /* key 0 is there */
    RV_EQUAL(rv_flat_count(index), 2);
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, NULL, 0));
    RV_OKAY(&ctx, rv_flat_remove(&ctx, index, 0));
    RV_OKAY(&ctx, rv_flat_remove(&ctx, index, UINT64_MAX));
    RV_EQUAL(rv_flat_count(index), 0);
    RV_OKAY(&ctx, rv_flat_search(&ctx, index, a, 1, NULL, &hit, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_OKAY(&ctx, rv_flat_compact(&ctx, index));
    RV_CHECK(rv_flat_bytes(index) < 400);
    RV_OKAY(&ctx, rv_flat_reserve(&ctx, index, 1000));
    RV_CHECK(rv_flat_bytes(index) >= 8000);
    rv_flat_destroy(index);
}

/* ---- bad input ---- */

static void test_config(void)
{
    static const struct {
        uint32_t dim;
        int metric, type;
        size_t capacity;
        int custom;
        const char *text;
    } rows[] = {
        {0, 0, 0, 0, 0, "dim"},
        {65536, 0, 0, 0, 0, "dim is 65536"},
        {4, 8, 0, 0, 0, "metric is 8"},
        {4, -1, 0, 0, 0, "metric"},
        {4, 0, RV_DTYPE_U8, 0, 0, "type is 5 (u8), f32, f16, bf16, i8 and u1 are stored"},
        {4, 0, 6, 0, 0, "type is 6"},
        {4, RV_METRIC_HAMMING, RV_DTYPE_F32, 0, 0, "hamming"},
        {4, RV_METRIC_L2, RV_DTYPE_U1, 0, 0, "u1"},
        {4, RV_METRIC_CUSTOM, 0, 0, 0, "custom"},
        {4, RV_METRIC_L2, 0, 0, 1, "custom"},
#if SIZE_MAX > 0xFFFFFFFFu
        {4, 0, 0, (size_t)0xFFFFFFFFu, 0, "capacity is 4294967295"},
        {4, 0, 0, SIZE_MAX, 0, "capacity"},
#endif
    };
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_flat_config config;
        rv_flat *index = NULL;
        rv_test_row(rows[i].text, i);
        memset(&config, 0, sizeof config);
        config.dim = rows[i].dim;
        config.metric = (rv_metric)rows[i].metric;
        config.type = (rv_dtype)rows[i].type;
        config.capacity = rows[i].capacity;
        config.custom = rows[i].custom ? custom_sum : NULL;
        RV_EQUAL(rv_flat_create(&ctx, &config, &index), RV_ERR_CONFIG);
        RV_CHECK(strstr(ctx.message, rows[i].text) != NULL);
        RV_CHECK(index == NULL);
        RV_EQUAL(rv_flat_create(NULL, &config, &index), RV_ERR_CONFIG);
    }
}

static void test_arguments(void)
{
    float x[4] = {1, 2, 3, 4};
    uint64_t image[64];
    rv_hit hits[2];
    size_t n_hits = 7, bytes = 7;
    rv_flat_config config;
    rv_flat *index, *other = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(image, 0, sizeof image);
    index = plain(&ctx, 4, RV_METRIC_COSINE);
    RV_EQUAL(rv_flat_create(&ctx, NULL, &other), RV_ERR_ARG);
    RV_EQUAL(rv_flat_create(&ctx, &config, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_flat_add(&ctx, NULL, 1, x), RV_ERR_ARG);
    RV_EQUAL(rv_flat_add(&ctx, index, 1, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_flat_build(&ctx, NULL, NULL, x, 1), RV_ERR_ARG);
    RV_EQUAL(rv_flat_build(&ctx, index, NULL, NULL, 1), RV_ERR_ARG);
    RV_EQUAL(rv_flat_build(&ctx, index, NULL, x, SIZE_MAX),
             SIZE_MAX > 0xFFFFFFFFu ? RV_ERR_ARG : RV_ERR_ARG);
    RV_EQUAL(rv_flat_upsert(&ctx, NULL, 1, x), RV_ERR_ARG);
    RV_EQUAL(rv_flat_update(&ctx, NULL, 1, x), RV_ERR_ARG);
    RV_EQUAL(rv_flat_remove(&ctx, NULL, 1), RV_ERR_ARG);
    RV_EQUAL(rv_flat_get(&ctx, NULL, 1, x), RV_ERR_ARG);
    RV_EQUAL(rv_flat_reserve(&ctx, NULL, 1), RV_ERR_ARG);
    RV_EQUAL(rv_flat_compact(&ctx, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_flat_contains(NULL, 1), 0);
    RV_EQUAL(rv_flat_count(NULL), 0);
    RV_EQUAL(rv_flat_bytes(NULL), 0);
    rv_flat_destroy(NULL);
    RV_OKAY(&ctx, rv_flat_add(&ctx, index, 1, x));
    RV_EQUAL(rv_flat_get(&ctx, index, 1, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_flat_search(&ctx, NULL, x, 1, NULL, hits, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_flat_search(&ctx, index, NULL, 1, NULL, hits, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_flat_search(&ctx, index, x, 1, NULL, NULL, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_flat_search(&ctx, index, x, 1, NULL, hits, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_flat_search_batch(&ctx, NULL, x, 0, 1, NULL, hits, &n_hits), RV_ERR_ARG);
    RV_EQUAL(n_hits, 7);
    RV_OKAY(&ctx, rv_flat_search_batch(&ctx, index, NULL, 0, 1, NULL, NULL, NULL));
    RV_OKAY(&ctx, rv_flat_search(&ctx, index, x, 0, NULL, NULL, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_EQUAL(rv_flat_save(&ctx, NULL, NULL, 0, &bytes), RV_ERR_ARG);
    RV_EQUAL(rv_flat_save(&ctx, index, NULL, 0, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_flat_load(&ctx, NULL, 64, NULL, NULL, &other), RV_ERR_ARG);
    RV_EQUAL(rv_flat_load(&ctx, image, sizeof image, NULL, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_flat_load(&ctx, image, sizeof image, NULL, NULL, &other), RV_ERR_FORMAT);
    RV_EQUAL(rv_flat_view(NULL, image, 0, NULL, NULL, &other), RV_ERR_FORMAT);
    x[2] = NAN;
    RV_EQUAL(rv_flat_search(&ctx, index, x, 1, NULL, hits, &n_hits), RV_ERR_ARG);
    RV_EQUAL(ctx.where, 2);
    RV_CHECK(strcmp(ctx.message, "query: element 2 is NaN") == 0);
    RV_EQUAL(rv_flat_update(&ctx, index, 1, x), RV_ERR_ARG);
    RV_EQUAL(rv_flat_upsert(&ctx, index, 9, x), RV_ERR_ARG);
    RV_EQUAL(rv_flat_range(&ctx, index, x, 1, NULL, hits, 2, &n_hits), RV_ERR_ARG);
    x[2] = -INFINITY;
    RV_EQUAL(rv_flat_add(&ctx, index, 9, x), RV_ERR_ARG);
    RV_EQUAL(rv_flat_count(index), 1);
    rv_flat_destroy(index);
}

/* Bad elements of a batch are found whatever lane sees them, the first one is reported. */
static void test_batch_arguments(void)
{
    static float x[3000 * 4];
    rv_hit hits[10];
    size_t n_hits[10];
    rv_ctx ctx;
    rv_flat *index;
    rv_test_ctx(&ctx);
    index = plain(&ctx, 4, RV_METRIC_L2);
    x[11001] = NAN;
    x[7002] = INFINITY;
    for (int parallel = 0; parallel < 2; parallel++) {
        ctx.parallel = parallel ? backwards : NULL;
        RV_EQUAL(rv_flat_build(&ctx, index, NULL, x, 3000), RV_ERR_ARG);
        RV_EQUAL(ctx.where, 7002);
        RV_EQUAL(rv_flat_count(index), 0);
    }
    x[6] = NAN;
    RV_EQUAL(rv_flat_search_batch(&ctx, index, x, 10, 1, NULL, hits, n_hits), RV_ERR_ARG);
    RV_EQUAL(ctx.where, 6);
    rv_flat_destroy(index);
}

/* Vectors may lie at any address. */
static void test_unaligned(void)
{
    unsigned char bytes[3 + 5 * 7 * 4];
    float out[7];
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_I8; type++) {
        for (int metric = RV_METRIC_L2; metric <= (int)RV_METRIC_LINF; metric++) {
            rv_flat_config config;
            rv_flat *index = NULL;
            float x[5 * 7];
            rv_hit hits[5];
            size_t n_hits = 0;
            rv_test_row(rv_metric_name((rv_metric)metric), (size_t)type);
            memset(&config, 0, sizeof config);
            config.dim = 7;
            config.metric = (rv_metric)metric;
            config.type = (rv_dtype)type;
            rv_test_fill(&rng, x, 35);
            memcpy(bytes + 3, x, sizeof x);
            RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
            RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, bytes + 3, 5));
            RV_OKAY(&ctx, rv_flat_update(&ctx, index, 2, bytes + 3 + 2 * 28));
            RV_OKAY(&ctx, rv_flat_search(&ctx, index, bytes + 3 + 3 * 28, 5, NULL, hits, &n_hits));
            RV_EQUAL(n_hits, 5);
            if (metric != RV_METRIC_IP) RV_EQUAL(hits[0].key, 3);
            RV_OKAY(&ctx, rv_flat_get(&ctx, index, 1, bytes + 1));
            memcpy(out, bytes + 1, sizeof out);
            for (int i = 0; i < 7; i++) RV_NEAR((double)out[i], (double)x[7 + i], 0.02);
            rv_flat_destroy(index);
        }
    }
}

/* ---- faults ---- */

typedef struct life {
    rv_metric metric;
    rv_dtype type;
    size_t n;
} life;

static rv_status live(rv_ctx *ctx, void *arg)
{
    const life *l = (const life *)arg;
    size_t n = l->n, bytes = 0, n_hits[3];
    float *x = (float *)calloc(n * 6, sizeof(float));
    rv_flat *index = NULL, *copy = NULL;
    unsigned char *image = NULL;
    rv_flat_config config;
    rv_hit hits[15];
    rv_status status;
    for (size_t i = 0; i < 6 * n; i++) x[i] = (float)(i * 37 % 101);
    memset(&config, 0, sizeof config);
    config.dim = 6;
    config.metric = l->metric;
    config.type = l->type;
    config.capacity = 3;
    status = rv_flat_create(ctx, &config, &index);
    RV_CHECK((index != NULL) == (status == RV_OK));
    if (!status) {
        status = rv_flat_build(ctx, index, NULL, x, n);
        RV_EQUAL(rv_flat_count(index), status ? 0 : n);
    }
    if (!status) status = rv_flat_add(ctx, index, 12345678, x);
    if (!status) {
        status = rv_flat_remove(ctx, index, 2);
        RV_EQUAL(rv_flat_contains(index, 2), status != RV_OK);
    }
    if (!status) status = rv_flat_upsert(ctx, index, 99999999, x + 6);
    if (!status) status = rv_flat_search(ctx, index, x, 5, NULL, hits, n_hits);
    if (!status) RV_CHECK(n_hits[0] == 5);
    if (!status) status = rv_flat_search_batch(ctx, index, x, 3, 5, NULL, hits, n_hits);
    if (!status) status = rv_flat_range(ctx, index, x, 1.0f, NULL, hits, 15, n_hits);
    if (!status) {
        status = rv_flat_compact(ctx, index);
        RV_EQUAL(rv_flat_count(index), n + 1);
        RV_CHECK(rv_flat_contains(index, 12345678) && !rv_flat_contains(index, 2));
    }
    if (!status) status = rv_flat_check(ctx, index);
    if (!status) status = rv_flat_save(ctx, index, NULL, 0, &bytes);
    if (!status) {
        image = (unsigned char *)malloc(bytes);
        status = rv_flat_save(ctx, index, image, bytes, &bytes);
    }
    if (!status) status = rv_flat_load(ctx, image, bytes, NULL, NULL, &copy);
    if (!status) RV_EQUAL(rv_flat_count(copy), n + 1);
    if (index && status) { /* still usable */
        rv_ctx calm;
        rv_test_ctx(&calm);
        RV_OKAY(&calm, rv_flat_search(&calm, index, x, 3, NULL, hits, n_hits));
    }
    rv_flat_destroy(index);
    rv_flat_destroy(copy);
    free(image);
    free(x);
    return status;
}

/* After a failure the next call goes on, and in the end no row is missing or out of order. */
static rv_status live_iterator(rv_ctx *ctx, void *arg)
{
    const rv_flat *index = (const rv_flat *)arg;
    const float query[2] = {50, 50};
    rv_flat_iter *iter = NULL;
    rv_hit last = {0, -1}, hit;
    size_t given = 0, stopped = 0;
    rv_status result = rv_flat_iter_create(ctx, index, query, NULL, &iter), status = result;
    RV_CHECK((iter != NULL) == (result == RV_OK));
    while (iter && stopped <= 3 && status != RV_DONE) {
        status = rv_flat_iter_next(ctx, iter, &hit);
        if (status == RV_OK) {
            RV_CHECK(hit.distance > last.distance ||
                     (hit.distance == last.distance && hit.key > last.key));
            last = hit;
            given++;
        } else if (status != RV_DONE) {
            result = status;
            stopped++;
        }
    }
    if (iter && stopped <= 3) RV_EQUAL(given, rv_flat_count(index));
    rv_flat_iter_destroy(iter);
    return result;
}

static void test_iterator_faults(void)
{
    enum { N = 12000 };
    static float x[2 * N];
    rv_test_rng rng;
    rv_ctx ctx;
    rv_flat *index;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 24);
    for (size_t i = 0; i < 2 * N; i++) x[i] = (float)rv_test_below(&rng, 101);
    index = plain(&ctx, 2, RV_METRIC_L2);
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, x, N));
    for (uint64_t i = 5; i < N; i += 13) RV_OKAY(&ctx, rv_flat_remove(&ctx, index, i));
    RV_CHECK(rv_test_oom_sweep(live_iterator, index) > 10);
    RV_CHECK(rv_test_cancel_sweep(live_iterator, index) > 8);
    rv_flat_destroy(index);
}

static void test_faults(void)
{
    life l;
    l.n = 50;
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_I8; type++) {
        l.type = (rv_dtype)type;
        l.metric = type % 2 ? RV_METRIC_COSINE : RV_METRIC_L2;
        RV_CHECK(rv_test_oom_sweep(live, &l) > 10);
    }
    l.n = RV_SCALED(40000, 2000);
    l.type = RV_DTYPE_F32;
    RV_CHECK(rv_test_cancel_sweep(live, &l) > (RV_TEST_SCALE > 1 ? 10 : 20));
}

/* Searches share an index: their memory is the context's, not the index's. */
static void test_search_memory(void)
{
    rv_test_faults mine, theirs;
    rv_ctx ctx, other;
    rv_hit hit;
    size_t n_hits = 0, before;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    rv_flat *index;
    rv_test_ctx_faults(&ctx, &mine);
    rv_test_ctx_faults(&other, &theirs);
    index = plain(&ctx, 4, RV_METRIC_COSINE);
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, x, 2));
    before = mine.allocs;
    RV_OKAY(&other, rv_flat_search(&other, index, x, 1, NULL, &hit, &n_hits));
    RV_EQUAL(mine.allocs, before);
    RV_CHECK(theirs.allocs > 0 && theirs.live_blocks == 0);
    rv_flat_destroy(index);
    RV_EQUAL(mine.live_blocks, 0);
}

/* A long search is asked at least every 10 ms: here, every few megabytes of rows. */
static void test_polls(void)
{
    size_t n = RV_SCALED(200000, 20000), n_hits = 0;
    float *x = (float *)calloc(n * 32, sizeof(float));
    rv_test_faults faults;
    rv_ctx ctx;
    rv_hit hit;
    rv_flat *index;
    rv_test_ctx_faults(&ctx, &faults);
    index = plain(&ctx, 32, RV_METRIC_L2);
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, NULL, x, n));
    faults.polls = 0;
    RV_OKAY(&ctx, rv_flat_search(&ctx, index, x, 1, NULL, &hit, &n_hits));
    RV_CHECK(faults.polls >= n * 128 / ((size_t)16 << 20));
    faults.cancel_at = faults.polls + 2;
    RV_EQUAL(rv_flat_search(&ctx, index, x, 1, NULL, &hit, &n_hits), RV_ERR_CANCELED);
    faults.cancel_at = 0;
    RV_OKAY(&ctx, rv_flat_search(&ctx, index, x, 1, NULL, &hit, &n_hits));
    RV_EQUAL(hit.key, 0);
    { /* putting all rows into order is asked, too, also between the heaps of two workers */
        rv_hit *all = (rv_hit *)malloc(n * sizeof *all);
        const size_t step = 4096;
        size_t first = faults.polls;
        if (!all) exit(2);
        RV_OKAY(&ctx, rv_flat_search(&ctx, index, x, n, NULL, all, &n_hits));
        RV_EQUAL(n_hits, n);
        for (size_t i = 0; i < n; i++) RV_EQUAL(all[i].key, i);
        RV_CHECK(faults.polls - first >= n / step);
        ctx.parallel = backwards;
        for (ctx.workers = 1; ctx.workers <= 2; ctx.workers++) {
            faults.cancel_at = 0;
            first = faults.polls;
            RV_OKAY(&ctx, rv_flat_search(&ctx, index, x, n, NULL, all, &n_hits));
            faults.cancel_at = 2 * faults.polls - first; /* the last poll of the same search */
            RV_EQUAL(rv_flat_search(&ctx, index, x, n, NULL, all, &n_hits), RV_ERR_CANCELED);
        }
        free(all);
    }
    rv_flat_destroy(index);
    RV_EQUAL(faults.live_blocks, 0);
    free(x);
}

/* ---- images ---- */

static void *aligned_image(size_t bytes, void **raw)
{
    *raw = malloc(bytes + 128);
    return (void *)(((uintptr_t)*raw + 127) & ~(uintptr_t)63);
}

static int little_endian(void)
{
    const uint16_t one = 1;
    return *(const unsigned char *)(const void *)&one == 1;
}

static void compare_indexes(rv_ctx *ctx, const rv_flat *a, const rv_flat *b, const void *query)
{
    rv_hit x[MAX_ROWS], y[MAX_ROWS];
    size_t n_x = 0, n_y = 0;
    RV_EQUAL(rv_flat_count(a), rv_flat_count(b));
    RV_OKAY(ctx, rv_flat_search(ctx, a, query, MAX_ROWS, NULL, x, &n_x));
    RV_OKAY(ctx, rv_flat_search(ctx, b, query, MAX_ROWS, NULL, y, &n_y));
    RV_EQUAL(n_x, n_y);
    for (size_t i = 0; i < n_x && i < n_y; i++) {
        RV_CHECK(x[i].key == y[i].key &&
                 memcmp(&x[i].distance, &y[i].distance, sizeof(float)) == 0);
        RV_CHECK(rv_flat_contains(b, x[i].key));
    }
}

static void test_images(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    bed *b = (bed *)malloc(sizeof *b);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 6);
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_U1; type++) {
        for (int metric = RV_METRIC_L2; metric <= (int)RV_METRIC_CUSTOM; metric++) {
            int custom = metric == RV_METRIC_CUSTOM && type != (int)RV_DTYPE_U1;
            rv_custom_fn fn = custom ? custom_sum : NULL;
            size_t bytes = 0, again = 0;
            unsigned char *image;
            void *raw;
            rv_flat *copy = NULL, *view = NULL;
            rv_status status;
            if (!custom && !rv_metric_has((rv_metric)metric, (rv_dtype)type)) continue;
            rv_test_row(rv_metric_name((rv_metric)metric), (size_t)type);
            bed_open(&ctx, b, (rv_metric)metric, (rv_dtype)type, 21, 90, &rng);
            for (size_t i = 0; i < 90; i += 4)
                RV_OKAY(&ctx, rv_flat_remove(&ctx, b->index, b->keys[i]));
            RV_OKAY(&ctx, rv_flat_save(&ctx, b->index, NULL, 0, &bytes));
            image = (unsigned char *)aligned_image(bytes + 1, &raw);
            RV_EQUAL(rv_flat_save(&ctx, b->index, image, bytes - 1, &again), RV_ERR_ARG);
            RV_EQUAL(again, bytes);
            RV_OKAY(&ctx, rv_flat_save(&ctx, b->index, image, bytes, &again));
            if (custom) RV_EQUAL(rv_flat_load(&ctx, image, bytes, NULL, NULL, &copy), RV_ERR_ARG);
            RV_OKAY(&ctx, rv_flat_load(&ctx, image, bytes, fn, &b->user, &copy));
            compare_indexes(&ctx, b->index, copy, b->rows);
            RV_OKAY(&ctx, rv_flat_add(&ctx, copy, 424242, b->rows));
            rv_flat_destroy(copy);
            status = rv_flat_view(&ctx, image, bytes, fn, &b->user, &view);
            RV_EQUAL(status, little_endian() ? RV_OK : RV_ERR_UNSUPPORTED);
            if (!status) {
                compare_indexes(&ctx, b->index, view, b->rows);
                RV_EQUAL(rv_flat_add(&ctx, view, 424242, b->rows), RV_ERR_UNSUPPORTED);
                RV_EQUAL(rv_flat_build(&ctx, view, NULL, b->rows, 1), RV_ERR_UNSUPPORTED);
                RV_EQUAL(rv_flat_remove(&ctx, view, b->keys[1]), RV_ERR_UNSUPPORTED);
                RV_EQUAL(rv_flat_update(&ctx, view, b->keys[1], b->rows), RV_ERR_UNSUPPORTED);
                RV_EQUAL(rv_flat_reserve(&ctx, view, 1000), RV_ERR_UNSUPPORTED);
                RV_EQUAL(rv_flat_compact(&ctx, view), RV_ERR_UNSUPPORTED);
                rv_flat_destroy(view);
            }
            memmove(image + 1, image, bytes); /* any address will do to load, not to view */
            RV_OKAY(&ctx, rv_flat_load(&ctx, image + 1, bytes, fn, &b->user, &copy));
            compare_indexes(&ctx, b->index, copy, b->rows);
            RV_OKAY(&ctx, rv_flat_save(&ctx, copy, image, bytes, &again));
            rv_flat_destroy(copy);
            if (little_endian()) {
                memmove(image + 1, image, bytes);
                RV_EQUAL(rv_flat_view(&ctx, image + 1, bytes, fn, &b->user, &view), RV_ERR_ARG);
            }
            free(raw);
            bed_close(b);
        }
    }
    free(b);
}

/* A view sees what its image becomes; nothing else lets a test damage an index. */
static size_t find_bytes(const unsigned char *image, size_t bytes, const void *what, size_t n)
{
    size_t at = 0;
    while (at + n <= bytes && memcmp(image + at, what, n) != 0) at++;
    RV_CHECK(at + n <= bytes);
    return at + n <= bytes ? at : 0;
}

static void damage(rv_ctx *ctx, const rv_flat *view, unsigned char *place, const void *what,
                   size_t n, size_t where)
{
    unsigned char kept[8];
    memcpy(kept, place, n);
    RV_OKAY(ctx, rv_flat_check(ctx, view));
    memcpy(place, what, n);
    RV_EQUAL(rv_flat_check(ctx, view), RV_ERR_FORMAT);
    RV_EQUAL(ctx->where, where);
    RV_CHECK(strlen(ctx->message) > 10);
    RV_EQUAL(rv_flat_check(NULL, view), RV_ERR_FORMAT);
    memcpy(place, kept, n);
    RV_OKAY(ctx, rv_flat_check(ctx, view));
}

static void test_check(void)
{
    enum { N = 70 };
    const float nan = NAN, row = 12345.75f;
    const float length = row * 2.0f; /* of (row, row, row, row) */
    float x[N * 4];
    uint64_t keys[N], gone[2] = {0, 0}, word;
    void *raw;
    unsigned char *image, *at;
    size_t bytes = 0;
    rv_flat_stats stats;
    rv_flat *index, *view = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (int cosine = 0; cosine < 2; cosine++) {
        index = plain(&ctx, 4, cosine ? RV_METRIC_COSINE : RV_METRIC_L2);
        for (size_t i = 0; i < N; i++) {
            keys[i] = 0x123456789ABCDE00u + i;
            for (size_t k = 0; k < 4; k++) x[i * 4 + k] = i == 41 ? row : (float)(i + k);
        }
        RV_OKAY(&ctx, rv_flat_check(&ctx, index));
        RV_OKAY(&ctx, rv_flat_build(&ctx, index, keys, x, N));
        for (size_t i = 0; i < N; i += i % 5 + 2) { /* an unlikely pattern of bits */
            gone[i / 64] |= (uint64_t)1 << (i % 64);
            if (!cosine || i) RV_OKAY(&ctx, rv_flat_remove(&ctx, index, keys[i]));
        }
        if (cosine) gone[0] &= ~(uint64_t)1;
        RV_OKAY(&ctx, rv_flat_check(&ctx, index));
        RV_OKAY(&ctx, rv_flat_save(&ctx, index, NULL, 0, &bytes));
        image = (unsigned char *)aligned_image(bytes, &raw);
        RV_OKAY(&ctx, rv_flat_save(&ctx, index, image, bytes, &bytes));
        if (rv_flat_view(&ctx, image, bytes, NULL, NULL, &view) == RV_OK) {
            const size_t n_gone = N - rv_flat_count(view);
            rv_flat_stats_get(view, &stats);
            RV_EQUAL(stats.removed, n_gone);
            RV_CHECK(stats.capacity == N && stats.vector_bytes == N * (size_t)(cosine ? 20 : 16));
            RV_CHECK(stats.total_bytes > rv_flat_bytes(view)); /* the image is not the index's */
            if (!cosine) { /* under cosine rows are at unit length, the length beside them */
                at = image + find_bytes(image, bytes, x + 41 * 4, 16);
                damage(&ctx, view, at + 4, &nan, 4, 41);
            } else {
                at = image + find_bytes(image, bytes, &length, 4);
                damage(&ctx, view, at, &nan, 4, 41);
            }
            at = image + find_bytes(image, bytes, keys + 40, 16) + 8;
            damage(&ctx, view, at, keys + 39, 8, 41);
            word = 77;
            damage(&ctx, view, at, &word, 8, 41);
            at = image + find_bytes(image, bytes, gone, 16);
            word = gone[0] & (gone[0] - 1); /* one mark less, then one too many, then behind all */
            damage(&ctx, view, at, &word, 8, N);
            word = gone[0] | (uint64_t)1 << 41;
            damage(&ctx, view, at, &word, 8, N);
            word = gone[1] | (uint64_t)1 << 20;
            damage(&ctx, view, at + 8, &word, 8, 84);
            word = (gone[0] & (gone[0] - 1)) | (uint64_t)1 << 41; /* as many, but others */
            damage(&ctx, view, at, &word, 8, 41);
            rv_flat_destroy(view);
        } else {
            RV_CHECK(!little_endian());
        }
        rv_flat_destroy(index);
        free(raw);
    }
}

static void test_image_empty(void)
{
    void *raw;
    unsigned char *image = (unsigned char *)aligned_image(512, &raw);
    rv_status status;
    size_t bytes = 0, n_hits = 5;
    float x[3] = {1, 2, 3};
    rv_hit hit;
    rv_ctx ctx;
    rv_flat *index, *copy = NULL;
    rv_test_ctx(&ctx);
    index = plain(&ctx, 3, RV_METRIC_COSINE);
    RV_OKAY(&ctx, rv_flat_save(&ctx, index, image, 512, &bytes));
    rv_flat_destroy(index);
    RV_OKAY(&ctx, rv_flat_load(&ctx, image, bytes, NULL, NULL, &copy));
    RV_OKAY(&ctx, rv_flat_search(&ctx, copy, x, 1, NULL, &hit, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_OKAY(&ctx, rv_flat_add(&ctx, copy, 3, x));
    rv_flat_destroy(copy);
    status = rv_flat_view(&ctx, image, bytes, NULL, NULL, &copy);
    RV_EQUAL(status, little_endian() ? RV_OK : RV_ERR_UNSUPPORTED);
    if (!status) {
        RV_EQUAL(rv_flat_add(&ctx, copy, 3, x),
                 RV_ERR_UNSUPPORTED); /* a view of nothing is a view */
        rv_flat_destroy(copy);
    }
    free(raw);
}

int main(void)
{
    rv_test_begin("flat");
    RV_RUN(test_all_pairs);
    RV_RUN(test_get);
    RV_RUN(test_ties);
    RV_RUN(test_order);
    RV_RUN(test_workers);
    RV_RUN(test_filter);
    RV_RUN(test_range);
    RV_RUN(test_iterator);
    RV_RUN(test_iterator_order);
    RV_RUN(test_iterator_calls);
    RV_RUN(test_iterator_memory);
    RV_RUN(test_iterator_faults);
    RV_RUN(test_stats);
    RV_RUN(test_check);
    RV_RUN(test_edit);
    RV_RUN(test_config);
    RV_RUN(test_arguments);
    RV_RUN(test_batch_arguments);
    RV_RUN(test_unaligned);
    RV_RUN(test_faults);
    RV_RUN(test_search_memory);
    RV_RUN(test_polls);
    RV_RUN(test_images);
    RV_RUN(test_image_empty);
    return rv_test_end();
}
