/* Attention by transport: torch, definitions in double, common laws of weights, faults. */
#include "grid_set.h"

#include "golden/attn_transport.h"

enum { MOST_Q = 6, MOST_K = 80, HEADS = 2, DIM = 6, WIDE = 2 };

/* One problem and room for what may be asked of it. */
typedef struct problem {
    float q[MOST_Q * HEADS * DIM], k[MOST_K * HEADS * DIM], v[MOST_K * HEADS * WIDE];
    float out[MOST_Q * HEADS * WIDE], d_out[MOST_Q * HEADS * WIDE];
    float weights[HEADS * MOST_Q * MOST_K];
    float d_q[MOST_Q * HEADS * DIM], d_k[MOST_K * HEADS * DIM], d_v[MOST_K * HEADS * WIDE];
    float direction[4 * DIM];
    rv_attn_io io;
    rv_attn_grad grad;
    rv_attn_sliced_config sliced;
    rv_attn_centroid_config centroid;
    size_t kv_heads;
    const uint8_t *allow;
} problem;

static void open_problem(problem *s, size_t n_q, size_t n_k, size_t dim, size_t kv_heads)
{
    memset(s, 0, sizeof *s);
    s->kv_heads = kv_heads;
    s->io.n_q = n_q;
    s->io.n_k = n_k;
    s->io.dim = dim;
    s->io.dim_v = WIDE;
    s->io.q = grid(1, s->q, n_q * HEADS * dim);
    s->io.k = grid(2, s->k, n_k * kv_heads * dim);
    s->io.v = grid(3, s->v, n_k * kv_heads * WIDE);
    s->io.out = s->out;
    s->io.weights = s->weights;
    s->grad.d_out = grid(4, s->d_out, n_q * HEADS * WIDE);
    s->grad.d_q = s->d_q;
    s->grad.d_k = s->d_k;
    s->grad.d_v = s->d_v;
    s->sliced.base.heads = s->centroid.base.heads = HEADS;
    s->sliced.base.kv_heads = s->centroid.base.kv_heads = (uint32_t)kv_heads;
}

/* The loss that d_out belongs to, of weights by a definition. */
static double mixed(const problem *s, size_t h, size_t i, const double *w)
{
    double loss = 0.0;
    const size_t kv = h * s->kv_heads / HEADS;
    for (size_t j = 0; j < s->io.n_k; j++)
        for (size_t x = 0; x < WIDE; x++)
            loss += w[j] * (double)s->v[(j * s->kv_heads + kv) * WIDE + x] *
                    (double)s->d_out[(i * HEADS + h) * WIDE + x];
    return loss;
}

/* ---- sliced ---- */

static double place_of(const problem *s, const float *row, size_t u, size_t r)
{
    const size_t width = s->io.dim / s->sliced.points;
    double sum = 0.0;
    for (size_t x = 0; x < width; x++)
        sum += (double)s->direction[u * width + x] * (double)row[r * width + x];
    return sum;
}

/* The r-th of a row's projections: as many are before it. */
static double ordered(const problem *s, const float *row, size_t u, size_t r)
{
    const size_t m = s->sliced.points;
    for (size_t a = 0; a < m; a++) {
        size_t before = 0;
        for (size_t b = 0; b < m; b++) {
            const double gap = place_of(s, row, u, b) - place_of(s, row, u, a);
            before += gap < 0.0 || (gap == 0.0 && b < a);
        }
        if (before == r) return place_of(s, row, u, a);
    }
    return HUGE_VAL;
}

static double sliced_logit(const problem *s, const float *q, const float *k)
{
    const double p = (double)s->sliced.p;
    double sum = 0.0;
    for (size_t u = 0; u < 4; u++)
        for (size_t r = 0; r < s->sliced.points; r++)
            sum += pow(fabs(ordered(s, q, u, r) - ordered(s, k, u, r)), p);
    return -pow(sum / (4.0 * (double)s->sliced.points), 1.0 / p) /
           (double)s->sliced.base.temperature;
}

/* Weights of query i of head h: logits of all visible keys but those that more than enough have a
   larger dot product than. */
