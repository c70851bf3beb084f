#ifndef RV_ATTN_LINEAR_DELTA_C
#define RV_ATTN_LINEAR_DELTA_C
#include "attn_linear.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "attn_linear.c"

/* The recurrence of states, token by token: three products of a vector and a state that stays in
   the nearest caches. Columns of a state never meet, so they are dealt out in blocks to fill the
   lanes. With S' the state after the gate,

       u = beta (v - S'^T k)        S = S' + k u^T        out = scale S^T q

   Backward, from the last token to the first, D the slope by S:
       dq = scale S d_out           D += scale q d_out^T
       du = D^T k                   dk = D u - S' beta du           dv = beta du
       d beta = du . (v - S'^T k)   D -= k (beta du)^T
       dg = row by row D . S'       D = diag(exp g) D
   S' of 32 tokens are made again from a state that was kept. */

#define RV__DELTA_SPAN 32u   /* tokens between two states that backward keeps                     */
#define RV__DELTA_WIDE 32u   /* columns of a block are a multiple of this                         */
#define RV__DELTA_MOST 256u  /* columns of a block where there are heads enough                   */
#define RV__DELTA_HEADS 8u
#define RV__DELTA_WORK 10000000.0 /* products between two polls, per lane                         */

typedef struct rv__delta {
    const rv_attn_delta_config *config;
    const rv_attn_grad *grad;
    rv_attn_config base;
    rv_attn_io io;
    const rv__kernels *kernels;
    int gated, delta;
    size_t group, wide, cols, blocks; /* wide = cols * blocks                                     */
    size_t step, wave, lane_floats;
    float *states;   /* [kv_heads][blocks][dim][cols]                                             */
    float *marks;    /* backward: [kv_heads][spans][dim][cols]                                    */
    float *d_beta;   /* [n_k, kv_heads]                                                           */
    float *scratch;
} rv__delta;

typedef struct rv__delta_lane {
    float *k, *q, *e, *w;  /* [dim]                                                               */
    float *v, *u, *g, *r;  /* [cols]                                                              */
    float *down, *kept;    /* backward: [dim][cols] D, [SPAN][dim][cols] S'                       */
} rv__delta_lane;

static void rv__delta_lane_at(const rv__delta *a, size_t lane, rv__delta_lane *l)
{
    const size_t dim = rv__round_up(a->io.dim, 16);
    float *at = a->scratch + lane * a->lane_floats;
    l->k = at;
    l->q = at + dim;
    l->e = at + 2 * dim;
    l->w = at + 3 * dim;
    at += 4 * dim;
    l->v = at;
    l->u = at + a->cols;
    l->g = at + 2 * a->cols;
    l->r = at + 3 * a->cols;
    l->down = at + 4 * a->cols;
    l->kept = l->down + (a->grad ? a->io.dim * a->cols : 0);
}

/* ---- checks ---- */

static rv_status rv__delta_check_gates(rv_ctx *ctx, const rv__delta *a)
{
    const rv_attn_delta_config *c = a->config;
    const size_t heads = a->base.kv_heads, n = rv__mul(a->io.n_k, heads);
    const size_t count = c->per_head ? n : rv__mul(n, a->io.dim);
    size_t left = 0;
    if (a->gated && !c->decay)
        return rv__fail(ctx, RV_ERR_ARG, 0, "decay must not be NULL under a gated rule");
    if (a->delta && !c->beta)
        return rv__fail(ctx, RV_ERR_ARG, 0, "beta must not be NULL under a delta rule");
    for (size_t i = 0; a->gated && i < count; i += 4096) {
        const size_t some = count - i < 4096 ? count - i : 4096;
        int nan = 0;
        rv_status status = rv__poll_by(ctx, &left, some);
        if (status) return status;
        if (!(a->kernels->max_f32(c->decay + i, 1.0f, some, &nan) > 0.0f)) continue;
        while (!(c->decay[i] > 0.0f)) i++;
        return rv__fail(ctx, RV_ERR_ARG, i, "decay[%z] is %f, must be at most 0", i,
                        (double)c->decay[i]);
    }
    return RV_OK;
}

