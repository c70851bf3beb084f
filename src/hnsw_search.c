#ifndef RV_HNSW_SEARCH_C
#define RV_HNSW_SEARCH_C
#include "hnsw.h"
#include "base.c"
#include "store.c"
#include "code.c"
#include "hnsw.c"

/* The walk: greedy descent through the upper layers, a beam over layer 0.

   The beam is one array sorted by distance; what has been expanded is marked in place, so the walk
   is
   "expand the first unmarked entry until there is none". Three entries are expanded at a time:
   their
   link lists make one gather of up to 6 m records, whose cache lines are all asked for before the
   first is used, because the walk is bound by the latency of lines, not by arithmetic.

   Visited nodes are remembered in a small direct-mapped table instead of a bit per row. A forgotten
   node is estimated again, gives the same key, and is recognised when it would enter the beam; a
   node that once was too far is too far again. So the result is that of an exact table. */

#define RV__WALK_WIDTH 3u           /* entries expanded at a time                                 */
#define RV__WALK_STARTS 8u          /* nodes of layer 1 the beam begins with                      */

typedef struct rv__walk {
    uint64_t *beam;                 /* [ef + 1] sorted keys                                       */
    size_t n, ef;
    uint32_t *seen;                 /* [seen_mask + 1] direct-mapped, RV__NO_SLOT = empty         */
    uint32_t seen_mask;
    uint32_t *ids;                  /* [width * degree]                                           */
    float *distance;                /* [width * degree]                                           */
    uint64_t start[RV__WALK_STARTS]; /* keys of the nearest met on layer 1, sorted                */
    size_t n_starts;
    uint64_t hops, distances;
} rv__walk;

static size_t rv__walk_seen(size_t ef)
{
    size_t n = 1024;
    while (n < ef * 48 && n < 65536) n *= 2;
    return n;
}

static size_t rv__walk_bytes(const rv_hnsw *index, size_t ef)
{
    return rv__round_up((ef + 1) * sizeof(uint64_t), 64) + rv__walk_seen(ef) * sizeof(uint32_t) +
           2 * rv__round_up(RV__WALK_WIDTH * index->degree * sizeof(uint32_t), 64);
}

static void rv__walk_init(rv__walk *walk, const rv_hnsw *index, size_t ef, void *memory)
{
    unsigned char *at = (unsigned char *)memory;
    size_t seen = rv__walk_seen(ef),
           list = rv__round_up(RV__WALK_WIDTH * index->degree * sizeof(uint32_t), 64);
    walk->beam = (uint64_t *)(void *)at;
    at += rv__round_up((ef + 1) * sizeof(uint64_t), 64);
    walk->seen = (uint32_t *)(void *)at;
    at += seen * sizeof(uint32_t);
    walk->ids = (uint32_t *)(void *)at;
    walk->distance = (float *)(void *)(at + list);
    walk->seen_mask = (uint32_t)seen - 1u;
    walk->n = 0;
    walk->ef = ef;
    walk->n_starts = 0;
    walk->hops = walk->distances = 0;
}

RV__INLINE int rv__walk_visit(rv__walk *walk, uint32_t id)
{
    uint32_t *cell = &walk->seen[(id * 0x9E3779B1u >> 7) & walk->seen_mask];
    if (*cell == id) return 0;
    *cell = id;
    return 1;
}

/* Puts a key into the sorted beam; returns its position, or ef when it does not enter. */
RV__INLINE size_t rv__walk_insert(rv__walk *walk, uint64_t key)
{
    uint64_t *beam = walk->beam;
    size_t low = 0, high = walk->n;
    if (walk->n == walk->ef && key >= beam[walk->n - 1]) return walk->ef;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (beam[middle] < key) low = middle + 1;
        else high = middle;
    }
    /* equal but for the mark: the node was forgotten by the table and met again */
    if (low < walk->n && (beam[low] | 1u) == (key | 1u)) return walk->ef;
    if (walk->n < walk->ef) walk->n++;
    memmove(beam + low + 1, beam + low, (walk->n - 1 - low) * sizeof *beam);
    beam[low] = key;
    return low;
}

static uint32_t rv__hnsw_entry_slot(const rv_hnsw *index)
{
    return index->n_levels > 1 ? index->layer[index->n_levels - 1].slot[index->entry]
                               : index->entry;
}

static void rv__walk_note(rv__walk *walk, uint64_t key)
{
    uint64_t *start = walk->start;
    size_t at = walk->n_starts;
    if (at == RV__WALK_STARTS && key >= start[at - 1]) return;
    while (at > 0 && start[at - 1] > key) at--;
    if (at > 0 && start[at - 1] == key) return;
    if (walk->n_starts < RV__WALK_STARTS) walk->n_starts++;
    memmove(start + at + 1, start + at, (walk->n_starts - 1 - at) * sizeof *start);
    start[at] = key;
}

