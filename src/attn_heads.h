#ifndef RV_ATTN_HEADS_H
#define RV_ATTN_HEADS_H
#include "attn.h"
#include "position.h"

/* >>attn_heads  Attention between learned projections: multi-head attention, and multi-head latent
   attention, whose keys and values are rebuilt from one short row per key. Projections run through
   the matrix kernels, the attention is rv_attn: masks, orders, windows, sinks, softcap and groups
   of heads are those of `base`. Thread class: pure.

       rv_attn_heads_config config = {0};
       config.base.heads = 8;   io.dim = 64;                 rows of 8 * 64 elements
       n = rv_attn_heads_params(&config, &io);
       rv_attn_heads_init(ctx, &config, &io, params);        or torch's weights, one after the other
       config.params = params;
       rv_attn_heads(ctx, &config, &io);                                                          */

/* Multi-head attention: out = concat over h of Attention(q W_q^T + b_q, k W_k^T + b_k,
   v W_v^T + b_v)_h, times W_o^T, + b_o. Zero is the default of every field.
   `params` is this row of tensors, which with equal widths is torch's state dict of
   nn.MultiheadAttention, in order (in_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias):

       W_q [heads * dim, width_q]   W_k [kv_heads * dim, width_k]   W_v [kv_heads * dim_v, width_v]
       b_q, b_k, b_v                                                         unless no_bias
       W_o [width_out, heads * dim_v]                                        unless no_output
       b_o [width_out]                                              unless no_bias or no_output

   Source: Vaswani et al., Attention Is All You Need, 2017. */
typedef struct rv_attn_heads_config {
    rv_attn_config base;
    size_t width_q;           /* elements of a row of q; default heads * dim                      */
    size_t width_k, width_v;  /* of a row of k, of v; default width_q                             */
    size_t width_out;         /* of a row of out; default width_q; no_output: heads * dim_v       */
    int no_bias, no_output;   /* non-zero: those tensors are missing                              */
    const float *params;      /* NULL: no projections at all, plain rv_attn                       */
} rv_attn_heads_config;

/* io->q: [n_q, width_q], k: [n_k, width_k], v: [n_k, width_v] (of io->type), out: [n_q, width_out];
   io->dim and dim_v are those of a head after projection. Self attention: q, k and v are the same
   rows. weights, lse as in rv_attn. Errors as of rv_attn; nothing is written but on RV_ERR_CANCELED
   and RV_ERR_MEMORY. Cost: n_q width_q heads dim + ... for the projections, besides the attention.
   Allocates the projected rows. */
RV_API rv_status rv_attn_heads(rv_ctx *ctx, const rv_attn_heads_config *config,
                               const rv_attn_io *io);
/* d_q: [n_q, width_q], d_k: [n_k, width_k], d_v: [n_k, width_v], packed; d_out: [n_q, width_out]
   with the rows of out; d_params as params. Self attention: the slope by the rows is the sum of
   d_q, d_k and d_v. out, weights and lse of io are not looked at. */
RV_API rv_status rv_attn_heads_backward(rv_ctx *ctx, const rv_attn_heads_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad);
/* Floats of params, SIZE_MAX when that is no size; io: dim and dim_v are looked at. */
RV_API size_t rv_attn_heads_params(const rv_attn_heads_config *config, const rv_attn_io *io);
/* Xavier uniform from ctx->seed (Glorot, Bengio, 2010), biases zero. params: as many as above. */
RV_API rv_status rv_attn_heads_init(rv_ctx *ctx, const rv_attn_heads_config *config,
                                    const rv_attn_io *io, float *params);

/* Multi-head latent attention. With x a row of q and y a row of k:

       c = y W_c^T: [latent]             k_h = c W_kh^T, v_h = c W_vh^T
       r = turn_j(y W_r^T): [rope]       of key j, shared by all heads
       u = x W_d^T: [latent_q]           or u = x without latent_q
       logit = scale (q_h . k_h + turn_i(p_h) . r),   q_h = u W_qh^T, p_h = u W_ph^T
       out = concat over h of (sum of w_hij v_hj), times W_o^T

   turn is rotary position embedding as rv_rope_run makes it; query i stands at i + past (CAUSAL:
   n_k - n_q), key j at j. The row [c, r] is all that has to be kept of a key. `params` in this
   row, no biases:

       W_d [latent_q, width_q]                           with latent_q only
       W_q [heads * (dim + rope), latent_q or width_q]   of each head: W_qh, then W_ph
       W_c [latent + rope, width_k]                      W_c, then W_r
       W_u [heads * (dim + dim_v), latent]               of each head: W_kh, then W_vh
       W_o [width_out, heads * dim_v]

   as in the published DeepSeek-V2 checkpoints, but without the RMSNorm of c and u, which those
   have. kv_heads has no meaning here and must be 0 or heads. Positions below 2^20.
   Source: DeepSeek-AI, DeepSeek-V2, 2024, section 2.1. */
typedef struct rv_attn_mla_config {
    rv_attn_config base;      /* scale: default 1 / sqrt(dim + rope)                              */
    size_t width_q, width_k;  /* elements of a row of q, default heads * dim; of k, width_q       */
    size_t width_out;         /* default width_q                                                  */
    size_t latent;            /* default 4 dim, the paper's choice                                */
    size_t latent_q;          /* default: none, queries are made of x at once                     */
    size_t rope;              /* even; default dim / 2 made even, at least 2                      */
    int no_rope;              /* non-zero: none                                                   */
    rv_rope_config turn;      /* base, layout, scaling; its rotary_dim must be 0 or rope          */
    int cached;               /* k is already rows [c, r], as rv_attn_mla_rows makes them         */
    int absorbed;             /* W_kh goes into the query, W_vh behind the mean: no key or value is
                                 rebuilt. Cheaper where n_q is small; the same result             */
    const float *params;      /* required                                                         */
} rv_attn_mla_config;

/* io->q: [n_q, width_q], k: [n_k, width_k] or, cached, [n_k, latent + rope]; v must be NULL, out:
   [n_q, width_out]. Errors and memory as rv_attn_heads. */
RV_API rv_status rv_attn_mla(rv_ctx *ctx, const rv_attn_mla_config *config, const rv_attn_io *io);
/* d_k has the shape of k, packed; d_v must be NULL. cached: the slopes of W_c and W_r are zero. The
   same for both forms. */
RV_API rv_status rv_attn_mla_backward(rv_ctx *ctx, const rv_attn_mla_config *config,
                                      const rv_attn_io *io, const rv_attn_grad *grad);
RV_API size_t rv_attn_mla_params(const rv_attn_mla_config *config, const rv_attn_io *io);
RV_API rv_status rv_attn_mla_init(rv_ctx *ctx, const rv_attn_mla_config *config,
                                  const rv_attn_io *io, float *params);
/* The rows [c, r] of io->n_k keys, io->k: [n_k, width_k], the first being key `first`; rows:
   [n_k, latent + rope]. */
RV_API rv_status rv_attn_mla_rows(rv_ctx *ctx, const rv_attn_mla_config *config,
                                  const rv_attn_io *io, size_t first, float *rows);

#endif /* RV_ATTN_HEADS_H */
