/* hyperbolic: means, optimisers, search, embeddings; faults. */
#include "golden/hyperbolic.h"
#include "rv_test.h"

static double uniform(rv_test_rng *rng)
{
    return (double)(rv_test_u64(rng) >> 11) / 4503599627370496.0 - 1.0;
}

/* n points of the ball of curvature -c, at up to `reach` of its radius. */
static void random_points(rv_test_rng *rng, size_t n, size_t dim, double c, double reach, double *x)
{
    for (size_t i = 0; i < n; i++, x += dim) {
        double sum = 0, by;
        for (size_t j = 0; j < dim; j++) {
            x[j] = uniform(rng);
            sum += x[j] * x[j];
        }
        by = reach * pow(fabs(uniform(rng)), 1.0 / (double)dim) / sqrt(c * sum);
        for (size_t j = 0; j < dim; j++) x[j] *= by;
    }
}

static void to_floats(const double *x, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)x[i];
}

static int starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* ---- means ---- */

static void test_golden_mean(void)
{
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_mean); i++) {
        double c = rv_golden_mean[i].c, out[3], sheet[12], step = 1;
        const double *points = rv_golden_mean[i].points, *weights = rv_golden_mean[i].weights;
        rv_frechet_config config;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("mean", i);
        memset(&config, 0, sizeof config);
        config.tolerance = 1e-13;
        config.iterations = 20000;
        config.step = &step;
        RV_OKAY(&ctx, rv_poincare_midpoint_f64(&ctx, points, weights, 4, 2, c, out));
        for (size_t j = 0; j < 2; j++)
            RV_NEAR(out[j], rv_golden_mean[i].midpoint[j], 1e-13 / sqrt(c));
        RV_OKAY(&ctx, rv_poincare_mean_f64(&ctx, &config, points, weights, 4, 2, c, out));
        RV_CHECK(step <= 1e-13);
        for (size_t j = 0; j < 2; j++)
            RV_NEAR(out[j], rv_golden_mean[i].mean[j], 1e-12 / sqrt(c));
        /* the centroid of the sheet is the midpoint of the ball */
        for (size_t j = 0; j < 4; j++)
            rv_lorentz_from_poincare_f64(points + 2 * j, 2, c, sheet + 3 * j);
        RV_OKAY(&ctx, rv_lorentz_centroid_f64(&ctx, sheet, weights, 4, 2, c, out));
        RV_NEAR((c * rv_lorentz_inner_f64(out, out, 2) + 1) / (c * out[0] * out[0]), 0, 1e-14);
        rv_poincare_from_lorentz_f64(out, 2, c, out);
        for (size_t j = 0; j < 2; j++)
            RV_NEAR(out[j], rv_golden_mean[i].midpoint[j], 1e-9 / sqrt(c));
    }
}

