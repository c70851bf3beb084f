/* The graph index: images good and bad, allocations that fail, calls that are canceled. */
#include "hnsw_set.h"

enum { DIM = 20, K = 5 };

static void *save(const rv_hnsw *index, size_t *bytes)
{
    void *image = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_hnsw_save(&ctx, index, NULL, 0, bytes));
    image = sign_aligned(*bytes);
    RV_OKAY(&ctx, rv_hnsw_save(&ctx, index, image, *bytes, bytes));
    return image;
}

/* ---- images ---- */

typedef struct form {
    rv_metric metric;
    rv_dtype type;
    rv_hnsw_codes codes;
    int drop, keyed, removed;
} form;

static const form forms[] = {
    {RV_METRIC_L2, RV_DTYPE_F32, RV_HNSW_CODES_AUTO, 0, 0, 0},
    {RV_METRIC_COSINE, RV_DTYPE_F16, RV_HNSW_CODES_SQ8, 0, 1, 1},
    {RV_METRIC_IP, RV_DTYPE_BF16, RV_HNSW_CODES_SQ4, 0, 0, 1},
    {RV_METRIC_L2, RV_DTYPE_I8, RV_HNSW_CODES_RABITQ, 0, 1, 0},
    {RV_METRIC_COSINE, RV_DTYPE_F32, RV_HNSW_CODES_PCA, 1, 0, 1},
    {RV_METRIC_L2, RV_DTYPE_F32, RV_HNSW_CODES_RABITQ, 1, 1, 0},
    {RV_METRIC_L1, RV_DTYPE_F32, RV_HNSW_CODES_NONE, 0, 0, 1},
    {RV_METRIC_JACCARD, RV_DTYPE_U1, RV_HNSW_CODES_NONE, 0, 1, 1},
    {RV_METRIC_CUSTOM, RV_DTYPE_F32, RV_HNSW_CODES_NONE, 0, 0, 0},
};

/* An index of n rows of one form; NULL and a failed check when that does not work. */
static rv_hnsw *build_form(rv_ctx *ctx, const form *f, const hnsw_set *set, size_t n)
{
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    uint64_t *keys = (uint64_t *)malloc((n + 1) * sizeof *keys);
    if (!keys) exit(2);
    for (size_t i = 0; i < n; i++) keys[i] = i * 5 + 2;
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    config.metric = f->metric;
    config.type = f->type;
    config.codes = f->codes;
    config.drop_vectors = f->drop;
    config.custom = f->metric == RV_METRIC_CUSTOM ? hnsw_custom : NULL;
    if (RV_OKAY(ctx, rv_hnsw_create(ctx, &config, &index)) != RV_OK) exit(2);
    RV_OKAY(ctx, rv_hnsw_build(ctx, index, f->keyed ? keys : NULL, set->rows, n));
    for (size_t i = 0; f->removed && i < n / 4; i++) {
        RV_OKAY(ctx, rv_hnsw_remove(ctx, index, f->keyed ? keys[i] : i));
    }
    free(keys);
    return index;
}

static void same_hits(rv_ctx *ctx, const rv_hnsw *a, const rv_hnsw *b, const hnsw_set *set)
{
    rv_hit x[K], y[K];
    size_t n_x = 0, n_y = 0;
    for (size_t q = 0; q < set->n_queries; q++) {
        RV_OKAY(ctx, rv_hnsw_search(ctx, a, set->queries + q * DIM, K, 0, x, &n_x));
        RV_OKAY(ctx, rv_hnsw_search(ctx, b, set->queries + q * DIM, K, 0, y, &n_y));
        RV_EQUAL(n_x, n_y);
        for (size_t i = 0; i < n_x; i++) {
            RV_CHECK(x[i].key == y[i].key &&
                     memcmp(&x[i].distance, &y[i].distance, sizeof(float)) == 0);
        }
    }
}

