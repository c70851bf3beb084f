/* The report: scripted metrics and what they must recommend, measures by definition, faults. */
#include "grid_set.h"

#include "golden/topology.h"

/* What all being well looks like. */
static rv_report_metrics well(void)
{
    rv_report_metrics m;
    memset(&m, 0, sizeof m);
    m.coherence = 0.9;
    m.entropy = 2.0;
    m.ib_kl = 0.1;
    m.diffusion = 0.5;
    m.ot = 0.2;
    m.h0 = 100.0;
    m.fisher_rao = 1.0;
    return m;
}

static double *metric_of(rv_report_metrics *m, size_t i)
{
    double *const all[] = {&m->coherence, &m->entropy, &m->ib_kl,     &m->diffusion,
                           &m->ot,        &m->h0,      &m->fisher_rao};
    return all[i];
}

static int same(rv_report_metrics *a, rv_report_metrics *b)
{
    for (size_t i = 0; i < RV_REPORT_METRICS; i++)
        if (*metric_of(a, i) != *metric_of(b, i)) return 0;
    return a->missing == b->missing;
}

/* Thresholds as the specification has them, independent of the table in the code. */
static const struct {
    const char *name;
    int low;
    double warning, critical, healthy_from, healthy_to;
    rv_report_mode mode;
    rv_report_action warned, alarmed;
} rules[] = {
    {"coherence", 1, 0.3, 0.1, 0.5, 1.0, RV_REPORT_SPARSE, RV_REPORT_CAUTIOUS, RV_REPORT_FREEZE},
    {"entropy", 1, 0.5, 0.1, 1.0, 4.0, RV_REPORT_STANDARD, RV_REPORT_RAISE_TEMPERATURE,
     RV_REPORT_RAISE_TEMPERATURE},
    {"ib_kl", 0, 0.5, 1.0, 0.0, 0.2, RV_REPORT_STANDARD, RV_REPORT_ADD_REGULARIZATION,
     RV_REPORT_ADD_REGULARIZATION},
    {"diffusion", 0, 2.0, 5.0, 0.0, 1.0, RV_REPORT_DIFFUSE, RV_REPORT_CAUTIOUS,
     RV_REPORT_CAUTIOUS},
    {"ot", 0, 0.3, 0.7, 0.0, 0.5, RV_REPORT_GEOMETRIC, RV_REPORT_CAUTIOUS, RV_REPORT_CAUTIOUS},
};

static void test_thresholds(void)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rules); i++) {
        const double away = rules[i].low ? -1e-9 : 1e-9;
        rv_report_metrics m = well();
        rv_report r;
        rv_test_row(rules[i].name, i);
        RV_CHECK(strcmp(rv_report_metric_at(i)->name, rules[i].name) == 0);
        *metric_of(&m, i) = rules[i].warning; /* at a threshold it is not reached yet */
        RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
        RV_EQUAL(r.each[i], RV_REPORT_OK);
        RV_EQUAL(r.action, RV_REPORT_STABLE);
        RV_EQUAL(r.mode, RV_REPORT_STANDARD);
        *metric_of(&m, i) = rules[i].warning + away;
        RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
        RV_EQUAL(r.each[i], RV_REPORT_WARNING);
        RV_EQUAL(r.status, RV_REPORT_WARNING);
        RV_EQUAL(r.worst, i);
        RV_EQUAL(r.mode, rules[i].mode);
        RV_EQUAL(r.action, rules[i].warned);
        *metric_of(&m, i) = rules[i].critical;
        RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
        RV_EQUAL(r.status, RV_REPORT_WARNING);
        *metric_of(&m, i) = rules[i].critical + away;
        RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
        RV_EQUAL(r.status, RV_REPORT_CRITICAL);
        RV_EQUAL(r.worst, i);
        RV_EQUAL(r.mode, rules[i].mode);
        RV_EQUAL(r.action, rules[i].alarmed);
        for (size_t k = 0; k < RV_REPORT_METRICS; k++)
            RV_CHECK(k == i || r.each[k] == RV_REPORT_OK);
        for (int side = 0; side < 4; side++) { /* the healthy range */
            const double edge = side < 2 ? rules[i].healthy_from : rules[i].healthy_to;
            const double to = edge + (side % 2 ? 1e-9 : -1e-9) * (side < 2 ? 1 : -1);
            if (to < 0 || (i == 0 && to > 1)) continue;
            *metric_of(&m, i) = to;
            RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
            RV_EQUAL(r.healthy[i], side % 2);
        }
    }
    RV_CHECK(rv_report_metric_at(RV_REPORT_METRICS) == NULL);
}

