/* The private ground: messages, checked sizes, aligned blocks, order keys, random numbers, the
   parallel loop. */
#include "rv_test.h"

#include "../src/base.c"

static void test_message_formats(void)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0.0, "0"}, {-0.0, "-0"}, {1.0, "1"}, {-1.5, "-1.5"}, {123456.0, "123456"},
        {1234567.0, "1234570"}, {99999999.0, "100000000"}, {1e9, "1e9"}, {1.25e30, "1.25e30"},
        {0.001, "0.001"}, {0.00012345, "0.00012345"}, {0.00001, "1e-5"}, {-2.5e-300, "-2.5e-300"},
        {0.9999999, "1"}, {65535.0, "65535"},
    };
    const double infinity = (double)rv__infinity();
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_test_row(rows[i].text, i);
        RV_EQUAL(rv__fail(&ctx, RV_ERR_ARG, i, "%f", rows[i].value), RV_ERR_ARG);
        RV_CHECK(strcmp(ctx.message, rows[i].text) == 0);
        RV_EQUAL(ctx.where, i);
        RV_EQUAL(ctx.status, RV_ERR_ARG);
    }
    rv_test.row = NULL;
    (void)rv__fail(&ctx, RV_ERR_CONFIG, 0, "m is %z, %d and %l of %s: 100%%, %q", (size_t)7, -12,
                   (uint64_t)UINT64_MAX, "many");
    RV_CHECK(strcmp(ctx.message, "m is 7, -12 and 18446744073709551615 of many: 100%, q") == 0);
    (void)rv__fail(&ctx, RV_ERR_CONFIG, 0, "%d %d%", INT32_MIN, 0);
    RV_CHECK(strcmp(ctx.message, "-2147483648 0%") == 0);
    (void)rv__fail(&ctx, RV_ERR_CONFIG, 0, "[%s]", (const char *)NULL);
    RV_CHECK(strcmp(ctx.message, "[]") == 0);
    (void)rv__fail(&ctx, RV_ERR_ARG, 0, "%f %f", infinity, -infinity);
    RV_CHECK(strcmp(ctx.message, "infinity -infinity") == 0);
    RV_EQUAL(rv__fail(NULL, RV_ERR_DIM, 0, "unseen"), RV_ERR_DIM);
}

/* A message longer than its room is cut, and nothing behind it is touched. */
static void test_message_cut(void)
{
    struct {
        rv_ctx ctx;
        char after[16];
    } box;
    char text[400];
    memset(&box, 0x55, sizeof box);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    (void)rv__fail(&box.ctx, RV_ERR_ARG, 0, "%s", text);
    RV_EQUAL(strlen(box.ctx.message), sizeof box.ctx.message - 1);
    for (size_t i = 0; i < sizeof box.after; i++) RV_EQUAL(box.after[i], 0x55);
    RV_EQUAL(rv__ok(&box.ctx), RV_OK);
    RV_EQUAL(box.ctx.status, RV_OK);
    RV_EQUAL(box.ctx.message[0], 0);
    RV_EQUAL(rv__ok(NULL), RV_OK);
}

static void test_sizes(void)
{
    RV_CHECK(rv__mul(0, SIZE_MAX) == 0);
    RV_CHECK(rv__mul(SIZE_MAX, 0) == 0);
    RV_CHECK(rv__mul(3, 5) == 15);
    RV_CHECK(rv__mul(SIZE_MAX / 2, 2) == SIZE_MAX / 2 * 2);
    RV_CHECK(rv__mul(SIZE_MAX / 2 + 1, 2) == SIZE_MAX);
    RV_CHECK(rv__mul(SIZE_MAX, SIZE_MAX) == SIZE_MAX);
    RV_CHECK(rv__add(2, 3) == 5);
    RV_CHECK(rv__add(SIZE_MAX, 1) == SIZE_MAX);
    RV_CHECK(rv__add(SIZE_MAX - 1, 1) == SIZE_MAX);
    RV_CHECK(rv__round_up(0, 64) == 0);
    RV_CHECK(rv__round_up(1, 64) == 64);
    RV_CHECK(rv__round_up(64, 64) == 64);
    RV_CHECK(rv__round_up(SIZE_MAX - 1, 64) == SIZE_MAX);
}

