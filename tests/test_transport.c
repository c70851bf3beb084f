/* Optimal transport: POT, definitions in double, optimality, faults. */
#include "grid_set.h"

#include "golden/transport.h"

enum { MOST = 23, PROJECTIONS = 6 };

typedef struct problem {
    float x[MOST * 4], y[MOST * 4], a[MOST], b[MOST], direction[PROJECTIONS * 4], cost[MOST * MOST];
    rv_cloud from, to;
    size_t dim;
    double p;
} problem;

static void make(problem *s, int n, int m, int dim, int weighted)
{
    memset(s, 0, sizeof *s);
    s->dim = (size_t)dim;
    s->from.n = (size_t)n;
    s->to.n = (size_t)m;
    s->from.points = grid(1, s->x, s->from.n * s->dim);
    s->to.points = grid(2, s->y, s->to.n * s->dim);
    grid(5, s->direction, PROJECTIONS * s->dim);
    if (!weighted) return;
    s->from.weights = grid(3, s->a, s->from.n);
    s->to.weights = grid(4, s->b, s->to.n);
    for (size_t i = 0; i < s->from.n; i++) s->a[i] = fabsf(s->a[i]) + 0.125f;
    for (size_t j = 0; j < s->to.n; j++) s->b[j] = fabsf(s->b[j]) + 0.125f;
    s->a[s->from.n / 2] = 0.0f;
}

/* The share of a point, in double. */
static double share_of(const rv_cloud *x, size_t i)
{
    double sum = 0.0;
    if (!x->weights) return 1.0 / (double)x->n;
    for (size_t k = 0; k < x->n; k++) sum += (double)x->weights[k];
    return (double)x->weights[i] / sum;
}

/* The t-quantile of a projected cloud: the least place that at least t lies below or at. */
static double quantile(const problem *s, const rv_cloud *x, size_t u, double t)
{
    double best = HUGE_VAL;
    for (size_t i = 0; i < x->n; i++) {
        double place = 0.0, mass = 0.0;
        for (size_t d = 0; d < s->dim; d++)
            place += (double)s->direction[u * s->dim + d] * (double)x->points[i * s->dim + d];
        for (size_t k = 0; k < x->n; k++) {
            double other = 0.0;
            for (size_t d = 0; d < s->dim; d++)
                other += (double)s->direction[u * s->dim + d] * (double)x->points[k * s->dim + d];
            if (other <= place) mass += share_of(x, k);
        }
        if (mass >= t && place < best) best = place;
    }
    return best;
}

/* SW_p by its integral: exact, as quantiles are constant between sums of equal shares. */
static double sliced(void *arg)
{
    const problem *s = (const problem *)arg;
    const size_t pieces = s->from.n * s->to.n;
    double sum = 0.0;
    for (size_t u = 0; u < PROJECTIONS; u++) {
        for (size_t k = 0; k < pieces; k++) {
            const double t = ((double)k + 0.5) / (double)pieces;
            sum += pow(fabs(quantile(s, &s->from, u, t) - quantile(s, &s->to, u, t)), s->p);
        }
    }
    return pow(sum / (double)pieces / (double)PROJECTIONS, 1.0 / s->p);
}

static void test_sliced_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_sliced); row++) {
        float d_x[21], d_y[21];
        double value = -1.0, alone = -1.0;
        rv_sliced_config config = {PROJECTIONS, 0, NULL};
        problem s;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        make(&s, rv_golden_sliced[row].n, rv_golden_sliced[row].m, rv_golden_sliced[row].dim,
             rv_golden_sliced[row].weighted);
        config.p = (float)rv_golden_sliced[row].p;
        config.directions = s.direction;
        RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, s.dim, &s.from, &s.to, &value, d_x, d_y));
        RV_NEAR(value, rv_golden_sliced[row].value, 8 * U * rv_golden_sliced[row].value);
        CHECK_ALL(d_x, rv_golden_sliced[row].d_x, s.from.n * s.dim, 64 * U);
        CHECK_ALL(d_y, rv_golden_sliced[row].d_y, s.to.n * s.dim, 64 * U);
        RV_OKAY(&ctx,
                rv_transport_sliced(&ctx, &config, s.dim, &s.from, &s.to, &alone, NULL, NULL));
        RV_CHECK(value == alone);
    }
}

