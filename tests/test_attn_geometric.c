/* Attention in one curved space: geoopt and torch, definitions in double, slopes, identities. */
#include "grid_set.h"

#include "golden/attn_geometric.h"

/* The order of curved_kinds() in tools/golden.py. */
enum { BALL, FRECHET, TANGENT, SHEET, SHEET_SQUARE, SHEET_INNER, ANGLE, COSINE, MANIFOLD, KINDS };

/* One call of any kind. */
typedef struct call {
    int kind;
    float kappa;
    rv_attn_config base;
    rv_attn_io io;
    rv_attn_grad grad;
} call;

static rv_status attend(rv_ctx *ctx, const call *c, const rv_attn_grad *grad)
{
    if (c->kind <= TANGENT) {
        rv_attn_poincare_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.c = -c->kappa;
        config.aggregate = (rv_attn_aggregate)(c->kind - BALL);
        if (c->kind == FRECHET) {
            config.iterations = 500;
            config.tolerance = 1e-12f;
        }
        return grad ? rv_attn_poincare_backward(ctx, &config, &c->io, grad)
                    : rv_attn_poincare(ctx, &config, &c->io);
    }
    if (c->kind <= SHEET_INNER) {
        rv_attn_lorentz_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.c = -c->kappa;
        config.score = (rv_attn_lorentz_score)(c->kind - SHEET);
        return grad ? rv_attn_lorentz_backward(ctx, &config, &c->io, grad)
                    : rv_attn_lorentz(ctx, &config, &c->io);
    }
    if (c->kind <= COSINE) {
        rv_attn_spherical_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.kappa = c->kappa;
        config.cosine = c->kind == COSINE;
        return grad ? rv_attn_spherical_backward(ctx, &config, &c->io, grad)
                    : rv_attn_spherical(ctx, &config, &c->io);
    }
    {
        rv_attn_manifold_config config;
        memset(&config, 0, sizeof config);
        config.base = c->base;
        config.kappa = c->kappa;
        config.flat = c->kappa == 0.0f;
        return grad ? rv_attn_manifold_backward(ctx, &config, &c->io, grad)
                    : rv_attn_manifold(ctx, &config, &c->io);
    }
}

/* Inputs and outputs of a call, sizes up to MOST each. */
enum { MOST = 4096 };
typedef struct room {
    float q[MOST], k[MOST], v[MOST], out[MOST], weights[MOST], lse[MOST], g[MOST];
    float d_q[MOST], d_k[MOST], d_v[MOST], d_sinks[8];
} room;

static room *new_room(void)
{
    room *r = (room *)calloc(1, sizeof *r);
    if (!r) exit(2);
    return r;
}

static void furnish(call *c, room *r, int kind, double kappa, size_t n_q, size_t n_k, size_t dim,
                    size_t dim_v)
{
    memset(c, 0, sizeof *c);
    c->kind = kind;
    c->kappa = (float)kappa;
    c->io.n_q = n_q;
    c->io.n_k = n_k;
    c->io.dim = dim;
    c->io.dim_v = dim_v;
    c->io.q = r->q;
    c->io.k = r->k;
    c->io.v = r->v;
    c->io.out = r->out;
    c->io.weights = r->weights;
    c->io.lse = r->lse;
    c->grad.d_out = r->g;
    c->grad.d_q = r->d_q;
    c->grad.d_k = r->d_k;
    c->grad.d_v = r->d_v;
}

static size_t heads_of(const call *c)
{
    return c->base.heads ? c->base.heads : 1;
}

static size_t kv_of(const call *c)
{
    return c->base.kv_heads ? c->base.kv_heads : heads_of(c);
}

static void test_golden(void)
{
    room *r = new_room();
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_geometric); row++) {
        const int kind = rv_golden_attn_geometric[row].kind;
        call c;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        furnish(&c, r, kind, rv_golden_attn_geometric[row].kappa, 3, 5, 6, 3);
        c.base.heads = 2;
        c.base.kv_heads = 1;
        c.base.temperature = (float)rv_golden_attn_geometric[row].tau;
        if (rv_golden_attn_geometric[row].causal) c.base.order = RV_ATTN_CAUSAL;
        grid(1, r->q, 36);
        grid(2, r->k, 30);
        grid(3, r->v, 15);
        grid(4, r->g, 18);
        for (size_t i = 0; i < 36; i++) r->q[i] *= 0.1875f;
        for (size_t i = 0; i < 30; i++) r->k[i] *= 0.1875f;
        for (size_t i = 0; i < 15; i++) r->v[i] *= 0.25f;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        CHECK_ALL(r->out, rv_golden_attn_geometric[row].out, 18, 64 * U);
        CHECK_ALL(r->weights, rv_golden_attn_geometric[row].weights, 30, 64 * U);
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        CHECK_ALL(r->d_q, rv_golden_attn_geometric[row].d_q, 36, 256 * U);
        CHECK_ALL(r->d_k, rv_golden_attn_geometric[row].d_k, 30, 256 * U);
        CHECK_ALL(r->d_v, rv_golden_attn_geometric[row].d_v, 15, 64 * U);
    }
    free(r);
}

/* ---- the definition in double ---- */

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t a = 0; a < n; a++) sum += x[a] * y[a];
    return sum;
}

/* x as a double, pulled into the ball of floats. */
static void read_point(const call *c, const float *x, size_t n, double *out)
{
    const double rim = 1.0 - ldexp(1.0, -22), kappa = (double)c->kappa;
    double length;
    for (size_t a = 0; a < n; a++) out[a] = (double)x[a];
    if ((c->kind > TANGENT && c->kind != MANIFOLD) || kappa >= 0.0) return;
    length = sqrt(-kappa * dot(out, out, n));
    for (size_t a = 0; length > rim && a < n; a++) out[a] *= rim / length;
}

