/* The random rotation and its inverse, of one vector in L1. ns is one call. The limit is that of
   4 dim log2(dim) additions (six passes for four where dim is no power of two), an addition taking
   the place of a multiply-add, that is of two operations, and of the memory read once. */
#include "rv_bench.h"
#include "ruvector.h"

enum { MOST = 4096 };

typedef struct job {
    const rv_rotation *rotation;
    float *x, *y;
} job;

static void run_apply(void *arg)
{
    job *j = (job *)arg;
    rv_rotation_apply(j->rotation, j->x, j->y);
    rv_bench_touch(j->y);
}

/* The inverse uses its input up; what is left is as good an input for the next call. */
static void run_invert(void *arg)
{
    job *j = (job *)arg;
    rv_rotation_invert(j->rotation, j->y, j->y);
    rv_bench_touch(j->y);
}

int main(int argc, char **argv)
{
    static const size_t dims[] = {64, 96, 128, 256, 384, 512, 768, 1024, 1536, 3072};
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    float x[MOST], y[MOST];
    rv_bench b;
    job j;
    j.x = x;
    j.y = y;
    rv_bench_begin(&b, "rotate", argc, argv);
    rv_bench_fill(x, MOST, 1);
    rv_bench_fill(y, MOST, 2);
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        rv_rotation *rotation = NULL;
        size_t padded, window = 1, log2_window = 0;
        double adds, bytes;
        rv_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        rv_bench_check(&b, rv_rotation_create(&ctx, dims[i], &rotation), ctx.message);
        padded = rv_rotation_dim(rotation);
        while (2 * window <= padded) window *= 2, log2_window++;
        adds = (window == padded ? 4.0 : 6.0) * (double)window * (double)log2_window;
        bytes = (double)(dims[i] * sizeof(float) + rv_rotation_bytes(rotation));
        j.rotation = rotation;
        if (rv_bench_wanted(&b, "apply")) {
            rv_bench_rate(&b, "apply", "rows", 1, 1, dims[i], isa, rv_bench_time(&b, run_apply, &j),
                          bytes, 2 * adds, bytes);
        }
        if (rv_bench_wanted(&b, "invert")) {
            rv_bench_rate(&b, "invert", "rows", 1, 1, dims[i], isa,
                          rv_bench_time(&b, run_invert, &j), bytes, 2 * adds, bytes);
        }
        rv_rotation_destroy(rotation);
    }
    return rv_bench_end(&b);
}
