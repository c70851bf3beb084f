#ifndef RV_ATTN_SPARSE_TILE_C
#define RV_ATTN_SPARSE_TILE_C
#include "attn_sparse.h"
#include "base.c"
#include "simd.c"
#include "attn.c"
#include "attn_sparse.c"

/* Rows that see much the same keys are taken together, with the kernels of dense attention: the
   union of their lists is cut into tiles of 64 keys, which are gathered and packed once, and a bit
   per row and key tells what is hidden. A block whose union is more than RV__SPARSE_WASTE times as
   long as its rows are on average is left to the walk row by row. */

#define RV__SPARSE_ROWS 48u
#define RV__SPARSE_WASTE 6u

/* A lane's memory. */
typedef struct rv__sparse_tiles {
    rv__sparse_list list;
    uint32_t *all, *other; /* union of lists, [cap] */
    uint64_t *seen;        /* [ROWS][words] bits over `all` */
    size_t n, words;       /* length of `all`; words of a row of bits */
    float *q, *keys, *rows, *values, *s, *sum, *top, *out;
} rv__sparse_tiles;

/* The longest union that is used, and a row that makes it too long. */
static size_t rv__sparse_tile_cap(const rv__sparse *s)
{
    const size_t most = rv__mul(RV__SPARSE_WASTE + 1, s->most);
    return rv__round_up((most < s->a.io.n_k ? most : s->a.io.n_k) + 1, RV__ATTN_KEYS);
}

/* Floats and ids of a lane, behind those of the walk row by row. */
static size_t rv__sparse_tile_size(const rv__sparse *s, size_t *ids)
{
    const size_t dim = rv__round_up(s->a.io.dim, 16), K = RV__ATTN_KEYS, R = RV__SPARSE_ROWS;
    const size_t width = s->a.width;
    *ids = rv__add(s->most, rv__mul(2, rv__sparse_tile_cap(s)));
    return R * (dim + width + 17) + K * (2 * dim + width) + 6 * K;
}

static void rv__sparse_tile_at(const rv__sparse *s, size_t lane, rv__sparse_tiles *t)
{
    const size_t dim = rv__round_up(s->a.io.dim, 16), K = RV__ATTN_KEYS, R = RV__SPARSE_ROWS;
    const size_t cap = rv__sparse_tile_cap(s);
    rv__sparse_list_of(s, lane, &t->list);
    t->keys = s->floats + lane * s->lane_floats + s->tile_floats;
    t->rows = t->keys + K * dim;
    t->values = t->rows + K * dim;
    t->s = t->values + K * s->a.width;
    t->sum = t->s + 6 * K;
    t->out = t->sum + R * 16;
    t->q = t->out + R * s->a.width;
    t->top = t->q + R * dim;
    t->all = s->words + lane * s->lane_words + s->tile_words;
    t->other = t->all + cap;
    t->list.ids = t->other + cap;
    t->words = cap / K;
    t->seen = s->bits + lane * R * t->words;
    t->n = 0;
}

/* Whether a forward may go by tiles at all: outputs only, logits by products. */
static int rv__sparse_tile_may(const rv__sparse *s)
{
    if (s->a.io.weights || s->c.entries || s->choosing || s->a.drop) return 0;
    if (s->kind == RV_ATTN_CUSTOM_MASK) return s->c.graph->value == NULL;
    return s->kind != RV_ATTN_SLIDING_WINDOWS && s->kind != RV__SPARSE_HIERARCHICAL;
}

/* ---- logits ---- */

/* What is added to n logits of a row, for the keys ids: softcap, slopes, mask. */
static void rv__sparse_dress(const rv__sparse *s, size_t h, size_t i, const uint32_t *ids,
                             size_t n, float *x)
{
    const rv_attn_config *c = &s->a.config;
    const rv_attn_mask *mask = s->a.io.mask;
    if (c->softcap > 0.0f) {
        for (size_t e = 0; e < n; e++) x[e] /= c->softcap;
        s->a.kernels->tanh_f32(x, x, n);
        for (size_t e = 0; e < n; e++) x[e] *= c->softcap;
    }
    if (c->slopes) {
        const double p = (double)rv__sparse_position(s, i);
        for (size_t e = 0; e < n; e++) x[e] -= c->slopes[h] * (float)fabs(p - (double)ids[e]);
    }
    if (mask && mask->add) {
        const float *add = mask->add + h * mask->add_head + i * s->a.io.n_k;
        for (size_t e = 0; e < n; e++) x[e] += add[ids[e]];
    }
}

