/* Attention behind a gate: torch, definitions in double, slopes, modes, faults. */
#include "attn_info_set.h"

#include "golden/attn_topology.h"

/* A gate whose width is w of n keys: n STABLE, 1 FREEZE, else CAUTIOUS. */
static void gate_of(rv_gate *gate, size_t w, size_t n)
{
    rv_gate_config config;
    memset(&config, 0, sizeof config);
    config.base = (uint32_t)w;
    config.width = 1.0f;
    RV_OKAY(NULL, rv_gate_init(NULL, gate, &config));
    RV_OKAY(NULL, rv_gate_feed(NULL, gate, w >= n ? 0.9 : w == 1 ? 0.1 : 0.6));
    RV_EQUAL(rv_gate_width(gate, n), w);
}

static problem work;

/* ---- torch ---- */

static void test_golden(void)
{
    problem *const p = &work;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_topology); row++) {
        rv_attn_topology_config config;
        rv_attn_grad grad;
        rv_gate gate;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        memset(p, 0, sizeof *p);
        memset(&config, 0, sizeof config);
        gate_of(&gate, (size_t)rv_golden_attn_topology[row].width, 7);
        config.gate = &gate;
        config.base.heads = 2;
        config.base.kv_heads = 1;
        config.base.scale = 0.5f;
        if (rv_golden_attn_topology[row].causal) config.base.order = RV_ATTN_CAUSAL;
        p->io.n_q = 5;
        p->io.n_k = 7;
        p->io.dim = 3;
        p->io.dim_v = 2;
        p->io.q = grid(1, p->q, 30);
        p->io.k = grid(2, p->k, 21);
        p->io.v = grid(3, p->v, 14);
        grid(4, p->d_out, 20);
        p->io.out = p->out;
        p->io.weights = p->weights;
        point_grad(p, &grad);
        RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &p->io));
        RV_OKAY(&ctx, rv_attn_topology_gated_backward(&ctx, &config, &p->io, &grad));
        CHECK_ALL(p->out, rv_golden_attn_topology[row].out, 20, 32 * U);
        CHECK_ALL(p->weights, rv_golden_attn_topology[row].weights, 70, 32 * U);
        for (size_t i = 0; i < 70; i++) /* as many as are kept, the same ones */
            RV_CHECK((p->weights[i] > 0) == (rv_golden_attn_topology[row].weights[i] > 0));
        if (rv_golden_attn_topology[row].width == 1) { /* constant weights */
            for (size_t i = 0; i < 30; i++) RV_NEAR(p->d_q[i], 0, 1e-6);
            for (size_t i = 0; i < 21; i++) RV_NEAR(p->d_k[i], 0, 1e-6);
        } else {
            CHECK_ALL(p->d_q, rv_golden_attn_topology[row].d_q, 30, 64 * U);
            CHECK_ALL(p->d_k, rv_golden_attn_topology[row].d_k, 21, 64 * U);
        }
        CHECK_ALL(p->d_v, rv_golden_attn_topology[row].d_v, 14, 64 * U);
    }
}

/* ---- definitions ---- */

static double plain_logit(const problem *p, size_t h, size_t i, size_t j)
{
    const float *q = query_of(p, h, i), *k = key_of(p, h, j);
    double x = 0;
    for (size_t a = 0; a < p->io.dim; a++) x += (double)q[a] * (double)k[a];
    return x / sqrt((double)p->io.dim);
}

/* The same where key j is among the `param` best of those seen, else -infinity; of equal keys the
   lower ones. */
static double best_logit(const problem *p, size_t h, size_t i, size_t j)
{
    const double mine = dress(p, plain_logit(p, h, i, j), h, i, j);
    size_t better = 0;
    for (size_t x = 0; x < p->io.n_k; x++) {
        const double other = dress(p, plain_logit(p, h, i, x), h, i, x);
        better += other > mine || (other == mine && x < j);
    }
    return better < (size_t)p->param ? plain_logit(p, h, i, j) : -1e300;
}

static const shape shapes[] = {
    {1, 1, 1, 0, 1, 1, 0, 0, RV_DTYPE_F32},
    {3, 70, 9, 4, 2, 1, SINKS, 0, RV_DTYPE_F32},
    {5, 20, 16, 16, 4, 2, SINKS | SLOPES, 1, RV_DTYPE_F16},
    {20, 9, 5, 7, 2, 2, ALLOW | PER_HEAD, 1, RV_DTYPE_F32},
    {12, 30, 8, 8, 1, 1, SLOPES | WINDOW, 2, RV_DTYPE_BF16},
    {9, 33, 6, 3, 3, 3, ADD | VISIBLE, 0, RV_DTYPE_F32},
    {7, 140, 3, 3, 2, 2, CAP | VISIBLE, 0, RV_DTYPE_F32},
};