static void test_mean_properties(void)
{
    enum { N = 9, DIM = 3 };
    rv_test_rng rng;
    rv_test_seed(&rng, 21);
    for (size_t i = 0; i < 12; i++) {
        const double cs[3] = {0.1, 1, 4};
        double c = cs[i % 3], x[N * DIM], weights[N], out[DIM], sum[DIM], way[DIM], total = 0;
        float fx[N * DIM], fw[N], fout[DIM + 1];
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        random_points(&rng, N, DIM, c, 0.97, x);
        for (size_t j = 0; j < N; j++) {
            weights[j] = 1 + uniform(&rng);
            total += weights[j];
        }
        to_floats(x, N * DIM, fx);
        to_floats(weights, N, fw);
        /* one point is its own mean; weights 0 do not count; two points: half way */
        RV_OKAY(&ctx, rv_poincare_midpoint_f64(&ctx, x, NULL, 1, DIM, c, out));
        RV_NEAR(rv_poincare_distance_f64(out, x, DIM, c), 0, 1e-12);
        RV_OKAY(&ctx, rv_poincare_midpoint_f64(&ctx, x, NULL, 2, DIM, c, out));
        RV_NEAR(rv_poincare_distance_f64(out, x, DIM, c) /
                    rv_poincare_distance_f64(out, x + DIM, DIM, c), 1, 1e-11);
        weights[2] = 0;
        RV_OKAY(&ctx, rv_poincare_mean_f64(&ctx, NULL, x + 2 * DIM, weights + 2, 2, DIM, c, out));
        RV_NEAR(rv_poincare_distance_f64(out, x + 3 * DIM, DIM, c), 0, 1e-8);
        weights[2] = (double)fw[2];
        /* at the mean the tangents to the points balance */
        RV_OKAY(&ctx, rv_poincare_mean_f64(&ctx, NULL, x, weights, N, DIM, c, out));
        memset(sum, 0, sizeof sum);
        for (size_t j = 0; j < N; j++) {
            rv_poincare_log_f64(out, x + j * DIM, DIM, c, way);
            for (size_t k = 0; k < DIM; k++) sum[k] += weights[j] / total * way[k];
        }
        for (size_t k = 0; k < DIM; k++) RV_NEAR(sum[k], 0, 1e-8);
        RV_OKAY(&ctx, rv_poincare_mean(&ctx, NULL, fx, fw, N, DIM, (float)c, fout));
        for (size_t k = 0; k < DIM; k++) RV_NEAR(fout[k], out[k], 2e-6 / sqrt(c));
        RV_OKAY(&ctx, rv_poincare_midpoint_f64(&ctx, x, weights, N, DIM, c, out));
        RV_OKAY(&ctx, rv_poincare_midpoint(&ctx, fx, fw, N, DIM, (float)c, fout));
        for (size_t k = 0; k < DIM; k++) RV_NEAR(fout[k], out[k], 1e-6 / sqrt(c));
    }
}

static void test_mean_errors(void)
{
    static const double x[4] = {0.1, 0.2, 0.3, 0.4}, none[2] = {0, 0}, minus[2] = {1, -1};
    double bad[4] = {0.1, 0.2, 0.3, 0}, out[4] = {7, 7, 7, 7};
    float fout[3];
    rv_frechet_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    bad[3] = HUGE_VAL;
    RV_EQUAL(rv_poincare_midpoint_f64(&ctx, x, NULL, 0, 2, 1, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "n is 0"));
    RV_EQUAL(rv_poincare_midpoint_f64(&ctx, x, none, 2, 2, 1, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "the weights sum to 0"));
    RV_EQUAL(rv_poincare_mean_f64(&ctx, NULL, x, minus, 2, 2, 1, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "weights[1] is -1"));
    RV_EQUAL(ctx.where, 1);
    RV_EQUAL(rv_lorentz_centroid_f64(&ctx, bad, NULL, 1, 3, 1, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "points[3] is infinity"));
    RV_EQUAL(rv_poincare_midpoint_f64(&ctx, x, NULL, 2, 2, 0, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "c must be"));
    RV_EQUAL(rv_poincare_mean_f64(&ctx, NULL, x, NULL, 2, 2, -1, out), RV_ERR_ARG);
    RV_EQUAL(rv_stereo_midpoint_f64(&ctx, x, NULL, 2, 2, HUGE_VAL, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "kappa is infinity"));
    memset(&config, 0, sizeof config);
    config.iterations = 100001;
    RV_EQUAL(rv_poincare_mean_f64(&ctx, &config, x, NULL, 2, 2, 1, out), RV_ERR_CONFIG);
    RV_CHECK(starts(ctx.message, "iterations is 100001"));
    config.iterations = 0;
    config.tolerance = -1;
    RV_EQUAL(rv_poincare_mean_f64(&ctx, &config, x, NULL, 2, 2, 1, out), RV_ERR_CONFIG);
    RV_CHECK(starts(ctx.message, "tolerance is -1"));
    for (size_t i = 0; i < 4; i++) RV_NEAR(out[i], 7, 0);
    {
        static const float wide[4] = {3.0f, 4.0f, 0.0f, 0.0f}; /* pulled in; its mirror is not */
        RV_OKAY(&ctx, rv_poincare_mean(&ctx, NULL, wide, NULL, 1, 2, 1, fout));
        RV_NEAR(fout[0] / fout[1], 0.75, 1e-6);
        RV_NEAR(fout[0] * fout[0] + fout[1] * fout[1], 1, 1e-6);
        RV_CHECK(fout[0] * fout[0] + fout[1] * fout[1] < 1.0f);
    }
}

