/* Attention in several spaces at once: torch, slopes of definitions in double, pure cases. */
#include "grid_set.h"

#include "golden/attn_geometric.h"

/* The order of curved_products() in tools/golden.py. */
enum { DUAL, CASCADE, WEIGHTS, PRODUCT, TANGENT, GEODESIC, KINDS };
enum { N_Q = 3, N_K = 5, HEADS = 2, DIM = 6, DIM_V = 3 };

typedef struct room {
    float q[256], k[512], v[512], g[256], params[128], out[256], weights[512], lse[64];
    float d_q[256], d_k[512], d_v[512], d_params[128], d_sinks[HEADS];
} room;

typedef struct call {
    int kind;
    rv_attn_config base;
    rv_attn_io io;
    rv_attn_grad grad;
    room *r;
} call;

static rv_status attend(rv_ctx *ctx, const call *c, const rv_attn_grad *grad)
{
    const rv_attn_io *io = &c->io;
    if (c->kind == DUAL) {
        rv_attn_dual_space_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.c = 0.5f;
        config.euclid = 0.25f;
        config.hyperbolic = 0.75f;
        config.params = c->r->params;
        return grad ? rv_attn_dual_space_backward(ctx, &config, io, grad)
                    : rv_attn_dual_space(ctx, &config, io);
    }
    if (c->kind == CASCADE) {
        rv_attn_lorentz_cascade_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.c_least = 0.5f;
        config.c_most = 2.0f;
        config.mix = c->r->params;
        return grad ? rv_attn_lorentz_cascade_backward(ctx, &config, io, grad)
                    : rv_attn_lorentz_cascade(ctx, &config, io);
    }
    if (c->kind <= PRODUCT) {
        rv_attn_mixed_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.dim_e = 2;
        config.dim_h = 4;
        config.kappa = -0.75f;
        config.product = c->kind == PRODUCT;
        config.euclid = config.product ? 0.0f : 0.5f; /* 1 : 3 */
        config.hyperbolic = config.product ? 0.0f : 1.5f;
        return grad ? rv_attn_mixed_backward(ctx, &config, io, grad)
                    : rv_attn_mixed(ctx, &config, io);
    }
    {
        rv_attn_fused_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.dim_e = config.dim_h = config.dim_s = 2;
        config.kappa_h = -0.75f;
        config.kappa_s = 2.0f;
        config.geodesic = c->kind == GEODESIC;
        config.mix = c->r->params;
        return grad ? rv_attn_fused_backward(ctx, &config, io, grad)
                    : rv_attn_fused(ctx, &config, io);
    }
}

static size_t n_params(int kind)
{
    return kind == DUAL ? 2 * DIM * DIM : kind == CASCADE ? HEADS : kind >= TANGENT ? 3 * HEADS : 0;
}