static void test_blocks(void)
{
    static const size_t counts[] = {0, 1, 63, 64, 65, 1000};
    volatile size_t huge = SIZE_MAX - 100; /* volatile: compilers warn of such a memset */
    rv_test_faults faults;
    rv_ctx ctx;
    rv_alloc alloc, none;
    rv_status status;
    rv_test_ctx_faults(&ctx, &faults);
    alloc = rv__allocator(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(counts); i++) {
        size_t n = counts[i];
        unsigned char *block = (unsigned char *)rv__get_zero(&alloc, n, 3);
        rv_test_row("count", n);
        RV_CHECK(block != NULL);
        if (!block) continue;
        RV_EQUAL((uintptr_t)block % RV__LINE, 0);
        for (size_t j = 0; j < 3 * n; j++) RV_EQUAL(block[j], 0);
        memset(block, (int)i + 1, 3 * n);
        block = (unsigned char *)rv__regrow_polled(NULL, &alloc, block, n, n + 100, 3, &status);
        RV_CHECK(block != NULL);
        if (!block) continue;
        RV_EQUAL((uintptr_t)block % RV__LINE, 0);
        for (size_t j = 0; j < 3 * n; j++) RV_EQUAL(block[j], i + 1);
        rv__put(&alloc, block, n + 100, 3);
        RV_EQUAL(faults.live_blocks, 0);
        RV_EQUAL(faults.live_bytes, 0);
    }
    rv_test.row = NULL;
    RV_CHECK(rv__get(&alloc, SIZE_MAX, 1) == NULL);
    RV_CHECK(rv__get(&alloc, SIZE_MAX / 2, 3) == NULL);
    RV_CHECK(rv__get_zero(&alloc, huge, 1) == NULL);
    /* The overflows never reached the allocator. */
    RV_EQUAL(faults.allocs, 2 * RV_COUNT_OF(counts));
    rv__put(&alloc, NULL, 5, 5);
    none.realloc = NULL;
    none.user = NULL;
    RV_CHECK(rv__get(&none, 1, 1) == NULL);

    /* A refused growth leaves the block as it was. */
    {
        unsigned char *block = (unsigned char *)rv__get(&alloc, 10, 1);
        RV_CHECK(block != NULL);
        if (!block) return;
        memset(block, 9, 10);
        faults.fail_at = faults.allocs + 1;
        faults.fail_count = 1;
        RV_CHECK(rv__regrow_polled(NULL, &alloc, block, 10, 20, 1, &status) == NULL);
        for (size_t j = 0; j < 10; j++) RV_EQUAL(block[j], 9);
        rv__put(&alloc, block, 10, 1);
        RV_EQUAL(rv__no_memory(&ctx, 77), RV_ERR_MEMORY);
        RV_CHECK(strstr(ctx.message, "77") != NULL);
    }
    RV_EQUAL(faults.live_bytes, 0);
}

/* The C heap, below and above the size that asks for huge pages. */
static void test_heap(void)
{
    const size_t sizes[] = {1, 1000, (size_t)1 << 20, ((size_t)4 << 20) + 1, (size_t)9 << 20};
    rv_alloc alloc = rv__allocator(NULL);
    unsigned char *block = NULL;
    size_t old = 0;
    RV_CHECK(alloc.realloc != NULL);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < RV_COUNT_OF(sizes); i++) {
            size_t n = round ? sizes[RV_COUNT_OF(sizes) - 1 - i] : sizes[i];
            rv_test_row("bytes", n);
            if (RV_TEST_SCALE > 16 && n > (size_t)1 << 20) continue; /* a firmware's memory */
            block = (unsigned char *)alloc.realloc(alloc.user, block, old, n);
            RV_CHECK(block != NULL);
            if (!block) return;
            if (old) RV_EQUAL(block[0], 1);
            if (old) RV_EQUAL(block[(old < n ? old : n) - 1], old < n || n == 1 ? 1 : block[n - 1]);
            memset(block, 1, n);
            old = n;
        }
    }
    RV_CHECK(alloc.realloc(alloc.user, block, old, 0) == NULL);
}