/* ---- optimisers ---- */

static void test_golden_adam(void)
{
    static const double g[4][2] = {{1, -0.5}, {0.25, 2}, {-1.5, 0.125}, {0.5, 0.5}};
    rv_radam_config config;
    size_t row = 0;
    memset(&config, 0, sizeof config);
    config.rate = 0.1;
    for (size_t i = 0; i < 2; i++) {
        double c = i ? 1 : 0.25, x[3], m[3], way[3];
        float fx[3], fm[3], fway[3], fc = (float)c;
        for (int sheet = 0; sheet < 2; sheet++) {
            const size_t n = sheet ? 3 : 2;
            rv_radam state, fstate;
            rv_ctx ctx;
            rv_test_ctx(&ctx);
            memset(&state, 0, sizeof state);
            memset(&fstate, 0, sizeof fstate);
            memset(x, 0, sizeof x);
            memset(m, 0, sizeof m);
            memset(fm, 0, sizeof fm);
            x[n - 2] = 0.5;
            x[n - 1] = -0.25;
            to_floats(x, 3, fx);
            for (size_t step = 0; step < 4; step++, row++) {
                rv_test_row("adam", row);
                memset(way, 0, sizeof way);
                memcpy(way + n - 2, g[step], sizeof g[step]);
                to_floats(way, 3, fway);
                if (sheet) {
                    RV_OKAY(&ctx, rv_lorentz_adam_f64(&ctx, &config, x, way, 2, c, m, &state));
                    RV_OKAY(&ctx, rv_lorentz_adam(&ctx, &config, fx, fway, 2, fc, fm, &fstate));
                } else {
                    RV_OKAY(&ctx, rv_poincare_adam_f64(&ctx, &config, x, way, 2, c, m, &state));
                    RV_OKAY(&ctx, rv_poincare_adam(&ctx, &config, fx, fway, 2, fc, fm, &fstate));
                }
                for (size_t j = 0; j < n; j++) {
                    RV_NEAR(x[j], rv_golden_adam[row].x[j], 1e-14);
                    RV_NEAR(m[j], rv_golden_adam[row].moment[j], 1e-14);
                    RV_NEAR(fx[j], x[j], 1e-6);
                    RV_NEAR(fm[j], m[j], 1e-6);
                }
            }
            RV_EQUAL(state.step, 4);
            RV_CHECK(state.largest >= state.second);
        }
    }
    RV_EQUAL(row, RV_COUNT_OF(rv_golden_adam));
}

/* Every optimiser finds the Frechet mean of a few points from afar. */
static void test_descent(void)
{
    enum { N = 5, DIM = 3 };
    const double c = 0.5;
    double p[N * DIM], mean[DIM];
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 22);
    random_points(&rng, N, DIM, c, 0.8, p);
    RV_OKAY(&ctx, rv_poincare_mean_f64(&ctx, NULL, p, NULL, N, DIM, c, mean));
    for (int kind = 0; kind < 6; kind++) { /* SGD, Adam, AMSGrad, in the ball and on the sheet */
        const int sheet = kind >= 3;
        double x[DIM + 1] = {-1.2, 0.3, 0.2, 0}, q[DIM + 1], m[DIM + 1], g[DIM + 1], way[DIM + 1];
        rv_radam_config config;
        rv_radam state;
        rv_test_row("optimiser", (size_t)kind);
        memset(&config, 0, sizeof config);
        memset(&state, 0, sizeof state);
        memset(m, 0, sizeof m);
        config.amsgrad = kind % 3 == 2;
        if (sheet) rv_lorentz_from_poincare_f64(x, DIM, c, x);
        for (int step = 0; step < 1500; step++) {
            memset(g, 0, sizeof g);
            for (size_t i = 0; i < N; i++) { /* of the mean of d^2 / 2: d times that of d */
                double d;
                if (sheet) {
                    rv_lorentz_from_poincare_f64(p + i * DIM, DIM, c, q);
                    d = rv_lorentz_distance_grad_f64(x, q, DIM, c, way, NULL);
                } else {
                    d = rv_poincare_distance_grad_f64(x, p + i * DIM, DIM, c, way, NULL);
                }
                for (size_t j = 0; j < DIM + (size_t)sheet; j++) g[j] += d * way[j] / (double)N;
            }
            config.rate = 0.1 / (1 + 0.02 * step);
            if (kind == 0) {
                rv_poincare_sgd_f64(x, g, DIM, c, 0.2);
            } else if (kind == 3) {
                rv_lorentz_sgd_f64(x, g, DIM, c, 0.2);
            } else if (sheet) {
                RV_OKAY(&ctx, rv_lorentz_adam_f64(&ctx, &config, x, g, DIM, c, m, &state));
            } else {
                RV_OKAY(&ctx, rv_poincare_adam_f64(&ctx, &config, x, g, DIM, c, m, &state));
            }
        }
        if (sheet) rv_poincare_from_lorentz_f64(x, DIM, c, x);
        RV_NEAR(rv_poincare_distance_f64(x, mean, DIM, c), 0, kind % 3 ? 1e-3 : 1e-8);
    }
}

