#ifndef RV_MATHX_H
#define RV_MATHX_H
#include "base.h"

/* >>mathx  Elementary functions over arrays, softmax, and small dense products. The library's own
   exp, log, tanh, sigmoid and erf: the same bits on every machine for RV_ISA_SCALAR. x, out: [n];
   out may equal x. Errors in ulp of the result: exp 2, log 2, tanh 4, sigmoid 4, erf 8. NaN gives
   NaN; exp(+inf) = inf, exp(-inf) = 0, log(0) = -inf, log(negative) = NaN. Thread class: pure. */

RV_API void rv_exp_f32    (const float *x, float *out, size_t n);
RV_API void rv_log_f32    (const float *x, float *out, size_t n);
RV_API void rv_tanh_f32   (const float *x, float *out, size_t n);
RV_API void rv_sigmoid_f32(const float *x, float *out, size_t n);
RV_API void rv_erf_f32    (const float *x, float *out, size_t n);

/* out = softmax(scale * x), shifted by the maximum. A row of -infinity (all masked) gives zeros,
   n = 0 does nothing; a NaN anywhere, or scale * x of +infinity, makes the whole row NaN. */
RV_API void rv_softmax_f32(const float *x, float scale, float *out, size_t n);

/* y[m] = A x, A: [m, n] row-major with row stride lda (0 = n). y must not overlap A or x. */
RV_API void rv_gemv_f32(const float *a, size_t lda, const float *x, size_t m, size_t n, float *y);

/* C[m, n] = A B^T (+ C when accumulate), A: [m, k], B: [n, k], row-major with row strides lda, ldb,
   ldc (0 = packed). Both operands are walked along k, which is the shape of "all distances between
   two sets of rows". Allocates a packing buffer from ctx. */
RV_API rv_status rv_gemm_nt_f32(rv_ctx *ctx, const float *a, size_t lda, const float *b, size_t ldb,
                                size_t m, size_t n, size_t k, int accumulate, float *c, size_t ldc);

#endif /* RV_MATHX_H */