static void test_bits(void)
{
    static const float rising[] = {-3.0e38f, -1.0f,    -1.0e-40f, -0.0f,
                                   0.0f,     1.0e-40f, 1.0f,      3.0e38f};
    const uint32_t nan_bits = 0xFFC00001u;
    float x[5] = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f};
    for (size_t i = 0; i < RV_COUNT_OF(rising); i++) {
        float back = rv__unorder_f32(rv__order_f32(rising[i]));
        rv_test_row("value", i);
        RV_CHECK(memcmp(&back, &rising[i], sizeof back) == 0);
        RV_CHECK(rv__finite_f32(rising[i]));
        if (i) RV_CHECK(rv__order_f32(rising[i - 1]) < rv__order_f32(rising[i]));
    }
    rv_test.row = NULL;
    RV_CHECK(!rv__finite_f32(rv__infinity()));
    RV_EQUAL(rv__find_not_finite(x, 5), 5);
    RV_EQUAL(rv__find_not_finite(x, 0), 0);
    x[3] = rv__infinity();
    RV_EQUAL(rv__find_not_finite(x, 5), 3);
    memcpy(&x[1], &nan_bits, sizeof x[1]);
    RV_EQUAL(rv__find_not_finite(x, 5), 1);
}

/* xoshiro256++ as its authors' code gives it for the state 1, 2, 3, 4; splitmix64 for 0. */
static void test_random(void)
{
    static const uint64_t expected[] = {41943041u, 58720359u, 3588806011781223u, 3591011842654386u};
    rv__rng rng;
    rv_ctx ctx;
    for (int i = 0; i < 4; i++) rng.s[i] = (uint64_t)i + 1;
    for (size_t i = 0; i < RV_COUNT_OF(expected); i++) RV_CHECK(rv__rng_next(&rng) == expected[i]);
    RV_CHECK(rv__mix(0) == 0xE220A8397B1DCDAFull);
    rv__rng_init(&rng, 5);
    for (uint32_t n = 1; n < 2000; n = n * 3 + 1) {
        for (int i = 0; i < 50; i++) {
            float u = rv__rng_f32(&rng);
            RV_CHECK(rv__rng_below(&rng, n) < n);
            RV_CHECK(u >= 0.0f);
            RV_CHECK(u < 1.0f);
        }
    }
    rv_test_ctx(&ctx);
    RV_CHECK(rv__seed(NULL) == RV__SEED);
    RV_CHECK(rv__seed(&ctx) == RV__SEED);
    ctx.seed = 3;
    RV_CHECK(rv__seed(&ctx) == 3);
}

/* ---- the parallel loop ---- */

enum { ITEMS = 300 };
typedef struct marks {
    unsigned char seen[ITEMS];
    size_t lanes, ranges;
} marks;

static void mark(void *arg, size_t lane, size_t begin, size_t end)
{
    marks *m = (marks *)arg;
    if (lane + 1 > m->lanes) m->lanes = lane + 1;
    m->ranges++;
    for (size_t i = begin; i < end; i++) m->seen[i]++;
}

/* Bodies in reverse order, on one thread: the results may not depend on the order. */
static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n) body(arg, --n);
}

