/* Graph layers: PyTorch Geometric, a double definition and its slopes, what holds of any. */
#include "grid_set.h"

#include "golden/gnn.h"

enum { NODES = 7, HEADS = 2, C = 3, DIM = 5, ENTRIES = 16, PARAMS = 180 };

static const uint32_t square_start[] = {0, 3, 6, 6, 7, 13, 14, 16};
static const uint32_t square_index[] = {1, 3, 4, 0, 1, 5, 3, 0, 1, 2, 3, 5, 6, 2, 0, 6};
/* the same with columns below 4 only */
static const uint32_t tall_start[] = {0, 2, 4, 4, 5, 9, 10, 11};
static const uint32_t tall_index[] = {1, 3, 0, 1, 3, 0, 1, 2, 3, 2, 0};

/* A layer's inputs and outputs. */
typedef struct layer {
    rv_gnn_config config;
    rv_gnn_io io;
    rv_gnn_grad grad;
    rv_csr graph;
    float *x, *x_dst, *edges, *params, *d_out; /* inputs */
    float *out, *weights, *loops, *d_x, *d_x_dst, *d_edges, *d_params;
    size_t n_params, n_out, nnz, heads, c, width;
} layer;

static float *floats(size_t n)
{
    float *p = (float *)malloc((n ? n : 1) * sizeof(float));
    if (!p) exit(2);
    for (size_t i = 0; i < n; i++) p[i] = not_a_number();
    return p;
}

/* config, graph and dims are set; own: with x_dst. Arrays are made, inputs from grid(). */
static void layer_make(layer *l, int own)
{
    const size_t dim_dst = l->io.dim_dst ? l->io.dim_dst : l->io.dim, n_dst = l->graph.rows;
    float some;
    l->io.graph = &l->graph;
    l->nnz = l->graph.start[n_dst];
    l->heads = l->config.heads ? l->config.heads : 4;
    l->c = l->config.dim_out ? l->config.dim_out : l->io.dim;
    l->width = l->config.mean ? l->c : l->heads * l->c;
    l->n_out = n_dst * l->width;
    l->io.x_dst = own ? &some : NULL;
    l->n_params = rv_gnn_params(&l->config, &l->io);
    l->io.x = l->x = grid(1, floats(l->graph.cols * l->io.dim), l->graph.cols * l->io.dim);
    l->x_dst = grid(5, floats(n_dst * dim_dst), n_dst * dim_dst);
    l->io.x_dst = own ? l->x_dst : NULL;
    l->edges = grid(3, floats(l->nnz * l->io.edge_dim), l->nnz * l->io.edge_dim);
    l->io.edges = l->io.edge_dim ? l->edges : NULL;
    l->io.params = l->params = grid(2, floats(l->n_params), l->n_params);
    for (size_t i = 0; i < l->n_params; i++) l->params[i] /= 4.0f;
    l->grad.d_out = l->d_out = grid(4, floats(l->n_out), l->n_out);
    l->io.out = l->out = floats(l->n_out);
    l->io.weights = l->weights = floats(l->heads * l->nnz);
    l->io.loops = l->loops = floats(l->heads * n_dst);
    l->grad.d_x = l->d_x = floats(l->graph.cols * l->io.dim);
    l->d_x_dst = floats(n_dst * dim_dst);
    l->grad.d_x_dst = own ? l->d_x_dst : NULL;
    l->d_edges = floats(l->nnz * l->io.edge_dim);
    l->grad.d_edges = l->io.edge_dim ? l->d_edges : NULL;
    l->grad.d_params = l->d_params = floats(l->n_params);
}

static void layer_free(layer *l)
{
    free(l->x);
    free(l->x_dst);
    free(l->edges);
    free(l->params);
    free(l->d_out);
    free(l->out);
    free(l->weights);
    free(l->loops);
    free(l->d_x);
    free(l->d_x_dst);
    free(l->d_edges);
    free(l->d_params);
}

/* By bits, for -ffast-math. */
static int finite_all(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        if ((bits & 0x7F800000u) == 0x7F800000u) return 0;
    }
    return 1;
}

static void graph_set(rv_csr *a, size_t rows, size_t cols, const uint32_t *start,
                      const uint32_t *index)
{
    a->rows = rows;
    a->cols = cols;
    a->start = start;
    a->index = index;
    a->value = NULL;
}

/* Case `row` of the golden table. */
static void golden_layer(layer *l, size_t row)
{
    const int which = rv_golden_gnn[row].graph;
    memset(l, 0, sizeof *l);
    l->config.kind = (rv_gnn_kind)rv_golden_gnn[row].kind;
    l->config.heads = HEADS;
    l->config.dim_out = C;
    l->config.loops = (rv_gnn_loops)rv_golden_gnn[row].loops;
    l->config.act = (rv_gnn_act)rv_golden_gnn[row].act;
    l->config.mean = rv_golden_gnn[row].mean;
    l->config.share = rv_golden_gnn[row].share;
    l->config.beta = rv_golden_gnn[row].beta;
    l->config.no_skip = rv_golden_gnn[row].no_skip;
    l->io.dim = DIM;
    l->io.edge_dim = (size_t)rv_golden_gnn[row].edge_dim;
    if (which >= 2 && !l->config.share) l->io.dim_dst = 4;
    if (which == 3) graph_set(&l->graph, 7, 4, tall_start, tall_index);
    else graph_set(&l->graph, which ? 4 : 7, 7, square_start, square_index);
    layer_make(l, which >= 2);
}

/* As CHECK_ALL, but against the largest of all parameters' slopes: some slopes are nothing but
   terms that cancel. */
#define CHECK_SLOPE(got, row, field, n)                                                            \
    check_slope((got), rv_golden_gnn[row].field, (n), rv_golden_gnn[row].d_params, __LINE__)
