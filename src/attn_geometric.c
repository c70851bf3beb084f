#ifndef RV_ATTN_GEOMETRIC_C
#define RV_ATTN_GEOMETRIC_C
#include "attn_geometric.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "hyperbolic.c"
#include "hyperbolic_lorentz.c"
#include "hyperbolic_search.c"
#include "attn.c"

/* Logits of curved spaces.

   Rows of queries and keys are prepared once: lifted into the form that pairs are cheapest in, with
   one factor per row. A row consists of up to three parts, slices of its columns, each in a space
   of its own; a part gives a number z per pair, and the logit is made of the parts' numbers.

       STEREO   z = d of curvature kappa. With f = 1 / (1 + kappa |x|^2), r^2 = |x - y|^2 f_x f_y
                and u = |kappa| r^2: d = 2 asinh(sqrt u) / sqrt(c), 2 r, or
                2 asin(sqrt u) / sqrt(kappa)
       LORENTZ  z = d; rows hold x / (1 + sqrt(c) x0), the point of the ball, f = (1 + sqrt(c) x0)/2
       ANGLE    z = angle; rows of length 1, f = 1 / length before. 2 atan2(|x - y|, |x + y|)
       DOT      z = x . y; lifted as it is, to length 1, or to the tangent space at the origin

   Squared differences come from the scans in floats, which keeps near points; a negative factor
   marks a row whose pairs take the long way in double. Gradients of STEREO and LORENTZ are
   combinations of x - y, x and y. Those of LORENTZ are by space parts, not by what rows hold. */

#define RV__GEO_TILE 64u /* pairs of a call of the engine, at most */
#define RV__GEO_PARTS 3u
#define RV__GEO_FAR 4096.0f /* factor beyond which the ball's floats are too coarse */

enum { RV__GEO_STEREO, RV__GEO_LORENTZ, RV__GEO_ANGLE, RV__GEO_DOT };
/* lifts of DOT */
enum { RV__GEO_PLAIN, RV__GEO_UNIT, RV__GEO_LOG, RV__GEO_TIME_Q, RV__GEO_TIME_K };
enum { RV__GEO_SUM, RV__GEO_SQUARE, RV__GEO_ROOT };
enum { RV__GEO_MEAN, RV__GEO_MIDPOINT, RV__GEO_CENTROID, RV__GEO_TANGENT, RV__GEO_NORMAL,
       RV__GEO_FRECHET };

typedef struct rv__geo_part {
    int form, lift;
    double kappa;
    size_t from, dim;           /* columns of the caller's row                                    */
    size_t at, width;           /* columns of the prepared row                                    */
    const float *matrix;        /* [dim, dim] on the row before it is lifted; NULL: none          */
    float *q_factor, *k_factor; /* [n_q, heads], [n_k, kv_heads]                                  */
} rv__geo_part;

typedef struct rv__geo {
    rv_attn_config config;      /* settled; what the engine is given                              */
    rv_attn_io io;              /* settled, the caller's                                          */
    const rv__kernels *kernels;
    rv__geo_part parts[RV__GEO_PARTS];
    size_t n_parts;
    int combine;
    float own[RV__GEO_PARTS];   /* coefficients of all heads, or                                  */
    const float *mix;           /* [heads, PARTS] of each                                         */
    size_t n_mix;               /* coefficients that want a gradient                              */
    int dots;                   /* one part, DOT: the engine's own dot products do                */
    size_t wide, wide_v;        /* columns of prepared rows                                       */
    float *q, *k;               /* [n_q, heads * wide], [n_k, kv_heads * wide]                    */
    int mean;                   /* how values are averaged                                        */
    double kappa;               /* of values                                                      */
    double tolerance;
    uint32_t iterations;
    float *v, *out;             /* [n_k + 1, kv_heads * wide_v], the last row 0; [n_q, heads *
                                   wide_v]                                                        */
    float *d_q, *d_k, *d_v, *d_out; /* of the prepared rows                                       */
    float *d_matrix;            /* the caller's, of the parts' matrices                           */
    const rv_attn_grad *grad;
    float *lane;                /* per lane: rows of the caller's, in floats                      */
    double *wide_lane;          /* per lane: [4 * most]                                           */
    size_t most;                /* columns of any row                                             */
    unsigned char *again;       /* [n_q * heads] means to be taken in double                      */
    float *weights, *column;    /* [n_k + 1] each, of one query                                   */
    float *d_keys;              /* [n_k, wide] of one query                                       */
    double *sums;               /* [8 * most] of one mean                                         */
} rv__geo;

