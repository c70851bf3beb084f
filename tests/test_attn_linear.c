/* Attention in linear time against torch, ONNX, its definitions in double, slopes by differences,
   the statistics of random features, faults. */
#include "grid_set.h"

#include "golden/attn_linear.h"

enum { ELU, RELU, PERFORMER, RFF, MAPS };

typedef rv_status (*forward_fn)(rv_ctx *, const rv_attn_linear_config *, const rv_attn_io *);
typedef rv_status (*backward_fn)(rv_ctx *, const rv_attn_linear_config *, const rv_attn_io *,
                                 const rv_attn_grad *);
typedef size_t (*state_fn)(const rv_attn_linear_config *, const rv_attn_io *);
static const forward_fn forward[MAPS] = {rv_attn_linear_elu, rv_attn_linear_relu, rv_attn_performer,
                                         rv_attn_rff};
static const backward_fn backward[MAPS] = {
    rv_attn_linear_elu_backward, rv_attn_linear_relu_backward, rv_attn_performer_backward,
    rv_attn_rff_backward};
static const char *const names[MAPS] = {"elu", "relu", "performer", "rff"};
static const state_fn state_size[MAPS] = {rv_attn_linear_elu_state, rv_attn_linear_relu_state,
                                          rv_attn_performer_state, rv_attn_rff_state};

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

/* ---- the definition ---- */

/* One problem, its inputs and what is computed. */
typedef struct problem {
    int map;
    rv_attn_linear_config config;
    rv_attn_io io;
    rv_attn_grad grad;
    size_t heads, kv, m, f, n_out, n_pairs;
    float *q, *k, *v, *w, *out, *weights, *lse, *g, *d_q, *d_k, *d_v;
    uint16_t *k16, *v16;
    uint8_t *keep;
    double *phi_q, *phi_k, *top_q, *top_k; /* features times exp(-top)                            */
    double *pair;                          /* [heads][n_q][n_k] weights                           */
    double *want, *whole;                  /* outputs, logarithms of denominators                 */
} problem;

static void settle(problem *p)
{
    const rv_attn_linear_config *c = &p->config;
    const rv_attn_io *io = &p->io;
    p->heads = c->base.heads ? c->base.heads : 1;
    p->kv = c->base.kv_heads ? c->base.kv_heads : p->heads;
    p->m = p->map == ELU || c->identity ? 0 : rv_attn_linear_features(c, io->dim);
    p->f = p->m == 0 ? io->dim : p->map == RFF || c->both_signs ? 2 * p->m : p->m;
    p->n_out = io->n_q * p->heads * io->dim_v;
    p->n_pairs = p->heads * io->n_q * io->n_k;
}

/* Memory and random inputs of size `scale` for the sizes that io and config hold. */
static void make(problem *p, rv_test_rng *rng, float scale)
{
    rv_attn_io *io = &p->io;
    size_t n_q, n_k, n_v;
    settle(p);
    n_q = io->n_q * p->heads * io->dim;
    n_k = io->n_k * p->kv * io->dim;
    n_v = io->n_k * p->kv * io->dim_v;
    p->q = floats(n_q);
    p->k = floats(n_k);
    p->v = floats(n_v);
    p->w = floats(p->m * io->dim);
    p->out = floats(p->n_out);
    p->weights = floats(p->n_pairs);
    p->lse = floats(p->heads * io->n_q);
    p->g = floats(p->n_out);
    p->d_q = floats(n_q);
    p->d_k = floats(n_k);
    p->d_v = floats(n_v);
    p->k16 = (uint16_t *)need(2 * n_k);
    p->v16 = (uint16_t *)need(2 * n_v);
    p->keep = (uint8_t *)need(io->n_k);
    p->phi_q = doubles(io->n_q * p->heads * p->f);
    p->phi_k = doubles(io->n_k * p->kv * p->f);
    p->top_q = doubles(io->n_q * p->heads);
    p->top_k = doubles(io->n_k * p->kv);
    p->pair = doubles(p->n_pairs);
    p->want = doubles(p->n_out);
    p->whole = doubles(p->heads * io->n_q);
    rv_test_fill(rng, p->q, n_q);
    rv_test_fill(rng, p->k, n_k);
    rv_test_fill(rng, p->v, n_v);
    rv_test_fill(rng, p->g, p->n_out);
    for (size_t i = 0; i < n_q; i++) p->q[i] *= scale;
    for (size_t i = 0; i < n_k; i++) p->k[i] *= scale;
    for (size_t i = 0; i < io->n_k; i++) p->keep[i] = (uint8_t)(rv_test_below(rng, 4) != 0);
    for (size_t i = 0; i < p->m * io->dim; i++) p->w[i] = 1.7f * rv_test_f32(rng);
    if (io->type == RV_DTYPE_F16) {
        rv_convert_f32_to_f16(p->k, p->k16, n_k);
        rv_convert_f32_to_f16(p->v, p->v16, n_v);
        rv_convert_f16_to_f32(p->k16, p->k, n_k);
        rv_convert_f16_to_f32(p->v16, p->v, n_v);
    } else if (io->type == RV_DTYPE_BF16) {
        rv_convert_f32_to_bf16(p->k, p->k16, n_k);
        rv_convert_f32_to_bf16(p->v, p->v16, n_v);
        rv_convert_bf16_to_f32(p->k16, p->k, n_k);
        rv_convert_bf16_to_f32(p->v16, p->v, n_v);
    }
    io->q = p->q;
    io->k = io->type == RV_DTYPE_F32 ? (const void *)p->k : (const void *)p->k16;
    io->v = io->type == RV_DTYPE_F32 ? (const void *)p->v : (const void *)p->v16;
    io->out = p->out;
    io->weights = p->weights;
    io->lse = p->lse;
    if (p->m) p->config.projection = p->w;
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
    free(p->w);
    free(p->out);
    free(p->weights);
    free(p->lse);
    free(p->g);
    free(p->d_q);
    free(p->d_k);
    free(p->d_v);
    free(p->k16);
    free(p->v16);
    free(p->keep);
    free(p->phi_q);
    free(p->phi_k);
    free(p->top_q);
    free(p->top_k);
    free(p->pair);
    free(p->want);
    free(p->whole);
}

