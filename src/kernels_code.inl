/* All dot products between two sets of byte rows, and the 4-bit fast scan. */

#define RV__COLS (RV__TILE * RV__LANES)
#define RV__WORDS(n) ((n) / RV__GROUP) /* 32-bit words of a packed row of n bytes */

/* Elements k .. k + RV__GROUP - 1 of a row as one word: four bytes, or two 16-bit numbers. */
RV__ISA RV__INLINE uint32_t RV__F(group)(const int8_t *row, size_t k)
{
#if RV__GROUP == 4
    return rv__load_u32(row + k);
#else
    return (uint32_t)(uint16_t)row[k] | (uint32_t)(uint16_t)row[k + 1] << 16;
#endif
}

#if !defined(RV__SCALAR)
/* Four words of LANES rows to four column vectors; see the zip of kernels_tile.inl. */
RV__ISA RV__INLINE void RV__F(code_zip)(rv__v r0, rv__v r1, rv__v r2, rv__v r3, uint32_t *out)
{
    rv__v t0 = rv__vzip_low(r0, r1), t1 = rv__vzip_high(r0, r1);
    rv__v t2 = rv__vzip_low(r2, r3), t3 = rv__vzip_high(r2, r3);
    rv__vstore(out, rv__vzip2_low(t0, t2));
    rv__vstore(out + RV__COLS, rv__vzip2_high(t0, t2));
    rv__vstore(out + 2 * RV__COLS, rv__vzip2_low(t1, t3));
    rv__vstore(out + 3 * RV__COLS, rv__vzip2_high(t1, t3));
}
#endif

/* Packs rows of b, at most RV__COLS of them: [words][RV__COLS], all bytes xor flip. Missing columns
   repeat the last one up to a multiple of 16. */
RV__ISA static void RV__F(panel_i8)(const int8_t *b, size_t ldb, size_t nb, size_t n, uint32_t flip,
                                    uint32_t *packed)
{
    const size_t columns = rv__round_up(nb, 16) < RV__COLS ? rv__round_up(nb, 16) : RV__COLS;
#if defined(RV__SCALAR)
    for (size_t j = 0; j < columns; j++) {
        const int8_t *row = b + (j < nb ? j : nb - 1) * ldb;
        for (size_t k = 0; k < RV__WORDS(n); k++) {
            packed[k * RV__COLS + j] = RV__F(group)(row, k * RV__GROUP) ^ flip;
        }
    }
#else
    const rv__vi f = rv__iset((int32_t)flip);
    for (size_t j = 0; j < columns; j += RV__LANES) {
        const int8_t *row[RV__LANES];
        for (size_t i = 0; i < RV__LANES; i++) row[i] = b + (j + i < nb ? j + i : nb - 1) * ldb;
        for (size_t k = 0; k < RV__WORDS(n); k += 4) {
            const size_t at = k * RV__GROUP;
            rv__vi r0 = rv__ixor(rv__gquads(row, at), f), r1 = rv__ixor(rv__gquads(row + 1, at), f);
            rv__vi r2 = rv__ixor(rv__gquads(row + 2, at), f),
                   r3 = rv__ixor(rv__gquads(row + 3, at), f);
            RV__F(code_zip)(rv__vfrom(r0), rv__vfrom(r1), rv__vfrom(r2), rv__vfrom(r3),
                            packed + k * RV__COLS + j);
        }
    }
#endif
}

typedef struct {
    rv__vi a, b, c, d;
} RV__F(code_strip);

RV__ISA RV__INLINE void RV__F(code_tile_row)(uint32_t a, const RV__F(code_strip) * b,
                                             RV__F(code_strip) * c)
{
    rv__vi x = rv__iset((int32_t)a);
    c->a = rv__gdot(c->a, b->a, x);
    c->b = rv__gdot(c->b, b->b, x);
    if (RV__TILE == 4) {
        c->c = rv__gdot(c->c, b->c, x);
        c->d = rv__gdot(c->d, b->d, x);
    }
}

