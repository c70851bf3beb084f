#ifndef RV_POSITION_C
#define RV_POSITION_C
#include "position.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"

/* Rotation: theta_t once per call in double, then for each row the sines and cosines of p theta_t
   in double, rounded once and used by all heads of the row. rv__sincos takes angles up to 2^20, and
   no theta is above 1: hence the range of positions. */

#define RV__ROPE_FAR 1048576.0f

typedef struct rv__rope {
    rv_rope_config config; /* defaults filled in */
    rv_rope_io io;
    size_t pairs;
    double gain;
    double *theta;         /* [pairs] */
    float *turns;          /* [lanes][2 * pairs]: cosines, sines */
} rv__rope;

/* By bits: under -ffast-math NaN may compare equal to 0. */
static double rv__rope_or(double x, double fallback)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits << 1 ? x : fallback;
}

static int rv__rope_outside(double x, double least, double most)
{
    return !rv__finite_f64(x) || x < least || x > most;
}

static rv_status rv__rope_check_config(rv_ctx *ctx, rv_rope_config *c, size_t dim)
{
    const int yarn = c->scaling == RV_ROPE_YARN;
    if ((unsigned)c->layout > (unsigned)RV_ROPE_HALVES)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "layout is %d, allowed: 0..1", (int)c->layout);
    if ((unsigned)c->scaling > (unsigned)RV_ROPE_YARN)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "scaling is %d, allowed: 0..3", (int)c->scaling);
    if (c->rotary_dim == 0) c->rotary_dim = dim;
    if (c->rotary_dim % 2 || c->rotary_dim > dim)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "rotary_dim is %z, must be even and at most dim (%z)", c->rotary_dim, dim);
    c->base = rv__rope_or(c->base, 10000.0);
    if (rv__rope_outside(c->base, 1.0, 1e9))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "base is %f, allowed: 1..1e9", c->base);
    c->factor = rv__rope_or(c->factor, 1.0);
    if (rv__rope_outside(c->factor, 1.0, c->scaling == RV_ROPE_PLAIN ? 1.0 : 1e6))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "factor is %f, allowed: 1..1e6, without a scaling 1 only", c->factor);
    c->length = rv__rope_or(c->length, yarn ? -1.0 : 1.0);
    c->fast = rv__rope_or(c->fast, 32.0);
    c->slow = rv__rope_or(c->slow, 1.0);
    if (rv__rope_outside(c->length, 1.0, yarn ? 1e9 : 1.0))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "length must be 1..1e9 for YARN and 0 for others");
    if (rv__rope_outside(c->slow, 1e-6, 1e6) || rv__rope_outside(c->fast, c->slow, 1e6) ||
        c->fast <= c->slow || (!yarn && (c->fast < 32.0 || c->fast > 32.0 || c->slow < 1.0 ||
                                         c->slow > 1.0)))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "fast is %f, slow is %f; fast must be above slow, slow above 0, both 0 "
                        "but for YARN", c->fast, c->slow);
    return RV_OK;
}

/* The t at which an angle turns so many times within the length. */
static double rv__rope_where(const rv_rope_config *c, double turns)
{
    return (double)c->rotary_dim * rv__log(c->length / (turns * 6.2831853071795864769)) /
           (2.0 * rv__log(c->base));
}

static double rv__rope_theta(const rv_rope_config *c, double *theta)
{
    const double dim = (double)c->rotary_dim;
    double step = rv__log(c->base) * 2.0 / dim, low = 0.0, high = 0.0, gain = 1.0;
    if (c->scaling == RV_ROPE_NTK && c->rotary_dim > 2)
        step += rv__log(c->factor) * 2.0 / (dim - 2.0);
    if (c->scaling == RV_ROPE_YARN) {
        low = floor(rv__rope_where(c, c->fast));
        high = -floor(-rv__rope_where(c, c->slow));
        low = low < 0.0 ? 0.0 : low;
        high = high > dim - 1.0 ? dim - 1.0 : high;
        if (high - low < 0.5 && high - low > -0.5) high = low + 0.001; /* both are integers */
        gain = 0.1 * rv__log(c->factor) + 1.0;
    }
    for (size_t t = 0; t < c->rotary_dim / 2; t++) {
        theta[t] = rv__exp(-step * (double)t);
        if (c->scaling == RV_ROPE_LINEAR) theta[t] /= c->factor;
        if (c->scaling == RV_ROPE_YARN) {
            double slowed = ((double)t - low) / (high - low);
            slowed = slowed < 0.0 ? 0.0 : slowed > 1.0 ? 1.0 : slowed;
            theta[t] *= slowed / c->factor + 1.0 - slowed;
        }
    }
    return gain;
}

