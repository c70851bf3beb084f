#ifndef RV_ATTN_POSITION_GRAPH_C
#define RV_ATTN_POSITION_GRAPH_C
#include "attn_position.h"
#include "base.c"
#include "simd.c"
#include "csr.c"
#include "attn.c"
#include "attn_position.c"

/* Graphormer. One breadth-first search per query gives hops and, along the tree it makes, sums of
   edge terms: that of a node is its parent's and one product more. The backward walks the trees the
   other way, so that an edge gets the slopes of all pairs whose path it lies on at once. A queue
   holds the nodes of a level in lexicographic order of their paths, as rows are ascending. */

typedef struct rv__structural {
    rv_csr graph;
    size_t n, heads, limit, edge_dim;
    const rv__kernels *kernels;
    const float *edges, *b, *w;  /* w NULL: no edge term */
    float *bias;                 /* [heads, n, n] */
    uint16_t *hops;              /* [n, n] of rv_attn_hops, or NULL */
    uint32_t *scratch;           /* [lanes][5 n] */
} rv__structural;

/* One search: hop, edge (by which a node was reached) and before are set for the nodes in queue. */
typedef struct rv__tree {
    uint32_t *hop, *queue, *edge, *before;
    float *sum;
    size_t count;
} rv__tree;

static void rv__tree_grow(const rv__structural *s, size_t lane, size_t from, rv__tree *tree)
{
    const rv_csr *g = &s->graph;
    const uint32_t limit = (uint32_t)s->limit;
    tree->hop = s->scratch + lane * 5 * s->n;
    tree->queue = tree->hop + s->n;
    tree->edge = tree->queue + s->n;
    tree->before = tree->edge + s->n;
    tree->sum = (float *)(void *)(tree->before + s->n);
    for (size_t j = 0; j < s->n; j++) tree->hop[j] = limit + 1;
    tree->hop[from] = 0;
    tree->queue[0] = (uint32_t)from;
    tree->count = 1;
    for (size_t at = 0; at < tree->count; at++) {
        const uint32_t u = tree->queue[at];
        if (tree->hop[u] == limit) break;
        for (uint32_t e = g->start[u]; e < g->start[u + 1]; e++) {
            const uint32_t v = g->index[e];
            if (tree->hop[v] <= limit) continue;
            tree->hop[v] = tree->hop[u] + 1;
            tree->edge[v] = e;
            tree->before[v] = u;
            tree->queue[tree->count++] = v;
        }
    }
}

static void rv__structural_row(const rv__structural *s, const rv__tree *tree, size_t i, size_t h)
{
    float *row = s->bias + (h * s->n + i) * s->n;
    const float *b = s->b ? s->b + h * (s->limit + 2) : NULL;
    for (size_t j = 0; j < s->n; j++) row[j] = b ? b[tree->hop[j]] : 0.0f;
    tree->sum[i] = 0.0f;
    for (size_t at = 1; s->w && at < tree->count; at++) {
        const size_t v = tree->queue[at], d = tree->hop[v];
        const float *w = s->w + (h * s->limit + d - 1) * s->edge_dim;
        tree->sum[v] = tree->sum[tree->before[v]] +
                       s->kernels->dot_f32(s->edges + tree->edge[v] * s->edge_dim, w, s->edge_dim);
        row[v] += tree->sum[v] / (float)d;
    }
}

static void rv__structural_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__structural *s = (const rv__structural *)arg;
    rv__tree tree;
    for (size_t i = begin; i < end; i++) {
        rv__tree_grow(s, lane, i, &tree);
        for (size_t j = 0; s->hops && j < s->n; j++)
            s->hops[i * s->n + j] = (uint16_t)tree.hop[j];
        for (size_t h = 0; s->bias && h < s->heads; h++) rv__structural_row(s, &tree, i, h);
    }
}

static rv_status rv__structural_fill(rv_ctx *ctx, rv__structural *s)
{
    const size_t work = s->n + s->graph.start[s->n] + s->heads * s->n * (s->edge_dim + 2);
    return rv__parallel_for(ctx, s->n, 1, 1 + 1000000u / work, rv__structural_range, s);
}

static rv_status rv__structural_check_graph(rv_ctx *ctx, const rv_csr *graph)
{
    rv_status status = rv_csr_check(ctx, graph);
    if (!status && graph->rows != graph->cols)
        status = rv__fail(ctx, RV_ERR_DIM, 0,
                          "graph has %z rows and %z columns; they must be equal", graph->rows,
                          graph->cols);
    return status;
}

