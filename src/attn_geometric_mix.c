#ifndef RV_ATTN_GEOMETRIC_MIX_C
#define RV_ATTN_GEOMETRIC_MIX_C
#include "attn_geometric.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "attn.c"
#include "attn_geometric.c"
#include "attn_geometric_run.c"

/* Mechanisms of several spaces. Product logits and logits of dot products are parts of one prepared
   row; mixed weights are two calls whose results are added. */

/* ---- checks ---- */

/* Both 0: a half each. */
static rv_status rv__geo_shares(rv_ctx *ctx, float *euclid, float *hyperbolic)
{
    const float e = *euclid, h = *hyperbolic;
    if (!rv__finite_f32(e) || e < 0.0f || !rv__finite_f32(h) || h < 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "euclid and hyperbolic are %f and %f, must be finite and not negative",
                        (double)e, (double)h);
    if (e == 0.0f && h == 0.0f) *euclid = *hyperbolic = 0.5f;
    return RV_OK;
}

/* A curvature below 0, default -1. */
static rv_status rv__geo_negative(rv_ctx *ctx, const char *name, float given, double *out)
{
    const double kappa = rv__given(given) ? (double)given : -1.0;
    *out = kappa;
    if (rv__finite_f64(kappa) && kappa <= -(double)1e-20f && kappa >= -(double)1e20f) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s is %f, allowed: -1e20..-1e-20", name, kappa);
}

static rv_status rv__geo_dims(rv_ctx *ctx, const rv__geo *g, size_t e, size_t h, size_t s)
{
    if (e + h + s == g->io.dim) return RV_OK;
    return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z, the columns of its spaces sum to %z", g->io.dim,
                    e + h + s);
}

/* Another part, of the next columns; returns it. */
static rv__geo_part *rv__geo_add(rv__geo *g, int form, double kappa, size_t from, size_t dim)
{
    rv__geo_part *p = &g->parts[g->n_parts++];
    p->form = form;
    p->kappa = kappa;
    p->from = from;
    p->dim = p->width = dim;
    return p;
}

/* The scale that q . k of so many columns has. */
static float rv__geo_scale(const rv_attn_config *config, size_t dim)
{
    if (config->scale != 0.0f) return config->scale;
    return (float)(1.0 / sqrt((double)(dim ? dim : 1)));
}

/* ---- dual space ---- */

static rv_status rv__geo_dual(rv_ctx *ctx, const rv_attn_dual_space_config *config,
                              const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_dual_space_config c;
    rv__geo g;
    double curvature;
    float scale;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__geo_open(ctx, &c.base, io, grad, &g);
    if (!status) status = rv__geo_curvature(ctx, "c", c.c, &curvature);
    if (!status) status = rv__geo_shares(ctx, &c.euclid, &c.hyperbolic);
    if (status) return status;
    if (grad && grad->d_params && !c.params)
        return rv__fail(ctx, RV_ERR_ARG, 0, "d_params without params has no meaning");
    scale = rv__geo_scale(&c.base, g.io.dim);
    (void)rv__geo_add(&g, RV__GEO_DOT, 0.0, 0, g.io.dim);
    (void)rv__geo_add(&g, RV__GEO_STEREO, -curvature, 0, g.io.dim);
    if (c.params) {
        g.parts[0].matrix = c.params;
        g.parts[1].matrix = c.params + g.io.dim * g.io.dim;
        if (grad) g.d_matrix = grad->d_params;
    }
    g.own[0] = c.euclid * scale / g.config.temperature;
    g.own[1] = -c.hyperbolic / g.config.temperature;
    return rv__geo_call(ctx, &g);
}

