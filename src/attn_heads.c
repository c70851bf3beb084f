#ifndef RV_ATTN_HEADS_C
#define RV_ATTN_HEADS_C
#include "attn_heads.h"
#include "base.c"
#include "simd.c"
#include "dense.c"
#include "attn.c"
#include "attn_back.c"

/* Multi-head attention: three layers, rv_attn over what they give, one layer. The backward pass
   makes the projected rows again instead of keeping them from the forward pass. Everything between
   layers lies in one block. */

typedef struct rv__heads {
    rv_attn_config base;     /* defaults filled in                                                */
    rv_attn_io io;           /* strides filled in; q, k, v, out are the caller's                  */
    rv_attn_io inner;        /* what the attention sees                                           */
    size_t bias, output;     /* 1: they are there                                                 */
    size_t width_q, width_k, width_v, width_out;
    size_t n_q, n_k, n_v, n_o; /* widths after projection, and of what W_o reads                  */
    size_t w_q, w_k, w_v, b_q, b_k, b_v, w_o, b_o, n_params; /* places in params                  */
    const float *params;
    const rv__kernels *kernels;
    float *memory;
    size_t room;             /* floats of memory                                                  */
    size_t q, k, v, o, wide_k, wide_v; /* places in memory                                   */
} rv__heads;

static size_t rv__heads_place(size_t *at, size_t rows, size_t cols)
{
    const size_t here = *at;
    *at = rv__add(here, rv__mul(rows, cols));
    return here;
}

/* Widths and places; heads, kv_heads and dim may still be nonsense. */
static void rv__heads_layout(rv__heads *m, const rv_attn_heads_config *config,
                             const rv_attn_io *io)
{
    const size_t dim_v = io->dim_v ? io->dim_v : io->dim;
    size_t at = 0;
    memset(m, 0, sizeof *m);
    m->base = config->base;
    m->io = *io;
    m->io.dim_v = dim_v;
    if (m->base.heads == 0) m->base.heads = 1;
    if (m->base.kv_heads == 0) m->base.kv_heads = m->base.heads;
    m->bias = !config->no_bias;
    m->output = !config->no_output;
    m->n_q = rv__mul(m->base.heads, io->dim);
    m->n_k = rv__mul(m->base.kv_heads, io->dim);
    m->n_v = rv__mul(m->base.kv_heads, dim_v);
    m->n_o = rv__mul(m->base.heads, dim_v);
    m->width_q = config->width_q ? config->width_q : m->n_q;
    m->width_k = config->width_k ? config->width_k : m->width_q;
    m->width_v = config->width_v ? config->width_v : m->width_q;
    m->width_out = config->width_out ? config->width_out : m->output ? m->width_q : m->n_o;
    m->params = config->params;
    m->w_q = rv__heads_place(&at, m->n_q, m->width_q);
    m->w_k = rv__heads_place(&at, m->n_k, m->width_k);
    m->w_v = rv__heads_place(&at, m->n_v, m->width_v);
    m->b_q = rv__heads_place(&at, m->n_q, m->bias);
    m->b_k = rv__heads_place(&at, m->n_k, m->bias);
    m->b_v = rv__heads_place(&at, m->n_v, m->bias);
    m->w_o = rv__heads_place(&at, m->output ? m->width_out : 0, m->n_o);
    m->b_o = rv__heads_place(&at, m->output ? m->width_out : 0, m->bias);
    m->n_params = at;
}

static rv_status rv__heads_stride(rv_ctx *ctx, size_t *stride, size_t width, const char *name)
{
    if (*stride == 0) *stride = width;
    if (*stride >= width) return RV_OK;
    return rv__fail(ctx, RV_ERR_DIM, 0, "%s is %z, must be at least the row's width (%z)", name,
                    *stride, width);
}

/* Fills in the defaults of a configuration as the attention will see it, and refuses what it would
   refuse. */
RV__FN rv_status rv__heads_check_inner(rv_ctx *ctx, rv_attn_config *base, rv_attn_io *inner)
{
    rv__attn a;
    rv_status status;
    memset(&a, 0, sizeof a);
    a.config = *base;
    a.io = *inner;
    rv__attn_settle(&a);
    status = rv__attn_check(ctx, &a);
    *base = a.config;
    *inner = a.io;
    return status;
}

