/* GENERATED from src/ruvector.h by tools/amalgamate.py: edit src/, then run `make amalgamate`. */
/* Version 0.1.0, parts sha256 5c75d5704625ed0948a5a2e7600d00200c8118e3fa31d2f2bd836d322658bffe */
/* ruvector.h - vector search in one C file. This is the spine: the amalgamated header at the top of
   the repository is this file with its quoted includes expanded.

   Build: in exactly one C or C++ file
       #define RUVECTOR_IMPLEMENTATION
   and #include "ruvector.h" alone everywhere else. Link with -lm (and -lpthread with RV_THREADS).

   Options, defined before the include, the same in every file that includes it:
       RV_STATIC     every function is private to the including file
       RV_API        linkage of public functions; default: extern, extern "C" in C++
       RV_THREADS    adds rv_parallel_threads, a ready-made ctx.parallel
       RV_NO_SIMD    scalar code only
       RV_NO_STDLIB  no C heap: without ctx.alloc every allocation fails
       RV_ASSERT(x)  checks of the library's own invariants; default: off

   Contents: search for the tag, for example ">>hnsw".
       >>base      status codes, the context, memory
       >>simd      what this processor offers
       >>half      f16, bf16 and i8 conversion
       >>mathx     exp, log, softmax, small dense products
       >>topk      the k smallest of n
       >>distance  metrics, one to one and one to many
       >>kmeans    clustering
       >>rotate    random orthogonal rotation
       >>pca       principal components
       >>quant     scalar, product, binary and RaBitQ codes
       >>store     keys, filters
       >>image     the format indexes are saved in
       >>flat      exact search
       >>hnsw      graph search
       >>ivf       inverted file

   Conventions
       Shapes    row-major; [n, dim] means n rows of dim elements; counts are size_t elements.
       Errors    a function that can fail returns rv_status and writes results through trailing
                 pointers; on failure nothing has changed. ctx->message is one sentence.
       Memory    through ctx->alloc only; objects keep a copy of the allocator they were made with.
       Threads   the library starts none and locks nothing; each part names its class:
                 pure; shared-read (const functions at once, writers alone); caller-locked.
       Distance  smaller is closer. Score: larger is better.
       Random    from ctx->seed only; same seed, instruction set and inputs give the same bits.
       Versions  source compatible within a major version; no binary compatibility promised.
*/
#ifndef RUVECTOR_H
#define RUVECTOR_H

/* ground */
/* ==== src/base.h ============================================================================== */
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
   the thread that called the library. */
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
                              /* must run body(arg, 0) ... body(arg, n - 1), in any order and
                                 on any thread, and return when all are done; default: a loop */
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
/* ==== src/simd.h ============================================================================== */
#ifndef RV_SIMD_H
#define RV_SIMD_H

/* >>simd  What this processor offers. Thread class: pure. */

/* Best instruction set of this processor and build, at most `isa` (RV_ISA_BEST: no limit). */
RV_API rv_isa rv_isa_resolve(rv_isa isa);
RV_API const char *rv_isa_name(rv_isa isa); /* "avx512", ... */

/* Sub-features found on this processor, as a bit set. */
typedef enum rv_feature {
    RV_FEATURE_VNNI = 1,      /* AVX-512 8-bit dot products         */
    RV_FEATURE_BF16 = 2,      /* AVX-512 bfloat16 dot products      */
    RV_FEATURE_FP16 = 4,      /* AVX-512 half arithmetic            */
    RV_FEATURE_POPCNT512 = 8, /* AVX-512 VPOPCNTDQ                  */
    RV_FEATURE_AMX_INT8 = 16, /* AMX 8-bit tiles, usable            */
    RV_FEATURE_DOTPROD = 32,  /* AArch64 SDOT                       */
    RV_FEATURE_NEON_FP16 = 64 /* AArch64 half arithmetic            */
} rv_feature;
RV_API uint32_t rv_features(void);

#endif /* RV_SIMD_H */
/* ==== src/half.h ============================================================================== */
#ifndef RV_HALF_H
#define RV_HALF_H

/* >>half  IEEE binary16 and bfloat16, held in uint16_t, and signed bytes.
   Conversions to the narrow types round to nearest, ties to even; values beyond the range become
   infinity (bytes: saturate); NaN stays NaN (quiet; bytes: 0). Thread class: pure. */

RV_API uint16_t rv_f16_from_f32(float x);
RV_API float    rv_f32_from_f16(uint16_t x);
RV_API uint16_t rv_bf16_from_f32(float x);
RV_API float    rv_f32_from_bf16(uint16_t x);

/* src, dst: [n]; they must not overlap. */
RV_API void rv_convert_f32_to_f16(const float *src, uint16_t *dst, size_t n);
RV_API void rv_convert_f16_to_f32(const uint16_t *src, float *dst, size_t n);
RV_API void rv_convert_f32_to_bf16(const float *src, uint16_t *dst, size_t n);
RV_API void rv_convert_bf16_to_f32(const uint16_t *src, float *dst, size_t n);
/* dst[i] = round(src[i] * scale) saturated to -127..127, and src[i] * scale. */
RV_API void rv_convert_f32_to_i8(const float *src, float scale, int8_t *dst, size_t n);
RV_API void rv_convert_i8_to_f32(const int8_t *src, float scale, float *dst, size_t n);

#endif /* RV_HALF_H */

/* arithmetic */
/* ==== src/mathx.h ============================================================================= */
#ifndef RV_MATHX_H
#define RV_MATHX_H

/* >>mathx  Elementary functions over arrays, softmax, and small dense products. The library's own
   exp, log, tanh, sigmoid and erf: the same bits on every machine for RV_ISA_SCALAR. x, out: [n];
   out may equal x. Errors in ulp of the result: exp 2, log 2, tanh 4, sigmoid 4, erf 8. NaN gives
   NaN; exp(+inf) = inf, exp(-inf) = 0, log(0) = -inf, log(negative) = NaN. Thread class: pure. */

RV_API void rv_exp_f32    (const float *x, float *out, size_t n);
RV_API void rv_log_f32    (const float *x, float *out, size_t n);
RV_API void rv_tanh_f32   (const float *x, float *out, size_t n);
RV_API void rv_sigmoid_f32(const float *x, float *out, size_t n);
RV_API void rv_erf_f32    (const float *x, float *out, size_t n);

/* out = softmax(scale * x), shifted by the maximum. A row of -infinity (all masked) gives zeros,
   n = 0 does nothing; a NaN anywhere makes the whole row NaN. */
RV_API void rv_softmax_f32(const float *x, float scale, float *out, size_t n);

/* y[m] = A x, A: [m, n] row-major with row stride lda (0 = n). y must not overlap A or x. */
RV_API void rv_gemv_f32(const float *a, size_t lda, const float *x, size_t m, size_t n, float *y);

/* C[m, n] = A B^T (+ C when accumulate), A: [m, k], B: [n, k], row-major with row strides lda, ldb,
   ldc (0 = packed). Both operands are walked along k, which is the shape of "all distances between
   two sets of rows". Allocates a packing buffer from ctx. */
RV_API rv_status rv_gemm_nt_f32(rv_ctx *ctx, const float *a, size_t lda, const float *b, size_t ldb,
                                size_t m, size_t n, size_t k, int accumulate, float *c, size_t ldc);

#endif /* RV_MATHX_H */
/* ==== src/topk.h ============================================================================== */
#ifndef RV_TOPK_H
#define RV_TOPK_H

/* >>topk  The k smallest of n values. Thread class: pure. */

/* Writes the indexes of the k smallest of values[n] to index[min(k, n)], smallest first, ties by
   the smaller index, and their values to out (may be NULL). NaN counts as larger than infinity.
   Returns min(k, n). No allocation; O(n + k log k) typically: most values fail one compare with the
   current k-th, many at a time. */
RV_API size_t rv_topk_f32(const float *values, size_t n, size_t k, uint32_t *index, float *out);

#endif /* RV_TOPK_H */
/* ==== src/distance.h ========================================================================== */
#ifndef RV_DISTANCE_H
#define RV_DISTANCE_H

/* >>distance  Distances: smaller is closer. a, b: [n]. Pure functions of any n including 0 and any
   alignment; they never fail. Floats are accumulated in float lanes, relative error about
   sqrt(n) / 2^24 of the sum of magnitudes; integer results are exact (n below 2^16 for i8 and u8:
   beyond that the 32-bit sum may wrap). NaN and infinity propagate as in plain arithmetic, on every
   instruction set alike. Thread class: pure. */

typedef enum rv_dtype {
    RV_DTYPE_F32 = 0,
    RV_DTYPE_F16 = 1,  /* uint16_t, IEEE binary16                                            */
    RV_DTYPE_BF16 = 2, /* uint16_t, bfloat16                                                 */
    RV_DTYPE_I8 = 3,   /* a float scale s, then int8_t c[dim]: the value is s * c            */
    RV_DTYPE_U1 = 4    /* bits, eight to a byte, bit i is byte i / 8 >> i % 8; spare bits 0  */
} rv_dtype;

typedef enum rv_metric {
    RV_METRIC_L2 = 0,      /* squared Euclidean distance                                     */
    RV_METRIC_IP = 1,      /* minus the dot product, so that it sorts like the others        */
    RV_METRIC_COSINE = 2,  /* 1 - cos, in [0,2]; two zero vectors: 0, exactly one zero: 1    */
    RV_METRIC_L1 = 3,      /* sum of absolute differences                                    */
    RV_METRIC_LINF = 4,    /* largest absolute difference                                    */
    RV_METRIC_HAMMING = 5, /* differing bits; U1 only                                        */
    RV_METRIC_JACCARD = 6, /* 1 - intersection / union of bits, two empty sets: 0; U1 only   */
    RV_METRIC_CUSTOM = 7   /* the caller's function; indexes only                            */
} rv_metric;

RV_API float   rv_dot_f32   (const float *a, const float *b, size_t n);
RV_API float   rv_l2sq_f32  (const float *a, const float *b, size_t n); /* no square root      */
RV_API float   rv_cosine_f32(const float *a, const float *b, size_t n);
RV_API float   rv_l1_f32    (const float *a, const float *b, size_t n);
RV_API float   rv_linf_f32  (const float *a, const float *b, size_t n);
RV_API float   rv_norm_f32  (const float *a, size_t n);                 /* Euclidean length    */

RV_API float   rv_dot_f16   (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_l2sq_f16  (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_cosine_f16(const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_l1_f16    (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_dot_bf16  (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_l2sq_bf16 (const uint16_t *a, const uint16_t *b, size_t n);
RV_API float   rv_cosine_bf16(const uint16_t *a, const uint16_t *b, size_t n);

RV_API int32_t rv_dot_i8    (const int8_t *a, const int8_t *b, size_t n);
RV_API int32_t rv_l2sq_i8   (const int8_t *a, const int8_t *b, size_t n);
RV_API float   rv_cosine_i8 (const int8_t *a, const int8_t *b, size_t n);
RV_API int32_t rv_l1_i8     (const int8_t *a, const int8_t *b, size_t n);
RV_API uint32_t rv_dot_u8   (const uint8_t *a, const uint8_t *b, size_t n);
RV_API uint32_t rv_l2sq_u8  (const uint8_t *a, const uint8_t *b, size_t n);

/* a, b: bits, (n_bits + 7) / 8 bytes; bits past n_bits are not looked at. */
RV_API uint32_t rv_hamming_u1(const uint8_t *a, const uint8_t *b, size_t n_bits);
RV_API float    rv_jaccard_u1(const uint8_t *a, const uint8_t *b, size_t n_bits);

/* In place on y: [n]. */
RV_API void rv_axpy_f32 (float alpha, const float *x, float *y, size_t n); /* y += alpha * x   */
RV_API void rv_scale_f32(float alpha, float *y, size_t n);                 /* y *= alpha       */
RV_API void rv_add_f32  (const float *x, float *y, size_t n);              /* y += x           */

/* Bytes of one row of dim elements of a type (I8: with its scale). */
RV_API size_t rv_dtype_bytes(rv_dtype dtype, size_t dim);
RV_API const char *rv_dtype_name(rv_dtype dtype);
RV_API const char *rv_metric_name(rv_metric metric); /* "l2", "ip", "cosine", ...              */

/* One query against many rows. query: float[dim] for F32, F16, BF16 and I8 rows, bits for U1.
   Row i starts at (const char *)rows + i * stride bytes; stride 0 = rv_dtype_bytes. ids NULL: rows
   0..n_rows-1; otherwise the rows ids[0..n_rows-1], prefetched ahead, which is what a graph search
   wants. out: [n_rows]. A pair of metric and type that has no meaning (Hamming of floats, custom)
   sets every out to NaN; rv_metric_has tells. */
RV_API int  rv_metric_has(rv_metric metric, rv_dtype dtype);
RV_API void rv_metric_many(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                           size_t stride, size_t n_rows, size_t dim, float *out);
RV_API void rv_metric_gather(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                             size_t stride, const uint32_t *ids, size_t n_rows, size_t dim,
                             float *out);

/* The pair kernel of one instruction set, for inner loops of the caller; NULL where there is none. */
typedef float (*rv_distance_f32)(const float *a, const float *b, size_t n);
RV_API rv_distance_f32 rv_metric_find_f32(rv_metric metric, rv_isa isa);

#endif /* RV_DISTANCE_H */

/* building blocks */
/* ==== src/kmeans.h ============================================================================ */
#ifndef RV_KMEANS_H
#define RV_KMEANS_H

/* >>kmeans  Clustering of rows under squared Euclidean distance, or under the angle (spherical).
   Costs 2 rows k dim operations per iteration through the tile kernels; the same bits for any number
   of threads. Thread class: pure.

       rv_kmeans_config config = {0};
       config.k = 256;
       rv_kmeans_train(ctx, &config, rows, 0, n, dim, centroids, NULL, NULL);
       rv_kmeans_assign(ctx, centroids, 256, dim, rows, 0, n, label, NULL);                     */

typedef struct rv_kmeans_config {
    uint32_t k;          /* clusters, required, 1..n and at most 2^24                         */
    uint32_t iterations; /* at most so many, 1..10000; default 12; ends early when settled     */
    uint32_t sample;     /* rows per cluster to train on, 1..2^20; default 64: of more than
                            k * sample rows an evenly spread random sample is used; of fewer
                            than 2048 rows all are                                             */
    int spherical;       /* non-zero: centroids are scaled to length 1 after each iteration; give
                            it unit rows                                                       */
} rv_kmeans_config;

/* rows: [n, dim] with a stride in floats (0 = dim), dim 1..65535. centroids: [k, dim]. assign: [n]
   nearest centroid of every row (ties: the lower), or NULL. inertia: the sum of the rows' squared
   distances to them, summed over all n rows, or NULL. Starts from k-means++ where k <= 256, else from
   k random rows; a cluster that loses all its rows moves to one of the rows farthest from their
   centroids. Of duplicate rows several centroids may stay equal. NaN or infinity in a row that is
   used: RV_ERR_ARG with the element's index in ctx->where. On failure the outputs hold nothing
   useful. */
RV_API rv_status rv_kmeans_train(rv_ctx *ctx, const rv_kmeans_config *config, const float *rows,
                                 size_t stride, size_t n, size_t dim, float *centroids,
                                 uint32_t *assign, double *inertia);
/* The nearest of k centroids for each row, and the squared distance to it (dist may be NULL). Rows
   that are not finite get some centroid. */
RV_API rv_status rv_kmeans_assign(rv_ctx *ctx, const float *centroids, size_t k, size_t dim,
                                  const float *rows, size_t stride, size_t n, uint32_t *assign,
                                  float *dist);

#endif /* RV_KMEANS_H */
/* ==== src/rotate.h ============================================================================ */
#ifndef RV_ROTATE_H
#define RV_ROTATE_H

/* >>rotate  A random rotation: an orthogonal map that spreads every vector evenly over all
   coordinates, so that one step width, or one bit, per coordinate serves them all. Lengths, dot
   products and distances stay as they are, up to rounding of about 1e-6. It costs about
   4 dim log2(dim) additions and holds 16 bytes per dimension, all of which follow from a seed.
   Vectors are padded with zeros to a multiple of 64. Thread class: shared-read.   */

typedef struct rv_rotation rv_rotation;

/* dim: 1..65535. The map follows from dim and ctx->seed and is the same on every machine. */
RV_API rv_status rv_rotation_create (rv_ctx *ctx, size_t dim, rv_rotation **out);
RV_API void      rv_rotation_destroy(rv_rotation *rotation); /* NULL is fine */
RV_API size_t    rv_rotation_dim    (const rv_rotation *rotation); /* outputs: dim rounded up to 64 */
RV_API uint64_t  rv_rotation_seed   (const rv_rotation *rotation); /* what ctx->seed makes it again */
RV_API size_t    rv_rotation_bytes  (const rv_rotation *rotation); /* all memory held */
/* x: [dim], y: [rotation dim]. They may be the same buffer if it has room for y. */
RV_API void      rv_rotation_apply  (const rv_rotation *rotation, const float *x, float *y);
/* The inverse. y: [rotation dim] is used up; x: [dim], may be y. */
RV_API void      rv_rotation_invert (const rv_rotation *rotation, float *y, float *x);

#endif /* RV_ROTATE_H */
/* ==== src/pca.h =============================================================================== */
#ifndef RV_PCA_H
#define RV_PCA_H

/* >>pca  Principal components: the directions in which a set of rows varies most. An index keeps
   the first few hundred coordinates of such a basis instead of all of them when most of the
   variance lies there (total_variance tells). Training costs about 2 s dim (dim + iterations n_out)
   operations for a sample of s rows and holds dim * (dim + 5 n_out + 2048) floats for a while.
   Thread class: pure.

       rv_pca_train(ctx, rows, 0, n, 768, 192, mean, basis, eigenvalues, &total);
       rv_pca_apply(ctx, mean, basis, 768, 192, rows, 0, n, out);                              */

/* rows: [n, dim] with a stride in floats (0 = dim), n >= 1. mean: [dim]; basis: [n_out, dim], rows
   orthonormal to about 1e-5, by falling eigenvalue, the largest component of each positive;
   eigenvalues: [n_out], variances along the basis, never negative; total_variance: their sum over
   all dim directions. eigenvalues and total_variance may be NULL. 1 <= n_out <= dim <= 65535. Sets
   larger than max(8192, 4 dim) rows, at most 16384, are sampled with ctx->seed. Directions without
   variance are filled up with any orthonormal ones. Rows with NaN or infinity: RV_ERR_ARG and the
   element's index in ctx->where. On failure the outputs hold nothing useful. */
RV_API rv_status rv_pca_train(rv_ctx *ctx, const float *rows, size_t stride, size_t n, size_t dim,
                              size_t n_out, float *mean, float *basis, float *eigenvalues,
                              double *total_variance);
/* out[n, n_out] = (rows - mean) basis^T, packed. mean may be NULL (zero). out must not overlap. */
RV_API rv_status rv_pca_apply(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                              size_t n_out, const float *rows, size_t stride, size_t n, float *out);
/* rows[n, dim] = x basis + mean, x: [n, n_out] packed: the way back, without what was left out. */
RV_API rv_status rv_pca_restore(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                                size_t n_out, const float *x, size_t n, float *rows);

#endif /* RV_PCA_H */
/* ==== src/image.h ============================================================================= */
#ifndef RV_IMAGE_H
#define RV_IMAGE_H

/* >>image  The memory image every index is saved to. Little-endian on every machine.

   header, 64 bytes:
     0 "RVIM" | 4 u32 format version, 1 | 8 u32 kind ("FLAT", "HNSW", ...) | 12 u32 flags, 0 |
     16 u64 total bytes | 24 u32 sections, at most 48 | 28 u32 0 | 32 u64 checksum of everything
     behind the header | 40 u64 checksum of the header, this field as 0 | 48 16 zero bytes
   sections: arrays of 1, 2, 4 or 8 byte elements; each starts at the first multiple of 64 behind
     the one before it (the first one at 64), gaps are zero
   section table: the last 32 * sections bytes of the image, on a multiple of 64; per section, in
     order: u32 tag | u32 bytes of an element | u64 offset | u64 element count | u64 0
   checksum of 64-bit little-endian words w[0..m-1], m a multiple of 4, arithmetic modulo 2^64:
     mix(x): x += 0x9E3779B97F4A7C15; x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
             x = (x ^ x >> 27) * 0x94D049BB133111EB; return x ^ x >> 31
     a[j] = mix(j) for j = 0..3; for each i: a[i % 4] = rotl((a[i % 4] ^ w[i]) * P, 29) with
     P = 0x9E3779B97F4A7C15; h = mix(m); for j = 0..3: h = mix(h ^ a[j]); the checksum is h

   What the sections of a kind mean stands in that index's part, those of the rows in store.c.

   Every count is validated against the total length before anything is allocated. The checksum
   guards against damage, not against an attacker; the loaders therefore also validate every value
   (ids in range, degrees, sorted lists), so that a crafted image is an error as well. */

/* Kind tag of an image such as "HNSW" into kind[5] and its total length; RV_ERR_FORMAT when the
   header is not a valid one. Looks at the first 64 bytes only, so that a program may read these
   from a file to learn how much to read. image may lie at any address. */
RV_API rv_status rv_image_info(rv_ctx *ctx, const void *image, size_t bytes, char kind[5],
                               uint64_t *total_bytes);

#endif /* RV_IMAGE_H */
/* ==== src/quant.h ============================================================================= */
#ifndef RV_QUANT_H
#define RV_QUANT_H

/* >>quant  Codes that stand for vectors in fewer bytes, and distances estimated from them.

   kind       bytes for dim d (+ factors)      use it when
   SQ8        d                                the default: a quarter of the floats, nearly exact;
                                               a step width per dimension, so it must be trained
   SQ8_ROW    d                                the same with one scale per row; no training
   SQ4        d/2, in steps of 64              half of SQ8, coarse
   F16, BF16  2 d                              almost nothing may be lost; no training
   BINARY     d/8, in steps of 8               hash-like: one bit per dimension around the mean
   PQ         m bits/8                         smallest codes at a given error on correlated data;
                                               with bits = 4 blocks of 32 rows are scanned fastest
   RABITQ     d bits/8 (d in steps of 64)      one to eight bits after a random rotation: unbiased
                                               estimates and a bound that needs no assumption on data

   Estimates are of the metric given in the config: L2, IP or COSINE (rows and queries are then
   scaled to length 1; a zero vector stays zero and is at distance 1 from everything). Every estimate
   comes with a bound on |estimate - true distance|. For RABITQ it holds with a probability: the
   error passes it for about 6 in 100 pairs at epsilon 1.9, for 3 in 1000 at epsilon 3. For all
   other kinds it always holds, up to rounding, for any row, because a code carries the distance
   between its row and what it decodes to (two bytes at its end).

   Costs: encode is O(d) for scalar kinds, O(d log d) for RABITQ, O(d 2^bits) for PQ. A distance is
   one pass over the code. Thread class: shared-read (train and load make a new state, the rest is
   const).

       rv_quant_config config = {0};
       config.dim = 128;
       rv_quant_create(ctx, &config, &quant);
       rv_quant_train(ctx, quant, rows, 0, n);
       rv_quant_encode(ctx, quant, rows, 0, n, codes);             n * rv_quant_code_bytes
       rv_quant_prepare(ctx, quant, query, prepared);              rv_quant_query_bytes
       rv_quant_distance(quant, prepared, codes, n, out, NULL);                                  */

typedef enum rv_quant_kind {
    RV_QUANT_SQ8 = 0,
    RV_QUANT_SQ8_ROW = 1,
    RV_QUANT_SQ4 = 2,
    RV_QUANT_F16 = 3,
    RV_QUANT_BF16 = 4,
    RV_QUANT_BINARY = 5,
    RV_QUANT_PQ = 6,
    RV_QUANT_RABITQ = 7
} rv_quant_kind;

/* One row per kind. */
typedef struct rv_quant_info {
    const char *name;   /* "sq8", ...                                  */
    const char *bits;   /* bits per dimension                          */
    int trained;        /* whether it must be trained                  */
    const char *source; /* paper                                       */
} rv_quant_info;
RV_API const rv_quant_info *rv_quant_kind_at(size_t i); /* NULL past the end */

typedef struct rv_quant rv_quant;
typedef struct rv_quant_config {
    rv_quant_kind kind;  /* default RV_QUANT_SQ8                                              */
    uint32_t dim;        /* required, 1..65535                                                */
    rv_metric metric;    /* L2 (default), IP, COSINE                                          */
    uint32_t bits;       /* PQ: 4 (default) or 8; RABITQ: 1 (default) to 8; else leave it 0   */
    uint32_t m;          /* PQ: sub-quantizers, 1..dim; default: one per 4 dimensions         */
    uint32_t iterations; /* PQ: of k-means, 1..10000; default 16                              */
    float epsilon;       /* RABITQ: width of the bound, above 0 to 100; default 1.9           */
} rv_quant_config;

/* ctx->seed decides k-means and the rotation. */
RV_API rv_status rv_quant_create (rv_ctx *ctx, const rv_quant_config *config, rv_quant **out);
RV_API void      rv_quant_destroy(rv_quant *quant); /* NULL is fine */
/* rows: [n, dim], stride in floats (0 = dim), n >= 1 (PQ: at least 2^bits); evenly spread samples of
   large sets are used. Codes made before are not valid after. NaN, infinity: RV_ERR_ARG. On failure
   the state is as before. Polls. */
RV_API rv_status rv_quant_train  (rv_ctx *ctx, rv_quant *quant, const float *rows, size_t stride,
                                  size_t n);
RV_API int       rv_quant_trained(const rv_quant *quant);
RV_API size_t    rv_quant_code_bytes(const rv_quant *quant); /* of one row */
RV_API size_t    rv_quant_bytes  (const rv_quant *quant);    /* all memory held */
RV_API void      rv_quant_config_of(const rv_quant *quant, rv_quant_config *config); /* resolved */
/* codes: [n, code bytes], any alignment. Not trained: RV_ERR_UNSUPPORTED; NaN, infinity and (F16)
   values that become infinite: RV_ERR_ARG with the element's index. Parallel, polls. */
RV_API rv_status rv_quant_encode (rv_ctx *ctx, const rv_quant *quant, const float *rows,
                                  size_t stride, size_t n, void *codes);
/* rows: [n, dim] packed; under COSINE of length about 1. */
RV_API rv_status rv_quant_decode (rv_ctx *ctx, const rv_quant *quant, const void *codes, size_t n,
                                  float *rows);

/* A query in the form the estimates want. prepared: rv_quant_query_bytes, at one address for its
   life (it aligns itself); query: [dim]. */
RV_API size_t    rv_quant_query_bytes(const rv_quant *quant);
RV_API rv_status rv_quant_prepare(rv_ctx *ctx, const rv_quant *quant, const float *query,
                                  void *prepared);
/* Estimates for n packed codes, and their bounds (may be NULL). */
RV_API void rv_quant_distance(const rv_quant *quant, const void *prepared, const void *codes,
                              size_t n, float *out, float *bounds);
/* The same for the codes ids[0..n-1] of an array of codes. */
RV_API void rv_quant_gather  (const rv_quant *quant, const void *prepared, const void *codes,
                              const uint32_t *ids, size_t n, float *out, float *bounds);
/* Distance between what two codes decode to (RABITQ: before the padding to 64 is taken off again,
   which adds a little noise where dim is not a multiple of 64). */
RV_API float rv_quant_pair   (const rv_quant *quant, const void *a, const void *b);

/* Blocks of 32 rows for PQ with bits = 4 and RABITQ with bits = 1: table look-ups in registers.
   Sums are rounded to 16 bits, which the bounds include. block bytes: 0 for the other kinds. */
RV_API size_t rv_quant_block_bytes(const rv_quant *quant);
/* blocks: [(n + 31) / 32, block bytes], 64-byte aligned is fastest; rows past n are zero codes. */
RV_API void   rv_quant_pack(const rv_quant *quant, const void *codes, size_t n, void *blocks);
/* out, bounds (may be NULL): [n]. */
RV_API void   rv_quant_scan(const rv_quant *quant, const void *prepared, const void *blocks,
                            size_t n, float *out, float *bounds);

/* Numbers of more than a byte within codes (and blocks) have the byte order of the machine. This
   turns n codes in place between that order and little-endian, the order to store them in; nothing
   happens on little-endian machines. Pack blocks after. */
RV_API void   rv_quant_portable(const rv_quant *quant, void *codes, size_t n);

/* One image of the trained quantizer, see >>image. The image of one that is not trained keeps its
   config. */
RV_API rv_status rv_quant_save(rv_ctx *ctx, const rv_quant *quant, void *image, size_t cap,
                               size_t *bytes);
RV_API rv_status rv_quant_load(rv_ctx *ctx, const void *image, size_t bytes, rv_quant **out);

#endif /* RV_QUANT_H */
/* ==== src/store.h ============================================================================= */
#ifndef RV_STORE_H
#define RV_STORE_H

/* >>store  What every index keeps besides its own structure: vectors in a chosen type, u64 keys,
   and the map from key to row. Public parts only; the store itself is private to the indexes. */

/* Distance between two vectors in the caller's form, smaller is closer, finite for finite input and
   symmetric: float[dim], or bits for U1. It must be pure and may run on several threads. */
typedef float (*rv_custom_fn)(void *user, const void *a, const void *b, size_t dim);

/* A filter decides by key whether a row may be returned. Both members may be given: a row passes
   when both let it through. All zero (or NULL for the whole filter) lets everything through. */
typedef struct rv_filter {
    int (*accept)(void *user, uint64_t key); /* non-zero lets the key through; must be pure       */
    void *user;
    const uint8_t *bits;   /* bit key % 8 of byte key / 8; keys >= n_bits are refused             */
    uint64_t n_bits;
    double selectivity;    /* share of rows that pass, 0..1, if known; 0: the index estimates it  */
} rv_filter;

#endif /* RV_STORE_H */

/* features */
/* ==== src/flat.h ============================================================================== */
#ifndef RV_FLAT_H
#define RV_FLAT_H

/* >>flat  Exact search by a scan over all rows. The right choice below some ten thousand rows, and
   the yardstick for the other indexes. Search costs O(n dim) and runs at memory bandwidth. Thread
   class: shared-read (const functions at once from any thread, writers alone).

       rv_flat_config config = {0};
       rv_flat *index;
       config.dim = 3;
       rv_flat_create(NULL, &config, &index);
       rv_flat_add(NULL, index, 7, vector);
       rv_flat_search(NULL, index, query, 1, NULL, &hit, &n_hits);
       rv_flat_destroy(index);

   Vectors and queries are float[dim], or (dim + 7) / 8 bytes of bits when type is U1. NaN and
   infinity are refused with RV_ERR_ARG and the element index in ctx->where; so are values that F16
   or BF16 rows would turn into infinity, and under cosine vectors longer than FLT_MAX. A distance
   that overflows to NaN counts as larger than infinity. Scratch memory of a search comes from ctx.
   Cancelled or out of memory: hits and n_hits are undefined, the index is as before. */

typedef struct rv_flat rv_flat;
typedef struct rv_flat_config {
    uint32_t dim;         /* required, 1..65535                                               */
    rv_metric metric;     /* default RV_METRIC_L2                                             */
    rv_dtype type;        /* how rows are stored; default F32; U1 goes with Hamming, Jaccard  */
    rv_custom_fn custom;  /* with RV_METRIC_CUSTOM only                                       */
    void *custom_user;
    size_t capacity;      /* rows to reserve, below 2^32 - 1; default: grow on demand         */
} rv_flat_config;

RV_API rv_status rv_flat_create (rv_ctx *ctx, const rv_flat_config *config, rv_flat **out);
RV_API void      rv_flat_destroy(rv_flat *index); /* NULL is fine */
/* Adds one row; RV_ERR_EXISTS when the key is present. */
RV_API rv_status rv_flat_add    (rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector);
/* Adds n rows, all or none. keys NULL: 0..n-1. vectors packed. Parallel through ctx. */
RV_API rv_status rv_flat_build  (rv_ctx *ctx, rv_flat *index, const uint64_t *keys,
                                 const void *vectors, size_t n);
RV_API rv_status rv_flat_upsert (rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector);
RV_API rv_status rv_flat_update (rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector);
RV_API rv_status rv_flat_remove (rv_ctx *ctx, rv_flat *index, uint64_t key);
RV_API int       rv_flat_contains(const rv_flat *index, uint64_t key);
/* Decodes the stored row; out: float[dim] or bits. */
RV_API rv_status rv_flat_get    (rv_ctx *ctx, const rv_flat *index, uint64_t key, void *out);
RV_API size_t    rv_flat_count  (const rv_flat *index);
RV_API size_t    rv_flat_bytes  (const rv_flat *index); /* all memory held */
RV_API rv_status rv_flat_reserve(rv_ctx *ctx, rv_flat *index, size_t capacity);
/* Gives back the rows of removed keys. */
RV_API rv_status rv_flat_compact(rv_ctx *ctx, rv_flat *index);
/* The min(k, count) nearest rows, nearest first, ties by smaller key. filter may be NULL.
   hits: [k]. Parallel through ctx. k = 0 gives *n_hits = 0. */
RV_API rv_status rv_flat_search (rv_ctx *ctx, const rv_flat *index, const void *query, size_t k,
                                 const rv_filter *filter, rv_hit *hits, size_t *n_hits);
/* All rows with distance <= radius, nearest first; at most cap of them are written, *n_hits is the
   number found, also when that is more than cap. */
RV_API rv_status rv_flat_range  (rv_ctx *ctx, const rv_flat *index, const void *query, float radius,
                                 const rv_filter *filter, rv_hit *hits, size_t cap, size_t *n_hits);
/* n_queries packed queries; hits: [n_queries, k], n_hits: [n_queries]. Parallel over queries. */
RV_API rv_status rv_flat_search_batch(rv_ctx *ctx, const rv_flat *index, const void *queries,
                                      size_t n_queries, size_t k, const rv_filter *filter,
                                      rv_hit *hits, size_t *n_hits);
/* One versioned little-endian image, checksummed. save with image NULL only asks for *bytes; with
   cap too small: RV_ERR_ARG and *bytes is what is needed. A custom metric is not in the image: give
   it again to load (else it is not looked at). view searches the caller's read-only image (64-byte
   aligned, little-endian machine) in place without copying, the map from keys to rows excepted; the
   image must outlive the index, which refuses every change with RV_ERR_UNSUPPORTED. */
RV_API rv_status rv_flat_save   (rv_ctx *ctx, const rv_flat *index, void *image, size_t cap,
                                 size_t *bytes);
RV_API rv_status rv_flat_load   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                 void *custom_user, rv_flat **out);
RV_API rv_status rv_flat_view   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                 void *custom_user, rv_flat **out);

#endif /* RV_FLAT_H */
/* ==== src/hnsw.h ============================================================================== */
#ifndef RV_HNSW_H
#define RV_HNSW_H

/* >>hnsw  Hierarchical navigable small world graph: approximate nearest neighbours, memory resident.
   The choice for more than some ten thousand rows; below that rv_flat is as fast and exact.
   Thread class: shared-read (const functions at once from any thread, writers alone).

       rv_hnsw_config config = {0};
       rv_hnsw *index;
       rv_hit hits[10];
       size_t n_hits;
       config.dim = 768;
       rv_hnsw_create(NULL, &config, &index);
       rv_hnsw_build(NULL, index, NULL, vectors, 200000);
       rv_hnsw_search(NULL, index, query, 10, 0, hits, &n_hits);
       rv_hnsw_destroy(index);

   Vectors and queries are float[dim], or (dim + 7) / 8 bytes of bits when type is U1. NaN and
   infinity are refused with RV_ERR_ARG and the element index in ctx->where.

   The walk through the graph reads small codes instead of vectors, and the best of what it finds are
   ranked again by the vectors themselves. Codes are learned from the data: by rv_hnsw_build from its
   rows, otherwise when the index has grown to RV_HNSW_TRAIN rows (until then the walk reads vectors).

   Cost, m = 16: search about 20 * ef distances; memory per row: the vector, 128 bytes of links, the
   code (64..256 bytes, or one to eight bits per dimension), 16 bytes of keys unless they are 0..n-1.
   Sources: Malkov, Yashunin, 2016 (graph, search, insertion); Dobson et al., 2025, and Manohar et
   al., 2024 (batch construction); Aguerrebere et al., 2023, and Tepper et al., 2024 (locally
   scaled and projected codes); Gao, Long, 2024 (one-bit codes). */

#define RV_HNSW_TRAIN 4096u /* rows at which an incrementally grown index learns its codes */

typedef struct rv_hnsw rv_hnsw;

typedef enum rv_hnsw_codes {
    RV_HNSW_CODES_AUTO = 0,   /* PCA for L2, IP and cosine, none for the other metrics            */
    RV_HNSW_CODES_NONE = 1,   /* the walk reads the vectors                                       */
    RV_HNSW_CODES_PCA = 2,    /* bytes of the leading principal components, as many as needed     */
    RV_HNSW_CODES_SQ8 = 3,    /* a byte per dimension                                             */
    RV_HNSW_CODES_SQ4 = 4,    /* four bits per dimension, after a random rotation                 */
    RV_HNSW_CODES_RABITQ = 5  /* one bit per dimension, after a random rotation                   */
} rv_hnsw_codes;

typedef struct rv_hnsw_config {
    uint32_t dim;             /* required, 1..65535                                               */
    rv_metric metric;         /* default RV_METRIC_L2                                             */
    rv_dtype type;            /* how vectors are kept; default F32; U1 with Hamming, Jaccard      */
    rv_custom_fn custom;      /* with RV_METRIC_CUSTOM only                                       */
    void *custom_user;
    uint32_t m;               /* links per node above layer 0 (twice that on layer 0), 2..100;
                                 default 16                                                       */
    uint32_t ef_construction; /* beam of rv_hnsw_add and effort of rv_hnsw_build, m..4096;
                                 default 128                                                      */
    rv_hnsw_codes codes;      /* default AUTO; codes need a float or I8 type and L2, IP or cosine */
    uint32_t code_bytes;      /* PCA: bytes of a code record, a multiple of 64, 64..4096;
                                 default: chosen by measuring recall on a sample                  */
    int drop_vectors;         /* non-zero: once codes are learned the vectors are given up;
                                 distances and rv_hnsw_get then come from the codes               */
    size_t capacity;          /* rows to reserve, below 2^31; default: grow on demand             */
} rv_hnsw_config;

/* What a search did, for tuning. */
typedef struct rv_hnsw_trace {
    uint64_t hops;            /* nodes expanded                                                   */
    uint64_t distances;       /* distances estimated in the walk                                  */
    uint64_t reranked;        /* exact distances                                                  */
    int scanned;              /* non-zero: a filter let so few rows pass that they were scanned   */
} rv_hnsw_trace;

/* Zero is the default for every field. */
typedef struct rv_hnsw_options {
    uint32_t ef;              /* beam, 1..2^20; default max(k, 40); raised to k when below        */
    uint32_t rerank;          /* candidates ranked by their vectors; default: what the codes need
                                 for k, at least k                                                */
    const rv_filter *filter;  /* default: none                                                    */
    rv_hnsw_trace *trace;     /* out; default: not wanted                                         */
} rv_hnsw_options;

typedef struct rv_hnsw_stats {
    size_t count;             /* rows that can be found                                           */
    size_t removed;           /* removed rows whose nodes still carry the walk                    */
    uint32_t n_levels;
    size_t level_count[16];   /* nodes on each level                                              */
    size_t degree_count[257]; /* nodes of layer 0 by number of links                              */
    size_t vector_bytes, code_bytes, link_bytes, key_bytes, total_bytes;
    uint32_t code_record;     /* bytes of one code record, 0 without codes                        */
    uint32_t code_dim;        /* components or dimensions in a record                             */
    uint32_t code_bits;
} rv_hnsw_stats;

RV_API rv_status rv_hnsw_create (rv_ctx *ctx, const rv_hnsw_config *config, rv_hnsw **out);
RV_API void      rv_hnsw_destroy(rv_hnsw *index); /* NULL is fine */

/* Adds n packed rows at once, all or none; keys NULL: 0..n-1 (then the index must be empty). Into an
   empty index the graph is made as a batch, parallel through ctx; the bits of the result depend on
   the rows, the config, the seed and the instruction set, not on the number of workers. Rows for a
   filled index are inserted one by one. Cancelled or out of memory: the index is as before. */
RV_API rv_status rv_hnsw_build  (rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys,
                                 const void *vectors, size_t n);
RV_API rv_status rv_hnsw_add    (rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector);
RV_API rv_status rv_hnsw_update (rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector);
RV_API rv_status rv_hnsw_upsert (rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector);
/* The node keeps carrying the walk until enough are removed; then the graph is repaired in one go
   (parallel through ctx) and the room is used again. */
RV_API rv_status rv_hnsw_remove (rv_ctx *ctx, rv_hnsw *index, uint64_t key);
RV_API int       rv_hnsw_contains(const rv_hnsw *index, uint64_t key);
RV_API rv_status rv_hnsw_get    (rv_ctx *ctx, const rv_hnsw *index, uint64_t key, void *out);
RV_API size_t    rv_hnsw_count  (const rv_hnsw *index);
RV_API size_t    rv_hnsw_bytes  (const rv_hnsw *index); /* all memory held */
RV_API rv_status rv_hnsw_reserve(rv_ctx *ctx, rv_hnsw *index, size_t capacity);
/* Repairs the graph around removed nodes, closes the gaps and gives unused memory back. */
RV_API rv_status rv_hnsw_compact(rv_ctx *ctx, rv_hnsw *index);

/* hits: [k], nearest first, ties by key; *n_hits <= k. ef 0 = max(k, 40). */
RV_API rv_status rv_hnsw_search (rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                 size_t ef, rv_hit *hits, size_t *n_hits);
/* options may be NULL. */
RV_API rv_status rv_hnsw_search_with(rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                     const rv_hnsw_options *options, rv_hit *hits, size_t *n_hits);
/* n_queries packed queries; hits: [n_queries, k], n_hits: [n_queries]. Parallel over queries. */
RV_API rv_status rv_hnsw_search_batch(rv_ctx *ctx, const rv_hnsw *index, const void *queries,
                                      size_t n_queries, size_t k, const rv_hnsw_options *options,
                                      rv_hit *hits, size_t *n_hits);
/* Rows with distance <= radius found by a walk that goes on while it meets such rows; nearest first.
   At most cap are written, *n_hits is the number found, also when more than cap. */
RV_API rv_status rv_hnsw_range  (rv_ctx *ctx, const rv_hnsw *index, const void *query, float radius,
                                 const rv_hnsw_options *options, rv_hit *hits, size_t cap,
                                 size_t *n_hits);

/* Hands out the next nearest row without starting again: the first ef rows come as from a search,
   later ones in batches of growing beam, never the same row twice; every reachable row that passes
   the filter is given in the end. The index must not change while an iterator lives. */
typedef struct rv_hnsw_iter rv_hnsw_iter;
RV_API rv_status rv_hnsw_iter_create (rv_ctx *ctx, const rv_hnsw *index, const void *query,
                                      const rv_hnsw_options *options, rv_hnsw_iter **out);
RV_API rv_status rv_hnsw_iter_next   (rv_ctx *ctx, rv_hnsw_iter *iter, rv_hit *hit); /* or RV_DONE */
RV_API void      rv_hnsw_iter_destroy(rv_hnsw_iter *iter); /* NULL is fine */

/* One versioned little-endian image, checksummed. save with image NULL only asks for *bytes; with
   cap too small: RV_ERR_ARG and *bytes is what is needed. A custom metric is not in the image: give
   it again to load. view searches the caller's read-only image (64-byte aligned, little-endian
   machine) in place without copying; a viewed index refuses every change with RV_ERR_UNSUPPORTED. */
RV_API rv_status rv_hnsw_save   (rv_ctx *ctx, const rv_hnsw *index, void *image, size_t cap,
                                 size_t *bytes);
RV_API rv_status rv_hnsw_load   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                 void *custom_user, rv_hnsw **out);
RV_API rv_status rv_hnsw_view   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                 void *custom_user, rv_hnsw **out);

RV_API void      rv_hnsw_stats_get(const rv_hnsw *index, rv_hnsw_stats *stats);
/* Proves the graph's invariants: links in range, no self or double links, levels nested, every node
   reachable from the entry. RV_ERR_FORMAT with the node in ctx->where otherwise. */
RV_API rv_status rv_hnsw_check  (rv_ctx *ctx, const rv_hnsw *index);

#endif /* RV_HNSW_H */
/* ==== src/ivf.h =============================================================================== */
#ifndef RV_IVF_H
#define RV_IVF_H

/* >>ivf  Inverted file: rows are dealt out to lists by their nearest centre, a search looks into the
   n_probe lists whose centres are nearest to the query. Lists hold row numbers and either nothing
   else (the rows are measured) or codes of half a bit to a bit per dimension, scanned 32 at a time in
   registers, the best of which are measured again by their vectors. Choose it over the graph when
   memory is short (links cost nothing here, codes of product quantization dim / 16 bytes), when rows
   come and go often, or for metrics of bits and the caller's own over large sets; the graph is faster
   at high recall.

   Centres and codes are learned by rv_ivf_build from its rows, or by rv_ivf_train from those the
   index holds. Before that an index is one list that is scanned whole, which is exact. Centres do
   not move afterwards: call rv_ivf_train again when the set has grown several times or drifted.
   Metrics L2, IP and cosine use k-means; the others random rows as centres, without codes.

   Build costs n n_lists dim operations times a few iterations on a sample, search n_lists dim +
   n_probe n / n_lists codes + rerank vectors. Thread class: shared-read.

       rv_ivf_config config = {0};
       rv_ivf *index;
       config.dim = 128;
       rv_ivf_create(NULL, &config, &index);
       rv_ivf_build(NULL, index, NULL, vectors, n);
       rv_ivf_search(NULL, index, query, 10, 32, hits, &n_hits);
       rv_ivf_destroy(index);

   Vectors and queries are float[dim], or (dim + 7) / 8 bytes of bits when type is U1. NaN and
   infinity are refused with RV_ERR_ARG and the element index in ctx->where.

   Sources: Sivic, Zisserman, Video Google, 2003; Jegou, Douze, Schmid, 2011; Andre et al., 2015 and
   2017; Gao, Long, 2024. */

typedef struct rv_ivf rv_ivf;

typedef enum rv_ivf_codes {
    RV_IVF_CODES_AUTO = 0,  /* PQ for L2, IP and cosine, none for the other metrics               */
    RV_IVF_CODES_NONE = 1,  /* lists of rows                                                      */
    RV_IVF_CODES_PQ = 2,    /* product quantization of the residuals, four bits per run           */
    RV_IVF_CODES_RABITQ = 3 /* one bit per dimension of the rotated residuals                     */
} rv_ivf_codes;

typedef struct rv_ivf_config {
    uint32_t dim;         /* required, 1..65535                                               */
    rv_metric metric;     /* default RV_METRIC_L2                                             */
    rv_dtype type;        /* how vectors are kept; default F32; U1 with Hamming, Jaccard       */
    rv_custom_fn custom;  /* with RV_METRIC_CUSTOM only                                       */
    void *custom_user;
    uint32_t n_lists;     /* 1..2^20; default: about the square root of the rows trained on; fewer
                             when there are fewer rows                                        */
    rv_ivf_codes codes;   /* default AUTO; codes need L2, IP or cosine                        */
    uint32_t m;           /* PQ: runs, 1..dim; default: one per 4 dimensions up to 64, one per 8
                             when that is more                                                */
    uint32_t iterations;  /* of k-means for the centres, 1..10000; default 10                 */
    int drop_vectors;     /* non-zero: vectors are not kept (needs codes); distances and rv_ivf_get
                             come from the codes, rows can be added only once trained          */
    size_t capacity;      /* rows to reserve, below 2^32 - 1; default: grow on demand         */
} rv_ivf_config;

/* What a search did, for tuning. */
typedef struct rv_ivf_trace {
    uint64_t lists;       /* lists looked into                                                */
    uint64_t scanned;     /* rows in them                                                     */
    uint64_t reranked;    /* exact distances                                                  */
} rv_ivf_trace;

/* Zero is the default for every field. */
typedef struct rv_ivf_options {
    uint32_t n_probe;     /* lists looked into; default: a 32nd of them, at least 8           */
    uint32_t rerank;      /* candidates by code that are measured; default 4 k + 40; at least k */
    const rv_filter *filter; /* default: none; more lists are looked into the less passes      */
    rv_ivf_trace *trace;  /* out; default: not wanted                                         */
} rv_ivf_options;

typedef struct rv_ivf_stats {
    size_t count;
    uint32_t n_lists;     /* 1 before training                                                */
    size_t smallest, largest;     /* rows in a list                                            */
    uint32_t row_code_bytes;      /* of one row, factors included; 0 without codes             */
    size_t vector_bytes, code_bytes, list_bytes, centre_bytes, key_bytes, total_bytes;
} rv_ivf_stats;

RV_API rv_status rv_ivf_create (rv_ctx *ctx, const rv_ivf_config *config, rv_ivf **out);
RV_API void      rv_ivf_destroy(rv_ivf *index); /* NULL is fine */
/* Adds one row; RV_ERR_EXISTS when the key is present. */
RV_API rv_status rv_ivf_add    (rv_ctx *ctx, rv_ivf *index, uint64_t key, const void *vector);
/* Adds n packed rows, all or none; keys NULL: 0..n-1 (then the index must be empty). Learns centres
   and codes first when that has not been done. Parallel through ctx, the same bits for any number
   of workers. Cancelled or out of memory: the index is as before. */
RV_API rv_status rv_ivf_build  (rv_ctx *ctx, rv_ivf *index, const uint64_t *keys,
                                const void *vectors, size_t n);
/* Learns centres and codes anew from the rows held and deals them out again. */
RV_API rv_status rv_ivf_train  (rv_ctx *ctx, rv_ivf *index);
RV_API rv_status rv_ivf_upsert (rv_ctx *ctx, rv_ivf *index, uint64_t key, const void *vector);
RV_API rv_status rv_ivf_update (rv_ctx *ctx, rv_ivf *index, uint64_t key, const void *vector);
RV_API rv_status rv_ivf_remove (rv_ctx *ctx, rv_ivf *index, uint64_t key);
RV_API int       rv_ivf_contains(const rv_ivf *index, uint64_t key);
/* out: float[dim] or bits. */
RV_API rv_status rv_ivf_get    (rv_ctx *ctx, const rv_ivf *index, uint64_t key, void *out);
RV_API size_t    rv_ivf_count  (const rv_ivf *index);
RV_API size_t    rv_ivf_bytes  (const rv_ivf *index); /* all memory held */
RV_API rv_status rv_ivf_reserve(rv_ctx *ctx, rv_ivf *index, size_t capacity);
/* Gives back the room of removed rows and puts the blocks of each list together. */
RV_API rv_status rv_ivf_compact(rv_ctx *ctx, rv_ivf *index);

/* hits: [k], nearest first, equal distances by key; *n_hits <= k. n_probe 0: the default. */
RV_API rv_status rv_ivf_search (rv_ctx *ctx, const rv_ivf *index, const void *query, size_t k,
                                size_t n_probe, rv_hit *hits, size_t *n_hits);
/* options may be NULL. */
RV_API rv_status rv_ivf_search_with(rv_ctx *ctx, const rv_ivf *index, const void *query, size_t k,
                                    const rv_ivf_options *options, rv_hit *hits, size_t *n_hits);
/* n_queries packed queries; hits: [n_queries, k], n_hits: [n_queries]. Parallel over queries. The
   trace adds up all of them. */
RV_API rv_status rv_ivf_search_batch(rv_ctx *ctx, const rv_ivf *index, const void *queries,
                                     size_t n_queries, size_t k, const rv_ivf_options *options,
                                     rv_hit *hits, size_t *n_hits);
/* Rows with distance <= radius in n_probe lists, all of them measured; nearest first. At most cap
   are written, *n_hits is the number found, also when more than cap. */
RV_API rv_status rv_ivf_range  (rv_ctx *ctx, const rv_ivf *index, const void *query, float radius,
                                const rv_ivf_options *options, rv_hit *hits, size_t cap,
                                size_t *n_hits);

/* Hands out the next nearest row without starting again: first from n_probe lists, then from more and
   more of them, never the same row twice; every row that passes the filter is given in the end.
   The index must not change while an iterator lives. */
typedef struct rv_ivf_iter rv_ivf_iter;
RV_API rv_status rv_ivf_iter_create (rv_ctx *ctx, const rv_ivf *index, const void *query,
                                     const rv_ivf_options *options, rv_ivf_iter **out);
RV_API rv_status rv_ivf_iter_next   (rv_ctx *ctx, rv_ivf_iter *iter, rv_hit *hit); /* or RV_DONE */
RV_API void      rv_ivf_iter_destroy(rv_ivf_iter *iter); /* NULL is fine */

/* One versioned little-endian image, checksummed. save with image NULL only asks for *bytes; with
   cap too small: RV_ERR_ARG and *bytes is what is needed. A custom metric is not in the image: give
   it again to load. view searches the caller's read-only image (64-byte aligned, little-endian
   machine) in place without copying; a viewed index refuses every change with RV_ERR_UNSUPPORTED. */
RV_API rv_status rv_ivf_save   (rv_ctx *ctx, const rv_ivf *index, void *image, size_t cap,
                                size_t *bytes);
RV_API rv_status rv_ivf_load   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                void *custom_user, rv_ivf **out);
RV_API rv_status rv_ivf_view   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                void *custom_user, rv_ivf **out);

RV_API void      rv_ivf_stats_get(const rv_ivf *index, rv_ivf_stats *stats);
/* Proves that every row is in exactly one list and all links are in range; RV_ERR_FORMAT with the row
   or block in ctx->where otherwise. */
RV_API rv_status rv_ivf_check  (rv_ctx *ctx, const rv_ivf *index);

#endif /* RV_IVF_H */

#endif /* RUVECTOR_H */

#if defined(RUVECTOR_IMPLEMENTATION) && !defined(RUVECTOR_IMPLEMENTED)
#define RUVECTOR_IMPLEMENTED

/* ground */
/* ==== src/base.c ============================================================================== */
#ifndef RV_BASE_C
#define RV_BASE_C

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
#define RV__INLINE static __inline__ __attribute__((unused, always_inline))
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
        rv__text_string(t, (bits & 0xFFFFFFFFFFFFFull) ? "NaN" : (bits >> 63) ? "-infinity" : "infinity");
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

/* Resizes by moving; on NULL the old block is untouched. */
RV__FN void *rv__regrow(const rv_alloc *alloc, void *ptr, size_t old_count, size_t new_count, size_t size)
{
    void *block = rv__get(alloc, new_count, size);
    if (block && ptr) {
        memcpy(block, ptr, (old_count < new_count ? old_count : new_count) * size);
        rv__put(alloc, ptr, old_count, size);
    }
    return block;
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

RV__FN float rv__infinity(void)
{
    uint32_t bits = 0x7F800000u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Maps floats to integers of the same order (-0 before +0, NaN with sign clear last), so that
   distance and id fit one 64-bit key that sorts by both. */
RV__FN uint32_t rv__order_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
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
    uint64_t *s = rng->s, sum = s[0] + s[3], result = ((sum << 23) | (sum >> 41)) + s[0], t = s[1] << 17;
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

#if defined(__GNUC__)
#define RV__FETCH_ADD(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define RV__LOAD_PTR(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define RV__STORE_PTR(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#elif defined(_MSC_VER) && defined(_WIN64)
#define RV__FETCH_ADD(p, v) ((size_t)_InterlockedExchangeAdd64((volatile __int64 *)(p), (__int64)(v)))
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
/* ==== src/simd.c ============================================================================== */
#ifndef RV_SIMD_C
#define RV_SIMD_C

/* The kernels: every hot loop of the library, expanded once per instruction set, one const table
   per instruction set, one dispatch point.

   simd_<isa>.inl   vocabulary: vectors, loads, arithmetic, of one instruction set
   kernels_*.inl    the loops in that vocabulary
   simd_end.inl     takes the vocabulary back

   What does not depend on the instruction set (zero norms, NaN, clamping) is decided in the shared
   functions of this file. Functions of x86 instruction sets carry target attributes, so the file
   is compiled for the baseline. */

#if defined(RV_NO_SIMD)
#elif defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define RV__X86 1
#include <cpuid.h>
#include <immintrin.h>
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#define RV__X86 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON)
#define RV__NEON 1
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#elif defined(__wasm_simd128__)
#define RV__WASM 1
#include <wasm_simd128.h>
#endif

#if defined(__GNUC__)
#define RV__TARGET(features) __attribute__((target(features)))
#else
#define RV__TARGET(features)
#endif

/* Row types and operations: the values of rv_dtype and rv_metric, which are declared above this
   part. DOT is the plain sum of products. */
enum { RV__TYPE_F32, RV__TYPE_F16, RV__TYPE_BF16, RV__TYPE_I8, RV__TYPES };
enum { RV__OP_L2, RV__OP_IP, RV__OP_COSINE, RV__OP_L1, RV__OP_LINF, RV__OPS, RV__OP_DOT };
enum { RV__INT_DOT, RV__INT_L2, RV__INT_L1 };
enum { RV__CODE_I8, RV__CODE_U4, RV__CODE_U1 };
enum { RV__FUN_EXP, RV__FUN_LOG, RV__FUN_TANH, RV__FUN_SIGMOID, RV__FUN_ERF };

#define RV__GEMM_DEPTH 256u /* k walked per packed panel, which stays in the second-level cache */
#define RV__COLS_MAX 64u    /* widest tile */

/* One query against rows; distances are final: cosine finished, dot product negated, no square
   root. query: float[dim], or bits. stride in bytes. ids NULL: rows 0..n-1; else the rows named,
   prefetched ahead; no other row is touched. */
typedef void (*rv__scan_fn)(const void *query, const unsigned char *rows, size_t stride,
                            const uint32_t *ids, size_t n, size_t dim, float *out);

/* Exact integer dot products of a signed byte query with packed rows; see rv__kernels. */
typedef void (*rv__dot_scan_fn)(const int8_t *query, const unsigned char *rows, size_t stride,
                                const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out);

typedef struct rv__kernels {
    rv_isa isa;
    rv__scan_fn scan[RV__OPS][RV__TYPES];
    rv__scan_fn scan_hamming, scan_jaccard;
    rv__scan_fn scan_dot_f32;
    float (*pair_f32[RV__OPS])(const float *a, const float *b, size_t n);
    float (*pair_u16[2][RV__OPS])(const uint16_t *a, const uint16_t *b, size_t n); /* f16, bf16 */

    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);
    int32_t (*l2sq_i8)(const int8_t *a, const int8_t *b, size_t n);
    int32_t (*l1_i8)(const int8_t *a, const int8_t *b, size_t n);
    void (*cosine_i8)(const int8_t *a, const int8_t *b, size_t n, int32_t *out); /* ab, aa, bb */
    uint32_t (*dot_u8)(const uint8_t *a, const uint8_t *b, size_t n);
    uint32_t (*l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n);
    /* n in bytes; counts: bits in both, in either */
    uint32_t (*hamming)(const uint8_t *a, const uint8_t *b, size_t n);
    void (*overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts);

    /* Rows of n_bytes, a multiple of 64, at multiples of stride, any alignment (64 is fastest).
       query in -127..127, query of the elements in the order below.
       i8: int8_t[n_bytes], -128..127; query: [n_bytes].
       u4: two unsigned nibbles per byte; of each block of 64 bytes the low nibbles are elements
           0..63 and the high nibbles 64..127; query: [2 n_bytes].
       u1: bit j is byte j / 8 >> j % 8; query: [8 n_bytes]. */
    rv__dot_scan_fn dot_i8_scan, dot_u4_scan, dot_u1_scan;
    /* out[i * ldo + j] = dot(a_i, b_j) for all pairs; lda, ldb, ldo in elements; n_bytes a multiple
       of 64; values -128..127. scratch: rv__gram_i8_scratch(nb, n_bytes) bytes, 64-byte aligned. */
    void (*gram_i8)(const int8_t *a, size_t lda, size_t na, const int8_t *b, size_t ldb, size_t nb,
                    size_t n_bytes, int32_t *out, size_t ldo, void *scratch);
    /* The same in floats, any n. scratch: rv__gram_f32_scratch() bytes, 64-byte aligned. */
    void (*gram_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb, size_t nb,
                     size_t n, float *out, size_t ldo, void *scratch);
    void (*gemm_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb, size_t nb,
                     size_t n, int accumulate, float *out, size_t ldo, void *scratch);
    /* Sums of table entries, saturating at 65535. lut: [m][16], m even. codes: per block of 32 rows
       16 m bytes, see rv__pq4_pack. out: [n_blocks * 32]. */
    void (*pq4_scan)(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks, uint16_t *out);

    void (*axpy_f32)(float alpha, const float *x, float *y, size_t n);
    void (*scale_f32)(float alpha, float *y, size_t n);
    void (*add_f32)(const float *x, float *y, size_t n);
    size_t (*find_below)(const float *x, size_t begin, size_t n, float bound);
    size_t (*near_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                       size_t begin, size_t n, float limit, float *value, uint32_t *mask);
    void (*line_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                     size_t n, float *line);
    void (*widen_f16)(const uint16_t *src, float *dst, size_t n);
    void (*widen_bf16)(const uint16_t *src, float *dst, size_t n);
    void (*widen_i8)(const int8_t *src, float scale, float *dst, size_t n);
    void (*narrow_f16)(const float *src, uint16_t *dst, size_t n);
    void (*narrow_bf16)(const float *src, uint16_t *dst, size_t n);
    void (*narrow_i8)(const float *src, float scale, int8_t *dst, size_t n);
    void (*exp_f32)(const float *x, float *out, size_t n);
    void (*log_f32)(const float *x, float *out, size_t n);
    void (*tanh_f32)(const float *x, float *out, size_t n);
    void (*sigmoid_f32)(const float *x, float *out, size_t n);
    void (*erf_f32)(const float *x, float *out, size_t n);
    float (*max_f32)(const float *x, float scale, size_t n, int *nan);
    float (*exp_sum_f32)(const float *x, float scale, float top, float *out, size_t n);
} rv__kernels;

/* ---- shared by all instruction sets ---- */

RV__INLINE int32_t rv__bits_f32(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

RV__INLINE float rv__from_bits_f32(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

RV__INLINE int rv__is_nan(float x)
{
    return (rv__bits_f32(x) & 0x7FFFFFFF) > 0x7F800000;
}

/* x < bound; false for NaN also under -ffast-math. */
RV__INLINE int rv__below(float x, float bound)
{
    return x < bound && !rv__is_nan(x);
}

RV__INLINE uint16_t rv__load_u16(const void *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE void rv__store_u16(void *p, uint16_t x)
{
    memcpy(p, &x, sizeof x);
}

RV__INLINE float rv__load_f32(const void *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE void rv__store_f32(void *p, float x)
{
    memcpy(p, &x, sizeof x);
}

RV__INLINE uint32_t rv__load_u32(const void *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE uint64_t rv__load_u64(const void *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Arithmetic shift, whatever the compiler thinks of >> on negative numbers. */
RV__INLINE int32_t rv__sar_i32(int32_t x, unsigned n)
{
    return x < 0 ? ~(~x >> n) : x >> n;
}

/* Nearest integer, ties to even; |x| < 2^22. */
RV__INLINE int32_t rv__round_i32(float x)
{
    int32_t whole = (int32_t)x;
    float rest = x - (float)whole; /* exact */
    if (rest > 0.5f || (rest == 0.5f && (whole & 1))) return whole + 1;
    if (rest < -0.5f || (rest == -0.5f && (whole & 1))) return whole - 1;
    return whole;
}

RV__INLINE float rv__bf16_f32(uint16_t x)
{
    return rv__from_bits_f32((int32_t)((uint32_t)x << 16));
}

RV__INLINE uint16_t rv__f32_bf16(float x)
{
    uint32_t bits = (uint32_t)rv__bits_f32(x);
    if (rv__is_nan(x)) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

RV__FN float rv__f16_f32(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16, magnitude = x & 0x7FFFu, bits;
    if (magnitude >= 0x7C00u) { /* infinity, or NaN made quiet */
        bits = 0x7F800000u | (magnitude & 0x3FFu) << 13 | (magnitude > 0x7C00u ? 0x00400000u : 0u);
    } else if (magnitude >= 0x0400u) {
        bits = (magnitude << 13) + ((127u - 15u) << 23);
    } else {
        bits = (uint32_t)rv__bits_f32((float)magnitude * (1.0f / 16777216.0f)); /* exact */
    }
    return rv__from_bits_f32((int32_t)(sign | bits));
}

RV__FN uint16_t rv__f32_f16(float x)
{
    uint32_t bits = (uint32_t)rv__bits_f32(x), sign = bits >> 16 & 0x8000u, shift, rest, half;
    bits &= 0x7FFFFFFFu;
    if (bits > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (bits >> 13 & 0x3FFu));
    if (bits >= 0x47800000u) return (uint16_t)(sign | 0x7C00u); /* 65536 and up */
    if (bits < 0x33000000u) return (uint16_t)sign;              /* below half of the least value */
    if (bits < 0x38800000u) { /* a subnormal result: shift the significand into place */
        shift = 126u - (bits >> 23); /* 14 .. 24 */
        bits = (bits & 0x007FFFFFu) | 0x00800000u;
        rest = bits & ((1u << shift) - 1u);
        half = 1u << (shift - 1);
        bits >>= shift;
        return (uint16_t)(sign | (bits + (rest > half || (rest == half && (bits & 1u)) ? 1u : 0u)));
    }
    bits -= (127u - 15u) << 23;
    return (uint16_t)(sign | ((bits + 0xFFFu + (bits >> 13 & 1u)) >> 13)); /* may round up to infinity */
}

RV__INLINE int8_t rv__f32_i8(float x)
{
    if (rv__is_nan(x)) return 0;
    return (int8_t)rv__round_i32(x > 127.0f ? 127.0f : x < -127.0f ? -127.0f : x);
}

/* Fetches all lines of a row. */
RV__INLINE void rv__touch(const unsigned char *p, size_t bytes)
{
    const unsigned char *last = p + bytes - 1;
    if (bytes == 0) return;
    for (; p < last; p += RV__LINE) RV__PREFETCH(p);
    RV__PREFETCH(last);
}

/* Rows a gather fetches ahead of the four it works on: about as many lines as a core can have on
   their way, and at least four rows. */
RV__INLINE size_t rv__rows_ahead(size_t bytes)
{
    size_t rows = 2048u / (bytes + 1);
    return rows < 4 ? 4 : rows > 28 ? 28 : rows;
}

RV__INLINE float rv__jaccard_finish(uint32_t both, uint32_t either)
{
    return either ? 1.0f - (float)both / (float)either : 0.0f;
}

RV__FN double rv__element(int type, const unsigned char *p, size_t i, float scale)
{
    float x;
    switch (type) {
    case RV__TYPE_F16: return (double)rv__f16_f32(rv__load_u16(p + 2 * i));
    case RV__TYPE_BF16: return (double)rv__bf16_f32(rv__load_u16(p + 2 * i));
    case RV__TYPE_I8: return (double)((const int8_t *)p)[i] * (double)scale;
    default: memcpy(&x, p + 4 * i, sizeof x); return (double)x;
    }
}

RV__INLINE float rv__cosine_clamp(float cosine)
{
    float d = 1.0f - cosine;
    return d < 0.0f ? 0.0f : d > 2.0f ? 2.0f : d; /* NaN stays */
}

RV__INLINE int rv__finite_f64(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 0x7FFu) != 0x7FFu;
}

/* In double, for squares that leave the range of floats, and for zero vectors. */
RV__FN float rv__cosine_wide(int ta, int tb, const unsigned char *a, const unsigned char *b,
                             float scale, size_t n)
{
    double ab = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        double x = rv__element(ta, a, i, scale), y = rv__element(tb, b, i, scale);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if (!rv__finite_f64(ab) || !rv__finite_f64(aa) || !rv__finite_f64(bb)) {
        return rv__from_bits_f32(0x7FC00000);
    }
    if (aa == 0.0 || bb == 0.0) return aa == bb ? 0.0f : 1.0f;
    return rv__cosine_clamp((float)(ab / (sqrt(aa) * sqrt(bb))));
}

/* 1 - cos from the sums; ab and bb are still without the scale of I8 rows. Two zero vectors: 0,
   exactly one: 1. */
RV__INLINE float rv__cosine_finish(int ta, int tb, const unsigned char *a, const unsigned char *b,
                                   float scale, size_t n, float ab, float aa, float bb)
{
    if (tb == RV__TYPE_I8 && !(scale > 1e-30f && scale < 1e30f)) bb = 0.0f; /* the scale matters */
    if (aa > 1e-30f && aa < 1e37f && bb > 1e-30f && bb < 1e37f) {
        return rv__cosine_clamp(ab / (sqrtf(aa) * sqrtf(bb)));
    }
    return rv__cosine_wide(ta, tb, a, b, scale, n);
}


/* ---- expansions ---- */

/* ==== src/simd_scalar.inl ===================================================================== */
/* Vocabulary of plain C: one lane. The reference for every other instruction set: no fused
   multiply-add, so that the bits are the same on every IEEE machine (-ffp-contract=off). */

#define RV__F(name) rv__##name##_scalar
#define RV__ISA
#define RV__SCALAR 1
#define RV__LANES 1u /* floats, and 32-bit integers, per vector */
#define RV__BYTES 1u /* signed bytes per vector of the integer kernels */
#define RV__WORD 8u  /* bytes per vector of the bit kernels */
#define rv__v float
#define rv__vi int32_t
#define rv__vb int32_t
#define RV__TILE 2u     /* column vectors of a matrix tile */
#define RV__GROUP 2u    /* bytes of a row that one 32-bit lane multiplies at once */
#define RV__GROUP_FLIP 0u
#define rv__vw uint64_t
#define rv__vp uint64_t

#define rv__vzero() 0.0f
#define rv__vset(x) (x)
#define rv__vadd(a, b) ((a) + (b))
#define rv__vsub(a, b) ((a) - (b))
#define rv__vmul(a, b) ((a) * (b))
#define rv__vdiv(a, b) ((a) / (b))
#define rv__vfma(a, b, c) ((a) * (b) + (c))
#define rv__vsum(a) (a)
#define rv__vmaximum(a) (a)
#define rv__vround(a) rv__round_i32(a)
#define rv__vfloat(a) ((float)(a))
#define rv__vbits(a) rv__bits_f32(a)
#define rv__vfrom(a) rv__from_bits_f32(a)
#define rv__vpick(mask, a, b) ((mask) ? (a) : (b))
#define rv__vless(a, b) ((a) < (b))
#define rv__vmask(less) ((uint32_t)(less))
#define rv__iset(x) (x)
/* Wraps, as vector lanes do. */
#define rv__iadd(a, b) ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define rv__isub(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)))
#define rv__iand(a, b) ((a) & (b))
#define rv__ior(a, b) ((a) | (b))
#define rv__ishl(a, n) ((int32_t)((uint32_t)(a) << (n)))
#define rv__isar(a, n) rv__sar_i32((a), (n))
#define rv__igreater(a, b) ((a) > (b))
#define rv__isum(a) (a)

RV__INLINE float rv__vabs_scalar(float x)
{
    return rv__from_bits_f32(rv__bits_f32(x) & 0x7FFFFFFF);
}

/* The larger bit pattern: of magnitudes, the larger one, and NaN is larger than infinity. */
RV__INLINE float rv__vmaxbits_scalar(float a, float b)
{
    return rv__bits_f32(a) > rv__bits_f32(b) ? a : b;
}

/* Two products of 16-bit halves. */
RV__INLINE int32_t rv__gdot_scalar(int32_t acc, int32_t b, int32_t a)
{
    int32_t low = (int16_t)(a & 0xFFFF) * (int16_t)(b & 0xFFFF);
    return rv__iadd(acc, low + rv__sar_i32(a, 16) * rv__sar_i32(b, 16));
}

RV__INLINE uint64_t rv__wpop_scalar(uint64_t acc, uint64_t x)
{
    x -= (x >> 1) & 0x5555555555555555ull;
    x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
    return acc + ((x * 0x0101010101010101ull) >> 56);
}

#define rv__vload(p) rv__load_f32(p)
#define rv__vstore(p, a) rv__store_f32((p), (a))
#define rv__vload_tail(p, n) rv__load_f32(p) /* n is 0 always: never called */
#define rv__vstore_tail(p, a, n) rv__store_f32((p), (a))
#define rv__vload_f16(p) rv__f16_f32(rv__load_u16(p))
#define rv__vload_bf16(p) rv__bf16_f32(rv__load_u16(p))
#define rv__vload_i8(p) ((float)*(const int8_t *)(p))
#define rv__vkeep_last(a, n) (a)
#define rv__vstore_f16(p, a) rv__store_u16((p), rv__f32_f16(a))
#define rv__istore_top16(p, a) rv__store_u16((p), (uint16_t)((uint32_t)(a) >> 16))
#define rv__istore_i8(p, a) ((void)(*(int8_t *)(p) = (int8_t)(a)))
#define rv__vabs(a) rv__vabs_scalar(a)
#define rv__vmaxbits(a, b) rv__vmaxbits_scalar((a), (b))
#define rv__vmax(a, b) ((a) > (b) ? (a) : (b))
#define rv__vmin(a, b) ((a) < (b) ? (a) : (b))

#define rv__bload(p) ((int32_t)*(const int8_t *)(p))
#define rv__bload_u(p) ((int32_t)*(const uint8_t *)(p))
#define rv__blow(a) ((a) & 15)
#define rv__bhigh(a) (((a) >> 4) & 15)
#define rv__bbits(p, j) ((int32_t)((p)[(j) >> 3] >> ((j) & 7u) & 1u))
#define rv__bflip(a) (a)
#define RV__BIAS 0
#define rv__bone() 1
#define rv__bdot(acc, r, q) rv__iadd((acc), (r) * (q))
#define rv__bdot_small(acc, r, q) rv__iadd((acc), (r) * (q))
#define rv__bdot_any(acc, a, b) rv__iadd((acc), (a) * (b))
#define rv__bdot_u8(acc, a, b) rv__iadd((acc), (a) * (b))
#define rv__bl2_i8(acc, a, b) rv__iadd((acc), ((a) - (b)) * ((a) - (b)))
#define rv__bl2_u8(acc, a, b) rv__iadd((acc), ((a) - (b)) * ((a) - (b)))
#define rv__bl1_i8(acc, a, b) rv__iadd((acc), (a) > (b) ? (a) - (b) : (b) - (a))
#define rv__gdot(acc, b, a) rv__gdot_scalar((acc), (b), (a))

#define rv__wload(p) rv__load_u64(p)
#define rv__wand(a, b) ((a) & (b))
#define rv__wor(a, b) ((a) | (b))
#define rv__wxor(a, b) ((a) ^ (b))
#define rv__pzero() ((uint64_t)0)
#define rv__wpop(acc, x) rv__wpop_scalar((acc), (x))
#define rv__psum(acc) (acc)
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_float.inl =================================================================== */
/* Kernels over floating point rows, written once and expanded for every instruction set. op and type
   are constants at every call, so that of each switch one branch survives. */

/* Elements i .. i + LANES - 1 of a row as floats. */
RV__ISA RV__INLINE rv__v RV__F(get)(int type, const unsigned char *p, size_t i)
{
    switch (type) {
    case RV__TYPE_F16: return rv__vload_f16(p + 2 * i);
    case RV__TYPE_BF16: return rv__vload_bf16(p + 2 * i);
    case RV__TYPE_I8: return rv__vload_i8(p + i);
    default: return rv__vload(p + 4 * i);
    }
}

/* Elements i .. n - 1, fewer than LANES, with zeros in the other lanes. Two rows of one length n
   agree on the lanes, whatever their types. */
RV__ISA RV__INLINE rv__v RV__F(get_tail)(int type, const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    switch (type) {
    case RV__TYPE_F16: return rv__vtail_f16(p + 2 * i, n - i);
    case RV__TYPE_BF16: return rv__vtail_bf16(p + 2 * i, n - i);
    case RV__TYPE_I8: return rv__vtail_i8(p + i, n - i);
    default: return rv__vload_tail(p + 4 * i, n - i);
    }
#else
    const size_t size = type == RV__TYPE_F32 ? 4 : type == RV__TYPE_I8 ? 1 : 2;
    unsigned char copy[4 * RV__LANES];
    if (n >= RV__LANES) return rv__vkeep_last(RV__F(get)(type, p, n - RV__LANES), n - i);
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + size * i, size * (n - i));
    return RV__F(get)(type, copy, 0);
#endif
}

/* One more term of the sum (or maximum) that the distance is made of. */
RV__ISA RV__INLINE rv__v RV__F(step)(int op, rv__v acc, rv__v a, rv__v b)
{
    rv__v d;
    if (op == RV__OP_IP || op == RV__OP_COSINE || op == RV__OP_DOT) return rv__vfma(a, b, acc);
    d = rv__vsub(a, b);
    if (op == RV__OP_L2) return rv__vfma(d, d, acc);
    if (op == RV__OP_L1) return rv__vadd(acc, rv__vabs(d));
    return rv__vmaxbits(acc, rv__vabs(d)); /* NaN is the largest magnitude */
}

RV__ISA RV__INLINE rv__v RV__F(join)(int op, rv__v a, rv__v b)
{
    return op == RV__OP_LINF ? rv__vmaxbits(a, b) : rv__vadd(a, b);
}

RV__ISA RV__INLINE float RV__F(fold)(int op, rv__v a)
{
    return op == RV__OP_LINF ? rv__vmaximum(a) : rv__vsum(a);
}

/* a and b of types ta and tb; for I8, scale is that of b. aa: squared length of a if known (cosine
   of a query against rows), negative if not. */
RV__ISA RV__INLINE float RV__F(one)(int op, int ta, int tb, const unsigned char *a,
                                    const unsigned char *b, float scale, size_t n, float aa)
{
    const size_t L = RV__LANES;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, x0 = s0, x1 = s0, y0 = s0, y1 = s0;
    rv__v u, v, factor = rv__vset(scale);
    float sum;
    size_t i = 0;
    if (op == RV__OP_COSINE) {
        for (; i + 2 * L <= n; i += 2 * L) {
            u = RV__F(get)(ta, a, i);
            v = RV__F(get)(tb, b, i);
            s0 = rv__vfma(u, v, s0);
            x0 = rv__vfma(u, u, x0);
            y0 = rv__vfma(v, v, y0);
            u = RV__F(get)(ta, a, i + L);
            v = RV__F(get)(tb, b, i + L);
            s1 = rv__vfma(u, v, s1);
            x1 = rv__vfma(u, u, x1);
            y1 = rv__vfma(v, v, y1);
        }
    } else {
        for (; i + 4 * L <= n; i += 4 * L) {
            v = RV__F(get)(tb, b, i);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s0 = RV__F(step)(op, s0, RV__F(get)(ta, a, i), v);
            v = RV__F(get)(tb, b, i + L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s1 = RV__F(step)(op, s1, RV__F(get)(ta, a, i + L), v);
            v = RV__F(get)(tb, b, i + 2 * L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s2 = RV__F(step)(op, s2, RV__F(get)(ta, a, i + 2 * L), v);
            v = RV__F(get)(tb, b, i + 3 * L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s3 = RV__F(step)(op, s3, RV__F(get)(ta, a, i + 3 * L), v);
        }
    }
    for (; i < n; i += L) {
        if (i + L <= n) {
            u = RV__F(get)(ta, a, i);
            v = RV__F(get)(tb, b, i);
        } else {
            u = RV__F(get_tail)(ta, a, i, n);
            v = RV__F(get_tail)(tb, b, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(u, v, s0);
            x0 = rv__vfma(u, u, x0);
            y0 = rv__vfma(v, v, y0);
        } else {
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s0 = RV__F(step)(op, s0, u, v);
        }
    }
    sum = RV__F(fold)(op, RV__F(join)(op, RV__F(join)(op, s0, s1), RV__F(join)(op, s2, s3)));
    if (op != RV__OP_COSINE) return op == RV__OP_IP ? -sum : sum;
    if (aa < 0.0f) aa = rv__vsum(rv__vadd(x0, x1));
    return rv__cosine_finish(ta, tb, a, b, scale, n, sum, aa, rv__vsum(rv__vadd(y0, y1)));
}

/* Four rows against one query. The loads of the query are shared, and four rows of memory are on
   their way at once. */
RV__ISA RV__INLINE void RV__F(four)(int op, int type, const unsigned char *query,
                                    const unsigned char *const *rows, size_t n, float qq, float *out)
{
    const size_t L = RV__LANES, head = type == RV__TYPE_I8 ? 4 : 0;
    const unsigned char *r0 = rows[0] + head, *r1 = rows[1] + head;
    const unsigned char *r2 = rows[2] + head, *r3 = rows[3] + head;
    float f0 = 1.0f, f1 = 1.0f, f2 = 1.0f, f3 = 1.0f;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    rv__v g0 = s0, g1 = s0, g2 = s0, g3 = s0, q, v0, v1, v2, v3;
    size_t i = 0, half = 0;
    if (type == RV__TYPE_I8) {
        memcpy(&f0, rows[0], 4);
        memcpy(&f1, rows[1], 4);
        memcpy(&f2, rows[2], 4);
        memcpy(&f3, rows[3], 4);
        g0 = rv__vset(f0);
        g1 = rv__vset(f1);
        g2 = rv__vset(f2);
        g3 = rv__vset(f3);
    }
    for (; i < n; i += L, half ^= 1) {
        if (i + L <= n) {
            q = RV__F(get)(RV__TYPE_F32, query, i);
            v0 = RV__F(get)(type, r0, i);
            v1 = RV__F(get)(type, r1, i);
            v2 = RV__F(get)(type, r2, i);
            v3 = RV__F(get)(type, r3, i);
        } else {
            q = RV__F(get_tail)(RV__TYPE_F32, query, i, n);
            v0 = RV__F(get_tail)(type, r0, i, n);
            v1 = RV__F(get_tail)(type, r1, i, n);
            v2 = RV__F(get_tail)(type, r2, i, n);
            v3 = RV__F(get_tail)(type, r3, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(q, v0, s0);
            t0 = rv__vfma(v0, v0, t0);
            s1 = rv__vfma(q, v1, s1);
            t1 = rv__vfma(v1, v1, t1);
            s2 = rv__vfma(q, v2, s2);
            t2 = rv__vfma(v2, v2, t2);
            s3 = rv__vfma(q, v3, s3);
            t3 = rv__vfma(v3, v3, t3);
            continue;
        }
        if (type == RV__TYPE_I8) {
            v0 = rv__vmul(v0, g0);
            v1 = rv__vmul(v1, g1);
            v2 = rv__vmul(v2, g2);
            v3 = rv__vmul(v3, g3);
        }
        s0 = RV__F(step)(op, s0, q, v0);
        s1 = RV__F(step)(op, s1, q, v1);
        s2 = RV__F(step)(op, s2, q, v2);
        s3 = RV__F(step)(op, s3, q, v3);
    }
    out[0] = RV__F(fold)(op, s0);
    out[1] = RV__F(fold)(op, s1);
    out[2] = RV__F(fold)(op, s2);
    out[3] = RV__F(fold)(op, s3);
    if (op == RV__OP_IP) {
        for (i = 0; i < 4; i++) out[i] = -out[i];
    }
    if (op == RV__OP_COSINE) {
        out[0] = rv__cosine_finish(RV__TYPE_F32, type, query, r0, f0, n, out[0], qq, rv__vsum(t0));
        out[1] = rv__cosine_finish(RV__TYPE_F32, type, query, r1, f1, n, out[1], qq, rv__vsum(t1));
        out[2] = rv__cosine_finish(RV__TYPE_F32, type, query, r2, f2, n, out[2], qq, rv__vsum(t2));
        out[3] = rv__cosine_finish(RV__TYPE_F32, type, query, r3, f3, n, out[3], qq, rv__vsum(t3));
    }
}

/* See rv__scan_fn. Rows named by ids are prefetched RV__AHEAD bytes ahead. */
RV__ISA RV__INLINE void RV__F(scan)(int op, int type, const void *query, const unsigned char *rows,
                                    size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                    float *out)
{
    const unsigned char *q = (const unsigned char *)query, *four[4];
    const size_t bytes = type == RV__TYPE_F32 ? 4 * dim : type == RV__TYPE_I8 ? dim + 4 : 2 * dim;
    const size_t ahead = rv__rows_ahead(bytes);
    float scale = 1.0f, qq = 0.0f;
    size_t i = 0, fetched = 0;
    if (op == RV__OP_COSINE) {
        qq = RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, q, q, 1.0f, dim, 0.0f);
    }
    for (; i + 4 <= n; i += 4) {
        for (size_t j = 0; j < 4; j++) four[j] = rows + (ids ? ids[i + j] : i + j) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        RV__F(four)(op, type, q, four, dim, qq, out + i);
    }
    for (; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (type == RV__TYPE_I8) memcpy(&scale, row, 4);
        out[i] = RV__F(one)(op, RV__TYPE_F32, type, q, row + (type == RV__TYPE_I8 ? 4 : 0), scale, dim, qq);
    }
}

/* ---- the instances ---- */

RV__ISA static void RV__F(scan_l2_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_dot_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_DOT, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static float RV__F(pair_l2_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_array.inl =================================================================== */
/* Kernels over arrays: updates, conversions, elementary functions, written once and expanded for
   every instruction set. */

RV__ISA static void RV__F(axpy_f32)(float alpha, const float *x, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vfma(a, rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(y + i, rv__vfma(a, rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)), n - i);
    }
}

RV__ISA static void RV__F(scale_f32)(float alpha, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(y + i, rv__vmul(a, rv__vload(y + i)));
    if (i < n) rv__vstore_tail(y + i, rv__vmul(a, rv__vload_tail(y + i, n - i)), n - i);
}

RV__ISA static void RV__F(add_f32)(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vadd(rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(y + i, rv__vadd(rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)), n - i);
    }
}

/* Index of the first value below bound from `begin` on, n when there is none. */
RV__ISA static size_t RV__F(find_below)(const float *x, size_t begin, size_t n, float bound)
{
    rv__v b = rv__vset(bound);
    size_t i = begin;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        if (rv__vmask(rv__vless(rv__vload(x + i), b))) break;
    }
    while (i < n && !rv__below(rv__load_f32(x + i), bound)) i++;
    return i;
}

/* ---- conversion ---- */

RV__ISA static void RV__F(widen_f16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_f16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__f16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_bf16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_bf16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__bf16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_i8)(const int8_t *src, float scale, float *dst, size_t n)
{
    rv__v s = rv__vset(scale);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vmul(s, rv__vload_i8(src + i)));
    for (; i < n; i++) rv__store_f32(dst + i, (float)src[i] * scale);
}

RV__ISA static void RV__F(narrow_f16)(const float *src, uint16_t *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore_f16(dst + i, rv__vload(src + i));
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_f16(rv__load_f32(src + i)));
}

/* Round to nearest even on the integer pattern; a NaN keeps its sign and leading payload. */
RV__ISA static void RV__F(narrow_bf16)(const float *src, uint16_t *dst, size_t n)
{
    const rv__vi half = rv__iset(0x7FFF), one = rv__iset(1), magnitude = rv__iset(0x7FFFFFFF);
    const rv__vi infinity = rv__iset(0x7F800000), quiet = rv__iset(0x00400000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vi x = rv__vbits(rv__vload(src + i)), top = rv__isar(x, 16);
        rv__vi round = rv__iadd(x, rv__iadd(half, rv__iand(top, one)));
        rv__vi bits = rv__vbits(rv__vpick(rv__igreater(rv__iand(x, magnitude), infinity),
                                          rv__vfrom(rv__ior(x, quiet)), rv__vfrom(round)));
        rv__istore_top16(dst + i, bits);
    }
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_bf16(rv__load_f32(src + i)));
}

RV__ISA static void RV__F(narrow_i8)(const float *src, float scale, int8_t *dst, size_t n)
{
    const rv__v s = rv__vset(scale), top = rv__vset(127.0f), bottom = rv__vset(-127.0f);
    const rv__vi magnitude = rv__iset(0x7FFFFFFF), infinity = rv__iset(0x7F800000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__v x = rv__vmul(rv__vload(src + i), s);
        x = rv__vpick(rv__igreater(rv__iand(rv__vbits(x), magnitude), infinity), rv__vzero(), x);
        rv__istore_i8(dst + i, rv__vround(rv__vmax(rv__vmin(x, top), bottom)));
    }
    for (; i < n; i++) dst[i] = rv__f32_i8(rv__load_f32(src + i) * scale);
}

/* ---- elementary functions ---- */

/* Keeps -ffast-math from merging what stands on either side. */
RV__ISA RV__INLINE rv__v RV__F(keep)(rv__v x)
{
#if defined(__FAST_MATH__) && defined(__GNUC__)
    __asm__("" : "+m"(x));
#endif
    return x;
}

/* 2^n for n in -126 .. 127. */
RV__ISA RV__INLINE rv__v RV__F(pow2)(rv__vi n)
{
    return rv__vfrom(rv__ishl(rv__iadd(n, rv__iset(127)), 23));
}

/* a where x is not NaN, else x itself. Looks at bits: comparisons vanish under -ffast-math. */
RV__ISA RV__INLINE rv__v RV__F(unless_nan)(rv__v x, rv__v a)
{
    rv__vi magnitude = rv__iand(rv__vbits(x), rv__iset(0x7FFFFFFF));
    return rv__vpick(rv__igreater(magnitude, rv__iset(0x7F800000)), x, a);
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 P(r), P minimax for the relative error;
   2^n in two factors, so that results below the normal range come out too. */
RV__ISA RV__INLINE rv__v RV__F(v_exp)(rv__v x)
{
    rv__v within = rv__vmin(rv__vmax(x, rv__vset(-104.0f)), rv__vset(89.0f));
    rv__vi n = rv__vround(rv__vmul(within, rv__vset(1.44269504f))), n0 = rv__isar(n, 1);
    rv__v f = rv__vfloat(n), r, p;
    r = rv__vfma(f, rv__vset(-0.693359375f), within); /* exact: few bits */
    r = rv__vfma(f, rv__vset(2.12194440e-4f), RV__F(keep)(r));
    p = rv__vset(0.000197402478f);
    p = rv__vfma(p, r, rv__vset(0.00139350793f));
    p = rv__vfma(p, r, rv__vset(0.00833357032f));
    p = rv__vfma(p, r, rv__vset(0.041666463f));
    p = rv__vfma(p, r, rv__vset(0.166666657f));
    p = rv__vfma(p, r, rv__vset(0.5f));
    p = rv__vadd(rv__vfma(rv__vmul(r, r), p, r), rv__vset(1.0f));
    p = rv__vmul(rv__vmul(p, RV__F(pow2)(n0)), RV__F(pow2)(rv__isub(n, n0)));
    return RV__F(unless_nan)(x, p);
}

/* x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2 / 2 + f^3 P(f). */
RV__ISA RV__INLINE rv__v RV__F(v_log)(rv__v x)
{
    const rv__vi low = rv__iset(0x3F3504F3); /* sqrt(1/2) */
    rv__vi bits = rv__vbits(x), magnitude = rv__iand(bits, rv__iset(0x7FFFFFFF)), e;
    rv__v small = rv__vmul(x, rv__vset(8388608.0f)), f, p, g, ff, nan;
    rv__vi is_small = rv__vbits(rv__vpick(rv__igreater(rv__iset(0x00800000), bits), small, x));
    e = rv__isar(rv__isub(is_small, low), 23);
    f = rv__vfrom(rv__iadd(rv__iand(rv__isub(is_small, low), rv__iset(0x007FFFFF)), low));
    f = rv__vsub(f, rv__vset(1.0f));
    g = rv__vfloat(e);
    g = rv__vpick(rv__igreater(rv__iset(0x00800000), bits), rv__vsub(g, rv__vset(23.0f)), g);
    p = rv__vset(0.0674919188f);
    p = rv__vfma(p, f, rv__vset(-0.116700254f));
    p = rv__vfma(p, f, rv__vset(0.118835375f));
    p = rv__vfma(p, f, rv__vset(-0.124062397f));
    p = rv__vfma(p, f, rv__vset(0.142203599f));
    p = rv__vfma(p, f, rv__vset(-0.166679889f));
    p = rv__vfma(p, f, rv__vset(0.200020716f));
    p = rv__vfma(p, f, rv__vset(-0.250000089f));
    p = rv__vfma(p, f, rv__vset(0.333333135f));
    ff = rv__vmul(f, f);
    p = rv__vmul(rv__vmul(ff, f), p);
    p = rv__vfma(g, rv__vset(-2.12194440e-4f), p);
    p = rv__vfma(ff, rv__vset(-0.5f), p);
    p = rv__vfma(g, rv__vset(0.693359375f), RV__F(keep)(rv__vadd(f, p)));
    nan = rv__vfrom(rv__iset(0x7FC00000));
    p = rv__vpick(rv__igreater(rv__iset(0), bits), nan, p);
    p = rv__vpick(rv__igreater(rv__iset(1), magnitude), rv__vfrom(rv__iset((int32_t)0xFF800000u)), p);
    p = rv__vpick(rv__igreater(bits, rv__iset(0x7F7FFFFF)), x, p);
    return RV__F(unless_nan)(x, p);
}

RV__ISA RV__INLINE rv__v RV__F(with_sign)(rv__v magnitude, rv__v x)
{
    return rv__vfrom(rv__ior(rv__vbits(magnitude), rv__iand(rv__vbits(x), rv__iset((int32_t)0x80000000u))));
}

/* x + x^3 P(x^2) below 0.625, else 1 - 2 / (exp(2 |x|) + 1). */
RV__ISA RV__INLINE rv__v RV__F(v_tanh)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, large;
    p = rv__vset(-0.0056922962f);
    p = rv__vfma(p, z, rv__vset(0.0206281673f));
    p = rv__vfma(p, z, rv__vset(-0.0537365153f));
    p = rv__vfma(p, z, rv__vset(0.133314058f));
    p = rv__vfma(p, z, rv__vset(-0.333332807f));
    p = rv__vfma(rv__vmul(p, z), x, x);
    large = rv__vmin(t, rv__vset(10.0f)); /* tanh is 1 from 9.02 on */
    large = rv__vadd(RV__F(v_exp)(rv__vadd(large, large)), rv__vset(1.0f));
    large = RV__F(with_sign)(rv__vsub(rv__vset(1.0f), rv__vdiv(rv__vset(2.0f), large)), x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.625f)), p, large));
}

/* With e = exp(-|x|): 1 / (1 + e) or, for negative x, e / (1 + e), small results included. */
RV__ISA RV__INLINE rv__v RV__F(v_sigmoid)(rv__v x)
{
    rv__v one = rv__vset(1.0f), e = RV__F(v_exp)(rv__vsub(rv__vzero(), rv__vabs(x)));
    rv__v top = rv__vpick(rv__vless(x, rv__vzero()), e, one);
    return RV__F(unless_nan)(x, rv__vdiv(top, rv__vadd(one, e)));
}

/* x + x P(x^2) below 0.92, else 1 - exp(Q(|x|)) with Q the minimax polynomial of log erfc. */
RV__ISA RV__INLINE rv__v RV__F(v_erf)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, q, capped = rv__vmin(t, rv__vset(4.0f));
    p = rv__vset(-0.000600380125f);
    p = rv__vfma(p, z, rv__vset(0.00499585364f));
    p = rv__vfma(p, z, rv__vset(-0.0267685801f));
    p = rv__vfma(p, z, rv__vset(0.11281877f));
    p = rv__vfma(p, z, rv__vset(-0.376125008f));
    p = rv__vfma(p, z, rv__vset(0.128379151f));
    p = rv__vfma(p, x, x);
    q = rv__vset(-1.12319112e-05f);
    q = rv__vfma(q, capped, rv__vset(0.000322812703f));
    q = rv__vfma(q, capped, rv__vset(-0.00364250597f));
    q = rv__vfma(q, capped, rv__vset(0.0237621833f));
    q = rv__vfma(q, capped, rv__vset(-0.106237039f));
    q = rv__vfma(q, capped, rv__vset(-0.635151207f));
    q = rv__vfma(q, capped, rv__vset(-1.12864852f));
    q = rv__vsub(rv__vset(1.0f), RV__F(v_exp)(rv__vmul(q, capped)));
    q = RV__F(with_sign)(q, x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.92f)), p, q));
}

RV__ISA RV__INLINE rv__v RV__F(elementary)(int function, rv__v x)
{
    switch (function) {
    case RV__FUN_EXP: return RV__F(v_exp)(x);
    case RV__FUN_LOG: return RV__F(v_log)(x);
    case RV__FUN_TANH: return RV__F(v_tanh)(x);
    case RV__FUN_SIGMOID: return RV__F(v_sigmoid)(x);
    default: return RV__F(v_erf)(x);
    }
}

RV__ISA RV__INLINE void RV__F(map)(int function, const float *x, float *out, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(out + i, RV__F(elementary)(function, rv__vload(x + i)));
    }
    if (i < n) {
        rv__v tail = RV__F(elementary)(function, rv__vload_tail(x + i, n - i));
        rv__vstore_tail(out + i, tail, n - i);
    }
}

RV__ISA static void RV__F(exp_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_EXP, x, out, n);
}

RV__ISA static void RV__F(log_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_LOG, x, out, n);
}

RV__ISA static void RV__F(tanh_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_TANH, x, out, n);
}

RV__ISA static void RV__F(sigmoid_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_SIGMOID, x, out, n);
}

RV__ISA static void RV__F(erf_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_ERF, x, out, n);
}

/* The largest scale * x[i]; *nan tells whether any of them is NaN. n > 0. */
RV__ISA static float RV__F(max_f32)(const float *x, float scale, size_t n, int *nan)
{
    const rv__v s = rv__vset(scale);
    rv__v top = rv__vset(rv__from_bits_f32((int32_t)0xFF800000u)), seen = rv__vzero(), y;
    float lanes[RV__LANES], best;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = rv__vmul(s, rv__vload(x + i));
        seen = rv__vmaxbits(seen, rv__vabs(y));
        top = rv__vmax(y, top);
    }
    rv__vstore(lanes, top);
    best = lanes[0];
    for (size_t j = 1; j < RV__LANES; j++) best = lanes[j] > best ? lanes[j] : best;
    *nan = rv__is_nan(rv__vmaximum(seen));
    for (; i < n; i++) {
        float last = scale * rv__load_f32(x + i);
        *nan |= rv__is_nan(last);
        best = last > best ? last : best;
    }
    return best;
}

/* out[i] = exp(scale * x[i] - top); returns their sum. */
RV__ISA static float RV__F(exp_sum_f32)(const float *x, float scale, float top, float *out, size_t n)
{
    const rv__v s = rv__vset(scale), t = rv__vset(top);
    rv__v sum = rv__vzero(), y;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload(x + i))), t));
        rv__vstore(out + i, y);
        sum = rv__vadd(sum, y);
    }
    if (i < n) {
        float last[RV__LANES];
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload_tail(x + i, n - i))), t));
        rv__vstore_tail(out + i, y, n - i);
        for (size_t j = 0; j < RV__LANES; j++) last[j] = i + j < n ? rv__load_f32(out + i + j) : 0.0f;
        sum = rv__vadd(sum, rv__vload(last));
    }
    return rv__vsum(sum);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_graph.inl =================================================================== */
/* Distances between byte codes from their dot products: base + h[j] + (slope g[j]) dot[j]. One form
   of the sum for every position, so that a pair has the same distance wherever it stands. */

RV__ISA RV__INLINE uint32_t RV__F(near_block)(const int32_t *dot, const float *h, const float *g, rv__v base,
                                              rv__v slope, rv__v limit, float *value)
{
    uint32_t mask = 0;
    for (size_t j = 0; j < 16; j += RV__LANES) {
        rv__v x = rv__vfloat(rv__vbits(rv__vload((const float *)(const void *)(dot + j))));
        rv__v d = rv__vfma(rv__vmul(slope, rv__vload(g + j)), x, rv__vadd(base, rv__vload(h + j)));
        rv__vstore(value + j, d);
        mask |= rv__vmask(rv__vless(d, limit)) << j;
    }
    return mask;
}

/* The first block of 16 positions from begin (a multiple of 16) on that has a distance below limit:
   returns its start, its distances in value[16] and a bit for each below; n and no bits when there is
   none. */
RV__ISA static size_t RV__F(near_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                                      size_t begin, size_t n, float limit, float *value, uint32_t *mask)
{
    rv__v b = rv__vset(base), s = rv__vset(slope), l = rv__vset(limit);
    size_t i = begin;
    for (; i + 16 <= n; i += 16) {
        *mask = RV__F(near_block)(dot + i, h + i, g + i, b, s, l, value);
        if (*mask) return i;
    }
    *mask = 0;
    if (i < n) {
        int32_t dots[16];
        float hs[16], gs[16];
        for (size_t j = 0; j < 16; j++) {
            size_t k = i + j < n ? i + j : i;
            dots[j] = dot[k];
            hs[j] = h[k];
            gs[j] = g[k];
        }
        *mask = RV__F(near_block)(dots, hs, gs, b, s, l, value) & ((1u << (n - i)) - 1u);
        if (*mask) return i;
    }
    return n;
}

/* All of them: line[n]. */
RV__ISA static void RV__F(line_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                                    size_t n, float *line)
{
    float value[16];
    uint32_t mask;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        (void)RV__F(near_block)(dot + i, h + i, g + i, rv__vset(base), rv__vset(slope), rv__vset(base), line + i);
    }
    if (i < n) {
        (void)RV__F(near_i32)(dot, h, g, base, slope, i, n, base, value, &mask);
        memcpy(line + i, value, (n - i) * sizeof(float));
    }
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_tile.inl ==================================================================== */
/* All dot products between two sets of rows, floats. A tile of six rows of A and RV__TILE vectors of
   columns of B stays in registers; B is packed so that one column vector is one load. */

#define RV__COLS (RV__TILE * RV__LANES)

/* Packs rows of b, up to RV__COLS of them, transposed: [n][RV__COLS], missing columns zero. */
RV__ISA static void RV__F(pack_f32)(const float *b, size_t ldb, size_t nb, size_t n, float *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const float *row = b + j * ldb;
        if (j < nb) {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = row[k];
        } else {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = 0.0f;
        }
    }
}

RV__ISA RV__INLINE void RV__F(tile_row)(float a, const rv__v *b, rv__v *c)
{
    rv__v x = rv__vset(a);
    c[0] = rv__vfma(x, b[0], c[0]);
    c[1] = rv__vfma(x, b[1], c[1]);
    if (RV__TILE == 4) {
        c[2] = rv__vfma(x, b[2 % RV__TILE], c[2 % RV__TILE]);
        c[3 % RV__TILE] = rv__vfma(x, b[3 % RV__TILE], c[3 % RV__TILE]);
    }
}

RV__ISA RV__INLINE void RV__F(tile_store)(const rv__v *c, float *out, size_t nb, int accumulate)
{
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, accumulate ? rv__vadd(rv__vload(out + first), c[j]) : c[j]);
        } else if (first < nb) {
            rv__v sum = c[j];
            if (accumulate) sum = rv__vadd(rv__vload_tail(out + first, nb - first), sum);
            rv__vstore_tail(out + first, sum, nb - first);
        }
    }
}

/* na <= 6 rows, nb <= RV__COLS columns. */
RV__ISA static void RV__F(tile_f32)(const float *a, size_t lda, size_t na, const float *packed, size_t nb,
                                    size_t n, int accumulate, float *out, size_t ldo)
{
    const size_t last = na - 1;
    const float *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const float *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const float *a5 = a + last * lda;
    rv__v c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__vzero();
    }
    for (size_t k = 0; k < n; k++, packed += RV__COLS) {
        b[0] = rv__vload(packed);
        b[1] = rv__vload(packed + RV__LANES);
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vload(packed + 2 * RV__LANES);
            b[3 % RV__TILE] = rv__vload(packed + 3 * RV__LANES);
        }
        RV__F(tile_row)(a[k], b, c0);
        RV__F(tile_row)(a1[k], b, c1);
        RV__F(tile_row)(a2[k], b, c2);
        RV__F(tile_row)(a3[k], b, c3);
        RV__F(tile_row)(a4[k], b, c4);
        RV__F(tile_row)(a5[k], b, c5);
    }
    RV__F(tile_store)(c0, out, nb, accumulate);
    if (na > 1) RV__F(tile_store)(c1, out + ldo, nb, accumulate);
    if (na > 2) RV__F(tile_store)(c2, out + 2 * ldo, nb, accumulate);
    if (na > 3) RV__F(tile_store)(c3, out + 3 * ldo, nb, accumulate);
    if (na > 4) RV__F(tile_store)(c4, out + 4 * ldo, nb, accumulate);
    if (na > 5) RV__F(tile_store)(c5, out + 5 * ldo, nb, accumulate);
}

RV__ISA static void RV__F(gemm_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, int accumulate, float *out, size_t ldo, void *scratch)
{
    float *packed = (float *)scratch;
    for (size_t k = 0; k < n || k == 0; k += RV__GEMM_DEPTH) {
        size_t depth = n - k < RV__GEMM_DEPTH ? n - k : RV__GEMM_DEPTH;
        for (size_t j = 0; j < nb; j += RV__COLS) {
            size_t cols = nb - j < RV__COLS ? nb - j : RV__COLS;
            RV__F(pack_f32)(b + j * ldb + k, ldb, cols, depth, packed);
            for (size_t i = 0; i < na; i += 6) {
                RV__F(tile_f32)(a + i * lda + k, lda, na - i < 6 ? na - i : 6, packed, cols, depth,
                                accumulate || k > 0, out + i * ldo + j, ldo);
            }
        }
    }
}

RV__ISA static void RV__F(gram_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, float *out, size_t ldo, void *scratch)
{
    RV__F(gemm_f32)(a, lda, na, b, ldb, nb, n, 0, out, ldo, scratch);
}

#undef RV__COLS
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_int.inl ===================================================================== */
/* Kernels over signed and unsigned bytes, nibbles, and bits times bytes: exact on every instruction
   set as long as a 32-bit sum holds them. */

/* ---- pairs ---- */

/* Bytes i .. n - 1, fewer than RV__BYTES, the rest zero, as a vector. */
RV__ISA RV__INLINE rv__vb RV__F(bytes_tail)(const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    return rv__btail(p + i, n - i);
#else
    unsigned char copy[RV__BYTES];
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + i, n - i);
    return rv__bload(copy);
#endif
}

/* Four quantities of two byte rows; what is a constant. */
RV__ISA RV__INLINE rv__vi RV__F(int_step)(int what, rv__vi acc, rv__vb a, rv__vb b)
{
    switch (what) {
    case RV__INT_DOT: return rv__bdot_any(acc, a, b);
    case RV__INT_L2: return rv__bl2_i8(acc, a, b);
    default: return rv__bl1_i8(acc, a, b);
    }
}

RV__ISA RV__INLINE int32_t RV__F(int_pair)(int what, const int8_t *a, const int8_t *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    const size_t B = RV__BYTES;
    rv__vi s0 = rv__iset(0), s1 = s0;
    size_t i = 0;
    for (; i + 2 * B <= n; i += 2 * B) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        s1 = RV__F(int_step)(what, s1, rv__bload(p + i + B), rv__bload(q + i + B));
    }
    if (i + B <= n) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        i += B;
    }
    if (i < n) s1 = RV__F(int_step)(what, s1, RV__F(bytes_tail)(p, i, n), RV__F(bytes_tail)(q, i, n));
    return rv__isum(rv__iadd(s0, s1));
}

RV__ISA static int32_t RV__F(dot_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static int32_t RV__F(l2sq_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L2, a, b, n);
}

RV__ISA static int32_t RV__F(l1_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L1, a, b, n);
}

/* out: a.b, a.a, b.b */
RV__ISA static void RV__F(cosine_i8)(const int8_t *a, const int8_t *b, size_t n, int32_t *out)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    rv__vi ab = rv__iset(0), aa = ab, bb = ab;
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload(p + i) : RV__F(bytes_tail)(p, i, n);
        rv__vb v = whole ? rv__bload(q + i) : RV__F(bytes_tail)(q, i, n);
        ab = rv__bdot_any(ab, u, v);
        aa = rv__bdot_any(aa, u, u);
        bb = rv__bdot_any(bb, v, v);
    }
    out[0] = rv__isum(ab);
    out[1] = rv__isum(aa);
    out[2] = rv__isum(bb);
}

RV__ISA RV__INLINE uint32_t RV__F(unsigned_pair)(int what, const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload_u(a + i) : RV__F(bytes_tail)(a, i, n);
        rv__vb v = whole ? rv__bload_u(b + i) : RV__F(bytes_tail)(b, i, n);
        s = what == RV__INT_DOT ? rv__bdot_u8(s, u, v) : rv__bl2_u8(s, u, v);
    }
    return (uint32_t)rv__isum(s);
}

RV__ISA static uint32_t RV__F(dot_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static uint32_t RV__F(l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_L2, a, b, n);
}

/* ---- one query against packed rows ---- */

/* The next 64 bytes of a row (bits: 64 / 8 of them, 64 elements), times the query. */
RV__ISA RV__INLINE rv__vi RV__F(code_step)(int code, rv__vi acc, const unsigned char *row, const int8_t *query)
{
    for (size_t j = 0; j < 64; j += RV__BYTES) {
        rv__vb r, q = rv__bload(query + j);
        if (code == RV__CODE_U1) {
            acc = rv__bdot_small(acc, rv__bbits(row, j), q);
        } else if (code == RV__CODE_U4) {
            r = rv__bload(row + j);
            acc = rv__bdot_small(acc, rv__blow(r), q);
            acc = rv__bdot_small(acc, rv__bhigh(r), rv__bload(query + 64 + j));
        } else {
            r = rv__bflip(rv__bload(row + j));
            acc = rv__bdot(acc, r, q);
        }
    }
    return acc;
}

/* All rows, four at a time; every row a multiple of 64 bytes (bits: of 8). bias: what the shift to
   unsigned bytes adds to each dot product. */
RV__ISA RV__INLINE void RV__F(code_scan)(int code, const int8_t *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n,
                                         size_t n_bytes, int32_t *out)
{
    const size_t step = code == RV__CODE_U1 ? 8 : 64, elements = code == RV__CODE_U4 ? 128 : 64;
    const size_t ahead = rv__rows_ahead(n_bytes);
    int32_t bias = 0;
    size_t i = 0, fetched = 0;
    if (RV__BIAS && code == RV__CODE_I8) {
        for (size_t j = 0; j < n_bytes; j++) bias += query[j];
        bias *= RV__BIAS;
    }
    for (; i < n; i += 4) {
        const size_t last = n - 1; /* a short group repeats its last row */
        const size_t i1 = i + 1 < n ? i + 1 : last, i2 = i + 2 < n ? i + 2 : last;
        const size_t i3 = i + 3 < n ? i + 3 : last;
        const unsigned char *r0 = rows + (ids ? ids[i] : i) * stride;
        const unsigned char *r1 = rows + (ids ? ids[i1] : i1) * stride;
        const unsigned char *r2 = rows + (ids ? ids[i2] : i2) * stride;
        const unsigned char *r3 = rows + (ids ? ids[i3] : i3) * stride;
        const int8_t *q = query;
        rv__vi s0 = rv__iset(0), s1 = s0, s2 = s0, s3 = s0;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, n_bytes);
            }
        }
        for (size_t j = 0; j < n_bytes; j += step, q += elements) {
            s0 = RV__F(code_step)(code, s0, r0 + j, q);
            s1 = RV__F(code_step)(code, s1, r1 + j, q);
            s2 = RV__F(code_step)(code, s2, r2 + j, q);
            s3 = RV__F(code_step)(code, s3, r3 + j, q);
        }
        out[i] = rv__isum(s0) - bias;
        out[i1] = rv__isum(s1) - bias;
        out[i2] = rv__isum(s2) - bias;
        out[i3] = rv__isum(s3) - bias;
    }
}

RV__ISA static void RV__F(dot_i8_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_I8, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u4_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U4, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u1_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U1, query, rows, stride, ids, n, n_bytes, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_code.inl ==================================================================== */
/* All dot products between two sets of byte rows, and the 4-bit fast scan. */

#define RV__COLS (RV__TILE * RV__LANES)
#define RV__WORDS(n) ((n) / RV__GROUP) /* 32-bit words of a packed row of n bytes */

/* Elements k .. k + RV__GROUP - 1 of a row as one word: four bytes, or two 16-bit numbers. */
RV__ISA RV__INLINE uint32_t RV__F(group)(const int8_t *row, size_t k)
{
#if RV__GROUP == 4
    return rv__load_u32(row + k);
#else
    return (uint32_t)(uint16_t)row[k] | (uint32_t)(uint16_t)row[k + 1] << 16;
#endif
}

/* Packs rows of b, at most RV__COLS of them: [words][RV__COLS]. */
RV__ISA static void RV__F(pack_i8)(const int8_t *b, size_t ldb, size_t nb, size_t n, uint32_t *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const int8_t *row = b + (j < nb ? j : 0) * ldb;
        for (size_t k = 0; k < RV__WORDS(n); k++) {
            packed[k * RV__COLS + j] = RV__F(group)(row, k * RV__GROUP) ^ RV__GROUP_FLIP;
        }
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_row)(uint32_t a, const rv__vi *b, rv__vi *c)
{
    rv__vi x = rv__iset((int32_t)a);
    c[0] = rv__gdot(c[0], b[0], x);
    c[1] = rv__gdot(c[1], b[1], x);
    if (RV__TILE == 4) {
        c[2 % RV__TILE] = rv__gdot(c[2 % RV__TILE], b[2 % RV__TILE], x);
        c[3 % RV__TILE] = rv__gdot(c[3 % RV__TILE], b[3 % RV__TILE], x);
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_store)(const rv__vi *c, int32_t bias, int32_t *out, size_t nb)
{
    int32_t lanes[RV__LANES];
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        rv__vi sum = rv__isub(c[j], rv__iset(bias));
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, rv__vfrom(sum));
        } else {
            rv__vstore(lanes, rv__vfrom(sum));
            for (size_t i = first; i < nb; i++) out[i] = lanes[i - first];
        }
    }
}

/* na <= 6 rows of A as words. */
RV__ISA static void RV__F(tile_i8)(const unsigned char *a, size_t lda, size_t na, const uint32_t *packed,
                                   size_t nb, size_t words, const int32_t *bias, int32_t *out, size_t ldo)
{
    const size_t last = na - 1;
    const unsigned char *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const unsigned char *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const unsigned char *a5 = a + last * lda;
    rv__vi c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__iset(0);
    }
    for (size_t k = 0; k < 4 * words; k += 4, packed += RV__COLS) {
        b[0] = rv__vbits(rv__vload(packed));
        b[1] = rv__vbits(rv__vload(packed + RV__LANES));
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vbits(rv__vload(packed + 2 * RV__LANES));
            b[3 % RV__TILE] = rv__vbits(rv__vload(packed + 3 * RV__LANES));
        }
        RV__F(code_tile_row)(rv__load_u32(a + k), b, c0);
        RV__F(code_tile_row)(rv__load_u32(a1 + k), b, c1);
        RV__F(code_tile_row)(rv__load_u32(a2 + k), b, c2);
        RV__F(code_tile_row)(rv__load_u32(a3 + k), b, c3);
        RV__F(code_tile_row)(rv__load_u32(a4 + k), b, c4);
        RV__F(code_tile_row)(rv__load_u32(a5 + k), b, c5);
    }
    RV__F(code_tile_store)(c0, bias[0], out, nb);
    if (na > 1) RV__F(code_tile_store)(c1, bias[1], out + ldo, nb);
    if (na > 2) RV__F(code_tile_store)(c2, bias[2], out + 2 * ldo, nb);
    if (na > 3) RV__F(code_tile_store)(c3, bias[3], out + 3 * ldo, nb);
    if (na > 4) RV__F(code_tile_store)(c4, bias[4], out + 4 * ldo, nb);
    if (na > 5) RV__F(code_tile_store)(c5, bias[5], out + 5 * ldo, nb);
}

RV__ISA RV__INLINE int32_t RV__F(sum_i8)(const int8_t *a, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t k = 0; k < n; k += RV__BYTES) s = rv__bdot_small(s, rv__bone(), rv__bload(a + k));
    return rv__isum(s);
}

/* The scratch holds six rows of A as 16-bit numbers (where the words are those), then B packed. */
RV__ISA static void RV__F(gram_i8)(const int8_t *a, size_t lda, size_t na, const int8_t *b, size_t ldb,
                                   size_t nb, size_t n, int32_t *out, size_t ldo, void *scratch)
{
    uint32_t *wide = (uint32_t *)scratch, *packed = wide + 6 * n / 2;
    const size_t words = RV__WORDS(n), panel = words * RV__COLS;
    for (size_t j = 0; j < nb; j += RV__COLS) {
        RV__F(pack_i8)(b + j * ldb, ldb, nb - j < RV__COLS ? nb - j : RV__COLS, n, packed + j / RV__COLS * panel);
    }
    for (size_t i = 0; i < na; i += 6) {
        const size_t rows = na - i < 6 ? na - i : 6;
        const unsigned char *tile = (const unsigned char *)(a + i * lda);
        size_t pitch = lda;
        int32_t bias[6] = {0, 0, 0, 0, 0, 0};
        if (RV__GROUP_FLIP) {
            for (size_t r = 0; r < rows; r++) bias[r] = 128 * RV__F(sum_i8)(a + (i + r) * lda, n);
        }
        if (RV__GROUP == 2) {
            for (size_t r = 0; r < rows; r++) {
                for (size_t k = 0; k < words; k++) {
                    wide[r * words + k] = RV__F(group)(a + (i + r) * lda, 2 * k);
                }
            }
            tile = (const unsigned char *)wide;
            pitch = 4 * words;
        }
        for (size_t j = 0; j < nb; j += RV__COLS) {
            RV__F(tile_i8)(tile, pitch, rows, packed + j / RV__COLS * panel,
                           nb - j < RV__COLS ? nb - j : RV__COLS, words, bias, out + i * ldo + j, ldo);
        }
    }
}

#undef RV__COLS
#undef RV__WORDS

/* ---- product codes of four bits ---- */

#if defined(RV__SCALAR)
static void rv__pq4_scan_scalar(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks, uint16_t *out)
{
    for (size_t b = 0; b < n_blocks; b++, codes += 16 * m, out += 32) {
        for (size_t i = 0; i < 32; i++) {
            uint32_t sum = 0;
            for (size_t s = 0; s < m; s++) {
                sum += lut[16 * s + ((codes[16 * s + i % 16] >> (i < 16 ? 0 : 4)) & 15u)];
            }
            out[i] = (uint16_t)(sum > 65535u ? 65535u : sum);
        }
    }
}
#else
/* Entries come from a byte shuffle; sums of 16 bits. The bytes at odd places are summed alone; the
   sum of all 16-bit words is even + 256 odd modulo 2^16, so that the even ones cost no masking.
   After 256 sub-quantizers (at most 65280) the sums move out, saturating. */
RV__ISA static void RV__F(pq4_scan)(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks,
                                    uint16_t *out)
{
    const size_t bytes = 16 * m;
    for (size_t block = 0; block < n_blocks; block++, codes += bytes, out += 32) {
        for (size_t begin = 0; begin < bytes || begin == 0; begin += 16 * 256) {
            const size_t end = bytes - begin < 16 * 256 ? bytes : begin + 16 * 256;
            rv__q low = rv__qzero(), low_odd = low, high = low, high_odd = low;
            for (size_t k = begin; k < end; k += RV__LOOK) {
                const int half = RV__LOOK == 64 && k + 64 > end;
                rv__q table = half ? rv__qload_half(lut + k) : rv__qload(lut + k);
                rv__q code = half ? rv__qload_half(codes + k) : rv__qload(codes + k);
                rv__q x = rv__qlook(table, rv__qlow(code)), y = rv__qlook(table, rv__qhigh(code));
                low = rv__qadd(low, x);
                low_odd = rv__qadd(low_odd, rv__qodd(x));
                high = rv__qadd(high, y);
                high_odd = rv__qadd(high_odd, rv__qodd(y));
            }
            RV__F(qfold)(rv__qeven(low, low_odd), low_odd, out, begin > 0);
            RV__F(qfold)(rv__qeven(high, high_odd), high_odd, out + 16, begin > 0);
        }
    }
}
#endif
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_bits.inl ==================================================================== */
/* Kernels over sets of bits, in whole bytes. */

RV__ISA RV__INLINE rv__vw RV__F(word)(const unsigned char *p, size_t i, size_t n)
{
    if (i + RV__WORD <= n) return rv__wload(p + i);
#if defined(RV__MASKED)
    return rv__wtail(p + i, n - i);
#else
    {
        unsigned char copy[RV__WORD];
        memset(copy, 0, sizeof copy);
        memcpy(copy, p + i, n - i);
        return rv__wload(copy);
    }
#endif
}

/* Bits that differ. */
RV__ISA static uint32_t RV__F(hamming)(const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vp s = rv__pzero();
    for (size_t i = 0; i < n; i += RV__WORD) {
        s = rv__wpop(s, rv__wxor(RV__F(word)(a, i, n), RV__F(word)(b, i, n)));
    }
    return (uint32_t)rv__psum(s);
}

/* counts: bits in both, bits in either. */
RV__ISA static void RV__F(overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts)
{
    rv__vp both = rv__pzero(), either = both;
    for (size_t i = 0; i < n; i += RV__WORD) {
        rv__vw u = RV__F(word)(a, i, n), v = RV__F(word)(b, i, n);
        both = rv__wpop(both, rv__wand(u, v));
        either = rv__wpop(either, rv__wor(u, v));
    }
    counts[0] = (uint32_t)rv__psum(both);
    counts[1] = (uint32_t)rv__psum(either);
}

RV__ISA RV__INLINE void RV__F(bit_scan)(int jaccard, const void *query, const unsigned char *rows,
                                        size_t stride, const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t bytes = (dim + 7) / 8, ahead = rv__rows_ahead(bytes);
    uint32_t counts[2];
    size_t fetched = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 1 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        if (jaccard) {
            RV__F(overlap)(q, row, bytes, counts);
            out[i] = rv__jaccard_finish(counts[0], counts[1]);
        } else {
            out[i] = (float)RV__F(hamming)(q, row, bytes);
        }
    }
}

RV__ISA static void RV__F(scan_hamming)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(0, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_jaccard)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(1, query, rows, stride, ids, n, dim, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/simd_end.inl ======================================================================== */
/* Ends one expansion: takes the vocabulary back. */
#undef RV__F
#undef RV__ISA
#undef RV__SCALAR
#undef RV__MASKED
#undef RV__ALL16
#undef RV__LANES
#undef RV__BYTES
#undef RV__WORD
#undef RV__TILE
#undef RV__LOOK
#undef RV__GROUP
#undef RV__GROUP_FLIP
#undef RV__BIAS
#undef RV__VNNI
#undef RV__POPCNT512
#undef RV__DOTPROD
#undef rv__v
#undef rv__vi
#undef rv__vb
#undef rv__vw
#undef rv__vp
#undef rv__vzero
#undef rv__vset
#undef rv__vadd
#undef rv__vsub
#undef rv__vmul
#undef rv__vdiv
#undef rv__vfma
#undef rv__vmax
#undef rv__vmin
#undef rv__vsum
#undef rv__vmaximum
#undef rv__vround
#undef rv__vfloat
#undef rv__vbits
#undef rv__vfrom
#undef rv__vpick
#undef rv__vless
#undef rv__vmask
#undef rv__iset
#undef rv__iadd
#undef rv__isub
#undef rv__iand
#undef rv__ior
#undef rv__ishl
#undef rv__isar
#undef rv__igreater
#undef rv__isum
#undef rv__vload
#undef rv__vstore
#undef rv__vload_tail
#undef rv__vstore_tail
#undef rv__vload_f16
#undef rv__vload_bf16
#undef rv__vload_i8
#undef rv__vtail_f16
#undef rv__vtail_bf16
#undef rv__vtail_i8
#undef rv__vkeep_last
#undef rv__vabs
#undef rv__vmaxbits
#undef rv__vstore_f16
#undef rv__istore_top16
#undef rv__istore_i8
#undef rv__bload
#undef rv__bload_u
#undef rv__btail
#undef rv__blow
#undef rv__bhigh
#undef rv__bbits
#undef rv__bflip
#undef rv__bdot
#undef rv__bone
#undef rv__gdot
#undef rv__bdot_small
#undef rv__bdot_any
#undef rv__bdot_u8
#undef rv__bl2_i8
#undef rv__bl2_u8
#undef rv__bl1_i8
#undef rv__wload
#undef rv__wtail
#undef rv__wand
#undef rv__wor
#undef rv__wxor
#undef rv__pzero
#undef rv__psum
#undef rv__wpop
#undef rv__q
#undef rv__qzero
#undef rv__qload
#undef rv__qload_half
#undef rv__qlow
#undef rv__qhigh
#undef rv__qlook
#undef rv__qadd
#undef rv__qodd
#undef rv__qeven
/* ==== src/simd.c, continued =================================================================== */

#if defined(RV__X86)
/* ==== src/simd_avx2.inl ======================================================================= */
/* Vocabulary of AVX2 with FMA and F16C. */

#define RV__F(name) rv__##name##_avx2
#define RV__ISA RV__TARGET("avx2,fma,f16c")
#define RV__LANES 8u
#define RV__BYTES 32u
#define RV__WORD 32u
#define RV__TILE 2u
#define RV__LOOK 32u
#define rv__v __m256
#define rv__vi __m256i
#define rv__vb __m256i
#define rv__vw __m256i
#define rv__vp __m256i
#define rv__q __m256i

#define rv__vzero() _mm256_setzero_ps()
#define rv__vset(x) _mm256_set1_ps(x)
#define rv__vadd(a, b) _mm256_add_ps((a), (b))
#define rv__vsub(a, b) _mm256_sub_ps((a), (b))
#define rv__vmul(a, b) _mm256_mul_ps((a), (b))
#define rv__vdiv(a, b) _mm256_div_ps((a), (b))
#define rv__vfma(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define rv__vmax(a, b) _mm256_max_ps((a), (b))
#define rv__vmin(a, b) _mm256_min_ps((a), (b))
#define rv__vround(a) \
    _mm256_cvtps_epi32(_mm256_round_ps((a), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
#define rv__vfloat(a) _mm256_cvtepi32_ps(a)
#define rv__vbits(a) _mm256_castps_si256(a)
#define rv__vfrom(a) _mm256_castsi256_ps(a)
#define rv__vpick(mask, a, b) _mm256_blendv_ps((b), (a), _mm256_castsi256_ps(mask))
#define rv__vless(a, b) _mm256_castps_si256(_mm256_cmp_ps((a), (b), _CMP_LT_OQ))
#define rv__vmask(less) ((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(less)))
#define rv__iset(x) _mm256_set1_epi32(x)
#define rv__iadd(a, b) _mm256_add_epi32((a), (b))
#define rv__isub(a, b) _mm256_sub_epi32((a), (b))
#define rv__iand(a, b) _mm256_and_si256((a), (b))
#define rv__ior(a, b) _mm256_or_si256((a), (b))
#define rv__ishl(a, n) _mm256_slli_epi32((a), (n))
#define rv__isar(a, n) _mm256_srai_epi32((a), (n))
#define rv__igreater(a, b) _mm256_cmpgt_epi32((a), (b))
#define rv__isum(a) RV__F(isum)(a)
#define rv__vsum(a) RV__F(vsum)(a)
#define rv__vmaximum(a) RV__F(vmaximum)(a)
#define rv__vload(p) _mm256_loadu_ps((const float *)(const void *)(p))
#define rv__vstore(p, a) _mm256_storeu_ps((float *)(void *)(p), (a))
#define rv__vload_tail(p, n) _mm256_maskload_ps((const float *)(const void *)(p), RV__F(mask)(n))
#define rv__vstore_tail(p, a, n) _mm256_maskstore_ps((float *)(void *)(p), RV__F(mask)(n), (a))
#define rv__vload_f16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define rv__vload_bf16(p) \
    _mm256_castsi256_ps(_mm256_slli_epi32( \
        _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))), 16))
#define rv__vload_i8(p) \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define rv__vkeep_last(a, n) _mm256_andnot_ps(_mm256_castsi256_ps(RV__F(mask)(8 - (n))), (a))
#define rv__vabs(a) _mm256_and_ps((a), _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)))
#define rv__vmaxbits(a, b) \
    _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)))
#define rv__vstore_f16(p, a) \
    _mm_storeu_si128((__m128i *)(void *)(p), _mm256_cvtps_ph((a), _MM_FROUND_TO_NEAREST_INT))
#define rv__istore_top16(p, a) RV__F(store_top16)((p), (a))
#define rv__istore_i8(p, a) RV__F(store_i8)((p), (a))

/* Ones in the first n of 8 lanes. */
RV__ISA RV__INLINE __m256i RV__F(mask)(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

RV__ISA RV__INLINE float RV__F(vsum)(__m256 a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

RV__ISA RV__INLINE int32_t RV__F(isum)(__m256i a)
{
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* Of magnitudes, through their bits. */
RV__ISA RV__INLINE float RV__F(vmaximum)(__m256 a)
{
    __m256i b = _mm256_castps_si256(a);
    __m128i x = _mm_max_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return rv__from_bits_f32(_mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1))));
}

RV__ISA RV__INLINE void RV__F(store_top16)(void *p, __m256i a)
{
    __m256i x = _mm256_srli_epi32(a, 16);
    x = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(x));
}

RV__ISA RV__INLINE void RV__F(store_i8)(void *p, __m256i a)
{
    __m128i x = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(x, x));
}

/* ---- bytes ---- */

#define rv__bload(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define rv__bload_u(p) rv__bload(p)
#define rv__bone() _mm256_set1_epi8(1)
#define rv__blow(a) _mm256_and_si256((a), _mm256_set1_epi8(15))
#define rv__bhigh(a) _mm256_and_si256(_mm256_srli_epi16((a), 4), _mm256_set1_epi8(15))
#define rv__bbits(p, j) RV__F(v_bits)((p) + ((j) >> 3))
#define rv__bflip(a) (a)
#define RV__BIAS 0
#define rv__bdot(acc, r, q) RV__F(v_dot)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot_small)((acc), (r), (q))
#define rv__bdot_any(acc, a, b) RV__F(v_dot_any)((acc), (a), (b))
#define rv__bdot_u8(acc, a, b) RV__F(v_dot_u8)((acc), (a), (b))
#define rv__bl2_i8(acc, a, b) RV__F(v_l2_i8)((acc), (a), (b))
#define rv__bl2_u8(acc, a, b) RV__F(v_l2_u8)((acc), (a), (b))
#define rv__bl1_i8(acc, a, b) RV__F(v_l1_i8)((acc), (a), (b))
#define RV__GROUP 2u
#define RV__GROUP_FLIP 0u
#define rv__gdot(acc, b, a) _mm256_add_epi32((acc), _mm256_madd_epi16((b), (a)))

/* 32 bits as bytes of 0 and 1. */
RV__ISA RV__INLINE __m256i RV__F(v_bits)(const unsigned char *p)
{
    const __m256i place = _mm256_setr_epi64x(0, 0x0101010101010101LL, 0x0202020202020202LL, 0x0303030303030303LL);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi32((int)rv__load_u32(p)), place);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit), _mm256_set1_epi8(1));
}

RV__ISA RV__INLINE __m256i RV__F(v_pairs)(__m256i acc, __m256i pairs)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* |r| <= 128 as an unsigned byte, |q| <= 127: two products stay below 2^15. */
RV__ISA RV__INLINE __m256i RV__F(v_dot)(__m256i acc, __m256i r, __m256i q)
{
    return RV__F(v_pairs)(acc, _mm256_maddubs_epi16(_mm256_abs_epi8(r), _mm256_sign_epi8(q, r)));
}

RV__ISA RV__INLINE __m256i RV__F(v_dot_small)(__m256i acc, __m256i r, __m256i q)
{
    return RV__F(v_pairs)(acc, _mm256_maddubs_epi16(r, q));
}

RV__ISA RV__INLINE __m256i RV__F(v_dot_any)(__m256i acc, __m256i a, __m256i b)
{
    __m256i a0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(a)), a1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(a, 1));
    __m256i b0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(b)), b1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(b, 1));
    return _mm256_add_epi32(acc, _mm256_add_epi32(_mm256_madd_epi16(a0, b0), _mm256_madd_epi16(a1, b1)));
}

RV__ISA RV__INLINE __m256i RV__F(v_dot_u8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i zero = _mm256_setzero_si256();
    __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi8(a, zero), _mm256_unpacklo_epi8(b, zero));
    __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi8(a, zero), _mm256_unpackhi_epi8(b, zero));
    return _mm256_add_epi32(acc, _mm256_add_epi32(low, high));
}

RV__ISA RV__INLINE __m256i RV__F(v_l2_u8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i d = _mm256_or_si256(_mm256_subs_epu8(a, b), _mm256_subs_epu8(b, a));
    return RV__F(v_dot_u8)(acc, d, d);
}

RV__ISA RV__INLINE __m256i RV__F(v_l2_i8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i flip = _mm256_set1_epi8(-128);
    return RV__F(v_l2_u8)(acc, _mm256_xor_si256(a, flip), _mm256_xor_si256(b, flip));
}

RV__ISA RV__INLINE __m256i RV__F(v_l1_i8)(__m256i acc, __m256i a, __m256i b)
{
    __m256i flip = _mm256_set1_epi8(-128);
    return _mm256_add_epi32(acc, _mm256_sad_epu8(_mm256_xor_si256(a, flip), _mm256_xor_si256(b, flip)));
}

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() _mm256_setzero_si256()
#define rv__qload(p) rv__bload(p)
#define rv__qload_half(p) rv__bload(p)
#define rv__qlow(a) rv__blow(a)
#define rv__qhigh(a) rv__bhigh(a)
#define rv__qlook(table, index) _mm256_shuffle_epi8((table), (index))
#define rv__qadd(a, b) _mm256_add_epi16((a), (b))
#define rv__qodd(a) _mm256_srli_epi16((a), 8)
#define rv__qeven(all, odd) _mm256_sub_epi16((all), _mm256_slli_epi16((odd), 8))

RV__ISA RV__INLINE void RV__F(qfold)(__m256i even, __m256i odd, uint16_t *out, int add)
{
    __m256i low = _mm256_unpacklo_epi16(even, odd), high = _mm256_unpackhi_epi16(even, odd);
    __m256i sum = _mm256_adds_epu16(_mm256_permute2x128_si256(low, high, 0x20),
                                    _mm256_permute2x128_si256(low, high, 0x31));
    if (add) sum = _mm256_adds_epu16(sum, rv__bload(out));
    _mm256_storeu_si256((__m256i *)(void *)out, sum);
}

/* ---- bits ---- */

#define rv__wload(p) rv__bload(p)
#define rv__wand(a, b) _mm256_and_si256((a), (b))
#define rv__wor(a, b) _mm256_or_si256((a), (b))
#define rv__wxor(a, b) _mm256_xor_si256((a), (b))
#define rv__pzero() _mm256_setzero_si256()
#define rv__wpop(acc, x) RV__F(v_pop)((acc), (x))
#define rv__psum(acc) ((uint32_t)RV__F(isum)(acc)) /* sums below 2^32: the upper halves are zero */

/* Mula, Kurz, Lemire, Faster population counts using AVX2 instructions, 2018: nibbles by table. */
RV__ISA RV__INLINE __m256i RV__F(v_pop)(__m256i acc, __m256i x)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                           0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    __m256i low = _mm256_shuffle_epi8(table, rv__blow(x)), high = _mm256_shuffle_epi8(table, rv__bhigh(x));
    return _mm256_add_epi64(acc, _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256()));
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_float.inl =================================================================== */
/* Kernels over floating point rows, written once and expanded for every instruction set. op and type
   are constants at every call, so that of each switch one branch survives. */

/* Elements i .. i + LANES - 1 of a row as floats. */
RV__ISA RV__INLINE rv__v RV__F(get)(int type, const unsigned char *p, size_t i)
{
    switch (type) {
    case RV__TYPE_F16: return rv__vload_f16(p + 2 * i);
    case RV__TYPE_BF16: return rv__vload_bf16(p + 2 * i);
    case RV__TYPE_I8: return rv__vload_i8(p + i);
    default: return rv__vload(p + 4 * i);
    }
}

/* Elements i .. n - 1, fewer than LANES, with zeros in the other lanes. Two rows of one length n
   agree on the lanes, whatever their types. */
RV__ISA RV__INLINE rv__v RV__F(get_tail)(int type, const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    switch (type) {
    case RV__TYPE_F16: return rv__vtail_f16(p + 2 * i, n - i);
    case RV__TYPE_BF16: return rv__vtail_bf16(p + 2 * i, n - i);
    case RV__TYPE_I8: return rv__vtail_i8(p + i, n - i);
    default: return rv__vload_tail(p + 4 * i, n - i);
    }
#else
    const size_t size = type == RV__TYPE_F32 ? 4 : type == RV__TYPE_I8 ? 1 : 2;
    unsigned char copy[4 * RV__LANES];
    if (n >= RV__LANES) return rv__vkeep_last(RV__F(get)(type, p, n - RV__LANES), n - i);
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + size * i, size * (n - i));
    return RV__F(get)(type, copy, 0);
#endif
}

/* One more term of the sum (or maximum) that the distance is made of. */
RV__ISA RV__INLINE rv__v RV__F(step)(int op, rv__v acc, rv__v a, rv__v b)
{
    rv__v d;
    if (op == RV__OP_IP || op == RV__OP_COSINE || op == RV__OP_DOT) return rv__vfma(a, b, acc);
    d = rv__vsub(a, b);
    if (op == RV__OP_L2) return rv__vfma(d, d, acc);
    if (op == RV__OP_L1) return rv__vadd(acc, rv__vabs(d));
    return rv__vmaxbits(acc, rv__vabs(d)); /* NaN is the largest magnitude */
}

RV__ISA RV__INLINE rv__v RV__F(join)(int op, rv__v a, rv__v b)
{
    return op == RV__OP_LINF ? rv__vmaxbits(a, b) : rv__vadd(a, b);
}

RV__ISA RV__INLINE float RV__F(fold)(int op, rv__v a)
{
    return op == RV__OP_LINF ? rv__vmaximum(a) : rv__vsum(a);
}

/* a and b of types ta and tb; for I8, scale is that of b. aa: squared length of a if known (cosine
   of a query against rows), negative if not. */
RV__ISA RV__INLINE float RV__F(one)(int op, int ta, int tb, const unsigned char *a,
                                    const unsigned char *b, float scale, size_t n, float aa)
{
    const size_t L = RV__LANES;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, x0 = s0, x1 = s0, y0 = s0, y1 = s0;
    rv__v u, v, factor = rv__vset(scale);
    float sum;
    size_t i = 0;
    if (op == RV__OP_COSINE) {
        for (; i + 2 * L <= n; i += 2 * L) {
            u = RV__F(get)(ta, a, i);
            v = RV__F(get)(tb, b, i);
            s0 = rv__vfma(u, v, s0);
            x0 = rv__vfma(u, u, x0);
            y0 = rv__vfma(v, v, y0);
            u = RV__F(get)(ta, a, i + L);
            v = RV__F(get)(tb, b, i + L);
            s1 = rv__vfma(u, v, s1);
            x1 = rv__vfma(u, u, x1);
            y1 = rv__vfma(v, v, y1);
        }
    } else {
        for (; i + 4 * L <= n; i += 4 * L) {
            v = RV__F(get)(tb, b, i);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s0 = RV__F(step)(op, s0, RV__F(get)(ta, a, i), v);
            v = RV__F(get)(tb, b, i + L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s1 = RV__F(step)(op, s1, RV__F(get)(ta, a, i + L), v);
            v = RV__F(get)(tb, b, i + 2 * L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s2 = RV__F(step)(op, s2, RV__F(get)(ta, a, i + 2 * L), v);
            v = RV__F(get)(tb, b, i + 3 * L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s3 = RV__F(step)(op, s3, RV__F(get)(ta, a, i + 3 * L), v);
        }
    }
    for (; i < n; i += L) {
        if (i + L <= n) {
            u = RV__F(get)(ta, a, i);
            v = RV__F(get)(tb, b, i);
        } else {
            u = RV__F(get_tail)(ta, a, i, n);
            v = RV__F(get_tail)(tb, b, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(u, v, s0);
            x0 = rv__vfma(u, u, x0);
            y0 = rv__vfma(v, v, y0);
        } else {
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s0 = RV__F(step)(op, s0, u, v);
        }
    }
    sum = RV__F(fold)(op, RV__F(join)(op, RV__F(join)(op, s0, s1), RV__F(join)(op, s2, s3)));
    if (op != RV__OP_COSINE) return op == RV__OP_IP ? -sum : sum;
    if (aa < 0.0f) aa = rv__vsum(rv__vadd(x0, x1));
    return rv__cosine_finish(ta, tb, a, b, scale, n, sum, aa, rv__vsum(rv__vadd(y0, y1)));
}

/* Four rows against one query. The loads of the query are shared, and four rows of memory are on
   their way at once. */
RV__ISA RV__INLINE void RV__F(four)(int op, int type, const unsigned char *query,
                                    const unsigned char *const *rows, size_t n, float qq, float *out)
{
    const size_t L = RV__LANES, head = type == RV__TYPE_I8 ? 4 : 0;
    const unsigned char *r0 = rows[0] + head, *r1 = rows[1] + head;
    const unsigned char *r2 = rows[2] + head, *r3 = rows[3] + head;
    float f0 = 1.0f, f1 = 1.0f, f2 = 1.0f, f3 = 1.0f;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    rv__v g0 = s0, g1 = s0, g2 = s0, g3 = s0, q, v0, v1, v2, v3;
    size_t i = 0, half = 0;
    if (type == RV__TYPE_I8) {
        memcpy(&f0, rows[0], 4);
        memcpy(&f1, rows[1], 4);
        memcpy(&f2, rows[2], 4);
        memcpy(&f3, rows[3], 4);
        g0 = rv__vset(f0);
        g1 = rv__vset(f1);
        g2 = rv__vset(f2);
        g3 = rv__vset(f3);
    }
    for (; i < n; i += L, half ^= 1) {
        if (i + L <= n) {
            q = RV__F(get)(RV__TYPE_F32, query, i);
            v0 = RV__F(get)(type, r0, i);
            v1 = RV__F(get)(type, r1, i);
            v2 = RV__F(get)(type, r2, i);
            v3 = RV__F(get)(type, r3, i);
        } else {
            q = RV__F(get_tail)(RV__TYPE_F32, query, i, n);
            v0 = RV__F(get_tail)(type, r0, i, n);
            v1 = RV__F(get_tail)(type, r1, i, n);
            v2 = RV__F(get_tail)(type, r2, i, n);
            v3 = RV__F(get_tail)(type, r3, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(q, v0, s0);
            t0 = rv__vfma(v0, v0, t0);
            s1 = rv__vfma(q, v1, s1);
            t1 = rv__vfma(v1, v1, t1);
            s2 = rv__vfma(q, v2, s2);
            t2 = rv__vfma(v2, v2, t2);
            s3 = rv__vfma(q, v3, s3);
            t3 = rv__vfma(v3, v3, t3);
            continue;
        }
        if (type == RV__TYPE_I8) {
            v0 = rv__vmul(v0, g0);
            v1 = rv__vmul(v1, g1);
            v2 = rv__vmul(v2, g2);
            v3 = rv__vmul(v3, g3);
        }
        s0 = RV__F(step)(op, s0, q, v0);
        s1 = RV__F(step)(op, s1, q, v1);
        s2 = RV__F(step)(op, s2, q, v2);
        s3 = RV__F(step)(op, s3, q, v3);
    }
    out[0] = RV__F(fold)(op, s0);
    out[1] = RV__F(fold)(op, s1);
    out[2] = RV__F(fold)(op, s2);
    out[3] = RV__F(fold)(op, s3);
    if (op == RV__OP_IP) {
        for (i = 0; i < 4; i++) out[i] = -out[i];
    }
    if (op == RV__OP_COSINE) {
        out[0] = rv__cosine_finish(RV__TYPE_F32, type, query, r0, f0, n, out[0], qq, rv__vsum(t0));
        out[1] = rv__cosine_finish(RV__TYPE_F32, type, query, r1, f1, n, out[1], qq, rv__vsum(t1));
        out[2] = rv__cosine_finish(RV__TYPE_F32, type, query, r2, f2, n, out[2], qq, rv__vsum(t2));
        out[3] = rv__cosine_finish(RV__TYPE_F32, type, query, r3, f3, n, out[3], qq, rv__vsum(t3));
    }
}

/* See rv__scan_fn. Rows named by ids are prefetched RV__AHEAD bytes ahead. */
RV__ISA RV__INLINE void RV__F(scan)(int op, int type, const void *query, const unsigned char *rows,
                                    size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                    float *out)
{
    const unsigned char *q = (const unsigned char *)query, *four[4];
    const size_t bytes = type == RV__TYPE_F32 ? 4 * dim : type == RV__TYPE_I8 ? dim + 4 : 2 * dim;
    const size_t ahead = rv__rows_ahead(bytes);
    float scale = 1.0f, qq = 0.0f;
    size_t i = 0, fetched = 0;
    if (op == RV__OP_COSINE) {
        qq = RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, q, q, 1.0f, dim, 0.0f);
    }
    for (; i + 4 <= n; i += 4) {
        for (size_t j = 0; j < 4; j++) four[j] = rows + (ids ? ids[i + j] : i + j) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        RV__F(four)(op, type, q, four, dim, qq, out + i);
    }
    for (; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (type == RV__TYPE_I8) memcpy(&scale, row, 4);
        out[i] = RV__F(one)(op, RV__TYPE_F32, type, q, row + (type == RV__TYPE_I8 ? 4 : 0), scale, dim, qq);
    }
}

/* ---- the instances ---- */

RV__ISA static void RV__F(scan_l2_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_dot_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_DOT, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static float RV__F(pair_l2_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_array.inl =================================================================== */
/* Kernels over arrays: updates, conversions, elementary functions, written once and expanded for
   every instruction set. */

RV__ISA static void RV__F(axpy_f32)(float alpha, const float *x, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vfma(a, rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(y + i, rv__vfma(a, rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)), n - i);
    }
}

RV__ISA static void RV__F(scale_f32)(float alpha, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(y + i, rv__vmul(a, rv__vload(y + i)));
    if (i < n) rv__vstore_tail(y + i, rv__vmul(a, rv__vload_tail(y + i, n - i)), n - i);
}

RV__ISA static void RV__F(add_f32)(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vadd(rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(y + i, rv__vadd(rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)), n - i);
    }
}

/* Index of the first value below bound from `begin` on, n when there is none. */
RV__ISA static size_t RV__F(find_below)(const float *x, size_t begin, size_t n, float bound)
{
    rv__v b = rv__vset(bound);
    size_t i = begin;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        if (rv__vmask(rv__vless(rv__vload(x + i), b))) break;
    }
    while (i < n && !rv__below(rv__load_f32(x + i), bound)) i++;
    return i;
}

/* ---- conversion ---- */

RV__ISA static void RV__F(widen_f16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_f16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__f16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_bf16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_bf16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__bf16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_i8)(const int8_t *src, float scale, float *dst, size_t n)
{
    rv__v s = rv__vset(scale);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vmul(s, rv__vload_i8(src + i)));
    for (; i < n; i++) rv__store_f32(dst + i, (float)src[i] * scale);
}

RV__ISA static void RV__F(narrow_f16)(const float *src, uint16_t *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore_f16(dst + i, rv__vload(src + i));
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_f16(rv__load_f32(src + i)));
}

/* Round to nearest even on the integer pattern; a NaN keeps its sign and leading payload. */
RV__ISA static void RV__F(narrow_bf16)(const float *src, uint16_t *dst, size_t n)
{
    const rv__vi half = rv__iset(0x7FFF), one = rv__iset(1), magnitude = rv__iset(0x7FFFFFFF);
    const rv__vi infinity = rv__iset(0x7F800000), quiet = rv__iset(0x00400000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vi x = rv__vbits(rv__vload(src + i)), top = rv__isar(x, 16);
        rv__vi round = rv__iadd(x, rv__iadd(half, rv__iand(top, one)));
        rv__vi bits = rv__vbits(rv__vpick(rv__igreater(rv__iand(x, magnitude), infinity),
                                          rv__vfrom(rv__ior(x, quiet)), rv__vfrom(round)));
        rv__istore_top16(dst + i, bits);
    }
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_bf16(rv__load_f32(src + i)));
}

RV__ISA static void RV__F(narrow_i8)(const float *src, float scale, int8_t *dst, size_t n)
{
    const rv__v s = rv__vset(scale), top = rv__vset(127.0f), bottom = rv__vset(-127.0f);
    const rv__vi magnitude = rv__iset(0x7FFFFFFF), infinity = rv__iset(0x7F800000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__v x = rv__vmul(rv__vload(src + i), s);
        x = rv__vpick(rv__igreater(rv__iand(rv__vbits(x), magnitude), infinity), rv__vzero(), x);
        rv__istore_i8(dst + i, rv__vround(rv__vmax(rv__vmin(x, top), bottom)));
    }
    for (; i < n; i++) dst[i] = rv__f32_i8(rv__load_f32(src + i) * scale);
}

/* ---- elementary functions ---- */

/* Keeps -ffast-math from merging what stands on either side. */
RV__ISA RV__INLINE rv__v RV__F(keep)(rv__v x)
{
#if defined(__FAST_MATH__) && defined(__GNUC__)
    __asm__("" : "+m"(x));
#endif
    return x;
}

/* 2^n for n in -126 .. 127. */
RV__ISA RV__INLINE rv__v RV__F(pow2)(rv__vi n)
{
    return rv__vfrom(rv__ishl(rv__iadd(n, rv__iset(127)), 23));
}

/* a where x is not NaN, else x itself. Looks at bits: comparisons vanish under -ffast-math. */
RV__ISA RV__INLINE rv__v RV__F(unless_nan)(rv__v x, rv__v a)
{
    rv__vi magnitude = rv__iand(rv__vbits(x), rv__iset(0x7FFFFFFF));
    return rv__vpick(rv__igreater(magnitude, rv__iset(0x7F800000)), x, a);
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 P(r), P minimax for the relative error;
   2^n in two factors, so that results below the normal range come out too. */
RV__ISA RV__INLINE rv__v RV__F(v_exp)(rv__v x)
{
    rv__v within = rv__vmin(rv__vmax(x, rv__vset(-104.0f)), rv__vset(89.0f));
    rv__vi n = rv__vround(rv__vmul(within, rv__vset(1.44269504f))), n0 = rv__isar(n, 1);
    rv__v f = rv__vfloat(n), r, p;
    r = rv__vfma(f, rv__vset(-0.693359375f), within); /* exact: few bits */
    r = rv__vfma(f, rv__vset(2.12194440e-4f), RV__F(keep)(r));
    p = rv__vset(0.000197402478f);
    p = rv__vfma(p, r, rv__vset(0.00139350793f));
    p = rv__vfma(p, r, rv__vset(0.00833357032f));
    p = rv__vfma(p, r, rv__vset(0.041666463f));
    p = rv__vfma(p, r, rv__vset(0.166666657f));
    p = rv__vfma(p, r, rv__vset(0.5f));
    p = rv__vadd(rv__vfma(rv__vmul(r, r), p, r), rv__vset(1.0f));
    p = rv__vmul(rv__vmul(p, RV__F(pow2)(n0)), RV__F(pow2)(rv__isub(n, n0)));
    return RV__F(unless_nan)(x, p);
}

/* x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2 / 2 + f^3 P(f). */
RV__ISA RV__INLINE rv__v RV__F(v_log)(rv__v x)
{
    const rv__vi low = rv__iset(0x3F3504F3); /* sqrt(1/2) */
    rv__vi bits = rv__vbits(x), magnitude = rv__iand(bits, rv__iset(0x7FFFFFFF)), e;
    rv__v small = rv__vmul(x, rv__vset(8388608.0f)), f, p, g, ff, nan;
    rv__vi is_small = rv__vbits(rv__vpick(rv__igreater(rv__iset(0x00800000), bits), small, x));
    e = rv__isar(rv__isub(is_small, low), 23);
    f = rv__vfrom(rv__iadd(rv__iand(rv__isub(is_small, low), rv__iset(0x007FFFFF)), low));
    f = rv__vsub(f, rv__vset(1.0f));
    g = rv__vfloat(e);
    g = rv__vpick(rv__igreater(rv__iset(0x00800000), bits), rv__vsub(g, rv__vset(23.0f)), g);
    p = rv__vset(0.0674919188f);
    p = rv__vfma(p, f, rv__vset(-0.116700254f));
    p = rv__vfma(p, f, rv__vset(0.118835375f));
    p = rv__vfma(p, f, rv__vset(-0.124062397f));
    p = rv__vfma(p, f, rv__vset(0.142203599f));
    p = rv__vfma(p, f, rv__vset(-0.166679889f));
    p = rv__vfma(p, f, rv__vset(0.200020716f));
    p = rv__vfma(p, f, rv__vset(-0.250000089f));
    p = rv__vfma(p, f, rv__vset(0.333333135f));
    ff = rv__vmul(f, f);
    p = rv__vmul(rv__vmul(ff, f), p);
    p = rv__vfma(g, rv__vset(-2.12194440e-4f), p);
    p = rv__vfma(ff, rv__vset(-0.5f), p);
    p = rv__vfma(g, rv__vset(0.693359375f), RV__F(keep)(rv__vadd(f, p)));
    nan = rv__vfrom(rv__iset(0x7FC00000));
    p = rv__vpick(rv__igreater(rv__iset(0), bits), nan, p);
    p = rv__vpick(rv__igreater(rv__iset(1), magnitude), rv__vfrom(rv__iset((int32_t)0xFF800000u)), p);
    p = rv__vpick(rv__igreater(bits, rv__iset(0x7F7FFFFF)), x, p);
    return RV__F(unless_nan)(x, p);
}

RV__ISA RV__INLINE rv__v RV__F(with_sign)(rv__v magnitude, rv__v x)
{
    return rv__vfrom(rv__ior(rv__vbits(magnitude), rv__iand(rv__vbits(x), rv__iset((int32_t)0x80000000u))));
}

/* x + x^3 P(x^2) below 0.625, else 1 - 2 / (exp(2 |x|) + 1). */
RV__ISA RV__INLINE rv__v RV__F(v_tanh)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, large;
    p = rv__vset(-0.0056922962f);
    p = rv__vfma(p, z, rv__vset(0.0206281673f));
    p = rv__vfma(p, z, rv__vset(-0.0537365153f));
    p = rv__vfma(p, z, rv__vset(0.133314058f));
    p = rv__vfma(p, z, rv__vset(-0.333332807f));
    p = rv__vfma(rv__vmul(p, z), x, x);
    large = rv__vmin(t, rv__vset(10.0f)); /* tanh is 1 from 9.02 on */
    large = rv__vadd(RV__F(v_exp)(rv__vadd(large, large)), rv__vset(1.0f));
    large = RV__F(with_sign)(rv__vsub(rv__vset(1.0f), rv__vdiv(rv__vset(2.0f), large)), x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.625f)), p, large));
}

/* With e = exp(-|x|): 1 / (1 + e) or, for negative x, e / (1 + e), small results included. */
RV__ISA RV__INLINE rv__v RV__F(v_sigmoid)(rv__v x)
{
    rv__v one = rv__vset(1.0f), e = RV__F(v_exp)(rv__vsub(rv__vzero(), rv__vabs(x)));
    rv__v top = rv__vpick(rv__vless(x, rv__vzero()), e, one);
    return RV__F(unless_nan)(x, rv__vdiv(top, rv__vadd(one, e)));
}

/* x + x P(x^2) below 0.92, else 1 - exp(Q(|x|)) with Q the minimax polynomial of log erfc. */
RV__ISA RV__INLINE rv__v RV__F(v_erf)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, q, capped = rv__vmin(t, rv__vset(4.0f));
    p = rv__vset(-0.000600380125f);
    p = rv__vfma(p, z, rv__vset(0.00499585364f));
    p = rv__vfma(p, z, rv__vset(-0.0267685801f));
    p = rv__vfma(p, z, rv__vset(0.11281877f));
    p = rv__vfma(p, z, rv__vset(-0.376125008f));
    p = rv__vfma(p, z, rv__vset(0.128379151f));
    p = rv__vfma(p, x, x);
    q = rv__vset(-1.12319112e-05f);
    q = rv__vfma(q, capped, rv__vset(0.000322812703f));
    q = rv__vfma(q, capped, rv__vset(-0.00364250597f));
    q = rv__vfma(q, capped, rv__vset(0.0237621833f));
    q = rv__vfma(q, capped, rv__vset(-0.106237039f));
    q = rv__vfma(q, capped, rv__vset(-0.635151207f));
    q = rv__vfma(q, capped, rv__vset(-1.12864852f));
    q = rv__vsub(rv__vset(1.0f), RV__F(v_exp)(rv__vmul(q, capped)));
    q = RV__F(with_sign)(q, x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.92f)), p, q));
}

RV__ISA RV__INLINE rv__v RV__F(elementary)(int function, rv__v x)
{
    switch (function) {
    case RV__FUN_EXP: return RV__F(v_exp)(x);
    case RV__FUN_LOG: return RV__F(v_log)(x);
    case RV__FUN_TANH: return RV__F(v_tanh)(x);
    case RV__FUN_SIGMOID: return RV__F(v_sigmoid)(x);
    default: return RV__F(v_erf)(x);
    }
}

RV__ISA RV__INLINE void RV__F(map)(int function, const float *x, float *out, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(out + i, RV__F(elementary)(function, rv__vload(x + i)));
    }
    if (i < n) {
        rv__v tail = RV__F(elementary)(function, rv__vload_tail(x + i, n - i));
        rv__vstore_tail(out + i, tail, n - i);
    }
}

RV__ISA static void RV__F(exp_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_EXP, x, out, n);
}

RV__ISA static void RV__F(log_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_LOG, x, out, n);
}

RV__ISA static void RV__F(tanh_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_TANH, x, out, n);
}

RV__ISA static void RV__F(sigmoid_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_SIGMOID, x, out, n);
}

RV__ISA static void RV__F(erf_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_ERF, x, out, n);
}

/* The largest scale * x[i]; *nan tells whether any of them is NaN. n > 0. */
RV__ISA static float RV__F(max_f32)(const float *x, float scale, size_t n, int *nan)
{
    const rv__v s = rv__vset(scale);
    rv__v top = rv__vset(rv__from_bits_f32((int32_t)0xFF800000u)), seen = rv__vzero(), y;
    float lanes[RV__LANES], best;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = rv__vmul(s, rv__vload(x + i));
        seen = rv__vmaxbits(seen, rv__vabs(y));
        top = rv__vmax(y, top);
    }
    rv__vstore(lanes, top);
    best = lanes[0];
    for (size_t j = 1; j < RV__LANES; j++) best = lanes[j] > best ? lanes[j] : best;
    *nan = rv__is_nan(rv__vmaximum(seen));
    for (; i < n; i++) {
        float last = scale * rv__load_f32(x + i);
        *nan |= rv__is_nan(last);
        best = last > best ? last : best;
    }
    return best;
}

/* out[i] = exp(scale * x[i] - top); returns their sum. */
RV__ISA static float RV__F(exp_sum_f32)(const float *x, float scale, float top, float *out, size_t n)
{
    const rv__v s = rv__vset(scale), t = rv__vset(top);
    rv__v sum = rv__vzero(), y;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload(x + i))), t));
        rv__vstore(out + i, y);
        sum = rv__vadd(sum, y);
    }
    if (i < n) {
        float last[RV__LANES];
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload_tail(x + i, n - i))), t));
        rv__vstore_tail(out + i, y, n - i);
        for (size_t j = 0; j < RV__LANES; j++) last[j] = i + j < n ? rv__load_f32(out + i + j) : 0.0f;
        sum = rv__vadd(sum, rv__vload(last));
    }
    return rv__vsum(sum);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_graph.inl =================================================================== */
/* Distances between byte codes from their dot products: base + h[j] + (slope g[j]) dot[j]. One form
   of the sum for every position, so that a pair has the same distance wherever it stands. */

RV__ISA RV__INLINE uint32_t RV__F(near_block)(const int32_t *dot, const float *h, const float *g, rv__v base,
                                              rv__v slope, rv__v limit, float *value)
{
    uint32_t mask = 0;
    for (size_t j = 0; j < 16; j += RV__LANES) {
        rv__v x = rv__vfloat(rv__vbits(rv__vload((const float *)(const void *)(dot + j))));
        rv__v d = rv__vfma(rv__vmul(slope, rv__vload(g + j)), x, rv__vadd(base, rv__vload(h + j)));
        rv__vstore(value + j, d);
        mask |= rv__vmask(rv__vless(d, limit)) << j;
    }
    return mask;
}

/* The first block of 16 positions from begin (a multiple of 16) on that has a distance below limit:
   returns its start, its distances in value[16] and a bit for each below; n and no bits when there is
   none. */
RV__ISA static size_t RV__F(near_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                                      size_t begin, size_t n, float limit, float *value, uint32_t *mask)
{
    rv__v b = rv__vset(base), s = rv__vset(slope), l = rv__vset(limit);
    size_t i = begin;
    for (; i + 16 <= n; i += 16) {
        *mask = RV__F(near_block)(dot + i, h + i, g + i, b, s, l, value);
        if (*mask) return i;
    }
    *mask = 0;
    if (i < n) {
        int32_t dots[16];
        float hs[16], gs[16];
        for (size_t j = 0; j < 16; j++) {
            size_t k = i + j < n ? i + j : i;
            dots[j] = dot[k];
            hs[j] = h[k];
            gs[j] = g[k];
        }
        *mask = RV__F(near_block)(dots, hs, gs, b, s, l, value) & ((1u << (n - i)) - 1u);
        if (*mask) return i;
    }
    return n;
}

/* All of them: line[n]. */
RV__ISA static void RV__F(line_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                                    size_t n, float *line)
{
    float value[16];
    uint32_t mask;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        (void)RV__F(near_block)(dot + i, h + i, g + i, rv__vset(base), rv__vset(slope), rv__vset(base), line + i);
    }
    if (i < n) {
        (void)RV__F(near_i32)(dot, h, g, base, slope, i, n, base, value, &mask);
        memcpy(line + i, value, (n - i) * sizeof(float));
    }
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_tile.inl ==================================================================== */
/* All dot products between two sets of rows, floats. A tile of six rows of A and RV__TILE vectors of
   columns of B stays in registers; B is packed so that one column vector is one load. */

#define RV__COLS (RV__TILE * RV__LANES)

/* Packs rows of b, up to RV__COLS of them, transposed: [n][RV__COLS], missing columns zero. */
RV__ISA static void RV__F(pack_f32)(const float *b, size_t ldb, size_t nb, size_t n, float *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const float *row = b + j * ldb;
        if (j < nb) {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = row[k];
        } else {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = 0.0f;
        }
    }
}

RV__ISA RV__INLINE void RV__F(tile_row)(float a, const rv__v *b, rv__v *c)
{
    rv__v x = rv__vset(a);
    c[0] = rv__vfma(x, b[0], c[0]);
    c[1] = rv__vfma(x, b[1], c[1]);
    if (RV__TILE == 4) {
        c[2] = rv__vfma(x, b[2 % RV__TILE], c[2 % RV__TILE]);
        c[3 % RV__TILE] = rv__vfma(x, b[3 % RV__TILE], c[3 % RV__TILE]);
    }
}

RV__ISA RV__INLINE void RV__F(tile_store)(const rv__v *c, float *out, size_t nb, int accumulate)
{
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, accumulate ? rv__vadd(rv__vload(out + first), c[j]) : c[j]);
        } else if (first < nb) {
            rv__v sum = c[j];
            if (accumulate) sum = rv__vadd(rv__vload_tail(out + first, nb - first), sum);
            rv__vstore_tail(out + first, sum, nb - first);
        }
    }
}

/* na <= 6 rows, nb <= RV__COLS columns. */
RV__ISA static void RV__F(tile_f32)(const float *a, size_t lda, size_t na, const float *packed, size_t nb,
                                    size_t n, int accumulate, float *out, size_t ldo)
{
    const size_t last = na - 1;
    const float *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const float *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const float *a5 = a + last * lda;
    rv__v c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__vzero();
    }
    for (size_t k = 0; k < n; k++, packed += RV__COLS) {
        b[0] = rv__vload(packed);
        b[1] = rv__vload(packed + RV__LANES);
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vload(packed + 2 * RV__LANES);
            b[3 % RV__TILE] = rv__vload(packed + 3 * RV__LANES);
        }
        RV__F(tile_row)(a[k], b, c0);
        RV__F(tile_row)(a1[k], b, c1);
        RV__F(tile_row)(a2[k], b, c2);
        RV__F(tile_row)(a3[k], b, c3);
        RV__F(tile_row)(a4[k], b, c4);
        RV__F(tile_row)(a5[k], b, c5);
    }
    RV__F(tile_store)(c0, out, nb, accumulate);
    if (na > 1) RV__F(tile_store)(c1, out + ldo, nb, accumulate);
    if (na > 2) RV__F(tile_store)(c2, out + 2 * ldo, nb, accumulate);
    if (na > 3) RV__F(tile_store)(c3, out + 3 * ldo, nb, accumulate);
    if (na > 4) RV__F(tile_store)(c4, out + 4 * ldo, nb, accumulate);
    if (na > 5) RV__F(tile_store)(c5, out + 5 * ldo, nb, accumulate);
}

RV__ISA static void RV__F(gemm_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, int accumulate, float *out, size_t ldo, void *scratch)
{
    float *packed = (float *)scratch;
    for (size_t k = 0; k < n || k == 0; k += RV__GEMM_DEPTH) {
        size_t depth = n - k < RV__GEMM_DEPTH ? n - k : RV__GEMM_DEPTH;
        for (size_t j = 0; j < nb; j += RV__COLS) {
            size_t cols = nb - j < RV__COLS ? nb - j : RV__COLS;
            RV__F(pack_f32)(b + j * ldb + k, ldb, cols, depth, packed);
            for (size_t i = 0; i < na; i += 6) {
                RV__F(tile_f32)(a + i * lda + k, lda, na - i < 6 ? na - i : 6, packed, cols, depth,
                                accumulate || k > 0, out + i * ldo + j, ldo);
            }
        }
    }
}

RV__ISA static void RV__F(gram_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, float *out, size_t ldo, void *scratch)
{
    RV__F(gemm_f32)(a, lda, na, b, ldb, nb, n, 0, out, ldo, scratch);
}

#undef RV__COLS
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_int.inl ===================================================================== */
/* Kernels over signed and unsigned bytes, nibbles, and bits times bytes: exact on every instruction
   set as long as a 32-bit sum holds them. */

/* ---- pairs ---- */

/* Bytes i .. n - 1, fewer than RV__BYTES, the rest zero, as a vector. */
RV__ISA RV__INLINE rv__vb RV__F(bytes_tail)(const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    return rv__btail(p + i, n - i);
#else
    unsigned char copy[RV__BYTES];
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + i, n - i);
    return rv__bload(copy);
#endif
}

/* Four quantities of two byte rows; what is a constant. */
RV__ISA RV__INLINE rv__vi RV__F(int_step)(int what, rv__vi acc, rv__vb a, rv__vb b)
{
    switch (what) {
    case RV__INT_DOT: return rv__bdot_any(acc, a, b);
    case RV__INT_L2: return rv__bl2_i8(acc, a, b);
    default: return rv__bl1_i8(acc, a, b);
    }
}

RV__ISA RV__INLINE int32_t RV__F(int_pair)(int what, const int8_t *a, const int8_t *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    const size_t B = RV__BYTES;
    rv__vi s0 = rv__iset(0), s1 = s0;
    size_t i = 0;
    for (; i + 2 * B <= n; i += 2 * B) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        s1 = RV__F(int_step)(what, s1, rv__bload(p + i + B), rv__bload(q + i + B));
    }
    if (i + B <= n) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        i += B;
    }
    if (i < n) s1 = RV__F(int_step)(what, s1, RV__F(bytes_tail)(p, i, n), RV__F(bytes_tail)(q, i, n));
    return rv__isum(rv__iadd(s0, s1));
}

RV__ISA static int32_t RV__F(dot_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static int32_t RV__F(l2sq_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L2, a, b, n);
}

RV__ISA static int32_t RV__F(l1_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L1, a, b, n);
}

/* out: a.b, a.a, b.b */
RV__ISA static void RV__F(cosine_i8)(const int8_t *a, const int8_t *b, size_t n, int32_t *out)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    rv__vi ab = rv__iset(0), aa = ab, bb = ab;
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload(p + i) : RV__F(bytes_tail)(p, i, n);
        rv__vb v = whole ? rv__bload(q + i) : RV__F(bytes_tail)(q, i, n);
        ab = rv__bdot_any(ab, u, v);
        aa = rv__bdot_any(aa, u, u);
        bb = rv__bdot_any(bb, v, v);
    }
    out[0] = rv__isum(ab);
    out[1] = rv__isum(aa);
    out[2] = rv__isum(bb);
}

RV__ISA RV__INLINE uint32_t RV__F(unsigned_pair)(int what, const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload_u(a + i) : RV__F(bytes_tail)(a, i, n);
        rv__vb v = whole ? rv__bload_u(b + i) : RV__F(bytes_tail)(b, i, n);
        s = what == RV__INT_DOT ? rv__bdot_u8(s, u, v) : rv__bl2_u8(s, u, v);
    }
    return (uint32_t)rv__isum(s);
}

RV__ISA static uint32_t RV__F(dot_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static uint32_t RV__F(l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_L2, a, b, n);
}

/* ---- one query against packed rows ---- */

/* The next 64 bytes of a row (bits: 64 / 8 of them, 64 elements), times the query. */
RV__ISA RV__INLINE rv__vi RV__F(code_step)(int code, rv__vi acc, const unsigned char *row, const int8_t *query)
{
    for (size_t j = 0; j < 64; j += RV__BYTES) {
        rv__vb r, q = rv__bload(query + j);
        if (code == RV__CODE_U1) {
            acc = rv__bdot_small(acc, rv__bbits(row, j), q);
        } else if (code == RV__CODE_U4) {
            r = rv__bload(row + j);
            acc = rv__bdot_small(acc, rv__blow(r), q);
            acc = rv__bdot_small(acc, rv__bhigh(r), rv__bload(query + 64 + j));
        } else {
            r = rv__bflip(rv__bload(row + j));
            acc = rv__bdot(acc, r, q);
        }
    }
    return acc;
}

/* All rows, four at a time; every row a multiple of 64 bytes (bits: of 8). bias: what the shift to
   unsigned bytes adds to each dot product. */
RV__ISA RV__INLINE void RV__F(code_scan)(int code, const int8_t *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n,
                                         size_t n_bytes, int32_t *out)
{
    const size_t step = code == RV__CODE_U1 ? 8 : 64, elements = code == RV__CODE_U4 ? 128 : 64;
    const size_t ahead = rv__rows_ahead(n_bytes);
    int32_t bias = 0;
    size_t i = 0, fetched = 0;
    if (RV__BIAS && code == RV__CODE_I8) {
        for (size_t j = 0; j < n_bytes; j++) bias += query[j];
        bias *= RV__BIAS;
    }
    for (; i < n; i += 4) {
        const size_t last = n - 1; /* a short group repeats its last row */
        const size_t i1 = i + 1 < n ? i + 1 : last, i2 = i + 2 < n ? i + 2 : last;
        const size_t i3 = i + 3 < n ? i + 3 : last;
        const unsigned char *r0 = rows + (ids ? ids[i] : i) * stride;
        const unsigned char *r1 = rows + (ids ? ids[i1] : i1) * stride;
        const unsigned char *r2 = rows + (ids ? ids[i2] : i2) * stride;
        const unsigned char *r3 = rows + (ids ? ids[i3] : i3) * stride;
        const int8_t *q = query;
        rv__vi s0 = rv__iset(0), s1 = s0, s2 = s0, s3 = s0;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, n_bytes);
            }
        }
        for (size_t j = 0; j < n_bytes; j += step, q += elements) {
            s0 = RV__F(code_step)(code, s0, r0 + j, q);
            s1 = RV__F(code_step)(code, s1, r1 + j, q);
            s2 = RV__F(code_step)(code, s2, r2 + j, q);
            s3 = RV__F(code_step)(code, s3, r3 + j, q);
        }
        out[i] = rv__isum(s0) - bias;
        out[i1] = rv__isum(s1) - bias;
        out[i2] = rv__isum(s2) - bias;
        out[i3] = rv__isum(s3) - bias;
    }
}

RV__ISA static void RV__F(dot_i8_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_I8, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u4_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U4, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u1_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U1, query, rows, stride, ids, n, n_bytes, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_code.inl ==================================================================== */
/* All dot products between two sets of byte rows, and the 4-bit fast scan. */

#define RV__COLS (RV__TILE * RV__LANES)
#define RV__WORDS(n) ((n) / RV__GROUP) /* 32-bit words of a packed row of n bytes */

/* Elements k .. k + RV__GROUP - 1 of a row as one word: four bytes, or two 16-bit numbers. */
RV__ISA RV__INLINE uint32_t RV__F(group)(const int8_t *row, size_t k)
{
#if RV__GROUP == 4
    return rv__load_u32(row + k);
#else
    return (uint32_t)(uint16_t)row[k] | (uint32_t)(uint16_t)row[k + 1] << 16;
#endif
}

/* Packs rows of b, at most RV__COLS of them: [words][RV__COLS]. */
RV__ISA static void RV__F(pack_i8)(const int8_t *b, size_t ldb, size_t nb, size_t n, uint32_t *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const int8_t *row = b + (j < nb ? j : 0) * ldb;
        for (size_t k = 0; k < RV__WORDS(n); k++) {
            packed[k * RV__COLS + j] = RV__F(group)(row, k * RV__GROUP) ^ RV__GROUP_FLIP;
        }
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_row)(uint32_t a, const rv__vi *b, rv__vi *c)
{
    rv__vi x = rv__iset((int32_t)a);
    c[0] = rv__gdot(c[0], b[0], x);
    c[1] = rv__gdot(c[1], b[1], x);
    if (RV__TILE == 4) {
        c[2 % RV__TILE] = rv__gdot(c[2 % RV__TILE], b[2 % RV__TILE], x);
        c[3 % RV__TILE] = rv__gdot(c[3 % RV__TILE], b[3 % RV__TILE], x);
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_store)(const rv__vi *c, int32_t bias, int32_t *out, size_t nb)
{
    int32_t lanes[RV__LANES];
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        rv__vi sum = rv__isub(c[j], rv__iset(bias));
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, rv__vfrom(sum));
        } else {
            rv__vstore(lanes, rv__vfrom(sum));
            for (size_t i = first; i < nb; i++) out[i] = lanes[i - first];
        }
    }
}

/* na <= 6 rows of A as words. */
RV__ISA static void RV__F(tile_i8)(const unsigned char *a, size_t lda, size_t na, const uint32_t *packed,
                                   size_t nb, size_t words, const int32_t *bias, int32_t *out, size_t ldo)
{
    const size_t last = na - 1;
    const unsigned char *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const unsigned char *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const unsigned char *a5 = a + last * lda;
    rv__vi c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__iset(0);
    }
    for (size_t k = 0; k < 4 * words; k += 4, packed += RV__COLS) {
        b[0] = rv__vbits(rv__vload(packed));
        b[1] = rv__vbits(rv__vload(packed + RV__LANES));
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vbits(rv__vload(packed + 2 * RV__LANES));
            b[3 % RV__TILE] = rv__vbits(rv__vload(packed + 3 * RV__LANES));
        }
        RV__F(code_tile_row)(rv__load_u32(a + k), b, c0);
        RV__F(code_tile_row)(rv__load_u32(a1 + k), b, c1);
        RV__F(code_tile_row)(rv__load_u32(a2 + k), b, c2);
        RV__F(code_tile_row)(rv__load_u32(a3 + k), b, c3);
        RV__F(code_tile_row)(rv__load_u32(a4 + k), b, c4);
        RV__F(code_tile_row)(rv__load_u32(a5 + k), b, c5);
    }
    RV__F(code_tile_store)(c0, bias[0], out, nb);
    if (na > 1) RV__F(code_tile_store)(c1, bias[1], out + ldo, nb);
    if (na > 2) RV__F(code_tile_store)(c2, bias[2], out + 2 * ldo, nb);
    if (na > 3) RV__F(code_tile_store)(c3, bias[3], out + 3 * ldo, nb);
    if (na > 4) RV__F(code_tile_store)(c4, bias[4], out + 4 * ldo, nb);
    if (na > 5) RV__F(code_tile_store)(c5, bias[5], out + 5 * ldo, nb);
}

RV__ISA RV__INLINE int32_t RV__F(sum_i8)(const int8_t *a, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t k = 0; k < n; k += RV__BYTES) s = rv__bdot_small(s, rv__bone(), rv__bload(a + k));
    return rv__isum(s);
}

/* The scratch holds six rows of A as 16-bit numbers (where the words are those), then B packed. */
RV__ISA static void RV__F(gram_i8)(const int8_t *a, size_t lda, size_t na, const int8_t *b, size_t ldb,
                                   size_t nb, size_t n, int32_t *out, size_t ldo, void *scratch)
{
    uint32_t *wide = (uint32_t *)scratch, *packed = wide + 6 * n / 2;
    const size_t words = RV__WORDS(n), panel = words * RV__COLS;
    for (size_t j = 0; j < nb; j += RV__COLS) {
        RV__F(pack_i8)(b + j * ldb, ldb, nb - j < RV__COLS ? nb - j : RV__COLS, n, packed + j / RV__COLS * panel);
    }
    for (size_t i = 0; i < na; i += 6) {
        const size_t rows = na - i < 6 ? na - i : 6;
        const unsigned char *tile = (const unsigned char *)(a + i * lda);
        size_t pitch = lda;
        int32_t bias[6] = {0, 0, 0, 0, 0, 0};
        if (RV__GROUP_FLIP) {
            for (size_t r = 0; r < rows; r++) bias[r] = 128 * RV__F(sum_i8)(a + (i + r) * lda, n);
        }
        if (RV__GROUP == 2) {
            for (size_t r = 0; r < rows; r++) {
                for (size_t k = 0; k < words; k++) {
                    wide[r * words + k] = RV__F(group)(a + (i + r) * lda, 2 * k);
                }
            }
            tile = (const unsigned char *)wide;
            pitch = 4 * words;
        }
        for (size_t j = 0; j < nb; j += RV__COLS) {
            RV__F(tile_i8)(tile, pitch, rows, packed + j / RV__COLS * panel,
                           nb - j < RV__COLS ? nb - j : RV__COLS, words, bias, out + i * ldo + j, ldo);
        }
    }
}

#undef RV__COLS
#undef RV__WORDS

/* ---- product codes of four bits ---- */

#if defined(RV__SCALAR)
static void rv__pq4_scan_scalar(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks, uint16_t *out)
{
    for (size_t b = 0; b < n_blocks; b++, codes += 16 * m, out += 32) {
        for (size_t i = 0; i < 32; i++) {
            uint32_t sum = 0;
            for (size_t s = 0; s < m; s++) {
                sum += lut[16 * s + ((codes[16 * s + i % 16] >> (i < 16 ? 0 : 4)) & 15u)];
            }
            out[i] = (uint16_t)(sum > 65535u ? 65535u : sum);
        }
    }
}
#else
/* Entries come from a byte shuffle; sums of 16 bits. The bytes at odd places are summed alone; the
   sum of all 16-bit words is even + 256 odd modulo 2^16, so that the even ones cost no masking.
   After 256 sub-quantizers (at most 65280) the sums move out, saturating. */
RV__ISA static void RV__F(pq4_scan)(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks,
                                    uint16_t *out)
{
    const size_t bytes = 16 * m;
    for (size_t block = 0; block < n_blocks; block++, codes += bytes, out += 32) {
        for (size_t begin = 0; begin < bytes || begin == 0; begin += 16 * 256) {
            const size_t end = bytes - begin < 16 * 256 ? bytes : begin + 16 * 256;
            rv__q low = rv__qzero(), low_odd = low, high = low, high_odd = low;
            for (size_t k = begin; k < end; k += RV__LOOK) {
                const int half = RV__LOOK == 64 && k + 64 > end;
                rv__q table = half ? rv__qload_half(lut + k) : rv__qload(lut + k);
                rv__q code = half ? rv__qload_half(codes + k) : rv__qload(codes + k);
                rv__q x = rv__qlook(table, rv__qlow(code)), y = rv__qlook(table, rv__qhigh(code));
                low = rv__qadd(low, x);
                low_odd = rv__qadd(low_odd, rv__qodd(x));
                high = rv__qadd(high, y);
                high_odd = rv__qadd(high_odd, rv__qodd(y));
            }
            RV__F(qfold)(rv__qeven(low, low_odd), low_odd, out, begin > 0);
            RV__F(qfold)(rv__qeven(high, high_odd), high_odd, out + 16, begin > 0);
        }
    }
}
#endif
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_bits.inl ==================================================================== */
/* Kernels over sets of bits, in whole bytes. */

RV__ISA RV__INLINE rv__vw RV__F(word)(const unsigned char *p, size_t i, size_t n)
{
    if (i + RV__WORD <= n) return rv__wload(p + i);
#if defined(RV__MASKED)
    return rv__wtail(p + i, n - i);
#else
    {
        unsigned char copy[RV__WORD];
        memset(copy, 0, sizeof copy);
        memcpy(copy, p + i, n - i);
        return rv__wload(copy);
    }
#endif
}

/* Bits that differ. */
RV__ISA static uint32_t RV__F(hamming)(const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vp s = rv__pzero();
    for (size_t i = 0; i < n; i += RV__WORD) {
        s = rv__wpop(s, rv__wxor(RV__F(word)(a, i, n), RV__F(word)(b, i, n)));
    }
    return (uint32_t)rv__psum(s);
}

/* counts: bits in both, bits in either. */
RV__ISA static void RV__F(overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts)
{
    rv__vp both = rv__pzero(), either = both;
    for (size_t i = 0; i < n; i += RV__WORD) {
        rv__vw u = RV__F(word)(a, i, n), v = RV__F(word)(b, i, n);
        both = rv__wpop(both, rv__wand(u, v));
        either = rv__wpop(either, rv__wor(u, v));
    }
    counts[0] = (uint32_t)rv__psum(both);
    counts[1] = (uint32_t)rv__psum(either);
}

RV__ISA RV__INLINE void RV__F(bit_scan)(int jaccard, const void *query, const unsigned char *rows,
                                        size_t stride, const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t bytes = (dim + 7) / 8, ahead = rv__rows_ahead(bytes);
    uint32_t counts[2];
    size_t fetched = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 1 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        if (jaccard) {
            RV__F(overlap)(q, row, bytes, counts);
            out[i] = rv__jaccard_finish(counts[0], counts[1]);
        } else {
            out[i] = (float)RV__F(hamming)(q, row, bytes);
        }
    }
}

RV__ISA static void RV__F(scan_hamming)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(0, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_jaccard)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(1, query, rows, stride, ids, n, dim, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/simd_end.inl ======================================================================== */
/* Ends one expansion: takes the vocabulary back. */
#undef RV__F
#undef RV__ISA
#undef RV__SCALAR
#undef RV__MASKED
#undef RV__ALL16
#undef RV__LANES
#undef RV__BYTES
#undef RV__WORD
#undef RV__TILE
#undef RV__LOOK
#undef RV__GROUP
#undef RV__GROUP_FLIP
#undef RV__BIAS
#undef RV__VNNI
#undef RV__POPCNT512
#undef RV__DOTPROD
#undef rv__v
#undef rv__vi
#undef rv__vb
#undef rv__vw
#undef rv__vp
#undef rv__vzero
#undef rv__vset
#undef rv__vadd
#undef rv__vsub
#undef rv__vmul
#undef rv__vdiv
#undef rv__vfma
#undef rv__vmax
#undef rv__vmin
#undef rv__vsum
#undef rv__vmaximum
#undef rv__vround
#undef rv__vfloat
#undef rv__vbits
#undef rv__vfrom
#undef rv__vpick
#undef rv__vless
#undef rv__vmask
#undef rv__iset
#undef rv__iadd
#undef rv__isub
#undef rv__iand
#undef rv__ior
#undef rv__ishl
#undef rv__isar
#undef rv__igreater
#undef rv__isum
#undef rv__vload
#undef rv__vstore
#undef rv__vload_tail
#undef rv__vstore_tail
#undef rv__vload_f16
#undef rv__vload_bf16
#undef rv__vload_i8
#undef rv__vtail_f16
#undef rv__vtail_bf16
#undef rv__vtail_i8
#undef rv__vkeep_last
#undef rv__vabs
#undef rv__vmaxbits
#undef rv__vstore_f16
#undef rv__istore_top16
#undef rv__istore_i8
#undef rv__bload
#undef rv__bload_u
#undef rv__btail
#undef rv__blow
#undef rv__bhigh
#undef rv__bbits
#undef rv__bflip
#undef rv__bdot
#undef rv__bone
#undef rv__gdot
#undef rv__bdot_small
#undef rv__bdot_any
#undef rv__bdot_u8
#undef rv__bl2_i8
#undef rv__bl2_u8
#undef rv__bl1_i8
#undef rv__wload
#undef rv__wtail
#undef rv__wand
#undef rv__wor
#undef rv__wxor
#undef rv__pzero
#undef rv__psum
#undef rv__wpop
#undef rv__q
#undef rv__qzero
#undef rv__qload
#undef rv__qload_half
#undef rv__qlow
#undef rv__qhigh
#undef rv__qlook
#undef rv__qadd
#undef rv__qodd
#undef rv__qeven
/* ==== src/simd.c, continued =================================================================== */

/* ==== src/simd_avx512.inl ===================================================================== */
/* Vocabulary of AVX-512 F, BW, DQ, VL. With RV__VNNI or RV__POPCNT512 defined, of the processors
   that also have those instructions; then only the integer, or bit, kernels are expanded. */

#if defined(RV__VNNI)
#define RV__F(name) rv__##name##_avx512vnni
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vnni")
#elif defined(RV__POPCNT512)
#define RV__F(name) rv__##name##_avx512pop
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vpopcntdq")
#else
#define RV__F(name) rv__##name##_avx512
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
/* The forms under a full mask are the same instructions as those without; gcc's headers for the
   latter use a value they do not initialise, and g++ 12 warns of it here. */
#define RV__ALL16 ((__mmask16)0xFFFF)
#define RV__LANES 16u
#define RV__BYTES 64u
#define RV__WORD 64u
#define rv__v __m512
#define rv__vi __m512i
#define rv__vb __m512i
#define RV__TILE 4u
#define RV__LOOK 64u
#define rv__q __m512i
#define rv__vw __m512i
#define rv__vp __m512i

#define rv__vzero() _mm512_setzero_ps()
#define rv__vset(x) _mm512_set1_ps(x)
#define rv__vadd(a, b) _mm512_add_ps((a), (b))
#define rv__vsub(a, b) _mm512_sub_ps((a), (b))
#define rv__vmul(a, b) _mm512_mul_ps((a), (b))
#define rv__vdiv(a, b) _mm512_div_ps((a), (b))
#define rv__vfma(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define rv__vmax(a, b) _mm512_maskz_max_ps(RV__ALL16, (a), (b))
#define rv__vmin(a, b) _mm512_maskz_min_ps(RV__ALL16, (a), (b))
#define rv__vround(a) _mm512_maskz_cvtps_epi32(RV__ALL16, (a))
#define rv__vfloat(a) _mm512_maskz_cvtepi32_ps(RV__ALL16, (a))
#define rv__vbits(a) _mm512_castps_si512(a)
#define rv__vfrom(a) _mm512_castsi512_ps(a)
#define rv__vpick(mask, a, b) _mm512_mask_blend_ps((mask), (b), (a))
#define rv__vless(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_LT_OQ)
#define rv__vmask(less) ((uint32_t)(less))
#define rv__iset(x) _mm512_set1_epi32(x)
#define rv__iadd(a, b) _mm512_add_epi32((a), (b))
#define rv__isub(a, b) _mm512_sub_epi32((a), (b))
#define rv__iand(a, b) _mm512_and_si512((a), (b))
#define rv__ior(a, b) _mm512_or_si512((a), (b))
#define rv__ishl(a, n) _mm512_maskz_slli_epi32(RV__ALL16, (a), (n))
#define rv__isar(a, n) _mm512_maskz_srai_epi32(RV__ALL16, (a), (n))
#define rv__igreater(a, b) _mm512_cmpgt_epi32_mask((a), (b))
#define rv__isum(a) RV__F(isum)(a)
#define rv__vsum(a) RV__F(vsum)(a)
#define rv__vload(p) _mm512_loadu_ps((const void *)(p))
#define rv__vstore(p, a) _mm512_storeu_ps((void *)(p), (a))
#define rv__vload_tail(p, n) _mm512_maskz_loadu_ps(RV__F(mask)(n), (const void *)(p))
#define rv__vstore_tail(p, a, n) _mm512_mask_storeu_ps((void *)(p), RV__F(mask)(n), (a))
#define rv__vload_f16(p) _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_bf16(p) RV__F(from_bf16)(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_i8(p) \
    RV__F(from_i8)(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define rv__vabs(a) _mm512_abs_ps(a)
#define rv__vmaxbits(a, b) \
    _mm512_castsi512_ps(_mm512_maskz_max_epi32(RV__ALL16, _mm512_castps_si512(a), _mm512_castps_si512(b)))
#define rv__vmaximum(a) RV__F(vmaximum)(a)
#define rv__vstore_f16(p, a) RV__F(store_f16)((p), (a))
#define rv__istore_top16(p, a) \
    _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_maskz_cvtepi32_epi16(RV__ALL16, _mm512_maskz_srli_epi32(RV__ALL16, (a), 16)))
#define rv__istore_i8(p, a) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_maskz_cvtepi32_epi8(RV__ALL16, (a)))

/* Reads rows' tails under a mask. */
#define RV__MASKED 1
#define rv__vtail_f16(p, n) \
    _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_bf16(p, n) RV__F(from_bf16)(_mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_i8(p, n) \
    RV__F(from_i8)(_mm_maskz_loadu_epi8(RV__F(mask)(n), (const void *)(p)))

RV__ISA RV__INLINE __mmask16 RV__F(mask)(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

RV__ISA RV__INLINE __m512 RV__F(from_i8)(__m128i x)
{
    return _mm512_maskz_cvtepi32_ps(RV__ALL16, _mm512_maskz_cvtepi8_epi32(RV__ALL16, x));
}

RV__ISA RV__INLINE __m256i RV__F(lower)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 0);
}

RV__ISA RV__INLINE __m256i RV__F(upper)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 1);
}

RV__ISA RV__INLINE void RV__F(store_f16)(void *p, __m512 a)
{
    __m256 low = _mm256_castsi256_ps(RV__F(lower)(_mm512_castps_si512(a)));
    __m256 high = _mm256_castsi256_ps(RV__F(upper)(_mm512_castps_si512(a)));
    __m128i *out = (__m128i *)p;
    _mm_storeu_si128(out, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(out + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
}

RV__ISA RV__INLINE float RV__F(vsum)(__m512 a)
{
    __m256 y = _mm256_castsi256_ps(RV__F(upper)(_mm512_castps_si512(a)));
    __m128 x;
    y = _mm256_add_ps(y, _mm256_castsi256_ps(RV__F(lower)(_mm512_castps_si512(a))));
    x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

RV__ISA RV__INLINE int32_t RV__F(isum)(__m512i a)
{
    __m256i y = _mm256_add_epi32(RV__F(lower)(a), RV__F(upper)(a));
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* Of magnitudes, through their bits. */
RV__ISA RV__INLINE float RV__F(vmaximum)(__m512 a)
{
    __m512i b = _mm512_castps_si512(a);
    __m256i y = _mm256_max_epi32(RV__F(lower)(b), RV__F(upper)(b));
    __m128i x = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return rv__from_bits_f32(_mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1))));
}

RV__ISA RV__INLINE __m512 RV__F(from_bf16)(__m256i x)
{
    __m512i wide = _mm512_maskz_cvtepu16_epi32(RV__ALL16, x);
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(RV__ALL16, wide, 16));
}

/* ---- bytes ---- */

#define rv__bload(p) _mm512_loadu_si512((const void *)(p))
#define rv__bload_u(p) _mm512_loadu_si512((const void *)(p))
#define rv__btail(p, n) \
    _mm512_maskz_loadu_epi8(((__mmask64)1 << (n)) - 1u, (const void *)(p))
#define rv__blow(a) _mm512_and_si512((a), _mm512_set1_epi8(15))
#define rv__bhigh(a) _mm512_and_si512(_mm512_srli_epi16((a), 4), _mm512_set1_epi8(15))
#define rv__bbits(p, j) _mm512_maskz_mov_epi8(rv__load_u64((p) + ((j) >> 3)), _mm512_set1_epi8(1))
#define rv__bdot_any(acc, a, b) RV__F(v_dot_any)((acc), (a), (b))
#define rv__bdot_u8(acc, a, b) RV__F(v_dot_u8)((acc), (a), (b))
#define rv__bl2_i8(acc, a, b) RV__F(v_l2_i8)((acc), (a), (b))
#define rv__bl2_u8(acc, a, b) RV__F(v_l2_u8)((acc), (a), (b))
#define rv__bl1_i8(acc, a, b) RV__F(v_l1_i8)((acc), (a), (b))

RV__ISA RV__INLINE __m512i RV__F(v_madd)(__m512i acc, __m512i a, __m512i b)
{
#ifdef RV__VNNI
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_any)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i a0 = _mm512_unpacklo_epi8(zero, a), a1 = _mm512_unpackhi_epi8(zero, a);
    __m512i b0 = _mm512_unpacklo_epi8(zero, b), b1 = _mm512_unpackhi_epi8(zero, b);
    acc = RV__F(v_madd)(acc, _mm512_srai_epi16(a0, 8), _mm512_srai_epi16(b0, 8));
    return RV__F(v_madd)(acc, _mm512_srai_epi16(a1, 8), _mm512_srai_epi16(b1, 8));
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_u8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    acc = RV__F(v_madd)(acc, _mm512_unpacklo_epi8(a, zero), _mm512_unpacklo_epi8(b, zero));
    return RV__F(v_madd)(acc, _mm512_unpackhi_epi8(a, zero), _mm512_unpackhi_epi8(b, zero));
}

/* Squares of |a - b|, which fits an unsigned byte. */
RV__ISA RV__INLINE __m512i RV__F(v_l2_u8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i d = _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a));
    __m512i d0 = _mm512_unpacklo_epi8(d, zero), d1 = _mm512_unpackhi_epi8(d, zero);
    acc = RV__F(v_madd)(acc, d0, d0);
    return RV__F(v_madd)(acc, d1, d1);
}

RV__ISA RV__INLINE __m512i RV__F(v_l2_i8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i flip = _mm512_set1_epi8(-128);
    return RV__F(v_l2_u8)(acc, _mm512_xor_si512(a, flip), _mm512_xor_si512(b, flip));
}

RV__ISA RV__INLINE __m512i RV__F(v_l1_i8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i flip = _mm512_set1_epi8(-128);
    __m512i sad = _mm512_sad_epu8(_mm512_xor_si512(a, flip), _mm512_xor_si512(b, flip));
    return _mm512_add_epi32(acc, sad);
}

#define rv__bone() _mm512_set1_epi8(1)
#ifdef RV__VNNI
/* Row bytes are shifted to unsigned, which adds 128 times the sum of the query. */
#define RV__BIAS 128
#define rv__bflip(a) _mm512_xor_si512((a), _mm512_set1_epi8(-128))
#define rv__bdot(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define rv__bdot_small(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define RV__GROUP 4u
#define RV__GROUP_FLIP 0x80808080u
#define rv__gdot(acc, b, a) _mm512_dpbusd_epi32((acc), (b), (a))
#else
#define RV__GROUP 2u
#define RV__GROUP_FLIP 0u
#define rv__gdot(acc, b, a) _mm512_add_epi32((acc), _mm512_madd_epi16((b), (a)))
#define RV__BIAS 0
#define rv__bflip(a) (a)
#define rv__bdot(acc, r, q) RV__F(v_dot_any)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot_small)((acc), (r), (q))

RV__ISA RV__INLINE __m512i RV__F(v_dot_small)(__m512i acc, __m512i r, __m512i q)
{
    __m512i pairs = _mm512_maddubs_epi16(r, q); /* at most 2 * 15 * 128: no saturation */
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() _mm512_setzero_si512()
#define rv__qload(p) _mm512_loadu_si512((const void *)(p))
#define rv__qload_half(p) _mm512_maskz_loadu_epi64(0x0F, (const void *)(p))
#define rv__qlow(a) rv__blow(a)
#define rv__qhigh(a) rv__bhigh(a)
#define rv__qlook(table, index) _mm512_shuffle_epi8((table), (index))
#define rv__qadd(a, b) _mm512_add_epi16((a), (b))
#define rv__qodd(a) _mm512_srli_epi16((a), 8)
#define rv__qeven(all, odd) _mm512_sub_epi16((all), _mm512_slli_epi16((odd), 8))

/* Adds up the lanes; rows 2i and 2i + 1 are in the even and odd sums. */
RV__ISA RV__INLINE void RV__F(qfold)(__m512i even, __m512i odd, uint16_t *out, int add)
{
    __m512i a = _mm512_unpacklo_epi16(even, odd), b = _mm512_unpackhi_epi16(even, odd);
    __m256i low = _mm256_adds_epu16(RV__F(lower)(a), RV__F(upper)(a));
    __m256i high = _mm256_adds_epu16(RV__F(lower)(b), RV__F(upper)(b));
    __m256i sum = _mm256_adds_epu16(_mm256_permute2x128_si256(low, high, 0x20),
                                    _mm256_permute2x128_si256(low, high, 0x31));
    if (add) sum = _mm256_adds_epu16(sum, _mm256_loadu_si256((const __m256i *)(const void *)out));
    _mm256_storeu_si256((__m256i *)(void *)out, sum);
}

/* ---- bits ---- */

#define rv__wload(p) _mm512_loadu_si512((const void *)(p))
#define rv__wtail(p, n) \
    _mm512_maskz_loadu_epi8(((__mmask64)1 << (n)) - 1u, (const void *)(p))
#define rv__wand(a, b) _mm512_and_si512((a), (b))
#define rv__wor(a, b) _mm512_or_si512((a), (b))
#define rv__wxor(a, b) _mm512_xor_si512((a), (b))
#define rv__pzero() _mm512_setzero_si512()
#define rv__psum(acc) ((uint32_t)RV__F(isum)(acc)) /* below 2^32: the upper halves are zero */
#ifdef RV__POPCNT512
#define rv__wpop(acc, x) _mm512_add_epi64((acc), _mm512_popcnt_epi64(x))
#else
#define rv__wpop(acc, x) RV__F(v_pop)((acc), (x))

/* Mula, Kurz, Lemire, Faster population counts using AVX2 instructions, 2018: nibbles by table. */
RV__ISA RV__INLINE __m512i RV__F(v_pop)(__m512i acc, __m512i x)
{
    __m512i table = _mm512_maskz_broadcast_i32x4(RV__ALL16, _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m512i low = _mm512_shuffle_epi8(table, rv__blow(x)), high = _mm512_shuffle_epi8(table, rv__bhigh(x));
    return _mm512_add_epi64(acc, _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512()));
}
#endif
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_float.inl =================================================================== */
/* Kernels over floating point rows, written once and expanded for every instruction set. op and type
   are constants at every call, so that of each switch one branch survives. */

/* Elements i .. i + LANES - 1 of a row as floats. */
RV__ISA RV__INLINE rv__v RV__F(get)(int type, const unsigned char *p, size_t i)
{
    switch (type) {
    case RV__TYPE_F16: return rv__vload_f16(p + 2 * i);
    case RV__TYPE_BF16: return rv__vload_bf16(p + 2 * i);
    case RV__TYPE_I8: return rv__vload_i8(p + i);
    default: return rv__vload(p + 4 * i);
    }
}

/* Elements i .. n - 1, fewer than LANES, with zeros in the other lanes. Two rows of one length n
   agree on the lanes, whatever their types. */
RV__ISA RV__INLINE rv__v RV__F(get_tail)(int type, const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    switch (type) {
    case RV__TYPE_F16: return rv__vtail_f16(p + 2 * i, n - i);
    case RV__TYPE_BF16: return rv__vtail_bf16(p + 2 * i, n - i);
    case RV__TYPE_I8: return rv__vtail_i8(p + i, n - i);
    default: return rv__vload_tail(p + 4 * i, n - i);
    }
#else
    const size_t size = type == RV__TYPE_F32 ? 4 : type == RV__TYPE_I8 ? 1 : 2;
    unsigned char copy[4 * RV__LANES];
    if (n >= RV__LANES) return rv__vkeep_last(RV__F(get)(type, p, n - RV__LANES), n - i);
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + size * i, size * (n - i));
    return RV__F(get)(type, copy, 0);
#endif
}

/* One more term of the sum (or maximum) that the distance is made of. */
RV__ISA RV__INLINE rv__v RV__F(step)(int op, rv__v acc, rv__v a, rv__v b)
{
    rv__v d;
    if (op == RV__OP_IP || op == RV__OP_COSINE || op == RV__OP_DOT) return rv__vfma(a, b, acc);
    d = rv__vsub(a, b);
    if (op == RV__OP_L2) return rv__vfma(d, d, acc);
    if (op == RV__OP_L1) return rv__vadd(acc, rv__vabs(d));
    return rv__vmaxbits(acc, rv__vabs(d)); /* NaN is the largest magnitude */
}

RV__ISA RV__INLINE rv__v RV__F(join)(int op, rv__v a, rv__v b)
{
    return op == RV__OP_LINF ? rv__vmaxbits(a, b) : rv__vadd(a, b);
}

RV__ISA RV__INLINE float RV__F(fold)(int op, rv__v a)
{
    return op == RV__OP_LINF ? rv__vmaximum(a) : rv__vsum(a);
}

/* a and b of types ta and tb; for I8, scale is that of b. aa: squared length of a if known (cosine
   of a query against rows), negative if not. */
RV__ISA RV__INLINE float RV__F(one)(int op, int ta, int tb, const unsigned char *a,
                                    const unsigned char *b, float scale, size_t n, float aa)
{
    const size_t L = RV__LANES;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, x0 = s0, x1 = s0, y0 = s0, y1 = s0;
    rv__v u, v, factor = rv__vset(scale);
    float sum;
    size_t i = 0;
    if (op == RV__OP_COSINE) {
        for (; i + 2 * L <= n; i += 2 * L) {
            u = RV__F(get)(ta, a, i);
            v = RV__F(get)(tb, b, i);
            s0 = rv__vfma(u, v, s0);
            x0 = rv__vfma(u, u, x0);
            y0 = rv__vfma(v, v, y0);
            u = RV__F(get)(ta, a, i + L);
            v = RV__F(get)(tb, b, i + L);
            s1 = rv__vfma(u, v, s1);
            x1 = rv__vfma(u, u, x1);
            y1 = rv__vfma(v, v, y1);
        }
    } else {
        for (; i + 4 * L <= n; i += 4 * L) {
            v = RV__F(get)(tb, b, i);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s0 = RV__F(step)(op, s0, RV__F(get)(ta, a, i), v);
            v = RV__F(get)(tb, b, i + L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s1 = RV__F(step)(op, s1, RV__F(get)(ta, a, i + L), v);
            v = RV__F(get)(tb, b, i + 2 * L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s2 = RV__F(step)(op, s2, RV__F(get)(ta, a, i + 2 * L), v);
            v = RV__F(get)(tb, b, i + 3 * L);
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s3 = RV__F(step)(op, s3, RV__F(get)(ta, a, i + 3 * L), v);
        }
    }
    for (; i < n; i += L) {
        if (i + L <= n) {
            u = RV__F(get)(ta, a, i);
            v = RV__F(get)(tb, b, i);
        } else {
            u = RV__F(get_tail)(ta, a, i, n);
            v = RV__F(get_tail)(tb, b, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(u, v, s0);
            x0 = rv__vfma(u, u, x0);
            y0 = rv__vfma(v, v, y0);
        } else {
            if (tb == RV__TYPE_I8) v = rv__vmul(v, factor);
            s0 = RV__F(step)(op, s0, u, v);
        }
    }
    sum = RV__F(fold)(op, RV__F(join)(op, RV__F(join)(op, s0, s1), RV__F(join)(op, s2, s3)));
    if (op != RV__OP_COSINE) return op == RV__OP_IP ? -sum : sum;
    if (aa < 0.0f) aa = rv__vsum(rv__vadd(x0, x1));
    return rv__cosine_finish(ta, tb, a, b, scale, n, sum, aa, rv__vsum(rv__vadd(y0, y1)));
}

/* Four rows against one query. The loads of the query are shared, and four rows of memory are on
   their way at once. */
RV__ISA RV__INLINE void RV__F(four)(int op, int type, const unsigned char *query,
                                    const unsigned char *const *rows, size_t n, float qq, float *out)
{
    const size_t L = RV__LANES, head = type == RV__TYPE_I8 ? 4 : 0;
    const unsigned char *r0 = rows[0] + head, *r1 = rows[1] + head;
    const unsigned char *r2 = rows[2] + head, *r3 = rows[3] + head;
    float f0 = 1.0f, f1 = 1.0f, f2 = 1.0f, f3 = 1.0f;
    rv__v s0 = rv__vzero(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    rv__v g0 = s0, g1 = s0, g2 = s0, g3 = s0, q, v0, v1, v2, v3;
    size_t i = 0, half = 0;
    if (type == RV__TYPE_I8) {
        memcpy(&f0, rows[0], 4);
        memcpy(&f1, rows[1], 4);
        memcpy(&f2, rows[2], 4);
        memcpy(&f3, rows[3], 4);
        g0 = rv__vset(f0);
        g1 = rv__vset(f1);
        g2 = rv__vset(f2);
        g3 = rv__vset(f3);
    }
    for (; i < n; i += L, half ^= 1) {
        if (i + L <= n) {
            q = RV__F(get)(RV__TYPE_F32, query, i);
            v0 = RV__F(get)(type, r0, i);
            v1 = RV__F(get)(type, r1, i);
            v2 = RV__F(get)(type, r2, i);
            v3 = RV__F(get)(type, r3, i);
        } else {
            q = RV__F(get_tail)(RV__TYPE_F32, query, i, n);
            v0 = RV__F(get_tail)(type, r0, i, n);
            v1 = RV__F(get_tail)(type, r1, i, n);
            v2 = RV__F(get_tail)(type, r2, i, n);
            v3 = RV__F(get_tail)(type, r3, i, n);
        }
        if (op == RV__OP_COSINE) {
            s0 = rv__vfma(q, v0, s0);
            t0 = rv__vfma(v0, v0, t0);
            s1 = rv__vfma(q, v1, s1);
            t1 = rv__vfma(v1, v1, t1);
            s2 = rv__vfma(q, v2, s2);
            t2 = rv__vfma(v2, v2, t2);
            s3 = rv__vfma(q, v3, s3);
            t3 = rv__vfma(v3, v3, t3);
            continue;
        }
        if (type == RV__TYPE_I8) {
            v0 = rv__vmul(v0, g0);
            v1 = rv__vmul(v1, g1);
            v2 = rv__vmul(v2, g2);
            v3 = rv__vmul(v3, g3);
        }
        s0 = RV__F(step)(op, s0, q, v0);
        s1 = RV__F(step)(op, s1, q, v1);
        s2 = RV__F(step)(op, s2, q, v2);
        s3 = RV__F(step)(op, s3, q, v3);
    }
    out[0] = RV__F(fold)(op, s0);
    out[1] = RV__F(fold)(op, s1);
    out[2] = RV__F(fold)(op, s2);
    out[3] = RV__F(fold)(op, s3);
    if (op == RV__OP_IP) {
        for (i = 0; i < 4; i++) out[i] = -out[i];
    }
    if (op == RV__OP_COSINE) {
        out[0] = rv__cosine_finish(RV__TYPE_F32, type, query, r0, f0, n, out[0], qq, rv__vsum(t0));
        out[1] = rv__cosine_finish(RV__TYPE_F32, type, query, r1, f1, n, out[1], qq, rv__vsum(t1));
        out[2] = rv__cosine_finish(RV__TYPE_F32, type, query, r2, f2, n, out[2], qq, rv__vsum(t2));
        out[3] = rv__cosine_finish(RV__TYPE_F32, type, query, r3, f3, n, out[3], qq, rv__vsum(t3));
    }
}

/* See rv__scan_fn. Rows named by ids are prefetched RV__AHEAD bytes ahead. */
RV__ISA RV__INLINE void RV__F(scan)(int op, int type, const void *query, const unsigned char *rows,
                                    size_t stride, const uint32_t *ids, size_t n, size_t dim,
                                    float *out)
{
    const unsigned char *q = (const unsigned char *)query, *four[4];
    const size_t bytes = type == RV__TYPE_F32 ? 4 * dim : type == RV__TYPE_I8 ? dim + 4 : 2 * dim;
    const size_t ahead = rv__rows_ahead(bytes);
    float scale = 1.0f, qq = 0.0f;
    size_t i = 0, fetched = 0;
    if (op == RV__OP_COSINE) {
        qq = RV__F(one)(RV__OP_DOT, RV__TYPE_F32, RV__TYPE_F32, q, q, 1.0f, dim, 0.0f);
    }
    for (; i + 4 <= n; i += 4) {
        for (size_t j = 0; j < 4; j++) four[j] = rows + (ids ? ids[i + j] : i + j) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        RV__F(four)(op, type, q, four, dim, qq, out + i);
    }
    for (; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (type == RV__TYPE_I8) memcpy(&scale, row, 4);
        out[i] = RV__F(one)(op, RV__TYPE_F32, type, q, row + (type == RV__TYPE_I8 ? 4 : 0), scale, dim, qq);
    }
}

/* ---- the instances ---- */

RV__ISA static void RV__F(scan_l2_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l2_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L2, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_ip_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_IP, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_cosine_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_COSINE, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_l1_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_L1, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_f16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_F16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_bf16)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_BF16, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_linf_i8)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_LINF, RV__TYPE_I8, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_dot_f32)(const void *query, const unsigned char *rows, size_t stride,
    const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(scan)(RV__OP_DOT, RV__TYPE_F32, query, rows, stride, ids, n, dim, out);
}

RV__ISA static float RV__F(pair_l2_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f32)(const float *a, const float *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F32, RV__TYPE_F32, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_f16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_F16, RV__TYPE_F16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l2_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L2, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_ip_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_IP, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_cosine_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_COSINE, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_l1_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_L1, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}

RV__ISA static float RV__F(pair_linf_bf16)(const uint16_t *a, const uint16_t *b, size_t n)
{
    return RV__F(one)(RV__OP_LINF, RV__TYPE_BF16, RV__TYPE_BF16, (const unsigned char *)a,
                      (const unsigned char *)b, 1.0f, n, -1.0f);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_array.inl =================================================================== */
/* Kernels over arrays: updates, conversions, elementary functions, written once and expanded for
   every instruction set. */

RV__ISA static void RV__F(axpy_f32)(float alpha, const float *x, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vfma(a, rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(y + i, rv__vfma(a, rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)), n - i);
    }
}

RV__ISA static void RV__F(scale_f32)(float alpha, float *y, size_t n)
{
    rv__v a = rv__vset(alpha);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(y + i, rv__vmul(a, rv__vload(y + i)));
    if (i < n) rv__vstore_tail(y + i, rv__vmul(a, rv__vload_tail(y + i, n - i)), n - i);
}

RV__ISA static void RV__F(add_f32)(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(y + i, rv__vadd(rv__vload(x + i), rv__vload(y + i)));
    }
    if (i < n) {
        rv__vstore_tail(y + i, rv__vadd(rv__vload_tail(x + i, n - i), rv__vload_tail(y + i, n - i)), n - i);
    }
}

/* Index of the first value below bound from `begin` on, n when there is none. */
RV__ISA static size_t RV__F(find_below)(const float *x, size_t begin, size_t n, float bound)
{
    rv__v b = rv__vset(bound);
    size_t i = begin;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        if (rv__vmask(rv__vless(rv__vload(x + i), b))) break;
    }
    while (i < n && !rv__below(rv__load_f32(x + i), bound)) i++;
    return i;
}

/* ---- conversion ---- */

RV__ISA static void RV__F(widen_f16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_f16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__f16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_bf16)(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vload_bf16(src + i));
    for (; i < n; i++) rv__store_f32(dst + i, rv__bf16_f32(rv__load_u16(src + i)));
}

RV__ISA static void RV__F(widen_i8)(const int8_t *src, float scale, float *dst, size_t n)
{
    rv__v s = rv__vset(scale);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore(dst + i, rv__vmul(s, rv__vload_i8(src + i)));
    for (; i < n; i++) rv__store_f32(dst + i, (float)src[i] * scale);
}

RV__ISA static void RV__F(narrow_f16)(const float *src, uint16_t *dst, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) rv__vstore_f16(dst + i, rv__vload(src + i));
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_f16(rv__load_f32(src + i)));
}

/* Round to nearest even on the integer pattern; a NaN keeps its sign and leading payload. */
RV__ISA static void RV__F(narrow_bf16)(const float *src, uint16_t *dst, size_t n)
{
    const rv__vi half = rv__iset(0x7FFF), one = rv__iset(1), magnitude = rv__iset(0x7FFFFFFF);
    const rv__vi infinity = rv__iset(0x7F800000), quiet = rv__iset(0x00400000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vi x = rv__vbits(rv__vload(src + i)), top = rv__isar(x, 16);
        rv__vi round = rv__iadd(x, rv__iadd(half, rv__iand(top, one)));
        rv__vi bits = rv__vbits(rv__vpick(rv__igreater(rv__iand(x, magnitude), infinity),
                                          rv__vfrom(rv__ior(x, quiet)), rv__vfrom(round)));
        rv__istore_top16(dst + i, bits);
    }
    for (; i < n; i++) rv__store_u16(dst + i, rv__f32_bf16(rv__load_f32(src + i)));
}

RV__ISA static void RV__F(narrow_i8)(const float *src, float scale, int8_t *dst, size_t n)
{
    const rv__v s = rv__vset(scale), top = rv__vset(127.0f), bottom = rv__vset(-127.0f);
    const rv__vi magnitude = rv__iset(0x7FFFFFFF), infinity = rv__iset(0x7F800000);
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__v x = rv__vmul(rv__vload(src + i), s);
        x = rv__vpick(rv__igreater(rv__iand(rv__vbits(x), magnitude), infinity), rv__vzero(), x);
        rv__istore_i8(dst + i, rv__vround(rv__vmax(rv__vmin(x, top), bottom)));
    }
    for (; i < n; i++) dst[i] = rv__f32_i8(rv__load_f32(src + i) * scale);
}

/* ---- elementary functions ---- */

/* Keeps -ffast-math from merging what stands on either side. */
RV__ISA RV__INLINE rv__v RV__F(keep)(rv__v x)
{
#if defined(__FAST_MATH__) && defined(__GNUC__)
    __asm__("" : "+m"(x));
#endif
    return x;
}

/* 2^n for n in -126 .. 127. */
RV__ISA RV__INLINE rv__v RV__F(pow2)(rv__vi n)
{
    return rv__vfrom(rv__ishl(rv__iadd(n, rv__iset(127)), 23));
}

/* a where x is not NaN, else x itself. Looks at bits: comparisons vanish under -ffast-math. */
RV__ISA RV__INLINE rv__v RV__F(unless_nan)(rv__v x, rv__v a)
{
    rv__vi magnitude = rv__iand(rv__vbits(x), rv__iset(0x7FFFFFFF));
    return rv__vpick(rv__igreater(magnitude, rv__iset(0x7F800000)), x, a);
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 P(r), P minimax for the relative error;
   2^n in two factors, so that results below the normal range come out too. */
RV__ISA RV__INLINE rv__v RV__F(v_exp)(rv__v x)
{
    rv__v within = rv__vmin(rv__vmax(x, rv__vset(-104.0f)), rv__vset(89.0f));
    rv__vi n = rv__vround(rv__vmul(within, rv__vset(1.44269504f))), n0 = rv__isar(n, 1);
    rv__v f = rv__vfloat(n), r, p;
    r = rv__vfma(f, rv__vset(-0.693359375f), within); /* exact: few bits */
    r = rv__vfma(f, rv__vset(2.12194440e-4f), RV__F(keep)(r));
    p = rv__vset(0.000197402478f);
    p = rv__vfma(p, r, rv__vset(0.00139350793f));
    p = rv__vfma(p, r, rv__vset(0.00833357032f));
    p = rv__vfma(p, r, rv__vset(0.041666463f));
    p = rv__vfma(p, r, rv__vset(0.166666657f));
    p = rv__vfma(p, r, rv__vset(0.5f));
    p = rv__vadd(rv__vfma(rv__vmul(r, r), p, r), rv__vset(1.0f));
    p = rv__vmul(rv__vmul(p, RV__F(pow2)(n0)), RV__F(pow2)(rv__isub(n, n0)));
    return RV__F(unless_nan)(x, p);
}

/* x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2 / 2 + f^3 P(f). */
RV__ISA RV__INLINE rv__v RV__F(v_log)(rv__v x)
{
    const rv__vi low = rv__iset(0x3F3504F3); /* sqrt(1/2) */
    rv__vi bits = rv__vbits(x), magnitude = rv__iand(bits, rv__iset(0x7FFFFFFF)), e;
    rv__v small = rv__vmul(x, rv__vset(8388608.0f)), f, p, g, ff, nan;
    rv__vi is_small = rv__vbits(rv__vpick(rv__igreater(rv__iset(0x00800000), bits), small, x));
    e = rv__isar(rv__isub(is_small, low), 23);
    f = rv__vfrom(rv__iadd(rv__iand(rv__isub(is_small, low), rv__iset(0x007FFFFF)), low));
    f = rv__vsub(f, rv__vset(1.0f));
    g = rv__vfloat(e);
    g = rv__vpick(rv__igreater(rv__iset(0x00800000), bits), rv__vsub(g, rv__vset(23.0f)), g);
    p = rv__vset(0.0674919188f);
    p = rv__vfma(p, f, rv__vset(-0.116700254f));
    p = rv__vfma(p, f, rv__vset(0.118835375f));
    p = rv__vfma(p, f, rv__vset(-0.124062397f));
    p = rv__vfma(p, f, rv__vset(0.142203599f));
    p = rv__vfma(p, f, rv__vset(-0.166679889f));
    p = rv__vfma(p, f, rv__vset(0.200020716f));
    p = rv__vfma(p, f, rv__vset(-0.250000089f));
    p = rv__vfma(p, f, rv__vset(0.333333135f));
    ff = rv__vmul(f, f);
    p = rv__vmul(rv__vmul(ff, f), p);
    p = rv__vfma(g, rv__vset(-2.12194440e-4f), p);
    p = rv__vfma(ff, rv__vset(-0.5f), p);
    p = rv__vfma(g, rv__vset(0.693359375f), RV__F(keep)(rv__vadd(f, p)));
    nan = rv__vfrom(rv__iset(0x7FC00000));
    p = rv__vpick(rv__igreater(rv__iset(0), bits), nan, p);
    p = rv__vpick(rv__igreater(rv__iset(1), magnitude), rv__vfrom(rv__iset((int32_t)0xFF800000u)), p);
    p = rv__vpick(rv__igreater(bits, rv__iset(0x7F7FFFFF)), x, p);
    return RV__F(unless_nan)(x, p);
}

RV__ISA RV__INLINE rv__v RV__F(with_sign)(rv__v magnitude, rv__v x)
{
    return rv__vfrom(rv__ior(rv__vbits(magnitude), rv__iand(rv__vbits(x), rv__iset((int32_t)0x80000000u))));
}

/* x + x^3 P(x^2) below 0.625, else 1 - 2 / (exp(2 |x|) + 1). */
RV__ISA RV__INLINE rv__v RV__F(v_tanh)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, large;
    p = rv__vset(-0.0056922962f);
    p = rv__vfma(p, z, rv__vset(0.0206281673f));
    p = rv__vfma(p, z, rv__vset(-0.0537365153f));
    p = rv__vfma(p, z, rv__vset(0.133314058f));
    p = rv__vfma(p, z, rv__vset(-0.333332807f));
    p = rv__vfma(rv__vmul(p, z), x, x);
    large = rv__vmin(t, rv__vset(10.0f)); /* tanh is 1 from 9.02 on */
    large = rv__vadd(RV__F(v_exp)(rv__vadd(large, large)), rv__vset(1.0f));
    large = RV__F(with_sign)(rv__vsub(rv__vset(1.0f), rv__vdiv(rv__vset(2.0f), large)), x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.625f)), p, large));
}

/* With e = exp(-|x|): 1 / (1 + e) or, for negative x, e / (1 + e), small results included. */
RV__ISA RV__INLINE rv__v RV__F(v_sigmoid)(rv__v x)
{
    rv__v one = rv__vset(1.0f), e = RV__F(v_exp)(rv__vsub(rv__vzero(), rv__vabs(x)));
    rv__v top = rv__vpick(rv__vless(x, rv__vzero()), e, one);
    return RV__F(unless_nan)(x, rv__vdiv(top, rv__vadd(one, e)));
}

/* x + x P(x^2) below 0.92, else 1 - exp(Q(|x|)) with Q the minimax polynomial of log erfc. */
RV__ISA RV__INLINE rv__v RV__F(v_erf)(rv__v x)
{
    rv__v t = rv__vabs(x), z = rv__vmul(x, x), p, q, capped = rv__vmin(t, rv__vset(4.0f));
    p = rv__vset(-0.000600380125f);
    p = rv__vfma(p, z, rv__vset(0.00499585364f));
    p = rv__vfma(p, z, rv__vset(-0.0267685801f));
    p = rv__vfma(p, z, rv__vset(0.11281877f));
    p = rv__vfma(p, z, rv__vset(-0.376125008f));
    p = rv__vfma(p, z, rv__vset(0.128379151f));
    p = rv__vfma(p, x, x);
    q = rv__vset(-1.12319112e-05f);
    q = rv__vfma(q, capped, rv__vset(0.000322812703f));
    q = rv__vfma(q, capped, rv__vset(-0.00364250597f));
    q = rv__vfma(q, capped, rv__vset(0.0237621833f));
    q = rv__vfma(q, capped, rv__vset(-0.106237039f));
    q = rv__vfma(q, capped, rv__vset(-0.635151207f));
    q = rv__vfma(q, capped, rv__vset(-1.12864852f));
    q = rv__vsub(rv__vset(1.0f), RV__F(v_exp)(rv__vmul(q, capped)));
    q = RV__F(with_sign)(q, x);
    return RV__F(unless_nan)(x, rv__vpick(rv__vless(t, rv__vset(0.92f)), p, q));
}

RV__ISA RV__INLINE rv__v RV__F(elementary)(int function, rv__v x)
{
    switch (function) {
    case RV__FUN_EXP: return RV__F(v_exp)(x);
    case RV__FUN_LOG: return RV__F(v_log)(x);
    case RV__FUN_TANH: return RV__F(v_tanh)(x);
    case RV__FUN_SIGMOID: return RV__F(v_sigmoid)(x);
    default: return RV__F(v_erf)(x);
    }
}

RV__ISA RV__INLINE void RV__F(map)(int function, const float *x, float *out, size_t n)
{
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        rv__vstore(out + i, RV__F(elementary)(function, rv__vload(x + i)));
    }
    if (i < n) {
        rv__v tail = RV__F(elementary)(function, rv__vload_tail(x + i, n - i));
        rv__vstore_tail(out + i, tail, n - i);
    }
}

RV__ISA static void RV__F(exp_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_EXP, x, out, n);
}

RV__ISA static void RV__F(log_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_LOG, x, out, n);
}

RV__ISA static void RV__F(tanh_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_TANH, x, out, n);
}

RV__ISA static void RV__F(sigmoid_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_SIGMOID, x, out, n);
}

RV__ISA static void RV__F(erf_f32)(const float *x, float *out, size_t n)
{
    RV__F(map)(RV__FUN_ERF, x, out, n);
}

/* The largest scale * x[i]; *nan tells whether any of them is NaN. n > 0. */
RV__ISA static float RV__F(max_f32)(const float *x, float scale, size_t n, int *nan)
{
    const rv__v s = rv__vset(scale);
    rv__v top = rv__vset(rv__from_bits_f32((int32_t)0xFF800000u)), seen = rv__vzero(), y;
    float lanes[RV__LANES], best;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = rv__vmul(s, rv__vload(x + i));
        seen = rv__vmaxbits(seen, rv__vabs(y));
        top = rv__vmax(y, top);
    }
    rv__vstore(lanes, top);
    best = lanes[0];
    for (size_t j = 1; j < RV__LANES; j++) best = lanes[j] > best ? lanes[j] : best;
    *nan = rv__is_nan(rv__vmaximum(seen));
    for (; i < n; i++) {
        float last = scale * rv__load_f32(x + i);
        *nan |= rv__is_nan(last);
        best = last > best ? last : best;
    }
    return best;
}

/* out[i] = exp(scale * x[i] - top); returns their sum. */
RV__ISA static float RV__F(exp_sum_f32)(const float *x, float scale, float top, float *out, size_t n)
{
    const rv__v s = rv__vset(scale), t = rv__vset(top);
    rv__v sum = rv__vzero(), y;
    size_t i = 0;
    for (; i + RV__LANES <= n; i += RV__LANES) {
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload(x + i))), t));
        rv__vstore(out + i, y);
        sum = rv__vadd(sum, y);
    }
    if (i < n) {
        float last[RV__LANES];
        y = RV__F(v_exp)(rv__vsub(RV__F(keep)(rv__vmul(s, rv__vload_tail(x + i, n - i))), t));
        rv__vstore_tail(out + i, y, n - i);
        for (size_t j = 0; j < RV__LANES; j++) last[j] = i + j < n ? rv__load_f32(out + i + j) : 0.0f;
        sum = rv__vadd(sum, rv__vload(last));
    }
    return rv__vsum(sum);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_graph.inl =================================================================== */
/* Distances between byte codes from their dot products: base + h[j] + (slope g[j]) dot[j]. One form
   of the sum for every position, so that a pair has the same distance wherever it stands. */

RV__ISA RV__INLINE uint32_t RV__F(near_block)(const int32_t *dot, const float *h, const float *g, rv__v base,
                                              rv__v slope, rv__v limit, float *value)
{
    uint32_t mask = 0;
    for (size_t j = 0; j < 16; j += RV__LANES) {
        rv__v x = rv__vfloat(rv__vbits(rv__vload((const float *)(const void *)(dot + j))));
        rv__v d = rv__vfma(rv__vmul(slope, rv__vload(g + j)), x, rv__vadd(base, rv__vload(h + j)));
        rv__vstore(value + j, d);
        mask |= rv__vmask(rv__vless(d, limit)) << j;
    }
    return mask;
}

/* The first block of 16 positions from begin (a multiple of 16) on that has a distance below limit:
   returns its start, its distances in value[16] and a bit for each below; n and no bits when there is
   none. */
RV__ISA static size_t RV__F(near_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                                      size_t begin, size_t n, float limit, float *value, uint32_t *mask)
{
    rv__v b = rv__vset(base), s = rv__vset(slope), l = rv__vset(limit);
    size_t i = begin;
    for (; i + 16 <= n; i += 16) {
        *mask = RV__F(near_block)(dot + i, h + i, g + i, b, s, l, value);
        if (*mask) return i;
    }
    *mask = 0;
    if (i < n) {
        int32_t dots[16];
        float hs[16], gs[16];
        for (size_t j = 0; j < 16; j++) {
            size_t k = i + j < n ? i + j : i;
            dots[j] = dot[k];
            hs[j] = h[k];
            gs[j] = g[k];
        }
        *mask = RV__F(near_block)(dots, hs, gs, b, s, l, value) & ((1u << (n - i)) - 1u);
        if (*mask) return i;
    }
    return n;
}

/* All of them: line[n]. */
RV__ISA static void RV__F(line_i32)(const int32_t *dot, const float *h, const float *g, float base, float slope,
                                    size_t n, float *line)
{
    float value[16];
    uint32_t mask;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        (void)RV__F(near_block)(dot + i, h + i, g + i, rv__vset(base), rv__vset(slope), rv__vset(base), line + i);
    }
    if (i < n) {
        (void)RV__F(near_i32)(dot, h, g, base, slope, i, n, base, value, &mask);
        memcpy(line + i, value, (n - i) * sizeof(float));
    }
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_tile.inl ==================================================================== */
/* All dot products between two sets of rows, floats. A tile of six rows of A and RV__TILE vectors of
   columns of B stays in registers; B is packed so that one column vector is one load. */

#define RV__COLS (RV__TILE * RV__LANES)

/* Packs rows of b, up to RV__COLS of them, transposed: [n][RV__COLS], missing columns zero. */
RV__ISA static void RV__F(pack_f32)(const float *b, size_t ldb, size_t nb, size_t n, float *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const float *row = b + j * ldb;
        if (j < nb) {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = row[k];
        } else {
            for (size_t k = 0; k < n; k++) packed[k * RV__COLS + j] = 0.0f;
        }
    }
}

RV__ISA RV__INLINE void RV__F(tile_row)(float a, const rv__v *b, rv__v *c)
{
    rv__v x = rv__vset(a);
    c[0] = rv__vfma(x, b[0], c[0]);
    c[1] = rv__vfma(x, b[1], c[1]);
    if (RV__TILE == 4) {
        c[2] = rv__vfma(x, b[2 % RV__TILE], c[2 % RV__TILE]);
        c[3 % RV__TILE] = rv__vfma(x, b[3 % RV__TILE], c[3 % RV__TILE]);
    }
}

RV__ISA RV__INLINE void RV__F(tile_store)(const rv__v *c, float *out, size_t nb, int accumulate)
{
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, accumulate ? rv__vadd(rv__vload(out + first), c[j]) : c[j]);
        } else if (first < nb) {
            rv__v sum = c[j];
            if (accumulate) sum = rv__vadd(rv__vload_tail(out + first, nb - first), sum);
            rv__vstore_tail(out + first, sum, nb - first);
        }
    }
}

/* na <= 6 rows, nb <= RV__COLS columns. */
RV__ISA static void RV__F(tile_f32)(const float *a, size_t lda, size_t na, const float *packed, size_t nb,
                                    size_t n, int accumulate, float *out, size_t ldo)
{
    const size_t last = na - 1;
    const float *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const float *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const float *a5 = a + last * lda;
    rv__v c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__vzero();
    }
    for (size_t k = 0; k < n; k++, packed += RV__COLS) {
        b[0] = rv__vload(packed);
        b[1] = rv__vload(packed + RV__LANES);
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vload(packed + 2 * RV__LANES);
            b[3 % RV__TILE] = rv__vload(packed + 3 * RV__LANES);
        }
        RV__F(tile_row)(a[k], b, c0);
        RV__F(tile_row)(a1[k], b, c1);
        RV__F(tile_row)(a2[k], b, c2);
        RV__F(tile_row)(a3[k], b, c3);
        RV__F(tile_row)(a4[k], b, c4);
        RV__F(tile_row)(a5[k], b, c5);
    }
    RV__F(tile_store)(c0, out, nb, accumulate);
    if (na > 1) RV__F(tile_store)(c1, out + ldo, nb, accumulate);
    if (na > 2) RV__F(tile_store)(c2, out + 2 * ldo, nb, accumulate);
    if (na > 3) RV__F(tile_store)(c3, out + 3 * ldo, nb, accumulate);
    if (na > 4) RV__F(tile_store)(c4, out + 4 * ldo, nb, accumulate);
    if (na > 5) RV__F(tile_store)(c5, out + 5 * ldo, nb, accumulate);
}

RV__ISA static void RV__F(gemm_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, int accumulate, float *out, size_t ldo, void *scratch)
{
    float *packed = (float *)scratch;
    for (size_t k = 0; k < n || k == 0; k += RV__GEMM_DEPTH) {
        size_t depth = n - k < RV__GEMM_DEPTH ? n - k : RV__GEMM_DEPTH;
        for (size_t j = 0; j < nb; j += RV__COLS) {
            size_t cols = nb - j < RV__COLS ? nb - j : RV__COLS;
            RV__F(pack_f32)(b + j * ldb + k, ldb, cols, depth, packed);
            for (size_t i = 0; i < na; i += 6) {
                RV__F(tile_f32)(a + i * lda + k, lda, na - i < 6 ? na - i : 6, packed, cols, depth,
                                accumulate || k > 0, out + i * ldo + j, ldo);
            }
        }
    }
}

RV__ISA static void RV__F(gram_f32)(const float *a, size_t lda, size_t na, const float *b, size_t ldb,
                                    size_t nb, size_t n, float *out, size_t ldo, void *scratch)
{
    RV__F(gemm_f32)(a, lda, na, b, ldb, nb, n, 0, out, ldo, scratch);
}

#undef RV__COLS
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_int.inl ===================================================================== */
/* Kernels over signed and unsigned bytes, nibbles, and bits times bytes: exact on every instruction
   set as long as a 32-bit sum holds them. */

/* ---- pairs ---- */

/* Bytes i .. n - 1, fewer than RV__BYTES, the rest zero, as a vector. */
RV__ISA RV__INLINE rv__vb RV__F(bytes_tail)(const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    return rv__btail(p + i, n - i);
#else
    unsigned char copy[RV__BYTES];
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + i, n - i);
    return rv__bload(copy);
#endif
}

/* Four quantities of two byte rows; what is a constant. */
RV__ISA RV__INLINE rv__vi RV__F(int_step)(int what, rv__vi acc, rv__vb a, rv__vb b)
{
    switch (what) {
    case RV__INT_DOT: return rv__bdot_any(acc, a, b);
    case RV__INT_L2: return rv__bl2_i8(acc, a, b);
    default: return rv__bl1_i8(acc, a, b);
    }
}

RV__ISA RV__INLINE int32_t RV__F(int_pair)(int what, const int8_t *a, const int8_t *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    const size_t B = RV__BYTES;
    rv__vi s0 = rv__iset(0), s1 = s0;
    size_t i = 0;
    for (; i + 2 * B <= n; i += 2 * B) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        s1 = RV__F(int_step)(what, s1, rv__bload(p + i + B), rv__bload(q + i + B));
    }
    if (i + B <= n) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        i += B;
    }
    if (i < n) s1 = RV__F(int_step)(what, s1, RV__F(bytes_tail)(p, i, n), RV__F(bytes_tail)(q, i, n));
    return rv__isum(rv__iadd(s0, s1));
}

RV__ISA static int32_t RV__F(dot_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static int32_t RV__F(l2sq_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L2, a, b, n);
}

RV__ISA static int32_t RV__F(l1_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L1, a, b, n);
}

/* out: a.b, a.a, b.b */
RV__ISA static void RV__F(cosine_i8)(const int8_t *a, const int8_t *b, size_t n, int32_t *out)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    rv__vi ab = rv__iset(0), aa = ab, bb = ab;
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload(p + i) : RV__F(bytes_tail)(p, i, n);
        rv__vb v = whole ? rv__bload(q + i) : RV__F(bytes_tail)(q, i, n);
        ab = rv__bdot_any(ab, u, v);
        aa = rv__bdot_any(aa, u, u);
        bb = rv__bdot_any(bb, v, v);
    }
    out[0] = rv__isum(ab);
    out[1] = rv__isum(aa);
    out[2] = rv__isum(bb);
}

RV__ISA RV__INLINE uint32_t RV__F(unsigned_pair)(int what, const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload_u(a + i) : RV__F(bytes_tail)(a, i, n);
        rv__vb v = whole ? rv__bload_u(b + i) : RV__F(bytes_tail)(b, i, n);
        s = what == RV__INT_DOT ? rv__bdot_u8(s, u, v) : rv__bl2_u8(s, u, v);
    }
    return (uint32_t)rv__isum(s);
}

RV__ISA static uint32_t RV__F(dot_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static uint32_t RV__F(l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_L2, a, b, n);
}

/* ---- one query against packed rows ---- */

/* The next 64 bytes of a row (bits: 64 / 8 of them, 64 elements), times the query. */
RV__ISA RV__INLINE rv__vi RV__F(code_step)(int code, rv__vi acc, const unsigned char *row, const int8_t *query)
{
    for (size_t j = 0; j < 64; j += RV__BYTES) {
        rv__vb r, q = rv__bload(query + j);
        if (code == RV__CODE_U1) {
            acc = rv__bdot_small(acc, rv__bbits(row, j), q);
        } else if (code == RV__CODE_U4) {
            r = rv__bload(row + j);
            acc = rv__bdot_small(acc, rv__blow(r), q);
            acc = rv__bdot_small(acc, rv__bhigh(r), rv__bload(query + 64 + j));
        } else {
            r = rv__bflip(rv__bload(row + j));
            acc = rv__bdot(acc, r, q);
        }
    }
    return acc;
}

/* All rows, four at a time; every row a multiple of 64 bytes (bits: of 8). bias: what the shift to
   unsigned bytes adds to each dot product. */
RV__ISA RV__INLINE void RV__F(code_scan)(int code, const int8_t *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n,
                                         size_t n_bytes, int32_t *out)
{
    const size_t step = code == RV__CODE_U1 ? 8 : 64, elements = code == RV__CODE_U4 ? 128 : 64;
    const size_t ahead = rv__rows_ahead(n_bytes);
    int32_t bias = 0;
    size_t i = 0, fetched = 0;
    if (RV__BIAS && code == RV__CODE_I8) {
        for (size_t j = 0; j < n_bytes; j++) bias += query[j];
        bias *= RV__BIAS;
    }
    for (; i < n; i += 4) {
        const size_t last = n - 1; /* a short group repeats its last row */
        const size_t i1 = i + 1 < n ? i + 1 : last, i2 = i + 2 < n ? i + 2 : last;
        const size_t i3 = i + 3 < n ? i + 3 : last;
        const unsigned char *r0 = rows + (ids ? ids[i] : i) * stride;
        const unsigned char *r1 = rows + (ids ? ids[i1] : i1) * stride;
        const unsigned char *r2 = rows + (ids ? ids[i2] : i2) * stride;
        const unsigned char *r3 = rows + (ids ? ids[i3] : i3) * stride;
        const int8_t *q = query;
        rv__vi s0 = rv__iset(0), s1 = s0, s2 = s0, s3 = s0;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, n_bytes);
            }
        }
        for (size_t j = 0; j < n_bytes; j += step, q += elements) {
            s0 = RV__F(code_step)(code, s0, r0 + j, q);
            s1 = RV__F(code_step)(code, s1, r1 + j, q);
            s2 = RV__F(code_step)(code, s2, r2 + j, q);
            s3 = RV__F(code_step)(code, s3, r3 + j, q);
        }
        out[i] = rv__isum(s0) - bias;
        out[i1] = rv__isum(s1) - bias;
        out[i2] = rv__isum(s2) - bias;
        out[i3] = rv__isum(s3) - bias;
    }
}

RV__ISA static void RV__F(dot_i8_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_I8, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u4_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U4, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u1_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U1, query, rows, stride, ids, n, n_bytes, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_code.inl ==================================================================== */
/* All dot products between two sets of byte rows, and the 4-bit fast scan. */

#define RV__COLS (RV__TILE * RV__LANES)
#define RV__WORDS(n) ((n) / RV__GROUP) /* 32-bit words of a packed row of n bytes */

/* Elements k .. k + RV__GROUP - 1 of a row as one word: four bytes, or two 16-bit numbers. */
RV__ISA RV__INLINE uint32_t RV__F(group)(const int8_t *row, size_t k)
{
#if RV__GROUP == 4
    return rv__load_u32(row + k);
#else
    return (uint32_t)(uint16_t)row[k] | (uint32_t)(uint16_t)row[k + 1] << 16;
#endif
}

/* Packs rows of b, at most RV__COLS of them: [words][RV__COLS]. */
RV__ISA static void RV__F(pack_i8)(const int8_t *b, size_t ldb, size_t nb, size_t n, uint32_t *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const int8_t *row = b + (j < nb ? j : 0) * ldb;
        for (size_t k = 0; k < RV__WORDS(n); k++) {
            packed[k * RV__COLS + j] = RV__F(group)(row, k * RV__GROUP) ^ RV__GROUP_FLIP;
        }
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_row)(uint32_t a, const rv__vi *b, rv__vi *c)
{
    rv__vi x = rv__iset((int32_t)a);
    c[0] = rv__gdot(c[0], b[0], x);
    c[1] = rv__gdot(c[1], b[1], x);
    if (RV__TILE == 4) {
        c[2 % RV__TILE] = rv__gdot(c[2 % RV__TILE], b[2 % RV__TILE], x);
        c[3 % RV__TILE] = rv__gdot(c[3 % RV__TILE], b[3 % RV__TILE], x);
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_store)(const rv__vi *c, int32_t bias, int32_t *out, size_t nb)
{
    int32_t lanes[RV__LANES];
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        rv__vi sum = rv__isub(c[j], rv__iset(bias));
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, rv__vfrom(sum));
        } else {
            rv__vstore(lanes, rv__vfrom(sum));
            for (size_t i = first; i < nb; i++) out[i] = lanes[i - first];
        }
    }
}

/* na <= 6 rows of A as words. */
RV__ISA static void RV__F(tile_i8)(const unsigned char *a, size_t lda, size_t na, const uint32_t *packed,
                                   size_t nb, size_t words, const int32_t *bias, int32_t *out, size_t ldo)
{
    const size_t last = na - 1;
    const unsigned char *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const unsigned char *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const unsigned char *a5 = a + last * lda;
    rv__vi c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__iset(0);
    }
    for (size_t k = 0; k < 4 * words; k += 4, packed += RV__COLS) {
        b[0] = rv__vbits(rv__vload(packed));
        b[1] = rv__vbits(rv__vload(packed + RV__LANES));
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vbits(rv__vload(packed + 2 * RV__LANES));
            b[3 % RV__TILE] = rv__vbits(rv__vload(packed + 3 * RV__LANES));
        }
        RV__F(code_tile_row)(rv__load_u32(a + k), b, c0);
        RV__F(code_tile_row)(rv__load_u32(a1 + k), b, c1);
        RV__F(code_tile_row)(rv__load_u32(a2 + k), b, c2);
        RV__F(code_tile_row)(rv__load_u32(a3 + k), b, c3);
        RV__F(code_tile_row)(rv__load_u32(a4 + k), b, c4);
        RV__F(code_tile_row)(rv__load_u32(a5 + k), b, c5);
    }
    RV__F(code_tile_store)(c0, bias[0], out, nb);
    if (na > 1) RV__F(code_tile_store)(c1, bias[1], out + ldo, nb);
    if (na > 2) RV__F(code_tile_store)(c2, bias[2], out + 2 * ldo, nb);
    if (na > 3) RV__F(code_tile_store)(c3, bias[3], out + 3 * ldo, nb);
    if (na > 4) RV__F(code_tile_store)(c4, bias[4], out + 4 * ldo, nb);
    if (na > 5) RV__F(code_tile_store)(c5, bias[5], out + 5 * ldo, nb);
}

RV__ISA RV__INLINE int32_t RV__F(sum_i8)(const int8_t *a, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t k = 0; k < n; k += RV__BYTES) s = rv__bdot_small(s, rv__bone(), rv__bload(a + k));
    return rv__isum(s);
}

/* The scratch holds six rows of A as 16-bit numbers (where the words are those), then B packed. */
RV__ISA static void RV__F(gram_i8)(const int8_t *a, size_t lda, size_t na, const int8_t *b, size_t ldb,
                                   size_t nb, size_t n, int32_t *out, size_t ldo, void *scratch)
{
    uint32_t *wide = (uint32_t *)scratch, *packed = wide + 6 * n / 2;
    const size_t words = RV__WORDS(n), panel = words * RV__COLS;
    for (size_t j = 0; j < nb; j += RV__COLS) {
        RV__F(pack_i8)(b + j * ldb, ldb, nb - j < RV__COLS ? nb - j : RV__COLS, n, packed + j / RV__COLS * panel);
    }
    for (size_t i = 0; i < na; i += 6) {
        const size_t rows = na - i < 6 ? na - i : 6;
        const unsigned char *tile = (const unsigned char *)(a + i * lda);
        size_t pitch = lda;
        int32_t bias[6] = {0, 0, 0, 0, 0, 0};
        if (RV__GROUP_FLIP) {
            for (size_t r = 0; r < rows; r++) bias[r] = 128 * RV__F(sum_i8)(a + (i + r) * lda, n);
        }
        if (RV__GROUP == 2) {
            for (size_t r = 0; r < rows; r++) {
                for (size_t k = 0; k < words; k++) {
                    wide[r * words + k] = RV__F(group)(a + (i + r) * lda, 2 * k);
                }
            }
            tile = (const unsigned char *)wide;
            pitch = 4 * words;
        }
        for (size_t j = 0; j < nb; j += RV__COLS) {
            RV__F(tile_i8)(tile, pitch, rows, packed + j / RV__COLS * panel,
                           nb - j < RV__COLS ? nb - j : RV__COLS, words, bias, out + i * ldo + j, ldo);
        }
    }
}

#undef RV__COLS
#undef RV__WORDS

/* ---- product codes of four bits ---- */

#if defined(RV__SCALAR)
static void rv__pq4_scan_scalar(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks, uint16_t *out)
{
    for (size_t b = 0; b < n_blocks; b++, codes += 16 * m, out += 32) {
        for (size_t i = 0; i < 32; i++) {
            uint32_t sum = 0;
            for (size_t s = 0; s < m; s++) {
                sum += lut[16 * s + ((codes[16 * s + i % 16] >> (i < 16 ? 0 : 4)) & 15u)];
            }
            out[i] = (uint16_t)(sum > 65535u ? 65535u : sum);
        }
    }
}
#else
/* Entries come from a byte shuffle; sums of 16 bits. The bytes at odd places are summed alone; the
   sum of all 16-bit words is even + 256 odd modulo 2^16, so that the even ones cost no masking.
   After 256 sub-quantizers (at most 65280) the sums move out, saturating. */
RV__ISA static void RV__F(pq4_scan)(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks,
                                    uint16_t *out)
{
    const size_t bytes = 16 * m;
    for (size_t block = 0; block < n_blocks; block++, codes += bytes, out += 32) {
        for (size_t begin = 0; begin < bytes || begin == 0; begin += 16 * 256) {
            const size_t end = bytes - begin < 16 * 256 ? bytes : begin + 16 * 256;
            rv__q low = rv__qzero(), low_odd = low, high = low, high_odd = low;
            for (size_t k = begin; k < end; k += RV__LOOK) {
                const int half = RV__LOOK == 64 && k + 64 > end;
                rv__q table = half ? rv__qload_half(lut + k) : rv__qload(lut + k);
                rv__q code = half ? rv__qload_half(codes + k) : rv__qload(codes + k);
                rv__q x = rv__qlook(table, rv__qlow(code)), y = rv__qlook(table, rv__qhigh(code));
                low = rv__qadd(low, x);
                low_odd = rv__qadd(low_odd, rv__qodd(x));
                high = rv__qadd(high, y);
                high_odd = rv__qadd(high_odd, rv__qodd(y));
            }
            RV__F(qfold)(rv__qeven(low, low_odd), low_odd, out, begin > 0);
            RV__F(qfold)(rv__qeven(high, high_odd), high_odd, out + 16, begin > 0);
        }
    }
}
#endif
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_bits.inl ==================================================================== */
/* Kernels over sets of bits, in whole bytes. */

RV__ISA RV__INLINE rv__vw RV__F(word)(const unsigned char *p, size_t i, size_t n)
{
    if (i + RV__WORD <= n) return rv__wload(p + i);
#if defined(RV__MASKED)
    return rv__wtail(p + i, n - i);
#else
    {
        unsigned char copy[RV__WORD];
        memset(copy, 0, sizeof copy);
        memcpy(copy, p + i, n - i);
        return rv__wload(copy);
    }
#endif
}

/* Bits that differ. */
RV__ISA static uint32_t RV__F(hamming)(const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vp s = rv__pzero();
    for (size_t i = 0; i < n; i += RV__WORD) {
        s = rv__wpop(s, rv__wxor(RV__F(word)(a, i, n), RV__F(word)(b, i, n)));
    }
    return (uint32_t)rv__psum(s);
}

/* counts: bits in both, bits in either. */
RV__ISA static void RV__F(overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts)
{
    rv__vp both = rv__pzero(), either = both;
    for (size_t i = 0; i < n; i += RV__WORD) {
        rv__vw u = RV__F(word)(a, i, n), v = RV__F(word)(b, i, n);
        both = rv__wpop(both, rv__wand(u, v));
        either = rv__wpop(either, rv__wor(u, v));
    }
    counts[0] = (uint32_t)rv__psum(both);
    counts[1] = (uint32_t)rv__psum(either);
}

RV__ISA RV__INLINE void RV__F(bit_scan)(int jaccard, const void *query, const unsigned char *rows,
                                        size_t stride, const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t bytes = (dim + 7) / 8, ahead = rv__rows_ahead(bytes);
    uint32_t counts[2];
    size_t fetched = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 1 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        if (jaccard) {
            RV__F(overlap)(q, row, bytes, counts);
            out[i] = rv__jaccard_finish(counts[0], counts[1]);
        } else {
            out[i] = (float)RV__F(hamming)(q, row, bytes);
        }
    }
}

RV__ISA static void RV__F(scan_hamming)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(0, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_jaccard)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(1, query, rows, stride, ids, n, dim, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/simd_end.inl ======================================================================== */
/* Ends one expansion: takes the vocabulary back. */
#undef RV__F
#undef RV__ISA
#undef RV__SCALAR
#undef RV__MASKED
#undef RV__ALL16
#undef RV__LANES
#undef RV__BYTES
#undef RV__WORD
#undef RV__TILE
#undef RV__LOOK
#undef RV__GROUP
#undef RV__GROUP_FLIP
#undef RV__BIAS
#undef RV__VNNI
#undef RV__POPCNT512
#undef RV__DOTPROD
#undef rv__v
#undef rv__vi
#undef rv__vb
#undef rv__vw
#undef rv__vp
#undef rv__vzero
#undef rv__vset
#undef rv__vadd
#undef rv__vsub
#undef rv__vmul
#undef rv__vdiv
#undef rv__vfma
#undef rv__vmax
#undef rv__vmin
#undef rv__vsum
#undef rv__vmaximum
#undef rv__vround
#undef rv__vfloat
#undef rv__vbits
#undef rv__vfrom
#undef rv__vpick
#undef rv__vless
#undef rv__vmask
#undef rv__iset
#undef rv__iadd
#undef rv__isub
#undef rv__iand
#undef rv__ior
#undef rv__ishl
#undef rv__isar
#undef rv__igreater
#undef rv__isum
#undef rv__vload
#undef rv__vstore
#undef rv__vload_tail
#undef rv__vstore_tail
#undef rv__vload_f16
#undef rv__vload_bf16
#undef rv__vload_i8
#undef rv__vtail_f16
#undef rv__vtail_bf16
#undef rv__vtail_i8
#undef rv__vkeep_last
#undef rv__vabs
#undef rv__vmaxbits
#undef rv__vstore_f16
#undef rv__istore_top16
#undef rv__istore_i8
#undef rv__bload
#undef rv__bload_u
#undef rv__btail
#undef rv__blow
#undef rv__bhigh
#undef rv__bbits
#undef rv__bflip
#undef rv__bdot
#undef rv__bone
#undef rv__gdot
#undef rv__bdot_small
#undef rv__bdot_any
#undef rv__bdot_u8
#undef rv__bl2_i8
#undef rv__bl2_u8
#undef rv__bl1_i8
#undef rv__wload
#undef rv__wtail
#undef rv__wand
#undef rv__wor
#undef rv__wxor
#undef rv__pzero
#undef rv__psum
#undef rv__wpop
#undef rv__q
#undef rv__qzero
#undef rv__qload
#undef rv__qload_half
#undef rv__qlow
#undef rv__qhigh
#undef rv__qlook
#undef rv__qadd
#undef rv__qodd
#undef rv__qeven
/* ==== src/simd.c, continued =================================================================== */

#define RV__VNNI 1
/* ==== src/simd_avx512.inl ===================================================================== */
/* Vocabulary of AVX-512 F, BW, DQ, VL. With RV__VNNI or RV__POPCNT512 defined, of the processors
   that also have those instructions; then only the integer, or bit, kernels are expanded. */

#if defined(RV__VNNI)
#define RV__F(name) rv__##name##_avx512vnni
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vnni")
#elif defined(RV__POPCNT512)
#define RV__F(name) rv__##name##_avx512pop
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vpopcntdq")
#else
#define RV__F(name) rv__##name##_avx512
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
/* The forms under a full mask are the same instructions as those without; gcc's headers for the
   latter use a value they do not initialise, and g++ 12 warns of it here. */
#define RV__ALL16 ((__mmask16)0xFFFF)
#define RV__LANES 16u
#define RV__BYTES 64u
#define RV__WORD 64u
#define rv__v __m512
#define rv__vi __m512i
#define rv__vb __m512i
#define RV__TILE 4u
#define RV__LOOK 64u
#define rv__q __m512i
#define rv__vw __m512i
#define rv__vp __m512i

#define rv__vzero() _mm512_setzero_ps()
#define rv__vset(x) _mm512_set1_ps(x)
#define rv__vadd(a, b) _mm512_add_ps((a), (b))
#define rv__vsub(a, b) _mm512_sub_ps((a), (b))
#define rv__vmul(a, b) _mm512_mul_ps((a), (b))
#define rv__vdiv(a, b) _mm512_div_ps((a), (b))
#define rv__vfma(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define rv__vmax(a, b) _mm512_maskz_max_ps(RV__ALL16, (a), (b))
#define rv__vmin(a, b) _mm512_maskz_min_ps(RV__ALL16, (a), (b))
#define rv__vround(a) _mm512_maskz_cvtps_epi32(RV__ALL16, (a))
#define rv__vfloat(a) _mm512_maskz_cvtepi32_ps(RV__ALL16, (a))
#define rv__vbits(a) _mm512_castps_si512(a)
#define rv__vfrom(a) _mm512_castsi512_ps(a)
#define rv__vpick(mask, a, b) _mm512_mask_blend_ps((mask), (b), (a))
#define rv__vless(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_LT_OQ)
#define rv__vmask(less) ((uint32_t)(less))
#define rv__iset(x) _mm512_set1_epi32(x)
#define rv__iadd(a, b) _mm512_add_epi32((a), (b))
#define rv__isub(a, b) _mm512_sub_epi32((a), (b))
#define rv__iand(a, b) _mm512_and_si512((a), (b))
#define rv__ior(a, b) _mm512_or_si512((a), (b))
#define rv__ishl(a, n) _mm512_maskz_slli_epi32(RV__ALL16, (a), (n))
#define rv__isar(a, n) _mm512_maskz_srai_epi32(RV__ALL16, (a), (n))
#define rv__igreater(a, b) _mm512_cmpgt_epi32_mask((a), (b))
#define rv__isum(a) RV__F(isum)(a)
#define rv__vsum(a) RV__F(vsum)(a)
#define rv__vload(p) _mm512_loadu_ps((const void *)(p))
#define rv__vstore(p, a) _mm512_storeu_ps((void *)(p), (a))
#define rv__vload_tail(p, n) _mm512_maskz_loadu_ps(RV__F(mask)(n), (const void *)(p))
#define rv__vstore_tail(p, a, n) _mm512_mask_storeu_ps((void *)(p), RV__F(mask)(n), (a))
#define rv__vload_f16(p) _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_bf16(p) RV__F(from_bf16)(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_i8(p) \
    RV__F(from_i8)(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define rv__vabs(a) _mm512_abs_ps(a)
#define rv__vmaxbits(a, b) \
    _mm512_castsi512_ps(_mm512_maskz_max_epi32(RV__ALL16, _mm512_castps_si512(a), _mm512_castps_si512(b)))
#define rv__vmaximum(a) RV__F(vmaximum)(a)
#define rv__vstore_f16(p, a) RV__F(store_f16)((p), (a))
#define rv__istore_top16(p, a) \
    _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_maskz_cvtepi32_epi16(RV__ALL16, _mm512_maskz_srli_epi32(RV__ALL16, (a), 16)))
#define rv__istore_i8(p, a) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_maskz_cvtepi32_epi8(RV__ALL16, (a)))

/* Reads rows' tails under a mask. */
#define RV__MASKED 1
#define rv__vtail_f16(p, n) \
    _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_bf16(p, n) RV__F(from_bf16)(_mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_i8(p, n) \
    RV__F(from_i8)(_mm_maskz_loadu_epi8(RV__F(mask)(n), (const void *)(p)))

RV__ISA RV__INLINE __mmask16 RV__F(mask)(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

RV__ISA RV__INLINE __m512 RV__F(from_i8)(__m128i x)
{
    return _mm512_maskz_cvtepi32_ps(RV__ALL16, _mm512_maskz_cvtepi8_epi32(RV__ALL16, x));
}

RV__ISA RV__INLINE __m256i RV__F(lower)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 0);
}

RV__ISA RV__INLINE __m256i RV__F(upper)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 1);
}

RV__ISA RV__INLINE void RV__F(store_f16)(void *p, __m512 a)
{
    __m256 low = _mm256_castsi256_ps(RV__F(lower)(_mm512_castps_si512(a)));
    __m256 high = _mm256_castsi256_ps(RV__F(upper)(_mm512_castps_si512(a)));
    __m128i *out = (__m128i *)p;
    _mm_storeu_si128(out, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(out + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
}

RV__ISA RV__INLINE float RV__F(vsum)(__m512 a)
{
    __m256 y = _mm256_castsi256_ps(RV__F(upper)(_mm512_castps_si512(a)));
    __m128 x;
    y = _mm256_add_ps(y, _mm256_castsi256_ps(RV__F(lower)(_mm512_castps_si512(a))));
    x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

RV__ISA RV__INLINE int32_t RV__F(isum)(__m512i a)
{
    __m256i y = _mm256_add_epi32(RV__F(lower)(a), RV__F(upper)(a));
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* Of magnitudes, through their bits. */
RV__ISA RV__INLINE float RV__F(vmaximum)(__m512 a)
{
    __m512i b = _mm512_castps_si512(a);
    __m256i y = _mm256_max_epi32(RV__F(lower)(b), RV__F(upper)(b));
    __m128i x = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return rv__from_bits_f32(_mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1))));
}

RV__ISA RV__INLINE __m512 RV__F(from_bf16)(__m256i x)
{
    __m512i wide = _mm512_maskz_cvtepu16_epi32(RV__ALL16, x);
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(RV__ALL16, wide, 16));
}

/* ---- bytes ---- */

#define rv__bload(p) _mm512_loadu_si512((const void *)(p))
#define rv__bload_u(p) _mm512_loadu_si512((const void *)(p))
#define rv__btail(p, n) \
    _mm512_maskz_loadu_epi8(((__mmask64)1 << (n)) - 1u, (const void *)(p))
#define rv__blow(a) _mm512_and_si512((a), _mm512_set1_epi8(15))
#define rv__bhigh(a) _mm512_and_si512(_mm512_srli_epi16((a), 4), _mm512_set1_epi8(15))
#define rv__bbits(p, j) _mm512_maskz_mov_epi8(rv__load_u64((p) + ((j) >> 3)), _mm512_set1_epi8(1))
#define rv__bdot_any(acc, a, b) RV__F(v_dot_any)((acc), (a), (b))
#define rv__bdot_u8(acc, a, b) RV__F(v_dot_u8)((acc), (a), (b))
#define rv__bl2_i8(acc, a, b) RV__F(v_l2_i8)((acc), (a), (b))
#define rv__bl2_u8(acc, a, b) RV__F(v_l2_u8)((acc), (a), (b))
#define rv__bl1_i8(acc, a, b) RV__F(v_l1_i8)((acc), (a), (b))

RV__ISA RV__INLINE __m512i RV__F(v_madd)(__m512i acc, __m512i a, __m512i b)
{
#ifdef RV__VNNI
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_any)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i a0 = _mm512_unpacklo_epi8(zero, a), a1 = _mm512_unpackhi_epi8(zero, a);
    __m512i b0 = _mm512_unpacklo_epi8(zero, b), b1 = _mm512_unpackhi_epi8(zero, b);
    acc = RV__F(v_madd)(acc, _mm512_srai_epi16(a0, 8), _mm512_srai_epi16(b0, 8));
    return RV__F(v_madd)(acc, _mm512_srai_epi16(a1, 8), _mm512_srai_epi16(b1, 8));
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_u8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    acc = RV__F(v_madd)(acc, _mm512_unpacklo_epi8(a, zero), _mm512_unpacklo_epi8(b, zero));
    return RV__F(v_madd)(acc, _mm512_unpackhi_epi8(a, zero), _mm512_unpackhi_epi8(b, zero));
}

/* Squares of |a - b|, which fits an unsigned byte. */
RV__ISA RV__INLINE __m512i RV__F(v_l2_u8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i d = _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a));
    __m512i d0 = _mm512_unpacklo_epi8(d, zero), d1 = _mm512_unpackhi_epi8(d, zero);
    acc = RV__F(v_madd)(acc, d0, d0);
    return RV__F(v_madd)(acc, d1, d1);
}

RV__ISA RV__INLINE __m512i RV__F(v_l2_i8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i flip = _mm512_set1_epi8(-128);
    return RV__F(v_l2_u8)(acc, _mm512_xor_si512(a, flip), _mm512_xor_si512(b, flip));
}

RV__ISA RV__INLINE __m512i RV__F(v_l1_i8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i flip = _mm512_set1_epi8(-128);
    __m512i sad = _mm512_sad_epu8(_mm512_xor_si512(a, flip), _mm512_xor_si512(b, flip));
    return _mm512_add_epi32(acc, sad);
}

#define rv__bone() _mm512_set1_epi8(1)
#ifdef RV__VNNI
/* Row bytes are shifted to unsigned, which adds 128 times the sum of the query. */
#define RV__BIAS 128
#define rv__bflip(a) _mm512_xor_si512((a), _mm512_set1_epi8(-128))
#define rv__bdot(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define rv__bdot_small(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define RV__GROUP 4u
#define RV__GROUP_FLIP 0x80808080u
#define rv__gdot(acc, b, a) _mm512_dpbusd_epi32((acc), (b), (a))
#else
#define RV__GROUP 2u
#define RV__GROUP_FLIP 0u
#define rv__gdot(acc, b, a) _mm512_add_epi32((acc), _mm512_madd_epi16((b), (a)))
#define RV__BIAS 0
#define rv__bflip(a) (a)
#define rv__bdot(acc, r, q) RV__F(v_dot_any)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot_small)((acc), (r), (q))

RV__ISA RV__INLINE __m512i RV__F(v_dot_small)(__m512i acc, __m512i r, __m512i q)
{
    __m512i pairs = _mm512_maddubs_epi16(r, q); /* at most 2 * 15 * 128: no saturation */
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() _mm512_setzero_si512()
#define rv__qload(p) _mm512_loadu_si512((const void *)(p))
#define rv__qload_half(p) _mm512_maskz_loadu_epi64(0x0F, (const void *)(p))
#define rv__qlow(a) rv__blow(a)
#define rv__qhigh(a) rv__bhigh(a)
#define rv__qlook(table, index) _mm512_shuffle_epi8((table), (index))
#define rv__qadd(a, b) _mm512_add_epi16((a), (b))
#define rv__qodd(a) _mm512_srli_epi16((a), 8)
#define rv__qeven(all, odd) _mm512_sub_epi16((all), _mm512_slli_epi16((odd), 8))

/* Adds up the lanes; rows 2i and 2i + 1 are in the even and odd sums. */
RV__ISA RV__INLINE void RV__F(qfold)(__m512i even, __m512i odd, uint16_t *out, int add)
{
    __m512i a = _mm512_unpacklo_epi16(even, odd), b = _mm512_unpackhi_epi16(even, odd);
    __m256i low = _mm256_adds_epu16(RV__F(lower)(a), RV__F(upper)(a));
    __m256i high = _mm256_adds_epu16(RV__F(lower)(b), RV__F(upper)(b));
    __m256i sum = _mm256_adds_epu16(_mm256_permute2x128_si256(low, high, 0x20),
                                    _mm256_permute2x128_si256(low, high, 0x31));
    if (add) sum = _mm256_adds_epu16(sum, _mm256_loadu_si256((const __m256i *)(const void *)out));
    _mm256_storeu_si256((__m256i *)(void *)out, sum);
}

/* ---- bits ---- */

#define rv__wload(p) _mm512_loadu_si512((const void *)(p))
#define rv__wtail(p, n) \
    _mm512_maskz_loadu_epi8(((__mmask64)1 << (n)) - 1u, (const void *)(p))
#define rv__wand(a, b) _mm512_and_si512((a), (b))
#define rv__wor(a, b) _mm512_or_si512((a), (b))
#define rv__wxor(a, b) _mm512_xor_si512((a), (b))
#define rv__pzero() _mm512_setzero_si512()
#define rv__psum(acc) ((uint32_t)RV__F(isum)(acc)) /* below 2^32: the upper halves are zero */
#ifdef RV__POPCNT512
#define rv__wpop(acc, x) _mm512_add_epi64((acc), _mm512_popcnt_epi64(x))
#else
#define rv__wpop(acc, x) RV__F(v_pop)((acc), (x))

/* Mula, Kurz, Lemire, Faster population counts using AVX2 instructions, 2018: nibbles by table. */
RV__ISA RV__INLINE __m512i RV__F(v_pop)(__m512i acc, __m512i x)
{
    __m512i table = _mm512_maskz_broadcast_i32x4(RV__ALL16, _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m512i low = _mm512_shuffle_epi8(table, rv__blow(x)), high = _mm512_shuffle_epi8(table, rv__bhigh(x));
    return _mm512_add_epi64(acc, _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512()));
}
#endif
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_int.inl ===================================================================== */
/* Kernels over signed and unsigned bytes, nibbles, and bits times bytes: exact on every instruction
   set as long as a 32-bit sum holds them. */

/* ---- pairs ---- */

/* Bytes i .. n - 1, fewer than RV__BYTES, the rest zero, as a vector. */
RV__ISA RV__INLINE rv__vb RV__F(bytes_tail)(const unsigned char *p, size_t i, size_t n)
{
#if defined(RV__MASKED)
    return rv__btail(p + i, n - i);
#else
    unsigned char copy[RV__BYTES];
    memset(copy, 0, sizeof copy);
    memcpy(copy, p + i, n - i);
    return rv__bload(copy);
#endif
}

/* Four quantities of two byte rows; what is a constant. */
RV__ISA RV__INLINE rv__vi RV__F(int_step)(int what, rv__vi acc, rv__vb a, rv__vb b)
{
    switch (what) {
    case RV__INT_DOT: return rv__bdot_any(acc, a, b);
    case RV__INT_L2: return rv__bl2_i8(acc, a, b);
    default: return rv__bl1_i8(acc, a, b);
    }
}

RV__ISA RV__INLINE int32_t RV__F(int_pair)(int what, const int8_t *a, const int8_t *b, size_t n)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    const size_t B = RV__BYTES;
    rv__vi s0 = rv__iset(0), s1 = s0;
    size_t i = 0;
    for (; i + 2 * B <= n; i += 2 * B) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        s1 = RV__F(int_step)(what, s1, rv__bload(p + i + B), rv__bload(q + i + B));
    }
    if (i + B <= n) {
        s0 = RV__F(int_step)(what, s0, rv__bload(p + i), rv__bload(q + i));
        i += B;
    }
    if (i < n) s1 = RV__F(int_step)(what, s1, RV__F(bytes_tail)(p, i, n), RV__F(bytes_tail)(q, i, n));
    return rv__isum(rv__iadd(s0, s1));
}

RV__ISA static int32_t RV__F(dot_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static int32_t RV__F(l2sq_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L2, a, b, n);
}

RV__ISA static int32_t RV__F(l1_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    return RV__F(int_pair)(RV__INT_L1, a, b, n);
}

/* out: a.b, a.a, b.b */
RV__ISA static void RV__F(cosine_i8)(const int8_t *a, const int8_t *b, size_t n, int32_t *out)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    rv__vi ab = rv__iset(0), aa = ab, bb = ab;
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload(p + i) : RV__F(bytes_tail)(p, i, n);
        rv__vb v = whole ? rv__bload(q + i) : RV__F(bytes_tail)(q, i, n);
        ab = rv__bdot_any(ab, u, v);
        aa = rv__bdot_any(aa, u, u);
        bb = rv__bdot_any(bb, v, v);
    }
    out[0] = rv__isum(ab);
    out[1] = rv__isum(aa);
    out[2] = rv__isum(bb);
}

RV__ISA RV__INLINE uint32_t RV__F(unsigned_pair)(int what, const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t i = 0; i < n; i += RV__BYTES) {
        int whole = i + RV__BYTES <= n;
        rv__vb u = whole ? rv__bload_u(a + i) : RV__F(bytes_tail)(a, i, n);
        rv__vb v = whole ? rv__bload_u(b + i) : RV__F(bytes_tail)(b, i, n);
        s = what == RV__INT_DOT ? rv__bdot_u8(s, u, v) : rv__bl2_u8(s, u, v);
    }
    return (uint32_t)rv__isum(s);
}

RV__ISA static uint32_t RV__F(dot_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_DOT, a, b, n);
}

RV__ISA static uint32_t RV__F(l2sq_u8)(const uint8_t *a, const uint8_t *b, size_t n)
{
    return RV__F(unsigned_pair)(RV__INT_L2, a, b, n);
}

/* ---- one query against packed rows ---- */

/* The next 64 bytes of a row (bits: 64 / 8 of them, 64 elements), times the query. */
RV__ISA RV__INLINE rv__vi RV__F(code_step)(int code, rv__vi acc, const unsigned char *row, const int8_t *query)
{
    for (size_t j = 0; j < 64; j += RV__BYTES) {
        rv__vb r, q = rv__bload(query + j);
        if (code == RV__CODE_U1) {
            acc = rv__bdot_small(acc, rv__bbits(row, j), q);
        } else if (code == RV__CODE_U4) {
            r = rv__bload(row + j);
            acc = rv__bdot_small(acc, rv__blow(r), q);
            acc = rv__bdot_small(acc, rv__bhigh(r), rv__bload(query + 64 + j));
        } else {
            r = rv__bflip(rv__bload(row + j));
            acc = rv__bdot(acc, r, q);
        }
    }
    return acc;
}

/* All rows, four at a time; every row a multiple of 64 bytes (bits: of 8). bias: what the shift to
   unsigned bytes adds to each dot product. */
RV__ISA RV__INLINE void RV__F(code_scan)(int code, const int8_t *query, const unsigned char *rows,
                                         size_t stride, const uint32_t *ids, size_t n,
                                         size_t n_bytes, int32_t *out)
{
    const size_t step = code == RV__CODE_U1 ? 8 : 64, elements = code == RV__CODE_U4 ? 128 : 64;
    const size_t ahead = rv__rows_ahead(n_bytes);
    int32_t bias = 0;
    size_t i = 0, fetched = 0;
    if (RV__BIAS && code == RV__CODE_I8) {
        for (size_t j = 0; j < n_bytes; j++) bias += query[j];
        bias *= RV__BIAS;
    }
    for (; i < n; i += 4) {
        const size_t last = n - 1; /* a short group repeats its last row */
        const size_t i1 = i + 1 < n ? i + 1 : last, i2 = i + 2 < n ? i + 2 : last;
        const size_t i3 = i + 3 < n ? i + 3 : last;
        const unsigned char *r0 = rows + (ids ? ids[i] : i) * stride;
        const unsigned char *r1 = rows + (ids ? ids[i1] : i1) * stride;
        const unsigned char *r2 = rows + (ids ? ids[i2] : i2) * stride;
        const unsigned char *r3 = rows + (ids ? ids[i3] : i3) * stride;
        const int8_t *q = query;
        rv__vi s0 = rv__iset(0), s1 = s0, s2 = s0, s3 = s0;
        if (ids) {
            for (; fetched < n && fetched < i + 4 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, n_bytes);
            }
        }
        for (size_t j = 0; j < n_bytes; j += step, q += elements) {
            s0 = RV__F(code_step)(code, s0, r0 + j, q);
            s1 = RV__F(code_step)(code, s1, r1 + j, q);
            s2 = RV__F(code_step)(code, s2, r2 + j, q);
            s3 = RV__F(code_step)(code, s3, r3 + j, q);
        }
        out[i] = rv__isum(s0) - bias;
        out[i1] = rv__isum(s1) - bias;
        out[i2] = rv__isum(s2) - bias;
        out[i3] = rv__isum(s3) - bias;
    }
}

RV__ISA static void RV__F(dot_i8_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_I8, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u4_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U4, query, rows, stride, ids, n, n_bytes, out);
}

RV__ISA static void RV__F(dot_u1_scan)(const int8_t *query, const unsigned char *rows, size_t stride,
                                       const uint32_t *ids, size_t n, size_t n_bytes, int32_t *out)
{
    RV__F(code_scan)(RV__CODE_U1, query, rows, stride, ids, n, n_bytes, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_code.inl ==================================================================== */
/* All dot products between two sets of byte rows, and the 4-bit fast scan. */

#define RV__COLS (RV__TILE * RV__LANES)
#define RV__WORDS(n) ((n) / RV__GROUP) /* 32-bit words of a packed row of n bytes */

/* Elements k .. k + RV__GROUP - 1 of a row as one word: four bytes, or two 16-bit numbers. */
RV__ISA RV__INLINE uint32_t RV__F(group)(const int8_t *row, size_t k)
{
#if RV__GROUP == 4
    return rv__load_u32(row + k);
#else
    return (uint32_t)(uint16_t)row[k] | (uint32_t)(uint16_t)row[k + 1] << 16;
#endif
}

/* Packs rows of b, at most RV__COLS of them: [words][RV__COLS]. */
RV__ISA static void RV__F(pack_i8)(const int8_t *b, size_t ldb, size_t nb, size_t n, uint32_t *packed)
{
    for (size_t j = 0; j < RV__COLS; j++) {
        const int8_t *row = b + (j < nb ? j : 0) * ldb;
        for (size_t k = 0; k < RV__WORDS(n); k++) {
            packed[k * RV__COLS + j] = RV__F(group)(row, k * RV__GROUP) ^ RV__GROUP_FLIP;
        }
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_row)(uint32_t a, const rv__vi *b, rv__vi *c)
{
    rv__vi x = rv__iset((int32_t)a);
    c[0] = rv__gdot(c[0], b[0], x);
    c[1] = rv__gdot(c[1], b[1], x);
    if (RV__TILE == 4) {
        c[2 % RV__TILE] = rv__gdot(c[2 % RV__TILE], b[2 % RV__TILE], x);
        c[3 % RV__TILE] = rv__gdot(c[3 % RV__TILE], b[3 % RV__TILE], x);
    }
}

RV__ISA RV__INLINE void RV__F(code_tile_store)(const rv__vi *c, int32_t bias, int32_t *out, size_t nb)
{
    int32_t lanes[RV__LANES];
    for (size_t j = 0; j < RV__TILE; j++) {
        size_t first = j * RV__LANES;
        rv__vi sum = rv__isub(c[j], rv__iset(bias));
        if (first + RV__LANES <= nb) {
            rv__vstore(out + first, rv__vfrom(sum));
        } else {
            rv__vstore(lanes, rv__vfrom(sum));
            for (size_t i = first; i < nb; i++) out[i] = lanes[i - first];
        }
    }
}

/* na <= 6 rows of A as words. */
RV__ISA static void RV__F(tile_i8)(const unsigned char *a, size_t lda, size_t na, const uint32_t *packed,
                                   size_t nb, size_t words, const int32_t *bias, int32_t *out, size_t ldo)
{
    const size_t last = na - 1;
    const unsigned char *a1 = a + (last < 1 ? last : 1) * lda, *a2 = a + (last < 2 ? last : 2) * lda;
    const unsigned char *a3 = a + (last < 3 ? last : 3) * lda, *a4 = a + (last < 4 ? last : 4) * lda;
    const unsigned char *a5 = a + last * lda;
    rv__vi c0[RV__TILE], c1[RV__TILE], c2[RV__TILE], c3[RV__TILE], c4[RV__TILE], c5[RV__TILE], b[RV__TILE];
    for (size_t j = 0; j < RV__TILE; j++) {
        c0[j] = c1[j] = c2[j] = c3[j] = c4[j] = c5[j] = rv__iset(0);
    }
    for (size_t k = 0; k < 4 * words; k += 4, packed += RV__COLS) {
        b[0] = rv__vbits(rv__vload(packed));
        b[1] = rv__vbits(rv__vload(packed + RV__LANES));
        if (RV__TILE == 4) {
            b[2 % RV__TILE] = rv__vbits(rv__vload(packed + 2 * RV__LANES));
            b[3 % RV__TILE] = rv__vbits(rv__vload(packed + 3 * RV__LANES));
        }
        RV__F(code_tile_row)(rv__load_u32(a + k), b, c0);
        RV__F(code_tile_row)(rv__load_u32(a1 + k), b, c1);
        RV__F(code_tile_row)(rv__load_u32(a2 + k), b, c2);
        RV__F(code_tile_row)(rv__load_u32(a3 + k), b, c3);
        RV__F(code_tile_row)(rv__load_u32(a4 + k), b, c4);
        RV__F(code_tile_row)(rv__load_u32(a5 + k), b, c5);
    }
    RV__F(code_tile_store)(c0, bias[0], out, nb);
    if (na > 1) RV__F(code_tile_store)(c1, bias[1], out + ldo, nb);
    if (na > 2) RV__F(code_tile_store)(c2, bias[2], out + 2 * ldo, nb);
    if (na > 3) RV__F(code_tile_store)(c3, bias[3], out + 3 * ldo, nb);
    if (na > 4) RV__F(code_tile_store)(c4, bias[4], out + 4 * ldo, nb);
    if (na > 5) RV__F(code_tile_store)(c5, bias[5], out + 5 * ldo, nb);
}

RV__ISA RV__INLINE int32_t RV__F(sum_i8)(const int8_t *a, size_t n)
{
    rv__vi s = rv__iset(0);
    for (size_t k = 0; k < n; k += RV__BYTES) s = rv__bdot_small(s, rv__bone(), rv__bload(a + k));
    return rv__isum(s);
}

/* The scratch holds six rows of A as 16-bit numbers (where the words are those), then B packed. */
RV__ISA static void RV__F(gram_i8)(const int8_t *a, size_t lda, size_t na, const int8_t *b, size_t ldb,
                                   size_t nb, size_t n, int32_t *out, size_t ldo, void *scratch)
{
    uint32_t *wide = (uint32_t *)scratch, *packed = wide + 6 * n / 2;
    const size_t words = RV__WORDS(n), panel = words * RV__COLS;
    for (size_t j = 0; j < nb; j += RV__COLS) {
        RV__F(pack_i8)(b + j * ldb, ldb, nb - j < RV__COLS ? nb - j : RV__COLS, n, packed + j / RV__COLS * panel);
    }
    for (size_t i = 0; i < na; i += 6) {
        const size_t rows = na - i < 6 ? na - i : 6;
        const unsigned char *tile = (const unsigned char *)(a + i * lda);
        size_t pitch = lda;
        int32_t bias[6] = {0, 0, 0, 0, 0, 0};
        if (RV__GROUP_FLIP) {
            for (size_t r = 0; r < rows; r++) bias[r] = 128 * RV__F(sum_i8)(a + (i + r) * lda, n);
        }
        if (RV__GROUP == 2) {
            for (size_t r = 0; r < rows; r++) {
                for (size_t k = 0; k < words; k++) {
                    wide[r * words + k] = RV__F(group)(a + (i + r) * lda, 2 * k);
                }
            }
            tile = (const unsigned char *)wide;
            pitch = 4 * words;
        }
        for (size_t j = 0; j < nb; j += RV__COLS) {
            RV__F(tile_i8)(tile, pitch, rows, packed + j / RV__COLS * panel,
                           nb - j < RV__COLS ? nb - j : RV__COLS, words, bias, out + i * ldo + j, ldo);
        }
    }
}

#undef RV__COLS
#undef RV__WORDS

/* ---- product codes of four bits ---- */

#if defined(RV__SCALAR)
static void rv__pq4_scan_scalar(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks, uint16_t *out)
{
    for (size_t b = 0; b < n_blocks; b++, codes += 16 * m, out += 32) {
        for (size_t i = 0; i < 32; i++) {
            uint32_t sum = 0;
            for (size_t s = 0; s < m; s++) {
                sum += lut[16 * s + ((codes[16 * s + i % 16] >> (i < 16 ? 0 : 4)) & 15u)];
            }
            out[i] = (uint16_t)(sum > 65535u ? 65535u : sum);
        }
    }
}
#else
/* Entries come from a byte shuffle; sums of 16 bits. The bytes at odd places are summed alone; the
   sum of all 16-bit words is even + 256 odd modulo 2^16, so that the even ones cost no masking.
   After 256 sub-quantizers (at most 65280) the sums move out, saturating. */
RV__ISA static void RV__F(pq4_scan)(const uint8_t *lut, const uint8_t *codes, size_t m, size_t n_blocks,
                                    uint16_t *out)
{
    const size_t bytes = 16 * m;
    for (size_t block = 0; block < n_blocks; block++, codes += bytes, out += 32) {
        for (size_t begin = 0; begin < bytes || begin == 0; begin += 16 * 256) {
            const size_t end = bytes - begin < 16 * 256 ? bytes : begin + 16 * 256;
            rv__q low = rv__qzero(), low_odd = low, high = low, high_odd = low;
            for (size_t k = begin; k < end; k += RV__LOOK) {
                const int half = RV__LOOK == 64 && k + 64 > end;
                rv__q table = half ? rv__qload_half(lut + k) : rv__qload(lut + k);
                rv__q code = half ? rv__qload_half(codes + k) : rv__qload(codes + k);
                rv__q x = rv__qlook(table, rv__qlow(code)), y = rv__qlook(table, rv__qhigh(code));
                low = rv__qadd(low, x);
                low_odd = rv__qadd(low_odd, rv__qodd(x));
                high = rv__qadd(high, y);
                high_odd = rv__qadd(high_odd, rv__qodd(y));
            }
            RV__F(qfold)(rv__qeven(low, low_odd), low_odd, out, begin > 0);
            RV__F(qfold)(rv__qeven(high, high_odd), high_odd, out + 16, begin > 0);
        }
    }
}
#endif
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/simd_end.inl ======================================================================== */
/* Ends one expansion: takes the vocabulary back. */
#undef RV__F
#undef RV__ISA
#undef RV__SCALAR
#undef RV__MASKED
#undef RV__ALL16
#undef RV__LANES
#undef RV__BYTES
#undef RV__WORD
#undef RV__TILE
#undef RV__LOOK
#undef RV__GROUP
#undef RV__GROUP_FLIP
#undef RV__BIAS
#undef RV__VNNI
#undef RV__POPCNT512
#undef RV__DOTPROD
#undef rv__v
#undef rv__vi
#undef rv__vb
#undef rv__vw
#undef rv__vp
#undef rv__vzero
#undef rv__vset
#undef rv__vadd
#undef rv__vsub
#undef rv__vmul
#undef rv__vdiv
#undef rv__vfma
#undef rv__vmax
#undef rv__vmin
#undef rv__vsum
#undef rv__vmaximum
#undef rv__vround
#undef rv__vfloat
#undef rv__vbits
#undef rv__vfrom
#undef rv__vpick
#undef rv__vless
#undef rv__vmask
#undef rv__iset
#undef rv__iadd
#undef rv__isub
#undef rv__iand
#undef rv__ior
#undef rv__ishl
#undef rv__isar
#undef rv__igreater
#undef rv__isum
#undef rv__vload
#undef rv__vstore
#undef rv__vload_tail
#undef rv__vstore_tail
#undef rv__vload_f16
#undef rv__vload_bf16
#undef rv__vload_i8
#undef rv__vtail_f16
#undef rv__vtail_bf16
#undef rv__vtail_i8
#undef rv__vkeep_last
#undef rv__vabs
#undef rv__vmaxbits
#undef rv__vstore_f16
#undef rv__istore_top16
#undef rv__istore_i8
#undef rv__bload
#undef rv__bload_u
#undef rv__btail
#undef rv__blow
#undef rv__bhigh
#undef rv__bbits
#undef rv__bflip
#undef rv__bdot
#undef rv__bone
#undef rv__gdot
#undef rv__bdot_small
#undef rv__bdot_any
#undef rv__bdot_u8
#undef rv__bl2_i8
#undef rv__bl2_u8
#undef rv__bl1_i8
#undef rv__wload
#undef rv__wtail
#undef rv__wand
#undef rv__wor
#undef rv__wxor
#undef rv__pzero
#undef rv__psum
#undef rv__wpop
#undef rv__q
#undef rv__qzero
#undef rv__qload
#undef rv__qload_half
#undef rv__qlow
#undef rv__qhigh
#undef rv__qlook
#undef rv__qadd
#undef rv__qodd
#undef rv__qeven
/* ==== src/simd.c, continued =================================================================== */

#define RV__POPCNT512 1
/* ==== src/simd_avx512.inl ===================================================================== */
/* Vocabulary of AVX-512 F, BW, DQ, VL. With RV__VNNI or RV__POPCNT512 defined, of the processors
   that also have those instructions; then only the integer, or bit, kernels are expanded. */

#if defined(RV__VNNI)
#define RV__F(name) rv__##name##_avx512vnni
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vnni")
#elif defined(RV__POPCNT512)
#define RV__F(name) rv__##name##_avx512pop
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vpopcntdq")
#else
#define RV__F(name) rv__##name##_avx512
#define RV__ISA RV__TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
/* The forms under a full mask are the same instructions as those without; gcc's headers for the
   latter use a value they do not initialise, and g++ 12 warns of it here. */
#define RV__ALL16 ((__mmask16)0xFFFF)
#define RV__LANES 16u
#define RV__BYTES 64u
#define RV__WORD 64u
#define rv__v __m512
#define rv__vi __m512i
#define rv__vb __m512i
#define RV__TILE 4u
#define RV__LOOK 64u
#define rv__q __m512i
#define rv__vw __m512i
#define rv__vp __m512i

#define rv__vzero() _mm512_setzero_ps()
#define rv__vset(x) _mm512_set1_ps(x)
#define rv__vadd(a, b) _mm512_add_ps((a), (b))
#define rv__vsub(a, b) _mm512_sub_ps((a), (b))
#define rv__vmul(a, b) _mm512_mul_ps((a), (b))
#define rv__vdiv(a, b) _mm512_div_ps((a), (b))
#define rv__vfma(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define rv__vmax(a, b) _mm512_maskz_max_ps(RV__ALL16, (a), (b))
#define rv__vmin(a, b) _mm512_maskz_min_ps(RV__ALL16, (a), (b))
#define rv__vround(a) _mm512_maskz_cvtps_epi32(RV__ALL16, (a))
#define rv__vfloat(a) _mm512_maskz_cvtepi32_ps(RV__ALL16, (a))
#define rv__vbits(a) _mm512_castps_si512(a)
#define rv__vfrom(a) _mm512_castsi512_ps(a)
#define rv__vpick(mask, a, b) _mm512_mask_blend_ps((mask), (b), (a))
#define rv__vless(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_LT_OQ)
#define rv__vmask(less) ((uint32_t)(less))
#define rv__iset(x) _mm512_set1_epi32(x)
#define rv__iadd(a, b) _mm512_add_epi32((a), (b))
#define rv__isub(a, b) _mm512_sub_epi32((a), (b))
#define rv__iand(a, b) _mm512_and_si512((a), (b))
#define rv__ior(a, b) _mm512_or_si512((a), (b))
#define rv__ishl(a, n) _mm512_maskz_slli_epi32(RV__ALL16, (a), (n))
#define rv__isar(a, n) _mm512_maskz_srai_epi32(RV__ALL16, (a), (n))
#define rv__igreater(a, b) _mm512_cmpgt_epi32_mask((a), (b))
#define rv__isum(a) RV__F(isum)(a)
#define rv__vsum(a) RV__F(vsum)(a)
#define rv__vload(p) _mm512_loadu_ps((const void *)(p))
#define rv__vstore(p, a) _mm512_storeu_ps((void *)(p), (a))
#define rv__vload_tail(p, n) _mm512_maskz_loadu_ps(RV__F(mask)(n), (const void *)(p))
#define rv__vstore_tail(p, a, n) _mm512_mask_storeu_ps((void *)(p), RV__F(mask)(n), (a))
#define rv__vload_f16(p) _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_bf16(p) RV__F(from_bf16)(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define rv__vload_i8(p) \
    RV__F(from_i8)(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define rv__vabs(a) _mm512_abs_ps(a)
#define rv__vmaxbits(a, b) \
    _mm512_castsi512_ps(_mm512_maskz_max_epi32(RV__ALL16, _mm512_castps_si512(a), _mm512_castps_si512(b)))
#define rv__vmaximum(a) RV__F(vmaximum)(a)
#define rv__vstore_f16(p, a) RV__F(store_f16)((p), (a))
#define rv__istore_top16(p, a) \
    _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_maskz_cvtepi32_epi16(RV__ALL16, _mm512_maskz_srli_epi32(RV__ALL16, (a), 16)))
#define rv__istore_i8(p, a) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_maskz_cvtepi32_epi8(RV__ALL16, (a)))

/* Reads rows' tails under a mask. */
#define RV__MASKED 1
#define rv__vtail_f16(p, n) \
    _mm512_maskz_cvtph_ps(RV__ALL16, _mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_bf16(p, n) RV__F(from_bf16)(_mm256_maskz_loadu_epi16(RV__F(mask)(n), (const void *)(p)))
#define rv__vtail_i8(p, n) \
    RV__F(from_i8)(_mm_maskz_loadu_epi8(RV__F(mask)(n), (const void *)(p)))

RV__ISA RV__INLINE __mmask16 RV__F(mask)(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

RV__ISA RV__INLINE __m512 RV__F(from_i8)(__m128i x)
{
    return _mm512_maskz_cvtepi32_ps(RV__ALL16, _mm512_maskz_cvtepi8_epi32(RV__ALL16, x));
}

RV__ISA RV__INLINE __m256i RV__F(lower)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 0);
}

RV__ISA RV__INLINE __m256i RV__F(upper)(__m512i x)
{
    return _mm512_maskz_extracti64x4_epi64(0xFF, x, 1);
}

RV__ISA RV__INLINE void RV__F(store_f16)(void *p, __m512 a)
{
    __m256 low = _mm256_castsi256_ps(RV__F(lower)(_mm512_castps_si512(a)));
    __m256 high = _mm256_castsi256_ps(RV__F(upper)(_mm512_castps_si512(a)));
    __m128i *out = (__m128i *)p;
    _mm_storeu_si128(out, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(out + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
}

RV__ISA RV__INLINE float RV__F(vsum)(__m512 a)
{
    __m256 y = _mm256_castsi256_ps(RV__F(upper)(_mm512_castps_si512(a)));
    __m128 x;
    y = _mm256_add_ps(y, _mm256_castsi256_ps(RV__F(lower)(_mm512_castps_si512(a))));
    x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

RV__ISA RV__INLINE int32_t RV__F(isum)(__m512i a)
{
    __m256i y = _mm256_add_epi32(RV__F(lower)(a), RV__F(upper)(a));
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* Of magnitudes, through their bits. */
RV__ISA RV__INLINE float RV__F(vmaximum)(__m512 a)
{
    __m512i b = _mm512_castps_si512(a);
    __m256i y = _mm256_max_epi32(RV__F(lower)(b), RV__F(upper)(b));
    __m128i x = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return rv__from_bits_f32(_mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1))));
}

RV__ISA RV__INLINE __m512 RV__F(from_bf16)(__m256i x)
{
    __m512i wide = _mm512_maskz_cvtepu16_epi32(RV__ALL16, x);
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(RV__ALL16, wide, 16));
}

/* ---- bytes ---- */

#define rv__bload(p) _mm512_loadu_si512((const void *)(p))
#define rv__bload_u(p) _mm512_loadu_si512((const void *)(p))
#define rv__btail(p, n) \
    _mm512_maskz_loadu_epi8(((__mmask64)1 << (n)) - 1u, (const void *)(p))
#define rv__blow(a) _mm512_and_si512((a), _mm512_set1_epi8(15))
#define rv__bhigh(a) _mm512_and_si512(_mm512_srli_epi16((a), 4), _mm512_set1_epi8(15))
#define rv__bbits(p, j) _mm512_maskz_mov_epi8(rv__load_u64((p) + ((j) >> 3)), _mm512_set1_epi8(1))
#define rv__bdot_any(acc, a, b) RV__F(v_dot_any)((acc), (a), (b))
#define rv__bdot_u8(acc, a, b) RV__F(v_dot_u8)((acc), (a), (b))
#define rv__bl2_i8(acc, a, b) RV__F(v_l2_i8)((acc), (a), (b))
#define rv__bl2_u8(acc, a, b) RV__F(v_l2_u8)((acc), (a), (b))
#define rv__bl1_i8(acc, a, b) RV__F(v_l1_i8)((acc), (a), (b))

RV__ISA RV__INLINE __m512i RV__F(v_madd)(__m512i acc, __m512i a, __m512i b)
{
#ifdef RV__VNNI
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_any)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i a0 = _mm512_unpacklo_epi8(zero, a), a1 = _mm512_unpackhi_epi8(zero, a);
    __m512i b0 = _mm512_unpacklo_epi8(zero, b), b1 = _mm512_unpackhi_epi8(zero, b);
    acc = RV__F(v_madd)(acc, _mm512_srai_epi16(a0, 8), _mm512_srai_epi16(b0, 8));
    return RV__F(v_madd)(acc, _mm512_srai_epi16(a1, 8), _mm512_srai_epi16(b1, 8));
}

RV__ISA RV__INLINE __m512i RV__F(v_dot_u8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    acc = RV__F(v_madd)(acc, _mm512_unpacklo_epi8(a, zero), _mm512_unpacklo_epi8(b, zero));
    return RV__F(v_madd)(acc, _mm512_unpackhi_epi8(a, zero), _mm512_unpackhi_epi8(b, zero));
}

/* Squares of |a - b|, which fits an unsigned byte. */
RV__ISA RV__INLINE __m512i RV__F(v_l2_u8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i d = _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a));
    __m512i d0 = _mm512_unpacklo_epi8(d, zero), d1 = _mm512_unpackhi_epi8(d, zero);
    acc = RV__F(v_madd)(acc, d0, d0);
    return RV__F(v_madd)(acc, d1, d1);
}

RV__ISA RV__INLINE __m512i RV__F(v_l2_i8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i flip = _mm512_set1_epi8(-128);
    return RV__F(v_l2_u8)(acc, _mm512_xor_si512(a, flip), _mm512_xor_si512(b, flip));
}

RV__ISA RV__INLINE __m512i RV__F(v_l1_i8)(__m512i acc, __m512i a, __m512i b)
{
    __m512i flip = _mm512_set1_epi8(-128);
    __m512i sad = _mm512_sad_epu8(_mm512_xor_si512(a, flip), _mm512_xor_si512(b, flip));
    return _mm512_add_epi32(acc, sad);
}

#define rv__bone() _mm512_set1_epi8(1)
#ifdef RV__VNNI
/* Row bytes are shifted to unsigned, which adds 128 times the sum of the query. */
#define RV__BIAS 128
#define rv__bflip(a) _mm512_xor_si512((a), _mm512_set1_epi8(-128))
#define rv__bdot(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define rv__bdot_small(acc, r, q) _mm512_dpbusd_epi32((acc), (r), (q))
#define RV__GROUP 4u
#define RV__GROUP_FLIP 0x80808080u
#define rv__gdot(acc, b, a) _mm512_dpbusd_epi32((acc), (b), (a))
#else
#define RV__GROUP 2u
#define RV__GROUP_FLIP 0u
#define rv__gdot(acc, b, a) _mm512_add_epi32((acc), _mm512_madd_epi16((b), (a)))
#define RV__BIAS 0
#define rv__bflip(a) (a)
#define rv__bdot(acc, r, q) RV__F(v_dot_any)((acc), (r), (q))
#define rv__bdot_small(acc, r, q) RV__F(v_dot_small)((acc), (r), (q))

RV__ISA RV__INLINE __m512i RV__F(v_dot_small)(__m512i acc, __m512i r, __m512i q)
{
    __m512i pairs = _mm512_maddubs_epi16(r, q); /* at most 2 * 15 * 128: no saturation */
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

/* ---- table look-up in lanes of 16 bytes ---- */

#define rv__qzero() _mm512_setzero_si512()
#define rv__qload(p) _mm512_loadu_si512((const void *)(p))
#define rv__qload_half(p) _mm512_maskz_loadu_epi64(0x0F, (const void *)(p))
#define rv__qlow(a) rv__blow(a)
#define rv__qhigh(a) rv__bhigh(a)
#define rv__qlook(table, index) _mm512_shuffle_epi8((table), (index))
#define rv__qadd(a, b) _mm512_add_epi16((a), (b))
#define rv__qodd(a) _mm512_srli_epi16((a), 8)
#define rv__qeven(all, odd) _mm512_sub_epi16((all), _mm512_slli_epi16((odd), 8))

/* Adds up the lanes; rows 2i and 2i + 1 are in the even and odd sums. */
RV__ISA RV__INLINE void RV__F(qfold)(__m512i even, __m512i odd, uint16_t *out, int add)
{
    __m512i a = _mm512_unpacklo_epi16(even, odd), b = _mm512_unpackhi_epi16(even, odd);
    __m256i low = _mm256_adds_epu16(RV__F(lower)(a), RV__F(upper)(a));
    __m256i high = _mm256_adds_epu16(RV__F(lower)(b), RV__F(upper)(b));
    __m256i sum = _mm256_adds_epu16(_mm256_permute2x128_si256(low, high, 0x20),
                                    _mm256_permute2x128_si256(low, high, 0x31));
    if (add) sum = _mm256_adds_epu16(sum, _mm256_loadu_si256((const __m256i *)(const void *)out));
    _mm256_storeu_si256((__m256i *)(void *)out, sum);
}

/* ---- bits ---- */

#define rv__wload(p) _mm512_loadu_si512((const void *)(p))
#define rv__wtail(p, n) \
    _mm512_maskz_loadu_epi8(((__mmask64)1 << (n)) - 1u, (const void *)(p))
#define rv__wand(a, b) _mm512_and_si512((a), (b))
#define rv__wor(a, b) _mm512_or_si512((a), (b))
#define rv__wxor(a, b) _mm512_xor_si512((a), (b))
#define rv__pzero() _mm512_setzero_si512()
#define rv__psum(acc) ((uint32_t)RV__F(isum)(acc)) /* below 2^32: the upper halves are zero */
#ifdef RV__POPCNT512
#define rv__wpop(acc, x) _mm512_add_epi64((acc), _mm512_popcnt_epi64(x))
#else
#define rv__wpop(acc, x) RV__F(v_pop)((acc), (x))

/* Mula, Kurz, Lemire, Faster population counts using AVX2 instructions, 2018: nibbles by table. */
RV__ISA RV__INLINE __m512i RV__F(v_pop)(__m512i acc, __m512i x)
{
    __m512i table = _mm512_maskz_broadcast_i32x4(RV__ALL16, _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m512i low = _mm512_shuffle_epi8(table, rv__blow(x)), high = _mm512_shuffle_epi8(table, rv__bhigh(x));
    return _mm512_add_epi64(acc, _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512()));
}
#endif
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/kernels_bits.inl ==================================================================== */
/* Kernels over sets of bits, in whole bytes. */

RV__ISA RV__INLINE rv__vw RV__F(word)(const unsigned char *p, size_t i, size_t n)
{
    if (i + RV__WORD <= n) return rv__wload(p + i);
#if defined(RV__MASKED)
    return rv__wtail(p + i, n - i);
#else
    {
        unsigned char copy[RV__WORD];
        memset(copy, 0, sizeof copy);
        memcpy(copy, p + i, n - i);
        return rv__wload(copy);
    }
#endif
}

/* Bits that differ. */
RV__ISA static uint32_t RV__F(hamming)(const uint8_t *a, const uint8_t *b, size_t n)
{
    rv__vp s = rv__pzero();
    for (size_t i = 0; i < n; i += RV__WORD) {
        s = rv__wpop(s, rv__wxor(RV__F(word)(a, i, n), RV__F(word)(b, i, n)));
    }
    return (uint32_t)rv__psum(s);
}

/* counts: bits in both, bits in either. */
RV__ISA static void RV__F(overlap)(const uint8_t *a, const uint8_t *b, size_t n, uint32_t *counts)
{
    rv__vp both = rv__pzero(), either = both;
    for (size_t i = 0; i < n; i += RV__WORD) {
        rv__vw u = RV__F(word)(a, i, n), v = RV__F(word)(b, i, n);
        both = rv__wpop(both, rv__wand(u, v));
        either = rv__wpop(either, rv__wor(u, v));
    }
    counts[0] = (uint32_t)rv__psum(both);
    counts[1] = (uint32_t)rv__psum(either);
}

RV__ISA RV__INLINE void RV__F(bit_scan)(int jaccard, const void *query, const unsigned char *rows,
                                        size_t stride, const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const unsigned char *q = (const unsigned char *)query;
    const size_t bytes = (dim + 7) / 8, ahead = rv__rows_ahead(bytes);
    uint32_t counts[2];
    size_t fetched = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *row = rows + (ids ? ids[i] : i) * stride;
        if (ids) {
            for (; fetched < n && fetched < i + 1 + ahead; fetched++) {
                rv__touch(rows + ids[fetched] * stride, bytes);
            }
        }
        if (jaccard) {
            RV__F(overlap)(q, row, bytes, counts);
            out[i] = rv__jaccard_finish(counts[0], counts[1]);
        } else {
            out[i] = (float)RV__F(hamming)(q, row, bytes);
        }
    }
}

RV__ISA static void RV__F(scan_hamming)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(0, query, rows, stride, ids, n, dim, out);
}

RV__ISA static void RV__F(scan_jaccard)(const void *query, const unsigned char *rows, size_t stride,
                                        const uint32_t *ids, size_t n, size_t dim, float *out)
{
    RV__F(bit_scan)(1, query, rows, stride, ids, n, dim, out);
}
/* ==== src/simd.c, continued =================================================================== */
/* ==== src/simd_end.inl ======================================================================== */
/* Ends one expansion: takes the vocabulary back. */
#undef RV__F
#undef RV__ISA
#undef RV__SCALAR
#undef RV__MASKED
#undef RV__ALL16
#undef RV__LANES
#undef RV__BYTES
#undef RV__WORD
#undef RV__TILE
#undef RV__LOOK
#undef RV__GROUP
#undef RV__GROUP_FLIP
#undef RV__BIAS
#undef RV__VNNI
#undef RV__POPCNT512
#undef RV__DOTPROD
#undef rv__v
#undef rv__vi
#undef rv__vb
#undef rv__vw
#undef rv__vp
#undef rv__vzero
#undef rv__vset
#undef rv__vadd
#undef rv__vsub
#undef rv__vmul
#undef rv__vdiv
#undef rv__vfma
#undef rv__vmax
#undef rv__vmin
#undef rv__vsum
#undef rv__vmaximum
#undef rv__vround
#undef rv__vfloat
#undef rv__vbits
#undef rv__vfrom
#undef rv__vpick
#undef rv__vless
#undef rv__vmask
#undef rv__iset
#undef rv__iadd
#undef rv__isub
#undef rv__iand
#undef rv__ior
#undef rv__ishl
#undef rv__isar
#undef rv__igreater
#undef rv__isum
#undef rv__vload
#undef rv__vstore
#undef rv__vload_tail
#undef rv__vstore_tail
#undef rv__vload_f16
#undef rv__vload_bf16
#undef rv__vload_i8
#undef rv__vtail_f16
#undef rv__vtail_bf16
#undef rv__vtail_i8
#undef rv__vkeep_last
#undef rv__vabs
#undef rv__vmaxbits
#undef rv__vstore_f16
#undef rv__istore_top16
#undef rv__istore_i8
#undef rv__bload
#undef rv__bload_u
#undef rv__btail
#undef rv__blow
#undef rv__bhigh
#undef rv__bbits
#undef rv__bflip
#undef rv__bdot
#undef rv__bone
#undef rv__gdot
#undef rv__bdot_small
#undef rv__bdot_any
#undef rv__bdot_u8
#undef rv__bl2_i8
#undef rv__bl2_u8
#undef rv__bl1_i8
#undef rv__wload
#undef rv__wtail
#undef rv__wand
#undef rv__wor
#undef rv__wxor
#undef rv__pzero
#undef rv__psum
#undef rv__wpop
#undef rv__q
#undef rv__qzero
#undef rv__qload
#undef rv__qload_half
#undef rv__qlow
#undef rv__qhigh
#undef rv__qlook
#undef rv__qadd
#undef rv__qodd
#undef rv__qeven
/* ==== src/simd.c, continued =================================================================== */
#endif

/* ---- tables ---- */

#define RV__SCAN_ROW(op, F)                                                                        \
    { rv__scan_##op##_f32_##F, rv__scan_##op##_f16_##F, rv__scan_##op##_bf16_##F, rv__scan_##op##_i8_##F }
#define RV__PAIR_ROW(type, F)                                                                      \
    { rv__pair_l2_##type##_##F, rv__pair_ip_##type##_##F, rv__pair_cosine_##type##_##F,            \
      rv__pair_l1_##type##_##F, rv__pair_linf_##type##_##F }
/* Float kernels of F, integer kernels of I, bit kernels of B, bfloat16 pairs of H. */
#define RV__TABLE(isa, F, I, B, H)                                                                 \
    { isa, { RV__SCAN_ROW(l2, F), RV__SCAN_ROW(ip, F), RV__SCAN_ROW(cosine, F),                    \
             RV__SCAN_ROW(l1, F), RV__SCAN_ROW(linf, F) },                                         \
      rv__scan_hamming_##B, rv__scan_jaccard_##B, rv__scan_dot_f32_##F,                            \
      RV__PAIR_ROW(f32, F), { RV__PAIR_ROW(f16, F), RV__PAIR_ROW(bf16, H) },                       \
      rv__dot_i8_##I, rv__l2sq_i8_##I, rv__l1_i8_##I, rv__cosine_i8_##I, rv__dot_u8_##I,           \
      rv__l2sq_u8_##I, rv__hamming_##B, rv__overlap_##B,                                           \
      rv__dot_i8_scan_##I, rv__dot_u4_scan_##I, rv__dot_u1_scan_##I, rv__gram_i8_##I,              \
      rv__gram_f32_##F, rv__gemm_f32_##F, rv__pq4_scan_##I,                                        \
      rv__axpy_f32_##F, rv__scale_f32_##F, rv__add_f32_##F, rv__find_below_##F,                    \
      rv__near_i32_##F, rv__line_i32_##F,                                                          \
      rv__widen_f16_##F, rv__widen_bf16_##F, rv__widen_i8_##F,                                     \
      rv__narrow_f16_##F, rv__narrow_bf16_##F, rv__narrow_i8_##F,                                  \
      rv__exp_f32_##F, rv__log_f32_##F, rv__tanh_f32_##F, rv__sigmoid_f32_##F, rv__erf_f32_##F,    \
      rv__max_f32_##F, rv__exp_sum_f32_##F }

static const rv__kernels rv__kernels_scalar = RV__TABLE(RV_ISA_SCALAR, scalar, scalar, scalar, scalar);
#if defined(RV__X86)
static const rv__kernels rv__kernels_avx2 = RV__TABLE(RV_ISA_AVX2, avx2, avx2, avx2, avx2);
/* By RV_FEATURE_VNNI + RV_FEATURE_BF16 + (RV_FEATURE_POPCNT512 / 2). */
static const rv__kernels rv__kernels_avx512[4] = {
    RV__TABLE(RV_ISA_AVX512, avx512, avx512, avx512, avx512),
    RV__TABLE(RV_ISA_AVX512, avx512, avx512vnni, avx512, avx512),
    RV__TABLE(RV_ISA_AVX512, avx512, avx512, avx512pop, avx512),
    RV__TABLE(RV_ISA_AVX512, avx512, avx512vnni, avx512pop, avx512),
};
#endif

/* ---- detection ---- */

#if defined(RV__X86)
static void rv__cpuid(uint32_t leaf, uint32_t sub, uint32_t regs[4])
{
#if defined(_MSC_VER) && !defined(__clang__)
    int r[4];
    __cpuidex(r, (int)leaf, (int)sub);
    for (int i = 0; i < 4; i++) regs[i] = (uint32_t)r[i];
#else
    regs[0] = regs[1] = regs[2] = regs[3] = 0;
    (void)__get_cpuid_count(leaf, sub, &regs[0], &regs[1], &regs[2], &regs[3]);
#endif
}

/* Which register files the operating system saves. */
static uint64_t rv__xcr0(void)
{
#if defined(_MSC_VER) && !defined(__clang__)
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
#endif
}

static rv_isa rv__detect(uint32_t *features)
{
    uint32_t one[4], seven[4], more[4];
    uint64_t saved;
    *features = 0;
    rv__cpuid(1, 0, one);
    if (!(one[2] & 1u << 27)) return RV_ISA_SCALAR; /* OSXSAVE */
    saved = rv__xcr0();
    rv__cpuid(7, 0, seven);
    if ((saved & 6u) != 6u || !(one[2] & 1u << 12) || !(one[2] & 1u << 29) || !(seven[1] & 1u << 5)) {
        return RV_ISA_SCALAR; /* ymm state, FMA, F16C, AVX2 */
    }
    if ((saved & 0xE6u) != 0xE6u || (seven[1] & 0xC0030000u) != 0xC0030000u) return RV_ISA_AVX2;
    rv__cpuid(7, 1, more);
    if (seven[0] < 1) more[0] = 0;
    if (seven[2] & 1u << 11) *features |= RV_FEATURE_VNNI;
    if (seven[2] & 1u << 14) *features |= RV_FEATURE_POPCNT512;
    if (seven[3] & 1u << 23) *features |= RV_FEATURE_FP16;
    if (more[0] & 1u << 5) *features |= RV_FEATURE_BF16;
    return RV_ISA_AVX512;
}

static const rv__kernels *rv__kernels_detect(void)
{
    uint32_t features;
    rv_isa isa = rv__detect(&features);
    if (isa == RV_ISA_AVX512) {
        return &rv__kernels_avx512[(features & RV_FEATURE_VNNI ? 1 : 0) + (features & RV_FEATURE_POPCNT512 ? 2 : 0)];
    }
    return isa == RV_ISA_AVX2 ? &rv__kernels_avx2 : &rv__kernels_scalar;
}
#else
static rv_isa rv__detect(uint32_t *features)
{
    *features = 0;
    return RV_ISA_SCALAR;
}

static const rv__kernels *rv__kernels_detect(void)
{
    return &rv__kernels_scalar;
}
#endif

/* The one mutable static of the library: chosen at first use; every thread would choose the same. */
static const rv__kernels *rv__kernels_best;

RV__FN const rv__kernels *rv__kernels_for(rv_isa isa)
{
    const rv__kernels *best = RV__LOAD_PTR(&rv__kernels_best);
    if (RV__UNLIKELY(!best)) {
        best = rv__kernels_detect();
        RV__STORE_PTR(&rv__kernels_best, best);
    }
    if (isa == RV_ISA_BEST || isa == best->isa) return best;
#if defined(RV__X86)
    if (isa >= RV_ISA_AVX512) return best;
    if (isa == RV_ISA_AVX2 && best->isa != RV_ISA_SCALAR) return &rv__kernels_avx2;
    return &rv__kernels_scalar;
#else
    return isa > best->isa ? best : &rv__kernels_scalar;
#endif
}

/* For tests: further tables that can run here, at most 8 (sub-features switched off). */
RV__FN size_t rv__kernels_more(const rv__kernels **list)
{
#if defined(RV__X86)
    const rv__kernels *best = rv__kernels_for(RV_ISA_BEST);
    size_t n = 0;
    if (best->isa != RV_ISA_AVX512) return 0;
    for (size_t i = 0; i < 4; i++) {
        size_t have = (size_t)(best - rv__kernels_avx512);
        if ((i & have) == i && i != have) list[n++] = &rv__kernels_avx512[i];
    }
    return n;
#else
    (void)list;
    return 0;
#endif
}

RV_API rv_isa rv_isa_resolve(rv_isa isa)
{
    return rv__kernels_for(isa)->isa;
}

RV_API const char *rv_isa_name(rv_isa isa)
{
    static const char *const names[] = {"best", "scalar", "avx2", "avx512", "neon", "wasm"};
    return (unsigned)isa < sizeof names / sizeof names[0] ? names[(unsigned)isa] : "unknown";
}

RV_API uint32_t rv_features(void)
{
    uint32_t features;
    (void)rv__detect(&features);
    return features;
}

/* ---- sizes and layouts that go with the kernels ---- */

/* Six rows of A and the columns of B, rounded up to tiles, at two bytes per element. */
RV__FN size_t rv__gram_i8_scratch(size_t nb, size_t n_bytes)
{
    return rv__mul(rv__add(rv__round_up(nb, RV__COLS_MAX), 6), rv__mul(n_bytes, 2));
}

RV__FN size_t rv__gram_f32_scratch(void)
{
    return RV__COLS_MAX * RV__GEMM_DEPTH * sizeof(float);
}

/* codes: [32][m], values 0..15, m even. block: 16 m bytes, of which 16 s .. 16 s + 15 belong to
   sub-quantizer s: byte i holds the code of row i in its low half and that of row i + 16 in its
   high half. Tables and codes of neighbouring sub-quantizers thus lie in neighbouring lanes of a
   wide register in both arrays, and a byte shuffle per lane does the look-up.
   Source: Andre, Kermarrec, Le Scouarnec, Accelerated nearest neighbor search with Quick ADC, 2017. */
RV__FN void rv__pq4_pack(const uint8_t *codes, size_t m, uint8_t *block)
{
    for (size_t s = 0; s < m; s++) {
        for (size_t i = 0; i < 16; i++) {
            block[16 * s + i] = (uint8_t)((codes[i * m + s] & 15u) | (codes[(i + 16) * m + s] & 15u) << 4);
        }
    }
}

#endif /* RV_SIMD_C */
/* ==== src/half.c ============================================================================== */
#ifndef RV_HALF_C
#define RV_HALF_C

/* The scalar conversions stand in simd.c beside their vector forms; all give the same bits. */

RV_API uint16_t rv_f16_from_f32(float x)
{
    return rv__f32_f16(x);
}

RV_API float rv_f32_from_f16(uint16_t x)
{
    return rv__f16_f32(x);
}

RV_API uint16_t rv_bf16_from_f32(float x)
{
    return rv__f32_bf16(x);
}

RV_API float rv_f32_from_bf16(uint16_t x)
{
    return rv__bf16_f32(x);
}

RV_API void rv_convert_f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->narrow_f16(src, dst, n);
}

RV_API void rv_convert_f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->widen_f16(src, dst, n);
}

RV_API void rv_convert_f32_to_bf16(const float *src, uint16_t *dst, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->narrow_bf16(src, dst, n);
}

RV_API void rv_convert_bf16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->widen_bf16(src, dst, n);
}

RV_API void rv_convert_f32_to_i8(const float *src, float scale, int8_t *dst, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->narrow_i8(src, scale, dst, n);
}

RV_API void rv_convert_i8_to_f32(const int8_t *src, float scale, float *dst, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->widen_i8(src, scale, dst, n);
}

#endif /* RV_HALF_C */

/* arithmetic */
/* ==== src/mathx.c ============================================================================= */
#ifndef RV_MATHX_C
#define RV_MATHX_C

/* Elementary functions, softmax, and dense products over the kernels; and a few scalar functions
   for the rest of the library, so that nothing but sqrt and floor comes from the C library. */

RV_API void rv_exp_f32(const float *x, float *out, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->exp_f32(x, out, n);
}

RV_API void rv_log_f32(const float *x, float *out, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->log_f32(x, out, n);
}

RV_API void rv_tanh_f32(const float *x, float *out, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->tanh_f32(x, out, n);
}

RV_API void rv_sigmoid_f32(const float *x, float *out, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->sigmoid_f32(x, out, n);
}

RV_API void rv_erf_f32(const float *x, float *out, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->erf_f32(x, out, n);
}

RV__FN void rv__softmax(const rv__kernels *k, const float *x, float scale, float *out, size_t n)
{
    int nan = 0;
    float top, sum;
    if (n == 0) return;
    top = k->max_f32(x, scale, n, &nan);
    if (nan || rv__bits_f32(top) == 0x7F800000) { /* infinity minus infinity */
        for (size_t i = 0; i < n; i++) out[i] = rv__from_bits_f32(0x7FC00000);
        return;
    }
    if (!rv__finite_f32(top)) {
        memset(out, 0, n * sizeof *out);
        return;
    }
    sum = k->exp_sum_f32(x, scale, top, out, n);
    k->scale_f32(1.0f / sum, out, n);
}

RV_API void rv_softmax_f32(const float *x, float scale, float *out, size_t n)
{
    rv__softmax(rv__kernels_for(RV_ISA_BEST), x, scale, out, n);
}

/* ---- dense products ---- */

RV_API void rv_gemv_f32(const float *a, size_t lda, const float *x, size_t m, size_t n, float *y)
{
    if (lda == 0) lda = n;
    rv__kernels_for(RV_ISA_BEST)->scan_dot_f32(x, (const unsigned char *)a, 4 * lda, NULL, m, n, y);
}

#define RV__MATHX_ROWS 192u  /* rows and columns of C that one body of the parallel loop computes, */
#define RV__MATHX_COLS 512u  /* at most a few milliseconds of work                                 */

typedef struct rv__mathx_gemm {
    const rv__kernels *kernels;
    const float *a, *b;
    size_t lda, ldb, ldc, m, n, k, n_blocks;
    int accumulate;
    float *c;
    unsigned char *scratch; /* one packed panel per lane */
} rv__mathx_gemm;

static void rv__mathx_gemm_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__mathx_gemm *g = (const rv__mathx_gemm *)arg;
    void *scratch = g->scratch + lane * rv__gram_f32_scratch();
    for (size_t block = begin; block < end; block++) {
        size_t i = block / g->n_blocks * RV__MATHX_ROWS, j = block % g->n_blocks * RV__MATHX_COLS;
        size_t rows = g->m - i < RV__MATHX_ROWS ? g->m - i : RV__MATHX_ROWS;
        size_t cols = g->n - j < RV__MATHX_COLS ? g->n - j : RV__MATHX_COLS;
        g->kernels->gemm_f32(g->a + i * g->lda, g->lda, rows, g->b + j * g->ldb, g->ldb, cols, g->k,
                             g->accumulate, g->c + i * g->ldc + j, g->ldc, scratch);
    }
}

RV_API rv_status rv_gemm_nt_f32(rv_ctx *ctx, const float *a, size_t lda, const float *b, size_t ldb,
                                size_t m, size_t n, size_t k, int accumulate, float *c, size_t ldc)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__mathx_gemm g;
    size_t lanes = rv__lanes(ctx), m_blocks;
    rv_status status;
    g.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    g.a = a;
    g.b = b;
    g.c = c;
    g.lda = lda ? lda : k;
    g.ldb = ldb ? ldb : k;
    g.ldc = ldc ? ldc : n;
    g.m = m;
    g.n = n;
    g.k = k;
    g.accumulate = accumulate;
    if (m == 0 || n == 0) return rv__ok(ctx);
    m_blocks = (m + RV__MATHX_ROWS - 1) / RV__MATHX_ROWS;
    g.n_blocks = (n + RV__MATHX_COLS - 1) / RV__MATHX_COLS;
    g.scratch = (unsigned char *)rv__get(&alloc, lanes, rv__gram_f32_scratch());
    if (!g.scratch) return rv__no_memory(ctx, lanes * rv__gram_f32_scratch());
    status = rv__parallel_for(ctx, m_blocks * g.n_blocks, 1, 2, rv__mathx_gemm_range, &g);
    rv__put(&alloc, g.scratch, lanes, rv__gram_f32_scratch());
    return status ? status : rv__ok(ctx);
}

/* ---- scalar functions for the library ---- */

RV__FN float rv__expf(float x)
{
    return rv__v_exp_scalar(x);
}

RV__FN float rv__logf(float x)
{
    return rv__v_log_scalar(x);
}

/* 2^n, n in -1022 .. 1023. */
static double rv__mathx_pow2(int n)
{
    uint64_t bits = (uint64_t)(1023 + n) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x = n ln 2 + r; the Taylor polynomial of degree 13 for |r| <= ln 2 / 2. Error below 2 ulp. */
RV__FN double rv__exp(double x)
{
    double f, r, p = 1.0;
    int n;
    if (!rv__finite_f64(x) && !(x > 0.0) && !(x < 0.0)) return x; /* NaN */
    if (x > 709.79) return (double)rv__infinity();
    if (x < -745.2) return 0.0;
    f = floor(x * 1.4426950408889634 + 0.5);
    n = (int)f;
    r = (x - f * 6.93147180369123816490e-01) - f * 1.90821492927058770002e-10;
    for (int k = 13; k > 0; k--) p = 1.0 + p * r / (double)k;
    return p * rv__mathx_pow2(n / 2) * rv__mathx_pow2(n - n / 2);
}

/* x = 2^e m, m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m - 1) / (m + 1)). Error below 2 ulp. */
RV__FN double rv__log(double x)
{
    uint64_t bits;
    double s, z, sum = 0.0;
    int e = 0;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFFFFFFFFFFull) == 0) return -(double)rv__infinity();
    if (bits >> 63 || (bits >> 52 & 0x7FFu) == 0x7FFu) { /* negative, infinite, NaN */
        return bits == 0x7FF0000000000000ull ? x : (double)rv__from_bits_f32(0x7FC00000);
    }
    if (bits >> 52 == 0) {
        x *= 18014398509481984.0; /* 2^54 */
        memcpy(&bits, &x, sizeof bits);
        e = -54;
    }
    e += (int)(bits >> 52) - 1023;
    bits = (bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    memcpy(&x, &bits, sizeof x);
    if (x > 1.4142135623730951) {
        x *= 0.5;
        e++;
    }
    s = (x - 1.0) / (x + 1.0);
    z = s * s;
    for (int k = 23; k >= 3; k -= 2) sum = (sum + 1.0 / (double)k) * z;
    return (double)e * 6.93147180369123816490e-01 + (2.0 * s + (2.0 * s * sum + (double)e * 1.90821492927058770002e-10));
}

/* Sine and cosine for |x| <= 2^20, absolute error below 2^-52; NaN and larger x give NaN. x is
   reduced by multiples of pi / 2 in three parts; Taylor polynomials on |r| <= pi / 4. */
RV__FN void rv__sincos(double x, double *sine, double *cosine)
{
    double f, r, z, s = 1.0, c = 1.0;
    int quadrant;
    if (!(x >= -1048576.0 && x <= 1048576.0)) {
        *sine = *cosine = (double)rv__from_bits_f32(0x7FC00000);
        return;
    }
    f = floor(x * 0.63661977236758134 + 0.5);
    r = ((x - f * 1.57079632673412561417e+00) - f * 6.07710050630396597660e-11) - f * 2.02226624879595063154e-21;
    z = r * r;
    for (int k = 18; k > 0; k -= 2) {
        s = 1.0 - s * z / (double)(k * (k + 1));
        c = 1.0 - c * z / (double)(k * (k - 1));
    }
    s *= r;
    quadrant = (int)(f - 4.0 * floor(f * 0.25));
    *sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}

#endif /* RV_MATHX_C */
/* ==== src/topk.c ============================================================================== */
#ifndef RV_TOPK_C
#define RV_TOPK_C

/* A binary heap of the k best so far with the worst on top, kept in the caller's index array. Once
   it is full, a vector compare against the worst skips all values that cannot enter. */

/* Whether x comes after y: larger value, NaN last, then larger index. */
static int rv__topk_after(const float *values, uint32_t x, uint32_t y)
{
    int nan_x = rv__is_nan(values[x]), nan_y = rv__is_nan(values[y]);
    if (nan_x != nan_y) return nan_x;
    if (!nan_x && values[x] != values[y]) return values[x] > values[y];
    return x > y;
}

static void rv__topk_sift(const float *values, uint32_t *heap, size_t n, size_t i)
{
    uint32_t moved = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && rv__topk_after(values, heap[child + 1], heap[child])) child++;
        if (!rv__topk_after(values, heap[child], moved)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

RV_API size_t rv_topk_f32(const float *values, size_t n, size_t k, uint32_t *index, float *out)
{
    const rv__kernels *kernels = rv__kernels_for(RV_ISA_BEST);
    size_t i;
    if (k > n) k = n;
    if (k == 0) return 0;
    for (i = 0; i < k; i++) index[i] = (uint32_t)i;
    for (i = k / 2; i-- > 0;) rv__topk_sift(values, index, k, i);
    for (i = k; i < n; i++) {
        float worst = values[index[0]];
        if (rv__is_nan(worst)) {
            if (rv__is_nan(values[i])) continue;
        } else {
            i = kernels->find_below(values, i, n, worst);
            if (i == n) break;
        }
        index[0] = (uint32_t)i;
        rv__topk_sift(values, index, k, 0);
    }
    for (i = k; i-- > 1;) {
        uint32_t last = index[i];
        index[i] = index[0];
        index[0] = last;
        rv__topk_sift(values, index, i, 0);
    }
    if (out) {
        for (i = 0; i < k; i++) out[i] = values[index[i]];
    }
    return k;
}

#endif /* RV_TOPK_C */
/* ==== src/distance.c ========================================================================== */
#ifndef RV_DISTANCE_C
#define RV_DISTANCE_C

/* The public face of the distance kernels: picks the kernel, cuts off spare bits. */

RV_API float rv_dot_f32(const float *a, const float *b, size_t n)
{
    return -rv__kernels_for(RV_ISA_BEST)->pair_f32[RV_METRIC_IP](a, b, n);
}

RV_API float rv_l2sq_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_f32[RV_METRIC_L2](a, b, n);
}

RV_API float rv_cosine_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_f32[RV_METRIC_COSINE](a, b, n);
}

RV_API float rv_l1_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_f32[RV_METRIC_L1](a, b, n);
}

RV_API float rv_linf_f32(const float *a, const float *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_f32[RV_METRIC_LINF](a, b, n);
}

RV_API float rv_norm_f32(const float *a, size_t n)
{
    float sum = rv_dot_f32(a, a, n);
    double wide = 0.0;
    if (sum > 1e-30f && sum < 1e37f) return sqrtf(sum);
    for (size_t i = 0; i < n; i++) wide += (double)a[i] * (double)a[i];
    return (float)sqrt(wide);
}

RV_API float rv_dot_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return -rv__kernels_for(RV_ISA_BEST)->pair_u16[0][RV_METRIC_IP](a, b, n);
}

RV_API float rv_l2sq_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_u16[0][RV_METRIC_L2](a, b, n);
}

RV_API float rv_cosine_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_u16[0][RV_METRIC_COSINE](a, b, n);
}

RV_API float rv_l1_f16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_u16[0][RV_METRIC_L1](a, b, n);
}

RV_API float rv_dot_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return -rv__kernels_for(RV_ISA_BEST)->pair_u16[1][RV_METRIC_IP](a, b, n);
}

RV_API float rv_l2sq_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_u16[1][RV_METRIC_L2](a, b, n);
}

RV_API float rv_cosine_bf16(const uint16_t *a, const uint16_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->pair_u16[1][RV_METRIC_COSINE](a, b, n);
}

RV_API int32_t rv_dot_i8(const int8_t *a, const int8_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->dot_i8(a, b, n);
}

RV_API int32_t rv_l2sq_i8(const int8_t *a, const int8_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->l2sq_i8(a, b, n);
}

RV_API float rv_cosine_i8(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sums[3]; /* ab, aa, bb */
    rv__kernels_for(RV_ISA_BEST)->cosine_i8(a, b, n, sums);
    if (sums[1] == 0 || sums[2] == 0) return sums[1] == sums[2] ? 0.0f : 1.0f;
    return rv__cosine_clamp((float)sums[0] / (sqrtf((float)sums[1]) * sqrtf((float)sums[2])));
}

RV_API int32_t rv_l1_i8(const int8_t *a, const int8_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->l1_i8(a, b, n);
}

RV_API uint32_t rv_dot_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->dot_u8(a, b, n);
}

RV_API uint32_t rv_l2sq_u8(const uint8_t *a, const uint8_t *b, size_t n)
{
    return rv__kernels_for(RV_ISA_BEST)->l2sq_u8(a, b, n);
}

/* The bits of a last, partial byte. */
static uint8_t rv__distance_rest(const uint8_t *a, size_t n_bits)
{
    return (uint8_t)(a[n_bits / 8] & ((1u << n_bits % 8) - 1u));
}

RV_API uint32_t rv_hamming_u1(const uint8_t *a, const uint8_t *b, size_t n_bits)
{
    const rv__kernels *k = rv__kernels_for(RV_ISA_BEST);
    uint32_t sum = k->hamming(a, b, n_bits / 8);
    if (n_bits % 8) {
        uint8_t x = rv__distance_rest(a, n_bits), y = rv__distance_rest(b, n_bits);
        sum += k->hamming(&x, &y, 1);
    }
    return sum;
}

RV_API float rv_jaccard_u1(const uint8_t *a, const uint8_t *b, size_t n_bits)
{
    const rv__kernels *k = rv__kernels_for(RV_ISA_BEST);
    uint32_t counts[2], more[2] = {0, 0};
    k->overlap(a, b, n_bits / 8, counts);
    if (n_bits % 8) {
        uint8_t x = rv__distance_rest(a, n_bits), y = rv__distance_rest(b, n_bits);
        k->overlap(&x, &y, 1, more);
    }
    return rv__jaccard_finish(counts[0] + more[0], counts[1] + more[1]);
}

RV_API void rv_axpy_f32(float alpha, const float *x, float *y, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->axpy_f32(alpha, x, y, n);
}

RV_API void rv_scale_f32(float alpha, float *y, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->scale_f32(alpha, y, n);
}

RV_API void rv_add_f32(const float *x, float *y, size_t n)
{
    rv__kernels_for(RV_ISA_BEST)->add_f32(x, y, n);
}

RV_API size_t rv_dtype_bytes(rv_dtype dtype, size_t dim)
{
    switch (dtype) {
    case RV_DTYPE_F32: return dim * 4;
    case RV_DTYPE_F16: return dim * 2;
    case RV_DTYPE_BF16: return dim * 2;
    case RV_DTYPE_I8: return dim + 4;
    case RV_DTYPE_U1: return (dim + 7) / 8;
    default: return 0;
    }
}

RV_API const char *rv_dtype_name(rv_dtype dtype)
{
    static const char *const names[] = {"f32", "f16", "bf16", "i8", "u1"};
    return (unsigned)dtype < sizeof names / sizeof names[0] ? names[(unsigned)dtype] : "unknown";
}

RV_API const char *rv_metric_name(rv_metric metric)
{
    static const char *const names[] = {"l2", "ip", "cosine", "l1", "linf", "hamming", "jaccard", "custom"};
    return (unsigned)metric < sizeof names / sizeof names[0] ? names[(unsigned)metric] : "unknown";
}

/* NULL when the pair has no meaning. */
RV__FN rv__scan_fn rv__scan_find(rv_metric metric, rv_dtype dtype, rv_isa isa)
{
    const rv__kernels *k = rv__kernels_for(isa);
    if (dtype == RV_DTYPE_U1) {
        return metric == RV_METRIC_HAMMING ? k->scan_hamming : metric == RV_METRIC_JACCARD ? k->scan_jaccard : NULL;
    }
    if ((unsigned)metric > RV_METRIC_LINF || (unsigned)dtype > RV_DTYPE_I8) return NULL;
    return k->scan[metric][dtype];
}

RV_API int rv_metric_has(rv_metric metric, rv_dtype dtype)
{
    return rv__scan_find(metric, dtype, RV_ISA_SCALAR) != NULL;
}

RV_API void rv_metric_gather(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                             size_t stride, const uint32_t *ids, size_t n_rows, size_t dim, float *out)
{
    rv__scan_fn scan = rv__scan_find(metric, dtype, RV_ISA_BEST);
    if (!scan) {
        for (size_t i = 0; i < n_rows; i++) out[i] = rv__from_bits_f32(0x7FC00000);
        return;
    }
    if (stride == 0) stride = rv_dtype_bytes(dtype, dim);
    scan(query, (const unsigned char *)rows, stride, ids, n_rows, dim, out);
}

RV_API void rv_metric_many(rv_metric metric, rv_dtype dtype, const void *query, const void *rows,
                           size_t stride, size_t n_rows, size_t dim, float *out)
{
    rv_metric_gather(metric, dtype, query, rows, stride, NULL, n_rows, dim, out);
}

RV_API rv_distance_f32 rv_metric_find_f32(rv_metric metric, rv_isa isa)
{
    return (unsigned)metric > RV_METRIC_LINF ? NULL : rv__kernels_for(isa)->pair_f32[metric];
}

#endif /* RV_DISTANCE_C */

/* building blocks */
/* ==== src/kmeans.c ============================================================================ */
#ifndef RV_KMEANS_C
#define RV_KMEANS_C

/* Lloyd's iteration. Assignment: tiles of dot products between a block of rows and a group of
   centroids, of which |c|^2 - 2 x c is compared. Update: the rows are sorted by cluster (counting
   sort, so in their order), each cluster sums its rows in that order in double. Both run in
   parallel over rows or clusters without ever adding numbers in an order that depends on the
   threads.

   A sample takes one row from each of m equal parts of the set, at a random place of the part.

   Sources: Lloyd, Least squares quantization in PCM, 1982; Arthur, Vassilvitskii, k-means++, 2007;
   spherical: Dhillon, Modha, Concept decompositions, 2001. */

#define RV__KMEANS_ROWS 192u /* rows per block                                               */
#define RV__KMEANS_COLS 512u /* centroids per group                                          */
#define RV__KMEANS_SMALL 12u /* dimensions up to which rows are compared without tiles        */
#define RV__KMEANS_MAX 16777216u

typedef struct rv__kmeans {
    const rv__kernels *kernels;
    const float *rows;
    size_t stride, n, dim;   /* the whole set                                                */
    size_t m;                /* rows looked at: a sample, or all                             */
    uint64_t seed;
    const float *centroids;
    const float *half;       /* [k] |c|^2 / 2, and room for 16 more                          */
    float *turned;           /* [dim][k rounded up to 16] for few dimensions, else NULL      */
    size_t k;
    uint32_t *assign;        /* [m]                                                          */
    float *dist;             /* [m] or NULL                                                  */
    const uint32_t *order;   /* [m] rows by cluster                                          */
    const uint32_t *start;   /* [k + 1] where a cluster begins in order                      */
    float *out;              /* [k, dim] new centroids                                       */
    int spherical;
    unsigned char *scratch;  /* [lanes, lane_bytes]                                          */
    size_t lane_bytes;
} rv__kmeans;

/* Row i of the m looked at. */
static const float *rv__kmeans_row(const rv__kmeans *job, size_t i)
{
    uint64_t from, to;
    if (job->m == job->n) return job->rows + i * job->stride;
    from = (uint64_t)i * job->n / job->m;
    to = (uint64_t)(i + 1) * job->n / job->m;
    return job->rows + (size_t)(from + rv__mix(job->seed + i) % (to - from)) * job->stride;
}

/* Lowers best and where to the scores of one group; dots: [n]. */
RV__FN void rv__kmeans_least(const float *dots, const float *half, size_t n, uint32_t first,
                             float *best, uint32_t *where)
{
    float low[8];
    uint32_t at[8];
    size_t j = 0;
    for (size_t l = 0; l < 8; l++) {
        low[l] = rv__infinity();
        at[l] = 0;
    }
    for (; j + 8 <= n; j += 8) {
        for (size_t l = 0; l < 8; l++) {
            float score = half[j + l] - dots[j + l];
            uint32_t index = (uint32_t)(j + l);
            int less = score < low[l];
            low[l] = less ? score : low[l];
            at[l] = less ? index : at[l];
        }
    }
    for (; j < n; j++) {
        float score = half[j] - dots[j];
        if (score < low[j & 7u]) {
            low[j & 7u] = score;
            at[j & 7u] = (uint32_t)j;
        }
    }
    for (size_t l = 0; l < 8; l++) {
        /* among lanes equal scores go to the lower index; among groups to the earlier group */
        int less = low[l] < *best || (low[l] == *best && *where >= first && at[l] + first < *where);
        if (less) {
            *best = low[l];
            *where = at[l] + first;
        }
    }
}

static void rv__kmeans_assign_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__kmeans *job = (const rv__kmeans *)arg;
    const size_t dim = job->dim, k = job->k;
    float *dots = (float *)(void *)(job->scratch + lane * job->lane_bytes);
    float *block = dots + RV__KMEANS_ROWS * RV__KMEANS_COLS;
    float *pack = block + (job->m == job->n ? 0 : rv__round_up(RV__KMEANS_ROWS * dim, 16));
    float best[RV__KMEANS_ROWS];
    for (size_t at = begin; at < end; at += RV__KMEANS_ROWS) {
        size_t rows = end - at < RV__KMEANS_ROWS ? end - at : RV__KMEANS_ROWS, pitch = job->stride;
        const float *from = job->rows + at * pitch;
        uint32_t *assign = job->assign + at;
        if (job->m != job->n) {
            for (size_t i = 0; i < rows; i++) {
                memcpy(block + i * dim, rv__kmeans_row(job, at + i), dim * sizeof(float));
            }
            from = block;
            pitch = dim;
        }
        for (size_t i = 0; i < rows; i++) {
            best[i] = rv__infinity();
            assign[i] = 0;
        }
        for (size_t c = 0; c < k; c += RV__KMEANS_COLS) {
            size_t cols = k - c < RV__KMEANS_COLS ? k - c : RV__KMEANS_COLS;
            job->kernels->gram_f32(from, pitch, rows, job->centroids + c * dim, dim, cols, dim, dots,
                                   cols, pack);
            for (size_t i = 0; i < rows; i++) {
                rv__kmeans_least(dots + i * cols, job->half + c, cols, (uint32_t)c, best + i, assign + i);
            }
        }
        for (size_t i = 0; job->dist && i < rows; i++) {
            job->dist[at + i] = job->kernels->pair_f32[RV__OP_L2](from + i * pitch,
                                                       job->centroids + (size_t)assign[i] * dim, dim);
        }
    }
}

/* The same for few dimensions, where a tile of products would be mostly packing: 16 centroids at a
   time from their transpose. turned: [dim][k rounded up to 16], half the same length, the rest of it
   infinite. */
static void rv__kmeans_small_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__kmeans *job = (const rv__kmeans *)arg;
    const size_t dim = job->dim, wide = rv__round_up(job->k, 16);
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        const float *row = rv__kmeans_row(job, i);
        float low[16], best;
        uint32_t at[16], where = 0;
        for (size_t l = 0; l < 16; l++) {
            low[l] = rv__infinity();
            at[l] = 0;
        }
        for (size_t c = 0; c < wide; c += 16) {
            float score[16];
            for (size_t l = 0; l < 16; l++) score[l] = job->half[c + l];
            for (size_t j = 0; j < dim; j++) {
                const float *line = job->turned + j * wide + c, x = row[j];
                for (size_t l = 0; l < 16; l++) score[l] -= x * line[l];
            }
            for (size_t l = 0; l < 16; l++) {
                int less = score[l] < low[l];
                low[l] = less ? score[l] : low[l];
                at[l] = less ? (uint32_t)c : at[l];
            }
        }
        best = low[0];
        where = at[0];
        for (uint32_t l = 1; l < 16; l++) {
            if (low[l] < best || (low[l] == best && at[l] + l < where)) {
                best = low[l];
                where = at[l] + l;
            }
        }
        job->assign[i] = where < job->k ? where : 0;
        if (job->dist) {
            const float *centroid = job->centroids + (size_t)job->assign[i] * dim;
            float sum = 0.0f;
            for (size_t j = 0; j < dim; j++) sum += (row[j] - centroid[j]) * (row[j] - centroid[j]);
            job->dist[i] = sum;
        }
    }
}

/* One centroid per item: the mean of its rows; a cluster without rows keeps what out holds. */
static void rv__kmeans_mean_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__kmeans *job = (const rv__kmeans *)arg;
    const size_t dim = job->dim;
    double *sum = (double *)(void *)(job->scratch + lane * job->lane_bytes);
    for (size_t c = begin; c < end; c++) {
        uint32_t from = job->start[c], to = job->start[c + 1];
        float *out = job->out + c * dim;
        double square = 0.0, scale;
        if (from == to) continue;
        for (size_t j = 0; j < dim; j++) sum[j] = 0.0;
        for (uint32_t i = from; i < to; i++) {
            const float *row = rv__kmeans_row(job, job->order[i]);
            for (size_t j = 0; j < dim; j++) sum[j] += (double)row[j];
        }
        scale = 1.0 / (double)(to - from);
        if (job->spherical) {
            for (size_t j = 0; j < dim; j++) square += sum[j] * sum[j];
            if (square > 0.0) scale = 1.0 / sqrt(square);
        }
        for (size_t j = 0; j < dim; j++) out[j] = (float)(sum[j] * scale);
    }
}

/* Rows handled between two polls: about 10 ms of one thread. */
static size_t rv__kmeans_section(size_t k, size_t dim)
{
    double work = 2e8 / ((double)k * (double)dim + 1.0);
    return work > 1e6 ? 1000000u : work < 1.0 ? 1u : (size_t)work;
}

/* Floats of half and turned. */
static size_t rv__kmeans_table(size_t k, size_t dim)
{
    size_t wide = rv__round_up(k, 16);
    return dim > RV__KMEANS_SMALL ? wide : rv__mul(wide, dim + 1);
}

static rv_status rv__kmeans_label(rv_ctx *ctx, rv__kmeans *job, float *half)
{
    const size_t wide = rv__round_up(job->k, 16), dim = job->dim;
    const int small = dim <= RV__KMEANS_SMALL;
    job->half = half;
    job->turned = small ? half + wide : NULL;
    for (size_t c = 0; c < wide; c++) {
        const float *row = job->centroids + (c < job->k ? c : 0) * dim;
        half[c] = c < job->k ? 0.5f * rv_dot_f32(row, row, dim) : rv__infinity();
        for (size_t j = 0; small && j < dim; j++) job->turned[j * wide + c] = row[j];
    }
    return rv__parallel_for(ctx, job->m, RV__KMEANS_ROWS, rv__kmeans_section(job->k, dim),
                            small ? rv__kmeans_small_range : rv__kmeans_assign_range, job);
}

static size_t rv__kmeans_lane(size_t dim, int sampled)
{
    size_t bytes = RV__KMEANS_ROWS * RV__KMEANS_COLS * sizeof(float) + rv__gram_f32_scratch();
    if (sampled) bytes += rv__round_up(RV__KMEANS_ROWS * dim, 16) * sizeof(float);
    if (bytes < dim * sizeof(double)) bytes = dim * sizeof(double);
    return rv__round_up(bytes, 64);
}

/* k-means++: each next centroid is a row drawn by its squared distance to the nearest so far. Works
   on at most 32 rows per cluster. dist: [m] scratch. */
static rv_status rv__kmeans_plus(rv_ctx *ctx, rv__kmeans *job, rv__rng *rng, float *centroids,
                                 float *dist)
{
    size_t m = job->m < 32 * job->k ? job->m : 32 * job->k, dim = job->dim;
    size_t pick = rv__rng_below(rng, (uint32_t)m);
    for (size_t c = 0; c < job->k; c++) {
        double total = 0.0, goal;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        memcpy(centroids + c * dim, rv__kmeans_row(job, (size_t)((uint64_t)pick * job->m / m)), dim * sizeof(float));
        for (size_t i = 0; i < m; i++) {
            float d = job->kernels->pair_f32[RV__OP_L2](rv__kmeans_row(job, (size_t)((uint64_t)i * job->m / m)), centroids + c * dim, dim);
            if (c == 0 || d < dist[i]) dist[i] = d;
            total += (double)dist[i];
        }
        goal = (double)rv__rng_f32(rng) * total;
        pick = rv__rng_below(rng, (uint32_t)m); /* when all rows are centroids already */
        for (size_t i = 0; i < m && total > 0.0; i++) {
            goal -= (double)dist[i];
            if (goal < 0.0 || (i + 1 == m && dist[i] > 0.0f)) {
                pick = i;
                break;
            }
        }
    }
    return RV_OK;
}

/* k different rows at random: the first of a shuffle that only touches what it takes. */
static void rv__kmeans_scatter(const rv__kmeans *job, rv__rng *rng, float *centroids, uint32_t *order)
{
    for (size_t i = 0; i < job->m; i++) order[i] = (uint32_t)i;
    for (size_t c = 0; c < job->k; c++) {
        size_t other = c + rv__rng_below(rng, (uint32_t)(job->m - c));
        uint32_t row = order[other];
        order[other] = order[c];
        order[c] = row;
        memcpy(centroids + c * job->dim, rv__kmeans_row(job, row), job->dim * sizeof(float));
    }
}

/* Sorts the rows by cluster. start: [k + 2]. */
static void rv__kmeans_sort(const rv__kmeans *job, uint32_t *order, uint32_t *start)
{
    memset(start, 0, (job->k + 2) * sizeof(uint32_t));
    for (size_t i = 0; i < job->m; i++) start[job->assign[i] + 2]++;
    for (size_t c = 2; c < job->k + 2; c++) start[c] += start[c - 1];
    for (size_t i = 0; i < job->m; i++) order[start[job->assign[i] + 1]++] = (uint32_t)i;
}

/* Clusters without rows take the rows that are farthest from their centroids. dist is used up. */
static void rv__kmeans_refill(const rv__kmeans *job, const uint32_t *start, float *dist, float *centroids,
                              uint32_t *order)
{
    size_t empty = 0, given = 0;
    for (size_t c = 0; c < job->k; c++) empty += start[c] == start[c + 1];
    if (!empty) return;
    for (size_t i = 0; i < job->m; i++) dist[i] = -dist[i];
    empty = rv_topk_f32(dist, job->m, empty, order, NULL);
    for (size_t c = 0; c < job->k && given < empty; c++) {
        const float *row;
        if (start[c] != start[c + 1]) continue;
        if (!(dist[order[given]] < 0.0f)) return;
        row = rv__kmeans_row(job, order[given++]);
        memcpy(centroids + c * job->dim, row, job->dim * sizeof(float));
    }
}

typedef struct rv__kmeans_space {
    uint32_t *assign, *order, *start;
    float *dist, *half;
    size_t m, k;
} rv__kmeans_space;

static rv_status rv__kmeans_lloyd(rv_ctx *ctx, rv__kmeans *job, rv__kmeans_space *space,
                                  size_t iterations, float *centroids)
{
    double last = 0.0;
    rv__rng rng;
    rv_status status = RV_OK;
    rv__rng_init(&rng, job->seed);
    if (job->k <= 256) {
        status = rv__kmeans_plus(ctx, job, &rng, centroids, space->dist);
    } else {
        rv__kmeans_scatter(job, &rng, centroids, space->order);
    }
    job->centroids = centroids;
    job->assign = space->assign;
    job->dist = space->dist;
    job->order = space->order;
    job->start = space->start;
    job->out = centroids;
    for (size_t round = 0; !status && round < iterations; round++) {
        double total = 0.0;
        status = rv__kmeans_label(ctx, job, space->half);
        if (status) break;
        for (size_t i = 0; i < job->m; i++) total += (double)space->dist[i];
        rv__kmeans_sort(job, space->order, space->start);
        status = rv__parallel_for(ctx, job->k, 1, 1 + 4000000u / (job->dim * (job->m / job->k + 1)),
                                  rv__kmeans_mean_range, job);
        if (status) break;
        if (round > 0 && last - total <= 1e-4 * last) break;
        last = total;
        if (round + 1 < iterations) rv__kmeans_refill(job, space->start, space->dist, centroids, space->order);
    }
    return status;
}

static rv_status rv__kmeans_check(rv_ctx *ctx, const rv__kmeans *job)
{
    for (size_t i = 0; i < job->m; i++) {
        const float *row = rv__kmeans_row(job, i);
        size_t bad = rv__find_not_finite(row, job->dim);
        rv_status status = (i & 1023u) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (bad < job->dim) {
            return rv__fail(ctx, RV_ERR_ARG, (size_t)(row - job->rows) + bad,
                            "element %z of row %z is not finite", bad,
                            (size_t)(row - job->rows) / job->stride);
        }
    }
    return RV_OK;
}

/* Labels every row of the set and sums the distances; lane scratch is made here. */
static rv_status rv__kmeans_all(rv_ctx *ctx, const rv_alloc *alloc, rv__kmeans *job, uint32_t *assign,
                                float *dist)
{
    size_t lanes = rv__lanes(ctx);
    float *half = (float *)rv__get(alloc, rv__kmeans_table(job->k, job->dim), sizeof(float));
    rv_status status = RV_ERR_MEMORY;
    job->m = job->n;
    job->assign = assign;
    job->dist = dist;
    job->lane_bytes = rv__kmeans_lane(job->dim, 0);
    job->scratch = (unsigned char *)rv__get(alloc, lanes, job->lane_bytes);
    if (half && job->scratch) {
        status = rv__kmeans_label(ctx, job, half);
    } else {
        status = rv__no_memory(ctx, rv__mul(lanes, job->lane_bytes));
    }
    rv__put(alloc, job->scratch, lanes, job->lane_bytes);
    rv__put(alloc, half, rv__kmeans_table(job->k, job->dim), sizeof(float));
    return status;
}

static void rv__kmeans_open(rv_ctx *ctx, rv__kmeans *job, const float *rows, size_t stride, size_t n,
                            size_t dim, size_t k, uint64_t seed)
{
    memset(job, 0, sizeof *job);
    job->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    job->rows = rows;
    job->stride = stride ? stride : dim;
    job->n = job->m = n;
    job->dim = dim;
    job->k = k;
    job->seed = seed;
}

static rv_status rv__kmeans_fit(rv_ctx *ctx, const rv_alloc *alloc, rv__kmeans *job, size_t iterations,
                                float *centroids)
{
    size_t lanes = rv__lanes(ctx);
    rv__kmeans_space space;
    rv_status status = rv__kmeans_check(ctx, job);
    if (status) return status;
    space.assign = (uint32_t *)rv__get(alloc, job->m, sizeof(uint32_t));
    space.order = (uint32_t *)rv__get(alloc, job->m, sizeof(uint32_t));
    space.start = (uint32_t *)rv__get(alloc, job->k + 2, sizeof(uint32_t));
    space.dist = (float *)rv__get(alloc, job->m, sizeof(float));
    space.half = (float *)rv__get(alloc, rv__kmeans_table(job->k, job->dim), sizeof(float));
    job->lane_bytes = rv__kmeans_lane(job->dim, job->m != job->n);
    job->scratch = (unsigned char *)rv__get(alloc, lanes, job->lane_bytes);
    if (space.assign && space.order && space.start && space.dist && space.half && job->scratch) {
        status = rv__kmeans_lloyd(ctx, job, &space, iterations, centroids);
    } else {
        status = rv__no_memory(ctx, rv__mul(lanes, job->lane_bytes));
    }
    rv__put(alloc, job->scratch, lanes, job->lane_bytes);
    rv__put(alloc, space.half, rv__kmeans_table(job->k, job->dim), sizeof(float));
    rv__put(alloc, space.dist, job->m, sizeof(float));
    rv__put(alloc, space.start, job->k + 2, sizeof(uint32_t));
    rv__put(alloc, space.order, job->m, sizeof(uint32_t));
    rv__put(alloc, space.assign, job->m, sizeof(uint32_t));
    return status;
}

/* As rv_kmeans_train, with the seed given and arguments that are known to be good. */
RV__FN rv_status rv__kmeans_train(rv_ctx *ctx, const rv_kmeans_config *config, uint64_t seed,
                                  const float *rows, size_t stride, size_t n, size_t dim,
                                  float *centroids, uint32_t *assign, double *inertia)
{
    rv_alloc alloc = rv__allocator(ctx);
    size_t most = rv__mul(config->k, config->sample ? config->sample : 64);
    rv__kmeans job;
    rv_status status;
    rv__kmeans_open(ctx, &job, rows, stride, n, dim, config->k, seed);
    job.spherical = config->spherical;
    if (most < 2048) most = 2048;
    if (most < n) job.m = most;
    status = rv__kmeans_fit(ctx, &alloc, &job, config->iterations ? config->iterations : 12, centroids);
    if (!status && (assign || inertia)) {
        float *dist = inertia ? (float *)rv__get(&alloc, n, sizeof(float)) : NULL;
        uint32_t *labels = assign ? assign : (uint32_t *)rv__get(&alloc, n, sizeof(uint32_t));
        if (!labels || (inertia && !dist)) {
            status = rv__no_memory(ctx, rv__mul(n, sizeof(float)));
        } else {
            status = rv__kmeans_all(ctx, &alloc, &job, labels, dist);
        }
        if (!status && inertia) {
            *inertia = 0.0;
            for (size_t i = 0; i < n; i++) *inertia += (double)dist[i];
        }
        if (!assign) rv__put(&alloc, labels, n, sizeof(uint32_t));
        rv__put(&alloc, dist, n, sizeof(float));
    }
    return status;
}

RV_API rv_status rv_kmeans_train(rv_ctx *ctx, const rv_kmeans_config *config, const float *rows,
                                 size_t stride, size_t n, size_t dim, float *centroids,
                                 uint32_t *assign, double *inertia)
{
    rv_status status;
    if (!config || !rows || !centroids) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "kmeans needs config, rows and centroids");
    }
    if (dim < 1 || dim > 65535 || (stride != 0 && stride < dim)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "kmeans: dim is %z, allowed: 1 to 65535; stride %z, at least dim",
                        dim, stride);
    }
    if (n > 0xFFFFFFF0u) return rv__fail(ctx, RV_ERR_ARG, 0, "kmeans: n is %z, allowed: below 2^32 - 16", n);
    if (config->k < 1 || config->k > RV__KMEANS_MAX || config->k > n) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kmeans: k is %z, allowed: 1 to n (%z) and 2^24",
                        (size_t)config->k, n);
    }
    if (config->iterations > 10000) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kmeans: iterations is %z, allowed: 1 to 10000",
                        (size_t)config->iterations);
    }
    if (config->sample > 1048576) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kmeans: sample is %z, allowed: 1 to 1048576",
                        (size_t)config->sample);
    }
    status = rv__kmeans_train(ctx, config, rv__seed(ctx), rows, stride, n, dim, centroids, assign, inertia);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_kmeans_assign(rv_ctx *ctx, const float *centroids, size_t k, size_t dim,
                                  const float *rows, size_t stride, size_t n, uint32_t *assign,
                                  float *dist)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__kmeans job;
    rv_status status;
    if (dim < 1 || dim > 65535 || k < 1 || k > RV__KMEANS_MAX || (stride != 0 && stride < dim) ||
        n > 0xFFFFFFF0u) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "kmeans: dim %z, k %z or n %z is out of range", dim, k, n);
    }
    if (n == 0) return rv__ok(ctx);
    rv__kmeans_open(ctx, &job, rows, stride, n, dim, k, 0);
    job.centroids = centroids;
    status = rv__kmeans_all(ctx, &alloc, &job, assign, dist);
    return status ? status : rv__ok(ctx);
}

#undef RV__KMEANS_COLS
#undef RV__KMEANS_MAX
#undef RV__KMEANS_ROWS
#undef RV__KMEANS_SMALL
#endif /* RV_KMEANS_C */
/* ==== src/rotate.c ============================================================================ */
#ifndef RV_ROTATE_C
#define RV_ROTATE_C

/* A rotation from cheap parts, each of them orthogonal. One round:

   1. flip the signs of all coordinates at random;
   2. Walsh-Hadamard butterflies of strides 4, 8, ... over the first (even rounds) or last (odd
      rounds) 2^k coordinates, the largest power of two that fits;
   3. turn each pair (i, half + i + shift) by 45 degrees (a step of Kac's walk), which mixes what
      the strides and the window left apart.

   The shift replaces butterflies of strides 1 and 2: those need shuffles within a vector, while
   every step here works on runs of at least four floats, which compilers turn into vector
   instructions on every machine. The rounds (four where the window is everything, else six) make
   any vector, also one with a single non-zero coordinate, look like a random point of the sphere.
   The inverse runs the same steps backwards.

   Sources: Ailon, Chazelle, The fast Johnson-Lindenstrauss transform, 2009; Gao, Long, RaBitQ, 2024,
   and its library, for the combination with Kac's walk. Differs from the latter in the strides and
   the shifted pairs. */

#define RV__ROTATION_ROUNDS 6u /* at most */

struct rv_rotation {
    rv_alloc alloc;
    uint64_t seed;
    size_t dim, padded, window, rounds;
    float *signs; /* [rounds, padded] plus or minus the factor that keeps lengths              */
};

/* Butterflies of strides h and 2 h over four runs of h floats; h is a multiple of 4, and the loop
   count says so to the vectoriser. */
static void rv__rotation_four(float *RV__RESTRICT p, float *RV__RESTRICT q, float *RV__RESTRICT r,
                              float *RV__RESTRICT s, size_t h)
{
    for (size_t i = 0; i < h / 4 * 4; i++) {
        float a = p[i] + q[i], b = p[i] - q[i], c = r[i] + s[i], d = r[i] - s[i];
        p[i] = a + c;
        q[i] = b + d;
        r[i] = a - c;
        s[i] = b - d;
    }
}

static void rv__rotation_two(float *RV__RESTRICT p, float *RV__RESTRICT q, size_t n)
{
    size_t i = 0;
    for (; i < n / 4 * 4; i++) {
        float a = p[i], b = q[i];
        p[i] = a + b;
        q[i] = a - b;
    }
    for (; i < n; i++) {
        float a = p[i], b = q[i];
        p[i] = a + b;
        q[i] = a - b;
    }
}

static void rv__rotation_scale(float *RV__RESTRICT x, const float *RV__RESTRICT by, size_t n)
{
    for (size_t i = 0; i < n / 4 * 4; i++) x[i] *= by[i];
}

/* n: a power of two, at least 64. Unscaled. */
static void rv__rotation_hadamard(float *x, size_t n)
{
    size_t h = 4;
    for (; 4 * h <= n; h *= 4) {
        for (float *p = x; p < x + n; p += 4 * h) rv__rotation_four(p, p + h, p + 2 * h, p + 3 * h, h);
    }
    if (h < n) {
        for (float *p = x; p < x + n; p += 2 * h) rv__rotation_two(p, p + h, h);
    }
}

/* Pairs i of the first half with (i + shift) mod half of the second. Unscaled. */
static void rv__rotation_walk(float *x, size_t n, size_t shift)
{
    size_t half = n / 2;
    rv__rotation_two(x, x + half + shift, half - shift);
    rv__rotation_two(x + half - shift, x + half, shift);
}

/* Any shift is as orthogonal as another; these leave single coordinates best spread. */
static size_t rv__rotation_shift(const rv_rotation *rotation, size_t round)
{
    return round + 1 + ((round & 1u) ? rotation->padded / 8 : 0);
}

/* As rv_rotation_create, with the seed given. */
RV__FN rv_status rv__rotation_create(rv_ctx *ctx, size_t dim, uint64_t seed, rv_rotation **out)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv_rotation *rotation;
    uint64_t bits = 0;
    rv__rng rng;
    double inside, outside = sqrt(0.5);
    if (dim < 1 || dim > 65535 || !out) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rotation: dim is %z, allowed: 1 to 65535", dim);
    }
    rotation = (rv_rotation *)rv__get_zero(&alloc, 1, sizeof *rotation);
    if (!rotation) return rv__no_memory(ctx, sizeof *rotation);
    rotation->alloc = alloc;
    rotation->seed = seed;
    rotation->dim = dim;
    rotation->padded = rv__round_up(dim, 64);
    rotation->window = 64;
    while (rotation->window * 2 <= rotation->padded) rotation->window *= 2;
    rotation->rounds = rotation->window == rotation->padded ? 4 : RV__ROTATION_ROUNDS;
    rotation->signs = (float *)rv__get(&alloc, rotation->rounds * rotation->padded, sizeof(float));
    if (!rotation->signs) {
        rv__put(&alloc, rotation, 1, sizeof *rotation);
        return rv__no_memory(ctx, RV__ROTATION_ROUNDS * rv__round_up(dim, 64) * sizeof(float));
    }
    /* the butterflies of the window cover window / 4 coordinates, the walk pairs */
    inside = sqrt(4.0 / (double)rotation->window) * sqrt(0.5);
    rv__rng_init(&rng, seed);
    for (size_t i = 0; i < rotation->rounds * rotation->padded; i++) {
        size_t round = i / rotation->padded, at = i % rotation->padded;
        size_t first = (round & 1u) ? rotation->padded - rotation->window : 0;
        int in = at >= first && at < first + rotation->window;
        if (at % 64 == 0) bits = rv__rng_next(&rng);
        rotation->signs[i] = (float)((bits >> at % 64 & 1u) ? -1.0 : 1.0) * (float)(in ? inside : outside);
    }
    *out = rotation;
    return RV_OK;
}

RV_API rv_status rv_rotation_create(rv_ctx *ctx, size_t dim, rv_rotation **out)
{
    rv_status status = rv__rotation_create(ctx, dim, rv__seed(ctx), out);
    return status ? status : rv__ok(ctx);
}

RV_API void rv_rotation_destroy(rv_rotation *rotation)
{
    rv_alloc alloc;
    if (!rotation) return;
    alloc = rotation->alloc;
    rv__put(&alloc, rotation->signs, rotation->rounds * rotation->padded, sizeof(float));
    rv__put(&alloc, rotation, 1, sizeof *rotation);
}

RV_API size_t rv_rotation_dim(const rv_rotation *rotation)
{
    return rotation->padded;
}

RV_API uint64_t rv_rotation_seed(const rv_rotation *rotation)
{
    return rotation->seed;
}

RV_API size_t rv_rotation_bytes(const rv_rotation *rotation)
{
    return sizeof *rotation + rotation->rounds * rotation->padded * sizeof(float);
}

RV_API void rv_rotation_apply(const rv_rotation *rotation, const float *x, float *y)
{
    size_t n = rotation->padded;
    if (y != x) memcpy(y, x, rotation->dim * sizeof(float));
    for (size_t i = rotation->dim; i < n; i++) y[i] = 0.0f;
    for (size_t round = 0; round < rotation->rounds; round++) {
        rv__rotation_scale(y, rotation->signs + round * n, n);
        rv__rotation_hadamard((round & 1u) ? y + n - rotation->window : y, rotation->window);
        rv__rotation_walk(y, n, rv__rotation_shift(rotation, round));
    }
}

RV_API void rv_rotation_invert(const rv_rotation *rotation, float *y, float *x)
{
    size_t n = rotation->padded;
    for (size_t round = rotation->rounds; round-- > 0;) {
        rv__rotation_walk(y, n, rv__rotation_shift(rotation, round));
        rv__rotation_hadamard((round & 1u) ? y + n - rotation->window : y, rotation->window);
        rv__rotation_scale(y, rotation->signs + round * n, n);
    }
    if (x != y) memcpy(x, y, rotation->dim * sizeof(float));
}

#undef RV__ROTATION_ROUNDS
#endif /* RV_ROTATE_C */
/* ==== src/pca.c =============================================================================== */
#ifndef RV_PCA_C
#define RV_PCA_C

/* Principal components by subspace iteration on the covariance of a sample.

   1. mean of the sample; covariance C = X^T X / s, chunk by chunk through the matrix product, only
      the blocks on and below the diagonal;
   2. Q: n_out + a few random rows, orthonormal; repeat Q <- orthonormal(Q C), the trace of
      Q C Q^T grows towards the sum of the leading eigenvalues; stop when it has settled;
   3. Rayleigh-Ritz: eigenvectors of the small matrix Q C Q^T (Householder to tridiagonal form, then
      implicit QL, in double) turn Q into the basis.

   All large products run on the calling thread's order of operations, so the bits do not depend on
   the number of threads. Orthonormalisation is block Gram-Schmidt, each projection done twice
   ("twice is enough", Parlett), with a random row in place of one that vanishes, so that sets of
   low rank need no special case.

   Sources: Rutishauser, Simultaneous iteration method for symmetric matrices, 1970; Halko,
   Martinsson, Tropp, Finding structure with randomness, 2011; Bowdler, Martin, Reinsch, Wilkinson,
   The QR and QL algorithms for symmetric matrices, 1968. */

#define RV__PCA_CHUNK 2048u /* rows of the sample per product                                */
#define RV__PCA_BLOCK 256u  /* columns of the covariance per product                         */
#define RV__PCA_GROUP 32u   /* rows orthonormalised one by one, the rest through products    */
#define RV__PCA_ROUNDS 32u

/* ---- small symmetric eigenproblem in double ---- */

/* Householder reduction of the symmetric a[n, n] to tridiagonal form: diagonal d, subdiagonal e
   (e[0] unused). The reflectors u_k stay in the rows of a, u_k / h_k their scaled form in h. */
static rv_status rv__eigen_reduce(rv_ctx *ctx, double *a, size_t n, double *d, double *e, double *h)
{
    double *p = d; /* until the end d is scratch */
    for (size_t k = n - 1; k > 0; k--) {
        double *u = a + k * n, scale = 0.0, sum = 0.0, dot = 0.0, g;
        rv_status status = (k & 15u) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        for (size_t j = 0; j < k; j++) scale += fabs(u[j]);
        h[k] = 0.0;
        e[k] = u[k - 1];
        if (k == 1 || scale == 0.0 || scale == fabs(u[k - 1])) continue;
        for (size_t j = 0; j < k; j++) {
            u[j] /= scale;
            sum += u[j] * u[j];
        }
        g = u[k - 1] > 0.0 ? -sqrt(sum) : sqrt(sum);
        e[k] = scale * g;
        sum -= u[k - 1] * g; /* |u|^2 / 2 of the reflector u */
        u[k - 1] -= g;
        h[k] = sum;
        /* p = A u / h from the lower triangle, then A -= u q^T + q u^T with q = p - (u p / 2h) u */
        for (size_t i = 0; i < k; i++) p[i] = 0.0;
        for (size_t i = 0; i < k; i++) {
            const double *row = a + i * n;
            double s = row[i] * u[i], ui = u[i];
            for (size_t j = 0; j < i; j++) {
                s += row[j] * u[j];
                p[j] += row[j] * ui;
            }
            p[i] += s;
        }
        for (size_t i = 0; i < k; i++) {
            p[i] /= sum;
            dot += p[i] * u[i];
        }
        dot /= 2.0 * sum;
        for (size_t i = 0; i < k; i++) p[i] -= dot * u[i];
        for (size_t i = 0; i < k; i++) {
            double *row = a + i * n, ui = u[i], qi = p[i];
            for (size_t j = 0; j <= i; j++) row[j] -= ui * p[j] + qi * u[j];
        }
    }
    h[0] = 0.0;
    for (size_t i = 0; i < n; i++) d[i] = a[i * n + i];
    e[0] = 0.0;
    return RV_OK;
}

/* v[n, n] = H_1 H_2 ... H_(n-1), the transpose of the transformation that made the tridiagonal
   matrix. Row i is a unit vector until step i + 1, hence the short inner loops. */
static void rv__eigen_expand(const double *a, const double *h, size_t n, double *v)
{
    for (size_t i = 0; i < n * n; i++) v[i] = 0.0;
    for (size_t i = 0; i < n; i++) v[i * n + i] = 1.0;
    for (size_t k = 1; k < n; k++) {
        const double *u = a + k * n;
        if (h[k] == 0.0) continue;
        for (size_t i = 0; i < k; i++) {
            double *row = v + i * n, s = 0.0;
            for (size_t j = 0; j < k; j++) s += row[j] * u[j];
            s /= h[k];
            for (size_t j = 0; j < k; j++) row[j] -= s * u[j];
        }
    }
}

/* Implicit QL with Wilkinson's shift on (d, e); the rotations act on pairs of rows of v. */
static rv_status rv__eigen_iterate(rv_ctx *ctx, double *d, double *e, size_t n, double *v)
{
    for (size_t i = 1; i < n; i++) e[i - 1] = e[i];
    e[n - 1] = 0.0;
    for (size_t l = 0; l < n; l++) {
        for (unsigned turn = 0; turn < 60; turn++) { /* two or three turns are usual */
            size_t m = l;
            double g, r, s = 1.0, c = 1.0, p = 0.0;
            int split = 0;
            rv_status status = rv__poll(ctx);
            if (status) return status;
            while (m + 1 < n && fabs(e[m]) > 2.3e-16 * (fabs(d[m]) + fabs(d[m + 1]))) m++;
            if (m == l) break;
            g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            r = sqrt(g * g + 1.0);
            g = d[m] - d[l] + e[l] / (g + (g >= 0.0 ? r : -r));
            for (size_t i = m; i-- > l;) {
                double f = s * e[i], b = c * e[i], *x = v + i * n, *y = x + n;
                r = sqrt(f * f + g * g);
                e[i + 1] = r;
                if (r == 0.0) { /* underflow: the matrix splits here */
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    split = 1;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                for (size_t k = 0; k < n; k++) {
                    double t = y[k];
                    y[k] = s * x[k] + c * t;
                    x[k] = c * x[k] - s * t;
                }
            }
            if (split) continue;
            d[l] -= p;
            e[l] = g;
            e[m] = 0.0;
        }
    }
    return RV_OK;
}

/* Eigenvalues d[n] by falling value and eigenvectors in the rows of v[n, n] of the symmetric
   a[n, n] (destroyed). scratch: [2 n]. */
RV__FN rv_status rv__eigen_symmetric(rv_ctx *ctx, double *a, size_t n, double *d, double *v,
                                     double *scratch)
{
    rv_status status;
    if (n == 0) return RV_OK;
    status = rv__eigen_reduce(ctx, a, n, d, scratch, scratch + n);
    if (status) return status;
    rv__eigen_expand(a, scratch + n, n, v);
    status = rv__eigen_iterate(ctx, d, scratch, n, v);
    if (status) return status;
    for (size_t i = 0; i + 1 < n; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < n; j++) best = d[j] > d[best] ? j : best;
        if (best == i) continue;
        for (size_t k = 0; k < n; k++) {
            double t = v[i * n + k];
            v[i * n + k] = v[best * n + k];
            v[best * n + k] = t;
        }
        scratch[0] = d[i];
        d[i] = d[best];
        d[best] = scratch[0];
    }
    return RV_OK;
}

/* ---- subspace iteration ---- */

typedef struct rv__pca {
    const float *rows;
    size_t stride, n, dim, block; /* block: rows of q                                          */
    float *columns;               /* [dim, RV__PCA_CHUNK] a chunk of the sample, transposed;
                                     later [dim, block], the transpose of z or q               */
    float *cov;                   /* [dim, dim]                                                */
    float *q, *z;                 /* [block, dim]                                              */
    float *small;                 /* [block, block]                                            */
    double *wide;                 /* [2 block, block] and 3 block more; also [dim] sums        */
    rv__rng rng;
} rv__pca;

static size_t rv__pca_wide(size_t block, size_t dim)
{
    size_t n = rv__add(rv__mul(rv__mul(block, block), 2), 3 * block);
    return n > dim ? n : dim;
}

/* Row i of the m rows that stand for the whole set. */
static const float *rv__pca_row(const rv__pca *pca, size_t i, size_t m)
{
    size_t row = m == pca->n ? i : (size_t)((uint64_t)i * pca->n / m);
    return pca->rows + row * pca->stride;
}

/* The mean of the sample, and a check of every value that is used. */
static rv_status rv__pca_mean(rv_ctx *ctx, rv__pca *pca, size_t m, float *mean)
{
    double *sum = pca->wide;
    for (size_t j = 0; j < pca->dim; j++) sum[j] = 0.0;
    for (size_t i = 0; i < m; i++) {
        const float *row = rv__pca_row(pca, i, m);
        size_t bad = rv__find_not_finite(row, pca->dim);
        rv_status status = (i & 1023u) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (bad < pca->dim) {
            return rv__fail(ctx, RV_ERR_ARG, (size_t)(row - pca->rows) + bad,
                            "element %z of row %z is not finite", bad,
                            (size_t)(row - pca->rows) / pca->stride);
        }
        for (size_t j = 0; j < pca->dim; j++) sum[j] += (double)row[j];
    }
    for (size_t j = 0; j < pca->dim; j++) mean[j] = (float)(sum[j] / (double)m);
    return RV_OK;
}

/* cov = (sample - mean)^T (sample - mean) / m. Tiles of the chunk are transposed in the cache. */
static rv_status rv__pca_covariance(rv_ctx *ctx, rv__pca *pca, size_t m, const float *mean)
{
    const size_t dim = pca->dim;
    const float scale = (float)(1.0 / sqrt((double)m));
    for (size_t first = 0; first < m; first += RV__PCA_CHUNK) {
        size_t rows = m - first < RV__PCA_CHUNK ? m - first : RV__PCA_CHUNK;
        for (size_t i = 0; i < rows; i += 16) {
            size_t end = i + 16 < rows ? i + 16 : rows;
            for (size_t j = 0; j < dim; j++) {
                float *out = pca->columns + j * RV__PCA_CHUNK;
                for (size_t r = i; r < end; r++) {
                    out[r] = (rv__pca_row(pca, first + r, m)[j] - mean[j]) * scale;
                }
            }
        }
        for (size_t j = 0; j < dim; j += RV__PCA_BLOCK) {
            size_t wide = dim - j < RV__PCA_BLOCK ? dim - j : RV__PCA_BLOCK;
            rv_status status = rv__poll(ctx);
            if (status) return status;
            status = rv_gemm_nt_f32(ctx, pca->columns + j * RV__PCA_CHUNK, RV__PCA_CHUNK, pca->columns,
                                    RV__PCA_CHUNK, wide, j + wide, rows, first > 0,
                                    pca->cov + j * dim, dim);
            if (status) return status;
        }
    }
    for (size_t i = 0; i < dim; i++) {
        for (size_t j = i + 1; j < dim; j++) pca->cov[i * dim + j] = pca->cov[j * dim + i];
    }
    return RV_OK;
}

static double rv__pca_dot(const float *a, const float *b, size_t n)
{
    double lane[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t l = 0; l < 8; l++) lane[l] += (double)a[i + l] * (double)b[i + l];
    }
    for (; i < n; i++) lane[i & 7u] += (double)a[i] * (double)b[i];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void rv__pca_random(rv__pca *pca, float *row)
{
    for (size_t j = 0; j < pca->dim; j++) row[j] = rv__rng_f32(&pca->rng) - 0.5f;
}

static double rv__pca_length(const float *row, size_t dim)
{
    return sqrt(rv__pca_dot(row, row, dim));
}

/* Row `at` of z minus its projections on rows from..at-1, twice, scaled to length 1. Fails when
   next to nothing of its original length is left, because that is rounding noise. */
static int rv__pca_clean(rv__pca *pca, size_t from, size_t at, double length)
{
    const size_t dim = pca->dim;
    float *row = pca->z + at * dim;
    double after;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = from; i < at; i++) {
            const float *other = pca->z + i * dim;
            float c = (float)rv__pca_dot(row, other, dim);
            for (size_t j = 0; j < dim; j++) row[j] -= c * other[j];
        }
    }
    after = rv__pca_length(row, dim);
    if (!(length > 0.0) || after <= length * 1e-5) return 0;
    for (size_t j = 0; j < dim; j++) row[j] = (float)((double)row[j] / after);
    return 1;
}

/* Rows [at, at + group) of z minus their projections on all rows before `at`, through products:
   small = group x before, z -= small (before's transpose)^T, a group of columns at a time. */
static rv_status rv__pca_project(rv_ctx *ctx, rv__pca *pca, size_t at, size_t group)
{
    const size_t dim = pca->dim;
    float *rows = pca->z + at * dim;
    rv_status status = rv_gemm_nt_f32(ctx, rows, dim, pca->z, dim, group, at, dim, 0, pca->small, at);
    if (status) return status;
    for (size_t i = 0; i < group * at; i++) pca->small[i] = -pca->small[i];
    /* columns is free after the covariance; it holds the transpose of z's first rows */
    return rv_gemm_nt_f32(ctx, pca->small, at, pca->columns, pca->block, group, dim, at, 1, rows, dim);
}

/* Makes the rows of z orthonormal from the first to the last; columns becomes their transpose. */
static rv_status rv__pca_orthonormalise(rv_ctx *ctx, rv__pca *pca)
{
    const size_t dim = pca->dim, block = pca->block;
    double length[RV__PCA_GROUP];
    for (size_t at = 0; at < block; at += RV__PCA_GROUP) {
        size_t group = block - at < RV__PCA_GROUP ? block - at : RV__PCA_GROUP;
        rv_status status = rv__poll(ctx);
        for (size_t i = 0; i < group; i++) length[i] = rv__pca_length(pca->z + (at + i) * dim, dim);
        for (int pass = 0; !status && pass < 2 && at > 0; pass++) {
            status = rv__pca_project(ctx, pca, at, group);
        }
        if (status) return status;
        for (size_t i = at; i < at + group; i++) {
            if (rv__pca_clean(pca, at, i, length[i - at])) continue;
            do {
                rv__pca_random(pca, pca->z + i * dim);
            } while (!rv__pca_clean(pca, 0, i, rv__pca_length(pca->z + i * dim, dim)));
        }
        for (size_t i = at; i < at + group; i++) {
            const float *row = pca->z + i * dim;
            for (size_t j = 0; j < dim; j++) pca->columns[j * block + i] = row[j];
        }
    }
    return RV_OK;
}

/* Leaves an orthonormal basis of the leading space in q and its image q cov in z. */
static rv_status rv__pca_iterate(rv_ctx *ctx, rv__pca *pca)
{
    const size_t dim = pca->dim, block = pca->block;
    double last = 0.0;
    for (size_t i = 0; i < block; i++) rv__pca_random(pca, pca->z + i * dim);
    for (unsigned round = 0; round < RV__PCA_ROUNDS; round++) {
        double trace = 0.0;
        float *swap = pca->q;
        rv_status status = rv__pca_orthonormalise(ctx, pca);
        if (status) return status;
        pca->q = pca->z;
        pca->z = swap;
        status = rv_gemm_nt_f32(ctx, pca->q, dim, pca->cov, dim, block, dim, dim, 0, pca->z, dim);
        if (status) return status;
        for (size_t i = 0; i < block; i++) {
            trace += rv__pca_dot(pca->q + i * dim, pca->z + i * dim, dim);
        }
        /* the whole space needs one round; else stop when a round gains 1 part in 10^5 */
        if (block == dim || trace <= last * (1.0 + 1e-5)) break;
        last = trace;
    }
    return RV_OK;
}

/* basis = the n_out leading eigenvectors of cov within the space of q. */
static rv_status rv__pca_ritz(rv_ctx *ctx, rv__pca *pca, size_t n_out, float *basis, float *eigenvalues)
{
    const size_t dim = pca->dim, block = pca->block;
    double *a = pca->wide, *v = a + block * block, *d = v + block * block;
    rv_status status = rv_gemm_nt_f32(ctx, pca->q, dim, pca->z, dim, block, block, dim, 0, pca->small,
                                      block);
    if (status) return status;
    for (size_t i = 0; i < block; i++) {
        for (size_t j = 0; j < block; j++) {
            a[i * block + j] = 0.5 * ((double)pca->small[i * block + j] + (double)pca->small[j * block + i]);
        }
    }
    status = rv__eigen_symmetric(ctx, a, block, d, v, d + block);
    if (status) return status;
    for (size_t i = 0; i < n_out * block; i++) pca->small[i] = (float)v[i];
    status = rv_gemm_nt_f32(ctx, pca->small, block, pca->columns, block, n_out, dim, block, 0, basis, dim);
    if (status) return status;
    for (size_t i = 0; i < n_out; i++) {
        float *row = basis + i * dim, top = 0.0f;
        for (size_t j = 0; j < dim; j++) top = fabsf(row[j]) > fabsf(top) ? row[j] : top;
        if (top < 0.0f) {
            for (size_t j = 0; j < dim; j++) row[j] = -row[j];
        }
        if (eigenvalues) eigenvalues[i] = d[i] > 0.0 ? (float)d[i] : 0.0f;
    }
    return RV_OK;
}

static rv_status rv__pca_run(rv_ctx *ctx, rv__pca *pca, size_t m, size_t n_out, float *mean,
                             float *basis, float *eigenvalues, double *total_variance)
{
    double total = 0.0;
    rv_status status = rv__pca_mean(ctx, pca, m, mean);
    if (!status) status = rv__pca_covariance(ctx, pca, m, mean);
    if (status) return status;
    for (size_t j = 0; j < pca->dim; j++) total += (double)pca->cov[j * pca->dim + j];
    if (!(total < 3e38)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "the variance of the rows overflows a float");
    }
    if (total_variance) *total_variance = total;
    status = rv__pca_iterate(ctx, pca);
    if (!status) status = rv__pca_ritz(ctx, pca, n_out, basis, eigenvalues);
    return status;
}

/* As rv_pca_train, with the seed given. */
RV__FN rv_status rv__pca_train(rv_ctx *ctx, const float *rows, size_t stride, size_t n, size_t dim,
                               size_t n_out, uint64_t seed, float *mean, float *basis,
                               float *eigenvalues, double *total_variance)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__pca pca;
    size_t m = 4 * dim < 8192 ? 8192 : 4 * dim < 16384 ? 4 * dim : 16384, spare, depth, wide;
    rv_status status = RV_ERR_MEMORY;
    if (dim < 1 || dim > 65535) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "dim is %z, allowed: 1 to 65535", dim);
    }
    if (n_out < 1 || n_out > dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n_out is %z, allowed: 1 to dim (%z)", n_out, dim);
    }
    if (stride == 0) stride = dim;
    if (n < 1 || !rows || !mean || !basis || stride < dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "pca needs rows, mean, basis, n >= 1 and stride >= dim");
    }
    spare = n_out / 8 < 8 ? 8 : n_out / 8;
    pca.rows = rows;
    pca.stride = stride;
    pca.n = n;
    pca.dim = dim;
    /* the small problem costs block^3: near dim the spare rows are worth nothing */
    pca.block = n_out + spare < dim ? n_out + spare : dim;
    if (m > n) m = n;
    rv__rng_init(&pca.rng, seed);
    depth = pca.block > RV__PCA_CHUNK ? pca.block : RV__PCA_CHUNK;
    wide = rv__pca_wide(pca.block, dim);
    pca.columns = (float *)rv__get(&alloc, rv__mul(dim, depth), sizeof(float));
    pca.cov = (float *)rv__get(&alloc, rv__mul(dim, dim), sizeof(float));
    pca.q = (float *)rv__get(&alloc, rv__mul(dim, pca.block), sizeof(float));
    pca.z = (float *)rv__get(&alloc, rv__mul(dim, pca.block), sizeof(float));
    pca.small = (float *)rv__get(&alloc, rv__mul(pca.block, pca.block), sizeof(float));
    pca.wide = (double *)rv__get(&alloc, wide, sizeof(double));
    if (pca.columns && pca.cov && pca.q && pca.z && pca.small && pca.wide) {
        status = rv__pca_run(ctx, &pca, m, n_out, mean, basis, eigenvalues, total_variance);
    } else {
        status = rv__no_memory(ctx, rv__mul(rv__mul(dim, depth), sizeof(float)));
    }
    rv__put(&alloc, pca.wide, wide, sizeof(double));
    rv__put(&alloc, pca.small, rv__mul(pca.block, pca.block), sizeof(float));
    rv__put(&alloc, pca.z, rv__mul(dim, pca.block), sizeof(float));
    rv__put(&alloc, pca.q, rv__mul(dim, pca.block), sizeof(float));
    rv__put(&alloc, pca.cov, rv__mul(dim, dim), sizeof(float));
    rv__put(&alloc, pca.columns, rv__mul(dim, depth), sizeof(float));
    return status;
}

RV_API rv_status rv_pca_train(rv_ctx *ctx, const float *rows, size_t stride, size_t n, size_t dim,
                              size_t n_out, float *mean, float *basis, float *eigenvalues,
                              double *total_variance)
{
    rv_status status = rv__pca_train(ctx, rows, stride, n, dim, n_out, rv__seed(ctx), mean, basis,
                                     eigenvalues, total_variance);
    return status ? status : rv__ok(ctx);
}

/* Rows are centred a few at a time, so that a mean far from zero costs no accuracy. */
RV_API rv_status rv_pca_apply(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                              size_t n_out, const float *rows, size_t stride, size_t n, float *out)
{
    const size_t chunk = n < 256 ? n : 256;
    rv_alloc alloc = rv__allocator(ctx);
    rv_status status = RV_OK;
    float *centred;
    if (stride == 0) stride = dim;
    if (dim < 1 || dim > 65535 || n_out < 1 || n_out > dim || stride < dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "pca: dim %z, n_out %z or stride %z is out of range", dim,
                        n_out, stride);
    }
    if (n == 0) return rv__ok(ctx);
    centred = (float *)rv__get(&alloc, chunk * dim, sizeof(float));
    if (!centred) return rv__no_memory(ctx, chunk * dim * sizeof(float));
    for (size_t first = 0; !status && first < n; first += chunk) {
        size_t part = n - first < chunk ? n - first : chunk;
        status = rv__poll(ctx);
        if (status) break;
        for (size_t i = 0; i < part; i++) {
            const float *row = rows + (first + i) * stride;
            float *to = centred + i * dim;
            for (size_t j = 0; j < dim; j++) to[j] = mean ? row[j] - mean[j] : row[j];
        }
        status = rv_gemm_nt_f32(ctx, centred, dim, basis, dim, part, n_out, dim, 0, out + first * n_out,
                                n_out);
    }
    rv__put(&alloc, centred, chunk * dim, sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_pca_restore(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                                size_t n_out, const float *x, size_t n, float *rows)
{
    if (dim < 1 || dim > 65535 || n_out < 1 || n_out > dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "pca: dim %z or n_out %z is out of range", dim, n_out);
    }
    for (size_t i = 0; i < n; i++) {
        float *row = rows + i * dim;
        rv_status status = (i & 63u) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        for (size_t j = 0; j < dim; j++) row[j] = mean ? mean[j] : 0.0f;
        for (size_t c = 0; c < n_out; c++) {
            const float *axis = basis + c * dim;
            float value = x[i * n_out + c];
            for (size_t j = 0; j < dim; j++) row[j] += value * axis[j];
        }
    }
    return rv__ok(ctx);
}

#undef RV__PCA_BLOCK
#undef RV__PCA_CHUNK
#undef RV__PCA_GROUP
#undef RV__PCA_ROUNDS
#endif /* RV_PCA_C */
/* ==== src/image.c ============================================================================= */
#ifndef RV_IMAGE_C
#define RV_IMAGE_C

/* Writer: one pass over the arrays of an index that sizes, copies, swaps bytes on big-endian
   machines and sums, so that save and its size question share one function. The header is written
   last: an image whose save was canceled is not valid. Reader: everything about the layout is
   checked in rv__image_open, once; afterwards a section is found by its tag, and its element size
   and count are compared with what the index expects before anything is allocated. */

#define RV__IMAGE_VERSION 1u
#define RV__IMAGE_HEAD 64u                /* bytes of the header                       */
#define RV__IMAGE_ENTRY 32u               /* bytes of a row of the section table       */
#define RV__IMAGE_SECTIONS 48u            /* most sections in an image                 */
#define RV__IMAGE_PIECE ((size_t)1 << 22) /* bytes copied or summed between two polls */

RV__FN int rv__big_endian(void)
{
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 0;
}

RV__FN uint32_t rv__image_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

RV__FN uint64_t rv__image_u64(const unsigned char *p)
{
    uint64_t x;
    if (rv__big_endian()) return (uint64_t)rv__image_u32(p) | (uint64_t)rv__image_u32(p + 4) << 32;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__FN void rv__image_put_u32(unsigned char *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(x >> (8 * i));
}

RV__FN void rv__image_put_u64(unsigned char *p, uint64_t x)
{
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)(x >> (8 * i));
}

/* A tag as it stands in the image: its four letters in order. */
RV__FN uint32_t rv__image_tag(const char *tag)
{
    unsigned char bytes[4];
    memcpy(bytes, tag, 4);
    return rv__image_u32(bytes);
}

/* ---- checksum ---- */

typedef struct rv__image_sum {
    uint64_t lane[4];
} rv__image_sum;

RV__FN void rv__image_sum_begin(rv__image_sum *sum)
{
    for (uint64_t j = 0; j < 4; j++) sum->lane[j] = rv__mix(j);
}

#define RV__IMAGE_STEP(a, p)                                                                       \
    do {                                                                                           \
        (a) = ((a) ^ rv__image_u64(p)) * RV__SEED;                                                 \
        (a) = ((a) << 29) | ((a) >> 35);                                                           \
    } while (0)

/* Four independent chains hide the latency of the product. Each step is a bijection of the lane and
   of the word, so that a single changed word always changes the result. bytes: a multiple of 32. */
RV__FN void rv__image_sum_add(rv__image_sum *sum, const unsigned char *p, size_t bytes)
{
    uint64_t a = sum->lane[0], b = sum->lane[1], c = sum->lane[2], d = sum->lane[3];
    for (const unsigned char *end = p + bytes; p < end; p += 32) {
        RV__IMAGE_STEP(a, p);
        RV__IMAGE_STEP(b, p + 8);
        RV__IMAGE_STEP(c, p + 16);
        RV__IMAGE_STEP(d, p + 24);
    }
    sum->lane[0] = a;
    sum->lane[1] = b;
    sum->lane[2] = c;
    sum->lane[3] = d;
}

RV__FN uint64_t rv__image_sum_end(const rv__image_sum *sum, uint64_t bytes)
{
    uint64_t h = rv__mix(bytes / 8);
    for (int j = 0; j < 4; j++) h = rv__mix(h ^ sum->lane[j]);
    return h;
}

static uint64_t rv__image_head_sum(const unsigned char *header)
{
    unsigned char copy[RV__IMAGE_HEAD];
    rv__image_sum sum;
    memcpy(copy, header, sizeof copy);
    memset(copy + 40, 0, 8);
    rv__image_sum_begin(&sum);
    rv__image_sum_add(&sum, copy, sizeof copy);
    return rv__image_sum_end(&sum, sizeof copy);
}

/* Copies count elements, reversing the bytes of each where the machine is big-endian. dst and src
   may lie at any address. */
RV__FN void rv__image_copy(void *dst, const void *src, size_t elem_bytes, size_t count)
{
    unsigned char *to = (unsigned char *)dst;
    const unsigned char *from = (const unsigned char *)src;
    if (!count) return;
    if (elem_bytes == 1 || !rv__big_endian()) {
        memcpy(to, from, count * elem_bytes);
        return;
    }
    for (size_t i = 0; i < count; i++, to += elem_bytes, from += elem_bytes) {
        for (size_t b = 0; b < elem_bytes; b++) to[b] = from[elem_bytes - 1 - b];
    }
}

/* The same with polls; the elements of src may be many. */
RV__FN rv_status rv__image_copy_polled(rv_ctx *ctx, void *dst, const void *src, size_t elem_bytes,
                                       size_t count)
{
    const size_t piece = RV__IMAGE_PIECE / elem_bytes;
    for (size_t done = 0; done < count; done += piece) {
        size_t n = count - done < piece ? count - done : piece, at = done * elem_bytes;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        rv__image_copy((unsigned char *)dst + at, (const unsigned char *)src + at, elem_bytes, n);
    }
    return RV_OK;
}

/* ---- writer ---- */

typedef struct rv__image_writer {
    rv_ctx *ctx;
    unsigned char *image;   /* NULL: only sizes, from the start or since cap was exceeded       */
    size_t cap, at, summed; /* at: end of what was put, SIZE_MAX past any memory; summed: bytes
                                already in the checksum, header included                         */
    int asked;              /* an image was given                                               */
    rv_status status;       /* of the first poll that canceled                                  */
    uint32_t kind, n;
    rv__image_sum sum;
    struct {
        uint32_t tag, elem_bytes;
        uint64_t offset, count;
    } entry[RV__IMAGE_SECTIONS];
} rv__image_writer;

/* image NULL: only the size is found. kind: four letters. */
RV__FN void rv__image_begin(rv_ctx *ctx, rv__image_writer *w, const char *kind, void *image,
                            size_t cap)
{
    memset(w, 0, sizeof *w);
    w->ctx = ctx;
    w->image = cap >= RV__IMAGE_HEAD ? (unsigned char *)image : NULL;
    w->asked = image != NULL;
    w->cap = cap;
    w->at = w->summed = RV__IMAGE_HEAD;
    w->kind = rv__image_tag(kind);
    rv__image_sum_begin(&w->sum);
    if (w->image) memset(w->image, 0, RV__IMAGE_HEAD);
}

/* Appends elements to the section begun last. A section may be put in several pieces. */
RV__FN void rv__image_put(rv__image_writer *w, size_t elem_bytes, const void *array, size_t count)
{
    const unsigned char *from = (const unsigned char *)array;
    const size_t piece = RV__IMAGE_PIECE / elem_bytes;
    size_t end = rv__add(w->at, rv__mul(count, elem_bytes));
    if (w->image && end > w->cap) w->image = NULL;
    while (w->image && count && !w->status) {
        size_t n = count < piece ? count : piece, whole;
        rv__image_copy(w->image + w->at, from, elem_bytes, n);
        w->at += n * elem_bytes;
        whole = (w->at - w->summed) & ~(size_t)31;
        rv__image_sum_add(&w->sum, w->image + w->summed, whole);
        w->summed += whole;
        from += n * elem_bytes;
        count -= n;
        if (n == piece) w->status = rv__poll(w->ctx);
    }
    w->at = end;
}

static void rv__image_pad(rv__image_writer *w)
{
    static const unsigned char zeros[RV__IMAGE_HEAD] = {0};
    size_t rest = w->at % RV__IMAGE_HEAD;
    if (rest && w->at != SIZE_MAX) rv__image_put(w, 1, zeros, RV__IMAGE_HEAD - rest);
}

/* Begins a section of count elements, all of which rv__image_put must bring before the next one. */
RV__FN void rv__image_section_begin(rv__image_writer *w, const char *tag, size_t elem_bytes,
                                    size_t count)
{
    RV_ASSERT(w->n < RV__IMAGE_SECTIONS);
    rv__image_pad(w);
    w->entry[w->n].tag = rv__image_tag(tag);
    w->entry[w->n].elem_bytes = (uint32_t)elem_bytes;
    w->entry[w->n].offset = (uint64_t)w->at;
    w->entry[w->n].count = (uint64_t)count;
    w->n++;
}

/* A whole section. tag: four letters, unique in the image; elem_bytes 1, 2, 4 or 8. */
RV__FN void rv__image_section(rv__image_writer *w, const char *tag, size_t elem_bytes,
                              const void *array, size_t count)
{
    rv__image_section_begin(w, tag, elem_bytes, count);
    rv__image_put(w, elem_bytes, array, count);
}

/* Writes table and header. *bytes is the total also when cap was too small (RV_ERR_ARG). */
RV__FN rv_status rv__image_end(rv_ctx *ctx, rv__image_writer *w, size_t *bytes)
{
    unsigned char row[RV__IMAGE_ENTRY];
    rv__image_pad(w);
    for (uint32_t i = 0; i < w->n; i++) {
        rv__image_put_u32(row, w->entry[i].tag);
        rv__image_put_u32(row + 4, w->entry[i].elem_bytes);
        rv__image_put_u64(row + 8, w->entry[i].offset);
        rv__image_put_u64(row + 16, w->entry[i].count);
        rv__image_put_u64(row + 24, 0);
        rv__image_put(w, 1, row, sizeof row);
    }
    if (w->status) return w->status;
    if (w->at == SIZE_MAX) return rv__no_memory(ctx, w->at);
    *bytes = w->at;
    if (!w->asked) return rv__ok(ctx);
    if (!w->image) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "cap is %z, the image needs %z bytes", w->cap, w->at);
    }
    memcpy(w->image, "RVIM", 4);
    rv__image_put_u32(w->image + 4, RV__IMAGE_VERSION);
    rv__image_put_u32(w->image + 8, w->kind);
    rv__image_put_u64(w->image + 16, (uint64_t)w->at);
    rv__image_put_u32(w->image + 24, w->n);
    rv__image_put_u64(w->image + 32, rv__image_sum_end(&w->sum, w->at - RV__IMAGE_HEAD));
    rv__image_put_u64(w->image + 40, rv__image_head_sum(w->image));
    return rv__ok(ctx);
}

/* ---- reader ---- */

typedef struct rv__image_reader {
    const unsigned char *image, *table;
    size_t total;
    uint32_t n;
} rv__image_reader;

static rv_status rv__image_header(rv_ctx *ctx, const unsigned char *image, size_t bytes)
{
    uint64_t total, table;
    if (!image) return rv__fail(ctx, RV_ERR_ARG, 0, "image is NULL");
    if (bytes < RV__IMAGE_HEAD) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "image of %z bytes, a header has 64", bytes);
    }
    if (memcmp(image, "RVIM", 4) != 0) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "not an image: it does not start with RVIM");
    }
    if (rv__image_u32(image + 4) != RV__IMAGE_VERSION) {
        return rv__fail(ctx, RV_ERR_FORMAT, 4, "image of format version %l, this library reads 1",
                        (uint64_t)rv__image_u32(image + 4));
    }
    if (rv__image_u64(image + 40) != rv__image_head_sum(image)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 40, "the header of the image is damaged");
    }
    total = rv__image_u64(image + 16);
    table = (uint64_t)rv__image_u32(image + 24) * RV__IMAGE_ENTRY;
    if (rv__image_u32(image + 12) || rv__image_u32(image + 28) || rv__image_u64(image + 48) ||
        rv__image_u64(image + 56) || rv__image_u32(image + 24) > RV__IMAGE_SECTIONS ||
        total < RV__IMAGE_HEAD + table || (total - table) % RV__IMAGE_HEAD) {
        return rv__fail(ctx, RV_ERR_FORMAT, 12, "the header of the image contradicts itself");
    }
    return RV_OK;
}

RV_API rv_status rv_image_info(rv_ctx *ctx, const void *image, size_t bytes, char kind[5],
                               uint64_t *total_bytes)
{
    const unsigned char *p = (const unsigned char *)image;
    rv_status status = rv__image_header(ctx, p, bytes);
    if (status) return status;
    if (kind) {
        memcpy(kind, p + 8, 4);
        kind[4] = 0;
    }
    if (total_bytes) *total_bytes = rv__image_u64(p + 16);
    return rv__ok(ctx);
}

static rv_status rv__image_check_sum(rv_ctx *ctx, const unsigned char *image, size_t total)
{
    rv__image_sum sum;
    rv__image_sum_begin(&sum);
    for (size_t at = RV__IMAGE_HEAD; at < total; at += RV__IMAGE_PIECE) {
        size_t n = total - at < RV__IMAGE_PIECE ? total - at : RV__IMAGE_PIECE;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        rv__image_sum_add(&sum, image + at, n);
    }
    if (rv__image_sum_end(&sum, total - RV__IMAGE_HEAD) != rv__image_u64(image + 32)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 32,
                        "the image is damaged: its checksum does not match");
    }
    return RV_OK;
}

/* Checks header, checksum and section table; image may lie at any address and have more bytes than
   its total. Allocates nothing. */
RV__FN rv_status rv__image_open(rv_ctx *ctx, rv__image_reader *r, const void *image, size_t bytes,
                                const char *kind)
{
    const unsigned char *p = (const unsigned char *)image;
    uint64_t total, end = RV__IMAGE_HEAD, table;
    rv_status status = rv__image_header(ctx, p, bytes);
    if (status) return status;
    total = rv__image_u64(p + 16);
    if (rv__image_u32(p + 8) != rv__image_tag(kind)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 8, "the image is not of kind %s", kind);
    }
    if (total > bytes) {
        return rv__fail(ctx, RV_ERR_FORMAT, bytes, "the image is truncated: %z bytes of %l", bytes,
                        total);
    }
    status = rv__image_check_sum(ctx, p, (size_t)total);
    if (status) return status;
    r->image = p;
    r->total = (size_t)total;
    r->n = rv__image_u32(p + 24);
    table = total - (uint64_t)r->n * RV__IMAGE_ENTRY;
    r->table = p + (size_t)table;
    for (uint32_t i = 0; i < r->n; i++) {
        const unsigned char *row = r->table + i * RV__IMAGE_ENTRY;
        uint64_t elem = rv__image_u32(row + 4), offset = rv__image_u64(row + 8);
        uint64_t count = rv__image_u64(row + 16);
        if ((elem != 1 && elem != 2 && elem != 4 && elem != 8) || offset != end ||
            count > (table - offset) / elem || rv__image_u64(row + 24)) {
            return rv__fail(ctx, RV_ERR_FORMAT, (size_t)(row - p),
                            "section %l of the image is malformed", (uint64_t)i);
        }
        /* table is a multiple of 64 as well, so that the rounded end cannot pass it */
        end = (offset + count * elem + RV__IMAGE_HEAD - 1) & ~(uint64_t)(RV__IMAGE_HEAD - 1);
        for (uint32_t j = 0; j < i; j++) {
            if (rv__image_u32(r->table + j * RV__IMAGE_ENTRY) == rv__image_u32(row)) {
                return rv__fail(ctx, RV_ERR_FORMAT, (size_t)(row - p),
                                "the image has a section twice");
            }
        }
    }
    if (end != table) {
        return rv__fail(ctx, RV_ERR_FORMAT, (size_t)end,
                        "the image has bytes outside its sections");
    }
    return RV_OK;
}

static const unsigned char *rv__image_find(const rv__image_reader *r, const char *tag)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const unsigned char *row = r->table + i * RV__IMAGE_ENTRY;
        if (rv__image_u32(row) == rv__image_tag(tag)) return row;
    }
    return NULL;
}

/* 1 and the number of elements when there is such a section of such elements; otherwise 0. */
RV__FN int rv__image_count(const rv__image_reader *r, const char *tag, size_t elem_bytes,
                           size_t *count)
{
    const unsigned char *row = rv__image_find(r, tag);
    *count = 0;
    if (!row || rv__image_u32(row + 4) != elem_bytes) return 0;
    *count = (size_t)rv__image_u64(row + 16);
    return 1;
}

static rv_status rv__image_locate(rv_ctx *ctx, const rv__image_reader *r, const char *tag,
                                  size_t elem_bytes, size_t count, const unsigned char **out)
{
    const unsigned char *row = rv__image_find(r, tag);
    if (!row) return rv__fail(ctx, RV_ERR_FORMAT, 0, "the image has no section %s", tag);
    if (rv__image_u32(row + 4) != elem_bytes || rv__image_u64(row + 16) != count) {
        return rv__fail(ctx, RV_ERR_FORMAT, (size_t)(row - r->image),
                        "section %s has %l elements of %l bytes, not %z of %z", tag,
                        rv__image_u64(row + 16), (uint64_t)rv__image_u32(row + 4), count,
                        elem_bytes);
    }
    *out = r->image + (size_t)rv__image_u64(row + 8);
    return RV_OK;
}

/* Copies a small section of exactly count elements to the caller's array. */
RV__FN rv_status rv__image_values(rv_ctx *ctx, const rv__image_reader *r, const char *tag,
                                  size_t elem_bytes, size_t count, void *out)
{
    const unsigned char *from;
    rv_status status = rv__image_locate(ctx, r, tag, elem_bytes, count, &from);
    if (status) return status;
    rv__image_copy(out, from, elem_bytes, count);
    return RV_OK;
}

/* Whether the arrays of an image can be used where they lie. */
RV__FN rv_status rv__image_check_view(rv_ctx *ctx, const rv__image_reader *r)
{
    if (rv__big_endian()) {
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                        "an image can be viewed on little-endian machines only: load it");
    }
    if ((uintptr_t)r->image % RV__LINE) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "a viewed image must start on a multiple of 64 bytes");
    }
    return RV_OK;
}

/* A section of exactly count elements. view 0: a copy from alloc (free it with rv__put and the same
   count and elem_bytes); view 1: a pointer into the image, which must not be written through. */
RV__FN rv_status rv__image_array(rv_ctx *ctx, const rv__image_reader *r, const char *tag,
                                 size_t elem_bytes, size_t count, int view, const rv_alloc *alloc,
                                 void **out)
{
    const unsigned char *from;
    rv_status status = rv__image_locate(ctx, r, tag, elem_bytes, count, &from);
    void *block;
    if (status) return status;
    if (view) {
        status = rv__image_check_view(ctx, r);
        if (status) return status;
        *out = (void *)(uintptr_t)from;
        return RV_OK;
    }
    block = rv__get(alloc, count, elem_bytes);
    if (!block) return rv__no_memory(ctx, count * elem_bytes);
    status = rv__image_copy_polled(ctx, block, from, elem_bytes, count);
    if (status) {
        rv__put(alloc, block, count, elem_bytes);
        return status;
    }
    *out = block;
    return RV_OK;
}

#undef RV__IMAGE_ENTRY
#undef RV__IMAGE_HEAD
#undef RV__IMAGE_PIECE
#undef RV__IMAGE_SECTIONS
#undef RV__IMAGE_STEP
#undef RV__IMAGE_VERSION
#endif /* RV_IMAGE_C */
/* ==== src/quant.c ============================================================================= */
#ifndef RV_QUANT_C
#define RV_QUANT_C

/* What all quantizers share. A kind is a row of operations over one state; quant_scalar.c,
   quant_pq.c and quant_rabitq.c hold them, quant_api.c the public functions.

   A code is payload, factors, and in its last two bytes a bf16 number rounded up: the length of
   row - decode(row), from which the bounds follow,

       | |q-x|^2 - |q-x'|^2 | <= e (2 |q-x'| + e)      |q x - q x'| <= |q| e

   (RABITQ keeps the width of its probabilistic bound there.) To these the bounds add the rounding
   of the query where it becomes integers, and a few parts in 10^6 for float arithmetic. */

#define RV__QUANT_BLOCK 32u  /* rows encoded together, and rows of a fast-scan block          */
#define RV__QUANT_CHUNK 64u  /* elements decoded together                                     */
#define RV__QUANT_SAMPLE 65536u

typedef struct rv__quant_ops rv__quant_ops;

struct rv_quant {
    rv_alloc alloc;
    const rv__quant_ops *ops;
    const rv__kernels *kernels;
    rv_quant_config config;  /* resolved                                                       */
    uint64_t seed;
    int trained;
    size_t payload;          /* bytes before the factors                                       */
    size_t code_bytes;
    /* SQ8, SQ4, BINARY: value j is mid[j] + unit * step[j] * c, step in 0..1 */
    float *mid, *step;       /* [dim] each, one block                                          */
    float unit;
    /* PQ: sub-quantizer j covers width(j) dimensions from first(j) on */
    float *book;             /* per sub-quantizer [K][width]                                   */
    float *turned;           /* per sub-quantizer [width][K]                                   */
    /* RABITQ */
    rv_rotation *rotation;
    size_t padded;
    float *mean;             /* [dim], then its rotation [padded]                              */
};

/* A prepared query: this, then `elements` at the next cache line, then other arrays by kind. */
typedef struct rv__quant_query {
    float base;    /* estimate = base + ...                                                    */
    float length;  /* of the query, or of its distance to the mean                             */
    float scale;   /* of integer elements                                                      */
    float offset;  /* what integer codes add                                                   */
    float fuzz;    /* error of one code unit through rounding of the query                     */
    float table_scale, table_offset, table_fuzz; /* the same for the 8-bit tables              */
} rv__quant_query;

struct rv__quant_ops {
    /* Learns from s rows of a sample, packed, at unit length under cosine. */
    rv_status (*train)(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s);
    /* Floats of scratch for encode; codes of n <= RV__QUANT_BLOCK rows [n, dim], which it may
       use up. */
    size_t (*scratch)(const rv_quant *quant);
    void (*encode)(const rv_quant *quant, float *rows, size_t n, unsigned char *codes, float *scratch);
    /* Decoded elements first..first+n-1, n <= RV__QUANT_CHUNK; RABITQ: of the rotated row. */
    void (*chunk)(const rv_quant *quant, const unsigned char *code, size_t first, size_t n, float *out);
    /* Bytes behind the head of a query, a multiple of 64; query may be used up: [dim], room for
       [padded]. */
    size_t (*query_bytes)(const rv_quant *quant);
    void (*prepare)(const rv_quant *quant, float *query, rv__quant_query *head, unsigned char *data);
    void (*distance)(const rv_quant *quant, const rv__quant_query *head, const unsigned char *data,
                     const unsigned char *codes, const uint32_t *ids, size_t n, float *out, float *bounds);
};

/* e or a little more as bf16. */
RV__INLINE uint16_t rv__quant_up(float e)
{
    uint32_t bits;
    e *= 1.000001f;
    memcpy(&bits, &e, sizeof bits);
    return (uint16_t)(bits >= 0x7F800000u ? 0x7F80u : (bits + 0xFFFFu) >> 16);
}

RV__INLINE float rv__quant_get_f32(const unsigned char *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE void rv__quant_put_f32(unsigned char *p, float x)
{
    memcpy(p, &x, sizeof x);
}

/* The length kept at the end of a code. */
RV__INLINE float rv__quant_error(const rv_quant *quant, const unsigned char *code)
{
    uint16_t bits;
    memcpy(&bits, code + quant->code_bytes - 2, sizeof bits);
    return rv__bf16_f32(bits);
}

RV__INLINE void rv__quant_put_error(const rv_quant *quant, unsigned char *code, float e)
{
    uint16_t bits = rv__quant_up(e);
    memcpy(code + quant->code_bytes - 2, &bits, sizeof bits);
}

RV__INLINE const unsigned char *rv__quant_code(const rv_quant *quant, const unsigned char *codes,
                                               const uint32_t *ids, size_t i)
{
    return codes + (ids ? ids[i] : i) * quant->code_bytes;
}

/* Writes the distance between a row and what its code decodes to into the code. */
RV__FN void rv__quant_close(const rv_quant *quant, const float *row, unsigned char *code)
{
    float chunk[RV__QUANT_CHUNK];
    double sum = 0.0;
    for (size_t at = 0; at < quant->config.dim; at += RV__QUANT_CHUNK) {
        size_t n = quant->config.dim - at < RV__QUANT_CHUNK ? quant->config.dim - at : RV__QUANT_CHUNK;
        quant->ops->chunk(quant, code, at, n, chunk);
        for (size_t j = 0; j < n; j++) {
            double d = (double)row[at + j] - (double)chunk[j];
            sum += d * d;
        }
    }
    rv__quant_put_error(quant, code, (float)sqrt(sum));
}

/* The bound that follows from the error e of a row, for an estimate of any metric. */
RV__INLINE float rv__quant_bound(const rv_quant *quant, const rv__quant_query *head, float estimate, float e)
{
    float near_zero = 4e-6f * (head->length + e) * (head->length + e);
    if (quant->config.metric == RV_METRIC_L2) {
        return e * (2.0f * sqrtf(estimate > 0.0f ? estimate : 0.0f) + e) + 8e-6f * fabsf(estimate) + near_zero;
    }
    return head->length * e + 8e-6f * fabsf(estimate) + near_zero;
}

/* query[n] as signed bytes times a scale; elements up to m are zero. Returns the scale and the length
   of what rounding took away in *lost. */
RV__FN float rv__quant_narrow(const rv_quant *quant, const float *query, size_t n, size_t m, int8_t *element,
                              float *lost)
{
    float top = 0.0f, scale;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) top = fabsf(query[i]) > top ? fabsf(query[i]) : top;
    scale = top / 127.0f;
    memset(element + n, 0, m - n);
    if (scale > 1e-37f && scale <= 1e36f) {
        quant->kernels->narrow_i8(query, 1.0f / scale, element, n);
    } else {
        memset(element, 0, n);
        scale = 0.0f;
    }
    for (size_t i = 0; i < n; i++) {
        float d = query[i] - scale * (float)element[i];
        sum += (double)(d * d);
    }
    *lost = (float)sqrt(sum);
    return scale;
}

RV__FN int32_t rv__quant_sum_i8(const int8_t *x, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* x to length 1; a zero vector stays. */
RV__FN void rv__quant_normalise(float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    if (!(sum > 0.0)) return;
    sum = 1.0 / sqrt(sum);
    for (size_t i = 0; i < n; i++) x[i] = (float)((double)x[i] * sum);
}

/* Tables of m sub-quantizers of 16 entries as bytes: entry = low(s) + step * byte, one step for all,
   such that no sum passes 16 bits. lut: [m rounded up to even][16]. */
RV__FN void rv__quant_table(const float *table, size_t m, uint8_t *lut, rv__quant_query *head)
{
    double low_sum = 0.0, range_sum = 0.0;
    float widest = 0.0f, step, inverse;
    for (size_t s = 0; s < m; s++) {
        const float *row = table + 16 * s;
        float low = row[0], high = row[0];
        for (size_t i = 1; i < 16; i++) {
            low = row[i] < low ? row[i] : low;
            high = row[i] > high ? row[i] : high;
        }
        low_sum += (double)low;
        range_sum += (double)(high - low);
        widest = high - low > widest ? high - low : widest;
    }
    /* rounding adds at most half a step per table, hence the m less than 65535 */
    step = (float)(range_sum / (65535.0 - (double)m));
    if (step < widest / 255.0f) step = widest / 255.0f;
    if (!(step > 1e-37f && step <= 1e36f)) step = 1.0f;
    inverse = 1.0f / step;
    for (size_t s = 0; s < m; s++) {
        const float *row = table + 16 * s;
        float low = row[0];
        for (size_t i = 1; i < 16; i++) low = row[i] < low ? row[i] : low;
        for (size_t i = 0; i < 16; i++) {
            float level = (row[i] - low) * inverse + 0.5f;
            lut[16 * s + i] = (uint8_t)(int32_t)(level < 255.0f ? level : 255.0f);
        }
    }
    if (m & 1u) memset(lut + 16 * m, 0, 16);
    head->table_scale = step;
    head->table_offset = (float)low_sum;
    head->table_fuzz = 0.5001f * step * (float)m;
}

#endif /* RV_QUANT_C */
/* ==== src/store.c ============================================================================= */
#ifndef RV_STORE_C
#define RV_STORE_C

/* Rows, keys and the map between them, private to the indexes.

   A row has a slot, a number below n that stays the same until compact or permute. Slots of removed
   rows are used again, the lowest first. While keys are 0..n-1 in slot order ("identity") neither
   keys nor map exist. Otherwise the map is open addressing over slots, linear probing, a power of
   two of places, at most three quarters full; erasing shifts entries back, so there are no marks of
   the dead.

   Rows are packed elements of the type at a fixed stride (see rv__store_stride), spare bytes zero.
   Under cosine they are stored at unit length with the length beside them, so that a distance is
   one dot product; a zero vector stays zero. Lengths are summed in double.

   In an image: SPAR u32[8] = dim, type, metric, stride, n, removed rows, flags (1: no rows, 2:
   keys), 0; then, when n > 0: ROWS n * stride bytes in elements of the type (I8, U1: bytes, the
   scale of an I8 row little-endian), NORM f32[n] with cosine, KEYS u64[n] with flag 2 (a removed
   row's key has no meaning), GONE u64[(n + 63) / 64] with removed rows: bit slot % 64 of word
   slot / 64. */

#define RV__NO_SLOT 0xFFFFFFFFu
#define RV__STORE_MAX 0xFFFFFFFEu /* most slots */
#define RV__STORE_DIM_MAX 65535u
#define RV__STORE_PIECE 4096u /* rows or keys handled between two polls */

typedef struct rv__store {
    rv_alloc alloc;
    uint32_t dim;
    rv_dtype type;
    rv_metric metric;
    rv_custom_fn custom;
    void *custom_user;
    size_t stride; /* bytes per row                                                     */
    uint32_t n;    /* slots in use, removed ones included                               */
    uint32_t n_removed, capacity;
    uint32_t hint;        /* no removed slot lies below                                        */
    int no_rows;          /* rows are not kept                                                 */
    uint32_t n_held;      /* set by the index: removed slots that must not be taken yet, ...   */
    const uint64_t *held; /* ... a bit per slot, all of them below capacity; NULL: none       */
    int viewed;           /* all arrays but the map belong to an image: read-only              */
    unsigned char *rows;  /* [capacity * stride] or NULL                                       */
    float *norms;         /* [capacity], length of the original vectors; cosine only           */
    uint64_t *keys;       /* [capacity], NULL in identity                                      */
    uint64_t *removed;    /* [(capacity + 63) / 64], a bit per slot, 0 from n on; NULL: none   */
    uint32_t *map;        /* [map_size], slots or RV__NO_SLOT; NULL in identity                */
    size_t map_size;
} rv__store;

typedef struct rv__store_spec {
    uint32_t dim;
    rv_metric metric;
    rv_dtype type;
    rv_custom_fn custom;
    void *custom_user;
    size_t capacity;
    int no_rows;
} rv__store_spec;

/* ---- filters ---- */

RV__FN int rv__filter_pass(const rv_filter *f, uint64_t key)
{
    if (!f) return 1;
    if (f->bits) {
        if (key >= f->n_bits) return 0;
        if (!((unsigned)f->bits[(size_t)(key / 8)] >> (key % 8) & 1u)) return 0;
    }
    return !f->accept || f->accept(f->user, key) != 0;
}

/* ---- sizes ---- */

RV__FN size_t rv__store_vector_bytes(const rv__store *s)
{
    return s->type == RV_DTYPE_U1 ? ((size_t)s->dim + 7) / 8 : (size_t)s->dim * sizeof(float);
}

/* Rows of 64 bytes and more start on cache lines where padding to 64 costs less than 7 %, else on
   32 or 16 bytes under the same condition; all others are packed to 4 bytes. */
RV__FN size_t rv__store_stride(rv_dtype type, uint32_t dim)
{
    size_t bytes = rv_dtype_bytes(type, dim);
    for (size_t step = bytes >= 64 ? 64 : 4; step > 4; step /= 2) {
        size_t padded = (bytes + step - 1) / step * step;
        if (step >= 16 && (padded - bytes) * 100 < bytes * 7) return padded;
    }
    return (bytes + 3) / 4 * 4;
}

static size_t rv__store_words(size_t capacity)
{
    return (capacity + 63) / 64;
}

static size_t rv__store_map_size(size_t capacity)
{
    size_t size = 8;
    while (size - size / 4 < capacity) {
        if (size > SIZE_MAX / 2) return SIZE_MAX;
        size *= 2;
    }
    return size;
}

/* ---- blocks: all arrays of one capacity, got and given back together ---- */

typedef struct rv__store_blocks {
    unsigned char *rows;
    float *norms;
    uint64_t *keys, *removed;
    uint32_t *map;
    size_t map_size;
} rv__store_blocks;

static void rv__store_blocks_put(const rv__store *s, rv__store_blocks *b, size_t capacity)
{
    rv__put(&s->alloc, b->rows, capacity, s->stride);
    rv__put(&s->alloc, b->norms, capacity, sizeof(float));
    rv__put(&s->alloc, b->keys, capacity, sizeof(uint64_t));
    rv__put(&s->alloc, b->removed, rv__store_words(capacity), sizeof(uint64_t));
    rv__put(&s->alloc, b->map, b->map_size, sizeof(uint32_t));
    memset(b, 0, sizeof *b);
}

/* The arrays a store of this shape needs; the map is empty, removed bits are 0. */
static rv_status rv__store_blocks_get(rv_ctx *ctx, const rv__store *s, size_t capacity, int keyed,
                                      int holes, rv__store_blocks *b)
{
    size_t wanted = 0;
    int ok = 1;
    memset(b, 0, sizeof *b);
    if (capacity == 0) return RV_OK;
    if (!s->no_rows) {
        wanted = rv__mul(capacity, s->stride);
        b->rows = (unsigned char *)rv__get(&s->alloc, capacity, s->stride);
        ok = b->rows != NULL;
    }
    if (ok && s->metric == RV_METRIC_COSINE) {
        wanted = capacity * sizeof(float);
        b->norms = (float *)rv__get(&s->alloc, capacity, sizeof(float));
        ok = b->norms != NULL;
    }
    if (ok && keyed) {
        wanted = rv__mul(capacity, sizeof(uint64_t));
        b->keys = (uint64_t *)rv__get(&s->alloc, capacity, sizeof(uint64_t));
        b->map_size = rv__store_map_size(capacity);
        b->map = b->keys ? (uint32_t *)rv__get(&s->alloc, b->map_size, sizeof(uint32_t)) : NULL;
        ok = b->map != NULL;
        if (ok) memset(b->map, 0xFF, b->map_size * sizeof(uint32_t));
    }
    if (ok && holes) {
        wanted = capacity / 8;
        b->removed =
            (uint64_t *)rv__get_zero(&s->alloc, rv__store_words(capacity), sizeof(uint64_t));
        ok = b->removed != NULL;
    }
    if (ok) return RV_OK;
    rv__store_blocks_put(s, b, capacity);
    return rv__no_memory(ctx, wanted);
}

/* Puts blocks in place of the ones the store has, which are given back. */
static void rv__store_adopt(rv__store *s, rv__store_blocks *b, size_t capacity)
{
    rv__store_blocks old;
    old.rows = s->rows;
    old.norms = s->norms;
    old.keys = s->keys;
    old.removed = s->removed;
    old.map = s->map;
    old.map_size = s->map_size;
    rv__store_blocks_put(s, &old, s->capacity);
    s->rows = b->rows;
    s->norms = b->norms;
    s->keys = b->keys;
    s->removed = b->removed;
    s->map = b->map;
    s->map_size = b->map_size;
    s->capacity = (uint32_t)capacity;
}

RV__FN void rv__store_free(rv__store *s)
{
    rv__store_blocks none;
    memset(&none, 0, sizeof none);
    if (s->viewed) {
        rv__put(&s->alloc, s->map, s->map_size, sizeof(uint32_t));
        s->rows = NULL;
        s->norms = NULL;
        s->keys = s->removed = NULL;
        s->map = NULL;
        s->viewed = 0;
    }
    rv__store_adopt(s, &none, 0);
    s->n = s->n_removed = s->hint = 0;
}

RV__FN size_t rv__store_bytes(const rv__store *s)
{
    size_t bytes = s->map ? s->map_size * sizeof(uint32_t) : 0;
    if (s->viewed) return bytes;
    if (s->rows) bytes += (size_t)s->capacity * s->stride;
    if (s->norms) bytes += (size_t)s->capacity * sizeof(float);
    if (s->keys) bytes += (size_t)s->capacity * sizeof(uint64_t);
    if (s->removed) bytes += rv__store_words(s->capacity) * sizeof(uint64_t);
    return bytes;
}

/* ---- making ---- */

static rv_status rv__store_check_spec(rv_ctx *ctx, const rv__store_spec *spec)
{
    if (spec->dim < 1 || spec->dim > RV__STORE_DIM_MAX) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dim is %l, it must be 1..65535",
                        (uint64_t)spec->dim);
    }
    if ((int)spec->metric < 0 || (int)spec->metric > (int)RV_METRIC_CUSTOM) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "metric is %d, it must be 0..7", (int)spec->metric);
    }
    if ((int)spec->type < 0 || (int)spec->type > (int)RV_DTYPE_U1) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "type is %d, it must be 0..4", (int)spec->type);
    }
    if ((spec->metric == RV_METRIC_CUSTOM) != (spec->custom != NULL)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "custom must be given with RV_METRIC_CUSTOM and only then");
    }
    if (spec->metric != RV_METRIC_CUSTOM && !rv_metric_has(spec->metric, spec->type)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "metric %s has no meaning for type %s",
                        rv_metric_name(spec->metric), rv_dtype_name(spec->type));
    }
    if (spec->capacity > RV__STORE_MAX) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "capacity is %z, it must be below 2^32 - 1",
                        spec->capacity);
    }
    return RV_OK;
}

/* An empty store with room for spec->capacity rows. On failure there is nothing to free. */
RV__FN rv_status rv__store_init(rv_ctx *ctx, rv__store *s, const rv__store_spec *spec)
{
    rv__store_blocks b;
    rv_status status = rv__store_check_spec(ctx, spec);
    memset(s, 0, sizeof *s);
    if (status) return status;
    s->alloc = rv__allocator(ctx);
    s->dim = spec->dim;
    s->type = spec->type;
    s->metric = spec->metric;
    s->custom = spec->custom;
    s->custom_user = spec->custom_user;
    s->no_rows = spec->no_rows != 0;
    s->stride = rv__store_stride(spec->type, spec->dim);
    status = rv__store_blocks_get(ctx, s, spec->capacity, 0, 0, &b);
    if (status == RV_OK) rv__store_adopt(s, &b, spec->capacity);
    return status;
}

RV__FN rv_status rv__store_writable(rv_ctx *ctx, const rv__store *s)
{
    if (!s->viewed) return RV_OK;
    return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                    "this index is a view of an image: it cannot be changed");
}

/* ---- keys ---- */

RV__FN int rv__store_live(const rv__store *s, uint32_t slot)
{
    return slot < s->n && !(s->removed && s->removed[slot / 64] >> (slot % 64) & 1u);
}

RV__FN uint64_t rv__store_key(const rv__store *s, uint32_t slot)
{
    return s->keys ? s->keys[slot] : slot;
}

/* The place of a key in a map over keys: where it is, or the empty place where it would be. */
static size_t rv__store_place(const uint32_t *map, size_t map_size, const uint64_t *keys,
                              uint64_t key)
{
    size_t mask = map_size - 1, at = (size_t)rv__mix(key) & mask;
    while (map[at] != RV__NO_SLOT && keys[map[at]] != key) at = (at + 1) & mask;
    return at;
}

RV__FN uint32_t rv__store_find(const rv__store *s, uint64_t key)
{
    if (s->keys) return s->map[rv__store_place(s->map, s->map_size, s->keys, key)];
    return key < s->n && rv__store_live(s, (uint32_t)key) ? (uint32_t)key : RV__NO_SLOT;
}

/* Takes a key that is present out of the map. Later entries of the run move back over the gap when
   their home does not lie behind it. */
static void rv__store_erase(rv__store *s, uint64_t key)
{
    size_t mask = s->map_size - 1, gap = rv__store_place(s->map, s->map_size, s->keys, key);
    for (size_t at = (gap + 1) & mask; s->map[at] != RV__NO_SLOT; at = (at + 1) & mask) {
        size_t home = (size_t)rv__mix(s->keys[s->map[at]]) & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            s->map[gap] = s->map[at];
            gap = at;
        }
    }
    s->map[gap] = RV__NO_SLOT;
}

/* Enters all live slots of n into an empty map. RV_ERR_EXISTS when a key appears twice. */
static rv_status rv__store_fill_map(rv_ctx *ctx, uint32_t *map, size_t map_size,
                                    const uint64_t *keys, const uint64_t *removed, uint32_t n)
{
    for (uint32_t slot = 0; slot < n; slot++) {
        size_t place;
        if (slot % RV__STORE_PIECE == 0) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
        if (removed && removed[slot / 64] >> (slot % 64) & 1u) continue;
        place = rv__store_place(map, map_size, keys, keys[slot]);
        if (map[place] != RV__NO_SLOT) {
            return rv__fail(ctx, RV_ERR_EXISTS, slot, "key %l appears twice", keys[slot]);
        }
        map[place] = slot;
    }
    return RV_OK;
}

/* Leaves identity: from here on every slot has a key of its own. */
static rv_status rv__store_keyed(rv_ctx *ctx, rv__store *s)
{
    size_t map_size = rv__store_map_size(s->capacity);
    uint64_t *keys;
    uint32_t *map;
    rv_status status;
    if (s->keys) return RV_OK;
    keys = (uint64_t *)rv__get(&s->alloc, s->capacity, sizeof(uint64_t));
    map = keys ? (uint32_t *)rv__get(&s->alloc, map_size, sizeof(uint32_t)) : NULL;
    if (!map) {
        rv__put(&s->alloc, keys, s->capacity, sizeof(uint64_t));
        return rv__no_memory(ctx, rv__mul(s->capacity, sizeof(uint64_t)));
    }
    for (uint32_t slot = 0; slot < s->n; slot++) keys[slot] = slot;
    memset(map, 0xFF, map_size * sizeof(uint32_t));
    status = rv__store_fill_map(ctx, map, map_size, keys, s->removed, s->n);
    if (status) {
        rv__put(&s->alloc, keys, s->capacity, sizeof(uint64_t));
        rv__put(&s->alloc, map, map_size, sizeof(uint32_t));
        return status;
    }
    s->keys = keys;
    s->map = map;
    s->map_size = map_size;
    return RV_OK;
}

/* ---- moving rows ---- */

typedef struct rv__store_move_job {
    const rv__store *s;
    rv__store_blocks *b;
    const uint32_t *old_of_new; /* NULL: the same slots */
} rv__store_move_job;

static void rv__store_move_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__store_move_job *job = (const rv__store_move_job *)arg;
    const rv__store *s = job->s;
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        size_t old = job->old_of_new ? job->old_of_new[i] : i;
        if (job->b->rows)
            memcpy(job->b->rows + i * s->stride, s->rows + old * s->stride, s->stride);
        if (job->b->norms) job->b->norms[i] = s->norms[old];
        if (job->b->keys) job->b->keys[i] = rv__store_key(s, (uint32_t)old);
    }
}

/* Moves n slots into arrays of a new capacity; all or nothing. */
static rv_status rv__store_move(rv_ctx *ctx, rv__store *s, size_t capacity, size_t n,
                                const uint32_t *old_of_new, int keyed, int holes)
{
    rv__store_move_job job;
    rv__store_blocks b;
    rv_status status = rv__store_blocks_get(ctx, s, capacity, keyed, holes, &b);
    if (status) return status;
    job.s = s;
    job.b = &b;
    job.old_of_new = old_of_new;
    status = rv__parallel_for(ctx, n, 64, RV__STORE_PIECE, rv__store_move_rows, &job);
    for (size_t i = 0; !status && b.removed && i < n; i++) {
        uint32_t old = old_of_new ? old_of_new[i] : (uint32_t)i;
        if (!rv__store_live(s, old)) b.removed[i / 64] |= (uint64_t)1 << (i % 64);
    }
    if (!status && b.keys) {
        status = rv__store_fill_map(ctx, b.map, b.map_size, b.keys, b.removed, (uint32_t)n);
    }
    if (status) {
        rv__store_blocks_put(s, &b, capacity);
        return status;
    }
    rv__store_adopt(s, &b, capacity);
    s->n = (uint32_t)n;
    s->hint = 0;
    if (!holes) s->n_removed = 0;
    return RV_OK;
}

/* Room for capacity rows in all, removed ones included. */
RV__FN rv_status rv__store_reserve(rv_ctx *ctx, rv__store *s, size_t capacity)
{
    rv_status status = rv__store_writable(ctx, s);
    if (status) return status;
    if (capacity > RV__STORE_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "capacity is %z, it must be below 2^32 - 1", capacity);
    }
    if (capacity <= s->capacity) return RV_OK;
    return rv__store_move(ctx, s, capacity, s->n, NULL, s->keys != NULL, s->removed != NULL);
}

/* Room for more rows behind the last one; grows by half. */
RV__FN rv_status rv__store_grow(rv_ctx *ctx, rv__store *s, size_t more)
{
    size_t need, half = (size_t)s->capacity + s->capacity / 2;
    if (more > RV__STORE_MAX - s->n) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "%l rows and %z more exceed 2^32 - 2", (uint64_t)s->n,
                        more);
    }
    need = s->n + more;
    if (need <= s->capacity) return RV_OK;
    if (half > RV__STORE_MAX) half = RV__STORE_MAX;
    if (s->capacity && half > need) need = half;
    return rv__store_reserve(ctx, s, need < 16 ? 16 : need);
}

/* Closes the gaps of removed rows, keeps the order and gives spare room back. new_slot: [n before],
   the new slot of each old one or RV__NO_SLOT; may be NULL. */
RV__FN rv_status rv__store_compact(rv_ctx *ctx, rv__store *s, uint32_t *new_slot)
{
    uint32_t live = s->n - s->n_removed, at = 0, old_n = s->n, *old_of_new = NULL;
    int keyed = s->keys != NULL;
    rv_status status = rv__store_writable(ctx, s);
    if (status) return status;
    if (s->n_removed) {
        old_of_new = (uint32_t *)rv__get(&s->alloc, live, sizeof(uint32_t));
        if (!old_of_new) return rv__no_memory(ctx, (size_t)live * sizeof(uint32_t));
        for (uint32_t slot = 0; slot < s->n; slot++) {
            if (!rv__store_live(s, slot)) continue;
            if (slot != at) keyed = 1;
            old_of_new[at++] = slot;
        }
    }
    if (s->n_removed || s->capacity != s->n || s->removed) {
        status = rv__store_move(ctx, s, live, live, old_of_new, keyed, 0);
    }
    if (!status && new_slot) {
        for (uint32_t slot = 0; slot < old_n; slot++)
            new_slot[slot] = old_of_new ? RV__NO_SLOT : slot;
        for (uint32_t i = 0; old_of_new && i < live; i++) new_slot[old_of_new[i]] = i;
    }
    rv__put(&s->alloc, old_of_new, live, sizeof(uint32_t));
    return status;
}

/* Slot i becomes what slot old_of_new[i] was; old_of_new: a permutation of 0..n-1. */
RV__FN rv_status rv__store_permute(rv_ctx *ctx, rv__store *s, const uint32_t *old_of_new)
{
    rv_status status = rv__store_writable(ctx, s);
    if (status || s->n == 0) return status;
    return rv__store_move(ctx, s, s->capacity, s->n, old_of_new, 1, s->removed != NULL);
}

/* Gives the rows up; distances, decode and prepare_row are gone. */
RV__FN void rv__store_drop_rows(rv__store *s)
{
    if (!s->viewed) rv__put(&s->alloc, s->rows, s->capacity, s->stride);
    s->rows = NULL;
    s->no_rows = 1;
}

/* ---- checking vectors ---- */

static uint32_t rv__store_bits(const unsigned char *p, size_t i)
{
    uint32_t bits;
    memcpy(&bits, p + i * sizeof bits, sizeof bits);
    return bits & 0x7FFFFFFFu;
}

static double rv__store_f64(const unsigned char *p, size_t i)
{
    float x;
    memcpy(&x, p + i * sizeof x, sizeof x);
    return (double)x;
}

/* Bits of the largest magnitude; NaN and infinity are above every number. */
static uint32_t rv__store_peak(const unsigned char *p, size_t n)
{
    uint32_t a = 0, b = 0, c = 0, d = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t w = rv__store_bits(p, i), x = rv__store_bits(p, i + 1);
        uint32_t y = rv__store_bits(p, i + 2), z = rv__store_bits(p, i + 3);
        a = w > a ? w : a;
        b = x > b ? x : b;
        c = y > c ? y : c;
        d = z > d ? z : d;
    }
    for (; i < n; i++) {
        uint32_t w = rv__store_bits(p, i);
        a = w > a ? w : a;
    }
    a = b > a ? b : a;
    c = d > c ? d : c;
    return c > a ? c : a;
}

static double rv__store_length(const unsigned char *p, size_t n)
{
    double a = 0, b = 0, c = 0, d = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        double w = rv__store_f64(p, i), x = rv__store_f64(p, i + 1);
        double y = rv__store_f64(p, i + 2), z = rv__store_f64(p, i + 3);
        a += w * w;
        b += x * x;
        c += y * y;
        d += z * z;
    }
    for (; i < n; i++) {
        double w = rv__store_f64(p, i);
        a += w * w;
    }
    return sqrt((a + b) + (c + d));
}

/* Largest magnitude an element may have so that the type keeps it finite. */
static uint32_t rv__store_limit(const rv__store *s, int storing)
{
    if (storing && !s->no_rows && s->metric != RV_METRIC_COSINE) {
        if (s->type == RV_DTYPE_F16) return 0x477FEFFFu;  /* 65520 rounds to infinity          */
        if (s->type == RV_DTYPE_BF16) return 0x7F7F7FFFu; /* and so does 2^128 - 2^119         */
    }
    return 0x7F7FFFFFu;
}

/* Cosine keeps lengths as floats: FLT_MAX / 256 = 2^120 and below cannot overflow for 65535
   terms. */
static int rv__store_too_long(const rv__store *s, const unsigned char *p, uint32_t peak)
{
    return s->metric == RV_METRIC_COSINE && peak >= 0x7B800000u &&
           rv__store_length(p, s->dim) > 3.4028234663852886e38;
}

static int rv__store_acceptable(const rv__store *s, const unsigned char *p, int storing)
{
    uint32_t peak;
    if (s->type == RV_DTYPE_U1) return 1;
    peak = rv__store_peak(p, s->dim);
    return peak <= rv__store_limit(s, storing) && !rv__store_too_long(s, p, peak);
}

/* The sentence for a vector that is not acceptable; base is added to the element index. */
static rv_status rv__store_refuse(rv_ctx *ctx, const rv__store *s, const unsigned char *p,
                                  int storing, size_t base, const char *what)
{
    for (size_t i = 0; i < s->dim; i++) {
        uint32_t bits = rv__store_bits(p, i);
        if (bits <= rv__store_limit(s, storing)) continue;
        if (bits >= 0x7F800000u) {
            return rv__fail(ctx, RV_ERR_ARG, base + i, "%s: element %z is %s", what, base + i,
                            bits == 0x7F800000u ? "infinite" : "NaN");
        }
        return rv__fail(ctx, RV_ERR_ARG, base + i, "%s: element %z is %f, beyond the range of %s",
                        what, base + i, rv__store_f64(p, i), rv_dtype_name(s->type));
    }
    return rv__fail(ctx, RV_ERR_ARG, base, "%s: its length is beyond the range of a float", what);
}

static rv_status rv__store_check_as(rv_ctx *ctx, const rv__store *s, const void *vec,
                                    const char *what, int storing)
{
    const unsigned char *p = (const unsigned char *)vec;
    if (!p) return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
    if (rv__store_acceptable(s, p, storing)) return RV_OK;
    return rv__store_refuse(ctx, s, p, storing, 0, what);
}

/* For a query: NULL, NaN and infinity (and under cosine a length beyond a float) are RV_ERR_ARG
   with the element in ctx->where. add, replace and append check what they are given themselves. */
RV__FN rv_status rv__store_check(rv_ctx *ctx, const rv__store *s, const void *vec, const char *what)
{
    return rv__store_check_as(ctx, s, vec, what, 0);
}

/* The same for n packed vectors; ctx->where counts from the first one. Polls. */
RV__FN rv_status rv__store_check_many(rv_ctx *ctx, const rv__store *s, const void *vecs, size_t n,
                                      const char *what)
{
    size_t bytes = rv__store_vector_bytes(s), every = 1 + ((size_t)1 << 20) / s->dim;
    const unsigned char *p = (const unsigned char *)vecs;
    if (!p) return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
    for (size_t i = 0; i < n; i++, p += bytes) {
        rv_status status = i % every == 0 ? rv__poll(ctx) : RV_OK;
        if (!status && !rv__store_acceptable(s, p, 0)) {
            status = rv__store_refuse(ctx, s, p, 0, i * s->dim, what);
        }
        if (status) return status;
    }
    return RV_OK;
}

/* ---- encoding and decoding ---- */

#define RV__STORE_CHUNK 64 /* floats converted on the stack at a time, because the caller's may lie
                              at any address */

/* out[i] = x[i] * factor; x at any address. */
static void rv__store_chunk(const unsigned char *p, double factor, float *out, size_t n)
{
    if (factor == 1.0) {
        memcpy(out, p, n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = (float)(rv__store_f64(p, i) * factor);
}

/* The value is scale * code with scale = peak / 127: the largest element meets code 127. Products are
   taken in double, so that denormal vectors neither overflow nor lose their codes. */
static void rv__store_encode_i8(const rv__store *s, unsigned char *row, const unsigned char *p,
                                double inv)
{
    uint32_t bits = rv__store_peak(p, s->dim);
    int8_t *codes = (int8_t *)(void *)(row + sizeof(float));
    float peak, scale, chunk[RV__STORE_CHUNK];
    memcpy(&peak, &bits, sizeof peak);
    scale = (float)((double)peak * inv / 127.0);
    memcpy(row, &scale, sizeof scale);
    if (!(scale > 0)) {
        memset(codes, 0, s->dim);
        return;
    }
    for (size_t i = 0; i < s->dim; i += RV__STORE_CHUNK) {
        size_t n = s->dim - i < RV__STORE_CHUNK ? s->dim - i : RV__STORE_CHUNK;
        rv__store_chunk(p + i * sizeof(float), 127.0 / (double)peak, chunk, n);
        rv_convert_f32_to_i8(chunk, 1.0f, codes + i, n);
    }
}

static void rv__store_copy_bits(const rv__store *s, unsigned char *out, const unsigned char *p)
{
    size_t bytes = ((size_t)s->dim + 7) / 8;
    memcpy(out, p, bytes);
    if (s->dim % 8) out[bytes - 1] = (unsigned char)(out[bytes - 1] & ((1u << (s->dim % 8)) - 1u));
}

static void rv__store_encode(rv__store *s, size_t slot, const unsigned char *p)
{
    size_t bytes = rv_dtype_bytes(s->type, s->dim), elem = rv_dtype_bytes(s->type, 1);
    unsigned char *row = s->rows ? s->rows + slot * s->stride : NULL;
    float chunk[RV__STORE_CHUNK];
    double inv = 1.0;
    if (s->norms) {
        double length = rv__store_length(p, s->dim);
        s->norms[slot] = (float)length;
        inv = length > 0 ? 1.0 / length : 1.0;
    }
    if (!row) return;
    memset(row + bytes, 0, s->stride - bytes);
    if (s->type == RV_DTYPE_U1) {
        rv__store_copy_bits(s, row, p);
        return;
    }
    if (s->type == RV_DTYPE_I8) {
        rv__store_encode_i8(s, row, p, inv);
        return;
    }
    for (size_t i = 0; i < s->dim; i += RV__STORE_CHUNK) {
        size_t n = s->dim - i < RV__STORE_CHUNK ? s->dim - i : RV__STORE_CHUNK;
        void *to = row + i * elem;
        rv__store_chunk(p + i * sizeof(float), inv, chunk, n);
        if (s->type == RV_DTYPE_F32) memcpy(to, chunk, n * sizeof(float));
        else if (s->type == RV_DTYPE_F16) rv_convert_f32_to_f16(chunk, (uint16_t *)to, n);
        else rv_convert_f32_to_bf16(chunk, (uint16_t *)to, n);
    }
}

/* A row as floats or bits at any address, times factor (not bits). */
static void rv__store_unpack(const rv__store *s, size_t slot, double factor, void *out)
{
    const unsigned char *row = s->rows + slot * s->stride;
    unsigned char *to = (unsigned char *)out;
    float chunk[RV__STORE_CHUNK], scale = 0.0f;
    if (s->type == RV_DTYPE_U1 || (s->type == RV_DTYPE_F32 && factor == 1.0)) {
        memcpy(out, row, rv__store_vector_bytes(s));
        return;
    }
    memcpy(&scale, row, sizeof scale); /* of an I8 row */
    for (size_t i = 0; i < s->dim; i += RV__STORE_CHUNK) {
        size_t n = s->dim - i < RV__STORE_CHUNK ? s->dim - i : RV__STORE_CHUNK;
        const void *half = row + i * sizeof(uint16_t);
        const void *codes = row + sizeof scale + i;
        if (s->type == RV_DTYPE_F16) rv_convert_f16_to_f32((const uint16_t *)half, chunk, n);
        else if (s->type == RV_DTYPE_BF16) rv_convert_bf16_to_f32((const uint16_t *)half, chunk, n);
        else if (s->type == RV_DTYPE_I8) rv_convert_i8_to_f32((const int8_t *)codes, scale, chunk, n);
        else memcpy(chunk, row + i * sizeof(float), n * sizeof(float));
        for (size_t k = 0; factor != 1.0 && k < n; k++) chunk[k] = (float)((double)chunk[k] * factor);
        memcpy(to + i * sizeof(float), chunk, n * sizeof(float));
    }
}

/* The vector in the caller's form: float[dim], or bits for U1, at any address. Needs the rows. */
RV__FN void rv__store_decode(const rv__store *s, uint32_t slot, void *out)
{
    rv__store_unpack(s, slot, s->norms ? (double)s->norms[slot] : 1.0, out);
}

/* ---- changing ---- */

static int rv__store_free_slot(const rv__store *s, uint32_t slot)
{
    uint64_t bit = (uint64_t)1 << (slot % 64);
    return s->removed && (s->removed[slot / 64] & bit) &&
           !(s->n_held && (s->held[slot / 64] & bit));
}

/* The slot that add takes for a key that is not present: the lowest removed one that is not held
   (in identity, the one of this key if it can be had), else slot n. */
RV__FN uint32_t rv__store_next(const rv__store *s, uint64_t key)
{
    size_t word = s->hint / 64;
    uint32_t bit = 0;
    if (s->n_removed == s->n_held) return s->n;
    if (!s->keys && key < s->n && rv__store_free_slot(s, (uint32_t)key)) return (uint32_t)key;
    for (;; word++) {
        uint64_t bits = s->removed[word] & ~(s->n_held ? s->held[word] : 0);
        if (!bits) continue;
        while (!(bits >> bit & 1u)) bit++;
        return (uint32_t)(word * 64 + bit);
    }
}

RV__FN rv_status rv__store_exists(rv_ctx *ctx, uint64_t key)
{
    return rv__fail(ctx, RV_ERR_EXISTS, 0, "key %l is present already", key);
}

/* Adds a row; *slot is where, see rv__store_next. */
RV__FN rv_status rv__store_add(rv_ctx *ctx, rv__store *s, uint64_t key, const void *vec,
                               uint32_t *slot)
{
    uint32_t at = rv__store_next(s, key);
    int reuse = at < s->n;
    rv_status status = rv__store_writable(ctx, s);
    if (!status) status = rv__store_check_as(ctx, s, vec, "vector", 1);
    if (status) return status;
    if (rv__store_find(s, key) != RV__NO_SLOT) return rv__store_exists(ctx, key);
    if (!reuse) status = rv__store_grow(ctx, s, 1);
    if (!status && !s->keys && key != at) status = rv__store_keyed(ctx, s);
    if (status) return status;
    if (s->keys) {
        s->map[rv__store_place(s->map, s->map_size, s->keys, key)] = at;
        s->keys[at] = key;
    }
    rv__store_encode(s, at, (const unsigned char *)vec);
    if (reuse) {
        s->removed[at / 64] &= ~((uint64_t)1 << (at % 64));
        s->n_removed--;
        if (at == s->hint) s->hint++;
    } else {
        s->n++;
    }
    *slot = at;
    return RV_OK;
}

/* Whether add would take this vector. */
RV__FN rv_status rv__store_check_new(rv_ctx *ctx, const rv__store *s, const void *vec)
{
    return rv__store_check_as(ctx, s, vec, "vector", 1);
}

/* The row of a live slot becomes another vector. */
RV__FN rv_status rv__store_replace(rv_ctx *ctx, rv__store *s, uint32_t slot, const void *vec)
{
    rv_status status = rv__store_writable(ctx, s);
    if (!status) status = rv__store_check_as(ctx, s, vec, "vector", 1);
    if (!status) rv__store_encode(s, slot, (const unsigned char *)vec);
    return status;
}

/* Forgets the key of a live slot. The row stays readable until the slot is used again. */
RV__FN rv_status rv__store_remove(rv_ctx *ctx, rv__store *s, uint32_t slot)
{
    rv_status status = rv__store_writable(ctx, s);
    if (status) return status;
    if (!s->removed) {
        size_t words = rv__store_words(s->capacity);
        s->removed = (uint64_t *)rv__get_zero(&s->alloc, words, sizeof(uint64_t));
        if (!s->removed) return rv__no_memory(ctx, words * sizeof(uint64_t));
    }
    if (s->keys) rv__store_erase(s, s->keys[slot]);
    s->removed[slot / 64] |= (uint64_t)1 << (slot % 64);
    if (s->n_removed++ == 0 || slot < s->hint) s->hint = slot;
    return RV_OK;
}

typedef struct rv__store_encode_job {
    rv__store *s;
    const unsigned char *vecs;
    size_t bytes;    /* of one vector                                     */
    size_t bad[256]; /* per lane, the first row that is not acceptable    */
} rv__store_encode_job;

static void rv__store_encode_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    rv__store_encode_job *job = (rv__store_encode_job *)arg;
    for (size_t i = begin; i < end; i++) {
        const unsigned char *p = job->vecs + i * job->bytes;
        if (rv__store_acceptable(job->s, p, 1)) rv__store_encode(job->s, job->s->n + i, p);
        else if (i < job->bad[lane]) job->bad[lane] = i;
    }
}

/* Writes n vectors into the slots behind the last one, which stay invisible. */
static rv_status rv__store_encode_many(rv_ctx *ctx, rv__store *s, const void *vecs, size_t n)
{
    rv__store_encode_job job;
    size_t bad = SIZE_MAX, lanes = rv__lanes(ctx);
    rv_status status;
    job.s = s;
    job.vecs = (const unsigned char *)vecs;
    job.bytes = rv__store_vector_bytes(s);
    for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
    status =
        rv__parallel_for(ctx, n, 64, 1 + ((size_t)1 << 20) / s->dim, rv__store_encode_rows, &job);
    if (status) return status;
    for (size_t i = 0; i < lanes; i++) bad = job.bad[i] < bad ? job.bad[i] : bad;
    if (bad == SIZE_MAX) return RV_OK;
    return rv__store_refuse(ctx, s, job.vecs + bad * job.bytes, 1, bad * s->dim, "vectors");
}

static int rv__store_continues(const rv__store *s, const uint64_t *keys, size_t n)
{
    size_t i = 0;
    if (s->keys) return 0;
    if (!keys) return s->n == 0 || n == 0;
    while (i < n && keys[i] == s->n + (uint64_t)i) i++;
    return i == n;
}

/* Enters the keys of n slots behind the last one; takes them out again when one is present, appears
   twice, or the caller cancels. */
static rv_status rv__store_enter_keys(rv_ctx *ctx, rv__store *s, const uint64_t *keys, size_t n)
{
    rv_status status = RV_OK;
    size_t done = 0;
    for (; done < n && !status; done++) {
        uint64_t key = keys ? keys[done] : (uint64_t)done;
        size_t place = rv__store_place(s->map, s->map_size, s->keys, key);
        if (done % RV__STORE_PIECE == 0) status = rv__poll(ctx);
        if (!status && s->map[place] != RV__NO_SLOT) {
            int twice = s->map[place] >= s->n;
            status = rv__fail(ctx, RV_ERR_EXISTS, done, "keys: element %z, %l, is %s", done, key,
                              twice ? "given twice" : "present already");
        }
        if (status) break;
        s->map[place] = s->n + (uint32_t)done;
        s->keys[s->n + done] = key;
    }
    if (status) {
        while (done > 0) rv__store_erase(s, s->keys[s->n + --done]);
    }
    return status;
}

/* Adds n packed rows in the slots n .. n + n - 1, all or none. keys NULL: 0..n-1. ctx->where is the
   element of vecs, or of keys with RV_ERR_EXISTS. */
RV__FN rv_status rv__store_append(rv_ctx *ctx, rv__store *s, const uint64_t *keys, const void *vecs,
                                  size_t n)
{
    rv_status status = rv__store_writable(ctx, s);
    if (status || n == 0) return status;
    if (!vecs) return rv__fail(ctx, RV_ERR_ARG, 0, "vectors is NULL");
    status = rv__store_grow(ctx, s, n);
    if (!status) status = rv__store_encode_many(ctx, s, vecs, n);
    if (!status && !rv__store_continues(s, keys, n)) {
        status = rv__store_keyed(ctx, s);
        if (!status) status = rv__store_enter_keys(ctx, s, keys, n);
    }
    if (!status) s->n += (uint32_t)n;
    return status;
}

/* ---- distances ---- */

/* A prepared query: the vector at a multiple of 64 bytes, then a mark for a zero vector, then,
   for a custom metric over rows that must be decoded, room for one. It serves one thread at a
   time. */
RV__FN size_t rv__store_query_bytes(const rv__store *s)
{
    size_t vector = rv__round_up(rv__store_vector_bytes(s), RV__LINE);
    int decodes = s->custom && s->type != RV_DTYPE_F32 && s->type != RV_DTYPE_U1;
    return vector + RV__LINE + (decodes ? vector : 0);
}

static void rv__store_mark(const rv__store *s, void *query, int zero)
{
    size_t bytes = rv__store_vector_bytes(s), at = rv__round_up(bytes, RV__LINE);
    unsigned char *p = (unsigned char *)query;
    memset(p + bytes, 0, at - bytes);
    p[at] = (unsigned char)zero;
}

/* A vector that rv__store_check let pass, as rv__store_scan wants it: cosine at unit length. */
RV__FN void rv__store_prepare(const rv__store *s, const void *vec, void *query)
{
    const unsigned char *p = (const unsigned char *)vec;
    double length = 1.0;
    if (s->type == RV_DTYPE_U1) {
        rv__store_copy_bits(s, (unsigned char *)query, p);
    } else if (s->metric == RV_METRIC_COSINE) {
        length = rv__store_length(p, s->dim);
        rv__store_chunk(p, length > 0 ? 1.0 / length : 1.0, (float *)query, s->dim);
    } else {
        memcpy(query, p, rv__store_vector_bytes(s));
    }
    rv__store_mark(s, query, !(length > 0));
}

/* A stored row as a query. Needs the rows. */
RV__FN void rv__store_prepare_row(const rv__store *s, uint32_t slot, void *query)
{
    rv__store_unpack(s, slot, 1.0, query);
    rv__store_mark(s, query, s->norms && !(s->norms[slot] > 0));
}

static void rv__store_scan_custom(const rv__store *s, const void *query, const uint32_t *ids,
                                  size_t first, size_t n, float *out)
{
    size_t vector = rv__round_up(rv__store_vector_bytes(s), RV__LINE);
    void *scratch = (void *)((uintptr_t)query + vector + RV__LINE);
    int whole = s->type == RV_DTYPE_F32 || s->type == RV_DTYPE_U1;
    for (size_t i = 0; i < n; i++) {
        size_t slot = ids ? ids[i] : first + i;
        const void *row = s->rows + slot * s->stride;
        if (!whole) {
            rv__store_unpack(s, slot, 1.0, scratch);
            row = scratch;
        }
        out[i] = s->custom(s->custom_user, query, row, s->dim);
    }
}

/* Distances from a prepared query to the rows ids[0..n-1], or first..first+n-1 when ids is NULL, as
   they are reported: cosine is 1 - dot within [0,2], two zero vectors 0, exactly one 1. */
RV__FN void rv__store_scan(const rv__store *s, rv_isa isa, const void *query, const uint32_t *ids,
                           size_t first, size_t n, float *out)
{
    const unsigned char *rows = s->rows + (ids ? 0 : first * s->stride);
    int cosine = s->metric == RV_METRIC_COSINE;
    if (s->metric == RV_METRIC_CUSTOM) {
        rv__store_scan_custom(s, query, ids, first, n, out);
        return;
    }
    if (cosine &&
        ((const unsigned char *)query)[rv__round_up(rv__store_vector_bytes(s), RV__LINE)]) {
        for (size_t i = 0; i < n; i++)
            out[i] = s->norms[ids ? ids[i] : first + i] > 0 ? 1.0f : 0.0f;
        return;
    }
    rv__scan_find(cosine ? RV_METRIC_IP : s->metric, s->type, isa)(query, rows, s->stride, ids, n,
                                                                   s->dim, out);
    for (size_t i = 0; cosine && i < n; i++) {
        float d = 1.0f + out[i];
        out[i] = d < 0.0f ? 0.0f : d > 2.0f ? 2.0f : d;
    }
}

/* ---- images ---- */

static int rv__store_swaps(const rv__store *s)
{
    return s->type == RV_DTYPE_I8 && rv__big_endian();
}

static size_t rv__store_elem(const rv__store *s)
{
    if (s->type == RV_DTYPE_F32) return 4;
    return s->type == RV_DTYPE_F16 || s->type == RV_DTYPE_BF16 ? 2 : 1;
}

static void rv__store_save_rows(rv__image_writer *w, const rv__store *s)
{
    size_t elem = rv__store_elem(s), total = (size_t)s->n * s->stride;
    rv__image_section_begin(w, "ROWS", elem, total / elem);
    if (!rv__store_swaps(s)) {
        rv__image_put(w, elem, s->rows, total / elem);
        return;
    }
    for (uint32_t slot = 0; slot < s->n; slot++) {
        const unsigned char *row = s->rows + (size_t)slot * s->stride;
        rv__image_put(w, sizeof(float), row, 1);
        rv__image_put(w, 1, row + sizeof(float), s->stride - sizeof(float));
    }
}

/* Appends the sections named at the top. w belongs to the index, which ends it. */
RV__FN rv_status rv__store_save(rv__image_writer *w, const rv__store *s)
{
    uint32_t params[8];
    params[0] = s->dim;
    params[1] = (uint32_t)s->type;
    params[2] = (uint32_t)s->metric;
    params[3] = (uint32_t)s->stride;
    params[4] = s->n;
    params[5] = s->n_removed;
    params[6] = (s->no_rows ? 1u : 0u) | (s->keys && s->n ? 2u : 0u);
    params[7] = 0;
    rv__image_section(w, "SPAR", sizeof(uint32_t), params, 8);
    if (s->n == 0) return w->status;
    if (!s->no_rows) rv__store_save_rows(w, s);
    if (s->norms) rv__image_section(w, "NORM", sizeof(float), s->norms, s->n);
    if (s->keys) rv__image_section(w, "KEYS", sizeof(uint64_t), s->keys, s->n);
    if (s->n_removed) {
        rv__image_section(w, "GONE", sizeof(uint64_t), s->removed, rv__store_words(s->n));
    }
    return w->status;
}

static int rv__store_row_sound(const rv__store *s, size_t slot)
{
    const unsigned char *row = s->rows + slot * s->stride;
    unsigned bad = 0, mask = s->type == RV_DTYPE_F16 ? 0x7C00u : 0x7F80u;
    switch (s->type) {
    case RV_DTYPE_F32: return rv__store_peak(row, s->dim) < 0x7F800000u;
    case RV_DTYPE_F16:
    case RV_DTYPE_BF16:
        for (size_t i = 0; i < s->dim; i++) {
            uint16_t x;
            memcpy(&x, row + 2 * i, 2);
            bad |= (unsigned)((x & mask) == mask);
        }
        return !bad;
    case RV_DTYPE_I8:
        for (size_t i = 0; i < s->dim; i++) bad |= (unsigned)(row[sizeof(float) + i] == 0x80u);
        return !bad && rv__store_f64(row, 0) >= 0 && rv__store_bits(row, 0) < 0x7F800000u;
    case RV_DTYPE_U1:
    default: return s->dim % 8 == 0 || (row[(s->dim - 1) / 8] >> (s->dim % 8)) == 0;
    }
}

typedef struct rv__store_sound_job {
    const rv__store *s;
    size_t bad[256];
} rv__store_sound_job;

static void rv__store_sound_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    rv__store_sound_job *job = (rv__store_sound_job *)arg;
    for (size_t i = begin; i < end; i++) {
        const float *norms = job->s->norms;
        int sound = !job->s->rows || rv__store_row_sound(job->s, i);
        if (norms) sound = sound && norms[i] >= 0 && rv__finite_f32(norms[i]);
        if (!sound && i < job->bad[lane]) job->bad[lane] = i;
    }
}

static rv_status rv__store_check_rows(rv_ctx *ctx, const rv__store *s)
{
    size_t bad = SIZE_MAX, lanes = rv__lanes(ctx);
    rv__store_sound_job job;
    rv_status status;
    job.s = s;
    for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
    status =
        rv__parallel_for(ctx, s->n, 64, 1 + ((size_t)1 << 22) / s->dim, rv__store_sound_rows, &job);
    if (status) return status;
    for (size_t i = 0; i < lanes; i++) bad = job.bad[i] < bad ? job.bad[i] : bad;
    if (bad == SIZE_MAX) return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, bad, "row %z of the image holds values that cannot be",
                    bad);
}

static rv_status rv__store_check_removed(rv_ctx *ctx, const rv__store *s)
{
    uint32_t count = 0;
    if (!s->removed) return RV_OK;
    for (size_t i = 0; i < rv__store_words(s->n); i++) {
        for (uint64_t word = s->removed[i]; word; word &= word - 1) count++;
    }
    if (count == s->n_removed && (s->n % 64 == 0 || s->removed[s->n / 64] >> (s->n % 64) == 0))
        return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, 0, "the removed rows of the image contradict their number");
}

static rv_status rv__store_load_arrays(rv_ctx *ctx, rv__image_reader *r, int view, int keyed,
                                       rv__store *s)
{
    void *p = NULL;
    size_t n = s->n, elem = rv__store_elem(s);
    rv_status status = RV_OK;
    if (!s->no_rows) {
        /* 64-bit product: n is below 2^32 and the stride below 2^19 */
        uint64_t total = (uint64_t)n * s->stride;
        if (total > SIZE_MAX - 2 * RV__LINE) return rv__no_memory(ctx, SIZE_MAX);
        status = rv__image_array(ctx, r, "ROWS", elem, (size_t)total / elem, view, &s->alloc, &p);
        if (status) return status;
        s->rows = (unsigned char *)p;
    }
    if (s->metric == RV_METRIC_COSINE) {
        status = rv__image_array(ctx, r, "NORM", sizeof(float), n, view, &s->alloc, &p);
        if (status) return status;
        s->norms = (float *)p;
    }
    if (keyed) {
        status = rv__image_array(ctx, r, "KEYS", sizeof(uint64_t), n, view, &s->alloc, &p);
        if (status) return status;
        s->keys = (uint64_t *)p;
    }
    if (s->n_removed) {
        status = rv__image_array(ctx, r, "GONE", sizeof(uint64_t), rv__store_words(n), view,
                                 &s->alloc, &p);
        if (status) return status;
        s->removed = (uint64_t *)p;
    }
    return RV_OK;
}

static rv_status rv__store_load_map(rv_ctx *ctx, rv__store *s)
{
    rv_status status;
    if (!s->keys) return RV_OK;
    s->map_size = rv__store_map_size(s->capacity);
    s->map = (uint32_t *)rv__get(&s->alloc, s->map_size, sizeof(uint32_t));
    if (!s->map) return rv__no_memory(ctx, rv__mul(s->map_size, sizeof(uint32_t)));
    memset(s->map, 0xFF, s->map_size * sizeof(uint32_t));
    status = rv__store_fill_map(ctx, s->map, s->map_size, s->keys, s->removed, s->n);
    if (status != RV_ERR_EXISTS) return status;
    return rv__fail(ctx, RV_ERR_FORMAT, 0, "a key appears twice in the image");
}

/* Reads and validates the sections of rv__store_save. view: arrays stay in the image; the map is
   built in memory. custom: for RV_METRIC_CUSTOM only, else not looked at. On failure there is
   nothing to free. */
RV__FN rv_status rv__store_load(rv_ctx *ctx, rv__image_reader *r, int view, rv_custom_fn custom,
                                void *custom_user, rv__store *s)
{
    uint32_t params[8];
    rv__store_spec spec;
    rv_status status = rv__image_values(ctx, r, "SPAR", sizeof(uint32_t), 8, params);
    memset(s, 0, sizeof *s);
    if (status) return status;
    memset(&spec, 0, sizeof spec);
    spec.dim = params[0];
    spec.type = params[1] <= (uint32_t)RV_DTYPE_U1 ? (rv_dtype)params[1] : RV_DTYPE_F32;
    spec.metric = params[2] <= (uint32_t)RV_METRIC_CUSTOM ? (rv_metric)params[2] : RV_METRIC_L2;
    spec.no_rows = params[6] & 1u;
    if (spec.metric == RV_METRIC_CUSTOM) {
        if (!custom)
            return rv__fail(ctx, RV_ERR_ARG, 0,
                            "the image has a custom metric: custom must be given");
        spec.custom = custom;
        spec.custom_user = custom_user;
    }
    if (rv__store_check_spec(NULL, &spec) || params[1] != (uint32_t)spec.type ||
        params[2] != (uint32_t)spec.metric || params[3] != rv__store_stride(spec.type, spec.dim) ||
        params[4] > RV__STORE_MAX || params[5] > params[4] || params[6] > 3u || params[7] ||
        (params[4] == 0 && (params[6] & 2u))) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0,
                        "the parameters of the rows in the image contradict themselves");
    }
    status = view ? rv__image_check_view(ctx, r) : RV_OK;
    if (!status) status = rv__store_init(ctx, s, &spec);
    s->viewed = view != 0;
    if (status || params[4] == 0) return status;
    s->n = s->capacity = params[4];
    s->n_removed = params[5];
    status = rv__store_load_arrays(ctx, r, view, (params[6] & 2u) != 0, s);
    if (!status && rv__store_swaps(s) && s->rows) {
        for (uint32_t i = 0; i < s->n; i++) {
            unsigned char scale[4];
            memcpy(scale, s->rows + (size_t)i * s->stride, 4);
            rv__image_copy(s->rows + (size_t)i * s->stride, scale, 4, 1);
        }
    }
    if (!status) status = rv__store_check_removed(ctx, s);
    if (!status) status = rv__store_check_rows(ctx, s);
    if (!status) status = rv__store_load_map(ctx, s);
    if (status) rv__store_free(s);
    return status;
}

#undef RV__STORE_CHUNK
#undef RV__STORE_DIM_MAX
#undef RV__STORE_MAX
#undef RV__STORE_PIECE
#endif /* RV_STORE_C */
/* ==== src/code.c ============================================================================== */
#ifndef RV_CODE_C
#define RV_CODE_C

/* Codes for walking a graph: records of whole cache lines from which the distance to a query is
   estimated with one integer dot product. Private to the graph index.

   A row x is moved by the mean, turned by an orthonormal map T (principal components, a random
   rotation, or none), and y = T (x - mean) is kept as integers c of 8, 4 or 1 bits with one scale.
   With <x - mean, q - mean> estimated by (|y|^2 / <c, y>) <c, T (q - mean)>, which is exact for q = x
   and unbiased under a random rotation,

       L2 = |x - mean|^2 + |q - mean|^2 - 2 <x - mean, q - mean>

   so a record needs two floats besides the integers. What a projection leaves out of x is in the
   norm; its product with what is left out of q is taken as zero.

   record: float h, float g, then integers; all kinds leave the integers under the first 8 bytes
   free, and the query is zero there, so that one dot product runs over the whole record. 4 bits: in
   each block of 64 bytes the low nibbles are elements 0..63, the high ones 64..127.

   Source: the estimator and the one-bit code: Gao, Long, RaBitQ, 2024; scales per vector:
   Aguerrebere et al., Similarity search in the blink of an eye with compressed indices (LVQ), 2023;
   projection before coding: Tepper et al., LeanVec, 2024. Differs from LeanVec in that queries and
   rows share one PCA basis, and from LVQ in the scale, which is RaBitQ's. */

enum { RV__CODE_NONE = 0, RV__CODE_PCA = 1, RV__CODE_SQ8 = 2, RV__CODE_SQ4 = 3, RV__CODE_BIT = 4 };

#define RV__CODE_HEAD 8u           /* bytes of h and g                                            */
#define RV__CODE_SAMPLE 2048u      /* rows on which the record size is chosen                     */
#define RV__CODE_BLOCK 64u         /* rows encoded together                                       */
#define RV__CODE_DIM_MIN 16u       /* up to here a vector is as short as a code, and bytes would be
                                      coarser than the gaps between low-dimensional neighbours    */

typedef struct rv__code {
    rv_alloc alloc;
    int kind;
    rv_metric metric;
    uint32_t dim;
    uint32_t n_comp;               /* elements coded                                              */
    uint32_t bits;
    uint32_t record;               /* bytes, a multiple of 64                                     */
    float *mean;                   /* [dim]                                                       */
    float *basis;                  /* [n_comp, dim], PCA only                                     */
    rv_rotation *rotation;         /* SQ4 and BIT only                                            */
    unsigned char *records;        /* [capacity, record]                                          */
    size_t capacity;
    int viewed;                    /* all arrays belong to an image                               */
} rv__code;

/* What a query becomes. element: [record * 8 / bits], 64-byte aligned. */
typedef struct rv__code_query {
    const int8_t *element;
    float base, slope, offset;     /* estimate = h + base - g * (slope * dot + offset)            */
} rv__code_query;

RV__FN void rv__code_free(rv__code *code)
{
    if (!code->viewed) {
        rv__put(&code->alloc, code->mean, code->dim, sizeof(float));
        rv__put(&code->alloc, code->basis, (size_t)code->n_comp * code->dim, sizeof(float));
        rv__put(&code->alloc, code->records, code->capacity, code->record);
    }
    rv_rotation_destroy(code->rotation);
    memset(code, 0, sizeof *code);
}

RV__FN size_t rv__code_bytes(const rv__code *code)
{
    if (code->kind == RV__CODE_NONE) return 0;
    return code->capacity * code->record + code->dim * sizeof(float) +
           (code->basis ? (size_t)code->n_comp * code->dim * sizeof(float) : 0);
}

RV__FN size_t rv__code_elements(const rv__code *code)
{
    return (size_t)code->record * 8u / code->bits;
}

/* Where coded component i sits among the elements of a query. */
RV__INLINE size_t rv__code_place(uint32_t bits, size_t i)
{
    if (bits == 8) return i + 8;
    if (bits == 1) return i + 64;
    return i < 56 ? i + 8 : i + 16; /* 4 bits: both halves of the first block start at 8 */
}

/* Bytes of a record that holds n components of so many bits. */
RV__FN size_t rv__code_record(uint32_t bits, size_t n)
{
    return rv__round_up(RV__CODE_HEAD + (n * bits + 7) / 8, 64);
}

/* y[n_comp] = T (x - mean); tmp: [dim + padded components]. */
static void rv__code_transform(const rv__code *code, const float *x, float *y, float *tmp)
{
    for (size_t i = 0; i < code->dim; i++) tmp[i] = x[i] - code->mean[i];
    if (code->basis) {
        rv_gemv_f32(code->basis, code->dim, tmp, code->n_comp, code->dim, y);
    } else if (code->rotation) {
        rv_rotation_apply(code->rotation, tmp, y);
    } else {
        memcpy(y, tmp, code->dim * sizeof(float));
    }
}

/* Packs y into the integers of a record and sets its scale; square: |x - mean|^2. */
static void rv__code_pack(const rv__code *code, const float *y, float square, float shift,
                          unsigned char *record)
{
    size_t n = code->n_comp;
    float largest = 0.0f, dot = 0.0f, energy = 0.0f, h, g;
    memset(record, 0, code->record);
    for (size_t i = 0; i < n; i++) {
        float a = y[i] < 0.0f ? -y[i] : y[i];
        if (a > largest) largest = a;
        energy += y[i] * y[i];
    }
    if (code->bits == 8) {
        int8_t *c = (int8_t *)record + RV__CODE_HEAD;
        rv_convert_f32_to_i8(y, largest > 0.0f ? 127.0f / largest : 0.0f, c, n);
        for (size_t i = 0; i < n; i++) dot += (float)c[i] * y[i];
    } else if (code->bits == 4) {
        /* levels at odd multiples of half a step; the outermost 7 % of a Gaussian is cut to gain
           resolution for the rest */
        float root = n ? (float)sqrt((double)energy / (double)n) : 0.0f;
        float top = largest < 2.6f * root ? largest : 2.6f * root;
        float inverse = top > 0.0f ? 8.0f / top : 0.0f;
        for (size_t i = 0; i < n; i++) {
            float v = y[i] * inverse + 8.0f;
            int level = v <= 0.0f ? 0 : v >= 15.0f ? 15 : (int)v;
            size_t e = rv__code_place(4, i), block = e >> 7, at = e & 127u;
            record[block * 64 + (at & 63u)] |= (unsigned char)(at < 64 ? level : level << 4);
            dot += ((float)level - 7.5f) * y[i];
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            size_t e = rv__code_place(1, i);
            if (y[i] >= 0.0f) record[e >> 3] |= (unsigned char)(1u << (e & 7u));
            dot += y[i] < 0.0f ? -y[i] : y[i];
        }
    }
    g = dot > 0.0f ? energy / dot : 0.0f;
    if (code->metric == RV_METRIC_L2) {
        h = square;
        g *= 2.0f;
    } else if (code->metric == RV_METRIC_COSINE) {
        h = 0.5f * square;
    } else {
        h = -shift; /* <mean, x - mean> */
    }
    memcpy(record, &h, sizeof h);
    memcpy(record + sizeof h, &g, sizeof g);
}

/* Scratch of rv__code_encode_rows and of rv__code_prepare, in floats. */
RV__FN size_t rv__code_scratch(const rv__code *code)
{
    return code->dim + 3 * rv__round_up(code->n_comp > code->dim ? code->n_comp : code->dim, 64) + 64;
}

/* x: a prepared row or query (unit length under cosine). */
RV__FN void rv__code_encode(const rv__code *code, const float *x, unsigned char *record,
                            float *scratch)
{
    float *y = scratch + code->dim, square = 0.0f, shift = 0.0f;
    rv__code_transform(code, x, y, scratch);
    for (size_t i = 0; i < code->dim; i++) {
        square += scratch[i] * scratch[i];
        shift += scratch[i] * code->mean[i];
    }
    rv__code_pack(code, y, square, shift, record);
}

/* element: [rv__code_elements], 64-byte aligned. */
RV__FN void rv__code_prepare(const rv__code *code, const float *x, int8_t *element, float *scratch,
                             rv__code_query *query)
{
    float *y = scratch + code->dim, largest = 0.0f, step;
    size_t n = code->n_comp, elements = rv__code_elements(code);
    int32_t sum = 0;
    rv__code_transform(code, x, y, scratch);
    for (size_t i = 0; i < n; i++) {
        float a = y[i] < 0.0f ? -y[i] : y[i];
        if (a > largest) largest = a;
    }
    step = largest / 127.0f;
    memset(element, 0, elements);
    if (code->bits == 4) {
        int8_t *flat = (int8_t *)(scratch + code->dim + rv__round_up(n, 64) + 32);
        size_t first = n < 56 ? n : 56;
        rv_convert_f32_to_i8(y, step > 0.0f ? 1.0f / step : 0.0f, flat, n);
        memcpy(element + 8, flat, first);
        if (n > 56) memcpy(element + 72, flat + 56, n - 56);
        for (size_t i = 0; i < n; i++) sum += flat[i];
    } else {
        int8_t *c = element + rv__code_place(code->bits, 0);
        rv_convert_f32_to_i8(y, step > 0.0f ? 1.0f / step : 0.0f, c, n);
        if (code->bits == 1) {
            for (size_t i = 0; i < n; i++) sum += c[i];
        }
    }
    query->element = element;
    query->slope = code->bits == 1 ? 2.0f * step : step;
    query->offset = code->bits == 8 ? 0.0f : code->bits == 4 ? -7.5f * step * (float)sum : -step * (float)sum;
    if (code->metric == RV_METRIC_IP) {
        query->base = -rv_dot_f32(x, code->mean, code->dim);
    } else {
        float square = rv_dot_f32(scratch, scratch, code->dim);
        query->base = code->metric == RV_METRIC_L2 ? square : 0.5f * square;
    }
}

#define RV__CODE_CHUNK 64u

/* Estimated distances from a query to records ids[0..n-1]. */
RV__FN void rv__code_scan(const rv__code *code, const rv__kernels *kernels,
                          const rv__code_query *query, const uint32_t *ids, size_t n, float *out)
{
    int32_t dot[RV__CODE_CHUNK];
    for (size_t at = 0; at < n; at += RV__CODE_CHUNK) {
        size_t m = n - at < RV__CODE_CHUNK ? n - at : RV__CODE_CHUNK;
        if (code->bits == 8) {
            kernels->dot_i8_scan(query->element, code->records, code->record, ids + at, m, code->record, dot);
        } else if (code->bits == 4) {
            kernels->dot_u4_scan(query->element, code->records, code->record, ids + at, m, code->record, dot);
        } else {
            kernels->dot_u1_scan(query->element, code->records, code->record, ids + at, m, code->record, dot);
        }
        for (size_t i = 0; i < m; i++) {
            float head[2];
            memcpy(head, code->records + (size_t)ids[at + i] * code->record, sizeof head);
            out[at + i] = head[0] + query->base - head[1] * (query->slope * (float)dot[i] + query->offset);
        }
    }
}

/* x[dim] = the row a record stands for (unit length under cosine only as far as the code goes). */
RV__FN void rv__code_decode(const rv__code *code, size_t slot, float *x, float *scratch)
{
    const unsigned char *record = code->records + slot * code->record;
    float *y = scratch, g, scale;
    memcpy(&g, record + sizeof(float), sizeof g);
    scale = code->metric == RV_METRIC_L2 ? 0.5f * g : g;
    for (size_t i = 0; i < code->n_comp; i++) {
        size_t e = rv__code_place(code->bits, i);
        if (code->bits == 8) {
            y[i] = scale * (float)((const int8_t *)record)[e];
        } else if (code->bits == 4) {
            unsigned byte = record[(e >> 7) * 64 + (e & 63u)];
            y[i] = scale * ((float)((e & 127u) < 64 ? byte & 15u : byte >> 4) - 7.5f);
        } else {
            y[i] = (record[e >> 3] >> (e & 7u) & 1u) ? scale : -scale;
        }
    }
    if (code->basis) {
        memcpy(x, code->mean, code->dim * sizeof(float));
        for (size_t i = 0; i < code->n_comp; i++) {
            rv_axpy_f32(y[i], code->basis + i * code->dim, x, code->dim);
        }
        return;
    }
    if (code->rotation) {
        rv_rotation_invert(code->rotation, y, x);
    } else {
        memcpy(x, y, code->dim * sizeof(float));
    }
    rv_add_f32(code->mean, x, code->dim);
}

/* ---- training ---- */

/* Share of the 10 exact neighbours of sample rows that are among the `keep` nearest when only the
   leading n components are compared. y: [s, stride], square: |x - mean|^2. */
static double rv__code_trial(const float *exact, const float *y, size_t stride, const float *square,
                             size_t s, size_t n_query, size_t n, size_t keep, float *line,
                             uint32_t *index)
{
    size_t found = 0, total = 0;
    for (size_t i = 0; i < n_query; i++) {
        uint32_t truth[10];
        size_t k, kept;
        memcpy(line, exact + i * s, s * sizeof(float));
        line[i] = rv__infinity();
        k = rv_topk_f32(line, s, 10, truth, NULL);
        for (size_t j = 0; j < s; j++) {
            line[j] = square[j] - 2.0f * rv_dot_f32(y + i * stride, y + j * stride, n);
        }
        line[i] = rv__infinity();
        kept = rv_topk_f32(line, s, keep, index, NULL);
        for (size_t a = 0; a < k; a++) {
            size_t b = 0;
            while (b < kept && index[b] != truth[a]) b++;
            found += b < kept;
        }
        total += k;
    }
    return total ? (double)found / (double)total : 1.0;
}

/* Picks the number of components: the fewest lines whose ranking keeps 98 % of the neighbours of
   the sample among twice as many. Energy alone would not do: between clusters lies most of the
   variance, within them most of the neighbours. sample: [s, dim] prepared rows. */
static rv_status rv__code_choose(rv_ctx *ctx, rv__code *code, const float *sample, size_t s,
                                 size_t most)
{
    const size_t n_query = s < 64 ? s : 64;
    float *y = (float *)rv__get(&code->alloc, s * most, sizeof(float));
    float *exact = (float *)rv__get(&code->alloc, n_query * s, sizeof(float));
    float *square = (float *)rv__get(&code->alloc, 2 * s, sizeof(float));
    uint32_t *index = (uint32_t *)rv__get(&code->alloc, s, sizeof(uint32_t));
    rv_status status = RV_OK;
    if (!y || !exact || !square || !index) {
        status = rv__no_memory(ctx, s * most * sizeof(float));
    } else {
        status = rv_pca_apply(ctx, code->mean, code->basis, code->dim, most, sample, 0, s, y);
    }
    if (!status) {
        float *line = square + s;
        size_t n, step = 64;
        for (size_t j = 0; j < s; j++) {
            float sum = 0.0f;
            for (size_t i = 0; i < code->dim; i++) {
                float d = sample[j * code->dim + i] - code->mean[i];
                sum += d * d;
            }
            square[j] = sum;
        }
        for (size_t i = 0; i < n_query; i++) {
            rv_metric_many(RV_METRIC_L2, RV_DTYPE_F32, sample + i * code->dim, sample, 0, s, code->dim,
                           exact + i * s);
        }
        for (n = step - RV__CODE_HEAD; n < most; n += step) {
            double kept = rv__code_trial(exact, y, most, square, s, n_query, n, 20, line, index);
            if (kept >= 0.98) break;
            if ((status = rv__poll(ctx)) != RV_OK) break;
        }
        code->n_comp = (uint32_t)(n < most ? n : most);
    }
    rv__put(&code->alloc, index, s, sizeof(uint32_t));
    rv__put(&code->alloc, square, 2 * s, sizeof(float));
    rv__put(&code->alloc, exact, n_query * s, sizeof(float));
    rv__put(&code->alloc, y, s * most, sizeof(float));
    return status;
}

/* Evenly spread live rows of the store as floats: [*s, dim]. */
static rv_status rv__code_sample(rv_ctx *ctx, const rv__store *store, const rv_alloc *alloc,
                                 size_t most, float **out, size_t *s)
{
    size_t n = store->n, count = n < most ? n : most, got = 0;
    void *query = rv__get(alloc, rv__store_query_bytes(store), 1);
    float *rows = (float *)rv__get(alloc, count * store->dim, sizeof(float));
    if (!query || !rows) {
        rv__put(alloc, query, rv__store_query_bytes(store), 1);
        rv__put(alloc, rows, count * store->dim, sizeof(float));
        return rv__no_memory(ctx, count * store->dim * sizeof(float));
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)((uint64_t)i * n / count);
        if (!rv__store_live(store, slot)) continue;
        rv__store_prepare_row(store, slot, query);
        memcpy(rows + got++ * store->dim, query, store->dim * sizeof(float));
    }
    rv__put(alloc, query, rv__store_query_bytes(store), 1);
    /* blocks are freed by their requested size, so a shortfall keeps the count it was made with */
    for (size_t i = got; got && i < count; i++) {
        memcpy(rows + i * store->dim, rows + (i % got) * store->dim, store->dim * sizeof(float));
    }
    *out = rows;
    *s = count;
    return RV_OK;
}

/* Learns the map from the rows of the store. n_bytes: record size wanted for PCA, 0 = by trial.
   On failure code is empty. */
RV__FN rv_status rv__code_train(rv_ctx *ctx, rv__code *code, int kind, const rv__store *store,
                                uint32_t n_bytes)
{
    float *sample = NULL;
    size_t s = 0, dim = store->dim;
    rv_status status;
    memset(code, 0, sizeof *code);
    code->alloc = store->alloc;
    code->kind = kind;
    code->metric = store->metric;
    code->dim = store->dim;
    code->n_comp = store->dim;
    code->bits = kind == RV__CODE_SQ4 ? 4u : kind == RV__CODE_BIT ? 1u : 8u;
    status = rv__code_sample(ctx, store, &code->alloc, 8192, &sample, &s);
    if (status) return status;
    code->mean = (float *)rv__get_zero(&code->alloc, dim, sizeof(float));
    if (!code->mean) status = rv__no_memory(ctx, dim * sizeof(float));
    if (!status && kind == RV__CODE_PCA) {
        size_t most = n_bytes ? n_bytes - RV__CODE_HEAD : dim;
        if (most > 512) most = 512;
        if (most > dim) most = dim;
        code->n_comp = (uint32_t)most;
        code->basis = (float *)rv__get(&code->alloc, most * dim, sizeof(float));
        if (!code->basis) {
            status = rv__no_memory(ctx, most * dim * sizeof(float));
        } else {
            status = rv_pca_train(ctx, sample, 0, s, dim, most, code->mean, code->basis, NULL, NULL);
        }
        if (!status && !n_bytes) {
            status = rv__code_choose(ctx, code, sample, s < RV__CODE_SAMPLE ? s : RV__CODE_SAMPLE, most);
        }
        if (!status && code->n_comp < most) {
            float *basis = (float *)rv__regrow(&code->alloc, code->basis, most * dim,
                                               (size_t)code->n_comp * dim, sizeof(float));
            if (basis) {
                code->basis = basis;
            } else {
                code->n_comp = (uint32_t)most;
                status = rv__no_memory(ctx, most * dim * sizeof(float));
            }
        }
    } else if (!status) {
        for (size_t i = 0; i < s; i++) rv_axpy_f32(1.0f / (float)s, sample + i * dim, code->mean, dim);
        if (kind != RV__CODE_SQ8) {
            status = rv_rotation_create(ctx, dim, &code->rotation);
            if (!status) code->n_comp = (uint32_t)rv_rotation_dim(code->rotation);
        }
    }
    code->record = (uint32_t)rv__code_record(code->bits, code->n_comp);
    rv__put(&code->alloc, sample, s * dim, sizeof(float));
    if (status) rv__code_free(code);
    return status;
}

RV__FN rv_status rv__code_reserve(rv_ctx *ctx, rv__code *code, size_t capacity)
{
    unsigned char *records;
    if (capacity <= code->capacity) return RV_OK;
    records = (unsigned char *)rv__regrow(&code->alloc, code->records, code->capacity, capacity, code->record);
    if (!records) return rv__no_memory(ctx, rv__mul(capacity, code->record));
    code->records = records;
    code->capacity = capacity;
    return RV_OK;
}

/* ---- encoding many rows ---- */

typedef struct rv__code_job {
    rv__code *code;
    const rv__store *store;
    const rv__kernels *kernels;
    float *scratch;                /* [lanes, lane_floats]                                        */
    size_t lane_floats, query_floats;
} rv__code_job;

static void rv__code_encode_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__code_job *job = (const rv__code_job *)arg;
    rv__code *code = job->code;
    size_t dim = code->dim, n = code->n_comp;
    float *query = job->scratch + lane * job->lane_floats;
    float *rows = query + job->query_floats, *y = rows + RV__CODE_BLOCK * dim;
    float *pack = y + rv__round_up(RV__CODE_BLOCK * rv__round_up(n, 16), 16);
    for (size_t at = begin; at < end; at += RV__CODE_BLOCK) {
        size_t m = end - at < RV__CODE_BLOCK ? end - at : RV__CODE_BLOCK;
        for (size_t i = 0; i < m; i++) {
            float *row = rows + i * dim;
            rv__store_prepare_row(job->store, (uint32_t)(at + i), query);
            for (size_t j = 0; j < dim; j++) row[j] = query[j] - code->mean[j];
        }
        if (code->basis) {
            job->kernels->gram_f32(rows, dim, m, code->basis, dim, n, dim, y, n, pack);
        }
        for (size_t i = 0; i < m; i++) {
            float *row = rows + i * dim, *turned = y + i * n;
            if (code->rotation) {
                turned = y;
                rv_rotation_apply(code->rotation, row, turned);
            } else if (!code->basis) {
                turned = row;
            }
            rv__code_pack(code, turned, rv_dot_f32(row, row, dim), rv_dot_f32(row, code->mean, dim),
                          code->records + (at + i) * code->record);
        }
    }
}

/* Encodes rows first..first+n-1 of the store; the records are reserved. */
RV__FN rv_status rv__code_encode_rows(rv_ctx *ctx, rv__code *code, const rv__store *store,
                                      size_t n)
{
    size_t lanes = rv__lanes(ctx), dim = code->dim;
    rv__code_job job;
    rv_status status;
    job.code = code;
    job.store = store;
    job.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    job.query_floats = rv__round_up(rv__store_query_bytes(store) / sizeof(float) + 1, 16);
    job.lane_floats = rv__round_up(job.query_floats + RV__CODE_BLOCK * dim, 16) +
                      rv__round_up(RV__CODE_BLOCK * rv__round_up(code->n_comp, 16), 16) + 16;
    if (code->basis) {
        job.lane_floats += rv__round_up(rv__gram_f32_scratch() / sizeof(float) + 1, 16);
    }
    job.scratch = (float *)rv__get(&code->alloc, lanes * job.lane_floats, sizeof(float));
    if (!job.scratch) return rv__no_memory(ctx, lanes * job.lane_floats * sizeof(float));
    status = rv__parallel_for(ctx, n, RV__CODE_BLOCK, 4 * RV__CODE_BLOCK, rv__code_encode_range, &job);
    rv__put(&code->alloc, job.scratch, lanes * job.lane_floats, sizeof(float));
    return status;
}

#endif /* RV_CODE_C */

/* features */
/* ==== src/flat.c ============================================================================== */
#ifndef RV_FLAT_C
#define RV_FLAT_C

/* Rows are scanned in blocks that stay in the second cache while every query of a group of up to 16
   measures them. Each query keeps its k best in a heap, worst on top; a row enters it only when its
   distance is not above the top's, which after the first few blocks is rare. Lanes of a parallel
   search keep heaps of their own that are merged: under the total order (distance, key) the k best
   are the same set however the rows were dealt out, and blocks start at the same rows for any
   number of workers, so that the distances have the same bits.

   A filter, and removed rows when there are many, turn a block into a list of rows before
   anything is measured. Few removed rows are measured with the others and dropped when they
   would enter. */

#define RV__FLAT_GROUP 16u        /* most queries that share a block                       */
#define RV__FLAT_BLOCK_MAX 512u   /* most rows of a block                                  */
#define RV__FLAT_CACHE 131072u    /* bytes a block should not exceed, and a group's queries */
#define RV__FLAT_SMALL (4u << 20) /* bytes of rows up to which a batch is split by queries */
#define RV__FLAT_NAN 0xFFFFFFFFu  /* order of a NaN distance: behind infinity              */

struct rv_flat {
    rv__store store;
};

/* ---- the k nearest so far ---- */

typedef struct rv__flat_near {
    uint64_t key;
    uint32_t order; /* of the distance, see rv__order_f32 */
    uint32_t slot;
} rv__flat_near;

/* One order for what compares equal: -0 counts as 0, and all NaN as the largest. */
static uint32_t rv__flat_order(float distance)
{
    uint32_t bits;
    memcpy(&bits, &distance, sizeof bits);
    if (bits == 0x80000000u) bits = 0;
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return RV__FLAT_NAN;
    return (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
}

static int rv__flat_farther(const rv__flat_near *a, const rv__flat_near *b)
{
    return a->order != b->order ? a->order > b->order : a->key > b->key;
}

static void rv__flat_sift_down(rv__flat_near *heap, size_t n, rv__flat_near item)
{
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && rv__flat_farther(&heap[child + 1], &heap[child])) child++;
        if (!rv__flat_farther(&heap[child], &item)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

/* Keeps the k nearest; k > 0. */
static void rv__flat_offer(rv__flat_near *heap, size_t *n, size_t k, rv__flat_near item)
{
    size_t at;
    if (*n == k) {
        if (rv__flat_farther(&heap[0], &item)) rv__flat_sift_down(heap, k, item);
        return;
    }
    at = (*n)++;
    while (at > 0 && rv__flat_farther(&item, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

/* A heap becomes hits, nearest first. */
static void rv__flat_finish(rv__flat_near *heap, size_t n, rv_hit *hits)
{
    while (n > 0) {
        rv__flat_near far = heap[0];
        n--;
        rv__flat_sift_down(heap, n, heap[n]);
        hits[n].key = far.key;
        hits[n].distance = rv__unorder_f32(far.order);
    }
}

/* ---- one scan: a group of queries over the rows ---- */

typedef struct rv__flat_scan {
    const rv__store *store;
    const rv_filter *filter;
    rv_isa isa;
    int ranged; /* only distances up to radius count                          */
    float radius;
    size_t k, group;              /* k: most that are kept, may be 0; group: queries of a group */
    size_t block, grain, section; /* rows of a block, of a piece of work, between two polls   */
    size_t lanes, query_bytes;
    size_t at_distance, at_ids, at_near, at_count, lane_bytes; /* layout of a lane's scratch  */
    unsigned char *memory;        /* [lanes * lane_bytes]                                       */
    const unsigned char *queries; /* a batch: [n_queries] vectors, and where results go       */
    size_t n_queries;
    rv_hit *hits; /* [n_queries, hits_stride]                                   */
    size_t hits_stride;
    size_t *n_hits;
} rv__flat_scan;

static void *rv__flat_lane(const rv__flat_scan *scan, size_t lane, size_t at)
{
    return scan->memory + lane * scan->lane_bytes + at;
}

static void *rv__flat_query(const rv__flat_scan *scan, size_t lane, size_t q)
{
    return rv__flat_lane(scan, lane, q * scan->query_bytes);
}

static rv__flat_near *rv__flat_heap(const rv__flat_scan *scan, size_t lane, size_t q)
{
    return (rv__flat_near *)rv__flat_lane(scan, lane, scan->at_near) + q * scan->k;
}

/* Two counts per query: items in the heap, rows within the radius. */
static size_t *rv__flat_count(const rv__flat_scan *scan, size_t lane, size_t q)
{
    return (size_t *)rv__flat_lane(scan, lane, scan->at_count) + 2 * q;
}

/* Offers measured rows. ids NULL: row i is slot first + i. */
static void rv__flat_collect(const rv__flat_scan *scan, size_t lane, size_t q,
                             const float *distance, const uint32_t *ids, size_t first, size_t n,
                             int check_live)
{
    rv__flat_near *heap = rv__flat_heap(scan, lane, q), item;
    size_t *count = rv__flat_count(scan, lane, q);
    uint32_t top = scan->ranged ? rv__flat_order(scan->radius) : RV__FLAT_NAN;
    float bar;
    if (!scan->ranged && *count == scan->k) top = heap[0].order;
    bar = rv__unorder_f32(top);
    for (size_t i = 0; i < n; i++) {
        /* Where the bar is a number, this is the whole cost of nearly every row. */
        if (top != RV__FLAT_NAN && !(distance[i] <= bar)) continue;
        item.order = rv__flat_order(distance[i]);
        if (item.order > top) continue;
        item.slot = ids ? ids[i] : (uint32_t)(first + i);
        if (check_live && !rv__store_live(scan->store, item.slot)) continue;
        item.key = rv__store_key(scan->store, item.slot);
        count[1]++;
        if (scan->k == 0) continue;
        rv__flat_offer(heap, count, scan->k, item);
        if (!scan->ranged && *count == scan->k) {
            top = heap[0].order;
            bar = rv__unorder_f32(top);
        }
    }
}

/* The rows of a block that may be returned. */
static size_t rv__flat_select(const rv__flat_scan *scan, size_t begin, size_t end, uint32_t *ids)
{
    size_t n = 0;
    for (size_t i = begin; i < end; i++) {
        uint32_t slot = (uint32_t)i;
        ids[n] = slot;
        n += (size_t)(rv__store_live(scan->store, slot) &&
                      rv__filter_pass(scan->filter, rv__store_key(scan->store, slot)));
    }
    return n;
}

/* Rows begin..end-1 for the first n_queries queries of a lane; begin is a multiple of the block. */
static void rv__flat_rows(const rv__flat_scan *scan, size_t lane, size_t n_queries, size_t begin,
                          size_t end)
{
    const rv__store *s = scan->store;
    float *distance = (float *)rv__flat_lane(scan, lane, scan->at_distance);
    uint32_t *list = (uint32_t *)rv__flat_lane(scan, lane, scan->at_ids);
    int selects = scan->filter != NULL || s->n_removed > s->n / 8;
    for (size_t at = begin; at < end; at += scan->block) {
        size_t whole = end - at < scan->block ? end - at : scan->block, n = whole;
        const uint32_t *ids = NULL;
        if (selects) {
            n = rv__flat_select(scan, at, at + whole, list);
            if (n < whole) ids = list;
        }
        for (size_t q = 0; q < n_queries && n > 0; q++) {
            rv__store_scan(s, scan->isa, rv__flat_query(scan, lane, q), ids, at, n, distance);
            rv__flat_collect(scan, lane, q, distance, ids, at, n, !selects && s->n_removed);
        }
    }
}

static void rv__flat_start(const rv__flat_scan *scan, size_t lane, size_t first, size_t n)
{
    size_t bytes = rv__store_vector_bytes(scan->store);
    for (size_t q = 0; q < n; q++) {
        rv__store_prepare(scan->store, scan->queries + (first + q) * bytes,
                          rv__flat_query(scan, lane, q));
    }
    memset(rv__flat_count(scan, lane, 0), 0, 2 * n * sizeof(size_t));
}

static void rv__flat_deliver(const rv__flat_scan *scan, size_t lane, size_t first, size_t n)
{
    for (size_t q = 0; q < n; q++) {
        const size_t *count = rv__flat_count(scan, lane, q);
        rv_hit *hits = scan->k ? scan->hits + (first + q) * scan->hits_stride : NULL;
        rv__flat_finish(rv__flat_heap(scan, lane, q), count[0], hits);
        scan->n_hits[first + q] = scan->ranged ? count[1] : count[0];
    }
}

typedef struct rv__flat_rows_job {
    const rv__flat_scan *scan;
    size_t n_queries;
} rv__flat_rows_job;

static void rv__flat_rows_body(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__flat_rows_job *job = (const rv__flat_rows_job *)arg;
    rv__flat_rows(job->scan, lane, job->n_queries, begin, end);
}

/* One group, parallel over rows. */
static rv_status rv__flat_by_rows(rv_ctx *ctx, const rv__flat_scan *scan, size_t first, size_t n)
{
    rv__flat_rows_job job;
    rv_status status;
    job.scan = scan;
    job.n_queries = n;
    for (size_t lane = 0; lane < scan->lanes; lane++) rv__flat_start(scan, lane, first, n);
    status =
        rv__parallel_for(ctx, scan->store->n, scan->grain, scan->section, rv__flat_rows_body, &job);
    if (status) return status;
    for (size_t lane = 1; lane < scan->lanes; lane++) {
        for (size_t q = 0; q < n; q++) {
            size_t *into = rv__flat_count(scan, 0, q), *from = rv__flat_count(scan, lane, q);
            for (size_t i = 0; i < from[0]; i++) {
                rv__flat_offer(rv__flat_heap(scan, 0, q), into, scan->k,
                               rv__flat_heap(scan, lane, q)[i]);
            }
            into[1] += from[1];
        }
    }
    rv__flat_deliver(scan, 0, first, n);
    return RV_OK;
}

/* Groups begin..end-1 of a batch, each over all rows. */
static void rv__flat_groups_body(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__flat_scan *scan = (const rv__flat_scan *)arg;
    for (size_t g = begin; g < end; g++) {
        size_t first = g * scan->group, rest = scan->n_queries - first;
        size_t n = rest < scan->group ? rest : scan->group;
        rv__flat_start(scan, lane, first, n);
        rv__flat_rows(scan, lane, n, 0, scan->store->n);
        rv__flat_deliver(scan, lane, first, n);
    }
}

/* Sizes of blocks and pieces. Nothing here but the number of lanes depends on the workers. */
static void rv__flat_plan(rv_ctx *ctx, rv__flat_scan *scan)
{
    const rv__store *s = scan->store;
    size_t bytes = rv__store_vector_bytes(s), work, pieces;
    scan->isa = ctx ? ctx->isa : RV_ISA_BEST;
    scan->group = RV__FLAT_GROUP;
    while (scan->group > 1 &&
           (scan->group * bytes > RV__FLAT_CACHE || scan->group / 2 >= scan->n_queries ||
            scan->k > RV__FLAT_CACHE / scan->group)) {
        scan->group /= 2;
    }
    scan->block = RV__FLAT_CACHE / s->stride;
    if (scan->block > RV__FLAT_BLOCK_MAX) scan->block = RV__FLAT_BLOCK_MAX;
    if (scan->block < 16) scan->block = 16;
    scan->grain = scan->block * (1 + 2 * RV__FLAT_CACHE / (scan->block * s->stride));
    /* about a millisecond: 8 MiB of rows, or 2^18 elements through a caller's function */
    work = (s->custom ? (size_t)s->dim << 5 : s->stride + 32) * scan->group;
    scan->section = ((size_t)1 << 23) / work / scan->grain * scan->grain;
    if (scan->section == 0) scan->section = scan->grain;
    pieces = (s->n + scan->grain - 1) / scan->grain;
    scan->lanes = rv__lanes(ctx);
    if (scan->lanes > pieces) scan->lanes = pieces ? pieces : 1;
}

static rv_status rv__flat_run(rv_ctx *ctx, rv__flat_scan *scan)
{
    const rv__store *s = scan->store;
    const rv_alloc alloc = rv__allocator(ctx); /* the index's own may be in use by another thread */
    size_t groups, bytes;
    rv_status status = RV_OK;
    int by_groups;
    rv__flat_plan(ctx, scan);
    groups = scan->n_queries / scan->group + (scan->n_queries % scan->group != 0);
    by_groups = rv__lanes(ctx) > 1 && groups > 1 && (size_t)s->n * s->stride <= RV__FLAT_SMALL;
    if (by_groups) scan->lanes = groups < rv__lanes(ctx) ? groups : rv__lanes(ctx);
    scan->query_bytes = rv__store_query_bytes(s);
    scan->at_distance = scan->group * scan->query_bytes;
    scan->at_ids = scan->at_distance + rv__round_up(scan->block * sizeof(float), RV__LINE);
    scan->at_count = scan->at_ids + rv__round_up(scan->block * sizeof(uint32_t), RV__LINE);
    scan->at_near = scan->at_count + rv__round_up(2 * scan->group * sizeof(size_t), RV__LINE);
    bytes = rv__mul(rv__mul(scan->group, scan->k), sizeof(rv__flat_near));
    scan->lane_bytes = rv__round_up(rv__add(scan->at_near, bytes), RV__LINE);
    scan->memory = (unsigned char *)rv__get(&alloc, scan->lanes, scan->lane_bytes);
    if (!scan->memory) return rv__no_memory(ctx, rv__mul(scan->lanes, scan->lane_bytes));
    if (by_groups) {
        size_t section = 1 + 8 * RV__FLAT_SMALL / scan->group / (1 + (size_t)s->n * s->stride);
        status = rv__parallel_for(ctx, groups, 1, section, rv__flat_groups_body, scan);
    } else {
        for (size_t first = 0; first < scan->n_queries && !status; first += scan->group) {
            size_t rest = scan->n_queries - first;
            status = rv__flat_by_rows(ctx, scan, first, rest < scan->group ? rest : scan->group);
        }
    }
    rv__put(&alloc, scan->memory, scan->lanes, scan->lane_bytes);
    return status;
}

/* ---- search ---- */

static rv_status rv__flat_null(rv_ctx *ctx, const char *what)
{
    return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
}

static rv_status rv__flat_query_all(rv_ctx *ctx, const rv_flat *index, const void *queries,
                                    size_t n_queries, size_t k, const rv_filter *filter,
                                    const float *radius, rv_hit *hits, size_t *n_hits)
{
    const rv__store *s;
    rv__flat_scan scan;
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    if (!n_hits) return rv__flat_null(ctx, "n_hits");
    if (!hits && k) return rv__flat_null(ctx, "hits");
    s = &index->store;
    status = rv__store_check_many(ctx, s, queries, n_queries, n_queries == 1 ? "query" : "queries");
    if (status) return status;
    memset(&scan, 0, sizeof scan);
    scan.store = s;
    scan.filter = filter && (filter->accept || filter->bits) ? filter : NULL;
    scan.ranged = radius != NULL;
    scan.radius = radius ? *radius : 0.0f;
    scan.k = k < s->n - s->n_removed ? k : s->n - s->n_removed;
    scan.queries = (const unsigned char *)queries;
    scan.n_queries = n_queries;
    scan.hits = hits;
    scan.hits_stride = k;
    scan.n_hits = n_hits;
    if (scan.k == 0 && !radius) {
        for (size_t q = 0; q < n_queries; q++) n_hits[q] = 0;
        return rv__ok(ctx);
    }
    status = rv__flat_run(ctx, &scan);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_search(rv_ctx *ctx, const rv_flat *index, const void *query, size_t k,
                                const rv_filter *filter, rv_hit *hits, size_t *n_hits)
{
    return rv__flat_query_all(ctx, index, query, 1, k, filter, NULL, hits, n_hits);
}

RV_API rv_status rv_flat_range(rv_ctx *ctx, const rv_flat *index, const void *query, float radius,
                               const rv_filter *filter, rv_hit *hits, size_t cap, size_t *n_hits)
{
    if (rv__flat_order(radius) == RV__FLAT_NAN) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "radius is NaN, it must be a number");
    }
    return rv__flat_query_all(ctx, index, query, 1, cap, filter, &radius, hits, n_hits);
}

RV_API rv_status rv_flat_search_batch(rv_ctx *ctx, const rv_flat *index, const void *queries,
                                      size_t n_queries, size_t k, const rv_filter *filter,
                                      rv_hit *hits, size_t *n_hits)
{
    if (index && n_queries == 0) return rv__ok(ctx);
    return rv__flat_query_all(ctx, index, queries, n_queries, k, filter, NULL, hits, n_hits);
}

/* ---- the rest ---- */

static rv_status rv__flat_place(rv_ctx *ctx, const rv__store *store, rv_flat **out)
{
    rv_flat *index = (rv_flat *)rv__get(&store->alloc, 1, sizeof(rv_flat));
    if (!index) return rv__no_memory(ctx, sizeof(rv_flat));
    index->store = *store;
    *out = index;
    return rv__ok(ctx);
}

RV_API rv_status rv_flat_create(rv_ctx *ctx, const rv_flat_config *config, rv_flat **out)
{
    rv__store_spec spec;
    rv__store store;
    rv_status status;
    if (!config) return rv__flat_null(ctx, "config");
    if (!out) return rv__flat_null(ctx, "out");
    memset(&spec, 0, sizeof spec);
    spec.dim = config->dim;
    spec.metric = config->metric;
    spec.type = config->type;
    spec.custom = config->custom;
    spec.custom_user = config->custom_user;
    spec.capacity = config->capacity;
    status = rv__store_init(ctx, &store, &spec);
    if (status) return status;
    status = rv__flat_place(ctx, &store, out);
    if (status) rv__store_free(&store);
    return status;
}

RV_API void rv_flat_destroy(rv_flat *index)
{
    rv_alloc alloc;
    if (!index) return;
    alloc = index->store.alloc;
    rv__store_free(&index->store);
    rv__put(&alloc, index, 1, sizeof(rv_flat));
}

RV_API rv_status rv_flat_add(rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector)
{
    uint32_t slot;
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_add(ctx, &index->store, key, vector, &slot);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_build(rv_ctx *ctx, rv_flat *index, const uint64_t *keys,
                               const void *vectors, size_t n)
{
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_append(ctx, &index->store, keys, vectors, n);
    return status ? status : rv__ok(ctx);
}

/* Slot of a key that must be there. */
static rv_status rv__flat_find(rv_ctx *ctx, const rv_flat *index, uint64_t key, uint32_t *slot)
{
    if (!index) return rv__flat_null(ctx, "index");
    *slot = rv__store_find(&index->store, key);
    if (*slot == RV__NO_SLOT) return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "there is no key %l", key);
    return RV_OK;
}

RV_API rv_status rv_flat_update(rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector)
{
    uint32_t slot;
    rv_status status = rv__flat_find(ctx, index, key, &slot);
    if (!status) status = rv__store_replace(ctx, &index->store, slot, vector);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_upsert(rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector)
{
    if (rv_flat_contains(index, key)) return rv_flat_update(ctx, index, key, vector);
    return rv_flat_add(ctx, index, key, vector);
}

RV_API rv_status rv_flat_remove(rv_ctx *ctx, rv_flat *index, uint64_t key)
{
    uint32_t slot;
    rv_status status = rv__flat_find(ctx, index, key, &slot);
    if (!status) status = rv__store_remove(ctx, &index->store, slot);
    return status ? status : rv__ok(ctx);
}

RV_API int rv_flat_contains(const rv_flat *index, uint64_t key)
{
    return index && rv__store_find(&index->store, key) != RV__NO_SLOT;
}

RV_API rv_status rv_flat_get(rv_ctx *ctx, const rv_flat *index, uint64_t key, void *out)
{
    uint32_t slot;
    rv_status status = rv__flat_find(ctx, index, key, &slot);
    if (status) return status;
    if (!out) return rv__flat_null(ctx, "out");
    rv__store_decode(&index->store, slot, out);
    return rv__ok(ctx);
}

RV_API size_t rv_flat_count(const rv_flat *index)
{
    return index ? index->store.n - index->store.n_removed : 0;
}

RV_API size_t rv_flat_bytes(const rv_flat *index)
{
    return index ? sizeof(rv_flat) + rv__store_bytes(&index->store) : 0;
}

RV_API rv_status rv_flat_reserve(rv_ctx *ctx, rv_flat *index, size_t capacity)
{
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_reserve(ctx, &index->store, capacity);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_compact(rv_ctx *ctx, rv_flat *index)
{
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_compact(ctx, &index->store, NULL);
    return status ? status : rv__ok(ctx);
}

/* ---- images: kind FLAT, the sections of the rows and no others ---- */

RV_API rv_status rv_flat_save(rv_ctx *ctx, const rv_flat *index, void *image, size_t cap,
                              size_t *bytes)
{
    rv__image_writer w;
    if (!index) return rv__flat_null(ctx, "index");
    if (!bytes) return rv__flat_null(ctx, "bytes");
    rv__image_begin(ctx, &w, "FLAT", image, cap);
    (void)rv__store_save(&w, &index->store);
    return rv__image_end(ctx, &w, bytes);
}

static rv_status rv__flat_open(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                               void *custom_user, int view, rv_flat **out)
{
    rv__image_reader r;
    rv__store store;
    rv_status status;
    if (!out) return rv__flat_null(ctx, "out");
    status = rv__image_open(ctx, &r, image, bytes, "FLAT");
    if (!status) status = rv__store_load(ctx, &r, view, custom, custom_user, &store);
    if (status) return status;
    if (store.no_rows) {
        status = rv__fail(ctx, RV_ERR_FORMAT, 0, "the image of a flat index has no rows");
    } else {
        status = rv__flat_place(ctx, &store, out);
    }
    if (status) rv__store_free(&store);
    return status;
}

RV_API rv_status rv_flat_load(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_flat **out)
{
    return rv__flat_open(ctx, image, bytes, custom, custom_user, 0, out);
}

RV_API rv_status rv_flat_view(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_flat **out)
{
    return rv__flat_open(ctx, image, bytes, custom, custom_user, 1, out);
}

#undef RV__FLAT_GROUP
#undef RV__FLAT_BLOCK_MAX
#undef RV__FLAT_CACHE
#undef RV__FLAT_SMALL
#undef RV__FLAT_NAN
#endif /* RV_FLAT_C */
/* ==== src/hnsw.c ============================================================================== */
#ifndef RV_HNSW_C
#define RV_HNSW_C

/* The graph itself: layers, levels, the walk's distances. Search, build, edits and images are in the
   parts that follow.

   Layer 0 holds every row: `degree` = 2 m links each, the list ends at the first RV__NO_SLOT. A node
   is the row's slot. The layers above hold a thirty-second of the layer below them, chosen by a hash
   of the slot, and are small arrays of their own: node i of layer l stands for slot[i], is node
   below[i] of layer l - 1, and has m links to nodes of its layer. With 1/32 instead of the paper's
   1/m the upper layers cost 1 % of the memory and their greedy descent as many hops.

   Source: Malkov, Yashunin, Efficient and robust approximate nearest neighbor search using HNSW
   graphs, 2016. */

#define RV__HNSW_LEVELS 7u          /* 32^6 is 2^30                                               */
#define RV__HNSW_SPREAD 5u          /* log2 of the ratio between layers                           */

typedef struct rv__hnsw_layer {
    uint32_t n, capacity;
    uint32_t *slot, *below;         /* [capacity]; slot RV__NO_SLOT: a free node                  */
    uint32_t *links;                /* [capacity, m]                                              */
} rv__hnsw_layer;

struct rv_hnsw {
    rv__store store;
    rv__code code;                  /* kind NONE until learned                                    */
    rv_hnsw_codes wanted;
    uint32_t code_bytes;
    int drop_vectors;
    uint32_t m, degree, ef_construction;
    uint64_t seed;                  /* of the levels                                              */
    uint32_t *links;                /* [capacity, degree]                                         */
    uint64_t *held;                 /* [(capacity + 63) / 64] removed nodes that carry the walk   */
    size_t capacity;
    int code_tried;                 /* learning was tried as the index grew                       */
    rv__hnsw_layer layer[RV__HNSW_LEVELS]; /* [0] is not used                                     */
    uint32_t n_levels;              /* layers in use, layer 0 included; 0 when empty              */
    uint32_t entry;                 /* node of the top layer where every walk starts              */
};

/* Layers above 0 that a slot belongs to: a geometric law, so that no level need be stored. */
static uint32_t rv__hnsw_level(const rv_hnsw *index, uint32_t slot)
{
    uint64_t hash = rv__mix(index->seed ^ slot);
    uint32_t level = 0;
    while (level + 1 < RV__HNSW_LEVELS && (hash & ((1u << RV__HNSW_SPREAD) - 1u)) == 0) {
        hash >>= RV__HNSW_SPREAD;
        level++;
    }
    return level;
}

static size_t rv__hnsw_layer_bytes(const rv_hnsw *index, const rv__hnsw_layer *layer)
{
    return (size_t)layer->capacity * (2u + index->m) * sizeof(uint32_t);
}

static void rv__hnsw_layer_free(const rv_hnsw *index, rv__hnsw_layer *layer)
{
    rv__put(&index->store.alloc, layer->slot, layer->capacity, sizeof(uint32_t));
    rv__put(&index->store.alloc, layer->below, layer->capacity, sizeof(uint32_t));
    rv__put(&index->store.alloc, layer->links, (size_t)layer->capacity * index->m, sizeof(uint32_t));
    memset(layer, 0, sizeof *layer);
}

static rv_status rv__hnsw_layer_reserve(rv_ctx *ctx, const rv_hnsw *index, rv__hnsw_layer *layer,
                                        uint32_t capacity)
{
    const rv_alloc *alloc = &index->store.alloc;
    uint32_t *slot, *below, *links;
    if (capacity <= layer->capacity) return RV_OK;
    slot = (uint32_t *)rv__get(alloc, capacity, sizeof(uint32_t));
    below = (uint32_t *)rv__get(alloc, capacity, sizeof(uint32_t));
    links = (uint32_t *)rv__get(alloc, (size_t)capacity * index->m, sizeof(uint32_t));
    if (!slot || !below || !links) {
        rv__put(alloc, slot, capacity, sizeof(uint32_t));
        rv__put(alloc, below, capacity, sizeof(uint32_t));
        rv__put(alloc, links, (size_t)capacity * index->m, sizeof(uint32_t));
        return rv__no_memory(ctx, (size_t)capacity * (2u + index->m) * sizeof(uint32_t));
    }
    if (layer->n) {
        memcpy(slot, layer->slot, layer->n * sizeof(uint32_t));
        memcpy(below, layer->below, layer->n * sizeof(uint32_t));
        memcpy(links, layer->links, (size_t)layer->n * index->m * sizeof(uint32_t));
    }
    rv__put(alloc, layer->slot, layer->capacity, sizeof(uint32_t));
    rv__put(alloc, layer->below, layer->capacity, sizeof(uint32_t));
    rv__put(alloc, layer->links, (size_t)layer->capacity * index->m, sizeof(uint32_t));
    layer->slot = slot;
    layer->below = below;
    layer->links = links;
    layer->capacity = capacity;
    return RV_OK;
}

static int rv__hnsw_codes_fit(rv_metric metric, rv_dtype type)
{
    return type != RV_DTYPE_U1 &&
           (metric == RV_METRIC_L2 || metric == RV_METRIC_IP || metric == RV_METRIC_COSINE);
}

static rv_status rv__hnsw_check_config(rv_ctx *ctx, const rv_hnsw_config *config)
{
    uint32_t m = config->m ? config->m : 16u;
    if (m < 2 || m > 100) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "m is %z, must be 2..100", (size_t)m);
    }
    if (config->ef_construction && (config->ef_construction < m || config->ef_construction > 4096)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "ef_construction is %z, must be m = %z..4096",
                        (size_t)config->ef_construction, (size_t)m);
    }
    if ((int)config->codes < 0 || (int)config->codes > (int)RV_HNSW_CODES_RABITQ) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "codes is %d, must be 0..5", (int)config->codes);
    }
    if (config->codes > RV_HNSW_CODES_NONE && !rv__hnsw_codes_fit(config->metric, config->type)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "codes need metric l2, ip or cosine and a type other than u1, got %s over %s",
                        rv_metric_name(config->metric), rv_dtype_name(config->type));
    }
    if (config->code_bytes % 64 || config->code_bytes > 4096) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "code_bytes is %z, must be 0 or a multiple of 64, 64..4096",
                        (size_t)config->code_bytes);
    }
    if (config->drop_vectors && (config->codes == RV_HNSW_CODES_NONE ||
                                 !rv__hnsw_codes_fit(config->metric, config->type))) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "drop_vectors is set but there are no codes to keep");
    }
    if (config->capacity >= 0x7FFFFFFFu) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "capacity is %z, must be below 2147483647", config->capacity);
    }
    return RV_OK;
}

RV_API rv_status rv_hnsw_create(rv_ctx *ctx, const rv_hnsw_config *config, rv_hnsw **out)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__store_spec spec;
    rv_hnsw *index;
    rv_status status;
    if (!config || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "config and out must not be NULL");
    status = rv__hnsw_check_config(ctx, config);
    if (status) return status;
    index = (rv_hnsw *)rv__get_zero(&alloc, 1, sizeof *index);
    if (!index) return rv__no_memory(ctx, sizeof *index);
    spec.dim = config->dim;
    spec.metric = config->metric;
    spec.type = config->type;
    spec.custom = config->custom;
    spec.custom_user = config->custom_user;
    spec.capacity = config->capacity;
    spec.no_rows = 0;
    status = rv__store_init(ctx, &index->store, &spec);
    if (status) {
        rv__put(&alloc, index, 1, sizeof *index);
        return status;
    }
    index->wanted = config->codes;
    if (index->wanted == RV_HNSW_CODES_AUTO) {
        int fit = rv__hnsw_codes_fit(config->metric, config->type);
        index->wanted = fit && config->dim > RV__CODE_DIM_MIN ? RV_HNSW_CODES_PCA : RV_HNSW_CODES_NONE;
    }
    index->code_bytes = config->code_bytes;
    index->drop_vectors = config->drop_vectors != 0;
    index->m = config->m ? config->m : 16u;
    index->degree = 2u * index->m;
    index->ef_construction = config->ef_construction ? config->ef_construction : 128u;
    if (index->ef_construction < index->m) index->ef_construction = index->m;
    index->seed = rv__seed(ctx);
    index->code.alloc = alloc;
    *out = index;
    if (config->capacity) {
        status = rv_hnsw_reserve(ctx, index, config->capacity);
        if (status) {
            *out = NULL;
            rv_hnsw_destroy(index);
            return status;
        }
    }
    return rv__ok(ctx);
}

RV_API void rv_hnsw_destroy(rv_hnsw *index)
{
    rv_alloc alloc;
    if (!index) return;
    alloc = index->store.alloc;
    rv__code_free(&index->code);
    if (!index->store.viewed) {
        rv__put(&alloc, index->links, index->capacity * index->degree, sizeof(uint32_t));
        rv__put(&alloc, index->held, (index->capacity + 63) / 64, sizeof(uint64_t));
        for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) rv__hnsw_layer_free(index, &index->layer[l]);
    }
    rv__store_free(&index->store);
    rv__put(&alloc, index, 1, sizeof *index);
}

/* Room for so many rows in the store, the codes and layer 0. Nothing is lost on failure. */
static rv_status rv__hnsw_grow(rv_ctx *ctx, rv_hnsw *index, size_t capacity)
{
    const rv_alloc *alloc = &index->store.alloc;
    size_t old = index->capacity, old_words = (old + 63) / 64, words = (capacity + 63) / 64;
    rv_status status;
    uint32_t *links;
    uint64_t *held;
    if (capacity >= 0x7FFFFFFFu) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "%z rows asked for, an index holds below 2147483647", capacity);
    }
    status = rv__store_reserve(ctx, &index->store, capacity);
    if (!status && index->code.kind != RV__CODE_NONE) status = rv__code_reserve(ctx, &index->code, capacity);
    if (status || capacity <= old) return status;
    held = (uint64_t *)rv__get_zero(alloc, words, sizeof(uint64_t));
    if (!held) return rv__no_memory(ctx, words * sizeof(uint64_t));
    links = (uint32_t *)rv__regrow(alloc, index->links, old * index->degree, capacity * index->degree, sizeof(uint32_t));
    if (!links) {
        rv__put(alloc, held, words, sizeof(uint64_t));
        return rv__no_memory(ctx, capacity * index->degree * sizeof(uint32_t));
    }
    memset(links + old * index->degree, 0xFF, (capacity - old) * index->degree * sizeof(uint32_t));
    if (old) memcpy(held, index->held, old_words * sizeof(uint64_t));
    rv__put(alloc, index->held, old_words, sizeof(uint64_t));
    index->links = links;
    index->held = held;
    index->store.held = held;
    index->capacity = capacity;
    return RV_OK;
}

static rv_status rv__hnsw_writable(rv_ctx *ctx, const rv_hnsw *index)
{
    if (!index) return rv__fail(ctx, RV_ERR_ARG, 0, "index must not be NULL");
    if (index->store.viewed) {
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0, "a viewed index is read-only; load the image to change it");
    }
    return RV_OK;
}

RV_API rv_status rv_hnsw_reserve(rv_ctx *ctx, rv_hnsw *index, size_t capacity)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    if (!status) status = rv__hnsw_grow(ctx, index, capacity);
    return status ? status : rv__ok(ctx);
}

RV_API size_t rv_hnsw_count(const rv_hnsw *index)
{
    return index ? index->store.n - index->store.n_removed : 0;
}

RV_API int rv_hnsw_contains(const rv_hnsw *index, uint64_t key)
{
    return index && rv__store_find(&index->store, key) != RV__NO_SLOT;
}

/* ---- the walk's distances ---- */

/* A query in both forms. The code form is there when the index has codes. */
typedef struct rv__hnsw_query {
    const rv_hnsw *index;
    const rv__kernels *kernels;
    rv_isa isa;
    const void *exact;              /* for rv__store_scan                                         */
    rv__code_query code;
} rv__hnsw_query;

static int rv__hnsw_coded(const rv_hnsw *index)
{
    return index->code.kind != RV__CODE_NONE;
}

/* Bytes behind a rv__hnsw_query: the exact form, the elements, scratch to make them. */
static size_t rv__hnsw_query_bytes(const rv_hnsw *index)
{
    size_t bytes = rv__round_up(rv__store_query_bytes(&index->store), 64);
    if (rv__hnsw_coded(index)) {
        bytes += rv__round_up(rv__code_elements(&index->code), 64) +
                 rv__round_up(rv__code_scratch(&index->code) * sizeof(float), 64);
    }
    return bytes;
}

/* Readies a query whose exact form is already at the start of memory. */
static void rv__hnsw_query_code(rv__hnsw_query *query, void *memory)
{
    const rv_hnsw *index = query->index;
    unsigned char *at = (unsigned char *)memory + rv__round_up(rv__store_query_bytes(&index->store), 64);
    query->exact = memory;
    if (rv__hnsw_coded(index)) {
        size_t elements = rv__round_up(rv__code_elements(&index->code), 64);
        rv__code_prepare(&index->code, (const float *)memory, (int8_t *)at,
                         (float *)(void *)(at + elements), &query->code);
    }
}

/* The row of a slot as a query; with vectors given up, what its code says. */
static void rv__hnsw_query_row(rv__hnsw_query *query, uint32_t slot, void *memory)
{
    const rv_hnsw *index = query->index;
    if (!index->store.no_rows) {
        rv__store_prepare_row(&index->store, slot, memory);
    } else {
        unsigned char *at = (unsigned char *)memory + rv__round_up(rv__store_query_bytes(&index->store), 64) +
                            rv__round_up(rv__code_elements(&index->code), 64);
        rv__code_decode(&index->code, slot, (float *)memory, (float *)(void *)at);
    }
    rv__hnsw_query_code(query, memory);
}

static void rv__hnsw_query_init(rv__hnsw_query *query, const rv_ctx *ctx, const rv_hnsw *index)
{
    query->index = index;
    query->isa = ctx ? ctx->isa : RV_ISA_BEST;
    query->kernels = rv__kernels_for(query->isa);
    query->exact = NULL;
}

static void rv__hnsw_distances(const rv__hnsw_query *query, const uint32_t *ids, size_t n, float *out)
{
    const rv_hnsw *index = query->index;
    if (rv__hnsw_coded(index)) {
        rv__code_scan(&index->code, query->kernels, &query->code, ids, n, out);
    } else {
        rv__store_scan(&index->store, query->isa, query->exact, ids, 0, n, out);
    }
}

/* Distance and node in one integer that sorts by both; the lowest bit marks an expanded node. */
RV__INLINE uint64_t rv__hnsw_key(float distance, uint32_t node)
{
    return (uint64_t)rv__order_f32(distance) << 32 | (uint64_t)node << 1;
}

RV__INLINE uint32_t rv__hnsw_node(uint64_t key)
{
    return (uint32_t)key >> 1;
}

RV__INLINE float rv__hnsw_key_distance(uint64_t key)
{
    return rv__unorder_f32((uint32_t)(key >> 32));
}

#endif /* RV_HNSW_C */
/* ==== src/hnsw_search.c ======================================================================= */
#ifndef RV_HNSW_SEARCH_C
#define RV_HNSW_SEARCH_C

/* The walk: greedy descent through the upper layers, a beam over layer 0.

   The beam is one array sorted by distance; what has been expanded is marked in place, so the walk is
   "expand the first unmarked entry until there is none". Two entries are expanded at a time: their
   link lists make one gather of up to 4 m records, whose cache lines are all asked for before the
   first is used, because the walk is bound by the latency of lines, not by arithmetic.

   Visited nodes are remembered in a small direct-mapped table instead of a bit per row. A forgotten
   node is estimated again, gives the same key, and is recognised when it would enter the beam; a
   node that once was too far is too far again. So the result is that of an exact table. */

#define RV__WALK_WIDTH 2u           /* entries expanded at a time                                 */
#define RV__WALK_STARTS 8u          /* nodes of layer 1 the beam begins with                      */

typedef struct rv__walk {
    uint64_t *beam;                 /* [ef + 1] sorted keys                                       */
    size_t n, ef;
    uint32_t *seen;                 /* [seen_mask + 1] direct-mapped, RV__NO_SLOT = empty         */
    uint32_t seen_mask;
    uint32_t *ids;                  /* [width * degree]                                           */
    float *distance;                /* [width * degree]                                           */
    uint64_t start[RV__WALK_STARTS]; /* keys of the nearest met on layer 1, sorted                */
    size_t n_starts;
    uint64_t hops, distances;
} rv__walk;

static size_t rv__walk_seen(size_t ef)
{
    size_t n = 1024;
    while (n < ef * 48 && n < 65536) n *= 2;
    return n;
}

static size_t rv__walk_bytes(const rv_hnsw *index, size_t ef)
{
    return rv__round_up((ef + 1) * sizeof(uint64_t), 64) + rv__walk_seen(ef) * sizeof(uint32_t) +
           2 * rv__round_up(RV__WALK_WIDTH * index->degree * sizeof(uint32_t), 64);
}

static void rv__walk_init(rv__walk *walk, const rv_hnsw *index, size_t ef, void *memory)
{
    unsigned char *at = (unsigned char *)memory;
    size_t seen = rv__walk_seen(ef), list = rv__round_up(RV__WALK_WIDTH * index->degree * sizeof(uint32_t), 64);
    walk->beam = (uint64_t *)(void *)at;
    at += rv__round_up((ef + 1) * sizeof(uint64_t), 64);
    walk->seen = (uint32_t *)(void *)at;
    at += seen * sizeof(uint32_t);
    walk->ids = (uint32_t *)(void *)at;
    walk->distance = (float *)(void *)(at + list);
    walk->seen_mask = (uint32_t)seen - 1u;
    walk->n = 0;
    walk->ef = ef;
    walk->n_starts = 0;
    walk->hops = walk->distances = 0;
}

RV__INLINE int rv__walk_visit(rv__walk *walk, uint32_t id)
{
    uint32_t *cell = &walk->seen[(id * 0x9E3779B1u >> 7) & walk->seen_mask];
    if (*cell == id) return 0;
    *cell = id;
    return 1;
}

/* Puts a key into the sorted beam; returns its position, or ef when it does not enter. */
RV__INLINE size_t rv__walk_insert(rv__walk *walk, uint64_t key)
{
    uint64_t *beam = walk->beam;
    size_t low = 0, high = walk->n;
    if (walk->n == walk->ef && key >= beam[walk->n - 1]) return walk->ef;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (beam[middle] < key) low = middle + 1;
        else high = middle;
    }
    /* equal but for the mark: the node was forgotten by the table and met again */
    if (low < walk->n && (beam[low] | 1u) == (key | 1u)) return walk->ef;
    if (walk->n < walk->ef) walk->n++;
    memmove(beam + low + 1, beam + low, (walk->n - 1 - low) * sizeof *beam);
    beam[low] = key;
    return low;
}

static uint32_t rv__hnsw_entry_slot(const rv_hnsw *index)
{
    return index->n_levels > 1 ? index->layer[index->n_levels - 1].slot[index->entry] : index->entry;
}

static void rv__walk_note(rv__walk *walk, uint64_t key)
{
    uint64_t *start = walk->start;
    size_t at = walk->n_starts;
    if (at == RV__WALK_STARTS && key >= start[at - 1]) return;
    while (at > 0 && start[at - 1] > key) at--;
    if (at > 0 && start[at - 1] == key) return;
    if (walk->n_starts < RV__WALK_STARTS) walk->n_starts++;
    memmove(start + at + 1, start + at, (walk->n_starts - 1 - at) * sizeof *start);
    start[at] = key;
}

/* The node of layer 0 that the greedy descent ends at, and its distance. */
static uint32_t rv__hnsw_descend(const rv__hnsw_query *query, rv__walk *walk, float *distance)
{
    const rv_hnsw *index = query->index;
    uint32_t node = index->entry, slot;
    float best;
    walk->n_starts = 0;
    if (index->n_levels <= 1) {
        slot = node;
        rv__hnsw_distances(query, &slot, 1, distance);
        return node;
    }
    slot = rv__hnsw_entry_slot(index);
    rv__hnsw_distances(query, &slot, 1, &best);
    walk->distances++;
    for (uint32_t l = index->n_levels - 1; l > 0; l--) {
        const rv__hnsw_layer *layer = &index->layer[l];
        for (;;) {
            const uint32_t *links = layer->links + (size_t)node * index->m;
            uint32_t next = node, n = 0;
            for (; n < index->m && links[n] != RV__NO_SLOT; n++) walk->ids[n] = layer->slot[links[n]];
            rv__hnsw_distances(query, walk->ids, n, walk->distance);
            walk->distances += n;
            walk->hops++;
            for (uint32_t i = 0; i < n; i++) {
                if (l == 1) rv__walk_note(walk, rv__hnsw_key(walk->distance[i], walk->ids[i]));
                if (walk->distance[i] < best) {
                    best = walk->distance[i];
                    next = links[i];
                }
            }
            if (next == node) break;
            node = next;
        }
        node = layer->below[node];
    }
    *distance = best;
    return node;
}

/* Starts the beam at a node of layer 0 and at what the descent met on layer 1: where the rows fall
   apart into far clusters, a greedy descent may end in the wrong one. */
static void rv__walk_start(rv__walk *walk, uint32_t node, float distance)
{
    memset(walk->seen, 0xFF, ((size_t)walk->seen_mask + 1u) * sizeof(uint32_t));
    (void)rv__walk_visit(walk, node);
    walk->beam[0] = rv__hnsw_key(distance, node);
    walk->n = 1;
    for (size_t i = 0; i < walk->n_starts; i++) {
        if (rv__walk_visit(walk, rv__hnsw_node(walk->start[i]))) (void)rv__walk_insert(walk, walk->start[i]);
    }
}

/* Collects the unseen links of a node behind ids[n]; returns the new count. */
RV__INLINE size_t rv__walk_collect(const rv_hnsw *index, rv__walk *walk, uint32_t node, size_t n)
{
    const uint32_t *links = index->links + (size_t)node * index->degree;
    for (uint32_t i = 0; i < index->degree && links[i] != RV__NO_SLOT; i++) {
        uint32_t id = links[i];
        if (!rv__walk_visit(walk, id)) continue;
        if (index->code.records) {
            const unsigned char *record = index->code.records + (size_t)id * index->code.record;
            RV__PREFETCH(record);
            RV__PREFETCH(record + 64);
        }
        walk->ids[n++] = id;
    }
    return n;
}

/* Expands until every entry of the beam is expanded. Polls every 1024 hops. */
static rv_status rv__walk_run(rv_ctx *ctx, const rv__hnsw_query *query, rv__walk *walk)
{
    const rv_hnsw *index = query->index;
    size_t at = 0;
    uint64_t next_poll = walk->hops + 1024;
    while (at < walk->n) {
        size_t n = 0, first = walk->n, taken = 0;
        for (size_t i = at; i < walk->n && taken < RV__WALK_WIDTH; i++) {
            if (walk->beam[i] & 1u) continue;
            walk->beam[i] |= 1u;
            n = rv__walk_collect(index, walk, rv__hnsw_node(walk->beam[i]), n);
            taken++;
            at = i + 1;
        }
        if (!taken) break;
        walk->hops += taken;
        walk->distances += n;
        rv__hnsw_distances(query, walk->ids, n, walk->distance);
        for (size_t i = 0; i < n; i++) {
            size_t place;
            if (walk->n == walk->ef && walk->distance[i] > rv__hnsw_key_distance(walk->beam[walk->n - 1])) continue;
            place = rv__walk_insert(walk, rv__hnsw_key(walk->distance[i], walk->ids[i]));
            if (place < walk->ef) {
                const uint32_t *links = index->links + (size_t)walk->ids[i] * index->degree;
                RV__PREFETCH(links);
                RV__PREFETCH(links + 16);
                if (place < first) first = place;
            }
        }
        if (first < at) at = first;
        if (walk->hops >= next_poll) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            next_poll = walk->hops + 1024;
        }
    }
    return RV_OK;
}

#endif /* RV_HNSW_SEARCH_C */
/* ==== src/hnsw_build.c ======================================================================== */
#ifndef RV_HNSW_BUILD_C
#define RV_HNSW_BUILD_C

/* Batch construction of one layer.

   1. Overlapping partition: sampled leaders, every node goes to its nearest few; groups are split
      again until a leaf holds at most RV__LEAF nodes. A node ends in about 24 leaves.
   2. In a leaf all distances at once, by an integer matrix product over byte codes; the best few of
      every row go into the node's pool of its nearest so far.
   3. The pool is thinned by the relative neighbourhood rule, links are reversed, lists that became
      too long are thinned again.
   4. Nodes that no walk from the entry would reach are linked to their nearest reachable node.

   Everything is decided by distance and node number, never by the order in which lanes finish, so
   that any number of workers gives the same bits.

   Sources: Rubel et al., PiPNN: ultra-scalable graph-based nearest neighbor indexing, 2026, for
   partitions instead of searches; Munoz et al., Hierarchical clustering-based graphs, 2019;
   Jayaram Subramanya et al., DiskANN, 2019, for thinning with alpha; Manohar et al., ParlayANN,
   2024, for determinism. Differs from PiPNN in that pools are plain sorted lists. */

#define RV__LEAF 512u               /* nodes in a leaf, at most                                   */
#define RV__LEADERS 1024u           /* leaders of one split, at most                              */
#define RV__MATCH_ROWS 128u         /* rows compared with all columns at once                     */
#define RV__THIN_MAX 256u           /* candidates of one thinning, at most                        */
#define RV__PICK 16u                /* best columns wanted of a row, at most                      */

typedef struct rv__build {
    rv_ctx *ctx;
    const rv_hnsw *index;
    const rv__code *code;           /* byte codes of all slots; NULL: distances from the store    */
    const rv__kernels *kernels;
    rv_isa isa;
    rv_alloc alloc;
    const uint32_t *slot;           /* [n], NULL: node = slot                                     */
    uint32_t n;
    uint32_t degree, keep;          /* links of the result, and of the first thinning             */
    uint32_t pick;                  /* taken from a row of a leaf                                 */
    uint32_t fan[2];                /* groups a node goes to at the first and second split        */
    uint32_t width;                 /* of a pool                                                  */
    float pair;                     /* weight of g g' in the distance of two codes                */
    size_t columns;                 /* compared at once, at most                                  */
    unsigned char *scratch;         /* [lanes, lane_bytes]                                        */
    size_t lanes, lane_bytes;
    uint64_t *pool;                 /* [n, width] sorted keys                                     */
    uint32_t *pool_n;               /* [n]                                                        */
    float *limit;                   /* [n] distance of the last in a full pool, else infinity     */
} rv__build;

RV__INLINE uint32_t rv__build_slot(const rv__build *b, uint32_t node)
{
    return b->slot ? b->slot[node] : node;
}

/* ---- blocks of distances ---- */

/* Scratch of one lane, carved from lane_bytes. */
typedef struct rv__build_lane {
    unsigned char *rows, *columns;  /* gathered codes, or a query of the store                    */
    unsigned char *pack;
    float *row_h, *row_g, *column_h, *column_g;
    int32_t *dot;                   /* [rows, columns]                                            */
    float *line;                    /* [columns]                                                  */
    uint32_t *ids;                  /* [columns]                                                  */
    uint64_t *keys;                 /* [columns]                                                  */
} rv__build_lane;

/* A block of rows against all columns, or all pairs of a thinning. */
static size_t rv__build_dots(const rv__build *b)
{
    size_t block = RV__MATCH_ROWS * b->columns, pairs = (size_t)RV__THIN_MAX * RV__THIN_MAX;
    return block > pairs ? block : pairs;
}

static size_t rv__build_lane_bytes(const rv__build *b)
{
    const size_t rows = RV__MATCH_ROWS, columns = b->columns;
    size_t bytes = 2 * (rows + columns) * sizeof(float) + columns * (2 * sizeof(uint32_t) + sizeof(uint64_t));
    if (b->code) {
        size_t record = b->code->record;
        bytes += (rows + columns) * record + rv__round_up(rv__gram_i8_scratch(columns, record), 64) +
                 rv__build_dots(b) * sizeof(int32_t);
    } else {
        bytes += rv__hnsw_query_bytes(b->index);
    }
    return rv__round_up(bytes, 64);
}

static void rv__build_lane_at(const rv__build *b, size_t index, rv__build_lane *lane)
{
    const size_t rows = RV__MATCH_ROWS, columns = b->columns;
    unsigned char *at = b->scratch + index * b->lane_bytes;
    size_t record = b->code ? b->code->record : 0;
    lane->rows = at;
    at += b->code ? rows * record : rv__hnsw_query_bytes(b->index);
    lane->columns = at;
    at += columns * record;
    lane->pack = at;
    at += b->code ? rv__round_up(rv__gram_i8_scratch(columns, record), 64) : 0;
    lane->row_h = (float *)(void *)at;
    lane->row_g = lane->row_h + rows;
    lane->column_h = lane->row_g + rows;
    lane->column_g = lane->column_h + columns;
    at += 2 * (rows + columns) * sizeof(float);
    lane->dot = (int32_t *)(void *)at;
    at += b->code ? rv__build_dots(b) * sizeof(int32_t) : 0;
    lane->line = (float *)(void *)at;
    at += columns * sizeof(float);
    lane->ids = (uint32_t *)(void *)at;
    at += columns * sizeof(uint32_t);
    lane->keys = (uint64_t *)(void *)at;
}

/* Copies the codes of nodes side by side, without the two floats that stand under zero elements. */
static void rv__build_gather(const rv__build *b, const uint32_t *nodes, size_t n, unsigned char *out,
                             float *h, float *g)
{
    const size_t record = b->code->record;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *source = b->code->records + rv__build_slot(b, nodes[i]) * record;
        if (i + 8 < n) {
            const unsigned char *ahead = b->code->records + rv__build_slot(b, nodes[i + 8]) * record;
            for (size_t j = 0; j < record; j += 64) RV__PREFETCH(ahead + j);
        }
        memcpy(&h[i], source, sizeof(float));
        memcpy(&g[i], source + sizeof(float), sizeof(float));
        memcpy(out + i * record, source, record);
        memset(out + i * record, 0, RV__CODE_HEAD);
    }
}

/* Distances from a node to others: line[n]. */
static void rv__build_distances(const rv__build *b, rv__build_lane *lane, uint32_t node, const uint32_t *others,
                                size_t n, float *line)
{
    const uint32_t slot = rv__build_slot(b, node);
    for (size_t i = 0; i < n; i++) lane->ids[i] = rv__build_slot(b, others[i]);
    if (b->code) {
        const rv__code *code = b->code;
        rv__build_gather(b, &node, 1, lane->rows, lane->row_h, lane->row_g);
        b->kernels->dot_i8_scan((const int8_t *)lane->rows, code->records, code->record, lane->ids, n, code->record,
                                lane->dot);
        for (size_t i = 0; i < n; i++) {
            const unsigned char *record = code->records + (size_t)lane->ids[i] * code->record;
            memcpy(&lane->column_h[i], record, sizeof(float));
            memcpy(&lane->column_g[i], record + sizeof(float), sizeof(float));
        }
        b->kernels->line_i32(lane->dot, lane->column_h, lane->column_g, lane->row_h[0], -b->pair * lane->row_g[0], n,
                             line);
    } else if (!b->index->store.no_rows) {
        rv__store_prepare_row(&b->index->store, slot, lane->rows);
        rv__store_scan(&b->index->store, b->isa, lane->rows, lane->ids, 0, n, line);
    } else {
        rv__hnsw_query query;
        query.index = b->index;
        query.kernels = b->kernels;
        query.isa = b->isa;
        rv__hnsw_query_row(&query, slot, lane->rows);
        rv__hnsw_distances(&query, lane->ids, n, line);
    }
}

/* Puts a key into best[*count], sorted, at most want. */
RV__INLINE void rv__build_keep(uint64_t *best, size_t *count, size_t want, uint64_t key)
{
    size_t at;
    if (*count == want && key >= best[want - 1]) return;
    at = *count < want ? (*count)++ : want - 1;
    while (at > 0 && best[at - 1] > key) {
        best[at] = best[at - 1];
        at--;
    }
    best[at] = key;
}

/* The `want` best of line that are below limit, as keys of distance and position, sorted; returns how
   many. skip: a position left out (SIZE_MAX: none). */
static size_t rv__build_pick(const float *line, size_t n, size_t skip, size_t want, float limit, uint64_t *best)
{
    size_t count = 0;
    for (size_t j = 0; j < n; j++) {
        if (!(line[j] < limit) || j == skip) continue;
        rv__build_keep(best, &count, want, (uint64_t)rv__order_f32(line[j]) << 32 | j);
        if (count == want) limit = rv__unorder_f32((uint32_t)(best[count - 1] >> 32));
    }
    return count;
}

/* The same from the dot products of row i, without writing the distances down. */
static size_t rv__build_pick_codes(const rv__build *b, const rv__build_lane *lane, size_t i, size_t n, size_t skip,
                                   size_t want, float limit, uint64_t *best)
{
    const int32_t *dot = lane->dot + i * n;
    const float base = lane->row_h[i], slope = -b->pair * lane->row_g[i];
    size_t count = 0, at = 0;
    float value[16];
    for (;;) {
        uint32_t mask;
        at = b->kernels->near_i32(dot, lane->column_h, lane->column_g, base, slope, at, n, limit, value, &mask);
        if (at >= n) return count;
        for (size_t j = 0; mask; j++, mask >>= 1) {
            if (!(mask & 1u) || at + j == skip || !(value[j] < limit)) continue;
            rv__build_keep(best, &count, want, (uint64_t)rv__order_f32(value[j]) << 32 | (at + j));
            if (count == want) limit = rv__unorder_f32((uint32_t)(best[count - 1] >> 32));
        }
        at += 16;
        if (at >= n) return count;
    }
}

/* For every row its `want` nearest columns (positions), best[i * want], and how many. Columns must be
   gathered already when there are codes. self: row i is column self + i and is left out. With
   `pools`, only what would enter a row's pool. */
static void rv__build_match(const rv__build *b, rv__build_lane *lane, const uint32_t *rows, size_t n_rows,
                            const uint32_t *columns, size_t n_columns, size_t want, size_t self, int pools,
                            uint64_t *best, uint32_t *count)
{
    if (b->code) {
        rv__build_gather(b, rows, n_rows, lane->rows, lane->row_h, lane->row_g);
        b->kernels->gram_i8((const int8_t *)lane->rows, b->code->record, n_rows,
                            (const int8_t *)lane->columns, b->code->record, n_columns, b->code->record,
                            lane->dot, n_columns, lane->pack);
    }
    for (size_t i = 0; i < n_rows; i++) {
        size_t skip = self == SIZE_MAX ? SIZE_MAX : self + i;
        float limit = pools ? b->limit[rows[i]] : rv__infinity();
        if (b->code) {
            count[i] = (uint32_t)rv__build_pick_codes(b, lane, i, n_columns, skip, want, limit, best + i * want);
        } else {
            rv__build_distances(b, lane, rows[i], columns, n_columns, lane->line);
            count[i] = (uint32_t)rv__build_pick(lane->line, n_columns, skip, want, limit, best + i * want);
        }
    }
}

static void rv__build_columns(const rv__build *b, rv__build_lane *lane, const uint32_t *columns, size_t n)
{
    if (b->code) rv__build_gather(b, columns, n, lane->columns, lane->column_h, lane->column_g);
}

/* ---- partition ---- */

/* Groups of nodes: members of group g are member[start[g]] .. member[start[g + 1] - 1]. */
typedef struct rv__groups {
    uint32_t *member;
    size_t *start;
    size_t n_groups, group_cap, n_members;
} rv__groups;

typedef struct rv__split_item {
    size_t group, begin, n, out;    /* members begin..begin+n-1 of the level; assign[out]         */
} rv__split_item;

typedef struct rv__split {
    const rv__build *b;
    const rv__groups *from;
    rv__split_item *item;
    size_t n_items;
    uint32_t *leader;               /* all groups' leaders behind each other                      */
    size_t *leader_start;           /* [n_groups + 1]                                             */
    uint32_t fan;
    uint16_t *assign;               /* [n_members * fan], 0xFFFF: none                            */
} rv__split;

static void rv__groups_free(const rv_alloc *alloc, rv__groups *groups)
{
    rv__put(alloc, groups->member, groups->n_members, sizeof(uint32_t));
    rv__put(alloc, groups->start, groups->group_cap + 1, sizeof(size_t));
    memset(groups, 0, sizeof *groups);
}

static int rv__groups_get(const rv_alloc *alloc, rv__groups *groups, size_t n_groups, size_t n_members)
{
    memset(groups, 0, sizeof *groups);
    groups->n_groups = groups->group_cap = n_groups;
    groups->n_members = n_members;
    groups->member = (uint32_t *)rv__get(alloc, n_members, sizeof(uint32_t));
    groups->start = (size_t *)rv__get(alloc, n_groups + 1, sizeof(size_t));
    if (groups->member && groups->start) return 1;
    rv__groups_free(alloc, groups);
    return 0;
}

static void rv__split_range(void *arg, size_t lane_index, size_t begin, size_t end)
{
    const rv__split *split = (const rv__split *)arg;
    const rv__build *b = split->b;
    rv__build_lane lane;
    uint64_t best[RV__MATCH_ROWS * RV__PICK];
    uint32_t count[RV__MATCH_ROWS];
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t i = begin; i < end; i++) {
        const rv__split_item *item = &split->item[i];
        const uint32_t *leaders = split->leader + split->leader_start[item->group];
        size_t n_leaders = split->leader_start[item->group + 1] - split->leader_start[item->group];
        uint16_t *assign = split->assign + item->out;
        rv__build_columns(b, &lane, leaders, n_leaders);
        for (size_t at = 0; at < item->n; at += RV__MATCH_ROWS) {
            size_t m = item->n - at < RV__MATCH_ROWS ? item->n - at : RV__MATCH_ROWS;
            rv__build_match(b, &lane, split->from->member + item->begin + at, m, leaders, n_leaders,
                            split->fan, SIZE_MAX, 0, best, count);
            for (size_t r = 0; r < m; r++) {
                for (size_t f = 0; f < split->fan; f++) {
                    assign[(at + r) * split->fan + f] =
                        (uint16_t)(f < count[r] ? (uint32_t)best[r * split->fan + f] : 0xFFFFu);
                }
            }
        }
    }
}

/* Leaders a group of so many members gets; 0: it is small enough and stays. */
static size_t rv__split_leaders(const rv__build *b, size_t size, uint32_t fan, int depth)
{
    double wanted;
    if (size <= RV__LEAF) return 0;
    wanted = (double)size * fan / (0.6 * RV__LEAF);
    if (depth == 0 && size > 8 * RV__LEAF) {
        /* two splits share the work: their leaders multiply to n fan fan' / leaf, and the second
           one is done `fan` times as often */
        double second, product = (double)size * b->fan[0] * b->fan[1] / (0.75 * RV__LEAF);
        second = sqrt(product / b->fan[0]);
        wanted = product / second;
    }
    if (wanted < 2.0) wanted = 2.0;
    if (wanted > RV__LEADERS) wanted = RV__LEADERS;
    return (size_t)wanted;
}

/* Sorts members by the group they were assigned to; stable, so members stay in order. */
static void rv__split_scatter(const rv__split *split, rv__groups *to, size_t *cursor)
{
    const rv__groups *from = split->from;
    size_t group = 0, at = 0;
    for (size_t g = 0; g < from->n_groups; g++) {
        size_t n = split->leader_start[g + 1] - split->leader_start[g];
        const uint16_t *assign = split->assign + at;
        size_t size = from->start[g + 1] - from->start[g];
        if (n == 0) {
            memcpy(to->member + to->start[group], from->member + from->start[g], size * sizeof(uint32_t));
            group++;
            continue;
        }
        for (size_t i = 0; i < n; i++) cursor[i] = to->start[group + i];
        for (size_t i = 0; i < size * split->fan; i++) {
            if (assign[i] != 0xFFFFu) to->member[cursor[assign[i]]++] = from->member[from->start[g] + i / split->fan];
        }
        at += size * split->fan;
        group += n;
    }
}

/* Sizes of the new groups into to->start; returns the number of members. */
static size_t rv__split_count(const rv__split *split, size_t *start)
{
    const rv__groups *from = split->from;
    size_t group = 0, at = 0, total = 0;
    for (size_t g = 0; g < from->n_groups; g++) {
        size_t n = split->leader_start[g + 1] - split->leader_start[g];
        size_t size = from->start[g + 1] - from->start[g];
        if (n == 0) {
            start[group++] = size;
            continue;
        }
        for (size_t i = 0; i < n; i++) start[group + i] = 0;
        for (size_t i = 0; i < size * split->fan; i++) {
            if (split->assign[at + i] != 0xFFFFu) start[group + split->assign[at + i]]++;
        }
        at += size * split->fan;
        group += n;
    }
    for (size_t g = 0; g < group; g++) {
        size_t size = start[g];
        start[g] = total;
        total += size;
    }
    start[group] = total;
    return total;
}

static rv_status rv__split_run(rv__build *b, rv__split *split, rv__groups *to, size_t n_new, size_t total)
{
    size_t n_assign = 0, *cursor;
    rv_status status;
    for (size_t i = 0; i < split->n_items; i++) n_assign += split->item[i].n * split->fan;
    memset(to, 0, sizeof *to);
    split->assign = (uint16_t *)rv__get(&b->alloc, n_assign, sizeof(uint16_t));
    cursor = (size_t *)rv__get(&b->alloc, RV__LEADERS, sizeof(size_t));
    if (!split->assign || !cursor || !rv__groups_get(&b->alloc, to, n_new, total)) {
        status = rv__no_memory(b->ctx, total * sizeof(uint32_t));
    } else {
        status = rv__parallel_for(b->ctx, split->n_items, 1, 4, rv__split_range, split);
        if (!status) {
            (void)rv__split_count(split, to->start);
            rv__split_scatter(split, to, cursor);
        }
    }
    if (status) rv__groups_free(&b->alloc, to);
    rv__put(&b->alloc, cursor, RV__LEADERS, sizeof(size_t));
    rv__put(&b->alloc, split->assign, n_assign, sizeof(uint16_t));
    return status;
}

/* One level of the partition. */
static rv_status rv__split_level(rv__build *b, const rv__groups *from, int depth, uint32_t fan, rv__groups *to)
{
    const size_t piece = 1024;
    rv__split split;
    size_t n_leaders = 0, n_items = 0, n_new = 0, total = 0, out = 0;
    rv_status status;
    rv__rng rng;
    memset(&split, 0, sizeof split);
    split.b = b;
    split.from = from;
    split.fan = fan;
    for (size_t g = 0; g < from->n_groups; g++) {
        size_t size = from->start[g + 1] - from->start[g], n = rv__split_leaders(b, size, fan, depth);
        n_leaders += n;
        n_items += n ? (size + piece - 1) / piece : 0;
        n_new += n ? n : 1;
        total += n ? size * (fan < n ? fan : n) : size;
    }
    split.n_items = n_items;
    split.item = (rv__split_item *)rv__get(&b->alloc, n_items, sizeof(rv__split_item));
    split.leader = (uint32_t *)rv__get(&b->alloc, n_leaders, sizeof(uint32_t));
    split.leader_start = (size_t *)rv__get(&b->alloc, from->n_groups + 1, sizeof(size_t));
    if (!split.item || !split.leader || !split.leader_start) {
        status = rv__no_memory(b->ctx, n_items * sizeof(rv__split_item));
    } else {
        size_t at = 0, item = 0;
        rv__rng_init(&rng, b->index->seed + (uint64_t)depth + 1u);
        for (size_t g = 0; g < from->n_groups; g++) {
            size_t size = from->start[g + 1] - from->start[g], n = rv__split_leaders(b, size, fan, depth);
            split.leader_start[g] = at;
            for (size_t i = 0; i < n; i++) {
                size_t low = i * size / n, high = (i + 1) * size / n;
                size_t pick = low + rv__rng_below(&rng, (uint32_t)(high - low));
                split.leader[at++] = from->member[from->start[g] + pick];
            }
            for (size_t done = 0; n && done < size; done += piece) {
                split.item[item].group = g;
                split.item[item].begin = from->start[g] + done;
                split.item[item].n = size - done < piece ? size - done : piece;
                split.item[item].out = out;
                out += split.item[item++].n * fan;
            }
        }
        split.leader_start[from->n_groups] = at;
        status = rv__split_run(b, &split, to, n_new, total);
    }
    rv__put(&b->alloc, split.leader_start, from->n_groups + 1, sizeof(size_t));
    rv__put(&b->alloc, split.leader, n_leaders, sizeof(uint32_t));
    rv__put(&b->alloc, split.item, n_items, sizeof(rv__split_item));
    return status;
}

/* Cuts what would not split (equal vectors) into leaves by order. */
static rv_status rv__groups_chop(rv__build *b, rv__groups *groups)
{
    size_t n = 0, *start, at = 0;
    for (size_t g = 0; g < groups->n_groups; g++) {
        n += (groups->start[g + 1] - groups->start[g] + RV__LEAF - 1) / RV__LEAF;
    }
    start = (size_t *)rv__get(&b->alloc, n + 1, sizeof(size_t));
    if (!start) return rv__no_memory(b->ctx, (n + 1) * sizeof(size_t));
    for (size_t g = 0; g < groups->n_groups; g++) {
        for (size_t i = groups->start[g]; i < groups->start[g + 1]; i += RV__LEAF) start[at++] = i;
    }
    start[at] = groups->n_members ? groups->start[groups->n_groups] : 0;
    rv__put(&b->alloc, groups->start, groups->group_cap + 1, sizeof(size_t));
    groups->start = start;
    groups->n_groups = groups->group_cap = n;
    return RV_OK;
}

static rv_status rv__build_partition(rv__build *b, rv__groups *leaves)
{
    rv__groups level, next;
    rv_status status = RV_OK;
    if (!rv__groups_get(&b->alloc, &level, 1, b->n)) return rv__no_memory(b->ctx, b->n * sizeof(uint32_t));
    for (uint32_t i = 0; i < b->n; i++) level.member[i] = i;
    level.start[0] = 0;
    level.start[1] = b->n;
    for (int depth = 0; depth < 6 && !status; depth++) {
        size_t largest = 0;
        for (size_t g = 0; g < level.n_groups; g++) {
            size_t size = level.start[g + 1] - level.start[g];
            if (size > largest) largest = size;
        }
        if (largest <= RV__LEAF) break;
        status = rv__split_level(b, &level, depth, depth < 2 ? b->fan[depth] : 1u, &next);
        rv__groups_free(&b->alloc, &level);
        if (!status) level = next;
    }
    if (!status) status = rv__groups_chop(b, &level);
    if (status) rv__groups_free(&b->alloc, &level);
    *leaves = level;
    return status;
}

/* ---- pools ---- */

/* Leaves done together: first their rows are matched, then the results go into the pools, each lane
   serving its own range of nodes. */
#define RV__LEAF_BATCH 64u

typedef struct rv__leaves {
    rv__build *b;
    const rv__groups *groups;
    size_t first;                   /* leaf the batch begins with                                 */
    uint64_t *best;                 /* [batch members, pick]                                      */
    uint32_t *count;                /* [batch members]                                            */
    size_t shares;                  /* ranges of nodes                                            */
} rv__leaves;

static void rv__leaf_match(void *arg, size_t lane_index, size_t begin, size_t end)
{
    const rv__leaves *job = (const rv__leaves *)arg;
    const rv__build *b = job->b;
    const rv__groups *groups = job->groups;
    size_t origin = groups->start[job->first];
    rv__build_lane lane;
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t leaf = job->first + begin; leaf < job->first + end; leaf++) {
        const uint32_t *member = groups->member + groups->start[leaf];
        size_t n = groups->start[leaf + 1] - groups->start[leaf];
        rv__build_columns(b, &lane, member, n);
        for (size_t at = 0; at < n; at += RV__MATCH_ROWS) {
            size_t m = n - at < RV__MATCH_ROWS ? n - at : RV__MATCH_ROWS;
            size_t out = groups->start[leaf] - origin + at;
            rv__build_match(b, &lane, member + at, m, member, n, b->pick, at, 1, job->best + out * b->pick,
                            job->count + out);
            for (size_t i = 0; i < m; i++) {
                uint64_t *best = job->best + (out + i) * b->pick;
                for (size_t j = 0; j < job->count[out + i]; j++) {
                    best[j] = (best[j] & ~(uint64_t)0xFFFFFFFFu) | (uint64_t)member[(uint32_t)best[j]] << 1;
                }
            }
        }
    }
}

/* Puts a key into a sorted pool unless the node is there already. A pair of codes has one distance,
   so equal nodes have equal keys; distances from the store may differ in the last bit with their
   position in a list, which the search over all entries is for. */
static void rv__pool_add(uint64_t *pool, uint32_t *n, uint32_t width, uint64_t key, int search)
{
    uint32_t at = *n;
    if (at == width && key >= pool[at - 1]) return;
    for (uint32_t i = 0; search && i < at; i++) {
        if ((uint32_t)pool[i] == (uint32_t)key) return;
    }
    if (at == width) at--;
    while (at > 0 && pool[at - 1] > key) at--;
    if (at > 0 && pool[at - 1] == key) return;
    if (*n < width) ++*n;
    memmove(pool + at + 1, pool + at, (*n - 1 - at) * sizeof *pool);
    pool[at] = key;
}

static void rv__leaf_merge(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__leaves *job = (const rv__leaves *)arg;
    rv__build *b = job->b;
    const rv__groups *groups = job->groups;
    size_t last = job->first + RV__LEAF_BATCH < groups->n_groups ? job->first + RV__LEAF_BATCH : groups->n_groups;
    size_t origin = groups->start[job->first], n = groups->start[last] - origin;
    const uint32_t *member = groups->member + origin;
    (void)lane;
    for (size_t share = begin; share < end; share++) {
        uint32_t low = (uint32_t)((uint64_t)b->n * share / job->shares);
        uint32_t high = (uint32_t)((uint64_t)b->n * (share + 1) / job->shares);
        for (size_t i = 0; i < n; i++) {
            uint32_t node = member[i];
            if (i + 16 < n && member[i + 16] >= low && member[i + 16] < high) {
                const uint64_t *ahead = b->pool + (size_t)member[i + 16] * b->width;
                RV__PREFETCH(&b->pool_n[member[i + 16]]);
                RV__PREFETCH(ahead);
                RV__PREFETCH(ahead + 8);
                RV__PREFETCH(ahead + 16);
                RV__PREFETCH(ahead + b->width - 1);
            }
            if (node < low || node >= high) continue;
            for (size_t j = 0; j < job->count[i]; j++) {
                rv__pool_add(b->pool + (size_t)node * b->width, &b->pool_n[node], b->width, job->best[i * b->pick + j], !b->code);
            }
            if (job->count[i] && b->pool_n[node] == b->width) {
                b->limit[node] = rv__hnsw_key_distance(b->pool[(size_t)node * b->width + b->width - 1]);
            }
        }
    }
}

static rv_status rv__build_pools(rv__build *b, const rv__groups *leaves)
{
    const size_t most = (size_t)RV__LEAF_BATCH * RV__LEAF;
    rv__leaves job;
    rv_status status = RV_OK;
    job.b = b;
    job.groups = leaves;
    job.shares = b->lanes;
    job.best = (uint64_t *)rv__get(&b->alloc, most * b->pick, sizeof(uint64_t));
    job.count = (uint32_t *)rv__get(&b->alloc, most, sizeof(uint32_t));
    if (!job.best || !job.count) status = rv__no_memory(b->ctx, most * b->pick * sizeof(uint64_t));
    for (job.first = 0; job.first < leaves->n_groups && !status; job.first += RV__LEAF_BATCH) {
        size_t rest = leaves->n_groups - job.first;
        status = rv__parallel_for(b->ctx, rest < RV__LEAF_BATCH ? rest : RV__LEAF_BATCH, 1, 32, rv__leaf_match, &job);
        if (!status) status = rv__parallel_for(b->ctx, job.shares, 1, 1, rv__leaf_merge, &job);
    }
    rv__put(&b->alloc, job.count, most, sizeof(uint32_t));
    rv__put(&b->alloc, job.best, most * b->pick, sizeof(uint64_t));
    return status;
}

/* ---- thinning ---- */

/* Relative neighbourhood rule: a candidate stays if no node kept before it is nearer to the candidate
   than the origin is. keys: n sorted; kept ones move to the front. Returns how many, at most keep. */
static size_t rv__build_thin(const rv__build *b, rv__build_lane *lane, uint64_t *keys, size_t n, size_t keep)
{
    uint32_t nodes[RV__THIN_MAX];
    uint16_t kept[RV__THIN_MAX];
    size_t count = 0;
    if (n > RV__THIN_MAX) n = RV__THIN_MAX;
    for (size_t i = 0; i < n; i++) nodes[i] = rv__hnsw_node(keys[i]);
    if (b->code) {
        rv__build_gather(b, nodes, n, lane->columns, lane->column_h, lane->column_g);
        b->kernels->gram_i8((const int8_t *)lane->columns, b->code->record, n, (const int8_t *)lane->columns,
                            b->code->record, n, b->code->record, lane->dot, n, lane->pack);
    }
    for (size_t i = 0; i < n && count < keep; i++) {
        float distance = rv__hnsw_key_distance(keys[i]);
        int near_kept = 0;
        if (b->code) {
            const int32_t *dot = lane->dot + i * n;
            float base = lane->column_h[i], slope = -b->pair * lane->column_g[i];
            for (size_t j = 0; j < count && !near_kept; j++) {
                size_t o = kept[j];
                near_kept = base + lane->column_h[o] + slope * lane->column_g[o] * (float)dot[o] < distance;
            }
        } else if (count) {
            uint32_t others[RV__THIN_MAX];
            for (size_t j = 0; j < count; j++) others[j] = nodes[kept[j]];
            rv__build_distances(b, lane, nodes[i], others, count, lane->line);
            for (size_t j = 0; j < count && !near_kept; j++) near_kept = lane->line[j] < distance;
        }
        if (!near_kept) kept[count++] = (uint16_t)i;
    }
    for (size_t j = 0; j < count; j++) keys[j] = keys[kept[j]];
    return count;
}

static void rv__build_thin_range(void *arg, size_t lane_index, size_t begin, size_t end)
{
    rv__build *b = (rv__build *)arg;
    rv__build_lane lane;
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t p = begin; p < end; p++) {
        b->pool_n[p] = (uint32_t)rv__build_thin(b, &lane, b->pool + p * b->width, b->pool_n[p], b->keep);
    }
}

/* ---- reversal ---- */

typedef struct rv__reverse {
    rv__build *b;
    size_t *start;                  /* [n + 1]                                                    */
    uint64_t *key;                  /* incoming links: distance and source                        */
    uint32_t *links;                /* [n, degree] result                                         */
    size_t shares;
} rv__reverse;

static void rv__reverse_count(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__reverse *job = (const rv__reverse *)arg;
    const rv__build *b = job->b;
    (void)lane;
    for (size_t share = begin; share < end; share++) {
        uint32_t low = (uint32_t)((uint64_t)b->n * share / job->shares);
        uint32_t high = (uint32_t)((uint64_t)b->n * (share + 1) / job->shares);
        for (size_t p = 0; p < b->n; p++) {
            const uint64_t *pool = b->pool + p * b->width;
            for (uint32_t i = 0; i < b->pool_n[p]; i++) {
                uint32_t to = rv__hnsw_node(pool[i]);
                if (to >= low && to < high) job->start[to + 1]++;
            }
        }
    }
}

/* start[q] is the end of the list while it is filled, from the back. */
static void rv__reverse_fill(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__reverse *job = (const rv__reverse *)arg;
    const rv__build *b = job->b;
    (void)lane;
    for (size_t share = begin; share < end; share++) {
        uint32_t low = (uint32_t)((uint64_t)b->n * share / job->shares);
        uint32_t high = (uint32_t)((uint64_t)b->n * (share + 1) / job->shares);
        for (size_t p = 0; p < b->n; p++) {
            const uint64_t *pool = b->pool + p * b->width;
            for (uint32_t i = 0; i < b->pool_n[p]; i++) {
                uint32_t to = rv__hnsw_node(pool[i]);
                if (to < low || to >= high) continue;
                job->key[job->start[to]++] = (pool[i] & ~(uint64_t)0xFFFFFFFFu) | (uint64_t)p << 1;
            }
        }
    }
}

static void rv__build_join_range(void *arg, size_t lane_index, size_t begin, size_t end)
{
    const rv__reverse *job = (const rv__reverse *)arg;
    const rv__build *b = job->b;
    rv__build_lane lane;
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t p = begin; p < end; p++) {
        /* after filling, start[p] is where the list of p + 1 begins */
        size_t first = p ? job->start[p - 1] : 0, n_in = job->start[p] - first;
        const uint64_t *pool = b->pool + p * b->width;
        uint32_t *links = job->links + p * b->degree, n = 0;
        for (uint32_t i = 0; i < b->pool_n[p]; i++) {
            rv__pool_add(lane.keys, &n, RV__THIN_MAX, pool[i], 0);
        }
        for (size_t i = 0; i < n_in; i++) rv__pool_add(lane.keys, &n, RV__THIN_MAX, job->key[first + i], 1);
        if (n > b->degree) n = (uint32_t)rv__build_thin(b, &lane, lane.keys, n, b->degree);
        for (uint32_t i = 0; i < b->degree; i++) links[i] = i < n ? rv__hnsw_node(lane.keys[i]) : RV__NO_SLOT;
    }
}

static rv_status rv__build_join(rv__build *b, uint32_t *links)
{
    rv__reverse job;
    size_t total = 0;
    rv_status status;
    job.b = b;
    job.links = links;
    job.shares = b->lanes;
    job.key = NULL;
    job.start = (size_t *)rv__get_zero(&b->alloc, (size_t)b->n + 1, sizeof(size_t));
    if (!job.start) return rv__no_memory(b->ctx, ((size_t)b->n + 1) * sizeof(size_t));
    status = rv__parallel_for(b->ctx, job.shares, 1, 1, rv__reverse_count, &job);
    if (!status) {
        for (size_t p = 0; p < b->n; p++) job.start[p + 1] += job.start[p];
        total = job.start[b->n];
        job.key = (uint64_t *)rv__get(&b->alloc, total, sizeof(uint64_t));
        if (!job.key) status = rv__no_memory(b->ctx, total * sizeof(uint64_t));
    }
    if (!status) status = rv__parallel_for(b->ctx, job.shares, 1, 1, rv__reverse_fill, &job);
    if (!status) status = rv__parallel_for(b->ctx, b->n, 64, 1024, rv__build_join_range, &job);
    rv__put(&b->alloc, job.key, total, sizeof(uint64_t));
    rv__put(&b->alloc, job.start, (size_t)b->n + 1, sizeof(size_t));
    return status;
}

/* ---- one layer ---- */

static void rv__build_effort(rv__build *b)
{
    uint32_t ef = b->index->ef_construction;
    b->fan[0] = ef < 64 ? 5u : ef < 200 ? 8u : ef < 400 ? 10u : 14u;
    b->fan[1] = 3u;
    b->pick = ef < 200 ? 4u : 6u;
    b->keep = b->degree * 3 / 4;
    if (b->keep < 2) b->keep = 2;
    b->width = b->degree * 3 / 2;
    if (b->width > RV__THIN_MAX) b->width = RV__THIN_MAX;
}

/* Links of n nodes into links[n, degree]. */
static rv_status rv__build_layer(rv_ctx *ctx, const rv_hnsw *index, const rv__code *code, const uint32_t *slot,
                                 uint32_t n, uint32_t degree, uint32_t *links)
{
    rv__build b;
    rv__groups leaves;
    rv_status status = RV_OK;
    memset(&b, 0, sizeof b);
    memset(&leaves, 0, sizeof leaves);
    b.ctx = ctx;
    b.index = index;
    b.code = code;
    b.isa = ctx ? ctx->isa : RV_ISA_BEST;
    b.kernels = rv__kernels_for(b.isa);
    b.alloc = index->store.alloc;
    b.slot = slot;
    b.n = n;
    b.degree = degree;
    b.pair = index->store.metric == RV_METRIC_L2 ? 0.5f : 1.0f;
    b.lanes = rv__lanes(ctx);
    b.columns = RV__LEADERS;
    rv__build_effort(&b);
    b.lane_bytes = rv__build_lane_bytes(&b);
    b.scratch = (unsigned char *)rv__get(&b.alloc, b.lanes, b.lane_bytes);
    b.pool = (uint64_t *)rv__get(&b.alloc, (size_t)n * b.width, sizeof(uint64_t));
    b.pool_n = (uint32_t *)rv__get_zero(&b.alloc, n, sizeof(uint32_t));
    b.limit = (float *)rv__get(&b.alloc, n, sizeof(float));
    for (uint32_t i = 0; b.limit && i < n; i++) b.limit[i] = rv__infinity();
    if (!b.scratch || !b.pool || !b.pool_n || !b.limit) status = rv__no_memory(ctx, (size_t)n * b.width * sizeof(uint64_t));
    if (!status) status = rv__build_partition(&b, &leaves);
    if (!status) status = rv__build_pools(&b, &leaves);
    rv__groups_free(&b.alloc, &leaves);
    if (!status) status = rv__parallel_for(ctx, n, 64, 2048, rv__build_thin_range, &b);
    if (!status) status = rv__build_join(&b, links);
    rv__put(&b.alloc, b.limit, n, sizeof(float));
    rv__put(&b.alloc, b.pool_n, n, sizeof(uint32_t));
    rv__put(&b.alloc, b.pool, (size_t)n * b.width, sizeof(uint64_t));
    rv__put(&b.alloc, b.scratch, b.lanes, b.lane_bytes);
    return status;
}

/* ---- reachability ---- */

typedef struct rv__reach {
    uint64_t *seen;                 /* bit per node                                               */
    uint32_t *queue;                /* [n]                                                        */
    size_t head, tail;
} rv__reach;

static void rv__reach_push(rv__reach *reach, uint32_t node)
{
    uint64_t bit = (uint64_t)1 << (node & 63u);
    if (reach->seen[node >> 6] & bit) return;
    reach->seen[node >> 6] |= bit;
    reach->queue[reach->tail++] = node;
}

static rv_status rv__reach_flood(rv_ctx *ctx, const rv_hnsw *index, rv__reach *reach)
{
    while (reach->head < reach->tail) {
        const uint32_t *links = index->links + (size_t)reach->queue[reach->head++] * index->degree;
        if (reach->head + 8 < reach->tail) {
            const uint32_t *ahead = index->links + (size_t)reach->queue[reach->head + 8] * index->degree;
            RV__PREFETCH(ahead);
            RV__PREFETCH(ahead + 16);
        }
        for (uint32_t i = 0; i < index->degree && links[i] != RV__NO_SLOT; i++) rv__reach_push(reach, links[i]);
        if ((reach->head & 0xFFFFu) == 0) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
    }
    return RV_OK;
}

/* Links an unreachable node from the nearest reachable one that has room; where none has, it takes the
   place of that one's last link and carries on to it, so that nothing else is lost. */
static void rv__hnsw_adopt(rv_hnsw *index, const rv__walk *walk, uint32_t node)
{
    const uint32_t degree = index->degree;
    uint32_t *own = index->links + (size_t)node * degree, *links, last, n = 0;
    for (size_t i = 0; i < walk->n; i++) {
        links = index->links + (size_t)rv__hnsw_node(walk->beam[i]) * degree;
        if (links[degree - 1] != RV__NO_SLOT) continue;
        while (links[n] != RV__NO_SLOT) n++;
        links[n] = node;
        return;
    }
    links = index->links + (size_t)rv__hnsw_node(walk->beam[0]) * degree;
    last = links[degree - 1];
    links[degree - 1] = node;
    for (n = 0; n < degree && own[n] != RV__NO_SLOT && own[n] != last; n++) {}
    own[n < degree ? n : degree - 1] = last;
}

/* What connecting needs, so that it can be had before anything is changed. */
typedef struct rv__connect {
    rv__reach reach;
    unsigned char *memory;          /* a query and a walk                                         */
    size_t n, query_bytes, bytes;
} rv__connect;

#define RV__CONNECT_EF 64u

static void rv__connect_close(const rv_hnsw *index, rv__connect *connect)
{
    const rv_alloc *alloc = &index->store.alloc;
    rv__put(alloc, connect->reach.queue, connect->n, sizeof(uint32_t));
    rv__put(alloc, connect->reach.seen, (connect->n + 63) / 64, sizeof(uint64_t));
    rv__put(alloc, connect->memory, connect->bytes, 1);
    memset(connect, 0, sizeof *connect);
}

static rv_status rv__connect_open(rv_ctx *ctx, const rv_hnsw *index, rv__connect *connect)
{
    const rv_alloc *alloc = &index->store.alloc;
    memset(connect, 0, sizeof *connect);
    connect->n = index->store.n;
    connect->query_bytes = rv__hnsw_query_bytes(index);
    connect->bytes = connect->query_bytes + rv__walk_bytes(index, RV__CONNECT_EF);
    connect->memory = (unsigned char *)rv__get(alloc, connect->bytes, 1);
    connect->reach.seen = (uint64_t *)rv__get_zero(alloc, (connect->n + 63) / 64, sizeof(uint64_t));
    connect->reach.queue = (uint32_t *)rv__get(alloc, connect->n, sizeof(uint32_t));
    if (connect->memory && connect->reach.seen && connect->reach.queue) return RV_OK;
    rv__connect_close(index, connect);
    return rv__no_memory(ctx, index->store.n * sizeof(uint32_t));
}

/* Makes every row of layer 0 reachable from the entry. */
static rv_status rv__connect_run(rv_ctx *ctx, rv_hnsw *index, rv__connect *connect)
{
    rv__reach *reach = &connect->reach;
    rv__hnsw_query query;
    rv__walk walk;
    rv_status status = RV_OK;
    if (index->n_levels == 0) return RV_OK;
    rv__hnsw_query_init(&query, ctx, index);
    rv__walk_init(&walk, index, RV__CONNECT_EF, connect->memory + connect->query_bytes);
    rv__reach_push(reach, rv__hnsw_entry_slot(index));
    status = rv__reach_flood(ctx, index, reach);
    for (uint32_t node = 0; node < connect->n && !status && reach->tail < connect->n; node++) {
        float distance;
        uint32_t start;
        if ((reach->seen[node >> 6] >> (node & 63u) & 1u) || !rv__store_live(&index->store, node)) continue;
        rv__hnsw_query_row(&query, node, connect->memory);
        start = rv__hnsw_descend(&query, &walk, &distance);
        if (!(reach->seen[start >> 6] >> (start & 63u) & 1u)) {
            /* the node itself on an upper layer, or one no better: its links need not lead anywhere */
            start = rv__hnsw_entry_slot(index);
            rv__hnsw_distances(&query, &start, 1, &distance);
        }
        walk.n_starts = 0; /* some of them may be as unreachable */
        rv__walk_start(&walk, start, distance);
        status = rv__walk_run(ctx, &query, &walk);
        if (status) break;
        rv__hnsw_adopt(index, &walk, node);
        rv__reach_push(reach, node);
        status = rv__reach_flood(ctx, index, reach);
    }
    return status;
}

static rv_status rv__hnsw_connect(rv_ctx *ctx, rv_hnsw *index)
{
    rv__connect connect;
    rv_status status = rv__connect_open(ctx, index, &connect);
    if (!status) status = rv__connect_run(ctx, index, &connect);
    rv__connect_close(index, &connect);
    return status;
}

/* ---- the whole graph ---- */

/* Nodes of the layers above 0, from the levels of the slots. */
static rv_status rv__hnsw_make_layers(rv_ctx *ctx, rv_hnsw *index)
{
    uint32_t count[RV__HNSW_LEVELS], n = index->store.n;
    memset(count, 0, sizeof count);
    index->n_levels = 0;
    for (uint32_t slot = n; slot-- > 0;) {
        if (!rv__store_live(&index->store, slot)) continue;
        for (uint32_t l = rv__hnsw_level(index, slot); l > 0; l--) count[l]++;
        index->entry = slot;
        index->n_levels = 1;
    }
    if (index->n_levels == 0) return RV_OK;
    while (index->n_levels < RV__HNSW_LEVELS && count[index->n_levels]) {
        rv_status status = rv__hnsw_layer_reserve(ctx, index, &index->layer[index->n_levels], count[index->n_levels]);
        if (status) return status;
        index->n_levels++;
    }
    for (uint32_t slot = 0; slot < n; slot++) {
        uint32_t level = rv__hnsw_level(index, slot), below = slot;
        if (!rv__store_live(&index->store, slot)) continue;
        for (uint32_t l = 1; l <= level; l++) {
            rv__hnsw_layer *layer = &index->layer[l];
            layer->slot[layer->n] = slot;
            layer->below[layer->n] = below;
            below = layer->n++;
        }
    }
    if (index->n_levels > 1) index->entry = 0;
    return RV_OK;
}

/* Makes all layers of an index whose store is filled and that has none. code: byte codes, or NULL. */
static rv_status rv__hnsw_make_graph(rv_ctx *ctx, rv_hnsw *index, const rv__code *code)
{
    rv_status status = rv__hnsw_make_layers(ctx, index);
    for (uint32_t l = index->n_levels; l-- > 0 && !status;) {
        const rv__hnsw_layer *layer = &index->layer[l];
        if (l == 0) {
            status = rv__build_layer(ctx, index, code, NULL, index->store.n, index->degree, index->links);
        } else {
            status = rv__build_layer(ctx, index, code, layer->slot, layer->n, index->m, layer->links);
        }
    }
    return status;
}

static int rv__hnsw_code_kind(rv_hnsw_codes wanted)
{
    switch (wanted) {
    case RV_HNSW_CODES_PCA: return RV__CODE_PCA;
    case RV_HNSW_CODES_SQ8: return RV__CODE_SQ8;
    case RV_HNSW_CODES_SQ4: return RV__CODE_SQ4;
    case RV_HNSW_CODES_RABITQ: return RV__CODE_BIT;
    default: return RV__CODE_NONE;
    }
}

/* Codes for all rows of the store; kind NONE leaves code empty. */
static rv_status rv__hnsw_learn(rv_ctx *ctx, const rv_hnsw *index, int kind, uint32_t code_bytes, rv__code *code)
{
    rv_status status;
    memset(code, 0, sizeof *code);
    code->alloc = index->store.alloc;
    if (kind == RV__CODE_NONE) return RV_OK;
    status = rv__code_train(ctx, code, kind, &index->store, code_bytes);
    if (!status && code->kind != RV__CODE_NONE) {
        status = rv__code_reserve(ctx, code, index->store.capacity);
        if (!status) status = rv__code_encode_rows(ctx, code, &index->store, index->store.n);
        if (status) rv__code_free(code);
    }
    return status;
}

/* Fills an empty index. On failure it holds something half done and must be thrown away. */
static rv_status rv__hnsw_fill(rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys, const void *vectors, size_t n)
{
    int kind = rv__hnsw_code_kind(index->wanted);
    rv__code build;
    rv_status status;
    memset(&build, 0, sizeof build);
    status = rv__store_append(ctx, &index->store, keys, vectors, n);
    if (!status) status = rv__hnsw_learn(ctx, index, kind, index->code_bytes, &index->code);
    if (!status) status = rv__hnsw_grow(ctx, index, n);
    if (!status && index->code.bits == 8) {
        status = rv__hnsw_make_graph(ctx, index, &index->code);
    } else if (!status) {
        /* coarse codes are too coarse to choose links by, and vectors too slow */
        int fit = rv__hnsw_codes_fit(index->store.metric, index->store.type) && index->store.dim > RV__CODE_DIM_MIN;
        status = rv__hnsw_learn(ctx, index, fit ? RV__CODE_PCA : RV__CODE_NONE, 0, &build);
        if (!status) status = rv__hnsw_make_graph(ctx, index, build.kind != RV__CODE_NONE ? &build : NULL);
        rv__code_free(&build);
    }
    if (!status) status = rv__hnsw_connect(ctx, index);
    if (!status && index->drop_vectors && rv__hnsw_coded(index)) rv__store_drop_rows(&index->store);
    return status;
}

/* An empty index with the settings of another. */
static rv_status rv__hnsw_like(rv_ctx *ctx, const rv_hnsw *index, rv_hnsw **out)
{
    rv_hnsw_config config;
    rv_ctx own;
    rv_status status;
    memset(&config, 0, sizeof config);
    memset(&own, 0, sizeof own);
    config.dim = index->store.dim;
    config.metric = index->store.metric;
    config.type = index->store.type;
    config.custom = index->store.custom;
    config.custom_user = index->store.custom_user;
    config.m = index->m;
    config.ef_construction = index->ef_construction;
    config.codes = index->wanted;
    config.code_bytes = index->code_bytes;
    config.drop_vectors = index->drop_vectors;
    own.alloc = index->store.alloc;
    own.seed = index->seed;
    status = rv_hnsw_create(&own, &config, out);
    return status ? rv__fail(ctx, status, own.where, "%s", own.message) : RV_OK;
}

/* Exchanges all that two indexes hold. */
static void rv__hnsw_swap(rv_hnsw *a, rv_hnsw *b)
{
    rv_hnsw c = *a;
    *a = *b;
    *b = c;
}

#endif /* RV_HNSW_BUILD_C */
/* ==== src/hnsw_edit.c ========================================================================= */
#ifndef RV_HNSW_EDIT_C
#define RV_HNSW_EDIT_C

/* Changes one row at a time: insertion by search, removal by marking, repair in one go.

   An insertion does everything that can fail first (room, scratch, the searches) and then only
   writes, so a failure or a cancellation leaves no trace. A removed row's node is held: it carries
   the walk, is not returned, and its slot is not taken again. When an eighth of all nodes is held,
   repair gives every node with links to held ones the links of those instead, thinned as usual, and
   frees the slots; this is the consolidation of FreshDiskANN.

   Sources: Malkov, Yashunin, 2016 (insertion); Singh et al., FreshDiskANN, 2021 (consolidation). */

/* ---- one layer as the linker sees it ---- */

typedef struct rv__linker {
    rv__build b;                    /* distances between nodes; b.slot is the layer's             */
    rv__build_lane lane;
    uint32_t *links;
    uint32_t handed;                /* links the newcomer's full list took over, from its end      */
} rv__linker;

/* Settings for thinning on an index; b->slot stays NULL (layer 0). The scratch is the caller's. */
static void rv__linker_init(rv__linker *linker, rv_ctx *ctx, rv_hnsw *index)
{
    rv__build *b = &linker->b;
    memset(linker, 0, sizeof *linker);
    b->ctx = ctx;
    b->index = index;
    b->code = index->code.bits == 8 ? &index->code : NULL;
    b->isa = ctx ? ctx->isa : RV_ISA_BEST;
    b->kernels = rv__kernels_for(b->isa);
    b->alloc = index->store.alloc;
    b->degree = index->degree;
    b->pair = index->store.metric == RV_METRIC_L2 ? 0.5f : 1.0f;
    b->lanes = 1;
    b->columns = RV__THIN_MAX;
    b->lane_bytes = rv__build_lane_bytes(b);
}

static void rv__linker_layer(rv__linker *linker, rv_hnsw *index, uint32_t l)
{
    linker->b.slot = l ? index->layer[l].slot : NULL;
    linker->b.degree = l ? index->m : index->degree;
    linker->links = l ? index->layer[l].links : index->links;
}

/* Sorted keys of the distances from node to others[n]; those equal to node are left out. */
static size_t rv__linker_keys(rv__linker *linker, uint32_t node, const uint32_t *others, size_t n, uint64_t *keys)
{
    rv__build *b = &linker->b;
    uint32_t count = 0;
    rv__build_distances(b, &linker->lane, node, others, n, linker->lane.line);
    for (size_t i = 0; i < n; i++) {
        if (others[i] != node) rv__pool_add(keys, &count, RV__THIN_MAX, rv__hnsw_key(linker->lane.line[i], others[i]), 1);
    }
    return count;
}

/* Whether one of the first n nodes of list links to `to`. */
static int rv__linker_witness(const rv__linker *linker, const uint64_t *keys, size_t n, uint32_t to)
{
    const uint32_t degree = linker->b.degree;
    for (size_t i = 0; i < n; i++) {
        const uint32_t *links = linker->links + (size_t)rv__hnsw_node(keys[i]) * degree;
        for (uint32_t j = 0; j < degree && links[j] != RV__NO_SLOT; j++) {
            if (links[j] == to) return 1;
        }
    }
    return 0;
}

/* Adds the link from -> to. A full list is thinned with the newcomer in it, but a node is let go only
   if one that stays links to it, so that what was reachable stays so. When that leaves too many, the
   last one is handed on to the newcomer's list, whose links nothing depends on yet. */
static void rv__linker_add(rv__linker *linker, uint32_t from, uint32_t to)
{
    const uint32_t degree = linker->b.degree;
    uint32_t *links = linker->links + (size_t)from * degree, *other = linker->links + (size_t)to * degree, n = 0;
    uint32_t others[257];
    uint64_t sorted[257], *keys = linker->lane.keys;
    size_t kept, count;
    while (n < degree && links[n] != RV__NO_SLOT) {
        if (links[n] == to) return;
        n++;
    }
    if (n < degree) {
        links[n] = to;
        return;
    }
    memcpy(others, links, degree * sizeof(uint32_t));
    others[degree] = to;
    count = rv__linker_keys(linker, from, others, degree + 1u, keys);
    memcpy(sorted, keys, count * sizeof *keys);
    kept = rv__build_thin(&linker->b, &linker->lane, keys, count, degree);
    for (size_t i = 0, at = 0; i < count; i++) {
        if (at < kept && keys[at] == sorted[i]) {
            at++; /* thinned lists keep their order; what is saved below goes behind them */
        } else if (rv__hnsw_node(sorted[i]) == to || !rv__linker_witness(linker, keys, kept, rv__hnsw_node(sorted[i]))) {
            others[n++ - degree] = rv__hnsw_node(sorted[i]);
        }
    }
    n -= degree; /* others[n]: those without a witness */
    for (uint32_t i = 0; i < degree; i++) links[i] = i < kept ? rv__hnsw_node(keys[i]) : RV__NO_SLOT;
    for (uint32_t i = 0; i < n; i++) {
        if (kept < degree) {
            links[kept++] = others[i];
            continue;
        }
        /* one too many, and no room for it but in the newcomer's list */
        if (others[i] == to) {
            uint32_t last = links[degree - 1];
            links[degree - 1] = to;
            others[i] = last;
        }
        count = 0;
        while (count < degree && other[count] != RV__NO_SLOT && other[count] != others[i]) count++;
        other[count < degree ? count : degree - 1 - linker->handed++ % degree] = others[i];
    }
}

/* Links a new node both ways to the best of sorted candidates. */
static void rv__linker_join(rv__linker *linker, uint32_t node, uint64_t *keys, size_t n, size_t keep)
{
    const uint32_t degree = linker->b.degree;
    uint32_t *links = linker->links + (size_t)node * degree;
    uint32_t chosen[256];
    linker->handed = 0;
    n = rv__build_thin(&linker->b, &linker->lane, keys, n, keep);
    for (uint32_t i = 0; i < degree; i++) {
        if (i < n) chosen[i] = rv__hnsw_node(keys[i]);
        links[i] = i < n ? chosen[i] : RV__NO_SLOT;
    }
    for (size_t i = 0; i < n; i++) rv__linker_add(linker, chosen[i], node);
}

static void rv__hnsw_tidy(rv_ctx *ctx, rv_hnsw *index);

/* ---- insertion ---- */

typedef struct rv__insert {
    rv_hnsw *index;
    rv__hnsw_query query;
    rv__walk walk;
    rv__linker linker;
    uint64_t *found[RV__HNSW_LEVELS]; /* candidates of each layer, sorted                         */
    size_t n_found[RV__HNSW_LEVELS];
    size_t n_beam;                  /* of the layer searched last                                 */
    unsigned char *memory;
    size_t bytes;
} rv__insert;

#define RV__INSERT_UPPER 32u        /* beam on the layers above 0                                 */

/* Beam over an upper layer from a node of it; keys of nodes of that layer. Layers above 0 are entered
   by one insertion in 32, so this walk is the plain one. */
static size_t rv__insert_beam(rv__insert *insert, uint32_t l, uint32_t start, uint64_t *beam)
{
    const rv_hnsw *index = insert->index;
    const rv__hnsw_layer *layer = &index->layer[l];
    uint32_t n = 1, at = 0, *ids = insert->walk.ids;
    float *distance = insert->walk.distance;
    ids[0] = layer->slot[start];
    rv__hnsw_distances(&insert->query, ids, 1, distance);
    beam[0] = rv__hnsw_key(distance[0], start);
    while (at < n) {
        const uint32_t *links = layer->links + (size_t)rv__hnsw_node(beam[at]) * index->m;
        uint32_t count = 0;
        beam[at] |= 1u;
        for (; count < index->m && links[count] != RV__NO_SLOT; count++) ids[count] = layer->slot[links[count]];
        rv__hnsw_distances(&insert->query, ids, count, distance);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t key = rv__hnsw_key(distance[i], links[i]);
            uint32_t low = 0;
            while (low < n && beam[low] < key) low++;
            if (low == RV__INSERT_UPPER || (low < n && (beam[low] | 1u) == (key | 1u))) continue;
            if (n < RV__INSERT_UPPER) n++;
            memmove(beam + low + 1, beam + low, (n - 1 - low) * sizeof *beam);
            beam[low] = key;
        }
        at = 0;
        while (at < n && (beam[at] & 1u)) at++;
    }
    return n;
}

/* Finds the candidates of a node of the given level on all its layers. */
static rv_status rv__insert_search(rv_ctx *ctx, rv__insert *insert, uint32_t level)
{
    rv_hnsw *index = insert->index;
    float distance;
    uint32_t node;
    rv_status status;
    memset(insert->n_found, 0, sizeof insert->n_found);
    if (index->n_levels == 0) return RV_OK;
    node = index->entry;
    for (uint32_t l = index->n_levels - 1; l > 0; l--) {
        insert->n_beam = rv__insert_beam(insert, l, node, insert->found[l]);
        insert->n_found[l] = l > level ? 0 : insert->n_beam;
        node = index->layer[l].below[rv__hnsw_node(insert->found[l][0])];
    }
    rv__hnsw_distances(&insert->query, &node, 1, &distance);
    insert->walk.n_starts = 0;
    for (size_t i = 0; index->n_levels > 1 && i < insert->n_beam && i < RV__WALK_STARTS; i++) {
        uint64_t key = insert->found[1][i];
        uint32_t slot = index->layer[1].slot[rv__hnsw_node(key)];
        insert->walk.start[insert->walk.n_starts++] = rv__hnsw_key(rv__hnsw_key_distance(key), slot);
    }
    rv__walk_start(&insert->walk, node, distance);
    status = rv__walk_run(ctx, &insert->query, &insert->walk);
    insert->found[0] = insert->walk.beam;
    insert->n_found[0] = insert->walk.n;
    return status;
}

static rv_status rv__insert_open(rv_ctx *ctx, rv__insert *insert, rv_hnsw *index)
{
    size_t query_bytes = rv__hnsw_query_bytes(index), ef = index->ef_construction;
    size_t walk_bytes = rv__round_up(rv__walk_bytes(index, ef), 64);
    size_t upper_bytes = (RV__HNSW_LEVELS - 1) * (RV__INSERT_UPPER + 1) * sizeof(uint64_t);
    unsigned char *at;
    insert->index = index;
    rv__linker_init(&insert->linker, ctx, index);
    upper_bytes = rv__round_up(upper_bytes, 64);
    insert->bytes = query_bytes + walk_bytes + upper_bytes + insert->linker.b.lane_bytes;
    insert->memory = (unsigned char *)rv__get(&index->store.alloc, insert->bytes, 1);
    if (!insert->memory) return rv__no_memory(ctx, insert->bytes);
    at = insert->memory + query_bytes;
    rv__hnsw_query_init(&insert->query, ctx, index);
    rv__walk_init(&insert->walk, index, ef, at);
    at += walk_bytes;
    for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) {
        insert->found[l] = (uint64_t *)(void *)at + (l - 1) * (RV__INSERT_UPPER + 1);
    }
    insert->linker.b.scratch = at + upper_bytes;
    rv__build_lane_at(&insert->linker.b, 0, &insert->linker.lane);
    return RV_OK;
}

static void rv__insert_close(rv__insert *insert)
{
    rv__put(&insert->index->store.alloc, insert->memory, insert->bytes, 1);
}

/* Writes the node's links on all its layers. Cannot fail. */
static void rv__insert_link(rv__insert *insert, uint32_t slot, uint32_t level)
{
    rv_hnsw *index = insert->index;
    uint32_t below = slot, top = index->n_levels;
    for (uint32_t l = 0; l <= level; l++) {
        uint32_t node = slot;
        if (l > 0) {
            rv__hnsw_layer *layer = &index->layer[l];
            node = layer->n++;
            layer->slot[node] = slot;
            layer->below[node] = below;
            memset(layer->links + (size_t)node * index->m, 0xFF, index->m * sizeof(uint32_t));
            below = node;
        }
        rv__linker_layer(&insert->linker, index, l);
        rv__linker_join(&insert->linker, node, insert->found[l], insert->n_found[l],
                        l ? index->m : (size_t)index->degree * 3 / 4);
        if (l + 1 > top) {
            index->n_levels = l + 1;
            index->entry = node;
        }
    }
}

/* Room for one more row everywhere. */
static rv_status rv__hnsw_room(rv_ctx *ctx, rv_hnsw *index, uint32_t slot, uint32_t level)
{
    rv_status status = RV_OK;
    if (slot >= index->capacity || slot >= index->store.capacity) {
        status = rv__hnsw_grow(ctx, index, (size_t)slot + 1 + (slot < 64 ? 64 : slot / 2));
    }
    for (uint32_t l = 1; l <= level && !status; l++) {
        rv__hnsw_layer *layer = &index->layer[l];
        if (layer->n == layer->capacity) {
            status = rv__hnsw_layer_reserve(ctx, index, layer, layer->n + 8 + layer->n / 2);
        }
    }
    return status;
}

/* Learns codes once there are rows enough; a failure leaves the index as it was. */
static rv_status rv__hnsw_learn_late(rv_ctx *ctx, rv_hnsw *index)
{
    rv__code code;
    rv_status status;
    if (rv__hnsw_coded(index) || index->wanted == RV_HNSW_CODES_NONE || index->code_tried ||
        rv_hnsw_count(index) < RV_HNSW_TRAIN) return RV_OK;
    status = rv__hnsw_learn(ctx, index, rv__hnsw_code_kind(index->wanted), index->code_bytes, &code);
    if (status) return status;
    index->code_tried = 1;
    if (code.kind == RV__CODE_NONE) return RV_OK;
    index->code = code;
    if (index->drop_vectors) rv__store_drop_rows(&index->store);
    return RV_OK;
}

static void rv__hnsw_hold(rv_hnsw *index, uint32_t slot)
{
    index->held[slot / 64] |= (uint64_t)1 << (slot % 64);
    index->store.n_held++;
}

/* Inserts a row; old: the slot that held this key until now, or RV__NO_SLOT. */
static rv_status rv__hnsw_insert(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector, uint32_t old)
{
    rv__insert insert;
    uint32_t slot, level;
    rv_status status = rv__store_check_new(ctx, &index->store, vector);
    if (!status) status = rv__hnsw_learn_late(ctx, index);
    if (!status && old != RV__NO_SLOT) status = rv__store_keyed(ctx, &index->store);
    if (status) return status;
    slot = rv__store_next(&index->store, key);
    level = rv__hnsw_level(index, slot);
    status = rv__hnsw_room(ctx, index, slot, level);
    if (!status) status = rv__insert_open(ctx, &insert, index);
    if (status) return status;
    rv__store_prepare(&index->store, vector, insert.memory);
    rv__hnsw_query_code(&insert.query, insert.memory);
    status = rv__insert_search(ctx, &insert, level);
    if (!status && old != RV__NO_SLOT) {
        status = rv__store_remove(ctx, &index->store, old);
        if (!status) rv__hnsw_hold(index, old);
    }
    if (!status) status = rv__store_add(ctx, &index->store, key, vector, &slot);
    if (!status) {
        if (rv__hnsw_coded(index)) {
            unsigned char *scratch = insert.memory + rv__round_up(rv__store_query_bytes(&index->store), 64) +
                                     rv__round_up(rv__code_elements(&index->code), 64);
            rv__code_encode(&index->code, (const float *)(const void *)insert.memory,
                            index->code.records + (size_t)slot * index->code.record, (float *)(void *)scratch);
        }
        rv__insert_link(&insert, slot, level);
    }
    rv__insert_close(&insert);
    return status;
}

RV_API rv_status rv_hnsw_add(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    if (!status && rv__store_find(&index->store, key) != RV__NO_SLOT) status = rv__store_exists(ctx, key);
    if (!status) status = rv__hnsw_insert(ctx, index, key, vector, RV__NO_SLOT);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_hnsw_update(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    uint32_t old;
    if (status) return status;
    old = rv__store_find(&index->store, key);
    if (old == RV__NO_SLOT) return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "key %l is not present", key);
    status = rv__hnsw_insert(ctx, index, key, vector, old);
    if (!status) rv__hnsw_tidy(ctx, index);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_hnsw_upsert(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector)
{
    return rv_hnsw_contains(index, key) ? rv_hnsw_update(ctx, index, key, vector)
                                        : rv_hnsw_add(ctx, index, key, vector);
}

RV_API rv_status rv_hnsw_get(rv_ctx *ctx, const rv_hnsw *index, uint64_t key, void *out)
{
    uint32_t slot;
    if (!index || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "index and out must not be NULL");
    slot = rv__store_find(&index->store, key);
    if (slot == RV__NO_SLOT) return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "key %l is not present", key);
    if (!index->store.no_rows) {
        rv__store_decode(&index->store, slot, out);
    } else {
        rv_alloc alloc = rv__allocator(ctx);
        size_t n = rv__code_scratch(&index->code);
        float *scratch = (float *)rv__get(&alloc, n, sizeof(float));
        if (!scratch) return rv__no_memory(ctx, n * sizeof(float));
        rv__code_decode(&index->code, slot, (float *)out, scratch);
        if (index->store.norms) rv_scale_f32(index->store.norms[slot], (float *)out, index->store.dim);
        rv__put(&alloc, scratch, n, sizeof(float));
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_remove(rv_ctx *ctx, rv_hnsw *index, uint64_t key)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    uint32_t slot;
    if (status) return status;
    slot = rv__store_find(&index->store, key);
    if (slot == RV__NO_SLOT) return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "key %l is not present", key);
    status = rv__store_remove(ctx, &index->store, slot);
    if (status) return status;
    rv__hnsw_hold(index, slot);
    rv__hnsw_tidy(ctx, index);
    return rv__ok(ctx);
}

/* Many rows for an index that has some: one by one, and out again when one fails. */
static rv_status rv__hnsw_add_many(rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys, const void *vectors, size_t n)
{
    const unsigned char *at = (const unsigned char *)vectors;
    size_t done = 0, bytes = rv__store_vector_bytes(&index->store);
    rv_status status = RV_OK;
    if (!keys) return rv__fail(ctx, RV_ERR_ARG, 0, "keys is NULL but the index has rows already");
    while (done < n && !status) {
        status = rv_hnsw_add(ctx, index, keys[done], at + done * bytes);
        if (!status) done++;
        if (!status && done % 64 == 0) status = rv__poll(ctx);
    }
    if (status) {
        while (done > 0) {
            uint32_t slot = rv__store_find(&index->store, keys[--done]);
            if (!rv__store_remove(NULL, &index->store, slot)) rv__hnsw_hold(index, slot);
        }
    }
    return status;
}

RV_API rv_status rv_hnsw_build(rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys, const void *vectors, size_t n)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    rv_hnsw *fresh;
    if (status) return status;
    if (n && !vectors) return rv__fail(ctx, RV_ERR_ARG, 0, "vectors must not be NULL");
    if (n >= 0x7FFFFFFFu) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z, an index holds below 2147483647 rows", n);
    }
    if (n == 0) return rv__ok(ctx);
    if (rv_hnsw_count(index)) return rv__hnsw_add_many(ctx, index, keys, vectors, n);
    status = rv__hnsw_like(ctx, index, &fresh);
    if (status) return status;
    status = rv__store_reserve(ctx, &fresh->store, n > index->store.capacity ? n : index->store.capacity);
    if (!status) status = rv__hnsw_fill(ctx, fresh, keys, vectors, n);
    if (!status) rv__hnsw_swap(index, fresh);
    rv_hnsw_destroy(fresh);
    return status ? status : rv__ok(ctx);
}

/* ---- repair ---- */

typedef struct rv__repair {
    rv_hnsw *index;
    rv__linker *linker;             /* [lanes]                                                    */
} rv__repair;

static int rv__hnsw_held(const rv_hnsw *index, uint32_t slot)
{
    return index->held && (index->held[slot / 64] >> (slot % 64) & 1u) != 0;
}

/* Replaces held neighbours of the nodes begin..end-1 of layer 0 by the neighbours of those. Lists of
   held nodes are read and not written, so the order of nodes does not matter. */
static void rv__repair_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__repair *job = (const rv__repair *)arg;
    rv_hnsw *index = job->index;
    rv__linker *linker = &job->linker[lane];
    const uint32_t degree = index->degree;
    uint64_t keys[RV__THIN_MAX];
    uint32_t part[RV__THIN_MAX];
    for (size_t node = begin; node < end; node++) {
        uint32_t *links = index->links + node * degree, n = 0, count = 0;
        int broken = 0;
        if (!rv__store_live(&index->store, (uint32_t)node)) continue;
        for (uint32_t i = 0; i < degree && links[i] != RV__NO_SLOT; i++) broken |= rv__hnsw_held(index, links[i]);
        if (!broken) continue;
        for (uint32_t i = 0; i <= degree; i++) {
            /* the node's own links first, then those of each held neighbour */
            const uint32_t *list = i == 0 ? links : index->links + (size_t)links[i - 1] * degree;
            if (i > 0 && links[i - 1] == RV__NO_SLOT) break;
            if (i > 0 && !rv__hnsw_held(index, links[i - 1])) continue;
            count = 0;
            for (uint32_t j = 0; j < degree && list[j] != RV__NO_SLOT && count < RV__THIN_MAX; j++) {
                if (!rv__hnsw_held(index, list[j]) && list[j] != node) part[count++] = list[j];
            }
            rv__build_distances(&linker->b, &linker->lane, (uint32_t)node, part, count, linker->lane.line);
            for (uint32_t j = 0; j < count; j++) {
                rv__pool_add(keys, &n, RV__THIN_MAX, rv__hnsw_key(linker->lane.line[j], part[j]), 1);
            }
        }
        n = (uint32_t)rv__build_thin(&linker->b, &linker->lane, keys, n, degree);
        for (uint32_t i = 0; i < degree; i++) links[i] = i < n ? rv__hnsw_node(keys[i]) : RV__NO_SLOT;
    }
}

/* Takes the layers above 0 from another index of the same store. */
static void rv__hnsw_take_layers(rv_hnsw *index, rv_hnsw *from)
{
    for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) {
        rv__hnsw_layer_free(index, &index->layer[l]);
        index->layer[l] = from->layer[l];
        memset(&from->layer[l], 0, sizeof from->layer[l]);
    }
    index->n_levels = from->n_levels;
    index->entry = from->entry;
}

static rv_status rv__repair_layers(rv_ctx *ctx, rv_hnsw *index, rv_hnsw *upper)
{
    rv_status status;
    *upper = *index;
    memset(upper->layer, 0, sizeof upper->layer);
    status = rv__hnsw_make_layers(ctx, upper);
    for (uint32_t l = 1; l < upper->n_levels && !status; l++) {
        const rv__code *code = index->code.bits == 8 ? &index->code : NULL;
        status = rv__build_layer(ctx, upper, code, upper->layer[l].slot, upper->layer[l].n, index->m,
                                 upper->layer[l].links);
    }
    if (status) {
        for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) rv__hnsw_layer_free(index, &upper->layer[l]);
    }
    return status;
}

/* Repairs the graph around held nodes and frees their slots. On failure the graph is a valid one in
   which some of the work is done. */
static rv_status rv__hnsw_repair(rv_ctx *ctx, rv_hnsw *index)
{
    const rv_alloc *alloc = &index->store.alloc;
    size_t lanes = rv__lanes(ctx), n = index->store.n;
    unsigned char *scratch = NULL;
    rv__connect connect;
    rv__repair job;
    rv_hnsw upper;
    rv_ctx calm;
    rv_status status;
    if (index->store.n_held == 0) return RV_OK;
    memset(&connect, 0, sizeof connect);
    memset(&calm, 0, sizeof calm);
    if (ctx) calm = *ctx;
    calm.poll = NULL; /* the last steps are short and must not stop half way */
    job.index = index;
    job.linker = (rv__linker *)rv__get(alloc, lanes, sizeof(rv__linker));
    status = job.linker ? rv__connect_open(ctx, index, &connect) : rv__no_memory(ctx, lanes * sizeof(rv__linker));
    if (!status) {
        for (size_t i = 0; i < lanes; i++) rv__linker_init(&job.linker[i], ctx, index);
        scratch = (unsigned char *)rv__get(alloc, lanes, job.linker[0].b.lane_bytes);
        if (!scratch) status = rv__no_memory(ctx, lanes * job.linker[0].b.lane_bytes);
    }
    if (!status) {
        for (size_t i = 0; i < lanes; i++) {
            job.linker[i].b.scratch = scratch + i * job.linker[i].b.lane_bytes;
            rv__build_lane_at(&job.linker[i].b, 0, &job.linker[i].lane);
        }
        status = rv__repair_layers(ctx, index, &upper);
    }
    if (!status) {
        status = rv__parallel_for(ctx, n, 64, 1024, rv__repair_range, &job);
        if (status) {
            for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) rv__hnsw_layer_free(index, &upper.layer[l]);
        }
    }
    if (!status) {
        rv__hnsw_take_layers(index, &upper);
        for (size_t slot = 0; slot < n; slot++) {
            if (!rv__hnsw_held(index, (uint32_t)slot)) continue;
            memset(index->links + slot * index->degree, 0xFF, index->degree * sizeof(uint32_t));
        }
        memset(index->held, 0, (index->capacity + 63) / 64 * sizeof(uint64_t));
        index->store.n_held = 0;
        status = rv__connect_run(&calm, index, &connect);
    }
    if (scratch) rv__put(alloc, scratch, lanes, job.linker[0].b.lane_bytes);
    rv__connect_close(index, &connect);
    rv__put(alloc, job.linker, lanes, sizeof(rv__linker));
    return status;
}

/* Repairs when it is due. A failure only postpones it. */
static void rv__hnsw_tidy(rv_ctx *ctx, rv_hnsw *index)
{
    if (index->store.n_held < 64 || index->store.n_held < index->store.n / 8) return;
    (void)rv__hnsw_repair(ctx, index);
}

/* ---- compaction ---- */

/* Moves codes and links to the slots that new_slot tells. links, records: new arrays, both may be as
   small as the live rows. */
static void rv__compact_move(const rv_hnsw *index, const uint32_t *new_slot, size_t n, uint32_t *links,
                             unsigned char *records)
{
    const uint32_t degree = index->degree;
    for (size_t slot = 0; slot < n; slot++) {
        const uint32_t *from = index->links + slot * degree;
        uint32_t *to;
        if (new_slot[slot] == RV__NO_SLOT) continue;
        to = links + (size_t)new_slot[slot] * degree;
        for (uint32_t i = 0; i < degree; i++) to[i] = from[i] == RV__NO_SLOT ? RV__NO_SLOT : new_slot[from[i]];
        if (records) {
            memcpy(records + (size_t)new_slot[slot] * index->code.record,
                   index->code.records + slot * index->code.record, index->code.record);
        }
    }
}

RV_API rv_status rv_hnsw_compact(rv_ctx *ctx, rv_hnsw *index)
{
    const rv_alloc *alloc;
    size_t n, live, words;
    uint32_t *new_slot, *links;
    uint64_t *held;
    unsigned char *records = NULL;
    rv_hnsw upper;
    rv_status status = rv__hnsw_writable(ctx, index);
    if (!status) status = rv__hnsw_repair(ctx, index);
    if (status) return status;
    alloc = &index->store.alloc;
    n = index->store.n;
    live = rv_hnsw_count(index);
    if (live == n && index->capacity == n && index->store.capacity == n) return rv__ok(ctx);
    words = (live + 63) / 64;
    new_slot = (uint32_t *)rv__get(alloc, n, sizeof(uint32_t));
    links = (uint32_t *)rv__get(alloc, live * index->degree, sizeof(uint32_t));
    held = (uint64_t *)rv__get_zero(alloc, words, sizeof(uint64_t));
    if (rv__hnsw_coded(index)) records = (unsigned char *)rv__get(alloc, live, index->code.record);
    if (!new_slot || !links || !held || (rv__hnsw_coded(index) && !records)) {
        status = rv__no_memory(ctx, live * index->degree * sizeof(uint32_t));
    }
    if (!status) status = rv__store_compact(ctx, &index->store, new_slot);
    if (!status) {
        rv__compact_move(index, new_slot, n, links, records);
        rv__put(alloc, index->links, index->capacity * index->degree, sizeof(uint32_t));
        rv__put(alloc, index->held, (index->capacity + 63) / 64, sizeof(uint64_t));
        index->links = links;
        index->held = held;
        index->store.held = held;
        index->capacity = live;
        if (records) {
            rv__put(alloc, index->code.records, index->code.capacity, index->code.record);
            index->code.records = records;
            index->code.capacity = live;
        }
        /* levels follow from slots, so the small layers are made anew; without memory for that the
           walk does with layer 0 alone, and the next repair makes them */
        if (live && rv__repair_layers(NULL, index, &upper) == RV_OK) {
            rv__hnsw_take_layers(index, &upper);
        } else {
            memset(&upper, 0, sizeof upper);
            upper.n_levels = live ? 1 : 0;
            rv__hnsw_take_layers(index, &upper);
        }
    } else {
        rv__put(alloc, links, live * index->degree, sizeof(uint32_t));
        rv__put(alloc, held, words, sizeof(uint64_t));
        rv__put(alloc, records, live, index->code.record);
    }
    rv__put(alloc, new_slot, n, sizeof(uint32_t));
    return status ? status : rv__ok(ctx);
}

#endif /* RV_HNSW_EDIT_C */
/* ==== src/hnsw_query.c ======================================================================== */
#ifndef RV_HNSW_QUERY_C
#define RV_HNSW_QUERY_C

/* Search as the caller sees it: plain, filtered, many queries at once.

   Every query is one of three:
   - walk: the beam is the result. Rows have not been removed and nothing filters.
   - walk with a pool: the beam leads through all nodes, the pool beside it keeps the rows that may be
     returned, and the walk ends when the nearest entry not yet expanded is farther than the worst of
     a full pool. The beam is long enough for the share of rows that pass.
   - scan: so few rows pass that looking at each of them costs less than such a walk.
   A walk that ends before its pool is full, or whose beam is too short for the distance at which rows
   pass, because the filter lets only rows far from the query through, is followed by a scan. The
   beam is limited so that both together cost about twice the scan. So a filter that knows the query
   costs time, not recall.

   The share that passes is counted for small sets, sampled for large ones, or told by the caller.
   What is ranked at the end are the vectors of the best candidates.

   Compared with ACORN (Patel et al., 2024), which looks through the links of neighbours that do not
   pass: with codes of one to four cache lines a distance costs as much as looking a link list up,
   so that measuring the nodes in between is no dearer than stepping over them. */

#define RV__HNSW_EF 40u             /* beam when the caller does not say                          */
#define RV__HNSW_EF_MAX (1u << 20)

/* ---- ranking ---- */

/* Candidates that are ranked by their vectors when the caller does not say. */
static size_t rv__hnsw_rerank(const rv_hnsw *index, size_t k, size_t wanted, size_t n)
{
    size_t count = wanted ? wanted : k + 12 + n / 4;
    if (!rv__hnsw_coded(index) || index->store.no_rows) count = k;
    if (count < k) count = k;
    return count < n ? count : n;
}

static int rv__hit_before(const rv_hit *a, const rv_hit *b)
{
    uint32_t x = rv__order_f32(a->distance), y = rv__order_f32(b->distance);
    return x != y ? x < y : a->key < b->key;
}

/* Sorts hits by distance, then key. Insertion sort: the input is nearly sorted already. */
static void rv__hnsw_sort(rv_hit *hits, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        rv_hit hit = hits[i];
        size_t j = i;
        for (; j > 0 && rv__hit_before(&hit, &hits[j - 1]); j--) hits[j] = hits[j - 1];
        hits[j] = hit;
    }
}

/* Exact distances of keys[count], or what the codes say when there are no vectors; estimates are put
   where the metric's values lie. ids, distance: [count]. */
static void rv__hnsw_exact(const rv__hnsw_query *query, const uint64_t *keys, size_t count,
                           uint32_t *ids, float *distance)
{
    const rv__store *store = &query->index->store;
    for (size_t i = 0; i < count; i++) ids[i] = rv__hnsw_node(keys[i]);
    if (!rv__hnsw_coded(query->index)) {
        for (size_t i = 0; i < count; i++) distance[i] = rv__hnsw_key_distance(keys[i]);
    } else if (!store->no_rows) {
        rv__store_scan(store, query->isa, query->exact, ids, 0, count, distance);
    } else {
        for (size_t i = 0; i < count; i++) {
            float d = rv__hnsw_key_distance(keys[i]);
            if (store->metric != RV_METRIC_IP && d < 0.0f) d = 0.0f;
            if (store->metric == RV_METRIC_COSINE && d > 2.0f) d = 2.0f;
            distance[i] = d;
        }
    }
}

/* Turns the first count of sorted keys into at most k hits. all, ids, distance: [count]. */
static size_t rv__hnsw_rank(const rv__hnsw_query *query, const uint64_t *keys, size_t count,
                            size_t k, uint32_t *ids, float *distance, rv_hit *all, rv_hit *hits)
{
    rv__hnsw_exact(query, keys, count, ids, distance);
    for (size_t i = 0; i < count; i++) {
        all[i].key = rv__store_key(&query->index->store, ids[i]);
        all[i].distance = distance[i];
    }
    rv__hnsw_sort(all, count);
    if (k > count) k = count;
    memcpy(hits, all, k * sizeof *hits);
    return k;
}

/* ---- what passes ---- */

/* The share of rows a filter lets through and what asking costs, in distances. */
typedef struct rv__hnsw_share {
    double share;
    double test;
} rv__hnsw_share;

static int rv__hnsw_pass(const rv_hnsw *index, const rv_filter *filter, uint32_t slot)
{
    return rv__store_live(&index->store, slot) &&
           rv__filter_pass(filter, rv__store_key(&index->store, slot));
}

/* Slots base .. base + 63 that are live and, where keys are slots, in the filter's bits. */
static uint64_t rv__hnsw_pass_word(const rv_hnsw *index, const rv_filter *filter, uint32_t base)
{
    const rv__store *store = &index->store;
    uint32_t left = store->n - base;
    uint64_t word = left < 64 ? ((uint64_t)1 << left) - 1u : ~(uint64_t)0;
    if (store->removed) word &= ~store->removed[base / 64];
    if (filter && filter->bits && !store->keys) {
        uint64_t bits = 0, first = base / 8, bytes = (filter->n_bits + 7) / 8;
        for (uint64_t i = 0; i < 8 && first + i < bytes; i++) {
            bits |= (uint64_t)filter->bits[(size_t)(first + i)] << (8 * i);
        }
        if (filter->n_bits < base) bits = 0;
        else if (filter->n_bits - base < 64) bits &= ((uint64_t)1 << (filter->n_bits - base)) - 1u;
        word &= bits;
    }
    return word;
}

static uint32_t rv__hnsw_count_bits(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555ull;
    x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
    return (uint32_t)((x * 0x0101010101010101ull) >> 56);
}

#define RV__SHARE_SAMPLE 1024u      /* slots, or words of 64 slots, looked at                     */

/* Estimates within about one part in 30 at 50 %, one in 4 at 1 %. Bits over slots are taken by whole
   words. Places are scattered, as a period of the keys must not meet one of the sample. */
static double rv__hnsw_sample(const rv_hnsw *index, const rv_filter *filter)
{
    const uint32_t n = index->store.n, words = (n + 63) / 64;
    const int by_word = filter->bits && !filter->accept && !index->store.keys;
    uint64_t passed = 0, seen = 0;
    uint32_t total = by_word ? words : n, count = total < RV__SHARE_SAMPLE ? total : RV__SHARE_SAMPLE;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        if (count < total) at = (uint32_t)((rv__mix(i) >> 32) * total >> 32);
        if (by_word) {
            passed += rv__hnsw_count_bits(rv__hnsw_pass_word(index, filter, at * 64));
            seen += n - at * 64 < 64 ? n - at * 64 : 64;
        } else {
            passed += (uint64_t)(rv__hnsw_pass(index, filter, at) != 0);
            seen++;
        }
    }
    return (double)passed / (double)seen;
}

static rv__hnsw_share rv__hnsw_measure(const rv_hnsw *index, const rv_filter *filter)
{
    const double live = (double)rv_hnsw_count(index) / (double)index->store.n;
    rv__hnsw_share result;
    result.share = live;
    result.test = 0.01;
    if (!filter) return result;
    if (filter->selectivity > 0) result.share = live * filter->selectivity;
    else result.share = rv__hnsw_sample(index, filter);
    if (filter->accept) result.test = 0.2;
    else if (index->store.keys) result.test = 0.1;
    return result;
}

/* ---- plans ---- */

/* All about a search that is the same for every query of a batch. */
typedef struct rv__hnsw_plan {
    const rv_hnsw *index;
    const rv_filter *filter;        /* NULL: everything passes                                    */
    rv_isa isa;
    size_t k;
    size_t ef;                      /* entries of the beam                                        */
    size_t pool;                    /* entries of the pool; 0: the beam is the result             */
    size_t count;                   /* candidates ranked by their vectors                         */
    int scan;                       /* do not walk                                                */
    double cost;                    /* of a query, in distances                                   */
    size_t query_bytes, walk_bytes, pool_bytes, bytes; /* of the scratch of one query             */
} rv__hnsw_plan;

/* Chooses between walk and scan. A hop costs the distances of about three quarters of its links.
   Where a share s passes, a walk that fills a pool of p rows expands about p / s nodes. */
static void rv__hnsw_choose(rv__hnsw_plan *plan)
{
    const rv_hnsw *index = plan->index;
    const double n = (double)index->store.n, ef = (double)plan->ef, hop = 0.75 * index->degree + 4.0;
    const rv__hnsw_share share = rv__hnsw_measure(index, plan->filter);
    const double scan = n * share.test + 0.7 * n * share.share + 64.0;
    double length = share.share * n > 1.0 ? ef / share.share : n, most;
    plan->pool = plan->ef;
    plan->cost = length * hop;
    if (plan->cost >= scan) {
        plan->scan = 1;
        plan->cost = scan;
        if (plan->pool < 64) plan->pool = 64; /* so few matches are all ranked by their vectors */
        return;
    }
    length = 2.0 * length + 32.0;
    most = scan / hop + 2.0 * ef;
    if (length > most) length = most;
    plan->ef = length < n ? (size_t)length : index->store.n;
    if (plan->ef < plan->pool) plan->ef = plan->pool;
}

static rv_status rv__hnsw_check_options(rv_ctx *ctx, const rv_hnsw_options *options)
{
    double share = options && options->filter ? options->filter->selectivity : 0;
    if (options && options->ef > RV__HNSW_EF_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "ef is %z, must be at most 1048576", (size_t)options->ef);
    }
    if (!(share >= 0 && share <= 1)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "filter: selectivity is %f, must be 0..1", share);
    }
    return RV_OK;
}

/* k must be 1 .. rv_hnsw_count, the options checked. */
static void rv__hnsw_plan_make(const rv_ctx *ctx, const rv_hnsw *index, size_t k,
                               const rv_hnsw_options *options, rv__hnsw_plan *plan)
{
    const rv_filter *filter = options ? options->filter : NULL;
    size_t best;
    if (filter && !filter->bits && !filter->accept) filter = NULL;
    memset(plan, 0, sizeof *plan);
    plan->index = index;
    plan->filter = filter;
    plan->isa = ctx ? ctx->isa : RV_ISA_BEST;
    plan->k = k;
    plan->ef = options && options->ef ? options->ef : RV__HNSW_EF;
    if (plan->ef < k) plan->ef = k;
    if (plan->ef > rv_hnsw_count(index)) plan->ef = rv_hnsw_count(index);
    plan->cost = (double)plan->ef * index->degree;
    plan->count = rv__hnsw_rerank(index, k, options ? options->rerank : 0, plan->ef);
    if (filter || index->store.n_removed) rv__hnsw_choose(plan);
    best = plan->pool ? plan->pool : plan->ef;
    plan->query_bytes = rv__round_up(rv__hnsw_query_bytes(index), 64);
    plan->walk_bytes = rv__round_up(rv__walk_bytes(index, plan->ef), 64);
    plan->pool_bytes = plan->pool ? rv__round_up((plan->pool + 1) * sizeof(uint64_t), 64) : 0;
    plan->bytes = rv__round_up(best * (sizeof(rv_hit) + sizeof(uint32_t) + sizeof(float)), 64);
    plan->bytes += plan->query_bytes + plan->walk_bytes + plan->pool_bytes;
}

/* ---- one query ---- */

typedef struct rv__hnsw_run {
    const rv__hnsw_plan *plan;
    rv__hnsw_query query;
    rv__walk walk;
    rv__walk pool;                  /* its beam, n and ef only                                    */
} rv__hnsw_run;

static void rv__hnsw_offer(const rv__hnsw_run *run, rv__walk *pool, uint64_t key)
{
    if (pool->n == pool->ef && key >= pool->beam[pool->n - 1]) return;
    if (!rv__hnsw_pass(run->plan->index, run->plan->filter, rv__hnsw_node(key))) return;
    (void)rv__walk_insert(pool, key);
}

/* The walk with a pool. As in rv__walk_run two entries are expanded at a time. What is farther than
   the worst of a full pool is of no use to beam or pool. */
static rv_status rv__hnsw_walk_pool(rv_ctx *ctx, rv__hnsw_run *run)
{
    const rv_hnsw *index = run->plan->index;
    rv__walk *walk = &run->walk, *pool = &run->pool;
    uint64_t next_poll = walk->hops + 1024;
    size_t at = 0;
    rv__hnsw_offer(run, pool, walk->beam[0]);
    while (at < walk->n) {
        size_t n = 0, first = walk->n, taken = 0;
        for (size_t i = at; i < walk->n && taken < RV__WALK_WIDTH; i++) {
            if (walk->beam[i] & 1u) continue;
            if (pool->n == pool->ef && walk->beam[i] > pool->beam[pool->n - 1]) break;
            walk->beam[i] |= 1u;
            n = rv__walk_collect(index, walk, rv__hnsw_node(walk->beam[i]), n);
            taken++;
            at = i + 1;
        }
        if (!taken) break;
        walk->hops += taken;
        walk->distances += n;
        rv__hnsw_distances(&run->query, walk->ids, n, walk->distance);
        for (size_t i = 0; i < n; i++) {
            const uint64_t key = rv__hnsw_key(walk->distance[i], walk->ids[i]);
            size_t place;
            if (pool->n == pool->ef && key >= pool->beam[pool->n - 1]) continue;
            rv__hnsw_offer(run, pool, key);
            place = rv__walk_insert(walk, key);
            if (place == walk->ef) continue;
            RV__PREFETCH(index->links + (size_t)walk->ids[i] * index->degree);
            RV__PREFETCH(index->links + (size_t)walk->ids[i] * index->degree + 16);
            if (place < first) first = place;
        }
        if (first < at) at = first;
        if (walk->hops >= next_poll) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            next_poll = walk->hops + 1024;
        }
    }
    return RV_OK;
}

/* Whether rows nearer than the worst of the pool may have been missed: it is not full, or the beam was
   too short for the distance at which rows pass. */
static int rv__hnsw_fell_short(const rv__hnsw_run *run)
{
    const rv__walk *walk = &run->walk, *pool = &run->pool;
    if (pool->n < pool->ef) return 1;
    return walk->n == walk->ef && walk->n < run->plan->index->store.n &&
           walk->beam[walk->n - 1] < pool->beam[pool->n - 1];
}

static void rv__hnsw_scan_ids(rv__hnsw_run *run, size_t n)
{
    rv__walk *walk = &run->walk, *pool = &run->pool;
    rv__hnsw_distances(&run->query, walk->ids, n, walk->distance);
    for (size_t i = 0; i < n; i++) {
        (void)rv__walk_insert(pool, rv__hnsw_key(walk->distance[i], walk->ids[i]));
    }
    walk->distances += n;
}

/* Measures every row that passes. *matches: how many do. */
static rv_status rv__hnsw_scan(rv_ctx *ctx, rv__hnsw_run *run, size_t *matches)
{
    const rv_hnsw *index = run->plan->index;
    const rv_filter *filter = run->plan->filter;
    const int ask = filter && (filter->accept || index->store.keys);
    const size_t most = (size_t)RV__WALK_WIDTH * index->degree;
    size_t n = 0, total = 0, next_poll = 65536;
    run->pool.n = 0;
    for (uint32_t base = 0; base < index->store.n; base += 64) {
        uint64_t word = rv__hnsw_pass_word(index, filter, base);
        for (; word; word &= word - 1) {
            uint32_t slot = base + rv__hnsw_count_bits((word & (~word + 1u)) - 1u);
            if (ask && !rv__filter_pass(filter, rv__store_key(&index->store, slot))) continue;
            run->walk.ids[n++] = slot;
            total++;
            if (n == most) {
                rv__hnsw_scan_ids(run, n);
                n = 0;
            }
        }
        if (total + base >= next_poll) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            next_poll = total + base + 65536;
        }
    }
    rv__hnsw_scan_ids(run, n);
    *matches = total;
    return RV_OK;
}

/* Answers one query that has been checked. memory: [plan->bytes]; trace may be NULL and is added to.
   hits: [k]. */
static rv_status rv__hnsw_run_query(rv_ctx *ctx, const rv__hnsw_plan *plan, unsigned char *memory,
                                    const void *vector, rv_hnsw_trace *trace, rv_hit *hits,
                                    size_t *n_hits)
{
    const rv_hnsw *index = plan->index;
    unsigned char *at = memory + plan->query_bytes;
    size_t best = plan->pool ? plan->pool : plan->ef, count = plan->count, found = 0;
    int scanned = plan->scan;
    rv_hit *all;
    uint32_t *ids;
    rv__hnsw_run run;
    rv_status status = RV_OK;
    run.plan = plan;
    run.query.index = index;
    run.query.isa = plan->isa;
    run.query.kernels = rv__kernels_for(plan->isa);
    rv__store_prepare(&index->store, vector, memory);
    rv__hnsw_query_code(&run.query, memory);
    rv__walk_init(&run.walk, index, plan->ef, at);
    run.pool = run.walk;
    at += plan->walk_bytes;
    if (plan->pool) {
        run.pool.beam = (uint64_t *)(void *)at;
        run.pool.ef = plan->pool;
        at += plan->pool_bytes;
    }
    all = (rv_hit *)(void *)at;
    ids = (uint32_t *)(void *)(all + best);
    if (!plan->scan) {
        float distance;
        uint32_t node = rv__hnsw_descend(&run.query, &run.walk, &distance);
        rv__walk_start(&run.walk, node, distance);
        if (plan->pool) {
            status = rv__hnsw_walk_pool(ctx, &run);
            scanned = rv__hnsw_fell_short(&run);
        } else {
            status = rv__walk_run(ctx, &run.query, &run.walk);
            run.pool.n = run.walk.n;
            scanned = run.walk.n < plan->k;
        }
    }
    if (!status && scanned) {
        status = rv__hnsw_scan(ctx, &run, &found);
        if (found <= run.pool.ef) count = found;
    }
    if (status) return status;
    if (count > run.pool.n) count = run.pool.n;
    *n_hits = rv__hnsw_rank(&run.query, run.pool.beam, count, plan->k, ids,
                            (float *)(void *)(ids + best), all, hits);
    if (trace) {
        trace->hops += run.walk.hops;
        trace->distances += run.walk.distances;
        if (rv__hnsw_coded(index) && !index->store.no_rows) trace->reranked += count;
        trace->scanned += scanned;
    }
    return RV_OK;
}

RV_API rv_status rv_hnsw_search_with(rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                     const rv_hnsw_options *options, rv_hit *hits, size_t *n_hits)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_hnsw_trace trace;
    rv__hnsw_plan plan;
    unsigned char *memory;
    rv_status status;
    if (!index || !n_hits || (k && !hits)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "index, hits and n_hits must not be NULL");
    }
    status = rv__store_check(ctx, &index->store, query, "query");
    if (!status) status = rv__hnsw_check_options(ctx, options);
    if (status) return status;
    memset(&trace, 0, sizeof trace);
    if (k > rv_hnsw_count(index)) k = rv_hnsw_count(index);
    if (k == 0) {
        *n_hits = 0;
    } else {
        rv__hnsw_plan_make(ctx, index, k, options, &plan);
        memory = (unsigned char *)rv__get(&alloc, plan.bytes, 1);
        if (!memory) return rv__no_memory(ctx, plan.bytes);
        status = rv__hnsw_run_query(ctx, &plan, memory, query, &trace, hits, n_hits);
        rv__put(&alloc, memory, plan.bytes, 1);
    }
    if (status) return status;
    if (options && options->trace) *options->trace = trace;
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_search(rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                size_t ef, rv_hit *hits, size_t *n_hits)
{
    rv_hnsw_options options;
    memset(&options, 0, sizeof options);
    options.ef = ef > RV__HNSW_EF_MAX ? RV__HNSW_EF_MAX + 1u : (uint32_t)ef;
    return rv_hnsw_search_with(ctx, index, query, k, &options, hits, n_hits);
}

/* ---- many queries ---- */

typedef struct rv__hnsw_batch {
    const rv__hnsw_plan *plan;
    const unsigned char *queries;
    size_t vector_bytes;
    unsigned char *memory;          /* [lanes, plan->bytes]                                       */
    rv_hnsw_trace *trace;           /* [lanes]                                                    */
    rv_hit *hits;
    size_t *n_hits, hits_stride;
} rv__hnsw_batch;

static void rv__hnsw_batch_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__hnsw_batch *job = (const rv__hnsw_batch *)arg;
    for (size_t i = begin; i < end; i++) {
        /* without a context there is no poll, and nothing else here can fail */
        (void)rv__hnsw_run_query(NULL, job->plan, job->memory + lane * job->plan->bytes,
                                 job->queries + i * job->vector_bytes, &job->trace[lane],
                                 job->hits + i * job->hits_stride, &job->n_hits[i]);
    }
}

static rv_status rv__hnsw_batch_run(rv_ctx *ctx, rv__hnsw_batch *job, size_t n_queries,
                                    rv_hnsw_trace *trace)
{
    const rv_alloc alloc = rv__allocator(ctx);
    size_t lanes = rv__lanes(ctx), section = 1;
    rv_status status;
    if (lanes > n_queries) lanes = n_queries;
    /* 10 ms at about 15 ns for a distance */
    if (job->plan->cost < 1e6) section = 1 + (size_t)(6e5 / (job->plan->cost + 100.0));
    job->memory = (unsigned char *)rv__get(&alloc, lanes, job->plan->bytes);
    job->trace = (rv_hnsw_trace *)rv__get_zero(&alloc, lanes, sizeof(rv_hnsw_trace));
    if (!job->memory || !job->trace) {
        status = rv__no_memory(ctx, rv__mul(lanes, job->plan->bytes));
    } else {
        status = rv__parallel_for(ctx, n_queries, 1, section, rv__hnsw_batch_range, job);
    }
    for (size_t i = 0; i < lanes && !status; i++) {
        trace->hops += job->trace[i].hops;
        trace->distances += job->trace[i].distances;
        trace->reranked += job->trace[i].reranked;
        trace->scanned += job->trace[i].scanned;
    }
    rv__put(&alloc, job->trace, lanes, sizeof(rv_hnsw_trace));
    rv__put(&alloc, job->memory, lanes, job->plan->bytes);
    return status;
}

RV_API rv_status rv_hnsw_search_batch(rv_ctx *ctx, const rv_hnsw *index, const void *queries,
                                      size_t n_queries, size_t k, const rv_hnsw_options *options,
                                      rv_hit *hits, size_t *n_hits)
{
    rv_hnsw_trace trace;
    rv__hnsw_plan plan;
    rv__hnsw_batch job;
    rv_status status;
    if (!index || (n_queries && (!queries || !n_hits || (k && !hits)))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "index, queries, hits and n_hits must not be NULL");
    }
    status = rv__hnsw_check_options(ctx, options);
    job.vector_bytes = rv__store_vector_bytes(&index->store);
    job.queries = (const unsigned char *)queries;
    for (size_t i = 0; i < n_queries && !status; i++) {
        status = rv__store_check(ctx, &index->store, job.queries + i * job.vector_bytes, "queries");
        if (status && ctx) ctx->where += i * index->store.dim;
    }
    if (status) return status;
    memset(&trace, 0, sizeof trace);
    job.hits_stride = k;
    if (k > rv_hnsw_count(index)) k = rv_hnsw_count(index);
    if (k == 0) {
        for (size_t i = 0; i < n_queries; i++) n_hits[i] = 0;
    } else if (n_queries) {
        rv__hnsw_plan_make(ctx, index, k, options, &plan);
        job.plan = &plan;
        job.hits = hits;
        job.n_hits = n_hits;
        status = rv__hnsw_batch_run(ctx, &job, n_queries, &trace);
    }
    if (status) return status;
    if (options && options->trace) *options->trace = trace;
    return rv__ok(ctx);
}

#endif /* RV_HNSW_QUERY_C */
/* ==== src/hnsw_iter.c ========================================================================= */
#ifndef RV_HNSW_ITER_C
#define RV_HNSW_ITER_C

/* A walk that can go on for ever: the iterator, and range search on top of it.

   It goes in rounds. A round is a beam search that ends when every entry of the beam is expanded; then
   the beam is emptied: its rows are ranked by their vectors and handed out. What fell off the beam or
   did not enter it is kept in a heap, and the next round begins with the nearest of that. Every node
   is marked when it is first met, in a bit set, and afterwards is in exactly one place: beam, heap,
   or handed out. So no row comes twice, and in the end all that can be reached has come.

   Room for what one expansion may push into the heap is made before it, so that a refused allocation
   or a cancellation stops between two expansions and the next call goes on from there. */

#define RV__ITER_GROWN 1024u        /* the beam doubles from round to round up to this            */

struct rv_hnsw_iter {
    rv_alloc alloc;
    const rv_hnsw *index;
    rv_filter filter;               /* all zero: everything passes                                */
    int whole;                      /* rank rows that do not pass as well                         */
    rv__hnsw_query query;
    unsigned char *memory;          /* query, beam, ids, distances, hits, bit set                 */
    size_t bytes;
    rv__walk walk;                  /* without its table of seen nodes                            */
    size_t at;                      /* entries of the beam before it are expanded                 */
    size_t ef_max;
    uint64_t *seen;                 /* bit per node                                               */
    uint64_t *rest;                 /* min-heap of keys                                           */
    size_t n_rest, rest_cap;
    uint32_t *ids;                  /* [ef_max]                                                   */
    float *distance;                /* [ef_max]                                                   */
    rv_hit *hits;                   /* [ef_max] of the last round                                 */
    size_t n_hits, next;
    float nearest;                  /* of the last round, of rows that do not pass too if whole   */
};

/* ---- heap ---- */

static void rv__iter_push(rv_hnsw_iter *iter, uint64_t key)
{
    size_t i = iter->n_rest++;
    while (i > 0 && iter->rest[(i - 1) / 2] > key) {
        iter->rest[i] = iter->rest[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    iter->rest[i] = key;
}

static uint64_t rv__iter_pop(rv_hnsw_iter *iter)
{
    uint64_t *heap = iter->rest, top = heap[0], last = heap[--iter->n_rest];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < iter->n_rest) {
        if (child + 1 < iter->n_rest && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* Room for so many more keys. */
static rv_status rv__iter_room(rv_ctx *ctx, rv_hnsw_iter *iter, size_t more)
{
    size_t cap = iter->rest_cap + iter->rest_cap / 2;
    uint64_t *rest;
    if (iter->n_rest + more <= iter->rest_cap) return RV_OK;
    if (cap < iter->n_rest + more) cap = iter->n_rest + more;
    rest = (uint64_t *)rv__regrow(&iter->alloc, iter->rest, iter->rest_cap, cap, sizeof(uint64_t));
    if (!rest) return rv__no_memory(ctx, cap * sizeof(uint64_t));
    iter->rest = rest;
    iter->rest_cap = cap;
    return RV_OK;
}

/* ---- rounds ---- */

/* As rv__walk_collect, with the bit set. */
static size_t rv__iter_collect(rv_hnsw_iter *iter, uint32_t node, size_t n)
{
    const rv_hnsw *index = iter->index;
    const uint32_t *links = index->links + (size_t)node * index->degree;
    for (uint32_t i = 0; i < index->degree && links[i] != RV__NO_SLOT; i++) {
        const uint64_t bit = (uint64_t)1 << (links[i] % 64);
        if (iter->seen[links[i] / 64] & bit) continue;
        iter->seen[links[i] / 64] |= bit;
        if (index->code.records) {
            const unsigned char *record = index->code.records + (size_t)links[i] * index->code.record;
            RV__PREFETCH(record);
            RV__PREFETCH(record + 64);
        }
        iter->walk.ids[n++] = links[i];
    }
    return n;
}

/* Expands until all of the beam is expanded. */
static rv_status rv__iter_expand(rv_ctx *ctx, rv_hnsw_iter *iter)
{
    rv__walk *walk = &iter->walk;
    while (iter->at < walk->n) {
        size_t n = 0, first = walk->n, taken = 0;
        rv_status status = rv__iter_room(ctx, iter, RV__WALK_WIDTH * iter->index->degree);
        if (!status && walk->hops / 1024 != (walk->hops + RV__WALK_WIDTH) / 1024) status = rv__poll(ctx);
        if (status) return status;
        for (size_t i = iter->at; i < walk->n && taken < RV__WALK_WIDTH; i++) {
            iter->at = i + 1;
            if (walk->beam[i] & 1u) continue;
            walk->beam[i] |= 1u;
            n = rv__iter_collect(iter, rv__hnsw_node(walk->beam[i]), n);
            taken++;
        }
        walk->hops += taken;
        walk->distances += n;
        rv__hnsw_distances(&iter->query, walk->ids, n, walk->distance);
        for (size_t i = 0; i < n; i++) {
            const uint64_t key = rv__hnsw_key(walk->distance[i], walk->ids[i]);
            const int full = walk->n == walk->ef;
            const uint64_t last = full ? walk->beam[walk->n - 1] : 0;
            const size_t place = rv__walk_insert(walk, key);
            if (full) rv__iter_push(iter, place < walk->ef ? last : key);
            if (place < first) first = place;
        }
        if (first < iter->at) iter->at = first;
    }
    return RV_OK;
}

/* Ranks the rows of the beam and empties it. */
static void rv__iter_harvest(rv_hnsw_iter *iter)
{
    const rv_hnsw *index = iter->index;
    rv__walk *walk = &iter->walk;
    size_t n = 0;
    for (size_t i = 0; i < walk->n && !iter->whole; i++) {
        if (rv__hnsw_pass(index, &iter->filter, rv__hnsw_node(walk->beam[i]))) walk->beam[n++] = walk->beam[i];
    }
    if (!iter->whole) walk->n = n;
    rv__hnsw_exact(&iter->query, walk->beam, walk->n, iter->ids, iter->distance);
    iter->nearest = rv__infinity();
    iter->n_hits = iter->next = 0;
    for (size_t i = 0; i < walk->n; i++) {
        if (iter->distance[i] < iter->nearest) iter->nearest = iter->distance[i];
        if (iter->whole && !rv__hnsw_pass(index, &iter->filter, iter->ids[i])) continue;
        iter->hits[iter->n_hits].key = rv__store_key(&index->store, iter->ids[i]);
        iter->hits[iter->n_hits++].distance = iter->distance[i];
    }
    rv__hnsw_sort(iter->hits, iter->n_hits);
    walk->n = 0;
    walk->ef = 2 * walk->ef < iter->ef_max ? 2 * walk->ef : iter->ef_max;
}

/* Makes the hits of the next round; RV_DONE when there is nothing left to walk to. A round that was
   stopped goes on. */
static rv_status rv__iter_round(rv_ctx *ctx, rv_hnsw_iter *iter)
{
    rv__walk *walk = &iter->walk;
    rv_status status;
    if (walk->n == 0) {
        while (walk->n < walk->ef && iter->n_rest) walk->beam[walk->n++] = rv__iter_pop(iter);
        iter->at = 0;
    }
    if (walk->n == 0) return RV_DONE;
    status = rv__iter_expand(ctx, iter);
    if (!status) rv__iter_harvest(iter);
    return status;
}

/* ---- opening ---- */

static void rv__iter_close(rv_hnsw_iter *iter)
{
    rv__put(&iter->alloc, iter->rest, iter->rest_cap, sizeof(uint64_t));
    rv__put(&iter->alloc, iter->memory, iter->bytes, 1);
}

static void rv__iter_start(rv_hnsw_iter *iter)
{
    rv__walk *walk = &iter->walk;
    float distance;
    uint32_t node = rv__hnsw_descend(&iter->query, walk, &distance);
    iter->seen[node / 64] |= (uint64_t)1 << (node % 64);
    walk->beam[0] = rv__hnsw_key(distance, node);
    walk->n = 1;
}

static rv_status rv__iter_open(rv_ctx *ctx, const rv_hnsw *index, const void *query,
                               const rv_hnsw_options *options, int whole, rv_hnsw_iter *iter)
{
    const size_t degree = index->degree, n = index->store.n;
    size_t query_bytes, list, beam, hits, words, ef;
    unsigned char *at;
    rv_status status = rv__store_check(ctx, &index->store, query, "query");
    if (!status) status = rv__hnsw_check_options(ctx, options);
    if (status) return status;
    memset(iter, 0, sizeof *iter);
    iter->alloc = rv__allocator(ctx);
    iter->index = index;
    iter->whole = whole;
    if (options && options->filter) iter->filter = *options->filter;
    ef = options && options->ef ? options->ef : RV__HNSW_EF;
    if (ef > n) ef = n ? n : 1;
    iter->ef_max = ef > RV__ITER_GROWN ? ef : RV__ITER_GROWN;
    if (iter->ef_max > n) iter->ef_max = n ? n : 1;
    query_bytes = rv__round_up(rv__hnsw_query_bytes(index), 64);
    beam = rv__round_up((iter->ef_max + 1) * sizeof(uint64_t), 64);
    list = rv__round_up(RV__WALK_WIDTH * degree * sizeof(uint32_t), 64);
    hits = rv__round_up(iter->ef_max * (sizeof(rv_hit) + sizeof(uint32_t) + sizeof(float)), 64);
    words = (n + 63) / 64;
    iter->bytes = query_bytes + beam + 2 * list + hits + words * sizeof(uint64_t);
    iter->memory = at = (unsigned char *)rv__get(&iter->alloc, iter->bytes, 1);
    if (!at) return rv__no_memory(ctx, iter->bytes);
    rv__hnsw_query_init(&iter->query, ctx, index);
    rv__store_prepare(&index->store, query, at);
    rv__hnsw_query_code(&iter->query, at);
    at += query_bytes;
    iter->walk.beam = (uint64_t *)(void *)at;
    iter->walk.ids = (uint32_t *)(void *)(at + beam);
    iter->walk.distance = (float *)(void *)(at + beam + list);
    iter->walk.ef = ef;
    at += beam + 2 * list;
    iter->hits = (rv_hit *)(void *)at;
    iter->ids = (uint32_t *)(void *)(iter->hits + iter->ef_max);
    iter->distance = (float *)(void *)(iter->ids + iter->ef_max);
    iter->seen = (uint64_t *)(void *)(at + hits);
    memset(iter->seen, 0, words * sizeof(uint64_t));
    if (index->n_levels) rv__iter_start(iter);
    return RV_OK;
}

RV_API rv_status rv_hnsw_iter_create(rv_ctx *ctx, const rv_hnsw *index, const void *query,
                                     const rv_hnsw_options *options, rv_hnsw_iter **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_hnsw_iter *iter;
    rv_status status;
    if (!index || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "index and out must not be NULL");
    iter = (rv_hnsw_iter *)rv__get(&alloc, 1, sizeof *iter);
    if (!iter) return rv__no_memory(ctx, sizeof *iter);
    status = rv__iter_open(ctx, index, query, options, 0, iter);
    if (status) {
        rv__put(&alloc, iter, 1, sizeof *iter);
        return status;
    }
    *out = iter;
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_iter_next(rv_ctx *ctx, rv_hnsw_iter *iter, rv_hit *hit)
{
    if (!iter || !hit) return rv__fail(ctx, RV_ERR_ARG, 0, "iter and hit must not be NULL");
    while (iter->next == iter->n_hits) {
        rv_status status = rv__iter_round(ctx, iter);
        if (status == RV_DONE) {
            (void)rv__ok(ctx);
            if (ctx) ctx->status = RV_DONE;
        }
        if (status) return status;
    }
    *hit = iter->hits[iter->next++];
    return rv__ok(ctx);
}

RV_API void rv_hnsw_iter_destroy(rv_hnsw_iter *iter)
{
    rv_alloc alloc;
    if (!iter) return;
    alloc = iter->alloc;
    rv__iter_close(iter);
    rv__put(&alloc, iter, 1, sizeof *iter);
}

/* ---- range search ---- */

/* Sifts hit down from the root of a heap whose root is the last in order. */
static void rv__range_sift(rv_hit *heap, size_t n, rv_hit hit)
{
    size_t i = 0, child;
    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && rv__hit_before(&heap[child], &heap[child + 1])) child++;
        if (!rv__hit_before(&hit, &heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = hit;
}

/* Keeps the cap first hits; found: how many came before this one. */
static void rv__range_keep(rv_hit *heap, size_t cap, size_t found, rv_hit hit)
{
    size_t i = found;
    if (found >= cap) {
        if (cap && rv__hit_before(&hit, &heap[0])) rv__range_sift(heap, cap, hit);
        return;
    }
    while (i > 0 && rv__hit_before(&heap[(i - 1) / 2], &hit)) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = hit;
}

/* Rounds until one meets no row within the radius, passing or not. */
RV_API rv_status rv_hnsw_range(rv_ctx *ctx, const rv_hnsw *index, const void *query, float radius,
                               const rv_hnsw_options *options, rv_hit *hits, size_t cap, size_t *n_hits)
{
    rv_hnsw_iter iter;
    size_t found = 0;
    uint32_t bits;
    rv_status status;
    if (!index || !n_hits || (cap && !hits)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "index, hits and n_hits must not be NULL");
    }
    memcpy(&bits, &radius, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return rv__fail(ctx, RV_ERR_ARG, 0, "radius is NaN");
    status = rv__iter_open(ctx, index, query, options, 1, &iter);
    if (status) return status;
    do {
        status = rv__iter_round(ctx, &iter);
        for (size_t i = 0; i < iter.n_hits && !status; i++) {
            if (iter.hits[i].distance <= radius) rv__range_keep(hits, cap, found++, iter.hits[i]);
        }
    } while (!status && iter.nearest <= radius);
    if (status == RV_DONE) status = RV_OK;
    if (!status) {
        for (size_t n = found < cap ? found : cap; n > 1; n--) {
            rv_hit last = hits[n - 1];
            hits[n - 1] = hits[0];
            rv__range_sift(hits, n - 1, last);
        }
        *n_hits = found;
        if (options && options->trace) {
            memset(options->trace, 0, sizeof *options->trace);
            options->trace->hops = iter.walk.hops;
            options->trace->distances = iter.walk.distances;
        }
    }
    rv__iter_close(&iter);
    return status ? status : rv__ok(ctx);
}

#endif /* RV_HNSW_ITER_C */
/* ==== src/hnsw_image.c ======================================================================== */
#ifndef RV_HNSW_IMAGE_C
#define RV_HNSW_IMAGE_C

/* Images, the check of the graph's invariants, and what there is to know about an index.

   Sections of an "HNSW" image, besides those of the store:
     HPAR  u32[16]: m, ef_construction, codes wanted, code_bytes, drop_vectors, levels, entry,
           learning tried, seed (low, high), code kind, components, bits, record bytes,
           rotation seed (low, high)
     with codes: CMEA f32[dim]; CBAS f32[components, dim] for PCA; CREC u8[n, record], where the
           first 8 bytes of a record are two little-endian floats
     with rows: LNK0 u32[n, 2 m]; HELD u64[(n + 63) / 64]
     for each level l above 0: SLTl u32[nodes], BLWl u32[nodes], LNKl u32[nodes, m]
   Lists end at the first 0xFFFFFFFF and have nothing behind it.

   What is loaded may be searched at once, so everything that is used as an index or steers a loop is
   validated here: ids in range, lists ended, levels nested, floats finite. That links are sensible
   and that all nodes can be reached is not; rv_hnsw_check tells. */

#define RV__HPAR 16u

/* ---- lists of links ---- */

/* Number of links, or UINT32_MAX when one is out of range or something stands behind the end. */
static uint32_t rv__links_count(const uint32_t *links, uint32_t degree, uint32_t n)
{
    uint32_t count = 0, rest;
    while (count < degree && links[count] < n) count++;
    for (rest = count; rest < degree && links[rest] == RV__NO_SLOT; rest++) {}
    return rest == degree ? count : UINT32_MAX;
}

static rv_status rv__layer_fault(rv_ctx *ctx, uint32_t level, uint32_t node, const char *what)
{
    return rv__fail(ctx, RV_ERR_FORMAT, node, "node %l of level %l %s", (uint64_t)node,
                    (uint64_t)level, what);
}

/* Everything a walk relies on in a layer above 0. */
static rv_status rv__layer_sound(rv_ctx *ctx, const rv_hnsw *index, uint32_t level)
{
    const rv__hnsw_layer *layer = &index->layer[level], *under = layer - 1;
    for (uint32_t node = 0; node < layer->n; node++) {
        const uint32_t *links = layer->links + (size_t)node * index->m;
        const uint32_t slot = layer->slot[node], below = layer->below[node];
        if (slot >= index->store.n) return rv__layer_fault(ctx, level, node, "stands for no row");
        if (level == 1 ? below != slot : below >= under->n || under->slot[below] != slot) {
            return rv__layer_fault(ctx, level, node, "is not on the level below");
        }
        if (rv__links_count(links, index->m, layer->n) == UINT32_MAX) {
            return rv__layer_fault(ctx, level, node, "has a link to nowhere");
        }
    }
    return RV_OK;
}

typedef struct rv__sound {
    const rv_hnsw *index;
    size_t bad[256];                /* per lane, the first bad node                               */
} rv__sound;

static void rv__sound_range(void *arg, size_t lane, size_t begin, size_t end)
{
    rv__sound *job = (rv__sound *)arg;
    const rv_hnsw *index = job->index;
    for (size_t i = begin; i < end; i++) {
        int sound = rv__links_count(index->links + i * index->degree, index->degree,
                                    index->store.n) != UINT32_MAX;
        if (sound && index->code.records) {
            float head[2];
            memcpy(head, index->code.records + i * index->code.record, sizeof head);
            sound = rv__finite_f32(head[0]) && rv__finite_f32(head[1]);
        }
        if (!sound && i < job->bad[lane]) job->bad[lane] = i;
    }
}

/* Everything a walk relies on in layer 0 and the records. */
static rv_status rv__hnsw_sound(rv_ctx *ctx, const rv_hnsw *index)
{
    const size_t lanes = rv__lanes(ctx);
    size_t bad = SIZE_MAX;
    rv__sound job;
    rv_status status;
    job.index = index;
    for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
    status = rv__parallel_for(ctx, index->store.n, 64, 65536, rv__sound_range, &job);
    if (status) return status;
    for (size_t i = 0; i < lanes; i++) bad = job.bad[i] < bad ? job.bad[i] : bad;
    if (bad == SIZE_MAX) return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, bad, "node %z has a link to nowhere or a code that cannot be",
                    bad);
}

/* ---- saving ---- */

/* Tag of a section of a level: "SLT1". */
static const char *rv__level_tag(const char *stem, uint32_t level, char tag[5])
{
    memcpy(tag, stem, 3);
    tag[3] = (char)('0' + (int)level);
    tag[4] = 0;
    return tag;
}

static void rv__hnsw_save_code(rv__image_writer *w, const rv__code *code, uint32_t n)
{
    const size_t total = (size_t)n * code->record;
    rv__image_section(w, "CMEA", sizeof(float), code->mean, code->dim);
    if (code->basis) {
        rv__image_section(w, "CBAS", sizeof(float), code->basis, (size_t)code->n_comp * code->dim);
    }
    if (n == 0) return;
    rv__image_section_begin(w, "CREC", 1, total);
    if (!rv__big_endian()) {
        rv__image_put(w, 1, code->records, total);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const unsigned char *record = code->records + (size_t)i * code->record;
        rv__image_put(w, sizeof(float), record, 2);
        rv__image_put(w, 1, record + RV__CODE_HEAD, code->record - RV__CODE_HEAD);
    }
}

RV_API rv_status rv_hnsw_save(rv_ctx *ctx, const rv_hnsw *index, void *image, size_t cap, size_t *bytes)
{
    rv__image_writer w;
    uint32_t par[RV__HPAR], n;
    uint64_t seed;
    if (!index || !bytes) return rv__fail(ctx, RV_ERR_ARG, 0, "index and bytes must not be NULL");
    n = index->store.n;
    seed = index->code.rotation ? rv_rotation_seed(index->code.rotation) : 0;
    par[0] = index->m;
    par[1] = index->ef_construction;
    par[2] = (uint32_t)index->wanted;
    par[3] = index->code_bytes;
    par[4] = index->drop_vectors ? 1u : 0u;
    par[5] = index->n_levels;
    par[6] = index->n_levels ? index->entry : 0;
    par[7] = index->code_tried ? 1u : 0u;
    par[8] = (uint32_t)index->seed;
    par[9] = (uint32_t)(index->seed >> 32);
    par[10] = (uint32_t)index->code.kind;
    par[11] = index->code.n_comp;
    par[12] = index->code.bits;
    par[13] = index->code.record;
    par[14] = (uint32_t)seed;
    par[15] = (uint32_t)(seed >> 32);
    rv__image_begin(ctx, &w, "HNSW", image, cap);
    rv__image_section(&w, "HPAR", sizeof(uint32_t), par, RV__HPAR);
    (void)rv__store_save(&w, &index->store);
    if (rv__hnsw_coded(index)) rv__hnsw_save_code(&w, &index->code, n);
    if (n) {
        rv__image_section(&w, "LNK0", sizeof(uint32_t), index->links, (size_t)n * index->degree);
        rv__image_section(&w, "HELD", sizeof(uint64_t), index->held, ((size_t)n + 63) / 64);
    }
    for (uint32_t l = 1; l < index->n_levels; l++) {
        const rv__hnsw_layer *layer = &index->layer[l];
        char tag[5];
        rv__image_section(&w, rv__level_tag("SLT", l, tag), sizeof(uint32_t), layer->slot, layer->n);
        rv__image_section(&w, rv__level_tag("BLW", l, tag), sizeof(uint32_t), layer->below, layer->n);
        rv__image_section(&w, rv__level_tag("LNK", l, tag), sizeof(uint32_t), layer->links,
                          (size_t)layer->n * index->m);
    }
    return rv__image_end(ctx, &w, bytes);
}

/* ---- loading ---- */

typedef struct rv__hnsw_loader {
    rv_ctx *ctx;
    rv__image_reader *reader;
    rv_hnsw *index;
    int view;
    uint32_t par[RV__HPAR];
} rv__hnsw_loader;

static rv_status rv__hnsw_contradicts(rv_ctx *ctx, const char *what)
{
    return rv__fail(ctx, RV_ERR_FORMAT, 0, "the %s of the image contradict themselves", what);
}

/* A section of rows * width elements. */
static rv_status rv__hnsw_load_array(const rv__hnsw_loader *loader, const char *tag, size_t elem_bytes,
                                     size_t rows, size_t width, void **out)
{
    const size_t count = rv__mul(rows, width);
    if (rv__mul(count, elem_bytes) >= SIZE_MAX - 2 * RV__LINE) {
        return rv__fail(loader->ctx, RV_ERR_FORMAT, 0, "section %s cannot be that large", tag);
    }
    return rv__image_array(loader->ctx, loader->reader, tag, elem_bytes, count, loader->view,
                           &loader->index->store.alloc, out);
}

static rv_status rv__hnsw_load_settings(rv__hnsw_loader *loader)
{
    const uint32_t *par = loader->par;
    rv_hnsw *index = loader->index;
    rv_hnsw_config config;
    const int fit = rv__hnsw_codes_fit(index->store.metric, index->store.type);
    memset(&config, 0, sizeof config);
    config.dim = index->store.dim;
    config.metric = index->store.metric;
    config.type = index->store.type;
    config.m = par[0];
    config.ef_construction = par[1];
    config.codes = par[2] <= (uint32_t)RV_HNSW_CODES_RABITQ ? (rv_hnsw_codes)par[2] : RV_HNSW_CODES_AUTO;
    config.code_bytes = par[3];
    config.drop_vectors = par[4] != 0;
    if (par[0] == 0 || par[1] == 0 || par[2] == 0 || par[2] != (uint32_t)config.codes || par[4] > 1 ||
        par[5] > RV__HNSW_LEVELS || par[7] > 1 || rv__hnsw_check_config(NULL, &config) ||
        index->store.n >= 0x7FFFFFFFu || (!fit && par[10]) ||
        (index->store.no_rows && (!par[10] || !par[4]))) {
        return rv__hnsw_contradicts(loader->ctx, "settings");
    }
    index->m = par[0];
    index->degree = 2u * par[0];
    index->ef_construction = par[1];
    index->wanted = config.codes;
    index->code_bytes = par[3];
    index->drop_vectors = par[4] != 0;
    index->n_levels = par[5];
    index->entry = par[6];
    index->code_tried = par[7] != 0;
    index->seed = par[8] | (uint64_t)par[9] << 32;
    return RV_OK;
}

static rv_status rv__hnsw_load_floats(const rv__hnsw_loader *loader, const char *tag, size_t rows,
                                      size_t width, float most, float **out)
{
    void *p = NULL;
    rv_status status = rv__hnsw_load_array(loader, tag, sizeof(float), rows, width, &p);
    if (status) return status;
    *out = (float *)p;
    for (size_t i = 0; i < rows * width; i++) {
        if (rv__finite_f32((*out)[i]) && (*out)[i] <= most && (*out)[i] >= -most) continue;
        return rv__fail(loader->ctx, RV_ERR_FORMAT, i, "section %s: element %z cannot be", tag, i);
    }
    return RV_OK;
}

static rv_status rv__hnsw_load_code(rv__hnsw_loader *loader)
{
    const uint32_t *par = loader->par;
    rv_hnsw *index = loader->index;
    rv__code *code = &index->code;
    const uint32_t n = index->store.n, dim = index->store.dim;
    void *records = NULL;
    rv_status status;
    if (par[10] == RV__CODE_NONE) return RV_OK;
    if ((int)par[10] != rv__hnsw_code_kind(index->wanted) ||
        par[12] != (par[10] == RV__CODE_SQ4 ? 4u : par[10] == RV__CODE_BIT ? 1u : 8u) || par[11] == 0 ||
        (par[10] == RV__CODE_PCA ? par[11] > dim : par[10] == RV__CODE_SQ8 && par[11] != dim) ||
        par[11] > 65536u || par[13] != rv__code_record(par[12], par[11])) {
        return rv__hnsw_contradicts(loader->ctx, "codes");
    }
    code->kind = (int)par[10];
    code->metric = index->store.metric;
    code->dim = dim;
    code->n_comp = par[11];
    code->bits = par[12];
    code->record = par[13];
    code->viewed = loader->view;
    status = rv__hnsw_load_floats(loader, "CMEA", 1, dim, 3.4028234e38f, &code->mean);
    if (!status && code->kind == RV__CODE_PCA) {
        status = rv__hnsw_load_floats(loader, "CBAS", code->n_comp, dim, 2.0f, &code->basis);
    }
    if (!status && (code->kind == RV__CODE_SQ4 || code->kind == RV__CODE_BIT)) {
        rv_ctx own;
        memset(&own, 0, sizeof own);
        own.alloc = index->store.alloc;
        own.seed = par[14] | (uint64_t)par[15] << 32;
        status = rv_rotation_create(&own, dim, &code->rotation);
        if (status) return rv__fail(loader->ctx, status, 0, "%s", own.message);
        if (rv_rotation_dim(code->rotation) != code->n_comp) {
            return rv__hnsw_contradicts(loader->ctx, "codes");
        }
    }
    if (!status && n) {
        status = rv__hnsw_load_array(loader, "CREC", 1, n, code->record, &records);
        code->records = (unsigned char *)records;
        if (!status) code->capacity = n;
    }
    for (uint32_t i = 0; i < n && !status && rv__big_endian(); i++) {
        unsigned char head[RV__CODE_HEAD];
        memcpy(head, code->records + (size_t)i * code->record, sizeof head);
        rv__image_copy(code->records + (size_t)i * code->record, head, sizeof(float), 2);
    }
    return status;
}

/* Held nodes are removed rows. */
static rv_status rv__hnsw_load_held(rv__hnsw_loader *loader)
{
    rv_hnsw *index = loader->index;
    const rv__store *store = &index->store;
    uint32_t held = 0;
    for (uint32_t base = 0; base < store->n; base += 64) {
        const uint64_t word = index->held[base / 64];
        if (word & ~(store->removed ? store->removed[base / 64] : 0)) {
            return rv__hnsw_contradicts(loader->ctx, "held nodes");
        }
        for (uint64_t rest = word; rest; rest &= rest - 1) held++;
    }
    index->store.held = index->held;
    index->store.n_held = held;
    return RV_OK;
}

/* There are levels when there are nodes, and the entry is one of the top level. */
static int rv__hnsw_levels_sound(const rv_hnsw *index)
{
    const uint32_t top = index->n_levels;
    if (top == 0) return rv_hnsw_count(index) + index->store.n_held == 0;
    return rv_hnsw_count(index) + index->store.n_held != 0 &&
           index->entry < (top > 1 ? index->layer[top - 1].n : index->store.n);
}

static rv_status rv__hnsw_load_graph(rv__hnsw_loader *loader)
{
    rv_hnsw *index = loader->index;
    const uint32_t n = index->store.n;
    void *p = NULL;
    rv_status status = RV_OK;
    if (n) {
        status = rv__hnsw_load_array(loader, "LNK0", sizeof(uint32_t), n, index->degree, &p);
        if (status) return status;
        index->links = (uint32_t *)p;
        index->capacity = n;
        status = rv__hnsw_load_array(loader, "HELD", sizeof(uint64_t), ((size_t)n + 63) / 64, 1, &p);
        if (status) return status;
        index->held = (uint64_t *)p;
        status = rv__hnsw_load_held(loader);
        if (!status) status = rv__hnsw_sound(loader->ctx, index);
    }
    for (uint32_t l = 1; l < index->n_levels && !status; l++) {
        rv__hnsw_layer *layer = &index->layer[l];
        char tag[5];
        size_t count;
        if (!rv__image_count(loader->reader, rv__level_tag("SLT", l, tag), sizeof(uint32_t), &count) ||
            count == 0 || count > n) return rv__hnsw_contradicts(loader->ctx, "levels");
        layer->capacity = (uint32_t)count;
        status = rv__hnsw_load_array(loader, tag, sizeof(uint32_t), count, 1, &p);
        if (status) return status;
        layer->slot = (uint32_t *)p;
        status = rv__hnsw_load_array(loader, rv__level_tag("BLW", l, tag), sizeof(uint32_t), count, 1, &p);
        if (status) return status;
        layer->below = (uint32_t *)p;
        status = rv__hnsw_load_array(loader, rv__level_tag("LNK", l, tag), sizeof(uint32_t), count,
                                     index->m, &p);
        if (status) return status;
        layer->links = (uint32_t *)p;
        layer->n = (uint32_t)count;
        status = rv__layer_sound(loader->ctx, index, l);
    }
    if (!status && !rv__hnsw_levels_sound(index)) {
        status = rv__hnsw_contradicts(loader->ctx, "levels");
    }
    return status;
}

static rv_status rv__hnsw_open(rv_ctx *ctx, const void *image, size_t bytes, int view, rv_custom_fn custom,
                               void *custom_user, rv_hnsw **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__hnsw_loader loader;
    rv__image_reader reader;
    rv_hnsw *index;
    rv_status status;
    if (!out) return rv__fail(ctx, RV_ERR_ARG, 0, "out must not be NULL");
    status = rv__image_open(ctx, &reader, image, bytes, "HNSW");
    loader.ctx = ctx;
    loader.reader = &reader;
    loader.view = view;
    if (!status) status = rv__image_values(ctx, &reader, "HPAR", sizeof(uint32_t), RV__HPAR, loader.par);
    if (status) return status;
    index = (rv_hnsw *)rv__get_zero(&alloc, 1, sizeof *index);
    if (!index) return rv__no_memory(ctx, sizeof *index);
    loader.index = index;
    status = rv__store_load(ctx, &reader, view, custom, custom_user, &index->store);
    if (status) {
        rv__put(&alloc, index, 1, sizeof *index);
        return status;
    }
    index->code.alloc = index->store.alloc;
    /* also when there is no row yet, so that destroy and the writers know */
    index->store.viewed = view;
    status = rv__hnsw_load_settings(&loader);
    if (!status) status = rv__hnsw_load_code(&loader);
    if (!status) status = rv__hnsw_load_graph(&loader);
    if (status) {
        rv_hnsw_destroy(index);
        return status;
    }
    *out = index;
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_load(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_hnsw **out)
{
    return rv__hnsw_open(ctx, image, bytes, 0, custom, custom_user, out);
}

RV_API rv_status rv_hnsw_view(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_hnsw **out)
{
    return rv__hnsw_open(ctx, image, bytes, 1, custom, custom_user, out);
}

/* ---- statistics ---- */

static size_t rv__hnsw_links_bytes(const rv_hnsw *index)
{
    size_t bytes = index->capacity * index->degree * sizeof(uint32_t);
    bytes += (index->capacity + 63) / 64 * sizeof(uint64_t);
    for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) bytes += rv__hnsw_layer_bytes(index, &index->layer[l]);
    return bytes;
}

static size_t rv__hnsw_rotation_bytes(const rv_hnsw *index)
{
    return index->code.rotation ? rv_rotation_bytes(index->code.rotation) : 0;
}

RV_API size_t rv_hnsw_bytes(const rv_hnsw *index)
{
    size_t bytes;
    if (!index) return 0;
    bytes = sizeof *index + rv__store_bytes(&index->store) + rv__hnsw_rotation_bytes(index);
    if (index->store.viewed) return bytes;
    return bytes + rv__code_bytes(&index->code) + rv__hnsw_links_bytes(index);
}

RV_API void rv_hnsw_stats_get(const rv_hnsw *index, rv_hnsw_stats *stats)
{
    const rv__store *store;
    if (!stats) return;
    memset(stats, 0, sizeof *stats);
    if (!index) return;
    store = &index->store;
    stats->count = rv_hnsw_count(index);
    stats->removed = store->n_held;
    stats->n_levels = index->n_levels;
    stats->level_count[0] = stats->count + store->n_held;
    for (uint32_t l = 1; l < index->n_levels; l++) stats->level_count[l] = index->layer[l].n;
    for (uint32_t slot = 0; slot < store->n; slot++) {
        const uint32_t *links = index->links + (size_t)slot * index->degree;
        uint32_t n = 0;
        if (!rv__store_live(store, slot) && !(index->held[slot / 64] >> (slot % 64) & 1u)) continue;
        while (n < index->degree && links[n] != RV__NO_SLOT) n++;
        stats->degree_count[n]++;
    }
    if (store->rows) stats->vector_bytes += (size_t)store->capacity * store->stride;
    if (store->norms) stats->vector_bytes += (size_t)store->capacity * sizeof(float);
    if (store->keys) stats->key_bytes += (size_t)store->capacity * sizeof(uint64_t);
    if (store->removed) stats->key_bytes += rv__store_words(store->capacity) * sizeof(uint64_t);
    stats->key_bytes += store->map ? store->map_size * sizeof(uint32_t) : 0;
    stats->code_bytes = rv__code_bytes(&index->code) + rv__hnsw_rotation_bytes(index);
    stats->link_bytes = rv__hnsw_links_bytes(index);
    stats->total_bytes = sizeof *index + stats->vector_bytes + stats->code_bytes + stats->link_bytes +
                         stats->key_bytes;
    if (rv__hnsw_coded(index)) {
        stats->code_record = index->code.record;
        stats->code_dim = index->code.n_comp;
        stats->code_bits = index->code.bits;
    }
}

/* ---- check ---- */

/* No self link, no link twice. */
static int rv__links_distinct(const uint32_t *links, uint32_t count, uint32_t self)
{
    for (uint32_t i = 0; i < count; i++) {
        if (links[i] == self) return 0;
        for (uint32_t j = 0; j < i; j++) {
            if (links[i] == links[j]) return 0;
        }
    }
    return 1;
}

static int rv__hnsw_in_graph(const rv_hnsw *index, uint32_t slot)
{
    return rv__store_live(&index->store, slot) || (index->held[slot / 64] >> (slot % 64) & 1u) != 0;
}

static rv_status rv__hnsw_check_upper(rv_ctx *ctx, const rv_hnsw *index)
{
    for (uint32_t l = 1; l < index->n_levels; l++) {
        const rv__hnsw_layer *layer = &index->layer[l];
        rv_status status = rv__layer_sound(ctx, index, l);
        if (!status) status = rv__poll(ctx);
        if (status) return status;
        for (uint32_t node = 0; node < layer->n; node++) {
            const uint32_t *links = layer->links + (size_t)node * index->m;
            uint32_t count = rv__links_count(links, index->m, layer->n);
            if (!rv__links_distinct(links, count, node)) {
                return rv__layer_fault(ctx, l, node, "has a link to itself or one twice");
            }
            if (!rv__hnsw_in_graph(index, layer->slot[node])) {
                return rv__layer_fault(ctx, l, node, "stands for a row that was given up");
            }
        }
    }
    return RV_OK;
}

static rv_status rv__hnsw_check_base(rv_ctx *ctx, const rv_hnsw *index)
{
    const rv__store *store = &index->store;
    for (uint32_t slot = 0; slot < store->n; slot++) {
        const uint32_t *links = index->links + (size_t)slot * index->degree;
        uint32_t count = rv__links_count(links, index->degree, store->n);
        const int in_graph = rv__hnsw_in_graph(index, slot);
        if (!rv__links_distinct(links, count, slot)) {
            return rv__layer_fault(ctx, 0, slot, "has a link to itself or one twice");
        }
        for (uint32_t i = 0; i < count; i++) {
            if (in_graph && rv__hnsw_in_graph(index, links[i])) continue;
            return rv__layer_fault(ctx, 0, slot, "is linked with a node that was given up");
        }
        if (rv__store_live(store, slot) && rv__store_find(store, rv__store_key(store, slot)) != slot) {
            return rv__layer_fault(ctx, 0, slot, "is not found by its key");
        }
        if (slot % 16384 == 16383) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
    }
    return RV_OK;
}

/* Every row is reached from the entry. */
static rv_status rv__hnsw_check_reach(rv_ctx *ctx, const rv_hnsw *index)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t n = index->store.n, words = (n + 63) / 64;
    rv__reach reach;
    rv_status status = RV_OK;
    reach.head = reach.tail = 0;
    reach.seen = (uint64_t *)rv__get_zero(&alloc, words, sizeof(uint64_t));
    reach.queue = (uint32_t *)rv__get(&alloc, n, sizeof(uint32_t));
    if (!reach.seen || !reach.queue) {
        status = rv__no_memory(ctx, n * sizeof(uint32_t));
    } else {
        rv__reach_push(&reach, rv__hnsw_entry_slot(index));
        status = rv__reach_flood(ctx, index, &reach);
    }
    for (uint32_t slot = 0; slot < n && !status; slot++) {
        if ((reach.seen[slot / 64] >> (slot % 64) & 1u) || !rv__store_live(&index->store, slot)) continue;
        status = rv__layer_fault(ctx, 0, slot, "cannot be reached");
    }
    rv__put(&alloc, reach.queue, n, sizeof(uint32_t));
    rv__put(&alloc, reach.seen, words, sizeof(uint64_t));
    return status;
}

RV_API rv_status rv_hnsw_check(rv_ctx *ctx, const rv_hnsw *index)
{
    rv_status status;
    if (!index) return rv__fail(ctx, RV_ERR_ARG, 0, "index must not be NULL");
    if (!rv__hnsw_levels_sound(index)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "%l levels for %z rows, or a bad entry",
                        (uint64_t)index->n_levels, rv_hnsw_count(index));
    }
    status = rv__hnsw_sound(ctx, index);
    if (!status) status = rv__hnsw_check_upper(ctx, index);
    if (!status) status = rv__hnsw_check_base(ctx, index);
    if (!status && index->n_levels) status = rv__hnsw_check_reach(ctx, index);
    return status ? status : rv__ok(ctx);
}

#endif /* RV_HNSW_IMAGE_C */
/* ==== src/ivf.c =============================================================================== */
#ifndef RV_IVF_C
#define RV_IVF_C
/* ==== src/quant_api.c ========================================================================= */
#ifndef RV_QUANT_API_C
#define RV_QUANT_API_C
/* ==== src/quant_scalar.c ====================================================================== */
#ifndef RV_QUANT_SCALAR_C
#define RV_QUANT_SCALAR_C

/* One number per dimension: F16, BF16, SQ8_ROW (a row of RV_DTYPE_I8), SQ8 and SQ4 (a step width per
   dimension from the range seen in training), BINARY (one bit around the mean).

   The trained kinds have mid[j] + unit * step[j] * c for value j. With v = step * c,

       |q - x'|^2 = |q - mid|^2 + unit^2 (|v|^2 - 2 <w, c>),   w = step (q - mid) / unit
       -q x'      = -q mid - unit <w, c>,                      w = step q

   so that a row needs |v|^2 and one dot product with its integers. SQ8 keeps the query as floats: its
   code starts with |v|^2, where the byte kernel finds the factor it multiplies with, and the product
   is divided out again. SQ4 and BINARY turn w into signed bytes and use exact integer products.

   Source of the uniform quantizer with a range per dimension: common practice, for example
   Aguerrebere et al., Similarity search in the blink of an eye with compressed indices, 2023. */

/* ---- F16, BF16, SQ8_ROW: rows the distance kernels read as they are ---- */

static int rv__quant_row_type(const rv_quant *quant)
{
    return quant->config.kind == RV_QUANT_F16 ? RV__TYPE_F16 :
           quant->config.kind == RV_QUANT_BF16 ? RV__TYPE_BF16 : RV__TYPE_I8;
}

static size_t rv__quant_row_scratch(const rv_quant *quant)
{
    (void)quant;
    return 0;
}

static void rv__quant_row_encode(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                                 float *scratch)
{
    const size_t dim = quant->config.dim;
    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        const float *row = rows + i * dim;
        unsigned char *code = codes + i * quant->code_bytes;
        int type = rv__quant_row_type(quant);
        if (type == RV__TYPE_I8) {
            float top = 0.0f, scale;
            for (size_t j = 0; j < dim; j++) top = fabsf(row[j]) > top ? fabsf(row[j]) : top;
            scale = top / 127.0f;
            if (!(scale > 1e-37f)) scale = 0.0f; /* its inverse would not be finite */
            rv__quant_put_f32(code, scale);
            for (size_t j = 0; j < dim; j++) {
                int32_t c = scale > 0.0f ? rv__round_i32(row[j] / scale) : 0;
                code[4 + j] = (unsigned char)(c < -127 ? -127 : c > 127 ? 127 : c);
            }
        } else {
            for (size_t j = 0; j < dim; j++) {
                rv__store_u16(code + 2 * j, type == RV__TYPE_F16 ? rv_f16_from_f32(row[j])
                                                                  : rv_bf16_from_f32(row[j]));
            }
        }
        rv__quant_close(quant, row, code);
    }
}

static void rv__quant_row_chunk(const rv_quant *quant, const unsigned char *code, size_t first,
                                size_t n, float *out)
{
    int type = rv__quant_row_type(quant);
    float scale = type == RV__TYPE_I8 ? rv__quant_get_f32(code) : 0.0f;
    for (size_t j = 0; j < n; j++) {
        const unsigned char *p = code + 2 * (first + j);
        if (type == RV__TYPE_I8) {
            int c = code[4 + first + j];
            out[j] = scale * (float)(c < 128 ? c : c - 256);
        } else {
            out[j] = type == RV__TYPE_F16 ? rv_f32_from_f16(rv__load_u16(p)) : rv__bf16_f32(rv__load_u16(p));
        }
    }
}

static size_t rv__quant_row_query(const rv_quant *quant)
{
    return rv__round_up(quant->config.dim * sizeof(float), 64);
}

static void rv__quant_row_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                                  unsigned char *data)
{
    head->length = rv_norm_f32(query, quant->config.dim);
    head->base = quant->config.metric == RV_METRIC_COSINE ? 1.0f : 0.0f;
    memcpy(data, query, quant->config.dim * sizeof(float));
}

static void rv__quant_row_distance(const rv_quant *quant, const rv__quant_query *head,
                                   const unsigned char *data, const unsigned char *codes,
                                   const uint32_t *ids, size_t n, float *out, float *bounds)
{
    int op = quant->config.metric == RV_METRIC_L2 ? RV__OP_L2 : RV__OP_IP;
    quant->kernels->scan[op][rv__quant_row_type(quant)](data, codes, quant->code_bytes, ids, n,
                                                        quant->config.dim, out);
    if (head->base != 0.0f) {
        for (size_t i = 0; i < n; i++) out[i] += head->base;
    }
    for (size_t i = 0; bounds && i < n; i++) {
        bounds[i] = rv__quant_bound(quant, head, out[i],
                                    rv__quant_error(quant, rv__quant_code(quant, codes, ids, i)));
    }
}

static const rv__quant_ops rv__quant_row_ops = {
    NULL, rv__quant_row_scratch, rv__quant_row_encode, rv__quant_row_chunk, rv__quant_row_query,
    rv__quant_row_prepare, rv__quant_row_distance,
};

/* ---- SQ8, SQ4, BINARY ---- */

/* Levels of c: half is the largest magnitude. */
static float rv__quant_step_half(const rv_quant *quant)
{
    return quant->config.kind == RV_QUANT_SQ8 ? 127.0f : quant->config.kind == RV_QUANT_SQ4 ? 7.5f : 1.0f;
}

static rv_status rv__quant_step_range(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    float *low = quant->mid, *high = quant->step, widest = 0.0f;
    memcpy(low, sample, dim * sizeof(float));
    memcpy(high, sample, dim * sizeof(float));
    for (size_t i = 1; i < s; i++) {
        const float *row = sample + i * dim;
        rv_status status = (i & 1023u) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        for (size_t j = 0; j < dim; j++) {
            low[j] = row[j] < low[j] ? row[j] : low[j];
            high[j] = row[j] > high[j] ? row[j] : high[j];
        }
    }
    for (size_t j = 0; j < dim; j++) {
        float half = 0.5f * high[j] - 0.5f * low[j];
        low[j] = 0.5f * low[j] + 0.5f * high[j];
        high[j] = half / rv__quant_step_half(quant);
        widest = high[j] > widest ? high[j] : widest;
    }
    /* steps below a millionth of the widest are widened, so that |v|^2 neither vanishes nor
       underflows; what is constant stays exact */
    quant->unit = widest > 1e-30f ? widest : 1.0f;
    for (size_t j = 0; j < dim; j++) {
        float step = high[j] / quant->unit;
        high[j] = high[j] > 0.0f ? (step > 1e-6f ? step : 1e-6f) : 0.0f;
    }
    return RV_OK;
}

static rv_status rv__quant_step_mean(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    double spread = 0.0;
    double *sum = (double *)rv__get_zero(&quant->alloc, dim, sizeof(double));
    rv_status status = RV_OK;
    if (!sum) return rv__no_memory(ctx, dim * sizeof(double));
    for (size_t i = 0; !status && i < s; i++) {
        status = (i & 1023u) ? RV_OK : rv__poll(ctx);
        for (size_t j = 0; j < dim; j++) sum[j] += (double)sample[i * dim + j];
    }
    for (size_t j = 0; j < dim; j++) {
        quant->mid[j] = (float)(sum[j] / (double)s);
        quant->step[j] = 1.0f;
    }
    for (size_t i = 0; !status && i < s; i++) {
        status = (i & 1023u) ? RV_OK : rv__poll(ctx);
        for (size_t j = 0; j < dim; j++) {
            spread += fabs((double)sample[i * dim + j] - (double)quant->mid[j]);
        }
    }
    spread /= (double)s * (double)dim;
    quant->unit = spread > 1e-30 ? (float)spread : 1.0f;
    rv__put(&quant->alloc, sum, dim, sizeof(double));
    return status;
}

static rv_status rv__quant_step_train(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    quant->mid = (float *)rv__get(&quant->alloc, 2 * dim, sizeof(float));
    if (!quant->mid) return rv__no_memory(ctx, 2 * dim * sizeof(float));
    quant->step = quant->mid + dim;
    if (quant->config.kind == RV_QUANT_BINARY) return rv__quant_step_mean(ctx, quant, sample, s);
    return rv__quant_step_range(ctx, quant, sample, s);
}

/* The level of value j. */
static float rv__quant_step_level(const rv_quant *quant, const float *row, size_t j)
{
    float offset = row[j] - quant->mid[j], wide = quant->unit * quant->step[j], half, c;
    if (quant->config.kind == RV_QUANT_BINARY) return offset < 0.0f ? -1.0f : 1.0f;
    if (!(wide > 1e-37f)) return quant->config.kind == RV_QUANT_SQ8 ? 0.0f : 0.5f;
    half = rv__quant_step_half(quant);
    c = offset / wide;
    if (quant->config.kind == RV_QUANT_SQ8) {
        c = c < -half ? -half : c > half ? half : c;
        return (float)rv__round_i32(c);
    }
    c = floorf(c) + 0.5f; /* levels -7.5, -6.5, ... 7.5 */
    return c < -half ? -half : c > half ? half : c;
}

static void rv__quant_step_encode(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                                  float *scratch)
{
    const size_t dim = quant->config.dim;
    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        const float *row = rows + i * dim;
        unsigned char *code = codes + i * quant->code_bytes;
        double square = 0.0;
        memset(code, 0, quant->code_bytes);
        for (size_t j = 0; j < dim; j++) {
            float c = rv__quant_step_level(quant, row, j);
            double v = (double)quant->step[j] * (double)c;
            square += v * v;
            if (quant->config.kind == RV_QUANT_SQ8) {
                code[4 + j] = (unsigned char)(int)c;
            } else if (quant->config.kind == RV_QUANT_SQ4) {
                unsigned level = (unsigned)(int)(c + 7.5f);
                code[(j >> 7 << 6) + (j & 63u)] |= (unsigned char)(level << ((j & 64u) ? 4 : 0));
            } else if (c > 0.0f) {
                code[j >> 3] |= (unsigned char)(1u << (j & 7u));
            }
        }
        if (quant->config.kind == RV_QUANT_SQ8) rv__quant_put_f32(code, (float)square);
        if (quant->config.kind == RV_QUANT_SQ4) rv__quant_put_f32(code + quant->payload, (float)square);
        rv__quant_close(quant, row, code);
    }
}

static void rv__quant_step_chunk(const rv_quant *quant, const unsigned char *code, size_t first,
                                 size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t j = first + i;
        float c;
        if (quant->config.kind == RV_QUANT_SQ8) {
            int byte = code[4 + j];
            c = (float)(byte < 128 ? byte : byte - 256);
        } else if (quant->config.kind == RV_QUANT_SQ4) {
            c = (float)(code[(j >> 7 << 6) + (j & 63u)] >> ((j & 64u) ? 4 : 0) & 15) - 7.5f;
        } else {
            c = (code[j >> 3] >> (j & 7u) & 1) ? 1.0f : -1.0f;
        }
        out[i] = quant->mid[j] + quant->unit * quant->step[j] * c;
    }
}

/* Elements of the integer query: those of the payload. */
static size_t rv__quant_step_elements(const rv_quant *quant)
{
    return quant->config.kind == RV_QUANT_SQ4 ? 2 * quant->payload : 8 * quant->payload;
}

static size_t rv__quant_step_query(const rv_quant *quant)
{
    if (quant->config.kind == RV_QUANT_SQ8) return rv__quant_row_query(quant);
    return rv__round_up(rv__quant_step_elements(quant), 64);
}

static void rv__quant_step_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                                   unsigned char *data)
{
    const size_t dim = quant->config.dim;
    double base = 0.0, square = 0.0, unit = (double)quant->unit;
    for (size_t j = 0; j < dim; j++) {
        double q = (double)query[j], mid = (double)quant->mid[j];
        square += q * q;
        if (quant->config.metric == RV_METRIC_L2) {
            base += (q - mid) * (q - mid);
            query[j] = (float)((double)quant->step[j] * (q - mid) / unit);
        } else {
            base -= q * mid;
            query[j] = (float)((double)quant->step[j] * q);
        }
    }
    head->length = (float)sqrt(square);
    head->base = (float)(quant->config.metric == RV_METRIC_COSINE ? base + 1.0 : base);
    if (quant->config.kind == RV_QUANT_SQ8) {
        memcpy(data, query, dim * sizeof(float));
    } else {
        int8_t *element = (int8_t *)data;
        float lost;
        size_t m = rv__quant_step_elements(quant);
        head->scale = rv__quant_narrow(quant, query, dim, m, element, &lost);
        /* bits count 0 and 1 for -1 and 1, nibbles 0..15 for -7.5..7.5 */
        head->offset = rv__quant_step_half(quant) * (float)rv__quant_sum_i8(element, dim);
        head->fuzz = lost * rv__quant_step_half(quant) * sqrtf((float)dim);
    }
}

/* <w, c> of codes into out; SQ8: of n <= 256 codes. */
static void rv__quant_step_products(const rv_quant *quant, const rv__quant_query *head,
                                    const unsigned char *data, const unsigned char *codes,
                                    const uint32_t *ids, size_t n, float *out)
{
    int32_t sums[256];
    if (quant->config.kind == RV_QUANT_SQ8) {
        const float *w = (const float *)(const void *)data;
        quant->kernels->scan[RV__OP_IP][RV__TYPE_I8](w, codes, quant->code_bytes, ids, n,
                                                     quant->config.dim, out);
        for (size_t i = 0; i < n; i++) {
            float square = rv__quant_get_f32(rv__quant_code(quant, codes, ids, i));
            out[i] = square > 0.0f ? -out[i] / square : 0.0f;
        }
        return;
    }
    if (quant->config.kind == RV_QUANT_SQ4) {
        quant->kernels->dot_u4_scan((const int8_t *)data, codes, quant->code_bytes, ids, n, quant->payload, sums);
        for (size_t i = 0; i < n; i++) out[i] = head->scale * ((float)sums[i] - head->offset);
    } else {
        quant->kernels->dot_u1_scan((const int8_t *)data, codes, quant->code_bytes, ids, n, quant->payload, sums);
        for (size_t i = 0; i < n; i++) out[i] = head->scale * (2.0f * (float)sums[i] - head->offset);
    }
}

static void rv__quant_step_distance(const rv_quant *quant, const rv__quant_query *head,
                                    const unsigned char *data, const unsigned char *codes,
                                    const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const float unit = quant->unit, square_unit = unit * unit;
    const int l2 = quant->config.metric == RV_METRIC_L2;
    for (size_t at = 0; at < n; at += 256) {
        size_t part = n - at < 256 ? n - at : 256;
        const unsigned char *from = ids ? codes : codes + at * quant->code_bytes;
        const uint32_t *list = ids ? ids + at : NULL;
        rv__quant_step_products(quant, head, data, from, list, part, out + at);
        for (size_t i = 0; i < part; i++) {
            const unsigned char *code = rv__quant_code(quant, from, list, i);
            float square = (float)quant->config.dim, fuzz, estimate;
            if (quant->config.kind == RV_QUANT_SQ8) square = rv__quant_get_f32(code);
            if (quant->config.kind == RV_QUANT_SQ4) square = rv__quant_get_f32(code + quant->payload);
            if (l2) {
                estimate = head->base + square_unit * (square - 2.0f * out[at + i]);
                estimate = estimate > 0.0f ? estimate : 0.0f;
                fuzz = 2.0f * square_unit * head->fuzz + 4e-6f * (head->base + square_unit * square);
            } else {
                estimate = head->base - unit * out[at + i];
                fuzz = unit * head->fuzz + 4e-6f * (fabsf(head->base) + fabsf(unit * out[at + i]));
            }
            out[at + i] = estimate;
            if (bounds) {
                float e = rv__quant_error(quant, code);
                /* the estimate is off by fuzz, so is the distance the bound starts from */
                bounds[at + i] = fuzz + rv__quant_bound(quant, head, l2 ? estimate + fuzz : estimate, e);
            }
        }
    }
}

static const rv__quant_ops rv__quant_step_ops = {
    rv__quant_step_train, rv__quant_row_scratch, rv__quant_step_encode, rv__quant_step_chunk,
    rv__quant_step_query, rv__quant_step_prepare, rv__quant_step_distance,
};

#endif /* RV_QUANT_SCALAR_C */
/* ==== src/quant_api.c, continued ============================================================== */
/* ==== src/quant_pq.c ========================================================================== */
#ifndef RV_QUANT_PQ_C
#define RV_QUANT_PQ_C

/* Product quantization: the dimensions are cut into m runs, each run of a row is replaced by the
   nearest of K = 2^bits centroids of that run (k-means). A query turns into a table of K distances
   or products per run, so that an estimate is m look-ups. With K = 16 the tables fit registers: rows
   are packed 32 to a block and looked up with byte shuffles.

   The first dim % m runs are one dimension longer than the others. Codes: 8 bits: a byte per run;
   4 bits: run 2 i in the low half of byte i, run 2 i + 1 in the high half.

   Sources: Jegou, Douze, Schmid, Product quantization for nearest neighbor search, 2011; Andre,
   Kermarrec, Le Scouarnec, Cache locality is not enough: high-performance nearest neighbor search
   with product quantization fast scan, 2015; Quick ADC, 2017. */

RV__INLINE size_t rv__quant_pq_first(const rv_quant *quant, size_t s)
{
    size_t width = quant->config.dim / quant->config.m, more = quant->config.dim % quant->config.m;
    return s * width + (s < more ? s : more);
}

RV__INLINE size_t rv__quant_pq_width(const rv_quant *quant, size_t s)
{
    return rv__quant_pq_first(quant, s + 1) - rv__quant_pq_first(quant, s);
}

RV__INLINE size_t rv__quant_pq_size(const rv_quant *quant)
{
    return (size_t)1 << quant->config.bits;
}

/* Floats of book and turned and of the halved squared lengths [m][K] behind them. */
RV__INLINE size_t rv__quant_pq_floats(const rv_quant *quant)
{
    return rv__quant_pq_size(quant) * (2 * (size_t)quant->config.dim + quant->config.m);
}

RV__INLINE const float *rv__quant_pq_half(const rv_quant *quant, size_t s)
{
    return quant->turned + rv__quant_pq_size(quant) * (quant->config.dim + s);
}

RV__FN rv_status rv__quant_pq_room(rv_ctx *ctx, rv_quant *quant)
{
    quant->book = (float *)rv__get(&quant->alloc, rv__quant_pq_floats(quant), sizeof(float));
    if (!quant->book) return rv__no_memory(ctx, rv__quant_pq_floats(quant) * sizeof(float));
    quant->turned = quant->book + rv__quant_pq_size(quant) * quant->config.dim;
    return RV_OK;
}

/* Fills turned and the lengths from the book. */
RV__FN void rv__quant_pq_turn(rv_quant *quant)
{
    const size_t size = rv__quant_pq_size(quant);
    for (size_t s = 0; s < quant->config.m; s++) {
        size_t first = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *book = quant->book + size * first;
        float *turned = quant->turned + size * first;
        float *half = quant->turned + size * (quant->config.dim + s);
        for (size_t c = 0; c < size; c++) {
            half[c] = 0.0f;
            for (size_t j = 0; j < width; j++) {
                float x = book[c * width + j];
                turned[j * size + c] = x;
                half[c] += 0.5f * x * x;
            }
        }
    }
}

static rv_status rv__quant_pq_train(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t size = rv__quant_pq_size(quant);
    rv_kmeans_config config;
    rv_status status;
    memset(&config, 0, sizeof config);
    config.k = (uint32_t)size;
    config.iterations = quant->config.iterations;
    config.sample = size == 16 ? 512 : 256;
    if (s < size) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "pq of %z bits needs %z rows to train on, there are %z",
                        (size_t)quant->config.bits, size, s);
    }
    status = rv__quant_pq_room(ctx, quant);
    for (size_t i = 0; !status && i < quant->config.m; i++) {
        size_t first = rv__quant_pq_first(quant, i);
        status = rv__kmeans_train(ctx, &config, rv__mix(quant->seed + i), sample + first,
                                  quant->config.dim, s, rv__quant_pq_width(quant, i),
                                  quant->book + size * first, NULL, NULL);
    }
    if (!status) rv__quant_pq_turn(quant);
    return status;
}

static size_t rv__quant_pq_scratch(const rv_quant *quant)
{
    if (quant->config.bits == 4) return 0;
    return RV__QUANT_BLOCK * 256 + rv__gram_f32_scratch() / sizeof(float);
}

/* Nearest of 16 centroids of run s. */
static unsigned rv__quant_pq_nearest16(const rv_quant *quant, const float *x, size_t s)
{
    size_t first = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
    const float *turned = quant->turned + 16 * first, *half = rv__quant_pq_half(quant, s);
    float score[16];
    unsigned best = 0;
    for (size_t c = 0; c < 16; c++) score[c] = half[c];
    for (size_t j = 0; j < width; j++) {
        float value = x[first + j];
        for (size_t c = 0; c < 16; c++) score[c] -= value * turned[16 * j + c];
    }
    for (unsigned c = 1; c < 16; c++) best = score[c] < score[best] ? c : best;
    return best;
}

static void rv__quant_pq_put(const rv_quant *quant, unsigned char *code, size_t s, unsigned value)
{
    if (quant->config.bits == 8) {
        code[s] = (unsigned char)value;
    } else {
        code[s >> 1] |= (unsigned char)(value << ((s & 1u) ? 4 : 0));
    }
}

RV__INLINE unsigned rv__quant_pq_at(const rv_quant *quant, const unsigned char *code, size_t s)
{
    return quant->config.bits == 8 ? code[s] : (unsigned)(code[s >> 1] >> ((s & 1u) ? 4 : 0) & 15);
}

static void rv__quant_pq_encode(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                                float *scratch)
{
    const size_t dim = quant->config.dim, m = quant->config.m;
    memset(codes, 0, n * quant->code_bytes);
    for (size_t s = 0; s < m; s++) {
        size_t first = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *half = rv__quant_pq_half(quant, s);
        if (quant->config.bits == 4) {
            for (size_t i = 0; i < n; i++) {
                rv__quant_pq_put(quant, codes + i * quant->code_bytes, s,
                                 rv__quant_pq_nearest16(quant, rows + i * dim, s));
            }
            continue;
        }
        quant->kernels->gram_f32(rows + first, dim, n, quant->book + 256 * first, width, 256, width, scratch,
                                 256, scratch + RV__QUANT_BLOCK * 256);
        for (size_t i = 0; i < n; i++) {
            float best = rv__infinity();
            uint32_t where = 0;
            rv__kmeans_least(scratch + i * 256, half, 256, 0, &best, &where);
            rv__quant_pq_put(quant, codes + i * quant->code_bytes, s, where);
        }
    }
    for (size_t i = 0; i < n; i++) rv__quant_close(quant, rows + i * dim, codes + i * quant->code_bytes);
}

static void rv__quant_pq_chunk(const rv_quant *quant, const unsigned char *code, size_t first,
                               size_t n, float *out)
{
    const size_t size = rv__quant_pq_size(quant), dim = quant->config.dim, m = quant->config.m;
    size_t s = first * m / dim, done = 0;
    while (rv__quant_pq_first(quant, s) > first) s--;
    while (rv__quant_pq_first(quant, s + 1) <= first) s++;
    for (; done < n; s++) {
        size_t from = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *row = quant->book + size * from + rv__quant_pq_at(quant, code, s) * width;
        for (size_t j = first + done - from; j < width && done < n; j++) out[done++] = row[j];
    }
}

static size_t rv__quant_pq_query(const rv_quant *quant)
{
    size_t bytes = rv__quant_pq_size(quant) * quant->config.m * sizeof(float);
    if (quant->config.bits == 4) bytes = rv__round_up(bytes, 64) + 16 * rv__round_up(quant->config.m, 2);
    return rv__round_up(bytes, 64);
}

/* Where the tables of bytes begin. */
static size_t rv__quant_pq_lut(const rv_quant *quant)
{
    return rv__round_up(16 * (size_t)quant->config.m * sizeof(float), 64);
}

static void rv__quant_pq_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                                 unsigned char *data)
{
    const size_t size = rv__quant_pq_size(quant);
    float *table = (float *)(void *)data;
    head->length = rv_norm_f32(query, quant->config.dim);
    head->base = quant->config.metric == RV_METRIC_COSINE ? 1.0f : 0.0f;
    for (size_t s = 0; s < quant->config.m; s++) {
        size_t first = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *turned = quant->turned + size * first;
        float *row = table + size * s;
        for (size_t c = 0; c < size; c++) row[c] = 0.0f;
        for (size_t j = 0; j < width; j++, turned += size) {
            const float x = query[first + j];
            if (quant->config.metric == RV_METRIC_L2) {
                for (size_t c = 0; c < size / 16 * 16; c++) {
                    float d = x - turned[c];
                    row[c] += d * d;
                }
            } else {
                for (size_t c = 0; c < size / 16 * 16; c++) row[c] -= x * turned[c];
            }
        }
    }
    if (size == 16) rv__quant_table(table, quant->config.m, data + rv__quant_pq_lut(quant), head);
}

static float rv__quant_pq_sum(const rv_quant *quant, const float *table, const unsigned char *code)
{
    const size_t m = quant->config.m;
    float a = 0.0f, b = 0.0f;
    size_t s = 0;
    if (quant->config.bits == 8) {
        for (; s + 2 <= m; s += 2) {
            a += table[256 * s + code[s]];
            b += table[256 * s + 256 + code[s + 1]];
        }
        if (s < m) a += table[256 * s + code[s]];
    } else {
        for (; s + 2 <= m; s += 2) {
            unsigned pair = code[s >> 1];
            a += table[16 * s + (pair & 15u)];
            b += table[16 * s + 16 + (pair >> 4)];
        }
        if (s < m) a += table[16 * s + (code[s >> 1] & 15u)];
    }
    return a + b;
}

static void rv__quant_pq_distance(const rv_quant *quant, const rv__quant_query *head,
                                  const unsigned char *data, const unsigned char *codes,
                                  const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const float *table = (const float *)(const void *)data;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *code = rv__quant_code(quant, codes, ids, i);
        if (ids && i + 4 < n) RV__PREFETCH(codes + ids[i + 4] * quant->code_bytes);
        out[i] = head->base + rv__quant_pq_sum(quant, table, code);
        if (bounds) bounds[i] = rv__quant_bound(quant, head, out[i], rv__quant_error(quant, code));
    }
}

static const rv__quant_ops rv__quant_pq_ops = {
    rv__quant_pq_train, rv__quant_pq_scratch, rv__quant_pq_encode, rv__quant_pq_chunk,
    rv__quant_pq_query, rv__quant_pq_prepare, rv__quant_pq_distance,
};

/* ---- blocks of 32: 16 m' bytes of nibbles (m' = m rounded up to even), then 32 bf16 errors ---- */

RV__FN size_t rv__quant_pq_block(const rv_quant *quant)
{
    return rv__round_up(16 * rv__round_up(quant->config.m, 2) + 64, 64);
}

RV__FN void rv__quant_pq_pack(const rv_quant *quant, const unsigned char *codes, size_t n, unsigned char *block)
{
    const size_t m = quant->config.m;
    memset(block, 0, rv__quant_pq_block(quant));
    for (size_t i = 0; i < n; i++) {
        const unsigned char *code = codes + i * quant->code_bytes;
        for (size_t s = 0; s < m; s++) {
            block[16 * s + (i & 15u)] |= (unsigned char)(rv__quant_pq_at(quant, code, s) << ((i & 16u) ? 4 : 0));
        }
        memcpy(block + 16 * rv__round_up(m, 2) + 2 * i, code + quant->code_bytes - 2, 2);
    }
}

/* One block; n <= 32. */
RV__FN void rv__quant_pq_scan(const rv_quant *quant, const rv__quant_query *head,
                              const unsigned char *data, const unsigned char *block, size_t n, float *out, float *bounds)
{
    const size_t m = rv__round_up(quant->config.m, 2);
    uint16_t sums[RV__QUANT_BLOCK];
    quant->kernels->pq4_scan(data + rv__quant_pq_lut(quant), block, m, 1, sums);
    for (size_t i = 0; i < n; i++) {
        out[i] = head->base + head->table_offset + head->table_scale * (float)sums[i];
        if (bounds) {
            float e = rv__bf16_f32(rv__load_u16(block + 16 * m + 2 * i));
            bounds[i] = head->table_fuzz + rv__quant_bound(quant, head, out[i] + head->table_fuzz, e);
        }
    }
}

#endif /* RV_QUANT_PQ_C */
/* ==== src/quant_api.c, continued ============================================================== */
/* ==== src/quant_rabitq.c ====================================================================== */
#ifndef RV_QUANT_RABITQ_C
#define RV_QUANT_RABITQ_C

/* RaBitQ. A row x is moved by the mean c and rotated at random, r = P (x - c); its code y is the point
   of the grid of odd halves {+-0.5, +-1.5, ...}, 2^(bits-1) of them to each side, whose direction is
   nearest to that of r. Then

       <x - c, q - c>  is estimated by  f <y, P (q - c)>,   f = |r|^2 / <y, r>

   which is exact for q = x and unbiased over the rotation, because the part of r across y points
   nowhere in particular. With t = <y, r> / (|y| |r|) the error is about normal with deviation
   |r| |q - c| sqrt(1 / t^2 - 1) / sqrt(D - 1); epsilon deviations are the bound.

       L2   |x - c|^2 + |q - c|^2 - 2 <x - c, q - c>
       -q x = -<q, c> - <x - c, c> - <x - c, q - c>

   Code: `bits` planes of D bits (plane b holds bit b of y + 2^(bits-1) - 1/2), then f32 h (the first
   or second term above that belongs to the row), f32 f, u16 65535 t^2, bf16 deviation / |q - c|.

   With one bit the code is the signs. With more, the grid's scale is searched on a dozen values, then
   each coordinate may move by one step while that turns y towards r. Queries become signed bytes,
   two bytes from 4 bits on, where one would be coarser than the code.

   Sources: Gao, Long, RaBitQ: quantizing high-dimensional vectors with a theoretical error bound, 2024;
   Gao, Gou, Xu, Yang, Long, Wong, Practical and asymptotically optimal quantization of
   high-dimensional vectors in Euclidean space for approximate nearest neighbor search, 2025. Differs
   from them in the search for the grid's scale, in nearest instead of random rounding of the query
   (its error enters the bound), and in that the bits of a code lie in planes. */

#define RV__RABITQ_TAIL 12u

RV__INLINE unsigned rv__rabitq_levels(const rv_quant *quant)
{
    return quant->config.bits >= 4 ? 2u : 1u;
}

/* y + this is the integer in the planes. */
RV__INLINE float rv__rabitq_shift(unsigned bits)
{
    return 0.5f * (float)((1u << bits) - 1u);
}

static rv_status rv__rabitq_train(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    double *sum = (double *)rv__get_zero(&quant->alloc, dim, sizeof(double));
    rv_status status = RV_OK;
    quant->mean = (float *)rv__get(&quant->alloc, dim + quant->padded, sizeof(float));
    if (!sum || !quant->mean) status = rv__no_memory(ctx, dim * sizeof(double));
    for (size_t i = 0; !status && i < s; i++) {
        status = (i & 1023u) ? RV_OK : rv__poll(ctx);
        for (size_t j = 0; j < dim; j++) sum[j] += (double)sample[i * dim + j];
    }
    if (!status) {
        for (size_t j = 0; j < dim; j++) quant->mean[j] = (float)(sum[j] / (double)s);
        rv_rotation_apply(quant->rotation, quant->mean, quant->mean + dim);
    }
    rv__put(&quant->alloc, sum, dim, sizeof(double));
    return status;
}

static size_t rv__rabitq_scratch(const rv_quant *quant)
{
    return 2 * quant->padded;
}

/* Magnitudes k (y = k + 1/2) of |r| at scale t; returns the squared cosine up to |r|^2. */
static double rv__rabitq_try(const float *r, size_t n, float t, float top, float *k)
{
    float dot = 0.0f, square = 0.0f;
    for (size_t j = 0; j < n; j++) {
        float a = fabsf(r[j]), level = (float)(int32_t)(t * a) + 0.5f;
        level = level > top ? top : level;
        k[j] = level;
        dot += level * a;
        square += level * level;
    }
    return (double)dot * (double)dot / (double)square;
}

/* Moves single coordinates by one step while the direction improves; two rounds. */
static void rv__rabitq_polish(const float *r, size_t n, float top, float *k)
{
    double dot = 0.0, square = 0.0;
    for (size_t j = 0; j < n; j++) {
        dot += (double)k[j] * (double)fabsf(r[j]);
        square += (double)k[j] * (double)k[j];
    }
    for (int round = 0; round < 2; round++) {
        for (size_t j = 0; j < n; j++) {
            double a = (double)fabsf(r[j]), level = (double)k[j];
            /* the best level for this coordinate alone is a square / dot, the others fixed */
            double step = a * square > level * dot ? 1.0 : -1.0, d, s;
            if (level + step > (double)top || level + step < 0.0) continue;
            d = dot + step * a;
            s = square + 2.0 * step * level + 1.0;
            if (d * d * square <= dot * dot * s) continue;
            k[j] = (float)(level + step);
            dot = d;
            square = s;
        }
    }
}

/* Levels of r[n] into k[n]: magnitudes 0.5, 1.5, ... */
static void rv__rabitq_levels_of(const float *r, size_t n, unsigned bits, float *k)
{
    const float top = (float)(1u << (bits - 1)) - 0.5f;
    float largest = 0.0f, best_scale = 0.0f;
    double best = -1.0;
    for (size_t j = 0; j < n; j++) {
        largest = fabsf(r[j]) > largest ? fabsf(r[j]) : largest;
        k[j] = 0.5f;
    }
    if (bits == 1 || !(largest > 1e-30f) || largest > 1e30f) return;
    for (int i = 0; i < 12; i++) {
        float t = (top + 0.5f) / largest * (0.25f + 0.075f * (float)i);
        double score = rv__rabitq_try(r, n, t, top, k);
        if (score > best) {
            best = score;
            best_scale = t;
        }
    }
    (void)rv__rabitq_try(r, n, best_scale, top, k);
    rv__rabitq_polish(r, n, top, k);
}

/* Planes of the code of r[n]; sums over y in double. */
RV__FN void rv__rabitq_planes(const float *r, size_t n, unsigned bits, float *k, unsigned char *planes,
                              double *dot, double *square)
{
    const float shift = rv__rabitq_shift(bits);
    memset(planes, 0, bits * n / 8);
    rv__rabitq_levels_of(r, n, bits, k);
    *dot = *square = 0.0;
    for (size_t j = 0; j < n; j++) {
        float y = r[j] < 0.0f ? -k[j] : k[j];
        unsigned level = (unsigned)(int)(y + shift);
        *dot += (double)y * (double)r[j];
        *square += (double)y * (double)y;
        for (unsigned b = 0; b < bits; b++) {
            planes[b * n / 8 + (j >> 3)] |= (unsigned char)((level >> b & 1u) << (j & 7u));
        }
    }
}

static void rv__rabitq_encode(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                              float *scratch)
{
    const size_t dim = quant->config.dim, padded = quant->padded;
    float *r = scratch, *k = scratch + padded;
    for (size_t i = 0; i < n; i++) {
        float *row = rows + i * dim;
        unsigned char *code = codes + i * quant->code_bytes, *tail = code + quant->payload;
        double norm = 0.0, shift = 0.0, dot, square, f = 0.0, t2 = 0.0, width = 0.0;
        for (size_t j = 0; j < dim; j++) {
            row[j] -= quant->mean[j];
            norm += (double)row[j] * (double)row[j];
            shift += (double)row[j] * (double)quant->mean[j];
        }
        rv_rotation_apply(quant->rotation, row, r);
        rv__rabitq_planes(r, padded, quant->config.bits, k, code, &dot, &square);
        if (dot > 0.0 && norm > 0.0) {
            f = norm / dot;
            t2 = dot * dot / (square * norm);
            t2 = t2 < 1.0 ? t2 : 1.0;
            width = sqrt(norm * (1.0 / t2 - 1.0) / (double)(padded - 1));
        }
        rv__quant_put_f32(tail, (float)(quant->config.metric == RV_METRIC_L2 ? norm : -shift));
        rv__quant_put_f32(tail + 4, (float)f);
        rv__store_u16(tail + 8, (uint16_t)(65535.0 * t2 + 0.5));
        rv__quant_put_error(quant, code, (float)width);
    }
}

static void rv__rabitq_chunk(const rv_quant *quant, const unsigned char *code, size_t first, size_t n,
                             float *out)
{
    const unsigned char *tail = code + quant->payload;
    const float *mean = quant->mean + quant->config.dim + first;
    /* f t^2 = <y, r> / |y|^2, the scale of y that comes nearest to r */
    float scale = rv__quant_get_f32(tail + 4) * (float)rv__load_u16(tail + 8) / 65535.0f;
    float shift = rv__rabitq_shift(quant->config.bits);
    for (size_t i = 0; i < n; i++) {
        size_t j = first + i;
        unsigned level = 0;
        for (unsigned b = 0; b < quant->config.bits; b++) {
            level |= (unsigned)(code[b * quant->padded / 8 + (j >> 3)] >> (j & 7u) & 1) << b;
        }
        out[i] = mean[i] + scale * ((float)level - shift);
    }
}

/* levels * [padded] bytes, then, with one bit, [padded / 4][16] floats and as many bytes. */
static size_t rv__rabitq_query(const rv_quant *quant)
{
    size_t bytes = rv__rabitq_levels(quant) * quant->padded;
    return quant->config.bits == 1 ? bytes + 4 * quant->padded * (sizeof(float) + 1) : bytes;
}

/* Where the tables of bytes begin. */
static size_t rv__rabitq_lut(const rv_quant *quant)
{
    return quant->padded + 4 * quant->padded * sizeof(float);
}

/* Sums of each subset of four neighbours. */
RV__FN void rv__rabitq_table(const float *q, size_t n, float *table)
{
    for (size_t g = 0; g < n / 4; g++, q += 4, table += 16) {
        table[0] = 0.0f;
        for (size_t v = 1; v < 16; v++) {
            size_t bit = (v & 1u) ? 0 : (v & 2u) ? 1 : (v & 4u) ? 2 : 3;
            table[v] = table[v & (v - 1)] + q[bit];
        }
    }
}

static void rv__rabitq_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                               unsigned char *data)
{
    const size_t dim = quant->config.dim, padded = quant->padded;
    double product = 0.0, square = 0.0;
    float lost;
    int8_t *element = (int8_t *)data;
    for (size_t j = 0; j < dim; j++) {
        double moved = (double)query[j] - (double)quant->mean[j];
        product += (double)query[j] * (double)quant->mean[j];
        square += moved * moved;
        query[j] = (float)moved;
    }
    rv_rotation_apply(quant->rotation, query, query);
    head->length = (float)sqrt(square);
    head->base = (float)(quant->config.metric == RV_METRIC_L2 ? square :
                         quant->config.metric == RV_METRIC_IP ? -product : 1.0 - product);
    head->scale = rv__quant_narrow(quant, query, padded, padded, element, &lost);
    head->offset = rv__rabitq_shift(quant->config.bits) * (float)rv__quant_sum_i8(element, padded);
    if (quant->config.bits == 1) {
        float *table = (float *)(void *)(data + padded);
        double sum = 0.0;
        rv__rabitq_table(query, padded, table);
        rv__quant_table(table, padded / 4, data + rv__rabitq_lut(quant), head);
        for (size_t j = 0; j < padded; j++) sum += (double)query[j];
        head->table_offset -= (float)(0.5 * sum);
    }
    if (rv__rabitq_levels(quant) == 2) {
        for (size_t j = 0; j < padded; j++) query[j] -= head->scale * (float)element[j];
        /* the scale of the second byte is kept where tables have theirs */
        head->table_scale = rv__quant_narrow(quant, query, padded, padded, element + padded, &lost);
        head->table_offset = rv__rabitq_shift(quant->config.bits) *
                             (float)rv__quant_sum_i8(element + padded, padded);
    }
    /* rounding points nowhere in particular either: |y| / sqrt(D) of it meets y */
    head->fuzz = lost * rv__rabitq_shift(quant->config.bits);
}

static void rv__rabitq_finish(const rv_quant *quant, const rv__quant_query *head,
                              float h, float f, float e, float fuzz, float *out, float *bound)
{
    const float twice = quant->config.metric == RV_METRIC_L2 ? 2.0f : 1.0f;
    float term = twice * f * *out, estimate = head->base + h - term;
    *out = estimate;
    if (!bound) return;
    *bound = twice * quant->config.epsilon * head->length * e + twice * f * fuzz +
             4e-6f * (fabsf(head->base) + fabsf(h) + fabsf(term));
}

static void rv__rabitq_distance(const rv_quant *quant, const rv__quant_query *head,
                                const unsigned char *data, const unsigned char *codes,
                                const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const size_t padded = quant->padded, plane = padded / 8;
    int32_t sums[256];
    for (size_t at = 0; at < n; at += 256) {
        size_t part = n - at < 256 ? n - at : 256;
        const unsigned char *from = ids ? codes : codes + at * quant->code_bytes;
        const uint32_t *list = ids ? ids + at : NULL;
        for (size_t i = 0; i < part; i++) out[at + i] = 0.0f;
        for (unsigned level = 0; level < rv__rabitq_levels(quant); level++) {
            const int8_t *element = (const int8_t *)data + level * padded;
            float scale = level ? head->table_scale : head->scale;
            float offset = level ? head->table_offset : head->offset;
            for (unsigned b = 0; b < quant->config.bits; b++) {
                float weight = scale * (float)(1u << b);
                quant->kernels->dot_u1_scan(element, from + b * plane, quant->code_bytes, list, part, plane, sums);
                for (size_t i = 0; i < part; i++) out[at + i] += weight * (float)sums[i];
            }
            for (size_t i = 0; i < part; i++) out[at + i] -= scale * offset;
        }
        for (size_t i = 0; i < part; i++) {
            const unsigned char *code = rv__quant_code(quant, from, list, i), *tail = code + quant->payload;
            rv__rabitq_finish(quant, head, rv__quant_get_f32(tail), rv__quant_get_f32(tail + 4),
                              rv__quant_error(quant, code), quant->config.epsilon * head->fuzz,
                              out + at + i, bounds ? bounds + at + i : NULL);
        }
    }
}

static const rv__quant_ops rv__rabitq_ops = {
    rv__rabitq_train, rv__rabitq_scratch, rv__rabitq_encode, rv__rabitq_chunk,
    rv__rabitq_query, rv__rabitq_prepare, rv__rabitq_distance,
};

/* ---- blocks of 32, one bit: 4 D bytes of nibbles, then h[32], f[32], bf16 e[32] ---- */

RV__FN size_t rv__rabitq_block(const rv_quant *quant)
{
    return 4 * quant->padded + 32 * 10; /* both multiples of 64 */
}

RV__FN void rv__rabitq_pack(const rv_quant *quant, const unsigned char *codes, size_t n, unsigned char *block)
{
    unsigned char *tail = block + 4 * quant->padded;
    memset(block, 0, rv__rabitq_block(quant));
    for (size_t i = 0; i < n; i++) {
        const unsigned char *code = codes + i * quant->code_bytes;
        const unsigned char *from = code + quant->payload;
        for (size_t j = 0; j < quant->padded / 8; j++) {
            unsigned shift = (i & 16u) ? 4 : 0;
            block[32 * j + (i & 15u)] |= (unsigned char)((code[j] & 15u) << shift);
            block[32 * j + 16 + (i & 15u)] |= (unsigned char)((unsigned)(code[j] >> 4) << shift);
        }
        memcpy(tail + 4 * i, from, 4);
        memcpy(tail + 128 + 4 * i, from + 4, 4);
        memcpy(tail + 256 + 2 * i, code + quant->code_bytes - 2, 2);
    }
}

RV__FN void rv__rabitq_scan(const rv_quant *quant, const rv__quant_query *head,
                            const unsigned char *data, const unsigned char *block, size_t n, float *out, float *bounds)
{
    const unsigned char *tail = block + 4 * quant->padded;
    uint16_t sums[RV__QUANT_BLOCK];
    quant->kernels->pq4_scan(data + rv__rabitq_lut(quant), block, quant->padded / 4, 1, sums);
    for (size_t i = 0; i < n; i++) {
        out[i] = head->table_offset + head->table_scale * (float)sums[i];
        rv__rabitq_finish(quant, head, rv__quant_get_f32(tail + 4 * i),
                          rv__quant_get_f32(tail + 128 + 4 * i), rv__bf16_f32(rv__load_u16(tail + 256 + 2 * i)),
                          head->table_fuzz, out + i, bounds ? bounds + i : NULL);
    }
}

#endif /* RV_QUANT_RABITQ_C */
/* ==== src/quant_api.c, continued ============================================================== */

/* The public functions of the quantizers: configuration, training on a sample, parallel encoding,
   dispatch over the kinds, images.

   Image "QUAN": CONF u32[8] = kind, dim, metric, bits, m, iterations, epsilon as bits, trained; SEED
   u64[1]; when trained, SQ8, SQ4, BINARY: MIDS f32[2 dim] (mid, step) and UNIT f32[1]; PQ: BOOK
   f32[2^bits dim]; RABITQ: MEAN f32[dim]. */

static const struct {
    rv_quant_info info;
    uint32_t bits; /* 0: from the config */
    const rv__quant_ops *ops;
} rv__quant_kinds[] = {
    {{"sq8", "8", 1, "uniform quantizer, a step width per dimension"}, 8, &rv__quant_step_ops},
    {{"sq8_row", "8", 0, "uniform quantizer, a scale per row"}, 8, &rv__quant_row_ops},
    {{"sq4", "4", 1, "uniform quantizer, a step width per dimension"}, 4, &rv__quant_step_ops},
    {{"f16", "16", 0, "IEEE 754 binary16"}, 16, &rv__quant_row_ops},
    {{"bf16", "16", 0, "bfloat16"}, 16, &rv__quant_row_ops},
    {{"binary", "1", 1, "signs around the mean"}, 1, &rv__quant_step_ops},
    {{"pq", "4 or 8 per sub-quantizer", 1, "Jegou, Douze, Schmid, 2011; fast scan: Andre et al., 2015"},
     0, &rv__quant_pq_ops},
    {{"rabitq", "1 to 8", 1, "Gao, Long, 2024; Gao et al., 2025"}, 0, &rv__rabitq_ops},
};

#define RV__QUANT_KINDS (sizeof rv__quant_kinds / sizeof rv__quant_kinds[0])

RV_API const rv_quant_info *rv_quant_kind_at(size_t i)
{
    return i < RV__QUANT_KINDS ? &rv__quant_kinds[i].info : NULL;
}

/* ---- making ---- */

/* Checks a config and fills in its defaults. */
static rv_status rv__quant_resolve(rv_ctx *ctx, const rv_quant_config *from, rv_quant_config *config)
{
    const size_t kind = (size_t)from->kind;
    *config = *from;
    if (kind >= RV__QUANT_KINDS) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kind is %z, allowed: 0 to %z", kind, RV__QUANT_KINDS - 1);
    }
    if (from->dim < 1 || from->dim > 65535) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dim is %z, allowed: 1 to 65535", (size_t)from->dim);
    }
    if (from->metric != RV_METRIC_L2 && from->metric != RV_METRIC_IP && from->metric != RV_METRIC_COSINE) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "metric is %s, allowed: l2, ip, cosine",
                        rv_metric_name(from->metric));
    }
    if (from->kind == RV_QUANT_PQ) {
        if (from->bits == 0) config->bits = 4;
        if (config->bits != 4 && config->bits != 8) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "bits is %z, allowed for pq: 4, 8", (size_t)from->bits);
        }
        if (from->m == 0) config->m = (from->dim + 3) / 4;
        if (config->m > from->dim) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "m is %z, allowed: 1 to dim (%z)", (size_t)from->m,
                            (size_t)from->dim);
        }
        if (from->iterations == 0) config->iterations = 16;
        if (config->iterations > 10000) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "iterations is %z, allowed: 1 to 10000",
                            (size_t)from->iterations);
        }
    } else if (from->kind == RV_QUANT_RABITQ) {
        if (from->bits == 0) config->bits = 1;
        if (config->bits > 8) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "bits is %z, allowed for rabitq: 1 to 8", (size_t)from->bits);
        }
        if (from->epsilon == 0.0f) config->epsilon = 1.9f;
        if (!rv__finite_f32(config->epsilon) || config->epsilon < 0.0f || config->epsilon > 100.0f) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "epsilon is %f, allowed: above 0 to 100",
                            (double)from->epsilon);
        }
    } else {
        config->bits = rv__quant_kinds[kind].bits;
        if (from->bits && from->bits != config->bits) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "bits is %z, kind %s has %z: leave it 0",
                            (size_t)from->bits, rv__quant_kinds[kind].info.name, (size_t)config->bits);
        }
    }
    return RV_OK;
}

/* Sizes of a code. */
static void rv__quant_measure(rv_quant *quant)
{
    const size_t dim = quant->config.dim, bits = quant->config.bits;
    size_t factors = 0;
    switch (quant->config.kind) {
    case RV_QUANT_F16:
    case RV_QUANT_BF16: quant->payload = 2 * dim; break;
    case RV_QUANT_SQ4:
        quant->payload = rv__round_up(dim, 128) / 2;
        factors = 4;
        break;
    case RV_QUANT_BINARY: quant->payload = rv__round_up(dim, 64) / 8; break;
    case RV_QUANT_PQ: quant->payload = (quant->config.m * bits + 7) / 8; break;
    case RV_QUANT_RABITQ:
        quant->payload = quant->padded * bits / 8;
        factors = RV__RABITQ_TAIL - 2;
        break;
    default: quant->payload = 4 + dim; break;
    }
    quant->code_bytes = quant->payload + factors + 2;
}

static rv_status rv__quant_make(rv_ctx *ctx, const rv_quant_config *from, uint64_t seed, rv_quant **out)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv_quant_config config;
    rv_quant *quant;
    rv_status status = rv__quant_resolve(ctx, from, &config);
    if (status) return status;
    quant = (rv_quant *)rv__get_zero(&alloc, 1, sizeof *quant);
    if (!quant) return rv__no_memory(ctx, sizeof *quant);
    quant->alloc = alloc;
    quant->config = config;
    quant->seed = seed;
    quant->ops = rv__quant_kinds[config.kind].ops;
    quant->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    quant->trained = !quant->ops->train;
    if (config.kind == RV_QUANT_RABITQ) {
        status = rv__rotation_create(ctx, config.dim, seed, &quant->rotation);
        if (status) {
            rv__put(&alloc, quant, 1, sizeof *quant);
            return status;
        }
        quant->padded = rv_rotation_dim(quant->rotation);
    }
    rv__quant_measure(quant);
    *out = quant;
    return RV_OK;
}

RV_API rv_status rv_quant_create(rv_ctx *ctx, const rv_quant_config *config, rv_quant **out)
{
    rv_status status;
    if (!config || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_create needs config and out");
    status = rv__quant_make(ctx, config, rv__seed(ctx), out);
    return status ? status : rv__ok(ctx);
}

/* Gives back what training made. */
static void rv__quant_forget(rv_quant *quant)
{
    const size_t dim = quant->config.dim;
    rv__put(&quant->alloc, quant->mid, 2 * dim, sizeof(float));
    rv__put(&quant->alloc, quant->book, rv__quant_pq_floats(quant), sizeof(float));
    rv__put(&quant->alloc, quant->mean, dim + quant->padded, sizeof(float));
    quant->mid = quant->book = quant->mean = NULL;
}

RV_API void rv_quant_destroy(rv_quant *quant)
{
    rv_alloc alloc;
    if (!quant) return;
    alloc = quant->alloc;
    rv__quant_forget(quant);
    rv_rotation_destroy(quant->rotation);
    rv__put(&alloc, quant, 1, sizeof *quant);
}

RV_API int rv_quant_trained(const rv_quant *quant)
{
    return quant->trained;
}

RV_API size_t rv_quant_code_bytes(const rv_quant *quant)
{
    return quant->code_bytes;
}

RV_API void rv_quant_config_of(const rv_quant *quant, rv_quant_config *config)
{
    *config = quant->config;
}

RV_API size_t rv_quant_bytes(const rv_quant *quant)
{
    const size_t dim = quant->config.dim;
    size_t bytes = sizeof *quant;
    if (quant->mid) bytes += 2 * dim * sizeof(float);
    if (quant->book) bytes += rv__quant_pq_floats(quant) * sizeof(float);
    if (quant->mean) bytes += (dim + quant->padded) * sizeof(float);
    return bytes + (quant->rotation ? rv_rotation_bytes(quant->rotation) : 0);
}

/* ---- training ---- */

/* Rows looked at by training: enough for the kind, at most about 64 MiB. */
static size_t rv__quant_sample_rows(const rv_quant *quant, size_t n)
{
    size_t most = RV__QUANT_SAMPLE, fits = ((size_t)1 << 24) / quant->config.dim;
    if (quant->config.kind == RV_QUANT_PQ && quant->config.bits == 4) most = 8192;
    if (fits < 4096) fits = 4096;
    if (most > fits) most = fits;
    return n < most ? n : most;
}

static rv_status rv__quant_sample(rv_ctx *ctx, const rv_quant *quant, const float *rows, size_t stride,
                                  size_t n, size_t s, float *sample)
{
    const size_t dim = quant->config.dim;
    for (size_t i = 0; i < s; i++) {
        uint64_t from = (uint64_t)i * n / s, to = (uint64_t)(i + 1) * n / s;
        size_t row = (size_t)(from + rv__mix(quant->seed + i) % (to - from));
        size_t bad = rv__find_not_finite(rows + row * stride, dim);
        rv_status status = (i & 255u) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (bad < dim) {
            return rv__fail(ctx, RV_ERR_ARG, row * stride + bad, "element %z of row %z is not finite", bad, row);
        }
        memcpy(sample + i * dim, rows + row * stride, dim * sizeof(float));
        if (quant->config.metric == RV_METRIC_COSINE) rv__quant_normalise(sample + i * dim, dim);
    }
    return RV_OK;
}

RV_API rv_status rv_quant_train(rv_ctx *ctx, rv_quant *quant, const float *rows, size_t stride, size_t n)
{
    rv_quant fresh;
    rv_status status;
    size_t s, dim;
    float *sample;
    if (!quant || (!rows && n)) return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_train needs quant and rows");
    dim = quant->config.dim;
    if (stride == 0) stride = dim;
    if (stride < dim) {
        return rv__fail(ctx, RV_ERR_DIM, 0, "stride is %z, allowed: 0 or at least dim (%z)", stride, dim);
    }
    if (n == 0) return rv__fail(ctx, RV_ERR_ARG, 0, "n is 0, training needs at least one row");
    if (!quant->ops->train) return rv__ok(ctx);
    s = rv__quant_sample_rows(quant, n);
    sample = (float *)rv__get(&quant->alloc, rv__mul(s, dim), sizeof(float));
    if (!sample) return rv__no_memory(ctx, rv__mul(rv__mul(s, dim), sizeof(float)));
    fresh = *quant;
    fresh.mid = fresh.step = fresh.book = fresh.turned = fresh.mean = NULL;
    status = rv__quant_sample(ctx, quant, rows, stride, n, s, sample);
    if (!status) status = quant->ops->train(ctx, &fresh, sample, s);
    rv__put(&quant->alloc, sample, rv__mul(s, dim), sizeof(float));
    if (status) {
        rv__quant_forget(&fresh);
        return status;
    }
    rv__quant_forget(quant);
    *quant = fresh;
    quant->trained = 1;
    return rv__ok(ctx);
}

/* ---- encoding and decoding ---- */

typedef struct rv__quant_job {
    const rv_quant *quant;
    const float *rows;
    size_t stride;
    unsigned char *codes;
    float *scratch;     /* [lanes, lane_floats]: a block of rows, then the kind's */
    size_t lane_floats;
    size_t *bad;        /* [lanes] lowest element that cannot be coded, or SIZE_MAX */
} rv__quant_job;

/* First element of a row that has no code, or dim. */
static size_t rv__quant_refused(const rv_quant *quant, const float *row)
{
    const size_t dim = quant->config.dim;
    size_t bad = rv__find_not_finite(row, dim);
    if (bad == dim && quant->config.kind == RV_QUANT_F16 && quant->config.metric != RV_METRIC_COSINE) {
        for (bad = 0; bad < dim && fabsf(row[bad]) < 65520.0f;) bad++;
    }
    return bad;
}

static void rv__quant_encode_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__quant_job *job = (const rv__quant_job *)arg;
    const rv_quant *quant = job->quant;
    const size_t dim = quant->config.dim;
    float *block = job->scratch + lane * job->lane_floats;
    for (size_t at = begin; at < end; at += RV__QUANT_BLOCK) {
        size_t n = end - at < RV__QUANT_BLOCK ? end - at : RV__QUANT_BLOCK;
        for (size_t i = 0; i < n; i++) {
            const float *row = job->rows + (at + i) * job->stride;
            size_t bad = rv__quant_refused(quant, row);
            if (bad < dim) {
                size_t where = (at + i) * job->stride + bad;
                if (where < job->bad[lane]) job->bad[lane] = where;
                memset(block + i * dim, 0, dim * sizeof(float));
                continue;
            }
            memcpy(block + i * dim, row, dim * sizeof(float));
            if (quant->config.metric == RV_METRIC_COSINE) rv__quant_normalise(block + i * dim, dim);
        }
        quant->ops->encode(quant, block, n, job->codes + at * quant->code_bytes,
                           block + rv__round_up(RV__QUANT_BLOCK * dim, 16));
    }
}

RV_API rv_status rv_quant_encode(rv_ctx *ctx, const rv_quant *quant, const float *rows, size_t stride,
                                 size_t n, void *codes)
{
    rv_alloc alloc = rv__allocator(ctx);
    size_t lanes = rv__lanes(ctx), worst = SIZE_MAX, dim;
    rv__quant_job job;
    rv_status status = RV_OK;
    if (!quant || (n && (!rows || !codes))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_encode needs quant, rows and codes");
    }
    dim = quant->config.dim;
    if (stride == 0) stride = dim;
    if (stride < dim) {
        return rv__fail(ctx, RV_ERR_DIM, 0, "stride is %z, allowed: 0 or at least dim (%z)", stride, dim);
    }
    if (!quant->trained) return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0, "the quantizer is not trained");
    if (n == 0) return rv__ok(ctx);
    job.quant = quant;
    job.rows = rows;
    job.stride = stride;
    job.codes = (unsigned char *)codes;
    job.lane_floats = rv__round_up(RV__QUANT_BLOCK * dim, 16) + rv__round_up(quant->ops->scratch(quant), 16);
    job.scratch = (float *)rv__get(&alloc, lanes, job.lane_floats * sizeof(float));
    job.bad = (size_t *)rv__get(&alloc, lanes, sizeof(size_t));
    if (!job.scratch || !job.bad) {
        status = rv__no_memory(ctx, lanes * job.lane_floats * sizeof(float));
    } else {
        for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
        status = rv__parallel_for(ctx, n, RV__QUANT_BLOCK, 1 + 1000000u / dim, rv__quant_encode_range, &job);
        for (size_t i = 0; i < lanes; i++) worst = job.bad[i] < worst ? job.bad[i] : worst;
    }
    rv__put(&alloc, job.bad, lanes, sizeof(size_t));
    rv__put(&alloc, job.scratch, lanes, job.lane_floats * sizeof(float));
    if (status) return status;
    if (worst != SIZE_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, worst, "element %z of row %z is not finite or too large",
                        worst % stride, worst / stride);
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_quant_decode(rv_ctx *ctx, const rv_quant *quant, const void *codes, size_t n, float *rows)
{
    rv_alloc alloc = rv__allocator(ctx);
    const unsigned char *code = (const unsigned char *)codes;
    float *turned = NULL;
    rv_status status = RV_OK;
    size_t dim, wide;
    if (!quant || (n && (!codes || !rows))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_decode needs quant, codes and rows");
    }
    if (!quant->trained) return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0, "the quantizer is not trained");
    dim = wide = quant->config.dim;
    if (quant->rotation) {
        wide = quant->padded;
        turned = (float *)rv__get(&alloc, wide, sizeof(float));
        if (!turned) return rv__no_memory(ctx, wide * sizeof(float));
    }
    for (size_t i = 0; !status && i < n; i++, code += quant->code_bytes, rows += dim) {
        float *to = turned ? turned : rows;
        status = (i & 255u) ? RV_OK : rv__poll(ctx);
        if (status) break;
        for (size_t at = 0; at < wide; at += RV__QUANT_CHUNK) {
            quant->ops->chunk(quant, code, at, wide - at < RV__QUANT_CHUNK ? wide - at : RV__QUANT_CHUNK, to + at);
        }
        if (turned) rv_rotation_invert(quant->rotation, turned, rows);
    }
    rv__put(&alloc, turned, wide, sizeof(float));
    return status ? status : rv__ok(ctx);
}

static void rv__quant_swap(unsigned char *p, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++, p += size) {
        for (size_t b = 0; b < size / 2; b++) {
            unsigned char t = p[b];
            p[b] = p[size - 1 - b];
            p[size - 1 - b] = t;
        }
    }
}

RV_API void rv_quant_portable(const rv_quant *quant, void *codes, size_t n)
{
    unsigned char *code = (unsigned char *)codes;
    const int halves = quant->config.kind == RV_QUANT_F16 || quant->config.kind == RV_QUANT_BF16;
    const int first = quant->config.kind == RV_QUANT_SQ8 || quant->config.kind == RV_QUANT_SQ8_ROW;
    if (!rv__big_endian()) return;
    for (size_t i = 0; i < n; i++, code += quant->code_bytes) {
        unsigned char *tail = code + quant->payload;
        if (halves) rv__quant_swap(code, 2, quant->config.dim);
        if (first) rv__quant_swap(code, 4, 1);
        if (quant->config.kind == RV_QUANT_SQ4) rv__quant_swap(tail, 4, 1);
        if (quant->config.kind == RV_QUANT_RABITQ) {
            rv__quant_swap(tail, 4, 2);
            rv__quant_swap(tail + 8, 2, 1);
        }
        rv__quant_swap(code + quant->code_bytes - 2, 2, 1);
    }
}

/* ---- distances ---- */

static size_t rv__quant_head_bytes(void)
{
    return rv__round_up(sizeof(rv__quant_query), 64);
}

/* The head of a prepared query lies at its first multiple of 64 bytes. */
static const rv__quant_query *rv__quant_head(const void *prepared)
{
    const unsigned char *p = (const unsigned char *)prepared;
    return (const rv__quant_query *)(const void *)(p + (64 - ((uintptr_t)p & 63u)) % 64);
}

RV_API size_t rv_quant_query_bytes(const rv_quant *quant)
{
    size_t work = quant->config.dim > quant->padded ? quant->config.dim : quant->padded;
    return 64 + rv__quant_head_bytes() + quant->ops->query_bytes(quant) + rv__round_up(work * sizeof(float), 64);
}

RV_API rv_status rv_quant_prepare(rv_ctx *ctx, const rv_quant *quant, const float *query, void *prepared)
{
    unsigned char *p = (unsigned char *)prepared, *data;
    rv__quant_query *head;
    float *work;
    size_t bad;
    if (!quant || !query || !prepared) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_prepare needs quant, query and prepared");
    }
    if (!quant->trained) return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0, "the quantizer is not trained");
    bad = rv__find_not_finite(query, quant->config.dim);
    if (bad < quant->config.dim) {
        return rv__fail(ctx, RV_ERR_ARG, bad, "element %z of the query is not finite", bad);
    }
    p += (64 - ((uintptr_t)p & 63u)) % 64;
    head = (rv__quant_query *)(void *)p;
    data = p + rv__quant_head_bytes();
    work = (float *)(void *)(data + quant->ops->query_bytes(quant));
    memset(head, 0, sizeof *head);
    memcpy(work, query, quant->config.dim * sizeof(float));
    if (quant->config.metric == RV_METRIC_COSINE) rv__quant_normalise(work, quant->config.dim);
    quant->ops->prepare(quant, work, head, data);
    return rv__ok(ctx);
}

RV_API void rv_quant_distance(const rv_quant *quant, const void *prepared, const void *codes, size_t n,
                              float *out, float *bounds)
{
    rv_quant_gather(quant, prepared, codes, NULL, n, out, bounds);
}

RV_API void rv_quant_gather(const rv_quant *quant, const void *prepared, const void *codes,
                            const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const rv__quant_query *head = rv__quant_head(prepared);
    const unsigned char *data = (const unsigned char *)head + rv__quant_head_bytes();
    if (n) quant->ops->distance(quant, head, data, (const unsigned char *)codes, ids, n, out, bounds);
}

RV_API float rv_quant_pair(const rv_quant *quant, const void *a, const void *b)
{
    const size_t wide = quant->rotation ? quant->padded : quant->config.dim;
    float x[RV__QUANT_CHUNK], y[RV__QUANT_CHUNK];
    double sum = 0.0;
    for (size_t at = 0; at < wide; at += RV__QUANT_CHUNK) {
        size_t n = wide - at < RV__QUANT_CHUNK ? wide - at : RV__QUANT_CHUNK;
        quant->ops->chunk(quant, (const unsigned char *)a, at, n, x);
        quant->ops->chunk(quant, (const unsigned char *)b, at, n, y);
        sum += (double)(quant->config.metric == RV_METRIC_L2 ? quant->kernels->pair_f32[RV__OP_L2](x, y, n)
                                                             : quant->kernels->pair_f32[RV__OP_IP](x, y, n));
    }
    return (float)(quant->config.metric == RV_METRIC_COSINE ? 1.0 + sum : sum);
}

/* ---- blocks ---- */

RV_API size_t rv_quant_block_bytes(const rv_quant *quant)
{
    if (quant->config.kind == RV_QUANT_PQ && quant->config.bits == 4) return rv__quant_pq_block(quant);
    if (quant->config.kind == RV_QUANT_RABITQ && quant->config.bits == 1) return rv__rabitq_block(quant);
    return 0;
}

RV_API void rv_quant_pack(const rv_quant *quant, const void *codes, size_t n, void *blocks)
{
    const unsigned char *code = (const unsigned char *)codes;
    unsigned char *block = (unsigned char *)blocks;
    for (size_t at = 0; at < n; at += RV__QUANT_BLOCK, block += rv_quant_block_bytes(quant)) {
        size_t part = n - at < RV__QUANT_BLOCK ? n - at : RV__QUANT_BLOCK;
        if (quant->config.kind == RV_QUANT_PQ) {
            rv__quant_pq_pack(quant, code + at * quant->code_bytes, part, block);
        } else {
            rv__rabitq_pack(quant, code + at * quant->code_bytes, part, block);
        }
    }
}

RV_API void rv_quant_scan(const rv_quant *quant, const void *prepared, const void *blocks, size_t n,
                          float *out, float *bounds)
{
    const rv__quant_query *head = rv__quant_head(prepared);
    const unsigned char *data = (const unsigned char *)head + rv__quant_head_bytes();
    const unsigned char *block = (const unsigned char *)blocks;
    for (size_t at = 0; at < n; at += RV__QUANT_BLOCK, block += rv_quant_block_bytes(quant)) {
        size_t part = n - at < RV__QUANT_BLOCK ? n - at : RV__QUANT_BLOCK;
        if (quant->config.kind == RV_QUANT_PQ) {
            rv__quant_pq_scan(quant, head, data, block, part, out + at, bounds ? bounds + at : NULL);
        } else {
            rv__rabitq_scan(quant, head, data, block, part, out + at, bounds ? bounds + at : NULL);
        }
    }
}

/* ---- images ---- */

/* Sections behind a tag prefix, so that an index can hold a quantizer in its own image. */
RV__FN void rv__quant_save(rv__image_writer *w, const rv_quant *quant)
{
    uint32_t conf[8];
    conf[0] = (uint32_t)quant->config.kind;
    conf[1] = quant->config.dim;
    conf[2] = (uint32_t)quant->config.metric;
    conf[3] = quant->config.bits;
    conf[4] = quant->config.m;
    conf[5] = quant->config.iterations;
    memcpy(conf + 6, &quant->config.epsilon, 4);
    conf[7] = (uint32_t)quant->trained;
    rv__image_section(w, "CONF", 4, conf, 8);
    rv__image_section(w, "SEED", 8, &quant->seed, 1);
    if (quant->mid) {
        rv__image_section(w, "MIDS", 4, quant->mid, 2 * (size_t)quant->config.dim);
        rv__image_section(w, "UNIT", 4, &quant->unit, 1);
    }
    if (quant->book) rv__image_section(w, "BOOK", 4, quant->book, rv__quant_pq_size(quant) * quant->config.dim);
    if (quant->mean) rv__image_section(w, "MEAN", 4, quant->mean, quant->config.dim);
}

static rv_status rv__quant_load_floats(rv_ctx *ctx, const rv__image_reader *r, const char *tag, size_t n, float *out)
{
    rv_status status = rv__image_values(ctx, r, tag, 4, n, out);
    if (!status && rv__find_not_finite(out, n) < n) {
        status = rv__fail(ctx, RV_ERR_FORMAT, 0, "section %s has a value that is not finite", tag);
    }
    return status;
}

/* What training made, into a quantizer that has none of it. */
static rv_status rv__quant_load_state(rv_ctx *ctx, const rv__image_reader *r, rv_quant *quant)
{
    const size_t dim = quant->config.dim;
    size_t count;
    rv_status status;
    if (quant->config.kind == RV_QUANT_PQ) {
        size_t n = rv__quant_pq_size(quant) * dim;
        /* the length is known to agree before memory is asked for */
        if (!rv__image_count(r, "BOOK", 4, &count) || count != n) {
            return rv__fail(ctx, RV_ERR_FORMAT, 0, "section BOOK is missing or of a wrong length");
        }
        status = rv__quant_pq_room(ctx, quant);
        if (!status) status = rv__quant_load_floats(ctx, r, "BOOK", n, quant->book);
        if (!status) rv__quant_pq_turn(quant);
        return status;
    }
    if (quant->config.kind == RV_QUANT_RABITQ) {
        quant->mean = (float *)rv__get(&quant->alloc, dim + quant->padded, sizeof(float));
        if (!quant->mean) return rv__no_memory(ctx, (dim + quant->padded) * sizeof(float));
        status = rv__quant_load_floats(ctx, r, "MEAN", dim, quant->mean);
        if (!status) rv_rotation_apply(quant->rotation, quant->mean, quant->mean + dim);
        return status;
    }
    if (!quant->ops->train) return RV_OK;
    quant->mid = (float *)rv__get(&quant->alloc, 2 * dim, sizeof(float));
    if (!quant->mid) return rv__no_memory(ctx, 2 * dim * sizeof(float));
    quant->step = quant->mid + dim;
    status = rv__quant_load_floats(ctx, r, "MIDS", 2 * dim, quant->mid);
    if (!status) status = rv__quant_load_floats(ctx, r, "UNIT", 1, &quant->unit);
    if (!status && !(quant->unit > 0.0f)) {
        status = rv__fail(ctx, RV_ERR_FORMAT, 0, "section UNIT is not positive");
    }
    for (size_t j = 0; !status && j < dim; j++) {
        if (!(quant->step[j] >= 0.0f && quant->step[j] <= 1.0f)) {
            status = rv__fail(ctx, RV_ERR_FORMAT, 0, "step %z in section MIDS is outside 0 to 1", j);
        }
    }
    return status;
}

RV__FN rv_status rv__quant_load(rv_ctx *ctx, const rv__image_reader *r, rv_quant **out)
{
    uint32_t conf[8];
    uint64_t seed;
    rv_quant_config config;
    rv_quant *quant;
    rv_status status = rv__image_values(ctx, r, "CONF", 4, 8, conf);
    if (!status) status = rv__image_values(ctx, r, "SEED", 8, 1, &seed);
    if (status) return status;
    memset(&config, 0, sizeof config);
    config.dim = conf[1];
    config.bits = conf[3];
    config.m = conf[4];
    config.iterations = conf[5];
    memcpy(&config.epsilon, conf + 6, 4);
    if (conf[0] >= RV__QUANT_KINDS || conf[2] > RV_METRIC_COSINE || conf[7] > 1) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "section CONF names an unknown kind, metric or flag");
    }
    config.kind = (rv_quant_kind)conf[0];
    config.metric = (rv_metric)conf[2];
    status = rv__quant_make(ctx, &config, seed, &quant);
    if (status == RV_ERR_CONFIG) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "section CONF holds a config that is out of range");
    }
    if (status) return status;
    if (conf[7]) status = rv__quant_load_state(ctx, r, quant);
    if (status) {
        rv_quant_destroy(quant);
        return status;
    }
    quant->trained = conf[7] || !quant->ops->train;
    *out = quant;
    return RV_OK;
}

RV_API rv_status rv_quant_save(rv_ctx *ctx, const rv_quant *quant, void *image, size_t cap, size_t *bytes)
{
    rv__image_writer w;
    if (!quant || !bytes) return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_save needs quant and bytes");
    rv__image_begin(ctx, &w, "QUAN", image, cap);
    rv__quant_save(&w, quant);
    return rv__image_end(ctx, &w, bytes);
}

RV_API rv_status rv_quant_load(rv_ctx *ctx, const void *image, size_t bytes, rv_quant **out)
{
    rv__image_reader r;
    rv_status status;
    if (!image || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_load needs image and out");
    status = rv__image_open(ctx, &r, image, bytes, "QUAN");
    if (!status) status = rv__quant_load(ctx, &r, out);
    return status ? status : rv__ok(ctx);
}

#undef RV__QUANT_KINDS
#undef RV__QUANT_BLOCK
#undef RV__QUANT_CHUNK
#undef RV__QUANT_SAMPLE
#undef RV__RABITQ_TAIL
#endif /* RV_QUANT_API_C */
/* ==== src/ivf.c, continued ==================================================================== */

/* Lists and codes of the inverted file; building, search and images are in the parts that follow.

   A list is a chain of blocks of 32 rows out of one pool: ids[block * 32 + lane] is the row's slot,
   codes and factors lie in parallel arrays. All blocks but the last of a chain are full; a row leaves
   by the list's last row taking its place. place[slot] = block * 32 + lane.

   Estimates. With the row's list centre C, mu the mean of all centres, q' = q - mu, C' = C - mu,
   r = x - C, and <r, q - C> estimated by (r^, q') - (r^, C') from the code of r,

       |q - x|^2 = |q - C|^2 + (|r|^2 + 2 (r^, C')) - 2 (r^, q')
       -q x      = -q C      + ((r^, C') - r C)     -   (r^, q')

   so that one table made from q' serves all lists; the bracket is a factor kept with the row. PQ: r^
   is what the code decodes to. RABITQ: (r^, v) = f <y, P v> with the row's second factor f.

   Source of moving the centre's part into the row: the RaBitQ library; the formulas hold for any
   code. */

#define RV__IVF_BLOCK 32u
#define RV__IVF_NONE 0xFFFFFFFFu
#define RV__IVF_LISTS_MAX 1048576u
#define RV__IVF_RUN 8u    /* blocks scanned by one call of the kernel                          */
#define RV__IVF_CHUNK 64u /* elements decoded together                                          */
#define RV__IVF_LEAST 256u /* rows below which nothing is learned                               */

typedef struct rv__ivf_lists {
    rv_alloc alloc;
    const rv__kernels *kernels;
    uint32_t dim;
    rv_metric metric;
    uint32_t n_lists;
    int trained;
    int viewed;            /* arrays marked V belong to an image                                  */
    /* centres: float means, or rows of a store for metrics without means */
    float *means;          /* [n_lists, dim], or NULL; V                                          */
    float *offset;         /* [dim] mean of the means                                             */
    int8_t *coarse;        /* [n_lists, wide] bytes of the means less offset, or NULL             */
    float *coarse_factor;  /* [n_lists, 2] scale and squared length of those                      */
    size_t wide;
    int medoids;
    rv__store centres;
    /* codes */
    rv_quant *quant;       /* NULL: none                                                          */
    size_t n_sub;          /* nibbles per row, even                                               */
    size_t n_factors;      /* floats per row                                                      */
    /* chains */
    uint32_t *head, *tail, *size; /* [n_lists] in one block; V: head, size; no tail in a view     */
    uint32_t n_blocks, capacity;  /* blocks used or free, and room                                */
    uint32_t spare;        /* first block of the chain of free ones                               */
    unsigned char *codes;  /* [capacity, 16 n_sub]; V                                             */
    float *factors;        /* [capacity, n_factors, 32]; V                                        */
    uint32_t *ids;         /* [capacity, 32]; V                                                   */
    uint32_t *next;        /* [capacity]; V                                                       */
    uint32_t *owner;       /* [capacity] list of a block; NULL in a view                          */
} rv__ivf_lists;

struct rv_ivf {
    rv__store store;
    rv_ivf_config config;  /* as given                                                            */
    uint64_t seed;
    rv__ivf_lists lists;
    uint32_t *place;       /* [place_capacity]; NULL in a view                                    */
    size_t place_capacity;
};

static rv_status rv__ivf_null(rv_ctx *ctx, const char *what)
{
    return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
}

/* ---- memory of the lists ---- */

static void rv__ivf_drop_pool(rv__ivf_lists *l)
{
    if (!l->viewed) {
        rv__put(&l->alloc, l->codes, (size_t)l->capacity * 16 * l->n_sub, 1);
        rv__put(&l->alloc, l->factors, (size_t)l->capacity * 32 * l->n_factors, sizeof(float));
        rv__put(&l->alloc, l->ids, (size_t)l->capacity * 32, sizeof(uint32_t));
        rv__put(&l->alloc, l->next, l->capacity, sizeof(uint32_t));
        rv__put(&l->alloc, l->owner, l->capacity, sizeof(uint32_t));
    }
    l->codes = NULL;
    l->factors = NULL;
    l->ids = l->next = l->owner = NULL;
    l->capacity = 0;
}

RV__FN void rv__ivf_lists_free(rv__ivf_lists *l)
{
    rv__ivf_drop_pool(l);
    if (!l->viewed) {
        rv__put(&l->alloc, l->head, 3 * (size_t)l->n_lists, sizeof(uint32_t));
        rv__put(&l->alloc, l->means, (size_t)l->n_lists * l->dim, sizeof(float));
    }
    rv__put(&l->alloc, l->offset, l->dim, sizeof(float));
    rv__put(&l->alloc, l->coarse, (size_t)l->n_lists * l->wide, 1);
    rv__put(&l->alloc, l->coarse_factor, 2 * (size_t)l->n_lists, sizeof(float));
    if (l->medoids) rv__store_free(&l->centres);
    rv_quant_destroy(l->quant);
    memset(l, 0, sizeof *l);
}

/* One list without codes and without a centre. */
RV__FN rv_status rv__ivf_lists_init(rv_ctx *ctx, rv__ivf_lists *l, const rv_alloc *alloc, uint32_t dim,
                                    rv_metric metric, uint32_t n_lists)
{
    memset(l, 0, sizeof *l);
    l->alloc = *alloc;
    l->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    l->dim = dim;
    l->metric = metric;
    l->n_lists = n_lists;
    l->spare = RV__IVF_NONE;
    l->head = (uint32_t *)rv__get(alloc, 3 * (size_t)n_lists, sizeof(uint32_t));
    if (!l->head) return rv__no_memory(ctx, 3 * (size_t)n_lists * sizeof(uint32_t));
    l->tail = l->head + n_lists;
    l->size = l->tail + n_lists;
    for (uint32_t i = 0; i < n_lists; i++) {
        l->head[i] = l->tail[i] = RV__IVF_NONE;
        l->size[i] = 0;
    }
    return RV_OK;
}

RV__FN size_t rv__ivf_lists_bytes(const rv__ivf_lists *l, rv_ivf_stats *stats)
{
    const size_t blocks = l->capacity, n = l->n_lists;
    stats->code_bytes = l->viewed ? 0 : blocks * (16 * l->n_sub + 32 * l->n_factors * sizeof(float));
    stats->list_bytes = l->viewed ? 0 : blocks * (34 * sizeof(uint32_t)) + 3 * n * sizeof(uint32_t);
    stats->centre_bytes = (l->means && !l->viewed ? n * l->dim * sizeof(float) : 0) +
                          (l->offset ? l->dim * sizeof(float) : 0) +
                          (l->coarse ? n * (l->wide + 2 * sizeof(float)) : 0) +
                          (l->medoids ? rv__store_bytes(&l->centres) : 0) +
                          (l->quant ? rv_quant_bytes(l->quant) : 0);
    return stats->code_bytes + stats->list_bytes + stats->centre_bytes;
}

/* A pool of another capacity for the same lists, not filled. */
static rv_status rv__ivf_pool_get(rv_ctx *ctx, const rv__ivf_lists *l, size_t capacity, rv__ivf_lists *to)
{
    *to = *l;
    to->codes = NULL;
    to->factors = NULL;
    to->capacity = (uint32_t)capacity;
    to->ids = (uint32_t *)rv__get(&l->alloc, capacity * 32, sizeof(uint32_t));
    to->next = (uint32_t *)rv__get(&l->alloc, capacity, sizeof(uint32_t));
    to->owner = (uint32_t *)rv__get(&l->alloc, capacity, sizeof(uint32_t));
    if (l->n_sub) {
        to->codes = (unsigned char *)rv__get(&l->alloc, rv__mul(capacity * 16, l->n_sub), 1);
        to->factors = (float *)rv__get(&l->alloc, capacity * 32 * l->n_factors, sizeof(float));
    }
    if (to->ids && to->next && to->owner && (!l->n_sub || (to->codes && to->factors))) return RV_OK;
    rv__ivf_drop_pool(to);
    return rv__no_memory(ctx, rv__mul(capacity * 16, l->n_sub + 8));
}

/* Room for so many more blocks than are in use. */
RV__FN rv_status rv__ivf_pool_grow(rv_ctx *ctx, rv__ivf_lists *l, size_t more, int exactly)
{
    size_t need = (size_t)l->n_blocks + more, half = (size_t)l->capacity + l->capacity / 2;
    rv__ivf_lists to;
    rv_status status;
    for (uint32_t b = l->spare; b != RV__IVF_NONE && need > l->capacity; b = l->next[b]) need--;
    if (need <= l->capacity) return RV_OK;
    if (!exactly && half > need) need = half;
    if (need > RV__IVF_NONE / 32) return rv__no_memory(ctx, SIZE_MAX);
    status = rv__ivf_pool_get(ctx, l, need, &to);
    if (status) return status;
    if (l->n_blocks) {
        memcpy(to.ids, l->ids, (size_t)l->n_blocks * 32 * sizeof(uint32_t));
        memcpy(to.next, l->next, (size_t)l->n_blocks * sizeof(uint32_t));
        memcpy(to.owner, l->owner, (size_t)l->n_blocks * sizeof(uint32_t));
        if (l->n_sub) {
            memcpy(to.codes, l->codes, (size_t)l->n_blocks * 16 * l->n_sub);
            memcpy(to.factors, l->factors, (size_t)l->n_blocks * 32 * l->n_factors * sizeof(float));
        }
    }
    rv__ivf_drop_pool(l);
    *l = to;
    return RV_OK;
}

/* ---- rows in and out of lists ---- */

/* Writes n_sub nibbles, packed two to a byte, and factors. */
static void rv__ivf_put_code(rv__ivf_lists *l, uint32_t at, const unsigned char *code, const float *factor)
{
    const uint32_t block = at / 32, lane = at % 32;
    unsigned char *to = l->codes + (size_t)block * 16 * l->n_sub + (lane & 15u);
    const unsigned keep = (lane & 16u) ? 0x0Fu : 0xF0u, shift = (lane & 16u) ? 4 : 0;
    for (size_t s = 0; s < l->n_sub; s += 2, to += 32) {
        unsigned pair = code[s / 2];
        to[0] = (unsigned char)((to[0] & keep) | (pair & 15u) << shift);
        to[16] = (unsigned char)((to[16] & keep) | (pair >> 4) << shift);
    }
    for (size_t i = 0; i < l->n_factors; i++) {
        l->factors[((size_t)block * l->n_factors + i) * 32 + lane] = factor[i];
    }
}

static void rv__ivf_get_code(const rv__ivf_lists *l, uint32_t at, unsigned char *code, float *factor)
{
    const uint32_t block = at / 32, lane = at % 32;
    const unsigned char *from = l->codes + (size_t)block * 16 * l->n_sub + (lane & 15u);
    const unsigned shift = (lane & 16u) ? 4 : 0;
    for (size_t s = 0; s < l->n_sub; s += 2, from += 32) {
        unsigned low = (unsigned)(from[0] >> shift) & 15u, high = (unsigned)(from[16] >> shift) & 15u;
        code[s / 2] = (unsigned char)(low | high << 4);
    }
    for (size_t i = 0; i < l->n_factors; i++) {
        factor[i] = l->factors[((size_t)block * l->n_factors + i) * 32 + lane];
    }
}

/* Moves row `from` of the pool to place `to`. */
static void rv__ivf_move(rv__ivf_lists *l, uint32_t from, uint32_t to)
{
    const uint32_t a = from % 32, b = to % 32;
    const unsigned char *src = l->n_sub ? l->codes + (size_t)(from / 32) * 16 * l->n_sub + (a & 15u) : NULL;
    unsigned char *dst = l->n_sub ? l->codes + (size_t)(to / 32) * 16 * l->n_sub + (b & 15u) : NULL;
    const unsigned keep = (b & 16u) ? 0x0Fu : 0xF0u;
    for (size_t s = 0; s < l->n_sub; s++, src += 16, dst += 16) {
        unsigned value = (unsigned)(*src >> ((a & 16u) ? 4 : 0)) & 15u;
        *dst = (unsigned char)((*dst & keep) | value << ((b & 16u) ? 4 : 0));
    }
    for (size_t i = 0; i < l->n_factors; i++) {
        l->factors[((size_t)(to / 32) * l->n_factors + i) * 32 + b] =
            l->factors[((size_t)(from / 32) * l->n_factors + i) * 32 + a];
    }
    l->ids[to] = l->ids[from];
}

/* Appends a slot to a list; the pool has room. Returns its place; the code is still to be put. */
RV__FN uint32_t rv__ivf_push(rv__ivf_lists *l, uint32_t list, uint32_t slot)
{
    uint32_t lane = l->size[list] % 32, block = l->tail[list];
    if (lane == 0) {
        if (l->spare != RV__IVF_NONE) {
            block = l->spare;
            l->spare = l->next[block];
        } else {
            block = l->n_blocks++;
        }
        if (l->n_sub) {
            memset(l->codes + (size_t)block * 16 * l->n_sub, 0, 16 * l->n_sub);
            memset(l->factors + (size_t)block * 32 * l->n_factors, 0, 32 * l->n_factors * sizeof(float));
        }
        /* rows behind the last one name no slot but may be read */
        memset(l->ids + (size_t)block * 32, 0, 32 * sizeof(uint32_t));
        l->next[block] = RV__IVF_NONE;
        l->owner[block] = list;
        if (l->head[list] == RV__IVF_NONE) l->head[list] = block;
        else l->next[l->tail[list]] = block;
        l->tail[list] = block;
    }
    l->size[list]++;
    l->ids[(size_t)block * 32 + lane] = slot;
    return block * 32 + lane;
}

/* Takes out the row at a place; *moved is the slot that is there now, or none. */
RV__FN void rv__ivf_pull(rv__ivf_lists *l, uint32_t at, uint32_t *moved)
{
    const uint32_t list = l->owner[at / 32], lane = (l->size[list] - 1) % 32, block = l->tail[list];
    const uint32_t last = block * 32 + lane;
    *moved = RV__IVF_NONE;
    if (last != at) {
        rv__ivf_move(l, last, at);
        *moved = l->ids[at];
    }
    l->ids[last] = 0;
    l->size[list]--;
    if (lane > 0) return;
    if (l->head[list] == block) {
        l->head[list] = l->tail[list] = RV__IVF_NONE;
    } else {
        uint32_t before = l->head[list];
        while (l->next[before] != block) before = l->next[before];
        l->next[before] = RV__IVF_NONE;
        l->tail[list] = before;
    }
    l->next[block] = l->spare;
    l->spare = block;
}

/* ---- codes ---- */

/* Floats of scratch for rv__ivf_code. */
static size_t rv__ivf_code_scratch(const rv__ivf_lists *l)
{
    size_t wide = l->dim > l->quant->padded ? l->dim : l->quant->padded;
    return 2 * rv__round_up(wide, 16) + rv__round_up(l->quant->ops->scratch(l->quant), 16) + 2 * wide;
}

/* Bytes of a code as rv__ivf_code makes it. */
static size_t rv__ivf_code_bytes(const rv__ivf_lists *l)
{
    return l->quant ? rv__round_up(l->quant->code_bytes + 2, 4) : 0;
}

/* Code and factors of a row of a list; x: [dim], at unit length under cosine. */
static void rv__ivf_code(const rv__ivf_lists *l, const float *x, uint32_t list, unsigned char *code,
                         float *factor, float *scratch)
{
    const rv_quant *quant = l->quant;
    const size_t dim = l->dim, wide = rv__round_up(dim > quant->padded ? dim : quant->padded, 16);
    const float *centre = l->means + (size_t)list * dim;
    float *r = scratch, *t = r + wide, *rest = t + wide;
    double square = 0.0, with_centre = 0.0, product = 0.0;
    for (size_t j = 0; j < dim; j++) {
        r[j] = x[j] - centre[j];
        t[j] = centre[j] - l->offset[j];
        square += (double)r[j] * (double)r[j];
        with_centre += (double)r[j] * (double)centre[j];
    }
    if (quant->rotation) {
        double dot, length;
        rv_rotation_apply(quant->rotation, r, r);
        rv_rotation_apply(quant->rotation, t, t);
        rv__rabitq_planes(r, quant->padded, 1, rest, code, &dot, &length);
        factor[1] = dot > 0.0 ? (float)(square / dot) : 0.0f;
        for (size_t j = 0; j < quant->padded; j++) {
            product += (code[j >> 3] >> (j & 7u) & 1) ? (double)t[j] : -(double)t[j];
        }
        product *= 0.5 * (double)factor[1];
    } else {
        float chunk[RV__IVF_CHUNK];
        quant->ops->encode(quant, r, 1, code, rest);
        for (size_t at = 0; at < dim; at += RV__IVF_CHUNK) {
            size_t n = dim - at < RV__IVF_CHUNK ? dim - at : RV__IVF_CHUNK;
            quant->ops->chunk(quant, code, at, n, chunk);
            for (size_t j = 0; j < n; j++) product += (double)chunk[j] * (double)t[at + j];
        }
        /* the error at the end of the code must not be read as a nibble */
        memset(code + quant->payload, 0, quant->code_bytes - quant->payload);
    }
    factor[0] = (float)(l->metric == RV_METRIC_L2 ? square + 2.0 * product : product - with_centre);
}

/* What the code at a place decodes to, centre added; scratch as above. */
static void rv__ivf_decode(const rv__ivf_lists *l, uint32_t at, float *x, float *scratch)
{
    const rv_quant *quant = l->quant;
    const float *centre = l->means + (size_t)l->owner[at / 32] * l->dim;
    unsigned char *code = (unsigned char *)scratch;
    float *r = scratch + rv__round_up(l->n_sub / 2 + quant->code_bytes, 64) / sizeof(float), factor[2];
    rv__ivf_get_code(l, at, code, factor);
    if (quant->rotation) {
        /* signs times f have the right product with the row; their shortest form is 2 / pi of it */
        const float scale = 0.5f * factor[1] * 0.63661977f;
        for (size_t j = 0; j < quant->padded; j++) r[j] = (code[j >> 3] >> (j & 7u) & 1) ? scale : -scale;
        rv_rotation_invert(quant->rotation, r, x);
    } else {
        for (size_t from = 0; from < l->dim; from += RV__IVF_CHUNK) {
            size_t n = l->dim - from < RV__IVF_CHUNK ? l->dim - from : RV__IVF_CHUNK;
            quant->ops->chunk(quant, code, from, n, x + from);
        }
    }
    for (size_t j = 0; j < l->dim; j++) x[j] += centre[j];
}

/* ---- centres ---- */

/* Bytes of the means for a first look at them. */
static rv_status rv__ivf_make_coarse(rv_ctx *ctx, rv__ivf_lists *l)
{
    const size_t dim = l->dim, n = l->n_lists;
    l->offset = (float *)rv__get_zero(&l->alloc, dim, sizeof(float));
    if (!l->offset) return rv__no_memory(ctx, dim * sizeof(float));
    for (size_t i = 0; i < n; i++) rv_axpy_f32(1.0f / (float)n, l->means + i * dim, l->offset, dim);
    if (dim < 64 || n < 64) return RV_OK;
    l->wide = rv__round_up(dim, 64);
    l->coarse = (int8_t *)rv__get_zero(&l->alloc, n, l->wide);
    l->coarse_factor = (float *)rv__get(&l->alloc, 2 * n, sizeof(float));
    if (!l->coarse || !l->coarse_factor) return rv__no_memory(ctx, n * l->wide);
    for (size_t i = 0; i < n; i++) {
        const float *mean = l->means + i * dim;
        float top = 0.0f, scale;
        double square = 0.0;
        for (size_t j = 0; j < dim; j++) {
            float d = mean[j] - l->offset[j];
            top = fabsf(d) > top ? fabsf(d) : top;
            square += (double)d * (double)d;
        }
        scale = top > 1e-30f && top < 1e30f ? top / 127.0f : 1.0f;
        for (size_t j = 0; j < dim; j++) {
            float c = (mean[j] - l->offset[j]) / scale;
            l->coarse[i * l->wide + j] = (int8_t)rv__round_i32(c < -127.0f ? -127.0f : c > 127.0f ? 127.0f : c);
        }
        l->coarse_factor[2 * i] = scale;
        l->coarse_factor[2 * i + 1] = (float)square;
    }
    return RV_OK;
}

#endif /* RV_IVF_C */

/* end */
/* ==== src/base_end.inl ======================================================================== */
/* Takes back the private macros of base.c, last in the implementation. Another part takes back its
   own at its own end. */
#ifdef RV__ASSERT_DEFAULT
#undef RV_ASSERT
#undef RV__ASSERT_DEFAULT
#endif
#undef RV__FETCH_ADD
#undef RV__FN
#undef RV__HUGE_PAGES
#undef RV__INLINE
#undef RV__LIKELY
#undef RV__LINE
#undef RV__LOAD_PTR
#undef RV__PREFETCH
#undef RV__RESTRICT
#undef RV__SEED
#undef RV__STORE_PTR
#undef RV__TEAM_MAX
#undef RV__UNLIKELY

#endif /* RUVECTOR_IMPLEMENTATION */