/* The inputs of the golden table. */
static void furnish(call *c, room *r, int kind)
{
    memset(c, 0, sizeof *c);
    memset(r, 0, sizeof *r);
    c->kind = kind;
    c->r = r;
    c->base.heads = HEADS;
    c->base.kv_heads = 1;
    c->io.n_q = N_Q;
    c->io.n_k = N_K;
    c->io.dim = DIM;
    c->io.dim_v = DIM_V;
    c->io.q = r->q;
    c->io.k = r->k;
    c->io.v = r->v;
    c->io.out = r->out;
    c->io.weights = r->weights;
    c->io.lse = kind == WEIGHTS ? NULL : r->lse;
    c->grad.d_out = r->g;
    c->grad.d_q = r->d_q;
    c->grad.d_k = r->d_k;
    c->grad.d_v = r->d_v;
    c->grad.d_params = n_params(kind) ? r->d_params : NULL;
    grid(1, r->q, N_Q * HEADS * DIM);
    grid(2, r->k, N_K * DIM);
    grid(3, r->v, N_K * DIM_V);
    grid(4, r->g, N_Q * HEADS * DIM_V);
    grid(5, r->params, n_params(kind));
    for (size_t i = 0; i < N_Q * HEADS * DIM; i++) r->q[i] *= 0.1875f;
    for (size_t i = 0; i < N_K * DIM; i++) r->k[i] *= 0.1875f;
    for (size_t i = 0; i < N_K * DIM_V; i++) r->v[i] *= 0.25f;
    for (size_t i = 0; i < n_params(kind); i++) {
        if (kind == DUAL) r->params[i] *= 0.25f;
        if (kind >= TANGENT) r->params[i] = fabsf(r->params[i]) + 0.125f;
    }
}

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_spaces); row++) {
        const int kind = rv_golden_attn_spaces[row].kind;
        const size_t n_out = kind == CASCADE ? N_Q * DIM_V : N_Q * HEADS * DIM_V;
        call c;
        room r;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        furnish(&c, &r, kind);
        c.base.temperature = (float)rv_golden_attn_spaces[row].tau;
        if (rv_golden_attn_spaces[row].causal) c.base.order = RV_ATTN_CAUSAL;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        CHECK_ALL(r.out, rv_golden_attn_spaces[row].out, n_out, 64 * U);
        CHECK_ALL(r.weights, rv_golden_attn_spaces[row].weights, 30, 64 * U);
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        CHECK_ALL(r.d_q, rv_golden_attn_spaces[row].d_q, 36, 256 * U);
        CHECK_ALL(r.d_k, rv_golden_attn_spaces[row].d_k, 30, 256 * U);
        CHECK_ALL(r.d_v, rv_golden_attn_spaces[row].d_v, 15, 64 * U);
        CHECK_ALL(r.d_params, rv_golden_attn_spaces[row].d_params, n_params(kind), 256 * U);
    }
}

/* ---- definitions in double ---- */

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t a = 0; a < n; a++) sum += x[a] * y[a];
    return sum;
}

static double square_between(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t a = 0; a < n; a++) sum += (x[a] - y[a]) * (x[a] - y[a]);
    return sum;
}

static double ball(const double *x, const double *y, size_t n, double c)
{
    const double gaps = (1 - c * dot(x, x, n)) * (1 - c * dot(y, y, n));
    return acosh(1 + 2 * c * square_between(x, y, n) / gaps) / sqrt(c);
}

/* log_0 in the ball. */
static void logarithm(const double *x, size_t n, double c, double *out)
{
    const double r = sqrt(c * dot(x, x, n));
    for (size_t a = 0; a < n; a++) out[a] = atanh(r) / r * x[a];
}

static void times(const float *matrix, const double *x, double *out)
{
    for (size_t a = 0; a < DIM; a++) {
        out[a] = 0;
        for (size_t b = 0; b < DIM; b++) out[a] += (double)matrix[a * DIM + b] * x[b];
    }
}

/* The logit of a head before tau; which: the second of mixed weights. */
static double define_logit(const call *c, size_t h, const double *x, const double *y, int which)
{
    const float *p = c->r->params;
    double a[DIM], b[DIM], d, e, angle;
    if (c->kind == DUAL) {
        times(p, x, a);
        times(p, y, b);
        d = 0.25 * dot(a, b, DIM) / sqrt((double)DIM);
        times(p + DIM * DIM, x, a);
        times(p + DIM * DIM, y, b);
        return d - 0.75 * ball(a, b, DIM, 0.5);
    }
    if (c->kind == CASCADE) {
        const double k = h ? 2.0 : 0.5;
        const double inner = dot(x, y, DIM) - sqrt(1 / k + dot(x, x, DIM)) *
                                                  sqrt(1 / k + dot(y, y, DIM));
        return -acosh(-k * inner) / sqrt(k);
    }
    if (c->kind == WEIGHTS) return which ? -ball(x + 2, y + 2, 4, 0.75) : dot(x, y, 2) / sqrt(2.0);
    if (c->kind == PRODUCT) {
        d = ball(x + 2, y + 2, 4, 0.75);
        return -sqrt(square_between(x, y, 2) + d * d);
    }
    p += 3 * h;
    angle = dot(x + 4, y + 4, 2) / sqrt(dot(x + 4, x + 4, 2) * dot(y + 4, y + 4, 2));
    if (c->kind == TANGENT) {
        logarithm(x + 2, 2, 0.75, a);
        logarithm(y + 2, 2, 0.75, b);
        return (double)p[0] * dot(x, y, 2) / sqrt(2.0) + (double)p[1] * dot(a, b, 2) +
               (double)p[2] * angle;
    }
    d = ball(x + 2, y + 2, 2, 0.75);
    e = acos(angle) / sqrt(2.0);
    return -sqrt((double)p[0] * square_between(x, y, 2) + (double)p[1] * d * d +
                 (double)p[2] * e * e);
}

