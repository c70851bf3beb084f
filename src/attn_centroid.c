#ifndef RV_ATTN_CENTROID_C
#define RV_ATTN_CENTROID_C
#include "attn_transport.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "kmeans.c"
#include "transport.c"
#include "transport_plan.c"
#include "attn.c"
#include "attn_back.c"

/* Attention by transport to centroids. After k-means the centroids are set to the means of the keys
   nearest to them, so that they are functions of the keys whose slope is 1 / count.

   Semi-relaxed: the shares m_c and 1 / keys in c cancel against each other: the logit of a key is
   -C / epsilon of its cluster, which goes through the engine; the slope by a centroid is gathered
   from the slopes of its keys and dealt out again.

   Balanced: sums over clusters only. Slopes walk back through Sinkhorn's iterations from the
   potentials kept of each. With R = m exp(u + v - c), rows of sum 1, and Q = exp(u' + v - c) / n_q,
   columns of sum 1, u' the potentials before,
       u = -log sum_j m_j exp(v_j - c)       dv -= R^T du     dc += du R
       v = -log sum_i exp(u'_i - c) / n_q    du' = -Q dv      dc += dv Q                        */

typedef struct rv__centroid {
    rv__attn a;                 /* the problem, settled                                       */
    const rv_attn_grad *grad;
    rv_kmeans_config kmeans;
    size_t clusters, sinkhorn;
    double share;               /* 1 / epsilon                                                */
    int balanced;
    float *centroid;            /* [kv_heads, clusters, dim]                                  */
    float *value;               /* [kv_heads, clusters, dim_v] means of values                */
    float *cost;                /* [heads, n_q, clusters]                                     */
    float *turned;              /* [clusters, n_q]                                            */
    float *wide;                /* [n_k, max(dim, dim_v)] of halves                           */
    uint32_t *assign, *count;   /* [kv_heads, n_k], [kv_heads, clusters]                      */
    double *sum;                /* [clusters, max(dim, dim_v)]                                */
    double *log_a, *log_b, *u, *v, *old; /* of Sinkhorn, one head                             */
    double *history;            /* [sinkhorn, n_q + clusters]                                 */
    double *du, *dv, *dc;       /* [n_q], [clusters], [n_q, clusters]                         */
    double *d_centroid, *d_value; /* [kv_heads, clusters, dim], [.., dim_v]                   */
    size_t left;
} rv__centroid;

/* ---- centroids ---- */

/* Rows of a head of keys or values as floats. */
static const float *rv__centroid_rows(const rv__centroid *w, const void *rows, size_t kv,
                                      size_t dim, size_t stride, size_t *ld)
{
    const rv_attn_io *io = &w->a.io;
    if (io->type == RV_DTYPE_F32) {
        *ld = stride;
        return (const float *)rows + kv * dim;
    }
    *ld = dim;
    for (size_t j = 0; j < io->n_k; j++) { /* a pass over memory: short beside k-means */
        const uint16_t *from = (const uint16_t *)rows + j * stride + kv * dim;
        if (io->type == RV_DTYPE_F16) w->a.kernels->widen_f16(from, w->wide + j * dim, dim);
        else w->a.kernels->widen_bf16(from, w->wide + j * dim, dim);
    }
    return w->wide;
}

/* Means of the rows of each cluster. */
static rv_status rv__centroid_means(rv_ctx *ctx, rv__centroid *w, size_t kv, const float *rows,
                                    size_t ld, size_t dim, float *mean)
{
    const uint32_t *assign = w->assign + kv * w->a.io.n_k, *count = w->count + kv * w->clusters;
    memset(w->sum, 0, w->clusters * dim * sizeof(double));
    for (size_t j = 0; j < w->a.io.n_k; j++) {
        double *sum = w->sum + assign[j] * dim;
        rv_status status = rv__poll_by(ctx, &w->left, dim);
        if (status) return status;
        for (size_t x = 0; x < dim; x++) sum[x] += (double)rows[j * ld + x];
    }
    for (size_t c = 0; c < w->clusters; c++) {
        for (size_t x = 0; x < dim; x++)
            mean[c * dim + x] = count[c] ? (float)(w->sum[c * dim + x] / (double)count[c]) : 0.0f;
    }
    return RV_OK;
}

