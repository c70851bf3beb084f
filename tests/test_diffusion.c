/* Heat on graphs: scipy's expm, closed forms, conserved sums, faults. */
#include "grid_set.h"

#include "golden/diffusion.h"

enum { COLS = 3 };

static const rv_laplacian kinds[3] = {RV_LAPLACIAN_PLAIN, RV_LAPLACIAN_SYM, RV_LAPLACIAN_WALK};

/* A ring of n points with chords, one point apart and, where cut, two halves. */
static void make_weights(float *w, size_t n, int cut)
{
    memset(w, 0, n * n * sizeof(float));
    for (size_t i = 0; i + 1 < n; i++) {
        for (size_t j = 0; j < i; j++) {
            const int near = i - j == 1 || (i + j) % 5 == 0;
            if (cut && (i < n / 2) != (j < n / 2)) continue;
            if (near) w[i * n + j] = w[j * n + i] = 0.25f + (float)((i * 7 + j * 7) % 11) / 8.0f;
        }
    }
}

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_heat); row++) {
        const size_t n = (size_t)rv_golden_heat[row].n;
        float points[16], x[24], y[3 * 24], times[3] = {0};
        double energy = 0.0;
        rv_diffusion_config config = {RV_LAPLACIAN_PLAIN, 0, 0, 0};
        rv_diffusion *graph = NULL;
        rv_heat_result result;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        grid(1, points, n * 2);
        grid(2, x, n * COLS);
        config.kind = kinds[rv_golden_heat[row].kind];
        config.sigma = (float)rv_golden_heat[row].sigma;
        config.neighbours = (uint32_t)rv_golden_heat[row].neighbours;
        config.dense = rv_golden_heat[row].neighbours == 0;
        RV_OKAY(&ctx, rv_diffusion_create(&ctx, &config, points, 0, n, 2, &graph));
        if (!graph) return;
        RV_EQUAL(rv_diffusion_count(graph), n);
        RV_EQUAL(rv_diffusion_weights(graph).rows, config.dense ? 0 : n);
        times[1] = (float)rv_golden_heat[row].t;
        times[2] = times[1] / 2.0f;
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, times, 3, x, COLS, y, &result));
        RV_CHECK(result.degree > 4 && result.error <= 3e-9);
        RV_CHECK(memcmp(x, y, n * COLS * sizeof(float)) == 0); /* t = 0 */
        CHECK_ALL(y + n * COLS, rv_golden_heat[row].y, n * COLS, 4e-7);
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, times + 2, 1, y + 2 * n * COLS, COLS, y,
                                        NULL)); /* twice the half */
        CHECK_ALL(y, rv_golden_heat[row].y, n * COLS, 6e-7);
        RV_OKAY(&ctx, rv_diffusion_energy(&ctx, graph, x, COLS, &energy));
        RV_NEAR(energy, rv_golden_heat[row].energy, 4e-7 * rv_golden_heat[row].energy);
        rv_diffusion_destroy(graph);
    }
}

/* The path of n points: L = D - W has vectors cos(pi k (i + 1/2) / n) of values
   2 - 2 cos(pi k / n). Up to the longest times. */
static void test_path(void)
{
    enum { N = 6 };
    static const double ends[] = {0.5, 1000.0, 1e6, 2.4e8};
    uint32_t start[N + 1], index[2 * N];
    float x[N], y[N];
    rv_csr w;
    rv_diffusion *graph = NULL;
    rv_ctx ctx;
    size_t kept = 0;
    rv_test_ctx(&ctx);
    start[0] = 0;
    for (size_t i = 0; i < N; i++) {
        if (i > 0) index[kept++] = (uint32_t)(i - 1);
        if (i + 1 < N) index[kept++] = (uint32_t)(i + 1);
        start[i + 1] = (uint32_t)kept;
    }
    memset(&w, 0, sizeof w);
    w.rows = w.cols = N;
    w.start = start;
    w.index = index;
    RV_OKAY(&ctx, rv_diffusion_create_csr(&ctx, RV_LAPLACIAN_PLAIN, &w, &graph));
    if (!graph) return;
    RV_NEAR(rv_diffusion_bound(graph), 4.0, 0.0);
    for (size_t e = 0; e < RV_COUNT_OF(ends); e++) {
        const float t = (float)ends[e];
        if (e > 1 && RV_TEST_SCALE > 1) continue;
        for (size_t k = 0; k < N; k++) {
            const double value = 2.0 - 2.0 * cos(3.14159265358979324 * (double)k / (double)N);
            for (size_t i = 0; i < N; i++)
                x[i] = (float)cos(3.14159265358979324 * (double)k * ((double)i + 0.5) / (double)N);
            if (e > 2 && k > 1) continue;
            RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, &t, 1, x, 1, y, NULL));
            for (size_t i = 0; i < N; i++)
                RV_NEAR(y[i], exp(-ends[e] * value) * (double)x[i], 1.5e-7);
            RV_OKAY(&ctx, rv_diffusion_times(&ctx, graph, x, 1, y));
            for (size_t i = 0; i < N; i++) RV_NEAR(y[i], value * (double)x[i], 1e-6);
        }
    }
    rv_diffusion_destroy(graph);
}

