#ifndef RV_HYPERBOLIC_MEAN_C
#define RV_HYPERBOLIC_MEAN_C
#include "hyperbolic.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "hyperbolic.c"
#include "hyperbolic_lorentz.c"

/* Averages and optimisers.

   Midpoint and centroid: with a_i = w_i lambda_i, M = sum a_i, W = sum w_i, T = M - W and
   S = sum a_i x_i, the centroid on the sheet is (T, sqrt(c) S) / sqrt(Q), Q = T^2 - c |S|^2, and
   S / (T + sqrt(Q)) in the ball. Near the rim T^2 and c |S|^2 are equal in all digits, so
   Q = W^2 + c M sum a_i |x_i - S/M|^2, whose terms are positive. Where kappa > 0 the sum
   T^2 + kappa |S|^2 is the safe one.

   Sources: Ungar, 2008; Law et al., Lorentzian distance learning, 2019; Karcher, Riemannian center
   of mass, 1977; Becigneul, Ganea, Riemannian adaptive optimization methods, 2019. Deviation: the
   step of the Karcher flow is 1 / (mean of D coth D), D the distances times sqrt(c): the largest
   curvature of what it descends, with which steps of 1 overshoot when points are far apart. */

/* ---- arguments ---- */

/* Polls once in about a hundred thousand elements. */
static rv_status rv__hyp_poll(rv_ctx *ctx, size_t row, size_t width)
{
    return row % (100000u / (width + 16u) + 1u) ? RV_OK : rv__poll(ctx);
}

static rv_status rv__hyp_check_curvature(rv_ctx *ctx, double kappa, int any_sign)
{
    if (rv__finite_f64(kappa) && (any_sign || kappa < 0.0)) return RV_OK;
    if (any_sign) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "kappa is %f, it must be finite", kappa);
    }
    return rv__fail(ctx, RV_ERR_ARG, 0, "c must be positive and finite");
}

/* Weights must be finite, not negative, and not all zero; *sum is theirs. */
static rv_status rv__hyp_check_rows(rv_ctx *ctx, rv__reals rows, rv__reals weights, size_t n,
                                    size_t width, double *sum)
{
    int weighted = weights.f || weights.d;
    *sum = 0.0;
    if (n == 0) return rv__fail(ctx, RV_ERR_ARG, 0, "n is 0, a mean needs at least one point");
    for (size_t i = 0; i < n; i++) {
        double w = weighted ? rv__real(weights, i) : 1.0;
        if (!rv__finite_f64(w) || w < 0.0) {
            return rv__fail(ctx, RV_ERR_ARG, i, "weights[%z] is %f, it must be finite and >= 0", i,
                            w);
        }
        *sum += w;
    }
    if (!rv__finite_f64(*sum) || !(*sum > 0.0)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "the weights sum to %f, it must be positive and finite",
                        *sum);
    }
    for (size_t i = 0; i < n; i++) {
        rv_status status = rv__hyp_poll(ctx, i, width);
        if (status) return status;
        for (size_t j = i * width; j < (i + 1) * width; j++) {
            if (rv__finite_f64(rv__real(rows, j))) continue;
            return rv__fail(ctx, RV_ERR_ARG, j, "points[%z] is %f, it must be finite", j,
                            rv__real(rows, j));
        }
    }
    return RV_OK;
}

/* ---- midpoint and centroid ---- */

typedef struct rv__hyp_cloud {
    rv__reals rows, weights;
    size_t n, dim;
    double kappa;
    int sheet; /* rows are of the Lorentz sheet */
    size_t stride; /* from one row to the next */
} rv__hyp_cloud;

RV__FN rv__hyp_cloud rv__hyp_cloud_of(rv__reals rows, rv__reals weights, size_t n, size_t dim,
                                      double kappa, int sheet)
{
    rv__hyp_cloud cloud;
    cloud.rows = rows;
    cloud.weights = weights;
    cloud.n = n;
    cloud.dim = dim;
    cloud.kappa = kappa;
    cloud.sheet = sheet;
    cloud.stride = dim + (size_t)sheet;
    return cloud;
}

static double rv__hyp_cloud_weight(const rv__hyp_cloud *cloud, size_t i)
{
    return cloud->weights.f || cloud->weights.d ? rv__real(cloud->weights, i) : 1.0;
}

/* The space part of row i, its lambda, and what makes it a point of the ball. */
static rv__reals rv__hyp_cloud_row(const rv__hyp_cloud *cloud, size_t i, double *lambda,
                                   double *pull)
{
    rv__reals x = rv__reals_at(cloud->rows, i * cloud->stride + (size_t)cloud->sheet);
    if (cloud->sheet) {
        *lambda = 1.0 + sqrt(-cloud->kappa) * rv__lor_time(x, cloud->dim, -cloud->kappa);
        *pull = 1.0 / *lambda;
    } else {
        *lambda = 2.0 / rv__hyp_gap(x, cloud->dim, cloud->kappa, pull);
    }
    return x;
}

