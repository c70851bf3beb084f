/* Information geometry and the bottleneck: torch, scipy, mpmath, closed forms, slopes, faults. */
#include "grid_set.h"

#include "golden/info.h"

enum { N = 8, ROWS = 6 };

static void simplex(size_t i, float *p)
{
    for (size_t j = 0; j < N; j++) p[j] = (float)rv_golden_simplex[i].p[j];
}

static void near_all(const float *got, const double *want, size_t n, double relative)
{
    CHECK_ALL(got, want, n, relative);
}

/* ---- distributions ---- */

static void test_distributions(void)
{
    float p[ROWS * N], q[ROWS * N], out[N];
    double h[ROWS], d[ROWS], js = -1;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < ROWS; i++) simplex(i, p + i * N);
    RV_OKAY(&ctx, rv_info_entropy(&ctx, p, ROWS, N, h));
    for (size_t i = 0; i < ROWS; i++) {
        rv_test_row("row", i);
        RV_NEAR(h[i], rv_golden_simplex[i].entropy, 1e-14);
        RV_OKAY(&ctx, rv_info_compress(&ctx, p + i * N, 1, N, 0.5f, out));
        near_all(out, rv_golden_simplex[i].compressed, N, 2 * U);
        RV_OKAY(&ctx, rv_info_compress(&ctx, p + i * N, 1, N, 3.0f, out));
        near_all(out, rv_golden_simplex[i].compressed + N, N, 2 * U);
        for (size_t k = 0; k < ROWS; k++) memcpy(q + k * N, p + i * N, N * sizeof(float));
        RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, q, p, ROWS, N, d));
        for (size_t k = 0; k < ROWS; k++) {
            RV_NEAR(d[k], rv_golden_simplex[i].distance[k], 1e-14);
            RV_OKAY(&ctx, rv_loss_js(&ctx, p + i * N, p + k * N, 1, N, &js, NULL, NULL));
            RV_NEAR(js, rv_golden_simplex[i].js[k], 1e-14);
        }
    }
    RV_NEAR(h[2], 0, 0);
    RV_NEAR(h[0], log(8.0), 1e-15);
    RV_OKAY(&ctx, rv_info_entropy(&ctx, NULL, 0, N, NULL));
}

/* A metric: symmetric, 0 for equal rows, the triangle; pi for disjoint ones; exact when near. */
static void test_metric(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    float p[3 * N], two[4] = {1, 0, 0, 1}, eps = 1.0f / 4096.0f;
    double ab, bc, ac, ba;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (size_t t = 0; t < 300; t++) {
        for (size_t i = 0; i < 3; i++) {
            rv_test_fill(&rng, p + i * N, N);
            rv_softmax_f32(p + i * N, (float)(1 + t % 12), p + i * N, N);
        }
        RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, p, p + N, 1, N, &ab));
        RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, p + N, p, 1, N, &ba));
        RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, p + N, p + 2 * N, 1, N, &bc));
        RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, p, p + 2 * N, 1, N, &ac));
        RV_CHECK(ab > 0 && ab < 3.1415926536 && ac <= ab + bc + 1e-14);
        RV_NEAR(ab, ba, 1e-15);
    }
    RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, p, p, 1, N, &ab));
    RV_NEAR(ab, 0, 0);
    RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, two, two + 2, 1, 2, &ab));
    RV_NEAR(ab, 3.14159265358979, 1e-14);
    /* for a step of e from (1/2, 1/2): asin(2 e), of which arccos keeps half the digits */
    for (size_t t = 0; t < 4; t++, eps /= 16.0f) {
        two[0] = two[1] = 0.5f;
        two[2] = 0.5f + eps;
        two[3] = 0.5f - eps;
        RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, two, two + 2, 1, 2, &ab));
        RV_NEAR(ab, asin(2 * (double)eps), 1e-10 * (double)eps);
    }
}

