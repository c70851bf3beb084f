#ifndef RV_HNSW_ITER_C
#define RV_HNSW_ITER_C
#include "hnsw.h"
#include "base.c"
#include "topk.c"
#include "store.c"
#include "code.c"
#include "hnsw.c"
#include "hnsw_search.c"
#include "hnsw_query.c"

/* A walk that can go on for ever: the iterator, and range search on top of it.

   It goes in rounds. A round is a beam search that ends when every entry of the beam is expanded;
   then the beam is emptied: its rows are ranked by their vectors and handed out. What fell off the
   beam or did not enter it is kept in a heap, and the next round begins with the nearest of that.
   Every node is marked when it is first met, in a bit set, and afterwards is in exactly one place:
   beam, heap, or handed out. So no row comes twice, and in the end all that can be reached has
   come.

   Room for what one expansion may push into the heap is made before it, so that a refused
   allocation or a cancellation stops between two expansions and the next call goes on from
   there. */

#define RV__ITER_GROWN 1024u /* the beam doubles from round to round up to this */

struct rv_hnsw_iter {
    rv_alloc alloc;
    const rv_hnsw *index;
    rv_filter filter; /* all zero: everything passes */
    int whole;        /* rank rows that do not pass as well */
    rv__hnsw_query query;
    unsigned char *memory; /* query, beam, ids, distances, hits, bit set */
    size_t bytes;
    rv__walk walk; /* without its table of seen nodes */
    size_t at;     /* entries of the beam before it are expanded */
    int filling;   /* a round begins: the beam takes from the heap */
    size_t ef_max;
    uint64_t *seen; /* bit per node */
    uint64_t *rest; /* min-heap of keys */
    size_t n_rest, rest_cap;
    uint32_t *ids;   /* [ef_max] */
    float *distance; /* [ef_max] */
    rv_hit *hits;    /* [ef_max] of the last round */
    size_t n_hits, next;
    float nearest; /* of the last round, of rows that do not pass too if whole */
};

/* ---- heap ---- */

