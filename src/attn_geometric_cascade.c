#ifndef RV_ATTN_GEOMETRIC_CASCADE_C
#define RV_ATTN_GEOMETRIC_CASCADE_C
#include "attn_geometric.h"
#include "base.c"
#include "mathx.c"
#include "hyperbolic.c"
#include "hyperbolic_lorentz.c"
#include "attn.c"
#include "attn_geometric.c"
#include "attn_geometric_run.c"

/* One call of Lorentz attention per head, on its slices of the rows; then the heads' centroids are
   mixed in the tangent space at the origin of the sheet, where with a space part x
       log_0(x) = asinh(z) / z x,  z = sqrt(c) |x|      exp_0(v) = sinh(z) / z v,  z = sqrt(c) |v|
   both are multiples of what they are given, f(|x|) x, with gradient f g + f' / |x| (g . x) x. */

/* f, and f' over the length, of log_0 at squared length xx. */
static double rv__geo_sheet_log(double c, double xx, double *slope)
{
    const double u = c * xx, f = rv__lor_ratio(sqrt(u));
    *slope = u < 1e-3 ? 2.0 * c * (-1.0 / 6.0 + u * (3.0 / 20.0 - u * (15.0 / 112.0)))
                      : (1.0 / sqrt(1.0 + u) - f) / xx;
    return f;
}

static double rv__geo_sheet_exp(double c, double vv, double *slope)
{
    /* beyond that floats end */
    const double most = 80.0 / sqrt(c), length = sqrt(vv) < most ? sqrt(vv) : most;
    const double u = c * length * length, f = rv__hyp_sinc(-c, length);
    *slope = u < 1e-3 ? 2.0 * c * (1.0 / 6.0 + u * (1.0 / 60.0 + u / 1680.0))
                      : (sqrt(1.0 + u * f * f) - f) / (length * length);
    return f;
}

typedef struct rv__geo_cascade {
    rv_attn_lorentz_cascade_config c;
    rv__geo g;                       /* the settled problem; out_stride is that of the caller */
    size_t heads, kvs;
    double out_c;
    float *out;                      /* [heads, n_q, dim_v] centroids                         */
    float *d_out, *d_q, *d_k, *d_v;  /* of one head                                           */
    double *row;                     /* [dim_v] in the tangent space                          */
} rv__geo_cascade;

static float rv__geo_cascade_mix(const rv__geo_cascade *s, size_t head)
{
    return s->c.mix ? s->c.mix[head] : (float)(1.0 / (double)s->heads);
}

static float rv__geo_cascade_c(const rv__geo_cascade *s, size_t head)
{
    const double at = s->heads > 1 ? (double)head / (double)(s->heads - 1) : 0.5;
    const double least = (double)s->c.c_least;
    return (float)(least * rv__exp(at * rv__log((double)s->c.c_most / least)));
}

typedef struct rv__geo_cascade_eye {
    const rv_attn_mask *mask;
    size_t head;
} rv__geo_cascade_eye;

static int rv__geo_cascade_visible(void *user, size_t head, size_t i, size_t j)
{
    const rv__geo_cascade_eye *eye = (const rv__geo_cascade_eye *)user;
    (void)head;
    return eye->mask->visible(eye->mask->user, eye->head, i, j);
}

