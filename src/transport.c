#ifndef RV_TRANSPORT_C
#define RV_TRANSPORT_C
#include "transport.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"

/* Transport on the line and the sliced distance. Points are projected, sorted as integers whose
   upper half orders like the float and whose lower half is the point, and merged: the smaller of
   what is left of the two points in front is moved. Equal numbers of equal weights lose both at
   once, so that the k-th meets the k-th.

   The gradient of W_p^p by a point's place on the line is the sum over its pieces of mass of
   p |x - y|^(p - 1) sign(x - y); by the point that times the direction. */

#define RV__TRANSPORT_PIECE 4096u /* points between two polls, at most */

/* d^p for d >= 0, and its slope by d. */
RV__FN double rv__transport_power(double d, double p, double *slope)
{
    double power;
    if (p == 2.0) {
        *slope = 2.0 * d;
        return d * d;
    }
    if (!(d > 0.0)) {
        *slope = 0.0;
        return 0.0;
    }
    if (p == 1.0) {
        *slope = 1.0;
        return d;
    }
    power = rv__exp((p - 1.0) * rv__log(d));
    *slope = p * power;
    return power * d;
}

/* d^(1/p) for d >= 0. */
RV__FN double rv__transport_root(double d, double p)
{
    if (p == 2.0) return sqrt(d);
    if (p == 1.0 || !(d > 0.0)) return d;
    return rv__exp(rv__log(d) / p);
}

/* ---- checks ---- */

RV__FN rv_status rv__transport_check_p(rv_ctx *ctx, float p)
{
    if (!rv__finite_f32(p) || p < 1.0f || p > 1000.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "p is %f, allowed: 1 to 1000", (double)p);
    return RV_OK;
}

/* Weights of n points; *sum: what they sum to. */
RV__FN rv_status rv__transport_check_weights(rv_ctx *ctx, const char *name, const float *weights,
                                             size_t n, double *sum)
{
    *sum = (double)n;
    if (!weights) return RV_OK;
    *sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!rv__finite_f32(weights[i]) || weights[i] < 0.0f) {
            return rv__fail(ctx, RV_ERR_ARG, i, "%s[%z] is %f; weights must be finite, 0 or more",
                            name, i, (double)weights[i]);
        }
        *sum += (double)weights[i];
    }
    if (*sum > 0.0) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, 0, "%s are all 0; some must be above", name);
}

RV__FN rv_status rv__transport_check_cloud(rv_ctx *ctx, const char *name, const rv_cloud *x,
                                           size_t dim)
{
    const size_t stride = x && x->stride ? x->stride : dim;
    size_t left = 0;
    if (!x || !x->points) return rv__fail(ctx, RV_ERR_ARG, 0, "%s or its points are NULL", name);
    if (x->n < 1 || x->n > 0x7FFFFFFFu)
        return rv__fail(ctx, RV_ERR_ARG, 0, "n of %s is %z, allowed: 1 to 2^31 - 1", name, x->n);
    if (dim < 1 || dim > 65535u)
        return rv__fail(ctx, RV_ERR_ARG, 0, "dim is %z, allowed: 1 to 65535", dim);
    if (stride < dim)
        return rv__fail(ctx, RV_ERR_ARG, 0, "stride of %s is %z; it must be at least dim, %z", name,
                        stride, dim);
    for (size_t i = 0; i < x->n; i++) {
        size_t bad;
        rv_status status = rv__poll_by(ctx, &left, dim);
        if (status) return status;
        bad = rv__find_not_finite(x->points + i * stride, dim);
        if (bad < dim)
            return rv__fail(ctx, RV_ERR_ARG, i * stride + bad,
                            "element %z of %s is not finite", i * stride + bad, name);
    }
    return RV_OK;
}

/* ---- sorting ---- */

