/* Vocabulary of WebAssembly SIMD128. */

#define RV__F(name) rv__##name##_wasm
#define RV__ISA
#define RV__LANES 4u
#define RV__BYTES 16u
#define RV__WORD 16u
#define RV__TILE 2u
#define RV__LOOK 16u
#define RV__GROUP 2u
#define RV__GROUP_FLIP 0u
#define RV__BIAS 0
#define rv__v v128_t
#define rv__vi v128_t
#define rv__vb v128_t
#define rv__vw v128_t
#define rv__vp v128_t
#define rv__q v128_t

#define rv__vzero() wasm_f32x4_splat(0.0f)
#define rv__vset(x) wasm_f32x4_splat(x)
#define rv__vadd(a, b) wasm_f32x4_add((a), (b))
#define rv__vsub(a, b) wasm_f32x4_sub((a), (b))
#define rv__vmul(a, b) wasm_f32x4_mul((a), (b))
#define rv__vdiv(a, b) wasm_f32x4_div((a), (b))
#define rv__vfma(a, b, c) wasm_f32x4_add(wasm_f32x4_mul((a), (b)), (c))
#define rv__vfnma(a, b, c) wasm_f32x4_sub((c), wasm_f32x4_mul((a), (b))) /* c - a b */
#define rv__vmax(a, b) wasm_f32x4_max((a), (b))
#define rv__vmin(a, b) wasm_f32x4_min((a), (b))
#define rv__vround(a) wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(a))
#define rv__vfloat(a) wasm_f32x4_convert_i32x4(a)
#define rv__vbits(a) (a)
#define rv__vfrom(a) (a)
#define rv__vpick(mask, a, b) wasm_v128_bitselect((a), (b), (mask))
#define rv__vless(a, b) wasm_f32x4_lt((a), (b))
#define rv__vmask(less) ((uint32_t)wasm_i32x4_bitmask(less))
#define rv__iset(x) wasm_i32x4_splat(x)
#define rv__iadd(a, b) wasm_i32x4_add((a), (b))
#define rv__isub(a, b) wasm_i32x4_sub((a), (b))
#define rv__iand(a, b) wasm_v128_and((a), (b))
#define rv__ior(a, b) wasm_v128_or((a), (b))
#define rv__ixor(a, b) wasm_v128_xor((a), (b))
#define rv__ishl(a, n) wasm_i32x4_shl((a), (n))
#define rv__isar(a, n) wasm_i32x4_shr((a), (n))
#define rv__igreater(a, b) wasm_i32x4_gt((a), (b))
#define rv__isum(a) RV__F(isum)(a)
#define rv__vsum(a) RV__F(vsum)(a)
#define rv__isum4(out, a, b, c, d) RV__F(isum4)((out), (a), (b), (c), (d))
#define rv__vsum4(out, a, b, c, d) RV__F(vsum4)((out), (a), (b), (c), (d))
#define rv__vmaximum(a) RV__F(vmaximum)(a)
#define rv__vload(p) wasm_v128_load((const void *)(p))
#define rv__vstore(p, a) wasm_v128_store((void *)(p), (a))
#define rv__vload_tail(p, n) RV__F(load_tail)((p), (n))
#define rv__vstore_tail(p, a, n) RV__F(store_tail)((p), (a), (n))
#define rv__vload_f16(p) RV__F(from_f16)(wasm_u32x4_load16x4((const void *)(p)))
#define rv__vload_bf16(p) wasm_i32x4_shl(wasm_u32x4_load16x4((const void *)(p)), 16)
#define rv__vload_i8(p)                                                                            \
    wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(                                          \
        wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero((const void *)(p)))))
#define rv__vkeep_last(a, n)                                                                       \
    wasm_v128_and((a), wasm_i32x4_gt(wasm_i32x4_make(1, 2, 3, 4), wasm_i32x4_splat((int)(4 - (n)))))
#define rv__vload_u8(p)                                                                            \
    wasm_f32x4_convert_i32x4(wasm_u32x4_extend_low_u16x8(                                          \
        wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero((const void *)(p)))))