RV_API rv_status rv_attn_hops(rv_ctx *ctx, const rv_csr *graph, uint32_t limit, uint16_t *hops)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__structural s;
    size_t count;
    rv_status status = rv__structural_check_graph(ctx, graph);
    if (status) return status;
    if (limit < 1 || limit > 65534u)
        return rv__fail(ctx, RV_ERR_ARG, 0, "limit is %z, allowed: 1..65534", (size_t)limit);
    if (graph->rows == 0) return rv__ok(ctx);
    if (!hops) return rv__fail(ctx, RV_ERR_ARG, 0, "hops is NULL");
    memset(&s, 0, sizeof s);
    s.graph = *graph;
    s.n = graph->rows;
    s.limit = limit;
    s.hops = hops;
    count = rv__mul(rv__lanes(ctx), rv__mul(5, s.n));
    s.scratch = (uint32_t *)rv__get(&alloc, count, sizeof(uint32_t));
    if (!s.scratch) return rv__no_memory(ctx, rv__mul(count, sizeof(uint32_t)));
    status = rv__structural_fill(ctx, &s);
    rv__put(&alloc, s.scratch, count, sizeof(uint32_t));
    return status ? status : rv__ok(ctx);
}

/* ---- the mechanism ---- */

static void rv__structural_bias(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                                float *b)
{
    memcpy(b, p->table + (head * p->a.io.n_q + i) * p->a.io.n_k + j, n * sizeof *b);
}

static void rv__structural_gather(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                                  const float *ds, double *part)
{
    (void)part;
    memcpy(p->slopes + (head * p->a.io.n_q + i) * p->a.io.n_k + j, ds, n * sizeof *ds);
}

static size_t rv__structural_hops(const rv_attn_structural_config *config)
{
    return config && config->max_hops ? config->max_hops : 20;
}

RV_API size_t rv_attn_structural_params(const rv_attn_structural_config *config,
                                        const rv_attn_io *io)
{
    const size_t hops = rv__structural_hops(config);
    const size_t edge = config && config->edges ? rv__mul(hops, config->edge_dim) : 0;
    (void)io;
    return rv__mul(config ? rv__position_heads(&config->base) : 1, rv__add(hops + 2, edge));
}

RV_API rv_status rv_attn_structural_init(rv_ctx *ctx, const rv_attn_structural_config *config,
                                         const rv_attn_io *io, float *params)
{
    const size_t hops = rv__structural_hops(config), count = rv_attn_structural_params(config, io);
    const size_t heads = config ? rv__position_heads(&config->base) : 1;
    const size_t table = heads * (hops + 2);
    rv__rng rng;
    if (!params) return rv__fail(ctx, RV_ERR_ARG, 0, "params is NULL");
    rv__rng_init(&rng, rv__seed(ctx));
    rv__position_xavier(&rng, heads, hops + 2, params, table);
    if (count > table)
        rv__position_xavier(&rng, hops, config->edge_dim, params + table, count - table);
    return rv__ok(ctx);
}

static rv_status rv__structural_check(rv_ctx *ctx, const rv_attn_structural_config *c,
                                      const rv_attn_io *io)
{
    rv_status status;
    if (!c->graph) return rv__fail(ctx, RV_ERR_ARG, 0, "graph is NULL");
    status = rv__structural_check_graph(ctx, c->graph);
    if (status) return status;
    if (io->n_q != io->n_k || io->n_k != c->graph->rows)
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "n_q is %z, n_k is %z, graph has %z nodes; they must be equal", io->n_q,
                        io->n_k, c->graph->rows);
    if (c->max_hops > 65534u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "max_hops is %z, allowed: 1..65534",
                        (size_t)c->max_hops);
    if (!c->edges != !c->edge_dim || c->edge_dim > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "edge_dim is %z; it must be 1..65535 with edges, 0 without", c->edge_dim);
    if (c->d_edges && !c->edges)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "d_edges is given, edges is NULL");
    return RV_OK;
}

