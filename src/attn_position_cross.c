#ifndef RV_ATTN_POSITION_CROSS_C
#define RV_ATTN_POSITION_CROSS_C
#include "attn_position.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "csr.c"
#include "distance.c"
#include "attn.c"
#include "attn_position.c"

/* Attention over lists of keys. Rows are independent: a query's graph part, latent part and crossed
   part (whose query is the graph part) stand side by side in a row of `parts`, which W or the mean
   turns into out. The backward goes row by row on the calling thread, as slopes by keys and values
   scatter. */

#define RV__CROSS_NEAR 4096u /* most latent neighbours */

typedef struct rv__cross {
    rv__position p;
    rv_csr graph, near_by;
    size_t heads, dim, width, most; /* width: heads * dim; most: longest list */
    const float *w;                 /* [width, 3 width] or NULL */
    float *parts;                   /* [n_q, 3 width] */
    float *scratch;
    size_t lane_floats;
    const float *latent;            /* the search */
    rv__scan_fn scan;
    size_t latent_dim, latent_stride, k, n;
    uint32_t *index;
    uint64_t *keys;                 /* [lanes][k] */
    float *distance;                /* [lanes][n] */
} rv__cross;

/* ---- one list ---- */

typedef struct rv__cross_row {
    float *w, *tanh, *ds, *value;   /* [most], [most], [most], [dim] */
} rv__cross_row;

static void rv__cross_lane(const rv__cross *c, size_t lane, rv__cross_row *row)
{
    row->w = c->scratch + lane * c->lane_floats;
    row->tanh = row->w + c->most;
    row->ds = row->tanh + c->most;
    row->value = row->ds + c->most;
}

static const float *rv__cross_value(const rv__cross *c, size_t head, size_t j, float *space)
{
    const rv__attn *a = &c->p.a;
    size_t ld;
    return rv__attn_widen(a, a->io.v, a->io.v_stride, head / a->group, c->dim, c->dim, j, 1, space,
                          &ld);
}

/* Weights of the keys of query i, whose row of this head is q, in row->w. */
static size_t rv__cross_weigh(const rv__cross *c, const rv_csr *list, const float *q, size_t head,
                              size_t i, const rv__cross_row *row)
{
    const rv__attn *a = &c->p.a;
    const rv_attn_mask *mask = a->io.mask;
    const size_t n = list->start[i + 1] - list->start[i];
    const uint32_t *ids = list->index + list->start[i];
    const unsigned char *keys =
        (const unsigned char *)a->io.k + head / a->group * c->dim * a->elem;
    float *s = row->w;
    if (n == 0) return 0;
    a->scan(q, keys, a->io.k_stride * a->elem, ids, n, c->dim, s);
    for (size_t x = 0; x < n; x++) s[x] *= -c->p.factor;
    if (c->p.cap > 0.0f) {
        for (size_t x = 0; x < n; x++) s[x] /= c->p.cap;
        a->kernels->tanh_f32(s, s, n);
        memcpy(row->tanh, s, n * sizeof *s);
        for (size_t x = 0; x < n; x++) s[x] *= c->p.cap;
    }
    for (size_t x = 0; mask && x < n; x++) {
        const size_t at = i * a->io.n_k + ids[x];
        if (mask->add) s[x] += mask->add[head * mask->add_head + at];
        if ((mask->allow && !mask->allow[head * mask->allow_head + at]) ||
            (mask->visible && !mask->visible(mask->user, head, i, ids[x])))
            s[x] = -rv__infinity();
    }
    rv__softmax(a->kernels, s, 1.0f, s, n);
    return n;
}

static void rv__cross_attend(const rv__cross *c, const rv_csr *list, const float *q, size_t head,
                             size_t i, const rv__cross_row *row, float *out)
{
    const size_t n = rv__cross_weigh(c, list, q, head, i, row);
    memset(out, 0, c->dim * sizeof *out);
    for (size_t x = 0; x < n; x++) {
        const size_t j = list->index[list->start[i] + x];
        c->p.a.kernels->axpy_f32(row->w[x], rv__cross_value(c, head, j, row->value), out, c->dim);
    }
    if (!c->p.a.io.weights) return;
    for (size_t x = 0; x < n; x++) {
        const size_t j = list->index[list->start[i] + x];
        c->p.a.io.weights[(head * c->p.a.io.n_q + i) * c->p.a.io.n_k + j] += row->w[x] / 3.0f;
    }
}

