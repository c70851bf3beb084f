#ifndef RV_ATTN_DIFFUSION_C
#define RV_ATTN_DIFFUSION_C
#include "attn_diffusion.h"
#include "base.c"
#include "simd.c"
#include "diffusion.c"
#include "attn.c"
#include "attn_back.c"

/* Diffusion attention: keys diffuse, then attention per time.

   Slopes by the diffused keys, G_s, walk back through the Chebyshev recurrence (in diffusion.c's
   terms, with T_0 the scaled keys): P_k = sum_s c_k G_s + 2 B^T P_{k+1} - P_{k+2}, where T_k is
   made again downward, T_{k-2} = 2 B T_{k-1} - T_k, so that no T is kept. On the way every joined
   pair collects
       e_ij = sum_k (2 or, for k = 1, 1) P_k,i . (T_{k-1},i - T_{k-1},j)
   which, times -2 left_i / bound, is the slope by w_ij; the normalizations add what comes by way of
   the degrees. `bound` is a constant: what is computed does not depend on it. */

#define RV__DIFFUSION_TIMES 64u

typedef struct rv__attn_heat {
    rv__attn a;               /* the problem, settled                                         */
    rv_diffusion_config graph;
    const float *times;
    size_t n_times, all;      /* all: n_k kv_heads dim                                        */
    float one;
    double over;              /* 1 / sigma^2                                                  */
    float *keys;              /* [n_times, n_k, kv_heads, dim], diffused                      */
    float *slopes;            /* the same, backward                                           */
    float *head;              /* [1 + n_times, n_k, dim] of one head                          */
    float *values;            /* [n_k, kv_heads, dim_v] widened, or NULL                      */
    float *out;               /* [n_q, heads, dim_v] of one time, or slopes by it             */
    float *weights;           /* [heads, n_q, n_k] of one time, or NULL                       */
    float *d_q, *d_v, *d_sinks; /* of one time                                                */
} rv__attn_heat;

/* ---- diffusion of keys ---- */

static rv_status rv__attn_heat_load(rv_ctx *ctx, const rv__attn_heat *w, size_t kv)
{
    const rv_attn_io *io = &w->a.io;
    size_t left = 0;
    for (size_t j = 0; j < io->n_k; j++) {
        const size_t at = j * io->k_stride + kv * io->dim;
        float *to = w->head + j * io->dim;
        rv_status status = rv__poll_by(ctx, &left, io->dim);
        if (status) return status;
        if (io->type == RV_DTYPE_F32)
            memcpy(to, (const float *)io->k + at, io->dim * sizeof(float));
        else if (io->type == RV_DTYPE_F16)
            w->a.kernels->widen_f16((const uint16_t *)io->k + at, to, io->dim);
        else w->a.kernels->widen_bf16((const uint16_t *)io->k + at, to, io->dim);
        if (rv__find_not_finite(to, io->dim) < io->dim)
            return rv__fail(ctx, RV_ERR_ARG, j, "key %z of head %z is not finite", j, kv);
    }
    return RV_OK;
}

static rv_status rv__attn_heat_keys(rv_ctx *ctx, const rv__attn_heat *w, size_t kv,
                                    rv_diffusion **graph)
{
    const size_t dim = w->a.io.dim, n = w->a.io.n_k, kv_heads = w->a.config.kv_heads;
    rv_status status = rv__attn_heat_load(ctx, w, kv);
    if (!status) status = rv_diffusion_create(ctx, &w->graph, w->head, 0, n, dim, graph);
    if (!status)
        status = rv_diffusion_heat(ctx, *graph, NULL, w->times, w->n_times, w->head, dim,
                                   w->head + n * dim, NULL);
    for (size_t row = 0; row < w->n_times * n && !status; row++)
        memcpy(w->keys + (row * kv_heads + kv) * dim, w->head + (n + row) * dim,
               dim * sizeof(float));
    return status;
}

/* The problem of time s: keys and values as packed floats. */
static void rv__attn_heat_io(const rv__attn_heat *w, size_t s, rv_attn_io *io)
{
    *io = w->a.io;
    io->k = w->keys + s * w->all;
    io->k_stride = 0;
    if (!w->values) return;
    io->v = w->values;
    io->v_stride = 0;
    io->type = RV_DTYPE_F32;
}

