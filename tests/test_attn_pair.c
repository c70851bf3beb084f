/* Additive and cosine attention: torch, definitions in double, common tests, faults. */
#include "grid_set.h"

#include "golden/attn_pair.h"

enum { N_Q = 3, N_K = 4, DIM = 3, DIM_V = 2 };

typedef struct problem {
    rv_attn_additive_config additive;
    rv_attn_cosine_config cosine;
    rv_attn_io io;
    int kind; /* 1: cosine */
    float q[18], k[24], v[16], params[64], d_out[12], out[12], weights[24];
} problem;

static void make(problem *p, int kind, uint32_t heads, uint32_t kv_heads, size_t dim_a)
{
    memset(p, 0, sizeof *p);
    p->kind = kind;
    p->additive.base.heads = p->cosine.base.heads = heads;
    p->additive.base.kv_heads = p->cosine.base.kv_heads = kv_heads;
    p->additive.base.scale = 0.75f;
    p->additive.dim_a = dim_a;
    p->additive.params = p->cosine.params = p->params;
    p->io.n_q = N_Q;
    p->io.n_k = N_K;
    p->io.dim = DIM;
    p->io.dim_v = DIM_V;
    p->io.q = grid(1, p->q, N_Q * heads * DIM);
    p->io.k = grid(2, p->k, N_K * kv_heads * DIM);
    p->io.v = grid(3, p->v, N_K * kv_heads * DIM_V);
    p->io.out = p->out;
    p->io.weights = p->weights;
    grid(4, p->d_out, N_Q * heads * DIM_V);
    grid(9, p->params, 64);
    for (size_t i = 0; i < 64; i++) p->params[i] *= 0.5f;
    if (kind) p->params[0] = 0.25f;
    if (kind) p->params[1] = 0.0078125f;
}

static rv_status forward(rv_ctx *ctx, const problem *p)
{
    return p->kind ? rv_attn_cosine(ctx, &p->cosine, &p->io)
                   : rv_attn_additive(ctx, &p->additive, &p->io);
}

static rv_status backward(rv_ctx *ctx, const problem *p, const rv_attn_grad *grad)
{
    return p->kind ? rv_attn_cosine_backward(ctx, &p->cosine, &p->io, grad)
                   : rv_attn_additive_backward(ctx, &p->additive, &p->io, grad);
}

static void test_golden(void)
{
    for (int kind = 0; kind < 2; kind++) {
        for (size_t row = 0; row < RV_COUNT_OF(rv_golden_additive); row++) {
            const uint32_t heads = rv_golden_additive[row].heads;
            const uint32_t kv = rv_golden_additive[row].kv_heads;
            const size_t n = kind ? rv_golden_cosine[row].n_params
                                  : rv_golden_additive[row].n_params;
            float d_q[18], d_k[24], d_v[16], d_params[64];
            rv_attn_config *base;
            rv_attn_grad grad;
            rv_ctx ctx;
            problem p;
            rv_test_ctx(&ctx);
            rv_test_row(kind ? "cosine" : "additive", row);
            make(&p, kind, heads, kv, rv_golden_additive[row].dim_a);
            base = kind ? &p.cosine.base : &p.additive.base;
            base->order = rv_golden_additive[row].causal ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
            base->softcap = (float)rv_golden_additive[row].cap;
            RV_EQUAL(kind ? rv_attn_cosine_params(&p.cosine, &p.io)
                          : rv_attn_additive_params(&p.additive, &p.io), n);
            memset(&grad, 0, sizeof grad);
            grad.d_out = p.d_out;
            grad.d_q = d_q;
            grad.d_k = d_k;
            grad.d_v = d_v;
            grad.d_params = d_params;
            RV_OKAY(&ctx, forward(&ctx, &p));
            RV_OKAY(&ctx, backward(&ctx, &p, &grad));
            /* logits up to 4; in cosine up to 100, whose roundoff is 100 U of the weight */
#define CHECKED(table, error)                                                                      \
    do {                                                                                           \
        CHECK_ALL(p.out, table[row].out, N_Q * heads * DIM_V, error);                              \
        CHECK_ALL(p.weights, table[row].weights, heads * N_Q * N_K, error);                        \
        CHECK_ALL(d_q, table[row].d_q, N_Q * heads * DIM, error);                                  \
        CHECK_ALL(d_k, table[row].d_k, N_K * kv * DIM, error);                                     \
        CHECK_ALL(d_v, table[row].d_v, N_K * kv * DIM_V, error);                                   \
        CHECK_ALL(d_params, table[row].d_params, n, error);                                        \
    } while (0)
            if (kind) CHECKED(rv_golden_cosine, heads == 2 ? 300 * U : 64 * U);
            else CHECKED(rv_golden_additive, 64 * U);
#undef CHECKED
        }
    }
}

