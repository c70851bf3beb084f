#ifndef RV_LOSS_C
#define RV_LOSS_C
#include "loss.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"

/* Contrastive losses. All of them turn cosines into scores s = cosine / temperature, scores into
   the loss and its derivative by each score (rv__loss_scores), and that into gradients:

       d cos(a, x) / d a = (x / |x| - cos a / |a|) / |a|

   Exponentials are taken of differences from the largest score, by the float kernel; their sums,
   and the logarithms, in double.

   Batch and graph work on unit rows: the gradient by a unit row u is collected first and the part
   along u taken away at the end, for all roles of a row at once.

   Sources: van den Oord, Li, Vinyals, Representation learning with contrastive predictive coding,
   2018; Khosla et al., Supervised contrastive learning, 2020; Schroff, Kalenichenko, Philbin,
   FaceNet, 2015. The single-positive form is averaged over several positives; a vector below 1e-8
   gets the gradient 0 where the clamped formula has one of 1e8. */

#define RV__LOSS_LEAST 1e-8 /* a shorter vector has no direction  */
#define RV__LOSS_ROWS 64u   /* rows of the batch per block        */

/* ---- shared by the losses ---- */

/* x must be there and finite. */
RV__FN rv_status rv__loss_check(rv_ctx *ctx, const char *name, const float *x, size_t n)
{
    if (n && !x) return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", name);
    return rv__check_finite(ctx, name, x, n);
}

/* n rows of dim elements must be a size, and dim not 0. */
RV__FN rv_status rv__loss_check_size(rv_ctx *ctx, size_t n, size_t dim)
{
    if (dim == 0) return rv__fail(ctx, RV_ERR_ARG, 0, "dim is 0; it must be 1 or more");
    if (rv__mul(n, dim) > SIZE_MAX / 32 || n > UINT32_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z rows of %z; that does not fit the memory", n,
                        dim);
    }
    return RV_OK;
}

/* In double where float lanes cannot hold it. */
RV__FN double rv__loss_dot(const rv__kernels *kernels, const float *a, const float *b, size_t n)
{
    float dot = kernels->dot_f32(a, b, n);
    double wide = 0.0;
    if (rv__finite_f32(dot)) return (double)dot;
    for (size_t i = 0; i < n; i++) wide += (double)a[i] * (double)b[i];
    return wide;
}

RV__FN double rv__loss_length(const rv__kernels *kernels, const float *x, size_t n)
{
    double sum = rv__loss_dot(kernels, x, x, n);
    if (sum < 1e-20) { /* squares may have been lost below the range of floats */
        sum = 0.0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    }
    return sqrt(sum);
}

/* 1 / |x|, 0 of what counts as zero. */
RV__FN double rv__loss_inverse(const rv__kernels *kernels, const float *x, size_t n)
{
    double length = rv__loss_length(kernels, x, n);
    return length < RV__LOSS_LEAST ? 0.0 : 1.0 / length;
}

/* ---- scores to loss ---- */

typedef struct rv__infonce {
    const rv__kernels *kernels;
    double temperature;
    rv_infonce_form form;
} rv__infonce;

static rv_status rv__infonce_check(rv_ctx *ctx, const rv_infonce_config *config, rv__infonce *nce)
{
    const int given = config && rv__given(config->temperature);
    float temperature = given ? config->temperature : 0.07f;
    nce->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    nce->temperature = (double)temperature;
    nce->form = config ? config->form : RV_INFONCE_MEAN;
    if (!rv__finite_f32(temperature) || temperature < 0.0f || temperature > 1e6f) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "temperature is %f; it must be above 0 and at most 1e6",
                        (double)temperature);
    }
    if ((unsigned)nce->form > (unsigned)RV_INFONCE_SUM) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "form is %d; it must be one of rv_infonce_form, 0..2", (int)nce->form);
    }
    return RV_OK;
}

/* e[i] = exp(s[i] - top), the largest s to *top; the sum of all e. n = 0: 0, top -1e300. */
static double rv__loss_exps(const rv__kernels *kernels, const double *s, size_t n, float *e,
                            double *top)
{
    double sum = 0.0;
    *top = -1e300;
    for (size_t i = 0; i < n; i++) {
        if (s[i] > *top) *top = s[i];
    }
    for (size_t i = 0; i < n; i++) e[i] = (float)(s[i] - *top);
    kernels->exp_f32(e, e, n);
    for (size_t i = 0; i < n; i++) sum += (double)e[i];
    return sum;
}