static void define_weights(const call *c, size_t h, size_t i, int which, double *w)
{
    double x[DIM], y[DIM], sum = 0;
    for (size_t a = 0; a < DIM; a++) x[a] = (double)c->r->q[(i * HEADS + h) * DIM + a];
    for (size_t j = 0; j < N_K; j++) {
        for (size_t a = 0; a < DIM; a++) y[a] = (double)c->r->k[j * DIM + a];
        w[j] = exp(define_logit(c, h, x, y, which) / (double)c->base.temperature);
        sum += w[j];
    }
    for (size_t j = 0; j < N_K; j++) w[j] /= sum;
}

/* The loss of query i. */
static double define_query(const call *c, size_t i)
{
    const room *r = c->r;
    double w[N_K], other[N_K], tangent[DIM_V] = {0}, loss = 0, z;
    for (size_t h = 0; h < HEADS; h++) {
        const double k = h ? 2.0 : 0.5;
        double mean[DIM_V] = {0}, time = 0, square = 0, norm;
        define_weights(c, h, i, 0, w);
        if (c->kind == WEIGHTS) define_weights(c, h, i, 1, other);
        for (size_t j = 0; j < N_K; j++) {
            double vv = 1 / k;
            if (c->kind == WEIGHTS) w[j] = 0.25 * w[j] + 0.75 * other[j];
            for (size_t a = 0; a < DIM_V; a++) {
                const double v = (double)r->v[j * DIM_V + a];
                mean[a] += w[j] * v;
                vv += v * v;
            }
            time += w[j] * sqrt(vv);
        }
        for (size_t a = 0; a < DIM_V; a++) square += mean[a] * mean[a];
        norm = sqrt(k * (time * time - square));
        z = sqrt(k * square) / norm;
        for (size_t a = 0; a < DIM_V; a++) {
            tangent[a] += (double)r->params[h] * asinh(z) / z * mean[a] / norm;
            if (c->kind != CASCADE)
                loss += mean[a] * (double)r->g[(i * HEADS + h) * DIM_V + a];
        }
    }
    if (c->kind != CASCADE) return loss;
    z = sqrt(dot(tangent, tangent, DIM_V)); /* c is 1 there */
    for (size_t a = 0; a < DIM_V; a++)
        loss += sinh(z) / z * tangent[a] * (double)r->g[i * DIM_V + a];
    return loss;
}

static double loss(void *arg)
{
    const call *c = (const call *)arg;
    double sum = 0;
    for (size_t i = 0; i < N_Q; i++) sum += define_query(c, i);
    return sum;
}

static void test_slopes(void)
{
    const double h = 1.0 / 4096;
    for (int kind = 0; kind < KINDS; kind++) {
        call c;
        room r;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        furnish(&c, &r, kind);
        c.base.temperature = 0.5f;
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        check_slopes(loss, &c, r.q, r.d_q, N_Q * HEADS * DIM, h, 1e-5);
        check_slopes(loss, &c, r.k, r.d_k, N_K * DIM, h, 1e-5);
        check_slopes(loss, &c, r.v, r.d_v, N_K * DIM_V, h, 1e-5);
        check_slopes(loss, &c, r.params, r.d_params, n_params(kind), h, 1e-5);
    }
}

/* ---- identities ---- */

