/* Fixed sets for the tests of the graph index, and the truth by brute force in double. */
#ifndef HNSW_SET_H
#define HNSW_SET_H

#include "rv_image_sign.h"
#include "rv_test.h"

/* Rows of a test: n, fewer when an instruction set is forced, which is to show that its kernels
   serve the index and changes nothing about the graph. */
#define HNSW_ROWS(n, forced, least) RV_SCALED(rv_test_forced() ? (forced) : (n), least)

typedef struct hnsw_set {
    size_t n, n_queries, dim;
    float *rows, *queries; /* [n, dim], [n_queries, dim] */
} hnsw_set;

/* Overlapping clusters of eight dimensions within dim, with a little noise in all of them. */
RV_TEST_FN void hnsw_set_row(rv_test_rng *rng, const float *map, size_t dim, float *out)
{
    const size_t cluster = rv_test_below(rng, 12);
    float z[8];
    for (size_t j = 0; j < 8; j++) z[j] = rv_test_f32(rng) + rv_test_f32(rng);
    for (size_t i = 0; i < dim; i++) {
        float x = map[(8 + cluster) * dim + i] + 0.05f * rv_test_f32(rng);
        for (size_t j = 0; j < 8; j++) x += 0.4f * z[j] * map[j * dim + i];
        out[i] = x;
    }
}

RV_TEST_FN void hnsw_set_make(hnsw_set *set, size_t n, size_t n_queries, size_t dim, uint64_t seed)
{
    rv_test_rng rng;
    float *map = (float *)malloc(20 * dim * sizeof(float));
    set->n = n;
    set->n_queries = n_queries;
    set->dim = dim;
    set->rows = (float *)malloc((n + 1) * dim * sizeof(float));
    set->queries = (float *)malloc((n_queries + 1) * dim * sizeof(float));
    if (!map || !set->rows || !set->queries) exit(2);
    rv_test_seed(&rng, seed);
    rv_test_fill(&rng, map, 20 * dim);
    for (size_t i = 0; i < n; i++) hnsw_set_row(&rng, map, dim, set->rows + i * dim);
    for (size_t i = 0; i < n_queries; i++) hnsw_set_row(&rng, map, dim, set->queries + i * dim);
    free(map);
}

RV_TEST_FN void hnsw_set_free(hnsw_set *set)
{
    free(set->rows);
    free(set->queries);
    memset(set, 0, sizeof *set);
}

/* Signs of a vector as bits. */
RV_TEST_FN void hnsw_set_bits(const float *x, size_t dim, uint8_t *bits)
{
    memset(bits, 0, (dim + 7) / 8);
    for (size_t i = 0; i < dim; i++) {
        if (x[i] > 0) bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << (i % 8));
    }
}

/* A metric of the caller's: squared differences, the first half of them weighted double. */
RV_TEST_FN float hnsw_custom(void *user, const void *a, const void *b, size_t dim)
{
    const float *x = (const float *)a, *y = (const float *)b;
    float sum = 0;
    (void)user;
    for (size_t i = 0; i < dim; i++)
        sum += (x[i] - y[i]) * (x[i] - y[i]) * (i < dim / 2 ? 2.0f : 1.0f);
    return sum;
}

/* The distance by definition. *mass: the sum of the magnitudes that rounding works on. */
RV_TEST_FN double hnsw_exact(rv_metric metric, const float *x, const float *y, size_t dim,
                             double *mass)
{
    double dot = 0, l2 = 0, l1 = 0, linf = 0, xx = 0, yy = 0, custom = 0, magnitude = 0;
    double differ = 0, both = 0, either = 0;
    for (size_t i = 0; i < dim; i++) {
        const double a = (double)x[i], b = (double)y[i], d = a > b ? a - b : b - a;
        dot += a * b;
        magnitude += fabs(a * b);
        xx += a * a;
        yy += b * b;
        l2 += d * d;
        l1 += d;
        linf = d > linf ? d : linf;
        custom += d * d * (i < dim / 2 ? 2 : 1);
        differ += (a > 0) != (b > 0);
        both += a > 0 && b > 0;
        either += a > 0 || b > 0;
    }
    *mass = 1;
    switch (metric) {
    case RV_METRIC_L2: *mass = l2 + 1e-3 * (xx + yy); return l2;
    case RV_METRIC_IP: *mass = magnitude; return -dot;
    case RV_METRIC_L1: *mass = l1 + 1e-3; return l1;
    case RV_METRIC_LINF: return linf;
    case RV_METRIC_HAMMING: return differ;
    case RV_METRIC_JACCARD: return either > 0 ? 1 - both / either : 0;
    case RV_METRIC_CUSTOM: *mass = custom + 1e-3 * (xx + yy); return custom;
    case RV_METRIC_COSINE:
    default:
        *mass = 2;
        if (!(xx > 0) || !(yy > 0)) return xx > 0 || yy > 0 ? 1 : 0;
        return 1 - dot / sqrt(xx * yy);
    }
}

