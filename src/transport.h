#ifndef RV_TRANSPORT_H
#define RV_TRANSPORT_H
#include "base.h"

/* >>transport  Optimal transport: what it costs to move one distribution of mass into another.
   Sliced Wasserstein distances between clouds of points, the exact plan between few points (or on
   the line), and Sinkhorn's entropic plan. Computed in double, but projections in float lanes
   (relative error about sqrt(dim) / 2^24) and Sinkhorn's exponentials (2 / 2^24). The same bits for
   any number of threads. Thread class: pure.

       distance                  cost, n + m points                  use
       rv_transport_line         (n + m) log(n + m)                  numbers
       rv_transport_sliced       projections (n + m) (dim + log)     points, an average over lines
       rv_transport_sinkhorn     n m per iteration                   any costs, smoothed
       rv_transport_exact        (n + m) n m and more                any costs, up to some hundreds

   Weights are 0 or more, finite, not all 0; they count relative to their sum, so that both sides
   weigh 1. NULL: equal weights.

       rv_ctx ctx = {0};
       rv_cloud x = {vectors, NULL, n, 0}, y = {queries, NULL, k, 0};
       double distance;
       rv_transport_sliced(&ctx, NULL, 64, &x, &y, &distance, NULL, NULL);

   Sources: Rabin et al., 2011, Bonneel et al., 2015 (sliced distances); Kolouri et al., 2019
   (other exponents); Cuturi, 2013, Peyre, Cuturi, 2019 (Sinkhorn, its log domain and gradient);
   Edmonds, Karp, 1972, Jonker, Volgenant, 1987 (successive shortest paths). */

typedef struct rv_cloud {
    const float *points;  /* [n, dim], finite                                                 */
    const float *weights; /* [n] as above                                                     */
    size_t n;             /* 1..2^31 - 1                                                      */
    size_t stride;        /* floats from one point to the next; default dim                   */
} rv_cloud;

typedef struct rv_sliced_config {
    uint32_t projections;    /* directions, 1..2^20; default 16                               */
    float p;                 /* exponent, 1..1000; default 2                                  */
    const float *directions; /* [projections, dim] of length 1, used as they are; default:
                                rv_transport_directions with ctx->seed                        */
} rv_sliced_config;

/* count directions, uniform on the sphere: Gaussian vectors by their length. out: [count, dim].
   From ctx->seed, and the same for any count: the first k of more are those of k. */
RV_API rv_status rv_transport_directions(rv_ctx *ctx, size_t count, size_t dim, float *out);

/* SW_p = (mean over directions u of W_p(u.x, u.y)^p)^(1/p), W_p the exact distance on the line,
   which moves the t-quantile to the t-quantile. *distance: SW_p. d_x: [x->n, dim], d_y: [y->n, dim]
   packed: its gradient by the points, written, NULL: not wanted; 0 where x and y coincide along
   every direction, as at p = 1 for points that meet. Allocates 12 (n + m) bytes and more. Polls; of
   a canceled call a part of d_x and d_y has been written.
   RV_ERR_ARG: NULL, sizes, dim not in 1..65535, points or weights that are not finite (the
   element's index in ctx->where). */
RV_API rv_status rv_transport_sliced(rv_ctx *ctx, const rv_sliced_config *config, size_t dim,
                                     const rv_cloud *x, const rv_cloud *y, double *distance,
                                     float *d_x, float *d_y);

/* Mass that a plan moves from a point of x to a point of y. */
typedef struct rv_flow {
    uint32_t from, to;
    double mass;
} rv_flow;
/* Exact transport on the line (clouds of dimension 1): *cost = W_p^p, p from 1 to 1000. flow:
   [x->n + y->n] or NULL: the plan in ascending order of x, *count entries. Errors as above. */
RV_API rv_status rv_transport_line(rv_ctx *ctx, float p, const rv_cloud *x, const rv_cloud *y,
                                   double *cost, rv_flow *flow, size_t *count);

/* cost[i, j] = |x_i - y_j|^2 (p = 2) or |x_i - y_j|^p, p from 1 to 1000, 0: 2; weights are not
   looked at. cost: [x->n, y->n]. */
RV_API rv_status rv_transport_costs(rv_ctx *ctx, float p, size_t dim, const rv_cloud *x,
                                    const rv_cloud *y, float *cost);

/* Transport under given costs. */
typedef struct rv_transport_io {
    size_t n, m;        /* points on both sides, each 1..2^31 - 1                             */
    const float *cost;  /* [n, m], finite, any sign                                           */
    const float *a;     /* [n] weights                                                        */
    const float *b;     /* [m] weights                                                        */
    float *plan;        /* [n, m] mass from i to j, which is also the gradient of `value` by
                           the costs; NULL: not wanted                                        */
    float *f;           /* [n] potentials: the gradient of `value` by a, up to a constant that
                           goes the other way in g; NULL: not wanted                          */
    float *g;           /* [m]                                                                */
} rv_transport_io;

typedef struct rv_transport_result {
    double cost;        /* sum of plan times cost                                             */
    double value;       /* what is least: exact: cost; Sinkhorn: cost + epsilon KL(plan | a b),
                           by the potentials: a.f + b.g                                       */
    double error;       /* Sinkhorn: sum over j of |mass that arrives at j - b_j|; rows hold
                           exactly                                                            */
    size_t iterations;  /* Sinkhorn: done                                                     */
} rv_transport_result;

typedef struct rv_sinkhorn_config {
    float epsilon;       /* strength of the entropy, in the unit of the costs, above 0; the range
                            of the costs by it at most 10^9; default 0.1                       */
    uint32_t iterations; /* at most, 1..10^6; default 1000                                    */
    float tolerance;     /* ends when `error` is at most that, above 0; default 1e-6          */
} rv_sinkhorn_config;

/* plan[i, j] = a_i b_j exp((f_i + g_j - cost_ij) / epsilon), the one plan whose rows sum to a and
   columns to b. Not to be there after the last iteration is no fault: see result->error. Allocates
   4 n m + 16 (n + m) bytes and more. Polls; of a canceled call a part of the plan may have been
   written, else nothing on failure. RV_ERR_ARG: NULL, sizes, costs or weights that are not finite;
   RV_ERR_CONFIG. */
RV_API rv_status rv_transport_sinkhorn(rv_ctx *ctx, const rv_sinkhorn_config *config,
                                       const rv_transport_io *io, rv_transport_result *result);

/* The cheapest plan. Weights are rounded to multiples of 2^-52 of their sum, under which the plan
   is exact: f_i + g_j <= cost_ij, with equality where mass moves. Allocates 8 n m bytes and more.
   Polls. Errors as above. */
RV_API rv_status rv_transport_exact(rv_ctx *ctx, const rv_transport_io *io,
                                    rv_transport_result *result);

#endif /* RV_TRANSPORT_H */
