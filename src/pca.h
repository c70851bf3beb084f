#ifndef RV_PCA_H
#define RV_PCA_H
#include "base.h"

/* >>pca  Principal components: the directions in which a set of rows varies most. An index keeps
   the first few hundred coordinates of such a basis instead of all of them when most of the
   variance lies there (total_variance tells). Training costs about 2 s dim (dim + iterations n_out)
   operations for a sample of s rows and holds dim * (dim + 5 n_out + 2048) floats for a while.
   Thread class: pure.

       rv_pca_train(ctx, rows, 0, n, 768, 192, mean, basis, eigenvalues, &total);
       rv_pca_apply(ctx, mean, basis, 768, 192, rows, 0, n, out);                              */

/* rows: [n, dim] with a stride in floats (0 = dim), n >= 1. mean: [dim]; basis: [n_out, dim], rows
   orthonormal to about 1e-5, by falling eigenvalue, the largest component of each positive;
   eigenvalues: [n_out], variances along the basis, never negative; total_variance: their sum over
   all dim directions. eigenvalues and total_variance may be NULL. 1 <= n_out <= dim <= 65535. Sets
   larger than max(8192, 4 dim) rows, at most 16384, are sampled with ctx->seed. Directions without
   variance are filled up with any orthonormal ones. Rows with NaN or infinity: RV_ERR_ARG and the
   element's index in ctx->where. On failure the outputs hold nothing useful. */
RV_API rv_status rv_pca_train(rv_ctx *ctx, const float *rows, size_t stride, size_t n, size_t dim,
                              size_t n_out, float *mean, float *basis, float *eigenvalues,
                              double *total_variance);
/* out[n, n_out] = (rows - mean) basis^T, packed. mean may be NULL (zero). out must not overlap. */
RV_API rv_status rv_pca_apply(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                              size_t n_out, const float *rows, size_t stride, size_t n, float *out);
/* rows[n, dim] = x basis + mean, x: [n, n_out] packed: the way back, without what was left out. */
RV_API rv_status rv_pca_restore(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                                size_t n_out, const float *x, size_t n, float *rows);

#endif /* RV_PCA_H */
