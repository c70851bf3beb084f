#ifndef RV_GNN_C
#define RV_GNN_C
#include "gnn.h"
#include "base.c"
#include "simd.c"
#include "csr.h"

/* Layers over graphs, forward.

   Rows are projected by one product per matrix. A block of destinations, about 1,024 edges, then
   goes through in steps that leave its logits in the first-level cache: the list of each row's
   sources, with the self loop last; logits, less the row's largest; one exp over the block; sums;
   weighted rows. Heads of an edge lie side by side, padded to fours, so that short rows fill
   vectors.

   GAT's logits fall apart into one number per node and head: a_src . W x_j is summed over the
   projected rows. Where no projected row is needed (edges, and destinations with a matrix of their
   own), a . W e = (W^T a) . e is a product with heads rows instead of heads * dim_out.

   Self loops are entries nnz + i of all arrays over edges. */

#define RV__GNN_EDGES 1024u      /* of a block, but for longer rows                               */
#define RV__GNN_ROWS 64u         /* of a block, at most                                           */
#define RV__GNN_WORK 8000000u    /* products between two polls, per lane                          */
#define RV__GNN_SUM 256u         /* terms added up one after the other                            */
#define RV__GNN_PANEL 192u       /* rows of a product that one body computes, ...                 */
#define RV__GNN_PANEL_COLS 512u  /* ... and columns                                               */

static const rv_gnn_info rv__gnn_infos[] = {
    {"gat", "O(n dim H C + edges H C)", "Velickovic et al., 2018"},
    {"gatv2", "O(n dim H C + edges H C)", "Brody, Alon, Yahav, 2022"},
    {"edge_featured", "O(n dim H C + edges H (C + edge_dim))", "Velickovic et al., 2018"},
    {"graph_transformer", "O(n dim H C + edges H C)", "Shi et al., 2021"},
};

RV_API const rv_gnn_info *rv_gnn_kind_at(size_t i)
{
    return i < sizeof rv__gnn_infos / sizeof rv__gnn_infos[0] ? &rv__gnn_infos[i] : NULL;
}

/* Tensors in the order of the parameters. SRC also of TRANSFORMER's keys, DST of its queries. */
enum {
    RV__GNN_SRC_W,
    RV__GNN_SRC_B,
    RV__GNN_DST_W,
    RV__GNN_DST_B,
    RV__GNN_VAL_W,
    RV__GNN_VAL_B,
    RV__GNN_EDGE_W,
    RV__GNN_SKIP_W,
    RV__GNN_SKIP_B,
    RV__GNN_A_SRC,
    RV__GNN_A_DST,
    RV__GNN_A_EDGE,
    RV__GNN_GATE,
    RV__GNN_BIAS,
    RV__GNN_TENSORS
};

typedef struct rv__gnn_tensor {
    size_t at, rows, cols; /* rows 0: there is none */
} rv__gnn_tensor;

typedef struct rv__gnn {
    rv_gnn_config config;  /* with defaults filled in, as io */
    rv_gnn_io io;
    const rv__kernels *kernels;
    rv__gnn_tensor tensor[RV__GNN_TENSORS];
    size_t n_params;
    size_t n_src, n_dst, nnz, heads, c, hc, width;
    size_t ld;             /* heads, rounded up to a multiple of 4                               */
    size_t n_loops;        /* rows below it have a self loop                                     */
    size_t cap;            /* entries of a block                                                 */
    const float *x_dst;
    int gat;               /* GAT, EDGE_GAT                                                      */
    int former;            /* TRANSFORMER                                                        */
    /* Projected rows: [n_src, hc], [n_dst, hc], [n_src, hc]; some are the same array. */
    float *src, *dst, *val;
    float *edge;           /* [nnz + n_loops, hc], or [.., ld] of GAT; NULL: none                */
    float *s_src, *s_dst;  /* GAT: [n_src, ld], [n_dst, ld]                                      */
    float *u_dst, *u_edge; /* GAT: W^T a, [heads, dim_dst], [heads, edge_dim], or NULL           */
    float *skip;           /* [n_dst, width] r_i                                                 */
    float *m;              /* [n_dst, width] m_i; forward: io.out                                */
    float *spare;          /* what the dot products of gat lay down, [lanes][panel]              */
    float *lane;           /* see rv__gnn_lane_at                                                */
    size_t lane_floats;
    unsigned char *pack;   /* of products, per lane                                              */
    struct rv__gnn_back *back;
} rv__gnn;

/* Memory of a call: counted while base is NULL, handed out afterwards. */
typedef struct rv__gnn_arena {
    float *base;
    size_t used;
} rv__gnn_arena;

static float *rv__gnn_take(rv__gnn_arena *place, size_t n)
{
    const size_t at = place->used;
    place->used = rv__add(at, rv__round_up(n, 16));
    return place->base ? place->base + at : NULL;
}

/* Memory of a lane: lists of a block, its weights, a row. */
typedef struct rv__gnn_lane {
    uint32_t *ids, *eids; /* [cap] sources, entries                                              */
    float *s, *ds;        /* [cap][ld]; ds: backward only                                        */
    float *line;          /* [cap]                                                               */
    float *row, *more;    /* [hc]                                                                */
    size_t begin[RV__GNN_ROWS + 1];
} rv__gnn_lane;