static size_t rv__geo_kv(const rv__geo *g, size_t head)
{
    return head * g->config.kv_heads / g->config.heads;
}

static const float *rv__geo_mix(const rv__geo *g, size_t head)
{
    return g->mix ? g->mix + head * RV__GEO_PARTS : g->own;
}

/* ---- numbers of pairs ---- */

/* 2 asin(sqrt(s)), s in [0, 1]. Polynomial: Moshier, Cephes, asinf. */
static float rv__geo_asin(float s)
{
    const float x = sqrtf(s), half = 0.25f, z = s > half ? 0.5f * (1.0f - s) / (1.0f + x) : s;
    const float y = s > half ? sqrtf(z) : x;
    const float a = y + y * z * ((((4.2163199048e-2f * z + 2.4181311049e-2f) * z +
                                   4.5470025998e-2f) * z + 7.4953002686e-2f) * z +
                                 1.6666752422e-1f);
    return s > half ? 3.14159265f - 4.0f * a : 2.0f * a;
}

/* Whether the pair is to be taken in double; r2 as in the outline. */
static int rv__geo_long(const rv__geo_part *p, float fq, float fk, float r2)
{
    if (fq < 0.0f || fk < 0.0f || !rv__finite_f32(r2)) return 1;
    return p->kappa > 0.0 && p->kappa * (double)r2 > 0.99;
}

/* The space part of a prepared Lorentz row, in double. */
static void rv__geo_space(const float *x, float factor, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) out[i] = 2.0 * fabs((double)factor) * (double)x[i];
}

/* cosh(sqrt(c) d) - 1 of two Lorentz rows */
static double rv__geo_lorentz(const rv__geo *g, const rv__geo_part *p, size_t lane, const float *q,
                              float fq, const float *k, float fk)
{
    double *x = g->wide_lane + lane * 4 * g->most, *y = x + g->most;
    rv__lor_pair pair;
    rv__geo_space(q, fq, p->width, x);
    rv__geo_space(k, fk, p->width, y);
    rv__lor_meet(&pair, rv__reals_f64(x), rv__reals_f64(y), p->width, -p->kappa);
    return pair.t;
}

static float rv__geo_far(const rv__geo *g, const rv__geo_part *p, size_t lane, const float *q,
                         float fq, const float *k, float fk)
{
    double t;
    if (p->form == RV__GEO_STEREO)
        return (float)rv__hyp_distance(rv__reals_f32(q), rv__reals_f32(k), p->width, p->kappa);
    t = rv__geo_lorentz(g, p, lane, q, fq, k, fk);
    if (!rv__finite_f64(t)) return (float)rv__hyp_nan();
    return (float)(2.0 * rv__asinh(sqrt(0.5 * t)) / sqrt(-p->kappa));
}

/* What a call of the engine works on. */
typedef struct rv__geo_tile {
    const float *q, *k; /* of a part */
    size_t ld;          /* between keys */
    float fq;
    const float *fk;    /* of every kv_heads-th: */
    size_t step;
} rv__geo_tile;

static rv__geo_tile rv__geo_tile_of(const rv__geo *g, const rv__geo_part *p, size_t head, size_t i,
                                    size_t j)
{
    const size_t kv = rv__geo_kv(g, head);
    rv__geo_tile t;
    t.step = g->config.kv_heads;
    t.ld = t.step * g->wide;
    t.q = g->q + (i * g->config.heads + head) * g->wide + p->at;
    t.k = g->k + (j * t.step + kv) * g->wide + p->at;
    t.fq = p->q_factor ? p->q_factor[i * g->config.heads + head] : 1.0f;
    t.fk = p->k_factor ? p->k_factor + j * t.step + kv : NULL;
    return t;
}

