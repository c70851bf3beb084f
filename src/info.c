#ifndef RV_INFO_C
#define RV_INFO_C
#include "info.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"

/* Fisher-Rao distance: p -> 2 sqrt(p) carries the simplex onto a sphere of radius 2, where the way
   is the angle. With u = sqrt(p), v = sqrt(q) of length 1, the angle is 2 atan2(|u - v|, |u + v|),
   which keeps all digits where arccos(u . v) keeps half of them.

   Fisher's matrix: F = diag(p) - p p^T has the kernel of constants (and of elements with p = 0), so
   F^+ b takes b less its mean, solves diag(p) x = b and takes the mean from x. With damping e the
   matrix is D - p p^T, D = diag(p + e), and by Sherman and Morrison
       x = D^-1 b + D^-1 p (p D^-1 b) / (1 - p D^-1 p),   1 - p D^-1 p = sum of p e / (p + e),
   where the last form, for p of sum 1, has no cancellation.

   Bottleneck: noise comes from two mixed counters per element by Box and Muller's formula, so the
   gradient makes it again instead of keeping it.

   Sources: as in the header; Box, Muller, A note on the generation of random normal deviates,
   1958. */

#define RV__INFO_POLL 65536u /* elements between two polls */

/* n rows of dim elements must be a size, and x finite. */
static rv_status rv__info_check(rv_ctx *ctx, const char *name, const float *x, size_t n, size_t dim)
{
    if (dim == 0 && n) return rv__fail(ctx, RV_ERR_ARG, 0, "dim is 0; it must be 1 or more");
    if (rv__mul(n, dim) > SIZE_MAX / 64)
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z rows of %z; that is no size", n, dim);
    if (n && !x) return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", name);
    return rv__check_finite(ctx, name, x, n * dim);
}

/* Rows of 0 or more; of sum 1, if so is wanted. */
static rv_status rv__info_check_rows(rv_ctx *ctx, const char *name, const float *p, size_t n,
                                     size_t dim, int one)
{
    rv_status status = rv__info_check(ctx, name, p, n, dim);
    for (size_t i = 0; i < n && !status; i++) {
        double sum = 0.0;
        for (size_t j = i * dim; j < (i + 1) * dim; j++) {
            if (p[j] < 0.0f)
                return rv__fail(ctx, RV_ERR_ARG, j, "%s[%z] is %f; it must be 0 or more", name, j,
                                (double)p[j]);
            sum += (double)p[j];
        }
        if (one && (sum < 0.999 || sum > 1.001))
            return rv__fail(ctx, RV_ERR_ARG, i * dim,
                            "row %z of %s sums to %f; it must be within 1e-3 of 1", i, name, sum);
    }
    return status;
}

RV_API rv_status rv_info_entropy(rv_ctx *ctx, const float *p, size_t n, size_t dim,
                                 double *entropy)
{
    rv_status status = rv__info_check_rows(ctx, "p", p, n, dim, 1);
    if (status) return status;
    if (n && !entropy) return rv__fail(ctx, RV_ERR_ARG, 0, "entropy is NULL");
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (size_t j = i * dim; j < (i + 1) * dim; j++)
            if (p[j] > 0.0f) sum -= (double)p[j] * rv__log((double)p[j]);
        entropy[i] = sum > 0.0 ? sum : 0.0;
    }
    return rv__ok(ctx);
}

static double rv__info_angle(const float *p, const float *q, size_t dim)
{
    double sum_p = 0.0, sum_q = 0.0, apart = 0.0, along = 0.0;
    for (size_t j = 0; j < dim; j++) {
        sum_p += (double)p[j];
        sum_q += (double)q[j];
    }
    for (size_t j = 0; j < dim; j++) {
        const double u = sqrt((double)p[j] / sum_p), v = sqrt((double)q[j] / sum_q);
        apart += (u - v) * (u - v);
        along += (u + v) * (u + v);
    }
    return 4.0 * rv__atan2(sqrt(apart), sqrt(along));
}

RV_API rv_status rv_info_fisher_rao(rv_ctx *ctx, const float *p, const float *q, size_t n,
                                    size_t dim, double *distance)
{
    rv_status status = rv__info_check_rows(ctx, "p", p, n, dim, 1);
    if (!status) status = rv__info_check_rows(ctx, "q", q, n, dim, 1);
    if (status) return status;
    if (n && !distance) return rv__fail(ctx, RV_ERR_ARG, 0, "distance is NULL");
    for (size_t i = 0; i < n; i++)
        distance[i] = rv__info_angle(p + i * dim, q + i * dim, dim);
    return rv__ok(ctx);
}