/* sum: [dim] S; gives T, Q, W, M, each over the sum of the weights. */
typedef struct rv__hyp_sum {
    double time, square, weight, mass;
} rv__hyp_sum;

static rv_status rv__hyp_gather(rv_ctx *ctx, const rv__hyp_cloud *cloud, double total, double *sum,
                                rv__hyp_sum *s)
{
    double spread = 0.0, lambda, pull;
    rv_status status;
    memset(sum, 0, cloud->dim * sizeof *sum);
    s->weight = s->mass = s->time = 0.0;
    for (size_t i = 0; i < cloud->n; i++) {
        double w = rv__hyp_cloud_weight(cloud, i) / total;
        rv__reals x = rv__hyp_cloud_row(cloud, i, &lambda, &pull);
        status = rv__hyp_poll(ctx, i, cloud->dim);
        if (status) return status;
        if (w == 0.0) continue;
        s->weight += w;
        s->mass += w * lambda;
        s->time += w * (lambda - 1.0);
        for (size_t j = 0; j < cloud->dim; j++) sum[j] += w * lambda * pull * rv__real(x, j);
    }
    if (cloud->kappa >= 0.0) {
        rv__reals all = rv__reals_f64(sum);
        s->square = s->time * s->time + cloud->kappa * rv__hyp_dot(all, all, cloud->dim);
        return RV_OK;
    }
    for (size_t i = 0; i < cloud->n; i++) {
        double w = rv__hyp_cloud_weight(cloud, i) / total, gaps = 0.0;
        rv__reals x = rv__hyp_cloud_row(cloud, i, &lambda, &pull);
        status = rv__hyp_poll(ctx, i, cloud->dim);
        if (status) return status;
        for (size_t j = 0; j < cloud->dim; j++) {
            double e = pull * rv__real(x, j) - sum[j] / s->mass;
            gaps += e * e;
        }
        spread += w * lambda * gaps;
    }
    s->square = s->weight * s->weight - cloud->kappa * s->mass * spread;
    return RV_OK;
}

/* total: of the weights. */
static rv_status rv__hyp_centre(rv_ctx *ctx, const rv__hyp_cloud *cloud, double total, double *sum,
                                rv__outs out)
{
    rv__hyp_sum s;
    rv__reals all = rv__reals_f64(sum);
    double root, f, squares;
    rv_status status = rv__hyp_gather(ctx, cloud, total, sum, &s);
    if (status) return status;
    root = sqrt(s.square);
    if (cloud->sheet) {
        rv__hyp_times(all, cloud->dim, 1.0 / root, rv__outs_at(out, 1));
        rv__lor_project(out, cloud->dim, -cloud->kappa);
        return RV_OK;
    }
    if (s.time >= 0.0 || cloud->kappa <= 0.0) {
        f = s.time + root > 0.0 ? 1.0 / (s.time + root) : 0.0;
    } else { /* beyond the equator: without cancellation */
        squares = cloud->kappa * rv__hyp_dot(all, all, cloud->dim);
        f = squares > 0.0 ? (root - s.time) / squares : rv__hyp_nan();
    }
    if (cloud->kappa < 0.0) {
        double gap = 2.0 * root / (s.time + root);
        f *= rv__hyp_settle(cloud->kappa, gap, sqrt(1.0 - gap), out.f != NULL);
    }
    rv__hyp_times(all, cloud->dim, f, out);
    return RV_OK;
}

RV__FN rv_status rv__hyp_midpoint(rv_ctx *ctx, const rv__hyp_cloud *cloud, int any_sign,
                                  rv__outs out)
{
    rv_alloc alloc = rv__allocator(ctx);
    double total, *sum;
    rv_status status = rv__hyp_check_curvature(ctx, cloud->kappa, any_sign);
    if (!status) {
        status = rv__hyp_check_rows(ctx, cloud->rows, cloud->weights, cloud->n,
                                    cloud->dim + (size_t)cloud->sheet, &total);
    }
    if (status) return status;
    sum = (double *)rv__get(&alloc, cloud->dim, sizeof *sum);
    if (!sum) return rv__no_memory(ctx, rv__mul(cloud->dim, sizeof *sum));
    status = rv__hyp_centre(ctx, cloud, total, sum, out);
    rv__put(&alloc, sum, cloud->dim, sizeof *sum);
    return status ? status : rv__ok(ctx);
}

/* ---- Frechet mean ---- */

/* D coth D */
static double rv__hyp_bend(double d)
{
    return d > 1e-3 ? d / rv__tanh(d) : 1.0 + d * d / 3.0;
}

