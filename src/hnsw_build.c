#ifndef RV_HNSW_BUILD_C
#define RV_HNSW_BUILD_C
#include "hnsw.h"
#include "base.c"
#include "simd.c"
#include "store.c"
#include "code.c"
#include "hnsw.c"
#include "hnsw_search.c"

/* Batch construction of one layer.

   1. Overlapping partition: sampled leaders, every node goes to its nearest few; groups are split
      again until a leaf holds at most RV__LEAF nodes. A node ends in about 30 leaves.
   2. In a leaf all distances at once, by an integer matrix product over byte codes, of which one
      triangle is enough; the best few of every node go into its pool, each leaf to its own place.
   3. The pool is sorted and thinned by the relative neighbourhood rule, links are reversed, lists
      that became too long are thinned again.
   4. Nodes that no walk from the entry would reach are linked to their nearest reachable node.

   Everything is decided by distance and node number, never by the order in which lanes finish, so
   that any number of workers gives the same bits.

   Sources: Rubel et al., PiPNN: ultra-scalable graph-based nearest neighbor indexing, 2026, for
   partitions instead of searches; Munoz et al., Hierarchical clustering-based graphs, 2019;
   Jayaram Subramanya et al., DiskANN, 2019, for thinning with alpha; Manohar et al., ParlayANN,
   2024, for determinism. Differs from PiPNN in that pools keep all that the leaves found. */

#define RV__LEAF 512u               /* nodes in a leaf, at most                                   */
#define RV__LEADERS 1024u           /* leaders of one split, at most                              */
#define RV__MATCH_ROWS 128u         /* rows compared with all columns at once                     */
#define RV__THIN_MAX 256u           /* candidates of one thinning, at most                        */
#define RV__PICK 16u                /* best columns wanted of a row by a split, at most           */
#define RV__SORT 768u               /* keys sorted at once, at most: the largest room             */
#define RV__IDS 2048u               /* at least twice that                                        */
#define RV__PAIR_ROWS 64u           /* rows of a leaf compared with the ones behind them at once  */

typedef struct rv__build {
    rv_ctx *ctx;
    const rv_hnsw *index;
    const rv__code *code;           /* byte codes of all slots; NULL: distances from the store    */
    const rv__kernels *kernels;
    rv_isa isa;
    rv_alloc alloc;
    const uint32_t *slot;           /* [n], NULL: node = slot                                     */
    uint32_t n;
    uint32_t degree, keep;          /* links of the result, and of the first thinning             */
    uint32_t pick;                  /* taken for a node from a leaf                               */
    uint32_t fan[2];                /* groups a node goes to at the first and second split        */
    uint32_t room;                  /* candidates of a node, at most: fan[0] fan[1] pick          */
    uint32_t width;                 /* candidates of the first thinning, at most                  */
    float pair;                     /* weight of g g' in the distance of two codes                */
    float alpha;                    /* of the thinning: 1 or more, more keeps more                */
    size_t leaf, leaders;           /* nodes of a leaf and leaders of a split, at most            */
    unsigned char *scratch;         /* [lanes, lane_bytes]                                        */
    size_t lanes, lane_bytes;
    uint64_t *pool;                 /* [n, stride] candidates, 32 bits each, RV__NO_SLOT: none;
                                       then the keys that the thinning left                       */
    size_t stride;
    uint32_t *pool_n;               /* [n] leaves of a node, then keys                            */
} rv__build;

/* What the metric decides. */
static void rv__build_metric(rv__build *b, rv_metric metric)
{
    b->pair = metric == RV_METRIC_L2 ? 0.5f : 1.0f;
    b->alpha = 1.04f;
    if (metric == RV_METRIC_L2 || metric == RV_METRIC_COSINE) b->alpha = 1.08f; /* squares */
    /* inner products have no zero that a factor leaves where it is, the caller's may have none */
    if (metric == RV_METRIC_IP || metric == RV_METRIC_CUSTOM) b->alpha = 1.0f;
}

RV__INLINE uint32_t rv__build_slot(const rv__build *b, uint32_t node)
{
    return b->slot ? b->slot[node] : node;
}

/* ---- blocks of distances ---- */

/* Scratch of one lane, carved from lane_bytes. */
typedef struct rv__build_lane {
    unsigned char *rows, *columns;  /* gathered codes, or a query of the store                    */
    unsigned char *pack;
    float *row_h, *row_g, *column_h, *column_g;
    float *cell;                    /* dot products or distances of many pairs                    */
    float *line;                    /* [columns]                                                  */
    uint32_t *ids, *nodes;          /* [columns]                                                  */
    uint32_t *table;                /* [RV__IDS]                                                  */
    uint64_t *keys;                 /* [2 RV__SORT]                                               */
    uint64_t *best;                 /* [leaf, pick]                                               */
    uint32_t *count;                /* [leaf]                                                     */
    float *row_low, *column_low;    /* [leaf, 16], [16, leaf]                                     */
    float *bound;                   /* [leaf]                                                     */
} rv__build_lane;

typedef struct rv__carver {
    unsigned char *base;            /* NULL: only counts                                          */
    size_t used;
} rv__carver;

static void *rv__carve(rv__carver *carver, size_t n, size_t size)
{
    size_t at = carver->used;
    carver->used += rv__round_up(n * size, 64);
    return carver->base ? carver->base + at : NULL;
}

/* base NULL: nothing but the bytes it takes. */
static size_t rv__build_lane_map(const rv__build *b, unsigned char *base, rv__build_lane *lane)
{
    const size_t rows = RV__MATCH_ROWS, leaf = rv__round_up(b->leaf, 16);
    const size_t record = b->code ? b->code->record : 0;
    size_t columns = b->leaders > leaf ? b->leaders : leaf, cells = RV__THIN_MAX;
    rv__carver carver;
    carver.base = base;
    carver.used = 0;
    if (columns < RV__THIN_MAX) columns = RV__THIN_MAX;
    if (columns < b->room) columns = b->room;
    if (cells < columns) cells = columns;
    if (leaf * leaf > cells) cells = leaf * leaf;
    if (rows * rv__round_up(b->leaders, 16) > cells) cells = rows * rv__round_up(b->leaders, 16);
    lane->rows = (unsigned char *)rv__carve(
        &carver, b->code ? rows * record : rv__hnsw_query_bytes(b->index), 1);
    lane->columns = (unsigned char *)rv__carve(&carver, columns, record);
    lane->pack = (unsigned char *)rv__carve(
        &carver, b->code ? rv__gram_i8_scratch(columns, record) : 0, 1);
    lane->row_h = (float *)rv__carve(&carver, rows, sizeof(float));
    lane->row_g = (float *)rv__carve(&carver, rows, sizeof(float));
    lane->column_h = (float *)rv__carve(&carver, columns, sizeof(float));
    lane->column_g = (float *)rv__carve(&carver, columns, sizeof(float));
    lane->cell = (float *)rv__carve(&carver, b->code ? cells : 0, sizeof(float));
    lane->line = (float *)rv__carve(&carver, columns, sizeof(float));
    lane->ids = (uint32_t *)rv__carve(&carver, columns + 16, sizeof(uint32_t));
    lane->nodes = (uint32_t *)rv__carve(&carver, columns, sizeof(uint32_t));
    lane->table = (uint32_t *)rv__carve(&carver, RV__IDS, sizeof(uint32_t));
    lane->keys = (uint64_t *)rv__carve(&carver, 2 * RV__SORT, sizeof(uint64_t));
    lane->best = (uint64_t *)rv__carve(&carver, leaf * b->pick, sizeof(uint64_t));
    lane->count = (uint32_t *)rv__carve(&carver, leaf, sizeof(uint32_t));
    lane->row_low =
        (float *)rv__carve(&carver, 16 * (leaf > rows ? leaf : rows), sizeof(float));
    lane->column_low = (float *)rv__carve(&carver, 16 * leaf, sizeof(float));
    lane->bound = (float *)rv__carve(&carver, leaf, sizeof(float));
    return carver.used;
}

