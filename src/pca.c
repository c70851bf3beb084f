#ifndef RV_PCA_C
#define RV_PCA_C
#include "pca.h"
#include "base.c"
#include "mathx.c"

/* Principal components by subspace iteration on the covariance of a sample.

   1. mean of the sample; covariance C = X^T X / s, chunk by chunk through the matrix product, only
      the blocks on and below the diagonal;
   2. Q: n_out + a few random rows, orthonormal; repeat Q <- orthonormal(Q C), the trace of
      Q C Q^T grows towards the sum of the leading eigenvalues; stop when it has settled;
   3. Rayleigh-Ritz: eigenvectors of the small matrix Q C Q^T (Householder to tridiagonal form, then
      implicit QL, in double) turn Q into the basis.

   All large products run on the calling thread's order of operations, so the bits do not depend on
   the number of threads. Orthonormalisation is block Gram-Schmidt, each projection done twice
   ("twice is enough", Parlett), with a random row in place of one that vanishes, so that sets of
   low rank need no special case.

   Sources: Rutishauser, Simultaneous iteration method for symmetric matrices, 1970; Halko,
   Martinsson, Tropp, Finding structure with randomness, 2011; Bowdler, Martin, Reinsch, Wilkinson,
   The QR and QL algorithms for symmetric matrices, 1968. */

#define RV__PCA_CHUNK 2048u /* rows of the sample per product                                */
#define RV__PCA_BLOCK 256u  /* columns of the covariance per product                         */
#define RV__PCA_GROUP 32u   /* rows orthonormalised one by one, the rest through products    */
#define RV__PCA_ROUNDS 32u
#define RV__PCA_FEW 8u /* fewer rows are restored without a transposed basis */

/* ---- small symmetric eigenproblem in double ---- */

/* A <- H A H for the leading k rows of a, from the lower triangle: with p = A u / h and
   q = p - (u p / 2h) u that is A - u q^T - q u^T. p: [k] scratch. */
static rv_status rv__eigen_reflect(rv_ctx *ctx, double *a, size_t n, size_t k, const double *u,
                                   double h, double *p, size_t *left)
{
    double dot = 0.0;
    for (size_t i = 0; i < k; i++) p[i] = 0.0;
    for (size_t i = 0; i < k; i++) {
        const double *row = a + i * n;
        double s = row[i] * u[i], ui = u[i];
        rv_status status = rv__poll_by(ctx, left, 2 * i);
        if (status) return status;
        for (size_t j = 0; j < i; j++) {
            s += row[j] * u[j];
            p[j] += row[j] * ui;
        }
        p[i] += s;
    }
    for (size_t i = 0; i < k; i++) {
        p[i] /= h;
        dot += p[i] * u[i];
    }
    dot /= 2.0 * h;
    for (size_t i = 0; i < k; i++) p[i] -= dot * u[i];
    for (size_t i = 0; i < k; i++) {
        double *row = a + i * n, ui = u[i], qi = p[i];
        rv_status status = rv__poll_by(ctx, left, i);
        if (status) return status;
        for (size_t j = 0; j <= i; j++) row[j] -= ui * p[j] + qi * u[j];
    }
    return RV_OK;
}

/* Householder reduction of the symmetric a[n, n] to tridiagonal form: diagonal d, subdiagonal e
   (e[0] unused). The reflectors u_k stay in the rows of a, u_k / h_k their scaled form in h. */
static rv_status rv__eigen_reduce(rv_ctx *ctx, double *a, size_t n, double *d, double *e, double *h)
{
    size_t left = 0;
    for (size_t k = n - 1; k > 0; k--) {
        double *u = a + k * n, scale = 0.0, sum = 0.0, g;
        rv_status status = rv__poll_by(ctx, &left, 4 * k);
        if (status) return status;
        for (size_t j = 0; j < k; j++) scale += fabs(u[j]);
        h[k] = 0.0;
        e[k] = u[k - 1];
        if (k == 1 || scale == 0.0 || scale == fabs(u[k - 1])) continue;
        for (size_t j = 0; j < k; j++) {
            u[j] /= scale;
            sum += u[j] * u[j];
        }
        g = u[k - 1] > 0.0 ? -sqrt(sum) : sqrt(sum);
        e[k] = scale * g;
        sum -= u[k - 1] * g; /* |u|^2 / 2 of the reflector u */
        u[k - 1] -= g;
        h[k] = sum;
        status = rv__eigen_reflect(ctx, a, n, k, u, sum, d, &left); /* until the end d is scratch */
        if (status) return status;
    }
    h[0] = 0.0;
    for (size_t i = 0; i < n; i++) d[i] = a[i * n + i];
    e[0] = 0.0;
    return RV_OK;
}

