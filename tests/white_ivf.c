/* The inverted file. The iterator against a model that knows the lists: which rows it may give and
   in which order, and how many wait or have been measured by then. Lists that are work enough for
   all lanes with one row. What the proof of the invariants finds. */
#define RV_NO_SIMD /* looks above the kernels, which take long to compile */
#include "ivf_image.c"
#include "rv_test.h"

enum { DIM = 6, MOST = 900 };

static const uint32_t NONE = 0xFFFFFFFFu; /* no block, no place */

/* Small whole numbers: distances are exact in floats, and often equal. */
static void make_rows(rv_test_rng *rng, float *rows, size_t n)
{
    for (size_t i = 0; i < n * DIM; i++) rows[i] = (float)rv_test_below(rng, 30);
}

static int distance(const float *a, const float *b)
{
    int sum = 0;
    for (size_t j = 0; j < DIM; j++) sum += ((int)a[j] - (int)b[j]) * ((int)a[j] - (int)b[j]);
    return sum;
}

typedef struct model {
    const rv_ivf_iter *iter;
    const float *rows, *query;
    size_t n, step, batch;
    int exact;                      /* estimates are distances                               */
    unsigned char state[MOST];      /* of a row: 0 unknown, 1 in an open list, 2 given        */
    size_t opened, scanned, given;
    size_t pool, ready, floor, measured;
} model;

static size_t left(const model *m)
{
    return m->scanned - m->given;
}

/* Lists are opened while little is left of the open ones: at first, when nothing is, and when more
   than a sixteenth of their rows (and 256 more) has been given. The next time twice as many are. */
static void open_lists(model *m)
{
    const rv__ivf_lists *l = m->iter->q.l;
    while (m->opened < l->n_lists &&
           (m->opened == 0 || left(m) == 0 || m->given * 16 > m->scanned + 256)) {
        for (size_t i = 0; i < m->step && m->opened < l->n_lists; i++, m->opened++) {
            const uint32_t list = m->iter->q.order[m->opened];
            uint32_t rest = l->size[list];
            m->scanned += rest;
            m->pool += rest;
            for (uint32_t b = l->head[list]; rest > 0; b = l->next[b]) {
                for (uint32_t lane = 0; lane < 32 && rest > 0; lane++, rest--)
                    m->state[l->ids[(size_t)b * 32 + lane]] = 1;
            }
        }
        m->step *= 2;
        m->floor = m->ready;
    }
}

/* A batch is measured when what may be given of the measured rows is used up. Distances in the pool
   are right: all of the batch may be given; or estimates: half of what has been measured. */
static void measure(model *m)
{
    while (m->ready <= m->floor && m->pool > 0) {
        const size_t take = m->batch < m->pool ? m->batch : m->pool;
        m->pool -= take;
        m->ready += take;
        if (!m->exact) m->measured += take;
        m->floor = m->exact || m->pool == 0 ? m->ready - take : m->ready / 2;
    }
}

/* The nearest row of the open lists that was not given, ties by key (here: by number). */
static size_t nearest(const model *m)
{
    size_t best = m->n;
    for (size_t i = 0; i < m->n; i++) {
        if (m->state[i] != 1) continue;
        if (best == m->n || distance(m->rows + i * DIM, m->query) <
                                distance(m->rows + best * DIM, m->query))
            best = i;
    }
    return best;
}

static void walk(rv_ctx *ctx, const rv_ivf *index, const float *rows, size_t n, const float *query,
                 uint32_t n_probe, uint32_t batch)
{
    rv_ivf_iter *iter = NULL;
    rv_ivf_options options;
    rv_status status;
    rv_hit hit;
    model m;
    memset(&options, 0, sizeof options);
    options.n_probe = n_probe;
    options.rerank = batch;
    RV_OKAY(ctx, rv_ivf_iter_create(ctx, index, query, &options, &iter));
    if (!iter) return;
    memset(&m, 0, sizeof m);
    m.iter = iter;
    m.rows = rows;
    m.query = query;
    m.n = n;
    m.step = n_probe;
    m.batch = batch;
    m.exact = index->lists.n_sub == 0;
    for (;;) {
        open_lists(&m);
        measure(&m);
        status = rv_ivf_iter_next(ctx, iter, &hit);
        if (status) break;
        RV_CHECK(hit.key < n && m.state[hit.key] == 1);
        if (hit.key >= n) break;
        RV_EQUAL(hit.distance, distance(rows + (size_t)hit.key * DIM, query));
        if (m.exact || batch >= n) RV_EQUAL(hit.key, nearest(&m));
        m.state[hit.key] = 2;
        m.given++;
        m.ready--;
        RV_EQUAL(iter->n_ready, m.ready);
        RV_EQUAL(iter->n_pool, m.pool);
        RV_EQUAL(iter->q.trace.reranked, m.exact ? m.scanned : m.measured);
    }
    RV_EQUAL(status, RV_DONE);
    RV_EQUAL(m.given, n);
    rv_ivf_iter_destroy(iter);
}

