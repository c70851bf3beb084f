/* Diffusion attention: torch's matrix_exp, a definition in double, rv_attn at time 0, faults. */
#include "grid_set.h"

#include "golden/attn_diffusion.h"

enum { MOST_Q = 5, MOST_K = 70, HEADS = 2, MOST_DIM = 4, WIDE = 2 };

typedef struct problem {
    float q[MOST_Q * HEADS * MOST_DIM], k[MOST_K * HEADS * MOST_DIM], v[MOST_K * HEADS * WIDE];
    float out[MOST_Q * HEADS * WIDE], d_out[MOST_Q * HEADS * WIDE];
    float weights[HEADS * MOST_Q * MOST_K], lse[HEADS * MOST_Q], sinks[HEADS], d_sinks[HEADS];
    float d_q[MOST_Q * HEADS * MOST_DIM], d_k[MOST_K * HEADS * MOST_DIM];
    float d_v[MOST_K * HEADS * WIDE];
    float times[3];
    rv_attn_io io;
    rv_attn_grad grad;
    rv_attn_diffusion_config config;
    size_t kv_heads;
    const uint8_t *allow;
} problem;

static void open_problem(problem *s, size_t n_q, size_t n_k, size_t dim, size_t kv_heads)
{
    memset(s, 0, sizeof *s);
    s->kv_heads = kv_heads;
    s->io.n_q = n_q;
    s->io.n_k = n_k;
    s->io.dim = dim;
    s->io.dim_v = WIDE;
    s->io.q = grid(1, s->q, n_q * HEADS * dim);
    s->io.k = grid(2, s->k, n_k * kv_heads * dim);
    s->io.v = grid(3, s->v, n_k * kv_heads * WIDE);
    s->io.out = s->out;
    s->io.weights = s->weights;
    s->grad.d_out = grid(4, s->d_out, n_q * HEADS * WIDE);
    s->grad.d_q = s->d_q;
    s->grad.d_k = s->d_k;
    s->grad.d_v = s->d_v;
    s->config.base.heads = HEADS;
    s->config.base.kv_heads = (uint32_t)kv_heads;
    s->config.base.temperature = 0.5f;
    s->config.sigma = 0.75f;
    s->config.times = s->times;
    s->config.n_times = 1;
    s->times[0] = 1.0f;
}

/* ---- definition: x(t) by explicit steps so small that they are exact ---- */

static double weight_of(const problem *s, size_t kv, size_t i, size_t j)
{
    const size_t dim = s->io.dim;
    double square = 0.0;
    for (size_t c = 0; c < dim; c++) {
        const double gap = (double)s->k[(i * s->kv_heads + kv) * dim + c] -
                           (double)s->k[(j * s->kv_heads + kv) * dim + c];
        square += gap * gap;
    }
    return i == j ? 0.0 : exp(-square / (2.0 * (double)s->config.sigma * (double)s->config.sigma));
}

/* One step of the Taylor series of fourth order (classical Runge and Kutta) of x' = -L x. */
static void step_heat(const double *lap, size_t n, double dt, double *x)
{
    double power[16], next[16];
    memcpy(power, x, n * sizeof(double));
    for (int order = 1; order < 5; order++) {
        for (size_t i = 0; i < n; i++) {
            next[i] = 0.0;
            for (size_t j = 0; j < n; j++) next[i] -= dt / order * lap[i * n + j] * power[j];
        }
        memcpy(power, next, n * sizeof(double));
        for (size_t i = 0; i < n; i++) x[i] += power[i];
    }
}

