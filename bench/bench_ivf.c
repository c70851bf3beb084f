/* Inverted file: build, search. ns is one row of the build, one query of a search, whose recall at
   10, queries per second, scanned and reranked rows stand in the name of the case. The limit of a
   search is that of reading the centres, the codes (or vectors) scanned and the vectors reranked.
   The limit of the build is that of the distances of every row to every centre, once.

   N= rows (default 100000), DIM= (default 128), QUERIES= (default 200). */
#include "rv_bench.h"
#include "ruvector.h"
#include "peers/datagen.h"

enum { K = 10 };

typedef struct job {
    rv_bench *b;
    size_t n, n_queries, dim;
    float *rows, *queries;
    uint32_t *truth; /* [n_queries, K] */
    rv_ivf *index;
    rv_ivf_options options;
    rv_hit *hits; /* [n_queries, K] */
    size_t *n_hits;
} job;

static size_t option(const char *name, size_t otherwise, int argc, char **argv)
{
    const char *text = rv_bench_option(name, argc, argv);
    return text ? (size_t)strtoul(text, NULL, 10) : otherwise;
}

static void make_truth(job *j)
{
    float *line = (float *)rv_bench_get(j->n * sizeof(float));
    for (size_t q = 0; q < j->n_queries; q++) {
        rv_metric_many(RV_METRIC_L2, RV_DTYPE_F32, j->queries + q * j->dim, j->rows, 0, j->n,
                       j->dim, line);
        (void)rv_topk_f32(line, j->n, K, j->truth + q * K, NULL);
    }
    free(line);
}

/* All queries once. */
static void run_search(void *arg)
{
    job *j = (job *)arg;
    for (size_t q = 0; q < j->n_queries; q++) {
        rv_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        rv_bench_check(j->b, rv_ivf_search_with(&ctx, j->index, j->queries + q * j->dim, K,
                                                &j->options, j->hits + q * K, j->n_hits + q),
                       ctx.message);
    }
    rv_bench_touch(j->hits);
}

static double recall(const job *j)
{
    size_t found = 0;
    for (size_t q = 0; q < j->n_queries; q++)
        for (size_t i = 0; i < j->n_hits[q]; i++)
            for (size_t t = 0; t < K; t++)
                found += j->hits[q * K + i].key == j->truth[q * K + t];
    return (double)found / (double)(j->n_queries * K);
}

static void searches(job *j, const char *name)
{
    static const uint32_t probes[] = {1, 4, 8, 16, 32, 64};
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    double queries = (double)j->n_queries, vector = (double)j->dim * sizeof(float), row, all;
    rv_ivf_stats stats;
    rv_ivf_stats_get(j->index, &stats);
    row = stats.row_code_bytes ? (double)stats.row_code_bytes : vector;
    all = (double)stats.total_bytes;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        rv_ivf_trace trace;
        char text[192];
        double scanned, reranked, bytes;
        memset(&trace, 0, sizeof trace);
        j->options.n_probe = probes[i];
        j->options.trace = &trace;
        rv_bench_check(j->b, rv_ivf_search_batch(NULL, j->index, j->queries, j->n_queries, K,
                                                 &j->options, j->hits, j->n_hits), "search");
        j->options.trace = NULL;
        scanned = (double)trace.scanned / queries;
        reranked = stats.row_code_bytes ? (double)trace.reranked / queries : 0;
        bytes = scanned * row + reranked * vector + (double)stats.n_lists * vector;
        snprintf(text, sizeof text, "%s n_probe=%u recall=%.4g scanned=%u reranked=%u", name,
                 (unsigned)probes[i], recall(j), (unsigned)scanned, (unsigned)reranked);
        rv_bench_rate(j->b, text, "queries", queries, j->n, j->dim, isa,
                      rv_bench_time(j->b, run_search, j), bytes * queries, 0, all);
    }
}

static void codes_of(job *j, rv_ivf_codes codes, const char *name)
{
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    double rows = (double)j->n, t;
    char text[96];
    rv_ivf_config config;
    rv_ivf_stats stats;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    memset(&config, 0, sizeof config);
    config.dim = (uint32_t)j->dim;
    config.codes = codes;
    snprintf(text, sizeof text, "search %s", name);
    if (!rv_bench_wanted(j->b, text) && !rv_bench_wanted(j->b, "build")) return;
    rv_bench_check(j->b, rv_ivf_create(&ctx, &config, &j->index), ctx.message);
    t = rv_bench_now();
    rv_bench_check(j->b, rv_ivf_build(&ctx, j->index, NULL, j->rows, j->n), ctx.message);
    t = rv_bench_now() - t;
    rv_ivf_stats_get(j->index, &stats);
    snprintf(text, sizeof text, "build %s lists=%u B/row=%.1f", name, (unsigned)stats.n_lists,
             (double)(stats.total_bytes - stats.vector_bytes) / rows);
    if (rv_bench_wanted(j->b, text)) {
        rv_bench_rate(j->b, text, "rows", rows, j->n, j->dim, isa, t,
                      rows * (double)j->dim * sizeof(float),
                      2.0 * rows * (double)j->dim * (double)stats.n_lists,
                      (double)stats.total_bytes);
    }
    snprintf(text, sizeof text, "search %s", name);
    if (rv_bench_wanted(j->b, text)) searches(j, text);
    rv_ivf_destroy(j->index);
}

int main(int argc, char **argv)
{
    rv_bench b;
    rvd_model model;
    job j;
    rv_bench_begin(&b, "ivf", argc, argv);
    if (b.rounds > 3) b.rounds = 3; /* a call is all queries */
    memset(&j, 0, sizeof j);
    j.b = &b;
    j.n = option("N", 100000, argc, argv);
    j.dim = option("DIM", 128, argc, argv);
    j.n_queries = option("QUERIES", 200, argc, argv);
    j.rows = (float *)rv_bench_get(j.n * j.dim * sizeof(float));
    j.queries = (float *)rv_bench_get(j.n_queries * j.dim * sizeof(float));
    j.truth = (uint32_t *)rv_bench_get(j.n_queries * K * sizeof(uint32_t));
    j.hits = (rv_hit *)rv_bench_get(j.n_queries * K * sizeof(rv_hit));
    j.n_hits = (size_t *)rv_bench_get(j.n_queries * sizeof(size_t));
    if (rvd_model_init(&model, j.n, j.dim, 1) || rvd_model_rows(&model, 0, j.n, j.rows) ||
        rvd_model_rows(&model, RVD_QUERY_ROW, j.n_queries, j.queries))
        rv_bench_check(&b, -1, "out of memory");
    rvd_model_free(&model);
    make_truth(&j);
    codes_of(&j, RV_IVF_CODES_NONE, "none");
    codes_of(&j, RV_IVF_CODES_PQ, "pq");
    codes_of(&j, RV_IVF_CODES_RABITQ, "rabitq");
    free(j.rows);
    free(j.queries);
    free(j.truth);
    free(j.hits);
    free(j.n_hits);
    return rv_bench_end(&b);
}
