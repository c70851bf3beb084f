/* Multi-head attention and multi-head latent attention: torch, definitions in double, faults. */
#include "grid_set.h"

#include "golden/attn_heads.h"

static float *room(size_t n)
{
    float *p = (float *)calloc(n + 1, sizeof(float));
    if (!p) exit(2);
    return p;
}

/* ---- definitions in double ---- */

/* y[n, n_out] = x w^T + b. */
static void layer(const float *x, const float *w, const float *b, size_t n, size_t n_in,
                  size_t n_out, double *y)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t o = 0; o < n_out; o++) {
            double sum = b ? (double)b[o] : 0.0;
            for (size_t a = 0; a < n_in; a++)
                sum += (double)x[i * n_in + a] * (double)w[o * n_in + a];
            y[i * n_out + o] = sum;
        }
    }
}

/* w[n_k] = softmax of s over what is not -infinity, with one logit more that has no value. */
static void soften(double *s, size_t n, double sink)
{
    double top = sink, sum;
    for (size_t j = 0; j < n; j++) top = s[j] > top ? s[j] : top;
    sum = sink > -1e300 ? exp(sink - top) : 0.0;
    for (size_t j = 0; j < n; j++) sum += s[j] = s[j] > -1e300 ? exp(s[j] - top) : 0.0;
    for (size_t j = 0; j < n; j++) s[j] /= sum;
}

typedef struct heads_problem {
    rv_attn_heads_config config;
    rv_attn_io io;
    float x[48], y[64], z[64], params[600], sinks[4];
    const float *slope; /* of the loss by out */
} heads_problem;

enum { GQ = 4, GK = 5, GH = 4, GKV = 2, GD = 2, GDV = 3, G_IN = 6, G_K = 7, G_V = 5, G_OUT = 4 };

/* The loss sum(out * slope), all in double, from the formula in attn_heads.h. */
static double heads_loss(void *arg)
{
    const heads_problem *p = (const heads_problem *)arg;
    const float *w = p->params, *w_k = w + GH * GD * G_IN, *w_v = w_k + GKV * GD * G_K;
    const float *b = w_v + GKV * GDV * G_V, *b_k = b + GH * GD, *b_v = b_k + GKV * GD;
    const float *w_o = b_v + GKV * GDV, *b_o = w_o + G_OUT * GH * GDV;
    double q[GQ * GH * GD], k[GK * GKV * GD], v[GK * GKV * GDV], s[GK], loss = 0.0;
    layer(p->x, w, b, GQ, G_IN, GH * GD, q);
    layer(p->y, w_k, b_k, GK, G_K, GKV * GD, k);
    layer(p->z, w_v, b_v, GK, G_V, GKV * GDV, v);
    for (size_t i = 0; i < GQ; i++) {
        double mean[GH * GDV];
        for (size_t h = 0; h < GH; h++) {
            const size_t kv = h * GKV / GH;
            for (size_t j = 0; j < GK; j++) {
                s[j] = 0.0;
                for (size_t a = 0; a < GD; a++)
                    s[j] += q[(i * GH + h) * GD + a] * k[(j * GKV + kv) * GD + a];
                s[j] = j <= i + GK - GQ ? s[j] / sqrt((double)GD) : -HUGE_VAL;
            }
            soften(s, GK, (double)p->sinks[h]);
            for (size_t a = 0; a < GDV; a++) {
                mean[h * GDV + a] = 0.0;
                for (size_t j = 0; j < GK; j++)
                    mean[h * GDV + a] += s[j] * v[(j * GKV + kv) * GDV + a];
            }
        }
        for (size_t o = 0; o < G_OUT; o++) {
            double out = (double)b_o[o];
            for (size_t a = 0; a < GH * GDV; a++) out += mean[a] * (double)w_o[o * GH * GDV + a];
            loss += out * (double)p->slope[i * G_OUT + o];
        }
    }
    return loss;
}

static void heads_problem_make(heads_problem *p, float *slope)
{
    memset(p, 0, sizeof *p);
    p->config.base.heads = GH;
    p->config.base.kv_heads = GKV;
    p->config.base.order = RV_ATTN_CAUSAL;
    p->config.base.sinks = p->sinks;
    p->config.width_q = G_IN;
    p->config.width_k = G_K;
    p->config.width_v = G_V;
    p->config.width_out = G_OUT;
    p->config.params = p->params;
    p->io.n_q = GQ;
    p->io.n_k = GK;
    p->io.dim = GD;
    p->io.dim_v = GDV;
    p->io.q = grid(1, p->x, GQ * G_IN);
    p->io.k = grid(2, p->y, GK * G_K);
    p->io.v = grid(3, p->z, GK * G_V);
    grid(4, p->params, rv_attn_heads_params(&p->config, &p->io));
    grid(5, p->sinks, GH);
    p->slope = grid(6, slope, GQ * G_OUT);
}

/* ---- multi-head ---- */

/* Logits here are sums of magnitudes up to 4, so weights are right to about 2 sqrt(dim) 4 U and 5 U
   besides (attn.h), and what is made of them likewise: 64 U. */

