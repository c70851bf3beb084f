/* Kernels over sets of bits, in whole bytes. */

RV__ISA RV__INLINE rv__vw RV__F(word)(const unsigned char *p, size_t i, size_t n)
{
    if (i + RV__WORD <= n) return rv__wload(p + i);
#if defined(RV__MASKED)
    return rv__wtail(p + i, n - i);
#else
    {
        unsigned char copy[RV__WORD];
        memset(copy, 0, sizeof copy);
        memcpy(copy, p + i, n - i);
        return rv__wload(copy);
    }
#endif
}

/* Bits that differ. */
RV__ISA RV__INLINE uint32_t RV__F(differ)(const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vp s = rv__pzero(), t = s;
    size_t i = 0;
    for (; i + 2 * RV__WORD <= n; i += 2 * RV__WORD) {
        s = rv__wpop(s, rv__wxor(rv__wload(a + i), rv__wload(b + i)));
        t = rv__wpop(t, rv__wxor(rv__wload(a + i + RV__WORD), rv__wload(b + i + RV__WORD)));
    }
    for (; i < n; i += RV__WORD)
        s = rv__wpop(s, rv__wxor(RV__F(word)(a, i, n), RV__F(word)(b, i, n)));
    return (uint32_t)rv__psum(rv__padd(s, t));
}

RV__ISA static uint32_t RV__F(hamming)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(differ)(a, b, n);
}

/* counts: bits in both, bits in either. */
RV__ISA static void RV__F(overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts)
{
    rv__vp both = rv__pzero(), either = both;
    for (size_t i = 0; i < n; i += RV__WORD) {
        rv__vw u = RV__F(word)(a, i, n), v = RV__F(word)(b, i, n);
        both = rv__wpop(both, rv__wand(u, v));
        either = rv__wpop(either, rv__wor(u, v));
    }
    counts[0] = (uint32_t)rv__psum(both);
    counts[1] = (uint32_t)rv__psum(either);
}

RV__ISA RV__INLINE void RV__F(bit_scan)(int jaccard, const void *query, const unsigned char *rows,
                                        size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                        float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t bytes = (dim + 7) / 8, ahead = rv__rows_ahead(bytes);
    uint32_t counts[2];
    size_t fetched = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 1 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        if (jaccard) {
            RV__F(overlap)(q, row, bytes, counts);
            out[i] = rv__jaccard_finish(counts[0], counts[1]);
        } else {
            out[i] = (float)RV__F(differ)(q, row, bytes);
        }
    }
}

RV__ISA static void RV__F(scan_hamming)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(0, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_jaccard)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(1, query, rows, stride, ids, n, dim, out);
}
