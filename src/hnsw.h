#ifndef RV_HNSW_H
#define RV_HNSW_H
#include "base.h"
#include "distance.h"
#include "store.h"

/* >>hnsw  Hierarchical navigable small world graph: approximate nearest neighbours, memory
   resident. The choice for more than some ten thousand rows; below that rv_flat is as fast and
   exact. Thread class: shared-read (const functions at once from any thread, writers alone).

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

   The walk through the graph reads small codes instead of vectors, and the best of what it finds
   are ranked again by the vectors themselves. Codes are learned from the data: by rv_hnsw_build
   from its rows, otherwise when the index has grown to RV_HNSW_TRAIN rows (until then the walk
   reads vectors).

   Cost, m = 16: search about 20 * ef distances; memory per row: the vector, 128 bytes of links, the
   code (64..256 bytes, or one to eight bits per dimension), 16 bytes of keys unless they are
   0..n-1. Sources: Malkov, Yashunin, 2016 (graph, search, insertion); Dobson et al., 2025, and
   Manohar et al., 2024 (batch construction); Aguerrebere et al., 2023, and Tepper et al., 2024
   (locally scaled and projected codes); Gao, Long, 2024 (one-bit codes). */

#define RV_HNSW_TRAIN 4096u /* rows at which an incrementally grown index learns its codes */

typedef struct rv_hnsw rv_hnsw;