static void test_adam_errors(void)
{
    static const struct {
        double rate, beta1, beta2, epsilon;
        const char *message;
    } cases[] = {{-1, 0, 0, 0, "rate is -1"},
                 {0, 1, 0, 0, "beta1, beta2 are 1, 0.999"},
                 {0, 0, -0.5, 0, "beta1, beta2 are 0.9, -0.5"},
                 {0, 0, 0, -2, "epsilon is -2"}};
    double x[3] = {0.1, 0.2, 0}, g[3] = {1, 1, 0}, m[3] = {0, 0, 0};
    rv_radam state;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&state, 0, sizeof state);
    for (size_t i = 0; i < RV_COUNT_OF(cases); i++) {
        rv_radam_config config;
        memset(&config, 0, sizeof config);
        config.rate = cases[i].rate;
        config.beta1 = cases[i].beta1;
        config.beta2 = cases[i].beta2;
        config.epsilon = cases[i].epsilon;
        rv_test_row("config", i);
        RV_EQUAL(rv_poincare_adam_f64(&ctx, &config, x, g, 2, 1, m, &state), RV_ERR_CONFIG);
        RV_CHECK(starts(ctx.message, cases[i].message));
        RV_EQUAL(rv_lorentz_adam_f64(&ctx, &config, x, g, 2, 1, m, &state), RV_ERR_CONFIG);
    }
    RV_EQUAL(rv_poincare_adam_f64(&ctx, NULL, x, g, 2, 0, m, &state), RV_ERR_ARG);
    RV_EQUAL(rv_lorentz_adam_f64(&ctx, NULL, x, g, 2, -1, m, &state), RV_ERR_ARG);
    g[1] = HUGE_VAL;
    RV_EQUAL(rv_poincare_adam_f64(&ctx, NULL, x, g, 2, 1, m, &state), RV_ERR_ARG);
    RV_EQUAL(rv_lorentz_adam_f64(&ctx, NULL, x, g, 2, 1, m, &state), RV_ERR_ARG);
    RV_NEAR(x[0] - 0.1 + m[0] + m[1], 0, 0); /* nothing has changed */
    RV_EQUAL(state.step, 0);
}

/* ---- search ---- */

