#ifndef RV_HYPERBOLIC_API_C
#define RV_HYPERBOLIC_API_C
#include "hyperbolic.h"
#include "base.c"
#include "hyperbolic.c"
#include "hyperbolic_lorentz.c"
#include "hyperbolic_mean.c"

/* The public functions in both types: views over the caller's arrays, then the one formula. No
   arithmetic here. */

/* ---- the Poincare ball and the stereographic model ---- */

RV_API float rv_poincare_distance(const float *x, const float *y, size_t dim, float c)
{
    return (float)rv__hyp_distance(rv__reals_f32(x), rv__reals_f32(y), dim,
                                   rv__hyp_ball((double)c));
}

RV_API double rv_poincare_distance_f64(const double *x, const double *y, size_t dim, double c)
{
    return rv__hyp_distance(rv__reals_f64(x), rv__reals_f64(y), dim, rv__hyp_ball(c));
}

RV_API float rv_poincare_conformal(const float *x, size_t dim, float c)
{
    return (float)rv__hyp_conformal(rv__reals_f32(x), dim, rv__hyp_ball((double)c));
}

RV_API double rv_poincare_conformal_f64(const double *x, size_t dim, double c)
{
    return rv__hyp_conformal(rv__reals_f64(x), dim, rv__hyp_ball(c));
}

RV_API void rv_poincare_project(float *x, size_t dim, float c)
{
    rv__hyp_project(rv__outs_f32(x), dim, rv__hyp_ball((double)c));
}

RV_API void rv_poincare_project_f64(double *x, size_t dim, double c)
{
    rv__hyp_project(rv__outs_f64(x), dim, rv__hyp_ball(c));
}

RV_API void rv_poincare_add(const float *x, const float *y, size_t dim, float c, float *out)
{
    rv__hyp_add(rv__reals_f32(x), rv__reals_f32(y), dim, rv__hyp_ball((double)c),
                rv__outs_f32(out));
}

RV_API void rv_poincare_add_f64(const double *x, const double *y, size_t dim, double c, double *out)
{
    rv__hyp_add(rv__reals_f64(x), rv__reals_f64(y), dim, rv__hyp_ball(c), rv__outs_f64(out));
}

RV_API void rv_poincare_scale(float r, const float *x, size_t dim, float c, float *out)
{
    rv__hyp_scale((double)r, rv__reals_f32(x), dim, rv__hyp_ball((double)c), rv__outs_f32(out));
}

RV_API void rv_poincare_scale_f64(double r, const double *x, size_t dim, double c, double *out)
{
    rv__hyp_scale(r, rv__reals_f64(x), dim, rv__hyp_ball(c), rv__outs_f64(out));
}

RV_API void rv_poincare_matvec(const float *matrix, size_t n_rows, const float *x, size_t dim,
                               float c, float *out)
{
    rv__hyp_matvec(rv__reals_f32(matrix), n_rows, rv__reals_f32(x), dim, rv__hyp_ball((double)c),
                   rv__outs_f32(out));
}

RV_API void rv_poincare_matvec_f64(const double *matrix, size_t n_rows, const double *x, size_t dim,
                                   double c, double *out)
{
    rv__hyp_matvec(rv__reals_f64(matrix), n_rows, rv__reals_f64(x), dim, rv__hyp_ball(c),
                   rv__outs_f64(out));
}

RV_API void rv_poincare_exp(const float *base, const float *tangent, size_t dim, float c,
                            float *out)
{
    rv__hyp_exp(rv__reals_f32(base), rv__reals_f32(tangent), 1.0, dim, rv__hyp_ball((double)c),
                rv__outs_f32(out));
}

RV_API void rv_poincare_exp_f64(const double *base, const double *tangent, size_t dim, double c,
                                double *out)
{
    rv__hyp_exp(rv__reals_f64(base), rv__reals_f64(tangent), 1.0, dim, rv__hyp_ball(c),
                rv__outs_f64(out));
}

RV_API void rv_poincare_log(const float *base, const float *point, size_t dim, float c, float *out)
{
    (void)rv__hyp_log(rv__reals_f32(base), rv__reals_f32(point), 1.0, dim, rv__hyp_ball((double)c),
                      rv__outs_f32(out));
}

