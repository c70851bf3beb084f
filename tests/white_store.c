/* The row store the indexes share: slots, keys, map, encodings, moves, images. White box: what an
   index relies on and no public function shows. */
#define RV_NO_SIMD /* looks above the kernels, which take long to compile */
#include "rv_test.h"
#include "store.c"

#define MODEL_KEYS 96
#define MODEL_DIM 5

static rv__store_spec make_spec(uint32_t dim, rv_metric metric, rv_dtype type)
{
    rv__store_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.dim = dim;
    spec.metric = metric;
    spec.type = type;
    return spec;
}

/* Padding under 7 % buys alignment; small rows are only rounded to 4 bytes. */
static void test_stride(void)
{
    static const struct {
        rv_dtype type;
        uint32_t dim;
        size_t stride;
    } rows[] = {
        {RV_DTYPE_F32, 1, 4},      {RV_DTYPE_F32, 15, 60},     {RV_DTYPE_F32, 16, 64},
        {RV_DTYPE_F32, 17, 68},    {RV_DTYPE_F32, 24, 96},     {RV_DTYPE_F32, 31, 128},
        {RV_DTYPE_F32, 25, 100},   {RV_DTYPE_F32, 100, 416},   {RV_DTYPE_F32, 768, 3072},
        {RV_DTYPE_F32, 300, 1216}, {RV_DTYPE_F16, 5, 12},      {RV_DTYPE_F16, 100, 208},
        {RV_DTYPE_F16, 101, 208},  {RV_DTYPE_I8, 768, 800},    {RV_DTYPE_I8, 128, 132},
        {RV_DTYPE_I8, 1024, 1088}, {RV_DTYPE_I8, 3, 8},        {RV_DTYPE_U1, 1, 4},
        {RV_DTYPE_U1, 1024, 128},  {RV_DTYPE_U1, 65535, 8192}, {RV_DTYPE_F32, 65535, 262144},
    };
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_test_row(rv_dtype_name(rows[i].type), rows[i].dim);
        RV_EQUAL(rv__store_stride(rows[i].type, rows[i].dim), rows[i].stride);
    }
}

static int accept_even(void *user, uint64_t key)
{
    return key % 2 == 0 && user != NULL;
}

static void test_filter(void)
{
    static const uint8_t bits[2] = {0x35, 0x01}; /* 0, 2, 4, 5, 8 */
    rv_filter f;
    memset(&f, 0, sizeof f);
    RV_EQUAL(rv__filter_pass(NULL, 7), 1);
    RV_EQUAL(rv__filter_pass(&f, 7), 1);
    f.bits = bits;
    f.n_bits = 9;
    for (uint64_t key = 0; key < 20; key++) {
        RV_EQUAL(rv__filter_pass(&f, key),
                 key == 0 || key == 2 || key == 4 || key == 5 || key == 8);
    }
    RV_EQUAL(rv__filter_pass(&f, UINT64_MAX), 0);
    f.accept = accept_even;
    f.user = &f;
    RV_EQUAL(rv__filter_pass(&f, 5), 0);
    RV_EQUAL(rv__filter_pass(&f, 4), 1);
    f.bits = NULL;
    RV_EQUAL(rv__filter_pass(&f, 12), 1);
    RV_EQUAL(rv__filter_pass(&f, UINT64_MAX), 0);
}

/* ---- against a model: an array of the vectors by key ---- */

typedef struct model {
    int present[MODEL_KEYS];
    float vec[MODEL_KEYS][MODEL_DIM];
    uint32_t count;
} model;

static void model_compare(const rv__store *s, const model *m)
{
    uint32_t live = 0;
    RV_EQUAL(s->n - s->n_removed, m->count);
    for (uint32_t slot = 0; slot < s->n; slot++) live += (uint32_t)rv__store_live(s, slot);
    RV_EQUAL(live, m->count);
    RV_EQUAL(rv__store_live(s, s->n), 0);
    for (size_t key = 0; key < MODEL_KEYS; key++) {
        uint32_t slot = rv__store_find(s, key);
        float out[MODEL_DIM];
        RV_EQUAL(slot != RV__NO_SLOT, m->present[key]);
        if (slot == RV__NO_SLOT) continue;
        RV_EQUAL(rv__store_key(s, slot), key);
        RV_CHECK(rv__store_live(s, slot));
        rv__store_decode(s, slot, out);
        RV_CHECK(memcmp(out, m->vec[key], sizeof out) == 0);
    }
    RV_EQUAL(rv__store_find(s, UINT64_MAX), RV__NO_SLOT);
    RV_EQUAL(rv__store_find(s, (uint64_t)1 << 32), RV__NO_SLOT);
}

