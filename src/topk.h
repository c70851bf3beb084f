#ifndef RV_TOPK_H
#define RV_TOPK_H
#include "base.h"

/* >>topk  The k smallest of n values. Thread class: pure. */

/* Writes the indexes of the k smallest of values[n] to index[min(k, n)], smallest first, ties by
   the smaller index, and their values to out (may be NULL). NaN counts as larger than infinity.
   Returns min(k, n). No allocation; O(n + k log k) typically: most values fail one compare with the
   current k-th, many at a time. */
RV_API size_t rv_topk_f32(const float *values, size_t n, size_t k, uint32_t *index, float *out);

#endif /* RV_TOPK_H */
