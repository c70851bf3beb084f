#ifndef RV_DISTANCE_C
#define RV_DISTANCE_C
#include "distance.h"
#include "base.c"
#include "simd.c"

/* The public face of the distance kernels: picks the kernel, cuts off spare bits. */

RV_API float rv_dot_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_now()->dot_f32(a, b, n);
}

RV_API float rv_l2sq_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_now()->pair_f32[RV_METRIC_L2](a, b, n);
}

RV_API float rv_cosine_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_now()->pair_f32[RV_METRIC_COSINE](a, b, n);
}

RV_API float rv_l1_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_now()->pair_f32[RV_METRIC_L1](a, b, n);
}

RV_API float rv_linf_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_now()->pair_f32[RV_METRIC_LINF](a, b, n);
}

/* The length from the sum of squares; in double where that leaves the range of floats. */
static float rv__norm_finish(int type, const unsigned char *a, size_t n, float sum)
{
    double wide = 0.0;
    if (sum > 1e-30f && sum < 1e37f) return sqrtf(sum);
    for (size_t i = 0; i < n; i++) {
        double x = rv__element(type, a, i, 1.0f);
        wide += x * x;
    }
    return (float)sqrt(wide);
}

RV_API float rv_norm_f32(const float *a, size_t n)
{
    return rv__norm_finish(RV__TYPE_F32, (const unsigned char *)a, n, rv_dot_f32(a, a, n));
}

RV_API rv_cosine_parts rv_cosine_parts_f32(const float *a, const float *b, size_t n)
{
    float sums[3];
    rv_cosine_parts parts;
    rv__kernels_now()->parts_f32(a, b, n, sums);
    parts.dot = sums[0];
    parts.a_sq = sums[1];
    parts.b_sq = sums[2];
    return parts;
}

RV_API float rv_dot_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->dot_u16[0](a, b, n);
}

RV_API float rv_l2sq_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[0][RV_METRIC_L2](a, b, n);
}

RV_API float rv_cosine_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[0][RV_METRIC_COSINE](a, b, n);
}

RV_API float rv_l1_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[0][RV_METRIC_L1](a, b, n);
}

RV_API float rv_linf_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[0][RV_METRIC_LINF](a, b, n);
}

RV_API float rv_norm_f16(const uint16_t *a, size_t n)
{
    return rv__norm_finish(RV__TYPE_F16, (const unsigned char *)a, n, rv_dot_f16(a, a, n));
}

RV_API float rv_dot_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->dot_u16[1](a, b, n);
}

RV_API float rv_l2sq_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[1][RV_METRIC_L2](a, b, n);
}

RV_API float rv_cosine_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[1][RV_METRIC_COSINE](a, b, n);
}

RV_API float rv_l1_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[1][RV_METRIC_L1](a, b, n);
}

RV_API float rv_linf_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_now()->pair_u16[1][RV_METRIC_LINF](a, b, n);
}

RV_API float rv_norm_bf16(const uint16_t *a, size_t n)
{
    return rv__norm_finish(RV__TYPE_BF16, (const unsigned char *)a, n, rv_dot_bf16(a, a, n));
}

RV_API int32_t rv_dot_i8(const int8_t *a, const int8_t *b, size_t n)
{
    return rv__kernels_now()->dot_i8(a, b, n);
}

RV_API int32_t rv_l2sq_i8(const int8_t *a, const int8_t *b, size_t n)
{
    return rv__kernels_now()->l2sq_i8(a, b, n);
}

/* From sums of integers: they are zero or in the range of floats. */
static float rv__cosine_bytes(float ab, float aa, float bb)
{
    if (aa == 0.0f || bb == 0.0f) return aa == bb ? 0.0f : 1.0f;
    return rv__cosine_clamp(ab / (sqrtf(aa) * sqrtf(bb)));
}

RV_API float rv_cosine_i8(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sums[3]; /* ab, aa, bb */
    rv__kernels_now()->cosine_i8(a, b, n, sums);
    return rv__cosine_bytes((float)sums[0], (float)sums[1], (float)sums[2]);
}

RV_API int32_t rv_l1_i8(const int8_t *a, const int8_t *b, size_t n)
{
    return rv__kernels_now()->l1_i8(a, b, n);
}

RV_API int32_t rv_linf_i8(const int8_t *a, const int8_t *b, size_t n)
{
    return rv__kernels_now()->linf_i8(a, b, n);
}

RV_API float rv_norm_i8(const int8_t *a, size_t n)
{
    return (float)sqrt((double)rv_dot_i8(a, a, n));
}

RV_API uint32_t rv_dot_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    return rv__kernels_now()->dot_u8(a, b, n);
}

RV_API uint32_t rv_l2sq_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    return rv__kernels_now()->l2sq_u8(a, b, n);
}

RV_API float rv_cosine_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint32_t sums[3]; /* ab, aa, bb */
    rv__kernels_now()->cosine_u8(a, b, n, sums);
    return rv__cosine_bytes((float)sums[0], (float)sums[1], (float)sums[2]);
}