static void test_sliced_slopes(void)
{
    static const double exponents[] = {1.5, 2.0, 3.0};
    for (size_t row = 0; row < 3; row++) {
        float d_x[21], d_y[21];
        double value = 0.0;
        rv_sliced_config config = {PROJECTIONS, 0, NULL};
        problem s;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("exponent", row);
        make(&s, 4, 5, 3, 0);
        s.p = exponents[row];
        config.p = (float)s.p;
        config.directions = s.direction;
        RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, 3, &s.from, &s.to, &value, d_x, d_y));
        RV_NEAR(value, sliced(&s), 1e-6);
        check_slopes(sliced, &s, s.x, d_x, 12, 1.0 / 1024.0, 1e-5);
        check_slopes(sliced, &s, s.y, d_y, 15, 1.0 / 1024.0, 1e-5);
    }
}

/* Distance 0 to itself in any order, symmetry, one point, strides. */
static void test_sliced_laws(void)
{
    const size_t count = RV_SCALED(20000u, 500u);
    double there = 0, back = 0, again = 0, square = 0;
    rv_sliced_config config = {64, 0, NULL};
    float wide[7 * 5], d_x[21];
    problem s;
    rv_cloud turned;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make(&s, 7, 7, 3, 0);
    for (size_t i = 0; i < 7; i++) /* the same points, last first, in longer rows */
        for (size_t d = 0; d < 5; d++) wide[i * 5 + d] = d < 3 ? s.x[(6 - i) * 3 + d] : 99.0f;
    turned = s.from;
    turned.points = wide;
    turned.stride = 5;
    for (int p = 1; p < 4; p++) {
        config.p = (float)p;
        RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, 3, &s.from, &turned, &there, d_x, NULL));
        RV_CHECK(there == 0.0);
        for (size_t i = 0; i < 21; i++) RV_CHECK(d_x[i] == 0.0f);
        RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, 3, &s.from, &s.to, &there, NULL, NULL));
        RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, 3, &s.to, &turned, &back, NULL, NULL));
        RV_NEAR(there, back, 1e-12);
        RV_CHECK(there > 0.1);
    }
    /* one point: u.d is a coordinate of d in a random frame, so the mean of its square is d^2 / 3;
       its variance is 4/45 d^4 */
    s.from.n = s.to.n = 1;
    config.p = 0;
    config.projections = (uint32_t)count;
    ctx.seed = 7;
    RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, 3, &s.from, &s.to, &there, NULL, NULL));
    RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, 3, &s.from, &s.to, &again, NULL, NULL));
    RV_CHECK(there == again);
    for (size_t d = 0; d < 3; d++)
        square += (double)(s.x[d] - s.y[d]) * (double)(s.x[d] - s.y[d]);
    RV_NEAR(there * there, square / 3.0, 4.0 * square * sqrt(4.0 / 45.0 / (double)count));
    ctx.seed = 8;
    RV_OKAY(&ctx, rv_transport_sliced(&ctx, &config, 3, &s.from, &s.to, &again, NULL, NULL));
    RV_CHECK(there != again);
}