RV_API rv_status rv_info_compress(rv_ctx *ctx, const float *w, size_t n, size_t dim,
                                  float temperature, float *out)
{
    rv_status status = rv__info_check_rows(ctx, "w", w, n, dim, 0);
    if (status) return status;
    if (n && !out) return rv__fail(ctx, RV_ERR_ARG, 0, "out is NULL");
    if (!rv__finite_f32(temperature) || !(temperature > 0.0f))
        return rv__fail(ctx, RV_ERR_ARG, 0, "temperature is %f; it must be finite and above 0",
                        (double)temperature);
    for (size_t i = 0; i < n; i++) {
        const float *from = w + i * dim;
        float *to = out + i * dim;
        double top = 0.0, sum = 0.0;
        for (size_t j = 0; j < dim; j++) top = (double)from[j] > top ? (double)from[j] : top;
        for (size_t j = 0; j < dim; j++) {
            const double x = (double)from[j];
            const double e = x > 0.0 ? rv__exp(rv__log(x / top) / (double)temperature) : 0.0;
            sum += e;
            to[j] = (float)e;
        }
        for (size_t j = 0; j < dim && sum > 0.0; j++) to[j] = (float)((double)to[j] / sum);
    }
    return rv__ok(ctx);
}

/* ---- conjugate gradients ---- */

static double rv__cg_dot(const double *a, const double *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* work: [4 n]: solution, residual, direction, A times direction. */
static rv_status rv__cg_steps(rv_ctx *ctx, const rv_cg_io *io, uint32_t most, double tolerance,
                              double *work, uint32_t *done, double *residual)
{
    const size_t n = io->n;
    double *x = work, *r = work + n, *d = work + 2 * n, *a = work + 3 * n, square;
    const double whole = rv__cg_dot(io->b, io->b, n);
    rv_status status = rv__poll(ctx);
    *done = 0;
    *residual = 0.0;
    memset(x, 0, n * sizeof(double));
    if (status || whole == 0.0) return status;
    memcpy(x, io->x, n * sizeof(double));
    io->times(io->user, x, a);
    for (size_t i = 0; i < n; i++) d[i] = r[i] = io->b[i] - a[i];
    square = rv__cg_dot(r, r, n);
    while (*done < most && square > tolerance * tolerance * whole) {
        double curve, step, next;
        status = rv__poll(ctx);
        if (status) return status;
        io->times(io->user, d, a);
        curve = rv__cg_dot(d, a, n);
        if (!rv__finite_f64(curve) || curve < 0.0)
            return rv__fail(ctx, RV_ERR_ARG, 0, "d A d is %f; it must be finite and not negative",
                            curve);
        if (curve == 0.0) break; /* what is left lies in the kernel */
        step = square / curve;
        for (size_t i = 0; i < n; i++) x[i] += step * d[i];
        for (size_t i = 0; i < n; i++) r[i] -= step * a[i];
        next = rv__cg_dot(r, r, n);
        for (size_t i = 0; i < n; i++) d[i] = r[i] + next / square * d[i];
        square = next;
        ++*done;
    }
    *residual = sqrt(square / whole);
    if (rv__finite_f64(square)) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, 0, "the residual is %f; A must be finite", square);
}

RV_API rv_status rv_cg_run(rv_ctx *ctx, const rv_cg_config *config, rv_cg_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const uint32_t most = config && config->iterations ? config->iterations : 50u;
    const double tolerance = config && config->tolerance != 0.0 ? config->tolerance : 1e-6;
    double *work, residual;
    uint32_t done;
    size_t count;
    rv_status status;
    if (!io || !io->times || (io->n && (!io->b || !io->x)))
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, times, b and x must not be NULL");
    if (!rv__finite_f64(tolerance) || tolerance < 0.0)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "tolerance is %f; it must be finite and above 0",
                        tolerance);
    for (size_t i = 0; i < io->n; i++)
        if (!rv__finite_f64(io->b[i]) || !rv__finite_f64(io->x[i]))
            return rv__fail(ctx, RV_ERR_ARG, i, "b[%z] or x[%z] is not finite", i, i);
    count = rv__mul(io->n, 4);
    work = (double *)rv__get(&alloc, count, sizeof(double));
    if (!work) return rv__no_memory(ctx, rv__mul(count, sizeof(double)));
    status = rv__cg_steps(ctx, io, most, tolerance, work, &done, &residual);
    if (!status) {
        memcpy(io->x, work, io->n * sizeof(double));
        io->iterations = done;
        io->residual = residual;
    }
    rv__put(&alloc, work, count, sizeof(double));
    return status ? status : rv__ok(ctx);
}

