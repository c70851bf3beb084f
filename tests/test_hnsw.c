/* The graph index: contract, recall, keys, edits. */
#include "hnsw_set.h"

enum { DIM = 48, K = 10, N_QUERIES = 30 };

static rv_hnsw *make(rv_ctx *ctx, const rv_hnsw_config *config)
{
    rv_hnsw *index = NULL;
    if (RV_OKAY(ctx, rv_hnsw_create(ctx, config, &index)) != RV_OK) exit(2);
    return index;
}

static void config_of(rv_hnsw_config *config, uint32_t dim)
{
    memset(config, 0, sizeof *config);
    config->dim = dim;
}

/* Mean recall of K over the queries of a set whose keys are row numbers. kth: [n_queries] distances
   of the K-th nearest, or NULL. */
static double recall_of(rv_ctx *ctx, const rv_hnsw *index, rv_metric metric, const float *rows,
                        size_t n, const hnsw_set *set, const double *kth, size_t ef)
{
    rv_hit hits[K];
    size_t found = 0, n_hits = 0;
    for (size_t q = 0; q < set->n_queries; q++) {
        const float *query = set->queries + q * set->dim;
        double last = kth ? kth[q] : hnsw_kth(metric, rows, n, set->dim, query, K, NULL, NULL);
        RV_OKAY(ctx, rv_hnsw_search(ctx, index, query, K, ef, hits, &n_hits));
        RV_EQUAL(n_hits, K);
        hnsw_check_hits(hits, n_hits, NULL, NULL);
        found += hnsw_found(metric, rows, set->dim, query, hits, n_hits, last);
    }
    return (double)found / (double)(set->n_queries * K);
}

/* ---- recall of every combination ---- */

/* Whether the distances reported are those of the rows as they are stored. Under cosine a stored
   row has unit length only as far as its type goes: half of the last digit of elements that sum to
   1. */
static void check_distances(rv_ctx *ctx, const rv_hnsw *index, rv_metric metric, rv_dtype type,
                            const hnsw_set *set)
{
    static const double rounding[] = {0, 1.0 / 2048, 1.0 / 256, 1.0 / 254};
    double unit = metric == RV_METRIC_COSINE ? rounding[type] : 0;
    rv_hit hits[K];
    float row[DIM];
    size_t n_hits = 0;
    for (size_t q = 0; q < 4; q++) {
        const float *query = set->queries + q * set->dim;
        RV_OKAY(ctx, rv_hnsw_search(ctx, index, query, K, 0, hits, &n_hits));
        for (size_t i = 0; i < n_hits; i++) {
            double mass, d;
            RV_OKAY(ctx, rv_hnsw_get(ctx, index, hits[i].key, row));
            d = hnsw_exact(metric, query, row, set->dim, &mass);
            /* rounding of float sums of dim terms, and of one scale of an I8 row */
            RV_NEAR((double)hits[i].distance, d, unit + mass * 4 * sqrt((double)DIM) / 8388608.0);
        }
    }
}

/* Least mean recall at ef 160, by rv_hnsw_codes; 1-bit codes of 48 dimensions are coarse. */
static const double least_recall[] = {0.95, 0.95, 0.95, 0.95, 0.92, 0.80};

static void one_combination(const hnsw_set *set, const double *kth, rv_metric metric, rv_dtype type,
                            rv_hnsw_codes codes, int drop)
{
    rv_hnsw_config config;
    rv_hnsw_stats stats;
    rv_hnsw *index = NULL;
    rv_ctx ctx;
    double recall, bound = least_recall[codes];
    const int fit = metric <= RV_METRIC_COSINE;
    rv_test_ctx(&ctx);
    config_of(&config, DIM);
    config.metric = metric;
    config.type = type;
    config.codes = codes;
    config.drop_vectors = drop;
    if (!rv_metric_has(metric, type) || (codes > RV_HNSW_CODES_NONE && !fit)) {
        RV_EQUAL(rv_hnsw_create(&ctx, &config, &index), RV_ERR_CONFIG);
        RV_CHECK(index == NULL && ctx.message[0]);
        return;
    }
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set->rows, set->n));
    RV_EQUAL(rv_hnsw_count(index), set->n);
    RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
    rv_hnsw_stats_get(index, &stats);
    RV_EQUAL(stats.code_record != 0, fit && codes != RV_HNSW_CODES_NONE);
    RV_EQUAL(stats.total_bytes, rv_hnsw_bytes(index));
    if (drop) RV_CHECK(stats.vector_bytes <= set->n * sizeof(float));
    recall = recall_of(&ctx, index, metric, set->rows, set->n, set, kth, 160);
    if (type == RV_DTYPE_BF16 || type == RV_DTYPE_I8)
        bound -= 0.03; /* the stored rows are rounded */
    if (drop)
        bound = codes == RV_HNSW_CODES_RABITQ ? 0.30 : codes == RV_HNSW_CODES_SQ4 ? 0.70 : 0.85;
    if (getenv("RV_HNSW_SHOW")) {
        printf("%s %s codes %d drop %d: recall %.4f, record %u\n", rv_metric_name(metric),
               rv_dtype_name(type), (int)codes, drop, recall, (unsigned)stats.code_record);
    }
    RV_CHECK(recall >= bound);
    if (!drop) check_distances(&ctx, index, metric, type, set);
    rv_hnsw_destroy(index);
}

static void test_recall_of_all(void)
{
    static const rv_hnsw_codes kept[] = {RV_HNSW_CODES_PCA, RV_HNSW_CODES_SQ8, RV_HNSW_CODES_SQ4,
                                         RV_HNSW_CODES_RABITQ};
    double kth[N_QUERIES];
    hnsw_set set;
    hnsw_set_make(&set, HNSW_ROWS(600u, 300u, 300u), N_QUERIES, DIM, 11);
    for (int m = 0; m <= (int)RV_METRIC_LINF; m++) {
        const rv_metric metric = (rv_metric)m;
        for (size_t q = 0; q < N_QUERIES; q++) {
            kth[q] = hnsw_kth(metric, set.rows, set.n, DIM, set.queries + q * DIM, K, NULL, NULL);
        }
        for (int type = 0; type <= (int)RV_DTYPE_I8; type++) {
            /* narrow rows and codes meet only where candidates are measured again: a forced set
               or an emulator need not see each with each */
            const int apart = rv_test_forced() || RV_TEST_SCALE > 4;
            const int last = apart && type ? (int)RV_HNSW_CODES_NONE : (int)RV_HNSW_CODES_RABITQ;
            for (int codes = 0; codes <= last; codes++) {
                rv_test_row(rv_metric_name(metric), (size_t)(10 * type + codes));
                one_combination(&set, kth, metric, (rv_dtype)type, (rv_hnsw_codes)codes, 0);
            }
        }
        for (size_t i = 0; i < RV_COUNT_OF(kept) && m <= (int)RV_METRIC_COSINE; i++) {
            rv_test_row("dropped", i * 10 + (size_t)m);
            one_combination(&set, kth, metric, RV_DTYPE_F32, kept[i], 1);
        }
    }
    hnsw_set_free(&set);
}

