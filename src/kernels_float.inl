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

/* Elements i .. i + 2 LANES - 1: of bfloat16 those in even places, then those in odd ones, which is
   how RV__F(scan_bf16) orders the query. */
RV__ISA RV__INLINE void RV__F(terms)(int op, int type, const unsigned char *row,
                                     const unsigned char *query, rv__v factor, size_t i,
                                     RV__F(sums) *s)
{
    const size_t L = RV__LANES;
    const int halves = L > 1 && type == RV__TYPE_BF16;
    rv__v p = rv__vload(query + 4 * i), q = rv__vload(query + 4 * (i + L));
    rv__v u = halves ? RV__F(half_bf16)(0, row + 2 * i) : RV__F(get)(type, row, i);
    rv__v v = halves ? RV__F(half_bf16)(1, row + 2 * i) : RV__F(get)(type, row, i + L);
    RV__F(term)(op, type, 0, p, u, factor, s);
    RV__F(term)(op, type, 1, q, v, factor, s);
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

/* Elements 0 .. n - 1, n a multiple of 2 LANES. The processor fetches ahead of one stream of
   addresses, but stops at the end of a page: fetching a line in four a page ahead saves up to
   a sixth of the time of rows from memory; fetching every line costs more than it saves. */
RV__ISA RV__INLINE void RV__F(terms_row)(int op, int type, const unsigned char *row,
                                         const unsigned char *query, size_t page, rv__v factor,
                                         size_t n, RV__F(sums) *s)
{
    const size_t step = 2 * RV__LANES, size = rv__type_bytes(type);
    for (size_t i = 0; i < n; i += step) {
        if (i * size % (size == 4 ? 128u : 256u) == 0)
            RV__PREFETCH_FAR((const void *)((uintptr_t)row + i * size + page));
        RV__F(terms)(op, type, row, query, factor, i, s);
    }
}

/* The four distances from their sums. rows: behind the scales. */
RV__ISA RV__INLINE void RV__F(four_finish)(int op, int type, const unsigned char *query,
                                           const unsigned char *const *rows, const float *scale,
                                           size_t n, float qq, const RV__F(sums) *s, float *out)
{
    rv__v x0 = RV__F(join)(op, s[0].a0, s[0].a1), x1 = RV__F(join)(op, s[1].a0, s[1].a1);
    rv__v x2 = RV__F(join)(op, s[2].a0, s[2].a1), x3 = RV__F(join)(op, s[3].a0, s[3].a1);
    if (op == RV__OP_LINF) {
        out[0] = rv__vmaximum(x0);
        out[1] = rv__vmaximum(x1);
        out[2] = rv__vmaximum(x2);
        out[3] = rv__vmaximum(x3);
        return;
    }
    rv__vsum4(out, x0, x1, x2, x3);
    if (op == RV__OP_IP) {
        out[0] *= -scale[0];
        out[1] *= -scale[1];
        out[2] *= -scale[2];
        out[3] *= -scale[3];
    }
    if (op == RV__OP_COSINE) {
        float rr[4];
        rv__vsum4(rr, rv__vadd(s[0].b0, s[0].b1), rv__vadd(s[1].b0, s[1].b1),
                  rv__vadd(s[2].b0, s[2].b1), rv__vadd(s[3].b0, s[3].b1));
        for (size_t k = 0; k < 4; k++)
            out[k] = rv__cosine_finish(RV__TYPE_F32, type, query, rows[k], scale[k], n, out[k], qq,
                                       rr[k]);
    }
}

/* One to four rows against one query, in one of two orders. mixed: a step of every row in turn,
   which shares the loads of the query, for rows that are in a cache or on their way there. Else row
   after row, which reads memory fastest. coming, or NULL: as much memory, to fetch on the way.
   plain: the query before it was ordered. */
RV__ISA RV__INLINE void RV__F(four)(int op, int type, int mixed, const unsigned char *query,
                                    const unsigned char *plain, const unsigned char **rows,
                                    size_t count, const unsigned char *coming, size_t page,
                                    size_t n, float qq, float *out)
{
    const size_t step = 2 * RV__LANES, size = rv__type_bytes(type), whole = n - n % step;
    float f[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    const rv__v zero = rv__vzero();
    rv__v g[4] = {zero, zero, zero, zero};
    RV__F(sums) s[4] = {{zero, zero, zero, zero}, {zero, zero, zero, zero},
                        {zero, zero, zero, zero}, {zero, zero, zero, zero}};
    if (type == RV__TYPE_I8) {
        f[0] = rv__load_f32(rows[0]);
        f[1] = rv__load_f32(rows[1]);
        f[2] = rv__load_f32(rows[2]);
        f[3] = rv__load_f32(rows[3]);
        g[0] = rv__vset(f[0]);
        g[1] = rv__vset(f[1]);
        g[2] = rv__vset(f[2]);
        g[3] = rv__vset(f[3]);
        rows[0] += 4;
        rows[1] += 4;
        rows[2] += 4;
        rows[3] += 4;
    }
    if (mixed && count > 2) {
        for (size_t i = 0; i < whole; i += step) {
            for (size_t j = 0; size == 1 && coming && j < 4 * step * size; j += RV__LINE)
                RV__PREFETCH(coming + 4 * i * size + j);
            RV__F(terms)(op, type, rows[0], query, g[0], i, &s[0]);
            RV__F(terms)(op, type, rows[1], query, g[1], i, &s[1]);
            RV__F(terms)(op, type, rows[2], query, g[2], i, &s[2]);
            RV__F(terms)(op, type, rows[3], query, g[3], i, &s[3]);
        }
    } else {
        RV__F(terms_row)(op, type, rows[0], query, page, g[0], whole, &s[0]);
        if (count > 1) RV__F(terms_row)(op, type, rows[1], query, page, g[1], whole, &s[1]);
        if (count > 2) RV__F(terms_row)(op, type, rows[2], query, page, g[2], whole, &s[2]);
        if (count > 3) RV__F(terms_row)(op, type, rows[3], query, page, g[3], whole, &s[3]);
        if (count < 2) s[1] = s[0];
        if (count < 3) s[2] = s[0];
        if (count < 4) s[3] = s[0];
    }
    if (whole < n) {
        RV__F(terms_rest)(op, type, rows[0], query, g[0], whole, n, &s[0]);
        RV__F(terms_rest)(op, type, rows[1], query, g[1], whole, n, &s[1]);
        RV__F(terms_rest)(op, type, rows[2], query, g[2], whole, n, &s[2]);
        RV__F(terms_rest)(op, type, rows[3], query, g[3], whole, n, &s[3]);
    }
    RV__F(four_finish)(op, type, plain, rows, f, n, qq, s, out);
}

/* See rv__scan_fn. */
RV__ISA RV__INLINE void RV__F(scan_as)(int op, int type, const void *query, const void *order,
                                       const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const unsigned char *plain = (const unsigned char *)query, *q = (const unsigned char *)order;
    const size_t bytes = (type == RV__TYPE_I8 ? 4 : 0) + dim * rv__type_bytes(type);
    const size_t ahead = ids ? rv__rows_ahead(bytes) : 0;
    /* Of short rows of floats the processor keeps up by itself, and is slower when helped. */
    const size_t page = ids || (type == RV__TYPE_F32 && stride <= 512) ? 0 : 4096;
    /* Bytes take longer to convert than to read. */
    const int narrow = type == RV__TYPE_I8 || type == RV__TYPE_U8;
    const int mixed = narrow || ids || n * stride <= RV__SCAN_CACHE;
    const int fetch = narrow && !ids && stride > 256 && n * stride > RV__SCAN_CACHE;
    float qq = 0.0f, last[4];
    size_t fetched = 0;
    if (op == RV__OP_COSINE) {
        qq = RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, plain, plain, 1.0f, dim);
    }
    for (size_t i = 0; i < n; i += 4) {
        const size_t count = n - i < 4 ? n - i : 4;
        const size_t i1 = count > 1 ? i + 1 : i, i2 = count > 2 ? i + 2 : i;
        const size_t i3 = count > 3 ? i + 3 : i;
        const unsigned char *r[4], *coming = NULL;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++)
                rv__touch(rows + ids[fetched] * stride, bytes);
        }
        r[0] = rows + (ids ? ids[i] : i) * stride;
        r[1] = rows + (ids ? ids[i1] : i1) * stride;
        r[2] = rows + (ids ? ids[i2] : i2) * stride;
        r[3] = rows + (ids ? ids[i3] : i3) * stride;
        if (fetch && n - i > 8 && (n - i - 8) * stride > 2048) coming = r[0] + 4 * stride + 2048;
        RV__F(four)(op, type, mixed, q, plain, r, count, coming, page, dim, qq,
                    count < 4 ? last : out + i);
        if (count < 4) memcpy(out + i, last, count * sizeof(float));
    }
}

