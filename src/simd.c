#ifndef RV_SIMD_C
#define RV_SIMD_C
#include "simd.h"
#include "base.c"

/* The kernels: every hot loop of the library, expanded once per instruction set, one const table
   per instruction set, one dispatch point.

   simd_<isa>.inl   vocabulary: vectors, loads, arithmetic, of one instruction set
   kernels_*.inl    the loops in that vocabulary
   simd_end.inl     takes the vocabulary back

   What does not depend on the instruction set (zero norms, NaN, clamping) is decided in the shared
   functions of this file. Functions of x86 instruction sets carry target attributes, so the file
   is compiled for the baseline. */

#if defined(RV_NO_SIMD)
#elif defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define RV__X86 1
#include <cpuid.h>
#include <immintrin.h>
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#define RV__X86 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#define RV__NEON 1
#include <arm_neon.h>
/* How to compile one function for the 8-bit dot product; older clangs declare it only when the
   whole file is compiled for it. */
#if defined(__ARM_FEATURE_DOTPROD)
#define RV__DOTPROD_TARGET
#elif defined(__clang__) && __clang_major__ >= 16
#define RV__DOTPROD_TARGET __attribute__((target("dotprod")))
#elif !defined(__clang__) && __GNUC__ >= 8
#define RV__DOTPROD_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#elif defined(__wasm_simd128__)
#define RV__WASM 1
#include <wasm_simd128.h>
#endif

/* AMX needs a compiler that knows it (gcc 11, clang 12), 64 bits, and Linux's consent. */
#if defined(RV__X86) && defined(__x86_64__) && defined(__linux__) && defined(__LP64__) &&          \
    ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define RV__AMX 1
#define RV__BARRIER() __asm__ __volatile__("" : : : "memory")
#endif

#if defined(__GNUC__)
#define RV__TARGET(features) __attribute__((target(features)))
#else
#define RV__TARGET(features)
#endif

/* Row types and operations: the values of rv_dtype and rv_metric, which are declared above this
   part. DOT is the plain sum of products. */
enum {
    RV__TYPE_F32,
    RV__TYPE_F16,
    RV__TYPE_BF16,
    RV__TYPE_I8,
    RV__TYPE_U1, /* has operations of its own */
    RV__TYPE_U8,
    RV__TYPES
};
enum { RV__OP_L2, RV__OP_IP, RV__OP_COSINE, RV__OP_L1, RV__OP_LINF, RV__OPS, RV__OP_DOT };
enum { RV__INT_DOT, RV__INT_L2, RV__INT_L1, RV__INT_DOT_U8, RV__INT_L2_U8, RV__INT_L1_U8 };
enum { RV__CODE_I8, RV__CODE_U4, RV__CODE_U1 };
enum { RV__GNN_PART, RV__GNN_WHOLE, RV__GNN_PAIR };
enum { RV__FUN_EXP, RV__FUN_LOG, RV__FUN_TANH, RV__FUN_SIGMOID, RV__FUN_ERF };

#if defined(__GNUC__)
#define RV__PREFETCH_FAR(p) __builtin_prefetch((p), 0, 2)
#elif defined(RV__X86)
#define RV__PREFETCH_FAR(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#else
#define RV__PREFETCH_FAR(p) ((void)(p))
#endif

#define RV__GEMM_DEPTH 256u /* k walked per packed panel, which stays in the second-level cache */
#define RV__ATTN_KEYS 64u    /* keys of a tile of attention */
#define RV__COLS_MAX 64u    /* widest tile */
#define RV__SCAN_DIM 4096u  /* longest rows of bfloat16 that scans take four at a time         */
#define RV__SCAN_CACHE 32768u /* bytes of rows that are taken to be in the first-level cache   */

/* Rows whose elements scans take in another order, even places first. */
#define RV__HALVES(type) (RV__LANES > 1 && (type) == RV__TYPE_BF16)

/* One query against rows; distances are final: cosine finished, dot product negated, no square
   root. query: float[dim], or bits. stride in bytes. ids NULL: rows 0..n-1; else the rows named,
   prefetched ahead; no other row is touched. */
typedef void (*rv__scan_fn)(const void *query, const unsigned char *rows, size_t stride,
                            const uint32_t *ids, size_t n, size_t dim, float *out);

/* Exact integer dot products of a signed byte query with packed rows; see rv__kernels. */
typedef void (*rv__dot_scan_fn)(const int8_t *query, const unsigned char *rows, size_t stride,
                                const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out);

