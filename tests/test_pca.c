/* Principal components against sets whose covariance is known by construction. */
#include "rv_test.h"

/* Row j of the reflection I - 2 v v^T / |v|^2: an orthonormal basis without any library code. */
static void basis_row(size_t dim, size_t j, double *out)
{
    double square = 0;
    for (size_t i = 0; i < dim; i++) square += (1.0 + (double)(i % 5)) * (1.0 + (double)(i % 5));
    for (size_t i = 0; i < dim; i++) {
        out[i] = (i == j) - 2.0 * (1.0 + (double)(i % 5)) * (1.0 + (double)(j % 5)) / square;
    }
}

/* 2 rank rows at mean +- c_k h_k: eigenvalues c_k^2 / rank along h_k, all others 0. */
static void make_rows(size_t dim, size_t rank, const double *c, double mean, float *rows)
{
    double *h = (double *)malloc(dim * sizeof(double));
    for (size_t k = 0; k < rank; k++) {
        basis_row(dim, k, h);
        for (size_t i = 0; i < dim; i++) {
            rows[2 * k * dim + i] = (float)(mean + c[k] * h[i]);
            rows[(2 * k + 1) * dim + i] = (float)(mean - c[k] * h[i]);
        }
    }
    free(h);
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void check_orthonormal(const float *basis, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++)
            RV_NEAR(dot(basis + i * dim, basis + j * dim, dim), i == j, 1e-5);
    }
}

/* Eigenvalues fall by a factor of 2: the gaps are as large as the values, and float data of
   relative
   error 2^-24 turns an axis by about sqrt(dim) 2^-24 (value of the largest / gap). */
static void test_known(void)
{
    static const struct {
        size_t dim, rank, n_out;
    } cases[] = {{1, 1, 1},  {2, 2, 2},     {3, 3, 2},   {7, 5, 7},
                 {40, 8, 8}, {130, 10, 12}, {300, 9, 40}};
    for (size_t t = 0; t < RV_COUNT_OF(cases); t++) {
        size_t dim = cases[t].dim, rank = cases[t].rank, n_out = cases[t].n_out;
        float *rows = (float *)malloc(2 * rank * dim * sizeof(float));
        float *mean = (float *)malloc(dim * sizeof(float)),
              *basis = (float *)malloc(n_out * dim * sizeof(float));
        float *values = (float *)malloc(n_out * sizeof(float));
        double c[16], h[300], total = 0, sum = 0;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("dim", dim);
        for (size_t k = 0; k < rank; k++) {
            c[k] = 8.0 * pow(0.5, 0.5 * (double)k);
            sum += c[k] * c[k] / (double)rank;
        }
        make_rows(dim, rank, c, 3.0, rows);
        RV_OKAY(&ctx,
                rv_pca_train(&ctx, rows, 0, 2 * rank, dim, n_out, mean, basis, values, &total));
        check_orthonormal(basis, n_out, dim);
        RV_NEAR(total, sum, 1e-5 * sum);
        for (size_t i = 0; i < dim; i++) RV_NEAR(mean[i], 3.0, 1e-5);
        for (size_t k = 0; k < n_out; k++) {
            double along = 0, exact = k < rank ? c[k] * c[k] / (double)rank : 0.0;
            RV_NEAR(values[k], exact, 2e-5 * c[0] * c[0] / (double)rank);
            if (k >= rank) continue;
            basis_row(dim, k, h);
            for (size_t i = 0; i < dim; i++) along += h[i] * (double)basis[k * dim + i];
            RV_NEAR(fabs(along), 1.0, 1e-4);
        }
        free(rows);
        free(mean);
        free(basis);
        free(values);
    }
}

/* No variance, one row, more outputs than there are directions: any orthonormal basis. */
static void test_degenerate(void)
{
    float rows[5 * 70], mean[70], basis[70 * 70], values[70];
    double total = 1;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) rows[i] = 2.5f;
    for (size_t n = 1; n <= 5; n += 4) {
        RV_OKAY(&ctx, rv_pca_train(&ctx, rows, 0, n, 70, 70, mean, basis, values, &total));
        check_orthonormal(basis, 70, 70);
        RV_NEAR(total, 0, 0);
        for (size_t i = 0; i < 70; i++) {
            RV_NEAR(values[i], 0, 0);
            RV_NEAR(mean[i], 2.5, 0);
        }
    }
    rows[0] = -3; /* eigenvalues and total may be left out */
    RV_OKAY(&ctx, rv_pca_train(&ctx, rows, 0, 5, 70, 3, mean, basis, NULL, NULL));
    RV_NEAR(fabs((double)basis[0]), 1.0, 1e-5);
}