RV_API rv_status rv_rope_angles(rv_ctx *ctx, const rv_rope_config *config, size_t dim,
                                double *theta, double *gain)
{
    rv_rope_config c;
    rv_status status;
    double g;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    if (dim < 2 || dim > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z, allowed: 2..65535", dim);
    if (!theta) return rv__fail(ctx, RV_ERR_ARG, 0, "theta is NULL");
    status = rv__rope_check_config(ctx, &c, dim);
    if (status) return status;
    g = rv__rope_theta(&c, theta);
    if (gain) *gain = g;
    return rv__ok(ctx);
}

static rv_status rv__rope_check_places(rv_ctx *ctx, const rv_rope_io *io)
{
    const size_t most = io->cosines ? io->n_table : (size_t)RV__ROPE_FAR + 1;
    if (!io->index && !io->place && io->n && (io->first >= most || io->n > most - io->first))
        return rv__fail(ctx, RV_ERR_ARG, 0, "positions %z + %z rows; they must be below %z",
                        io->first, io->n, most);
    for (size_t i = 0; i < io->n; i++) {
        if (io->index && io->index[i] >= most)
            return rv__fail(ctx, RV_ERR_ARG, i, "index[%z] is %z; it must be below %z", i,
                            (size_t)io->index[i], most);
        if (io->place && (!rv__finite_f32(io->place[i]) || fabsf(io->place[i]) > RV__ROPE_FAR))
            return rv__fail(ctx, RV_ERR_ARG, i,
                            "place[%z] is %f; its magnitude must be at most 2^20", i,
                            (double)io->place[i]);
    }
    return RV_OK;
}

static rv_status rv__rope_check(rv_ctx *ctx, rv__rope *rope)
{
    rv_rope_config *c = &rope->config;
    rv_rope_io *io = &rope->io;
    rv_status status;
    if (io->heads == 0) io->heads = 1;
    if (io->dim < 2 || io->dim > 65535u || io->heads > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z, heads is %z; allowed: 2..65535, 1..65535",
                        io->dim, io->heads);
    if (io->x_stride == 0) io->x_stride = io->heads * io->dim;
    if (io->out_stride == 0) io->out_stride = io->heads * io->dim;
    if (io->x_stride < io->heads * io->dim || io->out_stride < io->heads * io->dim)
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "x_stride is %z, out_stride is %z; they must be at least heads * dim (%z)",
                        io->x_stride, io->out_stride, io->heads * io->dim);
    if (io->n && (!io->x || !io->out)) return rv__fail(ctx, RV_ERR_ARG, 0, "x or out is NULL");
    if (io->x == io->out && io->x_stride != io->out_stride)
        return rv__fail(ctx, RV_ERR_ARG, 0, "out is x; then their strides must be equal");
    if (io->index && io->place)
        return rv__fail(ctx, RV_ERR_ARG, 0, "index and place are both given, one is allowed");
    if (!io->cosines != !io->sines)
        return rv__fail(ctx, RV_ERR_ARG, 0, "one of cosines and sines is NULL");
    if (io->cosines &&
        (io->place || c->scaling != RV_ROPE_PLAIN || rv__rope_or(c->base, -1.0) > 0.0))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "with tables of cosines, place, base and scaling have no meaning");
    if (rv__mul(io->n, io->x_stride) >= SIZE_MAX / 8 ||
        rv__mul(io->n, io->out_stride) >= SIZE_MAX / 8)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n is %z rows of %z; that is no size", io->n,
                        io->x_stride);
    status = rv__rope_check_config(ctx, c, io->dim);
    return status ? status : rv__rope_check_places(ctx, io);
}

/* x and out may be one array. */
static void rv__rope_head(const rv__rope *r, const float *turns, const float *x, float *out)
{
    const size_t pairs = r->pairs, rotary = 2 * pairs;
    const float *c = turns, *s = turns + pairs;
    if (r->config.layout == RV_ROPE_HALVES) {
        for (size_t t = 0; t < pairs; t++) {
            const float a = x[t], b = x[t + pairs];
            out[t] = a * c[t] - b * s[t];
            out[t + pairs] = b * c[t] + a * s[t];
        }
    } else {
        for (size_t t = 0; t < pairs; t++) {
            const float a = x[2 * t], b = x[2 * t + 1];
            out[2 * t] = a * c[t] - b * s[t];
            out[2 * t + 1] = b * c[t] + a * s[t];
        }
    }
    if (out != x) memcpy(out + rotary, x + rotary, (r->io.dim - rotary) * sizeof *out);
}

