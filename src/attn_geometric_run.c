#ifndef RV_ATTN_GEOMETRIC_RUN_C
#define RV_ATTN_GEOMETRIC_RUN_C
#include "attn_geometric.h"
#include "base.c"
#include "simd.c"
#include "hyperbolic.c"
#include "hyperbolic_mean.c"
#include "attn.c"
#include "attn_back.c"
#include "attn_geometric.c"
#include "attn_geometric_mean.c"
#include "attn_geometric_frechet.c"

/* From the caller's rows to prepared ones, through the engine, and back; then the mechanisms of one
   space. A call holds one block of memory besides the engine's. */

/* ---- checks ---- */

/* The settled problem. config: the caller's, whose scale must be 0. */
static rv_status rv__geo_open(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                              const rv_attn_grad *grad, rv__geo *g)
{
    rv__attn a;
    rv_status status;
    float unused = 0.0f;
    memset(g, 0, sizeof *g);
    memset(&a, 0, sizeof a);
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    a.io = *io;
    if (config) a.config = *config;
    if (grad) {
        if (!grad->d_out) return rv__fail(ctx, RV_ERR_ARG, 0, "grad->d_out must not be NULL");
        a.io.out = &unused;
    }
    rv__attn_settle(&a);
    status = rv__attn_check(ctx, &a);
    if (status) return status;
    g->config = a.config;
    g->io = a.io;
    if (grad) g->io.weights = g->io.lse = NULL;
    g->grad = grad;
    g->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    return RV_OK;
}

static rv_status rv__geo_no_scale(rv_ctx *ctx, const rv_attn_config *config)
{
    if (!config || !rv__given(config->scale)) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0,
                    "scale is %f, it has no meaning for distances and must be 0; use temperature",
                    (double)config->scale);
}

/* Positive curvature, or its default 1. */
static rv_status rv__geo_curvature(rv_ctx *ctx, const char *name, float given, double *out)
{
    const double c = rv__given(given) ? (double)given : 1.0;
    *out = c;
    if (rv__finite_f64(c) && c >= (double)1e-20f && c <= (double)1e20f) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s is %f, allowed: 1e-20..1e20", name, c);
}

/* ---- memory ---- */

/* Counts, or carves when there is a block. */
typedef struct rv__geo_block {
    float *base;
    size_t used;
} rv__geo_block;

static float *rv__geo_take(rv__geo_block *b, size_t n)
{
    float *at = b->base ? b->base + b->used : NULL;
    b->used = rv__add(b->used, n > SIZE_MAX / 8 ? SIZE_MAX : rv__round_up(n, 16));
    return at;
}

/* All arrays of a call. */
static void rv__geo_carve(rv__geo *g, rv__geo_block *b, size_t lanes)
{
    const size_t n_q = rv__mul(g->io.n_q, g->config.heads);
    const size_t n_k = rv__mul(g->io.n_k, g->config.kv_heads);
    const size_t n_v = rv__mul(g->io.n_k + 1, g->config.kv_heads);
    g->q = rv__geo_take(b, rv__mul(n_q, g->wide));
    g->k = rv__geo_take(b, rv__mul(n_k, g->wide));
    g->v = rv__geo_take(b, rv__mul(n_v, g->wide_v));
    g->out = rv__geo_take(b, rv__mul(n_q, g->wide_v));
    for (size_t p = 0; p < g->n_parts; p++) {
        g->parts[p].q_factor = rv__geo_take(b, n_q);
        g->parts[p].k_factor = rv__geo_take(b, n_k);
    }
    g->lane = rv__geo_take(b, rv__mul(lanes, rv__mul(2, g->most)));
    g->wide_lane = (double *)(void *)rv__geo_take(b, rv__mul(lanes, rv__mul(8, g->most)));
    g->again = (unsigned char *)(void *)rv__geo_take(b, n_q / 4 + 1);
    g->weights = rv__geo_take(b, rv__add(g->io.n_k, 1));
    g->column = rv__geo_take(b, rv__add(g->io.n_k, 1));
    g->d_keys = rv__geo_take(b, g->mean == RV__GEO_FRECHET ? rv__mul(g->io.n_k, g->wide) : 0);
    g->sums = (double *)(void *)rv__geo_take(b, rv__mul(16, g->most));
    if (!g->grad) return;
    g->d_q = rv__geo_take(b, rv__mul(n_q, g->wide));
    g->d_k = rv__geo_take(b, rv__mul(n_k, g->wide));
    g->d_v = rv__geo_take(b, rv__mul(n_v, g->wide_v));
    g->d_out = rv__geo_take(b, rv__mul(n_q, g->wide_v));
}