static void test_heads_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_heads); row++) {
        enum { N_Q = 3, N_K = 5, HEADS = 2, DIM = 3, WIDTH = HEADS * DIM };
        const size_t n = rv_golden_heads[row].n_params;
        const size_t wide_k = rv_golden_heads[row].width_k, wide_v = rv_golden_heads[row].width_v;
        float q[N_Q * WIDTH], k[30], v[30], params[168], d_out[N_Q * WIDTH];
        float out[N_Q * WIDTH], weights[HEADS * N_Q * N_K], d_q[N_Q * WIDTH], d_k[30], d_v[30];
        float d_params[168];
        rv_attn_heads_config config;
        rv_attn_io io;
        rv_attn_grad grad;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        memset(&grad, 0, sizeof grad);
        config.base.heads = HEADS;
        config.base.order = rv_golden_heads[row].causal ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
        if (wide_k != WIDTH) config.width_k = wide_k;
        if (wide_v != WIDTH) config.width_v = wide_v;
        config.no_bias = !rv_golden_heads[row].bias;
        config.params = params;
        grid(9, params, n);
        for (size_t i = 0; i < n; i++) params[i] *= 0.25f;
        io.n_q = N_Q;
        io.n_k = N_K;
        io.dim = DIM;
        io.q = grid(1, q, N_Q * WIDTH);
        io.k = grid(2, k, N_K * wide_k);
        io.v = grid(3, v, N_K * wide_v);
        io.out = out;
        io.weights = weights;
        RV_EQUAL(rv_attn_heads_params(&config, &io), n);
        RV_OKAY(&ctx, rv_attn_heads(&ctx, &config, &io));
        CHECK_ALL(out, rv_golden_heads[row].out, N_Q * WIDTH, 64 * U);
        CHECK_ALL(weights, rv_golden_heads[row].weights, HEADS * N_Q * N_K, 64 * U);
        grad.d_out = grid(4, d_out, N_Q * WIDTH);
        grad.d_q = d_q;
        grad.d_k = d_k;
        grad.d_v = d_v;
        grad.d_params = d_params;
        RV_OKAY(&ctx, rv_attn_heads_backward(&ctx, &config, &io, &grad));
        CHECK_ALL(d_q, rv_golden_heads[row].d_q, N_Q * WIDTH, 64 * U);
        CHECK_ALL(d_k, rv_golden_heads[row].d_k, N_K * wide_k, 64 * U);
        CHECK_ALL(d_v, rv_golden_heads[row].d_v, N_K * wide_v, 64 * U);
        CHECK_ALL(d_params, rv_golden_heads[row].d_params, n, 64 * U);
    }
}

/* Groups of heads, other widths everywhere, sinks, causal order: out and slopes by definition. */
static void test_heads_definition(void)
{
    float slope_of_out[GQ * G_OUT], out[GQ * G_OUT], d_q[GQ * G_IN], d_k[GK * G_K], d_v[GK * G_V];
    float d_params[600], d_sinks[GH];
    double got = 0.0;
    rv_attn_grad grad;
    rv_ctx ctx;
    heads_problem p;
    size_t n;
    rv_test_ctx(&ctx);
    heads_problem_make(&p, slope_of_out);
    n = rv_attn_heads_params(&p.config, &p.io);
    RV_EQUAL(n, GH * GD * G_IN + GKV * GD * G_K + GKV * GDV * G_V + GH * GD + GKV * (GD + GDV) +
                    G_OUT * GH * GDV + G_OUT);
    p.io.out = out;
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < GQ * G_OUT; i++) got += (double)out[i] * (double)slope_of_out[i];
    RV_NEAR(got, heads_loss(&p), 2e-5);
    memset(&grad, 0, sizeof grad);
    grad.d_out = slope_of_out;
    grad.d_q = d_q;
    grad.d_k = d_k;
    grad.d_v = d_v;
    grad.d_params = d_params;
    grad.d_sinks = d_sinks;
    RV_OKAY(&ctx, rv_attn_heads_backward(&ctx, &p.config, &p.io, &grad));
    check_slopes(heads_loss, &p, p.x, d_q, GQ * G_IN, 1.0 / 256, 2e-4);
    check_slopes(heads_loss, &p, p.y, d_k, GK * G_K, 1.0 / 256, 2e-4);
    check_slopes(heads_loss, &p, p.z, d_v, GK * G_V, 1.0 / 256, 2e-4);
    check_slopes(heads_loss, &p, p.params, d_params, n, 1.0 / 256, 2e-4);
    check_slopes(heads_loss, &p, p.sinks, d_sinks, GH, 1.0 / 256, 2e-4);
}

