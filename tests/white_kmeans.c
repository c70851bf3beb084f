/* The kernel that finds the nearest of many short centroids, of every table that can run here. */
#include "kmeans.c"
#include "rv_test.h"

enum { MOST = 640, DIM = 24 };

typedef struct nearest {
    float x[DIM + 1], turned[DIM * MOST + 1], half[MOST + 1];
} nearest;

/* Half the squared length less the product, in double; magnitude: of the terms. */
static double score(const nearest *t, size_t dim, size_t n, size_t c, double *magnitude)
{
    double sum = (double)t->half[c];
    *magnitude = fabs(sum);
    for (size_t j = 0; j < dim; j++) {
        double term = (double)t->x[j] * (double)t->turned[j * n + c];
        sum -= term;
        *magnitude += fabs(term);
    }
    return sum;
}

/* Random centroids: none is nearer than the one found by more than rounding can hide. */
static void check_random(const rv__kernels *kernels, nearest *t, rv_test_rng *rng, size_t dim,
                         size_t n)
{
    double magnitude, least, found;
    uint32_t at;
    rv_test_fill(rng, t->x, dim);
    rv_test_fill(rng, t->turned, dim * n);
    for (size_t c = 0; c < n; c++) {
        double square = 0;
        for (size_t j = 0; j < dim; j++) {
            square += (double)t->turned[j * n + c] * (double)t->turned[j * n + c];
        }
        t->half[c] = (float)(0.5 * square);
    }
    at = kernels->nearest_f32(t->x, dim, t->turned, t->half, n);
    RV_CHECK(at < n);
    found = score(t, dim, n, at < n ? at : 0, &magnitude);
    for (size_t c = 0; c < n; c++) {
        least = score(t, dim, n, c, &magnitude);
        RV_CHECK(found <= least + 1e-5 * (1 + magnitude));
    }
}

/* Small whole numbers, which floats hold exactly: the lowest of equals, wherever they lie. */
static void check_ties(const rv__kernels *kernels, nearest *t, rv_test_rng *rng, size_t dim,
                       size_t n)
{
    size_t want = 0;
    double least = 0, magnitude;
    for (size_t j = 0; j < dim; j++) t->x[j] = (float)rv_test_below(rng, 3) - 1.0f;
    for (size_t i = 0; i < dim * n; i++) t->turned[i] = (float)rv_test_below(rng, 2);
    for (size_t c = 0; c < n; c++) {
        double s;
        t->half[c] = (float)rv_test_below(rng, 2) + 1.0f;
        s = score(t, dim, n, c, &magnitude);
        if (c == 0 || s < least) {
            least = s;
            want = c;
        }
    }
    RV_EQUAL(kernels->nearest_f32(t->x, dim, t->turned, t->half, n), want);
}

/* Places that are filled up are infinitely far; a row that is not finite has some centroid. */
static void check_rest(const rv__kernels *kernels, nearest *t, size_t dim, size_t n)
{
    uint32_t nan = 0x7FC00000u;
    memset(t->x, 0, sizeof t->x);
    memset(t->turned, 0, sizeof t->turned);
    for (size_t c = 0; c < n; c++) t->half[c] = rv__infinity();
    t->half[n - 16] = 7.0f;
    RV_EQUAL(kernels->nearest_f32(t->x, dim, t->turned, t->half, n), n - 16);
    memcpy(t->x, &nan, sizeof nan);
    RV_CHECK(kernels->nearest_f32(t->x, dim, t->turned, t->half, n) < n);
}

static void check_table(const rv__kernels *kernels)
{
    static const size_t dims[] = {0, 1, 2, 3, 8, 15, 16, DIM};
    nearest *t = (nearest *)malloc(sizeof *t);
    rv_test_rng rng;
    if (!t) exit(2);
    rv_test_seed(&rng, 301);
    for (size_t d = 0; d < RV_COUNT_OF(dims); d++) {
        for (size_t n = 16; n <= MOST; n += n < 192 ? 16 : 224) {
            rv_test_row(rv_isa_name(kernels->isa), dims[d] * 1000 + n);
            check_random(kernels, t, &rng, dims[d], n);
            for (int turn = 0; turn < 4; turn++) check_ties(kernels, t, &rng, dims[d], n);
            check_rest(kernels, t, dims[d] ? dims[d] : 1, n);
        }
    }
    free(t);
}

static void test_nearest(void)
{
    static const rv_isa isas[] = {RV_ISA_SCALAR, RV_ISA_AVX2, RV_ISA_BEST};
    const rv__kernels *more[8];
    size_t n = rv__kernels_more(more);
    for (size_t i = 0; i < RV_COUNT_OF(isas); i++) check_table(rv__kernels_for(isas[i]));
    for (size_t i = 0; i < n; i++) check_table(more[i]);
}

int main(void)
{
    rv_test_begin("white_kmeans");
    RV_RUN(test_nearest);
    return rv_test_end();
}
