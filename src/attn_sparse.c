#ifndef RV_ATTN_SPARSE_C
#define RV_ATTN_SPARSE_C
#include "attn_sparse.h"
#include "base.c"
#include "csr.c"
#include "attn.c"

/* Patterns: which keys a query sees. One function per pattern walks them in ascending order and
   hands intervals to rv__sparse_see, which cuts off what order and window hide, drops what was seen
   before, and counts or lists. Lists are made twice, for counting and for use, never kept. */

#define RV__SPARSE_RANDOM 64u /* random blocks at most */

/* What follows the public patterns. */
enum { RV__SPARSE_TOPK = RV_ATTN_NEIGHBORHOOD + 1, RV__SPARSE_HIERARCHICAL };

/* The fields of the config that a mechanism reads. */
enum {
    RV__SPARSE_WINDOW = 1, RV__SPARSE_DILATION = 2, RV__SPARSE_STRIDE = 4, RV__SPARSE_COLUMNS = 8,
    RV__SPARSE_BOTH = 16, RV__SPARSE_GLOBALS = 32, RV__SPARSE_N_GLOBALS = 64,
    RV__SPARSE_RANDOMS = 128, RV__SPARSE_BLOCK = 256, RV__SPARSE_BLOCKS = 512,
    RV__SPARSE_GRAPH = 1024, RV__SPARSE_HOPS = 2048, RV__SPARSE_K = 4096,
    RV__SPARSE_SEGMENTS = 8192, RV__SPARSE_ENTRIES = 16384, RV__SPARSE_CHOSEN = 32768
};

/* A mechanism with all defaults filled in. */
typedef struct rv__sparse {
    rv__attn a;
    rv_attn_sparse_config c;
    int kind;
    int choosing;         /* keys are chosen by their vectors ...                                 */
    int nearest;          /* ... by distance, not by logit                                        */
    int stride_given;
    size_t left, right;   /* of sliding and local_global                                          */
    size_t windows;       /* number of sliding windows                                            */
    uint64_t seed;
    uint64_t *start;      /* [n_q + 1] entries before a row                                       */
    size_t most;          /* entries of the longest row                                           */
    uint32_t *marks;      /* of graphs: per lane a stamp in 16, marks [n_k], queue [n_k]          */
    size_t n_marks;
    float *floats;        /* scratch of all lanes                                                 */
    uint32_t *words;
    uint64_t *bits;
    size_t lane_floats, lane_words, n_floats, n_words, n_bits;
    int tiled;            /* tiles are tried; their scratch begins behind these of a lane         */
    size_t tile_floats, tile_words;
    rv__scan_fn near_scan;
} rv__sparse;

/* The keys of a row. */
typedef struct rv__sparse_list {
    uint32_t *ids;        /* NULL: only counted                                                   */
    size_t n, next, end;  /* keys below next are done; keys from end on are hidden                */
    uint32_t *mark, *queue, *stamp; /* of graphs, [n_k], [n_k], [1]: mark == stamp was reached    */
} rv__sparse_list;

static void rv__sparse_see(rv__sparse_list *l, size_t begin, size_t end)
{
    if (begin < l->next) begin = l->next;
    if (end > l->end) end = l->end;
    if (begin >= end) return;
    if (l->ids) {
        uint32_t *to = l->ids + l->n;
        for (size_t j = begin; j < end; j++) to[j - begin] = (uint32_t)j;
    }
    l->n += end - begin;
    l->next = end;
}

static size_t rv__sparse_position(const rv__sparse *s, size_t i)
{
    return rv__add(i, s->a.past);
}

static void rv__sparse_sliding(const rv__sparse *s, size_t p, rv__sparse_list *l)
{
    const size_t step = s->c.dilation, back = rv__mul(s->left, step);
    const size_t last = rv__add(rv__add(p, rv__mul(s->right, step)), 1);
    size_t j = p >= back ? p - back : p % step;
    if (step == 1) {
        rv__sparse_see(l, j, last);
        return;
    }
    for (; j < l->end && j < last; j += step) rv__sparse_see(l, j, j + 1);
}

