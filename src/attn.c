#ifndef RV_ATTN_C
#define RV_ATTN_C
#include "attn.h"
#include "base.c"
#include "simd.c"
#include "half.c"
#include "distance.c"

/* Exact attention in one pass over tiles.

   A head of keys serves `group` heads of queries; all their queries are rows of one product. Rows
   are taken 48 at a time, six of them and 64 keys make a tile. Keys are packed once, transposed, so
   that a tile of logits is made of whole vectors; values are read as they lie, unless their type or
   width asks for a copy. Heads are packed few at a time, a round: what is packed stays in the
   caches, and the heap neither grows nor shrinks by much in a call. So few rows that packing would
   not pay read the keys as they lie, and deal the keys out in shards, whose parts are joined in
   order: the bits depend on neither workers nor threads. */

#define RV__ATTN_ROWS 48u     /* queries that share one walk over the keys                        */
#define RV__ATTN_FEW 5u       /* rows for which keys are not packed, at most                      */
#define RV__ATTN_SHARD 512u   /* keys of a shard, a multiple of RV__ATTN_KEYS                     */
#define RV__ATTN_WIDE 32u     /* outputs are padded to multiples of two of the longest vectors    */
#define RV__ATTN_NEAR 8u      /* keys that few rows read before the next head                     */
#define RV__ATTN_PACK 65536u  /* bytes packed in a round, per lane, unless a head needs more     */
#define RV__ATTN_WORK 20000000.0 /* products between two polls, per lane                          */
#define RV__LOG2E 1.44269504f
#define RV__LN2 0.69314718f

/* Logits by another rule than q . k, which a family of mechanisms brings along; it sees to scale
   and temperature itself. Called on several threads at once; a lane is never entered twice. */
typedef struct rv__attn_score {
    const void *user;
    /* s[x] = logit of query i and key j + x, x < n <= 64, as seen by head (of queries), before
       softcap, slopes and masks. */
    void (*logits)(const void *user, size_t lane, size_t head, size_t i, size_t j, size_t n,
                   float *s);
    /* ds[x] is the loss' slope by that logit. Adds the slope by query i to dq: [dim], by key j + x
       to dk + x * ldk: [dim], by parameters to part: [n_part]. */
    void (*pull)(const void *user, size_t lane, size_t head, size_t i, size_t j, size_t n,
                 const float *ds, float *dq, float *dk, size_t ldk, double *part);
    size_t n_part;
    size_t work;  /* what a logit costs, in multiplications, about */
} rv__attn_score;

typedef struct rv__attn {
    rv_attn_config config;
    rv_attn_io io;
    const rv__kernels *kernels;
    const rv__attn_score *score;    /* NULL: scaled dot products                                  */
    rv__scan_fn scan;               /* minus dot products of a query with keys as they lie        */
    size_t group, rows, blocks;     /* of a head of keys                                          */
    size_t shards, width, past, elem;
    int few;                        /* rows: keys are read as they lie                            */
    float factor;                   /* on queries: logits, in powers of two when plain            */
    float slack;                    /* how far logits may lie above the top, powers of two        */
    uint64_t drop;                  /* of 2^32: weights that are dropped                          */
    uint64_t drop_key;
    float kept;                     /* 1 / (1 - dropout)                                          */
    int plain;                      /* logits are only scaled                                     */
    size_t tiles;                   /* of the keys                                                */
    size_t round, first;            /* heads of keys in a round, the first of this one            */
    float *keys;                    /* [round][tiles][KEYS * dim], or NULL                        */
    float *values;                  /* [round][tiles][KEYS * width], NULL: as they lie            */
    float *part;                    /* few: [kv_heads * shards][ROWS * (width + 2)]               */
    float *lse;                     /* [heads * n_q] in powers of two                             */
    float *scratch;
    size_t lane_floats;
} rv__attn;

/* Memory of a lane: 64-byte aligned pieces. */
typedef struct rv__attn_lane {
    float *q, *s, *sum, *top, *out, *wide, *part;
} rv__attn_lane;

/* The next n floats of a lane; of none, when sizes are asked for. */
static float *rv__attn_piece(float *base, size_t *at, size_t n)
{
    float *piece = base ? base + *at : NULL;
    *at += n;
    return piece;
}

static size_t rv__attn_lane_at(const rv__attn *a, size_t lane, rv__attn_lane *l)
{
    float *base = a->scratch ? a->scratch + lane * a->lane_floats : NULL;
    size_t at = 0;
    const size_t rows = a->few ? a->config.kv_heads * a->rows : RV__ATTN_ROWS;
    const size_t most = rows > RV__ATTN_KEYS ? rows : RV__ATTN_KEYS;
    l->q = rv__attn_piece(base, &at, most * a->io.dim); /* keys are widened here, too */
    l->s = rv__attn_piece(base, &at, (a->few ? rows : 6) * RV__ATTN_KEYS);
    l->sum = rv__attn_piece(base, &at, rows * 16);
    l->top = rv__attn_piece(base, &at, rv__round_up(rows, 16));
    l->out = rv__attn_piece(base, &at, rows * a->width);
    l->wide = rv__attn_piece(base, &at, RV__ATTN_KEYS * a->width);
    l->part = rv__attn_piece(base, &at, RV__ATTN_ROWS * (a->width + 2));
    return at;
}

