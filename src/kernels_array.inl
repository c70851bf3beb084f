/* Kernels over arrays: updates, conversions, elementary functions, written once and expanded for
   every instruction set. */

RV__ISA static void RV__F(axpy_f32)(float alpha, const float *x, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vfma(a, rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(
            y + i, rv__vfma(a, rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)), n - i);
    }
}

RV__ISA static void RV__F(scale_f32)(float alpha, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(y + i, rv__vmul(a, rv__vload(y + i)));
    if (i < n) rv__vstore_tail(y + i, rv__vmul(a, rv__vload_tail(y + i, n - i)), n - i);
}

RV__ISA static void RV__F(add_f32)(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vadd(rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(y + i, rv__vadd(rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)),
                        n - i);
    }
}

/* Bits of the largest magnitude; those of NaN and infinity are above those of every number. */
RV__ISA static uint32_t RV__F(peak_f32)(const float *x, size_t n)
{
    rv__v a = rv__vzero(), b = a;
    size_t i = 0;
    for (; i + 2 * RV__LANES <= n; i += 2 * RV__LANES) {
        a = rv__vmaxbits(a, rv__vabs(rv__vload(x + i)));
        b = rv__vmaxbits(b, rv__vabs(rv__vload(x + i + RV__LANES)));
    }
    for (; i + RV__LANES <= n; i += RV__LANES) a = rv__vmaxbits(a, rv__vabs(rv__vload(x + i)));
    if (i < n) b = rv__vmaxbits(b, rv__vabs(rv__vload_tail(x + i, n - i)));
    return (uint32_t)rv__bits_f32(rv__vmaximum(rv__vmaxbits(a, b)));
}

/* Index of the first value below bound from `begin` on, n when there is none. */
RV__ISA static size_t RV__F(find_below)(const float *x, size_t begin, size_t n, float bound)
{
    rv__v b = rv__vset(bound);
    size_t i = begin;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        uint32_t mask = rv__vmask(rv__vless(rv__vload(x + i), b));
        if (mask) return i + rv__pop64((mask & (0u - mask)) - 1u);
    }
    while (i < n && !rv__below(rv__load_f32(x + i), bound)) i++;
    return i;
}

/* ---- conversion ---- */

RV__ISA static void RV__F(widen_f16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_f16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__f16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_bf16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_bf16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__bf16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_i8)(const int8_t *src, float scale, float *dst, size_t n)
{
    rv__v s = rv__vset(scale);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES)
        rv__vstore(dst + i, rv__vmul(s, rv__vload_i8(src + i)));
    for (; i < n; i++) rv__store_f32(dst + i, (float)src[i] * scale);
}

RV__ISA static void RV__F(narrow_f16)(const float *src, uint16_t *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore_f16(dst + i, rv__vload(src + i));
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_f16(rv__load_f32(src + i)));
}

/* Round to nearest even on the integer pattern; a NaN keeps its sign and leading payload. */
RV__ISA static void RV__F(narrow_bf16)(const float *src, uint16_t *dst, size_t n)
{
    const rv__vi half = rv__iset(0x7FFF), one = rv__iset(1), magnitude = rv__iset(0x7FFFFFFF);
    const rv__vi infinity = rv__iset(0x7F800000), quiet = rv__iset(0x00400000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vi x = rv__vbits(rv__vload(src + i)), top = rv__isar(x, 16);
        rv__vi round = rv__iadd(x, rv__iadd(half, rv__iand(top, one)));
        rv__vi bits = rv__vbits(rv__vpick(rv__igreater(rv__iand(x, magnitude), infinity),
                                          rv__vfrom(rv__ior(x, quiet)), rv__vfrom(round)));
        rv__istore_top16(dst + i, bits);
    }
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_bf16(rv__load_f32(src + i)));
}