static void definition(const problem *s, size_t h, size_t i, double *w)
{
    const size_t n = s->io.n_k, dim = s->io.dim, kv = h * s->kv_heads / HEADS;
    const rv_laplacian kind = s->config.kind;
    double lap[16 * 16], degree[16], x[16], top = -HUGE_VAL, sum;
    for (size_t a = 0; a < n; a++) {
        degree[a] = 0.0;
        for (size_t b = 0; b < n; b++) degree[a] += weight_of(s, kv, a, b);
    }
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < n; b++) {
            const double entry = a == b ? degree[a] : -weight_of(s, kv, a, b);
            lap[a * n + b] = kind == RV_LAPLACIAN_PLAIN ? entry
                             : kind == RV_LAPLACIAN_SYM ? entry / sqrt(degree[a] * degree[b])
                                                        : entry / degree[a];
        }
        w[a] = 0.0;
    }
    for (size_t t = 0; t < s->config.n_times; t++) {
        for (size_t j = 0; j < n; j++) {
            x[j] = 0.0;
            for (size_t c = 0; c < dim; c++)
                x[j] += (double)s->q[(i * HEADS + h) * dim + c] *
                        (double)s->k[(j * s->kv_heads + kv) * dim + c] / sqrt((double)dim);
        }
        for (int step = 0; step < 64; step++) step_heat(lap, n, (double)s->times[t] / 64.0, x);
        top = s->config.base.sinks ? (double)s->sinks[h] : -HUGE_VAL;
        for (size_t j = 0; j < n; j++) {
            x[j] /= (double)s->config.base.temperature;
            if (s->allow && !s->allow[i * n + j]) x[j] = -HUGE_VAL;
            top = x[j] > top ? x[j] : top;
        }
        sum = s->config.base.sinks ? exp((double)s->sinks[h] - top) : 0.0;
        for (size_t j = 0; j < n; j++) sum += x[j] == -HUGE_VAL ? 0.0 : exp(x[j] - top);
        for (size_t j = 0; j < n; j++)
            if (x[j] > -HUGE_VAL) w[j] += exp(x[j] - top) / sum / (double)s->config.n_times;
    }
}

static double loss(void *arg)
{
    const problem *s = (const problem *)arg;
    double w[16], sum = 0.0;
    for (size_t h = 0; h < HEADS; h++) {
        for (size_t i = 0; i < s->io.n_q; i++) {
            definition(s, h, i, w);
            for (size_t j = 0; j < s->io.n_k; j++)
                for (size_t x = 0; x < WIDE; x++)
                    sum += w[j] *
                           (double)s->v[(j * s->kv_heads + h * s->kv_heads / HEADS) * WIDE + x] *
                           (double)s->d_out[(i * HEADS + h) * WIDE + x];
        }
    }
    return sum;
}

/* ---- tests ---- */

static void test_golden(void)
{
    static const rv_laplacian kinds[3] = {RV_LAPLACIAN_PLAIN, RV_LAPLACIAN_SYM, RV_LAPLACIAN_WALK};
    static problem s;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_diffusion); row++) {
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        open_problem(&s, 3, 9, 2, 1);
        s.config.kind = kinds[rv_golden_attn_diffusion[row].kind];
        s.config.neighbours = (uint32_t)rv_golden_attn_diffusion[row].neighbours;
        s.config.dense = rv_golden_attn_diffusion[row].neighbours == 0;
        s.config.n_times = (size_t)rv_golden_attn_diffusion[row].n_times;
        for (size_t t = 0; t < 3; t++) s.times[t] = (float)rv_golden_attn_diffusion[row].times[t];
        RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &s.config, &s.io));
        CHECK_ALL(s.weights, rv_golden_attn_diffusion[row].weights, 54, 2e-6);
        CHECK_ALL(s.out, rv_golden_attn_diffusion[row].out, 12, 2e-6);
        RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &s.config, &s.io, &s.grad));
        CHECK_ALL(s.d_q, rv_golden_attn_diffusion[row].d_q, 12, 1e-5);
        CHECK_ALL(s.d_k, rv_golden_attn_diffusion[row].d_k, 18, 1e-5);
        CHECK_ALL(s.d_v, rv_golden_attn_diffusion[row].d_v, 18, 4e-6);
    }
}

static void test_slopes(void)
{
    static problem s;
    static const uint8_t allow[3 * 7] = {1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0,
                                         0, 0, 0, 1, 1, 1, 1, 1, 0, 1};
    rv_attn_mask mask;
    rv_ctx ctx;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    memset(&mask, 0, sizeof mask);
    mask.allow = allow; /* query 1 sees nothing but the sink */
    for (size_t row = 0; row < 3; row++) {
        double w[16];
        rv_test_row("kind", row);
        open_problem(&s, 3, 7, 3, 1 + row % 2);
        s.config.kind = row == 0 ? RV_LAPLACIAN_PLAIN : row == 1 ? RV_LAPLACIAN_SYM
                                                                 : RV_LAPLACIAN_WALK;
        s.config.dense = 1;
        s.config.n_times = 1 + row;
        s.times[1] = 0.0f;
        s.times[2] = 2.0f;
        if (row) {
            s.io.mask = &mask;
            s.allow = allow;
            s.config.base.sinks = grid(6, s.sinks, HEADS);
            s.grad.d_sinks = s.d_sinks;
        }
        RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &s.config, &s.io));
        for (size_t r = 0; r < HEADS * 3; r++) {
            definition(&s, r / 3, r % 3, w);
            for (size_t j = 0; j < 7; j++) RV_NEAR(s.weights[r * 7 + j], w[j], 2e-6);
        }
        RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &s.config, &s.io, &s.grad));
        check_slopes(loss, &s, s.q, s.d_q, 18, 1.0 / 256.0, 2e-5);
        check_slopes(loss, &s, s.k, s.d_k, 21 * s.kv_heads, 1.0 / 256.0, 2e-5);
        check_slopes(loss, &s, s.v, s.d_v, 14 * s.kv_heads, 1.0 / 16.0, 1e-5);
        if (row) check_slopes(loss, &s, s.sinks, s.d_sinks, HEADS, 1.0 / 64.0, 1e-5);
    }
}

