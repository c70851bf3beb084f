#ifndef RV_ATTN_KINDS_C
#define RV_ATTN_KINDS_C
#include "attn.h"
#include "attn_centroid.c"
#include "attn_diffusion.c"
#include "attn_back.c"
#include "attn_gated.c"
#include "attn_geometric_cascade.c"
#include "attn_geometric_mix.c"
#include "attn_geometric_run.c"
#include "attn_heads.c"
#include "attn_info.c"
#include "attn_kinds.h"
#include "attn_linear_delta.c"
#include "attn_linear_run.c"
#include "attn_mla.c"
#include "attn_pair.c"
#include "attn_position.c"
#include "attn_position_cross.c"
#include "attn_position_graph.c"
#include "attn_position_layer.c"
#include "attn_sparse_run.c"
#include "attn_topology.c"
#include "attn_transport.c"
#include "base.c"
#include "gnn.c"
#include "gnn_back.c"
#include "kv_cache.c"

/* One table, a row per mechanism; the functions behind it are the families' own, given a common
   signature by the macros below. */

/* ---- rv_attn under its several names ---- */

static rv_status rv__kind_dot(rv_ctx *ctx, const void *config, const rv_attn_io *io)
{
    return rv_attn(ctx, (const rv_attn_config *)config, io);
}

static rv_status rv__kind_dot_back(rv_ctx *ctx, const void *config, const rv_attn_io *io,
                                   const rv_attn_grad *grad)
{
    return rv_attn_backward(ctx, (const rv_attn_config *)config, io, grad);
}

/* What a name stands for, put into config. */
typedef rv_status (*rv__kind_fix)(rv_ctx *ctx, rv_attn_config *config);

static rv_status rv__kind_as_causal(rv_ctx *ctx, rv_attn_config *config)
{
    (void)ctx;
    if (config->order == RV_ATTN_ANY) config->order = RV_ATTN_CAUSAL;
    return RV_OK;
}

static rv_status rv__kind_as_groups(rv_ctx *ctx, rv_attn_config *config)
{
    (void)ctx;
    if (config->heads == 0) config->heads = 1;
    if (config->kv_heads == 0) config->kv_heads = config->heads % 4 == 0 ? config->heads / 4 : 1;
    return RV_OK;
}

static rv_status rv__kind_as_one(rv_ctx *ctx, rv_attn_config *config)
{
    if (config->kv_heads > 1)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kv_heads is %z, mqa has 1",
                        (size_t)config->kv_heads);
    config->kv_heads = 1;
    return RV_OK;
}

static rv_status rv__kind_as_capped(rv_ctx *ctx, rv_attn_config *config)
{
    if (config->sinks || config->softcap > 0.0f) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0, "softcap_sinks needs softcap or sinks");
}

static rv_status rv__kind_fixed(rv_ctx *ctx, const void *config, const rv_attn_io *io,
                                const rv_attn_grad *grad, rv__kind_fix fix)
{
    rv_attn_config to = *(const rv_attn_config *)config;
    rv_status status = fix(ctx, &to);
    if (status) return status;
    return grad ? rv_attn_backward(ctx, &to, io, grad) : rv_attn(ctx, &to, io);
}

#define RV__KIND_FIXED(name)                                                                       \
    static rv_status rv__kind_##name(rv_ctx *ctx, const void *config, const rv_attn_io *io)        \
    {                                                                                              \
        return rv__kind_fixed(ctx, config, io, NULL, rv__kind_as_##name);                          \
    }                                                                                              \
    static rv_status rv__kind_##name##_back(rv_ctx *ctx, const void *config, const rv_attn_io *io, \
                                            const rv_attn_grad *grad)                              \
    {                                                                                              \
        const rv_attn_grad none = {NULL, NULL, NULL, NULL, NULL, NULL};                            \
        return rv__kind_fixed(ctx, config, io, grad ? grad : &none, rv__kind_as_##name);           \
    }

RV__KIND_FIXED(causal)
RV__KIND_FIXED(groups)
RV__KIND_FIXED(one)
RV__KIND_FIXED(capped)

/* ---- ring ---- */

static rv_status rv__ring_check(rv_ctx *ctx, const rv_attn_ring_config *config,
                                const rv_attn_io *io)
{
    const rv_attn_config *b = &config->base;
    const char *field = b->windowed             ? "windowed"
                        : b->slopes             ? "slopes"
                        : b->raw                ? "raw"
                        : b->past               ? "past"
                        : b->dropout > 0.0f     ? "dropout"
                        : io->mask              ? "mask"
                        : io->weights           ? "weights"
                                                : NULL;
    if (field)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s has no meaning for ring attention", field);
    if ((unsigned)b->order > (unsigned)RV_ATTN_CAUSAL)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "order is %z, ring attention allows 0..1",
                        (size_t)b->order);
    if (config->shards > io->n_k)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "shards is %z, allowed: 1..n_k (%z)", config->shards,
                        io->n_k);
    return RV_OK;
}

