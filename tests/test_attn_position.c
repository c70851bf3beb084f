/* RoPE over sequences and graphs, ALiBi, T5's bias, layers of an index: torch, a definition in
   double, its slopes, identities, faults. */
#include "attn_position_set.h"

#include "golden/attn_position.h"

/* The mechanism's config from the problem. */
static void configure(problem *p)
{
    p->rope.base = p->graph.base = p->t5.base = p->layer.base = p->base;
    p->t5.params = p->layer.params = p->params;
    p->layer.q_layer = p->q_layer;
    p->layer.k_layer = p->k_layer;
    p->graph.distance = p->distance;
}

static rv_status forward(rv_ctx *ctx, problem *p)
{
    rv_attn_alibi_config alibi;
    configure(p);
    if (p->kind == ROPE) return rv_attn_rope(ctx, &p->rope, &p->io);
    if (p->kind == GRAPH) return rv_attn_graph_rope(ctx, &p->graph, &p->io);
    if (p->kind == T5) return rv_attn_t5(ctx, &p->t5, &p->io);
    if (p->kind == LAYER) return rv_attn_layer(ctx, &p->layer, &p->io);
    alibi.base = p->base;
    alibi.base.slopes = p->params;
    return rv_attn_alibi(ctx, &alibi, &p->io);
}

static rv_status backward(rv_ctx *ctx, problem *p)
{
    rv_attn_alibi_config alibi;
    configure(p);
    if (p->kind == ROPE) return rv_attn_rope_backward(ctx, &p->rope, &p->io, &p->grad);
    if (p->kind == GRAPH) return rv_attn_graph_rope_backward(ctx, &p->graph, &p->io, &p->grad);
    if (p->kind == T5) return rv_attn_t5_backward(ctx, &p->t5, &p->io, &p->grad);
    if (p->kind == LAYER) return rv_attn_layer_backward(ctx, &p->layer, &p->io, &p->grad);
    alibi.base = p->base;
    alibi.base.slopes = p->params;
    return rv_attn_alibi_backward(ctx, &alibi, &p->io, &p->grad);
}

/* ---- torch ---- */

static void golden_place(problem *p, int form)
{
    if (p->kind == ROPE && form == 0) {
        p->base.order = RV_ATTN_CAUSAL;
    } else if (p->kind == ROPE && form == 1) {
        for (uint32_t i = 0; i < 6; i++) p->indices[i] = 3 * i + 2;
        for (uint32_t j = 0; j < 7; j++) p->indices[6 + j] = 50 - 7 * j;
        p->rope.rope.layout = RV_ROPE_HALVES;
        p->rope.rope.rotary_dim = 4;
        p->rope.rope.base = 100;
        p->rope.q_index = p->indices;
        p->rope.k_index = p->indices + 6;
    } else if (p->kind == ROPE) {
        for (int i = 0; i < 6; i++) p->places[i] = (float)i * 1.5f;
        for (int j = 0; j < 7; j++) p->places[6 + j] = (float)j * -0.25f;
        p->rope.rope.scaling = RV_ROPE_YARN;
        p->rope.rope.factor = 4;
        p->rope.rope.length = 16;
        p->rope.rope.fast = 3;
        p->rope.q_place = p->places;
        p->rope.k_place = p->places + 6;
    } else {
        p->graph.per_query = form;
        p->graph.max_distance = 3.5f;
        grid(5, p->distance, 42);
        for (size_t x = 0; x < 42; x++) p->distance[x] = fabsf(p->distance[x]) * 4;
        for (size_t j = 0; j < 7 && form == 0; j++) p->distance[j] = (float)j * 0.75f;
    }
}

static void golden_bias(problem *p, int form)
{
    static const uint8_t layers[7] = {1, 0, 2, 0, 0, 1, 2};
    if (p->kind == ALIBI) {
        p->params[0] = form ? 0.5f : 0.0625f;
        p->params[1] = form ? 0.125f : 0.00390625f;
        p->base.past = form ? 3 : 0;
        p->base.order = form ? RV_ATTN_CAUSAL_FIRST : RV_ATTN_ANY;
    } else if (p->kind == T5) {
        p->t5.t5.causal = form;
        p->base.order = form ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
        p->base.softcap = form ? 2.0f : 0.0f;
    } else {
        p->layer.layers = 3;
        p->layer.gated = form;
        for (size_t i = 0; i < 6; i++) p->q_layer[i] = (uint8_t)(i % 3);
        memcpy(p->k_layer, layers, 7);
        memset(p->allow, 1, 84);
        for (size_t j = 0; j < 7; j++) { /* query 4 sees layer 0 only, query 5 the others */
            p->allow[4 * 7 + j] = layers[j] == 0;
            p->allow[5 * 7 + j] = layers[j] != 0;
        }
        if (form == 2) p->mask.allow = p->allow;
        if (form == 2) p->io.mask = &p->mask;
    }
}

