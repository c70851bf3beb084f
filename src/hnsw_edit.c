#ifndef RV_HNSW_EDIT_C
#define RV_HNSW_EDIT_C
#include "hnsw.h"
#include "base.c"
#include "store.c"
#include "code.c"
#include "hnsw.c"
#include "hnsw_search.c"
#include "hnsw_build.c"

/* Changes one row at a time: insertion by search, removal by marking, repair in one go.

   An insertion does everything that can fail first (room, scratch, the searches) and then only
   writes, so a failure or a cancellation leaves no trace. A removed row's node is held: it carries
   the walk, is not returned, and its slot is not taken again. When an eighth of all nodes is held,
   repair gives every node with links to held ones the links of those instead, thinned as usual, and
   frees the slots; this is the consolidation of FreshDiskANN.

   Sources: Malkov, Yashunin, 2016 (insertion); Singh et al., FreshDiskANN, 2021 (consolidation). */

/* ---- one layer as the linker sees it ---- */

typedef struct rv__linker {
    rv__build b;                    /* distances between nodes; b.slot is the layer's             */
    rv__build_lane lane;
    uint32_t *links;
    uint32_t own;                   /* links the newcomer chose, the first of its list            */
    uint64_t fixed[4];              /* ... a bit for each that must stay                          */
} rv__linker;

/* Settings for thinning on an index; b->slot stays NULL (layer 0). The scratch is the caller's. */
static void rv__linker_init(rv__linker *linker, rv_ctx *ctx, rv_hnsw *index)
{
    rv__build *b = &linker->b;
    memset(linker, 0, sizeof *linker);
    b->ctx = ctx;
    b->index = index;
    b->code = index->code.bits == 8 ? &index->code : NULL;
    b->isa = ctx ? ctx->isa : RV_ISA_BEST;
    b->kernels = rv__kernels_for(b->isa);
    b->alloc = index->store.alloc;
    b->degree = index->degree;
    rv__build_metric(b, index->store.metric);
    b->lanes = 1;
    b->lane_bytes = rv__build_lane_bytes(b);
}

static void rv__linker_layer(rv__linker *linker, rv_hnsw *index, uint32_t l)
{
    linker->b.slot = l ? index->layer[l].slot : NULL;
    linker->b.degree = l ? index->m : index->degree;
    linker->links = l ? index->layer[l].links : index->links;
}

/* Puts a key into a sorted list unless the node is there already. */
static void rv__pool_add(uint64_t *pool, uint32_t *n, uint32_t width, uint64_t key)
{
    uint32_t at = *n;
    if (at == width && key >= pool[at - 1]) return;
    for (uint32_t i = 0; i < at; i++) {
        if ((uint32_t)pool[i] == (uint32_t)key) return;
    }
    if (at == width) at--;
    while (at > 0 && pool[at - 1] > key) at--;
    if (*n < width) ++*n;
    memmove(pool + at + 1, pool + at, (*n - 1 - at) * sizeof *pool);
    pool[at] = key;
}

/* Sorted keys of the distances from node to others[n]; those equal to node are left out. */
static size_t rv__linker_keys(rv__linker *linker, uint32_t node, const uint32_t *others, size_t n,
                              uint64_t *keys)
{
    rv__build *b = &linker->b;
    uint32_t count = 0;
    rv__build_distances(b, &linker->lane, node, others, n, linker->lane.line);
    for (size_t i = 0; i < n; i++) {
        if (others[i] != node)
            rv__pool_add(keys, &count, RV__THIN_MAX, rv__hnsw_key(linker->lane.line[i], others[i]));
    }
    return count;
}

static void rv__linker_fix(rv__linker *linker, uint32_t position)
{
    linker->fixed[position / 64] |= (uint64_t)1 << (position % 64);
}

/* Whether one of the first n nodes of keys links to `to`. If that is the newcomer, its link has to
   stay from now on. */
static int rv__linker_witness(rv__linker *linker, const uint64_t *keys, size_t n, uint32_t to,
                              uint32_t newcomer)
{
    const uint32_t degree = linker->b.degree;
    for (size_t i = 0; i < n; i++) {
        const uint32_t node = rv__hnsw_node(keys[i]);
        const uint32_t *links = linker->links + (size_t)node * degree;
        for (uint32_t j = 0; j < degree && links[j] != RV__NO_SLOT; j++) {
            if (links[j] != to) continue;
            if (node == newcomer) rv__linker_fix(linker, j);
            return 1;
        }
    }
    return 0;
}

