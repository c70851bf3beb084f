/* Vocabulary of AVX-512 F, BW, DQ, VL. With RV__VNNI or RV__POPCNT512 defined, of the processors
   that also have those instructions; then only the integer, or bit, kernels are expanded. */

#if defined(RV__VNNI)
#define RV__F(name) rv__##name##_avx512vnni
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vnni")
#elif defined(RV__POPCNT512)
#define RV__F(name) rv__##name##_avx512pop
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vpopcntdq")
#else
#define RV__F(name) rv__##name##_avx512
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
/* The forms under a full mask are the same instructions as those without; gcc's headers for the
   latter use a value they do not initialise, and g++ 12 warns of it here. */
#define RV__ALL16 ((__mmask16)0xFFFF)
#define RV__LANES 16u
#define RV__BYTES 64u
#define RV__WORD 64u
#define rv__v __m512
#define rv__vi __m512i
#define rv__vb __m512i
#define RV__TILE 4u
#define RV__LOOK 64u
#define rv__q __m512i
#define rv__vw __m512i
#define rv__vp __m512i

#define rv__vzero() _mm512_setzero_ps()
#define rv__vset(x) _mm512_set1_ps(x)
#define rv__vadd(a, b) _mm512_add_ps((a), (b))
#define rv__vsub(a, b) _mm512_sub_ps((a), (b))
#define rv__vmul(a, b) _mm512_mul_ps((a), (b))
#define rv__vdiv(a, b) _mm512_div_ps((a), (b))
#define rv__vfma(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define rv__vfnma(a, b, c) _mm512_fnmadd_ps((a), (b), (c)) /* c - a b */
#define rv__vmax(a, b) _mm512_maskz_max_ps(RV__ALL16, (a), (b))
#define rv__vmin(a, b) _mm512_maskz_min_ps(RV__ALL16, (a), (b))
#define rv__vscale(a, n) _mm512_maskz_scalef_ps(RV__ALL16, (a), (n))
#define rv__vround(a) _mm512_maskz_cvtps_epi32(RV__ALL16, (a))
#define rv__vfloat(a) _mm512_maskz_cvtepi32_ps(RV__ALL16, (a))
#define rv__vbits(a) _mm512_castps_si512(a)
#define rv__vfrom(a) _mm512_castsi512_ps(a)
#define rv__vpick(mask, a, b) _mm512_mask_blend_ps((mask), (b), (a))
#define rv__vless(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_LT_OQ)
#define rv__vmask(less) ((uint32_t)(less))
/* base + the places of the bits of mask; writes 16 words */
#define rv__vplaces(out, mask, base)                                                               \
    _mm512_storeu_si512((out), _mm512_maskz_compress_epi32(                                        \
                                   (__mmask16)(mask),                                              \
                                   _mm512_add_epi32(_mm512_set1_epi32((int32_t)(base)),            \
                                                    _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8,   \
                                                                      9, 10, 11, 12, 13, 14,       \
                                                                      15))))
