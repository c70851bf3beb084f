#ifndef RV_HALF_C
#define RV_HALF_C
#include "half.h"
#include "base.c"
#include "simd.c"

/* The scalar conversions stand in simd.c beside their vector forms; all give the same bits. */

RV_API uint16_t rv_f16_from_f32(float x)
{
    return rv__f32_f16(x);
}

RV_API float rv_f32_from_f16(uint16_t x)
{
    return rv__f16_f32(x);
}

RV_API uint16_t rv_bf16_from_f32(float x)
{
    return rv__f32_bf16(x);
}

RV_API float rv_f32_from_bf16(uint16_t x)
{
    return rv__bf16_f32(x);
}

RV_API void rv_convert_f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    rv__kernels_now()->narrow_f16(src, dst, n);
}

RV_API void rv_convert_f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    rv__kernels_now()->widen_f16(src, dst, n);
}

RV_API void rv_convert_f32_to_bf16(const float *src, uint16_t *dst, size_t n)
{
    rv__kernels_now()->narrow_bf16(src, dst, n);
}

RV_API void rv_convert_bf16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    rv__kernels_now()->widen_bf16(src, dst, n);
}

RV_API void rv_convert_f32_to_i8(const float *src, float scale, int8_t *dst, size_t n)
{
    rv__kernels_now()->narrow_i8(src, scale, dst, n);
}

RV_API void rv_convert_i8_to_f32(const int8_t *src, float scale, float *dst, size_t n)
{
    rv__kernels_now()->widen_i8(src, scale, dst, n);
}

#endif /* RV_HALF_C */