/* Unit matrices and no biases are no projection; both are rv_attn. Rows of halves, strides. */
static void test_heads_identity(void)
{
    enum { N_Q = 9, N_K = 70, H = 2, D = 4, W = H * D };
    const size_t n = 4 * W * W;
    float *params = room(n), *x = room(N_K * W), *z = room(N_K * W), *want = room(N_Q * W);
    float *out = room(N_Q * (W + 3)), *d_out = room(N_Q * (W + 3));
    float *d = room(6 * N_K * W), *d_want = d + 3 * N_K * W;
    uint16_t *half = (uint16_t *)(void *)room(N_K * W);
    rv_attn_heads_config config;
    rv_attn_grad grad;
    rv_attn_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    memset(&grad, 0, sizeof grad);
    config.base.heads = H;
    config.base.softcap = 2.0f;
    config.no_bias = 1;
    for (size_t t = 0; t < 4; t++)
        for (size_t i = 0; i < W; i++) params[t * W * W + i * W + i] = 1.0f;
    io.n_q = N_Q;
    io.n_k = N_K;
    io.dim = D;
    io.q = grid(1, x, N_K * W);
    io.k = x;
    io.v = grid(2, z, N_K * W);
    io.out = want;
    RV_OKAY(&ctx, rv_attn(&ctx, &config.base, &io));
    io.out = out;
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &config, &io)); /* without params */
    RV_CHECK(memcmp(out, want, N_Q * W * sizeof(float)) == 0);
    config.params = params;
    RV_EQUAL(rv_attn_heads_params(&config, &io), n);
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &config, &io));
    for (size_t i = 0; i < N_Q * W; i++) RV_NEAR(out[i], want[i], 1e-6);
    for (int form = 0; form < 2; form++) { /* with and without W_o; slopes against rv_attn's */
        config.no_output = form;
        io.out_stride = W + 3;
        RV_OKAY(&ctx, rv_attn_heads(&ctx, &config, &io));
        for (size_t i = 0; i < N_Q; i++)
            for (size_t a = 0; a < W; a++) RV_NEAR(out[i * (W + 3) + a], want[i * W + a], 1e-6);
        grad.d_out = grid(5, d_out, N_Q * (W + 3));
        grad.d_q = d_want;
        grad.d_k = d_want + N_K * W;
        grad.d_v = d_want + 2 * N_K * W;
        config.params = NULL;
        RV_OKAY(&ctx, rv_attn_heads_backward(&ctx, &config, &io, &grad));
        config.params = params;
        grad.d_q = d;
        grad.d_k = d + N_K * W;
        grad.d_v = d + 2 * N_K * W;
        RV_OKAY(&ctx, rv_attn_heads_backward(&ctx, &config, &io, &grad));
        for (size_t i = 0; i < 3 * N_K * W; i++) RV_NEAR(d[i], d_want[i], 4e-6);
    }
    io.out_stride = 0;
    for (int type = 1; type < 3; type++) { /* grid is exact in halves, not in bfloat16 */
        io.type = (rv_dtype)type;
        if (type == 1) rv_convert_f32_to_f16(x, half, N_K * W);
        else rv_convert_f32_to_bf16(x, half, N_K * W);
        io.k = io.v = half;
        io.out = want;
        RV_OKAY(&ctx, rv_attn(&ctx, &config.base, &io));
        io.out = out;
        RV_OKAY(&ctx, rv_attn_heads(&ctx, &config, &io));
        for (size_t i = 0; i < N_Q * W; i++) RV_NEAR(out[i], want[i], 1e-6);
    }
    free(params);
    free(x);
    free(z);
    free(want);
    free(out);
    free(d_out);
    free(d);
    free(half);
}

/* The bound of Glorot and Bengio, filled evenly; the seed decides. */
static void test_init(void)
{
    rv_attn_heads_config config;
    rv_attn_mla_config mla;
    rv_attn_io io;
    rv_ctx ctx;
    const size_t n_w = 48 * 16;
    float *params, *again;
    size_t n;
    double square = 0.0;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&mla, 0, sizeof mla);
    memset(&io, 0, sizeof io);
    io.dim = 16;
    config.base.heads = 3;
    config.width_q = 16;
    n = rv_attn_heads_params(&config, &io);
    RV_EQUAL(n, 3 * n_w + 3 * 48 + n_w + 16);
    params = room(n);
    again = room(n);
    RV_OKAY(&ctx, rv_attn_heads_init(&ctx, &config, &io, params));
    for (size_t i = 0; i < 3 * n_w; i++) {
        RV_CHECK(fabsf(params[i]) <= (float)sqrt(6.0 / 64.0));
        square += (double)params[i] * (double)params[i];
    }
    RV_NEAR(square / (double)(3 * n_w), 2.0 / 64.0, 5 * 0.03125 * 0.9 / sqrt(3.0 * (double)n_w));
    for (size_t i = 3 * n_w; i < 3 * n_w + 3 * 48; i++) RV_CHECK(params[i] == 0.0f);
    RV_OKAY(&ctx, rv_attn_heads_init(&ctx, &config, &io, again));
    RV_CHECK(memcmp(params, again, n * sizeof(float)) == 0);
    ctx.seed = 2;
    RV_OKAY(&ctx, rv_attn_heads_init(&ctx, &config, &io, again));
    RV_CHECK(memcmp(params, again, n * sizeof(float)) != 0);
    RV_FAILS(&ctx, rv_attn_heads_init(&ctx, &config, &io, NULL), RV_ERR_ARG, "params");
    free(params);
    free(again);
    mla.base.heads = 2;
    mla.latent_q = 5;
    n = rv_attn_mla_params(&mla, &io); /* rope 8, latent 64, widths 32 */
    RV_EQUAL(n, 5 * 32 + 2 * 24 * 5 + 72 * 32 + 2 * 32 * 64 + 32 * 32);
    params = room(n);
    RV_OKAY(&ctx, rv_attn_mla_init(&ctx, &mla, &io, params));
    for (size_t i = 0; i < 160; i++) RV_CHECK(fabsf(params[i]) <= (float)sqrt(6.0 / 37.0));
    RV_CHECK(params[n - 1] != 0.0f);
    free(params);
}

/* ---- latent ---- */

