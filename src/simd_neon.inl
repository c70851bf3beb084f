/* Vocabulary of AArch64 Advanced SIMD. With RV__DOTPROD defined, of processors that also have the
   8-bit dot product; then only the integer kernels are expanded. */

#if defined(RV__DOTPROD)
#define RV__F(name) rv__##name##_neondot
#define RV__ISA RV__DOTPROD_TARGET
#else
#define RV__F(name) rv__##name##_neon
#define RV__ISA
#endif
#define RV__LANES 4u
#define RV__BYTES 16u
#define RV__WORD 16u
#define RV__TILE 4u
#define RV__LOOK 16u
#define rv__v float32x4_t
#define rv__vi int32x4_t
#define rv__vb int8x16_t
#define rv__vw uint8x16_t
#define rv__vp uint64x2_t
#define rv__q uint8x16_t

#define rv__vzero() vdupq_n_f32(0.0f)
#define rv__vset(x) vdupq_n_f32(x)
#define rv__vadd(a, b) vaddq_f32((a), (b))
#define rv__vsub(a, b) vsubq_f32((a), (b))
#define rv__vmul(a, b) vmulq_f32((a), (b))
#define rv__vdiv(a, b) vdivq_f32((a), (b))
#define rv__vfma(a, b, c) vfmaq_f32((c), (a), (b))
#define rv__vfnma(a, b, c) vfmsq_f32((c), (a), (b)) /* c - a b */
#define rv__vmax(a, b) vmaxq_f32((a), (b))
#define rv__vmin(a, b) vminq_f32((a), (b))
#define rv__vround(a) vcvtnq_s32_f32(a)
#define rv__vfloat(a) vcvtq_f32_s32(a)
#define rv__vbits(a) vreinterpretq_s32_f32(a)
#define rv__vfrom(a) vreinterpretq_f32_s32(a)
#define rv__vpick(mask, a, b) vbslq_f32((mask), (a), (b))
#define rv__vless(a, b) vcltq_f32((a), (b))
#define rv__vmask(less) RV__F(lane_mask)(less)
#define rv__iset(x) vdupq_n_s32(x)
#define rv__iadd(a, b) vaddq_s32((a), (b))
#define rv__isub(a, b) vsubq_s32((a), (b))
#define rv__iand(a, b) vandq_s32((a), (b))
#define rv__ior(a, b) vorrq_s32((a), (b))
#define rv__ixor(a, b) veorq_s32((a), (b))
#define rv__ishl(a, n) vshlq_n_s32((a), (n))
#define rv__isar(a, n) vshrq_n_s32((a), (n))
#define rv__igreater(a, b) vcgtq_s32((a), (b))
#define rv__isum(a) vaddvq_s32(a)
#define rv__vsum(a) vaddvq_f32(a)
#define rv__isum4(out, a, b, c, d)                                                                 \
    vst1q_s32((out), vpaddq_s32(vpaddq_s32((a), (b)), vpaddq_s32((c), (d))))
#define rv__vsum4(out, a, b, c, d)                                                                 \
    vst1q_f32((out), vpaddq_f32(vpaddq_f32((a), (b)), vpaddq_f32((c), (d))))
#define rv__vmaximum(a) rv__from_bits_f32(vmaxvq_s32(vreinterpretq_s32_f32(a)))
/* Loads of bytes take any alignment. */
#define rv__vload(p) vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)(const void *)(p)))
#define rv__vstore(p, a) vst1q_u8((uint8_t *)(void *)(p), vreinterpretq_u8_f32(a))
#define rv__vload_tail(p, n) RV__F(load_tail)((p), (n))
#define rv__vstore_tail(p, a, n) RV__F(store_tail)((p), (a), (n))
#define rv__vload_f16(p)                                                                           \
    vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)(const void *)(p))))
#define rv__vload_bf16(p)                                                                          \
    vreinterpretq_f32_u32(                                                                         \
        vshll_n_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t *)(const void *)(p))), 16))
#define rv__vload_i8(p)                                                                            \
    vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(rv__load_u32(p))))))
#define rv__vload_u8(p)                                                                            \
    vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(rv__load_u32(p))))))
#define rv__vkeep_last(a, n) RV__F(keep_last)((a), (n))
#define rv__vabs(a) vabsq_f32(a)
#define rv__vmaxbits(a, b)                                                                         \
    vreinterpretq_f32_s32(vmaxq_s32(vreinterpretq_s32_f32(a), vreinterpretq_s32_f32(b)))
#define rv__vstore_f16(p, a) vst1_u8((uint8_t *)(void *)(p), vreinterpret_u8_f16(vcvt_f16_f32(a)))
#define rv__istore_top16(p, a)                                                                     \
    vst1_u8((uint8_t *)(void *)(p), vreinterpret_u8_u16(vshrn_n_u32(vreinterpretq_u32_s32(a), 16)))