static void sliced_weights(const problem *s, size_t h, size_t i, double *w)
{
    const size_t dim = s->io.dim, n = s->io.n_k, kv = h * s->kv_heads / HEADS;
    const float *q = s->q + (i * HEADS + h) * dim;
    double dot[MOST_K], sum = 0.0;
    int seen[MOST_K];
    for (size_t j = 0; j < n; j++) {
        dot[j] = 0.0;
        seen[j] = (s->sliced.base.order != RV_ATTN_CAUSAL || j + s->io.n_q <= i + n) &&
                  (!s->allow || s->allow[i * n + j]);
        for (size_t x = 0; x < dim; x++)
            dot[j] += (double)q[x] * (double)s->k[(j * s->kv_heads + kv) * dim + x];
    }
    for (size_t j = 0; j < n; j++) {
        size_t better = 0;
        for (size_t t = 0; t < n; t++)
            better += seen[t] && (dot[t] > dot[j] || (dot[t] == dot[j] && t < j));
        w[j] = seen[j] && better < s->sliced.candidates
                   ? exp(sliced_logit(s, q, s->k + (j * s->kv_heads + kv) * dim)) : 0.0;
        sum += w[j];
    }
    for (size_t j = 0; j < n && sum > 0.0; j++) w[j] /= sum;
}

static double sliced_loss(void *arg)
{
    const problem *s = (const problem *)arg;
    double w[MOST_K], loss = 0.0;
    for (size_t h = 0; h < HEADS; h++) {
        for (size_t i = 0; i < s->io.n_q; i++) {
            sliced_weights(s, h, i, w);
            loss += mixed(s, h, i, w);
        }
    }
    return loss;
}

static void open_sliced(problem *s, size_t n_q, size_t n_k, size_t kv_heads)
{
    open_problem(s, n_q, n_k, DIM, kv_heads);
    s->sliced.points = 3;
    s->sliced.projections = 4;
    s->sliced.candidates = (uint32_t)n_k;
    s->sliced.p = 2.0f;
    s->sliced.base.temperature = 0.5f;
    s->sliced.directions = grid(5, s->direction, 4 * DIM / 3);
}

static void check_sliced_weights(const problem *s, double tolerance)
{
    double w[MOST_K];
    for (size_t h = 0; h < HEADS; h++) {
        for (size_t i = 0; i < s->io.n_q; i++) {
            sliced_weights(s, h, i, w);
            for (size_t j = 0; j < s->io.n_k; j++)
                RV_NEAR(s->weights[(h * s->io.n_q + i) * s->io.n_k + j], w[j], tolerance);
        }
    }
}

static void test_sliced_golden(void)
{
    static problem s;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_sliced); row++) {
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        open_sliced(&s, 3, 9, 1);
        s.sliced.p = (float)rv_golden_attn_sliced[row].p;
        s.sliced.candidates = (uint32_t)rv_golden_attn_sliced[row].top;
        s.sliced.base.order = rv_golden_attn_sliced[row].causal ? RV_ATTN_CAUSAL : RV_ATTN_ANY;
        RV_OKAY(&ctx, rv_attn_sliced(&ctx, &s.sliced, &s.io));
        /* logits of up to 16 are floats: 2^-20 off, and so are weights, relatively */
        CHECK_ALL(s.out, rv_golden_attn_sliced[row].out, 12, 4e-6);
        check_sliced_weights(&s, 4e-6);
        RV_OKAY(&ctx, rv_attn_sliced_backward(&ctx, &s.sliced, &s.io, &s.grad));
        CHECK_ALL(s.d_q, rv_golden_attn_sliced[row].d_q, 36, 1e-5);
        CHECK_ALL(s.d_k, rv_golden_attn_sliced[row].d_k, 54, 1e-5);
        CHECK_ALL(s.d_v, rv_golden_attn_sliced[row].d_v, 18, 4e-6);
    }
}

