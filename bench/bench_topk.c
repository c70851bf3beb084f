/* Selection of the k smallest of n values in random order, falling (every value enters: the worst
   case), rising (none does) and all equal. ns is one call. */
#include "rv_bench.h"
#include "ruvector.h"

enum { MOST = 40 << 20, MOST_K = 1000 };

typedef struct job {
    const float *values;
    size_t n, k;
    uint32_t *index;
    float *out;
} job;

static void run(void *arg)
{
    job *j = (job *)arg;
    rv_bench_sink((double)rv_topk_f32(j->values, j->n, j->k, j->index, j->out));
    rv_bench_touch(j->index);
}

static void order(rv_bench *b, job *j, const char *name, size_t n, size_t k)
{
    char text[64];
    snprintf(text, sizeof text, "%s k=%lu", name, (unsigned long)k);
    if (!rv_bench_wanted(b, text)) return;
    j->n = n;
    j->k = k;
    rv_bench_line(b, text, n, 0, rv_isa_name(rv_isa_resolve(RV_ISA_BEST)),
                  rv_bench_time(b, run, j), (double)n * sizeof(float), 0);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {1024, 100000, 1000000, MOST}, ks[] = {1, 10, 100, MOST_K};
    float *values = (float *)rv_bench_get(MOST * sizeof(float));
    const size_t fewer = 100000;
    rv_bench b;
    job j;
    rv_bench_begin(&b, "topk", argc, argv);
    if (b.rounds > 5) b.rounds = 5; /* a call from main memory takes tens of milliseconds */
    j.values = values;
    j.index = (uint32_t *)rv_bench_get(MOST_K * sizeof(uint32_t));
    j.out = (float *)rv_bench_get(MOST_K * sizeof(float));
    rv_bench_fill(values, MOST, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof ks / sizeof *ks; k++)
            order(&b, &j, "random", sizes[i], ks[k]);
    for (size_t i = 0; i < fewer; i++) values[i] = (float)i;
    for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) order(&b, &j, "rising", fewer, ks[k]);
    for (size_t i = 0; i < fewer; i++) values[i] = (float)(fewer - i);
    for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) order(&b, &j, "falling", fewer, ks[k]);
    for (size_t i = 0; i < fewer; i++) values[i] = 1.0f;
    for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) order(&b, &j, "equal", fewer, ks[k]);
    free(values);
    free(j.index);
    free(j.out);
    return rv_bench_end(&b);
}