typedef enum rv_hnsw_codes {
    RV_HNSW_CODES_AUTO = 0,   /* PCA for L2, IP and cosine, none for the other metrics            */
    RV_HNSW_CODES_NONE = 1,   /* the walk reads the vectors                                       */
    RV_HNSW_CODES_PCA = 2,    /* bytes of the leading principal components, as many as needed;
                                 where all of them are, as SQ8                                    */
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

/* What a search did, for tuning; of a batch: the sums. Range search leaves the last two at 0. */
typedef struct rv_hnsw_trace {
    uint64_t hops;            /* nodes expanded                                                   */
    uint64_t distances;       /* distances estimated in the walk                                  */
    uint64_t reranked;        /* exact distances                                                  */
    int scanned;              /* queries for which the rows that pass a filter were scanned       */
} rv_hnsw_trace;

/* Zero is the default for every field. */
typedef struct rv_hnsw_options {
    uint32_t ef;              /* beam, 1..2^20; default max(k, 40); raised to k when below        */
    uint32_t rerank;          /* candidates ranked by their vectors; default: what the codes need
                                 for k, at least k                                                */
    const rv_filter *filter;  /* default: none; in a batch accept runs on several threads         */
    rv_hnsw_trace *trace;     /* out; default: not wanted                                         */
} rv_hnsw_options;

/* Bytes of a viewed index count what lies in the image; rv_hnsw_bytes does not. */
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

/* Adds n packed rows at once, all or none; keys NULL: 0..n-1 (then the index must be empty). Into
   an empty index the graph is made as a batch, parallel through ctx; the bits of the result depend
   on the rows, the config, the seed and the instruction set, not on the number of workers. Rows
   for a filled index are inserted one by one; when they are at least a quarter of those it has, the
   graph of all is made again instead, which holds all rows twice for a while (not
   where the vectors were dropped). Cancelled or out of memory: the index is as before. */
RV_API rv_status rv_hnsw_build  (rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys,
                                 const void *vectors, size_t n);
RV_API rv_status rv_hnsw_add    (rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector);
RV_API rv_status rv_hnsw_update (rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector);
RV_API rv_status rv_hnsw_upsert (rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector);
/* The node keeps carrying the walk until enough are removed; then the graph is repaired in one go
   (parallel through ctx) and the room is used again. The new links are made beside the old ones,
   which takes 8 m bytes per row for a while; a repair that is canceled or refused memory changes
   nothing, and the next removal tries again. */
RV_API rv_status rv_hnsw_remove (rv_ctx *ctx, rv_hnsw *index, uint64_t key);
RV_API int       rv_hnsw_contains(const rv_hnsw *index, uint64_t key);
RV_API rv_status rv_hnsw_get    (rv_ctx *ctx, const rv_hnsw *index, uint64_t key, void *out);
RV_API size_t    rv_hnsw_count  (const rv_hnsw *index);
RV_API size_t    rv_hnsw_bytes  (const rv_hnsw *index); /* memory held, see rv_alloc */
RV_API rv_status rv_hnsw_reserve(rv_ctx *ctx, rv_hnsw *index, size_t capacity);
/* Repairs the graph around removed nodes, closes the gaps and gives unused memory back. All is made
   beside the old index; cancelled or out of memory, that is as before, or as after the repair. */
RV_API rv_status rv_hnsw_compact(rv_ctx *ctx, rv_hnsw *index);

/* hits: [k], nearest first, ties by key; *n_hits <= k. ef 0 = max(k, 40). With a filter the same ef
   gives about the same recall: few matches are scanned, otherwise the walk is made longer, and
   min(k, matches) hits are always found. A filter told its selectivity saves the sampling of 256
   words of bits, or of 512 calls of accept. ef beyond 2^20 and selectivity outside 0..1 are
   RV_ERR_ARG. On failure hits and *n_hits are as before. */
RV_API rv_status rv_hnsw_search (rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                 size_t ef, rv_hit *hits, size_t *n_hits);
/* options may be NULL. */
RV_API rv_status rv_hnsw_search_with(rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                     const rv_hnsw_options *options, rv_hit *hits, size_t *n_hits);
/* n_queries packed queries; hits: [n_queries, k], n_hits: [n_queries]. Parallel over queries; the
   results are those of single searches. Polls between queries, without ctx->parallel also within
   one. Canceled: hits and n_hits hold anything. */
RV_API rv_status rv_hnsw_search_batch(rv_ctx *ctx, const rv_hnsw *index, const void *queries,
                                      size_t n_queries, size_t k, const rv_hnsw_options *options,
                                      rv_hit *hits, size_t *n_hits);
/* Rows with distance <= radius found by a walk that goes on while it meets such rows; nearest
   first. At most cap are written, the nearest ones; *n_hits is the number found, also when more
   than cap (hits may be NULL when cap is 0). The walk begins with beam ef. radius: any number but
   NaN; infinity gives every reachable row. Holds a bit per row and eight bytes per row met. On
   failure hits hold anything. */
RV_API rv_status rv_hnsw_range  (rv_ctx *ctx, const rv_hnsw *index, const void *query, float radius,
                                 const rv_hnsw_options *options, rv_hit *hits, size_t cap,
                                 size_t *n_hits);

/* Hands out the next nearest row without starting again: the first ef rows come as from a search,
   later ones in batches of growing beam, never the same row twice; every reachable row that passes
   the filter is given in the end, then RV_DONE. The index must not change while an iterator lives;
   what the filter points to must live as long. Holds a bit per row and eight bytes per row met.
   After a refused allocation or a cancellation the next call goes on where this one stopped.
   Caller-locked. */
typedef struct rv_hnsw_iter rv_hnsw_iter;
RV_API rv_status rv_hnsw_iter_create (rv_ctx *ctx, const rv_hnsw *index, const void *query,
                                      const rv_hnsw_options *options, rv_hnsw_iter **out);
RV_API rv_status rv_hnsw_iter_next   (rv_ctx *ctx, rv_hnsw_iter *iter, rv_hit *hit);
RV_API void      rv_hnsw_iter_destroy(rv_hnsw_iter *iter); /* NULL is fine */

/* One versioned little-endian image, checksummed. save with image NULL only asks for *bytes; with
   cap too small: RV_ERR_ARG and *bytes is what is needed. A custom metric is not in the image: give
   it again to load. view searches the caller's read-only image (64-byte aligned, little-endian
   machine) in place without copying; a viewed index refuses every change with
   RV_ERR_UNSUPPORTED. */
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
