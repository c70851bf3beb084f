#ifndef RV_HNSW_QUERY_C
#define RV_HNSW_QUERY_C
#include "hnsw.h"
#include "base.c"
#include "topk.c"
#include "image.c"
#include "store.c"
#include "code.c"
#include "hnsw.c"
#include "hnsw_search.c"

/* Search as the caller sees it: plain, filtered, many queries at once.

   Every query is one of three:
   - walk: the beam is the result. Rows have not been removed and nothing filters.
   - walk with a pool: the beam leads through all nodes, the pool beside it keeps the rows that may
     be returned, and the walk ends when the nearest entry not yet expanded is farther than the
     worst of a full pool. The beam is long enough for the share of rows that pass.
   - scan: so few rows pass that looking at each of them costs less than such a walk.
   A walk that ends before its pool is full, or whose beam is too short for the distance at which
   rows pass, because the filter lets only rows far from the query through, is followed by a scan.
   The beam is limited so that both together cost about twice the scan. So a filter that knows the
   query costs time, not recall.

   The share that passes is counted for small sets, sampled for large ones, or told by the caller.
   What is ranked at the end are the vectors of the best candidates.

   Compared with ACORN (Patel et al., 2024), which looks through the links of neighbours that do not
   pass: with codes of one to four cache lines a distance costs as much as looking a link list up,
   so that measuring the nodes in between is no dearer than stepping over them. */

#define RV__HNSW_EF 40u /* beam when the caller does not say */
#define RV__HNSW_EF_MAX (1u << 20)
#define RV__RANK_SIGMA 3.0f /* deviations of an estimate that count as its usual error */

/* ---- ranking ---- */

/* Candidates that may be ranked by their vectors when the caller does not say. */
static size_t rv__hnsw_rerank(const rv_hnsw *index, size_t k, size_t wanted, size_t n)
{
    size_t count = wanted ? wanted : 2 * k + 16 + n / 2;
    if (!rv__hnsw_coded(index) || index->store.no_rows) count = k;
    if (count < k) count = k;
    return count < n ? count : n;
}

/* Puts n more rows into sorted hits; the input is nearly sorted already. */
static void rv__hnsw_take(const rv_hnsw *index, const uint32_t *ids, const float *distance,
                          size_t n, rv_hit *hits, size_t n_hits)
{
    for (size_t i = 0; i < n; i++, n_hits++) {
        rv_hit hit;
        size_t j = n_hits;
        hit.key = rv__store_key(&index->store, ids[i]);
        hit.distance = distance[i];
        for (; j > 0 && rv__hit_before(&hit, &hits[j - 1]); j--) hits[j] = hits[j - 1];
        hits[j] = hit;
    }
}

/* What the walk says of keys[count], as distances of the metric. ids, distance: [count]. */
static void rv__hnsw_estimates(const rv__hnsw_query *query, const uint64_t *keys, size_t count,
                               uint32_t *ids, float *distance)
{
    const rv_hnsw *index = query->index;
    for (size_t i = 0; i < count; i++) {
        float d = rv__hnsw_key_distance(keys[i]);
        if (rv__hnsw_coded(index)) {
            if (index->store.metric != RV_METRIC_IP && d < 0.0f) d = 0.0f;
            if (index->store.metric == RV_METRIC_COSINE && d > 2.0f) d = 2.0f;
        }
        ids[i] = rv__hnsw_node(keys[i]);
        distance[i] = d;
    }
}

/* Errors of the estimates seen so far. */
typedef struct rv__hnsw_errors {
    float sum, squares;
    size_t n;
} rv__hnsw_errors;

static void rv__hnsw_errors_add(rv__hnsw_errors *errors, const uint64_t *keys,
                                const float *distance, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float error = rv__hnsw_key_distance(keys[i]) - distance[i];
        errors->sum += error;
        errors->squares += error * error;
    }
    errors->n += n;
}

/* How far an estimate may lie above its distance. */
static float rv__hnsw_margin(const rv__hnsw_errors *errors)
{
    const float mean = errors->sum / (float)errors->n;
    const float square = errors->squares / (float)errors->n - mean * mean;
    return mean + RV__RANK_SIGMA * (square > 0.0f ? sqrtf(square) : 0.0f);
}

#define RV__RANK_STEP 4u     /* rows measured between two looks at the margin                    */
#define RV__RANK_MANY 1024u  /* rows that are ranked in a heap, and measured between two polls    */