static void model_add(rv_ctx *ctx, rv__store *s, model *m, rv_test_rng *rng, uint64_t key)
{
    uint32_t slot = 0, expected = s->n;
    float vec[MODEL_DIM];
    rv_test_fill(rng, vec, MODEL_DIM);
    for (uint32_t i = s->n; i-- > 0;) {
        if (!rv__store_live(s, i)) expected = i;
    }
    if (m->present[key]) {
        RV_EQUAL(rv__store_add(ctx, s, key, vec, &slot), RV_ERR_EXISTS);
        return;
    }
    if (!s->keys && key < s->n) expected = (uint32_t)key;
    RV_OKAY(ctx, rv__store_add(ctx, s, key, vec, &slot));
    RV_EQUAL(slot, expected);
    memcpy(m->vec[key], vec, sizeof vec);
    m->present[key] = 1;
    m->count++;
}

static void model_append(rv_ctx *ctx, rv__store *s, model *m, rv_test_rng *rng)
{
    uint64_t keys[8];
    float vecs[8 * MODEL_DIM];
    size_t n = rv_test_below(rng, 9);
    uint32_t before = s->n;
    int clash = 0;
    rv_status status;
    rv_test_fill(rng, vecs, n * MODEL_DIM);
    for (size_t i = 0; i < n; i++) {
        keys[i] = rv_test_below(rng, 4) ? before + i : rv_test_below(rng, MODEL_KEYS);
        keys[i] %= MODEL_KEYS;
        clash |= m->present[keys[i]];
        for (size_t j = 0; j < i; j++) clash |= keys[i] == keys[j];
    }
    status = rv__store_append(ctx, s, keys, vecs, n);
    RV_EQUAL(status, clash ? RV_ERR_EXISTS : RV_OK);
    RV_EQUAL(s->n, before + (clash ? 0 : n));
    for (size_t i = 0; i < n && !clash; i++) {
        memcpy(m->vec[keys[i]], vecs + i * MODEL_DIM, sizeof m->vec[0]);
        m->present[keys[i]] = 1;
        m->count++;
        RV_EQUAL(rv__store_find(s, keys[i]), before + i);
    }
}

/* What was there keeps its order; new_slot names where each row went. */
static void model_compact(rv_ctx *ctx, rv__store *s)
{
    uint32_t new_slot[4 * MODEL_KEYS], n = s->n, at = 0;
    uint64_t keys[4 * MODEL_KEYS];
    RV_CHECK(n <= 4 * MODEL_KEYS);
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = rv__store_live(s, i) ? rv__store_key(s, i) : UINT64_MAX;
    }
    RV_OKAY(ctx, rv__store_compact(ctx, s, new_slot));
    RV_EQUAL(s->capacity, s->n);
    RV_EQUAL(s->n_removed, 0);
    for (uint32_t i = 0; i < n; i++) {
        RV_EQUAL(new_slot[i], keys[i] == UINT64_MAX ? RV__NO_SLOT : at);
        if (keys[i] == UINT64_MAX) continue;
        RV_EQUAL(rv__store_key(s, at), keys[i]);
        at++;
    }
    RV_EQUAL(s->n, at);
}