static rv_status rv__centroid_train(rv_ctx *ctx, rv__centroid *w, size_t kv)
{
    const rv_attn_io *io = &w->a.io;
    uint32_t *assign = w->assign + kv * io->n_k, *count = w->count + kv * w->clusters;
    float *centroid = w->centroid + kv * w->clusters * io->dim;
    size_t ld;
    const float *rows = rv__centroid_rows(w, io->k, kv, io->dim, io->k_stride, &ld);
    rv_status status = RV_OK;
    for (size_t j = 0; j < io->n_k && !status; j++) {
        const size_t bad = rv__find_not_finite(rows + j * ld, io->dim);
        status = rv__poll_by(ctx, &w->left, io->dim);
        if (bad < io->dim)
            return rv__fail(ctx, RV_ERR_ARG, j, "key %z of head %z is not finite", j, kv);
    }
    if (!status) {
        status = rv__kmeans_train(ctx, &w->kmeans, rv__seed(ctx), rows, ld, io->n_k, io->dim,
                                  centroid, assign, NULL);
    }
    if (status) return status;
    memset(count, 0, w->clusters * sizeof *count);
    for (size_t j = 0; j < io->n_k; j++) count[assign[j]]++;
    status = rv__centroid_means(ctx, w, kv, rows, ld, io->dim, centroid);
    if (status || !w->balanced) return status;
    rows = rv__centroid_rows(w, io->v, kv, io->dim_v, io->v_stride, &ld);
    return rv__centroid_means(ctx, w, kv, rows, ld, io->dim_v,
                              w->value + kv * w->clusters * io->dim_v);
}

static rv_status rv__centroid_costs(rv_ctx *ctx, rv__centroid *w)
{
    const rv__attn *a = &w->a;
    for (size_t row = 0; row < a->config.heads * a->io.n_q; row++) {
        const size_t head = row / a->io.n_q, i = row % a->io.n_q;
        const float *q = a->io.q + i * a->io.q_stride + head * a->io.dim;
        const float *centroid = w->centroid + head / a->group * w->clusters * a->io.dim;
        float *cost = w->cost + row * w->clusters;
        rv_status status = rv__poll_by(ctx, &w->left, w->clusters * a->io.dim);
        if (status) return status;
        a->kernels->scan[RV_METRIC_L2][RV_DTYPE_F32](
            q, (const unsigned char *)centroid, a->io.dim * sizeof(float), NULL, w->clusters,
            a->io.dim, cost);
        if (w->balanced && rv__find_not_finite(cost, w->clusters) < w->clusters)
            return rv__fail(ctx, RV_ERR_ARG, i, "query %z of head %z is not finite", i, head);
    }
    return RV_OK;
}

/* ---- semi-relaxed ---- */

static void rv__centroid_logits(const void *user, size_t lane, size_t head, size_t i, size_t j,
                                size_t n, float *s)
{
    const rv__centroid *w = (const rv__centroid *)user;
    const uint32_t *assign = w->assign + head / w->a.group * w->a.io.n_k + j;
    const float *cost = w->cost + (head * w->a.io.n_q + i) * w->clusters;
    (void)lane;
    for (size_t x = 0; x < n; x++) s[x] = (float)(-(double)cost[assign[x]] * w->share);
}

