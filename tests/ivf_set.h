/* Fixed sets for the tests of the inverted file, and the truth by brute force in double. */
#ifndef IVF_SET_H
#define IVF_SET_H

#include "rv_image_sign.h"
#include "rv_test.h"

enum { IVF_QUERIES = 12, IVF_K = 10 };

RV_TEST_FN void *ivf_room(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(2);
    return p;
}

/* Clusters of a few dimensions each, as real vectors lie. */
RV_TEST_FN void ivf_fill(rv_test_rng *rng, float *x, size_t n, size_t dim)
{
    const size_t clusters = 24, all = clusters * dim;
    float *centre = (float *)ivf_room(all * sizeof(float));
    rv_test_rng fixed;
    fixed.state = 99; /* rows and queries share the clusters */
    for (size_t i = 0; i < all; i++) centre[i] = rv_test_f32(&fixed);
    for (size_t i = 0; i < n; i++) {
        size_t c = rv_test_below(rng, clusters) * dim;
        float a = rv_test_f32(rng), b = rv_test_f32(rng);
        for (size_t j = 0; j < dim; j++) {
            x[i * dim + j] = centre[c + j] + 0.3f * a * centre[(c + 3 * j) % all] +
                             0.3f * b * centre[(c + 7 * j + 1) % all] + 0.15f * rv_test_f32(rng);
        }
    }
    free(centre);
}

RV_TEST_FN void ivf_fill_bits(rv_test_rng *rng, uint8_t *x, size_t n, size_t dim)
{
    const size_t bytes = (dim + 7) / 8;
    for (size_t i = 0; i < n; i++) {
        size_t c = rv_test_below(rng, 16);
        for (size_t j = 0; j < bytes; j++) {
            uint8_t noise = (uint8_t)(rv_test_u64(rng) & rv_test_u64(rng) & rv_test_u64(rng));
            x[i * bytes + j] = (uint8_t)(((c * 37 + j * 91) * (c + 3)) ^ noise);
        }
        if (dim % 8) x[i * bytes + bytes - 1] &= (uint8_t)((1u << (dim % 8)) - 1u);
    }
}

/* A metric of the caller's. */
RV_TEST_FN float ivf_custom(void *user, const void *a, const void *b, size_t dim)
{
    const float *x = (const float *)a, *y = (const float *)b;
    float sum = 0;
    (void)user;
    for (size_t i = 0; i < dim; i++) sum += fabsf(x[i] - y[i]) / (1 + fabsf(x[i]) + fabsf(y[i]));
    return sum;
}

RV_TEST_FN int ivf_is_bits(rv_metric metric)
{
    return metric == RV_METRIC_HAMMING || metric == RV_METRIC_JACCARD;
}

RV_TEST_FN double ivf_exact_bits(rv_metric metric, const uint8_t *x, const uint8_t *y, size_t dim)
{
    double differ = 0, both = 0, any = 0;
    for (size_t i = 0; i < dim; i++) {
        int a = x[i / 8] >> (i % 8) & 1, b = y[i / 8] >> (i % 8) & 1;
        differ += a != b;
        both += a & b;
        any += a | b;
    }
    return metric == RV_METRIC_HAMMING ? differ : any > 0 ? 1 - both / any : 0;
}

/* The distance by definition. */
RV_TEST_FN double ivf_exact(rv_metric metric, const void *query, const void *row, size_t dim)
{
    const float *x = (const float *)query, *y = (const float *)row;
    double sum = 0, xx = 0, yy = 0;
    if (ivf_is_bits(metric))
        return ivf_exact_bits(metric, (const uint8_t *)query, (const uint8_t *)row, dim);
    for (size_t i = 0; i < dim; i++) {
        double a = (double)x[i], b = (double)y[i], d = fabs(a - b);
        xx += a * a;
        yy += b * b;
        if (metric == RV_METRIC_L2) sum += d * d;
        else if (metric == RV_METRIC_L1) sum += d;
        else if (metric == RV_METRIC_LINF) sum = d > sum ? d : sum;
        else if (metric == RV_METRIC_CUSTOM) sum += d / (1 + fabs(a) + fabs(b));
        else sum -= a * b;
    }
    if (metric != RV_METRIC_COSINE) return sum;
    return xx > 0 && yy > 0 ? 1 + sum / sqrt(xx * yy) : xx > 0 || yy > 0;
}

