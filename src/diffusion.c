#ifndef RV_DIFFUSION_C
#define RV_DIFFUSION_C
#include "diffusion.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "csr.c"
#include "topk.c"
#include "distance.c"

/* Heat on graphs. Everything is done with the one operator
       (A x)_i = left_i (d_i x_i - sum_j w_ij x_j),    left = 1 (PLAIN) or 1 / d_i
   whose null vectors are exact to double precision, which long times need; weights are floats as
   given. SYM is WALK between two scalings: D^1/2 A D^-1/2; the transpose of WALK likewise D A D^-1.

   With B = I - 2 A / bound, whose spectrum is in [-1, 1], and z = t bound / 2
       exp(-t A) = c_0 + sum over k >= 1 of c_k T_k(B),   c_k = (2 or, for k = 0, 1) e^-z I_k(z)
   by T_{k+1} = 2 B T_k - T_{k-1}. The modified Bessel functions come from Miller's recurrence,
   backward from where they are nothing, normalized by their sum, which is 1; what the sum lacks at
   degree k bounds the error there, as |T_k| <= 1. */

#define RV__HEAT_COLS 8u
#define RV__HEAT_MOST 1e9

struct rv_diffusion {
    rv_alloc alloc;
    rv_laplacian kind;
    size_t n, cap;            /* cap: entries that there is memory for */
    float *dense;             /* [n, n], or NULL and                   */
    uint32_t *start, *index;
    float *value;
    double *degree, *left, *scale; /* [n]; scale: of SYM, D^1/2        */
    double bound;
};

/* ---- products ---- */

/* to_i = keep x_i - share post_i (d_i pre_i x_i - sum_j w_ij pre_j x_j) - drop to_i, after which
   sum[s]_i += coef[s] to_i. NULL for pre or post: ones. */
typedef struct rv__heat {
    const rv_diffusion *graph;
    size_t cols, n_sums, ld;  /* ld: from one time's coefficients to the next's */
    const double *x, *pre, *post, *coef;
    double keep, share, drop;
    double *to, *sum;
} rv__heat;

/* sum_j w_ij pre_j x_j, n <= 8 columns from c on. */
static void rv__heat_gather(const rv__heat *h, size_t i, size_t c, size_t n, double *out)
{
    const rv_diffusion *g = h->graph;
    const size_t begin = g->dense ? 0 : g->start[i], end = g->dense ? g->n : g->start[i + 1];
    const float *value = g->dense ? g->dense + i * g->n : g->value;
    double sum[RV__HEAT_COLS] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    for (size_t e = begin; e < end; e++) {
        const size_t j = g->dense ? e : g->index[e];
        const double *x = h->x + j * h->cols + c;
        const double w = h->pre ? (double)value[e] * h->pre[j] : (double)value[e];
        if (n == RV__HEAT_COLS) {
            for (size_t t = 0; t < RV__HEAT_COLS; t++) sum[t] += w * x[t];
        } else {
            for (size_t t = 0; t < n; t++) sum[t] += w * x[t];
        }
    }
    for (size_t t = 0; t < n; t++) out[t] = sum[t];
}

static void rv__heat_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__heat *h = (const rv__heat *)arg;
    const size_t cols = h->cols, all = h->graph->n * cols;
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        const double post = h->share * (h->post ? h->post[i] : 1.0);
        const double own = h->graph->degree[i] * (h->pre ? h->pre[i] : 1.0);
        for (size_t c = 0; c < cols; c += RV__HEAT_COLS) {
            const size_t n = cols - c < RV__HEAT_COLS ? cols - c : RV__HEAT_COLS;
            const double *x = h->x + i * cols + c;
            double sum[RV__HEAT_COLS], *to = h->to + i * cols + c;
            rv__heat_gather(h, i, c, n, sum);
            for (size_t t = 0; t < n; t++) {
                const double y = h->keep * x[t] - post * (own * x[t] - sum[t]);
                to[t] = h->drop != 0.0 ? y - h->drop * to[t] : y;
            }
            for (size_t s = 0; s < h->n_sums; s++) {
                double *at = h->sum + s * all + i * cols + c;
                for (size_t t = 0; t < n; t++) at[t] += h->coef[s * h->ld] * to[t];
            }
        }
    }
}

