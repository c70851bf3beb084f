#ifndef RV_ATTN_GATED_C
#define RV_ATTN_GATED_C
#include "attn_gated.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "dense.c"
#include "attn_heads.c"

/* Heads behind gates: rv_attn_heads without its last layer, whose parameters are a prefix of all,
   the rows scaled head by head, and the last layer. */

typedef struct rv__gate {
    rv__heads m;
    rv_attn_heads_config config; /* without the last layer                                        */
    float threshold;
    size_t least, most, n_params;
    float *memory;
    size_t room;
    size_t g, c, o, d_o, d_g, d_x; /* places in memory: gates, factors, concat, slopes            */
} rv__gate;

static rv_status rv__gate_open(rv_ctx *ctx, const rv_attn_gated_config *config,
                                const rv_attn_io *io, int backward, rv__gate *p)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t heads = config->heads.base.heads ? config->heads.base.heads : 1;
    size_t at = 0;
    rv_status status;
    memset(p, 0, sizeof *p);
    if (!config->heads.params) return rv__fail(ctx, RV_ERR_ARG, 0, "params must not be NULL");
    p->threshold = rv__default(config->threshold, 0.5f);
    p->least = config->least ? config->least : 1;
    p->most = config->most ? config->most : heads;
    if (!rv__finite_f32(config->threshold) || p->threshold < 0.0f || p->threshold >= 1.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "threshold is %f, allowed: 0 to below 1",
                        (double)config->threshold);
    if (p->least > p->most || p->most > heads)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "least and most are %z and %z, must rise and be at most heads (%z)",
                        p->least, p->most, heads);
    rv__heads_layout(&p->m, &config->heads, io);
    status = rv__heads_check(ctx, &p->m);
    if (status) return status;
    p->config = config->heads;
    p->config.no_output = 1;
    p->config.width_out = 0;
    p->g = rv__dense_room(&at, io->n_q, heads);
    p->c = rv__dense_room(&at, io->n_q, heads);
    p->o = rv__dense_room(&at, io->n_q, p->m.n_o);
    p->d_o = rv__dense_room(&at, backward ? io->n_q : 0, p->m.n_o);
    p->d_g = rv__dense_room(&at, backward ? io->n_q : 0, heads);
    p->d_x = rv__dense_room(&at, backward ? io->n_q : 0, p->m.width_q);
    p->room = at;
    p->memory = (float *)rv__get(&alloc, at, sizeof(float));
    return p->memory ? RV_OK : rv__no_memory(ctx, rv__mul(at, sizeof(float)));
}

static void rv__gate_drop(rv_ctx *ctx, rv__gate *p)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__put(&alloc, p->memory, p->room, sizeof(float));
}

static rv__dense rv__gate_layer(const rv__gate *p)
{
    rv__dense d;
    d.x = p->m.io.q;
    d.ldx = p->m.io.q_stride;
    d.n = p->m.io.n_q;
    d.n_in = p->m.width_q;
    d.n_out = p->m.base.heads;
    d.w = p->m.params + p->m.n_params;
    d.b = NULL;
    return d;
}

/* Which heads of a row stay: c[h] = 1, else 0. */
static void rv__gate_choose(const rv__gate *p, const float *g, float *c)
{
    const size_t heads = p->m.base.heads;
    size_t n = 0;
    for (size_t h = 0; h < heads; h++) n += g[h] > p->threshold;
    n = n < p->least ? p->least : n > p->most ? p->most : n;
    for (size_t h = 0; h < heads; h++) {
        size_t before = 0; /* heads that go first */
        for (size_t l = 0; l < heads; l++) before += g[l] > g[h] || (g[l] == g[h] && l < h);
        c[h] = before < n ? 1.0f : 0.0f;
    }
}

