#ifndef RV_BASE_C
#define RV_BASE_C
#include "base.h"

/* Private ground: linkage words, checked sizes, aligned memory, messages, random numbers, the
   parallel loop. The only part (with simd.c) that includes system headers. */

#include <math.h>
#include <stdarg.h>
#include <string.h>
#ifndef RV_NO_STDLIB
#include <stdlib.h>
#endif
#if defined(__linux__) && !defined(RV_NO_STDLIB)
#define RV__HUGE_PAGES 1
#ifdef __cplusplus
#include <sys/mman.h>
#else
/* Strict C modes hide these two; the declarations agree with the system's. */
int madvise(void *addr, size_t length, int advice);
int posix_memalign(void **ptr, size_t alignment, size_t size);
#endif
#endif
#ifdef RV_THREADS
#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#define RV__LEAN_AND_MEAN 1
#endif
#include <windows.h>
#ifdef RV__LEAN_AND_MEAN
#undef WIN32_LEAN_AND_MEAN
#undef RV__LEAN_AND_MEAN
#endif
#else
#include <pthread.h>
#include <unistd.h>
#endif
#endif

#if defined(__GNUC__)
#define RV__FN static __attribute__((unused))
#define RV__RESTRICT __restrict__
/* Forced inlining multiplies every kernel by its types and operations: without optimisation it
   would only make the compiler need gigabytes. */
#if defined(__OPTIMIZE__)
#define RV__INLINE static __inline__ __attribute__((unused, always_inline))
#else
#define RV__INLINE static __inline__ __attribute__((unused))
#endif
#define RV__PREFETCH(p) __builtin_prefetch((const void *)(p), 0, 3)
#define RV__LIKELY(x) __builtin_expect(!!(x), 1)
#define RV__UNLIKELY(x) __builtin_expect(!!(x), 0)
#elif defined(_MSC_VER)
#include <intrin.h>
#define RV__FN static
#define RV__RESTRICT __restrict
#define RV__INLINE static __forceinline
#if defined(_M_X64) || defined(_M_IX86)
#define RV__PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#else
#define RV__PREFETCH(p) ((void)(p))
#endif
#define RV__LIKELY(x) (x)
#define RV__UNLIKELY(x) (x)
#else
#define RV__FN static
#define RV__RESTRICT
#define RV__INLINE static
#define RV__PREFETCH(p) ((void)(p))
#define RV__LIKELY(x) (x)
#define RV__UNLIKELY(x) (x)
#endif

/* For programmer errors only; user input never reaches it. */
#ifndef RV_ASSERT
#define RV_ASSERT(x) ((void)0)
#define RV__ASSERT_DEFAULT 1
#endif

#define RV__LINE 64u /* bytes of a cache line; every block starts on one */
#define RV__SEED ((uint64_t)0x9E3779B97F4A7C15ull)

RV_API const char *rv_version(void)
{
    return "0.1.0";
}

RV_API const char *rv_status_text(rv_status status)
{
    switch ((int)status) {
    case RV_OK: return "ok";
    case RV_DONE: return "no more results";
    case RV_ERR_ARG: return "invalid argument";
    case RV_ERR_DIM: return "dimension mismatch";
    case RV_ERR_CONFIG: return "invalid configuration";
    case RV_ERR_MEMORY: return "out of memory";
    case RV_ERR_FORMAT: return "invalid image";
    case RV_ERR_PARSE: return "syntax error";
    case RV_ERR_NOT_FOUND: return "not found";
    case RV_ERR_CANCELED: return "canceled";
    case RV_ERR_UNSUPPORTED: return "not supported";
    case RV_ERR_EXISTS: return "already exists";
    default: return "unknown status";
    }
}

/* ---- messages ---- */

typedef struct rv__text {
    char *out;
    size_t cap, n;
} rv__text;

RV__FN void rv__text_char(rv__text *t, char c)
{
    if (t->n + 1 < t->cap) t->out[t->n++] = c;
}

