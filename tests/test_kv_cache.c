/* Caches of keys and values: ONNX, attention over everything at once, error bounds, faults. */
#include "grid_set.h"

#include "golden/kv_cache.h"

enum { HEADS = 4, KV = 2, DIM = 8, DIM_V = 6, DK = KV * DIM, DV = KV * DIM_V, N = 230 };

typedef struct sequence {
    float q[N * HEADS * DIM], k[N * DK], v[N * DV], out[N * HEADS * DIM_V];
    float want[N * HEADS * DIM_V], lse[HEADS * N], lse_want[HEADS * N];
} sequence;

static void *room(size_t bytes)
{
    void *p = calloc(1, bytes + 1);
    if (!p) exit(2);
    return p;
}

static sequence *make(void)
{
    sequence *s = (sequence *)room(sizeof *s);
    grid(1, s->q, N * HEADS * DIM);
    grid(2, s->k, N * DK);
    grid(3, s->v, N * DV);
    return s;
}

static rv_kv_cache *create(rv_ctx *ctx, rv_dtype type, uint32_t bits, size_t window)
{
    rv_kv_cache_config config;
    rv_kv_cache *cache = NULL;
    memset(&config, 0, sizeof config);
    config.kv_heads = KV;
    config.dim = DIM;
    config.dim_v = DIM_V;
    config.type = type;
    config.bits = bits;
    config.window = window;
    config.page = 16;
    config.tail = bits ? 20 : 0;
    RV_OKAY(ctx, rv_kv_cache_create(ctx, &config, &cache));
    if (!cache) exit(2);
    return cache;
}

static rv_status append(rv_ctx *ctx, rv_kv_cache *cache, const sequence *s, size_t from, size_t n)
{
    return rv_kv_cache_append(ctx, cache, s->k + from * DK, s->v + from * DV, n, 0, 0);
}

/* Attention of the queries of tokens from .. from + n - 1. */
static rv_status attend(rv_ctx *ctx, const rv_kv_cache *cache, const rv_attn_config *config,
                        sequence *s, size_t from, size_t n)
{
    rv_attn_io io;
    memset(&io, 0, sizeof io);
    io.n_q = n;
    io.q = s->q + from * HEADS * DIM;
    io.out = s->out + from * HEADS * DIM_V;
    io.lse = s->lse;
    return rv_kv_cache_attend(ctx, cache, config, &io);
}

/* Causal attention over all at once, from k and v as they are in s. */
static void whole(rv_ctx *ctx, const rv_attn_config *config, sequence *s, size_t n)
{
    rv_attn_io io;
    rv_attn_config c = *config;
    memset(&io, 0, sizeof io);
    c.kv_heads = KV;
    io.n_q = io.n_k = n;
    io.dim = DIM;
    io.dim_v = DIM_V;
    io.q = s->q;
    io.k = s->k;
    io.v = s->v;
    io.out = s->want;
    io.lse = s->lse_want;
    RV_OKAY(ctx, rv_attn(ctx, &c, &io));
}

