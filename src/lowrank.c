#ifndef RV_LOWRANK_C
#define RV_LOWRANK_C
#include "lowrank.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"

/* Exact: the rows of W, the matrix with its shorter side first, are turned pairwise until they are
   orthogonal (Hestenes); J gathers the rotations. Then W = J A, sigma_i = |w_i|, the right vectors
   are w_i / sigma_i and the left ones the rows of J. Small values come out to full relative
   precision, and rows of zeros get any orthonormal directions.

   Random (Halko): Q = orthonormal rows of Omega A^T, Omega Gaussian with k + oversample rows;
   passes Q <- orth(orth(Q A) A^T) favour large singular values; the exact method decomposes Q A.

   Tucker-2: factors are the left vectors of the unfoldings, and are then computed again in turn
   from the tensor projected on the other one (higher-order orthogonal iteration).

   Sources: Hestenes, Inversion of matrices by biorthogonalization, 1958; Drmac, Veselic, New fast
   and accurate Jacobi SVD, 2008 (why one-sided); Halko, Martinsson, Tropp, Finding structure with
   randomness, 2011; Tucker, 1966; De Lathauwer, De Moor, Vandewalle, On the best rank-1 and
   rank-(R1, ..., RN) approximation of higher-order tensors, 2000. */

#define RV__LOWRANK_EXACT 128u /* shorter side up to which AUTO is exact */
#define RV__LOWRANK_SWEEPS 60u /* about ten are usual                    */

typedef struct rv__lowrank {
    rv_alloc alloc;
    rv_lowrank_config c; /* resolved */
    const float *a;
    size_t m, n, k;
    double *w, *j, *sigma; /* [rows, cols], [rows, rows], [rows] of what is decomposed exactly */
    uint32_t *order;       /* [rows] by falling sigma                                           */
    size_t rows, cols;
} rv__lowrank;

static double rv__lowrank_dot(const double *a, const double *b, size_t n)
{
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (size_t l = 0; l < 4; l++) sum[l] += a[i + l] * b[i + l];
    }
    for (; i < n; i++) sum[0] += a[i] * b[i];
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

static void rv__lowrank_turn(double *p, double *q, size_t n, double c, double s)
{
    for (size_t i = 0; i < n; i++) {
        double x = p[i], y = q[i];
        p[i] = c * x - s * y;
        q[i] = s * x + c * y;
    }
}

/* Makes rows p and q orthogonal; 0 when they were. */
static int rv__lowrank_pair(rv__lowrank *l, size_t p, size_t q)
{
    double *wp = l->w + p * l->cols, *wq = l->w + q * l->cols, zeta, t, c;
    const double a = rv__lowrank_dot(wp, wp, l->cols), b = rv__lowrank_dot(wq, wq, l->cols);
    const double g = rv__lowrank_dot(wp, wq, l->cols);
    if (!(fabs(g) > 1e-15 * sqrt(a) * sqrt(b)) || fabs(g) < 1e-290) return 0;
    zeta = (b - a) / (2.0 * g);
    t = 1.0 / (fabs(zeta) + sqrt(1.0 + zeta * zeta));
    if (zeta < 0.0) t = -t;
    c = 1.0 / sqrt(1.0 + t * t);
    rv__lowrank_turn(wp, wq, l->cols, c, c * t);
    rv__lowrank_turn(l->j + p * l->rows, l->j + q * l->rows, l->rows, c, c * t);
    return 1;
}

