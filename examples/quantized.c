/* Memory against accuracy: what the walk reads (codes), how vectors are kept (type), and whether
   they are kept at all (drop_vectors).

       cc -O2 -I. examples/quantized.c -o quantized -lm && ./quantized */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>
#include <stdlib.h>

#define N 10000u
#define DIM 128u
#define CENTERS 100u
#define QUERIES 100u

static const struct {
    const char *name;
    rv_dtype type;
    rv_hnsw_codes codes;
    int drop;
    double least_recall;
} rows_of_table[] = {
    {"f32, no codes", RV_DTYPE_F32, RV_HNSW_CODES_NONE, 0, 0.95},
    {"f32 + automatic codes", RV_DTYPE_F32, RV_HNSW_CODES_AUTO, 0, 0.95},
    {"f16 + byte codes", RV_DTYPE_F16, RV_HNSW_CODES_SQ8, 0, 0.90},
    {"f16 + one-bit codes", RV_DTYPE_F16, RV_HNSW_CODES_RABITQ, 0, 0.85},
    {"byte codes alone", RV_DTYPE_F32, RV_HNSW_CODES_SQ8, 1, 0.80},
    {"4-bit codes alone", RV_DTYPE_F32, RV_HNSW_CODES_SQ4, 1, 0.50}};

static float uniform(void)
{
    static uint32_t x = 5;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

int main(void)
{
    static float centers[CENTERS][DIM], rows[N + QUERIES][DIM];
    static rv_hit exact[QUERIES * 10];
    size_t n_exact[QUERIES], n_hits;
    rv_hit hits[10];
    rv_flat_config flat_config = {0};
    rv_flat *flat = NULL;
    int bad = 0;
    for (size_t i = 0; i < CENTERS * DIM; i++)
        centers[i / DIM][i % DIM] = uniform();
    for (size_t i = 0; i < (N + QUERIES) * DIM; i++)
        rows[i / DIM][i % DIM] = centers[i / DIM % CENTERS][i % DIM] + 0.5f * uniform();
    flat_config.dim = DIM;
    if (rv_flat_create(NULL, &flat_config, &flat) || rv_flat_build(NULL, flat, NULL, rows, N) ||
        rv_flat_search_batch(NULL, flat, rows[N], QUERIES, 10, NULL, exact, n_exact))
        return 1;
    rv_flat_destroy(flat);
    for (size_t t = 0; t < sizeof rows_of_table / sizeof *rows_of_table; t++) {
        rv_hnsw_config config = {0};
        rv_hnsw *index = NULL;
        size_t found = 0;
        config.dim = DIM;
        config.type = rows_of_table[t].type;
        config.codes = rows_of_table[t].codes;
        config.drop_vectors = rows_of_table[t].drop;
        if (rv_hnsw_create(NULL, &config, &index) || rv_hnsw_build(NULL, index, NULL, rows, N))
            return 1;
        for (size_t q = 0; q < QUERIES; q++) {
            if (rv_hnsw_search(NULL, index, rows[N + q], 10, 80, hits, &n_hits))
                return 1;
            for (size_t i = 0; i < n_hits; i++)
                for (size_t j = 0; j < 10; j++)
                    found += hits[i].key == exact[q * 10 + j].key;
        }
        printf("%-22s %4u bytes per row, recall@10 %.3f\n", rows_of_table[t].name,
               (unsigned)(rv_hnsw_bytes(index) / N), (double)found / (QUERIES * 10));
        bad |= (double)found < rows_of_table[t].least_recall * QUERIES * 10;
        rv_hnsw_destroy(index);
    }
    return bad;
}
