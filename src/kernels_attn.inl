/* Attention over tiles: up to six queries and RV__ATTN_KEYS keys whose logits stay in the
   first-level cache. A tile of dot products, the running softmax in powers of two, a tile of
   weighted sums; the softmax costs a seventeenth of the products at 64 dimensions. */

#define RV__COLS (RV__TILE * RV__LANES)

/* 2^x for x <= 64, 0 below -126; NaN gives NaN. x = n + f, |f| <= 1/2, 2^f a polynomial of degree
   five, minimax for the relative error (1.5e-7, as 2^0 is kept at 1). */
RV__ISA RV__INLINE rv__v RV__F(v_exp2)(rv__v x)
{
    const rv__v least = rv__vset(-126.0f);
#if defined(rv__vscale)
    rv__v low = rv__vmax(least, x), n = rv__vfloat(rv__vround(low)), f = rv__vsub(low, n);
    rv__v p = rv__vset(1.3276473e-3f);
#else
    rv__v low = rv__vpick(rv__vless(x, least), least, x);
    rv__vi n = rv__vround(rv__vmax(x, least)); /* of NaN: of least, or 0 */
    rv__v f = rv__vsub(low, rv__vfloat(n)), p = rv__vset(1.3276473e-3f);
#endif
    p = rv__vfma(p, f, rv__vset(9.6755413e-3f));
    p = rv__vfma(p, f, rv__vset(5.5507133e-2f));
    p = rv__vfma(p, f, rv__vset(2.4022120e-1f));
    p = rv__vfma(p, f, rv__vset(6.9314697e-1f));
    p = rv__vfma(p, f, rv__vset(1.0f));
#if defined(rv__vscale)
    return rv__vpick(rv__vless(x, least), rv__vzero(), rv__vscale(p, n));
#else
    p = rv__vmul(p, rv__vfrom(rv__ishl(rv__iadd(n, rv__iset(127)), 23)));
    return rv__vpick(rv__vless(x, least), rv__vzero(), p);
#endif
}

/* Panels of n keys, n <= RV__ATTN_KEYS, others zero: [RV__ATTN_KEYS / cols][dim][cols]. */
RV__ISA static void RV__F(attn_pack)(const float *keys, size_t ld, size_t n, size_t dim,
                                     float *packed)
{
    for (size_t j = 0; j < RV__ATTN_KEYS; j += RV__COLS, packed += dim * RV__COLS) {
        const size_t left = j < n ? n - j : 0;
        if (left == 0) memset(packed, 0, dim * RV__COLS * sizeof(float));
        else RV__F(pack_f32)(keys + j * ld, ld, left < RV__COLS ? left : RV__COLS, dim, packed);
    }
}

/* s[n][RV__ATTN_KEYS] = queries times packed keys, n <= 6. */
RV__ISA static void RV__F(attn_logits)(const float *q, size_t ld, size_t n, const float *packed,
                                       size_t dim, float *s)
{
    for (size_t j = 0; j < RV__ATTN_KEYS; j += RV__COLS, packed += dim * RV__COLS)
        RV__F(tile_f32)(q, ld, n, packed, RV__COLS, dim, 0, s + j, RV__ATTN_KEYS);
}

/* Scales what a row summed under another top. */
RV__ISA static void RV__F(attn_raise)(const float *logits, float *top, float *sum, float *out,
                                      size_t width)
{
    float high = logits[0], down;
    for (size_t j = 1; j < RV__LANES; j++) high = logits[j] > high ? logits[j] : high;
    down = rv__exp2_f32(*top - high);
    for (size_t j = 0; j < 16; j++) sum[j] *= down;
    for (size_t j = 0; j < width; j++) out[j] *= down;
    *top = high;
}

/* Turns logits to base 2 into weights 2^(s - top) and adds them up lane by lane. top is raised, and
   what was summed before is scaled down, only when a logit lies more than slack above it: weights
   stay below 2^slack, and most tiles need no largest value. -infinity, also as top, weighs nothing.
   top: [n], sum: [n][16], out: [n][ld], width floats of them in use. */
RV__ISA static void RV__F(attn_soften)(float *s, size_t n, float slack, float *top, float *sum,
                                       float *out, size_t ld, size_t width)
{
    const size_t L = RV__LANES;
    for (size_t i = 0; i < n; i++, s += RV__ATTN_KEYS, sum += 16, out += ld) {
        const rv__v bound = rv__vset(top[i] + slack);
        rv__v most = rv__vload(s), base, total;
        for (size_t j = L; j < RV__ATTN_KEYS; j += L) most = rv__vmax(rv__vload(s + j), most);
        if (rv__vmask(rv__vless(bound, most))) {
            float lanes[RV__LANES];
            rv__vstore(lanes, most);
            RV__F(attn_raise)(lanes, top + i, sum, out, width);
        }
        base = rv__vset(top[i] < -3.4e38f ? 0.0f : top[i]);
        total = rv__vload(sum);
        for (size_t j = 0; j < RV__ATTN_KEYS; j += L) {
            rv__v w = RV__F(v_exp2)(rv__vsub(rv__vload(s + j), base));
            rv__vstore(s + j, w);
            total = rv__vadd(total, w);
        }
        rv__vstore(sum, total);
    }
}