static rv_status rv__delta_check(rv_ctx *ctx, const rv__delta *a)
{
    const rv_attn_delta_config *c = a->config;
    if ((unsigned)c->rule > (unsigned)RV_ATTN_RULE_GATED_DELTA)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "rule is %z, allowed: 0..3", (size_t)c->rule);
    if (rv__given(c->base.temperature))
        return rv__linear_nothing(ctx, "temperature", "there is no softmax");
    if (c->base.past) return rv__linear_nothing(ctx, "past", "the state is all of the past");
    if (!a->gated && (c->decay || c->per_head || c->d_decay))
        return rv__linear_nothing(ctx, "decay", "only the gated rules have it");
    if (!a->delta && (c->beta || c->shared || c->d_beta))
        return rv__linear_nothing(ctx, "beta", "only the delta rules have it");
    if (a->io.lse) return rv__linear_nothing(ctx, "lse", "there is no denominator");
    if (a->io.n_q != a->io.n_k)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n_q is %z, must be n_k (%z): a token has both",
                        a->io.n_q, a->io.n_k);
    return RV_OK;
}

static rv_status rv__delta_settle(rv_ctx *ctx, const rv_attn_delta_config *config,
                                  const rv_attn_io *io, const rv_attn_grad *grad, rv__delta *a)
{
    double work;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    memset(a, 0, sizeof *a);
    a->config = config;
    a->grad = grad;
    a->io = *io;
    a->gated = config->rule == RV_ATTN_RULE_GATED || config->rule == RV_ATTN_RULE_GATED_DELTA;
    a->delta = config->rule == RV_ATTN_RULE_DELTA || config->rule == RV_ATTN_RULE_GATED_DELTA;
    status = rv__delta_check(ctx, a);
    if (!status) status = rv__linear_common(ctx, &config->base, io, grad, &a->base, &a->io);
    if (status) return status;
    a->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    a->group = a->base.heads / a->base.kv_heads;
    a->cols = rv__round_up(a->io.dim_v, RV__DELTA_WIDE);
    if (!grad) {
        const size_t most = a->base.kv_heads < RV__DELTA_HEADS ? RV__DELTA_WIDE : RV__DELTA_MOST;
        if (a->cols > most) a->cols = most;
    }
    a->blocks = (a->io.dim_v + a->cols - 1) / a->cols;
    a->wide = a->cols * a->blocks;
    work = ((double)a->io.dim + 32.0) * (double)a->cols * (double)(a->group + 2) *
           (grad ? 4.0 : 1.0);
    a->step = work < RV__DELTA_WORK ? (size_t)(RV__DELTA_WORK / work) : 1;
    a->step = rv__round_up(a->step, grad ? RV__DELTA_SPAN : 1);
    a->lane_floats = rv__add(4 * rv__round_up(a->io.dim, 16), 4 * a->cols);
    if (grad) {
        a->lane_floats = rv__add(a->lane_floats, rv__mul(rv__mul(a->io.dim, a->cols),
                                                         RV__DELTA_SPAN + 1));
    }
    return rv__delta_check_gates(ctx, a);
}

/* ---- a token ---- */

static const float *rv__delta_row(const rv__delta *a, const void *from, size_t at, size_t n,
                                  float *space)
{
    if (a->io.type == RV_DTYPE_F32) return (const float *)from + at;
    if (a->io.type == RV_DTYPE_F16) a->kernels->widen_f16((const uint16_t *)from + at, space, n);
    else a->kernels->widen_bf16((const uint16_t *)from + at, space, n);
    return space;
}

static const float *rv__delta_key(const rv__delta *a, const rv__delta_lane *l, size_t kv, size_t t)
{
    return rv__delta_row(a, a->io.k, t * a->io.k_stride + kv * a->io.dim, a->io.dim, l->k);
}

