#ifndef RV_BASE_H
#define RV_BASE_H

/* >>base  Status codes, the context, memory, hits. Everything else stands on this part.

   Every function that can fail takes an rv_ctx first and returns an rv_status. The context may be
   NULL: then the C heap is used, nothing cancels, the loop is serial and no message is kept.
   Thread class: pure; one rv_ctx belongs to one thread at a time. */

#include <stddef.h>
#include <stdint.h>

/* Linkage. RV_STATIC makes every function private to the including file. */
#ifndef RV_API
#if defined(RV_STATIC)
#if defined(__GNUC__)
#define RV_API static __attribute__((unused))
#else
#define RV_API static
#endif
#elif defined(__cplusplus)
#define RV_API extern "C"
#else
#define RV_API extern
#endif
#endif

#define RV_VERSION_MAJOR 0
#define RV_VERSION_MINOR 1
#define RV_VERSION_PATCH 0

/* Status codes. The values are pinned: they are stored, logged and mapped by callers. */
typedef enum rv_status {
    RV_OK = 0,               /* done                                                          */
    RV_DONE = 1,             /* an iterator has nothing more to give                          */
    RV_ERR_ARG = -1,         /* an argument is NULL, NaN, infinite or outside its range       */
    RV_ERR_DIM = -2,         /* dimensions do not agree                                       */
    RV_ERR_CONFIG = -3,      /* a config field is outside its range                           */
    RV_ERR_MEMORY = -4,      /* the allocator returned NULL, or a size overflows              */
    RV_ERR_FORMAT = -5,      /* an image is truncated, damaged or of an unknown version       */
    RV_ERR_PARSE = -6,       /* text does not follow its grammar                              */
    RV_ERR_NOT_FOUND = -7,   /* no such key or name                                           */
    RV_ERR_CANCELED = -8,    /* ctx->poll asked to stop; the object is as documented          */
    RV_ERR_UNSUPPORTED = -9, /* a meaningful request that this object or machine cannot serve */
    RV_ERR_EXISTS = -10      /* the key is already present                                    */
} rv_status;

/* Instruction sets. BEST is chosen from the processor at run time. A request for a set that this
   processor or build lacks falls back to the best one below it. */
typedef enum rv_isa {
    RV_ISA_BEST = 0,
    RV_ISA_SCALAR = 1,
    RV_ISA_AVX2 = 2,   /* AVX2 + FMA + F16C                                                   */
    RV_ISA_AVX512 = 3, /* AVX-512 F, BW, DQ, VL; VNNI, BF16, VPOPCNTDQ used where present     */
    RV_ISA_NEON = 4,   /* AArch64 Advanced SIMD; dot product used where present               */
    RV_ISA_WASM = 5    /* WebAssembly SIMD128                                                 */
} rv_isa;

/* An allocator is one function. ptr NULL allocates new_bytes; new_bytes 0 frees ptr; otherwise the
   block is resized and its contents up to the smaller size are kept. May return NULL, which the
   library reports as RV_ERR_MEMORY. The alignment must suit every C type. It is called only from
   the thread that called the library. Of every block 128 bytes serve to align it; the functions
   that tell what an object holds (rv_flat_bytes and so on) leave them out. */
typedef struct rv_alloc {
    void *(*realloc)(void *user, void *ptr, size_t old_bytes, size_t new_bytes);
    void *user;
} rv_alloc;

/* What a call may use and where it reports. Zero it; every field is optional. */
typedef struct rv_ctx {
    rv_alloc alloc;           /* default: the C heap, large blocks on huge pages (Linux)      */
    int (*poll)(void *user);  /* called at least every ~10 ms of work, on the calling thread;
                                 non-zero cancels; default: never                             */
    void (*parallel)(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg);
                              /* must run body(arg, 0) ... body(arg, n - 1), in any order and on any
                                 thread, and return when all are done; default: a loop */
    void *user;               /* passed to poll and to parallel                               */
    uint32_t workers;         /* bodies handed to parallel at once, 1..256; default: 1 without
                                 parallel, 8 with it. Results do not depend on it.            */
    uint64_t seed;            /* for everything random; default: the library's fixed seed     */
    rv_isa isa;               /* default: RV_ISA_BEST                                         */
    rv_status status;         /* out: result of the last call that used this context          */
    size_t where;             /* out: byte or element index of the fault                      */
    char message[160];        /* out: one sentence that names field, value and allowed range  */
} rv_ctx;

/* One search result. Distances: smaller is closer. */
typedef struct rv_hit {
    uint64_t key;
    float distance;
} rv_hit;

/* "0.1.0". */
RV_API const char *rv_version(void);
/* A short constant text for a status code, "unknown status" for any other value. */
RV_API const char *rv_status_text(rv_status status);

#ifdef RV_THREADS
/* A ready-made ctx.parallel: runs the n bodies on up to n threads (POSIX threads or Win32), never
   more than the processors that are online. If a thread cannot be started its share runs on the
   caller. user is not looked at. */
RV_API void rv_parallel_threads(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg);
/* Number of processors online, at least 1. */
RV_API size_t rv_processors(void);
#endif

#endif /* RV_BASE_H */