/* Save, load and view give the same index; the loaded one can be changed, the viewed one cannot. */
static void test_save_load_view(void)
{
    const size_t n = RV_SCALED(600u, 120u);
    const uint16_t probe = 1;
    unsigned char little;
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memcpy(&little, &probe, 1);
    hnsw_set_make(&set, n + 20, 5, DIM, 200);
    for (size_t i = 0; i < RV_COUNT_OF(forms); i++) {
        const form *f = &forms[i];
        const rv_custom_fn custom = f->metric == RV_METRIC_CUSTOM ? hnsw_custom : NULL;
        rv_hnsw *index = build_form(&ctx, f, &set, n), *loaded = NULL, *viewed = NULL;
        rv_hnsw_stats a, b;
        float x[DIM], y[DIM];
        size_t bytes = 0, again = 0;
        uint64_t key = f->keyed ? 5 * (n - 1) + 2 : n - 1;
        char kind[5];
        uint64_t total = 0;
        void *image = save(index, &bytes), *copy;
        rv_test_row("form", i);
        RV_OKAY(&ctx, rv_image_info(&ctx, image, bytes, kind, &total));
        RV_CHECK(strcmp(kind, "HNSW") == 0 && total == bytes);
        RV_EQUAL(rv_hnsw_save(&ctx, index, image, bytes - 1, &again), RV_ERR_ARG);
        RV_EQUAL(again, bytes);
        RV_OKAY(&ctx, rv_hnsw_save(&ctx, index, image, bytes, &again));
        RV_OKAY(&ctx, rv_hnsw_load(&ctx, image, bytes, custom, NULL, &loaded));
        if (!loaded) exit(2);
        RV_OKAY(&ctx, rv_hnsw_check(&ctx, loaded));
        same_hits(&ctx, index, loaded, &set);
        copy = save(loaded, &again);
        RV_EQUAL(again, bytes);
        RV_CHECK(memcmp(copy, image, bytes) == 0);
        rv_hnsw_stats_get(index, &a);
        rv_hnsw_stats_get(loaded, &b);
        RV_EQUAL(a.count, b.count);
        RV_EQUAL(a.removed, b.removed);
        RV_CHECK(memcmp(a.degree_count, b.degree_count, sizeof a.degree_count) == 0);
        if (little) {
            RV_OKAY(&ctx, rv_hnsw_view(&ctx, image, bytes, custom, NULL, &viewed));
        } else {
            RV_EQUAL(rv_hnsw_view(&ctx, image, bytes, custom, NULL, &viewed), RV_ERR_UNSUPPORTED);
        }
        if (viewed) {
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, viewed));
            same_hits(&ctx, index, viewed, &set);
            RV_EQUAL(rv_hnsw_count(viewed), rv_hnsw_count(index));
            RV_CHECK(rv_hnsw_bytes(viewed) < bytes / 2 + 65536);
            RV_EQUAL(rv_hnsw_add(&ctx, viewed, 77777, set.rows), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv_hnsw_update(&ctx, viewed, key, set.rows), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv_hnsw_upsert(&ctx, viewed, key, set.rows), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv_hnsw_remove(&ctx, viewed, key), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv_hnsw_compact(&ctx, viewed), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv_hnsw_reserve(&ctx, viewed, 9999), RV_ERR_UNSUPPORTED);
            RV_EQUAL(rv_hnsw_build(&ctx, viewed, NULL, set.rows, 1), RV_ERR_UNSUPPORTED);
            RV_CHECK(memcmp(copy, image, bytes) == 0);
            RV_OKAY(&ctx, rv_hnsw_get(&ctx, viewed, key, x));
            RV_OKAY(&ctx, rv_hnsw_get(&ctx, index, key, y));
            RV_CHECK(memcmp(x, y, f->type == RV_DTYPE_U1 ? (DIM + 7) / 8 : sizeof x) == 0);
            sign_aligned_free(copy);
            copy = save(viewed, &again);
            RV_CHECK(again == bytes && memcmp(copy, image, bytes) == 0);
            rv_hnsw_destroy(viewed);
        }
        if (!f->drop) { /* without vectors rows can still be added, but not exactly compared */
            for (size_t j = 0; j < 20; j++) {
                RV_OKAY(&ctx, rv_hnsw_add(&ctx, loaded, 1000000 + j, set.rows + (n + j) * DIM));
            }
            RV_OKAY(&ctx, rv_hnsw_remove(&ctx, loaded, key));
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, loaded));
        }
        rv_hnsw_destroy(loaded);
        rv_hnsw_destroy(index);
        sign_aligned_free(image);
        sign_aligned_free(copy);
    }
    hnsw_set_free(&set);
}

/* Of an index without rows, and of one that lost them all. */
/* Vectors may be dropped at any dimension, so there are codes at any dimension. */
static void test_dropped_images(void)
{
    static const uint32_t dims[] = {1, 5, 16, 17, 40};
    for (size_t d = 0; d < RV_COUNT_OF(dims); d++) {
        rv_ctx ctx;
        rv_hnsw_config config;
        rv_hnsw *index = NULL, *copy = NULL;
        hnsw_set set;
        void *image;
        size_t bytes = 0;
        rv_test_ctx(&ctx);
        memset(&config, 0, sizeof config);
        config.dim = dims[d];
        config.drop_vectors = 1;
        rv_test_row("dim", dims[d]);
        hnsw_set_make(&set, 300, 1, dims[d], 90);
        RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
        for (size_t n = 0; n <= 300; n += 300) {
            if (n) RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, set.rows, n));
            image = save(index, &bytes);
            RV_OKAY(&ctx, rv_hnsw_load(&ctx, image, bytes, NULL, NULL, &copy));
            RV_EQUAL(rv_hnsw_count(copy), n);
            rv_hnsw_destroy(copy);
            sign_aligned_free(image);
        }
        rv_hnsw_destroy(index);
        hnsw_set_free(&set);
    }
}

