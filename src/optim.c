#ifndef RV_OPTIM_C
#define RV_OPTIM_C
#include "optim.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"

/* One row per optimizer: name, floats of state, paper, step. A step gets the config with its
   defaults filled in and checked, so it is one loop over the elements.

   Sources: Robbins, Monro, 1951; Polyak, 1964; Nesterov, 1983; Sutskever et al., On the importance
   of initialization and momentum in deep learning, 2013; Kingma, Ba, Adam, 2015; Loshchilov,
   Hutter, Decoupled weight decay regularization, 2019, and SGDR (the cosine), 2017; Duchi, Hazan,
   Singer, Adaptive subgradient methods, 2011; Pascanu, Mikolov, Bengio, On the difficulty of
   training recurrent neural networks (clipping), 2013; Bengio et al., Curriculum learning, 2009. */

typedef struct rv__optim {
    rv_optim_config c; /* resolved */
    uint64_t t;
    float *param;
    const float *grad;
    float *state; /* [state floats per parameter, n] */
    size_t n;
} rv__optim;

/* base^n in double. */
static double rv__optim_power(double base, uint64_t n)
{
    double result = 1.0;
    for (; n; n >>= 1) {
        if (n & 1u) result *= base;
        base *= base;
    }
    return result;
}

static void rv__optim_sgd(const rv__optim *o)
{
    const float decay = o->c.weight_decay, momentum = o->c.momentum;
    const float share = o->t ? (float)(1.0 - (double)o->c.dampening) : 1.0f;
    const float by_g = o->c.nesterov ? o->c.lr : 0.0f;
    const float by_m = o->c.nesterov ? o->c.lr * momentum : o->c.lr;
    const float *grad = o->grad;
    float *p = o->param, *m = o->state;
    size_t i = 0;
    for (; i + 4 <= o->n; i += 4) { /* through copies: compilers make vector instructions of it */
        float x[4], v[4];
        for (size_t l = 0; l < 4; l++) {
            float g = grad[i + l] + decay * p[i + l];
            v[l] = momentum * m[i + l] + share * g;
            x[l] = p[i + l] - (by_m * v[l] + by_g * g);
        }
        for (size_t l = 0; l < 4; l++) m[i + l] = v[l];
        for (size_t l = 0; l < 4; l++) p[i + l] = x[l];
    }
    for (; i < o->n; i++) {
        float g = grad[i] + decay * p[i];
        m[i] = momentum * m[i] + share * g;
        p[i] -= by_m * m[i] + by_g * g;
    }
}

/* ADAM, ADAMW and ADAM_ONNX differ in four factors. */
static void rv__optim_adam(const rv__optim *o)
{
    const int onnx = o->c.kind == RV_OPTIM_ADAM_ONNX, apart = o->c.kind == RV_OPTIM_ADAMW;
    const double b1 = (double)o->c.beta1, b2 = (double)o->c.beta2, lr = (double)o->c.lr;
    const uint64_t t = onnx ? o->t : o->t + 1;
    const double root = t ? sqrt(1.0 - rv__optim_power(b2, t)) : 1.0;
    const float rate = (float)(t ? lr / (1.0 - rv__optim_power(b1, t)) * (onnx ? root : 1.0) : lr);
    const float unbias = onnx ? 1.0f : (float)(1.0 / root);
    const float decay = apart ? 0.0f : o->c.weight_decay;
    const float before = apart ? (float)(1.0 - lr * (double)o->c.weight_decay) : 1.0f;
    const float after = onnx ? (float)(1.0 - (double)o->c.decay_after) : 1.0f;
    const float beta1 = o->c.beta1, new1 = (float)(1.0 - b1), eps = o->c.eps;
    const float beta2 = o->c.beta2, new2 = (float)(1.0 - b2);
    float *p = o->param, *m = o->state, *v = o->state + o->n;
    for (size_t i = 0; i < o->n; i++) {
        float g = o->grad[i] + decay * p[i];
        m[i] = beta1 * m[i] + new1 * g;
        v[i] = beta2 * v[i] + new2 * (g * g);
        p[i] = (p[i] * before - rate * m[i] / (sqrtf(v[i]) * unbias + eps)) * after;
    }
}

