#ifndef RV_NORM_C
#define RV_NORM_C
#include "norm.h"
#include "base.c"
#include "simd.c"

/* Normalization of rows, forward and backward, and dropout.

   Forward, per row: z = x + residual goes to `out` less its mean (LAYER, the mean summed in double)
   or as it is (RMS); the sum of squares of what stands there is one dot product; a last pass scales
   and shifts. Differences from the mean are taken before squaring, so large means cost nothing.

   Backward: with h = normalized z, g = d_out * gamma and s = 1 / sqrt(variance + eps)
       LAYER  d_z = s (g - mean g - h mean(g h))
       RMS    d_z = s (g - h mean(g h))
       BATCH  d_z = s g
   and d_gamma = sum of d_out h, d_beta = sum of d_out over rows, in double.

   Sources: Ba, Kiros, Hinton, Layer normalization, 2016; Zhang, Sennrich, Root mean square layer
   normalization, 2019; Ioffe, Szegedy, Batch normalization, 2015; Srivastava et al., Dropout: a
   simple way to prevent neural networks from overfitting, 2014. */

#define RV__NORM_POLL 65536u /* elements between two polls */

static const rv_norm_info rv__norm_infos[] = {
    {"layer", "Ba, Kiros, Hinton, 2016"},
    {"rms", "Zhang, Sennrich, 2019"},
    {"batch", "Ioffe, Szegedy, 2015"},
};

RV_API const rv_norm_info *rv_norm_kind_at(size_t i)
{
    return i < sizeof rv__norm_infos / sizeof rv__norm_infos[0] ? &rv__norm_infos[i] : NULL;
}

/* What a call works with, all defaults filled in. */
typedef struct rv__norm {
    const rv__kernels *kernels;
    const rv_norm_io *io;
    rv_norm_kind kind;
    double eps;
    size_t inner;
} rv__norm;

static rv_status rv__norm_check(rv_ctx *ctx, const rv_norm_config *config, const rv_norm_io *io,
                                rv__norm *norm)
{
    float eps = config && rv__given(config->eps) ? config->eps : 1e-5f;
    norm->kind = config ? config->kind : RV_NORM_LAYER;
    norm->io = io;
    norm->eps = (double)eps;
    norm->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    if (!rv_norm_kind_at((size_t)norm->kind)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kind is %d; it must be one of rv_norm_kind, 0..2",
                        (int)norm->kind);
    }
    if (!rv__finite_f32(eps) || eps < 0.0f || eps > 1.0f) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "eps is %f; it must be above 0 and at most 1",
                        (double)eps);
    }
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io is NULL");
    norm->inner = io->inner ? io->inner : 1;
    if (io->dim < 1 || io->dim > 16777216u) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "dim is %z; it must be 1..16777216", io->dim);
    }
    if (rv__mul(rv__mul(io->n, io->dim), norm->inner) >= SIZE_MAX / 4) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z rows of %z times %z; that is no size", io->n,
                        io->dim, norm->inner);
    }
    if (norm->kind != RV_NORM_BATCH && norm->inner != 1) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "inner is %z; only BATCH takes more than 1", io->inner);
    }
    if (io->n && !io->x) return rv__fail(ctx, RV_ERR_ARG, 0, "x is NULL");
    if (norm->kind != RV_NORM_BATCH) return RV_OK;
    if (!io->mean || !io->variance) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "mean or variance is NULL; BATCH needs both");
    }
    for (size_t c = 0; c < io->dim; c++) {
        if (!rv__finite_f32(io->variance[c]) || io->variance[c] < 0.0f) {
            return rv__fail(ctx, RV_ERR_ARG, c, "variance[%z] is %f; it must be 0 or more", c,
                            (double)io->variance[c]);
        }
    }
    return RV_OK;
}

/* Four sums side by side: one would wait for each addition. */
static double rv__norm_mean(const float *x, size_t n)
{
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        for (size_t l = 0; l < 4; l++) sum[l] += (double)x[j + l];
    }
    for (; j < n; j++) sum[0] += (double)x[j];
    return (sum[0] + sum[1] + (sum[2] + sum[3])) / (double)n;
}

/* The mean of d^2; in double where float lanes cannot hold the sum. */
static double rv__norm_mean_square(const rv__kernels *kernels, const float *d, size_t n)
{
    float sum = kernels->dot_f32(d, d, n);
    double wide = 0.0;
    if (rv__finite_f32(sum)) return (double)sum / (double)n;
    for (size_t j = 0; j < n; j++) wide += (double)d[j] * (double)d[j];
    return wide / (double)n;
}

/* out = x - less; out may be x. Four at once through a copy, which compilers turn into vector
   instructions although the arrays may be one. */
