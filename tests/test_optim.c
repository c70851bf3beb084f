/* Optimizers against torch and ONNX, clipping, schedules, faults. */
#include "grid_set.h"

#include "golden/optim.h"

enum { N = 5 };

static void fill_config(size_t row, rv_optim_config *c)
{
    memset(c, 0, sizeof *c);
    c->kind = (rv_optim_kind)rv_golden_optim[row].kind;
    c->lr = 0.125f;
    c->momentum = (float)rv_golden_optim[row].momentum;
    c->dampening = (float)rv_golden_optim[row].dampening;
    c->nesterov = rv_golden_optim[row].nesterov;
    c->weight_decay = (float)rv_golden_optim[row].decay;
    if (rv_golden_optim[row].onnx) {
        if (c->kind != RV_OPTIM_SGD) c->eps = 0.25f;
        c->lr_decay = c->kind == RV_OPTIM_ADAGRAD ? 0.5f : 0.0f;
        c->decay_after = (float)rv_golden_optim[row].other;
    } else if (rv_golden_optim[row].other != 0.0) {
        c->eps = 0.5f;
        if (c->kind == RV_OPTIM_ADAGRAD) {
            c->lr_decay = 0.5f;
            c->initial = 0.25f;
        }
    }
}

/* Four steps, each a few roundings of values of the size of the parameters. */
static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_optim); row++) {
        float param[N], grad[N], state[2 * N];
        rv_optim_config config;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        fill_config(row, &config);
        grid(1, param, N);
        for (size_t i = 0; i < 2 * N; i++) state[i] = not_a_number();
        RV_OKAY(&ctx, rv_optim_init(&ctx, &config, N, state));
        for (size_t t = 0; t < 4; t++) {
            rv_test_row("golden", row * 10 + t);
            RV_OKAY(&ctx, rv_optim_step(&ctx, &config, t, param, grid(t + 2, grad, N), N, state));
            CHECK_ALL(param, rv_golden_optim[row].path + t * N, N, (double)(t + 1) * 4 * U);
        }
    }
}

/* Every kind finds the minimum of a bowl; a state in pieces gives the same bits. */
static void test_minimum(void)
{
    enum { MANY = 10 };
    for (size_t kind = 0; rv_optim_kind_at(kind); kind++) {
        const rv_optim_info *info = rv_optim_kind_at(kind);
        float x[MANY], y[MANY], g[MANY], state[2 * MANY], low[2 * MANY], high[2 * MANY];
        rv_optim_config config;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row(info->name, kind);
        memset(&config, 0, sizeof config);
        config.kind = (rv_optim_kind)kind;
        config.momentum = 0.5f;
        grid(1, x, MANY);
        grid(1, y, MANY);
        RV_EQUAL(rv_optim_state_count(config.kind, MANY), info->state * MANY);
        RV_OKAY(&ctx, rv_optim_init(&ctx, &config, MANY, state));
        RV_OKAY(&ctx, rv_optim_init(&ctx, &config, 3, low));
        RV_OKAY(&ctx, rv_optim_init(&ctx, &config, MANY - 3, high));
        for (uint64_t t = 0; t < 3000; t++) {
            config.lr = kind == RV_OPTIM_ADAGRAD ? 0.5f : 0.1f / (1.0f + 0.02f * (float)t);
            for (size_t i = 0; i < MANY; i++) g[i] = 2.0f * (x[i] - 0.5f) * (1.0f + (float)i);
            RV_OKAY(&ctx, rv_optim_step(&ctx, &config, t, x, g, MANY, state));
            RV_OKAY(&ctx, rv_optim_step(&ctx, &config, t, y, g, 3, low));
            RV_OKAY(&ctx, rv_optim_step(&ctx, &config, t, y + 3, g + 3, MANY - 3, high));
        }
        /* AdamW pulls to 0 with its default decay */
        for (size_t i = 0; i < MANY; i++) RV_NEAR(x[i], 0.5, kind == RV_OPTIM_ADAMW ? 0.02 : 1e-3);
        RV_CHECK(memcmp(x, y, sizeof x) == 0);
    }
    RV_EQUAL(rv_optim_state_count((rv_optim_kind)7, 3), 0);
    RV_CHECK(rv_optim_state_count(RV_OPTIM_ADAM, SIZE_MAX / 2 + 1) == SIZE_MAX);
}