static void test_recall_of_bits(void)
{
    enum { BITS = 100, BYTES = 13 };
    const size_t n = HNSW_ROWS(1000u, 500u, 300u);
    uint8_t *rows = (uint8_t *)malloc(n * BYTES), query[BYTES], back[BYTES];
    hnsw_set set;
    rv_ctx ctx;
    if (!rows) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, N_QUERIES, BITS, 12);
    for (size_t i = 0; i < n; i++) hnsw_set_bits(set.rows + i * BITS, BITS, rows + i * BYTES);
    for (int metric = (int)RV_METRIC_HAMMING; metric <= (int)RV_METRIC_JACCARD; metric++) {
        rv_hnsw_config config;
        rv_hnsw *index;
        size_t found = 0;
        config_of(&config, BITS);
        config.metric = (rv_metric)metric;
        config.type = RV_DTYPE_U1;
        index = make(&ctx, &config);
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, rows, n));
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        for (size_t q = 0; q < set.n_queries; q++) {
            const float *x = set.queries + q * BITS;
            double kth = hnsw_kth((rv_metric)metric, set.rows, n, BITS, x, K, NULL, NULL);
            rv_hit hits[K];
            size_t n_hits = 0;
            hnsw_set_bits(x, BITS, query);
            RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, K, 80, hits, &n_hits));
            RV_EQUAL(n_hits, K);
            hnsw_check_hits(hits, n_hits, NULL, NULL);
            for (size_t i = 0; i < n_hits; i++) {
                double mass;
                RV_NEAR((double)hits[i].distance,
                        hnsw_exact((rv_metric)metric, x, set.rows + (size_t)hits[i].key * BITS,
                                   BITS, &mass),
                        1e-6);
            }
            found += hnsw_found((rv_metric)metric, set.rows, BITS, x, hits, n_hits, kth + 1e-9);
        }
        RV_CHECK(found >= (size_t)(0.95 * (double)(K * set.n_queries)));
        RV_OKAY(&ctx, rv_hnsw_get(&ctx, index, n - 1, back));
        RV_CHECK(memcmp(back, rows + (n - 1) * BYTES, BYTES) == 0);
        rv_hnsw_destroy(index);
    }
    hnsw_set_free(&set);
    free(rows);
}

static void test_custom_metric(void)
{
    rv_hnsw_config config;
    rv_hnsw *index;
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, HNSW_ROWS(800u, 400u, 300u), N_QUERIES, 20, 13);
    for (int type = 0; type <= (int)RV_DTYPE_F16; type++) {
        config_of(&config, 20);
        config.metric = RV_METRIC_CUSTOM;
        config.type = (rv_dtype)type;
        config.custom = hnsw_custom;
        index = make(&ctx, &config);
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, set.n));
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_CHECK(recall_of(&ctx, index, RV_METRIC_CUSTOM, set.rows, set.n, &set, NULL, 80) >= 0.95);
        rv_hnsw_destroy(index);
    }
    config.custom = NULL;
    RV_EQUAL(rv_hnsw_create(&ctx, &config, &index), RV_ERR_CONFIG);
    hnsw_set_free(&set);
}

/* One at a time, through the point where codes are learned when the scale allows. */
static void test_recall_of_adds(void)
{
    static const rv_hnsw_codes kinds[] = {RV_HNSW_CODES_AUTO, RV_HNSW_CODES_NONE,
                                          RV_HNSW_CODES_SQ4};
    const size_t n = RV_SCALED(RV_HNSW_TRAIN + 400u, 400u);
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, N_QUERIES, 32, 14);
    for (size_t c = 0; c < RV_COUNT_OF(kinds); c++) {
        rv_hnsw_config config;
        rv_hnsw_stats stats;
        rv_hnsw *index;
        double recall;
        rv_test_row("codes", c);
        config_of(&config, 32);
        config.codes = kinds[c];
        config.drop_vectors = kinds[c] == RV_HNSW_CODES_AUTO;
        index = make(&ctx, &config);
        for (size_t i = 0; i < n; i++) {
            RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i * 3, set.rows + i * 32));
            if (i % 1111 == 10) RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        }
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        rv_hnsw_stats_get(index, &stats);
        RV_EQUAL(stats.count, n);
        RV_EQUAL(stats.code_record != 0, n >= RV_HNSW_TRAIN && kinds[c] != RV_HNSW_CODES_NONE);
        RV_EQUAL(rv_hnsw_contains(index, 3), 1);
        RV_EQUAL(rv_hnsw_contains(index, 4), 0);
        recall = 0;
        for (size_t q = 0; q < set.n_queries; q++) {
            const float *query = set.queries + q * 32;
            double kth = hnsw_kth(RV_METRIC_L2, set.rows, n, 32, query, K, NULL, NULL);
            rv_hit hits[K];
            size_t n_hits = 0;
            RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, K, 80, hits, &n_hits));
            RV_EQUAL(n_hits, K);
            hnsw_check_hits(hits, n_hits, NULL, NULL);
            for (size_t i = 0; i < n_hits; i++) hits[i].key /= 3;
            recall += (double)hnsw_found(RV_METRIC_L2, set.rows, 32, query, hits, n_hits, kth);
        }
        recall /= (double)(K * set.n_queries);
        if (getenv("RV_HNSW_SHOW")) printf("adds, codes %d: recall %.4f\n", (int)kinds[c], recall);
        RV_CHECK(recall >= (config.drop_vectors ? 0.85 : 0.95));
        rv_hnsw_destroy(index);
    }
    hnsw_set_free(&set);
}

/* ---- odd sets ---- */

