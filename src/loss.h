#ifndef RV_LOSS_H
#define RV_LOSS_H
#include "base.h"

/* >>loss  Losses and regularizers for training embeddings, with the gradient for every input.

   infonce         pull an anchor to its positives, away from its negatives, by cosine
   infonce_batch   the same for pairs of rows, the other pairs of the batch as negatives
   local           the same over a graph: neighbours against all or sampled others
   triplet         hinge on Euclidean distances
   laplacian       neighbours in a graph should be alike
   orthogonal      columns (or rows) should be orthonormal
   norm            rows should have a given length
   spectral        the largest singular value of a matrix
   mse, cross_entropy, kl, js, gaussian_kl
   weighted, uncertain, gradnorm: several losses made one

   Losses come back in double. A gradient pointer may be NULL: not wanted; gradients are written,
   not added, in the shape of the input they belong to. Outputs must not overlap inputs or each
   other. Inputs must be finite: NaN or infinity is RV_ERR_ARG with the element's index in
   ctx->where. On failure, cancellation too, nothing has been written unless a function says
   otherwise. Similarities are dot products in float lanes (relative error about sqrt(dim) / 2^24 of
   their terms), the sums over them are in double. Functions that poll say so. Thread class: pure.

       rv_infonce_io io = {0};
       io.anchor = a;  io.positives = p;  io.n_positives = 1;  io.dim = 64;
       io.negatives = n;  io.n_negatives = 20;  io.d_anchor = da;
       rv_loss_infonce(ctx, NULL, &io, &loss);                                                  */

/* What several positives mean. s: cosine / temperature, N: sum of e^s over the negatives. */
typedef enum rv_infonce_form {
    RV_INFONCE_MEAN = 0,   /* mean over p of -ln(e^s_p / (e^s_p + N)); van den Oord et al., 2018 */
    RV_INFONCE_SUPCON = 1, /* mean over p of -ln(e^s_p / (sum of all e^s_p' + N)); Khosla et al.,
                              2020, equation 2                                                */
    RV_INFONCE_SUM = 2     /* -ln(sum of e^s_p / (sum of e^s_p + N))                          */
} rv_infonce_form;

typedef struct rv_infonce_config {
    float temperature;    /* above 0 to 1e6; default 0.07                                     */
    rv_infonce_form form; /* default RV_INFONCE_MEAN                                          */
    int symmetric;        /* infonce_batch: non-zero adds the direction from positives to anchors
                             and halves the sum                                               */
    uint32_t negatives;   /* local: so many others drawn per row with ctx->seed; default 0: all */
} rv_infonce_config;

/* A vector shorter than 1e-8 has no direction: its cosine with anything is 0, its gradient too. */
typedef struct rv_infonce_io {
    const float *anchor;    /* [dim]                                                          */
    const float *positives; /* [n_positives, dim]                                             */
    const float *negatives; /* [n_negatives, dim], NULL when there are none                   */
    size_t dim;             /* 1 or more                                                      */
    size_t n_positives;     /* 1 or more                                                      */
    size_t n_negatives;     /* 0: the loss is 0, but ln(n_positives) or more under SUPCON     */
    float *d_anchor;        /* [dim]                                                          */
    float *d_positives;     /* [n_positives, dim]                                             */
    float *d_negatives;     /* [n_negatives, dim]                                             */
} rv_infonce_io;
/* config may be NULL. Allocates 28 bytes per positive and negative. RV_ERR_CONFIG: temperature,
   form. */
RV_API rv_status rv_loss_infonce(rv_ctx *ctx, const rv_infonce_config *config,
                                 const rv_infonce_io *io, double *loss);

/* Pairs (anchors[i], positives[i]), both [n, dim]: the mean over i of -ln softmax over j of
   cos(anchors[i], positives[j]) / temperature, at j = i. n = 1 gives 0. The products run through
   rv_gemm_nt_f32 in blocks of rows; allocates about 24 n dim + 528 n bytes. Polls. */
RV_API rv_status rv_loss_infonce_batch(rv_ctx *ctx, const rv_infonce_config *config,
                                       const float *anchors, const float *positives, size_t n,
                                       size_t dim, double *loss, float *d_anchors,
                                       float *d_positives);

