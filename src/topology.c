#ifndef RV_TOPOLOGY_C
#define RV_TOPOLOGY_C
#include "topology.h"
#include "base.c"
#include "simd.c"
#include "topk.h"
#include "distance.c"

/* Coherence: rows are scaled to length 1, so that one scan gives a token's cosines; rows run on any
   number of workers, their numbers are summed in order. Persistence: Prim's algorithm; the points
   outside the tree are kept together, so each scan is over them alone.

   Sources: as in the header. */

static rv_status rv__window_check(rv_ctx *ctx, const float *x, size_t *stride, size_t n, size_t dim)
{
    if (dim == 0 || dim > 65535u)
        return rv__fail(ctx, RV_ERR_ARG, 0, "dim is %z; it must be 1..65535", dim);
    if (n > 65536u) return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z; it must be at most 65536", n);
    if (*stride == 0) *stride = dim;
    if (*stride < dim || *stride > SIZE_MAX / 4 / 65536u)
        return rv__fail(ctx, RV_ERR_ARG, 0, "stride is %z; it must be at least dim (%z)", *stride,
                        dim);
    if (n && !x) return rv__fail(ctx, RV_ERR_ARG, 0, "x is NULL");
    for (size_t i = 0; i < n; i++) {
        const size_t bad = rv__find_not_finite(x + i * *stride, dim);
        if (bad < dim)
            return rv__fail(ctx, RV_ERR_ARG, i, "row %z of x has %f at %z; it must be finite", i,
                            (double)x[i * *stride + bad], bad);
    }
    return RV_OK;
}

/* ---- coherence ---- */

typedef struct rv__window {
    const float *x;          /* [n, stride]                                                       */
    size_t stride, n, dim, k;
    rv__scan_fn scan;        /* minus dot products                                                */
    float *unit;             /* [n, dim]                                                          */
    double *variance;        /* [n]                                                               */
    uint32_t *close, *cross; /* [n]: edges of a token                                             */
    float *scores;           /* per lane: [n]                                                     */
    float *best;             /* per lane: [k]                                                     */
    uint32_t *index;         /* per lane: [k]                                                     */
} rv__window;

static void rv__window_scale(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__window *w = (const rv__window *)arg;
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        const float *from = w->x + i * w->stride;
        float *to = w->unit + i * w->dim;
        double sum = 0.0, by;
        for (size_t a = 0; a < w->dim; a++) sum += (double)from[a] * (double)from[a];
        by = sum > 0.0 ? 1.0 / sqrt(sum) : 0.0;
        for (size_t a = 0; a < w->dim; a++) to[a] = (float)((double)from[a] * by);
    }
}

static void rv__window_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__window *w = (const rv__window *)arg;
    const size_t n = w->n, k = w->k;
    float *scores = w->scores + lane * n, *best = w->best + lane * k;
    uint32_t *index = w->index + lane * k;
    for (size_t i = begin; i < end; i++) {
        double mean = 0.0, square = 0.0;
        w->scan(w->unit + i * w->dim, (const unsigned char *)w->unit, w->dim * sizeof(float), NULL,
                n, w->dim, scores);
        scores[i] = rv__infinity(); /* not a neighbour of itself */
        (void)rv_topk_f32(scores, n, k, index, best);
        w->close[i] = w->cross[i] = 0;
        for (size_t e = 0; e < k; e++) {
            const size_t j = index[e], gap = j > i ? j - i : i - j;
            w->close[i] += 4 * gap <= n;
            w->cross[i] += (i < n / 2) != (j < n / 2);
            mean -= (double)best[e] / (double)k;
        }
        for (size_t e = 0; e < k; e++) {
            const double off = (double)best[e] + mean;
            square += off * off;
        }
        w->variance[i] = square / (double)k;
    }
}