static int rv__delta_kept(const rv__delta *a, size_t t)
{
    return !a->config->keep || a->config->keep[t] != 0;
}

static float rv__delta_beta(const rv__delta *a, size_t kv, size_t t)
{
    if (!a->delta) return 1.0f;
    return a->config->beta[a->config->shared ? t : t * a->base.kv_heads + kv];
}

/* exp of the gates of token t, [dim]. */
static void rv__delta_gates(const rv__delta *a, size_t kv, size_t t, float *e)
{
    const size_t row = t * a->base.kv_heads + kv, dim = a->io.dim;
    if (!a->config->per_head) {
        a->kernels->exp_f32(a->config->decay + row * dim, e, dim);
        return;
    }
    e[0] = rv__expf(a->config->decay[row]);
    for (size_t x = 1; x < dim; x++) e[x] = e[0];
}

/* rows: [dim][cols] of a state, each times e. */
static void rv__delta_fade(const rv__delta *a, const float *e, float *rows)
{
    if (a->config->per_head) {
        a->kernels->scale_f32(e[0], rows, a->io.dim * a->cols);
        return;
    }
    for (size_t x = 0; x < a->io.dim; x++) a->kernels->scale_f32(e[x], rows + x * a->cols, a->cols);
}

/* rows += x times y^T. */
static void rv__delta_outer(const rv__delta *a, float factor, const float *x, const float *y,
                            float *rows)
{
    for (size_t i = 0; i < a->io.dim; i++)
        a->kernels->axpy_f32(factor * x[i], y, rows + i * a->cols, a->cols);
}

/* The slice of v that a block of columns has, padded with zeros: l->v. */
static void rv__delta_value(const rv__delta *a, const rv__delta_lane *l, size_t kv, size_t block,
                            size_t t)
{
    const size_t dim = a->io.dim_v, first = block * a->cols;
    const size_t n = dim - first < a->cols ? dim - first : a->cols;
    const float *v = rv__delta_row(a, a->io.v, t * a->io.v_stride + kv * dim + first, n, l->v);
    if (v != l->v) memcpy(l->v, v, n * sizeof(float));
    for (size_t x = n; x < a->cols; x++) l->v[x] = 0.0f;
}

/* l->u = beta (v - S'^T k), l->r = v - S'^T k. */
static void rv__delta_error(const rv__delta *a, const rv__delta_lane *l, const float *k, float beta,
                            const float *rows)
{
    if (a->delta) {
        memset(l->r, 0, a->cols * sizeof(float));
        a->kernels->attn_mix_one(k, rows, a->cols, a->io.dim, l->r, a->cols);
        for (size_t x = 0; x < a->cols; x++) l->r[x] = l->v[x] - l->r[x];
        for (size_t x = 0; x < a->cols; x++) l->u[x] = beta * l->r[x];
    } else {
        memcpy(l->u, l->v, a->cols * sizeof(float));
    }
}

/* Token t changes the state; after_gate, when given, receives S'. */
static void rv__delta_write(const rv__delta *a, const rv__delta_lane *l, size_t kv, size_t block,
                            size_t t, float *rows, float *after_gate)
{
    const size_t all = a->io.dim * a->cols * sizeof(float);
    const float *k;
    if (!rv__delta_kept(a, t)) {
        if (after_gate) memcpy(after_gate, rows, all);
        return;
    }
    k = rv__delta_key(a, l, kv, t);
    rv__delta_value(a, l, kv, block, t);
    if (a->gated) {
        rv__delta_gates(a, kv, t, l->e);
        rv__delta_fade(a, l->e, rows);
    }
    if (after_gate) memcpy(after_gate, rows, all);
    rv__delta_error(a, l, k, rv__delta_beta(a, kv, t), rows);
    rv__delta_outer(a, 1.0f, k, l->u, rows);
}

