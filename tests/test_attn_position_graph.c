/* Graphormer's attention: torch, a definition in double by other algorithms, its slopes,
   relabelling, faults. */
#include "attn_position_set.h"

#include "golden/attn_position_graph.h"

enum { MOST = 40, WIDTH = 3 };

/* A graph, its features, and the problem over it. */
typedef struct graph_problem {
    problem p;
    rv_attn_structural_config config;
    rv_csr graph;
    uint32_t start[MOST + 1], index[MOST * 4];
    float edges[MOST * 4 * WIDTH], d_edges[MOST * 4 * WIDTH];
    double hops[MOST][MOST];
    double bias[4 * MOST * MOST];
} graph_problem;

static graph_problem z, other; /* too large for small stacks */

/* Hops by Floyd and Warshall. */
static void measure(graph_problem *g)
{
    const size_t n = g->graph.rows;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) g->hops[i][j] = i == j ? 0 : 1e9;
    for (size_t i = 0; i < n; i++)
        for (uint32_t e = g->start[i]; e < g->start[i + 1]; e++)
            if (g->index[e] != i) g->hops[i][g->index[e]] = 1;
    for (size_t m = 0; m < n; m++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                if (g->hops[i][m] + g->hops[m][j] < g->hops[i][j])
                    g->hops[i][j] = g->hops[i][m] + g->hops[m][j];
}

/* The biases, walking every path from its start, always to the first neighbour that is nearer. */
static double structural_loss(void *arg)
{
    graph_problem *g = (graph_problem *)arg;
    const size_t n = g->graph.rows, heads = heads_of(&g->p), limit = g->config.max_hops;
    const float *w = g->p.params + heads * (limit + 2);
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < n; j++) {
                const double hops = g->hops[i][j];
                const size_t at = hops > (double)limit ? limit + 1 : (size_t)hops;
                double sum = 0;
                size_t u = i;
                for (size_t t = 0; g->config.edges && at <= limit && t < at; t++) {
                    uint32_t e = g->start[u];
                    while (g->hops[g->index[e]][j] != hops - (double)t - 1) e++;
                    for (size_t x = 0; x < WIDTH; x++)
                        sum += (double)g->edges[e * WIDTH + x] *
                               (double)w[(h * limit + t) * WIDTH + x];
                    u = g->index[e];
                }
                g->bias[(h * n + i) * n + j] =
                    (double)g->p.params[h * (limit + 2) + at] + (at ? sum / (double)at : 0);
            }
        }
    }
    g->p.bias = g->bias;
    return loss_of(&g->p);
}

static void set_up_graph(graph_problem *g, size_t n, uint32_t limit, int with_edges,
                         rv_test_rng *rng)
{
    problem *p = &g->p;
    p->kind = STRUCTURE;
    p->io.n_q = p->io.n_k = n;
    p->base.heads = 2;
    p->base.kv_heads = 1;
    p->n_params = 2 * (limit + 2) + (with_edges ? 2 * limit * WIDTH : 0);
    set_up(p, rng);
    g->graph.rows = g->graph.cols = n;
    g->graph.start = g->start;
    g->graph.index = g->index;
    g->graph.value = NULL;
    g->config.graph = &g->graph;
    g->config.max_hops = limit;
    g->config.edges = with_edges ? g->edges : NULL;
    g->config.edge_dim = with_edges ? WIDTH : 0;
    g->config.d_edges = with_edges ? g->d_edges : NULL;
    g->config.params = p->params;
}

static void drop_graph(graph_problem *g)
{
    g->p.bias = NULL;
    drop(&g->p);
}

