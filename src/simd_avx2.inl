/* Vocabulary of AVX2 with FMA and F16C. */

#define RV__F(name) rv__##name##_avx2
#define RV__ISA RV__TARGET("avx2,fma,f16c")
#define RV__LANES 8u
#define RV__BYTES 32u
#define RV__WORD 32u
#define RV__TILE 2u
#define RV__LOOK 32u
#define rv__v __m256
#define rv__vi __m256i
#define rv__vb __m256i
#define rv__vw __m256i
#define rv__vp __m256i
#define rv__q __m256i

#define rv__vzero() _mm256_setzero_ps()
#define rv__vset(x) _mm256_set1_ps(x)
#define rv__vadd(a, b) _mm256_add_ps((a), (b))
#define rv__vsub(a, b) _mm256_sub_ps((a), (b))
#define rv__vmul(a, b) _mm256_mul_ps((a), (b))
#define rv__vdiv(a, b) _mm256_div_ps((a), (b))
#define rv__vfma(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define rv__vfnma(a, b, c) _mm256_fnmadd_ps((a), (b), (c)) /* c - a b */
#define rv__vmax(a, b) _mm256_max_ps((a), (b))
#define rv__vmin(a, b) _mm256_min_ps((a), (b))
#define rv__vround(a)                                                                              \
    _mm256_cvtps_epi32(_mm256_round_ps((a), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
#define rv__vfloat(a) _mm256_cvtepi32_ps(a)
#define rv__vbits(a) _mm256_castps_si256(a)
#define rv__vfrom(a) _mm256_castsi256_ps(a)
#define rv__vpick(mask, a, b) _mm256_blendv_ps((b), (a), _mm256_castsi256_ps(mask))
#define rv__vless(a, b) _mm256_castps_si256(_mm256_cmp_ps((a), (b), _CMP_LT_OQ))
#define rv__vmask(less) ((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(less)))
#define rv__iset(x) _mm256_set1_epi32(x)
#define rv__iadd(a, b) _mm256_add_epi32((a), (b))
#define rv__isub(a, b) _mm256_sub_epi32((a), (b))
#define rv__iand(a, b) _mm256_and_si256((a), (b))
#define rv__ior(a, b) _mm256_or_si256((a), (b))
#define rv__ishl(a, n) _mm256_slli_epi32((a), (n))
#define rv__isar(a, n) _mm256_srai_epi32((a), (n))
#define rv__igreater(a, b) _mm256_cmpgt_epi32((a), (b))
#define rv__isum(a) RV__F(isum)(a)
#define rv__vsum(a) RV__F(vsum)(a)
#define rv__isum4(out, a, b, c, d) RV__F(isum4)((out), (a), (b), (c), (d))
#define rv__vsum4(out, a, b, c, d) RV__F(vsum4)((out), (a), (b), (c), (d))
#define rv__vmaximum(a) RV__F(vmaximum)(a)
#define rv__vload(p) _mm256_loadu_ps((const float *)(const void *)(p))
#define rv__vstore(p, a) _mm256_storeu_ps((float *)(void *)(p), (a))
#define rv__vload_tail(p, n) _mm256_maskload_ps((const float *)(const void *)(p), RV__F(mask)(n))
#define rv__vstore_tail(p, a, n) _mm256_maskstore_ps((float *)(void *)(p), RV__F(mask)(n), (a))
#define rv__vload_f16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define rv__vload_bf16(p)                                                                          \
    _mm256_castsi256_ps(_mm256_slli_epi32(                                                         \
        _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))), 16))
#define rv__vload_i8(p)                                                                            \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define rv__vload_u8(p)                                                                            \
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define rv__vkeep_last(a, n) _mm256_andnot_ps(_mm256_castsi256_ps(RV__F(mask)(8 - (n))), (a))
#define rv__vabs(a) _mm256_and_ps((a), _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)))
#define rv__vmaxbits(a, b)                                                                         \
    _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)))
#define rv__vstore_f16(p, a)                                                                       \
    _mm_storeu_si128((__m128i *)(void *)(p), _mm256_cvtps_ph((a), _MM_FROUND_TO_NEAREST_INT))
/* 128-bit lanes: four floats of a row, and of the row four rows (strides of s) on; interleaving. */
#define rv__vquads(p, s)                                                                           \
    _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps((p) + 4 * (s)), 1)
#define rv__vzip_low(a, b) _mm256_unpacklo_ps((a), (b))
#define rv__vzip_high(a, b) _mm256_unpackhi_ps((a), (b))
#define rv__vzip2_low(a, b)                                                                        \
    _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
#define rv__vzip2_high(a, b)                                                                       \
    _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