static void check_slope(const float *got, const double *want, size_t n, const double *all, int line)
{
    double size = 0.0;
    for (size_t i = 0; i < PARAMS; i++) size = fabs(all[i]) > size ? fabs(all[i]) : size;
    for (size_t i = 0; i < n; i++)
        rv_test_near((double)got[i], want[i], 16 * U * size, "slope", __FILE__, line);
}

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_gnn); row++) {
        layer l;
        rv_ctx ctx;
        float *again;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        golden_layer(&l, row);
        RV_EQUAL(l.n_params, rv_golden_gnn[row].n_params);
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        CHECK_ALL(l.out, rv_golden_gnn[row].out, l.n_out, 16 * U);
        CHECK_ALL(l.weights, rv_golden_gnn[row].weights, HEADS * l.nnz, 16 * U);
        CHECK_ALL(l.loops, rv_golden_gnn[row].rings, HEADS * l.graph.rows, 16 * U);
        RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad));
        CHECK_SLOPE(l.d_x, row, d_x, l.graph.cols * DIM);
        CHECK_SLOPE(l.d_params, row, d_params, l.n_params);
        if (l.io.x_dst)
            CHECK_SLOPE(l.d_x_dst, row, d_x_dst,
                        l.graph.rows * (l.io.dim_dst ? l.io.dim_dst : (size_t)DIM));
        if (l.io.edge_dim)
            CHECK_SLOPE(l.d_edges, row, d_edges, l.nnz * l.io.edge_dim);
        /* what is not wanted changes nothing */
        again = l.out;
        l.io.out = floats(l.n_out);
        l.io.weights = NULL;
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        l.io.loops = NULL;
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        RV_CHECK(memcmp(again, l.io.out, l.n_out * sizeof(float)) == 0);
        free(l.io.out);
        again = floats(l.graph.cols * DIM);
        l.grad.d_params = l.grad.d_edges = l.grad.d_x_dst = NULL;
        l.grad.d_x = again;
        RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad));
        RV_CHECK(memcmp(again, l.d_x, l.graph.cols * DIM * sizeof(float)) == 0);
        l.grad.d_params = again = (float *)realloc(again, (l.n_params + l.nnz * l.io.edge_dim) *
                                                              sizeof(float));
        l.grad.d_x = NULL;
        RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad));
        RV_CHECK(memcmp(again, l.d_params, l.n_params * sizeof(float)) == 0);
        free(again);
        layer_free(&l);
    }
}

/* ---- the definition in double ---- */

/* Takes the next tensor off the parameters. */
static const float *tensor(const float **at, size_t n)
{
    const float *here = *at;
    *at += n;
    return here;
}

/* out[n][rows] = x w^T + b. */
static double *project(const float *x, size_t n, size_t cols, const float *w, const float *b,
                       size_t rows)
{
    double *out = (double *)malloc((n * rows + 1) * sizeof(double));
    if (!out) exit(2);
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < rows; r++) {
            out[i * rows + r] = b ? (double)b[r] : 0.0;
            for (size_t c = 0; c < cols; c++)
                out[i * rows + r] += (double)w[r * cols + c] * (double)x[i * cols + c];
        }
    return out;
}

/* The least |z| met since it was set. And the side of 0 of every z in turn: written down, or read:
   then the function continues its piece beyond the kink, whose slope there is the one wanted. */
static double leak_margin;
static uint8_t *leak_sides;
static size_t leak_at;
static int leak_reads;

static double leak(double z, double slope)
{
    if (fabs(z) < leak_margin) leak_margin = fabs(z);
    if (!leak_sides) return z > 0.0 ? z : z * slope;
    if (!leak_reads) leak_sides[leak_at] = z > 0.0;
    return leak_sides[leak_at++] ? z : z * slope;
}

/* The tensors of a layer, by the manual. */
typedef struct tensors {
    const float *w, *b, *w_dst, *b_dst, *w_val, *b_val, *w_e, *w_s, *b_s, *a, *a_dst, *a_edge, *g,
        *bias;
} tensors;

static void tensors_of(const layer *l, tensors *t)
{
    const size_t hc = l->heads * l->c, dim = l->io.dim, dst = l->io.dim_dst ? l->io.dim_dst : dim;
    const size_t e = l->io.edge_dim;
    const float *at = l->params;
    memset(t, 0, sizeof *t);
    t->w = tensor(&at, hc * dim);
    if (l->config.kind == RV_GNN_TRANSFORMER) {
        t->b = tensor(&at, hc);
        t->w_dst = tensor(&at, hc * dst);
        t->b_dst = tensor(&at, hc);
        t->w_val = tensor(&at, hc * dim);
        t->b_val = tensor(&at, hc);
        if (e) t->w_e = tensor(&at, hc * e);
        if (!l->config.no_skip) {
            t->w_s = tensor(&at, l->width * dst);
            t->b_s = tensor(&at, l->width);
        }
        if (l->config.beta) t->g = tensor(&at, 3 * l->width);
    } else {
        const int v2 = l->config.kind == RV_GNN_GATV2;
        const int own = !l->config.share && (v2 || l->io.x_dst);
        if (v2) t->b = tensor(&at, hc);
        t->w_dst = own ? tensor(&at, hc * dst) : t->w;
        t->b_dst = own && v2 ? tensor(&at, hc) : t->b;
        if (e) t->w_e = tensor(&at, hc * e);
        t->a = tensor(&at, hc);
        if (!v2) t->a_dst = tensor(&at, hc);
        if (!v2 && e) t->a_edge = tensor(&at, hc);
        t->bias = tensor(&at, l->width);
        t->w_val = t->w;
        t->b_val = t->b;
    }
    RV_EQUAL(at - l->params, l->n_params);
}