RV_API uint32_t rv_l1_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    return rv__kernels_now()->l1_u8(a, b, n);
}

RV_API uint32_t rv_linf_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    return rv__kernels_now()->linf_u8(a, b, n);
}

RV_API float rv_norm_u8(const uint8_t *a, size_t n)
{
    return (float)sqrt((double)rv_dot_u8(a, a, n));
}

/* The bits of a last, partial byte. */
static uint8_t rv__distance_rest(const uint8_t *a, size_t n_bits)
{
    return (uint8_t)(a[n_bits / 8] & ((1u << n_bits % 8) - 1u));
}

RV_API uint32_t rv_hamming_u1(const uint8_t *a, const uint8_t *b, size_t n_bits)
{
    const rv__kernels *k = rv__kernels_now();
    uint8_t x, y;
    if (n_bits % 8 == 0) return k->hamming(a, b, n_bits / 8);
    x = rv__distance_rest(a, n_bits);
    y = rv__distance_rest(b, n_bits);
    return k->hamming(a, b, n_bits / 8) + k->hamming(&x, &y, 1);
}

RV_API float rv_jaccard_u1(const uint8_t *a, const uint8_t *b, size_t n_bits)
{
    const rv__kernels *k = rv__kernels_now();
    uint32_t counts[2], more[2] = {0, 0};
    k->overlap(a, b, n_bits / 8, counts);
    if (n_bits % 8) {
        uint8_t x = rv__distance_rest(a, n_bits), y = rv__distance_rest(b, n_bits);
        k->overlap(&x, &y, 1, more);
    }
    return rv__jaccard_finish(counts[0] + more[0], counts[1] + more[1]);
}

RV_API void rv_axpy_f32(float alpha, const float *x, float *y, size_t n)
{
    rv__kernels_now()->axpy_f32(alpha, x, y, n);
}

RV_API void rv_scale_f32(float alpha, float *y, size_t n)
{
    rv__kernels_now()->scale_f32(alpha, y, n);
}

RV_API void rv_add_f32(const float *x, float *y, size_t n)
{
    rv__kernels_now()->add_f32(x, y, n);
}

RV_API size_t rv_dtype_bytes(rv_dtype dtype, size_t dim)
{
    switch (dtype) {
    case RV_DTYPE_F32: return dim * 4;
    case RV_DTYPE_F16: return dim * 2;
    case RV_DTYPE_BF16: return dim * 2;
    case RV_DTYPE_I8: return dim + 4;
    case RV_DTYPE_U1: return (dim + 7) / 8;
    case RV_DTYPE_U8: return dim;
    default: return 0;
    }
}

RV_API const char *rv_dtype_name(rv_dtype dtype)
{
    static const char *const names[] = {"f32", "f16", "bf16", "i8", "u1", "u8"};
    return (unsigned)dtype < sizeof names / sizeof names[0] ? names[(unsigned)dtype] : "unknown";
}

RV_API const char *rv_metric_name(rv_metric metric)
{
    static const char *const names[] = {"l2",   "ip",      "cosine",  "l1",
                                        "linf", "hamming", "jaccard", "custom"};
    return (unsigned)metric < sizeof names / sizeof names[0] ? names[(unsigned)metric] : "unknown";
}

/* NULL when the pair has no meaning. */
RV__FN rv__scan_fn rv__scan_find(rv_metric metric, rv_dtype dtype, rv_isa isa)
{
    const rv__kernels *k = rv__kernels_for(isa);
    if (dtype == RV_DTYPE_U1) {
        return metric == RV_METRIC_HAMMING   ? k->scan_hamming
               : metric == RV_METRIC_JACCARD ? k->scan_jaccard
                                             : NULL;
    }
    if ((unsigned)metric > RV_METRIC_LINF || (unsigned)dtype >= RV__TYPES) return NULL;
    return k->scan[metric][dtype];
}

RV_API int rv_metric_has(rv_metric metric, rv_dtype dtype)
{
    return rv__scan_find(metric, dtype, RV_ISA_SCALAR) != NULL;
}

RV_API void rv_metric_gather(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                             size_t stride, const uint32_t *ids, size_t n_rows, size_t dim,
                             float *out)
{
    rv__scan_fn scan = rv__scan_find(metric, dtype, RV_ISA_BEST);
    if (!scan) {
        for (size_t i = 0; i < n_rows; i++) out[i] = rv__nan();
        return;
    }
    if (stride == 0) stride = rv_dtype_bytes(dtype, dim);
    scan(query, (const unsigned char *)rows, stride, ids, n_rows, dim, out);
}

RV_API void rv_metric_many(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                           size_t stride, size_t n_rows, size_t dim, float *out)
{
    rv_metric_gather(metric, dtype, query, rows, stride, NULL, n_rows, dim, out);
}

RV_API rv_distance_f32 rv_metric_find_f32(rv_metric metric, rv_isa isa)
{
    return (unsigned)metric > RV_METRIC_LINF ? NULL : rv__kernels_for(isa)->pair_f32[metric];
}

#endif /* RV_DISTANCE_C */