/* ---- ONNX ---- */

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_kv_cache); row++) {
        const size_t n_past = rv_golden_kv_cache[row].n_past, n = rv_golden_kv_cache[row].n;
        const uint32_t heads = rv_golden_kv_cache[row].heads, kv = rv_golden_kv_cache[row].kv_heads;
        const size_t d = 4, d_v = 3;
        float in[4 * 48], line[2 * 16], out[4 * 9], turned[4 * 9], q[4 * 12];
        rv_kv_cache_config config;
        rv_attn_config attn;
        rv_attn_io io;
        rv_kv_cache *cache = NULL;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        memset(&config, 0, sizeof config);
        memset(&attn, 0, sizeof attn);
        memset(&io, 0, sizeof io);
        config.kv_heads = kv;
        config.dim = d;
        config.dim_v = d_v;
        config.page = 16;
        RV_OKAY(&ctx, rv_kv_cache_create(&ctx, &config, &cache));
        for (size_t t = 0; t < n_past + n; t++) { /* there heads stand before tokens */
            const size_t past = t < n_past, at = past ? t : t - n_past, count = past ? n_past : n;
            grid(past ? 4 : 2, in, kv * count * d);
            for (size_t h = 0; h < kv; h++)
                memcpy(line + h * d, in + (h * count + at) * d, d * sizeof(float));
            grid(past ? 5 : 3, in, kv * count * d_v);
            for (size_t h = 0; h < kv; h++)
                memcpy(line + 16 + h * d_v, in + (h * count + at) * d_v, d_v * sizeof(float));
            RV_OKAY(&ctx, rv_kv_cache_append(&ctx, cache, line, line + 16, 1, 0, 0));
        }
        grid(1, in, heads * n * d);
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < n; i++)
                memcpy(q + (i * heads + h) * d, in + (h * n + i) * d, d * sizeof(float));
        attn.heads = heads;
        attn.softcap = (float)rv_golden_kv_cache[row].cap;
        attn.order = rv_golden_kv_cache[row].causal ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
        io.n_q = n;
        io.q = q;
        io.out = out;
        RV_OKAY(&ctx, rv_kv_cache_attend(&ctx, cache, &attn, &io));
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < n; i++)
                memcpy(turned + (h * n + i) * d_v, out + (i * heads + h) * d_v,
                       d_v * sizeof(float));
        CHECK_ALL(turned, rv_golden_kv_cache[row].out, heads * n * d_v, 64 * U);
        rv_kv_cache_destroy(cache);
    }
}

/* ---- step by step is all at once ---- */

static void test_steps(void)
{
    const size_t blocks[] = {1, 3, 16, 70, N};
    sequence *s;
    if (RV_TEST_SCALE > 16) return; /* minutes on an emulated board */
    s = make();
    for (size_t row = 0; row < 5 * 3 * 4; row += RV_TEST_SCALE > 1 ? 7 : 1) {
        const size_t block = blocks[row / 12], form = row % 4;
        const rv_dtype type = (rv_dtype)(row / 4 % 3);
        const size_t window = form == 1 ? 37 : form == 2 ? 16 : 0;
        float slopes[HEADS];
        const float sinks[HEADS] = {0.5f, -1.0f, 2.0f, 0.0f};
        rv_attn_config config;
        rv_kv_cache *cache;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("case", row);
        memset(&config, 0, sizeof config);
        config.heads = HEADS;
        config.order = RV_ATTN_CAUSAL;
        rv_attn_slopes(HEADS, slopes);
        if (form >= 2) config.slopes = slopes;
        if (form == 3) config.sinks = sinks;
        if (form == 3) config.softcap = 1.5f;
        cache = create(&ctx, type, 0, window);
        for (size_t from = 0, n; from < N; from += n) {
            n = N - from < block ? N - from : block;
            RV_OKAY(&ctx, append(&ctx, cache, s, from, n));
            RV_OKAY(&ctx, attend(&ctx, cache, &config, s, from, n));
            RV_EQUAL(rv_kv_cache_count(cache), from + n);
            RV_CHECK(!window || rv_kv_cache_first(cache) + window + block + 16 >= from + n);
        }
        if (type == RV_DTYPE_F32) { /* the last block's, at least */
            config.windowed = window != 0;
            config.left = window ? window - 1 : 0;
            whole(&ctx, &config, s, N);
            for (size_t i = 0; i < N * HEADS * DIM_V; i++) RV_NEAR(s->out[i], s->want[i], 4e-6);
            for (size_t h = 0; block == N && h < HEADS * N; h++)
                RV_NEAR(s->lse[h], s->lse_want[h], 4e-6);
        } else { /* grid() is exact in halves and misses by 2^-9 in bfloat16 */
            config.windowed = window != 0;
            config.left = window ? window - 1 : 0;
            whole(&ctx, &config, s, N);
            for (size_t i = 0; i < N * HEADS * DIM_V; i++)
                RV_NEAR(s->out[i], s->want[i], type == RV_DTYPE_F16 ? 4e-6 : 0.05);
        }
        rv_kv_cache_destroy(cache);
    }
    free(s);
}

