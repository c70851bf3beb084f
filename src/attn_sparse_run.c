#ifndef RV_ATTN_SPARSE_RUN_C
#define RV_ATTN_SPARSE_RUN_C
#include "attn_sparse.h"
#include "base.c"
#include "simd.c"
#include "topk.c"
#include "distance.c"
#include "attn.c"
#include "attn_back.c"
#include "attn_sparse.c"
#include "attn_sparse_tile.c"

/* Attention over lists of keys. Forward, where only outputs are wanted, by tiles; else row by row:
   logits of the listed keys, softmax (or the two-level one, or the mean over windows), weighted sum
   of values.

   Backward takes rows in chunks. First, row by row: weights and slopes of logits, the query's
   gradient; what is not zero is kept for the chunk. Then, by ranges of keys: each key collects from
   the chunk's rows in ascending order, so that its sums have the same bits for any ranges. */

#define RV__SPARSE_WORK 8000000u /* products between two polls, per lane */
#define RV__SPARSE_CHUNK 65536u  /* entries of a chunk, about            */

typedef struct rv__sparse_lane {
    rv__sparse_list list;
    uint32_t *order;                /* [k] */
    float *q, *wide;                /* [dim] scaled, [dim or dim_v] */
    float *x, *s, *w, *v, *dw, *ds; /* by entry: products, logits, weights, anything, slopes */
    float *best, *segment;          /* [k], [2 n_segments] */
} rv__sparse_lane;

static size_t rv__sparse_segments(const rv__sparse *s)
{
    if (s->kind != RV__SPARSE_HIERARCHICAL) return 0;
    return s->c.segments ? s->c.n_segments : (s->a.io.n_k + s->c.block - 1) / s->c.block;
}

/* Floats of a lane, and words besides its marks. */
static size_t rv__sparse_lane_size(const rv__sparse *s, size_t *words)
{
    const size_t dim = s->a.io.dim > s->a.io.dim_v ? s->a.io.dim : s->a.io.dim_v;
    const size_t most = rv__round_up(s->most + 1, 16), k = s->choosing ? s->c.k : 0;
    *words = most + k;
    return rv__add(rv__mul(6, most), 2 * rv__round_up(dim, 16) + rv__round_up(k, 16) +
                                         rv__round_up(2 * rv__sparse_segments(s), 16));
}

static void rv__sparse_lane_at(const rv__sparse *s, size_t lane, rv__sparse_lane *l)
{
    const size_t dim = s->a.io.dim > s->a.io.dim_v ? s->a.io.dim : s->a.io.dim_v;
    const size_t most = rv__round_up(s->most + 1, 16), k = s->choosing ? s->c.k : 0;
    float *at = s->floats + lane * s->lane_floats;
    rv__sparse_list_of(s, lane, &l->list);
    l->list.ids = s->words + lane * s->lane_words;
    l->order = l->list.ids + most;
    l->x = at;
    l->s = l->x + most;
    l->w = l->s + most;
    l->v = l->w + most;
    l->dw = l->v + most;
    l->ds = l->dw + most;
    l->q = l->ds + most;
    l->wide = l->q + rv__round_up(dim, 16);
    l->best = l->wide + rv__round_up(dim, 16);
    l->segment = l->best + rv__round_up(k, 16);
}

/* ---- rows ---- */

/* Distances of a query and rows, which are those of `rows` from element `at` on. */
static void rv__sparse_scan(const rv__sparse *s, rv__scan_fn scan, const float *query,
                            const void *rows, size_t at, size_t stride, size_t dim,
                            const rv__sparse_list *l, float *out)
{
    const unsigned char *base = (const unsigned char *)rows + at * s->a.elem;
    const size_t bytes = stride * s->a.elem;
    if (l->n == 0) return;
    if (l->ids[l->n - 1] - l->ids[0] == l->n - 1)
        scan(query, base + l->ids[0] * bytes, bytes, NULL, l->n, dim, out);
    else scan(query, base, bytes, l->ids, l->n, dim, out);
}

/* out += sum of w times rows; weights of zero are left out. */
static void rv__sparse_mix(const rv__sparse *s, const void *rows, size_t at, size_t stride,
                           size_t dim, const rv__sparse_list *l, const float *w, float *wide,
                           float *out)
{
    const rv__kernels *k = s->a.kernels;
    const float *plain = (const float *)rows + at;
    const uint16_t *half = (const uint16_t *)rows + at;
    const int plainly = s->a.io.type == RV_DTYPE_F32, runs = plainly && dim % 16 == 0;
    for (size_t e = 0, end; e < l->n; e = end) {
        const float *row = plainly ? plain + l->ids[e] * stride : wide;
        end = e + 1;
        if (w[e] == 0.0f) continue;
        while (runs && end < l->n && l->ids[end] == l->ids[end - 1] + 1u && w[end] != 0.0f) end++;
        if (s->a.io.type == RV_DTYPE_F16) k->widen_f16(half + l->ids[e] * stride, wide, dim);
        if (s->a.io.type == RV_DTYPE_BF16) k->widen_bf16(half + l->ids[e] * stride, wide, dim);
        if (end - e > 1) k->attn_mix_one(w + e, row, stride, end - e, out, dim);
        else k->axpy_f32(w[e], row, out, dim);
    }
}

