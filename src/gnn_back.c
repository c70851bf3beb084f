#ifndef RV_GNN_BACK_C
#define RV_GNN_BACK_C
#include "gnn.h"
#include "base.c"
#include "simd.c"
#include "gnn.c"

/* Layers over graphs, backward.

   Forward once more, then two walks. Over destinations: from d_out to the slope by m_i, by the
   weights, d_w_ij = d_m_i . v_j, and by the logits, d_s_ij = w_ij (d_w_ij - sum over k of
   w_ik d_w_ik), and what they give to the destination and the edge. Over sources, along the turned
   graph: what all their edges give to them. No two bodies write the same row and every sum has one
   order: the bits do not depend on threads. Then the projections, whose parameters' slopes are
   products over all rows, 1,024 rows at a time. */

#define RV__GNN_TURN 1024u /* rows of a product over rows */

typedef struct rv__gnn_back {
    const rv_gnn_grad *grad;
    float *d_o;            /* [n_dst, hc] by the heads' sums                                     */
    float *d_pre;          /* [n_dst, width] by what act is applied to; TRANSFORMER: by r_i      */
    float *gate;           /* [n_dst] by the gate's logit                                        */
    float *alpha, *ds;     /* [nnz + n_loops, ld] weights, slopes by logits                      */
    float *d_edge;         /* [nnz + n_loops, hc], of GAT: ds                                    */
    float *part;           /* GATV2: [n_dst, hc] what rows give to a                             */
    float *d_src, *d_dst, *d_val;
    float *ds_src, *ds_dst; /* GAT: [n_src, ld], [n_dst, ld]                                     */
    uint32_t *start, *dst_of, *eid; /* the turned graph: [n_src + 1], [entries]                  */
    float *turned;
    double *sums;
} rv__gnn_back;

/* ---- over destinations ---- */

/* From d_out to the slopes by r_i or by act's argument, and by m_i, which goes to l->row. */
static void rv__gnn_back_join(const rv__gnn *g, const rv__gnn_lane *l, size_t row)
{
    const rv__gnn_back *b = g->back;
    const size_t n = g->width;
    const float *m = g->m + row * n, *d_out = b->grad->d_out + row * n;
    float *d_pre = b->d_pre + row * n;
    rv__gnn_join(g, row, m, l->more);
    memcpy(d_pre, d_out, n * sizeof *d_pre);
    if (g->config.act == RV_GNN_ACT_ELU) {
        for (size_t i = 0; i < n; i++) l->row[i] = l->more[i] < 0.0f ? l->more[i] : 0.0f;
        g->kernels->exp_f32(l->row, l->row, n);
        for (size_t i = 0; i < n; i++) d_pre[i] *= l->row[i];
    }
    memcpy(l->row, d_pre, n * sizeof *d_pre);
    if (g->config.beta) {
        const float *w = rv__gnn_param(g, RV__GNN_GATE), *r = g->skip + row * n;
        const float gate = rv__gnn_gate(g, row, m);
        double sum = 0.0;
        float dz;
        for (size_t i = 0; i < n; i++) sum += (double)d_pre[i] * ((double)r[i] - (double)m[i]);
        dz = (float)(sum * (double)gate * (1.0 - (double)gate));
        b->gate[row] = dz;
        for (size_t i = 0; i < n; i++) {
            l->row[i] = d_pre[i] * (1.0f - gate) + dz * (w[i] + w[2 * n + i]);
            d_pre[i] = d_pre[i] * gate + dz * (w[n + i] - w[2 * n + i]);
        }
    }
}

