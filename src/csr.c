#ifndef RV_CSR_C
#define RV_CSR_C
#include "csr.h"
#include "base.c"
#include "simd.c"

/* Sorting by two counting sorts, by column and then by row, each stable: triples of one place keep
   the order they were given in, so that their sum has the same bits whatever else there is. */

#define RV__CSR_POLL 262144u /* multiplications between two polls */

static rv_status rv__csr_check_size(rv_ctx *ctx, size_t rows, size_t cols, size_t nnz)
{
    if (rows >= UINT32_MAX || cols >= UINT32_MAX || nnz >= UINT32_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "%z rows, %z columns, %z entries; each must be below 4294967295", rows,
                        cols, nnz);
    }
    return RV_OK;
}

static rv_status rv__csr_check_row(rv_ctx *ctx, const rv_csr *a, size_t i)
{
    for (size_t e = a->start[i]; e < a->start[i + 1]; e++) {
        if (a->index[e] >= a->cols || (e > a->start[i] && a->index[e] <= a->index[e - 1])) {
            return rv__fail(ctx, RV_ERR_ARG, e,
                            "index[%z] is %z; it must be below %z and above the one before", e,
                            (size_t)a->index[e], a->cols);
        }
        if (a->value && !rv__finite_f32(a->value[e])) {
            return rv__fail(ctx, RV_ERR_ARG, e, "value[%z] is %f; it must be finite", e,
                            (double)a->value[e]);
        }
    }
    return RV_OK;
}

RV_API rv_status rv_csr_check(rv_ctx *ctx, const rv_csr *a)
{
    rv_status status;
    if (!a || !a->start || a->start[0] != 0) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "a or start is NULL, or start does not begin with 0");
    }
    status = rv__csr_check_size(ctx, a->rows, a->cols, 0);
    if (status) return status;
    for (size_t i = 0; i < a->rows; i++) {
        if (a->start[i + 1] < a->start[i]) {
            return rv__fail(ctx, RV_ERR_ARG, i + 1, "start[%z] is %z; it must not fall below %z",
                            i + 1, (size_t)a->start[i + 1], (size_t)a->start[i]);
        }
    }
    if (a->start[a->rows] && !a->index) return rv__fail(ctx, RV_ERR_ARG, 0, "index is NULL");
    for (size_t i = 0; i < a->rows; i++) {
        status = rv__csr_check_row(ctx, a, i);
        if (status) return status;
    }
    return rv__ok(ctx);
}

/* order = the triples in ascending key, equal keys in the order of `before` (NULL: as given).
   count: [n_keys + 1] scratch. */
static void rv__csr_sort(const uint32_t *key, size_t nnz, const uint32_t *before, size_t n_keys,
                         uint32_t *count, uint32_t *order)
{
    memset(count, 0, (n_keys + 1) * sizeof *count);
    for (size_t e = 0; e < nnz; e++) count[key[e] + 1]++;
    for (size_t k = 0; k < n_keys; k++) count[k + 1] += count[k];
    for (size_t e = 0; e < nnz; e++) {
        uint32_t entry = before ? before[e] : (uint32_t)e;
        order[count[key[entry]]++] = entry;
    }
}

static rv_status rv__csr_check_coo(rv_ctx *ctx, size_t rows, size_t cols, const uint32_t *row,
                                   const uint32_t *col, const float *value, size_t nnz)
{
    rv_status status = rv__csr_check_size(ctx, rows, cols, nnz);
    if (status) return status;
    if (nnz && (!row || !col)) return rv__fail(ctx, RV_ERR_ARG, 0, "row or col is NULL");
    for (size_t e = 0; e < nnz; e++) {
        if (row[e] >= rows || col[e] >= cols) {
            return rv__fail(ctx, RV_ERR_ARG, e,
                            "triple %z is at %z, %z; the matrix has %z rows and %z columns", e,
                            (size_t)row[e], (size_t)col[e], rows, cols);
        }
        if (value && !rv__finite_f32(value[e])) {
            return rv__fail(ctx, RV_ERR_ARG, e, "value[%z] is %f; it must be finite", e,
                            (double)value[e]);
        }
    }
    return RV_OK;
}