/* Slopes by differences; masks; more keys than a tile has. */
static void test_sliced_slopes(void)
{
    static problem s;
    static uint8_t allow[MOST_Q * MOST_K];
    rv_attn_mask mask;
    rv_ctx ctx;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    memset(&mask, 0, sizeof mask);
    for (size_t e = 0; e < sizeof allow; e++) allow[e] = (uint8_t)(e % 7 != 2);
    mask.allow = allow;
    for (size_t row = 0; row < 3; row++) {
        rv_test_row("row", row);
        open_sliced(&s, row == 2 ? 2 : 4, row == 2 ? 70 : 7, 1 + row % 2);
        s.sliced.candidates = row == 1 ? 3 : row == 2 ? 60 : 64;
        s.sliced.p = row == 2 ? 1.5f : 2.0f;
        if (row) {
            s.io.mask = &mask;
            s.allow = allow;
        }
        RV_OKAY(&ctx, rv_attn_sliced(&ctx, &s.sliced, &s.io));
        check_sliced_weights(&s, 2e-6);
        RV_OKAY(&ctx, rv_attn_sliced_backward(&ctx, &s.sliced, &s.io, &s.grad));
        check_slopes(sliced_loss, &s, s.q, s.d_q, 12, 1.0 / 2048.0, 1e-4);
        check_slopes(sliced_loss, &s, s.k, s.d_k, 12, 1.0 / 2048.0, 1e-4);
        check_slopes(sliced_loss, &s, s.v, s.d_v, 4, 1.0 / 64.0, 1e-5);
    }
}

/* The common laws: sums, one key, equal keys, values of one, order of keys, far logits, rows that
   see nothing, softcap that must not let hidden keys in, halves, several lanes. */
static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n) body(arg, --n);
}

static void check_sums(const problem *s, double tolerance)
{
    for (size_t r = 0; r < HEADS * s->io.n_q; r++) {
        double sum = 0.0;
        for (size_t j = 0; j < s->io.n_k; j++) sum += (double)s->weights[r * s->io.n_k + j];
        RV_NEAR(sum, 1.0, tolerance);
    }
}

