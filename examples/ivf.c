/* An inverted file: little memory beyond the vectors, cheap changes, and one knob, n_probe, between
   speed and recall.

       cc -O2 -I. examples/ivf.c -o ivf -lm && ./ivf */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>
#include <stdlib.h>

#define N 20000u
#define DIM 64u
#define CENTERS 200u
#define QUERIES 100u

static float uniform(void)
{
    static uint32_t x = 11;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

int main(void)
{
    static float centers[CENTERS][DIM], rows[N + QUERIES][DIM];
    static rv_hit exact[QUERIES * 10];
    static const uint32_t probes[] = {1, 4, 16, 64};
    size_t n_exact[QUERIES], n_hits, found = 0;
    rv_hit hits[10];
    rv_flat_config flat_config = {0};
    rv_ivf_config config = {0};
    rv_ivf_stats stats;
    rv_flat *flat = NULL;
    rv_ivf *index = NULL;
    for (size_t i = 0; i < CENTERS * DIM; i++)
        centers[i / DIM][i % DIM] = uniform();
    for (size_t i = 0; i < (N + QUERIES) * DIM; i++)
        rows[i / DIM][i % DIM] = centers[i / DIM % CENTERS][i % DIM] + 0.4f * uniform();
    flat_config.dim = config.dim = DIM;
    if (rv_flat_create(NULL, &flat_config, &flat) || rv_flat_build(NULL, flat, NULL, rows, N) ||
        rv_flat_search_batch(NULL, flat, rows[N], QUERIES, 10, NULL, exact, n_exact))
        return 1;
    rv_flat_destroy(flat);

    if (rv_ivf_create(NULL, &config, &index) || rv_ivf_build(NULL, index, NULL, rows, N))
        return 1;
    rv_ivf_stats_get(index, &stats);
    printf("%u lists of %u to %u rows, %u bytes per row beyond the vector\n", stats.n_lists,
           (unsigned)stats.smallest, (unsigned)stats.largest,
           (unsigned)((stats.total_bytes - stats.vector_bytes) / N));
    for (size_t p = 0; p < sizeof probes / sizeof *probes; p++) {
        rv_ivf_trace trace = {0};
        rv_ivf_options options = {0};
        options.n_probe = probes[p];
        options.trace = &trace;
        found = 0;
        for (size_t q = 0; q < QUERIES; q++) {
            if (rv_ivf_search_with(NULL, index, rows[N + q], 10, &options, hits, &n_hits))
                return 1;
            for (size_t i = 0; i < n_hits; i++)
                found += hits[i].distance <= exact[q * 10 + 9].distance;
        }
        printf("n_probe %2u: recall@10 %.3f, the last query scanned %u rows and measured %u\n",
               (unsigned)probes[p], (double)found / (QUERIES * 10), (unsigned)trace.scanned,
               (unsigned)trace.reranked);
    }
    if (rv_ivf_remove(NULL, index, 0) || rv_ivf_add(NULL, index, 123456, rows[N]) ||
        rv_ivf_search(NULL, index, rows[N], 1, 0, hits, &n_hits))
        return 1;
    printf("a row added afterwards is found: key %u\n", (unsigned)hits[0].key);
    rv_ivf_destroy(index);
    return found < 900 || hits[0].key != 123456;
}
