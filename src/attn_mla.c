#ifndef RV_ATTN_MLA_C
#define RV_ATTN_MLA_C
#include "attn_heads.h"
#include "position.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "dense.c"
#include "attn.c"
#include "attn_back.c"
#include "attn_heads.c"

/* Multi-head latent attention through rv_attn, in two forms. Rebuilt: keys [k_h, r] and values v_h
   of every head are made from the latent rows. Absorbed: since q_h . (W_kh c) = (W_kh^T q_h) . c,
   the queries become [W_kh^T q_h, p_h], all heads share the one head of keys [c, r], whose first
   part is also the values, and W_vh follows the mean. The backward pass goes through the rebuilt
   form, whatever the forward pass took. */

typedef struct rv__mla {
    rv_attn_config base;
    rv_attn_io io, inner;
    size_t width_q, width_k, width_out, latent, latent_q, rope, heads, dim, dim_v, past;
    size_t row;              /* latent + rope                                                     */
    size_t head_q, head_u;   /* dim + rope; dim + dim_v                                           */
    rv_rope_config turn;
    double gain;             /* of cosines and sines                                              */
    int cached, absorbed;
    size_t w_d, w_q, w_c, w_u, w_o, n_params; /* places in params                                 */
    const float *params;
    const rv__kernels *kernels;
    float *memory;
    size_t room;
    size_t theta, wide, u, q, c, kv, k, turned, wq, mean, o; /* places in memory                  */
    size_t d_o, d_q, d_k, d_v, d_kv, d_u, d_c;      /* of the backward pass                       */
} rv__mla;

static void rv__mla_layout(rv__mla *m, const rv_attn_mla_config *config, const rv_attn_io *io)
{
    const size_t half = io->dim / 2 - io->dim / 2 % 2;
    size_t at = 0;
    memset(m, 0, sizeof *m);
    m->base = config->base;
    m->io = *io;
    m->dim = io->dim;
    m->dim_v = m->io.dim_v = io->dim_v ? io->dim_v : io->dim;
    m->heads = m->base.heads ? m->base.heads : 1;
    m->latent = config->latent ? config->latent : rv__mul(4, io->dim);
    m->latent_q = config->latent_q;
    m->rope = config->no_rope ? 0 : config->rope ? config->rope : half ? half : 2;
    m->turn = config->turn;
    m->row = rv__add(m->latent, m->rope);
    m->head_q = rv__add(m->dim, m->rope);
    m->head_u = rv__add(m->dim, m->dim_v);
    m->width_q = config->width_q ? config->width_q : rv__mul(m->heads, m->dim);
    m->width_k = config->width_k ? config->width_k : m->width_q;
    m->width_out = config->width_out ? config->width_out : m->width_q;
    m->cached = config->cached;
    m->absorbed = config->absorbed;
    m->params = config->params;
    m->w_d = rv__heads_place(&at, m->latent_q, m->width_q);
    m->w_q = rv__heads_place(&at, rv__mul(m->heads, m->head_q),
                             m->latent_q ? m->latent_q : m->width_q);
    m->w_c = rv__heads_place(&at, m->row, m->width_k);
    m->w_u = rv__heads_place(&at, rv__mul(m->heads, m->head_u), m->latent);
    m->w_o = rv__heads_place(&at, m->width_out, rv__mul(m->heads, m->dim_v));
    m->n_params = at;
}

static rv_status rv__mla_check_config(rv_ctx *ctx, const rv__mla *m,
                                      const rv_attn_mla_config *config)
{
    if (config->base.kv_heads && config->base.kv_heads != m->heads)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "kv_heads is %z, latent attention has none: 0 or heads (%z)",
                        (size_t)config->base.kv_heads, m->heads);
    if (m->base.heads > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "heads is %z, allowed: 1..65535", m->heads);
    if (m->rope % 2)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "rope is %z, must be even", m->rope);
    if (config->no_rope && config->rope)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "rope is %z, with no_rope it must be 0",
                        config->rope);
    if (m->turn.rotary_dim && m->turn.rotary_dim != m->rope)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "turn.rotary_dim is %z, must be 0 or rope (%z)",
                        m->turn.rotary_dim, m->rope);
    if (m->latent > 65535u || m->row > 65535u || m->head_q > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "latent is %z and rope %z; latent + rope and dim + rope: at most 65535",
                        m->latent, m->rope);
    if (m->n_params == 0 || m->n_params > SIZE_MAX / 8)
        return rv__fail(ctx, RV_ERR_DIM, 0, "the widths make params of no size");
    return RV_OK;
}