/* Exact distances of keys[count], or what the codes say when there are no vectors. ids, distance:
   [count]. Polls. */
RV__FN rv_status rv__hnsw_exact(rv_ctx *ctx, const rv__hnsw_query *query, const uint64_t *keys,
                                size_t count, uint32_t *ids, float *distance)
{
    const int measure = rv__hnsw_coded(query->index) && !query->index->store.no_rows;
    for (size_t at = 0; at < count; at += RV__RANK_MANY) {
        const size_t n = count - at < RV__RANK_MANY ? count - at : RV__RANK_MANY;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        rv__hnsw_estimates(query, keys + at, n, ids + at, distance + at);
        if (!measure) continue;
        rv__store_scan(&query->index->store, query->isa, query->exact, ids + at, 0, n,
                       distance + at);
    }
    return RV_OK;
}

/* rv__hnsw_rank for so many that keeping them in order would cost more than measuring: the k best
   in a heap. */
static rv_status rv__hnsw_rank_many(rv_ctx *ctx, const rv__hnsw_query *query, const uint64_t *keys,
                                    size_t count, size_t k, int early, uint32_t *ids,
                                    float *distance, rv_hit *all, size_t *measured)
{
    const int measure = rv__hnsw_coded(query->index) && !query->index->store.no_rows;
    rv__hnsw_errors errors = {0.0f, 0.0f, 0};
    size_t n = 0;
    while (n < count) {
        const size_t step = count - n < RV__RANK_MANY ? count - n : RV__RANK_MANY;
        rv_status status = rv__hnsw_exact(ctx, query, keys + n, step, ids + n, distance + n);
        if (status) return status;
        for (size_t i = n; i < n + step; i++) {
            rv_hit hit;
            hit.key = rv__store_key(&query->index->store, ids[i]);
            hit.distance = distance[i];
            rv__hits_offer(all, k, i, hit);
        }
        if (measure) rv__hnsw_errors_add(&errors, keys + n, distance + n, step);
        n += step;
        if (measure && early && n >= k && n < count &&
            rv__hnsw_key_distance(keys[n]) - rv__hnsw_margin(&errors) > all[0].distance)
            break;
    }
    *measured = measure ? n : 0;
    return rv__hits_sort(ctx, all, k < n ? k : n);
}

/* Turns the first count of sorted keys into at most k hits: all of them are measured, or with
   `early` those whose estimates, less their usual error, reach the k-th distance found so far. A
   row costs dim / 16 cache lines, as much as the walk spends on a dozen nodes. all, ids, distance:
   [count]. *n_hits: the hits; *measured: exact distances. */
static rv_status rv__hnsw_rank(rv_ctx *ctx, const rv__hnsw_query *query, const uint64_t *keys,
                               size_t count, size_t k, int early, uint32_t *ids, float *distance,
                               rv_hit *all, rv_hit *hits, size_t *n_hits, size_t *measured)
{
    const rv_hnsw *index = query->index;
    size_t n = 0;
    if (count > RV__RANK_MANY) {
        rv_status status =
            rv__hnsw_rank_many(ctx, query, keys, count, k, early, ids, distance, all, measured);
        if (status) return status;
        n = count;
    } else if (rv__hnsw_coded(index) && !index->store.no_rows) {
        rv__hnsw_errors errors = {0.0f, 0.0f, 0};
        size_t step = early && k + RV__RANK_STEP < count ? k + RV__RANK_STEP : count;
        rv__hnsw_estimates(query, keys, count, ids, distance);
        while (n < count) {
            rv__store_scan(&index->store, query->isa, query->exact, ids + n, 0, step, distance + n);
            rv__hnsw_take(index, ids + n, distance + n, step, all, n);
            rv__hnsw_errors_add(&errors, keys + n, distance + n, step);
            n += step;
            if (n >= count) break;
            if (rv__hnsw_key_distance(keys[n]) - rv__hnsw_margin(&errors) > all[k - 1].distance)
                break;
            step = count - n < RV__RANK_STEP ? count - n : RV__RANK_STEP;
        }
        *measured = n;
    } else {
        rv__hnsw_estimates(query, keys, count, ids, distance);
        rv__hnsw_take(index, ids, distance, count, all, 0);
        n = count;
        *measured = 0;
    }
    *n_hits = k < n ? k : n;
    memcpy(hits, all, *n_hits * sizeof *hits);
    return RV_OK;
}