/* The mean over positives of the single-positive form. The weight of all negatives beside positive
   p is N / (e^s_p + N): what p is pulled with and the negatives are pushed with. */
static double rv__loss_scores_mean(double *s, const float *e, size_t n_pos, size_t n_all,
                                   double sum, double top)
{
    double loss = 0.0, push = 0.0, n = (double)n_pos;
    for (size_t i = 0; i < n_pos; i++) {
        double high = s[i] > top ? s[i] : top;
        double own = rv__exp(s[i] - high), rest = sum * rv__exp(top - high), all = own + rest;
        loss += high - s[i] + rv__log(all);
        push += rv__exp(top - high) / all / n;
        s[i] = -rest / all / n;
    }
    for (size_t i = n_pos; i < n_all; i++) s[i] = push * (double)e[i];
    return loss / n;
}

/* Turns scores, positives first, into the derivatives of the loss by them, and returns the loss.
   e: [n_all] scratch. */
static double rv__loss_scores(const rv__infonce *nce, double *s, float *e, size_t n_pos,
                              size_t n_all)
{
    double top_pos, top_neg, pos, neg, high, low, all, loss = 0.0, n = (double)n_pos;
    pos = rv__loss_exps(nce->kernels, s, n_pos, e, &top_pos);
    neg = rv__loss_exps(nce->kernels, s + n_pos, n_all - n_pos, e + n_pos, &top_neg);
    if (nce->form == RV_INFONCE_MEAN) {
        return rv__loss_scores_mean(s, e, n_pos, n_all, neg, top_neg);
    }
    high = top_pos > top_neg ? top_pos : top_neg;
    low = top_pos - high;
    top_pos = rv__exp(low); /* from here on factors of the e[i] */
    top_neg = n_all == n_pos ? 0.0 : rv__exp(top_neg - high);
    all = pos * top_pos + neg * top_neg;
    if (nce->form == RV_INFONCE_SUPCON) {
        for (size_t i = 0; i < n_pos; i++) {
            loss += (high - s[i] + rv__log(all)) / n;
            s[i] = (double)e[i] * top_pos / all - 1.0 / n;
        }
    } else {
        /* e / all - e / P = -(e / P) N / all */
        loss = rv__log(all) - rv__log(pos) - low;
        for (size_t i = 0; i < n_pos; i++) s[i] = -(double)e[i] / pos * (neg * top_neg / all);
    }
    for (size_t i = n_pos; i < n_all; i++) s[i] = (double)e[i] * top_neg / all;
    return loss;
}

/* ---- one anchor ---- */

static rv_status rv__infonce_check_io(rv_ctx *ctx, const rv_infonce_io *io, const double *loss)
{
    rv_status status;
    if (!io || !loss) return rv__fail(ctx, RV_ERR_ARG, 0, "io or loss is NULL");
    if (io->n_positives == 0) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n_positives is 0; it must be 1 or more");
    }
    status = rv__loss_check_size(ctx, rv__add(io->n_positives, io->n_negatives), io->dim);
    if (!status) status = rv__loss_check(ctx, "anchor", io->anchor, io->dim);
    if (!status) {
        status = rv__loss_check(ctx, "positives", io->positives, io->n_positives * io->dim);
    }
    if (!status) {
        status = rv__loss_check(ctx, "negatives", io->negatives, io->n_negatives * io->dim);
    }
    return status;
}

static const float *rv__infonce_item(const rv_infonce_io *io, size_t i)
{
    return i < io->n_positives ? io->positives + i * io->dim
                               : io->negatives + (i - io->n_positives) * io->dim;
}

