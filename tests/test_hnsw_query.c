/* The graph index: filters, iterator, range, batch, and that threads change nothing. */
#include "hnsw_set.h"

enum { DIM = 24, K = 10, N_QUERIES = 20 };

static void build(rv_ctx *ctx, const hnsw_set *set, uint32_t m, const uint64_t *keys, rv_hnsw **out)
{
    rv_hnsw_config config;
    memset(&config, 0, sizeof config);
    config.dim = (uint32_t)set->dim;
    config.m = m;
    if (RV_OKAY(ctx, rv_hnsw_create(ctx, &config, out)) != RV_OK) exit(2);
    RV_OKAY(ctx, rv_hnsw_build(ctx, *out, keys, set->rows, set->n));
}

/* ---- filters ---- */

/* Which rows pass, by row number; the key of row i is i * step + base. */
typedef struct sieve {
    const uint8_t *pass; /* [n] */
    size_t n;
    uint64_t step, base;
    size_t asked;
} sieve;

static int sieve_row(void *user, uint64_t row)
{
    const sieve *s = (const sieve *)user;
    return row < s->n && s->pass[row];
}

static int sieve_key(void *user, uint64_t key)
{
    sieve *s = (sieve *)user;
    s->asked++;
    return key >= s->base && sieve_row(user, (key - s->base) / s->step);
}

/* A filter over keys in one of three forms: bits, callback, both. *bits is to be freed. */
static void sieve_filter(sieve *s, int form, rv_filter *filter, uint8_t **bits)
{
    const uint64_t n_bits = s->base + s->step * (s->n - 1) + 1;
    memset(filter, 0, sizeof *filter);
    *bits = NULL;
    if (form != 1) {
        *bits = (uint8_t *)calloc((size_t)(n_bits / 8 + 1), 1);
        if (!*bits) exit(2);
        for (size_t i = 0; i < s->n; i++) {
            uint64_t key = s->base + s->step * i;
            if (s->pass[i]) (*bits)[key / 8] = (uint8_t)((*bits)[key / 8] | 1u << (key % 8));
        }
        filter->bits = *bits;
        filter->n_bits = n_bits;
    }
    if (form != 0) {
        filter->accept = sieve_key;
        filter->user = s;
    }
}

/* Searches of one filter; returns the mean recall and checks everything else. */
static double filtered(rv_ctx *ctx, const rv_hnsw *index, const hnsw_set *set, sieve *s,
                       const rv_filter *filter, uint32_t ef, rv_hnsw_trace *trace)
{
    size_t matches = 0, found = 0, wanted = 0;
    rv_hnsw_options options;
    rv_hit hits[K], again[K];
    memset(&options, 0, sizeof options);
    options.filter = filter;
    options.ef = ef;
    options.trace = trace;
    for (size_t i = 0; i < s->n; i++) matches += s->pass[i];
    for (size_t q = 0; q < set->n_queries; q++) {
        const float *query = set->queries + q * set->dim;
        const size_t want = matches < (size_t)K ? matches : (size_t)K;
        size_t n_hits = 99, n_again = 99;
        double kth;
        RV_OKAY(ctx, rv_hnsw_search_with(ctx, index, query, K, &options, hits, &n_hits));
        RV_EQUAL(n_hits, want);
        hnsw_check_hits(hits, n_hits, sieve_key, s);
        RV_OKAY(ctx, rv_hnsw_search_batch(ctx, index, query, 1, K, &options, again, &n_again));
        RV_EQUAL(n_again, n_hits);
        for (size_t i = 0; i < n_hits; i++) RV_CHECK(again[i].key == hits[i].key);
        for (size_t i = 0; i < n_hits; i++) hits[i].key = (hits[i].key - s->base) / s->step;
        kth = want ? hnsw_kth(RV_METRIC_L2, set->rows, set->n, set->dim, query, want, sieve_row, s)
                   : 0;
        found += hnsw_found(RV_METRIC_L2, set->rows, set->dim, query, hits, n_hits, kth);
        wanted += want;
    }
    return wanted ? (double)found / (double)wanted : 1;
}

