#ifndef RV_ATTN_REPORT_C
#define RV_ATTN_REPORT_C
#include "attn_report.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "distance.c"
#include "topology.c"

/* The table below is the whole of the judgement: one row per metric. Coherence and entropy are bad
   when low. Where healthy range and warning overlap (ot between 0.3 and 0.5), the order is
   critical, warning, ok.

   Energy: x^T (D - W) x = sum over pairs of W_ij (x_i - x_j)^2, which has no cancellation. */

static const rv_report_info rv__report_infos[RV_REPORT_METRICS] = {
    {"coherence", 1, 0.5, 1.0, 0.3, 0.1, RV_REPORT_SPARSE, RV_REPORT_CAUTIOUS, RV_REPORT_FREEZE},
    {"entropy", 1, 1.0, 4.0, 0.5, 0.1, RV_REPORT_STANDARD, RV_REPORT_RAISE_TEMPERATURE,
     RV_REPORT_RAISE_TEMPERATURE},
    {"ib_kl", 0, 0.0, 0.2, 0.5, 1.0, RV_REPORT_STANDARD, RV_REPORT_ADD_REGULARIZATION,
     RV_REPORT_ADD_REGULARIZATION},
    {"diffusion", 0, 0.0, 1.0, 2.0, 5.0, RV_REPORT_DIFFUSE, RV_REPORT_CAUTIOUS,
     RV_REPORT_CAUTIOUS},
    {"ot", 0, 0.0, 0.5, 0.3, 0.7, RV_REPORT_GEOMETRIC, RV_REPORT_CAUTIOUS, RV_REPORT_CAUTIOUS},
    {"h0", 0, 0.0, 0.0, 0.0, 0.0, RV_REPORT_STANDARD, RV_REPORT_CAUTIOUS, RV_REPORT_CAUTIOUS},
    {"fisher_rao", 0, 0.0, 0.0, 0.0, 0.0, RV_REPORT_STANDARD, RV_REPORT_RAISE_TEMPERATURE,
     RV_REPORT_RAISE_TEMPERATURE},
};

RV_API const rv_report_info *rv_report_metric_at(size_t i)
{
    return i < RV_REPORT_METRICS ? &rv__report_infos[i] : NULL;
}

RV_API const char *rv_report_mode_name(rv_report_mode mode)
{
    static const char *const names[] = {"standard", "sparse", "geometric", "diffusion"};
    return (unsigned)mode < sizeof names / sizeof names[0] ? names[(unsigned)mode] : "unknown";
}

RV_API const char *rv_report_action_name(rv_report_action action)
{
    static const char *const names[] = {"stable",
                                        "cautious",
                                        "freeze",
                                        "raise_temperature",
                                        "lower_temperature",
                                        "add_regularization"};
    return (unsigned)action < sizeof names / sizeof names[0] ? names[(unsigned)action] : "unknown";
}

/* ---- judgement ---- */

static rv_status rv__report_thresholds(rv_ctx *ctx, const rv_report_config *config, size_t i,
                                       double *warning, double *critical)
{
    const rv_report_info *info = &rv__report_infos[i];
    int finite;
    *warning = info->warning;
    *critical = info->critical;
    if (!config) return RV_OK;
    finite = rv__finite_f64(config->warning[i]) && rv__finite_f64(config->critical[i]);
    /* finite first: under -ffast-math NaN may compare equal to 0 */
    if (finite && config->warning[i] == 0.0 && config->critical[i] == 0.0) return RV_OK;
    *warning = config->warning[i];
    *critical = config->critical[i];
    if (finite && *warning >= 0.0 && *critical >= 0.0 &&
        (info->low ? *critical <= *warning : *critical >= *warning))
        return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, i,
                    "%s: warning is %f, critical is %f; they must be 0 or more, critical the %s",
                    info->name, *warning, *critical, info->low ? "lower" : "higher");
}

/* One metric; report's fields of that number. */
static rv_status rv__report_judge(rv_ctx *ctx, const rv_report_config *config, size_t i,
                                  double value, rv_report *report)
{
    const rv_report_info *info = &rv__report_infos[i];
    const double most = i == RV_REPORT_COHERENCE ? 1.0 : i == RV_REPORT_FISHER_RAO ? 3.1416 : 1e300;
    double warning, critical;
    rv_status status = rv__report_thresholds(ctx, config, i, &warning, &critical);
    if (status) return status;
    if (!rv__finite_f64(value) || value < 0.0 || value > most)
        return rv__fail(ctx, RV_ERR_ARG, i, "%s is %f; it must be 0 to %f", info->name, value,
                        most);
    report->healthy[i] = info->healthy_to > 0.0 && value >= info->healthy_from &&
                         value <= info->healthy_to;
    if (warning == 0.0 && critical == 0.0) return RV_OK;
    if (info->low ? value < critical : value > critical) report->each[i] = RV_REPORT_CRITICAL;
    else if (info->low ? value < warning : value > warning) report->each[i] = RV_REPORT_WARNING;
    return RV_OK;
}