/* ---- what passes ---- */

/* The share of rows a filter lets through and what asking costs, in distances. */
typedef struct rv__hnsw_share {
    double share;
    double test;
} rv__hnsw_share;

static int rv__hnsw_pass(const rv_hnsw *index, const rv_filter *filter, uint32_t slot)
{
    return rv__store_live(&index->store, slot) &&
           rv__filter_pass(filter, rv__store_key(&index->store, slot));
}

/* Slots base .. base + 63 that are live and, where keys are slots, in the filter's bits. */
static uint64_t rv__hnsw_pass_word(const rv_hnsw *index, const rv_filter *filter, uint32_t base)
{
    const rv__store *store = &index->store;
    uint32_t left = store->n - base;
    uint64_t word = left < 64 ? ((uint64_t)1 << left) - 1u : ~(uint64_t)0;
    if (store->removed) word &= ~store->removed[base / 64];
    if (filter && filter->bits && !store->keys) {
        uint64_t bits = 0, first = base / 8, bytes = (filter->n_bits + 7) / 8;
        if (first + 8 <= bytes) {
            bits = rv__image_u64(filter->bits + (size_t)first);
        } else {
            for (uint64_t i = 0; first + i < bytes; i++) {
                bits |= (uint64_t)filter->bits[(size_t)(first + i)] << (8 * i);
            }
        }
        if (filter->n_bits < base) bits = 0;
        else if (filter->n_bits - base < 64) bits &= ((uint64_t)1 << (filter->n_bits - base)) - 1u;
        word &= bits;
    }
    return word;
}

static uint32_t rv__hnsw_count_bits(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555ull;
    x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
    return (uint32_t)((x * 0x0101010101010101ull) >> 56);
}

#define RV__SHARE_SAMPLE 512u /* slots, or half as many words of 64 slots, looked at */

/* Standard deviation 0.4 % at a share of 1 %, 2 % at 50 %; an eighth of that for bits over slots,
   which are taken by whole words. Places are scattered, as a period of the keys must not meet one
   of the sample. */
static double rv__hnsw_sample(const rv_hnsw *index, const rv_filter *filter)
{
    const uint32_t n = index->store.n, words = (n + 63) / 64;
    const int by_word = filter->bits && !filter->accept && !index->store.keys;
    uint64_t passed = 0, seen = 0;
    const uint32_t most = by_word ? RV__SHARE_SAMPLE / 2 : RV__SHARE_SAMPLE,
                   total = by_word ? words : n;
    const uint32_t count = total < most ? total : most;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        if (count < total) at = (uint32_t)((rv__mix(i) >> 32) * total >> 32);
        if (by_word) {
            passed += rv__hnsw_count_bits(rv__hnsw_pass_word(index, filter, at * 64));
            seen += n - at * 64 < 64 ? n - at * 64 : 64;
        } else {
            passed += (uint64_t)(rv__hnsw_pass(index, filter, at) != 0);
            seen++;
        }
    }
    return (double)passed / (double)seen;
}

static rv__hnsw_share rv__hnsw_measure(const rv_hnsw *index, const rv_filter *filter)
{
    const double live = (double)rv_hnsw_count(index) / (double)index->store.n;
    rv__hnsw_share result;
    result.share = live;
    result.test = 0.01;
    if (!filter) return result;
    if (filter->selectivity > 0) result.share = live * filter->selectivity;
    else result.share = rv__hnsw_sample(index, filter);
    if (filter->accept) result.test = 0.2;
    else if (index->store.keys) result.test = 0.1;
    return result;
}

/* ---- plans ---- */

/* All about a search that is the same for every query of a batch. */
typedef struct rv__hnsw_plan {
    const rv_hnsw *index;
    const rv_filter *filter; /* NULL: everything passes */
    rv_isa isa;
    size_t k;
    size_t ef;    /* entries of the beam */
    size_t pool;  /* entries of the pool; 0: the beam is the result */
    size_t count; /* candidates that may be ranked by their vectors */
    int early;    /* fewer do when their estimates allow */
    int scan;     /* do not walk */
    double cost;  /* of a query, in distances */
    size_t query_bytes, walk_bytes, pool_bytes, bytes; /* of the scratch of one query */
} rv__hnsw_plan;