typedef int (*hnsw_accept)(void *user, uint64_t key);

/* The k-th smallest distance among rows that pass (accept NULL: all), infinity when there are
   fewer. */
RV_TEST_FN double hnsw_kth(rv_metric metric, const float *rows, size_t n, size_t dim,
                           const float *query, size_t k, hnsw_accept accept, void *user)
{
    double *best = (double *)malloc((k + 1) * sizeof(double)), mass, result = HUGE_VAL;
    size_t count = 0;
    if (!best) exit(2);
    for (size_t i = 0; i < n; i++) {
        double d;
        size_t at;
        if (accept && !accept(user, (uint64_t)i)) continue;
        d = hnsw_exact(metric, query, rows + i * dim, dim, &mass);
        if (count == k && d >= best[k - 1]) continue;
        at = count < k ? count++ : k - 1;
        while (at > 0 && best[at - 1] > d) {
            best[at] = best[at - 1];
            at--;
        }
        best[at] = d;
    }
    if (count == k && k) result = best[k - 1];
    free(best);
    return result;
}

/* Hits are sorted, have no key twice, and every key passes. */
RV_TEST_FN void hnsw_check_hits(const rv_hit *hits, size_t n, hnsw_accept accept, void *user)
{
    for (size_t i = 0; i < n; i++) {
        if (i) {
            RV_CHECK(hits[i - 1].distance < hits[i].distance ||
                     (!(hits[i - 1].distance > hits[i].distance) && hits[i - 1].key < hits[i].key));
        }
        for (size_t j = 0; j < i; j++) RV_CHECK(hits[i].key != hits[j].key);
        if (accept) RV_CHECK(accept(user, hits[i].key));
    }
}

/* Hits that belong to the k nearest; a tie with the k-th belongs. rows: by key. */
RV_TEST_FN size_t hnsw_found(rv_metric metric, const float *rows, size_t dim, const float *query,
                             const rv_hit *hits, size_t n_hits, double kth)
{
    size_t found = 0;
    for (size_t i = 0; i < n_hits; i++) {
        double mass, d = hnsw_exact(metric, query, rows + (size_t)hits[i].key * dim, dim, &mass);
        found += d <= kth + 1e-12 * mass;
    }
    return found;
}

/* ---- images ---- */

/* Everything that can be done with an index whose image was not trusted. query: floats for any
   dimension up to 64, or bits. */
RV_TEST_FN void hnsw_exercise(rv_hnsw *index, const float *query, int change)
{
    rv_hnsw_stats stats;
    rv_hnsw_options options;
    rv_filter filter;
    rv_hnsw_iter *iter = NULL;
    rv_hit hits[10];
    size_t n_hits = 0;
    uint8_t bits = 0xA5;
    memset(&options, 0, sizeof options);
    memset(&filter, 0, sizeof filter);
    filter.bits = &bits;
    filter.n_bits = 8;
    rv_hnsw_stats_get(index, &stats);
    (void)rv_hnsw_check(NULL, index);
    (void)rv_hnsw_search(NULL, index, query, 10, 0, hits, &n_hits);
    options.filter = &filter;
    (void)rv_hnsw_search_with(NULL, index, query, 5, &options, hits, &n_hits);
    filter.selectivity = 1;
    (void)rv_hnsw_search_with(NULL, index, query, 5, &options, hits, &n_hits);
    (void)rv_hnsw_range(NULL, index, query, 1.0f, NULL, hits, 10, &n_hits);
    if (rv_hnsw_iter_create(NULL, index, query, NULL, &iter) == RV_OK) {
        for (size_t i = 0; i < 200 && rv_hnsw_iter_next(NULL, iter, hits) == RV_OK; i++) {}
        rv_hnsw_iter_destroy(iter);
    }
    if (!change) return;
    for (uint64_t key = 0; key < 30; key++) (void)rv_hnsw_remove(NULL, index, key);
    for (uint64_t key = 0; key < 5; key++) (void)rv_hnsw_upsert(NULL, index, key * 7, query);
    (void)rv_hnsw_compact(NULL, index);
    (void)rv_hnsw_search(NULL, index, query, 10, 0, hits, &n_hits);
}

#endif /* HNSW_SET_H */
