/* Distances between byte codes from their dot products: base + h[j] + (slope g[j]) dot[j]. One form
   of the sum for every position, so that a pair has the same distance wherever it stands. */

RV__ISA RV__INLINE rv__v RV__F(line_step)(const int32_t *dot, const float *h, const float *g,
                                          rv__v base, rv__v slope)
{
    rv__v x = rv__vfloat(rv__vbits(rv__vload((const float *)(const void *)dot)));
    return rv__vfma(rv__vmul(slope, rv__vload(g)), x, rv__vadd(base, rv__vload(h)));
}

/* Of 16 numbers that are not NaN the one that `order` of them (1 to 16) do not exceed. */
RV__ISA RV__INLINE float RV__F(order16)(const float *x, uint32_t order)
{
    rv__v most = rv__vset(16.5f - (float)order), least = rv__vset(rv__infinity());
    float lane[16];
    for (size_t i = 0; i < 16; i += RV__LANES) {
        rv__v at = rv__vload(x + i), above = rv__vzero();
        for (size_t j = 0; j < 16; j++) {
            above = rv__vadd(above, rv__vpick(rv__vless(at, rv__vset(x[j])), rv__vset(1.0f),
                                              rv__vzero()));
        }
        least = rv__vmin(least, rv__vpick(rv__vless(above, most), at, least));
    }
    rv__vstore(lane, least);
    for (size_t i = 1; i < RV__LANES; i++) lane[0] = lane[i] < lane[0] ? lane[i] : lane[0];
    return lane[0];
}

/* All distances: line[n]. Returns a bound that at least `order` of them do not exceed, which is the
   order-th smallest of 16 minima over every 16th position and so hardly more than the order-th
   smallest of all; infinity when order is above 16 or n below 16. */
RV__ISA static float RV__F(line_i32)(const int32_t *dot, const float *h, const float *g, float base,
                                     float slope, size_t n, size_t order, float *line)
{
    const rv__v b = rv__vset(base), s = rv__vset(slope);
    rv__v low[16 / RV__LANES];
    float lows[16];
    size_t i = 0;
    for (size_t j = 0; j < 16 / RV__LANES; j++) low[j] = rv__vset(rv__infinity());
    for (; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 16 / RV__LANES; j++) {
            size_t at = i + j * RV__LANES;
            rv__v d = RV__F(line_step)(dot + at, h + at, g + at, b, s);
            rv__vstore(line + at, d);
            low[j] = rv__vmin(low[j], d);
        }
    }
    for (size_t j = 0; j < 16 / RV__LANES; j++) rv__vstore(lows + j * RV__LANES, low[j]);
    if (i < n) {
        int32_t dots[16];
        float hs[16], gs[16], last[16];
        for (size_t j = 0; j < 16; j++) {
            size_t k = i + j < n ? i + j : i;
            dots[j] = dot[k];
            hs[j] = h[k];
            gs[j] = g[k];
        }
        for (size_t j = 0; j < 16; j += RV__LANES)
            rv__vstore(last + j, RV__F(line_step)(dots + j, hs + j, gs + j, b, s));
        memcpy(line + i, last, (n - i) * sizeof(float));
    }
    return order - 1 < 16 && n >= 16 ? RV__F(order16)(lows, (uint32_t)order) : rv__infinity();
}