static void rv__gnn_lane_at(const rv__gnn *g, size_t lane, rv__gnn_arena *place, rv__gnn_lane *l)
{
    rv__gnn_arena own;
    if (!place) {
        own.base = g->lane + lane * g->lane_floats;
        own.used = 0;
        place = &own;
    }
    l->ids = (uint32_t *)(void *)rv__gnn_take(place, g->cap);
    l->eids = (uint32_t *)(void *)rv__gnn_take(place, g->cap);
    l->s = rv__gnn_take(place, rv__mul(g->cap, g->ld));
    l->ds = g->back ? rv__gnn_take(place, rv__mul(g->cap, g->ld)) : NULL;
    l->line = rv__gnn_take(place, g->cap);
    l->row = rv__gnn_take(place, g->hc);
    l->more = rv__gnn_take(place, g->hc);
}

/* ---- settings ---- */

static void rv__gnn_tensor_set(rv__gnn *g, size_t which, size_t rows, size_t cols)
{
    g->tensor[which].at = g->n_params;
    g->tensor[which].rows = rows;
    g->tensor[which].cols = cols;
    g->n_params = rv__add(g->n_params, rv__mul(rows, cols));
}

/* Shapes; those that a kind does not have stay 0. */
static void rv__gnn_shapes(rv__gnn *g)
{
    const size_t hc = g->hc, dim = g->io.dim, dim_dst = g->io.dim_dst, edge_dim = g->io.edge_dim;
    const int former = g->former, v2 = g->config.kind == RV_GNN_GATV2;
    const int own = former || (!g->config.share && (v2 || g->io.x_dst));
    const size_t a = former ? 0 : g->heads, skip = former && !g->config.no_skip ? g->width : 0;
    rv__gnn_tensor_set(g, RV__GNN_SRC_W, hc, dim);
    rv__gnn_tensor_set(g, RV__GNN_SRC_B, g->gat ? 0 : hc, 1);
    rv__gnn_tensor_set(g, RV__GNN_DST_W, own ? hc : 0, dim_dst);
    rv__gnn_tensor_set(g, RV__GNN_DST_B, own && !g->gat ? hc : 0, 1);
    rv__gnn_tensor_set(g, RV__GNN_VAL_W, former ? hc : 0, dim);
    rv__gnn_tensor_set(g, RV__GNN_VAL_B, former ? hc : 0, 1);
    rv__gnn_tensor_set(g, RV__GNN_EDGE_W, edge_dim ? hc : 0, edge_dim);
    rv__gnn_tensor_set(g, RV__GNN_SKIP_W, skip, dim_dst);
    rv__gnn_tensor_set(g, RV__GNN_SKIP_B, skip, 1);
    rv__gnn_tensor_set(g, RV__GNN_A_SRC, a, g->c);
    rv__gnn_tensor_set(g, RV__GNN_A_DST, g->gat ? a : 0, g->c);
    rv__gnn_tensor_set(g, RV__GNN_A_EDGE, g->gat && edge_dim ? a : 0, g->c);
    rv__gnn_tensor_set(g, RV__GNN_GATE, former && g->config.beta ? 1 : 0, rv__mul(3, g->width));
    rv__gnn_tensor_set(g, RV__GNN_BIAS, former ? 0 : g->width, 1);
}

/* Defaults, and what follows from them. */
static void rv__gnn_settle(rv__gnn *g, const rv_gnn_config *config, const rv_gnn_io *io)
{
    memset(g, 0, sizeof *g);
    if (config) g->config = *config;
    g->io = *io;
    if (!g->config.heads) g->config.heads = 4;
    if (!g->config.dim_out) g->config.dim_out = io->dim;
    g->config.slope = rv__default(g->config.slope, 0.2f);
    if (!g->io.dim_dst) g->io.dim_dst = io->dim;
    g->former = g->config.kind == RV_GNN_TRANSFORMER;
    g->gat = g->config.kind == RV_GNN_GAT || g->config.kind == RV_GNN_EDGE_GAT;
    if (g->config.loops == RV_GNN_LOOPS_PAPER) {
        g->config.loops = g->former ? RV_GNN_LOOPS_OFF : RV_GNN_LOOPS_ON;
    }
    g->heads = g->config.heads;
    g->ld = rv__round_up(g->heads, 4);
    g->c = g->config.dim_out;
    g->hc = rv__mul(g->heads, g->c);
    g->width = g->config.mean ? g->c : g->hc;
    g->x_dst = io->x_dst ? io->x_dst : io->x;
    rv__gnn_shapes(g);
}

static const float *rv__gnn_param(const rv__gnn *g, size_t which)
{
    return g->tensor[which].rows ? g->io.params + g->tensor[which].at : NULL;
}

static rv_status rv__gnn_check_config(rv_ctx *ctx, const rv__gnn *g, const rv_gnn_config *given)
{
    const rv_gnn_config *c = &g->config;
    const int former = g->former;
    if (!rv_gnn_kind_at((size_t)c->kind))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kind is %d; it must be one of rv_gnn_kind, 0..3",
                        (int)c->kind);
    if (c->heads > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "heads is %z; it must be 1..65535", g->heads);
    if (c->dim_out > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dim_out is %z; it must be 1..65535", c->dim_out);
    if (!rv__finite_f32(c->slope) || c->slope < 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "slope is %f; it must be above 0 and finite",
                        (double)c->slope);
    if ((unsigned)c->loops > (unsigned)RV_GNN_LOOPS_OFF)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "loops is %d; it must be one of rv_gnn_loops, 0..2",
                        (int)c->loops);
    if ((unsigned)c->act > (unsigned)RV_GNN_ACT_ELU)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "act is %d; it must be one of rv_gnn_act, 0..1",
                        (int)c->act);
    if (former && given && rv__given(given->slope))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "slope is %f; TRANSFORMER has none",
                        (double)given->slope);
    if (former && c->share)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "share is %d; TRANSFORMER cannot share", c->share);
    if (!former && (c->beta || c->no_skip))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "beta is %d, no_skip is %d; only of TRANSFORMER",
                        c->beta, c->no_skip);
    if (c->beta && c->no_skip)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "beta is %d; with no_skip there is nothing to gate",
                        c->beta);
    return RV_OK;
}