static void test_golden(void)
{
    static const uint32_t start[7] = {0, 2, 4, 5, 6, 7, 7}, index[7] = {1, 2, 0, 3, 3, 4, 0};
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (int with_edges = 0; with_edges < 2; with_edges++) {
        problem *p = &z.p;
        rv_test_row("golden", (size_t)with_edges);
        memset(&z, 0, sizeof z);
        p->io.dim = 6;
        p->io.dim_v = 4;
        set_up_graph(&z, 6, 3, with_edges, &rng);
        memcpy(z.start, start, sizeof start);
        memcpy(z.index, index, sizeof index);
        grid(1, p->q, 72);
        grid(2, p->k, 36);
        grid(3, p->v, 24);
        grid(4, p->params, p->n_params);
        grid(5, z.edges, 21);
        grid(9, p->d_out, 48);
        z.config.base = p->base;
        RV_EQUAL(rv_attn_structural_params(&z.config, &p->io), p->n_params);
        RV_OKAY(&ctx, rv_attn_structural(&ctx, &z.config, &p->io));
        CHECK_ALL(p->out, rv_golden_structural[with_edges].out, 48, 5e-6);
        CHECK_ALL(p->weights, rv_golden_structural[with_edges].weights, 72, 5e-6);
        RV_OKAY(&ctx, rv_attn_structural_backward(&ctx, &z.config, &p->io, &p->grad));
        CHECK_ALL(p->d_q, rv_golden_structural[with_edges].d_q, 72, 1e-5);
        CHECK_ALL(p->d_k, rv_golden_structural[with_edges].d_k, 36, 1e-5);
        CHECK_ALL(p->d_v, rv_golden_structural[with_edges].d_v, 24, 1e-5);
        CHECK_ALL(p->d_params, rv_golden_structural[with_edges].d_params, p->n_params, 1e-5);
        if (with_edges) CHECK_ALL(z.d_edges, rv_golden_structural[1].d_edges, 21, 1e-5);
        drop_graph(&z);
    }
}

/* n nodes, up to three edges from each, a loop among them. */
static void random_graph(graph_problem *g, size_t n, size_t degree, rv_test_rng *rng)
{
    uint32_t at = 0;
    g->start[0] = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            if (rv_test_below(rng, n) < degree && at < g->start[i] + 3)
                g->index[at++] = (uint32_t)j;
        g->start[i + 1] = at;
    }
    rv_test_fill(rng, g->edges, MOST * 4 * WIDTH);
}

static void test_definition(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (size_t row = 0; row < 12; row++) {
        static uint16_t hops[MOST * MOST];
        const size_t n = row < 4 ? 6 : row * 3;
        const uint32_t limit = (uint32_t)(1 + row % 5);
        rv_test_row("graph", row);
        if (RV_TEST_SCALE > 16 && row > 5) break;
        memset(&z, 0, sizeof z);
        z.p.io.dim = 5;
        z.p.base.softcap = row % 3 == 2 ? 1.0f : 0.0f;
        set_up_graph(&z, n, limit, row % 4 != 0, &rng);
        random_graph(&z, n, 2, &rng);
        measure(&z);
        if (row % 3 == 1) {
            z.p.mask.allow = z.p.allow;
            z.p.mask.allow_head = n * n;
            z.p.io.mask = &z.p.mask;
        }
        z.config.base = z.p.base;
        RV_OKAY(&ctx, rv_attn_hops(&ctx, &z.graph, limit, hops));
        for (size_t x = 0; x < n * n; x++)
            RV_EQUAL(hops[x], z.hops[x / n][x % n] > limit ? limit + 1 : z.hops[x / n][x % n]);
        RV_OKAY(&ctx, rv_attn_structural(&ctx, &z.config, &z.p.io));
        (void)structural_loss(&z);
        check_forward(&z.p, 2e-6);
        RV_OKAY(&ctx, rv_attn_structural_backward(&ctx, &z.config, &z.p.io, &z.p.grad));
        if (row < 4) {
            problem *p = &z.p;
            const double h = 1.0 / 64, e = 2e-5;
            check_slopes(structural_loss, &z, p->q, p->d_q, n * 2 * 5, h, e);
            check_slopes(structural_loss, &z, p->k, p->d_k, n * 5, h, e);
            check_slopes(structural_loss, &z, p->v, p->d_v, n * 5, h, e);
            check_slopes(structural_loss, &z, p->params, p->d_params, p->n_params, h, e);
            if (z.config.edges)
                check_slopes(structural_loss, &z, z.edges, z.d_edges, z.start[n] * WIDTH, h, e);
        }
        drop_graph(&z);
    }
}

/* Tables of zero, or none, are rv_attn; other names of the nodes of a tree change only places;
   equal keys share the weight; values of one give one; a row that sees nothing gives zeros. */
