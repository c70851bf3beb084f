#ifndef RV_GNN_H
#define RV_GNN_H
#include "base.h"
#include "csr.h"

/* >>gnn  Graph attention layers: each destination i takes a weighted mean of its sources j, the
   columns of row i of the graph, by softmax of a logit per edge and head h. With C = dim_out

       GAT          s_ij = leaky(a_src . W x_j + a_dst . W x_i)       m_i = sum of w_ij W x_j
       EDGE_GAT     s_ij = leaky(... + a_edge . W_e e_ij)             as GAT
       GATV2        s_ij = a . leaky(W_l x_j + W_r x_i + W_e e_ij)    m_i = sum of w_ij W_l x_j
       TRANSFORMER  s_ij = q_i . (k_j + W_e e_ij) / sqrt(C)           ... w_ij (v_j + W_e e_ij)

   each with its own part of W (C rows) per head; leaky(z) = z or, below 0, slope * z; q, k, v and
   GATV2's W x with biases. Heads stand side by side or are averaged; then out_i = act(m_i + bias)
   or, of the TRANSFORMER with r_i = W_s x_i + b_s, act(m_i + r_i) or, with the beta gate
   b = sigmoid(g . [m_i, r_i, m_i - r_i]), act(b r_i + (1 - b) m_i).

   GAT ranks the sources alike for every destination; GATV2 ranks them anew for each. Rows without
   entry and self loop give m_i = 0. NaN and +infinity among a row's logits make its outputs NaN.
   Errors are those of float products and sums over dim, C and the row. The same bits for any
   number of threads. Cost per call: rows times dim times heads C, and edges times heads C; memory
   of about the projected rows, and of edges where they have features. Thread class: pure.

   Two layers, sources and destinations the same nodes, edges of a square graph:

       rv_csr graph = {0};
       rv_gnn_config config = {0};
       rv_gnn_io io = {0};
       config.dim_out = 16;
       io.graph = &graph;  io.dim = 64;  io.x = vectors;
       rv_gnn_init(ctx, &config, &io, params);
       io.params = params;  io.out = out;
       rv_gnn_run(ctx, &config, &io);

   Sources: Velickovic et al., Graph attention networks, 2018; Brody, Alon, Yahav, How attentive
   are graph attention networks?, 2022; Shi et al., Masked label prediction (UniMP), 2021, whose
   norm and ReLU after the layer are the caller's; edge features of GAT and of self loops as in
   PyTorch Geometric. */

typedef enum rv_gnn_kind {
    RV_GNN_GAT = 0,
    RV_GNN_GATV2 = 1,       /* edge features optional                                         */
    RV_GNN_EDGE_GAT = 2,    /* GAT with edge features                                         */
    RV_GNN_TRANSFORMER = 3  /* edge features optional                                         */
} rv_gnn_kind;

/* One row per kind. */
typedef struct rv_gnn_info {
    const char *name;   /* "gat", ... */
    const char *cost;
    const char *source; /* paper      */
} rv_gnn_info;
RV_API const rv_gnn_info *rv_gnn_kind_at(size_t i); /* NULL past the end */

/* Self loops: destination i also reads source i, i < rows and columns of the graph, which then must
   mean the same node. An entry (i, i) of the graph is replaced by the loop, whose edge features are
   the mean of those of the row's other entries, zeros where there are none. */
typedef enum rv_gnn_loops {
    RV_GNN_LOOPS_PAPER = 0, /* on; of TRANSFORMER off                                         */
    RV_GNN_LOOPS_ON = 1,
    RV_GNN_LOOPS_OFF = 2
} rv_gnn_loops;

typedef enum rv_gnn_act {
    RV_GNN_ACT_NONE = 0,
    RV_GNN_ACT_ELU = 1 /* x or, below 0, exp(x) - 1                                           */
} rv_gnn_act;

/* Zero is the default of every field. */
typedef struct rv_gnn_config {
    rv_gnn_kind kind;
    uint32_t heads;     /* 1..65535; default 4                                                */
    size_t dim_out;     /* of a head, 1..65535; default dim                                   */
    float slope;        /* of leaky, above 0; default 0.2; not of TRANSFORMER                 */
    rv_gnn_loops loops;
    rv_gnn_act act;
    int mean;           /* non-zero: the mean of the heads instead of all of them             */
    int share;          /* non-zero: one W for sources and destinations (GATV2, and GAT with
                           x_dst; GAT without it always has one); not of TRANSFORMER          */
    int beta;           /* TRANSFORMER: the gate                                              */
    int no_skip;        /* TRANSFORMER: without r_i; not with beta                            */
} rv_gnn_config;