RV__FN rv_status rv__heat_step(rv_ctx *ctx, rv__heat *h)
{
    const rv_diffusion *g = h->graph;
    const size_t edges = g->dense ? g->n : 1 + g->start[g->n] / g->n;
    const size_t work = rv__mul(edges + 4 + 2 * h->n_sums, h->cols);
    return rv__parallel_for(ctx, g->n, 1 + 20000u / work, 1 + 1000000u / work, rv__heat_range, h);
}

/* What the recurrence starts from: B for a single product, 2 B and minus the one before later. */
RV__FN void rv__heat_set(rv__heat *h, int first)
{
    const double step = h->graph->bound > 0.0 ? 2.0 / h->graph->bound : 0.0;
    h->keep = first ? 1.0 : 2.0;
    h->share = first ? step : 2.0 * step;
    h->drop = first ? 0.0 : 1.0;
}

/* ---- coefficients ---- */

/* Places that z needs. */
RV__FN size_t rv__heat_most(double z)
{
    return 60 + (size_t)(1.2 * sqrt(80.0 * z));
}

/* c[0 .. n - 1] of z; returns the least degree whose rest is at most the tolerance, and *rest. */
RV__FN size_t rv__heat_coefficients(double z, double tolerance, double *c, size_t n, double *rest)
{
    double sum = 0.0, tail = 0.0;
    size_t k, start = rv__heat_most(z) - 1;
    for (k = 0; k < n; k++) c[k] = 0.0;
    *rest = 0.0;
    if (z < 1e-30) {
        c[0] = 1.0;
        return 0;
    }
    c[start] = 1e-250;
    for (k = start; k > 0; k--) {
        c[k - 1] = (k < start ? c[k + 1] : 0.0) + 2.0 * (double)k / z * c[k];
        if (c[k - 1] > 1e200)
            for (size_t t = k - 1; t <= start; t++) c[t] *= 1e-250;
    }
    for (k = start; k > 0; k--) sum += 2.0 * c[k];
    sum += c[0];
    for (k = 0; k <= start; k++) c[k] *= (k ? 2.0 : 1.0) / sum;
    for (k = start; k > 0 && tail + c[k] <= tolerance; k--) tail += c[k];
    *rest = tail;
    return k;
}

/* ---- the graph ---- */

RV_API void rv_diffusion_destroy(rv_diffusion *graph)
{
    rv_alloc alloc;
    if (!graph) return;
    alloc = graph->alloc;
    if (graph->dense) rv__put(&alloc, graph->dense, graph->n * graph->n, sizeof(float));
    rv__put(&alloc, graph->start, graph->n + 1, sizeof(uint32_t));
    rv__put(&alloc, graph->index, graph->cap, sizeof(uint32_t));
    rv__put(&alloc, graph->value, graph->cap, sizeof(float));
    rv__put(&alloc, graph->degree, 3 * graph->n, sizeof(double));
    rv__put(&alloc, graph, 1, sizeof *graph);
}

/* A graph without weights; cap entries, or 0: dense. */
static rv_status rv__diffusion_new(rv_ctx *ctx, rv_laplacian kind, size_t n, size_t cap, int dense,
                                   rv_diffusion **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_diffusion *g = (rv_diffusion *)rv__get_zero(&alloc, 1, sizeof *g);
    if (!g) return rv__no_memory(ctx, sizeof *g);
    g->alloc = alloc;
    g->kind = kind;
    g->n = n;
    g->cap = cap;
    g->degree = (double *)rv__get(&alloc, rv__mul(3, n), sizeof(double));
    if (dense) {
        g->dense = (float *)rv__get(&alloc, rv__mul(n, n), sizeof(float));
    } else {
        g->start = (uint32_t *)rv__get(&alloc, n + 1, sizeof(uint32_t));
        g->index = (uint32_t *)rv__get(&alloc, cap, sizeof(uint32_t));
        g->value = (float *)rv__get(&alloc, cap, sizeof(float));
    }
    if (!g->degree || (dense ? !g->dense : !g->start || !g->index || !g->value)) {
        rv_diffusion_destroy(g);
        return rv__no_memory(ctx, rv__mul(dense ? rv__mul(n, n) : rv__mul(cap, 2), sizeof(float)));
    }
    g->left = g->degree + n;
    g->scale = g->left + n;
    *out = g;
    return RV_OK;
}