static size_t rv__build_lane_bytes(const rv__build *b)
{
    rv__build_lane lane;
    return rv__build_lane_map(b, NULL, &lane);
}

static void rv__build_lane_at(const rv__build *b, size_t index, rv__build_lane *lane)
{
    (void)rv__build_lane_map(b, b->scratch + index * b->lane_bytes, lane);
}

/* Copies the codes of nodes side by side, without the two floats that stand under zero elements. */
static void rv__build_gather(const rv__build *b, const uint32_t *nodes, size_t n,
                             unsigned char *out, float *h, float *g)
{
    const size_t record = b->code->record;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *source = b->code->records + rv__build_slot(b, nodes[i]) * record;
        if (i + 8 < n) {
            const unsigned char *ahead =
                b->code->records + rv__build_slot(b, nodes[i + 8]) * record;
            for (size_t j = 0; j < record; j += 64) RV__PREFETCH(ahead + j);
        }
        memcpy(&h[i], source, sizeof(float));
        memcpy(&g[i], source + sizeof(float), sizeof(float));
        memcpy(out + i * record, source, record);
        memset(out + i * record, 0, RV__CODE_HEAD);
    }
}

/* Distances from a node to others: line[n]. */
static void rv__build_distances(const rv__build *b, rv__build_lane *lane, uint32_t node,
                                const uint32_t *others, size_t n, float *line)
{
    const uint32_t slot = rv__build_slot(b, node);
    for (size_t i = 0; i < n; i++) lane->ids[i] = rv__build_slot(b, others[i]);
    if (b->code) {
        const rv__code *code = b->code;
        rv__build_gather(b, &node, 1, lane->rows, lane->row_h, lane->row_g);
        b->kernels->dot_i8_scan((const int8_t *)lane->rows, code->records, code->record, lane->ids,
                                n, code->record, (int32_t *)(void *)lane->cell);
        for (size_t i = 0; i < n; i++) {
            const unsigned char *record = code->records + (size_t)lane->ids[i] * code->record;
            memcpy(&lane->column_h[i], record, sizeof(float));
            memcpy(&lane->column_g[i], record + sizeof(float), sizeof(float));
        }
        b->kernels->line_i32((const int32_t *)(const void *)lane->cell, lane->column_h,
                             lane->column_g, lane->row_h[0], -b->pair * lane->row_g[0], n, line);
    } else if (!b->index->store.no_rows) {
        rv__store_prepare_row(&b->index->store, slot, lane->rows);
        rv__store_scan(&b->index->store, b->isa, lane->rows, lane->ids, 0, n, line);
    } else {
        rv__hnsw_query query;
        query.index = b->index;
        query.kernels = b->kernels;
        query.isa = b->isa;
        rv__hnsw_query_row(&query, slot, lane->rows);
        rv__hnsw_distances(&query, lane->ids, n, line);
    }
}

/* Puts a key into best[*count], sorted, at most want. */
RV__INLINE void rv__build_keep(uint64_t *best, uint32_t *count, uint32_t want, uint64_t key)
{
    uint32_t at;
    if (*count == want && key >= best[want - 1]) return;
    at = *count < want ? (*count)++ : want - 1;
    while (at > 0 && best[at - 1] > key) {
        best[at] = best[at - 1];
        at--;
    }
    best[at] = key;
}

/* A distance and a position, sorting by both. */
RV__INLINE uint64_t rv__build_key(float distance, size_t position)
{
    return (uint64_t)rv__order_f32(distance) << 32 | position;
}

/* The next float above a bound, so that what equals it is below. */
RV__INLINE float rv__build_above(float bound)
{
    uint32_t order = rv__order_f32(bound);
    return order < rv__order_f32(rv__infinity()) ? rv__unorder_f32(order + 1u) : bound;
}

/* The `want` best of line as keys of distance and position, sorted; returns how many. skip: a
   position left out (SIZE_MAX: none). */
static uint32_t rv__build_pick(const rv__build *b, const float *line, size_t n, size_t skip,
                               uint32_t want, uint64_t *best)
{
    float limit = rv__infinity();
    uint32_t count = 0;
    for (size_t j = 0; (j = b->kernels->find_below(line, j, n, limit)) < n; j++) {
        if (j == skip) continue;
        rv__build_keep(best, &count, want, rv__build_key(line[j], j));
        if (count == want) limit = rv__hnsw_key_distance(best[count - 1]);
    }
    return count;
}

/* Gathers and packs nodes as columns; behind them, up to a multiple of 16, stand some at infinity.
   */
static void rv__build_columns(const rv__build *b, rv__build_lane *lane, const uint32_t *columns,
                              size_t n)
{
    if (!b->code) return;
    rv__build_gather(b, columns, n, lane->columns, lane->column_h, lane->column_g);
    for (size_t i = n; i < rv__round_up(n, 16); i++) {
        lane->column_h[i] = rv__infinity();
        lane->column_g[i] = 0.0f;
    }
    b->kernels->pack_i8((const int8_t *)lane->columns, b->code->record, n, b->code->record,
                        lane->pack);
}

/* Distances from rows to the columns given to rv__build_columns: cell[i * ld + j], ld = n_columns
   rounded up to 16; bounds that `want` of a row do not exceed. */
static void rv__build_rows(const rv__build *b, rv__build_lane *lane, const uint32_t *rows,
                           size_t n_rows, size_t n_columns, uint32_t want, float *bound)
{
    const size_t ld = rv__round_up(n_columns, 16), record = b->code->record;
    const size_t padded = rv__round_up(n_rows, 16);
    float slope[RV__MATCH_ROWS];
    rv__build_gather(b, rows, n_rows, lane->rows, lane->row_h, lane->row_g);
    for (size_t i = 0; i < n_rows; i++) slope[i] = -b->pair * lane->row_g[i];
    for (size_t i = 0; i < 16 * padded; i++) lane->row_low[i] = rv__infinity();
    b->kernels->gram_i8((const int8_t *)lane->rows, record, n_rows, 0, ld, record,
                        (int32_t *)(void *)lane->cell, ld, lane->pack);
    b->kernels->block_i32(lane->cell, ld, n_rows, ld, lane->column_h, lane->column_g, lane->row_h,
                          slope, lane->row_low, NULL, 0);
    b->kernels->order_low(lane->row_low, NULL, 0, padded, want, bound);
}

/* For every row its `want` nearest columns (positions), best[i * want], and how many. Columns must
   have been given to rv__build_columns. */
static void rv__build_match(const rv__build *b, rv__build_lane *lane, const uint32_t *rows,
                            size_t n_rows, const uint32_t *columns, size_t n_columns, uint32_t want,
                            uint64_t *best, uint32_t *count)
{
    const size_t ld = rv__round_up(n_columns, 16);
    float bound[RV__MATCH_ROWS];
    if (b->code) rv__build_rows(b, lane, rows, n_rows, n_columns, want, bound);
    for (size_t i = 0; i < n_rows; i++) {
        const float *cell = lane->cell + i * ld;
        size_t found;
        count[i] = 0;
        if (!b->code) {
            rv__build_distances(b, lane, rows[i], columns, n_columns, lane->line);
            count[i] = rv__build_pick(b, lane->line, n_columns, SIZE_MAX, want, best + i * want);
            continue;
        }
        found = b->kernels->list_below(cell, NULL, rv__build_above(bound[i]), 0, ld, lane->ids);
        for (size_t t = 0; t < found; t++) {
            const uint32_t j = lane->ids[t];
            rv__build_keep(best + i * want, &count[i], want, rv__build_key(cell[j], j));
        }
    }
}

/* ---- partition ---- */

/* Groups of nodes: members of group g are member[start[g]] .. member[start[g + 1] - 1]. */
typedef struct rv__groups {
    uint32_t *member;
    size_t *start;
    size_t n_groups, group_cap, n_members;
} rv__groups;