#define rv__iset(x) _mm512_set1_epi32(x)
#define rv__iadd(a, b) _mm512_add_epi32((a), (b))
#define rv__isub(a, b) _mm512_sub_epi32((a), (b))
#define rv__iand(a, b) _mm512_and_si512((a), (b))
#define rv__ior(a, b) _mm512_or_si512((a), (b))
#define rv__ishl(a, n) _mm512_maskz_slli_epi32(RV__ALL16, (a), (n))
#define rv__isar(a, n) _mm512_maskz_srai_epi32(RV__ALL16, (a), (n))
#define rv__igreater(a, b) _mm512_cmpgt_epi32_mask((a), (b))
#define rv__isum(a) RV__F(isum)(a)
#define rv__vsum(a) RV__F(vsum)(a)
#define rv__isum4(out, a, b, c, d) RV__F(isum4)((out), (a), (b), (c), (d))
#define rv__vsum4(out, a, b, c, d) RV__F(vsum4)((out), (a), (b), (c), (d))
#define rv__vload(p) _mm512_loadu_ps((const void *)(p))
#define rv__vstore(p, a) _mm512_storeu_ps((void *)(p), (a))
#define rv__vload_tail(p, n) _mm512_maskz_loadu_ps(RV__F(mask)(n), (const void *)(p))
#define rv__vstore_tail(p, a, n) _mm512_mask_storeu_ps((void *)(p), RV__F(mask)(n), (a))
#define rv__vload_f16(p)                                                                           \
    _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_bf16(p) RV__F(from_bf16)(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_i8(p) RV__F(from_i8)(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define rv__vload_u8(p) RV__F(from_u8)(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define rv__vabs(a) _mm512_abs_ps(a)
#define rv__vmaxbits(a, b)                                                                         \
    _mm512_castsi512_ps(                                                                           \
        _mm512_maskz_max_epi32(RV__ALL16, _mm512_castps_si512(a), _mm512_castps_si512(b)))
#define rv__vmaximum(a) RV__F(vmaximum)(a)
#define rv__vstore_f16(p, a) RV__F(store_f16)((p), (a))
/* 128-bit lanes: four words of a row and of those 4, 8, 12 rows (strides of s) on; interleaving. */
#define rv__vquads(p, s)                                                                           \
    _mm512_castsi512_ps(RV__F(quads)((p), (p) + 4 * (s), (p) + 8 * (s), (p) + 12 * (s)))
#define rv__vzip_low(a, b) _mm512_maskz_unpacklo_ps(RV__ALL16, (a), (b))
#define rv__vzip_high(a, b) _mm512_maskz_unpackhi_ps(RV__ALL16, (a), (b))
#define rv__vzip2_low(a, b)                                                                        \
    _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xFF, _mm512_castps_pd(a), _mm512_castps_pd(b)))
#define rv__vzip2_high(a, b)                                                                       \
    _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xFF, _mm512_castps_pd(a), _mm512_castps_pd(b)))
/* Of 32 words those in even, or odd, places. */
#define rv__veven(a, b)                                                                            \
    _mm512_permutex2var_ps((a), _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24,   \
                                                  26, 28, 30), (b))
#define rv__vodd(a, b)                                                                             \
    _mm512_permutex2var_ps((a), _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25,   \
                                                  27, 29, 31), (b))
#define rv__ixor(a, b) _mm512_xor_si512((a), (b))
#define rv__istore_top16(p, a)                                                                     \
    _mm256_storeu_si256(                                                                           \
        (__m256i *)(void *)(p),                                                                    \
        _mm512_maskz_cvtepi32_epi16(RV__ALL16, _mm512_maskz_srli_epi32(RV__ALL16, (a), 16)))
#define rv__istore_i8(p, a)                                                                        \
    _mm_storeu_si128((__m128i *)(void *)(p), _mm512_maskz_cvtepi32_epi8(RV__ALL16, (a)))

/* Reads rows' tails under a mask. */
#define RV__MASKED 1
#define rv__vtail_f16(p, n)                                                                        \
    _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_bf16(p, n)                                                                       \
    RV__F(from_bf16)(_mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_i8(p, n) RV__F(from_i8)(_mm_maskz_loadu_epi8(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_u8(p, n) RV__F(from_u8)(_mm_maskz_loadu_epi8(RV__F(mask)(n), (const void *)(p)))

RV__ISA RV__INLINE __mmask16 RV__F(mask)(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

RV__ISA RV__INLINE __m512i RV__F(quads)(const void *p, const void *q, const void *r, const void *s)
{
    __m512i x = _mm512_maskz_broadcast_i32x4(0x000F, _mm_loadu_si128((const __m128i *)p));
    x = _mm512_mask_broadcast_i32x4(x, 0x00F0, _mm_loadu_si128((const __m128i *)q));
    x = _mm512_mask_broadcast_i32x4(x, 0x0F00, _mm_loadu_si128((const __m128i *)r));
    return _mm512_mask_broadcast_i32x4(x, 0xF000, _mm_loadu_si128((const __m128i *)s));
}

RV__ISA RV__INLINE __m512 RV__F(from_i8)(__m128i x)
{
    return _mm512_maskz_cvtepi32_ps(RV__ALL16, _mm512_maskz_cvtepi8_epi32(RV__ALL16, x));
}

RV__ISA RV__INLINE __m512 RV__F(from_u8)(__m128i x)
{
    return _mm512_maskz_cvtepi32_ps(RV__ALL16, _mm512_maskz_cvtepu8_epi32(RV__ALL16, x));
}

RV__ISA RV__INLINE __m256i RV__F(lower)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 0);
}

RV__ISA RV__INLINE __m256i RV__F(upper)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 1);
}