/* First key of the first, and end of the last, of the windows that hold key i. */
static size_t rv__sparse_window(const rv__sparse *s, size_t i, size_t *last)
{
    const size_t w = s->c.window, step = s->c.stride;
    *last = i / step < s->windows - 1 ? i / step : s->windows - 1;
    return i < w ? 0 : (i - w) / step + 1;
}

static void rv__sparse_local_global(const rv__sparse *s, size_t p, rv__sparse_list *l)
{
    const size_t begin = p > s->left ? p - s->left : 0, n = s->c.n_globals;
    const size_t end = rv__add(rv__add(p, s->right), 1);
    const uint32_t *globals = s->c.globals;
    size_t g = 0;
    if (!globals && p < n) {
        rv__sparse_see(l, 0, l->end);
    } else if (!globals) {
        rv__sparse_see(l, 0, n);
        rv__sparse_see(l, begin, end);
    } else {
        size_t low = 0, high = n;
        while (low < high) { /* the first global not below p */
            const size_t middle = low + (high - low) / 2;
            if (globals[middle] < p) low = middle + 1;
            else high = middle;
        }
        if (low < n && globals[low] == p) rv__sparse_see(l, 0, l->end);
        for (; g < n && globals[g] < begin; g++) rv__sparse_see(l, globals[g], globals[g] + 1u);
        rv__sparse_see(l, begin, end);
        for (; g < n; g++) rv__sparse_see(l, globals[g], globals[g] + 1u);
    }
}

static void rv__sparse_strided(const rv__sparse *s, size_t p, rv__sparse_list *l)
{
    const size_t step = s->c.stride, own = p >= step ? p + 1 - step : 0;
    for (size_t j = p % step; j < own && j < l->end; j += step) rv__sparse_see(l, j, j + 1);
    rv__sparse_see(l, own, s->c.bidirectional ? rv__add(p, step) : p + 1);
    if (!s->c.bidirectional) return;
    for (size_t j = rv__add(p, step); j < l->end; j += step) rv__sparse_see(l, j, j + 1);
}

static void rv__sparse_fixed(const rv__sparse *s, size_t p, rv__sparse_list *l)
{
    const size_t step = s->c.stride, own = p / step * step;
    for (size_t j = 0; j < l->end && (j <= p || s->c.bidirectional); j += step) {
        const size_t end = j == own && !s->c.bidirectional ? p + 1 : rv__add(j, step);
        rv__sparse_see(l, j == own ? j : end - s->c.columns, end);
    }
}

/* Distinct random numbers below n, ascending; count <= n. Floyd, 1987. */
static void rv__sparse_draw(uint64_t seed, size_t n, size_t count, size_t *out)
{
    rv__rng rng;
    rv__rng_init(&rng, seed);
    for (size_t t = 0; t < count; t++) {
        size_t x = rv__rng_below(&rng, (uint32_t)(n - count + t + 1)), at = t;
        for (size_t k = 0; k < t; k++)
            if (out[k] == x) x = n - count + t; /* above all the others */
        for (; at > 0 && out[at - 1] > x; at--) out[at] = out[at - 1];
        out[at] = x;
    }
}

static void rv__sparse_bigbird(const rv__sparse *s, size_t p, rv__sparse_list *l)
{
    const size_t size = s->c.block, n = (s->a.io.n_k + size - 1) / size, b = p / size;
    const size_t half = s->c.window / 2;
    size_t first = (s->c.n_globals + 1) / 2, last = s->c.n_globals / 2, begin, end, free_blocks;
    size_t draw[RV__SPARSE_RANDOM], count = s->c.random, t = 0;
    if (first > n) first = n;
    last = last > n - first ? first : n - last; /* blocks from here on are global */
    if (b < first || (b >= last && b < n)) {
        rv__sparse_see(l, 0, l->end);
        return;
    }
    begin = b > half ? b - half : 0;
    if (begin < first) begin = first;
    if (begin > last) begin = last;
    end = b + half + 1 < last ? b + half + 1 : last;
    if (end < begin) end = begin;
    free_blocks = begin - first + (last - end);
    if (count > free_blocks) count = free_blocks;
    rv__sparse_draw(rv__mix(s->seed ^ rv__mix((uint64_t)b)), free_blocks, count, draw);
    rv__sparse_see(l, 0, first * size);
    for (; t < count && draw[t] < begin - first; t++)
        rv__sparse_see(l, (first + draw[t]) * size, (first + draw[t] + 1) * size);
    rv__sparse_see(l, begin * size, end * size);
    for (; t < count; t++) {
        const size_t at = draw[t] - (begin - first) + end;
        rv__sparse_see(l, at * size, (at + 1) * size);
    }
    rv__sparse_see(l, last * size, l->end);
}

