/* The inverted file against brute force in double, its verbs, and what a caller can do wrong. */
#include "ivf_set.h"

/* ---- recall ---- */

/* With all lists and all candidates measured an index is exact; fewer of either keep what is stated
   here. */
static void one_combination(rv_metric metric, rv_ivf_codes codes)
{
    ivf_bed b;
    rv_ivf_options options;
    rv_ivf_trace trace;
    rv_ivf_stats stats;
    double kth[IVF_QUERIES], half, few, one;
    if (!ivf_bed_open(&b, metric, codes, RV_SCALED(1500u, 600u), ivf_is_bits(metric) ? 130 : 70))
        return;
    for (size_t q = 0; q < b.n_queries; q++) kth[q] = ivf_bed_kth(&b, q, IVF_K, NULL);
    RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, b.index));
    rv_ivf_stats_get(b.index, &stats);
    RV_EQUAL(stats.count, b.n);
    RV_EQUAL(stats.n_lists, (size_t)(sqrt((double)b.n) + 0.5));
    RV_CHECK(stats.largest * stats.n_lists >= b.n && stats.smallest * stats.n_lists <= b.n);
    RV_CHECK((stats.row_code_bytes > 0) ==
             (metric <= RV_METRIC_COSINE && codes != RV_IVF_CODES_NONE));
    RV_EQUAL(stats.total_bytes, rv_ivf_bytes(b.index));
    memset(&options, 0, sizeof options);
    options.n_probe = stats.n_lists;
    options.rerank = (uint32_t)b.n;
    options.trace = &trace;
    RV_CHECK(ivf_bed_recall(&b, &options, NULL, kth) == 1);
    RV_EQUAL(trace.lists, stats.n_lists);
    RV_EQUAL(trace.scanned, b.n);
    RV_EQUAL(trace.reranked, b.n);
    options.rerank = 150;
    RV_CHECK(ivf_bed_recall(&b, &options, NULL, kth) >= 0.97);
    options.rerank = 0;
    options.n_probe = stats.n_lists / 2;
    half = ivf_bed_recall(&b, &options, NULL, kth);
    RV_CHECK(trace.lists == stats.n_lists / 2 && trace.scanned < b.n);
    few = ivf_bed_recall(&b, NULL, NULL, kth); /* 8 lists */
    options.n_probe = 1;
    one = ivf_bed_recall(&b, &options, NULL, kth);
    if (getenv("RV_IVF_SHOW")) {
        printf("%s codes %d: recall in half %.3f, in 8 lists %.3f, in one %.3f\n",
               rv_metric_name(metric), (int)codes, half, few, one);
    }
    RV_CHECK(one >= 0.4 && one <= few);
    if (metric <= RV_METRIC_COSINE) RV_CHECK(half >= 0.98 && few >= 0.95);
    else RV_CHECK(half >= 0.95 && few >= 0.85); /* centres are random rows */
    ivf_bed_close(&b);
}

static void test_recall_of_all(void)
{
    for (int metric = (int)RV_METRIC_L2; metric <= (int)RV_METRIC_CUSTOM; metric++) {
        for (int codes = 0; codes <= ivf_last_codes((rv_metric)metric); codes++) {
            rv_test_row(rv_metric_name((rv_metric)metric), (size_t)codes);
            one_combination((rv_metric)metric, (rv_ivf_codes)codes);
        }
    }
}

/* With many lists of many dimensions the nearest are chosen by the bytes of their centres first. */
static void test_recall_of_many_lists(void)
{
    for (int metric = (int)RV_METRIC_L2; metric <= (int)RV_METRIC_COSINE; metric++) {
        ivf_bed b;
        rv_ivf_options options;
        rv_ivf_trace trace;
        double recall;
        rv_test_row(rv_metric_name((rv_metric)metric), 0);
        ivf_bed_make(&b, (rv_metric)metric, RV_IVF_CODES_AUTO, RV_SCALED(1500u, 900u), 70);
        b.config.n_lists = 100;
        RV_OKAY(&b.ctx, rv_ivf_create(&b.ctx, &b.config, &b.index));
        RV_OKAY(&b.ctx, rv_ivf_build(&b.ctx, b.index, NULL, b.rows, b.n));
        memset(&options, 0, sizeof options);
        options.trace = &trace;
        options.n_probe = 12;
        recall = ivf_bed_recall(&b, &options, NULL, NULL);
        RV_EQUAL(trace.lists, 12);
        RV_CHECK(trace.scanned < b.n / 3);
        if (getenv("RV_IVF_SHOW")) printf("many lists, metric %d: recall %.3f\n", metric, recall);
        RV_CHECK(recall >= 0.9);
        ivf_bed_close(&b);
    }
}

