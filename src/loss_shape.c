#ifndef RV_LOSS_SHAPE_C
#define RV_LOSS_SHAPE_C
#include "loss.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "loss.c"

/* Triplets and regularizers. Differences and sums are in double, the two matrix products of the
   orthogonality penalty in float. What could fail after the first write (products, polls) works on
   scratch memory and is copied out at the end.

   Spectral norm: v = W^T u / |.|, u = W v / |.|, sigma = |W v|. Should u stand across all rows, the
   unit vector of the longest row takes its place; no row can then be across.

   Sources: Schroff, Kalenichenko, Philbin, FaceNet, 2015; Belkin, Niyogi, Laplacian eigenmaps for
   dimensionality reduction and data representation, 2003; Brock et al., Neural photo editing with
   introspective adversarial networks, 2017; Yoshida, Miyato, Spectral norm regularization for
   improving the generalizability of deep learning, 2017. */

#define RV__LOSS_POLL 262144u /* multiplications in double between two polls */

RV__FN rv_status rv__loss_check_level(rv_ctx *ctx, const char *name, float x, int zero)
{
    if (rv__finite_f32(x) && (x > 0.0f || (zero && x == 0.0f))) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, 0, zero ? "%s is %f; it must be 0 or more and finite"
                                             : "%s is %f; it must be above 0 and finite",
                    name, (double)x);
}

/* ---- triplets ---- */

static double rv__triplet_distance(const float *a, const float *b, size_t dim)
{
    double sum = 0.0;
    for (size_t j = 0; j < dim; j++) {
        double d = (double)a[j] - (double)b[j] + 1e-6;
        sum += d * d;
    }
    return sqrt(sum);
}

/* Row i; pull and push: the distances, both 0 at and below the hinge. */
static void rv__triplet_gradients(const rv_triplet_io *io, size_t i, double pull, double push)
{
    const double up = pull > 0.0 ? 1.0 / (pull * (double)io->n) : 0.0;
    const double down = push > 0.0 ? 1.0 / (push * (double)io->n) : 0.0;
    for (size_t j = i * io->dim; j < (i + 1) * io->dim; j++) {
        double a = (double)io->anchors[j];
        double to = (a - (double)io->positives[j] + 1e-6) * up;
        double away = (a - (double)io->negatives[j] + 1e-6) * down;
        if (io->d_anchors) io->d_anchors[j] = (float)(to - away);
        if (io->d_positives) io->d_positives[j] = (float)-to;
        if (io->d_negatives) io->d_negatives[j] = (float)away;
    }
}

RV_API rv_status rv_loss_triplet(rv_ctx *ctx, float margin, const rv_triplet_io *io, double *loss)
{
    double sum = 0.0;
    rv_status status = rv__loss_check_level(ctx, "margin", margin, 1);
    if (!status && (!io || !loss)) status = rv__fail(ctx, RV_ERR_ARG, 0, "io or loss is NULL");
    if (!status) status = rv__loss_check_size(ctx, io->n, io->dim);
    if (!status) status = rv__loss_check(ctx, "anchors", io->anchors, io->n * io->dim);
    if (!status) status = rv__loss_check(ctx, "positives", io->positives, io->n * io->dim);
    if (!status) status = rv__loss_check(ctx, "negatives", io->negatives, io->n * io->dim);
    if (status) return status;
    for (size_t i = 0; i < io->n; i++) {
        const float *a = io->anchors + i * io->dim;
        double pull = rv__triplet_distance(a, io->positives + i * io->dim, io->dim);
        double push = rv__triplet_distance(a, io->negatives + i * io->dim, io->dim);
        double over = pull - push + (double)margin;
        if (!(over > 0.0)) over = pull = push = 0.0;
        sum += over;
        rv__triplet_gradients(io, i, pull, push);
    }
    *loss = io->n ? sum / (double)io->n : 0.0;
    return rv__ok(ctx);
}

/* ---- graph smoothness ---- */