static void test_distance_many(void)
{
    static const size_t dims[] = {1, 2, 5, 16, 33, 100};
    rv_test_rng rng;
    rv_test_seed(&rng, 23);
    for (size_t i = 0; i < RV_COUNT_OF(dims) * 3; i++) {
        enum { N = 300 };
        const double cs[3] = {0.1, 1, 4};
        const size_t dim = dims[i / 3];
        double c = cs[i % 3], *x = (double *)malloc(N * dim * sizeof(double));
        float *rows = (float *)malloc(N * dim * sizeof(float)), got[N], factors[N], again[N];
        float *pack = (float *)malloc(2 * (dim + 1) * sizeof(float)), fc = (float)c;
        rv_test_row("case", i);
        random_points(&rng, N, dim, c, 0.9999, x);
        to_floats(x, N * dim, rows);
        for (size_t j = 0; j < dim; j++) {
            rows[dim + j] = rows[j];                        /* the query itself */
            rows[2 * dim + j] = rows[j] + 1e-4f * rv_test_f32(&rng) / (float)sqrt(c); /* near it */
            rows[3 * dim + j] *= 1e6f;                      /* beyond the rim   */
        }
        rv_poincare_factors(rows, N, dim, fc, factors);
        rv_poincare_distance_many(rows, rows, factors, N, dim, fc, got);
        rv_poincare_distance_many(rows, rows, NULL, N, dim, fc, again);
        RV_CHECK(memcmp(got, again, sizeof got) == 0);
        RV_CHECK(factors[3] < 0 && factors[0] > 0);
        for (size_t j = 0; j < N; j++) {
            double wide = (double)fc;
            double want = (double)rv_poincare_distance(rows, rows + j * dim, dim, fc);
            RV_NEAR(got[j], want, 2e-6 * want);
            RV_NEAR(rv_poincare_metric(&wide, rows, rows + j * dim, dim), want, 2e-6 * want);
            rv_poincare_pack(rows, dim, fc, pack);
            rv_poincare_pack(rows + j * dim, dim, fc, pack + dim + 1);
            /* of packed rows the coordinates are rounded again when pulled in */
            RV_NEAR(rv_poincare_packed_metric(&wide, pack, pack + dim + 1, dim + 1), want,
                    (j == 3 ? 1e-5 : 2e-6) * want);
        }
        free(x);
        free(rows);
        free(pack);
    }
}

/* The recall of HNSW over hyperbolic distance against all distances in double. */
static void test_hnsw(void)
{
    enum { DIM = 5, K = 10, QUERIES = 50 };
    const size_t n = RV_SCALED(4000, 500);
    double c = 1, *x = (double *)malloc((n + QUERIES) * DIM * sizeof(double));
    float *rows = (float *)malloc((n + QUERIES) * (DIM + 1) * sizeof(float)), *all;
    rv_test_rng rng;
    rv_test_seed(&rng, 24);
    random_points(&rng, n + QUERIES, DIM, c, 0.999, x);
    all = (float *)malloc(n * sizeof(float));
    for (int packed = 0; packed < 2; packed++) {
        const size_t width = DIM + (size_t)packed;
        size_t found = 0;
        rv_hnsw_config config;
        rv_hnsw *index = NULL;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        for (size_t i = 0; i < n + QUERIES; i++) {
            float row[DIM];
            to_floats(x + i * DIM, DIM, row);
            if (packed) rv_poincare_pack(row, DIM, 1, rows + i * width);
            else memcpy(rows + i * width, row, sizeof row);
        }
        memset(&config, 0, sizeof config);
        config.dim = (uint32_t)width;
        config.metric = RV_METRIC_CUSTOM;
        config.custom = packed ? rv_poincare_packed_metric : rv_poincare_metric;
        config.custom_user = &c;
        RV_OKAY(&ctx, rv_hnsw_create(&ctx, &config, &index));
        RV_OKAY(&ctx, rv_hnsw_build(&ctx, index, NULL, rows, n));
        for (size_t q = 0; q < QUERIES; q++) {
            const double *query = x + (n + q) * DIM;
            const float *row = rows + (n + q) * width;
            rv_hit hits[K];
            uint32_t best[K];
            size_t n_hits = 0;
            for (size_t i = 0; i < n; i++)
                all[i] = (float)rv_poincare_distance_f64(query, x + i * DIM, DIM, c);
            rv_topk_f32(all, n, K, best, NULL);
            RV_OKAY(&ctx, rv_hnsw_search(&ctx, index, row, K, 100, hits, &n_hits));
            RV_EQUAL(n_hits, K);
            for (size_t i = 0; i < n_hits; i++) {
                RV_NEAR(hits[i].distance, all[hits[i].key], 1e-4 * (double)all[hits[i].key]);
                for (size_t j = 0; j < K; j++) found += hits[i].key == best[j];
            }
        }
        RV_CHECK((double)found >= 0.97 * (double)(QUERIES * K));
        rv_hnsw_destroy(index);
    }
    free(x);
    free(rows);
    free(all);
}