/* Before it is trained an index is exact, whatever it holds. */
static void test_untrained(void)
{
    for (size_t n = 0; n < 40; n = n * 2 + 1) { /* 0, 1, 3, ... rows */
        ivf_bed b;
        rv_hit hits[64];
        size_t n_hits = 77;
        rv_test_row("rows", n);
        ivf_bed_make(&b, RV_METRIC_L2, RV_IVF_CODES_AUTO, n, 12);
        RV_OKAY(&b.ctx, rv_ivf_create(&b.ctx, &b.config, &b.index));
        for (size_t i = 0; i < n; i++)
            RV_OKAY(&b.ctx, rv_ivf_add(&b.ctx, b.index, i, b.rows + i * b.bytes));
        RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, b.index));
        RV_OKAY(&b.ctx, rv_ivf_search(&b.ctx, b.index, b.queries, 64, 0, hits, &n_hits));
        RV_EQUAL(n_hits, n);
        RV_CHECK(ivf_bed_recall(&b, NULL, NULL, NULL) == 1);
        RV_OKAY(&b.ctx, rv_ivf_search(&b.ctx, b.index, b.queries, 0, 0, NULL, &n_hits));
        RV_EQUAL(n_hits, 0);
        RV_OKAY(&b.ctx, rv_ivf_train(&b.ctx, b.index)); /* too few: stays one list */
        RV_CHECK(ivf_bed_recall(&b, NULL, NULL, NULL) == 1);
        ivf_bed_close(&b);
    }
}

/* All rows equal, then a zero vector among them. */
static void test_duplicates(void)
{
    for (int codes = RV_IVF_CODES_NONE; codes <= RV_IVF_CODES_RABITQ; codes++) {
        for (size_t m = 0; m < 3; m++) {
            static const rv_metric metrics[] = {RV_METRIC_L2, RV_METRIC_IP, RV_METRIC_COSINE};
            float rows[600 * 8], zero[8] = {0};
            rv_ivf_options options;
            rv_ivf_config config;
            rv_ivf *index;
            rv_hit hits[700];
            size_t n_hits = 0;
            rv_ctx ctx;
            rv_test_ctx(&ctx);
            rv_test_row("codes", (size_t)codes * 10 + m);
            for (size_t i = 0; i < RV_COUNT_OF(rows); i++) rows[i] = (float)(i % 8) - 3;
            memset(&config, 0, sizeof config);
            config.dim = 8;
            config.metric = metrics[m];
            config.codes = (rv_ivf_codes)codes;
            RV_OKAY(&ctx, rv_ivf_create(&ctx, &config, &index));
            RV_OKAY(&ctx, rv_ivf_build(&ctx, index, NULL, rows, 600));
            RV_OKAY(&ctx, rv_ivf_check(&ctx, index));
            RV_OKAY(&ctx, rv_ivf_search(&ctx, index, rows, 700, 0, hits, &n_hits));
            RV_EQUAL(n_hits, 600);
            for (size_t i = 0; i < n_hits; i++) RV_EQUAL(hits[i].key, i); /* ties by key */
            RV_OKAY(&ctx, rv_ivf_search(&ctx, index, zero, 3, 0, hits, &n_hits));
            RV_EQUAL(n_hits, 3);
            RV_NEAR(hits[0].distance, m == 0 ? 44 : m == 1 ? 0 : 1, 1e-4); /* 9+4+1+0+1+4+9+16 */
            /* zero vectors among others */
            RV_OKAY(&ctx, rv_ivf_add(&ctx, index, 1000, zero));
            memset(&options, 0, sizeof options);
            options.n_probe = 1000;
            options.rerank = 601; /* codes learned from equal rows know nothing of others */
            RV_OKAY(&ctx, rv_ivf_search_with(&ctx, index, zero, 1, &options, hits, &n_hits));
            RV_NEAR(hits[0].distance, 0, 1e-6);
            RV_OKAY(&ctx, rv_ivf_check(&ctx, index));
            rv_ivf_destroy(index);
        }
    }
}

/* The corners of a cube, each twice, are equally far from its middle: the least keys come first and
   the cut falls between keys, whatever lists they are in. */
