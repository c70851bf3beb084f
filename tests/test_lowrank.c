/* Truncated SVD against numpy and known spectra; Tucker-2 by what it must keep; faults. */
#include "grid_set.h"

#include "golden/lowrank.h"

static void check_orthonormal(const float *u, size_t m, size_t k, double tolerance)
{
    for (size_t a = 0; a < k; a++) {
        for (size_t b = 0; b <= a; b++) {
            double sum = 0;
            for (size_t i = 0; i < m; i++) sum += (double)u[i * k + a] * (double)u[i * k + b];
            RV_NEAR(sum, a == b, tolerance);
        }
    }
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double gap = (double)a[i] - (double)b[i];
        sum += gap * gap;
    }
    return sqrt(sum);
}

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_svd); row++) {
        const size_t m = (size_t)rv_golden_svd[row].m, n = (size_t)rv_golden_svd[row].n;
        const size_t least = m < n ? m : n;
        float a[49], u[49], s[7], v[49], back[49];
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        grid(1, a, m * n);
        for (size_t k = 1; k <= least; k++) {
            double error = -1, tail = 0, all = 0;
            RV_OKAY(&ctx, rv_lowrank_svd(&ctx, NULL, a, m, n, k, u, s, v, &error));
            CHECK_ALL(s, rv_golden_svd[row].s, k, U);
            check_orthonormal(u, m, k, 1e-6);
            check_orthonormal(v, n, k, 1e-6);
            RV_OKAY(&ctx, rv_lowrank_restore(&ctx, u, s, v, m, n, k, back));
            if (k == (least < 2 ? least : 2)) {
                CHECK_ALL(back, rv_golden_svd[row].nearest, m * n, 8 * U);
            }
            for (size_t i = 0; i < least; i++) {
                double square = rv_golden_svd[row].s[i] * rv_golden_svd[row].s[i];
                all += square;
                tail += i >= k ? square : 0;
            }
            /* Eckart, Young: exactly what is left out */
            RV_NEAR(error, sqrt(tail), 1e-7 * sqrt(all));
            RV_NEAR(distance(a, back, m * n), sqrt(tail), 2e-6 * sqrt(all));
        }
        for (size_t c = 0; c < least; c++) { /* the peak of every left vector is positive */
            float peak = 0;
            for (size_t i = 0; i < m; i++) {
                float x = u[i * least + c];
                peak = fabsf(x) > fabsf(peak) ? x : peak;
            }
            RV_CHECK(peak > 0);
        }
    }
}

/* a = sum of values[k] h_k g_k^T with h, g rows of reflections: the spectrum is known. */
static double reflection(size_t n, size_t i, size_t j)
{
    double square = 0;
    for (size_t k = 0; k < n; k++) square += (1.0 + (double)(k % 5)) * (1.0 + (double)(k % 5));
    return (i == j) - 2.0 * (1.0 + (double)(i % 5)) * (1.0 + (double)(j % 5)) / square;
}

static void make_known(size_t m, size_t n, const double *values, size_t rank, float *a)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < rank; k++) {
                sum += values[k] * reflection(m, i, k) * reflection(n, j, k);
            }
            a[i * n + j] = (float)sum;
        }
    }
}