/* ---- checks ---- */

static rv_status rv__attn_check_sizes(rv_ctx *ctx, const rv__attn *a)
{
    const rv_attn_io *io = &a->io;
    if (io->n_k == 0) return rv__fail(ctx, RV_ERR_DIM, 0, "n_k is 0, attention needs a key");
    if (io->dim == 0 || io->dim > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z, allowed: 1..65535", io->dim);
    if (io->dim_v > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim_v is %z, allowed: 1..65535", io->dim_v);
    if (io->q_stride < a->config.heads * io->dim)
        return rv__fail(ctx, RV_ERR_DIM, 0, "q_stride is %z, must be at least heads * dim (%z)",
                        io->q_stride, a->config.heads * io->dim);
    if (io->k_stride < a->config.kv_heads * io->dim)
        return rv__fail(ctx, RV_ERR_DIM, 0, "k_stride is %z, must be at least kv_heads * dim (%z)",
                        io->k_stride, a->config.kv_heads * io->dim);
    if (io->v_stride < a->config.kv_heads * io->dim_v)
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "v_stride is %z, must be at least kv_heads * dim_v (%z)", io->v_stride,
                        a->config.kv_heads * io->dim_v);
    if (io->out_stride < a->config.heads * io->dim_v)
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "out_stride is %z, must be at least heads * dim_v (%z)", io->out_stride,
                        a->config.heads * io->dim_v);
    if (io->n_q > 0x7FFFFFFFu || io->n_k > 0x7FFFFFFFu)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n_q and n_k are %z and %z, must be below 2^31",
                        io->n_q, io->n_k);
    return RV_OK;
}

/* By bits: under -ffast-math comparisons with NaN mean nothing. */
static int rv__attn_bad(float x, float least)
{
    return !rv__finite_f32(x) || x < least || x > 3.4e38f;
}