static void test_empty(void)
{
    static const float query[3] = {1, 2, 3};
    rv_hnsw_config config;
    rv_hnsw_stats stats;
    rv_hnsw_iter *iter = NULL;
    rv_hnsw *index;
    rv_hit hit;
    size_t n_hits = 9;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    config_of(&config, 3);
    index = make(&ctx, &config);
    RV_EQUAL(rv_hnsw_count(index), 0);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, 1, 0, &hit, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, NULL, 0));
    RV_OKAY(&ctx, rv_hnsw_range(&ctx, index, query, 100.0f, NULL, &hit, 1, &n_hits));
    RV_EQUAL(n_hits, 0);
    n_hits = 9;
    RV_OKAY(&ctx, rv_hnsw_search_batch(&ctx, index, query, 1, 1, NULL, &hit, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_OKAY(&ctx, rv_hnsw_search_batch(&ctx, index, NULL, 0, 1, NULL, NULL, NULL));
    RV_OKAY(&ctx, rv_hnsw_iter_create(&ctx, index, query, NULL, &iter));
    RV_EQUAL(rv_hnsw_iter_next(&ctx, iter, &hit), RV_DONE);
    RV_EQUAL(rv_hnsw_iter_next(&ctx, iter, &hit), RV_DONE);
    rv_hnsw_iter_destroy(iter);
    RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
    RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
    RV_EQUAL(rv_hnsw_remove(&ctx, index, 0), RV_ERR_NOT_FOUND);
    RV_EQUAL(rv_hnsw_contains(index, 0), 0);
    rv_hnsw_stats_get(index, &stats);
    RV_EQUAL(stats.count + stats.n_levels + stats.removed, 0);
    RV_OKAY(&ctx, rv_hnsw_reserve(&ctx, index, 100));
    RV_CHECK(rv_hnsw_bytes(index) >= 100 * (3 * sizeof(float) + 32 * sizeof(uint32_t)));
    rv_hnsw_destroy(index);
    rv_hnsw_destroy(NULL);
    rv_hnsw_iter_destroy(NULL);
    RV_EQUAL(rv_hnsw_count(NULL), 0);
    RV_EQUAL(rv_hnsw_bytes(NULL), 0);
    rv_hnsw_stats_get(NULL, &stats);
    rv_hnsw_stats_get(NULL, NULL);
}

static void test_one_row(void)
{
    static const float row[2] = {3, 4}, query[2] = {0, 0};
    static const rv_metric metrics[] = {RV_METRIC_L2, RV_METRIC_IP, RV_METRIC_COSINE, RV_METRIC_L1};
    static const float expected[] = {25, 0, 1, 7};
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(metrics); i++) {
        rv_hnsw_config config;
        rv_hnsw *index;
        rv_hit hits[3];
        float back[2];
        size_t n_hits = 0;
        config_of(&config, 2);
        config.metric = metrics[i];
        index = make(&ctx, &config);
        RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, 1234567890123ull, row));
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, 3, 0, hits, &n_hits));
        RV_EQUAL(n_hits, 1);
        RV_CHECK(hits[0].key == 1234567890123ull);
        RV_NEAR((double)hits[0].distance, (double)expected[i], 1e-6);
        RV_OKAY(&ctx, rv_hnsw_get(&ctx, index, 1234567890123ull, back));
        RV_NEAR((double)back[0], 3, 1e-6);
        RV_NEAR((double)back[1], 4, 1e-6);
        RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, 1234567890123ull));
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, 3, 0, hits, &n_hits));
        RV_EQUAL(n_hits, 0);
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, 5, row));
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, 3, 0, hits, &n_hits));
        RV_EQUAL(n_hits, 1);
        rv_hnsw_destroy(index);
    }
}

/* dim 1: the nearest of 0, 1, ..., n - 1 to i + 0.25 is i, then i + 1, i - 1, ... */
static void test_dim_one(void)
{
    enum { N = 700 };
    float rows[N], query;
    rv_hnsw_config config;
    rv_hnsw *index;
    rv_hit hits[3];
    size_t n_hits = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < N; i++) rows[i] = (float)i;
    config_of(&config, 1);
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, rows, N));
    RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
    for (size_t i = 1; i + 1 < N; i += 37) {
        query = (float)i + 0.25f;
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, &query, 3, 0, hits, &n_hits));
        RV_EQUAL(n_hits, 3);
        RV_EQUAL(hits[0].key, i);
        RV_EQUAL(hits[1].key, i + 1);
        RV_EQUAL(hits[2].key, i - 1);
        RV_NEAR((double)hits[0].distance, 0.0625, 1e-6);
    }
    rv_hnsw_destroy(index);
}

/* Every row is returned, whether they are all equal, or in pairs, or zero. */
static void test_equal_rows(void)
{
    enum { D = 20 };
    const size_t n = HNSW_ROWS(800u, 300u, 300u);
    static const rv_metric metrics[] = {RV_METRIC_L2, RV_METRIC_IP, RV_METRIC_COSINE};
    float *rows = (float *)calloc(n * D, sizeof(float));
    rv_hit *hits = (rv_hit *)malloc(n * sizeof *hits);
    uint8_t *seen = (uint8_t *)malloc(n);
    rv_ctx ctx;
    if (!rows || !hits || !seen) exit(2);
    rv_test_ctx(&ctx);
    for (size_t variant = 0; variant < 9; variant++) {
        rv_test_rng rng;
        rv_hnsw_config config;
        rv_hnsw *index;
        size_t n_hits = 0, distinct = 0, rest;
        rv_test_row("variant", variant);
        rv_test_seed(&rng, 20 + variant);
        for (size_t i = 0; i < n; i++) {
            for (size_t d = 0; d < D; d++) {
                float x = variant % 3 == 0   ? 0.0f
                          : variant % 3 == 1 ? 0.5f + (float)d
                          : i % 2            ? rows[(i - 1) * D + d]
                                             : rv_test_f32(&rng);
                rows[i * D + d] = x;
            }
        }
        config_of(&config, D);
        config.metric = metrics[variant / 3];
        index = make(&ctx, &config);
        if (variant % 2) {
            RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, rows, n));
        } else {
            for (size_t i = 0; i < n; i++) RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i, rows + i * D));
        }
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, rows, n, 0, hits, &n_hits));
        RV_EQUAL(n_hits, n);
        memset(seen, 0, n);
        for (size_t i = 0; i < n_hits; i++) {
            if (hits[i].key < n) distinct += !seen[hits[i].key]++;
        }
        RV_EQUAL(distinct, n);
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, rows, 10, 0, hits, &n_hits));
        RV_EQUAL(n_hits, 10);
        if (variant % 3 == 2 && variant < 3) RV_EQUAL(hits[0].key + hits[1].key, 1);
        for (rest = n; rest > n / 2; rest--) RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, rest - 1));
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, rows, n, 0, hits, &n_hits));
        RV_EQUAL(n_hits, n / 2);
        rv_hnsw_destroy(index);
    }
    free(rows);
    free(hits);
    free(seen);
}