static double define_score(const call *c, const double *x, const double *y)
{
    const size_t n = c->io.dim;
    const double k = (double)c->kappa, xx = dot(x, x, n), yy = dot(y, y, n), xy = dot(x, y, n);
    double e[64], u, d;
    for (size_t a = 0; a < n; a++) e[a] = x[a] - y[a];
    if (c->kind == ANGLE) return -acos(xy / sqrt(xx * yy)) / sqrt(k);
    if (c->kind == COSINE) return xy / sqrt(xx * yy);
    if (c->kind >= SHEET && c->kind <= SHEET_INNER) {
        const double inner = xy - sqrt(xx - 1 / k) * sqrt(yy - 1 / k);
        if (c->kind == SHEET_INNER) return -2 / k + 2 * inner;
        d = k * inner > 1.0 ? acosh(k * inner) / sqrt(-k) : 0.0;
        return c->kind == SHEET ? -d : -d * d;
    }
    u = k * dot(e, e, n) / ((1 + k * xx) * (1 + k * yy));
    if (k == 0.0) return -2 * sqrt(dot(e, e, n));
    return k < 0 ? -acosh(1 - 2 * u) / sqrt(-k) : -acos(1 - 2 * u) / sqrt(k);
}

/* out: [dim_v] from weights w [n + 1], the last at the origin, and values [n + 1, dim_v]. */
static void define_mean(const call *c, const double *w, const double *v, size_t n, double *out)
{
    const size_t dim = c->io.dim_v;
    const double k = (double)c->kappa;
    double sum[64] = {0}, time = 0, length, total = 0;
    for (size_t j = 0; j <= n; j++) total += w[j];
    for (size_t a = 0; a < dim; a++) out[a] = 0;
    if (total == 0) return;
    if (c->kind == FRECHET) {
        rv_frechet_config config;
        memset(&config, 0, sizeof config);
        config.tolerance = 1e-13;
        config.iterations = 5000;
        RV_EQUAL(rv_poincare_mean_f64(NULL, &config, v, w, n + 1, dim, -k, out), RV_OK);
        return;
    }
    for (size_t j = 0; j <= n; j++) {
        const double *x = v + j * dim, xx = dot(x, x, dim), r = sqrt(fabs(k) * xx);
        double f = 2 / (1 + k * xx);
        time += w[j] * (f - 1);
        if (c->kind == TANGENT) f = r > 0 ? atanh(r) / r : 1;
        if (c->kind == ANGLE || c->kind == COSINE) f = xx > 0 ? 1 / sqrt(xx) : 0;
        if (c->kind >= SHEET && c->kind <= SHEET_INNER) f = 1;
        for (size_t a = 0; a < dim; a++) sum[a] += w[j] * f * x[a];
    }
    length = sqrt(dot(sum, sum, dim));
    for (size_t a = 0; a < dim && length > 0; a++) {
        const double r = sqrt(fabs(k)) * length;
        if (c->kind == TANGENT) {
            out[a] = tanh(r) / r * sum[a];
        } else if (c->kind == ANGLE || c->kind == COSINE) {
            out[a] = sum[a] / r;
        } else if (c->kind >= SHEET && c->kind <= SHEET_INNER) {
            double all = 0;
            for (size_t j = 0; j <= n; j++)
                all += w[j] * sqrt(dot(v + j * dim, v + j * dim, dim) - 1 / k);
            out[a] = sum[a] / sqrt(-k * (all * all - length * length));
        } else if (k == 0) {
            out[a] = sum[a] / 2 / time; /* lambda is 2 everywhere */
        } else { /* half way from the origin to the sum over the time */
            const double half = k < 0 ? tanh(atanh(r / time) / 2) : tan(atan2(r, time) / 2);
            out[a] = half / r * sum[a];
        }
    }
}

/* The engine's rules around a raw logit; -HUGE_VAL: not seen. */
static double define_logit(const call *c, size_t h, size_t i, size_t j, double s)
{
    const rv_attn_config *b = &c->base;
    const rv_attn_mask *mask = c->io.mask;
    const size_t n_k = c->io.n_k, n_q = c->io.n_q;
    const long shift = b->order == RV_ATTN_CAUSAL ? (long)n_k - (long)n_q : (long)b->past;
    const long at = (long)i + (shift > 0 ? shift : 0), key = (long)j;
    const double never = -HUGE_VAL;
    if (b->softcap > 0) s = (double)b->softcap * tanh(s / (double)b->softcap);
    if (b->slopes) s -= (double)b->slopes[h] * fabs((double)(at - key));
    if (b->order == RV_ATTN_CAUSAL && key > (long)i + shift) return never;
    if (b->order == RV_ATTN_CAUSAL_FIRST && key > at) return never;
    if (b->windowed && (key < at - (long)b->left || key > at + (long)b->right)) return never;
    if (mask && mask->allow && !mask->allow[h * mask->allow_head + i * n_k + j]) return never;
    if (mask && mask->add) s += (double)mask->add[h * mask->add_head + i * n_k + j];
    if (mask && mask->visible && !mask->visible(mask->user, h, i, j)) return never;
    return s;
}

/* out: [n_q, heads, dim_v], weights: [heads, n_q, n_k], either NULL; k and v of the room. */
static void define(const call *c, const room *r, double *out, double *weights)
{
    const size_t heads = heads_of(c), kvs = kv_of(c), n_k = c->io.n_k, dim = c->io.dim;
    const size_t dim_v = c->io.dim_v;
    const double tau = c->base.temperature != 0.0f ? (double)c->base.temperature : 1.0;
    double *v = (double *)calloc((n_k + 1) * dim_v, sizeof *v), x[64], y[64], mean[64];
    double *w = (double *)calloc(n_k + 1, sizeof *w);
    if (!v || !w) exit(2);
    for (size_t h = 0; h < heads; h++) {
        const size_t kv = h * kvs / heads;
        for (size_t j = 0; j < n_k; j++)
            read_point(c, r->v + (j * kvs + kv) * dim_v, dim_v, v + j * dim_v);
        for (size_t i = 0; i < c->io.n_q; i++) {
            const double sink = c->base.sinks ? (double)c->base.sinks[h] : -HUGE_VAL;
            double top = sink, sum = 0;
            read_point(c, r->q + (i * heads + h) * dim, dim, x);
            for (size_t j = 0; j < n_k; j++) {
                read_point(c, r->k + (j * kvs + kv) * dim, dim, y);
                w[j] = define_logit(c, h, i, j, define_score(c, x, y) / tau);
                top = w[j] > top ? w[j] : top;
            }
            w[n_k] = sink;
            for (size_t j = 0; j <= n_k; j++) sum += w[j] = w[j] > -1e300 ? exp(w[j] - top) : 0.0;
            for (size_t j = 0; j <= n_k && sum > 0; j++) w[j] /= sum;
            if (weights) memcpy(weights + (h * c->io.n_q + i) * n_k, w, n_k * sizeof *w);
            if (!out) continue;
            define_mean(c, w, v, n_k, mean);
            memcpy(out + (i * heads + h) * dim_v, mean, dim_v * sizeof *mean);
        }
    }
    free(w);
    free(v);
}