/* Both methods find a known spectrum; the random one on what is large for it. */
static void test_known(void)
{
    static const struct {
        size_t m, n, k;
        rv_lowrank_method method;
    } rows[] = {{40, 30, 8, RV_LOWRANK_EXACT}, {30, 40, 8, RV_LOWRANK_RANDOM},
                {90, 60, 8, RV_LOWRANK_RANDOM}, {3, 50, 3, RV_LOWRANK_RANDOM},
                {150, 140, 8, RV_LOWRANK_AUTO}};
    for (size_t t = 0; t < RV_COUNT_OF(rows); t++) {
        const size_t m = rows[t].m, n = rows[t].n, k = rows[t].k;
        float *a = (float *)malloc(2 * m * n * sizeof(float)), *back = a + m * n;
        float *u = (float *)malloc((m + n) * k * sizeof(float)), *v = u + m * k, s[8], again[8];
        double values[12], error = 0, tail = 0;
        rv_lowrank_config config;
        rv_ctx ctx;
        if (!a || !u) exit(2);
        rv_test_ctx(&ctx);
        rv_test_row("row", t);
        memset(&config, 0, sizeof config);
        config.method = rows[t].method;
        for (size_t i = 0; i < 12; i++) values[i] = pow(0.5, (double)i);
        for (size_t i = k; i < (m < 12 ? m : 12); i++) tail += values[i] * values[i];
        make_known(m, n, values, m < 12 ? m : 12, a);
        ctx.seed = 3;
        RV_OKAY(&ctx, rv_lowrank_svd(&ctx, &config, a, m, n, k, u, s, v, &error));
        CHECK_ALL(s, values, k, 2e-6);
        check_orthonormal(u, m, k, 2e-6);
        check_orthonormal(v, n, k, 2e-6);
        RV_OKAY(&ctx, rv_lowrank_restore(&ctx, u, s, v, m, n, k, back));
        RV_NEAR(distance(a, back, m * n), sqrt(tail), 1e-5);
        RV_NEAR(error, sqrt(tail), 1e-3);
        RV_OKAY(&ctx, rv_lowrank_svd(&ctx, &config, a, m, n, k, NULL, again, NULL, NULL));
        RV_CHECK(memcmp(s, again, k * sizeof *s) == 0); /* the seed decides */
        free(a);
        free(u);
    }
    RV_EQUAL(rv_lowrank_rank(NULL, 0, 0, 0.5), 0);
}

/* Less rank than asked for: zeros, and columns that are orthonormal all the same. */
static void test_degenerate(void)
{
    static const double one[] = {3.0};
    float a[20 * 15], u[20 * 6], v[15 * 6], s[6];
    rv_lowrank_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    for (int t = 0; t < 4; t++) {
        config.method = t % 2 ? RV_LOWRANK_RANDOM : RV_LOWRANK_EXACT;
        rv_test_row("turn", (size_t)t);
        if (t < 2) memset(a, 0, sizeof a);
        else make_known(20, 15, one, 1, a);
        RV_OKAY(&ctx, rv_lowrank_svd(&ctx, &config, a, 20, 15, 6, u, s, v, NULL));
        RV_NEAR(s[0], t < 2 ? 0 : 3, 1e-6);
        for (size_t i = 1; i < 6; i++) RV_NEAR(s[i], 0, 1e-6);
        check_orthonormal(u, 20, 6, 2e-6);
        check_orthonormal(v, 15, 6, 2e-6);
    }
}

static void test_rank(void)
{
    static const float s[] = {4, 2, 2, 1}; /* squares 16 4 4 1: 25 */
    RV_EQUAL(rv_lowrank_rank(s, 4, 0, 0.0), 0);
    RV_EQUAL(rv_lowrank_rank(s, 4, 0, 0.64), 1);
    RV_EQUAL(rv_lowrank_rank(s, 4, 0, 0.65), 2);
    RV_EQUAL(rv_lowrank_rank(s, 4, 0, 0.95), 3);
    RV_EQUAL(rv_lowrank_rank(s, 4, 0, 1.0), 4);
    RV_EQUAL(rv_lowrank_rank(s, 2, 25, 0.8), 2);
    RV_EQUAL(rv_lowrank_rank(s, 2, 25, 0.95), 2); /* those given do not hold it */
}

/* ---- Tucker-2 ---- */

enum { N1 = 8, N2 = 6, N3 = 5, ALL = N1 * N2 * N3 };

static void test_tucker_exact(void)
{
    float f1[N1 * 3], f2[N2 * 2], g[3 * 2 * N3], x[ALL], back[ALL], u1[N1 * 3], u2[N2 * 2];
    float core[3 * 2 * N3];
    double norm = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(1, f1, N1 * 3);
    grid(2, f2, N2 * 2);
    grid(3, g, 3 * 2 * N3);
    for (size_t i = 0; i < ALL; i++) {
        double sum = 0;
        for (size_t ab = 0; ab < 6; ab++) {
            sum += (double)f1[i / (N2 * N3) * 3 + ab / 2] * (double)f2[i / N3 % N2 * 2 + ab % 2] *
                   (double)g[ab * N3 + i % N3];
        }
        x[i] = (float)sum;
        norm += sum * sum;
    }
    RV_OKAY(&ctx, rv_lowrank_tucker2(&ctx, NULL, x, N1, N2, N3, 3, 2, u1, u2, core));
    check_orthonormal(u1, N1, 3, 2e-6);
    check_orthonormal(u2, N2, 2, 2e-6);
    RV_OKAY(&ctx, rv_lowrank_tucker2_restore(&ctx, u1, u2, core, N1, N2, N3, 3, 2, back));
    RV_NEAR(distance(x, back, ALL), 0, 2e-6 * sqrt(norm));
}

