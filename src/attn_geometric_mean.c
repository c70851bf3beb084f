#ifndef RV_ATTN_GEOMETRIC_MEAN_C
#define RV_ATTN_GEOMETRIC_MEAN_C
#include "attn_geometric.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "hyperbolic.c"
#include "hyperbolic_lorentz.c"
#include "hyperbolic_mean.c"
#include "attn_geometric.c"

/* Means of curved spaces through sums that are linear in what a value is lifted to.

   MIDPOINT  columns lambda - 2, lambda x; with the weights' sums T = 1 + sum w (lambda - 2), the
   CENTROID  weight of a sink being at the origin, S = sum w lambda x and Q = T^2 + kappa |S|^2 the
             mean is S / (T + sqrt Q), on the sheet S / sqrt Q (lambda x is the space part)
   TANGENT   columns log_0(x); exp_0 of the sum
   NORMAL    columns x / |x|; the sum over its length and sqrt(kappa)
   Where Q is small against T^2 the floats of the sums do not hold it: such means are taken again in
   double, from the weights of the query, as by hyperbolic_mean.c. */

#define RV__GEO_LOST 1e-2 /* Q / T^2 below which the mean is taken again */

/* ---- values and their gradients ---- */

/* Row x: [n] into its columns. */
static void rv__geo_lift_value(const rv__geo *g, const float *x, float *out)
{
    const size_t n = g->io.dim_v;
    const double xx = rv__hyp_dot_f32(x, x, n);
    double gap, pull = 1.0, f = 1.0, slope;
    if (g->mean == RV__GEO_MIDPOINT) {
        gap = rv__hyp_gap(rv__reals_f32(x), n, g->kappa, &pull);
        f = 2.0 / gap * pull;
        *out++ = (float)(pull == 1.0 ? -2.0 * g->kappa * xx / gap : 2.0 / gap - 2.0);
    } else if (g->mean == RV__GEO_CENTROID) {
        f = sqrt(1.0 - g->kappa * xx);
        *out++ = (float)(-g->kappa * xx / (1.0 + f));
        f = 1.0;
    } else if (g->mean == RV__GEO_TANGENT) {
        gap = rv__hyp_gap(rv__reals_f32(x), n, g->kappa, &pull);
        f = pull * rv__geo_log(g->kappa, pull * pull * xx, &slope);
        if (!rv__finite_f64(gap)) f = gap;
    } else if (g->mean == RV__GEO_NORMAL) {
        f = rv__hyp_length(rv__reals_f32(x), n);
        f = f > 0.0 || !rv__finite_f64(f) ? 1.0 / f : 0.0;
    }
    for (size_t a = 0; a < n; a++) out[a] = (float)(f * (double)x[a]);
}

/* grad: by the columns; out: by x; wide: [n]. */
static void rv__geo_lower_value(const rv__geo *g, const float *x, const float *grad, double *wide,
                                double *out)
{
    const size_t n = g->io.dim_v;
    const int timed = g->mean == RV__GEO_MIDPOINT || g->mean == RV__GEO_CENTROID;
    const double first = timed ? (double)*grad++ : 0.0;
    double xx = 0.0, xg = 0.0, pull = 1.0, f = 1.0, by = 0.0;
    for (size_t a = 0; a < n; a++) {
        wide[a] = (double)x[a];
        out[a] = (double)grad[a];
        xx += wide[a] * wide[a];
        xg += wide[a] * out[a];
    }
    if (g->mean == RV__GEO_MIDPOINT) {
        f = 2.0 / rv__hyp_gap(rv__reals_f32(x), n, g->kappa, &pull);
        by = -g->kappa * f * f * (first + pull * xg) * pull;
    } else if (g->mean == RV__GEO_CENTROID) {
        by = -g->kappa * first / sqrt(1.0 - g->kappa * xx);
    } else if (g->mean == RV__GEO_TANGENT) {
        (void)rv__hyp_gap(rv__reals_f32(x), n, g->kappa, &pull);
        f = rv__geo_log(g->kappa, pull * pull * xx, &by);
        by *= pull * pull * xg;
    } else if (g->mean == RV__GEO_NORMAL) {
        f = xx > 0.0 ? 1.0 / sqrt(xx) : 0.0;
        by = xx > 0.0 ? -f * xg / xx : 0.0;
    }
    for (size_t a = 0; a < n; a++) out[a] = f * out[a] + by * wide[a];
    if (pull != 1.0) rv__geo_unpull(wide, pull, out, n);
}