/* ---- definitions in double ---- */

/* The loss sum(out * d_out) from the formulas in attn_pair.h, two heads of queries, one of keys. */
static double loss(void *arg)
{
    const problem *p = (const problem *)arg;
    const size_t dim_a = p->additive.dim_a, heads = 2;
    double sum = 0.0;
    for (size_t h = 0; h < heads; h++) {
        const float *w_q = p->params + h * dim_a * DIM, *w_k = p->params + heads * dim_a * DIM;
        const float *z = w_k + dim_a * DIM + h * dim_a;
        const double tau = (double)p->params[h] > 0.01 ? (double)p->params[h] : 0.01;
        for (size_t i = 0; i < N_Q; i++) {
            const float *q = p->q + (i * heads + h) * DIM;
            double w[N_K], total = 0.0;
            for (size_t j = 0; j < N_K; j++) {
                const float *k = p->k + j * DIM;
                double s = 0.0, qq = 0.0, kk = 0.0;
                for (size_t a = 0; a < dim_a && !p->kind; a++) {
                    double x = 0.0;
                    for (size_t c = 0; c < DIM; c++)
                        x += (double)w_q[a * DIM + c] * (double)q[c] +
                             (double)w_k[a * DIM + c] * (double)k[c];
                    s += 0.75 * (double)z[a] * tanh(x);
                }
                for (size_t c = 0; c < DIM && p->kind; c++) {
                    s += (double)q[c] * (double)k[c];
                    qq += (double)q[c] * (double)q[c];
                    kk += (double)k[c] * (double)k[c];
                }
                if (p->kind) s /= sqrt(qq * kk) * tau;
                total += w[j] = exp(s);
            }
            for (size_t j = 0; j < N_K; j++)
                for (size_t c = 0; c < DIM_V; c++)
                    sum += w[j] / total * (double)p->v[j * DIM_V + c] *
                           (double)p->d_out[(i * heads + h) * DIM_V + c];
        }
    }
    return sum;
}

static void test_slopes(void)
{
    for (int kind = 0; kind < 2; kind++) {
        float d_q[18], d_k[24], d_v[16], d_params[64];
        double got = 0.0;
        rv_attn_grad grad;
        rv_ctx ctx;
        problem p;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        make(&p, kind, 2, 1, 5);
        if (kind) p.params[1] = 0.5f;
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t i = 0; i < N_Q * 2 * DIM_V; i++) got += (double)p.out[i] * (double)p.d_out[i];
        RV_NEAR(got, loss(&p), 1e-5);
        memset(&grad, 0, sizeof grad);
        grad.d_out = p.d_out;
        grad.d_q = d_q;
        grad.d_k = d_k;
        grad.d_v = d_v;
        grad.d_params = d_params;
        RV_OKAY(&ctx, backward(&ctx, &p, &grad));
        check_slopes(loss, &p, p.q, d_q, N_Q * 2 * DIM, 1.0 / 512, 2e-4);
        check_slopes(loss, &p, p.k, d_k, N_K * DIM, 1.0 / 512, 2e-4);
        check_slopes(loss, &p, p.v, d_v, N_K * DIM_V, 1.0 / 512, 2e-4);
        check_slopes(loss, &p, p.params, d_params, kind ? 2 : 2 * 15 + 15 + 10, 1.0 / 512, 2e-4);
    }
}

/* ---- common tests, for both ---- */

/* Weights of 70 keys sum to 1, values of 1 come out as 1, a permutation of the keys permutes the
   weights, equal keys share, one key has all, hidden rows are zeros, slopes of a logit are finite
   however large the inputs. */
