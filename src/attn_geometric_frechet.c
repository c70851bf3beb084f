#ifndef RV_ATTN_GEOMETRIC_FRECHET_C
#define RV_ATTN_GEOMETRIC_FRECHET_C
#include "attn_geometric.h"
#include "base.c"
#include "mathx.c"
#include "hyperbolic.c"
#include "hyperbolic_mean.c"
#include "attn_back.c"
#include "attn_geometric.c"
#include "attn_geometric_mean.c"

/* Frechet means of the ball, one query after the other, by the Karcher flow of hyperbolic_mean.c.

   Gradients by the implicit function: with e_j = log_m(x_j) in an orthonormal frame at the mean m,
   F = sum w_j e_j = 0 and, D_j being the distance times sqrt(c) and r_j the direction of e_j,
       -dF/dm = H = sum w_j (r r^T + D coth D (1 - r r^T))
   so that a slope g by m gives, with H u = g / lambda_m (conjugate gradients), u . e_j by w_j and
   the transport of w_j (u along r + D / sinh D times u across r) from m to x_j. The slopes by the
   weights go to the logits as if they were values: out = sum w_j (u . e_j).
   Source: Lou et al., Differentiating through the Frechet mean, 2020. */

typedef struct rv__geo_mean {
    rv__hyp_cloud cloud;  /* the values, and the origin                                           */
    double total;         /* of the weights; 0: sees no key                                       */
    double *at;           /* [dim_v] the mean; six more for work behind it                        */
    double lambda;
} rv__geo_mean;

static rv_status rv__geo_mean_of(rv_ctx *ctx, const rv__geo *g, size_t head, size_t i,
                                 rv__geo_mean *m)
{
    const size_t dim = g->io.dim_v;
    double length = 0.0;
    rv_status status = rv__geo_row(ctx, g, head, i, g->weights, &m->total);
    m->at = g->sums;
    memset(m->at, 0, dim * sizeof *m->at);
    m->cloud = rv__hyp_cloud_of(rv__reals_f32(g->v + rv__geo_kv(g, head) * dim),
                                rv__reals_f32(g->weights), g->io.n_k + 1, dim, g->kappa, 0);
    m->cloud.stride = g->config.kv_heads * dim;
    if (status || !(m->total > 0.0 || !rv__finite_f64(m->total))) return status;
    status = rv__hyp_centre(ctx, &m->cloud, m->total, m->at, rv__outs_f64(m->at));
    for (uint32_t t = 0; t < g->iterations && !status; t++) {
        status = rv__hyp_flow(ctx, &m->cloud, m->total, m->at, &length);
        if (!(length > g->tolerance)) break;
    }
    m->lambda = rv__hyp_conformal(rv__reals_f64(m->at), dim, g->kappa);
    return status;
}

static rv_status rv__geo_frechet(rv_ctx *ctx, rv__geo *g)
{
    const size_t rows = g->io.n_q * g->config.heads, heads = g->config.heads, dim = g->io.dim_v;
    rv_status status = RV_OK;
    if (g->io.weights || g->io.lse) { /* what else the caller wants */
        rv_attn_io io;
        rv__attn_score score;
        rv__geo_engine(g, &io, &score);
        status = rv__attn_forward(ctx, &g->config, &io, &score);
    }
    for (size_t r = 0; r < rows && !status; r++) {
        float *out = g->io.out + r / heads * g->io.out_stride + r % heads * dim;
        rv__geo_mean m;
        status = rv__geo_mean_of(ctx, g, r % heads, r / heads, &m);
        if (status) break;
        rv__hyp_times(rv__reals_f64(m.at), dim, 1.0, rv__outs_f32(out));
        rv__hyp_project(rv__outs_f32(out), dim, g->kappa);
    }
    return status;
}

