/* Exact attention: all queries of a sequence, one query over many keys, slopes. One thread. ns is
   one call; limits count the products of logits and values, or the bytes of keys and values. */
#include "rv_bench.h"

#include "ruvector.h"

#include <math.h>

typedef struct job {
    rv_attn_config config;
    rv_attn_io io;
    rv_attn_grad grad;
    int backward;
} job;

static void *space(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p) exit(2);
    return p;
}

static void run(void *arg)
{
    const job *j = (const job *)arg;
    const rv_status status = j->backward ? rv_attn_backward(NULL, &j->config, &j->io, &j->grad)
                                         : rv_attn(NULL, &j->config, &j->io);
    if (status) exit(3);
}

static void *narrow(const float *x, size_t n, rv_dtype type)
{
    uint16_t *to = (uint16_t *)space(n * sizeof *to);
    if (type == RV_DTYPE_F16) rv_convert_f32_to_f16(x, to, n);
    else rv_convert_f32_to_bf16(x, to, n);
    return to;
}

static void fill(float *x, size_t n)
{
    static uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

static void measure_it(rv_bench *b, const char *name, size_t n_q, size_t n_k, uint32_t heads,
                       size_t dim, rv_dtype type, int order, int backward)
{
    const size_t n = n_k * heads * dim, m = n_q * heads * dim;
    const double seen = order ? (double)(n_k + 1) / 2 : (double)n_k;
    const double pairs = (double)heads * (double)n_q * seen;
    const double bytes = 2.0 * (double)n * (double)rv_dtype_bytes(type, 1);
    float *q = (float *)space(m * sizeof *q), *out = (float *)space(m * sizeof *out);
    float *k = (float *)space(n * sizeof *k), *v = (float *)space(n * sizeof *v);
    float *d_q = (float *)space(m * sizeof *d_q), *d_k = (float *)space(n * sizeof *d_k);
    float *d_v = (float *)space(n * sizeof *d_v);
    job j;
    memset(&j, 0, sizeof j);
    fill(q, m);
    fill(k, n);
    fill(v, n);
    j.config.heads = heads;
    j.config.order = order ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
    j.io.n_q = n_q;
    j.io.n_k = n_k;
    j.io.dim = dim;
    j.io.type = type;
    j.io.q = q;
    j.io.k = type == RV_DTYPE_F32 ? (void *)k : narrow(k, n, type);
    j.io.v = type == RV_DTYPE_F32 ? (void *)v : narrow(v, n, type);
    j.io.out = out;
    j.backward = backward;
    j.grad.d_out = q;
    j.grad.d_q = d_q;
    j.grad.d_k = d_k;
    j.grad.d_v = d_v;
    rv_bench_line_ws(b, name, n_k, dim, "best", rv_bench_time(b, run, &j), bytes,
                     pairs * 4.0 * (double)dim * (backward ? 3.5 : 1.0), bytes);
    if (type != RV_DTYPE_F32) {
        free((void *)(uintptr_t)j.io.k);
        free((void *)(uintptr_t)j.io.v);
    }
    free(q);
    free(k);
    free(v);
    free(out);
    free(d_q);
    free(d_k);
    free(d_v);
}

static void measure(rv_bench *b, const char *name, size_t n_q, size_t n_k, uint32_t heads,
                    size_t dim, rv_dtype type, int order, int backward)
{
    if (rv_bench_wanted(b, name)) measure_it(b, name, n_q, n_k, heads, dim, type, order, backward);
}

int main(int argc, char **argv)
{
    static const size_t lengths[] = {128, 512, 2048, 4096, 16384};
    static const size_t keys[] = {100, 1024, 4096, 16384, 65536};
    static const size_t dims[] = {64, 128, 512, 768};
    rv_bench b;
    rv_bench_begin(&b, "attn", argc, argv);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const size_t n = lengths[i];
        measure(&b, "full_f32", n, n, 8, 64, RV_DTYPE_F32, 0, 0);
        measure(&b, "causal_f32", n, n, 8, 64, RV_DTYPE_F32, 1, 0);
        measure(&b, "full_f16", n, n, 8, 64, RV_DTYPE_F16, 0, 0);
        measure(&b, "full_bf16", n, n, 8, 64, RV_DTYPE_BF16, 0, 0);
        if (n <= 4096) measure(&b, "back_f32", n, n, 8, 64, RV_DTYPE_F32, 0, 1);
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        measure(&b, "decode_8x64", 1, keys[i], 8, 64, RV_DTYPE_F32, 0, 0);
        measure(&b, "decode_8x64_bf16", 1, keys[i], 8, 64, RV_DTYPE_BF16, 0, 0);
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
            measure(&b, "one_query", 1, keys[i], 1, dims[d], RV_DTYPE_F32, 0, 0);
    }
    return rv_bench_end(&b);
}
