/* Overrides for AVX-512 BF16: products of bfloat16 pairs are exact in float, and one instruction
   adds 32 of them. It takes subnormal elements for zero. 768 elements from L1: 22 ns against 41 ns
   with widening, on one machine. */

#define RV__BF16_ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512bf16")

RV__BF16_ISA RV__INLINE __m512bh rv__bf16_get(const uint16_t *p, size_t i)
{
    return (__m512bh)_mm512_loadu_si512((const void *)((const unsigned char *)p + 2 * i));
}

/* Elements i .. n - 1, fewer than 32, with zeros behind them. */
RV__BF16_ISA RV__INLINE __m512bh rv__bf16_tail(const uint16_t *p, size_t i, size_t n)
{
    __mmask32 mask = ((__mmask32)1 << (n - i)) - 1u;
    return (__m512bh)_mm512_maskz_loadu_epi16(mask,
                                              (const void *)((const unsigned char *)p + 2 * i));
}

RV__BF16_ISA static float rv__pair_dot_bf16_avx512bf16(const uint16_t *a, const uint16_t *b,
                                                       size_t n)
{
    __m512 s = _mm512_setzero_ps(), t = s, u = s, v = s;
    size_t i = 0;
    for (; i + 128 <= n; i += 128) {
        s = _mm512_dpbf16_ps(s, rv__bf16_get(a, i), rv__bf16_get(b, i));
        t = _mm512_dpbf16_ps(t, rv__bf16_get(a, i + 32), rv__bf16_get(b, i + 32));
        u = _mm512_dpbf16_ps(u, rv__bf16_get(a, i + 64), rv__bf16_get(b, i + 64));
        v = _mm512_dpbf16_ps(v, rv__bf16_get(a, i + 96), rv__bf16_get(b, i + 96));
    }
    if (i + 64 <= n) {
        s = _mm512_dpbf16_ps(s, rv__bf16_get(a, i), rv__bf16_get(b, i));
        t = _mm512_dpbf16_ps(t, rv__bf16_get(a, i + 32), rv__bf16_get(b, i + 32));
        i += 64;
    }
    if (i + 32 <= n) {
        u = _mm512_dpbf16_ps(u, rv__bf16_get(a, i), rv__bf16_get(b, i));
        i += 32;
    }
    if (i < n) v = _mm512_dpbf16_ps(v, rv__bf16_tail(a, i, n), rv__bf16_tail(b, i, n));
    return rv__vsum_avx512(_mm512_add_ps(_mm512_add_ps(s, t), _mm512_add_ps(u, v)));
}

RV__BF16_ISA static float rv__pair_ip_bf16_avx512bf16(const uint16_t *a, const uint16_t *b,
                                                      size_t n)
{
    return -rv__pair_dot_bf16_avx512bf16(a, b, n);
}

RV__BF16_ISA static float rv__pair_cosine_bf16_avx512bf16(const uint16_t *a, const uint16_t *b,
                                                          size_t n)
{
    __m512 ab = _mm512_setzero_ps(), aa = ab, bb = ab;
    for (size_t i = 0; i < n; i += 32) {
        const int whole = i + 32 <= n;
        __m512bh x = whole ? rv__bf16_get(a, i) : rv__bf16_tail(a, i, n);
        __m512bh y = whole ? rv__bf16_get(b, i) : rv__bf16_tail(b, i, n);
        ab = _mm512_dpbf16_ps(ab, x, y);
        aa = _mm512_dpbf16_ps(aa, x, x);
        bb = _mm512_dpbf16_ps(bb, y, y);
    }
    return rv__cosine_finish(RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                             (const unsigned char *)b, 1.0f, n, rv__vsum_avx512(ab),
                             rv__vsum_avx512(aa), rv__vsum_avx512(bb));
}

#define rv__pair_l2_bf16_avx512bf16 rv__pair_l2_bf16_avx512
#define rv__pair_l1_bf16_avx512bf16 rv__pair_l1_bf16_avx512
#define rv__pair_linf_bf16_avx512bf16 rv__pair_linf_bf16_avx512
#undef RV__BF16_ISA
