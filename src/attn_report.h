#ifndef RV_ATTN_REPORT_H
#define RV_ATTN_REPORT_H
#include "base.h"

/* >>attn_report  Numbers that tell how an attention does, judged together: a status, a mode of
   attention and an action to recommend. Thread class: pure.

       metric      bad    healthy  warning critical mode       action
       coherence   low    0.5 - 1   < 0.3   < 0.1   SPARSE     CAUTIOUS, FREEZE when critical
       entropy     low    1 - 4     < 0.5   < 0.1   STANDARD   RAISE_TEMPERATURE
       ib_kl       high   0 - 0.2   > 0.5   > 1     STANDARD   ADD_REGULARIZATION
       diffusion   high   0 - 1     > 2     > 5     DIFFUSION  CAUTIOUS
       ot          high   0 - 0.5   > 0.3   > 0.7   GEOMETRIC  CAUTIOUS
       h0          high                             STANDARD   CAUTIOUS
       fisher_rao  high                             STANDARD   RAISE_TEMPERATURE

   The worst metric decides; of equals, the first in this order. Two or more that are critical:
   FREEZE, with the mode of the first. None bad: STANDARD and STABLE, or, with an entropy above its
   healthy range, SPARSE and LOWER_TEMPERATURE. h0 and fisher_rao are judged by thresholds of the
   caller's only. Names and thresholds are those of the ruvector project; which metric calls for
   which mode and action, and the order, are this library's choice.

       rv_report_metrics m = {0};      rv_report_input in = {0};      rv_report r;
       in.keys = k;  in.n = n;  in.dim = dim;  in.weights = w;  in.n_q = n_q;
       m.missing = 1u << RV_REPORT_OT;
       rv_attn_report_measure(ctx, &in, &m);
       rv_attn_report(ctx, NULL, &m, &r);                                                       */

typedef enum rv_report_metric {
    RV_REPORT_COHERENCE = 0, RV_REPORT_ENTROPY = 1, RV_REPORT_IB_KL = 2, RV_REPORT_DIFFUSION = 3,
    RV_REPORT_OT = 4, RV_REPORT_H0 = 5, RV_REPORT_FISHER_RAO = 6
} rv_report_metric;
#define RV_REPORT_METRICS 7

typedef enum rv_report_status {
    RV_REPORT_OK = 0, RV_REPORT_WARNING = 1, RV_REPORT_CRITICAL = 2
} rv_report_status;

typedef enum rv_report_mode {
    RV_REPORT_STANDARD = 0, RV_REPORT_SPARSE = 1, RV_REPORT_GEOMETRIC = 2,
    RV_REPORT_DIFFUSE = 3 /* by diffusion */
} rv_report_mode;

typedef enum rv_report_action {
    RV_REPORT_STABLE = 0, RV_REPORT_CAUTIOUS = 1, RV_REPORT_FREEZE = 2,
    RV_REPORT_RAISE_TEMPERATURE = 3, RV_REPORT_LOWER_TEMPERATURE = 4,
    RV_REPORT_ADD_REGULARIZATION = 5
} rv_report_action;

/* One row per metric. */
typedef struct rv_report_info {
    const char *name;
    int low;                         /* non-zero: low values are bad                              */
    double healthy_from, healthy_to; /* both 0: no such range                                     */
    double warning, critical;        /* both 0: not judged                                        */
    rv_report_mode mode;
    rv_report_action on_warning, on_critical;
} rv_report_info;
RV_API const rv_report_info *rv_report_metric_at(size_t i); /* NULL past the end */
/* "standard", "stable" and so on; "unknown" for any other value. */
RV_API const char *rv_report_mode_name(rv_report_mode mode);
RV_API const char *rv_report_action_name(rv_report_action action);

/* All 0 or more. */
typedef struct rv_report_metrics {
    double coherence;  /* rv_coherence.score, at most 1                                           */
    double entropy;    /* mean entropy of the weights, nats                                       */
    double ib_kl;      /* mean KL of the weights from uniform ones, nats                          */
    double diffusion;  /* energy x^T L x of a signal over the keys' graph                         */
    double ot;         /* transport distance between queries and keys                             */
    double h0;         /* total persistence of the keys, dimension 0                              */
    double fisher_rao; /* mean distance of the weights from uniform ones, at most pi              */
    unsigned missing;  /* bits 1 << RV_REPORT_OT ... of those that are not known: not judged      */
} rv_report_metrics;

/* Thresholds by metric, 0 or more; both 0: the table's. critical <= warning for what is bad when
   low, else critical >= warning. */
typedef struct rv_report_config {
    double warning[RV_REPORT_METRICS], critical[RV_REPORT_METRICS];
} rv_report_config;

typedef struct rv_report {
    rv_report_status status;                   /* of the worst                                    */
    rv_report_metric worst;                    /* COHERENCE when all are OK                       */
    rv_report_mode mode;
    rv_report_action action;
    rv_report_status each[RV_REPORT_METRICS];  /* OK for what is missing or not judged            */
    int healthy[RV_REPORT_METRICS];            /* known and within its healthy range              */
} rv_report;

/* RV_ERR_ARG: a known metric is NaN, infinite or out of its range, its number in ctx->where;
   RV_ERR_CONFIG: thresholds. */
RV_API rv_status rv_attn_report(rv_ctx *ctx, const rv_report_config *config,
                                const rv_report_metrics *metrics, rv_report *report);

/* What rv_attn_report_measure looks at. */
typedef struct rv_report_input {
    const float *keys;         /* [n, dim] with key_stride                                        */
    size_t n, dim, key_stride; /* stride 0: dim; n: 1..65536                                      */
    size_t neighbours;         /* of coherence; default 8                                         */
    const float *weights;      /* [n_q, n], rows of sum 1 within 1e-3, or of zeros: left out      */
    size_t n_q;
    const float *signal;       /* [n], for instance logits or weights of a query                  */
    float sigma;               /* of the kernel exp(-|k_i - k_j|^2 / (2 sigma^2)); default 1      */
} rv_report_input;

/* Measures what the input allows and clears its bit in `missing`: coherence and h0 from the keys,
   entropy, ib_kl and fisher_rao from the weights, diffusion, x^T (D - W) x with W the full kernel
   matrix, from signal and keys. Others, ot among them, stay as they are, their bits too; NULL for
   keys, weights or signal, or no row with weights, sets the bits. On failure nothing has been
   written. Errors: NaN, infinity, sizes, sums: RV_ERR_ARG; sigma: RV_ERR_CONFIG. Cost
   O(n^2 dim + n_q n). Polls. */
RV_API rv_status rv_attn_report_measure(rv_ctx *ctx, const rv_report_input *in,
                                        rv_report_metrics *metrics);

#endif /* RV_ATTN_REPORT_H */
