/* A few hundred rows need no index: distances, the k smallest, and a vote weighted by softmax, from
   the kernels alone, over rows kept as 16-bit floats.

       cc -O2 -I. examples/kernels.c -o kernels -lm && ./kernels */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>

enum { N = 400, QUERIES = 200, DIM = 48, CLASSES = 8, K = 9 };

static float uniform(void)
{
    static uint32_t x = 5;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

int main(void)
{
    static float centre[CLASSES][DIM], row[N + QUERIES][DIM], distance[N];
    static uint16_t half[N][DIM];
    uint32_t nearest[K];
    float score[K], weight[K];
    int right = 0;
    for (int c = 0; c < CLASSES; c++)
        for (int j = 0; j < DIM; j++) centre[c][j] = uniform();
    for (int i = 0; i < N + QUERIES; i++) {
        const int c = i % CLASSES; /* the class of row i */
        for (int j = 0; j < DIM; j++) row[i][j] = centre[c][j] + 0.9f * uniform();
        rv_scale_f32(1.0f / rv_norm_f32(row[i], DIM), row[i], DIM);
        if (i < N) rv_convert_f32_to_f16(row[i], half[i], DIM);
    }
    for (int q = N; q < N + QUERIES; q++) {
        float vote[CLASSES] = {0};
        int best = 0;
        /* one f32 query against packed f16 rows; the first k of them, nearest first */
        rv_metric_many(RV_METRIC_L2, RV_DTYPE_F16, row[q], half, 0, N, DIM, distance);
        (void)rv_topk_f32(distance, N, K, nearest, score);
        rv_softmax_f32(score, -4.0f, weight, K);
        for (int i = 0; i < K; i++) vote[nearest[i] % CLASSES] += weight[i];
        for (int c = 1; c < CLASSES; c++) best = vote[c] > vote[best] ? c : best;
        right += best == q % CLASSES;
    }
    printf("%d of %d classified right by %d neighbours\n", right, QUERIES, K);
    printf("the nearest of the last at %.4f, measured in f32 %.4f\n", (double)score[0],
           (double)rv_l2sq_f32(row[N + QUERIES - 1], row[nearest[0]], DIM));
    return right < QUERIES * 9 / 10;
}