static void test_sliced_laws(void)
{
    static problem s, t;
    static uint16_t k16[MOST_K * HEADS * DIM], v16[MOST_K * HEADS * WIDE];
    uint8_t none[5 * 9] = {0};
    rv_attn_mask mask;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&mask, 0, sizeof mask);
    open_sliced(&s, 5, 9, 2);
    for (size_t e = 0; e < 9 * 2 * WIDE; e++) s.v[e] = 1.0f;
    RV_OKAY(&ctx, rv_attn_sliced(&ctx, &s.sliced, &s.io));
    check_sums(&s, 1e-6);
    for (size_t e = 0; e < 5 * HEADS * WIDE; e++) RV_NEAR(s.out[e], 1.0, 1e-6);
    open_sliced(&t, 5, 9, 2); /* keys in another order, points of a row in another order */
    for (size_t j = 0; j < 9; j++)
        for (size_t x = 0; x < 2 * DIM; x++)
            t.k[(8 - j) * 2 * DIM + x] =
                s.k[j * 2 * DIM + x / DIM * DIM + (x % DIM + DIM / 3) % DIM];
    RV_OKAY(&ctx, rv_attn_sliced(&ctx, &t.sliced, &t.io));
    for (size_t r = 0; r < HEADS * 5; r++)
        for (size_t j = 0; j < 9; j++)
            RV_NEAR(t.weights[r * 9 + 8 - j], s.weights[r * 9 + j], 1e-6);
    open_sliced(&t, 5, 9, 2); /* equal keys */
    for (size_t e = 0; e < 9 * 2 * DIM; e++) t.k[e] = t.k[e % (2 * DIM)];
    RV_OKAY(&ctx, rv_attn_sliced(&ctx, &t.sliced, &t.io));
    for (size_t e = 0; e < HEADS * 5 * 9; e++) RV_NEAR(t.weights[e], 1.0 / 9.0, 1e-6);
    open_sliced(&t, 5, 1, 2); /* one key */
    RV_OKAY(&ctx, rv_attn_sliced(&ctx, &t.sliced, &t.io));
    for (size_t e = 0; e < HEADS * 5; e++) RV_NEAR(t.weights[e], 1.0, 1e-6);
    open_sliced(&t, 5, 9, 2); /* logits of thousands; and what is seen stays finite */
    for (size_t e = 0; e < 9 * 2 * DIM; e++) t.k[e] *= 1000.0f;
    RV_OKAY(&ctx, rv_attn_sliced(&ctx, &t.sliced, &t.io));
    check_sums(&t, 1e-6);
    open_sliced(&t, 5, 9, 2);
    mask.allow = none;
    t.io.mask = &mask;
    memset(none + 9, 1, 36); /* query 0 sees nothing */
    t.sliced.candidates = 3;
    t.sliced.base.softcap = 2.0f;
    RV_OKAY(&ctx, rv_attn_sliced(&ctx, &t.sliced, &t.io));
    for (size_t h = 0; h < HEADS; h++) {
        for (size_t x = 0; x < WIDE; x++) RV_CHECK(t.out[h * WIDE + x] == 0.0f);
        for (size_t i = 0; i < 5; i++) {
            size_t some = 0;
            for (size_t j = 0; j < 9; j++) some += t.weights[(h * 5 + i) * 9 + j] > 0.0f;
            RV_EQUAL(some, i ? 3 : 0);
        }
    }
    RV_OKAY(&ctx, rv_attn_sliced_backward(&ctx, &t.sliced, &t.io, &t.grad));
    for (size_t x = 0; x < HEADS * DIM; x++) RV_CHECK(t.d_q[x] == 0.0f);
    for (int type = 1; type < 3; type++) { /* multiples of 1/128 below 2 fit both halves, nearly */
        rv_ctx many;
        rv_test_ctx(&many);
        many.parallel = backwards;
        open_sliced(&s, 5, 9, 2);
        open_sliced(&t, 5, 9, 2);
        s.sliced.directions = t.sliced.directions = NULL;
        s.sliced.candidates = t.sliced.candidates = 4;
        for (size_t e = 0; e < 9 * 2 * DIM; e++) s.k[e] = (float)((int)(s.k[e] * 16.0f)) / 16.0f;
        if (type == 1) rv_convert_f32_to_f16(s.k, k16, 9 * 2 * DIM);
        else rv_convert_f32_to_bf16(s.k, k16, 9 * 2 * DIM);
        for (size_t e = 0; e < 9 * 2 * WIDE; e++) s.v[e] = (float)((int)(s.v[e] * 16.0f)) / 16.0f;
        if (type == 1) rv_convert_f32_to_f16(s.v, v16, 9 * 2 * WIDE);
        else rv_convert_f32_to_bf16(s.v, v16, 9 * 2 * WIDE);
        t.io.k = k16;
        t.io.v = v16;
        t.io.type = type == 1 ? RV_DTYPE_F16 : RV_DTYPE_BF16;
        RV_OKAY(&ctx, rv_attn_sliced(&ctx, &s.sliced, &s.io));
        RV_OKAY(&many, rv_attn_sliced(&many, &t.sliced, &t.io));
        for (size_t e = 0; e < 5 * HEADS * WIDE; e++) RV_NEAR(t.out[e], s.out[e], 1e-6);
        RV_OKAY(&ctx, rv_attn_sliced_backward(&ctx, &t.sliced, &t.io, &s.grad));
        RV_OKAY(&many, rv_attn_sliced_backward(&many, &t.sliced, &t.io, &t.grad));
        RV_CHECK(memcmp(s.d_q, t.d_q, sizeof s.d_q) == 0);
        RV_CHECK(memcmp(s.d_k, t.d_k, sizeof s.d_k) == 0);
    }
}

/* ---- centroids ---- */

static void open_centroid(problem *s, size_t n_q, size_t n_k, size_t kv_heads)
{
    static const float places[3][3] = {{3, 0, 0}, {0, -3, 0.5f}, {-2, 2, 1}};
    open_problem(s, n_q, n_k, 3, kv_heads);
    for (size_t e = 0; e < n_k * kv_heads * 3; e++)
        s->k[e] = s->k[e] / 8.0f + places[e / (3 * kv_heads) % 3][e % 3];
    s->centroid.clusters = 3;
}