/* v[n, n] = H_1 H_2 ... H_(n-1), the transpose of the transformation that made the tridiagonal
   matrix. Row i is a unit vector until step i + 1, hence the short inner loops. */
static rv_status rv__eigen_expand(rv_ctx *ctx, const double *a, const double *h, size_t n,
                                  double *v)
{
    size_t left = 0;
    rv_status status = rv__fill_polled(ctx, v, 0, n * n * sizeof(double));
    if (status) return status;
    for (size_t i = 0; i < n; i++) v[i * n + i] = 1.0;
    for (size_t k = 1; k < n; k++) {
        const double *u = a + k * n;
        if (h[k] == 0.0) continue;
        for (size_t i = 0; i < k; i++) {
            double *row = v + i * n, s = 0.0;
            status = rv__poll_by(ctx, &left, 2 * k);
            if (status) return status;
            for (size_t j = 0; j < k; j++) s += row[j] * u[j];
            s /= h[k];
            for (size_t j = 0; j < k; j++) row[j] -= s * u[j];
        }
    }
    return RV_OK;
}

/* Implicit QL with Wilkinson's shift on (d, e); the rotations act on pairs of rows of v. */
static rv_status rv__eigen_iterate(rv_ctx *ctx, double *d, double *e, size_t n, double *v)
{
    size_t left = 0;
    for (size_t i = 1; i < n; i++) e[i - 1] = e[i];
    e[n - 1] = 0.0;
    for (size_t l = 0; l < n; l++) {
        for (unsigned turn = 0; turn < 60; turn++) { /* two or three turns are usual */
            size_t m = l;
            double g, r, s = 1.0, c = 1.0, p = 0.0;
            int split = 0;
            rv_status status = rv__poll_by(ctx, &left, n);
            if (status) return status;
            while (m + 1 < n && fabs(e[m]) > 2.3e-16 * (fabs(d[m]) + fabs(d[m + 1]))) m++;
            if (m == l) break;
            g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            r = sqrt(g * g + 1.0);
            g = d[m] - d[l] + e[l] / (g + (g >= 0.0 ? r : -r));
            for (size_t i = m; i-- > l;) {
                double f = s * e[i], b = c * e[i], *x = v + i * n, *y = x + n;
                status = rv__poll_by(ctx, &left, n);
                if (status) return status;
                r = sqrt(f * f + g * g);
                e[i + 1] = r;
                if (r == 0.0) { /* underflow: the matrix splits here */
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    split = 1;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                for (size_t k = 0; k < n; k++) {
                    double t = y[k];
                    y[k] = s * x[k] + c * t;
                    x[k] = c * x[k] - s * t;
                }
            }
            if (split) continue;
            d[l] -= p;
            e[l] = g;
            e[m] = 0.0;
        }
    }
    return RV_OK;
}

/* Eigenvalues d[n] by falling value and eigenvectors in the rows of v[n, n] of the symmetric
   a[n, n] (destroyed). scratch: [2 n]. */
RV__FN rv_status rv__eigen_symmetric(rv_ctx *ctx, double *a, size_t n, double *d, double *v,
                                     double *scratch)
{
    size_t left = 0;
    rv_status status;
    if (n == 0) return RV_OK;
    status = rv__eigen_reduce(ctx, a, n, d, scratch, scratch + n);
    if (!status) status = rv__eigen_expand(ctx, a, scratch + n, n, v);
    if (!status) status = rv__eigen_iterate(ctx, d, scratch, n, v);
    for (size_t i = 0; !status && i + 1 < n; i++) {
        size_t best = i;
        status = rv__poll_by(ctx, &left, 3 * n);
        for (size_t j = i + 1; j < n; j++) best = d[j] > d[best] ? j : best;
        if (best == i) continue;
        for (size_t k = 0; k < n; k++) {
            double t = v[i * n + k];
            v[i * n + k] = v[best * n + k];
            v[best * n + k] = t;
        }
        scratch[0] = d[i];
        d[i] = d[best];
        d[best] = scratch[0];
    }
    return status;
}

/* ---- subspace iteration ---- */

typedef struct rv__pca {
    const float *rows;
    size_t stride, n, dim, block; /* block: rows of q                                          */
    float *columns;               /* [dim, RV__PCA_CHUNK] a chunk of the sample, transposed;
                                     later [dim, block], the transpose of z or q               */
    float *cov;                   /* [dim, dim]                                                */
    float *q, *z;                 /* [block, dim]                                              */
    float *tiny;                 /* [block, block]                                            */
    double *wide;                 /* [2 block, block] and 3 block more; also [dim] sums        */
    rv__rng rng;
} rv__pca;

static size_t rv__pca_wide(size_t block, size_t dim)
{
    size_t n = rv__add(rv__mul(rv__mul(block, block), 2), 3 * block);
    return n > dim ? n : dim;
}

/* Row i of the m rows that stand for the whole set. */
static const float *rv__pca_row(const rv__pca *pca, size_t i, size_t m)
{
    size_t row = m == pca->n ? i : (size_t)((uint64_t)i * pca->n / m);
    return pca->rows + row * pca->stride;
}

/* The mean of the sample, and a check of every value that is used. */
static rv_status rv__pca_mean(rv_ctx *ctx, rv__pca *pca, size_t m, float *mean)
{
    double *sum = pca->wide;
    size_t left = 0;
    for (size_t j = 0; j < pca->dim; j++) sum[j] = 0.0;
    for (size_t i = 0; i < m; i++) {
        const float *row = rv__pca_row(pca, i, m);
        size_t bad = rv__find_not_finite(row, pca->dim);
        rv_status status = rv__poll_by(ctx, &left, 3 * (pca->dim + 32));
        if (status) return status;
        if (bad < pca->dim) {
            return rv__fail(ctx, RV_ERR_ARG, (size_t)(row - pca->rows) + bad,
                            "element %z of row %z is not finite", bad,
                            (size_t)(row - pca->rows) / pca->stride);
        }
        for (size_t j = 0; j < pca->dim; j++) sum[j] += (double)row[j];
    }
    for (size_t j = 0; j < pca->dim; j++) mean[j] = (float)(sum[j] / (double)m);
    return RV_OK;
}

/* Copies the half of cov below the diagonal to above it, by squares that stay in the cache. */
static rv_status rv__pca_mirror(rv_ctx *ctx, rv__pca *pca)
{
    const size_t dim = pca->dim, side = RV__PCA_GROUP;
    size_t left = 0;
    for (size_t at = 0; at < dim; at += side) {
        const size_t last = dim - at < side ? dim : at + side;
        for (size_t from = 0; from <= at; from += side) {
            rv_status status = rv__poll_by(ctx, &left, 2 * side * side);
            if (status) return status;
            for (size_t i = at; i < last; i++) {
                const size_t end = from + side < i ? from + side : i;
                for (size_t j = from; j < end; j++) pca->cov[j * dim + i] = pca->cov[i * dim + j];
            }
        }
    }
    return RV_OK;
}

/* cov = (sample - mean)^T (sample - mean) / m. Tiles of the chunk are transposed in the cache. */
static rv_status rv__pca_covariance(rv_ctx *ctx, rv__pca *pca, size_t m, const float *mean)
{
    const size_t dim = pca->dim;
    const float scale = (float)(1.0 / sqrt((double)m));
    size_t left = 0;
    for (size_t first = 0; first < m; first += RV__PCA_CHUNK) {
        size_t rows = m - first < RV__PCA_CHUNK ? m - first : RV__PCA_CHUNK;
        for (size_t i = 0; i < rows; i += 16) {
            size_t end = i + 16 < rows ? i + 16 : rows;
            for (size_t j = 0; j < dim; j++) {
                float *out = pca->columns + j * RV__PCA_CHUNK;
                rv_status status = rv__poll_by(ctx, &left, 1024); /* pages touched first */
                if (status) return status;
                for (size_t r = i; r < end; r++) {
                    out[r] = (rv__pca_row(pca, first + r, m)[j] - mean[j]) * scale;
                }
            }
        }
        for (size_t j = 0; j < dim; j += RV__PCA_BLOCK) {
            size_t wide = dim - j < RV__PCA_BLOCK ? dim - j : RV__PCA_BLOCK;
            rv_status status = rv__poll(ctx);
            if (status) return status;
            status = rv_gemm_nt_f32(ctx, pca->columns + j * RV__PCA_CHUNK, RV__PCA_CHUNK,
                                    pca->columns, RV__PCA_CHUNK, wide, j + wide, rows, first > 0,
                                    pca->cov + j * dim, dim);
            if (status) return status;
        }
    }
    return rv__pca_mirror(ctx, pca);
}

static double rv__pca_dot(const float *a, const float *b, size_t n)
{
    double lane[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t l = 0; l < 8; l++) lane[l] += (double)a[i + l] * (double)b[i + l];
    }
    for (; i < n; i++) lane[i & 7u] += (double)a[i] * (double)b[i];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void rv__pca_random(rv__pca *pca, float *row)
{
    for (size_t j = 0; j < pca->dim; j++) row[j] = rv__rng_f32(&pca->rng) - 0.5f;
}

static double rv__pca_length(const float *row, size_t dim)
{
    return sqrt(rv__pca_dot(row, row, dim));
}

/* Row `at` of z minus its projections on rows from..at-1, twice, scaled to length 1. *kept: whether
   more than next to nothing of its original length was left, which would be rounding noise. */
static rv_status rv__pca_clean(rv_ctx *ctx, rv__pca *pca, size_t from, size_t at, double length,
                               int *kept)
{
    const size_t dim = pca->dim;
    float *row = pca->z + at * dim;
    double after;
    size_t left = RV__WORK;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = from; i < at; i++) {
            const float *other = pca->z + i * dim;
            float c = (float)rv__pca_dot(row, other, dim);
            rv_status status = rv__poll_by(ctx, &left, 2 * dim);
            if (status) return status;
            for (size_t j = 0; j < dim; j++) row[j] -= c * other[j];
        }
    }
    after = rv__pca_length(row, dim);
    *kept = length > 0.0 && after > length * 1e-5;
    if (!*kept) return RV_OK;
    for (size_t j = 0; j < dim; j++) row[j] = (float)((double)row[j] / after);
    return RV_OK;
}