static double rv__window_clip(double x)
{
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

static void rv__window_sum(const rv__window *w, rv_coherence *out)
{
    double close = 0.0, cross = 0.0, variance = 0.0, deviation = 0.0;
    const double n = (double)w->n, edges = n * (double)w->k;
    for (size_t i = 0; i < w->n; i++) {
        close += (double)w->close[i];
        cross += (double)w->cross[i];
        variance += w->variance[i];
        deviation += sqrt(w->variance[i]);
    }
    out->boundary = close / edges;
    out->cut = 1.0 - cross / edges;
    out->disagreement = rv__window_clip(1.0 - variance / n);
    out->variance = rv__window_clip(1.0 - deviation / n);
    out->score = 0.25 * (out->boundary + out->cut + out->disagreement + out->variance);
}

RV_API rv_status rv_coherence_measure(rv_ctx *ctx, const float *x, size_t stride, size_t n,
                                      size_t dim, size_t k, rv_coherence *out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    rv__window w;
    rv_status status = rv__window_check(ctx, x, &stride, n, dim);
    if (status) return status;
    if (!out) return rv__fail(ctx, RV_ERR_ARG, 0, "out is NULL");
    if (n < 2) {
        out->boundary = out->cut = out->disagreement = out->variance = out->score = 1.0;
        return rv__ok(ctx);
    }
    w.x = x;
    w.stride = stride;
    w.n = n;
    w.dim = dim;
    w.k = k == 0 ? 8 : k;
    if (w.k > n - 1) w.k = n - 1;
    w.scan = rv__scan_find(RV_METRIC_IP, RV_DTYPE_F32, ctx ? ctx->isa : RV_ISA_BEST);
    w.unit = (float *)rv__get(&alloc, rv__mul(n, dim), sizeof(float));
    w.variance = (double *)rv__get(&alloc, n, sizeof(double));
    w.close = (uint32_t *)rv__get(&alloc, 2 * n, sizeof(uint32_t));
    w.cross = w.close ? w.close + n : NULL;
    w.scores = (float *)rv__get(&alloc, lanes * (n + w.k), sizeof(float));
    w.best = w.scores ? w.scores + lanes * n : NULL;
    w.index = (uint32_t *)rv__get(&alloc, lanes * w.k, sizeof(uint32_t));
    if (!w.unit || !w.variance || !w.close || !w.scores || !w.index)
        status = rv__no_memory(ctx, rv__mul(rv__mul(n, dim), sizeof(float)));
    if (!status)
        status = rv__parallel_for(ctx, n, 16, 16 + 1000000u / dim, rv__window_scale, &w);
    if (!status)
        status = rv__parallel_for(ctx, n, 1, 1 + 4000000u / (n * (dim + 8)), rv__window_rows, &w);
    if (!status) rv__window_sum(&w, out);
    rv__put(&alloc, w.index, lanes * w.k, sizeof(uint32_t));
    rv__put(&alloc, w.scores, lanes * (n + w.k), sizeof(float));
    rv__put(&alloc, w.close, 2 * n, sizeof(uint32_t));
    rv__put(&alloc, w.variance, n, sizeof(double));
    rv__put(&alloc, w.unit, rv__mul(n, dim), sizeof(float));
    return status ? status : rv__ok(ctx);
}

/* ---- persistence ---- */

typedef struct rv__mst {
    float *reach, *fresh, *length; /* [n]: squares, from the tree to points outside; of the edges */
    uint32_t *outside;             /* [n]                                                         */
} rv__mst;

static rv_status rv__mst_grow(rv_ctx *ctx, const rv__mst *t, const float *x, size_t stride,
                               size_t n, size_t dim)
{
    const rv_isa isa = ctx ? ctx->isa : RV_ISA_BEST;
    const rv__scan_fn scan = rv__scan_find(RV_METRIC_L2, RV_DTYPE_F32, isa);
    size_t left = 0, rest = n - 1, last = 0;
    for (size_t i = 0; i < rest; i++) {
        t->outside[i] = (uint32_t)(i + 1);
        t->reach[i] = rv__infinity();
    }
    while (rest > 0) {
        size_t nearest = 0;
        rv_status status = rv__poll_by(ctx, &left, rest * (dim + 2));
        if (status) return status;
        scan(x + last * stride, (const unsigned char *)x, stride * sizeof(float), t->outside, rest,
             dim, t->fresh);
        for (size_t i = 0; i < rest; i++) {
            if (t->fresh[i] < t->reach[i]) t->reach[i] = t->fresh[i];
            if (t->reach[i] < t->reach[nearest]) nearest = i;
        }
        t->length[n - 1 - rest] = t->reach[nearest];
        last = t->outside[nearest];
        rest--;
        t->outside[nearest] = t->outside[rest];
        t->reach[nearest] = t->reach[rest];
    }
    return RV_OK;
}

RV_API rv_status rv_persistence_h0(rv_ctx *ctx, const float *x, size_t stride, size_t n, size_t dim,
                                   float *lengths, double *total)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t edges = n > 0 ? n - 1 : 0;
    double sum = 0.0;
    rv__mst t;
    float *floats;
    rv_status status = rv__window_check(ctx, x, &stride, n, dim);
    if (status) return status;
    floats = (float *)rv__get(&alloc, 3 * n, sizeof(float));
    t.outside = (uint32_t *)rv__get(&alloc, n, sizeof(uint32_t));
    if (!floats || !t.outside) status = rv__no_memory(ctx, 3 * n * sizeof(float));
    t.reach = floats;
    t.fresh = floats ? floats + n : NULL;
    t.length = floats ? floats + 2 * n : NULL;
    if (!status && edges) status = rv__mst_grow(ctx, &t, x, stride, n, dim);
    if (!status) {
        (void)rv_topk_f32(t.length, edges, edges, t.outside, t.fresh);
        for (size_t i = 0; i < edges; i++) {
            const double length = sqrt((double)t.fresh[i]);
            sum += length;
            if (lengths) lengths[i] = (float)length;
        }
        if (total) *total = sum;
    }
    rv__put(&alloc, t.outside, n, sizeof(uint32_t));
    rv__put(&alloc, floats, 3 * n, sizeof(float));
    return status ? status : rv__ok(ctx);
}