/* phi(x) exp(-top), with the largest exponent as top. */
static void phi(const problem *p, const float *x, double *f, double *top)
{
    const size_t dim = p->io.dim, m = p->m;
    const double scale = p->config.base.scale != 0.0f ? (double)p->config.base.scale
                                                      : 1.0 / sqrt((double)dim);
    const double heat = p->config.base.temperature != 0.0f ? (double)p->config.base.temperature : 1;
    const double root = p->map >= PERFORMER ? sqrt(scale / heat) : 1.0;
    const double eps = p->config.eps != 0.0f ? (double)p->config.eps : (double)1e-3f;
    double half = 0, most = -1e300;
    *top = 0;
    for (size_t a = 0; a < dim; a++) half += root * root * (double)x[a] * (double)x[a] / 2;
    if (m == 0) {
        for (size_t a = 0; a < dim; a++) {
            const double y = (double)x[a];
            if (p->map == ELU) f[a] = y > 0 ? y + 1 : exp(y);
            else f[a] = (y > 0 ? y : 0) + eps;
        }
        return;
    }
    for (size_t r = 0; r < m; r++) {
        double dot = 0;
        for (size_t a = 0; a < dim; a++) dot += root * (double)x[a] * (double)p->w[r * dim + a];
        if (p->map == RELU) {
            dot /= sqrt((double)m);
            f[r] = (dot > 0 ? dot : 0) + eps;
        } else if (p->map == PERFORMER) {
            f[r] = dot;
            if (p->f > m) f[m + r] = -dot;
        } else {
            f[r] = cos(dot) / sqrt((double)m);
            f[m + r] = sin(dot) / sqrt((double)m);
        }
    }
    if (p->map == RFF) *top = half;
    if (p->map != PERFORMER) return;
    for (size_t r = 0; r < p->f; r++) most = f[r] > most ? f[r] : most;
    for (size_t r = 0; r < p->f; r++) f[r] = exp(f[r] - most) / sqrt((double)p->f);
    *top = most - half;
}

static int sees(const problem *p, size_t i, size_t j)
{
    const rv_attn_config *b = &p->config.base;
    if (p->config.keep && !p->config.keep[j]) return 0;
    if (b->order == RV_ATTN_CAUSAL) return i + p->io.n_k >= j + p->io.n_q;
    return b->order == RV_ATTN_ANY || i + b->past >= j;
}

/* Query i of head h: weights, output and log of the denominator, by the sum over all keys. */
static void define_query(problem *p, size_t h, size_t i)
{
    const size_t n = p->io.n_k, kv = h * p->kv / p->heads, dim_v = p->io.dim_v;
    const double *fq = p->phi_q + (i * p->heads + h) * p->f;
    const double eps = p->map != ELU                ? 0.0
                       : p->config.eps != 0.0f ? (double)p->config.eps : (double)1e-6f;
    double *w = p->pair + (h * p->io.n_q + i) * n, *out = p->want + (i * p->heads + h) * dim_v;
    double sum = 0, top = -1e300;
    for (size_t j = 0; j < n; j++) {
        const double t = p->top_k[j * p->kv + kv];
        if (sees(p, i, j) && t > top) top = t;
    }
    for (size_t j = 0; j < n; j++) {
        const double *fk = p->phi_k + (j * p->kv + kv) * p->f;
        w[j] = 0;
        if (!sees(p, i, j)) continue;
        for (size_t a = 0; a < p->f; a++) w[j] += fq[a] * fk[a];
        w[j] *= exp(p->top_k[j * p->kv + kv] - top);
        sum += w[j];
    }
    p->whole[h * p->io.n_q + i] = sum > 0 ? log(sum + eps) + top + p->top_q[i * p->heads + h]
                                          : -HUGE_VAL;
    for (size_t j = 0; j < n && sum > 0; j++) w[j] /= sum + eps;
    for (size_t a = 0; a < dim_v; a++) {
        out[a] = 0;
        for (size_t j = 0; j < n; j++)
            out[a] += w[j] * (double)p->v[(j * p->kv + kv) * dim_v + a];
    }
}

static void define(problem *p)
{
    const rv_attn_io *io = &p->io;
    for (size_t r = 0; r < io->n_q * p->heads; r++)
        phi(p, p->q + r * io->dim, p->phi_q + r * p->f, p->top_q + r);
    for (size_t r = 0; r < io->n_k * p->kv; r++)
        phi(p, p->k + r * io->dim, p->phi_k + r * p->f, p->top_k + r);
    for (size_t h = 0; h < p->heads; h++)
        for (size_t i = 0; i < io->n_q; i++) define_query(p, h, i);
}

/* sum of g out. */
static double loss(void *arg)
{
    problem *p = (problem *)arg;
    double sum = 0;
    define(p);
    for (size_t i = 0; i < p->n_out; i++) sum += (double)p->g[i] * p->want[i];
    return sum;
}

/* Everything that was computed, against the definition. */
static void check(problem *p, double tolerance)
{
    const size_t n = p->io.n_k;
    define(p);
    for (size_t r = 0; r < p->heads * p->io.n_q; r++) {
        if (p->whole[r] > -1e300) {
            if (p->io.lse)
                RV_NEAR(p->lse[r], p->whole[r], tolerance * (4 + fabs(p->whole[r])));
        } else if (p->io.lse) {
            RV_CHECK(p->lse[r] == -HUGE_VALF);
        }
        for (size_t j = 0; j < n && p->io.weights; j++)
            RV_NEAR(p->weights[r * n + j], p->pair[r * n + j],
                    tolerance * (fabs(p->pair[r * n + j]) + 1.0 / (double)n) + 1e-37);
    }
    for (size_t i = 0; i < p->n_out; i++) RV_NEAR(p->out[i], p->want[i], tolerance);
}

/* ---- torch ---- */

