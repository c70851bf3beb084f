/* Attention against its definition in double, identities, faults. */
#include "rv_test.h"

#define UNIT (1.0 / 16777216.0)

/* One problem: sizes, and memory of what it may need. */
typedef struct problem {
    rv_attn_config config;
    rv_attn_io io;
    rv_attn_mask mask;
    float *q, *k, *v, *out, *weights, *lse, *add; /* k, v: as floats, also of narrow types */
    uint16_t *k16, *v16;
    uint8_t *allow;
    float slopes[16], sinks[16];
} problem;

static void *need(size_t bytes)
{
    void *p = malloc(bytes + 1);
    if (!p) exit(2);
    return p;
}

static int visible(void *user, size_t head, size_t i, size_t j)
{
    (void)user;
    return (head + 2 * i + 3 * j) % 5 != 0;
}

static size_t heads_of(const problem *p)
{
    return p->config.heads ? p->config.heads : 1;
}

static size_t kv_of(const problem *p)
{
    return p->config.kv_heads ? p->config.kv_heads : heads_of(p);
}

static size_t wide_of(const problem *p)
{
    return p->io.dim_v ? p->io.dim_v : p->io.dim;
}

/* Random inputs for the sizes that io and config hold. */
static void fill(problem *p, rv_test_rng *rng)
{
    rv_attn_io *io = &p->io;
    const size_t heads = heads_of(p), kv = kv_of(p), dim_v = wide_of(p);
    const size_t n_k = io->n_k * kv * io->dim, n_v = io->n_k * kv * dim_v;
    const size_t pairs = heads * io->n_q * io->n_k;
    p->q = (float *)need(io->n_q * heads * io->dim * sizeof(float));
    p->k = (float *)need(n_k * sizeof(float));
    p->v = (float *)need(n_v * sizeof(float));
    p->out = (float *)need(io->n_q * heads * dim_v * sizeof(float));
    p->weights = (float *)need(pairs * sizeof(float));
    p->lse = (float *)need(heads * io->n_q * sizeof(float));
    p->add = (float *)need(pairs * sizeof(float));
    p->allow = (uint8_t *)need(pairs);
    p->k16 = (uint16_t *)need(2 * n_k);
    p->v16 = (uint16_t *)need(2 * n_v);
    rv_test_fill(rng, p->q, io->n_q * heads * io->dim);
    rv_test_fill(rng, p->k, n_k);
    rv_test_fill(rng, p->v, n_v);
    for (size_t i = 0; i < n_k; i++) p->k[i] *= 3.0f;
    for (size_t i = 0; i < pairs; i++) {
        p->add[i] = rv_test_below(rng, 5) ? 2.0f * rv_test_f32(rng) : -HUGE_VALF;
        p->allow[i] = (uint8_t)(rv_test_below(rng, 4) != 0);
    }
    for (size_t h = 0; h < 16; h++) p->sinks[h] = 2.0f * rv_test_f32(rng);
    rv_attn_slopes(heads, p->slopes);
    io->k = p->k;
    io->v = p->v;
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
    if (io->type != RV_DTYPE_F32) {
        io->k = p->k16;
        io->v = p->v16;
    }
    io->q = p->q;
    io->out = p->out;
    io->weights = p->weights;
    io->lse = p->lse;
}

static void drop(problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->out);
    free(p->weights);
    free(p->lse);
    free(p->add);
    free(p->allow);
    free(p->k16);
    free(p->v16);
}

/* The logit by definition, -infinity where i does not see j. *mass: the sum of magnitudes that
   rounding works on. */