/* Time 0 is rv_attn, forward and backward, with all that it knows; more keys than a tile. */
static void test_start(void)
{
    static problem s, t;
    static float slopes[HEADS] = {0.5f, 0.25f};
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    open_problem(&s, 5, MOST_K, 4, 2);
    s.times[0] = 0.0f;
    s.config.base.softcap = 2.0f;
    s.config.base.slopes = slopes;
    s.config.base.windowed = 1;
    s.config.base.left = s.config.base.right = 40;
    s.io.lse = s.lse;
    t = s;
    t.io.q = t.q;
    t.io.k = t.k;
    t.io.v = t.v;
    t.io.out = t.out;
    t.io.weights = t.weights;
    t.io.lse = t.lse;
    t.grad.d_out = t.d_out;
    t.grad.d_q = t.d_q;
    t.grad.d_k = t.d_k;
    t.grad.d_v = t.d_v;
    RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &s.config, &s.io));
    RV_OKAY(&ctx, rv_attn(&ctx, &t.config.base, &t.io));
    RV_CHECK(memcmp(s.out, t.out, sizeof s.out) == 0);
    RV_CHECK(memcmp(s.weights, t.weights, sizeof s.weights) == 0);
    RV_CHECK(memcmp(s.lse, t.lse, sizeof s.lse) == 0);
    RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &s.config, &s.io, &s.grad));
    RV_OKAY(&ctx, rv_attn_backward(&ctx, &t.config.base, &t.io, &t.grad));
    for (size_t e = 0; e < MOST_K * 2 * 4; e++) RV_NEAR(s.d_k[e], t.d_k[e], 1e-6);
    RV_CHECK(memcmp(s.d_q, t.d_q, sizeof s.d_q) == 0);
    RV_CHECK(memcmp(s.d_v, t.d_v, sizeof s.d_v) == 0);
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n) body(arg, --n);
}