/* ---- Fisher's information ---- */

typedef struct rv__fisher {
    const double *p;
    size_t n;
    double damping;
} rv__fisher;

static void rv__fisher_apply(void *user, const double *v, double *out)
{
    const rv__fisher *f = (const rv__fisher *)user;
    const double along = rv__cg_dot(f->p, v, f->n);
    for (size_t i = 0; i < f->n; i++)
        out[i] = f->p[i] * (v[i] - along) + f->damping * v[i];
}

/* Takes the mean over the elements with p > 0 from x, others become 0. */
static void rv__fisher_centre(const double *p, double *x, size_t n)
{
    double sum = 0.0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(p[i] > 0.0)) continue;
        sum += x[i];
        count++;
    }
    for (size_t i = 0; i < n; i++) x[i] = p[i] > 0.0 ? x[i] - sum / (double)count : 0.0;
}

static void rv__fisher_closed(const rv__fisher *f, double *x)
{
    const double e = f->damping, *p = f->p;
    double along = 0.0, rest = 0.0;
    if (!(e > 0.0)) {
        rv__fisher_centre(p, x, f->n);
        for (size_t i = 0; i < f->n; i++) x[i] = p[i] > 0.0 ? x[i] / p[i] : 0.0;
        rv__fisher_centre(p, x, f->n);
        return;
    }
    for (size_t i = 0; i < f->n; i++) {
        const double share = p[i] / (p[i] + e);
        along += share * x[i];
        rest += share * e;
    }
    for (size_t i = 0; i < f->n; i++) x[i] = (x[i] + p[i] * (along / rest)) / (p[i] + e);
}

/* x: b, which becomes the solution. p of sum 1. */
static rv_status rv__fisher_invert(rv_ctx *ctx, const rv_fisher_config *config, rv__fisher *f,
                                   double *x)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t n = f->n;
    rv_cg_config how;
    rv_cg_io io;
    rv_status status;
    double *start;
    if (config->method == RV_FISHER_DIAGONAL) {
        for (size_t i = 0; i < n; i++) {
            const double by = f->p[i] + f->damping;
            x[i] = by > 0.0 ? x[i] / by : 0.0;
        }
        return RV_OK;
    }
    if (config->method == RV_FISHER_CLOSED) {
        rv__fisher_closed(f, x);
        return RV_OK;
    }
    if (!(f->damping > 0.0)) rv__fisher_centre(f->p, x, n); /* into the range of F */
    memset(&io, 0, sizeof io);
    start = (double *)rv__get_zero(&alloc, n, sizeof(double));
    if (!start) return rv__no_memory(ctx, rv__mul(n, sizeof(double)));
    io.n = n;
    io.times = rv__fisher_apply;
    io.user = f;
    io.b = x;
    io.x = start;
    how.iterations = config->iterations;
    how.tolerance = (double)config->tolerance;
    status = rv_cg_run(ctx, &how, &io);
    if (!status) memcpy(x, start, n * sizeof(double));
    rv__put(&alloc, start, n, sizeof(double));
    return status;
}

static rv_status rv__fisher_check(rv_ctx *ctx, const rv_fisher_config *config,
                                  rv_fisher_config *settled)
{
    memset(settled, 0, sizeof *settled);
    if (config) *settled = *config;
    if ((unsigned)settled->method > (unsigned)RV_FISHER_DIAGONAL)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "method is %d; it must be one of rv_fisher_method",
                        (int)settled->method);
    if (!rv__finite_f32(settled->damping) || settled->damping < 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "damping is %f; it must be finite and 0 or more",
                        (double)settled->damping);
    if (!rv__finite_f32(settled->lr) || settled->lr < 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "lr is %f; it must be finite and above 0",
                        (double)settled->lr);
    if (!rv__finite_f32(settled->tolerance) || settled->tolerance < 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "tolerance is %f; it must be finite and above 0",
                        (double)settled->tolerance);
    return RV_OK;
}