/* All forms of filter at all shares, keys that are row numbers and keys that are not, codes or
   none, told selectivities that are right, absent, or lies. */
static void test_filters(void)
{
    static const double shares[] = {0, -1, 0.01, 0.1, 0.5, 1};
    const size_t n = HNSW_ROWS(3000u, 1200u, 600u);
    uint8_t *pass = (uint8_t *)malloc(n), *bits;
    uint64_t *keys = (uint64_t *)malloc(n * sizeof *keys);
    rv_test_rng rng;
    hnsw_set set;
    rv_ctx ctx;
    if (!pass || !keys) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, N_QUERIES / 2, DIM, 80);
    for (size_t i = 0; i < n; i++) keys[i] = 1000 + 3 * i;
    for (int keyed = 0; keyed < 2; keyed++) {
        rv_hnsw *index = NULL;
        double plain;
        sieve all;
        build(&ctx, &set, 6, keyed ? keys : NULL, &index);
        memset(pass, 1, n);
        all.pass = pass;
        all.n = n;
        all.step = keyed ? 3 : 1;
        all.base = keyed ? 1000 : 0;
        plain = filtered(&ctx, index, &set, &all, NULL, 0, NULL);
        for (size_t i = 0; i < RV_COUNT_OF(shares); i++) {
            for (int form = 0; form < 6; form++) {
                rv_hnsw_trace trace;
                rv_filter filter;
                sieve s;
                double recall;
                rv_test_row(keyed ? "keys" : "rows", i * 10 + (size_t)form);
                rv_test_seed(&rng, 81 + i);
                for (size_t j = 0; j < n; j++) {
                    pass[j] = rv_test_f32(&rng) < (float)(2 * shares[i] - 1) || shares[i] >= 1;
                }
                if (shares[i] < 0) {
                    memset(pass, 0, n);
                    pass[n / 3] = 1;
                }
                s.pass = pass;
                s.n = n;
                s.step = keyed ? 3 : 1;
                s.base = keyed ? 1000 : 0;
                s.asked = 0;
                sieve_filter(&s, form % 3, &filter, &bits);
                if (form >= 3) filter.selectivity = form == 3 ? 1.0 : form == 4 ? 0.4 : 0.0001;
                recall = filtered(&ctx, index, &set, &s, &filter, form < 3 ? 0 : 60, &trace);
                RV_CHECK(recall >= 0.95 || recall >= plain);
                RV_CHECK(trace.distances > 0 || shares[i] <= 0);
                free(bits);
            }
        }
        rv_hnsw_destroy(index);
    }
    hnsw_set_free(&set);
    free(pass);
    free(keys);
}

/* Filters that let only near rows through, or only far ones. */
static void test_filters_that_know_the_query(void)
{
    const size_t n = HNSW_ROWS(3000u, 1200u, 600u);
    uint8_t *pass = (uint8_t *)malloc(n), *bits;
    hnsw_set set;
    rv_ctx ctx;
    rv_hnsw *index = NULL;
    if (!pass) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, 12, DIM, 90);
    build(&ctx, &set, 8, NULL, &index);
    for (size_t q = 0; q < 12; q++) {
        hnsw_set one = set;
        one.queries = set.queries + q * DIM;
        one.n_queries = 1;
        for (int far_ones = 0; far_ones < 2; far_ones++) {
            double edge = hnsw_kth(RV_METRIC_L2, set.rows, n, DIM, one.queries, n / 5, NULL, NULL),
                   mass;
            rv_filter filter;
            rv_hnsw_trace trace;
            sieve s;
            rv_test_row(far_ones ? "far" : "near", q);
            for (size_t i = 0; i < n; i++) {
                double d = hnsw_exact(RV_METRIC_L2, one.queries, set.rows + i * DIM, DIM, &mass);
                pass[i] = (d <= edge) != far_ones;
            }
            s.pass = pass;
            s.n = n;
            s.step = 1;
            s.base = 0;
            sieve_filter(&s, q % 2 ? 1 : 0, &filter, &bits);
            filter.selectivity = far_ones ? 0.8 : 0.2;
            RV_CHECK(filtered(&ctx, index, &one, &s, &filter, 30, &trace) >=
                     (far_ones ? 0.8 : 0.9));
            free(bits);
        }
    }
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
    free(pass);
}

