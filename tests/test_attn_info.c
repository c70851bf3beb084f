/* Fisher attention and the information bottleneck: torch, definitions in double, slopes, faults. */
#include "attn_info_set.h"

#include "golden/attn_info.h"

/* ---- rules ---- */

/* param: temperature */
static double fisher_logit(const problem *p, size_t h, size_t i, size_t j)
{
    const float *q = query_of(p, h, i), *k = key_of(p, h, j);
    const size_t dim = p->io.dim;
    double top_q = -1e300, top_k = -1e300, qq = 0, kk = 0, apart = 0, along = 0, d;
    for (size_t a = 0; a < dim; a++) {
        if ((double)q[a] > top_q) top_q = (double)q[a];
        if ((double)k[a] > top_k) top_k = (double)k[a];
    }
    for (size_t a = 0; a < dim; a++) {
        qq += exp((double)q[a] - top_q);
        kk += exp((double)k[a] - top_k);
    }
    for (size_t a = 0; a < dim; a++) {
        const double u = exp(((double)q[a] - top_q) / 2) / sqrt(qq);
        const double v = exp(((double)k[a] - top_k) / 2) / sqrt(kk);
        apart += (u - v) * (u - v);
        along += (u + v) * (u + v);
    }
    d = 4 * atan2(sqrt(apart), sqrt(along));
    return -d * d / p->param;
}

/* param: what multiplies q . k */
static double dot_logit(const problem *p, size_t h, size_t i, size_t j)
{
    const float *q = query_of(p, h, i), *k = key_of(p, h, j);
    double x = 0;
    for (size_t a = 0; a < p->io.dim; a++) x += (double)q[a] * (double)k[a];
    return x * p->param;
}

static problem work;

/* ---- torch ---- */

static void test_golden(void)
{
    problem *const p = &work;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_info); row++) {
        const int kind = rv_golden_attn_info[row].kind;
        rv_attn_bottleneck_config config;
        rv_attn_grad grad;
        float rate[8];
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        memset(p, 0, sizeof *p);
        memset(&config, 0, sizeof config);
        p->io.n_q = 4;
        p->io.n_k = 5;
        p->io.dim = 3;
        p->io.dim_v = 2;
        p->io.q = grid(1, p->q, 24);
        p->io.k = grid(2, p->k, 15);
        p->io.v = grid(3, p->v, 10);
        grid(4, p->d_out, 16);
        p->io.out = p->out;
        p->io.weights = p->weights;
        config.base.heads = 2;
        config.base.kv_heads = 1;
        if (rv_golden_attn_info[row].causal) config.base.order = RV_ATTN_CAUSAL;
        point_grad(p, &grad);
        if (kind == 0) {
            config.base.temperature = 0.25f;
            RV_OKAY(&ctx, rv_attn_fisher(&ctx, &config.base, &p->io));
            RV_OKAY(&ctx, rv_attn_fisher_backward(&ctx, &config.base, &p->io, &grad));
        } else {
            config.base.scale = 2.0f;
            config.compression = 0.5f;
            config.vib.beta = 3.0f;
            config.vib.anneal = 40;
            config.step = 10;
            config.rate = rate;
            RV_OKAY(&ctx, rv_attn_information_bottleneck(&ctx, &config, &p->io));
            CHECK_ALL(rate, rv_golden_attn_info[row].rate, 8, 64 * U);
            RV_OKAY(&ctx, rv_attn_information_bottleneck_backward(&ctx, &config, &p->io, &grad));
        }
        CHECK_ALL(p->out, rv_golden_attn_info[row].out, 16, 64 * U);
        CHECK_ALL(p->weights, rv_golden_attn_info[row].weights, 40, 64 * U);
        CHECK_ALL(p->d_q, rv_golden_attn_info[row].d_q, 24, 64 * U);
        CHECK_ALL(p->d_k, rv_golden_attn_info[row].d_k, 15, 64 * U);
        CHECK_ALL(p->d_v, rv_golden_attn_info[row].d_v, 10, 64 * U);
    }
}

/* ---- definitions ---- */

static const shape fisher_shapes[] = {
    {1, 1, 1, 0, 1, 1, 0, 0, RV_DTYPE_F32},
    {3, 70, 9, 4, 2, 1, 0, 0, RV_DTYPE_F32},
    {5, 20, 16, 16, 4, 2, SINKS | CAP, 1, RV_DTYPE_F16},
    {20, 9, 5, 7, 2, 2, ALLOW | PER_HEAD, 1, RV_DTYPE_F32},
    {12, 30, 8, 8, 1, 1, SLOPES | WINDOW, 2, RV_DTYPE_BF16},
    {9, 33, 6, 3, 3, 3, ADD | VISIBLE, 0, RV_DTYPE_F32},
};