/* s: derivatives by the scores; cosine, inverse: of the items. */
static void rv__infonce_gradients(const rv__infonce *nce, const rv_infonce_io *io, double inverse,
                                  const double *s, const double *cosine, const double *inverses)
{
    const size_t dim = io->dim, n_all = io->n_positives + io->n_negatives;
    double along = 0.0;
    if (io->d_anchor) memset(io->d_anchor, 0, dim * sizeof(float));
    for (size_t i = 0; i < n_all; i++) {
        const double c = s[i] / nce->temperature, own = inverses[i];
        const float *x = rv__infonce_item(io, i);
        float *d = i >= io->n_positives ? io->d_negatives : io->d_positives;
        along += c * cosine[i];
        if (io->d_anchor) nce->kernels->axpy_f32((float)(c * own), x, io->d_anchor, dim);
        if (!d) continue;
        d += (i < io->n_positives ? i : i - io->n_positives) * dim;
        for (size_t j = 0; j < dim; j++) {
            d[j] = (float)(inverse == 0.0 ? 0.0
                                          : c * own *
                                                ((double)io->anchor[j] * inverse -
                                                 cosine[i] * (double)x[j] * own));
        }
    }
    for (size_t j = 0; io->d_anchor && j < dim; j++) {
        double towards = (double)io->d_anchor[j] - along * (double)io->anchor[j] * inverse;
        io->d_anchor[j] = (float)(inverse * towards);
    }
}

RV_API rv_status rv_loss_infonce(rv_ctx *ctx, const rv_infonce_config *config,
                                 const rv_infonce_io *io, double *loss)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__infonce nce;
    double *s, inverse, *cosine, *inverses;
    size_t n_all;
    rv_status status = rv__infonce_check(ctx, config, &nce);
    if (!status) status = rv__infonce_check_io(ctx, io, loss);
    if (status) return status;
    n_all = io->n_positives + io->n_negatives;
    s = (double *)rv__get(&alloc, n_all, 28);
    if (!s) return rv__no_memory(ctx, rv__mul(n_all, 28));
    cosine = s + n_all;
    inverses = cosine + n_all;
    inverse = rv__loss_inverse(nce.kernels, io->anchor, io->dim);
    for (size_t i = 0; i < n_all; i++) {
        const float *x = rv__infonce_item(io, i);
        inverses[i] = rv__loss_inverse(nce.kernels, x, io->dim);
        cosine[i] = rv__loss_dot(nce.kernels, io->anchor, x, io->dim) * inverse * inverses[i];
        s[i] = cosine[i] / nce.temperature;
    }
    *loss = rv__loss_scores(&nce, s, (float *)(inverses + n_all), io->n_positives, n_all);
    rv__infonce_gradients(&nce, io, inverse, s, cosine, inverses);
    rv__put(&alloc, s, n_all, 28);
    return rv__ok(ctx);
}

/* ---- unit rows, for batch and graph ---- */

/* units = rows scaled to length 1, or 0; inverses: [n] their scales. */
static void rv__loss_units(const rv__kernels *kernels, const float *x, size_t n, size_t dim,
                           float *units, double *inverses)
{
    for (size_t i = 0; i < n; i++) {
        inverses[i] = rv__loss_inverse(kernels, x + i * dim, dim);
        for (size_t j = i * dim; j < (i + 1) * dim; j++) {
            units[j] = (float)((double)x[j] * inverses[i]);
        }
    }
}

/* d_x = the gradient d_units, scaled by factor, less its part along the row. */
static void rv__loss_across(const rv__kernels *kernels, const float *units, const double *inverses,
                            const float *d_units, size_t n, size_t dim, double factor, float *d_x)
{
    for (size_t i = 0; d_x && i < n; i++) {
        const float *u = units + i * dim, *d = d_units + i * dim;
        const double along = rv__loss_dot(kernels, u, d, dim), scale = factor * inverses[i];
        for (size_t j = 0; j < dim; j++) {
            d_x[i * dim + j] = (float)(((double)d[j] - along * (double)u[j]) * scale);
        }
    }
}

static void rv__loss_transpose(const float *x, size_t n, size_t dim, float *turned)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < dim; j++) turned[j * n + i] = x[i * dim + j];
    }
}

/* ---- pairs of a batch ---- */

typedef struct rv__infonce_batch {
    rv__infonce nce;
    size_t n, dim;
    float *units[2], *turned[2], *d_units[2]; /* of anchors and positives                     */
    double *inverses[2];
    float *scores, *weights; /* [64, n] of a block of rows, and turned                        */
    int gradients;
} rv__infonce_batch;