/* Makes the newcomer link to a node that another list gives up for it: beside its own links while
   there is room, then in the place of the farthest of them that nothing depends on. Returns 0 if
   there is none. */
static int rv__linker_hand(rv__linker *linker, uint32_t newcomer, uint32_t node)
{
    const uint32_t degree = linker->b.degree;
    uint32_t *links = linker->links + (size_t)newcomer * degree, at = 0;
    while (at < degree && links[at] != RV__NO_SLOT && links[at] != node) at++;
    if (at == degree) {
        at = linker->own;
        while (at > 0 && (linker->fixed[(at - 1) / 64] >> ((at - 1) % 64) & 1u)) at--;
        if (at-- == 0) return 0;
    }
    links[at] = node;
    rv__linker_fix(linker, at);
    return 1;
}

/* Adds the link from -> to, the newcomer. A full list is thinned with the newcomer in it, but a
   node is let go only if one that stays links to it, so that what was reachable stays so. When
   nothing can be let go, the last node is handed on to the newcomer; when that cannot take it,
   there is no link: then other lists have handed theirs on, and the newcomer is in those. */
static void rv__linker_add(rv__linker *linker, uint32_t from, uint32_t to)
{
    const uint32_t degree = linker->b.degree;
    uint32_t *links = linker->links + (size_t)from * degree, n = 0;
    uint32_t others[257];
    uint64_t sorted[257], *keys = linker->lane.keys;
    size_t kept, count;
    while (n < degree && links[n] != RV__NO_SLOT) {
        if (links[n] == to) return;
        n++;
    }
    if (n < degree) {
        links[n] = to;
        return;
    }
    memcpy(others, links, degree * sizeof(uint32_t));
    others[degree] = to;
    count = rv__linker_keys(linker, from, others, degree + 1u, keys);
    memcpy(sorted, keys, count * sizeof *keys);
    kept = rv__build_thin(&linker->b, &linker->lane, keys, count, degree);
    n = 0; /* others[n]: those not thinned that nothing else would lead to, and the newcomer */
    for (size_t i = 0, at = 0; i < count; i++) {
        const uint32_t node = rv__hnsw_node(sorted[i]);
        if (at < kept && keys[at] == sorted[i]) {
            at++; /* thinned lists keep their order */
        } else if (node == to || !rv__linker_witness(linker, keys, kept, node, to)) {
            others[n++] = node;
        }
    }
    if (kept + n > degree) {
        uint32_t last = others[--n];
        if (last == to) last = n ? others[--n] : rv__hnsw_node(keys[--kept]);
        if (!rv__linker_hand(linker, to, last)) return;
        if (kept + n < degree) others[n++] = to;
    }
    for (uint32_t i = 0; i < degree; i++) {
        links[i] = i < kept       ? rv__hnsw_node(keys[i])
                   : i < kept + n ? others[i - kept]
                                  : RV__NO_SLOT;
    }
}

/* Links a new node both ways to the best of sorted candidates. */
static void rv__linker_join(rv__linker *linker, uint32_t node, uint64_t *keys, size_t n,
                            size_t keep)
{
    const uint32_t degree = linker->b.degree;
    uint32_t *links = linker->links + (size_t)node * degree;
    uint32_t chosen[256];
    n = rv__build_thin(&linker->b, &linker->lane, keys, n, keep);
    linker->own = (uint32_t)n;
    memset(linker->fixed, 0, sizeof linker->fixed);
    for (uint32_t i = 0; i < degree; i++) {
        if (i < n) chosen[i] = rv__hnsw_node(keys[i]);
        links[i] = i < n ? chosen[i] : RV__NO_SLOT;
    }
    for (size_t i = 0; i < n; i++) rv__linker_add(linker, chosen[i], node);
}

static void rv__hnsw_tidy(rv_ctx *ctx, rv_hnsw *index);

/* ---- insertion ---- */

typedef struct rv__insert {
    rv_hnsw *index;
    rv__hnsw_query query;
    rv__walk walk;
    rv__linker linker;
    uint64_t *found[RV__HNSW_LEVELS]; /* candidates of each layer, sorted                         */
    size_t n_found[RV__HNSW_LEVELS];
    unsigned char *memory;
    size_t bytes;
} rv__insert;