RV__ISA RV__INLINE void RV__F(store_f16)(void *p, __m512 a)
{
    __m256 low = _mm256_castsi256_ps(RV__F(lower)(_mm512_castps_si512(a)));
    __m256 high = _mm256_castsi256_ps(RV__F(upper)(_mm512_castps_si512(a)));
    __m128i *out = (__m128i *)p;
    _mm_storeu_si128(out, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(out + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
}

RV__ISA RV__INLINE __m256 RV__F(vhalf)(__m512 a)
{
    __m512i x = _mm512_castps_si512(a);
    return _mm256_add_ps(_mm256_castsi256_ps(RV__F(lower)(x)),
                         _mm256_castsi256_ps(RV__F(upper)(x)));
}

RV__ISA RV__INLINE __m256i RV__F(ihalf)(__m512i a)
{
    return _mm256_add_epi32(RV__F(lower)(a), RV__F(upper)(a));
}

RV__ISA RV__INLINE float RV__F(vsum)(__m512 a)
{
    __m256 y = RV__F(vhalf)(a);
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

RV__ISA RV__INLINE int32_t RV__F(isum)(__m512i a)
{
    __m256i y = RV__F(ihalf)(a);
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* Four sums at once. */
RV__ISA RV__INLINE void RV__F(vsum4)(float *out, __m512 a, __m512 b, __m512 c, __m512 d)
{
    __m256 x = _mm256_hadd_ps(_mm256_hadd_ps(RV__F(vhalf)(a), RV__F(vhalf)(b)),
                              _mm256_hadd_ps(RV__F(vhalf)(c), RV__F(vhalf)(d)));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}

RV__ISA RV__INLINE void RV__F(isum4)(int32_t *out, __m512i a, __m512i b, __m512i c, __m512i d)
{
    __m256i x = _mm256_hadd_epi32(_mm256_hadd_epi32(RV__F(ihalf)(a), RV__F(ihalf)(b)),
                                  _mm256_hadd_epi32(RV__F(ihalf)(c), RV__F(ihalf)(d)));
    __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si128((__m128i *)(void *)out, sums);
}

/* Of magnitudes, through their bits. */
RV__ISA RV__INLINE float RV__F(vmaximum)(__m512 a)
{
    __m512i b = _mm512_castps_si512(a);
    __m256i y = _mm256_max_epi32(RV__F(lower)(b), RV__F(upper)(b));
    __m128i x = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return rv__from_bits_f32(_mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1))));
}

RV__ISA RV__INLINE __m512 RV__F(from_bf16)(__m256i x)
{
    __m512i wide = _mm512_maskz_cvtepu16_epi32(RV__ALL16, x);
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(RV__ALL16, wide, 16));
}

/* ---- bytes ---- */