/* Scores of one row, whose own partner is at `own`, to derivatives by the cosines times n. */
static double rv__infonce_row(const rv__infonce *nce, float *s, size_t n, size_t own)
{
    const float scale = (float)(1.0 / nce->temperature);
    double sum = 0.0, loss, cosine = (double)s[own], top;
    int nan = 0;
    top = (double)nce->kernels->max_f32(s, 1.0f, n, &nan);
    for (size_t j = 0; j < n; j++) s[j] = (s[j] - (float)top) * scale;
    nce->kernels->exp_f32(s, s, n);
    for (size_t j = 0; j < n; j++) sum += (double)s[j];
    loss = (top - cosine) / nce->temperature + rv__log(sum);
    sum = 1.0 / sum;
    /* one minus its share, from the others when that is more exact */
    top = 1.0 - (double)s[own] * sum;
    if (top < 0.5) {
        top = 0.0;
        for (size_t j = 0; j < n; j++) top += j == own ? 0.0 : (double)s[j] * sum;
    }
    nce->kernels->scale_f32((float)(sum / nce->temperature), s, n);
    s[own] = (float)(-top / nce->temperature);
    return loss;
}

/* One direction: rows of side a against all rows of side b. */
static rv_status rv__infonce_direction(rv_ctx *ctx, rv__infonce_batch *b, size_t side, double *loss)
{
    const size_t n = b->n, dim = b->dim, other = 1 - side;
    for (size_t i = 0; i < n; i += RV__LOSS_ROWS) {
        const size_t rows = n - i < RV__LOSS_ROWS ? n - i : RV__LOSS_ROWS;
        const float *a = b->units[side] + i * dim;
        rv_status status = rv_gemm_nt_f32(ctx, a, 0, b->units[other], 0, rows, n, dim, 0, b->scores,
                                          0);
        if (status) return status;
        for (size_t r = 0; r < rows; r++) {
            *loss += rv__infonce_row(&b->nce, b->scores + r * n, n, i + r);
        }
        if (!b->gradients) continue;
        status = rv_gemm_nt_f32(ctx, b->scores, 0, b->turned[other], 0, rows, dim, n, 1,
                                b->d_units[side] + i * dim, 0);
        if (status) return status;
        rv__loss_transpose(b->scores, rows, n, b->weights);
        status = rv_gemm_nt_f32(ctx, b->weights, 0, b->turned[side] + i, n, n, dim, rows, 1,
                                b->d_units[other], 0);
        if (status) return status;
    }
    return RV_OK;
}

/* All scratch is one block; this hands it out. */
static void rv__infonce_split(rv__infonce_batch *b, double *block)
{
    const size_t rows = b->n * b->dim;
    float *at = (float *)(block + 2 * b->n);
    b->inverses[0] = block;
    b->inverses[1] = block + b->n;
    for (size_t side = 0; side < 2; side++) {
        b->units[side] = at;
        b->turned[side] = at + rows;
        b->d_units[side] = at + 2 * rows;
        at += 3 * rows;
    }
    b->scores = at;
    b->weights = at + RV__LOSS_ROWS * b->n;
}

static rv_status rv__infonce_pairs(rv_ctx *ctx, rv__infonce_batch *b, int symmetric,
                                   const float *const *x, double *loss, float *const *d_x)
{
    rv_status status = RV_OK;
    double sum = 0.0, factor = 1.0 / ((double)b->n * (symmetric ? 2.0 : 1.0));
    for (size_t side = 0; side < 2; side++) {
        rv__loss_units(b->nce.kernels, x[side], b->n, b->dim, b->units[side], b->inverses[side]);
        if (!b->gradients) continue;
        rv__loss_transpose(b->units[side], b->n, b->dim, b->turned[side]);
        memset(b->d_units[side], 0, b->n * b->dim * sizeof(float));
    }
    for (size_t side = 0; side < (symmetric ? 2u : 1u) && !status; side++) {
        status = rv__infonce_direction(ctx, b, side, &sum);
    }
    if (status) return status;
    *loss = sum * factor;
    for (size_t side = 0; side < 2; side++) {
        rv__loss_across(b->nce.kernels, b->units[side], b->inverses[side], b->d_units[side], b->n,
                        b->dim, factor, d_x[side]);
    }
    return RV_OK;
}

