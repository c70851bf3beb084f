#ifndef RV_INFO_H
#define RV_INFO_H
#include "base.h"

/* >>info  Information geometry of categorical distributions, conjugate gradients, and the
   variational information bottleneck. KL and JS of distributions and KL of Gaussians, with
   gradients, are rv_loss_kl, rv_loss_js and rv_loss_gaussian_kl (>>loss).

   A distribution is a row p of dim elements, 0 or more, whose sum is within 1e-3 of 1. Logarithms
   are natural. Everything is computed in double. Inputs must be finite: NaN or infinity is
   RV_ERR_ARG with the element's index in ctx->where. On failure nothing has been written. Thread
   class: pure.

       rv_fisher_config config = {RV_FISHER_CLOSED, 0};     lr 0.1, damping 1e-8
       rv_fisher_step(ctx, &config, logits, d_logits, n);   one natural gradient step

   Sources: Rao, Information and the accuracy attainable, 1945; Amari, Natural gradient works
   efficiently in learning, 1998; Hestenes, Stiefel, 1952 (conjugate gradients); Tishby, Pereira,
   Bialek, The information bottleneck method, 1999; Kingma, Welling, 2014 (sampling by
   reparametrisation); Alemi et al., Deep variational information bottleneck, 2017. */

/* entropy[i] = -sum of p ln p over row i, in 0 .. ln dim. p: [n, dim]. */
RV_API rv_status rv_info_entropy(rv_ctx *ctx, const float *p, size_t n, size_t dim,
                                 double *entropy);
/* distance[i] = 2 arccos(sum of sqrt(p q)) over row i, in 0 .. pi: the length of the shortest way
   from p to q in the metric of Fisher's information. p, q: [n, dim]. Rows are scaled to the sum 1
   first. Accurate for near rows, too: the angle comes from the chord. */
RV_API rv_status rv_info_fisher_rao(rv_ctx *ctx, const float *p, const float *q, size_t n,
                                    size_t dim, double *distance);
/* out = w^(1 / temperature) over its sum, row by row; temperature above 0: below 1 sharpens, above
   1 flattens, 1 only scales to the sum 1. w: [n, dim], 0 or more, of any sum; a row of zeros stays
   so. out may be w. It is softmax of logits / temperature for w = softmax of logits. */
RV_API rv_status rv_info_compress(rv_ctx *ctx, const float *w, size_t n, size_t dim,
                                  float temperature, float *out);

/* ---- Fisher's information, F = diag(p) - p p^T: that of softmax's logits ---- */

typedef enum rv_fisher_method {
    RV_FISHER_CLOSED = 0,  /* exact, O(n): b / p less its mean, or Sherman and Morrison's formula */
    RV_FISHER_CG = 1,      /* the same by conjugate gradients, as any other F would need          */
    RV_FISHER_DIAGONAL = 2 /* b / (p + damping), 0 where that is 0 / 0                            */
} rv_fisher_method;

typedef struct rv_fisher_config {
    rv_fisher_method method; /* default RV_FISHER_CLOSED                                          */
    float damping;           /* added to F's diagonal, 0 or more; default: 0 for rv_fisher_solve,
                                1e-8 for rv_fisher_step                                           */
    float lr;                /* of rv_fisher_step, above 0; default 0.1                           */
    uint32_t iterations;     /* of CG, at most; default 50                                        */
    float tolerance;         /* of CG, above 0: residual over |b|; default 1e-6                   */
} rv_fisher_config;

/* out = F v + damping v. p, v, out: [n]; out may be v. */
RV_API rv_status rv_fisher_times(rv_ctx *ctx, const float *p, const float *v, size_t n,
                                 float damping, float *out);
/* x = (F + damping I)^-1 b, or F^+ b without damping (Moore and Penrose's inverse): b less its mean
   over the elements with p > 0, divided by p, less the mean of that; 0 where p is 0. F F^+ b = b
   exactly when b sums to 0 over those elements and is 0 elsewhere. p, b, x: [n]; x may be b.
   Allocates 16 n bytes, CG 48 n. Under CG it polls, and gives what the last iteration had. */