/* Keys first .. last - 1 for the queries that see one of them, into out and lse of its own. */
static rv_status rv__ring_shard(rv_ctx *ctx, rv_attn_config config, rv_attn_io io, size_t first,
                                size_t last, size_t *row)
{
    const size_t n_k = io.n_k, elem = rv_dtype_bytes(io.type, 1);
    const size_t past = n_k > io.n_q ? n_k - io.n_q : 0;
    const size_t late = io.n_q > n_k ? io.n_q - n_k : 0; /* queries that see nothing */
    *row = 0;
    if (config.order == RV_ATTN_CAUSAL) {
        *row = first > past ? first - past + late : late;
        if (*row > io.n_q) *row = io.n_q;
        config.order = RV_ATTN_CAUSAL_FIRST;
        config.past = *row - late + past - first;
    }
    io.k = (const unsigned char *)io.k + first * io.k_stride * elem;
    io.v = (const unsigned char *)io.v + first * io.v_stride * elem;
    io.q += *row * io.q_stride;
    io.n_q -= *row;
    io.n_k = last - first;
    return rv_attn(ctx, &config, &io);
}

/* Joins a shard's rows, which begin with query `row`, to what there is; lse is [heads, n_q]. */
static void rv__ring_join(const rv_attn_io *io, size_t heads, size_t row, size_t n, float *lse,
                          const float *out, const float *part_lse)
{
    const size_t dim_v = io->dim_v;
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < n; i++) {
            float *to = io->out + (row + i) * io->out_stride + h * dim_v;
            rv_attn_merge(to, lse + h * io->n_q + row + i, out + (i * heads + h) * dim_v,
                          part_lse + h * n + i, 1, dim_v);
        }
    }
}

static rv_status rv__ring_steps(rv_ctx *ctx, const rv_attn_ring_config *config,
                                const rv_attn_io *io, size_t heads, size_t shards, float *lse,
                                float *space)
{
    const float *sinks = config->base.sinks;
    rv_attn_config base = config->base;
    rv_attn_io part = *io;
    base.sinks = NULL;
    part.out = space;
    part.out_stride = 0;
    part.lse = space + io->n_q * heads * io->dim_v;
    for (size_t s = 0; s < shards; s++) {
        const size_t first = io->n_k * s / shards, last = io->n_k * (s + 1) / shards;
        size_t row;
        rv_status status = rv__ring_shard(ctx, base, part, first, last, &row);
        if (status) return status;
        if (s == 0) {
            for (size_t i = 0; i < io->n_q; i++)
                memset(io->out + i * io->out_stride, 0, heads * io->dim_v * sizeof(float));
            for (size_t i = 0; i < heads * io->n_q; i++) /* sinks are a part without values */
                lse[i] = sinks ? sinks[i / io->n_q] : -rv__infinity();
        }
        rv__ring_join(io, heads, row, io->n_q - row, lse, part.out, part.lse);
    }
    return RV_OK;
}

RV_API rv_status rv_attn_ring(rv_ctx *ctx, const rv_attn_ring_config *config, const rv_attn_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_attn_ring_config settled;
    rv_attn_io to;
    float *space, *lse;
    size_t heads, kv_heads, shards, n_space, n_lse;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config or io is NULL");
    if (!io->q || !io->k || !io->v || !io->out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "q, k, v and out must not be NULL");
    status = rv__ring_check(ctx, config, io);
    if (status) return status;
    settled = *config;
    to = *io;
    heads = config->base.heads ? config->base.heads : 1;
    kv_heads = config->base.kv_heads ? config->base.kv_heads : heads;
    shards = config->shards ? config->shards : io->n_k < 4 ? io->n_k : 4;
    if (shards < 2 || io->n_q == 0) return rv_attn(ctx, &config->base, io);
    if (to.dim_v == 0) to.dim_v = to.dim;
    if (to.q_stride == 0) to.q_stride = heads * to.dim;
    if (to.k_stride == 0) to.k_stride = kv_heads * to.dim;
    if (to.v_stride == 0) to.v_stride = kv_heads * to.dim_v;
    if (to.out_stride == 0) to.out_stride = heads * to.dim_v;
    n_lse = rv__mul(heads, io->n_q);
    n_space = rv__mul(n_lse, rv__add(to.dim_v, 1));
    space = (float *)rv__get(&alloc, n_space, sizeof(float));
    lse = (float *)rv__get(&alloc, n_lse, sizeof(float));
    if (!space || !lse) status = rv__no_memory(ctx, rv__mul(n_space, sizeof(float)));
    else status = rv__ring_steps(ctx, &settled, &to, heads, shards, lse, space);
    if (!status && io->lse) memcpy(io->lse, lse, n_lse * sizeof(float));
    rv__put(&alloc, lse, n_lse, sizeof(float));
    rv__put(&alloc, space, n_space, sizeof(float));
    return status ? status : rv__ok(ctx);
}