static rv_status rv__attn_check(rv_ctx *ctx, const rv__attn *a)
{
    const rv_attn_config *c = &a->config;
    const rv_attn_io *io = &a->io;
    if (!io->q || !io->k || !io->v || !io->out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "q, k, v and out must not be NULL");
    if (c->heads > 65535u || c->heads % c->kv_heads != 0)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "heads is %z, must be at most 65535 and a multiple of kv_heads (%z)",
                        (size_t)c->heads, (size_t)c->kv_heads);
    if (rv__attn_bad(c->scale, -3.4e38f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "scale is not finite");
    if (rv__attn_bad(c->temperature, 1e-30f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "temperature must be finite and above 0");
    if (rv__attn_bad(c->softcap, 0.0f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "softcap must be finite and not negative");
    if (rv__attn_bad(c->dropout, 0.0f) || c->dropout >= 1.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dropout must be at least 0 and below 1");
    if ((unsigned)c->order > (unsigned)RV_ATTN_CAUSAL_FIRST)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "order is %z, allowed: 0..2", (size_t)c->order);
    if (io->type != RV_DTYPE_F32 && io->type != RV_DTYPE_F16 && io->type != RV_DTYPE_BF16)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "type is %s, allowed: f32, f16, bf16",
                        rv_dtype_name(io->type));
    for (size_t h = 0; h < c->heads; h++) {
        if (c->slopes && rv__attn_bad(c->slopes[h], 0.0f))
            return rv__fail(ctx, RV_ERR_CONFIG, h, "slopes[%z] must be finite and not negative", h);
        if (c->sinks && !(c->sinks[h] <= 3.4e38f))
            return rv__fail(ctx, RV_ERR_CONFIG, h, "sinks[%z] must be below infinity", h);
    }
    return rv__attn_check_sizes(ctx, a);
}

/* Fills in the defaults. */
static void rv__attn_settle(rv__attn *a)
{
    rv_attn_config *c = &a->config;
    rv_attn_io *io = &a->io;
    if (c->heads == 0) c->heads = 1;
    if (c->kv_heads == 0) c->kv_heads = c->heads;
    if (io->dim_v == 0) io->dim_v = io->dim;
    if (!rv__given(c->scale))
        c->scale = (float)(1.0 / sqrt((double)(io->dim ? io->dim : 1)));
    c->temperature = rv__default(c->temperature, 1.0f);
    if (io->q_stride == 0) io->q_stride = c->heads * io->dim;
    if (io->k_stride == 0) io->k_stride = c->kv_heads * io->dim;
    if (io->v_stride == 0) io->v_stride = c->kv_heads * io->dim_v;
    if (io->out_stride == 0) io->out_stride = c->heads * io->dim_v;
}

/* ---- what a query sees ---- */

/* Keys *begin .. *end - 1 that order and window leave to query i. */
static void rv__attn_sees(const rv__attn *a, size_t i, size_t *begin, size_t *end)
{
    const size_t n = a->io.n_k;
    *begin = 0;
    *end = n;
    if (a->config.order == RV_ATTN_CAUSAL) {
        *end = i + 1 + n > a->io.n_q ? i + 1 + n - a->io.n_q : 0;
    } else if (a->config.order == RV_ATTN_CAUSAL_FIRST) {
        *end = i + 1 + a->past;
    }
    if (a->config.windowed) {
        const size_t at = i + a->past;
        const size_t last = at < SIZE_MAX - 1 - a->config.right ? at + 1 + a->config.right : n;
        if (at > a->config.left) *begin = at - a->config.left;
        if (last < *end) *end = last;
    }
    if (*end > n) *end = n;
    if (*begin > *end) *begin = *end;
}

/* Softcap, ALiBi and additive mask on n logits of keys from j on; in powers of two afterwards. */
static void rv__attn_dress(const rv__attn *a, size_t head, size_t i, size_t j, size_t n, float *s)
{
    const rv_attn_config *c = &a->config;
    const rv_attn_mask *mask = a->io.mask;
    if (c->softcap > 0.0f) {
        for (size_t k = 0; k < n; k++) s[k] /= c->softcap;
        a->kernels->tanh_f32(s, s, n);
        for (size_t k = 0; k < n; k++) s[k] *= c->softcap;
    }
    if (c->slopes) {
        const float at = (float)((double)i + (double)a->past - (double)j), slope = c->slopes[head];
        for (size_t k = 0; k < n; k++) s[k] -= slope * fabsf(at - (float)k);
    }
    if (mask && mask->add) {
        const float *add = mask->add + head * mask->add_head + i * a->io.n_k + j;
        for (size_t k = 0; k < n; k++) s[k] += add[k];
    }
    for (size_t k = 0; k < n; k++) s[k] *= RV__LOG2E;
}

static void rv__attn_hide(const rv__attn *a, size_t head, size_t i, size_t j, size_t n, float *s)
{
    const float never = -rv__infinity();
    const rv_attn_mask *mask = a->io.mask;
    size_t begin, end;
    rv__attn_sees(a, i, &begin, &end);
    for (size_t k = 0; k < n && j + k < begin; k++) s[k] = never;
    for (size_t k = end > j ? end - j : 0; k < RV__ATTN_KEYS; k++) s[k] = never;
    if (mask && mask->allow) {
        const uint8_t *allow = mask->allow + head * mask->allow_head + i * a->io.n_k + j;
        for (size_t k = 0; k < n; k++) s[k] = allow[k] ? s[k] : never;
    }
    for (size_t k = 0; mask && mask->visible && k < n; k++)
        if (s[k] > never && !mask->visible(mask->user, head, i, j + k)) s[k] = never;
}

/* ---- tiles ---- */

/* Rows first .. first + n - 1 of a head of keys: query head, query. */
static size_t rv__attn_head(const rv__attn *a, size_t kv, size_t row, size_t *i)
{
    *i = row % a->io.n_q;
    return kv * a->group + row / a->io.n_q;
}

static size_t rv__attn_keys(const rv__attn *a, size_t j)
{
    return a->io.n_k - j < RV__ATTN_KEYS ? a->io.n_k - j : RV__ATTN_KEYS;
}

/* Logits as they are before softcap, slopes and masks, of n <= 6 rows and of `keys` keys from j on:
   s[n][RV__ATTN_KEYS]. packed: the keys of the tile, or NULL. q: rows ldq apart. */
static void rv__attn_raw(const rv__attn *a, size_t lane, size_t kv, size_t row, size_t n, size_t j,
                         size_t keys, const float *packed, const float *q, size_t ldq, float *s)
{
    const size_t dim = a->io.dim;
    if (a->score) {
        for (size_t r = 0; r < n; r++) {
            size_t i, head = rv__attn_head(a, kv, row + r, &i);
            a->score->logits(a->score->user, lane, head, i, j, keys, s + r * RV__ATTN_KEYS);
        }
    } else if (packed) {
        a->kernels->attn_logits(q, ldq, n, packed, dim, s);
    } else {
        const unsigned char *k =
            (const unsigned char *)a->io.k + (j * a->io.k_stride + kv * dim) * a->elem;
        for (size_t r = 0; r < n; r++) {
            float *line = s + r * RV__ATTN_KEYS;
            a->scan(q + r * ldq, k, a->io.k_stride * a->elem, NULL, keys, dim, line);
            for (size_t x = 0; x < keys; x++) line[x] = -line[x];
        }
    }
}

/* Makes them logits in powers of two, -infinity where a query does not look. */
static void rv__attn_finish_tile(const rv__attn *a, size_t kv, size_t row, size_t n, size_t j,
                                 float *s)
{
    const size_t keys = rv__attn_keys(a, j);
    for (size_t r = 0; r < n; r++) {
        size_t i, head = rv__attn_head(a, kv, row + r, &i), begin, end;
        if (!a->plain) rv__attn_dress(a, head, i, j, keys, s + r * RV__ATTN_KEYS);
        rv__attn_sees(a, i, &begin, &end);
        if (a->io.mask || begin > j || end < j + RV__ATTN_KEYS)
            rv__attn_hide(a, head, i, j, keys, s + r * RV__ATTN_KEYS);
    }
}

static void rv__attn_tile(const rv__attn *a, size_t lane, size_t kv, size_t row, size_t n, size_t j,
                          const float *q, float *s)
{
    const size_t dim = a->io.dim, tile = (kv - a->first) * a->tiles + j / RV__ATTN_KEYS;
    const float *packed = a->keys ? a->keys + tile * RV__ATTN_KEYS * dim : NULL;
    rv__attn_raw(a, lane, kv, row, n, j, rv__attn_keys(a, j), packed, q, dim, s);
    rv__attn_finish_tile(a, kv, row, n, j, s);
}

/* n rows of keys or values from row j on: where they lie or, widened and followed by zeros up to
   width, in space. *ld: between rows. */
static const float *rv__attn_widen(const rv__attn *a, const void *from, size_t stride, size_t kv,
                                   size_t dim, size_t width, size_t j, size_t n, float *space,
                                   size_t *ld)
{
    const uint16_t *half = (const uint16_t *)from + j * stride + kv * dim;
    const float *plain = (const float *)from + j * stride + kv * dim;
    *ld = width;
    if (a->io.type == RV_DTYPE_F32 && dim == width) {
        *ld = stride;
        return plain;
    }
    for (size_t k = 0; k < n; k++) {
        float *row = space + k * width;
        if (a->io.type == RV_DTYPE_F32) memcpy(row, plain + k * stride, dim * sizeof(float));
        else if (a->io.type == RV_DTYPE_F16) a->kernels->widen_f16(half + k * stride, row, dim);
        else a->kernels->widen_bf16(half + k * stride, row, dim);
        for (size_t x = dim; x < width; x++) row[x] = 0.0f;
    }
    return space;
}

static void rv__attn_queries(const rv__attn *a, size_t kv, size_t row, size_t n, float *q)
{
    const size_t dim = a->io.dim;
    for (size_t r = 0; r < n; r++, q += dim) {
        size_t i, head = rv__attn_head(a, kv, row + r, &i);
        const float *from = a->io.q + i * a->io.q_stride + head * dim;
        for (size_t x = 0; x < dim; x++) q[x] = from[x] * a->factor;
    }
}

/* Keys that any of the rows sees. */
static void rv__attn_span(const rv__attn *a, size_t row, size_t n, size_t *begin, size_t *end)
{
    *begin = a->io.n_k;
    *end = 0;
    for (size_t r = row; r < row + n; r++) {
        size_t b, e;
        rv__attn_sees(a, r % a->io.n_q, &b, &e);
        if (b == e) continue;
        if (b < *begin) *begin = b;
        if (e > *end) *end = e;
    }
    *begin -= *begin % RV__ATTN_KEYS;
}

/* Dropout on m rows of weights, or of slopes by them. */
static void rv__attn_drop(const rv__attn *a, size_t kv, size_t row, size_t m, size_t j, float *s)
{
    const size_t keys = rv__attn_keys(a, j);
    for (size_t r = 0; r < m && a->drop; r++, s += RV__ATTN_KEYS) {
        size_t i, head = rv__attn_head(a, kv, row + r, &i);
        const uint64_t at = ((uint64_t)head * a->io.n_q + i) * a->io.n_k + j;
        for (size_t x = 0; x < keys; x++)
            s[x] = rv__mix(a->drop_key + at + x) >> 32 < a->drop ? 0.0f : s[x] * a->kept;
    }
}

/* Keys that any of some rows sees, and keys that all of them see. */
typedef struct rv__attn_sight {
    size_t begin, end, all_begin, all_end;
} rv__attn_sight;

static void rv__attn_look(const rv__attn *a, size_t row, size_t n, rv__attn_sight *see)
{
    see->begin = a->io.n_k;
    see->end = see->all_begin = 0;
    see->all_end = a->io.mask ? 0 : a->io.n_k;
    for (size_t r = row; r < row + n; r++) {
        size_t begin, end;
        rv__attn_sees(a, r % a->io.n_q, &begin, &end);
        if (begin > see->all_begin) see->all_begin = begin;
        if (end < see->all_end) see->all_end = end;
        if (begin < end && begin < see->begin) see->begin = begin;
        if (begin < end && end > see->end) see->end = end;
    }
}

/* Sums of values, tops and sums of weights of n rows: [ROWS][width], [ROWS], [ROWS]. */
static void rv__attn_leave(const rv__attn *a, float *part, size_t n, const float *out,
                           const float *top, const float *sum)
{
    const size_t w = a->width;
    memcpy(part, out, n * w * sizeof(float));
    for (size_t r = 0; r < n; r++) {
        float total = 0.0f;
        for (size_t x = 0; x < 16; x++) total += sum[r * 16 + x];
        part[RV__ATTN_ROWS * w + r] = top[r];
        part[RV__ATTN_ROWS * (w + 1) + r] = total;
    }
}

/* Joins what the shards left of a row, and divides. */
static void rv__attn_finish(const rv__attn *a, size_t kv, size_t row, const float *part)
{
    const size_t w = a->width, r = row % RV__ATTN_ROWS, size = RV__ATTN_ROWS * (w + 2);
    size_t i, head = rv__attn_head(a, kv, row, &i);
    float *out = a->io.out + i * a->io.out_stride + head * a->io.dim_v;
    const float sink = a->config.sinks ? a->config.sinks[head] * RV__LOG2E : -rv__infinity();
    float top = sink, lse;
    double sum = 0.0;
    for (size_t s = 0; s < a->shards; s++) {
        const float here = part[s * size + RV__ATTN_ROWS * w + r];
        top = here > top ? here : top;
    }
    if (sink >= -3.4e38f) sum = (double)rv__exp2_f32(sink - top);
    for (size_t x = 0; x < a->io.dim_v; x++) out[x] = 0.0f;
    for (size_t s = 0; s < a->shards; s++) {
        const float *from = part + s * size + r * w, here = part[s * size + RV__ATTN_ROWS * w + r];
        const float share = part[s * size + RV__ATTN_ROWS * (w + 1) + r];
        const float down = here < -3.4e38f ? 0.0f : rv__exp2_f32(here - top);
        if (share == 0.0f) continue;
        sum += (double)(share * down);
        for (size_t x = 0; x < a->io.dim_v; x++) out[x] += from[x] * down;
    }
    lse = sum > 0.0 || sum != sum ? top + (float)(log(sum) * 1.4426950408889634)
                                  : -rv__infinity();
    for (size_t x = 0; x < a->io.dim_v && sum != 0.0 && !a->config.raw; x++)
        out[x] *= (float)(1.0 / sum);
    if (a->lse) a->lse[head * a->io.n_q + i] = a->config.raw ? top : lse;
    if (a->io.lse) a->io.lse[head * a->io.n_q + i] = lse * RV__LN2;
}

static void rv__attn_clear(const rv__attn *a, size_t n, const rv__attn_lane *l)
{
    memset(l->out, 0, n * a->width * sizeof(float));
    memset(l->sum, 0, n * 16 * sizeof(float));
    for (size_t r = 0; r < n; r++) l->top[r] = -rv__infinity();
}

/* Sums of the values of a tile, weighed, for all heads. */
static void rv__attn_few_values(const rv__attn *a, size_t j, const rv__attn_lane *l)
{
    const size_t kv_heads = a->config.kv_heads, n = a->rows, w = a->width;
    const size_t keys = rv__attn_keys(a, j), step = n == 1 ? RV__ATTN_NEAR : RV__ATTN_KEYS;
    for (size_t k = 0; k < keys; k += step) {
        const size_t m = keys - k < step ? keys - k : step;
        for (size_t kv = 0; kv < kv_heads; kv++) {
            const float *s = l->s + kv * n * RV__ATTN_KEYS + k;
            float *out = l->out + kv * n * w;
            size_t ld;
            const float *values = rv__attn_widen(a, a->io.v, a->io.v_stride, kv, a->io.dim_v, w,
                                                 j + k, m, l->wide, &ld);
            if (n == 1) a->kernels->attn_mix_one(s, values, ld, m, out, w);
            else a->kernels->attn_mix(s, n, values, ld, m, out, w, w);
        }
    }
}

/* One shard of the keys, all heads, few rows each. Rows of keys and values hold all heads: they are
   read a few rows at a time and in these head after head, in the order of the memory. */
static void rv__attn_few(const rv__attn *a, size_t lane, size_t shard, const rv__attn_lane *l)
{
    const size_t kv_heads = a->config.kv_heads, n = a->rows, w = a->width, dim = a->io.dim;
    size_t begin, end;
    rv__attn_clear(a, kv_heads * n, l);
    for (size_t kv = 0; kv < kv_heads; kv++) rv__attn_queries(a, kv, 0, n, l->q + kv * n * dim);
    rv__attn_span(a, 0, n, &begin, &end);
    if (begin < shard * RV__ATTN_SHARD) begin = shard * RV__ATTN_SHARD;
    if (end > (shard + 1) * RV__ATTN_SHARD) end = (shard + 1) * RV__ATTN_SHARD;
    for (size_t j = begin; j < end; j += RV__ATTN_KEYS) {
        const size_t keys = rv__attn_keys(a, j), step = a->score ? RV__ATTN_KEYS : RV__ATTN_NEAR;
        for (size_t k = 0; k < keys; k += step)
            for (size_t kv = 0; kv < kv_heads; kv++)
                rv__attn_raw(a, lane, kv, 0, n, j + k, keys - k < step ? keys - k : step, NULL,
                             l->q + kv * n * dim, dim, l->s + kv * n * RV__ATTN_KEYS + k);
        for (size_t kv = 0; kv < kv_heads; kv++) {
            const size_t r = kv * n;
            float *s = l->s + r * RV__ATTN_KEYS;
            rv__attn_finish_tile(a, kv, 0, n, j, s);
            a->kernels->attn_soften(s, n, a->slack, l->top + r, l->sum + r * 16, l->out + r * w, w,
                                    w);
            rv__attn_drop(a, kv, 0, n, j, s);
        }
        rv__attn_few_values(a, j, l);
    }
    for (size_t kv = 0; kv < kv_heads; kv++) {
        const size_t r = kv * n;
        float *part = a->part + (kv * a->shards + shard) * RV__ATTN_ROWS * (w + 2);
        rv__attn_leave(a, part, n, l->out + r * w, l->top + r, l->sum + r * 16);
    }
}

/* One block of rows. */
static void rv__attn_unit(const rv__attn *a, size_t lane, size_t unit, const rv__attn_lane *l)
{
    const size_t local = unit / a->blocks, kv = a->first + local, w = a->width;
    const size_t row = unit % a->blocks * RV__ATTN_ROWS;
    const size_t n = a->rows - row < RV__ATTN_ROWS ? a->rows - row : RV__ATTN_ROWS;
    rv__attn_sight sight[RV__ATTN_ROWS / 6];
    size_t begin, end;
    rv__attn_queries(a, kv, row, n, l->q);
    rv__attn_clear(a, n, l);
    rv__attn_span(a, row, n, &begin, &end);
    for (size_t r = 0; r < n; r += 6)
        rv__attn_look(a, row + r, n - r < 6 ? n - r : 6, sight + r / 6);
    for (size_t j = begin; j < end; j += RV__ATTN_KEYS) {
        const size_t keys = rv__attn_keys(a, j);
        const size_t tile = local * a->tiles + j / RV__ATTN_KEYS;
        const float *packed = a->keys ? a->keys + tile * RV__ATTN_KEYS * a->io.dim : NULL;
        size_t ld = w;
        const float *values = a->values
                                  ? a->values + tile * RV__ATTN_KEYS * w
                                  : rv__attn_widen(a, a->io.v, a->io.v_stride, kv, a->io.dim_v, w,
                                                   j, keys, l->wide, &ld);
        for (size_t r = 0; r < n; r += 6) {
            const size_t m = n - r < 6 ? n - r : 6;
            const rv__attn_sight *see = sight + r / 6;
            float *out = l->out + r * w, *q = l->q + r * a->io.dim;
            if (see->begin >= j + RV__ATTN_KEYS || see->end <= j) continue;
            if (a->plain && packed && see->all_begin <= j && see->all_end >= j + RV__ATTN_KEYS) {
                a->kernels->attn_weigh(q, a->io.dim, m, packed, a->io.dim, a->slack, l->s,
                                       l->top + r, l->sum + r * 16, out, w);
            } else {
                rv__attn_tile(a, lane, kv, row + r, m, j, q, l->s);
                a->kernels->attn_soften(l->s, m, a->slack, l->top + r, l->sum + r * 16, out, w, w);
            }
            rv__attn_drop(a, kv, row + r, m, j, l->s);
            if (m == 1) a->kernels->attn_mix_one(l->s, values, ld, keys, out, w);
            else a->kernels->attn_mix(l->s, m, values, ld, keys, out, w, w);
        }
    }
    rv__attn_leave(a, l->part, n, l->out, l->top, l->sum);
    for (size_t r = 0; r < n; r++) rv__attn_finish(a, kv, row + r, l->part);
}

static void rv__attn_units(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__attn *a = (const rv__attn *)arg;
    rv__attn_lane l;
    (void)rv__attn_lane_at(a, lane, &l);
    for (size_t unit = begin; unit < end; unit++) {
        if (a->few) rv__attn_few(a, lane, unit, &l);
        else rv__attn_unit(a, lane, unit, &l);
    }
}

static void rv__attn_finish_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__attn *a = (const rv__attn *)arg;
    const size_t size = a->shards * RV__ATTN_ROWS * (a->width + 2);
    (void)lane;
    for (size_t row = begin; row < end; row++)
        rv__attn_finish(a, row / a->rows, row % a->rows, a->part + row / a->rows * size);
}