static void test_ties(void)
{
    for (int codes = (int)RV_IVF_CODES_NONE; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        static const float middle[8] = {0};
        float rows[512 * 8];
        rv_ivf_config config;
        rv_ivf_options options;
        rv_ivf_stats stats;
        rv_ivf *index;
        rv_hit hits[10];
        size_t n_hits = 0;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("codes", (size_t)codes);
        for (size_t i = 0; i < RV_COUNT_OF(rows); i++)
            rows[i] = (i / 8 * 37 % 256) >> (i % 8) & 1 ? 1.0f : -1.0f;
        memset(&config, 0, sizeof config);
        config.dim = 8;
        config.codes = (rv_ivf_codes)codes;
        RV_OKAY(&ctx, rv_ivf_create(&ctx, &config, &index));
        RV_OKAY(&ctx, rv_ivf_build(&ctx, index, NULL, rows, 512));
        rv_ivf_stats_get(index, &stats);
        RV_CHECK(stats.n_lists > 8 && stats.largest < 256);
        memset(&options, 0, sizeof options);
        options.n_probe = stats.n_lists;
        options.rerank = 512;
        RV_OKAY(&ctx, rv_ivf_search_with(&ctx, index, middle, 10, &options, hits, &n_hits));
        RV_EQUAL(n_hits, 10);
        for (size_t i = 0; i < n_hits; i++) RV_CHECK(hits[i].key == i && hits[i].distance == 8);
        RV_OKAY(&ctx, rv_ivf_range(&ctx, index, middle, 8, &options, hits, 10, &n_hits));
        RV_EQUAL(n_hits, 512);
        for (size_t i = 0; i < 10; i++) RV_CHECK(hits[i].key == i && hits[i].distance == 8);
        rv_ivf_destroy(index);
    }
}

/* Squares of 1e20 overflow a float: the rows of that size are infinitely far and come last, by
   key, but they come. */
static void test_overflow(void)
{
    static const uint32_t infinity = 0x7F800000u;
    enum { N = 400, LARGE = 100, D = 12 };
    for (int codes = (int)RV_IVF_CODES_NONE; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        ivf_bed b;
        rv_ivf_options options;
        rv_ivf_iter *iter = NULL;
        rv_hit hits[N], hit;
        size_t n_hits = 0, given = 0;
        rv_test_row("codes", (size_t)codes);
        ivf_bed_make(&b, RV_METRIC_L2, (rv_ivf_codes)codes, N, D);
        for (size_t i = N - LARGE; i < N; i++) ((float *)(void *)b.rows)[i * D + i % D] = 1e20f;
        b.config.n_lists = 16;
        RV_OKAY(&b.ctx, rv_ivf_create(&b.ctx, &b.config, &b.index));
        RV_OKAY(&b.ctx, rv_ivf_build(&b.ctx, b.index, NULL, b.rows, N));
        memset(&options, 0, sizeof options);
        options.n_probe = 16;
        RV_OKAY(&b.ctx, rv_ivf_search_with(&b.ctx, b.index, b.queries, N, &options, hits, &n_hits));
        RV_EQUAL(n_hits, N);
        RV_EQUAL(ivf_bed_found(&b, 0, hits, N - LARGE, NULL, 1e9), N - LARGE);
        for (size_t i = N - LARGE; i < n_hits; i++) {
            RV_EQUAL(hits[i].key, i);
            RV_CHECK(memcmp(&hits[i].distance, &infinity, 4) == 0);
        }
        RV_OKAY(&b.ctx,
                rv_ivf_range(&b.ctx, b.index, b.queries, HUGE_VALF, &options, hits, N, &n_hits));
        RV_EQUAL(n_hits, N);
        RV_OKAY(&b.ctx, rv_ivf_iter_create(&b.ctx, b.index, b.queries, NULL, &iter));
        while (rv_ivf_iter_next(&b.ctx, iter, &hit) == RV_OK) given++;
        RV_EQUAL(given, N);
        rv_ivf_iter_destroy(iter);
        ivf_bed_close(&b);
    }
}

/* ---- verbs ---- */

/* A row becomes another one. */
static void mutate(ivf_bed *b, rv_test_rng *rng, unsigned char *row)
{
    size_t at = rv_test_below(rng, b->dim);
    if (ivf_is_bits(b->config.metric)) row[at / 8] = (unsigned char)(row[at / 8] ^ 1u << (at % 8));
    else ((float *)(void *)row)[at] += rv_test_f32(rng);
}