static void test_golden(void)
{
    static const size_t n_params[] = {0, 0, 2, 64, 32};
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 1);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_position); row++) {
        const int form = rv_golden_attn_position[row].form;
        problem p;
        rv_test_row("golden", row);
        memset(&p, 0, sizeof p);
        p.kind = rv_golden_attn_position[row].kind;
        p.base.heads = 2;
        p.base.kv_heads = 1;
        p.io.n_q = 6;
        p.io.n_k = 7;
        p.io.dim = 6;
        p.io.dim_v = 4;
        p.n_params = p.kind == LAYER && form == 0 ? 18 : n_params[p.kind];
        set_up(&p, &rng);
        grid(1, p.q, 72);
        grid(2, p.k, 42);
        grid(3, p.v, 28);
        grid(4, p.params, p.n_params);
        grid(9, p.d_out, 48);
        if (p.kind <= GRAPH) golden_place(&p, form);
        else golden_bias(&p, form);
        RV_OKAY(&ctx, forward(&ctx, &p));
        CHECK_ALL(p.out, rv_golden_attn_position[row].out, 48, 5e-6);
        CHECK_ALL(p.weights, rv_golden_attn_position[row].weights, 84, 5e-6);
        RV_OKAY(&ctx, backward(&ctx, &p));
        CHECK_ALL(p.d_q, rv_golden_attn_position[row].d_q, 72, 1e-5);
        CHECK_ALL(p.d_k, rv_golden_attn_position[row].d_k, 42, 1e-5);
        CHECK_ALL(p.d_v, rv_golden_attn_position[row].d_v, 28, 1e-5);
        CHECK_ALL(p.d_params, rv_golden_attn_position[row].d_params, p.n_params, 1e-5);
        if (p.kind == ALIBI && form == 0) { /* these are the default slopes; d_q the other way */
            float out[48], d_q[72];
            rv_attn_alibi_config alibi;
            memcpy(out, p.out, sizeof out);
            memcpy(d_q, p.d_q, sizeof d_q);
            alibi.base = p.base;
            RV_OKAY(&ctx, rv_attn_alibi(&ctx, &alibi, &p.io));
            RV_CHECK(memcmp(out, p.out, sizeof out) == 0);
            p.grad.d_params = NULL;
            RV_OKAY(&ctx, rv_attn_alibi_backward(&ctx, &alibi, &p.io, &p.grad));
            for (size_t x = 0; x < 72; x++) RV_NEAR(p.d_q[x], d_q[x], 1e-6);
        }
        drop(&p);
    }
}

/* ---- the definition, over sizes, types, masks and orders ---- */

enum { ADD = 1, ALLOW = 2, WINDOW = 4, CAP = 8, SINK = 16, SLOPE = 32, PLACES = 64, HALVES = 128 };