typedef struct mla_problem {
    rv_attn_mla_config config;
    rv_attn_io io;
    float x[15], y[16], d_out[9], params[160];
} mla_problem;

enum { LQ = 3, LK = 4, LH = 2, LD = 2, LDV = 3, L_IN = 5, L_K = 4, L_OUT = 3,
       L_C = 3, L_UQ = 4, L_R = 2 };

static void mla_make(mla_problem *p, size_t row)
{
    memset(p, 0, sizeof *p);
    p->config.base.heads = LH;
    p->config.base.order = rv_golden_mla[row].causal ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
    p->config.width_q = L_IN;
    p->config.width_k = L_K;
    p->config.width_out = L_OUT;
    p->config.latent = rv_golden_mla[row].latent;
    p->config.latent_q = rv_golden_mla[row].latent_q;
    p->config.rope = rv_golden_mla[row].rope;
    p->config.no_rope = p->config.rope == 0;
    p->config.turn.base = 100.0;
    p->config.params = p->params;
    p->io.n_q = LQ;
    p->io.n_k = LK;
    p->io.dim = LD;
    p->io.dim_v = LDV;
    p->io.q = grid(1, p->x, LQ * L_IN);
    p->io.k = grid(2, p->y, LK * L_K);
    grid(9, p->params, rv_golden_mla[row].n_params);
    for (size_t i = 0; i < rv_golden_mla[row].n_params; i++) p->params[i] *= 0.5f;
    grid(4, p->d_out, LQ * L_OUT);
}

static void test_mla_golden(void)
{
    for (size_t at = 0; at < 4 * RV_COUNT_OF(rv_golden_mla); at++) {
        const size_t row = at / 4, n = rv_golden_mla[row].n_params;
        const size_t wide = rv_golden_mla[row].latent + rv_golden_mla[row].rope;
        float out[LQ * L_OUT], weights[LH * LQ * LK], rows[LK * 8], d_q[15], d_k[32], d_params[160];
        rv_attn_grad grad;
        rv_ctx ctx;
        mla_problem p;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        mla_make(&p, row);
        RV_EQUAL(rv_attn_mla_params(&p.config, &p.io), n);
        RV_OKAY(&ctx, rv_attn_mla_rows(&ctx, &p.config, &p.io, 0, rows));
        CHECK_ALL(rows, rv_golden_mla[row].rows, LK * wide, 16 * U);
        p.config.absorbed = at % 2;
        p.config.cached = at / 2 % 2;
        if (p.config.cached) p.io.k = rows;
        p.io.out = out;
        p.io.weights = weights;
        RV_OKAY(&ctx, rv_attn_mla(&ctx, &p.config, &p.io));
        CHECK_ALL(out, rv_golden_mla[row].out, LQ * L_OUT, 64 * U);
        CHECK_ALL(weights, rv_golden_mla[row].weights, LH * LQ * LK, 64 * U);
        memset(&grad, 0, sizeof grad);
        grad.d_out = p.d_out;
        grad.d_q = d_q;
        grad.d_k = d_k;
        grad.d_params = d_params;
        RV_OKAY(&ctx, rv_attn_mla_backward(&ctx, &p.config, &p.io, &grad));
        CHECK_ALL(d_q, rv_golden_mla[row].d_q, LQ * L_IN, 64 * U);
        if (!p.config.cached) {
            CHECK_ALL(d_k, rv_golden_mla[row].d_k, LK * L_K, 64 * U);
            CHECK_ALL(d_params, rv_golden_mla[row].d_params, n, 64 * U);
        } else { /* the slopes by the rows, taken back through the layer, are those by k */
            const size_t u = rv_golden_mla[row].latent_q, w_u = LH * (LD + LDV) * p.config.latent;
            const size_t at_c = n - L_OUT * LH * LDV - w_u - wide * L_K;
            const float *w_c = p.params + at_c;
            double d_y[LK * L_K];
            memset(d_y, 0, sizeof d_y);
            for (size_t j = 0; j < LK; j++) {
                double line[8];
                for (size_t r = 0; r < wide; r++) line[r] = (double)d_k[j * wide + r];
                for (size_t r = p.config.latent; r < wide; r += 2) {
                    const double angle = (double)j * pow(100.0, -(double)(r - p.config.latent) /
                                                                    (double)p.config.rope);
                    const double a = line[r], b = line[r + 1];
                    line[r] = a * cos(angle) + b * sin(angle);
                    line[r + 1] = b * cos(angle) - a * sin(angle);
                }
                for (size_t r = 0; r < wide; r++)
                    for (size_t a = 0; a < L_K; a++)
                        d_y[j * L_K + a] += line[r] * (double)w_c[r * L_K + a];
            }
            for (size_t i = 0; i < LK * L_K; i++) RV_NEAR(d_y[i], rv_golden_mla[row].d_k[i], 1e-4);
            CHECK_ALL(d_params, rv_golden_mla[row].d_params, u ? u * L_IN : 1, 64 * U);
            for (size_t i = 0; i < wide * L_K; i++) RV_CHECK(d_params[at_c + i] == 0.0f);
        }
    }
}

