/* Losses and their gradients: torch, closed forms, slopes, faults. */
#include "grid_set.h"

#include "golden/loss.h"

/* ---- InfoNCE ---- */

static void test_infonce_golden(void)
{
    enum { DIM = 5 };
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_infonce); row++) {
        const size_t n_pos = (size_t)rv_golden_infonce[row].n_pos;
        const size_t n_neg = (size_t)rv_golden_infonce[row].n_neg;
        const double tau = rv_golden_infonce[row].tau, want = rv_golden_infonce[row].loss;
        float a[DIM], p[3 * DIM], n[5 * DIM], d[9 * DIM];
        rv_infonce_config config;
        rv_infonce_io io;
        double loss = -1, same = -2;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        memset(&config, 0, sizeof config);
        memset(&io, 0, sizeof io);
        config.temperature = (float)tau;
        config.form = (rv_infonce_form)rv_golden_infonce[row].form;
        io.anchor = grid(1, a, DIM);
        io.positives = grid(2, p, n_pos * DIM);
        io.negatives = n_neg ? grid(3, n, n_neg * DIM) : NULL;
        io.dim = DIM;
        io.n_positives = n_pos;
        io.n_negatives = n_neg;
        RV_OKAY(&ctx, rv_loss_infonce(&ctx, &config, &io, &same)); /* no gradient wanted */
        io.d_anchor = d;
        io.d_positives = d + DIM;
        io.d_negatives = d + DIM + n_pos * DIM;
        RV_OKAY(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss));
        RV_NEAR(loss, want, (8 * U / tau + 8 * U) * (1 + fabs(want)));
        RV_CHECK(loss == same);
        /* SUPCON: differences of shares, which are up to 100 times as large, each off by 2 ulp */
        CHECK_ALL(d, rv_golden_infonce[row].grad, (1 + n_pos + n_neg) * DIM,
                  8 * U / tau + (config.form == RV_INFONCE_SUPCON ? 200 * U : 16 * U));
    }
}

typedef struct infonce_case {
    rv_infonce_config config;
    rv_infonce_io io;
    rv_ctx ctx;
} infonce_case;

static double infonce_loss(void *arg)
{
    infonce_case *c = (infonce_case *)arg;
    rv_infonce_io io = c->io;
    double loss = 0;
    io.d_anchor = io.d_positives = io.d_negatives = NULL;
    RV_OKAY(&c->ctx, rv_loss_infonce(&c->ctx, &c->config, &io, &loss));
    return loss;
}

static void test_infonce_slopes(void)
{
    static const size_t dims[] = {1, 2, 3, 17, 64};
    float x[64 * 6], d[64 * 6];
    rv_test_rng rng;
    infonce_case c;
    rv_test_seed(&rng, 3);
    for (size_t t = 0; t < RV_COUNT_OF(dims) * 3; t++) {
        const size_t dim = dims[t / 3];
        double loss;
        rv_test_row("case", t);
        memset(&c, 0, sizeof c);
        rv_test_ctx(&c.ctx);
        c.config.form = (rv_infonce_form)(t % 3);
        c.config.temperature = 0.5f;
        rv_test_fill(&rng, x, 6 * dim);
        for (size_t i = 0; i < 6; i++) x[i * dim] += x[i * dim] > 0 ? 1.0f : -1.0f; /* not short */
        c.io.anchor = x;
        c.io.positives = x + dim;
        c.io.negatives = x + 3 * dim;
        c.io.dim = dim;
        c.io.n_positives = 2;
        c.io.n_negatives = 3;
        c.io.d_anchor = d;
        c.io.d_positives = d + dim;
        c.io.d_negatives = d + 3 * dim;
        RV_OKAY(&c.ctx, rv_loss_infonce(&c.ctx, &c.config, &c.io, &loss));
        check_slopes(infonce_loss, &c, x, d, 6 * dim, 1.0 / 64, 2e-4);
    }
}

/* Identical items give ln(1 + n); no negatives 0; a zero anchor ln(1 + n) and no gradient; lengths
   at the ends of the range of floats; scores far apart. */
static void test_infonce_identities(void)
{
    enum { DIM = 8, MOST = 100 };
    float a[DIM], items[(MOST + 1) * DIM], d[DIM], d_items[(MOST + 1) * DIM];
    rv_infonce_config config;
    rv_infonce_io io;
    double loss;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&io, 0, sizeof io);
    memset(&config, 0, sizeof config);
    grid(1, a, DIM);
    for (size_t i = 0; i <= MOST; i++) grid(2, items + i * DIM, DIM);
    io.anchor = a;
    io.positives = items;
    io.negatives = items + DIM;
    io.dim = DIM;
    io.n_positives = 1;
    for (size_t n = 0; n <= MOST; n += 25) {
        io.n_negatives = n;
        RV_OKAY(&ctx, rv_loss_infonce(&ctx, NULL, &io, &loss));
        RV_NEAR(loss, log(1.0 + (double)n), n ? 4 * U * log(1.0 + (double)n) : 0.0);
    }
    memset(a, 0, sizeof a);
    grid(3, items, DIM);
    io.d_anchor = d;
    io.d_positives = d_items;
    io.d_negatives = d_items + DIM;
    RV_OKAY(&ctx, rv_loss_infonce(&ctx, NULL, &io, &loss));
    RV_NEAR(loss, log(101.0), 4 * U * log(101.0));
    for (size_t i = 0; i < DIM; i++) RV_CHECK(d[i] == 0.0f && d_items[i] == 0.0f);
    /* cosines do not change with lengths, gradients by one over them */
    grid(1, a, DIM);
    io.n_negatives = 3;
    config.temperature = 0.25f;
    grid(4, items + DIM, 3 * DIM);
    RV_OKAY(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss));
    for (int power = -20; power <= 120; power += 140) {
        float big[DIM], d_big[DIM];
        double other;
        for (size_t i = 0; i < DIM; i++) big[i] = ldexpf(a[i], power);
        io.anchor = big;
        io.d_anchor = d_big;
        RV_OKAY(&ctx, rv_loss_infonce(&ctx, &config, &io, &other));
        RV_NEAR(other, loss, 1e-6);
        for (size_t i = 0; i < DIM; i++) RV_NEAR(ldexp((double)d_big[i], power), d[i], 1e-5);
        io.d_anchor = d;
    }
    /* opposite positive at temperature 1/1024: 2048 apart */
    io.anchor = a;
    for (size_t i = 0; i < DIM; i++) items[i] = -a[i];
    memcpy(items + DIM, a, sizeof a);
    io.n_negatives = 1;
    config.temperature = 1.0f / 1024;
    for (int form = 0; form < 3; form++) {
        config.form = (rv_infonce_form)form;
        RV_OKAY(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss));
        RV_NEAR(loss, 2048.0, 2048 * 8 * U);
    }
}

