/* Normalization and dropout: torch, closed forms, slopes, faults. */
#include "grid_set.h"

#include "golden/norm.h"

enum { N = 3, DIM = 7, INNER = 2, MOST = N * DIM * INNER };

typedef struct inputs {
    float x[MOST], r[MOST], gamma[DIM], beta[DIM], mean[DIM], variance[DIM], dy[MOST], dz[MOST];
} inputs;

static void make_inputs(inputs *in, size_t count)
{
    grid(1, in->x, count);
    grid(2, in->r, count);
    grid(3, in->gamma, DIM);
    grid(4, in->beta, DIM);
    grid(5, in->mean, DIM);
    grid(6, in->variance, DIM);
    for (size_t i = 0; i < DIM; i++) in->variance[i] = fabsf(in->variance[i]) + 0.25f;
    grid(7, in->dy, count);
    grid(8, in->dz, count);
}

static void point_at(const inputs *in, int kind, int residual, int affine, rv_norm_io *io)
{
    memset(io, 0, sizeof *io);
    io->x = in->x;
    io->n = N;
    io->dim = DIM;
    if (residual) io->residual = in->r;
    if (affine) {
        io->gamma = in->gamma;
        io->beta = in->beta;
    }
    if (kind == RV_NORM_BATCH) {
        io->mean = in->mean;
        io->variance = in->variance;
        io->inner = INNER;
    }
}

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_norm); row++) {
        const int kind = rv_golden_norm[row].kind, residual = rv_golden_norm[row].residual;
        const size_t count = N * DIM * (kind == RV_NORM_BATCH ? (size_t)INNER : 1u);
        float out[MOST], sum[MOST], d_x[MOST], d_gamma[DIM], d_beta[DIM];
        rv_norm_config config = {RV_NORM_LAYER, 0};
        rv_norm_io io;
        rv_norm_grad grad;
        inputs in;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        make_inputs(&in, count);
        point_at(&in, kind, residual, rv_golden_norm[row].affine, &io);
        config.kind = (rv_norm_kind)kind;
        config.eps = 1.0f / 1024.0f;
        io.out = out;
        io.sum = sum;
        RV_OKAY(&ctx, rv_norm_run(&ctx, &config, &io));
        CHECK_ALL(out, rv_golden_norm[row].out, count, 8 * U);
        for (size_t i = 0; i < count; i++) {
            RV_NEAR(sum[i], residual ? in.x[i] + in.r[i] : in.x[i], 0);
        }
        memset(&grad, 0, sizeof grad);
        grad.d_out = in.dy;
        grad.d_sum = residual ? in.dz : NULL;
        grad.d_x = d_x;
        grad.d_gamma = d_gamma;
        grad.d_beta = d_beta;
        RV_OKAY(&ctx, rv_norm_backward(&ctx, &config, &io, &grad));
        CHECK_ALL(d_x, rv_golden_norm[row].d_x, count, 16 * U);
        if (rv_golden_norm[row].affine) {
            CHECK_ALL(d_gamma, rv_golden_norm[row].d_gamma, DIM, 16 * U);
            CHECK_ALL(d_beta, rv_golden_norm[row].d_beta, DIM, 4 * U);
        }
        /* in place, and the gradient over its own input, without the parameters' */
        io.out = in.x;
        io.sum = residual ? in.r : NULL;
        RV_OKAY(&ctx, rv_norm_run(&ctx, &config, &io));
        RV_CHECK(memcmp(in.x, out, count * sizeof(float)) == 0);
        if (residual) RV_CHECK(memcmp(in.r, sum, count * sizeof(float)) == 0);
        io.x = sum;
        io.residual = NULL;
        grad.d_x = in.dy;
        grad.d_gamma = grad.d_beta = NULL;
        RV_OKAY(&ctx, rv_norm_backward(&ctx, &config, &io, &grad));
        RV_CHECK(memcmp(in.dy, d_x, count * sizeof(float)) == 0);
    }
}

