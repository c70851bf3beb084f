#ifndef RV_ATTN_PAIR_C
#define RV_ATTN_PAIR_C
#include "attn_pair.h"
#include "base.c"
#include "simd.c"
#include "dense.c"
#include "attn.c"
#include "attn_back.c"

/* Additive: both projections are made once; then the logits of a tile are sums of two rows, one
   tanh over all of them, and dot products with z. To the engine the projected rows are the queries
   and keys, so that its slopes by them go through the projections afterwards.

   Cosine: rows divided by their lengths, queries by tau besides, and then dot products: rv_attn.
   The slope by a row x of a slope g by u = x / |x| is (g - u (u . g)) / |x|. */

#define RV__PAIR_TILE 64u        /* keys that the engine asks for at once, at most */
#define RV__PAIR_TAU_LEAST 0.01f
#define RV__PAIR_SHORT 1e-12

typedef struct rv__pair {
    rv_attn_config base;         /* defaults filled in                                            */
    rv_attn_io io, inner;        /* the caller's with strides filled in; what the engine sees     */
    size_t dim_a, heads, kv_heads;
    size_t n_w_q, n_w_k, n_z, n_params;
    const float *params;
    const rv__kernels *kernels;
    float factor;
    float *memory;
    size_t room, lane_floats;
    size_t q, k, v, d_q, d_k, lanes; /* places in memory                                          */
    size_t q_length, k_length;
} rv__pair;

/* Fills in the defaults and refuses what rv_attn would refuse. */
static rv_status rv__pair_open(rv_ctx *ctx, const rv_attn_config *base, const rv_attn_io *io,
                               rv__pair *p)
{
    rv__attn a;
    rv_status status;
    memset(&a, 0, sizeof a);
    a.config = *base;
    a.io = *io;
    rv__attn_settle(&a);
    status = rv__attn_check(ctx, &a);
    p->base = a.config;
    p->io = p->inner = a.io;
    p->heads = a.config.heads;
    p->kv_heads = a.config.kv_heads;
    p->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    return status;
}

static rv_status rv__pair_room(rv_ctx *ctx, rv__pair *p, size_t floats)
{
    const rv_alloc alloc = rv__allocator(ctx);
    p->room = floats;
    p->memory = (float *)rv__get(&alloc, floats, sizeof(float));
    return p->memory ? RV_OK : rv__no_memory(ctx, rv__mul(floats, sizeof(float)));
}

static void rv__pair_drop(rv_ctx *ctx, rv__pair *p)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__put(&alloc, p->memory, p->room, sizeof(float));
    p->memory = NULL;
}

static rv_status rv__pair_check_grad(rv_ctx *ctx, const rv_attn_grad *grad)
{
    if (grad && grad->d_out) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, 0, "grad and d_out must not be NULL");
}

/* ---- additive ---- */

static void rv__additive_sizes(rv__pair *p, const rv_attn_additive_config *config,
                               const rv_attn_io *io)
{
    p->heads = config->base.heads ? config->base.heads : 1;
    p->kv_heads = config->base.kv_heads ? config->base.kv_heads : p->heads;
    p->dim_a = config->dim_a ? config->dim_a : io->dim;
    p->n_w_q = rv__mul(rv__mul(p->heads, p->dim_a), io->dim);
    p->n_w_k = rv__mul(rv__mul(p->kv_heads, p->dim_a), io->dim);
    p->n_z = rv__mul(p->heads, p->dim_a);
    p->n_params = rv__add(rv__add(p->n_w_q, p->n_w_k), p->n_z);
    p->params = config->params;
}

/* tanh(a_i + b_j): [n, dim_a], into the lane's space. */
static float *rv__additive_hidden(const rv__pair *p, size_t lane, size_t head, size_t i, size_t j,
                                  size_t n)
{
    const size_t dim = p->dim_a, kv = head * p->kv_heads / p->heads;
    const float *a = p->memory + p->q + (i * p->heads + head) * dim;
    const float *b = p->memory + p->k + (j * p->kv_heads + kv) * dim;
    float *t = p->memory + p->lanes + lane * p->lane_floats;
    for (size_t x = 0; x < n; x++, b += p->kv_heads * dim)
        for (size_t c = 0; c < dim; c++) t[x * dim + c] = a[c] + b[c];
    p->kernels->tanh_f32(t, t, n * dim);
    return t;
}