/* Gates and factors of all rows. */
static rv_status rv__gate_gates(rv_ctx *ctx, const rv__gate *p)
{
    const size_t heads = p->m.base.heads, n_q = p->m.io.n_q;
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    const rv__dense layer = rv__gate_layer(p);
    float *g = p->memory + p->g, *c = p->memory + p->c;
    size_t left = 0;
    rv_status status = rv__dense_forward(ctx, &layer, g, heads);
    for (size_t i = 0; i < n_q && !status; i++, g += heads, c += heads) {
        double sum = 0.0;
        kernels->sigmoid_f32(g, g, heads);
        rv__gate_choose(p, g, c);
        for (size_t h = 0; h < heads; h++) sum += (double)(c[h] * g[h]);
        /* gates may all be 0 where sigmoid underflows: then those that stay are equal */
        for (size_t h = 0; h < heads; h++)
            c[h] *= sum > 0.0 ? (float)((double)heads * (double)g[h] / sum)
                              : (float)heads / (float)p->least;
        status = rv__poll_by(ctx, &left, heads * (heads + 20));
    }
    return status;
}

/* What the heads give, into memory; weights and lse as the caller wants them. */
static rv_status rv__gate_concat(rv_ctx *ctx, const rv__gate *p, int looks)
{
    rv_attn_io io = p->m.io;
    io.out = p->memory + p->o;
    io.out_stride = 0;
    if (!looks) io.weights = io.lse = NULL;
    return rv_attn_heads(ctx, &p->config, &io);
}

/* Each head of rows x times its factor. */
static void rv__gate_scale(const rv__gate *p, float *x)
{
    const size_t heads = p->m.base.heads, dim = p->m.io.dim_v;
    const float *c = p->memory + p->c;
    for (size_t at = 0; at < p->m.io.n_q * heads; at++)
        for (size_t j = 0; j < dim; j++) x[at * dim + j] *= c[at];
}

/* The last layer over rows o. */
static rv__dense rv__gate_last(const rv__gate *p)
{
    rv__dense d;
    d.x = p->memory + p->o;
    d.ldx = d.n_in = p->m.n_o;
    d.n = p->m.io.n_q;
    d.n_out = p->m.width_out;
    d.w = p->m.params + p->m.w_o;
    d.b = p->m.bias ? p->m.params + p->m.b_o : NULL;
    return d;
}

RV_API rv_status rv_attn_gated(rv_ctx *ctx, const rv_attn_gated_config *config,
                               const rv_attn_io *io)
{
    rv__gate p;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    status = rv__gate_open(ctx, config, io, 0, &p);
    if (status) return status;
    status = rv__gate_gates(ctx, &p);
    if (!status) status = rv__gate_concat(ctx, &p, 1);
    if (!status) rv__gate_scale(&p, p.memory + p.o);
    if (!status && p.m.output) {
        const rv__dense last = rv__gate_last(&p);
        status = rv__dense_forward(ctx, &last, io->out, p.m.io.out_stride);
    } else {
        for (size_t i = 0; i < io->n_q && !status; i++)
            memcpy(io->out + i * p.m.io.out_stride, p.memory + p.o + i * p.m.n_o,
                   p.m.n_o * sizeof(float));
    }
    if (!status && config->gates)
        memcpy(config->gates, p.memory + p.c, io->n_q * p.m.base.heads * sizeof(float));
    rv__gate_drop(ctx, &p);
    return status ? status : rv__ok(ctx);
}

/* d_g: slopes by what goes into the sigmoids, from d by the scaled rows. With t_h = d_h . o_h
   in a row, dL/dg_h = heads / sum (t_h - mean of t weighted by the gates). */
static void rv__gate_pull(const rv__gate *p, const float *d)
{
    const size_t heads = p->m.base.heads, dim = p->m.io.dim_v;
    const float *o = p->memory + p->o, *g = p->memory + p->g, *c = p->memory + p->c;
    float *d_g = p->memory + p->d_g;
    for (size_t i = 0; i < p->m.io.n_q; i++, g += heads, c += heads, d_g += heads) {
        double sum = 0.0, mean = 0.0;
        for (size_t h = 0; h < heads; h++, o += dim, d += dim) {
            double t = 0.0;
            for (size_t j = 0; j < dim; j++) t += (double)d[j] * (double)o[j];
            d_g[h] = (float)t;
            if (c[h] > 0.0f) sum += (double)g[h];
            if (c[h] > 0.0f) mean += (double)g[h] * t;
        }
        for (size_t h = 0; h < heads; h++) {
            const double slope = sum > 0.0 && c[h] > 0.0f
                                     ? (double)heads / sum * ((double)d_g[h] - mean / sum)
                                     : 0.0;
            d_g[h] = (float)(slope * (double)g[h] * (1.0 - (double)g[h]));
        }
    }
}