static void test_infonce_batch(void)
{
    enum { N = 6, DIM = 5 };
    float a[N * DIM], p[N * DIM], d[2 * N * DIM];
    rv_infonce_config config;
    double loss = 0, same = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.temperature = 0.125f;
    grid(4, a, N * DIM);
    grid(5, p, N * DIM);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_infonce_batch); row++) {
        rv_test_row("golden", row);
        config.symmetric = rv_golden_infonce_batch[row].symmetric;
        RV_OKAY(&ctx, rv_loss_infonce_batch(&ctx, &config, a, p, N, DIM, &loss, d, d + N * DIM));
        RV_NEAR(loss, rv_golden_infonce_batch[row].loss, 1e-5);
        CHECK_ALL(d, rv_golden_infonce_batch[row].grad, 2 * N * DIM, 2e-5);
        RV_OKAY(&ctx, rv_loss_infonce_batch(&ctx, &config, a, p, N, DIM, &same, NULL, NULL));
        RV_CHECK(loss == same);
    }
    rv_test_row(NULL, 0);
    RV_OKAY(&ctx, rv_loss_infonce_batch(&ctx, NULL, a, p, 1, DIM, &loss, d, NULL));
    RV_NEAR(loss, 0, 0);
    for (size_t i = 0; i < DIM; i++) RV_NEAR(d[i], 0, 0);
}

/* A batch beyond one block of rows is the mean of single anchors. */
static void test_infonce_batch_single(void)
{
    const size_t rows = 150, dim = 20;
    float *x = (float *)malloc(5 * rows * dim * sizeof(float)), *p = x + rows * dim;
    float *d = p + rows * dim, *others = d + 2 * rows * dim, d_a[20];
    rv_infonce_config config;
    double loss = 0, mean = 0;
    rv_test_rng rng;
    rv_ctx ctx;
    if (!x) exit(2);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 4);
    memset(&config, 0, sizeof config);
    config.temperature = 0.25f;
    rv_test_fill(&rng, x, 2 * rows * dim);
    RV_OKAY(&ctx, rv_loss_infonce_batch(&ctx, &config, x, p, rows, dim, &loss, d, d + rows * dim));
    for (size_t i = 0; i < rows; i++) {
        rv_infonce_io io;
        double one;
        memset(&io, 0, sizeof io);
        for (size_t j = 0, at = 0; j < rows; j++) {
            if (j != i) memcpy(others + at++ * dim, p + j * dim, dim * sizeof(float));
        }
        io.anchor = x + i * dim;
        io.positives = p + i * dim;
        io.negatives = others;
        io.dim = dim;
        io.n_positives = 1;
        io.n_negatives = rows - 1;
        io.d_anchor = d_a;
        RV_OKAY(&ctx, rv_loss_infonce(&ctx, &config, &io, &one));
        mean += one / 150;
        for (size_t j = 0; j < dim; j++) RV_NEAR(d[i * dim + j] * 150, d_a[j], 2e-5);
    }
    RV_NEAR(loss, mean, 2e-6);
    free(x);
}

/* ---- graph ---- */

static void test_local(void)
{
    enum { N = 6, DIM = 3 };
    /* 0-1 0-2 2-3 2-4, 5 alone; a self-loop and a duplicate at 1 that must not count */
    static const uint32_t start[] = {0, 2, 5, 8, 9, 10, 10}, to[] = {1, 2, 1, 0, 0, 0, 3, 4, 2, 2};
    float x[N * DIM], d[N * DIM];
    rv_infonce_config config;
    double loss = 0, other = 0;
    uint32_t none[N + 1] = {0};
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.temperature = 0.25f;
    grid(6, x, N * DIM);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_local); row++) {
        rv_test_row("golden", row);
        config.form = (rv_infonce_form)rv_golden_local[row].form;
        RV_OKAY(&ctx, rv_loss_local(&ctx, &config, x, N, DIM, start, to, &loss, d));
        RV_NEAR(loss, rv_golden_local[row].loss, 4e-6);
        CHECK_ALL(d, rv_golden_local[row].grad, N * DIM, 1e-5);
    }
    rv_test_row(NULL, 0);
    config.negatives = 100; /* more than there are: all of them */
    RV_OKAY(&ctx, rv_loss_local(&ctx, &config, x, N, DIM, start, to, &other, NULL));
    RV_CHECK(other == loss);
    config.negatives = 1; /* drawn by the seed */
    ctx.seed = 5;
    RV_OKAY(&ctx, rv_loss_local(&ctx, &config, x, N, DIM, start, to, &other, NULL));
    RV_CHECK(other < loss);
    RV_OKAY(&ctx, rv_loss_local(&ctx, &config, x, N, DIM, start, to, &loss, NULL));
    RV_CHECK(other == loss);
    ctx.seed = 7;
    RV_OKAY(&ctx, rv_loss_local(&ctx, &config, x, N, DIM, start, to, &loss, NULL));
    RV_CHECK(other != loss);
    RV_OKAY(&ctx, rv_loss_local(&ctx, &config, x, N, DIM, none, NULL, &loss, d));
    RV_NEAR(loss, 0, 0);
    for (size_t i = 0; i < N * DIM; i++) RV_NEAR(d[i], 0, 0);
}

