#ifndef RV_ATTN_TRANSPORT_C
#define RV_ATTN_TRANSPORT_C
#include "attn_transport.h"
#include "base.c"
#include "simd.c"
#include "topk.c"
#include "transport.c"
#include "attn.c"
#include "attn_back.c"

/* Sliced Wasserstein attention. Every row becomes its sorted projections once, z: [projections, m]
   numbers and, for the slopes, the point that each is of. SW_p between two rows is then a distance
   of exponent p between their z, for which p = 1 and 2 have kernels. The first stage keeps for each
   query the sorted list of its candidates. */

typedef struct rv__sliced {
    rv__attn a;                 /* the problem, settled                                       */
    const float *directions;    /* [projections, s]                                           */
    size_t projections, m, s, len, candidates;
    double p, share;            /* share: 1 / temperature                                     */
    float *zq, *zk;             /* [n_q, heads, len], [n_k, kv_heads, len]                    */
    uint32_t *rq, *rk;          /* the same of points, or NULL                                */
    uint32_t *list, *count;     /* [heads, n_q, candidates], [heads, n_q]; NULL: one stage    */
    float *lane;                /* [lanes][lane_floats]                                       */
    uint64_t *sort;             /* [lanes][2 m]                                               */
    size_t lane_floats;
    int queries;                /* what is being sorted                                       */
} rv__sliced;

/* ---- sorted projections ---- */

static const float *rv__sliced_row(const rv__sliced *w, size_t row, float *space)
{
    const rv_attn_io *io = &w->a.io;
    const size_t heads = w->queries ? w->a.config.heads : w->a.config.kv_heads;
    const size_t at = row / heads * (w->queries ? io->q_stride : io->k_stride) +
                      row % heads * io->dim;
    if (w->queries) return io->q + at;
    if (io->type == RV_DTYPE_F32) return (const float *)io->k + at;
    if (io->type == RV_DTYPE_F16)
        w->a.kernels->widen_f16((const uint16_t *)io->k + at, space, io->dim);
    else w->a.kernels->widen_bf16((const uint16_t *)io->k + at, space, io->dim);
    return space;
}

static void rv__sliced_sort_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__sliced *w = (const rv__sliced *)arg;
    uint64_t *keys = w->sort + lane * 2 * w->m;
    float *space = w->lane + lane * w->lane_floats, *place = space + w->a.io.dim;
    for (size_t row = begin; row < end; row++) {
        const float *x = rv__sliced_row(w, row, space);
        float *z = (w->queries ? w->zq : w->zk) + row * w->len;
        uint32_t *of = w->queries ? w->rq : w->rk;
        for (size_t u = 0; u < w->projections; u++) {
            w->a.kernels->scan_dot_f32(w->directions + u * w->s, (const unsigned char *)x,
                                       w->s * sizeof(float), NULL, w->m, w->s, place);
            for (size_t r = 0; r < w->m; r++) keys[r] = rv__transport_key(place[r], r);
            (void)rv__transport_sort(NULL, keys, keys + w->m, w->m);
            for (size_t r = 0; r < w->m; r++) {
                z[u * w->m + r] = rv__transport_place(keys[r]);
                if (of) of[row * w->len + u * w->m + r] = (uint32_t)keys[r];
            }
        }
    }
}

/* ---- candidates ---- */

static int rv__sliced_visible(const rv__sliced *w, size_t head, size_t i, size_t j)
{
    const rv_attn_mask *mask = w->a.io.mask;
    const size_t at = i * w->a.io.n_k + j;
    if (!mask) return 1;
    if (mask->allow && !mask->allow[head * mask->allow_head + at]) return 0;
    if (mask->add && mask->add[head * mask->add_head + at] < -3.4e38f) return 0;
    return !mask->visible || mask->visible(mask->user, head, i, j);
}