/* Row `at` of w, which is zero: any direction orthogonal to the rows already unit. */
static void rv__lowrank_fill(rv__lowrank *l, size_t at, const unsigned char *unit)
{
    double *row = l->w + at * l->cols;
    for (size_t e = 0; e < l->cols; e++) {
        double left;
        memset(row, 0, l->cols * sizeof *row);
        row[e] = 1.0;
        for (int twice = 0; twice < 2; twice++) {
            for (size_t r = 0; r < l->rows; r++) {
                const double *other = l->w + r * l->cols;
                double along = unit[r] ? rv__lowrank_dot(row, other, l->cols) : 0.0;
                for (size_t i = 0; unit[r] && i < l->cols; i++) row[i] -= along * other[i];
            }
        }
        left = sqrt(rv__lowrank_dot(row, row, l->cols));
        if (left < 0.5 / sqrt((double)l->cols)) continue; /* one of them is always longer */
        for (size_t i = 0; i < l->cols; i++) row[i] /= left;
        return;
    }
}

/* sigma, their order, and unit rows. unit: [rows] scratch. */
static void rv__lowrank_finish(rv__lowrank *l, unsigned char *unit)
{
    for (size_t i = 0; i < l->rows; i++) {
        double *row = l->w + i * l->cols;
        size_t at = i;
        l->sigma[i] = sqrt(rv__lowrank_dot(row, row, l->cols));
        unit[i] = l->sigma[i] > 1e-140;
        for (size_t e = 0; unit[i] && e < l->cols; e++) row[e] /= l->sigma[i];
        if (!unit[i]) l->sigma[i] = 0.0;
        for (; at > 0 && l->sigma[l->order[at - 1]] < l->sigma[i]; at--) {
            l->order[at] = l->order[at - 1];
        }
        l->order[at] = (uint32_t)i;
    }
    for (size_t i = 0; i < l->rows; i++) {
        if (unit[i]) continue;
        rv__lowrank_fill(l, i, unit);
        unit[i] = 1;
    }
}

static rv_status rv__lowrank_jacobi(rv_ctx *ctx, rv__lowrank *l)
{
    unsigned char *unit = (unsigned char *)(l->order + l->rows);
    memset(l->j, 0, l->rows * l->rows * sizeof *l->j);
    for (size_t i = 0; i < l->rows; i++) l->j[i * l->rows + i] = 1.0;
    for (size_t sweep = 0, turned = 1; turned && sweep < RV__LOWRANK_SWEEPS; sweep++) {
        turned = 0;
        for (size_t p = 0; p < l->rows; p++) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            for (size_t q = p + 1; q < l->rows; q++) turned += (size_t)rv__lowrank_pair(l, p, q);
        }
    }
    rv__lowrank_finish(l, unit);
    if (l->sigma[l->order[0]] > 3.4028234e38) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "a is too large; a singular value is beyond all floats");
    }
    return RV_OK;
}

/* One block for w, j, sigma, order and the marks of rows. */
static size_t rv__lowrank_bytes(size_t rows, size_t cols)
{
    size_t doubles = rv__add(rv__mul(rows, cols), rv__mul(rows, rv__add(rows, 1)));
    return rv__add(rv__mul(doubles, sizeof(double)), rv__mul(rows, 5));
}

static rv_status rv__lowrank_room(rv_ctx *ctx, rv__lowrank *l, size_t rows, size_t cols)
{
    l->rows = rows;
    l->cols = cols;
    l->w = (double *)rv__get(&l->alloc, rv__lowrank_bytes(rows, cols), 1);
    if (!l->w) return rv__no_memory(ctx, rv__lowrank_bytes(rows, cols));
    l->j = l->w + rows * cols;
    l->sigma = l->j + rows * rows;
    l->order = (uint32_t *)(void *)(l->sigma + rows);
    return RV_OK;
}

/* ---- results ---- */

/* The k largest to u, s, v. turned: w held the transpose, whose left vectors are the right ones.
   q: [rows, m] orthonormal rows that the left vectors refer to, or NULL. */