/* Sums that stay, eigenvalues within the bound, adjoints, points without weight, components, dense
   against sparse. */
static void test_laws(void)
{
    enum { N = 16, SIZE = (int)COLS * N };
    float w[N * N], x[SIZE], z[SIZE], y[SIZE], back[SIZE];
    uint32_t start[N + 1], index[N * N];
    float value[N * N];
    for (int row = 0; row < 6; row++) {
        const rv_laplacian kind = kinds[row % 3];
        const int cut = row / 3;
        const double *degree;
        const float t = 7.0f, longest = 1e5f;
        double along = 0.0, other = 0.0, energy = 0.0, square = 0.0, pairs = 0.0;
        rv_heat_config transposed = {0, 1};
        rv_diffusion *graph = NULL, *sparse = NULL;
        rv_csr view;
        size_t kept;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("row", (size_t)row);
        make_weights(w, N, cut);
        grid(1, x, SIZE);
        grid(2, z, SIZE);
        RV_OKAY(&ctx, rv_diffusion_create_dense(&ctx, kind, w, N, &graph));
        RV_OKAY(&ctx, rv_csr_from_dense(&ctx, w, N, N, 0, start, index, value, N * N, &kept));
        memset(&view, 0, sizeof view);
        view.rows = view.cols = N;
        view.start = start;
        view.index = index;
        view.value = value;
        RV_OKAY(&ctx, rv_diffusion_create_csr(&ctx, kind, &view, &sparse));
        if (!graph || !sparse) return;
        degree = rv_diffusion_degrees(graph);
        for (size_t i = 0; i < N; i++) RV_NEAR(degree[i], rv_diffusion_degrees(sparse)[i], 0);
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, &t, 1, x, COLS, y, NULL));
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, sparse, NULL, &t, 1, x, COLS, back, NULL));
        for (size_t e = 0; e < SIZE; e++) RV_NEAR(y[e], back[e], 1e-6);
        for (size_t c = 0; c < COLS; c++) {
            double before = 0.0, after = 0.0;
            for (size_t i = 0; i < N; i++) {
                const double keep = kind == RV_LAPLACIAN_PLAIN ? 1.0
                                    : kind == RV_LAPLACIAN_SYM ? sqrt(degree[i]) : degree[i];
                before += keep * (double)x[i * COLS + c];
                after += keep * (double)y[i * COLS + c];
            }
            RV_NEAR(after, before, 1e-5);
            RV_CHECK(y[(N - 1) * COLS + c] == x[(N - 1) * COLS + c]); /* has no weight */
        }
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, &transposed, &t, 1, z, COLS, back, NULL));
        for (size_t e = 0; e < SIZE; e++) {
            along += (double)z[e] * (double)y[e];
            other += (double)back[e] * (double)x[e];
            square += (double)x[e] * (double)x[e];
        }
        RV_NEAR(along, other, 1e-5);
        RV_OKAY(&ctx, rv_diffusion_energy(&ctx, graph, x, COLS, &energy));
        if (kind != RV_LAPLACIAN_WALK)
            RV_CHECK(energy > 0.0 && energy < rv_diffusion_bound(graph) * square);
        for (size_t i = 0; i < N; i++) {
            for (size_t j = 0; j < i; j++) {
                for (size_t c = 0; c < COLS; c++) {
                    const double a = (double)x[i * COLS + c], b = (double)x[j * COLS + c];
                    const double da = kind == RV_LAPLACIAN_SYM ? sqrt(degree[i]) : 1.0;
                    const double db = kind == RV_LAPLACIAN_SYM ? sqrt(degree[j]) : 1.0;
                    if (w[i * N + j] > 0.0f)
                        pairs += (double)w[i * N + j] * (a / da - b / db) * (a / da - b / db);
                }
            }
        }
        if (kind != RV_LAPLACIAN_WALK) RV_NEAR(energy, pairs, 1e-5);
        /* long after: what is constant (PLAIN, WALK) on each component */
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, &longest, 1, x, COLS, y, NULL));
        for (size_t i = 1; i + 1 < N && kind != RV_LAPLACIAN_SYM; i++) {
            const int parted = cut && i == N / 2;
            RV_CHECK((fabsf(y[i * COLS] - y[(i - 1) * COLS]) > 1e-4f) == parted);
        }
        for (size_t e = 0; e < SIZE; e++) x[e] = 2.5f; /* stays */
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, &t, 1, x, COLS, y, NULL));
        for (size_t e = 0; e < SIZE && kind != RV_LAPLACIAN_SYM; e++) RV_NEAR(y[e], 2.5, 1e-8);
        rv_diffusion_destroy(graph);
        rv_diffusion_destroy(sparse);
    }
}