/* Weights of softmax: compression is division of the logits; any sum is taken; zeros stay. */
static void test_compress(void)
{
    float x[100], w[100], y[100];
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    rv_test_fill(&rng, x, 100);
    rv_softmax_f32(x, 4.0f, w, 100);
    for (size_t i = 0; i < 100; i++) w[i] *= 7.0f;
    rv_softmax_f32(x, 4.0f / 2.5f, y, 100);
    RV_OKAY(&ctx, rv_info_compress(&ctx, w, 1, 100, 2.5f, w));
    for (size_t i = 0; i < 100; i++) RV_NEAR(w[i], y[i], 1e-6 * (double)y[i]);
    memset(w, 0, sizeof w);
    RV_OKAY(&ctx, rv_info_compress(&ctx, w, 4, 25, 0.5f, y));
    for (size_t i = 0; i < 100; i++) RV_NEAR(y[i], 0, 0);
}

/* ---- Fisher's information ---- */

static void test_fisher(void)
{
    float p[N], b[N], x[N], y[N];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < ROWS; i++) {
        rv_fisher_config config = {RV_FISHER_CLOSED, 0, 0, 0, 0};
        rv_test_row("row", i);
        simplex(i, p);
        grid((size_t)rv_golden_fisher[i].v, b, N);
        RV_OKAY(&ctx, rv_fisher_times(&ctx, p, b, N, 0, x));
        near_all(x, rv_golden_fisher[i].times, N, 2 * U);
        for (int method = 0; method < 2; method++) {
            config.method = method ? RV_FISHER_CG : RV_FISHER_CLOSED;
            config.tolerance = 1e-13f;
            config.damping = 0;
            RV_OKAY(&ctx, rv_fisher_solve(&ctx, &config, p, b, N, x));
            near_all(x, rv_golden_fisher[i].pinv, N, 2 * U);
            for (size_t j = 0; j < N; j++) RV_CHECK(p[j] > 0 || x[j] == 0);
            config.damping = 1.0f / 128.0f;
            RV_OKAY(&ctx, rv_fisher_solve(&ctx, &config, p, b, N, x));
            near_all(x, rv_golden_fisher[i].damped, N, 2 * U);
            RV_OKAY(&ctx, rv_fisher_times(&ctx, p, x, N, config.damping, y)); /* and back */
            for (size_t j = 0; j < N; j++) RV_NEAR(y[j], b[j], 16 * U);
        }
        config.method = RV_FISHER_DIAGONAL;
        RV_OKAY(&ctx, rv_fisher_solve(&ctx, &config, p, b, N, b)); /* in place */
        near_all(b, rv_golden_fisher[i].diagonal, N, 2 * U);
    }
}

/* F F+ b = b for b of sum 0, F+ F v = v less its mean, conjugate gradients agree with the closed
   form: random p of many sizes. */
static void test_inverse(void)
{
    enum { MOST = 200 };
    float p[MOST], b[MOST], x[MOST], y[MOST];
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    for (size_t t = 0; t < 60; t++) {
        const size_t n = 1 + rv_test_below(&rng, MOST);
        rv_fisher_config config = {RV_FISHER_CLOSED, 0, 0, 200, 1e-12f};
        double mean = 0, size = 0;
        rv_test_fill(&rng, p, n);
        rv_softmax_f32(p, 3.0f, p, n);
        rv_test_fill(&rng, b, n);
        for (size_t j = 0; j < n; j++) mean += (double)b[j] / (double)n;
        RV_OKAY(&ctx, rv_fisher_solve(&ctx, &config, p, b, n, x));
        RV_OKAY(&ctx, rv_fisher_times(&ctx, p, x, n, 0, y));
        for (size_t j = 0; j < n; j++) RV_NEAR(y[j], (double)b[j] - mean, 1e-5);
        for (size_t j = 0; j < n; j++) size = fabs((double)x[j]) > size ? fabs((double)x[j]) : size;
        config.method = RV_FISHER_CG;
        RV_OKAY(&ctx, rv_fisher_solve(&ctx, &config, p, b, n, y));
        for (size_t j = 0; j < n; j++) RV_NEAR(y[j], x[j], 4e-7 * size);
        RV_OKAY(&ctx, rv_fisher_times(&ctx, p, b, n, 0, x));
        RV_OKAY(&ctx, rv_fisher_solve(&ctx, NULL, p, x, n, x));
        for (size_t j = 0; j < n; j++) RV_NEAR(x[j], (double)b[j] - mean, 2e-5);
    }
}

/* The step of cross entropy is lr (t / p - 1) up to a shift of all logits; every method that
   inverts gives it; a whole step from anywhere near lands on the target to first order. */
