/* Eight bytes for a row of 64 floats, from the building blocks: principal components drop what does
   not vary, a random rotation spreads the rest evenly, and k-means gives every run of coordinates a
   code of four bits. (rv_quant does this and more behind one call.)

       cc -O2 -I. examples/compress.c -o compress -lm && ./compress */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>
#include <string.h>

enum { N = 4000, DIM = 64, KEPT = 24, RUNS = 16, RUN = DIM / RUNS, CODES = 16 };

static float uniform(void)
{
    static uint32_t x = 9;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

static float rows[N][DIM], small[N][KEPT], turned[N][DIM], back[N][DIM];
static float mean[DIM], basis[KEPT][DIM], book[RUNS][CODES][RUN];
static uint32_t code[RUNS][N];

/* Rows are mixtures of 10 directions, with a little noise in all dimensions. */
static void make_rows(void)
{
    static float direction[10][DIM];
    for (int d = 0; d < 10; d++)
        for (int j = 0; j < DIM; j++) direction[d][j] = uniform();
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < DIM; j++) rows[i][j] = 3.0f + 0.05f * uniform();
        for (int d = 0; d < 10; d++) rv_axpy_f32(uniform(), direction[d], rows[i], DIM);
    }
}

int main(void)
{
    rv_kmeans_config config = {0};
    rv_rotation *rotation = NULL;
    rv_status status;
    double variance = 0, error = 0;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx); /* the C heap, no cancellation, one thread */
    config.k = CODES;
    make_rows();
    status = rv_pca_train(&ctx, rows[0], 0, N, DIM, KEPT, mean, basis[0], NULL, &variance);
    if (!status)
        status = rv_pca_apply(&ctx, mean, basis[0], DIM, KEPT, rows[0], 0, N, small[0]);
    if (!status) status = rv_rotation_create(&ctx, KEPT, &rotation); /* 24 in, 64 out */
    for (int i = 0; i < N && !status; i++) rv_rotation_apply(rotation, small[i], turned[i]);
    for (int r = 0; r < RUNS && !status; r++) {
        status = rv_kmeans_train(&ctx, &config, turned[0] + r * RUN, DIM, N, RUN, book[r][0],
                                 code[r], NULL);
    }
    for (int i = 0; i < N && !status; i++) {
        for (int r = 0; r < RUNS; r++)
            memcpy(turned[i] + r * RUN, book[r][code[r][i]], sizeof book[r][0]);
        rv_rotation_invert(rotation, turned[i], small[i]);
    }
    if (!status)
        status = rv_pca_restore(&ctx, mean, basis[0], DIM, KEPT, small[0], N, back[0]);
    for (int i = 0; i < N; i++) error += (double)rv_l2sq_f32(rows[i], back[i], DIM) / N;
    printf("%d bytes to %d per row, %.1f %% of the variance lost: %s\n", DIM * 4, RUNS / 2,
           100 * error / variance, status ? ctx.message : "fine");
    rv_rotation_destroy(rotation);
    return status || error > 0.25 * variance;
}
