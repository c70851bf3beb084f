/* Vocabulary of plain C: one lane. The reference for every other instruction set: no fused
   multiply-add, so that the bits are the same on every IEEE machine (-ffp-contract=off). */

#define RV__F(name) rv__##name##_scalar
#define RV__ISA
#define RV__SCALAR 1
#define RV__LANES 1u /* floats, and 32-bit integers, per vector */
#define RV__BYTES 1u /* signed bytes per vector of the integer kernels */
#define RV__WORD 8u  /* bytes per vector of the bit kernels */
#define rv__v float
#define rv__vi int32_t
#define rv__vb int32_t
#define RV__TILE 2u  /* column vectors of a matrix tile */
#define RV__GROUP 2u /* bytes of a row that one 32-bit lane multiplies at once */
#define RV__GROUP_FLIP 0u
#define rv__vw uint64_t
#define rv__vp uint64_t

#define rv__vzero() 0.0f
#define rv__vset(x) (x)
#define rv__vadd(a, b) ((a) + (b))
#define rv__vsub(a, b) ((a) - (b))
#define rv__vmul(a, b) ((a) * (b))
#define rv__vdiv(a, b) ((a) / (b))
#define rv__vfma(a, b, c) ((a) * (b) + (c))
#define rv__vfnma(a, b, c) ((c) - (a) * (b)) /* c - a b */
#define rv__vsum(a) (a)
#define rv__vmaximum(a) (a)
#define rv__vround(a) rv__round_i32(a)
#define rv__veven(a, b) (a) /* of one lane: never called */
#define rv__vodd(a, b) (b)
#define rv__vfloat(a) ((float)(a))
#define rv__vbits(a) rv__bits_f32(a)
#define rv__vfrom(a) rv__from_bits_f32(a)
#define rv__vpick(mask, a, b) ((mask) ? (a) : (b))
#define rv__vless(a, b) ((a) < (b))
#define rv__vmask(less) ((uint32_t)(less))
#define rv__iset(x) (x)
#define rv__ixor(a, b) ((a) ^ (b))
/* Wraps, as vector lanes do. */
#define rv__iadd(a, b) ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define rv__isub(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)))
#define rv__iand(a, b) ((a) & (b))
#define rv__ior(a, b) ((a) | (b))
#define rv__ishl(a, n) ((int32_t)((uint32_t)(a) << (n)))
#define rv__isar(a, n) rv__sar_i32((a), (n))
#define rv__igreater(a, b) ((a) > (b))
#define rv__isum(a) (a)
#define rv__isum4(out, a, b, c, d) ((out)[0] = (a), (out)[1] = (b), (out)[2] = (c), (out)[3] = (d))
#define rv__vsum4(out, a, b, c, d) ((out)[0] = (a), (out)[1] = (b), (out)[2] = (c), (out)[3] = (d))

RV__INLINE float rv__vabs_scalar(float x)
{
    return rv__from_bits_f32(rv__bits_f32(x) & 0x7FFFFFFF);
}

/* The larger bit pattern: of magnitudes, the larger one, and NaN is larger than infinity. */
RV__INLINE float rv__vmaxbits_scalar(float a, float b)
{
    return rv__bits_f32(a) > rv__bits_f32(b) ? a : b;
}

/* Two products of 16-bit halves. */
RV__INLINE int32_t rv__gdot_scalar(int32_t acc, int32_t b, int32_t a)
{
    int32_t low = (int16_t)(a & 0xFFFF) * (int16_t)(b & 0xFFFF);
    return rv__iadd(acc, low + rv__sar_i32(a, 16) * rv__sar_i32(b, 16));
}

#define rv__vload(p) rv__load_f32(p)
#define rv__vstore(p, a) rv__store_f32((p), (a))
#define rv__vload_tail(p, n) rv__load_f32(p) /* n is 0 always: never called */
#define rv__vstore_tail(p, a, n) rv__store_f32((p), (a))
#define rv__vload_f16(p) rv__f16_f32(rv__load_u16(p))
#define rv__vload_bf16(p) rv__bf16_f32(rv__load_u16(p))
#define rv__vload_i8(p) ((float)*(const int8_t *)(p))
#define rv__vload_u8(p) ((float)*(const uint8_t *)(p))
#define rv__vkeep_last(a, n) (a)
#define rv__vstore_f16(p, a) rv__store_u16((p), rv__f32_f16(a))
#define rv__istore_top16(p, a) rv__store_u16((p), (uint16_t)((uint32_t)(a) >> 16))
#define rv__istore_i8(p, a) ((void)(*(int8_t *)(p) = (int8_t)(a)))
#define rv__vabs(a) rv__vabs_scalar(a)
#define rv__vmaxbits(a, b) rv__vmaxbits_scalar((a), (b))
#define rv__vmax(a, b) ((a) > (b) ? (a) : (b))
#define rv__vmin(a, b) ((a) < (b) ? (a) : (b))

#define rv__bload(p) ((int32_t)*(const int8_t *)(p))
#define rv__blow(a) ((a) & 15)
#define rv__bhigh(a) (((a) >> 4) & 15)
#define rv__bbits(p, j) ((int32_t)((p)[(j) >> 3] >> ((j) & 7u) & 1u))
#define rv__bflip(a) (a)
#define RV__BIAS 0
#define rv__bone() 1
#define rv__bdot(acc, r, q) rv__iadd((acc), (r) * (q))
#define rv__bdot_small(acc, r, q) rv__iadd((acc), (r) * (q))
#define rv__bdot_any(acc, a, b) rv__iadd((acc), (a) * (b))
#define rv__bbias(acc, b) (acc)
#define rv__bbias_u8(acc, a) (acc)
#define rv__bsquare(acc, a) rv__iadd((acc), (a) * (a))
/* The same byte unsigned. */
#define rv__bdot_u8(acc, a, b) rv__iadd((acc), ((a) & 255) * ((b) & 255))
#define rv__bl2_i8(acc, a, b) rv__iadd((acc), ((a) - (b)) * ((a) - (b)))
#define rv__bl2_u8(acc, a, b)                                                                      \
    rv__iadd((acc), (((a) & 255) - ((b) & 255)) * (((a) & 255) - ((b) & 255)))
#define rv__bl1_i8(acc, a, b) rv__iadd((acc), rv__bgap_i8((a), (b)))
#define rv__bl1_u8(acc, a, b) rv__iadd((acc), rv__bgap_u8((a), (b)))
#define rv__bzero() 0
#define rv__bgap_i8(a, b) ((a) > (b) ? (a) - (b) : (b) - (a))
#define rv__bgap_u8(a, b) rv__bgap_i8((a) & 255, (b) & 255)
#define rv__bmost(a, b) ((a) > (b) ? (a) : (b))
#define rv__btop(a) (a)
#define rv__gdot(acc, b, a) rv__gdot_scalar((acc), (b), (a))

#define rv__wload(p) rv__load_u64(p)
#define rv__wand(a, b) ((a) & (b))
#define rv__wor(a, b) ((a) | (b))
#define rv__wxor(a, b) ((a) ^ (b))
#define rv__padd(a, b) ((a) + (b))
#define rv__pzero() ((uint64_t)0)
#define rv__wpop(acc, x) ((acc) + rv__pop64(x))
#define rv__psum(acc) (acc)
#define rv__psum4(out, a, b, c, d)                                                                 \
    ((out)[0] = (int32_t)(a), (out)[1] = (int32_t)(b), (out)[2] = (int32_t)(c),                    \
     (out)[3] = (int32_t)(d))
