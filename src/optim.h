#ifndef RV_OPTIM_H
#define RV_OPTIM_H
#include "base.h"

/* >>optim  Optimizers with their state in the caller's memory, gradient clipping, and what changes
   over training: learning rate, temperature, curriculum. Arithmetic of the steps is in floats,
   factors that depend on the step number are made in double. Thread class: pure (disjoint pieces of
   one parameter array may be stepped at once, each with its piece of the state).

       rv_optim_config config = {0};
       config.kind = RV_OPTIM_ADAMW;  config.lr = 1e-3f;
       float *state = malloc(rv_optim_state_count(config.kind, n) * sizeof(float));
       rv_optim_init(ctx, &config, n, state);
       for (step = 0; step < steps; step++) {
           ... gradients into grad ...
           rv_schedule_lr(ctx, &schedule, step, &config.lr);
           rv_optim_step(ctx, &config, step, param, grad, n, state);
       }                                                                                         */

/* g: gradient + weight_decay * parameter (ADAMW: the gradient alone), t: steps before this one. */
typedef enum rv_optim_kind {
    RV_OPTIM_SGD = 0,      /* m = g at t = 0 (plus momentum * m as it was, 0 after init), then
                              momentum m + (1 - dampening) g; p -= lr m, with nesterov
                              lr (g + momentum m). PyTorch's SGD (which ignores dampening
                              without momentum); ONNX Momentum with dampening = 1 - beta       */
    RV_OPTIM_ADAM = 1,     /* PyTorch's Adam: p -= lr (m / (1 - beta1^(t+1))) /
                              (sqrt(v / (1 - beta2^(t+1))) + eps)                             */
    RV_OPTIM_ADAMW = 2,    /* p *= 1 - lr weight_decay, then ADAM                             */
    RV_OPTIM_ADAGRAD = 3,  /* v += g^2; p -= lr / (1 + t lr_decay) g / (sqrt(v) + eps); PyTorch's
                              and ONNX's Adagrad                                              */
    RV_OPTIM_ADAM_ONNX = 4 /* ONNX Adam: eps is added to the uncorrected root, the corrections are
                              with t and not t + 1, none at t = 0; then p *= 1 - decay_after   */
} rv_optim_kind;

typedef struct rv_optim_config {
    rv_optim_kind kind; /* default RV_OPTIM_SGD                                               */
    float lr;           /* 0 or more; 0 (the default) leaves parameters but for ADAM_ONNX's
                           decay_after                                                        */
    float momentum;     /* SGD: [0, 1]; default 0                                             */
    float dampening;    /* SGD: [0, 1]; default 0                                             */
    int nesterov;       /* SGD: non-zero for Nesterov's momentum                              */
    float weight_decay; /* 0 or more; default 0, ADAMW: 0.01 (without decay it is ADAM)       */
    float decay_after;  /* ADAM_ONNX: [0, 1); default 0                                       */
    float beta1;        /* ADAM*: above 0 (1e-30 is none) and below 1; default 0.9            */
    float beta2;        /* ADAM*: above 0 and below 1; default 0.999                          */
    float eps;          /* above 0; default 1e-8, ADAGRAD 1e-10, ADAM_ONNX 1e-6               */
    float lr_decay;     /* ADAGRAD: 0 or more; default 0                                      */
    float initial;      /* ADAGRAD: 0 or more, what v starts from; default 0                  */
} rv_optim_config;

/* One row per kind. */
typedef struct rv_optim_info {
    const char *name;   /* "sgd", ...                                                         */
    size_t state;       /* floats of state per parameter                                      */
    const char *source; /* paper                                                              */
} rv_optim_info;
RV_API const rv_optim_info *rv_optim_kind_at(size_t i); /* NULL past the end */

/* Floats of state for n parameters; 0 for an unknown kind, SIZE_MAX when there is no such size. */
RV_API size_t rv_optim_state_count(rv_optim_kind kind, size_t n);
/* Fills the state for the first step. RV_ERR_CONFIG: any field out of its range. */
RV_API rv_status rv_optim_init(rv_ctx *ctx, const rv_optim_config *config, size_t n, float *state);
/* One step. param, grad: [n]; t: steps done before, from 0. A gradient that is NaN or infinite is
   RV_ERR_ARG with its index in ctx->where, and nothing is changed. n = 0 does nothing. Fields of
   config may change between steps, kind may not. It does not poll, because a step is whole or not
   at all: whoever must be able to stop steps pieces of the array. */