static void rv__centroid_pull(const void *user, size_t lane, size_t head, size_t i, size_t j,
                              size_t n, const float *ds, float *dq, float *dk, size_t ldk,
                              double *part)
{
    const rv__centroid *w = (const rv__centroid *)user;
    const size_t kv = head / w->a.group, dim = w->a.io.dim;
    const uint32_t *assign = w->assign + kv * w->a.io.n_k + j;
    const float *q = w->a.io.q + i * w->a.io.q_stride + head * dim;
    (void)lane;
    (void)part;
    for (size_t x = 0; x < n; x++) {
        const float *b = w->centroid + (kv * w->clusters + assign[x]) * dim;
        const float along = (float)(2.0 * (double)ds[x] * w->share);
        float *to = dk + x * ldk;
        if (along == 0.0f) continue;
        for (size_t d = 0; d < dim; d++) {
            const float gap = along * (q[d] - b[d]);
            dq[d] -= gap;
            to[d] += gap;
        }
    }
}

/* What the keys of a cluster got is the slope by its centroid: each gets the mean. */
static rv_status rv__centroid_share(rv_ctx *ctx, rv__centroid *w, float *rows, size_t dim)
{
    const size_t kv_heads = w->a.config.kv_heads, n_k = w->a.io.n_k;
    for (size_t kv = 0; kv < kv_heads; kv++) {
        float *mean = w->centroid + kv * w->clusters * dim; /* no longer wanted */
        rv_status status = rv__centroid_means(ctx, w, kv, rows + kv * dim, kv_heads * dim, dim,
                                              mean);
        if (status) return status;
        for (size_t j = 0; j < n_k && !status; j++) {
            memcpy(rows + (j * kv_heads + kv) * dim, mean + w->assign[kv * n_k + j] * dim,
                   dim * sizeof(float));
            status = rv__poll_by(ctx, &w->left, dim);
        }
        if (status) return status;
    }
    return RV_OK;
}

static rv_status rv__centroid_semi(rv_ctx *ctx, rv__centroid *w, const rv_attn_io *io)
{
    rv__attn_score score;
    rv_status status;
    memset(&score, 0, sizeof score);
    score.user = w;
    score.logits = rv__centroid_logits;
    score.pull = rv__centroid_pull;
    score.work = w->grad ? io->dim : 2;
    if (!w->grad) return rv__attn_forward(ctx, &w->a.config, io, &score);
    status = rv__attn_backward(ctx, &w->a.config, io, w->grad, &score);
    if (status || !w->grad->d_k) return status;
    return rv__centroid_share(ctx, w, w->grad->d_k, io->dim);
}

/* ---- balanced ---- */

/* Potentials of one head. */
static rv_status rv__centroid_potentials(rv_ctx *ctx, rv__centroid *w, size_t head, rv__sinkhorn *s)
{
    const size_t kv = head / w->a.group;
    memset(s, 0, sizeof *s);
    s->kernels = w->a.kernels;
    s->n = w->a.io.n_q;
    s->m = w->clusters;
    s->cost = w->cost + head * s->n * s->m;
    s->turned = w->turned;
    s->log_a = w->log_a;
    s->log_b = w->log_b;
    s->u = w->u;
    s->v = w->v;
    s->old = w->old;
    s->share = w->share;
    s->tolerance = -1.0;
    s->iterations = w->sinkhorn;
    s->history = w->history;
    rv__sinkhorn_logs(NULL, (double)s->n, s->n, s->log_a);
    for (size_t c = 0; c < s->m; c++) {
        const double keys = (double)w->count[kv * s->m + c];
        s->log_b[c] = keys > 0.0 ? rv__log(keys / (double)w->a.io.n_k) : -1e30;
    }
    return rv__sinkhorn_run(ctx, s);
}

/* Mass that query i sends to cluster c, of 1. */
static double rv__centroid_mass(const rv__sinkhorn *s, size_t i, size_t c)
{
    return rv__exp(s->log_b[c] + s->u[i] + s->v[c] - (double)s->cost[i * s->m + c] * s->share);
}