/* ---- forward and backward against it ---- */

enum { PLAIN, SINKS, MASKS, WINDOW, VISIBLE, FORMS };
static const double kappas[][KINDS] = { /* of BALL ... MANIFOLD */
    {-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0, 1.0, -0.75},
    {-0.5, -0.25, -0.75, -2.0, -0.5, -0.75, 2.0, 0.5, 1.5},
    {-1e-5, -1e-4, -1e-5, -0.01, -0.01, -0.01, 0.25, 0.1, 1e-6},
    {-0.9, -0.9, -0.9, -5.0, -5.0, -3.0, 9.0, 9.0, 0.0},
};

typedef struct frame {
    float add[MOST], sinks[8], slopes[8];
    uint8_t allow[MOST];
    rv_attn_mask mask;
} frame;

static int visible(void *user, size_t head, size_t i, size_t j)
{
    (void)user;
    return (head + 2 * i + 3 * j) % 4 != 0;
}

static void dress(call *c, frame *f, int form)
{
    const size_t pairs = c->io.n_q * c->io.n_k;
    memset(&f->mask, 0, sizeof f->mask);
    c->base.temperature = 0.5f;
    if (form == SINKS) {
        for (size_t h = 0; h < 8; h++) f->sinks[h] = 0.5f * (float)h - 1.5f;
        c->base.sinks = f->sinks;
        c->base.order = RV_ATTN_CAUSAL;
    } else if (form == MASKS) {
        for (size_t i = 0; i < heads_of(c) * pairs; i++) {
            f->allow[i] = (uint8_t)((i * 7 + i / 5) % 5 != 0);
            f->add[i] = i % 9 == 4 ? -HUGE_VALF : 0.125f * (float)(i % 11);
        }
        f->mask.allow = f->allow;
        f->mask.add = f->add;
        f->mask.add_head = pairs;
        c->io.mask = &f->mask;
        c->base.softcap = 2.0f;
    } else if (form == WINDOW) {
        c->base.windowed = 1;
        c->base.left = 3;
        c->base.right = 1;
        c->base.order = RV_ATTN_CAUSAL_FIRST;
        c->base.past = 2;
        for (size_t h = 0; h < 8; h++) f->slopes[h] = 0.25f / (float)(h + 1);
        c->base.slopes = f->slopes;
    } else if (form == VISIBLE) {
        f->mask.visible = visible;
        c->io.mask = &f->mask;
        c->base.order = RV_ATTN_CAUSAL;
    }
}

/* Grid inputs of c's sizes, within the ball of every curvature above. */
static void fill(const call *c, room *r)
{
    const size_t heads = heads_of(c), kvs = kv_of(c);
    /* coordinates up to 1.57 scale; 0.9 of the rim for the longest */
    const float scale = (float)ldexp(1.0, c->io.dim > 8 ? -3 : -2);
    grid(1, r->q, c->io.n_q * heads * c->io.dim);
    grid(2, r->k, c->io.n_k * kvs * c->io.dim);
    grid(3, r->v, c->io.n_k * kvs * c->io.dim_v);
    grid(4, r->g, c->io.n_q * heads * c->io.dim_v);
    for (size_t i = 0; i < c->io.n_q * heads * c->io.dim; i++) r->q[i] *= scale;
    for (size_t i = 0; i < c->io.n_k * kvs * c->io.dim; i++) r->k[i] *= scale;
    for (size_t i = 0; i < c->io.n_k * kvs * c->io.dim_v; i++) r->v[i] *= scale;
}

static void test_definition(void)
{
    static const size_t sizes[][6] = { /* n_q, n_k, dim, dim_v, heads, kv_heads */
        {3, 7, 4, 5, 2, 1}, {9, 70, 20, 13, 2, 2}, {1, 130, 5, 3, 1, 1}, {6, 4, 3, 3, 4, 2}};
    room *r = new_room();
    frame *f = (frame *)calloc(1, sizeof *f);
    double *out = (double *)calloc(MOST, sizeof *out), *w = (double *)calloc(MOST, sizeof *w);
    if (!f || !out || !w) exit(2);
    for (size_t t = 0; t < RV_COUNT_OF(sizes) * FORMS * KINDS * RV_COUNT_OF(kappas); t++) {
        const size_t *size = sizes[t % RV_COUNT_OF(sizes)];
        const int form = (int)(t / RV_COUNT_OF(sizes) % FORMS);
        const int kind = (int)(t / RV_COUNT_OF(sizes) / FORMS % KINDS);
        const double kappa = kappas[t / RV_COUNT_OF(sizes) / FORMS / KINDS][kind];
        call c;
        rv_ctx ctx;
        if (t % RV_TEST_SCALE) continue;
        rv_test_ctx(&ctx);
        rv_test_row("case", t);
        furnish(&c, r, kind, kappa, size[0], size[1], size[2], size[3]);
        c.base.heads = (uint32_t)size[4];
        c.base.kv_heads = (uint32_t)size[5];
        dress(&c, f, form);
        fill(&c, r);
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        define(&c, r, out, w);
        CHECK_ALL(r->weights, w, size[4] * size[0] * size[1], 2e-5);
        CHECK_ALL(r->out, out, size[0] * size[4] * size[3], 2e-5);
    }
    free(w);
    free(out);
    free(f);
    free(r);
}

typedef struct loss_of {
    const call *c;
    room *r;
} loss_of;

static double loss(void *arg)
{
    const loss_of *l = (const loss_of *)arg;
    const size_t n = l->c->io.n_q * heads_of(l->c) * l->c->io.dim_v;
    double out[256], sum = 0;
    define(l->c, l->r, out, NULL);
    for (size_t i = 0; i < n; i++) sum += out[i] * (double)l->r->g[i];
    return sum;
}

