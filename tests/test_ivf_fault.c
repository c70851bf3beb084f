/* The inverted file: images good and bad, allocations that fail, calls that are canceled. */
#include "ivf_set.h"

/* ---- images ---- */

static void check_same(ivf_bed *b, const rv_ivf *other)
{
    rv_hit hits[9], again[9];
    for (size_t q = 0; q < b->n_queries; q++) {
        size_t n_hits = 0, n_again = 0;
        RV_OKAY(&b->ctx,
                rv_ivf_search(&b->ctx, b->index, ivf_bed_query(b, q), 9, 0, hits, &n_hits));
        RV_OKAY(&b->ctx, rv_ivf_search(&b->ctx, other, ivf_bed_query(b, q), 9, 0, again, &n_again));
        RV_EQUAL(n_hits, 9);
        RV_EQUAL(n_again, 9);
        for (size_t i = 0; i < n_hits && i < n_again; i++)
            RV_CHECK(hits[i].key == again[i].key && hits[i].distance == again[i].distance);
    }
}

/* A viewed index answers and refuses every change. */
static void check_view(ivf_bed *b, const unsigned char *image, size_t bytes, rv_custom_fn custom)
{
    unsigned char *copy = sign_aligned(bytes + 64), *again;
    rv_ivf *view = NULL;
    size_t again_bytes = 0;
    float x[26], y[26];
    memcpy(copy, image, bytes);
    if (rv_ivf_view(&b->ctx, copy, bytes, custom, NULL, &view) != RV_OK) {
        RV_EQUAL(b->ctx.status, RV_ERR_UNSUPPORTED); /* big-endian */
        sign_aligned_free(copy);
        return;
    }
    check_same(b, view);
    RV_OKAY(&b->ctx, rv_ivf_check(&b->ctx, view));
    RV_CHECK(rv_ivf_bytes(view) < rv_ivf_bytes(b->index));
    RV_OKAY(&b->ctx, rv_ivf_get(&b->ctx, view, 77777, x));
    RV_OKAY(&b->ctx, rv_ivf_get(&b->ctx, b->index, 77777, y));
    RV_CHECK(memcmp(x, y, b->bytes) == 0);
    RV_EQUAL(rv_ivf_add(&b->ctx, view, 3, b->rows), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_ivf_build(&b->ctx, view, NULL, b->rows, 3), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_ivf_update(&b->ctx, view, 1, b->rows), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_ivf_remove(&b->ctx, view, 1), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_ivf_train(&b->ctx, view), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_ivf_compact(&b->ctx, view), RV_ERR_UNSUPPORTED);
    RV_EQUAL(rv_ivf_reserve(&b->ctx, view, 10), RV_ERR_UNSUPPORTED);
    RV_CHECK(memcmp(copy, image, bytes) == 0);
    again = ivf_image(&b->ctx, view, &again_bytes);
    RV_CHECK(again_bytes == bytes && memcmp(again, image, bytes) == 0);
    sign_aligned_free(again);
    rv_ivf_destroy(view);
    memcpy(copy + 4, image, bytes);
    RV_EQUAL(rv_ivf_view(&b->ctx, copy + 4, bytes, custom, NULL, &view), RV_ERR_ARG);
    sign_aligned_free(copy);
}

/* What the statistics of a loaded and of a viewed index say, against what the heap counts: every
   block is 128 bytes longer than what it holds. */
static void check_bytes(const unsigned char *image, size_t bytes, rv_custom_fn custom)
{
    rv_ivf_stats copy, view;
    for (int viewed = 0; viewed < 2; viewed++) {
        rv_ivf_stats *stats = viewed ? &view : &copy;
        rv_test_faults faults;
        rv_ivf *index = NULL;
        rv_status status;
        rv_ctx ctx;
        rv_test_ctx_faults(&ctx, &faults);
        status = viewed ? rv_ivf_view(&ctx, image, bytes, custom, NULL, &index)
                        : rv_ivf_load(&ctx, image, bytes, custom, NULL, &index);
        if (status == RV_ERR_UNSUPPORTED) return; /* big-endian */
        RV_EQUAL(status, RV_OK);
        rv_ivf_stats_get(index, stats);
        RV_EQUAL(rv_ivf_bytes(index) + 128 * faults.live_blocks, faults.live_bytes);
        if (viewed) RV_CHECK(stats->total_bytes > rv_ivf_bytes(index));
        else RV_EQUAL(stats->total_bytes, rv_ivf_bytes(index));
        rv_ivf_destroy(index);
    }
    /* where the arrays lie makes no difference to what there is */
    RV_CHECK(memcmp(&copy, &view, sizeof copy) == 0);
}