/* One random verb; the index must know exactly what the plain table live[n] knows. */
static void one_verb(ivf_bed *b, rv_test_rng *rng, unsigned char *live, size_t *count)
{
    const uint64_t key = rv_test_below(rng, b->n);
    unsigned char *row = b->rows + (size_t)key * b->bytes, *got;
    switch (rv_test_below(rng, 5)) {
    case 0:
        RV_EQUAL(rv_ivf_remove(&b->ctx, b->index, key), live[key] ? RV_OK : RV_ERR_NOT_FOUND);
        *count -= live[key];
        live[key] = 0;
        break;
    case 1:
        RV_EQUAL(rv_ivf_add(&b->ctx, b->index, key, row), live[key] ? RV_ERR_EXISTS : RV_OK);
        *count += !live[key];
        live[key] = 1;
        break;
    case 2:
        mutate(b, rng, row);
        RV_EQUAL(rv_ivf_update(&b->ctx, b->index, key, row), live[key] ? RV_OK : RV_ERR_NOT_FOUND);
        break;
    case 3:
        mutate(b, rng, row);
        RV_OKAY(&b->ctx, rv_ivf_upsert(&b->ctx, b->index, key, row));
        *count += !live[key];
        live[key] = 1;
        break;
    default:
        got = (unsigned char *)ivf_room(b->bytes);
        RV_EQUAL(rv_ivf_contains(b->index, key), live[key]);
        RV_EQUAL(rv_ivf_get(&b->ctx, b->index, key, got), live[key] ? RV_OK : RV_ERR_NOT_FOUND);
        if (live[key]) RV_CHECK(memcmp(got, row, b->bytes) == 0);
        free(got);
        break;
    }
    RV_EQUAL(rv_ivf_count(b->index), *count);
}

/* All rows go, one comes back. */
static void empty_out(ivf_bed *b, unsigned char *live)
{
    for (size_t i = 0; i < b->n; i++) {
        if (live[i]) RV_OKAY(&b->ctx, rv_ivf_remove(&b->ctx, b->index, i));
    }
    RV_OKAY(&b->ctx, rv_ivf_check(&b->ctx, b->index));
    RV_EQUAL(rv_ivf_count(b->index), 0);
    RV_OKAY(&b->ctx, rv_ivf_compact(&b->ctx, b->index));
    RV_OKAY(&b->ctx, rv_ivf_check(&b->ctx, b->index));
    RV_OKAY(&b->ctx, rv_ivf_add(&b->ctx, b->index, 5, b->rows + 5 * b->bytes));
    memset(live, 0, b->n);
    live[5] = 1;
    RV_CHECK(ivf_bed_recall(b, NULL, live, NULL) == 1);
}

static void test_verbs(void)
{
    static const struct {
        rv_metric metric;
        rv_ivf_codes codes;
    } forms[] = {{RV_METRIC_L2, RV_IVF_CODES_NONE},
                 {RV_METRIC_L2, RV_IVF_CODES_PQ},
                 {RV_METRIC_IP, RV_IVF_CODES_RABITQ},
                 {RV_METRIC_HAMMING, RV_IVF_CODES_NONE}};
    const size_t steps = RV_SCALED(3000u, 600u);
    for (size_t f = 0; f < RV_COUNT_OF(forms); f++) {
        ivf_bed b;
        rv_test_rng rng;
        rv_ivf_options options;
        unsigned char *live;
        size_t count;
        rv_test_row("form", f);
        if (!ivf_bed_open(&b, forms[f].metric, forms[f].codes, 500, 20)) return;
        rv_test_seed(&rng, 5 + f);
        live = (unsigned char *)ivf_room(b.n);
        memset(live, 1, b.n);
        count = b.n;
        for (size_t step = 0; step < steps; step++) {
            one_verb(&b, &rng, live, &count);
            if (step % 200 == 199) RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, b.index));
            if (step == steps / 3) RV_OKAY(&b.ctx, rv_ivf_compact(&b.ctx, b.index));
            if (step == steps / 2) RV_OKAY(&b.ctx, rv_ivf_reserve(&b.ctx, b.index, 2000));
            if (step == steps / 3 * 2) RV_OKAY(&b.ctx, rv_ivf_train(&b.ctx, b.index));
        }
        RV_CHECK(count > 100 && count < b.n);
        RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, b.index));
        memset(&options, 0, sizeof options);
        options.n_probe = 1000;
        options.rerank = 1000;
        RV_CHECK(ivf_bed_recall(&b, &options, live, NULL) == 1);
        empty_out(&b, live);
        free(live);
        ivf_bed_close(&b);
    }
}