#define rv__istore_i8(p, a) RV__F(store_i8)((p), (a))
#define rv__vquads(p, s) rv__vload(p)
#define rv__veven(a, b) vuzp1q_f32((a), (b))
#define rv__vodd(a, b) vuzp2q_f32((a), (b))
#define rv__vzip_low(a, b) vzip1q_f32((a), (b))
#define rv__vzip_high(a, b) vzip2q_f32((a), (b))
#define rv__vzip2_low(a, b)                                                                        \
    vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)))
#define rv__vzip2_high(a, b)                                                                       \
    vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)))

RV__ISA RV__INLINE uint32_t RV__F(lane_mask)(uint32x4_t less)
{
    const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(less, vld1q_u32(bits)));
}

RV__ISA RV__INLINE float32x4_t RV__F(load_tail)(const void *p, size_t n)
{
    float x[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    memcpy(x, p, 4 * n);
    return vld1q_f32(x);
}

RV__ISA RV__INLINE void RV__F(store_tail)(void *p, float32x4_t a, size_t n)
{
    float x[4];
    vst1q_f32(x, a);
    memcpy(p, x, 4 * n);
}

/* Zeros but in the last n lanes. */
RV__ISA RV__INLINE float32x4_t RV__F(keep_last)(float32x4_t a, size_t n)
{
    const uint32_t ones[8] = {0, 0, 0, 0, 0xFFFFFFFFu, 0xFFFFFFFFu, 0xFFFFFFFFu, 0xFFFFFFFFu};
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vld1q_u32(ones + n)));
}

RV__ISA RV__INLINE void RV__F(store_i8)(void *p, int32x4_t a)
{
    int16x4_t half = vmovn_s32(a);
    uint32_t bytes = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(half, half))), 0);
    memcpy(p, &bytes, 4);
}

/* ---- bytes ---- */

#define rv__bload(p) vreinterpretq_s8_u8(vld1q_u8((const uint8_t *)(const void *)(p)))
#define rv__bbias(acc, b) (acc)
#define rv__bbias_u8(acc, a) (acc)
#define rv__bsquare(acc, a) rv__bdot_any((acc), (a), (a))
#define rv__bone() vdupq_n_s8(1)
#define rv__blow(a) vandq_s8((a), vdupq_n_s8(15))
#define rv__bhigh(a) vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(a), 4))
#define rv__bbits(p, j) RV__F(v_bits)((p) + ((j) >> 3))
#define rv__bflip(a) (a)
#define RV__BIAS 0
#define RV__GROUP_FLIP 0u
#define rv__bdot(acc, r, q) RV__F(v_dot)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot)((acc), (r), (q))
#define rv__bdot_any(acc, a, b) RV__F(v_dot_any)((acc), (a), (b))
#define rv__bdot_u8(acc, a, b)                                                                     \
    RV__F(v_dot_u8)((acc), vreinterpretq_u8_s8(a), vreinterpretq_u8_s8(b))
#define rv__bl2_u8(acc, a, b)                                                                      \
    RV__F(v_square)((acc), vabdq_u8(vreinterpretq_u8_s8(a), vreinterpretq_u8_s8(b)))
/* The difference of signed bytes wraps to the right unsigned one. */
#define rv__bl2_i8(acc, a, b) RV__F(v_square)((acc), vreinterpretq_u8_s8(vabdq_s8((a), (b))))
#define rv__bl1_i8(acc, a, b)                                                                      \
    vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(acc),                                  \
                                      vpaddlq_u8(vreinterpretq_u8_s8(vabdq_s8((a), (b))))))
#define rv__bl1_u8(acc, a, b)                                                                      \
    vreinterpretq_s32_u32(                                                                         \
        vpadalq_u16(vreinterpretq_u32_s32(acc),                                                    \
                    vpaddlq_u8(vabdq_u8(vreinterpretq_u8_s8(a), vreinterpretq_u8_s8(b)))))
#define rv__bzero() vdupq_n_s8(0)
/* |a - b| as unsigned bytes; the larger of two; the largest of all. */
#define rv__bgap_i8(a, b) vabdq_s8((a), (b))
#define rv__bgap_u8(a, b)                                                                          \
    vreinterpretq_s8_u8(vabdq_u8(vreinterpretq_u8_s8(a), vreinterpretq_u8_s8(b)))
#define rv__bmost(a, b)                                                                            \
    vreinterpretq_s8_u8(vmaxq_u8(vreinterpretq_u8_s8(a), vreinterpretq_u8_s8(b)))
#define rv__btop(a) ((int32_t)vmaxvq_u8(vreinterpretq_u8_s8(a)))

RV__ISA RV__INLINE int8x16_t RV__F(v_bits)(const unsigned char *p)
{
    const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t x = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
    return vreinterpretq_s8_u8(vandq_u8(vtstq_u8(x, vld1q_u8(places)), vdupq_n_u8(1)));
}

#if defined(RV__DOTPROD)
#define RV__GROUP 4u
#define rv__gquads(row, k) vreinterpretq_s32_s8(rv__bload((row)[0] + (k)))
#define rv__gdot(acc, b, a) vdotq_s32((acc), vreinterpretq_s8_s32(b), vreinterpretq_s8_s32(a))