RV__ISA static void RV__F(narrow_i8)(const float *src, float scale, int8_t *dst, size_t n)
{
    const rv__v s = rv__vset(scale), top = rv__vset(127.0f), bottom = rv__vset(-127.0f);
    const rv__vi magnitude = rv__iset(0x7FFFFFFF), infinity = rv__iset(0x7F800000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__v x = rv__vmul(rv__vload(src + i), s);
        x = rv__vpick(rv__igreater(rv__iand(rv__vbits(x), magnitude), infinity), rv__vzero(), x);
        rv__istore_i8(dst + i, rv__vround(rv__vmax(rv__vmin(x, top), bottom)));
    }
    for (; i < n; i++) dst[i] = rv__f32_i8(rv__load_f32(src + i) * scale);
}

/* ---- elementary functions ---- */

/* Keeps -ffast-math from merging what stands on either side. */
RV__ISA RV__INLINE rv__v RV__F(keep)(rv__v x)
{
#if defined(__FAST_MATH__) && defined(__GNUC__)
    __asm__("" : "+m"(x));
#endif
    return x;
}

/* 2^n for n in -126 .. 127. */
RV__ISA RV__INLINE rv__v RV__F(pow2)(rv__vi n)
{
    return rv__vfrom(rv__ishl(rv__iadd(n, rv__iset(127)), 23));
}