static void test_zero_vectors_under_cosine(void)
{
    static const float rows[] = {0, 0, 1, 0, 0, 2, 0, 0, -3, 0};
    static const float zero[2] = {0, 0}, right[2] = {5, 0};
    rv_hnsw_config config;
    rv_hnsw *index;
    rv_hit hits[5];
    float back[2];
    size_t n_hits = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    config_of(&config, 2);
    config.metric = RV_METRIC_COSINE;
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, rows, 5));
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, zero, 5, 0, hits, &n_hits));
    RV_EQUAL(n_hits, 5);
    RV_EQUAL(hits[0].key, 0); /* two zero vectors: 0; exactly one: 1 */
    RV_EQUAL(hits[1].key, 3);
    RV_NEAR((double)hits[1].distance, 0, 0);
    RV_NEAR((double)hits[2].distance, 1, 0);
    RV_NEAR((double)hits[4].distance, 1, 0);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, right, 5, 0, hits, &n_hits));
    RV_EQUAL(hits[0].key, 1);
    RV_EQUAL(hits[4].key, 4);
    RV_NEAR((double)hits[4].distance, 2, 1e-6);
    RV_OKAY(&ctx, rv_hnsw_get(&ctx, index, 0, back));
    RV_NEAR((double)back[0] + (double)back[1], 0, 0);
    rv_hnsw_destroy(index);
}

/* ---- arguments ---- */

static void test_config(void)
{
    static const struct {
        uint32_t dim;
        int metric, type, codes, drop;
        uint32_t m, efc, code_bytes;
        rv_status status;
    } cases[] = {
        {0, 0, 0, 0, 0, 0, 0, 0, RV_ERR_CONFIG},    {65536, 0, 0, 0, 0, 0, 0, 0, RV_ERR_CONFIG},
        {65535, 0, 0, 0, 0, 0, 0, 0, RV_OK},        {8, 0, 0, 0, 0, 1, 0, 0, RV_ERR_CONFIG},
        {8, 0, 0, 0, 0, 101, 0, 0, RV_ERR_CONFIG},  {8, 0, 0, 0, 0, 2, 0, 0, RV_OK},
        {8, 0, 0, 0, 0, 100, 0, 0, RV_OK},          {8, 0, 0, 0, 0, 20, 19, 0, RV_ERR_CONFIG},
        {8, 0, 0, 0, 0, 20, 20, 0, RV_OK},          {8, 0, 0, 0, 0, 0, 4097, 0, RV_ERR_CONFIG},
        {8, 0, 0, 6, 0, 0, 0, 0, RV_ERR_CONFIG},    {8, 0, 0, -1, 0, 0, 0, 0, RV_ERR_CONFIG},
        {8, 8, 0, 0, 0, 0, 0, 0, RV_ERR_CONFIG},    {8, 0, 5, 0, 0, 0, 0, 0, RV_ERR_CONFIG},
        {8, 5, 0, 0, 0, 0, 0, 0, RV_ERR_CONFIG},    {8, 0, 4, 0, 0, 0, 0, 0, RV_ERR_CONFIG},
        {8, 3, 0, 2, 0, 0, 0, 0, RV_ERR_CONFIG},    {8, 0, 0, 2, 0, 0, 0, 63, RV_ERR_CONFIG},
        {8, 0, 0, 2, 0, 0, 0, 8192, RV_ERR_CONFIG}, {8, 0, 0, 2, 0, 0, 0, 64, RV_OK},
        {8, 3, 0, 0, 1, 0, 0, 0, RV_ERR_CONFIG},    {8, 0, 0, 1, 1, 0, 0, 0, RV_ERR_CONFIG},
        {8, 7, 0, 0, 0, 0, 0, 0, RV_ERR_CONFIG},
        {8, 0, RV_DTYPE_U8, 1, 0, 0, 0, 0, RV_ERR_CONFIG},
    };
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(cases); i++) {
        rv_test_row("case", i);
        config_of(&config, cases[i].dim);
        config.metric = (rv_metric)cases[i].metric;
        config.type = (rv_dtype)cases[i].type;
        config.codes = (rv_hnsw_codes)cases[i].codes;
        config.drop_vectors = cases[i].drop;
        config.m = cases[i].m;
        config.ef_construction = cases[i].efc;
        config.code_bytes = cases[i].code_bytes;
        index = NULL;
        RV_EQUAL(rv_hnsw_create(&ctx, &config, &index), cases[i].status);
        RV_EQUAL(ctx.status, cases[i].status);
        RV_EQUAL(ctx.message[0] != 0, cases[i].status != RV_OK);
        RV_EQUAL(index != NULL, cases[i].status == RV_OK);
        if (cases[i].type == (int)RV_DTYPE_U8)
            RV_CHECK(strstr(ctx.message, "f32, f16, bf16, i8 and u1") != NULL);
        rv_hnsw_destroy(index);
    }
    config_of(&config, 8);
    config.capacity = 0x7FFFFFFFu;
    RV_EQUAL(rv_hnsw_create(&ctx, &config, &index), RV_ERR_CONFIG);
    RV_EQUAL(rv_hnsw_create(&ctx, NULL, &index), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_create(&ctx, &config, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_create(NULL, NULL, NULL), RV_ERR_ARG);
}

