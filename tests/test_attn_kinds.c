/* Every attention mechanism of the table: what all have in common. */
#include "rv_test.h"

enum { N = 24, DIM = 8, HEADS = 2, WIDE = 4 * DIM, MOST = 4096 };

/* One problem for all, and what some of them need besides. */
typedef struct problem {
    rv_attn_io io;
    rv_csr graph;
    rv_gate gate;
    float q[N * WIDE], k[N * WIDE], v[N * WIDE], out[N * WIDE], weights[4 * N * N];
    float d_q[N * WIDE], d_k[N * WIDE], d_v[N * WIDE], d_params[MOST], params[MOST];
    float distance[N], edges[2 * N * 3], sinks[HEADS];
    uint8_t layer[N], blocks[1], allow[N * N];
    uint32_t start[N + 1], index[2 * N];
    rv_attn_mask mask;
} problem;

typedef union any_config {
    rv_attn_config base;
    rv_attn_heads_config heads;
    rv_attn_sparse_config sparse;
    rv_attn_gnn_config gnn;
    rv_attn_graph_rope_config graph_rope;
    rv_attn_layer_config layer;
    rv_attn_structural_config structural;
    rv_attn_cross_config cross;
    rv_attn_topology_config topology;
    unsigned char bytes[1024];
} any_config;

static int is(const rv_attn_kind *kind, const char *name)
{
    return strcmp(kind->name, name) == 0;
}

static int is_layer(const rv_attn_kind *kind)
{
    return strcmp(kind->config, "rv_attn_gnn_config") == 0;
}

/* A ring of nodes, each joined to the two beside it. */
static void make_graph(problem *p)
{
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t a = (i + N - 1) % N, b = (i + 1) % N;
        p->start[i] = 2 * i;
        p->index[2 * i] = a < b ? a : b;
        p->index[2 * i + 1] = a < b ? b : a;
    }
    p->start[N] = 2 * N;
    p->graph.rows = p->graph.cols = N;
    p->graph.start = p->start;
    p->graph.index = p->index;
}

static void make(problem *p, float size)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    memset(p, 0, sizeof *p);
    rv_test_fill(&rng, p->q, N * WIDE);
    rv_test_fill(&rng, p->k, N * WIDE);
    rv_test_fill(&rng, p->v, N * WIDE);
    rv_test_fill(&rng, p->edges, 2 * N * 3);
    for (size_t i = 0; i < N * WIDE; i++) p->q[i] *= size;
    for (size_t i = 0; i < N; i++) {
        p->distance[i] = (float)(i % 5);
        p->layer[i] = (uint8_t)(i % 3);
    }
    p->blocks[0] = 1;
    p->sinks[0] = 0.5f;
    make_graph(p);
    RV_OKAY(&ctx, rv_gate_init(&ctx, &p->gate, NULL));
    p->io.n_q = p->io.n_k = N;
    p->io.dim = DIM;
    p->io.q = p->q;
    p->io.k = p->k;
    p->io.v = p->v;
    p->io.out = p->out;
}

/* Defaults, two heads, and what the mechanism cannot do without. */
static void make_config(const rv_attn_kind *kind, problem *p, any_config *c)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(c, 0, sizeof *c);
    RV_CHECK(kind->config_bytes <= sizeof *c);
    if (!is_layer(kind)) c->base.heads = HEADS;
    if (is(kind, "softcap_sinks")) c->base.sinks = p->sinks;
    if (is(kind, "custom_mask")) c->sparse.graph = &p->graph;
    if (is(kind, "block_sparse")) c->sparse.blocks = p->blocks;
    if (is(kind, "graph_rope")) c->graph_rope.distance = p->distance;
    if (is(kind, "hnsw_layer")) c->layer.q_layer = c->layer.k_layer = p->layer;
    if (is(kind, "structural")) c->structural.graph = &p->graph;
    if (is(kind, "cross_space")) c->cross.graph = &p->graph;
    if (is(kind, "topology_gated")) c->topology.gate = &p->gate;
    if (is(kind, "mla")) p->io.v = NULL;
    if (is_layer(kind)) {
        c->gnn.graph = &p->graph;
        c->gnn.layer.heads = HEADS;
        p->io.q = (const float *)p->io.k;
        p->io.v = NULL;
        if (is(kind, "edge_featured")) {
            c->gnn.edges = p->edges;
            c->gnn.edge_dim = 3;
        }
    }
    if (kind->params) {
        const size_t n = kind->params(c, &p->io);
        const float *params = p->params;
        RV_CHECK(n > 0 && n <= MOST);
        RV_OKAY(&ctx, kind->init(&ctx, c, &p->io, p->params));
        memcpy(c->bytes + kind->params_at, &params, sizeof params);
    }
}