/* Removed rows and a filter at once; and removed rows alone. */
static void test_filters_and_removed_rows(void)
{
    const size_t n = HNSW_ROWS(2000u, 1000u, 500u);
    uint8_t *pass = (uint8_t *)malloc(n), *bits;
    rv_test_rng rng;
    rv_filter filter;
    hnsw_set set;
    rv_hnsw_stats stats;
    rv_ctx ctx;
    rv_hnsw *index = NULL;
    sieve s;
    if (!pass) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, N_QUERIES, DIM, 100);
    build(&ctx, &set, 8, NULL, &index);
    s.pass = pass;
    s.n = n;
    s.step = 1;
    s.base = 0;
    memset(pass, 1, n);
    rv_test_seed(&rng, 101);
    for (size_t i = 0; i < n / 10; i++) {
        size_t row = rv_test_below(&rng, n);
        if (pass[row]) RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, row));
        pass[row] = 0;
    }
    rv_hnsw_stats_get(index, &stats);
    RV_CHECK(stats.removed > 0);
    RV_CHECK(filtered(&ctx, index, &set, &s, NULL, 60, NULL) >= 0.97);
    for (size_t i = 0; i < n; i += 2) pass[i] = 0;
    for (int form = 0; form < 3; form++) {
        rv_test_row("form", (size_t)form);
        sieve_filter(&s, form, &filter, &bits);
        RV_CHECK(filtered(&ctx, index, &set, &s, &filter, 60, NULL) >= 0.95);
        filter.selectivity = 0.9;
        RV_CHECK(filtered(&ctx, index, &set, &s, &filter, 60, NULL) >= 0.95);
        free(bits);
    }
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
    free(pass);
}

/* Bits that end before the last key refuse the rest. */
static void test_short_bits(void)
{
    static const uint8_t bits[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    static const uint64_t lengths[] = {0, 1, 7, 63, 64, 65, 70};
    rv_hnsw_options options;
    rv_filter filter;
    rv_hit hits[200];
    hnsw_set set;
    rv_hnsw *index = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 200, 1, DIM, 110);
    build(&ctx, &set, 8, NULL, &index);
    memset(&options, 0, sizeof options);
    memset(&filter, 0, sizeof filter);
    options.filter = &filter;
    filter.bits = bits;
    for (size_t i = 0; i < RV_COUNT_OF(lengths); i++) {
        size_t n_hits = 0;
        filter.n_bits = lengths[i];
        RV_OKAY(&ctx, rv_hnsw_search_with(&ctx, index, set.queries, 200, &options, hits, &n_hits));
        RV_EQUAL(n_hits, lengths[i]);
        for (size_t j = 0; j < n_hits; j++) RV_CHECK(hits[j].key < lengths[i]);
    }
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
}

/* ---- iterator ---- */

