/* Conversions: golden values, all halves there and back, arrays against single values, bytes. */
#include "rv_test.h"

#include "golden/half.h"

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void test_golden(void)
{
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_narrow); i++) {
        float x = float_of(rv_golden_narrow[i].f32);
        uint16_t f16, bf16;
        rv_test_row("narrow", i);
        RV_EQUAL(rv_f16_from_f32(x), rv_golden_narrow[i].f16);
        RV_EQUAL(rv_bf16_from_f32(x), rv_golden_narrow[i].bf16);
        rv_convert_f32_to_f16(&x, &f16, 1);
        rv_convert_f32_to_bf16(&x, &bf16, 1);
        RV_EQUAL(f16, rv_golden_narrow[i].f16);
        RV_EQUAL(bf16, rv_golden_narrow[i].bf16);
    }
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_widen); i++) {
        rv_test_row("widen", i);
        RV_EQUAL(bits_of(rv_f32_from_f16((uint16_t)rv_golden_widen[i].f16)),
                 rv_golden_widen[i].f32);
    }
}

/* Every half but signalling NaN survives; so does every bfloat16. */
static void test_round_trip(void)
{
    for (uint32_t h = 0; h < 65536; h++) {
        rv_test_row("half", h);
        RV_EQUAL(rv_f16_from_f32(rv_f32_from_f16((uint16_t)h)),
                 (h & 0x7FFFu) > 0x7C00u ? h | 0x200u : h);
        RV_EQUAL(rv_bf16_from_f32(rv_f32_from_bf16((uint16_t)h)),
                 (h & 0x7FFFu) > 0x7F80u ? h | 0x40u : h);
        /* i386 returns floats in registers that make NaN quiet. */
        RV_EQUAL(bits_of(rv_f32_from_bf16((uint16_t)h)) | 0x400000u, h << 16 | 0x400000u);
    }
}

/* Between neighbouring halves the middle goes to the even one, its neighbours to the nearer one. */
static void test_ties(void)
{
    for (uint32_t h = 0; h < 0x7BFFu; h++) {
        double low = (double)rv_f32_from_f16((uint16_t)h),
               high = (double)rv_f32_from_f16((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2); /* exact */
        rv_test_row("half", h);
        RV_EQUAL(rv_f16_from_f32(middle), h + (h & 1u));
        RV_EQUAL(rv_f16_from_f32(float_of(bits_of(middle) - 1)), h);
        RV_EQUAL(rv_f16_from_f32(float_of(bits_of(middle) + 1)), h + 1);
        RV_EQUAL(rv_f16_from_f32(-middle), (h + (h & 1u)) | 0x8000u);
    }
}

static void test_arrays(void)
{
    float x[131], back[131];
    uint16_t h[131];
    rv_test_rng rng;
    rv_test_seed(&rng, 1);
    for (size_t n = 0; n <= 130; n++) {
        for (size_t i = 0; i <= n; i++) x[i] = float_of((uint32_t)rv_test_u64(&rng));
        rv_test_row("n", n);
        h[n] = 0x1234;
        back[n] = 7.0f;
        rv_convert_f32_to_f16(x, h, n);
        rv_convert_f16_to_f32(h, back, n);
        for (size_t i = 0; i < n; i++) {
            RV_EQUAL(h[i], rv_f16_from_f32(x[i]));
            RV_EQUAL(bits_of(back[i]), bits_of(rv_f32_from_f16(h[i])));
        }
        rv_convert_f32_to_bf16(x, h, n);
        rv_convert_bf16_to_f32(h, back, n);
        for (size_t i = 0; i < n; i++) {
            RV_EQUAL(h[i], rv_bf16_from_f32(x[i]));
            RV_EQUAL(bits_of(back[i]), bits_of(rv_f32_from_bf16(h[i])));
        }
        RV_EQUAL(h[n], 0x1234);
        RV_CHECK(back[n] == 7.0f);
    }
}

static void test_bytes(void)
{
    static const struct {
        float x, scale;
        int want;
    } rows[] = {
        {0.0f, 1.0f, 0},     {0.5f, 1.0f, 0},       {1.5f, 1.0f, 2},     {2.5f, 1.0f, 2},
        {-0.5f, 1.0f, 0},    {-1.5f, 1.0f, -2},     {0.50001f, 1.0f, 1}, {-2.50001f, 1.0f, -3},
        {126.5f, 1.0f, 126}, {127.0f, 1.0f, 127},   {127.6f, 1.0f, 127}, {-128.0f, 1.0f, -127},
        {1e30f, 1.0f, 127},  {-1e30f, 1e30f, -127}, {3.0f, -2.0f, -6},   {1e-40f, 1.0f, 0},
    };
    const float infinity = float_of(0x7F800000u), nan = float_of(0x7FC00000u);
    float x[40], back[40];
    int8_t c[40];
    for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
        for (size_t n = 1; n < 40; n += 13) { /* in vectors and in tails */
            for (size_t i = 0; i < n; i++) x[i] = rows[row].x;
            rv_test_row("row", row);
            rv_convert_f32_to_i8(x, rows[row].scale, c, n);
            for (size_t i = 0; i < n; i++) RV_EQUAL(c[i], rows[row].want);
            rv_convert_i8_to_f32(c, 0.25f, back, n);
            for (size_t i = 0; i < n; i++) RV_CHECK(back[i] == 0.25f * (float)rows[row].want);
        }
    }
    for (size_t i = 0; i < 39; i++) x[i] = i % 3 == 0 ? nan : i % 3 == 1 ? infinity : -infinity;
    rv_convert_f32_to_i8(x, 1.0f, c, 39);
    for (size_t i = 0; i < 39; i++) RV_EQUAL(c[i], i % 3 == 0 ? 0 : i % 3 == 1 ? 127 : -127);
    rv_convert_f32_to_i8(x, 0.0f, c, 39); /* infinity times zero is NaN */
    for (size_t i = 0; i < 39; i++) RV_EQUAL(c[i], 0);
    rv_convert_f32_to_i8(NULL, 1.0f, NULL, 0);
}

