/* Kernels over floating point rows, written once and expanded for every instruction set. op and
   type are constants at every call, so that of each switch one branch survives. */

/* Elements i .. i + LANES - 1 of a row as floats. */
RV__ISA RV__INLINE rv__v RV__F(get)(int type, const unsigned char *p, size_t i)
{
    switch (type) {
    case RV__TYPE_F16: return rv__vload_f16(p + 2 * i);
    case RV__TYPE_BF16: return rv__vload_bf16(p + 2 * i);
    case RV__TYPE_I8: return rv__vload_i8(p + i);
    case RV__TYPE_U8: return rv__vload_u8(p + i);
    default: return rv__vload(p + 4 * i);
    }
}

/* Elements i .. n - 1, fewer than LANES, with zeros in the other lanes. Two rows of one length n
   agree on the lanes, whatever their types. */
RV__ISA RV__INLINE rv__v RV__F(get_tail)(int type, const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    switch (type) {
    case RV__TYPE_F16: return rv__vtail_f16(p + 2 * i, n - i);
    case RV__TYPE_BF16: return rv__vtail_bf16(p + 2 * i, n - i);
    case RV__TYPE_I8: return rv__vtail_i8(p + i, n - i);
    case RV__TYPE_U8: return rv__vtail_u8(p + i, n - i);
    default: return rv__vload_tail(p + 4 * i, n - i);
    }
#else
    const size_t size = rv__type_bytes(type);
    unsigned char copy[4 * RV__LANES];
    if (n >= RV__LANES) return rv__vkeep_last(RV__F(get)(type, p, n - RV__LANES), n - i);
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + size * i, size * (n - i));
    return RV__F(get)(type, copy, 0);
#endif
}

/* One more term of the sum (or maximum) that the distance is made of. b of type I8 is a code, which
   the factor scales; in a dot product the sum is scaled at the end. */
RV__ISA RV__INLINE rv__v RV__F(step)(int op, int type, rv__v acc, rv__v a, rv__v b, rv__v factor)
{
    rv__v d;
    if (op == RV__OP_IP || op == RV__OP_COSINE || op == RV__OP_DOT) return rv__vfma(a, b, acc);
    d = type == RV__TYPE_I8 ? rv__vfnma(b, factor, a) : rv__vsub(a, b);
    if (op == RV__OP_L2) return rv__vfma(d, d, acc);
    if (op == RV__OP_L1) return rv__vadd(acc, rv__vabs(d));
    return rv__vmaxbits(acc, rv__vabs(d)); /* NaN is the largest magnitude */
}

RV__ISA RV__INLINE rv__v RV__F(join)(int op, rv__v a, rv__v b)
{
    return op == RV__OP_LINF ? rv__vmaxbits(a, b) : rv__vadd(a, b);
}

RV__ISA RV__INLINE float RV__F(fold)(int op, rv__v a)
{
    return op == RV__OP_LINF ? rv__vmaximum(a) : rv__vsum(a);
}

/* The sums a cosine is made of, in one pass. sums: a.b, a.a, b.b; without a.a where that is known,
   which is a constant at every call. */
RV__ISA RV__INLINE void RV__F(parts)(int ta, int tb, int known, const unsigned char *a,
                                     const unsigned char *b, size_t n, float *sums)
{
    const size_t L = RV__LANES;
    rv__v s0 = rv__vzero(), s1 = s0, x0 = s0, x1 = s0, y0 = s0, y1 = s0, u, v;
    size_t i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
        u = RV__F(get)(ta, a, i);
        v = RV__F(get)(tb, b, i);
        s0 = rv__vfma(u, v, s0);
        if (!known) x0 = rv__vfma(u, u, x0);
        y0 = rv__vfma(v, v, y0);
        u = RV__F(get)(ta, a, i + L);
        v = RV__F(get)(tb, b, i + L);
        s1 = rv__vfma(u, v, s1);
        if (!known) x1 = rv__vfma(u, u, x1);
        y1 = rv__vfma(v, v, y1);
    }
    for (; i < n; i += L) {
        const int whole = i + L <= n;
        u = whole ? RV__F(get)(ta, a, i) : RV__F(get_tail)(ta, a, i, n);
        v = whole ? RV__F(get)(tb, b, i) : RV__F(get_tail)(tb, b, i, n);
        s0 = rv__vfma(u, v, s0);
        if (!known) x0 = rv__vfma(u, u, x0);
        y0 = rv__vfma(v, v, y0);
    }
    sums[0] = rv__vsum(rv__vadd(s0, s1));
    if (!known) sums[1] = rv__vsum(rv__vadd(x0, x1));
    sums[2] = rv__vsum(rv__vadd(y0, y1));
}