/* One step of the flow from x: [3, dim], the last two for scratch; *length is Riemannian. */
static rv_status rv__hyp_flow(rv_ctx *ctx, const rv__hyp_cloud *cloud, double total, double *x,
                              double *length)
{
    size_t dim = cloud->dim;
    double bend = 0.0, lambda, pull, *way = x + dim, *log = way + dim;
    memset(way, 0, dim * sizeof *way);
    for (size_t i = 0; i < cloud->n; i++) {
        double w = rv__hyp_cloud_weight(cloud, i) / total, d;
        /* as a point of doubles, but pulled in as its type asks */
        rv__reals row = rv__hyp_cloud_row(cloud, i, &lambda, &pull), p = row;
        rv_status status = rv__hyp_poll(ctx, i, dim);
        if (status) return status;
        if (w == 0.0) continue;
        if (pull != 1.0) {
            rv__hyp_times(row, dim, pull, rv__outs_f64(log));
            p = rv__reals_f64(log);
        }
        d = rv__hyp_log(rv__reals_f64(x), p, 1.0, dim, cloud->kappa, rv__outs_f64(log));
        bend += w * rv__hyp_bend(sqrt(-cloud->kappa) * d);
        for (size_t j = 0; j < dim; j++) way[j] += w * log[j];
    }
    lambda = rv__hyp_conformal(rv__reals_f64(x), dim, cloud->kappa);
    *length = lambda * rv__hyp_length(rv__reals_f64(way), dim) / bend;
    rv__hyp_exp(rv__reals_f64(x), rv__reals_f64(way), 1.0 / bend, dim, cloud->kappa,
                rv__outs_f64(x));
    return RV_OK;
}

static rv_status rv__hyp_check_frechet(rv_ctx *ctx, const rv_frechet_config *given,
                                       rv_frechet_config *config)
{
    memset(config, 0, sizeof *config);
    if (given) *config = *given;
    if (config->tolerance == 0.0) config->tolerance = 1e-9;
    if (config->iterations == 0) config->iterations = 1000;
    if (!rv__finite_f64(config->tolerance) || config->tolerance < 0.0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "tolerance is %f, it must be positive and finite",
                        config->tolerance);
    }
    if (config->iterations > 100000) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "iterations is %z, it must be in 1..100000",
                        (size_t)config->iterations);
    }
    return RV_OK;
}

RV__FN rv_status rv__hyp_mean(rv_ctx *ctx, const rv_frechet_config *given,
                              const rv__hyp_cloud *cloud, rv__outs out)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv_frechet_config config;
    double total, *block, length = 0.0;
    size_t dim = cloud->dim;
    rv_status status = rv__hyp_check_frechet(ctx, given, &config);
    if (!status) status = rv__hyp_check_curvature(ctx, cloud->kappa, 0);
    if (!status) {
        status = rv__hyp_check_rows(ctx, cloud->rows, cloud->weights, cloud->n, dim, &total);
    }
    if (status) return status;
    block = (double *)rv__get(&alloc, rv__mul(dim, 3), sizeof *block);
    if (!block) return rv__no_memory(ctx, rv__mul(rv__mul(dim, 3), sizeof *block));
    status = rv__hyp_centre(ctx, cloud, total, block, rv__outs_f64(block));
    for (uint32_t i = 0; i < config.iterations && !status; i++) {
        status = rv__hyp_flow(ctx, cloud, total, block, &length);
        if (!(length > config.tolerance)) break;
    }
    if (!status) {
        rv__hyp_times(rv__reals_f64(block), dim, 1.0, out);
        rv__hyp_project(out, dim, cloud->kappa);
        if (config.step) *config.step = length;
        status = rv__ok(ctx);
    }
    rv__put(&alloc, block, rv__mul(dim, 3), sizeof *block);
    return status;
}

/* ---- Riemannian Adam ---- */

/* Checks and defaults; squared: the squared Riemannian length of the gradient. Counts the step and
   gives the rate that belongs to the moment. */
