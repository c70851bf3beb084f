#ifndef RV_ATTN_GEOMETRIC_H
#define RV_ATTN_GEOMETRIC_H
#include "attn.h"

/* >>attn_geometric  Attention in spaces of constant curvature: logits fall with the distance of
   query and key, outputs are means of points of the space. Shapes, heads, masks, order, windows,
   sinks and softcap are those of >>attn; temperature is tau; scale has no meaning where logits are
   distances and must be 0. Queries, keys and values are points in the coordinates of >>hyperbolic.

       rv_attn_poincare_config config = {0};
       rv_attn_io io = {0};
       io.n_q = io.n_k = n;  io.dim = 16;  io.q = queries;  io.k = keys;  io.v = values;
       io.out = out;  config.base.heads = 4;
       rv_attn_poincare(ctx, &config, &io);

   A query that sees no key gives zeros, the origin. The weight of a sink rests at the origin; on
   the sphere it has no effect on the mean. Of one key the value is the output, pulled in where it
   was out. NaN in a query or key, a point at the pole of a sphere: NaN in the outputs that see it.

   Distances have a relative error of about 2e-6, on the sheet plus 1e-7 times the larger time;
   points that had to be pulled in, or whose time on the sheet is above 8000 / sqrt(c), and pairs
   nearly opposite on a sphere are taken in double. Means whose terms cancel, as those of points
   near the rim do, are taken in double as well: their error is about 4e-6. Gradients by values with
   lambda above 1000 lose digits. Gradients pass through the pulling in; where two points are equal,
   that of their distance is 0. Curvatures are no parameters: they get no gradient.
   dim and dim_v at most 65532, dim of the dual space 32767.
   Cost O(n_q n_k (dim + dim_v)); distances are taken query by query with a logarithm each, only
   logits of dot products go through the engine's packed tiles. Memory O(n_q + n_k) rows. A call
   that is canceled, or refused memory midway, may have written a part of the results. The same bits
   for any number of threads. Thread class: pure.

   Sources: Ganea, Becigneul, Hofmann, 2018; Gulcehre et al., 2019 (hyperbolic attention); Ungar,
   2008 (midpoint); Law et al., 2019, and Chen et al., 2022 (Lorentz); Gu et al., 2019 (products);
   Bachmann, Becigneul, Ganea, 2020 (stereographic model); Lou et al., 2020 (gradients of Frechet
   means). */

typedef enum rv_attn_aggregate {
    RV_ATTN_MIDPOINT = 0, /* gyromidpoint, the Lorentz centroid seen in the ball                  */
    RV_ATTN_FRECHET = 1,  /* least weighted sum of squared distances; one thread, iterations times
                             the cost of all else                                                 */
    RV_ATTN_TANGENT = 2   /* exp_0 of the mean of log_0                                           */
} rv_attn_aggregate;

/* The Poincare ball: logit = -d(q, k) / tau. */
typedef struct rv_attn_poincare_config {
    rv_attn_config base;
    float c;                     /* curvature -c; 1e-20..1e20, default 1                          */
    rv_attn_aggregate aggregate; /* default RV_ATTN_MIDPOINT                                      */
    uint32_t iterations;         /* FRECHET: at most, 1..100000; default 50                       */
    float tolerance;             /* FRECHET: length of the last step, > 0; default 1e-5           */
} rv_attn_poincare_config;
RV_API rv_status rv_attn_poincare(rv_ctx *ctx, const rv_attn_poincare_config *config,
                                  const rv_attn_io *io);
RV_API rv_status rv_attn_poincare_backward(rv_ctx *ctx, const rv_attn_poincare_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad);

typedef enum rv_attn_lorentz_score {
    RV_ATTN_LORENTZ_DISTANCE = 0, /* -d / tau                                                     */
    RV_ATTN_LORENTZ_SQUARE = 1,   /* -d^2 / tau                                                   */
    RV_ATTN_LORENTZ_INNER = 2     /* (2 / c + 2 <q, k>_L) / tau, minus the squared Lorentzian
                                     distance; dot products, the cheapest; error 1e-7 of
                                     |q| |k| / tau                                                */
} rv_attn_lorentz_score;