/* s from x: softcap, slopes, values of the graph, masks. */
static void rv__sparse_finish_logits(const rv__sparse *s, size_t h, size_t i,
                                     const rv__sparse_lane *l)
{
    const uint32_t *ids = l->list.ids;
    const size_t n = l->list.n;
    memcpy(l->s, l->x, n * sizeof *l->s);
    rv__sparse_dress(s, h, i, ids, n, l->s);
    if (s->kind == RV_ATTN_CUSTOM_MASK && s->c.graph->value && n) {
        const uint32_t *index = s->c.graph->index;
        size_t at = s->c.graph->start[i];
        while (index[at] < ids[0]) at++; /* what order hides */
        for (size_t e = 0; e < n; e++) l->s[e] += s->c.graph->value[at + e];
    }
    rv__sparse_hide(s, h, i, ids, n, l->s);
}

/* Hides all keys but the k that are largest, or nearest. */
static void rv__sparse_choose(const rv__sparse *s, size_t kv, rv__sparse_lane *l)
{
    const size_t n = l->list.n, k = s->c.k, dim = s->a.io.dim;
    size_t ties = k;
    float bound;
    int nan = 0;
    if (n <= k) return;
    (void)s->a.kernels->max_f32(l->s, 1.0f, n, &nan);
    if (nan) return;
    if (s->nearest) {
        rv__sparse_scan(s, s->near_scan, l->q, s->a.io.k, kv * dim, s->a.io.k_stride, dim, &l->list,
                        l->v);
        for (size_t e = 0; e < n; e++)
            if (l->s[e] < -3.4e38f) l->v[e] = rv__infinity();
    } else {
        for (size_t e = 0; e < n; e++) l->v[e] = -l->s[e];
    }
    (void)rv_topk_f32(l->v, n, k, l->order, l->best);
    bound = l->best[k - 1];
    for (size_t e = 0; e < k; e++) ties -= l->best[e] < bound;
    for (size_t e = 0; e < n; e++) {
        if (l->v[e] < bound) continue;
        if (l->v[e] == bound && ties > 0) ties--;
        else l->s[e] = -rv__infinity();
    }
}

/* x and s of a row, whose list stands. */
static void rv__sparse_logits(const rv__sparse *s, size_t h, size_t i, rv__sparse_lane *l)
{
    const rv_attn_io *io = &s->a.io;
    const size_t kv = h / s->a.group, n = l->list.n;
    const float *q = io->q + i * io->q_stride + h * io->dim;
    memcpy(l->q, q, io->dim * sizeof *q);
    rv__sparse_scan(s, s->a.scan, l->q, io->k, kv * io->dim, io->k_stride, io->dim, &l->list, l->x);
    for (size_t e = 0; e < n; e++) l->x[e] *= -s->a.factor;
    rv__sparse_finish_logits(s, h, i, l);
    if (s->choosing) rv__sparse_choose(s, kv, l);
}

/* ---- softmax and the like ---- */

/* w = softmax(s) beside a sink; the logarithm of the denominator. */
static float rv__sparse_softmax(const rv__kernels *k, const float *s, size_t n, float sink,
                                float *w)
{
    int nan = 0;
    float top = n ? k->max_f32(s, 1.0f, n, &nan) : -rv__infinity(), sum, rest = 0.0f;
    if (nan || rv__bits_f32(top) == 0x7F800000) {
        for (size_t e = 0; e < n; e++) w[e] = rv__nan();
        return rv__nan();
    }
    if (sink > top) top = sink;
    if (!(top >= -3.4e38f)) {
        memset(w, 0, n * sizeof *w);
        return -rv__infinity();
    }
    if (sink >= -3.4e38f) {
        rest = sink - top;
        k->exp_f32(&rest, &rest, 1);
    }
    sum = k->exp_sum_f32(s, 1.0f, top, w, n) + rest;
    k->scale_f32(1.0f / sum, w, n);
    return top + (float)log((double)sum);
}

