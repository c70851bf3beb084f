#ifndef RV_FLAT_C
#define RV_FLAT_C
#include "flat.h"
#include "base.c"
#include "distance.c"
#include "image.c"
#include "store.c"

/* Rows are scanned in blocks that stay in the second cache while every query of a group of up to 16
   measures them. Each query keeps its k best in a heap, worst on top; a row enters it only when its
   distance is not above the top's, which after the first few blocks is rare. Lanes of a parallel
   search keep heaps of their own that are merged: under the total order (distance, key) the k best
   are the same set however the rows were dealt out, and blocks start at the same rows for any
   number of workers, so that the distances have the same bits.

   A filter, and removed rows when there are many, turn a block into a list of rows before
   anything is measured. Few removed rows are measured with the others and dropped when they
   would enter. */

#define RV__FLAT_GROUP 16u        /* most queries that share a block                       */
#define RV__FLAT_BLOCK_MAX 512u   /* most rows of a block                                  */
#define RV__FLAT_CACHE 131072u    /* bytes a block should not exceed, and a group's queries */
#define RV__FLAT_SMALL (4u << 20) /* bytes of rows up to which a batch is split by queries */
#define RV__FLAT_FIRST 64u        /* rows of an iterator's first scan                       */
#define RV__FLAT_LAST 1024u       /* of its largest one, or an eighth of all when that is more */
#define RV__FLAT_PIECE 4096u      /* hits moved between two polls                           */

struct rv_flat {
    rv__store store;
};

/* ---- the k nearest so far ---- */

typedef struct rv__flat_near {
    uint64_t key;
    uint32_t order; /* of the distance, see rv__order_distance */
    uint32_t slot;
} rv__flat_near;

static int rv__flat_farther(const rv__flat_near *a, const rv__flat_near *b)
{
    return a->order != b->order ? a->order > b->order : a->key > b->key;
}