static void test_step(void)
{
    float theta[N], was[N], p[N], g[N], t[N];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    simplex(1, t);
    for (int method = 0; method < 2; method++) {
        rv_fisher_config config = {RV_FISHER_CLOSED, 0, 0, 100, 1e-12f};
        double shift;
        grid(9, theta, N);
        memcpy(was, theta, sizeof was);
        rv_softmax_f32(theta, 1.0f, p, N);
        for (size_t j = 0; j < N; j++) g[j] = p[j] - t[j];
        config.method = method ? RV_FISHER_CG : RV_FISHER_CLOSED;
        RV_OKAY(&ctx, rv_fisher_step(&ctx, &config, theta, g, N));
        shift = (double)(theta[0] - was[0]) - 0.1 * ((double)t[0] / (double)p[0] - 1);
        for (size_t j = 0; j < N; j++) {
            const double step = 0.1 * ((double)t[j] / (double)p[j] - 1);
            RV_NEAR((double)theta[j] - (double)was[j], step + shift, 2e-6);
        }
    }
    /* from p near t a step of lr 1 leaves an error of second order */
    for (size_t j = 0; j < N; j++) theta[j] = (float)(log((double)t[j]) + (j % 2 ? 0.01 : -0.01));
    rv_softmax_f32(theta, 1.0f, p, N);
    for (size_t j = 0; j < N; j++) g[j] = p[j] - t[j];
    {
        rv_fisher_config config = {RV_FISHER_CLOSED, 0, 1.0f, 0, 0};
        RV_OKAY(&ctx, rv_fisher_step(&ctx, &config, theta, g, N));
    }
    rv_softmax_f32(theta, 1.0f, p, N);
    for (size_t j = 0; j < N; j++) RV_NEAR(p[j], t[j], 2e-4 * (double)t[j]);
    /* logits far apart: p underflows, the damping holds */
    for (size_t j = 0; j < N; j++) theta[j] = j ? -1000.0f : 1000.0f;
    for (size_t j = 0; j < N; j++) g[j] = j ? -1.0f : 7.0f;
    RV_OKAY(&ctx, rv_fisher_step(&ctx, NULL, theta, g, N));
    for (size_t j = 0; j < N; j++) RV_CHECK(fabs((double)theta[j]) < 1e9);
}

/* ---- conjugate gradients ---- */

typedef struct dense {
    double a[36];
    size_t n;
} dense;

static void dense_times(void *user, const double *x, double *y)
{
    const dense *d = (const dense *)user;
    for (size_t i = 0; i < d->n; i++) {
        y[i] = 0;
        for (size_t j = 0; j < d->n; j++) y[i] += d->a[i * d->n + j] * x[j];
    }
}

static void six(dense *d, double *b, double *x)
{
    float a[36], y[6];
    grid(3, a, 36);
    d->n = 6;
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            d->a[i * 6 + j] = i == j;
            for (size_t k = 0; k < 6; k++)
                d->a[i * 6 + j] += (double)a[i * 6 + k] * (double)a[j * 6 + k];
        }
    }
    grid(4, y, 6);
    for (size_t i = 0; i < 6; i++) b[i] = (double)y[i];
    grid(5, y, 6);
    for (size_t i = 0; i < 6; i++) x[i] = (double)y[i];
}

static void test_cg(void)
{
    double b[6], x[6];
    dense d;
    rv_cg_config config = {0, 1e-15};
    rv_cg_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_cg); row++) {
        rv_test_row("iterations", row);
        six(&d, b, x);
        memset(&io, 0, sizeof io);
        io.n = 6;
        io.times = dense_times;
        io.user = &d;
        io.b = b;
        io.x = x;
        config.iterations = (uint32_t)rv_golden_cg[row].most;
        RV_OKAY(&ctx, rv_cg_run(&ctx, &config, &io));
        RV_EQUAL(io.iterations, rv_golden_cg[row].most);
        for (size_t i = 0; i < 6; i++) RV_NEAR(x[i], rv_golden_cg[row].x[i], 1e-9);
        RV_NEAR(io.residual, rv_golden_cg[row].residual, 1e-9);
    }
    RV_CHECK(io.residual < 1e-9);
    RV_OKAY(&ctx, rv_cg_run(&ctx, NULL, &io)); /* from the solution: nothing to do */
    RV_EQUAL(io.iterations, 0);
    memset(b, 0, sizeof b);
    RV_OKAY(&ctx, rv_cg_run(&ctx, NULL, &io));
    for (size_t i = 0; i < 6; i++) RV_NEAR(x[i], 0, 0);
    io.n = 0;
    RV_OKAY(&ctx, rv_cg_run(&ctx, NULL, &io));
}