static rv_status rv__centroid_write(rv_ctx *ctx, rv__centroid *w, size_t head,
                                    const rv__sinkhorn *s)
{
    const rv_attn_io *io = &w->a.io;
    const size_t kv = head / w->a.group;
    const uint32_t *assign = w->assign + kv * io->n_k, *count = w->count + kv * w->clusters;
    for (size_t i = 0; i < io->n_q; i++) {
        float *out = io->out + i * io->out_stride + head * io->dim_v;
        rv_status status = rv__poll_by(ctx, &w->left, w->clusters * (io->dim_v + 30) + io->n_k);
        if (status) return status;
        memset(out, 0, io->dim_v * sizeof(float));
        for (size_t c = 0; c < w->clusters; c++) {
            const double mass = rv__centroid_mass(s, i, c);
            w->a.kernels->axpy_f32((float)mass, w->value + (kv * w->clusters + c) * io->dim_v, out,
                                   io->dim_v);
            w->sum[c] = count[c] ? mass / (double)count[c] : 0.0;
        }
        for (size_t j = 0; io->weights && j < io->n_k; j++)
            io->weights[(head * io->n_q + i) * io->n_k + j] = (float)w->sum[assign[j]];
    }
    return RV_OK;
}

/* From the slopes by the masses to those by potentials and costs, of the last iteration. */
static rv_status rv__centroid_end(rv_ctx *ctx, rv__centroid *w, size_t head, const rv__sinkhorn *s)
{
    const rv_attn_io *io = &w->a.io;
    const size_t kv = head / w->a.group, dim = io->dim_v;
    memset(w->dv, 0, s->m * sizeof(double));
    for (size_t i = 0; i < s->n; i++) {
        const float *d_out = w->grad->d_out + i * io->out_stride + head * dim;
        rv_status status = rv__poll_by(ctx, &w->left, s->m * (2 * dim + 30));
        if (status) return status;
        w->du[i] = 0.0;
        for (size_t c = 0; c < s->m; c++) {
            const float *value = w->value + (kv * s->m + c) * dim;
            double *d_value = w->d_value + (kv * s->m + c) * dim, along = 0.0;
            const double mass = rv__centroid_mass(s, i, c);
            for (size_t x = 0; x < dim; x++) {
                along += (double)d_out[x] * (double)value[x];
                d_value[x] += mass * (double)d_out[x];
            }
            along *= mass;
            w->du[i] += along;
            w->dv[c] += along;
            w->dc[i * s->m + c] = -along;
        }
    }
    return RV_OK;
}

/* Back through iteration t. */
static rv_status rv__centroid_step(rv_ctx *ctx, rv__centroid *w, const rv__sinkhorn *s, size_t t)
{
    const size_t n = s->n, m = s->m;
    const double *u = s->history + t * (n + m), *v = u + n;
    const double *before = t ? u - (n + m) : NULL;
    for (size_t i = 0; i < n; i++) {
        rv_status status = rv__poll_by(ctx, &w->left, 60 * m);
        if (status) return status;
        for (size_t c = 0; c < m; c++) {
            const double r = w->du[i] * rv__exp(s->log_b[c] + u[i] + v[c] -
                                                (double)s->cost[i * m + c] * s->share);
            w->dv[c] -= r;
            w->dc[i * m + c] += r;
        }
    }
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        rv_status status = rv__poll_by(ctx, &w->left, 60 * m);
        if (status) return status;
        for (size_t c = 0; c < m; c++) {
            const double r = w->dv[c] * rv__exp(s->log_a[i] + (before ? before[i] : 0.0) + v[c] -
                                                (double)s->cost[i * m + c] * s->share);
            sum -= r;
            w->dc[i * m + c] += r;
        }
        w->du[i] = sum;
    }
    memset(w->dv, 0, m * sizeof(double));
    return RV_OK;
}