typedef struct rv__kernels {
    rv_isa isa;
    rv__scan_fn scan[RV__OPS][RV__TYPES]; /* NULL for U1 */
    rv__scan_fn scan_hamming, scan_jaccard;
    rv__scan_fn scan_dot_f32;
    float (*pair_f32[RV__OPS])(const float *a, const float *b, size_t n);
    float (*pair_u16[2][RV__OPS])(const uint16_t *a, const uint16_t *b, size_t n); /* f16, bf16 */
    float (*dot_f32)(const float *a, const float *b, size_t n); /* not negated */
    float (*dot_u16[2])(const uint16_t *a, const uint16_t *b, size_t n);
    void (*parts_f32)(const float *a, const float *b, size_t n, float *sums); /* ab, aa, bb */

    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);
    int32_t (*l2sq_i8)(const int8_t *a, const int8_t *b, size_t n);
    int32_t (*l1_i8)(const int8_t *a, const int8_t *b, size_t n);
    int32_t (*linf_i8)(const int8_t *a, const int8_t *b, size_t n);
    void (*cosine_i8)(const int8_t *a, const int8_t *b, size_t n, int32_t *out); /* ab, aa, bb */
    uint32_t (*dot_u8)(const uint8_t *a, const uint8_t *b, size_t n);
    uint32_t (*l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n);
    uint32_t (*l1_u8)(const uint8_t *a, const uint8_t *b, size_t n);
    uint32_t (*linf_u8)(const uint8_t *a, const uint8_t *b, size_t n);
    void (*cosine_u8)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *out);
    /* n in bytes; counts: bits in both, in either */
    uint32_t (*hamming)(const uint8_t *a, const uint8_t *b, size_t n);
    void (*overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts);

    /* Rows of n_bytes, a multiple of 64, at multiples of stride, any alignment (64 is fastest).
       query in -127..127, query of the elements in the order below.
       i8: int8_t[n_bytes], -128..127; query: [n_bytes].
       u4: two unsigned nibbles per byte; of each block of 64 bytes the low nibbles are elements
           0..63 and the high nibbles 64..127; query: [2 n_bytes].
       u1: bit j is byte j / 8 >> j % 8; query: [8 n_bytes]. */
    rv__dot_scan_fn dot_i8_scan, dot_u4_scan, dot_u1_scan;
    /* The same of elements of 8, 4 or 1 bits, made an estimate: rows begin with two floats h and g,
       under which the query is zero; out = h + terms[0] - g (terms[1] dot + terms[2]). */
    void (*estimate)(uint32_t bits, const int8_t *query, const unsigned char *rows, size_t stride,
                     const uint32_t *ids, size_t n, size_t n_bytes, const float *terms, float *out);
    /* Dot products of two sets of byte rows: pack_i8 prepares the columns, then out[i * ldo + j] =
       dot(a_i, b_(first + j)). lda, ldb, ldo in elements; n_bytes a multiple of 64; values
       -128..127. first: a multiple of 64. first + nb may exceed the number of columns up to a
       multiple of 16; what stands there is of the last one. packed: rv__gram_i8_scratch(nb,
       n_bytes) bytes, 64-byte aligned. */
    void (*pack_i8)(const int8_t *b, size_t ldb, size_t nb, size_t n_bytes, void *packed);
    void (*gram_i8)(const int8_t *a, size_t lda, size_t na, size_t first, size_t nb, size_t n_bytes,
                    int32_t *out, size_t ldo, void *packed);
    /* The same in floats, any n. scratch: rv__gram_f32_scratch() bytes, 64-byte aligned. */
    void (*gram_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb, size_t nb,
                     size_t n, float *out, size_t ldo, void *scratch);
    void (*gemm_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb, size_t nb,
                     size_t n, int accumulate, float *out, size_t ldo, void *scratch);
    /* Sums of table entries, saturating at 65535. lut: [m][16], m even. codes: per block of 32 rows
       16 m bytes, see rv__pq4_pack. out: [n_blocks * 32]. */
    void (*pq4_scan)(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks,
                     uint16_t *out);
    /* The c, lowest of equals, with the least half[c] - sum over j of x[j] turned[j * n_all + c].
       n_all a multiple of 16. */
    uint32_t (*nearest_f32)(const float *x, size_t n, const float *turned, const float *half,
                            size_t n_all);

    /* See kernels_attn.inl. */
    void (*attn_pack)(const float *keys, size_t ld, size_t n, size_t dim, float *packed);
    void (*attn_logits)(const float *q, size_t ld, size_t n, const float *packed, size_t dim,
                        float *s);
    void (*attn_soften)(float *s, size_t n, float slack, float *top, float *sum, float *out,
                        size_t ld, size_t width);
    void (*attn_weigh)(const float *q, size_t ld, size_t n, const float *packed, size_t dim,
                       float slack, float *s, float *top, float *sum, float *out, size_t width);
    void (*attn_mix)(const float *w, size_t n, const float *v, size_t ldv, size_t n_keys,
                     float *out, size_t ldo, size_t width);
    void (*attn_mix_one)(const float *w, const float *v, size_t ldv, size_t n_keys, float *out,
                         size_t width);

    void (*axpy_f32)(float alpha, const float *x, float *y, size_t n);
    void (*scale_f32)(float alpha, float *y, size_t n);
    void (*add_f32)(const float *x, float *y, size_t n);
    uint32_t (*peak_f32)(const float *x, size_t n);
    size_t (*find_below)(const float *x, size_t begin, size_t n, float bound);
    void (*line_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                     size_t n, float *line);
    void (*block_i32)(float *line, size_t ld, size_t na, size_t n, const float *h, const float *g,
                      const float *row_h, const float *row_slope, float *row_low,
                      float *column_low, size_t ldc);
    void (*order_low)(const float *row_low, const float *column_low, size_t ldc, size_t n,
                      size_t order, float *bound);
    size_t (*list_below)(const float *line, const float *bounds, float bound, size_t begin,
                         size_t n, uint32_t *out);
    void (*strike_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                       size_t n, float *limit);
    void (*widen_f16)(const uint16_t *src, float *dst, size_t n);
    void (*widen_bf16)(const uint16_t *src, float *dst, size_t n);
    void (*widen_i8)(const int8_t *src, float scale, float *dst, size_t n);
    void (*narrow_f16)(const float *src, uint16_t *dst, size_t n);
    void (*narrow_bf16)(const float *src, uint16_t *dst, size_t n);
    void (*narrow_i8)(const float *src, float scale, int8_t *dst, size_t n);
    void (*exp_f32)(const float *x, float *out, size_t n);
    void (*log_f32)(const float *x, float *out, size_t n);
    void (*tanh_f32)(const float *x, float *out, size_t n);
    void (*sigmoid_f32)(const float *x, float *out, size_t n);
    void (*erf_f32)(const float *x, float *out, size_t n);
    float (*max_f32)(const float *x, float scale, size_t n, int *nan);
    float (*exp_sum_f32)(const float *x, float scale, float top, float *out, size_t n);

    /* See kernels_gnn.inl. */
    void (*gnn_score)(const float *l, const uint32_t *ids, size_t n, const float *r, const float *a,
                      float slope, size_t heads, size_t dim, const float *edge,
                      const uint32_t *eids, float *s, size_t ld);
    void (*gnn_mix)(const float *w, size_t ld, const uint32_t *ids, size_t n, const float *v,
                    size_t heads, size_t dim, float *out);
} rv__kernels;

