#ifndef RV_ATTN_TRANSPORT_H
#define RV_ATTN_TRANSPORT_H
#include "attn.h"
#include "base.h"

/* >>attn_transport  Attention by optimal transport: logits from sliced Wasserstein distances
   between sets of points, and from transport to the centroids of the keys. Shapes, masks and
   errors as of rv_attn. Thread class: pure. */

/* A row of dim numbers is m points of dim / m numbers each, of equal weight, in any order:

       logit_ij = -SW_p(q_i, k_j) / temperature
       SW_p     = (mean over directions u of mean over r of |a_r - b_r|^p)^(1/p)

   with a, b the sorted u.x of both rows' points. Two stages: of the keys a query sees only the
   `candidates` with the largest q.k (ties: the lower) get a logit, the others weigh 0. base.scale
   has no meaning here. One point (m = 1): logits -|q - k| / sqrt(dim), about. Sorted projections
   are kept for all rows: 8 projections m (n_q heads + n_k kv_heads) bytes. Cost: n_q n_k dim for
   the first stage, projections dim + sorting per row, projections m per pair of the second.
   Sources: Rabin et al., 2011; Bonneel et al., 2015; Kolouri et al., 2019. */
typedef struct rv_attn_sliced_config {
    rv_attn_config base;
    uint32_t points;         /* m, a divisor of dim; default 1                                */
    uint32_t projections;    /* directions, 1..65535; default 16                              */
    float p;                 /* 1..1000; default 2                                            */
    uint32_t candidates;     /* n_k or more: one stage; default 64                            */
    const float *directions; /* [projections, dim / m], used as they are, for all heads; default:
                                rv_transport_directions with ctx->seed                        */
} rv_attn_sliced_config;

RV_API rv_status rv_attn_sliced(rv_ctx *ctx, const rv_attn_sliced_config *config,
                                const rv_attn_io *io);
/* Slopes with the candidates and the order of the points as they are: both change only where two
   keys or two points tie. Where SW is 0, and for p = 1 where points meet, the slope is 0. */
RV_API rv_status rv_attn_sliced_backward(rv_ctx *ctx, const rv_attn_sliced_config *config,
                                         const rv_attn_io *io, const rv_attn_grad *grad);

/* Keys are grouped around centroids by k-means, per head, and queries are transported to them: with
   C_ic = |q_i - b_c|^2 and m_c the share of the keys in cluster c

       semi-relaxed  W_ic ~ m_c exp(-C_ic / epsilon)                 each query by itself
       balanced      W / n_q = Sinkhorn's plan from equal weights of the queries to m
       w_ij = W_ic / keys in c,   c the cluster of key j

   so that keys of a cluster weigh alike. With as many clusters as keys the semi-relaxed form is
   softmax(-|q - k|^2 / epsilon). Balanced, the queries together spend on every key the same, up to
   what `sinkhorn` iterations leave; the weights of a query sum to 1 exactly. (Balanced transport
   from one query is W = m whatever C is, hence the other form.) base.scale and base.temperature
   have no meaning here (epsilon acts); nor has base.order: centroids are made of all keys. Masks,
   windows, slopes, softcap, sinks and lse are of the semi-relaxed form only. Where a mask hides
   keys, they still take part in the clustering.
   Cost: n_k clusters dim iterations for the centroids, n_q clusters (dim + sinkhorn), and
   n_q n_k dim_v (semi-relaxed) or n_q clusters dim_v + n_k dim_v.
   Sources: Cuturi, 2013; Sander et al., Sinkformers, 2022 (attention by Sinkhorn). */
typedef enum rv_attn_balance {
    RV_ATTN_BALANCE_AUTO = 0, /* semi-relaxed for one query, balanced for more                */
    RV_ATTN_BALANCED = 1,
    RV_ATTN_SEMI_RELAXED = 2
} rv_attn_balance;

typedef struct rv_attn_centroid_config {
    rv_attn_config base;
    rv_attn_balance balance;
    uint32_t clusters;       /* 1..65535, at most n_k are made; default 16                    */
    uint32_t iterations;     /* of k-means, 1..10000; default 10                              */
    uint32_t sinkhorn;       /* iterations, all of them done, 1..10000; default 20            */
    float epsilon;           /* above 0; default 0.1                                          */
} rv_attn_centroid_config;

/* The clustering starts from ctx->seed. RV_ERR_ARG: a key (or, balanced, a query) is not finite. */
RV_API rv_status rv_attn_centroid(rv_ctx *ctx, const rv_attn_centroid_config *config,
                                  const rv_attn_io *io);
/* Slopes of what was computed, all iterations of Sinkhorn included, where keys stay in their
   clusters: a centroid is the mean of its keys, and moves with them; which keys those are is taken
   as given. Allocates 8 (n_q + clusters) sinkhorn + 8 n_q clusters bytes and more. */
RV_API rv_status rv_attn_centroid_backward(rv_ctx *ctx, const rv_attn_centroid_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad);

#endif /* RV_ATTN_TRANSPORT_H */