static const struct row {
    int kind;
    size_t n_q, n_k, dim, dim_v, heads, kv_heads;
    int order, type, form; /* type: rv_dtype; form: per_query, causal buckets, gated */
    unsigned with;
} rows[] = {
    {ROPE, 5, 9, 8, 5, 2, 1, 0, RV_DTYPE_F32, 0, ADD | ALLOW},
    {ROPE, 70, 131, 16, 0, 4, 2, 1, RV_DTYPE_F16, 0, SINK},
    {ROPE, 1, 150, 12, 0, 1, 1, 2, RV_DTYPE_BF16, 0, PLACES | HALVES},
    {ROPE, 30, 30, 10, 0, 2, 2, 1, RV_DTYPE_F32, 0, WINDOW | CAP | SLOPE | HALVES},
    {GRAPH, 3, 90, 8, 0, 2, 1, 0, RV_DTYPE_F32, 0, 0},
    {GRAPH, 12, 70, 8, 3, 2, 1, 0, RV_DTYPE_F32, 1, ALLOW | CAP},
    {GRAPH, 20, 33, 16, 0, 2, 2, 1, RV_DTYPE_F16, 1, HALVES | SINK},
    {ALIBI, 40, 80, 8, 0, 3, 1, 1, RV_DTYPE_F32, 0, ADD},
    {ALIBI, 7, 70, 8, 0, 2, 2, 0, RV_DTYPE_BF16, 0, CAP | SINK},
    {T5, 30, 140, 8, 0, 2, 1, 0, RV_DTYPE_F32, 0, ADD},
    {T5, 90, 70, 6, 8, 3, 3, 2, RV_DTYPE_F16, 1, SINK},
    {T5, 6, 140, 8, 0, 1, 1, 1, RV_DTYPE_F32, 1, CAP | WINDOW},
    {LAYER, 20, 70, 8, 0, 2, 1, 0, RV_DTYPE_F32, 0, CAP | SINK},
    {LAYER, 20, 70, 8, 3, 2, 1, 0, RV_DTYPE_F32, 1, ALLOW},
    {LAYER, 9, 20, 8, 0, 4, 2, 1, RV_DTYPE_F16, 1, CAP | ADD},
};

static const float sinks[4] = {0.5f, -1.0f, 0.25f, 2.0f};
static const float slopes[4] = {0.5f, 0.125f, 0.25f, 0.0f};

static void narrow(problem *p)
{
    const size_t n_k = p->io.n_k * kv_of(p) * p->io.dim, n_v = p->io.n_k * kv_of(p) * wide_of(p);
    if (p->io.type == RV_DTYPE_F16) {
        rv_convert_f32_to_f16(p->k, p->k16, n_k);
        rv_convert_f32_to_f16(p->v, p->v16, n_v);
        rv_convert_f16_to_f32(p->k16, p->k, n_k);
        rv_convert_f16_to_f32(p->v16, p->v, n_v);
    } else if (p->io.type == RV_DTYPE_BF16) {
        rv_convert_f32_to_bf16(p->k, p->k16, n_k);
        rv_convert_f32_to_bf16(p->v, p->v16, n_v);
        rv_convert_bf16_to_f32(p->k16, p->k, n_k);
        rv_convert_bf16_to_f32(p->v16, p->v, n_v);
    }
    if (p->io.type == RV_DTYPE_F32) return;
    p->io.k = p->k16;
    p->io.v = p->v16;
}

static void make(problem *p, const struct row *r, size_t most, rv_test_rng *rng)
{
    memset(p, 0, sizeof *p);
    p->kind = r->kind;
    p->io.n_q = r->n_q < most ? r->n_q : most;
    p->io.n_k = r->n_k < most ? r->n_k : most;
    p->io.dim = r->dim;
    p->io.dim_v = r->dim_v;
    p->io.type = (rv_dtype)r->type;
    p->base.heads = (uint32_t)r->heads;
    p->base.kv_heads = (uint32_t)r->kv_heads;
    p->base.order = (rv_attn_order)r->order;
    if (r->order == RV_ATTN_CAUSAL_FIRST) p->base.past = 3;
    if (r->kind == ALIBI) p->n_params = r->heads;
    if (r->kind == T5) p->n_params = 32 * r->heads;
    if (r->kind == LAYER) p->n_params = r->heads * (9 + (r->form ? r->dim + 1 : 0));
    set_up(p, rng);
    if (r->kind == ALIBI)
        for (size_t h = 0; h < r->heads; h++) p->params[h] = slopes[h] + 0.25f;
    p->graph.per_query = p->t5.t5.causal = p->layer.gated = r->form;
    p->layer.layers = 3;
    if (r->with & HALVES) p->rope.rope.layout = p->graph.rope.layout = RV_ROPE_HALVES;
    if (r->with & HALVES) p->rope.rope.rotary_dim = p->graph.rope.rotary_dim = r->dim - 2;
    if (r->with & PLACES) {
        p->rope.q_place = p->places;
        p->rope.k_index = p->indices;
    }
    if (r->with & ADD) p->mask.add = p->add;
    if (r->with & ALLOW) p->mask.allow = p->allow;
    p->mask.add_head = p->mask.allow_head = p->io.n_q * p->io.n_k;
    if (p->mask.add || p->mask.allow) p->io.mask = &p->mask;
    if (r->with & WINDOW) {
        p->base.windowed = 1;
        p->base.left = 12;
        p->base.right = 1;
    }
    if (r->with & CAP) p->base.softcap = 0.75f;
    if (r->with & SINK) p->base.sinks = sinks;
    if (r->with & SLOPE) p->base.slopes = slopes;
    narrow(p);
}