/* ds += share * w (dw - sum of w dw), for w != 0; that sum. */
static double rv__sparse_softmax_pull(const float *w, const float *dw, size_t n, float share,
                                      float *ds)
{
    double sum = 0.0;
    for (size_t e = 0; e < n; e++)
        if (w[e] != 0.0f) sum += (double)w[e] * (double)dw[e];
    for (size_t e = 0; e < n; e++)
        if (w[e] != 0.0f) ds[e] += share * w[e] * (float)((double)dw[e] - sum);
    return sum;
}

static float rv__sparse_sink(const rv__sparse *s, size_t h)
{
    return s->a.config.sinks ? s->a.config.sinks[h] : -rv__infinity();
}

/* What a sink weighs. */
static double rv__sparse_sink_weight(float sink, float lse)
{
    return sink >= -3.4e38f ? exp((double)sink - (double)lse) : 0.0;
}

/* Entries of sliding window t, or of segment t, in a list that is an interval. */
static size_t rv__sparse_part(const rv__sparse *s, const rv__sparse_list *l, size_t t, size_t *end)
{
    size_t begin = t * s->c.stride, low = l->n ? l->ids[0] : 0;
    *end = begin + s->c.window;
    if (s->kind == RV__SPARSE_HIERARCHICAL) {
        begin = s->c.segments ? s->c.segments[t] : t * s->c.block;
        *end = !s->c.segments              ? begin + s->c.block
               : t + 1 < s->c.n_segments ? s->c.segments[t + 1]
                                           : s->a.io.n_k;
    }
    begin = begin > low ? begin - low : 0;
    *end = *end > low ? *end - low : 0;
    if (*end > l->n) *end = l->n;
    return begin < *end ? begin : *end;
}

/* The mean of softmax over windows; with ds, also its slopes, and what the sink's weight adds. */
static double rv__sparse_windows(const rv__sparse *s, size_t h, size_t i, rv__sparse_lane *l,
                                 int pull)
{
    const float sink = rv__sparse_sink(s, h);
    size_t last, t = rv__sparse_window(s, i, &last), end;
    const float share = 1.0f / (float)(last - t + 1);
    double d_sink = 0.0;
    if (!pull) memset(l->w, 0, l->list.n * sizeof(float));
    for (; t <= last; t++) {
        const size_t begin = rv__sparse_part(s, &l->list, t, &end), n = end - begin;
        const float lse = rv__sparse_softmax(s->a.kernels, l->s + begin, n, sink, l->v);
        if (pull) {
            const double sum = rv__sparse_softmax_pull(l->v, l->dw + begin, n, share,
                                                       l->ds + begin);
            d_sink -= (double)share * rv__sparse_sink_weight(sink, lse) * sum;
        } else {
            s->a.kernels->axpy_f32(share, l->v, l->w + begin, n);
        }
    }
    return d_sink;
}

/* Weights within segments go to v, those of segments to segment[0 .. n - 1]; w is their product. */
static float rv__sparse_levels(const rv__sparse *s, size_t h, rv__sparse_lane *l)
{
    const size_t n = rv__sparse_segments(s);
    const rv__kernels *k = s->a.kernels;
    float *logit = l->segment + n, lse;
    size_t end;
    for (size_t g = 0; g < n; g++) {
        const size_t begin = rv__sparse_part(s, &l->list, g, &end);
        const float own = rv__sparse_softmax(k, l->s + begin, end - begin, -rv__infinity(),
                                             l->v + begin);
        double sum = 0.0;
        for (size_t e = begin; e < end; e++)
            if (l->v[e] != 0.0f) sum += (double)l->v[e] * (double)l->x[e];
        logit[g] = own < -3.4e38f ? own : (float)sum;
    }
    lse = rv__sparse_softmax(k, logit, n, rv__sparse_sink(s, h), l->segment);
    for (size_t g = 0; g < n; g++) {
        const size_t begin = rv__sparse_part(s, &l->list, g, &end);
        for (size_t e = begin; e < end; e++) l->w[e] = l->v[e] * l->segment[g];
    }
    return lse;
}

/* Slopes by logits are added to ds, those by x, which the segments' logits bring, to dx. */
static double rv__sparse_levels_pull(const rv__sparse *s, rv__sparse_lane *l, float *dx)
{
    const size_t n = rv__sparse_segments(s);
    float *db = l->segment + n;
    double all = 0.0;
    size_t end;
    for (size_t g = 0; g < n; g++) {
        const size_t begin = rv__sparse_part(s, &l->list, g, &end);
        double sum = 0.0;
        for (size_t e = begin; e < end; e++)
            if (l->v[e] != 0.0f) sum += (double)l->v[e] * (double)l->dw[e];
        db[g] = (float)sum;
        all += (double)l->segment[g] * sum;
    }
    for (size_t g = 0; g < n; g++) {
        const size_t begin = rv__sparse_part(s, &l->list, g, &end);
        const float b = l->segment[g], dt = b * (float)((double)db[g] - all);
        for (size_t e = begin; e < end; e++) l->dw[e] = b * l->dw[e] + dt * l->x[e];
        (void)rv__sparse_softmax_pull(l->v + begin, l->dw + begin, end - begin, 1.0f,
                                      l->ds + begin);
        for (size_t e = begin; e < end; e++) dx[e] = dt * l->v[e];
    }
    return all;
}