static void rv__sparse_block(const rv__sparse *s, size_t i, rv__sparse_list *l)
{
    const size_t size = s->c.block, n = (s->a.io.n_k + size - 1) / size;
    const uint8_t *row = s->c.blocks + i / size * n;
    for (size_t b = 0; b < n; b++)
        if (row[b]) rv__sparse_see(l, b * size, rv__add(b * size, size));
}

static void rv__sparse_graph_row(const rv_csr *graph, size_t i, rv__sparse_list *l)
{
    for (size_t e = graph->start[i]; e < graph->start[i + 1]; e++)
        rv__sparse_see(l, graph->index[e], (size_t)graph->index[e] + 1);
}

static void rv__sparse_sift(uint32_t *heap, size_t n, size_t at)
{
    const uint32_t moved = heap[at];
    size_t child;
    while ((child = 2 * at + 1) < n) {
        if (child + 1 < n && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= moved) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static void rv__sparse_sort(uint32_t *x, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) rv__sparse_sift(x, n, i);
    while (n-- > 1) {
        const uint32_t last = x[n];
        x[n] = x[0];
        x[0] = last;
        rv__sparse_sift(x, n, 0);
    }
}

/* Breadth first from node p; a level ends where the queue did when the one before was done. */
static void rv__sparse_hops(const rv__sparse *s, size_t p, rv__sparse_list *l)
{
    const rv_csr *graph = s->c.graph;
    size_t n = 0, done = 0;
    if (p >= graph->rows) return;
    (*l->stamp)++;
    l->queue[n++] = (uint32_t)p;
    l->mark[p] = *l->stamp;
    for (size_t hop = 0; hop < s->c.hops && done < n; hop++) {
        for (const size_t level = n; done < level; done++) {
            const size_t from = l->queue[done];
            for (size_t e = graph->start[from]; e < graph->start[from + 1]; e++) {
                const uint32_t to = graph->index[e];
                if (l->mark[to] == *l->stamp) continue;
                l->mark[to] = *l->stamp;
                l->queue[n++] = to;
            }
        }
    }
    rv__sparse_sort(l->queue, n);
    for (size_t t = 0; t < n; t++) rv__sparse_see(l, l->queue[t], (size_t)l->queue[t] + 1);
}

/* The keys of query i, into ids, which may be NULL. */
static size_t rv__sparse_row(const rv__sparse *s, size_t i, rv__sparse_list *l)
{
    const size_t p = rv__sparse_position(s, i);
    size_t first, last;
    l->n = 0;
    rv__attn_sees(&s->a, i, &l->next, &l->end);
    switch (s->kind) {
    case RV_ATTN_SLIDING: rv__sparse_sliding(s, p, l); break;
    case RV_ATTN_SLIDING_WINDOWS:
        first = rv__sparse_window(s, i, &last);
        rv__sparse_see(l, first * s->c.stride, last * s->c.stride + s->c.window);
        break;
    case RV_ATTN_LOCAL_GLOBAL: rv__sparse_local_global(s, p, l); break;
    case RV_ATTN_STRIDED: rv__sparse_strided(s, p, l); break;
    case RV_ATTN_FIXED: rv__sparse_fixed(s, p, l); break;
    case RV_ATTN_BIGBIRD: rv__sparse_bigbird(s, p, l); break;
    case RV_ATTN_BLOCK_SPARSE: rv__sparse_block(s, i, l); break;
    case RV_ATTN_CUSTOM_MASK: rv__sparse_graph_row(s->c.graph, i, l); break;
    case RV_ATTN_NEIGHBORHOOD:
        if (s->c.graph) rv__sparse_hops(s, p, l);
        else rv__sparse_see(l, 0, l->end);
        break;
    default: rv__sparse_see(l, 0, l->end); break;
    }
    return l->n;
}

/* ---- checks and defaults ---- */

/* What a mechanism is called, and the fields it reads. */
typedef struct rv__sparse_kind {
    const char *name;
    int fields;
} rv__sparse_kind;

static const rv__sparse_kind rv__sparse_kinds[] = {
    {"sliding", RV__SPARSE_WINDOW | RV__SPARSE_DILATION | RV__SPARSE_ENTRIES},
    {"sliding_windows", RV__SPARSE_WINDOW | RV__SPARSE_STRIDE | RV__SPARSE_ENTRIES},
    {"local_global",
     RV__SPARSE_WINDOW | RV__SPARSE_GLOBALS | RV__SPARSE_N_GLOBALS | RV__SPARSE_ENTRIES},
    {"sparse_strided", RV__SPARSE_STRIDE | RV__SPARSE_BOTH | RV__SPARSE_ENTRIES},
    {"sparse_fixed",
     RV__SPARSE_STRIDE | RV__SPARSE_COLUMNS | RV__SPARSE_BOTH | RV__SPARSE_ENTRIES},
    {"bigbird", RV__SPARSE_WINDOW | RV__SPARSE_BLOCK | RV__SPARSE_N_GLOBALS | RV__SPARSE_RANDOMS |
                    RV__SPARSE_ENTRIES},
    {"block_sparse", RV__SPARSE_BLOCK | RV__SPARSE_BLOCKS | RV__SPARSE_ENTRIES},
    {"custom_mask", RV__SPARSE_GRAPH | RV__SPARSE_ENTRIES},
    {"neighborhood", RV__SPARSE_GRAPH | RV__SPARSE_HOPS | RV__SPARSE_K | RV__SPARSE_ENTRIES |
                         RV__SPARSE_CHOSEN},
    {"sparse_topk", RV__SPARSE_K | RV__SPARSE_ENTRIES | RV__SPARSE_CHOSEN},
    {"hierarchical", RV__SPARSE_BLOCK | RV__SPARSE_SEGMENTS},
};

/* Fields that are set though the mechanism does not read them. */
static rv_status rv__sparse_check_fields(rv_ctx *ctx, const rv__sparse *s)
{
    static const char *const names[] = {
        "window", "dilation", "stride", "columns", "bidirectional", "globals", "n_globals",
        "random", "block", "blocks", "graph", "hops", "k", "segments", "entries", "chosen"};
    const rv_attn_sparse_config *c = &s->c;
    int set[16], fields = rv__sparse_kinds[s->kind].fields;
    set[0] = c->window != 0;
    set[1] = c->dilation != 0;
    set[2] = c->stride != 0;
    set[3] = c->columns != 0;
    set[4] = c->bidirectional != 0;
    set[5] = c->globals != NULL;
    set[6] = c->n_globals != 0;
    set[7] = c->random != 0;
    set[8] = c->block != 0;
    set[9] = c->blocks != NULL;
    set[10] = c->graph != NULL;
    set[11] = c->hops != 0;
    set[12] = c->k != 0;
    set[13] = c->segments != NULL || c->n_segments != 0;
    set[14] = c->entries != NULL;
    set[15] = c->chosen != NULL;
    for (int f = 0; f < 16; f++) {
        if (set[f] && !(fields & 1 << f))
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s is set, which %s does not read; must be 0",
                            names[f], rv__sparse_kinds[s->kind].name);
    }
    if (c->base.raw)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "raw is set, must be 0: %s divides its weights",
                        rv__sparse_kinds[s->kind].name);
    if (s->kind != RV_ATTN_NEIGHBORHOOD) return RV_OK;
    if (c->graph && (c->k || c->chosen))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "k and chosen must be 0 where neighborhood has a graph");
    if (!c->graph && c->hops)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "hops is %z, but neighborhood has no graph",
                        c->hops);
    return RV_OK;
}