RV_API rv_status rv_attn_dual_space(rv_ctx *ctx, const rv_attn_dual_space_config *config,
                                    const rv_attn_io *io)
{
    return rv__geo_dual(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_dual_space_backward(rv_ctx *ctx, const rv_attn_dual_space_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_dual(ctx, config, io, grad);
}

RV_API size_t rv_attn_dual_space_params(const rv_attn_dual_space_config *config,
                                        const rv_attn_io *io)
{
    (void)config;
    return io ? rv__mul(2, rv__mul(io->dim, io->dim)) : 0;
}

RV_API rv_status rv_attn_dual_space_init(rv_ctx *ctx, const rv_attn_dual_space_config *config,
                                         const rv_attn_io *io, float *params)
{
    const size_t n = rv_attn_dual_space_params(config, io);
    rv__rng rng;
    float bound;
    if (!io || !params) return rv__fail(ctx, RV_ERR_ARG, 0, "io and params must not be NULL");
    if (io->dim == 0 || io->dim > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z, allowed: 1..65535", io->dim);
    bound = (float)sqrt(3.0 / (double)io->dim); /* sqrt(6 / (inputs + outputs)) */
    rv__rng_init(&rng, rv__seed(ctx));
    for (size_t i = 0; i < n; i++) params[i] = bound * (2.0f * rv__rng_f32(&rng) - 1.0f);
    return rv__ok(ctx);
}

/* ---- mixed curvature ---- */

static rv_status rv__geo_open_mixed(rv_ctx *ctx, rv_attn_mixed_config *c, const rv_attn_io *io,
                                    const rv_attn_grad *grad, rv__geo *g, double *kappa)
{
    rv_status status = rv__geo_open(ctx, &c->base, io, grad, g);
    if (!status) status = rv__geo_negative(ctx, "kappa", c->kappa, kappa);
    if (!status && c->product) status = rv__geo_no_scale(ctx, &c->base);
    if (status) return status;
    if (c->product && (c->euclid != 0.0f || c->hyperbolic != 0.0f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "euclid and hyperbolic have no meaning for a product and must be 0");
    if (c->dim_e == 0 && c->dim_h == 0) {
        c->dim_h = (uint32_t)(g->io.dim / 2);
        c->dim_e = (uint32_t)g->io.dim - c->dim_h;
    }
    status = rv__geo_dims(ctx, g, c->dim_e, c->dim_h, 0);
    if (!status) status = rv__geo_shares(ctx, &c->euclid, &c->hyperbolic);
    if (status || c->product) return status;
    if ((c->dim_e == 0 && c->euclid > 0.0f) || (c->dim_h == 0 && c->hyperbolic > 0.0f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "dim_e is %z and dim_h %z, a space with a share needs columns",
                        (size_t)c->dim_e, (size_t)c->dim_h);
    if (!g->io.lse) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, 0, "lse has no meaning for mixed weights and must be NULL");
}

/* What one of the two attentions of mixed weights gives. */
typedef struct rv__geo_half {
    float *out, *weights, *d_out, *d_q, *d_k, *d_v, *d_sinks;
    size_t n_out, n_weights, n_q, n_k, n_v, n_sinks; /* 0: not wanted */
} rv__geo_half;

static void rv__geo_half_carve(rv__geo_half *h, rv__geo_block *b)
{
    h->out = rv__geo_take(b, h->n_out);
    h->weights = rv__geo_take(b, h->n_weights);
    h->d_out = rv__geo_take(b, h->n_out);
    h->d_q = rv__geo_take(b, h->n_q);
    h->d_k = rv__geo_take(b, h->n_k);
    h->d_v = rv__geo_take(b, h->n_v);
    h->d_sinks = rv__geo_take(b, h->n_sinks);
}

static void rv__geo_half_sizes(rv__geo_half *h, const rv__geo *g, const rv_attn_grad *grad)
{
    const size_t n_q = rv__mul(g->io.n_q, g->config.heads);
    const size_t n_k = rv__mul(g->io.n_k, g->config.kv_heads);
    memset(h, 0, sizeof *h);
    h->n_out = rv__mul(n_q, g->io.dim_v);
    if (g->io.weights) h->n_weights = rv__mul(n_q, g->io.n_k);
    if (grad && grad->d_q) h->n_q = rv__mul(n_q, g->io.dim);
    if (grad && grad->d_k) h->n_k = rv__mul(n_k, g->io.dim);
    if (grad && grad->d_v) h->n_v = rv__mul(n_k, g->io.dim_v);
    if (grad && grad->d_sinks) h->n_sinks = g->config.heads;
}

/* to = share from, or adds it. */
static rv_status rv__geo_blend(rv_ctx *ctx, const rv__kernels *k, int first, float share,
                               const float *from, float *to, size_t n)
{
    size_t left = 0;
    for (size_t at = 0; at < n; at += 65536u) {
        const size_t m = n - at < 65536u ? n - at : 65536u;
        rv_status status = rv__poll_by(ctx, &left, m);
        if (status) return status;
        if (first) memset(to + at, 0, m * sizeof *to);
        k->axpy_f32(share, from + at, to + at, m);
    }
    return RV_OK;
}

/* One attention with its share; first: results are written, else added. */
static rv_status rv__geo_half_run(rv_ctx *ctx, const rv__geo *model, const rv_attn_grad *grad,
                                  const rv__geo_half *h, float share, int first)
{
    rv__geo g = *model;
    const rv__kernels *k = g.kernels;
    const size_t width = g.config.heads * g.io.dim_v, rows = g.io.n_q;
    rv_attn_grad inner;
    rv_status status;
    g.io.out = h->out;
    g.io.out_stride = width;
    if (!grad) {
        if (model->io.weights) g.io.weights = h->weights;
        status = rv__geo_call(ctx, &g);
        for (size_t i = 0; i < rows && !status; i++)
            status = rv__geo_blend(ctx, k, first, share, h->out + i * width,
                                   model->io.out + i * model->io.out_stride, width);
        if (status || !model->io.weights) return status;
        return rv__geo_blend(ctx, k, first, share, h->weights, model->io.weights, h->n_weights);
    }
    memset(&inner, 0, sizeof inner);
    for (size_t i = 0; i < rows; i++) {
        memset(h->d_out + i * width, 0, width * sizeof(float));
        k->axpy_f32(share, grad->d_out + i * model->io.out_stride, h->d_out + i * width, width);
    }
    inner.d_out = h->d_out;
    if (grad->d_q) inner.d_q = h->d_q;
    if (grad->d_k) inner.d_k = h->d_k;
    if (grad->d_v) inner.d_v = h->d_v;
    if (grad->d_sinks) inner.d_sinks = h->d_sinks;
    g.grad = &inner;
    status = rv__geo_call(ctx, &g);
    if (!status) status = rv__geo_blend(ctx, k, first, 1.0f, h->d_q, grad->d_q, h->n_q);
    if (!status) status = rv__geo_blend(ctx, k, first, 1.0f, h->d_k, grad->d_k, h->n_k);
    if (!status) status = rv__geo_blend(ctx, k, first, 1.0f, h->d_v, grad->d_v, h->n_v);
    if (!status) status = rv__geo_blend(ctx, k, first, 1.0f, h->d_sinks, grad->d_sinks, h->n_sinks);
    return status;
}

static rv_status rv__geo_mixed_weights(rv_ctx *ctx, const rv_attn_mixed_config *c,
                                       const rv__geo *base, double kappa)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const float sum = c->euclid + c->hyperbolic, tau = base->config.temperature;
    rv__geo_block block = {NULL, 0};
    rv__geo_half half;
    rv__geo e = *base, h = *base;
    rv_status status = RV_OK;
    size_t n;
    (void)rv__geo_add(&e, RV__GEO_DOT, 0.0, 0, c->dim_e);
    e.dots = 1;
    e.own[0] = rv__geo_scale(&c->base, c->dim_e);
    e.config.scale = 1.0f;
    (void)rv__geo_add(&h, RV__GEO_STEREO, kappa, c->dim_e, c->dim_h);
    h.own[0] = -1.0f / tau;
    rv__geo_half_sizes(&half, base, base->grad);
    rv__geo_half_carve(&half, &block);
    n = block.used;
    block.base = (float *)rv__get(&alloc, n, sizeof(float));
    if (!block.base) return rv__no_memory(ctx, rv__mul(n, sizeof(float)));
    block.used = 0;
    rv__geo_half_carve(&half, &block);
    if (c->euclid > 0.0f)
        status = rv__geo_half_run(ctx, &e, base->grad, &half, c->euclid / sum, 1);
    if (!status && c->hyperbolic > 0.0f)
        status = rv__geo_half_run(ctx, &h, base->grad, &half, c->hyperbolic / sum,
                                  c->euclid == 0.0f);
    rv__put(&alloc, block.base, n, sizeof(float));
    return status ? status : rv__ok(ctx);
}

static rv_status rv__geo_mixed(rv_ctx *ctx, const rv_attn_mixed_config *config,
                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_mixed_config c;
    rv__geo g;
    double kappa;
    float factor;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__geo_open_mixed(ctx, &c, io, grad, &g, &kappa);
    if (status) return status;
    if (!c.product) return rv__geo_mixed_weights(ctx, &c, &g, kappa);
    factor = 1.0f / (g.config.temperature * g.config.temperature);
    (void)rv__geo_add(&g, RV__GEO_STEREO, 0.0, 0, c.dim_e);
    (void)rv__geo_add(&g, RV__GEO_STEREO, kappa, c.dim_e, c.dim_h);
    g.combine = RV__GEO_ROOT;
    g.own[0] = 0.25f * factor; /* the distance of curvature 0 is 2 |x - y| */
    g.own[1] = factor;
    return rv__geo_call(ctx, &g);
}

RV_API rv_status rv_attn_mixed(rv_ctx *ctx, const rv_attn_mixed_config *config,
                               const rv_attn_io *io)
{
    return rv__geo_mixed(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_mixed_backward(rv_ctx *ctx, const rv_attn_mixed_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_mixed(ctx, config, io, grad);
}

/* ---- three spaces ---- */

static const float rv__geo_fused_mix[3] = {0.5f, 0.35f, 0.15f};

/* The mix as the parts want it, factor being what each is multiplied by. */
static rv_status rv__geo_fused_read(rv_ctx *ctx, const rv_attn_fused_config *c, size_t heads,
                                    const float *factor, float *mix)
{
    for (size_t at = 0; at < 3 * heads; at++) {
        const float b = c->mix ? c->mix[at] : rv__geo_fused_mix[at % 3];
        if (!rv__finite_f32(b) || (c->geodesic && b < 0.0f))
            return rv__fail(ctx, RV_ERR_CONFIG, at, c->geodesic
                                ? "mix[%z] is %f, must be finite and not negative"
                                : "mix[%z] is %f, must be finite", at, (double)b);
        mix[at] = b * factor[at % 3];
    }
    return RV_OK;
}

static void rv__geo_fused_parts(rv__geo *g, const rv_attn_fused_config *c, double kappa_h,
                                double kappa_s, float *factor)
{
    const size_t s = c->dim_e + c->dim_h;
    const float tau = g->config.temperature;
    if (c->geodesic) {
        (void)rv__geo_add(g, RV__GEO_STEREO, 0.0, 0, c->dim_e);
        (void)rv__geo_add(g, RV__GEO_STEREO, kappa_h, c->dim_e, c->dim_h);
        (void)rv__geo_add(g, RV__GEO_ANGLE, kappa_s, s, c->dim_s);
        g->combine = RV__GEO_ROOT;
        factor[0] = 0.25f / (tau * tau); /* the distance of curvature 0 is 2 |x - y| */
        factor[1] = factor[2] = 1.0f / (tau * tau);
        return;
    }
    (void)rv__geo_add(g, RV__GEO_DOT, 0.0, 0, c->dim_e);
    rv__geo_add(g, RV__GEO_DOT, kappa_h, c->dim_e, c->dim_h)->lift = RV__GEO_LOG;
    rv__geo_add(g, RV__GEO_DOT, 0.0, s, c->dim_s)->lift = RV__GEO_UNIT;
    g->dots = 1;
    g->config.scale = 1.0f;
    factor[0] = rv__geo_scale(&c->base, c->dim_e);
    factor[1] = factor[2] = 1.0f;
}

static rv_status rv__geo_fused(rv_ctx *ctx, const rv_attn_fused_config *config,
                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_attn_fused_config c;
    rv__geo g;
    double kappa_h, kappa_s;
    float factor[3], *mix;
    rv_status status;
    size_t n;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__geo_open(ctx, &c.base, io, grad, &g);
    if (!status) status = rv__geo_negative(ctx, "kappa_h", c.kappa_h, &kappa_h);
    if (!status) status = rv__geo_curvature(ctx, "kappa_s", c.kappa_s, &kappa_s);
    if (!status && c.geodesic) status = rv__geo_no_scale(ctx, &c.base);
    if (status) return status;
    if (c.dim_e == 0 && c.dim_h == 0 && c.dim_s == 0) {
        c.dim_h = (uint32_t)(3 * g.io.dim / 8);
        c.dim_s = (uint32_t)(g.io.dim / 8);
        c.dim_e = (uint32_t)g.io.dim - c.dim_h - c.dim_s;
    }
    status = rv__geo_dims(ctx, &g, c.dim_e, c.dim_h, c.dim_s);
    if (status) return status;
    rv__geo_fused_parts(&g, &c, kappa_h, kappa_s, factor);
    n = 3 * (size_t)g.config.heads;
    mix = (float *)rv__get(&alloc, n, sizeof *mix);
    if (!mix) return rv__no_memory(ctx, n * sizeof *mix);
    status = rv__geo_fused_read(ctx, &c, g.config.heads, factor, mix);
    g.mix = mix;
    g.n_mix = grad && grad->d_params ? n : 0;
    if (!status) status = rv__geo_call(ctx, &g);
    for (size_t at = 0; at < g.n_mix && !status; at++) grad->d_params[at] *= factor[at % 3];
    rv__put(&alloc, mix, n, sizeof *mix);
    return status;
}

RV_API rv_status rv_attn_fused(rv_ctx *ctx, const rv_attn_fused_config *config,
                               const rv_attn_io *io)
{
    return rv__geo_fused(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_fused_backward(rv_ctx *ctx, const rv_attn_fused_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_fused(ctx, config, io, grad);
}

RV_API size_t rv_attn_fused_params(const rv_attn_fused_config *config, const rv_attn_io *io)
{
    (void)io;
    return 3 * (size_t)(config && config->base.heads ? config->base.heads : 1);
}

RV_API rv_status rv_attn_fused_init(rv_ctx *ctx, const rv_attn_fused_config *config,
                                    const rv_attn_io *io, float *params)
{
    const size_t n = rv_attn_fused_params(config, io);
    rv__rng rng;
    if (!params) return rv__fail(ctx, RV_ERR_ARG, 0, "params must not be NULL");
    rv__rng_init(&rng, rv__seed(ctx));
    for (size_t i = 0; i < n; i++)
        params[i] = rv__geo_fused_mix[i % 3] * (0.9f + 0.2f * rv__rng_f32(&rng));
    return rv__ok(ctx);
}

#endif /* RV_ATTN_GEOMETRIC_MIX_C */
