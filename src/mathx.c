#ifndef RV_MATHX_C
#define RV_MATHX_C
#include "mathx.h"
#include "base.c"
#include "simd.c"

/* Elementary functions, softmax, and dense products over the kernels; and a few scalar functions
   for the rest of the library, so that nothing but sqrt and floor comes from the C library. */

RV_API void rv_exp_f32(const float *x, float *out, size_t n)
{
    rv__kernels_now()->exp_f32(x, out, n);
}

RV_API void rv_log_f32(const float *x, float *out, size_t n)
{
    rv__kernels_now()->log_f32(x, out, n);
}

RV_API void rv_tanh_f32(const float *x, float *out, size_t n)
{
    rv__kernels_now()->tanh_f32(x, out, n);
}

RV_API void rv_sigmoid_f32(const float *x, float *out, size_t n)
{
    rv__kernels_now()->sigmoid_f32(x, out, n);
}

RV_API void rv_erf_f32(const float *x, float *out, size_t n)
{
    rv__kernels_now()->erf_f32(x, out, n);
}

RV__FN void rv__softmax(const rv__kernels *k, const float *x, float scale, float *out, size_t n)
{
    int nan = 0;
    float top, sum;
    if (n == 0) return;
    top = k->max_f32(x, scale, n, &nan);
    if (nan || rv__bits_f32(top) == 0x7F800000) { /* infinity minus infinity */
        for (size_t i = 0; i < n; i++) out[i] = rv__nan();
        return;
    }
    if (!rv__finite_f32(top)) {
        memset(out, 0, n * sizeof *out);
        return;
    }
    sum = k->exp_sum_f32(x, scale, top, out, n);
    k->scale_f32(1.0f / sum, out, n);
}

RV_API void rv_softmax_f32(const float *x, float scale, float *out, size_t n)
{
    rv__softmax(rv__kernels_now(), x, scale, out, n);
}

/* ---- dense products ---- */

RV_API void rv_gemv_f32(const float *a, size_t lda, const float *x, size_t m, size_t n, float *y)
{
    if (lda == 0) lda = n;
    rv__kernels_now()->scan_dot_f32(x, (const unsigned char *)a, 4 * lda, NULL, m, n, y);
}

#define RV__MATHX_ROWS 192u /* most rows and columns of C that one body of the parallel loop  */
#define RV__MATHX_COLS 512u /* computes; of long rows fewer, ...                              */
#define RV__MATHX_WORK 30000000u /* ... so many products: about a millisecond                 */

typedef struct rv__mathx_gemm {
    const rv__kernels *kernels;
    const float *a, *b;
    size_t lda, ldb, ldc, m, n, k, n_blocks, rows, cols;
    int accumulate;
    float *c;
    unsigned char *scratch; /* one packed panel per lane */
} rv__mathx_gemm;

static void rv__mathx_gemm_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__mathx_gemm *g = (const rv__mathx_gemm *)arg;
    void *scratch = g->scratch + lane * rv__gram_f32_scratch();
    for (size_t block = begin; block < end; block++) {
        size_t i = block / g->n_blocks * g->rows, j = block % g->n_blocks * g->cols;
        size_t rows = g->m - i < g->rows ? g->m - i : g->rows;
        size_t cols = g->n - j < g->cols ? g->n - j : g->cols;
        g->kernels->gemm_f32(g->a + i * g->lda, g->lda, rows, g->b + j * g->ldb, g->ldb, cols, g->k,
                             g->accumulate, g->c + i * g->ldc + j, g->ldc, scratch);
    }
}

