#ifndef RV_HYPERBOLIC_TRAIN_C
#define RV_HYPERBOLIC_TRAIN_C
#include "hyperbolic.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "hyperbolic.c"
#include "hyperbolic_lorentz.c"

/* Embeddings from an edge list. Points are kept in double in the space of curvature -1; distances
   of curvature -c are 1 / sqrt(c) times those, and its Riemannian gradients sqrt(c) times.

   Every epoch walks the edges in a new random order. For an edge (u, v) and the negatives w, which
   are not linked from u, the probabilities are the softmax of -d(u, .), and every point of them
   makes one step. With q = sinh(d / 2)^2 the softmax needs only log(sqrt(q) + sqrt(1 + q)) = d / 2,
   many at a time in floats; q is |x - y|^2 over both gaps in the ball, (-<x, y>_L - 1) / 2 on the
   sheet.

   Sources: Nickel, Kiela, Poincare embeddings for learning hierarchical representations, 2017;
   Learning continuous hierarchies in the Lorentz model, 2018. Deviations: points of an edge are
   moved one edge at a time; negatives are drawn evenly among unlinked nodes. */

#define RV__EMBED_RIM (1.0 - 1e-5) /* as in the paper */
#define RV__EMBED_DRAWS 32u        /* per negative wanted, where nearly all nodes are linked */

typedef struct rv__embed {
    rv_embed_config config;
    const rv__kernels *kernels;
    const uint32_t *edges;
    size_t n_edges, n_nodes, dim, width; /* width: dim, with time dim + 1 */
    int sheet;
    uint32_t *begin, *linked;  /* [n_nodes + 1], [n_edges]: the nodes linked from each, rising */
    uint32_t *order;           /* [n_edges] */
    double *points, *gaps;     /* [n_nodes, width], [n_nodes]: 1 - |x|^2 */
    uint32_t *ids;             /* [negatives + 1]: v, then the negatives */
    double *q, *steps;         /* [negatives + 1], [negatives + 2, width] */
    float *half, *share;       /* [negatives + 1] */
    rv__rng rng;
} rv__embed;

/* ---- arguments ---- */

static rv_status rv__embed_check(rv_ctx *ctx, const rv_embed_config *given, rv__embed *e)
{
    rv_embed_config *config = &e->config;
    memset(e, 0, sizeof *e);
    if (!given) return rv__fail(ctx, RV_ERR_ARG, 0, "config is NULL");
    *config = *given;
    if (config->c == 0.0) config->c = 1.0;
    if (config->epochs == 0) config->epochs = 500;
    if (config->negatives == 0) config->negatives = 50;
    if (config->rate == 0.0) config->rate = 0.05;
    if (config->burn_in == 0) config->burn_in = config->epochs < 20 ? config->epochs : 20;
    if (config->burn_in_factor == 0.0) config->burn_in_factor = 0.1;
    if (config->seed == 0) config->seed = rv__seed(ctx);
    if (config->dim < 1 || config->dim > 4096) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dim is %z, it must be in 1..4096",
                        (size_t)config->dim);
    }
    if ((unsigned)config->model > (unsigned)RV_EMBED_LORENTZ) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "model is %d, it must be a rv_embed_model",
                        (int)config->model);
    }
    if (!rv__finite_f64(config->c) || config->c < 0.0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "c is %f, it must be positive and finite",
                        config->c);
    }
    if (config->epochs > 1000000) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "epochs is %z, it must be in 1..1000000",
                        (size_t)config->epochs);
    }
    if (config->negatives > 1024) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "negatives is %z, it must be in 1..1024",
                        (size_t)config->negatives);
    }
    if (!rv__finite_f64(config->rate) || config->rate < 0.0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "rate is %f, it must be positive and finite",
                        config->rate);
    }
    if (config->burn_in > config->epochs) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "burn_in is %z, it must be at most epochs, %z",
                        (size_t)config->burn_in, (size_t)config->epochs);
    }
    if (!rv__finite_f64(config->burn_in_factor) || config->burn_in_factor < 0.0 ||
        config->burn_in_factor > 1.0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "burn_in_factor is %f, it must be in (0,1]",
                        config->burn_in_factor);
    }
    e->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    e->dim = config->dim;
    e->sheet = config->model == RV_EMBED_LORENTZ;
    e->width = e->dim + (size_t)e->sheet;
    return RV_OK;
}