static rv_status rv__laplacian_check(rv_ctx *ctx, const uint32_t *from, const uint32_t *to,
                                     const float *weight, size_t n_edges, size_t n)
{
    if (n_edges && (!from || !to)) return rv__fail(ctx, RV_ERR_ARG, 0, "from or to is NULL");
    for (size_t e = 0; e < n_edges; e++) {
        if (from[e] >= n || to[e] >= n) {
            return rv__fail(ctx, RV_ERR_ARG, e,
                            "edge %z goes from %z to %z; both must be below n, %z", e,
                            (size_t)from[e], (size_t)to[e], n);
        }
        if (weight && !(rv__finite_f32(weight[e]) && weight[e] >= 0.0f)) {
            return rv__fail(ctx, RV_ERR_ARG, e, "weight[%z] is %f; it must be 0 or more and finite",
                            e, (double)weight[e]);
        }
    }
    return RV_OK;
}

/* scale[i] = 1 / sqrt(sum of weights at i), 0 where that is 0. */
static void rv__laplacian_scales(const uint32_t *from, const uint32_t *to, const float *weight,
                                 size_t n_edges, size_t n, double *scale)
{
    memset(scale, 0, n * sizeof *scale);
    for (size_t e = 0; e < n_edges; e++) {
        double w = weight ? (double)weight[e] : 1.0;
        scale[from[e]] += w;
        if (to[e] != from[e]) scale[to[e]] += w;
    }
    for (size_t i = 0; i < n; i++) scale[i] = scale[i] > 0.0 ? 1.0 / sqrt(scale[i]) : 0.0;
}

/* One edge: its part of the loss; d: [n, dim] gathers the gradient, or NULL. */
static double rv__laplacian_edge(const float *x, size_t dim, size_t i, size_t j, double w,
                                 const double *scale, double *d)
{
    const double si = scale ? scale[i] : 1.0, sj = scale ? scale[j] : 1.0;
    double sum = 0.0;
    for (size_t k = 0; k < dim; k++) {
        double gap = (double)x[i * dim + k] * si - (double)x[j * dim + k] * sj;
        sum += gap * gap;
        if (!d) continue;
        d[i * dim + k] += 2.0 * w * gap * si;
        d[j * dim + k] -= 2.0 * w * gap * sj;
    }
    return w * sum;
}

RV_API rv_status rv_loss_laplacian(rv_ctx *ctx, const float *x, size_t n, size_t dim,
                                   const uint32_t *from, const uint32_t *to, const float *weight,
                                   size_t n_edges, int normalized, double *loss, float *d_x)
{
    rv_alloc alloc = rv__allocator(ctx);
    double *d = NULL, *scale = NULL, sum = 0.0;
    rv_status status = rv__loss_check_size(ctx, n, dim);
    if (!status && !loss) status = rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (!status) status = rv__loss_check(ctx, "x", x, n * dim);
    if (!status) status = rv__laplacian_check(ctx, from, to, weight, n_edges, n);
    if (status) return status;
    if (normalized) {
        scale = (double *)rv__get(&alloc, n, sizeof(double));
        if (!scale) return rv__no_memory(ctx, n * sizeof(double));
        rv__laplacian_scales(from, to, weight, n_edges, n, scale);
    }
    if (d_x) {
        d = (double *)rv__get_zero(&alloc, n * dim, sizeof(double));
        if (!d) status = rv__no_memory(ctx, n * dim * sizeof(double));
    }
    for (size_t e = 0; e < n_edges && !status; e++) {
        if (e % (RV__LOSS_POLL / (dim < RV__LOSS_POLL ? dim : RV__LOSS_POLL)) == 0) {
            status = rv__poll(ctx);
        }
        sum += rv__laplacian_edge(x, dim, from[e], to[e], weight ? (double)weight[e] : 1.0, scale,
                                  d);
    }
    if (!status) {
        *loss = sum;
        for (size_t j = 0; d_x && j < n * dim; j++) d_x[j] = (float)d[j];
    }
    rv__put(&alloc, d, n * dim, sizeof(double));
    rv__put(&alloc, scale, n, sizeof(double));
    return status ? status : rv__ok(ctx);
}

/* ---- orthogonality ---- */

/* gram: [m, m], the products of rows or columns; on return 4 / divisor (gram / divisor - I), whose
   product with X is the gradient. Returns the loss. */
static double rv__orthogonal_gap(float *gram, size_t m, double divisor)
{
    double sum = 0.0;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < m; j++) {
            double gap = (double)gram[i * m + j] / divisor - (i == j ? 1.0 : 0.0);
            sum += gap * gap;
            gram[i * m + j] = (float)(4.0 / divisor * gap);
        }
    }
    return sum;
}