static void test_empty_image(void)
{
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 150, 1, DIM, 210);
    for (size_t i = 0; i < 3; i++) {
        rv_hnsw *index = build_form(&ctx, &forms[0], &set, i ? 150 : 0), *loaded = NULL;
        size_t bytes = 0;
        void *image;
        rv_hit hit;
        size_t n_hits = 9;
        for (size_t j = 0; j < 150 && i; j++) RV_OKAY(&ctx, rv_hnsw_remove(&ctx, index, j));
        if (i == 2) RV_OKAY(&ctx, rv_hnsw_compact(&ctx, index));
        image = save(index, &bytes);
        RV_OKAY(&ctx, rv_hnsw_load(&ctx, image, bytes, NULL, NULL, &loaded));
        if (loaded) {
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, loaded));
            RV_OKAY(&ctx, rv_hnsw_search(&ctx, loaded, set.rows, 1, 0, &hit, &n_hits));
            RV_EQUAL(n_hits, 0);
            RV_OKAY(&ctx, rv_hnsw_add(&ctx, loaded, 3, set.rows));
            RV_OKAY(&ctx, rv_hnsw_search(&ctx, loaded, set.rows, 1, 0, &hit, &n_hits));
            RV_EQUAL(n_hits, 1);
            RV_EQUAL(hit.key, 3);
            RV_OKAY(&ctx, rv_hnsw_check(&ctx, loaded));
        }
        rv_hnsw_destroy(loaded);
        loaded = NULL;
        if (rv_hnsw_view(&ctx, image, bytes, NULL, NULL, &loaded) == RV_OK) {
            RV_OKAY(&ctx, rv_hnsw_search(&ctx, loaded, set.rows, 1, 0, &hit, &n_hits));
            RV_EQUAL(n_hits, 0);
            RV_EQUAL(rv_hnsw_add(&ctx, loaded, 3, set.rows), RV_ERR_UNSUPPORTED);
            rv_hnsw_destroy(loaded);
        }
        rv_hnsw_destroy(index);
        sign_aligned_free(image);
    }
    hnsw_set_free(&set);
}

static void test_image_arguments(void)
{
    hnsw_set set;
    rv_hnsw *index, *out = NULL;
    size_t bytes = 0;
    unsigned char *image, *odd;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 50, 1, DIM, 220);
    index = build_form(&ctx, &forms[8], &set, 50);
    image = (unsigned char *)save(index, &bytes);
    odd = sign_aligned(bytes + 64);
    RV_EQUAL(rv_hnsw_load(&ctx, image, bytes, NULL, NULL, &out),
             RV_ERR_ARG); /* its metric is missing */
    RV_EQUAL(rv_hnsw_load(&ctx, NULL, bytes, hnsw_custom, NULL, &out), RV_ERR_ARG);
    RV_EQUAL(rv_hnsw_load(&ctx, image, bytes, hnsw_custom, NULL, NULL), RV_ERR_ARG);
    memcpy(odd + 1, image, bytes);
    RV_OKAY(&ctx, rv_hnsw_load(&ctx, odd + 1, bytes, hnsw_custom, NULL, &out)); /* any address */
    rv_hnsw_destroy(out);
    out = NULL;
    RV_CHECK(rv_hnsw_view(&ctx, odd + 1, bytes, hnsw_custom, NULL, &out) != RV_OK);
    memcpy(odd, image, bytes);
    memcpy(odd + 8, "FLAT", 4);
    sign_image(odd, bytes);
    RV_EQUAL(rv_hnsw_load(&ctx, odd, bytes, hnsw_custom, NULL, &out), RV_ERR_FORMAT);
    RV_CHECK(out == NULL);
    rv_hnsw_destroy(index);
    sign_aligned_free(image);
    sign_aligned_free(odd);
    hnsw_set_free(&set);
}