/* Weights of all queries of a head by definition; key j is of cluster j % 3. */
static void centroid_weights(const problem *s, size_t h, double *w)
{
    const size_t n_q = s->io.n_q, n_k = s->io.n_k, kv = h * s->kv_heads / HEADS;
    const double epsilon = (double)s->centroid.epsilon;
    double c[MOST_Q][3], b[3][3] = {{0}}, mass[3] = {0}, u[MOST_Q] = {0}, v[3] = {0};
    for (size_t j = 0; j < n_k; j++) mass[j % 3] += 1.0;
    for (size_t j = 0; j < n_k; j++)
        for (size_t x = 0; x < 3; x++)
            b[j % 3][x] += (double)s->k[(j * s->kv_heads + kv) * 3 + x] / mass[j % 3];
    for (size_t i = 0; i < n_q; i++) {
        for (size_t m = 0; m < 3; m++) {
            c[i][m] = 0.0;
            for (size_t x = 0; x < 3; x++) {
                const double gap = (double)s->q[(i * HEADS + h) * 3 + x] - b[m][x];
                c[i][m] += gap * gap / epsilon;
            }
        }
    }
    for (uint32_t step = 0; step < s->centroid.sinkhorn; step++) {
        for (size_t m = 0; m < 3; m++) {
            double sum = 0.0;
            for (size_t i = 0; i < n_q; i++) sum += exp(u[i] - c[i][m]) / (double)n_q;
            v[m] = -log(sum);
        }
        for (size_t i = 0; i < n_q; i++) {
            double sum = 0.0;
            for (size_t m = 0; m < 3; m++) sum += mass[m] / (double)n_k * exp(v[m] - c[i][m]);
            u[i] = -log(sum);
        }
    }
    for (size_t i = 0; i < n_q; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < n_k; j++) {
            w[i * n_k + j] = exp(u[i] + v[j % 3] - c[i][j % 3]);
            if (s->allow && !s->allow[i * n_k + j]) w[i * n_k + j] = 0.0;
            sum += w[i * n_k + j];
        }
        for (size_t j = 0; j < n_k; j++) w[i * n_k + j] /= sum > 0.0 ? sum : 1.0;
    }
}

static double centroid_loss(void *arg)
{
    const problem *s = (const problem *)arg;
    double w[MOST_Q * MOST_K], loss = 0.0;
    for (size_t h = 0; h < HEADS; h++) {
        centroid_weights(s, h, w);
        for (size_t i = 0; i < s->io.n_q; i++) loss += mixed(s, h, i, w + i * s->io.n_k);
    }
    return loss;
}

static void test_centroid_golden(void)
{
    static problem s;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_attn_centroid); row++) {
        const size_t n_q = (size_t)rv_golden_attn_centroid[row].n_q;
        const int balanced = rv_golden_attn_centroid[row].balanced;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        open_centroid(&s, n_q, 10, 1);
        s.centroid.epsilon = (float)rv_golden_attn_centroid[row].epsilon;
        s.centroid.sinkhorn = (uint32_t)rv_golden_attn_centroid[row].steps;
        if (!balanced && n_q > 1) s.centroid.balance = RV_ATTN_SEMI_RELAXED;
        RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
        CHECK_ALL(s.weights, rv_golden_attn_centroid[row].weights, HEADS * n_q * 10, 2e-6);
        CHECK_ALL(s.out, rv_golden_attn_centroid[row].out, HEADS * n_q * WIDE, 2e-6);
        RV_OKAY(&ctx, rv_attn_centroid_backward(&ctx, &s.centroid, &s.io, &s.grad));
        CHECK_ALL(s.d_q, rv_golden_attn_centroid[row].d_q, HEADS * n_q * 3, 1e-5);
        CHECK_ALL(s.d_k, rv_golden_attn_centroid[row].d_k, 30, 1e-5);
        CHECK_ALL(s.d_v, rv_golden_attn_centroid[row].d_v, 20, 2e-6);
    }
}

static void test_centroid_slopes(void)
{
    static problem s;
    static const uint8_t allow[4 * 11] = {1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1,
                                          1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1,
                                          0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1};
    rv_attn_mask mask;
    rv_ctx ctx;
    if (RV_TEST_SCALE > 16) return;
    rv_test_ctx(&ctx);
    memset(&mask, 0, sizeof mask);
    mask.allow = allow; /* row 3 sees nothing */
    for (size_t row = 0; row < 2; row++) {
        rv_test_row("row", row);
        open_centroid(&s, 4, 11, 2);
        s.centroid.epsilon = 3.0f;
        s.centroid.sinkhorn = row ? 0 : 7;
        s.centroid.balance = row ? RV_ATTN_SEMI_RELAXED : RV_ATTN_BALANCED;
        if (row) {
            s.io.mask = &mask;
            s.allow = allow;
        }
        RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
        RV_OKAY(&ctx, rv_attn_centroid_backward(&ctx, &s.centroid, &s.io, &s.grad));
        check_slopes(centroid_loss, &s, s.q, s.d_q, 24, 1.0 / 256.0, 2e-5);
        check_slopes(centroid_loss, &s, s.k, s.d_k, 66, 1.0 / 256.0, 2e-5);
        check_slopes(centroid_loss, &s, s.v, s.d_v, 44, 1.0 / 16.0, 1e-5);
    }
}