/* InfoNCE over a graph: x: [n, dim]; the neighbours of row i are neighbour[start[i]] ..
   neighbour[start[i + 1] - 1], start: [n + 1] from 0, not falling. Neighbours are the positives of
   a row, all other rows (or config->negatives of them, fewer where there are not as many) its
   negatives; the row itself, duplicates and self-loops do not count. The mean over rows that have a
   neighbour; 0 when none has. Every row is anchor, positive and negative, d_x holds all three.
   RV_ERR_ARG: start, a neighbour of n or more. Costs O(n^2 dim), with `negatives` O(n^2 + rows
   drawn dim); allocates 8 n dim + 28 n bytes. Polls. */
RV_API rv_status rv_loss_local(rv_ctx *ctx, const rv_infonce_config *config, const float *x,
                               size_t n, size_t dim, const uint32_t *start,
                               const uint32_t *neighbour, double *loss, float *d_x);

/* The mean over n rows of max(0, |a - p| - |a - q| + margin), with 1e-6 added to every difference
   as PyTorch does; margin 0 or more, 1 is usual. All inputs [n, dim]; n = 0 gives 0. At the hinge
   the gradient is 0. Source: Schroff et al., FaceNet, 2015. */
typedef struct rv_triplet_io {
    const float *anchors, *positives, *negatives; /* [n, dim] */
    size_t n, dim;                                /* dim 1 or more */
    float *d_anchors, *d_positives, *d_negatives; /* [n, dim] */
} rv_triplet_io;
RV_API rv_status rv_loss_triplet(rv_ctx *ctx, float margin, const rv_triplet_io *io, double *loss);

/* Sum over edges e of weight[e] |x_i - x_j|^2 = tr(X^T L X), i = from[e], j = to[e], each
   undirected edge given once; normalized: of weight[e] |x_i / sqrt(d_i) - x_j / sqrt(d_j)|^2 with d
   the sums of weights at a row (a self-loop counts once), the same with I - D^-1/2 W D^-1/2. x:
   [n, dim]; weight NULL: ones; weights 0 or more. Gradient 2 L X, rows without edges 0. Allocates
   8 n dim bytes for a gradient, 8 n when normalized. Polls. Source: Belkin, Niyogi, Laplacian
   eigenmaps, 2003. */
RV_API rv_status rv_loss_laplacian(rv_ctx *ctx, const float *x, size_t n, size_t dim,
                                   const uint32_t *from, const uint32_t *to, const float *weight,
                                   size_t n_edges, int normalized, double *loss, float *d_x);

/* |X^T X / divisor - I|^2 (sum of squares) over columns, or |X X^T / divisor - I|^2 over rows.
   divisor above 0; 0: n for columns, 1 for rows. x: [n, dim], both 1 or more. Allocates 8 m^2
   bytes, m = dim or n, for products in double. Polls. Source: Brock et al., 2017. */
RV_API rv_status rv_loss_orthogonal(rv_ctx *ctx, const float *x, size_t n, size_t dim, int rows,
                                    float divisor, double *loss, float *d_x);

/* The mean over rows of (|x| - target)^2, target 0 or more, 1 is usual. x: [n, dim]; n = 0 gives 0.
   A zero row has gradient 0. */
RV_API rv_status rv_loss_norm(rv_ctx *ctx, const float *x, size_t n, size_t dim, float target,
                              double *loss, float *d_x);

/* The largest singular value of w: [m, n] by power iteration, a lower bound that grows with
   iterations (1..10000, 10 is usual), and its gradient u v^T. u: [m], the left vector to start from
   and, on success, the one found (keep it between steps and one iteration is enough); NULL or all
   zeros: random by ctx->seed. A zero matrix gives 0 and gradient 0. For the regularizer
   lambda / 2 sigma^2 multiply the gradient by lambda sigma. Allocates 8 (m + n) bytes. Polls.
   Source: Yoshida, Miyato, Spectral norm regularization, 2017. */
RV_API rv_status rv_loss_spectral(rv_ctx *ctx, const float *w, size_t m, size_t n,
                                  uint32_t iterations, float *u, double *sigma, float *d_w);