static void test_common(void)
{
    for (int kind = 0; kind < KINDS; kind++) {
        call c;
        room r;
        rv_attn_mask mask;
        const uint8_t none[N_Q * N_K] = {0};
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        furnish(&c, &r, kind);
        if (kind == CASCADE) r.params[0] = r.params[1] = 0.5f;
        for (size_t i = 0; i < N_K * DIM_V; i++) r.v[i] = 1.0f;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < HEADS * N_Q; i++) {
            double sum = 0;
            for (size_t j = 0; j < N_K; j++) sum += (double)r.weights[i * N_K + j];
            RV_NEAR(sum, 1, 3e-6);
        }
        for (size_t i = 0; kind != CASCADE && i < N_Q * HEADS * DIM_V; i++)
            RV_NEAR(r.out[i], 1, 3e-6);
        memset(&mask, 0, sizeof mask);
        mask.allow = none;
        c.io.mask = &mask;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < HEADS * N_Q * N_K; i++) RV_CHECK(r.weights[i] == 0.0f);
        for (size_t i = 0; i < N_Q * DIM_V; i++) RV_CHECK(r.out[i] == 0.0f);
        c.io.mask = NULL;
        for (size_t j = 1; j < N_K; j++) memcpy(r.k + j * DIM, r.k, DIM * sizeof(float));
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < HEADS * N_Q * N_K; i++)
            RV_NEAR(r.weights[i], 1.0 / (double)N_K, 1e-7);
        c.base.temperature = 1e-3f;
        furnish(&c, &r, kind);
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < HEADS * N_Q * N_K; i++)
            RV_CHECK(r.weights[i] >= 0.0f && r.weights[i] <= 1.0f);
        c.io.n_k = 1;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < HEADS * N_Q; i++) RV_NEAR(r.weights[i], 1, 1e-7);
        c.io.n_q = 0;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        for (size_t a = 0; a < DIM_V; a++) RV_CHECK(r.d_v[a] == 0.0f);
    }
}

static void same(const float *a, const float *b, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++) RV_NEAR(a[i], b[i], tolerance);
}

/* With one space only, each is the attention of that space. */
static void test_pure(void)
{
    float weights[HEADS * N_Q * N_K], out[N_Q * HEADS * DIM_V];
    call c;
    room r;
    rv_ctx ctx;
    rv_attn_io io;
    rv_attn_poincare_config hyperbolic;
    rv_attn_spherical_config sphere;
    rv_attn_dual_space_config dual;
    rv_attn_mixed_config mixed;
    rv_attn_fused_config fused;
    const float mix[3 * HEADS] = {1, 1, 1, 1, 1, 1};
    rv_test_ctx(&ctx);
    furnish(&c, &r, DUAL);
    io = c.io;
    io.out = out;
    io.weights = weights;
    io.lse = NULL;
    memset(&dual, 0, sizeof dual);
    memset(&mixed, 0, sizeof mixed);
    memset(&fused, 0, sizeof fused);
    memset(&hyperbolic, 0, sizeof hyperbolic);
    memset(&sphere, 0, sizeof sphere);
    c.io.lse = NULL;
    dual.base = mixed.base = fused.base = hyperbolic.base = sphere.base = c.base;
    fused.mix = mix;
    /* scaled dot products */
    RV_OKAY(&ctx, rv_attn(&ctx, &c.base, &io));
    dual.euclid = 1.0f;
    RV_OKAY(&ctx, rv_attn_dual_space(&ctx, &dual, &c.io));
    same(r.weights, weights, RV_COUNT_OF(weights), 1e-6);
    same(r.out, out, RV_COUNT_OF(out), 1e-6);
    mixed.euclid = 1.0f;
    mixed.dim_e = DIM;
    RV_OKAY(&ctx, rv_attn_mixed(&ctx, &mixed, &c.io));
    same(r.out, out, RV_COUNT_OF(out), 1e-6);
    fused.dim_e = DIM;
    RV_OKAY(&ctx, rv_attn_fused(&ctx, &fused, &c.io));
    same(r.out, out, RV_COUNT_OF(out), 1e-6);
    /* the ball, its weights */
    RV_OKAY(&ctx, rv_attn_poincare(&ctx, &hyperbolic, &io));
    dual.euclid = 0.0f;
    dual.hyperbolic = 1.0f;
    RV_OKAY(&ctx, rv_attn_dual_space(&ctx, &dual, &c.io));
    same(r.weights, weights, RV_COUNT_OF(weights), 1e-7);
    mixed.euclid = 0.0f;
    mixed.hyperbolic = 1.0f;
    mixed.dim_e = 0;
    mixed.dim_h = DIM;
    RV_OKAY(&ctx, rv_attn_mixed(&ctx, &mixed, &c.io));
    same(r.weights, weights, RV_COUNT_OF(weights), 1e-7);
    mixed.hyperbolic = 0.0f;
    mixed.product = 1;
    RV_OKAY(&ctx, rv_attn_mixed(&ctx, &mixed, &c.io));
    same(r.weights, weights, RV_COUNT_OF(weights), 1e-6);
    fused.dim_e = 0;
    fused.dim_h = DIM;
    fused.geodesic = 1;
    RV_OKAY(&ctx, rv_attn_fused(&ctx, &fused, &c.io));
    same(r.weights, weights, RV_COUNT_OF(weights), 1e-6);
    /* the sphere */
    RV_OKAY(&ctx, rv_attn_spherical(&ctx, &sphere, &io));
    fused.dim_h = 0;
    fused.dim_s = DIM;
    RV_OKAY(&ctx, rv_attn_fused(&ctx, &fused, &c.io));
    same(r.weights, weights, RV_COUNT_OF(weights), 1e-6);
    sphere.cosine = 1;
    RV_OKAY(&ctx, rv_attn_spherical(&ctx, &sphere, &io));
    fused.geodesic = 0;
    RV_OKAY(&ctx, rv_attn_fused(&ctx, &fused, &c.io));
    same(r.weights, weights, RV_COUNT_OF(weights), 1e-6);
}

