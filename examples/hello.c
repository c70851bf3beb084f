/* The smallest program: cc -I. examples/hello.c -o hello -lm && ./hello */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>

int main(void)
{
    float rows[3][2] = {{0, 0}, {3, 4}, {6, 8}}, query[2] = {5.5f, 7};
    rv_hnsw_config config = {0}; /* zero is the default of every field */
    rv_hnsw *index;
    rv_hit hit;
    size_t n;
    config.dim = 2;
    if (rv_hnsw_create(NULL, &config, &index) || rv_hnsw_build(NULL, index, NULL, rows, 3) ||
        rv_hnsw_search(NULL, index, query, 1, 0, &hit, &n)) return 1;
    printf("nearest: row %d, squared distance %g\n", (int)hit.key, (double)hit.distance);
    rv_hnsw_destroy(index);
    return hit.key != 2;
}