static void rv__norm_centre(const float *x, double less, float *out, size_t n)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        float z[4];
        for (size_t l = 0; l < 4; l++) z[l] = (float)((double)x[j + l] - less);
        for (size_t l = 0; l < 4; l++) out[j + l] = z[l];
    }
    for (; j < n; j++) out[j] = (float)((double)x[j] - less);
}

/* out = out * s * gamma + beta. */
static void rv__norm_shift(float s, const float *gamma, const float *beta, float *out, size_t n)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        float z[4];
        for (size_t l = 0; l < 4; l++) z[l] = out[j + l] * s * gamma[j + l] + beta[j + l];
        for (size_t l = 0; l < 4; l++) out[j + l] = z[l];
    }
    for (; j < n; j++) out[j] = out[j] * s * gamma[j] + beta[j];
}

/* h of one row (LAYER, RMS) without the factor s, which is returned. */
static double rv__norm_row(const rv__norm *norm, size_t i, float *sum, float *out)
{
    const size_t dim = norm->io->dim, at = i * dim;
    const float *x = norm->io->x + at, *r = norm->io->residual ? norm->io->residual + at : NULL;
    if (r) {
        for (size_t j = 0; j < dim; j++) out[j] = x[j] + r[j];
        x = out;
    }
    if (sum) memmove(sum, x, dim * sizeof *sum);
    if (norm->kind == RV_NORM_LAYER) rv__norm_centre(x, rv__norm_mean(x, dim), out, dim);
    else if (out != x) memcpy(out, x, dim * sizeof *out);
    return 1.0 / sqrt(rv__norm_mean_square(norm->kernels, out, dim) + norm->eps);
}

static void rv__norm_batch_row(const rv__norm *norm, size_t i)
{
    const rv_norm_io *io = norm->io;
    for (size_t c = 0; c < io->dim; c++) {
        const size_t at = (i * io->dim + c) * norm->inner;
        const double scale = (io->gamma ? (double)io->gamma[c] : 1.0) /
                             sqrt((double)io->variance[c] + norm->eps);
        const double beta = io->beta ? (double)io->beta[c] : 0.0, mean = (double)io->mean[c];
        for (size_t t = at; t < at + norm->inner; t++) {
            float z = io->residual ? io->x[t] + io->residual[t] : io->x[t];
            if (io->sum) io->sum[t] = z;
            io->out[t] = (float)(((double)z - mean) * scale + beta);
        }
    }
}

static void rv__norm_plain_row(const rv__norm *norm, size_t i)
{
    const rv_norm_io *io = norm->io;
    const size_t dim = io->dim, at = i * dim;
    float *out = io->out + at;
    float s = (float)rv__norm_row(norm, i, io->sum ? io->sum + at : NULL, out);
    if (io->gamma && io->beta) {
        rv__norm_shift(s, io->gamma, io->beta, out, dim);
    } else if (io->gamma) {
        for (size_t j = 0; j < dim; j++) out[j] = out[j] * s * io->gamma[j];
    } else {
        norm->kernels->scale_f32(s, out, dim);
        if (io->beta) norm->kernels->add_f32(io->beta, out, dim);
    }
}

RV_API rv_status rv_norm_run(rv_ctx *ctx, const rv_norm_config *config, const rv_norm_io *io)
{
    rv__norm norm;
    rv_status status = rv__norm_check(ctx, config, io, &norm);
    size_t done = RV__NORM_POLL;
    if (status) return status;
    if (io->n && !io->out) return rv__fail(ctx, RV_ERR_ARG, 0, "out is NULL");
    if (io->n && io->sum == io->out) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "sum and out are the same array; they must differ");
    }
    for (size_t i = 0; i < io->n; i++) {
        if (done >= RV__NORM_POLL) {
            done = 0;
            status = rv__poll(ctx);
            if (status) return status;
        }
        if (norm.kind == RV_NORM_BATCH) rv__norm_batch_row(&norm, i);
        else rv__norm_plain_row(&norm, i);
        done += io->dim * norm.inner;
    }
    return rv__ok(ctx);
}

/* ---- backward ---- */

/* h: [dim] scratch, filled with the normalized row. sums: d_gamma then d_beta, or NULL. */
static void rv__norm_back_row(const rv__norm *norm, size_t i, const rv_norm_grad *grad, float *h,
                              double *sums)
{
    const rv_norm_io *io = norm->io;
    const size_t dim = io->dim, at = i * dim;
    const float *dy = grad->d_out + at;
    const double s = rv__norm_row(norm, i, NULL, h);
    double mean = 0.0, along = 0.0;
    norm->kernels->scale_f32((float)s, h, dim);
    for (size_t j = 0; j < dim; j++) {
        double g = io->gamma ? (double)dy[j] * (double)io->gamma[j] : (double)dy[j];
        mean += g;
        along += g * (double)h[j];
        if (!sums) continue;
        sums[j] += (double)dy[j] * (double)h[j];
        sums[dim + j] += (double)dy[j];
    }
    if (!grad->d_x) return;
    mean = norm->kind == RV_NORM_LAYER ? mean / (double)dim : 0.0;
    along /= (double)dim;
    for (size_t j = 0; j < dim; j++) {
        double g = io->gamma ? (double)dy[j] * (double)io->gamma[j] : (double)dy[j];
        double dz = s * (g - mean - along * (double)h[j]);
        grad->d_x[at + j] = (float)(grad->d_sum ? dz + (double)grad->d_sum[at + j] : dz);
    }
}