/* Weights of a row and the logarithm of their denominator. */
static float rv__sparse_weigh(const rv__sparse *s, size_t h, size_t i, rv__sparse_lane *l)
{
    rv__sparse_logits(s, h, i, l);
    if (s->kind == RV__SPARSE_HIERARCHICAL) return rv__sparse_levels(s, h, l);
    if (s->kind == RV_ATTN_SLIDING_WINDOWS) return (float)rv__sparse_windows(s, h, i, l, 0);
    return rv__sparse_softmax(s->a.kernels, l->s, l->list.n, rv__sparse_sink(s, h), l->w);
}

/* Dropout on weights, or on slopes by them; the same ones as in dense attention. */
static void rv__sparse_drop_out(const rv__sparse *s, size_t h, size_t i, const rv__sparse_list *l,
                                float *w)
{
    const uint64_t at = ((uint64_t)h * s->a.io.n_q + i) * s->a.io.n_k + s->a.drop_key;
    for (size_t e = 0; s->a.drop && e < l->n; e++)
        w[e] = rv__mix(at + l->ids[e]) >> 32 < s->a.drop ? 0.0f : w[e] * s->a.kept;
}

/* ---- forward ---- */

static void rv__sparse_write_chosen(const rv__sparse *s, size_t h, size_t i,
                                    const rv__sparse_lane *l)
{
    const size_t k = s->c.k, at = (h * s->a.io.n_q + i) * k;
    size_t count = 0;
    for (size_t e = 0; e < l->list.n && count < k; e++) {
        if (!(l->s[e] >= -3.4e38f)) continue;
        if (s->c.chosen) s->c.chosen[at + count] = l->list.ids[e];
        if (s->c.entries) s->c.entries[at + count] = l->w[e];
        count++;
    }
    for (; count < k; count++) {
        if (s->c.chosen) s->c.chosen[at + count] = UINT32_MAX;
        if (s->c.entries) s->c.entries[at + count] = 0.0f;
    }
}

static void rv__sparse_forward_row(const rv__sparse *s, size_t h, size_t i, rv__sparse_lane *l)
{
    const rv_attn_io *io = &s->a.io;
    const size_t n = l->list.n, row = h * io->n_q + i;
    float *out = io->out + i * io->out_stride + h * io->dim_v;
    const float lse = rv__sparse_weigh(s, h, i, l);
    if (io->lse) io->lse[row] = lse;
    if (io->weights) {
        float *to = io->weights + row * io->n_k;
        memset(to, 0, io->n_k * sizeof *to);
        for (size_t e = 0; e < n; e++) to[l->list.ids[e]] = l->w[e];
    }
    if (s->choosing) {
        rv__sparse_write_chosen(s, h, i, l);
    } else if (s->c.entries) {
        const uint64_t at = h * s->start[io->n_q] + s->start[i];
        memcpy(s->c.entries + (size_t)at, l->w, n * sizeof *l->w);
    }
    rv__sparse_drop_out(s, h, i, &l->list, l->w);
    memset(out, 0, io->dim_v * sizeof *out);
    rv__sparse_mix(s, io->v, h / s->a.group * io->dim_v, io->v_stride, io->dim_v, &l->list, l->w,
                   l->wide, out);
}

/* Units of tiles, or rows. */
static void rv__sparse_forward_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__sparse *s = (const rv__sparse *)arg;
    rv__sparse_lane l;
    rv__sparse_tiles t;
    rv__sparse_lane_at(s, lane, &l);
    if (s->tiled) rv__sparse_tile_at(s, lane, &t);
    for (size_t unit = begin; unit < end; unit++) {
        size_t i = unit, last = unit + 1;
        if (s->tiled) i = rv__sparse_tile_rows(s, unit, &last);
        if (s->tiled && rv__sparse_tile_unit(s, i, last, &t)) continue;
        for (; i < last; i++) {
            (void)rv__sparse_row(s, i, &l.list);
            for (size_t h = 0; h < s->a.config.heads; h++) rv__sparse_forward_row(s, h, i, &l);
        }
    }
}

