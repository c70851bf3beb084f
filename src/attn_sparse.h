#ifndef RV_ATTN_SPARSE_H
#define RV_ATTN_SPARSE_H
#include "attn.h"
#include "csr.h"

/* >>attn_sparse  Attention in which a query sees few keys. A pattern says which: for every query a
   sorted list of keys, never a matrix of n_q n_k. Everything else is as in rv_attn: heads and their
   groups, scale, temperature, softcap, slopes, sinks, dropout, order and masks of io, which hide
   keys of the pattern; but not base.raw. Query i stands at position p = i + past, among positions
   0 .. n_k - 1 of the keys (CAUSAL: past = n_k - n_q, at least 0). l, c, k: the fields below.

       sliding          |p - j| within a window, every dilation-th key        O(n w)
       sliding_windows  windows at 0, s, 2s ... attend to themselves,
                        mean over those that hold the query                   O(n w)
       local_global     window; globals see all, all see globals              O(n (w + g))
       sparse_strided   p - l < j <= p, or l divides p - j                    O(n (l + n / l))
       sparse_fixed     own block of l, last c keys of all blocks, j <= p     O(n (l + c n / l))
       bigbird          blocks: window, first and last, random ones           O(n)
       block_sparse     a bitmap of blocks                                    O(entries)
       sparse_topk      the k largest logits                                  O(n^2)
       custom_mask      rows of a CSR matrix, whose values are added          O(entries)
       neighborhood     nodes within some hops of node p, or the k keys
                        nearest to the query                                  O(entries), O(n^2)
       hierarchical     softmax within segments, then over segments           O(n^2)

   times dim + dim_v. Memory: 8 n_q bytes; per thread some 140 bytes times the longest list, with a
   graph 8 n_k besides; backward: 12 bytes times 65536, or times the longest list, besides.
   A mask from COO triples: rv_csr_from_coo; from a full one whose hidden pairs shall cost nothing:
   rv_csr_from_mask, rv_csr_from_dense. Full masks of io work, too. RV_ERR_CONFIG with the field's
   name for a value out of range, and for one that is set though the mechanism does not read it.
   Thread class: pure.

   Sources: Beltagy et al., Longformer, 2020 (sliding, dilation, local_global); Child et al., 2019
   (strided, fixed, blocks); Zaheer et al., BigBird, 2020; Zhao et al., 2019 (top-k); Hassani et
   al., 2023, and Velickovic et al., 2018 (neighborhoods of grids, of graphs); Yang et al., 2016
   (hierarchical). */

/* What has a pattern that depends on positions only. */
typedef enum rv_attn_pattern {
    RV_ATTN_SLIDING = 0,
    RV_ATTN_SLIDING_WINDOWS = 1, /* keys that share a window with the query */
    RV_ATTN_LOCAL_GLOBAL = 2,
    RV_ATTN_STRIDED = 3,
    RV_ATTN_FIXED = 4,
    RV_ATTN_BIGBIRD = 5,
    RV_ATTN_BLOCK_SPARSE = 6,
    RV_ATTN_CUSTOM_MASK = 7,
    RV_ATTN_NEIGHBORHOOD = 8 /* with a graph */
} rv_attn_pattern;

/* Zero is the default of every field. base.windowed: of sliding and local_global it is their window
   (in steps of the dilation) in place of `window`; of others it hides keys like a mask. */