static double logit(const problem *p, size_t h, size_t i, size_t j, double *mass)
{
    const rv_attn_config *c = &p->config;
    const rv_attn_io *io = &p->io;
    const size_t dim = io->dim, heads = heads_of(p), kv = kv_of(p);
    const float *q = p->q + (i * heads + h) * dim, *k = p->k + (j * kv + h * kv / heads) * dim;
    const size_t pair = (h * io->n_q + i) * io->n_k + j;
    const double scale = (c->scale != 0.0f ? (double)c->scale : 1.0 / sqrt((double)dim)) /
                         (c->temperature != 0.0f ? (double)c->temperature : 1.0);
    const double shift = c->order == RV_ATTN_CAUSAL ? (double)io->n_k - (double)io->n_q
                                                    : (double)c->past;
    const double at = (double)i + (shift > 0 ? shift : 0.0), ago = at - (double)j;
    double x = 0;
    *mass = 0;
    for (size_t a = 0; a < dim; a++) {
        x += (double)q[a] * (double)k[a];
        *mass += fabs((double)q[a] * (double)k[a]);
    }
    x *= scale;
    *mass *= fabs(scale);
    if (c->softcap > 0.0f) x = (double)c->softcap * tanh(x / (double)c->softcap);
    if (c->slopes) x -= (double)c->slopes[h] * fabs(ago);
    if (c->slopes) *mass += (double)c->slopes[h] * (at + (double)j);
    if (p->mask.add) x += (double)p->mask.add[p->mask.add_head ? pair : i * io->n_k + j];
    if (c->order == RV_ATTN_CAUSAL && (double)j > (double)i + shift) return -HUGE_VAL;
    if (c->order == RV_ATTN_CAUSAL_FIRST && ago < 0) return -HUGE_VAL;
    if (c->windowed && (ago > (double)c->left || -ago > (double)c->right)) return -HUGE_VAL;
    if (p->mask.allow && !p->mask.allow[p->mask.allow_head ? pair : i * io->n_k + j])
        return -HUGE_VAL;
    if (p->mask.visible && !visible(NULL, h, i, j)) return -HUGE_VAL;
    return x;
}

/* What is written for query i of head h. */
static void check_query(const problem *p, size_t h, size_t i, double *w)
{
    const rv_attn_io *io = &p->io;
    const size_t heads = heads_of(p), kv = kv_of(p), dim_v = wide_of(p), n = io->n_k;
    const double sink = p->config.sinks ? (double)p->config.sinks[h] : -HUGE_VAL;
    const float *out = p->out + (i * heads + h) * dim_v;
    double top = sink, sum = 0, error = 0, lse;
    for (size_t j = 0; j < n; j++) {
        double mass;
        w[j] = logit(p, h, i, j, &mass);
        if (w[j] > top) top = w[j];
        mass = (sqrt((double)io->dim) + 4) * UNIT * mass;
        if (w[j] > -1e300) mass += 4 * UNIT * fabs(w[j]);
        if (mass > error) error = mass;
    }
    for (size_t j = 0; j < n; j++) sum += w[j] = top > -1e300 ? exp(w[j] - top) : 0;
    lse = top + log(sum + (sink > -1e300 ? exp(sink - top) : 0));
    if (sink > -1e300) sum += exp(sink - top);
    error = 2 * error + 3e-7 + (8 + sqrt((double)n)) * UNIT;
    if (top > -1e300) error += 4 * UNIT * fabs(top);
    if (io->lse && sum > 0) RV_NEAR(p->lse[h * io->n_q + i], lse, error + 4 * UNIT * fabs(lse));
    if (io->lse && sum == 0) RV_CHECK(p->lse[h * io->n_q + i] == -HUGE_VALF);
    for (size_t j = 0; j < n && io->weights; j++) {
        const double want = sum > 0 ? w[j] / sum : 0;
        RV_NEAR(p->weights[(h * io->n_q + i) * n + j], want, want * 2 * error + 1e-37);
    }
    for (size_t a = 0; a < dim_v; a++) {
        double want = 0, mass = 0;
        for (size_t j = 0; j < n && sum > 0; j++) {
            const double x = w[j] / sum * (double)p->v[(j * kv + h * kv / heads) * dim_v + a];
            want += x;
            mass += fabs(x);
        }
        RV_NEAR(out[a], want, mass * 2 * error + 1e-37);
    }
}

static void check(const problem *p)
{
    double *w = (double *)need(p->io.n_k * sizeof(double));
    for (size_t h = 0; h < heads_of(p); h++)
        for (size_t i = 0; i < p->io.n_q; i++) check_query(p, h, i, w);
    free(w);
}

/* Bits of a form: what is added to plain attention. */
enum {
    CAP = 1, SLOPES = 2, SINKS = 4, ADD = 8, ALLOW = 16, VISIBLE = 32, WINDOW = 64, PER_HEAD = 128
};