/* Weights of blocks of rows, from their logits once more. */
static void rv__attn_weights(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__attn *a = (const rv__attn *)arg;
    const size_t n_k = a->io.n_k;
    rv__attn_lane l;
    (void)rv__attn_lane_at(a, lane, &l);
    for (size_t unit = begin; unit < end; unit++) {
        const size_t kv = a->first + unit / a->blocks, row = unit % a->blocks * RV__ATTN_ROWS;
        const size_t n = a->rows - row < RV__ATTN_ROWS ? a->rows - row : RV__ATTN_ROWS;
        rv__attn_queries(a, kv, row, n, l.q);
        for (size_t r = 0; r < n; r += 6) {
            const size_t m = n - r < 6 ? n - r : 6;
            for (size_t j = 0; j < n_k; j += RV__ATTN_KEYS) {
                const size_t keys = rv__attn_keys(a, j);
                size_t i, head;
                rv__attn_tile(a, lane, kv, row + r, m, j, l.q + r * a->io.dim, l.s);
                for (size_t x = 0; x < m; x++) {
                    head = rv__attn_head(a, kv, row + r + x, &i);
                    l.top[x] = a->lse[head * a->io.n_q + i];
                }
                a->kernels->attn_soften(l.s, m, a->slack, l.top, l.sum, l.out, a->width, 0);
                for (size_t x = 0; x < m; x++) {
                    head = rv__attn_head(a, kv, row + r + x, &i);
                    memcpy(a->io.weights + (head * a->io.n_q + i) * n_k + j,
                           l.s + x * RV__ATTN_KEYS, keys * sizeof(float));
                }
            }
        }
    }
}