/* Degrees and what follows from them, of the weights in place; the diagonal is taken out. */
static rv_status rv__diffusion_finish(rv_ctx *ctx, rv_diffusion *g)
{
    double most = 0.0;
    size_t left = RV__WORK;
    for (size_t i = 0; i < g->n; i++) {
        const size_t begin = g->dense ? 0 : g->start[i], end = g->dense ? g->n : g->start[i + 1];
        float *value = g->dense ? g->dense + i * g->n : g->value;
        double sum = 0.0;
        rv_status status = rv__poll_by(ctx, &left, end - begin + 8);
        if (status) return status;
        for (size_t e = begin; e < end; e++) {
            if ((g->dense ? e : g->index[e]) == i) value[e] = 0.0f;
            sum += (double)value[e];
        }
        g->degree[i] = sum;
        g->left[i] = g->kind == RV_LAPLACIAN_PLAIN ? 1.0 : sum > 0.0 ? 1.0 / sum : 0.0;
        g->scale[i] = sum > 0.0 ? sqrt(sum) : 1.0;
        most = sum > most ? sum : most;
    }
    g->bound = g->kind == RV_LAPLACIAN_PLAIN ? 2.0 * most : most > 0.0 ? 2.0 : 0.0;
    return RV_OK;
}

/* ---- from points ---- */

typedef struct rv__diffusion_points {
    const rv__kernels *kernels;
    const float *points;
    size_t stride, n, dim, k;
    float over;        /* -1 / (2 sigma^2) */
    uint32_t *nearest; /* [n, k] */
    float *distance;   /* [lanes, n] */
    rv_diffusion *graph;
} rv__diffusion_points;

static void rv__diffusion_scan(const rv__diffusion_points *p, size_t i, size_t begin, float *out)
{
    p->kernels->scan[RV_METRIC_L2][RV_DTYPE_F32](
        p->points + i * p->stride, (const unsigned char *)(p->points + begin * p->stride),
        p->stride * sizeof(float), NULL, p->n - begin, p->dim, out);
}

static void rv__diffusion_nearest_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__diffusion_points *p = (const rv__diffusion_points *)arg;
    float *distance = p->distance + lane * p->n;
    for (size_t i = begin; i < end; i++) {
        rv__diffusion_scan(p, i, 0, distance);
        distance[i] = rv__infinity();
        (void)rv_topk_f32(distance, p->n, p->k, p->nearest + i * p->k, NULL);
    }
}

/* Weights instead of squared distances. */
static void rv__diffusion_gauss(const rv__diffusion_points *p, float *x, size_t n)
{
    for (size_t e = 0; e < n; e++) {
        const float d = x[e] < 3e38f ? x[e] * p->over : -200.0f;
        x[e] = d > -200.0f ? d : -200.0f;
    }
    p->kernels->exp_f32(x, x, n);
}

static void rv__diffusion_dense_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__diffusion_points *p = (const rv__diffusion_points *)arg;
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        float *row = p->graph->dense + i * p->n + i;
        rv__diffusion_scan(p, i, i, row);
        rv__diffusion_gauss(p, row, p->n - i);
    }
}

static rv_status rv__diffusion_all_pairs(rv_ctx *ctx, rv__diffusion_points *p)
{
    const size_t work = rv__mul(p->n, p->dim + 8);
    size_t left = 0;
    rv_status status = rv__parallel_for(ctx, p->n, 1, 1 + 4000000u / work,
                                        rv__diffusion_dense_range, p);
    for (size_t i = 1; i < p->n && !status; i++) {
        status = rv__poll_by(ctx, &left, 4 * i);
        for (size_t j = 0; j < i; j++)
            p->graph->dense[i * p->n + j] = p->graph->dense[j * p->n + i];
    }
    return status;
}