static void test_directions(void)
{
    float few[5 * 9], more[50 * 9];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_transport_directions(&ctx, 5, 9, few));
    RV_OKAY(&ctx, rv_transport_directions(&ctx, 50, 9, more));
    RV_CHECK(memcmp(few, more, sizeof few) == 0);
    for (size_t i = 0; i < 50; i++) {
        double square = 0.0;
        for (size_t x = 0; x < 9; x++) square += (double)more[i * 9 + x] * (double)more[i * 9 + x];
        RV_NEAR(square, 1.0, 1e-6);
    }
    RV_OKAY(&ctx, rv_transport_directions(&ctx, 3, 1, few));
    for (size_t i = 0; i < 3; i++) RV_CHECK(few[i] == 1.0f || few[i] == -1.0f);
    RV_FAILS(&ctx, rv_transport_directions(&ctx, 5, 0, few), RV_ERR_ARG, "dim is 0");
    RV_FAILS(&ctx, rv_transport_directions(&ctx, 5, 2, NULL), RV_ERR_ARG, "out is NULL");
}

/* The plan on the line: its sums, its cost, and the same as the exact plan of any costs. */
static void test_line(void)
{
    for (int row = 0; row < 8; row++) {
        const float p = row % 4 == 0 ? 1.0f : row % 4 == 1 ? 2.0f : row % 4 == 2 ? 1.25f : 4.0f;
        double cost = 0.0, sum = 0.0, out[MOST] = {0}, in[MOST] = {0};
        rv_flow flow[2 * MOST];
        rv_transport_io io;
        rv_transport_result result;
        size_t count = 0;
        problem s;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("row", (size_t)row);
        make(&s, 11, 11 + row % 3, 1, row / 4);
        RV_OKAY(&ctx, rv_transport_line(&ctx, p, &s.from, &s.to, &cost, flow, &count));
        RV_CHECK(count >= 10 && count < s.from.n + s.to.n);
        for (size_t k = 0; k < count; k++) {
            const double gap = fabs((double)s.x[flow[k].from] - (double)s.y[flow[k].to]);
            sum += flow[k].mass * pow(gap, (double)p);
            out[flow[k].from] += flow[k].mass;
            in[flow[k].to] += flow[k].mass;
            if (k) RV_CHECK(s.x[flow[k].from] >= s.x[flow[k - 1].from]);
        }
        RV_NEAR(cost, sum, 1e-12);
        for (size_t i = 0; i < s.from.n; i++) RV_NEAR(out[i], share_of(&s.from, i), 1e-14);
        for (size_t j = 0; j < s.to.n; j++) RV_NEAR(in[j], share_of(&s.to, j), 1e-14);
        memset(&io, 0, sizeof io);
        RV_OKAY(&ctx, rv_transport_costs(&ctx, p, 1, &s.from, &s.to, s.cost));
        io.n = s.from.n;
        io.m = s.to.n;
        io.cost = s.cost;
        io.a = s.from.weights;
        io.b = s.to.weights;
        RV_OKAY(&ctx, rv_transport_exact(&ctx, &io, &result));
        RV_NEAR(result.cost, cost, 1e-6 * cost);
        RV_OKAY(&ctx, rv_transport_line(&ctx, p, &s.from, &s.to, &sum, NULL, NULL));
        RV_CHECK(sum == cost);
    }
}

/* Many points: runs that are merged, against the sums of a sorted sequence. */
static void test_line_long(void)
{
    const size_t n = RV_SCALED(20001u, 301u);
    float *x = (float *)malloc(2 * n * sizeof(float));
    double cost = 0.0;
    rv_cloud from = {NULL, NULL, 0, 0}, to = from;
    rv_ctx ctx;
    if (!x) exit(2);
    rv_test_ctx(&ctx);
    for (size_t i = 0; i < n; i++) x[i] = (float)((i * 7919) % n);
    for (size_t i = 0; i < n; i++) x[n + i] = (float)((i * 104729) % n) + 0.5f;
    from.points = x;
    to.points = x + n;
    from.n = to.n = n;
    RV_OKAY(&ctx, rv_transport_line(&ctx, 3.0f, &from, &to, &cost, NULL, NULL));
    RV_NEAR(cost, 0.125, 1e-12);
    free(x);
}

