/* Coherence, persistence and the gate: numpy and scipy, closed forms, scripted scores, faults. */
#include "grid_set.h"

#include "golden/topology.h"

enum { MOST = 40 * 6 + 25 * 17 };

/* ---- coherence ---- */

static void near_parts(const rv_coherence *c, const double *want, double tolerance)
{
    RV_NEAR(c->boundary, want[0], 1e-15);
    RV_NEAR(c->cut, want[1], 1e-15);
    RV_NEAR(c->disagreement, want[2], tolerance);
    RV_NEAR(c->variance, want[3], tolerance);
    RV_NEAR(c->score, want[4], tolerance);
}

static void test_coherence(void)
{
    float x[MOST], wide[MOST * 2];
    rv_coherence c;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_coherence); row++) {
        const size_t n = (size_t)rv_golden_coherence[row].n, k = (size_t)rv_golden_coherence[row].k;
        const size_t dim = (size_t)rv_golden_coherence[row].dim;
        rv_test_row("golden", row);
        grid((size_t)rv_golden_coherence[row].v, x, n * dim);
        RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, n, dim, k, &c));
        near_parts(&c, rv_golden_coherence[row].parts, 2e-7);
        for (size_t i = 0; i < n; i++) { /* apart, and with other lengths: cosines are the same */
            const float by = i % 2 ? 0.25f : 4096.0f;
            for (size_t a = 0; a < dim + 3; a++)
                wide[i * (dim + 3) + a] = a < dim ? x[i * dim + a] * by : not_a_number();
        }
        RV_OKAY(&ctx, rv_coherence_measure(&ctx, wide, dim + 3, n, dim, k == 8 ? 0 : k, &c));
        near_parts(&c, rv_golden_coherence[row].parts, 2e-7);
    }
}

/* Windows whose answer is known: two tight halves; neighbours far away; one token; zeros. */
static void test_known(void)
{
    float x[16 * 3] = {0};
    rv_coherence c;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < 16; i++) x[i * 3 + i / 8] = 1.0f + (float)i;
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, 16, 3, 3, &c));
    RV_NEAR(c.cut, 1, 0); /* cosines 1 within a half: its lowest three, never across */
    RV_NEAR(c.disagreement, 1, 1e-12);
    RV_NEAR(c.variance, 1, 1e-6);
    /* the lowest three others of a half: gaps above 4 for token 5 (0), 6 (0, 1), 7 (0, 1, 2) */
    RV_NEAR(c.boundary, 1 - 2 * 6.0 / 48, 1e-15);
    for (size_t i = 0; i < 16; i++) {
        x[i * 3] = x[i * 3 + 1] = x[i * 3 + 2] = 0;
        x[i * 3 + i % 2] = i < 8 ? 1.0f : -1.0f;
    }
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, 16, 3, 15, &c));
    RV_NEAR(c.cut, 1 - 8.0 / 15, 1e-15); /* the whole graph: 8 of 15 others are across */
    /* cosines of a token: 3 of 1, 8 of 0, 4 of -1 */
    RV_NEAR(c.disagreement, 1 - (7.0 / 15 - 1.0 / 225), 1e-6);
    RV_NEAR(c.variance, 1 - sqrt(7.0 / 15 - 1.0 / 225), 1e-6);
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, 1, 3, 0, &c));
    RV_NEAR(c.score, 1, 0);
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, NULL, 0, 0, 3, 0, &c));
    RV_NEAR(c.score, 1, 0);
    memset(x, 0, sizeof x); /* zero rows: cosine 0 with all, so no variance */
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, 16, 3, 4, &c));
    RV_NEAR(c.variance, 1, 0);
}

/* ---- persistence ---- */

