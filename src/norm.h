#ifndef RV_NORM_H
#define RV_NORM_H
#include "base.h"

/* >>norm  LayerNorm, RMSNorm, BatchNorm as at inference, each also over the sum with a residual,
   with gradients; dropout. Rows are normalized one by one; means are summed in double, mean squares
   in float lanes. Errors about 4 units in the last place of the result, where the sum of squared
   distances from the mean fits a float. NaN and infinity propagate: within a row (LAYER, RMS), or
   as single elements (BATCH). A row whose elements are all equal gives beta under LAYER, a row of
   zeros gives beta under RMS. Cost O(n dim). Thread class: pure.

       rv_norm_config config = {0};                       LayerNorm, eps 1e-5
       rv_norm_io io = {0};
       io.x = x;  io.residual = skip;  io.n = 16;  io.dim = 64;  io.gamma = gamma;  io.out = out;
       rv_norm_run(ctx, &config, &io);                                                         */

typedef enum rv_norm_kind {
    RV_NORM_LAYER = 0, /* (z - mean z) / sqrt(variance z + eps) * gamma + beta                */
    RV_NORM_RMS = 1,   /* z / sqrt(mean of z^2 + eps) * gamma + beta                          */
    RV_NORM_BATCH = 2  /* (z - mean) / sqrt(variance + eps) * gamma + beta with given moments */
} rv_norm_kind;

/* One row per kind. */
typedef struct rv_norm_info {
    const char *name;   /* "layer", ...  */
    const char *source; /* paper         */
} rv_norm_info;
RV_API const rv_norm_info *rv_norm_kind_at(size_t i); /* NULL past the end */

typedef struct rv_norm_config {
    rv_norm_kind kind; /* default RV_NORM_LAYER                                               */
    float eps;         /* above 0 to 1; default 1e-5                                          */
} rv_norm_config;

/* What is normalized, z, is x + residual. Outputs may be the very arrays x or residual, but `out`
   and `sum` must differ; any other overlap is not allowed. */
typedef struct rv_norm_io {
    const float *x;        /* [n, dim], BATCH: [n, dim, inner]                                */
    const float *residual; /* of the same shape, added to x; NULL: none                       */
    const float *gamma;    /* [dim], NULL: ones                                               */
    const float *beta;     /* [dim], NULL: zeros                                              */
    const float *mean;     /* [dim], BATCH only                                               */
    const float *variance; /* [dim], 0 or more, BATCH only                                    */
    size_t n;              /* rows, 0: nothing happens                                        */
    size_t dim;            /* 1..2^24                                                         */
    size_t inner;          /* BATCH: elements per channel, as of NCHW; default 1              */
    float *sum;            /* z, in the shape of x; NULL: not wanted                          */
    float *out;            /* in the shape of x                                               */
} rv_norm_io;

/* RV_ERR_CONFIG: kind, eps; RV_ERR_ARG: NULL, dim, a variance that is negative or not finite (its
   index in ctx->where); inner for another kind than BATCH. Polls; of a canceled call a part of the
   rows has been written. */
RV_API rv_status rv_norm_run(rv_ctx *ctx, const rv_norm_config *config, const rv_norm_io *io);

/* Gradients of a loss, given its gradient at the outputs. */
typedef struct rv_norm_grad {
    const float *d_out; /* in the shape of x                                                  */
    const float *d_sum; /* what reaches z by another way, as a residual stream does; NULL: none */
    float *d_x;         /* of x, and of the residual, which has the same; NULL: not wanted; may be
                           d_out or d_sum                                                     */
    float *d_gamma;     /* [dim], NULL: not wanted                                            */
    float *d_beta;      /* [dim], NULL: not wanted                                            */
} rv_norm_grad;
/* io: as given to rv_norm_run, with x and residual as they were then (or x = the sum and no
   residual); out and sum are not looked at. Gradients are written, not added. Under BATCH mean and
   variance are constants. Allocates 16 dim bytes when d_gamma or d_beta is wanted. Errors and
   cancellation as above. */
RV_API rv_status rv_norm_backward(rv_ctx *ctx, const rv_norm_config *config, const rv_norm_io *io,
                                  const rv_norm_grad *grad);

/* Inverted dropout: while training each element becomes 0 with probability `rate`, else
   x / (1 - rate), so that the mean stays; otherwise out = x. rate: [0, 1). Which elements stay
   follows from ctx->seed, stream and the element's index alone: give every layer and step a stream
   of its own. The gradient is the same call, same seed and stream, on the gradient of out. x, out:
   [n], may be the same array. RV_ERR_ARG: NULL, rate. Polls; of a canceled call a part has been
   written. Source: Srivastava et al., Dropout, 2014. */
RV_API rv_status rv_dropout_run(rv_ctx *ctx, float rate, int training, uint64_t stream,
                                const float *x, size_t n, float *out);

#endif /* RV_NORM_H */