static void test_torch(void)
{
    enum { N_Q = 5, N_K = 7, DIM = 6, DIM_V = 4, M = 9 };
    float q[60], k[42], v[28], w[M * DIM], out[40], weights[70], lse[10], g[40];
    float d_q[60], d_k[42], d_v[28];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_linear); row++) {
        const int map = rv_golden_linear[row].kind, variant = rv_golden_linear[row].variant;
        rv_attn_linear_config config;
        rv_attn_io io;
        rv_attn_grad grad;
        rv_test_row("torch", row);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        memset(&grad, 0, sizeof grad);
        config.base.heads = 2;
        config.base.kv_heads = 1;
        config.base.order = (rv_attn_order)rv_golden_linear[row].order;
        if (config.base.order == RV_ATTN_CAUSAL_FIRST) config.base.past = 1;
        if (map == RFF) config.base.scale = 0.125f;
        if (map == RELU && variant) config.identity = 1;
        if (map == PERFORMER && variant) config.both_signs = 1;
        if (map != ELU && !config.identity) {
            config.features = M;
            config.projection = grid(5, w, M * DIM);
        }
        io.n_q = N_Q;
        io.n_k = N_K;
        io.dim = DIM;
        io.dim_v = DIM_V;
        io.q = grid(1, q, 60);
        io.k = grid(2, k, 42);
        io.v = grid(3, v, 28);
        io.out = out;
        io.weights = weights;
        io.lse = lse;
        RV_OKAY(&ctx, forward[map](&ctx, &config, &io));
        CHECK_ALL(out, rv_golden_linear[row].out, 40, 2e-6);
        CHECK_ALL(weights, rv_golden_linear[row].weights, 70, 2e-6);
        CHECK_ALL(lse, rv_golden_linear[row].lse, 10, 2e-6);
        grad.d_out = grid(4, g, 40);
        grad.d_q = d_q;
        grad.d_k = d_k;
        grad.d_v = d_v;
        RV_OKAY(&ctx, backward[map](&ctx, &config, &io, &grad));
        CHECK_ALL(d_q, rv_golden_linear[row].d_q, 60, 2e-6);
        CHECK_ALL(d_k, rv_golden_linear[row].d_k, 42, 2e-6);
        CHECK_ALL(d_v, rv_golden_linear[row].d_v, 28, 2e-6);
    }
}

/* ---- shapes ---- */

enum { KEEP = 1, SIGNS = 2, IDENTITY = 4 };

static const struct {
    size_t n_q, n_k, dim, dim_v;
    uint32_t heads, kv_heads, features;
    int form, order;
    size_t past;
    rv_dtype type;
} shapes[] = {
    {1, 1, 1, 1, 1, 1, 3, 0, 0, 0, RV_DTYPE_F32},
    {1, 9, 5, 3, 2, 1, 7, 0, 1, 0, RV_DTYPE_F32},
    {2, 3, 33, 40, 1, 1, 70, 0, 1, 0, RV_DTYPE_F32},
    {70, 70, 8, 70, 2, 2, 20, SIGNS, 1, 0, RV_DTYPE_F32},
    {65, 130, 16, 5, 4, 2, 65, KEEP, 1, 0, RV_DTYPE_F16},
    {130, 65, 7, 33, 2, 1, 64, KEEP | IDENTITY, 1, 0, RV_DTYPE_F32},
    {100, 150, 12, 12, 3, 1, 0, KEEP | SIGNS, 0, 0, RV_DTYPE_BF16},
    {150, 100, 4, 9, 1, 1, 33, IDENTITY, 2, 0, RV_DTYPE_F32},
    {90, 200, 6, 6, 2, 2, 16, KEEP, 2, 37, RV_DTYPE_F32},
    {30, 20, 6, 6, 2, 2, 16, 0, 2, 1000, RV_DTYPE_F32},
    {2100, 2200, 3, 2, 1, 1, 4, KEEP, 1, 0, RV_DTYPE_F32},
    {40, 3100, 3, 2, 2, 1, 4, 0, 0, 0, RV_DTYPE_F32},
    {3, 4100, 3, 2, 1, 1, 4, KEEP, 1, 0, RV_DTYPE_F32},
    {2100, 2100, 3, 2, 1, 1, 4, SIGNS, 2, 50, RV_DTYPE_F32},
};

static void shape(problem *p, int map, size_t row, rv_test_rng *rng)
{
    memset(p, 0, sizeof *p);
    p->map = map;
    p->io.n_q = shapes[row].n_q;
    p->io.n_k = shapes[row].n_k;
    p->io.dim = shapes[row].dim;
    p->io.dim_v = shapes[row].dim_v;
    p->io.type = shapes[row].type;
    p->config.base.heads = shapes[row].heads;
    p->config.base.kv_heads = shapes[row].kv_heads;
    p->config.base.order = (rv_attn_order)shapes[row].order;
    p->config.base.past = shapes[row].past;
    p->config.identity = map == RELU && (shapes[row].form & IDENTITY);
    p->config.both_signs = map == PERFORMER && (shapes[row].form & SIGNS);
    if (map != ELU && !p->config.identity) p->config.features = shapes[row].features;
    if (map == PERFORMER) p->config.base.temperature = 1.5f;
    make(p, rng, map == RFF ? 0.5f : 2.0f);
    if (shapes[row].form & KEEP) p->config.keep = p->keep;
}

/* What larger shapes need is beyond the memory of the least machines. */
static int too_large(size_t row)
{
    return RV_TEST_SCALE > 1 && shapes[row].n_q * shapes[row].n_k * shapes[row].heads > 30000;
}

static void test_definition(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (int map = 0; map < MAPS; map++) {
        for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
            problem p;
            size_t gone = 99;
            if (too_large(row)) continue;
            rv_test_row(names[map], row);
            shape(&p, map, row, &rng);
            p.config.vanished = &gone;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            /* products that cancel: small features of relu, denominators of rff */
            check(&p, map == RFF || map == RELU ? 2e-5 : 4e-6);
            RV_EQUAL(gone, 0);
            drop(&p);
        }
    }
}

/* A step in a random direction from all inputs: of the definition, and by the slopes. */
static void check_direction(problem *p, rv_test_rng *rng, double tolerance)
{
    const size_t sizes[3] = {p->io.n_q * p->heads * p->io.dim, p->io.n_k * p->kv * p->io.dim,
                             p->io.n_k * p->kv * p->io.dim_v};
    float *x[3], *was[3], *d[3];
    double along = 0, mass = 0, step[2];
    x[0] = p->q;
    x[1] = p->k;
    x[2] = p->v;
    d[0] = p->d_q;
    d[1] = p->d_k;
    d[2] = p->d_v;
    for (size_t t = 0; t < 3; t++) {
        was[t] = floats(2 * sizes[t]);
        memcpy(was[t], x[t], sizes[t] * sizeof(float));
        rv_test_fill(rng, was[t] + sizes[t], sizes[t]);
        for (size_t i = 0; i < sizes[t]; i++) {
            /* the difference that floats hold */
            const float up = was[t][i] + was[t][sizes[t] + i] / 1024.0f;
            const double way = (double)up - (double)was[t][i];
            along += way * (double)d[t][i];
            mass += fabs(way * (double)d[t][i]);
        }
    }
    for (int side = 0; side < 2; side++) {
        for (size_t t = 0; t < 3; t++) {
            for (size_t i = 0; i < sizes[t]; i++) {
                const float up = was[t][i] + was[t][sizes[t] + i] / 1024.0f;
                x[t][i] = side ? up : was[t][i] - (up - was[t][i]);
            }
        }
        step[side] = loss(p);
    }
    RV_NEAR(along, (step[1] - step[0]) / 2, tolerance * mass);
    for (size_t t = 0; t < 3; t++) {
        memcpy(x[t], was[t], sizes[t] * sizeof(float));
        free(was[t]);
    }
}