static void rv__delta_read(const rv__delta *a, const rv__delta_lane *l, size_t kv, size_t block,
                           size_t t, const float *rows)
{
    const size_t dim = a->io.dim_v, first = block * a->cols;
    const size_t n = dim - first < a->cols ? dim - first : a->cols;
    for (size_t head = kv * a->group; head < (kv + 1) * a->group; head++) {
        const float *q = a->io.q + t * a->io.q_stride + head * a->io.dim;
        memset(l->r, 0, a->cols * sizeof(float));
        a->kernels->attn_mix_one(q, rows, a->cols, a->io.dim, l->r, a->cols);
        a->kernels->scale_f32(a->base.scale, l->r, n);
        memcpy(a->io.out + t * a->io.out_stride + head * dim + first, l->r, n * sizeof(float));
    }
}

/* ---- forward ---- */

static float *rv__delta_slot(const rv__delta *a, size_t unit)
{
    return a->states + unit * a->io.dim * a->cols;
}

static void rv__delta_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__delta *a = (const rv__delta *)arg;
    const size_t begin = a->wave * a->step, n = a->io.n_k;
    const size_t end = n - begin < a->step ? n : begin + a->step;
    rv__delta_lane l;
    rv__delta_lane_at(a, lane, &l);
    for (size_t unit = first; unit < last; unit++) {
        const size_t kv = unit / a->blocks, block = unit % a->blocks;
        float *rows = rv__delta_slot(a, unit);
        for (size_t t = begin; t < end; t++) {
            if (a->grad && t % RV__DELTA_SPAN == 0)
                memcpy(a->marks + (kv * ((n - 1) / RV__DELTA_SPAN + 1) + t / RV__DELTA_SPAN) *
                                      a->io.dim * a->cols,
                       rows, a->io.dim * a->cols * sizeof(float));
            rv__delta_write(a, &l, kv, block, t, rows, NULL);
            if (!a->grad) rv__delta_read(a, &l, kv, block, t, rows);
        }
    }
}

/* Weights of query i of a head: what its u = scale q, carried back through the tokens, is along
   their keys. */
static void rv__delta_weights_of(const rv__delta *a, const rv__delta_lane *l, size_t head, size_t i)
{
    const size_t dim = a->io.dim, kv = head / a->group, n = a->io.n_k;
    float *w = a->io.weights + (head * n + i) * n, *u = l->q;
    memcpy(u, a->io.q + i * a->io.q_stride + head * dim, dim * sizeof(float));
    a->kernels->scale_f32(a->base.scale, u, dim);
    for (size_t j = i + 1; j < n; j++) w[j] = 0.0f;
    for (size_t j = i + 1; j-- > 0;) {
        const float *k = rv__delta_key(a, l, kv, j);
        w[j] = 0.0f;
        if (!rv__delta_kept(a, j)) continue;
        w[j] = rv__delta_beta(a, kv, j) * a->kernels->dot_f32(u, k, dim);
        if (a->delta) a->kernels->axpy_f32(-w[j], k, u, dim);
        if (!a->gated) continue;
        rv__delta_gates(a, kv, j, l->e);
        for (size_t x = 0; x < dim; x++) u[x] *= l->e[x];
    }
}

static void rv__delta_weights_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__delta *a = (const rv__delta *)arg;
    rv__delta_lane l;
    rv__delta_lane_at(a, lane, &l);
    for (size_t unit = first; unit < last; unit++)
        rv__delta_weights_of(a, &l, unit / a->io.n_q, unit % a->io.n_q);
}

/* Between the caller's [kv_heads, dim, dim_v] and blocks of columns. */
static void rv__delta_exchange(const rv__delta *a, float *packed, const float *given)
{
    const size_t dim_v = a->io.dim_v, rows = a->base.kv_heads * a->io.dim;
    for (size_t row = 0; row < rows; row++) {
        for (size_t block = 0; block < a->blocks; block++) {
            const size_t first = block * a->cols, kv = row / a->io.dim;
            const size_t n = dim_v - first < a->cols ? dim_v - first : a->cols;
            float *at = rv__delta_slot(a, kv * a->blocks + block) + row % a->io.dim * a->cols;
            if (packed) {
                memcpy(packed + row * dim_v + first, at, n * sizeof(float));
                continue;
            }
            memset(at, 0, a->cols * sizeof(float));
            if (given) memcpy(at, given + row * dim_v + first, n * sizeof(float));
        }
    }
}