static void test_definition(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i += RV_TEST_SCALE > 16 ? 3 : 1) {
        problem p;
        float *wide;
        rv_test_row("shape", i);
        make(&p, &rows[i], RV_TEST_SCALE > 16 ? 20 : SIZE_MAX, &rng);
        RV_OKAY(&ctx, forward(&ctx, &p));
        /* slopes times distances are rounded before they are subtracted */
        check_forward(&p, 2e-6 + (p.kind == ALIBI ? 0.75 * 80 * 2 * U : 0));
        drop(&p);
        make(&p, &rows[i], RV_TEST_SCALE > 1 ? 4 : 8, &rng);
        p.io.k = p.k; /* slopes by the values that narrow types stand for */
        p.io.v = p.v;
        p.io.type = RV_DTYPE_F32;
        RV_OKAY(&ctx, backward(&ctx, &p));
        check_backward(&p, 2e-5);
        if (rows[i].type != RV_DTYPE_F32) {
            wide = floats(p.io.n_k * kv_of(&p) * p.io.dim);
            memcpy(wide, p.d_k, p.io.n_k * kv_of(&p) * p.io.dim * sizeof(float));
            p.io.k = p.k16;
            p.io.v = p.v16;
            p.io.type = (rv_dtype)rows[i].type;
            RV_OKAY(&ctx, backward(&ctx, &p));
            for (size_t x = 0; x < p.io.n_k * kv_of(&p) * p.io.dim; x++)
                RV_NEAR(p.d_k[x], wide[x], 1e-6);
            free(wide);
        }
        drop(&p);
    }
}

/* ---- identities ---- */

/* The same problem through rv_attn: out within a tolerance. */
static void check_plain(problem *p, double tolerance)
{
    const size_t n = p->io.n_q * heads_of(p) * wide_of(p);
    rv_attn_io io = p->io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    io.out = floats(n);
    io.weights = NULL;
    if (p->kind == T5) p->base.scale = 1.0f;
    RV_OKAY(&ctx, rv_attn(&ctx, &p->base, &io));
    for (size_t x = 0; x < n; x++) RV_NEAR(p->out[x], io.out[x], tolerance);
    free(io.out);
}

/* Parameters or distances of 0 give rv_attn; equal keys share the weight; values of one give one;
   one key has all of it; a row that sees nothing gives zeros. */
static void test_common(void)
{
    rv_ctx ctx;
    rv_test_rng rng;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 3);
    for (int kind = ROPE; kind <= LAYER; kind++) {
        for (int form = 0; form < 2; form++) {
            struct row r = {0, 7, 33, 8, 0, 2, 1, 0, RV_DTYPE_F32, 0, 0};
            const int gated = kind == LAYER && form;
            problem p;
            rv_test_row("kind", (size_t)(2 * kind + form));
            r.kind = kind;
            r.form = form;
            make(&p, &r, SIZE_MAX, &rng);
            for (size_t i = 0; i < p.n_params; i++) p.params[i] = 0;
            for (size_t i = 0; i < 7 * 33; i++) p.distance[i] = 0;
            for (size_t i = 0; i < 40; i++) p.places[i] = 0;
            p.rope.q_place = p.places;
            p.rope.k_place = p.places + 7;
            RV_OKAY(&ctx, forward(&ctx, &p));
            if (!gated) check_plain(&p, 1e-6);
            for (size_t j = 1; j < 33; j++) memcpy(p.k + j * 8, p.k, 8 * sizeof(float));
            for (size_t j = 0; j < 33; j++) p.k_layer[j] = 1;
            for (size_t x = 0; x < 33 * 8; x++) p.v[x] = 1.0f;
            RV_OKAY(&ctx, forward(&ctx, &p));
            for (size_t x = 0; x < 2 * 7 * 33; x++) RV_NEAR(p.weights[x], 1.0 / 33, 2e-8);
            for (size_t x = 0; x < 2 * 7 * 8; x++) RV_NEAR(p.out[x], 1, 4e-7);
            for (size_t x = 0; x < 2 * 7 * 33; x++) p.add[x] = x % 3 ? 1000.0f : -1000.0f;
            for (size_t x = 0; x < 33; x++) p.add[x] = -HUGE_VALF;
            p.mask.add = p.add;
            p.mask.add_head = 7 * 33;
            p.io.mask = &p.mask;
            RV_OKAY(&ctx, forward(&ctx, &p));
            for (size_t x = 0; x < 33; x++) RV_CHECK(p.weights[x] == 0.0f);
            for (size_t x = 0; x < 8; x++) RV_CHECK(p.out[x] == 0.0f);
            for (size_t x = 8; x < 16; x++) RV_NEAR(p.out[x], 1, 4e-7);
            for (size_t x = 33; x < 2 * 7 * 33; x++)
                RV_NEAR(p.weights[x], x % 3 ? 1.0 / 22 : 0, 1000 * 2 * U / 22);
            p.io.mask = NULL;
            p.io.n_k = 1;
            rv_test_fill(&rng, p.v, 8);
            RV_OKAY(&ctx, forward(&ctx, &p));
            for (size_t x = 0; x < 14; x++) RV_NEAR(p.weights[x], 1, 0);
            for (size_t x = 0; x < 14 * 8; x++) RV_NEAR(p.out[x], p.v[x % 8], 0);
            p.io.n_q = 0;
            RV_OKAY(&ctx, forward(&ctx, &p));
            RV_OKAY(&ctx, backward(&ctx, &p));
            for (size_t x = 0; x < 8; x++) RV_CHECK(p.d_k[x] == 0.0f && p.d_v[x] == 0.0f);
            drop(&p);
        }
    }
}