/* Slopes by the weights, then by the logits after the kind's own function. */
static void rv__gnn_back_softmax(const rv__gnn *g, const rv__gnn_lane *l, size_t row, size_t at,
                                 size_t n)
{
    const size_t ld = g->ld;
    const float *d_o = g->back->d_o + row * g->hc, *w = l->s + at * ld;
    float *ds = l->ds + at * ld;
    for (size_t h = g->heads; h < ld; h++)
        for (size_t e = 0; e < n; e++) ds[e * ld + h] = 0.0f;
    for (size_t h = 0; h < g->heads; h++) {
        double sum = 0.0;
        rv__gnn_dot_row(g, d_o, g->val, l->ids + at, n, h, 0, l->line, ds);
        if (g->edge && g->former)
            rv__gnn_dot_row(g, d_o, g->edge, l->eids + at, n, h, 1, l->line, ds);
        for (size_t e = 0; e < n; e++)
            sum += (double)w[e * ld + h] * (double)ds[e * ld + h];
        for (size_t e = 0; e < n; e++)
            ds[e * ld + h] = (float)((double)w[e * ld + h] * ((double)ds[e * ld + h] - sum));
    }
}

static void rv__gnn_back_gat(const rv__gnn *g, const rv__gnn_lane *l, size_t row, size_t at,
                             size_t n)
{
    const size_t ld = g->ld;
    const float *dst = g->s_dst + row * ld;
    float *ds = l->ds + at * ld;
    for (size_t h = 0; h < g->heads; h++) {
        double sum = 0.0;
        for (size_t e = 0; e < n; e++) {
            float z = g->s_src[l->ids[at + e] * ld + h] + dst[h];
            if (g->edge) z += g->edge[l->eids[at + e] * ld + h];
            if (!(z > 0.0f)) ds[e * ld + h] *= g->config.slope;
            sum += (double)ds[e * ld + h];
        }
        g->back->ds_dst[row * ld + h] = (float)sum;
    }
}

static void rv__gnn_back_v2(const rv__gnn *g, const rv__gnn_lane *l, size_t row, size_t at,
                            size_t n)
{
    const rv__gnn_back *b = g->back;
    const float *a = rv__gnn_param(g, RV__GNN_A_SRC), *r = g->dst + row * g->hc;
    float *part = b->part + row * g->hc, *d_dst = b->d_dst + row * g->hc;
    memset(part, 0, g->hc * sizeof *part);
    memset(d_dst, 0, g->hc * sizeof *d_dst);
    for (size_t e = 0; e < n; e++) {
        const size_t eid = l->eids[at + e];
        const float *from = g->src + l->ids[at + e] * g->hc;
        const float *along = g->edge ? g->edge + eid * g->hc : NULL;
        float *d_edge = b->d_edge + eid * g->hc;
        for (size_t h = 0; h < g->heads; h++) {
            const float ds = l->ds[(at + e) * g->ld + h];
            for (size_t i = h * g->c; i < (h + 1) * g->c; i++) {
                const float z = from[i] + r[i] + (along ? along[i] : 0.0f);
                const float pull = z > 0.0f ? ds : ds * g->config.slope;
                part[i] += pull * z;
                d_edge[i] = pull * a[i];
            }
        }
        g->kernels->add_f32(d_edge, d_dst, g->hc);
    }
}

static void rv__gnn_back_former(const rv__gnn *g, const rv__gnn_lane *l, size_t row, size_t at,
                                size_t n)
{
    const rv__gnn_back *b = g->back;
    const float *ds = l->ds + at * g->ld, *w = l->s + at * g->ld, *q = g->dst + row * g->hc;
    float *d_dst = b->d_dst + row * g->hc;
    memset(d_dst, 0, g->hc * sizeof *d_dst);
    rv__gnn_mix(g, ds, l->ids + at, n, g->src, d_dst);
    if (g->edge) rv__gnn_mix(g, ds, l->eids + at, n, g->edge, d_dst);
    g->kernels->scale_f32((float)(1.0 / sqrt((double)g->c)), d_dst, g->hc);
    for (size_t e = 0; g->edge && e < n; e++) {
        float *d_edge = b->d_edge + l->eids[at + e] * g->hc;
        memset(d_edge, 0, g->hc * sizeof *d_edge);
        for (size_t h = 0; h < g->heads; h++) {
            const size_t from = h * g->c;
            g->kernels->axpy_f32(ds[e * g->ld + h], q + from, d_edge + from, g->c);
            g->kernels->axpy_f32(w[e * g->ld + h], b->d_o + row * g->hc + from, d_edge + from,
                                 g->c);
        }
    }
}

