#ifndef RV_HYPERBOLIC_LORENTZ_C
#define RV_HYPERBOLIC_LORENTZ_C
#include "hyperbolic.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "hyperbolic.c"

/* The Lorentz sheet over views of space parts; the time x0 = sqrt(1/c + |x|^2) is computed.

   cosh(sqrt(c) d) = 1 + t. t = (c/2) (|x - y|^2 - (x0 - y0)^2) cancels far out; with the
   direction p = x + y, along which X, Y are the components of x and y and D their difference,
       t = (c S^2 |e|^2 + 4 D^2) / (2 (S - D) (S + D)),   S = x0 + y0
   e being the part of x - y across p, and S - D = (x0 - X) + (y0 + Y) is a sum of positive terms
   when x0 - X, for X > 0, is taken as (1/c + |x across p|^2) / (x0 + X).

   Sources: Nickel, Kiela, Learning continuous hierarchies in the Lorentz model, 2018. */

typedef struct rv__lor_pair {
    double x0, y0;
    double gap0;   /* x0 - y0 */
    double t;
    double norm;   /* sinh(sqrt(c) d) */
} rv__lor_pair;

/* NaN unless c is positive and finite. */
static double rv__lor_curvature(double c)
{
    return -rv__hyp_ball(c);
}

RV__FN double rv__lor_time(rv__reals x, size_t n, double c)
{
    return sqrt(1.0 / c + rv__hyp_dot(x, x, n));
}

/* time + along, positive and with all its digits also where along < 0; rest = time^2 - along^2. */
static double rv__lor_light(double time, double along, double rest)
{
    return along >= 0.0 ? time + along : rest / (time - along);
}

/* z - a p, from products of half the digits: what is left is small when z is nearly parallel
   to p. */
static double rv__lor_less(double z, double a, double p)
{
    double a_head = rv__hyp_head(a), p_head = rv__hyp_head(p);
    double a_tail = rv__mathx_keep(a - a_head), p_tail = rv__mathx_keep(p - p_head);
    z = rv__mathx_keep(z - a_head * p_head);
    return rv__mathx_keep(z - a_head * p_tail) - a_tail * p;
}

static void rv__lor_meet(rv__lor_pair *p, rv__reals x, rv__reals y, size_t n, double c)
{
    double pp = 0.0, xp = 0.0, yp = 0.0, ep = 0.0, xx, yy, ee = 0.0, root, along, sum, rest, minus,
           plus, ax = 1.0, ay = -1.0, zp;
    xx = rv__hyp_dot(x, x, n);
    yy = rv__hyp_dot(y, y, n);
    p->x0 = sqrt(1.0 / c + xx);
    p->y0 = sqrt(1.0 / c + yy);
    for (size_t i = 0; i < n; i++) {
        double xi = rv__real(x, i), yi = rv__real(y, i), s = xi + yi, e = xi - yi;
        pp += s * s;
        xp += xi * s;
        yp += yi * s;
        ep += e * s;
        ee += e * e;
    }
    /* Across p x and y are opposite, each half of x - y: take it from the shortest of the three. */
    zp = ep;
    if (4.0 * xx < ee && xx <= yy) {
        ax = 2.0;
        ay = 0.0;
        zp = 2.0 * xp;
    } else if (4.0 * yy < ee) {
        ax = 0.0;
        ay = 2.0;
        zp = 2.0 * yp;
    }
    along = pp > 0.0 ? zp / pp : 0.0;
    ee = 0.0;
    for (size_t i = 0; i < n; i++) {
        double low = 0.0, rest_p = 0.0, e;
        e = rv__hyp_two_sum(ax * rv__real(x, i), ay * rv__real(y, i), &low);
        e = rv__lor_less(e, along, rv__hyp_two_sum(rv__real(x, i), rv__real(y, i), &rest_p));
        e += low - along * rest_p;
        ee += e * e;
    }
    sum = p->x0 + p->y0;
    root = sqrt(pp);
    along = 0.0;
    if (root > 0.0) {
        xp /= root;
        yp /= root;
        along = ep / root;
    }
    rest = 1.0 / c + 0.25 * ee;
    minus = rv__lor_light(p->x0, -xp, rest) + rv__lor_light(p->y0, yp, rest);
    plus = rv__lor_light(p->x0, xp, rest) + rv__lor_light(p->y0, -yp, rest);
    p->gap0 = ep / sum;
    p->t = (c * sum * sum * ee + 4.0 * along * along) / (2.0 * minus * plus);
    p->norm = sqrt(p->t * (p->t + 2.0));
}

