/* What every test program needs and nothing more. C99 and C++11, hosted or bare metal.

   #include "rv_test.h"
   static void test_add(void) { RV_CHECK(1 + 1 == 2); }
   int main(void)
   {
       rv_test_begin("stem");
       RV_RUN(test_add);
       return rv_test_end();          prints "stem: 1 passed, 0 failed"
   }

   Set from outside by tools/test.py:
   RV_TEST_SCALE  a macro, 1 = full size; larger numbers shrink work for emulators:
                  RV_SCALED(n, least).
   RV_TEST_WHITE  a macro, defined in white-box tests, which link without the library.
   RV_TEST_ISA    in the environment: the name of the instruction set to force, by default the
                  best; rv_test_ctx() puts it in a context. One build serves all of them. */
#ifndef RV_TEST_H
#define RV_TEST_H

#include "ruvector.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef RV_TEST_SCALE
#define RV_TEST_SCALE 1
#endif
/* Sweeps over faults leave out ever more: from the 2^this-th on every second, and so on. */
#define RV_TEST_SPARSE (RV_TEST_SCALE > 4 ? 4 : 6)
#if defined(__GNUC__)
#define RV_TEST_FN static __attribute__((unused))
#else
#define RV_TEST_FN static
#endif

#define RV_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
/* n divided by the scale, but not less than `least`. */
#define RV_SCALED(n, least) ((n) / RV_TEST_SCALE > (least) ? (n) / RV_TEST_SCALE : (least))

/* ---- checks ---- */

typedef struct rv_test_state {
    const char *stem, *test, *row;          /* program, running test, table row or NULL        */
    unsigned long long seed, index;         /* printed on failure when row or seed is set      */
    unsigned passed, failed, skipped, bad;  /* tests; bad: failed checks of the running test   */
    rv_isa isa;                             /* forced, or RV_ISA_BEST                          */
} rv_test_state;
static rv_test_state rv_test;

RV_TEST_FN int rv_test_fail(const char *file, int line)
{
    if (rv_test.bad++ >= 10) return 0; /* one broken loop must not hide the rest of the log */
    printf("%s:%d: %s failed", file, line, rv_test.test);
    if (rv_test.row) printf(" [row %s %lu]", rv_test.row, (unsigned long)rv_test.index);
    if (rv_test.seed) printf(" [seed %lu]", (unsigned long)rv_test.seed);
    printf(": ");
    return 1;
}