static void rv__gnn_back_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gnn *g = (const rv__gnn *)arg;
    const rv__gnn_back *b = g->back;
    const size_t ld = g->ld;
    rv__gnn_lane l;
    rv__gnn_lane_at(g, lane, NULL, &l);
    for (size_t first = begin, next; first < end; first = next) {
        next = rv__gnn_block(g, &l, first, end);
        for (size_t row = first; row < next; row++) {
            const size_t at = l.begin[row - first], n = l.begin[row - first + 1] - at;
            float *d_o = b->d_o + row * g->hc;
            rv__gnn_gather(g, &l, row, at, n);
            rv__gnn_back_join(g, &l, row);
            for (size_t i = 0; i < g->hc; i++)
                d_o[i] = g->config.mean ? l.row[i % g->c] / (float)g->heads : l.row[i];
            rv__gnn_back_softmax(g, &l, row, at, n);
            if (g->gat) rv__gnn_back_gat(g, &l, row, at, n);
            else if (g->config.kind == RV_GNN_GATV2) rv__gnn_back_v2(g, &l, row, at, n);
            else rv__gnn_back_former(g, &l, row, at, n);
            for (size_t e = 0; e < n; e++) {
                const size_t to = l.eids[at + e] * ld, from = (at + e) * ld;
                memcpy(b->alpha + to, l.s + from, ld * sizeof(float));
                memcpy(b->ds + to, l.ds + from, ld * sizeof(float));
            }
        }
    }
}

/* A self loop's edge row is the mean of the others: they take its slope. */
static void rv__gnn_back_mean_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gnn *g = (const rv__gnn *)arg;
    const rv_csr *a = g->io.graph;
    const size_t width = g->gat ? g->ld : g->hc;
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        const float *mean = g->back->d_edge + (g->nnz + i) * width;
        size_t n = 0;
        for (size_t e = a->start[i]; e < a->start[i + 1]; e++) n += (size_t)(a->index[e] != i);
        for (size_t e = a->start[i]; e < a->start[i + 1]; e++) {
            float *d = g->back->d_edge + e * width;
            if (a->index[e] == i) memset(d, 0, width * sizeof *d);
            else g->kernels->axpy_f32(1.0f / (float)n, mean, d, width);
        }
    }
}

/* ---- over sources ---- */

/* The entries of each source, destinations ascending. */
static rv_status rv__gnn_back_turn(rv_ctx *ctx, const rv__gnn *g, uint32_t *ids, uint32_t *eids)
{
    const rv__gnn_back *b = g->back;
    size_t left = 0, sum = 0;
    rv_status status = rv__fill_polled(ctx, b->start, 0, (g->n_src + 1) * sizeof *b->start);
    for (int pass = 0; pass < 2 && !status; pass++) {
        for (size_t i = 0; i < g->n_dst; i++) {
            const size_t n = rv__gnn_list(g, i, ids, eids);
            status = rv__poll_by(ctx, &left, 4 * n + 4);
            if (status) return status;
            for (size_t e = 0; e < n; e++) {
                const size_t to = b->start[ids[e]]++;
                if (!pass) continue;
                b->dst_of[to] = (uint32_t)i;
                b->eid[to] = eids[e];
            }
        }
        /* counts to starts; after the second pass starts have moved to ends */
        for (size_t j = 0; !pass && j < g->n_src; j++) {
            const size_t n = b->start[j];
            b->start[j] = (uint32_t)sum;
            sum += n;
        }
    }
    return status;
}

/* out += sum of weights[eid] rows[dst]. */
static void rv__gnn_back_collect(const rv__gnn *g, const rv__gnn_lane *l, size_t begin, size_t end,
                                 const float *weights, const float *rows, float *out)
{
    const rv__gnn_back *b = g->back;
    const size_t most = g->cap < RV__GNN_SUM ? g->cap : RV__GNN_SUM, ld = g->ld;
    for (size_t first = begin; first < end; first += most) {
        const size_t n = end - first < most ? end - first : most;
        for (size_t e = 0; e < n; e++)
            memcpy(l->s + e * ld, weights + b->eid[first + e] * ld, ld * sizeof(float));
        g->kernels->gnn_mix(l->s, ld, b->dst_of + first, n, rows, g->heads, g->c, out);
    }
}