/* The error of what Tucker-2 starts from: the left vectors of both unfoldings. */
static double unimproved(const float *x, const float *swapped)
{
    float u1[N1 * 4], u2[N2 * 3];
    double left = 0;
    RV_EQUAL(rv_lowrank_svd(NULL, NULL, x, N1, N2 * N3, 4, u1, NULL, NULL, NULL), RV_OK);
    RV_EQUAL(rv_lowrank_svd(NULL, NULL, swapped, N2, N1 * N3, 3, u2, NULL, NULL, NULL), RV_OK);
    for (size_t i = 0; i < ALL; i++) left += (double)x[i] * (double)x[i];
    for (size_t e = 0; e < 4 * 3 * N3; e++) { /* less the squares of the core */
        double sum = 0;
        for (size_t ij = 0; ij < N1 * N2; ij++) {
            sum += (double)u1[ij / N2 * 4 + e / N3 / 3] * (double)u2[ij % N2 * 3 + e / N3 % 3] *
                   (double)x[ij * N3 + e % N3];
        }
        left -= sum * sum;
    }
    return sqrt(left);
}

/* Without structure: full ranks lose nothing; the error is between what the worse unfolding alone
   must lose and what both lose together. */
static void test_tucker_error(void)
{
    float x[ALL], back[ALL], swapped[ALL], u1[64], u2[36], core[ALL];
    double lost1 = 0, lost2 = 0, error;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(4, x, ALL);
    RV_OKAY(&ctx, rv_lowrank_tucker2(&ctx, NULL, x, N1, N2, N3, N1, N2, u1, u2, core));
    RV_OKAY(&ctx, rv_lowrank_tucker2_restore(&ctx, u1, u2, core, N1, N2, N3, N1, N2, back));
    RV_NEAR(distance(x, back, ALL), 0, 2e-5);
    for (size_t i = 0; i < ALL; i++) {
        swapped[(i / N3 % N2 * N1 + i / (N2 * N3)) * N3 + i % N3] = x[i];
    }
    RV_OKAY(&ctx, rv_lowrank_svd(&ctx, NULL, x, N1, N2 * N3, 4, NULL, NULL, NULL, &lost1));
    RV_OKAY(&ctx, rv_lowrank_svd(&ctx, NULL, swapped, N2, N1 * N3, 3, NULL, NULL, NULL, &lost2));
    RV_OKAY(&ctx, rv_lowrank_tucker2(&ctx, NULL, x, N1, N2, N3, 4, 3, u1, u2, core));
    RV_OKAY(&ctx, rv_lowrank_tucker2_restore(&ctx, u1, u2, core, N1, N2, N3, 4, 3, back));
    error = distance(x, back, ALL);
    RV_CHECK(error <= sqrt(lost1 * lost1 + lost2 * lost2));
    RV_CHECK(error < unimproved(x, swapped) - 1e-3); /* the rounds are worth something */
    RV_CHECK(error >= (lost1 > lost2 ? lost1 : lost2) * (1 - 1e-6));
}