/* Plain steps in closed form: lr 0 leaves all as it is; the first step of Adam is lr sign(g). */
static void test_steps(void)
{
    float x[2] = {1, -1}, g[2] = {0.5f, -1000}, state[4];
    rv_optim_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    RV_OKAY(&ctx, rv_optim_init(&ctx, &config, 2, state));
    RV_OKAY(&ctx, rv_optim_step(&ctx, &config, 0, x, g, 2, state));
    RV_CHECK(x[0] == 1 && x[1] == -1);
    config.kind = RV_OPTIM_ADAM;
    config.lr = 0.25f;
    RV_OKAY(&ctx, rv_optim_init(&ctx, &config, 2, state));
    RV_OKAY(&ctx, rv_optim_step(&ctx, &config, 0, x, g, 2, state));
    RV_NEAR(x[0], 0.75, 1e-6);
    RV_NEAR(x[1], -0.75, 1e-6);
    RV_OKAY(&ctx, rv_optim_step(&ctx, &config, (uint64_t)1 << 40, x, g, 2, state)); /* any t */
    RV_CHECK(x[0] < 0.75f && x[1] > -0.75f);
    RV_OKAY(&ctx, rv_optim_step(&ctx, &config, 0, NULL, NULL, 0, NULL));
}

static void test_clip(void)
{
    float a[5], b[7], *both[2], x[4] = {1, -5, 0.25f, -0.5f};
    const size_t count[2] = {5, 7};
    double norm = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    both[0] = a;
    both[1] = b;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_clip); row++) {
        rv_test_row("golden", row);
        grid(1, a, 5);
        grid(2, b, 7);
        RV_OKAY(&ctx, rv_optim_clip_norm(&ctx, both, count, 2, (float)rv_golden_clip[row].limit,
                                         &norm));
        RV_NEAR(norm, rv_golden_clip[row].norm, 1e-14 * norm);
        CHECK_ALL(a, rv_golden_clip[row].grad, 5, 4 * U);
        CHECK_ALL(b, rv_golden_clip[row].grad + 5, 7, 4 * U);
    }
    rv_test_row(NULL, 0);
    RV_OKAY(&ctx, rv_optim_clip_norm(&ctx, NULL, NULL, 0, 1, &norm));
    RV_NEAR(norm, 0, 0);
    b[3] = infinite();
    RV_FAILS(&ctx, rv_optim_clip_norm(&ctx, both, count, 2, 0.01f, NULL), RV_ERR_ARG,
             "element 3 of tensor 1 is infinity");
    RV_EQUAL(ctx.where, 1);
    both[1] = NULL;
    RV_FAILS(&ctx, rv_optim_clip_norm(&ctx, both, count, 2, 0.01f, NULL), RV_ERR_ARG, "grad[1]");
    RV_FAILS(&ctx, rv_optim_clip_norm(&ctx, both, count, 1, 0, NULL), RV_ERR_ARG, "max_norm is 0");
    RV_FAILS(&ctx, rv_optim_clip_norm(&ctx, NULL, count, 1, 1, NULL), RV_ERR_ARG, "NULL");
    RV_OKAY(&ctx, rv_optim_clip_value(&ctx, x, 4, 0.5f));
    RV_CHECK(x[0] == 0.5f && x[1] == -0.5f && x[2] == 0.25f && x[3] == -0.5f);
    x[2] = infinite();
    RV_OKAY(&ctx, rv_optim_clip_value(&ctx, x, 4, 0.25f));
    RV_CHECK(x[0] == 0.25f && x[1] == -0.25f && x[2] == 0.25f);
    x[3] = not_a_number();
    RV_FAILS(&ctx, rv_optim_clip_value(&ctx, x, 4, 0.1f), RV_ERR_ARG, "grad[3] is NaN");
    RV_CHECK(x[0] == 0.25f);
    RV_FAILS(&ctx, rv_optim_clip_value(&ctx, x, 4, infinite()), RV_ERR_ARG, "limit is infinity");
    RV_FAILS(&ctx, rv_optim_clip_value(&ctx, NULL, 4, 1), RV_ERR_ARG, "grad is NULL");
}