static void test_save_load_view(void)
{
    for (size_t f = 0; f < RV_COUNT_OF(ivf_forms); f++) {
        ivf_bed b;
        rv_ivf *other = NULL;
        size_t bytes = 0, again = 0;
        unsigned char *image, *second;
        rv_test_row("form", f);
        if (!ivf_bed_form(&b, f, 400, 26, 1)) return;
        image = ivf_image(&b.ctx, b.index, &bytes);
        RV_EQUAL(rv_ivf_save(&b.ctx, b.index, image, bytes - 1, &again), RV_ERR_ARG);
        RV_EQUAL(again, bytes);
        RV_OKAY(&b.ctx, rv_ivf_save(&b.ctx, b.index, image, bytes, &again));
        if (ivf_form_custom(f))
            RV_EQUAL(rv_ivf_load(&b.ctx, image, bytes, NULL, NULL, &other), RV_ERR_ARG);
        RV_OKAY(&b.ctx, rv_ivf_load(&b.ctx, image, bytes, ivf_form_custom(f), NULL, &other));
        RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, other));
        RV_EQUAL(rv_ivf_count(other), rv_ivf_count(b.index));
        check_same(&b, other);
        second = ivf_image(&b.ctx, other, &again);
        RV_CHECK(again == bytes && memcmp(image, second, bytes) == 0);
        sign_aligned_free(second);
        RV_OKAY(&b.ctx, rv_ivf_add(&b.ctx, other, 3, b.rows)); /* goes on changing */
        RV_OKAY(&b.ctx, rv_ivf_remove(&b.ctx, other, 1));
        RV_OKAY(&b.ctx, rv_ivf_compact(&b.ctx, other));
        RV_OKAY(&b.ctx, rv_ivf_check(&b.ctx, other));
        rv_ivf_destroy(other);
        check_view(&b, image, bytes, ivf_form_custom(f));
        check_bytes(image, bytes, ivf_form_custom(f));
        sign_aligned_free(image);
        ivf_bed_close(&b);
    }
}

static void test_empty_image(void)
{
    rv_ivf_config config;
    rv_ivf *index, *other = NULL;
    size_t bytes = 0, n_hits = 1;
    unsigned char *image;
    float vector[5] = {1, 2, 3, 4, 5};
    rv_hit hit;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.dim = 5;
    config.capacity = 10;
    RV_OKAY(&ctx, rv_ivf_create(&ctx, &config, &index));
    image = ivf_image(&ctx, index, &bytes);
    RV_OKAY(&ctx, rv_ivf_load(&ctx, image, bytes, NULL, NULL, &other));
    RV_OKAY(&ctx, rv_ivf_search(&ctx, other, vector, 1, 1, &hit, &n_hits));
    RV_EQUAL(n_hits, 0);
    RV_OKAY(&ctx, rv_ivf_add(&ctx, other, 9, vector));
    RV_OKAY(&ctx, rv_ivf_search(&ctx, other, vector, 1, 1, &hit, &n_hits));
    RV_EQUAL(n_hits, 1);
    RV_EQUAL(hit.key, 9);
    RV_EQUAL(rv_ivf_load(&ctx, NULL, 0, NULL, NULL, &other), RV_ERR_ARG);
    RV_EQUAL(rv_ivf_load(&ctx, image, bytes, NULL, NULL, NULL), RV_ERR_ARG);
    memcpy(image + 8, "FLAT", 4);
    sign_image(image, bytes);
    RV_EQUAL(rv_ivf_load(&ctx, image, bytes, NULL, NULL, &other), RV_ERR_FORMAT);
    rv_ivf_destroy(other);
    rv_ivf_destroy(index);
    rv_ivf_destroy(NULL);
    sign_aligned_free(image);
}

