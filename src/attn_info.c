#ifndef RV_ATTN_INFO_C
#define RV_ATTN_INFO_C
#include "attn_info.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "distance.c"
#include "info.c"
#include "attn.c"
#include "attn_back.c"

/* Fisher attention. Roots of probabilities, u = exp((q - top) / 2) over their length, are points of
   a sphere. With h = |u - v|^2 / 4 = (1 - u . v) / 2, in 0 .. 1/2, the squared distance is
   16 asin(sqrt h)^2 = 16 h P(h), P a power series in h, here a polynomial for [0, 1/2] with the
   relative error 7e-9 (mpmath's chebyfit). Taking h from the chord, not from u . v, keeps near
   points apart. Slopes:
       d(d^2) / dh = 16 sqrt(P / (1 - h)),   dh / dq_b = -u_b (v_b - (u . v) u_b) / 4.

   Bottleneck. With s the logits and w = softmax(s), rate = sum of w s - lse + ln(keys seen), and
   its slope by s_j is w_j (s_j - sum of w s): that of a value s_j that is held fixed. Here
   s_j = a q . k_j, so a second run whose values are the keys gives sum of w k, which a q turns into
   sum of w s; and with a slope of a q on that run's output the engine's backward gives the rate's
   slopes by q and k, to be added to the first run's.

   Sources: as in the header. */

/* ---- Fisher ---- */

typedef struct rv__attn_sphere {
    rv__attn a;              /* for sizes and kernels                                             */
    const rv__kernels *kernels;
    rv__scan_fn scan;        /* squared distances                                                 */
    float *u, *v;            /* [heads][n_q][dim], [kv_heads][n_k][dim]                           */
    float inverse;           /* of the temperature                                                */
} rv__attn_sphere;

/* asin(sqrt h)^2 / h */
static float rv__sphere_ratio(float h)
{
    float p = 0.364384319f;
    p = p * h - 0.402600555f;
    p = p * h + 0.314703259f;
    p = p * h - 0.0252964071f;
    p = p * h + 0.097328909f;
    p = p * h + 0.112655792f;
    p = p * h + 0.177859317f;
    p = p * h + 0.333331783f;
    return p * h + 1.0f;
}

static const float *rv__sphere_key(const rv__attn_sphere *s, size_t head, size_t j)
{
    return s->v + (head / s->a.group * s->a.io.n_k + j) * s->a.io.dim;
}

static void rv__sphere_logits(const void *user, size_t lane, size_t head, size_t i, size_t j,
                              size_t n, float *logits)
{
    const rv__attn_sphere *s = (const rv__attn_sphere *)user;
    const size_t dim = s->a.io.dim;
    (void)lane;
    s->scan(s->u + (head * s->a.io.n_q + i) * dim,
            (const unsigned char *)rv__sphere_key(s, head, j), dim * sizeof(float), NULL, n, dim,
            logits);
    for (size_t x = 0; x < n; x++) {
        const float h = 0.25f * logits[x];
        logits[x] = -16.0f * s->inverse * h * rv__sphere_ratio(h);
    }
}

static void rv__sphere_pull(const void *user, size_t lane, size_t head, size_t i, size_t j,
                            size_t n, const float *ds, float *dq, float *dk, size_t ldk,
                            double *part)
{
    const rv__attn_sphere *s = (const rv__attn_sphere *)user;
    const size_t dim = s->a.io.dim;
    const float *u = s->u + (head * s->a.io.n_q + i) * dim;
    (void)lane;
    (void)part;
    for (size_t x = 0; x < n; x++) {
        const float *v = rv__sphere_key(s, head, j + x);
        float *to = dk + x * ldk, along, h, by;
        if (ds[x] == 0.0f) continue;
        along = s->kernels->dot_f32(u, v, dim);
        h = 0.5f - 0.5f * along;
        by = 4.0f * s->inverse * ds[x] * (float)sqrt((double)(rv__sphere_ratio(h) / (1.0f - h)));
        for (size_t b = 0; b < dim; b++) {
            dq[b] += by * u[b] * (v[b] - along * u[b]);
            to[b] += by * v[b] * (u[b] - along * v[b]);
        }
    }
}