static rv_status rv__attn_heat_widen(rv_ctx *ctx, const rv__attn_heat *w)
{
    const rv_attn_io *io = &w->a.io;
    const size_t width = w->a.config.kv_heads * io->dim_v;
    size_t left = 0;
    for (size_t j = 0; w->values && j < io->n_k; j++) {
        const uint16_t *from = (const uint16_t *)io->v + j * io->v_stride;
        rv_status status = rv__poll_by(ctx, &left, width);
        if (status) return status;
        if (io->type == RV_DTYPE_F16) w->a.kernels->widen_f16(from, w->values + j * width, width);
        else w->a.kernels->widen_bf16(from, w->values + j * width, width);
    }
    return RV_OK;
}

/* ---- forward ---- */

static rv_status rv__attn_heat_forward(rv_ctx *ctx, const rv__attn_heat *w)
{
    const rv_attn_io *io = &w->a.io;
    const size_t width = w->a.config.heads * io->dim_v, n_k = io->n_k;
    const float share = (float)(1.0 / (double)w->n_times);
    size_t left = RV__WORK;
    rv_status status = RV_OK;
    for (size_t s = 0; s < w->n_times && !status; s++) {
        rv_attn_io with;
        rv__attn_heat_io(w, s, &with);
        if (s) {
            with.out = w->out;
            with.out_stride = 0;
            with.weights = w->weights;
        }
        status = rv__attn_forward(ctx, &w->a.config, &with, NULL);
        if (w->n_times == 1) continue;
        for (size_t i = 0; i < io->n_q && !status; i++) {
            float *to = io->out + i * io->out_stride;
            if (s) w->a.kernels->axpy_f32(share, w->out + i * width, to, width);
            else w->a.kernels->scale_f32(share, to, width);
            status = rv__poll_by(ctx, &left, width);
        }
        for (size_t r = 0; io->weights && r < w->a.config.heads * io->n_q && !status; r++) {
            float *to = io->weights + r * n_k;
            if (s) w->a.kernels->axpy_f32(share, w->weights + r * n_k, to, n_k);
            else w->a.kernels->scale_f32(share, to, n_k);
            status = rv__poll_by(ctx, &left, n_k);
        }
    }
    return status;
}

/* ---- backward ---- */

/* Slopes of attention: by diffused keys into w->slopes, by the rest into grad. */
static rv_status rv__attn_heat_attend(rv_ctx *ctx, const rv__attn_heat *w, const rv_attn_grad *grad)
{
    const rv_attn_io *io = &w->a.io;
    const size_t width = w->a.config.heads * io->dim_v, heads = w->a.config.heads;
    const size_t n_q = io->n_q * heads * io->dim, n_v = io->n_k * w->a.config.kv_heads * io->dim_v;
    const double share = 1.0 / (double)w->n_times;
    size_t left = RV__WORK;
    rv_status status = RV_OK;
    for (size_t i = 0; i < io->n_q && !status; i++) {
        status = rv__poll_by(ctx, &left, 2 * width);
        for (size_t x = 0; x < width; x++)
            w->out[i * width + x] = (float)((double)grad->d_out[i * io->out_stride + x] * share);
    }
    for (size_t s = 0; s < w->n_times && !status; s++) {
        rv_attn_io with;
        rv_attn_grad part;
        memset(&part, 0, sizeof part);
        rv__attn_heat_io(w, s, &with);
        with.out_stride = 0;
        part.d_out = w->out;
        part.d_k = w->slopes + s * w->all;
        part.d_q = s && grad->d_q ? w->d_q : grad->d_q;
        part.d_v = s && grad->d_v ? w->d_v : grad->d_v;
        part.d_sinks = s && grad->d_sinks ? w->d_sinks : grad->d_sinks;
        status = rv__attn_backward(ctx, &w->a.config, &with, &part, NULL);
        if (status || s == 0) continue;
        if (grad->d_q) w->a.kernels->add_f32(w->d_q, grad->d_q, n_q);
        if (grad->d_v) w->a.kernels->add_f32(w->d_v, grad->d_v, n_v);
        if (grad->d_sinks) w->a.kernels->add_f32(w->d_sinks, grad->d_sinks, heads);
    }
    return status;
}