/* A head's problem, forward into s->out or, with grad, backward. */
static rv_status rv__geo_cascade_head(rv_ctx *ctx, const rv__geo_cascade *s, size_t head,
                                      const rv_attn_grad *grad)
{
    const size_t kv = head * s->kvs / s->heads, n_q = s->g.io.n_q, n_k = s->g.io.n_k;
    const size_t bytes = rv_dtype_bytes(s->g.io.type, 1), dim_v = s->g.io.dim_v;
    rv_attn_lorentz_config c;
    rv_attn_io io = s->g.io;
    rv_attn_mask mask;
    rv__geo_cascade_eye eye;
    memset(&c, 0, sizeof c);
    c.base = s->c.base;
    c.base.heads = c.base.kv_heads = 1;
    if (c.base.slopes) c.base.slopes += head;
    if (c.base.sinks) c.base.sinks += head;
    c.c = rv__geo_cascade_c(s, head);
    c.score = s->c.score;
    io.q += head * io.dim;
    io.k = (const unsigned char *)io.k + kv * io.dim * bytes;
    io.v = (const unsigned char *)io.v + kv * dim_v * bytes;
    io.out = s->out + head * n_q * dim_v;
    io.out_stride = dim_v;
    if (io.weights) io.weights += head * n_q * n_k;
    if (io.lse) io.lse += head * n_q;
    if (io.mask) {
        mask = *io.mask;
        eye.mask = io.mask;
        eye.head = head;
        if (mask.allow) mask.allow += head * mask.allow_head;
        if (mask.add) mask.add += head * mask.add_head;
        if (mask.visible) {
            mask.visible = rv__geo_cascade_visible;
            mask.user = &eye;
        }
        io.mask = &mask;
    }
    return rv__geo_lorentz_run(ctx, &c, &io, grad);
}

/* log_0 of a head's centroid: f, its slope; returns the space part. */
static const float *rv__geo_cascade_log(const rv__geo_cascade *s, size_t head, size_t i, double *f,
                                        double *slope)
{
    const size_t n = s->g.io.dim_v;
    const float *x = s->out + (head * s->g.io.n_q + i) * n;
    *f = rv__geo_sheet_log((double)rv__geo_cascade_c(s, head), rv__hyp_dot_f32(x, x, n), slope);
    return x;
}

/* The tangent of query i into s->row. */
static void rv__geo_cascade_row(const rv__geo_cascade *s, size_t i)
{
    memset(s->row, 0, s->g.io.dim_v * sizeof *s->row);
    for (size_t h = 0; h < s->heads; h++) {
        double f, slope;
        const float *x = rv__geo_cascade_log(s, h, i, &f, &slope);
        f *= (double)rv__geo_cascade_mix(s, h);
        for (size_t a = 0; a < s->g.io.dim_v; a++) s->row[a] += f * (double)x[a];
    }
}

static rv_status rv__geo_cascade_forward(rv_ctx *ctx, const rv__geo_cascade *s)
{
    const size_t n = s->g.io.dim_v;
    size_t left = 0;
    rv_status status = RV_OK;
    for (size_t h = 0; h < s->heads && !status; h++)
        status = rv__geo_cascade_head(ctx, s, h, NULL);
    for (size_t i = 0; i < s->g.io.n_q && !status; i++) {
        double f, slope;
        rv__reals row = rv__reals_f64(s->row);
        status = rv__poll_by(ctx, &left, s->heads * (n + 30));
        if (status) break;
        rv__geo_cascade_row(s, i);
        f = rv__geo_sheet_exp(s->out_c, rv__hyp_dot(row, row, n), &slope);
        rv__hyp_times(row, n, f, rv__outs_f32(s->g.io.out + i * s->g.io.out_stride));
    }
    return status;
}

/* Slopes by the tangent of query i, g: [dim_v], into s->row + dim_v. */
static double *rv__geo_cascade_slope(const rv__geo_cascade *s, size_t i, const float *g)
{
    const size_t n = s->g.io.dim_v;
    double *to = s->row + n, gv = 0.0, f, slope;
    rv__reals row = rv__reals_f64(s->row);
    rv__geo_cascade_row(s, i);
    f = rv__geo_sheet_exp(s->out_c, rv__hyp_dot(row, row, n), &slope);
    for (size_t a = 0; a < n; a++) gv += (double)g[a] * s->row[a];
    for (size_t a = 0; a < n; a++) to[a] = f * (double)g[a] + slope * gv * s->row[a];
    return to;
}

