#ifndef RV_ATTN_TOPOLOGY_C
#define RV_ATTN_TOPOLOGY_C
#include "attn_topology.h"
#include "base.c"
#include "simd.c"
#include "topk.h"
#include "attn.c"
#include "attn_back.c"
#include "topology.c"

/* A first pass over the engine's tiles finds, per query and head, the keys it keeps; then the
   engine runs with a mask that shows these only. What the caller's masks hide has a logit of
   -infinity and is never kept. A query with a NaN among its logits keeps that key, so that it
   shows. */

#define RV__GATED_TILE 64u /* keys of the engine's tile */

typedef struct rv__gated {
    rv__attn a;
    size_t width;
    uint32_t *kept;   /* [heads, n_q][width], ascending                                           */
    uint32_t *count;  /* [heads, n_q]                                                             */
    float *scratch;   /* per lane: query, tile, logits, the best                                  */
    uint32_t *index;  /* per lane: [width]                                                        */
    size_t lane_floats;
    rv_attn_mask mask;
    rv_attn_io io;
} rv__gated;

static int rv__gated_visible(void *user, size_t head, size_t i, size_t j)
{
    const rv__gated *g = (const rv__gated *)user;
    const size_t row = head * g->a.io.n_q + i;
    const uint32_t *kept = g->kept + row * g->width;
    size_t begin = 0, end = g->count[row];
    while (begin < end) {
        const size_t middle = (begin + end) / 2;
        if (kept[middle] == j) return 1;
        if (kept[middle] < j) begin = middle + 1;
        else end = middle;
    }
    return 0;
}

static void rv__gated_sort(uint32_t *x, size_t n)
{
    static const size_t gaps[] = {1750, 701, 301, 132, 57, 23, 10, 4, 1}; /* Ciura, 2001 */
    for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
        for (size_t i = gaps[g]; i < n; i++) {
            const uint32_t moved = x[i];
            size_t j = i;
            for (; j >= gaps[g] && x[j - gaps[g]] > moved; j -= gaps[g]) x[j] = x[j - gaps[g]];
            x[j] = moved;
        }
    }
}

/* Rows of heads of keys, as the engine counts them. */
static void rv__gated_choose(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__gated *g = (const rv__gated *)arg;
    const rv__attn *a = &g->a;
    const size_t n = a->io.n_k;
    float *q = g->scratch + lane * g->lane_floats, *tile = q + a->io.dim;
    float *logits = tile + RV__GATED_TILE, *best = logits + n;
    uint32_t *index = g->index + lane * g->width;
    for (size_t unit = begin; unit < end; unit++) {
        const size_t kv = unit / a->rows, row = unit % a->rows;
        size_t i, head = rv__attn_head(a, kv, row, &i), count = 0, taken, nan = n;
        const size_t at = head * a->io.n_q + i;
        rv__attn_queries(a, kv, row, 1, q);
        for (size_t j = 0; j < n; j += RV__GATED_TILE) {
            const size_t keys = n - j < RV__GATED_TILE ? n - j : RV__GATED_TILE;
            rv__attn_tile(a, lane, kv, row, 1, j, q, tile);
            for (size_t x = 0; x < keys; x++) {
                logits[j + x] = -tile[x];
                if (rv__is_nan(tile[x])) nan = j + x;
            }
        }
        if (nan < n) {
            g->kept[at * g->width] = (uint32_t)nan;
            g->count[at] = 1;
            continue;
        }
        taken = rv_topk_f32(logits, n, g->width, index, best);
        while (count < taken && best[count] <= 3.4e38f) count++;
        rv__gated_sort(index, count);
        memcpy(g->kept + at * g->width, index, count * sizeof(uint32_t));
        g->count[at] = (uint32_t)count;
    }
}

static rv_status rv__gated_open(rv_ctx *ctx, const rv_attn_topology_config *config,
                                const rv_attn_io *io, rv__gated *g)
{
    rv_status status;
    memset(g, 0, sizeof *g);
    if (!config || !config->gate || config->gate->config.base == 0)
        return rv__fail(ctx, RV_ERR_ARG, 0, "gate must point to one that rv_gate_init has filled");
    status = rv__attn_open(ctx, &config->base, io, NULL, &g->a);
    if (!status) g->width = rv_gate_width(config->gate, io->n_k);
    return status;
}

/* The kept keys, and io with a mask of them. */
static rv_status rv__gated_prepare(rv_ctx *ctx, rv__gated *g, const rv_attn_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx), rows = rv__mul(g->a.config.heads, io->n_q);
    const double cost = (double)io->n_k * (double)(io->dim + 24);
    g->lane_floats = rv__round_up(io->dim + RV__GATED_TILE + io->n_k + g->width, 16);
    g->kept = (uint32_t *)rv__get(&alloc, rv__mul(rows, g->width), sizeof(uint32_t));
    g->count = (uint32_t *)rv__get(&alloc, rows, sizeof(uint32_t));
    g->scratch = (float *)rv__get(&alloc, rv__mul(lanes, g->lane_floats), sizeof(float));
    g->index = (uint32_t *)rv__get(&alloc, lanes * g->width, sizeof(uint32_t));
    if (!g->kept || !g->count || !g->scratch || !g->index)
        return rv__no_memory(ctx, rv__mul(rv__mul(rows, g->width), sizeof(uint32_t)));
    if (io->mask) g->mask = *io->mask;
    g->mask.visible = rv__gated_visible;
    g->mask.user = g;
    g->io = *io;
    g->io.mask = &g->mask;
    return rv__parallel_for(ctx, rows, 1, 1 + (size_t)(4000000.0 / cost), rv__gated_choose, g);
}

static void rv__gated_drop(rv_ctx *ctx, const rv__gated *g)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx), rows = rv__mul(g->a.config.heads, g->a.io.n_q);
    rv__put(&alloc, g->index, lanes * g->width, sizeof(uint32_t));
    rv__put(&alloc, g->scratch, rv__mul(lanes, g->lane_floats), sizeof(float));
    rv__put(&alloc, g->count, rows, sizeof(uint32_t));
    rv__put(&alloc, g->kept, rv__mul(rows, g->width), sizeof(uint32_t));
}

RV_API rv_status rv_attn_topology_gated(rv_ctx *ctx, const rv_attn_topology_config *config,
                                        const rv_attn_io *io)
{
    rv__gated g;
    rv_status status = rv__gated_open(ctx, config, io, &g);
    if (status) return status;
    if (g.width >= io->n_k || io->n_q == 0) return rv_attn(ctx, &config->base, io);
    status = rv__gated_prepare(ctx, &g, io);
    if (!status) status = rv_attn(ctx, &config->base, &g.io);
    rv__gated_drop(ctx, &g);
    return status;
}

RV_API rv_status rv_attn_topology_gated_backward(rv_ctx *ctx,
                                                 const rv_attn_topology_config *config,
                                                 const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv__gated g;
    rv_attn_io with;
    float unused;
    rv_status status;
    if (!io || !grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, grad and grad->d_out must not be NULL");
    with = *io;
    with.out = &unused; /* checked, not written */
    status = rv__gated_open(ctx, config, &with, &g);
    if (status) return status;
    if (g.width >= io->n_k || io->n_q == 0)
        return rv_attn_backward(ctx, &config->base, &with, grad);
    status = rv__gated_prepare(ctx, &g, &with);
    if (!status) status = rv_attn_backward(ctx, &config->base, &g.io, grad);
    rv__gated_drop(ctx, &g);
    return status;
}

#undef RV__GATED_TILE

#endif /* RV_ATTN_TOPOLOGY_C */