RV_API rv_status rv_gemm_nt_f32(rv_ctx *ctx, const float *a, size_t lda, const float *b, size_t ldb,
                                size_t m, size_t n, size_t k, int accumulate, float *c, size_t ldc)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__mathx_gemm g;
    size_t lanes = rv__lanes(ctx), m_blocks;
    rv_status status;
    g.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    g.a = a;
    g.b = b;
    g.c = c;
    g.lda = lda ? lda : k;
    g.ldb = ldb ? ldb : k;
    g.ldc = ldc ? ldc : n;
    g.m = m;
    g.n = n;
    g.k = k;
    g.accumulate = accumulate;
    if (m == 0 || n == 0) return rv__ok(ctx);
    g.rows = RV__MATHX_ROWS;
    g.cols = RV__MATHX_COLS;
    while (g.cols > 64 && k > RV__MATHX_WORK / (g.rows * g.cols)) g.cols /= 2;
    while (g.rows > 24 && k > RV__MATHX_WORK / (g.rows * g.cols)) g.rows /= 2;
    m_blocks = (m + g.rows - 1) / g.rows;
    g.n_blocks = (n + g.cols - 1) / g.cols;
    g.scratch = (unsigned char *)rv__get(&alloc, lanes, rv__gram_f32_scratch());
    if (!g.scratch) return rv__no_memory(ctx, lanes * rv__gram_f32_scratch());
    status = rv__parallel_for(ctx, m_blocks * g.n_blocks, 1,
                              1 + RV__MATHX_WORK / (g.rows * g.cols) / (k + 16),
                              rv__mathx_gemm_range, &g);
    rv__put(&alloc, g.scratch, lanes, rv__gram_f32_scratch());
    return status ? status : rv__ok(ctx);
}

/* ---- scalar functions for the library ---- */

RV__FN float rv__expf(float x)
{
    return rv__v_exp_scalar(x);
}

RV__FN float rv__logf(float x)
{
    return rv__v_log_scalar(x);
}

/* By bits: comparisons with NaN mean nothing under -ffast-math. */
static int rv__mathx_is_nan(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7FFFFFFFFFFFFFFFull) > 0x7FF0000000000000ull;
}

/* Keeps -ffast-math from merging what stands on either side. */
static double rv__mathx_keep(double x)
{
#if defined(__FAST_MATH__) && defined(__GNUC__)
    __asm__("" : "+m"(x));
#endif
    return x;
}

/* 2^n, n in -1022 .. 1023. */
static double rv__mathx_pow2(int n)
{
    uint64_t bits = (uint64_t)(1023 + n) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x = n ln 2 + r; the Taylor polynomial of degree 13 for |r| <= ln 2 / 2. Error below 2 ulp. */
RV__FN double rv__exp(double x)
{
    double f, r, p = 1.0;
    int n;
    if (rv__mathx_is_nan(x)) return x;
    if (x > 709.79) return (double)rv__infinity();
    if (x < -745.2) return 0.0;
    f = floor(x * 1.4426950408889634 + 0.5);
    n = (int)f;
    r = rv__mathx_keep(x - f * 6.93147180369123816490e-01) - f * 1.90821492927058770002e-10;
    for (int k = 13; k > 0; k--) p = 1.0 + p * r / (double)k;
    return p * rv__mathx_pow2(n / 2) * rv__mathx_pow2(n - n / 2);
}

/* atanh(s) / s - 1 for |s| < 0.172. */
static double rv__mathx_atanh_rest(double s)
{
    double z = s * s, sum = 0.0;
    for (int k = 23; k >= 3; k -= 2) sum = (sum + 1.0 / (double)k) * z;
    return sum;
}

/* x = 2^e m, m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m - 1) / (m + 1)). Error below 2 ulp. */
RV__FN double rv__log(double x)
{
    uint64_t bits;
    double s;
    int e = 0;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFFFFFFFFFFull) == 0) return -(double)rv__infinity();
    if (bits >> 63 || (bits >> 52 & 0x7FFu) == 0x7FFu) { /* negative, infinite, NaN */
        return bits == 0x7FF0000000000000ull ? x : (double)rv__nan();
    }
    if (bits >> 52 == 0) {
        x *= 18014398509481984.0; /* 2^54 */
        memcpy(&bits, &x, sizeof bits);
        e = -54;
    }
    e += (int)(bits >> 52) - 1023;
    bits = (bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    memcpy(&x, &bits, sizeof x);
    if (x > 1.4142135623730951) {
        x *= 0.5;
        e++;
    }
    s = (x - 1.0) / (x + 1.0);
    return (double)e * 6.93147180369123816490e-01 +
           rv__mathx_keep(2.0 * s +
                          rv__mathx_keep(2.0 * s * rv__mathx_atanh_rest(s) +
                                         (double)e * 1.90821492927058770002e-10));
}