/* Every query sees every token, or the last ones; also with a narrower window of the call. */
static void test_any(void)
{
    sequence *s;
    s = make();
    for (size_t window = 0; window < 60; window += 50) {
        rv_attn_config config;
        rv_attn_io io;
        rv_kv_cache *cache;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        config.heads = HEADS;
        cache = create(&ctx, RV_DTYPE_F32, 0, window);
        for (size_t t = 0; t < N; t += 23) RV_OKAY(&ctx, append(&ctx, cache, s, t, 23));
        RV_OKAY(&ctx, attend(&ctx, cache, &config, s, 0, N)); /* more queries than are held */
        io.n_q = N;
        io.n_k = window ? window : (size_t)N;
        io.dim = DIM;
        io.dim_v = DIM_V;
        io.q = s->q;
        io.k = s->k + (N - io.n_k) * DK;
        io.v = s->v + (N - io.n_k) * DV;
        io.out = s->want;
        config.kv_heads = KV;
        RV_OKAY(&ctx, rv_attn(&ctx, &config, &io));
        for (size_t i = 0; i < N * HEADS * DIM_V; i++) RV_NEAR(s->out[i], s->want[i], 4e-6);
        config.windowed = 1; /* around each query's own place */
        config.left = 9;
        config.right = 5;
        RV_OKAY(&ctx, attend(&ctx, cache, &config, s, 0, 40));
        io.n_q = 40;
        config.past = io.n_k - 40;
        RV_OKAY(&ctx, rv_attn(&ctx, &config, &io));
        for (size_t i = 0; i < 40 * HEADS * DIM_V; i++) RV_NEAR(s->out[i], s->want[i], 4e-6);
        config.past = 0;
        config.order = RV_ATTN_CAUSAL; /* narrower than the cache's window */
        RV_OKAY(&ctx, attend(&ctx, cache, &config, s, N - 20, 20));
        io.n_k = N;
        io.n_q = 20;
        io.q = s->q + (N - 20) * HEADS * DIM;
        io.k = s->k;
        io.v = s->v;
        RV_OKAY(&ctx, rv_attn(&ctx, &config, &io));
        for (size_t i = 0; i < 20 * HEADS * DIM_V; i++)
            RV_NEAR(s->out[(N - 20) * HEADS * DIM_V + i], s->want[i], 4e-6);
        rv_kv_cache_destroy(cache);
    }
    free(s);
}

/* Masks and weights: the columns are the tokens that are held. */
static void test_mask(void)
{
    enum { NQ = 5, NK = 70, SIZE = (int)HEADS * NQ * NK };
    sequence *s;
    float weights[SIZE], weights_want[SIZE];
    uint8_t allow[NQ * NK];
    rv_attn_mask mask;
    rv_attn_config config;
    rv_attn_io io;
    rv_kv_cache *cache;
    rv_ctx ctx;
    s = make();
    rv_test_ctx(&ctx);
    memset(&mask, 0, sizeof mask);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    cache = create(&ctx, RV_DTYPE_F32, 0, 0);
    RV_OKAY(&ctx, append(&ctx, cache, s, 0, NK));
    for (size_t i = 0; i < NQ * NK; i++) allow[i] = i % 3 != 0 && i / NK != 2; /* row 2: nothing */
    mask.allow = allow;
    config.heads = HEADS;
    config.order = RV_ATTN_CAUSAL;
    io.n_q = NQ;
    io.q = s->q;
    io.out = s->out;
    io.weights = weights;
    io.mask = &mask;
    RV_OKAY(&ctx, rv_kv_cache_attend(&ctx, cache, &config, &io));
    io.n_k = NK;
    io.dim = DIM;
    io.dim_v = DIM_V;
    io.k = s->k;
    io.v = s->v;
    io.out = s->want;
    io.weights = weights_want;
    config.kv_heads = KV;
    RV_OKAY(&ctx, rv_attn(&ctx, &config, &io));
    for (size_t i = 0; i < (size_t)NQ * HEADS * DIM_V; i++) RV_NEAR(s->out[i], s->want[i], 2e-6);
    for (size_t i = 0; i < SIZE; i++) RV_NEAR(weights[i], weights_want[i], 2e-6);
    for (size_t i = 0; i < HEADS * DIM_V; i++)
        RV_CHECK(s->out[2 * HEADS * DIM_V + i] == 0.0f);
    rv_kv_cache_destroy(cache);
    free(s);
}