/* The loss of golden case 1 (a latent query, rope, every key seen), by the formula. */
static double mla_loss(void *arg)
{
    const mla_problem *p = (const mla_problem *)arg;
    const float *w_d = p->params, *w_q = w_d + L_UQ * L_IN, *w_c = w_q + LH * (LD + L_R) * L_UQ;
    const float *w_u = w_c + (L_C + L_R) * L_K, *w_o = w_u + LH * (LD + LDV) * L_C;
    double u[LQ * L_UQ], c[LK * (L_C + L_R)], loss = 0.0;
    layer(p->x, w_d, NULL, LQ, L_IN, L_UQ, u);
    layer(p->y, w_c, NULL, LK, L_K, L_C + L_R, c);
    for (size_t i = 0; i < LQ; i++) {
        double mean[LH * LDV];
        for (size_t h = 0; h < LH; h++) {
            double q[LD + L_R], s[LK];
            for (size_t a = 0; a < LD + L_R; a++) {
                q[a] = 0.0;
                for (size_t b = 0; b < L_UQ; b++)
                    q[a] += u[i * L_UQ + b] * (double)w_q[(h * (LD + L_R) + a) * L_UQ + b];
            }
            for (size_t j = 0; j < LK; j++) {
                /* turning q by i and k by j is turning k by j - i; one pair, angle 1 per place */
                const double *k = c + j * (L_C + L_R) + L_C, angle = (double)j - (double)i;
                s[j] = q[LD] * (k[0] * cos(angle) - k[1] * sin(angle)) +
                       q[LD + 1] * (k[0] * sin(angle) + k[1] * cos(angle));
                for (size_t a = 0; a < LD; a++)
                    for (size_t b = 0; b < L_C; b++)
                        s[j] += q[a] * (double)w_u[(h * (LD + LDV) + a) * L_C + b] *
                                c[j * (L_C + L_R) + b];
                s[j] /= sqrt((double)(LD + L_R));
            }
            soften(s, LK, -HUGE_VAL);
            for (size_t a = 0; a < LDV; a++) {
                mean[h * LDV + a] = 0.0;
                for (size_t j = 0; j < LK; j++)
                    for (size_t b = 0; b < L_C; b++)
                        mean[h * LDV + a] += s[j] * c[j * (L_C + L_R) + b] *
                                             (double)w_u[(h * (LD + LDV) + LD + a) * L_C + b];
            }
        }
        for (size_t o = 0; o < L_OUT; o++)
            for (size_t a = 0; a < LH * LDV; a++)
                loss += mean[a] * (double)w_o[o * LH * LDV + a] * (double)p->d_out[i * L_OUT + o];
    }
    return loss;
}

/* The rows to keep, turned as rv_rope_run turns them, whatever layout and scaling. */
static void test_mla_turn(void)
{
    float plain[LK * 7], rows[LK * 7], want[LK * 4];
    rv_rope_io rope;
    rv_ctx ctx;
    mla_problem p;
    rv_test_ctx(&ctx);
    mla_make(&p, 0);
    memset(&rope, 0, sizeof rope);
    p.config.no_rope = 1;
    p.config.rope = 0;
    p.config.latent = 7; /* the same rows of W_c, none of them turned */
    RV_OKAY(&ctx, rv_attn_mla_rows(&ctx, &p.config, &p.io, 0, plain));
    mla_make(&p, 0);
    p.config.turn.layout = RV_ROPE_HALVES;
    p.config.turn.scaling = RV_ROPE_YARN;
    p.config.turn.factor = 4.0;
    p.config.turn.length = 64.0;
    /* W_q lies before W_c and is as wide as before: heads * (dim + rope) by width_q */
    memmove(p.params, p.params + LH * LD * L_IN, 28 * sizeof(float));
    memcpy(p.params + LH * (LD + 4) * L_IN, p.params, 28 * sizeof(float));
    RV_OKAY(&ctx, rv_attn_mla_rows(&ctx, &p.config, &p.io, 900, rows));
    rope.x = plain + 3;
    rope.n = LK;
    rope.dim = 4;
    rope.x_stride = 7;
    rope.first = 900;
    rope.out = want;
    RV_OKAY(&ctx, rv_rope_run(&ctx, &p.config.turn, &rope));
    for (size_t j = 0; j < LK; j++) {
        for (size_t x = 0; x < 3; x++) RV_NEAR(rows[j * 7 + x], plain[j * 7 + x], 0);
        for (size_t x = 0; x < 4; x++) RV_NEAR(rows[j * 7 + 3 + x], want[j * 4 + x], 2e-6);
    }
}

static void test_mla_slopes(void)
{
    float d_q[15], d_k[16], d_params[160];
    rv_attn_grad grad;
    rv_ctx ctx;
    mla_problem p;
    rv_test_ctx(&ctx);
    mla_make(&p, 1);
    memset(&grad, 0, sizeof grad);
    grad.d_out = p.d_out;
    grad.d_q = d_q;
    grad.d_k = d_k;
    grad.d_params = d_params;
    RV_OKAY(&ctx, rv_attn_mla_backward(&ctx, &p.config, &p.io, &grad));
    check_slopes(mla_loss, &p, p.x, d_q, 15, 1.0 / 256, 1e-4);
    check_slopes(mla_loss, &p, p.y, d_k, 16, 1.0 / 256, 1e-4);
    check_slopes(mla_loss, &p, p.params, d_params, rv_attn_mla_params(&p.config, &p.io), 1.0 / 256,
                 1e-4);
}

/* A latent row that is the whole row and unit matrices: multi-head attention. Both forms agree on
   more keys than a tile has, also over rows kept one by one, in halves, and with a window. */
