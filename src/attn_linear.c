#ifndef RV_ATTN_LINEAR_C
#define RV_ATTN_LINEAR_C
#include "attn_linear.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "attn.c"

/* Attention by features: settings, random matrices, the maps and their slopes. The sums over keys
   are in attn_linear_sums.c, the walks over them in attn_linear_run.c.

   Every row of features comes with a logarithm, so that the largest of them is 1 (performer) or
   their length is (rff): phi(x) = exp(log weight) * features. The paper of performer shifts keys by
   the largest exponent of all keys; that would make early outputs depend on later keys, and lose
   them where a later key is large. Of queries the log weight cancels. */

#define RV__LINEAR_ROWS 64u   /* rows of a tile, as the kernels of attention have it              */
#define RV__LINEAR_WIDE 32u   /* rows of matrices are padded to this                              */
#define RV__LINEAR_SHARE 1024u /* rows that make a part of its own worth while                    */
#define RV__LINEAR_PARTS 8u   /* parts times heads of keys, at least, where there are rows enough */
#define RV__LINEAR_WORK 20000000.0 /* products between two polls, per lane                        */
#define RV__LINEAR_NONE -3.0e38f /* log weight of what is hidden                                  */

enum { RV__LINEAR_ELU, RV__LINEAR_RELU, RV__LINEAR_EXP, RV__LINEAR_WAVE };

/* What a lane works with, as offsets into its scratch, floats. */
typedef struct rv__linear_space {
    size_t x, y, fq, fk, v, out, turned, six, pack_key, pack_sum, s, e, t, bits;
    size_t g, df, dv, pack_v; /* backward */
} rv__linear_space;

typedef struct rv__linear {
    const rv_attn_linear_config *config;
    const rv_attn_grad *grad;  /* NULL: forward                                                   */
    rv_attn_config base;
    rv_attn_io io;
    const rv__kernels *kernels;
    int map;
    size_t m, f;               /* rows of W, 0: the identity; features                            */
    size_t broad, deep, wide;  /* dim, f and dim_v rounded up                                     */
    size_t group, chunk;       /* queries of a head of keys; rows taken at once                   */
    size_t parts, length;      /* of a head of keys; rows of queries of one                       */
    size_t ahead, behind;      /* query i's own key is i + ahead - behind                         */
    size_t state_floats, lane_floats, step, wave;
    float root, eps;
    float *w, *panels;         /* W: [m, broad]; packed, NULL where so few rows do not pay        */
    float *states, *scratch;
    float *inverse, *ref, *last; /* [heads * n_q]: of denominators, their log weight; backward    */
    uint8_t *gone;
    rv__linear_space at;
} rv__linear;

/* ---- settings ---- */

/* ceil(dim ln dim), at least 1. */
RV_API size_t rv_attn_linear_features(const rv_attn_linear_config *config, size_t dim)
{
    const double most = dim ? (double)dim * rv__log((double)dim) : 0.0;
    size_t m = (size_t)most;
    if (!config) return 0;
    if (config->features) return config->features;
    if ((double)m < most) m++;
    return m ? m : 1;
}

static rv_status rv__linear_nothing(rv_ctx *ctx, const char *field, const char *why)
{
    return rv__fail(ctx, RV_ERR_CONFIG, 0, "%s must be 0 or NULL: %s", field, why);
}

/* What no mechanism of this family has a meaning for. */
static rv_status rv__linear_refuse(rv_ctx *ctx, const rv_attn_config *base, const rv_attn_io *io,
                                   const rv_attn_grad *grad)
{
    const char *sums = "sums over keys have no logits";
    if (rv__given(base->softcap)) return rv__linear_nothing(ctx, "softcap", sums);
    if (base->windowed || base->left || base->right)
        return rv__linear_nothing(ctx, "windowed", "sums over keys never forget one");
    if (base->slopes) return rv__linear_nothing(ctx, "slopes", sums);
    if (base->sinks) return rv__linear_nothing(ctx, "sinks", sums);
    if (rv__given(base->dropout) || base->training || base->stream)
        return rv__linear_nothing(ctx, "dropout", "sums over keys have no weights to drop");
    if (base->raw) return rv__linear_nothing(ctx, "raw", sums);
    if (io->mask && (io->mask->allow || io->mask->add || io->mask->visible))
        return rv__linear_nothing(ctx, "mask", "sums over keys know no pairs, hide keys by keep");
    if (grad && grad->d_sinks) return rv__linear_nothing(ctx, "d_sinks", "there are no sinks");
    if (grad && grad->d_params)
        return rv__linear_nothing(ctx, "d_params", "there are no parameters");
    return RV_OK;
}