static void test_laplacian(void)
{
    static const uint32_t from[] = {0, 1, 0, 3, 3}, to[] = {1, 2, 2, 1, 3};
    static const float weight[] = {1.0f, 0.5f, 2.0f, 0.25f, 4.0f};
    float x[15], d[15];
    double loss = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(1, x, 15);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_laplacian); row++) {
        rv_test_row("golden", row);
        RV_OKAY(&ctx, rv_loss_laplacian(&ctx, x, 5, 3, from, to, weight, 5,
                                        rv_golden_laplacian[row].normalized, &loss, d));
        RV_NEAR(loss, rv_golden_laplacian[row].loss, 1e-14 * loss);
        CHECK_ALL(d, rv_golden_laplacian[row].grad, 15, U);
    }
    rv_test_row(NULL, 0);
    for (size_t i = 0; i < 15; i++) x[i] = (float)(i % 3) + 0.5f; /* constant rows */
    RV_OKAY(&ctx, rv_loss_laplacian(&ctx, x, 5, 3, from, to, NULL, 5, 0, &loss, d));
    RV_NEAR(loss, 0, 0);
    for (size_t i = 0; i < 15; i++) RV_NEAR(d[i], 0, 0);
    RV_OKAY(&ctx, rv_loss_laplacian(&ctx, x, 5, 3, NULL, NULL, NULL, 0, 1, &loss, d));
    RV_NEAR(loss, 0, 0);
    x[3] += 2; /* row 1 moves by 2 in one of three edges of weight 1, 1, 1 */
    RV_OKAY(&ctx, rv_loss_laplacian(&ctx, x, 5, 3, from, to, NULL, 5, 0, &loss, NULL));
    RV_NEAR(loss, 3 * 4.0, 0);
}

/* ---- triplets ---- */

static double triplet_loss(void *arg)
{
    rv_triplet_io io = *(rv_triplet_io *)arg;
    double loss = 0;
    io.d_anchors = io.d_positives = io.d_negatives = NULL;
    RV_EQUAL(rv_loss_triplet(NULL, 1.0f, &io, &loss), RV_OK);
    return loss;
}

static void test_triplet(void)
{
    float a[20], p[20], n[20], d[60];
    rv_triplet_io io;
    double loss = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    io.anchors = grid(7, a, 20);
    io.positives = grid(8, p, 20);
    io.negatives = grid(9, n, 20);
    io.n = 4;
    io.dim = 5;
    io.d_anchors = d;
    io.d_positives = d + 20;
    io.d_negatives = d + 40;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_triplet); row++) {
        rv_test_row("golden", row);
        RV_OKAY(&ctx, rv_loss_triplet(&ctx, (float)rv_golden_triplet[row].margin, &io, &loss));
        RV_NEAR(loss, rv_golden_triplet[row].loss, 1e-14 * (1 + loss));
        CHECK_ALL(d, rv_golden_triplet[row].grad, 60, U);
    }
    rv_test_row(NULL, 0);
    RV_OKAY(&ctx, rv_loss_triplet(&ctx, 1.0f, &io, &loss));
    check_slopes(triplet_loss, &io, a, d, 20, 1.0 / 256, 1e-4);
    check_slopes(triplet_loss, &io, p, d + 20, 20, 1.0 / 256, 1e-4);
    check_slopes(triplet_loss, &io, n, d + 40, 20, 1.0 / 256, 1e-4);
    /* positive = negative and margin 0 is at the hinge: no gradient; margin alone remains */
    io.negatives = p;
    RV_OKAY(&ctx, rv_loss_triplet(&ctx, 0.0f, &io, &loss));
    RV_NEAR(loss, 0, 0);
    for (size_t i = 0; i < 60; i++) RV_NEAR(d[i], 0, 0);
    RV_OKAY(&ctx, rv_loss_triplet(&ctx, 0.5f, &io, &loss));
    RV_NEAR(loss, 0.5, 0);
    io.n = 0;
    RV_OKAY(&ctx, rv_loss_triplet(&ctx, 0.5f, &io, &loss));
    RV_NEAR(loss, 0, 0);
}

/* ---- shapes ---- */

