#define RUVECTOR_IMPLEMENTATION /* cc -I. examples/hello.c -lm && ./a.out prints the nearest: 2 */
#include "ruvector.h"
#include <stdio.h>
int main(void) {
    float rows[3][2] = {{0, 0}, {3, 4}, {6, 8}}, q[2] = {5.5f, 7};
    rv_flat_config config = {2, RV_METRIC_L2, RV_DTYPE_F32, NULL, NULL, 0}; /* dim, then defaults */
    rv_flat *index; rv_hit hit; size_t n; /* rv_flat_destroy is left to the end of the program */
    return rv_flat_create(NULL, &config, &index) || rv_flat_build(NULL, index, NULL, rows, 3) ||
           rv_flat_search(NULL, index, q, 1, NULL, &hit, &n) || printf("%d\n", (int)hit.key) < 0;
}