/* asinh(z) / z for z = sinh(sqrt(c) d) */
static double rv__lor_ratio(double norm)
{
    return norm > 1e-4 ? rv__asinh(norm) / norm : 1.0 - norm * norm / 6.0;
}

RV__FN double rv__lor_distance(rv__reals x, rv__reals y, size_t n, double c)
{
    rv__lor_pair p;
    c = rv__lor_curvature(c);
    rv__lor_meet(&p, rv__reals_at(x, 1), rv__reals_at(y, 1), n, c);
    return rv__finite_f64(p.t) ? 2.0 * rv__asinh(sqrt(0.5 * p.t)) / sqrt(c) : rv__hyp_nan();
}

RV__FN double rv__lor_inner(rv__reals x, rv__reals y, size_t n)
{
    return rv__hyp_dot(rv__reals_at(x, 1), rv__reals_at(y, 1), n) - rv__real(x, 0) * rv__real(y, 0);
}

/* Sets the time of out; all NaN when something is not finite. */
RV__FN void rv__lor_project(rv__outs out, size_t n, double c)
{
    double time = rv__lor_time(rv__reals_at(rv__reals_of(out), 1), n, rv__lor_curvature(c));
    if (rv__finite_f64(time)) rv__real_put(out, 0, time);
    else rv__hyp_fill(out, n + 1, rv__hyp_nan());
}

/* The squared Lorentz norm of a tangent at x: v across x, and along x shortened by time; with the
   time part of v. */
static double rv__lor_norm(rv__reals x, rv__reals v, size_t n, double c, double *v0)
{
    double xx = rv__hyp_dot(x, x, n), xv = rv__hyp_dot(x, v, n), sum = 0.0;
    double along = xx > 0.0 ? xv / xx : 0.0, time = 1.0 / c + xx;
    for (size_t i = 0; i < n; i++) {
        double e = rv__real(v, i) - along * rv__real(x, i);
        sum += e * e;
    }
    *v0 = xv / sqrt(time);
    return sum + along * xv / (c * time);
}

/* exp_x(scale v), and at its end carry m, which is parallel to v: m <- its transport. m has no view
   of its own: it is `part` times v, written to moved when that is wanted. */
static void rv__lor_move(rv__reals x, rv__reals v, double scale, size_t n, double c, rv__outs out,
                         rv__outs moved)
{
    double v0, length = sqrt(rv__lor_norm(x, v, n, c, &v0)), theta, stay, go, turn, most;
    most = out.f ? 80.0 : 300.0; /* beyond that coordinates leave the range */
    theta = sqrt(c) * fabs(scale) * length;
    if (!rv__finite_f64(theta)) {
        rv__hyp_fill(out, n + 1, rv__hyp_nan());
        if (moved.f || moved.d) rv__hyp_fill(moved, n + 1, rv__hyp_nan());
        return;
    }
    if (theta > most) {
        scale *= most / theta;
        theta = most;
    }
    go = rv__hyp_sinc(-c, theta / sqrt(c)); /* sinh(theta) / theta */
    stay = sqrt(1.0 + theta * theta * go * go);
    turn = scale * length * length * c * go;
    go *= scale;
    for (size_t i = 0; i < n; i++) {
        double xi = rv__real(x, i), vi = rv__real(v, i);
        if (moved.f || moved.d) rv__real_put(rv__outs_at(moved, 1), i, stay * vi + turn * xi);
        rv__real_put(rv__outs_at(out, 1), i, stay * xi + go * vi);
    }
    rv__lor_project(out, n, c);
    if (moved.f || moved.d) {
        rv__reals at = rv__reals_at(rv__reals_of(out), 1),
                  w = rv__reals_at(rv__reals_of(moved), 1);
        rv__real_put(moved, 0, rv__hyp_dot(at, w, n) / rv__real(rv__reals_of(out), 0));
    }
}