static rv_status rv__sparse_open(rv_ctx *ctx, int kind, const rv_attn_sparse_config *config,
                                 const rv_attn_io *io, rv__sparse *s)
{
    const rv_attn_config *base = config ? &config->base : NULL;
    rv_status status;
    memset(s, 0, sizeof *s);
    status = rv__attn_open(ctx, base, io, NULL, &s->a);
    if (!status) status = rv__sparse_begin(ctx, kind, config, s);
    if (status) return status;
    if (kind == RV_ATTN_SLIDING_WINDOWS && io->lse)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "lse must be NULL: sliding_windows has no such one");
    s->near_scan = rv__scan_find(RV_METRIC_L2, io->type, ctx ? ctx->isa : RV_ISA_BEST);
    s->a.factor = s->a.config.scale / s->a.config.temperature; /* not in powers of two */
    return RV_OK;
}

/* Scratch of the lanes, and start; on failure rv__sparse_close has to be called just as well. */
static rv_status rv__sparse_scratch(rv_ctx *ctx, const rv_alloc *alloc, rv__sparse *s)
{
    const size_t lanes = rv__lanes(ctx);
    size_t words, bits = 0;
    rv_status status = rv__sparse_count(ctx, alloc, s);
    if (status) return status;
    s->lane_floats = s->tile_floats = rv__sparse_lane_size(s, &s->tile_words);
    s->lane_words = s->tile_words;
    if (s->tiled) {
        s->lane_floats = rv__add(s->lane_floats, rv__sparse_tile_size(s, &words));
        s->lane_words = rv__add(s->lane_words, words);
        bits = RV__SPARSE_ROWS * (rv__sparse_tile_cap(s) / RV__ATTN_KEYS);
    }
    s->n_floats = rv__mul(lanes, s->lane_floats);
    s->n_words = rv__mul(lanes, s->lane_words);
    s->n_bits = rv__mul(lanes, bits);
    s->floats = (float *)rv__get(alloc, s->n_floats, sizeof(float));
    s->words = (uint32_t *)rv__get(alloc, s->n_words, sizeof(uint32_t));
    s->bits = (uint64_t *)rv__get(alloc, s->n_bits, sizeof(uint64_t));
    if (s->floats && s->words && s->bits) return RV_OK;
    return rv__no_memory(ctx, rv__mul(4, rv__add(s->n_floats, s->n_words)));
}

static void rv__sparse_close(const rv_alloc *alloc, rv__sparse *s)
{
    rv__put(alloc, s->bits, s->n_bits, sizeof(uint64_t));
    rv__put(alloc, s->words, s->n_words, sizeof(uint32_t));
    rv__put(alloc, s->floats, s->n_floats, sizeof(float));
    rv__sparse_drop(alloc, s);
}

/* Rows, with all heads if `heads`, that cost about as much as `work` products. */
static size_t rv__sparse_rows_of(const rv__sparse *s, size_t heads, double work)
{
    const double n = (double)s->start[s->a.io.n_q] / (double)s->a.io.n_q;
    const double row = (double)heads * (n * ((double)(s->a.io.dim + s->a.io.dim_v) + 16.0) + 200.0);
    return 1 + (size_t)(work / row);
}

/* Whether this is a window of neighbours, for which tiles are faster; the configuration of that. */
static int rv__sparse_plain(const rv__sparse *s, rv_attn_config *window)
{
    *window = s->a.config;
    window->windowed = 1;
    window->left = s->left;
    window->right = s->right;
    return s->kind == RV_ATTN_SLIDING && s->c.dilation == 1 && !s->c.entries;
}

static rv_status rv__sparse_forward(rv_ctx *ctx, int kind, const rv_attn_sparse_config *config,
                                    const rv_attn_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__sparse s;
    rv_attn_config window;
    rv_status status = rv__sparse_open(ctx, kind, config, io, &s);
    size_t heads, units = io ? io->n_q : 0, rows = 1, size, pieces;
    if (status || io->n_q == 0) return status ? status : rv__ok(ctx);
    if (rv__sparse_plain(&s, &window)) return rv_attn(ctx, &window, io);
    heads = s.a.config.heads;
    s.tiled = rv__sparse_tile_may(&s);
    status = rv__sparse_scratch(ctx, &alloc, &s);
    if (s.tiled) {
        units = rv__sparse_tile_units(&s, &size, &pieces);
        rows = (size + pieces - 1) / pieces;
    }
    if (!status) {
        status = rv__parallel_for(ctx, units, rv__sparse_rows_of(&s, heads, 100000.0) / rows,
                                  rv__sparse_rows_of(&s, heads, (double)RV__SPARSE_WORK) / rows,
                                  rv__sparse_forward_range, &s);
    }
    rv__sparse_close(&alloc, &s);
    return status ? status : rv__ok(ctx);
}