/* Sine and cosine for |x| <= 2^20, absolute error below 2^-52; NaN and larger x give NaN. x is
   reduced by multiples of pi / 2 in three parts; Taylor polynomials on |r| <= pi / 4. */
RV__FN void rv__sincos(double x, double *sine, double *cosine)
{
    double f, r, z, s = 1.0, c = 1.0;
    int quadrant;
    if (!rv__finite_f64(x) || x < -1048576.0 || x > 1048576.0) {
        *sine = *cosine = (double)rv__nan();
        return;
    }
    f = floor(x * 0.63661977236758134 + 0.5);
    r = rv__mathx_keep(x - f * 1.57079632673412561417e+00);
    r = rv__mathx_keep(r - f * 6.07710050630396597660e-11) - f * 2.02226624879595063154e-21;
    z = r * r;
    for (int k = 18; k > 0; k -= 2) {
        s = 1.0 - s * z / (double)(k * (k + 1));
        c = 1.0 - c * z / (double)(k * (k - 1));
    }
    s *= r;
    quadrant = (int)(f - 4.0 * floor(f * 0.25));
    *sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}

/* log(1 + x), x >= -1. Error below 4 ulp. */
RV__FN double rv__log1p(double x)
{
    double s;
    if (!(x > -0.29 && x < 0.41)) return rv__log(1.0 + x);
    s = x / (2.0 + x);
    return 2.0 * s + 2.0 * s * rv__mathx_atanh_rest(s);
}

/* exp(x) - 1. Error below 4 ulp. */
RV__FN double rv__expm1(double x)
{
    double p = 1.0;
    if (!(x > -0.35 && x < 0.35)) return rv__exp(x) - 1.0;
    for (int k = 14; k > 1; k--) p = 1.0 + p * x / (double)k;
    return p * x;
}

/* For x >= 0; error below 8 ulp. */
RV__FN double rv__asinh(double x)
{
    if (x > 1e8) return rv__log(x) + 6.9314718055994530942e-01;
    return rv__log1p(x + x * x / (1.0 + sqrt(1.0 + x * x)));
}

RV__FN double rv__tanh(double x)
{
    double e;
    if (x > 20.0 || x < -20.0) return x > 0.0 ? 1.0 : -1.0;
    e = rv__expm1(2.0 * x);
    return e / (e + 2.0);
}

/* The angle of the point (x, y), y >= 0: in [0, pi]; 0 for the origin. Error below 4 ulp. */
RV__FN double rv__atan2(double y, double x)
{
    double t, z, sum = 0.0;
    if (x < 0.0) return 3.1415926535897932385 - rv__atan2(y, -x);
    if (y > x) return 1.5707963267948966192 - rv__atan2(x, y);
    if (y == 0.0) return 0.0;
    t = y / x;
    for (int half = 0; half < 2; half++) t = t / (1.0 + sqrt(1.0 + t * t)); /* at most tan(pi/16) */
    z = t * t;
    for (int k = 25; k >= 3; k -= 2) sum = (1.0 / (double)k - sum) * z;
    return 4.0 * (t - t * sum);
}

#undef RV__MATHX_ROWS
#undef RV__MATHX_COLS
#undef RV__MATHX_WORK

#endif /* RV_MATHX_C */
