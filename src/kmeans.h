#ifndef RV_KMEANS_H
#define RV_KMEANS_H
#include "base.h"

/* >>kmeans  Clustering of rows under squared Euclidean distance, or under the angle (spherical).
   Costs 2 rows k dim operations per iteration through the tile kernels; the same bits for any
   number of threads. Thread class: pure.

       rv_kmeans_config config = {0};
       config.k = 256;
       rv_kmeans_train(ctx, &config, rows, 0, n, dim, centroids, NULL, NULL);
       rv_kmeans_assign(ctx, centroids, 256, dim, rows, 0, n, label, NULL);                     */

typedef struct rv_kmeans_config {
    uint32_t k;          /* clusters, required, 1..n and at most 2^24                         */
    uint32_t iterations; /* at most so many, 1..10000; default 12; ends early when settled     */
    uint32_t sample;     /* rows per cluster to train on, 1..2^20; default 64: of more than
                            k * sample rows an evenly spread random sample is used; of fewer
                            than 2048 rows all are                                             */
    int spherical;       /* non-zero: centroids are scaled to length 1 after each iteration; give
                            it unit rows                                                       */
} rv_kmeans_config;

/* rows: [n, dim] with a stride in floats (0 = dim), dim 1..65535. centroids: [k, dim]. assign: [n]
   nearest centroid of every row (ties: the lower), or NULL. inertia: the sum of the rows' squared
   distances to them, summed over all n rows, or NULL. Starts from k-means++ where k <= 256, else
   from k random rows; a cluster that loses all its rows moves to a random row of the cluster with
   the largest sum of distances. Of duplicate rows several centroids may stay equal. NaN or infinity
   in a row that is used: RV_ERR_ARG with the element's index in ctx->where. On failure the outputs
   hold nothing useful. */
RV_API rv_status rv_kmeans_train(rv_ctx *ctx, const rv_kmeans_config *config, const float *rows,
                                 size_t stride, size_t n, size_t dim, float *centroids,
                                 uint32_t *assign, double *inertia);
/* The nearest of k centroids for each row, and the squared distance to it (dist may be NULL). Rows
   that are not finite get some centroid. */
RV_API rv_status rv_kmeans_assign(rv_ctx *ctx, const float *centroids, size_t k, size_t dim,
                                  const float *rows, size_t stride, size_t n, uint32_t *assign,
                                  float *dist);

#endif /* RV_KMEANS_H */
