/* Memory against accuracy: what the walk reads (codes), how vectors are kept (type), and whether
   they are kept at all (drop_vectors).

       cc -O2 -I. examples/quantized.c -o quantized -lm && ./quantized */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>
#include <stdlib.h>

enum { N = 10000, DIM = 128, LATENT = 16, QUERIES = 100 };

static const struct {
    const char *name;
    rv_dtype type;
    rv_hnsw_codes codes;
    int drop;
} table[] = {{"f32, no codes", RV_DTYPE_F32, RV_HNSW_CODES_NONE, 0},
             {"f32 + automatic codes", RV_DTYPE_F32, RV_HNSW_CODES_AUTO, 0},
             {"f16 + byte codes", RV_DTYPE_F16, RV_HNSW_CODES_SQ8, 0},
             {"f16 + one-bit codes", RV_DTYPE_F16, RV_HNSW_CODES_RABITQ, 0},
             {"byte codes alone", RV_DTYPE_F32, RV_HNSW_CODES_SQ8, 1},
             {"4-bit codes alone", RV_DTYPE_F32, RV_HNSW_CODES_SQ4, 1}};

static float uniform(void)
{
    static uint32_t x = 5;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

/* Like the vectors of a neural network: few directions matter, all components are used. */
static void make_rows(float (*rows)[DIM], size_t n)
{
    static float directions[LATENT * DIM];
    for (size_t i = 0; i < LATENT * DIM; i++)
        directions[i] = uniform();
    for (size_t i = 0; i < n * DIM; i++)
        rows[i / DIM][i % DIM] = 0.2f * uniform();
    for (size_t i = 0; i < n * LATENT; i++)
        rv_axpy_f32(uniform(), directions + i % LATENT * DIM, rows[i / LATENT], DIM);
}

int main(void)
{
    static float rows[N + QUERIES][DIM];
    static rv_hit exact[QUERIES * 10];
    size_t n_exact[QUERIES], n_hits, least = QUERIES * 10;
    rv_hit hits[10];
    rv_flat_config flat_config = {0};
    rv_flat *flat = NULL;
    make_rows(rows, N + QUERIES);
    flat_config.dim = DIM;
    if (rv_flat_create(NULL, &flat_config, &flat) || rv_flat_build(NULL, flat, NULL, rows, N) ||
        rv_flat_search_batch(NULL, flat, rows[N], QUERIES, 10, NULL, exact, n_exact))
        return 1;
    rv_flat_destroy(flat);
    for (size_t t = 0; t < sizeof table / sizeof *table; t++) {
        rv_hnsw_config config = {0};
        rv_hnsw *index = NULL;
        size_t found = 0;
        config.dim = DIM;
        config.type = table[t].type;
        config.codes = table[t].codes;
        config.drop_vectors = table[t].drop;
        if (rv_hnsw_create(NULL, &config, &index) || rv_hnsw_build(NULL, index, NULL, rows, N))
            return 1;
        for (size_t q = 0; q < QUERIES; q++) {
            if (rv_hnsw_search(NULL, index, rows[N + q], 10, 80, hits, &n_hits))
                return 1;
            for (size_t i = 0; i < n_hits * 10; i++)
                found += hits[i / 10].key == exact[q * 10 + i % 10].key;
        }
        printf("%-22s %4u bytes per row, recall@10 %.3f\n", table[t].name,
               (unsigned)(rv_hnsw_bytes(index) / N), (double)found / (QUERIES * 10));
        least = found < least ? found : least;
        rv_hnsw_destroy(index);
    }
    return least < 8 * QUERIES;
}
