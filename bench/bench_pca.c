/* Principal components: training (ns is one call of n rows), applying and restoring (ns is one
   row). The limit of training counts the covariance only, at half of the products by its
   symmetry. */
#include "rv_bench.h"
#include "ruvector.h"

enum { ROWS = 8192 };

typedef struct job {
    rv_bench *b;
    size_t dim, n_out;
    float *rows, *mean, *basis, *out;
} job;

static void run_train(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_pca_train(&ctx, j->rows, 0, ROWS, j->dim, j->n_out, j->mean, j->basis,
                                      NULL, NULL), ctx.message);
    rv_bench_touch(j->basis);
}

static void run_apply(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_pca_apply(&ctx, j->mean, j->basis, j->dim, j->n_out, j->rows, 0, ROWS,
                                      j->out), ctx.message);
    rv_bench_touch(j->out);
}

static void run_restore(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_pca_restore(&ctx, j->mean, j->basis, j->dim, j->n_out, j->out, ROWS,
                                        j->rows), ctx.message);
    rv_bench_touch(j->rows);
}

/* Uniform noise on axes of falling width, so that there are components to find. */
static void shape(rv_bench *b, size_t dim, size_t n_out)
{
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    double bytes = (double)(ROWS * dim) * sizeof(float), flops = 2.0 * ROWS * (double)(dim * n_out);
    double ns;
    char name[64], text[96];
    job j;
    j.b = b;
    j.dim = dim;
    j.n_out = n_out;
    j.rows = (float *)rv_bench_get(ROWS * dim * sizeof(float));
    j.mean = (float *)rv_bench_get(dim * sizeof(float));
    j.basis = (float *)rv_bench_get(dim * n_out * sizeof(float));
    j.out = (float *)rv_bench_get(ROWS * n_out * sizeof(float));
    rv_bench_fill(j.rows, ROWS * dim, 1);
    for (size_t i = 0; i < ROWS * dim; i++) j.rows[i] /= 1.0f + 0.1f * (float)(i % dim);
    ns = rv_bench_time(b, run_train, &j);
    snprintf(name, sizeof name, "train to %lu", (unsigned long)n_out);
    snprintf(text, sizeof text, "%s ms=%.1f", name, ns / 1e6);
    if (rv_bench_wanted(b, name))
        rv_bench_line(b, text, ROWS, dim, isa, ns, bytes, ROWS * (double)dim * (double)(dim + 1));
    snprintf(name, sizeof name, "apply to %lu", (unsigned long)n_out);
    ns = rv_bench_time(b, run_apply, &j);
    if (rv_bench_wanted(b, name))
        rv_bench_rate(b, name, "rows", ROWS, ROWS, dim, isa, ns, bytes, flops, bytes);
    snprintf(name, sizeof name, "restore from %lu", (unsigned long)n_out);
    if (rv_bench_wanted(b, name)) {
        ns = rv_bench_time(b, run_restore, &j);
        rv_bench_rate(b, name, "rows", ROWS, ROWS, dim, isa, ns, bytes, flops, bytes);
    }
    free(j.rows);
    free(j.mean);
    free(j.basis);
    free(j.out);
}

int main(int argc, char **argv)
{
    rv_bench b;
    rv_bench_begin(&b, "pca", argc, argv);
    if (b.rounds > 3) b.rounds = 3; /* a training takes up to a second */
    shape(&b, 128, 64);
    shape(&b, 384, 128);
    shape(&b, 768, 192);
    return rv_bench_end(&b);
}