/* Sinkhorn in double, until nothing changes; what the envelope theorem speaks of. */
static double entropic(void *arg)
{
    const problem *s = (const problem *)arg;
    const size_t n = s->from.n, m = s->to.n;
    const double epsilon = 0.5;
    double f[MOST] = {0}, g[MOST] = {0}, value = 0.0;
    for (int step = 0; step < 500; step++) {
        for (size_t j = 0; j < m; j++) {
            double sum = 0.0;
            for (size_t i = 0; i < n; i++)
                sum += share_of(&s->from, i) * exp((f[i] - (double)s->cost[i * m + j]) / epsilon);
            g[j] = -epsilon * log(sum);
        }
        for (size_t i = 0; i < n; i++) {
            double sum = 0.0;
            for (size_t j = 0; j < m; j++)
                sum += share_of(&s->to, j) * exp((g[j] - (double)s->cost[i * m + j]) / epsilon);
            f[i] = -epsilon * log(sum);
        }
    }
    for (size_t i = 0; i < n; i++) value += share_of(&s->from, i) * f[i];
    for (size_t j = 0; j < m; j++) value += share_of(&s->to, j) * g[j];
    return value;
}

static void open_io(problem *s, rv_ctx *ctx, rv_transport_io *io, float *plan, float *f, float *g)
{
    memset(io, 0, sizeof *io);
    RV_OKAY(ctx, rv_transport_costs(ctx, 0, s->dim, &s->from, &s->to, s->cost));
    io->n = s->from.n;
    io->m = s->to.n;
    io->cost = s->cost;
    io->a = s->from.weights;
    io->b = s->to.weights;
    io->plan = plan;
    io->f = f;
    io->g = g;
}

static void check_marginals(const problem *s, const float *plan, double rows, double columns)
{
    for (size_t i = 0; i < s->from.n; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < s->to.n; j++) sum += (double)plan[i * s->to.n + j];
        RV_NEAR(sum, share_of(&s->from, i), rows);
    }
    for (size_t j = 0; j < s->to.n; j++) {
        double sum = 0.0;
        for (size_t i = 0; i < s->from.n; i++) sum += (double)plan[i * s->to.n + j];
        RV_NEAR(sum, share_of(&s->to, j), columns);
    }
}

static void test_plan_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_plan); row++) {
        const double exact = rv_golden_plan[row].exact, epsilon = rv_golden_plan[row].epsilon;
        float plan[MOST * MOST], f[MOST], g[MOST];
        rv_sinkhorn_config config = {0, 100000, 1e-7f};
        rv_transport_result result;
        rv_transport_io io;
        problem s;
        rv_ctx ctx;
        double dual = 0.0, value = rv_golden_plan[row].value;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        make(&s, rv_golden_plan[row].n, rv_golden_plan[row].m, rv_golden_plan[row].dim,
             rv_golden_plan[row].weighted);
        open_io(&s, &ctx, &io, plan, f, g);
        RV_OKAY(&ctx, rv_transport_exact(&ctx, &io, &result));
        RV_NEAR(result.cost, exact, 1e-12 * exact);
        RV_CHECK(result.value == result.cost);
        check_marginals(&s, plan, 4 * U, 4 * U);
        for (size_t i = 0; i < io.n; i++) {
            for (size_t j = 0; j < io.m; j++) {
                const double gap = (double)s.cost[i * io.m + j] - (double)f[i] - (double)g[j];
                RV_CHECK(gap > -1e-5);
                if (plan[i * io.m + j] > 0.0f) RV_NEAR(gap, 0.0, 1e-5);
            }
        }
        config.epsilon = (float)epsilon;
        RV_OKAY(&ctx, rv_transport_sinkhorn(&ctx, &config, &io, &result));
        RV_CHECK(result.error <= 1e-7 && result.iterations < 100000);
        check_marginals(&s, plan, 4 * U, 1e-6);
        RV_NEAR(result.cost, rv_golden_plan[row].cost, 1e-5 * exact);
        RV_NEAR(result.value, value, 1e-6 * fabs(value) + 1e-6 * exact);
        for (size_t i = 0; i < io.n; i++) dual += share_of(&s.from, i) * (double)f[i];
        for (size_t j = 0; j < io.m; j++) dual += share_of(&s.to, j) * (double)g[j];
        RV_NEAR(dual, result.value, 1e-5 * fabs(value) + 1e-5);
        for (size_t i = 0; i < io.n && i < 4; i++)
            for (size_t j = 0; j < io.m && j < 4; j++)
                RV_NEAR(plan[i * io.m + j], rv_golden_plan[row].corner[i * 4 + j], 2e-7);
    }
}