/* An edge row, or the mean of a row's for its self loop. */
static void edge_row(const layer *l, const double *edge, size_t i, size_t e, int loop, double *out)
{
    const size_t hc = l->heads * l->c;
    size_t n = 0;
    for (size_t r = 0; r < hc; r++) out[r] = 0.0;
    if (!edge) return;
    if (!loop) {
        memcpy(out, edge + e * hc, hc * sizeof *out);
        return;
    }
    for (size_t k = l->graph.start[i]; k < l->graph.start[i + 1]; k++) {
        if (l->graph.index[k] == i) continue;
        n++;
        for (size_t r = 0; r < hc; r++) out[r] += edge[k * hc + r];
    }
    for (size_t r = 0; n && r < hc; r++) out[r] /= (double)n;
}

/* The logit of source row `from` and destination row `to`, for head h. */
static double logit(const layer *l, const tensors *t, const double *from, const double *to,
                    const double *edge, size_t h)
{
    const double slope =
        (double)(fabsf(l->config.slope) > 0.0f ? l->config.slope : 0.2f);
    double z = 0.0;
    for (size_t r = h * l->c; r < (h + 1) * l->c; r++) {
        if (l->config.kind == RV_GNN_TRANSFORMER) {
            z += to[r] * (from[r] + edge[r]) / sqrt((double)l->c);
        } else if (l->config.kind == RV_GNN_GATV2) {
            z += (double)t->a[r] * leak(from[r] + to[r] + edge[r], slope);
        } else {
            z += (double)t->a[r] * from[r] + (double)t->a_dst[r] * to[r];
            if (t->a_edge) z += (double)t->a_edge[r] * edge[r];
        }
    }
    if (l->config.kind == RV_GNN_GAT || l->config.kind == RV_GNN_EDGE_GAT)
        z = leak(z, slope);
    return z;
}

/* From m to out, of a row. */
static void join(const layer *l, const tensors *t, const double *m, const double *r, double *out)
{
    double gate = 0.0;
    for (size_t c = 0; t->g && c < l->width; c++)
        gate += (double)t->g[c] * m[c] + (double)t->g[l->width + c] * r[c] +
                (double)t->g[2 * l->width + c] * (m[c] - r[c]);
    gate = 1.0 / (1.0 + exp(-gate));
    for (size_t c = 0; c < l->width; c++) {
        double x = t->g ? gate * r[c] + (1.0 - gate) * m[c] : r ? m[c] + r[c] : m[c];
        if (t->bias) x += (double)t->bias[c];
        out[c] = l->config.act == RV_GNN_ACT_ELU && x < 0.0 ? expm1(x) : x;
    }
}

/* The whole layer: out [n_dst, width]. */
static void define(const layer *l, double *out)
{
    const size_t hc = l->heads * l->c, dim = l->io.dim, n_src = l->graph.cols;
    const size_t n_dst = l->graph.rows, dst = l->io.dim_dst ? l->io.dim_dst : dim;
    const float *x_dst = l->io.x_dst ? l->x_dst : l->x;
    const int former = l->config.kind == RV_GNN_TRANSFORMER;
    const int loops = former ? l->config.loops == RV_GNN_LOOPS_ON
                             : l->config.loops != RV_GNN_LOOPS_OFF;
    double *from, *to, *value, *edge = NULL, *r = NULL, *along, *sum, *weight;
    tensors t;
    tensors_of(l, &t);
    from = project(l->x, n_src, dim, t.w, t.b, hc);
    to = project(x_dst, n_dst, dst, t.w_dst, t.b_dst, hc);
    value = project(l->x, n_src, dim, t.w_val, t.b_val, hc);
    if (t.w_e) edge = project(l->edges, l->nnz, l->io.edge_dim, t.w_e, NULL, hc);
    if (t.w_s) r = project(x_dst, n_dst, dst, t.w_s, t.b_s, l->width);
    along = (double *)malloc((2 * hc + n_src + 1) * sizeof(double));
    if (!along) exit(2);
    sum = along + hc;
    weight = sum + hc;
    for (size_t i = 0; i < n_dst; i++) {
        const size_t begin = l->graph.start[i], end = l->graph.start[i + 1];
        const int loop = loops && i < n_src;
        for (size_t c = 0; c < hc; c++) sum[c] = 0.0;
        for (size_t h = 0; h < l->heads; h++) {
            double total = 0.0, top = -1e300;
            for (int pass = 0; pass < 3; pass++) {
                for (size_t e = begin; e < end + (size_t)loop; e++) {
                    const int ring = e == end;
                    const size_t j = ring ? i : l->graph.index[e];
                    double *w = weight + (e - begin);
                    if (!ring && loop && j == i) continue;
                    if (pass != 1) edge_row(l, edge, i, e, ring, along);
                    if (pass == 0) {
                        *w = logit(l, &t, from + j * hc, to + i * hc, along, h);
                        if (*w > top) top = *w;
                    } else if (pass == 1) {
                        *w = exp(*w - top);
                        total += *w;
                    } else {
                        for (size_t c = h * l->c; c < (h + 1) * l->c; c++)
                            sum[c] += *w / total * (value[j * hc + c] + (former ? along[c] : 0.0));
                    }
                }
            }
        }
        for (size_t h = 1; l->config.mean && h < l->heads; h++)
            for (size_t c = 0; c < l->c; c++) sum[c] += sum[h * l->c + c];
        for (size_t c = 0; l->config.mean && c < l->c; c++) sum[c] /= (double)l->heads;
        join(l, &t, sum, r ? r + i * l->width : NULL, out + i * l->width);
    }
    free(from);
    free(to);
    free(value);
    free(edge);
    free(r);
    free(along);
}