/* Slopes by biases made slopes by b, w and edges. sums: [params][entries * edge_dim], zeros. */
static rv_status rv__structural_back(rv_ctx *ctx, const rv__structural *s, const float *slopes,
                                     double *sums, double *d_edges, double *along)
{
    const size_t de = s->edge_dim;
    double *dw = sums + s->heads * (s->limit + 2);
    size_t left = 0;
    rv__tree tree;
    for (size_t row = 0; row < s->n * s->heads; row++) {
        const size_t i = row / s->heads, h = row % s->heads;
        const float *ds = slopes + (h * s->n + i) * s->n;
        double *db = sums + h * (s->limit + 2);
        rv_status status = rv__poll_by(ctx, &left, s->n * (2 * de + 4));
        if (status) return status;
        if (h == 0) rv__tree_grow(s, 0, i, &tree);
        for (size_t j = 0; j < s->n; j++) {
            db[tree.hop[j]] += (double)ds[j];
            along[j] = tree.hop[j] ? (double)ds[j] / (double)tree.hop[j] : 0.0;
        }
        for (size_t at = tree.count; s->edges && at-- > 1;) {
            const size_t v = tree.queue[at], to = (h * s->limit + tree.hop[v] - 1) * de;
            const float *x = s->edges + tree.edge[v] * de;
            for (size_t t = 0; t < de; t++) dw[to + t] += along[v] * (double)x[t];
            for (size_t t = 0; s->w && t < de; t++)
                d_edges[tree.edge[v] * de + t] += along[v] * (double)s->w[to + t];
            along[tree.before[v]] += along[v];
        }
    }
    return RV_OK;
}

static rv_status rv__structural_learn(rv_ctx *ctx, rv__structural *s, rv__position *p,
                                      const rv_attn_structural_config *c, const rv_attn_io *io,
                                      const rv_attn_grad *grad, double *sums)
{
    const size_t params = rv_attn_structural_params(c, io);
    const size_t features = s->graph.start[s->n] * s->edge_dim;
    rv_attn_grad inner = *grad;
    rv_status status;
    inner.d_params = NULL;
    status = rv__position_run(ctx, p, io, &inner);
    if (!status)
        status = rv__structural_back(ctx, s, p->slopes, sums, sums + params,
                                     sums + params + features);
    for (size_t x = 0; !status && grad->d_params && x < params; x++)
        grad->d_params[x] = (float)sums[x];
    for (size_t x = 0; !status && c->d_edges && x < features; x++)
        c->d_edges[x] = (float)sums[params + x];
    return status;
}

/* With everything checked: memory, biases, attention. */
static rv_status rv__structural_run(rv_ctx *ctx, rv__structural *s, rv__position *p,
                                    const rv_attn_structural_config *c, const rv_attn_io *io,
                                    const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t pairs = rv__mul(s->heads, rv__mul(s->n, s->n));
    const size_t n_scratch = rv__mul(rv__lanes(ctx), rv__mul(5, s->n));
    const size_t n_sums = rv__add(rv__add(rv_attn_structural_params(c, io), s->n),
                                  rv__mul(s->graph.start[s->n], s->edge_dim));
    double *sums = grad ? (double *)rv__get_zero(&alloc, n_sums, sizeof(double)) : NULL;
    float *slopes = grad ? (float *)rv__get_zero(&alloc, pairs, sizeof(float)) : NULL;
    rv_status status;
    s->bias = (float *)rv__get(&alloc, pairs, sizeof(float));
    s->scratch = (uint32_t *)rv__get(&alloc, n_scratch, sizeof(uint32_t));
    if (!s->bias || !s->scratch || (grad && (!slopes || !sums))) {
        status = rv__no_memory(ctx, rv__mul(pairs, (grad ? 2 : 1) * sizeof(float)));
    } else {
        status = rv__structural_fill(ctx, s);
        p->table = s->bias;
        p->slopes = slopes;
        if (!status && grad) status = rv__structural_learn(ctx, s, p, c, io, grad, sums);
        else if (!status) status = rv__position_run(ctx, p, io, NULL);
    }
    rv__put(&alloc, s->scratch, n_scratch, sizeof(uint32_t));
    rv__put(&alloc, s->bias, pairs, sizeof(float));
    rv__put(&alloc, slopes, pairs, sizeof(float));
    rv__put(&alloc, sums, n_sums, sizeof(double));
    return status ? status : rv__ok(ctx);
}

static rv_status rv__structural_attend(rv_ctx *ctx, const rv_attn_structural_config *config,
                                       const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv__structural s;
    rv__position p;
    rv_status status;
    if (!config) return rv__fail(ctx, RV_ERR_ARG, 0, "config is NULL; graph is required");
    status = rv__position_open(ctx, &config->base, io, grad, &p);
    if (!status) status = rv__structural_check(ctx, config, io);
    if (status) return status;
    memset(&s, 0, sizeof s);
    s.graph = *config->graph;
    s.n = io->n_k;
    s.heads = p.a.config.heads;
    s.limit = rv__structural_hops(config);
    s.kernels = p.a.kernels;
    s.edges = config->edges;
    s.edge_dim = config->edge_dim;
    s.b = config->params;
    if (s.b && s.edges) s.w = s.b + s.heads * (s.limit + 2);
    p.bias = rv__structural_bias;
    p.gather = rv__structural_gather;
    return rv__structural_run(ctx, &s, &p, config, io, grad);
}