/* All positions shifted; distances that are positions; distances per query that all agree; those
   beyond the largest and at infinity; keys in another order. */
static void test_rope(void)
{
    const struct row r = {ROPE, 1, 90, 16, 0, 2, 1, 0, RV_DTYPE_F32, 0, 0};
    float *was = floats(90 * 2), *place = floats(90);
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    make(&p, &r, SIZE_MAX, &rng);
    p.rope.q_place = p.places;
    p.rope.k_place = place;
    p.places[0] = 0;
    for (size_t j = 0; j < 90; j++) place[j] = p.distance[j] = (float)(j * 7 % 31);
    RV_OKAY(&ctx, forward(&ctx, &p));
    memcpy(was, p.weights, 180 * sizeof(float));
    for (float shift = 1.0f; shift < 1000001.0f; shift *= 999.0f) {
        p.places[0] = shift;
        for (size_t j = 0; j < 90; j++) place[j] = p.distance[j] + shift;
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t x = 0; x < 180; x++) RV_NEAR(p.weights[x], was[x], 1e-7);
    }
    p.kind = GRAPH;
    RV_OKAY(&ctx, forward(&ctx, &p));
    RV_CHECK(memcmp(was, p.weights, 180 * sizeof(float)) == 0);
    p.graph.per_query = 1;
    RV_OKAY(&ctx, forward(&ctx, &p));
    for (size_t x = 0; x < 180; x++) RV_NEAR(p.weights[x], was[x], 1e-7);
    for (int per_query = 0; per_query < 2; per_query++) {
        p.graph.per_query = per_query;
        p.graph.max_distance = 20;
        for (size_t j = 0; j < 90; j++) p.distance[j] = j % 2 ? 20.0f : (float)j / 8;
        RV_OKAY(&ctx, forward(&ctx, &p));
        memcpy(was, p.weights, 180 * sizeof(float));
        for (size_t j = 1; j < 90; j += 2) p.distance[j] = j % 4 == 1 ? HUGE_VALF : 20.5f;
        RV_OKAY(&ctx, forward(&ctx, &p));
        RV_CHECK(memcmp(was, p.weights, 180 * sizeof(float)) == 0);
        for (size_t j = 0; j < 45; j++) {
            const float d = p.distance[j];
            p.distance[j] = p.distance[89 - j];
            p.distance[89 - j] = d;
            for (size_t t = 0; t < 16; t++) {
                const float x = p.k[j * 16 + t];
                p.k[j * 16 + t] = p.k[(89 - j) * 16 + t];
                p.k[(89 - j) * 16 + t] = x;
            }
        }
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t x = 0; x < 180; x++)
            RV_NEAR(p.weights[x], was[x / 90 * 90 + 89 - x % 90], 1e-7);
    }
    free(place);
    free(was);
    drop(&p);
}