/* The Lorentz sheet. q, k, v and out hold space parts, any vectors; the time
   sqrt(1 / c + |x|^2) is computed. The output is the centroid sum w v / (sqrt(c) |sum w v|_L). */
typedef struct rv_attn_lorentz_config {
    rv_attn_config base;
    float c;                      /* curvature -c; 1e-20..1e20, default 1                         */
    rv_attn_lorentz_score score;
} rv_attn_lorentz_config;
RV_API rv_status rv_attn_lorentz(rv_ctx *ctx, const rv_attn_lorentz_config *config,
                                 const rv_attn_io *io);
RV_API rv_status rv_attn_lorentz_backward(rv_ctx *ctx, const rv_attn_lorentz_config *config,
                                          const rv_attn_io *io, const rv_attn_grad *grad);

/* The sphere of radius 1 / sqrt(kappa) around 0, embedded: rows of any length are projected to it.
   logit = -angle(q, k) / sqrt(kappa) / tau; the output is the mean of the values, projected. A row
   of zeros is at right angles to all and adds nothing to a mean; a mean of 0 stays 0. */
typedef struct rv_attn_spherical_config {
    rv_attn_config base;
    float kappa;                  /* 1e-20..1e20, default 1                                       */
    int cosine;                   /* non-zero: logit = cos(angle) / tau                           */
} rv_attn_spherical_config;
RV_API rv_status rv_attn_spherical(rv_ctx *ctx, const rv_attn_spherical_config *config,
                                   const rv_attn_io *io);
RV_API rv_status rv_attn_spherical_backward(rv_ctx *ctx, const rv_attn_spherical_config *config,
                                            const rv_attn_io *io, const rv_attn_grad *grad);

/* The stereographic model of any curvature: logit = -d(q, k) / tau, output the midpoint, as
   rv_stereo_midpoint. kappa < 0 is rv_attn_poincare with c = -kappa, kappa > 0 the sphere seen from
   the pole, flat the limit: d = 2 |x - y| and the mean. */
typedef struct rv_attn_manifold_config {
    rv_attn_config base;
    float kappa;                  /* -1e20..1e20, default -1                                      */
    int flat;                     /* non-zero: kappa is 0, and must be given as 0                 */
} rv_attn_manifold_config;
RV_API rv_status rv_attn_manifold(rv_ctx *ctx, const rv_attn_manifold_config *config,
                                  const rv_attn_io *io);
RV_API rv_status rv_attn_manifold_backward(rv_ctx *ctx, const rv_attn_manifold_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad);

/* ---- several spaces ---- */

/* A logit of both spaces: (euclid scale (W_e q) . (W_e k) - hyperbolic d_c(P W_h q, P W_h k)) / tau
   with P the pulling in; the output is the weighted sum of the values. Parameters: W_e [dim, dim],
   then W_h [dim, dim], rows by output, the same for all heads. With the hyperbolic share 0 and no
   parameters it is rv_attn times the Euclidean share. */
typedef struct rv_attn_dual_space_config {
    rv_attn_config base;          /* scale: of the dot products, default 1 / sqrt(dim)            */
    float c;                      /* curvature -c; 1e-20..1e20, default 1                         */
    float euclid, hyperbolic;     /* finite, not negative; both 0: 0.5 each                       */
    const float *params;          /* default: identities                                          */
} rv_attn_dual_space_config;
RV_API rv_status rv_attn_dual_space(rv_ctx *ctx, const rv_attn_dual_space_config *config,
                                    const rv_attn_io *io);
RV_API rv_status rv_attn_dual_space_backward(rv_ctx *ctx, const rv_attn_dual_space_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad);
/* 2 dim dim */
RV_API size_t rv_attn_dual_space_params(const rv_attn_dual_space_config *config,
                                        const rv_attn_io *io);
/* Xavier uniform, from ctx->seed. */
RV_API rv_status rv_attn_dual_space_init(rv_ctx *ctx, const rv_attn_dual_space_config *config,
                                         const rv_attn_io *io, float *params);