static const struct {
    size_t n_q, n_k, dim, dim_v;
    uint32_t heads, kv_heads;
    int form, order;
    rv_dtype type;
} rows[] = {
    {1, 1, 1, 0, 1, 1, 0, 0, RV_DTYPE_F32},          {7, 64, 64, 64, 2, 2, 0, 0, RV_DTYPE_F32},
    {49, 130, 40, 33, 3, 3, 0, 1, RV_DTYPE_F32},     {5, 65, 64, 128, 4, 2, 0, 1, RV_DTYPE_F32},
    {1, 5000, 24, 8, 4, 1, 0, 0, RV_DTYPE_F32},
    {1, 2049, 64, 32, 2, 2, SINKS, 0, RV_DTYPE_F16},
    {2, 4100, 16, 16, 4, 2, ALLOW, 1, RV_DTYPE_BF16}, {97, 97, 17, 5, 2, 1, CAP, 2, RV_DTYPE_F32},
    {30, 70, 33, 64, 6, 3, SLOPES, 1, RV_DTYPE_F16}, {70, 30, 8, 8, 1, 1, 0, 1, RV_DTYPE_F32},
    {60, 200, 20, 20, 2, 2, WINDOW, 1, RV_DTYPE_F32},
    {60, 200, 20, 20, 2, 2, WINDOW, 2, RV_DTYPE_BF16},
    {13, 90, 12, 12, 2, 2, ADD, 0, RV_DTYPE_F32},
    {13, 90, 12, 12, 2, 2, ADD | PER_HEAD, 2, RV_DTYPE_F32},
    {13, 90, 12, 12, 4, 2, ALLOW | PER_HEAD, 0, RV_DTYPE_F32},
    {20, 66, 9, 10, 2, 1, VISIBLE, 0, RV_DTYPE_F32}, {3, 66, 9, 10, 1, 1, VISIBLE, 0, RV_DTYPE_F32},
    {25, 80, 16, 16, 4, 4, CAP | SLOPES | SINKS | ADD | ALLOW | WINDOW, 1, RV_DTYPE_F16},
    {4, 2500, 16, 16, 1, 1, CAP | SLOPES | SINKS | ADD | WINDOW, 2, RV_DTYPE_F32},
};

static void make(problem *p, size_t row, rv_test_rng *rng)
{
    memset(p, 0, sizeof *p);
    p->io.n_q = rows[row].n_q;
    p->io.n_k = rows[row].n_k;
    p->io.dim = rows[row].dim;
    p->io.dim_v = rows[row].dim_v;
    p->io.type = rows[row].type;
    p->config.heads = rows[row].heads;
    p->config.kv_heads = rows[row].kv_heads;
    p->config.order = (rv_attn_order)rows[row].order;
    fill(p, rng);
    if (rows[row].form & CAP) p->config.softcap = 1.5f;
    if (rows[row].form & SLOPES) p->config.slopes = p->slopes;
    if (rows[row].form & SINKS) p->config.sinks = p->sinks;
    if (rows[row].form & ADD) p->mask.add = p->add;
    if (rows[row].form & ALLOW) p->mask.allow = p->allow;
    if (rows[row].form & VISIBLE) p->mask.visible = visible;
    if (rows[row].form & PER_HEAD)
        p->mask.add_head = p->mask.allow_head = p->io.n_q * p->io.n_k;
    if (rows[row].form & WINDOW) {
        p->config.windowed = 1;
        p->config.left = 30;
        p->config.right = 2;
    }
    if (p->config.order == RV_ATTN_CAUSAL_FIRST) p->config.past = 11;
    if (p->mask.add || p->mask.allow || p->mask.visible) p->io.mask = &p->mask;
}

static void test_definition(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        problem p;
        rv_test_row("shape", i);
        make(&p, i, &rng);
        RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
        check(&p);
        drop(&p);
    }
}

/* ---- identities ---- */

static void test_identities(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
        problem p;
        const size_t n_k = rows[row].n_k;
        rv_test_row("shape", row);
        make(&p, row, &rng);
        for (size_t i = 0; i < n_k * kv_of(&p) * wide_of(&p); i++) p.v[i] = 1.0f;
        p.io.type = RV_DTYPE_F32;
        p.io.k = p.k;
        p.io.v = p.v;
        RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
        for (size_t r = 0; r < heads_of(&p) * p.io.n_q; r++) {
            double sum = 0;
            for (size_t j = 0; j < n_k; j++) sum += (double)p.weights[r * n_k + j];
            if (!p.config.sinks && sum != 0) RV_NEAR(sum, 1, 4e-7 * sqrt((double)n_k) + 1e-6);
            for (size_t a = 0; a < wide_of(&p); a++) {
                const size_t h = r / p.io.n_q, i = r % p.io.n_q;
                RV_NEAR(p.out[(i * heads_of(&p) + h) * wide_of(&p) + a], sum,
                        4e-7 * sqrt((double)n_k) + 2e-6);
            }
        }
        drop(&p);
    }
}

/* Equal keys share the weight; one key has all of it; a constant on every logit changes nothing;
   logits of +-1000 stay finite. */