/* Of 16 words those in even, or odd, places. */
#define rv__veven(a, b) RV__F(pack)(_mm256_shuffle_ps((a), (b), 0x88))
#define rv__vodd(a, b) RV__F(pack)(_mm256_shuffle_ps((a), (b), 0xDD))
#define rv__ixor(a, b) _mm256_xor_si256((a), (b))
#define rv__istore_top16(p, a) RV__F(store_top16)((p), (a))
#define rv__istore_i8(p, a) RV__F(store_i8)((p), (a))

/* Ones in the first n of 8 lanes. */
RV__ISA RV__INLINE __m256i RV__F(mask)(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

RV__ISA RV__INLINE __m256 RV__F(pack)(__m256 a)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(a), 0xD8));
}

RV__ISA RV__INLINE float RV__F(vsum)(__m256 a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

RV__ISA RV__INLINE int32_t RV__F(isum)(__m256i a)
{
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* Four sums at once. */
RV__ISA RV__INLINE void RV__F(vsum4)(float *out, __m256 a, __m256 b, __m256 c, __m256 d)
{
    __m256 x = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}

RV__ISA RV__INLINE void RV__F(isum4)(int32_t *out, __m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i x = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si128((__m128i *)(void *)out, sums);
}

/* Of magnitudes, through their bits. */
RV__ISA RV__INLINE float RV__F(vmaximum)(__m256 a)
{
    __m256i b = _mm256_castps_si256(a);
    __m128i x = _mm_max_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return rv__from_bits_f32(_mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1))));
}

RV__ISA RV__INLINE void RV__F(store_top16)(void *p, __m256i a)
{
    __m256i x = _mm256_srli_epi32(a, 16);
    x = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(x));
}

RV__ISA RV__INLINE void RV__F(store_i8)(void *p, __m256i a)
{
    __m128i x = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(x, x));
}

/* ---- bytes ---- */

#define rv__bload(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define rv__bbias(acc, b) (acc)
#define rv__bbias_u8(acc, a) (acc)
#define rv__bsquare(acc, a) rv__bdot_any((acc), (a), (a))
#define rv__bone() _mm256_set1_epi8(1)
#define rv__blow(a) _mm256_and_si256((a), _mm256_set1_epi8(15))
#define rv__bhigh(a) _mm256_and_si256(_mm256_srli_epi16((a), 4), _mm256_set1_epi8(15))
#define rv__bbits(p, j) RV__F(v_bits)((p) + ((j) >> 3))
#define rv__bflip(a) (a)
#define RV__BIAS 0
#define rv__bdot(acc, r, q) RV__F(v_dot)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot_small)((acc), (r), (q))
#define rv__bdot_any(acc, a, b) RV__F(v_dot_any)((acc), (a), (b))
#define rv__bdot_u8(acc, a, b) RV__F(v_dot_u8)((acc), (a), (b))
#define rv__bl2_i8(acc, a, b) RV__F(v_l2_i8)((acc), (a), (b))
#define rv__bl2_u8(acc, a, b) RV__F(v_l2_u8)((acc), (a), (b))
#define rv__bl1_i8(acc, a, b) RV__F(v_l1_i8)((acc), (a), (b))
#define rv__bl1_u8(acc, a, b) _mm256_add_epi32((acc), _mm256_sad_epu8((a), (b)))
#define rv__bzero() _mm256_setzero_si256()
/* |a - b| as unsigned bytes; the larger of two; the largest of all. */
#define rv__bgap_u8(a, b) _mm256_or_si256(_mm256_subs_epu8((a), (b)), _mm256_subs_epu8((b), (a)))
#define rv__bgap_i8(a, b) _mm256_sub_epi8(_mm256_max_epi8((a), (b)), _mm256_min_epi8((a), (b)))
#define rv__bmost(a, b) _mm256_max_epu8((a), (b))
#define rv__btop(a) RV__F(v_top)(a)
#define RV__GROUP 2u
#define RV__GROUP_FLIP 0u
/* 128-bit lanes: the bytes at k of rows 0 and 4 as 16-bit numbers. */
#define rv__gquads(row, k) RV__F(gquads)((row)[0] + (k), (row)[4] + (k))
#define rv__gdot(acc, b, a) _mm256_add_epi32((acc), _mm256_madd_epi16((b), (a)))

RV__ISA RV__INLINE __m256i RV__F(gquads)(const int8_t *p, const int8_t *q)
{
    __m128i low = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m128i high = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)q));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* 32 bits as bytes of 0 and 1. */
RV__ISA RV__INLINE __m256i RV__F(v_bits)(const unsigned char *p)
{
    const __m256i place =
        _mm256_setr_epi64x(0, 0x0101010101010101LL, 0x0202020202020202LL, 0x0303030303030303LL);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi32((int)rv__load_u32(p)), place);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit), _mm256_set1_epi8(1));
}

RV__ISA RV__INLINE __m256i RV__F(v_pairs)(__m256i acc, __m256i pairs)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* |r| <= 128 as an unsigned byte, |q| <= 127: two products stay below 2^15. */
RV__ISA RV__INLINE __m256i RV__F(v_dot)(__m256i acc, __m256i r, __m256i q)
{
    return RV__F(v_pairs)(acc, _mm256_maddubs_epi16(_mm256_abs_epi8(r), _mm256_sign_epi8(q, r)));
}