static void rv__lowrank_write(const rv__lowrank *l, int turned, const float *q, float *u, float *s,
                              float *v)
{
    for (size_t c = 0; c < l->k; c++) {
        const size_t at = l->order[c];
        const double *wide = l->w + at * l->cols, *narrow = l->j + at * l->rows;
        double sign = 1.0, most = 0.0;
        /* u first, with signs as they come; then both turn over if its peak is negative */
        for (size_t pass = 0; pass < 2; pass++) {
            for (size_t i = 0; i < l->m; i++) {
                double x = 0.0;
                for (size_t r = 0; q && r < l->rows; r++) x += narrow[r] * (double)q[r * l->m + i];
                if (!q) x = turned ? wide[i] : narrow[i];
                if (pass == 0 && fabs(x) > fabs(most)) most = x;
                if (pass == 1 && u) u[i * l->k + c] = (float)(sign * x);
            }
            if (most < 0.0) sign = -1.0;
        }
        for (size_t i = 0; v && i < l->n; i++) {
            v[i * l->k + c] = (float)(sign * (turned ? narrow[i] : wide[i]));
        }
        if (s) s[c] = (float)l->sigma[at];
    }
}

/* |a|^2 less the squares kept. */
static double rv__lowrank_error(const rv__lowrank *l)
{
    double total = 0.0;
    for (size_t i = 0; i < l->m * l->n; i++) total += (double)l->a[i] * (double)l->a[i];
    for (size_t c = 0; c < l->k; c++) {
        double sigma = l->sigma[l->order[c]];
        total -= sigma * sigma;
    }
    return total > 0.0 ? sqrt(total) : 0.0;
}

static rv_status rv__lowrank_exact(rv_ctx *ctx, rv__lowrank *l, float *u, float *s, float *v,
                                   double *error)
{
    const int turned = l->m > l->n;
    rv_status status = turned ? rv__lowrank_room(ctx, l, l->n, l->m)
                              : rv__lowrank_room(ctx, l, l->m, l->n);
    if (status) return status;
    for (size_t i = 0; i < l->m; i++) {
        for (size_t j = 0; j < l->n; j++) {
            l->w[turned ? j * l->m + i : i * l->n + j] = (double)l->a[i * l->n + j];
        }
    }
    status = rv__lowrank_jacobi(ctx, l);
    if (!status) {
        rv__lowrank_write(l, turned, NULL, u, s, v);
        if (error) *error = rv__lowrank_error(l);
    }
    rv__put(&l->alloc, l->w, rv__lowrank_bytes(l->rows, l->cols), 1);
    return status;
}

/* ---- random ---- */

static void rv__lowrank_gaussian(rv__rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) { /* Box, Muller, 1958 */
        double a = ((double)(rv__rng_next(rng) >> 11) + 0.5) / 9007199254740992.0, sine, cosine;
        double b = (double)(rv__rng_next(rng) >> 11) / 9007199254740992.0;
        rv__sincos(6.283185307179586 * b, &sine, &cosine);
        x[i] = (float)(sqrt(-2.0 * rv__log(a)) * cosine);
    }
}

static double rv__lowrank_square(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t e = 0; e < n; e++) sum += (double)x[e] * (double)x[e];
    return sum;
}

/* Takes the first i rows of y out of row i, twice; returns 1 / what is left of it, 0 when that is
   next to nothing. */
static double rv__lowrank_project(float *y, size_t i, size_t n)
{
    float *row = y + i * n;
    const double before = rv__lowrank_square(row, n);
    double after;
    for (size_t r = 0; r < 2 * i; r++) {
        const float *other = y + r % i * n;
        double along = 0.0;
        for (size_t e = 0; e < n; e++) along += (double)row[e] * (double)other[e];
        for (size_t e = 0; e < n; e++) {
            row[e] = (float)((double)row[e] - along * (double)other[e]);
        }
    }
    after = rv__lowrank_square(row, n);
    return after > 1e-10 * before ? 1.0 / sqrt(after) : 0.0;
}