RV_API void rv_poincare_log_f64(const double *base, const double *point, size_t dim, double c,
                                double *out)
{
    (void)rv__hyp_log(rv__reals_f64(base), rv__reals_f64(point), 1.0, dim, rv__hyp_ball(c),
                      rv__outs_f64(out));
}

RV_API void rv_poincare_transport(const float *from, const float *to, const float *tangent,
                                  size_t dim, float c, float *out)
{
    rv__hyp_transport(rv__reals_f32(from), rv__reals_f32(to), rv__reals_f32(tangent), dim,
                      rv__hyp_ball((double)c), rv__outs_f32(out));
}

RV_API void rv_poincare_transport_f64(const double *from, const double *to, const double *tangent,
                                      size_t dim, double c, double *out)
{
    rv__hyp_transport(rv__reals_f64(from), rv__reals_f64(to), rv__reals_f64(tangent), dim,
                      rv__hyp_ball(c), rv__outs_f64(out));
}

RV_API void rv_poincare_geodesic(const float *x, const float *y, float t, size_t dim, float c,
                                 float *out)
{
    rv__hyp_geodesic(rv__reals_f32(x), rv__reals_f32(y), (double)t, dim, rv__hyp_ball((double)c),
                     rv__outs_f32(out));
}

RV_API void rv_poincare_geodesic_f64(const double *x, const double *y, double t, size_t dim,
                                     double c, double *out)
{
    rv__hyp_geodesic(rv__reals_f64(x), rv__reals_f64(y), t, dim, rv__hyp_ball(c),
                     rv__outs_f64(out));
}

RV_API void rv_poincare_rgrad(const float *x, const float *grad, size_t dim, float c, float *out)
{
    rv__hyp_rgrad(rv__reals_f32(x), rv__reals_f32(grad), dim, rv__hyp_ball((double)c),
                  rv__outs_f32(out));
}

RV_API void rv_poincare_rgrad_f64(const double *x, const double *grad, size_t dim, double c,
                                  double *out)
{
    rv__hyp_rgrad(rv__reals_f64(x), rv__reals_f64(grad), dim, rv__hyp_ball(c), rv__outs_f64(out));
}

RV_API void rv_poincare_sgd(float *x, const float *grad, size_t dim, float c, float rate)
{
    rv__hyp_sgd(rv__outs_f32(x), rv__reals_f32(grad), dim, rv__hyp_ball((double)c), (double)rate);
}

RV_API void rv_poincare_sgd_f64(double *x, const double *grad, size_t dim, double c, double rate)
{
    rv__hyp_sgd(rv__outs_f64(x), rv__reals_f64(grad), dim, rv__hyp_ball(c), rate);
}

RV_API rv_status rv_poincare_adam(rv_ctx *ctx, const rv_radam_config *config, float *x,
                                  const float *grad, size_t dim, float c, float *moment,
                                  rv_radam *state)
{
    return rv__hyp_adam(ctx, config, rv__outs_f32(x), rv__reals_f32(grad), dim,
                        rv__hyp_ball((double)c), rv__outs_f32(moment), state);
}

RV_API rv_status rv_poincare_adam_f64(rv_ctx *ctx, const rv_radam_config *config, double *x,
                                      const double *grad, size_t dim, double c, double *moment,
                                      rv_radam *state)
{
    return rv__hyp_adam(ctx, config, rv__outs_f64(x), rv__reals_f64(grad), dim, rv__hyp_ball(c),
                        rv__outs_f64(moment), state);
}

RV_API float rv_poincare_distance_grad(const float *x, const float *y, size_t dim, float c,
                                       float *grad_x, float *grad_y)
{
    return (float)rv__hyp_gradients(rv__reals_f32(x), rv__reals_f32(y), dim,
                                    rv__hyp_ball((double)c), rv__outs_f32(grad_x),
                                    rv__outs_f32(grad_y));
}

RV_API double rv_poincare_distance_grad_f64(const double *x, const double *y, size_t dim, double c,
                                            double *grad_x, double *grad_y)
{
    return rv__hyp_gradients(rv__reals_f64(x), rv__reals_f64(y), dim, rv__hyp_ball(c),
                             rv__outs_f64(grad_x), rv__outs_f64(grad_y));
}

