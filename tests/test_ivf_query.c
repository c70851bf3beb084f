/* The inverted file: filters, range, iterator, batch, and that workers change nothing. */
#include "ivf_set.h"

/* ---- filters ---- */

/* Filters at 50, 10 and 1 %, by callback and by bits; nothing that is refused comes back, and
   enough of what passes is found. */
static void test_filter(void)
{
    static const uint64_t every[] = {2, 10, 100};
    for (int codes = (int)RV_IVF_CODES_NONE; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        ivf_bed b;
        unsigned char *live, *bits;
        if (!ivf_bed_open(&b, RV_METRIC_L2, (rv_ivf_codes)codes, RV_SCALED(1500u, 1000u), 40))
            return;
        live = (unsigned char *)ivf_room(b.n);
        bits = (unsigned char *)ivf_room(b.n / 8 + 1);
        for (size_t e = 0; e < RV_COUNT_OF(every); e++) {
            rv_ivf_options options;
            rv_filter filter;
            uint64_t modulus = every[e];
            rv_test_row("every", (size_t)modulus * 10 + (size_t)codes);
            memset(&options, 0, sizeof options);
            memset(&filter, 0, sizeof filter);
            filter.accept = ivf_pass;
            filter.user = &modulus;
            options.filter = &filter;
            memset(bits, 0, b.n / 8 + 1);
            for (size_t i = 0; i < b.n; i++) {
                live[i] = i % modulus == 0;
                bits[i / 8] |= (unsigned char)(live[i] << (i % 8));
            }
            RV_CHECK(ivf_bed_recall(&b, &options, live, NULL) >= 0.95);
            filter.accept = NULL;
            filter.bits = bits;
            filter.n_bits = b.n;
            filter.selectivity = 1.0 / (double)modulus;
            RV_CHECK(ivf_bed_recall(&b, &options, live, NULL) >= 0.95);
        }
        free(live);
        free(bits);
        ivf_bed_close(&b);
    }
}

/* Where fewer pass than are asked for all of them are found, wherever they are. */
static void test_filter_of_few(void)
{
    for (int codes = (int)RV_IVF_CODES_NONE; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        ivf_bed b;
        rv_ivf_options options;
        rv_filter filter;
        rv_hit hits[10];
        size_t n_hits = 0;
        unsigned char bits = 1;
        uint64_t modulus;
        rv_test_row("codes", (size_t)codes);
        if (!ivf_bed_open(&b, RV_METRIC_L2, (rv_ivf_codes)codes, 600, 40)) return;
        memset(&options, 0, sizeof options);
        memset(&filter, 0, sizeof filter);
        modulus = 200;
        filter.accept = ivf_pass;
        filter.user = &modulus;
        filter.selectivity = 1; /* a wrong claim costs time only */
        options.filter = &filter;
        options.n_probe = 1;
        RV_OKAY(&b.ctx,
                rv_ivf_search_with(&b.ctx, b.index, b.queries, 10, &options, hits, &n_hits));
        RV_EQUAL(n_hits, 3);
        for (size_t i = 0; i < n_hits; i++) RV_EQUAL(hits[i].key % 200, 0);
        RV_CHECK(ivf_bed_found(&b, 0, hits, n_hits, NULL, HUGE_VAL) == 3);
        filter.bits = &bits; /* key 0 only, which passes the callback too */
        filter.n_bits = 1;
        RV_OKAY(&b.ctx,
                rv_ivf_search_with(&b.ctx, b.index, b.queries, 10, &options, hits, &n_hits));
        RV_EQUAL(n_hits, 1);
        RV_EQUAL(hits[0].key, 0);
        bits = 0;
        RV_OKAY(&b.ctx,
                rv_ivf_search_with(&b.ctx, b.index, b.queries, 10, &options, hits, &n_hits));
        RV_EQUAL(n_hits, 0);
        ivf_bed_close(&b);
    }
}

/* ---- range ---- */

/* The radius lies between the 30th and the 31st distance: 30 rows are within, of all or of those
   that pass. */
