/* Sparse attention: every pattern by its definition, against dense attention with the same mask,
   a definition in double, finite differences, torch; counts, faults. */
#include "grid_set.h"

#include "golden/attn_sparse.h"

enum { TOPK = 9, HIERARCHICAL = 10 }; /* after rv_attn_pattern */
enum { LIST = 1, ADD = 2, ALLOW = 4, CAP = 8, SLOPES = 16, SINKS = 32, VALUES = 64, WINDOWED = 128,
       GRAPH = 256, VISIBLE = 512, HEADS = 1024 };

typedef rv_status (*forward_fn)(rv_ctx *, const rv_attn_sparse_config *, const rv_attn_io *);
typedef rv_status (*backward_fn)(rv_ctx *, const rv_attn_sparse_config *, const rv_attn_io *,
                                 const rv_attn_grad *);
static const forward_fn forward[] = {
    rv_attn_sliding, rv_attn_sliding_windows, rv_attn_local_global, rv_attn_sparse_strided,
    rv_attn_sparse_fixed, rv_attn_bigbird, rv_attn_block_sparse, rv_attn_custom_mask,
    rv_attn_neighborhood, rv_attn_sparse_topk, rv_attn_hierarchical};
static const backward_fn backward[] = {
    rv_attn_sliding_backward, rv_attn_sliding_windows_backward, rv_attn_local_global_backward,
    rv_attn_sparse_strided_backward, rv_attn_sparse_fixed_backward, rv_attn_bigbird_backward,
    rv_attn_block_sparse_backward, rv_attn_custom_mask_backward, rv_attn_neighborhood_backward,
    rv_attn_sparse_topk_backward, rv_attn_hierarchical_backward};

/* window, stride, block and so on are 0 where the mechanism does not read them. */
typedef struct shape {
    int kind, form, order;
    size_t n_q, n_k, dim, dim_v;
    uint32_t heads, kv_heads;
    size_t past, window, dilation, stride, columns;
    int both;
    size_t n_globals, random, block, hops, k, n_segments;
} shape;