static void rv__gnn_back_src_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gnn *g = (const rv__gnn *)arg;
    const rv__gnn_back *b = g->back;
    rv__gnn_lane l;
    rv__gnn_lane_at(g, lane, NULL, &l);
    for (size_t j = begin; j < end; j++) {
        const size_t from = j ? b->start[j - 1] : 0, to = b->start[j];
        float *d_val = b->d_val + j * g->hc, *d_src = b->d_src + j * g->hc;
        memset(d_val, 0, g->hc * sizeof *d_val);
        rv__gnn_back_collect(g, &l, from, to, b->alpha, b->d_o, d_val);
        if (g->gat) {
            for (size_t h = 0; h < g->heads; h++) {
                double sum = 0.0;
                for (size_t e = from; e < to; e++)
                    sum += (double)b->ds[b->eid[e] * g->ld + h];
                b->ds_src[j * g->ld + h] = (float)sum;
            }
        } else if (g->config.kind == RV_GNN_GATV2) {
            for (size_t e = from; e < to; e++)
                g->kernels->add_f32(b->d_edge + b->eid[e] * g->hc, d_src, g->hc);
        } else {
            memset(d_src, 0, g->hc * sizeof *d_src);
            rv__gnn_back_collect(g, &l, from, to, b->ds, g->dst, d_src);
        }
    }
}

/* ---- projections ---- */

/* out[cols, rows] = x[rows, cols] turned. */
static rv_status rv__gnn_turn(rv_ctx *ctx, const float *x, size_t rows, size_t cols, float *out,
                              size_t *left)
{
    for (size_t i = 0; i < rows; i += 16) {
        const size_t end = rows - i < 16 ? rows : i + 16;
        rv_status status = rv__poll_by(ctx, left, 32 * cols);
        if (status) return status;
        for (size_t c = 0; c < cols; c++)
            for (size_t r = i; r < end; r++) out[c * rows + r] = x[r * cols + c];
    }
    return RV_OK;
}

/* out[width] = sums of columns, in double. */
static rv_status rv__gnn_columns(rv_ctx *ctx, const rv__gnn *g, const float *x, size_t n,
                                 size_t width, int accumulate, float *out)
{
    double *sums = g->back->sums;
    size_t left = 0;
    for (size_t c = 0; c < width; c++) sums[c] = accumulate ? (double)out[c] : 0.0;
    for (size_t i = 0; i < n; i++) {
        rv_status status = rv__poll_by(ctx, &left, width);
        if (status) return status;
        for (size_t c = 0; c < width; c++) sums[c] += (double)x[i * width + c];
    }
    for (size_t c = 0; c < width; c++) out[c] = (float)sums[c];
    return RV_OK;
}

/* A projection y = x w^T + b and where its slopes go; NULL: not wanted. */
typedef struct rv__gnn_linear {
    const float *dy, *x, *w;
    size_t n, rows, cols; /* dy: [n, rows], x: [n, cols] */
    float *dw, *db, *dx;
    int add_params, add_x;
} rv__gnn_linear;

static rv_status rv__gnn_linear_back(rv_ctx *ctx, const rv__gnn *g, const rv__gnn_linear *p)
{
    float *turned = g->back->turned;
    rv_status status = RV_OK;
    size_t left = 0;
    if (p->dw && !p->add_params)
        status = rv__fill_polled(ctx, p->dw, 0, p->rows * p->cols * sizeof *p->dw);
    for (size_t i = 0; p->dw && !status && i < p->n; i += RV__GNN_TURN) {
        const size_t n = p->n - i < RV__GNN_TURN ? p->n - i : RV__GNN_TURN;
        float *more = turned + n * p->rows;
        status = rv__gnn_turn(ctx, p->dy + i * p->rows, n, p->rows, turned, &left);
        if (!status) status = rv__gnn_turn(ctx, p->x + i * p->cols, n, p->cols, more, &left);
        if (!status)
            status = rv__gnn_gemm(ctx, g, turned, p->rows, more, p->cols, n, NULL, 1.0f, 1, p->dw);
    }
    if (!status && p->db)
        status = rv__gnn_columns(ctx, g, p->dy, p->n, p->rows, p->add_params, p->db);
    if (status || !p->dx) return status;
    status = rv__gnn_turn(ctx, p->w, p->rows, p->cols, turned, &left);
    if (status) return status;
    return rv__gnn_gemm(ctx, g, p->dy, p->n, turned, p->cols, p->rows, NULL, 1.0f, p->add_x, p->dx);
}

