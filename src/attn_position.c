#ifndef RV_ATTN_POSITION_C
#define RV_ATTN_POSITION_C
#include "attn_position.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "position.c"
#include "attn.c"
#include "attn_back.c"

/* Two ways in: rope and graph_rope with one distance per key turn q and k into scratch and call the
   engine's own dot products; the others are scores of the form factor q . k + bias, capped before
   the bias, whose pull adds to q, k and, through `gather`, to the bias' parameters. */

#define RV__POSITION_KEYS 64u  /* most keys of one call of a score                                */
#define RV__POSITION_SLOTS 16u /* angles kept per lane by graph_rope                              */

typedef struct rv__position {
    rv__attn a;                /* sizes, strides and kernels, checked                             */
    rv_attn_config base;       /* what the engine is given                                        */
    rv__attn_score score;
    float factor, cap;
    float *wide;               /* [lanes][wide_floats]: a key row, then what a mechanism needs    */
    size_t wide_floats;
    /* b[x] = bias of query i and key j + x; adds ds[x], its slope, to what the bias is made of */
    void (*bias)(const struct rv__position *p, size_t head, size_t i, size_t j, size_t n, float *b);
    void (*gather)(const struct rv__position *p, size_t head, size_t i, size_t j, size_t n,
                   const float *ds, double *part);
    const uint32_t *bucket;    /* T5: of j - i at element n_q - 1 - i + j                         */
    const float *table;        /* T5, layers; structural: the biases themselves                   */
    const uint8_t *q_layer, *k_layer;
    size_t layers;
    int branch;                /* 1: keys on layer 0 only, 2: the others only                     */
    float *slopes;             /* structural: by the biases                                       */
    rv__rope rope;             /* graph_rope: angles and layout                                   */
    const float *distance;     /* [n_q, n_k]                                                      */
    float max_distance;
} rv__position;

/* ---- the common score ---- */

static const float *rv__position_query(const rv__position *p, size_t head, size_t i)
{
    return p->a.io.q + i * p->a.io.q_stride + head * p->a.io.dim;
}

/* Key j of a head of queries, in floats: where it lies or in space. */
static const float *rv__position_key(const rv__position *p, size_t head, size_t j, float *space)
{
    size_t ld;
    return rv__attn_widen(&p->a, p->a.io.k, p->a.io.k_stride, head / p->a.group, p->a.io.dim,
                          p->a.io.dim, j, 1, space, &ld);
}

/* factor q . k, capped; tanh(that / cap) in t unless it is NULL. */
static void rv__position_dots(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                              float *s, float *t)
{
    const rv_attn_io *io = &p->a.io;
    const unsigned char *k = (const unsigned char *)io->k +
                             (j * io->k_stride + head / p->a.group * io->dim) * p->a.elem;
    p->a.scan(rv__position_query(p, head, i), k, io->k_stride * p->a.elem, NULL, n, io->dim, s);
    for (size_t x = 0; x < n; x++) s[x] *= -p->factor;
    if (!(p->cap > 0.0f)) return;
    for (size_t x = 0; x < n; x++) s[x] /= p->cap;
    p->a.kernels->tanh_f32(s, s, n);
    if (t) memcpy(t, s, n * sizeof(float));
    for (size_t x = 0; x < n; x++) s[x] *= p->cap;
}

static void rv__position_logits(const void *user, size_t lane, size_t head, size_t i, size_t j,
                                size_t n, float *s)
{
    const rv__position *p = (const rv__position *)user;
    float b[RV__POSITION_KEYS];
    (void)lane;
    rv__position_dots(p, head, i, j, n, s, NULL);
    p->bias(p, head, i, j, n, b);
    for (size_t x = 0; x < n; x++) s[x] += b[x];
}

static void rv__position_pull(const void *user, size_t lane, size_t head, size_t i, size_t j,
                              size_t n, const float *ds, float *dq, float *dk, size_t ldk,
                              double *part)
{
    const rv__position *p = (const rv__position *)user;
    const rv__kernels *kernels = p->a.kernels;
    const float *q = rv__position_query(p, head, i);
    const size_t dim = p->a.io.dim;
    float *space = p->wide + lane * p->wide_floats;
    float s[RV__POSITION_KEYS], t[RV__POSITION_KEYS];
    if (p->cap > 0.0f) rv__position_dots(p, head, i, j, n, s, t);
    for (size_t x = 0; x < n; x++) {
        float down = ds[x] * p->factor;
        if (p->cap > 0.0f) down *= 1.0f - t[x] * t[x];
        kernels->axpy_f32(down, rv__position_key(p, head, j + x, space), dq, dim);
        kernels->axpy_f32(down, q, dk + x * ldk, dim);
    }
    p->gather(p, head, i, j, n, ds, part);
}

