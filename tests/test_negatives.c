/* Negatives: never a positive, distinct, by the strategy's rule, by the seed; faults. */
#include "grid_set.h"

enum { MOST = 300 };

typedef struct scene {
    float anchor[8], rows[MOST * 8];
    uint32_t positives[6], degrees[MOST];
    rv_negatives_io io;
} scene;

static void make_scene(scene *s, size_t n, size_t dim, size_t n_positives, uint64_t seed)
{
    rv_test_rng rng;
    rv_test_seed(&rng, seed);
    memset(s, 0, sizeof *s);
    rv_test_fill(&rng, s->anchor, dim);
    rv_test_fill(&rng, s->rows, n * dim);
    for (size_t i = 0; i < n; i++) s->degrees[i] = (uint32_t)rv_test_below(&rng, 40);
    for (size_t i = 0; i < n_positives; i++) s->positives[i] = (uint32_t)rv_test_below(&rng, n);
    s->io.anchor = s->anchor;
    s->io.candidates = s->rows;
    s->io.n = n;
    s->io.dim = dim;
    s->io.positives = s->positives;
    s->io.n_positives = n_positives;
    s->io.degrees = s->degrees;
    s->io.anchor_degree = 12;
}

static int is_positive(const scene *s, size_t i)
{
    for (size_t j = 0; j < s->io.n_positives; j++) {
        if (s->positives[j] == i) return 1;
    }
    return 0;
}

/* 1 - cosine in double, without the library. */
static double distance(const scene *s, size_t row)
{
    const float *a = s->anchor, *b = s->rows + row * s->io.dim;
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < s->io.dim; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return 1 - ab / sqrt(aa * bb);
}

/* Distinct, no positive, as many as there can be; the same again by the same seed; ids past the end
   stay. For every strategy, sizes and k from nothing to more than there are. */
static void test_contract(void)
{
    static const size_t sizes[] = {1, 2, 7, 100, 300}, wanted[] = {0, 1, 5, 60, 400};
    for (size_t kind = 0; rv_negatives_kind_at(kind); kind++) {
        for (size_t t = 0; t < 25; t++) {
            const size_t n = sizes[t / 5], k = wanted[t % 5];
            uint32_t ids[401], again[401];
            unsigned char seen[MOST] = {0};
            size_t n_ids = 99, n_again = 99, free_rows = 0;
            rv_negatives_config config;
            rv_ctx ctx;
            scene s;
            make_scene(&s, n, 8, n < 7 ? 1 : 6, t + 1);
            rv_test_ctx(&ctx);
            rv_test_row(rv_negatives_kind_at(kind)->name, t);
            memset(&config, 0, sizeof config);
            config.kind = (rv_negatives_kind)kind;
            ctx.seed = t + 1;
            for (size_t i = 0; i < n; i++) free_rows += !is_positive(&s, i);
            for (size_t i = 0; i < 401; i++) ids[i] = again[i] = 12345;
            RV_OKAY(&ctx, rv_negatives_select(&ctx, &config, &s.io, k, ids, &n_ids));
            RV_EQUAL(n_ids, k < free_rows ? k : free_rows);
            for (size_t i = 0; i < n_ids; i++) {
                RV_CHECK(ids[i] < n && !seen[ids[i]] && !is_positive(&s, ids[i]));
                if (ids[i] < n) seen[ids[i]] = 1;
            }
            RV_EQUAL(ids[n_ids], 12345);
            RV_OKAY(&ctx, rv_negatives_select(&ctx, &config, &s.io, k, again, &n_again));
            RV_CHECK(n_again == n_ids && memcmp(ids, again, sizeof ids) == 0);
        }
    }
}

static size_t pick(scene *s, rv_negatives_kind kind, size_t k, uint64_t seed, uint32_t *ids)
{
    rv_negatives_config config;
    size_t n_ids = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    ctx.seed = seed;
    memset(&config, 0, sizeof config);
    config.kind = kind;
    RV_OKAY(&ctx, rv_negatives_select(&ctx, &config, &s->io, k, ids, &n_ids));
    return n_ids;
}

static void test_hard(void)
{
    uint32_t ids[20];
    scene s;
    make_scene(&s, 200, 8, 6, 3);
    RV_EQUAL(pick(&s, RV_NEGATIVES_HARD, 20, 1, ids), 20);
    for (size_t i = 0; i < 20; i++) {
        size_t nearer = 0;
        for (size_t j = 0; j < 200; j++) {
            nearer += !is_positive(&s, j) && distance(&s, j) < distance(&s, ids[i]) - 1e-6;
        }
        RV_EQUAL(nearer, i);
    }
}