/* ---- shared by all instruction sets ---- */

static const float rv__lane_numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

RV__INLINE int32_t rv__bits_f32(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

RV__INLINE float rv__from_bits_f32(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

RV__INLINE int rv__is_nan(float x)
{
    return (rv__bits_f32(x) & 0x7FFFFFFF) > 0x7F800000;
}

/* x < bound; false for NaN also under -ffast-math. */
RV__INLINE int rv__below(float x, float bound)
{
    return x < bound && !rv__is_nan(x);
}

RV__INLINE uint16_t rv__load_u16(const void *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE void rv__store_u16(void *p, uint16_t x)
{
    memcpy(p, &x, sizeof x);
}

RV__INLINE float rv__load_f32(const void *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE void rv__store_f32(void *p, float x)
{
    memcpy(p, &x, sizeof x);
}

RV__INLINE uint32_t rv__load_u32(const void *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE uint64_t rv__load_u64(const void *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* The first n bytes as a word, eight at most. */
RV__INLINE uint64_t rv__load_rest(const unsigned char *p, size_t n)
{
    uint64_t x = 0;
    if (n >= 8) return rv__load_u64(p);
    if (n >= 4) x = rv__load_u32(p + n - 4);
    for (size_t i = 0; i < n % 4; i++) x = x << 8 | p[i]; /* any order: bits are counted */
    return x;
}

RV__INLINE uint32_t rv__pop64(uint64_t x)
{
    x -= (x >> 1) & 0x5555555555555555ull;
    x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
    return (uint32_t)((x * 0x0101010101010101ull) >> 56);
}

/* Arithmetic shift, whatever the compiler thinks of >> on negative numbers. */
RV__INLINE int32_t rv__sar_i32(int32_t x, unsigned n)
{
    return x < 0 ? ~(~x >> n) : x >> n;
}

/* Nearest integer, ties to even; |x| < 2^22. */
RV__INLINE int32_t rv__round_i32(float x)
{
    int32_t whole = (int32_t)x;
    float rest = x - (float)whole; /* exact */
    if (rest > 0.5f || (rest == 0.5f && (whole & 1))) return whole + 1;
    if (rest < -0.5f || (rest == -0.5f && (whole & 1))) return whole - 1;
    return whole;
}

RV__INLINE float rv__bf16_f32(uint16_t x)
{
    return rv__from_bits_f32((int32_t)((uint32_t)x << 16));
}

RV__INLINE uint16_t rv__f32_bf16(float x)
{
    uint32_t bits = (uint32_t)rv__bits_f32(x);
    if (rv__is_nan(x)) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

RV__FN float rv__f16_f32(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16, magnitude = x & 0x7FFFu, bits;
    if (magnitude >= 0x7C00u) { /* infinity, or NaN made quiet */
        bits = 0x7F800000u | (magnitude & 0x3FFu) << 13 | (magnitude > 0x7C00u ? 0x00400000u : 0u);
    } else if (magnitude >= 0x0400u) {
        bits = (magnitude << 13) + ((127u - 15u) << 23);
    } else {
        bits = (uint32_t)rv__bits_f32((float)magnitude * (1.0f / 16777216.0f)); /* exact */
    }
    return rv__from_bits_f32((int32_t)(sign | bits));
}

RV__FN uint16_t rv__f32_f16(float x)
{
    uint32_t bits = (uint32_t)rv__bits_f32(x), sign = bits >> 16 & 0x8000u, shift, rest, half;
    bits &= 0x7FFFFFFFu;
    if (bits > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (bits >> 13 & 0x3FFu));
    if (bits >= 0x47800000u) return (uint16_t)(sign | 0x7C00u); /* 65536 and up */
    if (bits < 0x33000000u) return (uint16_t)sign;              /* below half of the least value */
    if (bits < 0x38800000u) {        /* a subnormal result: shift the significand into place */
        shift = 126u - (bits >> 23); /* 14 .. 24 */
        bits = (bits & 0x007FFFFFu) | 0x00800000u;
        rest = bits & ((1u << shift) - 1u);
        half = 1u << (shift - 1);
        bits >>= shift;
        return (uint16_t)(sign | (bits + (rest > half || (rest == half && (bits & 1u)) ? 1u : 0u)));
    }
    bits -= (127u - 15u) << 23;
    return (uint16_t)(sign |
                      ((bits + 0xFFFu + (bits >> 13 & 1u)) >> 13)); /* may round up to infinity */
}

RV__INLINE int8_t rv__f32_i8(float x)
{
    if (rv__is_nan(x)) return 0;
    return (int8_t)rv__round_i32(x > 127.0f ? 127.0f : x < -127.0f ? -127.0f : x);
}

/* Fetches all lines of a row into the second-level cache. The first level has too few buffers for
   all that is on its way: random rows of 256 bytes take 47 ns through it, 37 ns so. */
RV__INLINE void rv__touch(const unsigned char *p, size_t bytes)
{
    const unsigned char *end = p + bytes;
    if (bytes == 0) return;
    for (; p < end; p += RV__LINE) RV__PREFETCH_FAR(p);
    if (((uintptr_t)p ^ (uintptr_t)(end - 1)) < RV__LINE)
        RV__PREFETCH_FAR(end - 1); /* p is past a line */
}

/* 2^x for x <= 0, 0 below -126. */
RV__INLINE float rv__exp2_f32(float x)
{
    return x < -126.0f ? 0.0f : (float)pow(2.0, (double)x);
}

RV__INLINE float rv__estimate(const unsigned char *row, int32_t dot, const float *terms)
{
    float head[2];
    memcpy(head, row, sizeof head);
    return head[0] + terms[0] - head[1] * (terms[1] * (float)dot + terms[2]);
}

/* Rows a gather fetches ahead of the four it works on: 32, of long rows as many as leave room in
   the second-level cache. */
RV__INLINE size_t rv__rows_ahead(size_t bytes)
{
    size_t rows = 49152u / (bytes + 1);
    return rows < 4 ? 4 : rows > 32 ? 32 : rows;
}

RV__INLINE float rv__jaccard_finish(uint32_t both, uint32_t either)
{
    return either ? 1.0f - (float)both / (float)either : 0.0f;
}

/* Bytes of one element of a row of a type other than bits. */
RV__INLINE size_t rv__type_bytes(int type)
{
    return type == RV__TYPE_F32 ? 4u : type == RV__TYPE_I8 || type == RV__TYPE_U8 ? 1u : 2u;
}

RV__FN double rv__element(int type, const unsigned char *p, size_t i, float scale)
{
    float x;
    switch (type) {
    case RV__TYPE_F16: return (double)rv__f16_f32(rv__load_u16(p + 2 * i));
    case RV__TYPE_BF16: return (double)rv__bf16_f32(rv__load_u16(p + 2 * i));
    case RV__TYPE_I8: return (double)((const int8_t *)p)[i] * (double)scale;
    case RV__TYPE_U8: return (double)p[i];
    default: memcpy(&x, p + 4 * i, sizeof x); return (double)x;
    }
}

RV__INLINE float rv__cosine_clamp(float cosine)
{
    float d = 1.0f - cosine;
    return d < 0.0f ? 0.0f : d > 2.0f ? 2.0f : d; /* NaN stays */
}

RV__INLINE int rv__finite_f64(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 0x7FFu) != 0x7FFu;
}

/* In double, for squares that leave the range of floats, and for zero vectors. */
RV__FN float rv__cosine_wide(int ta, int tb, const unsigned char *a, const unsigned char *b,
                             float scale, size_t n)
{
    double ab = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        double x = rv__element(ta, a, i, scale), y = rv__element(tb, b, i, scale);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if (!rv__finite_f64(ab) || !rv__finite_f64(aa) || !rv__finite_f64(bb)) {
        return rv__nan();
    }
    if (aa == 0.0 || bb == 0.0) return aa == bb ? 0.0f : 1.0f;
    return rv__cosine_clamp((float)(ab / (sqrt(aa) * sqrt(bb))));
}

/* 1 - cos from the sums; ab and bb are still without the scale of I8 rows. Two zero vectors: 0,
   exactly one: 1. */
RV__INLINE float rv__cosine_finish(int ta, int tb, const unsigned char *a, const unsigned char *b,
                                   float scale, size_t n, float ab, float aa, float bb)
{
    if (tb == RV__TYPE_I8 && !(scale > 1e-30f && scale < 1e30f)) bb = 0.0f; /* the scale matters */
    if (aa > 1e-30f && aa < 1e37f && bb > 1e-30f && bb < 1e37f) {
        return rv__cosine_clamp(ab / (sqrtf(aa) * sqrtf(bb)));
    }
    return rv__cosine_wide(ta, tb, a, b, scale, n);
}

/* ---- expansions ---- */

#include "simd_scalar.inl"
#include "kernels_float.inl"
#include "kernels_array.inl"
#include "kernels_graph.inl"
#include "kernels_tile.inl"
#include "kernels_attn.inl"
#include "kernels_gnn.inl"
#include "kernels_int.inl"
#include "kernels_code.inl"
#include "kernels_bits.inl"
#include "simd_end.inl"

#if defined(RV__X86)
#include "simd_avx2.inl"
#include "kernels_float.inl"
#include "kernels_array.inl"
#include "kernels_graph.inl"
#include "kernels_tile.inl"
#include "kernels_attn.inl"
#include "kernels_gnn.inl"
#include "kernels_int.inl"
#include "kernels_code.inl"
#include "kernels_bits.inl"
#include "simd_end.inl"

#include "simd_avx512.inl"
#include "kernels_float.inl"
#include "kernels_array.inl"
#include "kernels_graph.inl"
#include "kernels_tile.inl"
#include "kernels_attn.inl"
#include "kernels_gnn.inl"
#include "kernels_int.inl"
#include "kernels_code.inl"
#include "kernels_bits.inl"
#include "simd_end.inl"

#define RV__VNNI 1
#include "simd_avx512.inl"
#include "kernels_int.inl"
#include "kernels_code.inl"
#include "simd_end.inl"

#define RV__POPCNT512 1
#include "simd_avx512.inl"
#include "kernels_bits.inl"
#include "simd_end.inl"

#include "simd_bf16.inl"
#if defined(RV__AMX)
#include "simd_amx.inl"
#else
#define rv__pack_i8_amx rv__pack_i8_avx512vnni
#define rv__gram_i8_amx rv__gram_i8_avx512vnni
#endif
#endif

#if defined(RV__NEON)
#include "simd_neon.inl"
#include "kernels_float.inl"
#include "kernels_array.inl"
#include "kernels_graph.inl"
#include "kernels_tile.inl"
#include "kernels_attn.inl"
#include "kernels_gnn.inl"
#include "kernels_int.inl"
#include "kernels_code.inl"
#include "kernels_bits.inl"
#include "simd_end.inl"

#if defined(RV__DOTPROD_TARGET)
#define RV__DOTPROD 1
#include "simd_neon.inl"
#include "kernels_int.inl"
#include "kernels_code.inl"
#include "simd_end.inl"
#endif
#endif

#if defined(RV__WASM)
#include "simd_wasm.inl"
#include "kernels_float.inl"
#include "kernels_array.inl"
#include "kernels_graph.inl"
#include "kernels_tile.inl"
#include "kernels_attn.inl"
#include "kernels_gnn.inl"
#include "kernels_int.inl"
#include "kernels_code.inl"
#include "kernels_bits.inl"
#include "simd_end.inl"
#endif

/* ---- tables ---- */

#define RV__SCAN_ROW(op, F)                                                                        \
    {rv__scan_##op##_f32_##F, rv__scan_##op##_f16_##F, rv__scan_##op##_bf16_##F,                   \
     rv__scan_##op##_i8_##F,  NULL,                    rv__scan_##op##_u8_##F}
#define RV__PAIR_ROW(type, F)                                                                      \
    {rv__pair_l2_##type##_##F, rv__pair_ip_##type##_##F, rv__pair_cosine_##type##_##F,             \
     rv__pair_l1_##type##_##F, rv__pair_linf_##type##_##F}
/* Float kernels of F, integer kernels of I, bit kernels of B, bfloat16 pairs of H. */
#define RV__TABLE(isa, F, I, B, H, G)                                                              \
    {isa,                                                                                          \
     {RV__SCAN_ROW(l2, F), RV__SCAN_ROW(ip, F), RV__SCAN_ROW(cosine, F), RV__SCAN_ROW(l1, F),      \
      RV__SCAN_ROW(linf, F)},                                                                      \
     rv__scan_hamming_##B,                                                                         \
     rv__scan_jaccard_##B,                                                                         \
     rv__scan_dot_f32_##F,                                                                         \
     RV__PAIR_ROW(f32, F),                                                                         \
     {RV__PAIR_ROW(f16, F), RV__PAIR_ROW(bf16, H)},                                                \
     rv__pair_dot_f32_##F,                                                                         \
     {rv__pair_dot_f16_##F, rv__pair_dot_bf16_##H},                                                \
     rv__parts_f32_##F,                                                                            \
     rv__dot_i8_##I,                                                                               \
     rv__l2sq_i8_##I,                                                                              \
     rv__l1_i8_##I,                                                                                \
     rv__linf_i8_##I,                                                                              \
     rv__cosine_i8_##I,                                                                            \
     rv__dot_u8_##I,                                                                               \
     rv__l2sq_u8_##I,                                                                              \
     rv__l1_u8_##I,                                                                                \
     rv__linf_u8_##I,                                                                              \
     rv__cosine_u8_##I,                                                                            \
     rv__hamming_##B,                                                                              \
     rv__overlap_##B,                                                                              \
     rv__dot_i8_scan_##I,                                                                          \
     rv__dot_u4_scan_##I,                                                                          \
     rv__dot_u1_scan_##I,                                                                          \
     rv__estimate_##I,                                                                             \
     rv__pack_i8_##G,                                                                              \
     rv__gram_i8_##G,                                                                              \
     rv__gram_f32_##F,                                                                             \
     rv__gemm_f32_##F,                                                                             \
     rv__pq4_scan_##I,                                                                             \
     rv__nearest_f32_##I,                                                                          \
     rv__attn_pack_##F,                                                                            \
     rv__attn_logits_##F,                                                                          \
     rv__attn_soften_##F,                                                                          \
     rv__attn_weigh_##F,                                                                           \
     rv__attn_mix_##F,                                                                             \
     rv__attn_mix_one_##F,                                                                         \
     rv__axpy_f32_##F,                                                                             \
     rv__scale_f32_##F,                                                                            \
     rv__add_f32_##F,                                                                              \
     rv__peak_f32_##F,                                                                             \
     rv__find_below_##F,                                                                           \
     rv__line_i32_##F,                                                                             \
     rv__block_i32_##F,                                                                            \
     rv__order_low_##F,                                                                            \
     rv__list_below_##F,                                                                           \
     rv__strike_i32_##F,                                                                           \
     rv__widen_f16_##F,                                                                            \
     rv__widen_bf16_##F,                                                                           \
     rv__widen_i8_##F,                                                                             \
     rv__narrow_f16_##F,                                                                           \
     rv__narrow_bf16_##F,                                                                          \
     rv__narrow_i8_##F,                                                                            \
     rv__exp_f32_##F,                                                                              \
     rv__log_f32_##F,                                                                              \
     rv__tanh_f32_##F,                                                                             \
     rv__sigmoid_f32_##F,                                                                          \
     rv__erf_f32_##F,                                                                              \
     rv__max_f32_##F,                                                                              \
     rv__exp_sum_f32_##F,                                                                          \
     rv__gnn_score_##F,                                                                            \
     rv__gnn_mix_##F}

static const rv__kernels rv__kernels_scalar =
    RV__TABLE(RV_ISA_SCALAR, scalar, scalar, scalar, scalar, scalar);
#if defined(RV__X86)
static const rv__kernels rv__kernels_avx2 = RV__TABLE(RV_ISA_AVX2, avx2, avx2, avx2, avx2, avx2);
#define RV__TABLE_512(I, B, H, G) RV__TABLE(RV_ISA_AVX512, avx512, I, B, H, G)
/* Index: VNNI 1, VPOPCNTDQ 2, BF16 4; and 8 for AMX, whose processors have all of them. */
static const rv__kernels rv__kernels_avx512[9] = {
    RV__TABLE_512(avx512, avx512, avx512, avx512),
    RV__TABLE_512(avx512vnni, avx512, avx512, avx512vnni),
    RV__TABLE_512(avx512, avx512pop, avx512, avx512),
    RV__TABLE_512(avx512vnni, avx512pop, avx512, avx512vnni),
    RV__TABLE_512(avx512, avx512, avx512bf16, avx512),
    RV__TABLE_512(avx512vnni, avx512, avx512bf16, avx512vnni),
    RV__TABLE_512(avx512, avx512pop, avx512bf16, avx512),
    RV__TABLE_512(avx512vnni, avx512pop, avx512bf16, avx512vnni),
    RV__TABLE_512(avx512vnni, avx512pop, avx512bf16, amx),
};
#endif

#if defined(RV__NEON)
static const rv__kernels rv__kernels_neon[] = {
    RV__TABLE(RV_ISA_NEON, neon, neon, neon, neon, neon),
#if defined(RV__DOTPROD_TARGET)
    RV__TABLE(RV_ISA_NEON, neon, neondot, neon, neon, neondot),
#endif
};
#endif
#if defined(RV__WASM)
static const rv__kernels rv__kernels_wasm = RV__TABLE(RV_ISA_WASM, wasm, wasm, wasm, wasm, wasm);
#endif

/* ---- detection ---- */

#if defined(RV__X86)
static void rv__cpuid(uint32_t leaf, uint32_t sub, uint32_t regs[4])
{
#if defined(_MSC_VER) && !defined(__clang__)
    int r[4];
    __cpuidex(r, (int)leaf, (int)sub);
    for (int i = 0; i < 4; i++) regs[i] = (uint32_t)r[i];
#else
    regs[0] = regs[1] = regs[2] = regs[3] = 0;
    (void)__get_cpuid_count(leaf, sub, &regs[0], &regs[1], &regs[2], &regs[3]);
#endif
}

/* Which register files the operating system saves. */
static uint64_t rv__xcr0(void)
{
#if defined(_MSC_VER) && !defined(__clang__)
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
#endif
}

#if defined(RV__AMX)
/* Linux lets a process use tile registers after it has asked: arch_prctl(ARCH_REQ_XCOMP_PERM,
   XFEATURE_XTILEDATA). A raw call, because the C library may lack a wrapper. */
static int rv__amx_allowed(void)
{
    long result;
    __asm__ __volatile__("syscall"
                         : "=a"(result)
                         : "a"(158L), "D"(0x1023L), "S"(18L)
                         : "rcx", "r11", "memory");
    return result == 0;
}
#endif

static rv_isa rv__detect(uint32_t *features)
{
    uint32_t one[4], seven[4], more[4];
    uint64_t saved;
    *features = 0;
    rv__cpuid(1, 0, one);
    if (!(one[2] & 1u << 27)) return RV_ISA_SCALAR; /* OSXSAVE */
    saved = rv__xcr0();
    rv__cpuid(7, 0, seven);
    if ((saved & 6u) != 6u || !(one[2] & 1u << 12) || !(one[2] & 1u << 29) ||
        !(seven[1] & 1u << 5)) {
        return RV_ISA_SCALAR; /* ymm state, FMA, F16C, AVX2 */
    }
    if ((saved & 0xE6u) != 0xE6u || (seven[1] & 0xC0030000u) != 0xC0030000u) return RV_ISA_AVX2;
    rv__cpuid(7, 1, more);
    if (seven[0] < 1) more[0] = 0;
    if (seven[2] & 1u << 11) *features |= RV_FEATURE_VNNI;
    if (seven[2] & 1u << 14) *features |= RV_FEATURE_POPCNT512;
    if (seven[3] & 1u << 23) *features |= RV_FEATURE_FP16;
    if (more[0] & 1u << 5) *features |= RV_FEATURE_BF16;
#if defined(RV__AMX)
    if ((seven[3] & 3u << 24) == 3u << 24 && (saved & 3u << 17) == 3u << 17 && rv__amx_allowed()) {
        *features |= RV_FEATURE_AMX_INT8;
    }
#endif
    return RV_ISA_AVX512;
}

static const rv__kernels *rv__kernels_detect(void)
{
    uint32_t features;
    rv_isa isa = rv__detect(&features);
    if (isa == RV_ISA_AVX512) {
        size_t i = (features & RV_FEATURE_VNNI ? 1u : 0u) +
                   (features & RV_FEATURE_POPCNT512 ? 2u : 0u) +
                   (features & RV_FEATURE_BF16 ? 4u : 0u);
        if (i == 7 && (features & RV_FEATURE_AMX_INT8)) i = 8;
        return &rv__kernels_avx512[i];
    }
    return isa == RV_ISA_AVX2 ? &rv__kernels_avx2 : &rv__kernels_scalar;
}
#elif defined(RV__NEON)
static rv_isa rv__detect(uint32_t *features)
{
    *features = 0;
#if defined(__linux__)
    {
        unsigned long have = getauxval(AT_HWCAP);
        if (have & 1ul << 10) *features |= RV_FEATURE_NEON_FP16; /* HWCAP_ASIMDHP */
        if (have & 1ul << 20) *features |= RV_FEATURE_DOTPROD;   /* HWCAP_ASIMDDP */
    }
#elif defined(__ARM_FEATURE_DOTPROD)
    *features |= RV_FEATURE_DOTPROD;
#endif
    return RV_ISA_NEON;
}

static const rv__kernels *rv__kernels_detect(void)
{
    uint32_t features;
    (void)rv__detect(&features);
#if defined(RV__DOTPROD_TARGET)
    if (features & RV_FEATURE_DOTPROD) return &rv__kernels_neon[1];
#endif
    return &rv__kernels_neon[0];
}
#else
static rv_isa rv__detect(uint32_t *features)
{
    *features = 0;
#if defined(RV__WASM)
    return RV_ISA_WASM;
#else
    return RV_ISA_SCALAR;
#endif
}

static const rv__kernels *rv__kernels_detect(void)
{
#if defined(RV__WASM)
    return &rv__kernels_wasm;
#else
    return &rv__kernels_scalar;
#endif
}
#endif

/* The one mutable static of the library, chosen at first use; all threads choose the same. */
static const rv__kernels *rv__kernels_best;

#if defined(__GNUC__)
__attribute__((cold, noinline))
#endif
static const rv__kernels *rv__kernels_choose(void)
{
    const rv__kernels *best = rv__kernels_detect();
    RV__STORE_PTR(&rv__kernels_best, best);
    return best;
}

/* The best table. In line and without a call on the way, so that a public function that only passes
   its arguments on is a load, a test and a jump: calls took a sixth of a pair of 96 floats. */
RV__INLINE const rv__kernels *rv__kernels_now(void)
{
    const rv__kernels *best = RV__LOAD_PTR(&rv__kernels_best);
    return RV__UNLIKELY(!best) ? rv__kernels_choose() : best;
}

RV__FN const rv__kernels *rv__kernels_for(rv_isa isa)
{
    const rv__kernels *best = rv__kernels_now();
    if (isa == RV_ISA_BEST || isa >= best->isa) return best;
#if defined(RV__X86)
    if (isa == RV_ISA_AVX2) return &rv__kernels_avx2;
#endif
    return &rv__kernels_scalar;
}

/* For tests: further tables that can run here, at most 8 (sub-features switched off). */
RV__FN size_t rv__kernels_more(const rv__kernels **list)
{
#if defined(RV__X86)
    const rv__kernels *best = rv__kernels_for(RV_ISA_BEST);
    size_t n = 0;
    if (best->isa != RV_ISA_AVX512) return 0;
    for (size_t i = 0; i < 8; i++) {
        size_t have = (size_t)(best - rv__kernels_avx512);
        if (have == 8 || ((i & have) == i && i != have)) list[n++] = &rv__kernels_avx512[i];
    }
    return n;
#elif defined(RV__NEON) && defined(RV__DOTPROD_TARGET)
    if (rv__kernels_for(RV_ISA_BEST) != &rv__kernels_neon[1]) return 0;
    list[0] = &rv__kernels_neon[0];
    return 1;
#else
    (void)list;
    return 0;
#endif
}

RV_API rv_isa rv_isa_resolve(rv_isa isa)
{
    return rv__kernels_for(isa)->isa;
}

RV_API const char *rv_isa_name(rv_isa isa)
{
    static const char *const names[] = {"best", "scalar", "avx2", "avx512", "neon", "wasm"};
    return (unsigned)isa < sizeof names / sizeof names[0] ? names[(unsigned)isa] : "unknown";
}

RV_API uint32_t rv_features(void)
{
    uint32_t features;
    (void)rv__detect(&features);
    return features;
}

/* ---- sizes and layouts that go with the kernels ---- */

/* Some rows of A (six at two bytes per element, or 32) and the columns of B, rounded up to tiles,
   at two bytes per element. */
RV__FN size_t rv__gram_i8_scratch(size_t nb, size_t n_bytes)
{
    return rv__mul(rv__add(rv__round_up(nb, RV__COLS_MAX), 16), rv__mul(n_bytes, 2));
}

RV__FN size_t rv__gram_f32_scratch(void)
{
    return RV__COLS_MAX * RV__GEMM_DEPTH * sizeof(float);
}

/* codes: [32][m], values 0..15, m even. block: 16 m bytes, of which 16 s .. 16 s + 15 belong to
   sub-quantizer s: byte i holds the code of row i in its low half and that of row i + 16 in its
   high half. Tables and codes of neighbouring sub-quantizers thus lie in neighbouring lanes of a
   wide register in both arrays, and a byte shuffle per lane does the look-up.
   Source: Andre, Kermarrec, Le Scouarnec, Accelerated Nearest Neighbor Search with Quick ADC,
   2017. */
RV__FN void rv__pq4_pack(const uint8_t *codes, size_t m, uint8_t *block)
{
    for (size_t s = 0; s < m; s++) {
        for (size_t i = 0; i < 16; i++) {
            block[16 * s + i] =
                (uint8_t)((codes[i * m + s] & 15u) | (codes[(i + 16) * m + s] & 15u) << 4);
        }
    }
}

#undef RV__X86
#undef RV__NEON
#undef RV__WASM
#undef RV__DOTPROD_TARGET
#undef RV__AMX
#undef RV__BARRIER
#undef RV__TARGET
#undef RV__PREFETCH_FAR
#undef RV__GEMM_DEPTH
#undef RV__COLS_MAX
#undef RV__SCAN_DIM
#undef RV__SCAN_CACHE
#undef RV__HALVES
#undef RV__SCAN_ROW
#undef RV__PAIR_ROW
#undef RV__TABLE
#undef RV__TABLE_512

#undef rv__pair_l2_bf16_avx512bf16
#undef rv__pair_l1_bf16_avx512bf16
#undef rv__pair_linf_bf16_avx512bf16

#endif /* RV_SIMD_C */