/* d of n pairs, from r^2 in r2. */
static void rv__geo_curve(const rv__geo *g, const rv__geo_part *p, const float *r2, size_t n,
                          float *z)
{
    const float a = (float)fabs(p->kappa), scale = (float)(1.0 / sqrt(fabs(p->kappa)));
    const float third = p->kappa < 0.0 ? -1.0f / 6.0f : 1.0f / 6.0f;
    if (p->kappa == 0.0) {
        for (size_t x = 0; x < n; x++) z[x] = 2.0f * sqrtf(r2[x]);
        return;
    }
    for (size_t x = 0; x < n; x++) z[x] = a * r2[x];
    if (p->kappa < 0.0) {
        rv__hyp_asinh_many(g->kernels, z, n, scale);
    } else {
        for (size_t x = 0; x < n; x++) z[x] = rv__geo_asin(z[x] < 1.0f ? z[x] : 1.0f) * scale;
    }
    for (size_t x = 0; x < n; x++) {
        const float u = a * r2[x];
        if (u < 1e-4f) z[x] = 2.0f * sqrtf(r2[x]) * (1.0f + third * u);
    }
}

/* |q + k|^2 of a tile */
static void rv__geo_opposite(const rv__geo *g, const rv__geo_part *p, const rv__geo_tile *t,
                             size_t lane, size_t n, float *out)
{
    float *minus = g->lane + lane * 2 * g->most;
    for (size_t x = 0; x < p->width; x++) minus[x] = -t->q[x];
    g->kernels->scan[RV__OP_L2][RV__TYPE_F32](minus, (const unsigned char *)t->k, 4 * t->ld, NULL,
                                              n, p->width, out);
}

/* z[x] of the pairs; raw[x]: r^2 (STEREO, LORENTZ), |q - k|^2 (ANGLE); other[x]: |q + k|^2. */
static void rv__geo_values(const rv__geo *g, const rv__geo_part *p, const rv__geo_tile *t,
                           size_t lane, size_t n, float *z, float *raw, float *other)
{
    const unsigned char *keys = (const unsigned char *)t->k;
    if (p->form == RV__GEO_DOT) {
        g->kernels->scan_dot_f32(t->q, keys, 4 * t->ld, NULL, n, p->width, z);
        return;
    }
    g->kernels->scan[RV__OP_L2][RV__TYPE_F32](t->q, keys, 4 * t->ld, NULL, n, p->width, raw);
    if (p->form == RV__GEO_ANGLE) {
        const float scale = (float)(1.0 / sqrt(p->kappa));
        rv__geo_opposite(g, p, t, lane, n, other);
        for (size_t x = 0; x < n; x++) {
            const float a = raw[x], b = other[x], sum = a + b, least = a < b ? a : b;
            const float angle = rv__geo_asin(sum == 0.0f ? 0.5f : least / sum);
            z[x] = (a <= b ? angle : 3.14159265f - angle) * scale;
        }
        return;
    }
    for (size_t x = 0; x < n; x++) raw[x] *= fabsf(t->fq) * fabsf(t->fk[x * t->step]);
    rv__geo_curve(g, p, raw, n, z);
    for (size_t x = 0; x < n; x++) {
        const float fk = t->fk[x * t->step];
        if (rv__geo_long(p, t->fq, fk, raw[x]))
            z[x] = rv__geo_far(g, p, lane, t->q, t->fq, t->k + x * t->ld, fk);
    }
}

/* ---- logits ---- */

static void rv__geo_logits(const void *user, size_t lane, size_t head, size_t i, size_t j, size_t n,
                           float *s)
{
    const rv__geo *g = (const rv__geo *)user;
    const float *mix = rv__geo_mix(g, head);
    float z[RV__GEO_TILE], raw[RV__GEO_TILE], other[RV__GEO_TILE];
    for (size_t x = 0; x < n; x++) s[x] = 0.0f;
    for (size_t at = 0; at < g->n_parts; at++) {
        const rv__geo_part *p = &g->parts[at];
        const rv__geo_tile t = rv__geo_tile_of(g, p, head, i, j);
        const float m = mix[at];
        if (p->width == 0) continue;
        rv__geo_values(g, p, &t, lane, n, z, raw, other);
        if (g->combine == RV__GEO_SUM) {
            for (size_t x = 0; x < n; x++) s[x] += m * z[x];
        } else {
            for (size_t x = 0; x < n; x++) s[x] += m * (z[x] * z[x]);
        }
    }
    if (g->combine == RV__GEO_SUM) return;
    for (size_t x = 0; x < n; x++) s[x] = g->combine == RV__GEO_ROOT ? -sqrtf(s[x]) : -s[x];
}