RV__ISA RV__INLINE void RV__F(code_vector)(rv__vi v, int32_t bias, int32_t *out, size_t n)
{
    int32_t lanes[RV__LANES];
    v = rv__isub(v, rv__iset(bias));
    if (n >= RV__LANES) {
        rv__vstore(out, rv__vfrom(v));
    } else {
        rv__vstore(lanes, rv__vfrom(v));
        memcpy(out, lanes, 4 * n);
    }
}

RV__ISA RV__INLINE void RV__F(code_store)(const RV__F(code_strip) * c, int32_t bias, int32_t *out,
                                          size_t nb)
{
    const size_t L = RV__LANES;
    RV__F(code_vector)(c->a, bias, out, nb);
    if (nb > L) RV__F(code_vector)(c->b, bias, out + L, nb - L);
    if (RV__TILE == 4 && nb > 2 * L) RV__F(code_vector)(c->c, bias, out + 2 * L, nb - 2 * L);
    if (RV__TILE == 4 && nb > 3 * L) RV__F(code_vector)(c->d, bias, out + 3 * L, nb - 3 * L);
}

/* na <= 6 rows of A as words. */
RV__ISA static void RV__F(tile_i8)(const unsigned char *a, size_t lda, size_t na,
                                   const uint32_t *packed, size_t nb, size_t words,
                                   const int32_t *bias, int32_t *out, size_t ldo)
{
    const size_t last = na - 1;
    const unsigned char *a1 = a + (last < 1 ? last : 1) * lda,
                        *a2 = a + (last < 2 ? last : 2) * lda;
    const unsigned char *a3 = a + (last < 3 ? last : 3) * lda,
                        *a4 = a + (last < 4 ? last : 4) * lda;
    const unsigned char *a5 = a + last * lda;
    RV__F(code_strip) b, c0, c1, c2, c3, c4, c5;
    b.a = b.b = b.c = b.d = rv__iset(0);
    c0 = c1 = c2 = c3 = c4 = c5 = b;
    for (size_t k = 0; k < 4 * words; k += 4, packed += RV__COLS) {
        b.a = rv__vbits(rv__vload(packed));
        b.b = rv__vbits(rv__vload(packed + RV__LANES));
        if (RV__TILE == 4) {
            b.c = rv__vbits(rv__vload(packed + 2 * RV__LANES));
            b.d = rv__vbits(rv__vload(packed + 3 * RV__LANES));
        }
        RV__F(code_tile_row)(rv__load_u32(a + k), &b, &c0);
        RV__F(code_tile_row)(rv__load_u32(a1 + k), &b, &c1);
        RV__F(code_tile_row)(rv__load_u32(a2 + k), &b, &c2);
        RV__F(code_tile_row)(rv__load_u32(a3 + k), &b, &c3);
        RV__F(code_tile_row)(rv__load_u32(a4 + k), &b, &c4);
        RV__F(code_tile_row)(rv__load_u32(a5 + k), &b, &c5);
    }
    RV__F(code_store)(&c0, bias[0], out, nb);
    if (na > 1) RV__F(code_store)(&c1, bias[1], out + ldo, nb);
    if (na > 2) RV__F(code_store)(&c2, bias[2], out + 2 * ldo, nb);
    if (na > 3) RV__F(code_store)(&c3, bias[3], out + 3 * ldo, nb);
    if (na > 4) RV__F(code_store)(&c4, bias[4], out + 4 * ldo, nb);
    if (na > 5) RV__F(code_store)(&c5, bias[5], out + 5 * ldo, nb);
}

/* One row of A as words, whose packed columns still lack the flip. */
RV__ISA RV__INLINE void RV__F(row_i8)(const unsigned char *a, const uint32_t *packed, size_t nb,
                                      size_t words, int32_t bias, uint32_t flip, int32_t *out)
{
    const rv__vi f = rv__iset((int32_t)flip);
    RV__F(code_strip) b, c;
    b.a = b.b = b.c = b.d = rv__iset(0);
    c = b;
    for (size_t k = 0; k < 4 * words; k += 4, packed += RV__COLS) {
        b.a = rv__ixor(rv__vbits(rv__vload(packed)), f);
        b.b = rv__ixor(rv__vbits(rv__vload(packed + RV__LANES)), f);
        if (RV__TILE == 4) {
            b.c = rv__ixor(rv__vbits(rv__vload(packed + 2 * RV__LANES)), f);
            b.d = rv__ixor(rv__vbits(rv__vload(packed + 3 * RV__LANES)), f);
        }
        RV__F(code_tile_row)(rv__load_u32(a + k), &b, &c);
    }
    RV__F(code_store)(&c, bias, out, nb);
}