static const shape rate_shapes[] = {
    {1, 1, 1, 0, 1, 1, 0, 0, RV_DTYPE_F32},
    {3, 70, 9, 4, 2, 1, 0, 0, RV_DTYPE_F32},
    {5, 20, 16, 16, 4, 2, 0, 1, RV_DTYPE_F16},
    {20, 9, 5, 7, 2, 2, ALLOW | PER_HEAD, 1, RV_DTYPE_F32},
    {12, 30, 8, 8, 1, 1, WINDOW, 2, RV_DTYPE_BF16},
    {9, 33, 6, 3, 3, 3, VISIBLE | ALLOW, 0, RV_DTYPE_F32},
};

static void test_fisher(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (size_t i = 0; i < RV_COUNT_OF(fisher_shapes); i++) {
        for (int sharp = 0; sharp < 2; sharp++) {
            rv_test_row("shape", i);
            make(&work, &fisher_shapes[i], &rng);
            work.logit = fisher_logit;
            work.param = sharp ? 0.125 : 1.0;
            work.config.temperature = sharp ? 0.125f : 0.0f;
            RV_OKAY(&ctx, rv_attn_fisher(&ctx, &work.config, &work.io));
            compare(&work, sharp ? 4e-5 : 5e-6);
        }
    }
}

static void test_rate(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (size_t i = 0; i < RV_COUNT_OF(rate_shapes); i++) {
        rv_attn_bottleneck_config config;
        static float rate[MOST_Q], was[MOST_Q], dropped[MOST_Q];
        size_t rows, count;
        rv_test_row("shape", i);
        make(&work, &rate_shapes[i], &rng);
        memset(&config, 0, sizeof config);
        config.base = work.config;
        config.base.temperature = 0.5f;
        config.compression = 0.75f;
        config.rate = rate;
        work.logit = dot_logit;
        work.param = 1 / sqrt((double)work.io.dim) / 0.375;
        rows = heads_of(&work) * work.io.n_q;
        count = rows * wide_of(&work);
        RV_OKAY(&ctx, rv_attn_information_bottleneck(&ctx, &config, &work.io));
        compare(&work, 1e-5);
        for (size_t r = 0; r < rows; r++) {
            RV_NEAR(rate[r], work.rate_want[r], 1e-5);
            RV_CHECK(rate[r] >= 0);
        }
        /* without rates: the same bits */
        memcpy(was, work.out, count * sizeof(float));
        config.rate = NULL;
        work.io.lse = NULL;
        RV_OKAY(&ctx, rv_attn_information_bottleneck(&ctx, &config, &work.io));
        RV_CHECK(memcmp(was, work.out, count * sizeof(float)) == 0);
        /* rates are of the weights before dropout */
        config.rate = dropped;
        config.base.dropout = 0.5f;
        config.base.training = 1;
        RV_OKAY(&ctx, rv_attn_information_bottleneck(&ctx, &config, &work.io));
        RV_CHECK(memcmp(rate, dropped, rows * sizeof(float)) == 0);
    }
}

/* ---- the spec's common tests ---- */