/* Slopes by queries and centroids from those by costs. */
static rv_status rv__centroid_points(rv_ctx *ctx, rv__centroid *w, size_t head,
                                     const rv__sinkhorn *s)
{
    const rv_attn_io *io = &w->a.io;
    const size_t kv = head / w->a.group, dim = io->dim;
    for (size_t i = 0; i < s->n; i++) {
        const float *q = io->q + i * io->q_stride + head * dim;
        rv_status status = rv__poll_by(ctx, &w->left, 2 * s->m * dim);
        if (status) return status;
        memset(w->sum, 0, dim * sizeof(double));
        for (size_t c = 0; c < s->m; c++) {
            const double along = 2.0 * w->dc[i * s->m + c] * s->share;
            const float *b = w->centroid + (kv * s->m + c) * dim;
            double *d_b = w->d_centroid + (kv * s->m + c) * dim;
            for (size_t x = 0; x < dim; x++) {
                const double gap = along * ((double)q[x] - (double)b[x]);
                w->sum[x] += gap;
                d_b[x] -= gap;
            }
        }
        for (size_t x = 0; w->grad->d_q && x < dim; x++)
            w->grad->d_q[(i * w->a.config.heads + head) * dim + x] = (float)w->sum[x];
    }
    return RV_OK;
}

/* Slopes by means, dealt out to the rows they are of. */
static rv_status rv__centroid_deal(rv_ctx *ctx, rv__centroid *w, const double *d_mean, size_t dim,
                                   float *rows)
{
    const size_t kv_heads = w->a.config.kv_heads, n_k = w->a.io.n_k;
    for (size_t at = 0; rows && at < n_k * kv_heads; at++) {
        const size_t kv = at % kv_heads, c = w->assign[kv * n_k + at / kv_heads];
        const double *from = d_mean + (kv * w->clusters + c) * dim;
        const double share = 1.0 / (double)w->count[kv * w->clusters + c];
        rv_status status = rv__poll_by(ctx, &w->left, 2 * dim);
        if (status) return status;
        for (size_t x = 0; x < dim; x++) rows[at * dim + x] = (float)(from[x] * share);
    }
    return RV_OK;
}

static rv_status rv__centroid_balanced(rv_ctx *ctx, rv__centroid *w)
{
    const size_t kv_heads = w->a.config.kv_heads;
    rv_status status = RV_OK;
    if (w->grad) {
        memset(w->d_centroid, 0, kv_heads * w->clusters * w->a.io.dim * sizeof(double));
        memset(w->d_value, 0, kv_heads * w->clusters * w->a.io.dim_v * sizeof(double));
    }
    for (size_t head = 0; head < w->a.config.heads && !status; head++) {
        rv__sinkhorn s;
        status = rv__centroid_potentials(ctx, w, head, &s);
        if (!status && !w->grad) status = rv__centroid_write(ctx, w, head, &s);
        if (status || !w->grad) continue;
        status = rv__centroid_end(ctx, w, head, &s);
        for (size_t t = w->sinkhorn; t-- > 0 && !status;)
            status = rv__centroid_step(ctx, w, &s, t);
        if (!status) status = rv__centroid_points(ctx, w, head, &s);
    }
    if (status || !w->grad) return status;
    if (w->grad->d_sinks) memset(w->grad->d_sinks, 0, w->a.config.heads * sizeof(float));
    status = rv__centroid_deal(ctx, w, w->d_centroid, w->a.io.dim, w->grad->d_k);
    return status ? status : rv__centroid_deal(ctx, w, w->d_value, w->a.io.dim_v, w->grad->d_v);
}

/* ---- the whole ---- */

static rv_status rv__centroid_check_base(rv_ctx *ctx, const rv__centroid *w,
                                         const rv_attn_config *base, const rv_attn_io *io)
{
    const char *field = NULL;
    if (rv__given(base->scale)) field = "scale";
    else if (rv__given(base->temperature)) field = "temperature";
    else if (base->order != RV_ATTN_ANY) field = "order";
    else if (base->past) field = "past";
    if (field) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "%s has no meaning for centroid attention; it must be 0", field);
    }
    if (!w->balanced) return RV_OK;
    if (io->mask) field = "mask";
    else if (base->windowed) field = "windowed";
    else if (rv__given(base->softcap)) field = "softcap";
    else if (base->slopes) field = "slopes";
    else if (base->sinks) field = "sinks";
    else if (io->lse) field = "lse";
    if (field) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "%s has no meaning for balanced transport; take RV_ATTN_SEMI_RELAXED",
                        field);
    }
    return RV_OK;
}

