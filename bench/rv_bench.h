/* rv_bench.h - timing and machine limits for the programs bench/bench_X.c.

   Include it before any system header (it asks for the POSIX clock). One program is

       static void run(void *arg) { ... one call of the code to be timed ...; rv_bench_sink(x); }
       int main(int argc, char **argv)
       {
           rv_bench b;
           rv_bench_begin(&b, "distance", argc, argv);
           if (rv_bench_wanted(&b, "l2sq_f32")) {
               ns = rv_bench_time(&b, run, arg);
               rv_bench_line(&b, "l2sq_f32", n, dim, "avx2", ns, bytes, flops);
           }
           return rv_bench_end(&b);
       }

   Each line is  stem,case,n,dim,isa,ns,gbps,ratio_to_limit  on stdout. ns is one call, the best of
   several rounds, each long enough for the clock. gbps is bytes read per call over ns.
   ratio_to_limit is (the time this machine needs for that many bytes, or that many floating point
   operations, whichever is longer) over ns: 1.00 runs at the limit. The bytes are charged at the
   bandwidth of the level that holds them: the working set is `bytes` unless rv_bench_line_ws names
   another (rows gathered from a big matrix). Limits are measured on first use with the widest
   vectors the CPU has, whatever ISA the case was run on, and repeated on stderr at the end.

   A case whose call does many items (rows, queries) goes through rv_bench_rate: ns is then one
   item, and the rate stands in the name.

   Environment or NAME=value arguments: ONLY=part of a case name (commas separate several),
   ROUNDS= (default 9), ROUND_MS= (default 2). Thread class: one thread per rv_bench.           */
#ifndef RV_BENCH_H
#define RV_BENCH_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(_WIN32)
#include <windows.h>
#endif
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#define RV_BENCH_X86 1
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define RV_BENCH_NEON 1
#endif

enum { RV_BENCH_L1, RV_BENCH_L2, RV_BENCH_L3, RV_BENCH_DRAM, RV_BENCH_LEVELS };

typedef void (*rv_bench_fn)(void *arg);

typedef struct rv_bench {
    const char *stem;
    const char *only;                     /* filter, or NULL                                   */
    int         rounds;
    double      round_ns;                 /* a round lasts at least this long                  */
    size_t      n_lines;
    double      read_gbps[RV_BENCH_LEVELS];       /* 0 = not measured yet                      */
    double      fma_gflops;
} rv_bench;

typedef struct rv_bench_entry {           /* a contestant of rv_bench_race                     */
    rv_bench_fn fn;
    void       *arg;
    double      best_ns, median_ns;       /* out                                               */
    size_t      reps;                     /* out: calls per round                              */
} rv_bench_entry;

/* ---- clock and sink ------------------------------------------------------------------------ */

static inline double rv_bench_now(void)   /* nanoseconds, monotonic                            */
{
#if defined(_WIN32)
    LARGE_INTEGER t, f;
    QueryPerformanceCounter(&t);
    QueryPerformanceFrequency(&f);
    return (double)t.QuadPart * 1e9 / (double)f.QuadPart;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
#endif
}

/* Keeps a result alive so that the compiler cannot drop the code that made it. */
static inline void rv_bench_sink(double x)
{
    static volatile double sink;
    sink = x;
    (void)sink;
}

/* Makes the compiler believe that memory behind p was read and written. */
static inline void rv_bench_touch(void *p)
{
#if defined(__GNUC__) || defined(__clang__)
    __asm__ volatile("" : : "r"(p) : "memory");
#else
    *(volatile char *)p = *(volatile char *)p;
#endif
}

/* ---- measuring ----------------------------------------------------------------------------- */

static inline double rv_bench_round(rv_bench_fn fn, void *arg, size_t reps)
{
    double t0 = rv_bench_now();
    for (size_t i = 0; i < reps; i++) fn(arg);
    return rv_bench_now() - t0;
}

/* Calls per round so that a round lasts round_ns. The first call also warms caches and tables. */
static inline size_t rv_bench_calibrate(const rv_bench *b, rv_bench_fn fn, void *arg)
{
    size_t reps = 1;
    double ns = rv_bench_round(fn, arg, 1);
    for (int step = 0; step < 40; step++) {
        double want;
        ns = rv_bench_round(fn, arg, reps);
        if (ns >= b->round_ns) return reps;
        want = ns > 0 ? (double)reps * b->round_ns / ns * 1.2 : (double)reps * 10;
        if (want > (double)reps * 10) want = (double)reps * 10;
        reps = (size_t)want + 1;
    }
    return reps;
}