static void test_cg_errors(void)
{
    double b[6], x[6], was[6];
    dense d;
    rv_cg_config config = {0, -1};
    rv_cg_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    six(&d, b, x);
    memcpy(was, x, sizeof x);
    memset(&io, 0, sizeof io);
    io.n = 6;
    io.times = dense_times;
    io.user = &d;
    io.x = x;
    RV_FAILS(&ctx, rv_cg_run(&ctx, NULL, NULL), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_cg_run(&ctx, NULL, &io), RV_ERR_ARG, "NULL");
    io.b = b;
    RV_FAILS(&ctx, rv_cg_run(&ctx, &config, &io), RV_ERR_CONFIG, "tolerance is -1");
    for (size_t i = 0; i < 36; i++) d.a[i] = -d.a[i];
    RV_FAILS(&ctx, rv_cg_run(&ctx, NULL, &io), RV_ERR_ARG, "d A d is -");
    for (size_t i = 0; i < 36; i++) d.a[i] = (double)not_a_number();
    RV_FAILS(&ctx, rv_cg_run(&ctx, NULL, &io), RV_ERR_ARG, "must be finite");
    b[4] = (double)infinite();
    RV_FAILS(&ctx, rv_cg_run(&ctx, NULL, &io), RV_ERR_ARG, "b[4]");
    RV_EQUAL(ctx.where, 4);
    RV_CHECK(memcmp(was, x, sizeof x) == 0);
}

/* ---- bottleneck ---- */

enum { VN = 3, VD = 5, V = VN * VD };

static void vib_inputs(size_t row, float *mean, float *logvar, rv_vib_config *config, rv_vib_io *io)
{
    grid(1, mean, V);
    grid(2, logvar, V);
    for (size_t i = 0; i < V; i++) logvar[i] *= (float)rv_golden_vib[row].scale;
    memset(config, 0, sizeof *config);
    memset(io, 0, sizeof *io);
    config->beta = 0.25f;
    config->anneal = 40;
    config->min_variance = row ? 1e-4f : 0.0f;
    io->mean = mean;
    io->logvar = logvar;
    io->n = VN;
    io->dim = VD;
    io->step = 30;
    io->stream = 5;
}

static void test_vib(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_vib); row++) {
        float mean[V], logvar[V], z[V], dz[V], d[2 * V];
        double kl[VN], loss = -1;
        rv_vib_config config;
        rv_vib_io io;
        rv_vib_grad grad;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        ctx.seed = 77;
        vib_inputs(row, mean, logvar, &config, &io);
        io.z = z;
        io.kl = kl;
        io.loss = &loss;
        RV_OKAY(&ctx, rv_vib_run(&ctx, &config, &io));
        for (size_t i = 0; i < V; i++) /* each by its own size: they differ by e^20 */
            RV_NEAR(z[i], rv_golden_vib[row].z[i], 2 * U * fabs(rv_golden_vib[row].z[i]));
        for (size_t i = 0; i < VN; i++)
            RV_NEAR(kl[i], rv_golden_vib[row].kl[i], 1e-13 * rv_golden_vib[row].kl[i]);
        RV_NEAR(loss, rv_golden_vib[row].loss, 1e-13 * rv_golden_vib[row].loss);
        grid(3, dz, V);
        grad.d_z = dz;
        grad.d_mean = d;
        grad.d_logvar = d + V;
        RV_OKAY(&ctx, rv_vib_backward(&ctx, &config, &io, &grad));
        for (size_t i = 0; i < 2 * V; i++) {
            const double want = rv_golden_vib[row].grad[i];
            RV_NEAR(d[i], want, 4 * U * fabs(want) + 1e-12);
        }
        grad.d_mean = NULL;
        grad.d_logvar = dz; /* over its own input */
        RV_OKAY(&ctx, rv_vib_backward(&ctx, &config, &io, &grad));
        RV_CHECK(memcmp(dz, d + V, sizeof dz) == 0);
        io.z = mean;
        RV_OKAY(&ctx, rv_vib_run(&ctx, &config, &io));
        RV_CHECK(memcmp(mean, z, sizeof z) == 0);
    }
}