/* ---- gradients of pairs ---- */

/* Of the distance, on q - k for q, on k - q for k, on q for q and on k for k; r2 > 0. */
static void rv__geo_slopes(const rv__geo_part *p, double fq, double fk, double r2, double *f)
{
    const double r = sqrt(r2), root = sqrt(1.0 - p->kappa * r2);
    if (p->form == RV__GEO_STEREO) {
        f[0] = f[1] = 2.0 * fq * fk / (r * root);
        f[2] = -2.0 * p->kappa * r * fq / root;
        f[3] = -2.0 * p->kappa * r * fk / root;
    } else {
        const double by = 0.5 / (r * root);
        f[0] = by * 2.0 * fk;
        f[1] = by * 2.0 * fq;
        f[2] = by * 2.0 * (fk - fq) / (2.0 * fq - 1.0);
        f[3] = by * 2.0 * (fq - fk) / (2.0 * fk - 1.0);
    }
}

/* Pulls a gradient at *pull x back to one at x, in place. */
static void rv__geo_unpull(const double *x, double pull, double *grad, size_t n)
{
    double xx = 0.0, xg = 0.0;
    for (size_t a = 0; a < n; a++) {
        xx += x[a] * x[a];
        xg += x[a] * grad[a];
    }
    for (size_t a = 0; a < n; a++) grad[a] = pull * (grad[a] - xg / xx * x[a]);
}

/* A gradient at what x is pulled in to, pulled back to x. What it has along x is large, and goes:
   before it is added to others. */
static void rv__geo_outside(const rv__geo_part *p, const float *x, double *grad, double *work)
{
    double pull;
    (void)rv__hyp_gap(rv__reals_f32(x), p->width, p->kappa, &pull);
    rv__hyp_times(rv__reals_f32(x), p->width, 1.0, rv__outs_f64(work));
    if (pull != 1.0) rv__geo_unpull(work, pull, grad, p->width);
}

/* The long way, which only STEREO pairs take on to gradients of their own. */
static void rv__geo_pull_far(const rv__geo *g, const rv__geo_part *p, size_t lane, const float *q,
                             const float *k, float dz, float *dq, float *dk)
{
    double *by_q = g->wide_lane + lane * 4 * g->most, *by_k = by_q + g->most;
    (void)rv__hyp_gradients(rv__reals_f32(q), rv__reals_f32(k), p->width, p->kappa,
                            rv__outs_f64(by_q), rv__outs_f64(by_k));
    rv__geo_outside(p, q, by_q, by_k + g->most);
    rv__geo_outside(p, k, by_k, by_k + g->most);
    for (size_t a = 0; a < p->width; a++) {
        dq[a] += (float)((double)dz * by_q[a]);
        dk[a] += (float)((double)dz * by_k[a]);
    }
}

static void rv__geo_pull_curved(const rv__geo *g, const rv__geo_part *p, const rv__geo_tile *t,
                                size_t lane, size_t n, const float *raw, const float *dz,
                                float *dq, float *dk, size_t ldk)
{
    for (size_t x = 0; x < n; x++) {
        const float fk = t->fk[x * t->step], *q = t->q, *k = t->k + x * t->ld;
        const int far_pair = rv__geo_long(p, t->fq, fk, raw[x]);
        double f[4], r2 = (double)raw[x];
        float a, b, c, d, *to = dk + x * ldk;
        if (dz[x] == 0.0f) continue;
        if (far_pair && p->form == RV__GEO_STEREO) {
            rv__geo_pull_far(g, p, lane, q, k, dz[x], dq, to);
            continue;
        }
        if (far_pair) r2 = rv__geo_lorentz(g, p, lane, q, t->fq, k, fk) / (-2.0 * p->kappa);
        if (r2 == 0.0) continue;
        rv__geo_slopes(p, fabs((double)t->fq), fabs((double)fk), r2, f);
        a = (float)f[0] * dz[x];
        b = (float)f[1] * dz[x];
        c = (float)f[2] * dz[x];
        d = (float)f[3] * dz[x];
        for (size_t y = 0; y < p->width; y++) {
            const float e = q[y] - k[y];
            dq[y] += a * e + c * q[y];
            to[y] += d * k[y] - b * e;
        }
    }
}