static void test_tree(void)
{
    float x[MOST], lengths[64];
    double total, sum;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_tree); row++) {
        const size_t n = (size_t)rv_golden_tree[row].n, dim = (size_t)rv_golden_tree[row].dim;
        rv_test_row("golden", row);
        grid((size_t)rv_golden_tree[row].v, x, n * dim);
        RV_OKAY(&ctx, rv_persistence_h0(&ctx, x, 0, n, dim, lengths, &total));
        CHECK_ALL(lengths, rv_golden_tree[row].lengths, n - 1, 4 * U);
        sum = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            sum += rv_golden_tree[row].lengths[i];
            RV_CHECK(i == 0 || lengths[i] >= lengths[i - 1]);
        }
        RV_NEAR(total, sum, 4 * U * sum);
        RV_OKAY(&ctx, rv_persistence_h0(&ctx, x, 0, n, dim, NULL, NULL));
    }
    /* points 0, 1, 3, 7, 15 of a line, out of order, one twice: gaps 0, 1, 2, 4, 8 */
    rv_test_row("line", 0);
    for (size_t i = 0; i < 6; i++) x[i * 2 + 1] = 5.0f;
    x[0] = 7;
    x[2] = 0;
    x[4] = 15;
    x[6] = 1;
    x[8] = 0;
    x[10] = 3;
    RV_OKAY(&ctx, rv_persistence_h0(&ctx, x, 2, 6, 1, lengths, &total));
    RV_NEAR(lengths[0], 0, 0);
    for (size_t i = 1; i < 5; i++) RV_NEAR(lengths[i], (double)(1 << (i - 1)), 0);
    RV_NEAR(total, 15, 0);
    for (size_t n = 0; n < 2; n++) {
        RV_OKAY(&ctx, rv_persistence_h0(&ctx, n ? x : NULL, 0, n, 3, NULL, &total));
        RV_NEAR(total, 0, 0);
    }
}

/* ---- the gate ---- */

enum { S = 0, C = 1, NARROW = 2, F = 3 };

static int level_of(const rv_gate *gate)
{
    if (gate->mode == RV_GATE_FREEZE) return F;
    if (gate->mode == RV_GATE_STABLE) return S;
    return gate->narrow ? NARROW : C;
}

/* Scores and the modes they must give, thresholds .8, .5, .3 -+ .05. */
static void test_script(void)
{
    static const struct { double score; int level; } script[] = {
        {0.79, C}, /* the first: as it is                                       */
        {0.84, C}, {0.8501, S}, {0.81, S}, {0.76, S}, {0.749, C}, {0.80, C}, {0.84, C}, {0.46, C},
        {0.449, NARROW}, {0.54, NARROW}, {0.31, NARROW}, {0.251, NARROW}, {0.249, F}, {0.30, F},
        {0.34, F}, {0.351, NARROW}, {0.551, C}, {0.9, S}, {0.1, F}, /* direct, and back */
        {1.0, S}, {0.29, NARROW}, {0.0, F}, {0.7, C}, {0.2, F}, {0.4, NARROW}, {1.0, S},
    };
    rv_gate gate;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_gate_init(&ctx, &gate, NULL));
    RV_EQUAL(level_of(&gate), S);
    for (size_t i = 0; i < RV_COUNT_OF(script); i++) {
        rv_test_row("score", i);
        RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, script[i].score));
        RV_EQUAL(level_of(&gate), script[i].level);
    }
    RV_EQUAL(gate.scores, RV_COUNT_OF(script));
}

/* Edges, with thresholds that floats hold: 3/4, 1/2, 1/4 -+ 1/16. First scores at a threshold. */
static void test_edges(void)
{
    static const struct { double first, then; int level, after; } rows[] = {
        {0.75, 0.6875, S, S}, {0.74, 0.8125, C, S}, {0.25, 0.3125, F, F}, {0.26, 0.1875, NARROW, F},
        {0.5, 0.4375, C, C}, {0.49, 0.5625, NARROW, C}, {0.75, 0.6874, S, C},
        {0.25, 0.3126, F, NARROW},
        {0.26, 0.1876, NARROW, NARROW}, {0.74, 0.8124, C, C}, {0.0, 1.0, F, S}, {1.0, 0.0, S, F},
    };
    rv_gate_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.stable = 0.75f;
    config.cautious = 0.5f;
    config.freeze = 0.25f;
    config.hysteresis = 0.0625f;
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_gate gate;
        rv_test_row("row", i);
        RV_OKAY(&ctx, rv_gate_init(&ctx, &gate, &config));
        RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, rows[i].first));
        RV_EQUAL(level_of(&gate), rows[i].level);
        RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, rows[i].then));
        RV_EQUAL(level_of(&gate), rows[i].after);
    }
}