#define rv__vabs(a) wasm_f32x4_abs(a)
#define rv__vmaxbits(a, b) wasm_i32x4_max((a), (b))
#define rv__vstore_f16(p, a) RV__F(store_f16)((p), (a))
#define rv__istore_top16(p, a) RV__F(store_top16)((p), (a))
#define rv__istore_i8(p, a) RV__F(store_i8)((p), (a))
#define rv__vquads(p, s) rv__vload(p)
#define rv__veven(a, b) wasm_i32x4_shuffle((a), (b), 0, 2, 4, 6)
#define rv__vodd(a, b) wasm_i32x4_shuffle((a), (b), 1, 3, 5, 7)
#define rv__vzip_low(a, b) wasm_i32x4_shuffle((a), (b), 0, 4, 1, 5)
#define rv__vzip_high(a, b) wasm_i32x4_shuffle((a), (b), 2, 6, 3, 7)
#define rv__vzip2_low(a, b) wasm_i64x2_shuffle((a), (b), 0, 2)
#define rv__vzip2_high(a, b) wasm_i64x2_shuffle((a), (b), 1, 3)

RV__INLINE int32_t RV__F(isum)(v128_t a)
{
    a = wasm_i32x4_add(a, wasm_i32x4_shuffle(a, a, 2, 3, 0, 1));
    return wasm_i32x4_extract_lane(wasm_i32x4_add(a, wasm_i32x4_shuffle(a, a, 1, 0, 3, 2)), 0);
}

RV__INLINE float RV__F(vsum)(v128_t a)
{
    a = wasm_f32x4_add(a, wasm_i32x4_shuffle(a, a, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(wasm_f32x4_add(a, wasm_i32x4_shuffle(a, a, 1, 0, 3, 2)), 0);
}

RV__INLINE void RV__F(isum4)(int32_t *out, v128_t a, v128_t b, v128_t c, v128_t d)
{
    v128_t x = wasm_i32x4_add(rv__vzip_low(a, b), rv__vzip_high(a, b)); /* a, b, a, b */
    v128_t y = wasm_i32x4_add(rv__vzip_low(c, d), rv__vzip_high(c, d));
    wasm_v128_store(out, wasm_i32x4_add(rv__vzip2_low(x, y), rv__vzip2_high(x, y)));
}

RV__INLINE void RV__F(vsum4)(float *out, v128_t a, v128_t b, v128_t c, v128_t d)
{
    v128_t x = wasm_f32x4_add(rv__vzip_low(a, b), rv__vzip_high(a, b));
    v128_t y = wasm_f32x4_add(rv__vzip_low(c, d), rv__vzip_high(c, d));
    wasm_v128_store(out, wasm_f32x4_add(rv__vzip2_low(x, y), rv__vzip2_high(x, y)));
}

/* Of magnitudes, through their bits. */
RV__INLINE float RV__F(vmaximum)(v128_t a)
{
    a = wasm_i32x4_max(a, wasm_i32x4_shuffle(a, a, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(wasm_i32x4_max(a, wasm_i32x4_shuffle(a, a, 1, 0, 3, 2)), 0);
}

RV__INLINE v128_t RV__F(load_tail)(const void *p, size_t n)
{
    float x[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    memcpy(x, p, 4 * n);
    return wasm_v128_load(x);
}

RV__INLINE void RV__F(store_tail)(void *p, v128_t a, size_t n)
{
    float x[4];
    wasm_v128_store(x, a);
    memcpy(p, x, 4 * n);
}

/* The significand and exponent move up 13 bits; a multiplication moves the bias, exactly also for
   subnormal halves; infinity and NaN (made quiet) get the exponent of all ones. */
RV__INLINE v128_t RV__F(from_f16)(v128_t x)
{
    v128_t magnitude = wasm_i32x4_shl(wasm_v128_and(x, wasm_i32x4_splat(0x7FFF)), 13);
    v128_t value = wasm_f32x4_mul(magnitude, wasm_i32x4_splat(0x77800000)); /* 2^112 */
    v128_t special = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x0F7FFFFF));
    v128_t nan = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x0F800000));
    v128_t bits = wasm_v128_or(magnitude, wasm_v128_and(nan, wasm_i32x4_splat(0x00400000)));
    value = wasm_v128_bitselect(wasm_v128_or(bits, wasm_i32x4_splat(0x7F800000)), value, special);
    return wasm_v128_or(value, wasm_i32x4_shl(wasm_v128_and(x, wasm_i32x4_splat(0x8000)), 16));
}

RV__INLINE void RV__F(store_f16)(void *p, v128_t a)
{
    unsigned char *out = (unsigned char *)p;
    float x[4];
    wasm_v128_store(x, a);
    for (size_t i = 0; i < 4; i++) rv__store_u16(out + 2 * i, rv__f32_f16(x[i]));
}

RV__INLINE void RV__F(store_top16)(void *p, v128_t a)
{
    v128_t x = wasm_i16x8_shuffle(a, a, 1, 3, 5, 7, 1, 3, 5, 7);
    wasm_v128_store64_lane(p, x, 0);
}

RV__INLINE void RV__F(store_i8)(void *p, v128_t a)
{
    v128_t x = wasm_i16x8_narrow_i32x4(a, a);
    wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(x, x), 0);
}