/* ---- the gate ---- */

static rv_status rv__gate_range(rv_ctx *ctx, const char *name, float value, float least, float most)
{
    if (rv__finite_f32(value) && value >= least && value <= most) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s is %f; it must be %f to %f", name, (double)value,
                    (double)least, (double)most);
}

static rv_status rv__gate_check(rv_ctx *ctx, const rv_gate_config *c)
{
    rv_status status = rv__gate_range(ctx, "stable", c->stable, 1e-6f, 1.0f);
    if (!status) status = rv__gate_range(ctx, "cautious", c->cautious, 1e-6f, 1.0f);
    if (!status) status = rv__gate_range(ctx, "freeze", c->freeze, 1e-6f, 1.0f);
    if (!status) status = rv__gate_range(ctx, "hysteresis", c->hysteresis, 1e-30f, 0.5f);
    if (!status) status = rv__gate_range(ctx, "width", c->width, 1e-6f, 1.0f);
    if (!status) status = rv__gate_range(ctx, "sparsity", c->sparsity, 1.0f, 1e6f);
    if (status) return status;
    if (c->base > 4096u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "base is %z; it must be 1..4096", (size_t)c->base);
    if ((double)c->freeze + (double)c->hysteresis >= (double)c->cautious - (double)c->hysteresis ||
        (double)c->cautious + (double)c->hysteresis >= (double)c->stable - (double)c->hysteresis)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "freeze, cautious, stable are %f, %f, %f; they must rise by more than "
                        "2 * hysteresis, %f", (double)c->freeze, (double)c->cautious,
                        (double)c->stable, 2.0 * (double)c->hysteresis);
    return RV_OK;
}