static rv_status rv__hyp_adam_step(rv_ctx *ctx, const rv_radam_config *given, double squared,
                                   rv_radam *state, double *beta1, double *rate)
{
    rv_radam_config config;
    double second, power1 = 1.0, power2 = 1.0;
    memset(&config, 0, sizeof config);
    if (given) config = *given;
    if (config.rate == 0.0) config.rate = 1e-3;
    if (config.beta1 == 0.0) config.beta1 = 0.9;
    if (config.beta2 == 0.0) config.beta2 = 0.999;
    if (config.epsilon == 0.0) config.epsilon = 1e-8;
    if (!rv__finite_f64(config.rate) || config.rate < 0.0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "rate is %f, it must be positive and finite",
                        config.rate);
    }
    if (!rv__finite_f64(config.beta1) || config.beta1 < 0.0 || config.beta1 >= 1.0 ||
        !rv__finite_f64(config.beta2) || config.beta2 < 0.0 || config.beta2 >= 1.0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "beta1, beta2 are %f, %f, they must be in (0,1)",
                        config.beta1, config.beta2);
    }
    if (!rv__finite_f64(config.epsilon) || config.epsilon < 0.0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "epsilon is %f, it must be positive and finite",
                        config.epsilon);
    }
    if (!rv__finite_f64(squared)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "c, the point or the gradient is not as it must be: "
                                            "positive, finite");
    }
    state->step++;
    power1 = 1.0 - rv__exp((double)state->step * rv__log(config.beta1));
    power2 = 1.0 - rv__exp((double)state->step * rv__log(config.beta2));
    state->second = config.beta2 * state->second + (1.0 - config.beta2) * squared;
    if (state->second > state->largest) state->largest = state->second;
    second = (config.amsgrad ? state->largest : state->second) / power2;
    *beta1 = config.beta1;
    *rate = -config.rate / power1 / (sqrt(second) + config.epsilon);
    return RV_OK;
}

/* The moment is carried along the geodesic it points down: gyr[x, tau m] m times the ratio of the
   gaps, which lies in the plane of x and m. */
RV__FN rv_status rv__hyp_adam(rv_ctx *ctx, const rv_radam_config *config, rv__outs x,
                              rv__reals grad, size_t n, double kappa, rv__outs moment,
                              rv_radam *state)
{
    rv__reals at = rv__reals_of(x), m = rv__reals_of(moment);
    double pull, gap = rv__hyp_gap(at, n, kappa, &pull), squared, rate = 0.0, beta1 = 0.0;
    double xx, xm, mm, on_x, on_m, reached, turned;
    rv__hyp_pair p;
    rv_status status;
    squared = 0.5 * gap * rv__hyp_length(grad, n);
    squared *= rv__finite_f64(rv__hyp_length(m, n)) ? squared : rv__hyp_nan();
    status = rv__hyp_adam_step(ctx, config, squared, state, &beta1, &rate);
    if (status) return status;
    for (size_t i = 0; i < n; i++) {
        double g = 0.25 * gap * gap * rv__real(grad, i);
        rv__real_put(moment, i, beta1 * rv__real(m, i) + (1.0 - beta1) * g);
    }
    if (!rv__hyp_aim(&p, at, m, rate, n, kappa)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "the step is not finite");
    }
    xx = pull * pull * rv__hyp_dot(at, at, n);
    xm = pull * rv__hyp_dot(at, m, n);
    mm = rv__hyp_dot(m, m, n);
    rv__hyp_turn(kappa, xx, p.y_pull * p.y_pull * mm, p.y_pull * xm, xm, p.y_pull * mm,
                 0.5 * (p.a + p.b - kappa * p.sq), p.d, &on_x, &on_m);
    reached = rv__hyp_settle(kappa, p.a * p.b / p.d, sqrt(-kappa * p.sq / p.d), x.f != NULL);
    turned = reached == 1.0 ? p.b / p.d : rv__hyp_least(x.f != NULL) / p.a;
    for (size_t i = 0; i < n; i++) {
        double xi = pull * rv__real(at, i), mi = rv__real(m, i), s = xi + p.y_pull * mi;
        rv__real_put(x, i, reached * (p.a * s - kappa * p.sq * xi) / p.d);
        rv__real_put(moment, i, turned * (mi + on_x * xi + on_m * p.y_pull * mi));
    }
    rv__hyp_pull_in(x, n, kappa, gap, p.a * p.b / p.d);
    return rv__ok(ctx);
}

RV__FN rv_status rv__lor_adam(rv_ctx *ctx, const rv_radam_config *config, rv__outs x,
                              rv__reals grad, size_t n, double c, rv__outs moment,
                              rv_radam *state)
{
    rv__reals m = rv__reals_of(moment), g = rv__reals_at(grad, 1),
              at = rv__reals_at(rv__reals_of(x), 1);
    double squared, time, beta1 = 0.0, rate = 0.0;
    rv_status status;
    squared = rv__lor_norm(at, g, n, rv__lor_curvature(c), &time);
    if (!rv__finite_f64(rv__hyp_length(rv__reals_at(m, 1), n))) squared = rv__hyp_nan();
    status = rv__hyp_adam_step(ctx, config, squared, state, &beta1, &rate);
    if (status) return status;
    for (size_t i = 1; i <= n; i++) {
        rv__real_put(moment, i, beta1 * rv__real(m, i) + (1.0 - beta1) * rv__real(grad, i));
    }
    rv__lor_exp(rv__reals_of(x), m, rate, n, c, x, moment);
    return rv__ok(ctx);
}

#endif /* RV_HYPERBOLIC_MEAN_C */