static void rv__sliced_pick_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__sliced *w = (const rv__sliced *)arg;
    const rv__attn *a = &w->a;
    float *dot = w->lane + lane * w->lane_floats;
    uint32_t *seen = (uint32_t *)(void *)(dot + a->io.n_k);
    for (size_t row = begin; row < end; row++) {
        const size_t head = row / a->io.n_q, i = row % a->io.n_q, kv = head / a->group;
        uint32_t *list = w->list + row * w->candidates;
        size_t from, to, n = 0, some;
        rv__attn_sees(a, i, &from, &to);
        a->scan(a->io.q + i * a->io.q_stride + head * a->io.dim,
                (const unsigned char *)a->io.k +
                    (from * a->io.k_stride + kv * a->io.dim) * a->elem,
                a->io.k_stride * a->elem, NULL, to - from, a->io.dim, dot);
        for (size_t j = from; j < to; j++) {
            if (!rv__sliced_visible(w, head, i, j)) continue;
            dot[n] = dot[j - from];
            seen[n++] = (uint32_t)j;
        }
        some = rv_topk_f32(dot, n, w->candidates, list, NULL);
        for (size_t x = 1; x < some; x++) { /* ascending: what tiles ask for is a run */
            const uint32_t key = list[x];
            size_t at = x;
            for (; at && list[at - 1] > key; at--) list[at] = list[at - 1];
            list[at] = key;
        }
        for (size_t x = 0; x < some; x++) list[x] = seen[list[x]];
        w->count[row] = (uint32_t)some;
    }
}

/* Entries of a query's list from key j on. */
static size_t rv__sliced_find(const uint32_t *list, size_t n, size_t j)
{
    size_t low = 0;
    while (n > low) {
        const size_t middle = low + (n - low) / 2;
        if (list[middle] < j) low = middle + 1;
        else n = middle;
    }
    return low;
}

/* ---- logits and slopes ---- */

/* SW^p times len. */
static double rv__sliced_sum(const rv__sliced *w, const float *x, const float *y)
{
    double sum = 0.0, slope;
    if (w->p == 2.0) return (double)w->a.kernels->pair_f32[RV_METRIC_L2](x, y, w->len);
    if (w->p == 1.0) return (double)w->a.kernels->pair_f32[RV_METRIC_L1](x, y, w->len);
    for (size_t t = 0; t < w->len; t++) {
        const double d = (double)x[t] - (double)y[t];
        if (rv__is_nan((float)d)) return d;
        sum += rv__transport_power(fabs(d), w->p, &slope);
    }
    return sum;
}

static void rv__sliced_logits(const void *user, size_t lane, size_t head, size_t i, size_t j,
                              size_t n, float *s)
{
    const rv__sliced *w = (const rv__sliced *)user;
    const size_t heads = w->a.config.heads, kv_heads = w->a.config.kv_heads;
    const size_t kv = head / w->a.group, row = head * w->a.io.n_q + i;
    const float *z = w->zq + (i * heads + head) * w->len;
    const uint32_t *list = w->list ? w->list + row * w->candidates : NULL;
    const size_t count = list ? w->count[row] : n;
    size_t at = list ? rv__sliced_find(list, count, j) : 0;
    (void)lane;
    for (size_t x = 0; x < n; x++) s[x] = -rv__infinity();
    for (; at < count; at++) {
        const size_t key = list ? list[at] : j + at;
        double sum;
        if (key >= j + n) break;
        sum = rv__sliced_sum(w, z, w->zk + (key * kv_heads + kv) * w->len);
        /* by bits, so that NaN arrives at the softmax under -ffast-math, too */
        s[key - j] = rv__is_nan((float)sum)
                         ? (float)sum
                         : (float)(-w->share *
                                   rv__transport_root(sum / (double)w->len, w->p));
    }
}

/* Under softcap -infinity would become a number; the engine asks this afterwards, in place of the
   caller's function: keys that are hidden are in no list. */
static int rv__sliced_listed(void *user, size_t head, size_t i, size_t j)
{
    const rv__sliced *w = (const rv__sliced *)user;
    const size_t row = head * w->a.io.n_q + i;
    const uint32_t *list = w->list + row * w->candidates;
    const size_t at = rv__sliced_find(list, w->count[row], j);
    return at < w->count[row] && list[at] == j;
}

/* x: [m, s] += the slopes of its sorted projections, each along its direction. */
static void rv__sliced_spread(const rv__sliced *w, const float *dz, const uint32_t *of, float *x)
{
    for (size_t t = 0; t < w->len; t++) {
        if (dz[t] == 0.0f) continue;
        w->a.kernels->axpy_f32(dz[t], w->directions + t / w->m * w->s, x + of[t] * w->s, w->s);
    }
}