/* Comparison of triangles: with a = 2 log_0 q, b = 2 log_0 k and R the longer of the two,
   |a - b| <= d <= |a - b| sinh(sqrt(c) R) / (sqrt(c) R): small norms make both modes agree. */
static void test_first_order(void)
{
    const float mix[3] = {1, 1, 1};
    room r;
    call c;
    rv_ctx ctx;
    rv_attn_fused_config config;
    rv_test_ctx(&ctx);
    furnish(&c, &r, GEODESIC);
    memset(&config, 0, sizeof config);
    config.dim_h = DIM;
    config.geodesic = 1;
    config.mix = mix;
    c.io.n_q = N_Q;
    for (size_t t = 0; t < 4; t++) {
        for (size_t i = 0; i < N_Q * DIM; i++) r.q[i] *= t ? 0.25f : 1.0f;
        for (size_t i = 0; i < N_K * DIM; i++) r.k[i] *= t ? 0.25f : 1.0f;
        RV_OKAY(&ctx, rv_attn_fused(&ctx, &config, &c.io));
        for (size_t i = 0; i < N_Q * N_K; i++) {
            double x[DIM], y[DIM], a[DIM], b[DIM], flat, longer, d;
            for (size_t e = 0; e < DIM; e++) {
                x[e] = (double)r.q[i / N_K * DIM + e];
                y[e] = (double)r.k[i % N_K * DIM + e];
            }
            logarithm(x, DIM, 1.0, a);
            logarithm(y, DIM, 1.0, b);
            flat = 2 * sqrt(square_between(a, b, DIM));
            longer = 2 * sqrt(fmax(dot(a, a, DIM), dot(b, b, DIM)));
            d = -log((double)r.weights[i]) - (double)r.lse[i / N_K];
            RV_CHECK(d >= flat - 2e-6);
            RV_CHECK(d <= flat * sinh(longer) / longer + 2e-6);
        }
    }
}

/* One head is Lorentz attention; so is a head that has all of the mix, its curvature being that of
   the others; the output follows the query. */
