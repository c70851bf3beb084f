/* The recurrences of linear attention against torch, ONNX, their definition in double, slopes by
   differences, step by step, faults. */
#include "grid_set.h"

#include "golden/attn_linear.h"

static void *need(size_t bytes)
{
    void *p = malloc(bytes + 1);
    if (!p) exit(2);
    return p;
}

static float *floats(size_t n)
{
    return (float *)need(n * sizeof(float));
}

static double *doubles(size_t n)
{
    return (double *)need(n * sizeof(double));
}

static int gated(int rule)
{
    return rule == RV_ATTN_RULE_GATED || rule == RV_ATTN_RULE_GATED_DELTA;
}

static int corrected(int rule)
{
    return rule == RV_ATTN_RULE_DELTA || rule == RV_ATTN_RULE_GATED_DELTA;
}

/* ---- torch and ONNX ---- */

static void test_torch(void)
{
    enum { N = 5, DIM = 4, DIM_V = 3, HEADS = 4, KV = 2 };
    float q[80], k[40], v[30], decay[40], beta[10], state[24], g[60], out[60];
    float weights[HEADS * N * N];
    float d_q[80], d_k[40], d_v[30], d_decay[40], d_beta[10], d_state[24], after[24];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_rules); row++) {
        const int rule = rv_golden_rules[row].rule, variant = rv_golden_rules[row].variant;
        rv_attn_delta_config config;
        rv_attn_io io;
        rv_attn_grad grad;
        rv_test_row("torch", row);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        memset(&grad, 0, sizeof grad);
        config.base.heads = HEADS;
        config.base.kv_heads = KV;
        config.base.scale = 0.5f;
        config.base.order = variant ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
        config.rule = (rv_attn_rule)rule;
        if (gated(rule)) {
            config.decay = grid(5, decay, variant ? N * KV : N * KV * DIM);
            for (size_t i = 0; i < 40; i++) decay[i] = -fabsf(decay[i]);
            config.per_head = variant;
            config.d_decay = d_decay;
        }
        if (corrected(rule)) {
            config.beta = grid(6, beta, variant ? N : N * KV);
            for (size_t i = 0; i < 10; i++) beta[i] = fabsf(beta[i]) / 2;
            config.shared = variant;
            config.d_beta = d_beta;
        }
        config.state = grid(7, state, 24);
        config.state_out = after;
        config.d_state = d_state;
        io.n_q = io.n_k = N;
        io.dim = DIM;
        io.dim_v = DIM_V;
        io.q = grid(1, q, 80);
        io.k = grid(2, k, 40);
        io.v = grid(3, v, 30);
        for (size_t i = 0; i < 40; i++) k[i] /= 2;
        io.out = out;
        io.weights = weights;
        RV_EQUAL(rv_attn_gated_delta_linear_state(&config, &io), 24);
        RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &config, &io));
        CHECK_ALL(out, rv_golden_rules[row].out, 60, 1e-6);
        CHECK_ALL(after, rv_golden_rules[row].state, 24, 1e-6);
        grad.d_out = grid(4, g, 60);
        grad.d_q = d_q;
        grad.d_k = d_k;
        grad.d_v = d_v;
        RV_OKAY(&ctx, rv_attn_gated_delta_linear_backward(&ctx, &config, &io, &grad));
        CHECK_ALL(d_q, rv_golden_rules[row].d_q, 80, 2e-6);
        CHECK_ALL(d_k, rv_golden_rules[row].d_k, 40, 2e-6);
        CHECK_ALL(d_v, rv_golden_rules[row].d_v, 30, 2e-6);
        CHECK_ALL(d_state, rv_golden_rules[row].d_state, 24, 2e-6);
        if (gated(rule))
            CHECK_ALL(d_decay, rv_golden_rules[row].d_decay, variant ? 10 : 40, 2e-6);
        if (corrected(rule))
            CHECK_ALL(d_beta, rv_golden_rules[row].d_beta, variant ? 5 : 10, 2e-6);
    }
}