/* Along rows of length 1 the gradient does not count: what is added there keeps digits. */
static void rv__geo_pull_angle(const rv__geo_part *p, const rv__geo_tile *t, size_t n,
                               const float *raw, const float *other, const float *dz, float *dq,
                               float *dk, size_t ldk)
{
    const float scale = (float)(2.0 / sqrt(p->kappa));
    for (size_t x = 0; x < n; x++) {
        const float *q = t->q, *k = t->k + x * t->ld, sine = sqrtf(raw[x]) * sqrtf(other[x]);
        const float f = sine > 0.0f ? dz[x] * scale / sine : 0.0f;
        const float turn = raw[x] <= other[x] ? 1.0f : -1.0f;
        float *to = dk + x * ldk;
        for (size_t y = 0; y < p->width; y++) {
            dq[y] += f * (turn * q[y] - k[y]);
            to[y] += f * (turn * k[y] - q[y]);
        }
    }
}

/* The loss' slope by z of a part; rest: minus the logit. */
static float rv__geo_slope(int combine, float ds, float m, float z, float rest)
{
    if (combine == RV__GEO_SUM) return ds * m;
    if (combine == RV__GEO_SQUARE) return -2.0f * ds * m * z;
    return rest > 0.0f ? -ds * m * z / rest : 0.0f;
}

static void rv__geo_pull(const void *user, size_t lane, size_t head, size_t i, size_t j, size_t n,
                         const float *ds, float *dq, float *dk, size_t ldk, double *part)
{
    const rv__geo *g = (const rv__geo *)user;
    const float *mix = rv__geo_mix(g, head);
    float z[RV__GEO_TILE], raw[RV__GEO_TILE], other[RV__GEO_TILE], rest[RV__GEO_TILE];
    for (size_t x = 0; x < n; x++) rest[x] = 0.0f;
    if (g->combine == RV__GEO_ROOT) {
        rv__geo_logits(user, lane, head, i, j, n, rest);
        for (size_t x = 0; x < n; x++) rest[x] = -rest[x];
    }
    for (size_t at = 0; at < g->n_parts; at++) {
        const rv__geo_part *p = &g->parts[at];
        const rv__geo_tile t = rv__geo_tile_of(g, p, head, i, j);
        const float m = mix[at];
        float dz[RV__GEO_TILE], *to = dk + p->at;
        if (p->width == 0) continue;
        rv__geo_values(g, p, &t, lane, n, z, raw, other);
        for (size_t x = 0; x < n; x++) {
            dz[x] = rv__geo_slope(g->combine, ds[x], m, z[x], rest[x]);
            if (g->n_mix == 0 || !(rest[x] > 0.0f)) continue; /* ROOT: the only one that asks */
            part[head * RV__GEO_PARTS + at] -= 0.5 * (double)ds[x] * (double)z[x] *
                                               (double)z[x] / (double)rest[x];
        }
        if (p->form == RV__GEO_ANGLE) {
            rv__geo_pull_angle(p, &t, n, raw, other, dz, dq + p->at, to, ldk);
        } else if (p->form == RV__GEO_DOT) {
            for (size_t x = 0; x < n; x++) {
                g->kernels->axpy_f32(dz[x], t.k + x * t.ld, dq + p->at, p->width);
                g->kernels->axpy_f32(dz[x], t.q, to + x * ldk, p->width);
            }
        } else {
            rv__geo_pull_curved(g, p, &t, lane, n, raw, dz, dq + p->at, to, ldk);
        }
    }
}

/* ---- lifts of rows, and their gradients ---- */

/* psi with log_0(x) = psi x, and its derivative over the length. */
static double rv__geo_log(double kappa, double square, double *slope)
{
    const double u = kappa * square, length = sqrt(square), root = sqrt(fabs(u));
    double psi;
    if (u > -1e-3 && u < 1e-3) {
        *slope = 2.0 * kappa * (-1.0 / 3.0 + u * (0.4 - u * (3.0 / 7.0 - u * (4.0 / 9.0))));
        return 1.0 - u * (1.0 / 3.0 - u * (0.2 - u * (1.0 / 7.0 - u * (1.0 / 9.0 - u / 11.0))));
    }
    psi = kappa < 0.0 ? 0.5 * rv__log1p(2.0 * root / (1.0 - root)) / root
                      : rv__atan2(root, 1.0) / root;
    *slope = (1.0 / (1.0 + u) - psi) / (length * length);
    return psi;
}