static void iterate(rv_ctx *ctx, const rv_hnsw *index, const hnsw_set *set, const rv_filter *filter,
                    sieve *s, uint32_t ef)
{
    rv_hnsw_options options;
    rv_hnsw_iter *iter = NULL;
    uint8_t *seen = (uint8_t *)calloc(set->n, 1);
    size_t expected = 0, count = 0, first = 0;
    rv_hit hit, hits[K];
    double kth = hnsw_kth(RV_METRIC_L2, set->rows, set->n, set->dim, set->queries, K, sieve_row, s);
    rv_status status;
    if (!seen) exit(2);
    memset(&options, 0, sizeof options);
    options.filter = filter;
    options.ef = ef;
    for (size_t i = 0; i < set->n; i++) expected += s->pass[i];
    RV_OKAY(ctx, rv_hnsw_iter_create(ctx, index, set->queries, &options, &iter));
    while ((status = rv_hnsw_iter_next(ctx, iter, &hit)) == RV_OK) {
        double mass, d;
        if (hit.key >= set->n) {
            RV_CHECK(hit.key < set->n);
            break;
        }
        RV_CHECK(sieve_row(s, hit.key));
        RV_CHECK(!seen[hit.key]);
        seen[hit.key] = 1;
        d = hnsw_exact(RV_METRIC_L2, set->queries, set->rows + (size_t)hit.key * set->dim, set->dim,
                       &mass);
        RV_NEAR((double)hit.distance, d, mass * 1e-5);
        if (count < K) hits[count] = hit;
        count++;
        if (count == K)
            first = hnsw_found(RV_METRIC_L2, set->rows, set->dim, set->queries, hits, K, kth);
        RV_EQUAL(ctx->status, RV_OK);
    }
    RV_EQUAL(status, RV_DONE);
    RV_EQUAL(rv_hnsw_iter_next(ctx, iter, &hit), RV_DONE);
    RV_EQUAL(count, expected);
    if (expected >= K) RV_CHECK(first >= K - 2);
    rv_hnsw_iter_destroy(iter);
    free(seen);
}

static void test_iterator(void)
{
    static const uint32_t beams[] = {0, 1, 7, 100, 5000};
    const size_t n = HNSW_ROWS(2000u, 1000u, 400u);
    uint8_t *pass = (uint8_t *)malloc(n), *bits;
    rv_filter filter;
    hnsw_set set;
    rv_hnsw *index = NULL;
    sieve s;
    rv_ctx ctx;
    if (!pass) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, 1, DIM, 120);
    build(&ctx, &set, 8, NULL, &index);
    s.pass = pass;
    s.n = n;
    s.step = 1;
    s.base = 0;
    for (int removed = 0; removed < 2; removed++) {
        memset(pass, 1, n);
        for (size_t i = 0; i < n && removed; i += 11) pass[i] = 0;
        for (size_t i = 0; i < n && removed; i += 11) RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, i));
        for (size_t i = 0; i < RV_COUNT_OF(beams); i++) {
            rv_test_row(removed ? "removed" : "beam", i);
            if (beams[i] != 1) iterate(&ctx, index, &set, NULL, &s, beams[i]);
        }
        for (size_t i = 0; i < n; i++) pass[i] = (uint8_t)(pass[i] && i % 3 == 0);
        for (int form = 0; form < 3; form++) {
            sieve_filter(&s, form, &filter, &bits);
            iterate(&ctx, index, &set, &filter, &s, 64);
            free(bits);
        }
        memset(pass, 0, n);
        sieve_filter(&s, 0, &filter, &bits);
        iterate(&ctx, index, &set, &filter, &s, 0);
        free(bits);
    }
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
    free(pass);
}

/* ---- range ---- */