/* Half removed and added again is as good as new; a second build adds. */
static void test_churn(void)
{
    ivf_bed b;
    rv_ivf_options options;
    double before, after;
    uint64_t keys[3] = {5000, 5001, 5002}, twice[2] = {7, 6000};
    if (!ivf_bed_open(&b, RV_METRIC_L2, RV_IVF_CODES_AUTO, RV_SCALED(1200u, 600u), 48)) return;
    memset(&options, 0, sizeof options);
    options.n_probe = 12;
    before = ivf_bed_recall(&b, &options, NULL, NULL);
    for (size_t i = 0; i < b.n; i += 2) RV_OKAY(&b.ctx, rv_ivf_remove(&b.ctx, b.index, i));
    for (size_t i = 0; i < b.n; i += 2)
        RV_OKAY(&b.ctx, rv_ivf_add(&b.ctx, b.index, i, b.rows + i * b.bytes));
    after = ivf_bed_recall(&b, &options, NULL, NULL);
    RV_NEAR(after, before, 0.01);
    RV_OKAY(&b.ctx, rv_ivf_build(&b.ctx, b.index, keys, b.rows, 3));
    RV_EQUAL(rv_ivf_count(b.index), b.n + 3);
    RV_EQUAL(rv_ivf_build(&b.ctx, b.index, twice, b.rows, 2), RV_ERR_EXISTS);
    RV_EQUAL(rv_ivf_count(b.index), b.n + 3); /* all or none */
    RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, b.index));
    RV_CHECK(!rv_ivf_contains(b.index, 6000));
    for (size_t i = 0; i < 3; i++) RV_OKAY(&b.ctx, rv_ivf_remove(&b.ctx, b.index, 5000 + i));
    RV_CHECK(ivf_bed_recall(&b, &options, NULL, NULL) >= before - 0.01);
    ivf_bed_close(&b);
}

/* Rows 100..599 in one build, from the last to the first. */
static void build_turned(ivf_bed *b)
{
    unsigned char *turned = (unsigned char *)ivf_room(500 * b->bytes);
    uint64_t keys[500];
    for (size_t i = 0; i < 500; i++) {
        keys[i] = 599 - i;
        memcpy(turned + i * b->bytes, b->rows + (599 - i) * b->bytes, b->bytes);
    }
    RV_OKAY(&b->ctx, rv_ivf_remove(&b->ctx, b->index, 50));
    RV_OKAY(&b->ctx, rv_ivf_build(&b->ctx, b->index, keys, turned, 500));
    RV_OKAY(&b->ctx, rv_ivf_add(&b->ctx, b->index, 50, b->rows + 50 * b->bytes));
    free(turned);
}

/* Rows added one by one, then trained; rows added before a first build stay. */
static void test_train_later(void)
{
    ivf_bed b;
    rv_ivf_options options;
    rv_ivf_stats stats;
    memset(&options, 0, sizeof options);
    options.n_probe = 1000;
    options.rerank = 1000;
    memset(&b, 0, sizeof b);
    rv_test_ctx(&b.ctx);
    b.config.dim = 16;
    b.config.n_lists = 30;
    b.n = 600;
    b.n_queries = 10;
    ivf_bed_fill(&b, 8);
    for (int way = 0; way < 2; way++) {
        RV_OKAY(&b.ctx, rv_ivf_create(&b.ctx, &b.config, &b.index));
        for (size_t i = 0; i < (way ? 100u : b.n); i++) {
            RV_OKAY(&b.ctx, rv_ivf_add(&b.ctx, b.index, i, b.rows + i * b.bytes));
        }
        if (way) {
            build_turned(&b);
        } else {
            RV_OKAY(&b.ctx, rv_ivf_train(&b.ctx, b.index));
        }
        rv_ivf_stats_get(b.index, &stats);
        RV_EQUAL(stats.n_lists, 30);
        RV_EQUAL(stats.count, 600);
        RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, b.index));
        RV_CHECK(ivf_bed_recall(&b, &options, NULL, NULL) == 1);
        rv_ivf_destroy(b.index);
    }
    b.index = NULL;
    ivf_bed_close(&b);
}

/* ---- how vectors are kept ---- */

/* Vectors in narrow types: what rv_ivf_get returns is near the row, and the distances are those of
   what it returns. */