static void test_common(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_attn_bottleneck_config config;
    static float was[64], rate[4];
    const shape plain = {2, 20, 8, 3, 1, 1, 0, 0, RV_DTYPE_F32};
    rv_test_ctx(&ctx);
    for (int kind = 0; kind < 2; kind++) {
        rv_test_seed(&rng, 3);
        make(&work, &plain, &rng);
        memset(&config, 0, sizeof config);
        config.rate = rate;
#define RUN() (kind ? rv_attn_information_bottleneck(&ctx, &config, &work.io)                      \
                    : rv_attn_fisher(&ctx, &config.base, &work.io))
        for (size_t i = 0; i < 60; i++) work.v[i] = 1.0f;
        RV_OKAY(&ctx, RUN());
        for (size_t i = 0; i < 2; i++) {
            double sum = 0;
            for (size_t j = 0; j < 20; j++) sum += (double)work.weights[i * 20 + j];
            RV_NEAR(sum, 1, 1e-6);
            for (size_t a = 0; a < 3; a++) RV_NEAR(work.out[i * 3 + a], 1, 1e-6);
        }
        memcpy(was, work.weights, 40 * sizeof(float));
        for (size_t j = 0; j < 10; j++) { /* keys the other way round */
            float t[8];
            memcpy(t, work.k + j * 8, sizeof t);
            memcpy(work.k + j * 8, work.k + (19 - j) * 8, sizeof t);
            memcpy(work.k + (19 - j) * 8, t, sizeof t);
        }
        RV_OKAY(&ctx, RUN());
        for (size_t j = 0; j < 40; j++)
            RV_NEAR(work.weights[j], was[j / 20 * 20 + 19 - j % 20], 1e-7);
        if (kind == 0) { /* a constant on a query and on a key changes nothing */
            memcpy(was, work.weights, 40 * sizeof(float));
            for (size_t a = 0; a < 8; a++) work.q[a] += 5.0f;
            for (size_t a = 0; a < 8; a++) work.k[7 * 8 + a] -= 3.0f;
            RV_OKAY(&ctx, RUN());
            for (size_t j = 0; j < 40; j++) RV_NEAR(work.weights[j], was[j], 2e-6);
        }
        for (size_t j = 1; j < 20; j++) memcpy(work.k + j * 8, work.k, 8 * sizeof(float));
        RV_OKAY(&ctx, RUN());
        for (size_t j = 0; j < 40; j++) RV_NEAR(work.weights[j], 0.05, 1e-7);
        if (kind) RV_NEAR(rate[1], 0, 1e-6);
        rv_test_fill(&rng, work.k, 160);
        for (size_t j = 0; j < 160; j++) work.k[j] *= 1000.0f;
        for (size_t j = 0; j < 16; j++) work.q[j] *= 1000.0f;
        RV_OKAY(&ctx, RUN());
        for (size_t j = 0; j < 6; j++) RV_CHECK(fabsf(work.out[j]) <= 1.0001f);
        if (kind) RV_NEAR(rate[0], log(20.0), 0.2); /* one key has it all; logits of 1e5 */
        memset(work.allow, 0, sizeof work.allow);
        work.mask.allow = work.allow;
        work.io.mask = &work.mask;
        RV_OKAY(&ctx, RUN());
        for (size_t j = 0; j < 40; j++) RV_CHECK(work.weights[j] == 0);
        for (size_t j = 0; j < 6; j++) RV_CHECK(work.out[j] == 0);
        if (kind) RV_CHECK(rate[0] == 0 && rate[1] == 0);
        work.io.mask = NULL;
        work.io.n_k = 1;
        RV_OKAY(&ctx, RUN());
        RV_NEAR(work.weights[0], 1, 0);
        if (kind) RV_NEAR(rate[0], 0, 0.1);
        work.io.n_q = 0;
        RV_OKAY(&ctx, RUN());
#undef RUN
    }
}

/* Equal distributions have distance 0, disjoint ones pi, an infinitely small logit is a
   probability of 0; weights fall with the distance that rv_info_fisher_rao tells. */
static void test_distances(void)
{
    rv_ctx ctx;
    rv_attn_io io;
    rv_attn_config config;
    float q[2] = {0, 0}, k[6] = {7, 7, 0, 0, 0, 1}, v[3] = {1, 2, 3}, w[3], out[1], lse[1];
    double d;
    float p[2] = {0.5f, 0.5f}, r[2] = {1, 0};
    rv_test_ctx(&ctx);
    memset(&io, 0, sizeof io);
    memset(&config, 0, sizeof config);
    io.n_q = 1;
    io.n_k = 3;
    io.dim = 2;
    io.dim_v = 1;
    io.q = q;
    io.k = k;
    io.v = v;
    io.weights = w;
    io.out = out;
    io.lse = lse;
    k[3] = -infinite();
    RV_OKAY(&ctx, rv_attn_fisher(&ctx, &config, &io));
    RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, p, r, 1, 2, &d));
    RV_NEAR(log((double)w[0]) + (double)lse[0], 0, 1e-6);
    RV_NEAR(log((double)w[1]) + (double)lse[0], -d * d, 4e-6);
    rv_softmax_f32(k + 4, 1, r, 2);
    RV_OKAY(&ctx, rv_info_fisher_rao(&ctx, p, r, 1, 2, &d));
    RV_NEAR(log((double)w[2]) + (double)lse[0], -d * d, 2e-6);
    q[0] = -infinite(); /* against (1, 0): disjoint */
    RV_OKAY(&ctx, rv_attn_fisher(&ctx, &config, &io));
    RV_NEAR(log((double)w[1]) + (double)lse[0], -9.8696044, 2e-5);
    q[0] = not_a_number();
    RV_OKAY(&ctx, rv_attn_fisher(&ctx, &config, &io));
#if !defined(__FAST_MATH__)
    RV_CHECK(out[0] != out[0]);
#endif
}

/* ---- slopes ---- */