/* ---- preparation ---- */

static void rv__attn_pack_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__attn *a = (const rv__attn *)arg;
    const size_t dim = a->io.dim;
    rv__attn_lane l;
    (void)rv__attn_lane_at(a, lane, &l);
    for (size_t unit = begin; unit < end; unit++) {
        const size_t kv = a->first + unit / a->tiles, j = unit % a->tiles * RV__ATTN_KEYS;
        const size_t n = rv__attn_keys(a, j);
        float *space;
        size_t ld;
        const float *from =
            rv__attn_widen(a, a->io.k, a->io.k_stride, kv, dim, dim, j, n, l.q, &ld);
        a->kernels->attn_pack(from, ld, n, dim, a->keys + unit * RV__ATTN_KEYS * dim);
        if (!a->values) continue;
        space = a->values + unit * RV__ATTN_KEYS * a->width;
        from = rv__attn_widen(a, a->io.v, a->io.v_stride, kv, a->io.dim_v, a->width, j, n, space,
                              &ld);
        for (size_t k = 0; from != space && k < n; k++)
            memcpy(space + k * a->width, from + k * ld, a->width * sizeof(float));
    }
}

/* What a row costs, in products. */
static double rv__attn_cost(const rv__attn *a)
{
    const double keys = a->few ? (double)(RV__ATTN_SHARD * a->config.kv_heads)
                               : (double)a->io.n_k;
    const size_t work = a->score ? a->score->work : a->io.dim;
    return keys * ((double)work + (double)a->width + 16.0) + 512.0;
}