static rv_status rv__linear_check_map(rv_ctx *ctx, const rv__linear *a)
{
    const rv_attn_linear_config *c = a->config;
    const int random = a->map == RV__LINEAR_EXP || a->map == RV__LINEAR_WAVE;
    const char *only = "only linear_relu, performer and rff have such features";
    if (!random && rv__given(c->base.scale))
        return rv__linear_nothing(ctx, "scale", "elu and relu have none");
    if (!random && rv__given(c->base.temperature))
        return rv__linear_nothing(ctx, "temperature", "elu and relu have none");
    if (a->map == RV__LINEAR_ELU) {
        if (c->features) return rv__linear_nothing(ctx, "features", only);
        if (c->projection) return rv__linear_nothing(ctx, "projection", only);
        if (c->independent) return rv__linear_nothing(ctx, "independent", only);
        if (c->redraw) return rv__linear_nothing(ctx, "redraw", only);
    }
    if (c->features > 1048576u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "features is %z, allowed: 0..1048576",
                        (size_t)c->features);
    if (c->identity && a->map != RV__LINEAR_RELU)
        return rv__linear_nothing(ctx, "identity", "only linear_relu takes inputs as they are");
    if (c->identity && (c->features || c->projection))
        return rv__linear_nothing(ctx, "features", "identity has dim features and no projection");
    if (c->both_signs && a->map != RV__LINEAR_EXP)
        return rv__linear_nothing(ctx, "both_signs", "only performer has it");
    if (rv__attn_bad(c->eps, 0.0f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "eps is %f, must be finite and not negative",
                        (double)c->eps);
    if (a->map == RV__LINEAR_EXP && rv__given(c->eps))
        return rv__linear_nothing(ctx, "eps", "performer's features are above 0");
    return RV_OK;
}

/* The checks that rv_attn does, and its defaults. */
static rv_status rv__linear_common(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                                   const rv_attn_grad *grad, rv_attn_config *base, rv_attn_io *full)
{
    rv__attn a;
    float dummy = 0.0f;
    rv_status status = rv__linear_refuse(ctx, config, io, grad);
    if (status) return status;
    memset(&a, 0, sizeof a);
    a.config = *config;
    a.io = *io;
    if (grad) a.io.out = &dummy; /* only its presence is looked at */
    rv__attn_settle(&a);
    status = rv__attn_check(ctx, &a);
    if (!status && grad && io->n_q && !grad->d_out)
        status = rv__fail(ctx, RV_ERR_ARG, 0, "d_out must not be NULL");
    *base = a.config;
    *full = a.io;
    return status;
}

static size_t rv__linear_state(const rv__linear *a)
{
    return rv__add(rv__mul(rv__add(a->io.dim_v, 1), a->deep), 16);
}

/* Sizes that follow from map, config and io. */
static void rv__linear_shape(rv__linear *a)
{
    const rv_attn_linear_config *c = a->config;
    const size_t dim = a->io.dim;
    a->m = a->map == RV__LINEAR_ELU || c->identity ? 0 : rv_attn_linear_features(c, dim);
    a->f = a->m == 0 ? dim : a->map == RV__LINEAR_WAVE || c->both_signs ? 2 * a->m : a->m;
    a->broad = rv__round_up(dim, RV__LINEAR_WIDE);
    a->deep = rv__round_up(a->f, RV__LINEAR_WIDE);
    a->wide = rv__round_up(a->io.dim_v, RV__LINEAR_WIDE);
    a->state_floats = rv__linear_state(a);
}

static rv_status rv__linear_settle(rv_ctx *ctx, int map, const rv_attn_linear_config *config,
                                   const rv_attn_io *io, const rv_attn_grad *grad, rv__linear *a)
{
    rv_status status;
    if (!config || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "config and io must not be NULL");
    memset(a, 0, sizeof *a);
    a->map = map;
    a->config = config;
    a->grad = grad;
    status = rv__linear_check_map(ctx, a);
    if (!status) status = rv__linear_common(ctx, &config->base, io, grad, &a->base, &a->io);
    if (status) return status;
    a->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    a->root = 1.0f;
    if (map == RV__LINEAR_EXP || map == RV__LINEAR_WAVE) {
        const double factor = (double)a->base.scale / (double)a->base.temperature;
        if (factor <= 0.0)
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "scale is %f, must be above 0",
                            (double)a->base.scale);
        a->root = (float)sqrt(factor);
    }
    a->eps = rv__given(config->eps) ? config->eps
             : map == RV__LINEAR_ELU                ? 1e-6f
                                                    : 1e-3f;
    rv__linear_shape(a);
    a->group = a->base.heads / a->base.kv_heads;
    if (a->base.order == RV_ATTN_CAUSAL) {
        a->ahead = io->n_k > io->n_q ? io->n_k - io->n_q : 0;
        a->behind = io->n_q > io->n_k ? io->n_q - io->n_k : 0;
    } else {
        a->ahead = a->base.past < io->n_k ? a->base.past : io->n_k;
    }
    return RV_OK;
}