/* The walk back through the diffusion of one head. */
typedef struct rv__heat_back {
    const rv_diffusion *graph;
    size_t cols, n_times, ld, degree;
    double *coef;             /* [n_times, ld]                                                */
    double *t[2], *p[2];      /* [n, cols]                                                    */
    double *g;                /* [n_times, n, cols] slopes, scaled                            */
    double *pair;             /* e_ij of the graph's entries                                  */
    double *down;             /* [n] slopes by degrees                                        */
    size_t k;                 /* the degree now                                               */
} rv__heat_back;

/* P_k, which has all but the slopes, gets them; then the pairs. */
static void rv__heat_back_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__heat_back *b = (const rv__heat_back *)arg;
    const rv_diffusion *g = b->graph;
    const size_t cols = b->cols, all = g->n * cols;
    const double twice = b->k == 1 ? 1.0 : 2.0;
    double *p = b->p[b->k % 2];
    const double *t = b->t[(b->k + 1) % 2]; /* T_{k-1} */
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        const size_t first = g->dense ? i * g->n : g->start[i];
        const size_t last = g->dense ? first + g->n : g->start[i + 1];
        double *here = p + i * cols;
        for (size_t s = 0; s < b->n_times; s++)
            for (size_t c = 0; c < cols; c++)
                here[c] += b->coef[s * b->ld + b->k] * b->g[s * all + i * cols + c];
        for (size_t e = first; e < last && b->k; e++) {
            const double *x = t + i * cols;
            const double *y = t + (g->dense ? e - first : g->index[e]) * cols;
            double sum = 0.0;
            for (size_t c = 0; c < cols; c++) sum += here[c] * (x[c] - y[c]);
            b->pair[e] += twice * sum;
        }
    }
}

static rv_status rv__heat_back_add(rv_ctx *ctx, const rv__heat_back *b)
{
    const rv_diffusion *g = b->graph;
    const size_t edges = g->dense ? g->n : 1 + g->start[g->n] / g->n;
    const size_t work = rv__mul(edges + b->n_times, 2 * b->cols);
    rv__heat_back arg = *b;
    return rv__parallel_for(ctx, g->n, 1 + 20000u / work, 1 + 1000000u / work, rv__heat_back_range,
                            &arg);
}

/* From the last degree to 0; the slopes by T_0 are then in p[0]. */
static rv_status rv__heat_back_walk(rv_ctx *ctx, rv__heat_back *b)
{
    const size_t all = b->graph->n * b->cols;
    rv__heat up, down;
    rv_status status = RV_OK;
    memset(&up, 0, sizeof up);
    up.graph = b->graph;
    up.cols = b->cols;
    down = up;
    up.pre = b->graph->left; /* the transpose */
    down.post = b->graph->left;
    memset(b->p[0], 0, all * sizeof(double));
    memset(b->p[1], 0, all * sizeof(double));
    for (size_t k = b->degree + 1; k-- > 0 && !status;) {
        b->k = k;
        if (k < b->degree) {
            rv__heat_set(&up, 0);
            if (k == 0) { /* T_0 enters T_1 once and T_2 with minus */
                rv__heat_set(&up, 1);
                up.drop = 1.0;
            }
            up.x = b->p[(k + 1) % 2];
            up.to = b->p[k % 2];
            status = rv__heat_step(ctx, &up);
        }
        if (!status) status = rv__heat_back_add(ctx, b);
        if (status || k < 2) continue;
        rv__heat_set(&down, 0);
        down.x = b->t[(k - 1) % 2];
        down.to = b->t[k % 2];
        status = rv__heat_step(ctx, &down);
    }
    return status;
}

/* d_k of the head from p[0] and the pairs. keys, made: [n, cols] and [n_times, n, cols] as they
   are, slope: [n_times, n, cols]. d_k: rows ld apart. */