static rv_status rv__embed_check_edges(rv_ctx *ctx, rv__embed *e, const uint32_t *edges,
                                       size_t n_edges, size_t n_nodes)
{
    if (n_nodes < 1 || n_nodes > 0xFFFFFFFFu) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n_nodes is %z, it must be in 1..2^32 - 1", n_nodes);
    }
    if (n_edges > 0xFFFFFFFFu) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n_edges is %z, it must be below 2^32", n_edges);
    }
    for (size_t i = 0; i < n_edges; i++) {
        uint32_t u = edges[2 * i], v = edges[2 * i + 1];
        rv_status status = i % 1000000 ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (u >= n_nodes || v >= n_nodes) {
            return rv__fail(ctx, RV_ERR_ARG, i, "edge %z names node %z, nodes are 0..%z", i,
                            (size_t)(u >= n_nodes ? u : v), n_nodes - 1);
        }
        if (u == v) {
            return rv__fail(ctx, RV_ERR_ARG, i, "edge %z links node %z with itself", i, (size_t)u);
        }
    }
    e->edges = edges;
    e->n_edges = n_edges;
    e->n_nodes = n_nodes;
    return RV_OK;
}

/* ---- the graph ---- */

/* Sorts the edges by v, then without losing that by u; drops repeated ones. scratch: [n_edges]. */
static rv_status rv__embed_link(rv_ctx *ctx, rv__embed *e, uint32_t *scratch)
{
    uint32_t *begin = e->begin, kept = 0, first;
    for (int by = 1; by >= 0; by--) {
        rv_status status = rv__fill_polled(ctx, begin, 0, (e->n_nodes + 1) * sizeof *begin);
        if (status) return status;
        for (size_t i = 0; i < e->n_edges; i++) begin[e->edges[2 * i + (size_t)by] + 1]++;
        for (size_t i = 0; i < e->n_nodes; i++) begin[i + 1] += begin[i];
        for (size_t i = 0; i < e->n_edges; i++) {
            size_t edge = by ? i : scratch[i];
            uint32_t *to = by ? scratch : e->order;
            to[begin[e->edges[2 * edge + (size_t)by]]++] = (uint32_t)edge;
        }
    }
    for (size_t i = e->n_nodes; i > 0; i--) begin[i] = begin[i - 1]; /* ends were begins */
    begin[0] = 0;
    first = 0;
    for (size_t u = 0; u < e->n_nodes; u++) {
        uint32_t end = begin[u + 1], start = kept;
        for (uint32_t i = first; i < end; i++) {
            uint32_t v = e->edges[2 * (size_t)e->order[i] + 1];
            if (kept == start || e->linked[kept - 1] != v) e->linked[kept++] = v;
        }
        first = end;
        begin[u] = start;
    }
    begin[e->n_nodes] = kept;
    return RV_OK;
}

static int rv__embed_linked(const rv__embed *e, uint32_t u, uint32_t v)
{
    uint32_t low = e->begin[u], high = e->begin[u + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (e->linked[middle] < v) low = middle + 1;
        else high = middle;
    }
    return low < e->begin[u + 1] && e->linked[low] == v;
}

/* ---- one edge ---- */

/* Fills ids with v and negatives; returns how many. */
static size_t rv__embed_draw(rv__embed *e, uint32_t u, uint32_t v)
{
    size_t n = 1, draws = (size_t)e->config.negatives * RV__EMBED_DRAWS;
    e->ids[0] = v;
    for (; n <= e->config.negatives && draws > 0; draws--) {
        uint32_t w = rv__rng_below(&e->rng, (uint32_t)e->n_nodes);
        if (w != u && !rv__embed_linked(e, u, w)) e->ids[n++] = w;
    }
    return n;
}