static size_t width_out(const rv_attn_kind *kind)
{
    return is(kind, "lorentz_cascade") ? DIM : HEADS * DIM;
}

static size_t width_of_keys(const rv_attn_kind *kind)
{
    return is_layer(kind) || is(kind, "gqa") || is(kind, "mqa") ? DIM : HEADS * DIM;
}

static int all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

/* ---- the table itself ---- */

static void test_table(void)
{
    size_t n = 0;
    for (; rv_attn_kind_at(n); n++) {
        const rv_attn_kind *kind = rv_attn_kind_at(n);
        RV_CHECK(rv_attn_find(kind->name) == kind);
        RV_CHECK(n == 0 || kind->number > rv_attn_kind_at(n - 1)->number);
        RV_CHECK(kind->cost[0] && kind->source[0] && kind->config[0] && kind->run);
        RV_CHECK((kind->backward != NULL) == (kind->no_backward == NULL));
        RV_CHECK((kind->params != NULL) == (kind->init != NULL));
        RV_CHECK((kind->params != NULL) == (kind->params_at != 0));
        RV_CHECK(((kind->flags & RV_ATTN_KIND_NEEDS) != 0) == (kind->needs != NULL));
        RV_CHECK(kind->config_bytes >= sizeof(rv_attn_config));
    }
    RV_CHECK(n >= 52);
    RV_CHECK(rv_attn_find("no such") == NULL && rv_attn_find(NULL) == NULL);
}

/* ---- forward ---- */

static void run_kind(const rv_attn_kind *kind, problem *p, const any_config *c)
{
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, kind->run(&ctx, c, &p->io));
}

/* Weights are made of logits and their logarithmic sum, both as floats: where those are some 3000,
   their last place is 1.2e-4. */
static void check_sums(const problem *p, float size)
{
    for (size_t r = 0; r < HEADS * N; r++) {
        double sum = 0;
        for (size_t j = 0; j < p->io.n_k; j++) sum += (double)p->weights[r * p->io.n_k + j];
        RV_NEAR(sum, 1, size > 1.0f ? 3e-4 : 1e-5);
    }
}

static void test_forward(void)
{
    static const float sizes[] = {1.0f, 1000.0f};
    static problem p;
    for (size_t i = 0; rv_attn_kind_at(i); i++) {
        const rv_attn_kind *kind = rv_attn_kind_at(i);
        for (size_t s = 0; s < RV_COUNT_OF(sizes); s++) {
            any_config c;
            rv_test_row(kind->name, s);
            if (is(kind, "rff") && s) continue; /* denominators vanish, as it says */
            make(&p, sizes[s]);
            make_config(kind, &p, &c);
            if (kind->flags & RV_ATTN_KIND_SUMS) p.io.weights = p.weights;
            if (kind->flags & RV_ATTN_KIND_MEAN)
                for (size_t x = 0; x < N * WIDE; x++) p.v[x] = 1.0f;
            if (kind->params && kind->params_at && is(kind, "multi_head")) {
                const float *none = NULL;
                memcpy(c.bytes + kind->params_at, &none, sizeof none);
            }
            run_kind(kind, &p, &c);
            RV_CHECK(all_finite(p.out, N * width_out(kind)));
            if (kind->flags & RV_ATTN_KIND_SUMS) check_sums(&p, sizes[s]);
            if (is(kind, "cross_space")) continue;
            for (size_t x = 0; x < N * HEADS * DIM && (kind->flags & RV_ATTN_KIND_MEAN); x++)
                RV_NEAR(p.out[x], 1, 1e-5);
        }
    }
}

