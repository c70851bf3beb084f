#ifndef RV_TOPK_C
#define RV_TOPK_C
#include "topk.h"
#include "base.c"
#include "simd.c"

/* A binary heap of the k best so far with the worst on top, kept in the caller's index array. Once
   it is full, a vector compare against the worst skips all values that cannot enter. */

/* Whether x comes after y: larger value, NaN last, then larger index. */
static int rv__topk_after(const float *values, uint32_t x, uint32_t y)
{
    int nan_x = rv__is_nan(values[x]), nan_y = rv__is_nan(values[y]);
    if (nan_x != nan_y) return nan_x;
    if (!nan_x && values[x] != values[y]) return values[x] > values[y];
    return x > y;
}

static void rv__topk_sift(const float *values, uint32_t *heap, size_t n, size_t i)
{
    uint32_t moved = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && rv__topk_after(values, heap[child + 1], heap[child])) child++;
        if (!rv__topk_after(values, heap[child], moved)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

RV_API size_t rv_topk_f32(const float *values, size_t n, size_t k, uint32_t *index, float *out)
{
    const rv__kernels *kernels = rv__kernels_for(RV_ISA_BEST);
    size_t i;
    if (k > n) k = n;
    if (k == 0) return 0;
    for (i = 0; i < k; i++) index[i] = (uint32_t)i;
    for (i = k / 2; i-- > 0;) rv__topk_sift(values, index, k, i);
    for (i = k; i < n; i++) {
        float worst = values[index[0]];
        if (rv__is_nan(worst)) {
            if (rv__is_nan(values[i])) continue;
        } else {
            i = kernels->find_below(values, i, n, worst);
            if (i == n) break;
        }
        index[0] = (uint32_t)i;
        rv__topk_sift(values, index, k, 0);
    }
    for (i = k; i-- > 1;) {
        uint32_t last = index[i];
        index[i] = index[0];
        index[0] = last;
        rv__topk_sift(values, index, i, 0);
    }
    if (out) {
        for (i = 0; i < k; i++) out[i] = values[index[i]];
    }
    return k;
}

#endif /* RV_TOPK_C */