/* The node of layer 0 that the greedy descent ends at, and its distance. */
static uint32_t rv__hnsw_descend(const rv__hnsw_query *query, rv__walk *walk, float *distance)
{
    const rv_hnsw *index = query->index;
    uint32_t node = index->entry, slot;
    float best;
    walk->n_starts = 0;
    if (index->n_levels <= 1) {
        slot = node;
        rv__hnsw_distances(query, &slot, 1, distance);
        return node;
    }
    slot = rv__hnsw_entry_slot(index);
    rv__hnsw_distances(query, &slot, 1, &best);
    walk->distances++;
    for (uint32_t l = index->n_levels - 1; l > 0; l--) {
        const rv__hnsw_layer *layer = &index->layer[l];
        for (;;) {
            const uint32_t *links = layer->links + (size_t)node * index->m;
            uint32_t next = node, n = 0;
            for (; n < index->m && links[n] != RV__NO_SLOT; n++)
                walk->ids[n] = layer->slot[links[n]];
            rv__hnsw_distances(query, walk->ids, n, walk->distance);
            walk->distances += n;
            walk->hops++;
            for (uint32_t i = 0; i < n; i++) {
                if (l == 1) rv__walk_note(walk, rv__hnsw_key(walk->distance[i], walk->ids[i]));
                if (walk->distance[i] < best) {
                    best = walk->distance[i];
                    next = links[i];
                }
            }
            if (next == node) break;
            node = next;
        }
        node = layer->below[node];
    }
    *distance = best;
    return node;
}

/* Starts the beam at a node of layer 0 and at what the descent met on layer 1: where the rows fall
   apart into far clusters, a greedy descent may end in the wrong one. */
static void rv__walk_start(rv__walk *walk, uint32_t node, float distance)
{
    memset(walk->seen, 0xFF, ((size_t)walk->seen_mask + 1u) * sizeof(uint32_t));
    (void)rv__walk_visit(walk, node);
    walk->beam[0] = rv__hnsw_key(distance, node);
    walk->n = 1;
    for (size_t i = 0; i < walk->n_starts; i++) {
        if (rv__walk_visit(walk, rv__hnsw_node(walk->start[i])))
            (void)rv__walk_insert(walk, walk->start[i]);
    }
}

/* Collects the unseen links of a node behind ids[n]; returns the new count. */
RV__INLINE size_t rv__walk_collect(const rv_hnsw *index, rv__walk *walk, uint32_t node, size_t n)
{
    const uint32_t *links = index->links + (size_t)node * index->degree;
    for (uint32_t i = 0; i < index->degree && links[i] != RV__NO_SLOT; i++) {
        uint32_t id = links[i];
        if (!rv__walk_visit(walk, id)) continue;
        if (index->code.records) {
            const unsigned char *record = index->code.records + (size_t)id * index->code.record;
            RV__PREFETCH(record);
            RV__PREFETCH(record + 64);
        }
        walk->ids[n++] = id;
    }
    return n;
}

/* Expands until every entry of the beam is expanded. Polls every 1024 hops. */
static rv_status rv__walk_run(rv_ctx *ctx, const rv__hnsw_query *query, rv__walk *walk)
{
    const rv_hnsw *index = query->index;
    size_t at = 0;
    uint64_t next_poll = walk->hops + 1024;
    while (at < walk->n) {
        size_t n = 0, first = walk->n, taken = 0;
        for (size_t i = at; i < walk->n && taken < RV__WALK_WIDTH; i++) {
            if (walk->beam[i] & 1u) continue;
            walk->beam[i] |= 1u;
            n = rv__walk_collect(index, walk, rv__hnsw_node(walk->beam[i]), n);
            taken++;
            at = i + 1;
        }
        if (!taken) break;
        walk->hops += taken;
        walk->distances += n;
        rv__hnsw_distances(query, walk->ids, n, walk->distance);
        for (size_t i = 0; i < n; i++) {
            size_t place;
            if (walk->n == walk->ef &&
                walk->distance[i] > rv__hnsw_key_distance(walk->beam[walk->n - 1]))
                continue;
            place = rv__walk_insert(walk, rv__hnsw_key(walk->distance[i], walk->ids[i]));
            if (place < walk->ef) {
                const uint32_t *links = index->links + (size_t)walk->ids[i] * index->degree;
                RV__PREFETCH(links);
                RV__PREFETCH(links + 16);
                if (place < first) first = place;
            }
        }
        if (first < at) at = first;
        if (walk->hops >= next_poll) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            next_poll = walk->hops + 1024;
        }
    }
    return RV_OK;
}

#endif /* RV_HNSW_SEARCH_C */