/* ---- bytes ---- */

#define rv__bload(p) wasm_v128_load((const void *)(p))
#define rv__bbias(acc, b) (acc)
#define rv__bbias_u8(acc, a) (acc)
#define rv__bsquare(acc, a) rv__bdot_any((acc), (a), (a))
#define rv__bone() wasm_i8x16_splat(1)
#define rv__blow(a) wasm_v128_and((a), wasm_i8x16_splat(15))
#define rv__bhigh(a) wasm_u8x16_shr((a), 4)
#define rv__bbits(p, j) RV__F(v_bits)((p) + ((j) >> 3))
#define rv__bflip(a) (a)
#define rv__bdot(acc, r, q) RV__F(v_dot)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot)((acc), (r), (q))
#define rv__bdot_any(acc, a, b) RV__F(v_dot)((acc), (a), (b))
#define rv__bdot_u8(acc, a, b) RV__F(v_dot_u8)((acc), (a), (b))
#define rv__bl2_u8(acc, a, b) RV__F(v_square)((acc), RV__F(v_gap)((a), (b)))
#define rv__bl2_i8(acc, a, b) RV__F(v_square)((acc), RV__F(v_gap_i8)((a), (b)))
#define rv__bl1_i8(acc, a, b)                                                                      \
    wasm_i32x4_add((acc), wasm_u32x4_extadd_pairwise_u16x8(                                        \
                              wasm_u16x8_extadd_pairwise_u8x16(RV__F(v_gap_i8)((a), (b)))))
#define rv__bl1_u8(acc, a, b)                                                                      \
    wasm_i32x4_add((acc), wasm_u32x4_extadd_pairwise_u16x8(                                        \
                              wasm_u16x8_extadd_pairwise_u8x16(RV__F(v_gap)((a), (b)))))
#define rv__bzero() wasm_i32x4_splat(0)
/* |a - b| as unsigned bytes; the larger of two; the largest of all. */
#define rv__bgap_u8(a, b) RV__F(v_gap)((a), (b))
#define rv__bgap_i8(a, b) RV__F(v_gap_i8)((a), (b))
#define rv__bmost(a, b) wasm_u8x16_max((a), (b))
#define rv__btop(a) RV__F(v_top)(a)
#define rv__gquads(row, k) wasm_i16x8_load8x8((const void *)((row)[0] + (k)))
#define rv__gdot(acc, b, a) wasm_i32x4_add((acc), wasm_i32x4_dot_i16x8((b), (a)))

RV__INLINE v128_t RV__F(v_bits)(const unsigned char *p)
{
    v128_t places = wasm_i64x2_splat((int64_t)0x8040201008040201ull);
    v128_t x = wasm_i8x16_shuffle(wasm_u8x16_splat(p[0]), wasm_u8x16_splat(p[1]), 0, 0, 0, 0, 0, 0,
                                  0, 0, 16, 16, 16, 16, 16, 16, 16, 16);
    return wasm_v128_and(wasm_i8x16_eq(wasm_v128_and(x, places), places), wasm_i8x16_splat(1));
}