/* Every truncation and every flipped bit is an error, and nothing is left behind. */
static void test_damaged_images(void)
{
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 24, 1, DIM, 230);
    for (size_t i = 0; i < RV_COUNT_OF(forms); i += 4) {
        rv_test_faults faults;
        rv_hnsw *index = build_form(&ctx, &forms[i], &set, 24), *out = NULL;
        const rv_custom_fn custom = forms[i].metric == RV_METRIC_CUSTOM ? hnsw_custom : NULL;
        size_t bytes = 0;
        unsigned char *image = (unsigned char *)save(index, &bytes);
        rv_test_ctx_faults(&ctx, &faults);
        for (size_t n = 0; n < bytes; n += 1 + n / 200) {
            rv_test_row("truncated to", n);
            RV_EQUAL(rv_hnsw_load(&ctx, image, n, custom, NULL, &out), RV_ERR_FORMAT);
            RV_EQUAL(rv_hnsw_view(&ctx, image, n, custom, NULL, &out), RV_ERR_FORMAT);
        }
        for (size_t bit = 0; bit<8 * bytes; bit += RV_TEST_SCALE> 1 ? 97 : 5) {
            rv_test_row("bit", bit);
            image[bit / 8] ^= (unsigned char)(1u << bit % 8);
            RV_EQUAL(rv_hnsw_load(&ctx, image, bytes, custom, NULL, &out), RV_ERR_FORMAT);
            RV_EQUAL(faults.allocs, 0);
            image[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
        RV_CHECK(out == NULL);
        rv_test_ctx(&ctx);
        rv_hnsw_destroy(index);
        sign_aligned_free(image);
    }
    hnsw_set_free(&set);
}

/* Images whose checksums are right and whose contents are not: loaded or refused, never a crash, a
   hang or a big allocation; a loaded one can be used. */
static void test_hostile_images(void)
{
    const size_t rounds = RV_SCALED(600u, 60u);
    hnsw_set set;
    rv_ctx ctx;
    rv_test_rng rng;
    size_t loaded_count = 0, refused_count = 0;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 70, 2, DIM, 240);
    for (size_t i = 0; i < RV_COUNT_OF(forms); i++) {
        rv_test_faults faults;
        rv_hnsw *index = build_form(&ctx, &forms[i], &set, 70);
        const rv_custom_fn custom = forms[i].metric == RV_METRIC_CUSTOM ? hnsw_custom : NULL;
        size_t bytes = 0;
        unsigned char *image = (unsigned char *)save(index, &bytes), *bad;
        bad = sign_aligned(bytes);
        rv_test_seed(&rng, 241 + i);
        for (size_t round = 0; round < rounds; round++) {
            rv_hnsw *out = NULL;
            rv_status status;
            size_t changes = 1 + rv_test_below(&rng, 3);
            rv_test_row("round", i * 10000 + round);
            memcpy(bad, image, bytes);
            while (changes--) {
                static const uint32_t values[] = {
                    0, 1, 70, 0xFFFFFFFFu, 0x7FFFFFFFu, 0x80000000u, 0x7F800000u, 64};
                /* mostly what is small and steers: the settings, and the table at the end */
                size_t where = rv_test_below(&rng, 3), at;
                uint32_t value = values[rv_test_below(&rng, RV_COUNT_OF(values))];
                at = where == 0   ? 64 + rv_test_below(&rng, 192)
                     : where == 1 ? bytes - 1 - rv_test_below(&rng, 500)
                                  : rv_test_below(&rng, bytes);
                at = at / 4 * 4;
                if (at + 4 > bytes) continue;
                if (rv_test_below(&rng, 2)) bad[at] = (unsigned char)rv_test_u64(&rng);
                else memcpy(bad + at, &value, 4);
            }
            sign_image(bad, bytes);
            rv_test_ctx_faults(&ctx, &faults);
            status = round % 2 ? rv_hnsw_load(&ctx, bad, bytes, custom, NULL, &out)
                               : rv_hnsw_view(&ctx, bad, bytes, custom, NULL, &out);
            RV_CHECK(status == RV_OK || status == RV_ERR_FORMAT || status == RV_ERR_UNSUPPORTED ||
                     (status == RV_ERR_ARG && !custom) ||
                     (status == RV_ERR_MEMORY && sizeof(size_t) < 8)); /* a size overflows */
            RV_CHECK((status == RV_OK) == (out != NULL));
            RV_CHECK(faults.peak_bytes < 4 * bytes + 65536);
            if (out) {
                if (sign_dim(bad) <= 2 * DIM) hnsw_exercise(out, set.queries, round % 2);
                loaded_count++;
            } else {
                refused_count++;
            }
            rv_hnsw_destroy(out);
            RV_EQUAL(faults.live_blocks, 0);
        }
        rv_test_ctx(&ctx);
        rv_hnsw_destroy(index);
        sign_aligned_free(image);
        sign_aligned_free(bad);
    }
    RV_CHECK(loaded_count > 20 && refused_count > 20);
    hnsw_set_free(&set);
}

/* ---- faults ---- */

/* The index is whole and holds count rows; looked at with the C heap, which does not fail. */
static void still_good(const rv_hnsw *index, size_t count, const float *query)
{
    rv_hit hits[K];
    size_t n_hits = 0;
    RV_EQUAL(rv_hnsw_count(index), count);
    RV_EQUAL(rv_hnsw_check(NULL, index), RV_OK);
    RV_EQUAL(rv_hnsw_search(NULL, index, query, K, 0, hits, &n_hits), RV_OK);
    RV_EQUAL(n_hits, count < (size_t)K ? count : (size_t)K);
}

typedef struct build_arg {
    const hnsw_set *set;
    const form *f;
    size_t n, capacity;
} build_arg;

