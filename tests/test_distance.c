/* Distances through the public functions: exact references, the meaning of edge cases, properties
   of metrics. The kernels of every instruction set are compared in white_simd.c. */
#include "rv_test.h"

#include "golden/distance.h"

#define U (1.0 / 16777216.0) /* unit roundoff of float */

static float golden_element(size_t i, size_t v)
{
    return (float)((int)((i * 7919u + v * 104729u) % 401u) - 200) / 128.0f;
}

static float a32[1536], b32[1536];
static uint16_t a16[1536], b16[1536], ab16[1536], bb16[1536];

static void golden_vectors(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        a32[i] = golden_element(i, 1);
        b32[i] = golden_element(i, 2);
        a16[i] = rv_f16_from_f32(a32[i]);
        b16[i] = rv_f16_from_f32(b32[i]);
        ab16[i] = rv_bf16_from_f32(a32[i]);
        bb16[i] = rv_bf16_from_f32(b32[i]);
    }
}

/* The random walk of n roundings of partial sums; all but the cosine are exact to the inputs. */
static double golden_bound(size_t row, int metric)
{
    double size = rv_golden_distance[row].value[metric],
           walk = U * (3.0 + sqrt(rv_golden_distance[row].n));
    double cosine = rv_golden_distance[row].value[RV_METRIC_COSINE],
           dot = rv_golden_distance[row].value[RV_METRIC_IP];
    if (metric == RV_METRIC_LINF) return 0.0;
    if (metric == RV_METRIC_IP) size = rv_golden_distance[row].dot_size;
    if (metric == RV_METRIC_COSINE) {
        /* |a||b| = |dot| / |1 - cosine|, where that is known well */
        double norms = fabs(1.0 - cosine) > 1e-3 ? fabs(dot / (1.0 - cosine)) : 1e30;
        return walk * (1.0 + rv_golden_distance[row].dot_size / norms) + 4.0 * U;
    }
    return walk * size;
}

static void test_golden(void)
{
    static const rv_metric metrics[] = {RV_METRIC_L2, RV_METRIC_IP, RV_METRIC_COSINE, RV_METRIC_L1,
                                        RV_METRIC_LINF};
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_distance); row++) {
        const size_t n = (size_t)rv_golden_distance[row].n;
        const double *value = rv_golden_distance[row].value;
        golden_vectors(n);
        for (int metric = 0; metric < 5; metric++) {
            const double bound = golden_bound(row, metric), want = value[metric];
            rv_distance_f32 fn = rv_metric_find_f32(metrics[metric], RV_TEST_ISA);
            float out[3];
            rv_test_row(rv_metric_name(metrics[metric]), n);
            RV_CHECK(fn != NULL);
            if (fn) RV_NEAR((double)fn(a32, b32, n), want, bound);
            for (size_t r = 0; r < 3; r++) out[r] = -1.0f;
            rv_metric_many(metrics[metric], RV_DTYPE_F32, a32, b32, 0, 1, n, out);
            RV_NEAR((double)out[0], want, bound);
            rv_metric_many(metrics[metric], RV_DTYPE_F16, a32, b16, 0, 1, n, out);
            RV_NEAR((double)out[0], want, bound);
            rv_metric_many(metrics[metric], RV_DTYPE_BF16, a32, bb16, 0, 1, n, out);
            RV_NEAR((double)out[0], want, bound);
            RV_CHECK(out[1] == -1.0f);
        }
        rv_test_row("named functions", n);
        RV_NEAR((double)rv_l2sq_f32(a32, b32, n), value[0], golden_bound(row, 0));
        RV_NEAR((double)rv_dot_f32(a32, b32, n), -value[1], golden_bound(row, 1));
        RV_NEAR((double)rv_cosine_f32(a32, b32, n), value[2], golden_bound(row, 2));
        RV_NEAR((double)rv_l1_f32(a32, b32, n), value[3], golden_bound(row, 3));
        RV_NEAR((double)rv_linf_f32(a32, b32, n), value[4], 0.0);
        RV_NEAR((double)rv_l2sq_f16(a16, b16, n), value[0], golden_bound(row, 0));
        RV_NEAR((double)rv_dot_f16(a16, b16, n), -value[1], golden_bound(row, 1));
        RV_NEAR((double)rv_cosine_f16(a16, b16, n), value[2], golden_bound(row, 2));
        RV_NEAR((double)rv_l1_f16(a16, b16, n), value[3], golden_bound(row, 3));
        RV_NEAR((double)rv_l2sq_bf16(ab16, bb16, n), value[0], golden_bound(row, 0));
        RV_NEAR((double)rv_dot_bf16(ab16, bb16, n), -value[1], golden_bound(row, 1));
        RV_NEAR((double)rv_cosine_bf16(ab16, bb16, n), value[2], golden_bound(row, 2));
        {
            double norm = sqrt((double)rv_dot_f32(a32, a32, n));
            RV_NEAR((double)rv_norm_f32(a32, n), norm, norm * 2 * U);
        }
    }
}