static void test_null_arguments(void)
{
    static const float row[4] = {1, 2, 3, 4};
    rv_hnsw_config config;
    rv_hnsw_iter *iter = NULL;
    rv_hnsw *index;
    rv_hit hit;
    float out[4];
    size_t n = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    config_of(&config, 4);
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, 0, row));
    RV_EQUAL(rv_hnsw_add(&ctx, NULL, 0, row), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_add(&ctx, index, 1, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_update(&ctx, index, 0, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_update(&ctx, NULL, 0, row), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_upsert(&ctx, NULL, 0, row), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_remove(&ctx, NULL, 0), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_get(&ctx, index, 0, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_get(&ctx, NULL, 0, out), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_get(&ctx, index, 9, out), RV_ERR_NOT_FOUND);
    RV_EQUAL(rv_hnsw_build(&ctx, NULL, NULL, row, 1), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_build(&ctx, index, NULL, NULL, 1), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_build(&ctx, index, NULL, row, 1), RV_ERR_ARG); /* keys wanted: it has rows */
    RV_EQUAL(rv_hnsw_build(&ctx, index, NULL, row, 0x7FFFFFFFu), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_reserve(&ctx, NULL, 1), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_reserve(&ctx, index, SIZE_MAX), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_compact(&ctx, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search(&ctx, NULL, row, 1, 0, &hit, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search(&ctx, index, NULL, 1, 0, &hit, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search(&ctx, index, row, 1, 0, NULL, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search(&ctx, index, row, 1, 0, &hit, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search_batch(&ctx, NULL, row, 1, 1, NULL, &hit, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search_batch(&ctx, index, NULL, 1, 1, NULL, &hit, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search_batch(&ctx, index, row, 1, 1, NULL, NULL, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search_batch(&ctx, index, row, 1, 1, NULL, &hit, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_range(&ctx, NULL, row, 1, NULL, &hit, 1, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_range(&ctx, index, NULL, 1, NULL, &hit, 1, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_range(&ctx, index, row, 1, NULL, NULL, 1, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_range(&ctx, index, row, 1, NULL, &hit, 1, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_iter_create(&ctx, NULL, row, NULL, &iter), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_iter_create(&ctx, index, NULL, NULL, &iter), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_iter_create(&ctx, index, row, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_iter_next(&ctx, NULL, &hit), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_check(&ctx, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_save(&ctx, NULL, NULL, 0, &n), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_save(&ctx, index, NULL, 0, NULL), RV_ERR_ARG);
    RV_CHECK(iter == NULL);
    rv_hnsw_destroy(index);
}

static void test_search_arguments(void)
{
    rv_hnsw_options options;
    rv_hnsw_trace trace;
    rv_hnsw_config config;
    rv_filter filter;
    rv_hnsw *index;
    hnsw_set set;
    rv_hit hits[100];
    size_t n_hits = 0;
    float bad[8];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 60, 1, 8, 30);
    config_of(&config, 8);
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, 60));
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.queries, 0, 0, NULL, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.queries, 100, 0, hits, &n_hits));
    RV_EQUAL(n_hits, 60); /* k > n */
    hnsw_check_hits(hits, n_hits, NULL, NULL);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.queries, 20, 1, hits, &n_hits));
    RV_EQUAL(n_hits, 20); /* ef < k is raised */
    RV_OKAY(NULL, rv_hnsw_search(NULL, index, set.queries, 5, 1u << 20, hits, &n_hits));
    RV_EQUAL(n_hits, 5);
    RV_EQUAL(rv_hnsw_search(&ctx, index, set.queries, 5, (1u << 20) + 1, hits, &n_hits),
             RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search(&ctx, index, set.queries, 5, SIZE_MAX, hits, &n_hits), RV_ERR_ARG);
    memset(&options, 0, sizeof options);
    memset(&filter, 0, sizeof filter);
    options.trace = &trace;
    options.rerank = 3;
    RV_OKAY(&ctx, rv_hnsw_search_with(&ctx, index, set.queries, 5, &options, hits, &n_hits));
    RV_EQUAL(n_hits, 5);
    RV_CHECK(trace.hops > 0 && trace.distances >= 5 && !trace.scanned);
    options.filter = &filter; /* all zero: everything passes */
    RV_OKAY(&ctx, rv_hnsw_search_with(&ctx, index, set.queries, 5, &options, hits, &n_hits));
    RV_EQUAL(n_hits, 5);
    filter.selectivity = 1.5;
    RV_EQUAL(rv_hnsw_search_with(&ctx, index, set.queries, 5, &options, hits, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_search_batch(&ctx, index, set.queries, 1, 5, &options, hits, &n_hits),
             RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_range(&ctx, index, set.queries, 1, &options, hits, 5, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_range(&ctx, index, set.queries, NAN, NULL, hits, 5, &n_hits), RV_ERR_ARG);
    for (size_t i = 0; i < 3; i++) {
        memcpy(bad, set.queries, sizeof bad);
        bad[2 * i + 1] = i == 0 ? NAN : i == 1 ? HUGE_VALF : -HUGE_VALF;
        n_hits = 77;
        RV_EQUAL(rv_hnsw_search(&ctx, index, bad, 5, 0, hits, &n_hits), RV_ERR_ARG);
        RV_EQUAL(ctx.where, 2 * i + 1);
        RV_EQUAL(n_hits, 77);
        RV_EQUAL(rv_hnsw_add(&ctx, index, 99, bad), RV_ERR_ARG);
        RV_EQUAL(ctx.where, 2 * i + 1);
        RV_EQUAL(rv_hnsw_update(&ctx, index, 1, bad), RV_ERR_ARG);
        RV_EQUAL(rv_hnsw_range(&ctx, index, bad, 1, NULL, hits, 5, &n_hits), RV_ERR_ARG);
        memcpy(set.rows + 8, bad, sizeof bad);
        RV_EQUAL(rv_hnsw_search_batch(&ctx, index, set.rows, 3, 5, NULL, hits, &n_hits),
                 RV_ERR_ARG);
        RV_EQUAL(ctx.where, 8 + 2 * i + 1);
        RV_EQUAL(rv_hnsw_count(index), 60);
    }
    RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
}

/* A refused build leaves nothing. */
static void test_build_is_all_or_none(void)
{
    static const uint64_t twice[4] = {4, 9, 9, 1}, present[4] = {20, 21, 5, 22},
                          fresh[4] = {20, 21, 6, 22};
    rv_hnsw_config config;
    rv_hnsw *index;
    hnsw_set set;
    rv_hit hits[10];
    size_t n_hits = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 10, 1, 20, 31);
    config_of(&config, 20);
    index = make(&ctx, &config);
    RV_EQUAL(rv_hnsw_build(&ctx, index, twice, set.rows, 4), RV_ERR_EXISTS);
    set.rows[45] = NAN;
    RV_EQUAL(rv_hnsw_build(&ctx, index, NULL, set.rows, 4), RV_ERR_ARG);
    RV_EQUAL(ctx.where, 45);
    set.rows[45] = 0;
    RV_EQUAL(rv_hnsw_count(index), 0);
    RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, 5, set.rows));
    RV_EQUAL(rv_hnsw_add(&ctx, index, 5, set.rows), RV_ERR_EXISTS);
    RV_EQUAL(rv_hnsw_build(&ctx, index, present, set.rows, 4), RV_ERR_EXISTS);
    RV_EQUAL(rv_hnsw_count(index), 1);
    RV_EQUAL(rv_hnsw_contains(index, 20), 0);
    RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, fresh, set.rows, 4));
    RV_EQUAL(rv_hnsw_count(index), 5);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.rows + 40, 10, 0, hits, &n_hits));
    RV_EQUAL(n_hits, 5);
    RV_EQUAL(hits[0].key, 6);
    RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
}

/* The image of an index; malloced. */
static unsigned char *image_of(rv_ctx *ctx, const rv_hnsw *index, size_t *bytes)
{
    unsigned char *image;
    RV_OKAY(ctx, rv_hnsw_save(ctx, index, NULL, 0, bytes));
    image = (unsigned char *)malloc(*bytes);
    if (!image) exit(2);
    RV_OKAY(ctx, rv_hnsw_save(ctx, index, image, *bytes, bytes));
    return image;
}

/* A build into a filled index, of at least a quarter of its rows, leaves the bits that a build of
   all its rows in an empty one has; of fewer, a valid graph. */
static void test_build_more(void)
{
    enum { D = 20, N = 900, FIRST = 500 };
    static const rv_hnsw_codes kinds[] = {RV_HNSW_CODES_AUTO, RV_HNSW_CODES_NONE,
                                          RV_HNSW_CODES_SQ8, RV_HNSW_CODES_RABITQ};
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, N, 20, D, 77);
    for (size_t c = 0; c < RV_COUNT_OF(kinds) * 2; c += RV_TEST_SCALE > 4 ? 3 : 1) {
        const int holes = c % 2;
        uint64_t keys[N], left[N];
        float *rows = (float *)malloc(N * D * sizeof(float));
        unsigned char *images[2];
        size_t bytes[2], n = 0;
        rv_hnsw_config config;
        rv_hnsw *index, *fresh;
        if (!rows) exit(2);
        rv_test_row("codes, holes", 10 * (c / 2) + c % 2);
        for (size_t i = 0; i < N; i++) keys[i] = holes ? 3 * i : i;
        config_of(&config, D);
        config.codes = kinds[c / 2];
        index = make(&ctx, &config);
        fresh = make(&ctx, &config);
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, keys, set.rows, FIRST));
        for (size_t i = 0; i < N; i++) {
            if (holes && i < FIRST && i % 50 == 3) {
                RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, keys[i]));
                continue;
            }
            memcpy(rows + n * D, set.rows + i * D, D * sizeof(float));
            left[n++] = keys[i];
        }
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, keys + FIRST, set.rows + FIRST * D, N - FIRST));
        RV_EQUAL(rv_hnsw_count(index), n);
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, fresh, left, rows, n));
        images[0] = image_of(&ctx, index, &bytes[0]);
        images[1] = image_of(&ctx, fresh, &bytes[1]);
        RV_EQUAL(bytes[0], bytes[1]);
        RV_EQUAL(memcmp(images[0], images[1], bytes[0] < bytes[1] ? bytes[0] : bytes[1]), 0);
        keys[0] = 100000;
        keys[1] = 100001;
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, keys, set.rows, 2));
        RV_EQUAL(rv_hnsw_count(index), n + 2);
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_EQUAL(rv_hnsw_build(&ctx, index, NULL, set.rows, N), RV_ERR_ARG);
        RV_EQUAL(rv_hnsw_build(&ctx, index, left, set.rows, n), RV_ERR_EXISTS);
        RV_EQUAL(rv_hnsw_count(index), n + 2);
        free(images[0]);
        free(images[1]);
        rv_hnsw_destroy(index);
        rv_hnsw_destroy(fresh);
        free(rows);
    }
    hnsw_set_free(&set);
}