static void test_identities(void)
{
    static float out[20 * 10];
    uint32_t name[20], from[20];
    rv_ctx ctx;
    rv_test_rng rng;
    rv_attn_io io;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    memset(&z, 0, sizeof z);
    z.p.io.dim = 5;
    set_up_graph(&z, 20, 4, 1, &rng);
    z.config.base = z.p.base;
    for (uint32_t i = 0; i < 20; i++) { /* node i points to 2 i + 1 and 2 i + 2 */
        z.start[i + 1] = z.start[i];
        for (uint32_t c = 2 * i + 1; c < 2 * i + 3 && c < 20; c++) z.index[z.start[i + 1]++] = c;
    }
    rv_test_fill(&rng, z.edges, 19 * WIDTH);
    for (int none = 0; none < 2; none++) {
        float *params = z.p.params;
        memcpy(out, params, 34 * sizeof(float));
        memset(params, 0, z.p.n_params * sizeof(float));
        z.config.params = none ? NULL : params;
        RV_OKAY(&ctx, rv_attn_structural(&ctx, &z.config, &z.p.io));
        memcpy(params, out, 34 * sizeof(float));
        memcpy(out, z.p.out, sizeof out);
        RV_OKAY(&ctx, rv_attn_structural_backward(&ctx, &z.config, &z.p.io, &z.p.grad));
        RV_OKAY(&ctx, rv_attn(&ctx, &z.p.base, &z.p.io));
        for (size_t x = 0; x < 200; x++) RV_NEAR(z.p.out[x], out[x], 1e-6);
    }
    z.config.params = z.p.params;
    RV_OKAY(&ctx, rv_attn_structural(&ctx, &z.config, &z.p.io));
    memcpy(out, z.p.out, sizeof out);
    for (uint32_t i = 0; i < 20; i++) name[i] = (i * 7 + 3) % 20;
    for (uint32_t i = 0; i < 20; i++) from[name[i]] = i;
    { /* the same tree, node i called name[i] */
        uint32_t at = 0;
        memset(&other, 0, sizeof other);
        other.p.io.dim = 5;
        set_up_graph(&other, 20, 4, 1, &rng);
        other.config.base = other.p.base;
        memcpy(other.p.params, z.p.params, z.p.n_params * sizeof(float));
        for (uint32_t i = 0; i < 20; i++) {
            const uint32_t u = from[i];
            memcpy(other.p.q + i * 10, z.p.q + u * 10, 10 * sizeof(float));
            memcpy(other.p.k + i * 5, z.p.k + u * 5, 5 * sizeof(float));
            memcpy(other.p.v + i * 5, z.p.v + u * 5, 5 * sizeof(float));
            for (uint32_t j = 0; j < 20; j++) {
                for (uint32_t e = z.start[u]; e < z.start[u + 1]; e++) {
                    if (name[z.index[e]] != j) continue;
                    memcpy(other.edges + at * WIDTH, z.edges + e * WIDTH, WIDTH * sizeof(float));
                    other.index[at++] = j;
                }
            }
            other.start[i + 1] = at;
        }
        RV_OKAY(&ctx, rv_attn_structural(&ctx, &other.config, &other.p.io));
        for (size_t i = 0; i < 20; i++)
            for (size_t x = 0; x < 10; x++)
                RV_NEAR(other.p.out[name[i] * 10 + x], out[i * 10 + x], 1e-6);
        drop_graph(&other);
    }
    memset(z.p.params, 0, z.p.n_params * sizeof(float));
    memset(z.p.k, 0, 100 * sizeof(float));
    for (size_t x = 0; x < 100; x++) z.p.v[x] = 1.0f;
    memset(z.p.allow, 1, 800);
    memset(z.p.allow, 0, 20);
    z.p.mask.allow = z.p.allow;
    z.p.mask.allow_head = 400;
    z.p.io.mask = &z.p.mask;
    RV_OKAY(&ctx, rv_attn_structural(&ctx, &z.config, &z.p.io));
    for (size_t x = 0; x < 20; x++) RV_CHECK(z.p.weights[x] == 0.0f);
    for (size_t x = 0; x < 5; x++) RV_CHECK(z.p.out[x] == 0.0f);
    for (size_t x = 20; x < 800; x++) RV_NEAR(z.p.weights[x], 0.05, 2e-8);
    for (size_t x = 5; x < 200; x++) RV_NEAR(z.p.out[x], 1, 4e-7);
    io = z.p.io;
    io.mask = NULL;
    io.n_q = io.n_k = z.graph.rows = z.graph.cols = 1;
    z.start[1] = 0;
    RV_OKAY(&ctx, rv_attn_structural(&ctx, &z.config, &io));
    RV_CHECK(z.p.weights[0] == 1.0f && z.p.weights[1] == 1.0f);
    drop_graph(&z);
}