static rv_status rv__gate_back(rv_ctx *ctx, rv__gate *p, const rv_attn_grad *grad)
{
    float *d_o = p->memory + p->d_o, *d_x = p->memory + p->d_x, *d_w = grad->d_params;
    const size_t n_q = p->m.io.n_q, n_o = p->m.n_o;
    const rv__dense layer = rv__gate_layer(p), last = rv__gate_last(p);
    rv_attn_grad inner = *grad;
    rv_attn_io io = p->m.io;
    rv_status status = rv__gate_gates(ctx, p);
    if (!status) status = rv__gate_concat(ctx, p, 0);
    if (!status && p->m.output) { /* slopes by the scaled rows; W_o read those */
        status = rv__dense_backward(ctx, &last, grad->d_out, io.out_stride, d_o, 0, NULL, NULL);
    } else {
        for (size_t i = 0; i < n_q && !status; i++)
            memcpy(d_o + i * n_o, grad->d_out + i * io.out_stride, n_o * sizeof(float));
    }
    if (!status) rv__gate_pull(p, d_o);
    if (!status) rv__gate_scale(p, p->memory + p->o);
    if (!status && p->m.output && d_w)
        status = rv__dense_backward(ctx, &last, grad->d_out, io.out_stride, NULL, 0, d_w + p->m.w_o,
                                    p->m.bias ? d_w + p->m.b_o : NULL);
    if (!status) rv__gate_scale(p, d_o);
    inner.d_out = d_o;
    io.out_stride = 0;
    if (!status) status = rv_attn_heads_backward(ctx, &p->config, &io, &inner);
    if (!status)
        status = rv__dense_backward(ctx, &layer, p->memory + p->d_g, layer.n_out,
                                    grad->d_q ? d_x : NULL, 0, d_w ? d_w + p->m.n_params : NULL,
                                    NULL);
    for (size_t i = 0; i < n_q * p->m.width_q && grad->d_q && !status; i++)
        grad->d_q[i] += d_x[i];
    return status;
}

RV_API rv_status rv_attn_gated_backward(rv_ctx *ctx, const rv_attn_gated_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad)
{
    float nowhere = 0.0f;
    rv_attn_io with;
    rv__gate p;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    if (!grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "grad and d_out must not be NULL");
    with = *io;
    with.out = &nowhere; /* not looked at */
    status = rv__gate_open(ctx, config, &with, 1, &p);
    if (status) return status;
    status = rv__gate_back(ctx, &p, grad);
    rv__gate_drop(ctx, &p);
    return status ? status : rv__ok(ctx);
}

RV_API size_t rv_attn_gated_params(const rv_attn_gated_config *config, const rv_attn_io *io)
{
    rv__heads m;
    if (!config || !io) return 0;
    rv__heads_layout(&m, &config->heads, io);
    return rv__add(m.n_params, rv__mul(m.base.heads, m.width_q));
}

RV_API rv_status rv_attn_gated_init(rv_ctx *ctx, const rv_attn_gated_config *config,
                                    const rv_attn_io *io, float *params)
{
    rv__heads m;
    rv__rng rng;
    rv_status status;
    if (!config || !io || !params)
        return rv__fail(ctx, RV_ERR_ARG, 0, "config, io and params must not be NULL");
    status = rv_attn_heads_init(ctx, &config->heads, io, params);
    if (status) return status;
    rv__heads_layout(&m, &config->heads, io);
    rv__rng_init(&rng, rv__seed(ctx) + 1);
    rv__dense_init(&rng, m.width_q, m.base.heads, params + m.n_params);
    return rv__ok(ctx);
}

#endif /* RV_ATTN_GATED_C */