/* turned: [dim, n], d: [n, dim], gram: scratch. */
static rv_status rv__orthogonal_run(rv_ctx *ctx, const float *x, size_t n, size_t dim, int rows,
                                    double divisor, double *loss, float *d_x, float *turned,
                                    float *gram)
{
    const size_t m = rows ? n : dim;
    float *d = turned + n * dim;
    double sum;
    rv_status status;
    rv__loss_transpose(x, n, dim, turned);
    status = rows ? rv_gemm_nt_f32(ctx, x, 0, x, 0, n, n, dim, 0, gram, 0)
                  : rv_gemm_nt_f32(ctx, turned, 0, turned, 0, dim, dim, n, 0, gram, 0);
    if (status) return status;
    sum = rv__orthogonal_gap(gram, m, divisor);
    if (!rv__finite_f64(sum)) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "x is too large; its products leave the range of floats");
    }
    if (d_x) {
        status = rows ? rv_gemm_nt_f32(ctx, gram, 0, turned, 0, n, dim, n, 0, d, 0)
                      : rv_gemm_nt_f32(ctx, x, 0, gram, 0, n, dim, dim, 0, d, 0);
        if (status) return status;
        memcpy(d_x, d, n * dim * sizeof(float));
    }
    *loss = sum;
    return RV_OK;
}

RV_API rv_status rv_loss_orthogonal(rv_ctx *ctx, const float *x, size_t n, size_t dim, int rows,
                                    float divisor, double *loss, float *d_x)
{
    const size_t m = rows ? n : dim;
    rv_alloc alloc = rv__allocator(ctx);
    size_t count;
    float *block;
    rv_status status = rv__loss_check_size(ctx, n, dim);
    if (!status && n == 0) status = rv__fail(ctx, RV_ERR_ARG, 0, "n is 0; it must be 1 or more");
    if (!status && !loss) status = rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (!status) status = rv__loss_check_level(ctx, "divisor", divisor, 1);
    if (!status) status = rv__loss_check(ctx, "x", x, n * dim);
    if (status) return status;
    if (divisor == 0.0f) divisor = rows ? 1.0f : (float)n;
    count = rv__add(2 * n * dim, rv__mul(m, m));
    block = (float *)rv__get(&alloc, count, sizeof(float));
    if (!block) return rv__no_memory(ctx, rv__mul(count, sizeof(float)));
    status = rv__orthogonal_run(ctx, x, n, dim, rows, (double)divisor, loss, d_x, block,
                                block + 2 * n * dim);
    rv__put(&alloc, block, count, sizeof(float));
    return status ? status : rv__ok(ctx);
}

/* ---- lengths ---- */

RV_API rv_status rv_loss_norm(rv_ctx *ctx, const float *x, size_t n, size_t dim, float target,
                              double *loss, float *d_x)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    double sum = 0.0;
    rv_status status = rv__loss_check_size(ctx, n, dim);
    if (!status && !loss) status = rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (!status) status = rv__loss_check_level(ctx, "target", target, 1);
    if (!status) status = rv__loss_check(ctx, "x", x, n * dim);
    if (status) return status;
    for (size_t i = 0; i < n; i++) {
        double length = rv__loss_length(kernels, x + i * dim, dim), gap = length - (double)target;
        double scale = length > 0.0 ? 2.0 * gap / (length * (double)n) : 0.0;
        sum += gap * gap;
        for (size_t j = i * dim; d_x && j < (i + 1) * dim; j++) {
            d_x[j] = (float)((double)x[j] * scale);
        }
    }
    *loss = n ? sum / (double)n : 0.0;
    return rv__ok(ctx);
}

/* ---- spectral norm ---- */

static double rv__spectral_unit(double *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    sum = sqrt(sum);
    for (size_t i = 0; sum > 0.0 && i < n; i++) x[i] /= sum;
    return sum;
}