static void rv__optim_adagrad(const rv__optim *o)
{
    const float lr = (float)((double)o->c.lr / (1.0 + (double)o->t * (double)o->c.lr_decay));
    const float decay = o->c.weight_decay, eps = o->c.eps;
    float *p = o->param, *v = o->state;
    for (size_t i = 0; i < o->n; i++) {
        float g = o->grad[i] + decay * p[i];
        v[i] += g * g;
        p[i] -= lr * g / (sqrtf(v[i]) + eps);
    }
}

static const struct {
    rv_optim_info info;
    float eps, weight_decay; /* defaults */
    void (*step)(const rv__optim *o);
} rv__optim_kinds[] = {
    {{"sgd", 1, "Sutskever et al., 2013"}, 1e-8f, 0.0f, rv__optim_sgd},
    {{"adam", 2, "Kingma, Ba, 2015"}, 1e-8f, 0.0f, rv__optim_adam},
    {{"adamw", 2, "Loshchilov, Hutter, 2019"}, 1e-8f, 0.01f, rv__optim_adam},
    {{"adagrad", 1, "Duchi, Hazan, Singer, 2011"}, 1e-10f, 0.0f, rv__optim_adagrad},
    {{"adam_onnx", 2, "ONNX ai.onnx.preview.training, Adam"}, 1e-6f, 0.0f, rv__optim_adam},
};

RV_API const rv_optim_info *rv_optim_kind_at(size_t i)
{
    return i < sizeof rv__optim_kinds / sizeof rv__optim_kinds[0] ? &rv__optim_kinds[i].info : NULL;
}

RV_API size_t rv_optim_state_count(rv_optim_kind kind, size_t n)
{
    const rv_optim_info *info = rv_optim_kind_at((size_t)kind);
    return info ? rv__mul(info->state, n) : 0;
}

/* A field must lie in low..high; open: both ends left out. */
static rv_status rv__optim_field(rv_ctx *ctx, const char *name, float x, float low, float high,
                                 int open)
{
    if (rv__finite_f32(x) && (open ? x > low && x < high : x >= low && x <= high)) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0,
                    open ? "%s is %f; it must be above %f and below %f"
                         : "%s is %f; it must be %f..%f",
                    name, (double)x, (double)low, (double)high);
}

static rv_status rv__optim_resolve(rv_ctx *ctx, const rv_optim_config *config, rv_optim_config *c)
{
    const struct {
        const char *name;
        const float *x;
        float high;
        int open;
    } fields[] = {{"lr", &c->lr, 1e30f, 0},
                  {"momentum", &c->momentum, 1.0f, 0},
                  {"dampening", &c->dampening, 1.0f, 0},
                  {"weight_decay", &c->weight_decay, 1e30f, 0},
                  {"beta1", &c->beta1, 1.0f, 1},
                  {"beta2", &c->beta2, 1.0f, 1},
                  {"eps", &c->eps, 1e30f, 1},
                  {"lr_decay", &c->lr_decay, 1e30f, 0},
                  {"initial", &c->initial, 1e30f, 0}};
    if (!config) return rv__fail(ctx, RV_ERR_ARG, 0, "config is NULL");
    *c = *config;
    if (!rv_optim_kind_at((size_t)c->kind)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kind is %d; it must be one of rv_optim_kind, 0..4",
                        (int)c->kind);
    }
    c->beta1 = rv__default(c->beta1, 0.9f);
    c->beta2 = rv__default(c->beta2, 0.999f);
    c->eps = rv__default(c->eps, rv__optim_kinds[c->kind].eps);
    c->weight_decay = rv__default(c->weight_decay, rv__optim_kinds[c->kind].weight_decay);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        rv_status status = rv__optim_field(ctx, fields[i].name, *fields[i].x, 0.0f, fields[i].high,
                                           fields[i].open);
        if (status) return status;
    }
    if (!rv__finite_f32(c->decay_after) || c->decay_after < 0.0f || c->decay_after >= 1.0f) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "decay_after is %f; it must be 0 or more and below 1",
                        (double)c->decay_after);
    }
    return RV_OK;
}

RV_API rv_status rv_optim_init(rv_ctx *ctx, const rv_optim_config *config, size_t n, float *state)
{
    rv_optim_config c;
    size_t count;
    rv_status status = rv__optim_resolve(ctx, config, &c);
    if (status) return status;
    count = rv_optim_state_count(c.kind, n);
    if (n && !state) return rv__fail(ctx, RV_ERR_ARG, 0, "state is NULL");
    if (count > SIZE_MAX / sizeof(float)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z; the state does not fit the memory", n);
    }
    for (size_t i = 0; i < count; i++) state[i] = c.kind == RV_OPTIM_ADAGRAD ? c.initial : 0.0f;
    return rv__ok(ctx);
}