RV_API rv_status rv_csr_from_coo(rv_ctx *ctx, size_t rows, size_t cols, const uint32_t *row,
                                 const uint32_t *col, const float *value, size_t nnz,
                                 uint32_t *start, uint32_t *index, float *value_out, size_t *kept)
{
    rv_alloc alloc = rv__allocator(ctx);
    const size_t keys = (rows > cols ? rows : cols) + 1;
    uint32_t *count, *by_col, *order;
    size_t at = 0, e = 0;
    rv_status status = rv__csr_check_coo(ctx, rows, cols, row, col, value, nnz);
    if (!status && (!start || !kept || (nnz && !index))) {
        status = rv__fail(ctx, RV_ERR_ARG, 0, "start, index or kept is NULL");
    }
    if (status) return status;
    count = (uint32_t *)rv__get(&alloc, rv__add(keys, 2 * nnz), sizeof *count);
    if (!count) return rv__no_memory(ctx, rv__mul(rv__add(keys, 2 * nnz), sizeof *count));
    by_col = count + keys;
    order = by_col + nnz;
    rv__csr_sort(col, nnz, NULL, cols, count, by_col);
    rv__csr_sort(row, nnz, by_col, rows, count, order);
    start[0] = 0;
    for (size_t i = 0; i < rows; i++) {
        const size_t first = at;
        for (; e < nnz && row[order[e]] == i; e++) {
            const float x = value ? value[order[e]] : 1.0f;
            if (at > first && index[at - 1] == col[order[e]]) {
                if (value_out) value_out[at - 1] += x;
                continue;
            }
            index[at] = col[order[e]];
            if (value_out) value_out[at] = x;
            at++;
        }
        start[i + 1] = (uint32_t)at;
    }
    *kept = at;
    rv__put(&alloc, count, keys + 2 * nnz, sizeof *count);
    return rv__ok(ctx);
}