static rv_status rv__heat_back_keys(rv_ctx *ctx, const rv__heat_back *b, const float *keys,
                                    const rv__attn_heat *w, size_t kv, float *d_k)
{
    const rv_diffusion *g = b->graph;
    const size_t cols = b->cols, ld = w->a.config.kv_heads * cols;
    const double step = g->bound > 0.0 ? -2.0 / g->bound : 0.0;
    double *d_x = b->p[0];
    size_t left = 0;
    for (size_t i = 0; i < g->n; i++) { /* slopes by degrees */
        const size_t first = g->dense ? i * g->n : g->start[i];
        const size_t last = g->dense ? first + g->n : g->start[i + 1];
        const float *value = g->dense ? g->dense : g->value;
        double sum = 0.0, scaled = 0.0;
        rv_status status = rv__poll_by(ctx, &left, 2 * (last - first) + 3 * cols * w->n_times);
        if (status) return status;
        for (size_t e = first; e < last; e++) {
            b->pair[e] *= step * g->left[i];
            sum += (double)value[e] * b->pair[e];
        }
        for (size_t c = 0; c < cols; c++) d_x[i * cols + c] /= rv__heat_scale(g, 0, i);
        for (size_t s = 0; s < w->n_times; s++) {
            const size_t at = s * w->all + i * ld + kv * cols;
            for (size_t c = 0; c < cols; c++)
                scaled += (double)w->keys[at + c] * (double)w->slopes[at + c];
        }
        for (size_t c = 0; c < cols; c++)
            scaled -= d_x[i * cols + c] * (double)keys[i * cols + c];
        b->down[i] = 0.0;
        if (!(g->degree[i] > 0.0) || g->kind == RV_LAPLACIAN_PLAIN) continue;
        b->down[i] = -sum * g->left[i];
        if (g->kind == RV_LAPLACIAN_SYM) b->down[i] += 0.5 * scaled * g->left[i];
    }
    for (size_t i = 0; i < g->n; i++) { /* weights are of pairs of keys */
        const size_t first = g->dense ? i * g->n : g->start[i];
        const size_t last = g->dense ? first + g->n : g->start[i + 1];
        const float *value = g->dense ? g->dense : g->value;
        rv_status status = rv__poll_by(ctx, &left, 3 * (last - first) * cols);
        if (status) return status;
        for (size_t e = first; e < last; e++) {
            const size_t j = g->dense ? e - first : g->index[e];
            const double along = -(b->pair[e] + b->down[i]) * (double)value[e] * w->over;
            if (along == 0.0 || j == i) continue;
            for (size_t c = 0; c < cols; c++) {
                const double gap = along * ((double)keys[i * cols + c] -
                                            (double)keys[j * cols + c]);
                d_x[i * cols + c] += gap;
                d_x[j * cols + c] -= gap;
            }
        }
    }
    for (size_t i = 0; i < g->n; i++)
        for (size_t c = 0; c < cols; c++) d_k[i * ld + kv * cols + c] = (float)d_x[i * cols + c];
    return RV_OK;
}

static rv_status rv__heat_back_run(rv_ctx *ctx, rv__heat_back *b, const rv__attn_heat *w, size_t kv,
                                   float *d_k)
{
    const rv_diffusion *g = b->graph;
    const size_t cols = b->cols, ld = w->a.config.kv_heads * cols, all = g->n * cols;
    size_t left = RV__WORK;
    rv_heat_result done;
    rv_status status = RV_OK;
    rv__heat_prepare(g, w->times, w->n_times, 1e-9, b->coef, b->ld, &done);
    b->degree = done.degree;
    for (size_t s = 0; s < w->n_times; s++) {
        for (size_t i = 0; i < g->n && !status; i++) {
            const float *from = w->slopes + s * w->all + i * ld + kv * cols;
            double *to = b->g + s * all + i * cols;
            status = rv__poll_by(ctx, &left, 2 * cols);
            for (size_t c = 0; c < cols; c++) to[c] = rv__heat_scale(g, 0, i) * (double)from[c];
        }
    }
    if (!status) status = rv__attn_heat_load(ctx, w, kv);
    if (!status) status = rv__heat_load(ctx, g, 0, w->head, cols, b->t[0]);
    if (!status)
        status = rv__heat_expand(ctx, g, b->coef, b->ld, b->degree, 0, cols, b->t, NULL);
    if (!status) status = rv__heat_back_walk(ctx, b);
    return status ? status : rv__heat_back_keys(ctx, b, w->head, w, kv, d_k);
}