/* b of -infinity leaves one layer; a gate far to one side leaves one branch; a constant on all of
   b or of T5's table changes nothing. */
static void test_layers(void)
{
    const struct row r = {LAYER, 10, 70, 8, 0, 2, 1, 0, RV_DTYPE_F32, 1, 0};
    float *was = floats(20 * 70);
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    make(&p, &r, SIZE_MAX, &rng);
    p.layer.gated = 0;
    for (size_t x = 0; x < 18; x++) p.params[x] = x % 3 == 1 ? 0.5f : -HUGE_VALF;
    RV_OKAY(&ctx, forward(&ctx, &p));
    memcpy(was, p.weights, 20 * 70 * sizeof(float));
    for (size_t j = 0; j < 70; j++)
        for (size_t i = 0; i < 10; i++) p.allow[i * 70 + j] = p.k_layer[j] == 1;
    for (size_t x = 0; x < 18; x++) p.params[x] = 0;
    p.mask.allow = p.allow;
    p.mask.allow_head = 0;
    p.io.mask = &p.mask;
    RV_OKAY(&ctx, rv_attn(&ctx, &p.base, &p.io));
    for (size_t x = 0; x < 20 * 70; x++) RV_NEAR(p.weights[x], was[x], 1e-7);
    RV_OKAY(&ctx, backward(&ctx, &p));
    p.io.mask = NULL;
    for (int side = 0; side < 2; side++) {
        p.layer.gated = 0;
        for (size_t x = 0; x < 18; x++)
            p.params[x] = (x % 3 == 0) == (side == 1) ? 0.25f : -HUGE_VALF;
        RV_OKAY(&ctx, forward(&ctx, &p));
        memcpy(was, p.weights, 20 * 70 * sizeof(float));
        p.layer.gated = 1;
        for (size_t x = 0; x < 34; x++) p.params[x] = 0.25f;
        for (size_t h = 0; h < 2; h++) p.params[34 + h] = side ? 1000.0f : -1000.0f;
        RV_OKAY(&ctx, forward(&ctx, &p));
        for (size_t x = 0; x < 20 * 70; x++) RV_NEAR(p.weights[x], was[x], 1e-7);
    }
    for (size_t j = 0; j < 70; j++) p.k_layer[j] = 2; /* the lower branch is empty */
    RV_OKAY(&ctx, forward(&ctx, &p));
    for (size_t h = 0; h < 20; h++) {
        double sum = 0;
        for (size_t j = 0; j < 70; j++) sum += (double)p.weights[h * 70 + j];
        RV_NEAR(sum, 1, 4e-6);
    }
    p.layer.params = NULL; /* zeros: half of each */
    p.layer.q_layer = p.q_layer;
    p.layer.k_layer = p.k_layer;
    for (size_t j = 0; j < 70; j++) p.k_layer[j] = j < 14 ? 0 : 1;
    memset(p.k, 0, 70 * 8 * sizeof(float));
    RV_OKAY(&ctx, rv_attn_layer(&ctx, &p.layer, &p.io));
    for (size_t x = 0; x < 20 * 70; x++)
        RV_NEAR(p.weights[x], x % 70 < 14 ? 0.5 / 14 : 0.5 / 56, 1e-8);
    RV_OKAY(&ctx, rv_attn_layer_backward(&ctx, &p.layer, &p.io, &p.grad));
    free(was);
    drop(&p);
}