/* ---- rows ---- */

/* n elements from `at` on, as floats. */
static const float *rv__geo_load(const rv__geo *g, size_t lane, const void *from, rv_dtype type,
                                 size_t at, size_t n)
{
    float *space = g->lane + lane * 2 * g->most;
    if (type == RV_DTYPE_F32) return (const float *)from + at;
    if (type == RV_DTYPE_F16) g->kernels->widen_f16((const uint16_t *)from + at, space, n);
    else g->kernels->widen_bf16((const uint16_t *)from + at, space, n);
    return space;
}

/* The part's slice of a row, through its matrix. */
static const float *rv__geo_slice(const rv__geo *g, const rv__geo_part *p, size_t lane,
                                  const float *row)
{
    float *mapped = g->lane + (lane * 2 + 1) * g->most;
    if (!p->matrix) return row + p->from;
    g->kernels->scan_dot_f32(row + p->from, (const unsigned char *)p->matrix, 4 * p->dim, NULL,
                             p->dim, p->dim, mapped);
    return mapped;
}

static const float *rv__geo_q_row(const rv__geo *g, size_t lane, size_t row)
{
    const size_t heads = g->config.heads;
    return rv__geo_load(g, lane, g->io.q, RV_DTYPE_F32,
                        row / heads * g->io.q_stride + row % heads * g->io.dim, g->io.dim);
}

static const float *rv__geo_k_row(const rv__geo *g, size_t lane, size_t row)
{
    const size_t kvs = g->config.kv_heads;
    return rv__geo_load(g, lane, g->io.k, g->io.type,
                        row / kvs * g->io.k_stride + row % kvs * g->io.dim, g->io.dim);
}

static const float *rv__geo_v_row(const rv__geo *g, size_t lane, size_t row)
{
    const size_t kvs = g->config.kv_heads;
    return rv__geo_load(g, lane, g->io.v, g->io.type,
                        row / kvs * g->io.v_stride + row % kvs * g->io.dim_v, g->io.dim_v);
}

static void rv__geo_lift_q(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__geo *g = (const rv__geo *)arg;
    for (size_t r = begin; r < end; r++) {
        const float *row = rv__geo_q_row(g, lane, r);
        for (size_t at = 0; at < g->n_parts; at++) {
            rv__geo_part p = g->parts[at];
            if (p.lift == RV__GEO_TIME_K) p.lift = RV__GEO_TIME_Q;
            p.q_factor[r] = rv__geo_lift(&p, rv__geo_slice(g, &p, lane, row),
                                         g->q + r * g->wide + p.at);
            for (size_t a = 0; g->dots && a < p.width; a++)
                g->q[r * g->wide + p.at + a] *= rv__geo_mix(g, r % g->config.heads)[at];
        }
    }
}

static void rv__geo_lift_k(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__geo *g = (const rv__geo *)arg;
    for (size_t r = begin; r < end; r++) {
        const float *row = rv__geo_k_row(g, lane, r);
        for (size_t at = 0; at < g->n_parts; at++) {
            const rv__geo_part *p = &g->parts[at];
            p->k_factor[r] = rv__geo_lift(p, rv__geo_slice(g, p, lane, row),
                                          g->k + r * g->wide + p->at);
        }
    }
}

static void rv__geo_lift_v(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__geo *g = (const rv__geo *)arg;
    for (size_t r = begin; r < end; r++)
        rv__geo_lift_value(g, rv__geo_v_row(g, lane, r), g->v + r * g->wide_v);
}

/* Rows between two polls. */
static size_t rv__geo_section(const rv__geo *g)
{
    return 16 + 400000u / (g->most + 64);
}

static rv_status rv__geo_prepare(rv_ctx *ctx, rv__geo *g)
{
    const size_t section = rv__geo_section(g), n_v = g->io.n_k * g->config.kv_heads;
    rv_status status = rv__parallel_for(ctx, g->io.n_q * g->config.heads, 16, section,
                                        rv__geo_lift_q, g);
    if (!status)
        status = rv__parallel_for(ctx, g->io.n_k * g->config.kv_heads, 16, section, rv__geo_lift_k,
                                  g);
    if (!status) status = rv__parallel_for(ctx, n_v, 16, section, rv__geo_lift_v, g);
    memset(g->v + n_v * g->wide_v, 0, g->config.kv_heads * g->wide_v * sizeof(float));
    return status;
}

