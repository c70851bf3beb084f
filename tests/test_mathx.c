/* Elementary functions against mpmath, softmax, and dense products. The kernels of every
   instruction set are compared in white_simd.c. */
#include "rv_test.h"

#include "golden/mathx.h"

#define U (1.0 / 16777216.0) /* unit roundoff of float */

/* Error in units of the last place of the wanted value as a float. With -ffast-math the start-up
   code of some compilers takes subnormal numbers for zero. */
static double ulps(float got, double want)
{
    int e;
    (void)frexp(want, &e);
#if defined(__FAST_MATH__)
    if (fabs(want) < 1.1754943508222875e-38 && got == 0.0f) return 0.0;
#endif
    return fabs((double)got - want) / ldexp(1.0, (e < -125 ? -125 : e) - 24);
}

#if defined(__FAST_MATH__)
#define LEAST 1.2e-38
#else
#define LEAST 1.4e-45
#endif

typedef void (*array_fn)(const float *x, float *out, size_t n);
static const struct {
    const char *name;
    array_fn fn;
    double limit; /* as mathx.h states */
} functions[] = {
    {"exp", rv_exp_f32, 2.0},         {"log", rv_log_f32, 2.0}, {"tanh", rv_tanh_f32, 4.0},
    {"sigmoid", rv_sigmoid_f32, 4.0}, {"erf", rv_erf_f32, 8.0},
};

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_mathx); row++) {
        const size_t f = (size_t)rv_golden_mathx[row].function;
        float x[20], y[20];
#if defined(__FAST_MATH__)
        if ((rv_golden_mathx[row].x & 0x7FFFFFFFu) < 0x00800000u) continue; /* read as zero */
#endif
        for (size_t i = 0; i < 20; i++) memcpy(&x[i], &rv_golden_mathx[row].x, 4);
        functions[f].fn(x, y, 20);
        rv_test_row(functions[f].name, row);
        RV_NEAR(ulps(y[0], rv_golden_mathx[row].value), 0.0, functions[f].limit);
        RV_NEAR(ulps(y[19], rv_golden_mathx[row].value), 0.0, functions[f].limit);
        functions[f].fn(x, x, 20); /* in place */
        RV_CHECK(memcmp(x, y, sizeof x) == 0);
    }
}

/* exp and log undo each other: a relative error of 2 ulp in exp is one of 2 ulp / |x| in log. */
static void test_inverse(void)
{
    float x[64], y[64], z[64];
    for (size_t i = 0; i < 64; i++) x[i] = ((float)i - 31.5f) * 2.5f;
    rv_exp_f32(x, y, 64);
    rv_log_f32(y, z, 64);
    for (size_t i = 0; i < 64; i++) {
        rv_test_row("i", i);
        RV_NEAR((double)z[i], (double)x[i], 4 * U + 4 * U * fabs((double)x[i]));
    }
}

static void test_softmax(void)
{
    float x[17], y[18];
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_softmax); row += 17) {
        const double scale = rv_golden_softmax[row].scale;
        double sum = 0.0;
        for (size_t i = 0; i < 17; i++) x[i] = (float)rv_golden_softmax[row + i].x;
        y[17] = 3.0f;
        rv_softmax_f32(x, (float)scale, y, 17);
        rv_test_row("scale", row / 17);
        for (size_t i = 0; i < 17; i++) {
            /* exp has 2 ulp, the sum and its reciprocal a few; the arguments here are exact */
            double want = rv_golden_softmax[row + i].value;
            RV_NEAR((double)y[i], want, want * U * 16 + LEAST);
            sum += (double)y[i];
        }
        RV_NEAR(sum, 1.0, 17 * U);
        RV_CHECK(y[17] == 3.0f);
        rv_softmax_f32(x, (float)scale, x, 17); /* in place */
        RV_CHECK(memcmp(x, y, sizeof x) == 0);
    }
    rv_softmax_f32(NULL, 1.0f, NULL, 0);
}

static void test_gemv(void)
{
    float a[11 * 9], x[7], y[11];
    rv_test_rng rng;
    rv_test_seed(&rng, 1);
    rv_test_fill(&rng, a, 99);
    rv_test_fill(&rng, x, 7);
    rv_gemv_f32(a, 9, x, 11, 7, y);
    for (size_t i = 0; i < 11; i++) {
        double sum = 0.0, size = 0.0;
        for (size_t j = 0; j < 7; j++) {
            sum += (double)a[9 * i + j] * (double)x[j];
            size += fabs((double)a[9 * i + j] * (double)x[j]);
        }
        RV_NEAR((double)y[i], sum, size * U * 6);
    }
    rv_gemv_f32(a, 0, x, 0, 7, y);
    rv_gemv_f32(a, 0, x, 2, 0, y);
    RV_CHECK(y[0] == 0.0f && y[1] == 0.0f);
}