/* Sums of rows and columns; a cluster per key is a softmax; equal keys, one key, far queries,
   halves, other lanes. */
static void test_centroid_laws(void)
{
    static problem s, t;
    static uint16_t k16[MOST_K * HEADS * DIM], v16[MOST_K * HEADS * WIDE];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    open_problem(&s, 5, 12, 4, 2);
    s.centroid.epsilon = 1.0f;
    s.centroid.sinkhorn = 300;
    s.centroid.clusters = 4;
    for (size_t e = 0; e < 12 * 2 * WIDE; e++) s.v[e] = 1.0f;
    RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
    check_sums(&s, 1e-6);
    for (size_t h = 0; h < HEADS; h++) { /* every key gets as much */
        for (size_t j = 0; j < 12; j++) {
            double sum = 0.0;
            for (size_t i = 0; i < 5; i++) sum += (double)s.weights[(h * 5 + i) * 12 + j];
            RV_NEAR(sum, 5.0 / 12.0, 1e-5);
        }
    }
    for (size_t e = 0; e < 5 * HEADS * WIDE; e++) RV_NEAR(s.out[e], 1.0, 1e-6);
    open_problem(&s, 3, 9, 4, 2); /* as many clusters as keys */
    s.centroid.balance = RV_ATTN_SEMI_RELAXED;
    s.centroid.clusters = 50;
    s.centroid.epsilon = 2.0f;
    RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
    for (size_t r = 0; r < HEADS * 3; r++) {
        double w[9], sum = 0.0;
        for (size_t j = 0; j < 9; j++) {
            const size_t h = r / 3, i = r % 3;
            w[j] = 0.0;
            for (size_t x = 0; x < 4; x++)
                w[j] += pow((double)s.q[(i * HEADS + h) * 4 + x] -
                            (double)s.k[(j * HEADS + h) * 4 + x], 2.0);
            w[j] = exp(-w[j] / 2.0);
            sum += w[j];
        }
        for (size_t j = 0; j < 9; j++) RV_NEAR(s.weights[r * 9 + j], w[j] / sum, 2e-6);
    }
    for (size_t e = 0; e < 3 * HEADS * 4; e++) s.q[e] *= 1000.0f; /* logits of -10^6 */
    RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
    check_sums(&s, 1e-6);
    s.centroid.balance = RV_ATTN_BALANCED;
    RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
    check_sums(&s, 1e-6);
    open_problem(&s, 1, 9, 4, 2); /* balanced from one query: W = m, whatever C is */
    s.centroid.balance = RV_ATTN_BALANCED;
    RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
    for (size_t e = 0; e < HEADS * 9; e++) RV_NEAR(s.weights[e], 1.0 / 9.0, 1e-6);
    for (int balance = 1; balance < 3; balance++) {
        open_problem(&s, 3, 9, 4, 2); /* equal keys: one cluster has them all, the others none */
        s.centroid.balance = (rv_attn_balance)balance;
        for (size_t e = 0; e < 9 * HEADS * 4; e++) s.k[e] = s.k[e % 8];
        RV_OKAY(&ctx, rv_attn_centroid(&ctx, &s.centroid, &s.io));
        for (size_t e = 0; e < HEADS * 3 * 9; e++) RV_NEAR(s.weights[e], 1.0 / 9.0, 1e-6);
        RV_OKAY(&ctx, rv_attn_centroid_backward(&ctx, &s.centroid, &s.io, &s.grad));
        for (size_t e = 0; e < HEADS * 3 * 4; e++) RV_NEAR(s.d_q[e], 0.0, 1e-5);
        for (int type = 1; type < 3; type++) {
            rv_ctx many;
            rv_test_ctx(&many);
            many.parallel = backwards;
            open_centroid(&s, 4, 11, 2);
            s.centroid.balance = (rv_attn_balance)balance;
            s.centroid.epsilon = 4.0f;
            for (size_t e = 0; e < 11 * 2 * 3; e++) s.k[e] = (float)((int)(s.k[e] * 16.0f)) / 16.0f;
            for (size_t e = 0; e < 11 * 2 * WIDE; e++)
                s.v[e] = (float)((int)(s.v[e] * 16.0f)) / 16.0f;
            t = s;
            if (type == 1) rv_convert_f32_to_f16(s.k, k16, 11 * 2 * 3);
            else rv_convert_f32_to_bf16(s.k, k16, 11 * 2 * 3);
            if (type == 1) rv_convert_f32_to_f16(s.v, v16, 11 * 2 * WIDE);
            else rv_convert_f32_to_bf16(s.v, v16, 11 * 2 * WIDE);
            s.io.k = k16;
            s.io.v = v16;
            s.io.type = type == 1 ? RV_DTYPE_F16 : RV_DTYPE_BF16;
            RV_OKAY(&many, rv_attn_centroid(&many, &s.centroid, &s.io));
            t.io.out = t.out;
            t.io.weights = t.weights;
            RV_OKAY(&ctx, rv_attn_centroid(&ctx, &t.centroid, &t.io));
            for (size_t e = 0; e < 4 * HEADS * WIDE; e++) RV_NEAR(s.out[e], t.out[e], 1e-6);
            t.grad.d_q = t.d_q;
            t.grad.d_k = t.d_k;
            t.grad.d_v = t.d_v;
            RV_OKAY(&many, rv_attn_centroid_backward(&many, &s.centroid, &s.io, &s.grad));
            RV_OKAY(&ctx, rv_attn_centroid_backward(&ctx, &s.centroid, &s.io, &t.grad));
            RV_CHECK(memcmp(s.d_q, t.d_q, sizeof s.d_q) == 0);
            RV_CHECK(memcmp(s.d_k, t.d_k, sizeof s.d_k) == 0);
        }
    }
}