RV_API rv_status rv_loss_infonce_batch(rv_ctx *ctx, const rv_infonce_config *config,
                                       const float *anchors, const float *positives, size_t n,
                                       size_t dim, double *loss, float *d_anchors,
                                       float *d_positives)
{
    rv_alloc alloc = rv__allocator(ctx);
    const float *x[2];
    float *d_x[2];
    double *block;
    size_t bytes;
    rv__infonce_batch b;
    rv_status status = rv__infonce_check(ctx, config, &b.nce);
    if (!status) status = rv__loss_check_size(ctx, n, dim);
    if (!status && n == 0) status = rv__fail(ctx, RV_ERR_ARG, 0, "n is 0; it must be 1 or more");
    if (!status && !loss) status = rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (!status) status = rv__loss_check(ctx, "anchors", anchors, n * dim);
    if (!status) status = rv__loss_check(ctx, "positives", positives, n * dim);
    if (status) return status;
    b.n = n;
    b.dim = dim;
    b.gradients = d_anchors || d_positives;
    bytes = rv__add(rv__mul(n * dim, 24), rv__mul(n, 16 + 8 * RV__LOSS_ROWS));
    block = (double *)rv__get(&alloc, bytes, 1);
    if (!block) return rv__no_memory(ctx, bytes);
    x[0] = anchors;
    x[1] = positives;
    d_x[0] = d_anchors;
    d_x[1] = d_positives;
    rv__infonce_split(&b, block);
    status = rv__infonce_pairs(ctx, &b, config && config->symmetric, x, loss, d_x);
    rv__put(&alloc, block, bytes, 1);
    return status ? status : rv__ok(ctx);
}

/* ---- neighbours in a graph ---- */

typedef struct rv__loss_graph {
    rv__infonce nce;
    rv__rng rng;
    size_t n, dim, negatives;
    const uint32_t *start, *neighbour;
    float *units, *d_units, *exps;
    double *inverses, *scores;
    uint32_t *list; /* [n] positives, then negatives of the row                              */
    uint32_t *seen; /* [n] 1 + the row that took this one last                               */
} rv__loss_graph;

/* Neighbours first, then the negatives. Returns the number of neighbours. */
static size_t rv__loss_local_list(rv__loss_graph *g, size_t i, size_t *n_all)
{
    size_t n_pos = 0, count, wanted;
    g->seen[i] = (uint32_t)i + 1;
    for (size_t e = g->start[i]; e < g->start[i + 1]; e++) {
        uint32_t j = g->neighbour[e];
        if (g->seen[j] == (uint32_t)i + 1) continue;
        g->seen[j] = (uint32_t)i + 1;
        g->list[n_pos++] = j;
    }
    count = n_pos;
    if (!n_pos) return 0;
    for (size_t j = 0; j < g->n; j++) {
        if (g->seen[j] != (uint32_t)i + 1) g->list[count++] = (uint32_t)j;
    }
    wanted = g->negatives && g->negatives < count - n_pos ? g->negatives : count - n_pos;
    for (size_t k = 0; wanted < count - n_pos && k < wanted; k++) {
        size_t at = n_pos + k, from = at + rv__rng_below(&g->rng, (uint32_t)(count - at));
        uint32_t moved = g->list[at];
        g->list[at] = g->list[from];
        g->list[from] = moved;
    }
    *n_all = n_pos + wanted;
    return n_pos;
}

static double rv__loss_local_row(rv__loss_graph *g, size_t i, size_t n_pos, size_t n_all,
                                 int gradients)
{
    const rv__kernels *kernels = g->nce.kernels;
    const size_t dim = g->dim;
    const float *u = g->units + i * dim;
    double loss;
    for (size_t k = 0; k < n_all; k++) {
        g->scores[k] = (double)kernels->dot_f32(u, g->units + g->list[k] * dim, dim) /
                       g->nce.temperature;
    }
    loss = rv__loss_scores(&g->nce, g->scores, g->exps, n_pos, n_all);
    for (size_t k = 0; gradients && k < n_all; k++) {
        const float c = (float)(g->scores[k] / g->nce.temperature);
        kernels->axpy_f32(c, g->units + g->list[k] * dim, g->d_units + i * dim, dim);
        kernels->axpy_f32(c, u, g->d_units + g->list[k] * dim, dim);
    }
    return loss;
}