static const shape shapes[] = {
    /* sliding */
    {0, 0, 0, 40, 40, 8, 0, 2, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, CAP | SINKS, 0, 33, 50, 16, 5, 2, 2, 4, 8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, SLOPES, 1, 30, 41, 16, 16, 4, 2, 0, 5, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, WINDOWED | ADD, 0, 25, 25, 6, 6, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {0, 0, 2, 20, 20, 4, 4, 1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    /* sliding_windows */
    {1, 0, 0, 37, 37, 8, 0, 2, 1, 0, 10, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, SINKS | SLOPES, 1, 30, 30, 8, 3, 2, 2, 0, 12, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0},
    {1, CAP | ALLOW, 0, 16, 16, 4, 4, 1, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    /* local_global */
    {2, 0, 0, 40, 40, 8, 0, 2, 1, 0, 7, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0},
    {2, LIST | SLOPES, 0, 30, 45, 16, 16, 2, 2, 6, 6, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0},
    {2, LIST | CAP | SINKS, 1, 30, 30, 8, 8, 1, 1, 0, 6, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0},
    {2, WINDOWED, 2, 12, 30, 8, 8, 1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    /* sparse_strided */
    {3, 0, 0, 41, 41, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {3, SINKS | ALLOW | HEADS, 0, 30, 33, 8, 8, 2, 2, 5, 0, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0},
    {3, CAP, 1, 20, 33, 8, 8, 1, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0},
    /* sparse_fixed */
    {4, 0, 0, 41, 41, 8, 0, 2, 1, 0, 0, 0, 9, 2, 0, 0, 0, 0, 0, 0, 0},
    {4, SLOPES | VISIBLE, 0, 30, 33, 8, 8, 2, 2, 1, 0, 0, 6, 6, 1, 0, 0, 0, 0, 0, 0},
    {4, CAP, 1, 20, 33, 8, 8, 1, 1, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0},
    /* bigbird */
    {5, 0, 0, 70, 70, 8, 0, 2, 1, 0, 3, 0, 0, 0, 0, 2, 3, 4, 0, 0, 0},
    {5, SINKS | ADD | HEADS, 1, 50, 66, 8, 8, 2, 2, 0, 1, 0, 0, 0, 0, 1, 2, 5, 0, 0, 0},
    {5, 0, 0, 20, 20, 4, 4, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    /* block_sparse */
    {6, 0, 0, 40, 52, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0},
    {6, CAP | SLOPES | SINKS | WINDOWED, 2, 31, 40, 16, 32, 2, 2, 6, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0,
     0},
    /* custom_mask */
    {7, GRAPH, 0, 30, 37, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {7, GRAPH | VALUES | CAP | SINKS, 2, 30, 37, 8, 16, 4, 2, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {7, GRAPH | VALUES | WINDOWED | ADD, 0, 20, 20, 8, 8, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    /* neighborhood */
    {8, GRAPH, 0, 40, 40, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {8, GRAPH | SINKS, 1, 20, 35, 8, 8, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0},
    {8, 0, 0, 15, 40, 8, 8, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0},
    {8, ALLOW | HEADS | CAP, 1, 20, 30, 8, 16, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    /* sparse_topk */
    {9, 0, 0, 20, 50, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0},
    {9, SLOPES | SINKS | CAP, 1, 30, 30, 8, 16, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {9, ADD | ALLOW | HEADS, 0, 12, 21, 5, 3, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21, 0},
    /* hierarchical */
    {10, 0, 0, 20, 40, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {10, SINKS | CAP | SLOPES, 1, 25, 31, 8, 16, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0},
    {10, ALLOW | ADD | HEADS, 0, 10, 30, 8, 4, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4},
};

enum { MOST = 72, HEADS_MOST = 4 };

/* A shape with everything it may need. see: by head, the keys that take part. */
typedef struct problem {
    shape form;
    rv_attn_sparse_config config;
    rv_attn_io io;
    rv_attn_mask mask;
    rv_csr graph;
    float *q, *k, *v, *out, *weights, *lse, *add, *d_out, *value, *entries;
    uint8_t *allow, *see, *near_by;
    uint32_t *start, *index, *chosen;
    uint8_t blocks[MOST * MOST];
    float sinks[HEADS_MOST], slopes[HEADS_MOST];
    double *grid_out;
} problem;

static const uint32_t some_globals[] = {2, 11, 12};
static const uint32_t some_segments[] = {0, 3, 4, 20};

static void *need(size_t bytes)
{
    void *p = malloc(bytes + 1);
    if (!p) exit(2);
    return p;
}

static int visible(void *user, size_t head, size_t i, size_t j)
{
    (void)user;
    return (head + 2 * i + 3 * j) % 5 != 0;
}

static float *numbers(size_t v, size_t n, double times)
{
    float *x = grid(v, (float *)need(n * sizeof(float)), n);
    for (size_t i = 0; i < n; i++) x[i] *= (float)times;
    return x;
}

static size_t heads_of(const problem *p) { return p->config.base.heads; }
static size_t kv_of(const problem *p) { return p->config.base.kv_heads; }
static size_t wide_of(const problem *p) { return p->io.dim_v ? p->io.dim_v : p->io.dim; }
static size_t out_count(const problem *p) { return p->io.n_q * heads_of(p) * wide_of(p); }

static size_t past_of(const problem *p)
{
    const size_t n_q = p->io.n_q, n_k = p->io.n_k;
    if (p->config.base.order != RV_ATTN_CAUSAL) return p->config.base.past;
    return n_k > n_q ? n_k - n_q : 0;
}

/* ---- the patterns, by definition ---- */

static size_t or_else(size_t x, size_t other) { return x ? x : other; }

static size_t ceil_root(size_t n)
{
    size_t r = 1;
    while (r * r < n) r++;
    return r;
}

static int in_window(const problem *p, long ago, long step)
{
    const rv_attn_sparse_config *c = &p->config;
    const long w = (long)or_else(c->window, p->form.kind == RV_ATTN_SLIDING ? 256 : 512);
    long left = w / 2, right = w - 1 - w / 2;
    if (c->base.order != RV_ATTN_ANY) {
        left = w - 1;
        right = 0;
    }
    if (c->base.windowed) {
        left = (long)c->base.left;
        right = (long)c->base.right;
    }
    return ago <= left * step && -ago <= right * step && ago % step == 0;
}

static int is_global(const problem *p, size_t j)
{
    if (!p->config.globals) return j < or_else(p->config.n_globals, 1);
    for (size_t g = 0; g < p->config.n_globals; g++)
        if (p->config.globals[g] == j) return 1;
    return 0;
}

/* Pairs of nodes by the number of edges between them, Floyd and Warshall. */
static void distances(problem *p)
{
    const size_t n = p->io.n_k;
    for (size_t i = 0; i < n * n; i++) p->near_by[i] = i / n == i % n ? 0 : 200;
    for (size_t i = 0; i < n; i++)
        for (size_t e = p->graph.start[i]; e < p->graph.start[i + 1]; e++)
            if (p->graph.index[e] != i) p->near_by[i * n + p->graph.index[e]] = 1;
    for (size_t m = 0; m < n; m++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                if (p->near_by[i * n + m] + p->near_by[m * n + j] < p->near_by[i * n + j])
                    p->near_by[i * n + j] =
                        (uint8_t)(p->near_by[i * n + m] + p->near_by[m * n + j]);
}

static int in_graph(const problem *p, size_t i, size_t j)
{
    for (size_t e = p->graph.start[i]; e < p->graph.start[i + 1]; e++)
        if (p->graph.index[e] == j) return 1;
    return 0;
}

/* Whether some window of sliding_windows holds both; *both and *own count windows. */
static int share_window(const problem *p, size_t i, size_t j)
{
    const size_t w = or_else(p->config.window, 256);
    const size_t s = or_else(p->config.stride, 128 < w ? 128 : w);
    for (size_t t = 0;; t += s) {
        if (i >= t && i < t + w && j >= t && j < t + w) return 1;
        if (t + w >= p->io.n_k) return 0;
    }
}

static int order_shows(const problem *p, size_t i, size_t j)
{
    const rv_attn_config *c = &p->config.base;
    const long ago = (long)i + (long)past_of(p) - (long)j;
    const long shift = (long)p->io.n_k - (long)p->io.n_q;
    if (c->order == RV_ATTN_CAUSAL && (long)j > (long)i + shift) return 0;
    if (c->order == RV_ATTN_CAUSAL_FIRST && ago < 0) return 0;
    if (c->windowed && p->form.kind != RV_ATTN_SLIDING && p->form.kind != RV_ATTN_LOCAL_GLOBAL &&
        (ago > (long)c->left || -ago > (long)c->right))
        return 0;
    return 1;
}

/* Bigbird's random blocks cannot be known: those are read from its own list. */
static int pattern_shows(const problem *p, size_t i, size_t j)
{
    const rv_attn_sparse_config *c = &p->config;
    const long at = (long)(i + past_of(p)), ago = at - (long)j;
    long l;
    switch (p->form.kind) {
    case RV_ATTN_SLIDING: return in_window(p, ago, (long)or_else(c->dilation, 1));
    case RV_ATTN_SLIDING_WINDOWS: return share_window(p, i, j);
    case RV_ATTN_LOCAL_GLOBAL:
        return in_window(p, ago, 1) || is_global(p, j) || is_global(p, (size_t)at);
    case RV_ATTN_STRIDED:
        l = (long)or_else(c->stride, ceil_root(p->io.n_k));
        if (!c->bidirectional && ago < 0) return 0;
        return (ago < l && -ago < l) || ago % l == 0;
    case RV_ATTN_FIXED:
        l = (long)or_else(c->stride, 128);
        if (!c->bidirectional && ago < 0) return 0;
        return at / l == (long)j / l || (long)j % l >= l - (long)or_else(c->columns, 8);
    case RV_ATTN_BLOCK_SPARSE:
        l = (long)c->block;
        return c->blocks[i / c->block * ((p->io.n_k + c->block - 1) / c->block) + j / c->block];
    case RV_ATTN_CUSTOM_MASK: return in_graph(p, i, j);
    case RV_ATTN_NEIGHBORHOOD:
        if (!c->graph) return 1;
        if ((size_t)at >= p->io.n_k) return 0;
        return p->near_by[(size_t)at * p->io.n_k + j] <= or_else(c->hops, 1);
    case RV_ATTN_BIGBIRD:
        for (size_t e = p->start[i]; e < p->start[i + 1]; e++)
            if (p->index[e] == j) return 1;
        return 0;
    default: return 1;
    }
}

/* ---- attention in double ---- */

/* The product, and the logit as it enters the softmax. */
static double logit(const problem *p, size_t h, size_t i, size_t j, double *product)
{
    const rv_attn_config *c = &p->config.base;
    const size_t dim = p->io.dim, heads = heads_of(p), kv = kv_of(p);
    const float *q = p->q + (i * heads + h) * dim, *k = p->k + (j * kv + h * kv / heads) * dim;
    const double at = (double)i + (double)past_of(p);
    double x = 0;
    for (size_t a = 0; a < dim; a++) x += (double)q[a] * (double)k[a];
    *product = x *= (c->scale != 0.0f ? (double)c->scale : 1.0 / sqrt((double)dim));
    if (c->softcap > 0.0f) x = (double)c->softcap * tanh(x / (double)c->softcap);
    if (c->slopes) x -= (double)c->slopes[h] * fabs(at - (double)j);
    if (p->mask.add) x += (double)p->add[h * p->mask.add_head + i * p->io.n_k + j];
    if (p->graph.value && p->form.kind == RV_ATTN_CUSTOM_MASK)
        for (size_t e = p->start[i]; e < p->start[i + 1]; e++)
            if (p->index[e] == j) x += (double)p->value[e];
    return x;
}

/* w = softmax of s where see[] is set, from begin to end; the log of the denominator. */
static double soften(const double *s, const uint8_t *see, size_t begin, size_t end, double sink,
                     double *w)
{
    double top = sink, sum = 0;
    for (size_t j = begin; j < end; j++)
        if (see[j] && s[j] > top) top = s[j];
    for (size_t j = begin; j < end; j++) w[j] = see[j] && s[j] > -1e300 ? exp(s[j] - top) : 0;
    for (size_t j = begin; j < end; j++) sum += w[j];
    if (sink > -1e300) sum += exp(sink - top);
    for (size_t j = begin; j < end && sum > 0; j++) w[j] /= sum;
    return sum > 0 ? top + log(sum) : -HUGE_VAL;
}

/* First key of a segment; n_k past the last. */
static size_t segment_at(const problem *p, size_t g)
{
    const size_t n = p->io.n_k, size = or_else(p->config.block, ceil_root(n));
    if (p->config.segments) return g < p->config.n_segments ? p->config.segments[g] : n;
    return g * size < n ? g * size : n;
}

/* Weights of one query; the log of the denominator. */
static double weigh(const problem *p, size_t h, size_t i, double *w)
{
    const size_t n = p->io.n_k;
    const uint8_t *see = p->see + (h * p->io.n_q + i) * n;
    const double sink = p->config.base.sinks ? (double)p->sinks[h] : -HUGE_VAL;
    double s[MOST], x[MOST], part[MOST], level[MOST], share[MOST], lse;
    uint8_t all[MOST];
    size_t count = 0, groups = 0;
    for (size_t j = 0; j < n; j++) s[j] = logit(p, h, i, j, &x[j]);
    if (p->form.kind == RV_ATTN_SLIDING_WINDOWS) {
        const size_t size = or_else(p->config.window, 256);
        const size_t step = or_else(p->config.stride, size < 128 ? size : 128);
        for (size_t j = 0; j < n; j++) w[j] = 0;
        for (size_t t = 0;; t += step) {
            const size_t end = t + size < n ? t + size : n;
            if (i >= t && i < end) {
                (void)soften(s, see, t, end, sink, part);
                for (size_t j = t; j < end; j++) w[j] += part[j];
                count++;
            }
            if (t + size >= n) break;
        }
        for (size_t j = 0; j < n; j++) w[j] /= (double)count;
        return 0;
    }
    if (p->form.kind != HIERARCHICAL) return soften(s, see, 0, n, sink, w);
    for (; segment_at(p, groups) < n; groups++) {
        const size_t begin = segment_at(p, groups), end = segment_at(p, groups + 1);
        all[groups] = soften(s, see, begin, end, -HUGE_VAL, w) > -1e300;
        level[groups] = 0;
        for (size_t j = begin; j < end; j++) level[groups] += w[j] * x[j];
    }
    lse = soften(level, all, 0, groups, sink, share);
    for (size_t g = 0; g < groups; g++)
        for (size_t j = segment_at(p, g); j < segment_at(p, g + 1); j++) w[j] *= share[g];
    return lse;
}

static double loss(void *arg)
{
    const problem *p = (const problem *)arg;
    const size_t heads = heads_of(p), kv = kv_of(p), dim_v = wide_of(p);
    double sum = 0, w[MOST];
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < p->io.n_q; i++) {
            (void)weigh(p, h, i, w);
            for (size_t j = 0; j < p->io.n_k; j++)
                for (size_t a = 0; a < dim_v && w[j] != 0; a++)
                    sum += w[j] * (double)p->v[(j * kv + h * kv / heads) * dim_v + a] *
                           (double)p->d_out[(i * heads + h) * dim_v + a];
        }
    }
    return sum;
}

/* Of what a query sees, the k best remain: by logit, or by distance. */
static void choose(const problem *p, size_t h, size_t i, uint8_t *see)
{
    const size_t n = p->io.n_k, k = or_else(p->config.k, n < 8 ? n : 8), dim = p->io.dim;
    const size_t kv = kv_of(p), heads = heads_of(p);
    double worth[MOST], product;
    uint8_t kept[MOST];
    for (size_t j = 0; j < n; j++) {
        worth[j] = logit(p, h, i, j, &product);
        if (worth[j] < -1e300) see[j] = 0;
        if (p->form.kind == TOPK) continue;
        worth[j] = 0;
        for (size_t a = 0; a < dim; a++) {
            const double gap = (double)p->q[(i * heads + h) * dim + a] -
                               (double)p->k[(j * kv + h * kv / heads) * dim + a];
            worth[j] -= gap * gap;
        }
    }
    for (size_t j = 0; j < n; j++) {
        size_t better = 0;
        for (size_t o = 0; o < n; o++)
            better += see[o] && (worth[o] > worth[j] || (worth[o] == worth[j] && o < j));
        kept[j] = see[j] && better < k;
    }
    memcpy(see, kept, n);
}

static void look(problem *p)
{
    const size_t n_q = p->io.n_q, n_k = p->io.n_k;
    for (size_t h = 0; h < heads_of(p); h++) {
        for (size_t i = 0; i < n_q; i++) {
            uint8_t *see = p->see + (h * n_q + i) * n_k;
            for (size_t j = 0; j < n_k; j++) {
                see[j] = (uint8_t)(order_shows(p, i, j) && pattern_shows(p, i, j));
                if (p->mask.allow && !p->allow[h * p->mask.allow_head + i * n_k + j]) see[j] = 0;
                if (p->mask.visible && !visible(NULL, h, i, j)) see[j] = 0;
            }
            if (p->form.kind == TOPK || (p->form.kind == RV_ATTN_NEIGHBORHOOD && !p->config.graph))
                choose(p, h, i, see);
        }
    }
}

/* ---- problems ---- */

static void configure(problem *p)
{
    const shape *f = &p->form;
    rv_attn_sparse_config *c = &p->config;
    c->base.heads = f->heads;
    c->base.kv_heads = f->kv_heads;
    c->base.order = (rv_attn_order)f->order;
    c->base.past = f->past;
    c->window = f->window;
    c->dilation = f->dilation;
    c->stride = f->stride;
    c->columns = f->columns;
    c->bidirectional = f->both;
    c->n_globals = f->n_globals;
    c->random = f->random;
    c->block = f->block;
    c->hops = f->hops;
    c->k = f->k;
    c->n_segments = f->n_segments;
    if (f->form & LIST) c->globals = some_globals;
    if (f->n_segments) c->segments = some_segments;
    if (f->kind == RV_ATTN_BLOCK_SPARSE) c->blocks = p->blocks;
    if (f->form & CAP) c->base.softcap = 1.5f;
    if (f->form & SLOPES) c->base.slopes = p->slopes;
    if (f->form & SINKS) c->base.sinks = p->sinks;
    if (f->form & WINDOWED) {
        c->base.windowed = 1;
        c->base.left = 4;
        c->base.right = 2;
    }
    if (f->form & ADD) p->mask.add = p->add;
    if (f->form & ALLOW) p->mask.allow = p->allow;
    if (f->form & VISIBLE) p->mask.visible = visible;
    if (f->form & HEADS) p->mask.add_head = p->mask.allow_head = f->n_q * f->n_k;
    if (f->form & (ADD | ALLOW | VISIBLE)) p->io.mask = &p->mask;
}

static void make_graph(problem *p, rv_ctx *ctx)
{
    const size_t rows = p->form.kind == RV_ATTN_CUSTOM_MASK ? p->io.n_q : p->io.n_k;
    const size_t n = p->io.n_k, most = p->form.kind == RV_ATTN_CUSTOM_MASK ? 3 : 20;
    uint8_t *full = (uint8_t *)need(rows * n);
    size_t count;
    for (size_t e = 0; e < rows * n; e++)
        full[e] = (uint8_t)((e * 7919u + e * e * 31u) % 997u % most == 0 && e / n != 5);
    RV_OKAY(ctx, rv_csr_from_mask(ctx, full, rows, n, p->start, p->index, rows * n, &count));
    p->graph.rows = rows;
    p->graph.cols = n;
    p->graph.start = p->start;
    p->graph.index = p->index;
    p->graph.value = p->form.form & VALUES ? p->value : NULL;
    p->config.graph = &p->graph;
    if (p->form.kind == RV_ATTN_NEIGHBORHOOD) distances(p);
    free(full);
}

static void make(problem *p, const shape *form, rv_ctx *ctx)
{
    const size_t n_q = form->n_q, n_k = form->n_k, pairs = form->heads * n_q * n_k;
    const size_t dim_v = form->dim_v ? form->dim_v : form->dim;
    const size_t square = (n_q > n_k ? n_q : n_k) * n_k;
    memset(p, 0, sizeof *p);
    p->form = *form;
    p->io.n_q = n_q;
    p->io.n_k = n_k;
    p->io.dim = form->dim;
    p->io.dim_v = form->dim_v;
    p->io.q = p->q = numbers(1, n_q * form->heads * form->dim, 1);
    p->io.k = p->k = numbers(2, n_k * form->kv_heads * form->dim, 1);
    p->io.v = p->v = numbers(3, n_k * form->kv_heads * dim_v, 1);
    p->d_out = numbers(4, n_q * form->heads * dim_v, 1);
    p->add = numbers(5, pairs, 1);
    p->value = numbers(6, square, 1);
    p->io.out = p->out = numbers(7, n_q * form->heads * dim_v, 1);
    p->io.weights = p->weights = numbers(7, pairs, 1);
    p->lse = numbers(7, form->heads * n_q, 1);
    p->entries = numbers(7, pairs + 64 * n_q, 1);
    p->allow = (uint8_t *)need(pairs);
    p->see = (uint8_t *)need(pairs);
    p->near_by = (uint8_t *)need(n_k * n_k);
    p->start = (uint32_t *)need((square + 1) * sizeof(uint32_t));
    p->index = (uint32_t *)need(square * sizeof(uint32_t));
    p->chosen = (uint32_t *)need((pairs + 64 * n_q) * sizeof(uint32_t));
    for (size_t e = 0; e < pairs; e++) {
        p->allow[e] = (uint8_t)(e * e * 13u % 101u % 4 != 0);
        if (e % 11 == 3) p->add[e] = -HUGE_VALF;
    }
    for (size_t e = 0; e < sizeof p->blocks; e++) p->blocks[e] = (uint8_t)(e * 37u % 11u % 3 == 0);
    for (size_t h = 0; h < form->heads; h++) {
        p->sinks[h] = 0.5f * (float)h - 0.25f;
        p->slopes[h] = 0.125f / (float)(h + 1);
    }
    if (form->kind != RV_ATTN_SLIDING_WINDOWS) p->io.lse = p->lse;
    configure(p);
    if (form->form & GRAPH) make_graph(p, ctx);
    if (form->kind == RV_ATTN_BIGBIRD) {
        size_t count;
        RV_OKAY(ctx, rv_attn_pattern_csr(ctx, RV_ATTN_BIGBIRD, &p->config, n_q, n_k, p->start,
                                         p->index, square, &count));
    }
    look(p);
}

static void drop(problem *p)
{
    float *floats[] = {p->q, p->k, p->v, p->d_out, p->add, p->value, p->out, p->weights, p->lse,
                       p->entries};
    for (size_t i = 0; i < RV_COUNT_OF(floats); i++) free(floats[i]);
    free(p->allow);
    free(p->see);
    free(p->near_by);
    free(p->start);
    free(p->index);
    free(p->chosen);
}

/* ---- forward ---- */

static void check_row(const problem *p, size_t h, size_t i)
{
    const size_t heads = heads_of(p), kv = kv_of(p), dim_v = wide_of(p), n = p->io.n_k;
    const float *got = p->weights + (h * p->io.n_q + i) * n;
    double w[MOST];
    const double lse = weigh(p, h, i, w);
    /* logits up to 8, of products up to 20, in floats */
    for (size_t j = 0; j < n; j++) RV_NEAR(got[j], w[j], 8e-6 * w[j] + 1e-9);
    for (size_t j = 0; j < n; j++) RV_CHECK(w[j] != 0 || got[j] == 0.0f);
    if (p->io.lse && lse > -1e300) RV_NEAR(p->lse[h * p->io.n_q + i], lse, 3e-6);
    if (p->io.lse && lse < -1e300) RV_CHECK(p->lse[h * p->io.n_q + i] == -HUGE_VALF);
    for (size_t a = 0; a < dim_v; a++) {
        double want = 0;
        for (size_t j = 0; j < n; j++)
            want += w[j] * (double)p->v[(j * kv + h * kv / heads) * dim_v + a];
        RV_NEAR(p->out[(i * heads + h) * dim_v + a], want, 5e-6);
    }
}

static void test_definition(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
        problem p;
        rv_test_row("shape", row);
        make(&p, &shapes[row], &ctx);
        for (int only = 0; only < 2; only++) { /* with weights, and without */
            if (only) p.io.weights = NULL;
            RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
            for (size_t h = 0; h < heads_of(&p); h++)
                for (size_t i = 0; i < p.io.n_q; i++) check_row(&p, h, i);
            grid(7, p.out, out_count(&p));
            grid(7, p.lse, heads_of(&p) * p.io.n_q);
        }
        drop(&p);
    }
}

/* The same as dense attention with the mask that the pattern is, also with narrow keys and values,
   which hold the inputs exactly. */
static void test_dense(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
        for (int type = 0; type < 3; type++) {
            problem p;
            rv_attn_io io;
            rv_attn_mask mask;
            rv_attn_config plain;
            size_t n_k, n_v, n_out;
            uint16_t *k16, *v16;
            float *out;
            if (shapes[row].kind == RV_ATTN_SLIDING_WINDOWS || shapes[row].kind == HIERARCHICAL ||
                (shapes[row].form & VALUES))
                continue; /* no mask is the same */
            rv_test_row("shape", row);
            make(&p, &shapes[row], &ctx);
            n_k = p.io.n_k * kv_of(&p) * p.io.dim;
            n_v = p.io.n_k * kv_of(&p) * wide_of(&p);
            n_out = out_count(&p);
            k16 = (uint16_t *)need(2 * n_k);
            v16 = (uint16_t *)need(2 * n_v);
            out = (float *)need(n_out * sizeof(float));
            if (type == 1) rv_convert_f32_to_f16(p.k, k16, n_k);
            if (type == 1) rv_convert_f32_to_f16(p.v, v16, n_v);
            if (type == 2) rv_convert_f32_to_bf16(p.k, k16, n_k);
            if (type == 2) rv_convert_f32_to_bf16(p.v, v16, n_v);
            if (type) {
                p.io.type = type == 1 ? RV_DTYPE_F16 : RV_DTYPE_BF16;
                p.io.k = k16;
                p.io.v = v16;
            }
            p.io.weights = NULL;
            RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
            io = p.io;
            mask = p.mask;
            plain = p.config.base;
            plain.windowed = 0;
            mask.allow = p.see;
            mask.allow_head = p.io.n_q * p.io.n_k;
            mask.visible = NULL;
            io.mask = &mask;
            io.out = out;
            io.lse = NULL;
            RV_OKAY(&ctx, rv_attn(&ctx, &plain, &io));
            for (size_t i = 0; i < n_out; i++) RV_NEAR(p.out[i], out[i], 5e-6);
            p.config.base.dropout = plain.dropout = 0.25f; /* the same weights are dropped */
            p.config.base.training = plain.training = 1;
            p.config.base.stream = plain.stream = 3;
            RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
            RV_OKAY(&ctx, rv_attn(&ctx, &plain, &io));
            for (size_t i = 0; i < n_out; i++) RV_NEAR(p.out[i], out[i], 8e-6);
            free(k16);
            free(v16);
            free(out);
            drop(&p);
        }
    }
}

/* Longer inputs, many heads, odd blocks: the same as dense attention with the exported list. */
static void test_long(void)
{
    static const struct {
        rv_attn_pattern kind;
        size_t n_q, n_k, dim, dim_v;
        uint32_t heads, kv_heads;
        int order;
        size_t window, block, past, stride;
    } rows[] = {
        {RV_ATTN_LOCAL_GLOBAL, 300, 300, 16, 32, 2, 2, 0, 50, 0, 0, 0},
        {RV_ATTN_LOCAL_GLOBAL, 9, 200, 8, 8, 52, 1, 1, 30, 0, 0, 0},
        {RV_ATTN_LOCAL_GLOBAL, 40, 200, 8, 8, 12, 2, 2, 30, 0, 100, 0},
        {RV_ATTN_BIGBIRD, 330, 330, 16, 20, 3, 1, 0, 3, 33, 0, 0},
        {RV_ATTN_BIGBIRD, 250, 270, 16, 16, 1, 1, 0, 1, 61, 11, 0},
        {RV_ATTN_FIXED, 300, 300, 8, 8, 1, 1, 0, 0, 0, 0, 40},
        {RV_ATTN_STRIDED, 300, 300, 8, 8, 1, 1, 0, 0, 0, 0, 64},
        {RV_ATTN_SLIDING, 300, 300, 64, 64, 1, 1, 1, 90, 0, 0, 0},
    };
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    if (RV_TEST_SCALE > 16) return;
    for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
        const size_t n_q = rows[row].n_q, n_k = rows[row].n_k, heads = rows[row].heads;
        const size_t n_out = n_q * heads * rows[row].dim_v, kv = rows[row].kv_heads;
        float *q = numbers(1, n_q * heads * rows[row].dim, 1);
        float *k = numbers(2, n_k * kv * rows[row].dim, 1);
        float *v = numbers(3, n_k * kv * rows[row].dim_v, 1);
        float *out = numbers(4, n_out, 1), *dense = numbers(5, n_out, 1);
        float *lse = numbers(4, n_q * heads, 1), *dense_lse = numbers(5, n_q * heads, 1);
        uint8_t *allow = (uint8_t *)need(n_q * n_k);
        uint32_t *start = (uint32_t *)need((n_q + 1) * sizeof *start);
        uint32_t *index = (uint32_t *)need(n_q * n_k * sizeof *index);
        size_t count;
        rv_attn_sparse_config c;
        rv_attn_mask mask;
        rv_attn_io io;
        rv_test_row("shape", row);
        memset(&c, 0, sizeof c);
        memset(&io, 0, sizeof io);
        memset(&mask, 0, sizeof mask);
        c.base.heads = rows[row].heads;
        c.base.kv_heads = rows[row].kv_heads;
        c.base.order = (rv_attn_order)rows[row].order;
        c.base.past = rows[row].past;
        c.window = rows[row].window;
        c.block = rows[row].block;
        c.stride = rows[row].stride;
        io.n_q = n_q;
        io.n_k = n_k;
        io.dim = rows[row].dim;
        io.dim_v = rows[row].dim_v;
        io.q = q;
        io.k = k;
        io.v = v;
        io.out = out;
        io.lse = lse;
        RV_OKAY(&ctx, forward[rows[row].kind](&ctx, &c, &io));
        RV_OKAY(&ctx, rv_attn_pattern_csr(&ctx, rows[row].kind, &c, n_q, n_k, start, index,
                                          n_q * n_k, &count));
        memset(allow, 0, n_q * n_k);
        for (size_t i = 0; i < n_q; i++)
            for (size_t e = start[i]; e < start[i + 1]; e++) allow[i * n_k + index[e]] = 1;
        mask.allow = allow;
        io.mask = &mask;
        io.out = dense;
        io.lse = dense_lse;
        RV_OKAY(&ctx, rv_attn(&ctx, &c.base, &io));
        for (size_t e = 0; e < n_out; e++) RV_NEAR(out[e], dense[e], 5e-6);
        for (size_t e = 0; e < n_q * heads; e++)
            if (lse[e] > -1e30f || dense_lse[e] > -1e30f) RV_NEAR(lse[e], dense_lse[e], 5e-6);
        free(q);
        free(k);
        free(v);
        free(out);
        free(dense);
        free(lse);
        free(dense_lse);
        free(allow);
        free(start);
        free(index);
    }
}

/* ---- lists ---- */

/* The exported list is what the definition shows, and what `entries` is in the order of. */
static void test_lists(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
        problem p;
        uint32_t *start, *index;
        size_t count = 0, again = 0;
        rv_attn_pattern kind = (rv_attn_pattern)(shapes[row].kind > 8 ? 0 : shapes[row].kind);
        rv_test_row("shape", row);
        make(&p, &shapes[row], &ctx);
        if (p.form.kind > 8 || (p.form.kind == 8 && !p.config.graph)) {
            drop(&p);
            continue;
        }
        RV_EQUAL(rv_attn_pattern_csr(&ctx, kind, &p.config, p.io.n_q, p.io.n_k, NULL, NULL, 0,
                                     &count),
                 RV_ERR_ARG);
        start = (uint32_t *)need((p.io.n_q + 1) * sizeof *start);
        index = (uint32_t *)need(count * sizeof *index);
        RV_OKAY(&ctx, rv_attn_pattern_csr(&ctx, kind, &p.config, p.io.n_q, p.io.n_k, start, index,
                                          count, &again));
        RV_EQUAL(again, count);
        RV_EQUAL(start[p.io.n_q], count);
        for (size_t i = 0; i < p.io.n_q; i++) {
            size_t e = start[i];
            for (size_t j = 0; j < p.io.n_k; j++) {
                const int listed = e < start[i + 1] && index[e] == j;
                RV_EQUAL(listed, order_shows(&p, i, j) && pattern_shows(&p, i, j));
                e += (size_t)listed;
            }
            RV_EQUAL(e, start[i + 1]);
        }
        p.config.entries = p.entries;
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        for (size_t h = 0; h < heads_of(&p); h++)
            for (size_t i = 0; i < p.io.n_q; i++)
                for (size_t e = start[i]; e < start[i + 1]; e++)
                    RV_CHECK(p.entries[h * count + e] ==
                             p.weights[(h * p.io.n_q + i) * p.io.n_k + index[e]]);
        free(start);
        free(index);
        drop(&p);
    }
}

static size_t entries_of(rv_attn_pattern pattern, const rv_attn_sparse_config *config, size_t n)
{
    size_t count = 0;
    (void)rv_attn_pattern_csr(NULL, pattern, config, n, n, NULL, NULL, 0, &count);
    return count;
}

/* Numbers of entries in closed form. */
static void test_counts(void)
{
    rv_attn_sparse_config c;
    memset(&c, 0, sizeof c);
    c.window = 10; /* 5 before, 4 behind: at the ends 5 + 4 + 3 + 2 + 1 and 4 + 3 + 2 + 1 lack */
    RV_EQUAL(entries_of(RV_ATTN_SLIDING, &c, 1000), 10 * 1000 - 15 - 10);
    c.window = 5000;
    RV_EQUAL(entries_of(RV_ATTN_SLIDING, &c, 1000), 1000 * 1000);
    c.window = 10;
    c.base.order = RV_ATTN_CAUSAL;
    RV_EQUAL(entries_of(RV_ATTN_SLIDING, &c, 1000), 10 * 1000 - 45);
    c.base.order = RV_ATTN_ANY;
    c.n_globals = 5; /* at most 15 of 1000 for all but the globals themselves */
    RV_CHECK(entries_of(RV_ATTN_LOCAL_GLOBAL, &c, 1000) <= 1000 * (10 + 2 * 5));
    RV_EQUAL(entries_of(RV_ATTN_LOCAL_GLOBAL, &c, 1000),
             5 * 1000 + 995 * 15 - (5 + 4 + 3 + 2 + 1) - 10);
    memset(&c, 0, sizeof c);
    c.window = c.stride = 64; /* blocks on the diagonal */
    RV_EQUAL(entries_of(RV_ATTN_SLIDING_WINDOWS, &c, 640), 10 * 64 * 64);
    memset(&c, 0, sizeof c);
    c.stride = 32; /* the last 32, and every 32nd before: sums of min(i + 1, 32) and of i / 32 */
    RV_EQUAL(entries_of(RV_ATTN_STRIDED, &c, 1024),
             32 * 33 / 2 + 992 * 32 + 32 * (31 * 32 / 2));
    c.columns = 4; /* the own block so far, four keys of every block before */
    RV_EQUAL(entries_of(RV_ATTN_FIXED, &c, 1024), 32 * (32 * 33 / 2) + 4 * 32 * (31 * 32 / 2));
    memset(&c, 0, sizeof c); /* 2 rows of all blocks, the others of 3 + 2 + 3, of 7 beside them */
    c.block = 16;
    RV_EQUAL(entries_of(RV_ATTN_BIGBIRD, &c, 640), 16 * (2 * 640 + 16 * (38 * 8 - 2)));
}

/* Bigbird's blocks: window and globals are there, as many others as asked for, whole; the same for
   the same seed only. */
static void test_bigbird(void)
{
    enum { BLOCKS = 30, SIZE = 3, N = BLOCKS * SIZE };
    static uint32_t start[N + 1], index[N * N], other[N * N];
    rv_attn_sparse_config c;
    size_t count = 0, differ = 0, drawn[BLOCKS] = {0};
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&c, 0, sizeof c);
    c.block = SIZE;
    c.random = 4;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        size_t now;
        ctx.seed = seed;
        memcpy(other, index, sizeof index);
        RV_OKAY(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_BIGBIRD, &c, N, N, start, index, N * N,
                                          &now));
        if (seed > 1) RV_EQUAL(now, count); /* the number depends on no seed */
        if (seed > 1) differ += memcmp(other, index, now * sizeof *index) != 0;
        count = now;
        for (size_t i = SIZE; i < N - SIZE; i++) {
            const size_t b = i / SIZE;
            size_t inside = 0, extra = 0;
            for (size_t e = start[i]; e < start[i + 1]; e++) {
                const size_t at = index[e] / SIZE;
                const int known = at == 0 || at == BLOCKS - 1 || (at + 1 >= b && at <= b + 1);
                inside += (size_t)known;
                extra += (size_t)!known;
                if (!known) drawn[at]++;
                if (i % SIZE) RV_CHECK(index[e] == index[e - (start[i] - start[i - 1])]);
            }
            RV_EQUAL(inside, SIZE * (b == 1 || b == BLOCKS - 2 ? 4 : 5));
            RV_EQUAL(extra, 4 * SIZE);
        }
    }
    RV_EQUAL(differ, 39);
    /* of 28 blocks in 40 drawings each block has about its share: 4 of 25 or 26 */
    for (size_t b = 2; b < BLOCKS - 2; b++)
        RV_NEAR((double)drawn[b] / (SIZE * SIZE), 40 * 25 * 4 / 25.0, 5 * sqrt(160 * 0.84));
    memcpy(other, index, sizeof index);
    RV_OKAY(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_BIGBIRD, &c, N, N, start, index, N * N,
                                      &count));
    RV_CHECK(memcmp(other, index, sizeof index) == 0);
}

/* ---- identities ---- */

/* Weights add up to 1, or to what the sink leaves; values of 1 give that sum. */
static void test_sums(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
        problem p;
        rv_test_row("shape", row);
        make(&p, &shapes[row], &ctx);
        for (size_t i = 0; i < p.io.n_k * kv_of(&p) * wide_of(&p); i++) p.v[i] = 1.0f;
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        for (size_t r = 0; r < heads_of(&p) * p.io.n_q; r++) {
            const size_t h = r / p.io.n_q, i = r % p.io.n_q;
            double sum = 0;
            for (size_t j = 0; j < p.io.n_k; j++) sum += (double)p.weights[r * p.io.n_k + j];
            if (!p.config.base.sinks && sum != 0) RV_NEAR(sum, 1, 2e-6);
            RV_NEAR(p.out[(i * heads_of(&p) + h) * wide_of(&p)], sum, 2e-6);
        }
        drop(&p);
    }
}

/* Dense attention is: a window over everything, the n largest, one segment, the whole graph. */
static void test_everything(void)
{
    static const shape plain[] = {
        {0, 0, 0, 20, 31, 8, 0, 2, 1, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
        {1, 0, 0, 31, 31, 8, 0, 2, 1, 0, 31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
        {2, 0, 0, 20, 31, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 31, 0, 0, 0, 0, 0},
        {3, 0, 0, 20, 31, 8, 0, 2, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0},
        {4, 0, 0, 20, 31, 8, 0, 2, 1, 0, 0, 0, 100, 0, 1, 0, 0, 0, 0, 0, 0},
        {5, 0, 0, 20, 31, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0},
        {8, 0, 0, 20, 31, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 0},
        {9, 0, 1, 20, 31, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 0},
        {10, 0, 1, 20, 31, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 31, 0, 0, 0},
    };
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(plain); row++) {
        problem p;
        float *was;
        rv_test_row("shape", row);
        make(&p, &plain[row], &ctx);
        was = (float *)need(out_count(&p) * sizeof(float));
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        memcpy(was, p.out, out_count(&p) * sizeof(float));
        RV_OKAY(&ctx, rv_attn(&ctx, &p.config.base, &p.io));
        for (size_t i = 0; i < out_count(&p); i++) RV_NEAR(was[i], p.out[i], 2e-6);
        free(was);
        drop(&p);
    }
}

/* Of equal logits, and of equal distances, the lower keys are chosen; they share the weight. */
static void test_ties(void)
{
    const shape forms[] = {{9, 0, 0, 3, 30, 8, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0},
                           {8, 0, 0, 3, 30, 8, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0}};
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < 2; row++) {
        problem p;
        make(&p, &forms[row], &ctx);
        for (size_t j = 1; j < 30; j++) memcpy(p.k + j * 8, p.k, 8 * sizeof(float));
        p.config.chosen = p.chosen;
        p.config.entries = p.entries;
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        for (size_t e = 0; e < 18; e++) {
            RV_EQUAL(p.chosen[e], e % 6);
            RV_NEAR(p.entries[e], 1.0 / 6, 1e-7);
        }
        p.config.base.order = RV_ATTN_CAUSAL_FIRST; /* fewer than k are seen */
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        for (size_t e = 0; e < 18; e++) {
            RV_EQUAL(p.chosen[e], e % 6 <= e / 6 ? (uint32_t)(e % 6) : UINT32_MAX);
            RV_NEAR(p.entries[e], e % 6 <= e / 6 ? 1.0 / (double)(e / 6 + 1) : 0.0, 1e-7);
        }
        drop(&p);
    }
}

/* Logits of +-1000 stay finite, a shift of all changes nothing, hidden rows are zero, one key has
   all the weight. */
static void test_logits(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
        problem p;
        size_t pairs, n_out;
        float *was;
        if (shapes[row].form & (ADD | ALLOW | VISIBLE | SINKS)) continue;
        rv_test_row("shape", row);
        make(&p, &shapes[row], &ctx);
        pairs = p.io.n_q * p.io.n_k;
        n_out = out_count(&p);
        was = (float *)need(n_out * sizeof(float));
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        memcpy(was, p.out, n_out * sizeof(float));
        p.mask.add = p.add;
        p.io.mask = &p.mask;
        for (size_t e = 0; e < pairs; e++) p.add[e] = 5.0f;
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        for (size_t e = 0; e < n_out; e++) RV_NEAR(p.out[e], was[e], 1e-5);
        for (size_t e = 0; e < pairs; e++) p.add[e] = e % 3 ? 1000.0f : -1000.0f;
        look(&p);
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        for (size_t e = 0; e < n_out; e++) RV_CHECK(fabsf(p.out[e]) < 2.0f);
        for (size_t e = 0; e < pairs; e++) p.add[e] = -HUGE_VALF;
        RV_OKAY(&ctx, forward[p.form.kind](&ctx, &p.config, &p.io));
        for (size_t e = 0; e < n_out; e++) RV_CHECK(p.out[e] == 0.0f);
        for (size_t e = 0; e < heads_of(&p) * pairs; e++) RV_CHECK(p.weights[e] == 0.0f);
        free(was);
        drop(&p);
    }
}

/* n = 1: all defaults, one key. */
static void test_one(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (int kind = 0; kind < 11; kind++) {
        static const uint32_t start[] = {0, 1}, index[] = {0};
        const uint8_t block = 1;
        float x[3] = {1.5f, -0.5f, 2.0f}, out[3], weight = 0;
        rv_csr graph;
        rv_attn_sparse_config c;
        rv_attn_io io;
        rv_test_row("mechanism", (size_t)kind);
        memset(&c, 0, sizeof c);
        memset(&io, 0, sizeof io);
        memset(&graph, 0, sizeof graph);
        graph.rows = graph.cols = 1;
        graph.start = start;
        graph.index = index;
        if (kind == RV_ATTN_CUSTOM_MASK || kind == RV_ATTN_NEIGHBORHOOD) c.graph = &graph;
        if (kind == RV_ATTN_BLOCK_SPARSE) c.blocks = &block;
        io.n_q = io.n_k = 1;
        io.dim = 3;
        io.q = x;
        io.k = x;
        io.v = x;
        io.out = out;
        io.weights = &weight;
        RV_OKAY(&ctx, forward[kind](&ctx, &c, &io));
        RV_CHECK(weight == 1.0f);
        RV_CHECK(memcmp(out, x, sizeof x) == 0);
        io.n_q = kind == RV_ATTN_SLIDING_WINDOWS ? 1 : 0;
        graph.rows = kind == RV_ATTN_CUSTOM_MASK ? 0 : 1;
        RV_OKAY(&ctx, forward[kind](&ctx, &c, &io));
    }
}

/* Permuted keys: permuted weights and the same output. */
static void test_permutation(void)
{
    const shape form = {9, 0, 0, 10, 40, 8, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0};
    rv_ctx ctx;
    problem p, other;
    rv_test_ctx(&ctx);
    make(&p, &form, &ctx);
    make(&other, &form, &ctx);
    for (size_t j = 0; j < 40; j++) {
        const size_t to = j * 17 % 40;
        memcpy(other.k + to * 8, p.k + j * 8, 8 * sizeof(float));
        memcpy(other.v + to * 8, p.v + j * 8, 8 * sizeof(float));
    }
    RV_OKAY(&ctx, rv_attn_sparse_topk(&ctx, &p.config, &p.io));
    RV_OKAY(&ctx, rv_attn_sparse_topk(&ctx, &other.config, &other.io));
    for (size_t e = 0; e < 80; e++) RV_NEAR(p.out[e], other.out[e], 1e-6);
    for (size_t i = 0; i < 10; i++)
        for (size_t j = 0; j < 40; j++)
            RV_NEAR(p.weights[i * 40 + j], other.weights[i * 40 + j * 17 % 40], 1e-6);
    drop(&p);
    drop(&other);
}

/* Triples in any order, made a graph, mean the mask they say. */
static void test_triples(void)
{
    enum { N_Q = 12, N_K = 20, COUNT = 60 };
    const shape form = {7, GRAPH, 0, N_Q, N_K, 8, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    uint32_t row[COUNT], col[COUNT], start[N_Q + 1], index[COUNT];
    float value[COUNT], sums[COUNT], was[N_Q * 2 * 8];
    size_t kept;
    rv_csr graph;
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p, &form, &ctx);
    for (size_t e = 0; e < N_Q * N_K; e++) p.add[e] = -HUGE_VALF;
    grid(9, value, COUNT);
    for (size_t e = 0; e < COUNT; e++) {
        row[e] = (uint32_t)(e * 31 % N_Q);
        col[e] = (uint32_t)(e * 7 % N_K);
        value[e] *= 0.5f;
        if (p.add[row[e] * N_K + col[e]] < -1e30f) p.add[row[e] * N_K + col[e]] = 0.0f;
        p.add[row[e] * N_K + col[e]] += value[e];
    }
    RV_OKAY(&ctx, rv_csr_from_coo(&ctx, N_Q, N_K, row, col, value, COUNT, start, index, sums,
                                  &kept));
    graph.rows = N_Q;
    graph.cols = N_K;
    graph.start = start;
    graph.index = index;
    graph.value = sums;
    p.config.graph = &graph;
    RV_OKAY(&ctx, rv_attn_custom_mask(&ctx, &p.config, &p.io));
    memcpy(was, p.out, sizeof was);
    p.mask.add = p.add;
    p.io.mask = &p.mask;
    RV_OKAY(&ctx, rv_attn(&ctx, &p.config.base, &p.io));
    for (size_t e = 0; e < N_Q * 2 * 8; e++) RV_NEAR(was[e], p.out[e], 2e-6);
    drop(&p);
}

/* A NaN reaches the queries that see it, and no others. */
static void test_nan(void)
{
    const shape form = {3, 0, 0, 40, 40, 8, 0, 1, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0};
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p, &form, &ctx);
    p.k[20 * 8 + 3] = not_a_number();
    RV_OKAY(&ctx, rv_attn_sparse_strided(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < 40; i++) {
        for (size_t a = 0; a < 8; a++) {
            uint32_t bits;
            memcpy(&bits, p.out + i * 8 + a, 4);
#if defined(__FAST_MATH__) /* NaN may become anything */
            if (p.see[i * 40 + 20]) continue;
#endif
            RV_EQUAL((bits & 0x7FFFFFFFu) > 0x7F800000u, p.see[i * 40 + 20]);
        }
    }
    drop(&p);
}

/* ---- backward ---- */

typedef struct slopes_of {
    float *d_q, *d_k, *d_v, *d_sinks;
} slopes_of;

static void slopes_make(const problem *p, slopes_of *g, rv_attn_grad *grad)
{
    const size_t n_q = p->io.n_q * heads_of(p) * p->io.dim;
    const size_t n_k = p->io.n_k * kv_of(p) * p->io.dim, n_v = p->io.n_k * kv_of(p) * wide_of(p);
    g->d_q = numbers(1, n_q, 9); /* what was there is overwritten */
    g->d_k = numbers(1, n_k, 9);
    g->d_v = numbers(1, n_v, 9);
    g->d_sinks = numbers(1, HEADS_MOST, 9);
    memset(grad, 0, sizeof *grad);
    grad->d_out = p->d_out;
    grad->d_q = g->d_q;
    grad->d_k = g->d_k;
    grad->d_v = g->d_v;
    if (p->config.base.sinks) grad->d_sinks = g->d_sinks;
}

static void slopes_drop(slopes_of *g)
{
    free(g->d_q);
    free(g->d_k);
    free(g->d_v);
    free(g->d_sinks);
}

/* Some of the elements of x: slopes of the definition in double. */
static void check_some(problem *p, float *x, const float *got, size_t n)
{
    const size_t step = 1 + n / (RV_TEST_SCALE > 1 ? 5 : 31);
    for (size_t i = n % step; i < n; i += step)
        RV_NEAR(got[i], slope(loss, p, x + i, 1.0 / 64), 3e-5 + 1e-4 * fabs((double)got[i]));
}

static void test_slopes(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row += RV_TEST_SCALE > 16 ? 3 : 1) {
        problem p;
        slopes_of g;
        rv_attn_grad grad;
        rv_test_row("shape", row);
        make(&p, &shapes[row], &ctx);
        slopes_make(&p, &g, &grad);
        p.io.out = NULL;
        RV_OKAY(&ctx, backward[p.form.kind](&ctx, &p.config, &p.io, &grad));
        check_some(&p, p.q, g.d_q, p.io.n_q * heads_of(&p) * p.io.dim);
        check_some(&p, p.k, g.d_k, p.io.n_k * kv_of(&p) * p.io.dim);
        check_some(&p, p.v, g.d_v, p.io.n_k * kv_of(&p) * wide_of(&p));
        if (p.config.base.sinks) check_some(&p, p.sinks, g.d_sinks, heads_of(&p));
        slopes_drop(&g);
        drop(&p);
    }
}

/* Of dropout: the same as dense attention's with the mask that the pattern is. */
static void test_dropout(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
        problem p;
        slopes_of g, h;
        rv_attn_grad grad, dense;
        rv_attn_config plain;
        rv_attn_mask mask;
        if (shapes[row].kind == RV_ATTN_SLIDING_WINDOWS || shapes[row].kind == HIERARCHICAL ||
            (shapes[row].form & VALUES))
            continue;
        rv_test_row("shape", row);
        make(&p, &shapes[row], &ctx);
        slopes_make(&p, &g, &grad);
        slopes_make(&p, &h, &dense);
        p.config.base.dropout = 0.5f;
        p.config.base.training = 1;
        RV_OKAY(&ctx, backward[p.form.kind](&ctx, &p.config, &p.io, &grad));
        plain = p.config.base;
        plain.windowed = 0;
        mask = p.mask;
        mask.allow = p.see;
        mask.allow_head = p.io.n_q * p.io.n_k;
        mask.visible = NULL;
        p.io.mask = &mask;
        RV_OKAY(&ctx, rv_attn_backward(&ctx, &plain, &p.io, &dense));
        for (size_t i = 0; i < p.io.n_q * heads_of(&p) * p.io.dim; i++)
            RV_NEAR(g.d_q[i], h.d_q[i], 4e-5);
        for (size_t i = 0; i < p.io.n_k * kv_of(&p) * p.io.dim; i++)
            RV_NEAR(g.d_k[i], h.d_k[i], 4e-5);
        for (size_t i = 0; i < p.io.n_k * kv_of(&p) * wide_of(&p); i++)
            RV_NEAR(g.d_v[i], h.d_v[i], 4e-5);
        for (size_t i = 0; plain.sinks && i < heads_of(&p); i++)
            RV_NEAR(g.d_sinks[i], h.d_sinks[i], 1e-4);
        slopes_drop(&g);
        slopes_drop(&h);
        drop(&p);
    }
}