static void test_errors(void)
{
    float a[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, u[12] = {9}, s[3], v[12];
    rv_lowrank_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, NULL, a, 3, 4, 0, u, s, v, NULL), RV_ERR_ARG, "k is 0");
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, NULL, a, 3, 4, 4, u, s, v, NULL), RV_ERR_ARG,
             "k is 4; it must be 1..3");
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, NULL, a, 0, 4, 1, u, s, v, NULL), RV_ERR_ARG, "0 by 4");
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, NULL, NULL, 3, 4, 1, u, s, v, NULL), RV_ERR_ARG, "NULL");
    config.method = (rv_lowrank_method)3;
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, &config, a, 3, 4, 1, u, s, v, NULL), RV_ERR_CONFIG,
             "method is 3");
    config.method = RV_LOWRANK_RANDOM;
    config.oversample = 1001;
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, &config, a, 3, 4, 1, u, s, v, NULL), RV_ERR_CONFIG,
             "oversample is 1001");
    config.oversample = 0;
    RV_FAILS(&ctx, rv_lowrank_tucker2(&ctx, NULL, a, 2, 3, 2, 3, 1, u, s, v), RV_ERR_ARG,
             "ranks are 3 and 1");
    RV_FAILS(&ctx, rv_lowrank_tucker2(&ctx, NULL, a, 2, 0, 2, 1, 1, u, s, v), RV_ERR_ARG,
             "no size");
    RV_FAILS(&ctx, rv_lowrank_tucker2(&ctx, NULL, a, 2, 3, 2, 1, 1, u, NULL, v), RV_ERR_ARG,
             "NULL");
    RV_FAILS(&ctx, rv_lowrank_tucker2_restore(&ctx, u, s, v, 2, 3, 2, 1, 1, NULL), RV_ERR_ARG,
             "NULL");
    RV_FAILS(&ctx, rv_lowrank_restore(&ctx, u, s, NULL, 2, 3, 1, a), RV_ERR_ARG, "NULL");
    a[7] = not_a_number();
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, NULL, a, 3, 4, 1, u, s, v, NULL), RV_ERR_ARG,
             "element 7 is NaN");
    RV_EQUAL(ctx.where, 7);
    for (size_t i = 0; i < 12; i++) a[i] = 2e38f;
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, &config, a, 3, 4, 1, u, s, v, NULL), RV_ERR_ARG,
             "too large");
    RV_FAILS(&ctx, rv_lowrank_svd(&ctx, NULL, a, 3, 4, 1, u, s, v, NULL), RV_ERR_ARG, "too large");
    for (size_t i = 0; i < 12; i++) a[i] = 5e37f;
    RV_OKAY(&ctx, rv_lowrank_svd(&ctx, NULL, a, 3, 4, 1, NULL, s, v, NULL)); /* in double */
    RV_NEAR((double)s[0] / 5e37, sqrt(12.0), 1e-6);
    RV_CHECK(u[0] == 9);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const float *x = (const float *)arg;
    float u[N1 * 3] = {9}, s[3], v[N2 * N3 * 3], core[3 * 2 * N3], back[ALL];
    rv_lowrank_config config;
    rv_status status;
    memset(&config, 0, sizeof config);
    status = rv_lowrank_svd(ctx, NULL, x, N1, N2 * N3, 3, u, s, v, NULL);
    config.method = RV_LOWRANK_RANDOM;
    if (status) RV_CHECK(u[0] == 9);
    u[0] = 9;
    if (!status) status = rv_lowrank_svd(ctx, &config, x, N1, N2 * N3, 3, u, s, v, NULL);
    if (status) RV_CHECK(u[0] == 9);
    if (!status) status = rv_lowrank_restore(ctx, u, s, v, N1, N2 * N3, 3, back);
    u[0] = 9;
    if (!status) status = rv_lowrank_tucker2(ctx, NULL, x, N1, N2, N3, 3, 2, u, v, core);
    if (status) RV_CHECK(u[0] == 9);
    if (!status) status = rv_lowrank_tucker2_restore(ctx, u, v, core, N1, N2, N3, 3, 2, back);
    return status;
}

static void test_faults(void)
{
    float x[ALL];
    grid(1, x, ALL);
    RV_CHECK(rv_test_oom_sweep(sweep, x) > 10);
    RV_CHECK(rv_test_cancel_sweep(sweep, x) > 20);
}

int main(void)
{
    rv_test_begin("lowrank");
    RV_RUN(test_golden);
    RV_RUN(test_known);
    RV_RUN(test_degenerate);
    RV_RUN(test_rank);
    RV_RUN(test_tucker_exact);
    RV_RUN(test_tucker_error);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