/* By the centroids of a head into s->d_out; returns the slope by its mix. */
static rv_status rv__geo_cascade_pull(rv_ctx *ctx, const rv__geo_cascade *s, size_t head,
                                      const rv_attn_grad *grad, float *by_mix)
{
    const size_t n = s->g.io.dim_v;
    const double mix = (double)rv__geo_cascade_mix(s, head);
    double total = 0.0;
    size_t left = 0;
    for (size_t i = 0; i < s->g.io.n_q; i++) {
        const double *g = rv__geo_cascade_slope(s, i, grad->d_out + i * s->g.io.out_stride);
        double f, slope, gx = 0.0;
        const float *x = rv__geo_cascade_log(s, head, i, &f, &slope);
        rv_status status = rv__poll_by(ctx, &left, s->heads * (n + 30));
        if (status) return status;
        for (size_t a = 0; a < n; a++) gx += g[a] * (double)x[a];
        total += f * gx;
        for (size_t a = 0; a < n; a++)
            s->d_out[i * n + a] = (float)(mix * (f * g[a] + slope * gx * (double)x[a]));
    }
    *by_mix = (float)total;
    return RV_OK;
}

/* Adds rows [n, width] to columns of rows `stride` wide. */
static void rv__geo_cascade_put(const float *from, size_t n, size_t width, float *to, size_t stride,
                                const rv__kernels *k)
{
    for (size_t i = 0; i < n; i++) k->add_f32(from + i * width, to + i * stride, width);
}

static rv_status rv__geo_cascade_backward(rv_ctx *ctx, const rv__geo_cascade *s,
                                          const rv_attn_grad *grad)
{
    const size_t dim = s->g.io.dim, dim_v = s->g.io.dim_v, n_q = s->g.io.n_q, n_k = s->g.io.n_k;
    rv_status status = RV_OK;
    for (size_t h = 0; h < s->heads && !status; h++)
        status = rv__geo_cascade_head(ctx, s, h, NULL);
    if (grad->d_q) memset(grad->d_q, 0, n_q * s->heads * dim * sizeof(float));
    if (grad->d_k) memset(grad->d_k, 0, n_k * s->kvs * dim * sizeof(float));
    if (grad->d_v) memset(grad->d_v, 0, n_k * s->kvs * dim_v * sizeof(float));
    for (size_t h = 0; h < s->heads && !status; h++) {
        const size_t kv = h * s->kvs / s->heads;
        rv_attn_grad one;
        float by_mix;
        memset(&one, 0, sizeof one);
        status = rv__geo_cascade_pull(ctx, s, h, grad, &by_mix);
        if (status) break;
        one.d_out = s->d_out;
        if (grad->d_q) one.d_q = s->d_q;
        if (grad->d_k) one.d_k = s->d_k;
        if (grad->d_v) one.d_v = s->d_v;
        if (grad->d_sinks) one.d_sinks = grad->d_sinks + h;
        status = rv__geo_cascade_head(ctx, s, h, &one);
        if (status) break;
        if (grad->d_params) grad->d_params[h] = by_mix;
        if (grad->d_q)
            rv__geo_cascade_put(s->d_q, n_q, dim, grad->d_q + h * dim, s->heads * dim,
                                s->g.kernels);
        if (grad->d_k)
            rv__geo_cascade_put(s->d_k, n_k, dim, grad->d_k + kv * dim, s->kvs * dim,
                                s->g.kernels);
        if (grad->d_v)
            rv__geo_cascade_put(s->d_v, n_k, dim_v, grad->d_v + kv * dim_v, s->kvs * dim_v,
                                s->g.kernels);
    }
    return status;
}