RV_API rv_status rv_fisher_times(rv_ctx *ctx, const float *p, const float *v, size_t n,
                                 float damping, float *out)
{
    double along = 0.0;
    rv_status status = rv__info_check_rows(ctx, "p", p, 1, n, 1);
    if (!status) status = rv__info_check(ctx, "v", v, 1, n);
    if (!status && !out) status = rv__fail(ctx, RV_ERR_ARG, 0, "out is NULL");
    if (!status && (!rv__finite_f32(damping) || damping < 0.0f))
        status = rv__fail(ctx, RV_ERR_ARG, 0, "damping is %f; it must be finite and 0 or more",
                          (double)damping);
    if (status) return status;
    for (size_t i = 0; i < n; i++) along += (double)p[i] * (double)v[i];
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)p[i] * ((double)v[i] - along) + (double)damping * (double)v[i]);
    return rv__ok(ctx);
}

RV_API rv_status rv_fisher_solve(rv_ctx *ctx, const rv_fisher_config *config, const float *p,
                                 const float *b, size_t n, float *x)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_fisher_config settled;
    rv__fisher f;
    double *work, sum = 0.0;
    rv_status status = rv__fisher_check(ctx, config, &settled);
    if (!status) status = rv__info_check_rows(ctx, "p", p, 1, n, 1);
    if (!status) status = rv__info_check(ctx, "b", b, 1, n);
    if (!status && !x) status = rv__fail(ctx, RV_ERR_ARG, 0, "x is NULL");
    if (status) return status;
    work = (double *)rv__get(&alloc, 2 * n, sizeof(double));
    if (!work) return rv__no_memory(ctx, 2 * n * sizeof(double));
    for (size_t i = 0; i < n; i++) sum += (double)p[i];
    for (size_t i = 0; i < n; i++) {
        work[i] = (double)p[i] / sum;
        work[n + i] = (double)b[i];
    }
    f.p = work;
    f.n = n;
    f.damping = (double)settled.damping;
    status = rv__fisher_invert(ctx, &settled, &f, work + n);
    for (size_t i = 0; i < n && !status; i++) x[i] = (float)work[n + i];
    rv__put(&alloc, work, 2 * n, sizeof(double));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_fisher_step(rv_ctx *ctx, const rv_fisher_config *config, float *theta,
                                const float *grad, size_t n)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_fisher_config settled;
    rv__fisher f;
    double *work, sum = 0.0, mean = 0.0, top, lr;
    rv_status status = rv__fisher_check(ctx, config, &settled);
    if (!status) status = rv__info_check(ctx, "theta", theta, 1, n);
    if (!status) status = rv__info_check(ctx, "grad", grad, 1, n);
    if (status) return status;
    work = (double *)rv__get(&alloc, 2 * n, sizeof(double));
    if (!work) return rv__no_memory(ctx, 2 * n * sizeof(double));
    lr = settled.lr > 0.0f ? (double)settled.lr : 0.1;
    top = (double)theta[0];
    for (size_t i = 1; i < n; i++) top = (double)theta[i] > top ? (double)theta[i] : top;
    for (size_t i = 0; i < n; i++) {
        sum += work[i] = rv__exp((double)theta[i] - top);
        mean += (double)grad[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        work[i] /= sum;
        work[n + i] = (double)grad[i] - mean;
    }
    f.p = work;
    f.n = n;
    f.damping = settled.damping > 0.0f ? (double)settled.damping : 1e-8;
    status = rv__fisher_invert(ctx, &settled, &f, work + n);
    for (size_t i = 0; i < n && !status; i++)
        theta[i] = (float)((double)theta[i] - lr * work[n + i]);
    rv__put(&alloc, work, 2 * n, sizeof(double));
    return status ? status : rv__ok(ctx);
}

/* ---- variational information bottleneck ---- */

typedef struct rv__vib {
    double beta, low; /* beta_t; the least logvar */
    uint64_t key;     /* of the noise             */
} rv__vib;

static int rv__vib_settle(const rv_vib_config *config, uint64_t step, rv__vib *vib)
{
    const float beta = config && rv__given(config->beta) ? config->beta : 0.1f;
    const float least = config ? config->min_variance : 0.0f;
    const uint64_t anneal = config && config->anneal ? config->anneal : 1000u;
    vib->beta = step < anneal ? (double)beta * (double)step / (double)anneal : (double)beta;
    vib->low = least > 0.0f ? rv__log((double)least) : -20.0;
    if (!rv__finite_f32(beta) || beta < 0.0f) return 1;
    if (!rv__finite_f32(least) || least < 0.0f || vib->low > 0.0 || vib->low < -20.0001) return 2;
    if (vib->low < -20.0) vib->low = -20.0;
    return 0;
}

RV_API double rv_vib_beta(const rv_vib_config *config, uint64_t step)
{
    rv__vib vib;
    if (rv__vib_settle(config, step, &vib)) return (double)rv__nan();
    return vib.beta;
}