static double rv__embed_q(const rv__embed *e, const double *x, double gap, const double *y,
                          double other)
{
    double sum = 0.0;
    if (e->sheet) {
        for (size_t j = 1; j <= e->dim; j++) sum += x[j] * y[j];
        sum = 0.5 * (x[0] * y[0] - sum - 1.0);
        return sum > 0.0 ? sum : 0.0;
    }
    for (size_t j = 0; j < e->dim; j++) sum += (x[j] - y[j]) * (x[j] - y[j]);
    return sum / (gap * other);
}

/* x_way += weight times the gradient of d(x, y) by x, y_way = the same by y. In the ball Euclidean
   gradients, on the sheet Riemannian ones. */
static void rv__embed_pull(const rv__embed *e, double weight, double q, const double *x,
                           double x_gap, const double *y, double y_gap, double *x_way,
                           double *y_way)
{
    double f = q > 0.0 ? weight / sqrt(q * (1.0 + q)) : 0.0, g, h;
    if (e->sheet) {
        f *= -0.5; /* sinh d = 2 sqrt(q (1 + q)) */
        g = 2.0 * q;
        for (size_t j = 0; j < e->width; j++) {
            double s = y[j] - x[j];
            x_way[j] += f * (s - g * x[j]);
            y_way[j] = f * (-s - g * y[j]);
        }
        return;
    }
    f *= 1.0 / (x_gap * y_gap);
    g = q * y_gap; /* |x - y|^2 over the gap of x */
    h = q * x_gap;
    for (size_t j = 0; j < e->dim; j++) {
        double s = x[j] - y[j];
        x_way[j] += f * (s + g * x[j]);
        y_way[j] = f * (h * y[j] - s);
    }
}

static void rv__embed_step(rv__embed *e, uint32_t node, const double *way, double rate)
{
    double *x = e->points + (size_t)node * e->width, sum = 0.0, gap = e->gaps[node], f;
    if (e->sheet) {
        rv__outs none = rv__outs_f64(NULL);
        rv__lor_move(rv__reals_f64(x + 1), rv__reals_f64(way + 1), -rate, e->dim, 1.0,
                     rv__outs_f64(x), none);
        return;
    }
    f = rate * gap * gap * 0.25;
    for (size_t j = 0; j < e->dim; j++) {
        x[j] -= f * way[j];
        sum += x[j] * x[j];
    }
    if (sum > RV__EMBED_RIM * RV__EMBED_RIM) {
        f = RV__EMBED_RIM / sqrt(sum);
        for (size_t j = 0; j < e->dim; j++) x[j] *= f;
        sum = RV__EMBED_RIM * RV__EMBED_RIM;
    }
    e->gaps[node] = 1.0 - sum;
}

/* Returns the loss of the edge. */
static double rv__embed_edge(rv__embed *e, uint32_t u, uint32_t v, double rate)
{
    size_t n = rv__embed_draw(e, u, v);
    const double *x = e->points + (size_t)u * e->width;
    double *x_way = e->steps, gap = e->gaps[u];
    for (size_t i = 0; i < n; i++) {
        uint32_t w = e->ids[i];
        double q = rv__embed_q(e, x, gap, e->points + (size_t)w * e->width, e->gaps[w]);
        e->q[i] = q;
        e->half[i] = (float)(sqrt(q) + sqrt(1.0 + q));
    }
    e->kernels->log_f32(e->half, e->half, n);
    rv__softmax(e->kernels, e->half, (float)(-2.0 / sqrt(e->config.c)), e->share, n);
    memset(x_way, 0, e->width * sizeof *x_way);
    for (size_t i = 0; i < n; i++) {
        uint32_t w = e->ids[i];
        rv__embed_pull(e, (i == 0 ? 1.0 : 0.0) - (double)e->share[i], e->q[i], x, gap,
                       e->points + (size_t)w * e->width, e->gaps[w], x_way,
                       e->steps + (i + 1) * e->width);
    }
    /* A node drawn twice steps twice. */
    rv__embed_step(e, u, x_way, rate);
    for (size_t i = 0; i < n; i++) {
        rv__embed_step(e, e->ids[i], e->steps + (i + 1) * e->width, rate);
    }
    return -(double)rv__logf(e->share[0] > 1e-37f ? e->share[0] : 1e-37f);
}

