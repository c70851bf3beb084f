#ifndef RV_AFFINE_H
#define RV_AFFINE_H
#include "base.h"

/* >>affine  Tensors in small integers: q = round(x / scale) + zero, x about (q - zero) * scale,
   with a scale for the whole tensor, for each row, or for each group of elements; and vectors of
   several components in as many bits as each needs. Rounding is to the nearest, ties to even; what
   is out of range goes to its end. This is ONNX's QuantizeLinear, DequantizeLinear and
   DynamicQuantizeLinear. For codes to search with see >>quant. The error is at most scale / 2 where
   nothing was cut off, and a few units in the last place of x. Thread class: pure.

       rv_affine_shape shape = {1, n_rows, dim, 0};                      a scale for every row
       rv_affine_find(ctx, RV_AFFINE_I8, 0, x, &shape, scale, NULL);
       rv_affine_quantize(ctx, RV_AFFINE_I8, x, &shape, scale, NULL, codes);
       rv_affine_dequantize(ctx, RV_AFFINE_I8, codes, &shape, scale, NULL, x);                  */

typedef enum rv_affine_type {
    RV_AFFINE_I8 = 0,  /* -128..127, one byte                                                 */
    RV_AFFINE_U8 = 1,  /* 0..255, one byte                                                    */
    RV_AFFINE_I4 = 2,  /* -8..7, two to a byte, the first in the low half; an odd last byte has
                          0 above                                                             */
    RV_AFFINE_U4 = 3,  /* 0..15, the same                                                     */
    RV_AFFINE_I16 = 4, /* -32768..32767, int16_t in the byte order of the machine             */
    RV_AFFINE_U16 = 5  /* 0..65535                                                            */
} rv_affine_type;

/* One row per type. */
typedef struct rv_affine_info {
    const char *name; /* "i8", ...     */
    int32_t low, high;
    uint32_t bits;
} rv_affine_info;
RV_API const rv_affine_info *rv_affine_type_at(size_t i); /* NULL past the end */

/* x: [outer, channels, inner], each 1 or more (0 where there is nothing). Scale of element
   (o, c, i): scale[c] with block 0, else scale[(o * blocks + c / block) * inner + i], where
   blocks = ceil(channels / block).
       the whole tensor of n     {1, 1, n, 0}
       each of n rows            {1, n, dim, 0}
       groups of 32 along rows   {n, dim, 1, 32}                                              */
typedef struct rv_affine_shape {
    size_t outer, channels, inner, block;
} rv_affine_shape;

RV_API size_t rv_affine_scales(const rv_affine_shape *shape);         /* how many scales        */
RV_API size_t rv_affine_bytes (rv_affine_type type, size_t n);        /* bytes of n codes       */

/* Scales and zero points that fit x. Symmetric: scale = largest |x| / high and no zero point
   (signed types; codes -high..high). Asymmetric: over the range of x widened to include 0,
   scale = (largest - least) / (high - low), zero = round(low - least / scale). A part of zeros gets
   scale 1, and zero = low when asymmetric. scale, zero: [rv_affine_scales]; zero may be NULL when
   symmetric. NaN or infinity, or a range that no float holds: RV_ERR_ARG with the element in
   ctx->where; symmetric with an unsigned type: RV_ERR_CONFIG. Nothing is written on failure.
   Allocates 8 bytes per scale. */
RV_API rv_status rv_affine_find(rv_ctx *ctx, rv_affine_type type, int asymmetric, const float *x,
                                const rv_affine_shape *shape, float *scale, int32_t *zero);
/* codes: [rv_affine_bytes]; zero NULL: all 0. The quotient is taken in float, as ONNX does.
   RV_ERR_ARG: NaN in x; a scale that is not above 0 and finite, a zero point out of the type's
   range, its index in ctx->where. Infinity goes to the end of the range. */
RV_API rv_status rv_affine_quantize(rv_ctx *ctx, rv_affine_type type, const float *x,
                                    const rv_affine_shape *shape, const float *scale,
                                    const int32_t *zero, void *codes);
RV_API rv_status rv_affine_dequantize(rv_ctx *ctx, rv_affine_type type, const void *codes,
                                      const rv_affine_shape *shape, const float *scale,
                                      const int32_t *zero, float *x);

/* Rows of several components (Euclidean, hyperbolic, spherical parts, say), each with its own
   number of bits and, per row, its own scale = largest |x| / (2^(bits - 1) - 1). A code is the
   scales (four bytes each, little-endian) and the elements bit after bit, lowest first, rounded up
   to whole bytes: of 8, 5 and 5 bits, 12 + ceil((8 e + 5 h + 5 s) / 8) bytes. */
typedef struct rv_affine_component {
    uint32_t dim;  /* elements, 1 or more                                                     */
    uint32_t bits; /* per element, 2..16                                                      */
} rv_affine_component;
/* Bytes of one row's code; 0 when a component is out of its range. */
RV_API size_t rv_affine_pack_bytes(const rv_affine_component *parts, size_t n_parts);
/* x: [n, sum of dims]; codes: [n, pack bytes]. RV_ERR_ARG: NaN or infinity, its index in
   ctx->where; RV_ERR_CONFIG: a component out of its range. */
RV_API rv_status rv_affine_pack(rv_ctx *ctx, const rv_affine_component *parts, size_t n_parts,
                                const float *x, size_t n, uint8_t *codes);
RV_API rv_status rv_affine_unpack(rv_ctx *ctx, const rv_affine_component *parts, size_t n_parts,
                                  const uint8_t *codes, size_t n, float *x);

#endif /* RV_AFFINE_H */