static void test_model(void)
{
    for (uint64_t seed = 1; seed <= RV_SCALED(60, 3); seed++) {
        rv_test_faults faults;
        rv__store_spec spec = make_spec(MODEL_DIM, RV_METRIC_L2, RV_DTYPE_F32);
        rv__store s;
        rv_ctx ctx;
        model m;
        rv_test_rng rng;
        rv_test_seed(&rng, seed);
        rv_test_ctx_faults(&ctx, &faults);
        memset(&m, 0, sizeof m);
        RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
        for (int step = 0; step < 200 && s.n < 3 * MODEL_KEYS; step++) {
            uint64_t key = rv_test_below(&rng, MODEL_KEYS);
            uint32_t slot = rv__store_find(&s, key);
            float vec[MODEL_DIM];
            size_t what = rv_test_below(&rng, 100);
            if (seed % 2 && what < 40) key = s.n % MODEL_KEYS; /* stays in identity for a while */
            if (what < 45) {
                model_add(&ctx, &s, &m, &rng, key);
            } else if (what < 75 && slot != RV__NO_SLOT) {
                RV_OKAY(&ctx, rv__store_remove(&ctx, &s, slot));
                m.present[key] = 0;
                m.count--;
            } else if (what < 85 && slot != RV__NO_SLOT) {
                rv_test_fill(&rng, vec, MODEL_DIM);
                RV_OKAY(&ctx, rv__store_replace(&ctx, &s, slot, vec));
                memcpy(m.vec[key], vec, sizeof vec);
            } else if (what < 93) {
                model_append(&ctx, &s, &m, &rng);
            } else if (what < 95) {
                RV_OKAY(&ctx, rv__store_reserve(&ctx, &s, s.capacity + rv_test_below(&rng, 9)));
            } else {
                model_compact(&ctx, &s);
            }
            model_compare(&s, &m);
        }
        rv__store_free(&s);
        RV_EQUAL(faults.live_blocks, 0);
    }
}

/* A window that slides over growing keys must not grow: slots of removed rows are used again. */
static void test_window(void)
{
    static const float next[1] = {0.5f};
    uint64_t held[1] = {0};
    uint32_t next_slot = 0;
    rv__store_spec spec = make_spec(1, RV_METRIC_L2, RV_DTYPE_F32);
    rv__store s;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
    for (uint64_t key = 0; key < 1000; key++) {
        float x = (float)key;
        uint32_t slot = 0;
        RV_OKAY(&ctx, rv__store_add(&ctx, &s, key, &x, &slot));
        if (key < 10) RV_EQUAL(slot, key);
        if (key >= 10) RV_OKAY(&ctx, rv__store_remove(&ctx, &s, rv__store_find(&s, key - 10)));
    }
    RV_CHECK(s.n <= 12);
    RV_EQUAL(s.n - s.n_removed, 10);
    rv__store_free(&s);
    /* unless the index holds them */
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
    RV_OKAY(&ctx, rv__store_reserve(&ctx, &s, 10));
    s.held = held;
    for (uint64_t key = 0; key < 10; key++) {
        float x = (float)key;
        uint32_t slot = 0;
        RV_OKAY(&ctx, rv__store_add(&ctx, &s, key % 3, &x, &slot));
        RV_EQUAL(slot, key);
        RV_OKAY(&ctx, rv__store_remove(&ctx, &s, slot));
        held[0] |= (uint64_t)1 << slot;
        s.n_held++;
    }
    RV_EQUAL(s.n, 10);
    RV_EQUAL(s.n_removed, 10);
    held[0] &= ~(uint64_t)0x28; /* slots 3 and 5 may be taken again, the lowest first */
    s.n_held -= 2;
    for (uint64_t key = 20; key < 23; key++) {
        RV_OKAY(&ctx, rv__store_add(&ctx, &s, key, &next[0], &next_slot));
        RV_EQUAL(next_slot, key == 20 ? 3 : key == 21 ? 5 : 10);
        if (key == 22) RV_OKAY(&ctx, rv__store_remove(&ctx, &s, next_slot));
    }
    for (uint64_t key = 20; key < 22; key++) {
        RV_OKAY(&ctx, rv__store_remove(&ctx, &s, rv__store_find(&s, key)));
    }
    s.n_held = 0;
    s.held = NULL;
    RV_OKAY(&ctx, rv__store_compact(&ctx, &s, NULL));
    RV_EQUAL(s.n, 0);
    RV_EQUAL(rv__store_bytes(&s), 0);
    rv__store_free(&s);
}

/* Identity costs nothing: no keys, no map, whatever way the rows came; it survives a cut at the
   end. */