/* ---- an index with its rows ---- */

typedef struct ivf_bed {
    rv_ctx ctx;
    rv_ivf_config config;
    rv_ivf *index;
    size_t n, dim, n_queries, bytes; /* bytes of a vector */
    unsigned char *rows, *queries;
} ivf_bed;

/* Rows and queries for b->config, b->n, b->n_queries. */
RV_TEST_FN void ivf_bed_fill(ivf_bed *b, uint64_t seed)
{
    rv_test_rng rng;
    rv_test_seed(&rng, seed);
    b->dim = b->config.dim;
    b->bytes = ivf_is_bits(b->config.metric) ? (b->dim + 7) / 8 : b->dim * sizeof(float);
    b->rows = (unsigned char *)ivf_room(b->n * b->bytes);
    b->queries = (unsigned char *)ivf_room(b->n_queries * b->bytes);
    if (ivf_is_bits(b->config.metric)) {
        ivf_fill_bits(&rng, b->rows, b->n, b->dim);
        ivf_fill_bits(&rng, b->queries, b->n_queries, b->dim);
    } else {
        ivf_fill(&rng, (float *)(void *)b->rows, b->n, b->dim);
        ivf_fill(&rng, (float *)(void *)b->queries, b->n_queries, b->dim);
    }
}

/* Config, context, rows and queries; no index yet. */
RV_TEST_FN void ivf_bed_make(ivf_bed *b, rv_metric metric, rv_ivf_codes codes, size_t n, size_t dim)
{
    memset(b, 0, sizeof *b);
    rv_test_ctx(&b->ctx);
    b->config.metric = metric;
    b->config.codes = codes;
    b->config.dim = (uint32_t)dim;
    b->config.type = ivf_is_bits(metric) ? RV_DTYPE_U1 : RV_DTYPE_F32;
    b->config.custom = metric == RV_METRIC_CUSTOM ? ivf_custom : NULL;
    b->n = n;
    b->n_queries = IVF_QUERIES;
    ivf_bed_fill(b, 1 + dim);
}

/* An index of n rows with keys 0..n-1, built at once. */
RV_TEST_FN int ivf_bed_open(ivf_bed *b, rv_metric metric, rv_ivf_codes codes, size_t n, size_t dim)
{
    ivf_bed_make(b, metric, codes, n, dim);
    if (RV_OKAY(&b->ctx, rv_ivf_create(&b->ctx, &b->config, &b->index))) return 0;
    return RV_OKAY(&b->ctx, rv_ivf_build(&b->ctx, b->index, NULL, b->rows, n)) == RV_OK;
}

RV_TEST_FN void ivf_bed_close(ivf_bed *b)
{
    rv_ivf_destroy(b->index);
    free(b->rows);
    free(b->queries);
    memset(b, 0, sizeof *b);
}

RV_TEST_FN const unsigned char *ivf_bed_query(const ivf_bed *b, size_t q)
{
    return b->queries + q * b->bytes;
}

/* Distance of query q to the row of a key. */
RV_TEST_FN double ivf_bed_exact(const ivf_bed *b, size_t q, uint64_t key)
{
    return ivf_exact(b->config.metric, ivf_bed_query(b, q), b->rows + (size_t)key * b->bytes,
                     b->dim);
}

/* The k-th smallest distance to query q, infinity when there are fewer. live: [n], NULL: all. */
RV_TEST_FN double ivf_bed_kth(const ivf_bed *b, size_t q, size_t k, const unsigned char *live)
{
    double *best = (double *)ivf_room((k + 1) * sizeof(double)), result = HUGE_VAL;
    size_t count = 0;
    for (size_t i = 0; i < b->n; i++) {
        double d;
        size_t at;
        if (live && !live[i]) continue;
        d = ivf_bed_exact(b, q, i);
        if (count == k && d >= best[k - 1]) continue;
        at = count < k ? count++ : k - 1;
        for (; at > 0 && best[at - 1] > d; at--) best[at] = best[at - 1];
        best[at] = d;
    }
    if (count == k && k) result = best[k - 1];
    free(best);
    return result;
}