/* Heads of falling detail: head h is rv_attn_lorentz with a curvature of its own, c from c_least to
   c_most in equal ratios, and the heads' centroids are mixed in the tangent space at the origin:
   out = exp_0(sum of mix_h log_0(o_h)), on the sheet of c = sqrt(c_least c_most), which is also
   that of a single head. out: [n_q, dim_v] for all heads together, out_stride by default dim_v;
   d_out likewise. Parameters: mix [heads]. */
typedef struct rv_attn_lorentz_cascade_config {
    rv_attn_config base;
    float c_least, c_most;        /* 1e-20..1e20, c_least <= c_most; default 0.1, 2               */
    rv_attn_lorentz_score score;
    const float *mix;             /* [heads] finite; default 1 / heads each                       */
} rv_attn_lorentz_cascade_config;
RV_API rv_status rv_attn_lorentz_cascade(rv_ctx *ctx, const rv_attn_lorentz_cascade_config *config,
                                         const rv_attn_io *io);
RV_API rv_status rv_attn_lorentz_cascade_backward(rv_ctx *ctx,
                                                  const rv_attn_lorentz_cascade_config *config,
                                                  const rv_attn_io *io, const rv_attn_grad *grad);

/* Queries and keys are Euclidean in their first dim_e columns and in the ball in the others. Either
   two attentions, by dot products and by -d_H, whose weights are mixed; or the product of the
   spaces: logit -sqrt(d_E^2 + d_H^2) / tau. The output is the weighted sum of the values. */
typedef struct rv_attn_mixed_config {
    rv_attn_config base;          /* scale: of dot products, default 1 / sqrt(dim_e); product: 0  */
    uint32_t dim_e, dim_h;        /* sum dim; both 0: halves                                      */
    float kappa;                  /* -1e20..-1e-20, default -1                                    */
    int product;                  /* non-zero: the product's logits                               */
    float euclid, hyperbolic;     /* shares, finite, not negative, divided by their sum; both 0:
                                     halves; with product 0                                       */
} rv_attn_mixed_config;
/* RV_ERR_ARG for io->lse of mixed weights, which have none. */
RV_API rv_status rv_attn_mixed(rv_ctx *ctx, const rv_attn_mixed_config *config,
                               const rv_attn_io *io);
RV_API rv_status rv_attn_mixed_backward(rv_ctx *ctx, const rv_attn_mixed_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad);

/* Queries and keys in the product of Euclidean space, ball and sphere, columns in this order. With
   b = mix of the head
       logit = (b_E scale q . k + b_H log_0 q . log_0 k + b_S cos(q, k)) / tau
   which is dot products only, or, geodesic,
       logit = -sqrt(b_E d_E^2 + b_H d_H^2 + b_S d_S^2) / tau
   The output is the weighted sum of the values. Parameters: mix [heads, 3]. */
typedef struct rv_attn_fused_config {
    rv_attn_config base;          /* scale: of q . k, default 1 / sqrt(dim_e); geodesic: 0        */
    uint32_t dim_e, dim_h, dim_s; /* sum dim; all 0: dim_h 3/8 and dim_s 1/8 of dim, rounded down */
    float kappa_h;                /* -1e20..-1e-20, default -1                                    */
    float kappa_s;                /* 1e-20..1e20, default 1                                       */
    int geodesic;
    const float *mix;             /* [heads, 3] finite, geodesic: not negative; default 0.5, 0.35,
                                     0.15                                                         */
} rv_attn_fused_config;
RV_API rv_status rv_attn_fused(rv_ctx *ctx, const rv_attn_fused_config *config,
                               const rv_attn_io *io);
RV_API rv_status rv_attn_fused_backward(rv_ctx *ctx, const rv_attn_fused_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad);
/* 3 heads */
RV_API size_t rv_attn_fused_params(const rv_attn_fused_config *config, const rv_attn_io *io);
/* The defaults, each up to a tenth more or less, from ctx->seed. */
RV_API rv_status rv_attn_fused_init(rv_ctx *ctx, const rv_attn_fused_config *config,
                                    const rv_attn_io *io, float *params);

#endif /* RV_ATTN_GEOMETRIC_H */