static void test_identity(void)
{
    static const uint64_t next[2] = {4, 5}, other[2] = {9, 8};
    float x[8];
    rv__store_spec spec = make_spec(1, RV_METRIC_L2, RV_DTYPE_F32);
    rv__store s;
    rv_ctx ctx;
    uint32_t slot, moved[8];
    rv_test_ctx(&ctx);
    for (int i = 0; i < 8; i++) x[i] = (float)i;
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
    RV_OKAY(&ctx, rv__store_append(&ctx, &s, NULL, x, 4));
    RV_OKAY(&ctx, rv__store_append(&ctx, &s, next, x + 4, 2));
    RV_OKAY(&ctx, rv__store_add(&ctx, &s, 6, x + 6, &slot));
    RV_OKAY(&ctx, rv__store_append(&ctx, &s, NULL, x, 0));
    RV_CHECK(s.keys == NULL && s.map == NULL);
    RV_OKAY(&ctx, rv__store_remove(&ctx, &s, 6));
    RV_OKAY(&ctx, rv__store_remove(&ctx, &s, 5));
    RV_EQUAL(rv__store_find(&s, 5), RV__NO_SLOT);
    RV_OKAY(&ctx, rv__store_compact(&ctx, &s, moved));
    RV_CHECK(s.keys == NULL && s.removed == NULL && s.n == 5 && moved[4] == 4 &&
             moved[5] == RV__NO_SLOT);
    RV_EQUAL(rv__store_bytes(&s), 5 * sizeof(float));
    RV_EQUAL(rv__store_append(&ctx, &s, NULL, x, 2), RV_ERR_EXISTS);
    RV_OKAY(&ctx, rv__store_append(&ctx, &s, other, x, 2));
    RV_CHECK(s.keys != NULL && rv__store_find(&s, 9) == 5 && rv__store_find(&s, 8) == 6);
    RV_EQUAL(rv__store_append(&ctx, &s, other, x, 2), RV_ERR_EXISTS);
    RV_EQUAL(ctx.where, 0);
    rv__store_free(&s);
}

/* ---- encodings ---- */

/* Largest error of a stored element relative to what it may be: half a step of the type. */
static double half_step(rv_dtype type, double x, double peak)
{
    if (type == RV_DTYPE_F16) return fabs(x) / 2048 + 3e-8; /* 11 bits; 2^-25 below 2^-14   */
    if (type == RV_DTYPE_BF16) return fabs(x) / 256;        /* 8 bits                       */
    if (type == RV_DTYPE_I8) return peak / 254 * 1.00001;
    return 0;
}

static void test_encode(void)
{
    static const uint32_t dims[] = {1, 2, 3, 7, 8, 63, 64, 65, 130};
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 11);
    for (size_t d = 0; d < RV_COUNT_OF(dims); d++) {
        for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_I8; type++) {
            for (int cosine = 0; cosine < 2; cosine++) {
                rv__store_spec spec =
                    make_spec(dims[d], cosine ? RV_METRIC_COSINE : RV_METRIC_L2, (rv_dtype)type);
                float x[130], out[130];
                double peak = 0, norm = 0;
                uint32_t slot = 9;
                rv__store s;
                rv_test_row(rv_dtype_name((rv_dtype)type), dims[d]);
                rv_test_fill(&rng, x, dims[d]);
                for (size_t i = 0; i < dims[d]; i++) {
                    x[i] *= 3.0f;
                    peak = fabs((double)x[i]) > peak ? fabs((double)x[i]) : peak;
                    norm += (double)x[i] * (double)x[i];
                }
                norm = sqrt(norm);
                RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
                RV_OKAY(&ctx, rv__store_add(&ctx, &s, 0, x, &slot));
                rv__store_decode(&s, slot, out);
                for (size_t i = 0; i < dims[d]; i++) {
                    double bound = half_step((rv_dtype)type, (double)x[i], peak);
                    /* cosine: two roundings more, and the steps scale with the length */
                    if (cosine)
                        bound +=
                            fabs((double)x[i]) * 2.4e-7 + (type == RV_DTYPE_F16 ? norm * 6e-8 : 0);
                    RV_NEAR((double)out[i], (double)x[i], bound);
                }
                if (cosine) RV_NEAR((double)s.norms[0], norm, norm * 6e-8);
                rv__store_free(&s);
            }
        }
    }
}