static void test_range(void)
{
    static const size_t ranks[] = {1, 10, 100, 300};
    const size_t n = HNSW_ROWS(2000u, 1000u, 600u);
    rv_hit *hits = (rv_hit *)malloc(n * sizeof *hits), few[7];
    rv_hnsw_options options;
    rv_hnsw_trace trace;
    uint8_t *pass = (uint8_t *)malloc(n), *bits;
    rv_filter filter;
    hnsw_set set;
    sieve s;
    rv_hnsw *index = NULL;
    rv_ctx ctx;
    if (!hits || !pass) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, N_QUERIES, DIM, 130);
    build(&ctx, &set, 8, NULL, &index);
    memset(&options, 0, sizeof options);
    options.trace = &trace;
    for (size_t i = 0; i < n; i++) pass[i] = i % 2 == 0;
    s.pass = pass;
    s.n = n;
    s.step = 1;
    s.base = 0;
    sieve_filter(&s, 0, &filter, &bits);
    for (int with = 0; with < 2; with++) {
        options.filter = with ? &filter : NULL;
        for (size_t r = 0; r < RV_COUNT_OF(ranks); r++) {
            size_t found = 0, wanted = 0;
            rv_test_row(with ? "filter" : "rank", ranks[r]);
            for (size_t q = 0; q < set.n_queries; q++) {
                const float *query = set.queries + q * DIM;
                double kth = hnsw_kth(RV_METRIC_L2, set.rows, n, DIM, query, ranks[r],
                                      with ? sieve_row : NULL, &s);
                float radius = (float)(kth * 1.0001);
                size_t n_hits = 0, n_few = 0;
                RV_OKAY(&ctx,
                        rv_hnsw_range(&ctx, index, query, radius, &options, hits, n, &n_hits));
                hnsw_check_hits(hits, n_hits < 50 ? n_hits : 50, with ? sieve_row : NULL, &s);
                RV_CHECK(trace.hops > 0);
                for (size_t i = 0; i < n_hits; i++) RV_CHECK(hits[i].distance <= radius);
                found += n_hits;
                wanted += ranks[r];
                RV_OKAY(&ctx, rv_hnsw_range(&ctx, index, query, radius, &options, few, 7, &n_few));
                RV_EQUAL(n_few, n_hits);
                for (size_t i = 0; i < n_few && i < 7; i++) RV_CHECK(few[i].key == hits[i].key);
                RV_OKAY(&ctx, rv_hnsw_range(&ctx, index, query, radius, &options, NULL, 0, &n_few));
                RV_EQUAL(n_few, n_hits);
            }
            RV_CHECK((double)found >= 0.95 * (double)wanted);
            RV_CHECK((double)found <= 1.05 * (double)wanted + 2);
        }
    }
    {
        size_t n_hits = 0;
        RV_OKAY(&ctx, rv_hnsw_range(&ctx, index, set.queries, HUGE_VALF, NULL, hits, n, &n_hits));
        RV_EQUAL(n_hits, n);
        RV_OKAY(&ctx, rv_hnsw_range(&ctx, index, set.queries, -1, NULL, hits, n, &n_hits));
        RV_EQUAL(n_hits, 0);
        RV_OKAY(&ctx, rv_hnsw_range(&ctx, index, set.rows, 0, NULL, hits, n, &n_hits));
        RV_CHECK(n_hits >= 1 && hits[0].key == 0);
    }
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
    free(hits);
    free(pass);
    free(bits);
}

/* ---- threads ---- */

static void *image_of(const rv_hnsw *index, size_t *bytes)
{
    void *image;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_hnsw_save(&ctx, index, NULL, 0, bytes));
    image = malloc(*bytes);
    if (!image) exit(2);
    RV_OKAY(&ctx, rv_hnsw_save(&ctx, index, image, *bytes, bytes));
    return image;
}

#ifdef RV_THREADS
/* Runs the bodies backwards on one thread. */
static void parallel_backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n) body(arg, --n);
}

/* Build, removals with repair, compaction and more rows: the same bits for any number of
   workers. */