/* Back through rv__gnn_dot: adds to dx, if any, and leaves the slopes by u in sums. */
static rv_status rv__gnn_dot_back(rv_ctx *ctx, const rv__gnn *g, const float *ds, const float *x,
                                  size_t n, size_t ld, size_t step, size_t dim, const float *u,
                                  float *dx)
{
    double *sums = g->back->sums;
    size_t left = 0;
    for (size_t i = 0; i < g->heads * dim; i++) sums[i] = 0.0;
    for (size_t i = 0; i < n; i++) {
        rv_status status = rv__poll_by(ctx, &left, g->heads * dim);
        if (status) return status;
        for (size_t h = 0; h < g->heads; h++) {
            const float *row = x + i * ld + h * step;
            const float d = ds[i * g->ld + h];
            if (dx) g->kernels->axpy_f32(d, u + h * dim, dx + i * ld + h * step, dim);
            for (size_t c = 0; c < dim; c++) sums[h * dim + c] += (double)d * (double)row[c];
        }
    }
    return RV_OK;
}

/* Back through rv__gnn_fold, from sums: adds to dw, writes da. */
static rv_status rv__gnn_fold_back(rv_ctx *ctx, const rv__gnn *g, const float *w, const float *a,
                                   size_t dim, float *dw, float *da)
{
    size_t left = 0;
    for (size_t i = 0; i < g->hc; i++) {
        const double *d_u = g->back->sums + i / g->c * dim;
        rv_status status = rv__poll_by(ctx, &left, dim);
        double sum = 0.0;
        if (status) return status;
        for (size_t c = 0; c < dim; c++) {
            sum += d_u[c] * (double)w[i * dim + c];
            dw[i * dim + c] = (float)((double)dw[i * dim + c] + d_u[c] * (double)a[i]);
        }
        da[i] = (float)sum;
    }
    return RV_OK;
}

/* Where the slopes by a tensor go, NULL: nowhere. */
static float *rv__gnn_d_param(const rv__gnn *g, size_t which)
{
    float *d = g->back->grad->d_params;
    return d && g->tensor[which].rows ? d + g->tensor[which].at : NULL;
}

/* GAT: through a_src and a_dst, where they meet projected rows. */
static rv_status rv__gnn_back_scores(rv_ctx *ctx, const rv__gnn *g)
{
    const rv__gnn_back *b = g->back;
    float *d_src = rv__gnn_d_param(g, RV__GNN_A_SRC), *d_dst = rv__gnn_d_param(g, RV__GNN_A_DST);
    rv_status status = rv__gnn_dot_back(ctx, g, b->ds_src, g->src, g->n_src, g->hc, g->c, g->c,
                                        rv__gnn_param(g, RV__GNN_A_SRC), b->d_src);
    for (size_t i = 0; d_src && i < g->hc; i++) d_src[i] = (float)b->sums[i];
    if (status || g->u_dst) return status;
    status = rv__gnn_dot_back(ctx, g, b->ds_dst, g->src, g->n_dst, g->hc, g->c, g->c,
                              rv__gnn_param(g, RV__GNN_A_DST), b->d_src);
    for (size_t i = 0; d_dst && i < g->hc; i++) d_dst[i] = (float)b->sums[i];
    return status;
}