static void test_types(void)
{
    /* of an element: half of the last digit (elements stay below 2), half of a byte's step */
    static const double rounding[] = {0, 1.0 / 1024, 1.0 / 128, 2.0 / 254};
    for (int type = (int)RV_DTYPE_F16; type <= (int)RV_DTYPE_I8; type++) {
        ivf_bed b;
        rv_ivf_options options;
        rv_test_row(rv_dtype_name((rv_dtype)type), 0);
        ivf_bed_make(&b, RV_METRIC_L2, RV_IVF_CODES_AUTO, RV_SCALED(700u, 500u), 48);
        b.config.type = (rv_dtype)type;
        RV_OKAY(&b.ctx, rv_ivf_create(&b.ctx, &b.config, &b.index));
        RV_OKAY(&b.ctx, rv_ivf_build(&b.ctx, b.index, NULL, b.rows, b.n));
        for (size_t i = 0; i < b.n; i++) {
            float *row = (float *)(void *)(b.rows + i * b.bytes), got[48];
            RV_OKAY(&b.ctx, rv_ivf_get(&b.ctx, b.index, i, got));
            for (size_t j = 0; j < 48; j++) {
                RV_CHECK(fabsf(row[j]) < 2);
                RV_NEAR(got[j], row[j], rounding[type]);
            }
            memcpy(row, got, sizeof got);
        }
        memset(&options, 0, sizeof options);
        options.n_probe = 1000;
        options.rerank = (uint32_t)b.n;
        RV_CHECK(ivf_bed_recall(&b, &options, NULL, NULL) == 1);
        ivf_bed_close(&b);
    }
}

/* Hits of 40 among the 40 nearest, by query; distances are estimates. */
static double found_of_40(ivf_bed *b)
{
    rv_hit hits[40];
    size_t n_hits = 0, found = 0;
    for (size_t q = 0; q < b->n_queries; q++) {
        double kth = ivf_bed_kth(b, q, 40, NULL);
        RV_OKAY(&b->ctx,
                rv_ivf_search(&b->ctx, b->index, ivf_bed_query(b, q), 40, 1000, hits, &n_hits));
        RV_EQUAL(n_hits, 40);
        for (size_t i = 0; i < n_hits; i++) {
            RV_CHECK(i == 0 || hits[i - 1].distance <= hits[i].distance);
            found += ivf_bed_exact(b, q, hits[i].key) <= kth;
        }
    }
    return (double)found / (40 * (double)b->n_queries);
}

/* Squared error of what is got back, over the squared length of the rows. */
static double loss_of_get(ivf_bed *b)
{
    double error = 0, length = 0;
    for (size_t i = 0; i < b->n; i += 30) {
        const float *row = (const float *)(const void *)(b->rows + i * b->bytes);
        float got[48];
        RV_OKAY(&b->ctx, rv_ivf_get(&b->ctx, b->index, i, got));
        for (size_t j = 0; j < 48; j++) {
            double d = (double)got[j] - (double)row[j];
            error += d * d;
            length += (double)row[j] * (double)row[j];
        }
    }
    return error / length;
}

/* Vectors dropped altogether: distances and rows then come from the codes. */
static void test_dropped(void)
{
    for (int codes = (int)RV_IVF_CODES_PQ; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        for (int metric = (int)RV_METRIC_L2; metric <= (int)RV_METRIC_COSINE; metric++) {
            ivf_bed b;
            rv_hit hits[5];
            size_t n_hits = 0, bytes = 0;
            double found, loss;
            unsigned char *image;
            rv_ivf *other = NULL;
            rv_test_row(rv_metric_name((rv_metric)metric), (size_t)codes);
            ivf_bed_make(&b, (rv_metric)metric, (rv_ivf_codes)codes, RV_SCALED(700u, 500u), 48);
            b.config.drop_vectors = 1;
            RV_OKAY(&b.ctx, rv_ivf_create(&b.ctx, &b.config, &b.index));
            RV_EQUAL(rv_ivf_add(&b.ctx, b.index, 1, b.rows), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv_ivf_build(&b.ctx, b.index, NULL, b.rows, 255), RV_ERR_UNSUPPORTED);
            RV_OKAY(&b.ctx, rv_ivf_build(&b.ctx, b.index, NULL, b.rows, b.n - 1));
            RV_OKAY(&b.ctx, rv_ivf_add(&b.ctx, b.index, b.n - 1, b.rows + (b.n - 1) * b.bytes));
            RV_EQUAL(rv_ivf_train(&b.ctx, b.index), RV_ERR_UNSUPPORTED);
            found = found_of_40(&b);
            loss = loss_of_get(&b);
            if (getenv("RV_IVF_SHOW"))
                printf("dropped, %s codes %d: found %.3f, loss %.4f\n",
                       rv_metric_name((rv_metric)metric), codes, found, loss);
            RV_CHECK(found >= 0.6 && loss < 0.1);
            RV_OKAY(&b.ctx, rv_ivf_range(&b.ctx, b.index, b.queries, 1e9f, NULL, hits, 5, &n_hits));
            RV_CHECK(n_hits > 5 && n_hits < b.n); /* 8 lists */
            image = ivf_image(&b.ctx, b.index, &bytes);
            RV_OKAY(&b.ctx, rv_ivf_load(&b.ctx, image, bytes, NULL, NULL, &other));
            RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, other));
            RV_OKAY(&b.ctx, rv_ivf_remove(&b.ctx, other, 4));
            RV_OKAY(&b.ctx, rv_ivf_compact(&b.ctx, other));
            RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, other));
            RV_EQUAL(rv_ivf_count(other), b.n - 1);
            rv_ivf_destroy(other);
            sign_aligned_free(image);
            ivf_bed_close(&b);
        }
    }
}