/* Rows [at, at + group) of z minus their projections on all rows before `at`, through products:
   small = group x before, z -= small (before's transpose)^T, a group of columns at a time. */
static rv_status rv__pca_project(rv_ctx *ctx, rv__pca *pca, size_t at, size_t group)
{
    const size_t dim = pca->dim;
    float *rows = pca->z + at * dim;
    rv_status status =
        rv_gemm_nt_f32(ctx, rows, dim, pca->z, dim, group, at, dim, 0, pca->tiny, at);
    if (status) return status;
    for (size_t i = 0; i < group * at; i++) pca->tiny[i] = -pca->tiny[i];
    /* columns is free after the covariance; it holds the transpose of z's first rows */
    return rv_gemm_nt_f32(ctx, pca->tiny, at, pca->columns, pca->block, group, dim, at, 1, rows,
                          dim);
}

/* Makes the rows of z orthonormal from the first to the last; columns becomes their transpose. */
static rv_status rv__pca_orthonormalise(rv_ctx *ctx, rv__pca *pca)
{
    const size_t dim = pca->dim, block = pca->block;
    double length[RV__PCA_GROUP];
    size_t left = RV__WORK;
    for (size_t at = 0; at < block; at += RV__PCA_GROUP) {
        size_t group = block - at < RV__PCA_GROUP ? block - at : RV__PCA_GROUP;
        rv_status status = rv__poll(ctx);
        for (size_t i = 0; i < group; i++) length[i] = rv__pca_length(pca->z + (at + i) * dim, dim);
        for (int pass = 0; !status && pass < 2 && at > 0; pass++) {
            status = rv__pca_project(ctx, pca, at, group);
        }
        if (status) return status;
        for (size_t i = at; i < at + group; i++) {
            int kept = 0;
            status = rv__pca_clean(ctx, pca, at, i, length[i - at], &kept);
            while (!status && !kept) {
                rv__pca_random(pca, pca->z + i * dim);
                length[i - at] = rv__pca_length(pca->z + i * dim, dim);
                status = rv__pca_clean(ctx, pca, 0, i, length[i - at], &kept);
            }
            if (status) return status;
        }
        for (size_t i = at; i < at + group; i++) {
            const float *row = pca->z + i * dim;
            status = rv__poll_by(ctx, &left, 8 * dim);
            if (status) return status;
            for (size_t j = 0; j < dim; j++) pca->columns[j * block + i] = row[j];
        }
    }
    return RV_OK;
}