RV_API rv_status rv_fisher_solve(rv_ctx *ctx, const rv_fisher_config *config, const float *p,
                                 const float *b, size_t n, float *x);
/* theta -= lr (F + damping I)^-1 g, F that of p = softmax(theta), g the gradient by theta less its
   mean (a shift of all logits changes no probability). For cross entropy with target t the step is
   lr (t / p - 1) up to such a shift. theta, grad: [n]. Allocates 16 n bytes, CG 48 n. */
RV_API rv_status rv_fisher_step(rv_ctx *ctx, const rv_fisher_config *config, float *theta,
                                const float *grad, size_t n);

/* ---- conjugate gradients ---- */

typedef struct rv_cg_config {
    uint32_t iterations; /* at most; default 50                                                   */
    double tolerance;    /* above 0: done when |b - A x| <= tolerance |b|; default 1e-6           */
} rv_cg_config;

/* A is symmetric and positive semidefinite; if singular, b must lie in its range. */
typedef struct rv_cg_io {
    size_t n;
    void (*times)(void *user, const double *x, double *y); /* y = A x; x, y: [n]                  */
    void *user;
    const double *b;     /* [n]                                                                   */
    double *x;           /* [n], in: where to start; out: the solution                            */
    uint32_t iterations; /* out                                                                   */
    double residual;     /* out: |b - A x| / |b|, as the iteration carries it; b = 0 gives 0      */
} rv_cg_io;

/* Too few iterations are no error: look at io->residual. RV_ERR_ARG: the matrix shows itself as
   not positive, or not finite. Polls before every product. Allocates 32 n bytes. */
RV_API rv_status rv_cg_run(rv_ctx *ctx, const rv_cg_config *config, rv_cg_io *io);

/* ---- variational information bottleneck ---- */

/* z = mean + exp(logvar / 2) noise, kl = 1/2 sum of (exp(logvar) + mean^2 - 1 - logvar), loss =
   beta_t times the mean of kl over rows, beta_t = beta min(1, step / anneal). logvar is clamped to
   ln(min_variance) .. 20, in z, kl and gradients alike. Noise is that of a standard Gaussian,
   element by element, from ctx->seed, io->stream and the element's number alone: give every layer
   and step a stream of its own. */
typedef struct rv_vib_config {
    float beta;         /* above 0; default 0.1                                                   */
    uint64_t anneal;    /* steps over which beta grows; default 1000; 1: full from step 1 on      */
    float min_variance; /* e^-20 .. 1; default e^-20; 1e-4 is usual, too                          */
} rv_vib_config;

typedef struct rv_vib_io {
    const float *mean, *logvar; /* [n, dim]                                                       */
    size_t n, dim;              /* n = 0: nothing happens, loss 0                                 */
    uint64_t step, stream;
    int still;                  /* non-zero: no noise, z = mean, as at inference                  */
    float *z;                   /* [n, dim]; NULL: not wanted; may be mean or logvar              */
    double *kl;                 /* [n]; NULL: not wanted                                          */
    double *loss;               /* NULL: not wanted                                               */
} rv_vib_io;

/* Of the loss above plus one that sees z. Written, not added; may be d_z. */
typedef struct rv_vib_grad {
    const float *d_z;          /* [n, dim]; NULL: zeros                                           */
    float *d_mean, *d_logvar;  /* [n, dim]; NULL: not wanted. d_logvar is 0 beyond the clamps     */
} rv_vib_grad;

/* beta_t; a config out of range gives NaN. */
RV_API double rv_vib_beta(const rv_vib_config *config, uint64_t step);
/* Both poll; of a canceled call a part of z or of the gradients has been written. */
RV_API rv_status rv_vib_run(rv_ctx *ctx, const rv_vib_config *config, const rv_vib_io *io);
/* io: as given to rv_vib_run; z, kl and loss are not looked at, mean and logvar must be as then. */
RV_API rv_status rv_vib_backward(rv_ctx *ctx, const rv_vib_config *config, const rv_vib_io *io,
                                 const rv_vib_grad *grad);

#endif /* RV_INFO_H */
