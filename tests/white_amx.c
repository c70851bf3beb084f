/* not on: msan (it does not follow masked AVX-512 loads)
   The AMX kernel, whose machines are rare, with its tile instructions done by plain loops. It needs
   a compiler that knows the names and a processor with AVX-512 VNNI for the rest. */
#include "rv_test.h"

/* as in src/simd.c */
#if defined(__x86_64__) && defined(__linux__) && defined(__LP64__) && !defined(RV_NO_SIMD) &&      \
    ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define EMULATED 1
#include <immintrin.h>

static int32_t amx_tile[8][16][16];
static size_t tile_row_bytes[8], tile_rows[8];

static void emulated_config(const unsigned char *config)
{
    for (size_t t = 0; t < 8; t++) {
        tile_row_bytes[t] = config[16 + 2 * t];
        tile_rows[t] = config[48 + t];
    }
}

static void emulated_load(size_t t, const void *from, size_t stride)
{
    for (size_t r = 0; r < tile_rows[t]; r++)
        memcpy(amx_tile[t][r], (const unsigned char *)from + r * stride, tile_row_bytes[t]);
}

static void emulated_store(size_t t, void *to, size_t stride)
{
    for (size_t r = 0; r < tile_rows[t]; r++)
        memcpy((unsigned char *)to + r * stride, amx_tile[t][r], tile_row_bytes[t]);
}

/* c[m][n] += sum over k and four bytes of a[m][4 k + i] b[k][4 n + i], signed. */
static void emulated_dot(size_t c, size_t a, size_t b)
{
    int8_t x[16][64], y[16][64];
    memcpy(x, amx_tile[a], sizeof x);
    memcpy(y, amx_tile[b], sizeof y);
    for (size_t m = 0; m < tile_rows[c]; m++) {
        for (size_t n = 0; n < tile_row_bytes[c] / 4; n++) {
            for (size_t k = 0; k < 64; k++) amx_tile[c][m][n] += x[m][k] * y[k / 4][4 * n + k % 4];
        }
    }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#define _tile_loadconfig(config) emulated_config(config)
#define _tile_release() memset(tile_rows, 0, sizeof tile_rows)
#define _tile_zero(t) memset(amx_tile[t], 0, sizeof amx_tile[t])
#define _tile_loadd(t, from, stride) emulated_load((t), (from), (stride))
#define _tile_stored(t, to, stride) emulated_store((t), (to), (stride))
#define _tile_dpbssd(c, a, b) emulated_dot((c), (a), (b))
#endif

#include "../src/simd.c"

#if defined(EMULATED)
static void test_gram(void)
{
    static const size_t rows[] = {1, 2, 31, 32, 33, 64, 70}, columns[] = {1, 16, 63, 64, 65, 200};
    rv_test_rng rng;
    rv_alloc alloc = rv__allocator(NULL);
    rv_test_seed(&rng, 1);
    if (!(rv_features() & RV_FEATURE_VNNI)) return;
    for (size_t i = 0; i < RV_COUNT_OF(rows) * RV_COUNT_OF(columns) * 2; i++) {
        const size_t na = rows[i / 2 % RV_COUNT_OF(rows)], nb = columns[i / 2 / RV_COUNT_OF(rows)];
        const size_t n = i % 2 ? 64 : 192, first = nb > 64 && i % 3 ? 64 : 0;
        const size_t wanted = rv__round_up(nb, 16) - first, bytes = rv__gram_i8_scratch(nb, n);
        void *packed = rv__get(&alloc, bytes, 1);
        int8_t *a = (int8_t *)malloc(na * n), *b = (int8_t *)malloc(nb * n);
        int32_t *out = (int32_t *)malloc(4 * na * wanted);
        if (!packed || !a || !b || !out) exit(2);
        for (size_t j = 0; j < na * n; j++) a[j] = (int8_t)((int)rv_test_below(&rng, 256) - 128);
        for (size_t j = 0; j < nb * n; j++) b[j] = (int8_t)((int)rv_test_below(&rng, 256) - 128);
        rv__pack_i8_amx(b, n, nb, n, packed);
        rv__gram_i8_amx(a, n, na, first, wanted, n, out, wanted, packed);
        rv_test_row("case", i);
        for (size_t r = 0; r < na; r++) {
            for (size_t c = 0; c < wanted; c++) {
                const size_t column = first + c < nb ? first + c : nb - 1;
                int32_t want = 0;
                for (size_t j = 0; j < n; j++) want += a[r * n + j] * b[column * n + j];
                RV_EQUAL(out[r * wanted + c], want);
            }
        }
        free(out);
        free(b);
        free(a);
        rv__put(&alloc, packed, bytes, 1);
    }
}
#endif

int main(void)
{
    rv_test_begin("white_amx");
#if defined(EMULATED)
    RV_RUN(test_gram);
#endif
    return rv_test_end();
}
