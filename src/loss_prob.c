#ifndef RV_LOSS_PROB_C
#define RV_LOSS_PROB_C
#include "loss.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "loss.c"
#include "loss_shape.c"

/* Element-wise losses, divergences of distributions, and several losses made one. All in double but
   the exponentials of cross entropy, which are of differences from the largest logit.

   Sources: Kullback, Leibler, On information and sufficiency, 1951; Lin, Divergence measures based
   on the Shannon entropy, 1991; Kendall, Gal, Cipolla, Multi-task learning using uncertainty to
   weigh losses, 2018; Chen et al., GradNorm: gradient normalization for adaptive loss balancing,
   2018. */

RV_API rv_status rv_loss_mse(rv_ctx *ctx, const float *x, const float *y, size_t n, double *loss,
                             float *d_x, float *d_y)
{
    double sum = 0.0;
    rv_status status = loss ? RV_OK : rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (!status) status = rv__loss_check(ctx, "x", x, n);
    if (!status) status = rv__loss_check(ctx, "y", y, n);
    if (status) return status;
    for (size_t i = 0; i < n; i++) {
        double gap = (double)x[i] - (double)y[i], d = 2.0 * gap / (double)n;
        sum += gap * gap;
        if (d_x) d_x[i] = (float)d;
        if (d_y) d_y[i] = (float)-d;
    }
    *loss = n ? sum / (double)n : 0.0;
    return rv__ok(ctx);
}

/* ---- cross entropy ---- */

#define RV__LOSS_CHUNK 64u

/* out = exp(x - top); returns their sum. n at most RV__LOSS_CHUNK. */
static double rv__entropy_exps(const rv__kernels *kernels, const float *x, float top, size_t n,
                               float *out)
{
    double sum = 0.0;
    for (size_t j = 0; j < n; j++) out[j] = x[j] - top;
    kernels->exp_f32(out, out, n);
    for (size_t j = 0; j < n; j++) sum += (double)out[j];
    return sum;
}

/* One row; d: [classes] or NULL; share: 1 / rows. */
static double rv__entropy_row(const rv__kernels *kernels, const float *x, size_t classes,
                              size_t label, double share, float *d)
{
    float e[RV__LOSS_CHUNK], top = x[0];
    double sum = 0.0, others = 0.0;
    for (size_t j = 1; j < classes; j++) top = x[j] > top ? x[j] : top;
    for (size_t j = 0; j < classes; j += RV__LOSS_CHUNK) {
        size_t n = classes - j < RV__LOSS_CHUNK ? classes - j : RV__LOSS_CHUNK;
        sum += rv__entropy_exps(kernels, x + j, top, n, e);
        if (label >= j && label < j + n) others -= (double)e[label - j];
    }
    others += sum; /* what the label lacks of 1, times the sum */
    for (size_t j = 0; d && j < classes; j += RV__LOSS_CHUNK) {
        size_t n = classes - j < RV__LOSS_CHUNK ? classes - j : RV__LOSS_CHUNK;
        (void)rv__entropy_exps(kernels, x + j, top, n, e);
        for (size_t k = 0; k < n; k++) d[j + k] = (float)((double)e[k] / sum * share);
    }
    if (d) d[label] = (float)(-others / sum * share);
    return (double)top - (double)x[label] + rv__log(sum);
}

RV_API rv_status rv_loss_cross_entropy(rv_ctx *ctx, const float *logits, const uint32_t *label,
                                       size_t n, size_t classes, double *loss, float *d_logits)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    double sum = 0.0;
    rv_status status = rv__loss_check_size(ctx, n, classes);
    if (!status && !loss) status = rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (!status && n && !label) status = rv__fail(ctx, RV_ERR_ARG, 0, "label is NULL");
    if (!status) status = rv__loss_check(ctx, "logits", logits, n * classes);
    for (size_t i = 0; i < n && !status; i++) {
        if (label[i] >= classes) {
            status = rv__fail(ctx, RV_ERR_ARG, i, "label[%z] is %z; it must be below classes, %z",
                              i, (size_t)label[i], classes);
        }
    }
    if (status) return status;
    for (size_t i = 0; i < n; i++) {
        sum += rv__entropy_row(kernels, logits + i * classes, classes, label[i], 1.0 / (double)n,
                               d_logits ? d_logits + i * classes : NULL);
    }
    *loss = n ? sum / (double)n : 0.0;
    return rv__ok(ctx);
}

