/* Problems for the mechanisms of attn_position.h, their definition in double, and what all their
   tests share. */
#ifndef RV_ATTN_POSITION_SET_H
#define RV_ATTN_POSITION_SET_H

#include "grid_set.h"

enum { ROPE = 0, GRAPH = 1, ALIBI = 2, T5 = 3, LAYER = 4, STRUCTURE = 5 };

/* One problem; base is what the mechanism's own config gets as its base. */
typedef struct problem {
    int kind;
    rv_attn_config base;
    rv_attn_io io;
    rv_attn_mask mask;
    rv_attn_grad grad;
    rv_attn_rope_config rope;
    rv_attn_graph_rope_config graph;
    rv_attn_t5_config t5;
    rv_attn_layer_config layer;
    size_t n_params;
    float *q, *k, *v, *params, *out, *weights, *lse, *d_out, *d_q, *d_k, *d_v, *d_params;
    float *places, *distance, *add;
    uint16_t *k16, *v16;
    uint32_t *indices;
    uint8_t *q_layer, *k_layer, *allow;
    double *bias;              /* structural: [heads, n_q, n_k] by the definition */
} problem;

RV_TEST_FN void *need(size_t bytes)
{
    void *p = malloc(bytes + 1);
    if (!p) exit(2);
    memset(p, 0x55, bytes + 1);
    return p;
}

RV_TEST_FN float *floats(size_t n)
{
    return (float *)need(n * sizeof(float));
}

RV_TEST_FN size_t heads_of(const problem *p) { return p->base.heads ? p->base.heads : 1; }
RV_TEST_FN size_t kv_of(const problem *p)
{
    return p->base.kv_heads ? p->base.kv_heads : heads_of(p);
}
RV_TEST_FN size_t wide_of(const problem *p) { return p->io.dim_v ? p->io.dim_v : p->io.dim; }

/* Memory for the sizes in io, base and n_params; inputs from random numbers. */
RV_TEST_FN void set_up(problem *p, rv_test_rng *rng)
{
    rv_attn_io *io = &p->io;
    const size_t heads = heads_of(p), n_q = io->n_q * heads, n_k = io->n_k * kv_of(p);
    const size_t pairs = n_q * io->n_k;
    p->q = floats(n_q * io->dim);
    p->k = floats(n_k * io->dim);
    p->v = floats(n_k * wide_of(p));
    p->params = floats(p->n_params);
    p->out = floats(n_q * wide_of(p));
    p->d_out = floats(n_q * wide_of(p));
    p->weights = floats(pairs);
    p->lse = floats(n_q);
    p->d_q = floats(n_q * io->dim);
    p->d_k = floats(n_k * io->dim);
    p->d_v = floats(n_k * wide_of(p));
    p->d_params = floats(p->n_params);
    p->places = floats(io->n_q + io->n_k);
    p->distance = floats(io->n_q * io->n_k);
    p->add = floats(pairs);
    p->allow = (uint8_t *)need(pairs);
    p->k16 = (uint16_t *)need(2 * n_k * io->dim);
    p->v16 = (uint16_t *)need(2 * n_k * wide_of(p));
    p->indices = (uint32_t *)need((io->n_q + io->n_k) * sizeof(uint32_t));
    p->q_layer = (uint8_t *)need(io->n_q);
    p->k_layer = (uint8_t *)need(io->n_k);
    rv_test_fill(rng, p->q, n_q * io->dim);
    rv_test_fill(rng, p->k, n_k * io->dim);
    rv_test_fill(rng, p->v, n_k * wide_of(p));
    rv_test_fill(rng, p->params, p->n_params);
    rv_test_fill(rng, p->d_out, n_q * wide_of(p));
    for (size_t i = 0; i < io->n_q + io->n_k; i++) {
        p->places[i] = 50.0f * rv_test_f32(rng);
        p->indices[i] = (uint32_t)rv_test_below(rng, 300);
    }
    for (size_t i = 0; i < io->n_q * io->n_k; i++)
        p->distance[i] = (float)rv_test_below(rng, 40) * 0.5f;
    for (size_t i = 0; i < pairs; i++) {
        p->add[i] = rv_test_below(rng, 5) ? rv_test_f32(rng) : -HUGE_VALF;
        p->allow[i] = (uint8_t)(rv_test_below(rng, 4) != 0);
    }
    for (size_t i = 0; i < io->n_q; i++) p->q_layer[i] = (uint8_t)rv_test_below(rng, 3);
    for (size_t j = 0; j < io->n_k; j++) p->k_layer[j] = (uint8_t)rv_test_below(rng, 3);
    io->q = p->q;
    io->k = p->k;
    io->v = p->v;
    io->out = p->out;
    io->weights = p->weights;
    p->grad.d_out = p->d_out;
    p->grad.d_q = p->d_q;
    p->grad.d_k = p->d_k;
    p->grad.d_v = p->d_v;
    if (p->n_params) p->grad.d_params = p->d_params;
}