/* The mean of (x - y)^2 over n elements; n = 0 gives 0. */
RV_API rv_status rv_loss_mse(rv_ctx *ctx, const float *x, const float *y, size_t n, double *loss,
                             float *d_x, float *d_y);

/* The mean over rows of -ln softmax(logits)[label]. logits: [n, classes]; label: [n], each below
   classes; n = 0 gives 0. */
RV_API rv_status rv_loss_cross_entropy(rv_ctx *ctx, const float *logits, const uint32_t *label,
                                       size_t n, size_t classes, double *loss, float *d_logits);

/* Divergences of rows that are distributions, p and q: [n, dim], elements 0 or more, each row's sum
   within 1e-3 of 1; the mean over rows; n = 0 gives 0. kl: sum of p ln(p / q), 0 where p is 0;
   q = 0 where p is not is RV_ERR_ARG, the divergence is infinite. js: kl(p, m) / 2 + kl(q, m) / 2
   with m = (p + q) / 2, at most ln 2. Gradients are of the formula, elements being free; where an
   input element is 0 and its derivative -infinity, the gradient holds 0. */
RV_API rv_status rv_loss_kl(rv_ctx *ctx, const float *p, const float *q, size_t n, size_t dim,
                            double *loss, float *d_p, float *d_q);
RV_API rv_status rv_loss_js(rv_ctx *ctx, const float *p, const float *q, size_t n, size_t dim,
                            double *loss, float *d_p, float *d_q);

/* KL of Gaussians with independent components, the first from the second, the mean over n rows of
   1/2 sum of ln(v2 / v1) + (v1 + (mean1 - mean2)^2) / v2 - 1, v = e^logvar; all [n, dim]. mean2 and
   logvar2 both NULL: the standard Gaussian. logvar is clamped to -20..20, its gradient is 0
   outside. */
typedef struct rv_gaussian_io {
    const float *mean1, *logvar1, *mean2, *logvar2;
    size_t n, dim; /* n = 0 gives 0; dim 1 or more */
    float *d_mean1, *d_logvar1, *d_mean2, *d_logvar2;
} rv_gaussian_io;
RV_API rv_status rv_loss_gaussian_kl(rv_ctx *ctx, const rv_gaussian_io *io, double *loss);

/* Sum of weight_i loss_i, weights 0 or more; weight_i is the factor of loss i's gradient. */
RV_API rv_status rv_loss_weighted(rv_ctx *ctx, const double *losses, const float *weight, size_t n,
                                  double *total);
/* Uncertainty weighting: sum of loss_i / (2 sigma_i^2) + ln sigma_i. log_sigma: [n], -40..40, 0 to
   start with. factor: [n], 1 / (2 sigma_i^2), of loss i's gradient; d_log_sigma: [n]. Source:
   Kendall, Gal, Cipolla, 2018. */
RV_API rv_status rv_loss_uncertain(rv_ctx *ctx, const double *losses, const float *log_sigma,
                                   size_t n, double *total, double *factor, float *d_log_sigma);

/* One GradNorm step for the weights of n losses: with g_i the length of loss i's own gradient at
   the shared parameters, G_i = weight_i g_i and r_i = (loss_i / initial_i) over their mean, the
   weights descend on sum of |G_i - mean(G) r_i^alpha| (the second term constant), then are scaled
   to the sum n. Weights that would fall below 1e-4 n are raised to it first, which the paper leaves
   open. losses 0 or more, initial above 0, alpha 0..10 (1.5 in the paper), lr 0 or more. objective
   (before the step) may be NULL. Source: Chen et al., GradNorm, 2018. */
typedef struct rv_gradnorm_io {
    const double *losses, *initial, *lengths; /* [n]: now, at the first step, g_i */
    size_t n;                                 /* 1 or more */
    float *weight;                            /* [n], in and out, above 0; ones to start with */
} rv_gradnorm_io;
RV_API rv_status rv_loss_gradnorm(rv_ctx *ctx, float alpha, float lr, const rv_gradnorm_io *io,
                                  double *objective);

#endif /* RV_LOSS_H */