/* Every slope within tolerance times the largest of its kind, plus a little. */
static void check_near(loss_fn f, void *arg, float *x, const float *grad, size_t n,
                       double tolerance)
{
    double want[256], size = 0;
    for (size_t i = 0; i < n; i++) {
        want[i] = slope(f, arg, x + i, 1.0 / 8192);
        size = fabs(want[i]) > size ? fabs(want[i]) : size;
    }
    for (size_t i = 0; i < n; i++) RV_NEAR(grad[i], want[i], tolerance * size + 1e-7);
}

static void test_slopes(void)
{
    room *r = new_room();
    frame *f = (frame *)calloc(1, sizeof *f);
    if (!f) exit(2);
    for (size_t t = 0; t < (size_t)FORMS * KINDS * RV_COUNT_OF(kappas); t++) {
        const int form = (int)(t % FORMS), kind = (int)(t / FORMS % KINDS);
        call c;
        rv_ctx ctx;
        loss_of l;
        if (t % RV_TEST_SCALE) continue;
        rv_test_ctx(&ctx);
        rv_test_row("case", t);
        furnish(&c, r, kind, kappas[t / FORMS / KINDS][kind], 3, 5, 4, 3);
        c.base.heads = 2;
        c.base.kv_heads = t % 2 ? 1 : 2;
        dress(&c, f, form);
        fill(&c, r);
        c.grad.d_sinks = r->d_sinks;
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        l.c = &c;
        l.r = r;
        check_near(loss, &l, r->q, r->d_q, 3 * 2 * 4, 1e-4);
        check_near(loss, &l, r->k, r->d_k, 5 * kv_of(&c) * 4, 1e-4);
        check_near(loss, &l, r->v, r->d_v, 5 * kv_of(&c) * 3, 1e-4);
        if (form == SINKS) check_near(loss, &l, f->sinks, r->d_sinks, 2, 1e-4);
    }
    free(f);
    free(r);
}

/* ---- what holds for every kind ---- */

/* A value of the kind's space: all coordinates equal. */
static float constant_of(const call *c)
{
    if (c->kind == ANGLE || c->kind == COSINE)
        return (float)(1.0 / sqrt((double)c->kappa * (double)c->io.dim_v));
    return 0.25f;
}

static void test_common(void)
{
    room *r = new_room(), *other = new_room();
    frame *f = (frame *)calloc(1, sizeof *f);
    if (!f) exit(2);
    for (int kind = 0; kind < KINDS; kind++) {
        call c;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        furnish(&c, r, kind, kappas[0][kind], 5, 80, 6, 4);
        fill(&c, r);
        for (size_t i = 0; i < 80 * 4; i++) r->v[i] = constant_of(&c); /* V = 1 gives 1 */
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 5; i++) {
            double sum = 0;
            for (size_t j = 0; j < 80; j++) sum += (double)r->weights[i * 80 + j];
            RV_NEAR(sum, 1, 2e-6);
        }
        for (size_t i = 0; i < 20; i++) RV_NEAR(r->out[i], constant_of(&c), 2e-6);
        fill(&c, r); /* reversed keys and values: reversed weights, the same means */
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        memcpy(other, r, sizeof *r);
        for (size_t j = 0; j < 80; j++) {
            memcpy(r->k + j * 6, other->k + (79 - j) * 6, 6 * sizeof(float));
            memcpy(r->v + j * 4, other->v + (79 - j) * 4, 4 * sizeof(float));
        }
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 400; i++)
            RV_NEAR(r->weights[i], other->weights[i / 80 * 80 + 79 - i % 80], 1e-7);
        for (size_t i = 0; i < 20; i++) RV_NEAR(r->out[i], other->out[i], 2e-6);
        memcpy(other, r, sizeof *r); /* a constant on every logit */
        for (size_t i = 0; i < 400; i++) f->add[i] = 2.0f;
        f->mask.add = f->add;
        c.io.mask = &f->mask;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 400; i++) RV_NEAR(r->weights[i], other->weights[i], 1e-7);
        for (size_t i = 0; i < 400; i++) f->add[i] = i % 3 ? 1000.0f : -1000.0f;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 400; i++) RV_CHECK(r->weights[i] >= 0.0f && r->weights[i] <= 1.0f);
        for (size_t i = 0; i < 20; i++) RV_CHECK(fabsf(r->out[i]) < 4.0f);
        for (size_t i = 0; i < 400; i++) f->add[i] = -HUGE_VALF; /* nothing seen */
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 400; i++) RV_CHECK(r->weights[i] == 0.0f);
        for (size_t i = 0; i < 20; i++) RV_CHECK(r->out[i] == 0.0f);
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        for (size_t i = 0; i < 320; i++) RV_CHECK(r->d_v[i] == 0.0f && r->d_k[i] == 0.0f);
        c.io.mask = NULL;
        c.base.temperature = 1e-3f; /* steep */
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 400; i++) RV_CHECK(r->weights[i] >= 0.0f && r->weights[i] <= 1.0f);
        c.base.temperature = 0;
        for (size_t j = 1; j < 80; j++) memcpy(r->k + j * 6, r->k, 6 * sizeof(float));
        RV_OKAY(&ctx, attend(&ctx, &c, NULL)); /* equal keys */
        for (size_t i = 0; i < 400; i++) RV_NEAR(r->weights[i], 1.0 / 80, 1e-8);
        c.io.n_k = 1; /* one key: its value */
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 20; i++) {
            double want = (double)r->v[i % 4];
            if (kind == ANGLE || kind == COSINE)
                want /= (double)rv_norm_f32(r->v, 4) * sqrt((double)c.kappa);
            RV_CHECK(r->weights[i / 4] == 1.0f);
            RV_NEAR(r->out[i], want, 2e-7);
        }
        c.io.n_q = 0;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        for (size_t i = 0; i < 4; i++) RV_CHECK(r->d_v[i] == 0.0f);
    }
    free(f);
    free(other);
    free(r);
}

/* Strides, narrow types, and any number of workers. */
static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