/* Before the panels stands space for six rows of A as 16-bit numbers, where the words are those. */
RV__ISA static void RV__F(pack_i8)(const int8_t *b, size_t ldb, size_t nb, size_t n, void *packed)
{
    uint32_t *panel = (uint32_t *)packed + 6 * n / 2;
    for (size_t j = 0; j < rv__round_up(nb, 16); j += RV__COLS, panel += RV__WORDS(n) * RV__COLS) {
        const size_t from = j < nb ? j : nb - 1, columns = nb - from;
        RV__F(panel_i8)(b + from * ldb, ldb, columns < RV__COLS ? columns : RV__COLS, n,
                        RV__GROUP_FLIP, panel);
    }
}

RV__ISA static void RV__F(gram_i8)(const int8_t *a, size_t lda, size_t na, size_t first, size_t nb,
                                   size_t n, int32_t *out, size_t ldo, void *packed)
{
    uint32_t *wide = (uint32_t *)packed;
    const size_t words = RV__WORDS(n), panel = words * RV__COLS;
    const uint32_t *columns = wide + 6 * n / 2 + first / RV__COLS * panel;
    for (size_t i = 0; i < na; i += 6) {
        const size_t rows = na - i < 6 ? na - i : 6;
        const unsigned char *tile = (const unsigned char *)(a + i * lda);
        size_t pitch = lda;
        int32_t bias[6] = {0, 0, 0, 0, 0, 0};
        if (RV__GROUP_FLIP) {
            for (size_t r = 0; r < rows; r++) bias[r] = 128 * RV__F(sum_i8)(a + (i + r) * lda, n);
        }
        if (RV__GROUP == 2) {
            for (size_t r = 0; r < rows; r++) {
                for (size_t k = 0; k < words; k++) {
                    wide[r * words + k] = RV__F(group)(a + (i + r) * lda, 2 * k);
                }
            }
            tile = (const unsigned char *)wide;
            pitch = 4 * words;
        }
        for (size_t j = 0; j < nb; j += RV__COLS) {
            const uint32_t *at = columns + j / RV__COLS * panel;
            const size_t cols = nb - j < RV__COLS ? nb - j : RV__COLS;
            if (rows == 1) {
                RV__F(row_i8)(tile, at, cols, words, bias[0], 0, out + i * ldo + j);
            } else {
                RV__F(tile_i8)(tile, pitch, rows, at, cols, words, bias, out + i * ldo + j, ldo);
            }
        }
    }
}

#undef RV__COLS
#undef RV__WORDS

/* ---- product codes of four bits ---- */

#if defined(RV__SCALAR)
static void rv__pq4_scan_scalar(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks,
                                uint16_t *out)
{
    for (size_t b = 0; b < n_blocks; b++, codes += 16 * m, out += 32) {
        for (size_t i = 0; i < 32; i++) {
            uint32_t sum = 0;
            for (size_t s = 0; s < m; s++) {
                sum += lut[16 * s + ((codes[16 * s + i % 16] >> (i < 16 ? 0 : 4)) & 15u)];
            }
            out[i] = (uint16_t)(sum > 65535u ? 65535u : sum);
        }
    }
}
#else
/* Entries come from a byte shuffle; sums of 16 bits. The bytes at odd places are summed alone; the
   sum of all 16-bit words is even + 256 odd modulo 2^16, so that the even ones cost no masking.
   After 256 sub-quantizers (at most 65280) the sums move out, saturating. */
