/* Choice of the instruction set. */
#include "rv_test.h"

static void test_resolve(void)
{
    const rv_isa best = rv_isa_resolve(RV_ISA_BEST);
    RV_CHECK(best >= RV_ISA_SCALAR && best <= RV_ISA_WASM);
    RV_EQUAL(rv_isa_resolve(best), best);
    RV_EQUAL(rv_isa_resolve(RV_ISA_SCALAR), RV_ISA_SCALAR);
    for (int isa = RV_ISA_SCALAR; isa <= RV_ISA_WASM; isa++) {
        rv_isa got = rv_isa_resolve((rv_isa)isa);
        rv_test_row(rv_isa_name((rv_isa)isa), (size_t)isa);
        RV_CHECK(got >= RV_ISA_SCALAR && (int)got <= isa && got <= best);
        RV_EQUAL(rv_isa_resolve(got), got);
        if (isa >= (int)best) RV_EQUAL(got, best);
    }
#if defined(__x86_64__) && defined(__linux__) && !defined(RV_NO_SIMD)
    RV_CHECK(best <= RV_ISA_AVX512);
#endif
}

static void test_names(void)
{
    static const char *const names[] = {"best", "scalar", "avx2", "avx512", "neon", "wasm"};
    for (size_t i = 0; i < RV_COUNT_OF(names); i++)
        RV_CHECK(strcmp(rv_isa_name((rv_isa)i), names[i]) == 0);
    RV_CHECK(strcmp(rv_isa_name((rv_isa)rv_test_beyond(99)), "unknown") == 0);
}

/* Features come with the instruction set they extend, and do not change. */
static void test_features(void)
{
    const uint32_t x86 = RV_FEATURE_VNNI | RV_FEATURE_BF16 | RV_FEATURE_FP16 |
                         RV_FEATURE_POPCNT512 | RV_FEATURE_AMX_INT8;
    const uint32_t arm = RV_FEATURE_DOTPROD | RV_FEATURE_NEON_FP16;
    const uint32_t have = rv_features();
    const rv_isa best = rv_isa_resolve(RV_ISA_BEST);
    RV_EQUAL(have & ~(x86 | arm), 0);
    if (best != RV_ISA_AVX512) RV_EQUAL(have & x86, 0);
    if (best != RV_ISA_NEON) RV_EQUAL(have & arm, 0);
    RV_EQUAL(rv_features(), have);
}

/* A small integer result is the same on every instruction set that can be asked for. */
static void test_same(void)
{
    float a[37], b[37];
    for (size_t i = 0; i < 37; i++) {
        a[i] = (float)(i % 7);
        b[i] = (float)(i % 5);
    }
    for (int isa = RV_ISA_BEST; isa <= RV_ISA_WASM; isa++) {
        rv_distance_f32 fn = rv_metric_find_f32(RV_METRIC_L1, (rv_isa)isa);
        double want = 0.0;
        for (size_t i = 0; i < 37; i++) want += fabs((double)a[i] - (double)b[i]);
        RV_CHECK(fn && (double)fn(a, b, 37) == want);
    }
}

int main(void)
{
    rv_test_begin("simd");
    RV_RUN(test_resolve);
    RV_RUN(test_names);
    RV_RUN(test_features);
    RV_RUN(test_same);
    return rv_test_end();
}