static rv_status rv__attn_heat_back(rv_ctx *ctx, const rv__attn_heat *w, const rv_diffusion *graph,
                                    size_t kv, float *d_k)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t all = graph->n * w->a.io.dim;
    const size_t pairs = graph->dense ? rv__mul(graph->n, graph->n) : graph->start[graph->n];
    size_t most, count;
    double *space;
    rv__heat_back b;
    rv_status status = rv__heat_times(ctx, graph, w->times, w->n_times, &most);
    if (status) return status;
    count = rv__add(rv__mul(all, 4 + w->n_times), rv__mul(most, w->n_times));
    count = rv__add(rv__add(count, pairs), graph->n);
    space = (double *)rv__get(&alloc, count, sizeof(double));
    if (!space) return rv__no_memory(ctx, rv__mul(count, sizeof(double)));
    memset(&b, 0, sizeof b);
    b.graph = graph;
    b.cols = w->a.io.dim;
    b.n_times = w->n_times;
    b.ld = most;
    b.t[0] = space;
    b.t[1] = b.t[0] + all;
    b.p[0] = b.t[1] + all;
    b.p[1] = b.p[0] + all;
    b.g = b.p[1] + all;
    b.coef = b.g + w->n_times * all;
    b.pair = b.coef + most * w->n_times;
    b.down = b.pair + pairs;
    memset(b.pair, 0, pairs * sizeof(double));
    status = rv__heat_back_run(ctx, &b, w, kv, d_k);
    rv__put(&alloc, space, count, sizeof(double));
    return status;
}

/* ---- the whole ---- */

static rv_status rv__attn_heat_settle(rv_ctx *ctx, const rv_attn_diffusion_config *config,
                                      const rv_attn_io *io, rv__attn_heat *w)
{
    rv_attn_diffusion_config c;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    if (c.base.order != RV_ATTN_ANY)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "order is %z; the graph is of all keys, so it must "
                        "be 0 (any)", (size_t)c.base.order);
    if (c.n_times > RV__DIFFUSION_TIMES || (c.n_times && !c.times))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "n_times is %z, allowed: 0..64 with times not NULL",
                        c.n_times);
    status = rv__attn_open(ctx, &c.base, io, NULL, &w->a);
    if (status) return status;
    w->one = 1.0f;
    w->times = c.n_times ? c.times : &w->one;
    w->n_times = c.n_times ? c.n_times : 1;
    if (io->lse && w->n_times > 1)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "lse has no meaning for %z times; it must be NULL",
                        w->n_times);
    w->graph.kind = c.kind;
    w->graph.sigma = rv__default(c.sigma, 1.0f);
    w->graph.neighbours = c.neighbours;
    w->graph.dense = c.dense;
    w->over = 1.0 / ((double)w->graph.sigma * (double)w->graph.sigma);
    w->all = rv__mul(rv__mul(io->n_k, w->a.config.kv_heads), io->dim);
    return RV_OK;
}

static rv_status rv__attn_heat_steps(rv_ctx *ctx, const rv__attn_heat *w, const rv_attn_grad *grad)
{
    rv_diffusion *graphs[16];
    const size_t heads = w->a.config.kv_heads, held = heads < 16 ? heads : 16;
    rv_status status = RV_OK;
    size_t made = 0;
    memset(graphs, 0, sizeof graphs);
    status = rv__attn_heat_widen(ctx, w);
    for (size_t kv = 0; kv < heads && !status; kv++) {
        rv_diffusion *graph = NULL;
        status = rv__attn_heat_keys(ctx, w, kv, &graph);
        if (grad && grad->d_k && kv < held) graphs[made++] = graph;
        else rv_diffusion_destroy(graph);
    }
    if (!status && !grad) status = rv__attn_heat_forward(ctx, w);
    if (!status && grad) status = rv__attn_heat_attend(ctx, w, grad);
    for (size_t kv = 0; kv < heads && !status && grad && grad->d_k; kv++) {
        rv_diffusion *graph = kv < held ? graphs[kv] : NULL;
        if (!graph) { /* more heads than graphs are held of: once more */
            status = rv__attn_heat_load(ctx, w, kv);
            if (!status)
                status = rv_diffusion_create(ctx, &w->graph, w->head, 0, w->a.io.n_k, w->a.io.dim,
                                             &graph);
        }
        if (!status) status = rv__attn_heat_back(ctx, w, graph, kv, grad->d_k);
        if (kv >= held) rv_diffusion_destroy(graph);
    }
    for (size_t kv = 0; kv < made; kv++) rv_diffusion_destroy(graphs[kv]);
    return status;
}

