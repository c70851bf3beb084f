/* Graph index: build, add, search, filters, iterator, images. Besides the lines of rv_bench.h, each
   search prints its recall at 10 in the name of the case.

   N= rows (default 100000), DIM= (default 128), QUERIES= (default 200), THREADS= for the build. */
#include "rv_bench.h"
#include "ruvector.h"
#include "peers/datagen.h"

enum { K = 10 };

typedef struct bench_set {
    size_t n, n_queries, dim;
    float *rows, *queries;
    uint32_t *truth;     /* [n_queries, K] */
    const uint8_t *pass; /* bit per row, or NULL */
} bench_set;

typedef struct bench_case {
    const rv_hnsw *index;
    const bench_set *set;
    rv_hnsw_options options;
    size_t at;
} bench_case;

static void *need(void *p)
{
    if (!p) {
        fprintf(stderr, "bench_hnsw: out of memory\n");
        exit(2);
    }
    return p;
}

static void check(rv_status status, const rv_ctx *ctx)
{
    if (status < 0) {
        fprintf(stderr, "bench_hnsw: %s: %s\n", rv_status_text(status), ctx->message);
        exit(2);
    }
}

static size_t option(const char *name, size_t otherwise, int argc, char **argv)
{
    const char *text = rv_bench_option(name, argc, argv);
    return text ? (size_t)strtoul(text, NULL, 10) : otherwise;
}

/* The true neighbours among the rows that pass. */
static void make_truth(bench_set *set)
{
    float *line = (float *)need(malloc(set->n * sizeof(float)));
    for (size_t q = 0; q < set->n_queries; q++) {
        rv_metric_many(RV_METRIC_L2, RV_DTYPE_F32, set->queries + q * set->dim, set->rows, 0,
                       set->n, set->dim, line);
        for (size_t i = 0; set->pass && i < set->n; i++)
            if (!(set->pass[i / 8] >> (i % 8) & 1)) line[i] = 1e30f;
        (void)rv_topk_f32(line, set->n, K, set->truth + q * K, NULL);
    }
    free(line);
}

static double recall(const bench_case *c)
{
    size_t found = 0;
    for (size_t q = 0; q < c->set->n_queries; q++) {
        rv_hit hits[K];
        size_t n_hits = 0;
        (void)rv_hnsw_search_with(NULL, c->index, c->set->queries + q * c->set->dim, K, &c->options,
                                  hits, &n_hits);
        for (size_t i = 0; i < n_hits; i++)
            for (size_t j = 0; j < K; j++) found += hits[i].key == c->set->truth[q * K + j];
    }
    return (double)found / (double)(c->set->n_queries * K);
}

/* All queries once. */
static void run_search(void *arg)
{
    const bench_case *c = (const bench_case *)arg;
    rv_hit hits[K];
    size_t n_hits = 0;
    for (size_t q = 0; q < c->set->n_queries; q++) {
        (void)rv_hnsw_search_with(NULL, c->index, c->set->queries + q * c->set->dim, K, &c->options,
                                  hits, &n_hits);
        rv_bench_sink((double)hits[0].distance);
    }
}

static void run_iterator(void *arg)
{
    const bench_case *c = (const bench_case *)arg;
    for (size_t q = 0; q < c->set->n_queries; q++) {
        rv_hnsw_iter *iter = NULL;
        rv_hit hit;
        if (rv_hnsw_iter_create(NULL, c->index, c->set->queries + q * c->set->dim, &c->options,
                                &iter))
            return;
        for (size_t i = 0; i < 100; i++) (void)rv_hnsw_iter_next(NULL, iter, &hit);
        rv_bench_sink((double)hit.distance);
        rv_hnsw_iter_destroy(iter);
    }
}

static int accept_bit(void *user, uint64_t key)
{
    return ((const uint8_t *)user)[key / 8] >> (key % 8) & 1;
}