/* ---- from sums to means ---- */

/* T, sqrt Q and S of a mean, in double. */
typedef struct rv__geo_sums {
    double time, root;
    double *sum; /* [dim_v] */
} rv__geo_sums;

/* Reads the sums that the engine made; returns whether they are good enough. */
static int rv__geo_read(const rv__geo *g, const float *row, rv__geo_sums *s)
{
    const size_t n = g->io.dim_v;
    const int timed = g->mean == RV__GEO_MIDPOINT || g->mean == RV__GEO_CENTROID;
    double ss = 0.0, square;
    s->time = timed ? 1.0 + (double)*row++ : 0.0;
    for (size_t a = 0; a < n; a++) {
        s->sum[a] = (double)row[a];
        ss += s->sum[a] * s->sum[a];
    }
    if (!timed) {
        s->root = sqrt(ss);
        return 1;
    }
    square = s->time * s->time + g->kappa * ss;
    s->root = sqrt(square > 0.0 ? square : 0.0);
    if (!rv__finite_f64(square)) {
        s->root = square;
        return !rv__finite_f64(s->time); /* NaN stays NaN, what is only too large does not */
    }
    return g->kappa >= 0.0 || square > RV__GEO_LOST * s->time * s->time;
}

/* T + sqrt Q, without cancellation beyond the equator of a sphere. */
static double rv__geo_whole(const rv__geo *g, const rv__geo_sums *s)
{
    double ss = 0.0;
    if (s->time >= 0.0) return s->time + s->root;
    for (size_t a = 0; a < g->io.dim_v; a++) ss += s->sum[a] * s->sum[a];
    return g->kappa * ss / (s->root - s->time);
}

static void rv__geo_finish(const rv__geo *g, const rv__geo_sums *s, float *out)
{
    const size_t n = g->io.dim_v;
    double f = 1.0;
    if (g->mean == RV__GEO_TANGENT) {
        rv__hyp_exp(rv__hyp_none(), rv__reals_f64(s->sum), 1.0, n, g->kappa, rv__outs_f32(out));
        return;
    }
    if (g->mean == RV__GEO_CENTROID) {
        f = 1.0 / s->root;
    } else if (g->mean == RV__GEO_NORMAL) {
        f = s->root > 0.0 || !rv__finite_f64(s->root) ? 1.0 / (s->root * sqrt(g->kappa)) : 0.0;
    } else if (g->mean == RV__GEO_MIDPOINT) {
        const double whole = rv__geo_whole(g, s), gap = 2.0 * s->root / whole;
        f = whole > 0.0 || !rv__finite_f64(whole) ? 1.0 / whole : 0.0;
        if (g->kappa < 0.0) f *= rv__hyp_settle(g->kappa, gap, sqrt(1.0 - gap), 1);
    }
    rv__hyp_times(rv__reals_f64(s->sum), n, f, rv__outs_f32(out));
    if (g->mean == RV__GEO_MIDPOINT) rv__hyp_project(rv__outs_f32(out), n, g->kappa);
}