/* Chooses between walk and scan. A hop costs the distances of about three quarters of its links.
   Where a share s passes, a walk that fills a pool of p rows expands about p / s nodes. The k-th
   row that passes is about the k / s-th of all, and what a beam must hold beyond the wanted row
   grows slower than its rank: a pool of k + (ef - k) sqrt(s) gives, measured at 1e5 rows of 128
   and 768 dimensions, at every s about the recall that a beam of ef gives without a filter. */
static void rv__hnsw_choose(rv__hnsw_plan *plan, size_t rerank)
{
    const rv_hnsw *index = plan->index;
    const double n = (double)index->store.n, hop = 0.75 * index->degree + 4.0;
    const rv__hnsw_share share = rv__hnsw_measure(index, plan->filter);
    const double scan = n * share.test + 0.7 * n * share.share + 64.0;
    const double slack = (double)(plan->ef - plan->k) * sqrt(share.share);
    size_t least = plan->k + plan->k / 2 + 4;
    double length = n, most;
    plan->pool = plan->k + (size_t)slack;
    if (plan->pool < least) plan->pool = least < plan->ef ? least : plan->ef;
    if (share.share * n > 1.0) length = (double)plan->pool / share.share;
    plan->cost = length * hop;
    if (1.3 * plan->cost >= scan) { /* long beams are slower, and a walk may fail */
        plan->scan = 1;
        plan->cost = scan;
        plan->pool = plan->ef < 64 ? 64 : plan->ef; /* so few matches are all ranked exactly */
        plan->count = rv__hnsw_rerank(index, plan->k, rerank, plan->pool);
        plan->ef = 1;
        return;
    }
    if (plan->count > plan->pool) plan->count = plan->pool;
    length = 2.0 * length + 32.0;
    most = scan / hop + 2.0 * (double)plan->ef;
    if (length > most) length = most;
    plan->ef = length < n ? (size_t)length : index->store.n;
    if (plan->ef < plan->pool) plan->ef = plan->pool;
}

static rv_status rv__hnsw_check_options(rv_ctx *ctx, const rv_hnsw_options *options)
{
    if (options && options->ef > RV__HNSW_EF_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "ef is %z, must be at most 1048576",
                        (size_t)options->ef);
    }
    return rv__filter_check(ctx, options ? options->filter : NULL);
}

/* k must be 1 .. rv_hnsw_count, the options checked. */
static void rv__hnsw_plan_make(const rv_ctx *ctx, const rv_hnsw *index, size_t k,
                               const rv_hnsw_options *options, rv__hnsw_plan *plan)
{
    const rv_filter *filter = options ? options->filter : NULL;
    size_t best, rerank;
    if (filter && !filter->bits && !filter->accept) filter = NULL;
    memset(plan, 0, sizeof *plan);
    plan->index = index;
    plan->filter = filter;
    plan->isa = ctx ? ctx->isa : RV_ISA_BEST;
    plan->k = k;
    plan->ef = options && options->ef ? options->ef : RV__HNSW_EF;
    if (plan->ef < k) plan->ef = k;
    if (plan->ef > rv_hnsw_count(index)) plan->ef = rv_hnsw_count(index);
    plan->cost = (double)plan->ef * index->degree;
    rerank = options ? options->rerank : 0;
    plan->count = rv__hnsw_rerank(index, k, rerank, plan->ef);
    plan->early = !options || options->rerank == 0;
    if (filter || index->store.n_held) rv__hnsw_choose(plan, rerank);
    best = plan->pool ? plan->pool : plan->ef;
    plan->query_bytes = rv__round_up(rv__hnsw_query_bytes(index), 64);
    plan->walk_bytes = rv__round_up(rv__walk_bytes(index, plan->ef, rv__walk_seen(plan->ef)), 64);
    plan->pool_bytes = plan->pool ? rv__round_up((plan->pool + 1) * sizeof(uint64_t), 64) : 0;
    plan->bytes = rv__round_up(best * (sizeof(rv_hit) + sizeof(uint32_t) + sizeof(float)), 64);
    plan->bytes += plan->query_bytes + plan->walk_bytes + plan->pool_bytes;
}

/* ---- one query ---- */

typedef struct rv__hnsw_run {
    const rv__hnsw_plan *plan;
    rv__hnsw_query query;
    rv__walk walk;
    rv__walk pool; /* its beam, n and ef only */
} rv__hnsw_run;