/* ---- embeddings ---- */

enum { LEVELS = 6, NODES = (1 << LEVELS) - 1, EDGES = NODES * LEVELS };

/* All pairs of a node and its ancestors in a binary tree; returns how many. */
static size_t make_tree(uint32_t *edges)
{
    size_t n = 0;
    for (uint32_t u = 1; u < NODES; u++) {
        for (uint32_t v = u; v > 0;) {
            v = (v - 1) / 2;
            edges[2 * n] = u;
            edges[2 * n + 1] = v;
            n++;
        }
    }
    return n;
}

static void embed_config(rv_embed_config *config, int model)
{
    memset(config, 0, sizeof *config);
    config->dim = 4;
    config->model = (rv_embed_model)model;
    config->negatives = 20;
    config->epochs = RV_SCALED(300, 40);
    config->rate = 0.1;
}

static void test_embed(void)
{
    uint32_t edges[2 * EDGES];
    const size_t n_edges = make_tree(edges);
    for (int model = 0; model < 2; model++) {
        float out[NODES * 5], again[NODES * 5], other[NODES * 5];
        rv_embed_progress progress;
        rv_embed_config config;
        rv_embed_score score, before;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("model", (size_t)model);
        embed_config(&config, model);
        config.c = 0.5;
        config.progress = &progress;
        RV_OKAY(&ctx, rv_embed_train(&ctx, &config, edges, n_edges, NODES, out));
        RV_EQUAL(progress.epoch, config.epochs);
        RV_EQUAL(progress.epochs, config.epochs);
        RV_CHECK(progress.loss > 0 && progress.loss < 2.9); /* log(21) = 3.04 knows nothing */
        RV_OKAY(&ctx, rv_embed_evaluate(&ctx, &config, out, edges, n_edges, NODES, &score));
        if (RV_TEST_SCALE == 1) RV_CHECK(score.mean_rank < 1.25 && score.map > 0.95);
        if (model == RV_EMBED_LORENTZ) { /* on the sheet */
            for (size_t i = 0; i < NODES; i++) {
                float *x = out + i * 5, time = x[0];
                rv_lorentz_project(x, 4, 0.5f);
                RV_NEAR(x[0], time, 0);
            }
        }
        /* the same seed the same bits, another one not; what is kept begins from there */
        RV_OKAY(&ctx, rv_embed_train(&ctx, &config, edges, n_edges, NODES, again));
        RV_CHECK(memcmp(out, again, NODES * (size_t)(4 + model) * sizeof *out) == 0);
        config.epochs = 2;
        config.burn_in = 0;
        config.seed = 99;
        RV_OKAY(&ctx, rv_embed_train(&ctx, &config, edges, n_edges, NODES, other));
        RV_OKAY(&ctx, rv_embed_evaluate(&ctx, &config, other, edges, n_edges, NODES, &before));
        RV_CHECK(before.map < score.map);
        config.warm = 1;
        config.rate = 1e-3;
        RV_OKAY(&ctx, rv_embed_train(&ctx, &config, edges, n_edges, NODES, again));
        RV_CHECK(memcmp(out, again, NODES * 4 * sizeof *out) != 0);
        RV_OKAY(&ctx, rv_embed_evaluate(&ctx, &config, again, edges, n_edges, NODES, &before));
        RV_NEAR(before.map, score.map, 0.02);
        RV_NEAR(before.mean_rank, score.mean_rank, 0.1);
    }
}

