/* Saves an index to a file, maps the file, and searches the mapped pages in place. POSIX.
   not on: windows, wasm32, cortex-m4f (no mmap)

       cc -I. examples/mmap_view.c -o mmap_view -lm && ./mmap_view */
#define _DEFAULT_SOURCE 1 /* fileno, ftruncate in strict C modes */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N 10000u
#define DIM 48u

static rv_hnsw *build(const float *rows)
{
    rv_hnsw_config config = {0};
    rv_hnsw *index = NULL;
    config.dim = DIM;
    config.type = RV_DTYPE_F16;
    if (rv_hnsw_create(NULL, &config, &index) || rv_hnsw_build(NULL, index, NULL, rows, N))
        exit(1);
    return index;
}

int main(void)
{
    float *rows = (float *)malloc(N * DIM * sizeof(float));
    FILE *file = tmpfile(); /* any file will do */
    rv_ctx ctx;
    rv_hnsw *index, *view = NULL;
    rv_hit hits[10], seen[10];
    size_t bytes, n_hits, n_seen, same = 0;
    uint32_t x = 7;
    void *image;
    if (!rows || !file)
        return 1;
    memset(&ctx, 0, sizeof ctx);
    for (size_t i = 0; i < N * DIM; i++) {
        x = x * 1664525u + 1013904223u;
        rows[i] = (float)(x >> 8) / 16777216.0f;
    }
    index = build(rows);

    /* Ask for the size, make the file that long, save straight into its pages. */
    if (rv_hnsw_save(&ctx, index, NULL, 0, &bytes) || ftruncate(fileno(file), (off_t)bytes))
        return 1;
    image = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    if (image == MAP_FAILED || rv_hnsw_save(&ctx, index, image, bytes, &bytes))
        return 1;
    munmap(image, bytes);

    /* As another process would: map read-only, check the image, search in place. */
    image = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (image == MAP_FAILED || rv_hnsw_view(&ctx, image, bytes, NULL, NULL, &view)) {
        printf("view: %s\n", ctx.message);
        return 1;
    }
    for (size_t q = 0; q < 50; q++) {
        if (rv_hnsw_search(NULL, index, rows + q * DIM, 10, 0, hits, &n_hits) ||
            rv_hnsw_search(NULL, view, rows + q * DIM, 10, 0, seen, &n_seen))
            return 1;
        for (size_t i = 0; i < n_hits && n_seen == n_hits; i++)
            same += hits[i].key == seen[i].key;
    }
    printf("image %.1f MB, the view holds %.1f KB of its own, %u of 500 hits equal\n",
           (double)bytes / 1e6, (double)rv_hnsw_bytes(view) / 1e3, (unsigned)same);
    rv_hnsw_destroy(view); /* before its pages go */
    rv_hnsw_destroy(index);
    munmap(image, bytes);
    fclose(file);
    free(rows);
    return same != 500;
}