/* The distance of a query, of squared length aa, and a row. */
RV__ISA RV__INLINE float RV__F(cosine_row)(int type, const unsigned char *query,
                                           const unsigned char *row, float scale, size_t n,
                                           float aa)
{
    float sums[3];
    RV__F(parts)(RV__TYPE_F32, type, 1, query, row, n, sums);
    return rv__cosine_finish(RV__TYPE_F32, type, query, row, scale, n, sums[0], aa, sums[2]);
}

/* Of the next 2 LANES elements of a row of bfloat16, those in even, or in odd, places. One load
   and one operation; widening in order takes two of each, through fewer units. */
RV__ISA RV__INLINE rv__v RV__F(half_bf16)(int odd, const unsigned char *p)
{
    rv__vi words = rv__vbits(rv__vload(p));
    return rv__vfrom(odd ? rv__iand(words, rv__iset(-65536)) : rv__ishl(words, 16));
}

RV__ISA RV__INLINE rv__v RV__F(step_bf16)(int op, int odd, rv__v acc, const unsigned char *a,
                                          const unsigned char *b)
{
    rv__v u = RV__F(half_bf16)(odd, a), v = RV__F(half_bf16)(odd, b);
    return RV__F(step)(op, RV__TYPE_BF16, acc, u, v, u);
}

/* a and b of types ta and tb; for I8, scale is that of b. */
RV__ISA RV__INLINE float RV__F(one)(int op, int ta, int tb, const unsigned char *a,
                                    const unsigned char *b, float scale, size_t n)
{
    const int halves = RV__LANES > 1 && ta == RV__TYPE_BF16 && tb == RV__TYPE_BF16;
    const size_t L = RV__LANES;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, u, v, factor = rv__vset(scale);
    float sum;
    size_t i = 0;
    if (op == RV__OP_COSINE) {
        float sums[3];
        RV__F(parts)(ta, tb, 0, a, b, n, sums);
        return rv__cosine_finish(ta, tb, a, b, scale, n, sums[0], sums[1], sums[2]);
    }
    for (; halves && i + 4 * L <= n; i += 4 * L) {
        s0 = RV__F(step_bf16)(op, 0, s0, a + 2 * i, b + 2 * i);
        s1 = RV__F(step_bf16)(op, 1, s1, a + 2 * i, b + 2 * i);
        s2 = RV__F(step_bf16)(op, 0, s2, a + 2 * (i + 2 * L), b + 2 * (i + 2 * L));
        s3 = RV__F(step_bf16)(op, 1, s3, a + 2 * (i + 2 * L), b + 2 * (i + 2 * L));
    }
    if (halves && i + 2 * L <= n) {
        s0 = RV__F(step_bf16)(op, 0, s0, a + 2 * i, b + 2 * i);
        s1 = RV__F(step_bf16)(op, 1, s1, a + 2 * i, b + 2 * i);
        i += 2 * L;
    }
    for (; i + 4 * L <= n; i += 4 * L) {
        v = RV__F(get)(tb, b, i);
        s0 = RV__F(step)(op, tb, s0, RV__F(get)(ta, a, i), v, factor);
        v = RV__F(get)(tb, b, i + L);
        s1 = RV__F(step)(op, tb, s1, RV__F(get)(ta, a, i + L), v, factor);
        v = RV__F(get)(tb, b, i + 2 * L);
        s2 = RV__F(step)(op, tb, s2, RV__F(get)(ta, a, i + 2 * L), v, factor);
        v = RV__F(get)(tb, b, i + 3 * L);
        s3 = RV__F(step)(op, tb, s3, RV__F(get)(ta, a, i + 3 * L), v, factor);
    }
    for (; i < n; i += L) {
        const int whole = i + L <= n;
        u = whole ? RV__F(get)(ta, a, i) : RV__F(get_tail)(ta, a, i, n);
        v = whole ? RV__F(get)(tb, b, i) : RV__F(get_tail)(tb, b, i, n);
        s0 = RV__F(step)(op, tb, s0, u, v, factor);
    }
    sum = RV__F(fold)(op, RV__F(join)(op, RV__F(join)(op, s0, s1), RV__F(join)(op, s2, s3)));
    if (op != RV__OP_IP) return sum;
    return tb == RV__TYPE_I8 ? -sum * scale : -sum;
}