RV_TEST_FN void drop(problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->params);
    free(p->out);
    free(p->d_out);
    free(p->weights);
    free(p->lse);
    free(p->d_q);
    free(p->d_k);
    free(p->d_v);
    free(p->d_params);
    free(p->places);
    free(p->distance);
    free(p->add);
    free(p->allow);
    free(p->k16);
    free(p->v16);
    free(p->indices);
    free(p->q_layer);
    free(p->k_layer);
    free(p->bias);
}

/* ---- the definition ---- */

/* x turned by a place, by the formula, without scaling. */
RV_TEST_FN void turn(const rv_rope_config *c, size_t dim, const double *x, double place,
                     double *out)
{
    const size_t rotary = c->rotary_dim ? c->rotary_dim : dim, half = rotary / 2;
    const double base = c->base > 0 ? c->base : 10000.0;
    for (size_t t = 0; t < dim; t++) out[t] = x[t];
    for (size_t t = 0; t < half; t++) {
        const size_t a = c->layout == RV_ROPE_HALVES ? t : 2 * t;
        const size_t b = c->layout == RV_ROPE_HALVES ? t + half : 2 * t + 1;
        const double angle = place * pow(base, -2.0 * (double)t / (double)rotary);
        out[a] = x[a] * cos(angle) - x[b] * sin(angle);
        out[b] = x[b] * cos(angle) + x[a] * sin(angle);
    }
}

RV_TEST_FN double past_of(const problem *p)
{
    if (p->base.order != RV_ATTN_CAUSAL) return (double)p->base.past;
    return p->io.n_k > p->io.n_q ? (double)(p->io.n_k - p->io.n_q) : 0.0;
}

/* q . k, both turned where the mechanism turns them. */
RV_TEST_FN double product(const problem *p, size_t h, size_t i, size_t j)
{
    const size_t dim = p->io.dim, heads = heads_of(p), kv = kv_of(p);
    double x[64], y[64], a[64], b[64], sum = 0;
    for (size_t t = 0; t < dim; t++) {
        a[t] = x[t] = (double)p->q[(i * heads + h) * dim + t];
        b[t] = y[t] = (double)p->k[(j * kv + h * kv / heads) * dim + t];
    }
    if (p->kind == ROPE) {
        const rv_attn_rope_config *c = &p->rope;
        turn(&c->rope, dim, x, c->q_place ? (double)c->q_place[i] : c->q_index ? c->q_index[i]
                                            : (double)i + past_of(p), a);
        turn(&c->rope, dim, y, c->k_place ? (double)c->k_place[j] : c->k_index ? c->k_index[j]
                                            : (double)j, b);
    }
    if (p->kind == GRAPH) {
        const rv_attn_graph_rope_config *c = &p->graph;
        double far_off = (double)c->distance[c->per_query ? i * p->io.n_k + j : j];
        if (c->max_distance > 0 && far_off > (double)c->max_distance)
            far_off = (double)c->max_distance;
        turn(&c->rope, dim, y, far_off, b);
    }
    for (size_t t = 0; t < dim; t++) sum += a[t] * b[t];
    return sum;
}

/* The bucket by the formula with logarithms, default sizes. */
RV_TEST_FN size_t bucket_of(int causal, double offset)
{
    const double side = causal ? 32 : 16, exact = side / 2;
    const size_t first = offset > 0 && !causal ? 16 : 0;
    const double ago = offset < 0 ? -offset : causal ? 0 : offset;
    double at;
    if (ago < exact) return first + (size_t)ago;
    at = exact + floor(log(ago / exact) / log(128 / exact) * (side - exact) + 1e-9);
    return first + (size_t)(at > side - 1 ? side - 1 : at);
}

/* branch 1: keys on layer 0; 2: the others; 0: all. */
RV_TEST_FN double logit(const problem *p, size_t h, size_t i, size_t j, int branch)
{
    const rv_attn_config *c = &p->base;
    const size_t heads = heads_of(p), pair = (h * p->io.n_q + i) * p->io.n_k + j;
    const double shift = c->order == RV_ATTN_CAUSAL ? (double)p->io.n_k - (double)p->io.n_q
                                                    : (double)c->past;
    const double past = past_of(p), ago = (double)i + past - (double)j;
    double scale = p->kind == T5 ? 1.0 : 1.0 / sqrt((double)p->io.dim), x;
    if (c->scale > 0 || c->scale < 0) scale = (double)c->scale;
    if (c->temperature > 0) scale /= (double)c->temperature;
    x = product(p, h, i, j) * scale;
    if (c->softcap > 0) x = (double)c->softcap * tanh(x / (double)c->softcap);
    if (p->kind == ALIBI) x -= (double)p->params[h] * fabs(ago);
    else if (c->slopes) x -= (double)c->slopes[h] * fabs(ago);
    if (p->kind == T5)
        x += (double)p->params[bucket_of(p->t5.t5.causal, -ago) * heads + h];
    if (p->kind == LAYER) {
        const size_t l = p->layer.layers;
        x += (double)p->params[(h * l + p->q_layer[i]) * l + p->k_layer[j]];
        if (branch && (p->k_layer[j] == 0) != (branch == 1)) return -HUGE_VAL;
    }
    if (p->kind == STRUCTURE) x += p->bias[pair];
    if (p->mask.add) x += (double)p->add[pair];
    if (c->order == RV_ATTN_CAUSAL && (double)j > (double)i + shift) return -HUGE_VAL;
    if (c->order == RV_ATTN_CAUSAL_FIRST && ago < 0) return -HUGE_VAL;
    if (c->windowed && (ago > (double)c->left || -ago > (double)c->right)) return -HUGE_VAL;
    if (p->mask.allow && !p->allow[pair]) return -HUGE_VAL;
    return x;
}

