#ifndef RV_ATTN_GATED_H
#define RV_ATTN_GATED_H
#include "attn_heads.h"

/* >>attn_gated  Multi-head attention with a number of heads that depends on the query: every head
   stands behind a gate. Thread class: pure. */

/* Multi-head attention (>>attn_heads) whose heads pass gates that depend on the query. With x_i the
   row of q and o_ih what head h gives:

       g_ih = sigmoid(u_h . x_i)
       kept: heads with g_ih > threshold; then the largest others up to `least`, or the smallest of
             them no more down to `most`; of equals the lower head is taken first
       c_ih = heads g_ih / (sum of g_il over the kept l), 0 of a head that is not kept
       out_i = concat over h of c_ih o_ih, times W_o^T, + b_o

   so that equal gates are multi-head attention, and top-k gating is least = most = k. `params`:
   those of rv_attn_heads, then u [heads, width_q]. What is kept counts as constant for the slopes.
   All heads are computed, whatever is kept. Sources: Voita et al., 2019, and Michel et al., 2019
   (heads can go); the gate by the query and the rescaling are this library's. */
typedef struct rv_attn_gated_config {
    rv_attn_heads_config heads; /* its params: all of the above, required                         */
    float threshold;            /* [0, 1); default 0.5                                            */
    uint32_t least, most;       /* heads kept, 1..heads; defaults 1 and heads                     */
    float *gates;               /* out: [n_q, heads] c; default: not wanted                       */
} rv_attn_gated_config;

/* Errors and memory as of rv_attn_heads. */
RV_API rv_status rv_attn_gated(rv_ctx *ctx, const rv_attn_gated_config *config,
                               const rv_attn_io *io);
RV_API rv_status rv_attn_gated_backward(rv_ctx *ctx, const rv_attn_gated_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad);
RV_API size_t rv_attn_gated_params(const rv_attn_gated_config *config, const rv_attn_io *io);
/* Xavier uniform from ctx->seed, biases zero. */
RV_API rv_status rv_attn_gated_init(rv_ctx *ctx, const rv_attn_gated_config *config,
                                    const rv_attn_io *io, float *params);

#endif /* RV_ATTN_GATED_H */