static void rv__additive_logits(const void *user, size_t lane, size_t head, size_t i, size_t j,
                                size_t n, float *s)
{
    const rv__pair *p = (const rv__pair *)user;
    const size_t dim = p->dim_a;
    const float *z = p->params + p->n_w_q + p->n_w_k + head * dim;
    const float *t = rv__additive_hidden(p, lane, head, i, j, n);
    p->kernels->scan_dot_f32(z, (const unsigned char *)t, dim * sizeof(float), NULL, n, dim, s);
    for (size_t x = 0; x < n; x++) s[x] *= p->factor;
}

static void rv__additive_pull(const void *user, size_t lane, size_t head, size_t i, size_t j,
                              size_t n, const float *ds, float *dq, float *dk, size_t ldk,
                              double *part)
{
    const rv__pair *p = (const rv__pair *)user;
    const size_t dim = p->dim_a;
    const float *z = p->params + p->n_w_q + p->n_w_k + head * dim;
    const float *t = rv__additive_hidden(p, lane, head, i, j, n);
    double *d_z = part + head * dim;
    for (size_t x = 0; x < n; x++, t += dim, dk += ldk) {
        const float slope = ds[x] * p->factor;
        if (ds[x] == 0.0f) continue;
        for (size_t c = 0; c < dim; c++) {
            const float g = slope * z[c] * (1.0f - t[c] * t[c]);
            dq[c] += g;
            dk[c] += g;
            d_z[c] += (double)(slope * t[c]);
        }
    }
}