/* Slopes by finite differences of the definition: element by element where that is cheap, along a
   random direction elsewhere. relu with W is left to torch: its kinks lie everywhere. */
static void test_slopes(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (int map = 0; map < MAPS; map++) {
        for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
            problem p;
            size_t n_q, n_k, n_v;
            if (too_large(row) || shapes[row].type != RV_DTYPE_F32) continue;
            rv_test_row(names[map], row);
            shape(&p, map, row, &rng);
            n_q = p.io.n_q * p.heads * p.io.dim;
            n_k = p.io.n_k * p.kv * p.io.dim;
            n_v = p.io.n_k * p.kv * p.io.dim_v;
            p.io.out = p.io.weights = p.io.lse = NULL; /* not looked at */
            RV_OKAY(&ctx, backward[map](&ctx, &p.config, &p.io, &p.grad));
            if (map == RELU) {
                for (size_t i = 0; i < n_v && n_v * p.n_pairs < 20000; i++)
                    RV_NEAR(p.d_v[i], slope(loss, &p, p.v + i, 1.0 / 64), 1e-5);
            } else if ((n_q + n_k) * p.n_pairs * p.f < 3000000) {
                check_slopes(loss, &p, p.q, p.d_q, n_q, 1.0 / 128, 1e-4);
                check_slopes(loss, &p, p.k, p.d_k, n_k, 1.0 / 128, 1e-4);
                check_slopes(loss, &p, p.v, p.d_v, n_v, 1.0 / 128, 1e-4);
            }
            if (map != RELU) check_direction(&p, &rng, 3e-5);
            drop(&p);
        }
    }
}

/* ---- identities ---- */

static void test_identities(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    for (int map = 0; map < MAPS; map++) {
        problem p;
        float *was;
        rv_test_row("map", (size_t)map);
        memset(&p, 0, sizeof p);
        p.map = map;
        p.io.n_q = 9;
        p.io.n_k = 100;
        p.io.dim = 8;
        p.io.dim_v = 3;
        if (map != ELU) p.config.features = 40;
        make(&p, &rng, 1.0f);
        was = floats(p.n_pairs);
        for (size_t i = 0; i < 300; i++) p.v[i] = 1.0f; /* values of 1 give 1 */
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
        for (size_t i = 0; i < p.n_out; i++) RV_NEAR(p.out[i], 1, 2e-6);
        for (size_t i = 0; i < 9; i++) { /* weights sum to 1 */
            double sum = 0;
            for (size_t j = 0; j < 100; j++) sum += (double)p.weights[i * 100 + j];
            RV_NEAR(sum, 1, 2e-6);
        }
        memcpy(was, p.weights, p.n_pairs * sizeof(float));
        for (size_t j = 0; j < 50; j++) { /* keys the other way round */
            for (size_t a = 0; a < 8; a++) {
                const float x = p.k[j * 8 + a];
                p.k[j * 8 + a] = p.k[(99 - j) * 8 + a];
                p.k[(99 - j) * 8 + a] = x;
            }
        }
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
        for (size_t i = 0; i < 9; i++)
            for (size_t j = 0; j < 100; j++)
                RV_NEAR(p.weights[i * 100 + j], was[i * 100 + 99 - j], 1e-6);
        for (size_t j = 1; j < 100; j++) memcpy(p.k + j * 8, p.k, 8 * sizeof(float));
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io)); /* equal keys share */
        for (size_t i = 0; i < 900; i++) RV_NEAR(p.weights[i], 0.01, 3e-8);
        p.io.n_k = 1;
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io)); /* one key has all */
        for (size_t i = 0; i < 9; i++) RV_NEAR(p.weights[i], 1, 2e-6);
        free(was);
        drop(&p);
    }
}

/* Terms of e^+-1000 and more: performer keeps the scale of each key apart. */
static void test_large(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    for (int order = 0; order < 2; order++) {
        memset(&p, 0, sizeof p);
        p.map = PERFORMER;
        p.io.n_q = p.io.n_k = 80;
        p.io.dim = p.io.dim_v = 4;
        p.config.features = 10;
        p.config.base.order = order ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
        make(&p, &rng, 1.0f);
        for (size_t j = 0; j < 80; j++) {
            for (size_t a = 0; a < 4; a++) p.k[j * 4 + a] *= (float)(j % 7) * 12.0f;
            for (size_t a = 0; a < 4; a++) p.q[j * 4 + a] *= (float)(j % 5) * 12.0f;
        }
        RV_OKAY(&ctx, forward[PERFORMER](&ctx, &p.config, &p.io));
        check(&p, 2e-4); /* exponents of some thousands: their rounding */
        RV_OKAY(&ctx, backward[PERFORMER](&ctx, &p.config, &p.io, &p.grad));
        for (size_t i = 0; i < 80 * 4; i++) {
            RV_CHECK(fabsf(p.d_q[i]) < 1e3f && fabsf(p.d_k[i]) < 1e3f && fabsf(p.d_v[i]) < 1e3f);
        }
        drop(&p);
    }
}

/* What comes later, NaN even, changes not a bit of earlier outputs; what sees a NaN is NaN. */
static void test_causal(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    for (int map = 0; map < MAPS; map++) {
        for (size_t at = 0; at < 150; at += 37) {
            problem p;
            float was[150 * 5];
            rv_test_row("position", at);
            memset(&p, 0, sizeof p);
            p.map = map;
            p.io.n_q = p.io.n_k = 150;
            p.io.dim = p.io.dim_v = 5;
            p.config.base.order = RV_ATTN_CAUSAL;
            if (map != ELU) p.config.features = 12;
            make(&p, &rng, map == RFF ? 0.3f : 0.7f); /* lest denominators vanish */
            p.io.weights = NULL;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            memcpy(was, p.out, sizeof was);
            for (size_t i = at * 5; i < 150 * 5; i++) p.k[i] *= map == RFF ? 1.5f : 40.0f;
            for (size_t i = at * 5; i < 150 * 5; i++) p.v[i] = 1e30f;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            RV_CHECK(memcmp(was, p.out, at * 5 * sizeof(float)) == 0);
#if !defined(__FAST_MATH__)
            for (int which = 0; which < 2; which++) {
                (which ? p.k : p.v)[at * 5 + 2] = not_a_number();
                RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
                RV_CHECK(memcmp(was, p.out, at * 5 * sizeof(float)) == 0);
                for (size_t i = at; i < 150; i++) RV_CHECK(p.out[i * 5 + 2] != p.out[i * 5 + 2]);
            }
#endif
            drop(&p);
        }
    }
}

