/* Attention across a graph and a latent space: torch, a definition in double, slopes, faults. */
#include "attn_position_set.h"

#include "golden/attn_position_graph.h"

enum { MOST = 40 };

typedef struct cross_problem {
    problem p;
    rv_attn_cross_config config;
    rv_csr graph, near_by;
    uint32_t start[MOST + 1], index[MOST * MOST], near_start[MOST + 1], near_index[MOST * MOST];
    float latent[MOST * 3];
} cross_problem;

static cross_problem z;

/* The k nearest by sorting all, into near_start and near_index; rows: [n, dim]. */
static void find_near(cross_problem *g, const float *rows, size_t stride, size_t dim, size_t k)
{
    const size_t n = g->p.io.n_k;
    uint32_t at = 0;
    g->near_start[0] = 0;
    for (size_t i = 0; i < n; i++) {
        double gap[MOST];
        for (size_t j = 0; j < n; j++) {
            gap[j] = 0;
            for (size_t x = 0; x < dim; x++)
                gap[j] += pow((double)rows[i * stride + x] - (double)rows[j * stride + x], 2);
        }
        for (size_t j = 0; j < n; j++) {
            size_t nearer = 0;
            for (size_t m = 0; m < n; m++)
                nearer += m != i && (gap[m] < gap[j] || (gap[m] <= gap[j] && m < j));
            if (j != i && nearer < k) g->near_index[at++] = (uint32_t)j;
        }
        g->near_start[i + 1] = at;
    }
}

/* Attention of a query row over a list; adds share times the weights to w. */
static void part_of(const cross_problem *g, const uint32_t *start, const uint32_t *index,
                    const double *q, size_t h, size_t i, double share, double *out, double *w)
{
    const problem *p = &g->p;
    const size_t dim = p->io.dim, kv = kv_of(p), of = h * kv / heads_of(p);
    const double cap = (double)p->base.softcap;
    double s[MOST], top = -HUGE_VAL, sum = 0;
    const uint32_t begin = start[i], n = start[i + 1] - begin;
    for (size_t x = 0; x < dim; x++) out[x] = 0;
    for (uint32_t e = 0; e < n; e++) {
        const size_t j = index[begin + e], pair = (h * p->io.n_q + i) * p->io.n_k + j;
        s[e] = 0;
        for (size_t x = 0; x < dim; x++) s[e] += q[x] * (double)p->k[(j * kv + of) * dim + x];
        s[e] /= sqrt((double)dim);
        if (cap > 0) s[e] = cap * tanh(s[e] / cap);
        if (p->mask.add) s[e] += (double)p->add[pair];
        if (p->mask.allow && !p->allow[pair]) s[e] = -HUGE_VAL;
        top = s[e] > top ? s[e] : top;
    }
    if (top < -1e300) return;
    for (uint32_t e = 0; e < n; e++) sum += exp(s[e] - top);
    for (uint32_t e = 0; e < n; e++) {
        const double x = exp(s[e] - top) / sum;
        const float *v = p->v + (index[begin + e] * kv + of) * dim;
        for (size_t t = 0; t < dim; t++) out[t] += x * (double)v[t];
        w[index[begin + e]] += share * x;
    }
}

/* A row of out, [heads * dim], and its weights, [heads, n_k]. */
static void row_of(const cross_problem *g, size_t i, double *out, double *w)
{
    const problem *p = &g->p;
    const size_t dim = p->io.dim, heads = heads_of(p), wide = heads * dim, n_k = p->io.n_k;
    double parts[3 * 32];
    memset(w, 0, heads * n_k * sizeof *w);
    for (size_t h = 0; h < heads; h++) {
        double q[16];
        for (size_t x = 0; x < dim; x++) q[x] = (double)p->q[i * wide + h * dim + x];
        part_of(g, g->start, g->index, q, h, i, 1.0 / 3, parts + h * dim, w + h * n_k);
        part_of(g, g->near_start, g->near_index, q, h, i, 1.0 / 3, parts + wide + h * dim,
                w + h * n_k);
        part_of(g, g->near_start, g->near_index, parts + h * dim, h, i, 1.0 / 3,
                parts + 2 * wide + h * dim, w + h * n_k);
    }
    for (size_t x = 0; x < wide; x++) {
        out[x] = (parts[x] + parts[wide + x] + parts[2 * wide + x]) / 3;
        if (!g->config.params) continue;
        out[x] = 0;
        for (size_t t = 0; t < 3 * wide; t++)
            out[x] += (double)p->params[x * 3 * wide + t] * parts[t];
    }
}