/* The entropic cost is above the exact one by at most epsilon log(min(n, m)); far costs and far
   epsilon stay finite; one iteration keeps rows. */
static void test_sinkhorn_limits(void)
{
    float plan[MOST * MOST];
    rv_sinkhorn_config config = {0, 200000, 0};
    rv_transport_result exact, result;
    rv_transport_io io;
    problem s;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make(&s, 8, 9, 2, 1);
    open_io(&s, &ctx, &io, plan, NULL, NULL);
    RV_OKAY(&ctx, rv_transport_exact(&ctx, &io, &exact));
    for (float epsilon = 1.0f; epsilon > 0.004f; epsilon *= 0.25f) {
        config.epsilon = epsilon;
        RV_OKAY(&ctx, rv_transport_sinkhorn(&ctx, &config, &io, &result));
        RV_CHECK(result.error <= 1e-6);
        RV_CHECK(result.cost > exact.cost - 1e-5 && result.value > exact.cost - 1e-5);
        RV_CHECK(result.value < exact.cost + (double)epsilon * log(8.0));
    }
    config.epsilon = 1e9f; /* the product of the weights */
    RV_OKAY(&ctx, rv_transport_sinkhorn(&ctx, &config, &io, &result));
    for (size_t i = 0; i < 8; i++)
        for (size_t j = 0; j < 9; j++)
            RV_NEAR(plan[i * 9 + j], share_of(&s.from, i) * share_of(&s.to, j), 1e-7);
    for (size_t e = 0; e < 72; e++) s.cost[e] = s.cost[e] * 1e6f - 3e7f;
    config.epsilon = 0.1f;
    config.iterations = 3;
    RV_OKAY(&ctx, rv_transport_sinkhorn(&ctx, &config, &io, &result));
    RV_EQUAL(result.iterations, 3);
    check_marginals(&s, plan, 4 * U, 1.0);
    RV_CHECK(result.error > 1e-6);
}

static void test_envelope(void)
{
    float plan[12], f[3], g[4];
    rv_sinkhorn_config config = {0.5f, 10000, 1e-7f};
    rv_transport_result result;
    rv_transport_io io;
    problem s;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make(&s, 3, 4, 2, 1);
    s.a[1] = 0.75f;
    open_io(&s, &ctx, &io, plan, f, g);
    RV_OKAY(&ctx, rv_transport_sinkhorn(&ctx, &config, &io, &result));
    RV_NEAR(result.value, entropic(&s), 1e-6);
    check_slopes(entropic, &s, s.cost, plan, 12, 1.0 / 256.0, 2e-6);
    /* by weights, moving mass from one to another: the shares stay shares */
    for (size_t i = 1; i < 3; i++) {
        const double h = 1.0 / 4096.0, whole = (double)s.a[0] + (double)s.a[1] + (double)s.a[2];
        double up, down;
        s.a[i] += (float)h;
        s.a[0] -= (float)h;
        up = entropic(&s);
        s.a[i] -= (float)(2.0 * h);
        s.a[0] += (float)(2.0 * h);
        down = entropic(&s);
        s.a[i] += (float)h;
        s.a[0] -= (float)h;
        RV_NEAR((up - down) / (2.0 * h) * whole, (double)f[i] - (double)f[0], 1e-5);
    }
}

