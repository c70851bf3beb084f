#ifndef RV_HNSW_C
#define RV_HNSW_C
#include "hnsw.h"
#include "base.c"
#include "simd.c"
#include "topk.c"
#include "distance.c"
#include "image.c"
#include "store.c"
#include "code.c"

/* The graph itself: layers, levels, the walk's distances. Search, build, edits and images are in
   the
   parts that follow.

   Layer 0 holds every row: `degree` = 2 m links each, the list ends at the first RV__NO_SLOT. A
   node
   is the row's slot. The layers above hold a thirty-second of the layer below them, chosen by a
   hash
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
    rv__put(&index->store.alloc, layer->links, (size_t)layer->capacity * index->m,
            sizeof(uint32_t));
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
    if (layer->n) { /* a thirty-second of the rows at most: no need to poll */
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
    if (config->ef_construction &&
        (config->ef_construction < m || config->ef_construction > 4096)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "ef_construction is %z, must be m = %z..4096",
                        (size_t)config->ef_construction, (size_t)m);
    }
    if ((unsigned)config->codes > (unsigned)RV_HNSW_CODES_RABITQ) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "codes is %d, must be 0..5", (int)config->codes);
    }
    if (config->codes > RV_HNSW_CODES_NONE && !rv__hnsw_codes_fit(config->metric, config->type)) {
        return rv__fail(
            ctx, RV_ERR_CONFIG, 0,
            "codes need metric l2, ip or cosine and a type other than u1, got %s over %s",
            rv_metric_name(config->metric), rv_dtype_name(config->type));
    }
    if (config->code_bytes % 64 || config->code_bytes > 4096) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "code_bytes is %z, must be 0 or a multiple of 64, 64..4096",
                        (size_t)config->code_bytes);
    }
    if (config->drop_vectors && (config->codes == RV_HNSW_CODES_NONE ||
                                 !rv__hnsw_codes_fit(config->metric, config->type))) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "drop_vectors is set but there are no codes to keep");
    }
    if (config->capacity >= 0x7FFFFFFFu) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "capacity is %z, must be below 2147483647",
                        config->capacity);
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
        index->wanted = RV_HNSW_CODES_NONE;
        if (rv__hnsw_codes_fit(config->metric, config->type)) {
            if (config->dim > RV__CODE_DIM_MIN) index->wanted = RV_HNSW_CODES_PCA;
            else if (config->drop_vectors) index->wanted = RV_HNSW_CODES_SQ8;
        }
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
    const size_t kept = old * index->degree * sizeof(uint32_t);
    rv_status status;
    uint32_t *links;
    uint64_t *held;
    if (capacity >= 0x7FFFFFFFu) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "%z rows asked for, an index holds below 2147483647",
                        capacity);
    }
    status = rv__store_reserve(ctx, &index->store, capacity);
    if (!status && index->code.kind != RV__CODE_NONE)
        status = rv__code_reserve(ctx, &index->code, capacity);
    if (status || capacity <= old) return status;
    held = (uint64_t *)rv__get_zero(alloc, words, sizeof(uint64_t));
    if (!held) return rv__no_memory(ctx, words * sizeof(uint64_t));
    links = (uint32_t *)rv__get(alloc, capacity * index->degree, sizeof(uint32_t));
    status = links ? rv__copy_polled(ctx, links, index->links, kept)
                   : rv__no_memory(ctx, capacity * index->degree * sizeof(uint32_t));
    if (!status) {
        status = rv__fill_polled(ctx, links + old * index->degree, 0xFF,
                                 (capacity - old) * index->degree * sizeof(uint32_t));
    }
    if (status) {
        rv__put(alloc, links, capacity * index->degree, sizeof(uint32_t));
        rv__put(alloc, held, words, sizeof(uint64_t));
        return status;
    }
    rv__put(alloc, index->links, old * index->degree, sizeof(uint32_t));
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
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                        "a viewed index is read-only; load the image to change it");
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
    unsigned char *at =
        (unsigned char *)memory + rv__round_up(rv__store_query_bytes(&index->store), 64);
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
        unsigned char *at = (unsigned char *)memory +
                            rv__round_up(rv__store_query_bytes(&index->store), 64) +
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

static void rv__hnsw_distances(const rv__hnsw_query *query, const uint32_t *ids, size_t n,
                               float *out)
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

#undef RV__HNSW_SPREAD

#endif /* RV_HNSW_C */