/* The ends of the scale of floats under I8 and cosine. */
static void test_encode_extremes(void)
{
    static const struct {
        float x[3];
        double relative; /* error allowed, of the largest element */
    } rows[] = {
        {{0, 0, 0}, 0},
        {{1e-30f, -1e-30f, 5e-31f}, 1.0 / 254},
        {{1e-38f, -5e-39f, 0}, 1.0 / 254},
        {{1.2e-36f, -0.6e-36f, 1e-37f}, 1.0 / 254},
        {{3e38f, -3e38f, 1}, 1.0 / 254},
        {{1e-42f, 1e-43f, 0}, 0.6},
        {{1e-45f, 0, 0}, 1},
    };
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        for (int metric = RV_METRIC_L2; metric <= (int)RV_METRIC_COSINE; metric += 2) {
            rv__store_spec spec = make_spec(3, (rv_metric)metric, RV_DTYPE_I8);
            rv__store s;
            uint32_t slot = 0;
            float out[3];
            if (metric == RV_METRIC_COSINE && rows[i].x[0] > 1e38f) continue;
#if defined(__FAST_MATH__)
            if (i > 1 && rows[i].x[0] < 2e-36f) continue; /* a denormal scale is taken as zero */
#endif
            rv_test_row(rv_metric_name((rv_metric)metric), i);
            RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
            RV_OKAY(&ctx, rv__store_add(&ctx, &s, 0, rows[i].x, &slot));
            rv__store_decode(&s, 0, out);
            for (int k = 0; k < 3; k++) {
                double peak = fabs((double)rows[i].x[0]), bound = rows[i].relative;
                /* a denormal scale is off by up to 2^-150, a code is up to 127 */
                RV_NEAR((double)out[k], (double)rows[i].x[k],
                        peak * bound * 1.0001 + 127 * ldexp(1, -150));
            }
            rv__store_free(&s);
        }
    }
}

static void refuse(rv_metric metric, rv_dtype type, const float *x, size_t where, const char *text)
{
    rv__store_spec spec = make_spec(4, metric, type);
    rv__store s;
    rv_ctx ctx;
    uint32_t slot = 7;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
    RV_EQUAL(rv__store_add(&ctx, &s, 0, x, &slot), RV_ERR_ARG);
    RV_EQUAL(ctx.where, where);
    RV_CHECK(strstr(ctx.message, text) != NULL);
    RV_EQUAL(slot, 7);
    RV_EQUAL(rv__store_append(&ctx, &s, NULL, x, 1), RV_ERR_ARG);
    RV_EQUAL(ctx.where, where);
    RV_EQUAL(s.n, 0);
    rv__store_free(&s);
}

static void test_refuse(void)
{
    float x[4] = {1, 2, 3, 4};
    x[2] = (float)NAN;
    refuse(RV_METRIC_L2, RV_DTYPE_F32, x, 2, "NaN");
    x[1] = -rv__infinity();
    refuse(RV_METRIC_COSINE, RV_DTYPE_I8, x, 1, "infinite");
    x[2] = 0;
    x[1] = 65520.0f;
    refuse(RV_METRIC_L2, RV_DTYPE_F16, x, 1, "65520");
    x[1] = 3.4e38f;
    refuse(RV_METRIC_IP, RV_DTYPE_BF16, x, 1, "beyond the range of bf16");
    x[2] = -3.4e38f;
    refuse(RV_METRIC_COSINE, RV_DTYPE_F32, x, 0, "length");
}

/* The largest values that are kept. */
static void test_accept(void)
{
    static const struct {
        rv_dtype type;
        float x, stored;
    } rows[] = {
        {RV_DTYPE_F16, 65519.0f, 65504.0f},
        {RV_DTYPE_F16, -65504.0f, -65504.0f},
        {RV_DTYPE_F32, 3.4028234e38f, 3.4028234e38f},
        {RV_DTYPE_BF16, 3.3895313e38f, 3.3895314e38f},
    };
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv__store_spec spec = make_spec(1, RV_METRIC_L2, rows[i].type);
        rv__store s;
        uint32_t slot = 0;
        float out = 0;
        rv_test_row(rv_dtype_name(rows[i].type), i);
        RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
        RV_OKAY(&ctx, rv__store_add(&ctx, &s, 0, &rows[i].x, &slot));
        rv__store_decode(&s, 0, &out);
        RV_CHECK(memcmp(&out, &rows[i].stored, sizeof out) == 0);
        rv__store_free(&s);
    }
}