/* Ascending; space: [n]. */
RV__FN rv_status rv__transport_sort(rv_ctx *ctx, uint64_t *keys, uint64_t *space, size_t n)
{
    uint64_t *from = keys, *to = space;
    size_t left = RV__WORK;
    for (size_t i = 1; i < n; i++) { /* runs of 8 in place */
        const uint64_t key = keys[i];
        size_t at = i;
        while (at % 8 && keys[at - 1] > key) {
            keys[at] = keys[at - 1];
            at--;
        }
        keys[at] = key;
    }
    for (size_t run = 8; run < n; run *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * run) {
            const size_t middle = begin + run < n ? begin + run : n;
            const size_t end = middle + run < n ? middle + run : n;
            size_t a = begin, b = middle;
            for (size_t at = begin; at < end; at++) {
                if (at % RV__TRANSPORT_PIECE == 0) {
                    rv_status status = rv__poll_by(ctx, &left, 4 * RV__TRANSPORT_PIECE);
                    if (status) return status;
                }
                to[at] = b == end || (a < middle && from[a] <= from[b]) ? from[a++] : from[b++];
            }
        }
        from = from == keys ? space : keys;
        to = to == keys ? space : keys;
    }
    if (from != keys) memcpy(keys, from, n * sizeof *keys);
    return RV_OK;
}

RV__FN uint64_t rv__transport_key(float x, size_t i)
{
    return (uint64_t)rv__order_f32(x) << 32 | (uint64_t)i;
}

RV__FN float rv__transport_place(uint64_t key)
{
    return rv__unorder_f32((uint32_t)(key >> 32));
}

/* ---- directions ---- */

RV__FN void rv__transport_direction(uint64_t seed, size_t i, size_t dim, float *out)
{
    rv__rng rng;
    double sum = 0.0;
    rv__rng_init(&rng, rv__mix(seed ^ rv__mix((uint64_t)i)));
    while (!(sum > 1e-12)) {
        sum = 0.0;
        for (size_t x = 0; x < dim; x++) { /* Box, Muller, 1958 */
            double a = ((double)(rv__rng_next(&rng) >> 11) + 0.5) / 9007199254740992.0;
            double b = (double)(rv__rng_next(&rng) >> 11) / 9007199254740992.0, sine, cosine;
            rv__sincos(6.283185307179586 * b, &sine, &cosine);
            out[x] = (float)(sqrt(-2.0 * rv__log(a)) * cosine);
            sum += (double)out[x] * (double)out[x];
        }
    }
    sum = 1.0 / sqrt(sum);
    for (size_t x = 0; x < dim; x++) out[x] = (float)((double)out[x] * sum);
}

/* Sizes that are known to be good. */
RV__FN rv_status rv__transport_fill(rv_ctx *ctx, size_t count, size_t dim, float *out)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        rv_status status = rv__poll_by(ctx, &left, 50 * dim);
        if (status) return status;
        rv__transport_direction(rv__seed(ctx), i, dim, out + i * dim);
    }
    return RV_OK;
}

RV_API rv_status rv_transport_directions(rv_ctx *ctx, size_t count, size_t dim, float *out)
{
    rv_status status;
    if (!out) return rv__fail(ctx, RV_ERR_ARG, 0, "out is NULL");
    if (dim < 1 || dim > 65535u)
        return rv__fail(ctx, RV_ERR_ARG, 0, "dim is %z, allowed: 1 to 65535", dim);
    status = rv__transport_fill(ctx, count, dim, out);
    return status ? status : rv__ok(ctx);
}

/* ---- on the line ---- */

/* One side on the line. */
typedef struct rv__transport_side {
    const rv_cloud *cloud;
    size_t stride;
    double sum;        /* of the weights */
    float *place;      /* [n] in the order given */
    uint64_t *keys;    /* [n] sorted */
    float *grad;       /* [n, dim] or NULL */
} rv__transport_side;

static double rv__transport_mass(const rv__transport_side *s, size_t i)
{
    const float *weights = s->cloud->weights;
    return (weights ? (double)weights[(uint32_t)s->keys[i]] : 1.0) / s->sum;
}