/* Rows that see nothing; rff whose denominator is negative or lost in the noise. */
static void test_nothing(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    size_t gone = 0, by_definition = 0;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 6);
    for (int map = 0; map < MAPS; map++) {
        memset(&p, 0, sizeof p);
        p.map = map;
        p.io.n_q = 9;
        p.io.n_k = 5;
        p.io.dim = p.io.dim_v = 3;
        p.config.base.order = RV_ATTN_CAUSAL;
        if (map != ELU) p.config.features = 50;
        make(&p, &rng, 0.5f);
        p.config.vanished = &gone;
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
        for (size_t i = 0; i < 4 * 3; i++) RV_CHECK(p.out[i] == 0.0f);
        for (size_t i = 0; i < 4 * 5; i++) RV_CHECK(p.weights[i] == 0.0f);
        for (size_t i = 0; i < 4; i++) RV_CHECK(p.lse[i] == -HUGE_VALF);
        RV_EQUAL(gone, 0);
        check(&p, 1e-5);
        memset(p.keep, 0, 5);
        p.config.keep = p.keep;
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
        for (size_t i = 0; i < 9 * 3; i++) RV_CHECK(p.out[i] == 0.0f);
        RV_OKAY(&ctx, backward[map](&ctx, &p.config, &p.io, &p.grad));
        for (size_t i = 0; i < 5 * 3; i++) RV_CHECK(p.d_k[i] == 0.0f && p.d_v[i] == 0.0f);
        for (size_t i = 0; i < 9 * 3; i++) RV_CHECK(p.d_q[i] == 0.0f);
        drop(&p);
    }
    memset(&p, 0, sizeof p);
    p.map = RFF;
    p.io.n_q = 60;
    p.io.n_k = 3;
    p.io.dim = p.io.dim_v = 6;
    p.config.features = 2;
    make(&p, &rng, 4.0f); /* few features, far apart: noise */
    p.config.vanished = &gone;
    RV_OKAY(&ctx, forward[RFF](&ctx, &p.config, &p.io));
    define(&p);
    for (size_t i = 0; i < 60; i++) {
        double mass = 0, top = -1e300, sum = 0;
        for (size_t j = 0; j < 3; j++) top = p.top_k[j] > top ? p.top_k[j] : top;
        for (size_t j = 0; j < 3; j++) {
            const double e = exp(p.top_k[j] - top);
            mass += e;
            for (size_t a = 0; a < 4; a++) sum += e * p.phi_q[i * 4 + a] * p.phi_k[j * 4 + a];
        }
        RV_CHECK(fabs(sum - 1e-3 * mass) > 1e-6 * mass); /* far enough from the limit to tell */
        if (sum > 1e-3 * mass) continue;
        by_definition++;
        RV_CHECK(p.lse[i] == -HUGE_VALF && p.weights[i * 3] == 0.0f && p.out[i * 6] == 0.0f);
    }
    RV_EQUAL(gone, by_definition);
    RV_CHECK(gone > 10 && gone < 50);
    drop(&p);
}

/* ---- states ---- */

/* Keys first, the rest after: with a state between, and one by one. */
static void test_states(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 7);
    for (int map = 0; map < MAPS; map++) {
        problem p, whole;
        float *state, *wrong;
        size_t n = 0;
        rv_test_row("map", (size_t)map);
        memset(&p, 0, sizeof p);
        p.map = map;
        p.io.n_q = p.io.n_k = 90;
        p.io.dim = p.io.dim_v = 6;
        p.config.base.heads = 4;
        p.config.base.kv_heads = 2;
        p.config.base.order = RV_ATTN_CAUSAL;
        if (map != ELU) p.config.features = 10;
        make(&p, &rng, 1.0f);
        p.config.keep = p.keep;
        p.keep[0] = 1;
        p.io.weights = p.io.lse = NULL;
        if (map == RFF) p.config.base.scale = 0.05f;
        whole = p;
        n = state_size[map](&p.config, &p.io);
        RV_CHECK(n >= 2 * p.f * 7);
        state = floats(n);
        for (size_t split = 1; split < 90; split += 22) {
            p.io.n_q = p.io.n_k = split;
            p.config.state = NULL;
            p.config.state_out = state;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            p.io.n_q = p.io.n_k = 90 - split;
            p.io.q = p.q + split * 24;
            p.io.k = p.k + split * 12;
            p.io.v = p.v + split * 12;
            p.io.out = p.out + split * 24;
            p.config.keep = p.keep + split;
            p.config.state = state;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            p.io = whole.io;
            p.config = whole.config;
            check(&p, 1e-5);
        }
        memset(p.out, 0, p.n_out * sizeof(float));
        wrong = floats(n);
        for (size_t i = 0; i < 90; i++) { /* decoding; what is refused leaves the state alone */
            p.io.n_q = p.io.n_k = 1;
            p.io.q = p.q + i * 24;
            p.io.k = p.k + i * 12;
            p.io.v = p.v + i * 12;
            p.io.out = p.out + i * 24;
            p.config.keep = p.keep + i;
            p.config.state = i ? state : NULL;
            p.config.state_out = state;
            if (i) memcpy(wrong, state, n * sizeof(float));
            p.io.type = RV_DTYPE_I8;
            RV_EQUAL(forward[map](&ctx, &p.config, &p.io), RV_ERR_CONFIG);
            if (i) RV_CHECK(memcmp(wrong, state, n * sizeof(float)) == 0);
            p.io.type = RV_DTYPE_F32;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
        }
        p.io = whole.io;
        p.config = whole.config;
        check(&p, 1e-5);
        /* no query: the sums alone, and slopes with them as constants */
        p.config.base.order = RV_ATTN_ANY;
        p.config.state_out = state;
        p.io.n_q = 0;
        p.io.n_k = 40;
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
        p.io.n_q = 90;
        p.io.n_k = 50;
        p.io.k = p.k + 40 * 12;
        p.io.v = p.v + 40 * 12;
        p.config.keep = p.keep + 40;
        p.config.state = state;
        p.config.state_out = NULL;
        RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
        p.grad.d_k = p.d_k + 40 * 12;
        p.grad.d_v = p.d_v + 40 * 12;
        RV_OKAY(&ctx, backward[map](&ctx, &p.config, &p.io, &p.grad));
        whole.config.base.order = RV_ATTN_ANY;
        p.io = whole.io;
        p.config = whole.config;
        check(&p, 1e-5);
        memcpy(wrong, p.d_k + 40 * 12, (n < 600 ? n : 600) * sizeof(float));
        p.grad.d_k = p.d_k;
        p.grad.d_v = NULL;
        RV_OKAY(&ctx, backward[map](&ctx, &p.config, &p.io, &p.grad));
        for (size_t i = 0; i < (n < 600 ? n : 600); i++) RV_NEAR(p.d_k[480 + i], wrong[i], 1e-5);
        free(wrong);
        free(state);
        drop(&p);
    }
}