/* x becomes the roots of softmax(x). */
static void rv__sphere_lift(const rv__kernels *kernels, float *x, size_t n)
{
    float top = x[0];
    for (size_t b = 1; b < n; b++) top = x[b] > top ? x[b] : top;
    for (size_t b = 0; b < n; b++) x[b] = 0.5f * (x[b] - top);
    kernels->exp_f32(x, x, n);
    kernels->scale_f32((float)(1.0 / sqrt((double)kernels->dot_f32(x, x, n))), x, n);
}

/* Rows of queries, then rows of keys. */
static void rv__sphere_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__attn_sphere *s = (const rv__attn_sphere *)arg;
    const rv_attn_io *io = &s->a.io;
    const size_t dim = io->dim, n_q = io->n_q, queries = s->a.config.heads * n_q;
    (void)lane;
    for (size_t row = begin; row < end; row++) {
        const size_t at = row - queries;
        float *to = row < queries ? s->u + row * dim : s->v + at * dim;
        if (row < queries) {
            memcpy(to, io->q + row % n_q * io->q_stride + row / n_q * dim, dim * sizeof(float));
        } else {
            const size_t from = at % io->n_k * io->k_stride + at / io->n_k * dim;
            if (io->type == RV_DTYPE_F32)
                memcpy(to, (const float *)io->k + from, dim * sizeof(float));
            else if (io->type == RV_DTYPE_F16)
                s->kernels->widen_f16((const uint16_t *)io->k + from, to, dim);
            else s->kernels->widen_bf16((const uint16_t *)io->k + from, to, dim);
        }
        rv__sphere_lift(s->kernels, to, dim);
    }
}

/* grad NULL: forward. */
static rv_status rv__sphere_run(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                                const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__attn_sphere s;
    rv__attn_score score;
    rv_status status;
    size_t n_u, n_v;
    status = rv__attn_open(ctx, config, io, NULL, &s.a);
    if (status) return status;
    if (config && rv__given(config->scale))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "scale is %f; Fisher attention has none, it must be 0",
                        (double)config->scale);
    s.kernels = s.a.kernels;
    s.scan = rv__scan_find(RV_METRIC_L2, RV_DTYPE_F32, ctx ? ctx->isa : RV_ISA_BEST);
    s.inverse = 1.0f / s.a.config.temperature;
    memset(&score, 0, sizeof score);
    score.user = &s;
    score.logits = rv__sphere_logits;
    score.pull = rv__sphere_pull;
    score.work = io->dim + 12;
    n_u = rv__mul(rv__mul(s.a.config.heads, io->n_q), io->dim);
    n_v = rv__mul(rv__mul(s.a.config.kv_heads, io->n_k), io->dim);
    s.u = (float *)rv__get(&alloc, n_u, sizeof(float));
    s.v = (float *)rv__get(&alloc, n_v, sizeof(float));
    if (!s.u || !s.v) status = rv__no_memory(ctx, rv__mul(rv__add(n_u, n_v), sizeof(float)));
    if (!status && io->n_q)
        status = rv__parallel_for(ctx, s.a.config.heads * io->n_q + s.a.config.kv_heads * io->n_k,
                                  16, 16 + 1000000u / io->dim, rv__sphere_rows, &s);
    if (!status) status = grad ? rv__attn_backward(ctx, config, io, grad, &score)
                               : rv__attn_forward(ctx, config, io, &score);
    rv__put(&alloc, s.v, n_v, sizeof(float));
    rv__put(&alloc, s.u, n_u, sizeof(float));
    return status;
}