static rv_status rv__loss_local_check(rv_ctx *ctx, const float *x, size_t n, size_t dim,
                                      const uint32_t *start, const uint32_t *neighbour)
{
    rv_status status = rv__loss_check_size(ctx, n, dim);
    if (!status && n == UINT32_MAX) status = rv__fail(ctx, RV_ERR_ARG, 0, "n is too large");
    if (!status) status = rv__loss_check(ctx, "x", x, n * dim);
    if (status) return status;
    if (!start || start[0] != 0) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "start is NULL or does not begin with 0");
    }
    for (size_t i = 0; i < n; i++) {
        if (start[i + 1] < start[i]) {
            return rv__fail(ctx, RV_ERR_ARG, i + 1, "start[%z] is %z; it must not fall below %z",
                            i + 1, (size_t)start[i + 1], (size_t)start[i]);
        }
    }
    if (start[n] && !neighbour) return rv__fail(ctx, RV_ERR_ARG, 0, "neighbour is NULL");
    for (size_t e = 0; e < start[n]; e++) {
        if (neighbour[e] >= n) {
            return rv__fail(ctx, RV_ERR_ARG, e, "neighbour[%z] is %z; it must be below n, %z", e,
                            (size_t)neighbour[e], n);
        }
    }
    return RV_OK;
}

static rv_status rv__loss_local_rows(rv_ctx *ctx, rv__loss_graph *g, const float *x, double *loss,
                                     float *d_x)
{
    size_t anchors = 0;
    double sum = 0.0;
    rv__loss_units(g->nce.kernels, x, g->n, g->dim, g->units, g->inverses);
    for (size_t i = 0; i < g->n; i++) {
        size_t n_all = 0, n_pos = rv__loss_local_list(g, i, &n_all);
        rv_status status = rv__poll(ctx);
        if (status) return status;
        if (!n_pos) continue;
        anchors++;
        sum += rv__loss_local_row(g, i, n_pos, n_all, d_x != NULL);
    }
    *loss = anchors ? sum / (double)anchors : 0.0;
    rv__loss_across(g->nce.kernels, g->units, g->inverses, g->d_units, g->n, g->dim,
                    anchors ? 1.0 / (double)anchors : 0.0, d_x);
    return RV_OK;
}

RV_API rv_status rv_loss_local(rv_ctx *ctx, const rv_infonce_config *config, const float *x,
                               size_t n, size_t dim, const uint32_t *start,
                               const uint32_t *neighbour, double *loss, float *d_x)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__loss_graph g;
    size_t bytes;
    double *block;
    rv_status status = rv__infonce_check(ctx, config, &g.nce);
    if (!status) status = rv__loss_local_check(ctx, x, n, dim, start, neighbour);
    if (!status && !loss) status = rv__fail(ctx, RV_ERR_ARG, 0, "loss is NULL");
    if (status) return status;
    bytes = rv__add(rv__mul(n * dim, 8), rv__mul(n, 28));
    block = (double *)rv__get_zero(&alloc, bytes, 1);
    if (!block) return rv__no_memory(ctx, bytes);
    g.n = n;
    g.dim = dim;
    g.negatives = config ? config->negatives : 0;
    g.start = start;
    g.neighbour = neighbour;
    g.inverses = block;
    g.scores = block + n;
    g.units = (float *)(block + 2 * n);
    g.d_units = g.units + n * dim;
    g.exps = g.d_units + n * dim;
    g.list = (uint32_t *)(void *)(g.exps + n);
    g.seen = g.list + n;
    rv__rng_init(&g.rng, rv__seed(ctx));
    status = rv__loss_local_rows(ctx, &g, x, loss, d_x);
    rv__put(&alloc, block, bytes, 1);
    return status ? status : rv__ok(ctx);
}

#undef RV__LOSS_LEAST
#undef RV__LOSS_ROWS

#endif /* RV_LOSS_C */