/* Scripted metrics: coherence, entropy, ib_kl, diffusion, ot. */
static void test_script(void)
{
    static const struct {
        double m[5];
        rv_report_status status;
        rv_report_metric worst;
        rv_report_mode mode;
        rv_report_action action;
    } script[] = {
        /* all healthy: what was once answered with a freeze */
        {{0.9, 2.0, 0.1, 0.5, 0.2}, RV_REPORT_OK, RV_REPORT_COHERENCE, RV_REPORT_STANDARD,
         RV_REPORT_STABLE},
        {{1.0, 4.0, 0.0, 0.0, 0.0}, RV_REPORT_OK, RV_REPORT_COHERENCE, RV_REPORT_STANDARD,
         RV_REPORT_STABLE},
        /* spread over too many keys */
        {{0.9, 4.5, 0.1, 0.5, 0.2}, RV_REPORT_OK, RV_REPORT_COHERENCE, RV_REPORT_SPARSE,
         RV_REPORT_LOWER_TEMPERATURE},
        /* ot of 0.4 is in its healthy range and a warning: the warning counts */
        {{0.9, 4.5, 0.1, 0.5, 0.4}, RV_REPORT_WARNING, RV_REPORT_OT, RV_REPORT_GEOMETRIC,
         RV_REPORT_CAUTIOUS},
        /* of equals the first, of unequals the worst */
        {{0.2, 0.4, 0.6, 3.0, 0.6}, RV_REPORT_WARNING, RV_REPORT_COHERENCE, RV_REPORT_SPARSE,
         RV_REPORT_CAUTIOUS},
        {{0.9, 0.4, 0.6, 3.0, 0.6}, RV_REPORT_WARNING, RV_REPORT_ENTROPY, RV_REPORT_STANDARD,
         RV_REPORT_RAISE_TEMPERATURE},
        {{0.2, 0.4, 0.6, 6.0, 0.6}, RV_REPORT_CRITICAL, RV_REPORT_DIFFUSION, RV_REPORT_DIFFUSE,
         RV_REPORT_CAUTIOUS},
        {{0.2, 0.4, 1.6, 3.0, 0.6}, RV_REPORT_CRITICAL, RV_REPORT_IB_KL, RV_REPORT_STANDARD,
         RV_REPORT_ADD_REGULARIZATION},
        {{0.05, 2.0, 0.1, 0.5, 0.2}, RV_REPORT_CRITICAL, RV_REPORT_COHERENCE, RV_REPORT_SPARSE,
         RV_REPORT_FREEZE},
        /* two that are critical */
        {{0.9, 0.05, 1.5, 0.5, 0.2}, RV_REPORT_CRITICAL, RV_REPORT_ENTROPY, RV_REPORT_STANDARD,
         RV_REPORT_FREEZE},
        {{0.9, 2.0, 0.1, 9.0, 0.9}, RV_REPORT_CRITICAL, RV_REPORT_DIFFUSION, RV_REPORT_DIFFUSE,
         RV_REPORT_FREEZE},
    };
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(script); i++) {
        rv_report_metrics m = well();
        rv_report r;
        rv_test_row("script", i);
        for (size_t k = 0; k < 5; k++) *metric_of(&m, k) = script[i].m[k];
        RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
        RV_EQUAL(r.status, script[i].status);
        RV_EQUAL(r.worst, script[i].worst);
        RV_EQUAL(r.mode, script[i].mode);
        RV_EQUAL(r.action, script[i].action);
    }
    RV_CHECK(strcmp(rv_report_mode_name(RV_REPORT_DIFFUSE), "diffusion") == 0);
    RV_CHECK(strcmp(rv_report_mode_name(RV_REPORT_STANDARD), "standard") == 0);
    RV_CHECK(strcmp(rv_report_action_name(RV_REPORT_ADD_REGULARIZATION),
                    "add_regularization") == 0);
    RV_CHECK(strcmp(rv_report_action_name(RV_REPORT_LOWER_TEMPERATURE), "lower_temperature") == 0);
    RV_CHECK(strcmp(rv_report_action_name((rv_report_action)7), "unknown") == 0);
}