/* GAT: destinations with a matrix of their own, and edges. After the sources'. */
static rv_status rv__gnn_back_folded(rv_ctx *ctx, const rv__gnn *g)
{
    const rv__gnn_back *b = g->back;
    const rv_gnn_grad *grad = b->grad;
    const size_t w_dst = g->tensor[RV__GNN_DST_W].rows ? RV__GNN_DST_W : RV__GNN_SRC_W;
    const size_t dim = g->io.dim_dst, edge_dim = g->io.edge_dim;
    float *dw = rv__gnn_d_param(g, RV__GNN_DST_W);
    rv_status status = RV_OK;
    if (g->u_dst) {
        if (dw) status = rv__fill_polled(ctx, dw, 0, g->hc * dim * sizeof *dw);
        if (!status && grad->d_x_dst)
            status = rv__fill_polled(ctx, grad->d_x_dst, 0, g->n_dst * dim * sizeof(float));
        if (!status)
            status = rv__gnn_dot_back(ctx, g, b->ds_dst, g->x_dst, g->n_dst, dim, 0, dim, g->u_dst,
                                      grad->d_x_dst);
        if (!status && grad->d_params)
            status = rv__gnn_fold_back(ctx, g, rv__gnn_param(g, w_dst),
                                       rv__gnn_param(g, RV__GNN_A_DST), dim,
                                       rv__gnn_d_param(g, w_dst),
                                       rv__gnn_d_param(g, RV__GNN_A_DST));
    }
    if (status || !edge_dim) return status;
    dw = rv__gnn_d_param(g, RV__GNN_EDGE_W);
    if (dw) status = rv__fill_polled(ctx, dw, 0, g->hc * edge_dim * sizeof *dw);
    if (!status && grad->d_edges)
        status = rv__fill_polled(ctx, grad->d_edges, 0, g->nnz * edge_dim * sizeof(float));
    if (!status)
        status = rv__gnn_dot_back(ctx, g, b->d_edge, g->io.edges, g->nnz, edge_dim, 0, edge_dim,
                                  g->u_edge, grad->d_edges);
    if (!status && dw)
        status = rv__gnn_fold_back(ctx, g, rv__gnn_param(g, RV__GNN_EDGE_W),
                                   rv__gnn_param(g, RV__GNN_A_EDGE), edge_dim, dw,
                                   rv__gnn_d_param(g, RV__GNN_A_EDGE));
    return status;
}

static void rv__gnn_back_linear_of(const rv__gnn *g, size_t w, size_t bias, rv__gnn_linear *p)
{
    memset(p, 0, sizeof *p);
    p->w = rv__gnn_param(g, w);
    p->dw = rv__gnn_d_param(g, w);
    p->db = rv__gnn_d_param(g, bias);
    p->rows = g->tensor[w].rows;
    p->cols = g->tensor[w].cols;
}

/* The rows of x_dst: their slopes go to d_x_dst or are added to d_x. */
static void rv__gnn_back_at_dst(const rv__gnn *g, const float *dy, int add, rv__gnn_linear *p)
{
    p->dy = dy;
    p->n = g->n_dst;
    p->x = g->x_dst;
    p->dx = g->io.x_dst ? g->back->grad->d_x_dst : g->back->grad->d_x;
    p->add_x = add || !g->io.x_dst;
}

static rv_status rv__gnn_back_linears(rv_ctx *ctx, const rv__gnn *g)
{
    const rv__gnn_back *b = g->back;
    const int own = g->tensor[RV__GNN_DST_W].rows != 0;
    rv__gnn_linear p;
    rv_status status;
    rv__gnn_back_linear_of(g, RV__GNN_SRC_W, RV__GNN_SRC_B, &p);
    p.dy = b->d_src;
    p.x = g->io.x;
    p.n = g->n_src;
    p.dx = b->grad->d_x;
    status = rv__gnn_linear_back(ctx, g, &p);
    if (!status && b->d_val != b->d_src) {
        rv__gnn_back_linear_of(g, RV__GNN_VAL_W, RV__GNN_VAL_B, &p);
        p.dy = b->d_val;
        p.x = g->io.x;
        p.n = g->n_src;
        p.dx = b->grad->d_x;
        p.add_x = 1;
        status = rv__gnn_linear_back(ctx, g, &p);
    }
    if (status || g->gat) return status;
    rv__gnn_back_linear_of(g, own ? RV__GNN_DST_W : RV__GNN_SRC_W,
                           own ? RV__GNN_DST_B : RV__GNN_SRC_B, &p);
    p.add_params = !own;
    rv__gnn_back_at_dst(g, b->d_dst, 0, &p);
    status = rv__gnn_linear_back(ctx, g, &p);
    if (!status && g->skip) {
        rv__gnn_back_linear_of(g, RV__GNN_SKIP_W, RV__GNN_SKIP_B, &p);
        rv__gnn_back_at_dst(g, b->d_pre, 1, &p);
        status = rv__gnn_linear_back(ctx, g, &p);
    }
    if (!status && g->edge) {
        rv__gnn_back_linear_of(g, RV__GNN_EDGE_W, RV__GNN_EDGE_W, &p);
        p.db = NULL;
        p.dy = b->d_edge;
        p.x = g->io.edges;
        p.n = g->nnz;
        p.dx = b->grad->d_edges;
        status = rv__gnn_linear_back(ctx, g, &p);
    }
    return status;
}