static void test_orthogonal(void)
{
    float x[12], d[12];
    double loss = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(2, x, 12);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_orthogonal); row++) {
        rv_test_row("golden", row);
        RV_OKAY(&ctx, rv_loss_orthogonal(&ctx, x, 4, 3, rv_golden_orthogonal[row].rows,
                                         (float)rv_golden_orthogonal[row].divisor, &loss, d));
        RV_NEAR(loss, rv_golden_orthogonal[row].loss, 1e-6 * (1 + loss));
        CHECK_ALL(d, rv_golden_orthogonal[row].grad, 12, 16 * U);
    }
    rv_test_row(NULL, 0);
    /* columns of a Hadamard matrix: X^T X / 4 = I; rows of a permutation: X X^T = I */
    for (size_t i = 0; i < 12; i++) {
        size_t r = i / 3, c = i % 3 + 1, bits = r & c;
        x[i] = (bits == 1 || bits == 2) ? -1.0f : 1.0f;
    }
    RV_OKAY(&ctx, rv_loss_orthogonal(&ctx, x, 4, 3, 0, 0, &loss, d));
    RV_NEAR(loss, 0, 0);
    for (size_t i = 0; i < 12; i++) RV_NEAR(d[i], 0, 0);
    memset(x, 0, sizeof x);
    x[1] = x[6] = x[8] = 1.0f; /* rows e1, e2, e0 */
    RV_OKAY(&ctx, rv_loss_orthogonal(&ctx, x, 3, 4, 1, 0, &loss, NULL));
    RV_NEAR(loss, 0, 0);
    x[8] = 0.0f; /* a row of zeros misses its 1 */
    RV_OKAY(&ctx, rv_loss_orthogonal(&ctx, x, 3, 4, 1, 0, &loss, NULL));
    RV_NEAR(loss, 1, 0);
    x[0] = 3e38f;
    RV_FAILS(&ctx, rv_loss_orthogonal(&ctx, x, 3, 4, 1, 0, &loss, NULL), RV_ERR_ARG, "too large");
}

static void test_lengths(void)
{
    float x[12], d[12];
    double loss = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(3, x, 12);
    RV_OKAY(&ctx, rv_loss_norm(&ctx, x, 4, 3, 1.0f, &loss, d));
    RV_NEAR(loss, rv_golden_shape[0].loss, 1e-6);
    CHECK_ALL(d, rv_golden_shape[0].grad, 12, 8 * U);
    memset(x, 0, sizeof x);
    x[3] = -5.0f; /* rows of lengths 0, 5, 0, 0 */
    RV_OKAY(&ctx, rv_loss_norm(&ctx, x, 4, 3, 2.0f, &loss, d));
    RV_NEAR(loss, (4.0 * 3 + 9.0) / 4, 0);
    for (size_t i = 0; i < 12; i++) RV_NEAR(d[i], i == 3 ? -1.5 : 0.0, 0);
    x[3] = 3e38f; /* squares beyond a float */
    RV_OKAY(&ctx, rv_loss_norm(&ctx, x, 1, 6, 0.0f, &loss, NULL));
    RV_NEAR(loss / 9e76, 1.0, 1e-6);
    RV_OKAY(&ctx, rv_loss_norm(&ctx, NULL, 0, 3, 0.0f, &loss, NULL));
    RV_NEAR(loss, 0, 0);
}

static void test_spectral(void)
{
    float w[24], d[24], u[6] = {0}, warm[6];
    double sigma = 0, last = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(4, w, 24);
    for (uint32_t iterations = 1; iterations <= 64; iterations *= 2) { /* grows from below */
        RV_OKAY(&ctx, rv_loss_spectral(&ctx, w, 6, 4, iterations, NULL, &sigma, NULL));
        RV_CHECK(sigma >= last * (1 - 1e-15) && sigma <= rv_golden_shape[0].sigma * (1 + 1e-14));
        last = sigma;
    }
    RV_OKAY(&ctx, rv_loss_spectral(&ctx, w, 6, 4, 500, u, &sigma, d));
    RV_NEAR(sigma, rv_golden_shape[0].sigma, 1e-13 * sigma);
    CHECK_ALL(d, rv_golden_shape[0].d_w, 24, 4 * U);
    memcpy(warm, u, sizeof u); /* one iteration from there is enough */
    RV_OKAY(&ctx, rv_loss_spectral(&ctx, w, 6, 4, 1, warm, &sigma, NULL));
    RV_NEAR(sigma, rv_golden_shape[0].sigma, 1e-12 * sigma);
    for (size_t i = 0; i < 6; i++) RV_NEAR(warm[i], u[i], 1e-6);
    memset(w, 0, sizeof w);
    RV_OKAY(&ctx, rv_loss_spectral(&ctx, w, 6, 4, 10, NULL, &sigma, d));
    RV_NEAR(sigma, 0, 0);
    for (size_t i = 0; i < 24; i++) RV_NEAR(d[i], 0, 0);
    w[9] = -7.0f; /* row 2 alone, and u across it */
    memset(u, 0, sizeof u);
    u[0] = 1.0f;
    RV_OKAY(&ctx, rv_loss_spectral(&ctx, w, 6, 4, 1, u, &sigma, d));
    RV_NEAR(sigma, 7, 0);
    RV_NEAR(d[9], -1, 0);
    RV_FAILS(&ctx, rv_loss_spectral(&ctx, w, 6, 4, 0, u, &sigma, d), RV_ERR_ARG, "iterations is 0");
    RV_FAILS(&ctx, rv_loss_spectral(&ctx, w, 0, 4, 1, u, &sigma, d), RV_ERR_ARG, "m is 0");
}

/* ---- elements and distributions ---- */