static void test_common(void)
{
    enum { N = 70, D = 8 };
    for (int kind = 0; kind < 2; kind++) {
        float q[3 * D], k[N * D], v[N * 2], params[2 * D * D + D], out[3 * 2], w[3 * N], was[3 * N];
        uint8_t allow[3 * N];
        rv_attn_mask mask;
        rv_ctx ctx;
        problem p;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        make(&p, kind, 1, 1, D);
        p.additive.params = grid(7, params, kind ? 1 : 2 * D * D + D);
        p.cosine.params = NULL;
        p.io.n_k = N;
        p.io.dim = D;
        p.io.q = grid(1, q, 3 * D);
        p.io.k = grid(2, k, N * D);
        for (size_t i = 0; i < N * 2; i++) v[i] = 1.0f;
        p.io.v = v;
        p.io.out = out;
        p.io.weights = w;
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t i = 0; i < 3; i++) {
            double sum = 0.0;
            for (size_t j = 0; j < N; j++) sum += (double)w[i * N + j];
            RV_NEAR(sum, 1, 4e-6);
            RV_NEAR(out[i * 2], 1, 4e-6);
        }
        memcpy(was, w, sizeof w);
        for (size_t j = 0; j < N / 2; j++) { /* the other way round */
            for (size_t c = 0; c < D; c++) {
                const float x = k[j * D + c];
                k[j * D + c] = k[(N - 1 - j) * D + c];
                k[(N - 1 - j) * D + c] = x;
            }
        }
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t i = 0; i < 3; i++)
            for (size_t j = 0; j < N; j++) /* logits up to 10 have errors up to 7 U each times 10 */
                RV_NEAR(w[i * N + j], was[i * N + N - 1 - j], 4e-6 * (double)w[i * N + j] + 3e-7);
        for (size_t i = 0; i < 3 * D; i++) q[i] *= 1e18f; /* finite whatever comes */
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t i = 0; i < 6; i++) RV_NEAR(out[i], 1, 4e-6);
        for (size_t j = 1; j < N; j++) memcpy(k + j * D, k, D * sizeof(float));
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t i = 0; i < 3 * N; i++) RV_NEAR(w[i], 1.0 / (double)N, 1e-8);
        memset(allow, 0, sizeof allow);
        memset(&mask, 0, sizeof mask);
        mask.allow = allow;
        p.io.mask = &mask;
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t i = 0; i < 6; i++) RV_CHECK(out[i] == 0.0f);
        for (size_t i = 0; i < 3 * N; i++) RV_CHECK(w[i] == 0.0f);
        p.io.mask = NULL;
        p.io.n_k = 1;
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t i = 0; i < 3; i++) RV_CHECK(w[i] == 1.0f);
    }
}

/* The cosine does not see lengths; of a vector of zeros it is 0, and so is the slope; 0.1 is the
   default tau; a tau below 0.01 counts as 0.01 and has no slope. */
static void test_cosine(void)
{
    float was[24], d_q[18], d_k[24], d_params[2];
    rv_attn_grad grad;
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p, 1, 2, 2, 0);
    RV_OKAY(&ctx, forward(&ctx, &p));
    memcpy(was, p.weights, sizeof was);
    for (size_t i = 0; i < 18; i++) p.q[i] *= 1024.0f;
    for (size_t i = 0; i < 24; i++) p.k[i] *= 1.0f / 4096.0f;
    p.params[1] = -3.0f; /* 0.01, as 0.0078125 was */
    RV_OKAY(&ctx, forward(&ctx, &p));
    for (size_t i = 0; i < 24; i++) RV_NEAR(p.weights[i], was[i], 0);
    p.params[0] = p.params[1] = 0.1f;
    RV_OKAY(&ctx, forward(&ctx, &p));
    memcpy(was, p.weights, sizeof was);
    p.cosine.params = NULL;
    RV_OKAY(&ctx, forward(&ctx, &p));
    RV_CHECK(memcmp(was, p.weights, sizeof was) == 0);
    for (size_t c = 0; c < 6; c++) p.q[c] = p.k[6 + c] = 0.0f;
    RV_OKAY(&ctx, forward(&ctx, &p));
    for (size_t j = 0; j < N_K; j++) RV_NEAR(p.weights[j], 0.25, 1e-8); /* the query is zero */
    memset(&grad, 0, sizeof grad);
    grad.d_out = p.d_out;
    grad.d_q = d_q;
    grad.d_k = d_k;
    grad.d_params = d_params;
    RV_OKAY(&ctx, backward(&ctx, &p, &grad));
    for (size_t c = 0; c < 6; c++) RV_CHECK(d_q[c] == 0.0f && d_k[6 + c] == 0.0f);
    RV_OKAY(&ctx, rv_attn_cosine_init(&ctx, &p.cosine, &p.io, d_params));
    RV_CHECK(d_params[0] == 0.1f && d_params[1] == 0.1f);
    p.cosine.params = p.params;
    p.params[1] = 0.001f;
    RV_OKAY(&ctx, backward(&ctx, &p, &grad));
    RV_CHECK(d_params[1] == 0.0f && d_params[0] != 0.0f);
}