/* Arrays may lie at any address: the same bits, and nothing written beside them. */
static void test_unaligned(void)
{
    enum { N = 37 };
    float x[N], wide[N];
    uint16_t half[N];
    int8_t narrow[N];
    unsigned char from[N * 4 + 4], to[N * 4 + 4]; /* the offset, and a byte behind */
    rv_test_rng rng;
    rv_test_seed(&rng, 3);
    rv_test_fill(&rng, x, N);
    for (size_t at = 1; at < 4; at++) {
        const void *src = from + at;
        void *dst = to + at;
        rv_test_row("offset", at);
        for (size_t form = 0; form < 2; form++) {
            memset(to, 0xA5, sizeof to);
            memcpy(from + at, x, sizeof x);
            if (form) rv_convert_f32_to_bf16((const float *)src, (uint16_t *)dst, N);
            else rv_convert_f32_to_f16((const float *)src, (uint16_t *)dst, N);
            for (size_t i = 0; i < N; i++)
                half[i] = form ? rv_bf16_from_f32(x[i]) : rv_f16_from_f32(x[i]);
            RV_CHECK(memcmp(to + at, half, sizeof half) == 0);
            RV_CHECK(to[at - 1] == 0xA5 && to[at + sizeof half] == 0xA5);
            memset(to, 0xA5, sizeof to);
            memcpy(from + at, half, sizeof half);
            if (form) rv_convert_bf16_to_f32((const uint16_t *)src, (float *)dst, N);
            else rv_convert_f16_to_f32((const uint16_t *)src, (float *)dst, N);
            for (size_t i = 0; i < N; i++)
                wide[i] = form ? rv_f32_from_bf16(half[i]) : rv_f32_from_f16(half[i]);
            RV_CHECK(memcmp(to + at, wide, sizeof wide) == 0);
            RV_CHECK(to[at - 1] == 0xA5 && to[at + sizeof wide] == 0xA5);
        }
        memcpy(from + at, x, sizeof x);
        rv_convert_f32_to_i8((const float *)src, 100.0f, narrow, N);
        for (size_t i = 0; i < N; i++) RV_EQUAL(narrow[i], rint((double)(x[i] * 100.0f)));
        rv_convert_i8_to_f32(narrow, 0.25f, (float *)dst, N);
        for (size_t i = 0; i < N; i++) wide[i] = 0.25f * (float)narrow[i];
        RV_CHECK(memcmp(to + at, wide, sizeof wide) == 0);
    }
}

int main(void)
{
    rv_test_begin("half");
    RV_RUN(test_golden);
    RV_RUN(test_round_trip);
    RV_RUN(test_ties);
    RV_RUN(test_arrays);
    RV_RUN(test_bytes);
    RV_RUN(test_unaligned);
    return rv_test_end();
}
