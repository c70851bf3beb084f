/* Kernels over sets of bits, in whole bytes. What does not fill a vector is read under a mask, or
   else in words of 64 bits: a copy to fill a vector would wait for its own stores. */

/* Bits that differ, on their way to a sum; what is left over goes to rest. */
RV__ISA RV__INLINE rv__vp RV__F(differ)(const uint8_t *a, const uint8_t *b, size_t n,
                                        uint32_t *rest)
{
    rv__vp s = rv__pzero(), t = s;
    size_t i = 0;
    *rest = 0;
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
        *rest += rv__pop64(rv__load_rest(a + i, n - i) ^ rv__load_rest(b + i, n - i));
#endif
    return rv__padd(s, t);
}

RV__ISA static uint32_t RV__F(hamming)(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint32_t rest;
    rv__vp sum = RV__F(differ)(a, b, n, &rest);
    return (uint32_t)rv__psum(sum) + rest;
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

#if defined(RV__MASKED)
/* Groups of four rows, each one vector at most, behind each other. Returns how many rows. */
RV__ISA RV__INLINE size_t RV__F(hamming_short)(const uint8_t *query, const unsigned char *rows,
                                               size_t stride, size_t n, size_t bytes, float *out)
{
    const rv__vw q = rv__wtail(query, bytes);
    const rv__vp zero = rv__pzero();
    size_t i = 0;
    for (; i + 4 <= n; i += 4, rows += 4 * stride) {
        int32_t sums[4];
        rv__vp s0 = rv__wpop(zero, rv__wxor(q, rv__wtail(rows, bytes)));
        rv__vp s1 = rv__wpop(zero, rv__wxor(q, rv__wtail(rows + stride, bytes)));
        rv__vp s2 = rv__wpop(zero, rv__wxor(q, rv__wtail(rows + 2 * stride, bytes)));
        rv__vp s3 = rv__wpop(zero, rv__wxor(q, rv__wtail(rows + 3 * stride, bytes)));
        rv__psum4(sums, s0, s1, s2, s3);
        for (size_t k = 0; k < 4; k++) out[i + k] = (float)sums[k];
    }
    return i;
}
#endif

/* Four rows at a time, a short group repeats its last row: most of what a row costs is adding up
   the lanes, which four can share. */
RV__ISA static void RV__F(scan_hamming)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const uint8_t *q = (const uint8_t *)query;
    const size_t bytes = (dim + 7) / 8, ahead = ids ? rv__rows_ahead(bytes) : 0;
    size_t i = 0, fetched = 0;
#if defined(RV__MASKED)
    if (!ids && bytes > 0 && bytes <= RV__WORD)
        i = RV__F(hamming_short)(q, rows, stride, n, bytes, out);
#endif
    for (; i < n; i += 4) {
        const size_t i1 = i + 1 < n ? i + 1 : n - 1, i2 = i + 2 < n ? i + 2 : n - 1;
        const size_t i3 = i + 3 < n ? i + 3 : n - 1;
        uint32_t rest[4];
        int32_t sums[4];
        rv__vp s0, s1, s2, s3;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++)
                rv__touch(rows + ids[fetched] * stride, bytes);
        }
        s0 = RV__F(differ)(q, rows + (ids ? ids[i] : i) * stride, bytes, &rest[0]);
        s1 = RV__F(differ)(q, rows + (ids ? ids[i1] : i1) * stride, bytes, &rest[1]);
        s2 = RV__F(differ)(q, rows + (ids ? ids[i2] : i2) * stride, bytes, &rest[2]);
        s3 = RV__F(differ)(q, rows + (ids ? ids[i3] : i3) * stride, bytes, &rest[3]);
        rv__psum4(sums, s0, s1, s2, s3);
        out[i] = (float)((uint32_t)sums[0] + rest[0]);
        out[i1] = (float)((uint32_t)sums[1] + rest[1]);
        out[i2] = (float)((uint32_t)sums[2] + rest[2]);
        out[i3] = (float)((uint32_t)sums[3] + rest[3]);
    }
}

RV__ISA static void RV__F(scan_jaccard)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t bytes = (dim + 7) / 8, ahead = rv__rows_ahead(bytes);
    uint32_t counts[2];
    size_t fetched = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids) {
            for (; fetched < n && fetched < i + 1 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        RV__F(overlap)(q, rows + (ids ? ids[i] : i) * stride, bytes, counts);
        out[i] = rv__jaccard_finish(counts[0], counts[1]);
    }
}
