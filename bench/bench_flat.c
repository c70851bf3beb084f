/* Exact search: one query, a batch, filters, from main memory. bytes of a case: the rows one call
   has to read from memory (a batch: once per group of 16 queries).

   MEGABYTES= size of the rows, default 512. */
#include "rv_bench.h"
#include "ruvector.h"

#include <stdint.h>

typedef struct job {
    rv_ctx ctx;
    rv_flat *index;
    const void *queries;
    size_t n_queries, k;
    const rv_filter *filter;
    rv_hit *hits;
    size_t *n_hits;
} job;

static uint64_t bench_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_flat: %s\n", what);
    exit(2);
}

static void *grab(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p) fail("out of memory");
    return p;
}

static void run(void *arg)
{
    job *j = (job *)arg;
    rv_status status;
    if (j->n_queries == 1) {
        status = rv_flat_search(&j->ctx, j->index, j->queries, j->k, j->filter, j->hits, j->n_hits);
    } else {
        status = rv_flat_search_batch(&j->ctx, j->index, j->queries, j->n_queries, j->k, j->filter,
                                      j->hits, j->n_hits);
    }
    if (status != RV_OK) fail(j->ctx.message);
    rv_bench_sink((double)j->hits[0].distance);
}

static int accept_share(void *user, uint64_t key)
{
    return bench_mix(key) % 100 < *(const uint64_t *)user;
}

/* Rows are made a piece at a time, so that only the index holds them all. */
static rv_flat *make(rv_metric metric, rv_dtype type, size_t dim, size_t n)
{
    size_t bytes = type == RV_DTYPE_U1 ? (dim + 7) / 8 : dim * sizeof(float), piece = 4096;
    unsigned char *rows = (unsigned char *)grab(piece * bytes);
    uint64_t *keys = (uint64_t *)grab(piece * sizeof(uint64_t)), state = 1;
    rv_flat_config config;
    rv_flat *index = NULL;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    memset(&config, 0, sizeof config);
    config.dim = (uint32_t)dim;
    config.metric = metric;
    config.type = type;
    config.capacity = n;
    if (rv_flat_create(&ctx, &config, &index)) fail(ctx.message);
    for (size_t done = 0; done < n; done += piece) {
        size_t count = n - done < piece ? n - done : piece;
        for (size_t i = 0; i < count; i++) keys[i] = done + i;
        for (size_t i = 0; i < count * (bytes / 4); i++) {
            float x = (float)(bench_mix(state++) >> 40) / 8388608.0f - 1.0f;
            uint32_t bits = (uint32_t)bench_mix(state++);
            memcpy(rows + 4 * i, type == RV_DTYPE_U1 ? (const void *)&bits : (const void *)&x, 4);
        }
        if (rv_flat_build(&ctx, index, keys, rows, count)) fail(ctx.message);
    }
    free(rows);
    free(keys);
    return index;
}

static void line(rv_bench *b, job *j, const char *name, size_t n, size_t dim, double row_bytes,
                 double share)
{
    size_t groups = (j->n_queries + 15) / 16;
    double rows = (double)n * share, bytes = rows * row_bytes * (double)groups;
    double flops = j->n_queries > 1 ? 2.0 * rows * (double)dim * (double)j->n_queries : 0;
    double ns;
    if (!rv_bench_wanted(b, name)) return;
    ns = rv_bench_time(b, run, j);
    rv_bench_line_ws(b, name, n, dim, rv_isa_name(rv_isa_resolve(RV_ISA_BEST)), ns, bytes, flops,
                     (double)n * row_bytes);
}

static void table(rv_bench *b, rv_metric metric, rv_dtype type, size_t dim, size_t megabytes)
{
    double row_bytes = (double)rv_dtype_bytes(type, dim);
    size_t n = (size_t)((double)(megabytes << 20) / row_bytes), vector = dim * sizeof(float);
    static const uint64_t shares[] = {50, 10, 1};
    char name[64];
    rv_filter filter;
    job j;
    uint64_t share;
    memset(&j, 0, sizeof j);
    snprintf(name, sizeof name, "one_%s_%s", rv_metric_name(metric), rv_dtype_name(type));
    if (!rv_bench_wanted(b, name) && !rv_bench_wanted(b, "batch") && !rv_bench_wanted(b, "filter"))
        return;
    j.index = make(metric, type, dim, n);
    j.n_queries = 1;
    j.k = 10;
    j.queries = grab(64 * vector);
    for (size_t i = 0; i < 64 * dim; i++) {
        float x = (float)(bench_mix(~(uint64_t)i) >> 40) / 8388608.0f - 1.0f;
        memcpy((char *)(uintptr_t)j.queries + 4 * i, &x, 4);
    }
    j.hits = (rv_hit *)grab(64 * j.k * sizeof(rv_hit));
    j.n_hits = (size_t *)grab(64 * sizeof(size_t));
    line(b, &j, name, n, dim, row_bytes, 1.0);
#ifdef RV_THREADS
    snprintf(name, sizeof name, "one_%s_%s_threads", rv_metric_name(metric), rv_dtype_name(type));
    j.ctx.parallel = rv_parallel_threads;
    line(b, &j, name, n, dim, row_bytes, 1.0);
    j.ctx.parallel = NULL;
#endif
    j.n_queries = 64;
    snprintf(name, sizeof name, "batch64_%s_%s", rv_metric_name(metric), rv_dtype_name(type));
    line(b, &j, name, n, dim, row_bytes, 1.0);
    j.n_queries = 1;
    for (size_t i = 0; i < 3 && type == RV_DTYPE_F32; i++) {
        memset(&filter, 0, sizeof filter);
        share = shares[i];
        filter.accept = accept_share;
        filter.user = &share;
        j.filter = &filter;
        snprintf(name, sizeof name, "filter%lu_%s_%s", (unsigned long)share, rv_metric_name(metric),
                 rv_dtype_name(type));
        line(b, &j, name, n, dim, row_bytes, (double)share / 100);
    }
    rv_flat_destroy(j.index);
    free((void *)(uintptr_t)j.queries);
    free(j.hits);
    free(j.n_hits);
}

int main(int argc, char **argv)
{
    static const size_t dims[] = {96, 128, 384, 768, 1024, 1536};
    const char *text = rv_bench_option("MEGABYTES", argc, argv);
    size_t megabytes = text ? (size_t)atol(text) : 512;
    rv_bench b;
    rv_bench_begin(&b, "flat", argc, argv);
    if (b.rounds > 5) b.rounds = 5; /* a call takes tens of milliseconds */
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        table(&b, RV_METRIC_L2, RV_DTYPE_F32, dims[i], megabytes);
    }
    table(&b, RV_METRIC_IP, RV_DTYPE_F32, 768, megabytes);
    table(&b, RV_METRIC_COSINE, RV_DTYPE_F32, 768, megabytes);
    table(&b, RV_METRIC_L2, RV_DTYPE_F16, 768, megabytes);
    table(&b, RV_METRIC_L2, RV_DTYPE_BF16, 768, megabytes);
    table(&b, RV_METRIC_L2, RV_DTYPE_I8, 768, megabytes);
    table(&b, RV_METRIC_HAMMING, RV_DTYPE_U1, 1024, megabytes / 4);
    return rv_bench_end(&b);
}