static void test_optim_errors(void)
{
    static const struct {
        size_t field; /* offset in rv_optim_config */
        float value;
        const char *word;
    } rows[] = {{offsetof(rv_optim_config, lr), -1, "lr is -1"},
                {offsetof(rv_optim_config, momentum), 1.5f, "momentum is 1.5; it must be 0..1"},
                {offsetof(rv_optim_config, dampening), -1, "dampening is -1"},
                {offsetof(rv_optim_config, weight_decay), -1, "weight_decay is -1"},
                {offsetof(rv_optim_config, decay_after), 1, "decay_after is 1"},
                {offsetof(rv_optim_config, beta1), 1, "beta1 is 1; it must be above 0 and below 1"},
                {offsetof(rv_optim_config, beta2), -1, "beta2 is -1"},
                {offsetof(rv_optim_config, eps), -1, "eps is -1"},
                {offsetof(rv_optim_config, lr_decay), -1, "lr_decay is -1"},
                {offsetof(rv_optim_config, initial), -1, "initial is -1"}};
    float x[3] = {1, 2, 3}, g[3] = {1, 1, 1}, state[6] = {0};
    rv_optim_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < 2 * RV_COUNT_OF(rows); i++) {
        float value = i % 2 ? not_a_number() : rows[i / 2].value;
        rv_test_row("field", i);
        memset(&config, 0, sizeof config);
        memcpy((char *)&config + rows[i / 2].field, &value, sizeof value);
        RV_FAILS(&ctx, rv_optim_step(&ctx, &config, 0, x, g, 3, state), RV_ERR_CONFIG,
                 i % 2 ? "is NaN" : rows[i / 2].word);
        RV_EQUAL(rv_optim_init(&ctx, &config, 3, state), RV_ERR_CONFIG);
    }
    rv_test_row(NULL, 0);
    memset(&config, 0, sizeof config);
    config.kind = (rv_optim_kind)5;
    RV_FAILS(&ctx, rv_optim_init(&ctx, &config, 3, state), RV_ERR_CONFIG, "kind is 5");
    config.kind = RV_OPTIM_ADAM;
    config.lr = 1;
    g[2] = not_a_number();
    RV_FAILS(&ctx, rv_optim_step(&ctx, &config, 0, x, g, 3, state), RV_ERR_ARG, "grad[2] is NaN");
    RV_EQUAL(ctx.where, 2);
    RV_CHECK(x[0] == 1 && state[0] == 0);
    RV_FAILS(&ctx, rv_optim_step(&ctx, &config, 0, x, NULL, 3, state), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_optim_step(&ctx, NULL, 0, x, g, 3, state), RV_ERR_ARG, "config is NULL");
    RV_FAILS(&ctx, rv_optim_init(&ctx, &config, 3, NULL), RV_ERR_ARG, "state is NULL");
    RV_FAILS(&ctx, rv_optim_init(&ctx, &config, SIZE_MAX / 4, state), RV_ERR_ARG, "does not fit");
    RV_OKAY(&ctx, rv_optim_init(&ctx, &config, 0, NULL));
}

/* ---- schedules ---- */