static inline int rv_bench_compare(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Runs the entries in turn, round after round, so that drift and other load hit all of them alike.
   The order is reversed every other round. Fills best_ns and median_ns, per call.               */
static inline void rv_bench_race(const rv_bench *b, rv_bench_entry *entries, size_t n)
{
    size_t rounds = (size_t)b->rounds;
    double *times = (double *)malloc((n ? n : 1) * rounds * sizeof(double));
    if (!times) {
        fprintf(stderr, "rv_bench: out of memory\n");
        exit(2);
    }
    for (size_t i = 0; i < n; i++)
        entries[i].reps = rv_bench_calibrate(b, entries[i].fn, entries[i].arg);
    for (size_t r = 0; r < rounds; r++) {
        for (size_t j = 0; j < n; j++) {
            size_t i = r % 2 ? n - 1 - j : j;
            double ns = rv_bench_round(entries[i].fn, entries[i].arg, entries[i].reps);
            times[i * rounds + r] = ns / (double)entries[i].reps;
        }
    }
    for (size_t i = 0; i < n; i++) {
        qsort(times + i * rounds, rounds, sizeof(double), rv_bench_compare);
        entries[i].best_ns = times[i * rounds];
        entries[i].median_ns = times[i * rounds + rounds / 2];
    }
    free(times);
}

/* Best time of one call, ns. */
static inline double rv_bench_time(const rv_bench *b, rv_bench_fn fn, void *arg)
{
    rv_bench_entry e;
    memset(&e, 0, sizeof e);
    e.fn = fn;
    e.arg = arg;
    rv_bench_race(b, &e, 1);
    return e.best_ns;
}

/* ---- limits of the machine ----------------------------------------------------------------- */

typedef struct rv_bench_span {
    const float *data;
    size_t       n;                       /* floats, a multiple of 128                         */
} rv_bench_span;

#if defined(RV_BENCH_X86)
/* The reduce intrinsics are avoided: gcc warns inside them when compiled as C++. */
__attribute__((target("avx512f")))
static inline float rv_bench_read_avx512(const float *p, size_t n)
{
    float out[16];
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
    for (size_t i = 0; i < n; i += 128) {
        a = _mm512_or_si512(a, _mm512_loadu_si512((const void *)(p + i)));
        b = _mm512_or_si512(b, _mm512_loadu_si512((const void *)(p + i + 16)));
        c = _mm512_or_si512(c, _mm512_loadu_si512((const void *)(p + i + 32)));
        d = _mm512_or_si512(d, _mm512_loadu_si512((const void *)(p + i + 48)));
        e = _mm512_or_si512(e, _mm512_loadu_si512((const void *)(p + i + 64)));
        f = _mm512_or_si512(f, _mm512_loadu_si512((const void *)(p + i + 80)));
        g = _mm512_or_si512(g, _mm512_loadu_si512((const void *)(p + i + 96)));
        h = _mm512_or_si512(h, _mm512_loadu_si512((const void *)(p + i + 112)));
    }
    a = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
    e = _mm512_or_si512(_mm512_or_si512(e, f), _mm512_or_si512(g, h));
    _mm512_storeu_si512((void *)out, _mm512_or_si512(a, e));
    return out[0];
}

__attribute__((target("avx2")))
static inline float rv_bench_read_avx2(const float *p, size_t n)
{
    __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
    float out[8];
    for (size_t i = 0; i < n; i += 32) {
        a = _mm256_or_ps(a, _mm256_loadu_ps(p + i));
        b = _mm256_or_ps(b, _mm256_loadu_ps(p + i + 8));
        c = _mm256_or_ps(c, _mm256_loadu_ps(p + i + 16));
        d = _mm256_or_ps(d, _mm256_loadu_ps(p + i + 24));
    }
    _mm256_storeu_ps(out, _mm256_or_ps(_mm256_or_ps(a, b), _mm256_or_ps(c, d)));
    return out[0];
}

/* 12 independent chains: two units times a latency of 4 to 5 cycles, written out because arrays
   would be spilled; they start differently, because equal ones would be merged. n: rounds of 12. */
__attribute__((target("avx512f")))
static inline float rv_bench_fma_avx512(size_t n)
{
    __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    __m512 a = x, b = _mm512_add_ps(a, y), c = _mm512_add_ps(b, y), d = _mm512_add_ps(c, y), e =
           _mm512_add_ps(d, y), f = _mm512_add_ps(e, y), g = _mm512_add_ps(f, y), h =
           _mm512_add_ps(g, y), k = _mm512_add_ps(h, y), l = _mm512_add_ps(k, y), m =
           _mm512_add_ps(l, y), o = _mm512_add_ps(m, y);
    float out[16];
    for (size_t i = 0; i < n; i++) {
        a = _mm512_fmadd_ps(a, x, y);
        b = _mm512_fmadd_ps(b, x, y);
        c = _mm512_fmadd_ps(c, x, y);
        d = _mm512_fmadd_ps(d, x, y);
        e = _mm512_fmadd_ps(e, x, y);
        f = _mm512_fmadd_ps(f, x, y);
        g = _mm512_fmadd_ps(g, x, y);
        h = _mm512_fmadd_ps(h, x, y);
        k = _mm512_fmadd_ps(k, x, y);
        l = _mm512_fmadd_ps(l, x, y);
        m = _mm512_fmadd_ps(m, x, y);
        o = _mm512_fmadd_ps(o, x, y);
    }
    a = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)),
                      _mm512_add_ps(_mm512_add_ps(e, f), _mm512_add_ps(g, h)));
    a = _mm512_add_ps(a, _mm512_add_ps(_mm512_add_ps(k, l), _mm512_add_ps(m, o)));
    _mm512_storeu_ps(out, a);
    return out[0];
}