/* Checks what the engine checks and fills in what mechanisms read. */
static rv_status rv__position_open(rv_ctx *ctx, const rv_attn_config *base, const rv_attn_io *io,
                                   const rv_attn_grad *grad, rv__position *p)
{
    rv_attn_io with;
    rv_status status;
    float unused;
    memset(p, 0, sizeof *p);
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    with = *io;
    if (grad) with.out = &unused;
    if (grad && !grad->d_out) return rv__fail(ctx, RV_ERR_ARG, 0, "grad->d_out is NULL");
    p->base = *base;
    status = rv__attn_open(ctx, base, &with, NULL, &p->a);
    if (status) return status;
    p->a.io.out = io->out;
    p->factor = p->a.config.scale / p->a.config.temperature;
    p->cap = p->a.config.softcap;
    p->base.softcap = 0.0f;
    p->wide_floats = rv__round_up(io->dim, 16);
    p->score.user = p;
    p->score.logits = rv__position_logits;
    p->score.pull = rv__position_pull;
    p->score.work = 2 * io->dim;
    return RV_OK;
}

/* Forward, or with grad backward, of the score that is set up. */
static rv_status rv__position_run(rv_ctx *ctx, rv__position *p, const rv_attn_io *io,
                                  const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t floats = rv__mul(rv__lanes(ctx), p->wide_floats);
    rv_status status;
    p->wide = (float *)rv__get_zero(&alloc, floats, sizeof(float));
    if (!p->wide) return rv__no_memory(ctx, rv__mul(floats, sizeof(float)));
    status = grad ? rv__attn_backward(ctx, &p->base, io, grad, &p->score)
                  : rv__attn_forward(ctx, &p->base, io, &p->score);
    rv__put(&alloc, p->wide, floats, sizeof(float));
    p->wide = NULL;
    return status;
}

/* Uniform within +-sqrt(6 / (rows + cols)). */
static void rv__position_xavier(rv__rng *rng, size_t rows, size_t cols, float *w, size_t n)
{
    const float most = (float)sqrt(6.0 / (double)(rows + cols));
    for (size_t x = 0; x < n; x++) w[x] = (2.0f * rv__rng_f32(rng) - 1.0f) * most;
}

static size_t rv__position_heads(const rv_attn_config *base)
{
    return base->heads ? base->heads : 1;
}

/* ---- rope ---- */

typedef struct rv__rope_side {
    const float *x;            /* rows of q or k                                                  */
    size_t n, heads, stride, first;
    const uint32_t *index;
    const float *place;
    float *out;                /* packed                                                          */
} rv__rope_side;

static rv_status rv__position_turn(rv_ctx *ctx, const rv_rope_config *rope, size_t dim,
                                   const rv__rope_side *side, int back)
{
    rv_rope_io io;
    memset(&io, 0, sizeof io);
    io.x = back ? side->out : side->x;
    io.out = side->out;
    io.n = side->n;
    io.heads = side->heads;
    io.dim = dim;
    io.x_stride = back ? 0 : side->stride;
    io.first = side->first;
    io.index = side->index;
    io.place = side->place;
    io.transpose = back;
    return rv_rope_run(ctx, rope, &io);
}

/* n rows of a type as packed floats. */
static rv_status rv__position_floats(rv_ctx *ctx, const rv__attn *a, const void *from,
                                     size_t stride, size_t width, size_t n, float *to)
{
    size_t left = 0;
    for (size_t j = 0; j < n; j++) {
        const uint16_t *half = (const uint16_t *)from + j * stride;
        rv_status status = rv__poll_by(ctx, &left, width);
        if (status) return status;
        if (a->io.type == RV_DTYPE_F16) a->kernels->widen_f16(half, to + j * width, width);
        else a->kernels->widen_bf16(half, to + j * width, width);
    }
    return RV_OK;
}