/* v = W^T u, or u = W v. */
static rv_status rv__spectral_times(rv_ctx *ctx, const float *w, size_t m, size_t n, double *u,
                                    double *v, int turned)
{
    size_t done = RV__LOSS_POLL;
    if (turned) memset(v, 0, n * sizeof *v);
    for (size_t i = 0; i < m; i++) {
        double sum = 0.0;
        if (done >= RV__LOSS_POLL) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            done = 0;
        }
        done += n;
        if (turned) {
            for (size_t j = 0; j < n; j++) v[j] += u[i] * (double)w[i * n + j];
        } else {
            for (size_t j = 0; j < n; j++) sum += (double)w[i * n + j] * v[j];
            u[i] = sum;
        }
    }
    return RV_OK;
}

/* u = the unit vector of the longest row. */
static void rv__spectral_restart(const float *w, size_t m, size_t n, double *u)
{
    double best = -1.0;
    size_t at = 0;
    for (size_t i = 0; i < m; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < n; j++) sum += (double)w[i * n + j] * (double)w[i * n + j];
        if (sum > best) {
            best = sum;
            at = i;
        }
    }
    memset(u, 0, m * sizeof *u);
    u[at] = 1.0;
}

static void rv__spectral_start(rv_ctx *ctx, const float *given, size_t m, double *u)
{
    rv__rng rng;
    for (size_t i = 0; i < m; i++) u[i] = given ? (double)given[i] : 0.0;
    if (rv__spectral_unit(u, m) > 0.0) return;
    rv__rng_init(&rng, rv__seed(ctx));
    for (size_t i = 0; i < m; i++) u[i] = (double)rv__rng_f32(&rng) - 0.5;
    if (rv__spectral_unit(u, m) == 0.0) u[0] = 1.0;
}

static rv_status rv__spectral_run(rv_ctx *ctx, const float *w, size_t m, size_t n,
                                  uint32_t iterations, double *u, double *v, double *sigma)
{
    double length = 0.0;
    for (uint32_t t = 0; t < iterations; t++) {
        rv_status status = rv__spectral_times(ctx, w, m, n, u, v, 1);
        if (!status && rv__spectral_unit(v, n) == 0.0) {
            rv__spectral_restart(w, m, n, u);
            status = rv__spectral_times(ctx, w, m, n, u, v, 1);
            if (!status && rv__spectral_unit(v, n) == 0.0) break; /* a matrix of zeros */
        }
        if (!status) status = rv__spectral_times(ctx, w, m, n, u, v, 0);
        if (status) return status;
        length = rv__spectral_unit(u, m);
    }
    *sigma = length;
    return RV_OK;
}

RV_API rv_status rv_loss_spectral(rv_ctx *ctx, const float *w, size_t m, size_t n,
                                  uint32_t iterations, float *u, double *sigma, float *d_w)
{
    rv_alloc alloc = rv__allocator(ctx);
    double *left, *right, length;
    rv_status status = rv__loss_check_size(ctx, m, n);
    if (!status && m == 0) status = rv__fail(ctx, RV_ERR_ARG, 0, "m is 0; it must be 1 or more");
    if (!status && !sigma) status = rv__fail(ctx, RV_ERR_ARG, 0, "sigma is NULL");
    if (!status && (iterations < 1 || iterations > 10000)) {
        status = rv__fail(ctx, RV_ERR_ARG, 0, "iterations is %z; it must be 1..10000",
                          (size_t)iterations);
    }
    if (!status) status = rv__loss_check(ctx, "w", w, m * n);
    if (!status && u) status = rv__loss_check(ctx, "u", u, m);
    if (status) return status;
    left = (double *)rv__get(&alloc, m + n, sizeof(double));
    if (!left) return rv__no_memory(ctx, (m + n) * sizeof(double));
    right = left + m;
    rv__spectral_start(ctx, u, m, left);
    status = rv__spectral_run(ctx, w, m, n, iterations, left, right, &length);
    if (!status) {
        *sigma = length;
        for (size_t i = 0; u && i < m; i++) u[i] = (float)left[i];
        for (size_t i = 0; d_w && i < m; i++) {
            for (size_t j = 0; j < n; j++) d_w[i * n + j] = (float)(left[i] * right[j]);
        }
    }
    rv__put(&alloc, left, m + n, sizeof(double));
    return status ? status : rv__ok(ctx);
}

#undef RV__LOSS_POLL

#endif /* RV_LOSS_SHAPE_C */