/* One point, equal points, neighbours in both directions, scales. */
static void test_graphs(void)
{
    static const float line[5] = {0, 1, 2, 3.5f, 9};
    static const uint32_t joined[] = {1, 0, 2, 1, 3, 2, 4, 3}; /* by the nearest one, both ways */
    float x[5] = {1, 2, 3, 4, 5}, y[5], times[4];
    const float t = 2.0f;
    rv_diffusion_config config = {RV_LAPLACIAN_WALK, 0, 1, 0};
    rv_diffusion *graph = NULL;
    rv_csr view;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_diffusion_create(&ctx, &config, line, 0, 5, 1, &graph));
    if (!graph) return;
    view = rv_diffusion_weights(graph);
    RV_EQUAL(view.start[5], 8);
    for (size_t e = 0; e < 8; e++) RV_EQUAL(view.index[e], joined[e]);
    RV_NEAR(view.value[0], exp(-0.5), 1e-7);
    RV_NEAR(view.value[4], exp(-0.5 * 2.25), 1e-7);
    rv_diffusion_destroy(graph);
    RV_OKAY(&ctx, rv_diffusion_create(&ctx, NULL, line, 0, 1, 1, &graph)); /* one point */
    RV_NEAR(rv_diffusion_bound(graph), 0, 0);
    RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, &t, 1, x, 1, y, NULL));
    RV_CHECK(y[0] == 1.0f);
    RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, NULL, 0, x, 1, y, NULL));
    rv_diffusion_destroy(graph);
    config.dense = 1;
    config.sigma = 1e-3f; /* too far for any weight, stride 2: points 0, 2, 9 */
    RV_OKAY(&ctx, rv_diffusion_create(&ctx, &config, line, 2, 3, 1, &graph));
    RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, &t, 1, x, 1, y, NULL));
    for (size_t i = 0; i < 3; i++) RV_CHECK(y[i] == x[i]);
    rv_diffusion_destroy(graph);
    rv_diffusion_destroy(NULL);
    rv_diffusion_scales(3.0f, 4, times);
    for (size_t s = 0; s < 4; s++) RV_NEAR(times[s], s, 0);
    rv_diffusion_scales(3.0f, 1, times);
    RV_NEAR(times[0], 3, 0);
}

/* Nine columns at once are nine columns one by one; times next to nothing. */
static void test_columns(void)
{
    enum { N = 16, MANY = 9 };
    static const float times[3] = {3.0f, 1e-3f, 1e-20f};
    float w[N * N], x[N * MANY], y[3 * N * MANY], one[N], alone[3 * N];
    rv_diffusion *graph = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make_weights(w, N, 0);
    grid(1, x, N * MANY);
    RV_OKAY(&ctx, rv_diffusion_create_dense(&ctx, RV_LAPLACIAN_SYM, w, N, &graph));
    if (!graph) return;
    RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, times, 3, x, MANY, y, NULL));
    for (size_t c = 0; c < MANY; c++) {
        for (size_t i = 0; i < N; i++) one[i] = x[i * MANY + c];
        RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, times, 3, one, 1, alone, NULL));
        for (size_t e = 0; e < 3 * N; e++) RV_NEAR(y[e * MANY + c], alone[e], 2e-7);
        for (size_t i = 0; i < N; i++) RV_CHECK(alone[2 * N + i] == one[i]);
    }
    rv_diffusion_destroy(graph);
}