static rv_status rv__delta_waves(rv_ctx *ctx, rv__delta *a, rv__range_fn fn)
{
    const size_t n = a->io.n_k, units = a->base.kv_heads * a->blocks;
    const size_t section = 1 + (a->step - 1) / (n < a->step ? n : a->step);
    rv_status status = RV_OK;
    for (a->wave = 0; a->wave * a->step < n && !status; a->wave++)
        status = rv__parallel_for(ctx, units, 1, section, fn, a);
    return status;
}

static rv_status rv__delta_forward(rv_ctx *ctx, rv__delta *a)
{
    const double row = ((double)a->io.dim * 4.0 + 32.0) * (double)a->io.n_k;
    const size_t section = row < RV__DELTA_WORK ? (size_t)(RV__DELTA_WORK / row) : 1;
    rv_status status;
    rv__delta_exchange(a, NULL, a->config->state);
    status = rv__delta_waves(ctx, a, rv__delta_range);
    if (status || a->grad) return status;
    if (a->io.weights)
        status = rv__parallel_for(ctx, a->base.heads * a->io.n_q, 1, section,
                                  rv__delta_weights_range, a);
    if (!status && a->config->state_out) rv__delta_exchange(a, a->config->state_out, NULL);
    return status;
}

/* ---- backward ---- */

/* Slopes of token t's queries, and what they add to D. */
static void rv__delta_back_read(const rv__delta *a, const rv__delta_lane *l, size_t kv, size_t t,
                                const float *k, const float *rows)
{
    const size_t dim = a->io.dim, dim_v = a->io.dim_v;
    const size_t pitch = a->cols * sizeof(float);
    for (size_t head = kv * a->group; head < (kv + 1) * a->group; head++) {
        const float *q = a->io.q + t * a->io.q_stride + head * dim;
        memset(l->g, 0, a->cols * sizeof(float));
        memcpy(l->g, a->grad->d_out + t * a->io.out_stride + head * dim_v, dim_v * sizeof(float));
        rv__delta_outer(a, a->base.scale, q, l->g, l->down);
        if (!a->grad->d_q) continue;
        a->kernels->scan_dot_f32(l->g, (const unsigned char *)rows, pitch, NULL, dim, dim_v, l->w);
        if (k) a->kernels->axpy_f32(a->kernels->dot_f32(l->u, l->g, dim_v), k, l->w, dim);
        a->kernels->scale_f32(a->base.scale, l->w, dim);
        memcpy(a->grad->d_q + (t * a->base.heads + head) * dim, l->w, dim * sizeof(float));
    }
}

/* The gate's part: its slopes, and D before it. */
static void rv__delta_back_gate(const rv__delta *a, const rv__delta_lane *l, size_t kv, size_t t,
                                const float *rows)
{
    const size_t dim = a->io.dim, row = t * a->base.kv_heads + kv;
    float *slopes = a->config->d_decay;
    double sum = 0.0;
    for (size_t x = 0; x < dim && slopes; x++) {
        const float slope = a->kernels->dot_f32(l->down + x * a->cols, rows + x * a->cols, a->cols);
        if (!a->config->per_head) slopes[row * dim + x] = slope;
        sum += (double)slope;
    }
    if (slopes && a->config->per_head) slopes[row] = (float)sum;
    rv__delta_gates(a, kv, t, l->e);
    rv__delta_fade(a, l->e, l->down);
}

