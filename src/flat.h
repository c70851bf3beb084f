#ifndef RV_FLAT_H
#define RV_FLAT_H
#include "base.h"
#include "distance.h"
#include "store.h"

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

/* Bytes of a viewed index count what lies in the image; rv_flat_bytes does not. */
typedef struct rv_flat_stats {
    size_t count;         /* rows that can be found                                           */
    size_t removed;       /* removed rows whose room is free                                  */
    size_t capacity;      /* rows there is room for                                           */
    size_t row_bytes;     /* of one stored vector, padding included                           */
    size_t vector_bytes, key_bytes, total_bytes;
} rv_flat_stats;

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
RV_API size_t    rv_flat_bytes  (const rv_flat *index); /* memory held, see rv_alloc */
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

/* Hands out the next nearest row without starting again: all rows that pass the filter, in the
   order of rv_flat_search, then RV_DONE. Rows are found by a scan for the next 64, then for four
   times as many and so on, up to an eighth of all rows or 1024, and held for 16 bytes each; so m
   rows cost about log4(m / 64) searches. query is copied. The index must not change while an
   iterator lives; what the filter points to must live as long. After a refused allocation or a
   cancellation the next call goes on where this one stopped. Caller-locked. Parallel through
   ctx. */
typedef struct rv_flat_iter rv_flat_iter;
RV_API rv_status rv_flat_iter_create (rv_ctx *ctx, const rv_flat *index, const void *query,
                                      const rv_filter *filter, rv_flat_iter **out);
RV_API rv_status rv_flat_iter_next   (rv_ctx *ctx, rv_flat_iter *iter, rv_hit *hit);
RV_API void      rv_flat_iter_destroy(rv_flat_iter *iter); /* NULL is fine */

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

RV_API void      rv_flat_stats_get(const rv_flat *index, rv_flat_stats *stats);
/* Proves that every row is found by its key and no other key is, that as many rows are marked as
   removed as were, and that rows and lengths are finite. RV_ERR_FORMAT otherwise, with the row in
   ctx->where, or the number of rows when it is no single one. */
RV_API rv_status rv_flat_check  (rv_ctx *ctx, const rv_flat *index);

#endif /* RV_FLAT_H */