static void test_cascade(void)
{
    const float one[2] = {1.0f, 0.0f};
    float out[N_Q * HEADS * DIM_V];
    call c;
    room r;
    rv_ctx ctx;
    rv_attn_io io;
    rv_attn_lorentz_config lorentz;
    rv_attn_lorentz_cascade_config cascade;
    rv_test_ctx(&ctx);
    furnish(&c, &r, CASCADE);
    memset(&lorentz, 0, sizeof lorentz);
    memset(&cascade, 0, sizeof cascade);
    io = c.io;
    io.out = out;
    lorentz.c = (float)sqrt((double)0.1f * 2.0);
    for (int score = 0; score < 3; score++) {
        lorentz.score = cascade.score = (rv_attn_lorentz_score)score;
        RV_OKAY(&ctx, rv_attn_lorentz(&ctx, &lorentz, &io));
        RV_OKAY(&ctx, rv_attn_lorentz_cascade(&ctx, &cascade, &c.io));
        same(r.out, out, N_Q * DIM_V, 1e-6);
        RV_CHECK(fabsf(r.out[0] - r.out[DIM_V]) > 1e-4f);
    }
    lorentz.base = cascade.base = c.base;
    lorentz.c = cascade.c_least = cascade.c_most = 0.75f;
    cascade.mix = one;
    RV_OKAY(&ctx, rv_attn_lorentz(&ctx, &lorentz, &io));
    RV_OKAY(&ctx, rv_attn_lorentz_cascade(&ctx, &cascade, &c.io));
    for (size_t i = 0; i < N_Q; i++) same(r.out + i * DIM_V, out + i * HEADS * DIM_V, DIM_V, 1e-6);
}

static int visible(void *user, size_t head, size_t i, size_t j)
{
    (void)user;
    return (head + i + j) % 3 != 0;
}

/* Masks per head reach the heads of a cascade; sinks their gradients. */
static void test_cascade_masks(void)
{
    float add[HEADS * N_Q * N_K], sinks[HEADS] = {0.5f, -0.25f}, slopes[HEADS] = {0.5f, 0.125f};
    uint8_t allow[HEADS * N_Q * N_K];
    room r, s;
    call c, d;
    rv_attn_mask mask, plain;
    rv_attn_lorentz_config lorentz;
    float out[N_Q * HEADS * DIM_V];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    furnish(&c, &r, CASCADE);
    furnish(&d, &s, CASCADE);
    memset(&mask, 0, sizeof mask);
    memset(&plain, 0, sizeof plain);
    for (size_t i = 0; i < HEADS * N_Q * N_K; i++) {
        allow[i] = i % 4 != 1;
        add[i] = (float)(i % 5) * 0.25f;
    }
    mask.allow = allow;
    mask.add = add;
    mask.allow_head = mask.add_head = N_Q * N_K;
    mask.visible = visible;
    c.io.mask = &mask;
    c.base.sinks = sinks;
    c.base.slopes = slopes;
    c.grad.d_sinks = r.d_sinks;
    RV_OKAY(&ctx, attend(&ctx, &c, NULL));
    RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
    memset(&lorentz, 0, sizeof lorentz);
    lorentz.base = c.base;
    for (size_t h = 0; h < HEADS; h++) { /* all heads with one curvature: take head h of it */
        d.io.mask = &mask;
        d.io.out = out;
        lorentz.c = h ? 2.0f : 0.5f;
        RV_OKAY(&ctx, rv_attn_lorentz(&ctx, &lorentz, &d.io));
        same(r.weights + h * N_Q * N_K, s.weights + h * N_Q * N_K, N_Q * N_K, 1e-7);
        same(r.lse + h * N_Q, s.lse + h * N_Q, N_Q, 1e-6);
    }
    for (size_t h = 0; h < HEADS; h++) { /* of the library's own forward */
        double d_sink = 0;
        for (int step = -1; step <= 1; step += 2) {
            sinks[h] += (float)step / 64;
            RV_OKAY(&ctx, attend(&ctx, &c, NULL));
            sinks[h] -= (float)step / 64;
            for (size_t i = 0; i < N_Q * DIM_V; i++)
                d_sink += 32.0 * step * (double)r.out[i] * (double)r.g[i];
        }
        RV_NEAR(r.d_sinks[h], d_sink, 1e-4);
    }
}

/* ---- forms and faults ---- */

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static void test_workers(void)
{
    for (int kind = 0; kind < KINDS; kind++) {
        call c;
        room r, s;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        furnish(&c, &r, kind);
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        memcpy(&s, &r, sizeof r);
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        RV_CHECK(memcmp(&s, &r, sizeof r) == 0);
    }
}