/* One key has all of the weight; where nothing may be seen, out is zeros. */
static void test_few_keys(void)
{
    static problem p;
    for (size_t i = 0; rv_attn_kind_at(i); i++) {
        const rv_attn_kind *kind = rv_attn_kind_at(i);
        any_config c;
        rv_test_row(kind->name, 0);
        if ((kind->flags & (RV_ATTN_KIND_SUMS | RV_ATTN_KIND_NEEDS)) == RV_ATTN_KIND_SUMS) {
            make(&p, 1.0f);
            p.io.n_q = p.io.n_k = 1;
            make_config(kind, &p, &c);
            p.io.weights = p.weights;
            run_kind(kind, &p, &c);
            RV_NEAR(p.weights[0], 1, 1e-6);
            RV_NEAR(p.weights[1], 1, 1e-6);
        }
        if (!(kind->flags & RV_ATTN_KIND_MASK) || kind->flags & RV_ATTN_KIND_NEEDS) continue;
        make(&p, 1.0f);
        make_config(kind, &p, &c);
        if (is(kind, "multi_head")) c.heads.params = NULL;
        p.mask.allow = p.allow;
        p.io.mask = &p.mask;
        for (size_t x = 0; x < N * WIDE; x++) p.out[x] = 7.0f;
        run_kind(kind, &p, &c);
        for (size_t x = 0; x < N * width_out(kind); x++) RV_CHECK(p.out[x] == 0.0f);
    }
}

/* ---- the same bits whoever works ---- */

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    for (size_t i = n; i-- > 0;) body(arg, i);
}

static void test_workers(void)
{
    static problem p, other;
    for (size_t i = 0; rv_attn_kind_at(i); i++) {
        const rv_attn_kind *kind = rv_attn_kind_at(i);
        any_config c;
        rv_ctx ctx;
        rv_test_row(kind->name, 0);
        make(&p, 1.0f);
        make_config(kind, &p, &c);
        run_kind(kind, &p, &c);
        make(&other, 1.0f);
        make_config(kind, &other, &c);
        rv_test_ctx(&ctx);
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, kind->run(&ctx, &c, &other.io));
        RV_CHECK(memcmp(p.out, other.out, sizeof p.out) == 0);
    }
}

/* ---- slopes ---- */

static void test_backward(void)
{
    static problem p;
    for (size_t i = 0; rv_attn_kind_at(i); i++) {
        const rv_attn_kind *kind = rv_attn_kind_at(i);
        any_config c;
        rv_attn_grad grad;
        rv_ctx ctx;
        rv_test_row(kind->name, 0);
        if (!kind->backward) continue;
        make(&p, 1.0f);
        make_config(kind, &p, &c);
        memset(&grad, 0, sizeof grad);
        rv_test_ctx(&ctx);
        RV_CHECK(kind->backward(&ctx, &c, &p.io, &grad) == RV_ERR_ARG); /* no d_out */
        grad.d_out = p.v;
        grad.d_q = p.d_q;
        grad.d_k = p.d_k;
        if (p.io.v) grad.d_v = p.d_v;
        if (kind->params) grad.d_params = p.d_params;
        for (size_t x = 0; x < N * width_of_keys(kind); x++) p.d_k[x] = (float)HUGE_VAL;
        RV_OKAY(&ctx, kind->backward(&ctx, &c, &p.io, &grad));
        RV_CHECK(all_finite(p.d_q, N * HEADS * DIM));
        RV_CHECK(all_finite(p.d_k, N * width_of_keys(kind)));
        RV_CHECK(all_finite(p.d_v, N * HEADS * DIM));
        if (kind->params) RV_CHECK(all_finite(p.d_params, kind->params(&c, &p.io)));
    }
}

/* ---- wrong input, faults ---- */

typedef struct call {
    const rv_attn_kind *kind;
    const any_config *config;
    const rv_attn_io *io;
} call;

static rv_status do_call(rv_ctx *ctx, void *arg)
{
    const call *c = (const call *)arg;
    return c->kind->run(ctx, c->config, c->io);
}

static void test_wrong(void)
{
    static problem p;
    for (size_t i = 0; rv_attn_kind_at(i); i++) {
        const rv_attn_kind *kind = rv_attn_kind_at(i);
        any_config c;
        call one;
        rv_ctx ctx;
        rv_test_row(kind->name, 0);
        make(&p, 1.0f);
        make_config(kind, &p, &c);
        rv_test_ctx(&ctx);
        RV_CHECK(kind->run(&ctx, &c, NULL) != RV_OK && ctx.message[0]);
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        const rv_attn_io was = p.io;                                                               \
        p.io.field = value;                                                                        \
        p.out[0] = 5.0f;                                                                           \
        rv_test_ctx(&ctx);                                                                         \
        RV_CHECK(kind->run(&ctx, &c, &p.io) != RV_OK);                                             \
        RV_CHECK(ctx.message[0] != 0 && p.out[0] == 5.0f);                                         \
        p.io = was;                                                                                \
    } while (0)
        REFUSED(n_k, 0);
        REFUSED(dim, 0);
        REFUSED(dim, 70000);
        REFUSED(k, NULL);
        REFUSED(out, NULL);
        REFUSED(type, RV_DTYPE_I8);
#undef REFUSED
        one.kind = kind;
        one.config = &c;
        one.io = &p.io;
        RV_CHECK(rv_test_oom_sweep(do_call, &one) >= 1);
    }
}