static double loss(void *arg)
{
    const layer *l = (const layer *)arg;
    double *out = (double *)malloc((l->n_out + 1) * sizeof(double)), sum = 0.0;
    if (!out) exit(2);
    define(l, out);
    for (size_t i = 0; i < l->n_out; i++) sum += out[i] * (double)l->d_out[i];
    free(out);
    return sum;
}

/* Steps of 2^-13 change every input exactly, and leaky's arguments by less than the margin. */
static void test_slopes(void)
{
    const double h = 1.0 / 8192.0;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_gnn); row++) {
        double out[NODES * HEADS * C];
        layer l;
        rv_ctx ctx;
        if (RV_TEST_SCALE > 1 && row % 4) continue;
        rv_test_ctx(&ctx);
        rv_test_row("slopes", row);
        golden_layer(&l, row);
        l.config.slope = l.config.kind == RV_GNN_TRANSFORMER ? 0.0f : 0.375f;
        leak_margin = 1e9;
        define(&l, out);
        RV_CHECK(leak_margin > 0.003);
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        CHECK_ALL(l.out, out, l.n_out, 16 * U);
        RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad));
        check_slopes(loss, &l, l.x, l.d_x, l.graph.cols * DIM, h, 1e-5);
        check_slopes(loss, &l, l.params, l.d_params, l.n_params, h, 1e-5);
        if (l.io.x_dst)
            check_slopes(loss, &l, l.x_dst, l.d_x_dst,
                         l.graph.rows * (l.io.dim_dst ? l.io.dim_dst : (size_t)DIM), h, 1e-5);
        if (l.io.edge_dim)
            check_slopes(loss, &l, l.edges, l.d_edges, l.nnz * l.io.edge_dim, h, 1e-5);
        layer_free(&l);
    }
}

/* ---- large ---- */

/* About `degree` sources per row, row 5 reads all of them. */
static void graph_random(rv_csr *a, size_t rows, size_t cols, size_t degree)
{
    uint32_t *start = (uint32_t *)malloc((rows + 1) * sizeof *start), *index;
    rv_test_rng rng;
    size_t n = 0;
    index = (uint32_t *)malloc((rows * degree * 2 + cols + 1) * sizeof *index);
    if (!start || !index) exit(2);
    rv_test_seed(&rng, 31);
    for (size_t i = 0; i < rows; i++) {
        const size_t step = i == 5 ? 1 : cols / degree;
        start[i] = (uint32_t)n;
        for (size_t j = i == 5 ? 0 : rv_test_below(&rng, step); j < cols;
             j += i == 5 ? 1 : 1 + rv_test_below(&rng, 2 * step - 1))
            index[n++] = (uint32_t)j;
    }
    start[rows] = (uint32_t)n;
    graph_set(a, rows, cols, start, index);
}

static void graph_free(rv_csr *a)
{
    free((void *)(uintptr_t)a->start);
    free((void *)(uintptr_t)a->index);
}

static void last_first(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n-- > 0) body(arg, n);
}

/* The loss' slope along a direction of zeros, ones and minus ones in all inputs, by differences of
   the definition and by the gradient. */
static void check_direction(layer *l, double tolerance)
{
    float *arrays[4], *slopes[4], *old[4];
    size_t counts[4];
    const double h = 1.0 / 65536.0; /* exact in floats */
    double ahead = 0.0, by_gradient = 0.0, size = 0.0;
    arrays[0] = l->x;
    slopes[0] = l->d_x;
    counts[0] = l->graph.cols * l->io.dim;
    arrays[1] = l->params;
    slopes[1] = l->d_params;
    counts[1] = l->n_params;
    arrays[2] = l->edges;
    slopes[2] = l->d_edges;
    counts[2] = l->nnz * l->io.edge_dim;
    arrays[3] = l->x_dst;
    slopes[3] = l->d_x_dst;
    counts[3] = l->io.x_dst ? l->graph.rows * (l->io.dim_dst ? l->io.dim_dst : l->io.dim) : 0;
    for (int k = 0; k < 4; k++) {
        old[k] = floats(counts[k]);
        memcpy(old[k], arrays[k], counts[k] * sizeof(float));
    }
    leak_sides = (uint8_t *)malloc((l->nnz + l->graph.rows) * l->heads * l->c);
    if (!leak_sides) exit(2);
    leak_at = 0;
    (void)loss(l);
    leak_reads = 1;
    for (int side = -1; side <= 1; side += 2) {
        rv_test_rng rng;
        rv_test_seed(&rng, 77);
        for (int k = 0; k < 4; k++)
            for (size_t i = 0; i < counts[k]; i++) {
                const double d = (double)rv_test_below(&rng, 3) - 1.0;
                arrays[k][i] = old[k][i] + (float)(side * h * d);
                if (side < 0) by_gradient += d * (double)slopes[k][i];
                if (side < 0) size += fabs(d * (double)slopes[k][i]);
            }
        leak_at = 0;
        ahead += side * loss(l);
    }
    leak_reads = 0;
    free(leak_sides);
    leak_sides = NULL;
    rv_test.seed = 0;
    for (int k = 0; k < 4; k++) {
        memcpy(arrays[k], old[k], counts[k] * sizeof(float));
        free(old[k]);
    }
    RV_NEAR(by_gradient, ahead / (2 * h), tolerance * size);
}