static void rv__cross_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__cross *c = (const rv__cross *)arg;
    const rv_attn_io *io = &c->p.a.io;
    rv__cross_row row;
    rv__cross_lane(c, lane, &row);
    for (size_t i = begin; i < end; i++) {
        float *parts = c->parts + i * 3 * c->width, *out;
        for (size_t h = 0; h < c->heads; h++) {
            const float *q = rv__position_query(&c->p, h, i);
            float *at = parts + h * c->dim;
            if (io->weights)
                memset(io->weights + (h * io->n_q + i) * io->n_k, 0, io->n_k * sizeof(float));
            rv__cross_attend(c, &c->graph, q, h, i, &row, at);
            rv__cross_attend(c, &c->near_by, q, h, i, &row, at + c->width);
            rv__cross_attend(c, &c->near_by, at, h, i, &row, at + 2 * c->width);
        }
        if (!io->out) continue;
        out = io->out + i * io->out_stride;
        if (c->w) {
            c->p.a.kernels->scan_dot_f32(parts, (const unsigned char *)c->w, 12 * c->width, NULL,
                                         c->width, 3 * c->width, out);
        } else {
            for (size_t x = 0; x < c->width; x++)
                out[x] = (parts[x] + parts[c->width + x] + parts[2 * c->width + x]) / 3.0f;
        }
    }
}

/* ---- backward ---- */

/* g: slope by a part of query i. Adds the slopes by its query to dq, by keys and values to grad. */
static void rv__cross_pull(const rv__cross *c, const rv_csr *list, const float *q, size_t head,
                           size_t i, const float *g, const rv__cross_row *row,
                           const rv_attn_grad *grad, float *dq)
{
    const rv__attn *a = &c->p.a;
    const size_t n = rv__cross_weigh(c, list, q, head, i, row), kv = head / a->group;
    const uint32_t *ids = list->index + list->start[i];
    double mean = 0.0;
    for (size_t x = 0; x < n; x++) {
        const float *v = rv__cross_value(c, head, ids[x], row->value);
        row->ds[x] = a->kernels->dot_f32(g, v, c->dim);
        if (row->w[x] != 0.0f) mean += (double)row->w[x] * (double)row->ds[x];
    }
    for (size_t x = 0; x < n; x++) {
        const size_t at = (ids[x] * a->config.kv_heads + kv) * c->dim;
        float ds = row->w[x] * (row->ds[x] - (float)mean) * c->p.factor;
        if (row->w[x] == 0.0f) continue;
        if (c->p.cap > 0.0f) ds *= 1.0f - row->tanh[x] * row->tanh[x];
        a->kernels->axpy_f32(ds, rv__position_key(&c->p, head, ids[x], row->value), dq, c->dim);
        if (grad->d_k) a->kernels->axpy_f32(ds, q, grad->d_k + at, c->dim);
        if (grad->d_v) a->kernels->axpy_f32(row->w[x], g, grad->d_v + at, c->dim);
    }
}

/* d_parts: [3 width] and dq: [dim] are scratch. */
static void rv__cross_back_row(const rv__cross *c, size_t i, const rv_attn_grad *grad,
                               const rv__cross_row *row, float *d_parts, float *dq)
{
    const rv__kernels *kernels = c->p.a.kernels;
    const float *d = grad->d_out + i * c->p.a.io.out_stride, *parts = c->parts + i * 3 * c->width;
    const size_t width = c->width;
    if (c->w) memset(d_parts, 0, 3 * width * sizeof *d_parts);
    for (size_t x = 0; x < width; x++) {
        if (c->w) {
            kernels->axpy_f32(d[x], c->w + x * 3 * width, d_parts, 3 * width);
            if (grad->d_params)
                kernels->axpy_f32(d[x], parts, grad->d_params + x * 3 * width, 3 * width);
        } else {
            d_parts[x] = d_parts[width + x] = d_parts[2 * width + x] = d[x] / 3.0f;
        }
    }
    for (size_t h = 0; h < c->heads; h++) {
        const float *q = rv__position_query(&c->p, h, i);
        float *at = d_parts + h * c->dim;
        memset(dq, 0, c->dim * sizeof *dq);
        rv__cross_pull(c, &c->near_by, parts + h * c->dim, h, i, at + 2 * width, row, grad, at);
        rv__cross_pull(c, &c->graph, q, h, i, at, row, grad, dq);
        rv__cross_pull(c, &c->near_by, q, h, i, at + width, row, grad, dq);
        if (grad->d_q) memcpy(grad->d_q + i * width + h * c->dim, dq, c->dim * sizeof *dq);
    }
}