static void test_elements(void)
{
    static const uint32_t label[] = {4, 0, 2, 2};
    float x[20], y[10], d[20], *wide;
    double loss = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    grid(1, x, 10);
    grid(2, y, 10);
    RV_OKAY(&ctx, rv_loss_mse(&ctx, x, y, 10, &loss, d, d + 10));
    RV_NEAR(loss, rv_golden_mse[0].mse, 1e-15 * loss);
    CHECK_ALL(d, rv_golden_mse[0].grad, 20, U);
    RV_OKAY(&ctx, rv_loss_mse(&ctx, NULL, NULL, 0, &loss, NULL, NULL));
    RV_NEAR(loss, 0, 0);
    grid(3, x, 20);
    for (size_t i = 0; i < 20; i++) x[i] *= 3;
    RV_OKAY(&ctx, rv_loss_cross_entropy(&ctx, x, label, 4, 5, &loss, d));
    RV_NEAR(loss, rv_golden_mse[0].entropy, 4 * U * loss);
    CHECK_ALL(d, rv_golden_mse[0].d_logits, 20, 8 * U);
    /* equal logits of more classes than a chunk: ln of their number; far apart: the distance */
    wide = (float *)calloc(300, sizeof(float));
    if (!wide) exit(2);
    wide[149] = 1.0f;
    RV_OKAY(&ctx, rv_loss_cross_entropy(&ctx, wide, label, 1, 150, &loss, wide + 150));
    RV_NEAR(loss, log(149 + exp(1.0)), 8 * U * 5);
    RV_NEAR(wide[150], 1 / (149 + exp(1.0)), 1e-8);
    RV_NEAR(wide[154], 1 / (149 + exp(1.0)) - 1, 1e-7);
    RV_NEAR(wide[299], exp(1.0) / (149 + exp(1.0)), 1e-8);
    wide[149] = 3e38f;
    wide[4] = -3e38f;
    RV_OKAY(&ctx, rv_loss_cross_entropy(&ctx, wide, label, 1, 150, &loss, wide + 150));
    RV_NEAR(loss / 6e38, 1, 1e-6);
    RV_NEAR(wide[154], -1, 0);
    RV_NEAR(wide[299], 1, 0);
    free(wide);
}

static void test_divergences(void)
{
    static const float p64[8] = {10, 20, 1, 33, 16, 0, 16, 32},
                       q64[8] = {16, 16, 16, 16, 1, 30, 3, 30};
    float p[8], q[8], d[16];
    double loss = 0, back = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < 8; i++) {
        p[i] = p64[i] / 64;
        q[i] = q64[i] / 64;
    }
    RV_OKAY(&ctx, rv_loss_kl(&ctx, p, q, 2, 4, &loss, d, d + 8));
    RV_NEAR(loss, rv_golden_kl[0].kl, 1e-14);
    CHECK_ALL(d, rv_golden_kl[0].d_kl, 16, U);
    RV_OKAY(&ctx, rv_loss_js(&ctx, p, q, 2, 4, &loss, d, d + 8));
    RV_NEAR(loss, rv_golden_kl[0].js, 1e-14);
    CHECK_ALL(d, rv_golden_kl[0].d_js, 16, 2 * U);
    RV_OKAY(&ctx, rv_loss_js(&ctx, q, p, 2, 4, &back, NULL, NULL));
    RV_NEAR(loss, back, 1e-15); /* symmetric */
    RV_OKAY(&ctx, rv_loss_kl(&ctx, p, p, 2, 4, &loss, NULL, NULL));
    RV_NEAR(loss, 0, 0);
    RV_OKAY(&ctx, rv_loss_js(&ctx, p, p, 2, 4, &loss, NULL, NULL));
    RV_NEAR(loss, 0, 0);
    p[0] = q[1] = 1; /* apart: ln 2 */
    p[1] = q[0] = 0;
    RV_OKAY(&ctx, rv_loss_js(&ctx, p, q, 1, 2, &loss, d, NULL));
    RV_NEAR(loss, log(2.0), 1e-15);
    RV_NEAR(d[1], 0, 0);
    RV_FAILS(&ctx, rv_loss_kl(&ctx, p, q, 1, 2, &loss, NULL, NULL), RV_ERR_ARG, "infinite");
    p[0] = 0.5f;
    RV_FAILS(&ctx, rv_loss_kl(&ctx, q, p, 1, 2, &loss, NULL, NULL), RV_ERR_ARG, "sums to 0.5");
    q[0] = -1;
    RV_FAILS(&ctx, rv_loss_js(&ctx, q, p, 1, 2, &loss, NULL, NULL), RV_ERR_ARG, "p[0] is -1");
    RV_OKAY(&ctx, rv_loss_kl(&ctx, NULL, NULL, 0, 2, &loss, NULL, NULL));
    RV_NEAR(loss, 0, 0);
}