/* Terms i .. i + LANES - 1 of one row against those of the query; at the end those up to n - 1. */
RV__ISA RV__INLINE void RV__F(term)(int op, int type, int end, const unsigned char *row, rv__v q,
                                    rv__v factor, size_t i, size_t n, rv__v *sum, rv__v *squares)
{
    rv__v v = end ? RV__F(get_tail)(type, row, i, n) : RV__F(get)(type, row, i);
    if (op == RV__OP_COSINE) {
        *sum = rv__vfma(q, v, *sum);
        *squares = rv__vfma(v, v, *squares);
    } else {
        *sum = RV__F(step)(op, type, *sum, q, v, factor);
    }
}

RV__ISA RV__INLINE void RV__F(row)(int op, int type, const unsigned char *row,
                                   const unsigned char *query, rv__v factor, size_t n, rv__v *sum,
                                   rv__v *squares)
{
    const size_t L = RV__LANES;
    rv__v s = rv__vzero(), t = s;
    size_t i = 0;
    for (; i + L <= n; i += L)
        RV__F(term)(op, type, 0, row, rv__vload(query + 4 * i), factor, i, n, &s, &t);
    if (i < n) {
        rv__v q = RV__F(get_tail)(RV__TYPE_F32, query, i, n);
        RV__F(term)(op, type, 1, row, q, factor, i, n, &s, &t);
    }
    *sum = s;
    *squares = t;
}

/* Four rows against one query. From a list (mixed), the loads of the query are shared and four rows
   of memory are on their way at once; rows in order come one after the other, because the processor
   notices one stream of addresses best. The sums are the same, bit for bit. */
RV__ISA RV__INLINE void RV__F(four)(int op, int type, int mixed, const unsigned char *query,
                                    const unsigned char *r0, const unsigned char *r1,
                                    const unsigned char *r2, const unsigned char *r3, size_t n,
                                    float qq, float *out)
{
    const size_t L = RV__LANES;
    float f0 = 1.0f, f1 = 1.0f, f2 = 1.0f, f3 = 1.0f;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    rv__v g0 = s0, g1 = s0, g2 = s0, g3 = s0;
    size_t i = 0;
    if (type == RV__TYPE_I8) {
        memcpy(&f0, r0, 4);
        memcpy(&f1, r1, 4);
        memcpy(&f2, r2, 4);
        memcpy(&f3, r3, 4);
        r0 += 4;
        r1 += 4;
        r2 += 4;
        r3 += 4;
        g0 = rv__vset(f0);
        g1 = rv__vset(f1);
        g2 = rv__vset(f2);
        g3 = rv__vset(f3);
    }
    for (; mixed && i + L <= n; i += L) {
        rv__v q = rv__vload(query + 4 * i);
        RV__F(term)(op, type, 0, r0, q, g0, i, n, &s0, &t0);
        RV__F(term)(op, type, 0, r1, q, g1, i, n, &s1, &t1);
        RV__F(term)(op, type, 0, r2, q, g2, i, n, &s2, &t2);
        RV__F(term)(op, type, 0, r3, q, g3, i, n, &s3, &t3);
    }
    if (mixed && i < n) {
        rv__v q = RV__F(get_tail)(RV__TYPE_F32, query, i, n);
        RV__F(term)(op, type, 1, r0, q, g0, i, n, &s0, &t0);
        RV__F(term)(op, type, 1, r1, q, g1, i, n, &s1, &t1);
        RV__F(term)(op, type, 1, r2, q, g2, i, n, &s2, &t2);
        RV__F(term)(op, type, 1, r3, q, g3, i, n, &s3, &t3);
    }
    if (!mixed) {
        RV__F(row)(op, type, r0, query, g0, n, &s0, &t0);
        RV__F(row)(op, type, r1, query, g1, n, &s1, &t1);
        RV__F(row)(op, type, r2, query, g2, n, &s2, &t2);
        RV__F(row)(op, type, r3, query, g3, n, &s3, &t3);
    }
    if (op == RV__OP_LINF) {
        out[0] = rv__vmaximum(s0);
        out[1] = rv__vmaximum(s1);
        out[2] = rv__vmaximum(s2);
        out[3] = rv__vmaximum(s3);
        return;
    }
    rv__vsum4(out, s0, s1, s2, s3);
    if (op == RV__OP_IP) {
        out[0] *= -f0;
        out[1] *= -f1;
        out[2] *= -f2;
        out[3] *= -f3;
    }
    if (op == RV__OP_COSINE) {
        float rr[4];
        rv__vsum4(rr, t0, t1, t2, t3);
        out[0] = rv__cosine_finish(RV__TYPE_F32, type, query, r0, f0, n, out[0], qq, rr[0]);
        out[1] = rv__cosine_finish(RV__TYPE_F32, type, query, r1, f1, n, out[1], qq, rr[1]);
        out[2] = rv__cosine_finish(RV__TYPE_F32, type, query, r2, f2, n, out[2], qq, rr[2]);
        out[3] = rv__cosine_finish(RV__TYPE_F32, type, query, r3, f3, n, out[3], qq, rr[3]);
    }
}