/* ---- faults ---- */

static void test_errors(void)
{
    static problem s;
    static const float numbers[HEADS] = {0.5f, 0.5f};
    rv_attn_mask mask;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&mask, 0, sizeof mask);
#define SLICED rv_attn_sliced(&ctx, &s.sliced, &s.io)
    open_sliced(&s, 3, 9, 2);
    s.sliced.base.scale = 0.5f;
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "scale is 0.5");
    s.sliced.base.scale = 0;
    s.sliced.points = 4;
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "points is 4");
    s.sliced.points = 2;
    s.sliced.p = 0.5f;
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "p is 0.5");
    s.sliced.p = not_a_number();
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "p is NaN");
    s.sliced.p = 1;
    s.sliced.projections = 70000;
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "projections is 70000");
    s.sliced.projections = 4;
    RV_FAILS(&ctx, rv_attn_sliced(&ctx, &s.sliced, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_sliced_backward(&ctx, &s.sliced, &s.io, NULL), RV_ERR_ARG, "d_out");
    s.io.n_k = 0;
    RV_FAILS(&ctx, SLICED, RV_ERR_DIM, "n_k is 0");
    s.io.n_k = 9;
    s.io.n_q = 0;
    RV_OKAY(&ctx, SLICED);
    s.d_k[3] = 5.0f;
    RV_OKAY(&ctx, rv_attn_sliced_backward(&ctx, &s.sliced, &s.io, &s.grad));
    RV_CHECK(s.d_k[3] == 0.0f);
    s.io.n_q = 2;
    RV_EQUAL(rv_attn_sliced(NULL, &s.sliced, &s.io), RV_OK);
    s.q[0] = not_a_number(); /* one query, one head */
    RV_OKAY(&ctx, SLICED);
#if !defined(__FAST_MATH__)
    RV_CHECK(s.out[0] != s.out[0]);
#endif
    RV_CHECK(s.out[HEADS * WIDE] == s.out[HEADS * WIDE]);
#define CENTROID rv_attn_centroid(&ctx, &s.centroid, &s.io)
    open_centroid(&s, 3, 9, 2);
    s.centroid.balance = (rv_attn_balance)3;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "balance is 3");
    s.centroid.balance = RV_ATTN_BALANCE_AUTO;
    s.centroid.base.scale = 1;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "scale has no meaning");
    s.centroid.base.scale = 0;
    s.centroid.base.temperature = 1;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "temperature has no meaning");
    s.centroid.base.temperature = 0;
    s.centroid.base.order = RV_ATTN_CAUSAL;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "order has no meaning");
    s.centroid.base.order = RV_ATTN_ANY;
    s.centroid.base.past = 1;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "past has no meaning");
    s.centroid.base.past = 0;
    s.io.mask = &mask;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "mask has no meaning");
    s.io.mask = NULL;
    s.centroid.base.windowed = 1;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "windowed");
    s.centroid.base.windowed = 0;
    s.centroid.base.softcap = 1;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "softcap");
    s.centroid.base.softcap = 0;
    s.centroid.base.slopes = numbers;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "slopes");
    s.centroid.base.slopes = NULL;
    s.centroid.base.sinks = numbers;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "sinks");
    s.centroid.base.sinks = NULL;
    s.io.lse = s.d_q;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "lse has no meaning");
    s.io.lse = NULL;
    s.centroid.epsilon = -1;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "epsilon is -1");
    s.centroid.epsilon = 0;
    s.centroid.clusters = 70000;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "clusters is 70000");
    s.centroid.clusters = 0;
    s.centroid.iterations = 70000;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "iterations is 70000");
    s.centroid.iterations = 0;
    s.centroid.sinkhorn = 70000;
    RV_FAILS(&ctx, CENTROID, RV_ERR_CONFIG, "sinkhorn is 70000");
    s.centroid.sinkhorn = 0;
    s.q[7] = infinite();
    RV_FAILS(&ctx, CENTROID, RV_ERR_ARG, "query 1 of head 0 is not finite");
    s.q[7] = 0;
    s.k[4] = not_a_number();
    RV_FAILS(&ctx, CENTROID, RV_ERR_ARG, "key 0 of head 1 is not finite");
    s.k[4] = 0;
    RV_FAILS(&ctx, rv_attn_centroid(&ctx, NULL, NULL), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_attn_centroid_backward(&ctx, NULL, &s.io, NULL), RV_ERR_ARG, "d_out");
    s.io.n_q = 0;
    RV_OKAY(&ctx, CENTROID);
    s.d_k[3] = 5.0f;
    RV_OKAY(&ctx, rv_attn_centroid_backward(&ctx, &s.centroid, &s.io, &s.grad));
    RV_CHECK(s.d_k[3] == 0.0f);
    s.io.n_q = 2;
    RV_EQUAL(rv_attn_centroid(NULL, &s.centroid, &s.io), RV_OK);
