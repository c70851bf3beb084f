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

/* The sums a cosine is made of, in one pass. sums: a.b, a.a, b.b. */
RV__ISA RV__INLINE void RV__F(parts)(int ta, int tb, const unsigned char *a,
                                     const unsigned char *b, size_t n, float *sums)
{
    const size_t L = RV__LANES;
    rv__v s0 = rv__vzero(), s1 = s0, x0 = s0, x1 = s0, y0 = s0, y1 = s0, u, v;
    size_t i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
        u = RV__F(get)(ta, a, i);
        v = RV__F(get)(tb, b, i);
        s0 = rv__vfma(u, v, s0);
        x0 = rv__vfma(u, u, x0);
        y0 = rv__vfma(v, v, y0);
        u = RV__F(get)(ta, a, i + L);
        v = RV__F(get)(tb, b, i + L);
        s1 = rv__vfma(u, v, s1);
        x1 = rv__vfma(u, u, x1);
        y1 = rv__vfma(v, v, y1);
    }
    for (; i < n; i += L) {
        const int whole = i + L <= n;
        u = whole ? RV__F(get)(ta, a, i) : RV__F(get_tail)(ta, a, i, n);
        v = whole ? RV__F(get)(tb, b, i) : RV__F(get_tail)(tb, b, i, n);
        s0 = rv__vfma(u, v, s0);
        x0 = rv__vfma(u, u, x0);
        y0 = rv__vfma(v, v, y0);
    }
    sums[0] = rv__vsum(rv__vadd(s0, s1));
    sums[1] = rv__vsum(rv__vadd(x0, x1));
    sums[2] = rv__vsum(rv__vadd(y0, y1));
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
        RV__F(parts)(ta, tb, a, b, n, sums);
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

/* The sums of a row on the way: of terms and, for cosines, of squares. Two of each, because an
   addition waits for the one before; with only 16 registers one for cosines. The order of additions
   depends on the length alone, so that a distance does not depend on the place of its row. */
typedef struct {
    rv__v a0, a1, b0, b1;
} RV__F(sums);

RV__ISA RV__INLINE void RV__F(term)(int op, int type, int odd, rv__v q, rv__v v, rv__v factor,
                                    RV__F(sums) *s)
{
    if (op == RV__OP_COSINE && (RV__LANES == 8 || !odd)) {
        s->a0 = rv__vfma(q, v, s->a0);
        s->b0 = rv__vfma(v, v, s->b0);
    } else if (op == RV__OP_COSINE) {
        s->a1 = rv__vfma(q, v, s->a1);
        s->b1 = rv__vfma(v, v, s->b1);
    } else if (!odd) {
        s->a0 = RV__F(step)(op, type, s->a0, q, v, factor);
    } else {
        s->a1 = RV__F(step)(op, type, s->a1, q, v, factor);
    }
}

/* Elements i .. i + 2 LANES - 1 of a query. */
typedef struct {
    rv__v p, q;
} RV__F(asked);

/* For bfloat16 those in even places, then those in odd ones: the first row, or four, to meet the
   query leaves them in `order` for the others. */
RV__ISA RV__INLINE RV__F(asked) RV__F(ask)(int type, int first, const unsigned char *query,
                                           float *order, size_t i)
{
    const int halves = RV__HALVES(type), ready = halves && !first;
    const size_t L = RV__LANES;
    rv__v a = ready ? rv__vload(order + i) : rv__vload(query + 4 * i);
    rv__v b = ready ? rv__vload(order + i + L) : rv__vload(query + 4 * (i + L));
    RV__F(asked) both = {a, b};
    if (halves && first) {
        both.p = rv__veven(a, b);
        both.q = rv__vodd(a, b);
        rv__vstore(order + i, both.p);
        rv__vstore(order + i + L, both.q);
    }
    return both;
}

/* The same elements of a row. */
RV__ISA RV__INLINE void RV__F(terms)(int op, int type, const unsigned char *row,
                                     RV__F(asked) query, rv__v factor, size_t i, RV__F(sums) *s)
{
    const int halves = RV__HALVES(type);
    rv__v u = halves ? RV__F(half_bf16)(0, row + 2 * i) : RV__F(get)(type, row, i);
    rv__v v = halves ? RV__F(half_bf16)(1, row + 2 * i) : RV__F(get)(type, row, i + RV__LANES);
    RV__F(term)(op, type, 0, query.p, u, factor, s);
    RV__F(term)(op, type, 1, query.q, v, factor, s);
}

/* Elements i .. n - 1, fewer than 2 LANES. */
RV__ISA RV__INLINE void RV__F(terms_rest)(int op, int type, const unsigned char *row,
                                          const unsigned char *query, rv__v factor, size_t i,
                                          size_t n, RV__F(sums) *s)
{
    if (i + RV__LANES <= n) {
        rv__v v = RV__F(get)(type, row, i);
        RV__F(term)(op, type, 0, rv__vload(query + 4 * i), v, factor, s);
        i += RV__LANES;
    }
    if (i < n) {
        rv__v q = RV__F(get_tail)(RV__TYPE_F32, query, i, n);
        RV__F(term)(op, type, 1, q, RV__F(get_tail)(type, row, i, n), factor, s);
    }
}