/* x, y, v: with time, as callers give them; NULL stays NULL. */
RV__FN void rv__lor_exp(rv__reals x, rv__reals v, double scale, size_t n, double c, rv__outs out,
                        rv__outs moved)
{
    rv__lor_move(rv__reals_at(x, 1), rv__reals_at(v, 1), scale, n, rv__lor_curvature(c), out,
                 moved);
}

/* out = f ((y - x) - t x), a tangent at x; all NaN where f or t is. */
static void rv__lor_toward(const rv__lor_pair *p, rv__reals x, rv__reals y, double f, size_t n,
                           rv__outs out)
{
    if (!rv__finite_f64(f) || !rv__finite_f64(p->t)) {
        rv__hyp_fill(out, n + 1, rv__hyp_nan());
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double xi = rv__real(x, i), yi = rv__real(y, i);
        rv__real_put(rv__outs_at(out, 1), i, f * (rv__mathx_keep(yi - xi) - p->t * xi));
    }
    rv__real_put(out, 0, f * (-p->gap0 - p->t * p->x0));
}

RV__FN void rv__lor_log(rv__reals x, rv__reals y, size_t n, double c, rv__outs out)
{
    rv__lor_pair p;
    x = rv__reals_at(x, 1);
    y = rv__reals_at(y, 1);
    rv__lor_meet(&p, x, y, n, rv__lor_curvature(c));
    rv__lor_toward(&p, x, y, rv__lor_ratio(p.norm), n, out);
}

/* The distance and its Riemannian gradients -log_x(y) / d, -log_y(x) / d; an output that is NULL is
   not wanted. */
RV__FN double rv__lor_gradients(rv__reals x, rv__reals y, size_t n, double c, rv__outs by_x,
                                rv__outs by_y)
{
    rv__lor_pair p, q;
    double f;
    c = rv__lor_curvature(c);
    x = rv__reals_at(x, 1);
    y = rv__reals_at(y, 1);
    rv__lor_meet(&p, x, y, n, c);
    rv__lor_meet(&q, y, x, n, c);
    f = !rv__finite_f64(p.norm) ? p.norm : p.norm > 0.0 ? -sqrt(c) / p.norm : 0.0;
    if (by_x.f || by_x.d) rv__lor_toward(&p, x, y, f, n, by_x);
    if (by_y.f || by_y.d) rv__lor_toward(&q, y, x, f, n, by_y);
    return rv__finite_f64(p.t) ? 2.0 * rv__asinh(sqrt(0.5 * p.t)) / sqrt(c) : rv__hyp_nan();
}

/* <y, v>_L of a tangent v at x, of which v0 is the time part. With r the direction of x that is
   (y r - y0 |x| / x0) (v r) + (y across r) (v across r); the first factor, where y r > 0, as
   (y r)^2 x0^2 - y0^2 |x|^2 over a sum. */
static double rv__lor_cross(rv__reals x, rv__reals y, rv__reals v, size_t n, double c, double x0,
                            double y0)
{
    double xx = rv__hyp_dot(x, x, n), xv = rv__hyp_dot(x, v, n), xe = 0.0, across = 0.0, yy = 0.0;
    double length = sqrt(xx), by_y, by_v, less, ee = 0.0, reach, factor;
    if (!(length > 0.0)) return rv__hyp_dot(y, v, n);
    for (size_t i = 0; i < n; i++) {
        double e = rv__real(y, i) - rv__real(x, i);
        xe += rv__real(x, i) * e;
        ee += e * e;
    }
    /* Across r y and y - x are the same: take it from the shorter. */
    less = ee < rv__hyp_dot(y, y, n) ? 1.0 : 0.0;
    by_y = (less > 0.0 ? xe : rv__hyp_dot(x, y, n)) / xx;
    by_v = xv / xx;
    for (size_t i = 0; i < n; i++) {
        double xi = rv__real(x, i), e = rv__lor_less(rv__real(y, i) - less * xi, by_y, xi);
        across += e * (rv__real(v, i) - by_v * xi);
        yy += e * e;
    }
    reach = less > 0.0 ? length + xe / length : by_y * length;
    factor = reach - y0 * length / x0;
    if (reach > 0.0) {
        factor = (xe / length * (reach + length) / c - yy * xx) / (x0 * (reach * x0 + y0 * length));
    }
    return across + factor * xv / length;
}