typedef struct vib_arg {
    rv_ctx *ctx;
    rv_vib_config *config;
    rv_vib_io *io;
    const float *dz;
} vib_arg;

static double vib_loss(void *arg)
{
    vib_arg *v = (vib_arg *)arg;
    double loss = 0, sum = 0;
    float z[V];
    v->io->z = z;
    v->io->loss = &loss;
    RV_OKAY(v->ctx, rv_vib_run(v->ctx, v->config, v->io));
    for (size_t i = 0; i < V; i++) sum += (double)z[i] * (double)v->dz[i];
    return loss + sum;
}

static void test_vib_slopes(void)
{
    float mean[V], logvar[V], dz[V], d[2 * V];
    rv_vib_config config;
    rv_vib_io io;
    rv_vib_grad grad;
    vib_arg arg;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    vib_inputs(0, mean, logvar, &config, &io);
    grid(3, dz, V);
    for (int still = 0; still < 2; still++) {
        io.still = still;
        grad.d_z = dz;
        grad.d_mean = d;
        grad.d_logvar = d + V;
        RV_OKAY(&ctx, rv_vib_backward(&ctx, &config, &io, &grad));
        arg.ctx = &ctx;
        arg.config = &config;
        arg.io = &io;
        arg.dz = dz;
        check_slopes(vib_loss, &arg, mean, d, V, 1.0 / 32, 1e-4);
        check_slopes(vib_loss, &arg, logvar, d + V, V, 1.0 / 32, 1e-4);
    }
    grad.d_z = NULL; /* the KL's own: beta_t mean / n, beta_t (e^logvar - 1) / 2 n */
    RV_OKAY(&ctx, rv_vib_backward(&ctx, &config, &io, &grad));
    for (size_t i = 0; i < V; i++) {
        RV_NEAR(d[i], 0.1875 * (double)mean[i] / 3, 1e-7);
        RV_NEAR(d[V + i], 0.1875 * (exp((double)logvar[i]) - 1) / 6, 1e-6);
    }
}

/* Annealing; noise of mean 0, variance 1, kurtosis 3, uncorrelated, another for another stream,
   seed; none when still. */
static void test_noise(void)
{
    enum { MANY = 40000 };
    const size_t n = RV_SCALED(MANY, 2000);
    float *x = (float *)calloc(3 * n, sizeof(float));
    double s[6] = {0, 0, 0, 0, 0, 0}, loss = -1;
    rv_vib_config config = {0, 0, 0};
    rv_vib_io io;
    rv_ctx ctx;
    if (!x) exit(2);
    rv_test_ctx(&ctx);
    RV_NEAR(rv_vib_beta(NULL, 0), 0, 0);
    RV_NEAR(rv_vib_beta(NULL, 500), 0.05, 1e-8);
    RV_NEAR(rv_vib_beta(NULL, 1000), 0.1, 1e-8);
    RV_NEAR(rv_vib_beta(NULL, UINT64_MAX), 0.1, 1e-8);
    config.beta = 2.0f;
    config.anneal = 1;
    RV_NEAR(rv_vib_beta(&config, 0), 0, 0);
    RV_NEAR(rv_vib_beta(&config, 1), 2, 0);
    memset(&io, 0, sizeof io);
    io.mean = io.logvar = x;
    io.n = 1;
    io.dim = n;
    io.step = 1;
    io.z = x + n;
    io.loss = &loss;
    RV_OKAY(&ctx, rv_vib_run(&ctx, &config, &io));
    RV_NEAR(loss, 0, 0);
    io.stream = 1;
    io.z = x + 2 * n;
    RV_OKAY(&ctx, rv_vib_run(&ctx, &config, &io));
    for (size_t i = 0; i < n; i++) {
        const double a = (double)x[n + i], b = (double)x[2 * n + i];
        s[0] += a;
        s[1] += a * a;
        s[2] += a * a * a * a;
        s[3] += a * b;
        s[4] += i ? a * (double)x[n + i - 1] : 0;
        s[5] += a * a * a;
    }
    /* five deviations each */
    RV_NEAR(s[0] / (double)n, 0, 5 / sqrt((double)n));
    RV_NEAR(s[1] / (double)n, 1, 5 * sqrt(2.0 / (double)n));
    RV_NEAR(s[2] / (double)n, 3, 5 * sqrt(96.0 / (double)n));
    RV_NEAR(s[3] / (double)n, 0, 5 / sqrt((double)n));
    RV_NEAR(s[4] / (double)n, 0, 5 / sqrt((double)n));
    RV_NEAR(s[5] / (double)n, 0, 5 * sqrt(15.0 / (double)n));
    ctx.seed = 5;
    io.z = x + n;
    RV_OKAY(&ctx, rv_vib_run(&ctx, &config, &io));
    RV_CHECK(memcmp(x + n, x + 2 * n, n * sizeof(float)) != 0);
    io.still = 1;
    RV_OKAY(&ctx, rv_vib_run(&ctx, &config, &io));
    for (size_t i = 0; i < n; i++) RV_NEAR(x[n + i], 0, 0);
    io.n = 0;
    RV_OKAY(&ctx, rv_vib_run(&ctx, &config, &io));
    RV_NEAR(loss, 0, 0);
    free(x);
}

