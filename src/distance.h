#ifndef RV_DISTANCE_H
#define RV_DISTANCE_H
#include "base.h"

/* >>distance  Distances: smaller is closer. a, b: [n]. Pure functions of any n including 0 and any
   alignment; they never fail. Floats are accumulated in float lanes, relative error about
   sqrt(n) / 2^24 of the sum of magnitudes; integer results are exact as long as the 32-bit sum
   holds them: any n for the largest difference, n below 2^15 for rv_l2sq_i8, below 2^16 for the
   others, cosines and lengths of bytes too; beyond that sums may wrap. NaN and infinity propagate
   as in plain arithmetic, on every instruction set alike: any NaN makes a result NaN, the largest
   difference too. Cosines are right also where squares leave the range of floats; of an infinite
   vector they are NaN. Lengths are taken again in double there, so they are right as far as a float
   holds them. Of n = 0 every result is 0. rv_dot_bf16 and rv_cosine_bf16 may take subnormal
   elements for zero (AVX-512 BF16 does). Thread class: pure. */

typedef enum rv_dtype {
    RV_DTYPE_F32 = 0,
    RV_DTYPE_F16 = 1,  /* uint16_t, IEEE binary16                                            */
    RV_DTYPE_BF16 = 2, /* uint16_t, bfloat16                                                 */
    RV_DTYPE_I8 = 3,   /* a float scale s, then int8_t c[dim]: the value is s * c            */
    RV_DTYPE_U1 = 4,   /* bits, eight to a byte, bit i is byte i / 8 >> i % 8; spare bits 0  */
    RV_DTYPE_U8 = 5    /* uint8_t, the value itself; for scans, indexes do not store it      */
} rv_dtype;

typedef enum rv_metric {
    RV_METRIC_L2 = 0,      /* squared Euclidean distance                                     */
    RV_METRIC_IP = 1,      /* minus the dot product, so that it sorts like the others        */
    RV_METRIC_COSINE = 2,  /* 1 - cos, in [0,2]; two zero vectors: 0, exactly one zero: 1    */
    RV_METRIC_L1 = 3,      /* sum of absolute differences                                    */
    RV_METRIC_LINF = 4,    /* largest absolute difference                                    */
    RV_METRIC_HAMMING = 5, /* differing bits; U1 only                                        */
    RV_METRIC_JACCARD = 6, /* 1 - intersection / union of bits, two empty sets: 0; U1 only   */
    RV_METRIC_CUSTOM = 7   /* the caller's function; indexes only                            */
} rv_metric;

RV_API float   rv_dot_f32   (const float *a, const float *b, size_t n);
RV_API float   rv_l2sq_f32  (const float *a, const float *b, size_t n); /* no square root      */
RV_API float   rv_cosine_f32(const float *a, const float *b, size_t n);
RV_API float   rv_l1_f32    (const float *a, const float *b, size_t n);
RV_API float   rv_linf_f32  (const float *a, const float *b, size_t n);
RV_API float   rv_norm_f32  (const float *a, size_t n);                 /* Euclidean length    */

/* What a cosine is made of, in one pass: to keep a length for the next pair, or to make a measure
   of one's own. Plain float sums: squares above the range of floats become infinite, below it 0 (or
   lose digits), which rv_cosine_f32 mends. */
typedef struct rv_cosine_parts {
    float dot;  /* a . b */
    float a_sq; /* a . a */
    float b_sq; /* b . b */
} rv_cosine_parts;
RV_API rv_cosine_parts rv_cosine_parts_f32(const float *a, const float *b, size_t n);

RV_API float   rv_dot_f16   (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_l2sq_f16  (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_cosine_f16(const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_l1_f16    (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_linf_f16  (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_norm_f16  (const uint16_t *a, size_t n);
RV_API float   rv_dot_bf16  (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_l2sq_bf16 (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_cosine_bf16(const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_l1_bf16   (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_linf_bf16 (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_norm_bf16 (const uint16_t *a, size_t n);

RV_API int32_t rv_dot_i8    (const int8_t *a, const int8_t *b, size_t n);
RV_API int32_t rv_l2sq_i8   (const int8_t *a, const int8_t *b, size_t n);
RV_API float   rv_cosine_i8 (const int8_t *a, const int8_t *b, size_t n);
RV_API int32_t rv_l1_i8     (const int8_t *a, const int8_t *b, size_t n);
RV_API int32_t rv_linf_i8   (const int8_t *a, const int8_t *b, size_t n);
RV_API float   rv_norm_i8   (const int8_t *a, size_t n);
RV_API uint32_t rv_dot_u8   (const uint8_t *a, const uint8_t *b, size_t n);
RV_API uint32_t rv_l2sq_u8  (const uint8_t *a, const uint8_t *b, size_t n);
RV_API float   rv_cosine_u8 (const uint8_t *a, const uint8_t *b, size_t n);
RV_API uint32_t rv_l1_u8    (const uint8_t *a, const uint8_t *b, size_t n);
RV_API uint32_t rv_linf_u8  (const uint8_t *a, const uint8_t *b, size_t n);
RV_API float   rv_norm_u8   (const uint8_t *a, size_t n);

/* a, b: bits, (n_bits + 7) / 8 bytes; bits past n_bits are not looked at. */
RV_API uint32_t rv_hamming_u1(const uint8_t *a, const uint8_t *b, size_t n_bits);
RV_API float    rv_jaccard_u1(const uint8_t *a, const uint8_t *b, size_t n_bits);

/* In place on y: [n]. */
RV_API void rv_axpy_f32 (float alpha, const float *x, float *y, size_t n); /* y += alpha * x   */
RV_API void rv_scale_f32(float alpha, float *y, size_t n);                 /* y *= alpha       */
RV_API void rv_add_f32  (const float *x, float *y, size_t n);              /* y += x           */

/* Bytes of one row of dim elements of a type (I8: with its scale). */
RV_API size_t rv_dtype_bytes(rv_dtype dtype, size_t dim);
RV_API const char *rv_dtype_name(rv_dtype dtype);
RV_API const char *rv_metric_name(rv_metric metric); /* "l2", "ip", "cosine", ...              */

/* One query against many rows. query: float[dim], but bits for U1 rows. Byte rows are summed in
   floats too: exact while the query and every sum are whole numbers below 2^24 (but the cosine).
   Row i starts at (const char *)rows + i * stride bytes; stride 0 = rv_dtype_bytes. ids NULL: rows
   0..n_rows-1; otherwise the rows ids[0..n_rows-1], prefetched ahead, which is what a graph search
   wants. out: [n_rows]. A pair of metric and type that has no meaning (Hamming of floats, custom)
   sets every out to NaN; rv_metric_has tells. */
RV_API int  rv_metric_has(rv_metric metric, rv_dtype dtype);
RV_API void rv_metric_many(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                           size_t stride, size_t n_rows, size_t dim, float *out);
RV_API void rv_metric_gather(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                             size_t stride, const uint32_t *ids, size_t n_rows, size_t dim,
                             float *out);

/* The pair kernel of one instruction set, for inner loops of the caller; NULL: there is none. */
typedef float (*rv_distance_f32)(const float *a, const float *b, size_t n);
RV_API rv_distance_f32 rv_metric_find_f32(rv_metric metric, rv_isa isa);

#endif /* RV_DISTANCE_H */