/* ---- divergences ---- */

static rv_status rv__divergence_check_rows(rv_ctx *ctx, const char *name, const float *p, size_t n,
                                           size_t dim)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (size_t j = i * dim; j < (i + 1) * dim; j++) {
            if (p[j] < 0.0f) {
                return rv__fail(ctx, RV_ERR_ARG, j, "%s[%z] is %f; a probability is 0 or more",
                                name, j, (double)p[j]);
            }
            sum += (double)p[j];
        }
        if (sum < 0.999 || sum > 1.001) {
            return rv__fail(ctx, RV_ERR_ARG, i * dim,
                            "row %z of %s sums to %f; it must be within 1e-3 of 1", i, name, sum);
        }
    }
    return RV_OK;
}

static rv_status rv__divergence_check(rv_ctx *ctx, const float *p, const float *q, size_t n,
                                      size_t dim, const double *loss)
{
    rv_status status = rv__loss_check_size(ctx, n, dim);
    if (!status && !loss) status = rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (!status) status = rv__loss_check(ctx, "p", p, n * dim);
    if (!status) status = rv__loss_check(ctx, "q", q, n * dim);
    if (!status) status = rv__divergence_check_rows(ctx, "p", p, n, dim);
    if (!status) status = rv__divergence_check_rows(ctx, "q", q, n, dim);
    return status;
}

RV_API rv_status rv_loss_kl(rv_ctx *ctx, const float *p, const float *q, size_t n, size_t dim,
                            double *loss, float *d_p, float *d_q)
{
    double sum = 0.0, share = n ? 1.0 / (double)n : 0.0;
    rv_status status = rv__divergence_check(ctx, p, q, n, dim, loss);
    if (status) return status;
    for (size_t j = 0; j < n * dim; j++) {
        if (p[j] > 0.0f && q[j] == 0.0f) {
            return rv__fail(ctx, RV_ERR_ARG, j,
                            "q[%z] is 0 where p is %f; the divergence is infinite", j,
                            (double)p[j]);
        }
    }
    for (size_t j = 0; j < n * dim; j++) {
        double x = (double)p[j], log_ratio = x > 0.0 ? rv__log(x / (double)q[j]) : 0.0;
        sum += x * log_ratio;
        if (d_p) d_p[j] = x > 0.0 ? (float)((log_ratio + 1.0) * share) : 0.0f;
        if (d_q) d_q[j] = x > 0.0 ? (float)(-x / (double)q[j] * share) : 0.0f;
    }
    *loss = sum * share;
    return rv__ok(ctx);
}

RV_API rv_status rv_loss_js(rv_ctx *ctx, const float *p, const float *q, size_t n, size_t dim,
                            double *loss, float *d_p, float *d_q)
{
    double sum = 0.0, share = n ? 1.0 / (double)n : 0.0;
    rv_status status = rv__divergence_check(ctx, p, q, n, dim, loss);
    if (status) return status;
    for (size_t j = 0; j < n * dim; j++) {
        double x = (double)p[j], y = (double)q[j], m = 0.5 * (x + y);
        double log_x = x > 0.0 ? rv__log(x / m) : 0.0, log_y = y > 0.0 ? rv__log(y / m) : 0.0;
        sum += 0.5 * (x * log_x + y * log_y);
        if (d_p) d_p[j] = (float)(0.5 * log_x * share);
        if (d_q) d_q[j] = (float)(0.5 * log_y * share);
    }
    *loss = sum > 0.0 ? sum * share : 0.0; /* rounding could make it a little less than 0 */
    return rv__ok(ctx);
}

static double rv__gaussian_clamp(float logvar, int *inside)
{
    *inside = logvar >= -20.0f && logvar <= 20.0f;
    return logvar < -20.0f ? -20.0 : logvar > 20.0f ? 20.0 : (double)logvar;
}