/* ---- edits ---- */

/* Half of the rows go, their places are taken by others; recall stays near that of a fresh
   build. */
static void test_remove_half_and_add_again(void)
{
    static const rv_hnsw_codes kinds[] = {RV_HNSW_CODES_AUTO, RV_HNSW_CODES_NONE,
                                          RV_HNSW_CODES_RABITQ};
    enum { D = 32 };
    const size_t n = HNSW_ROWS(1600u, 600u, 400u);
    hnsw_set set, more;
    float *rows = (float *)malloc(n * D * sizeof(float));
    rv_ctx ctx;
    if (!rows) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n + n / 2, 60, D, 40);
    memset(&more, 0, sizeof more);
    for (size_t c = 0; c < RV_COUNT_OF(kinds); c++) {
        rv_hnsw_config config;
        rv_hnsw_stats stats;
        rv_hnsw *index, *fresh;
        double edited, built;
        size_t bytes;
        rv_test_row("codes", c);
        config_of(&config, D);
        config.codes = kinds[c];
        index = make(&ctx, &config);
        fresh = make(&ctx, &config);
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, n));
        memcpy(rows, set.rows, n * D * sizeof(float));
        bytes = rv_hnsw_bytes(index);
        for (size_t i = 0; i < n; i += 2) {
            RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, i));
            RV_EQUAL(rv_hnsw_contains(index, i), 0);
            if (i % 500 == 100) RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        }
        RV_EQUAL(rv_hnsw_count(index), n - (n + 1) / 2);
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        for (size_t i = 0; i < n; i += 2) {
            memcpy(rows + i * D, set.rows + (n + i / 2 < set.n ? n + i / 2 : i) * D,
                   D * sizeof(float));
            RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i, rows + i * D));
        }
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_EQUAL(rv_hnsw_count(index), n);
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, fresh, NULL, rows, n));
        edited = recall_of(&ctx, index, RV_METRIC_L2, rows, n, &set, NULL, 40);
        built = recall_of(&ctx, fresh, RV_METRIC_L2, rows, n, &set, NULL, 40);
        if (getenv("RV_HNSW_SHOW"))
            printf("codes %d: edited %.4f, fresh %.4f\n", (int)kinds[c], edited, built);
        RV_CHECK(edited >= built - 0.01);
        RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_CHECK(recall_of(&ctx, index, RV_METRIC_L2, rows, n, &set, NULL, 40) >= built - 0.01);
        rv_hnsw_stats_get(index, &stats);
        RV_EQUAL(stats.removed, 0);
        RV_EQUAL(stats.level_count[0], n);
        RV_CHECK(rv_hnsw_bytes(index) <= 2 * bytes);
        rv_hnsw_destroy(index);
        rv_hnsw_destroy(fresh);
    }
    hnsw_set_free(&set);
    free(rows);
}