static const rv_attn_sparse_config *golden_config(size_t row, rv_attn_sparse_config *c)
{
    memset(c, 0, sizeof *c);
    c->base.heads = 2;
    c->base.kv_heads = 1;
    c->base.order = (rv_attn_order)rv_golden_attn_sparse[row].order;
    c->window = (size_t)rv_golden_attn_sparse[row].window;
    c->dilation = (size_t)rv_golden_attn_sparse[row].dilation;
    c->stride = (size_t)rv_golden_attn_sparse[row].stride;
    c->columns = (size_t)rv_golden_attn_sparse[row].columns;
    c->n_globals = (size_t)rv_golden_attn_sparse[row].n_globals;
    c->k = (size_t)rv_golden_attn_sparse[row].k;
    c->block = (size_t)rv_golden_attn_sparse[row].block;
    return c;
}

static void test_golden(void)
{
    enum { N = 10, DIM = 4 };
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_sparse); row++) {
        const int kind = rv_golden_attn_sparse[row].kind;
        float q[N * 2 * DIM], k[N * DIM], v[N * DIM], d_out[N * 2 * DIM], out[N * 2 * DIM];
        float d_q[N * 2 * DIM], d_k[N * DIM], d_v[N * DIM];
        rv_attn_sparse_config c;
        rv_attn_grad grad;
        rv_attn_io io;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        memset(&io, 0, sizeof io);
        memset(&grad, 0, sizeof grad);
        io.n_q = io.n_k = N;
        io.dim = DIM;
        io.q = grid(1, q, N * 2 * DIM);
        io.k = grid(2, k, N * DIM);
        io.v = grid(3, v, N * DIM);
        io.out = out;
        RV_OKAY(&ctx, forward[kind](&ctx, golden_config(row, &c), &io));
        CHECK_ALL(out, rv_golden_attn_sparse[row].out, N * 2 * DIM, 32 * U);
        grad.d_out = grid(4, d_out, N * 2 * DIM);
        grad.d_q = d_q;
        grad.d_k = d_k;
        grad.d_v = d_v;
        RV_OKAY(&ctx, backward[kind](&ctx, &c, &io, &grad));
        CHECK_ALL(d_q, rv_golden_attn_sparse[row].d_q, N * 2 * DIM, 64 * U);
        CHECK_ALL(d_k, rv_golden_attn_sparse[row].d_k, N * DIM, 64 * U);
        CHECK_ALL(d_v, rv_golden_attn_sparse[row].d_v, N * DIM, 64 * U);
    }
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