static void test_init(void)
{
    rv_attn_io io;
    rv_attn_fused_config fused;
    float a[2 * 8 * 8], b[2 * 8 * 8];
    double square = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&io, 0, sizeof io);
    memset(&fused, 0, sizeof fused);
    io.dim = 8;
    fused.base.heads = 4;
    RV_EQUAL(rv_attn_dual_space_params(NULL, &io), 128);
    RV_EQUAL(rv_attn_fused_params(&fused, &io), 12);
    RV_EQUAL(rv_attn_fused_params(NULL, &io), 3);
    ctx.seed = 3;
    RV_OKAY(&ctx, rv_attn_dual_space_init(&ctx, NULL, &io, a));
    RV_OKAY(&ctx, rv_attn_dual_space_init(&ctx, NULL, &io, b));
    RV_CHECK(memcmp(a, b, sizeof a) == 0);
    for (size_t i = 0; i < 128; i++) {
        RV_CHECK(fabs((double)a[i]) <= sqrt(6.0 / 16));
        square += (double)a[i] * (double)a[i];
    }
    RV_NEAR(square / 128, 2.0 / 16, 0.03); /* the variance of Glorot and Bengio */
    ctx.seed = 4;
    RV_OKAY(&ctx, rv_attn_dual_space_init(&ctx, NULL, &io, b));
    RV_CHECK(memcmp(a, b, sizeof a) != 0);
    RV_OKAY(&ctx, rv_attn_fused_init(&ctx, &fused, &io, a));
    for (size_t i = 0; i < 12; i++) {
        const double middle = i % 3 == 0 ? 0.5 : i % 3 == 1 ? 0.35 : 0.15;
        RV_NEAR(a[i], middle, 0.1 * middle + 1e-7);
    }
    RV_CHECK(a[0] != a[3]);
    RV_FAILS(&ctx, rv_attn_dual_space_init(&ctx, NULL, &io, NULL), RV_ERR_ARG, "params");
    RV_FAILS(&ctx, rv_attn_fused_init(&ctx, NULL, &io, NULL), RV_ERR_ARG, "params");
    io.dim = 0;
    RV_FAILS(&ctx, rv_attn_dual_space_init(&ctx, NULL, &io, a), RV_ERR_DIM, "dim is 0");
}

/* A configuration of each kind with a fault; the sentence must contain the word. */
#define REFUSED(run, config, field, value, status, word)                                           \
    do {                                                                                           \
        memset(&config, 0, sizeof config);                                                         \
        config.base = c.base;                                                                      \
        config.field = value;                                                                      \
        r.out[0] = 5.0f;                                                                           \
        RV_FAILS(&ctx, run(&ctx, &config, &c.io), status, word);                                   \
        RV_CHECK(r.out[0] == 5.0f);                                                                \
    } while (0)

