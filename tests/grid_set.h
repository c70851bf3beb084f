/* Inputs that tools/golden.py makes too (grid() there), and gradients by finite differences. */
#ifndef RV_GRID_SET_H
#define RV_GRID_SET_H

#include "rv_test.h"

#define U (1.0 / 16777216.0) /* unit roundoff of float */

/* Input number v; every element is a multiple of 1/128 below 2. */
RV_TEST_FN float *grid(size_t v, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t k = (i * 7919u + v * 104729u + i * i * v) % 401u;
        out[i] = ((float)k - 200.0f) / 128.0f;
    }
    return out;
}

/* Every element of got within tolerance times the largest of want, plus as much as is given. */
#define CHECK_ALL(got, want, n, relative) check_all((got), (want), (n), (relative), __LINE__)
RV_TEST_FN void check_all(const float *got, const double *want, size_t n, double relative, int line)
{
    double size = 0.0;
    for (size_t i = 0; i < n; i++) size = fabs(want[i]) > size ? fabs(want[i]) : size;
    for (size_t i = 0; i < n; i++) {
        rv_test_near((double)got[i], want[i], relative * size, "element", __FILE__, line);
    }
}

/* The derivative of f by x[i], error of the order h^4. */
typedef double (*loss_fn)(void *arg);
RV_TEST_FN double slope(loss_fn f, void *arg, float *x, double h)
{
    const float middle = *x;
    double d = 0.0;
    for (int step = -2; step <= 2; step++) {
        if (step == 0) continue;
        *x = middle + (float)(step * h);
        d += f(arg) * (step == 1 ? 8.0 : step == -1 ? -8.0 : step == 2 ? -1.0 : 1.0);
    }
    *x = middle;
    return d / (12.0 * h);
}

/* grad against slopes, element by element; x is what f reads. */
RV_TEST_FN void check_slopes(loss_fn f, void *arg, float *x, const float *grad, size_t n, double h,
                             double tolerance)
{
    for (size_t i = 0; i < n; i++) RV_NEAR(grad[i], slope(f, arg, x + i, h), tolerance);
}

RV_TEST_FN float not_a_number(void)
{
    const uint32_t bits = 0x7FC00000u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

RV_TEST_FN float infinite(void)
{
    const uint32_t bits = 0x7F800000u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A call that must fail with a status and a sentence that contains a word. */
#define RV_FAILS(ctx, call, fault, word)                                                           \
    do {                                                                                           \
        RV_EQUAL((call), (fault));                                                                 \
        RV_EQUAL((ctx)->status, (fault));                                                          \
        if (!strstr((ctx)->message, (word)) && rv_test_fail(__FILE__, __LINE__))                   \
            printf("\"%s\" does not say \"%s\"\n", (ctx)->message, (word));                        \
    } while (0)

#endif /* RV_GRID_SET_H */