/* The node tests of ONNX's LinearAttention; see tools/golden.py for their inputs. */
static void test_onnx(void)
{
    float q[256], k[128], v[128], decay[128], beta[16], state[256], out[256], after[256];
    uint16_t k16[128], v16[128];
    rv_ctx ctx;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_onnx); row++) {
        const size_t n = (size_t)rv_golden_onnx[row].tokens;
        const size_t kv = (size_t)rv_golden_onnx[row].kv_heads;
        const int rule = rv_golden_onnx[row].rule;
        rv_attn_delta_config config;
        rv_attn_io io;
        rv_test_row("onnx", row);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        config.base.heads = (uint32_t)rv_golden_onnx[row].heads;
        config.base.kv_heads = (uint32_t)kv;
        config.base.scale = (float)rv_golden_onnx[row].scale;
        config.rule = (rv_attn_rule)rule;
        io.n_q = io.n_k = n;
        io.dim = 8;
        io.q = grid(1, q, n * config.base.heads * 8);
        io.k = grid(2, k, n * kv * 8);
        io.v = grid(3, v, n * kv * 8);
        io.out = out;
        for (size_t i = 0; i < n * kv && corrected(rule); i++) {
            double sum = 0;
            for (size_t a = 0; a < 8; a++) sum += (double)k[i * 8 + a] * (double)k[i * 8 + a];
            for (size_t a = 0; a < 8; a++)
                k[i * 8 + a] = (float)((double)k[i * 8 + a] / sqrt(sum));
        }
        if (gated(rule)) {
            config.per_head = rv_golden_onnx[row].per_head;
            config.decay = grid(5, decay, n * kv * (config.per_head ? 1 : 8));
            for (size_t i = 0; i < 128; i++) decay[i] = -fabsf(decay[i]) / 8;
        }
        if (corrected(rule)) {
            config.shared = rv_golden_onnx[row].shared;
            config.beta = grid(6, beta, n * (config.shared ? 1 : kv));
            for (size_t i = 0; i < 16; i++) beta[i] = fabsf(beta[i]) / 2;
        }
        if (rv_golden_onnx[row].past) {
            config.state = grid(7, state, kv * 64);
            for (size_t i = 0; i < kv * 64; i++)
                state[i] *= (float)(2 - rv_golden_onnx[row].past) / 8;
        }
        config.state_out = after;
        if (rv_golden_onnx[row].half) {
            io.type = RV_DTYPE_F16;
            rv_convert_f32_to_f16(k, k16, n * kv * 8);
            rv_convert_f32_to_f16(v, v16, n * kv * 8);
            io.k = k16;
            io.v = v16;
        }
        RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &config, &io));
        CHECK_ALL(out, rv_golden_onnx[row].out, n * config.base.heads * 8,
                  rv_golden_onnx[row].half ? 1e-3 : 1e-6);
        CHECK_ALL(after, rv_golden_onnx[row].state, kv * 64,
                  rv_golden_onnx[row].half ? 1e-3 : 1e-6);
    }
}

/* ---- the definition ---- */

typedef struct problem {
    rv_attn_delta_config config;
    rv_attn_io io;
    rv_attn_grad grad;
    size_t heads, kv, n_q, n_k, n_v, n_decay, n_beta, n_state, n_out;
    float *q, *k, *v, *decay, *beta, *state, *g, *out, *weights, *after;
    float *d_q, *d_k, *d_v, *d_decay, *d_beta, *d_state;
    uint16_t *k16, *v16;
    uint8_t *keep;
    double *s, *want;
} problem;