/* arg: the problem; its rates count with the weight in *extra. */
static double loss_of(void *arg)
{
    problem *p = (problem *)arg;
    const size_t rows = heads_of(p) * p->io.n_q;
    const double beta = *(const double *)p->extra;
    double sum = 0;
    define(p);
    for (size_t i = 0; i < rows * wide_of(p); i++) sum += p->out_want[i] * (double)p->d_out[i];
    for (size_t i = 0; i < rows; i++) sum += beta * p->rate_want[i] / (double)rows;
    return sum;
}

static void slopes_of(problem *p)
{
    const rv_attn_io *io = &p->io;
    check_slopes(loss_of, p, p->q, p->d_q, io->n_q * heads_of(p) * io->dim, 1.0 / 128, 2e-5);
    check_slopes(loss_of, p, p->k, p->d_k, io->n_k * kv_of(p) * io->dim, 1.0 / 128, 2e-5);
    check_slopes(loss_of, p, p->v, p->d_v, io->n_k * kv_of(p) * wide_of(p), 1.0 / 128, 2e-5);
    if (p->config.sinks)
        check_slopes(loss_of, p, p->sinks, p->d_sinks, heads_of(p), 1.0 / 128, 2e-5);
}

static void test_slopes(void)
{
    static const shape shapes[] = {
        {3, 7, 5, 4, 2, 1, SINKS | CAP, 1, RV_DTYPE_F32},
        {4, 6, 3, 0, 2, 2, SLOPES | VISIBLE, 0, RV_DTYPE_F32},
        {3, 7, 5, 4, 2, 1, 0, 1, RV_DTYPE_F32},
        {6, 4, 3, 0, 2, 2, ALLOW | PER_HEAD, 1, RV_DTYPE_F32},
    };
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    for (size_t i = 0; i < RV_COUNT_OF(shapes); i++) {
        rv_attn_bottleneck_config config;
        rv_attn_grad grad;
        double beta = i < 2 ? 0.0 : 1.5;
        rv_test_row("shape", i);
        make(&work, &shapes[i], &rng);
        memset(&config, 0, sizeof config);
        point_grad(&work, &grad);
        work.extra = &beta;
        work.io.out = NULL; /* not looked at */
        work.io.weights = work.io.lse = NULL;
        if (i < 2) {
            work.config.temperature = 0.5f;
            work.param = 0.5;
            work.logit = fisher_logit;
            RV_OKAY(&ctx, rv_attn_fisher_backward(&ctx, &work.config, &work.io, &grad));
        } else {
            config.base = work.config;
            config.compression = 2.0f;
            config.vib.beta = 2.0f;
            config.vib.anneal = 4;
            config.step = 3;
            work.logit = dot_logit;
            work.param = 0.5 / sqrt((double)work.io.dim);
            RV_OKAY(&ctx, rv_attn_information_bottleneck_backward(&ctx, &config, &work.io, &grad));
        }
        slopes_of(&work);
        if (i < 2) continue;
        grad.d_v = NULL; /* the others as they were, and without annealing none of the rate's */
        config.step = 0;
        beta = 0;
        RV_OKAY(&ctx, rv_attn_information_bottleneck_backward(&ctx, &config, &work.io, &grad));
        slopes_of(&work);
    }
    {   /* equal distributions: the slope of the square is 0, and finite */
        rv_attn_grad grad;
        const shape equal = {1, 3, 4, 2, 1, 1, 0, 0, RV_DTYPE_F32};
        make(&work, &equal, &rng);
        for (size_t j = 0; j < 3; j++) memcpy(work.k + j * 4, work.q, 4 * sizeof(float));
        point_grad(&work, &grad);
        RV_OKAY(&ctx, rv_attn_fisher_backward(&ctx, NULL, &work.io, &grad));
        for (size_t a = 0; a < 4; a++) RV_NEAR(work.d_q[a], 0, 1e-6);
    }
}

/* ---- faults ---- */