/* From whatever state, scores inside one band never toggle: at most the first may change it. */
static void test_bands(void)
{
    static const double middle[] = {0.8, 0.5, 0.3};
    rv_test_rng rng;
    rv_gate gate;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    RV_OKAY(&ctx, rv_gate_init(&ctx, &gate, NULL));
    for (size_t t = 0; t < 600; t++) {
        int level = 0;
        RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, fabs((double)rv_test_f32(&rng))));
        for (size_t i = 0; i < 20; i++) {
            RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate,
                                       middle[t % 3] + 0.0499 * (double)rv_test_f32(&rng)));
            if (i > 0) RV_EQUAL(level_of(&gate), level);
            level = level_of(&gate);
            RV_CHECK(level == (int)(t % 3) || level == (int)(t % 3) + 1); /* a side of the band */
        }
    }
}

static void test_width(void)
{
    rv_gate_config config;
    rv_gate gate;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    RV_OKAY(&ctx, rv_gate_init(&ctx, &gate, NULL));
    RV_EQUAL(rv_gate_width(&gate, 1000), 1000);
    RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, 0.6));
    RV_EQUAL(rv_gate_width(&gate, 1000), 32);
    RV_EQUAL(rv_gate_width(&gate, 20), 20);
    RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, 0.4));
    RV_EQUAL(rv_gate_width(&gate, 1000), 16);
    RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, 0.0));
    RV_EQUAL(rv_gate_width(&gate, 1000), 1);
    RV_EQUAL(rv_gate_width(&gate, 0), 0);
    config.base = 3;
    config.width = 0.25f;
    RV_OKAY(&ctx, rv_gate_init(&ctx, &gate, &config));
    RV_OKAY(&ctx, rv_gate_feed(&ctx, &gate, 0.6));
    RV_EQUAL(rv_gate_width(&gate, 1000), 1);
}

/* Measures at calls 0, 4, 8; others do not even look; a failed call does not count. */
static void test_update(void)
{
    float x[8 * 2], bad[2] = {0, 0};
    rv_coherence c;
    rv_gate gate;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(1, x, 16);
    RV_OKAY(&ctx, rv_gate_init(&ctx, &gate, NULL));
    bad[1] = infinite();
    RV_FAILS(&ctx, rv_gate_update(&ctx, &gate, bad, 0, 1, 2), RV_ERR_ARG, "row 0");
    RV_EQUAL(gate.calls, 0);
    for (size_t t = 0; t < 12; t++) {
        RV_OKAY(&ctx, rv_gate_update(&ctx, &gate, t % 4 ? NULL : x, 0, 8, 2));
        RV_EQUAL(gate.calls, t + 1);
        RV_EQUAL(gate.scores, 1 + t / 4);
    }
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, 8, 2, 0, &c));
    RV_NEAR(gate.coherence.score, c.score, 0);
    RV_EQUAL(level_of(&gate), c.score >= 0.8 ? S : c.score >= 0.5 ? C : c.score > 0.3 ? NARROW : F);
}

/* ---- faults ---- */

