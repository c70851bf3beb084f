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
/* Bits that differ in one row of at most one vector or, if wide, of at most two; head and tail: the
   query. */
RV__ISA RV__INLINE rv__vp RV__F(differ_short)(int wide, rv__vw head, rv__vw tail,
                                              const unsigned char *row, size_t bytes)
{
    rv__vp s = rv__pzero();
    if (wide) s = rv__wpop(s, rv__wxor(head, rv__wload(row)));
    row += wide ? RV__WORD : 0;
    bytes -= wide ? RV__WORD : 0;
    return rv__wpop(s, rv__wxor(tail, rv__wtail(row, bytes)));
}

/* Four or eight rows behind each other, which share the adding up of lanes. */
RV__ISA RV__INLINE void RV__F(differ_four)(int wide, rv__vw head, rv__vw tail,
                                           const unsigned char *rows, size_t stride, size_t bytes,
                                           float *out)
{
    rv__vp s0 = RV__F(differ_short)(wide, head, tail, rows, bytes);
    rv__vp s1 = RV__F(differ_short)(wide, head, tail, rows + stride, bytes);
    rv__vp s2 = RV__F(differ_short)(wide, head, tail, rows + 2 * stride, bytes);
    rv__vp s3 = RV__F(differ_short)(wide, head, tail, rows + 3 * stride, bytes);
    int32_t sums[4];
    rv__psum4(sums, s0, s1, s2, s3);
    for (size_t k = 0; k < 4; k++) out[k] = (float)sums[k];
}

RV__ISA RV__INLINE void RV__F(differ_eight)(int wide, rv__vw head, rv__vw tail,
                                            const unsigned char *rows, size_t stride, size_t bytes,
                                            float *out)
{
    rv__vp s0 = RV__F(differ_short)(wide, head, tail, rows, bytes);
    rv__vp s1 = RV__F(differ_short)(wide, head, tail, rows + stride, bytes);
    rv__vp s2 = RV__F(differ_short)(wide, head, tail, rows + 2 * stride, bytes);
    rv__vp s3 = RV__F(differ_short)(wide, head, tail, rows + 3 * stride, bytes);
    rv__vp s4 = RV__F(differ_short)(wide, head, tail, rows + 4 * stride, bytes);
    rv__vp s5 = RV__F(differ_short)(wide, head, tail, rows + 5 * stride, bytes);
    rv__vp s6 = RV__F(differ_short)(wide, head, tail, rows + 6 * stride, bytes);
    rv__vp s7 = RV__F(differ_short)(wide, head, tail, rows + 7 * stride, bytes);
    rv__psum8(out, rv__ppair(s0, s1), rv__ppair(s2, s3), rv__ppair(s4, s5), rv__ppair(s6, s7));
}

/* n > 3; bytes: at most one vector, or if wide two. The last group reaches back. */
RV__ISA RV__INLINE void RV__F(hamming_short)(int wide, const uint8_t *query,
                                             const unsigned char *rows, size_t stride, size_t n,
                                             size_t bytes, float *out)
{
    const rv__vw head = wide ? rv__wload(query) : rv__wtail(query, bytes);
    const rv__vw tail = wide ? rv__wtail(query + RV__WORD, bytes - RV__WORD) : head;
    size_t i = 0;
    while (n - i >= 8 || (n - i > 4 && n >= 8)) {
        if (n - i < 8) i = n - 8;
        RV__F(differ_eight)(wide, head, tail, rows + i * stride, stride, bytes, out + i);
        i += 8;
    }
    while (i < n) {
        if (n - i < 4) i = n - 4;
        RV__F(differ_four)(wide, head, tail, rows + i * stride, stride, bytes, out + i);
        i += 4;
    }
}

/* n > 7; rows of one to four 32-bit words, at most 16 bytes apart: four of them are one load. The
   last group reaches back. */
RV__ISA RV__INLINE void RV__F(hamming_tiny)(const uint8_t *query, const unsigned char *rows,
                                            size_t stride, size_t n, size_t bytes, float *out)
{
    const size_t span = 3 * stride + bytes;
    const uint32_t words = (1u << bytes / 4) - 1u, keep = words * 0x1111u;
    const rv__vp zero = rv__pzero();
    int32_t place[16];
    rv__vi order;
    rv__vw q;
    for (size_t j = 0; j < 16; j++) place[j] = (int32_t)(j % 4);
    q = rv__wgroup(query, bytes, rv__vbits(rv__vload(place)), keep);
    for (size_t j = 0; j < 16; j++) place[j] = (int32_t)(j / 4 * (stride / 4) + j % 4);
    order = rv__vbits(rv__vload(place));
    for (size_t i = 0; i < n; i += 8) {
        rv__vw a, b;
        if (n - i < 8) i = n - 8;
        a = rv__wgroup(rows + i * stride, span, order, keep);
        b = rv__wgroup(rows + (i + 4) * stride, span, order, keep);
        rv__pgroups(out + i, rv__wpop(zero, rv__wxor(q, a)), rv__wpop(zero, rv__wxor(q, b)));
    }
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
    if (!ids && n > 3 && bytes > 0 && bytes <= 2 * RV__WORD) {
        if (n > 7 && bytes % 4 == 0 && stride % 4 == 0 && stride <= 16 && bytes <= stride)
            RV__F(hamming_tiny)(q, rows, stride, n, bytes, out);
        else if (bytes <= RV__WORD) RV__F(hamming_short)(0, q, rows, stride, n, bytes, out);
        else RV__F(hamming_short)(1, q, rows, stride, n, bytes, out);
        return;
    }
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