/* ---- the cache ---- */

RV_API rv_status rv_attn_cache(rv_ctx *ctx, const rv_attn_cache_config *config,
                               const rv_attn_io *io)
{
    rv_attn_cache_config to;
    rv_attn_io read;
    rv_kv_cache *cache = NULL;
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config or io is NULL");
    if (!io->k || !io->v) return rv__fail(ctx, RV_ERR_ARG, 0, "k or v is NULL");
    if (io->type != RV_DTYPE_F32)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "type is %s, the cache is filled from f32",
                        rv_dtype_name(io->type));
    to = *config;
    if (to.base.heads == 0) to.base.heads = 1;
    if (to.base.kv_heads == 0) to.base.kv_heads = to.base.heads;
    if (to.base.order == RV_ATTN_ANY) to.base.order = RV_ATTN_CAUSAL;
    to.cache.kv_heads = to.base.kv_heads;
    to.cache.dim = io->dim;
    to.cache.dim_v = io->dim_v;
    status = rv_kv_cache_create(ctx, &to.cache, &cache);
    if (status) return status;
    status = rv_kv_cache_append(ctx, cache, (const float *)io->k, (const float *)io->v, io->n_k,
                                io->k_stride, io->v_stride);
    read = *io;
    read.k = read.v = NULL;
    read.k_stride = read.v_stride = 0;
    if (!status) status = rv_kv_cache_attend(ctx, cache, &to.base, &read);
    rv_kv_cache_destroy(cache);
    return status;
}

static rv_status rv__kind_quantized(rv_ctx *ctx, const void *config, const rv_attn_io *io)
{
    rv_attn_cache_config to = *(const rv_attn_cache_config *)config;
    if (to.cache.bits == 0) to.cache.bits = 8;
    return rv_attn_cache(ctx, &to, io);
}

/* ---- graph layers ---- */

static rv_status rv__kind_graph(rv_ctx *ctx, const void *config, const rv_attn_io *io,
                                rv_gnn_kind kind, rv_gnn_config *layer, rv_gnn_io *to)
{
    const rv_attn_gnn_config *c = (const rv_attn_gnn_config *)config;
    rv_attn_config zeros;
    memset(&zeros, 0, sizeof zeros);
    if (!c || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config or io is NULL");
    if (memcmp(&c->base, &zeros, sizeof zeros) != 0)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "base has no meaning for a graph layer");
    if (io->v || io->mask || io->lse || io->q_stride || io->k_stride || io->v_stride ||
        io->out_stride || io->type != RV_DTYPE_F32)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "v, mask, lse, strides and type have no meaning for a graph layer");
    if (!c->graph || c->graph->rows != io->n_q || c->graph->cols != io->n_k)
        return rv__fail(ctx, RV_ERR_DIM, 0, "graph must be [n_q, n_k], here [%z, %z]", io->n_q,
                        io->n_k);
    *layer = c->layer;
    layer->kind = kind;
    memset(to, 0, sizeof *to);
    to->graph = c->graph;
    to->dim = io->dim;
    to->edge_dim = c->edge_dim;
    to->x = (const float *)io->k;
    to->x_dst = (const void *)io->q == io->k ? NULL : io->q;
    to->edges = c->edges;
    to->params = c->params;
    to->out = io->out;
    return RV_OK;
}

/* Weights as a full matrix. */
static void rv__kind_spread(const rv_gnn_io *layer, size_t heads, const float *weights,
                            const float *loops, const rv_attn_io *io)
{
    const rv_csr *g = layer->graph;
    const size_t nnz = g->start[g->rows], n = io->n_q * io->n_k;
    memset(io->weights, 0, heads * n * sizeof(float));
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < io->n_q; i++) {
            float *row = io->weights + h * n + i * io->n_k;
            for (uint32_t e = g->start[i]; e < g->start[i + 1]; e++)
                row[g->index[e]] += weights[h * nnz + e];
            if (i < io->n_k) row[i] += loops[h * io->n_q + i];
        }
    }
}