/* Every truncation and every flipped bit is an error, and nothing is asked for before it is
   found. */
static void test_damaged_images(void)
{
    const size_t step = RV_TEST_SCALE > 1 ? 997 : 37;
    for (size_t f = 0; f < RV_COUNT_OF(ivf_forms); f += 3) {
        ivf_bed b;
        rv_test_faults faults;
        rv_ctx ctx;
        rv_ivf *out = NULL;
        size_t bytes = 0;
        unsigned char *image;
        if (!ivf_bed_form(&b, f, 260, 10, 1)) return;
        image = ivf_image(&b.ctx, b.index, &bytes);
        rv_test_ctx_faults(&ctx, &faults);
        for (size_t n = 0; n < bytes; n += 1 + bytes / 60) {
            rv_test_row("truncated to", n);
            RV_EQUAL(rv_ivf_load(&ctx, image, n, ivf_form_custom(f), NULL, &out), RV_ERR_FORMAT);
            RV_EQUAL(rv_ivf_view(&ctx, image, n, ivf_form_custom(f), NULL, &out), RV_ERR_FORMAT);
        }
        for (size_t bit = 0; bit < 8 * bytes; bit += step) {
            rv_test_row("bit", bit);
            image[bit / 8] ^= (unsigned char)(1u << bit % 8);
            RV_EQUAL(rv_ivf_load(&ctx, image, bytes, ivf_form_custom(f), NULL, &out),
                     RV_ERR_FORMAT);
            image[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
        RV_EQUAL(faults.allocs, 0);
        RV_CHECK(out == NULL);
        sign_aligned_free(image);
        ivf_bed_close(&b);
    }
}

/* One change to an image: mostly to what is small and steers, in front and in the table at the
   end. */
static void spoil(rv_test_rng *rng, unsigned char *image, size_t bytes)
{
    static const uint32_t values[] = {0,           1,           9,           0xFFFFFFFFu,
                                      0x7FFFFFFFu, 0x80000000u, 0x7F800000u, 32};
    const size_t where = rv_test_below(rng, 3);
    const uint32_t value = values[rv_test_below(rng, RV_COUNT_OF(values))];
    size_t at = where == 0   ? 64 + rv_test_below(rng, 192)
                : where == 1 ? bytes - 1 - rv_test_below(rng, 600)
                             : rv_test_below(rng, bytes);
    at = at / 4 * 4;
    if (rv_test_below(rng, 2)) image[at] = (unsigned char)rv_test_u64(rng);
    else sign_put(image + at, 4, value);
}

/* Images whose checksums are right and whose contents are not: loaded or refused, never a crash, a
   hang or a big allocation; a loaded one can be used. */
static void test_hostile_images(void)
{
    const size_t rounds = RV_SCALED(400u, 50u);
    size_t loaded = 0, refused = 0;
    rv_test_rng rng;
    for (size_t f = 0; f < RV_COUNT_OF(ivf_forms); f++) {
        ivf_bed b;
        size_t bytes = 0;
        unsigned char *image, *bad;
        if (!ivf_bed_form(&b, f, 270, 12, 1)) return;
        image = ivf_image(&b.ctx, b.index, &bytes);
        bad = sign_aligned(bytes);
        rv_test_seed(&rng, 241 + f);
        for (size_t round = 0; round < rounds; round++) {
            rv_test_faults faults;
            rv_ctx ctx;
            rv_ivf *out = NULL;
            rv_status status;
            rv_test_row("round", f * 10000 + round);
            memcpy(bad, image, bytes);
            for (size_t n = 1 + rv_test_below(&rng, 3); n > 0; n--) spoil(&rng, bad, bytes);
            sign_image(bad, bytes);
            rv_test_ctx_faults(&ctx, &faults);
            status = round % 2 ? rv_ivf_load(&ctx, bad, bytes, ivf_form_custom(f), NULL, &out)
                               : rv_ivf_view(&ctx, bad, bytes, ivf_form_custom(f), NULL, &out);
            RV_CHECK(status == RV_OK || status == RV_ERR_FORMAT || status == RV_ERR_UNSUPPORTED ||
                     (status == RV_ERR_ARG && !ivf_form_custom(f)) ||
                     (status == RV_ERR_MEMORY && sizeof(size_t) < 8)); /* a size overflows */
            RV_CHECK((status == RV_OK) == (out != NULL));
            RV_CHECK(faults.peak_bytes < 4 * bytes + 65536);
            loaded += out != NULL;
            refused += out == NULL;
            if (out) {
                RV_OKAY(&ctx, rv_ivf_check(&ctx, out));
                if (sign_dim(bad) <= 12)
                    (void)ivf_exercise(&ctx, out, (float *)(void *)b.queries, round % 2);
                RV_OKAY(&ctx, rv_ivf_check(&ctx, out));
            }
            rv_ivf_destroy(out);
            RV_EQUAL(faults.live_blocks, 0);
        }
        sign_aligned_free(image);
        sign_aligned_free(bad);
        ivf_bed_close(&b);
    }
    RV_CHECK(loaded > 20 && refused > 20);
}

/* A quantizer of other rows than the index has is refused before it is made: its size is not what
   the image vouches for. */
static void test_quantizer_of_other_rows(void)
{
    for (size_t f = 0; f < 2; f++) {
        ivf_bed b;
        rv_test_faults faults;
        rv_ctx ctx;
        rv_ivf *out = NULL;
        size_t bytes = 0;
        unsigned char *image;
        rv_test_row("form", f);
        if (!ivf_bed_form(&b, f, 260, 12, 0)) return;
        image = ivf_image(&b.ctx, b.index, &bytes);
        sign_put(sign_section(image, "CONF") + 4, 4, 65535);
        sign_image(image, bytes);
        rv_test_ctx_faults(&ctx, &faults);
        RV_EQUAL(rv_ivf_load(&ctx, image, bytes, NULL, NULL, &out), RV_ERR_FORMAT);
        RV_CHECK(faults.peak_bytes < 4 * bytes && faults.live_blocks == 0);
        sign_aligned_free(image);
        ivf_bed_close(&b);
    }
}

/* An image whose parts are each sound but do not make an index: a quantizer of another metric or
   kind, and an index that has given up its vectors and has no codes. */
static void test_parts_that_do_not_fit(void)
{
    static const struct {
        const char *section;
        size_t word;
        uint32_t value;
    } changes[] = {{"CONF", 2, RV_METRIC_L2}, {"CONF", 0, RV_QUANT_RABITQ}, {"IPAR", 6, 0}};
    for (size_t c = 0; c < RV_COUNT_OF(changes); c++) {
        rv_test_faults faults;
        rv_ctx ctx;
        rv_ivf_config config;
        rv_ivf *index = NULL, *out = NULL;
        float rows[300 * 8];
        unsigned char *image;
        size_t bytes = 0;
        rv_test_rng rng;
        rv_test_ctx_faults(&ctx, &faults);
        rv_test_row(changes[c].section, changes[c].word);
        rv_test_seed(&rng, 77);
        ivf_fill(&rng, rows, 300, 8);
        memset(&config, 0, sizeof config);
        config.dim = 8;
        config.n_lists = 1;
        config.codes = RV_IVF_CODES_PQ;
        config.drop_vectors = 1;
        RV_OKAY(&ctx, rv_ivf_create(&ctx, &config, &index));
        RV_OKAY(&ctx, rv_ivf_build(&ctx, index, NULL, rows, 300));
        image = ivf_image(&ctx, index, &bytes);
        rv_ivf_destroy(index);
        RV_OKAY(&ctx, rv_ivf_load(&ctx, image, bytes, NULL, NULL, &out));
        rv_ivf_destroy(out);
        out = NULL;
        sign_put(sign_section(image, changes[c].section) + 4 * changes[c].word, 4,
                 changes[c].value);
        sign_image(image, bytes);
        RV_EQUAL(rv_ivf_load(&ctx, image, bytes, NULL, NULL, &out), RV_ERR_FORMAT);
        RV_CHECK(out == NULL && ctx.message[0] != 0);
        sign_aligned_free(image);
        RV_EQUAL(faults.live_blocks, 0);
    }
}

/* ---- faults ---- */

/* A first build of a small set, on top of a few rows. */
static rv_status body_build(rv_ctx *ctx, void *arg)
{
    const ivf_bed *b = (const ivf_bed *)arg;
    rv_ivf *index = NULL;
    uint64_t keys[260];
    size_t count = 0;
    rv_status status = rv_ivf_create(ctx, &b->config, &index);
    for (size_t i = 0; i < 260; i++) keys[i] = 10000 + i;
    for (size_t i = 0; i < 3 && !status && !b->config.drop_vectors; i++) {
        status = rv_ivf_add(ctx, index, i, b->rows + i * b->bytes);
        count += !status;
    }
    if (!status) {
        status = rv_ivf_build(ctx, index, keys, b->rows, 260);
        count += status ? 0 : 260;
    }
    if (index) {
        RV_EQUAL(rv_ivf_count(index), count);
        RV_EQUAL(rv_ivf_check(NULL, index), RV_OK);
    }
    rv_ivf_destroy(index);
    return status;
}

typedef struct edit_arg {
    const ivf_bed *b;
    const unsigned char *image;
    size_t bytes;
} edit_arg;

/* Loads an index and changes it; a refused change is none. */
static rv_status body_edit(rv_ctx *ctx, void *user)
{
    const edit_arg *arg = (const edit_arg *)user;
    const ivf_bed *b = arg->b;
    const uint64_t keys[3] = {5000, 5001, 5002};
    const rv_custom_fn custom = b->config.custom;
    rv_ivf *index = NULL;
    size_t count = b->n;
    rv_status status = rv_ivf_load(ctx, arg->image, arg->bytes, custom, NULL, &index);
    RV_CHECK((status == RV_OK) == (index != NULL));
    for (size_t i = 0; i < 40 && !status; i++) {
        status = rv_ivf_add(ctx, index, 7000 + i, b->rows + i * b->bytes);
        count += !status;
    }
    if (!status) status = rv_ivf_update(ctx, index, 5, b->rows);
    if (!status) {
        status = rv_ivf_remove(ctx, index, 9);
        count -= !status;
    }
    if (!status) {
        status = rv_ivf_upsert(ctx, index, 9, b->rows);
        count += !status;
    }
    if (!status) status = rv_ivf_reserve(ctx, index, 1000);
    if (!status) {
        status = rv_ivf_build(ctx, index, keys, b->rows, 3);
        count += status ? 0 : 3;
    }
    if (!status) {
        status = rv_ivf_remove(ctx, index, 7);
        count -= !status;
    }
    if (!status) status = rv_ivf_compact(ctx, index);
    if (!status && !b->config.drop_vectors) status = rv_ivf_train(ctx, index);
    if (index) {
        RV_EQUAL(rv_ivf_count(index), count);
        RV_EQUAL(rv_ivf_check(NULL, index), RV_OK);
    }
    rv_ivf_destroy(index);
    return status;
}

/* Everything that reads; an iterator goes on after a failure and in the end nothing is missing. */
static rv_status body_read(rv_ctx *ctx, void *user)
{
    const edit_arg *arg = (const edit_arg *)user;
    const ivf_bed *b = arg->b;
    rv_ivf_iter *iter = NULL;
    rv_ivf *view = NULL;
    rv_hit hits[3 * 10];
    size_t n_hits[3], bytes = 0, given = 0, stopped = 0;
    unsigned char *image;
    float row[16];
    rv_status status = rv_ivf_search(ctx, b->index, b->queries, 10, 4, hits, n_hits);
    if (!status) status = rv_ivf_search_batch(ctx, b->index, b->queries, 3, 10, NULL, hits, n_hits);
    if (!status) status = rv_ivf_range(ctx, b->index, b->queries, 1, NULL, hits, 10, n_hits);
    if (!status) status = rv_ivf_get(ctx, b->index, 3, row);
    if (!status) status = rv_ivf_check(ctx, b->index);
    if (!status) {
        image = sign_aligned(arg->bytes);
        status = rv_ivf_save(ctx, b->index, image, arg->bytes, &bytes);
        if (!status) RV_CHECK(bytes == arg->bytes && memcmp(image, arg->image, bytes) == 0);
        sign_aligned_free(image);
    }
    if (!status) {
        status = rv_ivf_view(ctx, arg->image, arg->bytes, b->config.custom, NULL, &view);
        if (status == RV_ERR_UNSUPPORTED) status = RV_OK; /* big-endian */
        rv_ivf_destroy(view);
    }
    if (!status) status = rv_ivf_iter_create(ctx, b->index, b->queries, NULL, &iter);
    while (!status || stopped) {
        rv_status next = rv_ivf_iter_next(ctx, iter, hits);
        if (next == RV_DONE) break;
        given += next == RV_OK;
        if (next != RV_OK) status = next;
        if (next != RV_OK && ++stopped > 3) break;
    }
    if (iter && stopped <= 3) RV_EQUAL(given, b->n);
    rv_ivf_iter_destroy(iter);
    return status;
}

static void test_faults(void)
{
    for (size_t f = 0; f < RV_COUNT_OF(ivf_forms); f++) {
        ivf_bed b;
        edit_arg arg;
        unsigned char *image;
        if (!ivf_bed_form(&b, f, 260, 16, 0)) return;
        b.config.iterations = 1;
        b.config.m = ivf_forms[f].codes == RV_IVF_CODES_PQ ? 2 : 0;
        image = ivf_image(&b.ctx, b.index, &arg.bytes);
        arg.b = &b;
        arg.image = image;
        RV_CHECK(rv_test_oom_sweep(body_build, &b) > 10);
        RV_CHECK(rv_test_cancel_sweep(body_build, &b) > 4);
        RV_CHECK(rv_test_oom_sweep(body_edit, &arg) > 20);
        RV_CHECK(rv_test_cancel_sweep(body_edit, &arg) > 20);
        RV_CHECK(rv_test_oom_sweep(body_read, &arg) > 5);
        RV_CHECK(rv_test_cancel_sweep(body_read, &arg) > 3);
        sign_aligned_free(image);
        ivf_bed_close(&b);
    }
}

/* One list of so many rows that its scan, the choice of the nearest and their order all poll. */
static rv_status body_long(rv_ctx *ctx, void *arg)
{
    const rv_ivf *index = (const rv_ivf *)arg;
    const size_t n = rv_ivf_count(index), k = n / 2;
    const float query[2] = {0.25f, 0.5f};
    rv_hit *hits = (rv_hit *)ivf_room(n * sizeof *hits), hit;
    rv_ivf_options options;
    rv_ivf_iter *iter = NULL;
    size_t n_hits = 0, given = 0, stopped = 0;
    float last = -1.0f;
    rv_status status = rv_ivf_search(ctx, index, query, k, 0, hits, &n_hits);
    if (!status) {
        RV_EQUAL(n_hits, k);
        for (size_t i = 1; i < k; i++) RV_CHECK(hits[i - 1].distance <= hits[i].distance);
        status = rv_ivf_range(ctx, index, query, 1e9f, NULL, hits, k, &n_hits);
        if (!status) RV_EQUAL(n_hits, n);
    }
    memset(&options, 0, sizeof options);
    options.rerank = (uint32_t)k;
    if (!status) status = rv_ivf_iter_create(ctx, index, query, &options, &iter);
    while (iter && given < k && stopped < 4) {
        rv_status next = rv_ivf_iter_next(ctx, iter, &hit);
        if (next == RV_OK) {
            given++;
            RV_CHECK(hit.distance >= last); /* also after it was stopped */
            last = hit.distance;
        } else {
            status = next;
            stopped++;
        }
    }
    rv_ivf_iter_destroy(iter);
    free(hits);
    return status;
}

/* Rows as many as there are, the last with a key that is there: none stays, the search gives what
   it gave, and while they are taken out again the caller hears of it. */
static void test_refused_append(rv_ivf *index, const float *rows, size_t n)
{
    const float query[2] = {0.25f, 0.5f};
    uint64_t *keys = (uint64_t *)ivf_room(n * sizeof *keys);
    rv_hit before[20], after[20];
    size_t n_before = 0, n_after = 0;
    rv_test_faults faults;
    rv_ctx ctx;
    rv_test_ctx_faults(&ctx, &faults);
    memset(&ctx.alloc, 0, sizeof ctx.alloc); /* the index has its own */
    for (size_t i = 0; i < n; i++) keys[i] = n + i;
    keys[n - 1] = 5;
    RV_OKAY(&ctx, rv_ivf_search(&ctx, index, query, 20, 0, before, &n_before));
    RV_EQUAL(rv_ivf_build(&ctx, index, keys, rows, n), RV_ERR_EXISTS);
    RV_EQUAL(ctx.where, n - 1);
    RV_EQUAL(rv_ivf_count(index), n);
    RV_OKAY(&ctx, rv_ivf_check(&ctx, index));
    RV_OKAY(&ctx, rv_ivf_search(&ctx, index, query, 20, 0, after, &n_after));
    RV_CHECK(n_before == 20 && n_after == 20);
    for (size_t i = 0; i < 20; i++) {
        RV_EQUAL(before[i].key, after[i].key);
        RV_CHECK(before[i].distance == after[i].distance);
    }
    keys[n - 1] = 2 * n;
    faults.cancel_at = 0;
    faults.polls = 0;
    RV_OKAY(&ctx, rv_ivf_build(&ctx, index, keys, rows, n));
    faults.cancel_at = faults.polls - 1; /* the last but one of as many again */
    faults.polls = 0;
    for (size_t i = 0; i < n; i++) keys[i] = 4 * n + i;
    RV_EQUAL(rv_ivf_build(&ctx, index, keys, rows, n), RV_ERR_CANCELED);
    RV_CHECK(faults.polls > faults.cancel_at + n / 65536);
    RV_EQUAL(rv_ivf_count(index), 2 * n);
    RV_OKAY(NULL, rv_ivf_check(NULL, index));
    free(keys);
}

static void test_faults_of_long_lists(void)
{
    const size_t n = 70000;
    float *rows;
    rv_ivf_config config;
    rv_ivf *index = NULL;
    rv_test_rng rng;
    rv_ctx ctx;
    if (RV_TEST_SCALE > 4) return; /* what polls is a number of rows */
    rows = (float *)ivf_room(2 * n * sizeof(float));
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 311);
    rv_test_fill(&rng, rows, 2 * n);
    memset(&config, 0, sizeof config);
    config.dim = 2;
    config.n_lists = 1;
    config.codes = RV_IVF_CODES_NONE;
    RV_OKAY(&ctx, rv_ivf_create(&ctx, &config, &index));
    RV_OKAY(&ctx, rv_ivf_build(&ctx, index, NULL, rows, n));
    RV_CHECK(rv_test_cancel_sweep(body_long, index) > 20);
    test_refused_append(index, rows, n);
    rv_ivf_destroy(index);
    free(rows);
}

int main(void)
{
    rv_test_begin("ivf_fault");
    RV_RUN(test_save_load_view);
    RV_RUN(test_empty_image);
    RV_RUN(test_damaged_images);
    RV_RUN(test_hostile_images);
    RV_RUN(test_quantizer_of_other_rows);
    RV_RUN(test_parts_that_do_not_fit);
    RV_RUN(test_faults);
    RV_RUN(test_faults_of_long_lists);
    return rv_test_end();
}
