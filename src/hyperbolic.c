#ifndef RV_HYPERBOLIC_C
#define RV_HYPERBOLIC_C
#include "hyperbolic.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"

/* The stereographic model of curvature kappa, which for kappa = -c is the Poincare ball. Every
   formula stands here once, in double, over views of float or double arrays: reductions first, then
   one pass that writes, so that outputs may be inputs.

   With a = 1 + kappa |x|^2, b = 1 + kappa |y|^2 and s = x + y (for differences: y - x, x taken
   negative) nothing in these forms cancels where kappa < 0:
       x (+) y     = (a s - kappa |s|^2 x) / d,   d = a b - kappa |s|^2
       1 + kappa |x (+) y|^2 = a b / d
       half the distance = arctan_kappa(|s| / sqrt(d)) = arsinh(sqrt(c |s|^2 / (a b))) / sqrt(c)
   tan_kappa(t) = tan(sqrt(kappa) t) / sqrt(kappa) and its like are Taylor series in kappa t^2 where
   that is small, so that kappa passes through 0.

   Near the rim a is the difference of two numbers near 1: for double points |x|^2 is summed as
   pairs of doubles from products of half the digits, which are exact, also where the compiler fuses
   multiplication and addition.

   Sources: Ungar, Analytic hyperbolic geometry, 2008; Ganea, Becigneul, Hofmann, Hyperbolic neural
   networks, 2018; Bachmann, Becigneul, Ganea, Constant curvature graph convolutional networks,
   2020.
   Deviations: the forms above; geodesics and midpoints by the Lorentz model's weights. */

/* ---- views ---- */

/* n numbers, floats or doubles; both NULL: all zero. */
typedef struct rv__reals {
    const float *f;
    const double *d;
} rv__reals;

typedef struct rv__outs {
    float *f;
    double *d;
} rv__outs;

RV__FN rv__reals rv__reals_f32(const float *x)
{
    rv__reals v;
    v.f = x;
    v.d = NULL;
    return v;
}

RV__FN rv__reals rv__reals_f64(const double *x)
{
    rv__reals v;
    v.f = NULL;
    v.d = x;
    return v;
}

RV__FN rv__outs rv__outs_f32(float *x)
{
    rv__outs v;
    v.f = x;
    v.d = NULL;
    return v;
}

RV__FN rv__outs rv__outs_f64(double *x)
{
    rv__outs v;
    v.f = NULL;
    v.d = x;
    return v;
}

RV__FN rv__reals rv__reals_of(rv__outs x)
{
    rv__reals v;
    v.f = x.f;
    v.d = x.d;
    return v;
}

/* From element `first` on. */
RV__FN rv__reals rv__reals_at(rv__reals x, size_t first)
{
    if (x.f) x.f += first;
    if (x.d) x.d += first;
    return x;
}

RV__FN rv__outs rv__outs_at(rv__outs x, size_t first)
{
    if (x.f) x.f += first;
    if (x.d) x.d += first;
    return x;
}

RV__INLINE double rv__real(rv__reals v, size_t i)
{
    return v.f ? (double)v.f[i] : v.d ? v.d[i] : 0.0;
}

RV__INLINE void rv__real_put(rv__outs v, size_t i, double value)
{
    if (v.f) v.f[i] = (float)value;
    else v.d[i] = value;
}

RV__FN double rv__hyp_nan(void)
{
    return (double)rv__nan();
}

RV__FN void rv__hyp_fill(rv__outs out, size_t n, double value)
{
    for (size_t i = 0; i < n; i++) rv__real_put(out, i, value);
}

/* Four sums, because additions wait for each other. */
RV__FN double rv__hyp_dot_f32(const float *x, const float *y, size_t n)
{
    double a = 0.0, b = 0.0, c = 0.0, d = 0.0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        a += (double)x[i] * (double)y[i];
        b += (double)x[i + 1] * (double)y[i + 1];
        c += (double)x[i + 2] * (double)y[i + 2];
        d += (double)x[i + 3] * (double)y[i + 3];
    }
    for (; i < n; i++) a += (double)x[i] * (double)y[i];
    return (a + b) + (c + d);
}