/* A state that was summed in parts. */
static void test_long_state(void)
{
    enum { EARLY = 3000, LATE = 7 };
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 11);
    for (int map = 0; map < MAPS; map++) {
        for (size_t order = 0; order < 2; order++) {
            problem p, whole;
            float *state, *out;
            rv_test_row(names[map], order);
            memset(&p, 0, sizeof p);
            p.map = map;
            p.io.n_q = 5;
            p.io.n_k = EARLY + LATE;
            p.io.dim = p.io.dim_v = 3;
            p.config.base.order = RV_ATTN_CAUSAL;
            if (map != ELU) p.config.features = 5;
            make(&p, &rng, map == RFF ? 0.5f : 2.0f);
            p.io.weights = p.io.lse = NULL;
            whole = p;
            state = floats(state_size[map](&p.config, &p.io));
            out = floats(EARLY * 3);
            p.config.state_out = state;
            p.config.base.order = order ? RV_ATTN_CAUSAL : RV_ATTN_CAUSAL_FIRST;
            p.io.q = p.k;
            p.io.out = out;
            p.io.n_k = EARLY;
            p.io.n_q = order ? EARLY : 1500; /* the second half of the keys is not seen */
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            p.io = whole.io;
            p.config = whole.config;
            p.config.state = state;
            p.io.n_k = LATE;
            p.io.k = p.k + EARLY * 3;
            p.io.v = p.v + EARLY * 3;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            p.io = whole.io;
            p.config = whole.config;
            check(&p, 1e-5);
            free(state);
            free(out);
            drop(&p);
        }
    }
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

/* The same bits for any number of workers; strides change places only. */
static void test_workers_and_strides(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 8);
    for (int map = 0; map < MAPS; map++) {
        for (size_t row = 0; row < RV_COUNT_OF(shapes); row++) {
            problem p, other;
            size_t pitch;
            float *wide;
            if (too_large(row)) continue;
            rv_test_row("shape", row);
            shape(&p, map, row, &rng);
            other = p;
            other.out = other.io.out = floats(p.n_out);
            other.weights = other.io.weights = floats(p.n_pairs);
            other.d_q = other.grad.d_q = floats(p.io.n_q * p.heads * p.io.dim);
            other.d_k = other.grad.d_k = floats(p.io.n_k * p.kv * p.io.dim);
            pitch = p.heads * p.io.dim + 3;
            wide = floats(p.io.n_q * pitch);
            for (size_t i = 0; i < p.io.n_q; i++)
                memcpy(wide + i * pitch, p.q + i * (pitch - 3), (pitch - 3) * sizeof(float));
            other.io.q = wide;
            other.io.q_stride = pitch;
            RV_OKAY(&ctx, forward[map](&ctx, &p.config, &p.io));
            RV_OKAY(&ctx, backward[map](&ctx, &p.config, &p.io, &p.grad));
            ctx.parallel = backwards;
            ctx.workers = 3;
            RV_OKAY(&ctx, forward[map](&ctx, &other.config, &other.io));
            RV_OKAY(&ctx, backward[map](&ctx, &other.config, &other.io, &other.grad));
            ctx.parallel = NULL;
            ctx.workers = 0;
            RV_CHECK(memcmp(p.out, other.out, p.n_out * sizeof(float)) == 0);
            RV_CHECK(memcmp(p.weights, other.weights, p.n_pairs * sizeof(float)) == 0);
            RV_CHECK(memcmp(p.d_q, other.d_q,
                            p.io.n_q * p.heads * p.io.dim * sizeof(float)) == 0);
            RV_CHECK(memcmp(p.d_k, other.d_k, p.io.n_k * p.kv * p.io.dim * sizeof(float)) == 0);
            free(other.out);
            free(other.weights);
            free(other.d_q);
            free(other.d_k);
            free(wide);
            drop(&p);
        }
    }
}

/* ---- random features ---- */

/* Rows orthogonal within blocks; lengths of normal vectors; the same for a seed, another drawing
   for another seed or number. */
static void test_draw(void)
{
    enum { DIM = 24, M = 60 };
    float *w = floats(M * DIM), *u = floats(M * DIM);
    rv_attn_linear_config config;
    rv_ctx ctx;
    double squares = 0, fourth = 0;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.features = M;
    RV_OKAY(&ctx, rv_attn_linear_draw(&ctx, &config, DIM, w));
    for (size_t i = 0; i < M; i++) {
        for (size_t j = 0; j < i; j++) {
            double dot = 0, a = 0, b = 0;
            for (size_t x = 0; x < DIM; x++) {
                dot += (double)w[i * DIM + x] * (double)w[j * DIM + x];
                a += (double)w[i * DIM + x] * (double)w[i * DIM + x];
                b += (double)w[j * DIM + x] * (double)w[j * DIM + x];
            }
            if (i / DIM == j / DIM) RV_NEAR(dot / sqrt(a * b), 0, 4 * U);
        }
    }
    RV_OKAY(&ctx, rv_attn_linear_draw(&ctx, &config, DIM, u));
    RV_CHECK(memcmp(w, u, M * DIM * sizeof(float)) == 0);
    config.redraw = 1;
    RV_OKAY(&ctx, rv_attn_linear_draw(&ctx, &config, DIM, u));
    RV_CHECK(w[0] != u[0]);
    config.redraw = 0;
    ctx.seed = 5;
    RV_OKAY(&ctx, rv_attn_linear_draw(&ctx, &config, DIM, u));
    RV_CHECK(w[0] != u[0]);
    for (size_t seed = 1; seed <= 40; seed++) { /* moments 1 and 3 of 57,600 numbers */
        ctx.seed = seed;
        config.independent = seed > 20;
        RV_OKAY(&ctx, rv_attn_linear_draw(&ctx, &config, DIM, u));
        for (size_t i = 0; i < M * DIM; i++) {
            const double x = (double)u[i] * (double)u[i];
            squares += x;
            fourth += x * x;
        }
    }
    RV_NEAR(squares / 57600, 1, 4 * sqrt(2.0 / 57600));
    RV_NEAR(fourth / 57600, 3, 4 * sqrt(96.0 / 57600));
    memset(&config, 0, sizeof config);
    RV_EQUAL(rv_attn_linear_features(&config, 64), 267); /* 64 ln 64 = 266.2 */
    RV_EQUAL(rv_attn_linear_features(&config, 1), 1);
    RV_EQUAL(rv_attn_linear_features(NULL, 64), 0);
    RV_FAILS(&ctx, rv_attn_linear_draw(&ctx, NULL, 4, w), RV_ERR_ARG, "config and projection");
    RV_FAILS(&ctx, rv_attn_linear_draw(&ctx, &config, 0, w), RV_ERR_DIM, "dim is 0");
    config.features = 2000000;
    RV_FAILS(&ctx, rv_attn_linear_draw(&ctx, &config, 4, w), RV_ERR_CONFIG, "features is 2000000");
    free(w);
    free(u);
}

