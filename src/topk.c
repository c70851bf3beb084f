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
    const rv__kernels *kernels = rv__kernels_now();
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

/* ---- hits, for the indexes ---- */

#define RV__HITS_PIECE 4096u /* hits moved between two polls */

/* The order of hits: by distance, equal ones by key. */
RV__FN int rv__hit_before(const rv_hit *a, const rv_hit *b)
{
    uint32_t x = rv__order_f32(a->distance), y = rv__order_f32(b->distance);
    return x != y ? x < y : a->key < b->key;
}

/* Sifts hit down from a place of a heap whose root is the last in order. */
static void rv__hits_sift(rv_hit *heap, size_t n, size_t at, rv_hit hit)
{
    size_t child;
    while ((child = 2 * at + 1) < n) {
        if (child + 1 < n && rv__hit_before(&heap[child], &heap[child + 1])) child++;
        if (!rv__hit_before(&hit, &heap[child])) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = hit;
}

/* Keeps the cap first hits in such a heap; offered: how many came before this one. */
RV__FN void rv__hits_offer(rv_hit *heap, size_t cap, size_t offered, rv_hit hit)
{
    size_t at = offered;
    if (offered >= cap) {
        if (cap && rv__hit_before(&hit, &heap[0])) rv__hits_sift(heap, cap, 0, hit);
        return;
    }
    while (at > 0 && rv__hit_before(&heap[(at - 1) / 2], &hit)) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = hit;
}

/* Sorts hits, nearest first. Canceled, they are in some order. */
RV__FN rv_status rv__hits_sort(rv_ctx *ctx, rv_hit *hits, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) {
        rv_status status = i % RV__HITS_PIECE ? RV_OK : rv__poll(ctx);
        if (status) return status;
        rv__hits_sift(hits, n, i, hits[i]);
    }
    while (n > 1) {
        rv_hit last = hits[--n];
        rv_status status = n % RV__HITS_PIECE ? RV_OK : rv__poll(ctx);
        if (status) return status;
        hits[n] = hits[0];
        rv__hits_sift(hits, n, 0, last);
    }
    return RV_OK;
}

#undef RV__HITS_PIECE
#endif /* RV_TOPK_C */