#define RV__INSERT_UPPER 32u        /* beam on the layers above 0                                 */

/* Finds the candidates of a node of the given level on all its layers. */
static rv_status rv__insert_search(rv_ctx *ctx, rv__insert *insert, uint32_t level)
{
    rv_hnsw *index = insert->index;
    uint64_t beam[RV__INSERT_UPPER];
    float distance;
    uint32_t slot;
    size_t n = 1;
    rv_status status;
    memset(insert->n_found, 0, sizeof insert->n_found);
    if (index->n_levels == 0) return RV_OK;
    slot = rv__hnsw_entry_slot(index);
    rv__hnsw_distances(&insert->query, &slot, 1, &distance);
    beam[0] = rv__hnsw_key(distance, index->entry);
    for (uint32_t l = index->n_levels - 1; l > 0; l--) {
        memcpy(insert->found[l], beam, n * sizeof *beam);
        n = rv__descend_layer(&insert->query, &insert->walk, l, RV__INSERT_UPPER,
                              insert->found[l], n);
        insert->n_found[l] = l > level ? 0 : n;
        rv__descend_step(&index->layer[l], insert->found[l], n, beam);
    }
    insert->walk.n_starts = n < RV__WALK_STARTS ? n : RV__WALK_STARTS;
    memcpy(insert->walk.start, beam, insert->walk.n_starts * sizeof *beam);
    rv__walk_start(&insert->walk, rv__hnsw_node(beam[0]), rv__hnsw_key_distance(beam[0]));
    status = rv__walk_run(ctx, &insert->query, &insert->walk);
    insert->found[0] = insert->walk.beam;
    insert->n_found[0] = insert->walk.n;
    return status;
}

static rv_status rv__insert_open(rv_ctx *ctx, rv__insert *insert, rv_hnsw *index)
{
    size_t query_bytes = rv__hnsw_query_bytes(index), ef = index->ef_construction;
    size_t walk_bytes = rv__round_up(rv__walk_bytes(index, ef, rv__walk_seen(ef)), 64);
    size_t upper_bytes = (RV__HNSW_LEVELS - 1) * (RV__INSERT_UPPER + 1) * sizeof(uint64_t);
    unsigned char *at;
    insert->index = index;
    rv__linker_init(&insert->linker, ctx, index);
    upper_bytes = rv__round_up(upper_bytes, 64);
    insert->bytes = query_bytes + walk_bytes + upper_bytes + insert->linker.b.lane_bytes;
    insert->memory = (unsigned char *)rv__get(&index->store.alloc, insert->bytes, 1);
    if (!insert->memory) return rv__no_memory(ctx, insert->bytes);
    at = insert->memory + query_bytes;
    rv__hnsw_query_init(&insert->query, ctx, index);
    rv__walk_init(&insert->walk, index, ef, rv__walk_seen(ef), at);
    at += walk_bytes;
    for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) {
        insert->found[l] = (uint64_t *)(void *)at + (l - 1) * (RV__INSERT_UPPER + 1);
    }
    insert->linker.b.scratch = at + upper_bytes;
    rv__build_lane_at(&insert->linker.b, 0, &insert->linker.lane);
    return RV_OK;
}

static void rv__insert_close(rv__insert *insert)
{
    rv__put(&insert->index->store.alloc, insert->memory, insert->bytes, 1);
}

/* Writes the node's links on all its layers. Cannot fail. A node above all others becomes the
   entry, and gets a link to the old one, so that from it everything is reached as well; where its
   links are all needed to lead to what others gave up for them, it stays below the top instead. */