/* ---- quantization ---- */

/* Half a step of a group: (most - least) / (2^bits - 1) / 2, rounded up by 1/128 at most. */
static double half_step(const float *x, size_t n, size_t step, uint32_t bits)
{
    double least = (double)x[0], most = least;
    for (size_t i = 0; i < n; i++) {
        const double y = (double)x[i * step];
        if (y < least) least = y;
        if (y > most) most = y;
    }
    return (most - least) / (double)((1u << bits) - 1u) * (1.0 + 1.0 / 128) / 2 + 4 * U;
}

static void test_quantized(void)
{
    sequence *s;
    if (RV_TEST_SCALE > 16) return;
    s = make();
    for (size_t t = 0; t < N; t++) /* an outlier */
        s->k[t * DK + 3] = 100.0f + s->k[t * DK + 3] / 8;
    for (uint32_t bits = 2; bits <= 8; bits += RV_TEST_SCALE > 1 ? 3 : 1) {
        const size_t sealed = (N - 20) / 16 * 16;
        float *k = (float *)room(N * DK * sizeof(float));
        float *v = (float *)room(N * DV * sizeof(float));
        double worst = 0.0, most = 0.0;
        rv_attn_config config;
        rv_kv_cache *cache, *other;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("bits", bits);
        memset(&config, 0, sizeof config);
        config.heads = HEADS;
        config.order = RV_ATTN_CAUSAL;
        cache = create(&ctx, RV_DTYPE_F32, bits, 0);
        other = create(&ctx, RV_DTYPE_F32, bits, 0);
        for (size_t t = 0; t < N; t++) RV_OKAY(&ctx, append(&ctx, cache, s, t, 1));
        RV_OKAY(&ctx, append(&ctx, other, s, 0, N));
        RV_OKAY(&ctx, rv_kv_cache_get(&ctx, other, 0, N, k, v));
        memcpy(s->want, k, N * DK * sizeof(float)); /* room for it: DK < HEADS * DIM_V */
        RV_OKAY(&ctx, rv_kv_cache_get(&ctx, cache, 0, N, k, v));
        RV_CHECK(memcmp(s->want, k, N * DK * sizeof(float)) == 0); /* however it was appended */
        for (size_t t = 0; t < N; t++) {
            for (size_t x = 0; x < DK; x++) {
                const float *group = s->k + t / 16 * 16 * DK + x;
                RV_NEAR(k[t * DK + x], s->k[t * DK + x],
                        t < sealed ? half_step(group, 16, DK, bits) + 100 * U : 0);
            }
            for (size_t h = 0; h < KV; h++) /* one group: a head has 6 channels */
                for (size_t x = h * DIM_V; x < (h + 1) * DIM_V; x++)
                    RV_NEAR(v[t * DV + x], s->v[t * DV + x],
                            t < sealed ? half_step(s->v + t * DV + h * DIM_V, DIM_V, 1, bits) : 0);
        }
        for (size_t i = 0; i < 20; i++) { /* logits: |q| step sqrt(dim) / 2 */
            for (size_t t = 0; t < sealed; t++) {
                double error = 0.0, length = 0.0, step = 0.0;
                for (size_t x = 0; x < DIM; x++) {
                    const double q = (double)s->q[i * HEADS * DIM + x];
                    const double here = half_step(s->k + t / 16 * 16 * DK + x, 16, DK, bits);
                    error += q * ((double)k[t * DK + x] - (double)s->k[t * DK + x]);
                    length += q * q;
                    step = here > step ? here : step;
                }
                RV_CHECK(fabs(error) <= sqrt(length) * (step + 100 * U) * sqrt((double)DIM));
            }
        }
        RV_OKAY(&ctx, attend(&ctx, cache, &config, s, N - 1, 1));
        memcpy(s->k, k, N * DK * sizeof(float)); /* what is held, attended exactly */
        for (size_t i = 0; i < N * DV; i++) {
            const float x = s->v[i];
            s->v[i] = v[i];
            v[i] = x;
        }
        whole(&ctx, &config, s, N);
        for (size_t i = (N - 1) * HEADS * DIM_V; i < N * HEADS * DIM_V; i++)
            RV_NEAR(s->out[i], s->want[i], 1e-5);
        memcpy(s->v, v, N * DV * sizeof(float));
        grid(2, s->k, N * DK);
        for (size_t t = 0; t < N; t++) s->k[t * DK + 3] = 100.0f + s->k[t * DK + 3] / 8;
        whole(&ctx, &config, s, N); /* and the true ones, for 8 bits within 1 % */
        for (size_t i = (N - 1) * HEADS * DIM_V; i < N * HEADS * DIM_V; i++) {
            const double gap = fabs((double)s->out[i] - (double)s->want[i]);
            if (gap > worst) worst = gap;
            if (fabs((double)s->want[i]) > most) most = fabs((double)s->want[i]);
        }
        RV_CHECK(bits < 8 || worst < 0.01 * most);
        rv_kv_cache_destroy(cache);
        rv_kv_cache_destroy(other);
        free(k);
        free(v);
    }
    free(s);
}