/* Metrics that are missing are not judged, whatever they hold; own thresholds. */
static void test_choices(void)
{
    rv_report_config config;
    rv_report_metrics m = well();
    rv_report r;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    m.entropy = (double)not_a_number();
    m.ot = 1.0;
    m.missing = 1u << RV_REPORT_ENTROPY | 1u << RV_REPORT_OT;
    RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
    RV_EQUAL(r.action, RV_REPORT_STABLE);
    RV_EQUAL(r.healthy[RV_REPORT_OT], 0);
    m = well();
    m.entropy = 5.0;
    m.missing = 1u << RV_REPORT_ENTROPY;
    RV_OKAY(&ctx, rv_attn_report(&ctx, NULL, &m, &r));
    RV_EQUAL(r.action, RV_REPORT_STABLE);
    m = well();
    config.warning[RV_REPORT_H0] = 50;
    config.critical[RV_REPORT_H0] = 200;
    config.warning[RV_REPORT_FISHER_RAO] = config.critical[RV_REPORT_FISHER_RAO] = 0.5;
    config.warning[RV_REPORT_COHERENCE] = 0.95;
    RV_OKAY(&ctx, rv_attn_report(&ctx, &config, &m, &r));
    RV_EQUAL(r.each[RV_REPORT_H0], RV_REPORT_WARNING);
    RV_EQUAL(r.each[RV_REPORT_FISHER_RAO], RV_REPORT_CRITICAL);
    RV_EQUAL(r.each[RV_REPORT_COHERENCE], RV_REPORT_WARNING);
    RV_EQUAL(r.worst, RV_REPORT_FISHER_RAO);
    RV_EQUAL(r.action, RV_REPORT_RAISE_TEMPERATURE);
}

/* ---- measures ---- */

enum { N = 30, DIM = 4, NQ = 5 };

static void inputs(float *keys, float *weights, float *signal, rv_report_input *in)
{
    grid((size_t)rv_golden_tree[0].v, keys, N * DIM);
    grid(5, weights, NQ * N);
    for (size_t i = 0; i < NQ; i++)
        rv_softmax_f32(weights + i * N, (float)(i + 1), weights + i * N, N);
    for (size_t j = 0; j < N; j++) weights[3 * N + j] = 0; /* a query that saw nothing */
    grid(6, signal, N);
    memset(in, 0, sizeof *in);
    in->keys = keys;
    in->n = N;
    in->dim = DIM;
    in->weights = weights;
    in->n_q = NQ;
    in->signal = signal;
}

/* x^T L x with the matrix L = D - W written out. */
static double energy_of(const float *keys, const float *x, double sigma)
{
    static double l[N][N];
    double sum = 0;
    memset(l, 0, sizeof l);
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < N; j++) {
            double square = 0, w;
            for (size_t a = 0; a < DIM; a++) {
                const double gap = (double)keys[i * DIM + a] - (double)keys[j * DIM + a];
                square += gap * gap;
            }
            w = exp(-square / (2 * sigma * sigma));
            l[i][j] -= w;
            l[i][i] += w;
        }
    }
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) sum += (double)x[i] * l[i][j] * (double)x[j];
    return sum;
}