static void rv__rope_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__rope *r = (const rv__rope *)arg;
    const rv_rope_io *io = &r->io;
    float *turns = r->turns + lane * 2 * r->pairs;
    for (size_t i = begin; i < end; i++) {
        const size_t at = io->index ? io->index[i] : io->first + i;
        const double p = io->place ? (double)io->place[i] : (double)at;
        for (size_t t = 0; t < r->pairs; t++) {
            double s, c;
            if (io->cosines) {
                c = (double)io->cosines[at * r->pairs + t];
                s = (double)io->sines[at * r->pairs + t];
            } else {
                rv__sincos(p * r->theta[t], &s, &c);
            }
            turns[t] = (float)(c * r->gain);
            turns[r->pairs + t] = (float)(io->transpose ? -s * r->gain : s * r->gain);
        }
        for (size_t h = 0; h < io->heads; h++)
            rv__rope_head(r, turns, io->x + i * io->x_stride + h * io->dim,
                          io->out + i * io->out_stride + h * io->dim);
    }
}

RV_API rv_status rv_rope_run(rv_ctx *ctx, const rv_rope_config *config, const rv_rope_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    rv_status status;
    rv__rope r;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io is NULL");
    memset(&r, 0, sizeof r);
    if (config) r.config = *config;
    r.io = *io;
    status = rv__rope_check(ctx, &r);
    if (status || io->n == 0) return status ? status : rv__ok(ctx);
    r.pairs = r.config.rotary_dim / 2;
    r.theta = (double *)rv__get(&alloc, r.pairs, sizeof(double));
    r.turns = (float *)rv__get(&alloc, rv__mul(lanes, 2 * r.pairs), sizeof(float));
    if (!r.theta || !r.turns) {
        status = rv__no_memory(ctx, rv__mul(lanes, 2 * r.pairs) * sizeof(float));
    } else {
        r.gain = rv__rope_theta(&r.config, r.theta);
        if (io->cosines) r.gain = 1.0;
        status = rv__parallel_for(ctx, io->n, 1,
                                  1 + 1000000u / (40 * r.pairs + r.io.heads * r.io.dim),
                                  rv__rope_range, &r);
    }
    rv__put(&alloc, r.turns, rv__mul(lanes, 2 * r.pairs), sizeof(float));
    rv__put(&alloc, r.theta, r.pairs, sizeof(double));
    return status ? status : rv__ok(ctx);
}

/* ---- relative positions in buckets ---- */

static rv_status rv__t5_check(rv_ctx *ctx, const rv_t5_config *config, rv_t5_config *c)
{
    uint32_t side;
    memset(c, 0, sizeof *c);
    if (config) *c = *config;
    if (c->buckets == 0) c->buckets = 32;
    if (c->max_distance == 0) c->max_distance = 128;
    if (c->buckets < 2 || c->buckets > 65536u || (!c->causal && (c->buckets % 2 || c->buckets < 4)))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "buckets is %z, allowed: 2..65536, unless causal even and at least 4",
                        (size_t)c->buckets);
    side = c->causal ? c->buckets : c->buckets / 2;
    if (c->max_distance <= side / 2 || c->max_distance > 0x7FFFFFFFu)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "max_distance is %z; it must be above %z, half the buckets of a side, and "
                        "below 2^31", (size_t)c->max_distance, (size_t)(side / 2));
    return RV_OK;
}

/* 1e-9 lifts quotients that are integers in exact arithmetic. */
static uint32_t rv__t5_bucket(const rv_t5_config *c, int64_t offset)
{
    const uint32_t side = c->causal ? c->buckets : c->buckets / 2, exact = side / 2;
    const uint32_t base = offset > 0 && !c->causal ? side : 0;
    const int64_t ago = offset < 0 ? -offset : c->causal ? 0 : offset;
    double t;
    if (ago < (int64_t)exact) return base + (uint32_t)ago;
    if (ago >= (int64_t)c->max_distance) return base + side - 1;
    t = rv__log((double)ago / (double)exact) / rv__log((double)c->max_distance / (double)exact) *
        (double)(side - exact) + 1e-9;
    return base + exact + ((uint32_t)t < side - exact ? (uint32_t)t : side - exact - 1);
}

RV_API rv_status rv_t5_buckets(rv_ctx *ctx, const rv_t5_config *config, int64_t first, size_t n,
                               uint32_t *out)
{
    rv_t5_config c;
    size_t left = 0;
    rv_status status = rv__t5_check(ctx, config, &c);
    if (status) return status;
    if (n && !out) return rv__fail(ctx, RV_ERR_ARG, 0, "out is NULL");
    if (first <= -2147483647 || first > 2147483647 || (uint64_t)n > (uint64_t)(2147483647 - first))
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "first, or first + n, is not within 2^31 of 0 (n is %z)", n);
    for (size_t x = 0; x < n; x++) {
        status = rv__poll_by(ctx, &left, 50);
        if (status) return status;
        out[x] = rv__t5_bucket(&c, first + (int64_t)x);
    }
    return rv__ok(ctx);
}