/* -infinity where a mask hides. */
static void rv__sparse_hide(const rv__sparse *s, size_t h, size_t i, const uint32_t *ids, size_t n,
                            float *x)
{
    const rv_attn_mask *mask = s->a.io.mask;
    const float never = -rv__infinity();
    if (mask && mask->allow) {
        const uint8_t *allow = mask->allow + h * mask->allow_head + i * s->a.io.n_k;
        for (size_t e = 0; e < n; e++) x[e] = allow[ids[e]] ? x[e] : never;
    }
    for (size_t e = 0; mask && mask->visible && e < n; e++)
        if (!(x[e] < -3.4e38f) && !mask->visible(mask->user, h, i, ids[e])) x[e] = never;
}

/* ---- the union of lists ---- */

static void rv__sparse_merge(rv__sparse_tiles *t)
{
    const uint32_t *a = t->all, *b = t->list.ids;
    const size_t n = t->n, m = t->list.n;
    uint32_t *to = t->other;
    size_t x = 0, y = 0, count = 0;
    if (n == m && memcmp(a, b, n * sizeof *a) == 0) return;
    while (x < n && y < m) {
        const uint32_t low = a[x] < b[y] ? a[x] : b[y];
        x += a[x] == low;
        y += b[y] == low;
        to[count++] = low;
    }
    for (; x < n; x++) to[count++] = a[x];
    for (; y < m; y++) to[count++] = b[y];
    t->other = t->all;
    t->all = to;
    t->n = count;
}

/* Makes all and seen of rows i .. i + n - 1; 0 when their lists have too little in common. */
static int rv__sparse_unite(const rv__sparse *s, size_t i, size_t n, rv__sparse_tiles *t)
{
    const uint64_t most = RV__SPARSE_WASTE * (s->start[i + n] - s->start[i]);
    t->n = 0;
    for (size_t r = 0; r < n; r++) {
        (void)rv__sparse_row(s, i + r, &t->list);
        rv__sparse_merge(t);
        if ((uint64_t)t->n * n > most) return 0;
    }
    for (size_t r = 0; r < n; r++) {
        uint64_t *seen = t->seen + r * t->words;
        size_t at = 0;
        (void)rv__sparse_row(s, i + r, &t->list);
        memset(seen, 0, t->words * sizeof *seen);
        for (size_t e = 0; e < t->list.n; e++, at++) {
            while (t->all[at] < t->list.ids[e]) at++;
            seen[at / 64] |= (uint64_t)1 << at % 64;
        }
    }
    return 1;
}

/* ---- tiles ---- */

/* n rows of keys or values as floats with `width` columns: where they lie, or in space. */
static const float *rv__sparse_take(const rv__sparse *s, const void *rows, size_t at, size_t stride,
                                    size_t dim, size_t width, const uint32_t *ids, size_t n,
                                    float *space, size_t *ld)
{
    const float *plain = (const float *)rows + at;
    const uint16_t *half = (const uint16_t *)rows + at;
    const int type = (int)s->a.io.type;
    if (type == RV_DTYPE_F32 && dim == width && ids[n - 1] - ids[0] == n - 1) {
        *ld = stride;
        return plain + ids[0] * stride;
    }
    *ld = width;
    for (size_t k = 0; k < n; k++) {
        float *row = space + k * width;
        if (type == RV_DTYPE_F32) memcpy(row, plain + ids[k] * stride, dim * sizeof *row);
        else if (type == RV_DTYPE_F16) s->a.kernels->widen_f16(half + ids[k] * stride, row, dim);
        else s->a.kernels->widen_bf16(half + ids[k] * stride, row, dim);
        for (size_t x = dim; x < width; x++) row[x] = 0.0f;
    }
    return space;
}