RV__FN void rv__text_string(rv__text *t, const char *s)
{
    while (s && *s) rv__text_char(t, *s++);
}

RV__FN void rv__text_u64(rv__text *t, uint64_t v)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + (int)(v % 10u));
        v /= 10u;
    } while (v);
    while (n) rv__text_char(t, digits[--n]);
}

/* Six significant digits, plain or with an exponent; enough for a message, not for data. */
RV__FN void rv__text_double(rv__text *t, double v)
{
    uint64_t digits, bits;
    int exp10 = 0, point, n;
    char text[8];
    memcpy(&bits, &v, sizeof bits);
    if ((bits >> 52 & 0x7FFu) == 0x7FFu) {
        rv__text_string(t, (bits & 0xFFFFFFFFFFFFFull) ? "NaN"
                           : (bits >> 63)              ? "-infinity"
                                                       : "infinity");
        return;
    }
    if (bits >> 63) {
        rv__text_char(t, '-');
        v = -v;
    }
    if (v == 0.0) {
        rv__text_char(t, '0');
        return;
    }
    while (v >= 1e6) { v /= 10.0; exp10++; }
    while (v < 1e5) { v *= 10.0; exp10--; }
    digits = (uint64_t)(v + 0.5);
    if (digits >= 1000000u) { digits /= 10u; exp10++; }
    for (n = 6; n > 0; n--) { text[n - 1] = (char)('0' + (int)(digits % 10u)); digits /= 10u; }
    n = 6;
    while (n > 1 && text[n - 1] == '0') n--;
    exp10 += 5; /* value is d.ddddd times ten to exp10 */
    point = (exp10 >= -4 && exp10 < 9) ? exp10 : 0;
    for (int i = point; i < 0; i++) rv__text_string(t, i == point ? "0." : "0");
    for (int i = 0; i < n || i <= point; i++) {
        if (i > 0 && i == point + 1) rv__text_char(t, '.');
        rv__text_char(t, i < n ? text[i] : '0');
    }
    if (point != exp10) {
        rv__text_char(t, 'e');
        if (exp10 < 0) rv__text_char(t, '-');
        rv__text_u64(t, (uint64_t)(exp10 < 0 ? -exp10 : exp10));
    }
}

/* Records a fault and returns its status. format knows %s (const char *), %z (size_t),
   %l (uint64_t), %d (int), %f (double). ctx may be NULL. */
RV__FN rv_status rv__fail(rv_ctx *ctx, rv_status status, size_t where, const char *format, ...)
{
    va_list args;
    rv__text t;
    if (!ctx) return status;
    ctx->status = status;
    ctx->where = where;
    t.out = ctx->message;
    t.cap = sizeof ctx->message;
    t.n = 0;
    va_start(args, format);
    for (; *format; format++) {
        int d;
        if (*format != '%' || !format[1]) {
            rv__text_char(&t, *format);
            continue;
        }
        switch (*++format) {
        case 's': rv__text_string(&t, va_arg(args, const char *)); break;
        case 'z': rv__text_u64(&t, (uint64_t)va_arg(args, size_t)); break;
        case 'l': rv__text_u64(&t, va_arg(args, uint64_t)); break;
        case 'd':
            d = va_arg(args, int);
            if (d < 0) rv__text_char(&t, '-');
            rv__text_u64(&t, d < 0 ? (uint64_t)(-(int64_t)d) : (uint64_t)d);
            break;
        case 'f': rv__text_double(&t, va_arg(args, double)); break;
        default: rv__text_char(&t, *format); break;
        }
    }
    va_end(args);
    t.out[t.n] = 0;
    return status;
}

RV__FN rv_status rv__ok(rv_ctx *ctx)
{
    if (ctx) {
        ctx->status = RV_OK;
        ctx->where = 0;
        ctx->message[0] = 0;
    }
    return RV_OK;
}