RV_API rv_status rv_gate_init(rv_ctx *ctx, rv_gate *gate, const rv_gate_config *config)
{
    rv_gate_config c;
    rv_status status;
    if (!gate) return rv__fail(ctx, RV_ERR_ARG, 0, "gate is NULL");
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    c.stable = rv__default(c.stable, 0.8f);
    c.cautious = rv__default(c.cautious, 0.5f);
    c.freeze = rv__default(c.freeze, 0.3f);
    c.hysteresis = rv__default(c.hysteresis, 0.05f);
    c.width = rv__default(c.width, 0.5f);
    c.sparsity = rv__default(c.sparsity, 2.0f);
    if (c.base == 0) c.base = 64;
    if (c.period == 0) c.period = 4;
    if (c.neighbours == 0) c.neighbours = 8;
    status = rv__gate_check(ctx, &c);
    if (status) return status;
    memset(gate, 0, sizeof *gate);
    gate->config = c;
    return rv__ok(ctx);
}

RV_API rv_status rv_gate_feed(rv_ctx *ctx, rv_gate *gate, double score)
{
    /* levels: STABLE, CAUTIOUS, narrow CAUTIOUS, FREEZE; threshold i is between i and i + 1 */
    double at[3], band;
    int level;
    if (!gate) return rv__fail(ctx, RV_ERR_ARG, 0, "gate is NULL");
    if (!rv__finite_f64(score) || score < 0.0 || score > 1.0)
        return rv__fail(ctx, RV_ERR_ARG, 0, "score is %f; it must be 0 to 1", score);
    at[0] = (double)gate->config.stable;
    at[1] = (double)gate->config.cautious;
    at[2] = (double)gate->config.freeze;
    band = gate->scores ? (double)gate->config.hysteresis : 0.0;
    level = gate->mode == RV_GATE_FREEZE     ? 3
            : gate->mode == RV_GATE_CAUTIOUS ? 1 + gate->narrow
                                             : 0;
    while (level < 3 && (level < 2 ? score < at[level] - band : score <= at[2] - band)) level++;
    while (level > 0 && (level < 3 ? score >= at[level - 1] + band : score > at[2] + band)) level--;
    gate->mode = level == 3 ? RV_GATE_FREEZE : level == 0 ? RV_GATE_STABLE : RV_GATE_CAUTIOUS;
    gate->narrow = level == 2;
    gate->scores++;
    return rv__ok(ctx);
}

RV_API rv_status rv_gate_update(rv_ctx *ctx, rv_gate *gate, const float *x, size_t stride, size_t n,
                                size_t dim)
{
    rv_coherence now;
    rv_status status = RV_OK;
    if (!gate) return rv__fail(ctx, RV_ERR_ARG, 0, "gate is NULL");
    if (gate->config.period == 0)
        return rv__fail(ctx, RV_ERR_ARG, 0, "period is 0; rv_gate_init must come first");
    if (gate->calls % gate->config.period == 0) {
        status = rv_coherence_measure(ctx, x, stride, n, dim, gate->config.neighbours, &now);
        if (!status) status = rv_gate_feed(ctx, gate, now.score);
        if (!status) gate->coherence = now;
    }
    if (status) return status;
    gate->calls++;
    return rv__ok(ctx);
}

RV_API size_t rv_gate_width(const rv_gate *gate, size_t n)
{
    double width = (double)gate->config.base * (double)gate->config.width;
    if (gate->mode == RV_GATE_STABLE || n < 2) return n;
    if (gate->mode == RV_GATE_FREEZE) return 1;
    if (gate->narrow) width /= (double)gate->config.sparsity;
    if (width < 1.0) width = 1.0;
    return width < (double)n ? (size_t)width : n;
}

#endif /* RV_TOPOLOGY_C */