static void test_gaussian(void)
{
    float m1[12], l1[12], m2[12], l2[12], d[48];
    rv_gaussian_io io;
    double loss = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_gaussian); row++) {
        const int given = rv_golden_gaussian[row].given;
        rv_test_row("golden", row);
        memset(&io, 0, sizeof io);
        io.mean1 = grid(4, m1, 12);
        io.logvar1 = grid(5, l1, 12);
        io.n = 3;
        io.dim = 4;
        io.d_mean1 = d;
        io.d_logvar1 = d + 12;
        if (given) {
            io.mean2 = grid(6, m2, 12);
            io.logvar2 = grid(7, l2, 12);
            io.d_mean2 = d + 24;
            io.d_logvar2 = d + 36;
        }
        RV_OKAY(&ctx, rv_loss_gaussian_kl(&ctx, &io, &loss));
        RV_NEAR(loss, rv_golden_gaussian[row].loss, 1e-13);
        CHECK_ALL(d, rv_golden_gaussian[row].grad, given ? 48 : 24, U);
    }
    rv_test_row(NULL, 0);
    l1[0] = 25.0f; /* clamped to 20, without gradient */
    l1[1] = -25.0f;
    m1[0] = m1[1] = 0;
    memset(&io, 0, sizeof io);
    io.mean1 = m1;
    io.logvar1 = l1;
    io.n = 1;
    io.dim = 2;
    io.d_logvar1 = d;
    RV_OKAY(&ctx, rv_loss_gaussian_kl(&ctx, &io, &loss));
    RV_NEAR(loss, 0.5 * (exp(20.0) - 21) + 0.5 * (exp(-20.0) + 19), 1e-6);
    RV_CHECK(d[0] == 0 && d[1] == 0);
    io.mean2 = m2;
    RV_FAILS(&ctx, rv_loss_gaussian_kl(&ctx, &io, &loss), RV_ERR_ARG, "only one of");
    io.mean2 = NULL;
    io.d_mean2 = d;
    RV_FAILS(&ctx, rv_loss_gaussian_kl(&ctx, &io, &loss), RV_ERR_ARG, "no mean2");
    RV_FAILS(&ctx, rv_loss_gaussian_kl(&ctx, NULL, &loss), RV_ERR_ARG, "io or loss");
}

/* ---- several losses ---- */

static void test_several(void)
{
    static const double losses[] = {0.5, 2.0, 8.0}, lengths[] = {2.0, 0.25, 4.0},
                        initial[] = {1.0, 2.0, 32.0}, negative[] = {-1.0, 1.0, 1.0};
    float log_sigma[3], d[3], weight[3] = {1, 2, 4};
    double total = 0, factor[3];
    rv_gradnorm_io io;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_loss_weighted(&ctx, losses, weight, 3, &total));
    RV_NEAR(total, 0.5 + 4 + 32, 0);
    grid(1, log_sigma, 3);
    RV_OKAY(&ctx, rv_loss_uncertain(&ctx, losses, log_sigma, 3, &total, factor, d));
    RV_NEAR(total, rv_golden_uncertain[0].total, 1e-13 * total);
    for (size_t i = 0; i < 3; i++) RV_NEAR(factor[i] / rv_golden_uncertain[0].factor[i], 1, 1e-14);
    CHECK_ALL(d, rv_golden_uncertain[0].grad, 3, U);
    io.losses = losses;
    io.initial = initial;
    io.lengths = lengths;
    io.n = 3;
    io.weight = weight;
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_gradnorm); row++) {
        weight[0] = 1;
        weight[1] = 0.5f;
        weight[2] = 1.5f;
        rv_test_row("golden", row);
        RV_OKAY(&ctx, rv_loss_gradnorm(&ctx, (float)rv_golden_gradnorm[row].alpha, 0.0625f, &io,
                                       &total));
        RV_NEAR(total, rv_golden_gradnorm[row].objective, 1e-12);
        CHECK_ALL(weight, rv_golden_gradnorm[row].weight, 3, 2 * U);
    }
    rv_test_row(NULL, 0);
    RV_OKAY(&ctx, rv_loss_gradnorm(&ctx, 1.5f, 100.0f, &io, NULL)); /* a step too far */
    RV_NEAR(weight[0] + weight[1] + weight[2], 3, 8 * U);
    for (size_t i = 0; i < 3; i++) RV_CHECK(weight[i] > 0);
    RV_FAILS(&ctx, rv_loss_gradnorm(&ctx, -1, 0.1f, &io, NULL), RV_ERR_ARG, "alpha is -1");
    RV_FAILS(&ctx, rv_loss_gradnorm(&ctx, 1, -1, &io, NULL), RV_ERR_ARG, "lr is -1");
    io.losses = negative;
    RV_FAILS(&ctx, rv_loss_gradnorm(&ctx, 1, 1, &io, NULL), RV_ERR_ARG, "losses[0] is -1");
    io.losses = losses;
    weight[1] = 0;
    RV_FAILS(&ctx, rv_loss_gradnorm(&ctx, 1, 1, &io, NULL), RV_ERR_ARG, "weight[1] is 0");
    io.n = 0;
    RV_FAILS(&ctx, rv_loss_gradnorm(&ctx, 1, 1, &io, NULL), RV_ERR_ARG, "n is 0");
    weight[1] = -1;
    RV_FAILS(&ctx, rv_loss_weighted(&ctx, losses, weight, 3, &total), RV_ERR_ARG,
             "weight[1] is -1");
    log_sigma[2] = 41;
    RV_FAILS(&ctx, rv_loss_uncertain(&ctx, losses, log_sigma, 3, &total, NULL, NULL), RV_ERR_ARG,
             "log_sigma[2] is 41");
    RV_FAILS(&ctx, rv_loss_uncertain(&ctx, NULL, log_sigma, 3, &total, NULL, NULL), RV_ERR_ARG,
             "losses is NULL");
}

/* ---- bad input ---- */

