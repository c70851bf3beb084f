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

/* Elements are multiples of 1/128, so sums of squares are exact in double. */
static void golden_parts(size_t row)
{
    const size_t n = (size_t)rv_golden_distance[row].n;
    const rv_cosine_parts parts = rv_cosine_parts_f32(a32, b32, n);
    const double walk = U * (3.0 + sqrt((double)n));
    double aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        aa += (double)a32[i] * (double)a32[i];
        bb += (double)b32[i] * (double)b32[i];
    }
    RV_NEAR((double)parts.dot, -rv_golden_distance[row].value[RV_METRIC_IP],
            golden_bound(row, RV_METRIC_IP));
    RV_NEAR((double)parts.a_sq, aa, walk * aa);
    RV_NEAR((double)parts.b_sq, bb, walk * bb);
    RV_NEAR((double)rv_norm_f32(a32, n), sqrt(aa), walk * sqrt(aa));
    RV_NEAR((double)rv_norm_f16(b16, n), sqrt(bb), walk * sqrt(bb));
    RV_NEAR((double)rv_norm_bf16(ab16, n), sqrt(aa), walk * sqrt(aa));
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
            rv_distance_f32 fn = rv_metric_find_f32(metrics[metric], rv_test_isa());
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
        RV_NEAR((double)rv_l1_bf16(ab16, bb16, n), value[3], golden_bound(row, 3));
        RV_NEAR((double)rv_linf_f16(a16, b16, n), value[4], 0.0);
        RV_NEAR((double)rv_linf_bf16(ab16, bb16, n), value[4], 0.0);
        golden_parts(row);
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

/* Bytes through the public functions: exact sums, the roundings of a cosine and of a length. The
   kernels of all lengths and alignments stand in white_simd.c. */
static void test_bytes(void)
{
    static int8_t a8[65535], b8[65535];
    const uint8_t *au = (const uint8_t *)a8, *bu = (const uint8_t *)b8;
    static const size_t lengths[] = {1, 3, 64, 333, 65535};
    rv_test_rng rng;
    rv_test_seed(&rng, 4);
    for (size_t row = 0; row < 2 * RV_COUNT_OF(lengths); row++) {
        const size_t n = lengths[row / 2];
        double s[3] = {0, 0, 0}, u[3] = {0, 0, 0};
        uint32_t l1 = 0, l1_u8 = 0;
        int top = 0, top_u8 = 0;
        for (size_t i = 0; i < n; i++) { /* the largest sums, and any */
            a8[i] = (int8_t)(row % 2 ? -128 : (int)rv_test_below(&rng, 256) - 128);
            b8[i] = (int8_t)(row % 2 ? -1 : (int)rv_test_below(&rng, 256) - 128);
        }
        for (size_t i = 0; i < n; i++) {
            const int gap = abs(a8[i] - b8[i]), gap_u8 = abs((int)au[i] - (int)bu[i]);
            s[0] += a8[i] * b8[i];
            s[1] += a8[i] * a8[i];
            s[2] += b8[i] * b8[i];
            u[0] += (double)au[i] * bu[i];
            u[1] += (double)au[i] * au[i];
            u[2] += (double)bu[i] * bu[i];
            l1 += (uint32_t)gap;
            l1_u8 += (uint32_t)gap_u8;
            top = gap > top ? gap : top;
            top_u8 = gap_u8 > top_u8 ? gap_u8 : top_u8;
        }
        rv_test_row("n", n);
        RV_EQUAL(rv_l1_i8(a8, b8, n), l1);
        RV_EQUAL(rv_linf_i8(a8, b8, n), top);
        RV_EQUAL(rv_l1_u8(au, bu, n), l1_u8);
        RV_EQUAL(rv_linf_u8(au, bu, n), top_u8);
        RV_EQUAL(rv_dot_u8(bu, bu, n), u[2]);
        RV_NEAR((double)rv_norm_i8(a8, n), sqrt(s[1]), sqrt(s[1]) * U);
        RV_NEAR((double)rv_norm_u8(bu, n), sqrt(u[2]), sqrt(u[2]) * U);
        if (s[1] > 0 && s[2] > 0)
            RV_NEAR((double)rv_cosine_i8(a8, b8, n), 1.0 - s[0] / sqrt(s[1] * s[2]), 8 * U);
        if (u[1] > 0 && u[2] > 0)
            RV_NEAR((double)rv_cosine_u8(au, bu, n), 1.0 - u[0] / sqrt(u[1] * u[2]), 8 * U);
    }
}