RV_API rv_status rv_poincare_midpoint(rv_ctx *ctx, const float *points, const float *weights,
                                      size_t n, size_t dim, float c, float *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f32(points), rv__reals_f32(weights), n, dim,
                         rv__hyp_ball((double)c), 0);
    return rv__hyp_midpoint(ctx, &cloud, 0, rv__outs_f32(out));
}

RV_API rv_status rv_poincare_mean(rv_ctx *ctx, const rv_frechet_config *config, const float *points,
                                  const float *weights, size_t n, size_t dim, float c, float *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f32(points), rv__reals_f32(weights), n, dim,
                         rv__hyp_ball((double)c), 0);
    return rv__hyp_mean(ctx, config, &cloud, rv__outs_f32(out));
}

RV_API rv_status rv_poincare_midpoint_f64(rv_ctx *ctx, const double *points, const double *weights,
                                          size_t n, size_t dim, double c, double *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f64(points), rv__reals_f64(weights), n, dim, rv__hyp_ball(c), 0);
    return rv__hyp_midpoint(ctx, &cloud, 0, rv__outs_f64(out));
}

RV_API rv_status rv_poincare_mean_f64(rv_ctx *ctx, const rv_frechet_config *config,
                                      const double *points, const double *weights, size_t n,
                                      size_t dim, double c, double *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f64(points), rv__reals_f64(weights), n, dim, rv__hyp_ball(c), 0);
    return rv__hyp_mean(ctx, config, &cloud, rv__outs_f64(out));
}

RV_API float rv_stereo_distance(const float *x, const float *y, size_t dim, float kappa)
{
    return (float)rv__hyp_distance(rv__reals_f32(x), rv__reals_f32(y), dim, (double)kappa);
}

RV_API double rv_stereo_distance_f64(const double *x, const double *y, size_t dim, double kappa)
{
    return rv__hyp_distance(rv__reals_f64(x), rv__reals_f64(y), dim, kappa);
}

RV_API void rv_stereo_add(const float *x, const float *y, size_t dim, float kappa, float *out)
{
    rv__hyp_add(rv__reals_f32(x), rv__reals_f32(y), dim, (double)kappa, rv__outs_f32(out));
}

RV_API void rv_stereo_add_f64(const double *x, const double *y, size_t dim, double kappa,
                              double *out)
{
    rv__hyp_add(rv__reals_f64(x), rv__reals_f64(y), dim, kappa, rv__outs_f64(out));
}

RV_API void rv_stereo_scale(float r, const float *x, size_t dim, float kappa, float *out)
{
    rv__hyp_scale((double)r, rv__reals_f32(x), dim, (double)kappa, rv__outs_f32(out));
}

RV_API void rv_stereo_scale_f64(double r, const double *x, size_t dim, double kappa, double *out)
{
    rv__hyp_scale(r, rv__reals_f64(x), dim, kappa, rv__outs_f64(out));
}

RV_API void rv_stereo_exp(const float *base, const float *tangent, size_t dim, float kappa,
                          float *out)
{
    rv__hyp_exp(rv__reals_f32(base), rv__reals_f32(tangent), 1.0, dim, (double)kappa,
                rv__outs_f32(out));
}

RV_API void rv_stereo_exp_f64(const double *base, const double *tangent, size_t dim, double kappa,
                              double *out)
{
    rv__hyp_exp(rv__reals_f64(base), rv__reals_f64(tangent), 1.0, dim, kappa, rv__outs_f64(out));
}

RV_API void rv_stereo_log(const float *base, const float *point, size_t dim, float kappa,
                          float *out)
{
    (void)rv__hyp_log(rv__reals_f32(base), rv__reals_f32(point), 1.0, dim, (double)kappa,
                      rv__outs_f32(out));
}

RV_API void rv_stereo_log_f64(const double *base, const double *point, size_t dim, double kappa,
                              double *out)
{
    (void)rv__hyp_log(rv__reals_f64(base), rv__reals_f64(point), 1.0, dim, kappa,
                      rv__outs_f64(out));
}

RV_API rv_status rv_stereo_midpoint(rv_ctx *ctx, const float *points, const float *weights,
                                    size_t n, size_t dim, float kappa, float *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f32(points), rv__reals_f32(weights), n, dim, (double)kappa, 0);
    return rv__hyp_midpoint(ctx, &cloud, 1, rv__outs_f32(out));
}