static void test_errors(void)
{
    double value = 0;
    rv_sliced_config config = {0, 0, NULL};
    rv_sinkhorn_config entropy = {0, 0, 0};
    rv_transport_result result;
    rv_transport_io io;
    problem s;
    rv_flow flow[4];
    float plan[MOST * MOST];
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make(&s, 4, 5, 2, 1);
#define SLICED rv_transport_sliced(&ctx, &config, s.dim, &s.from, &s.to, &value, NULL, NULL)
    config.p = 0.5f;
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "p is 0.5");
    config.p = not_a_number();
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "p is NaN");
    config.p = 0;
    config.projections = 2000000;
    RV_FAILS(&ctx, SLICED, RV_ERR_CONFIG, "projections is 2000000");
    config.projections = 3;
    config.directions = s.direction;
    s.direction[2] = infinite();
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "directions[2]");
    config.directions = NULL;
    s.a[1] = -1.0f;
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "weights of x[1] is -1");
    for (size_t i = 0; i < 4; i++) s.a[i] = 0.0f;
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "all 0");
    s.from.weights = NULL;
    s.y[3] = not_a_number();
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "element 3 of y");
    RV_EQUAL(ctx.where, 3);
    s.y[3] = 0;
    s.to.stride = 1;
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "stride of y is 1");
    s.to.stride = 0;
    s.from.n = 0;
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "n of x is 0");
    s.from.n = 4;
    s.from.points = NULL;
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "x or its points");
    s.from.points = s.x;
    s.dim = 70000;
    RV_FAILS(&ctx, SLICED, RV_ERR_ARG, "dim is 70000");
    s.dim = 2;
    RV_FAILS(&ctx, rv_transport_sliced(&ctx, NULL, 2, &s.from, &s.to, NULL, NULL, NULL), RV_ERR_ARG,
             "distance is NULL");
    RV_EQUAL(rv_transport_sliced(NULL, NULL, 2, &s.from, &s.to, &value, NULL, NULL), RV_OK);
    RV_FAILS(&ctx, rv_transport_line(&ctx, 1, &s.from, &s.to, &value, flow, NULL), RV_ERR_ARG,
             "count");
    RV_FAILS(&ctx, rv_transport_costs(&ctx, 2, 2, &s.from, &s.to, NULL), RV_ERR_ARG,
             "cost is NULL");
    open_io(&s, &ctx, &io, plan, NULL, NULL);
    entropy.epsilon = -1.0f;
#define ENTROPY rv_transport_sinkhorn(&ctx, &entropy, &io, &result)
    RV_FAILS(&ctx, ENTROPY, RV_ERR_CONFIG, "epsilon is -1");
    entropy.epsilon = 1e-12f;
    RV_FAILS(&ctx, ENTROPY, RV_ERR_CONFIG, "costs span");
    entropy.epsilon = 0;
    entropy.tolerance = not_a_number();
    RV_FAILS(&ctx, ENTROPY, RV_ERR_CONFIG, "tolerance is NaN");
    entropy.tolerance = 0;
    entropy.iterations = 2000000;
    RV_FAILS(&ctx, ENTROPY, RV_ERR_CONFIG, "iterations is 2000000");
    entropy.iterations = 0;
    s.cost[7] = infinite();
    RV_FAILS(&ctx, ENTROPY, RV_ERR_ARG, "cost[7]");
    RV_FAILS(&ctx, rv_transport_exact(&ctx, &io, &result), RV_ERR_ARG, "cost[7]");
    io.cost = NULL;
    RV_FAILS(&ctx, ENTROPY, RV_ERR_ARG, "NULL");
    io.cost = s.cost;
    s.cost[7] = 1.0f;
    s.b[4] = infinite();
    RV_FAILS(&ctx, ENTROPY, RV_ERR_ARG, "b[4] is infinity");
    io.m = 0;
    RV_FAILS(&ctx, ENTROPY, RV_ERR_ARG, "m are 4 and 0");
