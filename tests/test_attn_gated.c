/* Heads behind gates: torch, multi-head attention where all gates are equal, faults. */
#include "grid_set.h"

#include "golden/attn_gated.h"

enum { HEADS = 4, DIM = 2, N_Q = 4, N_K = 5, WIDTH = 8, PARAMS = 3 * 72 + 72 + 32 };

typedef struct problem {
    rv_attn_gated_config config;
    rv_attn_io io;
    float x[N_Q * WIDTH], y[N_K * WIDTH], params[PARAMS], d_out[N_Q * WIDTH], out[N_Q * WIDTH];
    float gates[N_Q * HEADS];
} problem;

static void make(problem *p)
{
    memset(p, 0, sizeof *p);
    p->config.heads.base.heads = HEADS;
    p->config.heads.params = p->params;
    p->config.gates = p->gates;
    p->io.n_q = N_Q;
    p->io.n_k = N_K;
    p->io.dim = DIM;
    p->io.q = grid(1, p->x, N_Q * WIDTH);
    p->io.k = p->io.v = grid(2, p->y, N_K * WIDTH);
    p->io.out = p->out;
    grid(4, p->d_out, N_Q * WIDTH);
    grid(9, p->params, PARAMS);
    for (size_t i = 0; i < PARAMS; i++) p->params[i] *= 0.25f;
}

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_gated); row++) {
        float d_q[N_Q * WIDTH], d_k[N_K * WIDTH], d_v[N_K * WIDTH], d_params[PARAMS];
        rv_attn_grad grad;
        rv_ctx ctx;
        problem p;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        make(&p);
        p.config.threshold = (float)rv_golden_gated[row].threshold;
        p.config.least = rv_golden_gated[row].least;
        p.config.most = rv_golden_gated[row].most;
        RV_EQUAL(rv_attn_gated_params(&p.config, &p.io), PARAMS);
        RV_OKAY(&ctx, rv_attn_gated(&ctx, &p.config, &p.io));
        CHECK_ALL(p.gates, rv_golden_gated[row].gates, N_Q * HEADS, 32 * U);
        CHECK_ALL(p.out, rv_golden_gated[row].out, N_Q * WIDTH, 64 * U);
        memset(&grad, 0, sizeof grad);
        grad.d_out = p.d_out;
        grad.d_q = d_q;
        grad.d_k = d_k;
        grad.d_v = d_v;
        grad.d_params = d_params;
        RV_OKAY(&ctx, rv_attn_gated_backward(&ctx, &p.config, &p.io, &grad));
        for (size_t i = 0; i < N_K * WIDTH; i++) d_k[i] += d_v[i]; /* the same rows */
        CHECK_ALL(d_q, rv_golden_gated[row].d_q, N_Q * WIDTH, 96 * U);
        CHECK_ALL(d_k, rv_golden_gated[row].d_y, N_K * WIDTH, 96 * U);
        CHECK_ALL(d_params, rv_golden_gated[row].d_params, PARAMS, 96 * U);
    }
}

/* The loss in double: what the heads give is taken apart with unit matrices behind them, so that
   only gates and W_o of this part are under test. */