static void test_workers_change_nothing(void)
{
    static const uint32_t workers[] = {1, 2, 3, 8, 5};
    static const rv_hnsw_codes kinds[] = {RV_HNSW_CODES_AUTO, RV_HNSW_CODES_NONE,
                                          RV_HNSW_CODES_RABITQ};
    const size_t n = HNSW_ROWS(1500u, 700u, 700u);
    hnsw_set set;
    hnsw_set_make(&set, n, 1, DIM, 140);
    for (size_t c = 0; c < RV_COUNT_OF(kinds); c++) {
        void *first[3] = {NULL, NULL, NULL};
        size_t first_bytes[3] = {0, 0, 0};
        for (size_t w = 0; w < RV_COUNT_OF(workers); w += RV_TEST_SCALE > 4 ? 2 : 1) {
            rv_hnsw_config config;
            rv_hnsw *index = NULL;
            rv_ctx ctx;
            rv_test_row("workers", workers[w]);
            rv_test_ctx(&ctx);
            ctx.parallel = w == 4 ? parallel_backwards : w ? rv_parallel_threads : NULL;
            ctx.workers = workers[w];
            memset(&config, 0, sizeof config);
            config.dim = DIM;
            config.codes = kinds[c];
            RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
            RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, n));
            for (size_t stage = 0; stage < 3; stage++) {
                size_t bytes = 0;
                void *image;
                if (stage == 1) {
                    for (size_t i = 0; i < n; i += 3) RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, i));
                }
                if (stage == 2) {
                    RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
                    for (size_t i = 0; i < 60; i += 3) {
                        RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i, set.rows + i * DIM));
                    }
                }
                image = image_of(index, &bytes);
                if (w == 0) {
                    first[stage] = image;
                    first_bytes[stage] = bytes;
                } else {
                    RV_EQUAL(bytes, first_bytes[stage]);
                    RV_CHECK(bytes == first_bytes[stage] &&
                             memcmp(image, first[stage], bytes) == 0);
                    free(image);
                }
            }
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, index));
            rv_hnsw_destroy(index);
        }
        for (size_t stage = 0; stage < 3; stage++) free(first[stage]);
    }
    hnsw_set_free(&set);
}

static void test_batch(void)
{
    static const uint32_t workers[] = {1, 2, 8, 300};
    const size_t n = RV_SCALED(2000u, 500u);
    hnsw_set set;
    rv_hit *hits, alone[K];
    size_t *n_hits, n_alone = 0;
    rv_hnsw *index = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, 150, DIM, 150);
    hits = (rv_hit *)malloc(set.n_queries * K * sizeof *hits);
    n_hits = (size_t *)malloc(set.n_queries * sizeof *n_hits);
    if (!hits || !n_hits) exit(2);
    build(&ctx, &set, 0, NULL, &index);
    for (size_t w = 0; w < RV_COUNT_OF(workers); w++) {
        rv_hnsw_options options;
        rv_hnsw_trace trace, sum;
        rv_test_row("workers", workers[w]);
        ctx.parallel = w ? rv_parallel_threads : NULL;
        ctx.workers = workers[w];
        memset(&options, 0, sizeof options);
        memset(&sum, 0, sizeof sum);
        options.ef = 50;
        options.trace = &trace;
        memset(hits, 0, set.n_queries * K * sizeof *hits);
        RV_OKAY(&ctx, rv_hnsw_search_batch(&ctx, index, set.queries, set.n_queries, K, &options,
                                           hits, n_hits));
        sum = trace;
        for (size_t q = 0; q < set.n_queries; q++) {
            RV_OKAY(&ctx, rv_hnsw_search_with(&ctx, index, set.queries + q * DIM, K, &options,
                                              alone, &n_alone));
            RV_EQUAL(n_hits[q], n_alone);
            for (size_t i = 0; i < n_alone; i++) {
                RV_CHECK(hits[q * K + i].key == alone[i].key &&
                         hits[q * K + i].distance <= alone[i].distance &&
                         hits[q * K + i].distance >= alone[i].distance);
            }
            sum.hops -= trace.hops;
            sum.distances -= trace.distances;
            sum.reranked -= trace.reranked;
        }
        RV_EQUAL(sum.hops + sum.distances + sum.reranked, 0);
    }
    rv_hnsw_destroy(index);
    hnsw_set_free(&set);
    free(hits);
    free(n_hits);
}

#endif /* RV_THREADS */

/* The same seed and rows give the same bits, another seed another graph. */
static void test_seed(void)
{
    void *image[3];
    size_t bytes[3];
    hnsw_set set;
    hnsw_set_make(&set, RV_SCALED(1200u, 600u), 1, DIM, 160);
    for (size_t i = 0; i < 3; i++) {
        rv_hnsw *index = NULL;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        ctx.seed = i == 2 ? 99 : 0;
        build(&ctx, &set, 0, NULL, &index);
        image[i] = image_of(index, &bytes[i]);
        rv_hnsw_destroy(index);
    }
    RV_EQUAL(bytes[0], bytes[1]);
    RV_CHECK(memcmp(image[0], image[1], bytes[0]) == 0);
    RV_CHECK(bytes[0] != bytes[2] || memcmp(image[0], image[2], bytes[0]) != 0);
    for (size_t i = 0; i < 3; i++) free(image[i]);
    hnsw_set_free(&set);
}