static void test_definition(void)
{
    static const size_t widths[] = {1, 2, 5, 16};
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (size_t s = 0; s < RV_COUNT_OF(shapes); s++) {
        for (size_t t = 0; t < RV_COUNT_OF(widths); t++) {
            rv_attn_topology_config config;
            rv_gate gate;
            const size_t w = widths[t] < shapes[s].n_k ? widths[t] : shapes[s].n_k;
            rv_test_row("shape", s * 10 + t);
            make(&work, &shapes[s], &rng);
            gate_of(&gate, w, shapes[s].n_k);
            config.base = work.config;
            config.gate = &gate;
            work.logit = best_logit;
            work.param = (double)w;
            RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
            compare(&work, 4e-6);
        }
    }
}

/* STABLE is scaled dot product, bit for bit; FREEZE copies the best key's value; ties go to the
   lower index; NaN shows; nothing seen gives zeros; logits of +-1000. */
static void test_modes(void)
{
    const shape plain = {6, 40, 8, 5, 2, 2, 0, 0, RV_DTYPE_F32};
    static float was[MOST_Q];
    rv_attn_topology_config config;
    rv_test_rng rng;
    rv_gate gate;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    make(&work, &plain, &rng);
    config.base = work.config;
    config.gate = &gate;
    gate_of(&gate, 40, 40);
    RV_EQUAL(gate.mode, RV_GATE_STABLE);
    RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
    memcpy(was, work.out, 60 * sizeof(float));
    RV_OKAY(&ctx, rv_attn(&ctx, &config.base, &work.io));
    RV_CHECK(memcmp(was, work.out, 60 * sizeof(float)) == 0);
    gate_of(&gate, 1, 40);
    RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
    work.logit = plain_logit;
    for (size_t h = 0; h < 2; h++) {
        for (size_t i = 0; i < 6; i++) {
            size_t best = 0;
            for (size_t j = 1; j < 40; j++)
                if (plain_logit(&work, h, i, j) > plain_logit(&work, h, i, best)) best = j;
            for (size_t a = 0; a < 5; a++)
                RV_NEAR(work.out[(i * 2 + h) * 5 + a], work.v[(best * 2 + h) * 5 + a], 4 * U);
        }
    }
    gate_of(&gate, 3, 40);
    for (size_t j = 1; j < 40; j++) memcpy(work.k + j * 16, work.k, 16 * sizeof(float));
    RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
    for (size_t r = 0; r < 12 * 40; r++) RV_NEAR(work.weights[r], r % 40 < 3 ? 1.0 / 3 : 0, 3e-7);
    rv_test_fill(&rng, work.k, 640);
    for (size_t j = 0; j < 640; j++) work.k[j] *= 1000.0f;
    RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
    for (size_t r = 0; r < 12; r++) {
        double sum = 0;
        for (size_t j = 0; j < 40; j++) sum += (double)work.weights[r * 40 + j];
        RV_NEAR(sum, 1, 1e-6);
    }
    work.k[17 * 16 + 3] = not_a_number(); /* of head 0 */
    RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
#if !defined(__FAST_MATH__)
    RV_CHECK(work.out[0] != work.out[0] && work.out[5] == work.out[5]);
#endif
    work.k[17 * 16 + 3] = 0;
    memset(work.allow, 0, 240);
    work.allow[39] = 1; /* query 0 sees the last key alone, others none */
    work.mask.allow = work.allow;
    work.io.mask = &work.mask;
    RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
    RV_NEAR(work.weights[39], 1, 3e-7);
    for (size_t i = 10; i < 60; i++) RV_CHECK(work.out[i] == 0);
    work.io.n_q = 0;
    RV_OKAY(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io));
}

/* ---- slopes ---- */

static double loss_of(void *arg)
{
    problem *p = (problem *)arg;
    double sum = 0;
    define(p);
    for (size_t i = 0; i < heads_of(p) * p->io.n_q * wide_of(p); i++)
        sum += p->out_want[i] * (double)p->d_out[i];
    return sum;
}