/* a where x is not NaN, else x itself. Looks at bits: comparisons vanish under -ffast-math. */
RV__ISA RV__INLINE rv__v RV__F(unless_nan)(rv__v x, rv__v a)
{
    rv__vi magnitude = rv__iand(rv__vbits(x), rv__iset(0x7FFFFFFF));
    return rv__vpick(rv__igreater(magnitude, rv__iset(0x7F800000)), x, a);
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 P(r), P minimax for the relative error;
   2^n in two factors, so that results below the normal range come out too. */
RV__ISA RV__INLINE rv__v RV__F(v_exp)(rv__v x)
{
    rv__v within = rv__vmin(rv__vmax(x, rv__vset(-104.0f)), rv__vset(89.0f));
    rv__vi n = rv__vround(rv__vmul(within, rv__vset(1.44269504f))), n0 = rv__isar(n, 1);
    rv__v f = rv__vfloat(n), r, p;
    r = rv__vfma(f, rv__vset(-0.693359375f), within); /* exact: few bits */
    r = rv__vfma(f, rv__vset(2.12194440e-4f), RV__F(keep)(r));
    p = rv__vset(0.000197402478f);
    p = rv__vfma(p, r, rv__vset(0.00139350793f));
    p = rv__vfma(p, r, rv__vset(0.00833357032f));
    p = rv__vfma(p, r, rv__vset(0.041666463f));
    p = rv__vfma(p, r, rv__vset(0.166666657f));
    p = rv__vfma(p, r, rv__vset(0.5f));
    p = rv__vadd(rv__vfma(rv__vmul(r, r), p, r), rv__vset(1.0f));
    p = rv__vmul(RV__F(keep)(rv__vmul(p, RV__F(pow2)(n0))), RV__F(pow2)(rv__isub(n, n0)));
    return RV__F(unless_nan)(x, p);
}

/* x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2 / 2 + f^3 P(f). */
RV__ISA RV__INLINE rv__v RV__F(v_log)(rv__v x)
{
    const rv__vi low = rv__iset(0x3F3504F3); /* sqrt(1/2) */
    rv__vi bits = rv__vbits(x), magnitude = rv__iand(bits, rv__iset(0x7FFFFFFF)), e;
    rv__v up = rv__vmul(x, rv__vset(8388608.0f)), f, p, g, ff, nan;
    rv__vi scaled = rv__vbits(rv__vpick(rv__igreater(rv__iset(0x00800000), bits), up, x));
    e = rv__isar(rv__isub(scaled, low), 23);
    f = rv__vfrom(rv__iadd(rv__iand(rv__isub(scaled, low), rv__iset(0x007FFFFF)), low));
    f = rv__vsub(f, rv__vset(1.0f));
    g = rv__vfloat(e);
    g = rv__vpick(rv__igreater(rv__iset(0x00800000), bits), rv__vsub(g, rv__vset(23.0f)), g);
    p = rv__vset(0.0674919188f);
    p = rv__vfma(p, f, rv__vset(-0.116700254f));
    p = rv__vfma(p, f, rv__vset(0.118835375f));
    p = rv__vfma(p, f, rv__vset(-0.124062397f));
    p = rv__vfma(p, f, rv__vset(0.142203599f));
    p = rv__vfma(p, f, rv__vset(-0.166679889f));
    p = rv__vfma(p, f, rv__vset(0.200020716f));
    p = rv__vfma(p, f, rv__vset(-0.250000089f));
    p = rv__vfma(p, f, rv__vset(0.333333135f));
    ff = rv__vmul(f, f);
    p = rv__vmul(rv__vmul(ff, f), p);
    p = rv__vfma(g, rv__vset(-2.12194440e-4f), p);
    p = rv__vfma(ff, rv__vset(-0.5f), p);
    p = rv__vfma(g, rv__vset(0.693359375f), RV__F(keep)(rv__vadd(f, p)));
    nan = rv__vfrom(rv__iset(0x7FC00000));
    p = rv__vpick(rv__igreater(rv__iset(0), bits), nan, p);
    p = rv__vpick(rv__igreater(rv__iset(1), magnitude), rv__vfrom(rv__iset((int32_t)0xFF800000u)),
                  p);
    p = rv__vpick(rv__igreater(bits, rv__iset(0x7F7FFFFF)), x, p);
    return RV__F(unless_nan)(x, p);
}

RV__ISA RV__INLINE rv__v RV__F(with_sign)(rv__v magnitude, rv__v x)
{
    return rv__vfrom(
        rv__ior(rv__vbits(magnitude), rv__iand(rv__vbits(x), rv__iset((int32_t)0x80000000u))));
}

/* x + x^3 P(x^2) below 0.625, else 1 - 2 / (exp(2 |x|) + 1). */
RV__ISA RV__INLINE rv__v RV__F(v_tanh)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, large;
    p = rv__vset(-0.0056922962f);
    p = rv__vfma(p, z, rv__vset(0.0206281673f));
    p = rv__vfma(p, z, rv__vset(-0.0537365153f));
    p = rv__vfma(p, z, rv__vset(0.133314058f));
    p = rv__vfma(p, z, rv__vset(-0.333332807f));
    p = rv__vfma(rv__vmul(p, z), x, x);
    large = rv__vmin(t, rv__vset(10.0f)); /* tanh is 1 from 9.02 on */
    large = rv__vadd(RV__F(v_exp)(rv__vadd(large, large)), rv__vset(1.0f));
    large = RV__F(with_sign)(rv__vsub(rv__vset(1.0f), rv__vdiv(rv__vset(2.0f), large)), x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.625f)), p, large));
}

/* With e = exp(-|x|): 1 / (1 + e) or, for negative x, e / (1 + e), small results included. */
RV__ISA RV__INLINE rv__v RV__F(v_sigmoid)(rv__v x)
{
    rv__v one = rv__vset(1.0f), e = RV__F(v_exp)(rv__vsub(rv__vzero(), rv__vabs(x)));
    rv__v top = rv__vpick(rv__vless(x, rv__vzero()), e, one);
    return RV__F(unless_nan)(x, rv__vdiv(top, rv__vadd(one, e)));
}