/* 2048 tokens of 64 elements: bytes as the header says, against floats. */
static void test_bytes(void)
{
    enum { D = 64 };
    const size_t n = 2048;
    size_t plain = 0;
    float *x;
    if (RV_TEST_SCALE > 16) return;
    x = (float *)room(n * D * sizeof(float));
    grid(1, x, n * D);
    for (uint32_t bits = 0; bits <= 8; bits += 2) {
        rv_kv_cache_config config;
        rv_kv_cache *cache = NULL;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        memset(&config, 0, sizeof config);
        config.dim = D;
        config.bits = bits;
        RV_OKAY(&ctx, rv_kv_cache_create(&ctx, &config, &cache));
        for (size_t t = 0; t < n; t += 64)
            RV_OKAY(&ctx, rv_kv_cache_append(&ctx, cache, x + t * D, x + t * D, 64, 0, 0));
        if (bits == 0) {
            plain = rv_kv_cache_bytes(cache);
            RV_CHECK(plain >= 2 * 4 * n * D && plain < 2 * 4 * n * D * 5 / 4);
        } else { /* the tail and spare pages: at most 10 of 64 tokens */
            const double codes = 2.0 * (double)(n * D) * ((double)bits + 48.0 / 32) / 8;
            RV_CHECK((double)rv_kv_cache_bytes(cache) <= codes + 10 * 2 * 64 * D * 4 + 8192);
        }
        rv_kv_cache_destroy(cache);
    }
    free(x);
}

/* ---- truncation ---- */

static void test_truncate(void)
{
    sequence *s;
    s = make();
    for (uint32_t bits = 0; bits <= 4; bits += 4) {
        float *k = (float *)room(2 * N * DK * sizeof(float));
        float *v = (float *)room(2 * N * DV * sizeof(float));
        float *k2 = k + N * DK, *v2 = v + N * DV;
        rv_kv_cache *cache;
        rv_ctx ctx;
        size_t bytes;
        rv_test_ctx(&ctx);
        rv_test_row("bits", bits);
        cache = create(&ctx, RV_DTYPE_F32, bits, 0);
        RV_OKAY(&ctx, append(&ctx, cache, s, 0, 150));
        RV_OKAY(&ctx, rv_kv_cache_get(&ctx, cache, 0, 150, k, v));
        RV_OKAY(&ctx, rv_kv_cache_truncate(&ctx, cache, 150)); /* nothing */
        RV_OKAY(&ctx, rv_kv_cache_truncate(&ctx, cache, 75));  /* inside a page, quantized or not */
        RV_EQUAL(rv_kv_cache_count(cache), 75);
        RV_OKAY(&ctx, append(&ctx, cache, s, 100, 20)); /* another way on */
        RV_OKAY(&ctx, rv_kv_cache_get(&ctx, cache, 0, 95, k2, v2));
        RV_CHECK(memcmp(k, k2, 64 * DK * sizeof(float)) == 0);
        for (size_t i = 64 * DK; i < 75 * DK; i++) RV_NEAR(k2[i], k[i], bits ? 0.25 : 0);
        RV_CHECK(memcmp(k2 + 75 * DK, s->k + 100 * DK, 20 * DK * sizeof(float)) == 0);
        RV_CHECK(memcmp(v2 + 75 * DV, s->v + 100 * DV, 20 * DV * sizeof(float)) == 0);
        if (bits == 0) RV_CHECK(memcmp(v, v2, 75 * DV * sizeof(float)) == 0);
        RV_OKAY(&ctx, rv_kv_cache_truncate(&ctx, cache, 64)); /* between pages */
        RV_OKAY(&ctx, rv_kv_cache_truncate(&ctx, cache, 0));
        RV_EQUAL(rv_kv_cache_count(cache), 0);
        bytes = rv_kv_cache_bytes(cache);
        RV_OKAY(&ctx, append(&ctx, cache, s, 0, 30));
        RV_EQUAL(rv_kv_cache_bytes(cache), bytes); /* from spare pages */
        RV_FAILS(&ctx, rv_kv_cache_truncate(&ctx, cache, 31), RV_ERR_ARG, "n is 31");
        RV_FAILS(&ctx, rv_kv_cache_truncate(&ctx, NULL, 0), RV_ERR_ARG, "cache");
        rv_kv_cache_destroy(cache);
        cache = create(&ctx, RV_DTYPE_F32, bits, 30);
        for (size_t t = 0; t < 120; t += 10) RV_OKAY(&ctx, append(&ctx, cache, s, t, 10));
        RV_EQUAL(rv_kv_cache_first(cache), 80); /* the last ten see from 110 + 1 - 30 on */
        RV_FAILS(&ctx, rv_kv_cache_truncate(&ctx, cache, 108), RV_ERR_ARG, "from 109 on");
        RV_OKAY(&ctx, rv_kv_cache_truncate(&ctx, cache, 109));
        RV_EQUAL(rv_kv_cache_count(cache), 109);
        rv_kv_cache_destroy(cache);
        free(k);
        free(v);
    }
    free(s);
}