/* Leaves an orthonormal basis of the leading space in q and its image q cov in z. */
static rv_status rv__pca_iterate(rv_ctx *ctx, rv__pca *pca)
{
    const size_t dim = pca->dim, block = pca->block;
    double last = 0.0;
    size_t left = 0;
    for (size_t i = 0; i < block; i++) {
        rv_status status = rv__poll_by(ctx, &left, 2 * dim);
        if (status) return status;
        rv__pca_random(pca, pca->z + i * dim);
    }
    for (unsigned round = 0; round < RV__PCA_ROUNDS; round++) {
        double trace = 0.0;
        float *swap = pca->q;
        rv_status status = rv__pca_orthonormalise(ctx, pca);
        if (status) return status;
        pca->q = pca->z;
        pca->z = swap;
        status = rv_gemm_nt_f32(ctx, pca->q, dim, pca->cov, dim, block, dim, dim, 0, pca->z, dim);
        if (status) return status;
        for (size_t i = 0; i < block; i++) {
            status = rv__poll_by(ctx, &left, dim);
            if (status) return status;
            trace += rv__pca_dot(pca->q + i * dim, pca->z + i * dim, dim);
        }
        /* the whole space needs one round; else stop when a round gains 1 part in 10^5 */
        if (block == dim || trace <= last * (1.0 + 1e-5)) break;
        last = trace;
    }
    return RV_OK;
}