RV_API rv_status rv_optim_step(rv_ctx *ctx, const rv_optim_config *config, uint64_t t, float *param,
                               const float *grad, size_t n, float *state)
{
    rv__optim o;
    rv_status status = rv__optim_resolve(ctx, config, &o.c);
    if (status) return status;
    if (n == 0) return rv__ok(ctx);
    if (!param || !grad || !state) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "param, grad or state is NULL");
    }
    status = rv__check_finite(ctx, "grad", grad, n);
    if (status) return status;
    o.t = t;
    o.param = param;
    o.grad = grad;
    o.state = state;
    o.n = n;
    rv__optim_kinds[o.c.kind].step(&o);
    return rv__ok(ctx);
}

/* ---- clipping ---- */

static rv_status rv__optim_limit(rv_ctx *ctx, const char *name, float x)
{
    if (rv__finite_f32(x) && x > 0.0f) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, 0, "%s is %f; it must be above 0 and finite", name, (double)x);
}

RV_API rv_status rv_optim_clip_norm(rv_ctx *ctx, float *const *grad, const size_t *count,
                                    size_t n_tensors, float max_norm, double *norm)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    double sum = 0.0, scale;
    rv_status status = rv__optim_limit(ctx, "max_norm", max_norm);
    if (status) return status;
    if (n_tensors && (!grad || !count)) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "grad or count is NULL");
    }
    for (size_t i = 0; i < n_tensors; i++) {
        size_t bad;
        if (count[i] && !grad[i]) return rv__fail(ctx, RV_ERR_ARG, i, "grad[%z] is NULL", i);
        bad = rv__find_not_finite(grad[i], count[i]);
        if (bad < count[i]) {
            return rv__fail(ctx, RV_ERR_ARG, i, "element %z of tensor %z is %f; it must be finite",
                            bad, i, (double)grad[i][bad]);
        }
        for (size_t j = 0; j < count[i]; j++) sum += (double)grad[i][j] * (double)grad[i][j];
    }
    sum = sqrt(sum);
    scale = (double)max_norm / (sum + 1e-6);
    for (size_t i = 0; i < n_tensors && scale < 1.0; i++) {
        kernels->scale_f32((float)scale, grad[i], count[i]);
    }
    if (norm) *norm = sum;
    return rv__ok(ctx);
}