static rv_status rv__mla_check(rv_ctx *ctx, rv__mla *m, const rv_attn_mla_config *config)
{
    const double scale = 1.0 / sqrt((double)m->dim + (double)m->rope);
    rv_status status;
    if (m->io.v) return rv__fail(ctx, RV_ERR_ARG, 0, "v must be NULL, values are made of k");
    if (!m->params) return rv__fail(ctx, RV_ERR_ARG, 0, "params must not be NULL");
    m->inner = m->io;
    m->inner.v = m->io.k;
    m->inner.q_stride = m->inner.k_stride = m->inner.v_stride = m->inner.out_stride = 0;
    if (m->base.scale == 0.0f) m->base.scale = (float)scale;
    m->base.kv_heads = 0;
    status = rv__heads_check_inner(ctx, &m->base, &m->inner);
    if (!status) status = rv__mla_check_config(ctx, m, config);
    if (!status) status = rv__heads_stride(ctx, &m->io.q_stride, m->width_q, "q_stride");
    if (!status)
        status = rv__heads_stride(ctx, &m->io.k_stride, m->cached ? m->row : m->width_k,
                                  "k_stride");
    if (!status) status = rv__heads_stride(ctx, &m->io.out_stride, m->width_out, "out_stride");
    m->past = m->base.order != RV_ATTN_CAUSAL  ? m->base.past
              : m->io.n_k > m->io.n_q ? m->io.n_k - m->io.n_q
                                      : 0;
    if (!status && m->rope && (m->past > 1048576u - m->io.n_q || m->io.n_q > 1048576u ||
                               m->io.n_k > 1048576u))
        status = rv__fail(ctx, RV_ERR_DIM, 0, "positions reach %z, must be below 2^20",
                          rv__add(m->past, m->io.n_q));
    return status;
}

static void rv__mla_drop(rv_ctx *ctx, rv__mla *m)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__put(&alloc, m->memory, m->room, sizeof(float));
    m->memory = NULL;
}

/* Memory. The rebuilt form is the backward pass's, too. */
static rv_status rv__mla_room(rv_ctx *ctx, rv__mla *m, int backward)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t n_q = m->io.n_q, n_k = m->io.n_k, heads = m->heads;
    const size_t back_q = backward ? n_q : 0, back_k = backward ? n_k : 0;
    const size_t built = m->absorbed ? 0 : n_k, absorbed = m->absorbed ? n_q : 0;
    const int narrow = m->io.type != RV_DTYPE_F32;
    size_t at = 0;
    rv_status status;
    m->theta = rv__dense_room(&at, 1, m->rope); /* rope / 2 doubles */
    m->wide = rv__dense_room(&at, narrow ? n_k : 0, m->cached ? m->row : m->width_k);
    m->u = rv__dense_room(&at, n_q, m->latent_q);
    m->q = rv__dense_room(&at, n_q, rv__mul(heads, m->head_q));
    m->c = rv__dense_room(&at, m->cached && m->absorbed ? 0 : n_k, m->row);
    m->kv = rv__dense_room(&at, built, rv__mul(heads, m->head_u));
    m->k = rv__dense_room(&at, built, rv__mul(heads, m->head_q));
    m->turned = rv__dense_room(&at, m->absorbed ? m->latent : 0, m->dim);
    m->wq = rv__dense_room(&at, absorbed, rv__mul(heads, m->row));
    m->mean = rv__dense_room(&at, absorbed, rv__mul(heads, m->latent));
    m->o = rv__dense_room(&at, n_q, rv__mul(heads, m->dim_v));
    m->d_o = rv__dense_room(&at, back_q, rv__mul(heads, m->dim_v));
    m->d_q = rv__dense_room(&at, back_q, rv__mul(heads, m->head_q));
    m->d_k = rv__dense_room(&at, back_k, rv__mul(heads, m->head_q));
    m->d_v = rv__dense_room(&at, back_k, rv__mul(heads, m->dim_v));
    m->d_kv = rv__dense_room(&at, back_k, rv__mul(heads, m->head_u));
    m->d_u = rv__dense_room(&at, back_q, m->latent_q);
    m->d_c = rv__dense_room(&at, back_k, rv__mul(2, m->row));
    m->room = at;
    m->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    m->memory = (float *)rv__get(&alloc, at, sizeof(float));
    if (!m->memory) return rv__no_memory(ctx, rv__mul(at, sizeof(float)));
    if (!m->rope) return RV_OK;
    status = rv_rope_angles(ctx, &m->turn, m->rope, (double *)(void *)(m->memory + m->theta),
                            &m->gain);
    if (status) rv__mla_drop(ctx, m);
    return status;
}