static rv_status rv__gnn_check_dims(rv_ctx *ctx, const rv__gnn *g)
{
    const rv_gnn_io *io = &g->io;
    if (io->dim < 1 || io->dim > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z; it must be 1..65535", io->dim);
    if (io->dim_dst > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim_dst is %z; it must be 1..65535", io->dim_dst);
    if (io->edge_dim > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "edge_dim is %z; it must be up to 65535", io->edge_dim);
    if (!io->x_dst && io->dim_dst != io->dim)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim_dst is %z without x_dst; it must be dim (%z)",
                        io->dim_dst, io->dim);
    if (g->config.share && io->dim_dst != io->dim)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim_dst is %z; to share W it must be dim (%z)",
                        io->dim_dst, io->dim);
    if (g->config.kind == RV_GNN_GAT && io->edge_dim)
        return rv__fail(ctx, RV_ERR_DIM, 0, "edge_dim is %z; GAT has no edges, EDGE_GAT does",
                        io->edge_dim);
    if (g->config.kind == RV_GNN_EDGE_GAT && !io->edge_dim)
        return rv__fail(ctx, RV_ERR_DIM, 0, "edge_dim is 0; EDGE_GAT needs 1..65535");
    if (g->n_params >= SIZE_MAX / 8)
        return rv__fail(ctx, RV_ERR_DIM, 0, "heads * dim_out is %z; that is no size", g->hc);
    return RV_OK;
}

/* Starts and columns, and the longest row with its loop. */
static rv_status rv__gnn_check_graph(rv_ctx *ctx, rv__gnn *g, size_t *longest)
{
    const rv_csr *a = g->io.graph;
    size_t left = 0;
    *longest = 1;
    if (a->start[0] != 0)
        return rv__fail(ctx, RV_ERR_ARG, 0, "graph start[0] is %z; it must be 0",
                        (size_t)a->start[0]);
    for (size_t i = 0; i < a->rows; i++) {
        const size_t begin = a->start[i], end = a->start[i + 1];
        rv_status status;
        if (end < begin)
            return rv__fail(ctx, RV_ERR_ARG, i, "graph start falls after row %z", i);
        status = rv__poll_by(ctx, &left, end - begin + 1);
        if (status) return status;
        if (end > begin && !a->index) return rv__fail(ctx, RV_ERR_ARG, 0, "graph index is NULL");
        for (size_t e = begin; e < end; e++) {
            if (a->index[e] >= a->cols)
                return rv__fail(ctx, RV_ERR_ARG, e, "graph index[%z] is %z; it must be below %z", e,
                                (size_t)a->index[e], a->cols);
        }
        if (end - begin + 1 > *longest) *longest = end - begin + 1;
    }
    g->nnz = a->rows ? a->start[a->rows] : 0;
    return RV_OK;
}

static rv_status rv__gnn_check(rv_ctx *ctx, rv__gnn *g, const rv_gnn_config *config,
                               const rv_gnn_io *io)
{
    rv_status status;
    size_t longest;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io is NULL");
    rv__gnn_settle(g, config, io);
    status = rv__gnn_check_config(ctx, g, config);
    if (!status) status = rv__gnn_check_dims(ctx, g);
    if (status) return status;
    if (!io->graph || !io->graph->start)
        return rv__fail(ctx, RV_ERR_ARG, 0, "graph or its start is NULL");
    g->n_src = io->graph->cols;
    g->n_dst = io->graph->rows;
    if (g->n_src >= UINT32_MAX || g->n_dst >= UINT32_MAX)
        return rv__fail(ctx, RV_ERR_DIM, 0, "graph is %z rows, %z columns; they must be below 2^32",
                        g->n_dst, g->n_src);
    if (!io->x_dst && g->n_dst > g->n_src)
        return rv__fail(ctx, RV_ERR_DIM, 0, "graph has %z rows and %z columns; more need x_dst",
                        g->n_dst, g->n_src);
    status = rv__gnn_check_graph(ctx, g, &longest);
    if (status) return status;
    if (g->config.loops == RV_GNN_LOOPS_ON) g->n_loops = g->n_dst < g->n_src ? g->n_dst : g->n_src;
    if (rv__add(g->nnz, g->n_loops) >= UINT32_MAX)
        return rv__fail(ctx, RV_ERR_DIM, 0, "graph has %z entries; that is too many", g->nnz);
    if ((g->n_src && !io->x) || !io->params)
        return rv__fail(ctx, RV_ERR_ARG, 0, "x or params is NULL");
    if (io->edge_dim && g->nnz && !io->edges)
        return rv__fail(ctx, RV_ERR_ARG, 0, "edges is NULL with edge_dim %z", io->edge_dim);
    g->cap = longest < RV__GNN_EDGES ? RV__GNN_EDGES : longest;
    if (g->cap > g->nnz + g->n_loops + 1) g->cap = g->nnz + g->n_loops + 1;
    g->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    return RV_OK;
}

