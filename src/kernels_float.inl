/* Kernels over floating point rows, written once and expanded for every instruction set. op and
   type are constants at every call, so that of each switch one branch survives. */

/* Elements i .. i + LANES - 1 of a row as floats. */
RV__ISA RV__INLINE rv__v RV__F(get)(int type, const unsigned char *p, size_t i)
{
    switch (type) {
    case RV__TYPE_F16: return rv__vload_f16(p + 2 * i);
    case RV__TYPE_BF16: return rv__vload_bf16(p + 2 * i);
    case RV__TYPE_I8: return rv__vload_i8(p + i);
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
    default: return rv__vload_tail(p + 4 * i, n - i);
    }
#else
    const size_t size = type == RV__TYPE_F32 ? 4 : type == RV__TYPE_I8 ? 1 : 2;
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

/* a and b of types ta and tb; for I8, scale is that of b. aa: squared length of a if known (cosine
   of a query against rows), negative if not. */
RV__ISA RV__INLINE float RV__F(one)(int op, int ta, int tb, const unsigned char *a,
                                    const unsigned char *b, float scale, size_t n, float aa)
{
    const size_t L = RV__LANES;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, x0 = s0, x1 = s0, y0 = s0, y1 = s0;
    rv__v u, v, factor = rv__vset(scale);
    float sum;
    size_t i = 0;
    if (op == RV__OP_COSINE) {
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
    } else {
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
    }
    for (; i < n; i += L) {
        if (i + L <= n) {
            u = RV__F(get)(ta, a, i);
            v = RV__F(get)(tb, b, i);
        } else {
            u = RV__F(get_tail)(ta, a, i, n);
            v = RV__F(get_tail)(tb, b, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(u, v, s0);
            x0 = rv__vfma(u, u, x0);
            y0 = rv__vfma(v, v, y0);
        } else {
            s0 = RV__F(step)(op, tb, s0, u, v, factor);
        }
    }
    sum = RV__F(fold)(op, RV__F(join)(op, RV__F(join)(op, s0, s1), RV__F(join)(op, s2, s3)));
    if (op != RV__OP_COSINE) {
        if (op != RV__OP_IP) return sum;
        return tb == RV__TYPE_I8 ? -sum * scale : -sum;
    }
    if (aa < 0.0f) aa = rv__vsum(rv__vadd(x0, x1));
    return rv__cosine_finish(ta, tb, a, b, scale, n, sum, aa, rv__vsum(rv__vadd(y0, y1)));
}

/* Four rows against one query. The loads of the query are shared, and four rows of memory are on
   their way at once. */
RV__ISA RV__INLINE void RV__F(four)(int op, int type, const unsigned char *query,
                                    const unsigned char *const *rows, size_t n, float qq,
                                    float *out)
{
    const size_t L = RV__LANES, head = type == RV__TYPE_I8 ? 4 : 0;
    const unsigned char *r0 = rows[0] + head, *r1 = rows[1] + head;
    const unsigned char *r2 = rows[2] + head, *r3 = rows[3] + head;
    float f0 = 1.0f, f1 = 1.0f, f2 = 1.0f, f3 = 1.0f;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    rv__v g0 = s0, g1 = s0, g2 = s0, g3 = s0, q, v0, v1, v2, v3;
    size_t i = 0;
    if (type == RV__TYPE_I8) {
        memcpy(&f0, rows[0], 4);
        memcpy(&f1, rows[1], 4);
        memcpy(&f2, rows[2], 4);
        memcpy(&f3, rows[3], 4);
        g0 = rv__vset(f0);
        g1 = rv__vset(f1);
        g2 = rv__vset(f2);
        g3 = rv__vset(f3);
    }
    for (; i < n; i += L) {
        if (i + L <= n) {
            q = RV__F(get)(RV__TYPE_F32, query, i);
            v0 = RV__F(get)(type, r0, i);
            v1 = RV__F(get)(type, r1, i);
            v2 = RV__F(get)(type, r2, i);
            v3 = RV__F(get)(type, r3, i);
        } else {
            q = RV__F(get_tail)(RV__TYPE_F32, query, i, n);
            v0 = RV__F(get_tail)(type, r0, i, n);
            v1 = RV__F(get_tail)(type, r1, i, n);
            v2 = RV__F(get_tail)(type, r2, i, n);
            v3 = RV__F(get_tail)(type, r3, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(q, v0, s0);
            t0 = rv__vfma(v0, v0, t0);
            s1 = rv__vfma(q, v1, s1);
            t1 = rv__vfma(v1, v1, t1);
            s2 = rv__vfma(q, v2, s2);
            t2 = rv__vfma(v2, v2, t2);
            s3 = rv__vfma(q, v3, s3);
            t3 = rv__vfma(v3, v3, t3);
            continue;
        }
        s0 = RV__F(step)(op, type, s0, q, v0, g0);
        s1 = RV__F(step)(op, type, s1, q, v1, g1);
        s2 = RV__F(step)(op, type, s2, q, v2, g2);
        s3 = RV__F(step)(op, type, s3, q, v3, g3);
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

/* See rv__scan_fn. Rows in order are fetched two ahead, of long ones only the beginning: the
   processor notices the rest itself. */
RV__ISA RV__INLINE void RV__F(scan)(int op, int type, const void *query, const unsigned char *rows,
                                    size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                    float *out)
{
    const unsigned char *q = (const unsigned char *)query, *four[4];
    const size_t bytes = type == RV__TYPE_F32 ? 4 * dim : type == RV__TYPE_I8 ? dim + 4 : 2 * dim;
    const size_t ahead = ids ? rv__rows_ahead(bytes) : 2;
    const size_t part = ids || bytes <= 1600 ? bytes : 512;
    float scale = 1.0f, qq = 0.0f;
    size_t i = 0, fetched = 0;
    if (op == RV__OP_COSINE) {
        qq = RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, q, q, 1.0f, dim, 0.0f);
    }
    for (; i + 4 <= n; i += 4) {
        for (size_t j = 0; j < 4; j++) four[j] = rows + (ids ? ids[i + j] : i + j) * stride;
        for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
            rv__touch(rows + (ids ? ids[fetched] : fetched) * stride, part);
        }
        RV__F(four)(op, type, q, four, dim, qq, out + i);
    }
    for (; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (type == RV__TYPE_I8) memcpy(&scale, row, 4);
        out[i] = RV__F(one)(op, RV__TYPE_F32, type, q, row + (type == RV__TYPE_I8 ? 4 : 0), scale,
                            dim, qq);
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

RV__ISA static void RV__F(scan_dot_f32)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_DOT, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static float RV__F(pair_l2_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}