/* The pattern from lists of neighbours, in both directions, then its weights. row, col: space. */
static rv_status rv__diffusion_join(rv_ctx *ctx, rv__diffusion_points *p, uint32_t *row,
                                    uint32_t *col)
{
    rv_diffusion *g = p->graph;
    const size_t half = p->n * p->k;
    size_t kept = 0, left = 0;
    rv_status status;
    for (size_t e = 0; e < half; e++) {
        row[e] = col[half + e] = (uint32_t)(e / p->k);
        col[e] = row[half + e] = p->nearest[e];
    }
    status = rv_csr_from_coo(ctx, p->n, p->n, row, col, NULL, 2 * half, g->start, g->index, NULL,
                             &kept);
    for (size_t i = 0; i < p->n && !status; i++) {
        const float *x = p->points + i * p->stride;
        const size_t begin = g->start[i], end = g->start[i + 1];
        status = rv__poll_by(ctx, &left, (end - begin) * (p->dim + 8));
        for (size_t e = begin; e < end; e++) /* the same bits for (i, j) and (j, i) */
            g->value[e] = p->kernels->pair_f32[RV_METRIC_L2](
                x, p->points + g->index[e] * p->stride, p->dim);
        rv__diffusion_gauss(p, g->value + begin, end - begin);
    }
    return status;
}

static rv_status rv__diffusion_neighbours(rv_ctx *ctx, rv__diffusion_points *p)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t half = rv__mul(p->n, p->k), lanes = rv__lanes(ctx);
    const size_t work = rv__mul(p->n, p->dim + 8), ids = rv__mul(half, 5);
    rv_status status;
    p->nearest = (uint32_t *)rv__get(&alloc, ids, sizeof(uint32_t));
    p->distance = (float *)rv__get(&alloc, rv__mul(lanes, p->n), sizeof(float));
    if (!p->nearest || !p->distance) {
        status = rv__no_memory(ctx, rv__mul(ids, sizeof(uint32_t)));
    } else {
        status = rv__parallel_for(ctx, p->n, 1, 1 + 4000000u / work, rv__diffusion_nearest_range,
                                  p);
        if (!status)
            status = rv__diffusion_join(ctx, p, p->nearest + half, p->nearest + 3 * half);
    }
    rv__put(&alloc, p->distance, rv__mul(lanes, p->n), sizeof(float));
    rv__put(&alloc, p->nearest, ids, sizeof(uint32_t));
    return status;
}

static rv_status rv__diffusion_check_kind(rv_ctx *ctx, rv_laplacian kind)
{
    if ((unsigned)kind <= (unsigned)RV_LAPLACIAN_WALK) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0, "kind is %z, allowed: 0..2", (size_t)kind);
}

static rv_status rv__diffusion_check(rv_ctx *ctx, const rv_diffusion_config *c,
                                     const rv__diffusion_points *p)
{
    size_t left = 0;
    rv_status status = rv__diffusion_check_kind(ctx, c->kind);
    if (status) return status;
    if (!rv__finite_f32(c->sigma) || c->sigma < 1e-15f || c->sigma > 1e15f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "sigma is %f, allowed: 1e-15 to 1e15",
                        (double)c->sigma);
    if (!p->points) return rv__fail(ctx, RV_ERR_ARG, 0, "points or out is NULL");
    if (p->n < 1 || p->n > 0x7FFFFFFFu || p->dim < 1 || p->dim > 65535u)
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "n is %z, dim is %z, allowed: 1 to 2^31 - 1, 1 to 65535", p->n, p->dim);
    if (p->stride < p->dim)
        return rv__fail(ctx, RV_ERR_ARG, 0, "stride is %z; it must be at least dim, %z", p->stride,
                        p->dim);
    for (size_t i = 0; i < p->n && !status; i++) {
        const size_t bad = rv__find_not_finite(p->points + i * p->stride, p->dim);
        status = rv__poll_by(ctx, &left, p->dim);
        if (bad < p->dim)
            return rv__fail(ctx, RV_ERR_ARG, i * p->stride + bad, "points[%z] is not finite",
                            i * p->stride + bad);
    }
    return status;
}