/* grad: by the mean; out: by the columns of the sums. */
static void rv__geo_unfinish(const rv__geo *g, const rv__geo_sums *s, const float *grad, float *out)
{
    const size_t n = g->io.dim_v;
    double gs = 0.0, ss = 0.0, f = 1.0, by = 0.0;
    for (size_t a = 0; a < n; a++) {
        gs += (double)grad[a] * s->sum[a];
        ss += s->sum[a] * s->sum[a];
    }
    if (g->mean == RV__GEO_CENTROID) {
        f = 1.0 / s->root;
        by = -g->kappa * gs * f * f * f;
        *out++ = (float)(-gs * s->time * f * f * f);
    } else if (g->mean == RV__GEO_MIDPOINT) {
        const double whole = rv__geo_whole(g, s);
        f = whole > 0.0 ? 1.0 / whole : 0.0;
        by = whole > 0.0 && s->root > 0.0 ? -g->kappa * gs * f * f / s->root : 0.0;
        *out++ = (float)(s->root > 0.0 ? -gs * f / s->root : 0.0);
    } else if (g->mean == RV__GEO_NORMAL) {
        f = s->root > 0.0 ? 1.0 / (s->root * sqrt(g->kappa)) : 0.0;
        by = ss > 0.0 ? -f * gs / ss : 0.0;
    } else if (g->mean == RV__GEO_TANGENT) {
        const double u = g->kappa * ss, length = sqrt(ss);
        f = rv__hyp_tanc(g->kappa, length);
        by = u > -1e-3 && u < 1e-3
                 ? 2.0 * g->kappa * (1.0 / 3.0 + u * (4.0 / 15.0 + u * (51.0 / 315.0)))
                 : (rv__hyp_secant(g->kappa, length) - f) / ss;
        by *= gs;
    }
    for (size_t a = 0; a < n; a++) out[a] = (float)(f * (double)grad[a] + by * s->sum[a]);
}

/* ---- the engine ---- */

static void rv__geo_engine(const rv__geo *g, rv_attn_io *io, rv__attn_score *score)
{
    *io = g->io;
    io->dim = g->wide;
    io->dim_v = g->wide_v;
    io->q = g->q;
    io->k = g->k;
    io->v = g->v;
    io->out = g->out;
    io->type = RV_DTYPE_F32;
    io->q_stride = io->k_stride = io->v_stride = io->out_stride = 0;
    memset(score, 0, sizeof *score);
    score->user = g;
    score->logits = rv__geo_logits;
    score->pull = rv__geo_pull;
    score->work = g->wide * g->n_parts + 32;
    score->n_part = g->grad && g->grad->d_params && !g->dots ? g->n_mix : 0;
}

/* ---- one query of one head on its own ---- */

/* The problem of a query, for the engine. */
typedef struct rv__geo_sub {
    const rv__geo *g;
    size_t head, i;
    rv_attn_config config;
    rv_attn_io io;
    rv_attn_mask mask;
    rv__attn_score score;
} rv__geo_sub;

static void rv__geo_sub_logits(const void *user, size_t lane, size_t head, size_t i, size_t j,
                               size_t n, float *s)
{
    const rv__geo_sub *sub = (const rv__geo_sub *)user;
    (void)head;
    (void)i;
    rv__geo_logits(sub->g, lane, sub->head, sub->i, j, n, s);
}

static void rv__geo_sub_pull(const void *user, size_t lane, size_t head, size_t i, size_t j,
                             size_t n, const float *ds, float *dq, float *dk, size_t ldk,
                             double *part)
{
    const rv__geo_sub *sub = (const rv__geo_sub *)user;
    (void)head;
    (void)i;
    rv__geo_pull(sub->g, lane, sub->head, sub->i, j, n, ds, dq, dk, ldk, part);
}

static int rv__geo_sub_visible(void *user, size_t head, size_t i, size_t j)
{
    const rv__geo_sub *sub = (const rv__geo_sub *)user;
    const rv_attn_mask *mask = sub->g->io.mask;
    (void)head;
    (void)i;
    return mask->visible(mask->user, sub->head, sub->i, j);
}

static void rv__geo_sub_mask(rv__geo_sub *sub)
{
    const rv_attn_io *io = &sub->g->io;
    const rv_attn_mask *mask = io->mask;
    if (!mask) return;
    if (mask->allow)
        sub->mask.allow = mask->allow + sub->head * mask->allow_head + sub->i * io->n_k;
    if (mask->add) sub->mask.add = mask->add + sub->head * mask->add_head + sub->i * io->n_k;
    if (mask->visible) {
        sub->mask.visible = rv__geo_sub_visible;
        sub->mask.user = sub;
    }
    sub->io.mask = &sub->mask;
}