typedef struct rv__split_item {
    size_t group, begin, n, out;    /* members begin..begin+n-1 of the level; assign[out]         */
} rv__split_item;

typedef struct rv__split {
    const rv__build *b;
    const rv__groups *from;
    rv__split_item *item;
    size_t n_items;
    uint32_t *leader;               /* all groups' leaders behind each other                      */
    size_t *leader_start;           /* [n_groups + 1]                                             */
    uint32_t fan;
    uint16_t *assign;               /* [n_members * fan], 0xFFFF: none                            */
} rv__split;

static void rv__groups_free(const rv_alloc *alloc, rv__groups *groups)
{
    rv__put(alloc, groups->member, groups->n_members, sizeof(uint32_t));
    rv__put(alloc, groups->start, groups->group_cap + 1, sizeof(size_t));
    memset(groups, 0, sizeof *groups);
}

static int rv__groups_get(const rv_alloc *alloc, rv__groups *groups, size_t n_groups,
                          size_t n_members)
{
    memset(groups, 0, sizeof *groups);
    groups->n_groups = groups->group_cap = n_groups;
    groups->n_members = n_members;
    groups->member = (uint32_t *)rv__get(alloc, n_members, sizeof(uint32_t));
    groups->start = (size_t *)rv__get(alloc, n_groups + 1, sizeof(size_t));
    if (groups->member && groups->start) return 1;
    rv__groups_free(alloc, groups);
    return 0;
}

static void rv__split_range(void *arg, size_t lane_index, size_t begin, size_t end)
{
    const rv__split *split = (const rv__split *)arg;
    const rv__build *b = split->b;
    rv__build_lane lane;
    uint64_t best[RV__MATCH_ROWS * RV__PICK];
    uint32_t count[RV__MATCH_ROWS];
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t i = begin; i < end; i++) {
        const rv__split_item *item = &split->item[i];
        const uint32_t *leaders = split->leader + split->leader_start[item->group];
        size_t n_leaders = split->leader_start[item->group + 1] - split->leader_start[item->group];
        uint16_t *assign = split->assign + item->out;
        rv__build_columns(b, &lane, leaders, n_leaders);
        for (size_t at = 0; at < item->n; at += RV__MATCH_ROWS) {
            size_t m = item->n - at < RV__MATCH_ROWS ? item->n - at : RV__MATCH_ROWS;
            rv__build_match(b, &lane, split->from->member + item->begin + at, m, leaders, n_leaders,
                            split->fan, best, count);
            for (size_t r = 0; r < m; r++) {
                for (size_t f = 0; f < split->fan; f++) {
                    assign[(at + r) * split->fan + f] =
                        (uint16_t)(f < count[r] ? (uint32_t)best[r * split->fan + f] : 0xFFFFu);
                }
            }
        }
    }
}

/* Leaders a group of so many members gets; 0: it is small enough and stays. */
static size_t rv__split_leaders(const rv__build *b, size_t size, uint32_t fan, int depth)
{
    double wanted;
    if (size <= RV__LEAF) return 0;
    wanted = (double)size * fan / (0.6 * RV__LEAF);
    if (depth == 0 && size > 8 * RV__LEAF) {
        /* two splits share the work: their leaders multiply to n fan fan' / leaf, and the second
           one is done `fan` times as often */
        double second, product = (double)size * b->fan[0] * b->fan[1] / (0.75 * RV__LEAF);
        second = sqrt(product / b->fan[0]);
        wanted = product / second;
    }
    if (wanted < 2.0) wanted = 2.0;
    if (wanted > RV__LEADERS) wanted = RV__LEADERS;
    return (size_t)wanted;
}

/* Sorts members by the group they were assigned to; stable, so members stay in order. */
static void rv__split_scatter(const rv__split *split, rv__groups *to, size_t *cursor)
{
    const rv__groups *from = split->from;
    size_t group = 0, at = 0;
    for (size_t g = 0; g < from->n_groups; g++) {
        size_t n = split->leader_start[g + 1] - split->leader_start[g];
        const uint16_t *assign = split->assign + at;
        size_t size = from->start[g + 1] - from->start[g];
        if (n == 0) {
            memcpy(to->member + to->start[group], from->member + from->start[g],
                   size * sizeof(uint32_t));
            group++;
            continue;
        }
        for (size_t i = 0; i < n; i++) cursor[i] = to->start[group + i];
        for (size_t i = 0; i < size * split->fan; i++) {
            if (assign[i] != 0xFFFFu)
                to->member[cursor[assign[i]]++] = from->member[from->start[g] + i / split->fan];
        }
        at += size * split->fan;
        group += n;
    }
}

/* Sizes of the new groups into to->start; returns the number of members. */
static size_t rv__split_count(const rv__split *split, size_t *start)
{
    const rv__groups *from = split->from;
    size_t group = 0, at = 0, total = 0;
    for (size_t g = 0; g < from->n_groups; g++) {
        size_t n = split->leader_start[g + 1] - split->leader_start[g];
        size_t size = from->start[g + 1] - from->start[g];
        if (n == 0) {
            start[group++] = size;
            continue;
        }
        for (size_t i = 0; i < n; i++) start[group + i] = 0;
        for (size_t i = 0; i < size * split->fan; i++) {
            if (split->assign[at + i] != 0xFFFFu) start[group + split->assign[at + i]]++;
        }
        at += size * split->fan;
        group += n;
    }
    for (size_t g = 0; g < group; g++) {
        size_t size = start[g];
        start[g] = total;
        total += size;
    }
    start[group] = total;
    return total;
}

static rv_status rv__split_run(rv__build *b, rv__split *split, rv__groups *to, size_t n_new,
                               size_t total)
{
    size_t n_assign = 0, *cursor;
    rv_status status;
    for (size_t i = 0; i < split->n_items; i++) n_assign += split->item[i].n * split->fan;
    memset(to, 0, sizeof *to);
    split->assign = (uint16_t *)rv__get(&b->alloc, n_assign, sizeof(uint16_t));
    cursor = (size_t *)rv__get(&b->alloc, RV__LEADERS, sizeof(size_t));
    if (!split->assign || !cursor || !rv__groups_get(&b->alloc, to, n_new, total)) {
        status = rv__no_memory(b->ctx, total * sizeof(uint32_t));
    } else {
        status = rv__parallel_for(b->ctx, split->n_items, 1, 1, rv__split_range, split);
        if (!status) {
            (void)rv__split_count(split, to->start);
            rv__split_scatter(split, to, cursor);
        }
    }
    if (status) rv__groups_free(&b->alloc, to);
    rv__put(&b->alloc, cursor, RV__LEADERS, sizeof(size_t));
    rv__put(&b->alloc, split->assign, n_assign, sizeof(uint16_t));
    return status;
}