static double cross_loss(void *arg)
{
    const cross_problem *g = (const cross_problem *)arg;
    const size_t wide = heads_of(&g->p) * g->p.io.dim;
    double out[32], w[4 * MOST], sum = 0;
    for (size_t i = 0; i < g->p.io.n_q; i++) {
        row_of(g, i, out, w);
        for (size_t x = 0; x < wide; x++) sum += out[x] * (double)g->p.d_out[i * wide + x];
    }
    return sum;
}

/* n nodes, heads of dim, W where with_w. */
static void set_up_cross(cross_problem *g, size_t n, size_t heads, size_t kv_heads, size_t dim,
                         int with_w, rv_test_rng *rng)
{
    problem *p = &g->p;
    memset(g, 0, sizeof *g);
    p->io.n_q = p->io.n_k = n;
    p->io.dim = dim;
    p->base.heads = (uint32_t)heads;
    p->base.kv_heads = (uint32_t)kv_heads;
    p->n_params = with_w ? 3 * heads * dim * heads * dim : 0;
    set_up(p, rng);
    for (size_t x = 0; x < p->n_params; x++) p->params[x] *= 0.25f;
    g->graph.rows = g->graph.cols = g->near_by.rows = g->near_by.cols = n;
    g->graph.start = g->start;
    g->graph.index = g->index;
    g->near_by.start = g->near_start;
    g->near_by.index = g->near_index;
    g->config.graph = &g->graph;
    g->config.params = with_w ? p->params : NULL;
    g->config.base = p->base;
    rv_test_fill(rng, g->latent, n * 3);
    for (size_t i = 0; i < n; i++) {
        uint32_t at = g->start[i];
        for (size_t j = 0; j < n; j++)
            if (i % 7 != 3 && rv_test_below(rng, n) < 4) g->index[at++] = (uint32_t)j;
        g->start[i + 1] = at;
    }
}

static void test_golden(void)
{
    static const uint32_t start[7] = {0, 2, 4, 5, 6, 7, 7}, index[7] = {1, 2, 0, 3, 3, 4, 0};
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (int form = 0; form < 3; form++) {
        problem *p = &z.p;
        rv_test_row("golden", (size_t)form);
        set_up_cross(&z, 6, 2, 1, 4, form == 1, &rng);
        memcpy(z.start, start, sizeof start);
        memcpy(z.index, index, sizeof index);
        grid(1, p->q, 48);
        grid(2, p->k, 24);
        grid(3, p->v, 24);
        grid(4, p->params, p->n_params);
        grid(9, p->d_out, 48);
        if (form == 2) {
            z.config.near_by = &z.graph;
        } else {
            z.config.latent = grid(6, z.latent, 18);
            z.config.latent_dim = 3;
            z.config.k_latent = 2;
        }
        RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
        CHECK_ALL(p->out, rv_golden_cross[form].out, 48, 5e-6);
        CHECK_ALL(p->weights, rv_golden_cross[form].weights, 72, 5e-6);
        RV_OKAY(&ctx, rv_attn_cross_backward(&ctx, &z.config, &p->io, &p->grad));
        CHECK_ALL(p->d_q, rv_golden_cross[form].d_q, 48, 1e-5);
        CHECK_ALL(p->d_k, rv_golden_cross[form].d_k, 24, 1e-5);
        CHECK_ALL(p->d_v, rv_golden_cross[form].d_v, 24, 1e-5);
        CHECK_ALL(p->d_params, rv_golden_cross[form].d_params, p->n_params, 1e-5);
        drop(p);
    }
}

enum { WITH_W = 1, ADD = 2, ALLOW = 4, CAP = 8, LATENT = 16, GIVEN = 32 };