/* A window's memory stays what it was, however long the sequence. */
static void test_window_bytes(void)
{
    sequence *s;
    rv_kv_cache *cache;
    rv_ctx ctx;
    const size_t n = RV_SCALED(5000, 300);
    size_t bytes = 0;
    if (RV_TEST_SCALE > 16) return;
    s = make();
    rv_test_ctx(&ctx);
    cache = create(&ctx, RV_DTYPE_F32, 0, 20);
    for (size_t t = 0; t < n; t++) {
        RV_OKAY(&ctx, append(&ctx, cache, s, t % N, 1));
        if (t == 100) bytes = rv_kv_cache_bytes(cache);
    }
    RV_EQUAL(rv_kv_cache_bytes(cache), bytes);
    RV_EQUAL(rv_kv_cache_count(cache), n);
    RV_EQUAL(rv_kv_cache_first(cache), (n - 20) / 16 * 16); /* the last sees from n - 20 on */
    rv_kv_cache_destroy(cache);
    free(s);
}

/* ---- faults ---- */

/* Grows, quantizes, wraps, opens again, attends: after a failed call the cache is as before. */
static rv_status sweep(rv_ctx *ctx, void *arg)
{
    sequence *s = (sequence *)arg;
    rv_kv_cache *cache = NULL;
    rv_kv_cache_config config;
    rv_attn_config attn;
    rv_status status;
    memset(&config, 0, sizeof config);
    memset(&attn, 0, sizeof attn);
    attn.heads = HEADS;
    attn.order = RV_ATTN_CAUSAL;
    config.kv_heads = KV;
    config.dim = DIM;
    config.dim_v = DIM_V;
    config.page = 16;
    config.bits = 4;
    config.tail = 16;
    config.window = 60;
    status = rv_kv_cache_create(ctx, &config, &cache);
    for (size_t t = 0; t < 150 && !status; t += 75) {
        const size_t count = rv_kv_cache_count(cache), first = rv_kv_cache_first(cache);
        status = append(ctx, cache, s, t, 75); /* pages begin and are quantized at once */
        if (status) {
            float one[DK];
            RV_EQUAL(rv_kv_cache_count(cache), count);
            RV_EQUAL(rv_kv_cache_first(cache), first);
            if (count)
                RV_EQUAL(rv_kv_cache_get(NULL, cache, count - 1, 1, one, NULL), RV_OK);
            if (count) RV_CHECK(memcmp(one, s->k + (count - 1) * DK, sizeof one) == 0);
        }
    }
    if (!status) status = attend(ctx, cache, &attn, s, 120, 30);
    if (!status) {
        rv_attn_io io;
        float weights[HEADS * 160];
        memset(&io, 0, sizeof io);
        io.n_q = 1;
        io.q = s->q;
        io.out = s->out;
        io.weights = weights;
        status = rv_kv_cache_attend(ctx, cache, &attn, &io);
    }
    if (!status) {
        status = rv_kv_cache_truncate(ctx, cache, 125);
        RV_EQUAL(rv_kv_cache_count(cache), status ? 150 : 125);
    }
    rv_kv_cache_destroy(cache);
    return status;
}