static size_t rv__sparse_root(size_t n)
{
    size_t root = (size_t)sqrt((double)n);
    while (root * root < n) root++;
    return root ? root : 1;
}

/* Defaults of the fields that the mechanism reads. */
static void rv__sparse_settle(rv__sparse *s)
{
    rv_attn_sparse_config *c = &s->c;
    const size_t n = s->a.io.n_k;
    const int kind = s->kind;
    if (c->window == 0) {
        c->window = kind == RV_ATTN_BIGBIRD ? 3 : kind == RV_ATTN_LOCAL_GLOBAL ? 512 : 256;
    }
    if (c->dilation == 0) c->dilation = 1;
    if (c->stride == 0 && kind == RV_ATTN_STRIDED) c->stride = rv__sparse_root(n);
    if (c->stride == 0) c->stride = 128;
    if (kind == RV_ATTN_SLIDING_WINDOWS && !s->stride_given && c->stride > c->window)
        c->stride = c->window;
    if (c->columns == 0) c->columns = c->stride < 8 ? c->stride : 8;
    if (c->n_globals == 0) c->n_globals = kind == RV_ATTN_BIGBIRD ? 2 : 1;
    if (c->random == 0) c->random = 3;
    if (c->block == 0) c->block = kind == RV__SPARSE_HIERARCHICAL ? rv__sparse_root(n) : 64;
    if (c->hops == 0) c->hops = 1;
    if (c->k == 0) c->k = n < 8 ? n : 8;
    s->left = c->window / 2;
    s->right = c->window - 1 - s->left;
    if (s->a.config.order != RV_ATTN_ANY) {
        s->left = c->window - 1;
        s->right = 0;
    }
    if (s->a.config.windowed && (kind == RV_ATTN_SLIDING || kind == RV_ATTN_LOCAL_GLOBAL)) {
        s->left = s->a.config.left;
        s->right = s->a.config.right;
        s->a.config.windowed = 0;
    }
    s->windows = n <= c->window ? 1 : (n - c->window + c->stride - 1) / c->stride + 1;
    s->nearest = kind == RV_ATTN_NEIGHBORHOOD && !c->graph;
    s->choosing = s->nearest || kind == RV__SPARSE_TOPK;
}

