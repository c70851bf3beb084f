/* Distances between byte codes from their dot products: base + h[j] + (slope g[j]) dot[j]. One form
   of the sum for every position, so that a pair has the same distance wherever it stands. */

/* dot: 32-bit integers. */
RV__ISA RV__INLINE rv__v RV__F(line_step)(const void *dot, rv__v h, rv__v g, rv__v base,
                                          rv__v slope)
{
    rv__v x = rv__vfloat(rv__vbits(rv__vload((const float *)dot)));
    return rv__vfma(rv__vmul(slope, g), x, rv__vadd(base, h));
}

/* All distances: line[n]. */
RV__ISA static void RV__F(line_i32)(const int32_t *dot, const float *h, const float *g, float base,
                                    float slope, size_t n, float *line)
{
    const rv__v b = rv__vset(base), s = rv__vset(slope);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES)
        rv__vstore(line + i, RV__F(line_step)(dot + i, rv__vload(h + i), rv__vload(g + i), b, s));
    if (i < n) {
        int32_t dots[RV__LANES];
        float hs[RV__LANES], gs[RV__LANES], last[RV__LANES];
        for (size_t j = 0; j < RV__LANES; j++) {
            size_t k = i + j < n ? i + j : i;
            dots[j] = dot[k];
            hs[j] = h[k];
            gs[j] = g[k];
        }
        rv__vstore(last, RV__F(line_step)(dots, rv__vload(hs), rv__vload(gs), b, s));
        memcpy(line + i, last, (n - i) * sizeof(float));
    }
}

/* Rows of a block of pairs, R of them (1 or 4); see block_i32. */
RV__ISA RV__INLINE void RV__F(block_rows)(size_t R, float *line, size_t ld, size_t n,
                                          const float *h, const float *g, const float *row_h,
                                          const float *row_slope, float *row_low,
                                          float *column_low)
{
    rv__v base[4], slope[4], low[4][16 / RV__LANES];
    for (size_t r = 0; r < R; r++) {
        base[r] = rv__vset(row_h[r]);
        slope[r] = rv__vset(row_slope[r]);
        for (size_t j = 0; j < 16 / RV__LANES; j++)
            low[r][j] = rv__vload(row_low + 16 * r + j * RV__LANES);
    }
    for (size_t i = 0; i < n; i += 16) {
        for (size_t j = 0; j < 16 / RV__LANES; j++) {
            const size_t at = i + j * RV__LANES;
            rv__v hs = rv__vload(h + at), gs = rv__vload(g + at), least = rv__vset(rv__infinity());
            for (size_t r = 0; r < R; r++) {
                float *cell = line + r * ld + at;
                rv__v d = RV__F(line_step)(cell, hs, gs, base[r], slope[r]);
                rv__vstore(cell, d);
                low[r][j] = rv__vmin(low[r][j], d);
                least = rv__vmin(least, d);
            }
            if (column_low)
                rv__vstore(column_low + at, rv__vmin(rv__vload(column_low + at), least));
        }
    }
    for (size_t r = 0; r < R; r++) {
        for (size_t j = 0; j < 16 / RV__LANES; j++)
            rv__vstore(row_low + 16 * r + j * RV__LANES, low[r][j]);
    }
}

/* Distances of all pairs of rows and columns in the place of their dot products (32 bits each), and
   least ones: row_low[na][16], row r over every 16th column; column_low[16][ldc] (may be NULL),
   over every 16th four rows. n: a multiple of 16. */
RV__ISA static void RV__F(block_i32)(float *line, size_t ld, size_t na, size_t n, const float *h,
                                     const float *g, const float *row_h, const float *row_slope,
                                     float *row_low, float *column_low, size_t ldc)
{
    for (size_t i = 0; i < na; i += 4) {
        float *low = column_low ? column_low + i / 4 % 16 * ldc : NULL;
        if (na - i >= 4) {
            RV__F(block_rows)(4, line + i * ld, ld, n, h, g, row_h + i, row_slope + i,
                              row_low + 16 * i, low);
            continue;
        }
        for (size_t r = i; r < na; r++) {
            RV__F(block_rows)(1, line + r * ld, ld, n, h, g, row_h + r, row_slope + r,
                              row_low + 16 * r, low);
        }
    }
}

/* bound[j], which at least `order` (1 to 16) of the 32 numbers row_low[j][16] and column_low[16][j]
   do not exceed, where those of one class, row_low[j][i] and column_low[i][j] (may be NULL), count
   once. n: a multiple of 16. */
RV__ISA static void RV__F(order_low)(const float *row_low, const float *column_low, size_t ldc,
                                     size_t n, size_t order, float *bound)
{
    for (size_t i = 0; i < n; i += RV__LANES) {
        rv__v best[16];
        for (size_t k = 0; k < order; k++) best[k] = rv__vset(rv__infinity());
        for (size_t c = 0; c < 16; c++) {
            float lane[16];
            rv__v x;
            for (size_t j = 0; j < RV__LANES; j++) lane[j] = row_low[16 * (i + j) + c];
            x = rv__vload(lane);
            if (column_low) x = rv__vmin(x, rv__vload(column_low + c * ldc + i));
            for (size_t k = 0; k < order; k++) {
                rv__v less = rv__vmin(best[k], x);
                x = rv__vmax(best[k], x);
                best[k] = less;
            }
        }
        rv__vstore(bound + i, best[order - 1]);
    }
}

/* Positions from `begin` to n - 1, both multiples of 16, where line is below `bound` or below
   bounds (may be NULL) at that position; returns how many. out: [n - begin + 16]. */
RV__ISA static size_t RV__F(list_below)(const float *line, const float *bounds, float bound,
                                        size_t begin, size_t n, uint32_t *out)
{
    const rv__v b = rv__vset(bound);
    size_t count = 0;
    for (size_t i = begin; i < n; i += RV__LANES) {
        rv__v most = bounds ? rv__vmax(b, rv__vload(bounds + i)) : b;
        uint32_t mask = rv__vmask(rv__vless(rv__vload(line + i), most));
#if defined(rv__vplaces)
        rv__vplaces(out + count, mask, (uint32_t)i);
        count += rv__pop64(mask);
#else
        for (; mask; mask &= mask - 1u)
            out[count++] = (uint32_t)(i + rv__pop64((mask & (0u - mask)) - 1u));
#endif
    }
    return count;
}

/* Strikes out the columns that are nearer to the row of dot products than to their origin: limit,
   the distances to that, becomes -infinity there. n: a multiple of 16. */
RV__ISA static void RV__F(strike_i32)(const int32_t *dot, const float *h, const float *g,
                                      float base, float slope, size_t n, float *limit)
{
    const rv__v b = rv__vset(base), s = rv__vset(slope), gone = rv__vset(-rv__infinity());
    for (size_t i = 0; i < n; i += RV__LANES) {
        rv__v at = rv__vload(limit + i);
        rv__v d = RV__F(line_step)(dot + i, rv__vload(h + i), rv__vload(g + i), b, s);
        rv__vstore(limit + i, rv__vpick(rv__vless(d, at), gone, at));
    }
}