static void test_measure(void)
{
    float keys[N * DIM], weights[NQ * N], signal[N];
    double entropy = 0, distance = 0, h0 = 0;
    rv_report_input in;
    rv_report_metrics m;
    rv_coherence c;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    inputs(keys, weights, signal, &in);
    memset(&m, 0, sizeof m);
    m.ot = 0.25;
    m.missing = ~0u;
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_EQUAL(m.missing & 127u, 1u << RV_REPORT_OT);
    RV_NEAR(m.ot, 0.25, 0);
    for (size_t i = 0; i < NQ; i++) {
        double dot = 0;
        if (i == 3) continue;
        for (size_t j = 0; j < N; j++) {
            const double p = (double)weights[i * N + j];
            if (p > 0) entropy -= p * log(p) / 4;
            dot += sqrt(p / (double)N);
        }
        distance += 2 * acos(dot) / 4;
    }
    RV_NEAR(m.entropy, entropy, 2e-6);
    RV_NEAR(m.ib_kl, log((double)N) - entropy, 2e-6);
    RV_NEAR(m.fisher_rao, distance, 2e-6);
    for (size_t i = 0; i + 1 < N; i++) h0 += rv_golden_tree[0].lengths[i];
    RV_NEAR(m.h0, h0, 4 * U * h0);
    RV_OKAY(&ctx, rv_coherence_measure(&ctx, keys, 0, N, DIM, 8, &c));
    RV_NEAR(m.coherence, c.score, 0);
    RV_NEAR(m.diffusion, energy_of(keys, signal, 1), 2e-5);
    in.sigma = 0.5f;
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_NEAR(m.diffusion, energy_of(keys, signal, 0.5), 2e-5);
    for (size_t j = 0; j < N; j++) signal[j] = 3.5f; /* a constant has no energy */
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_NEAR(m.diffusion, 0, 0);
    for (size_t j = 0; j < NQ * N; j++) weights[j] = 1.0f / (float)N;
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_NEAR(m.entropy, log((double)N), 1e-7);
    RV_NEAR(m.ib_kl, 0, 1e-7);
    RV_NEAR(m.fisher_rao, 0, 1e-6);
}

/* What is not given is missing; wide strides; one key. */
static void test_parts(void)
{
    float keys[N * DIM], weights[NQ * N], signal[N], wide[N * 7];
    rv_report_input in;
    rv_report_metrics m, all;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    inputs(keys, weights, signal, &in);
    memset(&all, 0, sizeof all);
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &all));
    RV_EQUAL(all.missing, 0);
    for (size_t i = 0; i < N; i++)
        for (size_t a = 0; a < 7; a++)
            wide[i * 7 + a] = a < DIM ? keys[i * DIM + a] : not_a_number();
    in.keys = wide;
    in.key_stride = 7;
    in.weights = NULL;
    m = well();
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_NEAR(m.diffusion, all.diffusion, 0);
    RV_NEAR(m.h0, all.h0, 0);
    RV_NEAR(m.entropy, 2.0, 0); /* as it was, and marked */
    RV_EQUAL(m.missing, 1u << RV_REPORT_ENTROPY | 1u << RV_REPORT_IB_KL |
                            1u << RV_REPORT_FISHER_RAO);
    in.weights = weights;
    in.keys = NULL;
    m = well();
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_NEAR(m.entropy, all.entropy, 0);
    RV_NEAR(m.coherence, 0.9, 0);
    RV_EQUAL(m.missing, 1u << RV_REPORT_COHERENCE | 1u << RV_REPORT_H0 |
                            1u << RV_REPORT_DIFFUSION);
    memset(weights, 0, sizeof weights); /* no query saw anything */
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_EQUAL(m.missing & 127u, 127u & ~(1u << RV_REPORT_OT));
    in.keys = keys;
    in.key_stride = 0;
    in.n = 1;
    weights[0] = 1.0f;
    in.n_q = 1;
    m = well();
    RV_OKAY(&ctx, rv_attn_report_measure(&ctx, &in, &m));
    RV_NEAR(m.entropy, 0, 0);
    RV_NEAR(m.coherence, 1, 0);
    RV_NEAR(m.diffusion, 0, 0);
}

/* ---- faults ---- */