/* rv_attn over turned rows; key->out and query->out are scratch. query->place and ->index NULL with
   query->n 0: queries are not turned. */
static rv_status rv__position_turned(rv_ctx *ctx, const rv__position *p, const rv_attn_io *io,
                                     const rv_attn_grad *grad, const rv_rope_config *rope,
                                     rv__rope_side *query, rv__rope_side *key, float *values)
{
    rv_attn_io with = *io;
    rv_status status = RV_OK;
    if (values) {
        const rv_attn_io *in = &p->a.io;
        const size_t wide = p->a.config.kv_heads * in->dim;
        const size_t wide_v = p->a.config.kv_heads * in->dim_v;
        status = rv__position_floats(ctx, &p->a, in->k, in->k_stride, wide, in->n_k, key->out);
        if (!status)
            status = rv__position_floats(ctx, &p->a, in->v, in->v_stride, wide_v, in->n_k, values);
        key->x = key->out;
        key->stride = 0;
        with.v = values;
        with.v_stride = 0;
        with.type = RV_DTYPE_F32;
    }
    if (!status && query->n) status = rv__position_turn(ctx, rope, io->dim, query, 0);
    if (!status) status = rv__position_turn(ctx, rope, io->dim, key, 0);
    if (query->n) {
        with.q = query->out;
        with.q_stride = 0;
    }
    with.k = key->out;
    with.k_stride = 0;
    if (status || !grad) return status ? status : rv_attn(ctx, &p->a.config, &with);
    status = rv_attn_backward(ctx, &p->a.config, &with, grad);
    query->out = grad->d_q; /* the slopes turn back where they lie */
    key->out = grad->d_k;
    if (!status && query->n && grad->d_q) status = rv__position_turn(ctx, rope, io->dim, query, 1);
    if (!status && grad->d_k) status = rv__position_turn(ctx, rope, io->dim, key, 1);
    return status;
}

/* Scratch for the turned rows, and there. */
static rv_status rv__position_around(rv_ctx *ctx, const rv__position *p, const rv_attn_io *io,
                                     const rv_attn_grad *grad, const rv_rope_config *rope,
                                     rv__rope_side *query, rv__rope_side *key)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const int narrow = io->type != RV_DTYPE_F32;
    const size_t n_q = rv__mul(query->n, query->heads * io->dim);
    const size_t n_k = rv__mul(key->n, key->heads * io->dim);
    const size_t n_v = narrow ? rv__mul(key->n, key->heads * p->a.io.dim_v) : 0;
    float *turned_q = (float *)rv__get(&alloc, n_q, sizeof(float));
    float *turned_k = (float *)rv__get(&alloc, n_k, sizeof(float));
    float *values = narrow ? (float *)rv__get(&alloc, n_v, sizeof(float)) : NULL;
    rv_status status;
    query->out = turned_q;
    key->out = turned_k;
    if (!turned_q || !turned_k || (narrow && !values))
        status = rv__no_memory(ctx, rv__mul(rv__add(rv__add(n_q, n_k), n_v), sizeof(float)));
    else status = rv__position_turned(ctx, p, io, grad, rope, query, key, values);
    rv__put(&alloc, values, n_v, sizeof(float));
    rv__put(&alloc, turned_k, n_k, sizeof(float));
    rv__put(&alloc, turned_q, n_q, sizeof(float));
    return status ? status : rv__ok(ctx);
}

static void rv__position_sides(const rv__position *p, rv__rope_side *query, rv__rope_side *key)
{
    const rv__attn *a = &p->a;
    memset(query, 0, sizeof *query);
    memset(key, 0, sizeof *key);
    query->x = a->io.q;
    query->n = a->io.n_q;
    query->heads = a->config.heads;
    query->stride = a->io.q_stride;
    query->first = a->past;
    key->x = (const float *)a->io.k;
    key->n = a->io.n_k;
    key->heads = a->config.kv_heads;
    key->stride = a->io.k_stride;
}

static rv_status rv__rope_attend(rv_ctx *ctx, const rv_attn_rope_config *config,
                                 const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_rope_config c;
    rv__rope_side query, key;
    rv__position p;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__position_open(ctx, &c.base, io, grad, &p);
    if (status) return status;
    rv__position_sides(&p, &query, &key);
    query.index = c.q_index;
    query.place = c.q_place;
    key.index = c.k_index;
    key.place = c.k_place;
    return rv__position_around(ctx, &p, io, grad, &c.rope, &query, &key);
}