/* The end of an iterator. */
RV__FN rv_status rv__done(rv_ctx *ctx)
{
    (void)rv__ok(ctx);
    if (ctx) ctx->status = RV_DONE;
    return RV_DONE;
}

RV__FN rv_status rv__no_memory(rv_ctx *ctx, size_t bytes)
{
    return rv__fail(ctx, RV_ERR_MEMORY, 0, "out of memory: a block of %z bytes was refused", bytes);
}

/* ---- checked sizes ---- */

/* a * b and a + b, or SIZE_MAX where that overflows; SIZE_MAX is never granted by an allocator
   because rv__get adds to it and sees the overflow. */
RV__FN size_t rv__mul(size_t a, size_t b)
{
    return (a && b > SIZE_MAX / a) ? SIZE_MAX : a * b;
}

RV__FN size_t rv__add(size_t a, size_t b)
{
    return b > SIZE_MAX - a ? SIZE_MAX : a + b;
}

RV__FN int rv__big_endian(void)
{
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 0;
}

RV__FN size_t rv__round_up(size_t n, size_t multiple)
{
    size_t rest = n % multiple;
    return rest ? rv__add(n, multiple - rest) : n;
}

/* ---- memory ---- */

#ifndef RV_NO_STDLIB
/* Random access into gigabytes is bound by address translation: blocks of 4 MiB and more start on
   a 2 MiB boundary and ask for huge pages, which halves the cost of a cache miss. */
static void *rv__heap_realloc(void *user, void *ptr, size_t old_bytes, size_t new_bytes)
{
#ifdef RV__HUGE_PAGES
    const size_t huge = (size_t)1 << 21;
    void *block = NULL;
    (void)user;
    if (!new_bytes) {
        free(ptr);
        return NULL;
    }
    if (new_bytes < 2 * huge) return realloc(ptr, new_bytes);
    if (posix_memalign(&block, huge, new_bytes)) return NULL;
    (void)madvise(block, new_bytes, 14 /* MADV_HUGEPAGE */);
    if (ptr) {
        memcpy(block, ptr, old_bytes < new_bytes ? old_bytes : new_bytes);
        free(ptr);
    }
    return block;
#else
    (void)user;
    (void)old_bytes;
    if (!new_bytes) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_bytes);
#endif
}
#endif

/* The allocator a context stands for. Without the C heap and without a caller's allocator the
   function pointer is NULL and every request fails as out of memory. */
RV__FN rv_alloc rv__allocator(const rv_ctx *ctx)
{
    rv_alloc alloc;
    alloc.realloc = NULL;
    alloc.user = NULL;
    if (ctx && ctx->alloc.realloc) return ctx->alloc;
#ifndef RV_NO_STDLIB
    alloc.realloc = rv__heap_realloc;
#endif
    return alloc;
}

/* A block of count * size bytes that starts on a cache line, not cleared; NULL when refused.
   A request of zero bytes gives a valid block. Free with rv__put and the same count and size. */
RV__FN void *rv__get(const rv_alloc *alloc, size_t count, size_t size)
{
    size_t bytes = rv__add(rv__mul(count, size), 2 * RV__LINE);
    unsigned char *raw, *block;
    if (bytes == SIZE_MAX || !alloc->realloc) return NULL;
    raw = (unsigned char *)alloc->realloc(alloc->user, NULL, 0, bytes);
    if (!raw) return NULL;
    block = raw + RV__LINE - ((uintptr_t)raw & (RV__LINE - 1));
    block[-1] = (unsigned char)(block - raw);
    return block;
}

RV__FN void *rv__get_zero(const rv_alloc *alloc, size_t count, size_t size)
{
    void *block = rv__get(alloc, count, size);
    if (block) memset(block, 0, count * size);
    return block;
}

RV__FN void rv__put(const rv_alloc *alloc, void *ptr, size_t count, size_t size)
{
    unsigned char *block = (unsigned char *)ptr;
    if (block) alloc->realloc(alloc->user, block - block[-1], count * size + 2 * RV__LINE, 0);
}