/* ---- random matrices ---- */

typedef struct rv__linear_dice {
    rv__rng rng;
    double spare;
    int has;
} rv__linear_dice;

/* Standard normal, by Box and Muller. */
static double rv__linear_normal(rv__linear_dice *d)
{
    double radius, s, c;
    if (d->has) {
        d->has = 0;
        return d->spare;
    }
    radius = sqrt(-2.0 * rv__log(((double)(rv__rng_next(&d->rng) >> 11) + 1.0) *
                                 1.1102230246251565e-16));
    rv__sincos((double)(rv__rng_next(&d->rng) >> 11) * 6.9757369960172635e-16, &s, &c);
    d->spare = radius * s;
    d->has = 1;
    return radius * c;
}

static double rv__linear_length(const double *x, size_t n)
{
    double sum = 0.0;
    for (size_t j = 0; j < n; j++) sum += x[j] * x[j];
    return sqrt(sum);
}

/* Row i of a block of orthonormal rows: Gram and Schmidt, twice for the sake of rounding. */
static rv_status rv__linear_row(rv_ctx *ctx, rv__linear_dice *dice, size_t *left, double *block,
                                size_t i, size_t dim)
{
    double *x = block + i * dim, length;
    for (size_t j = 0; j < dim; j++) x[j] = rv__linear_normal(dice);
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t r = 0; r < i; r++) {
            const double *y = block + r * dim;
            double dot = 0.0;
            rv_status status = rv__poll_by(ctx, left, 4 * dim);
            if (status) return status;
            for (size_t j = 0; j < dim; j++) dot += x[j] * y[j];
            for (size_t j = 0; j < dim; j++) x[j] -= dot * y[j];
        }
    }
    length = rv__linear_length(x, dim);
    for (size_t j = 0; j < dim; j++) x[j] /= length;
    return RV_OK;
}

/* w: [m][ld]. Rows of a block of dim are orthogonal; their lengths are those of independent normal
   vectors, so that each row by itself is one. */
static rv_status rv__linear_fill(rv_ctx *ctx, const rv_attn_linear_config *config, size_t dim,
                                 size_t m, float *w, size_t ld)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t rows = config->independent ? 1 : dim < m ? dim : m;
    double *block = (double *)rv__get(&alloc, rv__mul(rows, dim), sizeof(double)), length = 1.0;
    rv__linear_dice dice;
    size_t left = 0;
    rv_status status = RV_OK;
    if (!block) return rv__no_memory(ctx, rv__mul(rv__mul(rows, dim), sizeof(double)));
    dice.has = 0;
    rv__rng_init(&dice.rng, rv__mix(rv__seed(ctx)) ^ config->redraw);
    for (size_t i = 0; i < m && !status; i++) {
        double *x = block + (config->independent ? 0 : i % dim * dim);
        status = rv__poll_by(ctx, &left, 100 * dim);
        for (size_t j = 0; j < dim && config->independent; j++) x[j] = rv__linear_normal(&dice);
        if (!config->independent && !status) {
            double sum = 0.0;
            for (size_t j = 0; j < dim; j++) {
                const double y = rv__linear_normal(&dice);
                sum += y * y;
            }
            length = sqrt(sum);
            status = rv__linear_row(ctx, &dice, &left, block, i % dim, dim);
        }
        for (size_t j = 0; j < dim && !status; j++) w[i * ld + j] = (float)(x[j] * length);
    }
    rv__put(&alloc, block, rv__mul(rows, dim), sizeof(double));
    return status;
}