static rv_status body_build(rv_ctx *ctx, void *arg)
{
    const build_arg *b = (const build_arg *)arg;
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    rv_status result;
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    config.metric = b->f->metric;
    config.type = b->f->type;
    config.codes = b->f->codes;
    config.drop_vectors = b->f->drop;
    config.capacity = b->capacity;
    config.custom = b->f->metric == RV_METRIC_CUSTOM ? hnsw_custom : NULL;
    result = rv_hnsw_create(ctx, &config, &index);
    RV_CHECK((result == RV_OK) == (index != NULL));
    if (!result) result = rv_hnsw_build(ctx, index, NULL, b->set->rows, b->n);
    if (index) still_good(index, result ? 0 : b->n, b->set->queries);
    rv_hnsw_destroy(index);
    return result;
}

/* One at a time, with keys; a refused change is none. */
static rv_status body_edit(rv_ctx *ctx, void *arg)
{
    const hnsw_set *set = (const hnsw_set *)arg;
    const rv_test_faults *faults = (const rv_test_faults *)ctx->alloc.user;
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    uint64_t keys[3] = {5000, 5001, 5002};
    size_t count = 0;
    rv_status result;
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    config.m = 4;
    config.metric = RV_METRIC_COSINE;
    config.type = RV_DTYPE_F16;
    result = rv_hnsw_create(ctx, &config, &index);
    for (size_t i = 0; i < 90 && !result; i++) {
        result = rv_hnsw_add(ctx, index, i < 10 ? i : 3 * i, set->rows + i * DIM);
        if (!result) count++;
    }
    if (index) still_good(index, count, set->queries);
    for (size_t i = 10; i < 40 && !result; i++)
        result = rv_hnsw_update(ctx, index, 3 * i, set->rows + i * DIM);
    if (index) still_good(index, count, set->queries);
    for (size_t i = 0; i < 50 && !result; i++) {
        result = rv_hnsw_remove(ctx, index, i < 10 ? i : 3 * i);
        if (!result) count--;
    }
    if (index) still_good(index, count, set->queries);
    if (!result) result = rv_hnsw_upsert(ctx, index, 600, set->rows);
    if (!result && ++count) result = rv_hnsw_upsert(ctx, index, 600, set->rows + DIM);
    if (!result) result = rv_hnsw_reserve(ctx, index, 1000);
    if (index) still_good(index, count, set->queries);
    if (!result) {
        result = rv_hnsw_build(ctx, index, keys, set->rows, 3);
        if (!result) count += 3;
    }
    if (index) still_good(index, count, set->queries);
    if (!result) result = rv_hnsw_remove(ctx, index, 3 * 60);
    if (!result) count--;
    if (!result) result = rv_hnsw_compact(ctx, index);
    if (index) still_good(index, count, set->queries);
    rv_hnsw_destroy(index);
    /* a repair after a removal that is put off is no failure */
    if (!result && faults->fired) result = faults->cancel_at ? RV_ERR_CANCELED : RV_ERR_MEMORY;
    return result;
}

/* All that reads, on an index with removed rows. */
static rv_status body_read(rv_ctx *ctx, void *arg)
{
    static const uint8_t bits[] = {0xFF, 0xF0, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0x33};
    const rv_hnsw *index = (const rv_hnsw *)arg;
    float query[DIM], row[DIM];
    rv_hit hits[4 * K];
    size_t n_hits[4];
    rv_hnsw_options options;
    rv_hnsw_iter *iter = NULL;
    rv_filter filter;
    rv_status result;
    memset(&options, 0, sizeof options);
    memset(&filter, 0, sizeof filter);
    filter.bits = bits;
    filter.n_bits = 72;
    for (size_t i = 0; i < DIM; i++) query[i] = (float)i / (float)DIM;
    result = rv_hnsw_search(ctx, index, query, K, 0, hits, n_hits);
    options.filter = &filter;
    if (!result) result = rv_hnsw_search_with(ctx, index, query, K, &options, hits, n_hits);
    if (!result) result = rv_hnsw_range(ctx, index, query, 1e9f, &options, hits, K, n_hits);
    if (!result) result = rv_hnsw_check(ctx, index);
    if (!result) result = rv_hnsw_get(ctx, index, 80, row);
    memset(&options, 0, sizeof options);
    options.ef = 4;
    if (!result) result = rv_hnsw_iter_create(ctx, index, query, &options, &iter);
    if (!result) {
        size_t count = 0, stopped = 0;
        rv_hit hit;
        /* after a failure the next call goes on, and in the end nothing is missing */
        for (;;) {
            rv_status status = rv_hnsw_iter_next(ctx, iter, &hit);
            if (status == RV_DONE) break;
            if (status == RV_OK) count++;
            else result = status;
            if (status != RV_OK && ++stopped > 3) break;
        }
        if (stopped <= 3) RV_EQUAL(count, rv_hnsw_count(index));
    }
    rv_hnsw_iter_destroy(iter);
    return result;
}