/* e_j into log: [dim_v], D; the point, pulled in, is at `point`. Returns its weight. */
static double rv__geo_mean_log(const rv__geo_mean *m, size_t j, double *point, double *log,
                               double *d, double *pull)
{
    const size_t dim = m->cloud.dim;
    double lambda;
    rv__reals row = rv__hyp_cloud_row(&m->cloud, j, &lambda, pull);
    rv__hyp_times(row, dim, *pull, rv__outs_f64(point));
    *d = rv__hyp_log(rv__reals_f64(m->at), rv__reals_f64(point), m->lambda, dim, m->cloud.kappa,
                     rv__outs_f64(log));
    *d *= sqrt(-m->cloud.kappa);
    return rv__hyp_cloud_weight(&m->cloud, j) / m->total;
}

/* out = H x; work: [2 dim_v]. */
static rv_status rv__geo_bend(rv_ctx *ctx, const rv__geo_mean *m, const double *x, double *out,
                              double *work)
{
    const size_t dim = m->cloud.dim;
    double *log = work + dim;
    memset(out, 0, dim * sizeof *out);
    for (size_t j = 0; j < m->cloud.n; j++) {
        rv_status status = rv__hyp_poll(ctx, j, dim);
        double d, pull, bend, along, ee, w;
        if (status) return status;
        if (!(rv__hyp_cloud_weight(&m->cloud, j) > 0.0)) continue;
        w = rv__geo_mean_log(m, j, work, log, &d, &pull);
        bend = rv__hyp_bend(d);
        ee = rv__hyp_dot(rv__reals_f64(log), rv__reals_f64(log), dim);
        along = ee > 0.0 ? rv__hyp_dot(rv__reals_f64(log), rv__reals_f64(x), dim) / ee : 0.0;
        for (size_t a = 0; a < dim; a++)
            out[a] += w * (bend * x[a] + (1.0 - bend) * along * log[a]);
    }
    return RV_OK;
}

/* u with H u = b by conjugate gradients; b is used up. work: [4 dim_v]. */
static rv_status rv__geo_unbend(rv_ctx *ctx, const rv__geo_mean *m, double *b, double *u,
                                double *work)
{
    const size_t dim = m->cloud.dim;
    double *p = work, *hp = work + dim, rr = 0.0, first;
    memset(u, 0, dim * sizeof *u);
    memcpy(p, b, dim * sizeof *p);
    rr = first = rv__hyp_dot(rv__reals_f64(b), rv__reals_f64(b), dim);
    for (size_t t = 0; t < 2 * dim + 20 && rr > 1e-26 * first; t++) {
        double step, was = rr;
        rv_status status = rv__geo_bend(ctx, m, p, hp, work + 2 * dim);
        if (status) return status;
        step = rr / rv__hyp_dot(rv__reals_f64(p), rv__reals_f64(hp), dim);
        for (size_t a = 0; a < dim; a++) {
            u[a] += step * p[a];
            b[a] -= step * hp[a];
        }
        rr = rv__hyp_dot(rv__reals_f64(b), rv__reals_f64(b), dim);
        for (size_t a = 0; a < dim; a++) p[a] = b[a] + rr / was * p[a];
    }
    return RV_OK;
}