RV__FN double rv__hyp_dot(rv__reals x, rv__reals y, size_t n)
{
    double sum = 0.0;
    if (x.f && y.f) return rv__hyp_dot_f32(x.f, y.f, n);
    for (size_t i = 0; i < n; i++) sum += rv__real(x, i) * rv__real(y, i);
    return sum;
}

/* The length of x as peak * rest, so that it neither overflows nor vanishes. NaN for what is not
   finite. */
static double rv__hyp_peak(rv__reals x, size_t n, double *rest)
{
    double peak = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        double v = fabs(rv__real(x, i));
        if (!rv__finite_f64(v)) {
            *rest = rv__hyp_nan();
            return *rest;
        }
        if (v > peak) peak = v;
    }
    *rest = 0.0;
    if (peak == 0.0) return 0.0;
    for (size_t i = 0; i < n; i++) {
        double v = rv__real(x, i) / peak;
        sum += v * v;
    }
    *rest = sqrt(sum);
    return peak;
}

RV__FN double rv__hyp_length(rv__reals x, size_t n)
{
    double sum = rv__hyp_dot(x, x, n), peak, rest;
    if (rv__finite_f64(sum) && (sum > 1e-290 || !x.d)) return sqrt(sum);
    peak = rv__hyp_peak(x, n, &rest);
    return peak * rest;
}

/* ---- the gap 1 + kappa |x|^2 ---- */

/* sum + x, what was rounded away goes to *rest. */
static double rv__hyp_two_sum(double sum, double x, double *rest)
{
    double total = rv__mathx_keep(sum + x), part = rv__mathx_keep(total - sum);
    *rest += rv__mathx_keep(sum - rv__mathx_keep(total - part)) + rv__mathx_keep(x - part);
    return total;
}

