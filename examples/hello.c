/* The smallest program: cc -I. examples/hello.c -o hello -lm && ./hello */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>

int main(void)
{
    float points[4][2] = {{0, 0}, {3, 4}, {6, 8}, {0, 9}}, query[2] = {5.5f, 7};
    rv_hnsw_config config = {0};
    rv_hnsw *index;
    rv_hit hit = {0, 0};
    size_t n;
    config.dim = 2;
    if (rv_hnsw_create(NULL, &config, &index) != RV_OK ||
        rv_hnsw_build(NULL, index, NULL, points, 4) != RV_OK ||
        rv_hnsw_search(NULL, index, query, 1, 0, &hit, &n) != RV_OK)
        return 1;
    printf("nearest: point %u, squared distance %.2f\n", (unsigned)hit.key, (double)hit.distance);
    rv_hnsw_destroy(index);
    return hit.key != 2;
}