RV_API size_t rv_gnn_params(const rv_gnn_config *config, const rv_gnn_io *io)
{
    rv__gnn g;
    if (!io) return 0;
    rv__gnn_settle(&g, config, io);
    return g.n_params;
}

RV_API rv_status rv_gnn_init(rv_ctx *ctx, const rv_gnn_config *config, const rv_gnn_io *io,
                             float *params)
{
    rv__gnn g;
    rv__rng rng;
    rv_status status;
    size_t left = 0;
    if (!io || !params) return rv__fail(ctx, RV_ERR_ARG, 0, "io or params is NULL");
    rv__gnn_settle(&g, config, io);
    status = rv__gnn_check_config(ctx, &g, config);
    if (!status) status = rv__gnn_check_dims(ctx, &g);
    if (status) return status;
    rv__rng_init(&rng, rv__seed(ctx));
    for (size_t t = 0; t < RV__GNN_TENSORS; t++) {
        const rv__gnn_tensor *tensor = &g.tensor[t];
        const int bias = t == RV__GNN_SRC_B || t == RV__GNN_DST_B || t == RV__GNN_VAL_B ||
                         t == RV__GNN_SKIP_B || t == RV__GNN_BIAS;
        const float limit = (float)sqrt(6.0 / ((double)tensor->rows + (double)tensor->cols));
        for (size_t i = 0; i < tensor->rows * tensor->cols; i++) {
            status = rv__poll_by(ctx, &left, 4);
            if (status) return status;
            params[tensor->at + i] = bias ? 0.0f : limit * (2.0f * rv__rng_f32(&rng) - 1.0f);
        }
    }
    return rv__ok(ctx);
}

/* ---- products ---- */

typedef struct rv__gnn_product {
    const rv__gnn *g;
    const float *a, *b, *bias;
    size_t lda, ldb, ldc, m, n, k, blocks;
    float factor;
    int accumulate;
    float *c;
} rv__gnn_product;

static void rv__gnn_gemm_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gnn_product *p = (const rv__gnn_product *)arg;
    void *pack = p->g->pack + lane * rv__gram_f32_scratch();
    for (size_t block = begin; block < end; block++) {
        const size_t i = block / p->blocks * RV__GNN_PANEL;
        const size_t j = block % p->blocks * RV__GNN_PANEL_COLS;
        const size_t rows = p->m - i < RV__GNN_PANEL ? p->m - i : RV__GNN_PANEL;
        const size_t cols = p->n - j < RV__GNN_PANEL_COLS ? p->n - j : RV__GNN_PANEL_COLS;
        float *c = p->c + i * p->ldc + j;
        p->g->kernels->gemm_f32(p->a + i * p->lda, p->lda, rows, p->b + j * p->ldb, p->ldb, cols,
                                p->k, p->accumulate, c, p->ldc, pack);
        for (size_t r = 0; r < rows; r++) {
            if (p->bias) p->g->kernels->add_f32(p->bias + j, c + r * p->ldc, cols);
            if (p->factor != 1.0f) p->g->kernels->scale_f32(p->factor, c + r * p->ldc, cols);
        }
    }
}

/* c[m, n] = factor * (a[m, k] b[n, k]^T + bias[n] if any, + c if accumulate). All rows packed. */
static rv_status rv__gnn_gemm(rv_ctx *ctx, const rv__gnn *g, const float *a, size_t m,
                              const float *b, size_t n, size_t k, const float *bias, float factor,
                              int accumulate, float *c)
{
    rv__gnn_product p;
    const size_t cols = n < RV__GNN_PANEL_COLS ? n : RV__GNN_PANEL_COLS;
    p.g = g;
    p.a = a;
    p.b = b;
    p.bias = bias;
    p.lda = p.ldb = k;
    p.ldc = n;
    p.m = m;
    p.n = n;
    p.k = k;
    p.factor = factor;
    p.accumulate = accumulate;
    p.c = c;
    p.blocks = (n + RV__GNN_PANEL_COLS - 1) / RV__GNN_PANEL_COLS;
    return rv__parallel_for(ctx, (m + RV__GNN_PANEL - 1) / RV__GNN_PANEL * p.blocks, 1,
                            1 + 4 * RV__GNN_WORK / (RV__GNN_PANEL * (cols + 16) * (k + 4)),
                            rv__gnn_gemm_range, &p);
}

/* s[i][h] = x_i . u_h; of x_i columns h * step .. + dim - 1. */
typedef struct rv__gnn_dots {
    const rv__gnn *g;
    const float *x, *u;
    size_t ld, step, dim, n;
    float *s;
} rv__gnn_dots;

static void rv__gnn_dots_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gnn_dots *d = (const rv__gnn_dots *)arg;
    float *line = d->g->spare + lane * RV__GNN_PANEL;
    const size_t heads = d->g->heads, ld = d->g->ld;
    for (size_t block = begin; block < end; block++) {
        const size_t first = block * RV__GNN_PANEL;
        const size_t n = d->n - first < RV__GNN_PANEL ? d->n - first : RV__GNN_PANEL;
        const float *x = d->x + first * d->ld;
        float *s = d->s + first * ld;
        for (size_t h = 0; h < heads; h++) {
            d->g->kernels->scan_dot_f32(d->u + h * d->dim,
                                        (const unsigned char *)(x + h * d->step),
                                        d->ld * sizeof(float), NULL, n, d->dim, line);
            for (size_t i = 0; i < n; i++) s[i * ld + h] = line[i];
        }
        for (size_t h = heads; h < ld; h++)
            for (size_t i = 0; i < n; i++) s[i * ld + h] = 0.0f;
    }
}