static void rv__iter_push(rv_hnsw_iter *iter, uint64_t key)
{
    size_t i = iter->n_rest++;
    while (i > 0 && iter->rest[(i - 1) / 2] > key) {
        iter->rest[i] = iter->rest[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    iter->rest[i] = key;
}

static uint64_t rv__iter_pop(rv_hnsw_iter *iter)
{
    uint64_t *heap = iter->rest, top = heap[0], last = heap[--iter->n_rest];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < iter->n_rest) {
        if (child + 1 < iter->n_rest && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* Room for so many more keys. */
static rv_status rv__iter_room(rv_ctx *ctx, rv_hnsw_iter *iter, size_t more)
{
    size_t cap = iter->rest_cap + iter->rest_cap / 2;
    uint64_t *rest;
    rv_status status;
    if (iter->n_rest + more <= iter->rest_cap) return RV_OK;
    if (cap < iter->n_rest + more) cap = iter->n_rest + more;
    rest = (uint64_t *)rv__regrow_polled(ctx, &iter->alloc, iter->rest, iter->rest_cap, cap,
                                         sizeof(uint64_t), &status);
    if (!rest) return status;
    iter->rest = rest;
    iter->rest_cap = cap;
    return RV_OK;
}

/* ---- rounds ---- */

/* As rv__walk_collect, with the bit set. */
static size_t rv__iter_collect(rv_hnsw_iter *iter, uint32_t node, size_t n)
{
    const rv_hnsw *index = iter->index;
    const uint32_t *links = index->links + (size_t)node * index->degree;
    for (uint32_t i = 0; i < index->degree && links[i] != RV__NO_SLOT; i++) {
        const uint64_t bit = (uint64_t)1 << (links[i] % 64);
        if (iter->seen[links[i] / 64] & bit) continue;
        iter->seen[links[i] / 64] |= bit;
        iter->walk.ids[n++] = links[i];
    }
    return n;
}

/* Expands until all of the beam is expanded. */
static rv_status rv__iter_expand(rv_ctx *ctx, rv_hnsw_iter *iter)
{
    rv__walk *walk = &iter->walk;
    const uint64_t step = rv__walk_poll(walk);
    uint64_t next_poll = walk->hops + step;
    while (iter->at < walk->n) {
        size_t n = 0, first = walk->n, taken = 0;
        rv_status status = rv__iter_room(ctx, iter, RV__WALK_WIDTH * iter->index->degree);
        if (!status && walk->hops >= next_poll) {
            next_poll = walk->hops + step;
            status = rv__poll(ctx);
        }
        if (status) return status;
        for (size_t i = iter->at; i < walk->n && taken < RV__WALK_WIDTH; i++) {
            iter->at = i + 1;
            if (walk->beam[i] & 1u) continue;
            walk->beam[i] |= 1u;
            n = rv__iter_collect(iter, rv__hnsw_node(walk->beam[i]), n);
            taken++;
        }
        walk->hops += taken;
        walk->distances += n;
        rv__hnsw_distances(&iter->query, walk->ids, n, walk->distance);
        for (size_t i = 0; i < n; i++) {
            const uint64_t key = rv__hnsw_key(walk->distance[i], walk->ids[i]);
            const int full = walk->n == walk->ef;
            const uint64_t last = full ? walk->beam[walk->n - 1] : 0;
            const size_t place = rv__walk_insert(walk, key);
            if (full) rv__iter_push(iter, place < walk->ef ? last : key);
            if (place < first) first = place;
        }
        if (first < iter->at) iter->at = first;
    }
    return RV_OK;
}

/* Ranks the rows of the beam and empties it. Stopped half way it is done again from the start. */
static rv_status rv__iter_harvest(rv_ctx *ctx, rv_hnsw_iter *iter)
{
    const rv_hnsw *index = iter->index;
    rv__walk *walk = &iter->walk;
    size_t n = 0, found = 0;
    int many;
    rv_status status = RV_OK;
    for (size_t i = 0; i < walk->n && !iter->whole; i++) {
        if (rv__hnsw_pass(index, &iter->filter, rv__hnsw_node(walk->beam[i])))
            walk->beam[n++] = walk->beam[i];
    }
    if (!iter->whole) walk->n = n;
    iter->n_hits = iter->next = 0;
    many = walk->n > RV__ITER_GROWN;
    status = rv__hnsw_exact(ctx, &iter->query, walk->beam, walk->n, iter->ids, iter->distance);
    if (status) return status;
    iter->nearest = rv__infinity();
    for (size_t i = 0; i < walk->n; i++) {
        if (iter->distance[i] < iter->nearest) iter->nearest = iter->distance[i];
        if (iter->whole && !rv__hnsw_pass(index, &iter->filter, iter->ids[i])) continue;
        if (many) {
            iter->hits[found].key = rv__store_key(&index->store, iter->ids[i]);
            iter->hits[found].distance = iter->distance[i];
        } else {
            rv__hnsw_take(index, &iter->ids[i], &iter->distance[i], 1, iter->hits, found);
        }
        found++;
    }
    if (many) status = rv__hits_sort(ctx, iter->hits, found);
    if (status) return status;
    iter->n_hits = found;
    walk->n = 0;
    walk->ef = 2 * walk->ef < iter->ef_max ? 2 * walk->ef : iter->ef_max;
    return RV_OK;
}

/* From the entry every row is reached; from where the walk began perhaps not. */
static void rv__iter_enter(rv_hnsw_iter *iter)
{
    const uint32_t slot = rv__hnsw_entry_slot(iter->index);
    const uint64_t bit = (uint64_t)1 << (slot % 64);
    float distance;
    if (iter->index->n_levels == 0 || (iter->seen[slot / 64] & bit)) return;
    iter->seen[slot / 64] |= bit;
    rv__hnsw_distances(&iter->query, &slot, 1, &distance);
    iter->walk.beam[iter->walk.n++] = rv__hnsw_key(distance, slot);
}

/* Makes the hits of the next round; RV_DONE when there is nothing left to walk to. A round that was
   stopped goes on. */
static rv_status rv__iter_round(rv_ctx *ctx, rv_hnsw_iter *iter)
{
    rv__walk *walk = &iter->walk;
    rv_status status;
    if (walk->n == 0) {
        iter->at = 0;
        iter->filling = 1;
    }
    while (iter->filling && walk->n < walk->ef && iter->n_rest) {
        walk->beam[walk->n++] = rv__iter_pop(iter);
        status = walk->n % RV__ITER_GROWN ? RV_OK : rv__poll(ctx);
        if (status) return status;
    }
    iter->filling = 0;
    if (walk->n == 0) rv__iter_enter(iter);
    if (walk->n == 0) return RV_DONE;
    status = rv__iter_expand(ctx, iter);
    return status ? status : rv__iter_harvest(ctx, iter);
}

/* ---- opening ---- */

static void rv__iter_close(rv_hnsw_iter *iter)
{
    rv__put(&iter->alloc, iter->rest, iter->rest_cap, sizeof(uint64_t));
    rv__put(&iter->alloc, iter->memory, iter->bytes, 1);
}

static void rv__iter_start(rv_hnsw_iter *iter)
{
    rv__walk *walk = &iter->walk;
    float distance;
    uint32_t node = rv__hnsw_descend(&iter->query, walk, &distance);
    iter->seen[node / 64] |= (uint64_t)1 << (node % 64);
    walk->beam[0] = rv__hnsw_key(distance, node);
    walk->n = 1;
    for (size_t i = 0; i < walk->n_starts && walk->n < walk->ef; i++) {
        const uint32_t start = rv__hnsw_node(walk->start[i]);
        const uint64_t bit = (uint64_t)1 << (start % 64);
        if (iter->seen[start / 64] & bit) continue;
        iter->seen[start / 64] |= bit;
        (void)rv__walk_insert(walk, walk->start[i]);
    }
}

static rv_status rv__iter_open(rv_ctx *ctx, const rv_hnsw *index, const void *query,
                               const rv_hnsw_options *options, int whole, rv_hnsw_iter *iter)
{
    const size_t n = index->store.n;
    size_t query_bytes, walk_bytes, hits, words, ef;
    unsigned char *at;
    rv_status status = rv__store_check(ctx, &index->store, query, "query");
    if (!status) status = rv__hnsw_check_options(ctx, options);
    if (status) return status;
    memset(iter, 0, sizeof *iter);
    iter->alloc = rv__allocator(ctx);
    iter->index = index;
    iter->whole = whole;
    if (options && options->filter) iter->filter = *options->filter;
    ef = options && options->ef ? options->ef : RV__HNSW_EF;
    if (ef > n) ef = n ? n : 1;
    iter->ef_max = ef > RV__ITER_GROWN ? ef : RV__ITER_GROWN;
    if (iter->ef_max > n) iter->ef_max = n ? n : 1;
    query_bytes = rv__round_up(rv__hnsw_query_bytes(index), 64);
    walk_bytes = rv__round_up(rv__walk_bytes(index, iter->ef_max, RV__WALK_SEEN), 64);
    hits = rv__round_up(iter->ef_max * (sizeof(rv_hit) + sizeof(uint32_t) + sizeof(float)), 64);
    words = (n + 63) / 64;
    iter->bytes = query_bytes + walk_bytes + hits + words * sizeof(uint64_t);
    iter->memory = at = (unsigned char *)rv__get(&iter->alloc, iter->bytes, 1);
    if (!at) return rv__no_memory(ctx, iter->bytes);
    rv__hnsw_query_init(&iter->query, ctx, index);
    rv__store_prepare(&index->store, query, at);
    rv__hnsw_query_code(&iter->query, at);
    at += query_bytes;
    rv__walk_init(&iter->walk, index, iter->ef_max, RV__WALK_SEEN, at);
    iter->walk.ef = ef;
    at += walk_bytes;
    iter->hits = (rv_hit *)(void *)at;
    iter->ids = (uint32_t *)(void *)(iter->hits + iter->ef_max);
    iter->distance = (float *)(void *)(iter->ids + iter->ef_max);
    iter->seen = (uint64_t *)(void *)(at + hits);
    status = rv__fill_polled(ctx, iter->seen, 0, words * sizeof(uint64_t));
    if (status) {
        rv__iter_close(iter);
        return status;
    }
    if (index->n_levels) rv__iter_start(iter);
    return RV_OK;
}

RV_API rv_status rv_hnsw_iter_create(rv_ctx *ctx, const rv_hnsw *index, const void *query,
                                     const rv_hnsw_options *options, rv_hnsw_iter **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_hnsw_iter *iter;
    rv_status status;
    if (!index || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "index and out must not be NULL");
    iter = (rv_hnsw_iter *)rv__get(&alloc, 1, sizeof *iter);
    if (!iter) return rv__no_memory(ctx, sizeof *iter);
    status = rv__iter_open(ctx, index, query, options, 0, iter);
    if (status) {
        rv__put(&alloc, iter, 1, sizeof *iter);
        return status;
    }
    *out = iter;
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_iter_next(rv_ctx *ctx, rv_hnsw_iter *iter, rv_hit *hit)
{
    if (!iter || !hit) return rv__fail(ctx, RV_ERR_ARG, 0, "iter and hit must not be NULL");
    while (iter->next == iter->n_hits) {
        rv_status status = rv__iter_round(ctx, iter);
        if (status) return status == RV_DONE ? rv__done(ctx) : status;
    }
    *hit = iter->hits[iter->next++];
    return rv__ok(ctx);
}

RV_API void rv_hnsw_iter_destroy(rv_hnsw_iter *iter)
{
    rv_alloc alloc;
    if (!iter) return;
    alloc = iter->alloc;
    rv__iter_close(iter);
    rv__put(&alloc, iter, 1, sizeof *iter);
}

/* ---- range search ---- */

/* Rounds until one meets no row within the radius, passing or not. */
RV_API rv_status rv_hnsw_range(rv_ctx *ctx, const rv_hnsw *index, const void *query, float radius,
                               const rv_hnsw_options *options, rv_hit *hits, size_t cap,
                               size_t *n_hits)
{
    rv_hnsw_iter iter;
    size_t found = 0;
    uint32_t bits;
    rv_status status;
    if (!index || !n_hits || (cap && !hits)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "index, hits and n_hits must not be NULL");
    }
    memcpy(&bits, &radius, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return rv__fail(ctx, RV_ERR_ARG, 0, "radius is NaN");
    status = rv__iter_open(ctx, index, query, options, 1, &iter);
    if (status) return status;
    do {
        status = rv__iter_round(ctx, &iter);
        for (size_t i = 0; i < iter.n_hits && !status; i++) {
            if (iter.hits[i].distance <= radius) rv__hits_offer(hits, cap, found++, iter.hits[i]);
            if (i % RV__ITER_GROWN == RV__ITER_GROWN - 1) status = rv__poll(ctx);
        }
    } while (!status && iter.nearest <= radius);
    if (status == RV_DONE) status = RV_OK;
    if (!status) status = rv__hits_sort(ctx, hits, found < cap ? found : cap);
    if (!status) {
        *n_hits = found;
        if (options && options->trace) {
            memset(options->trace, 0, sizeof *options->trace);
            options->trace->hops = iter.walk.hops;
            options->trace->distances = iter.walk.distances;
        }
    }
    rv__iter_close(&iter);
    return status ? status : rv__ok(ctx);
}

#undef RV__HNSW_EF
#undef RV__ITER_GROWN
#undef RV__WALK_SCAN
#undef RV__WALK_SEEN
#undef RV__WALK_WIDTH

#endif /* RV_HNSW_ITER_C */