static void test_errors(void)
{
    float x[8] = {0}, inf = infinite();
    rv_coherence c;
    rv_gate_config config;
    rv_gate gate;
    rv_ctx ctx;
    double total = -1;
    rv_test_ctx(&ctx);
    RV_FAILS(&ctx, rv_coherence_measure(&ctx, x, 0, 2, 0, 0, &c), RV_ERR_ARG, "dim is 0");
    RV_FAILS(&ctx, rv_coherence_measure(&ctx, x, 1, 2, 2, 0, &c), RV_ERR_ARG, "stride is 1");
    RV_FAILS(&ctx, rv_coherence_measure(&ctx, NULL, 0, 2, 2, 0, &c), RV_ERR_ARG, "x is NULL");
    RV_FAILS(&ctx, rv_coherence_measure(&ctx, x, 0, 2, 2, 0, NULL), RV_ERR_ARG, "out is NULL");
    RV_FAILS(&ctx, rv_persistence_h0(&ctx, x, 0, 65537, 2, NULL, &total), RV_ERR_ARG, "65537");
    x[5] = not_a_number();
    RV_FAILS(&ctx, rv_persistence_h0(&ctx, x, 0, 4, 2, NULL, &total), RV_ERR_ARG, "row 2 of x");
    RV_EQUAL(ctx.where, 2);
    RV_NEAR(total, -1, 0);
    memset(&config, 0, sizeof config);
    memset(&gate, 0, sizeof gate);
    RV_FAILS(&ctx, rv_gate_update(&ctx, &gate, x, 0, 1, 2), RV_ERR_ARG, "rv_gate_init");
    RV_FAILS(&ctx, rv_gate_init(&ctx, NULL, NULL), RV_ERR_ARG, "gate is NULL");
    RV_FAILS(&ctx, rv_gate_feed(&ctx, NULL, 0.5), RV_ERR_ARG, "gate is NULL");
    RV_FAILS(&ctx, rv_gate_update(&ctx, NULL, x, 0, 1, 2), RV_ERR_ARG, "gate is NULL");
    config.stable = 1.5f;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "stable is 1.5");
    config.stable = not_a_number();
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "stable is NaN");
    config.stable = 0.59f;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "must rise");
    config.stable = 0;
    config.freeze = 0.45f;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "must rise");
    config.freeze = -0.1f;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "freeze is -0.1");
    config.freeze = 0;
    config.cautious = inf;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "cautious is infinity");
    config.cautious = 0;
    config.hysteresis = 0.6f;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "hysteresis is 0.6");
    config.hysteresis = 0;
    config.width = 1.5f;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "width is 1.5");
    config.width = 0;
    config.sparsity = 0.5f;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "sparsity is 0.5");
    config.sparsity = 0;
    config.base = 5000;
    RV_FAILS(&ctx, rv_gate_init(&ctx, &gate, &config), RV_ERR_CONFIG, "base is 5000");
    RV_OKAY(&ctx, rv_gate_init(&ctx, &gate, NULL));
    RV_FAILS(&ctx, rv_gate_feed(&ctx, &gate, 1.01), RV_ERR_ARG, "score is 1.01");
    RV_FAILS(&ctx, rv_gate_feed(&ctx, &gate, -0.01), RV_ERR_ARG, "score is -0.01");
    RV_FAILS(&ctx, rv_gate_feed(&ctx, &gate, (double)not_a_number()), RV_ERR_ARG, "score is NaN");
    RV_EQUAL(gate.scores, 0);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const float *x = (const float *)arg;
    float lengths[299];
    rv_gate gate;
    double total;
    rv_status status = rv_gate_init(ctx, &gate, NULL);
    if (!status) status = rv_gate_update(ctx, &gate, x, 0, 300, 30);
    if (status) RV_CHECK(gate.calls == 0 && gate.scores == 0);
    if (!status) status = rv_persistence_h0(ctx, x, 0, 300, 30, lengths, &total);
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
    static float x[9000];
    rv_coherence a, b;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_seed(&rng, 2);
    rv_test_fill(&rng, x, 9000);
    RV_EQUAL(rv_test_oom_sweep(sweep, x), 8);
    RV_CHECK(rv_test_cancel_sweep(sweep, x) > 3);
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, 300, 30, 0, &a));
    ctx.parallel = backwards;
    ctx.workers = 5;
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, x, 0, 300, 30, 0, &b));
    RV_CHECK(memcmp(&a, &b, sizeof a) == 0);
}

int main(void)
{
    rv_test_begin("topology");
    RV_RUN(test_coherence);
    RV_RUN(test_known);
    RV_RUN(test_tree);
    RV_RUN(test_script);
    RV_RUN(test_edges);
    RV_RUN(test_bands);
    RV_RUN(test_width);
    RV_RUN(test_update);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