static void rv__insert_link(rv__insert *insert, uint32_t slot, uint32_t level)
{
    rv_hnsw *index = insert->index;
    uint32_t below = slot, top = index->n_levels, entry = top ? rv__hnsw_entry_slot(index) : slot;
    for (uint32_t l = 0; l <= level; l++) {
        uint32_t node = slot;
        if (l > 0) {
            rv__hnsw_layer *layer = &index->layer[l];
            node = layer->n++;
            layer->slot[node] = slot;
            layer->below[node] = below;
            memset(layer->links + (size_t)node * index->m, 0xFF, index->m * sizeof(uint32_t));
            below = node;
        }
        rv__linker_layer(&insert->linker, index, l);
        rv__linker_join(&insert->linker, node, insert->found[l], insert->n_found[l],
                        l ? index->m : (size_t)index->degree * 3 / 4);
        if (l == 0 && top > 0 && level >= top && !rv__linker_hand(&insert->linker, slot, entry))
            level = top - 1;
        if (l + 1 > top) {
            index->n_levels = l + 1;
            index->entry = node;
        }
    }
}

/* Room for one more row everywhere. */
static rv_status rv__hnsw_room(rv_ctx *ctx, rv_hnsw *index, uint32_t slot, uint32_t level)
{
    rv_status status = RV_OK;
    if (slot >= index->capacity || slot >= index->store.capacity) {
        status = rv__hnsw_grow(ctx, index, (size_t)slot + 1 + (slot < 64 ? 64 : slot / 2));
    }
    for (uint32_t l = 1; l <= level && !status; l++) {
        rv__hnsw_layer *layer = &index->layer[l];
        if (layer->n == layer->capacity) {
            status = rv__hnsw_layer_reserve(ctx, index, layer, layer->n + 8 + layer->n / 2);
        }
    }
    return status;
}

/* Learns codes once there are rows enough; a failure leaves the index as it was. */
static rv_status rv__hnsw_learn_late(rv_ctx *ctx, rv_hnsw *index)
{
    rv__code code;
    rv_status status;
    if (rv__hnsw_coded(index) || index->wanted == RV_HNSW_CODES_NONE || index->code_tried ||
        rv_hnsw_count(index) < RV_HNSW_TRAIN) return RV_OK;
    status =
        rv__hnsw_learn(ctx, index, rv__hnsw_code_kind(index->wanted), index->code_bytes, &code);
    if (status) return status;
    index->code_tried = 1;
    if (code.kind == RV__CODE_NONE) return RV_OK;
    index->code = code;
    if (index->drop_vectors) rv__store_drop_rows(&index->store);
    return RV_OK;
}

static void rv__hnsw_hold(rv_hnsw *index, uint32_t slot)
{
    index->held[slot / 64] |= (uint64_t)1 << (slot % 64);
    index->store.n_held++;
}

/* Inserts a row; old: the slot that held this key until now, or RV__NO_SLOT. */
static rv_status rv__hnsw_insert(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector,
                                 uint32_t old)
{
    rv__insert insert;
    uint32_t slot, level;
    rv_status status = rv__store_check_new(ctx, &index->store, vector);
    if (!status) status = rv__hnsw_learn_late(ctx, index);
    if (!status && old != RV__NO_SLOT) status = rv__store_keyed(ctx, &index->store);
    if (status) return status;
    slot = rv__store_next(&index->store, key);
    level = rv__hnsw_level(index, slot);
    status = rv__hnsw_room(ctx, index, slot, level);
    if (!status) status = rv__insert_open(ctx, &insert, index);
    if (status) return status;
    rv__store_prepare(&index->store, vector, insert.memory);
    rv__hnsw_query_code(&insert.query, insert.memory);
    status = rv__insert_search(ctx, &insert, level);
    if (!status && old != RV__NO_SLOT) {
        status = rv__store_remove(ctx, &index->store, old);
        if (!status) rv__hnsw_hold(index, old);
    }
    if (!status) status = rv__store_add(ctx, &index->store, key, vector, &slot);
    if (!status) {
        if (rv__hnsw_coded(index)) {
            unsigned char *scratch = insert.memory +
                                     rv__round_up(rv__store_query_bytes(&index->store), 64) +
                                     rv__round_up(rv__code_elements(&index->code), 64);
            rv__code_encode(&index->code, (const float *)(const void *)insert.memory,
                            index->code.records + (size_t)slot * index->code.record,
                            (float *)(void *)scratch);
        }
        rv__insert_link(&insert, slot, level);
    }
    rv__insert_close(&insert);
    return status;
}