#define rv__bload(p) _mm512_loadu_si512((const void *)(p))
#define rv__btail(p, n) _mm512_maskz_loadu_epi8(((__mmask64)1 << (n)) - 1u, (const void *)(p))
#define rv__blow(a) _mm512_and_si512((a), _mm512_set1_epi8(15))
#define rv__bhigh(a) _mm512_and_si512(_mm512_srli_epi16((a), 4), _mm512_set1_epi8(15))
#define rv__bbits(p, j) _mm512_maskz_mov_epi8(rv__load_u64((p) + ((j) >> 3)), _mm512_set1_epi8(1))
#define rv__bsquare(acc, a) RV__F(v_dot_any)((acc), (a), (a))
#define rv__bl2_i8(acc, a, b) RV__F(v_squares)((acc), rv__bgap_i8((a), (b)))
#define rv__bl2_u8(acc, a, b) RV__F(v_squares)((acc), rv__bgap_u8((a), (b)))
#define rv__bl1_i8(acc, a, b) RV__F(v_l1_i8)((acc), (a), (b))
#define rv__bl1_u8(acc, a, b) _mm512_add_epi32((acc), _mm512_sad_epu8((a), (b)))
#define rv__bzero() _mm512_setzero_si512()
/* |a - b| as unsigned bytes; the larger of two; the largest of all. */
#define rv__bgap_u8(a, b) _mm512_or_si512(_mm512_subs_epu8((a), (b)), _mm512_subs_epu8((b), (a)))
#define rv__bgap_i8(a, b) _mm512_sub_epi8(_mm512_max_epi8((a), (b)), _mm512_min_epi8((a), (b)))
#define rv__bmost(a, b) _mm512_max_epu8((a), (b))
#define rv__btop(a) RV__F(v_top)(a)

RV__ISA RV__INLINE __m512i RV__F(v_madd)(__m512i acc, __m512i a, __m512i b)
{
#ifdef RV__VNNI
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_any)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i a0 = _mm512_unpacklo_epi8(zero, a), a1 = _mm512_unpackhi_epi8(zero, a);
    __m512i b0 = _mm512_unpacklo_epi8(zero, b), b1 = _mm512_unpackhi_epi8(zero, b);
    acc = RV__F(v_madd)(acc, _mm512_srai_epi16(a0, 8), _mm512_srai_epi16(b0, 8));
    return RV__F(v_madd)(acc, _mm512_srai_epi16(a1, 8), _mm512_srai_epi16(b1, 8));
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_u8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    acc = RV__F(v_madd)(acc, _mm512_unpacklo_epi8(a, zero), _mm512_unpacklo_epi8(b, zero));
    return RV__F(v_madd)(acc, _mm512_unpackhi_epi8(a, zero), _mm512_unpackhi_epi8(b, zero));
}

/* Squares of unsigned bytes. */
RV__ISA RV__INLINE __m512i RV__F(v_squares)(__m512i acc, __m512i d)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i d0 = _mm512_unpacklo_epi8(d, zero), d1 = _mm512_unpackhi_epi8(d, zero);
    acc = RV__F(v_madd)(acc, d0, d0);
    return RV__F(v_madd)(acc, d1, d1);
}

RV__ISA RV__INLINE __m512i RV__F(v_l1_i8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i flip = _mm512_set1_epi8(-128);
    __m512i sad = _mm512_sad_epu8(_mm512_xor_si512(a, flip), _mm512_xor_si512(b, flip));
    return _mm512_add_epi32(acc, sad);
}

