#ifndef RV_ATTN_PAIR_H
#define RV_ATTN_PAIR_H
#include "attn.h"

/* >>attn_pair  Attention whose logits compare query and key by another rule than the dot product:
   a small network (additive), or the angle between them (cosine). Masks, orders, windows, sinks,
   softcap, groups of heads and values are those of rv_attn; io as there. Thread class: pure.

       rv_attn_additive_config config = {0};
       n = rv_attn_additive_params(&config, &io);
       rv_attn_additive_init(ctx, &config, &io, params);
       config.params = params;
       rv_attn_additive(ctx, &config, &io);                                                       */

/* logit = scale / temperature * z . tanh(W_q q_i + W_k k_j). `params` in this row, each head having
   its own:

       W_q [heads, dim_a, dim]   W_k [kv_heads, dim_a, dim]   z [heads, dim_a]

   tanh is flat beyond +-9: slopes vanish there. Cost O(n_q n_k dim_a) with a tanh in each, the
   projections are made once. Source: Bahdanau, Cho, Bengio, 2015, whose v is z here. */
typedef struct rv_attn_additive_config {
    rv_attn_config base;      /* scale: default 1                                                 */
    size_t dim_a;             /* width of the hidden layer, 1..65535; default dim                 */
    const float *params;      /* required                                                         */
} rv_attn_additive_config;

/* Errors as of rv_attn. Nothing is written on failure but on RV_ERR_CANCELED and RV_ERR_MEMORY. A
   NaN in a query reaches that query's output, in a key all outputs that see it. */
RV_API rv_status rv_attn_additive(rv_ctx *ctx, const rv_attn_additive_config *config,
                                  const rv_attn_io *io);
RV_API rv_status rv_attn_additive_backward(rv_ctx *ctx, const rv_attn_additive_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad);
/* Floats of params, SIZE_MAX when that is no size. */
RV_API size_t rv_attn_additive_params(const rv_attn_additive_config *config, const rv_attn_io *io);
/* Xavier uniform from ctx->seed, z as a layer of one output. */
RV_API rv_status rv_attn_additive_init(rv_ctx *ctx, const rv_attn_additive_config *config,
                                       const rv_attn_io *io, float *params);

/* logit = cos(q_i, k_j) / tau_h with a learned tau of every head, which counts as 0.01 where it is
   below (its slope is 0 there). The cosine with a vector shorter than 1e-12 is 0, and so are the
   slopes by it. base.scale and base.temperature have no meaning here and must be 0. Source: Liu et
   al., Swin Transformer V2, 2022. */
typedef struct rv_attn_cosine_config {
    rv_attn_config base;
    const float *params;      /* [heads] tau, finite; default 0.1                                 */
} rv_attn_cosine_config;

RV_API rv_status rv_attn_cosine(rv_ctx *ctx, const rv_attn_cosine_config *config,
                                const rv_attn_io *io);
RV_API rv_status rv_attn_cosine_backward(rv_ctx *ctx, const rv_attn_cosine_config *config,
                                         const rv_attn_io *io, const rv_attn_grad *grad);
RV_API size_t rv_attn_cosine_params(const rv_attn_cosine_config *config, const rv_attn_io *io);
/* 0.1 for every head. */
RV_API rv_status rv_attn_cosine_init(rv_ctx *ctx, const rv_attn_cosine_config *config,
                                     const rv_attn_io *io, float *params);

#endif /* RV_ATTN_PAIR_H */