/* ---- backward ---- */

typedef struct rv__sparse_back {
    rv__sparse *s;
    const rv_attn_grad *grad;
    size_t head, first, rows, pieces;   /* of the chunk */
    uint32_t *ids, *kept;               /* by entry; by row of the chunk */
    float *w, *dx;                      /* by entry */
    double *d_sink;                     /* [n_q] */
    size_t cap, cap_rows;
} rv__sparse_back;

/* Slopes by logits of a row, in ds, from those by weights; the sink's is returned. */
static double rv__sparse_slopes(const rv__sparse *s, size_t h, size_t i, float lse,
                                rv__sparse_lane *l)
{
    const rv_attn_config *c = &s->a.config;
    const size_t n = l->list.n;
    const float sink = rv__sparse_sink(s, h);
    const int levels = s->kind == RV__SPARSE_HIERARCHICAL;
    double d_sink;
    memset(l->ds, 0, n * sizeof *l->ds);
    if (s->kind == RV_ATTN_SLIDING_WINDOWS) {
        d_sink = rv__sparse_windows(s, h, i, l, 1);
    } else {
        const double sum = levels ? rv__sparse_levels_pull(s, l, l->s)
                                  : rv__sparse_softmax_pull(l->w, l->dw, n, 1.0f, l->ds);
        d_sink = -sum * rv__sparse_sink_weight(sink, lse);
    }
    if (c->softcap > 0.0f) {
        for (size_t e = 0; e < n; e++) l->v[e] = l->x[e] / c->softcap;
        s->a.kernels->tanh_f32(l->v, l->v, n);
        for (size_t e = 0; e < n; e++) l->ds[e] *= 1.0f - l->v[e] * l->v[e];
    }
    for (size_t e = 0; levels && e < n; e++) l->ds[e] += l->s[e];
    return d_sink;
}

static void rv__sparse_back_row(const rv__sparse_back *b, size_t i, rv__sparse_lane *l)
{
    const rv__sparse *s = b->s;
    const rv_attn_io *io = &s->a.io;
    const size_t h = b->head, kv = h / s->a.group, n = l->list.n;
    const size_t at = (size_t)(s->start[i] - s->start[b->first]);
    const float *d_out = b->grad->d_out + i * io->out_stride + h * io->dim_v;
    const float lse = rv__sparse_weigh(s, h, i, l);
    uint32_t kept = 0;
    rv__sparse_scan(s, s->a.scan, d_out, io->v, kv * io->dim_v, io->v_stride, io->dim_v, &l->list,
                    l->dw);
    for (size_t e = 0; e < n; e++) l->dw[e] = -l->dw[e];
    rv__sparse_drop_out(s, h, i, &l->list, l->dw);
    b->d_sink[i] = rv__sparse_slopes(s, h, i, lse, l);
    rv__sparse_drop_out(s, h, i, &l->list, l->w);
    for (size_t e = 0; e < n; e++) {
        l->ds[e] *= s->a.factor;
        if (l->w[e] == 0.0f && l->ds[e] == 0.0f) continue;
        b->ids[at + kept] = l->list.ids[e];
        b->w[at + kept] = l->w[e];
        b->dx[at + kept] = l->ds[e];
        kept++;
    }
    b->kept[i - b->first] = kept;
    if (b->grad->d_q) {
        float *d_q = b->grad->d_q + (i * s->a.config.heads + h) * io->dim;
        memset(d_q, 0, io->dim * sizeof *d_q);
        rv__sparse_mix(s, io->k, kv * io->dim, io->k_stride, io->dim, &l->list, l->ds, l->wide,
                       d_q);
    }
}

static void rv__sparse_back_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__sparse_back *b = (const rv__sparse_back *)arg;
    rv__sparse_lane l;
    rv__sparse_lane_at(b->s, lane, &l);
    for (size_t i = b->first + begin; i < b->first + end; i++) {
        (void)rv__sparse_row(b->s, i, &l.list);
        rv__sparse_back_row(b, i, &l);
    }
}