static const struct {
    size_t n, heads, kv_heads, dim, k;
    unsigned with;
} rows[] = {
    {5, 1, 1, 4, 2, LATENT},
    {7, 2, 1, 4, 3, LATENT | WITH_W | CAP},
    {6, 2, 2, 3, 10, LATENT | ALLOW},
    {8, 2, 1, 5, 0, GIVEN | ADD},
    {40, 2, 1, 16, 10, ALLOW},
    {33, 4, 2, 8, 5, WITH_W | ADD | CAP},
    {30, 1, 1, 16, 0, 0},
};

static void make(cross_problem *g, size_t row, rv_test_rng *rng)
{
    problem *p = &g->p;
    const unsigned with = rows[row].with;
    const size_t k = rows[row].k ? rows[row].k : 10;
    const size_t width = rows[row].kv_heads * rows[row].dim;
    set_up_cross(g, rows[row].n, rows[row].heads, rows[row].kv_heads, rows[row].dim,
                 (with & WITH_W) != 0, rng);
    if (with & (LATENT | GIVEN)) find_near(g, g->latent, 3, 3, k);
    else find_near(g, p->k, width, width, k);
    if (with & LATENT) {
        g->config.latent = g->latent;
        g->config.latent_dim = 3;
    }
    if (with & GIVEN) g->config.near_by = &g->near_by;
    else g->config.k_latent = (uint32_t)rows[row].k;
    if (with & CAP) p->base.softcap = 0.75f;
    if (with & ADD) p->mask.add = p->add;
    if (with & ALLOW) p->mask.allow = p->allow;
    p->mask.add_head = p->mask.allow_head = p->io.n_q * p->io.n_k;
    if (with & (ADD | ALLOW)) p->io.mask = &p->mask;
    g->config.base = p->base;
}

static void test_definition(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
        problem *p = &z.p;
        const size_t n = rows[row].n, heads = rows[row].heads, wide = heads * rows[row].dim;
        if (RV_TEST_SCALE > 16 && row > 3) break;
        rv_test_row("shape", row);
        make(&z, row, &rng);
        RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
        for (size_t i = 0; i < n; i++) {
            double out[32], w[4 * MOST];
            row_of(&z, i, out, w);
            for (size_t x = 0; x < wide; x++) RV_NEAR(p->out[i * wide + x], out[x], 4e-6);
            for (size_t x = 0; x < heads * n; x++)
                RV_NEAR(p->weights[(x / n * n + i) * n + x % n], w[x], 2e-6);
        }
        if (row < 4) {
            const double h = 1.0 / 64, e = 2e-5;
            RV_OKAY(&ctx, rv_attn_cross_backward(&ctx, &z.config, &p->io, &p->grad));
            check_slopes(cross_loss, &z, p->q, p->d_q, n * wide, h, e);
            check_slopes(cross_loss, &z, p->k, p->d_k, n * rows[row].kv_heads * p->io.dim, h, e);
            check_slopes(cross_loss, &z, p->v, p->d_v, n * rows[row].kv_heads * p->io.dim, h, e);
            check_slopes(cross_loss, &z, p->params, p->d_params, p->n_params, h, e);
        }
        drop(p);
    }
}

/* The same lists: the first two parts are equal; W that takes a part gives that part; values of one
   give one; equal keys share the weight; narrow keys and values are what they stand for. */
