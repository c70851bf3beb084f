/* Elementary functions, softmax, conversions, matrix products, selection. ns is one call of n. The
   library is compiled in, because the kernels of one instruction set are private. */
#include "rv_bench.h"

#define RV_STATIC
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

typedef struct job {
    const rv__kernels *kernels;
    int what;
    const float *x;
    float *y;
    uint16_t *h;
    int8_t *c;
    uint32_t *index;
    size_t m, n, k;
    void *scratch;
} job;

enum {
    EXP,
    LOG,
    TANH,
    SIGMOID,
    ERF,
    SOFTMAX,
    AXPY,
    TO_F16,
    FROM_F16,
    TO_BF16,
    FROM_BF16,
    TO_I8,
    FROM_I8,
    TOPK,
    GEMV,
    GRAM_F32,
    GRAM_I8,
    WHATS
};
static const char *const names[WHATS] = {
    "exp",       "log",        "tanh",       "sigmoid",     "erf",         "softmax",
    "axpy",      "f32_to_f16", "f16_to_f32", "f32_to_bf16", "bf16_to_f32", "f32_to_i8",
    "i8_to_f32", "topk",       "gemv",       "gram_f32",    "gram_i8"};

static void run(void *arg)
{
    job *j = (job *)arg;
    const rv__kernels *k = j->kernels;
    switch (j->what) {
    case EXP: k->exp_f32(j->x, j->y, j->n); break;
    case LOG: k->log_f32(j->x, j->y, j->n); break;
    case TANH: k->tanh_f32(j->x, j->y, j->n); break;
    case SIGMOID: k->sigmoid_f32(j->x, j->y, j->n); break;
    case ERF: k->erf_f32(j->x, j->y, j->n); break;
    case SOFTMAX: rv__softmax(k, j->x, 1.0f, j->y, j->n); break;
    case AXPY: k->axpy_f32(1e-9f, j->x, j->y, j->n); break;
    case TO_F16: k->narrow_f16(j->x, j->h, j->n); break;
    case FROM_F16: k->widen_f16(j->h, j->y, j->n); break;
    case TO_BF16: k->narrow_bf16(j->x, j->h, j->n); break;
    case FROM_BF16: k->widen_bf16(j->h, j->y, j->n); break;
    case TO_I8: k->narrow_i8(j->x, 10.0f, j->c, j->n); break;
    case FROM_I8: k->widen_i8(j->c, 0.1f, j->y, j->n); break;
    case TOPK: (void)rv_topk_f32(j->x, j->n, j->k, j->index, NULL); break;
    case GEMV:
        k->scan_dot_f32(j->x, (const unsigned char *)j->x, 4 * j->n, NULL, j->m, j->n, j->y);
        break;
    case GRAM_F32:
        k->gram_f32(j->x, j->k, j->m, j->x, j->k, j->n, j->k, j->y, j->n, j->scratch);
        break;
    default:
        k->pack_i8(j->c, j->k, j->n, j->k, j->scratch);
        k->gram_i8(j->c, j->k, j->m, 0, j->n, j->k, (int32_t *)(void *)j->y, j->n, j->scratch);
        break;
    }
    rv_bench_touch(j->y);
}

static void one(rv_bench *b, job *j, int what, double bytes, double flops, size_t dim)
{
    if (!rv_bench_wanted(b, names[what])) return;
    j->what = what;
    rv_bench_line(b, names[what], j->n, dim, rv_isa_name(j->kernels->isa), rv_bench_time(b, run, j),
                  bytes, flops);
}

static void all(rv_bench *b, job *j)
{
    static const size_t depths[] = {64, 128, 256, 768};
    j->n = 1024;
    for (int what = EXP; what <= AXPY; what++) one(b, j, what, (double)j->n * 8, 0, 0);
    one(b, j, TO_F16, (double)j->n * 6, 0, 0);
    one(b, j, FROM_F16, (double)j->n * 6, 0, 0);
    one(b, j, TO_BF16, (double)j->n * 6, 0, 0);
    one(b, j, FROM_BF16, (double)j->n * 6, 0, 0);
    one(b, j, TO_I8, (double)j->n * 5, 0, 0);
    one(b, j, FROM_I8, (double)j->n * 5, 0, 0);
    for (j->k = 10; j->k <= 100; j->k *= 10) {
        j->n = 100000;
        one(b, j, TOPK, (double)j->n * 4, 0, j->k);
    }
    j->m = 256;
    j->n = 256;
    one(b, j, GEMV, (double)(j->m * j->n * 4), 2.0 * (double)(j->m * j->n), j->n);
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        j->m = j->n = 512;
        j->k = depths[i];
        one(b, j, GRAM_F32, (double)(j->m * j->k * 8), 2.0 * (double)(j->m * j->n * j->k), j->k);
        one(b, j, GRAM_I8, (double)(j->m * j->k * 2), 0, j->k);
    }
}

int main(int argc, char **argv)
{
    static const rv_isa isas[] = {RV_ISA_SCALAR, RV_ISA_AVX2, RV_ISA_BEST};
    const size_t count = 1u << 20;
    rv_alloc alloc = rv__allocator(NULL);
    size_t scratch = rv__gram_i8_scratch(512, 768) + rv__gram_f32_scratch();
    float *x = (float *)rv__get(&alloc, count, 4);
    rv_bench b;
    job j;
    memset(&j, 0, sizeof j);
    j.y = (float *)rv__get_zero(&alloc, count, 4);
    j.h = (uint16_t *)rv__get_zero(&alloc, count, 2);
    j.c = (int8_t *)rv__get_zero(&alloc, count, 1);
    j.index = (uint32_t *)rv__get(&alloc, 1024, 4);
    j.scratch = rv__get(&alloc, scratch, 1);
    if (!x || !j.y || !j.h || !j.c || !j.index || !j.scratch) {
        fprintf(stderr, "bench_mathx: out of memory\n");
        return 2;
    }
    for (size_t i = 0; i < count; i++) {
        x[i] = (float)((i * 2654435761u) & 0xFFFFu) / 8192.0f + 0.001f;
        j.c[i] = (int8_t)((int)(i * 37 % 255) - 127);
    }
    j.x = x;
    rv_bench_begin(&b, "mathx", argc, argv);
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        if (isas[i] != RV_ISA_BEST && rv_isa_resolve(isas[i]) != isas[i]) continue;
        j.kernels = rv__kernels_for(isas[i]);
        all(&b, &j);
    }
    rv__put(&alloc, x, count, 4);
    rv__put(&alloc, j.y, count, 4);
    rv__put(&alloc, j.h, count, 2);
    rv__put(&alloc, j.c, count, 1);
    rv__put(&alloc, j.index, 1024, 4);
    rv__put(&alloc, j.scratch, scratch, 1);
    return rv_bench_end(&b);
}