/* Turns `parts` pieces of each row, piece apart, by the row's position first + i; back: the other
   way, which is the transposed turn of the backward pass. */
static rv_status rv__mla_turn(rv_ctx *ctx, const rv__mla *m, size_t first, int back, float *x,
                              size_t n, size_t ld, size_t parts, size_t piece)
{
    const double *theta = (const double *)(const void *)(m->memory + m->theta);
    const size_t half = m->rope / 2, halves = m->turn.layout == RV_ROPE_HALVES;
    size_t left = 0;
    for (size_t i = 0; i < n && m->rope; i++) {
        rv_status status = rv__poll_by(ctx, &left, m->rope * (parts + 30));
        if (status) return status;
        for (size_t t = 0; t < half; t++) {
            const size_t low = halves ? t : 2 * t, high = halves ? t + half : 2 * t + 1;
            double sine, cosine;
            float s, c;
            rv__sincos(theta[t] * ((double)first + (double)i), &sine, &cosine);
            s = (float)(m->gain * (back ? -sine : sine));
            c = (float)(m->gain * cosine);
            for (size_t part = 0; part < parts; part++) {
                float *at = x + i * ld + part * piece, a = at[low], b = at[high];
                at[low] = a * c - b * s;
                at[high] = a * s + b * c;
            }
        }
    }
    return RV_OK;
}

static rv__dense rv__mla_layer(const float *x, size_t ldx, size_t n, const float *w, size_t n_in,
                               size_t n_out)
{
    rv__dense d;
    d.x = x;
    d.w = w;
    d.b = NULL;
    d.ldx = ldx;
    d.n = n;
    d.n_in = n_in;
    d.n_out = n_out;
    return d;
}

/* The layers: 0 W_d, 1 W_q, 2 W_c, 3 W_u, 4 W_o. */
static rv__dense rv__mla_layer_of(const rv__mla *m, int which)
{
    const rv_attn_io *io = &m->io;
    const int narrow = io->type != RV_DTYPE_F32;
    const float *u = m->latent_q ? rv__dense_at(m->memory, m->u) : io->q;
    const float *y = narrow ? rv__dense_at(m->memory, m->wide) : (const float *)io->k;
    const size_t wide_u = m->latent_q ? m->latent_q : m->width_q;
    const size_t ldu = m->latent_q ? m->latent_q : io->q_stride;
    const size_t places[5] = {m->w_d, m->w_q, m->w_c, m->w_u, m->w_o};
    const float *w = rv__dense_at(m->params, places[which]);
    if (which == 0)
        return rv__mla_layer(io->q, io->q_stride, io->n_q, w, m->width_q, m->latent_q);
    if (which == 1) return rv__mla_layer(u, ldu, io->n_q, w, wide_u, m->heads * m->head_q);
    if (which == 2)
        return rv__mla_layer(y, narrow ? m->width_k : io->k_stride, io->n_k, w, m->width_k, m->row);
    if (which == 3)
        return rv__mla_layer(rv__dense_at(m->memory, m->c), m->row, io->n_k, w, m->latent,
                             m->heads * m->head_u);
    return rv__mla_layer(rv__dense_at(m->memory, m->o), m->heads * m->dim_v, io->n_q, w,
                         m->heads * m->dim_v, m->width_out);
}