static rv_status rv__attn_steps(rv_ctx *ctx, rv__attn *a)
{
    const size_t kv_heads = a->config.kv_heads;
    const size_t rows = a->rows < RV__ATTN_ROWS ? a->rows : RV__ATTN_ROWS;
    const size_t section = 1 + (size_t)(RV__ATTN_WORK / ((double)rows * rv__attn_cost(a)));
    rv_status status = RV_OK;
    for (a->first = 0; a->first < kv_heads && !status; a->first += a->round) {
        const size_t left = kv_heads - a->first, heads = left < a->round ? left : a->round;
        const size_t units = heads * a->blocks;
        if (a->keys) {
            status = rv__parallel_for(ctx, heads * a->tiles, 1,
                                      1 + 4000000u / (RV__ATTN_KEYS * a->io.dim),
                                      rv__attn_pack_range, a);
        }
        if (!status) {
            status = rv__parallel_for(ctx, a->few ? a->shards : units, 1, section, rv__attn_units,
                                      a);
        }
        if (!status && a->few) {
            status = rv__parallel_for(ctx, kv_heads * a->rows, 16,
                                      16 + 1000000u / (a->shards * a->width),
                                      rv__attn_finish_range, a);
        }
        if (!status && a->io.weights)
            status = rv__parallel_for(ctx, units, 1, section, rv__attn_weights, a);
    }
    return status;
}