static void test_infonce_errors(void)
{
    float x[24] = {0}, d[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    uint32_t start[] = {0, 1, 1}, to[] = {5};
    rv_infonce_config config;
    rv_infonce_io io;
    double loss = 77;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    io.anchor = x;
    io.positives = x + 8;
    io.negatives = x + 16;
    io.dim = 8;
    io.n_negatives = 1;
    io.d_anchor = d;
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss), RV_ERR_ARG, "n_positives is 0");
    io.n_positives = 1;
    config.temperature = -0.5f;
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss), RV_ERR_CONFIG,
             "temperature is -0.5");
    config.temperature = not_a_number();
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss), RV_ERR_CONFIG, "temperature is NaN");
    config.temperature = infinite();
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss), RV_ERR_CONFIG, "infinity");
    config.temperature = 0;
    config.form = (rv_infonce_form)3;
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, &config, &io, &loss), RV_ERR_CONFIG, "form is 3");
    io.dim = 0;
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, NULL, &io, &loss), RV_ERR_ARG, "dim is 0");
    io.dim = SIZE_MAX / 4;
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, NULL, &io, &loss), RV_ERR_ARG, "does not fit");
    io.dim = 8;
    x[19] = not_a_number();
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, NULL, &io, &loss), RV_ERR_ARG, "negatives[3] is NaN");
    RV_EQUAL(ctx.where, 3);
    x[9] = infinite();
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, NULL, &io, &loss), RV_ERR_ARG, "positives[1] is inf");
    io.anchor = NULL;
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, NULL, &io, &loss), RV_ERR_ARG, "anchor is NULL");
    RV_FAILS(&ctx, rv_loss_infonce(&ctx, NULL, NULL, &loss), RV_ERR_ARG, "NULL");
    RV_EQUAL(rv_loss_infonce(NULL, NULL, &io, &loss), RV_ERR_ARG);
    RV_FAILS(&ctx, rv_loss_infonce_batch(&ctx, NULL, x, x, 0, 8, &loss, d, NULL), RV_ERR_ARG,
             "n is 0");
    RV_FAILS(&ctx, rv_loss_infonce_batch(&ctx, NULL, x, x, 1, 0, &loss, d, NULL), RV_ERR_ARG,
             "dim is 0");
    RV_FAILS(&ctx, rv_loss_infonce_batch(&ctx, NULL, x, x + 8, 1, 8, &loss, d, NULL), RV_ERR_ARG,
             "positives[1]");
    RV_FAILS(&ctx, rv_loss_infonce_batch(&ctx, NULL, x, x, 1, 8, NULL, d, NULL), RV_ERR_ARG,
             "loss");
    RV_FAILS(&ctx, rv_loss_local(&ctx, NULL, x, 2, 4, start, to, &loss, d), RV_ERR_ARG,
             "neighbour[0] is 5; it must be below n, 2");
    RV_FAILS(&ctx, rv_loss_local(&ctx, NULL, x, 2, 4, start, NULL, &loss, d), RV_ERR_ARG,
             "neighbour is NULL");
    start[2] = 0;
    RV_FAILS(&ctx, rv_loss_local(&ctx, NULL, x, 2, 4, start, to, &loss, d), RV_ERR_ARG,
             "start[2] is 0");
    start[0] = 1;
    RV_FAILS(&ctx, rv_loss_local(&ctx, NULL, x, 2, 4, start, to, &loss, d), RV_ERR_ARG, "start");
    RV_FAILS(&ctx, rv_loss_local(&ctx, NULL, x, 2, 8, start, to, &loss, d), RV_ERR_ARG, "x[9]");
    RV_NEAR(loss, 77, 0);
    for (size_t i = 0; i < 8; i++) RV_NEAR(d[i], 9, 0); /* nothing was written */
}

static void test_errors(void)
{
    float x[8] = {0}, d[8] = {9, 9, 9, 9, 9, 9, 9, 9}, weight[] = {-1};
    const uint32_t from[] = {1}, to[] = {2}, label[] = {1, 4};
    rv_triplet_io io;
    double loss = 77;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&io, 0, sizeof io);
    io.anchors = io.positives = io.negatives = x;
    io.n = 2;
    io.dim = 4;
    RV_FAILS(&ctx, rv_loss_triplet(&ctx, -1, &io, &loss), RV_ERR_ARG, "margin is -1");
    RV_FAILS(&ctx, rv_loss_triplet(&ctx, 1, NULL, &loss), RV_ERR_ARG, "io or loss");
    io.dim = 0;
    RV_FAILS(&ctx, rv_loss_triplet(&ctx, 1, &io, &loss), RV_ERR_ARG, "dim is 0");
    RV_FAILS(&ctx, rv_loss_laplacian(&ctx, x, 2, 4, from, to, NULL, 1, 0, &loss, d), RV_ERR_ARG,
             "edge 0 goes from 1 to 2; both must be below n, 2");
    RV_FAILS(&ctx, rv_loss_laplacian(&ctx, x, 3, 2, from, to, weight, 1, 0, &loss, d), RV_ERR_ARG,
             "weight[0] is -1");
    RV_FAILS(&ctx, rv_loss_laplacian(&ctx, x, 3, 2, NULL, to, weight, 1, 0, &loss, d), RV_ERR_ARG,
             "from or to");
    RV_FAILS(&ctx, rv_loss_orthogonal(&ctx, x, 0, 2, 0, 0, &loss, d), RV_ERR_ARG, "n is 0");
    RV_FAILS(&ctx, rv_loss_orthogonal(&ctx, x, 2, 0, 0, 0, &loss, d), RV_ERR_ARG, "dim is 0");
    RV_FAILS(&ctx, rv_loss_orthogonal(&ctx, x, 2, 2, 0, -2, &loss, d), RV_ERR_ARG, "divisor is -2");
    RV_FAILS(&ctx, rv_loss_norm(&ctx, x, 2, 2, -2, &loss, d), RV_ERR_ARG, "target is -2");
    RV_FAILS(&ctx, rv_loss_cross_entropy(&ctx, x, label, 2, 4, &loss, d), RV_ERR_ARG,
             "label[1] is 4; it must be below classes, 4");
    RV_EQUAL(ctx.where, 1);
    RV_FAILS(&ctx, rv_loss_cross_entropy(&ctx, x, NULL, 2, 4, &loss, d), RV_ERR_ARG, "label");
    RV_FAILS(&ctx, rv_loss_mse(&ctx, x, NULL, 2, &loss, d, NULL), RV_ERR_ARG, "y is NULL");
    x[5] = not_a_number();
    io.dim = 4;
    RV_FAILS(&ctx, rv_loss_triplet(&ctx, 1, &io, &loss), RV_ERR_ARG, "anchors[5] is NaN");
    RV_FAILS(&ctx, rv_loss_laplacian(&ctx, x, 3, 2, from, to, NULL, 1, 0, &loss, d), RV_ERR_ARG,
             "x[5] is NaN");
    RV_FAILS(&ctx, rv_loss_orthogonal(&ctx, x, 4, 2, 0, 0, &loss, d), RV_ERR_ARG, "x[5] is NaN");
    RV_FAILS(&ctx, rv_loss_norm(&ctx, x, 4, 2, 1, &loss, d), RV_ERR_ARG, "x[5] is NaN");
    RV_FAILS(&ctx, rv_loss_spectral(&ctx, x, 4, 2, 1, NULL, &loss, d), RV_ERR_ARG, "w[5] is NaN");
    RV_FAILS(&ctx, rv_loss_mse(&ctx, x, x, 8, &loss, d, NULL), RV_ERR_ARG, "x[5] is NaN");
    RV_FAILS(&ctx, rv_loss_cross_entropy(&ctx, x, label, 2, 4, &loss, d), RV_ERR_ARG,
             "logits[5] is NaN");
    RV_FAILS(&ctx, rv_loss_kl(&ctx, x, x, 2, 4, &loss, d, NULL), RV_ERR_ARG, "p[5] is NaN");
    RV_NEAR(loss, 77, 0);
    for (size_t i = 0; i < 8; i++) RV_NEAR(d[i], 9, 0);
}