RV_API rv_status rv_diffusion_create(rv_ctx *ctx, const rv_diffusion_config *config,
                                     const float *points, size_t stride, size_t n, size_t dim,
                                     rv_diffusion **out)
{
    rv_diffusion_config c;
    rv__diffusion_points p;
    rv_status status;
    memset(&c, 0, sizeof c);
    memset(&p, 0, sizeof p);
    if (config) c = *config;
    c.sigma = rv__default(c.sigma, 1.0f);
    p.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    p.points = out ? points : NULL;
    p.stride = stride ? stride : dim;
    p.n = n;
    p.dim = dim;
    p.k = c.neighbours ? c.neighbours : 16;
    status = rv__diffusion_check(ctx, &c, &p);
    if (status) return status;
    if (p.k > n - 1) p.k = n - 1;
    if (!c.dense && rv__mul(rv__mul(n, p.k), 2) >= 0xFFFFFFFFu)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "neighbours is %z; twice that times n (%z) must be "
                        "below 2^32", p.k, n);
    p.over = (float)(-0.5 / ((double)c.sigma * (double)c.sigma));
    status = rv__diffusion_new(ctx, c.kind, n, 2 * n * p.k, c.dense, &p.graph);
    if (status) return status;
    status = c.dense ? rv__diffusion_all_pairs(ctx, &p) : rv__diffusion_neighbours(ctx, &p);
    if (!status) status = rv__diffusion_finish(ctx, p.graph);
    if (status) {
        rv_diffusion_destroy(p.graph);
        return status;
    }
    *out = p.graph;
    return rv__ok(ctx);
}

/* ---- from weights ---- */

static rv_status rv__diffusion_weight(rv_ctx *ctx, float w, float mirrored, size_t at)
{
    if (!rv__finite_f32(w) || w < 0.0f)
        return rv__fail(ctx, RV_ERR_ARG, at, "weight %z is %f; it must be finite, 0 or more", at,
                        (double)w);
    if (w != mirrored)
        return rv__fail(ctx, RV_ERR_ARG, at, "weight %z is %f, mirrored %f; w must be symmetric",
                        at, (double)w, (double)mirrored);
    return RV_OK;
}

RV_API rv_status rv_diffusion_create_dense(rv_ctx *ctx, rv_laplacian kind, const float *w, size_t n,
                                           rv_diffusion **out)
{
    rv_diffusion *g;
    size_t left = 0;
    rv_status status = rv__diffusion_check_kind(ctx, kind);
    if (status) return status;
    if (!w || !out || n < 1 || n > 0x7FFFFFFFu)
        return rv__fail(ctx, RV_ERR_ARG, 0, "w or out is NULL, or n is %z, allowed: 1 to 2^31 - 1",
                        n);
    for (size_t i = 0; i < n; i++) {
        status = rv__poll_by(ctx, &left, 8 * n);
        for (size_t j = 0; j < n && !status; j++)
            if (i != j) status = rv__diffusion_weight(ctx, w[i * n + j], w[j * n + i], i * n + j);
        if (status) return status;
    }
    status = rv__diffusion_new(ctx, kind, n, 0, 1, &g);
    if (status) return status;
    status = rv__copy_polled(ctx, g->dense, w, n * n * sizeof(float));
    if (!status) status = rv__diffusion_finish(ctx, g);
    if (status) {
        rv_diffusion_destroy(g);
        return status;
    }
    *out = g;
    return rv__ok(ctx);
}