/* ---- errors ---- */

static void test_config(void)
{
    static const struct {
        const char *name;
        uint32_t dim, n_lists, m, iterations;
        rv_metric metric;
        rv_dtype type;
        rv_ivf_codes codes;
        int drop;
    } rows[] = {
        {"dim", 0, 0, 0, 0, RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_AUTO, 0},
        {"dim large", 65536, 0, 0, 0, RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_AUTO, 0},
        {"lists", 4, 1048577, 0, 0, RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_AUTO, 0},
        {"m", 4, 0, 5, 0, RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_PQ, 0},
        {"iterations", 4, 0, 0, 10001, RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_AUTO, 0},
        {"type", 4, 0, 0, 0, RV_METRIC_L2, RV_DTYPE_U1, RV_IVF_CODES_AUTO, 0},
        {"codes", 4, 0, 0, 0, RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_AUTO, 0},
        {"codes of l1", 4, 0, 0, 0, RV_METRIC_L1, RV_DTYPE_F32, RV_IVF_CODES_PQ, 0},
        {"drop without codes", 4, 0, 0, 0, RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_NONE, 1},
        {"drop of bits", 4, 0, 0, 0, RV_METRIC_HAMMING, RV_DTYPE_U1, RV_IVF_CODES_AUTO, 1},
        {"custom", 4, 0, 0, 0, RV_METRIC_CUSTOM, RV_DTYPE_F32, RV_IVF_CODES_AUTO, 0},
        {"u8", 4, 0, 0, 0, RV_METRIC_L2, RV_DTYPE_U8, RV_IVF_CODES_AUTO, 0},
    };
    rv_ivf *index = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_ivf_config config;
        memset(&config, 0, sizeof config);
        config.dim = rows[i].dim;
        config.n_lists = rows[i].n_lists;
        config.m = rows[i].m;
        config.iterations = rows[i].iterations;
        config.metric = rows[i].metric;
        config.type = rows[i].type;
        config.codes = rows[i].codes;
        if (strcmp(rows[i].name, "codes") == 0) config.codes = (rv_ivf_codes)(i - 2);
        config.drop_vectors = rows[i].drop;
        rv_test_row(rows[i].name, i); /* the number of row "codes" less 2 is no kind */
        RV_EQUAL(rv_ivf_create(&ctx, &config, &index), RV_ERR_CONFIG);
        RV_CHECK(ctx.message[0] != 0 && index == NULL);
        if (rows[i].type == RV_DTYPE_U8)
            RV_CHECK(strstr(ctx.message, "f32, f16, bf16, i8 and u1") != NULL);
    }
    RV_EQUAL(rv_ivf_create(&ctx, NULL, &index), RV_ERR_ARG);
}