static void test_centrality(void)
{
    static const uint32_t start[5] = {0, 3, 4, 4, 5}, index[5] = {1, 2, 3, 2, 2};
    static const size_t in[4] = {0, 1, 2, 1}, away[4] = {2, 1, 0, 1}; /* degrees, at most 2 */
    float h[12], out[12], z_in[9], z_out[9], d_in[9], d_out[9];
    const rv_csr graph = {4, 4, start, index, NULL};
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(1, h, 12);
    grid(2, z_in, 9);
    grid(3, z_out, 9);
    RV_OKAY(&ctx, rv_attn_centrality(&ctx, &graph, 2, 3, z_in, z_out, h, out));
    for (size_t x = 0; x < 12; x++)
        RV_NEAR(out[x], h[x] + z_in[in[x / 3] * 3 + x % 3] + z_out[away[x / 3] * 3 + x % 3], 1e-6);
    RV_OKAY(&ctx, rv_attn_centrality(&ctx, &graph, 2, 3, z_in, NULL, h, out));
    for (size_t x = 0; x < 12; x++) RV_NEAR(out[x], h[x] + z_in[in[x / 3] * 3 + x % 3], 1e-6);
    RV_OKAY(&ctx, rv_attn_centrality_backward(&ctx, &graph, 2, 3, h, d_in, d_out));
    for (size_t x = 0; x < 9; x++) {
        double want_in = 0, want_out = 0;
        for (size_t i = 0; i < 4; i++) {
            if (in[i] == x / 3) want_in += (double)h[i * 3 + x % 3];
            if (away[i] == x / 3) want_out += (double)h[i * 3 + x % 3];
        }
        RV_NEAR(d_in[x], want_in, 1e-6);
        RV_NEAR(d_out[x], want_out, 1e-6);
    }
    RV_OKAY(&ctx, rv_attn_centrality_backward(&ctx, &graph, 2, 3, h, d_in, NULL));
    RV_FAILS(&ctx, rv_attn_centrality(&ctx, &graph, 0, 3, z_in, NULL, h, out), RV_ERR_ARG,
             "max_degree is 0");
    RV_FAILS(&ctx, rv_attn_centrality(&ctx, &graph, 2, 3, NULL, NULL, h, out), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_attn_centrality_backward(&ctx, &graph, 2, 3, NULL, d_in, NULL), RV_ERR_ARG,
             "NULL");
    RV_FAILS(&ctx, rv_attn_centrality(&ctx, NULL, 2, 3, z_in, NULL, h, out), RV_ERR_ARG, "NULL");
}

/* ---- faults ---- */

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static rv_status all(rv_ctx *ctx, void *arg)
{
    graph_problem *g = (graph_problem *)arg;
    static uint16_t hops[MOST * MOST];
    rv_status status = rv_attn_structural(ctx, &g->config, &g->p.io);
    if (!status) status = rv_attn_structural_backward(ctx, &g->config, &g->p.io, &g->p.grad);
    if (!status) status = rv_attn_hops(ctx, &g->graph, 3, hops);
    if (!status)
        status = rv_attn_centrality(ctx, &g->graph, 3, 4, g->p.params, NULL, g->edges, g->d_edges);
    if (!status)
        status = rv_attn_centrality_backward(ctx, &g->graph, 3, 2, g->p.q, g->d_edges, NULL);
    return status;
}

static void test_faults(void)
{
    static float d_k[200], d_params[60];
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    memset(&z, 0, sizeof z);
    z.p.io.dim = 5;
    set_up_graph(&z, 20, 4, 1, &rng);
    random_graph(&z, 20, 2, &rng);
    z.config.base = z.p.base;
    RV_OKAY(&ctx, all(&ctx, &z));
    memcpy(d_k, z.p.d_k, 100 * sizeof(float));
    memcpy(d_params, z.p.d_params, z.p.n_params * sizeof(float));
    ctx.parallel = backwards;
    ctx.workers = 3;
    RV_OKAY(&ctx, all(&ctx, &z));
    RV_CHECK(memcmp(d_k, z.p.d_k, 100 * sizeof(float)) == 0);
    RV_CHECK(memcmp(d_params, z.p.d_params, z.p.n_params * sizeof(float)) == 0);
    RV_CHECK(rv_test_oom_sweep(all, &z) > 20);
    RV_CHECK(rv_test_cancel_sweep(all, &z) > 8);
    drop_graph(&z);
}