static void test_identities(void)
{
    float a[80];
    rv_ctx ctx;
    rv_test_rng rng;
    problem *p = &z.p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    set_up_cross(&z, 10, 2, 1, 4, 1, &rng);
    z.config.near_by = &z.graph;
    for (size_t part = 0; part < 2; part++) {
        memset(p->params, 0, p->n_params * sizeof(float));
        for (size_t x = 0; x < 8; x++) p->params[x * 24 + part * 8 + x] = 1.0f;
        RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
        if (part == 0) memcpy(a, p->out, sizeof a);
    }
    RV_CHECK(memcmp(a, p->out, sizeof a) == 0);
    { /* and it is dense attention under a mask */
        memset(p->allow, 0, 100);
        for (size_t i = 0; i < 10; i++)
            for (uint32_t e = z.start[i]; e < z.start[i + 1]; e++)
                p->allow[i * 10 + z.index[e]] = 1;
        p->mask.allow = p->allow;
        p->io.mask = &p->mask;
        RV_OKAY(&ctx, rv_attn(&ctx, &p->base, &p->io));
        for (size_t x = 0; x < 80; x++) RV_NEAR(a[x], p->out[x], 2e-6);
        p->io.mask = NULL;
    }
    rv_convert_f32_to_f16(p->k, p->k16, 40);
    rv_convert_f32_to_f16(p->v, p->v16, 40);
    rv_convert_f16_to_f32(p->k16, p->k, 40);
    rv_convert_f16_to_f32(p->v16, p->v, 40);
    RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
    RV_OKAY(&ctx, rv_attn_cross_backward(&ctx, &z.config, &p->io, &p->grad));
    memcpy(a, p->d_k, 40 * sizeof(float));
    memcpy(a + 40, p->out, 40 * sizeof(float));
    p->io.type = RV_DTYPE_F16;
    p->io.k = p->k16;
    p->io.v = p->v16;
    RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
    RV_OKAY(&ctx, rv_attn_cross_backward(&ctx, &z.config, &p->io, &p->grad));
    for (size_t x = 0; x < 40; x++) RV_NEAR(a[x], p->d_k[x], 1e-6);
    for (size_t x = 0; x < 40; x++) RV_NEAR(a[40 + x], p->out[x], 1e-6);
    z.config.near_by = NULL;
    RV_FAILS(&ctx, rv_attn_cross(&ctx, &z.config, &p->io), RV_ERR_CONFIG, "k is not F32");
    p->io.type = RV_DTYPE_F32;
    p->io.k = p->k;
    p->io.v = p->v;
    z.config.params = NULL;
    z.config.k_latent = 4;
    memset(p->k, 0, 40 * sizeof(float));
    for (size_t x = 0; x < 40; x++) p->v[x] = 1.0f;
    for (size_t x = 0; x < 200; x++) p->add[x] = x % 2 ? 1000.0f : -1000.0f;
    for (int big = 0; big < 2; big++) {
        p->mask.allow = NULL;
        p->mask.add = big ? p->add : NULL;
        p->mask.add_head = 100;
        p->io.mask = &p->mask;
        RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
        for (size_t x = 0; x < 80; x++)
            RV_NEAR(p->out[x], z.start[x / 8] == z.start[x / 8 + 1] ? 2.0 / 3 : 1, 4e-7);
    }
    p->mask.add = NULL; /* all distances are 0: the lists are the first four others */
    RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
    for (size_t j = 0; j < 10; j++)
        RV_NEAR(p->weights[30 + j], j < 5 && j != 3 ? 2.0 / 12 : 0, 1e-7);
    p->io.n_q = p->io.n_k = z.graph.rows = z.graph.cols = 1; /* no other key at all */
    z.start[1] = 0;
    RV_OKAY(&ctx, rv_attn_cross(&ctx, &z.config, &p->io));
    for (size_t x = 0; x < 8; x++) RV_CHECK(p->out[x] == 0.0f);
    drop(p);
}

/* ---- faults ---- */

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static rv_status both(rv_ctx *ctx, void *arg)
{
    cross_problem *g = (cross_problem *)arg;
    rv_status status = rv_attn_cross(ctx, &g->config, &g->p.io);
    return status ? status : rv_attn_cross_backward(ctx, &g->config, &g->p.io, &g->p.grad);
}

static void test_faults(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    for (size_t row = 1; row < (RV_TEST_SCALE > 16 ? 2u : 7u); row++) {
        float *d_k, *out;
        size_t n_k, n_out;
        rv_test_row("shape", row);
        make(&z, row, &rng);
        n_k = z.p.io.n_k * kv_of(&z.p) * z.p.io.dim;
        n_out = z.p.io.n_q * heads_of(&z.p) * z.p.io.dim;
        d_k = floats(n_k);
        out = floats(n_out);
        RV_OKAY(&ctx, both(&ctx, &z));
        memcpy(d_k, z.p.d_k, n_k * sizeof(float));
        memcpy(out, z.p.out, n_out * sizeof(float));
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, both(&ctx, &z));
        ctx.parallel = NULL;
        ctx.workers = 0;
        RV_CHECK(memcmp(d_k, z.p.d_k, n_k * sizeof(float)) == 0);
        RV_CHECK(memcmp(out, z.p.out, n_out * sizeof(float)) == 0);
        RV_CHECK(rv_test_oom_sweep(both, &z) >= 5);
        RV_CHECK(rv_test_cancel_sweep(both, &z) >= 4);
        free(out);
        free(d_k);
        drop(&z.p);
    }
}