/* Token t, whose S' is `rows`: D in l->down is that behind the token, then that before it. */
static void rv__delta_back_token(const rv__delta *a, const rv__delta_lane *l, size_t kv, size_t t,
                                 const float *rows)
{
    const size_t dim = a->io.dim, dim_v = a->io.dim_v, row = t * a->base.kv_heads + kv;
    const size_t pitch = a->cols * sizeof(float);
    const float beta = rv__delta_beta(a, kv, t), *k;
    if (!rv__delta_kept(a, t)) {
        rv__delta_back_read(a, l, kv, t, NULL, rows);
        return;
    }
    k = rv__delta_key(a, l, kv, t);
    rv__delta_value(a, l, kv, 0, t);
    rv__delta_error(a, l, k, beta, rows);
    rv__delta_back_read(a, l, kv, t, k, rows);
    memset(l->g, 0, a->cols * sizeof(float)); /* du */
    a->kernels->attn_mix_one(k, l->down, a->cols, dim, l->g, a->cols);
    a->kernels->scan_dot_f32(l->u, (const unsigned char *)l->down, pitch, NULL, dim, dim_v, l->w);
    if (a->delta) {
        if (a->d_beta) a->d_beta[row] = a->kernels->dot_f32(l->g, l->r, dim_v);
        a->kernels->scale_f32(beta, l->g, dim_v);
        a->kernels->scan_dot_f32(l->g, (const unsigned char *)rows, pitch, NULL, dim, dim_v, l->q);
        a->kernels->axpy_f32(-1.0f, l->q, l->w, dim);
        rv__delta_outer(a, -1.0f, k, l->g, l->down);
    }
    if (a->grad->d_k) memcpy(a->grad->d_k + row * dim, l->w, dim * sizeof(float));
    if (a->grad->d_v) memcpy(a->grad->d_v + row * dim_v, l->g, dim_v * sizeof(float));
    if (a->gated) rv__delta_back_gate(a, l, kv, t, rows);
}

/* A wave of spans of each head, the last ones first. The states hold D between two waves. */
static void rv__delta_back_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__delta *a = (const rv__delta *)arg;
    const size_t n = a->io.n_k, spans = (n - 1) / RV__DELTA_SPAN + 1;
    const size_t each = a->step / RV__DELTA_SPAN, end = spans - a->wave * each;
    const size_t size = a->io.dim * a->cols;
    const size_t begin = end > each ? end - each : 0;
    rv__delta_lane l;
    rv__delta_lane_at(a, lane, &l);
    for (size_t kv = first; kv < last; kv++) {
        memcpy(l.down, rv__delta_slot(a, kv), size * sizeof(float));
        for (size_t span = end; span-- > begin;) {
            const size_t from = span * RV__DELTA_SPAN;
            const size_t to = n - from < RV__DELTA_SPAN ? n : from + RV__DELTA_SPAN;
            float *rows = a->marks + (kv * spans + span) * size;
            for (size_t t = from; t < to; t++)
                rv__delta_write(a, &l, kv, 0, t, rows, l.kept + (t - from) * size);
            for (size_t t = to; t-- > from;)
                rv__delta_back_token(a, &l, kv, t, l.kept + (t - from) * size);
        }
        memcpy(rv__delta_slot(a, kv), l.down, size * sizeof(float));
    }
}

/* Slopes that no token writes are zero: of hidden ones. */
static rv_status rv__delta_zero(rv_ctx *ctx, const rv__delta *a)
{
    const size_t row = rv__mul(a->io.n_k, a->base.kv_heads) * sizeof(float), dim = a->io.dim;
    rv_status status = RV_OK;
    if (a->grad->d_k) status = rv__fill_polled(ctx, a->grad->d_k, 0, row * dim);
    if (!status && a->grad->d_v)
        status = rv__fill_polled(ctx, a->grad->d_v, 0, row * a->io.dim_v);
    if (!status && a->config->d_decay)
        status = rv__fill_polled(ctx, a->config->d_decay, 0, a->config->per_head ? row : row * dim);
    if (!status && a->d_beta) status = rv__fill_polled(ctx, a->d_beta, 0, row);
    return status;
}