static void test_logits(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    float *was;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    memset(&p, 0, sizeof p);
    p.io.n_q = 9;
    p.io.n_k = 100;
    p.io.dim = 16;
    fill(&p, &rng);
    was = (float *)need(9 * 100 * sizeof(float));
    for (size_t j = 1; j < 100; j++) memcpy(p.k + j * 16, p.k, 16 * sizeof(float));
    RV_OKAY(&ctx, rv_attn(&ctx, NULL, &p.io));
    for (size_t i = 0; i < 9 * 100; i++) RV_NEAR(p.weights[i], 0.01, 1e-8);
    rv_test_fill(&rng, p.k, 100 * 16);
    RV_OKAY(&ctx, rv_attn(&ctx, NULL, &p.io));
    memcpy(was, p.weights, 9 * 100 * sizeof(float));
    for (size_t i = 0; i < 9 * 100; i++) p.add[i] = 3.0f;
    p.mask.add = p.add;
    p.io.mask = &p.mask;
    RV_OKAY(&ctx, rv_attn(&ctx, NULL, &p.io));
    for (size_t i = 0; i < 9 * 100; i++) RV_NEAR(p.weights[i], was[i], (double)was[i] * 4e-6);
    for (size_t i = 0; i < 9 * 100; i++) p.add[i] = i % 3 ? 1000.0f : -1000.0f;
    RV_OKAY(&ctx, rv_attn(&ctx, NULL, &p.io));
    check(&p);
    for (size_t i = 0; i < 9 * 100; i++) p.add[i] = -HUGE_VALF;
    RV_OKAY(&ctx, rv_attn(&ctx, NULL, &p.io));
    for (size_t i = 0; i < 9 * 16; i++) RV_CHECK(p.out[i] == 0.0f);
    for (size_t i = 0; i < 9 * 100; i++) RV_CHECK(p.weights[i] == 0.0f);
    for (size_t i = 0; i < 9; i++) RV_CHECK(p.lse[i] == -HUGE_VALF);
    p.io.mask = NULL;
    p.io.n_k = 1;
    RV_OKAY(&ctx, rv_attn(&ctx, NULL, &p.io));
    for (size_t i = 0; i < 9; i++) RV_CHECK(p.weights[i] == 1.0f);
    for (size_t i = 0; i < 9 * 16; i++) RV_CHECK(p.out[i] == p.v[i % 16]);
    free(was);
    drop(&p);
}

/* Attention over two parts of the keys, merged, is attention over all: for every split. */
static void test_merge(void)
{
    enum { N_Q = 8, N_K = 150, DIM = 12 };
    float part[N_Q * DIM], lse[N_Q];
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    memset(&p, 0, sizeof p);
    p.io.n_q = N_Q;
    p.io.n_k = N_K;
    p.io.dim = DIM;
    fill(&p, &rng);
    for (size_t split = 1; split < N_K; split += 7) {
        rv_attn_io rest = p.io;
        rv_test_row("split", split);
        p.io.n_k = split;
        p.io.weights = NULL;
        RV_OKAY(&ctx, rv_attn(&ctx, NULL, &p.io));
        rest.n_k = N_K - split;
        rest.k = p.k + split * DIM;
        rest.v = p.v + split * DIM;
        rest.out = part;
        rest.lse = lse;
        rest.weights = NULL;
        RV_OKAY(&ctx, rv_attn(&ctx, NULL, &rest));
        rv_attn_merge(p.out, p.lse, part, lse, N_Q, DIM);
        p.io.n_k = N_K;
        check(&p);
    }
    for (size_t i = 0; i < N_Q; i++) lse[i] = -HUGE_VALF;
    memcpy(part, p.out, sizeof part);
    memset(p.out, 0, sizeof part);
    rv_attn_merge(p.out, lse, part, p.lse, N_Q, DIM); /* nothing, and all */
    RV_CHECK(memcmp(part, p.out, sizeof part) == 0);
    drop(&p);
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

/* The same bits for any number of workers; strides change nothing but places. */
static void test_workers_and_strides(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
        problem p;
        size_t n_out, n_w, pitch;
        float *out, *weights, *wide;
        rv_test_row("shape", row);
        make(&p, row, &rng);
        n_out = p.io.n_q * heads_of(&p) * wide_of(&p);
        n_w = heads_of(&p) * p.io.n_q * p.io.n_k;
        out = (float *)need(n_out * sizeof(float));
        weights = (float *)need(n_w * sizeof(float));
        RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
        memcpy(out, p.out, n_out * sizeof(float));
        memcpy(weights, p.weights, n_w * sizeof(float));
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
        ctx.parallel = NULL;
        ctx.workers = 0;
        RV_CHECK(memcmp(out, p.out, n_out * sizeof(float)) == 0);
        RV_CHECK(memcmp(weights, p.weights, n_w * sizeof(float)) == 0);
        pitch = heads_of(&p) * p.io.dim + 3;
        wide = (float *)need(p.io.n_q * pitch * sizeof(float));
        for (size_t i = 0; i < p.io.n_q; i++)
            memcpy(wide + i * pitch, p.q + i * (pitch - 3), (pitch - 3) * sizeof(float));
        p.io.q = wide;
        p.io.q_stride = pitch;
        RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
        RV_CHECK(memcmp(out, p.out, n_out * sizeof(float)) == 0);
        free(wide);
        free(out);
        free(weights);
        drop(&p);
    }
}