/* Adds up the lanes of four rows at once. */
RV__ISA RV__INLINE void RV__F(fold4)(int op, rv__v a, rv__v b, rv__v c, rv__v d, float *out)
{
    if (op == RV__OP_LINF) {
        out[0] = rv__vmaximum(a);
        out[1] = rv__vmaximum(b);
        out[2] = rv__vmaximum(c);
        out[3] = rv__vmaximum(d);
    } else {
        rv__vsum4(out, a, b, c, d);
    }
}

RV__ISA RV__INLINE float RV__F(finish)(int op, int type, const unsigned char *query,
                                       const unsigned char *row, float scale, size_t n, float qq,
                                       float sum, float squares)
{
    if (op == RV__OP_IP) return sum * -scale;
    if (op != RV__OP_COSINE) return sum;
    return rv__cosine_finish(RV__TYPE_F32, type, query, row, scale, n, sum, qq, squares);
}

/* Rows one after the other, which is how memory is read fastest: the processor fetches ahead of one
   stream of addresses. It stops at the end of a page; to fetch a line in four a page ahead saves up
   to a sixth of the time of long rows, to fetch every line costs more than it saves. */
RV__ISA RV__INLINE float RV__F(row)(int op, int type, int first, const unsigned char *query,
                                    float *order, const unsigned char *row, size_t page, size_t n,
                                    float qq)
{
    const size_t step = 2 * RV__LANES, size = rv__type_bytes(type), whole = n - n % step;
    const float scale = type == RV__TYPE_I8 ? rv__load_f32(row) : 1.0f;
    const rv__v factor = rv__vset(scale), zero = rv__vzero();
    float sum[4], squares[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    RV__F(sums) s = {zero, zero, zero, zero};
    if (type == RV__TYPE_I8) row += 4;
    for (size_t i = 0; i < whole; i += step) {
        if (i * size % (size == 4 ? 128u : 256u) == 0)
            RV__PREFETCH_FAR((const void *)((uintptr_t)row + i * size + page));
        RV__F(terms)(op, type, row, RV__F(ask)(type, first, query, order, i), factor, i, &s);
    }
    if (whole < n) RV__F(terms_rest)(op, type, row, query, factor, whole, n, &s);
    s.a0 = RV__F(join)(op, s.a0, s.a1); /* added up as if there were four: the same bits */
    s.b0 = rv__vadd(s.b0, s.b1);
    RV__F(fold4)(op, s.a0, s.a0, s.a0, s.a0, sum);
    if (op == RV__OP_COSINE) rv__vsum4(squares, s.b0, s.b0, s.b0, s.b0);
    return RV__F(finish)(op, type, query, row, scale, n, qq, sum[0], squares[0]);
}

/* Four rows, a step of each in turn, which shares the loads of the query: for rows that are in a
   cache or on their way there. coming, or NULL: as much memory, to fetch meanwhile. */
RV__ISA RV__INLINE void RV__F(four)(int op, int type, int first, const unsigned char *query,
                                    float *order, const unsigned char *r0, const unsigned char *r1,
                                    const unsigned char *r2, const unsigned char *r3,
                                    const unsigned char *coming, size_t n, float qq, float *out)
{
    const size_t step = 2 * RV__LANES, size = rv__type_bytes(type), whole = n - n % step;
    const size_t head = type == RV__TYPE_I8 ? 4 : 0;
    const float f0 = head ? rv__load_f32(r0) : 1.0f, f1 = head ? rv__load_f32(r1) : 1.0f;
    const float f2 = head ? rv__load_f32(r2) : 1.0f, f3 = head ? rv__load_f32(r3) : 1.0f;
    const rv__v g0 = rv__vset(f0), g1 = rv__vset(f1), g2 = rv__vset(f2), g3 = rv__vset(f3);
    const rv__v zero = rv__vzero();
    float squares[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    RV__F(sums) s0 = {zero, zero, zero, zero}, s1 = s0, s2 = s0, s3 = s0;
    r0 += head;
    r1 += head;
    r2 += head;
    r3 += head;
    for (size_t i = 0; i < whole; i += step) {
        RV__F(asked) asked; /* after the fetches: before, bytes from memory took up to 1.4 times */
        for (size_t j = 0; size == 1 && coming && j < 4 * step * size; j += RV__LINE)
            RV__PREFETCH(coming + 4 * i * size + j);
        asked = RV__F(ask)(type, first, query, order, i);
        RV__F(terms)(op, type, r0, asked, g0, i, &s0);
        RV__F(terms)(op, type, r1, asked, g1, i, &s1);
        RV__F(terms)(op, type, r2, asked, g2, i, &s2);
        RV__F(terms)(op, type, r3, asked, g3, i, &s3);
    }
    if (whole < n) {
        RV__F(terms_rest)(op, type, r0, query, g0, whole, n, &s0);
        RV__F(terms_rest)(op, type, r1, query, g1, whole, n, &s1);
        RV__F(terms_rest)(op, type, r2, query, g2, whole, n, &s2);
        RV__F(terms_rest)(op, type, r3, query, g3, whole, n, &s3);
    }
    RV__F(fold4)(op, RV__F(join)(op, s0.a0, s0.a1), RV__F(join)(op, s1.a0, s1.a1),
                 RV__F(join)(op, s2.a0, s2.a1), RV__F(join)(op, s3.a0, s3.a1), out);
    if (op == RV__OP_COSINE)
        rv__vsum4(squares, rv__vadd(s0.b0, s0.b1), rv__vadd(s1.b0, s1.b1),
                  rv__vadd(s2.b0, s2.b1), rv__vadd(s3.b0, s3.b1));
    out[0] = RV__F(finish)(op, type, query, r0, f0, n, qq, out[0], squares[0]);
    out[1] = RV__F(finish)(op, type, query, r1, f1, n, qq, out[1], squares[1]);
    out[2] = RV__F(finish)(op, type, query, r2, f2, n, qq, out[2], squares[2]);
    out[3] = RV__F(finish)(op, type, query, r3, f3, n, qq, out[3], squares[3]);
}

/* See rv__scan_fn. order: space for a query against bfloat16. */
RV__ISA RV__INLINE void RV__F(scan_as)(int op, int type, const void *query, float *order,
                                       const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t bytes = (type == RV__TYPE_I8 ? 4 : 0) + dim * rv__type_bytes(type);
    const size_t ahead = ids ? rv__rows_ahead(bytes) : 0, page = ids ? 0 : 4096;
    const int large = !ids && n * stride > RV__SCAN_CACHE, halves = RV__HALVES(type);
    /* Bytes take longer to convert than to read. */
    const int narrow = type == RV__TYPE_I8 || type == RV__TYPE_U8;
    const int fetch = narrow && large && stride > 256;
    float qq = 0.0f;
    size_t i = 0, fetched = 0;
    if (op == RV__OP_COSINE)
        qq = RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, q, q, 1.0f, dim);
    for (; (narrow || !large) && i + 4 <= n; i += 4) {
        const unsigned char *r0 = rows + (ids ? ids[i] : i) * stride;
        const unsigned char *r1 = rows + (ids ? ids[i + 1] : i + 1) * stride;
        const unsigned char *r2 = rows + (ids ? ids[i + 2] : i + 2) * stride;
        const unsigned char *r3 = rows + (ids ? ids[i + 3] : i + 3) * stride, *coming = NULL;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++)
                rv__touch(rows + ids[fetched] * stride, bytes);
        }
        if (fetch && (n - i - 4) * stride > 4 * stride + 2048) coming = r3 + stride + 2048;
        if (halves && i == 0)
            RV__F(four)(op, type, 1, q, order, r0, r1, r2, r3, coming, dim, qq, out);
        else RV__F(four)(op, type, 0, q, order, r0, r1, r2, r3, coming, dim, qq, out + i);
    }
    for (; ids && fetched < n; fetched++) rv__touch(rows + ids[fetched] * stride, bytes);
    for (; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        out[i] = halves && i == 0 ? RV__F(row)(op, type, 1, q, order, row, page, dim, qq)
                                  : RV__F(row)(op, type, 0, q, order, row, page, dim, qq);
    }
}