/* Rows of equal elements, large means, large and tiny values, one element, NaN. */
static void test_edges(void)
{
    static float x[1000], y[1000];
    const double wide[] = {1e30, 1e-30, 1.0};
    rv_norm_config config = {RV_NORM_LAYER, 0};
    rv_norm_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&io, 0, sizeof io);
    io.x = x;
    io.out = y;
    io.n = 1;
    io.dim = 1000;
    for (size_t i = 0; i < 1000; i++) x[i] = 3.25f;
    RV_OKAY(&ctx, rv_norm_run(&ctx, NULL, &io));
    for (size_t i = 0; i < 1000; i++) RV_NEAR(y[i], 0, 0);
    for (size_t i = 0; i < 1000; i++) x[i] = 1048576.0f + (i % 2 ? 1.0f : -1.0f);
    RV_OKAY(&ctx, rv_norm_run(&ctx, NULL, &io));
    for (size_t i = 0; i < 1000; i++) RV_NEAR(y[i], (i % 2 ? 1.0 : -1.0) / sqrt(1.0 + 1e-5), 1e-6);
    for (size_t t = 0; t < 3; t++) { /* |x| = w: x / sqrt(w^2 + eps) */
        for (size_t i = 0; i < 1000; i++) x[i] = (float)(i % 2 ? wide[t] : -wide[t]);
        for (int kind = 0; kind < 2; kind++) {
            config.kind = kind ? RV_NORM_RMS : RV_NORM_LAYER;
            RV_OKAY(&ctx, rv_norm_run(&ctx, &config, &io));
            RV_NEAR(y[1], wide[t] / sqrt(wide[t] * wide[t] + 1e-5), 1e-6);
        }
    }
    x[5] = not_a_number();
    RV_OKAY(&ctx, rv_norm_run(&ctx, NULL, &io));
#if !defined(__FAST_MATH__)
    RV_CHECK(y[0] != y[0] && y[999] != y[999]);
#endif
    x[0] = 7.0f;
    io.dim = 1;
    RV_OKAY(&ctx, rv_norm_run(&ctx, NULL, &io));
    RV_NEAR(y[0], 0, 0);
    io.n = 0;
    io.x = NULL;
    RV_OKAY(&ctx, rv_norm_run(&ctx, NULL, &io));
    RV_EQUAL(rv_norm_kind_at(3) == NULL, 1);
    RV_CHECK(strcmp(rv_norm_kind_at(1)->name, "rms") == 0);
}

static void test_errors(void)
{
    float x[14] = {0}, y[14], mean[7] = {0}, variance[7] = {0};
    rv_norm_config config = {RV_NORM_LAYER, 0};
    rv_norm_io io;
    rv_norm_grad grad;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&io, 0, sizeof io);
    memset(&grad, 0, sizeof grad);
    io.x = x;
    io.n = 2;
    io.dim = 7;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "out is NULL");
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, NULL), RV_ERR_ARG, "io is NULL");
    io.out = io.sum = y;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "sum and out");
    io.sum = NULL;
    io.inner = 2;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "inner is 2");
    io.inner = 0;
    io.dim = 0;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "dim is 0");
    io.dim = 7;
    io.x = NULL;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "x is NULL");
    io.x = x;
    io.n = SIZE_MAX / 8;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "no size");
    io.n = 2;
    config.eps = -1e-5f;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_CONFIG, "eps is -1e-5");
    config.eps = not_a_number();
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_CONFIG, "eps is NaN");
    config.eps = 0;
    config.kind = (rv_norm_kind)3;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_CONFIG, "kind is 3");
    config.kind = RV_NORM_BATCH;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "mean or variance");
    io.mean = mean;
    io.variance = variance;
    variance[4] = -1.0f;
    RV_FAILS(&ctx, rv_norm_run(&ctx, &config, &io), RV_ERR_ARG, "variance[4] is -1");
    RV_EQUAL(ctx.where, 4);
    config.kind = RV_NORM_RMS;
    RV_FAILS(&ctx, rv_norm_backward(&ctx, &config, &io, NULL), RV_ERR_ARG, "grad is NULL");
    RV_FAILS(&ctx, rv_norm_backward(&ctx, &config, &io, &grad), RV_ERR_ARG, "d_out is NULL");
    RV_EQUAL(rv_norm_run(NULL, &config, &io), RV_OK);
}