/* Rows of unsigned bytes under every metric, from a list and in order. */
static void test_rows_u8(void)
{
    enum { ROWS = 9, DIM = 45, STRIDE = DIM + 2 };
    static const uint32_t ids[] = {8, 0, 3, 3, 7};
    unsigned char rows[ROWS * STRIDE];
    float query[DIM], many[ROWS], out[5];
    rv_test_rng rng;
    rv_test_seed(&rng, 5);
    for (size_t i = 0; i < sizeof rows; i++) rows[i] = (unsigned char)rv_test_below(&rng, 256);
    for (size_t i = 0; i < DIM; i++) query[i] = (float)((int)(i * 29 % 301) - 20);
    for (int metric = 0; metric <= (int)RV_METRIC_LINF; metric++) {
        rv_metric_many((rv_metric)metric, RV_DTYPE_U8, query, rows, STRIDE, ROWS, DIM, many);
        for (size_t r = 0; r < ROWS; r++) {
            double sums[5] = {0, 0, 0, 0, 0}, aa = 0.0, bb = 0.0;
            for (size_t i = 0; i < DIM; i++) {
                const double x = (double)query[i], y = rows[r * STRIDE + i], gap = fabs(x - y);
                sums[RV_METRIC_L2] += gap * gap;
                sums[RV_METRIC_IP] -= x * y;
                sums[RV_METRIC_L1] += gap;
                if (gap > sums[RV_METRIC_LINF]) sums[RV_METRIC_LINF] = gap;
                aa += x * x;
                bb += y * y;
            }
            sums[RV_METRIC_COSINE] = 1.0 + sums[RV_METRIC_IP] / sqrt(aa * bb);
            rv_test_row(rv_metric_name((rv_metric)metric), r);
            /* whole numbers below 2^24: no rounding but in the cosine */
            RV_NEAR((double)many[r], sums[metric], metric == RV_METRIC_COSINE ? 8 * U : 0.0);
        }
        rv_metric_gather((rv_metric)metric, RV_DTYPE_U8, query, rows, STRIDE, ids, 5, DIM, out);
        for (size_t i = 0; i < 5; i++) RV_CHECK(out[i] == many[ids[i]]);
    }
    rv_metric_many(RV_METRIC_L1, RV_DTYPE_U8, query, rows, 0, 2, DIM, out);
    rv_metric_many(RV_METRIC_L1, RV_DTYPE_U8, query, rows + DIM, 0, 1, DIM, many);
    RV_CHECK(out[1] == many[0]); /* stride 0: a row is DIM bytes */
}