static double rv__gaussian_element(const rv_gaussian_io *io, size_t j, double share)
{
    int inside1, inside2 = 0;
    double l1 = rv__gaussian_clamp(io->logvar1[j], &inside1), l2 = 0.0, gap = (double)io->mean1[j];
    double ratio, pull, square;
    if (io->mean2) {
        gap -= (double)io->mean2[j];
        l2 = rv__gaussian_clamp(io->logvar2[j], &inside2);
    }
    ratio = rv__exp(l1 - l2);
    pull = gap * rv__exp(-l2);
    square = gap * pull;
    if (io->d_mean1) io->d_mean1[j] = (float)(pull * share);
    if (io->d_mean2) io->d_mean2[j] = (float)(-pull * share);
    if (io->d_logvar1) io->d_logvar1[j] = inside1 ? (float)(0.5 * (ratio - 1.0) * share) : 0.0f;
    if (io->d_logvar2) {
        io->d_logvar2[j] = inside2 ? (float)(0.5 * (1.0 - ratio - square) * share) : 0.0f;
    }
    return 0.5 * (ratio - 1.0 - (l1 - l2) + square);
}

RV_API rv_status rv_loss_gaussian_kl(rv_ctx *ctx, const rv_gaussian_io *io, double *loss)
{
    double sum = 0.0, share;
    size_t count;
    rv_status status = io && loss ? RV_OK : rv__fail(ctx, RV_ERR_ARG, 0, "io or loss is NULL");
    if (!status) status = rv__loss_check_size(ctx, io->n, io->dim);
    if (status) return status;
    count = io->n * io->dim;
    if (!io->mean2 != !io->logvar2) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "only one of mean2 and logvar2 is NULL; give both or none");
    }
    if (!io->mean2 && (io->d_mean2 || io->d_logvar2)) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "d_mean2 or d_logvar2 is wanted, but there is no mean2");
    }
    status = rv__loss_check(ctx, "mean1", io->mean1, count);
    if (!status) status = rv__loss_check(ctx, "logvar1", io->logvar1, count);
    if (!status && io->mean2) status = rv__loss_check(ctx, "mean2", io->mean2, count);
    if (!status && io->mean2) status = rv__loss_check(ctx, "logvar2", io->logvar2, count);
    if (status) return status;
    share = io->n ? 1.0 / (double)io->n : 0.0;
    for (size_t j = 0; j < count; j++) sum += rv__gaussian_element(io, j, share);
    *loss = sum * share;
    return rv__ok(ctx);
}

/* ---- several losses ---- */

static rv_status rv__loss_check_values(rv_ctx *ctx, const char *name, const double *x, size_t n,
                                       double least)
{
    if (n && !x) return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", name);
    for (size_t i = 0; i < n; i++) {
        if (!rv__finite_f64(x[i])) {
            return rv__fail(ctx, RV_ERR_ARG, i, "%s[%z] is %f; it must be finite", name, i, x[i]);
        }
        if (x[i] < least) {
            return rv__fail(ctx, RV_ERR_ARG, i, "%s[%z] is %f; it must be %f or more", name, i,
                            x[i], least);
        }
    }
    return RV_OK;
}

RV_API rv_status rv_loss_weighted(rv_ctx *ctx, const double *losses, const float *weight, size_t n,
                                  double *total)
{
    double sum = 0.0;
    rv_status status = total ? RV_OK : rv__fail(ctx, RV_ERR_ARG, 0, "total is NULL");
    if (!status) status = rv__loss_check_values(ctx, "losses", losses, n, -1e300);
    if (!status) status = rv__loss_check(ctx, "weight", weight, n);
    for (size_t i = 0; i < n && !status; i++) {
        if (weight[i] < 0.0f) {
            status = rv__fail(ctx, RV_ERR_ARG, i, "weight[%z] is %f; it must be 0 or more", i,
                              (double)weight[i]);
        }
    }
    if (status) return status;
    for (size_t i = 0; i < n; i++) sum += (double)weight[i] * losses[i];
    *total = sum;
    return rv__ok(ctx);
}

