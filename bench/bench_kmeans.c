/* k-means: one iteration of Lloyd's, assignment alone, and the start (k-means++, where k <= 256).
   ns is one row; the limit of each is 2 k dim operations per row. An iteration is what training of
   two takes beyond that of one (no more, because later ones may end early), a start the rest of
   the latter. */
#include "rv_bench.h"
#include "ruvector.h"

typedef struct job {
    rv_bench *b;
    rv_kmeans_config config;
    const float *rows;
    float *centroids;
    uint32_t *label;
    size_t n, dim;
} job;

static void run_train(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_kmeans_train(&ctx, &j->config, j->rows, 0, j->n, j->dim, j->centroids,
                                         NULL, NULL), ctx.message);
    rv_bench_touch(j->centroids);
}

static void run_assign(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_kmeans_assign(&ctx, j->centroids, j->config.k, j->dim, j->rows, 0, j->n,
                                          j->label, NULL), ctx.message);
    rv_bench_touch(j->label);
}

static void shape(rv_bench *b, size_t n, size_t dim, uint32_t k)
{
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    double flops = 2.0 * (double)n * (double)dim * k, bytes = (double)(n * dim) * sizeof(float);
    double one, iteration;
    float *rows = (float *)rv_bench_get(n * dim * sizeof(float));
    char name[64];
    rv_bench_entry both[2];
    job j, longer;
    memset(&j, 0, sizeof j);
    j.b = b;
    j.config.k = k;
    j.config.sample = (uint32_t)(n / k) + 1; /* every row */
    j.n = n;
    j.dim = dim;
    j.rows = rows;
    j.centroids = (float *)rv_bench_get(k * dim * sizeof(float));
    j.label = (uint32_t *)rv_bench_get(n * sizeof(uint32_t));
    rv_bench_fill(rows, n * dim, 1);
    snprintf(name, sizeof name, "assign k=%u", (unsigned)k);
    j.config.iterations = 1;
    run_train(&j);
    if (rv_bench_wanted(b, name)) {
        rv_bench_rate(b, name, "rows", (double)n, n, dim, isa, rv_bench_time(b, run_assign, &j),
                      bytes, flops, bytes);
    }
    longer = j;
    longer.config.iterations = 2;
    memset(both, 0, sizeof both);
    both[0].fn = both[1].fn = run_train;
    both[0].arg = &j;
    both[1].arg = &longer;
    rv_bench_race(b, both, 2);
    one = both[0].best_ns;
    iteration = both[1].best_ns - one;
    snprintf(name, sizeof name, "iteration k=%u", (unsigned)k);
    if (rv_bench_wanted(b, name))
        rv_bench_rate(b, name, "rows", (double)n, n, dim, isa, iteration, bytes, flops, bytes);
    snprintf(name, sizeof name, "start k=%u", (unsigned)k);
    if (rv_bench_wanted(b, name) && k <= 256) {
        rv_bench_rate(b, name, "rows", (double)n, n, dim, isa, one - iteration, bytes, flops,
                      bytes);
    }
    free(rows);
    free(j.centroids);
    free(j.label);
}

int main(int argc, char **argv)
{
    rv_bench b;
    rv_bench_begin(&b, "kmeans", argc, argv);
    if (b.rounds > 5) b.rounds = 5; /* a call takes up to a fifth of a second */
    shape(&b, 20000, 8, 16);
    shape(&b, 20000, 4, 256); /* one run of PQ with 8 bits */
    shape(&b, 20000, 128, 256);
    shape(&b, 20000, 128, 320); /* what ivf does with 100000 rows */
    shape(&b, 20000, 128, 1024);
    shape(&b, 8000, 768, 512);
    return rv_bench_end(&b);
}
