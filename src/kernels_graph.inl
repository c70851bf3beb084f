/* Distances between byte codes from their dot products: base + h[j] + (slope g[j]) dot[j]. One form
   of the sum for every position, so that a pair has the same distance wherever it stands. */

RV__ISA RV__INLINE uint32_t RV__F(near_block)(const int32_t *dot, const float *h, const float *g,
                                              rv__v base, rv__v slope, rv__v limit, float *value)
{
    uint32_t mask = 0;
    for (size_t j = 0; j < 16; j += RV__LANES) {
        rv__v x = rv__vfloat(rv__vbits(rv__vload((const float *)(const void *)(dot + j))));
        rv__v d = rv__vfma(rv__vmul(slope, rv__vload(g + j)), x, rv__vadd(base, rv__vload(h + j)));
        rv__vstore(value + j, d);
        mask |= rv__vmask(rv__vless(d, limit)) << j;
    }
    return mask;
}

/* The first block of 16 positions from begin (a multiple of 16) on that has a distance below limit:
   returns its start, its distances in value[16] and a bit for each below; n and no bits when there
   is
   none. */
RV__ISA static size_t RV__F(near_i32)(const int32_t *dot, const float *h, const float *g,
                                      float base, float slope, size_t begin, size_t n, float limit,
                                      float *value, uint32_t *mask)
{
    rv__v b = rv__vset(base), s = rv__vset(slope), l = rv__vset(limit);
    size_t i = begin;
    for (; i + 16 <= n; i += 16) {
        *mask = RV__F(near_block)(dot + i, h + i, g + i, b, s, l, value);
        if (*mask) return i;
    }
    *mask = 0;
    if (i < n) {
        int32_t dots[16];
        float hs[16], gs[16];
        for (size_t j = 0; j < 16; j++) {
            size_t k = i + j < n ? i + j : i;
            dots[j] = dot[k];
            hs[j] = h[k];
            gs[j] = g[k];
        }
        *mask = RV__F(near_block)(dots, hs, gs, b, s, l, value) & ((1u << (n - i)) - 1u);
        if (*mask) return i;
    }
    return n;
}

/* All of them: line[n]. */
RV__ISA static void RV__F(line_i32)(const int32_t *dot, const float *h, const float *g, float base,
                                    float slope, size_t n, float *line)
{
    float value[16];
    uint32_t mask;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        (void)RV__F(near_block)(dot + i, h + i, g + i, rv__vset(base), rv__vset(slope),
                                rv__vset(base), line + i);
    }
    if (i < n) {
        (void)RV__F(near_i32)(dot, h, g, base, slope, i, n, base, value, &mask);
        memcpy(line + i, value, (n - i) * sizeof(float));
    }
}