static rv_status rv__mla_queries(rv_ctx *ctx, const rv__mla *m)
{
    float *q = m->memory + m->q;
    rv__dense d = rv__mla_layer_of(m, 0);
    rv_status status = RV_OK;
    if (m->latent_q) status = rv__dense_forward(ctx, &d, m->memory + m->u, m->latent_q);
    d = rv__mla_layer_of(m, 1);
    if (!status) status = rv__dense_forward(ctx, &d, q, d.n_out);
    if (status) return status;
    return rv__mla_turn(ctx, m, m->past, 0, q + m->dim, d.n, d.n_out, m->heads, m->head_q);
}

/* Latent rows of keys from first on, into rows; or those of the caller, widened and packed. */
static rv_status rv__mla_latent(rv_ctx *ctx, const rv__mla *m, size_t first, float *rows)
{
    const size_t width = m->cached ? m->row : m->width_k, n_k = m->io.n_k;
    size_t ld = m->io.k_stride;
    const float *y = rv__dense_rows(m->kernels, (int)m->io.type, m->io.k, &ld, n_k, width,
                                    m->memory + m->wide);
    rv__dense d;
    rv_status status;
    if (m->cached) {
        for (size_t j = 0; j < n_k; j++)
            memcpy(rows + j * m->row, y + j * ld, m->row * sizeof(float));
        return RV_OK;
    }
    d = rv__mla_layer_of(m, 2);
    status = rv__dense_forward(ctx, &d, rows, m->row);
    if (status) return status;
    return rv__mla_turn(ctx, m, first, 0, rows + m->latent, n_k, m->row, 1, 0);
}

/* Keys and values of every head from the latent rows; inner then is the attention over them. */
static rv_status rv__mla_rebuild(rv_ctx *ctx, rv__mla *m)
{
    const rv__dense d = rv__mla_layer_of(m, 3);
    const float *c = m->memory + m->c;
    float *kv = m->memory + m->kv, *k = m->memory + m->k;
    size_t left = 0;
    rv_status status = rv__dense_forward(ctx, &d, kv, d.n_out);
    for (size_t j = 0; j < m->io.n_k && !status; j++) {
        for (size_t h = 0; h < m->heads; h++, kv += m->head_u, k += m->head_q) {
            memcpy(k, kv, m->dim * sizeof(float));
            memcpy(k + m->dim, c + j * m->row + m->latent, m->rope * sizeof(float));
            /* values move to the front of their row, where no key is needed any more */
            memmove(m->memory + m->kv + (j * m->heads + h) * m->dim_v, kv + m->dim,
                    m->dim_v * sizeof(float));
        }
        status = rv__poll_by(ctx, &left, m->heads * (m->head_q + m->head_u));
    }
    m->inner.type = RV_DTYPE_F32;
    m->inner.dim = m->head_q;
    m->inner.q = m->memory + m->q;
    m->inner.k = m->memory + m->k;
    m->inner.v = m->memory + m->kv;
    m->inner.q_stride = m->inner.k_stride = m->heads * m->head_q;
    m->inner.v_stride = m->inner.out_stride = m->heads * m->dim_v;
    m->inner.out = m->memory + m->o;
    return status;
}

