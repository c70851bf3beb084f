/* Kernels over signed and unsigned bytes, nibbles, and bits times bytes: exact on every instruction
   set as long as a 32-bit sum holds them. */

/* ---- pairs ---- */

/* Bytes i .. n - 1, fewer than RV__BYTES, the rest zero, as a vector. */
RV__ISA RV__INLINE rv__vb RV__F(bytes_tail)(const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    return rv__btail(p + i, n - i);
#else
    unsigned char copy[RV__BYTES];
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + i, n - i);
    return rv__bload(copy);
#endif
}

/* One more vector of two byte rows; what is a constant. */
RV__ISA RV__INLINE rv__vi RV__F(int_step)(int what, rv__vi acc, rv__vb a, rv__vb b)
{
    switch (what) {
    case RV__INT_DOT: return rv__bdot_any(acc, a, b);
    case RV__INT_L2: return rv__bl2_i8(acc, a, b);
    case RV__INT_L1: return rv__bl1_i8(acc, a, b);
    case RV__INT_L1_U8: return rv__bl1_u8(acc, a, b);
    case RV__INT_DOT_U8: return rv__bdot_u8(acc, a, b);
    default: return rv__bl2_u8(acc, a, b);
    }
}

/* What the step adds beyond the dot product, where bytes are shifted to the other signedness. */
RV__ISA RV__INLINE rv__vi RV__F(int_bias)(int what, rv__vi acc, rv__vb a, rv__vb b)
{
    (void)a;
    (void)b;
    if (what == RV__INT_DOT) return rv__bbias(acc, b);
    if (what == RV__INT_DOT_U8) return rv__bbias_u8(acc, a);
    return acc;
}

RV__ISA RV__INLINE int32_t RV__F(int_pair)(int what, const void *a, const void *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    const size_t B = RV__BYTES;
    rv__vi s0 = rv__iset(0), s1 = s0, bias0 = s0, bias1 = s0;
    rv__vb u, v;
    size_t i = 0;
    /* One sum in plain C: gcc 12 -O3 gets a loop over pairs of elements with two sums wrong, at
       n = 32. */
    for (; B == 1 && i < n; i++)
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
    for (; B > 1 && i + 2 * B <= n; i += 2 * B) {
        u = rv__bload(p + i);
        v = rv__bload(q + i);
        s0 = RV__F(int_step)(what, s0, u, v);
        bias0 = RV__F(int_bias)(what, bias0, u, v);
        u = rv__bload(p + i + B);
        v = rv__bload(q + i + B);
        s1 = RV__F(int_step)(what, s1, u, v);
        bias1 = RV__F(int_bias)(what, bias1, u, v);
    }
    if (B > 1 && i + B <= n) {
        u = rv__bload(p + i);
        v = rv__bload(q + i);
        s0 = RV__F(int_step)(what, s0, u, v);
        bias0 = RV__F(int_bias)(what, bias0, u, v);
        i += B;
    }
    if (B > 1 && i < n) {
        u = RV__F(bytes_tail)(p, i, n);
        v = RV__F(bytes_tail)(q, i, n);
        s1 = RV__F(int_step)(what, s1, u, v);
        bias1 = RV__F(int_bias)(what, bias1, u, v);
    }
    return rv__isum(rv__isub(rv__iadd(s0, s1), rv__iadd(bias0, bias1)));
}

RV__ISA static int32_t RV__F(dot_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static int32_t RV__F(l2sq_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L2, a, b, n);
}

RV__ISA static int32_t RV__F(l1_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L1, a, b, n);
}

RV__ISA static uint32_t RV__F(dot_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return (uint32_t)RV__F(int_pair)(RV__INT_DOT_U8, a, b, n);
}

RV__ISA static uint32_t RV__F(l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return (uint32_t)RV__F(int_pair)(RV__INT_L2_U8, a, b, n);
}

RV__ISA static uint32_t RV__F(l1_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return (uint32_t)RV__F(int_pair)(RV__INT_L1_U8, a, b, n);
}