#undef SLICED
#undef CENTROID
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    problem *s = (problem *)arg;
    rv_status status = rv_attn_sliced(ctx, &s->sliced, &s->io);
    if (!status) status = rv_attn_sliced_backward(ctx, &s->sliced, &s->io, &s->grad);
    for (int balance = 1; balance < 3 && !status; balance++) {
        s->centroid.balance = (rv_attn_balance)balance;
        status = rv_attn_centroid(ctx, &s->centroid, &s->io);
        if (!status) status = rv_attn_centroid_backward(ctx, &s->centroid, &s->io, &s->grad);
    }
    return status;
}

static void test_faults(void)
{
    static problem s;
    open_problem(&s, 5, MOST_K, DIM, 2);
    s.sliced.candidates = 9;
    s.sliced.points = 2;
    RV_CHECK(rv_test_oom_sweep(sweep, &s) > 30);
    RV_CHECK(rv_test_cancel_sweep(sweep, &s) > 20);
}

int main(void)
{
    rv_test_begin("attn_transport");
    RV_RUN(test_sliced_golden);
    RV_RUN(test_sliced_slopes);
    RV_RUN(test_sliced_laws);
    RV_RUN(test_centroid_golden);
    RV_RUN(test_centroid_slopes);
    RV_RUN(test_centroid_laws);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