static void test_schedule(void)
{
    const double pi = 3.14159265358979323846;
    rv_schedule_config config;
    float lr = 0, last;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.lr = 0.5f;
    config.min_lr = 0.125f;
    config.warmup_steps = 8;
    config.decay_steps = 100;
    last = 0;
    for (uint64_t step = 0; step < 130; step++) {
        double x = step < 8 ? 0 : step >= 108 ? 1 : (double)(step - 8) / 100;
        double want = step < 8 ? 0.5 * (double)(step + 1) / 8
                               : 0.125 + 0.375 * (1 + cos(pi * x)) / 2;
        rv_test_row("step", (size_t)step);
        RV_OKAY(&ctx, rv_schedule_lr(&ctx, &config, step, &lr));
        RV_NEAR(lr, want, U * want);
        RV_CHECK(step < 8 ? lr > last : lr <= last); /* up, then never up again */
        last = lr;
    }
    rv_test_row(NULL, 0);
    RV_OKAY(&ctx, rv_schedule_lr(&ctx, &config, UINT64_MAX, &lr));
    RV_CHECK(lr == 0.125f);
    RV_OKAY(&ctx, rv_schedule_lr(&ctx, &config, 8, &lr));
    RV_CHECK(lr == 0.5f); /* the peak, twice */
    memset(&config, 0, sizeof config); /* defaults: no warmup, 100000 steps to 1e-7 */
    config.lr = 0.5f;
    RV_OKAY(&ctx, rv_schedule_lr(&ctx, &config, 0, &lr));
    RV_CHECK(lr == 0.5f);
    RV_OKAY(&ctx, rv_schedule_lr(&ctx, &config, 50000, &lr));
    RV_NEAR(lr, 0.25, 1e-7);
    RV_OKAY(&ctx, rv_schedule_lr(&ctx, &config, 100000, &lr));
    RV_CHECK(lr == 1e-7f);
    config.lr = 1e-9f;
    RV_OKAY(&ctx, rv_schedule_lr(&ctx, &config, 100000, &lr));
    RV_CHECK(lr == 1e-9f);
    config.min_lr = 1;
    RV_FAILS(&ctx, rv_schedule_lr(&ctx, &config, 0, &lr), RV_ERR_CONFIG, "min_lr is 1");
    config.lr = 0;
    RV_FAILS(&ctx, rv_schedule_lr(&ctx, &config, 0, &lr), RV_ERR_CONFIG, "lr is 0");
    config.lr = not_a_number();
    RV_FAILS(&ctx, rv_schedule_lr(&ctx, &config, 0, &lr), RV_ERR_CONFIG, "lr is NaN");
    RV_FAILS(&ctx, rv_schedule_lr(&ctx, NULL, 0, &lr), RV_ERR_ARG, "config");
}

static double anneal_want(int kind, double start, double end, double x, uint64_t steps)
{
    const double pi = 3.14159265358979323846;
    switch (kind) {
    case RV_ANNEAL_LINEAR: return start + (end - start) * x;
    case RV_ANNEAL_EXPONENTIAL: return start * pow(end / start, x);
    case RV_ANNEAL_COSINE: return end + (start - end) * (1 + cos(pi * x)) / 2;
    default: {
        double width = steps < 10 ? 1.0 : (double)(steps / 10);
        double at = floor(x * (double)steps / width + 1e-9) * width / (double)steps;
        return start * pow(end / start, at);
    }
    }
}

/* Both directions, lengths below and above 10 and no multiple of it; ends exact, monotone. */
static void test_anneal(void)
{
    size_t past = 0;
    static const uint64_t lengths[] = {1, 2, 5, 9, 10, 15, 100, 101};
    rv_anneal_config config;
    float t = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(lengths) * 8; row++) {
        const int kind = (int)(row % 4), up = (int)(row / 4 % 2);
        const uint64_t steps = lengths[row / 8];
        float last;
        rv_test_row(rv_anneal_name((size_t)kind), row);
        config.kind = (rv_anneal_kind)kind;
        config.start = up ? 0.0625f : 2.0f;
        config.end = up ? 2.0f : 0.0625f;
        config.steps = steps;
        last = config.start;
        for (uint64_t step = 0; step <= steps + 1; step++) {
            RV_OKAY(&ctx, rv_anneal_at(&ctx, &config, step, &t));
            if (step < steps) {
                double want = anneal_want(kind, (double)config.start, (double)config.end,
                                          (double)step / (double)steps, steps);
                RV_NEAR(t, want, 2 * U * want);
            }
            if (step == 0) RV_CHECK(t == config.start);
            if (step >= steps) RV_CHECK(t == config.end);
            RV_CHECK(up ? t >= last : t <= last);
            last = t;
        }
    }
    rv_test_row(NULL, 0);
    config.steps = 0;
    RV_FAILS(&ctx, rv_anneal_at(&ctx, &config, 0, &t), RV_ERR_CONFIG, "steps is 0");
    config.end = 0;
    RV_FAILS(&ctx, rv_anneal_at(&ctx, &config, 0, &t), RV_ERR_CONFIG, "end is 0");
    config.start = -1;
    RV_FAILS(&ctx, rv_anneal_at(&ctx, &config, 0, &t), RV_ERR_CONFIG, "start is -1");
    while (rv_anneal_name(past)) past++;
    config.kind = (rv_anneal_kind)past;
    RV_FAILS(&ctx, rv_anneal_at(&ctx, &config, 0, &t), RV_ERR_CONFIG, "kind is 4");
    RV_FAILS(&ctx, rv_anneal_at(&ctx, NULL, 0, &t), RV_ERR_ARG, "config");
    RV_CHECK(rv_anneal_name(4) == NULL);
}