static void test_faults(void)
{
    sequence *s;
    s = make();
    RV_CHECK(rv_test_oom_sweep(sweep, s) > 20);
    RV_CHECK(rv_test_cancel_sweep(sweep, s) > 10);
    free(s);
}

static void test_errors(void)
{
    float x[64], out[64];
    rv_kv_cache_config config;
    rv_attn_config attn;
    rv_attn_io io;
    rv_attn_mask mask;
    rv_kv_cache *cache = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(1, x, 64);
    memset(&config, 0, sizeof config);
    memset(&attn, 0, sizeof attn);
    memset(&io, 0, sizeof io);
    memset(&mask, 0, sizeof mask);
    config.dim = 4;
#define CREATED rv_kv_cache_create(&ctx, &config, &cache)
#define REFUSED(field, value, zero, run, status, word)                                             \
    do {                                                                                           \
        field = value;                                                                             \
        RV_FAILS(&ctx, run, status, word);                                                         \
        field = zero;                                                                              \
    } while (0)
    RV_FAILS(&ctx, rv_kv_cache_create(&ctx, NULL, &cache), RV_ERR_ARG, "config");
    REFUSED(config.dim, 0, 4, CREATED, RV_ERR_DIM, "dim is 0");
    REFUSED(config.dim_v, 65536, 0, CREATED, RV_ERR_DIM, "dim_v is 65536");
    REFUSED(config.kv_heads, 65536, 0, CREATED, RV_ERR_CONFIG, "kv_heads is 65536");
    REFUSED(config.type, RV_DTYPE_I8, RV_DTYPE_F32, CREATED, RV_ERR_CONFIG, "type is i8");
    REFUSED(config.page, 15, 0, CREATED, RV_ERR_CONFIG, "page is 15");
    REFUSED(config.page, 65, 0, CREATED, RV_ERR_CONFIG, "page is 65");
    REFUSED(config.bits, 1, 0, CREATED, RV_ERR_CONFIG, "bits is 1");
    REFUSED(config.bits, 9, 0, CREATED, RV_ERR_CONFIG, "bits is 9");
    REFUSED(config.group, 12, 0, CREATED, RV_ERR_CONFIG, "group is 12");
    REFUSED(config.tail, 1048577, 0, CREATED, RV_ERR_CONFIG, "tail is 1048577");
    RV_CHECK(cache == NULL);
    rv_kv_cache_destroy(NULL);
    config.type = RV_DTYPE_F16;
    config.page = 16;
    config.window = 4;
    RV_OKAY(&ctx, CREATED);
    io.n_q = 1;
    io.q = x;
    io.out = out;
#define ATTEND rv_kv_cache_attend(&ctx, cache, &attn, &io)
    RV_FAILS(&ctx, ATTEND, RV_ERR_DIM, "holds no token");
    RV_FAILS(&ctx, rv_kv_cache_append(&ctx, NULL, x, x, 1, 0, 0), RV_ERR_ARG, "cache");
    RV_FAILS(&ctx, rv_kv_cache_append(&ctx, cache, x, NULL, 1, 0, 0), RV_ERR_ARG, "k and v");
    RV_FAILS(&ctx, rv_kv_cache_append(&ctx, cache, x, x, 2, 3, 0), RV_ERR_DIM, "k_stride");
    RV_OKAY(&ctx, rv_kv_cache_append(&ctx, cache, NULL, NULL, 0, 0, 0));
    x[6] = not_a_number();
    RV_FAILS(&ctx, rv_kv_cache_append(&ctx, cache, x, x + 8, 2, 0, 0), RV_ERR_ARG, "k[6] is NaN");
    RV_EQUAL(ctx.where, 6);
    x[6] = 65520.0f;
    RV_FAILS(&ctx, rv_kv_cache_append(&ctx, cache, x + 8, x, 2, 0, 0), RV_ERR_ARG, "f16 cannot");
    x[6] = 65519.0f;
    for (size_t i = 0; i < 12; i++)
        RV_OKAY(&ctx, rv_kv_cache_append(&ctx, cache, x, x, 2, 0, 0));
    x[6] = 1.0f;
    RV_OKAY(&ctx, ATTEND);
    RV_FAILS(&ctx, rv_kv_cache_attend(&ctx, NULL, &attn, &io), RV_ERR_ARG, "cache");
    RV_FAILS(&ctx, rv_kv_cache_attend(&ctx, cache, &attn, NULL), RV_ERR_ARG, "io");
    REFUSED(io.k, x, NULL, ATTEND, RV_ERR_ARG, "k and v must be NULL");
    REFUSED(io.q, NULL, x, ATTEND, RV_ERR_ARG, "q, k, v and out");
    REFUSED(io.dim, 5, 0, ATTEND, RV_ERR_DIM, "are 5, 0 and 0, must be 0 or 4, 4 and 8");
    REFUSED(io.k_stride, 4, 0, ATTEND, RV_ERR_CONFIG, "k_stride");
    REFUSED(io.type, RV_DTYPE_F16, RV_DTYPE_F32, ATTEND, RV_ERR_CONFIG, "type");
    REFUSED(attn.kv_heads, 2, 0, ATTEND, RV_ERR_CONFIG, "kv_heads is 2");
    REFUSED(attn.past, 2, 0, ATTEND, RV_ERR_CONFIG, "past is 2");
    REFUSED(attn.order, RV_ATTN_CAUSAL_FIRST, RV_ATTN_ANY, ATTEND, RV_ERR_CONFIG, "CAUSAL_FIRST");
    REFUSED(attn.raw, 1, 0, ATTEND, RV_ERR_CONFIG, "raw and training");
    REFUSED(attn.temperature, -1.0f, 0, ATTEND, RV_ERR_CONFIG, "temperature");
    REFUSED(io.mask, &mask, NULL, ATTEND, RV_ERR_UNSUPPORTED, "CAUSAL");
    attn.order = RV_ATTN_CAUSAL;
    RV_EQUAL(rv_kv_cache_first(cache), 16);
    REFUSED(io.n_q, 6, 1, ATTEND, RV_ERR_DIM, "n_q is 6, whole windows are held for 5");
    REFUSED(io.n_q, 25, 1, ATTEND, RV_ERR_DIM, "n_q is 25, there are 24");
    attn.order = RV_ATTN_ANY;
    attn.windowed = 1;
    REFUSED(io.n_q, 5, 1, ATTEND, RV_ERR_DIM, "n_q is 5, 4 tokens are seen");
    io.n_q = 0;
    RV_OKAY(&ctx, ATTEND);
    RV_FAILS(&ctx, rv_kv_cache_get(&ctx, cache, 15, 1, x, x), RV_ERR_ARG, "held are 16 .. 24");
    RV_FAILS(&ctx, rv_kv_cache_get(&ctx, cache, 20, 5, x, x), RV_ERR_ARG, "held are 16 .. 24");
    RV_FAILS(&ctx, rv_kv_cache_get(&ctx, NULL, 20, 1, x, x), RV_ERR_ARG, "cache");
#undef REFUSED
#undef CREATED
#undef ATTEND
    rv_kv_cache_destroy(cache);
}

int main(void)
{
    rv_test_begin("kv_cache");
    RV_RUN(test_golden);
    RV_RUN(test_steps);
    RV_RUN(test_any);
    RV_RUN(test_mask);
    RV_RUN(test_quantized);
    RV_RUN(test_bytes);
    RV_RUN(test_truncate);
    RV_RUN(test_window_bytes);
    RV_RUN(test_faults);
    RV_RUN(test_errors);
    return rv_test_end();
}
