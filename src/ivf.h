#ifndef RV_IVF_H
#define RV_IVF_H
#include "base.h"
#include "distance.h"
#include "store.h"

/* >>ivf  Inverted file: rows are dealt out to lists by their nearest centre, a search looks into
   the n_probe lists whose centres are nearest to the query. Lists hold row numbers and either
   nothing else (the rows are measured) or codes, scanned 32 at a time in registers, the best of
   which are measured again by their vectors. Choose it over the graph when memory is short, when
   rows come and go often, or for metrics of bits and the caller's own over large sets; the graph is
   faster at high recall. Beside its vector and its key a row takes 8 bytes without codes; with
   RABITQ 16 and a bit per dimension, in steps of 8 bytes; with PQ 12 and half a byte per run, in
   steps of a byte. Lists are made of blocks of 32 rows, the last of each partly empty.

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
   infinity are refused with RV_ERR_ARG and the element index in ctx->where. A distance that
   overflows to NaN counts as larger than infinity.

   Sources: Sivic, Zisserman, Video Google, 2003; Jegou, Douze, Schmid, 2011; Andre et al., 2015 and
   2017; Gao, Long, 2024. */

typedef struct rv_ivf rv_ivf;

typedef enum rv_ivf_codes {
    RV_IVF_CODES_AUTO = 0,  /* RABITQ for L2, IP and cosine, none for the other metrics           */
    RV_IVF_CODES_NONE = 1,  /* lists of rows                                                      */
    RV_IVF_CODES_PQ = 2,    /* product quantization of the residuals, four bits per run: half the
                               bytes, slower to learn, needs more rerank for the same recall      */
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

/* Bytes of a viewed index count what lies in the image; rv_ivf_bytes does not. */
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
RV_API size_t    rv_ivf_bytes  (const rv_ivf *index); /* memory held, see rv_alloc */
RV_API rv_status rv_ivf_reserve(rv_ctx *ctx, rv_ivf *index, size_t capacity);
/* Gives back the room of removed rows and puts the blocks of each list together. */
RV_API rv_status rv_ivf_compact(rv_ctx *ctx, rv_ivf *index);

/* hits: [k], nearest first, equal distances by key; *n_hits <= k. n_probe 0: the default. */
RV_API rv_status rv_ivf_search (rv_ctx *ctx, const rv_ivf *index, const void *query, size_t k,
                                size_t n_probe, rv_hit *hits, size_t *n_hits);
/* options may be NULL. */
RV_API rv_status rv_ivf_search_with(rv_ctx *ctx, const rv_ivf *index, const void *query, size_t k,
                                    const rv_ivf_options *options, rv_hit *hits, size_t *n_hits);
/* n_queries packed queries; hits: [n_queries, k], n_hits: [n_queries]. Parallel over queries. Polls
   between queries, without ctx->parallel also within one. The trace adds up all of them. */
RV_API rv_status rv_ivf_search_batch(rv_ctx *ctx, const rv_ivf *index, const void *queries,
                                     size_t n_queries, size_t k, const rv_ivf_options *options,
                                     rv_hit *hits, size_t *n_hits);
/* Rows with distance <= radius in n_probe lists, all of them measured; nearest first. At most cap
   are written, *n_hits is the number found, also when more than cap. */
RV_API rv_status rv_ivf_range  (rv_ctx *ctx, const rv_ivf *index, const void *query, float radius,
                                const rv_ivf_options *options, rv_hit *hits, size_t cap,
                                size_t *n_hits);

/* Hands out the next nearest row without starting again: first from n_probe lists, then from more
   and more of them, never the same row twice; every row that passes the filter is given in the end.
   The index must not change while an iterator lives. */
typedef struct rv_ivf_iter rv_ivf_iter;
RV_API rv_status rv_ivf_iter_create (rv_ctx *ctx, const rv_ivf *index, const void *query,
                                     const rv_ivf_options *options, rv_ivf_iter **out);
RV_API rv_status rv_ivf_iter_next   (rv_ctx *ctx, rv_ivf_iter *iter, rv_hit *hit); /* or RV_DONE */
RV_API void      rv_ivf_iter_destroy(rv_ivf_iter *iter); /* NULL is fine */

/* One versioned little-endian image, checksummed. save with image NULL only asks for *bytes; with
   cap too small: RV_ERR_ARG and *bytes is what is needed. A custom metric is not in the image: give
   it again to load. view searches the caller's read-only image (64-byte aligned, little-endian
   machine) in place without copying; a viewed index refuses every change with RV_ERR_UNSUPPORTED.
   */
RV_API rv_status rv_ivf_save   (rv_ctx *ctx, const rv_ivf *index, void *image, size_t cap,
                                size_t *bytes);
RV_API rv_status rv_ivf_load   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                void *custom_user, rv_ivf **out);
RV_API rv_status rv_ivf_view   (rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                                void *custom_user, rv_ivf **out);

RV_API void      rv_ivf_stats_get(const rv_ivf *index, rv_ivf_stats *stats);
/* Proves that every row is in exactly one list and all links are in range; RV_ERR_FORMAT with the
   row or block in ctx->where otherwise. */
RV_API rv_status rv_ivf_check  (rv_ctx *ctx, const rv_ivf *index);

#endif /* RV_IVF_H */