static void make(problem *p, rv_test_rng *rng)
{
    const size_t n = p->io.n_k, dim = p->io.dim, dim_v = p->io.dim_v;
    p->io.n_q = n;
    p->heads = p->config.base.heads;
    p->kv = p->config.base.kv_heads;
    p->n_q = n * p->heads * dim;
    p->n_k = n * p->kv * dim;
    p->n_v = n * p->kv * dim_v;
    p->n_decay = n * p->kv * (p->config.per_head ? 1 : dim);
    p->n_beta = n * (p->config.shared ? 1 : p->kv);
    p->n_state = p->kv * dim * dim_v;
    p->n_out = n * p->heads * dim_v;
    p->q = floats(p->n_q);
    p->k = floats(p->n_k);
    p->v = floats(p->n_v);
    p->decay = floats(p->n_decay);
    p->beta = floats(p->n_beta);
    p->state = floats(p->n_state);
    p->g = floats(p->n_out);
    p->out = floats(p->n_out);
    p->weights = floats(p->heads * n * n);
    p->after = floats(p->n_state);
    p->d_q = floats(p->n_q);
    p->d_k = floats(p->n_k);
    p->d_v = floats(p->n_v);
    p->d_decay = floats(p->n_decay);
    p->d_beta = floats(p->n_beta);
    p->d_state = floats(p->n_state);
    p->k16 = (uint16_t *)need(2 * p->n_k);
    p->v16 = (uint16_t *)need(2 * p->n_v);
    p->keep = (uint8_t *)need(n);
    p->s = doubles(p->n_state);
    p->want = doubles(p->n_out);
    rv_test_fill(rng, p->q, p->n_q);
    rv_test_fill(rng, p->k, p->n_k);
    rv_test_fill(rng, p->v, p->n_v);
    rv_test_fill(rng, p->decay, p->n_decay);
    rv_test_fill(rng, p->beta, p->n_beta);
    rv_test_fill(rng, p->state, p->n_state);
    rv_test_fill(rng, p->g, p->n_out);
    for (size_t i = 0; i < p->n_k; i++) p->k[i] *= 1.5f / sqrtf((float)dim);
    for (size_t i = 0; i < p->n_decay; i++) p->decay[i] = -0.2f * (1.1f + p->decay[i]);
    for (size_t i = 0; i < p->n_beta; i++) p->beta[i] = 0.5f + 0.5f * p->beta[i];
    for (size_t i = 0; i < n; i++) p->keep[i] = (uint8_t)(rv_test_below(rng, 4) != 0);
    p->io.q = p->q;
    p->io.k = p->k;
    p->io.v = p->v;
    if (p->io.type == RV_DTYPE_F16) {
        rv_convert_f32_to_f16(p->k, p->k16, p->n_k);
        rv_convert_f32_to_f16(p->v, p->v16, p->n_v);
        rv_convert_f16_to_f32(p->k16, p->k, p->n_k);
        rv_convert_f16_to_f32(p->v16, p->v, p->n_v);
    } else if (p->io.type == RV_DTYPE_BF16) {
        rv_convert_f32_to_bf16(p->k, p->k16, p->n_k);
        rv_convert_f32_to_bf16(p->v, p->v16, p->n_v);
        rv_convert_bf16_to_f32(p->k16, p->k, p->n_k);
        rv_convert_bf16_to_f32(p->v16, p->v, p->n_v);
    }
    if (p->io.type != RV_DTYPE_F32) {
        p->io.k = p->k16;
        p->io.v = p->v16;
    }
    p->io.out = p->out;
    if (gated((int)p->config.rule)) {
        p->config.decay = p->decay;
        p->config.d_decay = p->d_decay;
    }
    if (corrected((int)p->config.rule)) {
        p->config.beta = p->beta;
        p->config.d_beta = p->d_beta;
    }
    p->config.state = p->state;
    p->config.state_out = p->after;
    p->config.d_state = p->d_state;
    p->grad.d_out = p->g;
    p->grad.d_q = p->d_q;
    p->grad.d_k = p->d_k;
    p->grad.d_v = p->d_v;
}

static void drop(problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->decay);
    free(p->beta);
    free(p->state);
    free(p->g);
    free(p->out);
    free(p->weights);
    free(p->after);
    free(p->d_q);
    free(p->d_k);
    free(p->d_v);
    free(p->d_decay);
    free(p->d_beta);
    free(p->d_state);
    free(p->k16);
    free(p->v16);
    free(p->keep);
    free(p->s);
    free(p->want);
}

/* Token t of head h of keys; s: [dim][dim_v]. */
static void define_token(const problem *p, size_t h, size_t t, double *s)
{
    const size_t dim = p->io.dim, dim_v = p->io.dim_v, row = t * p->kv + h;
    const float *k = p->k + row * dim, *v = p->v + row * dim_v;
    const double beta = (double)p->beta[p->config.shared ? t : row];
    if (p->config.keep && !p->config.keep[t]) return;
    for (size_t a = 0; a < dim && gated((int)p->config.rule); a++) {
        const double e = exp((double)p->decay[p->config.per_head ? row : row * dim + a]);
        for (size_t x = 0; x < dim_v; x++) s[a * dim_v + x] *= e;
    }
    for (size_t x = 0; x < dim_v; x++) {
        double u = (double)v[x];
        for (size_t a = 0; a < dim && corrected((int)p->config.rule); a++)
            u -= s[a * dim_v + x] * (double)k[a];
        if (corrected((int)p->config.rule)) u *= beta;
        for (size_t a = 0; a < dim; a++) s[a * dim_v + x] += (double)k[a] * u;
    }
}