/* A NaN reaches the outputs of the queries that see it, and no others. */
static void test_nan(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 6);
    memset(&p, 0, sizeof p);
    p.io.n_q = p.io.n_k = 80;
    p.io.dim = 8;
    p.config.order = RV_ATTN_CAUSAL;
    fill(&p, &rng);
    p.k[50 * 8 + 3] = (float)nan("");
    RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < 80; i++) {
        for (size_t a = 0; a < 8; a++) {
            const float x = p.out[i * 8 + a];
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            if (i < 50) RV_CHECK((bits & 0x7F800000u) != 0x7F800000u);
#if !defined(__FAST_MATH__)
            else RV_CHECK(x != x);
#endif
        }
    }
    drop(&p);
}

/* ---- slopes ---- */

/* Sum of g and out over one query and head, by definition in double. */
static double query_loss(const problem *p, size_t h, size_t i, const float *g, double *w)
{
    const rv_attn_io *io = &p->io;
    const size_t n = io->n_k, dim_v = wide_of(p), kv = kv_of(p), heads = heads_of(p);
    const double sink = p->config.sinks ? (double)p->config.sinks[h] : -HUGE_VAL;
    double top = sink, sum = 0, loss = 0, mass;
    for (size_t j = 0; j < n; j++) {
        w[j] = logit(p, h, i, j, &mass);
        if (w[j] > top) top = w[j];
    }
    if (!(top > -1e300)) return 0;
    if (sink > -1e300) sum = exp(sink - top);
    for (size_t j = 0; j < n; j++) sum += w[j] = exp(w[j] - top);
    for (size_t j = 0; j < n; j++) {
        const float *v = p->v + (j * kv + h * kv / heads) * dim_v;
        for (size_t a = 0; a < dim_v; a++)
            loss += w[j] / sum * (double)v[a] * (double)g[(i * heads + h) * dim_v + a];
    }
    return loss;
}

static double whole_loss(const problem *p, const float *g)
{
    double *w = (double *)need(p->io.n_k * sizeof(double)), loss = 0;
    for (size_t h = 0; h < heads_of(p); h++)
        for (size_t i = 0; i < p->io.n_q; i++) loss += query_loss(p, h, i, g, w);
    free(w);
    return loss;
}

/* Rounds to steps that a difference of 2^-10 does not leave. */
static void coarse(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)floor((double)x[i] * 1024.0 + 0.5) / 1024.0f;
}

/* The slope by x[i] against the central difference. Its own error is h^2 / 6 of a third derivative
   below 30 here: 5e-6. */
static void check_slope(const problem *p, const float *g, float *x, size_t i, float got)
{
    const float was = x[i], step = 1.0f / 1024.0f;
    double up, down;
    x[i] = was + step;
    up = whole_loss(p, g);
    x[i] = was - step;
    down = whole_loss(p, g);
    x[i] = was;
    RV_NEAR(got, (up - down) / (2.0 / 1024.0), 2e-5 * (1.0 + fabs((up - down) * 512.0)));
}

typedef struct slopes_of {
    float *g, *d_q, *d_k, *d_v;
    size_t n_q, n_k, n_v;
    float d_sinks[16];
    rv_attn_grad grad;
} slopes_of;

static void make_slopes(const problem *p, rv_test_rng *rng, slopes_of *s)
{
    const rv_attn_io *io = &p->io;
    const size_t n = io->n_q * heads_of(p) * wide_of(p);
    s->n_q = io->n_q * heads_of(p) * io->dim;
    s->n_k = io->n_k * kv_of(p) * io->dim;
    s->n_v = io->n_k * kv_of(p) * wide_of(p);
    s->g = (float *)need(n * sizeof(float));
    s->d_q = (float *)need(s->n_q * sizeof(float));
    s->d_k = (float *)need(s->n_k * sizeof(float));
    s->d_v = (float *)need(s->n_v * sizeof(float));
    rv_test_fill(rng, s->g, n);
    memset(&s->grad, 0, sizeof s->grad);
    s->grad.d_out = s->g;
    s->grad.d_q = s->d_q;
    s->grad.d_k = s->d_k;
    s->grad.d_v = s->d_v;
    s->grad.d_sinks = s->d_sinks;
}