/* Rows longer than a block, heads and columns that fill no vector, any number of lanes. */
static void test_large(void)
{
    static const int shapes[6][7] = {
        /* kind, edge_dim, x_dst, mean, act, beta, share */
        {RV_GNN_GAT, 0, 0, 0, 1, 0, 0},      {RV_GNN_GAT, 0, 1, 1, 0, 0, 0},
        {RV_GNN_GATV2, 6, 0, 0, 0, 0, 1},    {RV_GNN_EDGE_GAT, 6, 1, 0, 1, 0, 1},
        {RV_GNN_TRANSFORMER, 6, 1, 0, 0, 1, 0}, {RV_GNN_TRANSFORMER, 0, 0, 1, 1, 0, 0}};
    if (RV_TEST_SCALE > 16) return;
    for (size_t row = 0; row < 6; row++) {
        const int *shape = shapes[row];
        double *want;
        float *out, *d_params;
        layer l;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("large", row);
        memset(&l, 0, sizeof l);
        l.config.kind = (rv_gnn_kind)shape[0];
        l.config.heads = 5;
        l.config.dim_out = row % 2 ? 19 : 40;
        l.config.mean = shape[3];
        l.config.act = (rv_gnn_act)shape[4];
        l.config.beta = shape[5];
        l.config.share = shape[6];
        l.io.dim = 21;
        l.io.edge_dim = (size_t)shape[1];
        graph_random(&l.graph, 300, RV_SCALED(1300, 400), 6);
        layer_make(&l, shape[2]);
        for (size_t i = 0; i < l.n_params; i++) l.params[i] /= 4.0f;
        want = (double *)malloc(l.n_out * sizeof(double));
        out = floats(l.n_out);
        d_params = floats(l.n_params);
        if (!want) exit(2);
        define(&l, want);
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        CHECK_ALL(l.out, want, l.n_out, 32 * U);
        RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad));
        check_direction(&l, 1e-6);
        memcpy(out, l.out, l.n_out * sizeof(float));
        memcpy(d_params, l.d_params, l.n_params * sizeof(float));
        ctx.parallel = last_first;
        for (uint32_t workers = 2; workers < 8; workers += 5) {
            ctx.workers = workers;
            RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
            RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad));
            RV_CHECK(memcmp(out, l.out, l.n_out * sizeof(float)) == 0);
            RV_CHECK(memcmp(d_params, l.d_params, l.n_params * sizeof(float)) == 0);
        }
        free(want);
        free(out);
        free(d_params);
        graph_free(&l.graph);
        layer_free(&l);
    }
}

/* ---- what must hold ---- */

/* A small square layer of a kind, 2 heads of 3, edge features where the kind needs them. */
static void layer_small(layer *l, rv_gnn_kind kind)
{
    memset(l, 0, sizeof *l);
    l->config.kind = kind;
    l->config.heads = HEADS;
    l->config.dim_out = C;
    l->io.dim = DIM;
    l->io.edge_dim = kind == RV_GNN_EDGE_GAT ? 2 : 0;
    graph_set(&l->graph, NODES, NODES, square_start, square_index);
    layer_make(l, 0);
}

/* Weights of a row with its loop. */
static double row_sum(const layer *l, size_t h, size_t i)
{
    double sum = (double)l->loops[h * l->graph.rows + i];
    for (size_t e = l->graph.start[i]; e < l->graph.start[i + 1]; e++)
        sum += (double)l->weights[h * l->nnz + e];
    return sum;
}

static void check_sums(const layer *l)
{
    for (size_t h = 0; h < l->heads; h++)
        for (size_t i = 0; i < l->graph.rows; i++) {
            const int alone = l->config.kind == RV_GNN_TRANSFORMER &&
                              l->graph.start[i] == l->graph.start[i + 1];
            RV_NEAR(row_sum(l, h, i), alone ? 0.0 : 1.0, 4 * U);
        }
}

static void test_common(void)
{
    for (int kind = 0; kind < 4; kind++) {
        layer l;
        rv_ctx ctx;
        float first;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        layer_small(&l, (rv_gnn_kind)kind);
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        check_sums(&l);
        if (kind != RV_GNN_TRANSFORMER) { /* row 2 sees its loop only, row 3 an entry (3, 3) */
            RV_NEAR(l.loops[2], 1, U);
            RV_NEAR(l.loops[3], 1, U);
            RV_NEAR(l.weights[6], 0, 0);
        } else {
            RV_NEAR(l.loops[2], 0, 0);
            RV_NEAR(l.weights[6], 1, U);
        }
        /* logits of a thousand and more */
        for (size_t i = 0; i < NODES * DIM; i++) l.x[i] *= 4096.0f;
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        check_sums(&l);
        RV_EQUAL(finite_all(l.out, l.n_out), 1);
        RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad));
        RV_EQUAL(finite_all(l.d_params, l.n_params), 1);
        /* all sources alike: uniform weights, and any mean of them is that source */
        for (size_t i = 0; i < NODES * DIM; i++)
            l.x[i] = i < DIM ? l.x[i] / 4096.0f : l.x[i - DIM];
        for (size_t i = 0; i < l.nnz * l.io.edge_dim; i++) l.edges[i] = 0.25f;
        l.config.loops = RV_GNN_LOOPS_OFF;
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        for (size_t i = 0; i < NODES; i++)
            for (size_t e = square_start[i]; e < square_start[i + 1]; e++)
                RV_NEAR(l.weights[e], 1.0 / (double)(square_start[i + 1] - square_start[i]), 2 * U);
        for (size_t c = 0; c < HEADS * C; c++) /* rows 0 and 4: three and six sources */
            RV_NEAR(l.out[c], l.out[4 * HEADS * C + c], 16 * U);
        /* a NaN stays in the rows that read it: 4 and 6 read source 6 */
        first = l.out[0];
        l.x[6 * DIM] = not_a_number();
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        RV_NEAR(l.out[0], first, 0);
#if !defined(__FAST_MATH__)
        RV_CHECK(l.out[4 * HEADS * C] != l.out[4 * HEADS * C]);
        RV_CHECK(l.out[6 * HEADS * C] != l.out[6 * HEADS * C]);
#endif
        layer_free(&l);
    }
}