/* Rows of a block: query i + x % n of head h + x / n. */
typedef struct rv__sparse_span {
    size_t h, i, n, rows;
} rv__sparse_span;

/* Weights of rows x .. x + m - 1 and a tile, whose keys are packed; 0 when they see none of it. */
static int rv__sparse_tile_weigh(const rv__sparse *s, const rv__sparse_tiles *t,
                                 const rv__sparse_span *b, size_t x, size_t m, size_t tile)
{
    const size_t K = RV__ATTN_KEYS, left = t->n - tile * K, n = left < K ? left : K;
    const size_t dim = s->a.io.dim, w = s->a.width;
    const uint32_t *ids = t->all + tile * K;
    const float never = -rv__infinity(), *q = t->q + x * dim;
    uint64_t any = 0, all = ~(uint64_t)0;
    for (size_t r = x; r < x + m; r++) {
        any |= t->seen[r % b->n * t->words + tile];
        all &= t->seen[r % b->n * t->words + tile];
    }
    if (!any) return 0;
    if (!~all && s->a.plain && !s->a.io.mask) {
        s->a.kernels->attn_weigh(q, dim, m, t->keys, dim, s->a.slack, t->s, t->top + x,
                                 t->sum + x * 16, t->out + x * w, w);
        return 1;
    }
    s->a.kernels->attn_logits(q, dim, m, t->keys, dim, t->s);
    for (size_t r = 0; r < m; r++) {
        const size_t h = b->h + (x + r) / b->n, i = b->i + (x + r) % b->n;
        const uint64_t seen = t->seen[(x + r) % b->n * t->words + tile];
        float *line = t->s + r * K;
        if (!s->a.plain) {
            rv__sparse_dress(s, h, i, ids, n, line);
            for (size_t k = 0; k < n; k++) line[k] *= RV__LOG2E;
        }
        for (size_t k = 0; ~seen && k < K; k++) line[k] = seen >> k & 1u ? line[k] : never;
        if (s->a.io.mask) rv__sparse_hide(s, h, i, ids, n, line);
    }
    s->a.kernels->attn_soften(t->s, m, s->a.slack, t->top + x, t->sum + x * 16, t->out + x * w, w,
                              w);
    return 1;
}

/* Divides, and writes a row. */
static void rv__sparse_tile_finish(const rv__sparse *s, const rv__sparse_tiles *t,
                                   const rv__sparse_span *b, size_t x)
{
    const size_t h = b->h + x / b->n, i = b->i + x % b->n, dim = s->a.io.dim_v;
    const float sink = s->a.config.sinks ? s->a.config.sinks[h] * RV__LOG2E : -rv__infinity();
    const float *from = t->out + x * s->a.width;
    float *out = s->a.io.out + i * s->a.io.out_stride + h * dim;
    float top = t->top[x] > sink || rv__is_nan(t->top[x]) ? t->top[x] : sink, down = 0.0f, scale;
    double sum = 0.0;
    for (size_t k = 0; k < 16; k++) sum += (double)t->sum[x * 16 + k];
    if (!(t->top[x] < -3.4e38f)) down = rv__exp2_f32(t->top[x] - top);
    sum *= (double)down;
    if (sink >= -3.4e38f) sum += (double)rv__exp2_f32(sink - top);
    scale = sum == 0.0 ? 0.0f : (float)((double)down / sum);
    for (size_t k = 0; k < dim; k++) out[k] = from[k] * scale;
    if (!s->a.io.lse) return;
    s->a.io.lse[h * s->a.io.n_q + i] =
        sum == 0.0 ? -rv__infinity() : (float)((double)top * 0.6931471805599453 + log(sum));
}