#if RV__TILE == 4
/* A row of 64 logits in registers. */
RV__ISA RV__INLINE void RV__F(attn_row)(const RV__F(strip) * c, float slack, float *s, float *top,
                                        float *sum, float *out, size_t width)
{
    const size_t L = RV__LANES;
    const rv__v bound = rv__vset(*top + slack);
    const rv__v most = rv__vmax(rv__vmax(c->a, c->b), rv__vmax(c->c, c->d));
    rv__v base, x, y, z, w;
    if (rv__vmask(rv__vless(bound, most))) {
        float lanes[RV__LANES];
        rv__vstore(lanes, most);
        RV__F(attn_raise)(lanes, top, sum, out, width);
    }
    base = rv__vset(*top < -3.4e38f ? 0.0f : *top);
    x = RV__F(v_exp2)(rv__vsub(c->a, base));
    y = RV__F(v_exp2)(rv__vsub(c->b, base));
    z = RV__F(v_exp2)(rv__vsub(c->c, base));
    w = RV__F(v_exp2)(rv__vsub(c->d, base));
    rv__vstore(s, x);
    rv__vstore(s + L, y);
    rv__vstore(s + 2 * L, z);
    rv__vstore(s + 3 * L, w);
    x = rv__vadd(rv__vadd(rv__vload(sum), x), y);
    rv__vstore(sum, rv__vadd(rv__vadd(x, z), w));
}
#endif

/* Both in one, for logits that are nothing but scaled; in registers where they hold a tile. */
RV__ISA static void RV__F(attn_weigh)(const float *q, size_t ld, size_t n, const float *packed,
                                      size_t dim, float slack, float *s, float *top, float *sum,
                                      float *out, size_t width)
{
#if RV__TILE == 4
    if (RV__COLS == RV__ATTN_KEYS && n == 6) {
        const float *q1 = q + ld, *q2 = q1 + ld, *q3 = q2 + ld, *q4 = q3 + ld, *q5 = q4 + ld;
        RV__F(strip) b, c0, c1, c2, c3, c4, c5;
        b.a = b.b = b.c = b.d = rv__vzero();
        c0 = c1 = c2 = c3 = c4 = c5 = b;
        for (size_t k = 0; k < dim; k++, packed += RV__COLS) {
            b.a = rv__vload(packed);
            b.b = rv__vload(packed + RV__LANES);
            b.c = rv__vload(packed + 2 * RV__LANES);
            b.d = rv__vload(packed + 3 * RV__LANES);
            RV__F(tile_row)(1, q[k], &b, &c0);
            RV__F(tile_row)(1, q1[k], &b, &c1);
            RV__F(tile_row)(1, q2[k], &b, &c2);
            RV__F(tile_row)(1, q3[k], &b, &c3);
            RV__F(tile_row)(1, q4[k], &b, &c4);
            RV__F(tile_row)(1, q5[k], &b, &c5);
        }
        RV__F(attn_row)(&c0, slack, s, top, sum, out, width);
        RV__F(attn_row)(&c1, slack, s + 64, top + 1, sum + 16, out + width, width);
        RV__F(attn_row)(&c2, slack, s + 128, top + 2, sum + 32, out + 2 * width, width);
        RV__F(attn_row)(&c3, slack, s + 192, top + 3, sum + 48, out + 3 * width, width);
        RV__F(attn_row)(&c4, slack, s + 256, top + 4, sum + 64, out + 4 * width, width);
        RV__F(attn_row)(&c5, slack, s + 320, top + 5, sum + 80, out + 5 * width, width);
        return;
    }
#endif
    RV__F(attn_logits)(q, ld, n, packed, dim, s);
    RV__F(attn_soften)(s, n, slack, top, sum, out, width, width);
}

/* One row of the tile, as in kernels_tile.inl, but the sums are those of `out`, and rows of b lie
   ld apart as they are. */
RV__ISA RV__INLINE void RV__F(mix_load)(const float *out, size_t cols, RV__F(strip) *c)
{
    c->a = rv__vload(out);
    c->b = rv__vload(out + RV__LANES);
    c->c = c->d = c->b;
    if (RV__TILE == 4 && cols > 2 * RV__LANES) {
        c->c = rv__vload(out + 2 * RV__LANES);
        c->d = rv__vload(out + 3 * RV__LANES);
    }
}