/* x + x P(x^2) below 0.92, else 1 - exp(Q(|x|)) with Q the minimax polynomial of log erfc. */
RV__ISA RV__INLINE rv__v RV__F(v_erf)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, q, capped = rv__vmin(t, rv__vset(4.0f));
    p = rv__vset(-0.000600380125f);
    p = rv__vfma(p, z, rv__vset(0.00499585364f));
    p = rv__vfma(p, z, rv__vset(-0.0267685801f));
    p = rv__vfma(p, z, rv__vset(0.11281877f));
    p = rv__vfma(p, z, rv__vset(-0.376125008f));
    p = rv__vfma(p, z, rv__vset(0.128379151f));
    p = rv__vfma(p, x, x);
    q = rv__vset(-1.12319112e-05f);
    q = rv__vfma(q, capped, rv__vset(0.000322812703f));
    q = rv__vfma(q, capped, rv__vset(-0.00364250597f));
    q = rv__vfma(q, capped, rv__vset(0.0237621833f));
    q = rv__vfma(q, capped, rv__vset(-0.106237039f));
    q = rv__vfma(q, capped, rv__vset(-0.635151207f));
    q = rv__vfma(q, capped, rv__vset(-1.12864852f));
    q = rv__vsub(rv__vset(1.0f), RV__F(v_exp)(rv__vmul(q, capped)));
    q = RV__F(with_sign)(q, x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.92f)), p, q));
}

RV__ISA RV__INLINE rv__v RV__F(elementary)(int function, rv__v x)
{
    switch (function) {
    case RV__FUN_EXP: return RV__F(v_exp)(x);
    case RV__FUN_LOG: return RV__F(v_log)(x);
    case RV__FUN_TANH: return RV__F(v_tanh)(x);
    case RV__FUN_SIGMOID: return RV__F(v_sigmoid)(x);
    default: return RV__F(v_erf)(x);
    }
}

RV__ISA RV__INLINE void RV__F(map)(int function, const float *x, float *out, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(out + i, RV__F(elementary)(function, rv__vload(x + i)));
    }
    if (i < n) {
        rv__v tail = RV__F(elementary)(function, rv__vload_tail(x + i, n - i));
        rv__vstore_tail(out + i, tail, n - i);
    }
}

RV__ISA static void RV__F(exp_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_EXP, x, out, n);
}

RV__ISA static void RV__F(log_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_LOG, x, out, n);
}

RV__ISA static void RV__F(tanh_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_TANH, x, out, n);
}

RV__ISA static void RV__F(sigmoid_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_SIGMOID, x, out, n);
}

RV__ISA static void RV__F(erf_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_ERF, x, out, n);
}

/* The largest scale * x[i]; *nan tells whether any of them is NaN. n > 0. */
RV__ISA static float RV__F(max_f32)(const float *x, float scale, size_t n, int *nan)
{
    const rv__v s = rv__vset(scale);
    rv__v top = rv__vset(rv__from_bits_f32((int32_t)0xFF800000u)), seen = rv__vzero(), y;
    float lanes[RV__LANES], best;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = rv__vmul(s, rv__vload(x + i));
        seen = rv__vmaxbits(seen, rv__vabs(y));
        top = rv__vmax(y, top);
    }
    rv__vstore(lanes, top);
    best = lanes[0];
    for (size_t j = 1; j < RV__LANES; j++) best = lanes[j] > best ? lanes[j] : best;
    *nan = rv__is_nan(rv__vmaximum(seen));
    for (; i < n; i++) {
        float last = scale * rv__load_f32(x + i);
        *nan |= rv__is_nan(last);
        best = last > best ? last : best;
    }
    return best;
}

/* out[i] = exp(scale * x[i] - top); returns their sum. */
RV__ISA static float RV__F(exp_sum_f32)(const float *x, float scale, float top, float *out,
                                        size_t n)
{
    const rv__v s = rv__vset(scale), t = rv__vset(top);
    rv__v sum = rv__vzero(), y;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload(x + i))), t));
        rv__vstore(out + i, y);
        sum = rv__vadd(sum, y);
    }
    if (i < n) {
        float last[RV__LANES];
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload_tail(x + i, n - i))), t));
        rv__vstore_tail(out + i, y, n - i);
        for (size_t j = 0; j < RV__LANES; j++)
            last[j] = i + j < n ? rv__load_f32(out + i + j) : 0.0f;
        sum = rv__vadd(sum, rv__vload(last));
    }
    return rv__vsum(sum);
}
