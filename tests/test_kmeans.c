/* Clustering against brute force in double. */
#include "rv_test.h"

static double square(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

/* Clusters far apart: centre c at 10 * (bits of c), rows within +-0.5 of it. */
static void make_clusters(rv_test_rng *rng, size_t n, size_t dim, size_t k, float *rows)
{
    rv_test_fill(rng, rows, n * dim);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < dim; j++) {
            rows[i * dim + j] = 0.5f * rows[i * dim + j] +
                                10.0f * (float)((i % k) >> (j % 10) & 1u) * (float)(1 + j / 10);
        }
    }
}

/* Everything a result promises. loose: what distances may differ by. */
static void check_result(const float *rows, size_t stride, size_t n, size_t dim,
                         const float *centroids, size_t k, const uint32_t *assign, double inertia,
                         double loose)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double best = HUGE_VAL, own;
        RV_CHECK(assign[i] < k);
        if (assign[i] >= k) return;
        for (size_t c = 0; c < k; c++) {
            double d = square(rows + i * stride, centroids + c * dim, dim);
            best = d < best ? d : best;
        }
        own = square(rows + i * stride, centroids + assign[i] * dim, dim);
        RV_NEAR(own, best, loose);
        sum += own;
    }
    RV_NEAR(inertia, sum, 1e-5 * sum + 1e-12);
}

/* Few dimensions, tiles, more than one group of centroids. */
static void test_separate(void)
{
    static const struct {
        size_t n, dim, k;
    } cases[] = {{40, 1, 2},    {60, 3, 5},    {300, 10, 16},
                 {400, 12, 17}, {400, 13, 17}, {900, 40, 33}};
    for (size_t t = 0; t < RV_COUNT_OF(cases); t++) {
        size_t n = cases[t].n, dim = cases[t].dim, k = cases[t].k;
        float *rows = (float *)malloc(n * dim * sizeof(float)),
              *centroids = (float *)malloc(k * dim * sizeof(float));
        uint32_t *assign = (uint32_t *)malloc(n * sizeof(uint32_t));
        double inertia = 0, *sum = (double *)malloc(dim * sizeof(double));
        rv_kmeans_config config;
        rv_test_rng rng;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_seed(&rng, 21 + t);
        rv_test_row("case", t);
        memset(&config, 0, sizeof config);
        config.k = (uint32_t)k;
        config.iterations = 50;
        make_clusters(&rng, n, dim, k, rows);
        RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, n, dim, centroids, assign, &inertia));
        check_result(rows, dim, n, dim, centroids, k, assign, inertia, 1e-2);
        /* settled: every centroid is the mean of its rows */
        for (size_t c = 0; c < k; c++) {
            double count = 0;
            for (size_t j = 0; j < dim; j++) sum[j] = 0;
            for (size_t i = 0; i < n; i++) {
                if (assign[i] != c) continue;
                count += 1;
                for (size_t j = 0; j < dim; j++) sum[j] += (double)rows[i * dim + j];
            }
            RV_CHECK(count > 0);
            for (size_t j = 0; j < dim; j++) {
                RV_NEAR((double)centroids[c * dim + j], sum[j] / count, 0.1);
            }
        }
        if (dim >= 10 && k <= 33) { /* distinct corners: k-means++ finds nearly all of them */
            RV_CHECK(inertia < (double)n * (double)dim * 0.25 + 0.15 * (double)n * 100);
        }
        free(rows);
        free(centroids);
        free(assign);
        free(sum);
    }
}