static rv_status rv__cross_back(rv_ctx *ctx, const rv__cross *c, const rv_attn_grad *grad,
                                float *space)
{
    const size_t keys = c->p.a.io.n_k * c->p.a.config.kv_heads * c->dim, wide = c->width;
    size_t left = 0;
    rv__cross_row row;
    rv__cross_lane(c, 0, &row);
    if (grad->d_k) memset(grad->d_k, 0, keys * sizeof(float));
    if (grad->d_v) memset(grad->d_v, 0, keys * sizeof(float));
    if (grad->d_params && c->w) memset(grad->d_params, 0, 3 * wide * wide * sizeof(float));
    if (grad->d_sinks) memset(grad->d_sinks, 0, c->heads * sizeof(float));
    for (size_t i = 0; i < c->p.a.io.n_q; i++) {
        const size_t list = c->graph.start[i + 1] - c->graph.start[i] +
                            2 * (size_t)(c->near_by.start[i + 1] - c->near_by.start[i]);
        rv_status status = rv__poll_by(ctx, &left, list * wide + (c->w ? wide * wide : wide));
        if (status) return status;
        rv__cross_back_row(c, i, grad, &row, space, space + 3 * wide);
    }
    return RV_OK;
}

/* ---- neighbours in the latent space ---- */

/* The k nearest, by distance and then number, and those in ascending order of number. */
static void rv__cross_search(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__cross *c = (const rv__cross *)arg;
    uint64_t *keys = c->keys + lane * c->k;
    float *distance = c->distance + lane * c->n;
    for (size_t i = begin; i < end; i++) {
        uint32_t *index = c->index + i * c->k;
        size_t count = 0;
        c->scan(c->latent + i * c->latent_stride, (const unsigned char *)c->latent,
                c->latent_stride * sizeof(float), NULL, c->n, c->latent_dim, distance);
        for (size_t j = 0; j < c->n; j++) {
            const uint64_t key = (uint64_t)rv__order_distance(distance[j]) << 32 | (uint64_t)j;
            size_t at = count < c->k ? count : c->k - 1;
            if (j == i || (count == c->k && key > keys[count - 1])) continue;
            for (; at > 0 && keys[at - 1] > key; at--) keys[at] = keys[at - 1];
            keys[at] = key;
            if (count < c->k) count++;
        }
        for (size_t x = 0; x < c->k; x++) {
            const uint32_t j = (uint32_t)(keys[x] & 0xFFFFFFFFu);
            size_t at = x;
            for (; at > 0 && index[at - 1] > j; at--) index[at] = index[at - 1];
            index[at] = j;
        }
    }
}

/* Fills near_by; start and index: [n + 1], [n * k]. */
static rv_status rv__cross_find(rv_ctx *ctx, rv__cross *c, uint32_t *start, uint32_t *index)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    rv_status status;
    c->index = index;
    c->keys = (uint64_t *)rv__get(&alloc, rv__mul(lanes, c->k), sizeof(uint64_t));
    c->distance = (float *)rv__get(&alloc, rv__mul(lanes, c->n), sizeof(float));
    if (!c->keys || !c->distance) {
        status = rv__no_memory(ctx, rv__mul(rv__mul(lanes, c->n), sizeof(float)));
    } else {
        for (size_t i = 0; i <= c->n; i++) start[i] = (uint32_t)(i * c->k);
        status = c->k ? rv__parallel_for(ctx, c->n, 1, 1 + 1000000u / (c->n * (c->latent_dim + 4)),
                                         rv__cross_search, c)
                      : RV_OK;
    }
    rv__put(&alloc, c->distance, rv__mul(lanes, c->n), sizeof(float));
    rv__put(&alloc, c->keys, rv__mul(lanes, c->k), sizeof(uint64_t));
    c->near_by.rows = c->near_by.cols = c->n;
    c->near_by.start = start;
    c->near_by.index = index;
    return status;
}