static double loss(void *arg)
{
    const problem *p = (const problem *)arg;
    const float *w_o = p->params + 3 * 72, *b_o = w_o + 64, *u = b_o + 8;
    double sum = 0.0;
    for (size_t i = 0; i < N_Q; i++) {
        double g[HEADS], all = 0.0, most = 0.0, o[WIDTH];
        for (size_t h = 0; h < HEADS; h++) {
            double s = 0.0, q[DIM], w[N_K], total = 0.0;
            for (size_t a = 0; a < WIDTH; a++)
                s += (double)u[h * WIDTH + a] * (double)p->x[i * WIDTH + a];
            g[h] = 1.0 / (1.0 + exp(-s));
            for (size_t c = 0; c < DIM; c++) {
                q[c] = (double)p->params[192 + h * DIM + c];
                for (size_t a = 0; a < WIDTH; a++)
                    q[c] += (double)p->params[(h * DIM + c) * WIDTH + a] *
                            (double)p->x[i * WIDTH + a];
            }
            for (size_t j = 0; j < N_K; j++) {
                s = 0.0;
                for (size_t c = 0; c < DIM; c++) {
                    double k = (double)p->params[200 + h * DIM + c];
                    for (size_t a = 0; a < WIDTH; a++)
                        k += (double)p->params[64 + (h * DIM + c) * WIDTH + a] *
                             (double)p->y[j * WIDTH + a];
                    s += q[c] * k;
                }
                total += w[j] = exp(s / sqrt((double)DIM));
            }
            for (size_t c = 0; c < DIM; c++) {
                o[h * DIM + c] = 0.0;
                for (size_t j = 0; j < N_K; j++) {
                    double v = (double)p->params[208 + h * DIM + c];
                    for (size_t a = 0; a < WIDTH; a++)
                        v += (double)p->params[128 + (h * DIM + c) * WIDTH + a] *
                             (double)p->y[j * WIDTH + a];
                    o[h * DIM + c] += w[j] / total * v;
                }
            }
        }
        for (size_t h = 0; h < HEADS; h++) most = g[h] > most ? g[h] : most;
        for (size_t h = 0; h < HEADS; h++) {
            if (!(g[h] > 0.5 || g[h] == most)) g[h] = 0.0;
            all += g[h];
        }
        for (size_t a = 0; a < WIDTH; a++) {
            double out = (double)b_o[a];
            for (size_t b = 0; b < WIDTH; b++)
                out += (double)w_o[a * WIDTH + b] * o[b] * (double)HEADS * g[b / DIM] / all;
            sum += out * (double)p->d_out[i * WIDTH + a];
        }
    }
    return sum;
}

static void test_slopes(void)
{
    float d_q[N_Q * WIDTH], d_params[PARAMS];
    double got = 0.0;
    rv_attn_grad grad;
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p);
    RV_OKAY(&ctx, rv_attn_gated(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < N_Q * WIDTH; i++) got += (double)p.out[i] * (double)p.d_out[i];
    RV_NEAR(got, loss(&p), 2e-5);
    memset(&grad, 0, sizeof grad);
    grad.d_out = p.d_out;
    grad.d_q = d_q;
    grad.d_params = d_params;
    RV_OKAY(&ctx, rv_attn_gated_backward(&ctx, &p.config, &p.io, &grad));
    check_slopes(loss, &p, p.x, d_q, N_Q * WIDTH, 1.0 / 1024, 4e-4);
    check_slopes(loss, &p, p.params, d_params, PARAMS, 1.0 / 1024, 4e-4);
}

/* Equal gates, whatever their size: multi-head attention, with and without W_o. One head kept: its
   rows times the number of heads, the others zero. */
static void test_identities(void)
{
    float want[N_Q * WIDTH];
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p);
    memset(p.params + PARAMS - 32, 0, 32 * sizeof(float)); /* sigmoid(0), not above 1/2 */
    p.config.least = HEADS;
    for (int form = 0; form < 2; form++) {
        rv_attn_heads_config heads = p.config.heads;
        heads.no_output = form;
        p.io.out = want;
        RV_OKAY(&ctx, rv_attn_heads(&ctx, &heads, &p.io));
        p.io.out = p.out;
        p.config.heads.no_output = form;
        if (form) memset(p.params + 216, 0, 32 * sizeof(float)); /* gates follow at once */
        RV_OKAY(&ctx, rv_attn_gated(&ctx, &p.config, &p.io));
        for (size_t i = 0; i < N_Q * HEADS; i++) RV_NEAR(p.gates[i], 1, 2 * U);
        for (size_t i = 0; i < N_Q * WIDTH; i++) RV_NEAR(p.out[i], want[i], 2e-6);
    }
    p.config.least = p.config.most = 1; /* ties: the lower head */
    RV_OKAY(&ctx, rv_attn_gated(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < N_Q; i++)
        for (size_t c = 0; c < WIDTH; c++)
            RV_NEAR(p.out[i * WIDTH + c], c < DIM ? 4 * (double)want[i * WIDTH + c] : 0, 8e-6);
    for (size_t i = 0; i < N_Q * HEADS; i++) RV_CHECK(p.gates[i] == (i % HEADS ? 0.0f : 4.0f));
}