static void test_errors(void)
{
    float slope[2] = {0, 0}, params[200];
    rv_csr bad;
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    set_up_cross(&z, 10, 2, 1, 4, 0, &rng);
    bad = z.graph;
    bad.cols = 11;
#define REFUSED(field, value, wanted, word)                                                        \
    do {                                                                                           \
        rv_attn_cross_config was = z.config;                                                       \
        rv_attn_io io_was = z.p.io;                                                                \
        field = value;                                                                             \
        z.p.out[0] = 5.0f;                                                                         \
        RV_FAILS(&ctx, rv_attn_cross(&ctx, &z.config, &z.p.io), wanted, word);                     \
        RV_FAILS(&ctx, rv_attn_cross_backward(&ctx, &z.config, &z.p.io, &z.p.grad), wanted, word); \
        RV_CHECK(z.p.out[0] == 5.0f);                                                              \
        z.config = was;                                                                            \
        z.p.io = io_was;                                                                           \
    } while (0)
    REFUSED(z.config.base.order, RV_ATTN_CAUSAL, RV_ERR_CONFIG, "order has no meaning");
    REFUSED(z.config.base.past, 1, RV_ERR_CONFIG, "past has no meaning");
    REFUSED(z.config.base.windowed, 1, RV_ERR_CONFIG, "windowed has no meaning");
    REFUSED(z.config.base.slopes, slope, RV_ERR_CONFIG, "slopes has no meaning");
    REFUSED(z.config.base.sinks, slope, RV_ERR_CONFIG, "sinks has no meaning");
    REFUSED(z.config.base.raw, 1, RV_ERR_CONFIG, "raw has no meaning");
    z.config.base.training = 1;
    REFUSED(z.config.base.dropout, 0.5f, RV_ERR_CONFIG, "dropout has no meaning");
    z.config.base.training = 0;
    REFUSED(z.p.io.lse, z.p.lse, RV_ERR_CONFIG, "lse has no meaning");
    REFUSED(z.p.io.dim_v, 3, RV_ERR_DIM, "dim_v is 3");
    REFUSED(z.config.graph, NULL, RV_ERR_ARG, "graph is NULL");
    REFUSED(z.config.graph, &bad, RV_ERR_DIM, "[10, 11]");
    REFUSED(z.config.near_by, &bad, RV_ERR_DIM, "[10, 11]");
    REFUSED(z.config.k_latent, 4097, RV_ERR_CONFIG, "k_latent is 4097");
    REFUSED(z.config.latent_dim, 3, RV_ERR_DIM, "latent_dim (3)");
    bad = z.graph;
    bad.rows = 9;
    z.config.graph = &bad;
    REFUSED(z.p.io.n_q, 9, RV_ERR_DIM, "n_q (9) must be n_k (10)");
    z.config.graph = &z.graph;
    z.config.near_by = &z.graph;
    REFUSED(z.config.k_latent, 3, RV_ERR_CONFIG, "no meaning with near_by");
    z.config.near_by = NULL;
#undef REFUSED
    RV_FAILS(&ctx, rv_attn_cross(&ctx, NULL, &z.p.io), RV_ERR_ARG, "config is NULL");
    RV_FAILS(&ctx, rv_attn_cross_backward(&ctx, &z.config, &z.p.io, NULL), RV_ERR_ARG,
             "grad is NULL");
    RV_EQUAL(rv_attn_cross_params(&z.config, &z.p.io), 192);
    RV_OKAY(&ctx, rv_attn_cross_init(&ctx, &z.config, &z.p.io, params));
    for (size_t x = 0; x < 192; x++) RV_CHECK(params[x] != 0.0f && fabsf(params[x]) <= 0.4331f);
    RV_FAILS(&ctx, rv_attn_cross_init(&ctx, &z.config, &z.p.io, NULL), RV_ERR_ARG, "NULL");
    drop(&z.p);
}

int main(void)
{
    rv_test_begin("attn_position_cross");
    RV_RUN(test_golden);
    RV_RUN(test_definition);
    RV_RUN(test_identities);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    return rv_test_end();
}