/* ---- checks and the whole ---- */

static rv_status rv__cross_check_list(rv_ctx *ctx, const rv_csr *list, const rv_attn_io *io)
{
    rv_status status = rv_csr_check(ctx, list);
    if (!status && (list->rows != io->n_q || list->cols != io->n_k))
        status = rv__fail(ctx, RV_ERR_DIM, 0, "a list is [%z, %z], must be [n_q, n_k] = [%z, %z]",
                          list->rows, list->cols, io->n_q, io->n_k);
    return status;
}

static rv_status rv__cross_check_base(rv_ctx *ctx, const rv_attn_config *b, const rv_attn_io *io)
{
    const char *field = b->order ? "order" : b->past ? "past" : b->windowed ? "windowed" : NULL;
    if (!field) field = b->slopes ? "slopes" : b->sinks ? "sinks" : b->raw ? "raw" : NULL;
    if (!field) field = b->training && b->dropout > 0.0f ? "dropout" : io->lse ? "lse" : NULL;
    if (field)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s has no meaning for cross_space", field);
    return RV_OK;
}

static rv_status rv__cross_check(rv_ctx *ctx, const rv_attn_cross_config *config,
                                 const rv_attn_io *io, rv__cross *c)
{
    const rv__attn *a = &c->p.a;
    rv_status status = rv__cross_check_base(ctx, &config->base, io);
    if (status) return status;
    if (a->io.dim_v != io->dim)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim_v is %z; it must be dim (%z) for cross_space",
                        a->io.dim_v, io->dim);
    if (!config->graph) return rv__fail(ctx, RV_ERR_ARG, 0, "graph is NULL");
    status = rv__cross_check_list(ctx, config->graph, io);
    if (status) return status;
    c->graph = *config->graph;
    if (config->near_by) {
        if (config->k_latent || config->latent || config->latent_dim)
            return rv__fail(ctx, RV_ERR_CONFIG, 0,
                            "k_latent, latent and latent_dim have no meaning with near_by");
        c->near_by = *config->near_by;
        return rv__cross_check_list(ctx, config->near_by, io);
    }
    c->n = io->n_k;
    c->k = config->k_latent ? config->k_latent : 10;
    if (c->k > RV__CROSS_NEAR)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "k_latent is %z, allowed: 1..4096", c->k);
    if (c->k > c->n - 1) c->k = c->n - 1;
    if (io->n_q != io->n_k || !config->latent != !config->latent_dim)
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "without near_by n_q (%z) must be n_k (%z), latent_dim (%z) above 0 with "
                        "latent only", io->n_q, io->n_k, config->latent_dim);
    if (!config->latent && io->type != RV_DTYPE_F32)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "k is not F32; then latent is required");
    c->latent = config->latent ? config->latent : (const float *)io->k;
    c->latent_dim = config->latent ? config->latent_dim : a->config.kv_heads * io->dim;
    c->latent_stride = config->latent ? config->latent_dim : a->io.k_stride;
    c->scan = rv__scan_find(RV_METRIC_L2, RV_DTYPE_F32, ctx ? ctx->isa : RV_ISA_BEST);
    if (rv__mul(c->n, c->k) >= UINT32_MAX)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n times k_latent is %z, must be below 2^32 - 1",
                        rv__mul(c->n, c->k));
    return RV_OK;
}

static size_t rv__cross_longest(const rv_csr *list)
{
    size_t most = 0;
    for (size_t i = 0; i < list->rows; i++) {
        const size_t n = list->start[i + 1] - list->start[i];
        most = n > most ? n : most;
    }
    return most;
}

