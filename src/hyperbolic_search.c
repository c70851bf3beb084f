#ifndef RV_HYPERBOLIC_SEARCH_C
#define RV_HYPERBOLIC_SEARCH_C
#include "hyperbolic.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "hyperbolic.c"

/* One query against many rows of the ball, and the metrics that indexes call. |x - y|^2 comes from
   the kernels, in floats, which keeps near points; 1 / (1 - c |x|^2) is made in double, once per
   row. Rows beyond the rim take the long way of single distances. */

#define RV__HYP_BLOCK 256u /* rows whose distances are in the first-level cache together */

/* 2 asinh(sqrt(u)) of z = u: log1p(v), v = 2 (u + sqrt(u + u^2)), as log(1 + v) v over what 1 + v
   really is less 1, which keeps small ones. In place; n <= RV__HYP_BLOCK. */
static void rv__hyp_asinh_many(const rv__kernels *k, float *z, size_t n, float scale)
{
    float one[RV__HYP_BLOCK], log[RV__HYP_BLOCK];
    one[0] = 1.0f; /* n may be 0 */
    for (size_t i = 0; i < n; i++) {
        float u = z[i];
        z[i] = 2.0f * (u + sqrtf(u + u * u));
        one[i] = 1.0f + z[i];
    }
    k->log_f32(one, log, n);
    for (size_t i = 0; i < n; i++) {
        float rest = one[i] - 1.0f;
        if (rest > 0.0f) z[i] *= log[i] / rest;
        z[i] *= scale;
    }
}

RV_API void rv_poincare_factors(const float *rows, size_t n_rows, size_t dim, float c, float *out)
{
    double kappa = rv__hyp_ball((double)c), pull, gap;
    for (size_t i = 0; i < n_rows; i++) {
        gap = rv__hyp_gap(rv__reals_f32(rows + i * dim), dim, kappa, &pull);
        out[i] = (float)(pull == 1.0 ? 1.0 / gap : -1.0 / gap);
        if (!rv__finite_f64(gap)) out[i] = (float)rv__hyp_nan();
    }
}

RV_API void rv_poincare_distance_many(const float *query, const float *rows, const float *factors,
                                      size_t n_rows, size_t dim, float c, float *out)
{
    const rv__kernels *k = rv__kernels_now();
    double kappa = rv__hyp_ball((double)c), pull;
    double gap = rv__hyp_gap(rv__reals_f32(query), dim, kappa, &pull);
    float own[RV__HYP_BLOCK], by = (float)(-kappa / gap), scale = (float)(1.0 / sqrt(-kappa));
    for (size_t at = 0; at < n_rows; at += RV__HYP_BLOCK) {
        size_t n = n_rows - at < RV__HYP_BLOCK ? n_rows - at : RV__HYP_BLOCK;
        const float *block = rows + at * dim, *factor = factors ? factors + at : own;
        float *to = out + at;
        if (!factors) rv_poincare_factors(block, n, dim, c, own);
        k->scan[RV__OP_L2][RV__TYPE_F32](query, (const unsigned char *)block, 4 * dim, NULL, n,
                                            dim, to);
        for (size_t i = 0; i < n; i++) to[i] *= by * fabsf(factor[i]);
        rv__hyp_asinh_many(k, to, n, scale);
        for (size_t i = 0; i < n; i++) {
            if (pull == 1.0 && factor[i] > 0.0f && rv__finite_f32(to[i])) continue;
            to[i] = (float)rv__hyp_distance(rv__reals_f32(query), rv__reals_f32(block + i * dim),
                                            dim, kappa);
        }
    }
}

/* 2 asinh(sqrt(u)) for one. */
static float rv__hyp_asinh_one(float u)
{
    float v = 2.0f * (u + sqrtf(u + u * u)), one = 1.0f + v;
    if (v < 0.03f) return v * (1.0f - v * (0.5f - v * (1.0f / 3.0f - v * (0.25f - 0.2f * v))));
    return rv__logf(one) * (v / (one - 1.0f));
}

RV_API float rv_poincare_metric(void *user, const void *a, const void *b, size_t dim)
{
    const float *x = (const float *)a, *y = (const float *)b;
    double c = *(const double *)user, xx = 0.0, yy = 0.0, sum = 0.0, gaps;
    for (size_t i = 0; i < dim; i++) {
        double xi = (double)x[i], yi = (double)y[i], e = xi - yi;
        xx += xi * xi;
        yy += yi * yi;
        sum += e * e;
    }
    xx = 1.0 - c * xx;
    yy = 1.0 - c * yy;
    gaps = xx * yy;
    if (c > 0.0 && xx >= rv__hyp_least(1) && yy >= rv__hyp_least(1) && rv__finite_f64(gaps)) {
        return (float)(1.0 / sqrt(c)) * rv__hyp_asinh_one((float)(c * sum / gaps));
    }
    return (float)rv__hyp_distance(rv__reals_f32(x), rv__reals_f32(y), dim, rv__hyp_ball(c));
}

RV_API void rv_poincare_pack(const float *x, size_t dim, float c, float *out)
{
    double pull, gap = rv__hyp_gap(rv__reals_f32(x), dim, rv__hyp_ball((double)c), &pull);
    rv__hyp_times(rv__reals_f32(x), dim, pull, rv__outs_f32(out));
    out[dim] = (float)(1.0 / gap);
}

RV_API float rv_poincare_packed_metric(void *user, const void *a, const void *b, size_t packed_dim)
{
    const float *x = (const float *)a, *y = (const float *)b;
    size_t dim = packed_dim ? packed_dim - 1 : 0;
    double c = *(const double *)user;
    float sum;
    if (packed_dim == 0) return 0.0f;
    sum = rv__kernels_now()->pair_f32[RV__OP_L2](x, y, dim);
    return (float)(1.0 / sqrt(c)) *
           rv__hyp_asinh_one((float)(c * (double)sum * (double)x[dim] * (double)y[dim]));
}

#undef RV__HYP_BLOCK

#endif /* RV_HYPERBOLIC_SEARCH_C */
