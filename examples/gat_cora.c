/* Two graph attention layers name the subjects of papers: the citation graph Cora, with the weights
   that the authors of GAT published. Both are made into one file by tools/cora.py:

       python3 tools/cora.py --gat a_copy_of_PetarV-/GAT --out folder
       cc -O2 -I. examples/gat_cora.c -o gat_cora -lm && GAT_CORA=folder ./gat_cora

   Source: Velickovic et al., Graph attention networks, 2018. */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include "cora.h"
#include <time.h>

int main(void)
{
    const char *folder = getenv("GAT_CORA");
    rv_gnn_config first = {0}, second = {0};
    rv_gnn_io io = {0};
    rv_ctx ctx = {0};
    rv_csr graph;
    cora c;
    float *x, *hidden, *logits, *ones;
    size_t right = 0, width;
    clock_t begin;
    if (!folder) return puts("skipped: GAT_CORA names no folder"), 0;
    if (!cora_open(&c, folder)) return fprintf(stderr, "%s/cora.bin: unreadable\n", folder), 1;
    width = (size_t)c.heads * c.hidden;
    x = (float *)calloc((size_t)c.nodes * c.features, sizeof *x);
    hidden = (float *)malloc(c.nodes * width * sizeof *hidden);
    logits = (float *)malloc((size_t)c.nodes * c.classes * sizeof *logits);
    ones = (float *)malloc(c.edges * sizeof *ones);
    if (!x || !hidden || !logits || !ones) return 2;
    for (size_t i = 0; i < c.nodes; i++)
        for (size_t e = c.x_start[i]; e < c.x_start[i + 1]; e++)
            x[i * c.features + c.x_index[e]] = c.x_value[e];
    for (size_t e = 0; e < c.edges; e++) ones[e] = 1.0f;

    begin = clock();
    graph.rows = graph.cols = c.nodes;
    graph.start = c.start;
    graph.index = c.index;
    graph.value = NULL;
    first.kind = second.kind = RV_GNN_EDGE_GAT;
    first.heads = c.heads;
    first.dim_out = c.hidden;
    first.act = RV_GNN_ACT_ELU;
    io.graph = &graph;
    io.dim = c.features;
    io.edge_dim = 1; /* the authors' logits have a constant: an edge feature of ones */
    io.edges = ones;
    io.x = x;
    io.params = c.params;
    io.out = hidden;
    if (rv_gnn_run(&ctx, &first, &io)) return fprintf(stderr, "%s\n", ctx.message), 1;
    io.params += rv_gnn_params(&first, &io);
    second.heads = 1;
    second.dim_out = c.classes;
    io.dim = width;
    io.x = hidden;
    io.out = logits;
    if (rv_gnn_run(&ctx, &second, &io)) return fprintf(stderr, "%s\n", ctx.message), 1;

    for (size_t t = 0; t < c.tests; t++) {
        const float *row = logits + (size_t)c.test[t] * c.classes;
        uint32_t best = 0;
        for (uint32_t k = 1; k < c.classes; k++) best = row[k] > row[best] ? k : best;
        right += best == c.labels[c.test[t]];
    }
    printf("%u papers, %u citations: %.1f %% of %u test papers right, %.0f ms\n",
           (unsigned)c.nodes, (unsigned)c.edges, 100.0 * (double)right / c.tests,
           (unsigned)c.tests, 1000.0 * (double)(clock() - begin) / CLOCKS_PER_SEC);
    free(c.words);
    free(x);
    free(hidden);
    free(logits);
    free(ones);
    return 0;
}