/* The same bits for any number of workers, with longer inputs than one chunk holds. */
static void test_workers(void)
{
    static const shape wide[] = {
        {2, SINKS, 0, 900, 900, 4, 0, 2, 1, 0, 60, 0, 0, 0, 0, 40, 0, 0, 0, 0, 0},
        {1, 0, 0, 600, 600, 4, 0, 2, 1, 0, 100, 0, 50, 0, 0, 0, 0, 0, 0, 0, 0},
        {9, 0, 1, 400, 400, 4, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0},
    };
    if (RV_TEST_SCALE > 16) return;
    for (size_t row = 0; row < RV_COUNT_OF(wide); row++) {
        float *was[4] = {NULL, NULL, NULL, NULL};
        for (uint32_t workers = 0; workers < 4; workers += 3) {
            const shape *f = &wide[row];
            const size_t n_q = f->n_q * f->heads * f->dim, n_k = f->n_k * f->kv_heads * f->dim;
            float *q = numbers(1, n_q, 1), *k = numbers(2, n_k, 1), *v = numbers(3, n_k, 1);
            float *d_out = numbers(4, n_q, 1);
            float *got[4];
            const size_t sizes[4] = {n_q, n_q, n_k, n_k};
            rv_attn_sparse_config c;
            rv_attn_grad grad;
            rv_attn_io io;
            rv_ctx ctx;
            rv_test_ctx(&ctx);
            rv_test_row("shape", row);
            if (workers) ctx.parallel = backwards;
            ctx.workers = workers;
            memset(&c, 0, sizeof c);
            memset(&io, 0, sizeof io);
            memset(&grad, 0, sizeof grad);
            for (size_t t = 0; t < 4; t++) got[t] = numbers(5, sizes[t], 1);
            c.base.heads = f->heads;
            c.base.kv_heads = f->kv_heads;
            c.base.order = (rv_attn_order)f->order;
            c.window = f->window;
            c.stride = f->stride;
            c.n_globals = f->n_globals;
            c.k = f->k;
            io.n_q = f->n_q;
            io.n_k = f->n_k;
            io.dim = f->dim;
            io.q = q;
            io.k = k;
            io.v = v;
            io.out = got[0];
            grad.d_out = d_out;
            grad.d_q = got[1];
            grad.d_k = got[2];
            grad.d_v = got[3];
            RV_OKAY(&ctx, forward[f->kind](&ctx, &c, &io));
            RV_OKAY(&ctx, backward[f->kind](&ctx, &c, &io, &grad));
            for (size_t t = 0; t < 4; t++) {
                if (workers) RV_CHECK(memcmp(was[t], got[t], sizes[t] * sizeof(float)) == 0);
                free(was[t]);
                was[t] = got[t];
            }
            free(q);
            free(k);
            free(v);
            free(d_out);
        }
        for (size_t t = 0; t < 4; t++) free(was[t]);
    }
}