RV_API rv_status rv_hnsw_add(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    if (!status && rv__store_find(&index->store, key) != RV__NO_SLOT)
        status = rv__store_exists(ctx, key);
    if (!status) status = rv__hnsw_insert(ctx, index, key, vector, RV__NO_SLOT);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_hnsw_update(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    uint32_t old;
    if (status) return status;
    old = rv__store_find(&index->store, key);
    if (old == RV__NO_SLOT) return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "key %l is not present", key);
    status = rv__hnsw_insert(ctx, index, key, vector, old);
    if (!status) rv__hnsw_tidy(ctx, index);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_hnsw_upsert(rv_ctx *ctx, rv_hnsw *index, uint64_t key, const void *vector)
{
    return rv_hnsw_contains(index, key) ? rv_hnsw_update(ctx, index, key, vector)
                                        : rv_hnsw_add(ctx, index, key, vector);
}

RV_API rv_status rv_hnsw_get(rv_ctx *ctx, const rv_hnsw *index, uint64_t key, void *out)
{
    uint32_t slot;
    if (!index || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "index and out must not be NULL");
    slot = rv__store_find(&index->store, key);
    if (slot == RV__NO_SLOT)
        return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "key %l is not present", key);
    if (!index->store.no_rows) {
        rv__store_decode(&index->store, slot, out);
    } else {
        rv_alloc alloc = rv__allocator(ctx);
        size_t n = rv__code_scratch(&index->code);
        float *scratch = (float *)rv__get(&alloc, n, sizeof(float));
        if (!scratch) return rv__no_memory(ctx, n * sizeof(float));
        rv__code_decode(&index->code, slot, (float *)out, scratch);
        if (index->store.norms)
            rv_scale_f32(index->store.norms[slot], (float *)out, index->store.dim);
        rv__put(&alloc, scratch, n, sizeof(float));
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_remove(rv_ctx *ctx, rv_hnsw *index, uint64_t key)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    uint32_t slot;
    if (status) return status;
    slot = rv__store_find(&index->store, key);
    if (slot == RV__NO_SLOT)
        return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "key %l is not present", key);
    status = rv__store_remove(ctx, &index->store, slot);
    if (status) return status;
    rv__hnsw_hold(index, slot);
    rv__hnsw_tidy(ctx, index);
    return rv__ok(ctx);
}

/* Many rows for an index that has some: one by one, and out again when one fails. */
static rv_status rv__hnsw_add_many(rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys,
                                   const void *vectors, size_t n)
{
    const unsigned char *at = (const unsigned char *)vectors;
    size_t done = 0, bytes = rv__store_vector_bytes(&index->store);
    rv_status status;
    if (!keys) return rv__fail(ctx, RV_ERR_ARG, 0, "keys is NULL but the index has rows already");
    status = rv__store_removable(ctx, &index->store); /* so that taking rows out cannot fail */
    while (done < n && !status) {
        status = rv_hnsw_add(ctx, index, keys[done], at + done * bytes);
        if (!status) done++;
        if (!status && done % 64 == 0) status = rv__poll(ctx);
    }
    if (status) {
        while (done > 0) {
            uint32_t slot = rv__store_find(&index->store, keys[--done]);
            (void)rv__store_remove(NULL, &index->store, slot);
            rv__hnsw_hold(index, slot);
        }
    }
    return status;
}

/* The same by making the whole graph again. */
static rv_status rv__hnsw_refill(rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys,
                                 const void *vectors, size_t n)
{
    rv_hnsw *fresh;
    rv__store store;
    rv_status status;
    if (!keys) return rv__fail(ctx, RV_ERR_ARG, 0, "keys is NULL but the index has rows already");
    status = rv__hnsw_like(ctx, index, &fresh);
    if (status) return status;
    status = rv__store_copied(ctx, &index->store, n, &store);
    if (!status) {
        rv__store_free(&fresh->store);
        fresh->store = store;
        status = rv__hnsw_fill(ctx, fresh, keys, vectors, n);
    }
    if (!status) rv__hnsw_swap(index, fresh);
    rv_hnsw_destroy(fresh);
    return status;
}

/* Rows that there must be for one new row before a batch of all is faster than to add it. */
#define RV__REFILL 4u