static void test_iterator(void)
{
    static const uint32_t probes[] = {1, 4, 1000}, batches[] = {1, 7, 64, 1000};
    const size_t n = RV_SCALED((size_t)MOST, 300u);
    float *rows = (float *)malloc(n * DIM * sizeof(float)), query[DIM];
    rv_test_rng rng;
    rv_ctx ctx;
    if (!rows) exit(2);
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 401);
    make_rows(&rng, rows, n);
    for (int codes = (int)RV_IVF_CODES_NONE; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        rv_ivf_config config;
        rv_ivf *index = NULL;
        memset(&config, 0, sizeof config);
        config.dim = DIM;
        config.n_lists = 20;
        config.codes = (rv_ivf_codes)codes;
        RV_OKAY(&ctx, rv_ivf_create(&ctx, &config, &index));
        RV_OKAY(&ctx, rv_ivf_build(&ctx, index, NULL, rows, n));
        for (size_t i = 0; i < RV_COUNT_OF(probes) * RV_COUNT_OF(batches); i++) {
            rv_test_row("codes", (size_t)codes * 100 + i);
            make_rows(&rng, query, 1);
            walk(&ctx, index, rows, n, query, probes[i / RV_COUNT_OF(batches)],
                 batches[i % RV_COUNT_OF(batches)]);
        }
        rv_ivf_destroy(index);
    }
    free(rows);
}

/* ---- one row against many long centres ---- */

enum { WIDE_DIM = 4096, WIDE_LISTS = 600, WIDE_ROWS = 3 };

static void backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

/* An index with the centres given, as if it had learned them. */
static rv_ivf *wide_index(rv_ctx *ctx, const float *means)
{
    rv_ivf_config config;
    rv_ivf *index = NULL;
    rv__ivf_lists *l;
    rv_alloc alloc;
    memset(&config, 0, sizeof config);
    config.dim = WIDE_DIM;
    config.codes = RV_IVF_CODES_NONE;
    if (RV_OKAY(ctx, rv_ivf_create(ctx, &config, &index))) exit(2);
    l = &index->lists;
    alloc = l->alloc;
    rv__ivf_lists_free(l);
    RV_OKAY(ctx, rv__ivf_lists_init(ctx, l, &alloc, WIDE_DIM, RV_METRIC_L2, WIDE_LISTS));
    l->means = (float *)rv__get(&alloc, (size_t)WIDE_LISTS * WIDE_DIM, sizeof(float));
    if (!l->means) exit(2);
    memcpy(l->means, means, (size_t)WIDE_LISTS * WIDE_DIM * sizeof(float));
    l->trained = 1;
    RV_OKAY(ctx, rv__ivf_make_coarse(ctx, l));
    return index;
}

static double wide_distance(const float *a, const float *b)
{
    double sum = 0;
    for (size_t j = 0; j < WIDE_DIM; j++) {
        double d = (double)a[j] - (double)b[j];
        sum += d * d;
    }
    return sum;
}

/* Rows go to their nearest centres; searches that rank all centres poll on the way and can be
   stopped there. */
