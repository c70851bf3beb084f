#ifndef RV_ATTN_KINDS_H
#define RV_ATTN_KINDS_H
#include "attn.h"
#include "gnn.h"
#include "kv_cache.h"

/* >>attn_kinds  Every attention mechanism by its name, behind one shape: for programs that let
   their users choose, and for tests and tables that go through all of them. The mechanisms' own
   functions take the same io and the config named here. Thread class: pure.

       const rv_attn_kind *kind = rv_attn_find("poincare");
       void *config = calloc(1, kind->config_bytes);           zeros are the defaults
       status = kind->run(ctx, config, &io);                                                      */

enum {
    RV_ATTN_KIND_SUMS = 1,    /* a row of weights sums to 1 (or to 0 where nothing is seen)       */
    RV_ATTN_KIND_MEAN = 2,    /* out is the mean of values by these weights                       */
    RV_ATTN_KIND_MASK = 4,    /* io->mask                                                         */
    RV_ATTN_KIND_CAUSAL = 8,  /* base.order                                                       */
    RV_ATTN_KIND_SELF = 16,   /* n_q must be n_k                                                  */
    RV_ATTN_KIND_NEEDS = 32   /* zeros are not enough: `needs` says what config must bring        */
};

typedef struct rv_attn_kind {
    uint32_t number;        /* in the list of mechanisms                                          */
    const char *name;       /* "scaled_dot", ...                                                  */
    const char *cost;       /* operations, up to a factor                                         */
    const char *source;     /* paper                                                              */
    const char *config;     /* name of its config struct, which begins with rv_attn_config        */
    size_t config_bytes;
    uint32_t flags;
    const char *needs;      /* required fields of config, NULL: none                              */
    size_t params_at;       /* place of `const float *params` in config, 0: no parameters         */
    size_t (*params)(const void *config, const rv_attn_io *io); /* how many; NULL: none           */
    rv_status (*init)(rv_ctx *ctx, const void *config, const rv_attn_io *io, float *params);
    rv_status (*run)(rv_ctx *ctx, const void *config, const rv_attn_io *io);
    rv_status (*backward)(rv_ctx *ctx, const void *config, const rv_attn_io *io,
                          const rv_attn_grad *grad); /* NULL: none, for this reason:              */
    const char *no_backward;
} rv_attn_kind;

RV_API const rv_attn_kind *rv_attn_kind_at(size_t i);         /* NULL past the end              */
RV_API const rv_attn_kind *rv_attn_find(const char *name);    /* NULL: no such mechanism        */

/* ---- mechanisms that are rv_attn in a certain order ---- */

/* Ring attention: keys in shards, one after another, joined by their denominators (rv_attn_merge),
   as machines that hold a shard each would do. The result is that of rv_attn up to rounding. base:
   windowed, slopes, softcap's and sinks' meaning as there; windowed and slopes must be 0, order
   RV_ATTN_ANY or RV_ATTN_CAUSAL; io->mask and weights NULL. Source: Liu, Zaharia, Abbeel, 2024. */
typedef struct rv_attn_ring_config {
    rv_attn_config base;
    size_t shards;            /* 1..n_k; default 4, or n_k                                        */
} rv_attn_ring_config;
RV_API rv_status rv_attn_ring(rv_ctx *ctx, const rv_attn_ring_config *config,
                              const rv_attn_io *io);

/* Attention by way of a cache that is filled with the keys first, for comparison; k and v are F32.
   cache: its kv_heads, dim and dim_v are taken from base and io. base.order: default
   RV_ATTN_CAUSAL. See >>kv_cache. */
typedef struct rv_attn_cache_config {
    rv_attn_config base;
    rv_kv_cache_config cache;
} rv_attn_cache_config;
RV_API rv_status rv_attn_cache(rv_ctx *ctx, const rv_attn_cache_config *config,
                               const rv_attn_io *io);

/* A layer of >>gnn: io->k: [n_k, dim] sources, io->q: [n_q, dim] destinations, or k itself; v must
   be NULL; out: [n_q, width], out_stride 0; weights: [heads, n_q, n_k], self loops on the diagonal.
   base must be zeros. */
typedef struct rv_attn_gnn_config {
    rv_attn_config base;
    rv_gnn_config layer;      /* kind is set by the mechanism                                     */
    const rv_csr *graph;      /* [n_q, n_k]                                                       */
    const float *edges;       /* [entries, edge_dim]; default: none                               */
    size_t edge_dim;
    const float *params;      /* rv_gnn_params of them                                            */
} rv_attn_gnn_config;

#endif /* RV_ATTN_KINDS_H */