/* ---- the engine ---- */

static void rv__geo_finish_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__geo *g = (const rv__geo *)arg;
    const size_t heads = g->config.heads;
    rv__geo_sums s;
    s.sum = g->wide_lane + lane * 4 * g->most;
    for (size_t r = begin; r < end; r++) {
        const size_t at = r / heads * g->io.out_stride + r % heads * g->io.dim_v;
        g->again[r] = !rv__geo_read(g, g->out + r * g->wide_v, &s);
        if (g->again[r]) continue;
        if (g->grad) rv__geo_unfinish(g, &s, g->grad->d_out + at, g->d_out + r * g->wide_v);
        else rv__geo_finish(g, &s, g->io.out + at);
    }
}

/* Forward to the sums, then outputs, or slopes by the sums. */
static rv_status rv__geo_means(rv_ctx *ctx, rv__geo *g)
{
    const size_t rows = g->io.n_q * g->config.heads, heads = g->config.heads;
    rv_attn_io io;
    rv__attn_score score;
    rv__geo_sums s;
    rv_status status;
    rv__geo_engine(g, &io, &score);
    status = rv__attn_forward(ctx, &g->config, &io, g->dots ? NULL : &score);
    if (!status)
        status = rv__parallel_for(ctx, rows, 16, rv__geo_section(g), rv__geo_finish_range, g);
    s.sum = g->sums;
    for (size_t r = 0; r < rows && !status; r++) {
        const size_t at = r / heads * g->io.out_stride + r % heads * g->io.dim_v;
        if (!g->again[r]) continue;
        status = rv__geo_again(ctx, g, r % heads, r / heads, g->weights, &s);
        if (status) break;
        if (g->grad) rv__geo_unfinish(g, &s, g->grad->d_out + at, g->d_out + r * g->wide_v);
        else rv__geo_finish(g, &s, g->io.out + at);
    }
    return status;
}

/* ---- gradients of rows ---- */

/* By the part's slice of the caller's row, added to out: [dim]. */
static void rv__geo_lower_part(const rv__geo *g, const rv__geo_part *p, size_t lane,
                               const float *row, float factor, const float *grad, float *out)
{
    double *wide = g->wide_lane + lane * 4 * g->most, *by = wide + 2 * g->most;
    rv__geo_lower(p, rv__geo_slice(g, p, lane, row), factor, grad, wide, by);
    for (size_t a = 0; a < p->dim; a++) {
        if (!p->matrix) out[p->from + a] += (float)by[a];
        else g->kernels->axpy_f32((float)by[a], p->matrix + a * p->dim, out + p->from, p->dim);
    }
}

static void rv__geo_lower_q(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__geo *g = (const rv__geo *)arg;
    for (size_t r = begin; r < end; r++) {
        const float *row = rv__geo_q_row(g, lane, r);
        float *out = g->grad->d_q + r * g->io.dim;
        memset(out, 0, g->io.dim * sizeof *out);
        for (size_t at = 0; at < g->n_parts; at++) {
            rv__geo_part p = g->parts[at];
            float *grad = g->d_q + r * g->wide + p.at;
            if (p.lift == RV__GEO_TIME_K) p.lift = RV__GEO_TIME_Q;
            for (size_t a = 0; g->dots && a < p.width; a++)
                grad[a] *= rv__geo_mix(g, r % g->config.heads)[at];
            rv__geo_lower_part(g, &p, lane, row, p.q_factor[r], grad, out);
        }
    }
}

static void rv__geo_lower_k(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__geo *g = (const rv__geo *)arg;
    for (size_t r = begin; r < end; r++) {
        const float *row = rv__geo_k_row(g, lane, r);
        float *out = g->grad->d_k + r * g->io.dim;
        memset(out, 0, g->io.dim * sizeof *out);
        for (size_t at = 0; at < g->n_parts; at++) {
            const rv__geo_part *p = &g->parts[at];
            rv__geo_lower_part(g, p, lane, row, p->k_factor[r], g->d_k + r * g->wide + p->at, out);
        }
    }
}