/* The copy against its transpose, which is made where the copy's columns and values are not yet. */
static rv_status rv__diffusion_mirror(rv_ctx *ctx, const rv_csr *w, rv_diffusion *g)
{
    rv_status status = rv_csr_transpose(ctx, w, g->start, g->index, g->value);
    if (status) return status;
    for (size_t i = 0; i < w->rows; i++) {
        if (g->start[i + 1] != w->start[i + 1])
            return rv__fail(ctx, RV_ERR_ARG, i, "row %z has %z entries, column %z others; w must "
                            "be symmetric", i, (size_t)(w->start[i + 1] - w->start[i]), i);
        for (size_t e = w->start[i]; e < w->start[i + 1]; e++) {
            const float here = w->value ? w->value[e] : 1.0f;
            if (g->index[e] != w->index[e])
                return rv__fail(ctx, RV_ERR_ARG, e, "entry %z has no mirrored one; w must be "
                                "symmetric", e);
            if (w->index[e] == i) continue;
            status = rv__diffusion_weight(ctx, here, w->value ? g->value[e] : here, e);
            if (status) return status;
            g->value[e] = here;
        }
    }
    return RV_OK;
}

RV_API rv_status rv_diffusion_create_csr(rv_ctx *ctx, rv_laplacian kind, const rv_csr *w,
                                         rv_diffusion **out)
{
    rv_diffusion *g;
    rv_status status = rv__diffusion_check_kind(ctx, kind);
    if (!status) status = rv_csr_check(ctx, w);
    if (status) return status;
    if (!out || w->rows != w->cols || w->rows < 1 || w->rows > 0x7FFFFFFFu)
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "out is NULL, or w is %z by %z; it must be square, 1 to 2^31 - 1 rows",
                        w->rows, w->cols);
    status = rv__diffusion_new(ctx, kind, w->rows, w->start[w->rows], 0, &g);
    if (status) return status;
    status = rv__diffusion_mirror(ctx, w, g);
    if (!status) status = rv__diffusion_finish(ctx, g);
    if (status) {
        rv_diffusion_destroy(g);
        return status;
    }
    *out = g;
    return rv__ok(ctx);
}

/* ---- what it holds ---- */

RV_API size_t rv_diffusion_count(const rv_diffusion *graph)
{
    return graph->n;
}

RV_API double rv_diffusion_bound(const rv_diffusion *graph)
{
    return graph->bound;
}

RV_API const double *rv_diffusion_degrees(const rv_diffusion *graph)
{
    return graph->degree;
}

RV_API rv_csr rv_diffusion_weights(const rv_diffusion *graph)
{
    rv_csr view;
    memset(&view, 0, sizeof view);
    if (graph->dense) return view;
    view.rows = view.cols = graph->n;
    view.start = graph->start;
    view.index = graph->index;
    view.value = graph->value;
    return view;
}

RV_API void rv_diffusion_scales(float last, size_t n, float *times)
{
    for (size_t s = 0; s < n; s++)
        times[s] = n == 1 ? last : (float)((double)last * (double)s / (double)(n - 1));
}

/* ---- heat ---- */

/* What x is divided by before A and the result multiplied with, or NULL. */
RV__FN double rv__heat_scale(const rv_diffusion *g, int transposed, size_t i)
{
    if (g->kind == RV_LAPLACIAN_SYM) return g->scale[i];
    if (g->kind == RV_LAPLACIAN_WALK && transposed) return g->scale[i] * g->scale[i];
    return 1.0;
}

static rv_status rv__heat_load(rv_ctx *ctx, const rv_diffusion *g, int transposed, const float *x,
                               size_t cols, double *to)
{
    size_t left = 0;
    for (size_t i = 0; i < g->n; i++) {
        const double scale = 1.0 / rv__heat_scale(g, transposed, i);
        rv_status status = rv__poll_by(ctx, &left, 2 * cols);
        if (status) return status;
        for (size_t c = 0; c < cols; c++) to[i * cols + c] = (double)x[i * cols + c] * scale;
    }
    return RV_OK;
}

static rv_status rv__heat_store(rv_ctx *ctx, const rv_diffusion *g, int transposed,
                                const double *from, size_t cols, float *y)
{
    size_t left = RV__WORK;
    for (size_t i = 0; i < g->n; i++) {
        const double scale = rv__heat_scale(g, transposed, i);
        rv_status status = rv__poll_by(ctx, &left, 2 * cols);
        if (status) return status;
        for (size_t c = 0; c < cols; c++) y[i * cols + c] = (float)(from[i * cols + c] * scale);
    }
    return RV_OK;
}