/* The share that goes, the mean that stays, the same elements for a seed and in the gradient. */
static void test_dropout(void)
{
    const size_t count = 40000;
    float *x = (float *)malloc(count * sizeof(float)), *y = (float *)malloc(count * sizeof(float));
    size_t gone = 0, same = 0;
    rv_ctx ctx;
    if (!x || !y) exit(2);
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < count; i++) x[i] = 3.0f;
    ctx.seed = 11;
    RV_OKAY(&ctx, rv_dropout_run(&ctx, 0.25f, 1, 5, x, count, y));
    for (size_t i = 0; i < count; i++) {
        RV_CHECK(y[i] == 0.0f || y[i] == 4.0f);
        gone += y[i] == 0.0f;
    }
    RV_NEAR(gone, 10000, 5 * sqrt(7500.0)); /* five deviations */
    RV_OKAY(&ctx, rv_dropout_run(&ctx, 0.25f, 1, 5, x, count, x)); /* in place: the same bits */
    RV_CHECK(memcmp(x, y, count * sizeof(float)) == 0);
    for (uint64_t other = 0; other < 2; other++) { /* another stream, another seed: independent */
        same = 0;
        ctx.seed = 11 + other;
        for (size_t i = 0; i < count; i++) x[i] = 3.0f;
        RV_OKAY(&ctx, rv_dropout_run(&ctx, 0.25f, 1, 6 - other, x, count, x));
        for (size_t i = 0; i < count; i++) same += (x[i] == 0.0f) == (y[i] == 0.0f);
        RV_NEAR(same, 25000, 5 * sqrt(9375.0));
    }
    RV_OKAY(&ctx, rv_dropout_run(&ctx, 0.25f, 0, 5, y, count, x)); /* not training */
    RV_CHECK(memcmp(x, y, count * sizeof(float)) == 0);
    RV_OKAY(&ctx, rv_dropout_run(&ctx, 0.0f, 1, 5, y, count, x));
    RV_CHECK(memcmp(x, y, count * sizeof(float)) == 0);
    RV_OKAY(&ctx, rv_dropout_run(&ctx, 0.5f, 1, 5, NULL, 0, NULL));
    RV_FAILS(&ctx, rv_dropout_run(&ctx, 1.0f, 1, 0, x, 1, y), RV_ERR_ARG, "rate is 1");
    RV_FAILS(&ctx, rv_dropout_run(&ctx, -0.1f, 1, 0, x, 1, y), RV_ERR_ARG, "rate is -0.1");
    RV_FAILS(&ctx, rv_dropout_run(&ctx, not_a_number(), 1, 0, x, 1, y), RV_ERR_ARG, "rate is NaN");
    RV_FAILS(&ctx, rv_dropout_run(&ctx, 0.5f, 1, 0, NULL, 1, y), RV_ERR_ARG, "NULL");
    free(x);
    free(y);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const size_t n = 40, dim = 4000;
    float *x = (float *)arg;
    rv_norm_io io;
    rv_norm_grad grad;
    rv_norm_config config = {RV_NORM_LAYER, 0};
    rv_status status = RV_OK;
    for (int kind = 0; kind < 3 && !status; kind++) {
        memset(&io, 0, sizeof io);
        memset(&grad, 0, sizeof grad);
        config.kind = (rv_norm_kind)kind;
        io.x = x;
        io.n = n;
        io.dim = dim;
        io.mean = x;
        io.variance = x;
        io.out = x + n * dim;
        grad.d_out = x;
        grad.d_x = io.out;
        grad.d_gamma = x + 2 * n * dim;
        status = rv_norm_run(ctx, &config, &io);
        if (!status) status = rv_norm_backward(ctx, &config, &io, &grad);
    }
    if (!status) status = rv_dropout_run(ctx, 0.5f, 1, 0, x, n * dim, x + n * dim);
    return status;
}

static void test_faults(void)
{
    float *x = (float *)calloc(2 * 160000 + 4000, sizeof(float));
    if (!x) exit(2);
    RV_EQUAL(rv_test_oom_sweep(sweep, x), 7);
    RV_CHECK(rv_test_cancel_sweep(sweep, x) > 12);
    free(x);
}

int main(void)
{
    rv_test_begin("norm");
    RV_RUN(test_golden);
    RV_RUN(test_edges);
    RV_RUN(test_errors);
    RV_RUN(test_dropout);
    RV_RUN(test_faults);
    return rv_test_end();
}