static void rv__norm_back_batch(const rv__norm *norm, size_t i, const rv_norm_grad *grad,
                                double *sums)
{
    const rv_norm_io *io = norm->io;
    for (size_t c = 0; c < io->dim; c++) {
        const size_t at = (i * io->dim + c) * norm->inner;
        const double s = 1.0 / sqrt((double)io->variance[c] + norm->eps);
        const double scale = io->gamma ? s * (double)io->gamma[c] : s;
        for (size_t t = at; t < at + norm->inner; t++) {
            double dy = (double)grad->d_out[t], dz = dy * scale;
            float z = io->residual ? io->x[t] + io->residual[t] : io->x[t];
            if (sums) {
                sums[c] += dy * ((double)z - (double)io->mean[c]) * s;
                sums[io->dim + c] += dy;
            }
            if (grad->d_x) {
                grad->d_x[t] = (float)(grad->d_sum ? dz + (double)grad->d_sum[t] : dz);
            }
        }
    }
}

static rv_status rv__norm_back_rows(rv_ctx *ctx, const rv__norm *norm, const rv_norm_grad *grad,
                                    float *h, double *sums)
{
    size_t done = RV__NORM_POLL;
    for (size_t i = 0; i < norm->io->n; i++) {
        if (done >= RV__NORM_POLL) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            done = 0;
        }
        if (norm->kind == RV_NORM_BATCH) rv__norm_back_batch(norm, i, grad, sums);
        else rv__norm_back_row(norm, i, grad, h, sums);
        done += norm->io->dim * norm->inner;
    }
    return RV_OK;
}

RV_API rv_status rv_norm_backward(rv_ctx *ctx, const rv_norm_config *config, const rv_norm_io *io,
                                  const rv_norm_grad *grad)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__norm norm;
    double *sums = NULL;
    float *h = NULL;
    rv_status status = rv__norm_check(ctx, config, io, &norm);
    if (status) return status;
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    if (io->n && !grad->d_out) return rv__fail(ctx, RV_ERR_ARG, 0, "d_out is NULL");
    h = (float *)rv__get(&alloc, io->dim, sizeof(float));
    if (h && (grad->d_gamma || grad->d_beta)) {
        sums = (double *)rv__get_zero(&alloc, 2 * io->dim, sizeof(double));
        if (!sums) status = rv__no_memory(ctx, 2 * io->dim * sizeof(double));
    } else if (!h) {
        status = rv__no_memory(ctx, io->dim * sizeof(float));
    }
    if (!status) status = rv__norm_back_rows(ctx, &norm, grad, h, sums);
    if (!status && sums) {
        for (size_t j = 0; j < io->dim; j++) {
            if (grad->d_gamma) grad->d_gamma[j] = (float)sums[j];
            if (grad->d_beta) grad->d_beta[j] = (float)sums[io->dim + j];
        }
    }
    rv__put(&alloc, h, io->dim, sizeof(float));
    rv__put(&alloc, sums, 2 * io->dim, sizeof(double));
    return status ? status : rv__ok(ctx);
}

/* ---- dropout ---- */

RV_API rv_status rv_dropout_run(rv_ctx *ctx, float rate, int training, uint64_t stream,
                                const float *x, size_t n, float *out)
{
    const uint64_t key = rv__mix(rv__seed(ctx) ^ rv__mix(stream));
    uint64_t threshold;
    float scale;
    if (!rv__finite_f32(rate) || rate < 0.0f || rate >= 1.0f) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rate is %f; it must be at least 0 and below 1",
                        (double)rate);
    }
    if (n && (!x || !out)) return rv__fail(ctx, RV_ERR_ARG, 0, "x or out is NULL");
    if (!training || rate == 0.0f) {
        if (n && out != x) memcpy(out, x, n * sizeof *out);
        return rv__ok(ctx);
    }
    threshold = (uint64_t)((double)rate * 4294967296.0);
    scale = (float)(1.0 / (1.0 - (double)rate));
    for (size_t i = 0; i < n; i++) {
        if (i % RV__NORM_POLL == 0) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
        out[i] = (rv__mix(key + (uint64_t)i) >> 32) < threshold ? 0.0f : x[i] * scale;
    }
    return rv__ok(ctx);
}

#undef RV__NORM_POLL

#endif /* RV_NORM_C */