static void define(problem *p)
{
    const size_t dim = p->io.dim, dim_v = p->io.dim_v, group = p->heads / p->kv;
    const double scale = p->config.base.scale != 0.0f ? (double)p->config.base.scale
                                                      : 1.0 / sqrt((double)dim);
    for (size_t i = 0; i < p->n_state; i++)
        p->s[i] = p->config.state ? (double)p->state[i] : 0.0;
    for (size_t t = 0; t < p->io.n_k; t++) {
        for (size_t h = 0; h < p->kv; h++) define_token(p, h, t, p->s + h * dim * dim_v);
        for (size_t head = 0; head < p->heads; head++) {
            const double *s = p->s + head / group * dim * dim_v;
            for (size_t x = 0; x < dim_v; x++) {
                double sum = 0;
                for (size_t a = 0; a < dim; a++)
                    sum += s[a * dim_v + x] * (double)p->q[(t * p->heads + head) * dim + a];
                p->want[(t * p->heads + head) * dim_v + x] = scale * sum;
            }
        }
    }
}

static double loss(void *arg)
{
    problem *p = (problem *)arg;
    double sum = 0;
    define(p);
    for (size_t i = 0; i < p->n_out; i++) sum += (double)p->g[i] * p->want[i];
    return sum;
}

enum { KEEP = 1, NO_STATE = 2, PER_HEAD = 4, SHARED = 8 };

static const struct {
    size_t n, dim, dim_v;
    uint32_t heads, kv_heads;
    int form;
    rv_dtype type;
} shapes[] = {
    {1, 1, 1, 1, 1, NO_STATE, RV_DTYPE_F32},
    {1, 7, 3, 2, 1, 0, RV_DTYPE_F32},
    {9, 5, 33, 2, 2, KEEP, RV_DTYPE_F32},
    {32, 6, 70, 1, 1, NO_STATE | PER_HEAD, RV_DTYPE_F32},
    {33, 9, 4, 6, 2, KEEP | SHARED | PER_HEAD, RV_DTYPE_F32},
    {40, 33, 5, 1, 1, 0, RV_DTYPE_F32},
    {100, 17, 40, 9, 9, NO_STATE, RV_DTYPE_F16},
    {130, 24, 20, 4, 1, KEEP | NO_STATE | SHARED, RV_DTYPE_BF16},
};

static void shape(problem *p, int rule, size_t row, rv_test_rng *rng)
{
    memset(p, 0, sizeof *p);
    p->config.rule = (rv_attn_rule)rule;
    p->config.base.heads = shapes[row].heads;
    p->config.base.kv_heads = shapes[row].kv_heads;
    p->config.per_head = gated(rule) && (shapes[row].form & PER_HEAD);
    p->config.shared = corrected(rule) && (shapes[row].form & SHARED);
    p->io.n_k = shapes[row].n;
    p->io.dim = shapes[row].dim;
    p->io.dim_v = shapes[row].dim_v;
    p->io.type = shapes[row].type;
    make(p, rng);
    if (shapes[row].form & KEEP) p->config.keep = p->keep;
    if (shapes[row].form & NO_STATE) p->config.state = NULL;
}

static void test_definition(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (int rule = 0; rule < 4; rule++) {
        for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
            problem p;
            size_t n, dim_v;
            double size = 1;
            rv_test_row("shape", row + 100 * (size_t)rule);
            shape(&p, rule, row, &rng);
            p.io.weights = p.weights;
            n = p.io.n_k;
            dim_v = p.io.dim_v;
            RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &p.config, &p.io));
            define(&p);
            for (size_t i = 0; i < p.n_state; i++) size = fabs(p.s[i]) > size ? fabs(p.s[i]) : size;
            for (size_t i = 0; i < p.n_out; i++) RV_NEAR(p.out[i], p.want[i], 2e-6 * size);
            for (size_t i = 0; i < p.n_state; i++) RV_NEAR(p.after[i], p.s[i], 2e-6 * size);
            if (!p.config.state) { /* out = weights times values */
                for (size_t h = 0; h < p.heads; h++) {
                    for (size_t i = 0; i < n; i++) {
                        const float *w = p.weights + (h * n + i) * n;
                        for (size_t x = 0; x < dim_v; x++) {
                            double sum = 0;
                            for (size_t j = 0; j < n; j++) {
                                const size_t at = j * p.kv + h * p.kv / p.heads;
                                sum += (double)w[j] * (double)p.v[at * dim_v + x];
                                if (j > i) RV_CHECK(w[j] == 0.0f);
                            }
                            RV_NEAR(sum, p.want[(i * p.heads + h) * dim_v + x], 4e-6 * size);
                        }
                    }
                }
            }
            drop(&p);
        }
    }
}