static float *rv__attn_heat_take(float **at, size_t *n, size_t count)
{
    float *here = *at;
    *n = rv__add(*n, count);
    if (here) *at += count;
    return count ? here : NULL;
}

/* Deals memory out; with NULL it counts. */
static size_t rv__attn_heat_floats(rv__attn_heat *w, const rv_attn_grad *grad, float *at)
{
    const rv_attn_io *io = &w->a.io;
    const size_t heads = w->a.config.heads, kv_heads = w->a.config.kv_heads;
    const size_t keys = rv__mul(w->all, w->n_times), several = w->n_times > 1;
    const size_t out = rv__mul(rv__mul(io->n_q, heads), io->dim_v);
    const size_t values = rv__mul(rv__mul(io->n_k, kv_heads), io->dim_v);
    size_t n = 0;
    w->keys = rv__attn_heat_take(&at, &n, keys);
    w->head = rv__attn_heat_take(&at, &n, rv__mul(rv__mul(io->n_k, io->dim), 1 + w->n_times));
    w->values = rv__attn_heat_take(&at, &n, io->type == RV_DTYPE_F32 ? 0 : values);
    w->out = rv__attn_heat_take(&at, &n, grad || several ? out : 0);
    w->weights = rv__attn_heat_take(
        &at, &n, several && io->weights ? rv__mul(rv__mul(io->n_q, heads), io->n_k) : 0);
    if (!grad) return n;
    w->slopes = rv__attn_heat_take(&at, &n, keys);
    w->d_q = rv__attn_heat_take(&at, &n, several ? rv__mul(rv__mul(io->n_q, heads), io->dim) : 0);
    w->d_v = rv__attn_heat_take(&at, &n, several ? values : 0);
    w->d_sinks = rv__attn_heat_take(&at, &n, several ? heads : 0);
    return n;
}

static rv_status rv__attn_heat_run(rv_ctx *ctx, const rv_attn_diffusion_config *config,
                                   const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    size_t count;
    float *floats;
    rv__attn_heat w;
    rv_status status;
    memset(&w, 0, sizeof w);
    status = rv__attn_heat_settle(ctx, config, io, &w);
    if (!status && io->n_q == 0 && grad) return rv__attn_backward(ctx, &w.a.config, io, grad, NULL);
    if (status || io->n_q == 0) return status ? status : rv__ok(ctx);
    count = rv__attn_heat_floats(&w, grad, NULL);
    floats = (float *)rv__get(&alloc, count, sizeof(float));
    if (!floats) return rv__no_memory(ctx, rv__mul(count, sizeof(float)));
    (void)rv__attn_heat_floats(&w, grad, floats);
    status = rv__attn_heat_steps(ctx, &w, grad);
    rv__put(&alloc, floats, count, sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_attn_diffusion(rv_ctx *ctx, const rv_attn_diffusion_config *config,
                                   const rv_attn_io *io)
{
    return rv__attn_heat_run(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_diffusion_backward(rv_ctx *ctx, const rv_attn_diffusion_config *config,
                                            const rv_attn_io *io, const rv_attn_grad *grad)
{
    float unused;
    rv_attn_io with;
    if (!io || !grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, grad and grad->d_out must not be NULL");
    with = *io;
    with.out = &unused;
    with.weights = with.lse = NULL;
    return rv__attn_heat_run(ctx, config, &with, grad);
}

#undef RV__DIFFUSION_TIMES

#endif /* RV_ATTN_DIFFUSION_C */