static void drop_slopes(slopes_of *s)
{
    free(s->g);
    free(s->d_q);
    free(s->d_k);
    free(s->d_v);
}

static void test_slopes_by_differences(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 8);
    for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
        problem p;
        slopes_of s;
        if (rows[row].n_q * rows[row].n_k * rows[row].heads > 9000) continue;
        rv_test_row("shape", row);
        make(&p, row, &rng);
        coarse(p.q, p.io.n_q * heads_of(&p) * p.io.dim);
        coarse(p.sinks, 16);
        if (p.io.type == RV_DTYPE_F32) coarse(p.k, p.io.n_k * kv_of(&p) * p.io.dim);
        make_slopes(&p, &rng, &s);
        RV_OKAY(&ctx, rv_attn_backward(&ctx, &p.config, &p.io, &s.grad));
        for (size_t t = 0; t < (RV_TEST_SCALE > 16 ? 2 : 8); t++) {
            size_t at = rv_test_below(&rng, (uint32_t)s.n_q);
            check_slope(&p, s.g, p.q, at, s.d_q[at]);
            at = rv_test_below(&rng, (uint32_t)s.n_k);
            check_slope(&p, s.g, p.k, at, s.d_k[at]);
            at = rv_test_below(&rng, (uint32_t)s.n_v);
            check_slope(&p, s.g, p.v, at, s.d_v[at]);
            at = rv_test_below(&rng, (uint32_t)heads_of(&p));
            if (p.config.sinks) check_slope(&p, s.g, p.sinks, at, s.d_sinks[at]);
            else RV_CHECK(s.d_sinks[at] == 0.0f);
        }
        drop_slopes(&s);
        drop(&p);
    }
}

static rv_status pull_back(rv_ctx *ctx, void *arg)
{
    const void *const *both = (const void *const *)arg;
    const problem *p = (const problem *)both[0];
    const slopes_of *s = (const slopes_of *)both[1];
    return rv_attn_backward(ctx, &p->config, &p->io, &s->grad);
}

/* The same bits for any number of workers; what is not asked for is not written; faults. */
static void test_slopes_and_the_rest(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    slopes_of s;
    float *was, *out;
    const void *both[2];
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 9);
    memset(&p, 0, sizeof p);
    p.io.n_q = 70;
    p.io.n_k = 1100; /* shards */
    p.io.dim = 12;
    p.config.heads = 2;
    fill(&p, &rng);
    make_slopes(&p, &rng, &s);
    was = (float *)need(s.n_q * sizeof(float));
    RV_OKAY(&ctx, rv_attn_backward(&ctx, &p.config, &p.io, &s.grad));
    memcpy(was, s.d_q, s.n_q * sizeof(float));
    ctx.parallel = backwards;
    ctx.workers = 3;
    s.grad.d_k = s.grad.d_v = s.grad.d_sinks = NULL;
    memset(s.d_q, 0, s.n_q * sizeof(float));
    RV_OKAY(&ctx, rv_attn_backward(&ctx, &p.config, &p.io, &s.grad));
    RV_CHECK(memcmp(was, s.d_q, s.n_q * sizeof(float)) == 0);
    both[0] = &p;
    both[1] = &s;
    RV_CHECK(rv_test_oom_sweep(pull_back, both) >= 10);
    RV_CHECK(rv_test_cancel_sweep(pull_back, both) >= 4);
    rv_test_ctx(&ctx);
    RV_EQUAL(rv_attn_backward(&ctx, &p.config, &p.io, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_attn_backward(&ctx, &p.config, NULL, &s.grad), RV_ERR_ARG);
    s.grad.d_out = NULL;
    RV_EQUAL(rv_attn_backward(&ctx, &p.config, &p.io, &s.grad), RV_ERR_ARG);
    s.grad.d_out = s.g;
    p.io.n_k = 0;
    RV_EQUAL(rv_attn_backward(&ctx, &p.config, &p.io, &s.grad), RV_ERR_DIM);
    p.io.n_k = 5;
    p.io.n_q = 0;
    s.grad.d_k = s.d_k;
    s.grad.d_v = s.d_v;
    RV_OKAY(&ctx, rv_attn_backward(&ctx, &p.config, &p.io, &s.grad));
    for (size_t i = 0; i < 5 * 2 * 12; i++) RV_CHECK(s.d_k[i] == 0.0f && s.d_v[i] == 0.0f);
    /* queries that see nothing pull at nothing; out is not asked for */
    p.io.n_q = 70;
    out = p.io.out;
    p.io.out = NULL;
    memset(p.allow, 0, 70 * 5);
    p.mask.allow = p.allow;
    p.io.mask = &p.mask;
    RV_OKAY(&ctx, rv_attn_backward(&ctx, &p.config, &p.io, &s.grad));
    for (size_t i = 0; i < 5 * 2 * 12; i++) RV_CHECK(s.d_k[i] == 0.0f && s.d_v[i] == 0.0f);
    for (size_t i = 0; i < s.n_q; i++) RV_CHECK(s.d_q[i] == 0.0f);
    p.io.out = out;
    free(was);
    drop_slopes(&s);
    drop(&p);
}

