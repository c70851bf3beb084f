#ifndef RV_ATTN_POSITION_H
#define RV_ATTN_POSITION_H
#include "attn.h"
#include "base.h"
#include "csr.h"
#include "position.h"

/* >>attn_position  Attention that knows where its tokens stand: in a sequence (RoPE, ALiBi, T5), in
   a graph (RoPE over distances, Graphormer, cross-space) or on the layers of an index. All take
   rv_attn_io and, first in their config, an rv_attn_config, whose fields mean what rv_attn says;
   what is added to a logit here is added after the softcap, before masks. Every softmax mechanism
   has a backward: slopes by q, k and v, and by its parameters in grad->d_params, in the layout of
   `params`. Parameters are the caller's: rv_attn_X_params counts them, rv_attn_X_init fills them,
   matrices uniformly within +-sqrt(6 / (rows + columns)) (Glorot, Bengio, 2010) from ctx->seed,
   other parameters with 0. Errors: those of rv_attn, and RV_ERR_ARG or RV_ERR_CONFIG with the field
   in the message. NaN and infinity in parameters propagate as in logits. Thread class: pure.

   Sources: Su et al., RoFormer, 2021; Press et al., Train short, test long, 2022 (ALiBi); Raffel
   et al., 2020 (T5); Ying et al., Do transformers really perform badly for graph representation,
   2021 (Graphormer); Malkov, Yashunin, 2016 (layers of HNSW). */

/* ---- rope: q_i turned by its position, k_j by its own, then rv_attn ---- */

typedef struct rv_attn_rope_config {
    rv_attn_config base;
    rv_rope_config rope;      /* default: neighbours are pairs, base 10000                        */
    const uint32_t *q_index, *k_index; /* [n_q], [n_k] positions; default: query i at i + past,   */
    const float *q_place, *k_place;    /* where CAUSAL has past = n_k - n_q; key j at j           */
} rv_attn_rope_config;

/* Logits depend on differences of positions alone. Cost of rv_attn and n_q + n_k turns; allocates
   the turned rows, and values too where the type is not F32. */
RV_API rv_status rv_attn_rope(rv_ctx *ctx, const rv_attn_rope_config *config,
                              const rv_attn_io *io);
RV_API rv_status rv_attn_rope_backward(rv_ctx *ctx, const rv_attn_rope_config *config,
                                       const rv_attn_io *io, const rv_attn_grad *grad);

/* ---- graph_rope: queries stand at 0, key j at its distance from the query ---- */

typedef struct rv_attn_graph_rope_config {
    rv_attn_config base;
    rv_rope_config rope;
    const float *distance;    /* hops, weights or layers, 0 or more: [n_k], the same for all
                                 queries, or [n_q, n_k]; required                                 */
    int per_query;            /* non-zero: [n_q, n_k]                                             */
    float max_distance;       /* above 0 to 2^20: farther keys, also at infinity, count as there;
                                 default: none, distances are at most 2^20                        */
} rv_attn_graph_rope_config;

/* Distance 0 for all is rv_attn. Distances are constants to the backward. With per_query a logit
   costs 3 dim products more, and angles are computed anew where a tile of 64 keys has more than
   some ten distances. */
RV_API rv_status rv_attn_graph_rope(rv_ctx *ctx, const rv_attn_graph_rope_config *config,
                                    const rv_attn_io *io);
RV_API rv_status rv_attn_graph_rope_backward(rv_ctx *ctx, const rv_attn_graph_rope_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad);

/* ---- alibi: logit - slope_h |i + past - j| ---- */

typedef struct rv_attn_alibi_config {
    rv_attn_config base;      /* slopes: default rv_attn_slopes(heads)                            */
} rv_attn_alibi_config;

/* The backward's d_params: [heads], by the slopes. */
RV_API rv_status rv_attn_alibi(rv_ctx *ctx, const rv_attn_alibi_config *config,
                               const rv_attn_io *io);
