#ifndef RV_CSR_H
#define RV_CSR_H
#include "base.h"

/* >>csr  Sparse matrices in compressed rows: the entries of row i are index[start[i]] ..
   index[start[i + 1] - 1], columns strictly ascending, with their values. Adjacency lists, masks
   and pruned weights have this form. All buffers are the caller's. Rows, columns and entries below
   2^32. Thread class: pure.

       rv_csr_from_coo(ctx, n, n, row, col, NULL, nnz, start, index, value, &kept);
       rv_csr a = {n, n, start, index, value};
       rv_csr_times(ctx, &a, x, y);                                                             */

/* A view that owns nothing. */
typedef struct rv_csr {
    size_t rows, cols;
    const uint32_t *start; /* [rows + 1], from 0                                              */
    const uint32_t *index; /* [start[rows]]                                                   */
    const float *value;    /* [start[rows]]; NULL: ones                                       */
} rv_csr;

/* RV_ERR_ARG with the entry (or row) in ctx->where: start does not begin with 0 or falls, a column
   is out of range or not above the one before, a value is NaN or infinite. */
RV_API rv_status rv_csr_check(rv_ctx *ctx, const rv_csr *a);

/* From nnz triples in any order; value NULL: ones. Triples of the same place are summed, in the
   order given, in float; a sum of 0 stays as an entry. start: [rows + 1]; index, value_out: [nnz],
   value_out may be NULL. *kept: entries. RV_ERR_ARG: a row or column out of range, NaN or infinity,
   the triple in ctx->where; nothing is written. Allocates 4 (rows + cols) + 8 nnz bytes. Cost
   O(nnz + rows + cols). */
RV_API rv_status rv_csr_from_coo(rv_ctx *ctx, size_t rows, size_t cols, const uint32_t *row,
                                 const uint32_t *col, const float *value, size_t nnz,
                                 uint32_t *start, uint32_t *index, float *value_out, size_t *kept);
/* The way back: row of each entry; columns and values are index and value as they are. row:
   [start[rows]]. */
RV_API rv_status rv_csr_rows(rv_ctx *ctx, const rv_csr *a, uint32_t *row);
/* a^T. start: [cols + 1]; index, value: [start[rows] of a], value may be NULL. */
RV_API rv_status rv_csr_transpose(rv_ctx *ctx, const rv_csr *a, uint32_t *start, uint32_t *index,
                                  float *value);
/* Entries of dense: [rows, cols] with |x| > threshold, threshold 0 or more. start: [rows + 1];
   index, value (may be NULL): [cap]. *count is the number of entries, also when it is more than
   cap: then RV_ERR_ARG, and nothing but *count is written (ask with cap 0). */
RV_API rv_status rv_csr_from_dense(rv_ctx *ctx, const float *dense, size_t rows, size_t cols,
                                   float threshold, uint32_t *start, uint32_t *index, float *value,
                                   size_t cap, size_t *count);
/* The same for a mask: [rows, cols] bytes, non-zero is an entry. */
RV_API rv_status rv_csr_from_mask(rv_ctx *ctx, const uint8_t *mask, size_t rows, size_t cols,
                                  uint32_t *start, uint32_t *index, size_t cap, size_t *count);

/* y = a x. x: [cols], y: [rows]; sums in double. a must hold what rv_csr_check asks; it is not
   looked through again. NaN and infinity propagate. y must not overlap x. */
RV_API rv_status rv_csr_times(rv_ctx *ctx, const rv_csr *a, const float *x, float *y);
/* c = a b. b: [cols, n], c: [rows, n]; row by row through the kernels, in float lanes. Polls; of a
   canceled call a part of c has been written. */
RV_API rv_status rv_csr_times_dense(rv_ctx *ctx, const rv_csr *a, const float *b, size_t n,
                                    float *c);

#endif /* RV_CSR_H */