/* out: one float, which the caller does not want. Returns 0 when the query sees no key. */
static int rv__geo_sub_init(rv__geo_sub *sub, const rv__geo *g, size_t head, size_t i, float *out)
{
    const size_t heads = g->config.heads, kvs = g->config.kv_heads, kv = rv__geo_kv(g, head);
    const size_t n_k = g->io.n_k, n_q = g->io.n_q;
    memset(sub, 0, sizeof *sub);
    sub->g = g;
    sub->head = head;
    sub->i = i;
    sub->config = g->config;
    sub->config.heads = sub->config.kv_heads = 1;
    if (g->config.slopes) sub->config.slopes = g->config.slopes + head;
    if (g->config.sinks) sub->config.sinks = g->config.sinks + head;
    sub->io.n_q = 1;
    sub->io.n_k = n_k;
    sub->io.dim = g->wide;
    sub->io.dim_v = 1;
    sub->io.q = g->q + (i * heads + head) * g->wide;
    sub->io.k = g->k + kv * g->wide;
    sub->io.k_stride = kvs * g->wide;
    sub->io.v = g->v + kv * g->wide_v; /* any column */
    sub->io.v_stride = kvs * g->wide_v;
    sub->io.out = out;
    sub->config.past = i + g->config.past;
    if (g->config.order == RV_ATTN_CAUSAL) {
        /* what it sees, as so many keys: a shift of the order may be negative */
        if (i + 1 + n_k <= n_q) return 0;
        if (i + 1 + n_k - n_q < n_k) sub->io.n_k = i + 1 + n_k - n_q;
        sub->config.past = i + (n_k > n_q ? n_k - n_q : 0);
        sub->config.order = RV_ATTN_ANY;
    }
    rv__geo_sub_mask(sub);
    sub->score.user = sub;
    sub->score.logits = rv__geo_sub_logits;
    sub->score.pull = rv__geo_sub_pull;
    sub->score.work = g->wide + 16;
    return 1;
}

/* The weights of a query, [n_k + 1], the last that of the origin. 0 in *total: it sees no key. */
static rv_status rv__geo_row(rv_ctx *ctx, const rv__geo *g, size_t head, size_t i, float *weights,
                             double *total)
{
    const size_t n = g->io.n_k;
    rv__geo_sub sub;
    rv_status status;
    float out = 0.0f;
    *total = 0.0;
    memset(weights, 0, (n + 1) * sizeof *weights);
    if (!rv__geo_sub_init(&sub, g, head, i, &out)) return RV_OK;
    sub.io.weights = weights;
    status = rv__attn_forward(ctx, &sub.config, &sub.io, g->dots ? NULL : &sub.score);
    if (status) return status;
    for (size_t j = 0; j < n; j++) *total += (double)weights[j];
    if (g->config.sinks && *total < 1.0) {
        weights[n] = (float)(1.0 - *total);
        *total += (double)weights[n];
    }
    return RV_OK;
}

/* The sums of a query in double, from its weights. */
static rv_status rv__geo_again(rv_ctx *ctx, const rv__geo *g, size_t head, size_t i, float *weights,
                               rv__geo_sums *s)
{
    const size_t kv = rv__geo_kv(g, head), n = g->io.dim_v;
    double total;
    rv__hyp_sum h;
    rv__hyp_cloud cloud;
    rv_status status = rv__geo_row(ctx, g, head, i, weights, &total);
    if (status) return status;
    cloud = rv__hyp_cloud_of(rv__reals_f32(g->v + kv * g->wide_v), rv__reals_f32(weights),
                             g->io.n_k + 1, n, g->kappa, 1);
    cloud.stride = g->config.kv_heads * g->wide_v;
    status = rv__hyp_gather(ctx, &cloud, total, s->sum, &h);
    if (status) return status;
    s->time = h.time;
    s->root = sqrt(h.square);
    return RV_OK;
}

#undef RV__GEO_LOST

#endif /* RV_ATTN_GEOMETRIC_MEAN_C */