/* Hidden units at +-1 have no slope: all weights equal, all slopes by queries and keys zero. */
static void test_saturation(void)
{
    float d_q[18], d_k[24], d_params[64];
    rv_attn_grad grad;
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p, 0, 1, 1, 3);
    for (size_t i = 0; i < N_Q * DIM; i++) p.q[i] = 1000.0f;
    for (size_t i = 0; i < 18; i++) p.params[i] = i % 2 ? 1.0f : 2.0f;
    RV_OKAY(&ctx, forward(&ctx, &p));
    for (size_t i = 0; i < N_Q * N_K; i++) RV_NEAR(p.weights[i], 0.25, 1e-8);
    memset(&grad, 0, sizeof grad);
    grad.d_out = p.d_out;
    grad.d_q = d_q;
    grad.d_k = d_k;
    grad.d_params = d_params;
    RV_OKAY(&ctx, backward(&ctx, &p, &grad));
    for (size_t i = 0; i < N_Q * DIM; i++) RV_CHECK(d_q[i] == 0.0f);
    for (size_t i = 0; i < N_K * DIM; i++) RV_CHECK(d_k[i] == 0.0f);
    RV_OKAY(&ctx, rv_attn_additive_init(&ctx, &p.additive, &p.io, d_params));
    for (size_t i = 0; i < 21; i++) RV_CHECK(fabsf(d_params[i]) < 1.25f && d_params[i] != 0.0f);
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

/* Halves are the numbers they are; strides change places only; workers change nothing. */
static void test_layouts(void)
{
    for (int kind = 0; kind < 2; kind++) {
        uint16_t k16[24], v16[16];
        float was[12], wide[3 * 9], d_q[18], d_was[18], d_k[24], d_k_was[24], d_params[64];
        rv_attn_grad grad;
        rv_ctx ctx;
        problem p;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        make(&p, kind, 2, 2, 3);
        memset(&grad, 0, sizeof grad);
        grad.d_out = p.d_out;
        grad.d_q = d_was;
        grad.d_k = d_k_was;
        grad.d_params = d_params;
        RV_OKAY(&ctx, forward(&ctx, &p));
        RV_OKAY(&ctx, backward(&ctx, &p, &grad));
        memcpy(was, p.out, sizeof was);
        rv_convert_f32_to_f16(p.k, k16, 24); /* exact */
        rv_convert_f32_to_f16(p.v, v16, 16);
        p.io.type = RV_DTYPE_F16;
        p.io.k = k16;
        p.io.v = v16;
        for (size_t i = 0; i < 3; i++) memcpy(wide + i * 9, p.q + i * 6, 6 * sizeof(float));
        p.io.q = wide;
        p.io.q_stride = 9;
        ctx.parallel = backwards;
        ctx.workers = 3;
        grad.d_q = d_q;
        grad.d_k = d_k;
        RV_OKAY(&ctx, forward(&ctx, &p));
        RV_OKAY(&ctx, backward(&ctx, &p, &grad));
        RV_CHECK(memcmp(was, p.out, sizeof was) == 0);
        RV_CHECK(memcmp(d_was, d_q, sizeof d_q) == 0);
        RV_CHECK(memcmp(d_k_was, d_k, sizeof d_k) == 0);
    }
}

/* A NaN in a query stays with it. */
static void test_nan(void)
{
    for (int kind = 0; kind < 2; kind++) {
        rv_ctx ctx;
        problem p;
        rv_test_ctx(&ctx);
        make(&p, kind, 1, 1, 3);
        p.q[4] = not_a_number();
        RV_OKAY(&ctx, forward(&ctx, &p));
        RV_CHECK(fabsf(p.out[0]) < 4.0f && fabsf(p.out[4]) < 4.0f);
#if !defined(__FAST_MATH__)
        RV_CHECK(p.out[2] != p.out[2]);
#endif
    }
}

/* ---- faults ---- */

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const int kind = *(const int *)arg;
    float d_q[18], d_k[24], d_params[64];
    rv_attn_grad grad;
    problem p;
    rv_status status;
    make(&p, kind, 2, 1, 4);
    memset(&grad, 0, sizeof grad);
    grad.d_out = p.d_out;
    grad.d_q = d_q;
    grad.d_k = d_k;
    grad.d_params = d_params;
    status = forward(ctx, &p);
    return status ? status : backward(ctx, &p, &grad);
}