/* ---- faults ---- */

static void test_errors(void)
{
    float p[N], x[N], y[N];
    double d;
    rv_fisher_config config = {RV_FISHER_CLOSED, 0, 0, 0, 0};
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    simplex(0, p);
    grid(1, x, N);
    RV_FAILS(&ctx, rv_info_entropy(&ctx, NULL, 1, N, &d), RV_ERR_ARG, "p is NULL");
    RV_FAILS(&ctx, rv_info_entropy(&ctx, p, 1, N, NULL), RV_ERR_ARG, "entropy is NULL");
    RV_FAILS(&ctx, rv_info_entropy(&ctx, p, 1, 0, &d), RV_ERR_ARG, "dim is 0");
    RV_FAILS(&ctx, rv_info_entropy(&ctx, p, SIZE_MAX / 8, 9, &d), RV_ERR_ARG, "no size");
    RV_FAILS(&ctx, rv_info_entropy(&ctx, p, 1, 7, &d), RV_ERR_ARG, "sums to 0.875");
    RV_FAILS(&ctx, rv_info_fisher_rao(&ctx, p, p, 1, N, NULL), RV_ERR_ARG, "distance is NULL");
    RV_FAILS(&ctx, rv_info_fisher_rao(&ctx, p, x, 1, N, &d), RV_ERR_ARG, "must be 0 or more");
    RV_FAILS(&ctx, rv_info_compress(&ctx, p, 1, N, 0, y), RV_ERR_ARG, "temperature is 0");
    RV_FAILS(&ctx, rv_info_compress(&ctx, p, 1, N, not_a_number(), y), RV_ERR_ARG, "is NaN");
    RV_FAILS(&ctx, rv_info_compress(&ctx, p, 1, N, 1, NULL), RV_ERR_ARG, "out is NULL");
    RV_FAILS(&ctx, rv_fisher_times(&ctx, p, x, N, -1, y), RV_ERR_ARG, "damping is -1");
    RV_FAILS(&ctx, rv_fisher_times(&ctx, p, x, N, 0, NULL), RV_ERR_ARG, "out is NULL");
    RV_FAILS(&ctx, rv_fisher_solve(&ctx, NULL, p, x, N, NULL), RV_ERR_ARG, "x is NULL");
    RV_FAILS(&ctx, rv_fisher_step(&ctx, NULL, x, NULL, N), RV_ERR_ARG, "grad is NULL");
    config.method = (rv_fisher_method)3;
    RV_FAILS(&ctx, rv_fisher_solve(&ctx, &config, p, x, N, y), RV_ERR_CONFIG, "method is 3");
    config.method = RV_FISHER_CG;
    config.damping = -1;
    RV_FAILS(&ctx, rv_fisher_solve(&ctx, &config, p, x, N, y), RV_ERR_CONFIG, "damping is -1");
    config.damping = 0;
    config.lr = infinite();
    RV_FAILS(&ctx, rv_fisher_step(&ctx, &config, x, x, N), RV_ERR_CONFIG, "lr is infinity");
    config.lr = 0;
    config.tolerance = not_a_number();
    RV_FAILS(&ctx, rv_fisher_step(&ctx, &config, x, x, N), RV_ERR_CONFIG, "tolerance is NaN");
    x[3] = not_a_number();
    RV_FAILS(&ctx, rv_fisher_solve(&ctx, NULL, p, x, N, y), RV_ERR_ARG, "b[3] is NaN");
    RV_EQUAL(ctx.where, 3);
    RV_EQUAL(rv_info_entropy(NULL, p, 1, N, &d), RV_OK);
}