RV_API rv_status rv_hnsw_build(rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys,
                               const void *vectors, size_t n)
{
    rv_status status = rv__hnsw_writable(ctx, index);
    rv_hnsw *fresh;
    if (status) return status;
    if (n && !vectors) return rv__fail(ctx, RV_ERR_ARG, 0, "vectors must not be NULL");
    if (n >= 0x7FFFFFFFu) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z, an index holds below 2147483647 rows", n);
    }
    if (n == 0) return rv__ok(ctx);
    if (rv_hnsw_count(index)) {
        if (index->store.no_rows || n < rv_hnsw_count(index) / RV__REFILL)
            return rv__hnsw_add_many(ctx, index, keys, vectors, n);
        status = rv__hnsw_refill(ctx, index, keys, vectors, n);
        return status ? status : rv__ok(ctx);
    }
    status = rv__hnsw_like(ctx, index, &fresh);
    if (status) return status;
    status = rv__store_reserve(ctx, &fresh->store,
                               n > index->store.capacity ? n : index->store.capacity);
    if (!status) status = rv__hnsw_fill(ctx, fresh, keys, vectors, n);
    if (!status) rv__hnsw_swap(index, fresh);
    rv_hnsw_destroy(fresh);
    return status ? status : rv__ok(ctx);
}

/* ---- repair ---- */

typedef struct rv__repair {
    const rv_hnsw *index;
    uint32_t *links;                /* [n, degree] result                                         */
    rv__linker *linker;             /* [lanes]                                                    */
    unsigned char *scratch;         /* [lanes, linker's lane_bytes]                               */
    size_t lanes;
} rv__repair;

static int rv__hnsw_held(const rv_hnsw *index, uint32_t slot)
{
    return index->held && (index->held[slot / 64] >> (slot % 64) & 1u) != 0;
}

/* Links of the nodes begin..end-1 of layer 0 with held neighbours replaced by the neighbours of
   those; held nodes and those given up get none. */
static void rv__repair_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__repair *job = (const rv__repair *)arg;
    const rv_hnsw *index = job->index;
    rv__linker *linker = &job->linker[lane];
    const uint32_t degree = index->degree;
    uint64_t keys[RV__THIN_MAX];
    uint32_t part[RV__THIN_MAX];
    for (size_t node = begin; node < end; node++) {
        const uint32_t *links = index->links + node * degree;
        uint32_t *to = job->links + node * degree, n = 0, count = 0;
        int broken = 0;
        if (!rv__store_live(&index->store, (uint32_t)node)) {
            memset(to, 0xFF, degree * sizeof *to);
            continue;
        }
        memcpy(to, links, degree * sizeof *to);
        for (uint32_t i = 0; i < degree && links[i] != RV__NO_SLOT; i++)
            broken |= rv__hnsw_held(index, links[i]);
        if (!broken) continue;
        for (uint32_t i = 0; i <= degree; i++) {
            /* the node's own links first, then those of each held neighbour */
            const uint32_t *list = i == 0 ? links : index->links + (size_t)links[i - 1] * degree;
            if (i > 0 && links[i - 1] == RV__NO_SLOT) break;
            if (i > 0 && !rv__hnsw_held(index, links[i - 1])) continue;
            count = 0;
            for (uint32_t j = 0; j < degree && list[j] != RV__NO_SLOT && count < RV__THIN_MAX;
                 j++) {
                if (!rv__hnsw_held(index, list[j]) && list[j] != node) part[count++] = list[j];
            }
            rv__build_distances(&linker->b, &linker->lane, (uint32_t)node, part, count,
                                linker->lane.line);
            for (uint32_t j = 0; j < count; j++) {
                rv__pool_add(keys, &n, RV__THIN_MAX, rv__hnsw_key(linker->lane.line[j], part[j]));
            }
        }
        n = (uint32_t)rv__build_thin(&linker->b, &linker->lane, keys, n, degree);
        for (uint32_t i = 0; i < degree; i++)
            to[i] = i < n ? rv__hnsw_node(keys[i]) : RV__NO_SLOT;
    }
}

static void rv__hnsw_drop_layers(rv_hnsw *index)
{
    for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++) rv__hnsw_layer_free(index, &index->layer[l]);
}

/* Makes the layers above 0 of a graph whose layer 0 is there; on failure it has none. */
static rv_status rv__repair_layers(rv_ctx *ctx, rv_hnsw *index)
{
    const rv__code *code = index->code.bits == 8 ? &index->code : NULL;
    rv_status status;
    memset(index->layer, 0, sizeof index->layer);
    status = rv__hnsw_make_layers(ctx, index);
    for (uint32_t l = 1; l < index->n_levels && !status; l++) {
        status = rv__build_layer(ctx, index, code, index->layer[l].slot, index->layer[l].n,
                                 index->m, index->layer[l].links);
    }
    if (status) rv__hnsw_drop_layers(index);
    return status;
}