#if SIZE_MAX > 0xFFFFFFFFu
    io.n = io.m = 0x7FFFFFFFu;
    RV_FAILS(&ctx, ENTROPY, RV_ERR_MEMORY, "no size");
#endif
#undef SLICED
#undef ENTROPY
}

/* Bodies last first, to be run by ctx->parallel. */
static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n) body(arg, --n);
}

typedef struct large {
    size_t n, m;
    float *cost, *plan;
} large;

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const large *l = (const large *)arg;
    const size_t n = l->n * l->m / 2;
    double value;
    rv_transport_result result;
    rv_transport_io io;
    rv_sinkhorn_config config = {1.0f, 5, 0};
    rv_cloud x = {NULL, NULL, 0, 0}, y = x;
    rv_status status;
    memset(&io, 0, sizeof io);
    io.n = l->n;
    io.m = l->m;
    io.cost = l->cost;
    io.plan = l->plan;
    status = rv_transport_sinkhorn(ctx, &config, &io, &result);
    if (!status) status = rv_transport_exact(ctx, &io, &result);
    x.points = l->cost;
    y.points = l->cost + n;
    x.n = y.n = n / 4;
    if (!status) status = rv_transport_sliced(ctx, NULL, 2, &x, &y, &value, l->plan, l->plan + n);
    x.n = y.n = n;
    if (!status) status = rv_transport_line(ctx, 1, &x, &y, &value, NULL, NULL);
    x.n = y.n = 30;
    return status ? status : rv_transport_costs(ctx, 3, 4, &x, &y, l->plan);
}

static void test_faults(void)
{
    const size_t side = RV_TEST_SCALE > 1 ? 30 : 70;
    rv_sinkhorn_config config = {0.25f, 50, 0};
    rv_transport_result one, two;
    rv_transport_io io;
    rv_test_rng rng;
    float *again;
    large l;
    rv_ctx ctx;
    l.n = side;
    l.m = side + 20;
    l.cost = (float *)malloc(l.n * l.m * sizeof(float));
    l.plan = (float *)malloc(2 * l.n * l.m * sizeof(float));
    if (!l.cost || !l.plan) exit(2);
    rv_test_seed(&rng, 3);
    rv_test_fill(&rng, l.cost, l.n * l.m);
    RV_EQUAL(rv_test_oom_sweep(sweep, &l), 11);
    RV_CHECK(rv_test_cancel_sweep(sweep, &l) > 12);
    memset(&io, 0, sizeof io); /* the same bits on several lanes */
    again = l.plan + l.n * l.m;
    io.n = l.n;
    io.m = l.m;
    io.cost = l.cost;
    io.plan = l.plan;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_transport_sinkhorn(&ctx, &config, &io, &one));
    ctx.parallel = backwards;
    io.plan = again;
    RV_OKAY(&ctx, rv_transport_sinkhorn(&ctx, &config, &io, &two));
    RV_CHECK(memcmp(l.plan, again, l.n * l.m * sizeof(float)) == 0);
    RV_CHECK(one.cost == two.cost && one.value == two.value && one.error == two.error);
    free(l.cost);
    free(l.plan);
}

int main(void)
{
    rv_test_begin("transport");
    RV_RUN(test_sliced_golden);
    RV_RUN(test_sliced_slopes);
    RV_RUN(test_sliced_laws);
    RV_RUN(test_directions);
    RV_RUN(test_line);
    RV_RUN(test_line_long);
    RV_RUN(test_plan_golden);
    RV_RUN(test_sinkhorn_limits);
    RV_RUN(test_envelope);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