/* Adds share times the weights of a row to w; returns whether there are any. */
RV_TEST_FN int soften(const problem *p, size_t h, size_t i, int branch, double share, double *w)
{
    double top = p->base.sinks ? (double)p->base.sinks[h] : -HUGE_VAL, sum = 0, s[160];
    for (size_t j = 0; j < p->io.n_k; j++) {
        s[j] = logit(p, h, i, j, branch);
        top = s[j] > top ? s[j] : top;
    }
    if (top < -1e300) return 0;
    for (size_t j = 0; j < p->io.n_k; j++) sum += exp(s[j] - top);
    if (p->base.sinks) sum += exp((double)p->base.sinks[h] - top);
    for (size_t j = 0; j < p->io.n_k; j++) w[j] += share * exp(s[j] - top) / sum;
    return 1;
}

/* Weights of a row by the definition, w: [n_k]. */
RV_TEST_FN void weigh(const problem *p, size_t h, size_t i, double *w)
{
    memset(w, 0, p->io.n_k * sizeof *w);
    if (p->kind == LAYER && p->layer.gated) {
        const size_t dim = p->io.dim, l = p->layer.layers, table = heads_of(p) * l * l;
        double z = (double)p->params[table + heads_of(p) * dim + h], g;
        int low, high;
        for (size_t t = 0; t < dim; t++)
            z += (double)p->params[table + h * dim + t] *
                 (double)p->q[(i * heads_of(p) + h) * dim + t];
        low = soften(p, h, i, 1, 0, w);
        high = soften(p, h, i, 2, 0, w);
        g = !high ? 1.0 : !low ? 0.0 : 1.0 / (1.0 + exp(-z));
        (void)soften(p, h, i, 1, g, w);
        (void)soften(p, h, i, 2, 1.0 - g, w);
    } else {
        (void)soften(p, h, i, 0, 1.0, w);
    }
}

/* The sum of out * d_out by the definition: what backward takes the slopes of. */
RV_TEST_FN double loss_of(void *arg)
{
    const problem *p = (const problem *)arg;
    const size_t heads = heads_of(p), kv = kv_of(p), dim_v = wide_of(p);
    double *w = (double *)need(p->io.n_k * sizeof(double)), sum = 0;
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < p->io.n_q; i++) {
            weigh(p, h, i, w);
            for (size_t j = 0; j < p->io.n_k; j++)
                for (size_t x = 0; x < dim_v; x++)
                    sum += w[j] * (double)p->v[(j * kv + h * kv / heads) * dim_v + x] *
                           (double)p->d_out[(i * heads + h) * dim_v + x];
        }
    }
    free(w);
    return sum;
}

/* out and weights against the definition. */
RV_TEST_FN void check_forward(const problem *p, double tolerance)
{
    const size_t heads = heads_of(p), kv = kv_of(p), dim_v = wide_of(p), n_k = p->io.n_k;
    double *w = (double *)need(n_k * sizeof(double));
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < p->io.n_q; i++) {
            const float *got = p->weights + (h * p->io.n_q + i) * n_k;
            weigh(p, h, i, w);
            for (size_t j = 0; j < n_k; j++) RV_NEAR(got[j], w[j], tolerance);
            for (size_t x = 0; x < dim_v; x++) {
                double out = 0;
                for (size_t j = 0; j < n_k; j++)
                    out += w[j] * (double)p->v[(j * kv + h * kv / heads) * dim_v + x];
                RV_NEAR(p->out[(i * heads + h) * dim_v + x], out, 2 * tolerance);
            }
        }
    }
    free(w);
}

/* Slopes against finite differences of the definition. */
RV_TEST_FN void check_backward(problem *p, double tolerance)
{
    const size_t n_q = p->io.n_q * heads_of(p), n_k = p->io.n_k * kv_of(p);
    const double h = 1.0 / 64;
    check_slopes(loss_of, p, p->q, p->d_q, n_q * p->io.dim, h, tolerance);
    check_slopes(loss_of, p, p->k, p->d_k, n_k * p->io.dim, h, tolerance);
    check_slopes(loss_of, p, p->v, p->d_v, n_k * wide_of(p), h, tolerance);
    if (p->n_params) check_slopes(loss_of, p, p->params, p->d_params, p->n_params, h, tolerance);
}

#endif /* RV_ATTN_POSITION_SET_H */