__attribute__((target("avx2,fma")))
static inline float rv_bench_fma_avx2(size_t n)
{
    __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    __m256 a = x, b = _mm256_add_ps(a, y), c = _mm256_add_ps(b, y), d = _mm256_add_ps(c, y), e =
           _mm256_add_ps(d, y), f = _mm256_add_ps(e, y), g = _mm256_add_ps(f, y), h =
           _mm256_add_ps(g, y), k = _mm256_add_ps(h, y), l = _mm256_add_ps(k, y), m =
           _mm256_add_ps(l, y), o = _mm256_add_ps(m, y);
    float out[8];
    for (size_t i = 0; i < n; i++) {
        a = _mm256_fmadd_ps(a, x, y);
        b = _mm256_fmadd_ps(b, x, y);
        c = _mm256_fmadd_ps(c, x, y);
        d = _mm256_fmadd_ps(d, x, y);
        e = _mm256_fmadd_ps(e, x, y);
        f = _mm256_fmadd_ps(f, x, y);
        g = _mm256_fmadd_ps(g, x, y);
        h = _mm256_fmadd_ps(h, x, y);
        k = _mm256_fmadd_ps(k, x, y);
        l = _mm256_fmadd_ps(l, x, y);
        m = _mm256_fmadd_ps(m, x, y);
        o = _mm256_fmadd_ps(o, x, y);
    }
    a = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)),
                      _mm256_add_ps(_mm256_add_ps(e, f), _mm256_add_ps(g, h)));
    a = _mm256_add_ps(a, _mm256_add_ps(_mm256_add_ps(k, l), _mm256_add_ps(m, o)));
    _mm256_storeu_ps(out, a);
    return out[0];
}
#endif

static inline float rv_bench_read_plain(const float *p, size_t n)
{
    uint64_t a = 0, b = 0, c = 0, d = 0, w[4];
    for (size_t i = 0; i < n; i += 8) {
        memcpy(w, p + i, sizeof w);
        a |= w[0];
        b |= w[1];
        c |= w[2];
        d |= w[3];
    }
    return (float)((a | b | c | d) & 0xffff);
}

#if defined(RV_BENCH_NEON)
static inline float rv_bench_fma_neon(size_t n)
{
    float32x4_t x = vdupq_n_f32(0.999f), y = vdupq_n_f32(1e-3f);
    float32x4_t a = x, b = vaddq_f32(a, y), c = vaddq_f32(b, y), d = vaddq_f32(c, y), e =
           vaddq_f32(d, y), f = vaddq_f32(e, y), g = vaddq_f32(f, y), h = vaddq_f32(g, y), k
           = vaddq_f32(h, y), l = vaddq_f32(k, y), m = vaddq_f32(l, y), o = vaddq_f32(m, y);
    for (size_t i = 0; i < n; i++) {
        a = vfmaq_f32(y, a, x);
        b = vfmaq_f32(y, b, x);
        c = vfmaq_f32(y, c, x);
        d = vfmaq_f32(y, d, x);
        e = vfmaq_f32(y, e, x);
        f = vfmaq_f32(y, f, x);
        g = vfmaq_f32(y, g, x);
        h = vfmaq_f32(y, h, x);
        k = vfmaq_f32(y, k, x);
        l = vfmaq_f32(y, l, x);
        m = vfmaq_f32(y, m, x);
        o = vfmaq_f32(y, o, x);
    }
    a = vaddq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)),
                  vaddq_f32(vaddq_f32(e, f), vaddq_f32(g, h)));
    a = vaddq_f32(a, vaddq_f32(vaddq_f32(k, l), vaddq_f32(m, o)));
    return vaddvq_f32(a);
}
#endif