static void test_range(void)
{
    static const rv_metric metrics[] = {RV_METRIC_L2, RV_METRIC_IP, RV_METRIC_COSINE, RV_METRIC_L1};
    for (size_t m = 0; m < 2 * RV_COUNT_OF(metrics); m++) {
        ivf_bed b;
        rv_hit *hits, few[2];
        rv_ivf_options options;
        rv_ivf_trace trace;
        rv_filter filter;
        uint64_t modulus = m % 2 ? 3 : 1;
        unsigned char *live;
        rv_test_row(rv_metric_name(metrics[m / 2]), m % 2);
        if (!ivf_bed_open(&b, metrics[m / 2], RV_IVF_CODES_AUTO, 700, 30)) return;
        hits = (rv_hit *)ivf_room(b.n * sizeof(rv_hit));
        live = (unsigned char *)ivf_room(b.n);
        for (size_t i = 0; i < b.n; i++) live[i] = i % modulus == 0;
        memset(&options, 0, sizeof options);
        memset(&filter, 0, sizeof filter);
        filter.accept = ivf_pass;
        filter.user = &modulus;
        options.n_probe = 100000;
        options.trace = &trace;
        options.filter = m % 2 ? &filter : NULL;
        for (size_t q = 0; q < 4; q++) {
            const unsigned char *query = ivf_bed_query(&b, q);
            const double inside = ivf_bed_kth(&b, q, 30, live),
                         outside = ivf_bed_kth(&b, q, 31, live);
            const float radius = (float)((inside + outside) / 2);
            size_t n_hits = 0, n_few = 0;
            RV_CHECK(outside - inside > 2e-6 * fabs(inside)); /* rounding cannot cross the gap */
            RV_OKAY(&b.ctx,
                    rv_ivf_range(&b.ctx, b.index, query, radius, &options, hits, b.n, &n_hits));
            RV_EQUAL(n_hits, 30);
            RV_EQUAL(ivf_bed_found(&b, q, hits, n_hits, live, inside), 30);
            RV_EQUAL(trace.reranked, b.n);
            RV_OKAY(&b.ctx, rv_ivf_range(&b.ctx, b.index, query, radius, &options, few, 2, &n_few));
            RV_EQUAL(n_few, 30); /* counted also beyond cap */
            RV_CHECK(few[0].key == hits[0].key && few[1].key == hits[1].key);
            RV_OKAY(&b.ctx,
                    rv_ivf_range(&b.ctx, b.index, query, radius, &options, NULL, 0, &n_few));
            RV_EQUAL(n_few, 30);
            RV_OKAY(&b.ctx, rv_ivf_range(&b.ctx, b.index, query, -1e30f, NULL, hits, 5, &n_few));
            RV_EQUAL(n_few, 0);
            RV_OKAY(&b.ctx,
                    rv_ivf_range(&b.ctx, b.index, query, HUGE_VALF, &options, hits, b.n, &n_few));
            RV_EQUAL(n_few, (b.n - 1) / modulus + 1);
        }
        free(hits);
        free(live);
        ivf_bed_close(&b);
    }
}

/* ---- iterator ---- */

/* Every row that passes exactly once; returns how many of the first IVF_K are among the nearest
   IVF_K. *backwards: how often a row was nearer than the one before. */
static size_t iterate(ivf_bed *b, size_t q, const rv_ivf_options *options,
                      const unsigned char *live, size_t *backwards)
{
    const double kth = ivf_bed_kth(b, q, IVF_K, live);
    unsigned char *seen = (unsigned char *)ivf_room(b->n);
    rv_ivf_iter *iter = NULL;
    rv_hit hit;
    double last = -HUGE_VAL;
    size_t given = 0, n_live = 0, good = 0;
    rv_status status;
    memset(seen, 0, b->n);
    *backwards = 0;
    for (size_t i = 0; i < b->n; i++) n_live += live[i];
    RV_OKAY(&b->ctx, rv_ivf_iter_create(&b->ctx, b->index, ivf_bed_query(b, q), options, &iter));
    while ((status = rv_ivf_iter_next(&b->ctx, iter, &hit)) == RV_OK) {
        size_t near_ones = ivf_bed_found(b, q, &hit, 1, live, kth);
        if (hit.key >= b->n) break;
        RV_CHECK(!seen[hit.key]);
        seen[hit.key] = 1;
        *backwards += (double)hit.distance < last;
        last = (double)hit.distance;
        good += given++ < (size_t)IVF_K ? near_ones : 0;
    }
    RV_EQUAL(status, RV_DONE);
    RV_EQUAL(rv_ivf_iter_next(&b->ctx, iter, &hit), RV_DONE);
    RV_EQUAL(b->ctx.status, RV_DONE);
    RV_EQUAL(given, n_live);
    rv_ivf_iter_destroy(iter);
    free(seen);
    return good;
}