/* Buckets of all differences of n_q queries from `past` on and n_k keys, [n_q + n_k - 1]; query i
   and key j: element n_q - 1 - i + j. */
static rv_status rv__t5_all(rv_ctx *ctx, const rv_t5_config *config, size_t n_q, size_t n_k,
                            size_t past, uint32_t **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_status status;
    *out = NULL;
    if (n_q > 0x3FFFFFFFu || n_k > 0x3FFFFFFFu || past > 0x3FFFFFFFu)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n_q is %z, n_k is %z, past is %z; each must be below "
                        "2^30", n_q, n_k, past);
    *out = (uint32_t *)rv__get(&alloc, n_q + n_k, sizeof(uint32_t));
    if (!*out) return rv__no_memory(ctx, rv__mul(n_q + n_k, sizeof(uint32_t)));
    status = rv_t5_buckets(ctx, config, 1 - (int64_t)n_q - (int64_t)past,
                           n_q && n_k ? n_q + n_k - 1 : 0, *out);
    if (status) {
        rv__put(&alloc, *out, n_q + n_k, sizeof(uint32_t));
        *out = NULL;
    }
    return status;
}

/* Adds the table to bias or, where that is NULL, d_bias to sums: [buckets, heads]. */
static rv_status rv__t5_walk(rv_ctx *ctx, const uint32_t *bucket, const float *table,
                             const float *d_bias, size_t heads, size_t n_q, size_t n_k, float *bias,
                             double *sums)
{
    size_t left = 0;
    for (size_t row = 0; row < heads * n_q; row++) {
        const size_t h = row / n_q, i = row % n_q;
        const uint32_t *at = bucket + (n_q - 1 - i);
        rv_status status = rv__poll_by(ctx, &left, n_k + 1);
        if (status) return status;
        if (bias) {
            for (size_t j = 0; j < n_k; j++) bias[row * n_k + j] += table[at[j] * heads + h];
        } else {
            for (size_t j = 0; j < n_k; j++)
                sums[at[j] * heads + h] += (double)d_bias[row * n_k + j];
        }
    }
    return RV_OK;
}

RV_API rv_status rv_t5_add(rv_ctx *ctx, const rv_t5_config *config, const float *table,
                           size_t heads, size_t n_q, size_t n_k, size_t past, float *bias)
{
    const rv_alloc alloc = rv__allocator(ctx);
    uint32_t *bucket;
    rv_status status;
    if (!table || !bias) return rv__fail(ctx, RV_ERR_ARG, 0, "table or bias is NULL");
    status = rv__t5_all(ctx, config, n_q, n_k, past, &bucket);
    if (!status) status = rv__t5_walk(ctx, bucket, table, NULL, heads, n_q, n_k, bias, NULL);
    rv__put(&alloc, bucket, n_q + n_k, sizeof(uint32_t));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_t5_backward(rv_ctx *ctx, const rv_t5_config *config, const float *d_bias,
                                size_t heads, size_t n_q, size_t n_k, size_t past, float *d_table)
{
    const rv_alloc alloc = rv__allocator(ctx);
    uint32_t *bucket;
    double *sums = NULL;
    size_t count;
    rv_t5_config c;
    rv_status status;
    if (!d_bias || !d_table) return rv__fail(ctx, RV_ERR_ARG, 0, "d_bias or d_table is NULL");
    status = rv__t5_check(ctx, config, &c);
    if (status) return status;
    count = rv__mul(c.buckets, heads);
    status = rv__t5_all(ctx, config, n_q, n_k, past, &bucket);
    if (!status) {
        sums = (double *)rv__get_zero(&alloc, count, sizeof(double));
        if (!sums) status = rv__no_memory(ctx, rv__mul(count, sizeof(double)));
    }
    if (!status) status = rv__t5_walk(ctx, bucket, NULL, d_bias, heads, n_q, n_k, NULL, sums);
    for (size_t x = 0; x < count && !status; x++) d_table[x] = (float)sums[x];
    rv__put(&alloc, sums, count, sizeof(double));
    rv__put(&alloc, bucket, n_q + n_k, sizeof(uint32_t));
    return status ? status : rv__ok(ctx);
}

#undef RV__ROPE_FAR

#endif /* RV_POSITION_C */