/* The scores by their definitions, quadratically. */
static void test_evaluate(void)
{
    enum { N = 40, E = 120, DIM = 3 };
    rv_test_rng rng;
    rv_test_seed(&rng, 25);
    for (int model = 0; model < 2; model++) {
        unsigned char linked[N][N];
        uint32_t edges[2 * E];
        double x[N * DIM], ranks = 0, precision = 0, pairs = 0, nodes = 0;
        float points[N * (DIM + 1)], flat[N * DIM];
        rv_embed_config config;
        rv_embed_score score;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        memset(linked, 0, sizeof linked);
        memset(&config, 0, sizeof config);
        config.dim = DIM;
        config.model = (rv_embed_model)model;
        config.c = 2;
        random_points(&rng, N, DIM, 2, 0.95, x);
        to_floats(x, N * DIM, flat);
        memcpy(points, flat, sizeof flat);
        for (size_t i = 0; i < N && model; i++)
            rv_lorentz_from_poincare(flat + i * DIM, DIM, 2, points + i * (DIM + 1));
        for (size_t i = 0; i < E; i++) { /* some twice; the last nodes have none */
            uint32_t u = (uint32_t)rv_test_below(&rng, N - 5), v = (uint32_t)rv_test_below(&rng, N);
            if (u == v) v = (v + 1) % N;
            edges[2 * i] = u;
            edges[2 * i + 1] = v;
            linked[u][v] = 1;
        }
        for (size_t u = 0; u < N; u++) {
            double average = 0, degree = 0, d[N];
            for (size_t v = 0; v < N; v++)
                d[v] = (double)rv_poincare_distance(flat + u * DIM, flat + v * DIM, DIM, 2);
            for (size_t v = 0; v < N; v++) {
                double ahead = 0, right = 0;
                if (!linked[u][v]) continue;
                for (size_t w = 0; w < N; w++) {
                    if (w == u || !(d[w] < d[v])) continue;
                    if (linked[u][w]) right++;
                    else ahead++;
                }
                ranks += ahead + 1;
                average += (right + 1) / (right + 1 + ahead);
                degree++;
            }
            pairs += degree;
            if (degree > 0) {
                precision += average / degree;
                nodes++;
            }
        }
        RV_OKAY(&ctx, rv_embed_evaluate(&ctx, &config, points, edges, E, N, &score));
        RV_NEAR(score.mean_rank, ranks / pairs, 1e-12);
        RV_NEAR(score.map, precision / nodes, 1e-12);
        RV_OKAY(&ctx, rv_embed_evaluate(&ctx, &config, points, edges, 0, N, &score));
        RV_NEAR(score.mean_rank + score.map, 2, 0);
    }
}

static void test_embed_errors(void)
{
    static const uint32_t edges[] = {0, 1, 1, 2}, beyond[] = {0, 1, 3, 2}, loop[] = {0, 1, 2, 2};
    static const struct {
        uint32_t dim, epochs, negatives, burn_in;
        int model;
        double c, rate, factor;
        const char *message;
    } cases[] = {{0, 0, 0, 0, 0, 0, 0, 0, "dim is 0"},
                 {4097, 0, 0, 0, 0, 0, 0, 0, "dim is 4097"},
                 {2, 1000001, 0, 0, 0, 0, 0, 0, "epochs is 1000001"},
                 {2, 0, 1025, 0, 0, 0, 0, 0, "negatives is 1025"},
                 {2, 5, 0, 6, 0, 0, 0, 0, "burn_in is 6, it must be at most epochs, 5"},
                 {2, 0, 0, 0, 2, 0, 0, 0, "model is 2"},
                 {2, 0, 0, 0, 0, -1, 0, 0, "c is -1"},
                 {2, 0, 0, 0, 0, 0, -0.5, 0, "rate is -0.5"},
                 {2, 0, 0, 0, 0, 0, 0, 1.5, "burn_in_factor is 1.5"}};
    float out[9] = {7, 7, 7, 7, 7, 7, 7, 7, 7};
    rv_embed_config config;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < RV_COUNT_OF(cases); i++) {
        memset(&config, 0, sizeof config);
        config.dim = cases[i].dim;
        config.epochs = cases[i].epochs;
        config.negatives = cases[i].negatives;
        config.burn_in = cases[i].burn_in;
        config.model = (rv_embed_model)cases[i].model;
        config.c = cases[i].c;
        config.rate = cases[i].rate;
        config.burn_in_factor = cases[i].factor;
        rv_test_row("config", i);
        RV_EQUAL(rv_embed_train(&ctx, &config, edges, 2, 3, out), RV_ERR_CONFIG);
        RV_CHECK(starts(ctx.message, cases[i].message));
    }
    memset(&config, 0, sizeof config);
    config.dim = 2;
    RV_EQUAL(rv_embed_train(&ctx, NULL, edges, 2, 3, out), RV_ERR_ARG);
    RV_EQUAL(rv_embed_evaluate(&ctx, NULL, out, edges, 2, 3, NULL), RV_ERR_ARG);
    RV_EQUAL(rv_embed_train(&ctx, &config, edges, 2, 0, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "n_nodes is 0"));
    RV_EQUAL(rv_embed_train(&ctx, &config, beyond, 2, 3, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "edge 1 names node 3"));
    RV_EQUAL(rv_embed_train(&ctx, &config, loop, 2, 3, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "edge 1 links node 2 with itself"));
    RV_EQUAL(ctx.where, 1);
    config.warm = 1;
    out[3] = HUGE_VALF;
    RV_EQUAL(rv_embed_train(&ctx, &config, edges, 2, 3, out), RV_ERR_ARG);
    RV_CHECK(starts(ctx.message, "point 1 has an element of infinity"));
    out[3] = 7;
    for (size_t i = 0; i < 9; i++) RV_NEAR(out[i], 7, 0);
    /* no edges; all nodes linked, so that nothing is left to draw */
    config.warm = 0;
    config.epochs = 3;
    config.burn_in_factor = 1;
    RV_OKAY(&ctx, rv_embed_train(&ctx, &config, edges, 0, 1, out));
    RV_CHECK(fabs((double)out[0]) < 1.1e-3 && out[2] == 7.0f);
    RV_OKAY(&ctx, rv_embed_train(&ctx, &config, edges, 1, 2, out));
    RV_CHECK(fabs((double)out[3]) < 1.0);
}