static void test_parallel_for(void)
{
    static const size_t sizes[] = {0, 1, 7, 64, ITEMS}, grains[] = {0, 1, 8, 1000};
    rv_ctx ctx;
    rv_test_faults faults;
    for (int hook = 0; hook < 3; hook++) {
        for (size_t s = 0; s < RV_COUNT_OF(sizes); s++) {
            for (size_t g = 0; g < RV_COUNT_OF(grains); g++) {
                marks m;
                memset(&m, 0, sizeof m);
                rv_test_ctx_faults(&ctx, &faults);
                ctx.parallel = hook ? backwards : NULL;
                ctx.workers = hook == 2 ? 1000 : 0;
                rv_test_row("items", sizes[s]);
                RV_EQUAL(rv__lanes(&ctx), hook == 0 ? 1 : hook == 1 ? 8 : 256);
                RV_OKAY(&ctx, rv__parallel_for(&ctx, sizes[s], grains[g], 16, mark, &m));
                for (size_t i = 0; i < ITEMS; i++) RV_EQUAL(m.seen[i], i < sizes[s]);
                RV_CHECK(m.lanes <= rv__lanes(&ctx));
            }
        }
    }
    rv_test.row = NULL;
    RV_EQUAL(rv__lanes(NULL), 1);
}

static rv_status loop_body(rv_ctx *ctx, void *arg)
{
    return rv__parallel_for(ctx, ITEMS, 4, 16, mark, arg);
}

static void test_parallel_cancel(void)
{
    marks m;
    memset(&m, 0, sizeof m);
    /* 300 items in sections of 16 are 19 polls; the 20th never comes. */
    RV_EQUAL(rv_test_cancel_sweep(loop_body, &m), 20);
}

/* Polled writes: the bytes, a poll for each megabyte, nothing behind the end, and a block that
   stays when growing is canceled. */
static void test_polled_writes(void)
{
    const size_t bytes = 2 * RV__PIECE + 5;
    rv_test_faults faults;
    rv_status status = RV_OK;
    rv_alloc alloc;
    rv_ctx ctx;
    unsigned char *a, *b;
    rv_test_ctx_faults(&ctx, &faults);
    alloc = rv__allocator(&ctx);
    a = (unsigned char *)rv__get(&alloc, bytes + 1, 1);
    if (!a) exit(2);
    a[bytes] = 7;
    RV_EQUAL(rv__fill_polled(&ctx, a, 0x5A, bytes), RV_OK);
    RV_EQUAL(faults.polls, 3);
    for (size_t i = 0; i < bytes; i++) RV_CHECK(a[i] == 0x5A);
    RV_EQUAL(a[bytes], 7);
    RV_EQUAL(rv__fill_polled(&ctx, a, 0, 0), RV_OK);
    RV_EQUAL(faults.polls, 3);
    a[RV__PIECE] = 9;
    faults.cancel_at = faults.polls + 3;
    b = (unsigned char *)rv__regrow_polled(&ctx, &alloc, a, bytes + 1, bytes + 100, 1, &status);
    RV_CHECK(b == NULL);
    RV_EQUAL(status, RV_ERR_CANCELED);
    RV_EQUAL(faults.live_blocks, 1);
    RV_EQUAL(a[RV__PIECE], 9);
    faults.cancel_at = 0;
    faults.fail_at = faults.allocs + 1;
    faults.fail_count = 1;
    RV_CHECK(!rv__regrow_polled(&ctx, &alloc, a, bytes + 1, bytes + 100, 1, &status));
    RV_EQUAL(status, RV_ERR_MEMORY);
    b = (unsigned char *)rv__regrow_polled(&ctx, &alloc, a, bytes + 1, bytes + 100, 1, &status);
    RV_EQUAL(status, RV_OK);
    if (!b) return;
    RV_EQUAL(b[RV__PIECE], 9);
    RV_EQUAL(b[bytes], 7);
    rv__put(&alloc, b, bytes + 100, 1);
    RV_EQUAL(faults.live_blocks, 0);
}

int main(void)
{
    rv_test_begin("white_base");
    RV_RUN(test_message_formats);
    RV_RUN(test_message_cut);
    RV_RUN(test_sizes);
    RV_RUN(test_blocks);
    RV_RUN(test_heap);
    RV_RUN(test_bits);
    RV_RUN(test_random);
    RV_RUN(test_parallel_for);
    RV_RUN(test_parallel_cancel);
    RV_RUN(test_polled_writes);
    return rv_test_end();
}
