#ifndef RV_NEGATIVES_H
#define RV_NEGATIVES_H
#include "base.h"

/* >>negatives  Which rows an anchor should be pushed away from: k distinct candidates, never a
   positive, chosen by a strategy. Similarity is the cosine, distance 1 - cosine; a vector shorter
   than 1e-8 is at distance 1 from everything. What is random follows from ctx->seed: give every
   anchor and step a seed of its own. Cost O(n dim) where vectors are looked at, else O(n).
   Allocates about 9 n + 4 k bytes. Thread class: pure.

       rv_negatives_config config = {0};
       rv_negatives_io io = {0};
       config.kind = RV_NEGATIVES_SEMI_HARD;
       io.anchor = a;  io.candidates = rows;  io.n = 1000;  io.dim = 64;
       io.positives = own;  io.n_positives = 2;
       rv_negatives_select(ctx, &config, &io, 20, ids, &n_ids);                                 */

typedef enum rv_negatives_kind {
    RV_NEGATIVES_RANDOM = 0,    /* uniform                                                    */
    RV_NEGATIVES_HARD = 1,      /* the most similar, most similar first                       */
    RV_NEGATIVES_SEMI_HARD = 2, /* any with d_p < d < d_p + margin, at random, d_p the distance to
                                   the farthest positive; when those are too few the ones beyond,
                                   nearest first, then those within d_p, farthest first        */
    RV_NEGATIVES_DISTANCE_WEIGHTED = 3, /* drawn with P in proportion to min(1 / q(cutoff),
                                   1 / q(x)), x = |u - v| of the unit vectors, q(x) =
                                   x^(dim - 2) (1 - x^2 / 4)^((dim - 3) / 2): all distances alike */
    RV_NEGATIVES_DEGREE = 4,    /* degrees nearest to the anchor's, by their ratio; equals at
                                   random                                                     */
    RV_NEGATIVES_MIXED = 5      /* hard_share of them HARD, first, the others RANDOM           */
} rv_negatives_kind;

/* One row per kind. */
typedef struct rv_negatives_info {
    const char *name;   /* "random", ...                                                      */
    int vectors;        /* whether it looks at anchor and candidates                          */
    const char *source; /* paper                                                              */
} rv_negatives_info;
RV_API const rv_negatives_info *rv_negatives_kind_at(size_t i); /* NULL past the end */

typedef struct rv_negatives_config {
    rv_negatives_kind kind; /* default RV_NEGATIVES_RANDOM                                    */
    float margin;           /* SEMI_HARD: above 0 to 2; default 0.1                           */
    float cutoff;           /* DISTANCE_WEIGHTED: above 0 and below 1.414; default 0.5         */
    float hard_share;       /* MIXED: above 0 to 1; default 0.5; rounded up to whole rows      */
} rv_negatives_config;

typedef struct rv_negatives_io {
    const float *anchor;       /* [dim]; with candidates may be NULL for RANDOM and DEGREE    */
    const float *candidates;   /* [n, dim]                                                    */
    size_t n, dim;             /* n below 2^32; dim 1 or more, DISTANCE_WEIGHTED 2 or more    */
    const uint32_t *positives; /* [n_positives] rows never chosen, each below n; list the anchor's
                                  own row here if it is a candidate; duplicates do not matter  */
    size_t n_positives;        /* SEMI_HARD: 1 or more                                        */
    const uint32_t *degrees;   /* DEGREE: [n]                                                 */
    uint32_t anchor_degree;    /* DEGREE                                                      */
} rv_negatives_io;

/* ids: [k]. *n_ids: min(k, candidates that are not positives). config may be NULL. RV_ERR_CONFIG:
   a field of config; RV_ERR_ARG: NULL, dim, a positive of n or more (its index in ctx->where), NaN
   or infinity in a vector. Nothing is written on failure. Polls. */
RV_API rv_status rv_negatives_select(rv_ctx *ctx, const rv_negatives_config *config,
                                     const rv_negatives_io *io, size_t k, uint32_t *ids,
                                     size_t *n_ids);

/* All rows of a batch but the anchor and (unless keep_positive) its positive, ascending. ids:
   [batch - 1]; *n_ids: batch - 2, or batch - 1 with keep_positive or positive = anchor. RV_ERR_ARG:
   anchor or positive not below batch, batch of 2^32 or more. */
RV_API rv_status rv_negatives_in_batch(rv_ctx *ctx, size_t batch, size_t anchor, size_t positive,
                                       int keep_positive, uint32_t *ids, size_t *n_ids);

#endif /* RV_NEGATIVES_H */
