/* Rotation by position and T5's buckets: onnx, mpmath, transformers, closed forms, faults. */
#include "grid_set.h"

#include "golden/position.h"

/* ONNX's eight cases: x [2, 4, 3, 8] or [2, 3, 4 * 8], tables of cosines that need not be any. */
static void test_onnx(void)
{
    static float x[192], y[192], cosines[200], sines[200];
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_rotary); row++) {
        const int three = rv_golden_rotary[row].three, given = rv_golden_rotary[row].given;
        const int rotary = rv_golden_rotary[row].rotary;
        const size_t half = (size_t)(rotary ? rotary : 8) / 2;
        uint32_t ids[6];
        rv_rope_config config;
        rv_rope_io io;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("case", row);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        for (uint32_t i = 0; i < 6; i++) ids[i] = (i % 3 * 17 + i / 3 * 29 + 5) % 50;
        config.layout = rv_golden_rotary[row].pairs ? RV_ROPE_PAIRS : RV_ROPE_HALVES;
        config.rotary_dim = (size_t)rotary;
        grid(1, x, 192);
        io.n_table = given ? 50 : 6;
        io.cosines = grid(2, cosines, io.n_table * half);
        io.sines = grid(3, sines, io.n_table * half);
        io.dim = 8;
        io.heads = three ? 4 : 1;
        io.n = three ? 6 : 3;
        for (size_t part = 0; part < (three ? 1u : 8u); part++) { /* a batch's head */
            io.x = x + part * 24;
            io.out = part % 2 ? y + part * 24 : x + part * 24; /* in place as well */
            io.index = given ? ids + part / 4 * 3 : NULL;
            io.first = part / 4 * 3;
            RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
            memcpy(y + part * 24, io.out, io.n * io.heads * 8 * sizeof(float));
        }
        CHECK_ALL(y, rv_golden_rotary[row].out, 192, 3 * U);
    }
}

static void test_angles(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_rope); row++) {
        const size_t dim = (size_t)rv_golden_rope[row].dim, t = (size_t)rv_golden_rope[row].t;
        const int scaling = rv_golden_rope[row].scaling;
        double theta[32], gain, p = rv_golden_rope[row].p, c, s;
        float x[64], y[64], place;
        double slack;
        uint32_t index;
        rv_rope_config config;
        rv_rope_io io;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("angle", row);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        config.base = rv_golden_rope[row].base;
        config.scaling = (rv_rope_scaling)scaling;
        config.factor = rv_golden_rope[row].factor;
        if (scaling == RV_ROPE_YARN) {
            config.length = rv_golden_rope[row].length;
            config.fast = rv_golden_rope[row].fast;
            config.slow = rv_golden_rope[row].slow;
        }
        RV_OKAY(&ctx, rv_rope_angles(&ctx, &config, dim, theta, &gain));
        RV_NEAR(theta[t], rv_golden_rope[row].theta, 1e-14 * rv_golden_rope[row].theta);
        memset(x, 0, sizeof x);
        x[2 * t] = 3.0f;
        x[2 * t + 1] = -1.0f;
        io.x = x;
        io.out = y;
        io.n = 1;
        io.dim = dim;
        c = rv_golden_rope[row].cosine;
        s = rv_golden_rope[row].sine;
        slack = 4 * U * sqrt(10 * (c * c + s * s));
        for (int real = 0; real < 2; real++) {
            index = (uint32_t)p;
            place = (float)p;
            io.index = real ? NULL : &index;
            io.place = real ? &place : NULL;
            RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
            RV_NEAR(y[2 * t], 3 * c + s, slack);
            RV_NEAR(y[2 * t + 1], 3 * s - c, slack);
        }
        place = -(float)p;
        RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
        RV_NEAR(y[2 * t], 3 * c - s, slack);
    }
}

/* Turning keeps lengths; back gives what was; products depend on differences; y . A x = A^T y . x;
   the layouts are one another's permutation. */