static rv_status rv__heads_check(rv_ctx *ctx, rv__heads *m)
{
    rv_status status;
    m->inner = m->io;
    m->inner.q_stride = m->inner.k_stride = m->inner.v_stride = m->inner.out_stride = 0;
    status = rv__heads_check_inner(ctx, &m->base, &m->inner);
    if (!status && !m->output && m->width_out != m->n_o)
        status = rv__fail(ctx, RV_ERR_CONFIG, 0,
                          "width_out is %z, without W_o it must be 0 or heads * dim_v (%z)",
                          m->width_out, m->n_o);
    if (!status && m->n_params > SIZE_MAX / 8)
        status = rv__fail(ctx, RV_ERR_DIM, 0, "the widths make params of no size");
    if (!status) status = rv__heads_stride(ctx, &m->io.q_stride, m->width_q, "q_stride");
    if (!status) status = rv__heads_stride(ctx, &m->io.k_stride, m->width_k, "k_stride");
    if (!status) status = rv__heads_stride(ctx, &m->io.v_stride, m->width_v, "v_stride");
    if (!status) status = rv__heads_stride(ctx, &m->io.out_stride, m->width_out, "out_stride");
    return status;
}

/* A configuration without projections has the widths of rv_attn. */
static rv_status rv__heads_plain(rv_ctx *ctx, const rv__heads *m)
{
    if (m->width_q != m->n_q || m->width_k != m->n_k || m->width_v != m->n_v ||
        m->width_out != m->n_o)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "without params rows are heads * dim (%z) wide, other widths need params",
                        m->n_q);
    return RV_OK;
}

/* Without params the widths that are not said are those of rv_attn. */
static void rv__heads_plain_widths(rv__heads *m, const rv_attn_heads_config *config)
{
    if (!config->width_k) m->width_k = m->n_k;
    if (!config->width_v) m->width_v = m->n_v;
    if (!config->width_out) m->width_out = m->n_o;
}

/* Memory for the rows after projection; of a backward pass twice, and for the mean. */
static rv_status rv__heads_room(rv_ctx *ctx, rv__heads *m, int backward)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t n_q = m->io.n_q, n_k = m->io.n_k, sides = backward ? 2 : 1;
    const int narrow = m->io.type != RV_DTYPE_F32;
    size_t at = 0;
    m->q = rv__dense_room(&at, rv__mul(sides, n_q), m->n_q);
    m->k = rv__dense_room(&at, rv__mul(sides, n_k), m->n_k);
    m->v = rv__dense_room(&at, rv__mul(sides, n_k), m->n_v);
    m->o = rv__dense_room(&at, rv__mul(sides, m->output || backward ? n_q : 0), m->n_o);
    m->wide_k = rv__dense_room(&at, narrow ? n_k : 0, m->width_k);
    m->wide_v = rv__dense_room(&at, narrow ? n_k : 0, m->width_v);
    m->room = at;
    m->memory = (float *)rv__get(&alloc, at, sizeof(float));
    m->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    return m->memory ? RV_OK : rv__no_memory(ctx, rv__mul(at, sizeof(float)));
}

static void rv__heads_drop(rv_ctx *ctx, rv__heads *m)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__put(&alloc, m->memory, m->room, sizeof(float));
    m->memory = NULL;
}

/* The layers before the attention: 0 queries, 1 keys, 2 values. */
static rv__dense rv__heads_layer(const rv__heads *m, int which)
{
    const rv_attn_io *io = &m->io;
    rv__dense d;
    d.ldx = which == 0 ? io->q_stride : which == 1 ? io->k_stride : io->v_stride;
    d.n = which == 0 ? io->n_q : io->n_k;
    d.n_in = which == 0 ? m->width_q : which == 1 ? m->width_k : m->width_v;
    d.n_out = which == 0 ? m->n_q : which == 1 ? m->n_k : m->n_v;
    d.w = rv__dense_at(m->params, which == 0 ? m->w_q : which == 1 ? m->w_k : m->w_v);
    d.b = m->bias ? m->params + (which == 0 ? m->b_q : which == 1 ? m->b_k : m->b_v) : NULL;
    d.x = io->q;
    if (which == 0) return d;
    d.x = (const float *)(which == 1 ? io->k : io->v);
    if (io->type != RV_DTYPE_F32) {
        d.x = rv__dense_at(m->memory, which == 1 ? m->wide_k : m->wide_v);
        d.ldx = d.n_in;
    }
    return d;
}

