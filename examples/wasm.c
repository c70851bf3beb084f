/* Vector search in a browser: wasm.html loads the module this file becomes. Four functions; vectors
   are written into a buffer inside the module, so that no copy of the index crosses the border.
   also on: wasm32

   clang --target=wasm32-wasi -mexec-model=reactor -O2 -msimd128 -I. examples/wasm.c \
       -o examples/wasm.wasm
   python3 -m http.server    and open /examples/wasm.html */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>

#if defined(__wasm__)
#define EXPORT(name) __attribute__((export_name(#name)))
#else
#define EXPORT(name)
#endif
enum { MAX_DIM = 4096, MAX_K = 100 };

static rv_hnsw *index_of_page;
static float vector_in[MAX_DIM];
static rv_hit hits_out[MAX_K];
static float hits_flat[2 * MAX_K]; /* key, distance, key, distance, ... */

EXPORT(page_vector) float *page_vector(void);
EXPORT(page_hits) float *page_hits(void);
EXPORT(page_open) int page_open(unsigned dim); /* an empty index; 0 or an rv_status */
EXPORT(page_add) int page_add(unsigned key);
EXPORT(page_search) int page_search(unsigned k); /* number of hits, or an rv_status < 0 */

float *page_vector(void) { return vector_in; }
float *page_hits(void) { return hits_flat; }

int page_open(unsigned dim)
{
    rv_hnsw_config config = {0};
    rv_hnsw_destroy(index_of_page);
    index_of_page = NULL;
    if (dim > MAX_DIM)
        return RV_ERR_DIM;
    config.dim = dim;
    config.metric = RV_METRIC_COSINE;
    return rv_hnsw_create(NULL, &config, &index_of_page);
}

int page_add(unsigned key)
{
    return index_of_page ? rv_hnsw_upsert(NULL, index_of_page, key, vector_in) : RV_ERR_ARG;
}

int page_search(unsigned k)
{
    size_t n_hits = 0;
    rv_status status = RV_ERR_ARG;
    if (index_of_page && k <= MAX_K)
        status = rv_hnsw_search(NULL, index_of_page, vector_in, k, 0, hits_out, &n_hits);
    for (size_t i = 0; i < n_hits; i++) {
        hits_flat[2 * i] = (float)hits_out[i].key;
        hits_flat[2 * i + 1] = hits_out[i].distance;
    }
    return status == RV_OK ? (int)n_hits : status;
}

/* The same calls without a browser. */
int main(void)
{
    int n, good = page_open(2) == RV_OK;
    for (unsigned i = 0; i < 50; i++) {
        page_vector()[0] = (float)i;
        page_vector()[1] = 10;
        good = page_add(i) == RV_OK && good;
    }
    page_vector()[0] = 70;
    page_vector()[1] = 20; /* the direction of point 35 */
    n = page_search(3);
    printf("%d hits, nearest %.0f at %.6f\n", n, (double)page_hits()[0], (double)page_hits()[1]);
    good = good && n == 3 && page_hits()[0] > 34 && page_hits()[0] < 36;
    rv_hnsw_destroy(index_of_page);
    return !good;
}