static void test_properties(void)
{
    enum { N = 50, HEADS = 3, DIM = 20, ROTARY = 14, WIDE = HEADS * DIM };
    static float x[N * WIDE], y[N * WIDE], z[N * (WIDE + 5)], place[N];
    rv_rope_config config;
    rv_rope_io io;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    rv_test_fill(&rng, x, N * WIDE);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    config.rotary_dim = ROTARY;
    io.n = N;
    io.heads = HEADS;
    io.dim = DIM;
    for (int layout = 0; layout < 2; layout++) {
        config.layout = layout ? RV_ROPE_HALVES : RV_ROPE_PAIRS;
        for (size_t i = 0; i < N; i++) place[i] = (float)i * 20000.0f + 0.25f;
        io.place = place;
        io.x = x;
        io.out = y;
        io.transpose = 0;
        RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
        for (size_t i = 0; i < N * WIDE; i++)
            if (i % DIM >= ROTARY) RV_CHECK(y[i] == x[i]);
        for (size_t h = 0; h < N * HEADS; h++) {
            double was = 0, is = 0;
            for (size_t a = 0; a < DIM; a++) {
                was += (double)x[h * DIM + a] * (double)x[h * DIM + a];
                is += (double)y[h * DIM + a] * (double)y[h * DIM + a];
            }
            RV_NEAR(sqrt(is), sqrt(was), 8 * U * sqrt(was));
        }
        io.x = y;
        io.out = z;
        io.out_stride = WIDE + 5;
        io.transpose = 1;
        RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
        for (size_t i = 0; i < N * WIDE; i++)
            RV_NEAR(z[i / WIDE * (WIDE + 5) + i % WIDE], x[i], 8 * U);
        io.out_stride = 0;
        io.transpose = 0;
    }
    config.rotary_dim = 0; /* products: the same rows at i and 40 against i + 1000 and 1040 */
    io.place = NULL;
    io.n = 1;
    io.heads = 1;
    for (size_t i = 0; i < N; i++) {
        double near_by = 0, far = 0;
        float a[4][DIM];
        for (size_t t = 0; t < 4; t++) {
            io.first = (t < 2 ? 0 : 1000) + (t % 2 ? 40 : i);
            io.x = x + t % 2 * DIM;
            io.out = a[t];
            RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
        }
        for (size_t t = 0; t < DIM; t++) {
            near_by += (double)a[0][t] * (double)a[1][t];
            far += (double)a[2][t] * (double)a[3][t];
        }
        RV_NEAR(far, near_by, 40 * U);
    }
    io.first = 0; /* position 0 turns nothing */
    io.x = x;
    io.out = y;
    RV_OKAY(&ctx, rv_rope_run(&ctx, NULL, &io));
    RV_CHECK(memcmp(x, y, DIM * sizeof(float)) == 0);
    for (size_t layout = 0; layout < 2; layout++) {
        for (size_t t = 0; t < DIM / 2; t++) {
            for (size_t b = 0; b < 2; b++)
                z[layout ? t + b * DIM / 2 : 2 * t + b] = x[t + b * DIM];
        }
        config.layout = layout ? RV_ROPE_HALVES : RV_ROPE_PAIRS;
        io.first = 7;
        io.x = z;
        io.out = layout ? z : y;
        RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
    }
    for (size_t t = 0; t < DIM; t++) RV_CHECK(z[t % 2 * DIM / 2 + t / 2] == y[t]);
}

static double dotted(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* transpose under YaRN, where it is not the inverse. */
static void test_transpose(void)
{
    float x[64], y[64], ax[64], aty[64];
    rv_rope_config config;
    rv_rope_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    config.scaling = RV_ROPE_YARN;
    config.factor = 8;
    config.length = 64;
    grid(1, x, 64);
    grid(2, y, 64);
    io.n = 4;
    io.dim = 16;
    io.x = x;
    io.out = ax;
    io.first = 100;
    RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
    io.x = y;
    io.out = aty;
    io.transpose = 1;
    RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
    RV_NEAR(dotted(y, ax, 64), dotted(aty, x, 64), 1e-5);
    RV_CHECK(fabs(dotted(ax, ax, 64) / dotted(x, x, 64) - pow(1 + 0.1 * log(8.0), 2)) < 1e-6);
}

static void test_t5(void)
{
    static uint32_t bucket[301];
    static float table[64], bias[240], d_table[64];
    rv_t5_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_t5); row++) {
        rv_test_row("buckets", row);
        memset(&config, 0, sizeof config);
        config.causal = !rv_golden_t5[row].both;
        if (row > 1) {
            config.buckets = (uint32_t)rv_golden_t5[row].buckets;
            config.max_distance = (uint32_t)rv_golden_t5[row].far;
        }
        RV_OKAY(&ctx, rv_t5_buckets(&ctx, &config, -150, 301, bucket));
        for (size_t x = 0; x < 301; x++) RV_EQUAL(bucket[x], rv_golden_t5[row].bucket[x]);
    }
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_t5_bias); row++) {
        float d_bias[240];
        const size_t past = (size_t)rv_golden_t5_bias[row].past;
        rv_test_row("bias", row);
        memset(&config, 0, sizeof config);
        config.causal = !rv_golden_t5_bias[row].both;
        grid(4, table, 64);
        for (size_t x = 0; x < 240; x++) bias[x] = 1.0f;
        RV_OKAY(&ctx, rv_t5_add(&ctx, &config, table, 2, 6, 20, past, bias));
        for (size_t x = 0; x < 240; x++) bias[x] -= 1.0f;
        CHECK_ALL(bias, rv_golden_t5_bias[row].bias, 240, 0);
        RV_OKAY(&ctx, rv_t5_backward(&ctx, &config, grid(5, d_bias, 240), 2, 6, 20, past, d_table));
        CHECK_ALL(d_table, rv_golden_t5_bias[row].d_table, 64, U);
    }
    RV_OKAY(&ctx, rv_t5_buckets(&ctx, NULL, 2147483646, 1, bucket));
    RV_EQUAL(bucket[0], 31);
    RV_OKAY(&ctx, rv_t5_buckets(&ctx, NULL, -2147483646, 1, bucket));
    RV_EQUAL(bucket[0], 15);
}