/* Classes by the rule in the header, in double: 0 within the margin, 1 beyond, 2 too near. */
static int semi_class(double d, double low, double margin)
{
    return d <= low ? 2 : d < low + margin ? 0 : 1;
}

static double farthest_positive(const scene *s)
{
    double low = 0;
    for (size_t i = 0; i < s->io.n_positives; i++) {
        double d = distance(s, s->positives[i]);
        low = d > low ? d : low;
    }
    return low;
}

static void test_semi_hard(void)
{
    for (size_t t = 0; t < 6; t++) {
        uint32_t ids[200];
        size_t n_ids, window = 0;
        double low;
        scene s;
        make_scene(&s, 200, 8, 1 + t % 3, t + 1);
        rv_test_row("scene", t);
        low = farthest_positive(&s);
        n_ids = pick(&s, RV_NEGATIVES_SEMI_HARD, 200, 1, ids);
        for (size_t i = 0; i < 200; i++) {
            window += !is_positive(&s, i) && semi_class(distance(&s, i), low, 0.1) == 0;
        }
        for (size_t i = 0; i < n_ids; i++) {
            double d = distance(&s, ids[i]), last = i ? distance(&s, ids[i - 1]) : 0;
            int now = semi_class(d, low, 0.1), before = i ? semi_class(last, low, 0.1) : 0;
            RV_CHECK(now >= before && (now == 0) == (i < window));
            if (now == before && now == 1) RV_CHECK(d >= last - 1e-6);
            if (now == before && now == 2) RV_CHECK(d <= last + 1e-6);
        }
    }
}

/* The nearest degrees by ratio; among equals any, by the seed. */
static void test_degree(void)
{
    uint32_t ids[30], other[30];
    double worst = 0;
    size_t better = 0;
    scene s;
    make_scene(&s, 300, 8, 6, 5);
    RV_EQUAL(pick(&s, RV_NEGATIVES_DEGREE, 30, 1, ids), 30);
    for (size_t i = 0; i < 30; i++) {
        double gap = fabs(log((1.0 + s.degrees[ids[i]]) / 13.0));
        RV_CHECK(gap >= worst - 1e-6);
        worst = gap > worst ? gap : worst;
    }
    for (size_t i = 0; i < 300; i++) {
        better += !is_positive(&s, i) && fabs(log((1.0 + s.degrees[i]) / 13.0)) < worst - 1e-6;
    }
    RV_CHECK(better <= 30);
    (void)pick(&s, RV_NEGATIVES_DEGREE, 30, 2, other);
    RV_CHECK(memcmp(ids, other, sizeof ids) != 0);
}

static void test_mixed(void)
{
    uint32_t ids[9], hard[9];
    rv_negatives_config config;
    size_t n_ids = 0;
    rv_ctx ctx;
    scene s;
    rv_test_ctx(&ctx);
    make_scene(&s, 200, 8, 6, 6);
    memset(&config, 0, sizeof config);
    (void)pick(&s, RV_NEGATIVES_HARD, 9, 1, hard);
    (void)pick(&s, RV_NEGATIVES_MIXED, 9, 1, ids);
    RV_CHECK(memcmp(ids, hard, 5 * sizeof *ids) == 0); /* half of 9, rounded up */
    RV_CHECK(memcmp(ids, hard, sizeof ids) != 0);
    config.kind = RV_NEGATIVES_MIXED;
    config.hard_share = 1;
    RV_OKAY(&ctx, rv_negatives_select(&ctx, &config, &s.io, 9, ids, &n_ids));
    RV_CHECK(memcmp(ids, hard, sizeof ids) == 0);
}

/* How often each candidate is chosen, against what the rule says; within five deviations. */
static void count_picks(scene *s, rv_negatives_kind kind, const double *share, size_t n)
{
    const size_t turns = RV_SCALED(20000, 2000);
    size_t counts[MOST] = {0};
    for (size_t t = 0; t < turns; t++) {
        uint32_t id = 0;
        RV_EQUAL(pick(s, kind, 1, t + 1, &id), 1);
        counts[id]++;
    }
    for (size_t i = 0; i < n; i++) {
        double mean = (double)turns * share[i];
        rv_test_row("candidate", i);
        RV_NEAR((double)counts[i], mean, 5 * sqrt(mean * (1 - share[i])) + 1e-9);
    }
}