/* All rows in one answer: sorted, each once, with the distances of a scan. */
static void test_all_rows(void)
{
    static const rv_hnsw_codes codes[] = {RV_HNSW_CODES_NONE, RV_HNSW_CODES_PCA,
                                          RV_HNSW_CODES_RABITQ};
    const size_t n = RV_SCALED(3000u, 1200u);
    rv_hit *hits = (rv_hit *)malloc(n * sizeof *hits), *truth = (rv_hit *)malloc(n * sizeof *truth);
    uint64_t *keys = (uint64_t *)malloc(n * sizeof *keys);
    rv_flat_config flat_config;
    rv_flat *flat = NULL;
    hnsw_set set;
    rv_ctx ctx;
    size_t n_hits = 0, n_truth = 0;
    if (!hits || !truth || !keys) exit(2);
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, 1, 24, 91);
    memcpy(set.rows + 24, set.rows, 24 * sizeof(float)); /* a tie, decided by key */
    for (size_t i = 0; i < n; i++) keys[i] = (i * 7919) % n;
    memset(&flat_config, 0, sizeof flat_config);
    flat_config.dim = 24;
    RV_OKAY(&ctx, rv_flat_create(&ctx, &flat_config, &flat));
    RV_OKAY(&ctx, rv_flat_build(&ctx, flat, keys, set.rows, n));
    RV_OKAY(&ctx, rv_flat_search(&ctx, flat, set.queries, n, NULL, truth, &n_truth));
    for (size_t c = 0; c < RV_COUNT_OF(codes); c++) {
        rv_hnsw_config config;
        rv_hnsw *index = NULL;
        size_t same = 0;
        rv_test_row("codes", c);
        memset(&config, 0, sizeof config);
        config.dim = 24;
        config.codes = codes[c];
        RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, keys, set.rows, n));
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.queries, n, 0, hits, &n_hits));
        RV_EQUAL(n_hits, n);
        for (size_t i = 0; i < n_hits; i++) {
            RV_NEAR(hits[i].distance, truth[i].distance, 1e-4 * (double)truth[i].distance + 1e-6);
            if (i == 0) continue;
            RV_CHECK(hits[i - 1].distance < hits[i].distance ||
                     (hits[i - 1].distance == hits[i].distance && hits[i - 1].key < hits[i].key));
        }
        /* a part of them, for which the ranking may stop early */
        RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, set.queries, n / 2, n, hits, &n_hits));
        RV_EQUAL(n_hits, n / 2);
        for (size_t i = 0; i < n_hits; i++) {
            same += hits[i].distance <= truth[n / 2 - 1].distance * 1.0001f;
            if (i > 0) RV_CHECK(hits[i - 1].distance <= hits[i].distance);
        }
        RV_CHECK(same >= n / 2 - n / 100);
        rv_hnsw_destroy(index);
    }
    rv_flat_destroy(flat);
    hnsw_set_free(&set);
    free(hits);
    free(truth);
    free(keys);
}

int main(void)
{
    rv_test_begin("hnsw_query");
    RV_RUN(test_filters);
    RV_RUN(test_filters_that_know_the_query);
    RV_RUN(test_filters_and_removed_rows);
    RV_RUN(test_short_bits);
    RV_RUN(test_iterator);
    RV_RUN(test_range);
#ifdef RV_THREADS
    RV_RUN(test_workers_change_nothing);
    RV_RUN(test_batch);
#endif
    RV_RUN(test_seed);
    RV_RUN(test_all_rows);
    return rv_test_end();
}