/* Hits are sorted, at their distances, live, and no key comes twice; returns how many are not
   farther than kth, for which rounding is made good. */
RV_TEST_FN size_t ivf_bed_found(const ivf_bed *b, size_t q, const rv_hit *hits, size_t n_hits,
                                const unsigned char *live, double kth)
{
    size_t found = 0;
    for (size_t i = 0; i < n_hits; i++) {
        double exact;
        RV_CHECK(hits[i].key < b->n && (!live || live[hits[i].key]));
        if (hits[i].key >= b->n) break;
        exact = ivf_bed_exact(b, q, hits[i].key);
        RV_NEAR(hits[i].distance, exact, 2e-5 * (1 + fabs(exact)));
        RV_CHECK(i == 0 || hits[i - 1].distance < hits[i].distance ||
                 (hits[i - 1].distance == hits[i].distance && hits[i - 1].key < hits[i].key));
        for (size_t j = 0; j < i; j++) RV_CHECK(hits[i].key != hits[j].key);
        found += exact <= kth + 1e-6 * (1 + fabs(exact));
    }
    return found;
}

/* Mean recall of IVF_K over all queries; kth: [n_queries] or NULL. */
RV_TEST_FN double ivf_bed_recall(ivf_bed *b, const rv_ivf_options *options,
                                 const unsigned char *live, const double *kth)
{
    rv_hit hits[IVF_K];
    size_t n_live = b->n, want, found = 0;
    for (size_t i = 0; i < b->n && live; i++) n_live -= !live[i];
    want = n_live < (size_t)IVF_K ? n_live : (size_t)IVF_K;
    for (size_t q = 0; q < b->n_queries; q++) {
        double last = kth ? kth[q] : ivf_bed_kth(b, q, want, live);
        size_t n_hits = 0;
        RV_OKAY(&b->ctx, rv_ivf_search_with(&b->ctx, b->index, ivf_bed_query(b, q), IVF_K, options,
                                            hits, &n_hits));
        RV_EQUAL(n_hits, want);
        found += ivf_bed_found(b, q, hits, n_hits, live, last);
    }
    return want ? (double)found / (double)(want * b->n_queries) : 1;
}

/* ---- forms ---- */

/* What an index can consist of. */
typedef struct ivf_form {
    rv_metric metric;
    rv_dtype type;
    rv_ivf_codes codes;
    int drop;
} ivf_form;

static const ivf_form ivf_forms[] = {
    {RV_METRIC_L2, RV_DTYPE_F32, RV_IVF_CODES_AUTO, 0},
    {RV_METRIC_COSINE, RV_DTYPE_F16, RV_IVF_CODES_PQ, 0},
    {RV_METRIC_IP, RV_DTYPE_I8, RV_IVF_CODES_NONE, 0},
    {RV_METRIC_COSINE, RV_DTYPE_F32, RV_IVF_CODES_RABITQ, 1},
    {RV_METRIC_IP, RV_DTYPE_F32, RV_IVF_CODES_PQ, 1},
    {RV_METRIC_L1, RV_DTYPE_BF16, RV_IVF_CODES_NONE, 0},
    {RV_METRIC_HAMMING, RV_DTYPE_U1, RV_IVF_CODES_NONE, 0},
    {RV_METRIC_CUSTOM, RV_DTYPE_F32, RV_IVF_CODES_NONE, 0},
};