/* What is a sum over rows: biases, GATV2's a, the gate's vector. */
static rv_status rv__gnn_back_sums(rv_ctx *ctx, const rv__gnn *g)
{
    const rv__gnn_back *b = g->back;
    const size_t n = g->width;
    float *bias = rv__gnn_d_param(g, RV__GNN_BIAS), *gate = rv__gnn_d_param(g, RV__GNN_GATE);
    float *a = rv__gnn_d_param(g, RV__GNN_A_SRC);
    size_t left = 0;
    rv_status status = RV_OK;
    if (bias) status = rv__gnn_columns(ctx, g, b->d_pre, g->n_dst, n, 0, bias);
    if (!status && a && !g->gat) status = rv__gnn_columns(ctx, g, b->part, g->n_dst, g->hc, 0, a);
    if (status || !gate) return status;
    for (size_t c = 0; c < 2 * n; c++) b->sums[c] = 0.0;
    for (size_t i = 0; i < g->n_dst; i++) {
        const float *m = g->m + i * n, *r = g->skip + i * n;
        status = rv__poll_by(ctx, &left, 2 * n);
        if (status) return status;
        for (size_t c = 0; c < n; c++) {
            b->sums[c] += (double)b->gate[i] * (double)m[c];
            b->sums[n + c] += (double)b->gate[i] * (double)r[c];
        }
    }
    for (size_t c = 0; c < n; c++) {
        gate[c] = (float)b->sums[c];
        gate[n + c] = (float)b->sums[n + c];
        gate[2 * n + c] = (float)(b->sums[c] - b->sums[n + c]);
    }
    return RV_OK;
}

/* ---- a call ---- */

static size_t rv__gnn_larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void rv__gnn_back_place(rv__gnn *g, rv__gnn_arena *place)
{
    rv__gnn_back *b = g->back;
    const size_t entries = g->nnz + g->n_loops, edge = rv__mul(entries, g->ld);
    const size_t n_src = rv__mul(g->n_src, g->hc), n_dst = rv__mul(g->n_dst, g->hc);
    const int former = g->former;
    size_t most = rv__gnn_larger(rv__gnn_larger(g->io.dim, g->io.dim_dst), g->io.edge_dim), sums;
    b->d_o = rv__gnn_take(place, n_dst);
    b->d_pre = rv__gnn_take(place, rv__mul(g->n_dst, g->width));
    b->gate = rv__gnn_take(place, g->n_dst);
    b->alpha = rv__gnn_take(place, edge);
    b->ds = b->d_edge = rv__gnn_take(place, edge);
    if (!g->gat && (!former || g->io.edge_dim))
        b->d_edge = rv__gnn_take(place, rv__mul(entries, g->hc));
    if (g->config.kind == RV_GNN_GATV2) b->part = rv__gnn_take(place, n_dst);
    b->d_src = b->d_val = rv__gnn_take(place, n_src);
    if (former) b->d_val = rv__gnn_take(place, n_src);
    if (!g->gat) b->d_dst = rv__gnn_take(place, n_dst);
    b->ds_src = rv__gnn_take(place, g->gat ? rv__mul(g->n_src, g->ld) : 0);
    b->ds_dst = rv__gnn_take(place, g->gat ? rv__mul(g->n_dst, g->ld) : 0);
    b->start = (uint32_t *)(void *)rv__gnn_take(place, g->n_src + 1);
    b->dst_of = (uint32_t *)(void *)rv__gnn_take(place, entries);
    b->eid = (uint32_t *)(void *)rv__gnn_take(place, entries);
    sums = rv__add(rv__mul(g->heads, g->gat ? most : 0), rv__add(g->hc, g->hc));
    b->sums = (double *)(void *)rv__gnn_take(place, rv__mul(2, sums));
    most = rv__gnn_larger(rv__mul(RV__GNN_TURN, rv__add(g->hc, most)), rv__mul(g->hc, most));
    b->turned = rv__gnn_take(place, most);
}