static rv_status rv__gnn_dot(rv_ctx *ctx, const rv__gnn *g, const float *x, size_t n, size_t ld,
                             size_t step, size_t dim, const float *u, float *s)
{
    rv__gnn_dots d;
    d.g = g;
    d.x = x;
    d.u = u;
    d.ld = ld;
    d.step = step;
    d.dim = dim;
    d.n = n;
    d.s = s;
    return rv__parallel_for(ctx, (n + RV__GNN_PANEL - 1) / RV__GNN_PANEL, 1,
                            1 + RV__GNN_WORK / (RV__GNN_PANEL * g->heads * (dim + 16)),
                            rv__gnn_dots_range, &d);
}

/* u[h] = W_h^T a_h: [heads, dim]. */
static rv_status rv__gnn_fold(rv_ctx *ctx, const rv__gnn *g, const float *w, const float *a,
                              size_t dim, float *u)
{
    size_t left = 0;
    memset(u, 0, g->heads * dim * sizeof *u);
    for (size_t i = 0; i < g->hc; i++) {
        rv_status status = rv__poll_by(ctx, &left, dim);
        if (status) return status;
        g->kernels->axpy_f32(a[i], w + i * dim, u + i / g->c * dim, dim);
    }
    return RV_OK;
}

/* ---- rows ---- */

/* Sources and entries of a row, the self loop last. */
static size_t rv__gnn_list(const rv__gnn *g, size_t row, uint32_t *ids, uint32_t *eids)
{
    const rv_csr *a = g->io.graph;
    const int loop = row < g->n_loops;
    const uint32_t skip = loop ? (uint32_t)row : UINT32_MAX; /* no source has that number */
    size_t n = 0;
    for (size_t e = a->start[row]; e < a->start[row + 1]; e++) {
        ids[n] = a->index[e];
        eids[n] = (uint32_t)e;
        n += (size_t)(a->index[e] != skip);
    }
    if (loop) {
        ids[n] = (uint32_t)row;
        eids[n++] = (uint32_t)(g->nnz + row);
    }
    return n;
}

/* Edge rows of self loops: means over the row's other entries. */
typedef struct rv__gnn_means {
    const rv__gnn *g;
    size_t width;
} rv__gnn_means;

static void rv__gnn_mean_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gnn_means *means = (const rv__gnn_means *)arg;
    const rv__gnn *g = means->g;
    const rv_csr *a = g->io.graph;
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        float *mean = g->edge + (g->nnz + i) * means->width;
        size_t n = 0;
        memset(mean, 0, means->width * sizeof *mean);
        for (size_t e = a->start[i]; e < a->start[i + 1]; e++) {
            if (a->index[e] == i) continue;
            g->kernels->add_f32(g->edge + e * means->width, mean, means->width);
            n++;
        }
        if (n > 1) g->kernels->scale_f32(1.0f / (float)n, mean, means->width);
    }
}

/* Dot products of `one` with the row's sources or entries, for one head: s[e][h], + s if add. */
static void rv__gnn_dot_row(const rv__gnn *g, const float *one, const float *rows,
                            const uint32_t *ids, size_t n, size_t h, int add, float *line, float *s)
{
    const size_t ld = g->ld;
    g->kernels->scan_dot_f32(one + h * g->c, (const unsigned char *)(rows + h * g->c),
                             g->hc * sizeof(float), ids, n, g->c, line);
    for (size_t e = 0; e < n; e++) s[e * ld + h] = add ? s[e * ld + h] + line[e] : line[e];
}

/* Four heads at a time through copies, which compilers turn into vector instructions. */

/* s[e][h] = leaky(src[ids[e]][h] + dst[h], + s[e][h] if add) less the largest of the head. src
   NULL: s holds the logits. n > 0. */
static void rv__gnn_logits(const float *src, const uint32_t *ids, size_t n, const float *dst,
                           float slope, size_t ld, int add, float *s)
{
    for (size_t h = 0; h < ld; h += 4) {
        float top[4];
        for (size_t i = 0; i < 4; i++) top[i] = -rv__infinity();
        for (size_t e = 0; e < n; e++) {
            float *line = s + e * ld + h, z[4], above[4];
            if (src) {
                const float *from = src + ids[e] * ld + h;
                for (size_t i = 0; i < 4; i++) z[i] = from[i] + dst[h + i];
                for (size_t i = 0; add && i < 4; i++) z[i] += line[i];
                /* leaky without a branch, and NaN stays */
                for (size_t i = 0; i < 4; i++) above[i] = z[i] > 0.0f ? z[i] : 0.0f;
                for (size_t i = 0; i < 4; i++) z[i] = above[i] + slope * (z[i] - above[i]);
                for (size_t i = 0; i < 4; i++) line[i] = z[i];
            } else {
                for (size_t i = 0; i < 4; i++) z[i] = line[i];
            }
            for (size_t i = 0; i < 4; i++) top[i] = z[i] > top[i] ? z[i] : top[i];
        }
        for (size_t e = 0; e < n; e++) {
            float z[4];
            for (size_t i = 0; i < 4; i++) z[i] = s[e * ld + h + i] - top[i];
            for (size_t i = 0; i < 4; i++) s[e * ld + h + i] = z[i];
        }
    }
}