static rv_status rv__sparse_check_range(rv_ctx *ctx, const char *name, size_t value, size_t least,
                                        size_t most)
{
    if (value >= least && value <= most) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s is %z, allowed: %z..%z", name, value, least, most);
}

static rv_status rv__sparse_check_list(rv_ctx *ctx, const char *name, const uint32_t *list,
                                       size_t n, size_t below)
{
    for (size_t g = 0; g < n; g++) {
        if (list[g] >= below || (g > 0 && list[g] <= list[g - 1]))
            return rv__fail(ctx, RV_ERR_CONFIG, g,
                            "%s[%z] is %z; it must be below %z and above the one before", name, g,
                            (size_t)list[g], below);
    }
    return RV_OK;
}

static rv_status rv__sparse_check_graph(rv_ctx *ctx, const rv__sparse *s)
{
    const rv_csr *graph = s->c.graph;
    const size_t rows = s->kind == RV_ATTN_CUSTOM_MASK ? s->a.io.n_q : s->a.io.n_k;
    rv_status status = rv_csr_check(ctx, graph);
    if (!status && (graph->rows != rows || graph->cols != s->a.io.n_k))
        status = rv__fail(ctx, RV_ERR_DIM, 0,
                          "graph has %z rows and %z columns, must have %z and %z", graph->rows,
                          graph->cols, rows, s->a.io.n_k);
    return status;
}

/* Fields that hold lists. */
static rv_status rv__sparse_check_lists(rv_ctx *ctx, const rv__sparse *s)
{
    const rv_attn_sparse_config *c = &s->c;
    const size_t n = s->a.io.n_k;
    switch (s->kind) {
    case RV_ATTN_LOCAL_GLOBAL:
        return c->globals ? rv__sparse_check_list(ctx, "globals", c->globals, c->n_globals, n)
                          : RV_OK;
    case RV_ATTN_BLOCK_SPARSE:
        return c->blocks ? RV_OK : rv__fail(ctx, RV_ERR_ARG, 0, "blocks must not be NULL");
    case RV_ATTN_CUSTOM_MASK:
        if (!c->graph) return rv__fail(ctx, RV_ERR_ARG, 0, "graph must not be NULL");
        return rv__sparse_check_graph(ctx, s);
    case RV_ATTN_NEIGHBORHOOD: return c->graph ? rv__sparse_check_graph(ctx, s) : RV_OK;
    case RV__SPARSE_HIERARCHICAL:
        if (!c->segments && !c->n_segments) return RV_OK;
        if (!c->segments || !c->n_segments || c->segments[0] != 0)
            return rv__fail(ctx, RV_ERR_CONFIG, 0,
                            "segments must be n_segments (%z) first keys, beginning with 0",
                            c->n_segments);
        return rv__sparse_check_list(ctx, "segments", c->segments, c->n_segments, n);
    default: return RV_OK;
    }
}

