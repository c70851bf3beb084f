/* Filtered search: only rows that a bit set, a callback, or both let through are returned. The walk
   through the graph knows the filter, so ten hits come back although nine rows in ten are refused.

       cc -I. examples/filter.c -o filter -lm && ./filter */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>
#include <stdlib.h>

#define N 20000u
#define DIM 32u

/* A shop: key i is article i; in stock is one in ten (bit set); the price comes from the key. */
static double price(uint64_t key)
{
    return (double)(key * 2654435761u % 1000u) / 10;
}

static int affordable(void *user, uint64_t key)
{
    return price(key) <= *(const double *)user;
}

static float uniform(void)
{
    static uint32_t x = 1;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

int main(void)
{
    float *rows = (float *)malloc(N * DIM * sizeof(float));
    uint8_t *in_stock = (uint8_t *)calloc(N / 8, 1);
    double budget = 50;
    rv_filter filter = {0};
    rv_hnsw_options options = {0};
    rv_hnsw_config config = {0};
    rv_flat_config flat_config = {0};
    rv_hnsw *index = NULL;
    rv_flat *flat = NULL;
    rv_hit hits[10], exact[10];
    size_t n_hits, n_exact, found = 0, wrong = 0;
    if (!rows || !in_stock)
        return 1;
    for (size_t i = 0; i < N * DIM; i++)
        rows[i] = uniform();
    for (size_t i = 0; i < N; i += 10)
        in_stock[i / 8] = (uint8_t)(in_stock[i / 8] | 1u << i % 8);
    config.dim = flat_config.dim = DIM;
    if (rv_hnsw_create(NULL, &config, &index) || rv_flat_create(NULL, &flat_config, &flat) ||
        rv_hnsw_build(NULL, index, NULL, rows, N) || rv_flat_build(NULL, flat, NULL, rows, N))
        return 1;

    filter.bits = in_stock; /* both must agree: 5 % of the rows pass */
    filter.n_bits = N;
    filter.accept = affordable;
    filter.user = &budget;
    options.filter = &filter;
    options.ef = 100;
    for (size_t q = 0; q < 100; q++) {
        const float *query = rows + (q * 197 + 3) * DIM;
        if (rv_hnsw_search_with(NULL, index, query, 10, &options, hits, &n_hits) ||
            rv_flat_search(NULL, flat, query, 10, &filter, exact, &n_exact))
            return 1;
        for (size_t i = 0; i < n_hits; i++) {
            wrong += hits[i].key % 10 != 0 || price(hits[i].key) > budget;
            found += hits[i].distance <= exact[n_exact - 1].distance;
        }
    }
    printf("in stock and affordable: recall %.3f, %u refused articles returned\n",
           (double)found / 1000, (unsigned)wrong);
    rv_hnsw_destroy(index);
    rv_flat_destroy(flat);
    free(rows);
    free(in_stock);
    return wrong != 0 || found < 900;
}