static void test_errors(void)
{
    const float bad[3 * HEADS] = {1, 1, 1, 1, -1, 1}, nan_mix[3 * HEADS] = {1, not_a_number()};
    rv_attn_dual_space_config dual;
    rv_attn_lorentz_cascade_config cascade;
    rv_attn_mixed_config mixed;
    rv_attn_fused_config fused;
    call c;
    room r;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    furnish(&c, &r, GEODESIC);
    REFUSED(rv_attn_dual_space, dual, c, -1.0f, RV_ERR_CONFIG, "c is -1");
    REFUSED(rv_attn_dual_space, dual, euclid, -1.0f, RV_ERR_CONFIG, "euclid and hyperbolic");
    REFUSED(rv_attn_dual_space, dual, hyperbolic, infinite(), RV_ERR_CONFIG, "hyperbolic");
    memset(&dual, 0, sizeof dual);
    dual.base = c.base;
    RV_FAILS(&ctx, rv_attn_dual_space_backward(&ctx, &dual, &c.io, &c.grad), RV_ERR_ARG, "params");
    REFUSED(rv_attn_lorentz_cascade, cascade, c_least, 3.0f, RV_ERR_CONFIG, "c_least is 3");
    REFUSED(rv_attn_lorentz_cascade, cascade, c_most, -3.0f, RV_ERR_CONFIG, "c_most is -3");
    REFUSED(rv_attn_lorentz_cascade, cascade, base.scale, 1.0f, RV_ERR_CONFIG, "scale is 1");
    REFUSED(rv_attn_lorentz_cascade, cascade, mix, nan_mix, RV_ERR_CONFIG, "mix[1] is NaN");
    REFUSED(rv_attn_lorentz_cascade, cascade, score, (rv_attn_lorentz_score)3, RV_ERR_CONFIG,
            "score is 3");
    REFUSED(rv_attn_mixed, mixed, kappa, 1.0f, RV_ERR_CONFIG, "kappa is 1");
    REFUSED(rv_attn_mixed, mixed, dim_e, 4, RV_ERR_DIM, "sum to 4");
    REFUSED(rv_attn_mixed, mixed, dim_e, DIM, RV_ERR_CONFIG, "dim_h 0");
    REFUSED(rv_attn_mixed, mixed, kappa, -1.0f, RV_ERR_ARG, "lse");
    memset(&mixed, 0, sizeof mixed);
    mixed.product = 1;
    mixed.euclid = 1.0f;
    RV_FAILS(&ctx, rv_attn_mixed(&ctx, &mixed, &c.io), RV_ERR_CONFIG, "product");
    mixed.euclid = 0.0f;
    mixed.base.scale = 1.0f;
    RV_FAILS(&ctx, rv_attn_mixed(&ctx, &mixed, &c.io), RV_ERR_CONFIG, "scale is 1");
    REFUSED(rv_attn_fused, fused, kappa_h, 1.0f, RV_ERR_CONFIG, "kappa_h is 1");
    REFUSED(rv_attn_fused, fused, kappa_s, -1.0f, RV_ERR_CONFIG, "kappa_s is -1");
    REFUSED(rv_attn_fused, fused, dim_s, 7, RV_ERR_DIM, "sum to 7");
    REFUSED(rv_attn_fused, fused, mix, nan_mix, RV_ERR_CONFIG, "mix[1] is NaN");
    memset(&fused, 0, sizeof fused);
    fused.base = c.base;
    fused.geodesic = 1;
    fused.mix = bad;
    RV_FAILS(&ctx, rv_attn_fused(&ctx, &fused, &c.io), RV_ERR_CONFIG, "mix[4] is -1");
    fused.mix = NULL;
    RV_OKAY(&ctx, rv_attn_fused(&ctx, &fused, &c.io));
    fused.geodesic = 0;
    RV_OKAY(&ctx, rv_attn_fused(&ctx, &fused, &c.io));
    RV_FAILS(&ctx, rv_attn_dual_space_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_mixed_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_fused_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_lorentz_cascade_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_lorentz_cascade(&ctx, NULL, NULL), RV_ERR_ARG, "io");
    c.io.out_stride = DIM_V - 1;
    RV_FAILS(&ctx, rv_attn_lorentz_cascade(&ctx, NULL, &c.io), RV_ERR_DIM, "out_stride is 2");
}

static rv_status body(rv_ctx *ctx, void *arg)
{
    const call *c = (const call *)arg;
    const rv_status status = attend(ctx, c, NULL);
    return status ? status : attend(ctx, c, &c->grad);
}

static void test_faults(void)
{
    for (int kind = 0; kind < KINDS; kind++) {
        call c;
        room r;
        furnish(&c, &r, kind);
        RV_CHECK(rv_test_oom_sweep(body, &c) >= 8);
        RV_CHECK(rv_test_cancel_sweep(body, &c) >= 8);
    }
}

int main(void)
{
    rv_test_begin("attn_geometric_mix");
    if (RV_TEST_SCALE > 16) return rv_test_end();
    RV_RUN(test_golden);
    RV_RUN(test_slopes);
    RV_RUN(test_common);
    RV_RUN(test_pure);
    RV_RUN(test_first_order);
    RV_RUN(test_cascade);
    RV_RUN(test_cascade_masks);
    RV_RUN(test_workers);
    RV_RUN(test_init);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