/* ---- sizes near 2^32 ---- */

static void test_sizes(void)
{
    rv__store_spec spec = make_spec(1, RV_METRIC_HAMMING, RV_DTYPE_U1);
    rv_test_faults faults;
    rv__store s;
    rv_ctx ctx;
    rv_test_ctx_faults(&ctx, &faults);
    faults.fail_at = 1; /* whatever is asked for is refused */
    faults.fail_count = SIZE_MAX;
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
    RV_EQUAL(rv__store_reserve(&ctx, &s, 0xFFFFFFFEu), RV_ERR_MEMORY);
    if (SIZE_MAX > 0xFFFFFFFFu) {
        spec.capacity = (size_t)0xFFFFFFFFu;
        RV_EQUAL(rv__store_init(&ctx, &s, &spec), RV_ERR_CONFIG);
        RV_EQUAL(rv__store_reserve(&ctx, &s, 0xFFFFFFFFu), RV_ERR_ARG);
        spec.capacity = SIZE_MAX;
        RV_EQUAL(rv__store_init(&ctx, &s, &spec), RV_ERR_CONFIG);
    }
    spec.capacity = 0xFFFFFFFEu;
    RV_EQUAL(rv__store_init(&ctx, &s, &spec), RV_ERR_MEMORY);
    spec.capacity = 0;
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
    s.n = 0xFFFFFFF0u; /* as if */
    RV_EQUAL(rv__store_grow(&ctx, &s, 14), RV_ERR_MEMORY);
    RV_EQUAL(rv__store_grow(&ctx, &s, 15), RV_ERR_ARG);
    RV_EQUAL(rv__store_grow(&ctx, &s, SIZE_MAX), RV_ERR_ARG);
    RV_EQUAL(rv__store_map_size(0xC0000000u),
             SIZE_MAX > 0xFFFFFFFFu ? (size_t)0xFFFFFFFFu + 1 : SIZE_MAX);
    RV_EQUAL(rv__store_map_size(6), 8);
    RV_EQUAL(rv__store_map_size(7), 16);
    s.n = 0;
    rv__store_free(&s);
}

/* ---- distances of prepared queries ---- */

static void test_cosine_zero(void)
{
    static const float x[3][2] = {{0, 0}, {3, 4}, {-6, -8}};
    rv__store_spec spec = make_spec(2, RV_METRIC_COSINE, RV_DTYPE_F32);
    const uint32_t ids[2] = {2, 0};
    rv__store s;
    rv_ctx ctx;
    float out[3];
    void *query;
    rv_test_ctx(&ctx);
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_I8; type++) {
        rv_test_row(rv_dtype_name((rv_dtype)type), 0);
        spec.type = (rv_dtype)type;
        RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
        RV_OKAY(&ctx, rv__store_append(&ctx, &s, NULL, x, 3));
        query = rv__get(&s.alloc, rv__store_query_bytes(&s), 1);
        rv__store_prepare(&s, x[0], query);
        rv__store_scan(&s, ctx.isa, query, NULL, 0, 3, out);
        RV_CHECK(out[0] == 0.0f && out[1] == 1.0f && out[2] == 1.0f);
        rv__store_scan(&s, ctx.isa, query, ids, 0, 2, out);
        RV_CHECK(out[0] == 1.0f && out[1] == 0.0f);
        rv__store_prepare(&s, x[1], query);
        rv__store_scan(&s, ctx.isa, query, NULL, 1, 2, out);
        RV_CHECK(out[0] >= 0.0f && out[1] <= 2.0f);
        RV_NEAR((double)out[0], 0, type == RV_DTYPE_F32 ? 2e-7 : 8e-3);
        RV_NEAR((double)out[1], 2, type == RV_DTYPE_F32 ? 2e-7 : 8e-3);
        rv__store_prepare_row(&s, 0, query);
        rv__store_scan(&s, ctx.isa, query, NULL, 0, 2, out);
        RV_CHECK(out[0] == 0.0f && out[1] == 1.0f);
        rv__put(&s.alloc, query, rv__store_query_bytes(&s), 1);
        rv__store_free(&s);
    }
}

/* ---- faults ---- */