static void test_slopes(void)
{
    static const shape small[] = {
        {3, 7, 5, 4, 2, 1, SINKS | CAP, 1, RV_DTYPE_F32},
        {4, 6, 3, 0, 2, 2, SLOPES | ADD, 0, RV_DTYPE_F32},
    };
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    for (size_t s = 0; s < RV_COUNT_OF(small); s++) {
        for (size_t w = 3; w < 8; w += 4) { /* CAUTIOUS, STABLE */
            rv_attn_topology_config config;
            rv_attn_grad grad;
            rv_gate gate;
            rv_test_row("shape", s);
            make(&work, &small[s], &rng);
            gate_of(&gate, w < small[s].n_k ? w : small[s].n_k, small[s].n_k);
            config.base = work.config;
            config.gate = &gate;
            work.logit = best_logit;
            work.param = (double)w;
            point_grad(&work, &grad);
            work.io.out = work.io.weights = work.io.lse = NULL;
            RV_OKAY(&ctx, rv_attn_topology_gated_backward(&ctx, &config, &work.io, &grad));
            /* steps of 1/4096: no key overtakes another */
            check_slopes(loss_of, &work, work.q, work.d_q, 3 * 2 * small[s].dim, 1.0 / 4096, 1e-5);
            check_slopes(loss_of, &work, work.k, work.d_k, small[s].n_k * small[s].dim,
                         1.0 / 4096, 1e-5);
            check_slopes(loss_of, &work, work.v, work.d_v, small[s].n_k * wide_of(&work),
                         1.0 / 4096, 1e-5);
            if (work.config.sinks)
                check_slopes(loss_of, &work, work.sinks, work.d_sinks, 2, 1.0 / 4096, 1e-5);
        }
    }
}

/* ---- faults ---- */

static void test_errors(void)
{
    const shape plain = {2, 5, 4, 3, 1, 1, 0, 0, RV_DTYPE_F32};
    rv_attn_topology_config config;
    rv_attn_grad grad;
    rv_test_rng rng;
    rv_gate gate;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 6);
    make(&work, &plain, &rng);
    work.out[0] = 123.0f;
    memset(&config, 0, sizeof config);
    memset(&grad, 0, sizeof grad);
    memset(&gate, 0, sizeof gate);
    RV_FAILS(&ctx, rv_attn_topology_gated(&ctx, NULL, &work.io), RV_ERR_ARG, "gate");
    RV_FAILS(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io), RV_ERR_ARG, "gate");
    config.gate = &gate;
    RV_FAILS(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io), RV_ERR_ARG, "rv_gate_init");
    gate_of(&gate, 2, 5);
    RV_FAILS(&ctx, rv_attn_topology_gated(&ctx, &config, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_topology_gated_backward(&ctx, &config, &work.io, NULL), RV_ERR_ARG,
             "grad");
    RV_FAILS(&ctx, rv_attn_topology_gated_backward(&ctx, &config, &work.io, &grad), RV_ERR_ARG,
             "d_out");
    grad.d_out = work.d_out;
    config.base.temperature = -1;
    RV_FAILS(&ctx, rv_attn_topology_gated_backward(&ctx, &config, &work.io, &grad), RV_ERR_CONFIG,
             "temperature");
    RV_FAILS(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io), RV_ERR_CONFIG, "temperature");
    config.base.temperature = 0;
    work.io.n_k = 0;
    RV_FAILS(&ctx, rv_attn_topology_gated(&ctx, &config, &work.io), RV_ERR_DIM, "n_k is 0");
    RV_CHECK(work.out[0] == 123.0f);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    rv_attn_topology_config config;
    rv_attn_grad grad;
    rv_status status;
    config.base = work.config;
    config.gate = (const rv_gate *)arg;
    point_grad(&work, &grad);
    status = rv_attn_topology_gated(ctx, &config, &work.io);
    if (!status) status = rv_attn_topology_gated_backward(ctx, &config, &work.io, &grad);
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
    const shape plain = {7, 30, 4, 3, 2, 1, 0, 1, RV_DTYPE_F32};
    static float out[42], d_q[56];
    rv_test_rng rng;
    rv_gate gate;
    rv_ctx ctx;
    rv_test_seed(&rng, 7);
    make(&work, &plain, &rng);
    gate_of(&gate, 5, 30);
    RV_CHECK(rv_test_oom_sweep(sweep, &gate) > 12);
    RV_CHECK(rv_test_cancel_sweep(sweep, &gate) > 6);
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, sweep(&ctx, &gate));
    memcpy(out, work.out, sizeof out);
    memcpy(d_q, work.d_q, sizeof d_q);
    ctx.parallel = backwards;
    ctx.workers = 5;
    RV_OKAY(&ctx, sweep(&ctx, &gate));
    RV_CHECK(memcmp(out, work.out, sizeof out) == 0);
    RV_CHECK(memcmp(d_q, work.d_q, sizeof d_q) == 0);
}

int main(void)
{
    rv_test_begin("attn_topology");
    RV_RUN(test_golden);
    RV_RUN(test_definition);
    RV_RUN(test_modes);
    RV_RUN(test_slopes);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
