#ifndef RV_DENSE_C
#define RV_DENSE_C
#include "base.c"
#include "simd.c"
#include "mathx.h"

/* Layers y = x w^T + b over rows with their gradients, for mechanisms that have weights. Products
   run through the kernels, sums over rows for biases in double. */

/* Places in one block of floats, each at the start of a cache line. */
RV__FN size_t rv__dense_room(size_t *total, size_t rows, size_t cols)
{
    const size_t here = *total;
    *total = rv__add(here, rv__round_up(rv__mul(rows, cols), RV__LINE / sizeof(float)));
    return here;
}

/* Such a place; layers are also asked for their shapes, before there is memory. */
RV__FN const float *rv__dense_at(const float *base, size_t place)
{
    return base ? base + place : NULL;
}

typedef struct rv__dense {
    const float *x;          /* [n, n_in], rows ldx apart                                         */
    const float *w;          /* [n_out, n_in]                                                     */
    const float *b;          /* [n_out], NULL: none                                               */
    size_t ldx, n, n_in, n_out;
} rv__dense;

/* y: [n, n_out], rows ldy apart. Nothing is written when memory is refused. */
RV__FN rv_status rv__dense_forward(rv_ctx *ctx, const rv__dense *d, float *y, size_t ldy)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    size_t left = d->n_out;
    rv_status status = rv_gemm_nt_f32(ctx, d->x, d->ldx, d->w, d->n_in, d->n, d->n_out, d->n_in, 0,
                                      y, ldy);
    for (size_t i = 0; i < d->n && d->b && !status; i++) {
        kernels->add_f32(d->b, y + i * ldy, d->n_out);
        status = rv__poll_by(ctx, &left, d->n_out);
    }
    return status;
}

/* dst: [cols, rows] = src^T, src: [rows, cols], rows ld apart. */
RV__FN rv_status rv__dense_turn(rv_ctx *ctx, const float *src, size_t ld, size_t rows, size_t cols,
                                float *dst)
{
    size_t left = 16 * cols;
    for (size_t i = 0; i < rows; i += 16) {
        const size_t end = rows - i < 16 ? rows : i + 16;
        rv_status status = rv__poll_by(ctx, &left, 16 * cols);
        if (status) return status;
        for (size_t j = 0; j < cols; j++)
            for (size_t r = i; r < end; r++) dst[j * rows + r] = src[r * ld + j];
    }
    return RV_OK;
}

/* sum[n_out] = sums over the rows of dy. */
static rv_status rv__dense_sums(rv_ctx *ctx, const float *dy, size_t ld, size_t n, size_t n_out,
                                float *sum)
{
    const rv_alloc alloc = rv__allocator(ctx);
    double *wide = (double *)rv__get_zero(&alloc, n_out, sizeof(double));
    size_t left = n_out;
    rv_status status = wide ? RV_OK : rv__no_memory(ctx, rv__mul(n_out, sizeof(double)));
    for (size_t i = 0; i < n && !status; i++) {
        for (size_t j = 0; j < n_out; j++) wide[j] += (double)dy[i * ld + j];
        status = rv__poll_by(ctx, &left, n_out);
    }
    for (size_t j = 0; j < n_out && !status; j++) sum[j] = (float)wide[j];
    rv__put(&alloc, wide, n_out, sizeof(double));
    return status;
}

/* dw[n_out, n_in] = dy^T x. turned: room for (n_out + n_in) n floats. */
static rv_status rv__dense_slope(rv_ctx *ctx, const rv__dense *d, const float *dy, size_t ld,
                                 float *turned, float *dw)
{
    float *x = turned + d->n_out * d->n;
    rv_status status = RV_OK;
    if (d->n == 0) {
        memset(dw, 0, d->n_out * d->n_in * sizeof(float));
        return RV_OK;
    }
    status = rv__dense_turn(ctx, dy, ld, d->n, d->n_out, turned);
    if (!status) status = rv__dense_turn(ctx, d->x, d->ldx, d->n, d->n_in, x);
    if (!status)
        status = rv_gemm_nt_f32(ctx, turned, d->n, x, d->n, d->n_out, d->n_in, d->n, 0, dw, 0);
    return status;
}

/* Slopes by what went in, dy: [n, n_out] with rows ld apart being the slopes by y. dx: [n, n_in],
   rows lddx apart (0: packed); dw: [n_out, n_in]; db: [n_out]. NULL: not wanted. */
RV__FN rv_status rv__dense_backward(rv_ctx *ctx, const rv__dense *d, const float *dy, size_t ld,
                                    float *dx, size_t lddx, float *dw, float *db)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t n_w = dx ? rv__mul(d->n_in, d->n_out) : 0;
    const size_t n_turned = dw ? rv__mul(rv__add(d->n_in, d->n_out), d->n) : 0;
    const size_t n_floats = n_w > n_turned ? n_w : n_turned;
    float *turned = (float *)rv__get(&alloc, n_floats, sizeof(float));
    rv_status status = turned ? RV_OK : rv__no_memory(ctx, rv__mul(n_floats, sizeof(float)));
    if (!status && dx && d->n) {
        status = rv__dense_turn(ctx, d->w, d->n_in, d->n_out, d->n_in, turned);
        if (!status)
            status = rv_gemm_nt_f32(ctx, dy, ld, turned, d->n_out, d->n, d->n_in, d->n_out, 0, dx,
                                    lddx);
    }
    if (!status && dw) status = rv__dense_slope(ctx, d, dy, ld, turned, dw);
    if (!status && db) status = rv__dense_sums(ctx, dy, ld, d->n, d->n_out, db);
    rv__put(&alloc, turned, n_floats, sizeof(float));
    return status;
}

/* w: [n_out, n_in], uniform in +- sqrt(6 / (n_in + n_out)). Source: Glorot, Bengio, 2010. */
RV__FN void rv__dense_init(rv__rng *rng, size_t n_in, size_t n_out, float *w)
{
    const double bound = sqrt(6.0 / ((double)n_in + (double)n_out));
    for (size_t i = 0; i < n_in * n_out; i++)
        w[i] = (float)(bound * (2.0 * (double)rv__rng_f32(rng) - 1.0));
}

/* Rows of a narrow type as floats; dst: [rows, cols]. Returns them: src itself where it has floats,
   then *ld stays. */
RV__FN const float *rv__dense_rows(const rv__kernels *kernels, int type, const void *src,
                                   size_t *ld, size_t rows, size_t cols, float *dst)
{
    const uint16_t *half = (const uint16_t *)src;
    if (type == RV__TYPE_F32) return (const float *)src;
    for (size_t i = 0; i < rows; i++, half += *ld) {
        if (type == RV__TYPE_F16) kernels->widen_f16(half, dst + i * cols, cols);
        else kernels->widen_bf16(half, dst + i * cols, cols);
    }
    *ld = cols;
    return dst;
}

#endif /* RV_DENSE_C */