static rv_status rv__transport_project(rv_ctx *ctx, const rv__kernels *kernels, size_t dim,
                                       const float *direction, rv__transport_side *s,
                                       uint64_t *space)
{
    const size_t n = s->cloud->n;
    size_t step = 1 + 1000000u / dim, left = 0;
    for (size_t i = 0; i < n; i += step) {
        const size_t some = n - i < step ? n - i : step;
        rv_status status = rv__poll_by(ctx, &left, some * (dim + 4));
        if (status) return status;
        if (direction) {
            kernels->scan_dot_f32(direction,
                                  (const unsigned char *)(s->cloud->points + i * s->stride),
                                  s->stride * sizeof(float), NULL, some, dim, s->place + i);
        } else {
            for (size_t x = i; x < i + some; x++) s->place[x] = s->cloud->points[x * s->stride];
        }
        for (size_t x = i; x < i + some; x++) s->keys[x] = rv__transport_key(s->place[x], x);
    }
    return rv__transport_sort(ctx, s->keys, space, n);
}

/* W_p^p of two sorted sides. The plan goes to flow; place becomes the slope by the place where
   sloped. */
static rv_status rv__transport_merge(rv_ctx *ctx, double p, rv__transport_side *x,
                                     rv__transport_side *y, int sloped, rv_flow *flow,
                                     size_t *count, double *cost)
{
    size_t i = 0, j = 0, flows = 0, left = RV__WORK;
    double mass_x = rv__transport_mass(x, 0), mass_y = rv__transport_mass(y, 0), sum = 0.0;
    if (sloped) {
        memset(x->place, 0, x->cloud->n * sizeof(float));
        memset(y->place, 0, y->cloud->n * sizeof(float));
    }
    for (size_t step = 1;; step++) {
        const double d = (double)rv__transport_place(x->keys[i]) -
                         (double)rv__transport_place(y->keys[j]);
        const double moved = mass_x < mass_y ? mass_x : mass_y;
        if (moved > 0.0) {
            double slope;
            sum += moved * rv__transport_power(fabs(d), p, &slope);
            if (flow) {
                flow[flows].from = (uint32_t)x->keys[i];
                flow[flows].to = (uint32_t)y->keys[j];
                flow[flows].mass = moved;
            }
            flows++;
            if (sloped) {
                const float s = (float)(d < 0.0 ? -moved * slope : moved * slope);
                x->place[(uint32_t)x->keys[i]] += s;
                y->place[(uint32_t)y->keys[j]] -= s;
            }
        }
        mass_x -= moved;
        mass_y -= moved;
        if (mass_x <= mass_y) {
            if (++i == x->cloud->n) break;
            mass_x = rv__transport_mass(x, i);
        }
        if (mass_y <= 0.0) {
            if (++j == y->cloud->n) break;
            mass_y = rv__transport_mass(y, j);
        }
        if (step % RV__TRANSPORT_PIECE == 0) {
            rv_status status = rv__poll_by(ctx, &left, 16 * RV__TRANSPORT_PIECE);
            if (status) return status;
        }
    }
    *cost = sum;
    if (count) *count = flows;
    return RV_OK;
}

/* Memory of both sides. */
typedef struct rv__transport_space {
    rv_alloc alloc;
    uint64_t *keys; /* [n + m + max] */
    float *place;   /* [n + m] */
    size_t n_keys, n_place;
} rv__transport_space;