static rv_status body_batch(rv_ctx *ctx, void *arg)
{
    const rv_hnsw *index = (const rv_hnsw *)arg;
    float queries[4 * DIM];
    rv_hit hits[4 * K];
    size_t n_hits[4];
    for (size_t i = 0; i < 4 * DIM; i++) queries[i] = (float)i / (float)DIM;
    return rv_hnsw_search_batch(ctx, index, queries, 4, K, NULL, hits, n_hits);
}

typedef struct blob {
    void *image;
    size_t bytes;
} blob;

static rv_status body_image(rv_ctx *ctx, void *arg)
{
    const blob *b = (const blob *)arg;
    rv_hnsw *index = NULL, *view = NULL;
    size_t bytes = 0;
    rv_status result = rv_hnsw_load(ctx, b->image, b->bytes, NULL, NULL, &index);
    RV_CHECK((result == RV_OK) == (index != NULL));
    if (!result) {
        result = rv_hnsw_view(ctx, b->image, b->bytes, NULL, NULL, &view);
        if (result == RV_ERR_UNSUPPORTED) result = RV_OK;
    }
    if (!result) {
        void *again = sign_aligned(b->bytes);
        result = rv_hnsw_save(ctx, index, again, b->bytes, &bytes);
        if (!result) RV_CHECK(bytes == b->bytes && memcmp(again, b->image, bytes) == 0);
        sign_aligned_free(again);
    }
    rv_hnsw_destroy(view);
    rv_hnsw_destroy(index);
    return result;
}

/* Repair and compaction are made beside the old graph, in which everything stays reachable. */
static rv_status body_compact(rv_ctx *ctx, void *arg)
{
    const blob *b = (const blob *)arg;
    float query[DIM];
    rv_hnsw *index = NULL;
    size_t count = 0;
    rv_status result = rv_hnsw_load(ctx, b->image, b->bytes, NULL, NULL, &index);
    for (size_t i = 0; i < DIM; i++) query[i] = (float)i / (float)DIM;
    for (uint64_t key = 0; key < 60 && !result; key++) result = rv_hnsw_remove(ctx, index, 9 * key);
    if (!result) {
        count = rv_hnsw_count(index);
        result = rv_hnsw_compact(ctx, index);
        still_good(index, count, query);
        for (uint64_t key = 0; key < 10; key++) {
            RV_CHECK(!rv_hnsw_contains(index, 9 * key));
            RV_CHECK(rv_hnsw_contains(index, 9 * key + 1));
        }
    }
    rv_hnsw_destroy(index);
    return result;
}