static void test_slopes(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (int rule = 0; rule < 4; rule++) {
        for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
            problem p;
            rv_test_row("shape", row + 100 * (size_t)rule);
            if (RV_TEST_SCALE > 1 && row > 2) continue;
            if (shapes[row].type != RV_DTYPE_F32) continue;
            shape(&p, rule, row, &rng);
            p.io.out = NULL; /* not looked at */
            RV_OKAY(&ctx, rv_attn_gated_delta_linear_backward(&ctx, &p.config, &p.io, &p.grad));
            check_slopes(loss, &p, p.q, p.d_q, p.n_q, 1.0 / 64, 2e-5);
            check_slopes(loss, &p, p.k, p.d_k, p.n_k, 1.0 / 256, 1e-4);
            check_slopes(loss, &p, p.v, p.d_v, p.n_v, 1.0 / 64, 2e-5);
            if (p.config.decay)
                check_slopes(loss, &p, p.decay, p.d_decay, p.n_decay, 1.0 / 256, 1e-4);
            if (p.config.beta) check_slopes(loss, &p, p.beta, p.d_beta, p.n_beta, 1.0 / 64, 1e-4);
            if (p.config.state)
                check_slopes(loss, &p, p.state, p.d_state, p.n_state, 1.0 / 64, 2e-5);
            drop(&p);
        }
    }
}

/* Equal keys of length 1 under the delta rule with beta 1 replace what stood there; a gate of
   -infinity clears; NaN stays from its token on, in the columns it came to. */
static void test_memory(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    memset(&p, 0, sizeof p);
    p.config.rule = RV_ATTN_RULE_GATED_DELTA;
    p.config.base.heads = p.config.base.kv_heads = 1;
    p.config.base.scale = 1.0f;
    p.config.per_head = 1;
    p.io.n_k = 6;
    p.io.dim = 4;
    p.io.dim_v = 3;
    make(&p, &rng);
    p.config.state = NULL;
    for (size_t t = 0; t < 6; t++) {
        for (size_t a = 0; a < 4; a++) p.k[t * 4 + a] = p.q[t * 4 + a] = a == 2 ? 1.0f : 0.0f;
        p.beta[t] = 1.0f;
        p.decay[t] = 0.0f;
    }
    RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < 18; i++) RV_NEAR(p.out[i], p.v[i], 2 * U);
    p.config.state = p.state;
    p.decay[3] = -infinite();
    p.beta[3] = 0.0f;
    RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &p.config, &p.io));
    for (size_t x = 0; x < 3; x++) RV_CHECK(p.out[9 + x] == 0.0f);
#if !defined(__FAST_MATH__)
    p.v[4 * 3 + 1] = not_a_number();
    RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &p.config, &p.io));
    for (size_t t = 0; t < 6; t++)
        for (size_t x = 0; x < 3; x++)
            RV_CHECK((p.out[t * 3 + x] != p.out[t * 3 + x]) == (t >= 4 && x == 1));
#endif
    drop(&p);
}