/* What a row of the chunk gives to keys low .. high - 1. */
static void rv__sparse_collect(const rv__sparse_back *b, size_t i, size_t low, size_t high)
{
    const rv__sparse *s = b->s;
    const rv_attn_io *io = &s->a.io;
    const size_t kv = b->head / s->a.group, kv_heads = s->a.config.kv_heads;
    const size_t at = (size_t)(s->start[i] - s->start[b->first]), n = b->kept[i - b->first];
    const uint32_t *ids = b->ids + at;
    const float *q = io->q + i * io->q_stride + b->head * io->dim;
    const float *d_out = b->grad->d_out + i * io->out_stride + b->head * io->dim_v;
    size_t e = 0, above = n;
    while (e < above) { /* the first entry not below low */
        const size_t middle = e + (above - e) / 2;
        if (ids[middle] < low) e = middle + 1;
        else above = middle;
    }
    for (; e < n && ids[e] < high; e++) {
        const size_t row = ids[e] * kv_heads + kv;
        if (b->grad->d_k)
            s->a.kernels->axpy_f32(b->dx[at + e], q, b->grad->d_k + row * io->dim, io->dim);
        if (b->grad->d_v)
            s->a.kernels->axpy_f32(b->w[at + e], d_out, b->grad->d_v + row * io->dim_v, io->dim_v);
    }
}

static void rv__sparse_collect_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__sparse_back *b = (const rv__sparse_back *)arg;
    const size_t n = b->s->a.io.n_k, width = n / b->pieces + 1;
    (void)lane;
    for (size_t piece = begin; piece < end; piece++) {
        for (size_t i = b->first; i < b->first + b->rows; i++)
            rv__sparse_collect(b, i, piece * width, (piece + 1) * width);
    }
}

/* One head, chunk by chunk. */
static rv_status rv__sparse_back_head(rv_ctx *ctx, rv__sparse_back *b)
{
    const rv__sparse *s = b->s;
    const size_t n_q = s->a.io.n_q;
    rv_status status = RV_OK;
    for (b->first = 0; b->first < n_q && !status; b->first += b->rows) {
        size_t end = b->first + 1;
        while (end < n_q && end - b->first < b->cap_rows &&
               s->start[end + 1] - s->start[b->first] <= b->cap)
            end++;
        b->rows = end - b->first;
        status = rv__parallel_for(ctx, b->rows, rv__sparse_rows_of(s, 2, 100000.0),
                                  rv__sparse_rows_of(s, 2, (double)RV__SPARSE_WORK),
                                  rv__sparse_back_range, b);
        if (!status && (b->grad->d_k || b->grad->d_v))
            status = rv__parallel_for(ctx, b->pieces, 1, 1, rv__sparse_collect_range, b);
    }
    if (!status && b->grad->d_sinks) {
        double sum = 0.0;
        for (size_t i = 0; i < n_q; i++) sum += b->d_sink[i];
        b->grad->d_sinks[b->head] = (float)sum;
    }
    return status;
}

static rv_status rv__sparse_back_heads(rv_ctx *ctx, rv__sparse_back *b)
{
    const rv_attn_io *io = &b->s->a.io;
    const size_t kv_heads = b->s->a.config.kv_heads;
    rv_status status = RV_OK;
    if (b->grad->d_k)
        status = rv__fill_polled(ctx, b->grad->d_k, 0,
                                 io->n_k * kv_heads * io->dim * sizeof(float));
    if (!status && b->grad->d_v)
        status = rv__fill_polled(ctx, b->grad->d_v, 0,
                                 io->n_k * kv_heads * io->dim_v * sizeof(float));
    for (b->head = 0; b->head < b->s->a.config.heads && !status; b->head++)
        status = rv__sparse_back_head(ctx, b);
    return status;
}

static rv_status rv__sparse_check_grad(rv_ctx *ctx, const rv__sparse *s, const rv_attn_grad *grad)
{
    if (!grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "grad and d_out must not be NULL");
    if (grad->d_params)
        return rv__fail(ctx, RV_ERR_ARG, 0, "d_params must be NULL: %s has no parameters",
                        rv__sparse_kinds[s->kind].name);
    return RV_OK;
}