/* Row x, mapped, into a prepared row; returns its factor. */
static float rv__geo_lift(const rv__geo_part *p, const float *x, float *out)
{
    const size_t n = p->dim;
    const double xx = rv__hyp_dot_f32(x, x, n);
    double f = 1.0, gap, pull = 1.0, slope;
    if (p->form == RV__GEO_STEREO) {
        gap = rv__hyp_gap(rv__reals_f32(x), n, p->kappa, &pull);
        memcpy(out, x, n * sizeof *out);
        if (!rv__finite_f64(gap) || !(gap != 0.0)) return (float)rv__hyp_nan();
        return (float)(pull == 1.0 ? 1.0 / gap : -1.0 / gap);
    }
    if (p->form == RV__GEO_LORENTZ) {
        f = 0.5 * (1.0 + sqrt(1.0 - p->kappa * xx));
        for (size_t a = 0; a < n; a++) out[a] = (float)((double)x[a] * 0.5 / f);
        if (!rv__finite_f64(f)) return (float)rv__hyp_nan();
        return (float)(f > (double)RV__GEO_FAR ? -f : f);
    }
    if (p->form == RV__GEO_ANGLE || p->lift == RV__GEO_UNIT) {
        const double length = rv__hyp_length(rv__reals_f32(x), n);
        f = length > 0.0 || !rv__finite_f64(length) ? 1.0 / length : 0.0;
    } else if (p->lift == RV__GEO_LOG) {
        gap = rv__hyp_gap(rv__reals_f32(x), n, p->kappa, &pull);
        f = pull * rv__geo_log(p->kappa, pull * pull * xx, &slope);
        if (!rv__finite_f64(gap)) f = gap;
    }
    for (size_t a = 0; a < n; a++) out[a] = (float)(f * (double)x[a]);
    if (p->lift == RV__GEO_TIME_Q || p->lift == RV__GEO_TIME_K) {
        /* 1/c + <x, y>_L = x . y - a b - (a + b) / sqrt(c), a and b the times less 1 / sqrt(c) */
        const double origin = sqrt(-1.0 / p->kappa);
        const double late = xx / (origin + sqrt(xx - 1.0 / p->kappa));
        const int query = p->lift == RV__GEO_TIME_Q;
        out[n] = (float)(query ? -late : late);
        out[n + 1] = query ? (float)(-late * origin) : 1.0f;
        out[n + 2] = (float)(query ? -origin : late);
    }
    return (float)f;
}

/* grad: by the prepared row; out: by x; wide: [2 n]. */
static void rv__geo_lower(const rv__geo_part *p, const float *x, float factor, const float *grad,
                          double *wide, double *out)
{
    const size_t n = p->dim;
    double *at = wide, xx = 0.0, xg = 0.0, pull = 1.0, slope, f;
    for (size_t a = 0; a < n; a++) {
        at[a] = (double)x[a];
        out[a] = (double)grad[a];
        xx += at[a] * at[a];
        xg += at[a] * out[a];
    }
    if (p->form == RV__GEO_ANGLE || p->lift == RV__GEO_UNIT) {
        for (size_t a = 0; a < n; a++)
            out[a] = xx > 0.0 ? (double)factor * (out[a] - xg / xx * at[a]) : 0.0;
    } else if (p->lift == RV__GEO_TIME_Q || p->lift == RV__GEO_TIME_K) {
        f = p->lift == RV__GEO_TIME_K ? (double)grad[n] + (double)grad[n + 2]
                                      : -(double)grad[n] - (double)grad[n + 1] / sqrt(-p->kappa);
        f /= sqrt(xx - 1.0 / p->kappa);
        for (size_t a = 0; a < n; a++) out[a] += f * at[a];
    } else if (p->lift == RV__GEO_LOG) {
        (void)rv__hyp_gap(rv__reals_f32(x), n, p->kappa, &pull);
        f = rv__geo_log(p->kappa, pull * pull * xx, &slope);
        for (size_t a = 0; a < n; a++) out[a] = f * out[a] + slope * pull * pull * xg * at[a];
        if (pull != 1.0) rv__geo_unpull(at, pull, out, n);
    }
}

#endif /* RV_ATTN_GEOMETRIC_C */