RV__ISA RV__INLINE void RV__F(scan)(int op, int type, const void *query, const unsigned char *rows,
                                    size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                    float *out)
{
    RV__F(scan_as)(op, type, query, NULL, rows, stride, ids, n, dim, out);
}

/* Rows too long for the space go one by one. */
RV__ISA RV__INLINE void RV__F(scan_bf16)(int op, const void *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                         float *out)
{
    float space[RV__SCAN_DIM + 16], *order = space;
    while ((uintptr_t)order % RV__LINE) order++;
    for (size_t i = 0; i < n && dim > RV__SCAN_DIM; i++)
        out[i] = RV__F(one)(op, RV__TYPE_F32, RV__TYPE_BF16, (const unsigned char *)query,
                            rows + (ids ? ids[i] : i) * stride, 1.0f, dim);
    if (dim <= RV__SCAN_DIM)
        RV__F(scan_as)(op, RV__TYPE_BF16, query, order, rows, stride, ids, n, dim, out);
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
    RV__F(scan_bf16)(RV__OP_L2, query, rows, stride, ids, n, dim, out);
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
    RV__F(scan_bf16)(RV__OP_IP, query, rows, stride, ids, n, dim, out);
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
    RV__F(scan_bf16)(RV__OP_COSINE, query, rows, stride, ids, n, dim, out);
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
    RV__F(scan_bf16)(RV__OP_L1, query, rows, stride, ids, n, dim, out);
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
    RV__F(scan_bf16)(RV__OP_LINF, query, rows, stride, ids, n, dim, out);
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
    RV__F(parts)(RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a, (const unsigned char *)b, n,
                 sums);
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