static void test_errors(void)
{
    float w[9] = {9, 1, 2, 1, 9, 3, 2, 3, 9}, x[3] = {1, 2, 3}, y[3], t = 1.0f;
    uint32_t start[4] = {0, 1, 2, 2}, index[2] = {1, 0};
    float value[2] = {1, 1};
    rv_diffusion_config config = {RV_LAPLACIAN_PLAIN, 0, 0, 0};
    rv_heat_config heat = {0, 0};
    rv_diffusion *graph = NULL;
    rv_csr view;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
#define POINTS rv_diffusion_create(&ctx, &config, x, 0, 3, 1, &graph)
    config.kind = (rv_laplacian)3;
    RV_FAILS(&ctx, POINTS, RV_ERR_CONFIG, "kind is 3");
    config.kind = RV_LAPLACIAN_PLAIN;
    config.sigma = -1;
    RV_FAILS(&ctx, POINTS, RV_ERR_CONFIG, "sigma is -1");
    config.sigma = not_a_number();
    RV_FAILS(&ctx, POINTS, RV_ERR_CONFIG, "sigma is NaN");
    config.sigma = 0;
    x[2] = infinite();
    RV_FAILS(&ctx, POINTS, RV_ERR_ARG, "points[2]");
    RV_EQUAL(ctx.where, 2);
    x[2] = 3;
    RV_FAILS(&ctx, rv_diffusion_create(&ctx, NULL, x, 0, 0, 1, &graph), RV_ERR_ARG, "n is 0");
    RV_FAILS(&ctx, rv_diffusion_create(&ctx, NULL, x, 1, 1, 3, &graph), RV_ERR_ARG, "stride is 1");
    RV_FAILS(&ctx, rv_diffusion_create(&ctx, NULL, x, 0, 3, 1, NULL), RV_ERR_ARG, "out is NULL");
    w[5] = 4;
    RV_FAILS(&ctx, rv_diffusion_create_dense(&ctx, RV_LAPLACIAN_SYM, w, 3, &graph), RV_ERR_ARG,
             "weight 5 is 4, mirrored 3");
    w[5] = w[7] = -1;
    RV_FAILS(&ctx, rv_diffusion_create_dense(&ctx, RV_LAPLACIAN_SYM, w, 3, &graph), RV_ERR_ARG,
             "weight 5 is -1");
    w[5] = w[7] = 3;
    RV_FAILS(&ctx, rv_diffusion_create_dense(&ctx, RV_LAPLACIAN_SYM, w, 0, &graph), RV_ERR_ARG,
             "n is 0");
    RV_FAILS(&ctx, rv_diffusion_create_dense(&ctx, (rv_laplacian)3, w, 3, &graph), RV_ERR_CONFIG,
             "kind is 3");
    memset(&view, 0, sizeof view);
    view.rows = view.cols = 3;
    view.start = start;
    view.index = index;
    view.value = value;
#define SPARSE rv_diffusion_create_csr(&ctx, RV_LAPLACIAN_SYM, &view, &graph)
    value[1] = 2;
    RV_FAILS(&ctx, SPARSE, RV_ERR_ARG, "weight 0 is 1, mirrored 2");
    value[0] = value[1] = -1;
    RV_FAILS(&ctx, SPARSE, RV_ERR_ARG, "weight 0 is -1");
    index[1] = 2;
    RV_FAILS(&ctx, SPARSE, RV_ERR_ARG, "symmetric");
    index[1] = 0;
    start[1] = 0;
    index[0] = 0;
    index[1] = 1;
    RV_FAILS(&ctx, SPARSE, RV_ERR_ARG, "symmetric");
    view.cols = 4;
    RV_FAILS(&ctx, SPARSE, RV_ERR_ARG, "3 by 4");
    view.start = NULL;
    RV_FAILS(&ctx, SPARSE, RV_ERR_ARG, "start is NULL");
    RV_CHECK(graph == NULL);
    RV_OKAY(&ctx, rv_diffusion_create_dense(&ctx, RV_LAPLACIAN_PLAIN, w, 3, &graph));
    RV_NEAR(rv_diffusion_bound(graph), 10, 0); /* the diagonal is not looked at */
#define HEAT rv_diffusion_heat(&ctx, graph, &heat, &t, 1, x, 1, y, NULL)
    heat.tolerance = 2;
    RV_FAILS(&ctx, HEAT, RV_ERR_CONFIG, "tolerance is 2");
    heat.tolerance = 1e-15f;
    RV_OKAY(&ctx, HEAT);
    t = -1;
    RV_FAILS(&ctx, HEAT, RV_ERR_ARG, "times[0] is -1");
    t = 1.1e8f;
    RV_FAILS(&ctx, HEAT, RV_ERR_ARG, "times[0] is");
    t = not_a_number();
    RV_FAILS(&ctx, HEAT, RV_ERR_ARG, "times[0] is NaN");
    RV_FAILS(&ctx, rv_diffusion_heat(&ctx, graph, NULL, NULL, 1, x, 1, y, NULL), RV_ERR_ARG,
             "times");
    RV_FAILS(&ctx, rv_diffusion_heat(&ctx, NULL, NULL, &t, 1, x, 1, y, NULL), RV_ERR_ARG, "graph");
    RV_FAILS(&ctx, rv_diffusion_times(&ctx, graph, x, 0, y), RV_ERR_ARG, "cols is 0");
    RV_FAILS(&ctx, rv_diffusion_energy(&ctx, graph, x, 1, NULL), RV_ERR_ARG, "result");
    RV_EQUAL(rv_diffusion_times(NULL, graph, x, 1, y), RV_OK);
    rv_diffusion_destroy(graph);
#undef POINTS
#undef SPARSE
#undef HEAT
}

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n) body(arg, --n);
}