RV_API rv_status rv_optim_step(rv_ctx *ctx, const rv_optim_config *config, uint64_t t, float *param,
                               const float *grad, size_t n, float *state);

/* Scales n_tensors gradients so that their common length is at most max_norm (above 0): by
   max_norm / (length + 1e-6) where that is below 1, as PyTorch does. count: [n_tensors]. *norm: the
   length before; may be NULL. NaN and infinity: RV_ERR_ARG, the tensor's number in ctx->where, and
   nothing is changed. */
RV_API rv_status rv_optim_clip_norm(rv_ctx *ctx, float *const *grad, const size_t *count,
                                    size_t n_tensors, float max_norm, double *norm);
/* Every element to -limit..limit, limit above 0; infinities too. NaN: RV_ERR_ARG with its index,
   nothing is changed. */
RV_API rv_status rv_optim_clip_value(rv_ctx *ctx, float *grad, size_t n, float limit);

/* Linear warmup, then half a cosine: lr (step + 1) / warmup_steps, after it
   min_lr + (lr - min_lr) (1 + cos(pi x)) / 2, x = (step - warmup_steps) / decay_steps up to 1. */
typedef struct rv_schedule_config {
    float lr;              /* the peak, above 0, required                                     */
    float min_lr;          /* above 0 to lr; default 1e-7, or lr when that is less            */
    uint64_t warmup_steps; /* default 0: none                                                 */
    uint64_t decay_steps;  /* 1 or more; default 100000                                       */
} rv_schedule_config;
RV_API rv_status rv_schedule_lr(rv_ctx *ctx, const rv_schedule_config *config, uint64_t step,
                                float *lr);

/* A temperature from start to end over `steps` steps, x = step / steps; end from there on. */
typedef enum rv_anneal_kind {
    RV_ANNEAL_LINEAR = 0,      /* start + (end - start) x                                     */
    RV_ANNEAL_EXPONENTIAL = 1, /* start (end / start)^x                                       */
    RV_ANNEAL_COSINE = 2,      /* end + (start - end) (1 + cos(pi x)) / 2                     */
    RV_ANNEAL_STEP = 3         /* EXPONENTIAL at the last multiple of steps / 10 steps (of 1 step
                                  when steps is below 10)                                     */
} rv_anneal_kind;
typedef struct rv_anneal_config {
    rv_anneal_kind kind; /* default RV_ANNEAL_LINEAR                                          */
    float start, end;    /* above 0, required; start may be the smaller                       */
    uint64_t steps;      /* 1 or more, required                                               */
} rv_anneal_config;
/* The name of a kind, NULL past the end. */
RV_API const char *rv_anneal_name(size_t i);
RV_API rv_status rv_anneal_at(rv_ctx *ctx, const rv_anneal_config *config, uint64_t step,
                              float *temperature);

/* Stages of growing difficulty. */
typedef struct rv_curriculum_stage {
    const char *name;
    float difficulty;   /* share of the data's difficulty that is allowed, 0..1               */
    uint64_t duration;  /* steps; a stage of 0 is passed over                                 */
    float temperature;  /* above 0                                                            */
    uint32_t negatives; /* per anchor                                                         */
} rv_curriculum_stage;
enum { RV_CURRICULUM_STAGES = 4 };
/* warm_up (0.1, temperature 2, 5 negatives), easy (0.3, 1, 10), medium (0.6, 0.5, 20), hard (1,
   0.1, 50), a quarter of total_steps each and the remainder to the last. */
RV_API void rv_curriculum_default(uint64_t total_steps, rv_curriculum_stage *stages);
/* Index of the stage at `step` among n, and how much of it is done, 0..1 (may be NULL). After the
   end: the last stage and 1. RV_ERR_ARG: n is 0; a difficulty or temperature outside its range, the
   stage in ctx->where. */
RV_API rv_status rv_curriculum_find(rv_ctx *ctx, const rv_curriculum_stage *stages, size_t n,
                                    uint64_t step, size_t *stage, double *progress);

#endif /* RV_OPTIM_H */