/* With lists made: parts, and out or slopes. */
static rv_status rv__cross_run(rv_ctx *ctx, rv__cross *c, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t a = rv__cross_longest(&c->graph), b = rv__cross_longest(&c->near_by);
    const size_t n_q = c->p.a.io.n_q, wide = c->width, n_parts = rv__mul(rv__mul(n_q, 3), wide);
    size_t floats, work;
    rv_status status;
    c->most = a > b ? a : b;
    c->lane_floats = 3 * c->most + c->dim;
    floats = rv__add(rv__mul(rv__lanes(ctx), c->lane_floats), grad ? 3 * wide + c->dim : 0);
    work = wide * (a + 2 * b + 6 + (c->w ? 3 * wide : 0));
    c->parts = (float *)rv__get(&alloc, n_parts, sizeof(float));
    c->scratch = (float *)rv__get(&alloc, floats, sizeof(float));
    if (!c->parts || !c->scratch) {
        status = rv__no_memory(ctx, rv__mul(rv__add(n_parts, floats), sizeof(float)));
    } else {
        status = rv__parallel_for(ctx, n_q, 1, 1 + 1000000u / work, rv__cross_range, c);
        if (!status && grad)
            status = rv__cross_back(ctx, c, grad,
                                    c->scratch + rv__lanes(ctx) * c->lane_floats);
    }
    rv__put(&alloc, c->scratch, floats, sizeof(float));
    rv__put(&alloc, c->parts, n_parts, sizeof(float));
    return status ? status : rv__ok(ctx);
}

static rv_status rv__cross_open(rv_ctx *ctx, const rv_attn_cross_config *config,
                                const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__cross c;
    uint32_t *lists = NULL;
    size_t n_lists = 0;
    rv_status status;
    if (!config) return rv__fail(ctx, RV_ERR_ARG, 0, "config is NULL; graph is required");
    memset(&c, 0, sizeof c);
    status = rv__position_open(ctx, &config->base, io, grad, &c.p);
    if (!status) status = rv__cross_check(ctx, config, io, &c);
    if (status) return status;
    if (grad) {
        c.p.a.io.out = NULL;
        c.p.a.io.weights = NULL;
    }
    c.heads = c.p.a.config.heads;
    c.dim = io->dim;
    c.width = c.heads * c.dim;
    c.w = config->params;
    if (!config->near_by) {
        n_lists = rv__add(rv__add(c.n, 1), rv__mul(c.n, c.k));
        lists = (uint32_t *)rv__get(&alloc, n_lists, sizeof(uint32_t));
        if (!lists) return rv__no_memory(ctx, rv__mul(n_lists, sizeof(uint32_t)));
        status = rv__cross_find(ctx, &c, lists, lists + c.n + 1);
    }
    if (!status) status = rv__cross_run(ctx, &c, grad);
    rv__put(&alloc, lists, n_lists, sizeof(uint32_t));
    return status;
}

RV_API size_t rv_attn_cross_params(const rv_attn_cross_config *config, const rv_attn_io *io)
{
    const size_t width = io ? rv__mul(config ? rv__position_heads(&config->base) : 1, io->dim) : 0;
    return rv__mul(3, rv__mul(width, width));
}

RV_API rv_status rv_attn_cross_init(rv_ctx *ctx, const rv_attn_cross_config *config,
                                    const rv_attn_io *io, float *params)
{
    const size_t count = rv_attn_cross_params(config, io);
    const size_t width = io ? io->dim * (config ? rv__position_heads(&config->base) : 1) : 0;
    rv__rng rng;
    if (!params || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "params or io is NULL");
    rv__rng_init(&rng, rv__seed(ctx));
    rv__position_xavier(&rng, width, 3 * width, params, count);
    return rv__ok(ctx);
}

RV_API rv_status rv_attn_cross(rv_ctx *ctx, const rv_attn_cross_config *config,
                               const rv_attn_io *io)
{
    return rv__cross_open(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_cross_backward(rv_ctx *ctx, const rv_attn_cross_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    return rv__cross_open(ctx, config, io, grad);
}

#undef RV__CROSS_NEAR

#endif /* RV_ATTN_POSITION_CROSS_C */