/* ---- faults ---- */

typedef struct fault_case {
    problem p;
    rv_attn_grad grad;
} fault_case;

static rv_status attend(rv_ctx *ctx, void *arg)
{
    const fault_case *f = (const fault_case *)arg;
    rv_status status = forward[f->p.form.kind](ctx, &f->p.config, &f->p.io);
    if (!status) status = backward[f->p.form.kind](ctx, &f->p.config, &f->p.io, &f->grad);
    if (!status && f->p.form.kind < TOPK && f->p.config.graph) {
        uint32_t start[MOST + 1], index[2 * MOST * MOST / 3];
        size_t count;
        status = rv_attn_pattern_csr(ctx, (rv_attn_pattern)f->p.form.kind, &f->p.config,
                                     f->p.io.n_q, f->p.io.n_k, start, index, RV_COUNT_OF(index),
                                     &count);
    }
    return status;
}

static void test_faults(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row += 2) {
        fault_case f;
        slopes_of g;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        make(&f.p, &shapes[row], &ctx);
        slopes_make(&f.p, &g, &f.grad);
        if (row % 4) f.p.io.weights = NULL;
        RV_CHECK(rv_test_oom_sweep(attend, &f) >= 7);
        RV_CHECK(rv_test_cancel_sweep(attend, &f) >= 7);
        slopes_drop(&g);
        drop(&f.p);
    }
}