RV_API rv_status rv_loss_uncertain(rv_ctx *ctx, const double *losses, const float *log_sigma,
                                   size_t n, double *total, double *factor, float *d_log_sigma)
{
    double sum = 0.0;
    rv_status status = total ? RV_OK : rv__fail(ctx, RV_ERR_ARG, 0, "total is NULL");
    if (!status) status = rv__loss_check_values(ctx, "losses", losses, n, -1e300);
    if (!status) status = rv__loss_check(ctx, "log_sigma", log_sigma, n);
    for (size_t i = 0; i < n && !status; i++) {
        if (log_sigma[i] < -40.0f || log_sigma[i] > 40.0f) {
            status = rv__fail(ctx, RV_ERR_ARG, i, "log_sigma[%z] is %f; it must be -40..40", i,
                              (double)log_sigma[i]);
        }
    }
    if (status) return status;
    for (size_t i = 0; i < n; i++) {
        double half = 0.5 * rv__exp(-2.0 * (double)log_sigma[i]);
        sum += losses[i] * half + (double)log_sigma[i];
        if (factor) factor[i] = half;
        if (d_log_sigma) d_log_sigma[i] = (float)(1.0 - 2.0 * losses[i] * half);
    }
    *total = sum;
    return rv__ok(ctx);
}

static rv_status rv__gradnorm_check(rv_ctx *ctx, float alpha, float lr, const rv_gradnorm_io *io)
{
    rv_status status;
    if (!io || io->n < 1) return rv__fail(ctx, RV_ERR_ARG, 0, "io is NULL or n is 0");
    if (!rv__finite_f32(alpha) || alpha < 0.0f || alpha > 10.0f) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "alpha is %f; it must be 0..10", (double)alpha);
    }
    status = rv__loss_check_level(ctx, "lr", lr, 1);
    if (!status) status = rv__loss_check_values(ctx, "losses", io->losses, io->n, 0.0);
    if (!status) status = rv__loss_check_values(ctx, "initial", io->initial, io->n, 1e-300);
    if (!status) status = rv__loss_check_values(ctx, "lengths", io->lengths, io->n, 0.0);
    if (!status) status = rv__loss_check(ctx, "weight", io->weight, io->n);
    for (size_t i = 0; i < io->n && !status; i++) {
        if (!(io->weight[i] > 0.0f)) {
            status = rv__fail(ctx, RV_ERR_ARG, i, "weight[%z] is %f; it must be above 0", i,
                              (double)io->weight[i]);
        }
    }
    return status;
}

/* weight_i g_i less what it should be. */
static double rv__gradnorm_gap(const rv_gradnorm_io *io, size_t i, double mean, double rate,
                               double alpha)
{
    double r = rate > 0.0 ? io->losses[i] / io->initial[i] / rate : 1.0;
    double power = alpha == 0.0 ? 1.0 : r > 0.0 ? rv__exp(alpha * rv__log(r)) : 0.0;
    return (double)io->weight[i] * io->lengths[i] - mean * power;
}

RV_API rv_status rv_loss_gradnorm(rv_ctx *ctx, float alpha, float lr, const rv_gradnorm_io *io,
                                  double *objective)
{
    double mean = 0.0, rate = 0.0, sum = 0.0, total = 0.0, n;
    rv_status status = rv__gradnorm_check(ctx, alpha, lr, io);
    if (status) return status;
    n = (double)io->n;
    for (size_t i = 0; i < io->n; i++) {
        mean += (double)io->weight[i] * io->lengths[i] / n;
        rate += io->losses[i] / io->initial[i] / n;
    }
    if (!rv__finite_f64(mean) || !rv__finite_f64(rate)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "losses / initial or weight * lengths are too large");
    }
    for (size_t i = 0; i < io->n; i++) {
        double gap = rv__gradnorm_gap(io, i, mean, rate, (double)alpha), w = (double)io->weight[i];
        sum += fabs(gap);
        w -= (double)lr * (gap > 0.0 ? io->lengths[i] : gap < 0.0 ? -io->lengths[i] : 0.0);
        if (w < 1e-4 * n) w = 1e-4 * n;
        io->weight[i] = (float)(w < 1e30 ? w : 1e30);
        total += (double)io->weight[i];
    }
    for (size_t i = 0; i < io->n; i++) io->weight[i] = (float)((double)io->weight[i] / total * n);
    if (objective) *objective = sum;
    return rv__ok(ctx);
}

#undef RV__LOSS_CHUNK

#endif /* RV_LOSS_PROB_C */
