/* Graph attention layers, forward and backward, on random graphs. ns is one call. */
#include "rv_bench.h"

#include "ruvector.h"

enum { NODES = 10000, DEGREE = 8, DIM = 64, HEADS = 4, C = 16, EDGE = 16 };

typedef struct job {
    const char *name;
    size_t n, dim, c;
    rv_gnn_kind kind;
    size_t edge_dim;
    int backward;
} job;

static const job jobs[] = {
    {"gat_4x8_of_32", 1000, 32, 8, RV_GNN_GAT, 0, 0},
    {"gat_4x16_of_64", 1000, 64, 16, RV_GNN_GAT, 0, 0},
    {"gat", NODES, 64, 16, RV_GNN_GAT, 0, 0},
    {"gatv2", NODES, 64, 16, RV_GNN_GATV2, 0, 0},
    {"edge_gat", NODES, 64, 16, RV_GNN_EDGE_GAT, EDGE, 0},
    {"transformer", NODES, 64, 16, RV_GNN_TRANSFORMER, 0, 0},
    {"gat_back", NODES, 64, 16, RV_GNN_GAT, 0, 1},
    {"gatv2_back", NODES, 64, 16, RV_GNN_GATV2, 0, 1},
};

typedef struct call {
    int backward;
    rv_gnn_config config;
    rv_gnn_io io;
    rv_gnn_grad grad;
} call;

static float x[NODES * DIM], out[NODES * HEADS * C], d_x[NODES * DIM], edges[NODES * DEGREE * EDGE];
static float params[32768], d_params[32768];
static uint32_t start[NODES + 1], column[NODES * DEGREE];

/* DEGREE sources per row, spread over all nodes, ascending. */
static void make_graph(size_t n)
{
    const size_t step = n / DEGREE;
    uint32_t r = 1;
    for (size_t i = 0; i <= n; i++) start[i] = (uint32_t)(i * DEGREE);
    for (size_t e = 0; e < n * DEGREE; e++) {
        r = r * 1664525u + 1013904223u;
        column[e] = (uint32_t)(e % DEGREE * step + (r >> 8) % step);
    }
}

static void run(void *arg)
{
    const call *c = (const call *)arg;
    if (c->backward ? rv_gnn_backward(NULL, &c->config, &c->io, &c->grad)
                    : rv_gnn_run(NULL, &c->config, &c->io))
        exit(2);
    rv_bench_touch(c->backward ? d_x : out);
}

int main(int argc, char **argv)
{
    rv_csr graph;
    rv_bench b;
    rv_bench_begin(&b, "gnn", argc, argv);
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = (float)((i * 2654435761u) & 0xFFFFu) / 32768.0f - 1.0f;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) edges[i] = x[i % (NODES * DIM)];
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        const job *j = &jobs[i];
        const double width = (double)(HEADS * j->c), n = (double)j->n;
        call c;
        if (!rv_bench_wanted(&b, j->name)) continue;
        make_graph(j->n);
        memset(&c, 0, sizeof c);
        graph.rows = graph.cols = j->n;
        graph.start = start;
        graph.index = column;
        graph.value = NULL;
        c.backward = j->backward;
        c.config.kind = j->kind;
        c.config.heads = HEADS;
        c.config.dim_out = j->c;
        c.io.graph = &graph;
        c.io.dim = j->dim;
        c.io.edge_dim = j->edge_dim;
        c.io.edges = edges;
        c.io.x = x;
        c.io.out = out;
        if (rv_gnn_params(&c.config, &c.io) > sizeof params / sizeof *params) exit(2);
        if (rv_gnn_init(NULL, &c.config, &c.io, params)) exit(2);
        c.io.params = params;
        c.grad.d_out = x;
        c.grad.d_x = d_x;
        c.grad.d_params = d_params;
        rv_bench_line(&b, j->name, j->n, j->dim, rv_isa_name(rv_isa_resolve(RV_ISA_BEST)),
                      rv_bench_time(&b, run, &c), n * (double)j->dim * 4.0,
                      2.0 * n * width * (double)(j->dim + DEGREE + 1));
    }
    return rv_bench_end(&b);
}
