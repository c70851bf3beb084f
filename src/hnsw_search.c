#ifndef RV_HNSW_SEARCH_C
#define RV_HNSW_SEARCH_C
#include "hnsw.h"
#include "base.c"
#include "store.c"
#include "code.c"
#include "hnsw.c"

/* The walk: a narrow beam down the upper layers, a wide one over layer 0.

   A beam is one array sorted by distance; what has been expanded is marked in place, so the walk is
   "expand the first unmarked entry until there is none". On layer 0 three entries are expanded at a
   time: their link lists make one gather of up to 6 m records, whose cache lines are asked for well
   ahead, because the walk is bound by the latency of lines, not by arithmetic.
   Above it a single path would do for rows that fill space evenly; where they fall apart into
   clusters it would end in the wrong one.

   Visited nodes are remembered in a small direct-mapped table instead of a bit per row. A forgotten
   node is estimated again, gives the same key, and is recognised when it would enter the beam; a
   node that once was too far is too far again. So the result is that of an exact table. */

#define RV__WALK_WIDTH 3u           /* entries expanded at a time                                 */
#define RV__WALK_STARTS 4u          /* beam on the layers above 0; layer 0 begins with its nodes  */
#define RV__WALK_SEEN 1024u         /* cells of the table for short beams, and on upper layers    */
#define RV__WALK_SCAN 256u          /* nodes of a layer that is searched by looking at all        */

typedef struct rv__walk {
    uint64_t *beam;                 /* [ef + 1] sorted keys                                       */
    size_t n, ef;
    uint32_t *seen;                 /* [seen_mask + 1] direct-mapped, RV__NO_SLOT = empty         */
    uint32_t seen_mask;
    uint32_t *ids;                  /* [width * degree]                                           */
    float *distance;                /* [width * degree]                                           */
    uint64_t *keys;                 /* [width * degree]                                           */
    uint64_t start[RV__WALK_STARTS]; /* keys of nodes of layer 0, sorted                          */
    size_t n_starts;
    uint64_t hops, distances;
} rv__walk;

static size_t rv__walk_seen(size_t ef)
{
    size_t n = RV__WALK_SEEN;
    while (n < ef * 48 && n < 65536) n *= 2;
    return n;
}

/* Memory of a walk whose table remembers so many nodes. */
static size_t rv__walk_bytes(const rv_hnsw *index, size_t ef, size_t seen)
{
    return rv__round_up((ef + 1) * sizeof(uint64_t), 64) + seen * sizeof(uint32_t) +
           4 * rv__round_up(RV__WALK_WIDTH * index->degree * sizeof(uint32_t), 64);
}

static void rv__walk_init(rv__walk *walk, const rv_hnsw *index, size_t ef, size_t seen,
                          void *memory)
{
    unsigned char *at = (unsigned char *)memory;
    size_t list = rv__round_up(RV__WALK_WIDTH * index->degree * sizeof(uint32_t), 64);
    walk->beam = (uint64_t *)(void *)at;
    at += rv__round_up((ef + 1) * sizeof(uint64_t), 64);
    walk->seen = (uint32_t *)(void *)at;
    at += seen * sizeof(uint32_t);
    walk->ids = (uint32_t *)(void *)at;
    walk->distance = (float *)(void *)(at + list);
    walk->keys = (uint64_t *)(void *)(at + 2 * list);
    walk->seen_mask = (uint32_t)seen - 1u;
    walk->n = 0;
    walk->ef = ef;
    walk->n_starts = 0;
    walk->hops = walk->distances = 0;
}

/* 1 where the node has not been seen. Whether it has cannot be foretold: no branches here, nor
   where it is called. */
RV__INLINE int rv__walk_visit(rv__walk *walk, uint32_t id)
{
    uint32_t *cell = &walk->seen[(id * 0x9E3779B1u >> 7) & walk->seen_mask];
    const int fresh = *cell != id;
    *cell = id;
    return fresh;
}

