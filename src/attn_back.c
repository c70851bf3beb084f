#ifndef RV_ATTN_BACK_C
#define RV_ATTN_BACK_C
#include "attn.c"
#include "attn.h"
#include "base.c"
#include "simd.c"

/* Slopes of exact attention. With w the weights, g the slope by out and D = out . g,
       dv_j = sum of w_ij g_i      ds_ij = w_ij (g_i . v_j - D_i)
       dq_i = sum of ds_ij k_j     dk_j = sum of ds_ij q_i
   (Dao et al., 2022). A unit is a shard of the keys of one head; it walks its tiles of 64 keys, and
   for each all rows, 48 at a time. Slopes by keys and values are finished with their tile; slopes
   by queries are summed per unit and joined in order: the bits depend neither on workers nor on
   threads. The forward runs once more for out and the denominators. */

#define RV__BACK_ROWS 48u
#define RV__BACK_UNITS 8u /* units wanted */

typedef struct rv__attn_back {
    rv__attn a;
    rv_attn_grad grad;
    size_t wq, wv;          /* widths of padded rows                                              */
    size_t shards, tiles;   /* of a head of keys, of a shard                                      */
    size_t first, last;     /* tiles of each shard that are walked now                            */
    float *q, *g;           /* [kv_heads][rows][wq], scaled, and [kv_heads][rows][wv]             */
    float *lse, *share;     /* [heads * n_q]: to base 2; D                                        */
    float *out;             /* [n_q, heads * dim_v]                                               */
    float *dq;              /* [kv_heads * shards][rows][wq]                                      */
    double *part;           /* [kv_heads * shards][n_part]                                        */
    float *scratch;
    size_t lane_floats;
} rv__attn_back;

typedef struct rv__back_lane {
    float *keys, *values;   /* packed                                                             */
    float *rows;            /* [64][wq] keys, widened                                             */
    float *wide;            /* [64][wv] values, before they are packed                            */
    float *w, *ds, *raw;    /* [6][64]                                                            */
    float *tw, *tds;        /* [64 + 6][64] transposed: keys are rows                             */
    float *dk, *dv;         /* [64 + 6][wq], [64 + 6][wv]                                         */
    float *top, *sum;       /* [6], [6][16]                                                       */
} rv__back_lane;

static size_t rv__back_lane_at(const rv__attn_back *b, size_t lane, rv__back_lane *l)
{
    float *base = b->scratch ? b->scratch + lane * b->lane_floats : NULL;
    size_t at = 0;
    const size_t K = RV__ATTN_KEYS;
    l->keys = rv__attn_piece(base, &at, K * b->a.io.dim);
    l->values = rv__attn_piece(base, &at, K * b->a.io.dim_v);
    l->rows = rv__attn_piece(base, &at, K * b->wq);
    l->wide = rv__attn_piece(base, &at, K * b->wv);
    l->w = rv__attn_piece(base, &at, 6 * K);
    l->ds = rv__attn_piece(base, &at, 6 * K);
    l->raw = rv__attn_piece(base, &at, 6 * K);
    l->tw = rv__attn_piece(base, &at, (K + 6) * K);
    l->tds = rv__attn_piece(base, &at, (K + 6) * K);
    l->dk = rv__attn_piece(base, &at, (K + 6) * b->wq);
    l->dv = rv__attn_piece(base, &at, (K + 6) * b->wv);
    l->sum = rv__attn_piece(base, &at, 6 * 16);
    l->top = rv__attn_piece(base, &at, 16);
    return at;
}

/* Weights, as values see them, and slopes of logits of m <= 6 rows from `row` on, for the
   tile of keys j. */
static void rv__back_slopes(const rv__attn_back *b, size_t lane, size_t kv, size_t row, size_t m,
                            size_t j, const rv__back_lane *l)
{
    const rv__attn *a = &b->a;
    const size_t at = kv * a->rows + row, K = RV__ATTN_KEYS;
    const float cap = a->config.softcap;
    rv__attn_raw(a, lane, kv, row, m, j, rv__attn_keys(a, j), l->keys, b->q + at * b->wq, b->wq,
                 l->w);
    if (cap > 0.0f) {
        for (size_t x = 0; x < m * K; x++) l->raw[x] = l->w[x] / cap;
        a->kernels->tanh_f32(l->raw, l->raw, m * K);
    }
    rv__attn_finish_tile(a, kv, row, m, j, l->w);
    memcpy(l->top, b->lse + at, m * sizeof(float));
    memset(l->sum, 0, 6 * 16 * sizeof(float));
    a->kernels->attn_soften(l->w, m, a->slack, l->top, l->sum, l->dk, 0, 0);
    a->kernels->attn_logits(b->g + at * b->wv, b->wv, m, l->values, a->io.dim_v, l->ds);
    rv__attn_drop(a, kv, row, m, j, l->ds);
    for (size_t r = 0; r < m; r++) {
        const float share = b->share[at + r];
        float *ds = l->ds + r * K;
        const float *w = l->w + r * K, *raw = l->raw + r * K;
        for (size_t x = 0; x < K; x++) ds[x] = w[x] == 0.0f ? 0.0f : w[x] * (ds[x] - share);
        for (size_t x = 0; cap > 0.0f && x < K; x++) ds[x] *= 1.0f - raw[x] * raw[x];
    }
    rv__attn_drop(a, kv, row, m, j, l->w);
}

