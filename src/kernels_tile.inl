/* All dot products between two sets of rows, floats. A tile of six rows of A and RV__TILE vectors
   of columns of B stays in registers; B is packed so that one column vector is one load. */

#define RV__COLS (RV__TILE * RV__LANES)

#if !defined(RV__SCALAR)
/* Four words of LANES rows to four column vectors: r_i holds rows i, i + 4, ... in lanes of 4. */
RV__ISA RV__INLINE void RV__F(zip)(rv__v r0, rv__v r1, rv__v r2, rv__v r3, float *out)
{
    rv__v t0 = rv__vzip_low(r0, r1), t1 = rv__vzip_high(r0, r1);
    rv__v t2 = rv__vzip_low(r2, r3), t3 = rv__vzip_high(r2, r3);
    rv__vstore(out, rv__vzip2_low(t0, t2));
    rv__vstore(out + RV__COLS, rv__vzip2_high(t0, t2));
    rv__vstore(out + 2 * RV__COLS, rv__vzip2_low(t1, t3));
    rv__vstore(out + 3 * RV__COLS, rv__vzip2_high(t1, t3));
}
#endif

/* Packs rows of b, up to RV__COLS of them, transposed: [n][RV__COLS], missing columns zero. Written
   in bands of 16 rows, which stay in the first-level cache. */
RV__ISA static void RV__F(pack_f32)(const float *b, size_t ldb, size_t nb, size_t n, float *packed)
{
    for (size_t first = 0; first < n; first += 16) {
        const size_t end = n - first < 16 ? n : first + 16;
        size_t j = 0;
#if !defined(RV__SCALAR)
        if (end == first + 16) {
            for (; j + RV__LANES <= nb; j += RV__LANES) {
                for (size_t k = first; k < end; k += 4) {
                    const float *p = b + j * ldb + k;
                    RV__F(zip)(rv__vquads(p, ldb), rv__vquads(p + ldb, ldb),
                               rv__vquads(p + 2 * ldb, ldb), rv__vquads(p + 3 * ldb, ldb),
                               packed + k * RV__COLS + j);
                }
            }
        }
#endif
        for (size_t zero = rv__round_up(nb, RV__LANES); zero < RV__COLS; zero += RV__LANES) {
            for (size_t k = first; k < end; k++)
                rv__vstore(packed + k * RV__COLS + zero, rv__vzero());
        }
        for (; j < rv__round_up(nb, RV__LANES); j++) {
            for (size_t k = first; k < end; k++)
                packed[k * RV__COLS + j] = j < nb ? b[j * ldb + k] : 0.0f;
        }
    }
}

/* One row of the tile, RV__TILE vectors. Named members: compilers keep arrays in memory. */
typedef struct {
    rv__v a, b, c, d;
} RV__F(strip);

RV__ISA RV__INLINE void RV__F(tile_row)(int wide, float a, const RV__F(strip) * b, RV__F(strip) * c)
{
    rv__v x = rv__vset(a);
    c->a = rv__vfma(x, b->a, c->a);
    c->b = rv__vfma(x, b->b, c->b);
    if (wide) {
        c->c = rv__vfma(x, b->c, c->c);
        c->d = rv__vfma(x, b->d, c->d);
    }
}

/* The first n lanes of v, n may exceed them. */
RV__ISA RV__INLINE void RV__F(tile_vector)(rv__v v, float *out, size_t n, int accumulate)
{
    if (n >= RV__LANES) {
        rv__vstore(out, accumulate ? rv__vadd(rv__vload(out), v) : v);
    } else {
        if (accumulate) v = rv__vadd(rv__vload_tail(out, n), v);
        rv__vstore_tail(out, v, n);
    }
}

RV__ISA RV__INLINE void RV__F(tile_store)(const RV__F(strip) * c, float *out, size_t nb,
                                          int accumulate)
{
    const size_t L = RV__LANES;
    RV__F(tile_vector)(c->a, out, nb, accumulate);
    if (nb > L) RV__F(tile_vector)(c->b, out + L, nb - L, accumulate);
    if (RV__TILE == 4 && nb > 2 * L) RV__F(tile_vector)(c->c, out + 2 * L, nb - 2 * L, accumulate);
    if (RV__TILE == 4 && nb > 3 * L) RV__F(tile_vector)(c->d, out + 3 * L, nb - 3 * L, accumulate);
}