static void test_errors(void)
{
    float x[40], y[40], bad = not_a_number();
    double theta[20];
    uint32_t index[2] = {0, 1048577u}, bucket[4];
    rv_rope_config config;
    rv_rope_io io;
    rv_t5_config t5;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    memset(&t5, 0, sizeof t5);
    grid(1, x, 40);
    io.x = x;
    io.out = y;
    io.n = 2;
    io.dim = 10;
#define REFUSED(field, value, wanted, word)                                                        \
    do {                                                                                           \
        rv_rope_config config_was = config;                                                        \
        rv_rope_io io_was = io;                                                                    \
        field = value;                                                                             \
        y[0] = 5.0f;                                                                               \
        RV_FAILS(&ctx, rv_rope_run(&ctx, &config, &io), wanted, word);                             \
        RV_CHECK(y[0] == 5.0f);                                                                    \
        config = config_was;                                                                       \
        io = io_was;                                                                               \
    } while (0)
    RV_FAILS(&ctx, rv_rope_run(&ctx, &config, NULL), RV_ERR_ARG, "io is NULL");
    REFUSED(io.x, NULL, RV_ERR_ARG, "x or out is NULL");
    REFUSED(io.dim, 1, RV_ERR_DIM, "dim is 1");
    REFUSED(io.x_stride, 9, RV_ERR_DIM, "x_stride is 9");
    REFUSED(io.out_stride, 9, RV_ERR_DIM, "out_stride is 9");
    REFUSED(io.n, SIZE_MAX / 16, RV_ERR_DIM, "that is no size");
    REFUSED(io.index, index, RV_ERR_ARG, "index[1] is 1048577");
    RV_EQUAL(ctx.where, 1);
    REFUSED(io.first, 1048576, RV_ERR_ARG, "positions 1048576 + 2 rows");
    REFUSED(io.cosines, x, RV_ERR_ARG, "one of cosines");
    REFUSED(config.rotary_dim, 3, RV_ERR_CONFIG, "rotary_dim is 3");
    REFUSED(config.rotary_dim, 12, RV_ERR_CONFIG, "rotary_dim is 12");
    REFUSED(config.base, 0.5, RV_ERR_CONFIG, "base is 0.5");
    REFUSED(config.base, (double)bad, RV_ERR_CONFIG, "base is NaN");
    REFUSED(config.factor, 2, RV_ERR_CONFIG, "factor is 2");
    REFUSED(config.length, 2, RV_ERR_CONFIG, "length must be");
    REFUSED(config.slow, 2, RV_ERR_CONFIG, "slow is 2");
    REFUSED(config.fast, 2, RV_ERR_CONFIG, "fast is 2");
    REFUSED(config.layout, (rv_rope_layout)rv_test_beyond(2), RV_ERR_CONFIG, "layout is 2");
    config.scaling = RV_ROPE_YARN;
    REFUSED(config.factor, 2, RV_ERR_CONFIG, "length must be");
    config.length = 100;
    REFUSED(config.slow, 40, RV_ERR_CONFIG, "slow is 40");
    REFUSED(config.factor, (double)bad, RV_ERR_CONFIG, "factor is NaN");
    config.length = 0;
    config.scaling = RV_ROPE_PLAIN;
    io.place = &bad;
    io.n = 1;
    REFUSED(io.first, 0, RV_ERR_ARG, "place[0] is NaN");
    REFUSED(io.index, index, RV_ERR_ARG, "both given");
    io.cosines = io.sines = x;
    io.n_table = 2;
    REFUSED(io.first, 0, RV_ERR_CONFIG, "no meaning");
    io.place = NULL;
    REFUSED(config.base, 100, RV_ERR_CONFIG, "no meaning");
    REFUSED(io.first, 2, RV_ERR_ARG, "below 2");
    io.out = x;
    REFUSED(io.out_stride, 12, RV_ERR_ARG, "strides");
#undef REFUSED
    io.n = 0;
    RV_OKAY(&ctx, rv_rope_run(&ctx, &config, &io));
    RV_FAILS(&ctx, rv_rope_angles(&ctx, NULL, 1, theta, NULL), RV_ERR_DIM, "dim is 1");
    RV_FAILS(&ctx, rv_rope_angles(&ctx, NULL, 4, NULL, NULL), RV_ERR_ARG, "theta is NULL");
    RV_FAILS(&ctx, rv_rope_angles(&ctx, NULL, 5, theta, NULL), RV_ERR_CONFIG, "rotary_dim is 5");
    RV_FAILS(&ctx, rv_t5_buckets(&ctx, NULL, 0, 1, NULL), RV_ERR_ARG, "out is NULL");
    RV_FAILS(&ctx, rv_t5_buckets(&ctx, NULL, 2147483647, 2, bucket), RV_ERR_ARG, "within 2^31");
    t5.buckets = 5;
    RV_FAILS(&ctx, rv_t5_buckets(&ctx, &t5, 0, 1, bucket), RV_ERR_CONFIG, "buckets is 5");
    RV_FAILS(&ctx, rv_t5_backward(&ctx, &t5, x, 1, 1, 1, 0, y), RV_ERR_CONFIG, "buckets is 5");
    RV_FAILS(&ctx, rv_t5_add(&ctx, &t5, x, 1, 1, 1, 0, y), RV_ERR_CONFIG, "buckets is 5");
    t5.causal = 1;
    t5.max_distance = 2;
    RV_FAILS(&ctx, rv_t5_buckets(&ctx, &t5, 0, 1, bucket), RV_ERR_CONFIG, "max_distance is 2");
    RV_FAILS(&ctx, rv_t5_add(&ctx, NULL, NULL, 1, 1, 1, 0, y), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_t5_backward(&ctx, NULL, x, 1, 1, 1, 0, NULL), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_t5_add(&ctx, NULL, x, 1, 1, (size_t)1 << 30, 0, y), RV_ERR_DIM, "below 2^30");
}