static void test_params(void)
{
    float a[600], b[600];
    double sum = 0, most = 0;
    rv_attn_t5_config t5;
    rv_attn_layer_config layer;
    rv_attn_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&t5, 0, sizeof t5);
    memset(&layer, 0, sizeof layer);
    memset(&io, 0, sizeof io);
    io.dim = 5;
    RV_EQUAL(rv_attn_t5_params(NULL, NULL), 32);
    RV_EQUAL(rv_attn_layer_params(NULL, NULL), 256);
    t5.base.heads = 8;
    t5.t5.buckets = 64;
    layer.base.heads = 2;
    layer.gated = 1;
    RV_EQUAL(rv_attn_t5_params(&t5, &io), 512);
    RV_EQUAL(rv_attn_layer_params(&layer, &io), 2 * 256 + 2 * 6);
    ctx.seed = 5;
    RV_OKAY(&ctx, rv_attn_t5_init(&ctx, &t5, &io, a));
    RV_OKAY(&ctx, rv_attn_t5_init(&ctx, &t5, &io, b));
    RV_CHECK(memcmp(a, b, 512 * sizeof(float)) == 0);
    for (size_t x = 0; x < 512; x++) {
        sum += (double)a[x];
        most = fabs((double)a[x]) > most ? fabs((double)a[x]) : most;
    }
    RV_CHECK(most <= sqrt(6.0 / 72) && most > 0.98 * sqrt(6.0 / 72));
    RV_NEAR(sum, 0, 5 * sqrt(512 * 2.0 / 72)); /* five deviations */
    ctx.seed = 6;
    RV_OKAY(&ctx, rv_attn_t5_init(&ctx, NULL, NULL, b));
    RV_CHECK(memcmp(a, b, 32 * sizeof(float)) != 0);
    RV_OKAY(&ctx, rv_attn_layer_init(&ctx, &layer, &io, a));
    for (size_t x = 0; x < 512; x++) RV_CHECK(fabsf(a[x]) <= 0.4331f);
    for (size_t x = 512; x < 522; x++) RV_CHECK(a[x] != 0.0f && fabsf(a[x]) <= 1.0f);
    RV_CHECK(a[522] == 0.0f && a[523] == 0.0f);
    RV_FAILS(&ctx, rv_attn_t5_init(&ctx, &t5, &io, NULL), RV_ERR_ARG, "params is NULL");
    RV_FAILS(&ctx, rv_attn_layer_init(&ctx, &layer, &io, NULL), RV_ERR_ARG, "params is NULL");
}

/* ---- faults ---- */

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static rv_status both(rv_ctx *ctx, void *arg)
{
    problem *p = (problem *)arg;
    rv_status status = forward(ctx, p);
    return status ? status : backward(ctx, p);
}

static void test_faults(void)
{
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 6);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        problem p;
        float *d_k, *out;
        size_t n_k, n_out;
        rv_test_row("shape", i);
        make(&p, &rows[i], RV_TEST_SCALE > 1 ? 10 : 40, &rng);
        n_k = p.io.n_k * kv_of(&p) * p.io.dim;
        n_out = p.io.n_q * heads_of(&p) * wide_of(&p);
        d_k = floats(n_k);
        out = floats(n_out);
        RV_OKAY(&ctx, both(&ctx, &p));
        memcpy(d_k, p.d_k, n_k * sizeof(float));
        memcpy(out, p.out, n_out * sizeof(float));
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, both(&ctx, &p));
        ctx.parallel = NULL;
        ctx.workers = 0;
        RV_CHECK(memcmp(d_k, p.d_k, n_k * sizeof(float)) == 0);
        RV_CHECK(memcmp(out, p.out, n_out * sizeof(float)) == 0);
        RV_CHECK(rv_test_oom_sweep(both, &p) > 6);
        RV_CHECK(rv_test_cancel_sweep(both, &p) > 4);
        free(out);
        free(d_k);
        drop(&p);
    }
}

#define REFUSED(p, field, value, wanted, word)                                                     \
    do {                                                                                           \
        problem was = *(p);                                                                        \
        (p)->field = value;                                                                        \
        (p)->out[0] = 5.0f;                                                                        \
        RV_FAILS(&ctx, forward(&ctx, (p)), wanted, word);                                          \
        RV_CHECK((p)->out[0] == 5.0f);                                                             \
        RV_FAILS(&ctx, backward(&ctx, (p)), wanted, word);                                         \
        *(p) = was;                                                                                \
    } while (0)