static inline int rv_bench_width(void)    /* floats per vector register                        */
{
#if defined(RV_BENCH_X86)
    if (__builtin_cpu_supports("avx512f")) return 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
    return 1;
#elif defined(RV_BENCH_NEON)
    return 4;
#else
    return 1;
#endif
}

static inline void rv_bench_run_read(void *arg)
{
    const rv_bench_span *span = (const rv_bench_span *)arg;
    float x;
#if defined(RV_BENCH_X86)
    if (rv_bench_width() == 16) x = rv_bench_read_avx512(span->data, span->n);
    else if (rv_bench_width() == 8) x = rv_bench_read_avx2(span->data, span->n);
    else
#endif
        x = rv_bench_read_plain(span->data, span->n);
    rv_bench_sink((double)x);
}

static inline void rv_bench_run_fma(void *arg)
{
    size_t n = *(const size_t *)arg;
    float x = 0;
#if defined(RV_BENCH_X86)
    if (rv_bench_width() == 16) x = rv_bench_fma_avx512(n);
    else if (rv_bench_width() == 8) x = rv_bench_fma_avx2(n);
    else
#elif defined(RV_BENCH_NEON)
    if (rv_bench_width() == 4) x = rv_bench_fma_neon(n);
    else
#endif
        for (size_t i = 0; i < n * 12; i++) x = x * 0.999f + 1e-3f;
    rv_bench_sink((double)x);
}

/* Working sets: inside L1, inside L2, past any L2, past most L3. */
static inline size_t rv_bench_level_bytes(int level)
{
    static const size_t bytes[RV_BENCH_LEVELS] = {
        (size_t)16 << 10, (size_t)512 << 10, (size_t)16 << 20, (size_t)768 << 20
    };
    return bytes[level];
}

static inline int rv_bench_level(double working_set)
{
    if (working_set <= 40.0 * 1024) return RV_BENCH_L1;
    if (working_set <= 1.25 * 1024 * 1024) return RV_BENCH_L2;
    if (working_set <= 128.0 * 1024 * 1024) return RV_BENCH_L3;
    return RV_BENCH_DRAM;
}

/* Read bandwidth of a level, GB/s; measured once. */
static inline double rv_bench_read_limit(rv_bench *b, int level)
{
    if (b->read_gbps[level] <= 0) {
        size_t bytes = rv_bench_level_bytes(level);
        char *block = NULL;
        rv_bench_span span;
        rv_bench fewer = *b;
        while (!block && bytes >= 16384) {
            block = (char *)malloc(bytes + 64);
            if (!block) bytes /= 2;
        }
        if (!block) return 0;
        memset(block, 1, bytes + 64);
        span.data = (const float *)(const void *)(block + (64 - (size_t)((uintptr_t)block % 64)));
        span.n = bytes / sizeof(float);
        if (level == RV_BENCH_DRAM) fewer.rounds = 4;
        b->read_gbps[level] = (double)bytes / rv_bench_time(&fewer, rv_bench_run_read, &span);
        free(block);
    }
    return b->read_gbps[level];
}

/* Peak of multiply-add, 2 operations each, GFLOP/s, one thread; measured once. */
static inline double rv_bench_fma_limit(rv_bench *b)
{
    if (b->fma_gflops <= 0) {
        size_t n = 4096;
        double flops = 24.0 * (double)n * rv_bench_width();
        b->fma_gflops = flops / rv_bench_time(b, rv_bench_run_fma, &n);
    }
    return b->fma_gflops;
}

/* ---- options and lines --------------------------------------------------------------------- */

static inline const char *rv_bench_option(const char *name, int argc, char **argv)
{
    size_t len = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') return argv[i] + len + 1;
    return getenv(name);
}