/* An index of a form; removed: of every third row below 200, and one under a far key. */
RV_TEST_FN int ivf_bed_form(ivf_bed *b, size_t f, size_t n, size_t dim, int removed)
{
    ivf_bed_make(b, ivf_forms[f].metric, ivf_forms[f].codes, n, dim);
    b->config.type = ivf_forms[f].type;
    b->config.drop_vectors = ivf_forms[f].drop;
    b->config.n_lists = 9;
    b->config.iterations = 2;
    if (RV_OKAY(&b->ctx, rv_ivf_create(&b->ctx, &b->config, &b->index))) return 0;
    RV_OKAY(&b->ctx, rv_ivf_build(&b->ctx, b->index, NULL, b->rows, n));
    if (!removed) return 1;
    for (size_t i = 0; i < 200; i += 3) RV_OKAY(&b->ctx, rv_ivf_remove(&b->ctx, b->index, i));
    RV_OKAY(&b->ctx, rv_ivf_upsert(&b->ctx, b->index, 77777, b->rows));
    return 1;
}

RV_TEST_FN rv_custom_fn ivf_form_custom(size_t f)
{
    return ivf_forms[f].metric == RV_METRIC_CUSTOM ? ivf_custom : NULL;
}

/* ---- filters ---- */

/* Keys that are multiples of a number pass. */
RV_TEST_FN int ivf_pass(void *user, uint64_t key)
{
    return key % *(const uint64_t *)user == 0;
}

/* Codes from one kind to the last that a metric allows. */
RV_TEST_FN int ivf_last_codes(rv_metric metric)
{
    return metric == RV_METRIC_L2 || metric == RV_METRIC_IP || metric == RV_METRIC_COSINE
               ? (int)RV_IVF_CODES_RABITQ
               : (int)RV_IVF_CODES_NONE;
}

/* ---- images ---- */

/* The image on a multiple of 64; free with sign_aligned_free. */
RV_TEST_FN unsigned char *ivf_image(rv_ctx *ctx, const rv_ivf *index, size_t *bytes)
{
    unsigned char *image;
    RV_OKAY(ctx, rv_ivf_save(ctx, index, NULL, 0, bytes));
    image = sign_aligned(*bytes);
    RV_OKAY(ctx, rv_ivf_save(ctx, index, image, *bytes, bytes));
    return image;
}

/* Everything that can be done with an index whose image was not trusted. query: floats for any
   dimension up to 64, or bits. Returns how many keys the iterator gave. */
RV_TEST_FN size_t ivf_exercise(rv_ctx *ctx, rv_ivf *index, const float *query, int change)
{
    rv_ivf_stats stats;
    rv_ivf_options options;
    rv_filter filter;
    rv_ivf_iter *iter = NULL;
    rv_hit hits[10];
    float out[64];
    size_t n_hits = 0, given = 0;
    uint8_t bits = 0xA5;
    memset(&options, 0, sizeof options);
    memset(&filter, 0, sizeof filter);
    filter.bits = &bits;
    filter.n_bits = 8;
    rv_ivf_stats_get(index, &stats);
    (void)rv_ivf_search(ctx, index, query, 10, 0, hits, &n_hits);
    for (size_t i = 0; i < n_hits; i++) (void)rv_ivf_get(ctx, index, hits[i].key, out);
    options.filter = &filter;
    (void)rv_ivf_search_with(ctx, index, query, 5, &options, hits, &n_hits);
    options.n_probe = 1;
    options.rerank = 1;
    filter.selectivity = 1;
    (void)rv_ivf_search_with(ctx, index, query, 5, &options, hits, &n_hits);
    (void)rv_ivf_range(ctx, index, query, 1.0f, NULL, hits, 10, &n_hits);
    if (rv_ivf_iter_create(ctx, index, query, NULL, &iter) == RV_OK) {
        for (; given <= stats.count && rv_ivf_iter_next(ctx, iter, hits) == RV_OK; given++) {}
        rv_ivf_iter_destroy(iter);
    }
    if (!change) return given;
    for (uint64_t key = 0; key < 30; key++) (void)rv_ivf_remove(ctx, index, key);
    for (uint64_t key = 0; key < 5; key++) (void)rv_ivf_upsert(ctx, index, key * 7, query);
    (void)rv_ivf_compact(ctx, index);
    (void)rv_ivf_search(ctx, index, query, 10, 0, hits, &n_hits);
    return given;
}

#endif /* IVF_SET_H */