/* Divides each head's weights by their sum, which is added up in blocks: rows may be long. */
static void rv__gnn_divide(float *w, size_t n, size_t ld)
{
    for (size_t h = 0; h < ld; h += 4) {
        float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (size_t first = 0; first < n; first += RV__GNN_SUM) {
            const size_t end = n - first < RV__GNN_SUM ? n : first + RV__GNN_SUM;
            float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            for (size_t e = first; e < end; e++)
                for (size_t i = 0; i < 4; i++) sum[i] += w[e * ld + h + i];
            for (size_t i = 0; i < 4; i++) total[i] += sum[i];
        }
        for (size_t i = 0; i < 4; i++) total[i] = 1.0f / total[i];
        for (size_t e = 0; e < n; e++) {
            float z[4];
            for (size_t i = 0; i < 4; i++) z[i] = w[e * ld + h + i] * total[i];
            for (size_t i = 0; i < 4; i++) w[e * ld + h + i] = z[i];
        }
    }
}

/* Logits of a row less their largest, from l->begin on. */
static void rv__gnn_score(const rv__gnn *g, const rv__gnn_lane *l, size_t row, size_t at, size_t n)
{
    const uint32_t *ids = l->ids + at, *eids = l->eids + at;
    const size_t ld = g->ld;
    float *s = l->s + at * ld;
    if (g->gat) {
        for (size_t e = 0; g->edge && e < n; e++)
            memcpy(s + e * ld, g->edge + eids[e] * ld, ld * sizeof *s);
        rv__gnn_logits(g->s_src, ids, n, g->s_dst + row * ld, g->config.slope, ld,
                       g->edge != NULL, s);
        return;
    }
    for (size_t e = 0; g->heads < ld && e < n; e++)
        for (size_t h = g->heads; h < ld; h++) s[e * ld + h] = 0.0f;
    if (g->config.kind == RV_GNN_GATV2) {
        g->kernels->gnn_score(g->src, ids, n, g->dst + row * g->hc, rv__gnn_param(g, RV__GNN_A_SRC),
                              g->config.slope, g->heads, g->c, g->edge, eids, s, ld);
    }
    for (size_t h = 0; g->former && h < g->heads; h++) {
        const float *q = g->dst + row * g->hc;
        rv__gnn_dot_row(g, q, g->src, ids, n, h, 0, l->line, s);
        if (g->edge) rv__gnn_dot_row(g, q, g->edge, eids, n, h, 1, l->line, s);
    }
    rv__gnn_logits(NULL, NULL, n, NULL, 0.0f, ld, 0, s);
}

/* Lists and weights of rows first .. until cap entries or RV__GNN_ROWS are full; returns the row
   after the last. */
static size_t rv__gnn_block(const rv__gnn *g, rv__gnn_lane *l, size_t first, size_t end)
{
    const uint32_t *start = g->io.graph->start;
    size_t at = 0, row = first;
    for (; row < end && row - first < RV__GNN_ROWS; row++) {
        size_t n;
        if (at + (size_t)(start[row + 1] - start[row]) + 1 > g->cap && row > first) break;
        l->begin[row - first] = at;
        n = rv__gnn_list(g, row, l->ids + at, l->eids + at);
        if (n) rv__gnn_score(g, l, row, at, n);
        at += n;
    }
    l->begin[row - first] = at;
    g->kernels->exp_f32(l->s, l->s, at * g->ld);
    for (size_t i = 0; i < row - first; i++) {
        const size_t n = l->begin[i + 1] - l->begin[i];
        if (n) rv__gnn_divide(l->s + l->begin[i] * g->ld, n, g->ld);
    }
    return row;
}

/* out += weighted rows, in blocks: rows may be long. */
static void rv__gnn_mix(const rv__gnn *g, const float *w, const uint32_t *ids, size_t n,
                        const float *v, float *out)
{
    for (size_t e = 0; e < n; e += RV__GNN_SUM) {
        const size_t some = n - e < RV__GNN_SUM ? n - e : RV__GNN_SUM;
        g->kernels->gnn_mix(w + e * g->ld, g->ld, ids + e, some, v, g->heads, g->c, out);
    }
}

/* m of a row whose list and weights begin at `at`. */
static void rv__gnn_gather(const rv__gnn *g, const rv__gnn_lane *l, size_t row, size_t at, size_t n)
{
    float *out = g->m + row * g->width, *sum = g->config.mean ? l->row : out;
    memset(sum, 0, g->hc * sizeof *sum);
    rv__gnn_mix(g, l->s + at * g->ld, l->ids + at, n, g->val, sum);
    if (g->edge && g->former)
        rv__gnn_mix(g, l->s + at * g->ld, l->eids + at, n, g->edge, sum);
    if (!g->config.mean) return;
    for (size_t h = 1; h < g->heads; h++) g->kernels->add_f32(sum + h * g->c, sum, g->c);
    for (size_t c = 0; c < g->c; c++) out[c] = sum[c] / (float)g->heads;
}