typedef struct large {
    size_t n;
    float *points, *y;
} large;

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const large *l = (const large *)arg;
    const float times[2] = {1, 3};
    rv_status status = RV_OK;
    for (int dense = 0; dense < 2 && !status; dense++) {
        rv_diffusion_config config = {RV_LAPLACIAN_SYM, 0, 4, 0};
        rv_diffusion *graph = NULL, *other = NULL;
        double energy;
        rv_csr view;
        config.dense = dense;
        status = rv_diffusion_create(ctx, &config, l->points, 0, l->n, 3, &graph);
        if (!status)
            status = rv_diffusion_heat(ctx, graph, NULL, times, 2, l->points, 3, l->y, NULL);
        if (!status) status = rv_diffusion_times(ctx, graph, l->points, 3, l->y);
        if (!status) status = rv_diffusion_energy(ctx, graph, l->points, 3, &energy);
        if (!status) {
            view = rv_diffusion_weights(graph);
            if (dense) {
                for (size_t e = 0; e < l->n * l->n; e++) l->y[e] = 0.5f;
                status = rv_diffusion_create_dense(ctx, RV_LAPLACIAN_WALK, l->y, l->n, &other);
            } else {
                status = rv_diffusion_create_csr(ctx, RV_LAPLACIAN_WALK, &view, &other);
            }
        }
        rv_diffusion_destroy(graph);
        rv_diffusion_destroy(other);
    }
    return status;
}

static void test_faults(void)
{
    const size_t n = RV_TEST_SCALE > 1 ? 40 : 300;
    const float times[2] = {1, 30};
    rv_diffusion *graph = NULL;
    rv_test_rng rng;
    rv_ctx ctx;
    large l;
    l.n = n;
    l.points = (float *)malloc(n * 3 * sizeof(float));
    l.y = (float *)malloc(n * n * sizeof(float));
    if (!l.points || !l.y) exit(2);
    rv_test_seed(&rng, 5);
    rv_test_fill(&rng, l.points, n * 3);
    RV_CHECK(rv_test_oom_sweep(sweep, &l) > 25);
    RV_CHECK(rv_test_cancel_sweep(sweep, &l) > 20);
    rv_test_ctx(&ctx); /* the same bits on several lanes */
    RV_OKAY(&ctx, rv_diffusion_create(&ctx, NULL, l.points, 0, n, 3, &graph));
    RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, times, 2, l.points, 3, l.y, NULL));
    rv_diffusion_destroy(graph);
    ctx.parallel = backwards;
    RV_OKAY(&ctx, rv_diffusion_create(&ctx, NULL, l.points, 0, n, 3, &graph));
    RV_OKAY(&ctx, rv_diffusion_heat(&ctx, graph, NULL, times, 2, l.points, 3, l.y + 6 * n, NULL));
    RV_CHECK(memcmp(l.y, l.y + 6 * n, 6 * n * sizeof(float)) == 0);
    rv_diffusion_destroy(graph);
    free(l.points);
    free(l.y);
}

int main(void)
{
    rv_test_begin("diffusion");
    RV_RUN(test_golden);
    RV_RUN(test_path);
    RV_RUN(test_laws);
    RV_RUN(test_graphs);
    RV_RUN(test_columns);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