/* With width = heads * dim_out, or dim_out when `mean`. out must not overlap anything else. */
typedef struct rv_gnn_io {
    const rv_csr *graph; /* [n_dst, n_src], columns ascending; values are not looked at       */
    size_t dim;          /* of sources, 1..65535                                              */
    size_t dim_dst;      /* of destinations, with x_dst; default dim                          */
    size_t edge_dim;     /* of edge features, up to 65535; default: none                      */
    const float *x;      /* [n_src, dim]                                                      */
    const float *x_dst;  /* [n_dst, dim_dst]; default: the first n_dst rows of x              */
    const float *edges;  /* [nnz, edge_dim] in the order of the graph's entries               */
    const float *params; /* [rv_gnn_params()]                                                 */
    float *out;          /* [n_dst, width]                                                    */
    float *weights;      /* [heads, nnz] of the graph's entries, 0 for one that a self loop
                            replaces; NULL: not wanted                                        */
    float *loops;        /* [heads, n_dst] of self loops, 0 where there is none; NULL: not
                            wanted. A row's weights and its loop's add up to 1                */
} rv_gnn_io;

/* Number of parameters, row-major tensors one after the other, H = heads, C = dim_out; those in
   brackets only where they are used:
       GAT          W [H C, dim], [W of x_dst, not shared [H C, dim_dst]], a_src [H, C],
                    a_dst [H, C], bias [width]
       EDGE_GAT     W, [W of x_dst], W_e [H C, edge_dim], a_src, a_dst, a_edge [H, C], bias
       GATV2        W_l [H C, dim], b_l [H C], [not shared: W_r [H C, dim_dst], b_r [H C]],
                    [W_e [H C, edge_dim]], a [H, C], bias [width]
       TRANSFORMER  W_k [H C, dim], b_k [H C], W_q [H C, dim_dst], b_q, W_v [H C, dim], b_v,
                    [W_e [H C, edge_dim]], [W_s [width, dim_dst], b_s [width]], [g [3 width]]
   Reads dims and x_dst of io only. SIZE_MAX when there are too many. */
RV_API size_t rv_gnn_params(const rv_gnn_config *config, const rv_gnn_io *io);
/* Xavier uniform, |p| <= sqrt(6 / (rows + columns)), from ctx->seed; biases 0. */
RV_API rv_status rv_gnn_init(rv_ctx *ctx, const rv_gnn_config *config, const rv_gnn_io *io,
                             float *params);

/* RV_ERR_CONFIG: a field of config outside its range or without meaning for the kind; RV_ERR_DIM:
   sizes; RV_ERR_ARG: a NULL, a graph whose starts fall or with a column out of range, the row or
   entry in ctx->where. Polls; of a canceled call parts of the outputs have been written. */
RV_API rv_status rv_gnn_run(rv_ctx *ctx, const rv_gnn_config *config, const rv_gnn_io *io);

/* A loss' slopes, written, not added. NULL: not wanted. */
typedef struct rv_gnn_grad {
    const float *d_out; /* [n_dst, width]                                                     */
    float *d_x;         /* [n_src, dim]                                                       */
    float *d_x_dst;     /* [n_dst, dim_dst], with x_dst                                       */
    float *d_edges;     /* [nnz, edge_dim], with edges                                        */
    float *d_params;    /* [rv_gnn_params()]                                                  */
} rv_gnn_grad;
/* io: as given to rv_gnn_run; out, weights and loops are not looked at, the forward pass is done
   once more. Memory besides: 2 heads floats per edge, with edge features and for GATV2
   heads * dim_out more. Nothing is written on failure but of RV_ERR_CANCELED. */
RV_API rv_status rv_gnn_backward(rv_ctx *ctx, const rv_gnn_config *config, const rv_gnn_io *io,
                                 const rv_gnn_grad *grad);

#endif /* RV_GNN_H */