static rv_status rv__kind_gnn(rv_ctx *ctx, const void *config, const rv_attn_io *io,
                              rv_gnn_kind kind)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_gnn_config layer;
    rv_gnn_io to;
    float *weights = NULL, *loops = NULL;
    size_t heads, n = 0, n_loops = 0;
    rv_status status = rv__kind_graph(ctx, config, io, kind, &layer, &to);
    if (status) return status;
    heads = layer.heads ? layer.heads : 4;
    if (io->weights && to.graph->start) {
        n = rv__mul(heads, to.graph->start[to.graph->rows]);
        n_loops = rv__mul(heads, io->n_q);
        to.weights = weights = (float *)rv__get(&alloc, n, sizeof(float));
        to.loops = loops = (float *)rv__get(&alloc, n_loops, sizeof(float));
        if (!weights || !loops) status = rv__no_memory(ctx, rv__mul(n, sizeof(float)));
    }
    if (!status) status = rv_gnn_run(ctx, &layer, &to);
    if (!status && weights) rv__kind_spread(&to, heads, weights, loops, io);
    rv__put(&alloc, loops, n_loops, sizeof(float));
    rv__put(&alloc, weights, n, sizeof(float));
    return status;
}

static rv_status rv__kind_gnn_back(rv_ctx *ctx, const void *config, const rv_attn_io *io,
                                   const rv_attn_grad *grad, rv_gnn_kind kind)
{
    rv_gnn_config layer;
    rv_gnn_io to;
    rv_gnn_grad slopes;
    rv_status status = rv__kind_graph(ctx, config, io, kind, &layer, &to);
    if (status) return status;
    if (!grad || !grad->d_out) return rv__fail(ctx, RV_ERR_ARG, 0, "grad or d_out is NULL");
    memset(&slopes, 0, sizeof slopes);
    slopes.d_out = grad->d_out;
    slopes.d_x = grad->d_k;
    if (to.x_dst) slopes.d_x_dst = grad->d_q;
    slopes.d_params = grad->d_params;
    return rv_gnn_backward(ctx, &layer, &to, &slopes);
}

static size_t rv__kind_gnn_params(const void *config, const rv_attn_io *io, rv_gnn_kind kind)
{
    rv_gnn_config layer;
    rv_gnn_io to;
    return rv__kind_graph(NULL, config, io, kind, &layer, &to) ? SIZE_MAX
                                                                : rv_gnn_params(&layer, &to);
}

static rv_status rv__kind_gnn_init(rv_ctx *ctx, const void *config, const rv_attn_io *io,
                                   float *params, rv_gnn_kind kind)
{
    rv_gnn_config layer;
    rv_gnn_io to;
    rv_status status = rv__kind_graph(ctx, config, io, kind, &layer, &to);
    return status ? status : rv_gnn_init(ctx, &layer, &to, params);
}

#define RV__KIND_GNN(name, kind)                                                                   \
    static rv_status rv__kind_##name(rv_ctx *ctx, const void *config, const rv_attn_io *io)        \
    {                                                                                              \
        return rv__kind_gnn(ctx, config, io, kind);                                                \
    }                                                                                              \
    static rv_status rv__kind_##name##_back(rv_ctx *ctx, const void *config, const rv_attn_io *io, \
                                            const rv_attn_grad *grad)                              \
    {                                                                                              \
        return rv__kind_gnn_back(ctx, config, io, grad, kind);                                     \
    }                                                                                              \
    static size_t rv__kind_##name##_params(const void *config, const rv_attn_io *io)               \
    {                                                                                              \
        return rv__kind_gnn_params(config, io, kind);                                              \
    }                                                                                              \
    static rv_status rv__kind_##name##_init(rv_ctx *ctx, const void *config, const rv_attn_io *io, \
                                            float *params)                                         \
    {                                                                                              \
        return rv__kind_gnn_init(ctx, config, io, params, kind);                                   \
    }

RV__KIND_GNN(gat, RV_GNN_GAT)
RV__KIND_GNN(gatv2, RV_GNN_GATV2)
RV__KIND_GNN(edge, RV_GNN_EDGE_GAT)
RV__KIND_GNN(transformer, RV_GNN_TRANSFORMER)

/* ---- the families' functions behind one signature ---- */