/* Heads b->h .. of one head of keys. */
static void rv__sparse_tile_heads(const rv__sparse *s, const rv__sparse_tiles *t,
                                  const rv__sparse_span *b)
{
    const rv_attn_io *io = &s->a.io;
    const size_t K = RV__ATTN_KEYS, w = s->a.width, dim = io->dim, kv = b->h / s->a.group;
    const float factor = s->a.factor * (s->a.plain ? RV__LOG2E : 1.0f);
    for (size_t x = 0; x < b->rows; x++) {
        const float *q = io->q + (b->i + x % b->n) * io->q_stride + (b->h + x / b->n) * dim;
        for (size_t k = 0; k < dim; k++) t->q[x * dim + k] = q[k] * factor;
        t->top[x] = -rv__infinity();
    }
    memset(t->out, 0, b->rows * w * sizeof(float));
    memset(t->sum, 0, b->rows * 16 * sizeof(float));
    for (size_t tile = 0; tile * K < t->n; tile++) {
        const size_t n = t->n - tile * K < K ? t->n - tile * K : K;
        const uint32_t *ids = t->all + tile * K;
        size_t ldk, ldv;
        const float *keys = rv__sparse_take(s, io->k, kv * dim, io->k_stride, dim, dim, ids, n,
                                            t->rows, &ldk);
        const float *values = rv__sparse_take(s, io->v, kv * io->dim_v, io->v_stride, io->dim_v, w,
                                              ids, n, t->values, &ldv);
        s->a.kernels->attn_pack(keys, ldk, n, dim, t->keys);
        for (size_t x = 0; x < b->rows; x += 6) {
            const size_t m = b->rows - x < 6 ? b->rows - x : 6;
            float *out = t->out + x * w;
            if (!rv__sparse_tile_weigh(s, t, b, x, m, tile)) continue;
            if (m == 1) s->a.kernels->attn_mix_one(t->s, values, ldv, n, out, w);
            else s->a.kernels->attn_mix(t->s, m, values, ldv, n, out, w, w);
        }
    }
    for (size_t x = 0; x < b->rows; x++) rv__sparse_tile_finish(s, t, b, x);
}

/* Queries that make a block, and blocks in all: those of one block of the pattern, as far as 48
   rows hold their heads. */
static size_t rv__sparse_tile_units(const rv__sparse *s, size_t *size, size_t *pieces)
{
    const size_t group = s->a.group < RV__SPARSE_ROWS ? s->a.group : RV__SPARSE_ROWS;
    const size_t limit = RV__SPARSE_ROWS / group;
    const int blocks = s->kind == RV_ATTN_BIGBIRD || s->kind == RV_ATTN_BLOCK_SPARSE;
    *size = blocks && s->c.block < s->a.io.n_q ? s->c.block : blocks ? s->a.io.n_q : limit;
    *pieces = (*size + limit - 1) / limit;
    return (s->a.io.n_q + *size - 1) / *size * *pieces;
}

/* Queries of a unit. */
static size_t rv__sparse_tile_rows(const rv__sparse *s, size_t unit, size_t *end)
{
    size_t size, pieces, step, begin, first;
    (void)rv__sparse_tile_units(s, &size, &pieces);
    step = (size + pieces - 1) / pieces;
    first = unit / pieces * size;
    begin = first + unit % pieces * step;
    *end = begin + step < first + size ? begin + step : first + size;
    if (*end > s->a.io.n_q) *end = s->a.io.n_q;
    return begin < *end ? begin : *end;
}

/* One unit; 0 when it is left to the walk row by row. */
static int rv__sparse_tile_unit(const rv__sparse *s, size_t begin, size_t end, rv__sparse_tiles *t)
{
    const size_t n = end - begin, group = s->a.group;
    const size_t step = group < RV__SPARSE_ROWS ? group : RV__SPARSE_ROWS;
    rv__sparse_span b;
    if (n * step < 6 || !rv__sparse_unite(s, begin, n, t)) return 0;
    b.i = begin;
    b.n = n;
    for (size_t kv = 0; kv < s->a.config.kv_heads; kv++) {
        for (size_t g = 0; g < group; g += step) {
            const size_t heads = group - g < step ? group - g : step;
            b.h = kv * group + g;
            b.rows = heads * n;
            rv__sparse_tile_heads(s, t, &b);
        }
    }
    return 1;
}

#undef RV__SPARSE_WASTE

#endif /* RV_ATTN_SPARSE_TILE_C */