/* Sums, one key, equal keys, order of keys, long times, far logits, halves, lanes. */
static void test_laws(void)
{
    static problem s, t;
    static uint16_t k16[MOST_K * HEADS * MOST_DIM], v16[MOST_K * HEADS * WIDE];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (int kind = 0; kind < 3; kind++) {
        rv_test_row("kind", (size_t)kind);
        open_problem(&s, 4, 9, 3, 2);
        s.config.kind = (rv_laplacian)kind;
        s.config.neighbours = 3;
        s.config.n_times = 3;
        rv_diffusion_scales(2.0f, 3, s.times);
        for (size_t e = 0; e < 9 * 2 * WIDE; e++) s.v[e] = 1.0f;
        RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &s.config, &s.io));
        for (size_t r = 0; r < HEADS * 4; r++) {
            double sum = 0.0;
            for (size_t j = 0; j < 9; j++) sum += (double)s.weights[r * 9 + j];
            RV_NEAR(sum, 1.0, 1e-6);
        }
        for (size_t e = 0; e < 4 * HEADS * WIDE; e++) RV_NEAR(s.out[e], 1.0, 1e-6);
        open_problem(&t, 4, 9, 3, 2); /* keys in another order */
        t.config.kind = s.config.kind;
        t.config.neighbours = 3;
        t.config.n_times = 3;
        rv_diffusion_scales(2.0f, 3, t.times);
        for (size_t e = 0; e < 9 * 6; e++) t.k[(8 - e / 6) * 6 + e % 6] = s.k[e];
        RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &t.config, &t.io));
        for (size_t e = 0; e < HEADS * 4 * 9; e++)
            RV_NEAR(t.weights[e / 9 * 9 + 8 - e % 9], s.weights[e], 1e-6);
        open_problem(&t, 4, 9, 3, 2); /* equal keys; and long times: equal logits (not SYM) */
        t.config.kind = s.config.kind;
        t.config.dense = 1;
        if (kind == RV_LAPLACIAN_SYM)
            for (size_t e = 0; e < 9 * 6; e++) t.k[e] = t.k[e % 6];
        t.times[0] = 1e5f;
        t.config.sigma = 2.0f;
        RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &t.config, &t.io));
        for (size_t e = 0; e < HEADS * 4 * 9; e++) RV_NEAR(t.weights[e], 1.0 / 9.0, 1e-6);
        open_problem(&t, 4, 1, 3, 2); /* one key */
        t.config.kind = s.config.kind;
        RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &t.config, &t.io));
        for (size_t e = 0; e < HEADS * 4; e++) RV_NEAR(t.weights[e], 1.0, 1e-6);
        RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &t.config, &t.io, &t.grad));
        for (size_t e = 0; e < 2 * 3; e++) RV_NEAR(t.d_k[e], 0.0, 1e-6);
        open_problem(&t, 4, 9, 3, 2); /* logits of thousands */
        t.config.kind = s.config.kind;
        for (size_t e = 0; e < 4 * 6; e++) t.q[e] *= 1000.0f;
        RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &t.config, &t.io));
        for (size_t e = 0; e < 4 * HEADS * WIDE; e++) RV_CHECK(fabsf(t.out[e]) < 2.0f);
        for (int type = 1; type < 3; type++) {
            rv_ctx many;
            rv_test_ctx(&many);
            many.parallel = backwards;
            open_problem(&s, 4, 11, 3, 2);
            s.config.kind = (rv_laplacian)kind;
            s.config.n_times = 2;
            s.times[1] = 0.5f;
            for (size_t e = 0; e < 66; e++) s.k[e] = (float)((int)(s.k[e] * 16.0f)) / 16.0f;
            for (size_t e = 0; e < 44; e++) s.v[e] = (float)((int)(s.v[e] * 16.0f)) / 16.0f;
            t = s;
            t.config.times = t.times;
            t.io.out = t.out;
            t.io.weights = t.weights;
            t.grad.d_q = t.d_q;
            t.grad.d_k = t.d_k;
            t.grad.d_v = t.d_v;
            if (type == 1) rv_convert_f32_to_f16(s.k, k16, 66);
            else rv_convert_f32_to_bf16(s.k, k16, 66);
            if (type == 1) rv_convert_f32_to_f16(s.v, v16, 44);
            else rv_convert_f32_to_bf16(s.v, v16, 44);
            t.io.k = k16;
            t.io.v = v16;
            t.io.type = type == 1 ? RV_DTYPE_F16 : RV_DTYPE_BF16;
            RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &s.config, &s.io));
            RV_OKAY(&many, rv_attn_diffusion(&many, &t.config, &t.io));
            RV_CHECK(memcmp(s.out, t.out, sizeof s.out) == 0);
            RV_CHECK(memcmp(s.weights, t.weights, sizeof s.weights) == 0);
            RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &s.config, &s.io, &s.grad));
            RV_OKAY(&many, rv_attn_diffusion_backward(&many, &t.config, &t.io, &t.grad));
            RV_CHECK(memcmp(s.d_q, t.d_q, sizeof s.d_q) == 0);
            RV_CHECK(memcmp(s.d_k, t.d_k, sizeof s.d_k) == 0);
            RV_CHECK(memcmp(s.d_v, t.d_v, sizeof s.d_v) == 0);
        }
    }
}