/* ---- faults ---- */

static rv_status sweep_means(rv_ctx *ctx, void *arg)
{
    static const double x[8] = {0.1, 0.2, -0.3, 0.4, 0.5, 0.1, 0.3, -0.6};
    double out[4];
    rv_status status = rv_poincare_midpoint_f64(ctx, x, NULL, 4, 2, 1, out);
    (void)arg;
    if (!status) status = rv_lorentz_centroid_f64(ctx, x, NULL, 2, 3, 1, out);
    if (!status) status = rv_stereo_midpoint_f64(ctx, x, NULL, 4, 2, 1, out);
    if (!status) status = rv_poincare_mean_f64(ctx, NULL, x, NULL, 4, 2, 1, out);
    return status;
}

static rv_status sweep_embed(rv_ctx *ctx, void *arg)
{
    uint32_t edges[2 * EDGES];
    const size_t n_edges = make_tree(edges);
    float out[NODES * 5];
    rv_embed_config config;
    rv_embed_score score;
    rv_status status;
    embed_config(&config, *(const int *)arg);
    config.epochs = 3;
    for (size_t i = 0; i < NODES * 5; i++) out[i] = 7;
    status = rv_embed_train(ctx, &config, edges, n_edges, NODES, out);
    if (status) RV_CHECK(out[0] == 7.0f && out[NODES * 5 - 1] == 7.0f);
    else status = rv_embed_evaluate(ctx, &config, out, edges, n_edges, NODES, &score);
    return status;
}

static void test_faults(void)
{
    RV_EQUAL(rv_test_oom_sweep(sweep_means, NULL), 5);
    RV_CHECK(rv_test_cancel_sweep(sweep_means, NULL) > 10);
    for (int model = 0; model < 2; model++) {
        RV_CHECK(rv_test_oom_sweep(sweep_embed, &model) > 20);
        RV_CHECK(rv_test_cancel_sweep(sweep_embed, &model) > 5);
    }
}

int main(void)
{
    rv_test_begin("hyperbolic_train");
    RV_RUN(test_golden_mean);
    RV_RUN(test_mean_properties);
    RV_RUN(test_mean_errors);
    RV_RUN(test_golden_adam);
    RV_RUN(test_descent);
    RV_RUN(test_adam_errors);
    RV_RUN(test_distance_many);
    RV_RUN(test_hnsw);
    RV_RUN(test_embed);
    RV_RUN(test_evaluate);
    RV_RUN(test_embed_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