RV__ISA RV__INLINE void RV__F(mix_tile)(int wide, const float *w, size_t n, const float *v,
                                        size_t ldv, size_t n_keys, float *out, size_t ldo)
{
    const size_t cols = (wide ? 4 : 2) * RV__LANES, last = n - 1;
    const float *w1 = w + (last < 1 ? last : 1) * RV__ATTN_KEYS;
    const float *w2 = w + (last < 2 ? last : 2) * RV__ATTN_KEYS;
    const float *w3 = w + (last < 3 ? last : 3) * RV__ATTN_KEYS;
    const float *w4 = w + (last < 4 ? last : 4) * RV__ATTN_KEYS;
    const float *w5 = w + last * RV__ATTN_KEYS;
    RV__F(strip) b, c0, c1, c2, c3, c4, c5;
    RV__F(mix_load)(out, cols, &c0);
    RV__F(mix_load)(out + (last < 1 ? last : 1) * ldo, cols, &c1);
    RV__F(mix_load)(out + (last < 2 ? last : 2) * ldo, cols, &c2);
    RV__F(mix_load)(out + (last < 3 ? last : 3) * ldo, cols, &c3);
    RV__F(mix_load)(out + (last < 4 ? last : 4) * ldo, cols, &c4);
    RV__F(mix_load)(out + last * ldo, cols, &c5);
    b.c = b.d = rv__vzero();
    for (size_t k = 0; k < n_keys; k++, v += ldv) {
        b.a = rv__vload(v);
        b.b = rv__vload(v + RV__LANES);
        if (wide) {
            b.c = rv__vload(v + 2 * RV__LANES);
            b.d = rv__vload(v + 3 * RV__LANES);
        }
        RV__F(tile_row)(wide, w[k], &b, &c0);
        RV__F(tile_row)(wide, w1[k], &b, &c1);
        RV__F(tile_row)(wide, w2[k], &b, &c2);
        RV__F(tile_row)(wide, w3[k], &b, &c3);
        RV__F(tile_row)(wide, w4[k], &b, &c4);
        RV__F(tile_row)(wide, w5[k], &b, &c5);
    }
    RV__F(tile_store)(&c0, out, cols, 0);
    if (n > 1) RV__F(tile_store)(&c1, out + ldo, cols, 0);
    if (n > 2) RV__F(tile_store)(&c2, out + 2 * ldo, cols, 0);
    if (n > 3) RV__F(tile_store)(&c3, out + 3 * ldo, cols, 0);
    if (n > 4) RV__F(tile_store)(&c4, out + 4 * ldo, cols, 0);
    if (n > 5) RV__F(tile_store)(&c5, out + 5 * ldo, cols, 0);
}

/* out[n][width] += weights[n][RV__ATTN_KEYS] times values[n_keys][width], n <= 6; width a multiple
   of two vectors. */
RV__ISA static void RV__F(attn_mix)(const float *w, size_t n, const float *v, size_t ldv,
                                    size_t n_keys, float *out, size_t ldo, size_t width)
{
    size_t j = 0;
    for (; RV__TILE == 4 && j + RV__COLS <= width; j += RV__COLS)
        RV__F(mix_tile)(1, w, n, v + j, ldv, n_keys, out + j, ldo);
    for (; j < width; j += 2 * RV__LANES)
        RV__F(mix_tile)(0, w, n, v + j, ldv, n_keys, out + j, ldo);
}

/* The same for one query, whose values are read once: four keys at a time. */
RV__ISA static void RV__F(attn_mix_one)(const float *w, const float *v, size_t ldv, size_t n_keys,
                                        float *out, size_t width)
{
    size_t k = 0;
    for (; k + 4 <= n_keys; k += 4, v += 4 * ldv) {
        const rv__v a = rv__vset(w[k]), b = rv__vset(w[k + 1]);
        const rv__v c = rv__vset(w[k + 2]), d = rv__vset(w[k + 3]);
        for (size_t j = 0; j < width; j += RV__LANES) {
            rv__v x = rv__vfma(a, rv__vload(v + j), rv__vload(out + j));
            rv__v y = rv__vmul(b, rv__vload(v + ldv + j));
            x = rv__vfma(c, rv__vload(v + 2 * ldv + j), x);
            y = rv__vfma(d, rv__vload(v + 3 * ldv + j), y);
            rv__vstore(out + j, rv__vadd(x, y));
        }
    }
    for (; k < n_keys; k++, v += ldv) {
        const rv__v a = rv__vset(w[k]);
        for (size_t j = 0; j < width; j += RV__LANES)
            rv__vstore(out + j, rv__vfma(a, rv__vload(v + j), rv__vload(out + j)));
    }
}

#undef RV__COLS