RV__ISA static void RV__F(pq4_scan)(const uint8_t *lut, const uint8_t *codes, size_t m,
                                    size_t n_blocks, uint16_t *out)
{
    const size_t bytes = 16 * m;
    for (size_t block = 0; block < n_blocks; block++, codes += bytes, out += 32) {
        for (size_t begin = 0; begin < bytes || begin == 0; begin += 16 * 256) {
            const size_t end = bytes - begin < 16 * 256 ? bytes : begin + 16 * 256;
            rv__q low = rv__qzero(), low_odd = low, high = low, high_odd = low;
            for (size_t k = begin; k < end; k += RV__LOOK) {
                const int half = RV__LOOK == 64 && k + 64 > end;
                rv__q table = half ? rv__qload_half(lut + k) : rv__qload(lut + k);
                rv__q code = half ? rv__qload_half(codes + k) : rv__qload(codes + k);
                rv__q x = rv__qlook(table, rv__qlow(code)), y = rv__qlook(table, rv__qhigh(code));
                low = rv__qadd(low, x);
                low_odd = rv__qadd(low_odd, rv__qodd(x));
                high = rv__qadd(high, y);
                high_odd = rv__qadd(high_odd, rv__qodd(y));
            }
            RV__F(qfold)(rv__qeven(low, low_odd), low_odd, out, begin > 0);
            RV__F(qfold)(rv__qeven(high, high_odd), high_odd, out + 16, begin > 0);
        }
    }
}
#endif

/* ---- nearest of a few short rows ---- */

typedef struct {
    rv__v low;
    rv__vi at;
} RV__F(nearest);

RV__ISA RV__INLINE void RV__F(nearest_step)(rv__v score, rv__vi index, RV__F(nearest) * best)
{
    best->at = rv__vbits(
        rv__vpick(rv__vless(score, best->low), rv__vfrom(index), rv__vfrom(best->at)));
    best->low = rv__vpick(rv__vless(score, best->low), score, best->low);
}

/* Scores of four vectors at once where there are as many, which hides what a sum waits for. */
RV__ISA static uint32_t RV__F(nearest_f32)(const float *x, size_t n, const float *turned,
                                           const float *half, size_t n_all)
{
    const size_t L = RV__LANES;
    const rv__vi next = rv__iset((int32_t)L);
    float low[RV__LANES];
    int32_t at[RV__LANES], where = 0;
    RV__F(nearest) best;
    rv__vi index;
    size_t c = 0;
    float least = 3e38f;
    for (size_t l = 0; l < L; l++) at[l] = (int32_t)l;
    index = rv__vbits(rv__vload(at));
    best.low = rv__vset(least);
    best.at = rv__iset(0);
    for (; c + 4 * L <= n_all; c += 4 * L) {
        const float *line = turned + c;
        rv__v s0 = rv__vload(half + c), s1 = rv__vload(half + c + L);
        rv__v s2 = rv__vload(half + c + 2 * L), s3 = rv__vload(half + c + 3 * L);
        for (size_t j = 0; j < n; j++, line += n_all) {
            const rv__v value = rv__vset(rv__load_f32(x + j));
            s0 = rv__vfnma(value, rv__vload(line), s0);
            s1 = rv__vfnma(value, rv__vload(line + L), s1);
            s2 = rv__vfnma(value, rv__vload(line + 2 * L), s2);
            s3 = rv__vfnma(value, rv__vload(line + 3 * L), s3);
        }
        RV__F(nearest_step)(s0, index, &best);
        index = rv__iadd(index, next);
        RV__F(nearest_step)(s1, index, &best);
        index = rv__iadd(index, next);
        RV__F(nearest_step)(s2, index, &best);
        index = rv__iadd(index, next);
        RV__F(nearest_step)(s3, index, &best);
        index = rv__iadd(index, next);
    }
    for (; c < n_all; c += L, index = rv__iadd(index, next)) {
        rv__v score = rv__vload(half + c);
        for (size_t j = 0; j < n; j++) {
            score = rv__vfnma(rv__vset(rv__load_f32(x + j)), rv__vload(turned + j * n_all + c),
                              score);
        }
        RV__F(nearest_step)(score, index, &best);
    }
    rv__vstore(low, best.low);
    rv__vstore(at, rv__vfrom(best.at));
    for (size_t l = 0; l < L; l++) {
        if (low[l] < least || (low[l] == least && at[l] < where)) {
            least = low[l];
            where = at[l];
        }
    }
    return (uint32_t)where;
}