/* The attention over the latent rows, k: [n_k, row], and W_vh behind it. */
static rv_status rv__mla_absorb(rv_ctx *ctx, rv__mla *m, const void *k, size_t ld)
{
    float *wq = m->memory + m->wq, *q = m->memory + m->q, *mean = m->memory + m->mean;
    const size_t heads = m->heads, n_q = m->io.n_q, ldw = heads * m->row;
    rv_status status = RV_OK;
    for (size_t h = 0; h < heads && !status; h++) {
        const float *w = m->params + m->w_u + h * m->head_u * m->latent;
        status = rv__dense_turn(ctx, w, m->latent, m->dim, m->latent, m->memory + m->turned);
        if (!status)
            status = rv_gemm_nt_f32(ctx, q + h * m->head_q, heads * m->head_q,
                                    m->memory + m->turned, m->dim, n_q, m->latent, m->dim, 0,
                                    wq + h * m->row, ldw);
        for (size_t i = 0; i < n_q && !status; i++)
            memcpy(wq + i * ldw + h * m->row + m->latent,
                   q + (i * heads + h) * m->head_q + m->dim, m->rope * sizeof(float));
    }
    m->base.kv_heads = 1;
    m->inner.dim = m->row;
    m->inner.dim_v = m->latent;
    m->inner.q = wq;
    m->inner.k = m->inner.v = k;
    m->inner.q_stride = ldw;
    m->inner.k_stride = m->inner.v_stride = ld;
    m->inner.out_stride = heads * m->latent;
    m->inner.out = mean;
    if (!status) status = rv_attn(ctx, &m->base, &m->inner);
    for (size_t h = 0; h < heads && !status; h++) {
        const float *w = m->params + m->w_u + (h * m->head_u + m->dim) * m->latent;
        status = rv_gemm_nt_f32(ctx, mean + h * m->latent, heads * m->latent, w, m->latent, n_q,
                                m->dim_v, m->latent, 0, m->memory + m->o + h * m->dim_v,
                                heads * m->dim_v);
    }
    return status;
}

RV_API rv_status rv_attn_mla(rv_ctx *ctx, const rv_attn_mla_config *config, const rv_attn_io *io)
{
    rv__mla m;
    rv__dense last;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    rv__mla_layout(&m, config, io);
    status = rv__mla_check(ctx, &m, config);
    if (status || io->n_q == 0) return status ? status : rv__ok(ctx);
    status = rv__mla_room(ctx, &m, 0);
    if (!status) status = rv__mla_queries(ctx, &m);
    if (!status && !(m.cached && m.absorbed))
        status = rv__mla_latent(ctx, &m, 0, m.memory + m.c);
    if (!status && m.cached && m.absorbed) { /* where they lie, in their type */
        status = rv__mla_absorb(ctx, &m, io->k, m.io.k_stride);
    } else if (!status && m.absorbed) {
        m.inner.type = RV_DTYPE_F32;
        status = rv__mla_absorb(ctx, &m, m.memory + m.c, m.row);
    } else if (!status) {
        status = rv__mla_rebuild(ctx, &m);
        if (!status) status = rv_attn(ctx, &m.base, &m.inner);
    }
    last = rv__mla_layer_of(&m, 4);
    if (!status) status = rv__dense_forward(ctx, &last, io->out, m.io.out_stride);
    rv__mla_drop(ctx, &m);
    return status ? status : rv__ok(ctx);
}

/* From slopes by keys and values of every head to slopes by the latent rows, in d_c: [n_k, row];
   and of W_u. */