/* Rows of y, [rows, n], orthonormal; random ones take the place of those that vanish. */
static rv_status rv__lowrank_orthonormal(rv_ctx *ctx, rv__rng *rng, float *y, size_t rows,
                                         size_t n)
{
    for (size_t i = 0; i < rows; i++) {
        float *row = y + i * n;
        double scale = rv__lowrank_project(y, i, n);
        rv_status status = rv__poll(ctx);
        if (status) return status;
        for (int tries = 0; scale == 0.0 && tries < 100; tries++) {
            rv__lowrank_gaussian(rng, row, n);
            scale = rv__lowrank_project(y, i, n);
        }
        for (size_t e = 0; e < n; e++) row[e] = (float)((double)row[e] * scale);
    }
    return RV_OK;
}

/* out: [rows, cols] = x y^T, which must stay in the range of floats. */
static rv_status rv__lowrank_times(rv_ctx *ctx, const float *x, const float *y, size_t rows,
                                   size_t cols, size_t n, float *out)
{
    rv_status status = rv_gemm_nt_f32(ctx, x, 0, y, 0, rows, cols, n, 0, out, 0);
    if (!status && rv__find_not_finite(out, rows * cols) < rows * cols) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "a is too large; products leave the range of floats");
    }
    return status;
}

/* q: [l, m] the range, z: [l, n] scratch that ends as q A; turned: a^T. */
static rv_status rv__lowrank_range(rv_ctx *ctx, const rv__lowrank *l, size_t rows,
                                   const float *turned, float *q, float *z)
{
    const size_t m = l->m, n = l->n;
    rv__rng rng;
    rv_status status;
    rv__rng_init(&rng, rv__seed(ctx));
    rv__lowrank_gaussian(&rng, z, rows * n);
    status = rv__lowrank_times(ctx, z, l->a, rows, m, n, q);
    if (!status) status = rv__lowrank_orthonormal(ctx, &rng, q, rows, m);
    for (uint32_t t = 0; t < l->c.iterations && !status; t++) {
        status = rv__lowrank_times(ctx, q, turned, rows, n, m, z);
        if (!status) status = rv__lowrank_orthonormal(ctx, &rng, z, rows, n);
        if (!status) status = rv__lowrank_times(ctx, z, l->a, rows, m, n, q);
        if (!status) status = rv__lowrank_orthonormal(ctx, &rng, q, rows, m);
    }
    return status ? status : rv__lowrank_times(ctx, q, turned, rows, n, m, z);
}

static rv_status rv__lowrank_random(rv_ctx *ctx, rv__lowrank *l, float *u, float *s, float *v,
                                    double *error)
{
    const size_t m = l->m, n = l->n, least = m < n ? m : n;
    const size_t rows = l->k + l->c.oversample < least ? l->k + l->c.oversample : least;
    const size_t count = rv__add(rv__mul(m, n), rv__mul(rows, m + n));
    float *turned = (float *)rv__get(&l->alloc, count, sizeof(float)), *q, *z;
    rv_status status;
    if (!turned) return rv__no_memory(ctx, rv__mul(count, sizeof(float)));
    q = turned + m * n;
    z = q + rows * m;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) turned[j * m + i] = l->a[i * n + j];
    }
    status = rv__lowrank_range(ctx, l, rows, turned, q, z);
    if (!status) status = rv__lowrank_room(ctx, l, rows, n);
    if (!status) {
        for (size_t i = 0; i < rows * n; i++) l->w[i] = (double)z[i];
        status = rv__lowrank_jacobi(ctx, l);
        if (!status) {
            rv__lowrank_write(l, 0, q, u, s, v);
            if (error) *error = rv__lowrank_error(l);
        }
        rv__put(&l->alloc, l->w, rv__lowrank_bytes(rows, n), 1);
    }
    rv__put(&l->alloc, turned, count, sizeof(float));
    return status;
}

/* ---- the calls ---- */

