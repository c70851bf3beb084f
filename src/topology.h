#ifndef RV_TOPOLOGY_H
#define RV_TOPOLOGY_H
#include "base.h"

/* >>topology  How well a window of tokens hangs together: coherence of its graph of nearest
   neighbours, the lengths at which its parts join (persistence of dimension 0), and a gate that
   turns coherence into a mode with hysteresis. Rows must be finite: NaN or infinity is RV_ERR_ARG
   with the row in ctx->where. On failure nothing has been written. Thread class: pure; a gate is
   caller-locked.

       rv_gate gate;
       rv_gate_init(ctx, &gate, NULL);
       for (size_t step = 0; step < 100; step++) {
           rv_gate_update(ctx, &gate, keys, 0, n, 64);
           if (gate.mode == RV_GATE_FREEZE) break;
       }

   Sources: Edelsbrunner, Letscher, Zomorodian, Topological persistence and simplification, 2002;
   Prim, Shortest connection networks, 1957 (the tree whose edges are those lengths). The measures
   of coherence and their mean are a heuristic of the ruvector project, no published method. */

/* Every token i has its k most similar others by cosine as neighbours (ties: the lower index; a
   zero row has cosine 0 with all), an edge each. All in 0 .. 1, 1 is most coherent; a window of one
   token, or none, has 1 throughout. */
typedef struct rv_coherence {
    double boundary;     /* part of the edges with |i - j| <= n / 4                               */
    double cut;          /* 1 - part of the edges that cross the middle: i < n / 2 <= j or back   */
    double disagreement; /* 1 - mean over tokens of the variance of the cosines to its neighbours */
    double variance;     /* mean over tokens of 1 - their standard deviation                      */
    double score;        /* the mean of the four                                                  */
} rv_coherence;

/* x: [n, dim] with `stride` elements from row to row, 0: dim. n at most 65536, dim 1 to 65535. k is
   capped at n - 1; 0: 8. Cost O(n^2 dim); allocates 4 n dim + 24 n bytes and 4 n + 8 k per lane.
   Polls. */
RV_API rv_status rv_coherence_measure(rv_ctx *ctx, const float *x, size_t stride, size_t n,
                                      size_t dim, size_t k, rv_coherence *out);

/* Lengths, ascending, of the n - 1 edges of the minimum spanning tree by Euclidean distance: where
   the components of growing balls around the points join, so the deaths of persistence in dimension
   0 (all births are 0; the one that lives forever is left out). x as above. lengths: [n - 1], NULL:
   not wanted; total: their sum, NULL: not wanted; n of 0 or 1 gives none, total 0. Lengths are
   accurate to sqrt(dim) / 2^24 and must lie in 1e-18 .. 1e18 or be 0. Cost O(n^2 dim / 2);
   allocates 24 n bytes. Polls. */
RV_API rv_status rv_persistence_h0(rv_ctx *ctx, const float *x, size_t stride, size_t n, size_t dim,
                                   float *lengths, double *total);

/* ---- the gate ---- */

typedef enum rv_gate_mode {
    RV_GATE_STABLE = 0,   /* full attention                                                       */
    RV_GATE_CAUTIOUS = 1, /* only the best keys of each query                                     */
    RV_GATE_FREEZE = 2    /* the best key of each query; caches and weights should not be written */
} rv_gate_mode;

typedef struct rv_gate_config {
    float stable;      /* STABLE from this score on; default 0.8                                  */
    float cautious;    /* CAUTIOUS below this score is narrow; default 0.5                        */
    float freeze;      /* FREEZE up to this score; default 0.3                                    */
    float hysteresis;  /* what a score must be beyond a threshold to change sides, above 0;
                          default 0.05. 0 < freeze < cautious < stable < 1, and their bands
                          threshold -+ hysteresis must not overlap                                */
    float width;       /* CAUTIOUS: part of `base` that a query keeps, above 0 to 1; default 0.5  */
    float sparsity;    /* narrow CAUTIOUS: what divides that, 1 to 1e6; default 2                 */
    uint32_t base;     /* keys, 1..4096; default 64                                               */
    uint32_t period;   /* rv_gate_update measures at every period-th call; default 4              */
    uint32_t neighbours; /* k of the graph; default 8                                             */
} rv_gate_config;

/* The caller's; rv_gate_init fills it. Read it, copy it, leave the fields to the functions. */
typedef struct rv_gate {
    rv_gate_config config;  /* with the defaults filled in                                        */
    rv_gate_mode mode;
    int narrow;             /* CAUTIOUS below `cautious`                                          */
    uint64_t calls, scores; /* of rv_gate_update, of scores fed                                   */
    rv_coherence coherence; /* as last measured                                                   */
} rv_gate;

/* STABLE until the first score. RV_ERR_CONFIG names field, value and range. */
RV_API rv_status rv_gate_init(rv_ctx *ctx, rv_gate *gate, const rv_gate_config *config);
/* One score, 0 to 1, else RV_ERR_ARG. The first one is taken as it is: STABLE for score >= stable,
   FREEZE for score <= freeze. Later a threshold is crossed downwards below threshold - hysteresis,
   upwards from threshold + hysteresis on (freeze: at, and above); inside a band nothing changes.
   One score may cross several: STABLE to FREEZE and back are direct. */
RV_API rv_status rv_gate_feed(rv_ctx *ctx, rv_gate *gate, double score);
/* Measures the window at calls 0, period, 2 period ... and feeds the score; other calls only count,
   without looking at x. A failed call does not count. */
RV_API rv_status rv_gate_update(rv_ctx *ctx, rv_gate *gate, const float *x, size_t stride, size_t n,
                                size_t dim);
/* Keys that a query keeps of n: n when STABLE, 1 when FREEZE; 0 only for n = 0. */
RV_API size_t rv_gate_width(const rv_gate *gate, size_t n);

#endif /* RV_TOPOLOGY_H */