static void test_random(void)
{
    double share[10];
    scene s;
    make_scene(&s, 10, 8, 2, 8);
    for (size_t i = 0; i < 10; i++) share[i] = is_positive(&s, i) ? 0 : 1;
    {
        double sum = 0;
        for (size_t i = 0; i < 10; i++) sum += share[i];
        for (size_t i = 0; i < 10; i++) share[i] /= sum;
    }
    count_picks(&s, RV_NEGATIVES_RANDOM, share, 10);
}

/* Within the margin every candidate is as likely as any other. */
static void test_semi_hard_share(void)
{
    double share[40], window = 0;
    scene s;
    make_scene(&s, 40, 3, 1, 31);
    for (uint32_t p = 0; p < 40 && window < 3; p++) { /* a positive with some to choose from */
        double low = distance(&s, p);
        s.positives[0] = p;
        window = 0;
        for (size_t i = 0; i < 40; i++) {
            share[i] = i != p && semi_class(distance(&s, i), low, 0.1) == 0;
            window += share[i];
        }
    }
    RV_CHECK(window >= 3);
    for (size_t i = 0; i < 40; i++) share[i] /= window;
    count_picks(&s, RV_NEGATIVES_SEMI_HARD, share, 40);
}

/* P in proportion to min(1 / q(0.5), 1 / q(x)) (Wu et al.), by pow() in double; the same point and
   the opposite one are among the candidates. */
static void test_distance_weighted(void)
{
    static const size_t dims[] = {2, 3, 4, 8};
    for (size_t t = 0; t < RV_COUNT_OF(dims); t++) {
        const size_t dim = dims[t], n = 12;
        double share[12], sum = 0;
        scene s;
        make_scene(&s, n, dim, 1, 20 + t);
        for (size_t i = 0; i < dim; i++) {
            s.rows[i] = s.anchor[i];
            s.rows[dim + i] = -s.anchor[i];
        }
        s.positives[0] = 5;
        for (size_t i = 0; i < n; i++) {
            double x = sqrt(fabs(2 * distance(&s, i))), w = 0, most;
            const double a = (double)dim - 2, b = ((double)dim - 3) / 2;
            most = 1 / (pow(0.5, a) * pow(1 - 0.25 / 4, b));
            if (i == 0) w = a > 0 ? most : 1; /* x = 0 */
            else if (i == 1) w = b > 0 ? most : b < 0 ? 0 : 1 / pow(2.0, a); /* x = 2 */
            else w = 1 / (pow(x, a) * pow(1 - x * x / 4, b));
            w = w > most ? most : w;
            share[i] = i == 5 ? 0 : w;
            sum += share[i];
        }
        for (size_t i = 0; i < n; i++) share[i] /= sum;
        count_picks(&s, RV_NEGATIVES_DISTANCE_WEIGHTED, share, n);
    }
}

static void test_in_batch(void)
{
    uint32_t ids[10];
    size_t n_ids = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_negatives_in_batch(&ctx, 5, 1, 3, 0, ids, &n_ids));
    RV_EQUAL(n_ids, 3);
    RV_CHECK(ids[0] == 0 && ids[1] == 2 && ids[2] == 4);
    RV_OKAY(&ctx, rv_negatives_in_batch(&ctx, 5, 1, 3, 1, ids, &n_ids));
    RV_EQUAL(n_ids, 4);
    RV_OKAY(&ctx, rv_negatives_in_batch(&ctx, 5, 1, 1, 0, ids, &n_ids));
    RV_EQUAL(n_ids, 4);
    RV_OKAY(&ctx, rv_negatives_in_batch(&ctx, 2, 0, 1, 0, ids, &n_ids));
    RV_EQUAL(n_ids, 0);
    RV_OKAY(&ctx, rv_negatives_in_batch(&ctx, 1, 0, 0, 0, NULL, &n_ids));
    RV_EQUAL(n_ids, 0);
    RV_FAILS(&ctx, rv_negatives_in_batch(&ctx, 0, 0, 0, 0, ids, &n_ids), RV_ERR_ARG, "batch, 0");
    RV_FAILS(&ctx, rv_negatives_in_batch(&ctx, 5, 5, 0, 0, ids, &n_ids), RV_ERR_ARG, "anchor 5");
    RV_FAILS(&ctx, rv_negatives_in_batch(&ctx, 5, 0, 5, 0, ids, &n_ids), RV_ERR_ARG, "positive 5");
    RV_FAILS(&ctx, rv_negatives_in_batch(&ctx, 5, 0, 1, 0, NULL, &n_ids), RV_ERR_ARG, "NULL");
}