RV_API rv_status rv_attn_rope(rv_ctx *ctx, const rv_attn_rope_config *config,
                              const rv_attn_io *io)
{
    return rv__rope_attend(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_rope_backward(rv_ctx *ctx, const rv_attn_rope_config *config,
                                       const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    return rv__rope_attend(ctx, config, io, grad);
}

/* ---- graph_rope ---- */

static float rv__graph_far(float x, float most)
{
    return !rv__finite_f32(x) || x > most ? most : x;
}

static rv_status rv__graph_check(rv_ctx *ctx, const rv_attn_graph_rope_config *c, size_t n,
                                 float *most)
{
    const int given = rv__given(c->max_distance);
    *most = given ? c->max_distance : 1048576.0f;
    if (!rv__finite_f32(*most) || *most < 0.0f || *most > 1048576.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "max_distance is %f, allowed: above 0 to 2^20",
                        (double)*most);
    if (!c->distance) return rv__fail(ctx, RV_ERR_ARG, 0, "distance is NULL");
    for (size_t x = 0; x < n; x++) {
        const float d = c->distance[x];
        const int32_t bits = rv__bits_f32(d);
        const int bad = given ? bits > 0x7F800000 : !rv__finite_f32(d) || d > *most;
        if (bad || (bits < 0 && bits != (int32_t)(-2147483647 - 1)))
            return rv__fail(ctx, RV_ERR_ARG, x,
                            "distance[%z] is %f; it must be 0 or more, at most 2^20 without "
                            "max_distance", x, (double)d);
    }
    return RV_OK;
}

/* Cosines and sines of a distance, then cosines and minus sines: from the lane's slots. */
static const float *rv__graph_turns(const rv__position *p, float *slots, float distance)
{
    const size_t pairs = p->rope.pairs;
    const int32_t bits = rv__bits_f32(distance) | (int32_t)(-2147483647 - 1); /* never 0 */
    const uint32_t hash = (uint32_t)bits * 2654435761u;
    float *slot = slots + (hash >> 16) % RV__POSITION_SLOTS * (4 * pairs + 1), *turns = slot + 1;
    if (rv__bits_f32(slot[0]) == bits) return turns;
    slot[0] = rv__from_bits_f32(bits);
    for (size_t t = 0; t < pairs; t++) {
        double s, c;
        rv__sincos((double)distance * p->rope.theta[t], &s, &c);
        turns[t] = turns[2 * pairs + t] = (float)(c * p->rope.gain);
        turns[pairs + t] = (float)(s * p->rope.gain);
        turns[3 * pairs + t] = -turns[pairs + t];
    }
    return turns;
}

/* Key j, turned by its distance from query i, in space; *turns are those of the distance. */
static const float *rv__graph_key(const rv__position *p, size_t lane, size_t head, size_t i,
                                  size_t j, const float **turns)
{
    const size_t wide = rv__round_up(p->a.io.dim, 16);
    float *space = p->wide + lane * p->wide_floats;
    const float distance = p->distance[i * p->a.io.n_k + j];
    *turns = rv__graph_turns(p, space + 2 * wide, rv__graph_far(distance, p->max_distance));
    rv__rope_head(&p->rope, *turns, rv__position_key(p, head, j, space + wide), space);
    return space;
}

static void rv__graph_logits(const void *user, size_t lane, size_t head, size_t i, size_t j,
                             size_t n, float *s)
{
    const rv__position *p = (const rv__position *)user;
    const float *q = rv__position_query(p, head, i), *turns;
    for (size_t x = 0; x < n; x++) {
        const float *key = rv__graph_key(p, lane, head, i, j + x, &turns);
        s[x] = p->factor * p->a.kernels->dot_f32(q, key, p->a.io.dim);
    }
}

static void rv__graph_pull(const void *user, size_t lane, size_t head, size_t i, size_t j, size_t n,
                           const float *ds, float *dq, float *dk, size_t ldk, double *part)
{
    const rv__position *p = (const rv__position *)user;
    const float *q = rv__position_query(p, head, i), *turns;
    const size_t dim = p->a.io.dim;
    float *space = p->wide + lane * p->wide_floats;
    (void)part;
    for (size_t x = 0; x < n; x++) {
        const float down = ds[x] * p->factor;
        const float *key = rv__graph_key(p, lane, head, i, j + x, &turns);
        p->a.kernels->axpy_f32(down, key, dq, dim);
        rv__rope_head(&p->rope, turns + 2 * p->rope.pairs, q, space);
        p->a.kernels->axpy_f32(down, space, dk + x * ldk, dim);
    }
}

static rv_status rv__graph_pairs(rv_ctx *ctx, rv__position *p, const rv_attn_io *io,
                                 const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t pairs = p->rope.config.rotary_dim / 2;
    rv_status status;
    p->rope.pairs = pairs;
    p->rope.io.dim = io->dim;
    p->rope.theta = (double *)rv__get(&alloc, pairs, sizeof(double));
    if (!p->rope.theta) return rv__no_memory(ctx, pairs * sizeof(double));
    p->rope.gain = rv__rope_theta(&p->rope.config, p->rope.theta);
    p->base.softcap = p->cap; /* the score is a dot product: the engine caps it */
    p->wide_floats = 2 * rv__round_up(io->dim, 16) + RV__POSITION_SLOTS * (4 * pairs + 1);
    p->score.logits = rv__graph_logits;
    p->score.pull = rv__graph_pull;
    p->score.work = 8 * io->dim;
    status = rv__position_run(ctx, p, io, grad);
    rv__put(&alloc, p->rope.theta, pairs, sizeof(double));
    return status;
}

static rv_status rv__graph_attend(rv_ctx *ctx, const rv_attn_graph_rope_config *config,
                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__rope_side query, key;
    rv__position p;
    rv_status status;
    float *place;
    if (!config) return rv__fail(ctx, RV_ERR_ARG, 0, "config is NULL; distance is required");
    status = rv__position_open(ctx, &config->base, io, grad, &p);
    if (!status)
        status = rv__graph_check(ctx, config, rv__mul(config->per_query ? io->n_q : 1, io->n_k),
                                 &p.max_distance);
    if (status) return status;
    p.distance = config->distance;
    p.rope.config = config->rope;
    status = rv__rope_check_config(ctx, &p.rope.config, io->dim);
    if (status) return status;
    if (config->per_query) return rv__graph_pairs(ctx, &p, io, grad);
    rv__position_sides(&p, &query, &key);
    query.n = 0;
    place = (float *)rv__get(&alloc, io->n_k, sizeof(float));
    if (!place) return rv__no_memory(ctx, rv__mul(io->n_k, sizeof(float)));
    for (size_t j = 0; j < io->n_k; j++)
        place[j] = rv__graph_far(config->distance[j], p.max_distance);
    key.place = place;
    status = rv__position_around(ctx, &p, io, grad, &config->rope, &query, &key);
    rv__put(&alloc, place, io->n_k, sizeof(float));
    return status;
}

RV_API rv_status rv_attn_graph_rope(rv_ctx *ctx, const rv_attn_graph_rope_config *config,
                                    const rv_attn_io *io)
{
    return rv__graph_attend(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_graph_rope_backward(rv_ctx *ctx, const rv_attn_graph_rope_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    return rv__graph_attend(ctx, config, io, grad);
}

/* ---- alibi ---- */

static void rv__alibi_bias(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                           float *b)
{
    const float at = (float)((double)i + (double)p->a.past - (double)j), slope = p->table[head];
    for (size_t x = 0; x < n; x++) b[x] = -slope * fabsf(at - (float)x);
}

static void rv__alibi_gather(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                             const float *ds, double *part)
{
    const double at = (double)i + (double)p->a.past - (double)j;
    for (size_t x = 0; x < n; x++) part[head] -= (double)ds[x] * fabs(at - (double)x);
}

static rv_status rv__alibi_attend(rv_ctx *ctx, const rv_attn_alibi_config *config,
                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_attn_alibi_config c;
    rv__position p;
    rv_status status;
    float *slopes = NULL;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    status = rv__position_open(ctx, &c.base, io, grad, &p);
    if (status) return status;
    if (!c.base.slopes) {
        slopes = (float *)rv__get(&alloc, p.a.config.heads, sizeof(float));
        if (!slopes) return rv__no_memory(ctx, p.a.config.heads * sizeof(float));
        rv_attn_slopes(p.a.config.heads, slopes);
        c.base.slopes = slopes;
    }
    if (grad && grad->d_params) {
        p.base.slopes = NULL;
        p.table = c.base.slopes;
        p.bias = rv__alibi_bias;
        p.gather = rv__alibi_gather;
        p.score.n_part = p.a.config.heads;
        status = rv__position_run(ctx, &p, io, grad);
    } else {
        status = grad ? rv_attn_backward(ctx, &c.base, io, grad) : rv_attn(ctx, &c.base, io);
    }
    rv__put(&alloc, slopes, p.a.config.heads, sizeof(float));
    return status;
}

RV_API rv_status rv_attn_alibi(rv_ctx *ctx, const rv_attn_alibi_config *config,
                               const rv_attn_io *io)
{
    return rv__alibi_attend(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_alibi_backward(rv_ctx *ctx, const rv_attn_alibi_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    return rv__alibi_attend(ctx, config, io, grad);
}

/* ---- t5_bias ---- */

RV_API size_t rv_attn_t5_params(const rv_attn_t5_config *config, const rv_attn_io *io)
{
    (void)io;
    if (!config) return 32;
    return rv__mul(config->t5.buckets ? config->t5.buckets : 32, rv__position_heads(&config->base));
}

RV_API rv_status rv_attn_t5_init(rv_ctx *ctx, const rv_attn_t5_config *config,
                                 const rv_attn_io *io, float *params)
{
    const size_t count = rv_attn_t5_params(config, io);
    rv__rng rng;
    if (!params) return rv__fail(ctx, RV_ERR_ARG, 0, "params is NULL");
    rv__rng_init(&rng, rv__seed(ctx));
    rv__position_xavier(&rng, count / (config ? rv__position_heads(&config->base) : 1),
                        config ? rv__position_heads(&config->base) : 1, params, count);
    return rv__ok(ctx);
}

static void rv__t5_bias(const rv__position *p, size_t head, size_t i, size_t j, size_t n, float *b)
{
    const uint32_t *at = p->bucket + (p->a.io.n_q - 1 - i) + j;
    for (size_t x = 0; x < n; x++) b[x] = p->table[at[x] * p->a.config.heads + head];
}

static void rv__t5_gather(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                          const float *ds, double *part)
{
    const uint32_t *at = p->bucket + (p->a.io.n_q - 1 - i) + j;
    for (size_t x = 0; x < n; x++) part[at[x] * p->a.config.heads + head] += (double)ds[x];
}

static rv_status rv__t5_attend(rv_ctx *ctx, const rv_attn_t5_config *config, const rv_attn_io *io,
                               const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_attn_config base;
    rv__position p;
    rv_t5_config t5;
    uint32_t *bucket;
    rv_status status;
    if (!config || !config->params) return rv__fail(ctx, RV_ERR_ARG, 0, "params is NULL");
    base = config->base;
    base.scale = rv__default(base.scale, 1.0f);
    status = rv__position_open(ctx, &base, io, grad, &p);
    if (!status) status = rv__t5_check(ctx, &config->t5, &t5);
    if (!status) status = rv__t5_all(ctx, &config->t5, io->n_q, io->n_k, p.a.past, &bucket);
    if (status) return status;
    p.bucket = bucket;
    p.table = config->params;
    p.bias = rv__t5_bias;
    p.gather = rv__t5_gather;
    p.score.n_part = rv__mul(t5.buckets, p.a.config.heads);
    status = rv__position_run(ctx, &p, io, grad);
    rv__put(&alloc, bucket, io->n_q + io->n_k, sizeof(uint32_t));
    return status;
}

RV_API rv_status rv_attn_t5(rv_ctx *ctx, const rv_attn_t5_config *config, const rv_attn_io *io)
{
    return rv__t5_attend(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_t5_backward(rv_ctx *ctx, const rv_attn_t5_config *config,
                                     const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    return rv__t5_attend(ctx, config, io, grad);
}

#undef RV__POSITION_KEYS
#undef RV__POSITION_SLOTS

#endif /* RV_ATTN_POSITION_C */