RV_API rv_status rv_optim_clip_value(rv_ctx *ctx, float *grad, size_t n, float limit)
{
    rv_status status = rv__optim_limit(ctx, "limit", limit);
    if (status) return status;
    if (n && !grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    for (size_t i = 0; i < n; i++) {
        if (rv__is_nan(grad[i])) {
            return rv__fail(ctx, RV_ERR_ARG, i, "grad[%z] is NaN; it must be a number", i);
        }
    }
    for (size_t i = 0; i < n; i++) {
        grad[i] = grad[i] > limit ? limit : grad[i] < -limit ? -limit : grad[i];
    }
    return rv__ok(ctx);
}

/* ---- schedules ---- */

/* (1 + cos(pi x)) / 2, x in 0..1. */
static double rv__schedule_cosine(double x)
{
    double sine, cosine;
    rv__sincos(3.14159265358979323846 * x, &sine, &cosine);
    return 0.5 * (1.0 + cosine);
}

RV_API rv_status rv_schedule_lr(rv_ctx *ctx, const rv_schedule_config *config, uint64_t step,
                                float *lr)
{
    rv_schedule_config c;
    uint64_t after;
    double low;
    rv_status status;
    if (!config || !lr) return rv__fail(ctx, RV_ERR_ARG, 0, "config or lr is NULL");
    c = *config;
    status = rv__optim_field(ctx, "lr", c.lr, 0.0f, 1e30f, 1);
    if (status) return status;
    c.min_lr = rv__default(c.min_lr, c.lr < 1e-7f ? c.lr : 1e-7f);
    if (c.decay_steps == 0) c.decay_steps = 100000;
    status = rv__optim_field(ctx, "min_lr", c.min_lr, 0.0f, c.lr, 0);
    if (status) return status;
    if (step < c.warmup_steps) {
        *lr = (float)((double)c.lr * ((double)(step + 1) / (double)c.warmup_steps));
        return rv__ok(ctx);
    }
    after = step - c.warmup_steps;
    low = (double)c.min_lr;
    *lr = after >= c.decay_steps
              ? c.min_lr
              : (float)(low + ((double)c.lr - low) *
                                  rv__schedule_cosine((double)after / (double)c.decay_steps));
    return rv__ok(ctx);
}

static double rv__anneal_linear(double start, double end, double x)
{
    return start + (end - start) * x;
}

static double rv__anneal_exponential(double start, double end, double x)
{
    return start * rv__exp(x * rv__log(end / start));
}

static double rv__anneal_cosine(double start, double end, double x)
{
    return end + (start - end) * rv__schedule_cosine(x);
}

static const struct {
    const char *name;
    double (*at)(double start, double end, double x);
    int stairs; /* x moves in tenths */
} rv__anneals[] = {
    {"linear", rv__anneal_linear, 0},
    {"exponential", rv__anneal_exponential, 0},
    {"cosine", rv__anneal_cosine, 0},
    {"step", rv__anneal_exponential, 1},
};

RV_API const char *rv_anneal_name(size_t i)
{
    return i < sizeof rv__anneals / sizeof rv__anneals[0] ? rv__anneals[i].name : NULL;
}

RV_API rv_status rv_anneal_at(rv_ctx *ctx, const rv_anneal_config *config, uint64_t step,
                              float *temperature)
{
    rv_status status;
    if (!config || !temperature) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "config or temperature is NULL");
    }
    if (!rv_anneal_name((size_t)config->kind)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kind is %d; it must be one of rv_anneal_kind, 0..3",
                        (int)config->kind);
    }
    status = rv__optim_field(ctx, "start", config->start, 0.0f, 1e30f, 1);
    if (!status) status = rv__optim_field(ctx, "end", config->end, 0.0f, 1e30f, 1);
    if (status) return status;
    if (config->steps == 0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "steps is 0; it must be 1 or more");
    }
    if (step >= config->steps) {
        *temperature = config->end;
        return rv__ok(ctx);
    }
    if (rv__anneals[config->kind].stairs) {
        uint64_t width = config->steps < 10 ? 1 : config->steps / 10;
        step -= step % width;
    }
    *temperature = step ? (float)rv__anneals[config->kind].at(
                              (double)config->start, (double)config->end,
                              (double)step / (double)config->steps)
                        : config->start;
    return rv__ok(ctx);
}

/* ---- curriculum ---- */

RV_API void rv_curriculum_default(uint64_t total_steps, rv_curriculum_stage *stages)
{
    static const rv_curriculum_stage rows[RV_CURRICULUM_STAGES] = {
        {"warm_up", 0.1f, 0, 2.0f, 5},
        {"easy", 0.3f, 0, 1.0f, 10},
        {"medium", 0.6f, 0, 0.5f, 20},
        {"hard", 1.0f, 0, 0.1f, 50},
    };
    const uint64_t part = total_steps / RV_CURRICULUM_STAGES;
    memcpy(stages, rows, sizeof rows);
    for (size_t i = 0; i < RV_CURRICULUM_STAGES; i++) stages[i].duration = part;
    stages[RV_CURRICULUM_STAGES - 1].duration += total_steps % RV_CURRICULUM_STAGES;
}

RV_API rv_status rv_curriculum_find(rv_ctx *ctx, const rv_curriculum_stage *stages, size_t n,
                                    uint64_t step, size_t *stage, double *progress)
{
    if (!stages || n == 0 || !stage) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "stages or stage is NULL, or n is 0");
    }
    for (size_t i = 0; i < n; i++) {
        if (!rv__finite_f32(stages[i].difficulty) || stages[i].difficulty < 0.0f ||
            stages[i].difficulty > 1.0f) {
            return rv__fail(ctx, RV_ERR_ARG, i, "difficulty of stage %z is %f; it must be 0..1", i,
                            (double)stages[i].difficulty);
        }
        if (!rv__finite_f32(stages[i].temperature) || stages[i].temperature <= 0.0f) {
            return rv__fail(ctx, RV_ERR_ARG, i, "temperature of stage %z is %f; it must be above 0",
                            i, (double)stages[i].temperature);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (step < stages[i].duration) {
            *stage = i;
            if (progress) *progress = (double)step / (double)stages[i].duration;
            return rv__ok(ctx);
        }
        step -= stages[i].duration;
    }
    *stage = n - 1;
    if (progress) *progress = 1.0;
    return rv__ok(ctx);
}

#endif /* RV_OPTIM_C */