static void test_errors(void)
{
    static const struct {
        rv_negatives_config config;
        const char *word;
    } rows[] = {{{(rv_negatives_kind)6, 0, 0, 0}, "kind is 6"},
                {{RV_NEGATIVES_RANDOM, -1, 0, 0}, "margin is -1"},
                {{RV_NEGATIVES_RANDOM, 2.5f, 0, 0}, "margin is 2.5; it must be above 0"},
                {{RV_NEGATIVES_RANDOM, 0, 1.5f, 0}, "cutoff is 1.5"},
                {{RV_NEGATIVES_RANDOM, 0, 0, 1.5f}, "hard_share is 1.5"}};
    uint32_t ids[4] = {7, 7, 7, 7};
    size_t n_ids = 77;
    rv_negatives_config config;
    rv_ctx ctx;
    scene s;
    rv_test_ctx(&ctx);
    make_scene(&s, 10, 8, 2, 1);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_test_row("config", i);
        RV_FAILS(&ctx, rv_negatives_select(&ctx, &rows[i].config, &s.io, 4, ids, &n_ids),
                 RV_ERR_CONFIG, rows[i].word);
    }
    rv_test_row(NULL, 0);
    memset(&config, 0, sizeof config);
    config.margin = not_a_number();
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, &s.io, 4, ids, &n_ids), RV_ERR_CONFIG,
             "margin is NaN");
    config.margin = 0;
    config.kind = RV_NEGATIVES_HARD;
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, NULL, 4, ids, &n_ids), RV_ERR_ARG, "io");
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, &s.io, 4, NULL, &n_ids), RV_ERR_ARG, "ids");
    s.rows[13] = not_a_number();
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, &s.io, 4, ids, &n_ids), RV_ERR_ARG,
             "candidates[13] is NaN");
    s.io.dim = 0;
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, &s.io, 4, ids, &n_ids), RV_ERR_ARG,
             "dim is 0");
    s.io.dim = 1;
    config.kind = RV_NEGATIVES_DISTANCE_WEIGHTED;
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, &s.io, 4, ids, &n_ids), RV_ERR_ARG,
             "dim is 1");
    config.kind = RV_NEGATIVES_SEMI_HARD;
    s.io.n_positives = 0;
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, &s.io, 4, ids, &n_ids), RV_ERR_ARG,
             "n_positives is 0");
    config.kind = RV_NEGATIVES_DEGREE;
    s.io.degrees = NULL;
    RV_FAILS(&ctx, rv_negatives_select(&ctx, &config, &s.io, 4, ids, &n_ids), RV_ERR_ARG,
             "degrees");
    s.io.n_positives = 2;
    s.positives[1] = 10;
    RV_FAILS(&ctx, rv_negatives_select(&ctx, NULL, &s.io, 4, ids, &n_ids), RV_ERR_ARG,
             "positives[1] is 10; it must be below n, 10");
    RV_EQUAL(ctx.where, 1);
    s.io.positives = NULL;
    RV_FAILS(&ctx, rv_negatives_select(&ctx, NULL, &s.io, 4, ids, &n_ids), RV_ERR_ARG, "positives");
    RV_EQUAL(n_ids, 77);
    RV_CHECK(ids[0] == 7);
    s.io.n = s.io.n_positives = 0; /* no candidates at all */
    RV_OKAY(&ctx, rv_negatives_select(&ctx, NULL, &s.io, 4, ids, &n_ids));
    RV_EQUAL(n_ids, 0);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    scene *s = (scene *)arg;
    rv_status status = RV_OK;
    for (size_t kind = 0; rv_negatives_kind_at(kind) && !status; kind++) {
        uint32_t ids[5] = {7};
        size_t n_ids = 77;
        rv_negatives_config config;
        memset(&config, 0, sizeof config);
        config.kind = (rv_negatives_kind)kind;
        status = rv_negatives_select(ctx, &config, &s->io, 5, ids, &n_ids);
        if (status) RV_CHECK(ids[0] == 7 && n_ids == 77);
    }
    return status;
}

static void test_faults(void)
{
    static scene s;
    make_scene(&s, 300, 8, 6, 1);
    RV_EQUAL(rv_test_oom_sweep(sweep, &s), 7);
    RV_EQUAL(rv_test_cancel_sweep(sweep, &s), 5);
}

int main(void)
{
    rv_test_begin("negatives");
    RV_RUN(test_contract);
    RV_RUN(test_hard);
    RV_RUN(test_semi_hard);
    RV_RUN(test_degree);
    RV_RUN(test_mixed);
    RV_RUN(test_random);
    RV_RUN(test_semi_hard_share);
    RV_RUN(test_distance_weighted);
    RV_RUN(test_in_batch);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