/* Dropped weights are 0, the others weigh 1 / (1 - rate), about `rate` of them are dropped, and
   which is settled by seed and stream; slopes see the same ones. Raw weights are not divided. */
static void test_dropout_and_raw(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    slopes_of s;
    size_t dropped = 0;
    float out[6 * 50];
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 10);
    memset(&p, 0, sizeof p);
    p.io.n_q = 6;
    p.io.n_k = 50;
    p.io.dim = 4;
    p.io.dim_v = 50; /* values are unit vectors: out is the weights that count */
    fill(&p, &rng);
    make_slopes(&p, &rng, &s);
    for (size_t i = 0; i < 50 * 50; i++) p.v[i] = i % 51 ? 0.0f : 1.0f;
    p.config.dropout = 0.25f;
    RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < 6 * 50; i++) RV_NEAR(p.out[i], p.weights[i], 1e-7);
    p.config.training = 1;
    RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < 6 * 50; i++) {
        dropped += p.out[i] == 0.0f;
        if (p.out[i] != 0.0f) RV_NEAR(p.out[i], (double)p.weights[i] / 0.75, 2e-7);
    }
    RV_CHECK(dropped > 45 && dropped < 105); /* 75, four standard deviations of 7.5 */
    memcpy(out, p.out, sizeof out);
    /* d_v is the transpose of those weights times g, where g are unit vectors */
    memset(s.g, 0, 6 * 50 * sizeof(float));
    for (size_t i = 0; i < 6; i++) s.g[i * 50 + i] = 1.0f;
    RV_OKAY(&ctx, rv_attn_backward(&ctx, &p.config, &p.io, &s.grad));
    for (size_t j = 0; j < 50; j++)
        for (size_t i = 0; i < 6; i++) RV_NEAR(s.d_v[j * 50 + i], out[i * 50 + j], 2e-7);
    p.config.stream = 1;
    RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
    RV_CHECK(memcmp(out, p.out, sizeof out) != 0);
    p.config.training = 0;
    p.config.raw = 1;
    RV_OKAY(&ctx, rv_attn(&ctx, &p.config, &p.io));
    for (size_t i = 0; i < 6; i++) {
        double top = -1e300, mass;
        for (size_t j = 0; j < 50; j++) top = fmax(top, logit(&p, 0, i, j, &mass));
        for (size_t j = 0; j < 50; j++) {
            const double want = exp(logit(&p, 0, i, j, &mass) - top);
            RV_NEAR(p.out[i * 50 + j], want, 2e-6);
            RV_NEAR(p.weights[i * 50 + j], want, 2e-6);
        }
    }
    RV_EQUAL(rv_attn_backward(&ctx, &p.config, &p.io, &s.grad), RV_ERR_CONFIG);
    drop_slopes(&s);
    drop(&p);
}

/* ---- faults ---- */

static rv_status attend(rv_ctx *ctx, void *arg)
{
    const problem *p = (const problem *)arg;
    return rv_attn(ctx, &p->config, &p->io);
}

static void test_faults(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 7);
    for (size_t row = 3; row < 5; row++) {
        problem p;
        make(&p, row, &rng);
        RV_CHECK(rv_test_oom_sweep(attend, &p) >= 4);
        RV_CHECK(rv_test_cancel_sweep(attend, &p) >= 3);
        drop(&p);
    }
}