/* The upper 26 bits of x: products of two such are exact. */
static double rv__hyp_head(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= ~(uint64_t)0x7FFFFFFu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double rv__hyp_gap_exact(const double *x, size_t n, double kappa)
{
    double high = 0.0, low = 0.0, rest = 0.0, head, tail, k_head, k_tail, sum;
    for (size_t i = 0; i < n; i++) {
        head = rv__hyp_head(x[i]);
        tail = rv__mathx_keep(x[i] - head);
        high = rv__hyp_two_sum(high, head * head, &low);
        low += (2.0 * head + tail) * tail;
    }
    head = rv__hyp_head(high);
    tail = rv__mathx_keep(high - head);
    k_head = rv__hyp_head(kappa);
    k_tail = rv__mathx_keep(kappa - k_head);
    sum = rv__hyp_two_sum(1.0, k_head * head, &rest);
    return sum + (rest + (k_head * tail + k_tail * head + k_tail * tail + kappa * low));
}

/* The largest radius, over 1 / sqrt(c), and its gap. */
RV__FN double rv__hyp_rim(int is_float)
{
    return is_float ? 1.0 - 1.0 / 4194304.0 : 1.0 - 1.0 / 281474976710656.0;
}

RV__FN double rv__hyp_least(int is_float)
{
    double margin = 1.0 - rv__hyp_rim(is_float);
    return margin * (2.0 - margin);
}

/* 1 + kappa |x|^2 of *pull times x, which lies within the rim; NaN when x or kappa is not
   finite. */
RV__FN double rv__hyp_gap(rv__reals x, size_t n, double kappa, double *pull)
{
    double gap, least = rv__hyp_least(x.f != NULL), peak, rest;
    *pull = 1.0;
    if (!x.f && !x.d && rv__finite_f64(kappa)) return 1.0;
    if (x.d && kappa < 0.0) gap = rv__hyp_gap_exact(x.d, n, kappa);
    else gap = 1.0 + kappa * rv__hyp_dot(x, x, n);
    if (rv__finite_f64(gap) && (kappa >= 0.0 || gap >= least)) return gap;
    if (rv__finite_f64(kappa) && kappa < 0.0) {
        peak = rv__hyp_peak(x, n, &rest);
        if (rv__finite_f64(peak)) {
            *pull = rv__hyp_rim(x.f != NULL) / sqrt(-kappa) / rest / peak;
            return least;
        }
    }
    *pull = rv__hyp_nan();
    return *pull;
}

/* kappa of the ball; NaN unless c is positive and finite. */
RV__FN double rv__hyp_ball(double c)
{
    return rv__finite_f64(c) && c > 0.0 ? -c : rv__hyp_nan();
}

/* ---- trigonometry of curvature kappa; u = kappa t^2 ---- */

#define RV__HYP_SMALL 1e-3 /* |u| below which six terms of the series are exact to a double */

/* tan_kappa(t) / t */
RV__FN double rv__hyp_tanc(double kappa, double t)
{
    double u = kappa * t * t, r, sine, cosine;
    if (u > -RV__HYP_SMALL && u < RV__HYP_SMALL) {
        return 1.0 + u * (1.0 / 3.0 + u * (2.0 / 15.0 + u * (17.0 / 315.0 + u * (62.0 / 2835.0 +
               u * (1382.0 / 155925.0)))));
    }
    r = sqrt(fabs(kappa)) * t;
    if (kappa < 0.0) return rv__tanh(r) / r;
    rv__sincos(r, &sine, &cosine);
    return sine / cosine / r;
}

/* sin_kappa(t) / t, sqrt(|kappa|) t at most 700 */
RV__FN double rv__hyp_sinc(double kappa, double t)
{
    double u = kappa * t * t, r, e, sine, cosine;
    if (u > -RV__HYP_SMALL && u < RV__HYP_SMALL) {
        return 1.0 - u * (1.0 / 6.0 - u * (1.0 / 120.0 - u * (1.0 / 5040.0 - u / 362880.0)));
    }
    r = sqrt(fabs(kappa)) * fabs(t);
    if (kappa < 0.0) {
        e = rv__expm1(r);
        return 0.5 * (e + e / (e + 1.0)) / r;
    }
    rv__sincos(r, &sine, &cosine);
    return sine / r;
}

/* 1 + kappa tan_kappa(t)^2: without cancellation where kappa < 0. */
RV__FN double rv__hyp_secant(double kappa, double t)
{
    double q, r;
    if (kappa < 0.0) {
        q = rv__exp(-2.0 * sqrt(-kappa) * fabs(t));
        return 4.0 * q / ((1.0 + q) * (1.0 + q));
    }
    r = t * rv__hyp_tanc(kappa, t);
    return 1.0 + kappa * r * r;
}

/* ---- two points ---- */

typedef struct rv__hyp_pair {
    rv__reals x, y;
    size_t n;
    double kappa, sign;    /* s = y_pull y + sign x_pull x */
    double x_pull, y_pull;
    double a, b, sq, d;    /* gaps, |s|^2, the denominator */
    double half, ratio;    /* half the distance; it over |s| / sqrt(d) */
} rv__hyp_pair;

/* |s|^2 and the denominator, from all else. For kappa > 0 that is a sum of squares as well, of
   y / |y| - sign kappa |y| x. */
static void rv__hyp_sums(rv__hyp_pair *p)
{
    double sum = 0.0, px = p->sign * p->x_pull, length, scale;
    for (size_t i = 0; i < p->n; i++) {
        double s = p->y_pull * rv__real(p->y, i) + px * rv__real(p->x, i);
        sum += s * s;
    }
    p->sq = sum;
    p->d = p->a * p->b - p->kappa * sum;
    if (!(p->kappa > 0.0)) return;
    length = fabs(p->y_pull) * rv__hyp_length(p->y, p->n);
    if (!(length > 0.0)) return;
    scale = p->sign * p->kappa * length;
    p->d = 0.0;
    for (size_t i = 0; i < p->n; i++) {
        double s = p->y_pull * rv__real(p->y, i) / length - scale * rv__real(p->x, i);
        p->d += s * s;
    }
}

/* Half the distance that belongs to |s|^2, a b and d. */
static void rv__hyp_measure(rv__hyp_pair *p)
{
    double u = p->kappa * p->sq / p->d, root = sqrt(p->sq / p->d);
    if (u > -RV__HYP_SMALL && u < RV__HYP_SMALL) {
        p->ratio = 1.0 - u * (1.0 / 3.0 - u * (0.2 - u * (1.0 / 7.0 - u * (1.0 / 9.0 - u / 11.0))));
        p->half = root * p->ratio;
    } else if (p->kappa < 0.0) {
        p->half = rv__asinh(sqrt(-p->kappa * p->sq / (p->a * p->b))) / sqrt(-p->kappa);
        p->ratio = p->half / root;
    } else {
        p->half = rv__atan2(sqrt(p->kappa * p->sq), sqrt(p->d)) / sqrt(p->kappa);
        p->ratio = p->half / root;
    }
}

/* Everything of sign x and y. */
RV__FN void rv__hyp_meet(rv__hyp_pair *p, rv__reals x, double sign, rv__reals y, size_t n,
                         double kappa)
{
    p->x = x;
    p->y = y;
    p->n = n;
    p->kappa = kappa;
    p->sign = sign;
    p->a = rv__hyp_gap(x, n, kappa, &p->x_pull);
    p->b = rv__hyp_gap(y, n, kappa, &p->y_pull);
    p->half = p->ratio = p->sq = p->d = rv__hyp_nan();
    if (!rv__finite_f64(p->a) || !rv__finite_f64(p->b)) return;
    rv__hyp_sums(p);
    rv__hyp_measure(p);
}

/* out = f s + g x + h v; v may be NULL. NaN where a factor is not finite. */
static void rv__hyp_blend(const rv__hyp_pair *p, double f, double g, double h, rv__reals v,
                          rv__outs out)
{
    double px = p->sign * p->x_pull;
    if (!rv__finite_f64(f) || !rv__finite_f64(g) || !rv__finite_f64(h)) {
        rv__hyp_fill(out, p->n, rv__hyp_nan());
        return;
    }
    g *= p->x_pull;
    for (size_t i = 0; i < p->n; i++) {
        double x = rv__real(p->x, i);
        double s = p->y_pull * rv__real(p->y, i) + px * x;
        rv__real_put(out, i, f * s + g * x + h * rv__real(v, i));
    }
}

/* What brings a result of this gap, its length times sqrt(c) being reach, back within the rim. */
RV__FN double rv__hyp_settle(double kappa, double gap, double reach, int is_float)
{
    if (kappa < 0.0 && gap < rv__hyp_least(is_float)) return rv__hyp_rim(is_float) / reach;
    return 1.0;
}

RV__FN rv__reals rv__hyp_none(void)
{
    return rv__reals_f64(NULL);
}

RV__FN void rv__hyp_times(rv__reals x, size_t n, double factor, rv__outs out)
{
    for (size_t i = 0; i < n; i++) rv__real_put(out, i, factor * rv__real(x, i));
}

RV__FN void rv__hyp_project(rv__outs x, size_t n, double kappa)
{
    double pull;
    (void)rv__hyp_gap(rv__reals_of(x), n, kappa, &pull);
    if (!rv__finite_f64(pull) || pull != 1.0) rv__hyp_times(rv__reals_of(x), n, pull, x);
}

/* Pulls a result in that stands outside by rounding: near the rim (gap), or coming from there (gap
   a) on a way that leads back past the origin, so that s is the difference of two numbers near the
   rim. */
RV__FN void rv__hyp_pull_in(rv__outs out, size_t n, double kappa, double a, double gap)
{
    if (kappa < 0.0 && (a < 1e-6 || gap < 1e-6)) rv__hyp_project(out, n, kappa);
}

/* (sign x) (+) y from a pair with its sums. */
static void rv__hyp_join(const rv__hyp_pair *p, rv__outs out)
{
    double gap = p->a * p->b / p->d;
    double f = rv__hyp_settle(p->kappa, gap, sqrt(-p->kappa * p->sq / p->d), out.f != NULL);
    rv__hyp_blend(p, f * p->a / p->d, -p->sign * f * p->kappa * p->sq / p->d, 0.0, rv__hyp_none(),
                  out);
    rv__hyp_pull_in(out, p->n, p->kappa, p->a, gap);
}

/* ---- functions of the model ---- */

RV__FN double rv__hyp_distance(rv__reals x, rv__reals y, size_t n, double kappa)
{
    rv__hyp_pair p;
    rv__hyp_meet(&p, x, -1.0, y, n, kappa);
    return 2.0 * p.half;
}

RV__FN double rv__hyp_conformal(rv__reals x, size_t n, double kappa)
{
    double pull;
    return 2.0 / rv__hyp_gap(x, n, kappa, &pull);
}

RV__FN void rv__hyp_add(rv__reals x, rv__reals y, size_t n, double kappa, rv__outs out)
{
    rv__hyp_pair p;
    rv__hyp_meet(&p, x, 1.0, y, n, kappa);
    rv__hyp_join(&p, out);
}

/* What x of this length and gap is to be multiplied by, so that its distance from the origin
   becomes `times` times what it was. */
static double rv__hyp_stretch(double times, double length, double gap, double kappa, int is_float)
{
    rv__hyp_pair p;
    double t, factor;
    p.kappa = kappa;
    p.sq = length * length;
    p.a = 1.0;
    p.b = gap;
    p.d = 1.0;
    rv__hyp_measure(&p);
    t = times * p.half;
    factor = times * p.ratio * rv__hyp_tanc(kappa, t);
    return factor * rv__hyp_settle(kappa, rv__hyp_secant(kappa, t),
                                   sqrt(fabs(kappa)) * length * fabs(factor), is_float);
}

RV__FN void rv__hyp_scale(double r, rv__reals x, size_t n, double kappa, rv__outs out)
{
    double pull, gap = rv__hyp_gap(x, n, kappa, &pull), factor = rv__hyp_nan();
    if (rv__finite_f64(gap) && rv__finite_f64(r)) {
        double length = pull * rv__hyp_length(x, n);
        factor = pull * rv__hyp_stretch(r, length, gap, kappa, out.f != NULL);
    }
    rv__hyp_times(x, n, factor, out);
}

/* |M x| relative to |x| stretches the distance from the origin. */
RV__FN void rv__hyp_matvec(rv__reals matrix, size_t n_rows, rv__reals x, size_t n, double kappa,
                           rv__outs out)
{
    double pull, gap = rv__hyp_gap(x, n, kappa, &pull), length, sum = 0.0, factor;
    if (rv__finite_f64(gap)) {
        for (size_t i = 0; i < n_rows; i++) {
            double y = pull * rv__hyp_dot(rv__reals_at(matrix, i * n), x, n);
            sum += y * y;
        }
    }
    if (!rv__finite_f64(gap) || !rv__finite_f64(sum)) {
        rv__hyp_fill(out, n_rows, rv__hyp_nan());
        return;
    }
    length = pull * rv__hyp_length(x, n);
    factor = 0.0;
    if (length > 0.0 && sum > 0.0) {
        /* the point |M x| / |x| (x) x, turned into the direction of M x */
        double ratio = sqrt(sum) / length;
        factor = pull * rv__hyp_stretch(ratio, length, gap, kappa, out.f != NULL) / ratio;
    }
    for (size_t i = 0; i < n_rows; i++) {
        rv__real_put(out, i, factor * rv__hyp_dot(rv__reals_at(matrix, i * n), x, n));
    }
}

/* The pair of x and y with exp_x(scale v) = x (+) y; y is a multiple of v. 0 when something is not
   finite. */
RV__FN int rv__hyp_aim(rv__hyp_pair *p, rv__reals x, rv__reals v, double scale, size_t n,
                       double kappa)
{
    double t;
    p->x = x;
    p->y = v;
    p->n = n;
    p->kappa = kappa;
    p->sign = 1.0;
    p->a = rv__hyp_gap(x, n, kappa, &p->x_pull);
    t = fabs(scale) * rv__hyp_length(v, n) / p->a;
    if (!rv__finite_f64(p->a) || !rv__finite_f64(t)) return 0;
    p->y_pull = scale * rv__hyp_tanc(kappa, t) / p->a;
    p->b = rv__hyp_secant(kappa, t);
    rv__hyp_sums(p);
    return 1;
}

RV__FN void rv__hyp_exp(rv__reals x, rv__reals v, double scale, size_t n, double kappa,
                        rv__outs out)
{
    rv__hyp_pair p;
    if (rv__hyp_aim(&p, x, v, scale, n, kappa)) rv__hyp_join(&p, out);
    else rv__hyp_fill(out, n, rv__hyp_nan());
}

/* times log_x(y). Returns the length of log_x(y). */
RV__FN double rv__hyp_log(rv__reals x, rv__reals y, double times, size_t n, double kappa,
                          rv__outs out)
{
    rv__hyp_pair p;
    double f;
    rv__hyp_meet(&p, x, -1.0, y, n, kappa);
    f = times * p.a * p.ratio / p.d;
    rv__hyp_blend(&p, f * p.a, f * kappa * p.sq, 0.0, rv__hyp_none(), out);
    return 2.0 * p.half;
}

/* gyr[u, v] w = w + *on_u u + *on_v v, from the products of the three; middle = 1 - kappa u v, d
   the denominator of u (+) v. With W = -kappa (u v' - v u') it is 1 + 2 / d (middle W + W W). */
static void rv__hyp_turn(double kappa, double uu, double vv, double uv, double uw, double vw,
                         double middle, double d, double *on_u, double *on_v)
{
    *on_u = 2.0 / d * (-kappa * middle * vw + kappa * kappa * (uv * vw - vv * uw));
    *on_v = 2.0 / d * (kappa * middle * uw - kappa * kappa * (uu * vw - uv * uw));
}

/* (lambda_x / lambda_y) gyr[y, -x] v; the gyration is that of x and s = y - x. */
RV__FN void rv__hyp_transport(rv__reals x, rv__reals y, rv__reals v, size_t n, double kappa,
                              rv__outs out)
{
    rv__hyp_pair p;
    double xx = 0.0, xs = 0.0, xv = 0.0, sv = 0.0, on_x, on_s, f;
    rv__hyp_meet(&p, x, -1.0, y, n, kappa);
    for (size_t i = 0; i < n; i++) {
        double xi = p.x_pull * rv__real(x, i), vi = rv__real(v, i);
        double s = p.y_pull * rv__real(y, i) - xi;
        xx += xi * xi;
        xs += xi * s;
        xv += xi * vi;
        sv += s * vi;
    }
    rv__hyp_turn(kappa, xx, p.sq, xs, xv, sv, 0.5 * (p.a + p.b - kappa * p.sq), p.d, &on_x, &on_s);
    f = p.b / p.a;
    rv__hyp_blend(&p, f * on_s, f * on_x, f, v, out);
}

/* x (+) (t (x) u), u = (-x) (+) y: for t < 0, where the weights of the next function cancel. */
static void rv__hyp_behind(const rv__hyp_pair *p, double t, rv__outs out)
{
    double by = t * p->ratio * rv__hyp_tanc(p->kappa, t * p->half) / p->d; /* of d u */
    double on_x = 1.0 + by * p->kappa * p->sq, on_s = by * p->a, sum = 0.0, d, gap, f;
    for (size_t i = 0; i < p->n; i++) {
        double x = p->x_pull * rv__real(p->x, i);
        double s = on_x * x + on_s * (p->y_pull * rv__real(p->y, i) - x);
        sum += s * s;
    }
    gap = p->a * rv__hyp_secant(p->kappa, t * p->half);
    d = gap - p->kappa * sum;
    f = rv__hyp_settle(p->kappa, gap / d, sqrt(-p->kappa * sum / d), out.f != NULL) / d;
    rv__hyp_blend(p, f * p->a * on_s, f * (p->a * on_x - p->kappa * sum), 0.0, rv__hyp_none(), out);
    rv__hyp_pull_in(out, p->n, p->kappa, p->a, gap / d);
}

/* On the sheet the point is (sin((1 - t) D) X + sin(t D) Y) / sin D, D the distance: weights that
   are positive between the ends. */
RV__FN void rv__hyp_geodesic(rv__reals x, rv__reals y, double t, size_t n, double kappa,
                             rv__outs out)
{
    rv__hyp_pair p;
    double whole, f, g, time, gap, shrink;
    if (!rv__finite_f64(t)) kappa = rv__hyp_nan();
    if (t > 1.0) { /* from the other end */
        rv__reals swap = x;
        x = y;
        y = swap;
        t = 1.0 - t;
    }
    rv__hyp_meet(&p, x, -1.0, y, n, kappa);
    if (t < 0.0) {
        rv__hyp_behind(&p, t, out);
        return;
    }
    whole = rv__hyp_sinc(kappa, 2.0 * p.half);
    f = (1.0 - t) * rv__hyp_sinc(kappa, 2.0 * p.half * (1.0 - t)) / whole * 2.0 / p.a;
    g = t * rv__hyp_sinc(kappa, 2.0 * p.half * t) / whole * 2.0 / p.b;
    time = f * (1.0 - 0.5 * p.a) + g * (1.0 - 0.5 * p.b);
    gap = 2.0 / (1.0 + time);
    shrink = rv__hyp_settle(kappa, gap, sqrt(1.0 - gap), out.f != NULL) / (1.0 + time);
    rv__hyp_blend(&p, 0.0, f * shrink, g * shrink * p.y_pull, y, out);
    rv__hyp_pull_in(out, n, kappa, 1.0, gap);
}

/* The Euclidean gradient of the distance by the x of a pair with its sums. */
static void rv__hyp_gradient(const rv__hyp_pair *p, rv__outs out)
{
    double s = sqrt(p->sq), f = s > 0.0 ? -2.0 / (s * sqrt(p->d)) : 0.0;
    if (!rv__finite_f64(p->sq)) f = p->sq;
    rv__hyp_blend(p, f, f * p->kappa * p->sq / p->a, 0.0, rv__hyp_none(), out);
}

/* The distance; an output that is NULL is not wanted. */
RV__FN double rv__hyp_gradients(rv__reals x, rv__reals y, size_t n, double kappa, rv__outs by_x,
                                rv__outs by_y)
{
    rv__hyp_pair p, q;
    rv__hyp_meet(&p, x, -1.0, y, n, kappa);
    rv__hyp_meet(&q, y, -1.0, x, n, kappa);
    if (by_x.f || by_x.d) rv__hyp_gradient(&p, by_x);
    if (by_y.f || by_y.d) rv__hyp_gradient(&q, by_y);
    return 2.0 * p.half;
}

/* grad / lambda^2 */
RV__FN void rv__hyp_rgrad(rv__reals x, rv__reals grad, size_t n, double kappa, rv__outs out)
{
    double pull, gap = rv__hyp_gap(x, n, kappa, &pull);
    if (!rv__finite_f64(rv__hyp_length(grad, n))) gap = rv__hyp_nan();
    rv__hyp_times(grad, n, 0.25 * gap * gap, out);
}

RV__FN void rv__hyp_sgd(rv__outs x, rv__reals grad, size_t n, double kappa, double rate)
{
    double pull, gap = rv__hyp_gap(rv__reals_of(x), n, kappa, &pull);
    rv__hyp_exp(rv__reals_of(x), grad, -rate * 0.25 * gap * gap, n, kappa, x);
}

#undef RV__HYP_SMALL

#endif /* RV_HYPERBOLIC_C */
