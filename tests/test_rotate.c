/* The random rotation: an isometry, invertible, evenly spreading. */
#include "rv_test.h"

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Products survive: each of at most 6 rounds rounds every coordinate a dozen times at 2^-24. */
static void test_isometry(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 11);
    for (size_t dim = 1; dim <= 1536; dim = dim < 130 ? dim + 1 + dim / 40 : dim * 3 / 2) {
        rv_rotation *rotation;
        size_t padded = (dim + 63) / 64 * 64;
        float *x = (float *)malloc(2 * dim * sizeof(float)),
              *y = (float *)malloc(2 * padded * sizeof(float));
        float *back = (float *)malloc(dim * sizeof(float));
        double scale;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        ctx.seed = 77;
        rv_test_row("dim", dim);
        if (RV_OKAY(&ctx, rv_rotation_create(&ctx, dim, &rotation))) return;
        RV_EQUAL(rv_rotation_dim(rotation), padded);
        RV_CHECK(rv_rotation_seed(rotation) == 77);
        RV_CHECK(rv_rotation_bytes(rotation) >= padded * 16);
        rv_test_fill(&rng, x, 2 * dim);
        rv_rotation_apply(rotation, x, y);
        rv_rotation_apply(rotation, x + dim, y + padded);
        scale = sqrt(dot(x, x, dim) * dot(x + dim, x + dim, dim));
        RV_NEAR(dot(y, y, padded), dot(x, x, dim), 1e-5 * dot(x, x, dim));
        RV_NEAR(dot(y, y + padded, padded), dot(x, x + dim, dim), 1e-5 * scale);
        rv_rotation_invert(rotation, y, back);
        for (size_t i = 0; i < dim; i++) RV_NEAR(back[i], x[i], 1e-5 * sqrt(dot(x, x, dim)));
        rv_rotation_destroy(rotation);
        free(x);
        free(y);
        free(back);
    }
}

/* Single coordinates and constant vectors look Gaussian afterwards: the fourth moment of a point of
   the sphere is 3 n / (n + 2), of an unspread one n. */
static void test_spread(void)
{
    static const size_t dims[] = {64, 100, 128, 192, 384, 768, 960, 1024, 1536};
    for (size_t t = 0; t < RV_COUNT_OF(dims); t++) {
        size_t dim = dims[t], n, step = dim / RV_SCALED(64, 4) + 1;
        rv_rotation *rotation;
        double worst = 0, mean = 0, count = 0;
        float x[1536], y[1536];
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("dim", dim);
        RV_OKAY(&ctx, rv_rotation_create(&ctx, dim, &rotation));
        n = rv_rotation_dim(rotation);
        for (size_t i = 0; i <= dim; i += step) {
            double fourth = 0;
            for (size_t j = 0; j < dim; j++)
                x[j] = i == 0 ? (float)(1 / sqrt((double)dim)) : (j + 1 == i);
            rv_rotation_apply(rotation, x, y);
            for (size_t j = 0; j < n; j++) fourth += pow((double)y[j], 4);
            fourth *= (double)n;
            worst = fourth > worst ? fourth : worst;
            mean += fourth;
            count += 1;
        }
        RV_CHECK(worst < 9);
        RV_CHECK(mean / count > 2 && mean / count < 4);
        rv_rotation_destroy(rotation);
    }
}

static void test_seed(void)
{
    rv_rotation *a, *b, *c;
    float x[100], u[128], v[128], w[128];
    size_t same = 0;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 12);
    rv_test_fill(&rng, x, 100);
    ctx.seed = 1;
    RV_OKAY(&ctx, rv_rotation_create(&ctx, 100, &a));
    RV_OKAY(&ctx, rv_rotation_create(&ctx, 100, &b));
    ctx.seed = 2;
    RV_OKAY(&ctx, rv_rotation_create(&ctx, 100, &c));
    rv_rotation_apply(a, x, u);
    rv_rotation_apply(b, x, v);
    rv_rotation_apply(c, x, w);
    RV_CHECK(memcmp(u, v, sizeof u) == 0);
    for (size_t i = 0; i < 128; i++) same += fabsf(u[i] - w[i]) < 1e-6f;
    RV_CHECK(same < 10);
    memcpy(w, x, sizeof x); /* in place */
    rv_rotation_apply(a, w, w);
    RV_CHECK(memcmp(u, w, sizeof u) == 0);
    rv_rotation_invert(a, w, w);
    for (size_t i = 0; i < 100; i++) RV_NEAR(w[i], x[i], 1e-5);
    for (size_t i = 100; i < 128; i++) RV_NEAR(w[i], 0, 1e-5);
    rv_rotation_destroy(a);
    rv_rotation_destroy(b);
    rv_rotation_destroy(c);
    rv_rotation_destroy(NULL);
}

static void test_errors(void)
{
    rv_rotation *rotation;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_EQUAL(rv_rotation_create(&ctx, 0, &rotation), RV_ERR_ARG);
    RV_EQUAL(rv_rotation_create(&ctx, 65536, &rotation), RV_ERR_ARG);
    RV_EQUAL(rv_rotation_create(&ctx, 3, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_rotation_create(NULL, 0, &rotation), RV_ERR_ARG);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    rv_rotation *rotation;
    rv_status status = rv_rotation_create(ctx, 100, &rotation);
    (void)arg;
    if (!status) rv_rotation_destroy(rotation);
    return status;
}

static void test_faults(void)
{
    RV_EQUAL(rv_test_oom_sweep(sweep, NULL), 3);
}

int main(void)
{
    rv_test_begin("rotate");
    RV_RUN(test_isometry);
    RV_RUN(test_spread);
    RV_RUN(test_seed);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