typedef struct sweep_set {
    float *x;
    size_t n, dim;
} sweep_set;

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const sweep_set *set = (const sweep_set *)arg;
    rv_rope_io io;
    rv_status status;
    memset(&io, 0, sizeof io);
    io.n = set->n;
    io.dim = set->dim;
    io.x = set->x;
    io.out = set->x;
    status = rv_rope_run(ctx, NULL, &io);
    if (!status) status = rv_t5_add(ctx, NULL, set->x, 2, 50, set->n * set->dim / 100, 0, set->x);
    if (!status)
        status = rv_t5_backward(ctx, NULL, set->x, 2, 50, set->n * set->dim / 100, 0, set->x);
    return status;
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static void test_faults(void)
{
    sweep_set set;
    float *one;
    rv_rope_io io;
    rv_ctx ctx;
    set.n = RV_SCALED(40000u, 500u);
    set.dim = 30;
    set.x = (float *)calloc(set.n * set.dim, sizeof(float));
    one = (float *)calloc(set.n * set.dim, sizeof(float));
    if (!set.x || !one) exit(2);
    RV_EQUAL(rv_test_oom_sweep(sweep, &set), 6);
    RV_CHECK(rv_test_cancel_sweep(sweep, &set) > (RV_TEST_SCALE > 1 ? 3u : 10u));
    rv_test_ctx(&ctx); /* any number of workers: the same bits */
    memset(&io, 0, sizeof io);
    io.n = 300;
    io.dim = 30;
    io.x = grid(1, set.x, 300 * 30);
    io.out = one;
    RV_OKAY(&ctx, rv_rope_run(&ctx, NULL, &io));
    ctx.parallel = backwards;
    ctx.workers = 3;
    io.out = set.x;
    RV_OKAY(&ctx, rv_rope_run(&ctx, NULL, &io));
    RV_CHECK(memcmp(one, set.x, 300 * 30 * sizeof(float)) == 0);
    free(one);
    free(set.x);
}

int main(void)
{
    rv_test_begin("position");
    RV_RUN(test_onnx);
    RV_RUN(test_angles);
    RV_RUN(test_properties);
    RV_RUN(test_transpose);
    RV_RUN(test_t5);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
