/* Hyperbolic distances: one pair, one query against rows in the caches and in main memory, the
   metrics that indexes call, one embedding. ns is one call, one row where the name says so. */
#include "rv_bench.h"

#include "ruvector.h"

enum { MOST = 1 << 20 };

typedef struct job {
    const float *rows, *factors;
    float *out;
    size_t n, dim;
} job;

static double curvature = 1.0;

static void run_pair(void *arg)
{
    const job *j = (const job *)arg;
    rv_bench_sink((double)rv_poincare_distance(j->rows, j->rows + j->dim, j->dim, 1.0f));
}

static void run_pair_f64(void *arg)
{
    static const double x[5] = {0.1, -0.5, 0.2, 0.3, 0.4}, y[5] = {0.2, 0.5, -0.6, 0.3, 0.1};
    (void)arg;
    rv_bench_sink(rv_poincare_distance_f64(x, y, 5, 1.0));
}

static void run_lorentz_f64(void *arg)
{
    static const double x[6] = {0, 0.1, -0.5, 0.2, 0.3, 0.4}, y[6] = {0, 0.2, 0.5, -0.6, 0.3, 0.1};
    (void)arg;
    rv_bench_sink(rv_lorentz_distance_f64(x, y, 5, 1.0));
}

static void run_exp_f64(void *arg)
{
    static const double x[5] = {0.1, -0.5, 0.2, 0.3, 0.4}, y[5] = {0.2, 0.5, -0.6, 0.3, 0.1};
    double out[5];
    (void)arg;
    rv_poincare_exp_f64(x, y, 5, 1.0, out);
    rv_bench_sink(out[0]);
}

static void run_metric(void *arg)
{
    const job *j = (const job *)arg;
    rv_bench_sink((double)rv_poincare_metric(&curvature, j->rows, j->rows + j->dim, j->dim));
}

static void run_packed(void *arg)
{
    const job *j = (const job *)arg;
    rv_bench_sink((double)rv_poincare_packed_metric(&curvature, j->rows, j->rows + j->dim, j->dim));
}

static void run_many(void *arg)
{
    const job *j = (const job *)arg;
    rv_poincare_distance_many(j->rows, j->rows, j->factors, j->n, j->dim, 1.0f, j->out);
    rv_bench_touch(j->out);
}

/* A binary tree of 1023 nodes: all pairs of node and ancestor. */
static void run_train(void *arg)
{
    static uint32_t edges[2 * 1023 * 10];
    static float out[1023 * 6];
    rv_embed_config config = {0};
    size_t n = 0;
    for (uint32_t u = 1; u < 1023; u++)
        for (uint32_t v = u; v > 0; n++) {
            v = (v - 1) / 2;
            edges[2 * n] = u;
            edges[2 * n + 1] = v;
        }
    config.dim = 5;
    config.model = *(rv_embed_model *)arg;
    config.epochs = 2;
    if (rv_embed_train(NULL, &config, edges, n, 1023, out)) exit(1);
    rv_bench_touch(out);
}

int main(int argc, char **argv)
{
    static const size_t dims[] = {5, 10, 100};
    static const struct {
        const char *name;
        rv_bench_fn fn;
    } pairs[] = {{"poincare_distance", run_pair}, {"poincare_metric", run_metric},
                 {"poincare_packed_metric", run_packed}};
    static const struct {
        const char *name;
        rv_bench_fn fn;
    } doubles[] = {{"poincare_distance_f64", run_pair_f64}, {"poincare_exp_f64", run_exp_f64},
                   {"lorentz_distance_f64", run_lorentz_f64}};
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    float *rows = (float *)rv_bench_get((size_t)MOST * 100 * sizeof(float));
    float *factors = (float *)rv_bench_get(MOST * sizeof(float));
    rv_embed_model models[2] = {RV_EMBED_POINCARE, RV_EMBED_LORENTZ};
    rv_bench b;
    job j;
    rv_bench_begin(&b, "hyperbolic", argc, argv);
    rv_bench_fill(rows, (size_t)MOST * 100, 1);
    for (size_t i = 0; i < (size_t)MOST * 100; i++) rows[i] *= 0.09f; /* inside the ball */
    j.rows = rows;
    j.out = (float *)rv_bench_get(MOST * sizeof(float));
    for (size_t d = 0; d < 3; d++) {
        j.dim = dims[d];
        for (size_t i = 0; i < 3; i++)
            if (rv_bench_wanted(&b, pairs[i].name))
                rv_bench_line(&b, pairs[i].name, 1, j.dim, isa, rv_bench_time(&b, pairs[i].fn, &j),
                              0, 0);
        rv_poincare_factors(rows, MOST, j.dim, 1.0f, factors);
        for (j.n = 1000; j.n <= 1000000; j.n *= 1000)
            for (int with = 1; with >= 0; with--) {
                const char *name = with ? "many/row" : "many/row no factors";
                j.factors = with ? factors : NULL;
                if (!rv_bench_wanted(&b, name)) continue;
                rv_bench_line(&b, name, j.n, j.dim, isa,
                              rv_bench_time(&b, run_many, &j) / (double)j.n,
                              (double)(j.dim + 2) * 4.0, 0);
            }
    }
    for (size_t i = 0; i < 3; i++)
        if (rv_bench_wanted(&b, doubles[i].name))
            rv_bench_line(&b, doubles[i].name, 1, 5, isa, rv_bench_time(&b, doubles[i].fn, &j), 0,
                          0);
    for (size_t i = 0; i < 2; i++)
        if (rv_bench_wanted(&b, "train"))
            rv_bench_line(&b, i ? "train lorentz/edge" : "train poincare/edge", 8196, 5, isa,
                          rv_bench_time(&b, run_train, models + i) / (2.0 * 8196.0), 0, 0);
    free(rows);
    free(factors);
    free(j.out);
    return rv_bench_end(&b);
}