RV_API rv_status rv_attn_fisher(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io)
{
    return rv__sphere_run(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_fisher_backward(rv_ctx *ctx, const rv_attn_config *config,
                                         const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_io with;
    float unused;
    if (!io || !grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, grad and grad->d_out must not be NULL");
    with = *io;
    with.out = &unused; /* checked, not written */
    return rv__sphere_run(ctx, config, &with, grad);
}

/* ---- information bottleneck ---- */

typedef struct rv__attn_rate {
    rv__attn a;              /* settled, with all that divides the logits in the temperature      */
    rv_attn_config config;   /* of the second run                                                 */
    rv_attn_io io;
    double beta;
} rv__attn_rate;

static rv_status rv__rate_check(rv_ctx *ctx, const rv_attn_bottleneck_config *config,
                                const rv_attn_io *io)
{
    const rv_attn_config *base = &config->base;
    if (rv__attn_bad(config->compression, 0.0f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "compression is %f; it must be finite and above 0",
                        (double)config->compression);
    if (base->softcap > 0.0f || base->slopes || base->sinks || base->raw)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s has no meaning for the information bottleneck",
                        base->softcap > 0.0f ? "softcap"
                        : base->slopes       ? "slopes"
                        : base->sinks        ? "sinks"
                                             : "raw");
    if (io->mask && io->mask->add)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "mask->add has no meaning for the information bottleneck");
    if (rv__given(config->vib.min_variance))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "vib.min_variance is %f; attention has no variances, it must be 0",
                        (double)config->vib.min_variance);
    return RV_OK;
}

static rv_status rv__rate_open(rv_ctx *ctx, const rv_attn_bottleneck_config *config,
                               const rv_attn_io *io, rv__attn_rate *r)
{
    rv_attn_bottleneck_config settled;
    rv_status status;
    memset(&settled, 0, sizeof settled);
    if (config) settled = *config;
    status = rv__attn_open(ctx, &settled.base, io, NULL, &r->a);
    if (!status) status = rv__rate_check(ctx, &settled, io);
    if (status) return status;
    if (settled.compression > 0.0f) r->a.config.temperature *= settled.compression;
    if (rv__attn_bad(r->a.config.temperature, 1e-30f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "temperature times compression is %f; it must be 1e-30 to 3.4e38",
                        (double)r->a.config.temperature);
    r->beta = rv_vib_beta(&settled.vib, settled.step);
    if (!rv__finite_f64(r->beta))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "vib.beta is %f; it must be finite and above 0",
                        (double)settled.vib.beta);
    r->config = r->a.config;
    r->config.training = 0; /* rates are of the weights before dropout */
    r->io = r->a.io;
    r->io.v = r->io.k;
    r->io.dim_v = r->io.dim;
    r->io.v_stride = r->io.k_stride;
    r->io.out_stride = 0;
    r->io.weights = NULL;
    return RV_OK;
}

/* Keys that query i of a head sees. */
static size_t rv__rate_seen(const rv__attn *a, size_t head, size_t i)
{
    const rv_attn_mask *mask = a->io.mask;
    size_t begin, end, n = 0;
    rv__attn_sees(a, i, &begin, &end);
    if (!mask || (!mask->allow && !mask->visible)) return end - begin;
    for (size_t j = begin; j < end; j++) {
        if (mask->allow && !mask->allow[head * mask->allow_head + i * a->io.n_k + j]) continue;
        n += !mask->visible || mask->visible(mask->user, head, i, j) != 0;
    }
    return n;
}

/* mean: [n_q, heads * dim], sums of w k; lse: [heads, n_q]. */
static rv_status rv__rate_of(rv_ctx *ctx, const rv__attn_rate *r, const float *mean,
                             const float *lse, float *rate)
{
    const rv_attn_io *io = &r->a.io;
    const size_t heads = r->a.config.heads, n_q = io->n_q, dim = io->dim;
    const double factor = (double)r->a.config.scale / (double)r->a.config.temperature;
    size_t left = 0;
    for (size_t row = 0; row < n_q * heads; row++) {
        const size_t i = row / heads, h = row % heads, at = h * n_q + i;
        const size_t seen = rv__rate_seen(&r->a, h, i);
        const float *k = mean + row * dim, *q = io->q + i * io->q_stride + h * dim;
        double sum = 0.0;
        rv_status status = rv__poll_by(ctx, &left, dim + (io->mask ? 8 * io->n_k : 0));
        if (status) return status;
        for (size_t x = 0; x < dim; x++) sum += (double)q[x] * (double)k[x];
        sum = seen ? factor * sum - (double)lse[at] + rv__log((double)seen) : 0.0;
        rate[at] = (float)(sum > 0.0 || !rv__finite_f64(sum) ? sum : 0.0);
    }
    return RV_OK;
}

RV_API rv_status rv_attn_information_bottleneck(rv_ctx *ctx,
                                                const rv_attn_bottleneck_config *config,
                                                const rv_attn_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__attn_rate r;
    float *mean, *lse;
    size_t n_lse, n_mean;
    rv_status status = rv__rate_open(ctx, config, io, &r);
    if (status) return status;
    if (!config || !config->rate || io->n_q == 0) return rv_attn(ctx, &r.a.config, &r.a.io);
    n_lse = rv__mul(r.a.config.heads, io->n_q);
    n_mean = rv__mul(n_lse, io->dim);
    mean = (float *)rv__get(&alloc, n_mean, sizeof(float));
    lse = (float *)rv__get(&alloc, n_lse, sizeof(float));
    if (!mean || !lse) status = rv__no_memory(ctx, rv__mul(n_mean, sizeof(float)));
    r.io.out = mean;
    r.io.lse = lse;
    if (!status) status = rv_attn(ctx, &r.config, &r.io);
    if (!status) status = rv_attn(ctx, &r.a.config, &r.a.io);
    if (!status) status = rv__rate_of(ctx, &r, mean, lse, config->rate);
    rv__put(&alloc, lse, n_lse, sizeof(float));
    rv__put(&alloc, mean, n_mean, sizeof(float));
    return status ? status : rv__ok(ctx);
}

/* The slopes of beta_t times the mean rate by q and k. d_mean, d_q: [n_q, heads * dim]. */
static rv_status rv__rate_back(rv_ctx *ctx, rv__attn_rate *r, float *d_mean, float *d_q, float *d_k)
{
    const rv_attn_config *c = &r->config;
    const size_t heads = c->heads, dim = r->io.dim;
    const float factor = (float)(r->beta * (double)c->scale / (double)c->temperature /
                                 ((double)heads * (double)r->io.n_q));
    rv_attn_grad grad;
    for (size_t row = 0; row < r->io.n_q * heads; row++) {
        const float *q = r->io.q + row / heads * r->io.q_stride + row % heads * dim;
        for (size_t x = 0; x < dim; x++) d_mean[row * dim + x] = factor * q[x];
    }
    memset(&grad, 0, sizeof grad);
    grad.d_out = d_mean;
    grad.d_q = d_q;
    grad.d_k = d_k;
    return rv_attn_backward(ctx, c, &r->io, &grad);
}

RV_API rv_status rv_attn_information_bottleneck_backward(rv_ctx *ctx,
                                                         const rv_attn_bottleneck_config *config,
                                                         const rv_attn_io *io,
                                                         const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__attn_rate r;
    rv_attn_io with;
    rv_status status;
    size_t n_q, n_k;
    float unused, *work, *d_k;
    if (!io || !grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, grad and grad->d_out must not be NULL");
    with = *io;
    with.out = &unused; /* checked, not written */
    status = rv__rate_open(ctx, config, &with, &r);
    if (status) return status;
    if (r.beta == 0.0 || io->n_q == 0) return rv_attn_backward(ctx, &r.a.config, &r.a.io, grad);
    n_q = rv__mul(rv__mul(r.a.config.heads, io->n_q), io->dim);
    n_k = rv__mul(rv__mul(r.a.config.kv_heads, io->n_k), io->dim);
    work = (float *)rv__get(&alloc, rv__mul(n_q, 2), sizeof(float));
    d_k = (float *)rv__get(&alloc, n_k, sizeof(float));
    if (!work || !d_k) status = rv__no_memory(ctx, rv__mul(rv__add(n_q, n_k), sizeof(float)));
    if (!status) status = rv__rate_back(ctx, &r, work, work + n_q, d_k);
    if (!status) status = rv_attn_backward(ctx, &r.a.config, &r.a.io, grad);
    if (!status && grad->d_q) r.a.kernels->add_f32(work + n_q, grad->d_q, n_q);
    if (!status && grad->d_k) r.a.kernels->add_f32(d_k, grad->d_k, n_k);
    rv__put(&alloc, d_k, n_k, sizeof(float));
    rv__put(&alloc, work, rv__mul(n_q, 2), sizeof(float));
    return status ? status : rv__ok(ctx);
}

#endif /* RV_ATTN_INFO_C */