#define RV__KIND_RUN(name, type)                                                                   \
    static rv_status rv__kind_##name(rv_ctx *ctx, const void *config, const rv_attn_io *io)        \
    {                                                                                              \
        return rv_attn_##name(ctx, (const type *)config, io);                                      \
    }
#define RV__KIND_BOTH(name, type)                                                                  \
    RV__KIND_RUN(name, type)                                                                       \
    static rv_status rv__kind_##name##_back(rv_ctx *ctx, const void *config, const rv_attn_io *io, \
                                            const rv_attn_grad *grad)                              \
    {                                                                                              \
        return rv_attn_##name##_backward(ctx, (const type *)config, io, grad);                     \
    }
#define RV__KIND_ALL(name, type)                                                                   \
    RV__KIND_BOTH(name, type)                                                                      \
    static size_t rv__kind_##name##_params(const void *config, const rv_attn_io *io)               \
    {                                                                                              \
        return rv_attn_##name##_params((const type *)config, io);                                  \
    }                                                                                              \
    static rv_status rv__kind_##name##_init(rv_ctx *ctx, const void *config, const rv_attn_io *io, \
                                            float *params)                                         \
    {                                                                                              \
        return rv_attn_##name##_init(ctx, (const type *)config, io, params);                       \
    }

RV__KIND_ALL(heads, rv_attn_heads_config)
RV__KIND_ALL(mla, rv_attn_mla_config)
RV__KIND_ALL(gated, rv_attn_gated_config)
RV__KIND_ALL(additive, rv_attn_additive_config)
RV__KIND_ALL(cosine, rv_attn_cosine_config)
RV__KIND_RUN(ring, rv_attn_ring_config)
RV__KIND_RUN(cache, rv_attn_cache_config)
RV__KIND_BOTH(linear_elu, rv_attn_linear_config)
RV__KIND_BOTH(linear_relu, rv_attn_linear_config)
RV__KIND_BOTH(performer, rv_attn_linear_config)
RV__KIND_BOTH(rff, rv_attn_linear_config)
RV__KIND_BOTH(gated_delta_linear, rv_attn_delta_config)
RV__KIND_BOTH(sliding, rv_attn_sparse_config)
RV__KIND_BOTH(local_global, rv_attn_sparse_config)
RV__KIND_BOTH(sparse_strided, rv_attn_sparse_config)
RV__KIND_BOTH(sparse_fixed, rv_attn_sparse_config)
RV__KIND_BOTH(bigbird, rv_attn_sparse_config)
RV__KIND_BOTH(block_sparse, rv_attn_sparse_config)
RV__KIND_BOTH(sparse_topk, rv_attn_sparse_config)
RV__KIND_BOTH(custom_mask, rv_attn_sparse_config)
RV__KIND_BOTH(neighborhood, rv_attn_sparse_config)
RV__KIND_BOTH(hierarchical, rv_attn_sparse_config)
RV__KIND_BOTH(rope, rv_attn_rope_config)
RV__KIND_BOTH(graph_rope, rv_attn_graph_rope_config)
RV__KIND_BOTH(alibi, rv_attn_alibi_config)
RV__KIND_ALL(t5, rv_attn_t5_config)
RV__KIND_ALL(layer, rv_attn_layer_config)
RV__KIND_ALL(structural, rv_attn_structural_config)
RV__KIND_ALL(cross, rv_attn_cross_config)
RV__KIND_ALL(dual_space, rv_attn_dual_space_config)
RV__KIND_BOTH(poincare, rv_attn_poincare_config)
RV__KIND_BOTH(lorentz, rv_attn_lorentz_config)
RV__KIND_BOTH(lorentz_cascade, rv_attn_lorentz_cascade_config)
RV__KIND_BOTH(spherical, rv_attn_spherical_config)
RV__KIND_BOTH(mixed, rv_attn_mixed_config)
RV__KIND_BOTH(fused, rv_attn_fused_config)
RV__KIND_BOTH(manifold, rv_attn_manifold_config)
RV__KIND_BOTH(sliced, rv_attn_sliced_config)
RV__KIND_BOTH(centroid, rv_attn_centroid_config)
RV__KIND_BOTH(topology_gated, rv_attn_topology_config)
RV__KIND_BOTH(fisher, rv_attn_config)
RV__KIND_BOTH(information_bottleneck, rv_attn_bottleneck_config)
RV__KIND_BOTH(diffusion, rv_attn_diffusion_config)

/* ---- the table ---- */