/* One linker and its scratch for each lane. */
static rv_status rv__repair_open(rv_ctx *ctx, rv_hnsw *index, rv__repair *job)
{
    const rv_alloc *alloc = &index->store.alloc;
    size_t bytes;
    job->index = index;
    job->lanes = rv__lanes(ctx);
    job->scratch = NULL;
    job->linker = (rv__linker *)rv__get(alloc, job->lanes, sizeof(rv__linker));
    if (!job->linker) return rv__no_memory(ctx, job->lanes * sizeof(rv__linker));
    for (size_t i = 0; i < job->lanes; i++) rv__linker_init(&job->linker[i], ctx, index);
    bytes = job->linker[0].b.lane_bytes;
    job->scratch = (unsigned char *)rv__get(alloc, job->lanes, bytes);
    if (!job->scratch) return rv__no_memory(ctx, job->lanes * bytes);
    for (size_t i = 0; i < job->lanes; i++) {
        job->linker[i].b.scratch = job->scratch + i * bytes;
        rv__build_lane_at(&job->linker[i].b, 0, &job->linker[i].lane);
    }
    return RV_OK;
}

static void rv__repair_close(const rv_hnsw *index, rv__repair *job)
{
    const rv_alloc *alloc = &index->store.alloc;
    if (job->scratch) rv__put(alloc, job->scratch, job->lanes, job->linker[0].b.lane_bytes);
    rv__put(alloc, job->linker, job->lanes, sizeof(rv__linker));
}

/* Repairs the graph around held nodes and frees their slots. It is made beside the old one, which
   stays when this fails. */
static rv_status rv__hnsw_repair(rv_ctx *ctx, rv_hnsw *index)
{
    const rv_alloc *alloc = &index->store.alloc;
    const size_t n = index->store.n, size = index->capacity * index->degree;
    rv_hnsw fresh = *index; /* a graph over the same rows */
    rv__repair job;
    rv_status status;
    if (index->store.n_held == 0) return RV_OK;
    fresh.links = (uint32_t *)rv__get(alloc, size, sizeof(uint32_t));
    if (!fresh.links) return rv__no_memory(ctx, size * sizeof(uint32_t));
    status = rv__repair_open(ctx, index, &job);
    job.links = fresh.links;
    if (!status) status = rv__parallel_for(ctx, n, 64, 512, rv__repair_range, &job);
    rv__repair_close(index, &job);
    if (!status) {
        status = rv__fill_polled(ctx, fresh.links + n * index->degree, 0xFF,
                                 (size - n * index->degree) * sizeof(uint32_t));
    }
    if (!status) {
        status = rv__repair_layers(ctx, &fresh);
        if (!status) status = rv__hnsw_connect(ctx, &fresh);
        if (status) rv__hnsw_drop_layers(&fresh);
    }
    if (status) {
        rv__put(alloc, fresh.links, size, sizeof(uint32_t));
        return status;
    }
    rv__put(alloc, index->links, size, sizeof(uint32_t));
    rv__hnsw_drop_layers(index);
    index->links = fresh.links;
    memcpy(index->layer, fresh.layer, sizeof index->layer);
    index->n_levels = fresh.n_levels;
    index->entry = fresh.entry;
    memset(index->held, 0, (index->capacity + 63) / 64 * sizeof(uint64_t));
    index->store.n_held = 0;
    return RV_OK;
}

/* Repairs when it is due. A failure only postpones it. */
static void rv__hnsw_tidy(rv_ctx *ctx, rv_hnsw *index)
{
    if (index->store.n_held < 64 || index->store.n_held < index->store.n / 8) return;
    (void)rv__hnsw_repair(ctx, index);
}

/* ---- compaction ---- */