static rv_status rv__gnn_back_steps(rv_ctx *ctx, rv__gnn *g)
{
    const size_t section = rv__gnn_section(g, 4 * g->nnz, g->n_dst);
    rv__gnn_lane l;
    rv_status status = rv__gnn_project(ctx, g);
    if (!status && g->edge) status = rv__gnn_project_edges(ctx, g);
    if (!status)
        status = rv__parallel_for(ctx, g->n_dst, RV__GNN_ROWS, section, rv__gnn_back_range, g);
    rv__gnn_lane_at(g, 0, NULL, &l);
    if (!status) status = rv__gnn_back_turn(ctx, g, l.ids, l.eids);
    if (!status)
        status = rv__parallel_for(ctx, g->n_src, RV__GNN_ROWS,
                                  rv__gnn_section(g, 4 * g->nnz, g->n_src), rv__gnn_back_src_range,
                                  g);
    /* after the walk over sources, which wants the loops' own slopes */
    if (!status && g->edge)
        status = rv__parallel_for(ctx, g->n_loops, 16, section, rv__gnn_back_mean_range, g);
    if (!status && g->gat) status = rv__gnn_back_scores(ctx, g);
    if (!status) status = rv__gnn_back_linears(ctx, g);
    if (!status && g->gat) status = rv__gnn_back_folded(ctx, g);
    return status ? status : rv__gnn_back_sums(ctx, g);
}

RV_API rv_status rv_gnn_backward(rv_ctx *ctx, const rv_gnn_config *config, const rv_gnn_io *io,
                                 const rv_gnn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__gnn_arena place = {NULL, 0};
    rv__gnn_back back;
    rv__gnn g;
    size_t floats;
    rv_status status = rv__gnn_check(ctx, &g, config, io);
    if (status) return status;
    if (!grad || (g.n_dst && !grad->d_out))
        return rv__fail(ctx, RV_ERR_ARG, 0, "grad or d_out is NULL");
    if (grad->d_x_dst && !io->x_dst)
        return rv__fail(ctx, RV_ERR_ARG, 0, "d_x_dst is wanted; there is no x_dst");
    if (grad->d_edges && !io->edge_dim)
        return rv__fail(ctx, RV_ERR_ARG, 0, "d_edges is wanted; edge_dim is 0");
    memset(&back, 0, sizeof back);
    back.grad = grad;
    g.back = &back;
    g.io.weights = g.io.loops = NULL;
    rv__gnn_place(&g, rv__lanes(ctx), &place);
    rv__gnn_back_place(&g, &place);
    floats = place.used;
    place.base = (float *)rv__get(&alloc, floats, sizeof(float));
    if (!place.base) return rv__no_memory(ctx, rv__mul(floats, sizeof(float)));
    place.used = 0;
    rv__gnn_place(&g, rv__lanes(ctx), &place);
    rv__gnn_back_place(&g, &place);
    status = rv__gnn_back_steps(ctx, &g);
    rv__put(&alloc, place.base, floats, sizeof(float));
    return status ? status : rv__ok(ctx);
}

#undef RV__GNN_EDGES
#undef RV__GNN_ROWS
#undef RV__GNN_WORK
#undef RV__GNN_PANEL
#undef RV__GNN_PANEL_COLS
#undef RV__GNN_SUM
#undef RV__GNN_TURN

#endif /* RV_GNN_BACK_C */