/* More heads of keys than graphs are kept of. */
static void test_many_heads(void)
{
    enum { MANY = 18, KEYS = 5 };
    static float q[MANY * 2], k[KEYS * MANY * 2], v[KEYS * MANY * 2], out[MANY * 2], d[MANY * 2];
    static float d_k[KEYS * MANY * 2], one[KEYS * 2], d_one[KEYS * 2], value[KEYS * 2], made[2];
    const size_t head = MANY - 1;
    rv_attn_diffusion_config config;
    rv_attn_grad grad;
    rv_attn_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&grad, 0, sizeof grad);
    memset(&io, 0, sizeof io);
    config.base.heads = MANY;
    io.n_q = 1;
    io.n_k = KEYS;
    io.dim = 2;
    io.q = grid(1, q, MANY * 2);
    io.k = grid(2, k, KEYS * MANY * 2);
    io.v = grid(3, v, KEYS * MANY * 2);
    io.out = out;
    grad.d_out = grid(4, d, MANY * 2);
    grad.d_k = d_k;
    RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &config, &io));
    RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &config, &io, &grad));
    for (size_t j = 0; j < KEYS; j++) {
        memcpy(one + j * 2, k + (j * MANY + head) * 2, 2 * sizeof(float));
        memcpy(value + j * 2, v + (j * MANY + head) * 2, 2 * sizeof(float));
    }
    config.base.heads = 0;
    io.q = q + head * 2;
    io.k = one;
    io.v = value;
    io.out = made;
    grad.d_out = d + head * 2;
    grad.d_k = d_one;
    RV_OKAY(&ctx, rv_attn_diffusion(&ctx, &config, &io));
    RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &config, &io, &grad));
    for (size_t x = 0; x < 2; x++) RV_NEAR(made[x], out[head * 2 + x], 1e-6);
    for (size_t e = 0; e < KEYS * 2; e++)
        RV_NEAR(d_one[e], d_k[(e / 2 * MANY + head) * 2 + e % 2], 1e-6);
}

static void test_errors(void)
{
    static problem s;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    open_problem(&s, 3, 9, 2, 2);
#define RUN rv_attn_diffusion(&ctx, &s.config, &s.io)
    s.config.base.order = RV_ATTN_CAUSAL;
    RV_FAILS(&ctx, RUN, RV_ERR_CONFIG, "order is 1");
    s.config.base.order = RV_ATTN_ANY;
    s.config.n_times = 65;
    RV_FAILS(&ctx, RUN, RV_ERR_CONFIG, "n_times is 65");
    s.config.n_times = 2;
    s.io.lse = s.lse;
    RV_FAILS(&ctx, RUN, RV_ERR_CONFIG, "lse has no meaning");
    s.io.lse = NULL;
    s.config.times = NULL;
    RV_FAILS(&ctx, RUN, RV_ERR_CONFIG, "times not NULL");
    s.config.times = s.times;
    s.times[1] = -1;
    RV_FAILS(&ctx, RUN, RV_ERR_ARG, "times[1] is -1");
    s.config.n_times = 0;
    s.config.sigma = -1;
    RV_FAILS(&ctx, RUN, RV_ERR_CONFIG, "sigma is -1");
    s.config.sigma = 0;
    s.config.kind = (rv_laplacian)3;
    RV_FAILS(&ctx, RUN, RV_ERR_CONFIG, "kind is 3");
    s.config.kind = RV_LAPLACIAN_SYM;
    s.k[6] = not_a_number();
    RV_FAILS(&ctx, RUN, RV_ERR_ARG, "key 1 of head 1 is not finite");
    s.k[6] = 0;
    s.io.n_k = 0;
    RV_FAILS(&ctx, RUN, RV_ERR_DIM, "n_k is 0");
    s.io.n_k = 9;
    RV_FAILS(&ctx, rv_attn_diffusion(&ctx, &s.config, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_diffusion_backward(&ctx, &s.config, &s.io, NULL), RV_ERR_ARG, "d_out");
    s.io.n_q = 0;
    RV_OKAY(&ctx, RUN);
    s.d_k[3] = 5.0f;
    RV_OKAY(&ctx, rv_attn_diffusion_backward(&ctx, &s.config, &s.io, &s.grad));
    RV_CHECK(s.d_k[3] == 0.0f);
    s.io.n_q = 3;
    RV_EQUAL(rv_attn_diffusion(NULL, NULL, &s.io), RV_OK);
#undef RUN
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    problem *s = (problem *)arg;
    rv_status status = RV_OK;
    for (int dense = 0; dense < 2 && !status; dense++) {
        s->config.dense = dense;
        status = rv_attn_diffusion(ctx, &s->config, &s->io);
        if (!status) status = rv_attn_diffusion_backward(ctx, &s->config, &s->io, &s->grad);
    }
    return status;
}

static void test_faults(void)
{
    static problem s;
    open_problem(&s, 3, RV_TEST_SCALE > 1 ? 12 : 40, 2, 2);
    s.config.n_times = 2;
    s.config.neighbours = 3;
    RV_CHECK(rv_test_oom_sweep(sweep, &s) > 60);
    RV_CHECK(rv_test_cancel_sweep(sweep, &s) > 60);
}

int main(void)
{
    rv_test_begin("attn_diffusion");
    RV_RUN(test_golden);
    RV_RUN(test_slopes);
    RV_RUN(test_start);
    RV_RUN(test_laws);
    RV_RUN(test_many_heads);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