static rv_status rv__mla_pull_rows(rv_ctx *ctx, const rv__mla *m, float *d_w)
{
    const size_t n_k = m->io.n_k, row = m->row;
    const float *d_k = m->memory + m->d_k, *d_v = m->memory + m->d_v;
    float *d_kv = m->memory + m->d_kv, *d_c = m->memory + m->d_c, *short_c = d_c + n_k * row;
    const rv__dense layer = rv__mla_layer_of(m, 3);
    size_t left = 0;
    rv_status status = RV_OK;
    for (size_t j = 0; j < n_k && !status; j++) {
        float *turned = d_c + j * row + m->latent;
        for (size_t x = 0; x < m->rope; x++) turned[x] = 0.0f;
        for (size_t h = 0; h < m->heads; h++, d_k += m->head_q, d_v += m->dim_v) {
            float *to = d_kv + (j * m->heads + h) * m->head_u;
            memcpy(to, d_k, m->dim * sizeof(float));
            memcpy(to + m->dim, d_v, m->dim_v * sizeof(float));
            for (size_t x = 0; x < m->rope; x++) turned[x] += d_k[m->dim + x];
        }
        status = rv__poll_by(ctx, &left, m->heads * (m->head_q + m->head_u));
    }
    if (!status)
        status = rv__dense_backward(ctx, &layer, d_kv, layer.n_out, short_c, 0, d_w, NULL);
    for (size_t j = 0; j < n_k && !status; j++)
        memcpy(d_c + j * row, short_c + j * m->latent, m->latent * sizeof(float));
    return status;
}

/* From slopes by the latent rows to those by k, and of W_c. */
static rv_status rv__mla_pull_keys(rv_ctx *ctx, const rv__mla *m, const rv_attn_grad *grad)
{
    float *d_c = m->memory + m->d_c, *d_w = grad->d_params;
    const rv__dense layer = rv__mla_layer_of(m, 2);
    rv_status status;
    if (m->cached) {
        if (grad->d_k) memcpy(grad->d_k, d_c, m->io.n_k * m->row * sizeof(float));
        if (d_w) memset(d_w + m->w_c, 0, m->row * m->width_k * sizeof(float));
        return RV_OK;
    }
    status = rv__mla_turn(ctx, m, 0, 1, d_c + m->latent, m->io.n_k, m->row, 1, 0);
    if (status) return status;
    return rv__dense_backward(ctx, &layer, d_c, m->row, grad->d_k, 0, d_w ? d_w + m->w_c : NULL,
                              NULL);
}

/* From slopes by the queries of every head to those by q, and of W_q and W_d. */
static rv_status rv__mla_pull_queries(rv_ctx *ctx, const rv__mla *m, const rv_attn_grad *grad)
{
    float *d_q = m->memory + m->d_q, *d_u = m->memory + m->d_u, *d_w = grad->d_params;
    rv__dense layer = rv__mla_layer_of(m, 1);
    rv_status status = rv__mla_turn(ctx, m, m->past, 1, d_q + m->dim, m->io.n_q, layer.n_out,
                                    m->heads, m->head_q);
    if (!status)
        status = rv__dense_backward(ctx, &layer, d_q, layer.n_out,
                                    m->latent_q ? d_u : grad->d_q, 0, d_w ? d_w + m->w_q : NULL,
                                    NULL);
    if (status || !m->latent_q) return status;
    layer = rv__mla_layer_of(m, 0);
    return rv__dense_backward(ctx, &layer, d_u, m->latent_q, grad->d_q, 0,
                              d_w ? d_w + m->w_d : NULL, NULL);
}

static rv_status rv__mla_pull(rv_ctx *ctx, rv__mla *m, const rv_attn_grad *grad)
{
    float *d_o = m->memory + m->d_o, *d_w = grad->d_params;
    const rv__dense last = rv__mla_layer_of(m, 4);
    rv_attn_grad inner = *grad;
    rv_status status = rv__mla_queries(ctx, m);
    if (!status) status = rv__mla_latent(ctx, m, 0, m->memory + m->c);
    if (!status) status = rv__mla_rebuild(ctx, m);
    m->inner.weights = m->inner.lse = NULL;
    if (!status && d_w) status = rv_attn(ctx, &m->base, &m->inner); /* what W_o read */
    if (!status)
        status = rv__dense_backward(ctx, &last, grad->d_out, m->io.out_stride, d_o, 0,
                                    d_w ? d_w + m->w_o : NULL, NULL);
    inner.d_out = d_o;
    inner.d_q = m->memory + m->d_q;
    inner.d_k = m->memory + m->d_k;
    inner.d_v = m->memory + m->d_v;
    inner.d_params = NULL;
    if (!status) status = rv__attn_backward(ctx, &m->base, &m->inner, &inner, NULL);
    if (!status) status = rv__mla_pull_rows(ctx, m, d_w ? d_w + m->w_u : NULL);
    if (!status) status = rv__mla_pull_keys(ctx, m, grad);
    if (!status) status = rv__mla_pull_queries(ctx, m, grad);
    return status;
}