/* ---- ring, cache ---- */

/* Any number of shards gives what one call gives. */
static void test_ring(void)
{
    static const size_t shards[] = {1, 2, 3, 7, N}, queries[] = {1, 5, N, N + 9};
    static problem p;
    static float want[(N + 9) * WIDE], q[(N + 9) * WIDE], out[(N + 9) * WIDE];
    float want_lse[HEADS * (N + 9)], lse[HEADS * (N + 9)];
    rv_test_rng rng;
    rv_test_seed(&rng, 4);
    rv_test_fill(&rng, q, (N + 9) * WIDE);
    for (size_t row = 0; row < RV_COUNT_OF(shards) * RV_COUNT_OF(queries) * 2; row++) {
        const size_t n_q = queries[row / 2 % RV_COUNT_OF(queries)];
        rv_attn_ring_config ring;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("ring", row);
        make(&p, 1.0f);
        memset(&ring, 0, sizeof ring);
        ring.shards = shards[row / 2 / RV_COUNT_OF(queries)];
        ring.base.heads = HEADS;
        ring.base.order = row % 2 ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
        if (row % 3 == 0) ring.base.sinks = p.sinks;
        p.io.n_q = n_q;
        p.io.q = q;
        p.io.out = want;
        p.io.lse = want_lse;
        RV_OKAY(&ctx, rv_attn(&ctx, &ring.base, &p.io));
        p.io.out = out;
        p.io.lse = lse;
        RV_OKAY(&ctx, rv_attn_ring(&ctx, &ring, &p.io));
        for (size_t i = 0; i < n_q * HEADS * DIM; i++) RV_NEAR(out[i], want[i], 2e-6);
        for (size_t i = 0; i < n_q * HEADS; i++) {
            if (want_lse[i] > -3e38f) RV_NEAR(lse[i], want_lse[i], 2e-6);
            else RV_CHECK(lse[i] < -3e38f);
        }
    }
}

static void test_ring_refuses(void)
{
    static problem p;
    rv_attn_ring_config ring;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make(&p, 1.0f);
    memset(&ring, 0, sizeof ring);
    ring.shards = N + 1;
    RV_EQUAL(rv_attn_ring(&ctx, &ring, &p.io), RV_ERR_CONFIG);
    RV_CHECK(strstr(ctx.message, "shards is 25") != NULL);
    ring.shards = 2;
    ring.base.windowed = 1;
    RV_EQUAL(rv_attn_ring(&ctx, &ring, &p.io), RV_ERR_CONFIG);
    ring.base.windowed = 0;
    ring.base.order = RV_ATTN_CAUSAL_FIRST;
    RV_EQUAL(rv_attn_ring(&ctx, &ring, &p.io), RV_ERR_CONFIG);
    RV_EQUAL(rv_attn_ring(&ctx, NULL, &p.io), RV_ERR_ARG);
}

static void test_cache(void)
{
    static problem p, causal;
    rv_attn_cache_config cache;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make(&p, 1.0f);
    make(&causal, 1.0f);
    memset(&cache, 0, sizeof cache);
    cache.base.heads = HEADS;
    RV_OKAY(&ctx, rv_attn_cache(&ctx, &cache, &p.io));
    cache.base.order = RV_ATTN_CAUSAL;
    RV_OKAY(&ctx, rv_attn(&ctx, &cache.base, &causal.io));
    for (size_t i = 0; i < N * HEADS * DIM; i++) RV_NEAR(p.out[i], causal.out[i], 2e-6);
}

int main(void)
{
    rv_test_begin("attn_kinds");
    RV_RUN(test_table);
    RV_RUN(test_forward);
    RV_RUN(test_few_keys);
    RV_RUN(test_workers);
    RV_RUN(test_backward);
    RV_RUN(test_wrong);
    RV_RUN(test_ring);
    RV_RUN(test_ring_refuses);
    RV_RUN(test_cache);
    return rv_test_end();
}