/* In two pieces, and token by token, with the state kept by the caller. */
static void test_steps(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    for (int rule = 0; rule < 4; rule++) {
        problem p;
        float *state, *was;
        rv_test_row("rule", (size_t)rule);
        shape(&p, rule, 4, &rng);
        state = floats(p.n_state);
        was = floats(p.n_out);
        RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &p.config, &p.io));
        memcpy(was, p.out, p.n_out * sizeof(float));
        for (size_t each = 1; each < 33; each += 16) {
            memcpy(state, p.state, p.n_state * sizeof(float));
            memset(p.out, 0, p.n_out * sizeof(float));
            for (size_t t = 0; t < 33; t += each) {
                rv_attn_delta_config config = p.config;
                rv_attn_io io = p.io;
                const size_t row = t * p.kv;
                io.n_q = io.n_k = 33 - t < each ? 33 - t : each;
                io.q = p.q + t * p.heads * io.dim;
                io.k = p.k + row * io.dim;
                io.v = p.v + row * io.dim_v;
                io.out = p.out + t * p.heads * io.dim_v;
                config.keep = p.keep + t;
                if (config.decay) config.decay += config.per_head ? row : row * io.dim;
                if (config.beta) config.beta += config.shared ? t : row;
                config.state = config.state_out = state;
                RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &config, &io));
            }
            RV_CHECK(memcmp(was, p.out, p.n_out * sizeof(float)) == 0);
            RV_CHECK(memcmp(p.after, state, p.n_state * sizeof(float)) == 0);
        }
        free(was);
        free(state);
        drop(&p);
    }
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static void test_workers(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
        problem p;
        float *out, *d_k, *weights;
        size_t pairs;
        rv_test_row("shape", row);
        shape(&p, RV_ATTN_RULE_GATED_DELTA, row, &rng);
        p.io.weights = p.weights;
        pairs = p.heads * p.io.n_k * p.io.n_k;
        out = floats(p.n_out);
        d_k = floats(p.n_k);
        weights = floats(pairs);
        RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &p.config, &p.io));
        RV_OKAY(&ctx, rv_attn_gated_delta_linear_backward(&ctx, &p.config, &p.io, &p.grad));
        memcpy(out, p.out, p.n_out * sizeof(float));
        memcpy(d_k, p.d_k, p.n_k * sizeof(float));
        memcpy(weights, p.weights, pairs * sizeof(float));
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, rv_attn_gated_delta_linear(&ctx, &p.config, &p.io));
        RV_OKAY(&ctx, rv_attn_gated_delta_linear_backward(&ctx, &p.config, &p.io, &p.grad));
        ctx.parallel = NULL;
        ctx.workers = 0;
        RV_CHECK(memcmp(out, p.out, p.n_out * sizeof(float)) == 0);
        RV_CHECK(memcmp(d_k, p.d_k, p.n_k * sizeof(float)) == 0);
        RV_CHECK(memcmp(weights, p.weights, pairs * sizeof(float)) == 0);
        free(out);
        free(d_k);
        free(weights);
        drop(&p);
    }
}

/* ---- faults ---- */

static rv_status run(rv_ctx *ctx, const rv_attn_delta_config *config, const rv_attn_io *io,
                     const rv_attn_grad *grad)
{
    if (grad) return rv_attn_gated_delta_linear_backward(ctx, config, io, grad);
    return rv_attn_gated_delta_linear(ctx, config, io);
}