/* See rv__scan_fn. Short rows go four at a time, a short group repeats its first row; of longer
   ones four would be too many streams of addresses for the processor to notice. Which of the two
   depends on the length only, so that a distance does not depend on the place of its row. */
RV__ISA RV__INLINE void RV__F(scan)(int op, int type, const void *query, const unsigned char *rows,
                                    size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                    float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t head = type == RV__TYPE_I8 ? 4 : 0;
    const size_t bytes = head + dim * rv__type_bytes(type);
    const size_t ahead = ids ? rv__rows_ahead(bytes) : 0;
    const size_t step = dim <= (RV__LANES == 16 ? 400u : 8 * RV__LANES) ? 4 : 1;
    float scale = 1.0f, qq = 0.0f, last[4];
    if (op == RV__OP_COSINE) {
        qq = RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, q, q, 1.0f, dim);
    }
    for (size_t i = 0, fetched = 0; i < n; i += step) {
        const unsigned char *r0 = rows + (ids ? ids[i] : i) * stride;
        for (; fetched < n && fetched < i + step + ahead && ids; fetched++)
            rv__touch(rows + ids[fetched] * stride, bytes);
        if (step == 4) {
            const size_t i1 = i + 1 < n ? i + 1 : i, i2 = i + 2 < n ? i + 2 : i;
            const size_t i3 = i + 3 < n ? i + 3 : i;
            const unsigned char *r1 = rows + (ids ? ids[i1] : i1) * stride;
            const unsigned char *r2 = rows + (ids ? ids[i2] : i2) * stride;
            const unsigned char *r3 = rows + (ids ? ids[i3] : i3) * stride;
            float *to = i + 4 <= n ? out + i : last;
            if (ids) RV__F(four)(op, type, 1, q, r0, r1, r2, r3, dim, qq, to);
            else RV__F(four)(op, type, 0, q, r0, r1, r2, r3, dim, qq, to);
            if (i + 4 > n) memcpy(out + i, last, (n - i) * sizeof(float));
        } else {
            if (type == RV__TYPE_I8) memcpy(&scale, r0, 4);
            if (op == RV__OP_COSINE)
                out[i] = RV__F(cosine_row)(type, q, r0 + head, scale, dim, qq);
            else out[i] = RV__F(one)(op, RV__TYPE_F32, type, q, r0 + head, scale, dim);
        }
    }
}

/* ---- the instances ---- */

RV__ISA static void RV__F(scan_l2_f32)(const void *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_f16)(const void *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_bf16)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_i8)(const void *query, const unsigned char *rows, size_t stride,
                                      const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_u8)(const void *query, const unsigned char *rows, size_t stride,
                                      const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_U8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f32)(const void *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f16)(const void *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_bf16)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_i8)(const void *query, const unsigned char *rows, size_t stride,
                                      const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_u8)(const void *query, const unsigned char *rows, size_t stride,
                                      const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_U8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f32)(const void *query, const unsigned char *rows,
                                           size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                           float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f16)(const void *query, const unsigned char *rows,
                                           size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                           float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_bf16)(const void *query, const unsigned char *rows,
                                            size_t stride, const uint32_t *ids, size_t n,
                                            size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_i8)(const void *query, const unsigned char *rows,
                                          size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                          float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_u8)(const void *query, const unsigned char *rows,
                                          size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                          float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_U8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f32)(const void *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f16)(const void *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_bf16)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_i8)(const void *query, const unsigned char *rows, size_t stride,
                                      const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_u8)(const void *query, const unsigned char *rows, size_t stride,
                                      const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_U8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f32)(const void *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                         float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f16)(const void *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                         float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_bf16)(const void *query, const unsigned char *rows,
                                          size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                          float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_i8)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_u8)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_U8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_dot_f32)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_DOT, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(parts_f32)(const float *a, const float *b, size_t n, float *sums)
{
    RV__F(parts)(RV__TYPE_F32, RV__TYPE_F32, 0, (const unsigned char *)a, (const unsigned char *)b,
                 n, sums);
}

RV__ISA static float RV__F(pair_l2_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_ip_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_dot_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_cosine_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_l1_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_linf_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_l2_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_ip_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_dot_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_DOT, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_cosine_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_l1_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_linf_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_l2_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_ip_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_dot_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_DOT, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_cosine_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_l1_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}

RV__ISA static float RV__F(pair_linf_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n);
}