static void test_faults(void)
{
    for (int kind = 0; kind < 2; kind++) {
        RV_CHECK(rv_test_oom_sweep(sweep, &kind) > 10);
        RV_CHECK(rv_test_cancel_sweep(sweep, &kind) > 8);
    }
}

static void test_errors(void)
{
    rv_attn_grad grad;
    rv_ctx ctx;
    problem p;
    float d[64];
    rv_test_ctx(&ctx);
    memset(&grad, 0, sizeof grad);
    make(&p, 0, 1, 1, 3);
#define REFUSED(field, value, run, status, word)                                                   \
    do {                                                                                           \
        problem was = p;                                                                           \
        field = value;                                                                             \
        p.out[0] = 5.0f;                                                                           \
        RV_FAILS(&ctx, run, status, word);                                                         \
        RV_CHECK(p.out[0] == 5.0f);                                                                \
        p = was;                                                                                   \
    } while (0)
#define ADDITIVE rv_attn_additive(&ctx, &p.additive, &p.io)
#define COSINE rv_attn_cosine(&ctx, &p.cosine, &p.io)
    RV_FAILS(&ctx, rv_attn_additive(&ctx, NULL, &p.io), RV_ERR_ARG, "config");
    RV_FAILS(&ctx, rv_attn_additive(&ctx, &p.additive, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_cosine(&ctx, NULL, NULL), RV_ERR_ARG, "io");
    REFUSED(p.additive.params, NULL, ADDITIVE, RV_ERR_ARG, "params");
    REFUSED(p.additive.dim_a, 65536, ADDITIVE, RV_ERR_CONFIG, "dim_a is 65536");
    REFUSED(p.io.q, NULL, ADDITIVE, RV_ERR_ARG, "q, k, v and out");
    REFUSED(p.io.n_k, 0, ADDITIVE, RV_ERR_DIM, "n_k is 0");
    REFUSED(p.io.k_stride, 2, ADDITIVE, RV_ERR_DIM, "k_stride is 2");
    REFUSED(p.additive.base.temperature, -1.0f, ADDITIVE, RV_ERR_CONFIG, "temperature");
    REFUSED(p.io.v, NULL, COSINE, RV_ERR_ARG, "q, k, v and out");
    REFUSED(p.cosine.base.scale, 2.0f, COSINE, RV_ERR_CONFIG, "scale is 2");
    REFUSED(p.cosine.base.temperature, 2.0f, COSINE, RV_ERR_CONFIG, "temperature is 2");
    REFUSED(p.params[0], not_a_number(), COSINE, RV_ERR_CONFIG, "params[0]");
    REFUSED(p.io.out_stride, 1, COSINE, RV_ERR_DIM, "out_stride is 1");
    RV_FAILS(&ctx, rv_attn_additive_backward(&ctx, &p.additive, &p.io, &grad), RV_ERR_ARG, "d_out");
    RV_FAILS(&ctx, rv_attn_cosine_backward(&ctx, &p.cosine, &p.io, NULL), RV_ERR_ARG, "grad");
    grad.d_out = p.d_out;
    RV_FAILS(&ctx, rv_attn_additive_backward(&ctx, NULL, &p.io, &grad), RV_ERR_ARG, "config");
    RV_FAILS(&ctx, rv_attn_cosine_backward(&ctx, NULL, NULL, &grad), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_additive_init(&ctx, &p.additive, &p.io, NULL), RV_ERR_ARG, "params");
    RV_FAILS(&ctx, rv_attn_cosine_init(&ctx, NULL, NULL, NULL), RV_ERR_ARG, "params");
    p.io.dim = 0;
    RV_FAILS(&ctx, rv_attn_additive_init(&ctx, &p.additive, &p.io, d), RV_ERR_DIM, "no size");
#undef REFUSED
#undef ADDITIVE
#undef COSINE
}

int main(void)
{
    rv_test_begin("attn_pair");
    RV_RUN(test_golden);
    RV_RUN(test_slopes);
    RV_RUN(test_common);
    RV_RUN(test_cosine);
    RV_RUN(test_saturation);
    RV_RUN(test_layouts);
    RV_RUN(test_nan);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    return rv_test_end();
}