static void rv__report_recommend(const rv_report_metrics *metrics, rv_report *r)
{
    const rv_report_info *worst;
    size_t critical = 0;
    for (size_t i = 0; i < RV_REPORT_METRICS; i++) {
        critical += r->each[i] == RV_REPORT_CRITICAL;
        if (r->each[i] <= r->status) continue;
        r->status = r->each[i];
        r->worst = (rv_report_metric)i;
    }
    worst = &rv__report_infos[r->worst];
    if (r->status != RV_REPORT_OK) {
        r->mode = worst->mode;
        r->action = r->status == RV_REPORT_CRITICAL ? worst->on_critical : worst->on_warning;
        if (critical > 1) r->action = RV_REPORT_FREEZE;
        return;
    }
    r->mode = RV_REPORT_STANDARD;
    r->action = RV_REPORT_STABLE;
    if (!(metrics->missing >> RV_REPORT_ENTROPY & 1u) &&
        metrics->entropy > rv__report_infos[RV_REPORT_ENTROPY].healthy_to) {
        r->mode = RV_REPORT_SPARSE;
        r->action = RV_REPORT_LOWER_TEMPERATURE;
    }
}

RV_API rv_status rv_attn_report(rv_ctx *ctx, const rv_report_config *config,
                                const rv_report_metrics *metrics, rv_report *report)
{
    double values[RV_REPORT_METRICS];
    rv_report r;
    if (!metrics || !report)
        return rv__fail(ctx, RV_ERR_ARG, 0, "metrics and report must not be NULL");
    values[RV_REPORT_COHERENCE] = metrics->coherence;
    values[RV_REPORT_ENTROPY] = metrics->entropy;
    values[RV_REPORT_IB_KL] = metrics->ib_kl;
    values[RV_REPORT_DIFFUSION] = metrics->diffusion;
    values[RV_REPORT_OT] = metrics->ot;
    values[RV_REPORT_H0] = metrics->h0;
    values[RV_REPORT_FISHER_RAO] = metrics->fisher_rao;
    memset(&r, 0, sizeof r);
    for (size_t i = 0; i < RV_REPORT_METRICS; i++) {
        rv_status status = RV_OK;
        if (!(metrics->missing >> i & 1u))
            status = rv__report_judge(ctx, config, i, values[i], &r);
        if (status) return status;
    }
    rv__report_recommend(metrics, &r);
    *report = r;
    return rv__ok(ctx);
}

/* ---- measurement ---- */

/* Means over the rows of weights that are not zero; their number. */
static rv_status rv__report_weights(rv_ctx *ctx, const rv_report_input *in, rv_report_metrics *m,
                                    size_t *rows)
{
    const double n = (double)in->n;
    size_t left = 0;
    m->entropy = m->ib_kl = m->fisher_rao = 0.0;
    *rows = 0;
    for (size_t i = 0; i < in->n_q; i++) {
        const float *w = in->weights + i * in->n;
        double sum = 0.0, entropy = 0.0, apart = 0.0, along = 0.0;
        rv_status status = rv__poll_by(ctx, &left, 32 * in->n);
        if (status) return status;
        for (size_t j = 0; j < in->n; j++) {
            if (!rv__finite_f32(w[j]) || w[j] < 0.0f)
                return rv__fail(ctx, RV_ERR_ARG, i * in->n + j,
                                "weights[%z][%z] is %f; it must be 0 or more", i, j, (double)w[j]);
            sum += (double)w[j];
        }
        if (sum == 0.0) continue;
        if (sum < 0.999 || sum > 1.001)
            return rv__fail(ctx, RV_ERR_ARG, i * in->n,
                            "row %z of weights sums to %f; it must be within 1e-3 of 1", i, sum);
        for (size_t j = 0; j < in->n; j++) {
            const double p = (double)w[j] / sum, u = sqrt(p), v = 1.0 / sqrt(n);
            if (p > 0.0) entropy -= p * rv__log(p);
            apart += (u - v) * (u - v);
            along += (u + v) * (u + v);
        }
        ++*rows;
        m->entropy += entropy > 0.0 ? entropy : 0.0;
        m->ib_kl += rv__log(n) > entropy ? rv__log(n) - entropy : 0.0;
        m->fisher_rao += 4.0 * rv__atan2(sqrt(apart), sqrt(along));
    }
    if (*rows == 0) return RV_OK;
    m->entropy /= (double)*rows;
    m->ib_kl /= (double)*rows;
    m->fisher_rao /= (double)*rows;
    return RV_OK;
}