static rv__dense rv__heads_last(const rv__heads *m)
{
    rv__dense d;
    d.x = rv__dense_at(m->memory, m->o);
    d.w = rv__dense_at(m->params, m->w_o);
    d.b = m->bias ? m->params + m->b_o : NULL;
    d.ldx = m->n_o;
    d.n = m->io.n_q;
    d.n_in = m->n_o;
    d.n_out = m->width_out;
    return d;
}

/* Projects q, k and v into memory and points inner at them. */
static rv_status rv__heads_project(rv_ctx *ctx, rv__heads *m)
{
    const size_t place[3] = {m->q, m->k, m->v};
    size_t ld = m->io.k_stride;
    rv_status status = RV_OK;
    if (m->io.type != RV_DTYPE_F32) {
        (void)rv__dense_rows(m->kernels, (int)m->io.type, m->io.k, &ld, m->io.n_k, m->width_k,
                             m->memory + m->wide_k);
        ld = m->io.v_stride;
        (void)rv__dense_rows(m->kernels, (int)m->io.type, m->io.v, &ld, m->io.n_k, m->width_v,
                             m->memory + m->wide_v);
    }
    for (int which = 0; which < 3 && !status; which++) {
        const rv__dense d = rv__heads_layer(m, which);
        status = rv__dense_forward(ctx, &d, m->memory + place[which], d.n_out);
    }
    m->inner.type = RV_DTYPE_F32;
    m->inner.q = m->memory + m->q;
    m->inner.k = m->memory + m->k;
    m->inner.v = m->memory + m->v;
    return status;
}

RV_API rv_status rv_attn_heads(rv_ctx *ctx, const rv_attn_heads_config *config,
                               const rv_attn_io *io)
{
    rv_attn_heads_config none;
    rv__heads m;
    rv_status status;
    memset(&none, 0, sizeof none);
    if (!config) config = &none;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    rv__heads_layout(&m, config, io);
    if (!m.params) {
        rv__heads_plain_widths(&m, config);
        status = rv__heads_plain(ctx, &m);
        return status ? status : rv_attn(ctx, &config->base, io);
    }
    status = rv__heads_check(ctx, &m);
    if (status || io->n_q == 0) return status ? status : rv__ok(ctx);
    status = rv__heads_room(ctx, &m, 0);
    if (!status) status = rv__heads_project(ctx, &m);
    if (!status && m.output) m.inner.out = m.memory + m.o;
    else m.inner.out_stride = m.io.out_stride;
    if (!status) status = rv_attn(ctx, &m.base, &m.inner);
    if (!status && m.output) {
        const rv__dense last = rv__heads_last(&m);
        status = rv__dense_forward(ctx, &last, io->out, m.io.out_stride);
    }
    rv__heads_drop(ctx, &m);
    return status ? status : rv__ok(ctx);
}