/* Slopes by weights into the column, by values added to d_v. u: orthonormal at the mean. */
static rv_status rv__geo_spread(rv_ctx *ctx, const rv__geo *g, const rv__geo_mean *m, size_t kv,
                                const double *u, double *work)
{
    const size_t dim = g->io.dim_v, n = g->io.n_k;
    double *point = work, *log = work + dim, *by = work + 2 * dim;
    for (size_t j = 0; j <= n; j++) {
        rv_status status = rv__hyp_poll(ctx, j, dim);
        float *to = g->d_v + j * m->cloud.stride + kv * dim;
        double d, pull, w, ee, eu, shrink, lambda;
        if (status) return status;
        w = rv__geo_mean_log(m, j, point, log, &d, &pull);
        eu = rv__hyp_dot(rv__reals_f64(log), rv__reals_f64(u), dim);
        ee = rv__hyp_dot(rv__reals_f64(log), rv__reals_f64(log), dim);
        g->column[j] = (float)eu;
        if (!(w > 0.0) || j == n) continue;
        shrink = 1.0 / rv__hyp_sinc(-1.0, d);
        for (size_t a = 0; a < dim; a++) {
            const double along = ee > 0.0 ? eu / ee * log[a] : 0.0;
            by[a] = w / m->lambda * (along + shrink * (u[a] - along));
        }
        lambda = rv__hyp_conformal(rv__reals_f64(point), dim, g->kappa);
        rv__hyp_transport(rv__reals_f64(m->at), rv__reals_f64(point), rv__reals_f64(by), dim,
                          g->kappa, rv__outs_f64(by));
        for (size_t a = 0; a < dim; a++) by[a] *= lambda * lambda;
        if (pull != 1.0) {
            for (size_t a = 0; a < dim; a++) point[a] /= pull;
            rv__geo_unpull(point, pull, by, dim);
        }
        for (size_t a = 0; a < dim; a++) to[a] += (float)by[a];
    }
    for (size_t j = 0; g->config.sinks && j < n; j++) g->column[j] -= g->column[n];
    return RV_OK;
}

/* The column's slopes on to the logits of the query. */
static rv_status rv__geo_column(rv_ctx *ctx, const rv__geo *g, size_t head, size_t i)
{
    const size_t kvs = g->config.kv_heads, kv = rv__geo_kv(g, head);
    const float one = 1.0f;
    float out = 0.0f, sink = 0.0f;
    rv__geo_sub sub;
    rv_attn_grad grad;
    rv_status status;
    memset(&grad, 0, sizeof grad);
    if (!rv__geo_sub_init(&sub, g, head, i, &out)) return RV_OK;
    sub.io.v = g->column;
    sub.io.v_stride = 1;
    grad.d_out = &one;
    grad.d_q = g->d_q + (i * g->config.heads + head) * g->wide;
    grad.d_k = g->d_keys;
    if (g->grad->d_sinks) grad.d_sinks = &sink;
    status = rv__attn_backward(ctx, &sub.config, &sub.io, &grad, &sub.score);
    if (status) return status;
    if (g->grad->d_sinks) g->grad->d_sinks[head] += sink;
    for (size_t j = 0; j < sub.io.n_k; j++)
        g->kernels->add_f32(g->d_keys + j * g->wide, g->d_k + (j * kvs + kv) * g->wide, g->wide);
    return RV_OK;
}

/* Slopes by prepared rows. */
static rv_status rv__geo_frechet_pull(rv_ctx *ctx, rv__geo *g)
{
    const size_t heads = g->config.heads, dim = g->io.dim_v, n_k = g->io.n_k * g->config.kv_heads;
    rv_status status = RV_OK;
    memset(g->d_q, 0, g->io.n_q * heads * g->wide * sizeof(float));
    memset(g->d_k, 0, n_k * g->wide * sizeof(float));
    memset(g->d_v, 0, n_k * dim * sizeof(float));
    if (g->grad->d_sinks) memset(g->grad->d_sinks, 0, heads * sizeof(float));
    for (size_t r = 0; r < g->io.n_q * heads && !status; r++) {
        const size_t head = r % heads, i = r / heads;
        const float *slope = g->grad->d_out + i * g->io.out_stride + head * dim;
        double *b, *u, *work;
        rv__geo_mean m;
        status = rv__geo_mean_of(ctx, g, head, i, &m);
        if (status || !(m.total > 0.0)) continue;
        b = m.at + dim;
        u = b + dim;
        work = u + dim;
        for (size_t a = 0; a < dim; a++) b[a] = (double)slope[a] / m.lambda;
        status = rv__geo_unbend(ctx, &m, b, u, work);
        if (!status) status = rv__geo_spread(ctx, g, &m, rv__geo_kv(g, head), u, work);
        if (!status) status = rv__geo_column(ctx, g, head, i);
    }
    return status;
}

#endif /* RV_ATTN_GEOMETRIC_FRECHET_C */