static void rv__sliced_pull(const void *user, size_t lane, size_t head, size_t i, size_t j,
                            size_t n, const float *ds, float *dq, float *dk, size_t ldk,
                            double *part)
{
    const rv__sliced *w = (const rv__sliced *)user;
    const size_t heads = w->a.config.heads, kv_heads = w->a.config.kv_heads;
    const size_t kv = head / w->a.group, at = (i * heads + head) * w->len;
    const float *z = w->zq + at;
    float *here = w->lane + lane * w->lane_floats, *sum = here + w->len;
    int any = 0;
    (void)part;
    memset(sum, 0, w->len * sizeof(float));
    for (size_t x = 0; x < n; x++) {
        const size_t key = ((j + x) * kv_heads + kv) * w->len;
        const float *y = w->zk + key;
        double total, slope, scale;
        if (ds[x] == 0.0f) continue;
        total = rv__sliced_sum(w, z, y) / (double)w->len;
        if (!(total > 0.0)) continue;
        (void)rv__transport_power(rv__transport_root(total, w->p), w->p, &slope);
        if (!(slope > 0.0)) continue;
        scale = -(double)ds[x] * w->share / (slope * (double)w->len);
        for (size_t t = 0; t < w->len; t++) {
            const double d = (double)z[t] - (double)y[t];
            (void)rv__transport_power(fabs(d), w->p, &slope);
            here[t] = (float)(d < 0.0 ? -slope * scale : slope * scale);
            sum[t] += here[t];
            here[t] = -here[t];
        }
        any = 1;
        rv__sliced_spread(w, here, w->rk + key, dk + x * ldk);
    }
    if (any) rv__sliced_spread(w, sum, w->rq + at, dq);
}

/* ---- the whole ---- */

static rv_status rv__sliced_settle(rv_ctx *ctx, const rv_attn_sliced_config *config,
                                   const rv_attn_io *io, rv__sliced *w)
{
    rv_attn_sliced_config c;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    if (rv__given(c.base.scale))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "scale is %f; sliced attention has none, it must be 0 (temperature acts)",
                        (double)c.base.scale);
    status = rv__attn_open(ctx, &c.base, io, NULL, &w->a);
    if (status) return status;
    w->m = c.points ? c.points : 1;
    w->projections = c.projections ? c.projections : 16;
    w->candidates = c.candidates ? c.candidates : 64;
    w->p = !rv__given(c.p) ? 2.0 : (double)c.p;
    w->share = 1.0 / (double)w->a.config.temperature;
    w->directions = c.directions;
    if (io->dim % w->m != 0)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "points is %z; it must divide dim, which is %z",
                        w->m, io->dim);
    if (w->projections > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "projections is %z, allowed: 1 to 65535",
                        w->projections);
    w->s = io->dim / w->m;
    w->len = rv__mul(w->projections, w->m);
    return rv__transport_check_p(ctx, (float)w->p);
}

/* Sorts rows, picks candidates, then the engine. own: directions that are not the caller's. */
static rv_status rv__sliced_steps(rv_ctx *ctx, rv__sliced *w, const rv_attn_io *io,
                                  const rv_attn_grad *grad, float *own)
{
    const size_t rows_q = io->n_q * w->a.config.heads, rows_k = io->n_k * w->a.config.kv_heads;
    const size_t work = 1 + 300000u / (w->projections * (w->s + 8) * w->m);
    rv_attn_mask mask;
    rv_attn_io with = *io;
    rv__attn_score score;
    rv_status status = RV_OK;
    if (own) status = rv__transport_fill(ctx, w->projections, w->s, own);
    w->queries = 1;
    if (!status) status = rv__parallel_for(ctx, rows_q, 1, work, rv__sliced_sort_range, w);
    w->queries = 0;
    if (!status) status = rv__parallel_for(ctx, rows_k, 1, work, rv__sliced_sort_range, w);
    if (!status && w->list) {
        status = rv__parallel_for(ctx, rows_q, 1, 1 + 2000000u / (io->n_k * (io->dim + 8)),
                                  rv__sliced_pick_range, w);
    }
    if (status) return status;
    memset(&score, 0, sizeof score);
    score.user = w;
    score.logits = rv__sliced_logits;
    score.pull = rv__sliced_pull;
    score.work = w->len * (w->p == 1.0 || w->p == 2.0 ? 1 : 40) / (w->list ? 4 : 1) + 8;
    if (w->list && w->a.config.softcap > 0.0f) {
        memset(&mask, 0, sizeof mask);
        if (io->mask) mask = *io->mask;
        mask.visible = rv__sliced_listed;
        mask.user = w;
        with.mask = &mask;
    }
    if (grad) return rv__attn_backward(ctx, &w->a.config, &with, grad, &score);
    return rv__attn_forward(ctx, &w->a.config, &with, &score);
}