/* Moves codes and links to the slots that new_slot tells; to: links, records of the live rows. */
static rv_status rv__compact_move(rv_ctx *ctx, const rv_hnsw *index, const uint32_t *new_slot,
                                  rv_hnsw *to)
{
    const uint32_t degree = index->degree;
    const size_t record = index->code.record;
    for (size_t slot = 0; slot < index->store.n; slot++) {
        const uint32_t *from = index->links + slot * degree;
        const size_t place = new_slot[slot];
        rv_status status = slot % 1024 ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (place == RV__NO_SLOT) continue;
        for (uint32_t i = 0; i < degree; i++) {
            to->links[place * degree + i] =
                from[i] == RV__NO_SLOT ? RV__NO_SLOT : new_slot[from[i]];
        }
        if (to->code.records) {
            memcpy(to->code.records + place * record, index->code.records + slot * record, record);
        }
    }
    return RV_OK;
}

/* Arrays of `to` that the index it was copied from does not share. */
static void rv__compact_drop(rv_hnsw *to)
{
    const rv_alloc *alloc = &to->store.alloc;
    rv__put(alloc, to->links, to->capacity * to->degree, sizeof(uint32_t));
    rv__put(alloc, to->held, (to->capacity + 63) / 64, sizeof(uint64_t));
    rv__put(alloc, to->code.records, to->code.capacity, to->code.record);
    rv__hnsw_drop_layers(to);
}

/* The graph over the rows of a compacted store; new_slot tells where they are now. Levels follow
   from slots, so the layers above 0 are made anew. On failure there is nothing to free. */
static rv_status rv__compact_graph(rv_ctx *ctx, const rv_hnsw *index, const uint32_t *new_slot,
                                   rv_hnsw *to)
{
    const rv_alloc *alloc = &index->store.alloc;
    const size_t live = to->store.n;
    rv_status status = RV_OK;
    memset(to->layer, 0, sizeof to->layer);
    to->capacity = live;
    to->links = (uint32_t *)rv__get(alloc, live * index->degree, sizeof(uint32_t));
    to->held = (uint64_t *)rv__get_zero(alloc, (live + 63) / 64, sizeof(uint64_t));
    to->code.records = NULL;
    to->code.capacity = rv__hnsw_coded(index) ? live : 0;
    if (rv__hnsw_coded(index)) {
        to->code.records = (unsigned char *)rv__get(alloc, live, index->code.record);
    }
    if (!to->links || !to->held || (rv__hnsw_coded(index) && !to->code.records)) {
        status = rv__no_memory(ctx, live * index->degree * sizeof(uint32_t));
    }
    if (!status) status = rv__compact_move(ctx, index, new_slot, to);
    to->store.held = to->held;
    if (!status) status = rv__repair_layers(ctx, to);
    if (!status) status = rv__hnsw_connect(ctx, to);
    if (status) rv__compact_drop(to);
    return status;
}

RV_API rv_status rv_hnsw_compact(rv_ctx *ctx, rv_hnsw *index)
{
    const rv_alloc *alloc;
    size_t n;
    uint32_t *new_slot;
    rv_hnsw to;
    rv_status status = rv__hnsw_writable(ctx, index);
    if (!status) status = rv__hnsw_repair(ctx, index);
    if (status) return status;
    alloc = &index->store.alloc;
    n = index->store.n;
    if (index->store.n_removed == 0 && index->capacity == n && index->store.capacity == n)
        return rv__ok(ctx);
    to = *index;
    new_slot = (uint32_t *)rv__get(alloc, n, sizeof(uint32_t));
    status = new_slot ? rv__store_compacted(ctx, &index->store, new_slot, &to.store)
                      : rv__no_memory(ctx, n * sizeof(uint32_t));
    if (!status) {
        status = rv__compact_graph(ctx, index, new_slot, &to);
        if (status) rv__store_discard(&index->store, &to.store);
    }
    rv__put(alloc, new_slot, n, sizeof(uint32_t));
    if (status) return status;
    rv__compact_drop(index);
    rv__store_swap(&index->store, &to.store);
    *index = to;
    return rv__ok(ctx);
}

#undef RV__CODE_DIM_MIN
#undef RV__CONNECT_EF
#undef RV__INSERT_UPPER
#undef RV__LEADERS
#undef RV__LEAF
#undef RV__MATCH_ROWS
#undef RV__PICK
#undef RV__REFILL
#undef RV__THIN_MAX
#undef RV__WALK_STARTS

#endif /* RV_HNSW_EDIT_C */