/* One level of the partition. */
static rv_status rv__split_level(rv__build *b, const rv__groups *from, int depth, uint32_t fan,
                                 rv__groups *to)
{
    const size_t piece = 1024;
    rv__split split;
    size_t n_leaders = 0, n_items = 0, n_new = 0, total = 0, out = 0;
    rv_status status;
    rv__rng rng;
    memset(&split, 0, sizeof split);
    split.b = b;
    split.from = from;
    split.fan = fan;
    for (size_t g = 0; g < from->n_groups; g++) {
        size_t size = from->start[g + 1] - from->start[g],
               n = rv__split_leaders(b, size, fan, depth);
        n_leaders += n;
        n_items += n ? (size + piece - 1) / piece : 0;
        n_new += n ? n : 1;
        total += n ? size * (fan < n ? fan : n) : size;
    }
    split.n_items = n_items;
    split.item = (rv__split_item *)rv__get(&b->alloc, n_items, sizeof(rv__split_item));
    split.leader = (uint32_t *)rv__get(&b->alloc, n_leaders, sizeof(uint32_t));
    split.leader_start = (size_t *)rv__get(&b->alloc, from->n_groups + 1, sizeof(size_t));
    if (!split.item || !split.leader || !split.leader_start) {
        status = rv__no_memory(b->ctx, n_items * sizeof(rv__split_item));
    } else {
        size_t at = 0, item = 0;
        rv__rng_init(&rng, b->index->seed + (uint64_t)depth + 1u);
        for (size_t g = 0; g < from->n_groups; g++) {
            size_t size = from->start[g + 1] - from->start[g],
                   n = rv__split_leaders(b, size, fan, depth);
            split.leader_start[g] = at;
            for (size_t i = 0; i < n; i++) {
                size_t low = i * size / n, high = (i + 1) * size / n;
                size_t pick = low + rv__rng_below(&rng, (uint32_t)(high - low));
                split.leader[at++] = from->member[from->start[g] + pick];
            }
            for (size_t done = 0; n && done < size; done += piece) {
                split.item[item].group = g;
                split.item[item].begin = from->start[g] + done;
                split.item[item].n = size - done < piece ? size - done : piece;
                split.item[item].out = out;
                out += split.item[item++].n * fan;
            }
        }
        split.leader_start[from->n_groups] = at;
        status = rv__split_run(b, &split, to, n_new, total);
    }
    rv__put(&b->alloc, split.leader_start, from->n_groups + 1, sizeof(size_t));
    rv__put(&b->alloc, split.leader, n_leaders, sizeof(uint32_t));
    rv__put(&b->alloc, split.item, n_items, sizeof(rv__split_item));
    return status;
}

/* Cuts what would not split (equal vectors) into leaves by order. */
static rv_status rv__groups_chop(rv__build *b, rv__groups *groups)
{
    size_t n = 0, *start, at = 0;
    for (size_t g = 0; g < groups->n_groups; g++) {
        n += (groups->start[g + 1] - groups->start[g] + RV__LEAF - 1) / RV__LEAF;
    }
    start = (size_t *)rv__get(&b->alloc, n + 1, sizeof(size_t));
    if (!start) return rv__no_memory(b->ctx, (n + 1) * sizeof(size_t));
    for (size_t g = 0; g < groups->n_groups; g++) {
        for (size_t i = groups->start[g]; i < groups->start[g + 1]; i += RV__LEAF) start[at++] = i;
    }
    start[at] = groups->n_members ? groups->start[groups->n_groups] : 0;
    rv__put(&b->alloc, groups->start, groups->group_cap + 1, sizeof(size_t));
    groups->start = start;
    groups->n_groups = groups->group_cap = n;
    return RV_OK;
}

static rv_status rv__build_partition(rv__build *b, rv__groups *leaves)
{
    rv__groups level, next;
    rv_status status = RV_OK;
    if (!rv__groups_get(&b->alloc, &level, 1, b->n))
        return rv__no_memory(b->ctx, b->n * sizeof(uint32_t));
    for (uint32_t i = 0; i < b->n; i++) level.member[i] = i;
    level.start[0] = 0;
    level.start[1] = b->n;
    for (int depth = 0; depth < 6 && !status; depth++) {
        size_t largest = 0;
        for (size_t g = 0; g < level.n_groups; g++) {
            size_t size = level.start[g + 1] - level.start[g];
            if (size > largest) largest = size;
        }
        if (largest <= RV__LEAF) break;
        status = rv__split_level(b, &level, depth, depth < 2 ? b->fan[depth] : 1u, &next);
        rv__groups_free(&b->alloc, &level);
        if (!status) level = next;
    }
    if (!status) status = rv__groups_chop(b, &level);
    if (status) rv__groups_free(&b->alloc, &level);
    *leaves = level;
    return status;
}

/* ---- pools ---- */

typedef struct rv__leaves {
    const rv__build *b;
    const rv__groups *groups;
    unsigned char *place;           /* [members] which of its leaves this is for a node           */
} rv__leaves;

/* Takes the distance of a node to itself out of its row and the row's least ones. */
static void rv__leaf_own(rv__build_lane *lane, float *row, size_t i, size_t at, size_t next)
{
    float least = rv__infinity();
    row[i] = rv__infinity();
    for (size_t j = at + i % 16; j < next; j += 16) least = row[j] < least ? row[j] : least;
    lane->row_low[16 * i + i % 16] = least;
}

/* Distances of the leaf's gathered nodes: cell[i * ld + j] for i in a block of rows and j from
   where the block begins; bounds that `pick` others of each node do not exceed. */
static void rv__leaf_distances(const rv__build *b, rv__build_lane *lane, size_t n)
{
    const rv__kernels *k = b->kernels;
    const size_t ld = rv__round_up(n, 16), record = b->code->record;
    const float *h = lane->column_h, *g = lane->column_g;
    float *slope = lane->line;
    for (size_t i = 0; i < n; i++) slope[i] = -b->pair * g[i];
    for (size_t i = 0; i < 16 * ld; i++) lane->row_low[i] = lane->column_low[i] = rv__infinity();
    for (size_t at = 0; at < n; at += RV__PAIR_ROWS) {
        const size_t m = n - at < RV__PAIR_ROWS ? n - at : RV__PAIR_ROWS;
        const size_t next = ld - at < RV__PAIR_ROWS ? ld : at + RV__PAIR_ROWS;
        float *cell = lane->cell + at * ld;
        k->gram_i8((const int8_t *)lane->columns + at * record, record, m, at, ld - at, record,
                   (int32_t *)(void *)(cell + at), ld, lane->pack);
        /* within the block a pair stands twice, and counts for the row only */
        k->block_i32(cell + at, ld, m, next - at, h + at, g + at, h + at, slope + at,
                     lane->row_low + 16 * at, NULL, 0);
        for (size_t i = at; i < at + m; i++) rv__leaf_own(lane, lane->cell + i * ld, i, at, next);
        k->block_i32(cell + next, ld, m, ld - next, h + next, g + next, h + at, slope + at,
                     lane->row_low + 16 * at, lane->column_low + next, ld);
    }
    if (b->pick <= 16) {
        k->order_low(lane->row_low, lane->column_low, ld, ld, b->pick, lane->bound);
        for (size_t i = 0; i < n; i++) lane->bound[i] = rv__build_above(lane->bound[i]);
    } else {
        for (size_t i = 0; i < ld; i++) lane->bound[i] = rv__infinity();
    }
}

/* The nearest of a node of the leaf when it is a row, and of the columns behind its block. Every
   node meets the others in the order of their positions, first as a column, so that a strict bound
   leaves ties to the first. */
static void rv__leaf_row(const rv__build *b, rv__build_lane *lane, size_t n, size_t row,
                         float limit)
{
    const size_t at = row / RV__PAIR_ROWS * RV__PAIR_ROWS, next = at + RV__PAIR_ROWS;
    const size_t ld = rv__round_up(n, 16);
    const uint32_t pick = b->pick;
    const float *cell = lane->cell + row * ld;
    uint64_t *best = lane->best;
    uint32_t *count = lane->count;
    size_t found = b->kernels->list_below(cell, lane->bound, limit, at, ld, lane->ids);
    for (size_t t = 0; t < found; t++) {
        const size_t j = lane->ids[t];
        const float d = cell[j];
        if (d < limit) {
            rv__build_keep(best + row * pick, &count[row], pick, rv__build_key(d, j));
            if (count[row] == pick) limit = rv__hnsw_key_distance(best[(row + 1) * pick - 1]);
        }
        if (j >= next && d < lane->bound[j]) {
            rv__build_keep(best + j * pick, &count[j], pick, rv__build_key(d, row));
            if (count[j] == pick)
                lane->bound[j] = rv__hnsw_key_distance(best[(j + 1) * pick - 1]);
        }
    }
}