/* What was removed is never returned, whatever happens around it. */
static void test_random_edits(void)
{
    enum { D = 24, KEYS = 400 };
    const size_t steps = RV_SCALED(4000u, 800u);
    uint8_t present[KEYS];
    uint32_t row_of[KEYS];
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 1000, 1, D, 50);
    for (size_t variant = 0; variant < 3; variant++) {
        rv_hnsw_config config;
        rv_hnsw *index;
        rv_test_rng rng;
        size_t count = 0;
        memset(present, 0, sizeof present);
        memset(row_of, 0, sizeof row_of);
        config_of(&config, D);
        config.m = variant == 1 ? 4 : 0;
        config.metric = variant == 2 ? RV_METRIC_COSINE : RV_METRIC_L2;
        index = make(&ctx, &config);
        rv_test_seed(&rng, 51 + variant);
        for (size_t step = 0; step < steps; step++) {
            const size_t what = rv_test_below(&rng, 10), key = rv_test_below(&rng, KEYS);
            const uint32_t row = (uint32_t)rv_test_below(&rng, set.n);
            const float *vector = set.rows + row * D;
            rv_test_row("step", step);
            if (what < 3) {
                RV_EQUAL(rv_hnsw_add(&ctx, index, key, vector),
                         present[key] ? RV_ERR_EXISTS : RV_OK);
            } else if (what < 6) {
                RV_EQUAL(rv_hnsw_remove(&ctx, index, key), present[key] ? RV_OK : RV_ERR_NOT_FOUND);
                count -= present[key];
                present[key] = 0;
                continue;
            } else if (what < 7) {
                RV_EQUAL(rv_hnsw_update(&ctx, index, key, vector),
                         present[key] ? RV_OK : RV_ERR_NOT_FOUND);
                if (present[key]) row_of[key] = row;
                continue;
            } else if (what < 8) {
                RV_OKAY(&ctx, rv_hnsw_upsert(&ctx, index, key, vector));
                if (present[key]) row_of[key] = row;
            } else {
                rv_hit hits[20];
                size_t n_hits = 0, want = count < 20 ? count : 20;
                RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, vector, 20, 60, hits, &n_hits));
                RV_EQUAL(n_hits, want);
                hnsw_check_hits(hits, n_hits, NULL, NULL);
                for (size_t i = 0; i < n_hits; i++) {
                    double mass, d;
                    RV_CHECK(hits[i].key < KEYS && present[hits[i].key]);
                    if (hits[i].key >= KEYS) continue;
                    d = hnsw_exact(config.metric, vector, set.rows + row_of[hits[i].key] * D, D,
                                   &mass);
                    RV_NEAR((double)hits[i].distance, d, mass * 4 * sqrt((double)D) / 8388608.0);
                }
                if (what == 9 && step % 97 == 0) RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
                if (step % 7 == 0) RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
                continue;
            }
            if (!present[key]) {
                present[key] = 1;
                row_of[key] = row;
                count++;
            }
            RV_EQUAL(rv_hnsw_count(index), count);
        }
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        rv_hnsw_destroy(index);
    }
    hnsw_set_free(&set);
}

/* An update moves the row; the same key is found at the new place only. */
/* Rows in clusters with nothing between them: a walk that starts in the wrong one ends there, so
   that a query finds none of its neighbours. */
static void test_separate_clusters(void)
{
    static const size_t clusters[] = {12, 40, 100};
    const size_t n = RV_SCALED(4000, 600), dim = 32, n_queries = RV_SCALED(200, 40);
    for (size_t c = 0; c < RV_COUNT_OF(clusters); c++) {
        rv_hnsw_config config;
        rv_ctx ctx;
        rv_hnsw *index = NULL;
        rv_test_rng rng;
        size_t found = 0, missed = 0;
        float *centre = (float *)malloc(clusters[c] * dim * sizeof(float));
        float *rows = (float *)malloc((n + n_queries) * dim * sizeof(float));
        if (!centre || !rows) exit(2);
        rv_test_ctx(&ctx);
        config_of(&config, (uint32_t)dim);
        rv_test_seed(&rng, 60 + c);
        rv_test_fill(&rng, centre, clusters[c] * dim);
        rv_test_fill(&rng, rows, (n + n_queries) * dim);
        for (size_t i = 0; i < n + n_queries; i++) {
            const float *at = centre + rv_test_below(&rng, clusters[c]) * dim;
            for (size_t j = 0; j < dim; j++) rows[i * dim + j] += 4.0f * at[j];
        }
        rv_test_row("clusters", clusters[c]);
        index = make(&ctx, &config);
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, rows, n));
        for (size_t q = 0; q < n_queries; q++) {
            const float *query = rows + (n + q) * dim;
            double last = hnsw_kth(RV_METRIC_L2, rows, n, dim, query, K, NULL, NULL);
            rv_hit hits[K];
            size_t n_hits, good;
            RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, K, 40, hits, &n_hits));
            good = hnsw_found(RV_METRIC_L2, rows, dim, query, hits, n_hits, last);
            found += good;
            missed += good == 0;
        }
        RV_EQUAL(missed, 0);
        RV_CHECK(found >= n_queries * K * 95 / 100);
        rv_hnsw_destroy(index);
        free(centre);
        free(rows);
    }
}

/* Most rows span all axes but the last eight; one in forty lies in those eight alone. Leading
   components that serve all others well would leave such rows at one point, and a query among them
   would find any of them. */
static void test_stray_rows(void)
{
    enum { SIZE = 64, MAIN = 56 };
    const size_t n = RV_SCALED(8000, 1000), n_queries = 40;
    rv_hnsw_config config;
    rv_hnsw_stats stats;
    rv_ctx ctx;
    rv_hnsw *index = NULL;
    rv_test_rng rng;
    size_t found = 0;
    float *rows = (float *)calloc((n + n_queries) * SIZE, sizeof(float));
    if (!rows) exit(2);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 77);
    for (size_t i = 0; i < n + n_queries; i++) {
        const int stray = i >= n || i % 40 == 0;
        rv_test_fill(&rng, rows + i * SIZE + (stray ? MAIN : 0), stray ? SIZE - MAIN : MAIN);
    }
    config_of(&config, SIZE);
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, rows, n));
    rv_hnsw_stats_get(index, &stats);
    RV_EQUAL(stats.code_dim, SIZE);
    for (size_t q = n; q < n + n_queries; q++) {
        const float *query = rows + q * SIZE;
        double last = hnsw_kth(RV_METRIC_L2, rows, n, SIZE, query, K, NULL, NULL);
        rv_hit hits[K];
        size_t n_hits;
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, query, K, 60, hits, &n_hits));
        found += hnsw_found(RV_METRIC_L2, rows, SIZE, query, hits, n_hits, last);
    }
    RV_CHECK(found >= n_queries * K * 95 / 100);
    rv_hnsw_destroy(index);
    free(rows);
}

/* Few distinct vectors, many rows of each: lists are full of ties, and one link too many taken from
   a list cuts rows off. The check proves that every row is reached, in every state. */