RV__ISA RV__INLINE int32_t RV__F(v_top)(__m512i a)
{
    __m256i y = _mm256_max_epu8(RV__F(lower)(a), RV__F(upper)(a));
    __m128i x = _mm_max_epu8(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_max_epu8(x, _mm_srli_si128(x, 8));
    x = _mm_max_epu8(x, _mm_srli_si128(x, 4));
    x = _mm_max_epu8(x, _mm_srli_si128(x, 2));
    return _mm_cvtsi128_si32(_mm_max_epu8(x, _mm_srli_si128(x, 1))) & 255;
}

#define rv__bone() _mm512_set1_epi8(1)
#ifdef RV__VNNI
/* One operand must be unsigned: row bytes are shifted, which adds 128 times the query's sum. */
#define rv__bdot_any(acc, a, b) _mm512_dpbusd_epi32((acc), rv__bflip(a), (b))
#define rv__bbias(acc, b) _mm512_dpbusd_epi32((acc), _mm512_set1_epi8(-128), (b))
#define rv__bdot_u8(acc, a, b) _mm512_dpbusd_epi32((acc), (a), rv__bflip(b))
#define rv__bbias_u8(acc, a) _mm512_dpbusd_epi32((acc), (a), _mm512_set1_epi8(-128))
#define RV__BIAS 128
#define rv__bflip(a) _mm512_xor_si512((a), _mm512_set1_epi8(-128))
#define rv__bdot(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define rv__bdot_small(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define RV__GROUP 4u
#define RV__GROUP_FLIP 0x80808080u
#define rv__gquads(row, k)                                                                         \
    RV__F(quads)((row)[0] + (k), (row)[4] + (k), (row)[8] + (k), (row)[12] + (k))
#define rv__gdot(acc, b, a) _mm512_dpbusd_epi32((acc), (b), (a))
#else
#define rv__bdot_any(acc, a, b) RV__F(v_dot_any)((acc), (a), (b))
#define rv__bbias(acc, b) (acc)
#define rv__bdot_u8(acc, a, b) RV__F(v_dot_u8)((acc), (a), (b))
#define rv__bbias_u8(acc, a) (acc)
#define RV__GROUP 2u
#define RV__GROUP_FLIP 0u
#define rv__gquads(row, k)                                                                         \
    RV__F(gquads)((row)[0] + (k), (row)[4] + (k), (row)[8] + (k), (row)[12] + (k))
#define rv__gdot(acc, b, a) _mm512_add_epi32((acc), _mm512_madd_epi16((b), (a)))
#define RV__BIAS 0
#define rv__bflip(a) (a)
#define rv__bdot(acc, r, q) RV__F(v_dot_any)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot_small)((acc), (r), (q))

/* Eight bytes of four rows as 16-bit numbers. */
RV__ISA RV__INLINE __m512i RV__F(gquads)(const void *p, const void *q, const void *r, const void *s)
{
    __m128i low = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)p),
                                     _mm_loadl_epi64((const __m128i *)q));
    __m128i high = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)r),
                                      _mm_loadl_epi64((const __m128i *)s));
    return _mm512_cvtepi8_epi16(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_small)(__m512i acc, __m512i r, __m512i q)
{
    __m512i pairs = _mm512_maddubs_epi16(r, q); /* at most 2 * 15 * 128: no saturation */
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() _mm512_setzero_si512()
#define rv__qload(p) _mm512_loadu_si512((const void *)(p))
#define rv__qload_half(p) _mm512_maskz_loadu_epi64(0x0F, (const void *)(p))
#define rv__qlow(a) rv__blow(a)
#define rv__qhigh(a) rv__bhigh(a)
#define rv__qlook(table, index) _mm512_shuffle_epi8((table), (index))
#define rv__qadd(a, b) _mm512_add_epi16((a), (b))
#define rv__qodd(a) _mm512_srli_epi16((a), 8)
#define rv__qeven(all, odd) _mm512_sub_epi16((all), _mm512_slli_epi16((odd), 8))

/* Adds up the lanes; rows 2i and 2i + 1 are in the even and odd sums. */
RV__ISA RV__INLINE void RV__F(qfold)(__m512i even, __m512i odd, uint16_t *out, int add)
{
    __m512i a = _mm512_unpacklo_epi16(even, odd), b = _mm512_unpackhi_epi16(even, odd);
    __m256i low = _mm256_adds_epu16(RV__F(lower)(a), RV__F(upper)(a));
    __m256i high = _mm256_adds_epu16(RV__F(lower)(b), RV__F(upper)(b));
    __m256i sum = _mm256_adds_epu16(_mm256_permute2x128_si256(low, high, 0x20),
                                    _mm256_permute2x128_si256(low, high, 0x31));
    if (add) sum = _mm256_adds_epu16(sum, _mm256_loadu_si256((const __m256i *)(const void *)out));
    _mm256_storeu_si256((__m256i *)(void *)out, sum);
}

/* ---- bits ---- */

#define rv__wload(p) _mm512_loadu_si512((const void *)(p))
#define rv__wtail(p, n)                                                                            \
    _mm512_maskz_loadu_epi8(~(__mmask64)0 >> (64 - (n)), (const void *)(p)) /* n: 1..64 */
#define rv__wand(a, b) _mm512_and_si512((a), (b))
#define rv__wor(a, b) _mm512_or_si512((a), (b))
#define rv__wxor(a, b) _mm512_xor_si512((a), (b))
#define rv__padd(a, b) _mm512_add_epi64((a), (b))
#define rv__pzero() _mm512_setzero_si512()
/* Sums below 2^32: the upper halves of lanes are zero. */
#define rv__psum(acc) RV__F(psum)(acc)
#define rv__psum4(out, a, b, c, d) RV__F(isum4)((out), (a), (b), (c), (d))
#define rv__ppair(a, b) RV__F(ppair)((a), (b))
#define rv__psum8(out, ab, cd, ef, gh) RV__F(psum8)((out), (ab), (cd), (ef), (gh))
/* Four short rows of whole 32-bit words as one vector, which `order` and `keep` lay out. */
#define rv__wgroup(p, bytes, order, keep)                                                          \
    _mm512_maskz_permutexvar_epi32((__mmask16)(keep), (order), rv__wtail((p), (bytes)))
#define rv__pgroups(out, a, b) RV__F(pgroups)((out), (a), (b))

RV__ISA RV__INLINE uint32_t RV__F(psum)(__m512i a)
{
    __m256i y = RV__F(ihalf)(a);
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E)));
}