static void rv__leaf_pairs(const rv__build *b, rv__build_lane *lane, size_t n)
{
    rv__leaf_distances(b, lane, n);
    for (size_t at = 0; at < n; at += RV__PAIR_ROWS) {
        const size_t m = n - at < RV__PAIR_ROWS ? n - at : RV__PAIR_ROWS;
        float limit[RV__PAIR_ROWS];
        for (size_t i = 0; i < m; i++) {
            limit[i] = lane->bound[at + i];
            lane->bound[at + i] = -rv__infinity(); /* from here on it is met as a row only */
        }
        for (size_t i = 0; i < m; i++) rv__leaf_row(b, lane, n, at + i, limit[i]);
    }
}

/* Where a node's candidates from one of its leaves stand. */
RV__INLINE unsigned char *rv__build_place(const rv__build *b, uint32_t node, size_t leaf)
{
    return (unsigned char *)(b->pool + node * b->stride) + leaf * b->pick * sizeof(uint32_t);
}

static void rv__leaf_range(void *arg, size_t lane_index, size_t begin, size_t end)
{
    const rv__leaves *job = (const rv__leaves *)arg;
    const rv__build *b = job->b;
    const uint32_t pick = b->pick;
    rv__build_lane lane;
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t leaf = begin; leaf < end; leaf++) {
        const size_t first = job->groups->start[leaf], n = job->groups->start[leaf + 1] - first;
        const uint32_t *member = job->groups->member + first;
        for (size_t i = 0; i < n; i++) lane.count[i] = 0;
        rv__build_columns(b, &lane, member, n);
        if (b->code) rv__leaf_pairs(b, &lane, n);
        for (size_t i = 0; i < n; i++) {
            const uint64_t *best = lane.best + i * pick;
            const size_t ahead = i + 8 < n ? i + 8 : i;
            RV__PREFETCH(rv__build_place(b, member[ahead], job->place[first + ahead]));
            if (!b->code) {
                rv__build_distances(b, &lane, member[i], member, n, lane.line);
                lane.count[i] = rv__build_pick(b, lane.line, n, i, pick, lane.best + i * pick);
            }
            for (uint32_t j = 0; j < pick; j++)
                lane.ids[j] = j < lane.count[i] ? member[(uint32_t)best[j]] : RV__NO_SLOT;
            memcpy(rv__build_place(b, member[i], job->place[first + i]), lane.ids,
                   pick * sizeof(uint32_t));
        }
    }
}

static rv_status rv__build_pools(rv__build *b, const rv__groups *leaves)
{
    const size_t n = leaves->start[leaves->n_groups];
    rv__leaves job;
    rv_status status;
    job.b = b;
    job.groups = leaves;
    job.place = (unsigned char *)rv__get(&b->alloc, n, 1);
    if (!job.place) return rv__no_memory(b->ctx, n);
    for (size_t i = 0; i < n; i++) job.place[i] = (unsigned char)b->pool_n[leaves->member[i]]++;
    status = rv__parallel_for(b->ctx, leaves->n_groups, 1, 32 / b->pick + 1,
                              rv__leaf_range, &job);
    rv__put(&b->alloc, job.place, n, 1);
    return status;
}

/* ---- sorted lists of keys ---- */

/* Merges two sorted lists, leaving out repeated keys; returns how many. */
static size_t rv__keys_merge(const uint64_t *a, size_t na, const uint64_t *b, size_t nb,
                             uint64_t *out)
{
    const uint64_t *const a_end = a + na, *const b_end = b + nb;
    uint64_t *at = out;
    while (a < a_end && b < b_end) {
        const uint64_t x = *a, y = *b;
        *at++ = x < y ? x : y; /* no branch: which one is not to be foreseen */
        a += x <= y;
        b += y <= x;
    }
    memcpy(at, a, (size_t)(a_end - a) * sizeof *at);
    at += a_end - a;
    memcpy(at, b, (size_t)(b_end - b) * sizeof *at);
    return (size_t)(at + (b_end - b) - out);
}

#define RV__RUN 4u /* keys sorted by insertion before runs are merged */

/* Sorts n keys, at most RV__SORT, and takes repeated ones out; returns how many are left. other:
   room for as many. */
static size_t rv__keys_sort(uint64_t *keys, size_t n, uint64_t *other)
{
    uint16_t length[RV__SORT / RV__RUN];
    uint64_t *from = keys, *to = other, *swap;
    size_t runs = 0, left = 0;
    for (size_t i = 0; i < n; i += RV__RUN) {
        const size_t end = n - i < RV__RUN ? n : i + RV__RUN, first = left;
        for (size_t j = i; j < end; j++) {
            const uint64_t key = keys[j];
            size_t at = left;
            while (at > first && keys[at - 1] > key) at--;
            if (at > first && keys[at - 1] == key) continue;
            for (size_t k = left++; k > at; k--) keys[k] = keys[k - 1];
            keys[at] = key;
        }
        length[runs++] = (uint16_t)(left - first);
    }
    while (runs > 1) {
        const uint64_t *in = from;
        uint64_t *out = to;
        left = 0;
        for (size_t i = 0; i < runs; i += 2) {
            const size_t a = length[i], b = i + 1 < runs ? length[i + 1] : 0;
            const size_t merged = rv__keys_merge(in, a, in + a, b, out);
            in += a + b;
            out += merged;
            length[left++] = (uint16_t)merged;
        }
        runs = left;
        swap = from;
        from = to;
        to = swap;
    }
    n = runs ? length[0] : 0;
    if (from != keys) memcpy(keys, from, n * sizeof *keys);
    return n;
}

/* Takes repeated nodes and RV__NO_SLOT out of n ids, at most RV__SORT; returns how many are left.
   */
static size_t rv__ids_unique(uint32_t *ids, size_t n, uint32_t *table)
{
    size_t count = 0;
    uint32_t bits = 6;
    while ((size_t)1 << bits < 2 * n) bits++;
    memset(table, 0xFF, sizeof(uint32_t) << bits); /* RV__NO_SLOT */
    for (size_t i = 0; i < n; i++) {
        uint32_t at = ids[i] * 2654435769u >> (32 - bits);
        if (ids[i] == RV__NO_SLOT) continue;
        while (table[at] != RV__NO_SLOT && table[at] != ids[i])
            at = (at + 1) & (((uint32_t)1 << bits) - 1);
        if (table[at] == ids[i]) continue;
        table[at] = ids[count++] = ids[i];
    }
    return count;
}

/* Sorts keys and takes repeated nodes out. A pair of codes has one distance, so equal nodes have
   equal keys; distances from the store may differ in the last bit with their position in a list. */
static size_t rv__keys_unique(const rv__build *b, uint64_t *keys, size_t n, uint64_t *other)
{
    size_t count = 0;
    n = rv__keys_sort(keys, n, other);
    if (b->code) return n;
    for (size_t i = 0; i < n; i++) {
        size_t same = 0;
        while (same < count && (uint32_t)keys[same] != (uint32_t)keys[i]) same++;
        if (same == count) keys[count++] = keys[i];
    }
    return count;
}

/* ---- thinning ---- */

/* The rule below with codes: who is kept strikes out all that are nearer to it than to the origin.
   */
static size_t rv__build_sweep(const rv__build *b, rv__build_lane *lane, const uint32_t *nodes,
                              uint64_t *keys, size_t n, size_t keep)
{
    const size_t record = b->code->record, padded = rv__round_up(n, 16);
    const uint32_t struck = rv__order_f32(-rv__infinity());
    float *h = lane->column_h, *g = lane->column_g, *limit = lane->line;
    int32_t *dot = (int32_t *)(void *)lane->cell;
    size_t count = 0;
    rv__build_columns(b, lane, nodes, n);
    for (size_t i = 0; i < padded; i++) {
        limit[i] = i < n ? rv__hnsw_key_distance(keys[i]) / b->alpha : -rv__infinity();
    }
    for (size_t i = 0; i < n && count < keep; i++) {
        const size_t first = (i + 1) / 64 * 64;
        if (rv__order_f32(limit[i]) == struck) continue;
        keys[count++] = keys[i];
        if (count == keep || first >= padded) continue;
        b->kernels->gram_i8((const int8_t *)lane->columns + i * record, record, 1, first,
                            padded - first, record, dot + first, 0, lane->pack);
        b->kernels->strike_i32(dot + first, h + first, g + first, h[i], -b->pair * g[i],
                               padded - first, limit + first);
    }
    return count;
}