/* The trace that a basis catches is that of the best one, also for a spectrum without gaps; a
   stride is respected; a set above the sample size works. */
static void test_captured(void)
{
    const size_t dim = 48, n = RV_SCALED(9000, 300), stride = dim + 3, n_out = 12;
    float *rows = (float *)malloc(n * stride * sizeof(float)), mean[48], basis[12 * 48], values[12];
    double total = 0, caught = 0, sum = 0;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    rv_test_fill(&rng, rows, n * stride);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < 12; j++)
            rows[i * stride + j] *= 4; /* variance 16/3, the others 1/3 */
    }
    RV_OKAY(&ctx, rv_pca_train(&ctx, rows, stride, n, dim, n_out, mean, basis, values, &total));
    for (size_t i = 0; i < n_out; i++) {
        for (size_t j = 0; j < 12; j++)
            caught += (double)basis[i * dim + j] * (double)basis[i * dim + j];
        sum += (double)values[i];
        RV_CHECK(i == 0 || values[i] <= values[i - 1]);
    }
    RV_CHECK(caught > 0.98 * 12); /* the noise turns a plane by about sqrt(dim / n) of the ratio */
    RV_NEAR(total, 12 * 16.0 / 3 + 36.0 / 3, 0.05 * total + 200.0 / (double)n);
    RV_CHECK(sum < total && sum > 0.8 * total);
    free(rows);
}

static void test_apply(void)
{
    float rows[20 * 9], mean[9], basis[81], x[20 * 9], back[20 * 9], few[20 * 2];
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 6);
    rv_test_fill(&rng, rows, 180);
    RV_OKAY(&ctx, rv_pca_train(&ctx, rows, 0, 20, 9, 9, mean, basis, NULL, NULL));
    RV_OKAY(&ctx, rv_pca_apply(&ctx, mean, basis, 9, 9, rows, 0, 20, x));
    RV_OKAY(&ctx, rv_pca_restore(&ctx, mean, basis, 9, 9, x, 20, back));
    for (size_t i = 0; i < 180; i++) RV_NEAR(back[i], rows[i], 1e-5);
    RV_OKAY(&ctx, rv_pca_apply(&ctx, mean, basis, 9, 2, rows, 9, 20, few));
    for (size_t i = 0; i < 20; i++) {
        for (size_t k = 0; k < 2; k++) {
            double sum = 0;
            for (size_t j = 0; j < 9; j++) {
                sum += ((double)rows[i * 9 + j] - (double)mean[j]) * (double)basis[k * 9 + j];
            }
            RV_NEAR(few[i * 2 + k], sum, 1e-5);
        }
    }
    RV_OKAY(&ctx, rv_pca_apply(&ctx, NULL, basis, 9, 1, rows, 9, 1, few));
    RV_NEAR(few[0], dot(rows, basis, 9), 1e-5);
    RV_OKAY(&ctx, rv_pca_apply(&ctx, mean, basis, 9, 2, rows, 0, 0, few));
    RV_OKAY(&ctx, rv_pca_restore(&ctx, NULL, basis, 9, 1, few, 1, back));
    RV_NEAR(back[3], (double)few[0] * (double)basis[3], 1e-6);
}

/* Bodies in reverse order: nothing may depend on it. */
static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static void test_workers(void)
{
    float rows[200 * 33], mean[33], basis[5 * 33], other[5 * 33];
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 7);
    rv_test_fill(&rng, rows, 200 * 33);
    RV_OKAY(&ctx, rv_pca_train(&ctx, rows, 0, 200, 33, 5, mean, basis, NULL, NULL));
    ctx.parallel = backwards;
    for (uint32_t workers = 1; workers < 6; workers += 2) {
        ctx.workers = workers;
        RV_OKAY(&ctx, rv_pca_train(&ctx, rows, 0, 200, 33, 5, mean, other, NULL, NULL));
        RV_CHECK(memcmp(basis, other, sizeof basis) == 0);
    }
}