RV_API rv_status rv_stereo_midpoint_f64(rv_ctx *ctx, const double *points, const double *weights,
                                        size_t n, size_t dim, double kappa, double *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f64(points), rv__reals_f64(weights), n, dim, kappa, 0);
    return rv__hyp_midpoint(ctx, &cloud, 1, rv__outs_f64(out));
}

/* ---- the Lorentz sheet ---- */

RV_API float rv_lorentz_distance(const float *x, const float *y, size_t dim, float c)
{
    return (float)rv__lor_distance(rv__reals_f32(x), rv__reals_f32(y), dim, (double)c);
}

RV_API double rv_lorentz_distance_f64(const double *x, const double *y, size_t dim, double c)
{
    return rv__lor_distance(rv__reals_f64(x), rv__reals_f64(y), dim, c);
}

RV_API float rv_lorentz_inner(const float *x, const float *y, size_t dim)
{
    return (float)rv__lor_inner(rv__reals_f32(x), rv__reals_f32(y), dim);
}

RV_API double rv_lorentz_inner_f64(const double *x, const double *y, size_t dim)
{
    return rv__lor_inner(rv__reals_f64(x), rv__reals_f64(y), dim);
}

RV_API void rv_lorentz_project(float *x, size_t dim, float c)
{
    rv__lor_project(rv__outs_f32(x), dim, (double)c);
}

RV_API void rv_lorentz_project_f64(double *x, size_t dim, double c)
{
    rv__lor_project(rv__outs_f64(x), dim, c);
}

RV_API void rv_lorentz_exp(const float *base, const float *tangent, size_t dim, float c, float *out)
{
    rv__lor_exp(rv__reals_f32(base), rv__reals_f32(tangent), 1.0, dim, (double)c, rv__outs_f32(out),
                rv__outs_f32(NULL));
}

RV_API void rv_lorentz_exp_f64(const double *base, const double *tangent, size_t dim, double c,
                               double *out)
{
    rv__lor_exp(rv__reals_f64(base), rv__reals_f64(tangent), 1.0, dim, c, rv__outs_f64(out),
                rv__outs_f64(NULL));
}

RV_API void rv_lorentz_log(const float *base, const float *point, size_t dim, float c, float *out)
{
    rv__lor_log(rv__reals_f32(base), rv__reals_f32(point), dim, (double)c, rv__outs_f32(out));
}

RV_API void rv_lorentz_log_f64(const double *base, const double *point, size_t dim, double c,
                               double *out)
{
    rv__lor_log(rv__reals_f64(base), rv__reals_f64(point), dim, c, rv__outs_f64(out));
}

RV_API void rv_lorentz_transport(const float *from, const float *to, const float *tangent,
                                 size_t dim, float c, float *out)
{
    rv__lor_transport(rv__reals_f32(from), rv__reals_f32(to), rv__reals_f32(tangent), dim,
                      (double)c, rv__outs_f32(out));
}

RV_API void rv_lorentz_transport_f64(const double *from, const double *to, const double *tangent,
                                     size_t dim, double c, double *out)
{
    rv__lor_transport(rv__reals_f64(from), rv__reals_f64(to), rv__reals_f64(tangent), dim, c,
                      rv__outs_f64(out));
}

RV_API rv_status rv_lorentz_centroid(rv_ctx *ctx, const float *points, const float *weights,
                                     size_t n, size_t dim, float c, float *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f32(points), rv__reals_f32(weights), n, dim,
                         rv__hyp_ball((double)c), 1);
    return rv__hyp_midpoint(ctx, &cloud, 0, rv__outs_f32(out));
}

RV_API float rv_lorentz_distance_grad(const float *x, const float *y, size_t dim, float c,
                                      float *grad_x, float *grad_y)
{
    return (float)rv__lor_gradients(rv__reals_f32(x), rv__reals_f32(y), dim, (double)c,
                                    rv__outs_f32(grad_x), rv__outs_f32(grad_y));
}

RV_API rv_status rv_lorentz_centroid_f64(rv_ctx *ctx, const double *points, const double *weights,
                                         size_t n, size_t dim, double c, double *out)
{
    rv__hyp_cloud cloud =
        rv__hyp_cloud_of(rv__reals_f64(points), rv__reals_f64(weights), n, dim, rv__hyp_ball(c), 1);
    return rv__hyp_midpoint(ctx, &cloud, 0, rv__outs_f64(out));
}