/* basis = the n_out leading eigenvectors of cov within the space of q. */
static rv_status rv__pca_ritz(rv_ctx *ctx, rv__pca *pca, size_t n_out, float *basis,
                              float *eigenvalues)
{
    const size_t dim = pca->dim, block = pca->block;
    double *a = pca->wide, *v = a + block * block, *d = v + block * block;
    size_t left = 0;
    rv_status status =
        rv_gemm_nt_f32(ctx, pca->q, dim, pca->z, dim, block, block, dim, 0, pca->tiny, block);
    for (size_t i = 0; i < block; i++) {
        if (!status) status = rv__poll_by(ctx, &left, 4 * block);
        if (status) return status;
        for (size_t j = 0; j < block; j++) {
            a[i * block + j] =
                0.5 * ((double)pca->tiny[i * block + j] + (double)pca->tiny[j * block + i]);
        }
    }
    status = rv__eigen_symmetric(ctx, a, block, d, v, d + block);
    for (size_t i = 0; i < n_out; i++) {
        if (!status) status = rv__poll_by(ctx, &left, block);
        if (status) return status;
        for (size_t j = 0; j < block; j++) pca->tiny[i * block + j] = (float)v[i * block + j];
    }
    status = rv_gemm_nt_f32(ctx, pca->tiny, block, pca->columns, block, n_out, dim, block, 0, basis,
                            dim);
    for (size_t i = 0; i < n_out; i++) {
        float *row = basis + i * dim, top = 0.0f;
        if (!status) status = rv__poll_by(ctx, &left, 2 * dim);
        if (status) return status;
        for (size_t j = 0; j < dim; j++) top = fabsf(row[j]) > fabsf(top) ? row[j] : top;
        if (top < 0.0f) {
            for (size_t j = 0; j < dim; j++) row[j] = -row[j];
        }
        if (eigenvalues) eigenvalues[i] = d[i] > 0.0 ? (float)d[i] : 0.0f;
    }
    return RV_OK;
}