static rv_status rv__additive_open(rv_ctx *ctx, const rv_attn_additive_config *config,
                                   const rv_attn_io *io, int backward, rv__pair *p)
{
    const size_t lanes = rv__lanes(ctx);
    rv_attn_config base = config->base;
    size_t at = 0;
    rv_status status;
    memset(p, 0, sizeof *p);
    if (base.scale == 0.0f) base.scale = 1.0f;
    status = rv__pair_open(ctx, &base, io, p);
    if (status) return status;
    rv__additive_sizes(p, config, io);
    if (!p->params) return rv__fail(ctx, RV_ERR_ARG, 0, "params must not be NULL");
    if (p->dim_a > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dim_a is %z, allowed: 1..65535", p->dim_a);
    p->factor = p->base.scale / p->base.temperature;
    p->lane_floats = 0;
    (void)rv__dense_room(&p->lane_floats, RV__PAIR_TILE, p->dim_a);
    p->q = rv__dense_room(&at, io->n_q, p->n_z);
    p->k = rv__dense_room(&at, io->n_k, rv__mul(p->kv_heads, p->dim_a));
    p->d_q = rv__dense_room(&at, backward ? io->n_q : 0, p->n_z);
    p->d_k = rv__dense_room(&at, backward ? io->n_k : 0, rv__mul(p->kv_heads, p->dim_a));
    p->lanes = rv__dense_room(&at, lanes, p->lane_floats);
    p->v = rv__dense_room(&at, io->type != RV_DTYPE_F32 ? io->n_k : 0,
                          rv__mul(p->kv_heads, io->dim));
    return rv__pair_room(ctx, p, at);
}

/* The layer of one head of queries (which 0) or keys. */
static rv__dense rv__additive_layer(const rv__pair *p, int which, size_t head)
{
    const int narrow = p->io.type != RV_DTYPE_F32;
    rv__dense d;
    d.x = which == 0 ? p->io.q : narrow ? p->memory + p->v : (const float *)p->io.k;
    d.x += head * p->io.dim;
    d.ldx = which == 0 ? p->io.q_stride : narrow ? p->kv_heads * p->io.dim : p->io.k_stride;
    d.n = which == 0 ? p->io.n_q : p->io.n_k;
    d.n_in = p->io.dim;
    d.n_out = p->dim_a;
    d.w = p->params + (which == 0 ? 0 : p->n_w_q) + head * p->dim_a * p->io.dim;
    d.b = NULL;
    return d;
}

static rv_status rv__additive_project(rv_ctx *ctx, rv__pair *p)
{
    const size_t dim = p->dim_a;
    size_t ld = p->io.k_stride;
    rv_status status = RV_OK;
    (void)rv__dense_rows(p->kernels, (int)p->io.type, p->io.k, &ld, p->io.n_k,
                         p->kv_heads * p->io.dim, p->memory + p->v);
    for (size_t h = 0; h < p->heads && !status; h++) {
        const rv__dense d = rv__additive_layer(p, 0, h);
        status = rv__dense_forward(ctx, &d, p->memory + p->q + h * dim, p->heads * dim);
    }
    for (size_t h = 0; h < p->kv_heads && !status; h++) {
        const rv__dense d = rv__additive_layer(p, 1, h);
        status = rv__dense_forward(ctx, &d, p->memory + p->k + h * dim, p->kv_heads * dim);
    }
    /* the engine never looks at the keys themselves; values it reads in their type */
    p->inner.dim = dim;
    p->inner.q = p->memory + p->q;
    p->inner.k = p->memory + p->k;
    p->inner.q_stride = p->heads * dim;
    p->inner.k_stride = p->kv_heads * dim;
    return status;
}

static rv__attn_score rv__additive_score(const rv__pair *p)
{
    rv__attn_score score;
    score.user = p;
    score.logits = rv__additive_logits;
    score.pull = rv__additive_pull;
    score.n_part = p->n_z;
    score.work = 4 * p->dim_a;
    return score;
}

RV_API rv_status rv_attn_additive(rv_ctx *ctx, const rv_attn_additive_config *config,
                                  const rv_attn_io *io)
{
    rv__pair p;
    rv__attn_score score;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    status = rv__additive_open(ctx, config, io, 0, &p);
    if (status) return status;
    status = rv__additive_project(ctx, &p);
    score = rv__additive_score(&p);
    if (!status) status = rv__attn_forward(ctx, &p.base, &p.inner, &score);
    rv__pair_drop(ctx, &p);
    return status ? status : rv__ok(ctx);
}

/* From slopes by the projected rows to those by rows and matrices. */
static rv_status rv__additive_layers_back(rv_ctx *ctx, const rv__pair *p, const rv_attn_grad *grad)
{
    rv_status status = RV_OK;
    for (int which = 0; which < 2; which++) {
        const size_t heads = which == 0 ? p->heads : p->kv_heads, dim = p->dim_a;
        const float *from = p->memory + (which == 0 ? p->d_q : p->d_k);
        float *d_x = which == 0 ? grad->d_q : grad->d_k;
        float *d_w = grad->d_params ? grad->d_params + (which == 0 ? 0 : p->n_w_q) : NULL;
        for (size_t h = 0; h < heads && !status; h++) {
            const rv__dense d = rv__additive_layer(p, which, h);
            status = rv__dense_backward(ctx, &d, from + h * dim, heads * dim,
                                        d_x ? d_x + h * p->io.dim : NULL, heads * p->io.dim,
                                        d_w ? d_w + h * dim * p->io.dim : NULL, NULL);
        }
    }
    return status;
}

RV_API rv_status rv_attn_additive_backward(rv_ctx *ctx, const rv_attn_additive_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad)
{
    float nowhere = 0.0f;
    rv_attn_grad inner;
    rv_attn_io with;
    rv__pair p;
    rv__attn_score score;
    rv_status status = rv__pair_check_grad(ctx, grad);
    if (status) return status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    with = *io;
    with.out = &nowhere; /* not looked at */
    status = rv__additive_open(ctx, config, &with, 1, &p);
    if (status) return status;
    status = rv__additive_project(ctx, &p);
    score = rv__additive_score(&p);
    inner = *grad;
    inner.d_q = p.memory + p.d_q;
    inner.d_k = p.memory + p.d_k;
    inner.d_params = grad->d_params ? grad->d_params + p.n_w_q + p.n_w_k : NULL;
    if (!status) status = rv__attn_backward(ctx, &p.base, &p.inner, &inner, &score);
    if (!status) status = rv__additive_layers_back(ctx, &p, grad);
    rv__pair_drop(ctx, &p);
    return status ? status : rv__ok(ctx);
}

RV_API size_t rv_attn_additive_params(const rv_attn_additive_config *config, const rv_attn_io *io)
{
    rv__pair p;
    if (!config || !io) return 0;
    rv__additive_sizes(&p, config, io);
    return p.n_params;
}

RV_API rv_status rv_attn_additive_init(rv_ctx *ctx, const rv_attn_additive_config *config,
                                       const rv_attn_io *io, float *params)
{
    rv__pair p;
    rv__rng rng;
    if (!config || !io || !params)
        return rv__fail(ctx, RV_ERR_ARG, 0, "config, io and params must not be NULL");
    rv__additive_sizes(&p, config, io);
    if (io->dim == 0 || p.n_params > SIZE_MAX / 8)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim and dim_a make params of no size");
    rv__rng_init(&rng, rv__seed(ctx));
    for (size_t h = 0; h < p.heads + p.kv_heads; h++)
        rv__dense_init(&rng, io->dim, p.dim_a, params + h * p.dim_a * io->dim);
    for (size_t h = 0; h < p.heads; h++)
        rv__dense_init(&rng, p.dim_a, 1, params + p.n_w_q + p.n_w_k + h * p.dim_a);
    return rv__ok(ctx);
}

/* ---- cosine ---- */

static float rv__cosine_tau(const rv__pair *p, size_t head)
{
    const float tau = p->params ? p->params[head] : 0.1f;
    return tau >= RV__PAIR_TAU_LEAST ? tau : RV__PAIR_TAU_LEAST;
}

static rv_status rv__cosine_open(rv_ctx *ctx, const rv_attn_cosine_config *config,
                                 const rv_attn_io *io, int backward, rv__pair *p)
{
    const int narrow = io->type != RV_DTYPE_F32;
    size_t at = 0;
    rv_status status;
    memset(p, 0, sizeof *p);
    if (config->base.scale != 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "scale is %f, cosine attention has none: 0",
                        (double)config->base.scale);
    if (config->base.temperature != 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "temperature is %f, must be 0: params hold one for every head",
                        (double)config->base.temperature);
    status = rv__pair_open(ctx, &config->base, io, p);
    if (status) return status;
    p->base.scale = 1.0f;
    p->params = config->params;
    for (size_t h = 0; h < p->heads && p->params; h++)
        if (!rv__finite_f32(p->params[h]))
            return rv__fail(ctx, RV_ERR_CONFIG, h, "params[%z], a tau, must be finite", h);
    p->q = rv__dense_room(&at, io->n_q, p->heads * io->dim);
    p->k = rv__dense_room(&at, io->n_k, p->kv_heads * io->dim);
    p->v = rv__dense_room(&at, narrow ? io->n_k : 0, p->kv_heads * p->io.dim_v);
    p->d_q = rv__dense_room(&at, backward ? io->n_q : 0, p->heads * io->dim);
    p->d_k = rv__dense_room(&at, backward ? io->n_k : 0, p->kv_heads * io->dim);
    p->q_length = rv__dense_room(&at, io->n_q, p->heads);
    p->k_length = rv__dense_room(&at, io->n_k, p->kv_heads);
    return rv__pair_room(ctx, p, at);
}

/* x: [n, heads * dim], rows ld apart, divided by their lengths and by tau, into u, packed.
   length: [n, heads] 1 / |x|, 0 of a short one. x may be u. */
static rv_status rv__cosine_unit(rv_ctx *ctx, const rv__pair *p, int keys, const float *x,
                                 size_t ld, float *u, float *length)
{
    const size_t dim = p->io.dim, n = keys ? p->io.n_k : p->io.n_q;
    const size_t heads = keys ? p->kv_heads : p->heads;
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        rv_status status = rv__poll_by(ctx, &left, 2 * heads * dim);
        if (status) return status;
        for (size_t h = 0; h < heads; h++) {
            const float *from = x + i * ld + h * dim;
            float *to = u + (i * heads + h) * dim;
            double square = 0.0, by;
            for (size_t c = 0; c < dim; c++) square += (double)from[c] * (double)from[c];
            by = square < RV__PAIR_SHORT * RV__PAIR_SHORT ? 0.0 : 1.0 / sqrt(square);
            length[i * heads + h] = (float)by;
            if (!keys) by /= (double)rv__cosine_tau(p, h);
            for (size_t c = 0; c < dim; c++) to[c] = (float)((double)from[c] * by);
        }
    }
    return RV_OK;
}