/* Relative neighbourhood rule: a candidate stays if no node kept before it is nearer to the
   candidate, by the factor alpha, than the origin is. keys: n sorted; kept ones move to the front.
   Returns how many, at most keep. */
static size_t rv__build_thin(const rv__build *b, rv__build_lane *lane, uint64_t *keys, size_t n,
                             size_t keep)
{
    uint32_t nodes[RV__THIN_MAX], others[RV__THIN_MAX];
    size_t count = 0;
    if (n > RV__THIN_MAX) n = RV__THIN_MAX;
    nodes[0] = 0; /* compilers do not see that none are read when n is 0 */
    for (size_t i = 0; i < n; i++) nodes[i] = rv__hnsw_node(keys[i]);
    if (b->code) return rv__build_sweep(b, lane, nodes, keys, n, keep);
    for (size_t i = 0; i < n && count < keep; i++) {
        float distance = rv__hnsw_key_distance(keys[i]) / b->alpha;
        int near_kept = 0;
        rv__build_distances(b, lane, nodes[i], others, count, lane->line);
        for (size_t j = 0; j < count && !near_kept; j++) near_kept = lane->line[j] < distance;
        if (near_kept) continue;
        others[count] = nodes[i];
        keys[count++] = keys[i];
    }
    return count;
}

static void rv__build_thin_range(void *arg, size_t lane_index, size_t begin, size_t end)
{
    rv__build *b = (rv__build *)arg;
    rv__build_lane lane;
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t p = begin; p < end; p++) {
        uint64_t *pool = b->pool + p * b->stride, *keys = lane.keys;
        size_t n = 0;
        if (p + 4 < end) {
            for (size_t i = 0; i < b->stride; i += 8) RV__PREFETCH(pool + 4 * b->stride + i);
        }
        memcpy(lane.nodes, pool, b->pool_n[p] * b->pick * sizeof(uint32_t));
        n = rv__ids_unique(lane.nodes, b->pool_n[p] * b->pick, lane.table);
        rv__build_distances(b, &lane, (uint32_t)p, lane.nodes, n, lane.line);
        for (size_t i = 0; i < n; i++) keys[i] = rv__hnsw_key(lane.line[i], lane.nodes[i]);
        n = rv__keys_sort(keys, n, keys + RV__SORT);
        n = rv__build_thin(b, &lane, keys, n < b->width ? n : b->width, b->keep);
        memcpy(pool, keys, n * sizeof *keys);
        b->pool_n[p] = (uint32_t)n;
    }
}

/* ---- reversal ---- */

typedef struct rv__reverse {
    rv__build *b;
    size_t *start;                  /* [n + 1]                                                    */
    uint64_t *key;                  /* incoming links: distance and source                        */
    uint32_t *links;                /* [n, degree] result                                         */
    size_t shares;
    size_t from, to;                /* sources that are looked at                                 */
} rv__reverse;

static void rv__reverse_count(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__reverse *job = (const rv__reverse *)arg;
    const rv__build *b = job->b;
    (void)lane;
    for (size_t share = begin; share < end; share++) {
        uint32_t low = (uint32_t)((uint64_t)b->n * share / job->shares);
        uint32_t high = (uint32_t)((uint64_t)b->n * (share + 1) / job->shares);
        for (size_t p = job->from; p < job->to; p++) {
            const uint64_t *pool = b->pool + p * b->stride;
            for (uint32_t i = 0; i < b->pool_n[p]; i++) {
                uint32_t to = rv__hnsw_node(pool[i]);
                if (to >= low && to < high) job->start[to + 1]++;
            }
        }
    }
}

/* start[q] is the end of the list while it is filled, from the back. */
static void rv__reverse_fill(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__reverse *job = (const rv__reverse *)arg;
    const rv__build *b = job->b;
    (void)lane;
    for (size_t share = begin; share < end; share++) {
        uint32_t low = (uint32_t)((uint64_t)b->n * share / job->shares);
        uint32_t high = (uint32_t)((uint64_t)b->n * (share + 1) / job->shares);
        for (size_t p = job->from; p < job->to; p++) {
            const uint64_t *pool = b->pool + p * b->stride;
            for (uint32_t i = 0; i < b->pool_n[p]; i++) {
                uint32_t to = rv__hnsw_node(pool[i]);
                if (to < low || to >= high) continue;
                job->key[job->start[to]++] = (pool[i] & ~(uint64_t)0xFFFFFFFFu) | (uint64_t)p << 1;
            }
        }
    }
}

static void rv__build_join_range(void *arg, size_t lane_index, size_t begin, size_t end)
{
    const rv__reverse *job = (const rv__reverse *)arg;
    const rv__build *b = job->b;
    rv__build_lane lane;
    rv__build_lane_at(b, lane_index, &lane);
    for (size_t p = begin; p < end; p++) {
        /* after filling, start[p] is where the list of p + 1 begins */
        size_t first = p ? job->start[p - 1] : 0, n_in = job->start[p] - first;
        const uint64_t *pool = b->pool + p * b->stride;
        const uint64_t *in = job->key + first;
        uint32_t *links = job->links + p * b->degree;
        size_t n = b->pool_n[p];
        memcpy(lane.keys, pool, n * sizeof *pool);
        while (n_in > 0) {
            const size_t more = n_in < RV__THIN_MAX ? n_in : RV__THIN_MAX;
            memcpy(lane.keys + n, in, more * sizeof *in);
            n = rv__keys_unique(b, lane.keys, n + more, lane.keys + RV__SORT);
            if (n > RV__THIN_MAX) n = RV__THIN_MAX;
            in += more;
            n_in -= more;
        }
        if (n > b->degree) n = rv__build_thin(b, &lane, lane.keys, n, b->degree);
        for (uint32_t i = 0; i < b->degree; i++)
            links[i] = i < n ? rv__hnsw_node(lane.keys[i]) : RV__NO_SLOT;
    }
}

/* Every lane looks at all sources and serves its share of the targets. */
static rv_status rv__reverse_pass(rv__reverse *job, rv__range_fn fn)
{
    const size_t n = job->b->n;
    rv_status status = RV_OK;
    for (job->from = 0; job->from < n && !status; job->from = job->to) {
        job->to = n - job->from < 16384 ? n : job->from + 16384;
        status = rv__parallel_for(job->b->ctx, job->shares, 1, 1, fn, job);
    }
    return status;
}

static rv_status rv__build_join(rv__build *b, uint32_t *links)
{
    rv__reverse job;
    size_t total = 0;
    rv_status status;
    job.b = b;
    job.links = links;
    job.shares = b->lanes;
    job.key = NULL;
    job.start = (size_t *)rv__get_zero(&b->alloc, (size_t)b->n + 1, sizeof(size_t));
    if (!job.start) return rv__no_memory(b->ctx, ((size_t)b->n + 1) * sizeof(size_t));
    status = rv__reverse_pass(&job, rv__reverse_count);
    if (!status) {
        for (size_t p = 0; p < b->n; p++) job.start[p + 1] += job.start[p];
        total = job.start[b->n];
        job.key = (uint64_t *)rv__get(&b->alloc, total, sizeof(uint64_t));
        if (!job.key) status = rv__no_memory(b->ctx, total * sizeof(uint64_t));
    }
    if (!status) status = rv__reverse_pass(&job, rv__reverse_fill);
    if (!status) status = rv__parallel_for(b->ctx, b->n, 64, 512, rv__build_join_range, &job);
    rv__put(&b->alloc, job.key, total, sizeof(uint64_t));
    rv__put(&b->alloc, job.start, (size_t)b->n + 1, sizeof(size_t));
    return status;
}

/* ---- one layer ---- */