static void test_errors(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_attn_bottleneck_config config;
    rv_attn_grad grad;
    const shape plain = {2, 5, 4, 3, 1, 1, 0, 0, RV_DTYPE_F32};
    float untouched;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    make(&work, &plain, &rng);
    memset(&config, 0, sizeof config);
    memset(&grad, 0, sizeof grad);
    work.out[0] = untouched = 123.0f;
#define FISHER() rv_attn_fisher(&ctx, &config.base, &work.io)
#define RATE() rv_attn_information_bottleneck(&ctx, &config, &work.io)
    config.base.scale = 1;
    RV_FAILS(&ctx, FISHER(), RV_ERR_CONFIG, "scale is 1");
    config.base.scale = 0;
    RV_FAILS(&ctx, rv_attn_fisher(&ctx, NULL, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_fisher_backward(&ctx, NULL, &work.io, &grad), RV_ERR_ARG, "d_out");
    RV_FAILS(&ctx, rv_attn_fisher_backward(&ctx, NULL, NULL, &grad), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_information_bottleneck(&ctx, NULL, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_information_bottleneck_backward(&ctx, NULL, &work.io, NULL), RV_ERR_ARG,
             "grad");
    config.base.temperature = -1;
    RV_FAILS(&ctx, FISHER(), RV_ERR_CONFIG, "temperature");
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "temperature");
    config.base.temperature = 1e-20f;
    config.compression = 1e-20f;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "times compression");
    config.base.temperature = 0;
    config.compression = -2;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "compression is -2");
    config.compression = 0;
    config.base.softcap = 3;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "softcap");
    config.base.softcap = 0;
    config.base.slopes = work.slopes;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "slopes");
    config.base.slopes = NULL;
    config.base.sinks = work.sinks;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "sinks");
    config.base.sinks = NULL;
    work.mask.add = work.add;
    work.io.mask = &work.mask;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "mask->add");
    work.io.mask = NULL;
    config.vib.min_variance = 0.5f;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "min_variance is 0.5");
    config.vib.min_variance = 0;
    config.vib.beta = -3;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "vib.beta is -3");
    config.vib.beta = 0;
    config.base.raw = 1;
    RV_FAILS(&ctx, RATE(), RV_ERR_CONFIG, "raw");
    config.base.raw = 0;
    config.rate = work.lse;
    work.io.n_k = 0;
    RV_FAILS(&ctx, FISHER(), RV_ERR_DIM, "n_k is 0");
    RV_FAILS(&ctx, RATE(), RV_ERR_DIM, "n_k is 0");
    RV_CHECK(work.out[0] == untouched);
#undef FISHER
#undef RATE
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    rv_attn_bottleneck_config config;
    rv_attn_grad grad;
    float rate[64];
    rv_status status;
    (void)arg;
    memset(&config, 0, sizeof config);
    config.base = work.config;
    config.rate = rate;
    config.step = 2000;
    point_grad(&work, &grad);
    status = rv_attn_fisher(ctx, &config.base, &work.io);
    if (!status) status = rv_attn_fisher_backward(ctx, &config.base, &work.io, &grad);
    work.io.lse = NULL;
    if (!status) status = rv_attn_information_bottleneck(ctx, &config, &work.io);
    if (!status) status = rv_attn_information_bottleneck_backward(ctx, &config, &work.io, &grad);
    work.io.lse = work.lse;
    return status;
}

/* Bodies in the opposite order, one at a time. */
static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n-- > 0) body(arg, n);
}

static void test_faults(void)
{
    rv_test_rng rng;
    const shape plain = {7, 30, 4, 3, 2, 1, 0, 1, RV_DTYPE_F32};
    static float out[42], d_q[56], d_k[120];
    rv_ctx ctx;
    rv_test_seed(&rng, 6);
    make(&work, &plain, &rng);
    RV_CHECK(rv_test_oom_sweep(sweep, NULL) > 20);
    RV_CHECK(rv_test_cancel_sweep(sweep, NULL) > 15);
    /* the same bits for any number of workers */
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, sweep(&ctx, NULL));
    memcpy(out, work.out, sizeof out);
    memcpy(d_q, work.d_q, sizeof d_q);
    memcpy(d_k, work.d_k, sizeof d_k);
    ctx.parallel = backwards;
    ctx.workers = 5;
    RV_OKAY(&ctx, sweep(&ctx, NULL));
    RV_CHECK(memcmp(out, work.out, sizeof out) == 0);
    RV_CHECK(memcmp(d_q, work.d_q, sizeof d_q) == 0);
    RV_CHECK(memcmp(d_k, work.d_k, sizeof d_k) == 0);
    RV_OKAY(&ctx, rv_attn_fisher(&ctx, &work.config, &work.io));
    memcpy(out, work.out, sizeof out);
    ctx.parallel = NULL;
    RV_OKAY(&ctx, rv_attn_fisher(&ctx, &work.config, &work.io));
    RV_CHECK(memcmp(out, work.out, sizeof out) == 0);
}

int main(void)
{
    rv_test_begin("attn_info");
    RV_RUN(test_golden);
    RV_RUN(test_fisher);
    RV_RUN(test_rate);
    RV_RUN(test_common);
    RV_RUN(test_distances);
    RV_RUN(test_slopes);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