static rv_status rv__centroid_settle(rv_ctx *ctx, const rv_attn_centroid_config *config,
                                     const rv_attn_io *io, rv__centroid *w)
{
    rv_attn_centroid_config c;
    float epsilon;
    rv_status status;
    memset(&c, 0, sizeof c);
    if (config) c = *config;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io must not be NULL");
    if ((unsigned)c.balance > (unsigned)RV_ATTN_SEMI_RELAXED)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "balance is %z, allowed: 0..2", (size_t)c.balance);
    w->balanced = c.balance == RV_ATTN_BALANCED ||
                  (c.balance == RV_ATTN_BALANCE_AUTO && io->n_q > 1);
    status = rv__centroid_check_base(ctx, w, &c.base, io);
    if (!status) status = rv__attn_open(ctx, &c.base, io, NULL, &w->a);
    if (status) return status;
    epsilon = rv__default(c.epsilon, 0.1f);
    w->clusters = c.clusters ? c.clusters : 16;
    w->sinkhorn = c.sinkhorn ? c.sinkhorn : 20;
    w->kmeans.iterations = c.iterations ? c.iterations : 10;
    if (!rv__finite_f32(epsilon) || epsilon < 1e-30f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "epsilon is %f; it must be finite and above 0",
                        (double)epsilon);
    if (w->clusters > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "clusters is %z, allowed: 1 to 65535", w->clusters);
    if (w->sinkhorn > 10000u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "sinkhorn is %z, allowed: 1 to 10000", w->sinkhorn);
    if (w->kmeans.iterations > 10000u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "iterations is %z, allowed: 1 to 10000",
                        (size_t)w->kmeans.iterations);
    w->share = 1.0 / (double)epsilon;
    if (w->clusters > io->n_k) w->clusters = io->n_k;
    w->kmeans.k = (uint32_t)w->clusters;
    return RV_OK;
}

static rv_status rv__centroid_steps(rv_ctx *ctx, rv__centroid *w, const rv_attn_io *io)
{
    rv_status status = RV_OK;
    for (size_t kv = 0; kv < w->a.config.kv_heads && !status; kv++)
        status = rv__centroid_train(ctx, w, kv);
    if (!status) status = rv__centroid_costs(ctx, w);
    if (status) return status;
    return w->balanced ? rv__centroid_balanced(ctx, w) : rv__centroid_semi(ctx, w, io);
}

/* Deals memory out; with NULL it counts. */
static size_t rv__centroid_floats(rv__centroid *w, float *at)
{
    const rv_attn_io *io = &w->a.io;
    const size_t means = rv__mul(w->a.config.kv_heads, w->clusters);
    const size_t longest = io->dim > io->dim_v ? io->dim : io->dim_v;
    size_t n = 0, rows = rv__mul(io->n_q, w->clusters);
    w->centroid = at;
    n = rv__mul(means, io->dim);
    w->value = at ? at + n : NULL;
    if (w->balanced) n = rv__add(n, rv__mul(means, io->dim_v));
    w->cost = at ? at + n : NULL;
    n = rv__add(n, rv__mul(rows, w->a.config.heads));
    w->turned = at ? at + n : NULL;
    if (w->balanced) n = rv__add(n, rows);
    w->wide = at ? at + n : NULL;
    if (io->type != RV_DTYPE_F32) n = rv__add(n, rv__mul(io->n_k, longest));
    return n;
}