/* How many of n sorted keys are below one. Without branches on what keys are, and with few steps
   that wait for each other: halves down to 64 keys, then every eighth, then those between. */
RV__INLINE size_t rv__beam_place(const uint64_t *beam, size_t n, uint64_t key)
{
    size_t low = 0, blocks = 0, i;
    while (n > 64) {
        const size_t half = n / 2;
        low += half & (0 - (size_t)(beam[low + half - 1] < key));
        n -= half;
    }
    beam += low;
    for (i = 7; i < n; i += 8) blocks += beam[i] < key;
    low += blocks *= 8;
    n = n - blocks < 8 ? n : blocks + 8;
    for (i = blocks; i < n; i++) low += beam[i] < key;
    return low;
}

/* Puts a key into a sorted beam of *n keys, at most width; returns its position, or width when it
   does not enter. */
RV__INLINE size_t rv__beam_insert(uint64_t *beam, size_t *n, size_t width, uint64_t key)
{
    size_t low;
    if (*n == width && key >= beam[*n - 1]) return width;
    low = rv__beam_place(beam, *n, key);
    /* equal but for the mark: the node was forgotten by the table and met again */
    if (low < *n && (beam[low] | 1u) == (key | 1u)) return width;
    if (*n < width) ++*n;
    memmove(beam + low + 1, beam + low, (*n - 1 - low) * sizeof *beam);
    beam[low] = key;
    return low;
}

RV__INLINE size_t rv__walk_insert(rv__walk *walk, uint64_t key)
{
    return rv__beam_insert(walk->beam, &walk->n, walk->ef, key);
}

static uint32_t rv__hnsw_entry_slot(const rv_hnsw *index)
{
    return index->n_levels > 1 ? index->layer[index->n_levels - 1].slot[index->entry]
                               : index->entry;
}

/* Every layer is a walk of its own. */
RV__INLINE void rv__walk_forget(rv__walk *walk)
{
    memset(walk->seen, 0xFF, ((size_t)walk->seen_mask + 1u) * sizeof(uint32_t));
}

/* Beam over an upper layer from the n unmarked nodes in beam[width]; keys of nodes of that layer.
   Returns how many there are then, all marked. */
static size_t rv__descend_layer(const rv__hnsw_query *query, rv__walk *walk, uint32_t l,
                                size_t width, uint64_t *beam, size_t n)
{
    const rv_hnsw *index = query->index;
    const rv__hnsw_layer *layer = &index->layer[l];
    size_t at = 0;
    rv__walk_forget(walk);
    while (at < n) {
        const uint32_t *links = layer->links + (size_t)rv__hnsw_node(beam[at]) * index->m;
        size_t count = 0;
        beam[at++] |= 1u;
        for (uint32_t i = 0; i < index->m && links[i] != RV__NO_SLOT; i++) {
            walk->ids[count] = layer->slot[links[i]];
            walk->keys[count] = links[i];
            count += (size_t)rv__walk_visit(walk, links[i]);
        }
        rv__hnsw_distances(query, walk->ids, count, walk->distance);
        walk->distances += count;
        walk->hops++;
        for (size_t i = 0; i < count; i++) {
            const uint64_t key = rv__hnsw_key(walk->distance[i], (uint32_t)walk->keys[i]);
            const size_t place = rv__beam_insert(beam, &n, width, key);
            if (place < at) at = place;
        }
        while (at < n && (beam[at] & 1u)) at++;
    }
    return n;
}

/* Turns nodes of layer l into those of the layer below, or of layer 1 into slots; sorted again,
   because equal distances go by number. from may be to. */
static void rv__descend_step(const rv__hnsw_layer *layer, const uint64_t *from, size_t n,
                             uint64_t *to)
{
    for (size_t i = 0, count = 0; i < n; i++) {
        (void)rv__beam_insert(to, &count, n, rv__hnsw_key(rv__hnsw_key_distance(from[i]),
                                                          layer->below[rv__hnsw_node(from[i])]));
    }
}

/* The `width` nearest of all nodes of a layer into beam. Their records are asked for all at once,
   so for a small layer this is no slower than a path through it, and nothing is missed. */