static void rv__geo_lower_v(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__geo *g = (const rv__geo *)arg;
    double *wide = g->wide_lane + lane * 4 * g->most, *by = wide + g->most;
    for (size_t r = begin; r < end; r++) {
        rv__geo_lower_value(g, rv__geo_v_row(g, lane, r), g->d_v + r * g->wide_v, wide, by);
        for (size_t a = 0; a < g->io.dim_v; a++)
            g->grad->d_v[r * g->io.dim_v + a] = (float)by[a];
    }
}

static rv_status rv__geo_lower_all(rv_ctx *ctx, rv__geo *g)
{
    const size_t section = rv__geo_section(g), n_k = g->io.n_k * g->config.kv_heads;
    rv_status status = RV_OK;
    if (g->grad->d_q)
        status = rv__parallel_for(ctx, g->io.n_q * g->config.heads, 16, section, rv__geo_lower_q,
                                  g);
    if (!status && g->grad->d_k)
        status = rv__parallel_for(ctx, n_k, 16, section, rv__geo_lower_k, g);
    if (!status && g->grad->d_v)
        status = rv__parallel_for(ctx, n_k, 16, section, rv__geo_lower_v, g);
    return status;
}

/* By the matrices, of n rows of queries (or keys) whose prepared rows have the slopes `grad`. */
static rv_status rv__geo_lower_matrix(rv_ctx *ctx, rv__geo *g, int keys, size_t n)
{
    double *wide = g->wide_lane, *by = wide + 2 * g->most;
    size_t left = 0;
    for (size_t r = 0; r < n; r++) {
        const float *row = keys ? rv__geo_k_row(g, 0, r) : rv__geo_q_row(g, 0, r);
        float *to = g->d_matrix;
        for (size_t at = 0; at < g->n_parts; at++) {
            const rv__geo_part *p = &g->parts[at];
            const float *grad = (keys ? g->d_k : g->d_q) + r * g->wide + p->at;
            rv_status status = rv__poll_by(ctx, &left, p->dim * p->dim / 4 + 64);
            if (status) return status;
            rv__geo_lower(p, rv__geo_slice(g, p, 0, row), (keys ? p->k_factor : p->q_factor)[r],
                          grad, wide, by);
            for (size_t a = 0; a < p->dim; a++, to += p->dim)
                g->kernels->axpy_f32((float)by[a], row + p->from, to, p->dim);
        }
    }
    return RV_OK;
}

/* By the coefficients, where logits are dot products: queries carry them. */
static rv_status rv__geo_lower_mix(rv_ctx *ctx, const rv__geo *g)
{
    const size_t heads = g->config.heads;
    float *lifted = g->lane + g->most;
    size_t left = 0;
    for (size_t h = 0; h < heads; h++) {
        for (size_t at = 0; at < g->n_parts; at++) {
            const rv__geo_part *p = &g->parts[at];
            double sum = 0.0;
            for (size_t r = h; r < g->io.n_q * heads; r += heads) {
                const float *row = rv__geo_q_row(g, 0, r), *grad = g->d_q + r * g->wide + p->at;
                rv_status status = rv__poll_by(ctx, &left, 4 * p->width + 64);
                if (status) return status;
                (void)rv__geo_lift(p, row + p->from, lifted);
                sum += rv__hyp_dot_f32(lifted, grad, p->width);
            }
            g->grad->d_params[h * RV__GEO_PARTS + at] = (float)sum;
        }
    }
    return RV_OK;
}

static rv_status rv__geo_slope_all(rv_ctx *ctx, rv__geo *g)
{
    const size_t n_q = g->io.n_q * g->config.heads, n_k = g->io.n_k * g->config.kv_heads;
    rv_attn_io io;
    rv__attn_score score;
    rv_attn_grad grad = *g->grad;
    rv_status status = rv__geo_means(ctx, g);
    if (status) return status;
    rv__geo_engine(g, &io, &score);
    grad.d_out = g->d_out;
    grad.d_q = g->d_q;
    grad.d_k = g->d_k;
    grad.d_v = g->d_v;
    if (g->n_mix == 0) grad.d_params = NULL;
    status = rv__attn_backward(ctx, &g->config, &io, &grad, g->dots ? NULL : &score);
    if (g->n_mix && g->dots && !status) status = rv__geo_lower_mix(ctx, g);
    if (g->d_matrix && !status) {
        size_t n = 0;
        for (size_t p = 0; p < g->n_parts; p++) n += g->parts[p].dim * g->parts[p].dim;
        memset(g->d_matrix, 0, n * sizeof(float));
        status = rv__geo_lower_matrix(ctx, g, 0, n_q);
        if (!status) status = rv__geo_lower_matrix(ctx, g, 1, n_k);
    }
    return status ? status : rv__geo_lower_all(ctx, g);
}