/* As many heads as `least` and `most` say; a threshold in between. */
static void test_counts(void)
{
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p);
    for (uint32_t least = 1; least <= HEADS; least++) {
        for (uint32_t most = least; most <= HEADS; most++) {
            size_t seen[HEADS + 1] = {0};
            p.config.least = least;
            p.config.most = most;
            RV_OKAY(&ctx, rv_attn_gated(&ctx, &p.config, &p.io));
            for (size_t i = 0; i < N_Q; i++) {
                size_t kept = 0;
                double sum = 0.0;
                for (size_t h = 0; h < HEADS; h++) {
                    kept += p.gates[i * HEADS + h] > 0.0f;
                    sum += (double)p.gates[i * HEADS + h];
                }
                RV_CHECK(kept >= least && kept <= most);
                RV_NEAR(sum, HEADS, 1e-6);
                seen[kept]++;
            }
            RV_CHECK(seen[least] + seen[most] > 0);
        }
    }
    for (size_t i = 0; i < N_Q * WIDTH; i++) p.x[i] *= 1e6f; /* gates of 0 and of 1 */
    p.config.least = p.config.most = 0;
    RV_OKAY(&ctx, rv_attn_gated(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < N_Q * WIDTH; i++) RV_CHECK(fabsf(p.out[i]) < 1e9f);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    float d[N_Q * WIDTH + PARAMS];
    rv_attn_grad grad;
    problem p;
    rv_status status;
    (void)arg;
    make(&p);
    memset(&grad, 0, sizeof grad);
    grad.d_out = p.d_out;
    grad.d_q = d;
    grad.d_params = d + N_Q * WIDTH;
    status = rv_attn_gated(ctx, &p.config, &p.io);
    return status ? status : rv_attn_gated_backward(ctx, &p.config, &p.io, &grad);
}

static void test_faults(void)
{
    RV_CHECK(rv_test_oom_sweep(sweep, NULL) > 20);
    RV_CHECK(rv_test_cancel_sweep(sweep, NULL) > 20);
}

static void test_errors(void)
{
    float d[PARAMS];
    rv_attn_grad grad;
    rv_ctx ctx;
    problem p;
    rv_test_ctx(&ctx);
    make(&p);
    memset(&grad, 0, sizeof grad);
#define REFUSED(field, value, status, word)                                                        \
    do {                                                                                           \
        problem was = p;                                                                           \
        field = value;                                                                             \
        p.out[0] = 5.0f;                                                                           \
        RV_FAILS(&ctx, rv_attn_gated(&ctx, &p.config, &p.io), status, word);                       \
        RV_CHECK(p.out[0] == 5.0f);                                                                \
        p = was;                                                                                   \
    } while (0)
    RV_FAILS(&ctx, rv_attn_gated(&ctx, NULL, &p.io), RV_ERR_ARG, "config");
    REFUSED(p.config.heads.params, NULL, RV_ERR_ARG, "params");
    REFUSED(p.config.threshold, 1.0f, RV_ERR_CONFIG, "threshold is 1");
    REFUSED(p.config.threshold, -0.5f, RV_ERR_CONFIG, "threshold is -0.5");
    REFUSED(p.config.threshold, not_a_number(), RV_ERR_CONFIG, "threshold is NaN");
    REFUSED(p.config.least, 5, RV_ERR_CONFIG, "least and most are 5 and 4");
    REFUSED(p.config.most, 5, RV_ERR_CONFIG, "least and most are 1 and 5");
    REFUSED(p.io.q, NULL, RV_ERR_ARG, "q, k, v and out");
    REFUSED(p.io.out_stride, 7, RV_ERR_DIM, "out_stride is 7");
#undef REFUSED
    RV_FAILS(&ctx, rv_attn_gated_backward(&ctx, &p.config, &p.io, &grad), RV_ERR_ARG, "d_out");
    RV_FAILS(&ctx, rv_attn_gated_backward(&ctx, NULL, &p.io, &grad), RV_ERR_ARG, "config");
    RV_FAILS(&ctx, rv_attn_gated_init(&ctx, &p.config, &p.io, NULL), RV_ERR_ARG, "params");
    RV_OKAY(&ctx, rv_attn_gated_init(&ctx, &p.config, &p.io, d));
    for (size_t i = PARAMS - 32; i < PARAMS; i++)
        RV_CHECK(d[i] != 0.0f && fabsf(d[i]) <= (float)sqrt(6.0 / 12.0));
}

int main(void)
{
    rv_test_begin("attn_gated");
    RV_RUN(test_golden);
    RV_RUN(test_slopes);
    RV_RUN(test_identities);
    RV_RUN(test_counts);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    return rv_test_end();
}
