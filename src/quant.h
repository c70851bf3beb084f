#ifndef RV_QUANT_H
#define RV_QUANT_H
#include "base.h"
#include "distance.h"

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
   RABITQ     d bits/8, d in steps of 64       one to eight bits after a random rotation: unbiased
              (4 to 7 bits: of 128)            estimates and a bound that needs no assumption on
                                               data

   Estimates are of the metric given in the config: L2, IP or COSINE (rows and queries are then
   scaled to length 1; a zero vector stays zero and is at distance 1 from everything). Every
   estimate comes with a bound on |estimate - true distance|. For RABITQ it holds with a
   probability: the error passes it for about 6 in 100 pairs at epsilon 1.9, for 3 in 1000 at
   epsilon 3. For all other kinds it always holds, up to rounding, for any row, because a code
   carries the distance between its row and what it decodes to (two bytes at its end).

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
/* rows: [n, dim], stride in floats (0 = dim), n >= 1 (PQ: at least 2^bits); evenly spread samples
   of large sets are used. Codes made before are not valid after. NaN, infinity: RV_ERR_ARG. On
   failure the state is as before. Polls. */
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
   which adds a little noise where dim is not a multiple of 64). bound (may be NULL): on |result -
   true distance of the two rows|; it holds always, up to rounding, for every kind, RABITQ too, and
   about doubles the cost. L2, random rows of 768 dimensions, in parts of the distance: F16 1 in
   1000, SQ8 and RABITQ of 8 bits 2 in 100, SQ4 and RABITQ of 4 bits a third, with one bit twice. */
RV_API float rv_quant_pair   (const rv_quant *quant, const void *a, const void *b, float *bound);

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