static void test_forms(void)
{
    room *r = new_room(), *other = new_room();
    static uint16_t k16[MOST], v16[MOST];
    for (int kind = 0; kind < KINDS; kind++) {
        call c, narrow;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        furnish(&c, r, kind, kappas[0][kind], 7, 70, 6, 4);
        c.base.heads = 4;
        c.base.kv_heads = 2;
        fill(&c, r);
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        memcpy(other, r, sizeof *r);
        ctx.parallel = backwards;
        ctx.workers = 3;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        RV_CHECK(memcmp(r, other, sizeof *r) == 0);
        ctx.parallel = NULL;
        for (int type = 0; type < 2; type++) { /* grids are exact in both */
            narrow = c;
            narrow.io.type = type ? RV_DTYPE_BF16 : RV_DTYPE_F16;
            for (size_t i = 0; i < 70 * 2 * 6; i++) r->k[i] = 0.25f * floorf(r->k[i] * 256) / 64;
            for (size_t i = 0; i < 70 * 2 * 4; i++) r->v[i] = 0.25f * floorf(r->v[i] * 256) / 64;
            if (type) {
                rv_convert_f32_to_bf16(r->k, k16, 70 * 2 * 6);
                rv_convert_f32_to_bf16(r->v, v16, 70 * 2 * 4);
            } else {
                rv_convert_f32_to_f16(r->k, k16, 70 * 2 * 6);
                rv_convert_f32_to_f16(r->v, v16, 70 * 2 * 4);
            }
            RV_OKAY(&ctx, attend(&ctx, &c, NULL));
            RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
            memcpy(other, r, sizeof *r);
            narrow.io.k = k16;
            narrow.io.v = v16;
            RV_OKAY(&ctx, attend(&ctx, &narrow, NULL));
            RV_OKAY(&ctx, attend(&ctx, &narrow, &c.grad));
            RV_CHECK(memcmp(r, other, sizeof *r) == 0);
        }
        /* one head of a wider row is that head alone */
        c.base.heads = c.base.kv_heads = 1;
        c.io.q_stride = 24;
        c.io.k_stride = 12;
        c.io.v_stride = 8;
        c.io.out_stride = 16;
        c.io.weights = NULL;
        memset(r->out, 0, sizeof r->out);
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 7 * 16; i++) {
            if (i % 16 < 4) RV_NEAR(r->out[i], other->out[i], 2e-7);
            else RV_CHECK(r->out[i] == 0.0f);
        }
    }
    free(other);
    free(r);
}

/* ---- geometry ---- */

/* A common Moebius shift of all points leaves weights as they are and shifts the mean. */
static void test_isometry(void)
{
    const float by[4] = {0.3f, -0.2f, 0.1f, 0.25f};
    room *r = new_room(), *other = new_room();
    static const int kinds[] = {BALL, BALL, FRECHET, FRECHET, MANIFOLD, MANIFOLD};
    static const double curvatures[] = {-0.5, -1.5, -0.5, -1.5, 1.25, -0.75};
    for (size_t t = 0; t < RV_COUNT_OF(kinds); t++) {
        const double kappa = curvatures[t];
        call c;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("case", t);
        furnish(&c, r, kinds[t], kappa, 6, 20, 4, 4);
        fill(&c, r);
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        memcpy(other, r, sizeof *r);
        for (size_t i = 0; i < 20; i++) {
            rv_stereo_add(by, r->q + i * 4, 4, (float)kappa, r->q + i * 4);
            rv_stereo_add(by, r->k + i * 4, 4, (float)kappa, r->k + i * 4);
            rv_stereo_add(by, r->v + i * 4, 4, (float)kappa, r->v + i * 4);
        }
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 120; i++) RV_NEAR(r->weights[i], other->weights[i], 1e-6);
        for (size_t i = 0; i < 6; i++) {
            float want[4];
            rv_stereo_add(by, other->out + i * 4, 4, (float)kappa, want);
            for (size_t a = 0; a < 4; a++) RV_NEAR(r->out[i * 4 + a], want[a], 3e-6);
        }
    }
    free(other);
    free(r);
}

static void compare(const room *a, const room *b, size_t n_weights, size_t n_out, double tolerance)
{
    for (size_t i = 0; i < n_weights; i++) RV_NEAR(a->weights[i], b->weights[i], tolerance);
    for (size_t i = 0; i < n_out; i++) RV_NEAR(a->out[i], b->out[i], tolerance);
}