static void test_few_distinct_vectors(void)
{
    static const struct {
        uint32_t dim, distinct, m;
    } cases[] = {{2, 2, 0}, {16, 32, 0}, {16, 300, 4}, {24, 8, 3}};
    const size_t n = RV_SCALED(2000, 400);
    for (size_t c = 0; c < RV_COUNT_OF(cases); c++) {
        for (uint64_t seed = 1; seed <= 3; seed++) {
            rv_hnsw_config config;
            rv_ctx ctx;
            rv_hnsw *index = NULL;
            rv_hnsw_iter *iter = NULL;
            rv_test_rng rng;
            rv_hit hit;
            const size_t dim = cases[c].dim;
            float *rows = (float *)malloc(n * dim * sizeof(float));
            uint64_t *keys = (uint64_t *)malloc(n * sizeof(uint64_t));
            size_t count = 0;
            if (!rows || !keys) exit(2);
            memset(&ctx, 0, sizeof ctx);
            memset(&config, 0, sizeof config);
            config.dim = cases[c].dim;
            config.m = cases[c].m;
            rv_test_seed(&rng, seed);
            rv_test_fill(&rng, rows, cases[c].distinct * dim);
            for (size_t i = 0; i < n; i++) {
                size_t from = i < cases[c].distinct ? i : rv_test_below(&rng, cases[c].distinct);
                memmove(rows + i * dim, rows + from * dim, dim * sizeof(float));
                keys[i] = i;
            }
            rv_test_row("case, seed", 10 * c + (size_t)seed);
            RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
            RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, keys, rows, n / 2));
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
            for (size_t i = n / 2; i < n; i++) {
                RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i, rows + i * dim));
                if (i % 64 == 0) RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
            }
            for (size_t i = 0; i < n; i += 3)
                RV_OKAY(&ctx, rv_hnsw_update(&ctx, index, i, rows + (n - 1 - i) * dim));
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
            for (size_t i = 1; i < n; i += 3) RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, i));
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
            RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
            RV_OKAY(&ctx, rv_hnsw_iter_create(&ctx, index, rows, NULL, &iter));
            while (rv_hnsw_iter_next(&ctx, iter, &hit) == RV_OK) count++;
            RV_EQUAL(count, rv_hnsw_count(index));
            rv_hnsw_iter_destroy(iter);
            rv_hnsw_destroy(index);
            free(rows);
            free(keys);
        }
    }
}

/* The first node of a new highest layer becomes the entry, and compaction draws the layers anew:
   from wherever the walk starts, all rows are reached. */
static void test_entries(void)
{
    const size_t n = RV_SCALED(3000, 400), dim = 6;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        rv_hnsw_config config;
        rv_ctx ctx;
        rv_hnsw *index = NULL;
        rv_hnsw_stats stats;
        rv_test_rng rng;
        uint32_t levels = 0, rises = 0;
        float *rows = (float *)malloc(n * dim * sizeof(float));
        if (!rows) exit(2);
        memset(&ctx, 0, sizeof ctx);
        memset(&config, 0, sizeof config);
        ctx.seed = seed;
        config.dim = (uint32_t)dim;
        config.m = 2;
        config.ef_construction = 4;
        rv_test_seed(&rng, seed);
        rv_test_fill(&rng, rows, n * dim);
        rv_test_row("seed", (size_t)seed);
        RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
        for (size_t i = 0; i < n; i++) {
            RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i, rows + i * dim));
            rv_hnsw_stats_get(index, &stats);
            if (stats.n_levels == levels) continue;
            levels = stats.n_levels;
            rises++;
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        }
        RV_CHECK(rises >= 2);
        for (size_t step = 2; step < 6; step++) {
            for (size_t i = 0; i < n; i += step) (void)rv_hnsw_remove(&ctx, index, i);
            RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        }
        rv_hnsw_destroy(index);
        free(rows);
    }
}

static void test_update(void)
{
    rv_hnsw_config config;
    rv_hnsw *index;
    hnsw_set set;
    rv_hit hits[3];
    float row[20], back[20];
    size_t n_hits = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, RV_SCALED(800u, 200u), 1, 20, 60);
    config_of(&config, 20);
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, set.n));
    for (size_t i = 0; i < 20; i++) row[i] = 50.0f + (float)i;
    RV_OKAY(&ctx, rv_hnsw_update(&ctx, index, 7, row));
    RV_EQUAL(rv_hnsw_count(index), set.n);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, row, 3, 0, hits, &n_hits));
    RV_EQUAL(hits[0].key, 7);
    RV_NEAR((double)hits[0].distance, 0, 0);
    RV_OKAY(&ctx, rv_hnsw_get(&ctx, index, 7, back));
    RV_CHECK(memcmp(back, row, sizeof row) == 0);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.rows + 7 * 20, 3, 0, hits, &n_hits));
    RV_CHECK(hits[0].key != 7 && hits[1].key != 7 && hits[2].key != 7);
    RV_EQUAL(rv_hnsw_update(&ctx, index, 99999, row), RV_ERR_NOT_FOUND);
    RV_OKAY(&ctx, rv_hnsw_upsert(&ctx, index, 99999, row));
    RV_EQUAL(rv_hnsw_count(index), set.n + 1);
    RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, row, 2, 0, hits, &n_hits));
    RV_EQUAL(hits[0].key, 7);
    RV_EQUAL(hits[1].key, 99999);
    RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
}

/* All rows go, in any order, and others come. */
static void test_remove_all(void)
{
    const size_t n = HNSW_ROWS(500u, 200u, 150u);
    rv_hnsw_config config;
    rv_hnsw *index;
    hnsw_set set;
    rv_hit hits[5];
    size_t n_hits = 9;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, 2, 20, 70);
    config_of(&config, 20);
    index = make(&ctx, &config);
    RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, n));
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < n; i++) {
            RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, i * 7 % n));
            if (i % 50 == 0) RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        }
        RV_EQUAL(rv_hnsw_count(index), 0);
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.queries, 5, 0, hits, &n_hits));
        RV_EQUAL(n_hits, 0);
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        if (round == 1) {
            RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        }
        if (round == 2) {
            RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, n));
        } else {
            for (size_t i = 0; i < n; i++)
                RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i, set.rows + i * 20));
        }
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.rows, 5, 0, hits, &n_hits));
        RV_EQUAL(n_hits, 5);
        RV_EQUAL(hits[0].key, 0);
    }
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
}

int main(void)
{
    rv_test_begin("hnsw");
    RV_RUN(test_recall_of_all);
    RV_RUN(test_recall_of_bits);
    RV_RUN(test_custom_metric);
    RV_RUN(test_recall_of_adds);
    RV_RUN(test_empty);
    RV_RUN(test_one_row);
    RV_RUN(test_dim_one);
    RV_RUN(test_equal_rows);
    RV_RUN(test_zero_vectors_under_cosine);
    RV_RUN(test_config);
    RV_RUN(test_null_arguments);
    RV_RUN(test_search_arguments);
    RV_RUN(test_build_is_all_or_none);
    RV_RUN(test_remove_half_and_add_again);
    RV_RUN(test_random_edits);
    RV_RUN(test_separate_clusters);
    RV_RUN(test_stray_rows);
    RV_RUN(test_few_distinct_vectors);
    RV_RUN(test_entries);
    RV_RUN(test_update);
    RV_RUN(test_build_more);
    RV_RUN(test_remove_all);
    return rv_test_end();
}