static rv_status rv__cosine_prepare(rv_ctx *ctx, rv__pair *p)
{
    const rv_attn_io *io = &p->io;
    const size_t kv = p->kv_heads;
    size_t ldk = io->k_stride, ldv = io->v_stride;
    const float *k = rv__dense_rows(p->kernels, (int)io->type, io->k, &ldk, io->n_k, kv * io->dim,
                                    p->memory + p->k);
    rv_status status = rv__cosine_unit(ctx, p, 0, io->q, io->q_stride, p->memory + p->q,
                                       p->memory + p->q_length);
    if (!status)
        status = rv__cosine_unit(ctx, p, 1, k, ldk, p->memory + p->k, p->memory + p->k_length);
    p->inner.v = rv__dense_rows(p->kernels, (int)io->type, io->v, &ldv, io->n_k, kv * io->dim_v,
                                p->memory + p->v);
    p->inner.q = p->memory + p->q;
    p->inner.k = p->memory + p->k;
    p->inner.q_stride = p->inner.k_stride = 0;
    p->inner.v_stride = ldv;
    p->inner.type = RV_DTYPE_F32;
    return status;
}

RV_API rv_status rv_attn_cosine(rv_ctx *ctx, const rv_attn_cosine_config *config,
                                const rv_attn_io *io)
{
    rv_attn_cosine_config none;
    rv__pair p;
    rv_status status;
    memset(&none, 0, sizeof none);
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    status = rv__cosine_open(ctx, config ? config : &none, io, 0, &p);
    if (status) return status;
    status = rv__cosine_prepare(ctx, &p);
    if (!status) status = rv_attn(ctx, &p.base, &p.inner);
    rv__pair_drop(ctx, &p);
    return status ? status : rv__ok(ctx);
}

