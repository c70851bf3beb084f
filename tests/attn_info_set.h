/* Attention problems and their definition in double, for logits of any rule. */
#ifndef RV_ATTN_INFO_SET_H
#define RV_ATTN_INFO_SET_H

#include "grid_set.h"

enum { MOST_Q = 2048, MOST_PAIRS = 4096 };

/* Small enough for static memory: heads n_q n_k <= MOST_PAIRS, all arrays <= MOST_Q. */
typedef struct problem {
    rv_attn_config config;
    rv_attn_io io;
    rv_attn_mask mask;
    float q[MOST_Q], k[MOST_Q], v[MOST_Q], out[MOST_Q], weights[MOST_PAIRS], lse[MOST_Q];
    uint16_t k16[MOST_Q], v16[MOST_Q];
    float d_out[MOST_Q], d_q[MOST_Q], d_k[MOST_Q], d_v[MOST_Q];
    float add[MOST_PAIRS], slopes[8], sinks[8], d_sinks[8];
    uint8_t allow[MOST_PAIRS];
    /* the logit by definition before softcap, slopes and masks */
    double (*logit)(const struct problem *p, size_t h, size_t i, size_t j);
    double param;      /* of the rule   */
    const void *extra; /* for the rule  */
    double want[MOST_PAIRS], lse_want[MOST_Q], out_want[MOST_Q], rate_want[MOST_Q];
} problem;

enum {
    CAP = 1, SLOPES = 2, SINKS = 4, ADD = 8, ALLOW = 16, VISIBLE = 32, WINDOW = 64, PER_HEAD = 128
};

RV_TEST_FN int visible(void *user, size_t head, size_t i, size_t j)
{
    (void)user;
    return (head + 2 * i + 3 * j) % 5 != 0;
}

RV_TEST_FN size_t heads_of(const problem *p)
{
    return p->config.heads ? p->config.heads : 1;
}

RV_TEST_FN size_t kv_of(const problem *p)
{
    return p->config.kv_heads ? p->config.kv_heads : heads_of(p);
}

RV_TEST_FN size_t wide_of(const problem *p)
{
    return p->io.dim_v ? p->io.dim_v : p->io.dim;
}

RV_TEST_FN const float *query_of(const problem *p, size_t h, size_t i)
{
    return p->q + (i * heads_of(p) + h) * p->io.dim;
}

RV_TEST_FN const float *key_of(const problem *p, size_t h, size_t j)
{
    return p->k + (j * kv_of(p) + h * kv_of(p) / heads_of(p)) * p->io.dim;
}

typedef struct shape {
    size_t n_q, n_k, dim, dim_v;
    uint32_t heads, kv_heads;
    int form, order;
    rv_dtype type;
} shape;

/* Inputs for a shape; p is otherwise cleared. */
RV_TEST_FN void make(problem *p, const shape *s, rv_test_rng *rng)
{
    size_t n_k, n_v, pairs;
    memset(p, 0, sizeof *p);
    p->io.n_q = s->n_q;
    p->io.n_k = s->n_k;
    p->io.dim = s->dim;
    p->io.dim_v = s->dim_v;
    p->io.type = s->type;
    p->config.heads = s->heads;
    p->config.kv_heads = s->kv_heads;
    p->config.order = (rv_attn_order)s->order;
    n_k = s->n_k * kv_of(p) * s->dim;
    n_v = s->n_k * kv_of(p) * wide_of(p);
    pairs = heads_of(p) * s->n_q * s->n_k;
    rv_test_fill(rng, p->q, s->n_q * heads_of(p) * s->dim);
    rv_test_fill(rng, p->k, n_k);
    rv_test_fill(rng, p->v, n_v);
    rv_test_fill(rng, p->d_out, s->n_q * heads_of(p) * wide_of(p));
    for (size_t i = 0; i < n_k; i++) p->k[i] *= 2.0f;
    for (size_t i = 0; i < pairs; i++) {
        p->add[i] = rv_test_below(rng, 5) ? 2.0f * rv_test_f32(rng) : -infinite();
        p->allow[i] = (uint8_t)(rv_test_below(rng, 4) != 0);
    }
    for (size_t h = 0; h < 8; h++) p->sinks[h] = 2.0f * rv_test_f32(rng);
    rv_attn_slopes(heads_of(p), p->slopes);
    p->io.q = p->q;
    p->io.k = p->k;
    p->io.v = p->v;
    if (s->type == RV_DTYPE_F16) {
        rv_convert_f32_to_f16(p->k, p->k16, n_k);
        rv_convert_f32_to_f16(p->v, p->v16, n_v);
        rv_convert_f16_to_f32(p->k16, p->k, n_k);
        rv_convert_f16_to_f32(p->v16, p->v, n_v);
    } else if (s->type == RV_DTYPE_BF16) {
        rv_convert_f32_to_bf16(p->k, p->k16, n_k);
        rv_convert_f32_to_bf16(p->v, p->v16, n_v);
        rv_convert_bf16_to_f32(p->k16, p->k, n_k);
        rv_convert_bf16_to_f32(p->v16, p->v, n_v);
    }
    if (s->type != RV_DTYPE_F32) {
        p->io.k = p->k16;
        p->io.v = p->v16;
    }
    p->io.out = p->out;
    p->io.weights = p->weights;
    p->io.lse = p->lse;
    if (s->form & CAP) p->config.softcap = 1.5f;
    if (s->form & SLOPES) p->config.slopes = p->slopes;
    if (s->form & SINKS) p->config.sinks = p->sinks;
    if (s->form & ADD) p->mask.add = p->add;
    if (s->form & ALLOW) p->mask.allow = p->allow;
    if (s->form & VISIBLE) p->mask.visible = visible;
    if (s->form & PER_HEAD) p->mask.add_head = p->mask.allow_head = s->n_q * s->n_k;
    if (s->form & WINDOW) {
        p->config.windowed = 1;
        p->config.left = 6;
        p->config.right = 2;
    }
    if (s->order == RV_ATTN_CAUSAL_FIRST) p->config.past = 3;
    if (p->mask.add || p->mask.allow || p->mask.visible) p->io.mask = &p->mask;
}