/* One block of rows against one tile of keys. */
static void rv__back_block(const rv__attn_back *b, size_t lane, size_t unit, size_t row, size_t n,
                           size_t j, const float *keys, size_t ldk, const rv__back_lane *l)
{
    const rv__attn *a = &b->a;
    const size_t kv = unit / b->shards, K = RV__ATTN_KEYS, n_keys = rv__attn_keys(a, j);
    double *part = b->part ? b->part + unit * a->score->n_part : NULL;
    float *dq = b->dq + (unit * a->rows + row) * b->wq;
    const float *g = b->g + (kv * a->rows + row) * b->wv, *q = b->q + (kv * a->rows + row) * b->wq;
    for (size_t r = 0; r < n; r += 6) {
        const size_t m = n - r < 6 ? n - r : 6;
        rv__back_slopes(b, lane, kv, row + r, m, j, l);
        for (size_t x = 0; x < m; x++) {
            for (size_t k = 0; k < K; k++) {
                l->tw[k * K + r + x] = l->w[x * K + k];
                l->tds[k * K + r + x] = l->ds[x * K + k];
            }
        }
        for (size_t x = 0; a->score && x < m; x++) {
            size_t i, head = rv__attn_head(a, kv, row + r + x, &i);
            a->score->pull(a->score->user, lane, head, i, j, n_keys, l->ds + x * K,
                           dq + (r + x) * b->wq, l->dk, b->wq, part);
        }
        if (!a->score) {
            a->kernels->attn_mix(l->ds, m, keys, ldk, n_keys, dq + r * b->wq, b->wq, b->wq);
        }
    }
    for (size_t k = 0; k < n_keys; k += 6) {
        const size_t m = n_keys - k < 6 ? n_keys - k : 6;
        a->kernels->attn_mix(l->tw + k * K, m, g, b->wv, n, l->dv + k * b->wv, b->wv, b->wv);
        if (!a->score)
            a->kernels->attn_mix(l->tds + k * K, m, q, b->wq, n, l->dk + k * b->wq, b->wq, b->wq);
    }
}

static void rv__back_tile(const rv__attn_back *b, size_t lane, size_t unit, size_t j,
                          const rv__back_lane *l)
{
    const rv__attn *a = &b->a;
    const rv_attn_io *io = &a->io;
    const size_t kv = unit / b->shards, n_keys = rv__attn_keys(a, j);
    const float *keys = NULL, *values;
    const float slope = a->plain ? RV__LN2 : 1.0f;
    size_t ldk = 0, ldv;
    if (!a->score) {
        keys = rv__attn_widen(a, io->k, io->k_stride, kv, io->dim, b->wq, j, n_keys, l->rows, &ldk);
        a->kernels->attn_pack(keys, ldk, n_keys, io->dim, l->keys);
    }
    values = rv__attn_widen(a, io->v, io->v_stride, kv, io->dim_v, b->wv, j, n_keys, l->wide, &ldv);
    a->kernels->attn_pack(values, ldv, n_keys, io->dim_v, l->values);
    memset(l->dk, 0, RV__ATTN_KEYS * b->wq * sizeof(float));
    memset(l->dv, 0, RV__ATTN_KEYS * b->wv * sizeof(float));
    for (size_t row = 0; row < a->rows; row += RV__BACK_ROWS) {
        const size_t n = a->rows - row < RV__BACK_ROWS ? a->rows - row : RV__BACK_ROWS;
        size_t begin, end;
        rv__attn_span(a, row, n, &begin, &end);
        if (begin < j + RV__ATTN_KEYS && end > j)
            rv__back_block(b, lane, unit, row, n, j, keys, ldk, l);
    }
    for (size_t k = 0; k < n_keys; k++) {
        const size_t at = (j + k) * a->config.kv_heads + kv;
        if (b->grad.d_v)
            memcpy(b->grad.d_v + at * io->dim_v, l->dv + k * b->wv, io->dim_v * sizeof(float));
        if (!b->grad.d_k) continue;
        for (size_t x = 0; x < io->dim; x++)
            b->grad.d_k[at * io->dim + x] = l->dk[k * b->wq + x] * slope;
    }
}