RV__ISA RV__INLINE __m256i RV__F(v_dot_small)(__m256i acc, __m256i r, __m256i q)
{
    return RV__F(v_pairs)(acc, _mm256_maddubs_epi16(r, q));
}

RV__ISA RV__INLINE __m256i RV__F(v_dot_any)(__m256i acc, __m256i a, __m256i b)
{
    __m256i a0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(a)),
            a1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(a, 1));
    __m256i b0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(b)),
            b1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(b, 1));
    return _mm256_add_epi32(acc,
                            _mm256_add_epi32(_mm256_madd_epi16(a0, b0), _mm256_madd_epi16(a1, b1)));
}

RV__ISA RV__INLINE __m256i RV__F(v_dot_u8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i zero = _mm256_setzero_si256();
    __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi8(a, zero), _mm256_unpacklo_epi8(b, zero));
    __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi8(a, zero), _mm256_unpackhi_epi8(b, zero));
    return _mm256_add_epi32(acc, _mm256_add_epi32(low, high));
}

RV__ISA RV__INLINE __m256i RV__F(v_l2_u8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i d = rv__bgap_u8(a, b);
    return RV__F(v_dot_u8)(acc, d, d);
}

RV__ISA RV__INLINE __m256i RV__F(v_l2_i8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i flip = _mm256_set1_epi8(-128);
    return RV__F(v_l2_u8)(acc, _mm256_xor_si256(a, flip), _mm256_xor_si256(b, flip));
}

RV__ISA RV__INLINE __m256i RV__F(v_l1_i8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i flip = _mm256_set1_epi8(-128);
    return _mm256_add_epi32(acc,
                            _mm256_sad_epu8(_mm256_xor_si256(a, flip), _mm256_xor_si256(b, flip)));
}

RV__ISA RV__INLINE int32_t RV__F(v_top)(__m256i a)
{
    __m128i x = _mm_max_epu8(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    x = _mm_max_epu8(x, _mm_srli_si128(x, 8));
    x = _mm_max_epu8(x, _mm_srli_si128(x, 4));
    x = _mm_max_epu8(x, _mm_srli_si128(x, 2));
    return _mm_cvtsi128_si32(_mm_max_epu8(x, _mm_srli_si128(x, 1))) & 255;
}

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() _mm256_setzero_si256()
#define rv__qload(p) rv__bload(p)
#define rv__qload_half(p) rv__bload(p)
#define rv__qlow(a) rv__blow(a)
#define rv__qhigh(a) rv__bhigh(a)
#define rv__qlook(table, index) _mm256_shuffle_epi8((table), (index))
#define rv__qadd(a, b) _mm256_add_epi16((a), (b))
#define rv__qodd(a) _mm256_srli_epi16((a), 8)
#define rv__qeven(all, odd) _mm256_sub_epi16((all), _mm256_slli_epi16((odd), 8))

RV__ISA RV__INLINE void RV__F(qfold)(__m256i even, __m256i odd, uint16_t *out, int add)
{
    __m256i low = _mm256_unpacklo_epi16(even, odd), high = _mm256_unpackhi_epi16(even, odd);
    __m256i sum = _mm256_adds_epu16(_mm256_permute2x128_si256(low, high, 0x20),
                                    _mm256_permute2x128_si256(low, high, 0x31));
    if (add) sum = _mm256_adds_epu16(sum, rv__bload(out));
    _mm256_storeu_si256((__m256i *)(void *)out, sum);
}

/* ---- bits ---- */

#define rv__wload(p) rv__bload(p)
#define rv__wand(a, b) _mm256_and_si256((a), (b))
#define rv__wor(a, b) _mm256_or_si256((a), (b))
#define rv__wxor(a, b) _mm256_xor_si256((a), (b))
#define rv__padd(a, b) _mm256_add_epi64((a), (b))
#define rv__pzero() _mm256_setzero_si256()
#define rv__wpop(acc, x) RV__F(v_pop)((acc), (x))
#define rv__psum(acc) ((uint32_t)RV__F(isum)(acc)) /* sums below 2^32: the upper halves are zero */
#define rv__psum4(out, a, b, c, d) RV__F(isum4)((out), (a), (b), (c), (d))

/* Mula, Kurz, Lemire, Faster population counts using AVX2 instructions, 2018: nibbles by table. */
RV__ISA RV__INLINE __m256i RV__F(v_pop)(__m256i acc, __m256i x)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    __m256i low = _mm256_shuffle_epi8(table, rv__blow(x)),
            high = _mm256_shuffle_epi8(table, rv__bhigh(x));
    return _mm256_add_epi64(acc,
                            _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256()));
}