/* What is added to all logits of a row changes nothing: keys' biases. */
static void test_shift(void)
{
    layer l;
    rv_ctx ctx;
    float before[NODES * HEADS * C];
    rv_test_ctx(&ctx);
    layer_small(&l, RV_GNN_TRANSFORMER);
    RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
    memcpy(before, l.out, sizeof before);
    for (size_t i = 0; i < HEADS * C; i++) l.params[HEADS * C * DIM + i] += 3.0f;
    RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
    for (size_t i = 0; i < l.n_out; i++) RV_NEAR(l.out[i], before[i], 64 * U);
    layer_free(&l);
}

/* Edge features of zeros: the bits of GAT. */
static void test_zero_edges(void)
{
    layer plain, edged;
    rv_ctx ctx;
    const size_t hc = HEADS * C;
    rv_test_ctx(&ctx);
    layer_small(&plain, RV_GNN_GAT);
    layer_small(&edged, RV_GNN_EDGE_GAT);
    memset(edged.edges, 0, edged.nnz * 2 * sizeof(float));
    /* W, (W_e), a_src, a_dst, (a_edge), bias */
    memcpy(edged.params + hc * DIM + hc * 2, plain.params + hc * DIM, 2 * hc * sizeof(float));
    memcpy(edged.params + hc * DIM + hc * 5, plain.params + hc * (DIM + 2), hc * sizeof(float));
    RV_OKAY(&ctx, rv_gnn_run(&ctx, &plain.config, &plain.io));
    RV_OKAY(&ctx, rv_gnn_run(&ctx, &edged.config, &edged.io));
    RV_CHECK(memcmp(plain.out, edged.out, plain.n_out * sizeof(float)) == 0);
    RV_CHECK(memcmp(plain.weights, edged.weights, HEADS * plain.nnz * sizeof(float)) == 0);
    layer_free(&plain);
    layer_free(&edged);
}

/* Each of eight destinations asks for the source of its own number, of eight in one graph: GATV2
   finds it with W = 1, b_r = -1, a = 1; GAT, whatever its weights, has one order for all. */
static void test_dynamic(void)
{
    enum { K = 8 };
    uint32_t start[K + 1], index[K * K];
    float x[K * K], own[K * K];
    for (size_t i = 0; i <= K; i++) start[i] = (uint32_t)(K * i);
    for (size_t i = 0; i < K * K; i++) index[i] = (uint32_t)(i % K);
    for (size_t i = 0; i < K * K; i++) x[i] = own[i] = i / K == i % K ? 1.0f : 0.0f;
    for (uint64_t turn = 0; turn < 10; turn++) {
        layer l;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("turn", (size_t)turn);
        ctx.seed = 100 + turn;
        memset(&l, 0, sizeof l);
        l.config.kind = turn ? RV_GNN_GAT : RV_GNN_GATV2;
        l.config.heads = 1;
        l.config.loops = RV_GNN_LOOPS_OFF;
        l.io.dim = K;
        graph_set(&l.graph, K, K, start, index);
        layer_make(&l, 1);
        l.io.x = x;
        l.io.x_dst = own;
        RV_OKAY(&ctx, rv_gnn_init(&ctx, &l.config, &l.io, l.params));
        if (turn == 0) { /* W_l, b_l, W_r, b_r, a, bias */
            memcpy(l.params, x, sizeof x);
            memcpy(l.params + K * K + K, x, sizeof x);
            for (size_t i = 0; i < K; i++) l.params[2 * K * K + K + i] = -1.0f;
            for (size_t i = 0; i < K; i++) l.params[2 * K * K + 2 * K + i] = 1.0f;
        }
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        for (size_t i = 0; i < K; i++) {
            const float *w = l.weights + i * K;
            for (size_t a = 0; a < K; a++) {
                if (turn == 0 && a != i) RV_CHECK(w[i] > w[a]);
                for (size_t b = 0; turn && b < K; b++)
                    RV_CHECK((w[a] < w[b]) == (l.weights[a] < l.weights[b]));
            }
        }
        layer_free(&l);
    }
}

/* Other numbers for the same nodes: the same outputs at the new numbers. */
static void test_permutation(void)
{
    static const size_t to[NODES] = {3, 6, 0, 5, 1, 4, 2};
    for (int kind = 0; kind < 4; kind++) {
        uint32_t row[ENTRIES], col[ENTRIES], start[NODES + 1], index[ENTRIES];
        float number[ENTRIES], place[ENTRIES];
        size_t kept, n = 0;
        layer l, other;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        layer_small(&l, (rv_gnn_kind)kind);
        for (size_t i = 0; i < NODES; i++)
            for (size_t e = square_start[i]; e < square_start[i + 1]; e++, n++) {
                row[n] = (uint32_t)to[i];
                col[n] = (uint32_t)to[square_index[e]];
                number[n] = (float)e;
            }
        RV_OKAY(&ctx, rv_csr_from_coo(&ctx, NODES, NODES, row, col, number, n, start, index, place,
                                      &kept));
        layer_small(&other, (rv_gnn_kind)kind);
        graph_set(&other.graph, NODES, NODES, start, index);
        for (size_t i = 0; i < NODES; i++)
            memcpy(other.x + to[i] * DIM, l.x + i * DIM, DIM * sizeof(float));
        for (size_t e = 0; l.io.edge_dim && e < n; e++)
            memcpy(other.edges + e * 2, l.edges + (size_t)place[e] * 2, 2 * sizeof(float));
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &l.io));
        RV_OKAY(&ctx, rv_gnn_run(&ctx, &other.config, &other.io));
        for (size_t i = 0; i < NODES; i++)
            for (size_t c = 0; c < HEADS * C; c++)
                RV_NEAR(other.out[to[i] * HEADS * C + c], l.out[i * HEADS * C + c], 16 * U);
        layer_free(&l);
        layer_free(&other);
    }
}