/* Answers so long that they are put into order in heaps, which poll. */
static rv_status body_many(rv_ctx *ctx, void *arg)
{
    enum { MANY = 1500 };
    const rv_hnsw *index = (const rv_hnsw *)arg;
    static const uint8_t bits[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    rv_hit *hits = (rv_hit *)malloc(2 * MANY * sizeof *hits), hit;
    float query[2 * DIM];
    size_t n_hits[2] = {0, 0};
    rv_hnsw_options options;
    rv_hnsw_iter *iter = NULL;
    rv_filter filter;
    rv_status result;
    if (!hits) exit(2);
    for (size_t i = 0; i < 2 * DIM; i++) query[i] = (float)i / (float)DIM;
    memset(&options, 0, sizeof options);
    memset(&filter, 0, sizeof filter);
    filter.bits = bits;
    filter.n_bits = 64;
    result = rv_hnsw_search(ctx, index, query, MANY, 0, hits, n_hits);
    options.filter = &filter;
    if (!result) result = rv_hnsw_search_with(ctx, index, query, MANY, &options, hits, n_hits);
    if (!result) RV_EQUAL(n_hits[0], 64);
    options.filter = NULL;
    if (!result) result = rv_hnsw_range(ctx, index, query, 1e9f, &options, hits, MANY, n_hits);
    if (!result)
        result = rv_hnsw_search_batch(ctx, index, query, 2, MANY, &options, hits, n_hits);
    options.ef = MANY;
    if (!result) result = rv_hnsw_iter_create(ctx, index, query, &options, &iter);
    if (!result) {
        size_t count = 0, stopped = 0;
        float last = -1.0f;
        for (;;) {
            rv_status status = rv_hnsw_iter_next(ctx, iter, &hit);
            if (status == RV_DONE) break;
            if (status == RV_OK) {
                if (count++ < (size_t)MANY) RV_CHECK(hit.distance >= last);
                last = hit.distance;
            } else {
                result = status;
            }
            if (status != RV_OK && ++stopped > 3) break;
        }
        if (stopped <= 3) RV_EQUAL(count, rv_hnsw_count(index));
    }
    rv_hnsw_iter_destroy(iter);
    free(hits);
    return result;
}

static void sweep(rv_test_body body, void *arg, int must_poll)
{
    RV_CHECK(rv_test_oom_sweep(body, arg) > 1);
    if (must_poll) RV_CHECK(rv_test_cancel_sweep(body, arg) > 1);
}

/* Every kind of codes; one set is large enough to be split into leaves. */
static void test_faults_of_build(void)
{
    static const size_t which[] = {0, 2, 3, 5, 6, 8};
    build_arg b;
    hnsw_set set;
    hnsw_set_make(&set, 560, 1, DIM, 250);
    b.set = &set;
    for (size_t i = 0; i < RV_COUNT_OF(which); i++) {
        b.f = &forms[which[i]];
        b.n = which[i] == 6 ? 560 : 60;
        b.capacity = which[i] == 2 ? 33 : 0;
        sweep(body_build, &b, 1);
    }
    hnsw_set_free(&set);
}

/* A build into an index that has rows: all of them or none. */
static rv_status body_build_more(rv_ctx *ctx, void *arg)
{
    const hnsw_set *set = (const hnsw_set *)arg;
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    uint64_t keys[80];
    rv_status result;
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    for (size_t i = 0; i < 80; i++) keys[i] = 1000 + i;
    result = rv_hnsw_create(ctx, &config, &index);
    if (!result) result = rv_hnsw_add(ctx, index, 7, set->rows);
    if (!result) {
        result = rv_hnsw_build(ctx, index, keys, set->rows + DIM, 80);
        RV_EQUAL(rv_hnsw_count(index), result ? 1 : 81);
        RV_CHECK(rv_hnsw_contains(index, 7));
        RV_OKAY(NULL, rv_hnsw_check(NULL, index));
    }
    rv_hnsw_destroy(index);
    return result;
}

static void test_faults_of_edits(void)
{
    hnsw_set set;
    hnsw_set_make(&set, 100, 1, DIM, 251);
    sweep(body_edit, &set, 1);
    sweep(body_build_more, &set, 1);
    hnsw_set_free(&set);
}

static void test_faults_of_reads(void)
{
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 300, 1, DIM, 252);
    for (size_t i = 2; i < 7; i += 2) {
        rv_hnsw *index = build_form(&ctx, &forms[i], &set, 300);
        blob b;
        b.image = save(index, &b.bytes);
        rv_test_row("form", i);
        sweep(body_read, index, 1);
        sweep(body_batch, index, 1);
        sweep(body_image, &b, 1);
        sign_aligned_free(b.image);
        rv_hnsw_destroy(index);
    }
    hnsw_set_free(&set);
}

static void test_faults_of_compaction(void)
{
    static const size_t which[] = {0, 6};
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, 560, 1, DIM, 254);
    for (size_t i = 0; i < RV_COUNT_OF(which); i++) {
        form f = forms[which[i]];
        rv_hnsw *index;
        blob b;
        f.removed = 0;
        index = build_form(&ctx, &f, &set, 560);
        b.image = save(index, &b.bytes);
        rv_hnsw_destroy(index);
        rv_test_row("form", which[i]);
        sweep(body_compact, &b, 1);
        sign_aligned_free(b.image);
    }
    hnsw_set_free(&set);
}

static void test_faults_of_long_answers(void)
{
    static const size_t which[] = {0, 6};
    const size_t n = RV_SCALED(2200u, 1600u);
    hnsw_set set;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    hnsw_set_make(&set, n, 1, DIM, 255);
    for (size_t i = 0; i < RV_COUNT_OF(which); i++) {
        form f = forms[which[i]];
        rv_hnsw *index;
        f.removed = 0;
        index = build_form(&ctx, &f, &set, n);
        rv_test_row("form", which[i]);
        sweep(body_many, index, 1);
        rv_hnsw_destroy(index);
    }
    hnsw_set_free(&set);
}

/* Growing polls at least once a megabyte. */
static void test_polls_of_reserve(void)
{
    const size_t n = RV_SCALED(100000u, 1000u);
    rv_test_faults faults;
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    float row[DIM] = {0};
    size_t before;
    rv_ctx ctx;
    rv_test_ctx_faults(&ctx, &faults);
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
    RV_OKAY(&ctx, rv_hnsw_reserve(&ctx, index, n));
    RV_CHECK(faults.polls >= 32 * sizeof(uint32_t) * n / 1048576u); /* links */
    before = faults.polls;
    RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, 123456789, row)); /* keys and their map */
    RV_CHECK(faults.polls - before >= sizeof(uint32_t) * n / 1048576u);
    faults.cancel_at = faults.polls + 1;
    RV_EQUAL(rv_hnsw_reserve(&ctx, index, 2 * n), RV_ERR_CANCELED);
    still_good(index, 1, row);
    rv_hnsw_destroy(index);
    index = NULL;
    config.capacity = n;
    RV_EQUAL(rv_hnsw_create(&ctx, &config, &index), RV_ERR_CANCELED);
    RV_CHECK(index == NULL);
    RV_EQUAL(faults.live_blocks, 0);
}