static void test_errors(void)
{
    float rows[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, mean[3], basis[9], x[12], nan;
    uint32_t bits = 0x7FC00000u;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memcpy(&nan, &bits, sizeof nan);
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 4, 0, 1, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 4, 65536, 1, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 4, 3, 0, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 4, 3, 4, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 0, 3, 2, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_train(&ctx, rows, 2, 4, 3, 2, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_train(&ctx, NULL, 0, 4, 3, 2, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 4, 3, 2, NULL, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_pca_apply(&ctx, mean, basis, 3, 4, rows, 0, 4, x), RV_ERR_ARG);
    RV_EQUAL(rv_pca_restore(&ctx, mean, basis, 3, 4, x, 4, rows), RV_ERR_ARG);
    rows[7] = nan;
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 4, 3, 2, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_EQUAL(ctx.where, 7);
    rows[7] = 3e38f; /* a variance beyond a float */
    RV_EQUAL(rv_pca_train(&ctx, rows, 0, 4, 3, 2, mean, basis, NULL, NULL), RV_ERR_ARG);
    RV_CHECK(ctx.message[0] != 0);
    RV_EQUAL(rv_pca_train(NULL, rows, 0, 4, 3, 0, mean, basis, NULL, NULL), RV_ERR_ARG);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const float *rows = (const float *)arg;
    float mean[40], basis[20 * 40], x[60 * 20], back[60 * 40];
    rv_status status = rv_pca_train(ctx, rows, 0, 60, 40, 20, mean, basis, NULL, NULL);
    if (!status) status = rv_pca_apply(ctx, mean, basis, 40, 20, rows, 0, 60, x);
    if (!status) status = rv_pca_restore(ctx, mean, basis, 40, 20, x, 60, back);
    return status;
}

/* The product in double, for few rows and for many, within a block of columns and beyond it; any
   basis will do. */
static void test_restore(void)
{
    static const size_t dims[] = {1, 5, 255, 256, 257, 600}, counts[] = {0, 1, 7, 8, 33};
    float mean[600], *basis, *x, *back;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 9);
    basis = (float *)malloc(600 * 600 * sizeof(float));
    x = (float *)malloc(33 * 600 * sizeof(float));
    back = (float *)malloc(33 * 600 * sizeof(float));
    rv_test_fill(&rng, mean, 600);
    rv_test_fill(&rng, basis, 600 * 600);
    rv_test_fill(&rng, x, 33 * 600);
    for (size_t t = 0; t < RV_COUNT_OF(dims) * RV_COUNT_OF(counts) * 3; t++) {
        const size_t dim = dims[t / 3 % RV_COUNT_OF(dims)], n = counts[t / 3 / RV_COUNT_OF(dims)];
        const size_t n_out = t % 3 == 0 ? 1 : t % 3 == 1 ? (dim + 1) / 2 : dim;
        const float *from = t % 2 ? mean : NULL;
        rv_test_row("dim", dim * 100 + n);
        RV_OKAY(&ctx, rv_pca_restore(&ctx, from, basis, dim, n_out, x, n, back));
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < dim; j++) {
                double sum = from ? (double)from[j] : 0, magnitude = fabs(sum);
                for (size_t c = 0; c < n_out; c++) {
                    double term = (double)x[i * n_out + c] * (double)basis[c * dim + j];
                    sum += term;
                    magnitude += fabs(term);
                }
                RV_NEAR(back[i * dim + j], sum, 4e-6 * magnitude);
            }
        }
    }
    free(basis);
    free(x);
    free(back);
}

static void test_faults(void)
{
    float rows[60 * 40];
    rv_test_rng rng;
    rv_test_seed(&rng, 8);
    rv_test_fill(&rng, rows, RV_COUNT_OF(rows));
    RV_CHECK(rv_test_oom_sweep(sweep, rows) > 6);
    RV_CHECK(rv_test_cancel_sweep(sweep, rows) > 6);
}

int main(void)
{
    rv_test_begin("pca");
    RV_RUN(test_known);
    RV_RUN(test_degenerate);
    RV_RUN(test_captured);
    RV_RUN(test_apply);
    RV_RUN(test_restore);
    RV_RUN(test_workers);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