/* A sample of a larger set, more than 256 clusters (random start), a stride. */
static void test_sampled(void)
{
    const size_t n = RV_SCALED(12000, 3000), dim = 16, stride = 19, k = 300;
    float *rows = (float *)malloc(n * stride * sizeof(float)),
          *centroids = (float *)malloc(k * dim * sizeof(float));
    float *dist = (float *)malloc(n * sizeof(float));
    uint32_t *assign = (uint32_t *)malloc(n * sizeof(uint32_t)),
             *again = (uint32_t *)malloc(n * sizeof(uint32_t));
    double inertia = 0, total = 0;
    rv_kmeans_config config;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 31);
    memset(&config, 0, sizeof config);
    config.k = (uint32_t)k;
    config.sample = 8; /* 2400 rows */
    rv_test_fill(&rng, rows, n * stride);
    RV_OKAY(&ctx,
            rv_kmeans_train(&ctx, &config, rows, stride, n, dim, centroids, assign, &inertia));
    check_result(rows, stride, n, dim, centroids, k, assign, inertia, 1e-5);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < dim; j++)
            total += (double)rows[i * stride + j] * (double)rows[i * stride + j];
    }
    RV_CHECK(inertia < 0.8 * total);
    RV_OKAY(&ctx, rv_kmeans_assign(&ctx, centroids, k, dim, rows, stride, n, again, dist));
    RV_CHECK(memcmp(assign, again, n * sizeof(uint32_t)) == 0);
    for (size_t i = 0; i < n; i++)
        RV_NEAR((double)dist[i], square(rows + i * stride, centroids + assign[i] * dim, dim), 1e-5);
    RV_OKAY(&ctx, rv_kmeans_assign(&ctx, centroids, k, dim, rows, stride, 0, again, NULL));
    free(rows);
    free(centroids);
    free(dist);
    free(assign);
    free(again);
}

/* One cluster is the mean; as many clusters as rows cost nothing; duplicates and equal rows work.
   */
static void test_edges(void)
{
    float rows[64 * 5], centroids[64 * 5];
    uint32_t assign[64];
    double inertia = 0, mean = 0;
    rv_kmeans_config config;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 41);
    rv_test_fill(&rng, rows, RV_COUNT_OF(rows));
    memset(&config, 0, sizeof config);
    config.k = 1;
    RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, 64, 5, centroids, assign, &inertia));
    for (size_t i = 0; i < 64; i++) mean += (double)rows[i * 5] / 64;
    RV_NEAR((double)centroids[0], mean, 1e-6);
    config.k = 64;
    config.iterations = 100;
    RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, 64, 5, centroids, assign, &inertia));
    RV_NEAR(inertia, 0, 0);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) rows[i] = (float)(i / 5 % 4);
    config.k = 4;
    RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, 64, 5, centroids, NULL, &inertia));
    RV_NEAR(inertia, 0, 0);
    config.k = 20;
    RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, 64, 5, centroids, assign, NULL));
    for (size_t i = 0; i < 64; i++)
        RV_NEAR(square(rows + i * 5, centroids + assign[i] * 5, 5), 0, 0);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) rows[i] = 7;
    RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, 64, 5, centroids, assign, &inertia));
    RV_NEAR(inertia, 0, 0);
    for (size_t i = 0; i < 64; i++) RV_EQUAL(assign[i], 0); /* ties go to the lower */
}

static void test_spherical(void)
{
    float rows[200 * 20], centroids[6 * 20];
    uint32_t assign[200];
    rv_kmeans_config config;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 51);
    rv_test_fill(&rng, rows, RV_COUNT_OF(rows));
    for (size_t i = 0; i < 200; i++) {
        double length = 0;
        for (size_t j = 0; j < 20; j++)
            length += (double)rows[i * 20 + j] * (double)rows[i * 20 + j];
        for (size_t j = 0; j < 20; j++)
            rows[i * 20 + j] = (float)((double)rows[i * 20 + j] / sqrt(length));
    }
    memset(&config, 0, sizeof config);
    config.k = 6;
    config.spherical = 1;
    RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, 200, 20, centroids, assign, NULL));
    for (size_t c = 0; c < 6; c++) {
        double length = 0;
        for (size_t j = 0; j < 20; j++)
            length += (double)centroids[c * 20 + j] * (double)centroids[c * 20 + j];
        RV_NEAR(length, 1, 1e-5);
    }
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

/* The same bits for any number of workers, small and tiled. */
static void test_workers(void)
{
    static const size_t dims[] = {6, 30};
    float *rows = (float *)malloc(3000 * 30 * sizeof(float)), one[40 * 30], other[40 * 30];
    rv_kmeans_config config;
    rv_test_rng rng;
    rv_test_seed(&rng, 61);
    rv_test_fill(&rng, rows, 3000 * 30);
    memset(&config, 0, sizeof config);
    config.k = 40;
    for (size_t t = 0; t < RV_COUNT_OF(dims); t++) {
        double inertia = 0, again = 0;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        RV_OKAY(&ctx, rv_kmeans_train(&ctx, &config, rows, 0, 3000, dims[t], one, NULL, &inertia));
        ctx.parallel = backwards;
        for (uint32_t workers = 1; workers < 8; workers += 3) {
            ctx.workers = workers;
            RV_OKAY(&ctx,
                    rv_kmeans_train(&ctx, &config, rows, 0, 3000, dims[t], other, NULL, &again));
            RV_CHECK(memcmp(one, other, 40 * dims[t] * sizeof(float)) == 0);
            RV_CHECK(inertia == again);
        }
    }
    free(rows);
}