/* ---- faults: nothing may have been written ---- */

enum { SWEEP_N = 130, SWEEP_DIM = 12, SWEEP = SWEEP_N * SWEEP_DIM };

static rv_status untouched(rv_status status, const float *d, double loss)
{
    for (size_t i = 0; status && i < SWEEP; i++) RV_CHECK(d[i] == 9.0f);
    if (status) RV_NEAR(loss, 77, 0);
    return status;
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    float *x = (float *)arg, d[SWEEP];
    uint32_t start[SWEEP_N + 1], to[SWEEP_N], from[SWEEP_N];
    rv_infonce_config config;
    rv_infonce_io io;
    double loss = 77;
    rv_status status = RV_OK;
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    io.anchor = io.positives = io.negatives = x;
    io.n_positives = io.n_negatives = 5;
    io.dim = SWEEP_DIM;
    config.symmetric = 1;
    for (uint32_t i = 0; i <= SWEEP_N; i++) start[i] = i;
    for (uint32_t i = 0; i < SWEEP_N; i++) {
        from[i] = i;
        to[i] = (i + 1) % SWEEP_N;
    }
    for (int what = 0; what < 7 && !status; what++) {
        for (size_t i = 0; i < SWEEP; i++) d[i] = 9.0f;
        loss = 77;
        io.d_anchor = d;
        switch (what) {
        case 0: status = rv_loss_infonce(ctx, &config, &io, &loss); break;
        case 1:
            status = rv_loss_infonce_batch(ctx, &config, x, x, SWEEP_N, SWEEP_DIM, &loss, d, NULL);
            break;
        case 2:
            status = rv_loss_local(ctx, &config, x, SWEEP_N, SWEEP_DIM, start, to, &loss, d);
            break;
        case 3:
            status = rv_loss_laplacian(ctx, x, SWEEP_N, SWEEP_DIM, from, to, NULL, SWEEP_N, 1,
                                       &loss, d);
            break;
        case 4:
            status = rv_loss_orthogonal(ctx, x, SWEEP_N, SWEEP_DIM, 1, 0, &loss, d);
            break;
        case 5:
            status = rv_loss_orthogonal(ctx, x, SWEEP_N, SWEEP_DIM, 0, 0, &loss, d);
            break;
        default:
            status = rv_loss_spectral(ctx, x, SWEEP_N, SWEEP_DIM, 3, NULL, &loss, d);
            break;
        }
        (void)untouched(status, d, loss);
    }
    return status;
}

static void test_faults(void)
{
    float *x = (float *)malloc(SWEEP * sizeof(float));
    if (!x) exit(2);
    grid(1, x, SWEEP);
    RV_CHECK(rv_test_oom_sweep(sweep, x) > 10);
    RV_CHECK(rv_test_cancel_sweep(sweep, x) > 10);
    free(x);
}

int main(void)
{
    rv_test_begin("loss");
    RV_RUN(test_infonce_golden);
    RV_RUN(test_infonce_slopes);
    RV_RUN(test_infonce_identities);
    RV_RUN(test_infonce_batch);
    RV_RUN(test_infonce_batch_single);
    RV_RUN(test_local);
    RV_RUN(test_laplacian);
    RV_RUN(test_triplet);
    RV_RUN(test_orthogonal);
    RV_RUN(test_lengths);
    RV_RUN(test_spectral);
    RV_RUN(test_elements);
    RV_RUN(test_divergences);
    RV_RUN(test_gaussian);
    RV_RUN(test_several);
    RV_RUN(test_infonce_errors);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