static void rv__back_units(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__attn_back *b = (const rv__attn_back *)arg;
    rv__back_lane l;
    (void)rv__back_lane_at(b, lane, &l);
    for (size_t unit = begin; unit < end; unit++) {
        const size_t shard = unit % b->shards;
        for (size_t t = b->first; t < b->last; t++) {
            const size_t j = (shard * b->tiles + t) * RV__ATTN_KEYS;
            if (j < b->a.io.n_k) rv__back_tile(b, lane, unit, j, &l);
        }
    }
}

/* Rows of queries and slopes as the tiles want them, and D. */
static void rv__back_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__attn_back *b = (const rv__attn_back *)arg;
    const rv__attn *a = &b->a;
    const size_t dim = a->io.dim, dim_v = a->io.dim_v;
    (void)lane;
    for (size_t at = begin; at < end; at++) {
        size_t i, head = rv__attn_head(a, at / a->rows, at % a->rows, &i);
        const float *from = a->io.q + i * a->io.q_stride + head * dim;
        const float *slope = b->grad.d_out + i * a->io.out_stride + head * dim_v;
        const float *out = b->out + (i * a->config.heads + head) * dim_v;
        float *q = b->q + at * b->wq, *g = b->g + at * b->wv;
        double share = 0.0;
        memset(q, 0, b->wq * sizeof(float));
        memset(g, 0, b->wv * sizeof(float));
        for (size_t x = 0; x < dim; x++) q[x] = from[x] * a->factor;
        for (size_t x = 0; x < dim_v; x++) {
            g[x] = slope[x];
            share += (double)slope[x] * (double)out[x];
        }
        b->share[at] = (float)share;
    }
}

/* Joins what the units hold. */
static void rv__back_join(const rv__attn_back *b, float *d_params)
{
    const rv__attn *a = &b->a;
    const size_t n_part = a->score ? a->score->n_part : 0, heads = a->config.heads;
    const float scale = a->score ? 1.0f : a->config.scale / a->config.temperature;
    for (size_t at = 0; b->grad.d_q && at < a->config.kv_heads * a->rows; at++) {
        const size_t kv = at / a->rows, row = at % a->rows;
        size_t i, head = rv__attn_head(a, kv, row, &i);
        float *to = b->grad.d_q + (i * heads + head) * a->io.dim;
        for (size_t x = 0; x < a->io.dim; x++) {
            float sum = 0.0f;
            for (size_t s = 0; s < b->shards; s++)
                sum += b->dq[((kv * b->shards + s) * a->rows + row) * b->wq + x];
            to[x] = sum * scale;
        }
    }
    for (size_t p = 0; d_params && p < n_part; p++) {
        double sum = 0.0;
        for (size_t u = 0; u < a->config.kv_heads * b->shards; u++) sum += b->part[u * n_part + p];
        d_params[p] = (float)sum;
    }
    for (size_t h = 0; b->grad.d_sinks && h < heads; h++) {
        double sum = 0.0;
        for (size_t i = 0; a->config.sinks && i < a->io.n_q; i++) {
            /* rows of a head of keys are its query heads one after another */
            const size_t at = h * a->io.n_q + i;
            const float sink = a->config.sinks[h] * RV__LOG2E;
            if (sink < -3.4e38f) continue;
            sum -= (double)rv__exp2_f32(sink - b->lse[at]) * (double)b->share[at];
        }
        b->grad.d_sinks[h] = (float)sum;
    }
}

static rv_status rv__back_steps(rv_ctx *ctx, rv__attn_back *b)
{
    const rv__attn *a = &b->a;
    const size_t rows = a->config.kv_heads * a->rows, units = a->config.kv_heads * b->shards;
    const size_t work = (a->score ? 3 * a->score->work : 3 * a->io.dim) + 2 * a->io.dim_v + 32;
    const double cost = (double)a->rows * (double)RV__ATTN_KEYS * (double)work;
    const size_t step = 1 + (size_t)(RV__ATTN_WORK / cost);
    rv_attn_io io = a->io;
    rv_status status;
    io.out = b->out;
    io.out_stride = 0;
    io.weights = io.lse = NULL;
    status = rv__attn_forward_lse(ctx, &a->config, &io, a->score, b->lse);
    if (!status)
        status = rv__parallel_for(ctx, rows, 16, 16 + 1000000u / (b->wq + b->wv), rv__back_rows, b);
    for (size_t t = 0; !status && t < b->tiles; t = b->last) {
        b->first = t;
        b->last = b->tiles - t < step ? b->tiles : t + step;
        status = rv__parallel_for(ctx, units, 1, units, rv__back_units, b);
    }
    return status;
}