static void bench_search(rv_bench *b, bench_case *c, const char *name)
{
    static const uint32_t beams[] = {16, 24, 32, 48, 64, 96, 160, 320};
    char text[96];
    for (size_t i = 0; i < sizeof beams / sizeof *beams; i++) {
        rv_hnsw_trace trace;
        double ns;
        c->options.ef = beams[i];
        c->options.trace = &trace;
        (void)recall(c);
        snprintf(text, sizeof text, "%s ef=%u recall=%.4f hops=%u distances=%u%s", name,
                 (unsigned)beams[i], recall(c), (unsigned)trace.hops, (unsigned)trace.distances,
                 trace.scanned ? " scanned" : "");
        c->options.trace = NULL;
        ns = rv_bench_time(b, run_search, c) / (double)c->set->n_queries;
        rv_bench_line(b, text, c->set->n, c->set->dim, rv_isa_name(rv_isa_resolve(RV_ISA_BEST)), ns,
                      0, 0);
    }
}

static void bench_filters(rv_bench *b, bench_case *c)
{
    static const double shares[] = {0.001, 0.01, 0.03, 0.1, 0.3, 0.5, 0.9};
    bench_set set = *c->set;
    const bench_set *plain = c->set;
    uint8_t *pass = (uint8_t *)need(malloc(set.n / 8 + 1));
    rv_filter filter;
    set.pass = pass;
    set.truth = (uint32_t *)need(malloc(set.n_queries * K * sizeof(uint32_t)));
    c->set = &set;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        uint64_t s = rvd_stream(7, 9, i);
        char text[64];
        memset(pass, 0, set.n / 8 + 1);
        for (size_t j = 0; j < set.n; j++)
            if (rvd_uniform(&s) < shares[i]) pass[j / 8] = (uint8_t)(pass[j / 8] | 1u << (j % 8));
        make_truth(&set);
        memset(&filter, 0, sizeof filter);
        c->options.filter = &filter;
        filter.bits = pass;
        filter.n_bits = set.n;
        snprintf(text, sizeof text, "filter bits %.1f%%", 100 * shares[i]);
        if (rv_bench_wanted(b, text)) bench_search(b, c, text);
        memset(&filter, 0, sizeof filter);
        filter.accept = accept_bit;
        filter.user = pass;
        snprintf(text, sizeof text, "filter callback %.1f%%", 100 * shares[i]);
        if (rv_bench_wanted(b, text)) bench_search(b, c, text);
    }
    c->options.filter = NULL;
    c->set = plain;
    free(set.truth);
    free(pass);
}

static void bench_image(rv_bench *b, const rv_hnsw *index, const bench_set *set, const char *isa)
{
    size_t bytes = 0;
    unsigned char *raw, *image;
    rv_hnsw *out = NULL;
    double t;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    check(rv_hnsw_save(&ctx, index, NULL, 0, &bytes), &ctx);
    raw = (unsigned char *)need(malloc(bytes + 64));
    image = raw + (64 - (size_t)((uintptr_t)raw % 64));
    t = rv_bench_now();
    check(rv_hnsw_save(&ctx, index, image, bytes, &bytes), &ctx);
    rv_bench_line(b, "save", set->n, set->dim, isa, rv_bench_now() - t, (double)bytes, 0);
    t = rv_bench_now();
    check(rv_hnsw_load(&ctx, image, bytes, NULL, NULL, &out), &ctx);
    rv_bench_line(b, "load", set->n, set->dim, isa, rv_bench_now() - t, (double)bytes, 0);
    rv_hnsw_destroy(out);
    t = rv_bench_now();
    check(rv_hnsw_view(&ctx, image, bytes, NULL, NULL, &out), &ctx);
    rv_bench_line(b, "view", set->n, set->dim, isa, rv_bench_now() - t, (double)bytes, 0);
    rv_hnsw_destroy(out);
    free(raw);
}