/* I8 rows: the scale comes first and may be anything, negative and zero too. */
static void test_scaled_rows(void)
{
    static const float scales[] = {0.5f, -0.25f, 0.0f, 1e-35f, 3e35f};
    unsigned char row[4 + 33];
    float query[33], out;
    for (size_t s = 0; s < RV_COUNT_OF(scales); s++) {
        double dot = 0.0, size = 0.0, qq = 0.0, rr = 0.0;
        memcpy(row, &scales[s], 4);
        for (size_t i = 0; i < 33; i++) {
            int8_t c = (int8_t)((int)(i * 37 % 255) - 127);
            row[4 + i] = (unsigned char)c;
            query[i] = (float)i / 16.0f - 1.0f;
            dot += (double)query[i] * (double)scales[s] * c;
            size += fabs((double)query[i] * (double)scales[s] * c);
            qq += (double)query[i] * (double)query[i];
            rr += (double)scales[s] * c * (double)scales[s] * c;
        }
        rv_test_row("scale", s);
        rv_metric_many(RV_METRIC_IP, RV_DTYPE_I8, query, row, 0, 1, 33, &out);
        RV_NEAR((double)out, -dot, size * U * 10);
        rv_metric_many(RV_METRIC_COSINE, RV_DTYPE_I8, query, row, 0, 1, 33, &out);
        if (rr == 0.0) RV_CHECK(out == 1.0f);
        else RV_NEAR((double)out, 1.0 - dot / sqrt(qq * rr), 20 * U);
    }
}

static void test_empty_and_zero(void)
{
    const float zero[4] = {0, 0, 0, 0}, one[4] = {0, 1, 0, 0};
    const uint16_t zero16[4] = {0, 0, 0, 0}, one16[4] = {0, 0x3C00, 0, 0};
    const int8_t zero8[4] = {0, 0, 0, 0}, one8[4] = {0, 1, 0, 0};
    RV_CHECK(rv_dot_f32(one, one, 0) == 0.0f);
    RV_CHECK(rv_l2sq_f32(one, zero, 0) == 0.0f);
    RV_CHECK(rv_l1_f32(one, zero, 0) == 0.0f);
    RV_CHECK(rv_linf_f32(one, zero, 0) == 0.0f);
    RV_CHECK(rv_norm_f32(one, 0) == 0.0f);
    RV_CHECK(rv_cosine_f32(one, zero, 0) == 0.0f);
    RV_CHECK(rv_cosine_f32(zero, zero, 4) == 0.0f);
    RV_CHECK(rv_cosine_f32(one, zero, 4) == 1.0f);
    RV_CHECK(rv_cosine_f32(zero, one, 4) == 1.0f);
    RV_NEAR((double)rv_cosine_f32(one, one, 4), 0.0, 4 * U);
    RV_CHECK(rv_cosine_f16(zero16, zero16, 4) == 0.0f);
    RV_CHECK(rv_cosine_f16(one16, zero16, 4) == 1.0f);
    RV_CHECK(rv_cosine_bf16(zero16, zero16, 4) == 0.0f);
    RV_CHECK(rv_cosine_bf16(one16, zero16, 4) == 1.0f);
    RV_CHECK(rv_cosine_i8(zero8, zero8, 4) == 0.0f);
    RV_CHECK(rv_cosine_i8(one8, zero8, 4) == 1.0f);
    RV_NEAR((double)rv_cosine_i8(one8, one8, 4), 0.0, 4 * U);
    RV_EQUAL(rv_dot_i8(one8, one8, 0), 0);
    RV_EQUAL(rv_dot_u8((const uint8_t *)"\377\377", (const uint8_t *)"\377\001", 2),
             255 * 255 + 255);
    RV_EQUAL(rv_l2sq_u8((const uint8_t *)"\377\001", (const uint8_t *)"\001\377", 2),
             2 * 254 * 254);
    RV_EQUAL(rv_l2sq_i8(one8, zero8, 4), 1);
    RV_EQUAL(rv_l1_i8(one8, zero8, 4), 1);
    RV_EQUAL(rv_hamming_u1(NULL, NULL, 0), 0);
    RV_CHECK(rv_jaccard_u1(NULL, NULL, 0) == 0.0f);
}

