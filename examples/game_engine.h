#ifndef GAME_ENGINE_H
#define GAME_ENGINE_H

/* For game.c: a stand-in for what an engine has anyway, its memory and its workers. */

#include <pthread.h>
#include <string.h>

enum { WORKERS = 2, ARENA = 64 << 20 };

/* ---- an arena with a free list per power of two: nothing is ever asked of the system ---- */
static struct {
    double align;
    char bytes[ARENA];
} arena;
static size_t arena_top;
static void *arena_free[32];

static void *arena_realloc(void *user, void *ptr, size_t old_bytes, size_t new_bytes)
{
    size_t old_bin = 6, bin = 6;
    void *block = NULL;
    (void)user;
    while (((size_t)1 << old_bin) < old_bytes)
        old_bin++;
    while (((size_t)1 << bin) < new_bytes)
        bin++;
    if (ptr && new_bytes && bin == old_bin)
        return ptr;
    if (new_bytes) {
        if (bin < 32 && arena_free[bin]) {
            block = arena_free[bin];
            memcpy(&arena_free[bin], block, sizeof(void *));
        } else if (bin < 32 && ((size_t)1 << bin) <= ARENA - arena_top) {
            block = arena.bytes + arena_top;
            arena_top += (size_t)1 << bin;
        } else {
            return NULL; /* the library reports RV_ERR_MEMORY and changes nothing */
        }
        if (ptr)
            memcpy(block, ptr, old_bytes < new_bytes ? old_bytes : new_bytes);
    }
    if (ptr) {
        memcpy(ptr, &arena_free[old_bin], sizeof(void *));
        arena_free[old_bin] = ptr;
    }
    return block;
}

/* ---- a job system: workers take the next index until none is left ---- */
typedef struct job {
    size_t next, n;
    void (*body)(void *arg, size_t i);
    void *arg;
} job;

static pthread_mutex_t job_lock = PTHREAD_MUTEX_INITIALIZER;

static void *job_work(void *p)
{
    job *j = (job *)p;
    for (;;) {
        size_t i;
        pthread_mutex_lock(&job_lock);
        i = j->next++;
        pthread_mutex_unlock(&job_lock);
        if (i >= j->n)
            return NULL;
        j->body(j->arg, i);
    }
}

static void job_parallel(void *user, size_t n, void (*body)(void *arg, size_t i), void *arg)
{
    pthread_t threads[WORKERS];
    job j = {0, 0, NULL, NULL};
    int started = 0;
    (void)user;
    j.n = n;
    j.body = body;
    j.arg = arg;
    while (started < WORKERS && !pthread_create(&threads[started], NULL, job_work, &j))
        started++;
    job_work(&j);
    while (started > 0)
        pthread_join(threads[--started], NULL);
}

#endif /* GAME_ENGINE_H */