RV_API rv_status rv_attn_mla_backward(rv_ctx *ctx, const rv_attn_mla_config *config,
                                      const rv_attn_io *io, const rv_attn_grad *grad)
{
    float nowhere = 0.0f;
    rv__mla m;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    if (!grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "grad and d_out must not be NULL");
    if (grad->d_v) return rv__fail(ctx, RV_ERR_ARG, 0, "d_v must be NULL, values are made of k");
    rv__mla_layout(&m, config, io);
    m.io.out = &nowhere; /* not looked at */
    m.absorbed = 0;
    status = rv__mla_check(ctx, &m, config);
    if (!status) status = rv__mla_room(ctx, &m, 1);
    if (status) return status;
    status = rv__mla_pull(ctx, &m, grad);
    rv__mla_drop(ctx, &m);
    return status ? status : rv__ok(ctx);
}

/* ---- parameters and rows to keep ---- */

RV_API size_t rv_attn_mla_params(const rv_attn_mla_config *config, const rv_attn_io *io)
{
    rv__mla m;
    if (!config || !io) return 0;
    rv__mla_layout(&m, config, io);
    return m.n_params;
}

RV_API rv_status rv_attn_mla_init(rv_ctx *ctx, const rv_attn_mla_config *config,
                                  const rv_attn_io *io, float *params)
{
    rv__mla m;
    rv__rng rng;
    rv_status status;
    if (!config || !io || !params)
        return rv__fail(ctx, RV_ERR_ARG, 0, "config, io and params must not be NULL");
    rv__mla_layout(&m, config, io);
    status = rv__mla_check_config(ctx, &m, config);
    if (status) return status;
    rv__rng_init(&rng, rv__seed(ctx));
    if (m.latent_q) rv__dense_init(&rng, m.width_q, m.latent_q, params + m.w_d);
    rv__dense_init(&rng, m.latent_q ? m.latent_q : m.width_q, m.heads * m.head_q, params + m.w_q);
    rv__dense_init(&rng, m.width_k, m.row, params + m.w_c);
    rv__dense_init(&rng, m.latent, m.heads * m.head_u, params + m.w_u);
    rv__dense_init(&rng, m.heads * m.dim_v, m.width_out, params + m.w_o);
    return rv__ok(ctx);
}

RV_API rv_status rv_attn_mla_rows(rv_ctx *ctx, const rv_attn_mla_config *config,
                                  const rv_attn_io *io, size_t first, float *rows)
{
    float nowhere = 0.0f;
    rv__mla m;
    rv_status status;
    if (!config || !io || !rows)
        return rv__fail(ctx, RV_ERR_ARG, 0, "config, io and rows must not be NULL");
    rv__mla_layout(&m, config, io);
    if (m.cached) return rv__fail(ctx, RV_ERR_CONFIG, 0, "cached: k has those rows already");
    m.io.q = m.io.out = &nowhere; /* there are no queries */
    m.io.n_q = m.io.q_stride = m.io.out_stride = 0;
    status = rv__mla_check(ctx, &m, config);
    if (!status && m.rope && first > 1048576u - io->n_k)
        status = rv__fail(ctx, RV_ERR_DIM, 0, "positions reach %z, must be below 2^20",
                          rv__add(first, io->n_k));
    m.absorbed = 1; /* no room for rebuilt keys */
    if (!status) status = rv__mla_room(ctx, &m, 0);
    if (status) return status;
    status = rv__mla_latent(ctx, &m, first, rows);
    rv__mla_drop(ctx, &m);
    return status ? status : rv__ok(ctx);
}

#endif /* RV_ATTN_MLA_C */
