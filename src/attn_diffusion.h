#ifndef RV_ATTN_DIFFUSION_H
#define RV_ATTN_DIFFUSION_H
#include "attn.h"
#include "base.h"
#include "diffusion.h"

/* >>attn_diffusion  Attention whose logits diffuse over a graph of keys: x(0)_j = scale q.k_j is
   heat at key j, and with the Laplacian L of the keys' graph (Gaussian weights, see diffusion.h)

       w_ij = mean over s of softmax_j(x_i(t_s) / temperature),   x_i(t) = exp(-t L) x_i(0)

   so that keys close to each other come to weigh alike. One time is the plain form, several the
   multi-scale one (rv_diffusion_scales). t = 0 is rv_attn. As x(t) = scale (exp(-t L) K) q, keys
   diffuse once for all queries and exact attention does the rest: masks, windows, slopes, softcap
   and sinks have their meaning, applied to x(t). A hidden key weighs nothing but stays a point of
   the graph. The graph is of all keys, hence base.order must be RV_ATTN_ANY. Each head of keys has
   its own graph. To keep the diffused keys for later queries: rv_diffusion_heat, then rv_attn.
   Cost: n_k^2 dim for the graph, joined pairs times dim per product with L (about
   sqrt(t bound) * 6 + 10 of them), then that of rv_attn per time.
   Thread class: pure.
   Sources: Kondor, Lafferty, 2002; Chamberlain et al., GRAND, 2021 (diffusion as attention). */
typedef struct rv_attn_diffusion_config {
    rv_attn_config base;
    rv_laplacian kind;   /* default RV_LAPLACIAN_SYM                                          */
    float sigma;         /* of the weights, in the unit of the keys, above 0; default 1       */
    uint32_t neighbours; /* default 16, at most n_k - 1 count                                 */
    int dense;           /* non-zero: all pairs of keys are joined                            */
    const float *times;  /* [n_times], 0 or more; default: one time, 1                        */
    size_t n_times;      /* 0..64                                                             */
} rv_attn_diffusion_config;

/* lse is given for one time only. RV_ERR_ARG: a key is not finite, times; else as of rv_attn. */
RV_API rv_status rv_attn_diffusion(rv_ctx *ctx, const rv_attn_diffusion_config *config,
                                   const rv_attn_io *io);
/* Slopes also by way of the graph's weights, where the pairs that are joined stay joined. Allocates
   8 bytes per joined pair and 8 (4 + n_times) n_k dim besides what rv_attn_backward does. */
RV_API rv_status rv_attn_diffusion_backward(rv_ctx *ctx, const rv_attn_diffusion_config *config,
                                            const rv_attn_io *io, const rv_attn_grad *grad);

#endif /* RV_ATTN_DIFFUSION_H */