/* Slopes by rows from those by what they became. sums: by 1 / tau of every head, times 1 / tau. */
static rv_status rv__cosine_rows_back(rv_ctx *ctx, const rv__pair *p, int keys, float *d_x,
                                      double *sums)
{
    const size_t dim = p->io.dim, n = keys ? p->io.n_k : p->io.n_q;
    const size_t heads = keys ? p->kv_heads : p->heads;
    const float *u = p->memory + (keys ? p->k : p->q), *g = p->memory + (keys ? p->d_k : p->d_q);
    const float *length = p->memory + (keys ? p->k_length : p->q_length);
    size_t left = 0;
    for (size_t at = 0; at < n * heads; at++, u += dim, g += dim) {
        const double tau = keys ? 1.0 : (double)rv__cosine_tau(p, at % heads);
        const double by = (double)length[at] / tau;
        double along = 0.0;
        rv_status status = rv__poll_by(ctx, &left, 2 * dim);
        if (status) return status;
        for (size_t c = 0; c < dim; c++) along += (double)u[c] * (double)g[c];
        if (sums) sums[at % heads] += along;
        along *= tau * tau; /* u is the unit vector over tau */
        for (size_t c = 0; c < dim && d_x; c++)
            d_x[at * dim + c] = (float)(((double)g[c] - along * (double)u[c]) * by);
    }
    return RV_OK;
}

static rv_status rv__cosine_pull(rv_ctx *ctx, rv__pair *p, const rv_attn_grad *grad, double *sums)
{
    rv_attn_grad inner = *grad;
    rv_status status = rv__cosine_prepare(ctx, p);
    inner.d_q = p->memory + p->d_q;
    inner.d_k = p->memory + p->d_k;
    inner.d_params = NULL;
    if (!status) status = rv__attn_backward(ctx, &p->base, &p->inner, &inner, NULL);
    if (!status) status = rv__cosine_rows_back(ctx, p, 0, grad->d_q, sums);
    if (!status) status = rv__cosine_rows_back(ctx, p, 1, grad->d_k, NULL);
    for (size_t h = 0; h < p->heads && grad->d_params && !status; h++) {
        const float tau = rv__cosine_tau(p, h);
        const int held = p->params && p->params[h] < RV__PAIR_TAU_LEAST;
        grad->d_params[h] = held ? 0.0f : (float)(-sums[h] / (double)tau);
    }
    return status;
}

RV_API rv_status rv_attn_cosine_backward(rv_ctx *ctx, const rv_attn_cosine_config *config,
                                         const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    float nowhere = 0.0f;
    double *sums;
    rv_attn_cosine_config none;
    rv_attn_io with;
    rv__pair p;
    rv_status status = rv__pair_check_grad(ctx, grad);
    if (status) return status;
    memset(&none, 0, sizeof none);
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    with = *io;
    with.out = &nowhere; /* not looked at */
    status = rv__cosine_open(ctx, config ? config : &none, &with, 1, &p);
    if (status) return status;
    sums = (double *)rv__get_zero(&alloc, p.heads, sizeof(double));
    status = sums ? rv__cosine_pull(ctx, &p, grad, sums)
                  : rv__no_memory(ctx, p.heads * sizeof(double));
    rv__put(&alloc, sums, p.heads, sizeof(double));
    rv__pair_drop(ctx, &p);
    return status ? status : rv__ok(ctx);
}

RV_API size_t rv_attn_cosine_params(const rv_attn_cosine_config *config, const rv_attn_io *io)
{
    (void)io;
    return config && config->base.heads ? config->base.heads : 1;
}

RV_API rv_status rv_attn_cosine_init(rv_ctx *ctx, const rv_attn_cosine_config *config,
                                     const rv_attn_io *io, float *params)
{
    if (!params) return rv__fail(ctx, RV_ERR_ARG, 0, "params must not be NULL");
    for (size_t h = 0; h < rv_attn_cosine_params(config, io); h++) params[h] = 0.1f;
    return rv__ok(ctx);
}

#undef RV__PAIR_TILE
#undef RV__PAIR_TAU_LEAST
#undef RV__PAIR_SHORT

#endif /* RV_ATTN_PAIR_C */