/* The largest difference; what: RV__INT_L1 or RV__INT_L1_U8, which say how bytes are meant. */
RV__ISA RV__INLINE int32_t RV__F(int_linf)(int what, const void *a, const void *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    rv__vb most = rv__bzero();
    for (size_t i = 0; i < n; i += RV__BYTES) {
        const int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload(p + i) : RV__F(bytes_tail)(p, i, n);
        rv__vb v = whole ? rv__bload(q + i) : RV__F(bytes_tail)(q, i, n);
        rv__vb gap = what == RV__INT_L1 ? rv__bgap_i8(u, v) : rv__bgap_u8(u, v);
        most = rv__bmost(most, gap);
    }
    return rv__btop(most);
}

RV__ISA static int32_t RV__F(linf_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_linf)(RV__INT_L1, a, b, n);
}

RV__ISA static uint32_t RV__F(linf_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return (uint32_t)RV__F(int_linf)(RV__INT_L1_U8, a, b, n);
}

/* out: a.b, a.a, b.b */
RV__ISA static void RV__F(cosine_i8)(const int8_t *a, const int8_t *b, size_t n, int32_t *out)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    rv__vi ab = rv__iset(0), aa = ab, bb = ab, bias = ab;
    for (size_t i = 0; i < n; i += RV__BYTES) {
        const int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload(p + i) : RV__F(bytes_tail)(p, i, n);
        rv__vb v = whole ? rv__bload(q + i) : RV__F(bytes_tail)(q, i, n);
        ab = rv__bdot_any(ab, u, v);
        bias = rv__bbias(bias, v);
        aa = rv__bsquare(aa, u);
        bb = rv__bsquare(bb, v);
    }
    out[0] = rv__isum(rv__isub(ab, bias));
    out[1] = rv__isum(aa);
    out[2] = rv__isum(bb);
}

RV__ISA static void RV__F(cosine_u8)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *out)
{
    rv__vi ab = rv__iset(0), aa = ab, bb = ab, bias_a = ab, bias_b = ab;
    for (size_t i = 0; i < n; i += RV__BYTES) {
        const int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload(a + i) : RV__F(bytes_tail)(a, i, n);
        rv__vb v = whole ? rv__bload(b + i) : RV__F(bytes_tail)(b, i, n);
        ab = rv__bdot_u8(ab, u, v);
        aa = rv__bdot_u8(aa, u, u);
        bb = rv__bdot_u8(bb, v, v);
        bias_a = rv__bbias_u8(bias_a, u);
        bias_b = rv__bbias_u8(bias_b, v);
    }
    out[0] = (uint32_t)rv__isum(rv__isub(ab, bias_a));
    out[1] = (uint32_t)rv__isum(rv__isub(aa, bias_a));
    out[2] = (uint32_t)rv__isum(rv__isub(bb, bias_b));
}

/* ---- one query against packed rows ---- */

/* n: a multiple of 64. */
RV__ISA RV__INLINE int32_t RV__F(sum_i8)(const int8_t *a, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t k = 0; k < n; k += RV__BYTES)
        s = rv__bdot_small(s, rv__bone(), rv__bload((const unsigned char *)a + k));
    return rv__isum(s);
}

/* The next 64 bytes of a row (bits: 64 / 8 of them, 64 elements), times the query. */
RV__ISA RV__INLINE rv__vi RV__F(code_step)(int code, rv__vi acc, const unsigned char *row,
                                           const int8_t *query)
{
    for (size_t j = 0; j < 64; j += RV__BYTES) {
        rv__vb r, q = rv__bload(query + j);
        if (code == RV__CODE_U1) {
            acc = rv__bdot_small(acc, rv__bbits(row, j), q);
        } else if (code == RV__CODE_U4) {
            r = rv__bload(row + j);
            acc = rv__bdot_small(acc, rv__blow(r), q);
            acc = rv__bdot_small(acc, rv__bhigh(r), rv__bload(query + 64 + j));
        } else {
            r = rv__bflip(rv__bload(row + j));
            acc = rv__bdot(acc, r, q);
        }
    }
    return acc;
}

/* All rows, four at a time; every row a multiple of 64 bytes (bits: of 8). bias: what the shift to
   unsigned bytes adds to each dot product. terms: out takes estimates, float (see estimate of the
   table); NULL: the dot products, int32_t. */