/* line: [n] scratch. */
static rv_status rv__report_energy(rv_ctx *ctx, const rv_report_input *in, float *line,
                                   double *energy)
{
    const rv_isa isa = ctx ? ctx->isa : RV_ISA_BEST;
    const rv__scan_fn scan = rv__scan_find(RV_METRIC_L2, RV_DTYPE_F32, isa);
    const rv__kernels *kernels = rv__kernels_for(isa);
    const double sigma = rv__given(in->sigma) ? (double)in->sigma : 1.0;
    const size_t stride = in->key_stride ? in->key_stride : in->dim;
    size_t left = 0;
    *energy = 0.0;
    for (size_t i = 0; i + 1 < in->n; i++) {
        const size_t rest = in->n - i - 1;
        double sum = 0.0;
        rv_status status = rv__poll_by(ctx, &left, rest * (in->dim + 4));
        if (status) return status;
        scan(in->keys + i * stride, (const unsigned char *)(in->keys + (i + 1) * stride),
             stride * sizeof(float), NULL, rest, in->dim, line);
        kernels->scale_f32((float)(-0.5 / (sigma * sigma)), line, rest);
        kernels->exp_f32(line, line, rest);
        for (size_t j = 0; j < rest; j++) {
            const double gap = (double)in->signal[i] - (double)in->signal[i + 1 + j];
            sum += (double)line[j] * gap * gap;
        }
        *energy += sum;
    }
    return RV_OK;
}

static rv_status rv__report_check(rv_ctx *ctx, const rv_report_input *in,
                                  const rv_report_metrics *metrics)
{
    if (!in || !metrics) return rv__fail(ctx, RV_ERR_ARG, 0, "in and metrics must not be NULL");
    if (in->n == 0 || in->n > 65536u)
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z; it must be 1..65536", in->n);
    if (rv__given(in->sigma) &&
        (!rv__finite_f32(in->sigma) || in->sigma < 1e-15f || in->sigma > 1e15f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "sigma is %f; it must be 1e-15 to 1e15",
                        (double)in->sigma);
    return in->signal ? rv__check_finite(ctx, "signal", in->signal, in->n) : RV_OK;
}

RV_API rv_status rv_attn_report_measure(rv_ctx *ctx, const rv_report_input *in,
                                        rv_report_metrics *metrics)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const unsigned of_keys = 1u << RV_REPORT_COHERENCE | 1u << RV_REPORT_H0;
    const unsigned of_weights = 1u << RV_REPORT_ENTROPY | 1u << RV_REPORT_IB_KL |
                                1u << RV_REPORT_FISHER_RAO;
    rv_report_metrics m;
    rv_coherence coherence;
    float *line = NULL;
    size_t rows = 0;
    rv_status status = rv__report_check(ctx, in, metrics);
    if (status) return status;
    m = *metrics;
    m.missing |= of_keys | of_weights | 1u << RV_REPORT_DIFFUSION;
    if (in->keys) {
        status = rv_coherence_measure(ctx, in->keys, in->key_stride, in->n, in->dim,
                                      in->neighbours, &coherence);
        if (!status)
            status = rv_persistence_h0(ctx, in->keys, in->key_stride, in->n, in->dim, NULL, &m.h0);
        if (status) return status;
        m.coherence = coherence.score;
        m.missing &= ~of_keys;
    }
    if (in->weights) status = rv__report_weights(ctx, in, &m, &rows);
    if (!status && rows) m.missing &= ~of_weights;
    if (!status && in->signal && in->keys) {
        line = (float *)rv__get(&alloc, in->n, sizeof(float));
        status = line ? rv__report_energy(ctx, in, line, &m.diffusion)
                      : rv__no_memory(ctx, in->n * sizeof(float));
        rv__put(&alloc, line, in->n, sizeof(float));
        m.missing &= ~(1u << RV_REPORT_DIFFUSION);
    }
    if (status) return status;
    if (!rows) { /* as they were */
        m.entropy = metrics->entropy;
        m.ib_kl = metrics->ib_kl;
        m.fisher_rao = metrics->fisher_rao;
    }
    *metrics = m;
    return rv__ok(ctx);
}

#endif /* RV_ATTN_REPORT_C */