static rv_status rv__sparse_check(rv_ctx *ctx, const rv__sparse *s)
{
    const rv_attn_sparse_config *c = &s->c;
    const size_t most = 0x7FFFFFFF, n = s->a.io.n_k;
    rv_status status = rv__sparse_check_range(ctx, "past", s->a.config.past, 0, most);
    if (!status) status = rv__sparse_check_range(ctx, "window", c->window, 1, most);
    if (!status) status = rv__sparse_check_range(ctx, "dilation", c->dilation, 1, most);
    if (!status) status = rv__sparse_check_range(ctx, "stride", c->stride, 1, most);
    if (!status && s->kind == RV_ATTN_FIXED)
        status = rv__sparse_check_range(ctx, "columns", c->columns, 1, c->stride);
    if (!status) status = rv__sparse_check_range(ctx, "n_globals", c->n_globals, 1, most);
    if (!status) status = rv__sparse_check_range(ctx, "random", c->random, 1, RV__SPARSE_RANDOM);
    if (!status) status = rv__sparse_check_range(ctx, "block", c->block, 1, most);
    if (!status && s->choosing) status = rv__sparse_check_range(ctx, "k", c->k, 1, n);
    if (!status && s->kind == RV_ATTN_BIGBIRD && c->window % 2 == 0)
        status = rv__fail(ctx, RV_ERR_CONFIG, 0, "window is %z, must be odd for bigbird",
                          c->window);
    if (!status && s->kind == RV_ATTN_SLIDING_WINDOWS) {
        status = rv__sparse_check_range(ctx, "stride", c->stride, 1, c->window);
        if (!status && (s->a.io.n_q != n || s->a.config.past))
            status = rv__fail(ctx, RV_ERR_DIM, 0,
                              "n_q, n_k and past are %z, %z and %z; sliding_windows needs equal "
                              "n_q and n_k and no past", s->a.io.n_q, n, s->a.config.past);
    }
    return status ? status : rv__sparse_check_lists(ctx, s);
}

/* Fills in the mechanism; n_q, n_k, config and past of s->a have been. */
static rv_status rv__sparse_begin(rv_ctx *ctx, int kind, const rv_attn_sparse_config *config,
                                  rv__sparse *s)
{
    rv_status status;
    if (config) s->c = *config;
    s->kind = kind;
    s->seed = rv__seed(ctx);
    s->stride_given = s->c.stride != 0;
    status = rv__sparse_check_fields(ctx, s);
    if (status) return status;
    rv__sparse_settle(s);
    return rv__sparse_check(ctx, s);
}

/* ---- counting, export ---- */

static void rv__sparse_list_of(const rv__sparse *s, size_t lane, rv__sparse_list *l)
{
    uint32_t *words;
    memset(l, 0, sizeof *l);
    if (!s->marks) return;
    words = s->marks + lane * (2 * s->a.io.n_k + 16);
    l->stamp = words;
    l->mark = words + 16;
    l->queue = l->mark + s->a.io.n_k;
}

static void rv__sparse_count_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__sparse *s = (const rv__sparse *)arg;
    rv__sparse_list l;
    rv__sparse_list_of(s, lane, &l);
    for (size_t i = begin; i < end; i++) s->start[i + 1] = rv__sparse_row(s, i, &l);
}

static void rv__sparse_drop(const rv_alloc *alloc, rv__sparse *s)
{
    rv__put(alloc, s->start, s->a.io.n_q + 1, sizeof *s->start);
    rv__put(alloc, s->marks, s->n_marks, sizeof *s->marks);
    s->start = NULL;
    s->marks = NULL;
}