#define RV_CHECK(condition)                                                                      \
    do {                                                                                         \
        if (!(condition) && rv_test_fail(__FILE__, __LINE__)) printf("%s\n", #condition);        \
    } while (0)

/* |a - b| <= tolerance; a NaN on either side fails. */
#define RV_NEAR(a, b, tolerance)                                                                 \
    rv_test_near((double)(a), (double)(b), (double)(tolerance), #a, __FILE__, __LINE__)
RV_TEST_FN void rv_test_near(double a, double b, double tolerance, const char *text,
                             const char *file, int line)
{
    double gap = a > b ? a - b : b - a; /* NaN for equal infinities, hence the first test */
    if (a == b || gap <= tolerance) return;
    if (!rv_test_fail(file, line)) return;
    printf("%s = %.9g, not %.9g within %.3g\n", text, a, b, tolerance);
}

/* Integers of any type up to 64 bits, and statuses. */
#define RV_EQUAL(a, b) rv_test_equal((long long)(a), (long long)(b), #a, __FILE__, __LINE__)
RV_TEST_FN void rv_test_equal(long long a, long long b, const char *text, const char *file,
                              int line)
{
    if (a != b && rv_test_fail(file, line)) printf("%s = %ld, not %ld\n", text, (long)a, (long)b);
}

/* A call with context ctx that must succeed. */
#define RV_OKAY(ctx, call) rv_test_okay((ctx), (call), #call, __FILE__, __LINE__)
RV_TEST_FN rv_status rv_test_okay(const rv_ctx *ctx, rv_status status, const char *text,
                                  const char *file, int line)
{
    if (status != RV_OK && rv_test_fail(file, line)) {
        printf("%s: %s: %s\n", text, rv_status_text(status), ctx ? ctx->message : "");
    }
    return status;
}

/* Names the table row (name, index) that later failures print; cleared per test. */
RV_TEST_FN void rv_test_row(const char *name, size_t index)
{
    rv_test.row = name;
    rv_test.index = index;
}

/* A number that is no value of an enumeration; compilers of C++ refuse to cast the constant. */
RV_TEST_FN int rv_test_beyond(int value)
{
    return value;
}

/* ---- the program ---- */

/* The forced instruction set, or RV_ISA_BEST. */
RV_TEST_FN rv_isa rv_test_isa(void)
{
    return rv_test.isa;
}

/* Tests that compare every combination may compare fewer when they run once per set. */
RV_TEST_FN int rv_test_forced(void)
{
    return rv_test.isa != RV_ISA_BEST;
}

RV_TEST_FN void rv_test_begin(const char *stem)
{
#ifndef RV_TEST_WHITE /* those see one part, in which no set may be forced */
    const char *name = getenv("RV_TEST_ISA");
    int isa = RV_ISA_BEST;
    if (name && name[0]) {
        for (isa = RV_ISA_WASM; isa > RV_ISA_BEST; isa--)
            if (strcmp(name, rv_isa_name((rv_isa)isa)) == 0) break;
        rv_test.isa = (rv_isa)isa;
        if (isa == RV_ISA_BEST || rv_isa_resolve(rv_test.isa) != rv_test.isa) {
            printf("%s skipped: no %s on this processor\n", stem, name);
            printf("%s: 0 passed, 0 failed, 1 skipped\n", stem);
            exit(0);
        }
    }
#endif
    rv_test.stem = stem;
}

#define RV_RUN(test_fn) rv_test_run((test_fn), #test_fn)
RV_TEST_FN void rv_test_run(void (*test_fn)(void), const char *name)
{
    unsigned skipped = rv_test.skipped;
    rv_test.test = name;
    rv_test.row = NULL;
    rv_test.seed = 0;
    rv_test.bad = 0;
    test_fn();
    if (rv_test.bad) rv_test.failed++;
    else if (skipped == rv_test.skipped) rv_test.passed++;
    if (rv_test.bad > 10) printf("%s: %u failed checks in all\n", name, rv_test.bad);
    fflush(stdout);
}

/* The running test cannot be done here; say why and return from it. In CI a skip is a failure. */
RV_TEST_FN void rv_test_skip(const char *why)
{
    rv_test.skipped++;
    printf("%s: %s skipped: %s\n", rv_test.stem, rv_test.test, why);
}

RV_TEST_FN int rv_test_end(void)
{
    printf("%s: %u passed, %u failed", rv_test.stem, rv_test.passed, rv_test.failed);
    if (rv_test.skipped) printf(", %u skipped", rv_test.skipped);
    printf("\n");
    fflush(stdout);
    return rv_test.failed ? 1 : 0;
}

/* ---- random numbers: splitmix64, the same on every machine ---- */

typedef struct rv_test_rng {
    uint64_t state;
} rv_test_rng;

RV_TEST_FN void rv_test_seed(rv_test_rng *rng, uint64_t seed)
{
    rng->state = seed;
    rv_test.seed = (unsigned long long)seed;
}

RV_TEST_FN uint64_t rv_test_u64(rv_test_rng *rng)
{
    uint64_t x = rng->state += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

/* Uniform in 0..n-1, n > 0. */
RV_TEST_FN size_t rv_test_below(rv_test_rng *rng, size_t n)
{
    return (size_t)(rv_test_u64(rng) % (uint64_t)n);
}

/* Uniform in [-1, 1). */
RV_TEST_FN float rv_test_f32(rv_test_rng *rng)
{
    return (float)((double)(rv_test_u64(rng) >> 40) / 8388608.0 - 1.0);
}

RV_TEST_FN void rv_test_fill(rv_test_rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = rv_test_f32(rng);
}

/* ---- contexts, and faults on demand ---- */

/* A heap that counts, verifies old_bytes, and fails on demand; and a poll that cancels on demand.
   Every block is one of the C heap, so that sanitizers see overruns. One thread at a time. */
typedef struct rv_test_faults {
    size_t live_bytes, live_blocks, peak_bytes; /* what the caller owns now, and the most it did */
    size_t allocs, fail_at, fail_count;  /* requests so far; the fail_at-th (from 1) and the
                                            fail_count - 1 after it return NULL; 0 = never       */
    size_t polls, cancel_at;             /* polls so far; the cancel_at-th and later cancel      */
    size_t fired;                        /* faults that happened                                 */
} rv_test_faults;

#define RV_TEST_HEAD 16u /* bytes before each block: its size and a mark */

RV_TEST_FN void *rv_test_realloc(void *user, void *ptr, size_t old_bytes, size_t new_bytes)
{
    rv_test_faults *faults = (rv_test_faults *)user;
    unsigned char *raw = ptr ? (unsigned char *)ptr - RV_TEST_HEAD : NULL;
    size_t head[2] = {0, 0};
    if (raw) {
        memcpy(head, raw, sizeof head);
        RV_CHECK(head[1] == (size_t)0x5AFE5AFEu); /* a block of this heap, head undamaged */
        RV_CHECK(head[0] == old_bytes);           /* the library remembers the true size  */
        old_bytes = head[0];
    } else {
        old_bytes = 0;
    }
    if (new_bytes) {
        faults->allocs++;
        if (faults->fail_at && faults->allocs >= faults->fail_at &&
            faults->allocs - faults->fail_at < faults->fail_count) {
            faults->fired++;
            return NULL;
        }
    }
    faults->live_blocks += (size_t)(new_bytes != 0);
    if (raw) {
        faults->live_blocks--;
        faults->live_bytes -= old_bytes;
    }
    if (!new_bytes) {
        if (raw) memset(raw, 0xDD, RV_TEST_HEAD);
        free(raw);
        return NULL;
    }
    raw = (unsigned char *)realloc(raw, new_bytes + RV_TEST_HEAD);
    if (!raw) {
        printf("%s: the C heap itself refused %lu bytes\n", rv_test.test, (unsigned long)new_bytes);
        exit(2);
    }
    head[0] = new_bytes;
    head[1] = (size_t)0x5AFE5AFEu;
    memcpy(raw, head, sizeof head);
    /* Memory is not zero by luck. */
    if (new_bytes > old_bytes) memset(raw + RV_TEST_HEAD + old_bytes, 0xCD, new_bytes - old_bytes);
    faults->live_bytes += new_bytes;
    if (faults->live_bytes > faults->peak_bytes) faults->peak_bytes = faults->live_bytes;
    return raw + RV_TEST_HEAD;
}

RV_TEST_FN int rv_test_poll(void *user)
{
    rv_test_faults *faults = (rv_test_faults *)user;
    faults->polls++;
    if (!faults->cancel_at || faults->polls < faults->cancel_at) return 0;
    faults->fired++;
    return 1;
}

/* An empty context with the forced ISA. */
RV_TEST_FN void rv_test_ctx(rv_ctx *ctx)
{
    memset(ctx, 0, sizeof *ctx);
    ctx->isa = rv_test_isa();
}

/* A context over faults, which is cleared. */
RV_TEST_FN void rv_test_ctx_faults(rv_ctx *ctx, rv_test_faults *faults)
{
    rv_test_ctx(ctx);
    memset(faults, 0, sizeof *faults);
    ctx->alloc.realloc = rv_test_realloc;
    ctx->alloc.user = faults;
    ctx->poll = rv_test_poll;
    ctx->user = faults;
}

/* The body of a sweep: makes what it needs with ctx, does the work, frees everything also when a
   call fails, and returns the first status that is not RV_OK. Checks inside it must hold in both
   cases (for example: the object is still usable after a refused add). */
typedef rv_status (*rv_test_body)(rv_ctx *ctx, void *arg);

/* Runs body with the k-th allocation failing, then again with all from the k-th on, for k = 1, 2
   and so on until no fault fires. Each run must end in RV_ERR_MEMORY and own nothing. Returns the
   last k, one more than the allocations that body makes. */
RV_TEST_FN size_t rv_test_oom_sweep(rv_test_body body, void *arg)
{
    size_t k;
    for (k = 1;; k += 1 + (k >> RV_TEST_SPARSE) * (RV_TEST_SCALE > 1)) {
        rv_test_faults faults;
        rv_ctx ctx;
        for (size_t many = 0; many < 2; many++) {
            rv_status status;
            rv_test_ctx_faults(&ctx, &faults);
            rv_test_row(many ? "all allocations from" : "allocation", k);
            faults.fail_at = k;
            faults.fail_count = many ? SIZE_MAX : 1;
            status = body(&ctx, arg);
            RV_EQUAL(status, faults.fired ? RV_ERR_MEMORY : RV_OK);
            RV_EQUAL(faults.live_blocks, 0);
            RV_EQUAL(faults.live_bytes, 0);
        }
        if (!faults.fired || rv_test.bad) break;
    }
    rv_test.row = NULL;
    return k;
}

/* The same with the k-th poll canceling: RV_ERR_CANCELED. Returns the last k, 1: it never polls. */
RV_TEST_FN size_t rv_test_cancel_sweep(rv_test_body body, void *arg)
{
    size_t k;
    for (k = 1;; k += 1 + (k >> RV_TEST_SPARSE) * (RV_TEST_SCALE > 1)) {
        rv_test_faults faults;
        rv_ctx ctx;
        rv_status status;
        rv_test_ctx_faults(&ctx, &faults);
        rv_test_row("poll", k);
        faults.cancel_at = k;
        status = body(&ctx, arg);
        RV_EQUAL(status, faults.fired ? RV_ERR_CANCELED : RV_OK);
        RV_EQUAL(faults.live_blocks, 0);
        RV_EQUAL(faults.live_bytes, 0);
        if (!faults.fired || rv_test.bad) break;
    }
    rv_test.row = NULL;
    return k;
}

#endif /* RV_TEST_H */
