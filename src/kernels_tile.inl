/* All dot products between two sets of rows, floats. A tile of six rows of A and RV__TILE vectors of
   columns of B stays in registers; B is packed so that one column vector is one load. */

#define RV__COLS (RV__TILE * RV__LANES)

/* Packs rows of b, up to RV__COLS of them, transposed: [n][RV__COLS], missing columns zero. */
RV__ISA static void RV__F(pack_f32)(const float *b, size_t ldb, size_t nb, size_t n, float *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const float *row = b + j * ldb;
        if (j < nb) {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = row[k];
        } else {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = 0.0f;
        }
    }
}

RV__ISA RV__INLINE void RV__F(tile_row)(float a, const rv__v *b, rv__v *c)
{
    rv__v x = rv__vset(a);
    c[0] = rv__vfma(x, b[0], c[0]);
    c[1] = rv__vfma(x, b[1], c[1]);
    if (RV__TILE == 4) {
        c[2] = rv__vfma(x, b[2 % RV__TILE], c[2 % RV__TILE]);
        c[3 % RV__TILE] = rv__vfma(x, b[3 % RV__TILE], c[3 % RV__TILE]);
    }
}

RV__ISA RV__INLINE void RV__F(tile_store)(const rv__v *c, float *out, size_t nb, int accumulate)
{
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, accumulate ? rv__vadd(rv__vload(out + first), c[j]) : c[j]);
        } else if (first < nb) {
            rv__v sum = c[j];
            if (accumulate) sum = rv__vadd(rv__vload_tail(out + first, nb - first), sum);
            rv__vstore_tail(out + first, sum, nb - first);
        }
    }
}

/* na <= 6 rows, nb <= RV__COLS columns. */
RV__ISA static void RV__F(tile_f32)(const float *a, size_t lda, size_t na, const float *packed, size_t nb,
                                    size_t n, int accumulate, float *out, size_t ldo)
{
    const size_t last = na - 1;
    const float *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const float *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const float *a5 = a + last * lda;
    rv__v c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__vzero();
    }
    for (size_t k = 0; k < n; k++, packed += RV__COLS) {
        b[0] = rv__vload(packed);
        b[1] = rv__vload(packed + RV__LANES);
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vload(packed + 2 * RV__LANES);
            b[3 % RV__TILE] = rv__vload(packed + 3 * RV__LANES);
        }
        RV__F(tile_row)(a[k], b, c0);
        RV__F(tile_row)(a1[k], b, c1);
        RV__F(tile_row)(a2[k], b, c2);
        RV__F(tile_row)(a3[k], b, c3);
        RV__F(tile_row)(a4[k], b, c4);
        RV__F(tile_row)(a5[k], b, c5);
    }
    RV__F(tile_store)(c0, out, nb, accumulate);
    if (na > 1) RV__F(tile_store)(c1, out + ldo, nb, accumulate);
    if (na > 2) RV__F(tile_store)(c2, out + 2 * ldo, nb, accumulate);
    if (na > 3) RV__F(tile_store)(c3, out + 3 * ldo, nb, accumulate);
    if (na > 4) RV__F(tile_store)(c4, out + 4 * ldo, nb, accumulate);
    if (na > 5) RV__F(tile_store)(c5, out + 5 * ldo, nb, accumulate);
}

RV__ISA static void RV__F(gemm_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, int accumulate, float *out, size_t ldo, void *scratch)
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

RV__ISA static void RV__F(gram_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, float *out, size_t ldo, void *scratch)
{
    RV__F(gemm_f32)(a, lda, na, b, ldb, nb, n, 0, out, ldo, scratch);
}

#undef RV__COLS