int main(int argc, char **argv)
{
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    rv_bench b;
    bench_set set;
    bench_case c;
    rvd_model model;
    rv_hnsw_config config;
    rv_hnsw_stats stats;
    rv_hnsw *index = NULL;
    rv_ctx ctx;
    double t;
    rv_bench_begin(&b, "hnsw", argc, argv);
    memset(&set, 0, sizeof set);
    memset(&ctx, 0, sizeof ctx);
    memset(&c, 0, sizeof c);
    memset(&config, 0, sizeof config);
    set.n = option("N", 100000, argc, argv);
    set.dim = option("DIM", 128, argc, argv);
    set.n_queries = option("QUERIES", 200, argc, argv);
    set.rows = (float *)need(malloc(set.n * set.dim * sizeof(float)));
    set.queries = (float *)need(malloc(set.n_queries * set.dim * sizeof(float)));
    set.truth = (uint32_t *)need(malloc(set.n_queries * K * sizeof(uint32_t)));
    if (rvd_model_init(&model, set.n, set.dim, 1) || rvd_model_rows(&model, 0, set.n, set.rows) ||
        rvd_model_rows(&model, RVD_QUERY_ROW, set.n_queries, set.queries))
        need(NULL);
    rvd_model_free(&model);
    make_truth(&set);
    config.dim = (uint32_t)set.dim;
    config.m = (uint32_t)option("M", 16, argc, argv);
    config.codes = (rv_hnsw_codes)option("CODES", 0, argc, argv);
#ifdef RV_THREADS
    ctx.workers = (uint32_t)option("THREADS", 1, argc, argv);
    if (ctx.workers > 1) ctx.parallel = rv_parallel_threads;
#endif
    check(rv_hnsw_create(&ctx, &config, &index), &ctx);
    t = rv_bench_now();
    check(rv_hnsw_build(&ctx, index, NULL, set.rows, set.n), &ctx);
    t = (rv_bench_now() - t) / (double)set.n;
    rv_hnsw_stats_get(index, &stats);
    if (rv_bench_wanted(&b, "build"))
        rv_bench_line(&b, "build per row", set.n, set.dim, isa, t, 0, 0);
    fprintf(stderr,
            "# bytes per row: vectors %.1f, codes %.1f (%u components), links %.1f, keys %.1f\n",
            (double)stats.vector_bytes / (double)set.n, (double)stats.code_bytes / (double)set.n,
            (unsigned)stats.code_dim, (double)stats.link_bytes / (double)set.n,
            (double)stats.key_bytes / (double)set.n);
    c.index = index;
    c.set = &set;
    if (rv_bench_wanted(&b, "search")) bench_search(&b, &c, "search");
    bench_filters(&b, &c);
    if (rv_bench_wanted(&b, "iterator")) {
        c.options.ef = 100;
        t = rv_bench_time(&b, run_iterator, &c) / (double)set.n_queries;
        rv_bench_line(&b, "iterator 100 of ef=100", set.n, set.dim, isa, t, 0, 0);
    }
    if (rv_bench_wanted(&b, "image")) bench_image(&b, index, &set, isa);
    if (rv_bench_wanted(&b, "add")) {
        const size_t more = set.n / 50;
        t = rv_bench_now();
        for (size_t i = 0; i < more; i++)
            check(rv_hnsw_add(&ctx, index, set.n + i, set.rows + i * set.dim), &ctx);
        rv_bench_line(&b, "add", set.n, set.dim, isa, (rv_bench_now() - t) / (double)more, 0, 0);
        t = rv_bench_now();
        for (size_t i = 0; i < more; i++) check(rv_hnsw_remove(&ctx, index, set.n + i), &ctx);
        rv_bench_line(&b, "remove", set.n, set.dim, isa, (rv_bench_now() - t) / (double)more, 0, 0);
    }
    rv_hnsw_destroy(index);
    free(set.rows);
    free(set.queries);
    free(set.truth);
    return rv_bench_end(&b);
}