static void test_iterator(void)
{
    for (int codes = (int)RV_IVF_CODES_NONE; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        ivf_bed b;
        unsigned char *live;
        if (!ivf_bed_open(&b, RV_METRIC_L2, (rv_ivf_codes)codes, 800, 24)) return;
        live = (unsigned char *)ivf_room(b.n);
        for (uint64_t modulus = 1; modulus <= 3; modulus += 2) {
            rv_ivf_options options;
            rv_filter filter;
            size_t good = 0, backwards = 0;
            rv_test_row("codes", (size_t)codes * 10 + (size_t)modulus);
            memset(&options, 0, sizeof options);
            memset(&filter, 0, sizeof filter);
            filter.accept = ivf_pass;
            filter.user = &modulus;
            options.filter = modulus > 1 ? &filter : NULL;
            for (size_t i = 0; i < b.n; i++) live[i] = i % modulus == 0;
            for (size_t q = 0; q < 6; q++) {
                good += iterate(&b, q, &options, live, &backwards);
                RV_CHECK(backwards < b.n / 20); /* nearly sorted */
            }
            if (getenv("RV_IVF_SHOW"))
                printf("iterator, codes %d: %lu of 60, %lu\n", codes, (unsigned long)good,
                       (unsigned long)backwards);
            RV_CHECK(good >= 57);
            /* all lists opened at once: exactly sorted without codes */
            options.n_probe = 1000;
            if (codes == (int)RV_IVF_CODES_NONE) {
                RV_EQUAL(iterate(&b, 0, &options, live, &backwards), IVF_K);
                RV_EQUAL(backwards, 0);
            }
        }
        free(live);
        ivf_bed_close(&b);
    }
    rv_ivf_iter_destroy(NULL);
}

/* ---- workers ---- */

/* Runs the bodies backwards on one thread. */
static void parallel_backwards(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (n > 0) body(arg, --n);
}

/* The same image and the same answers for any number of workers; a batch equals single searches. */
static void test_workers(void)
{
    enum { K = 7, ALL = 7 * (int)IVF_QUERIES };
    for (int codes = (int)RV_IVF_CODES_NONE; codes <= (int)RV_IVF_CODES_RABITQ; codes++) {
        ivf_bed b;
        rv_ctx many;
        rv_ivf *other = NULL;
        size_t bytes = 0, other_bytes = 0, n_hits[IVF_QUERIES], n_other[IVF_QUERIES], one = 0;
        unsigned char *image, *again;
        rv_hit hits[ALL], hits_other[ALL], single[K];
        rv_ivf_trace trace;
        rv_ivf_options options;
        rv_test_row("codes", (size_t)codes);
        if (!ivf_bed_open(&b, RV_METRIC_COSINE, (rv_ivf_codes)codes, 700, 33)) return;
        rv_test_ctx(&many);
        many.parallel = parallel_backwards;
        many.workers = 5;
        RV_OKAY(&many, rv_ivf_create(&many, &b.config, &other));
        RV_OKAY(&many, rv_ivf_build(&many, other, NULL, b.rows, b.n));
        image = ivf_image(&b.ctx, b.index, &bytes);
        again = ivf_image(&many, other, &other_bytes);
        RV_EQUAL(bytes, other_bytes);
        RV_CHECK(bytes == other_bytes && memcmp(image, again, bytes) == 0);
        memset(&options, 0, sizeof options);
        options.trace = &trace;
        RV_OKAY(&b.ctx, rv_ivf_search_batch(&b.ctx, b.index, b.queries, IVF_QUERIES, K, &options,
                                            hits, n_hits));
        RV_OKAY(&many, rv_ivf_search_batch(&many, other, b.queries, IVF_QUERIES, K, &options,
                                           hits_other, n_other));
        RV_EQUAL(trace.lists, IVF_QUERIES * 8);
        for (size_t q = 0; q < IVF_QUERIES; q++) {
            RV_EQUAL(n_hits[q], K);
            RV_EQUAL(n_other[q], K);
            RV_OKAY(&b.ctx,
                    rv_ivf_search(&b.ctx, b.index, ivf_bed_query(&b, q), K, 0, single, &one));
            RV_EQUAL(one, K);
            for (size_t i = 0; i < K; i++) {
                const rv_hit *x = &hits[q * K + i], *y = &hits_other[q * K + i];
                RV_CHECK(single[i].key == x->key && single[i].distance == x->distance);
                RV_CHECK(single[i].key == y->key && single[i].distance == y->distance);
            }
        }
        RV_OKAY(&b.ctx, rv_ivf_search_batch(&b.ctx, b.index, NULL, 0, K, NULL, NULL, NULL));
        sign_aligned_free(image);
        sign_aligned_free(again);
        rv_ivf_destroy(other);
        ivf_bed_close(&b);
    }
}

int main(void)
{
    rv_test_begin("ivf_query");
    RV_RUN(test_filter);
    RV_RUN(test_filter_of_few);
    RV_RUN(test_range);
    RV_RUN(test_iterator);
    RV_RUN(test_workers);
    return rv_test_end();
}