/* Makes start; on failure nothing is owned. */
static rv_status rv__sparse_count(rv_ctx *ctx, const rv_alloc *alloc, rv__sparse *s)
{
    const size_t n_q = s->a.io.n_q;
    const int walks = s->kind == RV_ATTN_NEIGHBORHOOD && s->c.graph;
    rv_status status = RV_OK;
    s->n_marks = walks ? rv__mul(rv__lanes(ctx), rv__add(2 * s->a.io.n_k, 16)) : 0;
    s->start = (uint64_t *)rv__get(alloc, n_q + 1, sizeof *s->start);
    if (walks) s->marks = (uint32_t *)rv__get(alloc, s->n_marks, sizeof *s->marks);
    if (!s->start || (walks && !s->marks)) {
        status = rv__no_memory(ctx, rv__add(8 * n_q, rv__mul(4, s->n_marks)));
    } else if (walks) {
        status = rv__fill_polled(ctx, s->marks, 0, s->n_marks * sizeof *s->marks);
    }
    if (!status) status = rv__parallel_for(ctx, n_q, 64, 4096, rv__sparse_count_range, s);
    if (status) {
        rv__sparse_drop(alloc, s);
        return status;
    }
    s->start[0] = 0;
    for (size_t i = 0; i < n_q; i++) {
        if (s->start[i + 1] > s->most) s->most = (size_t)s->start[i + 1];
        s->start[i + 1] += s->start[i];
    }
    return RV_OK;
}

RV_API rv_status rv_attn_pattern_csr(rv_ctx *ctx, rv_attn_pattern pattern,
                                     const rv_attn_sparse_config *config, size_t n_q, size_t n_k,
                                     uint32_t *start, uint32_t *index, size_t cap, size_t *count)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__sparse s;
    rv__sparse_list l;
    size_t work = 0;
    rv_status status;
    if ((unsigned)pattern > (unsigned)RV_ATTN_NEIGHBORHOOD)
        return rv__fail(ctx, RV_ERR_ARG, 0, "pattern is %d, allowed: 0..8", (int)pattern);
    if (!count) return rv__fail(ctx, RV_ERR_ARG, 0, "count must not be NULL");
    if (n_k == 0 || n_k > 0x7FFFFFFF || n_q > 0x7FFFFFFF)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n_q and n_k are %z and %z, allowed: below 2^31, and "
                        "n_k above 0", n_q, n_k);
    memset(&s, 0, sizeof s);
    if (config) s.a.config = config->base;
    s.a.io.n_q = n_q;
    s.a.io.n_k = n_k;
    if ((unsigned)s.a.config.order > (unsigned)RV_ATTN_CAUSAL_FIRST)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "order is %d, allowed: 0..2",
                        (int)s.a.config.order);
    s.a.past = s.a.config.past;
    if (s.a.config.order == RV_ATTN_CAUSAL) s.a.past = n_k > n_q ? n_k - n_q : 0;
    status = rv__sparse_begin(ctx, (int)pattern, config, &s);
    if (!status && s.nearest)
        status = rv__fail(ctx, RV_ERR_CONFIG, 0, "graph is NULL: which keys are nearest depends on "
                          "the vectors; see `chosen`");
    if (!status) status = rv__sparse_count(ctx, &alloc, &s);
    if (status) return status;
    *count = (size_t)s.start[n_q];
    if (*count != s.start[n_q]) *count = SIZE_MAX;
    if (s.start[n_q] > cap || s.start[n_q] >= UINT32_MAX)
        status = rv__fail(ctx, RV_ERR_ARG, 0, "cap is %z; there are %l entries", cap,
                          s.start[n_q]);
    else if (!start || (*count && !index))
        status = rv__fail(ctx, RV_ERR_ARG, 0, "start or index is NULL");
    rv__sparse_list_of(&s, 0, &l);
    if (!status) start[0] = 0;
    for (size_t i = 0; i < n_q && !status; i++) {
        l.ids = index + s.start[i];
        status = rv__poll_by(ctx, &work, 64 + 2 * rv__sparse_row(&s, i, &l));
        start[i + 1] = (uint32_t)s.start[i + 1];
    }
    rv__sparse_drop(&alloc, &s);
    return status ? status : rv__ok(ctx);
}

#undef RV__SPARSE_RANDOM

#endif /* RV_ATTN_SPARSE_C */