static void rv__build_effort(rv__build *b)
{
    uint32_t ef = b->index->ef_construction;
    /* more leaves, not more of each leaf: many from one place crowd the far ones out of a pool */
    b->fan[0] = ef < 64 ? 5u : ef < 200 ? 10u : ef < 400 ? 13u : 16u;
    b->fan[1] = 3u;
    b->pick = 4u;
    b->keep = b->degree * 3 / 4;
    if (b->keep < 2) b->keep = 2;
    b->width = b->degree * 2;
    if (b->width > RV__THIN_MAX) b->width = RV__THIN_MAX;
    if (b->n <= RV__LEAF) {
        /* one leaf is all there is: no others will bring the candidates that make a graph
           navigable */
        b->width = RV__THIN_MAX;
        b->pick = 64;
    } else if (b->slot || b->n <= 16 * RV__LEAF) {
        b->width = RV__THIN_MAX;
        b->pick = RV__PICK;
    }
    b->room = b->n <= RV__LEAF ? b->pick : b->fan[0] * b->fan[1] * b->pick;
    b->stride = b->keep < b->room ? b->keep : b->room;
    if (b->stride < (b->room + 1) / 2) b->stride = (b->room + 1) / 2;
}

/* Links of n nodes into links[n, degree]. */
static rv_status rv__build_layer(rv_ctx *ctx, const rv_hnsw *index, const rv__code *code,
                                 const uint32_t *slot, uint32_t n, uint32_t degree, uint32_t *links)
{
    rv__build b;
    rv__groups leaves;
    rv_status status = RV_OK;
    memset(&b, 0, sizeof b);
    memset(&leaves, 0, sizeof leaves);
    b.ctx = ctx;
    b.index = index;
    b.code = code;
    b.isa = ctx ? ctx->isa : RV_ISA_BEST;
    b.kernels = rv__kernels_for(b.isa);
    b.alloc = index->store.alloc;
    b.slot = slot;
    b.n = n;
    b.degree = degree;
    rv__build_metric(&b, index->store.metric);
    b.lanes = rv__lanes(ctx);
    b.leaf = n < RV__LEAF ? n : RV__LEAF;
    b.leaders = n > RV__LEAF ? RV__LEADERS : 0;
    rv__build_effort(&b);
    b.lane_bytes = rv__build_lane_bytes(&b);
    b.scratch = (unsigned char *)rv__get(&b.alloc, b.lanes, b.lane_bytes);
    b.pool = (uint64_t *)rv__get(&b.alloc, (size_t)n * b.stride, sizeof(uint64_t));
    b.pool_n = (uint32_t *)rv__get_zero(&b.alloc, n, sizeof(uint32_t));
    if (!b.scratch || !b.pool || !b.pool_n)
        status = rv__no_memory(ctx, (size_t)n * b.stride * sizeof(uint64_t));
    if (!status) status = rv__build_partition(&b, &leaves);
    if (!status) status = rv__build_pools(&b, &leaves);
    rv__groups_free(&b.alloc, &leaves);
    if (!status) status = rv__parallel_for(ctx, n, 64, 512, rv__build_thin_range, &b);
    if (!status) status = rv__build_join(&b, links);
    rv__put(&b.alloc, b.pool_n, n, sizeof(uint32_t));
    rv__put(&b.alloc, b.pool, (size_t)n * b.stride, sizeof(uint64_t));
    rv__put(&b.alloc, b.scratch, b.lanes, b.lane_bytes);
    return status;
}

/* ---- reachability ---- */

typedef struct rv__reach {
    uint64_t *seen;                 /* bit per node                                               */
    uint32_t *queue;                /* [n]                                                        */
    size_t head, tail;
} rv__reach;

static void rv__reach_push(rv__reach *reach, uint32_t node)
{
    uint64_t bit = (uint64_t)1 << (node & 63u);
    if (reach->seen[node >> 6] & bit) return;
    reach->seen[node >> 6] |= bit;
    reach->queue[reach->tail++] = node;
}

static rv_status rv__reach_flood(rv_ctx *ctx, const rv_hnsw *index, rv__reach *reach)
{
    while (reach->head < reach->tail) {
        const uint32_t *links = index->links + (size_t)reach->queue[reach->head++] * index->degree;
        if (reach->head + 8 < reach->tail) {
            const uint32_t *ahead =
                index->links + (size_t)reach->queue[reach->head + 8] * index->degree;
            RV__PREFETCH(ahead);
            RV__PREFETCH(ahead + 16);
        }
        for (uint32_t i = 0; i < index->degree && links[i] != RV__NO_SLOT; i++)
            rv__reach_push(reach, links[i]);
        if ((reach->head & 0x3FFFu) == 0) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
    }
    return RV_OK;
}

/* Links an unreachable node from the nearest reachable one that has room; where none has, it takes
   the place of that one's last link and carries on to it, so that nothing else is lost. */
static void rv__hnsw_adopt(rv_hnsw *index, const rv__walk *walk, uint32_t node)
{
    const uint32_t degree = index->degree;
    uint32_t *own = index->links + (size_t)node * degree, *links, last, n = 0;
    for (size_t i = 0; i < walk->n; i++) {
        links = index->links + (size_t)rv__hnsw_node(walk->beam[i]) * degree;
        if (links[degree - 1] != RV__NO_SLOT) continue;
        while (links[n] != RV__NO_SLOT) n++;
        links[n] = node;
        return;
    }
    links = index->links + (size_t)rv__hnsw_node(walk->beam[0]) * degree;
    last = links[degree - 1];
    links[degree - 1] = node;
    for (n = 0; n < degree && own[n] != RV__NO_SLOT && own[n] != last; n++) {}
    own[n < degree ? n : degree - 1] = last;
}

/* What connecting needs. */
typedef struct rv__connect {
    rv__reach reach;
    unsigned char *memory;          /* a query and a walk                                         */
    size_t n, query_bytes, bytes;
} rv__connect;

#define RV__CONNECT_EF 64u

static void rv__connect_close(const rv_hnsw *index, rv__connect *connect)
{
    const rv_alloc *alloc = &index->store.alloc;
    rv__put(alloc, connect->reach.queue, connect->n, sizeof(uint32_t));
    rv__put(alloc, connect->reach.seen, (connect->n + 63) / 64, sizeof(uint64_t));
    rv__put(alloc, connect->memory, connect->bytes, 1);
    memset(connect, 0, sizeof *connect);
}

static rv_status rv__connect_open(rv_ctx *ctx, const rv_hnsw *index, rv__connect *connect)
{
    const rv_alloc *alloc = &index->store.alloc;
    memset(connect, 0, sizeof *connect);
    connect->n = index->store.n;
    connect->query_bytes = rv__hnsw_query_bytes(index);
    connect->bytes = connect->query_bytes +
                     rv__walk_bytes(index, RV__CONNECT_EF, rv__walk_seen(RV__CONNECT_EF));
    connect->memory = (unsigned char *)rv__get(alloc, connect->bytes, 1);
    connect->reach.seen = (uint64_t *)rv__get_zero(alloc, (connect->n + 63) / 64, sizeof(uint64_t));
    connect->reach.queue = (uint32_t *)rv__get(alloc, connect->n, sizeof(uint32_t));
    if (connect->memory && connect->reach.seen && connect->reach.queue) return RV_OK;
    rv__connect_close(index, connect);
    return rv__no_memory(ctx, index->store.n * sizeof(uint32_t));
}