RV_API rv_status rv_attn_structural(rv_ctx *ctx, const rv_attn_structural_config *config,
                                    const rv_attn_io *io)
{
    return rv__structural_attend(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_structural_backward(rv_ctx *ctx, const rv_attn_structural_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    return rv__structural_attend(ctx, config, io, grad);
}

/* ---- centrality ---- */

static rv_status rv__centrality_open(rv_ctx *ctx, const rv_csr *graph, size_t max_degree,
                                     size_t dim, int missing, uint32_t **degree)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_status status = rv__structural_check_graph(ctx, graph);
    *degree = NULL;
    if (status) return status;
    if (missing) return rv__fail(ctx, RV_ERR_ARG, 0, "an array is NULL");
    if (max_degree < 1 || max_degree > 65535u || dim < 1 || dim > 16777216u)
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "max_degree is %z, allowed: 1..65535; dim is %z, allowed: 1..2^24",
                        max_degree, dim);
    *degree = (uint32_t *)rv__get_zero(&alloc, graph->rows, sizeof(uint32_t));
    if (!*degree) return rv__no_memory(ctx, rv__mul(graph->rows, sizeof(uint32_t)));
    for (size_t e = 0; e < graph->start[graph->rows]; e++) (*degree)[graph->index[e]]++;
    return RV_OK;
}

/* Row of a table: of the degree into node i, or out of it. */
static size_t rv__centrality_at(const rv_csr *graph, const uint32_t *degree, int out, size_t i,
                                size_t most)
{
    const size_t d = out ? graph->start[i + 1] - graph->start[i] : degree[i];
    return d < most ? d : most;
}

RV_API rv_status rv_attn_centrality(rv_ctx *ctx, const rv_csr *graph, size_t max_degree,
                                    size_t dim, const float *z_in, const float *z_out,
                                    const float *h, float *out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    size_t left = 0;
    uint32_t *degree;
    rv_status status =
        rv__centrality_open(ctx, graph, max_degree, dim, !z_in || !h || !out, &degree);
    if (status) return status;
    for (size_t i = 0; i < graph->rows && !status; i++) {
        const float *in = z_in + rv__centrality_at(graph, degree, 0, i, max_degree) * dim;
        const float *away = z_out ? z_out + rv__centrality_at(graph, degree, 1, i, max_degree) * dim
                                  : NULL;
        status = rv__poll_by(ctx, &left, dim);
        for (size_t t = 0; t < dim && !status; t++) {
            const float x = h[i * dim + t] + in[t];
            out[i * dim + t] = away ? x + away[t] : x;
        }
    }
    rv__put(&alloc, degree, graph->rows, sizeof(uint32_t));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_attn_centrality_backward(rv_ctx *ctx, const rv_csr *graph, size_t max_degree,
                                             size_t dim, const float *d, float *d_in,
                                             float *d_out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t count = rv__mul(rv__add(max_degree, 1), dim);
    size_t left = 0;
    uint32_t *degree;
    double *sums;
    rv_status status = rv__centrality_open(ctx, graph, max_degree, dim, !d || !d_in, &degree);
    if (status) return status;
    sums = (double *)rv__get(&alloc, count, sizeof(double));
    if (!sums) status = rv__no_memory(ctx, rv__mul(count, sizeof(double)));
    for (int side = 0; side < (d_out ? 2 : 1) && !status; side++) {
        float *to = side ? d_out : d_in;
        memset(sums, 0, count * sizeof *sums);
        for (size_t i = 0; i < graph->rows && !status; i++) {
            double *row = sums + rv__centrality_at(graph, degree, side, i, max_degree) * dim;
            status = rv__poll_by(ctx, &left, dim);
            for (size_t t = 0; t < dim; t++) row[t] += (double)d[i * dim + t];
        }
        for (size_t x = 0; x < count && !status; x++) to[x] = (float)sums[x];
    }
    rv__put(&alloc, sums, count, sizeof(double));
    rv__put(&alloc, degree, graph->rows, sizeof(uint32_t));
    return status ? status : rv__ok(ctx);
}

#endif /* RV_ATTN_POSITION_GRAPH_C */