static rv_status rv__sliced_run(rv_ctx *ctx, const rv_attn_sliced_config *config,
                                const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    size_t n_q, n_k, n_list, n_own, wide;
    float *z, *own = NULL;
    uint32_t *of = NULL, *list = NULL;
    rv__sliced w;
    rv_status status;
    memset(&w, 0, sizeof w);
    status = rv__sliced_settle(ctx, config, io, &w);
    if (!status && io->n_q == 0 && grad) return rv__attn_backward(ctx, &w.a.config, io, grad, NULL);
    if (status || io->n_q == 0) return status ? status : rv__ok(ctx);
    n_q = rv__mul(rv__mul(io->n_q, w.a.config.heads), w.len);
    n_k = rv__mul(rv__mul(io->n_k, w.a.config.kv_heads), w.len);
    n_list = w.candidates < io->n_k
                 ? rv__mul(rv__mul(io->n_q, w.a.config.heads), w.candidates + 1) : 0;
    n_own = w.directions ? 0 : rv__mul(w.projections, w.s);
    wide = io->dim + w.m; /* what the three uses of a lane need at most */
    if (n_list && wide < 2 * io->n_k) wide = 2 * io->n_k;
    if (grad && wide < 2 * w.len) wide = 2 * w.len;
    w.lane_floats = wide;
    z = (float *)rv__get(&alloc, rv__add(n_q, n_k), sizeof(float));
    w.lane = (float *)rv__get(&alloc, rv__mul(lanes, wide), sizeof(float));
    w.sort = (uint64_t *)rv__get(&alloc, rv__mul(lanes, 2 * w.m), sizeof(uint64_t));
    if (grad) of = (uint32_t *)rv__get(&alloc, rv__add(n_q, n_k), sizeof(uint32_t));
    if (n_list) list = (uint32_t *)rv__get(&alloc, n_list, sizeof(uint32_t));
    if (n_own) own = (float *)rv__get(&alloc, n_own, sizeof(float));
    if (!z || !w.lane || !w.sort || (grad && !of) || (n_list && !list) || (n_own && !own)) {
        status = rv__no_memory(ctx, rv__mul(rv__add(n_q, n_k), sizeof(float)));
    } else {
        w.zq = z;
        w.zk = z + n_q;
        w.rq = of;
        w.rk = of ? of + n_q : NULL;
        w.list = list;
        if (list) w.count = list + io->n_q * w.a.config.heads * w.candidates;
        if (own) w.directions = own;
        status = rv__sliced_steps(ctx, &w, io, grad, own);
    }
    rv__put(&alloc, own, n_own, sizeof(float));
    rv__put(&alloc, list, n_list, sizeof(uint32_t));
    rv__put(&alloc, of, rv__add(n_q, n_k), sizeof(uint32_t));
    rv__put(&alloc, w.sort, rv__mul(lanes, 2 * w.m), sizeof(uint64_t));
    rv__put(&alloc, w.lane, rv__mul(lanes, wide), sizeof(float));
    rv__put(&alloc, z, rv__add(n_q, n_k), sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_attn_sliced(rv_ctx *ctx, const rv_attn_sliced_config *config,
                                const rv_attn_io *io)
{
    return rv__sliced_run(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_sliced_backward(rv_ctx *ctx, const rv_attn_sliced_config *config,
                                         const rv_attn_io *io, const rv_attn_grad *grad)
{
    float unused;
    rv_attn_io with;
    if (!io || !grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, grad and grad->d_out must not be NULL");
    with = *io;
    with.out = &unused;
    with.weights = with.lse = NULL;
    return rv__sliced_run(ctx, config, &with, grad);
}

#endif /* RV_ATTN_TRANSPORT_C */