/* The same geometry in other coordinates, and limits. */
static void test_models(void)
{
    room *r = new_room(), *s = new_room();
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t t = 0; t < 3; t++) { /* the ball and the sheet */
        const float cs[] = {0.25f, 1.0f, 4.0f};
        call ball, sheet;
        float x[4];
        furnish(&ball, r, BALL, (double)-cs[t], 6, 20, 3, 3);
        furnish(&sheet, s, SHEET, (double)-cs[t], 6, 20, 3, 3);
        fill(&ball, r);
        for (size_t i = 0; i < 20; i++) {
            rv_lorentz_from_poincare(r->q + i * 3, 3, cs[t], x);
            memcpy(s->q + i * 3, x + 1, 3 * sizeof(float));
            rv_lorentz_from_poincare(r->k + i * 3, 3, cs[t], x);
            memcpy(s->k + i * 3, x + 1, 3 * sizeof(float));
            rv_lorentz_from_poincare(r->v + i * 3, 3, cs[t], x);
            memcpy(s->v + i * 3, x + 1, 3 * sizeof(float));
        }
        RV_OKAY(&ctx, attend(&ctx, &ball, NULL));
        RV_OKAY(&ctx, attend(&ctx, &sheet, NULL));
        for (size_t i = 0; i < 6; i++) {
            rv_lorentz_from_poincare(r->out + i * 3, 3, cs[t], x);
            memcpy(r->out + i * 3, x + 1, 3 * sizeof(float));
        }
        compare(s, r, 120, 18, 4e-6);
    }
    { /* geomstats: d((.5, .5), (.5, -.5)) = 2.887270927429199 */
        call c;
        furnish(&c, r, BALL, -1.0, 1, 2, 2, 2);
        r->q[0] = r->q[1] = r->k[0] = r->k[1] = r->k[2] = 0.5f;
        r->k[3] = -0.5f;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_NEAR(log((double)r->weights[0] / (double)r->weights[1]), 2.887270927429199, 4e-6);
    }
    for (size_t t = 0; t < 3; t++) { /* kappa < 0 is the ball, also by default */
        const float kappa[] = {-0.5f, -2.0f, -1.0f};
        rv_attn_manifold_config config;
        call a, b;
        furnish(&a, r, BALL, (double)kappa[t], 6, 20, 4, 4);
        furnish(&b, s, MANIFOLD, (double)kappa[t], 6, 20, 4, 4);
        fill(&a, r);
        fill(&b, s);
        RV_OKAY(&ctx, attend(&ctx, &a, NULL));
        memset(&config, 0, sizeof config);
        if (t == 2) RV_OKAY(&ctx, rv_attn_manifold(&ctx, &config, &b.io));
        else RV_OKAY(&ctx, attend(&ctx, &b, NULL));
        RV_CHECK(memcmp(r->out, s->out, 24 * sizeof(float)) == 0);
    }
    { /* kappa > 0: the sphere, projected from the pole opposite the origin */
        call a, b;
        furnish(&a, r, MANIFOLD, 1.5, 6, 20, 3, 3);
        furnish(&b, s, ANGLE, 1.5, 6, 20, 4, 4);
        fill(&a, r);
        for (size_t i = 0; i < 20; i++) {
            const float *from[3], gain = sqrtf(1.5f);
            float *to[3];
            from[0] = r->q;
            from[1] = r->k;
            from[2] = r->v;
            to[0] = s->q;
            to[1] = s->k;
            to[2] = s->v;
            for (size_t p = 0; p < 3; p++) {
                const float xx = 1.5f * rv_dot_f32(from[p] + i * 3, from[p] + i * 3, 3);
                to[p][i * 4] = (1 - xx) / (1 + xx) / gain;
                for (size_t d = 0; d < 3; d++)
                    to[p][i * 4 + 1 + d] = 2 * from[p][i * 3 + d] / (1 + xx);
            }
        }
        RV_OKAY(&ctx, attend(&ctx, &a, NULL));
        RV_OKAY(&ctx, attend(&ctx, &b, NULL));
        for (size_t i = 0; i < 6; i++) { /* out is on the sphere; project it */
            const double time = (double)s->out[i * 4], root = sqrt(1.5);
            RV_NEAR(rv_norm_f32(s->out + i * 4, 4), 1 / root, 1e-6);
            for (size_t d = 0; d < 3; d++)
                RV_NEAR(r->out[i * 3 + d], (double)s->out[i * 4 + 1 + d] / (1 + root * time), 2e-6);
        }
        compare(r, s, 120, 0, 2e-6);
    }
    for (size_t t = 0; t < 4; t++) { /* c -> 0 from both sides, and at once where it underflows */
        const double kappa[] = {-1e-7, 1e-7, -1e-20, 1e-20};
        call a, b;
        furnish(&a, r, t == 2 ? BALL : MANIFOLD, kappa[t], 6, 20, 4, 4);
        furnish(&b, s, MANIFOLD, 0.0, 6, 20, 4, 4);
        fill(&a, r);
        fill(&b, s);
        RV_OKAY(&ctx, attend(&ctx, &a, NULL));
        RV_OKAY(&ctx, attend(&ctx, &b, NULL));
        compare(r, s, 120, 24, 1e-6);
        RV_OKAY(&ctx, attend(&ctx, &a, &a.grad));
        RV_OKAY(&ctx, attend(&ctx, &b, &b.grad));
        for (size_t i = 0; i < 24; i++) RV_NEAR(r->d_q[i], s->d_q[i], 1e-5);
        for (size_t i = 0; i < 80; i++) RV_NEAR(r->d_v[i], s->d_v[i], 1e-6);
    }
    free(s);
    free(r);
}

/* softmax(-d / tau) of the float distances, which hyperbolic.h keeps also at the rim. */
static void near_weights(const call *c, const room *r, size_t i, double *w)
{
    const size_t dim = c->io.dim;
    double top = -HUGE_VAL, sum = 0;
    for (size_t j = 0; j < c->io.n_k; j++) {
        w[j] = -(double)rv_stereo_distance(r->q + i * dim, r->k + j * dim, dim, c->kappa);
        top = w[j] > top ? w[j] : top;
    }
    for (size_t j = 0; j < c->io.n_k; j++) sum += w[j] = exp(w[j] - top);
    for (size_t j = 0; j < c->io.n_k; j++) w[j] /= sum;
}

/* Points up to the rim, on it and beyond. */
static void test_rim(void)
{
    enum { N = 40, DIM = 5 };
    static const float gaps[] = {0.3f, 1e-1f, 1e-2f, 1e-3f, 1e-4f, 1e-5f, 1e-6f, 0.0f, -1.0f};
    room *r = new_room();
    rv_test_rng rng;
    rv_ctx ctx;
    call c;
    double w[N];
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 5);
    furnish(&c, r, BALL, -1.0, N, N, DIM, DIM);
    for (size_t i = 0; i < N; i++) {
        float *x = r->k + i * DIM, length;
        rv_test_fill(&rng, x, DIM);
        if (i % 4 == 3) memcpy(x, x - DIM, DIM * sizeof *x); /* nearly on one line */
        if (i % 4 == 3) x[0] += 1e-3f * rv_test_f32(&rng);
        length = rv_norm_f32(x, DIM);
        rv_scale_f32((1.0f - gaps[i % 9]) / length, x, DIM);
    }
    memcpy(r->q, r->k, sizeof r->q);
    memcpy(r->v, r->k, sizeof r->q);
    RV_OKAY(&ctx, attend(&ctx, &c, NULL));
    for (size_t i = 0; i < N; i++) {
        float want[DIM], share[N];
        near_weights(&c, r, i, w);
        for (size_t j = 0; j < N; j++) RV_NEAR(r->weights[i * N + j], w[j], 1e-4);
        /* the mean in double of these weights */
        for (size_t j = 0; j < N; j++) share[j] = r->weights[i * N + j];
        RV_OKAY(&ctx, rv_poincare_midpoint(&ctx, r->v, share, N, DIM, 1.0f, want));
        for (size_t a = 0; a < DIM; a++) RV_NEAR(r->out[i * DIM + a], want[a], 3e-4);
        RV_CHECK(rv_dot_f32(r->out + i * DIM, r->out + i * DIM, DIM) < 1.0f);
    }
    for (size_t j = 0; j < N; j++) { /* one key: the value, pulled in */
        float want[DIM];
        double lambda;
        memcpy(want, r->v + j * DIM, sizeof want);
        rv_poincare_project(want, DIM, 1.0f);
        lambda = (double)rv_poincare_conformal(want, DIM, 1.0f);
        c.io.n_q = c.io.n_k = 1;
        c.io.v = r->v + j * DIM;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        /* three roundings, tenfold at most by the root of 1 - |m|^2 >= 1e-2 of means in floats */
        for (size_t a = 0; a < DIM; a++) RV_NEAR(r->out[a], want[a], 30 * 6e-8);
        RV_NEAR((double)rv_poincare_conformal(r->out, DIM, 1.0f) / lambda, 1,
                2e-7 * lambda + 4e-6);
    }
    free(r);
}