typedef struct rv_attn_sparse_config {
    rv_attn_config base;
    size_t window;        /* keys of a window, the query's own among them: window / 2 before it, the
                             rest behind; in causal order all before it. sliding, sliding_windows:
                             default 256; local_global: 512; bigbird: blocks, odd, default 3     */
    size_t dilation;      /* sliding: distance of keys; default 1                                */
    size_t stride;        /* sliding_windows: 1..window, default 128, or the window if that is less;
                             sparse_strided: l, default sqrt(n_k) rounded up; sparse_fixed: l,
                             default 128                                                         */
    size_t columns;       /* sparse_fixed: c, 1..l; default 8, or l if that is less              */
    int bidirectional;    /* sparse_strided, sparse_fixed: keys behind p, too                    */
    const uint32_t *globals; /* local_global: [n_globals] ascending positions below n_k; default:
                                the first ones                                                   */
    size_t n_globals;     /* local_global: default 1; bigbird: blocks, the first half of them at the
                             beginning, the others at the end; default 2                         */
    size_t random;        /* bigbird: random blocks per block, from ctx->seed, 1..64; default 3  */
    size_t block;         /* bigbird, block_sparse: default 64; hierarchical: keys of a segment,
                             default sqrt(n_k) rounded up                                        */
    const uint8_t *blocks; /* block_sparse: [ceil(n_q / block), ceil(n_k / block)], 0 hides      */
    const rv_csr *graph;  /* custom_mask: [n_q, n_k]; neighborhood: [n_k, n_k], an entry at i, j is
                             an edge from i to j. rv_csr_check's conditions                      */
    size_t hops;          /* neighborhood with a graph: default 1. Node p itself is seen as well */
    size_t k;             /* sparse_topk, neighborhood without a graph: 1..n_k; default 8, or n_k if
                             that is less. Of equal logits (distances) the lower key             */
    const uint32_t *segments; /* hierarchical: [n_segments] first keys, ascending from 0         */
    size_t n_segments;
    float *entries;       /* out: weights [heads, entries] in the order of rv_attn_pattern_csr;
                             sparse_topk, neighborhood without a graph: [heads, n_q, k], in the
                             order of `chosen`, then 0. Not of hierarchical. Default: not wanted */
    uint32_t *chosen;     /* out: [heads, n_q, k] ascending keys, then UINT32_MAX; sparse_topk,
                             neighborhood without a graph; default: not wanted                   */
} rv_attn_sparse_config;

/* Forward and backward. Errors as of rv_attn; nothing is written on failure but of
   RV_ERR_CANCELED. io->out, weights and lse are not looked at by backward, `entries` and `chosen`
   are not written; d_params must be NULL. Which keys are the k largest counts as constant.

   sliding_windows: n_q = n_k, no past and no lse; out_i is the mean, over the windows that hold i,
   of attention within that window; windows start at 0, s, 2s ... until one reaches the end.
   neighborhood without a graph: softmax over the k keys of least distance |q_i - k_j|.
   hierarchical: in segment g weights a_j = softmax(logit_j) over its keys; the segment's key is
   the sum of a_j k_j, its logit scale / temperature q . key without softcap, slopes and masks;
   b_g = softmax over segments (and the sink); w_j = b_g a_j; lse is that of the segments. The
   paper's two contexts are both the query here. */
RV_API rv_status rv_attn_sliding(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                 const rv_attn_io *io);
RV_API rv_status rv_attn_sliding_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                          const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_sliding_windows(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                         const rv_attn_io *io);
RV_API rv_status rv_attn_sliding_windows_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                                  const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_local_global(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io);
RV_API rv_status rv_attn_local_global_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_sparse_strided(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                        const rv_attn_io *io);
RV_API rv_status rv_attn_sparse_strided_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                                 const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_sparse_fixed(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io);
RV_API rv_status rv_attn_sparse_fixed_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_bigbird(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                 const rv_attn_io *io);
RV_API rv_status rv_attn_bigbird_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                          const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_block_sparse(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io);
RV_API rv_status rv_attn_block_sparse_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_sparse_topk(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                     const rv_attn_io *io);
RV_API rv_status rv_attn_sparse_topk_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                              const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_custom_mask(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                     const rv_attn_io *io);
RV_API rv_status rv_attn_custom_mask_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                              const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_neighborhood(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io);
RV_API rv_status rv_attn_neighborhood_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_hierarchical(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io);
RV_API rv_status rv_attn_hierarchical_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad);

/* The keys that n_q queries see of n_k, order and base.windowed included, masks of io not, as rows
   of a CSR matrix: start: [n_q + 1]; index: [cap]. *count is the number of entries, also when it
   is more than cap: then RV_ERR_ARG, and nothing but *count is written (ask with cap 0). Given back
   as `graph` of custom_mask it means the same. */
RV_API rv_status rv_attn_pattern_csr(rv_ctx *ctx, rv_attn_pattern pattern,
                                     const rv_attn_sparse_config *config, size_t n_q, size_t n_k,
                                     uint32_t *start, uint32_t *index, size_t cap, size_t *count);

#endif /* RV_ATTN_SPARSE_H */