/* Checks everything and fills in all but the memory. */
static rv_status rv__attn_open(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                               const rv__attn_score *score, rv__attn *a)
{
    const rv_attn_config *c = &a->config;
    rv_status status;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    memset(a, 0, sizeof *a);
    if (config) a->config = *config;
    a->io = *io;
    rv__attn_settle(a);
    status = rv__attn_check(ctx, a);
    if (status) return status;
    a->score = score;
    a->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    a->scan = rv__scan_find(RV_METRIC_IP, io->type, ctx ? ctx->isa : RV_ISA_BEST);
    a->group = c->heads / c->kv_heads;
    a->rows = rv__mul(a->group, io->n_q);
    a->blocks = (a->rows + RV__ATTN_ROWS - 1) / RV__ATTN_ROWS;
    a->width = rv__round_up(a->io.dim_v, RV__ATTN_WIDE);
    a->elem = rv_dtype_bytes(io->type, 1);
    a->past = c->past;
    if (c->order == RV_ATTN_CAUSAL) a->past = io->n_k > io->n_q ? io->n_k - io->n_q : 0;
    a->slack = c->raw ? 0.0f : 8.0f;
    a->drop = c->training ? (uint64_t)((double)c->dropout * 4294967296.0) : 0;
    a->drop_key = rv__mix(rv__seed(ctx) ^ rv__mix(c->stream));
    a->kept = 1.0f / (1.0f - c->dropout);
    a->plain = !score && !(c->softcap > 0.0f) && !c->slopes && !(io->mask && io->mask->add);
    a->factor = c->scale / c->temperature * (a->plain ? RV__LOG2E : 1.0f);
    a->few = a->rows <= RV__ATTN_FEW;
    a->shards = a->few ? (io->n_k + RV__ATTN_SHARD - 1) / RV__ATTN_SHARD : 1;
    a->tiles = (io->n_k + RV__ATTN_KEYS - 1) / RV__ATTN_KEYS;
    a->round = c->kv_heads;
    return RV_OK;
}