/* na <= 6 rows, nb <= RV__COLS columns; wide: four vectors of columns, else two. */
RV__ISA RV__INLINE void RV__F(tile)(int wide, const float *a, size_t lda, size_t na,
                                    const float *packed, size_t nb, size_t n, int accumulate,
                                    float *out, size_t ldo)
{
    const size_t last = na - 1;
    const float *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const float *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const float *a5 = a + last * lda;
    RV__F(strip) b, c0, c1, c2, c3, c4, c5;
    b.a = b.b = b.c = b.d = rv__vzero();
    c0 = c1 = c2 = c3 = c4 = c5 = b;
    for (size_t k = 0; k < n; k++, packed += RV__COLS) {
        b.a = rv__vload(packed);
        b.b = rv__vload(packed + RV__LANES);
        if (wide) {
            b.c = rv__vload(packed + 2 * RV__LANES);
            b.d = rv__vload(packed + 3 * RV__LANES);
        }
        RV__F(tile_row)(wide, a[k], &b, &c0);
        RV__F(tile_row)(wide, a1[k], &b, &c1);
        RV__F(tile_row)(wide, a2[k], &b, &c2);
        RV__F(tile_row)(wide, a3[k], &b, &c3);
        RV__F(tile_row)(wide, a4[k], &b, &c4);
        RV__F(tile_row)(wide, a5[k], &b, &c5);
    }
    RV__F(tile_store)(&c0, out, nb, accumulate);
    if (na > 1) RV__F(tile_store)(&c1, out + ldo, nb, accumulate);
    if (na > 2) RV__F(tile_store)(&c2, out + 2 * ldo, nb, accumulate);
    if (na > 3) RV__F(tile_store)(&c3, out + 3 * ldo, nb, accumulate);
    if (na > 4) RV__F(tile_store)(&c4, out + 4 * ldo, nb, accumulate);
    if (na > 5) RV__F(tile_store)(&c5, out + 5 * ldo, nb, accumulate);
}

RV__ISA static void RV__F(tile_f32)(const float *a, size_t lda, size_t na, const float *packed,
                                    size_t nb, size_t n, int accumulate, float *out, size_t ldo)
{
    if (RV__TILE == 4 && nb > 2 * RV__LANES) {
        RV__F(tile)(1, a, lda, na, packed, nb, n, accumulate, out, ldo);
    } else {
        RV__F(tile)(0, a, lda, na, packed, nb, n, accumulate, out, ldo);
    }
}

RV__ISA static void RV__F(gemm_f32)(const float *a, size_t lda, size_t na, const float *b,
                                    size_t ldb, size_t nb, size_t n, int accumulate, float *out,
                                    size_t ldo, void *scratch)
{
    float *packed = (float *)scratch;
    for (size_t k = 0; k < n || k == 0; k += RV__GEMM_DEPTH) {
        size_t depth = n - k < RV__GEMM_DEPTH ? n - k : RV__GEMM_DEPTH;
        for (size_t j = 0; j < nb; j += RV__COLS) {
            size_t cols = nb - j < RV__COLS ? nb - j : RV__COLS;
            RV__F(pack_f32)(b + j * ldb + k, ldb, cols, depth, packed);
            for (size_t i = 0; i < na; i += 6) {
                RV__F(tile_f32)(a + i * lda + k, lda, na - i < 6 ? na - i : 6, packed, cols, depth,
                                accumulate || k > 0, out + i * ldo + j, ldo);
            }
        }
    }
}

RV__ISA static void RV__F(gram_f32)(const float *a, size_t lda, size_t na, const float *b,
                                    size_t ldb, size_t nb, size_t n, float *out, size_t ldo,
                                    void *scratch)
{
    RV__F(gemm_f32)(a, lda, na, b, ldb, nb, n, 0, out, ldo, scratch);
}

#undef RV__COLS