static void test_errors(void)
{
    static const uint32_t specials[] = {0x7FC00000u, 0x7F800000u, 0xFF800000u};
    ivf_bed b;
    rv_hit hits[4];
    size_t n_hits = 0;
    float *rows, keep;
    rv_ivf_iter *iter;
    if (!ivf_bed_open(&b, RV_METRIC_COSINE, RV_IVF_CODES_AUTO, 400, 10)) return;
    rows = (float *)(void *)b.rows;
    for (size_t s = 0; s < RV_COUNT_OF(specials); s++) {
        uint64_t keys[400];
        for (size_t i = 0; i < 400; i++) keys[i] = 1000 + i;
        keep = rows[37];
        memcpy(rows + 37, specials + s, 4);
        RV_EQUAL(rv_ivf_add(&b.ctx, b.index, 1000, rows + 30), RV_ERR_ARG);
        RV_EQUAL(b.ctx.where, 7);
        RV_EQUAL(rv_ivf_update(&b.ctx, b.index, 1, rows + 30), RV_ERR_ARG);
        RV_EQUAL(rv_ivf_build(&b.ctx, b.index, keys, rows, 400), RV_ERR_ARG);
        RV_EQUAL(b.ctx.where, 37);
        RV_EQUAL(rv_ivf_search(&b.ctx, b.index, rows + 30, 1, 1, hits, &n_hits), RV_ERR_ARG);
        RV_EQUAL(b.ctx.where, 7);
        RV_EQUAL(rv_ivf_range(&b.ctx, b.index, rows + 30, 1, NULL, hits, 1, &n_hits), RV_ERR_ARG);
        RV_EQUAL(rv_ivf_iter_create(&b.ctx, b.index, rows + 30, NULL, &iter), RV_ERR_ARG);
        {
            rv_ivf *fresh;
            RV_OKAY(&b.ctx, rv_ivf_create(&b.ctx, &b.config, &fresh));
            RV_EQUAL(rv_ivf_build(&b.ctx, fresh, NULL, rows, 400), RV_ERR_ARG);
            RV_EQUAL(rv_ivf_count(fresh), 0);
            RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, fresh));
            rv_ivf_destroy(fresh);
        }
        rows[37] = keep;
        RV_EQUAL(rv_ivf_count(b.index), 400);
        RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, b.index));
    }
    RV_EQUAL(rv_ivf_build(&b.ctx, b.index, NULL, rows, 400), RV_ERR_EXISTS);
    RV_EQUAL(rv_ivf_build(&b.ctx, b.index, NULL, NULL, 4), RV_ERR_ARG);
    RV_OKAY(&b.ctx, rv_ivf_build(&b.ctx, b.index, NULL, NULL, 0));
    RV_EQUAL(rv_ivf_build(&b.ctx, b.index, NULL, rows, 0xFFFFFFFFu), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_add(&b.ctx, b.index, 5, rows), RV_ERR_EXISTS);
    RV_EQUAL(rv_ivf_add(&b.ctx, b.index, 5000, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_get(&b.ctx, b.index, 5, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_search(&b.ctx, b.index, NULL, 1, 1, hits, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_search(&b.ctx, b.index, rows, 1, 1, NULL, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_search(&b.ctx, b.index, rows, 1, 1, hits, NULL), RV_ERR_ARG);
    memcpy(&keep, specials, 4);
    RV_EQUAL(rv_ivf_range(&b.ctx, b.index, rows, keep, NULL, hits, 1, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_range(&b.ctx, b.index, rows, 1, NULL, NULL, 1, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_range(&b.ctx, b.index, rows, 1, NULL, hits, 1, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_iter_create(&b.ctx, b.index, rows, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_reserve(&b.ctx, b.index, SIZE_MAX), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_create(&b.ctx, &b.config, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_save(&b.ctx, b.index, NULL, 0, NULL), RV_ERR_ARG);
    /* no index at all */
    RV_EQUAL(rv_ivf_add(&b.ctx, NULL, 1, rows), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_build(&b.ctx, NULL, NULL, rows, 1), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_train(&b.ctx, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_remove(&b.ctx, NULL, 1), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_get(&b.ctx, NULL, 1, rows), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_reserve(&b.ctx, NULL, 1), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_compact(&b.ctx, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_check(&b.ctx, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_save(&b.ctx, NULL, NULL, 0, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_search(&b.ctx, NULL, rows, 1, 1, hits, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_range(&b.ctx, NULL, rows, 1, NULL, hits, 1, &n_hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_iter_create(&b.ctx, NULL, rows, NULL, &iter), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_iter_next(&b.ctx, NULL, hits), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_count(NULL), 0);
    RV_EQUAL(rv_ivf_bytes(NULL), 0);
    RV_EQUAL(rv_ivf_contains(NULL, 1), 0);
    RV_EQUAL(rv_ivf_add(NULL, NULL, 1, rows), RV_ERR_ARG);
    ivf_bed_close(&b);
}

int main(void)
{
    rv_test_begin("ivf");
    RV_RUN(test_config);
    RV_RUN(test_recall_of_all);
    RV_RUN(test_recall_of_many_lists);
    RV_RUN(test_untrained);
    RV_RUN(test_duplicates);
    RV_RUN(test_ties);
    RV_RUN(test_overflow);
    RV_RUN(test_verbs);
    RV_RUN(test_churn);
    RV_RUN(test_train_later);
    RV_RUN(test_types);
    RV_RUN(test_dropped);
    RV_RUN(test_errors);
    return rv_test_end();
}