static void test_errors(void)
{
    float params[40];
    rv_ctx ctx;
    rv_test_rng rng;
    rv_csr bad;
    uint32_t start;
    uint16_t hops[400];
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    memset(&z, 0, sizeof z);
    z.p.io.dim = 5;
    set_up_graph(&z, 20, 4, 1, &rng);
    random_graph(&z, 20, 2, &rng);
    z.config.base = z.p.base;
    bad = z.graph;
    bad.cols = 21;
#define REFUSED(field, value, wanted, word)                                                        \
    do {                                                                                           \
        rv_attn_structural_config was = z.config;                                                  \
        rv_attn_io io_was = z.p.io;                                                                \
        field = value;                                                                             \
        z.p.out[0] = 5.0f;                                                                         \
        RV_FAILS(&ctx, rv_attn_structural(&ctx, &z.config, &z.p.io), wanted, word);                \
        RV_FAILS(&ctx, rv_attn_structural_backward(&ctx, &z.config, &z.p.io, &z.p.grad), wanted,   \
                 word);                                                                            \
        RV_CHECK(z.p.out[0] == 5.0f);                                                              \
        z.config = was;                                                                            \
        z.p.io = io_was;                                                                           \
    } while (0)
    REFUSED(z.config.graph, NULL, RV_ERR_ARG, "graph is NULL");
    REFUSED(z.config.graph, &bad, RV_ERR_DIM, "21 columns");
    REFUSED(z.p.io.n_q, 19, RV_ERR_DIM, "n_q is 19");
    REFUSED(z.p.io.dim, 0, RV_ERR_DIM, "dim is 0");
    REFUSED(z.config.max_hops, 65535, RV_ERR_CONFIG, "max_hops is 65535");
    REFUSED(z.config.edge_dim, 0, RV_ERR_CONFIG, "edge_dim is 0");
    REFUSED(z.config.edges, NULL, RV_ERR_CONFIG, "edge_dim is 3");
    z.config.edge_dim = 0;
    REFUSED(z.config.edges, NULL, RV_ERR_CONFIG, "d_edges is given");
    z.config.edge_dim = WIDTH;
    start = z.start[1];
    z.start[1] = 77;
    REFUSED(z.config.base.heads, 2, RV_ERR_ARG, "start[2]");
    z.start[1] = start;
#undef REFUSED
    RV_FAILS(&ctx, rv_attn_structural(&ctx, NULL, &z.p.io), RV_ERR_ARG, "config is NULL");
    RV_FAILS(&ctx, rv_attn_structural_backward(&ctx, &z.config, &z.p.io, NULL), RV_ERR_ARG,
             "grad is NULL");
    RV_FAILS(&ctx, rv_attn_hops(&ctx, &z.graph, 0, hops), RV_ERR_ARG, "limit is 0");
    RV_FAILS(&ctx, rv_attn_hops(&ctx, &z.graph, 3, NULL), RV_ERR_ARG, "hops is NULL");
    bad.rows = bad.cols = 0;
    RV_OKAY(&ctx, rv_attn_hops(&ctx, &bad, 3, NULL));
    RV_EQUAL(rv_attn_structural_params(NULL, NULL), 22);
    RV_EQUAL(rv_attn_structural_params(&z.config, &z.p.io), 12 + 24);
    RV_OKAY(&ctx, rv_attn_structural_init(&ctx, &z.config, &z.p.io, params));
    for (size_t x = 0; x < 36; x++)
        RV_CHECK(params[x] != 0.0f && fabsf(params[x]) <= (x < 12 ? 0.8661f : 0.9259f));
    RV_FAILS(&ctx, rv_attn_structural_init(&ctx, &z.config, &z.p.io, NULL), RV_ERR_ARG, "NULL");
    drop_graph(&z);
}

int main(void)
{
    rv_test_begin("attn_position_graph");
    RV_RUN(test_golden);
    RV_RUN(test_definition);
    RV_RUN(test_identities);
    RV_RUN(test_centrality);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    return rv_test_end();
}