/* phi(q) . phi(k) of one pair over seeds: by lse of one key, whose mean and spread come back.
   Estimates that vanish (rff, negative) are taken from the definition with the drawn W. */
static void sample(problem *p, size_t seeds, double exact, double *mean, double *spread)
{
    rv_ctx ctx;
    double sum = 0, squares = 0;
    rv_test_ctx(&ctx);
    for (size_t seed = 1; seed <= seeds; seed++) {
        double x = 0;
        ctx.seed = seed;
        if (p->map == RFF) {
            RV_OKAY(&ctx, rv_attn_linear_draw(&ctx, &p->config, p->io.dim, p->w));
            phi(p, p->q, p->phi_q, p->top_q);
            phi(p, p->k, p->phi_k, p->top_k);
            for (size_t a = 0; a < p->f; a++) x += p->phi_q[a] * p->phi_k[a];
            x *= exp(p->top_q[0] + p->top_k[0]);
        } else {
            RV_OKAY(&ctx, forward[p->map](&ctx, &p->config, &p->io));
            x = exp((double)p->lse[0]);
        }
        sum += x;
        squares += (x - exact) * (x - exact);
    }
    *mean = sum / (double)seeds;
    *spread = sqrt(squares / (double)seeds);
}

static void pair_of(problem *p, int map, uint32_t m, int both_signs, rv_test_rng *rng)
{
    memset(p, 0, sizeof *p);
    p->map = map;
    p->io.n_q = p->io.n_k = 1;
    p->io.dim = p->io.dim_v = 8;
    p->config.features = m;
    p->config.both_signs = both_signs;
    make(p, rng, 0.75f); /* tails that 2000 samples describe */
    p->config.projection = NULL;
}

/* Unbiased: the mean within three deviations over 2000 seeds, orthogonal or not, with both signs or
   not; orthogonal rows are better; the error falls as the root of m. */
static void test_statistics(void)
{
    const size_t seeds = 2000;
    if (RV_TEST_SCALE > 1) return;
    for (int form = 0; form < 3; form++) { /* performer, with both signs, rff */
        double mean, spread[2][3], exact = 0;
        rv_test_rng rng;
        for (uint32_t level = 0; level < 3; level++) {
            problem p;
            rv_test_seed(&rng, 9);
            rv_test_row("form", (size_t)form);
            pair_of(&p, form == 2 ? RFF : PERFORMER, 8u << (2 * level), form == 1, &rng);
            exact = 0;
            for (size_t a = 0; a < 8; a++) exact += (double)p.q[a] * (double)p.k[a];
            exact = exp(exact / sqrt(8.0));
            for (int plain = 0; plain < 2; plain++) {
                p.config.independent = plain;
                sample(&p, seeds, exact, &mean, &spread[plain][level]);
                RV_NEAR(mean, exact, 3 * spread[plain][level] / sqrt((double)seeds));
            }
            RV_CHECK(spread[0][level] < spread[1][level]);
            drop(&p);
        }
        /* from 8 to 32 to 128 features: half of it each time, the deviation of a deviation over
           2000 samples with a kurtosis of up to 10 is 3.5 % */
        for (int plain = 0; plain < 2; plain++) {
            RV_NEAR(spread[plain][0] / spread[plain][1], 2, 0.25);
            RV_NEAR(spread[plain][1] / spread[plain][2], 2, 0.25);
        }
    }
}

/* ---- faults ---- */