static void test_wide(void)
{
    const size_t all = (size_t)WIDE_LISTS * WIDE_DIM;
    float *means, *rows;
    rv_ivf_options options;
    rv_ivf *index;
    rv_ivf_iter *iter = NULL;
    rv_test_faults faults;
    rv_test_rng rng;
    rv_hit hits[WIDE_ROWS];
    size_t n_hits = 0, nearest[WIDE_ROWS];
    rv_ctx ctx;
    if (RV_TEST_SCALE > 16) return; /* 30 MB */
    means = (float *)malloc(all * sizeof(float));
    rows = (float *)malloc(WIDE_ROWS * WIDE_DIM * sizeof(float));
    if (!means || !rows) exit(2);
    rv_test_ctx_faults(&ctx, &faults);
    rv_test_seed(&rng, 409);
    rv_test_fill(&rng, means, all);
    rv_test_fill(&rng, rows, WIDE_ROWS * WIDE_DIM);
    index = wide_index(&ctx, means);
    for (size_t i = 0; i < WIDE_ROWS; i++) {
        nearest[i] = 0;
        for (size_t c = 1; c < WIDE_LISTS; c++) {
            if (wide_distance(rows + i * WIDE_DIM, means + c * WIDE_DIM) <
                wide_distance(rows + i * WIDE_DIM, means + nearest[i] * WIDE_DIM))
                nearest[i] = c;
        }
    }
    faults.polls = 0;
    RV_OKAY(&ctx, rv_ivf_add(&ctx, index, 0, rows));
    RV_CHECK(faults.polls > 1);
    ctx.parallel = backwards;
    ctx.workers = 3;
    for (size_t i = 1; i < WIDE_ROWS; i++)
        RV_OKAY(&ctx, rv_ivf_add(&ctx, index, i, rows + i * WIDE_DIM));
    for (size_t i = 0; i < WIDE_ROWS; i++)
        RV_EQUAL(index->lists.owner[index->place[i] / 32], nearest[i]);
    ctx.parallel = NULL;
    memset(&options, 0, sizeof options);
    options.n_probe = WIDE_LISTS;
    for (size_t k = 1; k < 4; k++) {
        rv_test_row("poll", k);
        faults.polls = 0;
        faults.cancel_at = k;
        RV_EQUAL(rv_ivf_iter_create(&ctx, index, rows, &options, &iter),
                 k < 3 ? RV_ERR_CANCELED : RV_OK);
        faults.polls = 0;
        RV_EQUAL(rv_ivf_range(&ctx, index, rows, 1e9f, &options, hits, WIDE_ROWS, &n_hits),
                 RV_ERR_CANCELED);
        faults.polls = 0;
        RV_EQUAL(rv_ivf_search_with(&ctx, index, rows, 1, &options, hits, &n_hits),
                 RV_ERR_CANCELED);
        faults.polls = 0;
        if (k < 3) RV_EQUAL(rv_ivf_add(&ctx, index, 99, rows), RV_ERR_CANCELED);
    }
    faults.cancel_at = 0;
    RV_EQUAL(rv_ivf_count(index), WIDE_ROWS);
    RV_OKAY(&ctx, rv_ivf_check(&ctx, index));
    RV_OKAY(&ctx, rv_ivf_search_with(&ctx, index, rows, 1, &options, hits, &n_hits));
    RV_CHECK(n_hits == 1 && hits[0].key == 0 && hits[0].distance < 1e-6f);
    rv_ivf_iter_destroy(iter);
    rv_ivf_destroy(index);
    RV_EQUAL(faults.live_blocks, 0);
    free(means);
    free(rows);
}

/* ---- the proof ---- */

/* Every kind of damage is found, and what is put right again is whole. */
static void test_check(void)
{
    rv_ivf_config config;
    rv_ivf *index = NULL;
    rv__ivf_lists *l;
    float rows[400 * DIM];
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 419);
    rv_test_fill(&rng, rows, 400 * DIM);
    memset(&config, 0, sizeof config);
    config.dim = DIM;
    config.n_lists = 2;
    RV_OKAY(&ctx, rv_ivf_create(&ctx, &config, &index));
    RV_OKAY(&ctx, rv_ivf_build(&ctx, index, NULL, rows, 400));
    for (uint64_t key = 0; key < 300; key++) RV_OKAY(&ctx, rv_ivf_remove(&ctx, index, key));
    l = &index->lists;
    RV_CHECK(l->spare != NONE);
    RV_OKAY(&ctx, rv_ivf_check(&ctx, index));
    for (size_t i = 0; i < 9; i++) {
        const uint32_t block = l->head[0];
        uint32_t *const fields[] = {&l->owner[block], &index->place[l->ids[(size_t)block * 32]],
                                    &l->size[0], &l->size[1], &l->tail[0], &l->head[0],
                                    &l->next[l->spare], &l->spare, &index->store.n_removed};
        const uint32_t values[] = {1, NONE, l->size[0] + 1, 0, l->tail[1], NONE,
                                   l->spare, NONE, 299};
        const uint32_t was = *fields[i];
        rv_test_row("damage", i);
        *fields[i] = values[i];
        RV_EQUAL(rv_ivf_check(&ctx, index), RV_ERR_FORMAT);
        RV_CHECK(ctx.message[0] != 0);
        *fields[i] = was;
        RV_OKAY(&ctx, rv_ivf_check(&ctx, index));
    }
    rv_ivf_destroy(index);
}

int main(void)
{
    rv_test_begin("white_ivf");
    RV_RUN(test_iterator);
    RV_RUN(test_wide);
    RV_RUN(test_check);
    return rv_test_end();
}