static rv_status rv__transport_open(rv_ctx *ctx, rv__transport_space *space, size_t dim,
                                    rv__transport_side *x, rv__transport_side *y)
{
    const size_t n = x->cloud->n, m = y->cloud->n, most = n > m ? n : m;
    space->alloc = rv__allocator(ctx);
    space->n_keys = rv__add(rv__add(n, m), most);
    space->n_place = rv__add(n, m);
    space->place = NULL;
    space->keys = (uint64_t *)rv__get(&space->alloc, space->n_keys, sizeof(uint64_t));
    if (!space->keys) return rv__no_memory(ctx, rv__mul(space->n_keys, sizeof(uint64_t)));
    space->place = (float *)rv__get(&space->alloc, space->n_place, sizeof(float));
    if (!space->place) return rv__no_memory(ctx, rv__mul(space->n_place, sizeof(float)));
    x->keys = space->keys;
    y->keys = x->keys + n;
    x->place = space->place;
    y->place = x->place + n;
    x->stride = x->cloud->stride ? x->cloud->stride : dim;
    y->stride = y->cloud->stride ? y->cloud->stride : dim;
    return RV_OK;
}

static void rv__transport_close(rv__transport_space *space)
{
    rv__put(&space->alloc, space->place, space->n_place, sizeof(float));
    rv__put(&space->alloc, space->keys, space->n_keys, sizeof(uint64_t));
}

static rv_status rv__transport_check(rv_ctx *ctx, float p, size_t dim, rv__transport_side *x,
                                     rv__transport_side *y)
{
    rv_status status = rv__transport_check_p(ctx, p);
    if (!status) status = rv__transport_check_cloud(ctx, "x", x->cloud, dim);
    if (!status) status = rv__transport_check_cloud(ctx, "y", y->cloud, dim);
    if (!status) {
        status = rv__transport_check_weights(ctx, "weights of x", x->cloud->weights, x->cloud->n,
                                             &x->sum);
    }
    if (!status) {
        status = rv__transport_check_weights(ctx, "weights of y", y->cloud->weights, y->cloud->n,
                                             &y->sum);
    }
    return status;
}

RV_API rv_status rv_transport_line(rv_ctx *ctx, float p, const rv_cloud *x, const rv_cloud *y,
                                   double *cost, rv_flow *flow, size_t *count)
{
    rv__transport_space space;
    rv__transport_side a, b;
    rv_status status;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    a.cloud = x;
    b.cloud = y;
    if (!cost || (flow && !count)) return rv__fail(ctx, RV_ERR_ARG, 0, "cost or count is NULL");
    status = rv__transport_check(ctx, p, 1, &a, &b);
    if (status) return status;
    status = rv__transport_open(ctx, &space, 1, &a, &b);
    if (!status) {
        uint64_t *spare = space.keys + x->n + y->n;
        status = rv__transport_project(ctx, NULL, 1, NULL, &a, spare);
        if (!status) status = rv__transport_project(ctx, NULL, 1, NULL, &b, spare);
        if (!status)
            status = rv__transport_merge(ctx, (double)p, &a, &b, 0, flow, count, cost);
    }
    rv__transport_close(&space);
    return status ? status : rv__ok(ctx);
}

/* ---- sliced ---- */

static rv_status rv__transport_add(rv_ctx *ctx, const rv__kernels *kernels,
                                   const rv__transport_side *s, const float *direction, size_t dim)
{
    size_t left = RV__WORK;
    rv_status status = RV_OK;
    for (size_t i = 0; i < s->cloud->n && !status; i++) {
        kernels->axpy_f32(s->place[i], direction, s->grad + i * dim, dim);
        status = rv__poll_by(ctx, &left, dim);
    }
    return status;
}

static rv_status rv__transport_rescale(rv_ctx *ctx, const rv__transport_side *s, double scale,
                                       size_t dim)
{
    size_t left = RV__WORK;
    rv_status status = RV_OK;
    for (size_t i = 0; s->grad && i < s->cloud->n && !status; i++) {
        for (size_t x = i * dim; x < (i + 1) * dim; x++)
            s->grad[x] = (float)((double)s->grad[x] * scale);
        status = rv__poll_by(ctx, &left, 2 * dim);
    }
    return status;
}