static void rv__gnn_lay_down(const rv__gnn *g, const rv__gnn_lane *l, size_t row, size_t at,
                             size_t n)
{
    const rv_csr *a = g->io.graph;
    const int loop = row < g->n_loops;
    for (size_t h = 0; h < g->heads; h++) {
        const float *s = l->s + at * g->ld + h;
        float *weights = g->io.weights ? g->io.weights + h * g->nnz : NULL;
        for (size_t e = a->start[row]; weights && e < a->start[row + 1]; e++) {
            if (loop && a->index[e] == row) {
                weights[e] = 0.0f;
            } else {
                weights[e] = *s;
                s += g->ld;
            }
        }
        if (g->io.loops)
            g->io.loops[h * g->n_dst + row] = loop ? l->s[(at + n - 1) * g->ld + h] : 0.0f;
    }
}

/* x or, below 0, exp(x) - 1: by its series near 0, where the difference would cancel. */
static void rv__gnn_elu(const rv__gnn *g, float *x, size_t n, float *space)
{
    for (size_t i = 0; i < n; i++) space[i] = x[i] < 0.0f ? x[i] : 0.0f;
    g->kernels->exp_f32(space, space, n);
    for (size_t i = 0; i < n; i++) {
        const float z = x[i];
        float p = z * (1.0f / 720.0f) + 1.0f / 120.0f;
        p = ((p * z + 1.0f / 24.0f) * z + 1.0f / 6.0f) * z + 0.5f;
        p = p * z * z + z;
        p = z < -0.25f ? space[i] - 1.0f : p;
        x[i] = z < 0.0f ? p : z;
    }
}

/* The gate of a row, and where it puts the row. */
static float rv__gnn_gate(const rv__gnn *g, size_t row, const float *m)
{
    const float *w = rv__gnn_param(g, RV__GNN_GATE), *r = g->skip + row * g->width;
    const size_t n = g->width;
    double z = (double)g->kernels->dot_f32(w, m, n) + (double)g->kernels->dot_f32(w + n, r, n) +
               (double)g->kernels->dot_f32(w + 2 * n, m, n) -
               (double)g->kernels->dot_f32(w + 2 * n, r, n);
    float gate = (float)z;
    g->kernels->sigmoid_f32(&gate, &gate, 1);
    return gate;
}

/* From m_i to what act is applied to. */
static void rv__gnn_join(const rv__gnn *g, size_t row, const float *m, float *out)
{
    const float *bias = rv__gnn_param(g, RV__GNN_BIAS);
    const float *r = g->skip ? g->skip + row * g->width : NULL;
    const float gate = g->config.beta ? rv__gnn_gate(g, row, m) : 0.0f;
    if (out != m) memcpy(out, m, g->width * sizeof *out);
    if (bias) g->kernels->add_f32(bias, out, g->width);
    else if (r && !g->config.beta) g->kernels->add_f32(r, out, g->width);
    for (size_t i = 0; g->config.beta && i < g->width; i++) out[i] += gate * (r[i] - out[i]);
}

static void rv__gnn_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gnn *g = (const rv__gnn *)arg;
    rv__gnn_lane l;
    rv__gnn_lane_at(g, lane, NULL, &l);
    for (size_t first = begin, next; first < end; first = next) {
        next = rv__gnn_block(g, &l, first, end);
        for (size_t row = first; row < next; row++) {
            const size_t at = l.begin[row - first], n = l.begin[row - first + 1] - at;
            float *out = g->m + row * g->width;
            rv__gnn_gather(g, &l, row, at, n);
            if (g->io.weights || g->io.loops) rv__gnn_lay_down(g, &l, row, at, n);
            rv__gnn_join(g, row, out, out);
            if (g->config.act == RV_GNN_ACT_ELU) rv__gnn_elu(g, out, g->width, l.more);
        }
    }
}

/* Rows between two polls. */
static size_t rv__gnn_section(const rv__gnn *g, size_t edges, size_t rows)
{
    const size_t per_row = (edges / (rows ? rows : 1) + 1) * (2 * g->hc + 16 * g->heads);
    return 1 + RV__GNN_WORK / per_row;
}

/* ---- a call ---- */

/* Where everything lies. */
static void rv__gnn_place(rv__gnn *g, size_t lanes, rv__gnn_arena *place)
{
    const size_t rows = g->nnz + g->n_loops, n_src = rv__mul(g->n_src, g->hc);
    const size_t n_dst = rv__mul(g->n_dst, g->hc);
    const int shared = !g->tensor[RV__GNN_DST_W].rows && !g->io.x_dst;
    rv__gnn_lane lane;
    rv__gnn_arena none = {NULL, 0};
    g->src = g->val = g->dst = rv__gnn_take(place, n_src);
    if (g->tensor[RV__GNN_VAL_W].rows) g->val = rv__gnn_take(place, n_src);
    if (g->gat) {
        g->s_src = rv__gnn_take(place, rv__mul(g->n_src, g->ld));
        g->s_dst = rv__gnn_take(place, rv__mul(g->n_dst, g->ld));
        if (!shared) g->u_dst = rv__gnn_take(place, rv__mul(g->heads, g->io.dim_dst));
        if (g->io.edge_dim) g->u_edge = rv__gnn_take(place, rv__mul(g->heads, g->io.edge_dim));
    } else if (!shared) {
        g->dst = rv__gnn_take(place, n_dst);
    }
    if (g->io.edge_dim) g->edge = rv__gnn_take(place, rv__mul(rows, g->gat ? g->ld : g->hc));
    if (g->tensor[RV__GNN_SKIP_W].rows) g->skip = rv__gnn_take(place, rv__mul(g->n_dst, g->width));
    g->m = g->back ? rv__gnn_take(place, rv__mul(g->n_dst, g->width)) : g->io.out;
    g->spare = rv__gnn_take(place, rv__mul(lanes, RV__GNN_PANEL));
    g->pack = (unsigned char *)rv__gnn_take(place,
                                            rv__mul(lanes, rv__gram_f32_scratch() / sizeof(float)));
    rv__gnn_lane_at(g, 0, &none, &lane);
    g->lane_floats = none.used;
    g->lane = rv__gnn_take(place, rv__mul(lanes, g->lane_floats));
}