RV_API rv_status rv_attn_alibi_backward(rv_ctx *ctx, const rv_attn_alibi_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad);

/* ---- t5_bias: q . k + params[bucket of j - i - past][h], not divided by sqrt(dim) ---- */

typedef struct rv_attn_t5_config {
    rv_attn_config base;      /* scale: default 1                                                 */
    rv_t5_config t5;          /* default 32 buckets, both ways, up to 128                         */
    const float *params;      /* [buckets, heads], required                                       */
} rv_attn_t5_config;

RV_API size_t rv_attn_t5_params(const rv_attn_t5_config *config, const rv_attn_io *io);
RV_API rv_status rv_attn_t5_init(rv_ctx *ctx, const rv_attn_t5_config *config,
                                 const rv_attn_io *io, float *params);
RV_API rv_status rv_attn_t5(rv_ctx *ctx, const rv_attn_t5_config *config, const rv_attn_io *io);
RV_API rv_status rv_attn_t5_backward(rv_ctx *ctx, const rv_attn_t5_config *config,
                                     const rv_attn_io *io, const rv_attn_grad *grad);

/* ---- hnsw_layer: logit + b_h[layer of i][layer of j] ---- */

typedef struct rv_attn_layer_config {
    rv_attn_config base;
    uint32_t layers;          /* 1..256, default 16                                               */
    const uint8_t *q_layer;   /* [n_q], below layers, required                                    */
    const uint8_t *k_layer;   /* [n_k], below layers, required                                    */
    int gated;                /* non-zero: two branches, keys on layer 0 and those above, each
                                 with weights of its own: out = g out_0 + (1 - g) out_above,
                                 g = sigmoid(u_h . q_i + c_h)                                     */
    const float *params;      /* b: [heads, layers, layers]; gated: then u: [heads, dim],
                                 c: [heads]. NULL: zeros, and g = 1/2                             */
} rv_attn_layer_config;

/* b of -infinity hides a layer from another. With gated, a query that sees no key of one branch
   takes the other one alone (its gate is not learned from), and weights are those of the mixture;
   sinks, raw and lse have no meaning there and are refused. */
RV_API size_t rv_attn_layer_params(const rv_attn_layer_config *config, const rv_attn_io *io);
RV_API rv_status rv_attn_layer_init(rv_ctx *ctx, const rv_attn_layer_config *config,
                                    const rv_attn_io *io, float *params);
RV_API rv_status rv_attn_layer(rv_ctx *ctx, const rv_attn_layer_config *config,
                               const rv_attn_io *io);
RV_API rv_status rv_attn_layer_backward(rv_ctx *ctx, const rv_attn_layer_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad);

/* ---- structural: logit + b_h[hops from i to j] + mean over the path's edges ---- */

typedef struct rv_attn_structural_config {
    rv_attn_config base;
    const rv_csr *graph;      /* [n, n], n = n_q = n_k; entries are edges, values are not looked
                                 at; required                                                     */
    uint32_t max_hops;        /* 1..65534, default 20                                             */
    const float *edges;       /* [entries of graph, edge_dim] features, or NULL                   */
    size_t edge_dim;          /* 1..65535; 0 without edges                                        */
    const float *params;      /* b: [heads, max_hops + 2], the last for what is farther or cannot
                                 be reached; then with edges w: [heads, max_hops, edge_dim];
                                 NULL: zeros                                                      */
    float *d_edges;           /* slopes by edges, written by the backward; NULL: not wanted       */
} rv_attn_structural_config;

/* The edge term of i and j, h hops apart, is the mean over t = 1..h of w_t . features of the t-th
   edge on the shortest path; of several the one whose nodes come first in lexicographic order
   (the paper leaves that open). It is 0 for i = j and where no path is. Cost of rv_attn and
   O(n (n + entries) + heads n^2 edge_dim); allocates 4 heads n^2 bytes, the backward twice that. */