static rv_status rv__pca_run(rv_ctx *ctx, rv__pca *pca, size_t m, size_t n_out, float *mean,
                             float *basis, float *eigenvalues, double *total_variance)
{
    double total = 0.0;
    rv_status status = rv__pca_mean(ctx, pca, m, mean);
    if (!status) status = rv__pca_covariance(ctx, pca, m, mean);
    if (status) return status;
    for (size_t j = 0; j < pca->dim; j++) total += (double)pca->cov[j * pca->dim + j];
    if (!(total < 3e38)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "the variance of the rows overflows a float");
    }
    if (total_variance) *total_variance = total;
    status = rv__pca_iterate(ctx, pca);
    if (!status) status = rv__pca_ritz(ctx, pca, n_out, basis, eigenvalues);
    return status;
}

/* As rv_pca_train, with the seed given. */
RV__FN rv_status rv__pca_train(rv_ctx *ctx, const float *rows, size_t stride, size_t n, size_t dim,
                               size_t n_out, uint64_t seed, float *mean, float *basis,
                               float *eigenvalues, double *total_variance)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__pca pca;
    size_t m = 4 * dim < 8192 ? 8192 : 4 * dim < 16384 ? 4 * dim : 16384, spare, depth, wide;
    rv_status status = RV_ERR_MEMORY;
    if (dim < 1 || dim > 65535) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "dim is %z, allowed: 1 to 65535", dim);
    }
    if (n_out < 1 || n_out > dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n_out is %z, allowed: 1 to dim (%z)", n_out, dim);
    }
    if (stride == 0) stride = dim;
    if (n < 1 || !rows || !mean || !basis || stride < dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "pca needs rows, mean, basis, n >= 1 and stride >= dim");
    }
    spare = n_out / 8 < 8 ? 8 : n_out / 8;
    pca.rows = rows;
    pca.stride = stride;
    pca.n = n;
    pca.dim = dim;
    /* the small problem costs block^3: near dim the spare rows are worth nothing */
    pca.block = n_out + spare < dim ? n_out + spare : dim;
    if (m > n) m = n;
    rv__rng_init(&pca.rng, seed);
    depth = pca.block > RV__PCA_CHUNK ? pca.block : RV__PCA_CHUNK;
    wide = rv__pca_wide(pca.block, dim);
    pca.columns = (float *)rv__get(&alloc, rv__mul(dim, depth), sizeof(float));
    pca.cov = (float *)rv__get(&alloc, rv__mul(dim, dim), sizeof(float));
    pca.q = (float *)rv__get(&alloc, rv__mul(dim, pca.block), sizeof(float));
    pca.z = (float *)rv__get(&alloc, rv__mul(dim, pca.block), sizeof(float));
    pca.tiny = (float *)rv__get(&alloc, rv__mul(pca.block, pca.block), sizeof(float));
    pca.wide = (double *)rv__get(&alloc, wide, sizeof(double));
    if (pca.columns && pca.cov && pca.q && pca.z && pca.tiny && pca.wide) {
        status = rv__pca_run(ctx, &pca, m, n_out, mean, basis, eigenvalues, total_variance);
    } else {
        status = rv__no_memory(ctx, rv__mul(rv__mul(dim, depth), sizeof(float)));
    }
    rv__put(&alloc, pca.wide, wide, sizeof(double));
    rv__put(&alloc, pca.tiny, rv__mul(pca.block, pca.block), sizeof(float));
    rv__put(&alloc, pca.z, rv__mul(dim, pca.block), sizeof(float));
    rv__put(&alloc, pca.q, rv__mul(dim, pca.block), sizeof(float));
    rv__put(&alloc, pca.cov, rv__mul(dim, dim), sizeof(float));
    rv__put(&alloc, pca.columns, rv__mul(dim, depth), sizeof(float));
    return status;
}

RV_API rv_status rv_pca_train(rv_ctx *ctx, const float *rows, size_t stride, size_t n, size_t dim,
                              size_t n_out, float *mean, float *basis, float *eigenvalues,
                              double *total_variance)
{
    rv_status status = rv__pca_train(ctx, rows, stride, n, dim, n_out, rv__seed(ctx), mean, basis,
                                     eigenvalues, total_variance);
    return status ? status : rv__ok(ctx);
}

