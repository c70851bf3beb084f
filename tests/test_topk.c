/* Selection against a full sort. */
#include "rv_test.h"

static float nan_value(void)
{
    uint32_t bits = 0x7FC00000u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static int is_nan(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7FFFFFFFu) > 0x7F800000u;
}

/* Smaller first, NaN last, then the smaller index: insertion sort. */
static void sorted(const float *values, size_t n, uint32_t *order)
{
    for (size_t i = 0; i < n; i++) {
        size_t j = i;
        for (; j > 0; j--) {
            float before = values[order[j - 1]];
            int less = is_nan(values[i]) ? 0 : is_nan(before) || values[i] < before;
            if (!less) break;
            order[j] = order[j - 1];
        }
        order[j] = (uint32_t)i;
    }
}

static void check(const float *values, size_t n, size_t k)
{
    uint32_t *order = (uint32_t *)malloc(4 * n + 4), *index = (uint32_t *)malloc(4 * n + 4);
    float *out = (float *)malloc(4 * n + 4);
    size_t want = k < n ? k : n;
    if (!order || !index || !out) exit(2);
    sorted(values, n, order);
    index[want] = 77;
    out[want] = 77.0f;
    RV_EQUAL(rv_topk_f32(values, n, k, index, out), want);
    for (size_t i = 0; i < want; i++) {
        RV_EQUAL(index[i], order[i]);
        RV_CHECK(memcmp(&out[i], &values[order[i]], 4) == 0);
    }
    RV_EQUAL(index[want], 77);
    RV_CHECK(out[want] == 77.0f);
    RV_EQUAL(rv_topk_f32(values, n, k, index, NULL), want);
    free(order);
    free(index);
    free(out);
}

static void test_random(void)
{
    float values[600];
    rv_test_rng rng;
    rv_test_seed(&rng, 1);
    for (size_t round = 0; round < RV_SCALED(300, 30); round++) {
        size_t n = rv_test_below(&rng, 600);
        for (size_t i = 0; i < n; i++) {
            values[i] =
                round % 3 ? rv_test_f32(&rng) : (float)rv_test_below(&rng, 7); /* many ties */
            if (round % 5 == 0 && rv_test_below(&rng, 4) == 0) values[i] = nan_value();
        }
        rv_test_row("round", round);
        check(values, n, 0);
        check(values, n, 1);
        check(values, n, 10);
        check(values, n, n / 2);
        check(values, n, n);
        check(values, n, n + 5);
    }
}

static void test_orders(void)
{
    float values[200];
    for (size_t i = 0; i < 200; i++) values[i] = (float)i;
    check(values, 200, 17);
    for (size_t i = 0; i < 200; i++) values[i] = -(float)i;
    check(values, 200, 17);
    for (size_t i = 0; i < 200; i++) values[i] = i % 2 ? 0.0f : -0.0f; /* equal */
    check(values, 200, 17);
    for (size_t i = 0; i < 200; i++) values[i] = nan_value();
    check(values, 200, 17);
    values[150] = 1e30f;
    values[199] = -1e30f;
    check(values, 200, 17);
    check(NULL, 0, 3);
}

int main(void)
{
    rv_test_begin("topk");
    RV_RUN(test_random);
    RV_RUN(test_orders);
    return rv_test_end();
}
