/* Inside a game: the library lives in one fixed block of memory, runs on the game's own worker
   threads (both in game_engine.h), and stops when the frame's time is spent. POSIX threads.
   not on: windows, wasm32, cortex-m4f

       cc -O2 -I. examples/game.c -o game -lm -lpthread && ./game */
#define _DEFAULT_SOURCE 1 /* clock_gettime in strict C modes */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include "game_engine.h"
#include <stdio.h>
#include <time.h>

enum { N = 3000, DIM = 16 };

static double frame_end;
static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}
static int out_of_time(void *user) { (void)user; return now_ms() > frame_end; }

int main(void)
{
    static float where[N][DIM];
    rv_ctx ctx;
    rv_hnsw_config config;
    rv_hnsw *index = NULL;
    rv_status status = RV_OK;
    rv_hit hits[4];
    size_t n_hits = 0, added = 0;
    uint32_t x = 3;
    int frames = 0, canceled;
    memset(&ctx, 0, sizeof ctx);
    memset(&config, 0, sizeof config);
    for (size_t i = 0; i < N * DIM; i++)
        where[i / DIM][i % DIM] = (float)((x = x * 1664525u + 1013904223u) >> 8) / 16777216.0f;
    ctx.alloc.realloc = arena_realloc;
    ctx.parallel = job_parallel;
    ctx.poll = out_of_time;
    config.dim = DIM;
    config.capacity = N;
    frame_end = now_ms() + 60000;
    if (rv_hnsw_create(&ctx, &config, &index)) return 1;
    frame_end = now_ms() - 1;
    status = rv_hnsw_build(&ctx, index, NULL, where, N / 2); /* loading screen, no time left */
    canceled = status == RV_ERR_CANCELED && rv_hnsw_count(index) == 0;
    frame_end = now_ms() + 60000;
    status = rv_hnsw_build(&ctx, index, NULL, where, N / 2); /* and now with all the time */
    for (added = N / 2; status == RV_OK && added < N; frames++) {
        frame_end = now_ms() + 2; /* new entities for two milliseconds per frame */
        while (status == RV_OK && added < N && !out_of_time(NULL)) {
            status = rv_hnsw_add(&ctx, index, added, where[added]);
            added += status == RV_OK;
        }
        if (status == RV_ERR_CANCELED) status = RV_OK; /* try it again in the next frame */
        frame_end = now_ms() + 60000;
        if (status == RV_OK && added > 0)
            status = rv_hnsw_search(&ctx, index, where[added - 1], 4, 0, hits, &n_hits);
    }
    printf("%u entities after %d frames, %.1f MB of the arena, %u neighbours of the last: %s\n",
           (unsigned)rv_hnsw_count(index), frames, (double)arena_top / 1e6, (unsigned)n_hits,
           status == RV_OK ? "fine" : ctx.message);
    rv_hnsw_destroy(index);
    return status != RV_OK || !canceled || n_hits != 4 || hits[0].key != N - 1;
}