/* Slopes of the last layer, of the attention, of the first layers. */
static rv_status rv__heads_pull(rv_ctx *ctx, rv__heads *m, const rv_attn_grad *grad)
{
    float *d_o = m->memory + m->o + m->io.n_q * m->n_o, *d_w = grad->d_params;
    float *into[3];
    const size_t w[3] = {m->w_q, m->w_k, m->w_v}, b[3] = {m->b_q, m->b_k, m->b_v};
    rv_attn_grad inner = *grad;
    rv_status status = RV_OK;
    into[0] = inner.d_q = m->memory + m->q + m->io.n_q * m->n_q;
    into[1] = inner.d_k = m->memory + m->k + m->io.n_k * m->n_k;
    into[2] = inner.d_v = m->memory + m->v + m->io.n_k * m->n_v;
    inner.d_params = NULL;
    m->inner.weights = m->inner.lse = NULL;
    m->inner.out = m->memory + m->o;
    if (m->output && d_w) status = rv_attn(ctx, &m->base, &m->inner); /* what W_o read */
    if (!status && m->output) {
        const rv__dense last = rv__heads_last(m);
        status = rv__dense_backward(ctx, &last, grad->d_out, m->io.out_stride, d_o, 0,
                                    d_w ? d_w + m->w_o : NULL,
                                    d_w && m->bias ? d_w + m->b_o : NULL);
    } else if (!status) {
        for (size_t i = 0; i < m->io.n_q; i++)
            memcpy(d_o + i * m->n_o, grad->d_out + i * m->io.out_stride, m->n_o * sizeof(float));
    }
    inner.d_out = d_o;
    if (!status) status = rv__attn_backward(ctx, &m->base, &m->inner, &inner, NULL);
    for (int which = 0; which < 3 && !status; which++) {
        const rv__dense d = rv__heads_layer(m, which);
        float *d_x = which == 0 ? grad->d_q : which == 1 ? grad->d_k : grad->d_v;
        status = rv__dense_backward(ctx, &d, into[which], d.n_out, d_x, 0,
                                    d_w ? d_w + w[which] : NULL,
                                    d_w && m->bias ? d_w + b[which] : NULL);
    }
    return status;
}

RV_API rv_status rv_attn_heads_backward(rv_ctx *ctx, const rv_attn_heads_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad)
{
    float nowhere = 0.0f;
    rv_attn_heads_config none;
    rv__heads m;
    rv_status status;
    memset(&none, 0, sizeof none);
    if (!config) config = &none;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    if (!grad || (!grad->d_out && io->n_q))
        return rv__fail(ctx, RV_ERR_ARG, 0, "grad and d_out must not be NULL");
    rv__heads_layout(&m, config, io);
    if (!m.params) {
        rv__heads_plain_widths(&m, config);
        status = rv__heads_plain(ctx, &m);
        return status ? status : rv__attn_backward(ctx, &config->base, io, grad, NULL);
    }
    m.io.out = &nowhere; /* not looked at */
    status = rv__heads_check(ctx, &m);
    if (!status) status = rv__heads_room(ctx, &m, 1);
    if (status) return status;
    status = rv__heads_project(ctx, &m);
    if (!status) status = rv__heads_pull(ctx, &m, grad);
    rv__heads_drop(ctx, &m);
    return status ? status : rv__ok(ctx);
}

RV_API size_t rv_attn_heads_params(const rv_attn_heads_config *config, const rv_attn_io *io)
{
    rv_attn_heads_config none;
    rv__heads m;
    memset(&none, 0, sizeof none);
    if (!io) return 0;
    rv__heads_layout(&m, config ? config : &none, io);
    return m.n_params;
}

RV_API rv_status rv_attn_heads_init(rv_ctx *ctx, const rv_attn_heads_config *config,
                                    const rv_attn_io *io, float *params)
{
    rv_attn_heads_config none;
    rv__heads m;
    rv__rng rng;
    memset(&none, 0, sizeof none);
    if (!io || !params) return rv__fail(ctx, RV_ERR_ARG, 0, "io and params must not be NULL");
    rv__heads_layout(&m, config ? config : &none, io);
    if (m.n_params == 0 || m.n_params > SIZE_MAX / 8)
        return rv__fail(ctx, RV_ERR_DIM, 0, "the widths make params of no size");
    memset(params, 0, m.n_params * sizeof(float));
    rv__rng_init(&rng, rv__seed(ctx));
    rv__dense_init(&rng, m.width_q, m.n_q, params + m.w_q);
    rv__dense_init(&rng, m.width_k, m.n_k, params + m.w_k);
    rv__dense_init(&rng, m.width_v, m.n_v, params + m.w_v);
    if (m.output) rv__dense_init(&rng, m.n_o, m.width_out, params + m.w_o);
    return rv__ok(ctx);
}

#endif /* RV_ATTN_HEADS_C */