static void test_errors(void)
{
    float rows[30], centroids[30], nan;
    uint32_t bits = 0x7FC00000u, assign[10];
    rv_kmeans_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memcpy(&nan, &bits, sizeof nan);
    memset(rows, 0, sizeof rows);
    memset(&config, 0, sizeof config);
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 0, 10, 3, centroids, NULL, NULL), RV_ERR_CONFIG);
    config.k = 11;
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 0, 10, 3, centroids, NULL, NULL), RV_ERR_CONFIG);
    config.k = 3;
    RV_EQUAL(rv_kmeans_train(&ctx, NULL, rows, 0, 10, 3, centroids, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_kmeans_train(&ctx, &config, NULL, 0, 10, 3, centroids, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 2, 10, 3, centroids, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 0, 10, 0, centroids, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 0, 0xFFFFFFF1u, 3, centroids, NULL, NULL),
             RV_ERR_ARG);
    RV_EQUAL(rv_kmeans_assign(&ctx, centroids, 0, 3, rows, 0, 10, assign, NULL), RV_ERR_ARG);
    config.iterations = 10001;
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 0, 10, 3, centroids, NULL, NULL), RV_ERR_CONFIG);
    config.iterations = 0;
    config.sample = 1048577;
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 0, 10, 3, centroids, NULL, NULL), RV_ERR_CONFIG);
    config.sample = 0;
    rows[17] = nan;
    RV_EQUAL(rv_kmeans_train(&ctx, &config, rows, 0, 10, 3, centroids, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(ctx.where, 17);
    RV_OKAY(&ctx,
            rv_kmeans_assign(&ctx, rows, 3, 3, rows, 0, 10, assign, NULL)); /* some centroid */
    for (size_t i = 0; i < 10; i++) RV_CHECK(assign[i] < 3);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const float *rows = (const float *)arg;
    float centroids[20 * 14];
    uint32_t assign[400];
    double inertia;
    rv_kmeans_config config;
    rv_status status;
    memset(&config, 0, sizeof config);
    config.k = 20;
    config.iterations = 3;
    status = rv_kmeans_train(ctx, &config, rows, 0, 400, 14, centroids, NULL, &inertia);
    if (!status) status = rv_kmeans_assign(ctx, centroids, 20, 14, rows, 0, 400, assign, NULL);
    return status;
}

static void test_faults(void)
{
    float rows[400 * 14];
    rv_test_rng rng;
    rv_test_seed(&rng, 71);
    rv_test_fill(&rng, rows, RV_COUNT_OF(rows));
    RV_CHECK(rv_test_oom_sweep(sweep, rows) > 8);
    RV_CHECK(rv_test_cancel_sweep(sweep, rows) > 8);
}

typedef struct wide {
    const float *rows;
    size_t n, dim;
    float *centroids;
} wide;

static rv_status body_wide(rv_ctx *ctx, void *arg)
{
    const wide *w = (const wide *)arg;
    rv_kmeans_config config;
    memset(&config, 0, sizeof config);
    config.k = 2;
    config.iterations = 2;
    return rv_kmeans_train(ctx, &config, w->rows, 0, w->n, w->dim, w->centroids, NULL, NULL);
}

/* Clusters of so many wide rows that they are summed in pieces: still the mean, still the same bits
   for any number of workers, and every piece polls. */
static void test_large_clusters(void)
{
    const size_t n = 1000, dim = 4100;
    float *rows, *one, *other;
    wide w;
    rv_test_rng rng;
    rv_ctx ctx;
    if (RV_TEST_SCALE > 4) return; /* 16 MB, and seconds on an emulator */
    rows = (float *)malloc(n * dim * sizeof(float));
    one = (float *)malloc(2 * dim * sizeof(float));
    other = (float *)malloc(2 * dim * sizeof(float));
    if (!rows || !one || !other) exit(2);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 81);
    rv_test_fill(&rng, rows, n * dim);
    for (size_t i = 0; i < n * dim; i++) rows[i] += i / dim % 10 ? 5.0f : -5.0f; /* 900 and 100 */
    w.rows = rows;
    w.n = n;
    w.dim = dim;
    w.centroids = one;
    RV_OKAY(&ctx, body_wide(&ctx, &w));
    for (size_t j = 0; j < dim; j += 41) {
        double sum[2] = {0, 0};
        const size_t large = one[j] > 0 ? 0 : 1;
        for (size_t i = 0; i < n; i++) sum[i % 10 == 0] += (double)rows[i * dim + j];
        RV_NEAR(one[large * dim + j], sum[0] / 900, 1e-6);
        RV_NEAR(one[(1 - large) * dim + j], sum[1] / 100, 1e-6);
    }
    w.centroids = other;
    ctx.parallel = backwards;
    ctx.workers = 3;
    RV_OKAY(&ctx, body_wide(&ctx, &w));
    RV_CHECK(memcmp(one, other, 2 * dim * sizeof(float)) == 0);
    if (!rv_test_forced()) RV_CHECK(rv_test_cancel_sweep(body_wide, &w) > 10);
    free(rows);
    free(one);
    free(other);
}