/* ---- bits of numbers; -ffast-math cannot fold these ---- */

RV__FN int rv__finite_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7F800000u) != 0x7F800000u;
}

/* Index of the first element that is NaN or infinite, n when all are finite. */
RV__FN size_t rv__find_not_finite(const float *x, size_t n)
{
    size_t i = 0;
    while (i < n && rv__finite_f32(x[i])) i++;
    return i;
}

RV__FN rv_status rv__check_finite(rv_ctx *ctx, const char *name, const float *x, size_t n)
{
    const size_t bad = rv__find_not_finite(x, n);
    if (bad == n) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, bad, "%s[%z] is %f; it must be finite", name, bad,
                    (double)x[bad]);
}

RV__FN float rv__infinity(void)
{
    uint32_t bits = 0x7F800000u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

RV__FN float rv__nan(void)
{
    uint32_t bits = 0x7FC00000u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Whether a field was set, that is, is not 0; by bits: under -ffast-math NaN may compare equal to
   0, and what stands behind that comparison takes it for a 0. */
RV__FN int rv__given(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7FFFFFFFu) != 0;
}

/* A field left 0 takes its default. */
RV__FN float rv__default(float x, float value)
{
    return rv__given(x) ? x : value;
}

/* Maps floats to integers of the same order (-0 before +0, NaN with sign clear last), so that
   distance and id fit one 64-bit key that sorts by both. */
RV__FN uint32_t rv__order_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
}

#define RV__ORDER_NAN 0xFFFFFFFFu /* of a NaN distance: behind infinity */

/* The same for distances, with one order for what compares equal: -0 counts as 0, and all NaN as
   the largest. */
RV__FN uint32_t rv__order_distance(float x)
{
    uint32_t order = rv__order_f32(x);
    if (order == 0x7FFFFFFFu) return order + 1u;
    return order > 0xFF800000u || order < 0x007FFFFFu ? RV__ORDER_NAN : order;
}

RV__FN float rv__unorder_f32(uint32_t key)
{
    uint32_t bits = (key & 0x80000000u) ? key & 0x7FFFFFFFu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- random numbers ---- */

/* Finaliser of splitmix64 (Steele, Lea, Flood, 2014): a bijection that scatters counters. */
RV__FN uint64_t rv__mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

/* xoshiro256++ (Blackman, Vigna, 2019). */
typedef struct rv__rng {
    uint64_t s[4];
} rv__rng;

RV__FN void rv__rng_init(rv__rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) rng->s[i] = rv__mix(seed + (uint64_t)i * RV__SEED);
}

RV__FN uint64_t rv__rng_next(rv__rng *rng)
{
    uint64_t *s = rng->s, sum = s[0] + s[3], result = ((sum << 23) | (sum >> 41)) + s[0],
             t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform in 0..n-1, n > 0; the bias is below n / 2^32. */
RV__FN uint32_t rv__rng_below(rv__rng *rng, uint32_t n)
{
    return (uint32_t)(((rv__rng_next(rng) >> 32) * (uint64_t)n) >> 32);
}

/* Uniform in [0, 1). */
RV__FN float rv__rng_f32(rv__rng *rng)
{
    return (float)(rv__rng_next(rng) >> 40) * (1.0f / 16777216.0f);
}

RV__FN uint64_t rv__seed(const rv_ctx *ctx)
{
    return ctx && ctx->seed ? ctx->seed : RV__SEED;
}

/* ---- cancellation and parallel loops ---- */

RV__FN rv_status rv__poll(rv_ctx *ctx)
{
    if (ctx && ctx->poll && ctx->poll(ctx->user)) {
        return rv__fail(ctx, RV_ERR_CANCELED, 0, "canceled by the caller");
    }
    return RV_OK;
}

/* Polls when `work` is more than *left, which starts at 0, so that the first call does: for loops
   on the calling thread. Work: numbers passed over, of about a nanosecond each. */
#define RV__WORK 1000000u
RV__FN rv_status rv__poll_by(rv_ctx *ctx, size_t *left, size_t work)
{
    if (*left > work) {
        *left -= work;
        return RV_OK;
    }
    *left = RV__WORK;
    return rv__poll(ctx);
}

/* Polls where work is undone: the caller sees that time passes, canceling has been done. */
RV__FN void rv__poll_undo(const rv_ctx *ctx)
{
    if (ctx && ctx->poll) (void)ctx->poll(ctx->user);
}

/* Bytes written between two polls: a page that is touched for the first time costs ten times its
   writing. */
#define RV__PIECE ((size_t)1 << 20)

/* memset with polls. */
RV__FN rv_status rv__fill_polled(rv_ctx *ctx, void *dst, int byte, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += RV__PIECE) {
        rv_status status = rv__poll(ctx);
        if (status) return status;
        memset((unsigned char *)dst + at, byte, bytes - at < RV__PIECE ? bytes - at : RV__PIECE);
    }
    return RV_OK;
}