/* ---- one call ---- */

/* Columns of prepared rows and values, and the part that a mechanism of one space has. */
static void rv__geo_single(rv__geo *g, int form, double kappa)
{
    g->n_parts = 1;
    g->parts[0].form = form;
    g->parts[0].kappa = kappa;
    g->parts[0].dim = g->parts[0].width = g->io.dim;
    g->kappa = kappa;
}

/* Sizes of rows, from parts and mean. */
static void rv__geo_sizes(rv__geo *g)
{
    g->wide = 0;
    for (size_t p = 0; p < g->n_parts; p++) {
        g->parts[p].at = g->wide;
        g->wide += g->parts[p].width;
    }
    g->wide_v = g->io.dim_v + (g->mean == RV__GEO_MIDPOINT || g->mean == RV__GEO_CENTROID);
    g->most = g->wide > g->io.dim ? g->wide : g->io.dim;
    if (g->wide_v > g->most) g->most = g->wide_v;
}

/* Does what g describes. */
static rv_status rv__geo_call(rv_ctx *ctx, rv__geo *g)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    rv__geo_block block = {NULL, 0};
    rv_status status;
    size_t n;
    rv__geo_sizes(g);
    rv__geo_carve(g, &block, lanes);
    n = block.used;
    block.base = (float *)rv__get(&alloc, n, sizeof(float));
    if (!block.base) return rv__no_memory(ctx, rv__mul(n, sizeof(float)));
    block.used = 0;
    rv__geo_carve(g, &block, lanes);
    status = rv__geo_prepare(ctx, g);
    if (!status) {
        if (g->mean == RV__GEO_FRECHET && !g->grad) status = rv__geo_frechet(ctx, g);
        else if (g->mean == RV__GEO_FRECHET) {
            status = rv__geo_frechet_pull(ctx, g);
            if (!status) status = rv__geo_lower_all(ctx, g);
        } else status = g->grad ? rv__geo_slope_all(ctx, g) : rv__geo_means(ctx, g);
    }
    rv__put(&alloc, block.base, n, sizeof(float));
    return status ? status : rv__ok(ctx);
}

/* ---- mechanisms of one space ---- */

static rv_status rv__geo_poincare(rv_ctx *ctx, const rv_attn_poincare_config *config,
                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    static const int means[] = {RV__GEO_MIDPOINT, RV__GEO_FRECHET, RV__GEO_TANGENT};
    rv_attn_poincare_config c;
    rv__geo g;
    double curvature;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__geo_open(ctx, &c.base, io, grad, &g);
    if (!status) status = rv__geo_no_scale(ctx, &c.base);
    if (!status) status = rv__geo_curvature(ctx, "c", c.c, &curvature);
    if (status) return status;
    if ((unsigned)c.aggregate > (unsigned)RV_ATTN_TANGENT)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "aggregate is %z, allowed: 0..2",
                        (size_t)c.aggregate);
    if (c.aggregate != RV_ATTN_FRECHET && (c.iterations || c.tolerance != 0.0f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "iterations and tolerance must be 0 unless aggregate is FRECHET");
    g.iterations = c.iterations ? c.iterations : 50;
    g.tolerance = rv__given(c.tolerance) ? (double)c.tolerance : 1e-5;
    if (g.iterations > 100000)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "iterations is %z, allowed: 1..100000",
                        (size_t)g.iterations);
    if (!rv__finite_f64(g.tolerance) || g.tolerance < 0.0)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "tolerance is %f, must be finite and above 0",
                        g.tolerance);
    rv__geo_single(&g, RV__GEO_STEREO, -curvature);
    g.mean = means[c.aggregate];
    g.own[0] = -1.0f / g.config.temperature;
    return rv__geo_call(ctx, &g);
}

