/* The whole library under one option, given on the command line. */
#ifdef TEST_ASSERT
static int asserted;
#define RV_ASSERT(x) ((x) ? (void)asserted++ : (void)(asserted = -1000000))
#endif
#ifdef RV_NO_STDLIB
#include <stddef.h>
/* A heap that only grows: enough for the smoke test and as far from malloc as can be. */
static union {
    double align;
    unsigned char bytes[1 << 20];
} arena;
static size_t arena_used;

static void *arena_realloc(void *user, void *ptr, size_t old_bytes, size_t new_bytes)
{
    unsigned char *block = arena.bytes + arena_used;
    size_t i, keep = old_bytes < new_bytes ? old_bytes : new_bytes;
    (void)user;
    if (!new_bytes || new_bytes > sizeof arena.bytes - arena_used) return NULL;
    arena_used += (new_bytes + 15u) / 16u * 16u;
    for (i = 0; ptr && i < keep; i++) block[i] = ((unsigned char *)ptr)[i];
    return block;
}
#endif

#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

#include "smoke.h"

int main(void)
{
#ifdef RV_NO_STDLIB
    rv_ctx ctx = {{NULL, NULL}, NULL, NULL, NULL, 0, 0, RV_ISA_BEST, RV_OK, 0, {0}};
    if (smoke(NULL) == 0) return 2; /* without a heap and without an allocator there is no memory */
    ctx.alloc.realloc = arena_realloc;
    return smoke(&ctx);
#else
#ifdef RV_NO_SIMD
    if (rv_isa_resolve(RV_ISA_BEST) != RV_ISA_SCALAR) return 3;
#endif
#ifdef RV_THREADS
    if (rv_processors() < 1) return 4;
#endif
    if (smoke(NULL)) return 1;
#ifdef TEST_ASSERT
    if (asserted < 0) return 5;
#endif
    return 0;
#endif
}