/* ---- training ---- */

static rv_status rv__embed_run(rv_ctx *ctx, rv__embed *e)
{
    rv_embed_progress *progress = e->config.progress;
    size_t piece = 200000u / (((size_t)e->config.negatives + 2) * (e->width + 8)) + 1;
    if (progress) {
        progress->epoch = 0;
        progress->epochs = e->config.epochs;
        progress->loss = rv__hyp_nan();
    }
    for (size_t i = 0; i < e->n_edges; i++) e->order[i] = (uint32_t)i;
    for (uint32_t epoch = 0; epoch < e->config.epochs; epoch++) {
        double loss = 0.0, rate = e->config.rate * sqrt(e->config.c);
        if (epoch < e->config.burn_in) rate *= e->config.burn_in_factor;
        for (size_t i = 0; i < e->n_edges; i++) {
            size_t j = i + rv__rng_below(&e->rng, (uint32_t)(e->n_edges - i));
            uint32_t edge = e->order[j];
            rv_status status = i % piece ? RV_OK : rv__poll(ctx);
            if (status) return status;
            e->order[j] = e->order[i];
            e->order[i] = edge;
            loss += rv__embed_edge(e, e->edges[2 * (size_t)edge], e->edges[2 * (size_t)edge + 1],
                                   rate);
        }
        if (progress) {
            progress->epoch = epoch + 1;
            if (e->n_edges) progress->loss = loss / (double)e->n_edges;
        }
    }
    return rv__poll(ctx);
}

/* The given points, or random ones near the origin. */
static rv_status rv__embed_begin(rv_ctx *ctx, rv__embed *e, const float *given)
{
    double root = sqrt(e->config.c);
    rv__rng_init(&e->rng, e->config.seed);
    for (size_t i = 0; i < e->n_nodes; i++) {
        double *x = e->points + i * e->width, *space = x + (e->sheet ? 1 : 0), pull = 1.0;
        const float *row = given + i * e->width + (e->sheet ? 1 : 0);
        rv_status status = i % 10000 ? RV_OK : rv__poll(ctx);
        size_t bad = e->config.warm ? rv__find_not_finite(row, e->dim) : e->dim;
        if (status) return status;
        if (bad < e->dim) {
            return rv__fail(ctx, RV_ERR_ARG, i, "point %z has an element of %f, it must be finite",
                            i, (double)row[bad]);
        }
        if (e->config.warm && !e->sheet) {
            (void)rv__hyp_gap(rv__reals_f32(row), e->dim, -e->config.c, &pull);
        }
        for (size_t j = 0; j < e->dim; j++) {
            space[j] = e->config.warm ? root * pull * (double)row[j]
                                      : 1e-3 * (2.0 * (double)rv__rng_f32(&e->rng) - 1.0);
        }
        if (e->sheet) rv__lor_project(rv__outs_f64(x), e->dim, 1.0);
        else e->gaps[i] = rv__hyp_gap(rv__reals_f64(x), e->dim, -1.0, &pull);
    }
    return RV_OK;
}

static void rv__embed_write(const rv__embed *e, float *out)
{
    double root = sqrt(e->config.c);
    for (size_t i = 0; i < e->n_nodes; i++) {
        rv__outs row = rv__outs_f32(out + i * e->width);
        rv__hyp_times(rv__reals_f64(e->points + i * e->width), e->width, 1.0 / root, row);
        if (e->sheet) rv__lor_project(row, e->dim, e->config.c);
        else rv__hyp_project(row, e->dim, -e->config.c);
    }
}

/* The blocks of a run: count and size. */
#define RV__EMBED_BLOCKS 9

typedef struct rv__embed_block {
    size_t count, size;
} rv__embed_block;

