/* Sparse matrices against dense ones. */
#include "grid_set.h"

enum { ROWS = 9, COLS = 7, NNZ = 40 };

typedef struct triples {
    uint32_t row[NNZ], col[NNZ];
    float value[NNZ];
    double dense[ROWS * COLS];
} triples;

/* Few places, so that there are duplicates; rows 3 and 8 and column 2 stay empty. */
static void make_triples(triples *t)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 1);
    memset(t, 0, sizeof *t);
    for (size_t e = 0; e < NNZ; e++) {
        do {
            t->row[e] = (uint32_t)rv_test_below(&rng, ROWS);
            t->col[e] = (uint32_t)rv_test_below(&rng, COLS);
        } while (t->row[e] == 3 || t->row[e] == 8 || t->col[e] == 2);
        t->value[e] = (float)((int)rv_test_below(&rng, 64) - 32) / 8.0f; /* sums are exact */
        t->dense[t->row[e] * COLS + t->col[e]] += (double)t->value[e];
    }
}

static void test_round_trip(void)
{
    uint32_t start[ROWS + 1], index[NNZ], row[NNZ], start2[ROWS + 1], index2[NNZ];
    float value[NNZ], value2[NNZ], count[NNZ];
    double dense[ROWS * COLS] = {0};
    size_t kept = 0, kept2 = 0;
    triples t;
    rv_csr a;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make_triples(&t);
    RV_OKAY(&ctx, rv_csr_from_coo(&ctx, ROWS, COLS, t.row, t.col, t.value, NNZ, start, index, value,
                                  &kept));
    RV_CHECK(kept < NNZ && kept == start[ROWS]);
    a.rows = ROWS;
    a.cols = COLS;
    a.start = start;
    a.index = index;
    a.value = value;
    RV_OKAY(&ctx, rv_csr_check(&ctx, &a)); /* sorted, no duplicates */
    RV_OKAY(&ctx, rv_csr_rows(&ctx, &a, row));
    for (size_t e = 0; e < kept; e++) dense[row[e] * COLS + index[e]] = (double)value[e];
    for (size_t i = 0; i < ROWS * COLS; i++) RV_NEAR(dense[i], t.dense[i], 0);
    /* and back; ones in place of values count the duplicates */
    RV_OKAY(&ctx, rv_csr_from_coo(&ctx, ROWS, COLS, row, index, value, kept, start2, index2, value2,
                                  &kept2));
    RV_CHECK(kept2 == kept && memcmp(start, start2, sizeof start) == 0);
    RV_CHECK(memcmp(index, index2, kept * 4) == 0 && memcmp(value, value2, kept * 4) == 0);
    RV_OKAY(&ctx, rv_csr_from_coo(&ctx, ROWS, COLS, t.row, t.col, NULL, NNZ, start2, index2, count,
                                  &kept2));
    for (size_t e = 0, sum = 0; e < kept2; e++) {
        sum += (size_t)count[e];
        if (e + 1 == kept2) RV_EQUAL(sum, NNZ);
    }
    RV_OKAY(&ctx, rv_csr_from_coo(&ctx, ROWS, COLS, t.row, t.col, NULL, NNZ, start2, index2, NULL,
                                  &kept2));
    RV_EQUAL(kept2, kept);
    RV_OKAY(&ctx, rv_csr_from_coo(&ctx, 0, 0, NULL, NULL, NULL, 0, start, index, value, &kept));
    RV_CHECK(kept == 0 && start[0] == 0);
}