static void rv__flat_sift_down(rv__flat_near *heap, size_t n, rv__flat_near item)
{
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && rv__flat_farther(&heap[child + 1], &heap[child])) child++;
        if (!rv__flat_farther(&heap[child], &item)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

/* Keeps the k nearest; k > 0. */
static void rv__flat_offer(rv__flat_near *heap, size_t *n, size_t k, rv__flat_near item)
{
    size_t at;
    if (*n == k) {
        if (rv__flat_farther(&heap[0], &item)) rv__flat_sift_down(heap, k, item);
        return;
    }
    at = (*n)++;
    while (at > 0 && rv__flat_farther(&item, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

/* A heap becomes hits, nearest first. */
static rv_status rv__flat_finish(rv_ctx *ctx, rv__flat_near *heap, size_t n, rv_hit *hits)
{
    while (n > 0) {
        rv__flat_near last = heap[0];
        rv_status status = n % RV__FLAT_PIECE ? RV_OK : rv__poll(ctx);
        if (status) return status;
        n--;
        rv__flat_sift_down(heap, n, heap[n]);
        hits[n].key = last.key;
        hits[n].distance = rv__unorder_f32(last.order);
    }
    return RV_OK;
}

/* ---- one scan: a group of queries over the rows ---- */

typedef struct rv__flat_scan {
    const rv__store *store;
    const rv_filter *filter;
    rv_isa isa;
    int ranged; /* only distances up to radius count                          */
    float radius;
    rv__flat_near after;          /* only what comes behind it counts; zero: everything does  */
    size_t k, group;              /* k: most that are kept, may be 0; group: queries of a group */
    size_t block, grain, section; /* rows of a block, of a piece of work, between two polls   */
    size_t lanes, query_bytes;
    size_t at_distance, at_ids, at_near, at_count, lane_bytes; /* layout of a lane's scratch  */
    unsigned char *memory;        /* [lanes * lane_bytes]                                       */
    const unsigned char *queries; /* a batch: [n_queries] vectors, and where results go       */
    size_t n_queries;
    rv_hit *hits; /* [n_queries, hits_stride]                                   */
    size_t hits_stride;
    size_t *n_hits;
} rv__flat_scan;

static void *rv__flat_lane(const rv__flat_scan *scan, size_t lane, size_t at)
{
    return scan->memory + lane * scan->lane_bytes + at;
}

static void *rv__flat_query(const rv__flat_scan *scan, size_t lane, size_t q)
{
    return rv__flat_lane(scan, lane, q * scan->query_bytes);
}

static rv__flat_near *rv__flat_heap(const rv__flat_scan *scan, size_t lane, size_t q)
{
    return (rv__flat_near *)rv__flat_lane(scan, lane, scan->at_near) + q * scan->k;
}

/* Two counts per query: items in the heap, rows within the radius. */
static size_t *rv__flat_count(const rv__flat_scan *scan, size_t lane, size_t q)
{
    return (size_t *)rv__flat_lane(scan, lane, scan->at_count) + 2 * q;
}

/* Offers measured rows. ids NULL: row i is slot first + i. */
static void rv__flat_collect(const rv__flat_scan *scan, size_t lane, size_t q,
                             const float *distance, const uint32_t *ids, size_t first, size_t n,
                             int check_live)
{
    rv__flat_near *heap = rv__flat_heap(scan, lane, q), item;
    size_t *count = rv__flat_count(scan, lane, q);
    uint32_t top = scan->ranged ? rv__order_distance(scan->radius) : RV__ORDER_NAN;
    float bar;
    if (!scan->ranged && *count == scan->k) top = heap[0].order;
    bar = rv__unorder_f32(top);
    for (size_t i = 0; i < n; i++) {
        /* Where the bar is a number, this is the whole cost of nearly every row. */
        if (top != RV__ORDER_NAN && !(distance[i] <= bar)) continue;
        item.order = rv__order_distance(distance[i]);
        if (item.order > top || item.order < scan->after.order) continue;
        item.slot = ids ? ids[i] : (uint32_t)(first + i);
        if (check_live && !rv__store_live(scan->store, item.slot)) continue;
        item.key = rv__store_key(scan->store, item.slot);
        if (!rv__flat_farther(&item, &scan->after)) continue;
        count[1]++;
        if (scan->k == 0) continue;
        rv__flat_offer(heap, count, scan->k, item);
        if (!scan->ranged && *count == scan->k) {
            top = heap[0].order;
            bar = rv__unorder_f32(top);
        }
    }
}

/* The rows of a block that may be returned. */
static size_t rv__flat_select(const rv__flat_scan *scan, size_t begin, size_t end, uint32_t *ids)
{
    size_t n = 0;
    for (size_t i = begin; i < end; i++) {
        uint32_t slot = (uint32_t)i;
        ids[n] = slot;
        n += (size_t)(rv__store_live(scan->store, slot) &&
                      rv__filter_pass(scan->filter, rv__store_key(scan->store, slot)));
    }
    return n;
}

/* Rows begin..end-1 for the first n_queries queries of a lane; begin is a multiple of the block. */
static void rv__flat_rows(const rv__flat_scan *scan, size_t lane, size_t n_queries, size_t begin,
                          size_t end)
{
    const rv__store *s = scan->store;
    float *distance = (float *)rv__flat_lane(scan, lane, scan->at_distance);
    uint32_t *list = (uint32_t *)rv__flat_lane(scan, lane, scan->at_ids);
    int selects = scan->filter != NULL || s->n_removed > s->n / 8;
    for (size_t at = begin; at < end; at += scan->block) {
        size_t whole = end - at < scan->block ? end - at : scan->block, n = whole;
        const uint32_t *ids = NULL;
        if (selects) {
            n = rv__flat_select(scan, at, at + whole, list);
            if (n < whole) ids = list;
        }
        for (size_t q = 0; q < n_queries && n > 0; q++) {
            rv__store_scan(s, scan->isa, rv__flat_query(scan, lane, q), ids, at, n, distance);
            rv__flat_collect(scan, lane, q, distance, ids, at, n, !selects && s->n_removed);
        }
    }
}

static void rv__flat_start(const rv__flat_scan *scan, size_t lane, size_t first, size_t n)
{
    size_t bytes = rv__store_vector_bytes(scan->store);
    for (size_t q = 0; q < n; q++) {
        rv__store_prepare(scan->store, scan->queries + (first + q) * bytes,
                          rv__flat_query(scan, lane, q));
    }
    memset(rv__flat_count(scan, lane, 0), 0, 2 * n * sizeof(size_t));
}

static rv_status rv__flat_deliver(rv_ctx *ctx, const rv__flat_scan *scan, size_t lane, size_t first,
                                  size_t n)
{
    for (size_t q = 0; q < n; q++) {
        const size_t *count = rv__flat_count(scan, lane, q);
        rv_hit *hits = scan->k ? scan->hits + (first + q) * scan->hits_stride : NULL;
        rv_status status = rv__flat_finish(ctx, rv__flat_heap(scan, lane, q), count[0], hits);
        if (status) return status;
        scan->n_hits[first + q] = scan->ranged ? count[1] : count[0];
    }
    return RV_OK;
}

typedef struct rv__flat_rows_job {
    const rv__flat_scan *scan;
    size_t n_queries;
} rv__flat_rows_job;

static void rv__flat_rows_body(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__flat_rows_job *job = (const rv__flat_rows_job *)arg;
    rv__flat_rows(job->scan, lane, job->n_queries, begin, end);
}

/* One group, parallel over rows. */
static rv_status rv__flat_by_rows(rv_ctx *ctx, const rv__flat_scan *scan, size_t first, size_t n)
{
    rv__flat_rows_job job;
    rv_status status;
    job.scan = scan;
    job.n_queries = n;
    for (size_t lane = 0; lane < scan->lanes; lane++) rv__flat_start(scan, lane, first, n);
    status =
        rv__parallel_for(ctx, scan->store->n, scan->grain, scan->section, rv__flat_rows_body, &job);
    if (status) return status;
    for (size_t lane = 1; lane < scan->lanes; lane++) {
        for (size_t q = 0; q < n; q++) {
            size_t *into = rv__flat_count(scan, 0, q), *from = rv__flat_count(scan, lane, q);
            for (size_t i = 0; i < from[0]; i++) {
                status = i % RV__FLAT_PIECE ? RV_OK : rv__poll(ctx);
                if (status) return status;
                rv__flat_offer(rv__flat_heap(scan, 0, q), into, scan->k,
                               rv__flat_heap(scan, lane, q)[i]);
            }
            into[1] += from[1];
        }
    }
    return rv__flat_deliver(ctx, scan, 0, first, n);
}

/* Groups begin..end-1 of a batch, each over all rows. */
static void rv__flat_groups_body(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__flat_scan *scan = (const rv__flat_scan *)arg;
    for (size_t g = begin; g < end; g++) {
        size_t first = g * scan->group, rest = scan->n_queries - first;
        size_t n = rest < scan->group ? rest : scan->group;
        rv__flat_start(scan, lane, first, n);
        rv__flat_rows(scan, lane, n, 0, scan->store->n);
        /* without a context there is no poll, and nothing else here can fail */
        (void)rv__flat_deliver(NULL, scan, lane, first, n);
    }
}

/* Sizes of blocks and pieces. Nothing here but the number of lanes depends on the workers. */
static void rv__flat_plan(rv_ctx *ctx, rv__flat_scan *scan)
{
    const rv__store *s = scan->store;
    size_t bytes = rv__store_vector_bytes(s), work, pieces;
    scan->group = RV__FLAT_GROUP;
    while (scan->group > 1 &&
           (scan->group * bytes > RV__FLAT_CACHE || scan->group / 2 >= scan->n_queries ||
            scan->k > RV__FLAT_CACHE / scan->group)) {
        scan->group /= 2;
    }
    scan->block = RV__FLAT_CACHE / s->stride;
    if (scan->block > RV__FLAT_BLOCK_MAX) scan->block = RV__FLAT_BLOCK_MAX;
    if (scan->block < 16) scan->block = 16;
    scan->grain = scan->block * (1 + 2 * RV__FLAT_CACHE / (scan->block * s->stride));
    /* about a millisecond: 8 MiB of rows, or 2^18 elements through a caller's function */
    work = (s->custom ? (size_t)s->dim << 5 : s->stride + 32) * scan->group;
    if (scan->k > RV__FLAT_PIECE) work += 512 * scan->group; /* every row moves a large heap */
    scan->section = ((size_t)1 << 23) / work / scan->grain * scan->grain;
    if (scan->section == 0) scan->section = scan->grain;
    pieces = (s->n + scan->grain - 1) / scan->grain;
    scan->lanes = rv__lanes(ctx);
    if (scan->lanes > pieces) scan->lanes = pieces ? pieces : 1;
}

static rv_status rv__flat_run(rv_ctx *ctx, rv__flat_scan *scan)
{
    const rv__store *s = scan->store;
    const rv_alloc alloc = rv__allocator(ctx); /* the index's own may be in use by another thread */
    size_t groups, bytes;
    rv_status status = RV_OK;
    int by_groups;
    rv__flat_plan(ctx, scan);
    groups = scan->n_queries / scan->group + (scan->n_queries % scan->group != 0);
    by_groups = rv__lanes(ctx) > 1 && groups > 1 && (size_t)s->n * s->stride <= RV__FLAT_SMALL &&
                scan->k <= RV__FLAT_PIECE; /* sorting more should poll */
    if (by_groups) scan->lanes = groups < rv__lanes(ctx) ? groups : rv__lanes(ctx);
    scan->query_bytes = rv__store_query_bytes(s);
    scan->at_distance = scan->group * scan->query_bytes;
    scan->at_ids = scan->at_distance + rv__round_up(scan->block * sizeof(float), RV__LINE);
    scan->at_count = scan->at_ids + rv__round_up(scan->block * sizeof(uint32_t), RV__LINE);
    scan->at_near = scan->at_count + rv__round_up(2 * scan->group * sizeof(size_t), RV__LINE);
    bytes = rv__mul(rv__mul(scan->group, scan->k), sizeof(rv__flat_near));
    scan->lane_bytes = rv__round_up(rv__add(scan->at_near, bytes), RV__LINE);
    scan->memory = (unsigned char *)rv__get(&alloc, scan->lanes, scan->lane_bytes);
    if (!scan->memory) return rv__no_memory(ctx, rv__mul(scan->lanes, scan->lane_bytes));
    if (by_groups) {
        size_t section = 1 + 8 * RV__FLAT_SMALL / scan->group / (1 + (size_t)s->n * s->stride);
        status = rv__parallel_for(ctx, groups, 1, section, rv__flat_groups_body, scan);
    } else {
        for (size_t first = 0; first < scan->n_queries && !status; first += scan->group) {
            size_t rest = scan->n_queries - first;
            status = rv__flat_by_rows(ctx, scan, first, rest < scan->group ? rest : scan->group);
        }
    }
    rv__put(&alloc, scan->memory, scan->lanes, scan->lane_bytes);
    return status;
}

/* ---- search ---- */

static rv_status rv__flat_null(rv_ctx *ctx, const char *what)
{
    return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
}

static rv_status rv__flat_query_all(rv_ctx *ctx, const rv_flat *index, const void *queries,
                                    size_t n_queries, size_t k, const rv_filter *filter,
                                    const float *radius, rv_hit *hits, size_t *n_hits)
{
    const rv__store *s;
    rv__flat_scan scan;
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    if (!n_hits) return rv__flat_null(ctx, "n_hits");
    if (!hits && k) return rv__flat_null(ctx, "hits");
    s = &index->store;
    status = rv__store_check_many(ctx, s, queries, n_queries, n_queries == 1 ? "query" : "queries");
    if (!status) status = rv__filter_check(ctx, filter);
    if (status) return status;
    memset(&scan, 0, sizeof scan);
    scan.store = s;
    scan.isa = ctx ? ctx->isa : RV_ISA_BEST;
    scan.filter = rv__filter_of(filter);
    scan.ranged = radius != NULL;
    scan.radius = radius ? *radius : 0.0f;
    scan.k = k < s->n - s->n_removed ? k : s->n - s->n_removed;
    scan.queries = (const unsigned char *)queries;
    scan.n_queries = n_queries;
    scan.hits = hits;
    scan.hits_stride = k;
    scan.n_hits = n_hits;
    if (scan.k == 0 && !radius) {
        for (size_t q = 0; q < n_queries; q++) n_hits[q] = 0;
        return rv__ok(ctx);
    }
    status = rv__flat_run(ctx, &scan);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_search(rv_ctx *ctx, const rv_flat *index, const void *query, size_t k,
                                const rv_filter *filter, rv_hit *hits, size_t *n_hits)
{
    return rv__flat_query_all(ctx, index, query, 1, k, filter, NULL, hits, n_hits);
}

RV_API rv_status rv_flat_range(rv_ctx *ctx, const rv_flat *index, const void *query, float radius,
                               const rv_filter *filter, rv_hit *hits, size_t cap, size_t *n_hits)
{
    if (rv__order_distance(radius) == RV__ORDER_NAN) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "radius is NaN, it must be a number");
    }
    return rv__flat_query_all(ctx, index, query, 1, cap, filter, &radius, hits, n_hits);
}

RV_API rv_status rv_flat_search_batch(rv_ctx *ctx, const rv_flat *index, const void *queries,
                                      size_t n_queries, size_t k, const rv_filter *filter,
                                      rv_hit *hits, size_t *n_hits)
{
    if (index && n_queries == 0) return rv__ok(ctx);
    return rv__flat_query_all(ctx, index, queries, n_queries, k, filter, NULL, hits, n_hits);
}

/* ---- iterator: searches of growing k, each for what comes behind the last one's hits ---- */

/* The instruction set is that of creation: in another one a distance has other bits, and a row
   beside the last hit could be given twice or never. */
struct rv_flat_iter {
    rv_alloc alloc;
    rv_filter filter;
    rv__flat_scan scan; /* of one query, the vector at the end of this block */
    size_t bytes;       /* of this block                                     */
    size_t batch, left; /* rows to ask for next, most that are still to come */
    rv_hit *hits;       /* [room] of the last scan                           */
    size_t room, n_hits, next;
};

RV_API rv_status rv_flat_iter_create(rv_ctx *ctx, const rv_flat *index, const void *query,
                                     const rv_filter *filter, rv_flat_iter **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_flat_iter *iter;
    rv_status status;
    size_t vector, head = rv__round_up(sizeof *iter, RV__LINE);
    if (!index) return rv__flat_null(ctx, "index");
    if (!out) return rv__flat_null(ctx, "out");
    status = rv__store_check(ctx, &index->store, query, "query");
    if (!status) status = rv__filter_check(ctx, filter);
    if (status) return status;
    vector = rv__store_vector_bytes(&index->store);
    iter = (rv_flat_iter *)rv__get(&alloc, head + vector, 1);
    if (!iter) return rv__no_memory(ctx, head + vector);
    memset(iter, 0, sizeof *iter);
    memcpy((unsigned char *)iter + head, query, vector);
    iter->alloc = alloc;
    iter->bytes = head + vector;
    iter->batch = RV__FLAT_FIRST;
    iter->left = rv_flat_count(index);
    if (filter) iter->filter = *filter;
    iter->scan.store = &index->store;
    iter->scan.filter = rv__filter_of(&iter->filter);
    iter->scan.isa = ctx ? ctx->isa : RV_ISA_BEST;
    iter->scan.queries = (const unsigned char *)iter + head;
    iter->scan.n_queries = 1;
    *out = iter;
    return rv__ok(ctx);
}

/* Finds the next hits; RV_DONE when there are no more. A scan that fails leaves no trace. */
static rv_status rv__flat_iter_scan(rv_ctx *ctx, rv_flat_iter *iter)
{
    const size_t k = iter->batch < iter->left ? iter->batch : iter->left;
    size_t most = iter->scan.store->n / 8, found = 0;
    rv_status status;
    if (k == 0) return RV_DONE;
    if (k > iter->room) {
        rv_hit *hits = (rv_hit *)rv__get(&iter->alloc, k, sizeof(rv_hit));
        if (!hits) return rv__no_memory(ctx, k * sizeof(rv_hit));
        rv__put(&iter->alloc, iter->hits, iter->room, sizeof(rv_hit));
        iter->hits = hits;
        iter->room = k;
    }
    iter->scan.k = k;
    iter->scan.hits = iter->hits;
    iter->scan.n_hits = &found;
    status = rv__flat_run(ctx, &iter->scan);
    if (status) return status;
    iter->n_hits = found;
    iter->next = 0;
    iter->left = found < k ? 0 : iter->left - k;
    if (most < RV__FLAT_LAST) most = RV__FLAT_LAST;
    iter->batch = 4 * iter->batch < most ? 4 * iter->batch : most;
    if (found == 0) return RV_DONE;
    iter->scan.after.order = rv__order_distance(iter->hits[found - 1].distance);
    iter->scan.after.key = iter->hits[found - 1].key;
    return RV_OK;
}

RV_API rv_status rv_flat_iter_next(rv_ctx *ctx, rv_flat_iter *iter, rv_hit *hit)
{
    if (!iter) return rv__flat_null(ctx, "iter");
    if (!hit) return rv__flat_null(ctx, "hit");
    if (iter->next == iter->n_hits) {
        rv_status status = rv__flat_iter_scan(ctx, iter);
        if (status) return status == RV_DONE ? rv__done(ctx) : status;
    }
    *hit = iter->hits[iter->next++];
    return rv__ok(ctx);
}

RV_API void rv_flat_iter_destroy(rv_flat_iter *iter)
{
    rv_alloc alloc;
    if (!iter) return;
    alloc = iter->alloc;
    rv__put(&alloc, iter->hits, iter->room, sizeof(rv_hit));
    rv__put(&alloc, iter, iter->bytes, 1);
}

/* ---- the rest ---- */

static rv_status rv__flat_place(rv_ctx *ctx, const rv__store *store, rv_flat **out)
{
    rv_flat *index = (rv_flat *)rv__get(&store->alloc, 1, sizeof(rv_flat));
    if (!index) return rv__no_memory(ctx, sizeof(rv_flat));
    index->store = *store;
    *out = index;
    return rv__ok(ctx);
}

RV_API rv_status rv_flat_create(rv_ctx *ctx, const rv_flat_config *config, rv_flat **out)
{
    rv__store_spec spec;
    rv__store store;
    rv_status status;
    if (!config) return rv__flat_null(ctx, "config");
    if (!out) return rv__flat_null(ctx, "out");
    memset(&spec, 0, sizeof spec);
    spec.dim = config->dim;
    spec.metric = config->metric;
    spec.type = config->type;
    spec.custom = config->custom;
    spec.custom_user = config->custom_user;
    spec.capacity = config->capacity;
    status = rv__store_init(ctx, &store, &spec);
    if (status) return status;
    status = rv__flat_place(ctx, &store, out);
    if (status) rv__store_free(&store);
    return status;
}

RV_API void rv_flat_destroy(rv_flat *index)
{
    rv_alloc alloc;
    if (!index) return;
    alloc = index->store.alloc;
    rv__store_free(&index->store);
    rv__put(&alloc, index, 1, sizeof(rv_flat));
}

RV_API rv_status rv_flat_add(rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector)
{
    uint32_t slot;
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_add(ctx, &index->store, key, vector, &slot);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_build(rv_ctx *ctx, rv_flat *index, const uint64_t *keys,
                               const void *vectors, size_t n)
{
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_append(ctx, &index->store, keys, vectors, n);
    return status ? status : rv__ok(ctx);
}

/* Slot of a key that must be there. */
static rv_status rv__flat_find(rv_ctx *ctx, const rv_flat *index, uint64_t key, uint32_t *slot)
{
    if (!index) return rv__flat_null(ctx, "index");
    return rv__store_require(ctx, &index->store, key, slot);
}

RV_API rv_status rv_flat_update(rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector)
{
    uint32_t slot;
    rv_status status = rv__flat_find(ctx, index, key, &slot);
    if (!status) status = rv__store_replace(ctx, &index->store, slot, vector);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_upsert(rv_ctx *ctx, rv_flat *index, uint64_t key, const void *vector)
{
    if (rv_flat_contains(index, key)) return rv_flat_update(ctx, index, key, vector);
    return rv_flat_add(ctx, index, key, vector);
}

RV_API rv_status rv_flat_remove(rv_ctx *ctx, rv_flat *index, uint64_t key)
{
    uint32_t slot;
    rv_status status = rv__flat_find(ctx, index, key, &slot);
    if (!status) status = rv__store_remove(ctx, &index->store, slot);
    return status ? status : rv__ok(ctx);
}

RV_API int rv_flat_contains(const rv_flat *index, uint64_t key)
{
    return index && rv__store_find(&index->store, key) != RV__NO_SLOT;
}

RV_API rv_status rv_flat_get(rv_ctx *ctx, const rv_flat *index, uint64_t key, void *out)
{
    uint32_t slot;
    rv_status status = rv__flat_find(ctx, index, key, &slot);
    if (status) return status;
    if (!out) return rv__flat_null(ctx, "out");
    rv__store_decode(&index->store, slot, out);
    return rv__ok(ctx);
}

RV_API size_t rv_flat_count(const rv_flat *index)
{
    return index ? index->store.n - index->store.n_removed : 0;
}

RV_API size_t rv_flat_bytes(const rv_flat *index)
{
    return index ? sizeof(rv_flat) + rv__store_bytes(&index->store) : 0;
}

RV_API rv_status rv_flat_reserve(rv_ctx *ctx, rv_flat *index, size_t capacity)
{
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_reserve(ctx, &index->store, capacity);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_flat_compact(rv_ctx *ctx, rv_flat *index)
{
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    status = rv__store_compact(ctx, &index->store, NULL);
    return status ? status : rv__ok(ctx);
}

/* ---- images: kind FLAT, the sections of the rows and no others ---- */

RV_API rv_status rv_flat_save(rv_ctx *ctx, const rv_flat *index, void *image, size_t cap,
                              size_t *bytes)
{
    rv__image_writer w;
    if (!index) return rv__flat_null(ctx, "index");
    if (!bytes) return rv__flat_null(ctx, "bytes");
    rv__image_begin(ctx, &w, "FLAT", image, cap);
    (void)rv__store_save(&w, &index->store);
    return rv__image_end(ctx, &w, bytes);
}

static rv_status rv__flat_open(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                               void *custom_user, int view, rv_flat **out)
{
    rv__image_reader r;
    rv__store store;
    rv_status status;
    if (!out) return rv__flat_null(ctx, "out");
    status = rv__image_open(ctx, &r, image, bytes, "FLAT");
    if (!status) status = rv__store_load(ctx, &r, view, custom, custom_user, &store);
    if (status) return status;
    if (store.no_rows) {
        status = rv__fail(ctx, RV_ERR_FORMAT, 0, "the image of a flat index has no rows");
    } else {
        status = rv__flat_place(ctx, &store, out);
    }
    if (status) rv__store_free(&store);
    return status;
}

RV_API rv_status rv_flat_load(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_flat **out)
{
    return rv__flat_open(ctx, image, bytes, custom, custom_user, 0, out);
}

RV_API rv_status rv_flat_view(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_flat **out)
{
    return rv__flat_open(ctx, image, bytes, custom, custom_user, 1, out);
}

/* ---- stats and proof ---- */

RV_API void rv_flat_stats_get(const rv_flat *index, rv_flat_stats *stats)
{
    const rv__store *s;
    if (!stats) return;
    memset(stats, 0, sizeof *stats);
    if (!index) return;
    s = &index->store;
    stats->count = rv_flat_count(index);
    stats->removed = s->n_removed;
    stats->capacity = s->capacity;
    stats->row_bytes = s->stride;
    rv__store_measure(s, &stats->vector_bytes, &stats->key_bytes);
    stats->total_bytes = sizeof *index + stats->vector_bytes + stats->key_bytes;
}

static rv_status rv__flat_fault(rv_ctx *ctx, size_t slot, const char *what)
{
    return rv__fail(ctx, RV_ERR_FORMAT, slot, "row %z %s", slot, what);
}

/* Marks of removed rows: as many as there are said to be, none behind the last row. */
static rv_status rv__flat_check_removed(rv_ctx *ctx, const rv__store *s)
{
    size_t marks = 0, places = 64 * rv__store_words(s->capacity);
    for (size_t i = 0; s->removed && i < places; i++) {
        if (i % 65536 == 0) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
        if (!(s->removed[i / 64] >> (i % 64) & 1u)) continue;
        if (i >= s->n) return rv__flat_fault(ctx, i, "is removed but was never there");
        if (i < s->hint) return rv__flat_fault(ctx, i, "is removed but its room would stay empty");
        marks++;
    }
    if (marks == s->n_removed) return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, s->n, "%z rows are marked as removed, %z were", marks,
                    (size_t)s->n_removed);
}

/* The map leads to live rows only and has an empty place, before a search walks through it; then
   every live row is found by its key. */
static rv_status rv__flat_check_keys(rv_ctx *ctx, const rv__store *s)
{
    size_t entries = 0;
    rv_status status = RV_OK;
    if (!s->keys) return RV_OK;
    for (size_t i = 0; i < s->map_size && !status; i++) {
        if (i % 65536 == 0) status = rv__poll(ctx);
        if (s->map[i] == RV__NO_SLOT) continue;
        if (!rv__store_live(s, s->map[i])) {
            return rv__flat_fault(ctx, s->map[i], "has a key but is not there");
        }
        entries++;
    }
    if (status) return status;
    if (entries != s->n - s->n_removed || (s->n && entries == s->map_size)) {
        return rv__fail(ctx, RV_ERR_FORMAT, s->n, "%z keys for %z rows", entries,
                        (size_t)(s->n - s->n_removed));
    }
    for (uint32_t slot = 0; slot < s->n && !status; slot++) {
        if (slot % 65536 == 0) status = rv__poll(ctx);
        if (rv__store_live(s, slot) && rv__store_find(s, s->keys[slot]) != slot) {
            return rv__flat_fault(ctx, slot, "is not found by its key");
        }
    }
    return status;
}

RV_API rv_status rv_flat_check(rv_ctx *ctx, const rv_flat *index)
{
    const rv__store *s;
    rv_status status;
    if (!index) return rv__flat_null(ctx, "index");
    s = &index->store;
    if (s->n > s->capacity || s->n_removed > s->n || (s->n && !s->rows) ||
        (s->n && (s->metric == RV_METRIC_COSINE) != (s->norms != NULL))) {
        return rv__fail(ctx, RV_ERR_FORMAT, s->n, "%z rows, %z of them removed, in room for %z",
                        (size_t)s->n, (size_t)s->n_removed, (size_t)s->capacity);
    }
    status = rv__flat_check_removed(ctx, s);
    if (!status) status = rv__flat_check_keys(ctx, s);
    if (!status) status = rv__store_check_rows(ctx, s);
    return status ? status : rv__ok(ctx);
}

#undef RV__FLAT_FIRST
#undef RV__FLAT_LAST
#undef RV__FLAT_GROUP
#undef RV__FLAT_BLOCK_MAX
#undef RV__FLAT_CACHE
#undef RV__FLAT_PIECE
#undef RV__FLAT_SMALL
#endif /* RV_FLAT_C */