/* Lengths where squares leave the range of floats, and of what is no number. */
static void test_lengths(void)
{
    static const struct {
        const char *name;
        uint16_t f16, bf16;
        float f32;
    } rows[] = {
        {"largest", 0x7BFF, 0x7E96, 1e38f},    /* bfloat16 0x7E96 is 0x1.2Cp+126 */
        {"least", 0x0001, 0x0001, 1e-40f},     /* subnormal */
        {"small", 0x0400, 0x0D00, 3.9443e-31f} /* squares vanish in float */
    };
    const double f16[] = {65504.0, ldexp(1.0, -24), ldexp(1.0, -14)};
    const double bf16[] = {ldexp(300.0, 118), ldexp(1.0, -133), ldexp(1.0, -101)};
    float inf, nan;
    const uint32_t inf_bits = 0x7F800000u, nan_bits = 0x7FC00000u;
    memcpy(&inf, &inf_bits, 4);
    memcpy(&nan, &nan_bits, 4);
    for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
#if defined(__FAST_MATH__)
        if (row == 1) continue; /* subnormal numbers are taken for zero */
#endif
        for (size_t n = 1; n <= 7; n += 3) { /* n copies: the root of n times the element */
            uint16_t h[7], b[7];
            float x[7];
            uint32_t bits;
            for (size_t i = 0; i < n; i++) {
                h[i] = rows[row].f16;
                b[i] = rows[row].bf16;
                x[i] = rows[row].f32;
            }
            rv_test_row(rows[row].name, n);
            RV_NEAR((double)rv_norm_f16(h, n), sqrt((double)n) * f16[row], 1e-6 * 3 * f16[row]);
            RV_NEAR((double)rv_norm_bf16(b, n), sqrt((double)n) * bf16[row], 1e-6 * 3 * bf16[row]);
            RV_NEAR((double)rv_norm_f32(x, n), sqrt((double)n) * (double)x[0],
                    1e-6 * 3 * (double)x[0] + ldexp(1.0, -150));
            h[n - 1] = 0x7C00;
            b[n - 1] = 0x7F80;
            x[n - 1] = inf;
            RV_CHECK(memcmp(&inf_bits, &x[n - 1], 4) == 0);
            x[0] = rv_norm_f16(h, n);
            RV_CHECK(memcmp(&inf_bits, &x[0], 4) == 0);
            x[0] = rv_norm_bf16(b, n);
            RV_CHECK(memcmp(&inf_bits, &x[0], 4) == 0);
            x[0] = rv_norm_f32(x + n - 1, 1);
            RV_CHECK(memcmp(&inf_bits, &x[0], 4) == 0);
            h[0] = 0x7E00;
            b[0] = 0x7FC0;
            x[0] = nan;
            for (size_t type = 0; type < 3; type++) {
                float norm = type == 0   ? rv_norm_f16(h, n)
                             : type == 1 ? rv_norm_bf16(b, n)
                                         : rv_norm_f32(x, n);
                memcpy(&bits, &norm, 4);
                RV_CHECK((bits & 0x7FFFFFFFu) > inf_bits);
            }
        }
    }
}