static void test_curriculum(void)
{
    rv_curriculum_stage stages[RV_CURRICULUM_STAGES];
    size_t stage = 9;
    double progress = -1;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_curriculum_default(1003, stages);
    RV_EQUAL(stages[0].duration, 250);
    RV_EQUAL(stages[3].duration, 253); /* the remainder is not lost */
    RV_CHECK(strcmp(stages[0].name, "warm_up") == 0 && stages[0].difficulty == 0.1f);
    RV_CHECK(stages[0].temperature == 2.0f && stages[0].negatives == 5);
    RV_CHECK(stages[3].difficulty == 1.0f && stages[3].temperature == 0.1f);
    RV_EQUAL(stages[3].negatives, 50);
    for (uint64_t step = 0; step < 1003; step++) {
        size_t want = step / 250 < 3 ? (size_t)(step / 250) : 3;
        RV_OKAY(&ctx, rv_curriculum_find(&ctx, stages, 4, step, &stage, &progress));
        RV_EQUAL(stage, want);
        RV_NEAR(progress, (double)(step - want * 250) / (want == 3 ? 253.0 : 250.0), 1e-15);
    }
    RV_OKAY(&ctx, rv_curriculum_find(&ctx, stages, 4, 1003, &stage, &progress));
    RV_EQUAL(stage, 3);
    RV_NEAR(progress, 1, 0);
    rv_curriculum_default(2, stages); /* 0, 0, 0, 2: stages of no steps are passed over */
    RV_OKAY(&ctx, rv_curriculum_find(&ctx, stages, 4, 0, &stage, NULL));
    RV_EQUAL(stage, 3);
    rv_curriculum_default(0, stages);
    RV_OKAY(&ctx, rv_curriculum_find(&ctx, stages, 4, 0, &stage, &progress));
    RV_EQUAL(stage, 3);
    RV_NEAR(progress, 1, 0);
    RV_FAILS(&ctx, rv_curriculum_find(&ctx, stages, 0, 0, &stage, NULL), RV_ERR_ARG, "n is 0");
    stages[2].temperature = 0;
    RV_FAILS(&ctx, rv_curriculum_find(&ctx, stages, 4, 0, &stage, NULL), RV_ERR_ARG,
             "temperature of stage 2 is 0");
    RV_EQUAL(ctx.where, 2);
    stages[1].difficulty = 1.5f;
    RV_FAILS(&ctx, rv_curriculum_find(&ctx, stages, 4, 0, &stage, NULL), RV_ERR_ARG,
             "difficulty of stage 1 is 1.5");
}

int main(void)
{
    rv_test_begin("optim");
    RV_RUN(test_golden);
    RV_RUN(test_minimum);
    RV_RUN(test_steps);
    RV_RUN(test_clip);
    RV_RUN(test_optim_errors);
    RV_RUN(test_schedule);
    RV_RUN(test_anneal);
    RV_RUN(test_curriculum);
    return rv_test_end();
}