static void test_mla_identities(void)
{
    enum { N = 70, H = 2, D = 4, W = H * D };
    float *params = room(3 * W * W + 2 * W * W), *x = room(N * W), *want = room(N * W);
    float *out = room(N * W), *rows = room(N * W * 2), *other;
    uint16_t *half = (uint16_t *)(void *)room(N * W);
    rv_attn_mla_config config;
    rv_attn_io io, plain;
    rv_ctx ctx;
    size_t n;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    config.base.heads = H;
    config.base.order = RV_ATTN_CAUSAL;
    config.latent = W;
    config.no_rope = 1;
    config.params = params;
    io.n_q = io.n_k = N;
    io.dim = D;
    io.q = grid(1, x, N * W);
    io.k = x;
    RV_EQUAL(rv_attn_mla_params(&config, &io), 5 * W * W);
    for (size_t i = 0; i < W; i++) {
        params[i * W + i] = params[(W + i) * W + i] = params[(4 * W + i) * W + i] = 1.0f;
        /* W_u of head h: rows of keys, rows of values */
        params[(2 * W + i / D * 2 * D + i % D) * W + i] = 1.0f;
        params[(2 * W + i / D * 2 * D + D + i % D) * W + i] = 1.0f;
    }
    plain = io;
    plain.v = io.k;
    plain.out = want;
    io.out = out;
    RV_OKAY(&ctx, rv_attn(&ctx, &config.base, &plain));
    for (int form = 0; form < 2; form++) {
        config.absorbed = form;
        RV_OKAY(&ctx, rv_attn_mla(&ctx, &config, &io));
        for (size_t i = 0; i < N * W; i++) RV_NEAR(out[i], want[i], 2e-6);
    }
    free(params);
    config.latent = 5; /* now everything at once */
    config.no_rope = 0;
    config.rope = 4;
    config.base.windowed = 1;
    config.base.left = 40;
    n = rv_attn_mla_params(&config, &io);
    config.params = params = room(n);
    RV_OKAY(&ctx, rv_attn_mla_init(&ctx, &config, &io, params));
    RV_OKAY(&ctx, rv_attn_mla(&ctx, &config, &io));
    memcpy(want, out, N * W * sizeof(float));
    config.absorbed = 0;
    RV_OKAY(&ctx, rv_attn_mla(&ctx, &config, &io));
    for (size_t i = 0; i < N * W; i++) RV_NEAR(out[i], want[i], 4e-6);
    for (size_t i = 0; i < N; i++) { /* a token at a time, keeping its row */
        rv_attn_io step = io;
        step.n_q = step.n_k = 1;
        step.k = x + i * W;
        RV_OKAY(&ctx, rv_attn_mla_rows(&ctx, &config, &step, i, rows + i * 9));
        config.cached = 1;
        config.absorbed = (int)(i % 2);
        step.k = rows;
        step.n_k = i + 1;
        step.q = x + i * W;
        step.out = out;
        RV_OKAY(&ctx, rv_attn_mla(&ctx, &config, &step));
        config.cached = 0;
        for (size_t a = 0; a < W; a++) RV_NEAR(out[a], want[i * W + a], 4e-6);
    }
    config.cached = 1;
    io.type = RV_DTYPE_F16;
    io.k = half;
    other = room(N * W);
    rv_convert_f32_to_f16(rows, half, N * 9);
    for (int form = 0; form < 2; form++) {
        config.absorbed = form;
        io.out = form ? other : out;
        RV_OKAY(&ctx, rv_attn_mla(&ctx, &config, &io));
    }
    for (size_t i = 0; i < N * W; i++) {
        RV_NEAR(out[i], other[i], 4e-6);
        RV_NEAR(out[i], want[i], 4e-3);
    }
    free(params);
    free(x);
    free(want);
    free(out);
    free(other);
    free(rows);
    free(half);
}

/* ---- common tests, faults ---- */

/* Values that are all one vector come out as W_o of that vector, whatever the weights; equal keys
   share them; no key seen: only the bias. */
static void test_common(void)
{
    float slope_of_out[GQ * G_OUT], out[GQ * G_OUT], weights[GH * GQ * GK], first[G_OUT];
    uint8_t allow[GQ * GK];
    rv_attn_mask mask;
    rv_ctx ctx;
    heads_problem p;
    const size_t n_tail = G_OUT * GH * GDV + G_OUT;
    size_t n;
    rv_test_ctx(&ctx);
    heads_problem_make(&p, slope_of_out);
    n = rv_attn_heads_params(&p.config, &p.io);
    p.config.base.sinks = NULL;
    p.io.out = out;
    p.io.weights = weights;
    for (size_t j = 1; j < GK; j++) memcpy(p.z + j * G_V, p.z, G_V * sizeof(float));
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &p.config, &p.io));
    memcpy(first, out, sizeof first);
    for (size_t i = 0; i < GQ; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < GK; j++) sum += (double)weights[i * GK + j];
        RV_NEAR(sum, 1, 1e-6);
        for (size_t o = 0; o < G_OUT; o++) RV_NEAR(out[i * G_OUT + o], first[o], 2e-5);
    }
    for (size_t j = 1; j < GK; j++) memcpy(p.y + j * G_K, p.y, G_K * sizeof(float));
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < GQ; i++) RV_NEAR(weights[i * GK], 1.0 / (double)(i + 2), 1e-6);
    memset(allow, 0, sizeof allow);
    memset(&mask, 0, sizeof mask);
    mask.allow = allow;
    p.io.mask = &mask;
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < GQ * G_OUT; i++)
        RV_NEAR(out[i], p.params[n - G_OUT + i % G_OUT], 0);
    for (size_t i = 0; i < GH * GQ * GK; i++) RV_CHECK(weights[i] == 0.0f);
    p.io.mask = NULL;
    for (size_t i = 0; i < n - n_tail; i++) p.params[i] *= 1000.0f; /* logits of 10^6 */
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < GQ * G_OUT; i++) RV_CHECK(fabsf(out[i]) < 1e6f);
}