static void test_errors(void)
{
    float one[8] = {1, 0, 0, 0, 0, 0, 0, 0}, out[8], d[8];
    const uint8_t byte = 1;
    rv_attn_linear_config config;
    rv_attn_io io;
    rv_attn_mask mask;
    rv_attn_grad grad;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    memset(&mask, 0, sizeof mask);
    memset(&grad, 0, sizeof grad);
    io.n_q = io.n_k = 1;
    io.dim = 2;
    io.q = one;
    io.k = one;
    io.v = one;
    io.out = out;
    grad.d_out = one;
    grad.d_q = d;
    mask.allow = &byte;
#define REFUSED(map, field, value, wanted, word)                                                   \
    do {                                                                                           \
        rv_attn_linear_config config_was = config;                                                 \
        rv_attn_io io_was = io;                                                                    \
        field = value;                                                                             \
        out[0] = d[0] = 5.0f;                                                                      \
        RV_FAILS(&ctx, forward[map](&ctx, &config, &io), wanted, word);                            \
        RV_FAILS(&ctx, backward[map](&ctx, &config, &io, &grad), wanted, word);                    \
        RV_CHECK(out[0] == 5.0f && d[0] == 5.0f);                                                  \
        config = config_was;                                                                       \
        io = io_was;                                                                               \
    } while (0)
    for (int map = 0; map < MAPS; map++) {
        rv_test_row("map", (size_t)map);
        RV_OKAY(&ctx, forward[map](&ctx, &config, &io));
        RV_OKAY(&ctx, backward[map](&ctx, &config, &io, &grad));
        RV_FAILS(&ctx, forward[map](&ctx, NULL, &io), RV_ERR_ARG, "config and io");
        RV_FAILS(&ctx, forward[map](&ctx, &config, NULL), RV_ERR_ARG, "config and io");
        RV_FAILS(&ctx, backward[map](&ctx, NULL, &io, &grad), RV_ERR_ARG, "config and io");
        RV_FAILS(&ctx, backward[map](&ctx, &config, NULL, &grad), RV_ERR_ARG, "io and grad");
        RV_FAILS(&ctx, backward[map](&ctx, &config, &io, NULL), RV_ERR_ARG, "io and grad");
        REFUSED(map, config.base.softcap, 1.0f, RV_ERR_CONFIG, "softcap");
        REFUSED(map, config.base.windowed, 1, RV_ERR_CONFIG, "windowed");
        REFUSED(map, config.base.left, 3, RV_ERR_CONFIG, "windowed");
        REFUSED(map, config.base.slopes, one, RV_ERR_CONFIG, "slopes");
        REFUSED(map, config.base.sinks, one, RV_ERR_CONFIG, "sinks");
        REFUSED(map, config.base.dropout, 0.5f, RV_ERR_CONFIG, "dropout");
        REFUSED(map, config.base.training, 1, RV_ERR_CONFIG, "dropout");
        REFUSED(map, config.base.stream, 1, RV_ERR_CONFIG, "dropout");
        REFUSED(map, config.base.raw, 1, RV_ERR_CONFIG, "raw");
        REFUSED(map, config.base.kv_heads, 2, RV_ERR_CONFIG, "multiple of kv_heads (2)");
        REFUSED(map, config.features, map == ELU ? 4 : 2000000, RV_ERR_CONFIG, "features");
        REFUSED(map, config.eps, -1.0f, RV_ERR_CONFIG, "eps");
        REFUSED(map, config.eps, not_a_number(), RV_ERR_CONFIG, "eps");
        REFUSED(map, io.mask, &mask, RV_ERR_CONFIG, "keep");
        REFUSED(map, io.q, NULL, RV_ERR_ARG, "q, k, v and out");
        REFUSED(map, io.n_k, 0, RV_ERR_DIM, "n_k is 0");
        REFUSED(map, io.dim, 0, RV_ERR_DIM, "dim is 0");
        REFUSED(map, io.q_stride, 1, RV_ERR_DIM, "q_stride is 1");
        REFUSED(map, io.type, RV_DTYPE_I8, RV_ERR_CONFIG, "type is i8");
        grad.d_sinks = out;
        RV_FAILS(&ctx, backward[map](&ctx, &config, &io, &grad), RV_ERR_CONFIG, "d_sinks");
        grad.d_sinks = NULL;
        grad.d_params = out;
        RV_FAILS(&ctx, backward[map](&ctx, &config, &io, &grad), RV_ERR_CONFIG, "d_params");
        grad.d_params = NULL;
        grad.d_out = NULL;
        RV_FAILS(&ctx, backward[map](&ctx, &config, &io, &grad), RV_ERR_ARG, "d_out");
        grad.d_out = one;
        io.out = NULL;
        RV_FAILS(&ctx, forward[map](&ctx, &config, &io), RV_ERR_ARG, "q, k, v and out");
        io.out = out;
        io.n_q = 0;
        RV_OKAY(&ctx, forward[map](&ctx, &config, &io));
        io.n_q = 1;
        RV_EQUAL(state_size[map](NULL, &io), 0);
        RV_EQUAL(state_size[map](&config, NULL), 0);
        if (map != RELU) REFUSED(map, config.identity, 1, RV_ERR_CONFIG, "identity");
        if (map != PERFORMER) REFUSED(map, config.both_signs, 1, RV_ERR_CONFIG, "both_signs");
    }
    for (int map = ELU; map <= RELU; map++) {
        REFUSED(map, config.base.scale, 1.0f, RV_ERR_CONFIG, "scale");
        REFUSED(map, config.base.temperature, 2.0f, RV_ERR_CONFIG, "temperature");
    }
    for (int map = PERFORMER; map <= RFF; map++) {
        REFUSED(map, config.base.scale, -1.0f, RV_ERR_CONFIG, "scale is -1, must be above 0");
        REFUSED(map, config.base.temperature, -1.0f, RV_ERR_CONFIG, "temperature");
    }
    REFUSED(ELU, config.projection, one, RV_ERR_CONFIG, "projection");
    REFUSED(ELU, config.independent, 1, RV_ERR_CONFIG, "independent");
    REFUSED(ELU, config.redraw, 1, RV_ERR_CONFIG, "redraw");
    REFUSED(PERFORMER, config.eps, 1.0f, RV_ERR_CONFIG, "eps must be 0");
    config.identity = 1;
    REFUSED(RELU, config.features, 3, RV_ERR_CONFIG, "features");
#undef REFUSED
}

typedef struct call {
    problem *p;
    int back;
} call;

static rv_status attend(rv_ctx *ctx, void *arg)
{
    const call *c = (const call *)arg;
    problem *p = c->p;
    if (c->back) return backward[p->map](ctx, &p->config, &p->io, &p->grad);
    return forward[p->map](ctx, &p->config, &p->io);
}

static void test_faults(void)
{
    rv_test_rng rng;
    size_t gone;
    if (RV_TEST_SCALE > 16) return;
    rv_test_seed(&rng, 10);
    for (int map = 0; map < MAPS; map++) {
        problem p;
        call c;
        shape(&p, map, 4, &rng);
        p.config.vanished = &gone;
        p.config.projection = NULL;
        c.p = &p;
        for (c.back = 0; c.back < 2; c.back++) {
            rv_test_row("map", (size_t)map);
            /* states, rows, scratch, forward flags; W, its panels and a block of it */
            RV_EQUAL(rv_test_oom_sweep(attend, &c), (map == ELU ? 5 : 8) - (size_t)c.back);
            RV_CHECK(rv_test_cancel_sweep(attend, &c) > 4);
        }
        drop(&p);
    }
}

int main(void)
{
    rv_test_begin("attn_linear");
    RV_RUN(test_torch);
    RV_RUN(test_definition);
    RV_RUN(test_slopes);
    RV_RUN(test_identities);
    RV_RUN(test_large);
    RV_RUN(test_causal);
    RV_RUN(test_nothing);
    RV_RUN(test_states);
    RV_RUN(test_long_state);
    RV_RUN(test_workers_and_strides);
    RV_RUN(test_draw);
    RV_RUN(test_statistics);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