/* Slopes where a query, a key and a value are outside, and where points come near the rim. */
static void test_rim_slopes(void)
{
    room *r = new_room();
    for (size_t t = 0; t < 4; t++) {
        call c;
        rv_ctx ctx;
        loss_of l;
        rv_test_ctx(&ctx);
        rv_test_row("case", t);
        furnish(&c, r, t < 2 ? TANGENT : BALL, -1.0, 2, 4, 3, 3);
        c.base.temperature = 2.0f;
        fill(&c, r);
        for (size_t a = 0; a < 3; a++) {
            r->q[a] *= t % 2 ? 8.0f : 1.0f;
            r->k[3 + a] *= t % 2 ? 1.0f : 16.0f;
            if (t < 2) r->v[6 + a] *= 16.0f;
        }
        l.c = &c;
        l.r = r;
        RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
        check_near(loss, &l, r->q, r->d_q, 6, 2e-4);
        check_near(loss, &l, r->k, r->d_k, 12, 2e-4);
        check_near(loss, &l, r->v, r->d_v, 12, 2e-4);
    }
    free(r);
}

/* Space parts of any length: times from 1 to 1e30. */
static void test_sheet(void)
{
    enum { N = 24, DIM = 3 };
    room *r = new_room();
    rv_ctx ctx;
    call c;
    rv_test_ctx(&ctx);
    furnish(&c, r, SHEET, -1.0, N, N, DIM, DIM);
    fill(&c, r);
    for (size_t i = 0; i < N; i++) {
        const float gain = (float)pow(10.0, (double)(i / 2) - 3.0);
        for (size_t a = 0; a < DIM; a++) r->k[i * DIM + a] *= gain;
    }
    memcpy(r->q, r->k, sizeof r->q);
    memcpy(r->v, r->k, sizeof r->q);
    RV_OKAY(&ctx, attend(&ctx, &c, NULL));
    for (size_t i = 0; i < N; i++) {
        double w[N], sum = 0, top = -HUGE_VAL, points[N * (DIM + 1)], share[N], want[DIM + 1];
        for (size_t j = 0; j < N; j++) {
            double x[DIM + 1] = {0}, *y = points + j * (DIM + 1);
            y[0] = 0;
            for (size_t a = 0; a < DIM; a++) {
                x[a + 1] = (double)r->q[i * DIM + a];
                y[a + 1] = (double)r->k[j * DIM + a];
            }
            w[j] = -rv_lorentz_distance_f64(x, y, DIM, 1.0);
            top = w[j] > top ? w[j] : top;
            share[j] = (double)r->weights[i * N + j];
        }
        for (size_t j = 0; j < N; j++) sum += w[j] = exp(w[j] - top);
        for (size_t j = 0; j < N; j++) RV_NEAR(r->weights[i * N + j], w[j] / sum, 1e-3);
        RV_OKAY(&ctx, rv_lorentz_centroid_f64(&ctx, points, share, N, DIM, 1.0, want));
        for (size_t a = 0; a < DIM; a++)
            RV_NEAR(r->out[i * DIM + a], want[a + 1], 2e-3 * want[0]);
    }
    for (size_t j = 0; j < N; j++) { /* the centroid of one point */
        c.io.n_q = c.io.n_k = 1;
        c.io.v = r->v + j * DIM;
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t a = 0; a < DIM; a++)
            RV_NEAR(r->out[a], r->v[j * DIM + a], 4e-6 * fabs((double)r->v[j * DIM + a]));
    }
    free(r);
}

/* Turning all points turns the mean and no weights; opposite values; rows of zeros. */
static void test_sphere(void)
{
    room *r = new_room(), *s = new_room();
    rv_ctx ctx;
    call c, d;
    rv_test_ctx(&ctx);
    for (int kind = ANGLE; kind <= COSINE; kind++) {
        furnish(&c, r, kind, 1.0, 6, 20, 3, 3);
        furnish(&d, s, kind, 1.0, 6, 20, 3, 3);
        fill(&c, r);
        for (size_t i = 0; i < 20; i++) { /* coordinates in turn, one mirrored */
            for (size_t a = 0; a < 3; a++) {
                const float sign = a == 1 ? -1.0f : 1.0f;
                s->q[i * 3 + (a + 1) % 3] = sign * r->q[i * 3 + a];
                s->k[i * 3 + (a + 1) % 3] = sign * r->k[i * 3 + a];
                s->v[i * 3 + (a + 1) % 3] = sign * r->v[i * 3 + a];
            }
        }
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        RV_OKAY(&ctx, attend(&ctx, &d, NULL));
        compare(r, s, 120, 0, 2e-7);
        for (size_t i = 0; i < 18; i++)
            RV_NEAR(s->out[i / 3 * 3 + (i % 3 + 1) % 3], (i % 3 == 1 ? -1 : 1) * (double)r->out[i],
                    1e-6);
    }
    furnish(&c, r, ANGLE, 1.0, 1, 2, 3, 3); /* the query is half way between opposite values */
    memset(r->q, 0, sizeof r->q);
    memset(r->k, 0, sizeof r->k);
    memset(r->v, 0, sizeof r->v);
    r->q[0] = r->k[1] = r->v[1] = 2.0f;
    r->k[4] = r->v[4] = -2.0f;
    RV_OKAY(&ctx, attend(&ctx, &c, NULL));
    for (size_t a = 0; a < 3; a++) RV_CHECK(r->out[a] == 0.0f);
    r->g[0] = 1.0f;
    RV_OKAY(&ctx, attend(&ctx, &c, &c.grad));
    for (size_t a = 0; a < 6; a++) RV_CHECK(r->d_v[a] == 0.0f && r->d_k[a] == 0.0f);
    memset(r->k, 0, 3 * sizeof(float)); /* zeros: at right angles; the other one is, too */
    RV_OKAY(&ctx, attend(&ctx, &c, NULL));
    RV_NEAR(r->weights[0], 0.5, 1e-7);
    furnish(&c, r, ANGLE, 1.0, 1, 3, 3, 3); /* angles near 0 and pi keep digits */
    r->q[0] = 1.0f;
    r->q[1] = r->q[2] = 0.0f;
    memset(r->k, 0, sizeof r->k);
    r->k[0] = 1.0f;
    r->k[1] = 1e-4f;
    r->k[3] = -1.0f;
    r->k[4] = 1e-4f;
    r->k[6] = 1.0f;
    c.base.temperature = 1e-4f;
    RV_OKAY(&ctx, attend(&ctx, &c, NULL));
    RV_NEAR(r->weights[0] / r->weights[2], exp(-1.0), 1e-5);
    free(s);
    free(r);
}