/* Forward and backward of both, from one context. */
static rv_status sweep(rv_ctx *ctx, void *arg)
{
    float *d = (float *)arg;
    float slope_of_out[GQ * G_OUT], out[GQ * G_OUT];
    uint16_t half[64];
    rv_attn_grad grad;
    heads_problem p;
    mla_problem l;
    rv_status status;
    memset(&grad, 0, sizeof grad);
    heads_problem_make(&p, slope_of_out);
    p.io.out = out;
    memset(half, 0, sizeof half);
    p.io.type = RV_DTYPE_BF16;
    p.io.k = p.io.v = half;
    grad.d_out = slope_of_out;
    grad.d_q = d;
    grad.d_k = d + 64;
    grad.d_params = d + 128;
    status = rv_attn_heads(ctx, &p.config, &p.io);
    if (!status) status = rv_attn_heads_backward(ctx, &p.config, &p.io, &grad);
    mla_make(&l, 1);
    l.io.out = out;
    if (!status) status = rv_attn_mla(ctx, &l.config, &l.io);
    l.config.absorbed = 1;
    if (!status) status = rv_attn_mla(ctx, &l.config, &l.io);
    if (!status) status = rv_attn_mla_rows(ctx, &l.config, &l.io, 0, d);
    grad.d_out = l.d_out;
    if (!status) status = rv_attn_mla_backward(ctx, &l.config, &l.io, &grad);
    return status;
}

static void test_faults(void)
{
    float *d = room(1000);
    RV_CHECK(rv_test_oom_sweep(sweep, d) > 40);
    RV_CHECK(rv_test_cancel_sweep(sweep, d) > 40);
    free(d);
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static void test_workers(void)
{
    enum { N = 150, H = 2, D = 8, W = 16 };
    rv_attn_heads_config config;
    rv_attn_io io;
    rv_ctx ctx;
    float *x = room(N * W), *out = room(2 * N * W), *params;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    config.base.heads = H;
    io.n_q = io.n_k = N;
    io.dim = D;
    io.q = grid(1, x, N * W);
    io.k = io.v = x;
    params = room(rv_attn_heads_params(&config, &io));
    config.params = params;
    RV_OKAY(&ctx, rv_attn_heads_init(&ctx, &config, &io, params));
    io.out = out;
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &config, &io));
    ctx.parallel = backwards;
    ctx.workers = 3;
    io.out = out + N * W;
    RV_OKAY(&ctx, rv_attn_heads(&ctx, &config, &io));
    RV_CHECK(memcmp(out, out + N * W, N * W * sizeof(float)) == 0);
    free(x);
    free(out);
    free(params);
}