RV_API double rv_lorentz_distance_grad_f64(const double *x, const double *y, size_t dim, double c,
                                           double *grad_x, double *grad_y)
{
    return rv__lor_gradients(rv__reals_f64(x), rv__reals_f64(y), dim, c, rv__outs_f64(grad_x),
                             rv__outs_f64(grad_y));
}

RV_API void rv_lorentz_rgrad(const float *x, const float *grad, size_t dim, float c, float *out)
{
    rv__lor_rgrad(rv__reals_f32(x), rv__reals_f32(grad), dim, (double)c, rv__outs_f32(out));
}

RV_API void rv_lorentz_rgrad_f64(const double *x, const double *grad, size_t dim, double c,
                                 double *out)
{
    rv__lor_rgrad(rv__reals_f64(x), rv__reals_f64(grad), dim, c, rv__outs_f64(out));
}

RV_API void rv_lorentz_sgd(float *x, const float *grad, size_t dim, float c, float rate)
{
    rv__lor_exp(rv__reals_f32(x), rv__reals_f32(grad), -(double)rate, dim, (double)c,
                rv__outs_f32(x), rv__outs_f32(NULL));
}

RV_API void rv_lorentz_sgd_f64(double *x, const double *grad, size_t dim, double c, double rate)
{
    rv__lor_exp(rv__reals_f64(x), rv__reals_f64(grad), -rate, dim, c, rv__outs_f64(x),
                rv__outs_f64(NULL));
}

RV_API rv_status rv_lorentz_adam(rv_ctx *ctx, const rv_radam_config *config, float *x,
                                 const float *grad, size_t dim, float c, float *moment,
                                 rv_radam *state)
{
    return rv__lor_adam(ctx, config, rv__outs_f32(x), rv__reals_f32(grad), dim, (double)c,
                        rv__outs_f32(moment), state);
}

RV_API rv_status rv_lorentz_adam_f64(rv_ctx *ctx, const rv_radam_config *config, double *x,
                                     const double *grad, size_t dim, double c, double *moment,
                                     rv_radam *state)
{
    return rv__lor_adam(ctx, config, rv__outs_f64(x), rv__reals_f64(grad), dim, c,
                        rv__outs_f64(moment), state);
}

/* ---- conversions ---- */

RV_API void rv_lorentz_from_poincare(const float *x, size_t dim, float c, float *out)
{
    rv__hyp_to_lorentz(rv__reals_f32(x), dim, (double)c, rv__outs_f32(out));
}

RV_API void rv_lorentz_from_poincare_f64(const double *x, size_t dim, double c, double *out)
{
    rv__hyp_to_lorentz(rv__reals_f64(x), dim, c, rv__outs_f64(out));
}

RV_API void rv_poincare_from_lorentz(const float *x, size_t dim, float c, float *out)
{
    rv__hyp_from_lorentz(rv__reals_f32(x), dim, (double)c, rv__outs_f32(out));
}

RV_API void rv_poincare_from_lorentz_f64(const double *x, size_t dim, double c, double *out)
{
    rv__hyp_from_lorentz(rv__reals_f64(x), dim, c, rv__outs_f64(out));
}

RV_API void rv_klein_from_poincare(const float *x, size_t dim, float c, float *out)
{
    rv__hyp_to_klein(rv__reals_f32(x), dim, (double)c, rv__outs_f32(out));
}

RV_API void rv_klein_from_poincare_f64(const double *x, size_t dim, double c, double *out)
{
    rv__hyp_to_klein(rv__reals_f64(x), dim, c, rv__outs_f64(out));
}

RV_API void rv_poincare_from_klein(const float *x, size_t dim, float c, float *out)
{
    rv__hyp_from_klein(rv__reals_f32(x), dim, (double)c, rv__outs_f32(out));
}

RV_API void rv_poincare_from_klein_f64(const double *x, size_t dim, double c, double *out)
{
    rv__hyp_from_klein(rv__reals_f64(x), dim, c, rv__outs_f64(out));
}

#endif /* RV_HYPERBOLIC_API_C */