static rv_status rv__geo_cascade_open(rv_ctx *ctx, rv__geo_cascade *s, const rv_attn_io *io,
                                      const rv_attn_grad *grad)
{
    rv_attn_lorentz_cascade_config *c = &s->c;
    rv_attn_io plain;
    double least = 0.0, most = 0.0;
    rv_status status;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    plain = *io;
    plain.out_stride = 0;
    c->c_least = rv__default(c->c_least, 0.1f);
    c->c_most = rv__default(c->c_most, 2.0f);
    status = rv__geo_open(ctx, &c->base, &plain, grad, &s->g);
    if (!status) status = rv__geo_no_scale(ctx, &c->base);
    if (!status) status = rv__geo_curvature(ctx, "c_least", c->c_least, &least);
    if (!status) status = rv__geo_curvature(ctx, "c_most", c->c_most, &most);
    if (status) return status;
    if (least > most)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "c_least is %f, must be at most c_most (%f)", least,
                        most);
    if ((unsigned)c->score > (unsigned)RV_ATTN_LORENTZ_INNER)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "score is %z, allowed: 0..2", (size_t)c->score);
    s->heads = s->g.config.heads;
    s->kvs = s->g.config.kv_heads;
    s->out_c = sqrt(least * most);
    for (size_t h = 0; h < s->heads && c->mix; h++) {
        if (!rv__finite_f32(c->mix[h]))
            return rv__fail(ctx, RV_ERR_CONFIG, h, "mix[%z] is %f, must be finite", h,
                            (double)c->mix[h]);
    }
    s->g.io.out_stride = io->out_stride ? io->out_stride : s->g.io.dim_v;
    if (s->g.io.out_stride < s->g.io.dim_v)
        return rv__fail(ctx, RV_ERR_DIM, 0, "out_stride is %z, must be at least dim_v (%z)",
                        s->g.io.out_stride, s->g.io.dim_v);
    return RV_OK;
}

static void rv__geo_cascade_carve(rv__geo_cascade *s, rv__geo_block *b, int backward)
{
    const rv_attn_io *io = &s->g.io;
    s->out = rv__geo_take(b, rv__mul(rv__mul(s->heads, io->n_q), io->dim_v));
    s->row = (double *)(void *)rv__geo_take(b, rv__mul(4, io->dim_v));
    if (!backward) return;
    s->d_out = rv__geo_take(b, rv__mul(io->n_q, io->dim_v));
    s->d_q = rv__geo_take(b, rv__mul(io->n_q, io->dim));
    s->d_k = rv__geo_take(b, rv__mul(io->n_k, io->dim));
    s->d_v = rv__geo_take(b, rv__mul(io->n_k, io->dim_v));
}

static rv_status rv__geo_cascade_run(rv_ctx *ctx, const rv_attn_lorentz_cascade_config *config,
                                     const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__geo_block block = {NULL, 0};
    rv__geo_cascade s;
    rv_status status;
    size_t n;
    memset(&s, 0, sizeof s);
    if (config) s.c = *config;
    status = rv__geo_cascade_open(ctx, &s, io, grad);
    if (status) return status;
    rv__geo_cascade_carve(&s, &block, grad != NULL);
    n = block.used;
    block.base = (float *)rv__get(&alloc, n, sizeof(float));
    if (!block.base) return rv__no_memory(ctx, rv__mul(n, sizeof(float)));
    block.used = 0;
    rv__geo_cascade_carve(&s, &block, grad != NULL);
    status = grad ? rv__geo_cascade_backward(ctx, &s, grad) : rv__geo_cascade_forward(ctx, &s);
    rv__put(&alloc, block.base, n, sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_attn_lorentz_cascade(rv_ctx *ctx, const rv_attn_lorentz_cascade_config *config,
                                         const rv_attn_io *io)
{
    return rv__geo_cascade_run(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_lorentz_cascade_backward(rv_ctx *ctx,
                                                  const rv_attn_lorentz_cascade_config *config,
                                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad must not be NULL");
    return rv__geo_cascade_run(ctx, config, io, grad);
}

#undef RV__GEO_TILE
#undef RV__GEO_PARTS
#undef RV__GEO_FAR

#endif /* RV_ATTN_GEOMETRIC_CASCADE_C */
