/* Compression: codes of few bits, sparse products, truncated decompositions. ns is one call. */
#include "rv_bench.h"

#include "ruvector.h"

enum { ROWS = 512, DIM = 128, ALL = ROWS * DIM, PER_ROW = 16 };

typedef struct job {
    const char *name;
    size_t n, dim, kind;
    rv_status (*run)(struct job *j);
} job;

static float x[ALL], y[ALL], scale[ROWS], u[ROWS * 16], v[ROWS * 16];
static unsigned char codes[ALL];
static uint32_t start[ROWS + 1], column[ROWS * PER_ROW];

static rv_status run_quantize(job *j)
{
    rv_affine_shape shape = {1, ROWS, DIM, 0};
    if (j->kind == RV_AFFINE_I4) shape.outer = ROWS, shape.channels = DIM, shape.inner = 1;
    return rv_affine_quantize(NULL, (rv_affine_type)j->kind, x, &shape, scale, NULL, codes);
}

static rv_status run_dequantize(job *j)
{
    const rv_affine_shape shape = {1, ROWS, DIM, 0};
    return rv_affine_dequantize(NULL, (rv_affine_type)j->kind, codes, &shape, scale, NULL, y);
}

static rv_status run_pack(job *j)
{
    const rv_affine_component parts[3] = {{64, 8}, {32, 5}, {32, 5}};
    (void)j;
    return rv_affine_pack(NULL, parts, 3, x, ROWS, codes);
}

static rv_status run_csr(job *j)
{
    rv_csr a = {ROWS, ROWS, NULL, NULL, NULL};
    a.start = start;
    a.index = column;
    a.value = x;
    return j->kind > 1 ? rv_csr_times_dense(NULL, &a, x, j->kind, y) : rv_csr_times(NULL, &a, x, y);
}

static rv_status run_svd(job *j)
{
    rv_lowrank_config config = {RV_LOWRANK_AUTO, 0, 0};
    config.method = (rv_lowrank_method)j->kind;
    return rv_lowrank_svd(NULL, &config, x, j->n, j->dim, 16, u, scale, v, NULL);
}

static job jobs[] = {{"i8_rows", ROWS, DIM, RV_AFFINE_I8, run_quantize},
                     {"i4_groups", ROWS, DIM, RV_AFFINE_I4, run_quantize},
                     {"i8_back", ROWS, DIM, RV_AFFINE_I8, run_dequantize},
                     {"components", ROWS, DIM, 0, run_pack},
                     {"csr_times", ROWS, PER_ROW, 1, run_csr},
                     {"csr_times_dense", ROWS, PER_ROW, DIM, run_csr},
                     {"svd_exact", 64, 64, RV_LOWRANK_EXACT, run_svd},
                     {"svd_random", 256, 256, RV_LOWRANK_RANDOM, run_svd}};

static void run(void *arg)
{
    job *j = (job *)arg;
    if (j->run(j)) exit(2);
    rv_bench_touch(y);
}

int main(int argc, char **argv)
{
    rv_bench b;
    rv_bench_begin(&b, "lowrank", argc, argv);
    for (size_t i = 0; i < ALL; i++) x[i] = (float)((i * 2654435761u) & 0xFFFFu) / 32768.0f - 1.0f;
    for (size_t i = 0; i < ROWS; i++) {
        scale[i] = 1.0f / 127;
        start[i + 1] = (uint32_t)((i + 1) * PER_ROW);
        for (size_t e = 0; e < PER_ROW; e++) column[i * PER_ROW + e] = (uint32_t)(e * 32 + i % 32);
    }
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        job *j = &jobs[i];
        if (!rv_bench_wanted(&b, j->name)) continue;
        rv_bench_line(&b, j->name, j->n, j->dim, rv_isa_name(rv_isa_resolve(RV_ISA_BEST)),
                      rv_bench_time(&b, run, j), (double)(j->n * j->dim) * sizeof *x, 0);
        for (size_t k = 0; k < ROWS; k++) scale[k] = 1.0f / 127;
    }
    return rv_bench_end(&b);
}
