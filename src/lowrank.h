#ifndef RV_LOWRANK_H
#define RV_LOWRANK_H
#include "base.h"

/* >>lowrank  Matrices as products of thin ones: truncated singular value decomposition, and
   Tucker-2 for tensors of three modes. Small matrices are decomposed exactly, in double, by
   one-sided Jacobi rotations; large ones through a random sample of their range. Keeping k of the
   singular values loses exactly the others: the error is the root of the sum of their squares, and
   no matrix of rank k is nearer (Eckart, Young). Thread class: pure.

       rv_lowrank_svd(ctx, NULL, a, m, n, k, u, s, v, NULL);    (m + n + 1) k floats for m n
       k = rv_lowrank_rank(s, k, 0, 0.95);                      how many of them are needed
       rv_lowrank_restore(ctx, u, s, v, m, n, k, a);                                            */

typedef enum rv_lowrank_method {
    RV_LOWRANK_AUTO = 0,   /* EXACT where the shorter side is at most 128 or less than twice
                              k + oversample, else RANDOM                                     */
    RV_LOWRANK_EXACT = 1,  /* Jacobi: about 60 short^2 long operations in double              */
    RV_LOWRANK_RANDOM = 2  /* about 2 (2 iterations + 2) m n (k + oversample) in float, and EXACT
                              on a matrix of k + oversample rows                              */
} rv_lowrank_method;

typedef struct rv_lowrank_config {
    rv_lowrank_method method; /* default RV_LOWRANK_AUTO                                      */
    uint32_t oversample;      /* RANDOM: rows more than k, 1..1000; default 10                */
    uint32_t iterations;      /* RANDOM: passes that favour large values, and Tucker-2: rounds
                                 after the start; 1..100, default 2                           */
} rv_lowrank_config;

/* a: [m, n], about u diag(s) v^T. u: [m, k] and v: [n, k] with orthonormal columns, s: [k] not
   rising, 0 or more; the largest component of each column of u is positive. Any of u, s, v may be
   NULL. 1 <= k <= min(m, n). *error: the length of a - u diag(s) v^T (root of the sum of squares),
   may be NULL; computed from lengths, so below about 1e-7 of the length of a it is noise. config
   may be NULL. RANDOM depends on ctx->seed. Errors: RV_ERR_CONFIG; RV_ERR_ARG: k, sizes, NaN and
   infinity with the index in ctx->where; singular values, and under RANDOM products, beyond the
   range of floats. Nothing is written on failure. Polls; allocates at most 8 m n + 8 short^2 bytes,
   RANDOM about 4 m n + 16 (k + oversample) (m + n). */
RV_API rv_status rv_lowrank_svd(rv_ctx *ctx, const rv_lowrank_config *config, const float *a,
                                size_t m, size_t n, size_t k, float *u, float *s, float *v,
                                double *error);
/* The least r so that the first r of n singular values hold `energy` (0..1) of the sum of squares
   of all: of those given, or `total` where that is larger than their sum. n when they do not. */
RV_API size_t rv_lowrank_rank(const float *s, size_t n, double total, double energy);
/* out: [m, n] = u diag(s) v^T; s NULL: ones. Allocates 4 m k bytes. Polls. */
RV_API rv_status rv_lowrank_restore(rv_ctx *ctx, const float *u, const float *s, const float *v,
                                    size_t m, size_t n, size_t k, float *out);

/* Tucker-2: x[i, j, l] of x: [n1, n2, n3] is about the sum over a, b of
   u1[i, a] u2[j, b] core[a, b, l]. u1: [n1, r1] and u2: [n2, r2] with orthonormal columns, core:
   [r1, r2, n3]; r1 <= min(n1, r2 n3) and r2 <= min(n2, r1 n3), both 1 or more. Starts from the
   singular vectors of the unfoldings and improves the factors in turn. Exact where x has these
   ranks; else the error is at most the root of the sum of squares of the singular values both
   unfoldings lose. Errors as above; allocates about 16 n1 n2 n3 bytes. Sources: Tucker, 1966; De
   Lathauwer et al., 2000. */
RV_API rv_status rv_lowrank_tucker2(rv_ctx *ctx, const rv_lowrank_config *config, const float *x,
                                    size_t n1, size_t n2, size_t n3, size_t r1, size_t r2,
                                    float *u1, float *u2, float *core);
/* out: [n1, n2, n3] from the factors. Allocates 4 r1 n2 n3 bytes. Polls; of a canceled call a part
   has been written. */
RV_API rv_status rv_lowrank_tucker2_restore(rv_ctx *ctx, const float *u1, const float *u2,
                                            const float *core, size_t n1, size_t n2, size_t n3,
                                            size_t r1, size_t r2, float *out);

#endif /* RV_LOWRANK_H */