static void test_nan(void)
{
#if !defined(__FAST_MATH__)
    room *r = new_room();
    for (int kind = 0; kind < KINDS; kind++) {
        call c;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("kind", (size_t)kind);
        furnish(&c, r, kind, kappas[0][kind], 4, 4, 3, 3);
        fill(&c, r);
        c.base.order = RV_ATTN_CAUSAL;
        r->k[2 * 3 + 1] = not_a_number();
        RV_OKAY(&ctx, attend(&ctx, &c, NULL));
        for (size_t i = 0; i < 12; i++) RV_CHECK((r->out[i] == r->out[i]) == (i < 6));
    }
    free(r);
#endif
}

/* ---- faults ---- */

static void refuse(call *c, rv_status status, const char *word)
{
    float *out = (float *)c->io.out;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    out[0] = 5.0f;
    RV_FAILS(&ctx, attend(&ctx, c, NULL), status, word);
    RV_CHECK(out[0] == 5.0f);
    RV_FAILS(&ctx, attend(&ctx, c, &c->grad), status, word);
}

static void test_errors(void)
{
    room *r = new_room();
    rv_attn_poincare_config config;
    rv_ctx ctx;
    call c;
    rv_test_ctx(&ctx);
    for (int kind = 0; kind < KINDS; kind++) {
        call bad;
        rv_attn_grad none;
        memset(&none, 0, sizeof none);
        rv_test_row("kind", (size_t)kind);
        furnish(&c, r, kind, kappas[0][kind], 2, 2, 3, 3);
        bad = c;
        bad.base.scale = 2.0f;
        refuse(&bad, RV_ERR_CONFIG, "scale is 2");
        bad = c;
        bad.kappa = not_a_number();
        refuse(&bad, RV_ERR_CONFIG, "NaN");
        bad.kappa = kind == MANIFOLD ? 2e20f : kind == ANGLE || kind == COSINE ? -1.0f : 1.0f;
        refuse(&bad, RV_ERR_CONFIG, "allowed");
        bad = c;
        bad.io.n_k = 0;
        refuse(&bad, RV_ERR_DIM, "n_k is 0");
        bad = c;
        bad.io.k = NULL;
        refuse(&bad, RV_ERR_ARG, "q, k, v");
        bad = c;
        bad.base.temperature = -1.0f;
        refuse(&bad, RV_ERR_CONFIG, "temperature");
        RV_FAILS(&ctx, attend(&ctx, &c, &none), RV_ERR_ARG, "d_out");
    }
    RV_FAILS(&ctx, rv_attn_poincare(&ctx, NULL, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_poincare_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_lorentz_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_spherical_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_FAILS(&ctx, rv_attn_manifold_backward(&ctx, NULL, &c.io, NULL), RV_ERR_ARG, "grad");
    RV_OKAY(&ctx, rv_attn_poincare(&ctx, NULL, &c.io));
    memset(&config, 0, sizeof config);
    config.aggregate = (rv_attn_aggregate)3;
    RV_FAILS(&ctx, rv_attn_poincare(&ctx, &config, &c.io), RV_ERR_CONFIG, "aggregate is 3");
    config.aggregate = RV_ATTN_MIDPOINT;
    config.iterations = 5;
    RV_FAILS(&ctx, rv_attn_poincare(&ctx, &config, &c.io), RV_ERR_CONFIG, "iterations");
    config.aggregate = RV_ATTN_FRECHET;
    config.iterations = 100001;
    RV_FAILS(&ctx, rv_attn_poincare(&ctx, &config, &c.io), RV_ERR_CONFIG, "iterations is 100001");
    config.iterations = 5;
    config.tolerance = -1.0f;
    RV_FAILS(&ctx, rv_attn_poincare(&ctx, &config, &c.io), RV_ERR_CONFIG, "tolerance is -1");
    {
        rv_attn_lorentz_config other;
        rv_attn_manifold_config flat;
        memset(&other, 0, sizeof other);
        memset(&flat, 0, sizeof flat);
        other.score = (rv_attn_lorentz_score)3;
        RV_FAILS(&ctx, rv_attn_lorentz(&ctx, &other, &c.io), RV_ERR_CONFIG, "score is 3");
        flat.flat = 1;
        flat.kappa = 0.5f;
        RV_FAILS(&ctx, rv_attn_manifold(&ctx, &flat, &c.io), RV_ERR_CONFIG, "flat");
    }
    free(r);
}

static rv_status body(rv_ctx *ctx, void *arg)
{
    const call *c = (const call *)arg;
    const rv_status status = attend(ctx, c, NULL);
    return status ? status : attend(ctx, c, &c->grad);
}

static void test_faults(void)
{
    room *r = new_room();
    for (int kind = 0; kind < KINDS; kind++) {
        call c;
        furnish(&c, r, kind, kappas[0][kind], 3, 70, 4, 4);
        fill(&c, r);
        if (kind == BALL) c.kappa = -30.0f; /* many pulled in, means taken again */
        RV_CHECK(rv_test_oom_sweep(body, &c) >= 8);
        RV_CHECK(rv_test_cancel_sweep(body, &c) >= 8);
    }
    free(r);
}

int main(void)
{
    rv_test_begin("attn_geometric");
    if (RV_TEST_SCALE > 16) return rv_test_end();
    RV_RUN(test_golden);
    RV_RUN(test_definition);
    RV_RUN(test_slopes);
    RV_RUN(test_common);
    RV_RUN(test_forms);
    RV_RUN(test_isometry);
    RV_RUN(test_models);
    RV_RUN(test_rim);
    RV_RUN(test_rim_slopes);
    RV_RUN(test_sheet);
    RV_RUN(test_sphere);
    RV_RUN(test_nan);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