/* memcpy with polls. */
RV__FN rv_status rv__copy_polled(rv_ctx *ctx, void *dst, const void *src, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += RV__PIECE) {
        rv_status status = rv__poll(ctx);
        if (status) return status;
        memcpy((unsigned char *)dst + at, (const unsigned char *)src + at,
               bytes - at < RV__PIECE ? bytes - at : RV__PIECE);
    }
    return RV_OK;
}

/* Resizes by moving, with polls; on NULL *status says why and the old block is untouched. */
RV__FN void *rv__regrow_polled(rv_ctx *ctx, const rv_alloc *alloc, void *ptr, size_t old_count,
                               size_t new_count, size_t size, rv_status *status)
{
    void *block = rv__get(alloc, new_count, size);
    size_t kept = old_count < new_count ? old_count : new_count;
    *status = block ? RV_OK : rv__no_memory(ctx, rv__mul(new_count, size));
    if (block && ptr) *status = rv__copy_polled(ctx, block, ptr, kept * size);
    if (!*status) {
        rv__put(alloc, ptr, old_count, size);
        return block;
    }
    rv__put(alloc, block, new_count, size);
    return NULL;
}

#if defined(__GNUC__)
#define RV__FETCH_ADD(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define RV__LOAD_PTR(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define RV__STORE_PTR(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#elif defined(_MSC_VER) && defined(_WIN64)
#define RV__FETCH_ADD(p, v)                                                                        \
    ((size_t)_InterlockedExchangeAdd64((volatile __int64 *)(p), (__int64)(v)))
#define RV__LOAD_PTR(p) (*(p))
#define RV__STORE_PTR(p, v) (*(p) = (v))
#elif defined(_MSC_VER)
#define RV__FETCH_ADD(p, v) ((size_t)_InterlockedExchangeAdd((volatile long *)(p), (long)(v)))
#define RV__LOAD_PTR(p) (*(p))
#define RV__STORE_PTR(p, v) (*(p) = (v))
#else
#define RV__FETCH_ADD(p, v) ((*(p) += (v)) - (v))
#define RV__LOAD_PTR(p) (*(p))
#define RV__STORE_PTR(p, v) (*(p) = (v))
#endif

/* Bodies that may run at once; scratch memory is prepared for so many lanes. */
RV__FN size_t rv__lanes(const rv_ctx *ctx)
{
    if (!ctx || !ctx->parallel) return 1;
    if (ctx->workers == 0) return 8;
    return ctx->workers > 256 ? 256 : ctx->workers;
}

/* Works on items begin..end-1 with the scratch of a lane. What it writes must not depend on the
   lane, so that any number of threads gives the same bits. */
typedef void (*rv__range_fn)(void *arg, size_t lane, size_t begin, size_t end);

typedef struct rv__loop {
    rv__range_fn fn;
    void *arg;
    size_t next, end, grain;
} rv__loop;