static void test_empty_and_zero(void)
{
    const float zero[4] = {0, 0, 0, 0}, one[4] = {0, 1, 0, 0};
    const uint16_t zero16[4] = {0, 0, 0, 0}, one16[4] = {0, 0x3C00, 0, 0};
    const int8_t zero8[4] = {0, 0, 0, 0}, one8[4] = {0, 1, 0, 0};
    const uint8_t zero_u8[4] = {0, 0, 0, 0}, one_u8[4] = {0, 1, 0, 0};
    rv_cosine_parts parts;
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
    RV_CHECK(rv_linf_f16(one16, zero16, 0) == 0.0f && rv_linf_f16(one16, zero16, 4) == 1.0f);
    RV_CHECK(rv_l1_bf16(one16, zero16, 0) == 0.0f && rv_linf_bf16(one16, zero16, 0) == 0.0f);
    RV_CHECK(rv_norm_f16(one16, 0) == 0.0f && rv_norm_f16(zero16, 4) == 0.0f);
    RV_CHECK(rv_norm_bf16(one16, 0) == 0.0f && rv_norm_bf16(zero16, 4) == 0.0f);
    RV_CHECK(rv_norm_i8(one8, 0) == 0.0f && rv_norm_i8(zero8, 4) == 0.0f);
    RV_CHECK(rv_norm_u8(zero_u8, 4) == 0.0f && rv_norm_u8(one_u8, 0) == 0.0f);
    RV_CHECK(rv_cosine_u8(zero_u8, zero_u8, 4) == 0.0f);
    RV_CHECK(rv_cosine_u8(one_u8, zero_u8, 4) == 1.0f);
    RV_CHECK(rv_cosine_u8(zero_u8, one_u8, 4) == 1.0f);
    RV_CHECK(rv_cosine_u8(one_u8, zero_u8, 0) == 0.0f);
    RV_EQUAL(rv_linf_i8(one8, zero8, 0), 0);
    RV_EQUAL(rv_linf_u8(one_u8, zero_u8, 0), 0);
    RV_EQUAL(rv_l1_u8(one_u8, zero_u8, 0), 0);
    parts = rv_cosine_parts_f32(one, zero, 0);
    RV_CHECK(parts.dot == 0.0f && parts.a_sq == 0.0f && parts.b_sq == 0.0f);
    parts = rv_cosine_parts_f32(one, zero, 4);
    RV_CHECK(parts.dot == 0.0f && parts.a_sq == 1.0f && parts.b_sq == 0.0f);
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

static void test_tables(void)
{
    const float x[2] = {1.0f, 2.0f};
    float out[2];
    uint32_t bits;
    for (int metric = RV_METRIC_L2; metric <= RV_METRIC_CUSTOM; metric++) {
        for (int dtype = RV_DTYPE_F32; dtype <= RV_DTYPE_U8; dtype++) {
            const int set = metric == RV_METRIC_HAMMING || metric == RV_METRIC_JACCARD;
            rv_test_row(rv_metric_name((rv_metric)metric), (size_t)dtype);
            RV_EQUAL(rv_metric_has((rv_metric)metric, (rv_dtype)dtype),
                     metric != RV_METRIC_CUSTOM && set == (dtype == RV_DTYPE_U1));
        }
    }
    RV_EQUAL(rv_metric_has((rv_metric)rv_test_beyond(99), RV_DTYPE_F32), 0);
    RV_EQUAL(rv_metric_has(RV_METRIC_L2, (rv_dtype)rv_test_beyond(99)), 0);
    RV_CHECK(rv_metric_find_f32(RV_METRIC_HAMMING, RV_ISA_BEST) == NULL);
    RV_CHECK(rv_metric_find_f32(RV_METRIC_CUSTOM, RV_ISA_BEST) == NULL);
    rv_metric_many(RV_METRIC_HAMMING, RV_DTYPE_F32, x, x, 0, 2, 1, out);
    memcpy(&bits, &out[1], 4);
    RV_CHECK((bits & 0x7FFFFFFFu) > 0x7F800000u); /* NaN */
    RV_CHECK(strcmp(rv_metric_name(RV_METRIC_JACCARD), "jaccard") == 0);
    RV_CHECK(strcmp(rv_metric_name((rv_metric)rv_test_beyond(99)), "unknown") == 0);
    RV_CHECK(strcmp(rv_dtype_name(RV_DTYPE_BF16), "bf16") == 0);
    RV_CHECK(strcmp(rv_dtype_name(RV_DTYPE_U8), "u8") == 0);
    RV_CHECK(strcmp(rv_dtype_name((rv_dtype)rv_test_beyond(99)), "unknown") == 0);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_F32, 3), 12);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_F16, 3), 6);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_BF16, 3), 6);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_I8, 3), 7);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_U1, 9), 2);
    RV_EQUAL(rv_dtype_bytes(RV_DTYPE_U8, 9), 9);
    RV_EQUAL(rv_dtype_bytes((rv_dtype)rv_test_beyond(99), 9), 0);
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
    RV_RUN(test_bytes);
    RV_RUN(test_rows_u8);
    RV_RUN(test_lengths);
    RV_RUN(test_empty_and_zero);
    RV_RUN(test_self);
    RV_RUN(test_bits);
    RV_RUN(test_arrays);
    RV_RUN(test_tables);
    RV_RUN(test_gather);
    return rv_test_end();
}