static void rv__hnsw_offer(const rv__hnsw_run *run, rv__walk *pool, uint64_t key)
{
    if (pool->n == pool->ef && key >= pool->beam[pool->n - 1]) return;
    if (!rv__hnsw_pass(run->plan->index, run->plan->filter, rv__hnsw_node(key))) return;
    (void)rv__walk_insert(pool, key);
}

/* The walk with a pool. As in rv__walk_run two entries are expanded at a time. What is farther than
   the worst of a full pool is of no use to beam or pool. */
static rv_status rv__hnsw_walk_pool(rv_ctx *ctx, rv__hnsw_run *run)
{
    const rv_hnsw *index = run->plan->index;
    rv__walk *walk = &run->walk, *pool = &run->pool;
    uint64_t next_poll = walk->hops + rv__walk_poll(walk);
    size_t at = 0;
    for (size_t i = 0; i < walk->n; i++) rv__hnsw_offer(run, pool, walk->beam[i]);
    while (at < walk->n) {
        size_t n = 0, first = walk->n, taken = 0;
        for (size_t i = at; i < walk->n && taken < RV__WALK_WIDTH; i++) {
            if (walk->beam[i] & 1u) continue;
            if (pool->n == pool->ef && walk->beam[i] > pool->beam[pool->n - 1]) break;
            walk->beam[i] |= 1u;
            n = rv__walk_collect(index, walk, rv__hnsw_node(walk->beam[i]), n);
            taken++;
            at = i + 1;
        }
        if (!taken) break;
        walk->hops += taken;
        walk->distances += n;
        rv__hnsw_distances(&run->query, walk->ids, n, walk->distance);
        for (size_t i = 0; i < n; i++) {
            const uint64_t key = rv__hnsw_key(walk->distance[i], walk->ids[i]);
            size_t place;
            if (pool->n == pool->ef && key >= pool->beam[pool->n - 1]) continue;
            rv__hnsw_offer(run, pool, key);
            place = rv__walk_insert(walk, key);
            if (place == walk->ef) continue;
            RV__PREFETCH(index->links + (size_t)walk->ids[i] * index->degree);
            RV__PREFETCH(index->links + (size_t)walk->ids[i] * index->degree + 16);
            if (place < first) first = place;
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

/* Whether rows nearer than the worst of the pool may have been missed: it is not full, or the beam
   was too short for the distance at which rows pass. */
static int rv__hnsw_fell_short(const rv__hnsw_run *run)
{
    const rv__walk *walk = &run->walk, *pool = &run->pool;
    if (pool->n < pool->ef) return 1;
    return walk->n == walk->ef && walk->n < run->plan->index->store.n &&
           walk->beam[walk->n - 1] < pool->beam[pool->n - 1];
}

static void rv__hnsw_scan_ids(rv__hnsw_run *run, size_t n)
{
    rv__walk *walk = &run->walk, *pool = &run->pool;
    rv__hnsw_distances(&run->query, walk->ids, n, walk->distance);
    for (size_t i = 0; i < n; i++) {
        (void)rv__walk_insert(pool, rv__hnsw_key(walk->distance[i], walk->ids[i]));
    }
    walk->distances += n;
}

/* Measures every row that passes. *matches: how many do. */
static rv_status rv__hnsw_scan(rv_ctx *ctx, rv__hnsw_run *run, size_t *matches)
{
    const rv_hnsw *index = run->plan->index;
    const rv_filter *filter = run->plan->filter;
    const int ask = filter && (filter->accept || index->store.keys);
    const size_t most = (size_t)RV__WALK_WIDTH * index->degree;
    /* a row that enters a long pool moves half of it */
    const size_t step = run->pool.ef < 1024 ? 65536 : 64 + (1u << 23) / run->pool.ef;
    size_t n = 0, total = 0, next_poll = step;
    run->pool.n = 0;
    for (uint32_t base = 0; base < index->store.n; base += 64) {
        uint64_t word = rv__hnsw_pass_word(index, filter, base);
        for (; word; word &= word - 1) {
            uint32_t slot = base + rv__hnsw_count_bits((word & (~word + 1u)) - 1u);
            if (ask && !rv__filter_pass(filter, rv__store_key(&index->store, slot))) continue;
            run->walk.ids[n++] = slot;
            total++;
            if (n == most) {
                rv__hnsw_scan_ids(run, n);
                n = 0;
            }
        }
        if (total + base >= next_poll) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            next_poll = total + base + step;
        }
    }
    rv__hnsw_scan_ids(run, n);
    *matches = total;
    return RV_OK;
}

/* Answers one query that has been checked. memory: [plan->bytes]; trace may be NULL and is added
   to. hits: [k]. */
static rv_status rv__hnsw_run_query(rv_ctx *ctx, const rv__hnsw_plan *plan, unsigned char *memory,
                                    const void *vector, rv_hnsw_trace *trace, rv_hit *hits,
                                    size_t *n_hits)
{
    const rv_hnsw *index = plan->index;
    unsigned char *at = memory + plan->query_bytes;
    size_t best = plan->pool ? plan->pool : plan->ef, count = plan->count, found = 0, measured;
    int scanned = plan->scan;
    rv_hit *all;
    uint32_t *ids;
    rv__hnsw_run run;
    rv_status status = RV_OK;
    run.plan = plan;
    run.query.index = index;
    run.query.isa = plan->isa;
    run.query.kernels = rv__kernels_for(plan->isa);
    rv__store_prepare(&index->store, vector, memory);
    rv__hnsw_query_code(&run.query, memory);
    rv__walk_init(&run.walk, index, plan->ef, rv__walk_seen(plan->ef), at);
    run.pool = run.walk;
    at += plan->walk_bytes;
    if (plan->pool) {
        run.pool.beam = (uint64_t *)(void *)at;
        run.pool.ef = plan->pool;
        at += plan->pool_bytes;
    }
    all = (rv_hit *)(void *)at;
    ids = (uint32_t *)(void *)(all + best);
    if (!plan->scan) {
        float distance;
        uint32_t node = rv__hnsw_descend(&run.query, &run.walk, &distance);
        rv__walk_start(&run.walk, node, distance);
        if (plan->pool) {
            status = rv__hnsw_walk_pool(ctx, &run);
            scanned = rv__hnsw_fell_short(&run);
        } else {
            status = rv__walk_run(ctx, &run.query, &run.walk);
            run.pool.n = run.walk.n;
            scanned = run.walk.n < plan->k;
        }
    }
    if (!status && scanned) {
        status = rv__hnsw_scan(ctx, &run, &found);
        if (found <= run.pool.ef) count = found;
    }
    if (status) return status;
    if (count > run.pool.n) count = run.pool.n;
    status = rv__hnsw_rank(ctx, &run.query, run.pool.beam, count, plan->k, plan->early, ids,
                           (float *)(void *)(ids + best), all, hits, n_hits, &measured);
    if (status) return status;
    if (trace) {
        trace->hops += run.walk.hops;
        trace->distances += run.walk.distances;
        trace->reranked += measured;
        trace->scanned += scanned;
    }
    return RV_OK;
}

RV_API rv_status rv_hnsw_search_with(rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                     const rv_hnsw_options *options, rv_hit *hits, size_t *n_hits)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_hnsw_trace trace;
    rv__hnsw_plan plan;
    unsigned char *memory;
    rv_status status;
    if (!index || !n_hits || (k && !hits)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "index, hits and n_hits must not be NULL");
    }
    status = rv__store_check(ctx, &index->store, query, "query");
    if (!status) status = rv__hnsw_check_options(ctx, options);
    if (status) return status;
    memset(&trace, 0, sizeof trace);
    if (k > rv_hnsw_count(index)) k = rv_hnsw_count(index);
    if (k == 0) {
        *n_hits = 0;
    } else {
        rv__hnsw_plan_make(ctx, index, k, options, &plan);
        memory = (unsigned char *)rv__get(&alloc, plan.bytes, 1);
        if (!memory) return rv__no_memory(ctx, plan.bytes);
        status = rv__hnsw_run_query(ctx, &plan, memory, query, &trace, hits, n_hits);
        rv__put(&alloc, memory, plan.bytes, 1);
    }
    if (status) return status;
    if (options && options->trace) *options->trace = trace;
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_search(rv_ctx *ctx, const rv_hnsw *index, const void *query, size_t k,
                                size_t ef, rv_hit *hits, size_t *n_hits)
{
    rv_hnsw_options options;
    memset(&options, 0, sizeof options);
    options.ef = ef > RV__HNSW_EF_MAX ? RV__HNSW_EF_MAX + 1u : (uint32_t)ef;
    return rv_hnsw_search_with(ctx, index, query, k, &options, hits, n_hits);
}

/* ---- many queries ---- */

typedef struct rv__hnsw_batch {
    rv_ctx *ctx; /* of one lane, which may poll within a query; else NULL */
    rv_status status;
    const rv__hnsw_plan *plan;
    const unsigned char *queries;
    size_t vector_bytes;
    unsigned char *memory; /* [lanes, plan->bytes] */
    rv_hnsw_trace *trace;  /* [lanes] */
    rv_hit *hits;
    size_t *n_hits, hits_stride;
} rv__hnsw_batch;

static void rv__hnsw_batch_range(void *arg, size_t lane, size_t begin, size_t end)
{
    rv__hnsw_batch *job = (rv__hnsw_batch *)arg;
    for (size_t i = begin; i < end && !job->status; i++) {
        /* without a context there is no poll, and nothing else here can fail */
        rv_status status =
            rv__hnsw_run_query(job->ctx, job->plan, job->memory + lane * job->plan->bytes,
                               job->queries + i * job->vector_bytes, &job->trace[lane],
                               job->hits + i * job->hits_stride, &job->n_hits[i]);
        if (status) job->status = status;
    }
}

static rv_status rv__hnsw_batch_run(rv_ctx *ctx, rv__hnsw_batch *job, size_t n_queries,
                                    rv_hnsw_trace *trace)
{
    const rv_alloc alloc = rv__allocator(ctx);
    size_t lanes = rv__lanes(ctx), section = 1;
    rv_status status;
    if (lanes > n_queries) lanes = n_queries;
    /* a few ms at about 15 ns for a distance */
    if (job->plan->cost < 1e6) section = 1 + (size_t)(2e5 / (job->plan->cost + 100.0));
    job->ctx = rv__lanes(ctx) == 1 ? ctx : NULL;
    job->status = RV_OK;
    job->memory = (unsigned char *)rv__get(&alloc, lanes, job->plan->bytes);
    job->trace = (rv_hnsw_trace *)rv__get_zero(&alloc, lanes, sizeof(rv_hnsw_trace));
    if (!job->memory || !job->trace) {
        status = rv__no_memory(ctx, rv__mul(lanes, job->plan->bytes));
    } else {
        status = rv__parallel_for(ctx, n_queries, 1, section, rv__hnsw_batch_range, job);
        if (!status) status = job->status;
    }
    for (size_t i = 0; i < lanes && !status; i++) {
        trace->hops += job->trace[i].hops;
        trace->distances += job->trace[i].distances;
        trace->reranked += job->trace[i].reranked;
        trace->scanned += job->trace[i].scanned;
    }
    rv__put(&alloc, job->trace, lanes, sizeof(rv_hnsw_trace));
    rv__put(&alloc, job->memory, lanes, job->plan->bytes);
    return status;
}

RV_API rv_status rv_hnsw_search_batch(rv_ctx *ctx, const rv_hnsw *index, const void *queries,
                                      size_t n_queries, size_t k, const rv_hnsw_options *options,
                                      rv_hit *hits, size_t *n_hits)
{
    rv_hnsw_trace trace;
    rv__hnsw_plan plan;
    rv__hnsw_batch job;
    rv_status status;
    if (!index || (n_queries && (!queries || !n_hits || (k && !hits)))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "index, queries, hits and n_hits must not be NULL");
    }
    status = rv__hnsw_check_options(ctx, options);
    job.vector_bytes = rv__store_vector_bytes(&index->store);
    job.queries = (const unsigned char *)queries;
    if (!status && n_queries)
        status = rv__store_check_many(ctx, &index->store, queries, n_queries, "queries");
    if (status) return status;
    memset(&trace, 0, sizeof trace);
    job.hits_stride = k;
    if (k > rv_hnsw_count(index)) k = rv_hnsw_count(index);
    if (k == 0) {
        for (size_t i = 0; i < n_queries; i++) n_hits[i] = 0;
    } else if (n_queries) {
        rv__hnsw_plan_make(ctx, index, k, options, &plan);
        job.plan = &plan;
        job.hits = hits;
        job.n_hits = n_hits;
        status = rv__hnsw_batch_run(ctx, &job, n_queries, &trace);
    }
    if (status) return status;
    if (options && options->trace) *options->trace = trace;
    return rv__ok(ctx);
}

#undef RV__HNSW_EF_MAX
#undef RV__RANK_MANY
#undef RV__RANK_SIGMA
#undef RV__RANK_STEP
#undef RV__SHARE_SAMPLE

#endif /* RV_HNSW_QUERY_C */