static void test_errors(void)
{
    float one[8] = {1, 0, 0, 0, 0, 0, 0, 0}, out[8];
    const float bad_slope = -1.0f, bad_sink = HUGE_VALF;
    rv_attn_config config;
    rv_attn_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    io.n_q = io.n_k = io.dim = 1;
    io.q = one;
    io.k = one;
    io.v = one;
    io.out = out;
    RV_OKAY(&ctx, rv_attn(&ctx, &config, &io));
    RV_CHECK(out[0] == 1.0f);
#define REFUSED(field, value, wanted, word)                                                        \
    do {                                                                                           \
        rv_attn_config config_was = config;                                                        \
        rv_attn_io io_was = io;                                                                    \
        field = value;                                                                             \
        out[0] = 5.0f;                                                                             \
        RV_EQUAL(rv_attn(&ctx, &config, &io), wanted);                                             \
        RV_CHECK(strstr(ctx.message, word) != NULL);                                               \
        RV_CHECK(out[0] == 5.0f);                                                                  \
        config = config_was;                                                                       \
        io = io_was;                                                                               \
    } while (0)
    RV_EQUAL(rv_attn(&ctx, &config, NULL), RV_ERR_ARG);
    REFUSED(io.q, NULL, RV_ERR_ARG, "q, k, v and out");
    REFUSED(io.k, NULL, RV_ERR_ARG, "q, k, v and out");
    REFUSED(io.v, NULL, RV_ERR_ARG, "q, k, v and out");
    REFUSED(io.out, NULL, RV_ERR_ARG, "q, k, v and out");
    REFUSED(io.n_k, 0, RV_ERR_DIM, "n_k is 0");
    REFUSED(io.dim, 0, RV_ERR_DIM, "dim is 0, allowed: 1..65535");
    REFUSED(io.dim, 65536, RV_ERR_DIM, "dim is 65536");
    REFUSED(io.dim_v, 65536, RV_ERR_DIM, "dim_v is 65536");
    REFUSED(io.n_q, (size_t)0x80000000u, RV_ERR_DIM, "below 2^31");
    REFUSED(io.type, RV_DTYPE_I8, RV_ERR_CONFIG, "type is i8");
    REFUSED(config.heads, 70000, RV_ERR_CONFIG, "heads is 70000");
    REFUSED(config.kv_heads, 2, RV_ERR_CONFIG, "multiple of kv_heads (2)");
    REFUSED(config.scale, (float)nan(""), RV_ERR_CONFIG, "scale");
    REFUSED(config.temperature, -1.0f, RV_ERR_CONFIG, "temperature");
    REFUSED(config.temperature, HUGE_VALF, RV_ERR_CONFIG, "temperature");
    REFUSED(config.softcap, -1.0f, RV_ERR_CONFIG, "softcap");
    REFUSED(config.dropout, 1.0f, RV_ERR_CONFIG, "dropout");
    REFUSED(config.order, (rv_attn_order)3, RV_ERR_CONFIG, "order is 3");
    REFUSED(config.slopes, &bad_slope, RV_ERR_CONFIG, "slopes[0]");
    REFUSED(config.sinks, &bad_sink, RV_ERR_CONFIG, "sinks[0]");
    io.dim = 2;
    REFUSED(io.q_stride, 1, RV_ERR_DIM, "q_stride is 1, must be at least heads * dim (2)");
    REFUSED(io.k_stride, 1, RV_ERR_DIM, "k_stride");
    REFUSED(io.v_stride, 1, RV_ERR_DIM, "v_stride");
    REFUSED(io.out_stride, 1, RV_ERR_DIM, "out_stride");
#undef REFUSED
    io.n_q = 0;
    RV_OKAY(&ctx, rv_attn(&ctx, &config, &io));
}

/* Press et al., 2022: 2^-1 ... 2^-8 of eight heads; of twelve the first eight are those, the others
   every second of sixteen. */
static void test_slopes(void)
{
    float slopes[12];
    rv_attn_slopes(8, slopes);
    for (int h = 0; h < 8; h++) RV_CHECK(slopes[h] == (float)ldexp(1.0, -(h + 1)));
    rv_attn_slopes(12, slopes);
    for (int h = 0; h < 8; h++) RV_CHECK(slopes[h] == (float)ldexp(1.0, -(h + 1)));
    for (int h = 8; h < 12; h++)
        RV_NEAR(slopes[h], pow(2.0, -0.5 * (2 * (h - 8) + 1)), 1e-7);
}

int main(void)
{
    rv_test_begin("attn");
    RV_RUN(test_definition);
    RV_RUN(test_identities);
    RV_RUN(test_logits);
    RV_RUN(test_merge);
    RV_RUN(test_workers_and_strides);
    RV_RUN(test_nan);
    RV_RUN(test_slopes_by_differences);
    RV_RUN(test_slopes_and_the_rest);
    RV_RUN(test_dropout_and_raw);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    RV_RUN(test_slopes);
    return rv_test_end();
}