/* Two sums on their way in one vector, a in the lower halves of lanes. */
RV__ISA RV__INLINE __m512i RV__F(ppair)(__m512i a, __m512i b)
{
    return _mm512_or_si512(a, _mm512_maskz_slli_epi64(0xFF, b, 32));
}

/* The sums of both halves of each 128 bits, of the first pair and of the second. */
RV__ISA RV__INLINE __m512i RV__F(pfold)(__m512i ab, __m512i cd)
{
    return _mm512_add_epi32(_mm512_maskz_unpacklo_epi64(0xFF, ab, cd),
                            _mm512_maskz_unpackhi_epi64(0xFF, ab, cd));
}

/* Eight sums in four pairs, as floats. */
RV__ISA RV__INLINE void RV__F(psum8)(float *out, __m512i ab, __m512i cd, __m512i ef, __m512i gh)
{
    __m512i low = RV__F(pfold)(ab, cd), high = RV__F(pfold)(ef, gh), x, y;
    x = _mm512_add_epi32(_mm512_maskz_shuffle_i64x2(0xFF, low, high, 0x88),
                         _mm512_maskz_shuffle_i64x2(0xFF, low, high, 0xDD));
    y = _mm512_add_epi32(x, _mm512_maskz_shuffle_i64x2(0xFF, x, x, 0xB1));
    y = _mm512_maskz_shuffle_i64x2(0xFF, y, y, 0x08);
    _mm256_storeu_ps(out, _mm256_cvtepi32_ps(RV__F(lower)(y)));
}

/* Of two groups of four rows: eight sums, as floats. */
RV__ISA RV__INLINE void RV__F(pgroups)(float *out, __m512i a, __m512i b)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512i x = RV__F(ppair)(a, b);
    x = _mm512_add_epi32(x, _mm512_maskz_shuffle_epi32(RV__ALL16, x, _MM_PERM_BADC));
    x = _mm512_maskz_permutexvar_epi32(RV__ALL16, order, x);
    _mm256_storeu_ps(out, _mm256_cvtepi32_ps(RV__F(lower)(x)));
}

#ifdef RV__POPCNT512
#define rv__wpop(acc, x) _mm512_add_epi64((acc), _mm512_popcnt_epi64(x))
#else
#define rv__wpop(acc, x) RV__F(v_pop)((acc), (x))

/* Mula, Kurz, Lemire, Faster population counts using AVX2 instructions, 2018: nibbles by table. */
RV__ISA RV__INLINE __m512i RV__F(v_pop)(__m512i acc, __m512i x)
{
    __m512i table = _mm512_maskz_broadcast_i32x4(
        RV__ALL16, _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m512i low = _mm512_shuffle_epi8(table, rv__blow(x)),
            high = _mm512_shuffle_epi8(table, rv__bhigh(x));
    return _mm512_add_epi64(acc,
                            _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512()));
}
#endif