RV__INLINE v128_t RV__F(v_dot)(v128_t acc, v128_t a, v128_t b)
{
    v128_t low =
        wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(a), wasm_i16x8_extend_low_i8x16(b));
    v128_t high =
        wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(a), wasm_i16x8_extend_high_i8x16(b));
    return wasm_i32x4_add(acc, wasm_i32x4_add(low, high));
}

RV__INLINE v128_t RV__F(v_dot_u8)(v128_t acc, v128_t a, v128_t b)
{
    v128_t low =
        wasm_i32x4_dot_i16x8(wasm_u16x8_extend_low_u8x16(a), wasm_u16x8_extend_low_u8x16(b));
    v128_t high =
        wasm_i32x4_dot_i16x8(wasm_u16x8_extend_high_u8x16(a), wasm_u16x8_extend_high_u8x16(b));
    return wasm_i32x4_add(acc, wasm_i32x4_add(low, high));
}

RV__INLINE v128_t RV__F(v_square)(v128_t acc, v128_t d)
{
    return RV__F(v_dot_u8)(acc, d, d);
}

RV__INLINE v128_t RV__F(v_gap)(v128_t a, v128_t b)
{
    return wasm_v128_or(wasm_u8x16_sub_sat(a, b), wasm_u8x16_sub_sat(b, a));
}

RV__INLINE v128_t RV__F(v_gap_i8)(v128_t a, v128_t b)
{
    v128_t flip = wasm_u8x16_splat(128);
    return RV__F(v_gap)(wasm_v128_xor(a, flip), wasm_v128_xor(b, flip));
}

RV__INLINE int32_t RV__F(v_top)(v128_t a)
{
    a = wasm_u8x16_max(a, wasm_i32x4_shuffle(a, a, 2, 3, 0, 1));
    a = wasm_u8x16_max(a, wasm_i32x4_shuffle(a, a, 1, 0, 3, 2));
    a = wasm_u8x16_max(a, wasm_u32x4_shr(a, 16));
    return wasm_u8x16_extract_lane(wasm_u8x16_max(a, wasm_u32x4_shr(a, 8)), 0);
}

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() wasm_i32x4_splat(0)
#define rv__qload(p) rv__bload(p)
#define rv__qload_half(p) rv__bload(p)
#define rv__qlow(a) rv__blow(a)
#define rv__qhigh(a) rv__bhigh(a)
#define rv__qlook(table, index) wasm_i8x16_swizzle((table), (index))
#define rv__qadd(a, b) wasm_i16x8_add((a), (b))
#define rv__qodd(a) wasm_u16x8_shr((a), 8)
#define rv__qeven(all, odd) wasm_i16x8_sub((all), wasm_i16x8_shl((odd), 8))

RV__INLINE void RV__F(qfold)(v128_t even, v128_t odd, uint16_t *out, int add)
{
    v128_t low = wasm_i16x8_shuffle(even, odd, 0, 8, 1, 9, 2, 10, 3, 11);
    v128_t high = wasm_i16x8_shuffle(even, odd, 4, 12, 5, 13, 6, 14, 7, 15);
    if (add) {
        low = wasm_u16x8_add_sat(low, wasm_v128_load(out));
        high = wasm_u16x8_add_sat(high, wasm_v128_load(out + 8));
    }
    wasm_v128_store(out, low);
    wasm_v128_store(out + 8, high);
}

/* ---- bits ---- */

#define rv__wload(p) rv__bload(p)
#define rv__wand(a, b) wasm_v128_and((a), (b))
#define rv__wor(a, b) wasm_v128_or((a), (b))
#define rv__wxor(a, b) wasm_v128_xor((a), (b))
#define rv__padd(a, b) wasm_i32x4_add((a), (b))
#define rv__pzero() wasm_i32x4_splat(0)
#define rv__wpop(acc, x)                                                                           \
    wasm_i32x4_add((acc), wasm_u32x4_extadd_pairwise_u16x8(                                        \
                              wasm_u16x8_extadd_pairwise_u8x16(wasm_i8x16_popcnt(x))))
#define rv__psum(acc) ((uint32_t)RV__F(isum)(acc))
#define rv__psum4(out, a, b, c, d) RV__F(isum4)((out), (a), (b), (c), (d))