/* space: [2, n, cols]; the product with A lies in the second half. */
static rv_status rv__heat_product(rv_ctx *ctx, const rv_diffusion *g, const float *x, size_t cols,
                                  double *space)
{
    rv__heat h;
    rv_status status = rv__heat_load(ctx, g, 0, x, cols, space);
    memset(&h, 0, sizeof h);
    h.graph = g;
    h.cols = cols;
    h.x = space;
    h.to = space + g->n * cols;
    h.post = g->left;
    h.share = -1.0;
    return status ? status : rv__heat_step(ctx, &h);
}

static rv_status rv__heat_check(rv_ctx *ctx, const rv_diffusion *graph, const void *x,
                                const void *y, size_t cols)
{
    if (!graph || !x || !y) return rv__fail(ctx, RV_ERR_ARG, 0, "graph, x or the result is NULL");
    if (cols < 1 || rv__mul(rv__mul(graph->n, cols), 16) == SIZE_MAX)
        return rv__fail(ctx, RV_ERR_ARG, 0, "cols is %z; it must be 1 or more, and %z rows a size",
                        cols, graph->n);
    return RV_OK;
}

RV_API rv_status rv_diffusion_times(rv_ctx *ctx, const rv_diffusion *graph, const float *x,
                                    size_t cols, float *y)
{
    const rv_alloc alloc = rv__allocator(ctx);
    double *space;
    rv_status status = rv__heat_check(ctx, graph, x, y, cols);
    if (status) return status;
    space = (double *)rv__get(&alloc, 2 * graph->n * cols, sizeof(double));
    if (!space) return rv__no_memory(ctx, 2 * graph->n * cols * sizeof(double));
    status = rv__heat_product(ctx, graph, x, cols, space);
    if (!status) status = rv__heat_store(ctx, graph, 0, space + graph->n * cols, cols, y);
    rv__put(&alloc, space, 2 * graph->n * cols, sizeof(double));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_diffusion_energy(rv_ctx *ctx, const rv_diffusion *graph, const float *x,
                                     size_t cols, double *energy)
{
    const rv_alloc alloc = rv__allocator(ctx);
    double *space, sum = 0.0;
    size_t left = RV__WORK;
    rv_status status = rv__heat_check(ctx, graph, x, energy, cols);
    if (status) return status;
    space = (double *)rv__get(&alloc, 2 * graph->n * cols, sizeof(double));
    if (!space) return rv__no_memory(ctx, 2 * graph->n * cols * sizeof(double));
    status = rv__heat_product(ctx, graph, x, cols, space);
    for (size_t i = 0; i < graph->n && !status; i++) {
        const double *row = space + (graph->n + i) * cols, scale = rv__heat_scale(graph, 0, i);
        status = rv__poll_by(ctx, &left, 2 * cols);
        for (size_t c = 0; c < cols; c++) sum += (double)x[i * cols + c] * row[c] * scale;
    }
    rv__put(&alloc, space, 2 * graph->n * cols, sizeof(double));
    if (status) return status;
    *energy = sum;
    return rv__ok(ctx);
}

/* All degrees; t[0], t[1]: [n, cols], t[0] filled; sum: [n_times, n, cols]. Afterwards t[k % 2] is
   T_k of the last two degrees k. */
RV__FN rv_status rv__heat_expand(rv_ctx *ctx, const rv_diffusion *g, const double *coef, size_t ld,
                                 size_t degree, size_t n_times, size_t cols, double *t[2],
                                 double *sum)
{
    const size_t all = g->n * cols;
    size_t left = 0;
    rv__heat h;
    rv_status status = RV_OK;
    for (size_t s = 0; s < n_times; s++) {
        for (size_t i = 0; i < g->n && !status; i++) {
            status = rv__poll_by(ctx, &left, cols);
            for (size_t c = i * cols; c < (i + 1) * cols; c++)
                sum[s * all + c] = coef[s * ld] * t[0][c];
        }
    }
    memset(&h, 0, sizeof h);
    h.graph = g;
    h.cols = cols;
    h.post = g->left;
    h.n_sums = n_times;
    h.sum = sum;
    h.ld = ld;
    for (size_t k = 1; k <= degree && !status; k++) {
        rv__heat_set(&h, k == 1);
        h.x = t[(k - 1) % 2];
        h.to = t[k % 2];
        h.coef = coef + k;
        status = rv__heat_step(ctx, &h);
    }
    return status;
}

/* Checks times; *most: coefficients that the longest needs. */
RV__FN rv_status rv__heat_times(rv_ctx *ctx, const rv_diffusion *g, const float *times,
                                size_t n_times, size_t *most)
{
    *most = 1;
    for (size_t s = 0; s < n_times; s++) {
        const double z = (double)times[s] * g->bound / 2.0;
        size_t here;
        if (!rv__finite_f32(times[s]) || times[s] < 0.0f || 2.0 * z > RV__HEAT_MOST)
            return rv__fail(ctx, RV_ERR_ARG, s,
                            "times[%z] is %f; it must be 0 to 1e9 by the bound, which is %f", s,
                            (double)times[s], g->bound);
        here = rv__heat_most(z);
        if (here > *most) *most = here;
    }
    return RV_OK;
}

/* coef: [n_times, most]; *degree: the greatest that a time needs. */
RV__FN void rv__heat_prepare(const rv_diffusion *g, const float *times, size_t n_times,
                             double tolerance, double *coef, size_t most, rv_heat_result *result)
{
    result->degree = 0;
    result->error = 0.0;
    for (size_t s = 0; s < n_times; s++) {
        double rest;
        const size_t degree = rv__heat_coefficients((double)times[s] * g->bound / 2.0, tolerance,
                                                    coef + s * most, most, &rest);
        if (degree > result->degree) result->degree = degree;
        if (rest > result->error) result->error = rest;
    }
}

RV_API rv_status rv_diffusion_heat(rv_ctx *ctx, const rv_diffusion *graph,
                                   const rv_heat_config *config, const float *times, size_t n_times,
                                   const float *x, size_t cols, float *y, rv_heat_result *result)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const int transposed = config && config->transposed;
    float tolerance = 1e-9f;
    size_t most, all, n_space, n_coef;
    double *space, *coef, *t[2];
    rv_heat_result done;
    rv_status status = rv__heat_check(ctx, graph, x, y, cols);
    if (!status && n_times && !times) status = rv__fail(ctx, RV_ERR_ARG, 0, "times is NULL");
    if (status) return status;
    if (config && rv__given(config->tolerance)) tolerance = config->tolerance;
    if (!rv__finite_f32(tolerance) || tolerance < 0.9e-15f || tolerance > 1.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "tolerance is %f, allowed: 1e-15 to 1",
                        (double)tolerance);
    status = rv__heat_times(ctx, graph, times, n_times, &most);
    if (status) return status;
    all = graph->n * cols;
    n_space = rv__mul(all, rv__add(n_times, 2));
    n_coef = rv__mul(most, n_times);
    space = (double *)rv__get(&alloc, n_space, sizeof(double));
    coef = (double *)rv__get(&alloc, n_coef, sizeof(double));
    if (!space || !coef) {
        status = rv__no_memory(ctx, rv__mul(rv__add(n_space, n_coef), sizeof(double)));
    } else {
        t[0] = space;
        t[1] = space + all;
        rv__heat_prepare(graph, times, n_times, (double)tolerance, coef, most, &done);
        status = rv__heat_load(ctx, graph, transposed, x, cols, t[0]);
        if (!status)
            status = rv__heat_expand(ctx, graph, coef, most, done.degree, n_times, cols, t,
                                     space + 2 * all);
        for (size_t s = 0; s < n_times && !status; s++)
            status = rv__heat_store(ctx, graph, transposed, space + (2 + s) * all, cols,
                                    y + s * all);
        if (!status && result) *result = done;
    }
    rv__put(&alloc, coef, n_coef, sizeof(double));
    rv__put(&alloc, space, n_space, sizeof(double));
    return status ? status : rv__ok(ctx);
}

#undef RV__HEAT_COLS
#undef RV__HEAT_MOST

#endif /* RV_DIFFUSION_C */