RV_API rv_status rv_attn_linear_draw(rv_ctx *ctx, const rv_attn_linear_config *config, size_t dim,
                                     float *projection)
{
    rv_status status;
    if (!config || !projection)
        return rv__fail(ctx, RV_ERR_ARG, 0, "config and projection must not be NULL");
    if (dim == 0 || dim > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z, allowed: 1..65535", dim);
    if (config->features > 1048576u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "features is %z, allowed: 0..1048576",
                        (size_t)config->features);
    status = rv__linear_fill(ctx, config, dim, rv_attn_linear_features(config, dim), projection,
                             dim);
    return status ? status : rv__ok(ctx);
}

/* ---- maps ---- */

/* p: [n][ld] = x: [n][broad] times W. */
static void rv__linear_project(const rv__linear *a, const float *x, size_t n, float *tile,
                               float *p)
{
    const size_t dim = a->io.dim;
    if (!a->panels) {
        for (size_t r = 0; r < n; r++)
            a->kernels->scan_dot_f32(x + r * a->broad, (const unsigned char *)a->w,
                                     a->broad * sizeof(float), NULL, a->m, dim, p + r * a->deep);
        return;
    }
    for (size_t j = 0; j < a->m; j += RV__LINEAR_ROWS) {
        const size_t cols = a->m - j < RV__LINEAR_ROWS ? a->m - j : RV__LINEAR_ROWS;
        for (size_t r = 0; r < n; r += 6) {
            const size_t rows = n - r < 6 ? n - r : 6;
            a->kernels->attn_logits(x + r * a->broad, a->broad, rows, a->panels + j * dim, dim,
                                    tile);
            for (size_t i = 0; i < rows; i++)
                memcpy(p + (r + i) * a->deep + j, tile + i * RV__LINEAR_ROWS,
                       cols * sizeof(float));
        }
    }
}

/* exp(+-p - h), the largest made 1; returns the logarithm taken out. */
static float rv__linear_exp(const rv__linear *a, const float *x, float *f)
{
    const float half = 0.5f * a->kernels->dot_f32(x, x, a->io.dim);
    int nan = 0;
    float top = a->kernels->max_f32(f, 1.0f, a->m, &nan);
    if (a->f > a->m) {
        const float other = a->kernels->max_f32(f, -1.0f, a->m, &nan);
        top = other > top ? other : top;
        (void)a->kernels->exp_sum_f32(f, -1.0f, top, f + a->m, a->m);
    }
    (void)a->kernels->exp_sum_f32(f, 1.0f, top, f, a->m);
    return top - half;
}

static float rv__linear_wave(const rv__linear *a, const float *x, float *f)
{
    const double share = sqrt(1.0 / (double)a->m);
    for (size_t j = 0; j < a->m; j++) {
        double s, c;
        rv__sincos((double)f[j], &s, &c);
        f[j] = (float)(c * share);
        f[a->m + j] = (float)(s * share);
    }
    return 0.5f * a->kernels->dot_f32(x, x, a->io.dim);
}

static void rv__linear_relu(const rv__linear *a, const float *x, float *f)
{
    const float share = a->m ? (float)sqrt(1.0 / (double)a->m) : 1.0f;
    if (a->m == 0) memcpy(f, x, a->f * sizeof(float));
    for (size_t j = 0; j < a->f; j++) {
        const float p = f[j] * share;
        f[j] = (p < 0.0f ? 0.0f : p) + a->eps; /* NaN stays */
    }
}

/* Features f: [n][deep], padded with zeros, and log weights of rows x: [n][broad]. */
static void rv__linear_map(const rv__linear *a, const float *x, size_t n, float *tile, float *f,
                           float *weight)
{
    if (a->m) rv__linear_project(a, x, n, tile, f);
    for (size_t r = 0; r < n; r++, x += a->broad, f += a->deep) {
        weight[r] = 0.0f;
        if (a->map == RV__LINEAR_ELU) {
            for (size_t j = 0; j < a->f; j++) f[j] = x[j] > 0.0f ? 0.0f : x[j];
            a->kernels->exp_f32(f, f, a->f);
            for (size_t j = 0; j < a->f; j++) f[j] += x[j] > 0.0f ? x[j] : 0.0f;
        } else if (a->map == RV__LINEAR_RELU) {
            rv__linear_relu(a, x, f);
        } else if (a->map == RV__LINEAR_EXP) {
            weight[r] = rv__linear_exp(a, x, f);
        } else {
            weight[r] = rv__linear_wave(a, x, f);
        }
        for (size_t j = a->f; j < a->deep; j++) f[j] = 0.0f;
    }
}

/* The slope by p in place of that by f, in df: [m]; returns the sum of f df. */
static double rv__linear_pull_row(const rv__linear *a, const float *f, float *df)
{
    const float share = (float)sqrt(1.0 / (double)a->m);
    double sum = 0.0;
    for (size_t j = 0; j < a->f; j++) sum += (double)f[j] * (double)df[j];
    for (size_t j = 0; j < a->m; j++) {
        if (a->map == RV__LINEAR_RELU) df[j] = f[j] > a->eps ? df[j] * share : 0.0f;
        else if (a->map == RV__LINEAR_WAVE) df[j] = df[a->m + j] * f[j] - df[j] * f[a->m + j];
        else if (a->f > a->m) df[j] = df[j] * f[j] - df[a->m + j] * f[a->m + j];
        else df[j] *= f[j];
    }
    return sum;
}

/* Slopes dx: [n][broad] by the vectors themselves, from those by the features, df, which is used
   up. x: as given to the map. keys: the scale exp(+-|x|^2 / 2) has a slope; a query's cancels. */
static void rv__linear_pull(const rv__linear *a, int keys, const float *x, size_t n, const float *f,
                            float *df, float *tile, float *dx)
{
    const float sign = a->map == RV__LINEAR_WAVE ? 1.0f : -1.0f;
    memset(dx, 0, n * a->broad * sizeof(float));
    for (size_t r = 0; r < n && a->m == 0; r++) {
        for (size_t j = 0; j < a->f; j++) {
            const float y = f[r * a->deep + j], slope = df[r * a->deep + j];
            if (a->map == RV__LINEAR_ELU) dx[r * a->broad + j] = slope * (y < 1.0f ? y : 1.0f);
            else dx[r * a->broad + j] = x[r * a->broad + j] > 0.0f ? slope : 0.0f;
        }
    }
    if (a->m == 0) return;
    for (size_t r = 0; r < n; r++) {
        const double sum = rv__linear_pull_row(a, f + r * a->deep, df + r * a->deep);
        if (keys && a->map != RV__LINEAR_RELU)
            a->kernels->axpy_f32(sign * (float)sum, x + r * a->broad, dx + r * a->broad, a->io.dim);
    }
    for (size_t j = 0; j < a->m; j += RV__LINEAR_ROWS) {
        const size_t cols = a->m - j < RV__LINEAR_ROWS ? a->m - j : RV__LINEAR_ROWS;
        for (size_t r = 0; r < n; r += 6) {
            const size_t rows = n - r < 6 ? n - r : 6;
            for (size_t i = 0; i < rows; i++)
                memcpy(tile + i * RV__LINEAR_ROWS, df + (r + i) * a->deep + j,
                       cols * sizeof(float));
            a->kernels->attn_mix(tile, rows, a->w + j * a->broad, a->broad, cols,
                                 dx + r * a->broad, a->broad, a->broad);
        }
    }
    for (size_t r = 0; r < n; r++) a->kernels->scale_f32(a->root, dx + r * a->broad, a->io.dim);
}

#endif /* RV_ATTN_LINEAR_C */