static void rv__loop_lane(void *arg, size_t lane)
{
    rv__loop *loop = (rv__loop *)arg;
    for (;;) {
        size_t begin = RV__FETCH_ADD(&loop->next, loop->grain), end;
        if (begin >= loop->end) return;
        end = loop->end - begin < loop->grain ? loop->end : begin + loop->grain;
        loop->fn(loop->arg, lane, begin, end);
    }
}

/* Runs fn over 0..n-1 in pieces of grain items, and polls on the calling thread every `section`
   items (about 10 ms of work for one thread). n below SIZE_MAX / 2. */
RV__FN rv_status rv__parallel_for(rv_ctx *ctx, size_t n, size_t grain, size_t section,
                                  rv__range_fn fn, void *arg)
{
    size_t lanes = rv__lanes(ctx);
    rv__loop loop;
    if (grain == 0) grain = 1;
    section = rv__mul(section < grain ? grain : section, lanes);
    loop.fn = fn;
    loop.arg = arg;
    loop.grain = grain;
    for (size_t done = 0; done < n; done = loop.end) {
        size_t pieces;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        loop.next = done;
        loop.end = n - done < section ? n : done + section;
        pieces = (loop.end - done + grain - 1) / grain;
        if (lanes == 1 || pieces == 1) {
            rv__loop_lane(&loop, 0);
        } else {
            ctx->parallel(ctx->user, pieces < lanes ? pieces : lanes, rv__loop_lane, &loop);
        }
        /* lanes overshoot `next`; `end` is what has been done */
    }
    return RV_OK;
}

#ifdef RV_THREADS
typedef struct rv__team {
    void (*body)(void *arg, size_t i);
    void *arg;
    size_t next, n;
} rv__team;

static void rv__team_run(rv__team *team)
{
    for (;;) {
        size_t i = RV__FETCH_ADD(&team->next, (size_t)1);
        if (i >= team->n) return;
        team->body(team->arg, i);
    }
}

#define RV__TEAM_MAX 64u

#if defined(_WIN32)
static DWORD WINAPI rv__team_main(LPVOID arg)
{
    rv__team_run((rv__team *)arg);
    return 0;
}

RV_API size_t rv_processors(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors ? (size_t)info.dwNumberOfProcessors : 1u;
}

RV_API void rv_parallel_threads(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    HANDLE threads[RV__TEAM_MAX];
    size_t started = 0, wanted = rv_processors();
    rv__team team;
    (void)user;
    team.body = body;
    team.arg = arg;
    team.next = 0;
    team.n = n;
    if (wanted > n) wanted = n;
    if (wanted > RV__TEAM_MAX) wanted = RV__TEAM_MAX;
    for (size_t i = 1; i < wanted; i++) {
        HANDLE h = CreateThread(NULL, 0, rv__team_main, &team, 0, NULL);
        if (h) threads[started++] = h;
    }
    rv__team_run(&team);
    for (size_t i = 0; i < started; i++) {
        WaitForSingleObject(threads[i], INFINITE);
        CloseHandle(threads[i]);
    }
}
#else
static void *rv__team_main(void *arg)
{
    rv__team_run((rv__team *)arg);
    return NULL;
}

RV_API size_t rv_processors(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1u;
}

RV_API void rv_parallel_threads(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    pthread_t threads[RV__TEAM_MAX];
    size_t started = 0, wanted = rv_processors();
    rv__team team;
    (void)user;
    team.body = body;
    team.arg = arg;
    team.next = 0;
    team.n = n;
    if (wanted > n) wanted = n;
    if (wanted > RV__TEAM_MAX) wanted = RV__TEAM_MAX;
    for (size_t i = 1; i < wanted; i++) {
        if (pthread_create(&threads[started], NULL, rv__team_main, &team) == 0) started++;
    }
    rv__team_run(&team);
    for (size_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
}
#endif
#endif /* RV_THREADS */

#endif /* RV_BASE_C */