RV__ISA RV__INLINE void RV__F(scan)(int op, int type, const void *query, const unsigned char *rows,
                                    size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                    float *out)
{
    RV__F(scan_as)(op, type, query, query, rows, stride, ids, n, dim, out);
}

/* Orders the query for the rows: of each 2 LANES elements those in even places first. Rows too long
   for that go one by one. */
RV__ISA RV__INLINE void RV__F(scan_bf16)(int op, const void *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                         float *out)
{
    const unsigned char *p = (const unsigned char *)query;
    const size_t L = RV__LANES, whole = dim - dim % (2 * L);
    float space[RV__SCAN_DIM + 16], *q = space;
    while ((uintptr_t)q % RV__LINE) q++;
    for (size_t i = 0; i < n && dim > RV__SCAN_DIM; i++)
        out[i] = RV__F(one)(op, RV__TYPE_F32, RV__TYPE_BF16, p, rows + (ids ? ids[i] : i) * stride,
                            1.0f, dim);
    if (dim > RV__SCAN_DIM) return;
    for (size_t i = 0; i < whole && L > 1; i += 2 * L) {
        rv__v a = rv__vload(p + 4 * i), b = rv__vload(p + 4 * (i + L));
        rv__vstore(q + i, rv__veven(a, b));
        rv__vstore(q + i + L, rv__vodd(a, b));
    }
    memcpy(q + whole, p + 4 * whole, (dim - whole) * sizeof(float));
    RV__F(scan_as)(op, RV__TYPE_BF16, query, L > 1 ? (const void *)q : query, rows, stride, ids, n,
                   dim, out);
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