static void check_gemm(size_t m, size_t n, size_t k, size_t pad, rv_test_rng *rng)
{
    const size_t lda = k + pad, ldb = k + 2 * pad, ldc = n + pad;
    float *a = (float *)malloc(4 * (m * lda + 1)), *b = (float *)malloc(4 * (n * ldb + 1));
    float *c = (float *)malloc(4 * (m * ldc + 1));
    rv_ctx ctx;
    if (!a || !b || !c) exit(2);
    rv_test_ctx(&ctx);
    rv_test_fill(rng, a, m * lda);
    rv_test_fill(rng, b, n * ldb);
    for (size_t i = 0; i < m * ldc; i++) c[i] = 0.5f;
    for (int accumulate = 1; accumulate >= 0; accumulate--) {
        double start = accumulate ? 0.5 : 0.0;
        RV_OKAY(&ctx, rv_gemm_nt_f32(&ctx, a, pad ? lda : 0, b, pad ? ldb : 0, m, n, k, accumulate,
                                     c, pad ? ldc : 0));
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < ldc; j++) {
                double sum = start, size = start;
                for (size_t l = 0; j < n && l < k; l++) {
                    sum += (double)a[i * lda + l] * (double)b[j * ldb + l];
                    size += fabs((double)a[i * lda + l] * (double)b[j * ldb + l]);
                }
                if (j < n) RV_NEAR((double)c[i * ldc + j], sum, size * U * (3.0 + sqrt((double)k)));
                else RV_CHECK(c[i * ldc + j] == 0.5f);
            }
        }
    }
    free(a);
    free(b);
    free(c);
}

static void test_gemm(void)
{
    static const struct {
        size_t m, n, k, pad;
    } rows[] = {{0, 5, 3, 0},     {5, 0, 3, 0},    {3, 4, 0, 0},    {1, 1, 1, 0},
                {1, 70, 33, 1},   {7, 3, 64, 0},   {13, 65, 17, 3}, {6, 64, 256, 0},
                {20, 40, 300, 1}, {200, 530, 9, 0}};
    rv_test_rng rng;
    rv_test_seed(&rng, 2);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_test_row("row", i);
        check_gemm(rows[i].m, rows[i].n, rows[i].k, rows[i].pad, &rng);
    }
}

/* Any number of lanes gives the same bits. */
static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n) body(arg, --n);
}

static void test_gemm_parallel(void)
{
    enum { M = 400, N = 30, K = 20 };
    float *a = (float *)malloc(4 * M * K), *b = (float *)malloc(4 * N * K),
          *c = (float *)malloc(8 * M * N);
    rv_test_rng rng;
    rv_ctx ctx;
    if (!a || !b || !c) exit(2);
    rv_test_seed(&rng, 3);
    rv_test_fill(&rng, a, M * K);
    rv_test_fill(&rng, b, N * K);
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_gemm_nt_f32(&ctx, a, 0, b, 0, M, N, K, 0, c, 0));
    ctx.parallel = backwards;
    ctx.workers = 3;
    RV_OKAY(&ctx, rv_gemm_nt_f32(&ctx, a, 0, b, 0, M, N, K, 0, c + M * N, 0));
    RV_CHECK(memcmp(c, c + M * N, 4 * M * N) == 0);
    free(a);
    free(b);
    free(c);
}

static rv_status gemm_body(rv_ctx *ctx, void *arg)
{
    float *x = (float *)arg;
    return rv_gemm_nt_f32(ctx, x, 0, x, 0, 400, 10, 10, 0, x + 4000, 0);
}

static void test_gemm_faults(void)
{
    float *x = (float *)calloc(8000, sizeof(float));
    if (!x) exit(2);
    RV_CHECK(rv_test_oom_sweep(gemm_body, x) > 1);
    RV_CHECK(rv_test_cancel_sweep(gemm_body, x) > 1);
    RV_EQUAL(rv_gemm_nt_f32(NULL, x, 0, x, 0, 4, 4, 4, 0, x + 4000, 0), RV_OK);
    free(x);
}

int main(void)
{
    rv_test_begin("mathx");
    RV_RUN(test_golden);
    RV_RUN(test_inverse);
    RV_RUN(test_softmax);
    RV_RUN(test_gemv);
    RV_RUN(test_gemm);
    RV_RUN(test_gemm_parallel);
    RV_RUN(test_gemm_faults);
    return rv_test_end();
}