static void test_init(void)
{
    for (int kind = 0; kind < 4; kind++) {
        layer l;
        rv_ctx ctx;
        float *again;
        double sum = 0.0;
        const size_t hc = 4 * 16, n_w = hc * 32;
        const float limit = sqrtf(6.0f / (float)(hc + 32));
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        memset(&l, 0, sizeof l);
        l.config.kind = (rv_gnn_kind)kind;
        l.config.dim_out = 16;
        l.io.dim = 32;
        l.io.edge_dim = kind == RV_GNN_EDGE_GAT ? 3 : 0;
        graph_set(&l.graph, NODES, NODES, square_start, square_index);
        layer_make(&l, 0);
        again = floats(l.n_params);
        ctx.seed = 9;
        RV_OKAY(&ctx, rv_gnn_init(&ctx, &l.config, &l.io, l.params));
        RV_OKAY(&ctx, rv_gnn_init(&ctx, &l.config, &l.io, again));
        RV_CHECK(memcmp(again, l.params, l.n_params * sizeof(float)) == 0);
        ctx.seed = 10;
        RV_OKAY(&ctx, rv_gnn_init(&ctx, &l.config, &l.io, again));
        RV_CHECK(memcmp(again, l.params, l.n_params * sizeof(float)) != 0);
        for (size_t i = 0; i < n_w; i++) { /* W: uniform, its variance limit^2 / 3 */
            RV_CHECK(fabsf(l.params[i]) <= limit);
            sum += (double)l.params[i] * (double)l.params[i];
        }
        RV_NEAR(sum / (double)n_w * 3.0 / ((double)limit * (double)limit), 1, 0.1);
        if (kind == RV_GNN_GATV2) /* b_l after W_l */
            for (size_t i = 0; i < hc; i++) RV_NEAR(l.params[n_w + i], 0, 0);
        if (kind != RV_GNN_TRANSFORMER)
            for (size_t i = 0; i < hc; i++) RV_NEAR(l.params[l.n_params - 1 - i], 0, 0);
        free(again);
        layer_free(&l);
    }
    RV_EQUAL(rv_gnn_params(NULL, NULL), 0);
    RV_CHECK(strcmp(rv_gnn_kind_at(0)->name, "gat") == 0);
    RV_EQUAL(rv_gnn_kind_at(4) == NULL, 1);
}

static void test_config_errors(void)
{
    layer l;
    rv_ctx ctx;
    rv_gnn_config c;
    rv_test_ctx(&ctx);
    layer_small(&l, RV_GNN_GAT);
#define FAILS(fault, word) RV_FAILS(&ctx, rv_gnn_run(&ctx, &c, &l.io), fault, word)
    c = l.config;
    c.kind = (rv_gnn_kind)rv_test_beyond(4);
    FAILS(RV_ERR_CONFIG, "kind is 4");
    RV_FAILS(&ctx, rv_gnn_init(&ctx, &c, &l.io, l.params), RV_ERR_CONFIG, "kind is 4");
    c = l.config;
    c.heads = 65536;
    FAILS(RV_ERR_CONFIG, "heads is 65536");
    c = l.config;
    c.dim_out = 65536;
    FAILS(RV_ERR_CONFIG, "dim_out is 65536");
    c = l.config;
    c.slope = -0.5f;
    FAILS(RV_ERR_CONFIG, "slope is -0.5");
    c.slope = not_a_number();
    FAILS(RV_ERR_CONFIG, "slope is NaN");
    c = l.config;
    c.loops = (rv_gnn_loops)3;
    FAILS(RV_ERR_CONFIG, "loops is 3");
    c = l.config;
    c.act = (rv_gnn_act)rv_test_beyond(4);
    FAILS(RV_ERR_CONFIG, "act is 4");
    c = l.config;
    c.beta = 1;
    FAILS(RV_ERR_CONFIG, "beta is 1");
    c = l.config;
    c.no_skip = 1;
    FAILS(RV_ERR_CONFIG, "no_skip is 1");
    c.kind = RV_GNN_TRANSFORMER;
    c.beta = 1;
    FAILS(RV_ERR_CONFIG, "nothing to gate");
    c = l.config;
    c.kind = RV_GNN_TRANSFORMER;
    c.share = 1;
    FAILS(RV_ERR_CONFIG, "share is 1");
    c.share = 0;
    c.slope = 0.5f;
    FAILS(RV_ERR_CONFIG, "slope is 0.5");
    c = l.config;
    c.kind = RV_GNN_EDGE_GAT;
    FAILS(RV_ERR_DIM, "edge_dim is 0");
    c = l.config;
    c.heads = 65535;
    c.dim_out = 65535;
    l.io.dim = 65535;
    if (sizeof(size_t) == 4) FAILS(RV_ERR_DIM, "no size");
#undef FAILS
    for (size_t i = 0; i < l.n_out; i++) RV_EQUAL(finite_all(l.out + i, 1), 0);
    l.io.dim = DIM;
    layer_free(&l);
}