static rv_status rv__lowrank_resolve(rv_ctx *ctx, const rv_lowrank_config *config,
                                     rv_lowrank_config *c)
{
    memset(c, 0, sizeof *c);
    if (config) *c = *config;
    if ((unsigned)c->method > (unsigned)RV_LOWRANK_RANDOM) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "method is %d; it must be one of rv_lowrank_method, 0..2", (int)c->method);
    }
    if (c->oversample == 0) c->oversample = 10;
    if (c->iterations == 0) c->iterations = 2;
    if (c->oversample > 1000 || c->iterations > 100) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "oversample is %z and iterations %z; they must be 1..1000 and 1..100",
                        (size_t)c->oversample, (size_t)c->iterations);
    }
    return RV_OK;
}

static rv_status rv__lowrank_check(rv_ctx *ctx, const float *x, size_t m, size_t n)
{
    size_t bad;
    if (m == 0 || n == 0 || rv__mul(m, n) > SIZE_MAX / 16 || m > 16777216 || n > UINT32_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "the matrix is %z by %z; sides must be 1 or more and fit", m, n);
    }
    if (!x) return rv__fail(ctx, RV_ERR_ARG, 0, "the matrix is NULL");
    bad = rv__find_not_finite(x, m * n);
    if (bad == m * n) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, bad, "element %z is %f; it must be finite", bad,
                    (double)x[bad]);
}

RV_API rv_status rv_lowrank_svd(rv_ctx *ctx, const rv_lowrank_config *config, const float *a,
                                size_t m, size_t n, size_t k, float *u, float *s, float *v,
                                double *error)
{
    const size_t least = m < n ? m : n;
    rv__lowrank l;
    int exact;
    rv_status status = rv__lowrank_resolve(ctx, config, &l.c);
    if (!status) status = rv__lowrank_check(ctx, a, m, n);
    if (status) return status;
    if (k < 1 || k > least) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "k is %z; it must be 1..%z", k, least);
    }
    l.alloc = rv__allocator(ctx);
    l.a = a;
    l.m = m;
    l.n = n;
    l.k = k;
    exact = l.c.method == RV_LOWRANK_AUTO
                ? least <= RV__LOWRANK_EXACT || least < 2 * (k + l.c.oversample)
                : l.c.method == RV_LOWRANK_EXACT;
    status = exact ? rv__lowrank_exact(ctx, &l, u, s, v, error)
                   : rv__lowrank_random(ctx, &l, u, s, v, error);
    return status ? status : rv__ok(ctx);
}

RV_API size_t rv_lowrank_rank(const float *s, size_t n, double total, double energy)
{
    double sum = 0.0, all = 0.0;
    for (size_t i = 0; i < n; i++) all += (double)s[i] * (double)s[i];
    if (total > all) all = total;
    for (size_t r = 0; r < n; r++) {
        if (sum >= energy * all) return r;
        sum += (double)s[r] * (double)s[r];
    }
    return n;
}

RV_API rv_status rv_lowrank_restore(rv_ctx *ctx, const float *u, const float *s, const float *v,
                                    size_t m, size_t n, size_t k, float *out)
{
    rv_alloc alloc = rv__allocator(ctx);
    float *scaled;
    rv_status status;
    if (!u || !v || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "u, v or out is NULL");
    scaled = (float *)rv__get(&alloc, rv__mul(m, k), sizeof *scaled);
    if (!scaled) return rv__no_memory(ctx, rv__mul(rv__mul(m, k), sizeof *scaled));
    for (size_t i = 0; i < m * k; i++) scaled[i] = s ? u[i] * s[i % k] : u[i];
    status = rv_gemm_nt_f32(ctx, scaled, 0, v, 0, m, n, k, 0, out, 0);
    rv__put(&alloc, scaled, rv__mul(m, k), sizeof *scaled);
    return status;
}

/* ---- three modes ---- */

/* out[i, b, l] = sum over j of x[i, j, l] u[j, b], x: [n1, n2, n3], u: [n2, r] (back: [r, n2], the
   sum then is over b for j). Along l through the kernels. */
