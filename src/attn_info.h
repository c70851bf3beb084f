#ifndef RV_ATTN_INFO_H
#define RV_ATTN_INFO_H
#include "attn.h"
#include "info.h"

/* >>attn_info  Attention by information: distances of distributions as logits, and weights that
   tell how much they know. Shapes, masks, errors, NaN and threads as in >>attn. Thread class:
   pure. */

/* Fisher attention: with p_i = softmax(q_i), r_j = softmax(k_j) over the dim elements of a head

       logit = -d(p_i, r_j)^2 / temperature,   d = 2 arccos(sum of sqrt(p r)), 0 .. pi

   d is the distance in the metric of Fisher's information (rv_info_fisher_rao). A constant on all
   elements of a query or key changes nothing; an element of -infinity is a probability of 0.
   config->scale has no meaning here: RV_ERR_CONFIG. Logits to about 1e-6 / temperature. Allocates
   4 (n_q heads + n_k kv_heads) dim bytes besides the engine's. Cost O(n_q n_k (dim + dim_v)).
   Slopes are smooth at d = 0. Sources: Rao, 1945; Amari, 1998. */
RV_API rv_status rv_attn_fisher(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io);
RV_API rv_status rv_attn_fisher_backward(rv_ctx *ctx, const rv_attn_config *config,
                                         const rv_attn_io *io, const rv_attn_grad *grad);

/* Information bottleneck attention: scaled dot product whose weights are compressed,
   w ~ w^(1 / compression) (which is softmax(logits / compression)), and whose rate is known,

       rate_i = KL(w_i, the uniform weights over the keys i sees) = ln(keys seen) - entropy(w_i),

   in nats. Training adds beta_t times the mean of the rates over heads and queries to the loss (a
   query that sees nothing has rate 0): the backward includes that term, the caller adds it to what
   is shown: rv_vib_beta(&config->vib, config->step) times the mean of `rate`. A bottleneck of the
   values themselves is rv_vib_run before. */
typedef struct rv_attn_bottleneck_config {
    rv_attn_config base;   /* softcap, slopes, sinks and raw have no meaning here (logits must be
                              linear in the keys), nor has the additive mask                      */
    float compression;     /* above 0: below 1 sharpens; default 1                                */
    rv_vib_config vib;     /* beta and anneal; min_variance has no meaning here                   */
    uint64_t step;         /* of training; 0, the default, makes beta_t 0                         */
    float *rate;           /* out of the forward: [heads, n_q], of the weights before dropout;
                              default: not wanted                                                 */
} rv_attn_bottleneck_config;

/* RV_ERR_CONFIG for what is named above. With `rate`, or beta_t above 0 in the backward, the engine
   runs twice, the second time with the keys as values: allocates 4 n_q heads (dim + 1) bytes, the
   backward 4 (2 n_q heads + n_k kv_heads) dim, besides the engine's. Rates are accurate to 1e-6
   times the largest logit's magnitude, or 1e-6. Sources: Tishby, Pereira, Bialek, 1999; Alemi et
   al., 2017. */
RV_API rv_status rv_attn_information_bottleneck(rv_ctx *ctx,
                                                const rv_attn_bottleneck_config *config,
                                                const rv_attn_io *io);
RV_API rv_status rv_attn_information_bottleneck_backward(rv_ctx *ctx,
                                                         const rv_attn_bottleneck_config *config,
                                                         const rv_attn_io *io,
                                                         const rv_attn_grad *grad);

#endif /* RV_ATTN_INFO_H */