static size_t rv__descend_scan(const rv__hnsw_query *query, rv__walk *walk, uint32_t l,
                               size_t width, uint64_t *beam)
{
    const rv__hnsw_layer *layer = &query->index->layer[l];
    const uint32_t step = RV__WALK_WIDTH * query->index->degree;
    size_t n = 0;
    for (uint32_t first = 0; first < layer->n; first += step) {
        uint32_t count = layer->n - first < step ? layer->n - first : step;
        rv__hnsw_distances(query, layer->slot + first, count, walk->distance);
        for (uint32_t i = 0; i < count; i++)
            (void)rv__beam_insert(beam, &n, width, rv__hnsw_key(walk->distance[i], first + i));
    }
    walk->distances += layer->n;
    return n;
}

/* The nearest node of layer 0 that the beam down the layers found, and its distance; the others are
   left in start. */
static uint32_t rv__hnsw_descend(const rv__hnsw_query *query, rv__walk *walk, float *distance)
{
    const rv_hnsw *index = query->index;
    uint32_t slot = rv__hnsw_entry_slot(index), l = index->n_levels - 1;
    size_t n;
    walk->n_starts = 0;
    if (index->n_levels <= 1) {
        rv__hnsw_distances(query, &slot, 1, distance);
        walk->distances++;
        return slot;
    }
    while (l > 1 && index->layer[l - 1].n <= RV__WALK_SCAN) l--;
    n = rv__descend_scan(query, walk, l, RV__WALK_STARTS, walk->start);
    rv__descend_step(&index->layer[l], walk->start, n, walk->start);
    while (--l > 0) {
        n = rv__descend_layer(query, walk, l, RV__WALK_STARTS, walk->start, n);
        rv__descend_step(&index->layer[l], walk->start, n, walk->start);
    }
    walk->n_starts = n;
    *distance = rv__hnsw_key_distance(walk->start[0]);
    return rv__hnsw_node(walk->start[0]);
}

/* Starts the beam at a node of layer 0 and at what else the descent found. */
static void rv__walk_start(rv__walk *walk, uint32_t node, float distance)
{
    rv__walk_forget(walk);
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
        walk->ids[n] = links[i];
        n += (size_t)rv__walk_visit(walk, links[i]);
    }
    return n;
}

/* Hops between two polls. What enters a long beam moves much of it. */
static uint64_t rv__walk_poll(const rv__walk *walk)
{
    return walk->ef < 2048 ? 1024 : 1 + 2097152u / walk->ef;
}

/* The keys of ids[n] that may enter the beam; returns how many. */
RV__INLINE size_t rv__walk_near(rv__walk *walk, size_t n)
{
    const uint64_t worst = walk->n == walk->ef ? walk->beam[walk->n - 1] : ~(uint64_t)0;
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        walk->keys[m] = rv__hnsw_key(walk->distance[i], walk->ids[i]);
        m += walk->keys[m] < worst;
    }
    return m;
}

/* Expands until every entry of the beam is expanded. Polls. */
static rv_status rv__walk_run(rv_ctx *ctx, const rv__hnsw_query *query, rv__walk *walk)
{
    const rv_hnsw *index = query->index;
    size_t at = 0;
    uint64_t next_poll = walk->hops + rv__walk_poll(walk);
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
        n = rv__walk_near(walk, n);
        for (size_t i = 0; i < n; i++) {
            size_t place = rv__walk_insert(walk, walk->keys[i]);
            if (place < walk->ef) {
                const uint32_t *links =
                    index->links + (size_t)rv__hnsw_node(walk->keys[i]) * index->degree;
                RV__PREFETCH(links);
                RV__PREFETCH(links + 16);
                if (place < first) first = place;
            }
        }
        if (first < at) at = first;
        if (walk->hops >= next_poll) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            next_poll = walk->hops + rv__walk_poll(walk);
        }
    }
    return RV_OK;
}

#endif /* RV_HNSW_SEARCH_C */