static void test_errors(void)
{
    struct row r = {ROPE, 3, 4, 8, 0, 1, 1, 0, RV_DTYPE_F32, 0, 0};
    float sink[1] = {0.0f};
    rv_ctx ctx;
    rv_test_rng rng;
    problem p;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 7);
    for (r.kind = ROPE; r.kind <= LAYER; r.kind++) {
        rv_test_row("kind", (size_t)r.kind);
        make(&p, &r, SIZE_MAX, &rng);
        REFUSED(&p, io.dim, 0, RV_ERR_DIM, "dim is 0");
        REFUSED(&p, io.n_k, 0, RV_ERR_DIM, "n_k is 0");
        REFUSED(&p, base.temperature, -1.0f, RV_ERR_CONFIG, "temperature");
        REFUSED(&p, io.k, NULL, RV_ERR_ARG, "q, k, v and out");
        configure(&p);
        RV_FAILS(&ctx, r.kind == ROPE ? rv_attn_rope_backward(&ctx, &p.rope, &p.io, NULL)
                       : r.kind == GRAPH ? rv_attn_graph_rope_backward(&ctx, &p.graph, &p.io, NULL)
                       : r.kind == ALIBI ? rv_attn_alibi_backward(&ctx, NULL, &p.io, NULL)
                       : r.kind == T5 ? rv_attn_t5_backward(&ctx, &p.t5, &p.io, NULL)
                                      : rv_attn_layer_backward(&ctx, &p.layer, &p.io, NULL),
                 RV_ERR_ARG, "grad is NULL");
        p.grad.d_out = NULL;
        RV_FAILS(&ctx, backward(&ctx, &p), RV_ERR_ARG, "d_out is NULL");
        p.grad.d_out = p.d_out;
        if (r.kind == ROPE) {
            REFUSED(&p, rope.rope.rotary_dim, 3, RV_ERR_CONFIG, "rotary_dim is 3");
            p.rope.k_place = p.places;
            p.places[2] = not_a_number();
            REFUSED(&p, io.weights, NULL, RV_ERR_ARG, "place[2] is NaN");
            REFUSED(&p, rope.k_index, p.indices, RV_ERR_ARG, "both given");
            RV_FAILS(&ctx, rv_attn_rope(&ctx, NULL, NULL), RV_ERR_ARG, "io must not be NULL");
        } else if (r.kind == GRAPH) {
            REFUSED(&p, distance, NULL, RV_ERR_ARG, "distance is NULL");
            REFUSED(&p, graph.max_distance, -1.0f, RV_ERR_CONFIG, "max_distance is -1");
            REFUSED(&p, graph.max_distance, not_a_number(), RV_ERR_CONFIG, "max_distance is NaN");
            REFUSED(&p, graph.rope.base, 0.5, RV_ERR_CONFIG, "base is 0.5");
            p.distance[1] = HUGE_VALF;
            REFUSED(&p, graph.per_query, 1, RV_ERR_ARG, "distance[1]");
            p.distance[1] = -0.5f;
            REFUSED(&p, graph.max_distance, 5.0f, RV_ERR_ARG, "distance[1] is -0.5");
            p.distance[1] = not_a_number();
            REFUSED(&p, graph.max_distance, 5.0f, RV_ERR_ARG, "distance[1] is NaN");
            RV_FAILS(&ctx, rv_attn_graph_rope(&ctx, NULL, &p.io), RV_ERR_ARG, "config is NULL");
        } else if (r.kind == T5) {
            REFUSED(&p, t5.t5.buckets, 7, RV_ERR_CONFIG, "buckets is 7");
            REFUSED(&p, params, NULL, RV_ERR_ARG, "params is NULL");
        } else if (r.kind == LAYER) {
            REFUSED(&p, layer.layers, 257, RV_ERR_CONFIG, "layers is 257");
            REFUSED(&p, q_layer, NULL, RV_ERR_ARG, "q_layer or k_layer");
            p.q_layer[1] = 3;
            REFUSED(&p, io.lse, NULL, RV_ERR_ARG, "q_layer[1] is 3");
            p.q_layer[1] = 0;
            p.k_layer[2] = 9;
            REFUSED(&p, io.lse, NULL, RV_ERR_ARG, "k_layer[2] is 9");
            p.k_layer[2] = 0;
            p.layer.gated = 1;
            REFUSED(&p, base.sinks, sink, RV_ERR_CONFIG, "sinks have no meaning");
            REFUSED(&p, base.raw, 1, RV_ERR_CONFIG, "raw has no meaning");
            REFUSED(&p, io.lse, p.lse, RV_ERR_CONFIG, "lse has no meaning");
            RV_FAILS(&ctx, rv_attn_layer(&ctx, NULL, &p.io), RV_ERR_ARG, "config is NULL");
        }
        drop(&p);
    }
}

int main(void)
{
    rv_test_begin("attn_position");
    RV_RUN(test_golden);
    RV_RUN(test_definition);
    RV_RUN(test_common);
    RV_RUN(test_rope);
    RV_RUN(test_layers);
    RV_RUN(test_params);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    return rv_test_end();
}