static void test_errors(void)
{
    float slope_of_out[GQ * G_OUT], out[32], d[64];
    rv_test_faults faults;
    rv_attn_grad grad;
    rv_ctx ctx;
    heads_problem p;
    mla_problem l;
    rv_test_ctx(&ctx);
    memset(&grad, 0, sizeof grad);
    heads_problem_make(&p, slope_of_out);
    mla_make(&l, 1);
    p.io.out = l.io.out = out;
#define REFUSED(field, value, run, status, word)                                                   \
    do {                                                                                           \
        heads_problem p_was = p;                                                                   \
        mla_problem l_was = l;                                                                     \
        field = value;                                                                             \
        out[0] = 5.0f;                                                                             \
        RV_FAILS(&ctx, run, status, word);                                                         \
        RV_CHECK(out[0] == 5.0f);                                                                  \
        p = p_was;                                                                                 \
        l = l_was;                                                                                 \
    } while (0)
#define HEADS rv_attn_heads(&ctx, &p.config, &p.io)
#define MLA rv_attn_mla(&ctx, &l.config, &l.io)
    RV_OKAY(&ctx, HEADS);
    RV_OKAY(&ctx, MLA);
    RV_FAILS(&ctx, rv_attn_heads(&ctx, NULL, NULL), RV_ERR_ARG, "io");
    REFUSED(p.io.q, NULL, HEADS, RV_ERR_ARG, "q, k, v and out");
    REFUSED(p.io.out, NULL, HEADS, RV_ERR_ARG, "q, k, v and out");
    REFUSED(p.io.n_k, 0, HEADS, RV_ERR_DIM, "n_k is 0");
    REFUSED(p.io.dim, 0, HEADS, RV_ERR_DIM, "dim is 0");
    REFUSED(p.io.q_stride, 5, HEADS, RV_ERR_DIM, "q_stride is 5");
    REFUSED(p.io.k_stride, 6, HEADS, RV_ERR_DIM, "k_stride is 6");
    REFUSED(p.io.v_stride, 4, HEADS, RV_ERR_DIM, "v_stride is 4");
    REFUSED(p.io.out_stride, 3, HEADS, RV_ERR_DIM, "out_stride is 3");
    REFUSED(p.io.type, RV_DTYPE_I8, HEADS, RV_ERR_CONFIG, "type is i8");
    REFUSED(p.config.base.kv_heads, 3, HEADS, RV_ERR_CONFIG, "multiple of kv_heads (3)");
    REFUSED(p.config.no_output, 1, HEADS, RV_ERR_CONFIG, "width_out is 4");
    REFUSED(p.config.width_k, SIZE_MAX / 4, HEADS, RV_ERR_DIM, "no size");
    REFUSED(p.config.params, NULL, HEADS, RV_ERR_CONFIG, "without params");
    RV_FAILS(&ctx, rv_attn_heads_backward(&ctx, &p.config, &p.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_heads_backward(&ctx, &p.config, &p.io, &grad), RV_ERR_ARG, "d_out");
    RV_FAILS(&ctx, rv_attn_mla(&ctx, NULL, &l.io), RV_ERR_ARG, "config");
    REFUSED(l.io.v, out, MLA, RV_ERR_ARG, "v must be NULL");
    REFUSED(l.config.params, NULL, MLA, RV_ERR_ARG, "params");
    REFUSED(l.io.k, NULL, MLA, RV_ERR_ARG, "q, k, v and out");
    REFUSED(l.config.base.kv_heads, 1, MLA, RV_ERR_CONFIG, "kv_heads is 1");
    REFUSED(l.config.rope, 3, MLA, RV_ERR_CONFIG, "rope is 3");
    REFUSED(l.config.no_rope, 1, MLA, RV_ERR_CONFIG, "no_rope");
    REFUSED(l.config.turn.base, 0.5, MLA, RV_ERR_CONFIG, "base is 0.5");
    REFUSED(l.config.turn.rotary_dim, 4, MLA, RV_ERR_CONFIG, "turn.rotary_dim is 4");
    REFUSED(l.config.latent, 65536, MLA, RV_ERR_DIM, "latent is 65536");
    REFUSED(l.io.q_stride, 4, MLA, RV_ERR_DIM, "q_stride is 4");
    REFUSED(l.io.k_stride, 3, MLA, RV_ERR_DIM, "k_stride is 3");
    REFUSED(l.io.out_stride, 2, MLA, RV_ERR_DIM, "out_stride is 2");
    REFUSED(l.config.base.past, 1048576, MLA, RV_ERR_DIM, "positions reach 1048579");
    REFUSED(l.config.base.heads, 70000, MLA, RV_ERR_CONFIG, "heads is 70000");
    RV_FAILS(&ctx, rv_attn_mla_backward(&ctx, &l.config, &l.io, &grad), RV_ERR_ARG, "d_out");
    grad.d_out = l.d_out;
    grad.d_v = d;
    RV_FAILS(&ctx, rv_attn_mla_backward(&ctx, &l.config, &l.io, &grad), RV_ERR_ARG, "d_v");
    RV_FAILS(&ctx, rv_attn_mla_rows(&ctx, &l.config, &l.io, 0, NULL), RV_ERR_ARG, "rows");
    RV_FAILS(&ctx, rv_attn_mla_rows(&ctx, &l.config, &l.io, 1048573, d), RV_ERR_DIM, "1048577");
    rv_test_ctx_faults(&ctx, &faults);
    grad.d_v = NULL;
    l.config.turn.base = 0.5;
    RV_FAILS(&ctx, rv_attn_mla_backward(&ctx, &l.config, &l.io, &grad), RV_ERR_CONFIG, "base");
    RV_FAILS(&ctx, rv_attn_mla_rows(&ctx, &l.config, &l.io, 0, d), RV_ERR_CONFIG, "base");
    RV_EQUAL(faults.live_blocks, 0);
    l.config.cached = 1;
    RV_FAILS(&ctx, rv_attn_mla_rows(&ctx, &l.config, &l.io, 0, d), RV_ERR_CONFIG, "cached");
    l.config.cached = 0;
    l.config.rope = 3;
    RV_FAILS(&ctx, rv_attn_mla_init(&ctx, &l.config, &l.io, d), RV_ERR_CONFIG, "rope is 3");
    p.io.n_q = 0;
    RV_OKAY(&ctx, HEADS);
    grad.d_v = NULL;
    grad.d_k = d;
    d[0] = 5.0f;
    RV_OKAY(&ctx, rv_attn_heads_backward(&ctx, &p.config, &p.io, &grad));
    RV_CHECK(d[0] == 0.0f);
#undef REFUSED
#undef HEADS
#undef MLA
}

int main(void)
{
    rv_test_begin("attn_heads");
    RV_RUN(test_heads_golden);
    RV_RUN(test_heads_definition);
    RV_RUN(test_heads_identity);
    RV_RUN(test_init);
    RV_RUN(test_mla_golden);
    RV_RUN(test_mla_turn);
    RV_RUN(test_mla_slopes);
    RV_RUN(test_mla_identities);
    RV_RUN(test_common);
    RV_RUN(test_faults);
    RV_RUN(test_workers);
    RV_RUN(test_errors);
    return rv_test_end();
}