static rv_status rv__tucker_second(rv_ctx *ctx, const float *x, const float *u, size_t n1,
                                   size_t n2, size_t n3, size_t r, int back, float *out)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    memset(out, 0, n1 * r * n3 * sizeof *out);
    for (size_t i = 0; i < n1; i++) {
        rv_status status = rv__poll(ctx);
        if (status) return status;
        for (size_t j = 0; j < n2; j++) {
            for (size_t b = 0; b < r; b++) {
                kernels->axpy_f32(back ? u[b * n2 + j] : u[j * r + b], x + (i * n2 + j) * n3,
                                  out + (i * r + b) * n3, n3);
            }
        }
    }
    return RV_OK;
}

/* y[j, i, l] = x[i, j, l]. */
static void rv__tucker_swap(const float *x, size_t n1, size_t n2, size_t n3, float *y)
{
    for (size_t i = 0; i < n1; i++) {
        for (size_t j = 0; j < n2; j++) {
            memcpy(y + (j * n1 + i) * n3, x + (i * n2 + j) * n3, n3 * sizeof *y);
        }
    }
}

typedef struct rv__tucker {
    const rv_lowrank_config *config;
    const float *x;
    size_t n1, n2, n3, r1, r2;
    float *swapped, *part, *u1, *u2, *core; /* [n2, n1, n3]; scratch; results */
} rv__tucker;

/* u1 from x projected on u2 (project), or from x itself. */
static rv_status rv__tucker_first_factor(rv_ctx *ctx, rv__tucker *t, int project)
{
    rv_status status = RV_OK;
    if (project) {
        status = rv__tucker_second(ctx, t->x, t->u2, t->n1, t->n2, t->n3, t->r2, 0, t->part);
    }
    if (status) return status;
    return rv_lowrank_svd(ctx, t->config, project ? t->part : t->x, t->n1,
                          (project ? t->r2 : t->n2) * t->n3, t->r1, t->u1, NULL, NULL, NULL);
}

static rv_status rv__tucker_second_factor(rv_ctx *ctx, rv__tucker *t, int project)
{
    rv_status status = RV_OK;
    if (project) {
        status = rv__tucker_second(ctx, t->swapped, t->u1, t->n2, t->n1, t->n3, t->r1, 0, t->part);
    }
    if (status) return status;
    return rv_lowrank_svd(ctx, t->config, project ? t->part : t->swapped, t->n2,
                          (project ? t->r1 : t->n1) * t->n3, t->r2, t->u2, NULL, NULL, NULL);
}

static rv_status rv__tucker_run(rv_ctx *ctx, rv__tucker *t, uint32_t rounds)
{
    float *turned = t->swapped; /* once the factors are there */
    rv_status status;
    rv__tucker_swap(t->x, t->n1, t->n2, t->n3, t->swapped);
    status = rv__tucker_second_factor(ctx, t, 0);
    if (!status) status = rv__tucker_first_factor(ctx, t, 0);
    for (uint32_t round = 0; round < rounds && !status; round++) {
        status = rv__tucker_first_factor(ctx, t, 1);
        if (!status) status = rv__tucker_second_factor(ctx, t, 1);
    }
    if (!status) {
        status = rv__tucker_second(ctx, t->x, t->u2, t->n1, t->n2, t->n3, t->r2, 0, t->part);
    }
    if (status) return status;
    rv__tucker_swap(t->part, t->n1, t->r2, t->n3, turned); /* [r2, n1, n3] */
    status = rv__tucker_second(ctx, turned, t->u1, t->r2, t->n1, t->n3, t->r1, 0, t->part);
    if (!status) rv__tucker_swap(t->part, t->r2, t->r1, t->n3, t->core);
    return status;
}