/* A vector is at distance 0 of itself, to the last bits also under cosine. */
static void test_self(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 1);
    for (size_t n = 1; n <= 1536; n = n * 2 + n / 3 + 1) {
        float x[1536], scaled[1536];
        rv_test_fill(&rng, x, n);
        for (size_t i = 0; i < n; i++) scaled[i] = 1e-25f * x[i];
        rv_test_row("n", n);
        RV_CHECK(rv_l2sq_f32(x, x, n) == 0.0f);
        RV_CHECK(rv_l1_f32(x, x, n) == 0.0f);
        RV_CHECK(rv_linf_f32(x, x, n) == 0.0f);
        RV_NEAR((double)rv_cosine_f32(x, x, n), 0.0, 4 * U);
        RV_NEAR((double)rv_cosine_f32(x, scaled, n), 0.0,
                8 * U); /* squares below the range of floats */
    }
}

/* Spare bits of the last byte do not count. */
static void test_bits(void)
{
    uint8_t a[40], b[40];
    rv_test_rng rng;
    rv_test_seed(&rng, 2);
    for (size_t n = 0; n <= 300; n++) {
        uint32_t differ = 0, both = 0, either = 0;
        for (size_t i = 0; i < 40; i++) {
            a[i] = (uint8_t)rv_test_u64(&rng);
            b[i] = (uint8_t)rv_test_u64(&rng);
        }
        for (size_t i = 0; i < n; i++) {
            unsigned x = a[i / 8] >> i % 8 & 1u, y = b[i / 8] >> i % 8 & 1u;
            differ += x ^ y;
            both += x & y;
            either += x | y;
        }
        rv_test_row("n", n);
        RV_EQUAL(rv_hamming_u1(a, b, n), differ);
        RV_NEAR((double)rv_jaccard_u1(a, b, n), either ? 1.0 - (double)both / (double)either : 0.0,
                2 * U);
    }
}

static void test_arrays(void)
{
    float x[5] = {1, 2, 3, 4, 5}, y[5] = {10, 20, 30, 40, 50};
    rv_axpy_f32(2.0f, x, y, 4);
    RV_CHECK(y[0] == 12.0f && y[3] == 48.0f && y[4] == 50.0f);
    rv_scale_f32(0.5f, y, 4);
    RV_CHECK(y[0] == 6.0f && y[3] == 24.0f && y[4] == 50.0f);
    rv_add_f32(x, y, 4);
    RV_CHECK(y[0] == 7.0f && y[3] == 28.0f && y[4] == 50.0f);
    rv_axpy_f32(2.0f, NULL, NULL, 0);
}

/* No value of an enumeration. */
static int beyond(void)
{
    return 99;
}