/* lse: [heads * n_q] in powers of two, or NULL. */
static rv_status rv__attn_forward_lse(rv_ctx *ctx, const rv_attn_config *config,
                                      const rv_attn_io *io, const rv__attn_score *score, float *lse)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    size_t n_keys = 0, n_values = 0, n_part, n_lse;
    rv__attn a;
    rv__attn_lane lane;
    rv_status status = rv__attn_open(ctx, config, io, score, &a);
    if (status || io->n_q == 0) return status ? status : rv__ok(ctx);
    if (!score && !a.few) {
        const int copied = io->type != RV_DTYPE_F32 || a.io.v_stride != a.width;
        const size_t head = rv__mul(a.tiles * RV__ATTN_KEYS, io->dim + (copied ? a.width : 0));
        size_t round = RV__ATTN_PACK / sizeof(float) / head;
        round = rv__mul(lanes, round > 1 ? round : 1);
        if (round < a.round) a.round = round;
        n_keys = rv__mul(rv__mul(a.round, io->dim), a.tiles * RV__ATTN_KEYS);
        if (copied) n_values = rv__mul(rv__mul(a.round, a.width), a.tiles * RV__ATTN_KEYS);
    }
    n_part = a.few ? rv__mul(a.config.kv_heads, a.shards) : 0;
    n_part = rv__mul(n_part, RV__ATTN_ROWS * (a.width + 2));
    n_lse = io->weights && !lse ? rv__mul(a.config.heads, io->n_q) : 0;
    a.lane_floats = rv__attn_lane_at(&a, 0, &lane);
    if (n_keys) a.keys = (float *)rv__get(&alloc, n_keys, sizeof(float));
    if (n_values) a.values = (float *)rv__get(&alloc, n_values, sizeof(float));
    if (n_part) a.part = (float *)rv__get(&alloc, n_part, sizeof(float));
    a.lse = n_lse ? (float *)rv__get(&alloc, n_lse, sizeof(float)) : lse;
    a.scratch = (float *)rv__get(&alloc, rv__mul(lanes, a.lane_floats), sizeof(float));
    if ((n_keys && !a.keys) || (n_values && !a.values) || (n_part && !a.part) ||
        (n_lse && !a.lse) || !a.scratch)
        status = rv__no_memory(ctx, rv__mul(rv__add(n_keys, n_part), sizeof(float)));
    else status = rv__attn_steps(ctx, &a);
    rv__put(&alloc, a.scratch, rv__mul(lanes, a.lane_floats), sizeof(float));
    if (n_lse) rv__put(&alloc, a.lse, n_lse, sizeof(float));
    rv__put(&alloc, a.part, n_part, sizeof(float));
    rv__put(&alloc, a.values, n_values, sizeof(float));
    rv__put(&alloc, a.keys, n_keys, sizeof(float));
    return status ? status : rv__ok(ctx);
}

static rv_status rv__attn_forward(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                                  const rv__attn_score *score)
{
    return rv__attn_forward_lse(ctx, config, io, score, NULL);
}

RV_API rv_status rv_attn(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io)
{
    return rv__attn_forward(ctx, config, io, NULL);
}

RV_API void rv_attn_merge(float *out_a, float *lse_a, const float *out_b, const float *lse_b,
                          size_t n, size_t dim_v)
{
    for (size_t i = 0; i < n; i++) {
        const double a = (double)lse_a[i], b = (double)lse_b[i], top = a > b ? a : b;
        double x, y;
        if (top < -3.4e38) continue; /* neither sees a key */
        x = exp(a - top);
        y = exp(b - top);
        for (size_t j = 0; j < dim_v; j++) {
            out_a[i * dim_v + j] = (float)(((double)out_a[i * dim_v + j] * x +
                                            (double)out_b[i * dim_v + j] * y) / (x + y));
        }
        lse_a[i] = (float)(top + log(x + y));
    }
}

RV_API void rv_attn_slopes(size_t heads, float *slopes)
{
    size_t power = 1;
    while (power * 2 <= heads) power *= 2;
    for (size_t h = 0; h < heads; h++) {
        /* beyond a power of two: every second slope of twice as many heads */
        const double step = h < power ? (double)(h + 1) / (double)power
                                      : (double)(2 * (h - power) + 1) / (double)(2 * power);
        slopes[h] = (float)pow(2.0, -8.0 * step);
    }
}

#endif /* RV_ATTN_C */