RV__ISA RV__INLINE int32x4_t RV__F(v_dot)(int32x4_t acc, int8x16_t r, int8x16_t q)
{
    return vdotq_s32(acc, r, q);
}

RV__ISA RV__INLINE int32x4_t RV__F(v_dot_any)(int32x4_t acc, int8x16_t a, int8x16_t b)
{
    return vdotq_s32(acc, a, b);
}

RV__ISA RV__INLINE int32x4_t RV__F(v_dot_u8)(int32x4_t acc, uint8x16_t a, uint8x16_t b)
{
    return vreinterpretq_s32_u32(vdotq_u32(vreinterpretq_u32_s32(acc), a, b));
}
#else
#define RV__GROUP 2u
#define rv__gquads(row, k)                                                                         \
    vreinterpretq_s32_s16(vmovl_s8(vreinterpret_s8_u8(vld1_u8((const uint8_t *)((row)[0] + (k))))))
#define rv__gdot(acc, b, a) RV__F(v_gdot)((acc), vreinterpretq_s16_s32(b), vreinterpretq_s16_s32(a))

RV__ISA RV__INLINE int32x4_t RV__F(v_gdot)(int32x4_t acc, int16x8_t b, int16x8_t a)
{
    int32x4_t low = vmull_s16(vget_low_s16(b), vget_low_s16(a));
    return vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(b, a)));
}

/* |r| <= 128, |q| <= 127: two products stay below 2^15. */
RV__ISA RV__INLINE int32x4_t RV__F(v_dot)(int32x4_t acc, int8x16_t r, int8x16_t q)
{
    int16x8_t low = vmull_s8(vget_low_s8(r), vget_low_s8(q));
    return vpadalq_s16(acc, vmlal_high_s8(low, r, q));
}

RV__ISA RV__INLINE int32x4_t RV__F(v_dot_any)(int32x4_t acc, int8x16_t a, int8x16_t b)
{
    acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(acc, vmull_high_s8(a, b));
}

RV__ISA RV__INLINE int32x4_t RV__F(v_dot_u8)(int32x4_t acc, uint8x16_t a, uint8x16_t b)
{
    uint32x4_t sum =
        vpadalq_u16(vreinterpretq_u32_s32(acc), vmull_u8(vget_low_u8(a), vget_low_u8(b)));
    return vreinterpretq_s32_u32(vpadalq_u16(sum, vmull_high_u8(a, b)));
}
#endif

RV__ISA RV__INLINE int32x4_t RV__F(v_square)(int32x4_t acc, uint8x16_t d)
{
    return RV__F(v_dot_u8)(acc, d, d);
}

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() vdupq_n_u8(0)
#define rv__qload(p) vld1q_u8(p)
#define rv__qload_half(p) vld1q_u8(p)
#define rv__qlow(a) vandq_u8((a), vdupq_n_u8(15))
#define rv__qhigh(a) vshrq_n_u8((a), 4)
#define rv__qlook(table, index) vqtbl1q_u8((table), (index))
#define rv__qadd(a, b)                                                                             \
    vreinterpretq_u8_u16(vaddq_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)))
#define rv__qodd(a) vreinterpretq_u8_u16(vshrq_n_u16(vreinterpretq_u16_u8(a), 8))
#define rv__qeven(all, odd)                                                                        \
    vreinterpretq_u8_u16(                                                                          \
        vsubq_u16(vreinterpretq_u16_u8(all), vshlq_n_u16(vreinterpretq_u16_u8(odd), 8)))

RV__ISA RV__INLINE void RV__F(qfold)(uint8x16_t even, uint8x16_t odd, uint16_t *out, int add)
{
    uint16x8_t e = vreinterpretq_u16_u8(even), o = vreinterpretq_u16_u8(odd);
    uint16x8_t low = vzip1q_u16(e, o), high = vzip2q_u16(e, o);
    if (add) {
        low = vqaddq_u16(low, vld1q_u16(out));
        high = vqaddq_u16(high, vld1q_u16(out + 8));
    }
    vst1q_u16(out, low);
    vst1q_u16(out + 8, high);
}

/* ---- bits ---- */

#define rv__wload(p) vld1q_u8(p)
#define rv__wand(a, b) vandq_u8((a), (b))
#define rv__wor(a, b) vorrq_u8((a), (b))
#define rv__wxor(a, b) veorq_u8((a), (b))
#define rv__padd(a, b) vaddq_u64((a), (b))
#define rv__pzero() vdupq_n_u64(0)
#define rv__wpop(acc, x) vpadalq_u32((acc), vpaddlq_u16(vpaddlq_u8(vcntq_u8(x))))
#define rv__psum(acc) vaddvq_u64(acc)
#define rv__psum4(out, a, b, c, d)                                                                 \
    vst1q_s32((out), vreinterpretq_s32_u32(vcombine_u32(vmovn_u64(vpaddq_u64((a), (b))),           \
                                                        vmovn_u64(vpaddq_u64((c), (d))))))
