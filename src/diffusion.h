#ifndef RV_DIFFUSION_H
#define RV_DIFFUSION_H
#include "base.h"
#include "csr.h"

/* >>diffusion  Heat on a weighted graph: Laplacians, x(t) = exp(-t L) x, energies. With weights
   w_ij = w_ji >= 0, w_ii left out, and degrees d_i = sum of w_ij

       RV_LAPLACIAN_SYM    L = I - D^-1/2 W D^-1/2    keeps the sum of sqrt(d_i) x_i
       RV_LAPLACIAN_PLAIN  L = D - W                  keeps the sum of x
       RV_LAPLACIAN_WALK   L = I - D^-1 W             keeps the sum of d_i x_i; keeps constants

   A point without weight keeps what it has: its row of L is 0. Eigenvalues lie in 0 .. bound:
   2 max d_i (PLAIN) or 2. The exponential is a sum of Chebyshev polynomials of L with positive
   coefficients of sum 1, cut where the rest is below the tolerance: stable for every t, unlike
   explicit steps, with about sqrt(t bound log(1 / tolerance)) + 10 products with L. In double.
   Thread class: shared-read.

       rv_ctx ctx = {0};
       rv_diffusion_config config = {RV_LAPLACIAN_SYM, 1.0f, 16, 0};
       rv_diffusion *graph;
       float t = 2.0f;
       rv_diffusion_create(&ctx, &config, vectors, 0, n, 64, &graph);
       rv_diffusion_heat(&ctx, graph, NULL, &t, 1, vectors, 64, out, NULL);
       rv_diffusion_destroy(graph);

   Sources: Kondor, Lafferty, 2002 (diffusion kernels on graphs); Coifman, Lafon, 2006 (Gaussian
   weights, normalizations); Tal-Ezer, Kosloff, 1984, Druskin, Knizhnerman, 1989 (the exponential in
   Chebyshev polynomials). */

typedef enum rv_laplacian {
    RV_LAPLACIAN_SYM = 0,
    RV_LAPLACIAN_PLAIN = 1,
    RV_LAPLACIAN_WALK = 2
} rv_laplacian;

typedef struct rv_diffusion_config {
    rv_laplacian kind;   /* default RV_LAPLACIAN_SYM                                          */
    float sigma;         /* w_ij = exp(-|x_i - x_j|^2 / (2 sigma^2)); above 0; default 1      */
    uint32_t neighbours; /* i and j are joined where one is among the so many nearest of the
                            other (ties: the lower index); default 16, at most n - 1 count    */
    int dense;           /* non-zero: all pairs are joined, neighbours is not looked at       */
} rv_diffusion_config;

typedef struct rv_diffusion rv_diffusion;

/* The graph of points: [n, dim] finite, stride in floats, 0: dim; n and dim 1..2^31 - 1, 1..65535.
   Cost n^2 dim; memory 4 n^2 bytes dense, else 16 n neighbours and as much again meanwhile. */
RV_API rv_status rv_diffusion_create(rv_ctx *ctx, const rv_diffusion_config *config,
                                     const float *points, size_t stride, size_t n, size_t dim,
                                     rv_diffusion **out);
/* The graph of given weights: w: [n, n], or a square matrix in rows, symmetric to the bit, 0 or
   more, finite; the diagonal is not looked at. They are copied. RV_ERR_ARG with the entry's index
   in ctx->where. */
RV_API rv_status rv_diffusion_create_dense(rv_ctx *ctx, rv_laplacian kind, const float *w, size_t n,
                                           rv_diffusion **out);
RV_API rv_status rv_diffusion_create_csr(rv_ctx *ctx, rv_laplacian kind, const rv_csr *w,
                                         rv_diffusion **out);
RV_API void rv_diffusion_destroy(rv_diffusion *graph); /* NULL is fine */

RV_API size_t rv_diffusion_count(const rv_diffusion *graph);          /* n                    */
RV_API double rv_diffusion_bound(const rv_diffusion *graph);          /* of the eigenvalues   */
RV_API const double *rv_diffusion_degrees(const rv_diffusion *graph); /* [n]                  */
/* Weights of a sparse graph as a view that lives as long as it; rows = 0: the graph is dense. */
RV_API rv_csr rv_diffusion_weights(const rv_diffusion *graph);

/* y = L x. x, y: [n, cols], y must not overlap x. Allocates 16 n cols bytes. */
RV_API rv_status rv_diffusion_times(rv_ctx *ctx, const rv_diffusion *graph, const float *x,
                                    size_t cols, float *y);
/* *energy = the sum over columns of x^T L x: for PLAIN the sum over joined pairs of
   w_ij |x_i - x_j|^2. Allocates 16 n cols bytes. */
RV_API rv_status rv_diffusion_energy(rv_ctx *ctx, const rv_diffusion *graph, const float *x,
                                     size_t cols, double *energy);

typedef struct rv_heat_config {
    float tolerance; /* 1e-15..1; default 1e-9: the error is at most that times |x|, in the length
                        sqrt(sum d_i x_i^2) for WALK; rounding to float comes on top           */
    int transposed;  /* non-zero: exp(-t L^T), which differs for WALK only; the gradient by x of
                        what is made of y is this of the gradient by y                         */
} rv_heat_config;

typedef struct rv_heat_result {
    size_t degree;   /* products with L                                                       */
    double error;    /* the bound, for the worst time: what the coefficients left out sum to  */
} rv_heat_result;

/* y[s] = exp(-times[s] L) x for n_times times at the cost of the longest. times: 0 or more, times
   bound at most 10^9 (chain calls beyond); x: [n, cols], y: [n_times, n, cols], no overlap. result
   may be NULL. Allocates 8 (2 + n_times) n cols bytes and more. Polls. The columns stay apart: NaN
   and infinity spread within theirs. RV_ERR_ARG: NULL, times; RV_ERR_CONFIG: tolerance. Nothing is
   written on failure but of RV_ERR_CANCELED. */
RV_API rv_status rv_diffusion_heat(rv_ctx *ctx, const rv_diffusion *graph,
                                   const rv_heat_config *config, const float *times, size_t n_times,
                                   const float *x, size_t cols, float *y, rv_heat_result *result);

/* times[s] = last s / (n - 1), s < n: from 0 to last, both included; n = 1: last. */
RV_API void rv_diffusion_scales(float last, size_t n, float *times);

#endif /* RV_DIFFUSION_H */