static rv_status churn(rv_ctx *ctx, void *arg)
{
    const int *cosine = (const int *)arg;
    rv__store_spec spec = make_spec(3, *cosine ? RV_METRIC_COSINE : RV_METRIC_L2, RV_DTYPE_F16);
    uint64_t keys[40];
    float x[40 * 3];
    uint32_t slot = 0, order[200];
    rv_status status;
    rv__store s;
    for (size_t i = 0; i < 40; i++) keys[i] = 1000 + 7 * i;
    for (size_t i = 0; i < 120; i++) x[i] = (float)i;
    spec.capacity = 2;
    status = rv__store_init(ctx, &s, &spec);
    if (status) return status;
    status = rv__store_append(ctx, &s, NULL, x, 40);
    RV_EQUAL(s.n, status ? 0 : 40);
    if (!status) status = rv__store_remove(ctx, &s, 3);
    if (!status) {
        status = rv__store_add(ctx, &s, 77, x, &slot);
        RV_EQUAL(rv__store_find(&s, 77) != RV__NO_SLOT, status == RV_OK);
    }
    if (!status) {
        status = rv__store_append(ctx, &s, keys, x, 40);
        RV_EQUAL(s.n - s.n_removed, status ? 40 : 80);
        RV_EQUAL(rv__store_find(&s, 1007) != RV__NO_SLOT, status == RV_OK);
        RV_EQUAL(rv__store_find(&s, 39), 39);
    }
    if (!status) status = rv__store_remove(ctx, &s, 5);
    if (!status) {
        uint32_t before = s.n;
        status = rv__store_compact(ctx, &s, order);
        RV_EQUAL(s.n, status ? before : before - 1);
    }
    rv__store_free(&s);
    return status;
}

static void test_faults(void)
{
    for (int cosine = 0; cosine < 2; cosine++) {
        RV_CHECK(rv_test_oom_sweep(churn, &cosine) > 10);
        RV_CHECK(rv_test_cancel_sweep(churn, &cosine) > 5);
    }
}

/* ---- images ---- */

static rv_status store_save(rv_ctx *ctx, const rv__store *s, void *image, size_t cap, size_t *bytes)
{
    rv__image_writer w;
    rv__image_begin(ctx, &w, "TEST", image, cap);
    (void)rv__store_save(&w, s);
    return rv__image_end(ctx, &w, bytes);
}

static void compare_stores(const rv__store *a, const rv__store *b)
{
    RV_EQUAL(a->n, b->n);
    RV_EQUAL(a->n_removed, b->n_removed);
    RV_CHECK((a->keys != NULL) == (b->keys != NULL));
    for (uint32_t slot = 0; slot < a->n; slot++) {
        RV_EQUAL(rv__store_live(a, slot), rv__store_live(b, slot));
        if (a->rows) {
            RV_CHECK(memcmp(a->rows + slot * a->stride, b->rows + slot * b->stride, a->stride) ==
                     0);
        }
        if (a->norms) RV_CHECK(memcmp(a->norms + slot, b->norms + slot, sizeof(float)) == 0);
        if (!rv__store_live(a, slot)) continue;
        RV_EQUAL(rv__store_key(a, slot), rv__store_key(b, slot));
        RV_EQUAL(rv__store_find(b, rv__store_key(a, slot)), slot);
    }
}