static void test_io_errors(void)
{
    layer l;
    rv_ctx ctx;
    rv_gnn_io io;
    rv_csr graph;
    uint32_t start[NODES + 1], index[ENTRIES];
    rv_test_ctx(&ctx);
    layer_small(&l, RV_GNN_GATV2);
    memcpy(start, square_start, sizeof start);
    memcpy(index, square_index, sizeof index);
    graph_set(&graph, NODES, NODES, start, index);
#define FAILS(fault, word) RV_FAILS(&ctx, rv_gnn_run(&ctx, &l.config, &io), fault, word)
    RV_FAILS(&ctx, rv_gnn_run(&ctx, &l.config, NULL), RV_ERR_ARG, "io is NULL");
    RV_FAILS(&ctx, rv_gnn_init(&ctx, &l.config, NULL, NULL), RV_ERR_ARG, "io or params");
    io = l.io;
    io.dim = 0;
    FAILS(RV_ERR_DIM, "dim is 0");
    io.dim = 65536;
    FAILS(RV_ERR_DIM, "dim is 65536");
    io = l.io;
    io.dim_dst = 4;
    FAILS(RV_ERR_DIM, "dim_dst is 4 without x_dst");
    io.dim_dst = 65536;
    FAILS(RV_ERR_DIM, "dim_dst is 65536");
    io.dim_dst = 4;
    io.x_dst = l.x_dst;
    l.config.share = 1;
    FAILS(RV_ERR_DIM, "to share");
    l.config.share = 0;
    io = l.io;
    io.edge_dim = 65536;
    FAILS(RV_ERR_DIM, "edge_dim is 65536");
    io.edge_dim = 2;
    FAILS(RV_ERR_ARG, "edges is NULL");
    l.config.kind = RV_GNN_GAT;
    FAILS(RV_ERR_DIM, "GAT has no edges");
    l.config.kind = RV_GNN_GATV2;
    io = l.io;
    io.graph = NULL;
    FAILS(RV_ERR_ARG, "graph or its start");
    io.graph = &graph;
    graph.cols = 6;
    FAILS(RV_ERR_DIM, "7 rows and 6 columns");
    io.x_dst = l.x_dst;
    FAILS(RV_ERR_ARG, "index[12] is 6; it must be below 6");
    RV_EQUAL(ctx.where, 12);
    graph.cols = NODES;
    graph.index = NULL;
    FAILS(RV_ERR_ARG, "index is NULL");
    graph.index = index;
    start[4] = 2;
    FAILS(RV_ERR_ARG, "falls after row 3");
    start[4] = square_start[4];
    start[0] = 1;
    FAILS(RV_ERR_ARG, "start[0] is 1");
    start[0] = 0;
#if SIZE_MAX > 0xFFFFFFFFu
    graph.rows = (size_t)1 << 33;
    FAILS(RV_ERR_DIM, "below 2^32");
    graph.rows = NODES;
#endif
    io = l.io;
    io.x = NULL;
    FAILS(RV_ERR_ARG, "x or params");
    io = l.io;
    io.params = NULL;
    FAILS(RV_ERR_ARG, "x or params");
    io = l.io;
    io.out = NULL;
    FAILS(RV_ERR_ARG, "out is NULL");
#undef FAILS
    RV_FAILS(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, NULL), RV_ERR_ARG, "grad or d_out");
    l.grad.d_edges = l.edges;
    RV_FAILS(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad), RV_ERR_ARG, "edge_dim is 0");
    l.grad.d_edges = NULL;
    l.grad.d_x_dst = l.x_dst;
    RV_FAILS(&ctx, rv_gnn_backward(&ctx, &l.config, &l.io, &l.grad), RV_ERR_ARG, "no x_dst");
    l.grad.d_x_dst = NULL;
    for (size_t i = 0; i < l.n_out; i++) RV_EQUAL(finite_all(l.out + i, 1), 0);
    RV_EQUAL(rv_gnn_run(NULL, &l.config, &l.io), RV_OK);
    RV_EQUAL(rv_gnn_backward(NULL, &l.config, &l.io, &l.grad), RV_OK);
    /* no destinations: nothing to do, and slopes of zero */
    graph_set(&graph, 0, NODES, square_start, square_index);
    io = l.io;
    io.graph = &graph;
    io.out = NULL;
    RV_OKAY(&ctx, rv_gnn_run(&ctx, &l.config, &io));
    l.grad.d_out = NULL;
    RV_OKAY(&ctx, rv_gnn_backward(&ctx, &l.config, &io, &l.grad));
    for (size_t i = 0; i < l.n_params; i++) RV_NEAR(l.d_params[i], 0, 0);
    for (size_t i = 0; i < NODES * DIM; i++) RV_NEAR(l.d_x[i], 0, 0);
    layer_free(&l);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    layer *l = (layer *)arg;
    rv_status status;
    rv_gnn_grad grad = l->grad;
    grad.d_out = l->d_out;
    status = rv_gnn_init(ctx, &l->config, &l->io, l->params);
    if (!status) status = rv_gnn_run(ctx, &l->config, &l->io);
    if (!status) status = rv_gnn_backward(ctx, &l->config, &l->io, &grad);
    return status;
}

static void test_faults(void)
{
    for (int kind = 0; kind < 4; kind++) {
        layer l;
        memset(&l, 0, sizeof l);
        l.config.kind = (rv_gnn_kind)kind;
        l.config.heads = 3;
        l.config.beta = kind == RV_GNN_TRANSFORMER;
        l.io.dim = 11;
        l.io.edge_dim = kind == RV_GNN_GAT ? 0 : 2;
        graph_random(&l.graph, 40, 50, 5);
        layer_make(&l, 1);
        RV_EQUAL(rv_test_oom_sweep(sweep, &l), 3);
        RV_CHECK(rv_test_cancel_sweep(sweep, &l) > 12);
        graph_free(&l.graph);
        layer_free(&l);
    }
}

int main(void)
{
    rv_test_begin("gnn");
    RV_RUN(test_golden);
    RV_RUN(test_slopes);
    RV_RUN(test_large);
    RV_RUN(test_common);
    RV_RUN(test_shift);
    RV_RUN(test_zero_edges);
    RV_RUN(test_dynamic);
    RV_RUN(test_permutation);
    RV_RUN(test_init);
    RV_RUN(test_config_errors);
    RV_RUN(test_io_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
