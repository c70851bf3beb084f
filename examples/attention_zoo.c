/* Weights of every attention mechanism for 32 points that go round a circle twice, on one sheet:
       cc -O2 -I. examples/attention_zoo.c -o zoo -lm && ./zoo > zoo.svg                          */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 32, DIM = 8, STEP = 5 * N + 40, PARAMS = 1 << 14 };
static float x[N * DIM], out[N * 4 * DIM], weights[8 * N * N], params[PARAMS], hops[N];
static uint32_t start[N + 1], column[2 * N];
static uint8_t layer[N], blocks[16] = {1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1};
static rv_csr ring = {N, N, start, column, NULL};
static rv_gate gate;
static union { /* each begins with the first */
    rv_attn_config base;
    rv_attn_sparse_config sparse;
    rv_attn_gnn_config gnn;
    rv_attn_graph_rope_config graph_rope;
    rv_attn_layer_config layer;
    rv_attn_structural_config structural;
    rv_attn_cross_config cross;
    rv_attn_topology_config topology;
    unsigned char bytes[1024];
} config;

/* What some cannot do without: a ring of edges, layers, blocks, a gate, parameters. */
static rv_status run(rv_ctx *ctx, const rv_attn_kind *kind)
{
    const unsigned number = kind->number, on_graph = number >= 30 && number <= 33;
    const float *tensors = params;
    rv_attn_io io = {N, N, DIM, 0, x, x, x, RV_DTYPE_F32, 0, 0, 0, 0, NULL, out, weights, NULL};
    if (number == 7 || on_graph) io.v = NULL; /* values are made of the keys */
    if (number == 12) io.weights = NULL;      /* a ring sees a part of them at a time */
    if (number == 10) config.base.softcap = 2.0f;
    if (number == 20 || number == 21) config.sparse.window = 8;
    if (number == 24 || number == 25) config.sparse.block = number == 24 ? 2 : N / 4;
    if (number == 25) config.sparse.blocks = blocks;
    if (number == 27) config.sparse.graph = &ring;
    if (on_graph) config.gnn.graph = &ring;
    if (number == 32) config.gnn.edges = x, config.gnn.edge_dim = 1;
    if (number == 35) config.graph_rope.distance = hops;
    if (number == 38) config.layer.q_layer = config.layer.k_layer = layer;
    if (number == 39) config.structural.graph = &ring;
    if (number == 40) config.cross.graph = &ring;
    if (number == 55) config.topology.gate = &gate;
    if (kind->params) {
        memcpy(config.bytes + kind->params_at, &tensors, sizeof tensors);
        if (kind->params(&config, &io) > PARAMS || kind->init(ctx, &config, &io, params))
            return RV_ERR_CONFIG;
    }
    return kind->run(ctx, &config, &io);
}

int main(void)
{
    rv_ctx ctx = {0};
    const rv_attn_kind *kind;
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t d = 0; d < DIM; d++)
            x[i * DIM + d] = (float)cos((d / 2 + 1) * i * 12.566 / N + d % 2 * 1.571);
        column[2 * i] = i == 0 ? 1 : i == N - 1 ? 0 : i - 1;
        column[2 * i + 1] = i == 0 ? N - 1 : i == N - 1 ? i - 1 : i + 1;
        start[i + 1] = 2 * (i + 1), hops[i] = (float)(i % 8), layer[i] = i % 8 == 0;
    }
    if (rv_gate_init(&ctx, &gate, NULL)) return 1;
    printf("<svg xmlns='http://www.w3.org/2000/svg' viewBox='-20 -20 1620 1420'>\n");
    for (int t = 0; (kind = rv_attn_kind_at((size_t)t)) != NULL; t++) {
        memset(&config, 0, sizeof config), memset(weights, 0, sizeof weights);
        if (run(&ctx, kind)) return fprintf(stderr, "%s: %s\n", kind->name, ctx.message);
        printf("<g transform='translate(%d,%d)'><text y='-4'>%u %s</text>\n", t % 8 * STEP,
               t / 8 * STEP, (unsigned)kind->number, kind->name);
        for (int i = 0; i < N * N; i++)
            if (weights[i] > 0.01f)
                printf("<rect x='%d' y='%d' width='5' height='5' fill-opacity='%.2f'/>\n",
                       i % N * 5, i / N * 5, fmin(1.0, 4.0 * (double)weights[i]));
        printf("<rect width='160' height='160' fill='none' stroke='#999'/></g>\n");
    }
    return printf("</svg>\n") < 0;
}