static void image_round(rv__store_spec *spec, int keyed)
{
    rv_test_faults faults;
    rv_ctx ctx;
    rv__store s, t;
    rv__image_reader r;
    rv_test_rng rng;
    float x[90 * 11];
    uint64_t keys[90];
    size_t bytes = 0, again = 0;
    unsigned char *image;
    rv_test_ctx_faults(&ctx, &faults);
    rv_test_seed(&rng, 5);
    rv_test_fill(&rng, x, 90 * 11);
    for (size_t i = 0; i < 90; i++) keys[i] = keyed ? rv_test_u64(&rng) : i;
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, spec));
    RV_OKAY(&ctx, rv__store_append(&ctx, &s, keys, x, 90));
    for (uint32_t i = 0; i < 90; i += 3) RV_OKAY(&ctx, rv__store_remove(&ctx, &s, i));
    RV_OKAY(&ctx, store_save(&ctx, &s, NULL, 0, &bytes));
    image = (unsigned char *)rv__get(&s.alloc, bytes, 1);
    RV_EQUAL(store_save(&ctx, &s, image, bytes - 1, &again), RV_ERR_ARG);
    RV_EQUAL(again, bytes);
    RV_OKAY(&ctx, store_save(&ctx, &s, image, bytes, &again));
    RV_EQUAL(again, bytes);
    for (int view = 0; view < 2; view++) {
        rv_status status;
        RV_OKAY(&ctx, rv__image_open(&ctx, &r, image, bytes, "TEST"));
        status = rv__store_load(&ctx, &r, view, spec->custom, NULL, &t);
        if (view && rv__big_endian()) {
            RV_EQUAL(status, RV_ERR_UNSUPPORTED);
            continue;
        }
        RV_OKAY(&ctx, status);
        compare_stores(&s, &t);
        if (view) {
            uint32_t slot = 0;
            RV_EQUAL(rv__store_add(&ctx, &t, 12345, x, &slot), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv__store_append(&ctx, &t, NULL, x, 1), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv__store_remove(&ctx, &t, 1), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv__store_replace(&ctx, &t, 1, x), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv__store_reserve(&ctx, &t, 1000), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv__store_compact(&ctx, &t, NULL), RV_ERR_UNSUPPORTED);
            RV_CHECK(rv__store_bytes(&t) <= 512);
        }
        rv__store_free(&t);
    }
    rv__put(&s.alloc, image, bytes, 1);
    rv__store_free(&s);
    RV_EQUAL(faults.live_blocks, 0);
}

static float always_one(void *user, const void *a, const void *b, size_t dim)
{
    (void)user;
    (void)a;
    (void)b;
    return (float)dim / (float)dim;
}

static void test_image(void)
{
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_U1; type++) {
        for (int metric = RV_METRIC_L2; metric <= (int)RV_METRIC_CUSTOM; metric++) {
            rv__store_spec spec = make_spec(11, (rv_metric)metric, (rv_dtype)type);
            if (metric == RV_METRIC_CUSTOM) spec.custom = always_one;
            else if (!rv_metric_has((rv_metric)metric, (rv_dtype)type)) continue;
            for (int keyed = 0; keyed < 2; keyed++) {
                rv_test_row(rv_metric_name((rv_metric)metric), (size_t)type);
                image_round(&spec, keyed);
                spec.no_rows = 1;
                image_round(&spec, keyed);
                spec.no_rows = 0;
            }
        }
    }
}

/* Dropped rows leave everything else in place. */
static void test_drop_rows(void)
{
    rv__store_spec spec = make_spec(2, RV_METRIC_COSINE, RV_DTYPE_F32);
    static const float x[2][2] = {{3, 4}, {0, 0}};
    rv_test_faults faults;
    uint32_t slot = 9;
    rv__store s;
    rv_ctx ctx;
    rv_test_ctx_faults(&ctx, &faults);
    RV_OKAY(&ctx, rv__store_init(&ctx, &s, &spec));
    RV_OKAY(&ctx, rv__store_append(&ctx, &s, NULL, x, 2));
    rv__store_drop_rows(&s);
    RV_CHECK(s.rows == NULL && s.norms[0] == 5.0f && s.norms[1] == 0.0f);
    RV_OKAY(&ctx, rv__store_add(&ctx, &s, 70, x[0], &slot));
    RV_OKAY(&ctx, rv__store_reserve(&ctx, &s, 100));
    RV_CHECK(rv__store_find(&s, 70) == 2 && s.norms[2] == 5.0f && s.rows == NULL);
    rv__store_free(&s);
    RV_EQUAL(faults.live_blocks, 0);
}

int main(void)
{
    rv_test_begin("white_store");
    RV_RUN(test_stride);
    RV_RUN(test_filter);
    RV_RUN(test_model);
    RV_RUN(test_window);
    RV_RUN(test_identity);
    RV_RUN(test_encode);
    RV_RUN(test_encode_extremes);
    RV_RUN(test_refuse);
    RV_RUN(test_accept);
    RV_RUN(test_sizes);
    RV_RUN(test_cosine_zero);
    RV_RUN(test_faults);
    RV_RUN(test_image);
    RV_RUN(test_drop_rows);
    return rv_test_end();
}