/* Arrays of n queries without keys to look at, or none at all. */
static void rv__back_nothing(const rv__attn_back *b, float *d_params)
{
    const rv__attn *a = &b->a;
    const size_t rows = a->io.n_k * a->config.kv_heads;
    if (b->grad.d_k) memset(b->grad.d_k, 0, rows * a->io.dim * sizeof(float));
    if (b->grad.d_v) memset(b->grad.d_v, 0, rows * a->io.dim_v * sizeof(float));
    if (b->grad.d_sinks) memset(b->grad.d_sinks, 0, a->config.heads * sizeof(float));
    if (d_params && a->score) memset(d_params, 0, a->score->n_part * sizeof(float));
}

static void *rv__back_take(const rv_alloc *alloc, size_t n, size_t size, int *missing)
{
    void *block = n ? rv__get(alloc, n, size) : NULL;
    if (n && !block) *missing = 1;
    else if (n) memset(block, 0, n * size);
    return block;
}

static rv_status rv__attn_backward(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                                   const rv_attn_grad *grad, const rv__attn_score *score)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    float unused;
    rv_attn_io with;
    rv__attn_back b;
    rv__back_lane lane;
    size_t rows, units, tiles, n_part = score ? score->n_part : 0;
    int missing = 0;
    rv_status status;
    memset(&b, 0, sizeof b);
    if (!io || !grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, grad and grad->d_out must not be NULL");
    b.grad = *grad;
    with = *io;
    with.out = &unused;
    status = rv__attn_open(ctx, config, &with, score, &b.a);
    if (status) return status;
    if (b.a.config.raw)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "raw has no backward: a largest logit has no slope");
    if (io->n_q == 0) {
        rv__back_nothing(&b, grad->d_params);
        return rv__ok(ctx);
    }
    b.wq = rv__round_up(b.a.io.dim, RV__ATTN_WIDE);
    b.wv = b.a.width;
    tiles = (io->n_k + RV__ATTN_KEYS - 1) / RV__ATTN_KEYS;
    b.shards = b.a.config.kv_heads < RV__BACK_UNITS ? RV__BACK_UNITS / b.a.config.kv_heads : 1;
    if (b.shards > (tiles + 7) / 8) b.shards = (tiles + 7) / 8;
    b.tiles = (tiles + b.shards - 1) / b.shards;
    rows = rv__mul(b.a.config.kv_heads, b.a.rows);
    units = b.a.config.kv_heads * b.shards;
    b.lane_floats = rv__back_lane_at(&b, 0, &lane);
    b.q = (float *)rv__back_take(&alloc, rv__mul(rows, b.wq), sizeof(float), &missing);
    b.g = (float *)rv__back_take(&alloc, rv__mul(rows, b.wv), sizeof(float), &missing);
    b.lse = (float *)rv__back_take(&alloc, rows, sizeof(float), &missing);
    b.share = (float *)rv__back_take(&alloc, rows, sizeof(float), &missing);
    b.out = (float *)rv__back_take(&alloc, rv__mul(rows, b.a.io.dim_v), sizeof(float), &missing);
    b.dq = (float *)rv__back_take(&alloc, rv__mul(rv__mul(rows, b.shards), b.wq), sizeof(float),
                                  &missing);
    b.part = (double *)rv__back_take(&alloc, rv__mul(units, n_part), sizeof(double), &missing);
    b.scratch = (float *)rv__back_take(&alloc, rv__mul(lanes, b.lane_floats), sizeof(float),
                                       &missing);
    if (missing) status = rv__no_memory(ctx, rv__mul(rv__mul(rows, b.wq + b.wv), sizeof(float)));
    else status = rv__back_steps(ctx, &b);
    if (!status) rv__back_join(&b, grad->d_params);
    rv__put(&alloc, b.scratch, rv__mul(lanes, b.lane_floats), sizeof(float));
    rv__put(&alloc, b.part, rv__mul(units, n_part), sizeof(double));
    rv__put(&alloc, b.dq, rv__mul(rv__mul(rows, b.shards), b.wq), sizeof(float));
    rv__put(&alloc, b.out, rv__mul(rows, b.a.io.dim_v), sizeof(float));
    rv__put(&alloc, b.share, rows, sizeof(float));
    rv__put(&alloc, b.lse, rows, sizeof(float));
    rv__put(&alloc, b.g, rv__mul(rows, b.wv), sizeof(float));
    rv__put(&alloc, b.q, rv__mul(rows, b.wq), sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_attn_backward(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                                  const rv_attn_grad *grad)
{
    return rv__attn_backward(ctx, config, io, grad, NULL);
}

#undef RV__ATTN_ROWS
#undef RV__ATTN_FEW
#undef RV__ATTN_SHARD
#undef RV__ATTN_WIDE
#undef RV__ATTN_NEAR
#undef RV__ATTN_PACK
#undef RV__ATTN_WORK
#undef RV__LN2
#undef RV__BACK_ROWS
#undef RV__BACK_UNITS

#endif /* RV_ATTN_BACK_C */