/* The moment at which an index that grew row by row learns its codes. */
static void test_faults_of_learning(void)
{
    const size_t n = RV_HNSW_TRAIN;
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    hnsw_set set;
    blob b;
    rv_ctx ctx;
    size_t k;
    rv_test_ctx(&ctx);
    if (RV_TEST_SCALE > 1) return; /* an emulator would take minutes to add so many */
    hnsw_set_make(&set, n + 1, 1, DIM, 253);
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    config.m = 4;
    config.ef_construction = 8;
    config.drop_vectors = 1;
    RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
    for (size_t i = 0; i < n; i++) RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, i, set.rows + i * DIM));
    b.image = save(index, &b.bytes);
    rv_hnsw_destroy(index);
    for (k = 1;; k++) {
        rv_test_faults faults;
        rv_status status;
        int cancel = 0;
        for (; cancel < 2; cancel++) {
            rv_test_row(cancel ? "poll" : "allocation", k);
            rv_test_ctx_faults(&ctx, &faults);
            RV_OKAY(&ctx, rv_hnsw_load(&ctx, b.image, b.bytes, NULL, NULL, &index));
            if (cancel) {
                faults.cancel_at = faults.polls + k;
            } else {
                faults.fail_at = faults.allocs + k;
                faults.fail_count = 1;
            }
            status = rv_hnsw_add(&ctx, index, n, set.rows + n * DIM);
            RV_EQUAL(status, !faults.fired ? RV_OK : cancel ? RV_ERR_CANCELED : RV_ERR_MEMORY);
            still_good(index, faults.fired ? n : n + 1, set.queries);
            if (faults.fired) {
                faults.fail_at = faults.cancel_at = 0;
                RV_OKAY(&ctx, rv_hnsw_add(&ctx, index, n, set.rows + n * DIM));
                still_good(index, n + 1, set.queries);
            }
            rv_hnsw_destroy(index);
            RV_EQUAL(faults.live_blocks, 0);
            if (!cancel && !faults.fired) break;
        }
        if (!faults.fired && !cancel) break;
        if (rv_test.bad) break;
    }
    RV_CHECK(k > 5);
    sign_aligned_free(b.image);
    hnsw_set_free(&set);
}

/* Sizes near 2^32 are refused by arithmetic, not by the machine. */
static void test_huge_sizes(void)
{
    static const size_t sizes[] = {0x7FFFFFFEu, 0x7FFFFFFFu, 0x80000000u,
                                   0xFFFFFFFEu, 0xFFFFFFFFu, SIZE_MAX};
    rv_test_faults faults;
    rv_ctx ctx;
    for (size_t i = 0; i < RV_COUNT_OF(sizes); i++) {
        rv_hnsw_config config;
        rv_hnsw *index = NULL;
        rv_status status;
        rv_test_row("size", i);
        rv_test_ctx_faults(&ctx, &faults);
        memset(&config, 0, sizeof config);
        config.dim = 65535;
        RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
        faults.fail_at = faults.allocs + 1; /* whatever is asked for now is not had */
        faults.fail_count = SIZE_MAX;
        status = rv_hnsw_reserve(&ctx, index, sizes[i]);
        RV_EQUAL(status, sizes[i] < 0x7FFFFFFFu ? RV_ERR_MEMORY : RV_ERR_ARG);
        RV_EQUAL(rv_hnsw_count(index), 0);
        rv_hnsw_destroy(index);
        index = NULL;
        config.capacity = sizes[i];
        rv_test_ctx_faults(&ctx, &faults);
        faults.fail_at = 2;
        faults.fail_count = SIZE_MAX;
        status = rv_hnsw_create(&ctx, &config, &index);
        RV_EQUAL(status, sizes[i] < 0x7FFFFFFFu ? RV_ERR_MEMORY : RV_ERR_CONFIG);
        RV_CHECK(index == NULL);
        RV_EQUAL(faults.live_blocks, 0);
    }
}

int main(void)
{
    rv_test_begin("hnsw_fault");
    RV_RUN(test_save_load_view);
    RV_RUN(test_dropped_images);
    RV_RUN(test_empty_image);
    RV_RUN(test_image_arguments);
    RV_RUN(test_damaged_images);
    RV_RUN(test_hostile_images);
    RV_RUN(test_faults_of_build);
    RV_RUN(test_faults_of_edits);
    RV_RUN(test_faults_of_reads);
    RV_RUN(test_faults_of_compaction);
    RV_RUN(test_faults_of_long_answers);
    RV_RUN(test_polls_of_reserve);
    RV_RUN(test_faults_of_learning);
    RV_RUN(test_huge_sizes);
    return rv_test_end();
}