static void test_errors(void)
{
    static const uint32_t falling[] = {3, 2}, high[] = {1, 40}, late[] = {1, 2};
    const shape form = {2, 0, 0, 30, 30, 4, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    size_t count = 77;
    float out_was;
    uint32_t start[31];
    rv_csr graph;
    rv_attn_grad grad;
    rv_ctx ctx;
    problem p;
    rv_attn_sparse_config *c = &p.config, config_was;
    rv_attn_io io_was;
    rv_test_ctx(&ctx);
    memset(&graph, 0, sizeof graph);
    memset(&grad, 0, sizeof grad);
    memset(start, 0, sizeof start);
    make(&p, &form, &ctx);
    config_was = p.config;
    io_was = p.io;
    graph.rows = 30;
    graph.cols = 29;
    graph.start = start;
    p.out[0] = out_was = 5.0f;
#define REFUSED(kind, change, fault, word)                                                         \
    do {                                                                                           \
        change;                                                                                    \
        RV_FAILS(&ctx, forward[kind](&ctx, c, &p.io), fault, word);                                \
        RV_CHECK(p.out[0] == out_was);                                                             \
        p.config = config_was;                                                                     \
        p.io = io_was;                                                                             \
    } while (0)
    for (int kind = 0; kind < 11; kind++) {
        RV_FAILS(&ctx, forward[kind](&ctx, c, NULL), RV_ERR_ARG, "io must not be NULL");
        RV_FAILS(&ctx, backward[kind](&ctx, c, NULL, &grad), RV_ERR_ARG, "io must not be NULL");
        REFUSED(kind, p.io.n_k = 0, RV_ERR_DIM, "n_k is 0");
        REFUSED(kind, p.io.q = NULL, RV_ERR_ARG, "q, k, v and out");
        REFUSED(kind, c->base.raw = 1, RV_ERR_CONFIG, "raw is set");
        REFUSED(kind, c->base.softcap = -1.0f, RV_ERR_CONFIG, "softcap");
        REFUSED(kind, c->base.past = (size_t)1 << 31, RV_ERR_CONFIG, "past is 2147483648");
        /* each refuses what it does not read */
        if (kind > 2 && kind != 5) REFUSED(kind, c->window = 3, RV_ERR_CONFIG, "window is set");
        if (kind != 0) REFUSED(kind, c->dilation = 3, RV_ERR_CONFIG, "dilation is set");
        if (kind != 1 && kind != 3 && kind != 4)
            REFUSED(kind, c->stride = 3, RV_ERR_CONFIG, "stride is set");
        if (kind != 4) REFUSED(kind, c->columns = 3, RV_ERR_CONFIG, "columns is set");
        if (kind != 3 && kind != 4)
            REFUSED(kind, c->bidirectional = 1, RV_ERR_CONFIG, "bidirectional is set");
        if (kind != 2) REFUSED(kind, c->globals = late, RV_ERR_CONFIG, "globals is set");
        if (kind != 2 && kind != 5)
            REFUSED(kind, c->n_globals = 2, RV_ERR_CONFIG, "n_globals is set");
        if (kind != 5) REFUSED(kind, c->random = 2, RV_ERR_CONFIG, "random is set");
        if (kind != 5 && kind != 6 && kind != 10)
            REFUSED(kind, c->block = 2, RV_ERR_CONFIG, "block is set");
        if (kind != 6) REFUSED(kind, c->blocks = p.blocks, RV_ERR_CONFIG, "blocks is set");
        if (kind != 7 && kind != 8) REFUSED(kind, c->graph = &graph, RV_ERR_CONFIG, "graph is set");
        if (kind != 8) REFUSED(kind, c->hops = 2, RV_ERR_CONFIG, "hops is set");
        if (kind != 8 && kind != 9) REFUSED(kind, c->k = 2, RV_ERR_CONFIG, "k is set");
        if (kind != 10) REFUSED(kind, c->n_segments = 2, RV_ERR_CONFIG, "segments is set");
        if (kind == 10) REFUSED(kind, c->entries = p.entries, RV_ERR_CONFIG, "entries is set");
        if (kind != 8 && kind != 9)
            REFUSED(kind, c->chosen = p.chosen, RV_ERR_CONFIG, "chosen is set");
    }
    REFUSED(0, c->window = (size_t)1 << 31, RV_ERR_CONFIG, "window is 2147483648, allowed: 1..");
    REFUSED(0, c->dilation = (size_t)1 << 31, RV_ERR_CONFIG, "dilation is 2147483648");
    REFUSED(1, c->window = 10; c->stride = 11, RV_ERR_CONFIG, "stride is 11, allowed: 1..10");
    REFUSED(1, p.io.n_k = 29; p.io.lse = NULL, RV_ERR_DIM, "n_q, n_k and past are 30, 29 and 0");
    REFUSED(1, (void)0, RV_ERR_CONFIG, "lse must be NULL");
    REFUSED(2, c->globals = falling; c->n_globals = 2, RV_ERR_CONFIG, "globals[1] is 2");
    REFUSED(2, c->globals = high; c->n_globals = 2, RV_ERR_CONFIG, "globals[1] is 40");
    REFUSED(4, c->stride = 4; c->columns = 5, RV_ERR_CONFIG, "columns is 5, allowed: 1..4");
    REFUSED(5, c->window = 4, RV_ERR_CONFIG, "window is 4, must be odd");
    REFUSED(5, c->random = 65, RV_ERR_CONFIG, "random is 65, allowed: 1..64");
    REFUSED(6, (void)0, RV_ERR_ARG, "blocks must not be NULL");
    REFUSED(7, (void)0, RV_ERR_ARG, "graph must not be NULL");
    REFUSED(7, c->graph = &graph, RV_ERR_DIM, "graph has 30 rows and 29 columns");
    start[3] = 1;
    REFUSED(8, c->graph = &graph, RV_ERR_ARG, "start[4] is 0");
    start[3] = 0;
    REFUSED(8, c->graph = &graph, RV_ERR_DIM, "must have 30 and 30");
    REFUSED(8, c->graph = &graph; c->k = 2, RV_ERR_CONFIG, "k and chosen");
    REFUSED(8, c->hops = 2, RV_ERR_CONFIG, "hops is 2, but");
    REFUSED(9, c->k = 31, RV_ERR_CONFIG, "k is 31, allowed: 1..30");
    REFUSED(10, c->segments = late; c->n_segments = 2, RV_ERR_CONFIG, "beginning with 0");
    REFUSED(10, c->segments = late, RV_ERR_CONFIG, "n_segments (0)");
#undef REFUSED
    RV_FAILS(&ctx, backward[2](&ctx, c, &p.io, NULL), RV_ERR_ARG, "grad and d_out");
    RV_FAILS(&ctx, backward[2](&ctx, c, &p.io, &grad), RV_ERR_ARG, "grad and d_out");
    grad.d_out = p.d_out;
    grad.d_params = p.add;
    RV_FAILS(&ctx, backward[2](&ctx, c, &p.io, &grad), RV_ERR_ARG, "local_global has no param");
    grad.d_params = NULL;
    grad.d_sinks = p.add; /* of no sinks, and of no queries: zeros */
    RV_OKAY(&ctx, backward[2](&ctx, c, &p.io, &grad));
    RV_CHECK(p.add[0] == 0.0f);
    grad.d_k = p.value;
    grad.d_v = p.entries;
    p.io.n_q = 0;
    RV_OKAY(&ctx, backward[2](&ctx, c, &p.io, &grad));
    for (size_t e = 0; e < 30 * 4; e++) RV_CHECK(p.value[e] == 0.0f && p.entries[e] == 0.0f);
    RV_FAILS(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_SLIDING, c, 3, 3, NULL, NULL, 9, NULL),
             RV_ERR_ARG, "count must not be NULL");
    RV_FAILS(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_SLIDING, c, 3, 3, NULL, NULL, 8, &count),
             RV_ERR_ARG, "cap is 8; there are 9 entries");
    RV_EQUAL(count, 9);
    RV_FAILS(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_SLIDING, c, 3, 3, NULL, NULL, 9, &count),
             RV_ERR_ARG, "start or index is NULL");
    RV_FAILS(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_SLIDING, c, 3, 0, NULL, NULL, 9, &count),
             RV_ERR_DIM, "n_q and n_k are 3 and 0");
    RV_FAILS(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_NEIGHBORHOOD, c, 3, 3, NULL, NULL, 9, &count),
             RV_ERR_CONFIG, "graph is NULL");
    RV_FAILS(&ctx, rv_attn_pattern_csr(&ctx, (rv_attn_pattern)9, c, 3, 3, NULL, NULL, 9, &count),
             RV_ERR_ARG, "pattern is 9");
    c->base.order = (rv_attn_order)3;
    RV_FAILS(&ctx, rv_attn_pattern_csr(&ctx, RV_ATTN_SLIDING, c, 3, 3, NULL, NULL, 9, &count),
             RV_ERR_CONFIG, "order is 3");
    drop(&p);
}

int main(void)
{
    rv_test_begin("attn_sparse");
    RV_RUN(test_definition);
    RV_RUN(test_dense);
    RV_RUN(test_long);
    RV_RUN(test_lists);
    RV_RUN(test_counts);
    RV_RUN(test_bigbird);
    RV_RUN(test_sums);
    RV_RUN(test_everything);
    RV_RUN(test_ties);
    RV_RUN(test_logits);
    RV_RUN(test_one);
    RV_RUN(test_permutation);
    RV_RUN(test_triples);
    RV_RUN(test_nan);
    RV_RUN(test_slopes);
    RV_RUN(test_dropout);
    RV_RUN(test_golden);
    RV_RUN(test_workers);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    return rv_test_end();
}