RV_API size_t rv_attn_structural_params(const rv_attn_structural_config *config,
                                        const rv_attn_io *io);
RV_API rv_status rv_attn_structural_init(rv_ctx *ctx, const rv_attn_structural_config *config,
                                         const rv_attn_io *io, float *params);
RV_API rv_status rv_attn_structural(rv_ctx *ctx, const rv_attn_structural_config *config,
                                    const rv_attn_io *io);
RV_API rv_status rv_attn_structural_backward(rv_ctx *ctx, const rv_attn_structural_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad);

/* hops[i, j] = edges on the shortest path from i to j, limit + 1 where that is more than limit or
   there is none. graph: [n, n]; limit: 1..65534. Cost O(n (n + entries)). */
RV_API rv_status rv_attn_hops(rv_ctx *ctx, const rv_csr *graph, uint32_t limit, uint16_t *hops);

/* Graphormer's centrality, added to features before they become q, k and v: out_i = h_i +
   z_in[in-degree of i] + z_out[out-degree of i]. z_in, z_out: [max_degree + 1, dim], larger degrees
   take the last row; z_out NULL: an undirected graph has one degree. h, out: [n, dim], may be the
   same array. max_degree: 1..65535 (the paper: 512). Values of the graph are not looked at. */
RV_API rv_status rv_attn_centrality(rv_ctx *ctx, const rv_csr *graph, size_t max_degree,
                                    size_t dim, const float *z_in, const float *z_out,
                                    const float *h, float *out);
/* d_in, d_out: written, [max_degree + 1, dim], from d: [n, dim], the gradient by out (and by h);
   d_out may be NULL. */
RV_API rv_status rv_attn_centrality_backward(rv_ctx *ctx, const rv_csr *graph, size_t max_degree,
                                             size_t dim, const float *d, float *d_in,
                                             float *d_out);

/* ---- cross_space: neighbours in a graph, neighbours in a latent space, and both ---- */

typedef struct rv_attn_cross_config {
    rv_attn_config base;      /* order, past, windowed, slopes, sinks, raw and, while training,
                                 dropout are refused                                              */
    const rv_csr *graph;      /* [n_q, n_k]: keys next to a query; required                       */
    const rv_csr *near_by;    /* [n_q, n_k]: keys near a query in the latent space; default: the
                                 k_latent nearest by Euclidean distance, itself left out, of equals
                                 those before                                                     */
    uint32_t k_latent;        /* at most 4096; default 10; without near_by only                   */
    const float *latent;      /* [n, latent_dim], n = n_q = n_k, without near_by only; default:
                                 the rows of k, which are F32 then                                */
    size_t latent_dim;
    const float *params;      /* W: [heads * dim_v, 3 * heads * dim_v]; NULL: the mean            */
} rv_attn_cross_config;

/* a = attention of q over its graph neighbours, l = of q over its latent neighbours, c = of a, as
   queries, over the latent neighbours (dim_v must be dim); out = W [a | l | c] or (a + l + c) / 3.
   Without neighbours a part is zeros. weights: the mean of the three; lse is refused. Neighbours
   are constants to the backward. A list given as
   near_by should leave a node itself out. Cost O((entries of graph + 2 n_q k_latent) heads dim),
   the search for neighbours O(n^2 latent_dim). */
RV_API size_t rv_attn_cross_params(const rv_attn_cross_config *config, const rv_attn_io *io);
RV_API rv_status rv_attn_cross_init(rv_ctx *ctx, const rv_attn_cross_config *config,
                                    const rv_attn_io *io, float *params);
RV_API rv_status rv_attn_cross(rv_ctx *ctx, const rv_attn_cross_config *config,
                               const rv_attn_io *io);
RV_API rv_status rv_attn_cross_backward(rv_ctx *ctx, const rv_attn_cross_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad);

#endif /* RV_ATTN_POSITION_H */