static rv_status rv__tucker_check(rv_ctx *ctx, size_t n1, size_t n2, size_t n3, size_t r1,
                                  size_t r2)
{
    if (rv__mul(rv__mul(n1, n2), n3) > SIZE_MAX / 64 || n1 * n2 * n3 == 0) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "the tensor is %z by %z by %z; that is no size", n1, n2,
                        n3);
    }
    if (r1 < 1 || r1 > n1 || r1 > rv__mul(r2, n3) || r2 < 1 || r2 > n2 || r2 > rv__mul(r1, n3)) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "ranks are %z and %z; at most %z and %z, neither above the other times %z",
                        r1, r2, n1, n2, n3);
    }
    return RV_OK;
}

RV_API rv_status rv_lowrank_tucker2(rv_ctx *ctx, const rv_lowrank_config *config, const float *x,
                                    size_t n1, size_t n2, size_t n3, size_t r1, size_t r2,
                                    float *u1, float *u2, float *core)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv_lowrank_config c;
    rv__tucker t;
    size_t all, count;
    rv_status status = rv__lowrank_resolve(ctx, config, &c);
    if (!status) status = rv__tucker_check(ctx, n1, n2, n3, r1, r2);
    if (!status) status = rv__lowrank_check(ctx, x, n1, n2 * n3);
    if (!status && (!u1 || !u2 || !core)) {
        status = rv__fail(ctx, RV_ERR_ARG, 0, "u1, u2 or core is NULL");
    }
    if (status) return status;
    all = n1 * n2 * n3;
    count = 2 * all + n1 * r1 + n2 * r2 + r1 * r2 * n3;
    t.swapped = (float *)rv__get(&alloc, count, sizeof(float));
    if (!t.swapped) return rv__no_memory(ctx, rv__mul(count, sizeof(float)));
    t.config = &c;
    t.x = x;
    t.n1 = n1;
    t.n2 = n2;
    t.n3 = n3;
    t.r1 = r1;
    t.r2 = r2;
    t.part = t.swapped + all;
    t.u1 = t.part + all;
    t.u2 = t.u1 + n1 * r1;
    t.core = t.u2 + n2 * r2;
    status = rv__tucker_run(ctx, &t, c.iterations);
    if (!status) {
        memcpy(u1, t.u1, n1 * r1 * sizeof *u1);
        memcpy(u2, t.u2, n2 * r2 * sizeof *u2);
        memcpy(core, t.core, r1 * r2 * n3 * sizeof *core);
    }
    rv__put(&alloc, t.swapped, count, sizeof(float));
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_lowrank_tucker2_restore(rv_ctx *ctx, const float *u1, const float *u2,
                                            const float *core, size_t n1, size_t n2, size_t n3,
                                            size_t r1, size_t r2, float *out)
{
    rv_alloc alloc = rv__allocator(ctx);
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    float *part;
    rv_status status = rv__tucker_check(ctx, n1, n2, n3, r1, r2);
    if (!status && (!u1 || !u2 || !core || !out)) {
        status = rv__fail(ctx, RV_ERR_ARG, 0, "u1, u2, core or out is NULL");
    }
    if (status) return status;
    part = (float *)rv__get(&alloc, r1 * n2 * n3, sizeof *part);
    if (!part) return rv__no_memory(ctx, r1 * n2 * n3 * sizeof *part);
    status = rv__tucker_second(ctx, core, u2, r1, r2, n3, n2, 1, part);
    for (size_t i = 0; i < n1 && !status; i++) {
        status = rv__poll(ctx);
        memset(out + i * n2 * n3, 0, n2 * n3 * sizeof *out);
        for (size_t a = 0; a < r1; a++) {
            kernels->axpy_f32(u1[i * r1 + a], part + a * n2 * n3, out + i * n2 * n3, n2 * n3);
        }
    }
    rv__put(&alloc, part, r1 * n2 * n3, sizeof *part);
    return status ? status : rv__ok(ctx);
}

#undef RV__LOWRANK_EXACT
#undef RV__LOWRANK_SWEEPS

#endif /* RV_LOWRANK_C */