static void rv__embed_blocks(const rv__embed *e, rv__embed_block *blocks)
{
    size_t most = (size_t)e->config.negatives + 1;
    const size_t counts[RV__EMBED_BLOCKS] = {
        rv__add(e->n_nodes, 1), e->n_edges, e->n_edges, rv__mul(e->n_nodes, e->width), e->n_nodes,
        most, most, rv__mul(most + 1, e->width), 2 * most};
    const size_t sizes[RV__EMBED_BLOCKS] = {sizeof *e->begin,  sizeof *e->linked, sizeof *e->order,
                                            sizeof *e->points, sizeof *e->gaps,   sizeof *e->ids,
                                            sizeof *e->q,      sizeof *e->steps,  sizeof *e->half};
    for (size_t i = 0; i < RV__EMBED_BLOCKS; i++) {
        blocks[i].count = counts[i];
        blocks[i].size = sizes[i];
    }
}

static void rv__embed_release(const rv_alloc *alloc, const rv__embed *e, void **held)
{
    rv__embed_block blocks[RV__EMBED_BLOCKS];
    rv__embed_blocks(e, blocks);
    for (size_t i = 0; i < RV__EMBED_BLOCKS; i++) {
        rv__put(alloc, held[i], blocks[i].count, blocks[i].size);
    }
}

static rv_status rv__embed_hold(rv_ctx *ctx, const rv_alloc *alloc, rv__embed *e, void **held)
{
    rv__embed_block blocks[RV__EMBED_BLOCKS];
    uint32_t *scratch;
    rv_status status;
    memset(held, 0, RV__EMBED_BLOCKS * sizeof *held);
    rv__embed_blocks(e, blocks);
    for (size_t i = 0; i < RV__EMBED_BLOCKS; i++) {
        held[i] = rv__get(alloc, blocks[i].count, blocks[i].size);
        if (!held[i]) return rv__no_memory(ctx, rv__mul(blocks[i].count, blocks[i].size));
    }
    e->begin = (uint32_t *)held[0];
    e->linked = (uint32_t *)held[1];
    e->order = (uint32_t *)held[2];
    e->points = (double *)held[3];
    e->gaps = (double *)held[4];
    e->ids = (uint32_t *)held[5];
    e->q = (double *)held[6];
    e->steps = (double *)held[7];
    e->half = (float *)held[8];
    e->share = e->half + e->config.negatives + 1;
    scratch = (uint32_t *)rv__get(alloc, e->n_edges, sizeof *scratch);
    if (!scratch) return rv__no_memory(ctx, rv__mul(e->n_edges, sizeof *scratch));
    status = rv__embed_link(ctx, e, scratch);
    rv__put(alloc, scratch, e->n_edges, sizeof *scratch);
    return status;
}

RV_API rv_status rv_embed_train(rv_ctx *ctx, const rv_embed_config *config, const uint32_t *edges,
                                size_t n_edges, size_t n_nodes, float *out)
{
    rv_alloc alloc = rv__allocator(ctx);
    void *held[RV__EMBED_BLOCKS];
    rv__embed e;
    rv_status status = rv__embed_check(ctx, config, &e);
    if (!status) status = rv__embed_check_edges(ctx, &e, edges, n_edges, n_nodes);
    if (status) return status;
    status = rv__embed_hold(ctx, &alloc, &e, held);
    if (!status) status = rv__embed_begin(ctx, &e, out);
    if (!status) status = rv__embed_run(ctx, &e);
    if (!status) rv__embed_write(&e, out);
    rv__embed_release(&alloc, &e, held);
    return status ? status : rv__ok(ctx);
}

/* ---- evaluation ---- */

/* Shell sort, rising; the lists are those of one node. */
static void rv__embed_sort(double *x, size_t n)
{
    for (size_t gap = n / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < n; i++) {
            double value = x[i];
            size_t j = i;
            for (; j >= gap && x[j - gap] > value; j -= gap) x[j] = x[j - gap];
            x[j] = value;
        }
    }
}

/* Adds the ranks of u's edges to *ranks and returns its average precision. near: [links of u],
   passed: [links of u]. */