/* Everything before the walk over the rows. */
static rv_status rv__gnn_project(rv_ctx *ctx, const rv__gnn *g)
{
    const float *w = rv__gnn_param(g, RV__GNN_SRC_W), *w_dst = rv__gnn_param(g, RV__GNN_DST_W);
    const float *a_dst = rv__gnn_param(g, RV__GNN_A_DST);
    const float *b_dst = rv__gnn_param(g, w_dst ? RV__GNN_DST_B : RV__GNN_SRC_B);
    const size_t dim = g->io.dim, hc = g->hc;
    rv_status status = rv__gnn_gemm(ctx, g, g->io.x, g->n_src, w, hc, dim,
                                    rv__gnn_param(g, RV__GNN_SRC_B), 1.0f, 0, g->src);
    if (!status && g->val != g->src) {
        status = rv__gnn_gemm(ctx, g, g->io.x, g->n_src, rv__gnn_param(g, RV__GNN_VAL_W), hc, dim,
                              rv__gnn_param(g, RV__GNN_VAL_B), 1.0f, 0, g->val);
    }
    if (!w_dst) w_dst = w;
    if (!status && g->gat) {
        status = rv__gnn_dot(ctx, g, g->src, g->n_src, hc, g->c, g->c,
                             rv__gnn_param(g, RV__GNN_A_SRC), g->s_src);
        if (!status && g->u_dst) {
            status = rv__gnn_fold(ctx, g, w_dst, a_dst, g->io.dim_dst, g->u_dst);
            if (!status)
                status = rv__gnn_dot(ctx, g, g->x_dst, g->n_dst, g->io.dim_dst, 0, g->io.dim_dst,
                                     g->u_dst, g->s_dst);
        } else if (!status) {
            status = rv__gnn_dot(ctx, g, g->src, g->n_dst, hc, g->c, g->c, a_dst, g->s_dst);
        }
    } else if (!status && g->dst != g->src) {
        const float factor = g->former ? (float)(1.0 / sqrt((double)g->c)) : 1.0f;
        status = rv__gnn_gemm(ctx, g, g->x_dst, g->n_dst, w_dst, hc, g->io.dim_dst, b_dst, factor,
                              0, g->dst);
    }
    if (!status && g->skip) {
        status = rv__gnn_gemm(ctx, g, g->x_dst, g->n_dst, rv__gnn_param(g, RV__GNN_SKIP_W),
                              g->width, g->io.dim_dst, rv__gnn_param(g, RV__GNN_SKIP_B), 1.0f,
                              0, g->skip);
    }
    return status;
}

static rv_status rv__gnn_project_edges(rv_ctx *ctx, const rv__gnn *g)
{
    const float *w = rv__gnn_param(g, RV__GNN_EDGE_W);
    const size_t dim = g->io.edge_dim;
    rv__gnn_means means;
    rv_status status;
    means.g = g;
    means.width = g->gat ? g->ld : g->hc;
    if (g->gat) {
        status = rv__gnn_fold(ctx, g, w, rv__gnn_param(g, RV__GNN_A_EDGE), dim, g->u_edge);
        if (!status)
            status = rv__gnn_dot(ctx, g, g->io.edges, g->nnz, dim, 0, dim, g->u_edge, g->edge);
    } else {
        status = rv__gnn_gemm(ctx, g, g->io.edges, g->nnz, w, g->hc, dim, NULL, 1.0f, 0,
                              g->edge);
    }
    if (!status)
        status = rv__parallel_for(ctx, g->n_loops, 16, rv__gnn_section(g, g->nnz, g->n_dst) + 15,
                                  rv__gnn_mean_range, &means);
    return status;
}

RV_API rv_status rv_gnn_run(rv_ctx *ctx, const rv_gnn_config *config, const rv_gnn_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__gnn_arena place = {NULL, 0};
    size_t floats;
    rv__gnn g;
    rv_status status = rv__gnn_check(ctx, &g, config, io);
    if (status) return status;
    if (g.n_dst && !io->out) return rv__fail(ctx, RV_ERR_ARG, 0, "out is NULL");
    if (g.n_dst == 0) return rv__ok(ctx);
    rv__gnn_place(&g, rv__lanes(ctx), &place);
    floats = place.used;
    place.base = (float *)rv__get(&alloc, floats, sizeof(float));
    if (!place.base) return rv__no_memory(ctx, rv__mul(floats, sizeof(float)));
    place.used = 0;
    rv__gnn_place(&g, rv__lanes(ctx), &place);
    status = rv__gnn_project(ctx, &g);
    if (!status && g.edge) status = rv__gnn_project_edges(ctx, &g);
    if (!status)
        status = rv__parallel_for(ctx, g.n_dst, RV__GNN_ROWS, rv__gnn_section(&g, g.nnz, g.n_dst),
                                  rv__gnn_range, &g);
    rv__put(&alloc, place.base, floats, sizeof(float));
    return status ? status : rv__ok(ctx);
}

#endif /* RV_GNN_C */