#define RV__SUMS RV_ATTN_KIND_SUMS
#define RV__MEAN (RV_ATTN_KIND_SUMS | RV_ATTN_KIND_MEAN)
#define RV__SEEN (RV_ATTN_KIND_MASK | RV_ATTN_KIND_CAUSAL)
#define RV__SELF RV_ATTN_KIND_SELF
#define RV__NEEDS RV_ATTN_KIND_NEEDS

/* Without parameters, with them, and without slopes. */
#define RV__ROW(number, name, fn, type, flags, needs, cost, source)                                \
    {number, name,  cost, source, #type,         sizeof(type),         flags, needs,               \
     0,      NULL,  NULL, rv__kind_##fn, rv__kind_##fn##_back, NULL}
#define RV__ROW_PARAMS(number, name, fn, type, flags, needs, cost, source)                         \
    {number, name, cost, source, #type, sizeof(type), flags, needs, offsetof(type, params),        \
     rv__kind_##fn##_params, rv__kind_##fn##_init, rv__kind_##fn, rv__kind_##fn##_back, NULL}
#define RV__ROW_ONLY(number, name, fn, type, flags, cost, source, why)                             \
    {number, name, cost, source, #type, sizeof(type), flags, NULL, 0, NULL, NULL, rv__kind_##fn,   \
     NULL, why}

static const rv_attn_kind rv__attn_table[] = {
    RV__ROW(1, "scaled_dot", dot, rv_attn_config, RV__MEAN | RV__SEEN, NULL, "n^2 d",
            "Vaswani et al., 2017"),
    RV__ROW_PARAMS(2, "multi_head", heads, rv_attn_heads_config, RV__MEAN | RV__SEEN, NULL,
                   "n w^2 + n^2 w", "Vaswani et al., 2017"),
    RV__ROW(3, "causal", causal, rv_attn_config, RV__MEAN | RV__SEEN, NULL, "n^2 d / 2",
            "Vaswani et al., 2017"),
    RV__ROW(4, "cross", dot, rv_attn_config, RV__MEAN | RV__SEEN, NULL, "n_q n_k d",
            "Vaswani et al., 2017"),
    RV__ROW(5, "gqa", groups, rv_attn_config, RV__MEAN | RV__SEEN, NULL, "n^2 d",
            "Ainslie et al., 2023"),
    RV__ROW(6, "mqa", one, rv_attn_config, RV__MEAN | RV__SEEN, NULL, "n^2 d", "Shazeer, 2019"),
    RV__ROW_PARAMS(7, "mla", mla, rv_attn_mla_config, RV__SUMS | RV__SEEN | RV__NEEDS, "params",
                   "n w latent + n^2 d", "DeepSeek-AI, 2024"),
    RV__ROW_PARAMS(8, "additive", additive, rv_attn_additive_config,
                   RV__MEAN | RV__SEEN | RV__NEEDS, "params", "n^2 dim_a", "Bahdanau et al., 2015"),
    RV__ROW_PARAMS(9, "cosine", cosine, rv_attn_cosine_config, RV__MEAN | RV__SEEN, NULL, "n^2 d",
                   "Liu et al., 2022"),
    RV__ROW(10, "softcap_sinks", capped, rv_attn_config, RV__SEEN | RV__NEEDS, "softcap or sinks",
            "n^2 d", "Gemma Team, 2024; Xiao et al., 2024"),
    RV__ROW(11, "flash_v2", dot, rv_attn_config, RV__MEAN | RV__SEEN, NULL, "n^2 d, memory n",
            "Dao et al., 2022; Dao, 2024"),
    RV__ROW_ONLY(12, "ring", ring, rv_attn_ring_config, RV_ATTN_KIND_MEAN | RV_ATTN_KIND_CAUSAL,
                 "n^2 d", "Liu et al., 2024", "its result is rv_attn's, and so are its slopes"),
    RV__ROW_ONLY(13, "kv_cache", cache, rv_attn_cache_config, RV__MEAN | RV__SEEN, "n d per token",
                 "Kwon et al., 2023", "for decoding; its result is that of causal"),
    RV__ROW_ONLY(14, "quantized_kv", quantized, rv_attn_cache_config, RV__MEAN | RV__SEEN,
                 "n d per token", "Liu et al., 2024 (KIVI)", "for decoding; rounding has no slope"),
    RV__ROW(15, "linear_elu", linear_elu, rv_attn_linear_config, RV_ATTN_KIND_CAUSAL, NULL,
            "n d^2", "Katharopoulos et al., 2020"),
    RV__ROW(16, "linear_relu", linear_relu, rv_attn_linear_config, RV__MEAN | RV_ATTN_KIND_CAUSAL,
            NULL, "n m d", "Choromanski et al., 2021"),
    RV__ROW(17, "performer", performer, rv_attn_linear_config, RV__MEAN | RV_ATTN_KIND_CAUSAL,
            NULL, "n m d", "Choromanski et al., 2021"),
    RV__ROW(18, "rff", rff, rv_attn_linear_config, RV__MEAN | RV_ATTN_KIND_CAUSAL, NULL, "n m d",
            "Rahimi, Recht, 2007; Peng et al., 2021"),
    RV__ROW(19, "gated_delta_linear", gated_delta_linear, rv_attn_delta_config, RV__SELF, NULL,
            "n d^2", "Schlag et al., 2021; Yang et al., 2024"),
    RV__ROW(20, "sliding", sliding, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL, "n w d",
            "Beltagy et al., 2020"),
    RV__ROW(21, "local_global", local_global, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL,
            "n (w + g) d", "Beltagy et al., 2020"),
    RV__ROW(22, "sparse_strided", sparse_strided, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL,
            "n (l + n / l) d", "Child et al., 2019"),
    RV__ROW(23, "sparse_fixed", sparse_fixed, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL,
            "n (l + c n / l) d", "Child et al., 2019"),
    RV__ROW(24, "bigbird", bigbird, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL, "n block d",
            "Zaheer et al., 2020"),
    RV__ROW(25, "block_sparse", block_sparse, rv_attn_sparse_config,
            RV__MEAN | RV__SEEN | RV__NEEDS, "blocks", "entries d", "Child et al., 2019"),
    RV__ROW(26, "sparse_topk", sparse_topk, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL,
            "n^2 d", "Zhao et al., 2019"),
    RV__ROW(27, "custom_mask", custom_mask, rv_attn_sparse_config, RV__MEAN | RV__SEEN | RV__NEEDS,
            "graph", "entries d", "Child et al., 2019"),
    RV__ROW(28, "neighborhood", neighborhood, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL,
            "entries d, n^2 d without a graph", "Hassani et al., 2023"),
    RV__ROW(29, "hierarchical", hierarchical, rv_attn_sparse_config, RV__MEAN | RV__SEEN, NULL,
            "n^2 d", "Yang et al., 2016"),
    RV__ROW_PARAMS(30, "gat", gat, rv_attn_gnn_config, RV__SUMS | RV__NEEDS, "graph, params",
                   "n d^2 + entries d", "Velickovic et al., 2018"),
    RV__ROW_PARAMS(31, "gatv2", gatv2, rv_attn_gnn_config, RV__SUMS | RV__NEEDS, "graph, params",
                   "n d^2 + entries d", "Brody et al., 2022"),
    RV__ROW_PARAMS(32, "edge_featured", edge, rv_attn_gnn_config, RV__SUMS | RV__NEEDS,
                   "graph, edges, params", "n d^2 + entries (d + d_e)", "Velickovic et al., 2018"),
    RV__ROW_PARAMS(33, "graph_transformer", transformer, rv_attn_gnn_config, RV__SUMS | RV__NEEDS,
                   "graph, params", "n d^2 + entries d", "Shi et al., 2021"),
    RV__ROW(34, "rope", rope, rv_attn_rope_config, RV__MEAN | RV__SEEN, NULL, "n^2 d",
            "Su et al., 2021"),
    RV__ROW(35, "graph_rope", graph_rope, rv_attn_graph_rope_config,
            RV__MEAN | RV__SEEN | RV__NEEDS, "distance", "n^2 d", "Su et al., 2021"),
    RV__ROW(36, "alibi", alibi, rv_attn_alibi_config, RV__MEAN | RV__SEEN, NULL, "n^2 d",
            "Press et al., 2022"),
    RV__ROW_PARAMS(37, "t5_bias", t5, rv_attn_t5_config, RV__MEAN | RV__SEEN | RV__NEEDS, "params",
                   "n^2 d", "Raffel et al., 2020"),
    RV__ROW_PARAMS(38, "hnsw_layer", layer, rv_attn_layer_config, RV__MEAN | RV__SEEN | RV__NEEDS,
                   "q_layer, k_layer", "n^2 d", "Malkov, Yashunin, 2016 (the layers)"),
    RV__ROW_PARAMS(39, "structural", structural, rv_attn_structural_config,
                   RV__MEAN | RV__SEEN | RV__SELF | RV__NEEDS, "graph", "n^2 d + n entries",
                   "Ying et al., 2021"),
    RV__ROW_PARAMS(40, "cross_space", cross, rv_attn_cross_config, RV__SELF | RV__NEEDS, "graph",
                   "(entries + n k) d + n^2 d", "Velickovic et al., 2018; Vaswani et al., 2017"),
    RV__ROW_PARAMS(41, "dual_space", dual_space, rv_attn_dual_space_config, RV__MEAN | RV__SEEN,
                   NULL, "n^2 d", "Gulcehre et al., 2019"),
    RV__ROW(42, "poincare", poincare, rv_attn_poincare_config, RV__SUMS | RV__SEEN, NULL, "n^2 d",
            "Ganea et al., 2018; Gulcehre et al., 2019"),
    RV__ROW(43, "lorentz", lorentz, rv_attn_lorentz_config, RV__SUMS | RV__SEEN, NULL, "n^2 d",
            "Law et al., 2019; Chen et al., 2022"),
    RV__ROW(44, "lorentz_cascade", lorentz_cascade, rv_attn_lorentz_cascade_config,
            RV__SUMS | RV__SEEN, NULL, "n^2 d", "Law et al., 2019; Chen et al., 2022"),
    RV__ROW(45, "spherical", spherical, rv_attn_spherical_config, RV__SUMS | RV__SEEN, NULL,
            "n^2 d", "Gu et al., 2019"),
    RV__ROW(46, "mixed_curvature", mixed, rv_attn_mixed_config, RV__MEAN | RV__SEEN, NULL, "n^2 d",
            "Gu et al., 2019"),
    RV__ROW(47, "mixed_curvature_fused", fused, rv_attn_fused_config, RV__MEAN | RV__SEEN, NULL,
            "n^2 d", "Gu et al., 2019"),
    RV__ROW(48, "manifold", manifold, rv_attn_manifold_config, RV__SUMS | RV__SEEN, NULL, "n^2 d",
            "Bachmann et al., 2020"),
    {52, "dynamic_heads", "n w^2 + n^2 w", "Voita et al., 2019; Michel et al., 2019",
     "rv_attn_gated_config", sizeof(rv_attn_gated_config),
     RV_ATTN_KIND_MASK | RV_ATTN_KIND_CAUSAL | RV__NEEDS, "params",
     offsetof(rv_attn_gated_config, heads) + offsetof(rv_attn_heads_config, params),
     rv__kind_gated_params, rv__kind_gated_init, rv__kind_gated, rv__kind_gated_back, NULL},
    RV__ROW(53, "sliced_wasserstein", sliced, rv_attn_sliced_config, RV__MEAN | RV__SEEN, NULL,
            "n^2 d + n C P m", "Rabin et al., 2011; Kolouri et al., 2019"),
    RV__ROW(54, "centroid_ot", centroid, rv_attn_centroid_config, RV__MEAN, NULL,
            "n M d iterations", "Cuturi, 2013; Sander et al., 2022"),
    RV__ROW(55, "topology_gated", topology_gated, rv_attn_topology_config,
            RV__MEAN | RV__SEEN | RV__NEEDS, "gate", "n^2 d", "Edelsbrunner et al., 2002"),
    RV__ROW(56, "fisher", fisher, rv_attn_config, RV__MEAN | RV__SEEN, NULL, "n^2 d",
            "Rao, 1945; Amari, 1998"),
    RV__ROW(57, "information_bottleneck", information_bottleneck, rv_attn_bottleneck_config,
            RV__MEAN | RV__SEEN, NULL, "n^2 d", "Tishby et al., 1999; Alemi et al., 2017"),
    RV__ROW(58, "diffusion", diffusion, rv_attn_diffusion_config, RV__MEAN | RV_ATTN_KIND_MASK,
            NULL, "n^2 d", "Kondor, Lafferty, 2002; Chamberlain et al., 2021"),
};

RV_API const rv_attn_kind *rv_attn_kind_at(size_t i)
{
    return i < sizeof rv__attn_table / sizeof *rv__attn_table ? rv__attn_table + i : NULL;
}

RV_API const rv_attn_kind *rv_attn_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof rv__attn_table / sizeof *rv__attn_table; i++)
        if (strcmp(rv__attn_table[i].name, name) == 0) return rv__attn_table + i;
    return NULL;
}

#undef RV__KIND_FIXED
#undef RV__KIND_GNN
#undef RV__KIND_RUN
#undef RV__KIND_BOTH
#undef RV__KIND_ALL
#undef RV__SUMS
#undef RV__MEAN
#undef RV__SEEN
#undef RV__SELF
#undef RV__NEEDS
#undef RV__ROW
#undef RV__ROW_PARAMS
#undef RV__ROW_ONLY

#endif /* RV_ATTN_KINDS_C */