static void test_tables(void)
{
    const float x[2] = {1.0f, 2.0f};
    float out[2];
    uint32_t bits;
    for (int metric = RV_METRIC_L2; metric <= RV_METRIC_CUSTOM; metric++) {
        for (int dtype = RV_DTYPE_F32; dtype <= RV_DTYPE_U1; dtype++) {
            const int set = metric == RV_METRIC_HAMMING || metric == RV_METRIC_JACCARD;
            rv_test_row(rv_metric_name((rv_metric)metric), (size_t)dtype);
            RV_EQUAL(rv_metric_has((rv_metric)metric, (rv_dtype)dtype),
                     metric != RV_METRIC_CUSTOM && set == (dtype == RV_DTYPE_U1));
        }
    }
    RV_EQUAL(rv_metric_has((rv_metric)beyond(), RV_DTYPE_F32), 0);
    RV_EQUAL(rv_metric_has(RV_METRIC_L2, (rv_dtype)beyond()), 0);
    RV_CHECK(rv_metric_find_f32(RV_METRIC_HAMMING, RV_ISA_BEST) == NULL);
    RV_CHECK(rv_metric_find_f32(RV_METRIC_CUSTOM, RV_ISA_BEST) == NULL);
    rv_metric_many(RV_METRIC_HAMMING, RV_DTYPE_F32, x, x, 0, 2, 1, out);
    memcpy(&bits, &out[1], 4);
    RV_CHECK((bits & 0x7FFFFFFFu) > 0x7F800000u); /* NaN */
    RV_CHECK(strcmp(rv_metric_name(RV_METRIC_JACCARD), "jaccard") == 0);
    RV_CHECK(strcmp(rv_metric_name((rv_metric)beyond()), "unknown") == 0);
    RV_CHECK(strcmp(rv_dtype_name(RV_DTYPE_BF16), "bf16") == 0);
    RV_CHECK(strcmp(rv_dtype_name((rv_dtype)beyond()), "unknown") == 0);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_F32, 3), 12);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_F16, 3), 6);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_BF16, 3), 6);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_I8, 3), 7);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_U1, 9), 2);
    RV_EQUAL(rv_dtype_bytes((rv_dtype)beyond(), 9), 0);
}

/* Gather with repeated and unordered ids, and a stride that is not a multiple of the element. */
static void test_gather(void)
{
    enum { ROWS = 41, DIM = 19, STRIDE = 4 * DIM + 3 };
    static const uint32_t ids[] = {40, 0, 0, 7, 13, 40, 1};
    unsigned char *rows = (unsigned char *)malloc(ROWS * STRIDE - 3);
    float query[DIM], row[DIM], many[ROWS], out[7];
    rv_test_rng rng;
    if (!rows) exit(2);
    rv_test_seed(&rng, 3);
    rv_test_fill(&rng, query, DIM);
    for (size_t r = 0; r < ROWS; r++) {
        rv_test_fill(&rng, row, DIM);
        memcpy(rows + r * STRIDE, row, sizeof row);
    }
    rv_metric_many(RV_METRIC_L2, RV_DTYPE_F32, query, rows, STRIDE, ROWS, DIM, many);
    for (size_t n = 0; n <= 7; n++) {
        for (size_t i = 0; i < 7; i++) out[i] = -1.0f;
        rv_metric_gather(RV_METRIC_L2, RV_DTYPE_F32, query, rows, STRIDE, ids, n, DIM, out);
        for (size_t i = 0; i < 7; i++) {
            if (i < n) RV_NEAR((double)out[i], (double)many[ids[i]], (double)many[ids[i]] * 8 * U);
            else RV_CHECK(out[i] == -1.0f);
        }
    }
    free(rows);
}

int main(void)
{
    rv_test_begin("distance");
    RV_RUN(test_golden);
    RV_RUN(test_scaled_rows);
    RV_RUN(test_empty_and_zero);
    RV_RUN(test_self);
    RV_RUN(test_bits);
    RV_RUN(test_arrays);
    RV_RUN(test_tables);
    RV_RUN(test_gather);
    return rv_test_end();
}