/* The directions one after the other; d_x and d_y become the sums of the slopes of W_p^p. */
static rv_status rv__transport_slices(rv_ctx *ctx, const rv_sliced_config *config, size_t dim,
                                      rv__transport_side *x, rv__transport_side *y,
                                      uint64_t *spare, float *own, double *sum)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    const int sloped = x->grad || y->grad;
    *sum = 0.0;
    for (size_t u = 0; u < config->projections; u++) {
        const float *direction = config->directions ? config->directions + u * dim : own;
        double cost = 0.0;
        rv_status status;
        if (!config->directions) rv__transport_direction(rv__seed(ctx), u, dim, own);
        status = rv__transport_project(ctx, kernels, dim, direction, x, spare);
        if (!status) status = rv__transport_project(ctx, kernels, dim, direction, y, spare);
        if (!status) {
            status = rv__transport_merge(ctx, (double)config->p, x, y, sloped, NULL, NULL, &cost);
        }
        if (!status && x->grad) status = rv__transport_add(ctx, kernels, x, direction, dim);
        if (!status && y->grad) status = rv__transport_add(ctx, kernels, y, direction, dim);
        if (status) return status;
        *sum += cost;
    }
    return RV_OK;
}

static rv_status rv__transport_settle(rv_ctx *ctx, const rv_sliced_config *config, size_t dim,
                                      rv_sliced_config *out)
{
    size_t bad, count;
    memset(out, 0, sizeof *out);
    if (config) *out = *config;
    if (out->projections == 0) out->projections = 16;
    out->p = rv__default(out->p, 2.0f);
    if (out->projections > 1048576u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "projections is %z, allowed: 1 to 1048576",
                        (size_t)out->projections);
    if (!out->directions || dim > 65535u) return RV_OK;
    count = rv__mul(out->projections, dim);
    bad = rv__find_not_finite(out->directions, count);
    if (bad < count)
        return rv__fail(ctx, RV_ERR_ARG, bad, "directions[%z] is not finite", bad);
    return RV_OK;
}

RV_API rv_status rv_transport_sliced(rv_ctx *ctx, const rv_sliced_config *config, size_t dim,
                                     const rv_cloud *x, const rv_cloud *y, double *distance,
                                     float *d_x, float *d_y)
{
    rv__transport_space space;
    rv__transport_side a, b;
    rv_sliced_config c;
    float *own = NULL;
    double sum = 0.0, root, slope;
    rv_status status;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    a.cloud = x;
    b.cloud = y;
    if (!distance) return rv__fail(ctx, RV_ERR_ARG, 0, "distance is NULL");
    status = rv__transport_settle(ctx, config, dim, &c);
    if (!status) status = rv__transport_check(ctx, c.p, dim, &a, &b);
    if (status) return status;
    a.grad = d_x;
    b.grad = d_y;
    status = rv__transport_open(ctx, &space, dim, &a, &b);
    if (!status) {
        own = (float *)rv__get(&space.alloc, dim, sizeof(float));
        if (!own) status = rv__no_memory(ctx, dim * sizeof(float));
    }
    if (!status) {
        if (d_x) memset(d_x, 0, x->n * dim * sizeof(float));
        if (d_y) memset(d_y, 0, y->n * dim * sizeof(float));
        status = rv__transport_slices(ctx, &c, dim, &a, &b, space.keys + x->n + y->n, own, &sum);
    }
    rv__put(&space.alloc, own, dim, sizeof(float));
    rv__transport_close(&space);
    if (status) return status;
    root = rv__transport_root(sum / (double)c.projections, (double)c.p);
    (void)rv__transport_power(root, (double)c.p, &slope); /* d SW = d SW^p SW^(1 - p) / p */
    slope = slope > 0.0 ? 1.0 / (slope * (double)c.projections) : 0.0;
    status = rv__transport_rescale(ctx, &a, slope, dim);
    if (!status) status = rv__transport_rescale(ctx, &b, slope, dim);
    if (status) return status;
    *distance = root;
    return rv__ok(ctx);
}

#undef RV__TRANSPORT_PIECE

#endif /* RV_TRANSPORT_C */