typedef struct many {
    const float *centroids, *rows;
    size_t k, dim, n;
    float *dist;      /* or NULL */
    uint32_t *assign;
} many;

static rv_status body_many(rv_ctx *ctx, void *arg)
{
    const many *m = (const many *)arg;
    return rv_kmeans_assign(ctx, m->centroids, m->k, m->dim, m->rows, 0, m->n, m->assign, m->dist);
}

/* So many centroids that a few rows meet them in several groups, with tiles and without: the
   nearest of all, the lower one of two that are equal in different groups, and polls between. */
static void test_many_centroids(void)
{
    static const struct {
        size_t dim, k;
    } sizes[] = {{20, 30000}, {2, 270000}};
    for (size_t t = 0; t < RV_COUNT_OF(sizes); t++) {
        const size_t dim = sizes[t].dim, k = sizes[t].k, n = 5;
        float *centroids = (float *)malloc(k * dim * sizeof(float)), rows[5 * 20], dist[5];
        uint32_t assign[5], again[5];
        many m = {centroids, rows, k, dim, n, dist, assign};
        rv_test_faults faults;
        rv_test_rng rng;
        rv_ctx ctx;
        if (!centroids) exit(2);
        rv_test_row("dim", dim);
        rv_test_ctx_faults(&ctx, &faults);
        rv_test_seed(&rng, 91 + t);
        rv_test_fill(&rng, rows, n * dim);
        rv_test_fill(&rng, centroids, k * dim);
        memcpy(centroids + 11 * dim, rows, dim * sizeof(float)); /* in the first and the last */
        memcpy(centroids + (k - 3) * dim, rows, dim * sizeof(float));
        memcpy(centroids + (k - 2) * dim, rows + dim, dim * sizeof(float));
        RV_OKAY(&ctx, body_many(&ctx, &m));
        RV_CHECK(faults.polls > 2);
        RV_EQUAL(assign[0], 11);
        RV_EQUAL(assign[1], k - 2);
        for (size_t i = 0; i < n; i++) {
            double least = square(rows + i * dim, centroids, dim), found;
            for (size_t c = 1; c < k; c++) {
                double d = square(rows + i * dim, centroids + c * dim, dim);
                least = d < least ? d : least;
            }
            found = square(rows + i * dim, centroids + assign[i] * dim, dim);
            RV_NEAR(found, least, 1e-5);
            RV_NEAR(dist[i], found, 1e-5);
        }
        m.dist = NULL;
        m.assign = again;
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, body_many(&ctx, &m));
        RV_CHECK(memcmp(assign, again, sizeof again) == 0);
        RV_EQUAL(faults.live_blocks, 0);
        if (RV_TEST_SCALE == 1) {
            RV_CHECK(rv_test_oom_sweep(body_many, &m) > 3);
            RV_CHECK(rv_test_cancel_sweep(body_many, &m) > 3);
        }
        free(centroids);
    }
}

int main(void)
{
    rv_test_begin("kmeans");
    RV_RUN(test_separate);
    RV_RUN(test_sampled);
    RV_RUN(test_edges);
    RV_RUN(test_spherical);
    RV_RUN(test_workers);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    RV_RUN(test_large_clusters);
    RV_RUN(test_many_centroids);
    return rv_test_end();
}