RV_API rv_status rv_csr_rows(rv_ctx *ctx, const rv_csr *a, uint32_t *row)
{
    rv_status status = rv_csr_check(ctx, a);
    if (status) return status;
    if (a->start[a->rows] && !row) return rv__fail(ctx, RV_ERR_ARG, 0, "row is NULL");
    for (size_t i = 0; i < a->rows; i++) {
        for (size_t e = a->start[i]; e < a->start[i + 1]; e++) row[e] = (uint32_t)i;
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_csr_transpose(rv_ctx *ctx, const rv_csr *a, uint32_t *start, uint32_t *index,
                                  float *value)
{
    size_t nnz;
    rv_status status = rv_csr_check(ctx, a);
    if (status) return status;
    nnz = a->start[a->rows];
    if (!start || (nnz && !index)) return rv__fail(ctx, RV_ERR_ARG, 0, "start or index is NULL");
    memset(start, 0, (a->cols + 1) * sizeof *start);
    for (size_t e = 0; e < nnz; e++) start[a->index[e] + 1]++;
    for (size_t k = 0; k < a->cols; k++) start[k + 1] += start[k];
    for (size_t i = 0; i < a->rows; i++) { /* start[k] moves to the end of k ... */
        for (size_t e = a->start[i]; e < a->start[i + 1]; e++) {
            const uint32_t to = start[a->index[e]]++;
            index[to] = (uint32_t)i;
            if (value) value[to] = a->value ? a->value[e] : 1.0f;
        }
    }
    for (size_t k = a->cols; k > 0; k--) start[k] = start[k - 1]; /* ... and back */
    start[0] = 0;
    return rv__ok(ctx);
}

/* Counts, then writes; entry() by value or by mask. */
typedef struct rv__csr_dense {
    const float *dense; /* or NULL */
    const uint8_t *mask;
    float threshold;
} rv__csr_dense;

static int rv__csr_entry(const rv__csr_dense *from, size_t at)
{
    return from->dense ? fabsf(from->dense[at]) > from->threshold : from->mask[at] != 0;
}

static rv_status rv__csr_import(rv_ctx *ctx, const rv__csr_dense *from, size_t rows, size_t cols,
                                uint32_t *start, uint32_t *index, float *value, size_t cap,
                                size_t *count)
{
    size_t at = 0;
    rv_status status = rv__csr_check_size(ctx, rows, cols, 0);
    if (status) return status;
    if (rv__mul(rows, cols) == SIZE_MAX || !count) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "count is NULL, or the matrix is too large");
    }
    for (size_t e = 0; e < rows * cols; e++) at += (size_t)rv__csr_entry(from, e);
    *count = at;
    if (at > cap || at >= UINT32_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "cap is %z; there are %z entries", cap, at);
    }
    if (!start || (at && !index)) return rv__fail(ctx, RV_ERR_ARG, 0, "start or index is NULL");
    at = 0;
    start[0] = 0;
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            if (!rv__csr_entry(from, i * cols + j)) continue;
            index[at] = (uint32_t)j;
            if (value) value[at] = from->dense[i * cols + j];
            at++;
        }
        start[i + 1] = (uint32_t)at;
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_csr_from_dense(rv_ctx *ctx, const float *dense, size_t rows, size_t cols,
                                   float threshold, uint32_t *start, uint32_t *index, float *value,
                                   size_t cap, size_t *count)
{
    const size_t n = rv__mul(rows, cols); /* what is no size is refused below */
    rv__csr_dense from;
    rv_status status;
    from.dense = dense;
    from.mask = NULL;
    from.threshold = threshold;
    if (!dense) return rv__fail(ctx, RV_ERR_ARG, 0, "dense is NULL");
    if (!rv__finite_f32(threshold) || threshold < 0.0f) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "threshold is %f; it must be 0 or more and finite",
                        (double)threshold);
    }
    status = rv__check_finite(ctx, "dense", dense, n == SIZE_MAX ? 0 : n);
    if (status) return status;
    return rv__csr_import(ctx, &from, rows, cols, start, index, value, cap, count);
}

RV_API rv_status rv_csr_from_mask(rv_ctx *ctx, const uint8_t *mask, size_t rows, size_t cols,
                                  uint32_t *start, uint32_t *index, size_t cap, size_t *count)
{
    rv__csr_dense from;
    from.dense = NULL;
    from.mask = mask;
    from.threshold = 0.0f;
    if (!mask) return rv__fail(ctx, RV_ERR_ARG, 0, "mask is NULL");
    return rv__csr_import(ctx, &from, rows, cols, start, index, NULL, cap, count);
}

RV_API rv_status rv_csr_times(rv_ctx *ctx, const rv_csr *a, const float *x, float *y)
{
    if (!a || !a->start || (a->rows && (!x || !y))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "a, x or y is NULL");
    }
    for (size_t i = 0; i < a->rows; i++) {
        double sum = 0.0;
        for (size_t e = a->start[i]; e < a->start[i + 1]; e++) {
            sum += (a->value ? (double)a->value[e] : 1.0) * (double)x[a->index[e]];
        }
        y[i] = (float)sum;
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_csr_times_dense(rv_ctx *ctx, const rv_csr *a, const float *b, size_t n,
                                    float *c)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    size_t done = RV__CSR_POLL;
    if (!a || !a->start || (a->rows && n && (!b || !c))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "a, b or c is NULL");
    }
    for (size_t i = 0; n && i < a->rows; i++) {
        if (done >= RV__CSR_POLL) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            done = 0;
        }
        memset(c + i * n, 0, n * sizeof *c);
        for (size_t e = a->start[i]; e < a->start[i + 1]; e++) {
            kernels->axpy_f32(a->value ? a->value[e] : 1.0f, b + a->index[e] * n, c + i * n, n);
        }
        done += n * (size_t)(a->start[i + 1] - a->start[i] + 1);
    }
    return rv__ok(ctx);
}

#undef RV__CSR_POLL

#endif /* RV_CSR_C */