/* Rows are centred a few at a time, so that a mean far from zero costs no accuracy. */
RV_API rv_status rv_pca_apply(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                              size_t n_out, const float *rows, size_t stride, size_t n, float *out)
{
    const size_t most = 16 + RV__WORK / (dim + 1) < 256 ? 16 + RV__WORK / (dim + 1) : 256;
    const size_t chunk = n < most ? n : most;
    rv_alloc alloc = rv__allocator(ctx);
    rv_status status = RV_OK;
    float *centred;
    if (stride == 0) stride = dim;
    if (dim < 1 || dim > 65535 || n_out < 1 || n_out > dim || stride < dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "pca: dim %z, n_out %z or stride %z is out of range",
                        dim, n_out, stride);
    }
    if (n == 0) return rv__ok(ctx);
    centred = (float *)rv__get(&alloc, chunk * dim, sizeof(float));
    if (!centred) return rv__no_memory(ctx, chunk * dim * sizeof(float));
    for (size_t first = 0; !status && first < n; first += chunk) {
        size_t part = n - first < chunk ? n - first : chunk;
        status = rv__poll(ctx);
        if (status) break;
        for (size_t i = 0; i < part; i++) {
            const float *row = rows + (first + i) * stride;
            float *to = centred + i * dim;
            for (size_t j = 0; j < dim; j++) to[j] = mean ? row[j] - mean[j] : row[j];
        }
        status = rv_gemm_nt_f32(ctx, centred, dim, basis, dim, part, n_out, dim, 0,
                                out + first * n_out, n_out);
    }
    rv__put(&alloc, centred, chunk * dim, sizeof(float));
    return status ? status : rv__ok(ctx);
}

/* rows += x basis, n of them, for the columns first..first+wide-1; turned: [wide, n_out]. */
static rv_status rv__pca_restore_columns(rv_ctx *ctx, const float *basis, size_t dim, size_t n_out,
                                         const float *x, size_t n, size_t first, size_t wide,
                                         float *turned, float *rows)
{
    size_t left = 0;
    for (size_t c = 0; c < n_out; c++) {
        const float *axis = basis + c * dim + first;
        rv_status status = rv__poll_by(ctx, &left, 4 * wide);
        if (status) return status;
        for (size_t j = 0; j < wide; j++) turned[j * n_out + c] = axis[j];
    }
    return rv_gemm_nt_f32(ctx, x, n_out, turned, n_out, n, wide, n_out, 1, rows + first, dim);
}

/* A few rows one axis at a time; more through products with the basis, transposed by blocks. */
RV_API rv_status rv_pca_restore(rv_ctx *ctx, const float *mean, const float *basis, size_t dim,
                                size_t n_out, const float *x, size_t n, float *rows)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    const size_t block = dim < RV__PCA_BLOCK ? dim : RV__PCA_BLOCK;
    rv_alloc alloc = rv__allocator(ctx);
    rv_status status = RV_OK;
    size_t left = 0;
    float *turned;
    if (dim < 1 || dim > 65535 || n_out < 1 || n_out > dim) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "pca: dim %z or n_out %z is out of range", dim, n_out);
    }
    for (size_t i = 0; i < n; i++) {
        float *row = rows + i * dim;
        status = rv__poll_by(ctx, &left, dim + 32);
        if (status) return status;
        if (mean) memcpy(row, mean, dim * sizeof(float));
        else memset(row, 0, dim * sizeof(float));
        for (size_t c = 0; n < RV__PCA_FEW && c < n_out; c++) {
            status = rv__poll_by(ctx, &left, dim);
            if (status) return status;
            kernels->axpy_f32(x[i * n_out + c], basis + c * dim, row, dim);
        }
    }
    if (n < RV__PCA_FEW) return rv__ok(ctx);
    turned = (float *)rv__get(&alloc, block * n_out, sizeof(float));
    if (!turned) return rv__no_memory(ctx, block * n_out * sizeof(float));
    for (size_t first = 0; !status && first < dim; first += block) {
        status = rv__pca_restore_columns(ctx, basis, dim, n_out, x, n, first,
                                         dim - first < block ? dim - first : block, turned, rows);
    }
    rv__put(&alloc, turned, block * n_out, sizeof(float));
    return status ? status : rv__ok(ctx);
}

#undef RV__PCA_BLOCK
#undef RV__PCA_CHUNK
#undef RV__PCA_GROUP
#undef RV__PCA_ROUNDS
#undef RV__PCA_FEW
#endif /* RV_PCA_C */