static double *rv__centroid_take(double **at, size_t *n, size_t count)
{
    double *here = *at;
    *n = rv__add(*n, count);
    if (here) *at += count;
    return here;
}

static size_t rv__centroid_doubles(rv__centroid *w, double *at)
{
    const rv_attn_io *io = &w->a.io;
    const size_t means = rv__mul(w->a.config.kv_heads, w->clusters), m = w->clusters;
    const size_t longest = io->dim > io->dim_v ? io->dim : io->dim_v;
    size_t n = 0;
    w->sum = rv__centroid_take(&at, &n, rv__mul(m, longest));
    if (!w->balanced) return n;
    w->log_a = rv__centroid_take(&at, &n, io->n_q);
    w->u = rv__centroid_take(&at, &n, io->n_q);
    w->log_b = rv__centroid_take(&at, &n, m);
    w->v = rv__centroid_take(&at, &n, m);
    w->old = rv__centroid_take(&at, &n, m);
    if (!w->grad) return n;
    w->history = rv__centroid_take(&at, &n, rv__mul(w->sinkhorn, rv__add(io->n_q, m)));
    w->du = rv__centroid_take(&at, &n, io->n_q);
    w->dv = rv__centroid_take(&at, &n, m);
    w->dc = rv__centroid_take(&at, &n, rv__mul(io->n_q, m));
    w->d_centroid = rv__centroid_take(&at, &n, rv__mul(means, io->dim));
    w->d_value = rv__centroid_take(&at, &n, rv__mul(means, io->dim_v));
    return n;
}

static rv_status rv__centroid_run(rv_ctx *ctx, const rv_attn_centroid_config *config,
                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    size_t n_floats, n_doubles, n_ids;
    float *floats;
    double *doubles;
    rv__centroid w;
    rv_status status;
    memset(&w, 0, sizeof w);
    w.grad = grad;
    status = rv__centroid_settle(ctx, config, io, &w);
    if (status) return status;
    if (io->n_q == 0) {
        /* no query: the engine writes slopes of 0 */
        if (grad) return rv__attn_backward(ctx, &w.a.config, io, grad, NULL);
        return rv__ok(ctx);
    }
    n_floats = rv__centroid_floats(&w, NULL);
    n_doubles = rv__centroid_doubles(&w, NULL);
    n_ids = rv__mul(w.a.config.kv_heads, rv__add(io->n_k, w.clusters));
    floats = (float *)rv__get(&alloc, n_floats, sizeof(float));
    doubles = (double *)rv__get(&alloc, n_doubles, sizeof(double));
    w.assign = (uint32_t *)rv__get(&alloc, n_ids, sizeof(uint32_t));
    if (!floats || !doubles || !w.assign) {
        status = rv__no_memory(ctx, rv__add(rv__mul(n_floats, 4), rv__mul(n_doubles, 8)));
    } else {
        w.count = w.assign + w.a.config.kv_heads * io->n_k;
        (void)rv__centroid_floats(&w, floats);
        (void)rv__centroid_doubles(&w, doubles);
        status = rv__centroid_steps(ctx, &w, io);
    }
    rv__put(&alloc, w.assign, n_ids, sizeof(uint32_t));
    rv__put(&alloc, doubles, n_doubles, sizeof(double));
    rv__put(&alloc, floats, n_floats, sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_attn_centroid(rv_ctx *ctx, const rv_attn_centroid_config *config,
                                  const rv_attn_io *io)
{
    return rv__centroid_run(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_centroid_backward(rv_ctx *ctx, const rv_attn_centroid_config *config,
                                           const rv_attn_io *io, const rv_attn_grad *grad)
{
    float unused;
    rv_attn_io with;
    if (!io || !grad || !grad->d_out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, grad and grad->d_out must not be NULL");
    with = *io;
    with.out = &unused;
    with.weights = with.lse = NULL;
    return rv__centroid_run(ctx, config, &with, grad);
}

#endif /* RV_ATTN_CENTROID_C */