static inline void rv_bench_begin(rv_bench *b, const char *stem, int argc, char **argv)
{
    const char *text;
    memset(b, 0, sizeof *b);
    b->stem = stem;
    b->only = rv_bench_option("ONLY", argc, argv);
    if (b->only && !*b->only) b->only = NULL;
    text = rv_bench_option("ROUNDS", argc, argv);
    b->rounds = text ? atoi(text) : 9;
    if (b->rounds < 1) b->rounds = 1;
    text = rv_bench_option("ROUND_MS", argc, argv);
    b->round_ns = (text ? atof(text) : 2.0) * 1e6;
    if (!(b->round_ns > 1000)) b->round_ns = 1000;
    printf("stem,case,n,dim,isa,ns,gbps,ratio_to_limit\n");
}

/* True where ONLY is unset, equals the stem, or one of its comma-separated words is in the name. */
static inline int rv_bench_wanted(const rv_bench *b, const char *name)
{
    const char *p = b->only;
    if (!p || strcmp(p, b->stem) == 0) return 1;
    while (*p) {
        char word[64];
        size_t len = strcspn(p, ",");
        size_t keep = len < sizeof word - 1 ? len : sizeof word - 1;
        memcpy(word, p, keep);
        word[keep] = 0;
        if (keep && strstr(name, word)) return 1;
        p += len;
        if (*p) p++;
    }
    return 0;
}

/* bytes, flops: per call, 0 = does not count. working_set: bytes the case cycles through. */
static inline void rv_bench_line_ws(rv_bench *b, const char *name, size_t n, size_t dim,
                                    const char *isa, double ns, double bytes, double flops,
                                    double working_set)
{
    double limit_ns = 0;
    if (bytes > 0) {
        double gbps = rv_bench_read_limit(b, rv_bench_level(working_set));
        if (gbps > 0) limit_ns = bytes / gbps;
    }
    if (flops > 0) {
        double fma_ns = flops / rv_bench_fma_limit(b);
        if (fma_ns > limit_ns) limit_ns = fma_ns;
    }
    printf("%s,%s,%lu,%lu,%s,%.2f,%.2f,%.3f\n", b->stem, name, (unsigned long)n,
           (unsigned long)dim, isa, ns, ns > 0 ? bytes / ns : 0.0, ns > 0 ? limit_ns / ns : 0.0);
    fflush(stdout);
    b->n_lines++;
}

static inline void rv_bench_line(rv_bench *b, const char *name, size_t n, size_t dim,
                                 const char *isa, double ns, double bytes, double flops)
{
    rv_bench_line_ws(b, name, n, dim, isa, ns, bytes, flops, bytes);
}

/* A call of ns for `items` of them; bytes and flops are per call. The name gets " <unit>/s=". */
static inline void rv_bench_rate(rv_bench *b, const char *name, const char *unit, double items,
                                 size_t n, size_t dim, const char *isa, double ns, double bytes,
                                 double flops, double working_set)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s/s=%.3g", name, unit, items * 1e9 / ns);
    rv_bench_line_ws(b, text, n, dim, isa, ns / items, bytes / items, flops / items, working_set);
}

/* ---- data ---------------------------------------------------------------------------------- */

/* Memory, or the end of the program. For free(). */
static inline void *rv_bench_get(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) {
        fprintf(stderr, "rv_bench: out of memory\n");
        exit(2);
    }
    return p;
}

/* Uniform numbers from -1 up to 1. */
static inline void rv_bench_fill(float *x, size_t n, uint64_t seed)
{
    uint64_t s = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        x[i] = (float)((s * UINT64_C(0x2545F4914F6CDD1D)) >> 40) / 8388608.0f - 1.0f;
    }
}

/* Ends the program where a call failed: status below 0. */
static inline void rv_bench_check(const rv_bench *b, int status, const char *message)
{
    if (status >= 0) return;
    fprintf(stderr, "bench_%s: %s\n", b->stem, message);
    exit(2);
}

/* Prints the limits that were used. Returns the exit status of main: 1 where ONLY matched none. */
static inline int rv_bench_end(const rv_bench *b)
{
    static const char *const names[RV_BENCH_LEVELS] = { "L1", "L2", "L3", "DRAM" };
    for (int i = 0; i < RV_BENCH_LEVELS; i++)
        if (b->read_gbps[i] > 0)
            fprintf(stderr, "# limit: %s read %.1f GB/s, one thread\n", names[i], b->read_gbps[i]);
    if (b->fma_gflops > 0)
        fprintf(stderr, "# limit: f32 FMA %.1f GFLOP/s, one thread\n", b->fma_gflops);
    if (!b->n_lines && b->only) {
        fprintf(stderr, "# ONLY=%s matches no case of %s\n", b->only, b->stem);
        return 1;
    }
    return 0;
}

#endif /* RV_BENCH_H */