/* v + <y, v>_L / (1/c - <x, y>_L) (x + y) */
RV__FN void rv__lor_transport(rv__reals x, rv__reals y, rv__reals v, size_t n, double c,
                              rv__outs out)
{
    rv__lor_pair p;
    double v0, f;
    x = rv__reals_at(x, 1);
    y = rv__reals_at(y, 1);
    v = rv__reals_at(v, 1);
    c = rv__lor_curvature(c);
    rv__lor_meet(&p, x, y, n, c);
    v0 = rv__hyp_dot(x, v, n) / p.x0;
    f = c * rv__lor_cross(x, y, v, n, c, p.x0, p.y0) / (2.0 + p.t);
    if (!rv__finite_f64(f)) {
        rv__hyp_fill(out, n + 1, rv__hyp_nan());
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double s = rv__real(x, i) + rv__real(y, i);
        rv__real_put(rv__outs_at(out, 1), i, rv__real(v, i) + f * s);
    }
    rv__real_put(out, 0, v0 + f * (p.x0 + p.y0));
}

/* The Euclidean gradient with its time part turned, less its part off the sheet. */
RV__FN void rv__lor_rgrad(rv__reals x, rv__reals grad, size_t n, double c, rv__outs out)
{
    double x0, g0 = rv__real(grad, 0), f;
    x = rv__reals_at(x, 1);
    grad = rv__reals_at(grad, 1);
    c = rv__lor_curvature(c);
    x0 = rv__lor_time(x, n, c);
    f = c * (x0 * g0 + rv__hyp_dot(x, grad, n));
    if (!rv__finite_f64(f)) {
        rv__hyp_fill(out, n + 1, rv__hyp_nan());
        return;
    }
    for (size_t i = 0; i < n; i++) {
        rv__real_put(rv__outs_at(out, 1), i, rv__real(grad, i) + f * rv__real(x, i));
    }
    rv__real_put(out, 0, f * x0 - g0);
}

/* ---- conversions ---- */

RV__FN void rv__hyp_to_lorentz(rv__reals x, size_t n, double c, rv__outs out)
{
    double kappa = rv__hyp_ball(c), pull, gap = rv__hyp_gap(x, n, kappa, &pull);
    if (!rv__finite_f64(gap)) {
        rv__hyp_fill(out, n + 1, rv__hyp_nan());
        return;
    }
    /* backwards: out may be x, which is one shorter */
    for (size_t i = n; i-- > 0;) rv__real_put(out, i + 1, 2.0 / gap * pull * rv__real(x, i));
    rv__real_put(out, 0, (2.0 / gap - 1.0) / sqrt(-kappa));
}

RV__FN void rv__hyp_from_lorentz(rv__reals x, size_t n, double c, rv__outs out)
{
    double kappa = rv__hyp_ball(c), root = sqrt(-kappa), time, f;
    x = rv__reals_at(x, 1);
    time = root * rv__lor_time(x, n, -kappa);
    f = 1.0 / (1.0 + time);
    f *= rv__hyp_settle(kappa, 2.0 * f, root * rv__hyp_length(x, n) * f, out.f != NULL);
    if (!rv__finite_f64(time)) f = rv__hyp_nan();
    rv__hyp_times(x, n, f, out);
}

RV__FN void rv__hyp_to_klein(rv__reals x, size_t n, double c, rv__outs out)
{
    double pull, kappa = rv__hyp_ball(c), gap = rv__hyp_gap(x, n, kappa, &pull), f;
    f = pull * 2.0 / (2.0 - gap);
    /* twice as near to the rim in digits */
    f *= rv__hyp_settle(kappa, gap * gap / ((2.0 - gap) * (2.0 - gap)), sqrt(1.0 - gap) * f / pull,
                        out.f != NULL);
    rv__hyp_times(x, n, f, out);
}

RV__FN void rv__hyp_from_klein(rv__reals x, size_t n, double c, rv__outs out)
{
    double pull, gap = rv__hyp_gap(x, n, rv__hyp_ball(c), &pull);
    rv__hyp_times(x, n, pull / (1.0 + sqrt(gap)), out);
}

#endif /* RV_HYPERBOLIC_LORENTZ_C */