static rv_status rv__connect_run(rv_ctx *ctx, rv_hnsw *index, rv__connect *connect)
{
    rv__reach *reach = &connect->reach;
    rv__hnsw_query query;
    rv__walk walk;
    rv_status status = RV_OK;
    if (index->n_levels == 0) return RV_OK;
    rv__hnsw_query_init(&query, ctx, index);
    rv__walk_init(&walk, index, RV__CONNECT_EF, rv__walk_seen(RV__CONNECT_EF),
                  connect->memory + connect->query_bytes);
    rv__reach_push(reach, rv__hnsw_entry_slot(index));
    status = rv__reach_flood(ctx, index, reach);
    for (uint32_t node = 0; node < connect->n && !status && reach->tail < connect->n; node++) {
        float distance;
        uint32_t start;
        if ((reach->seen[node >> 6] >> (node & 63u) & 1u) || !rv__store_live(&index->store, node))
            continue;
        rv__hnsw_query_row(&query, node, connect->memory);
        start = rv__hnsw_descend(&query, &walk, &distance);
        if (!(reach->seen[start >> 6] >> (start & 63u) & 1u)) {
            /* the node itself on an upper layer, or one no better: its links need not lead
               anywhere */
            start = rv__hnsw_entry_slot(index);
            rv__hnsw_distances(&query, &start, 1, &distance);
        }
        walk.n_starts = 0; /* some of them may be as unreachable */
        rv__walk_start(&walk, start, distance);
        status = rv__walk_run(ctx, &query, &walk);
        if (status) break;
        rv__hnsw_adopt(index, &walk, node);
        rv__reach_push(reach, node);
        status = rv__poll(ctx);
        if (!status) status = rv__reach_flood(ctx, index, reach);
    }
    return status;
}

/* Makes every row of layer 0 reachable from the entry. Stopped half way the links are sound, but
   some rows may be out of reach: whoever calls it works on a graph that is not yet in use. */
static rv_status rv__hnsw_connect(rv_ctx *ctx, rv_hnsw *index)
{
    rv__connect connect;
    rv_status status = rv__connect_open(ctx, index, &connect);
    if (!status) status = rv__connect_run(ctx, index, &connect);
    rv__connect_close(index, &connect);
    return status;
}

/* ---- the whole graph ---- */

/* Nodes of the layers above 0, from the levels of the slots. */
static rv_status rv__hnsw_make_layers(rv_ctx *ctx, rv_hnsw *index)
{
    uint32_t count[RV__HNSW_LEVELS], n = index->store.n;
    memset(count, 0, sizeof count);
    index->n_levels = 0;
    for (uint32_t slot = n; slot-- > 0;) {
        rv_status status = slot % 65536u ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (!rv__store_live(&index->store, slot)) continue;
        for (uint32_t l = rv__hnsw_level(index, slot); l > 0; l--) count[l]++;
        index->entry = slot;
        index->n_levels = 1;
    }
    if (index->n_levels == 0) return RV_OK;
    while (index->n_levels < RV__HNSW_LEVELS && count[index->n_levels]) {
        rv_status status = rv__hnsw_layer_reserve(ctx, index, &index->layer[index->n_levels],
                                                  count[index->n_levels]);
        if (status) return status;
        index->n_levels++;
    }
    for (uint32_t slot = 0; slot < n; slot++) {
        uint32_t level = rv__hnsw_level(index, slot), below = slot;
        rv_status status = slot % 65536u ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (!rv__store_live(&index->store, slot)) continue;
        for (uint32_t l = 1; l <= level; l++) {
            rv__hnsw_layer *layer = &index->layer[l];
            layer->slot[layer->n] = slot;
            layer->below[layer->n] = below;
            below = layer->n++;
        }
    }
    if (index->n_levels > 1) index->entry = 0;
    return RV_OK;
}

/* Makes all layers of an index whose store is filled and that has none. code: byte codes, or NULL.
   */
static rv_status rv__hnsw_make_graph(rv_ctx *ctx, rv_hnsw *index, const rv__code *code)
{
    rv_status status = rv__hnsw_make_layers(ctx, index);
    for (uint32_t l = index->n_levels; l-- > 0 && !status;) {
        const rv__hnsw_layer *layer = &index->layer[l];
        if (l == 0) {
            status = rv__build_layer(ctx, index, code, NULL, index->store.n, index->degree,
                                     index->links);
        } else {
            status =
                rv__build_layer(ctx, index, code, layer->slot, layer->n, index->m, layer->links);
        }
    }
    return status;
}

static int rv__hnsw_code_kind(rv_hnsw_codes wanted)
{
    switch (wanted) {
    case RV_HNSW_CODES_PCA: return RV__CODE_PCA;
    case RV_HNSW_CODES_SQ8: return RV__CODE_SQ8;
    case RV_HNSW_CODES_SQ4: return RV__CODE_SQ4;
    case RV_HNSW_CODES_RABITQ: return RV__CODE_BIT;
    default: return RV__CODE_NONE;
    }
}

/* Codes for all rows of the store; kind NONE leaves code empty. */
static rv_status rv__hnsw_learn(rv_ctx *ctx, const rv_hnsw *index, int kind, uint32_t code_bytes,
                                rv__code *code)
{
    rv_status status;
    memset(code, 0, sizeof *code);
    code->alloc = index->store.alloc;
    if (kind == RV__CODE_NONE) return RV_OK;
    status = rv__code_train(ctx, code, kind, &index->store, code_bytes);
    if (!status && code->kind != RV__CODE_NONE) {
        status = rv__code_reserve(ctx, code, index->store.capacity);
        if (!status) status = rv__code_encode_rows(ctx, code, &index->store, index->store.n);
        if (status) rv__code_free(code);
    }
    return status;
}

/* Fills an empty index. On failure it holds something half done and must be thrown away. */
static rv_status rv__hnsw_fill(rv_ctx *ctx, rv_hnsw *index, const uint64_t *keys,
                               const void *vectors, size_t n)
{
    int kind = rv__hnsw_code_kind(index->wanted);
    rv__code build;
    rv_status status;
    memset(&build, 0, sizeof build);
    status = rv__store_append(ctx, &index->store, keys, vectors, n);
    if (!status) status = rv__hnsw_learn(ctx, index, kind, index->code_bytes, &index->code);
    if (!status) status = rv__hnsw_grow(ctx, index, index->store.capacity);
    if (!status && index->code.bits == 8) {
        status = rv__hnsw_make_graph(ctx, index, &index->code);
    } else if (!status) {
        /* coarse codes are too coarse to choose links by, and vectors too slow */
        int fit = rv__hnsw_codes_fit(index->store.metric, index->store.type) &&
                  index->store.dim > RV__CODE_DIM_MIN;
        status = rv__hnsw_learn(ctx, index, fit ? RV__CODE_PCA : RV__CODE_NONE, 0, &build);
        if (!status)
            status = rv__hnsw_make_graph(ctx, index, build.kind != RV__CODE_NONE ? &build : NULL);
        rv__code_free(&build);
    }
    if (!status) status = rv__hnsw_connect(ctx, index);
    if (!status && index->drop_vectors && rv__hnsw_coded(index)) rv__store_drop_rows(&index->store);
    return status;
}

/* An empty index with the settings of another. */
static rv_status rv__hnsw_like(rv_ctx *ctx, const rv_hnsw *index, rv_hnsw **out)
{
    rv_hnsw_config config;
    rv_ctx own;
    rv_status status;
    memset(&config, 0, sizeof config);
    memset(&own, 0, sizeof own);
    config.dim = index->store.dim;
    config.metric = index->store.metric;
    config.type = index->store.type;
    config.custom = index->store.custom;
    config.custom_user = index->store.custom_user;
    config.m = index->m;
    config.ef_construction = index->ef_construction;
    config.codes = index->wanted;
    config.code_bytes = index->code_bytes;
    config.drop_vectors = index->drop_vectors;
    own.alloc = index->store.alloc;
    own.seed = index->seed;
    status = rv_hnsw_create(&own, &config, out);
    return status ? rv__fail(ctx, status, own.where, "%s", own.message) : RV_OK;
}

/* Exchanges all that two indexes hold. */
static void rv__hnsw_swap(rv_hnsw *a, rv_hnsw *b)
{
    rv_hnsw c = *a;
    *a = *b;
    *b = c;
}

#undef RV__PAIR_ROWS
#undef RV__RUN
#undef RV__SORT
#undef RV__IDS

#endif /* RV_HNSW_BUILD_C */