RV_API rv_status rv_attn_poincare(rv_ctx *ctx, const rv_attn_poincare_config *config,
                                  const rv_attn_io *io)
{
    return rv__geo_poincare(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_poincare_backward(rv_ctx *ctx, const rv_attn_poincare_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_poincare(ctx, config, io, grad);
}

static rv_status rv__geo_lorentz_run(rv_ctx *ctx, const rv_attn_lorentz_config *config,
                                     const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_lorentz_config c;
    rv__geo g;
    double curvature;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__geo_open(ctx, &c.base, io, grad, &g);
    if (!status) status = rv__geo_no_scale(ctx, &c.base);
    if (!status) status = rv__geo_curvature(ctx, "c", c.c, &curvature);
    if (status) return status;
    if ((unsigned)c.score > (unsigned)RV_ATTN_LORENTZ_INNER)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "score is %z, allowed: 0..2", (size_t)c.score);
    rv__geo_single(&g, RV__GEO_LORENTZ, -curvature);
    g.mean = RV__GEO_CENTROID;
    g.own[0] = -1.0f / g.config.temperature;
    if (c.score == RV_ATTN_LORENTZ_SQUARE) {
        g.combine = RV__GEO_SQUARE;
        g.own[0] = -g.own[0];
    } else if (c.score == RV_ATTN_LORENTZ_INNER) {
        g.dots = 1;
        g.parts[0].form = RV__GEO_DOT;
        g.parts[0].lift = RV__GEO_TIME_K;
        g.parts[0].width = g.io.dim + 3;
        g.config.scale = 1.0f;
        g.own[0] = 2.0f;
    }
    return rv__geo_call(ctx, &g);
}

RV_API rv_status rv_attn_lorentz(rv_ctx *ctx, const rv_attn_lorentz_config *config,
                                 const rv_attn_io *io)
{
    return rv__geo_lorentz_run(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_lorentz_backward(rv_ctx *ctx, const rv_attn_lorentz_config *config,
                                          const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_lorentz_run(ctx, config, io, grad);
}

static rv_status rv__geo_spherical(rv_ctx *ctx, const rv_attn_spherical_config *config,
                                   const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_spherical_config c;
    rv__geo g;
    double kappa;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__geo_open(ctx, &c.base, io, grad, &g);
    if (!status) status = rv__geo_no_scale(ctx, &c.base);
    if (!status) status = rv__geo_curvature(ctx, "kappa", c.kappa, &kappa);
    if (status) return status;
    rv__geo_single(&g, RV__GEO_ANGLE, kappa);
    g.mean = RV__GEO_NORMAL;
    g.own[0] = -1.0f / g.config.temperature;
    if (c.cosine) {
        g.dots = 1;
        g.parts[0].form = RV__GEO_DOT;
        g.parts[0].lift = RV__GEO_UNIT;
        g.config.scale = 1.0f;
        g.own[0] = 1.0f;
    }
    return rv__geo_call(ctx, &g);
}

RV_API rv_status rv_attn_spherical(rv_ctx *ctx, const rv_attn_spherical_config *config,
                                   const rv_attn_io *io)
{
    return rv__geo_spherical(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_spherical_backward(rv_ctx *ctx, const rv_attn_spherical_config *config,
                                            const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_spherical(ctx, config, io, grad);
}

static rv_status rv__geo_manifold(rv_ctx *ctx, const rv_attn_manifold_config *config,
                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_manifold_config c;
    rv__geo g;
    double kappa;
    int given;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__geo_open(ctx, &c.base, io, grad, &g);
    if (!status) status = rv__geo_no_scale(ctx, &c.base);
    if (status) return status;
    given = rv__given(c.kappa);
    kappa = given ? (double)c.kappa : c.flat ? 0.0 : -1.0;
    if (given && c.flat)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kappa is %f, with flat it must be 0", kappa);
    if (!rv__finite_f64(kappa) || fabs(kappa) > (double)1e20f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kappa is %f, allowed: -1e20..1e20", kappa);
    rv__geo_single(&g, RV__GEO_STEREO, kappa);
    g.mean = RV__GEO_MIDPOINT;
    g.own[0] = -1.0f / g.config.temperature;
    return rv__geo_call(ctx, &g);
}

RV_API rv_status rv_attn_manifold(rv_ctx *ctx, const rv_attn_manifold_config *config,
                                  const rv_attn_io *io)
{
    return rv__geo_manifold(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_manifold_backward(rv_ctx *ctx, const rv_attn_manifold_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_manifold(ctx, config, io, grad);
}

#endif /* RV_ATTN_GEOMETRIC_RUN_C */