RV__ISA RV__INLINE void RV__F(code_scan)(int code, const int8_t *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n,
                                         size_t n_bytes, const float *terms, void *out)
{
    const size_t step = code == RV__CODE_U1 ? 8 : 64, elements = code == RV__CODE_U4 ? 128 : 64;
    const size_t ahead = rv__rows_ahead(n_bytes), last = n - 1;
    size_t fetched = 0;
    int32_t bias = 0;
    if (RV__BIAS && code == RV__CODE_I8) bias = RV__BIAS * RV__F(sum_i8)(query, n_bytes);
    for (size_t i = 0; i < n; i += 4) {
        const size_t left = n - i; /* a short group repeats its last row */
        const size_t i1 = left > 1 ? i + 1 : last, i2 = left > 2 ? i + 2 : last;
        const size_t i3 = left > 3 ? i + 3 : last, reach = left < 4 + ahead ? n : i + 4 + ahead;
        const unsigned char *r0 = rows + (ids ? ids[i] : i) * stride;
        const unsigned char *r1 = rows + (ids ? ids[i1] : i1) * stride;
        const unsigned char *r2 = rows + (ids ? ids[i2] : i2) * stride;
        const unsigned char *r3 = rows + (ids ? ids[i3] : i3) * stride;
        const int8_t *q = query;
        rv__vi s0 = rv__iset(0), s1 = s0, s2 = s0, s3 = s0;
        int32_t dot[4];
        for (; ids && fetched < reach; fetched++)
            for (size_t j = 0; j < n_bytes; j += RV__LINE)
                RV__PREFETCH_FAR(rows + ids[fetched] * stride + j);
        for (size_t j = 0; j < n_bytes; j += step, q += elements) {
            s0 = RV__F(code_step)(code, s0, r0 + j, q);
            s1 = RV__F(code_step)(code, s1, r1 + j, q);
            s2 = RV__F(code_step)(code, s2, r2 + j, q);
            s3 = RV__F(code_step)(code, s3, r3 + j, q);
        }
        rv__isum4(dot, s0, s1, s2, s3);
        for (size_t k = 0; k < 4; k++) dot[k] -= bias;
        if (terms) {
            float estimates[4];
            estimates[0] = rv__estimate(r0, dot[0], terms);
            estimates[1] = rv__estimate(r1, dot[1], terms);
            estimates[2] = rv__estimate(r2, dot[2], terms);
            estimates[3] = rv__estimate(r3, dot[3], terms);
            memcpy((float *)out + i, estimates, (left < 4 ? left : 4) * sizeof(float));
        } else {
            memcpy((int32_t *)out + i, dot, (left < 4 ? left : 4) * sizeof(int32_t));
        }
    }
}

RV__ISA static void RV__F(dot_i8_scan)(const int8_t *query, const unsigned char *rows,
                                       size_t stride, const uint32_t *ids, size_t n, size_t n_bytes,
                                       int32_t *out)
{
    RV__F(code_scan)(RV__CODE_I8, query, rows, stride, ids, n, n_bytes, NULL, out);
}

RV__ISA static void RV__F(dot_u4_scan)(const int8_t *query, const unsigned char *rows,
                                       size_t stride, const uint32_t *ids, size_t n, size_t n_bytes,
                                       int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U4, query, rows, stride, ids, n, n_bytes, NULL, out);
}

RV__ISA static void RV__F(dot_u1_scan)(const int8_t *query, const unsigned char *rows,
                                       size_t stride, const uint32_t *ids, size_t n, size_t n_bytes,
                                       int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U1, query, rows, stride, ids, n, n_bytes, NULL, out);
}

RV__ISA static void RV__F(estimate)(uint32_t bits, const int8_t *query,
                                    const unsigned char *rows, size_t stride, const uint32_t *ids,
                                    size_t n, size_t n_bytes, const float *terms, float *out)
{
    if (bits == 8)
        RV__F(code_scan)(RV__CODE_I8, query, rows, stride, ids, n, n_bytes, terms, out);
    else if (bits == 4)
        RV__F(code_scan)(RV__CODE_U4, query, rows, stride, ids, n, n_bytes, terms, out);
    else RV__F(code_scan)(RV__CODE_U1, query, rows, stride, ids, n, n_bytes, terms, out);
}