static double rv__embed_rank(const rv__embed *e, uint32_t u, double *near_q, uint32_t *passed,
                             double *ranks)
{
    const double *x = e->points + (size_t)u * e->width;
    uint32_t first = e->begin[u], n = e->begin[u + 1] - first, at = 0, ahead = 0;
    double precision = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t v = e->linked[first + i];
        near_q[i] = rv__embed_q(e, x, e->gaps[u], e->points + (size_t)v * e->width, e->gaps[v]);
        passed[i] = 0;
    }
    rv__embed_sort(near_q, n);
    for (uint32_t w = 0; w < e->n_nodes; w++) {
        uint32_t low = 0, high = n;
        double q;
        if (at < n && e->linked[first + at] == w) {
            at++;
            continue;
        }
        if (w == u) continue;
        q = rv__embed_q(e, x, e->gaps[u], e->points + (size_t)w * e->width, e->gaps[w]);
        while (low < high) { /* the first of near_q beyond q */
            uint32_t middle = low + (high - low) / 2;
            if (near_q[middle] > q) high = middle;
            else low = middle + 1;
        }
        if (low < n) passed[low]++;
    }
    for (uint32_t i = 0; i < n; i++) {
        ahead += passed[i];
        *ranks += (double)ahead + 1.0;
        precision += (double)(i + 1) / (double)(i + 1 + ahead);
    }
    return precision / (double)n;
}

static rv_status rv__embed_score(rv_ctx *ctx, const rv_alloc *alloc, const rv__embed *e,
                                 rv_embed_score *out)
{
    double ranks = 0.0, precision = 0.0, *near_q;
    size_t most = 0, nodes = 0, work = 0;
    uint32_t *passed;
    rv_status status = RV_OK;
    for (size_t u = 0; u < e->n_nodes; u++) {
        size_t n = e->begin[u + 1] - e->begin[u];
        if (n > most) most = n;
    }
    near_q = (double *)rv__get(alloc, most, sizeof *near_q);
    passed = (uint32_t *)rv__get(alloc, most, sizeof *passed);
    if (!near_q || !passed) status = rv__no_memory(ctx, rv__mul(most, sizeof *near_q));
    for (uint32_t u = 0; u < e->n_nodes && !status; u++) {
        if (work == 0) status = rv__poll(ctx);
        work += 1 + (e->begin[u + 1] > e->begin[u] ? e->n_nodes * (e->width + 16) : 0);
        if (work > 2000000) work = 0;
        if (status || e->begin[u + 1] == e->begin[u]) continue;
        precision += rv__embed_rank(e, u, near_q, passed, &ranks);
        nodes++;
    }
    rv__put(alloc, near_q, most, sizeof *near_q);
    rv__put(alloc, passed, most, sizeof *passed);
    if (status) return status;
    out->mean_rank = nodes ? ranks / (double)e->begin[e->n_nodes] : 1.0;
    out->map = nodes ? precision / (double)nodes : 1.0;
    return rv__ok(ctx);
}

RV_API rv_status rv_embed_evaluate(rv_ctx *ctx, const rv_embed_config *config, const float *points,
                                   const uint32_t *edges, size_t n_edges, size_t n_nodes,
                                   rv_embed_score *out)
{
    rv_alloc alloc = rv__allocator(ctx);
    void *held[RV__EMBED_BLOCKS];
    rv_embed_config only;
    rv__embed e;
    rv_status status;
    memset(&only, 0, sizeof only);
    if (config) {
        only.dim = config->dim;
        only.model = config->model;
        only.c = config->c;
    }
    only.warm = 1;
    status = rv__embed_check(ctx, config ? &only : NULL, &e);
    if (!status) status = rv__embed_check_edges(ctx, &e, edges, n_edges, n_nodes);
    if (status) return status;
    status = rv__embed_hold(ctx, &alloc, &e, held);
    if (!status) status = rv__embed_begin(ctx, &e, points);
    if (!status) status = rv__embed_score(ctx, &alloc, &e, out);
    rv__embed_release(&alloc, &e, held);
    return status;
}

#undef RV__EMBED_RIM
#undef RV__EMBED_DRAWS
#undef RV__EMBED_BLOCKS

#endif /* RV_HYPERBOLIC_TRAIN_C */