static void test_vib_errors(void)
{
    float mean[V], logvar[V];
    rv_vib_config config;
    rv_vib_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    vib_inputs(0, mean, logvar, &config, &io);
    RV_FAILS(&ctx, rv_vib_run(&ctx, &config, NULL), RV_ERR_ARG, "io is NULL");
    RV_FAILS(&ctx, rv_vib_backward(&ctx, &config, &io, NULL), RV_ERR_ARG, "grad is NULL");
    config.beta = -1;
    RV_FAILS(&ctx, rv_vib_run(&ctx, &config, &io), RV_ERR_CONFIG, "beta is -1");
#if !defined(__FAST_MATH__)
    RV_CHECK(rv_vib_beta(&config, 3) != rv_vib_beta(&config, 3));
#endif
    config.beta = not_a_number();
    RV_FAILS(&ctx, rv_vib_run(&ctx, &config, &io), RV_ERR_CONFIG, "beta is NaN");
    config.beta = 0;
    config.min_variance = 2;
    RV_FAILS(&ctx, rv_vib_run(&ctx, &config, &io), RV_ERR_CONFIG, "min_variance is 2");
    config.min_variance = 1e-20f;
    RV_FAILS(&ctx, rv_vib_run(&ctx, &config, &io), RV_ERR_CONFIG, "min_variance is 1e-20");
    config.min_variance = 0;
    logvar[7] = infinite();
    RV_FAILS(&ctx, rv_vib_run(&ctx, &config, &io), RV_ERR_ARG, "logvar[7]");
    io.logvar = NULL;
    RV_FAILS(&ctx, rv_vib_run(&ctx, &config, &io), RV_ERR_ARG, "logvar is NULL");
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    float p[N], b[N], x[N];
    rv_fisher_config config = {RV_FISHER_CG, 0, 0, 0, 0};
    rv_vib_config vib;
    rv_vib_io io;
    rv_vib_grad grad;
    float mean[V], logvar[V], z[V];
    rv_status status;
    (void)arg;
    simplex(1, p);
    grid(1, b, N);
    grid(2, x, N);
    vib_inputs(0, mean, logvar, &vib, &io);
    io.z = z;
    memset(&grad, 0, sizeof grad);
    status = rv_fisher_solve(ctx, &config, p, b, N, x);
    if (status) {
        float same[N];
        grid(2, same, N);
        RV_CHECK(memcmp(x, same, sizeof x) == 0);
        return status;
    }
    grid(2, x, N);
    status = rv_fisher_step(ctx, &config, x, b, N);
    if (!status) status = rv_vib_run(ctx, &vib, &io);
    if (!status) status = rv_vib_backward(ctx, &vib, &io, &grad);
    return status;
}

static void test_faults(void)
{
    RV_EQUAL(rv_test_oom_sweep(sweep, NULL), 7);
    RV_CHECK(rv_test_cancel_sweep(sweep, NULL) > 12);
}

int main(void)
{
    rv_test_begin("info");
    RV_RUN(test_distributions);
    RV_RUN(test_metric);
    RV_RUN(test_compress);
    RV_RUN(test_fisher);
    RV_RUN(test_inverse);
    RV_RUN(test_step);
    RV_RUN(test_cg);
    RV_RUN(test_cg_errors);
    RV_RUN(test_vib);
    RV_RUN(test_vib_slopes);
    RV_RUN(test_noise);
    RV_RUN(test_errors);
    RV_RUN(test_vib_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