static void test_errors(void)
{
    float keys[N * DIM], weights[NQ * N], signal[N];
    rv_report_config config;
    rv_report_input in;
    rv_report_metrics m = well(), was = well();
    rv_report r;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&r, 7, sizeof r);
    RV_FAILS(&ctx, rv_attn_report(&ctx, NULL, NULL, &r), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_attn_report(&ctx, NULL, &m, NULL), RV_ERR_ARG, "NULL");
    m.coherence = 1.5;
    RV_FAILS(&ctx, rv_attn_report(&ctx, NULL, &m, &r), RV_ERR_ARG, "coherence is 1.5");
    m = well();
    m.diffusion = -1;
    RV_FAILS(&ctx, rv_attn_report(&ctx, NULL, &m, &r), RV_ERR_ARG, "diffusion is -1");
    RV_EQUAL(ctx.where, RV_REPORT_DIFFUSION);
    m = well();
    m.ot = (double)not_a_number();
    RV_FAILS(&ctx, rv_attn_report(&ctx, NULL, &m, &r), RV_ERR_ARG, "ot is NaN");
    m = well();
    m.fisher_rao = 3.2;
    RV_FAILS(&ctx, rv_attn_report(&ctx, NULL, &m, &r), RV_ERR_ARG, "fisher_rao is 3.2");
    m = well();
    config.critical[RV_REPORT_COHERENCE] = 0.4;
    RV_FAILS(&ctx, rv_attn_report(&ctx, &config, &m, &r), RV_ERR_CONFIG, "critical the lower");
    config.critical[RV_REPORT_COHERENCE] = 0;
    config.warning[RV_REPORT_OT] = 0.4;
    RV_FAILS(&ctx, rv_attn_report(&ctx, &config, &m, &r), RV_ERR_CONFIG, "critical the higher");
    config.critical[RV_REPORT_OT] = (double)not_a_number();
    RV_FAILS(&ctx, rv_attn_report(&ctx, &config, &m, &r), RV_ERR_CONFIG, "critical is NaN");
    config.warning[RV_REPORT_OT] = 0;
    RV_FAILS(&ctx, rv_attn_report(&ctx, &config, &m, &r), RV_ERR_CONFIG, "critical is NaN");
    RV_EQUAL(r.healthy[0], 0x07070707);
    inputs(keys, weights, signal, &in);
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, NULL, &m), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, NULL), RV_ERR_ARG, "NULL");
    in.sigma = -1;
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, &m), RV_ERR_CONFIG, "sigma is -1");
    in.sigma = not_a_number();
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, &m), RV_ERR_CONFIG, "sigma is NaN");
    in.sigma = 0;
    signal[8] = infinite();
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, &m), RV_ERR_ARG, "signal[8]");
    signal[8] = 0;
    weights[N + 2] = -1;
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, &m), RV_ERR_ARG, "weights[1][2] is -1");
    weights[N + 2] = 1;
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, &m), RV_ERR_ARG, "row 1 of weights");
    keys[DIM * 9] = not_a_number();
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, &m), RV_ERR_ARG, "row 9 of x");
    in.n = 0;
    RV_FAILS(&ctx, rv_attn_report_measure(&ctx, &in, &m), RV_ERR_ARG, "n is 0");
    RV_CHECK(same(&m, &was));
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    float keys[N * DIM], weights[NQ * N], signal[N];
    rv_report_metrics m = well(), was = m;
    rv_report_input in;
    rv_status status;
    (void)arg;
    inputs(keys, weights, signal, &in);
    status = rv_attn_report_measure(ctx, &in, &m);
    if (status) RV_CHECK(same(&m, &was));
    return status;
}

static void test_faults(void)
{
    RV_EQUAL(rv_test_oom_sweep(sweep, NULL), 9);
    RV_CHECK(rv_test_cancel_sweep(sweep, NULL) > 4);
}

int main(void)
{
    rv_test_begin("attn_report");
    RV_RUN(test_thresholds);
    RV_RUN(test_script);
    RV_RUN(test_choices);
    RV_RUN(test_measure);
    RV_RUN(test_parts);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
