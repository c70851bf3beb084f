/* Kernels over sets of bits, in whole bytes. What does not fill a vector is read under a mask, or
   else in words of 64 bits: a copy to fill a vector would wait for its own stores. */

/* Bits that differ. */
RV__ISA RV__INLINE uint32_t RV__F(differ)(const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vp s = rv__pzero(), t = s;
    uint32_t rest = 0;
    size_t i = 0;
    for (; i + 2 * RV__WORD <= n; i += 2 * RV__WORD) {
        s = rv__wpop(s, rv__wxor(rv__wload(a + i), rv__wload(b + i)));
        t = rv__wpop(t, rv__wxor(rv__wload(a + i + RV__WORD), rv__wload(b + i + RV__WORD)));
    }
    if (i + RV__WORD <= n) {
        s = rv__wpop(s, rv__wxor(rv__wload(a + i), rv__wload(b + i)));
        i += RV__WORD;
    }
#if defined(RV__MASKED)
    if (i < n) t = rv__wpop(t, rv__wxor(rv__wtail(a + i, n - i), rv__wtail(b + i, n - i)));
#else
    for (; i < n; i += 8)
        rest += rv__pop64(rv__load_rest(a + i, n - i) ^ rv__load_rest(b + i, n - i));
#endif
    return (uint32_t)rv__psum(rv__padd(s, t)) + rest;
}

RV__ISA static uint32_t RV__F(hamming)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(differ)(a, b, n);
}

/* counts: bits in both, bits in either. */
RV__ISA static void RV__F(overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts)
{
    rv__vp both = rv__pzero(), either = both;
    rv__vw u, v;
    size_t i = 0;
    counts[0] = counts[1] = 0;
    for (; i + RV__WORD <= n; i += RV__WORD) {
        u = rv__wload(a + i);
        v = rv__wload(b + i);
        both = rv__wpop(both, rv__wand(u, v));
        either = rv__wpop(either, rv__wor(u, v));
    }
#if defined(RV__MASKED)
    if (i < n) {
        u = rv__wtail(a + i, n - i);
        v = rv__wtail(b + i, n - i);
        both = rv__wpop(both, rv__wand(u, v));
        either = rv__wpop(either, rv__wor(u, v));
    }
#else
    for (; i < n; i += 8) {
        uint64_t x = rv__load_rest(a + i, n - i), y = rv__load_rest(b + i, n - i);
        counts[0] += rv__pop64(x & y);
        counts[1] += rv__pop64(x | y);
    }
#endif
    counts[0] += (uint32_t)rv__psum(both);
    counts[1] += (uint32_t)rv__psum(either);
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