static rv_status rv__delta_backward(rv_ctx *ctx, rv__delta *a)
{
    const size_t heads = a->base.kv_heads;
    rv_status status = rv__delta_forward(ctx, a);
    if (!status) status = rv__delta_zero(ctx, a);
    if (status) return status;
    rv__delta_exchange(a, NULL, NULL); /* D begins as zero */
    status = rv__delta_waves(ctx, a, rv__delta_back_range);
    if (status) return status;
    if (a->config->d_state) rv__delta_exchange(a, a->config->d_state, NULL);
    for (size_t t = 0; t < a->io.n_k && a->d_beta; t++) {
        float *to = a->config->d_beta;
        double sum = 0.0;
        for (size_t kv = 0; kv < heads; kv++) {
            sum += (double)a->d_beta[t * heads + kv];
            if (!a->config->shared) to[t * heads + kv] = a->d_beta[t * heads + kv];
        }
        if (a->config->shared) to[t] = (float)sum;
    }
    return RV_OK;
}

/* ---- the whole ---- */

static rv_status rv__delta_run(rv_ctx *ctx, const rv_attn_delta_config *config,
                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    size_t n_states, n_marks, n_beta, n_scratch;
    rv__delta a;
    rv_status status = rv__delta_settle(ctx, config, io, grad, &a);
    if (status) return status;
    n_states = rv__mul(rv__mul(a.base.kv_heads, a.io.dim), a.wide);
    n_marks = grad ? rv__mul(n_states, (io->n_k - 1) / RV__DELTA_SPAN + 1) : 0;
    n_beta = grad && config->d_beta ? rv__mul(io->n_k, a.base.kv_heads) : 0;
    n_scratch = rv__mul(rv__lanes(ctx), a.lane_floats);
    a.states = (float *)rv__get(&alloc, n_states, sizeof(float));
    if (n_marks) a.marks = (float *)rv__get(&alloc, n_marks, sizeof(float));
    if (n_beta) a.d_beta = (float *)rv__get(&alloc, n_beta, sizeof(float));
    a.scratch = (float *)rv__get(&alloc, n_scratch, sizeof(float));
    if (!a.states || (n_marks && !a.marks) || (n_beta && !a.d_beta) || !a.scratch)
        status = rv__no_memory(ctx, rv__mul(rv__add(rv__add(n_states, n_marks), n_scratch),
                                            sizeof(float)));
    else status = grad ? rv__delta_backward(ctx, &a) : rv__delta_forward(ctx, &a);
    rv__put(&alloc, a.scratch, n_scratch, sizeof(float));
    rv__put(&alloc, a.d_beta, n_beta, sizeof(float));
    rv__put(&alloc, a.marks, n_marks, sizeof(float));
    rv__put(&alloc, a.states, n_states, sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_attn_gated_delta_linear(rv_ctx *ctx, const rv_attn_delta_config *config,
                                            const rv_attn_io *io)
{
    return rv__delta_run(ctx, config, io, NULL);
}

RV_API size_t rv_attn_gated_delta_linear_state(const rv_attn_delta_config *config,
                                               const rv_attn_io *io)
{
    size_t heads;
    if (!config || !io) return 0;
    heads = config->base.kv_heads ? config->base.kv_heads : config->base.heads;
    return rv__mul(rv__mul(heads ? heads : 1, io->dim), io->dim_v ? io->dim_v : io->dim);
}

RV_API rv_status rv_attn_gated_delta_linear_backward(rv_ctx *ctx,
                                                     const rv_attn_delta_config *config,
                                                     const rv_attn_io *io,
                                                     const rv_attn_grad *grad)
{
    rv_attn_io inputs;
    if (!io || !grad) return rv__fail(ctx, RV_ERR_ARG, 0, "io and grad must not be NULL");
    inputs = *io;
    inputs.out = inputs.weights = inputs.lse = NULL;
    return rv__delta_run(ctx, config, &inputs, grad);
}

#undef RV__DELTA_SPAN
#undef RV__DELTA_WIDE
#undef RV__DELTA_MOST
#undef RV__DELTA_HEADS
#undef RV__DELTA_WORK

#endif /* RV_ATTN_LINEAR_DELTA_C */