static void test_products(void)
{
    uint32_t start[ROWS + 1], index[NNZ], start_t[COLS + 1], index_t[NNZ];
    float value[NNZ], value_t[NNZ], x[ROWS + COLS], y[ROWS + COLS], b[ROWS * 19], c[ROWS * 19];
    size_t kept = 0;
    triples t;
    rv_csr a, turned;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    make_triples(&t);
    RV_OKAY(&ctx, rv_csr_from_coo(&ctx, ROWS, COLS, t.row, t.col, t.value, NNZ, start, index, value,
                                  &kept));
    a.rows = turned.cols = ROWS;
    a.cols = turned.rows = COLS;
    a.start = start;
    a.index = index;
    a.value = value;
    grid(1, x, ROWS + COLS);
    grid(2, b, ROWS * 19);
    RV_OKAY(&ctx, rv_csr_times(&ctx, &a, x, y));
    for (size_t i = 0; i < ROWS; i++) {
        double sum = 0;
        for (size_t j = 0; j < COLS; j++) sum += t.dense[i * COLS + j] * (double)x[j];
        RV_NEAR(y[i], sum, fabs(sum) * U);
    }
    RV_OKAY(&ctx, rv_csr_times_dense(&ctx, &a, b, 19, c));
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < 19; k++) {
            double sum = 0, size = 0;
            for (size_t j = 0; j < COLS; j++) {
                sum += t.dense[i * COLS + j] * (double)b[j * 19 + k];
                size += fabs(t.dense[i * COLS + j] * (double)b[j * 19 + k]);
            }
            RV_NEAR(c[i * 19 + k], sum, size * 4 * U);
        }
    }
    RV_OKAY(&ctx, rv_csr_transpose(&ctx, &a, start_t, index_t, value_t));
    turned.start = start_t;
    turned.index = index_t;
    turned.value = value_t;
    RV_OKAY(&ctx, rv_csr_check(&ctx, &turned));
    RV_OKAY(&ctx, rv_csr_times(&ctx, &turned, x, y));
    for (size_t j = 0; j < COLS; j++) {
        double sum = 0;
        for (size_t i = 0; i < ROWS; i++) sum += t.dense[i * COLS + j] * (double)x[i];
        RV_NEAR(y[j], sum, fabs(sum) * U);
    }
    a.value = NULL; /* ones */
    RV_OKAY(&ctx, rv_csr_times(&ctx, &a, x, y));
    RV_OKAY(&ctx, rv_csr_times_dense(&ctx, &a, x, 1, c));
    RV_OKAY(&ctx, rv_csr_transpose(&ctx, &a, start_t, index_t, value_t));
    for (size_t i = 0; i < ROWS; i++) {
        double sum = 0;
        for (size_t e = start[i]; e < start[i + 1]; e++) sum += (double)x[index[e]];
        RV_NEAR(y[i], sum, 4 * U * 7);
        RV_NEAR(c[i], sum, 4 * U * 7);
    }
    for (size_t e = 0; e < kept; e++) RV_CHECK(value_t[e] == 1.0f);
}

static void test_import(void)
{
    static const float dense[6] = {0, 2, -0.5f, 0.5f, 0, -3};
    static const uint8_t mask[6] = {0, 1, 0, 0, 0, 200};
    uint32_t start[4] = {9, 9, 9, 9}, index[6];
    float value[6];
    size_t count = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_csr_from_dense(&ctx, dense, 2, 3, 0, start, index, value, 6, &count));
    RV_CHECK(count == 4 && start[1] == 2 && start[2] == 4);
    RV_CHECK(index[0] == 1 && index[1] == 2 && index[2] == 0 && index[3] == 2 && value[3] == -3);
    RV_FAILS(&ctx, rv_csr_from_dense(&ctx, dense, 2, 3, 0.5f, NULL, NULL, NULL, 1, &count),
             RV_ERR_ARG, "cap is 1; there are 2 entries");
    RV_EQUAL(count, 2);
    RV_OKAY(&ctx, rv_csr_from_dense(&ctx, dense, 2, 3, 0.5f, start, index, NULL, 2, &count));
    RV_CHECK(count == 2 && start[1] == 1 && index[1] == 2);
    RV_OKAY(&ctx, rv_csr_from_mask(&ctx, mask, 3, 2, start, index, 6, &count));
    RV_CHECK(count == 2 && start[0] == 0 && start[1] == 1 && start[2] == 1 && index[1] == 1);
    RV_FAILS(&ctx, rv_csr_from_dense(&ctx, dense, 2, 3, -1, start, index, NULL, 2, &count),
             RV_ERR_ARG, "threshold is -1");
    RV_FAILS(&ctx, rv_csr_from_dense(&ctx, NULL, 2, 3, 0, start, index, NULL, 2, &count),
             RV_ERR_ARG,
             "dense is NULL");
    RV_FAILS(&ctx, rv_csr_from_mask(&ctx, NULL, 2, 3, start, index, 2, &count), RV_ERR_ARG,
             "mask is NULL");
}