static void test_errors(void)
{
    rv_attn_mask mask;
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 6);
    memset(&mask, 0, sizeof mask);
    memset(&p, 0, sizeof p);
    p.config.rule = RV_ATTN_RULE_GATED_DELTA;
    p.config.base.heads = p.config.base.kv_heads = 1;
    p.io.n_k = 3;
    p.io.dim = p.io.dim_v = 2;
    make(&p, &rng);
    mask.add = p.q;
    for (int back = 0; back < 2; back++) {
        const rv_attn_grad *grad = back ? &p.grad : NULL;
        rv_test_row("backward", (size_t)back);
        RV_OKAY(&ctx, run(&ctx, &p.config, &p.io, grad));
        RV_FAILS(&ctx, run(&ctx, NULL, &p.io, grad), RV_ERR_ARG, "config and io");
        RV_FAILS(&ctx, run(&ctx, &p.config, NULL, grad), RV_ERR_ARG, "io");
#define REFUSED(field, value, wanted, word)                                                        \
    do {                                                                                           \
        rv_attn_delta_config config_was = p.config;                                                \
        rv_attn_io io_was = p.io;                                                                  \
        field = value;                                                                             \
        p.out[0] = p.d_q[0] = p.after[0] = 5.0f;                                                   \
        RV_FAILS(&ctx, run(&ctx, &p.config, &p.io, grad), wanted, word);                           \
        RV_CHECK(p.out[0] == 5.0f && p.d_q[0] == 5.0f && p.after[0] == 5.0f);                      \
        p.config = config_was;                                                                     \
        p.io = io_was;                                                                             \
    } while (0)
        REFUSED(p.config.rule, (rv_attn_rule)rv_test_beyond(4), RV_ERR_CONFIG,
                "rule is 4, allowed: 0..3");
        REFUSED(p.config.base.temperature, 1.0f, RV_ERR_CONFIG, "temperature");
        REFUSED(p.config.base.softcap, 1.0f, RV_ERR_CONFIG, "softcap");
        REFUSED(p.config.base.windowed, 1, RV_ERR_CONFIG, "windowed");
        REFUSED(p.config.base.slopes, p.q, RV_ERR_CONFIG, "slopes");
        REFUSED(p.config.base.sinks, p.q, RV_ERR_CONFIG, "sinks");
        REFUSED(p.config.base.past, 1, RV_ERR_CONFIG, "past");
        REFUSED(p.config.base.kv_heads, 2, RV_ERR_CONFIG, "multiple of kv_heads (2)");
        REFUSED(p.config.base.scale, not_a_number(), RV_ERR_CONFIG, "scale");
        REFUSED(p.io.mask, &mask, RV_ERR_CONFIG, "keep");
        REFUSED(p.io.n_q, 2, RV_ERR_DIM, "n_q is 2, must be n_k (3)");
        REFUSED(p.io.k, NULL, RV_ERR_ARG, "q, k, v and out");
        REFUSED(p.io.type, RV_DTYPE_U8, RV_ERR_CONFIG, "type is u8");
        REFUSED(p.config.decay, NULL, RV_ERR_ARG, "decay");
        REFUSED(p.config.beta, NULL, RV_ERR_ARG, "beta");
        REFUSED(p.config.rule, RV_ATTN_RULE_DELTA, RV_ERR_CONFIG, "decay must be 0");
        REFUSED(p.config.rule, RV_ATTN_RULE_GATED, RV_ERR_CONFIG, "beta must be 0");
        p.decay[4] = 0.25f;
        REFUSED(p.config.shared, 0, RV_ERR_ARG, "decay[4] is 0.25, must be at most 0");
        RV_EQUAL(ctx.where, 4);
        p.decay[4] = -0.25f;
    }
#undef REFUSED
    p.io.lse = p.weights;
    RV_FAILS(&ctx, run(&ctx, &p.config, &p.io, NULL), RV_ERR_CONFIG, "lse");
    p.io.lse = NULL;
    RV_FAILS(&ctx, rv_attn_gated_delta_linear_backward(&ctx, &p.config, &p.io, NULL), RV_ERR_ARG,
             "io and grad");
    p.grad.d_sinks = p.d_q;
    RV_FAILS(&ctx, run(&ctx, &p.config, &p.io, &p.grad), RV_ERR_CONFIG, "d_sinks");
    p.grad.d_sinks = NULL;
    p.grad.d_out = NULL;
    RV_FAILS(&ctx, run(&ctx, &p.config, &p.io, &p.grad), RV_ERR_ARG, "d_out");
    RV_EQUAL(rv_attn_gated_delta_linear_state(NULL, &p.io), 0);
    RV_EQUAL(rv_attn_gated_delta_linear_state(&p.config, NULL), 0);
    drop(&p);
}

typedef struct call {
    problem *p;
    int back;
} call;

static rv_status attend(rv_ctx *ctx, void *arg)
{
    const call *c = (const call *)arg;
    problem *p = c->p;
    return run(ctx, &p->config, &p->io, c->back ? &p->grad : NULL);
}

static void test_faults(void)
{
    rv_test_rng rng;
    problem p;
    call c;
    if (RV_TEST_SCALE > 16) return;
    rv_test_seed(&rng, 7);
    shape(&p, RV_ATTN_RULE_GATED_DELTA, 7, &rng);
    p.io.weights = p.weights;
    c.p = &p;
    for (c.back = 0; c.back < 2; c.back++) {
        rv_test_row("backward", (size_t)c.back);
        RV_EQUAL(rv_test_oom_sweep(attend, &c), c.back ? 5 : 3); /* states, marks, betas, scratch */
        RV_CHECK(rv_test_cancel_sweep(attend, &c) > 3);
    }
    drop(&p);
}

int main(void)
{
    rv_test_begin("attn_delta");
    RV_RUN(test_torch);
    RV_RUN(test_onnx);
    RV_RUN(test_definition);
    RV_RUN(test_slopes);
    RV_RUN(test_memory);
    RV_RUN(test_steps);
    RV_RUN(test_workers);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
