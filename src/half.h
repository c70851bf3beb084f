#ifndef RV_HALF_H
#define RV_HALF_H
#include "base.h"

/* >>half  IEEE binary16 and bfloat16, held in uint16_t, and signed bytes.
   Conversions to the narrow types round to nearest, ties to even; values beyond the range become
   infinity (bytes: saturate); NaN stays NaN (quiet; bytes: 0). Thread class: pure. */

RV_API uint16_t rv_f16_from_f32(float x);
RV_API float    rv_f32_from_f16(uint16_t x);
RV_API uint16_t rv_bf16_from_f32(float x);
RV_API float    rv_f32_from_bf16(uint16_t x);

/* src, dst: [n], any alignment; they must not overlap. */
RV_API void rv_convert_f32_to_f16(const float *src, uint16_t *dst, size_t n);
RV_API void rv_convert_f16_to_f32(const uint16_t *src, float *dst, size_t n);
RV_API void rv_convert_f32_to_bf16(const float *src, uint16_t *dst, size_t n);
RV_API void rv_convert_bf16_to_f32(const uint16_t *src, float *dst, size_t n);
/* dst[i] = round(src[i] * scale) saturated to -127..127, and src[i] * scale. */
RV_API void rv_convert_f32_to_i8(const float *src, float scale, int8_t *dst, size_t n);
RV_API void rv_convert_i8_to_f32(const int8_t *src, float scale, float *dst, size_t n);

#endif /* RV_HALF_H */