static void test_errors(void)
{
    uint32_t start[] = {0, 2, 3}, index[] = {0, 2, 1}, row[] = {0, 1}, col[] = {0, 3};
    uint32_t out_start[3] = {7, 7, 7}, out_index[3];
    float value[] = {1, 2, 3};
    size_t kept = 77;
    rv_csr a;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    a.rows = 2;
    a.cols = 3;
    a.start = start;
    a.index = index;
    a.value = value;
    RV_OKAY(&ctx, rv_csr_check(&ctx, &a));
    value[2] = not_a_number();
    RV_FAILS(&ctx, rv_csr_check(&ctx, &a), RV_ERR_ARG, "value[2] is NaN");
    index[1] = 0;
    RV_FAILS(&ctx, rv_csr_check(&ctx, &a), RV_ERR_ARG, "index[1] is 0");
    index[1] = 3;
    RV_FAILS(&ctx, rv_csr_transpose(&ctx, &a, out_start, out_index, NULL), RV_ERR_ARG,
             "index[1] is 3; it must be below 3");
    RV_EQUAL(ctx.where, 1);
    start[1] = 4;
    RV_FAILS(&ctx, rv_csr_rows(&ctx, &a, out_index), RV_ERR_ARG, "start[2] is 3; it must not fall");
    start[0] = 1;
    RV_FAILS(&ctx, rv_csr_check(&ctx, &a), RV_ERR_ARG, "does not begin with 0");
    RV_FAILS(&ctx, rv_csr_check(&ctx, NULL), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_csr_times(&ctx, &a, NULL, value), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_csr_times_dense(&ctx, &a, NULL, 1, value), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_csr_from_coo(&ctx, 2, 3, row, col, NULL, 2, out_start, out_index, NULL,
                                   &kept),
             RV_ERR_ARG, "triple 1 is at 1, 3; the matrix has 2 rows and 3 columns");
    col[1] = 2;
    value[1] = infinite();
    RV_FAILS(&ctx, rv_csr_from_coo(&ctx, 2, 3, row, col, value, 2, out_start, out_index, NULL,
                                   &kept),
             RV_ERR_ARG, "value[1] is infinity");
    RV_FAILS(&ctx, rv_csr_from_coo(&ctx, 2, 3, NULL, col, NULL, 2, out_start, out_index, NULL,
                                   &kept),
             RV_ERR_ARG, "row or col");
    RV_CHECK(kept == 77 && out_start[0] == 7);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const size_t n = 3000;
    float *x = (float *)arg;
    uint32_t row[NNZ], start[101], index[NNZ];
    float value[NNZ];
    size_t kept = 77;
    rv_csr a;
    triples t;
    rv_status status;
    make_triples(&t);
    for (size_t e = 0; e < NNZ; e++) row[e] = (uint32_t)(e * 5 % 100);
    status = rv_csr_from_coo(ctx, 100, COLS, row, t.col, t.value, NNZ, start, index, value, &kept);
    if (status) {
        RV_EQUAL(kept, 77);
        return status;
    }
    a.rows = 100;
    a.cols = COLS;
    a.start = start;
    a.index = index;
    a.value = value;
    return rv_csr_times_dense(ctx, &a, x, n, x + COLS * n);
}

static void test_faults(void)
{
    float *x = (float *)calloc(107 * 3000, sizeof(float));
    if (!x) exit(2);
    RV_EQUAL(rv_test_oom_sweep(sweep, x), 2);
    RV_CHECK(rv_test_cancel_sweep(sweep, x) > 2);
    free(x);
}

int main(void)
{
    rv_test_begin("csr");
    RV_RUN(test_round_trip);
    RV_RUN(test_products);
    RV_RUN(test_import);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