/* A logit x as softmax gets it, -1e300 where i does not see j, or for x of -1e300. */
RV_TEST_FN double dress(const problem *p, double x, size_t h, size_t i, size_t j)
{
    const rv_attn_config *c = &p->config;
    const rv_attn_io *io = &p->io;
    const size_t pair = (h * io->n_q + i) * io->n_k + j, flat = i * io->n_k + j;
    const double shift = c->order == RV_ATTN_CAUSAL ? (double)io->n_k - (double)io->n_q
                                                    : (double)c->past;
    const double ago = (double)i + (shift > 0 ? shift : 0.0) - (double)j;
    if (x < -1e299) return x;
    if (c->softcap > 0.0f) x = (double)c->softcap * tanh(x / (double)c->softcap);
    if (c->slopes) x -= (double)c->slopes[h] * fabs(ago);
    if (p->mask.add) x += (double)p->mask.add[p->mask.add_head ? pair : flat];
    if (p->mask.add && !(p->mask.add[p->mask.add_head ? pair : flat] > -3e38f)) return -1e300;
    if (c->order == RV_ATTN_CAUSAL && (double)j > (double)i + shift) return -1e300;
    if (c->order == RV_ATTN_CAUSAL_FIRST && ago < 0) return -1e300;
    if (c->windowed && (ago > (double)c->left || -ago > (double)c->right)) return -1e300;
    if (p->mask.allow && !p->mask.allow[p->mask.allow_head ? pair : flat]) return -1e300;
    if (p->mask.visible && !visible(NULL, h, i, j)) return -1e300;
    return x;
}

/* Weights, denominators, outputs and rates by definition. */
RV_TEST_FN void define(problem *p)
{
    const size_t n = p->io.n_k, heads = heads_of(p), kv = kv_of(p), dim_v = wide_of(p);
    for (size_t row = 0; row < heads * p->io.n_q; row++) {
        const size_t h = row / p->io.n_q, i = row % p->io.n_q;
        const double sink = p->config.sinks ? (double)p->config.sinks[h] : -1e300;
        double *w = p->want + row * n, top = sink, sum = 0, entropy = 0, seen = 0;
        double *out = p->out_want + (i * heads + h) * dim_v;
        for (size_t j = 0; j < n; j++) {
            w[j] = dress(p, p->logit(p, h, i, j), h, i, j);
            top = w[j] > top ? w[j] : top;
        }
        for (size_t j = 0; j < n; j++) {
            seen += w[j] > -1e299;
            w[j] = w[j] > -1e299 ? exp(w[j] - top) : 0;
            sum += w[j];
        }
        if (sink > -1e299) sum += exp(sink - top);
        p->lse_want[row] = sum > 0 ? top + log(sum) : -HUGE_VAL;
        for (size_t a = 0; a < dim_v; a++) out[a] = 0;
        for (size_t j = 0; j < n; j++) {
            if (sum > 0) w[j] /= sum;
            if (w[j] > 0) entropy -= w[j] * log(w[j]);
            for (size_t a = 0; a < dim_v; a++)
                out[a] += w[j] * (double)p->v[(j * kv + h * kv / heads) * dim_v + a];
        }
        p->rate_want[row] = seen > 0 ? log(seen) - entropy : 0;
    }
}

/* What was written against the definition, all within tolerance (weights relative to 1). */
RV_TEST_FN void compare(problem *p, double tolerance)
{
    const size_t rows = heads_of(p) * p->io.n_q, n = p->io.n_k;
    define(p);
    for (size_t i = 0; i < rows * n; i++) RV_NEAR(p->weights[i], p->want[i], tolerance);
    for (size_t i = 0; i < rows * wide_of(p); i++)
        RV_NEAR(p->out[i], p->out_want[i], tolerance * 2);
    for (size_t i = 0; i < rows; i++) {
        if (p->lse_want[i] > -1e299)
            RV_NEAR(p->lse[i], p->lse_want[i], tolerance * (1 + fabs(p->lse_want[i])));
        else RV_CHECK(p->lse[i] < -3e38f);
    }
}

RV_TEST_FN void point_grad(problem *p, rv_attn_grad *grad)
{
    memset(grad, 0, sizeof *grad);
    grad->d_out = p->d_out;
    grad->d_q = p->d_q;
    grad->d_k = p->d_k;
    grad->d_v = p->d_v;
    if (p->config.sinks) grad->d_sinks = p->d_sinks;
}

#endif /* RV_ATTN_INFO_SET_H */