static rv_status rv__vib_check(rv_ctx *ctx, const rv_vib_config *config, const rv_vib_io *io,
                               rv__vib *vib)
{
    int bad;
    rv_status status;
    if (!io) return rv__fail(ctx, RV_ERR_ARG, 0, "io is NULL");
    bad = rv__vib_settle(config, io->step, vib);
    if (bad == 1)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "beta is %f; it must be finite and above 0",
                        (double)config->beta);
    if (bad == 2)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "min_variance is %f; it must be e^-20 to 1",
                        (double)config->min_variance);
    vib->key = rv__mix(rv__seed(ctx) ^ rv__mix(io->stream));
    status = rv__info_check(ctx, "mean", io->mean, io->n, io->dim);
    if (!status) status = rv__info_check(ctx, "logvar", io->logvar, io->n, io->dim);
    return status;
}

/* logvar within the clamps; *inside: it was. The only place that clamps. */
static double rv__vib_clamp(const rv__vib *vib, float logvar, int *inside)
{
    const double x = (double)logvar;
    *inside = x >= vib->low && x <= 20.0;
    return x < vib->low ? vib->low : x > 20.0 ? 20.0 : x;
}

/* Standard Gaussian noise of element e. */
static double rv__vib_noise(const rv__vib *vib, size_t e)
{
    const uint64_t a = rv__mix(vib->key + 2u * (uint64_t)e);
    const uint64_t b = rv__mix(vib->key + 2u * (uint64_t)e + 1u);
    double sine, cosine;
    rv__sincos((double)(b >> 11) * (6.283185307179586477 / 9007199254740992.0), &sine, &cosine);
    return sqrt(-2.0 * rv__log((double)((a >> 11) + 1u) / 9007199254740992.0)) * cosine;
}

RV_API rv_status rv_vib_run(rv_ctx *ctx, const rv_vib_config *config, const rv_vib_io *io)
{
    rv__vib vib;
    double total = 0.0;
    size_t left = 0;
    rv_status status = rv__vib_check(ctx, config, io, &vib);
    for (size_t i = 0; !status && i < io->n; i++) {
        double kl = 0.0;
        for (size_t e = i * io->dim; !status && e < (i + 1) * io->dim; e++) {
            int inside;
            const double l = rv__vib_clamp(&vib, io->logvar[e], &inside), m = (double)io->mean[e];
            if (e % RV__INFO_POLL == 0) status = rv__poll_by(ctx, &left, RV__INFO_POLL * 16);
            kl += 0.5 * (rv__expm1(l) - l + m * m);
            if (io->z && !status)
                io->z[e] = (float)(io->still ? m : m + rv__exp(0.5 * l) * rv__vib_noise(&vib, e));
        }
        total += kl;
        if (io->kl && !status) io->kl[i] = kl;
    }
    if (status) return status;
    if (io->loss) *io->loss = io->n ? vib.beta * total / (double)io->n : 0.0;
    return rv__ok(ctx);
}

RV_API rv_status rv_vib_backward(rv_ctx *ctx, const rv_vib_config *config, const rv_vib_io *io,
                                 const rv_vib_grad *grad)
{
    rv__vib vib;
    size_t left = 0;
    rv_status status = rv__vib_check(ctx, config, io, &vib);
    double share;
    if (status) return status;
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    if (grad->d_z) status = rv__info_check(ctx, "d_z", grad->d_z, io->n, io->dim);
    share = io->n ? vib.beta / (double)io->n : 0.0;
    for (size_t e = 0; !status && e < io->n * io->dim; e++) {
        int inside;
        const double l = rv__vib_clamp(&vib, io->logvar[e], &inside), m = (double)io->mean[e];
        const double dz = grad->d_z ? (double)grad->d_z[e] : 0.0;
        double d = 0.5 * rv__expm1(l) * share;
        if (e % RV__INFO_POLL == 0) status = rv__poll_by(ctx, &left, RV__INFO_POLL * 16);
        if (status) break;
        if (!io->still) d += 0.5 * dz * rv__exp(0.5 * l) * rv__vib_noise(&vib, e);
        if (grad->d_mean) grad->d_mean[e] = (float)(dz + m * share);
        if (grad->d_logvar) grad->d_logvar[e] = inside ? (float)d : 0.0f;
    }
    return status ? status : rv__ok(ctx);
}

#undef RV__INFO_POLL

#endif /* RV_INFO_C */