static rv_status rv__sparse_backward(rv_ctx *ctx, int kind, const rv_attn_sparse_config *config,
                                     const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    float unused;
    rv_attn_io in;
    rv_attn_config window;
    rv__sparse s;
    rv__sparse_back b;
    rv_status status;
    memset(&b, 0, sizeof b);
    if (io) {
        in = *io;
        in.out = &unused;
        in.lse = in.weights = NULL;
    }
    status = rv__sparse_open(ctx, kind, config, io ? &in : NULL, &s);
    if (!status) status = rv__sparse_check_grad(ctx, &s, grad);
    if (status) return status;
    /* tiles look at every 64 keys, if only to pass them by */
    if (rv__sparse_plain(&s, &window) && io->n_k / 64 <= s.c.window)
        return rv_attn_backward(ctx, &window, io, grad);
    b.s = &s;
    b.grad = grad;
    if (io->n_q == 0) {
        status = rv__sparse_back_heads(ctx, &b);
        return status ? status : rv__ok(ctx);
    }
    status = rv__sparse_scratch(ctx, &alloc, &s);
    b.cap = s.most > RV__SPARSE_CHUNK ? s.most : RV__SPARSE_CHUNK;
    if (!status && s.start[io->n_q] < b.cap) b.cap = (size_t)s.start[io->n_q];
    b.cap_rows = io->n_q < RV__SPARSE_CHUNK ? io->n_q : RV__SPARSE_CHUNK;
    b.pieces = (lanes > 1 ? 4 * lanes : 1) +
               (size_t)((double)b.cap * (double)(io->dim + s.a.io.dim_v) / RV__SPARSE_WORK);
    if (!status) {
        b.ids = (uint32_t *)rv__get(&alloc, b.cap + b.cap_rows, sizeof(uint32_t));
        b.w = (float *)rv__get(&alloc, rv__mul(2, b.cap), sizeof(float));
        b.d_sink = (double *)rv__get(&alloc, io->n_q, sizeof(double));
        b.kept = b.ids ? b.ids + b.cap : NULL;
        b.dx = b.w ? b.w + b.cap : NULL;
        if (!b.ids || !b.w || !b.d_sink)
            status = rv__no_memory(ctx, rv__add(rv__mul(12, b.cap), 12 * io->n_q));
        else status = rv__sparse_back_heads(ctx, &b);
    }
    rv__put(&alloc, b.d_sink, io->n_q, sizeof(double));
    rv__put(&alloc, b.w, 2 * b.cap, sizeof(float));
    rv__put(&alloc, b.ids, b.cap + b.cap_rows, sizeof(uint32_t));
    rv__sparse_close(&alloc, &s);
    return status ? status : rv__ok(ctx);
}

/* ---- the mechanisms ---- */

RV_API rv_status rv_attn_sliding(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                 const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_SLIDING, config, io);
}

RV_API rv_status rv_attn_sliding_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                          const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_SLIDING, config, io, grad);
}

RV_API rv_status rv_attn_sliding_windows(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                         const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_SLIDING_WINDOWS, config, io);
}

RV_API rv_status rv_attn_sliding_windows_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_SLIDING_WINDOWS, config, io, grad);
}

RV_API rv_status rv_attn_local_global(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_LOCAL_GLOBAL, config, io);
}

RV_API rv_status rv_attn_local_global_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_LOCAL_GLOBAL, config, io, grad);
}

RV_API rv_status rv_attn_sparse_strided(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                        const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_STRIDED, config, io);
}

RV_API rv_status rv_attn_sparse_strided_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                                 const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_STRIDED, config, io, grad);
}

RV_API rv_status rv_attn_sparse_fixed(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_FIXED, config, io);
}

RV_API rv_status rv_attn_sparse_fixed_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_FIXED, config, io, grad);
}

RV_API rv_status rv_attn_bigbird(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                 const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_BIGBIRD, config, io);
}

RV_API rv_status rv_attn_bigbird_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                          const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_BIGBIRD, config, io, grad);
}

RV_API rv_status rv_attn_block_sparse(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_BLOCK_SPARSE, config, io);
}

RV_API rv_status rv_attn_block_sparse_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_BLOCK_SPARSE, config, io, grad);
}

RV_API rv_status rv_attn_sparse_topk(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                     const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV__SPARSE_TOPK, config, io);
}

RV_API rv_status rv_attn_sparse_topk_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                              const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV__SPARSE_TOPK, config, io, grad);
}

RV_API rv_status rv_attn_custom_mask(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                     const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_CUSTOM_MASK, config, io);
}

RV_API rv_status rv_attn_custom_mask_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                              const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_CUSTOM_MASK, config, io, grad);
}

RV_API rv_status rv_attn_neighborhood(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV_ATTN_NEIGHBORHOOD, config, io);
}

RV_API rv_status rv_attn_neighborhood_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV_ATTN_NEIGHBORHOOD, config, io, grad);
}

RV_API rv_status rv_attn_hierarchical(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                      const rv_attn_io *io)
{
    return rv__sparse_forward(ctx, RV__SPARSE_HIERARCHICAL, config, io);
}

RV_API rv_status rv_attn_hierarchical_backward(rv_ctx *ctx, const rv_attn_sparse_config *config,
                                               const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__sparse_backward(ctx, RV__SPARSE_HIERARCHICAL, config, io, grad);
}

#undef RV__SPARSE_ROWS
#undef RV__SPARSE_WORK
#undef RV__SPARSE_CHUNK
#undef RV__ATTN_KEYS
#undef RV__LOG2E

#endif /* RV_ATTN_SPARSE_RUN_C */
