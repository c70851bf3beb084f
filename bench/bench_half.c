/* Conversions between floats and half floats, bfloat16 and bytes, from L1, L2 and main memory. ns
   is one call of n; bytes are those read and those written, all charged as if they were read, so
   a stream from main memory ends well below 1: what is written is fetched first. */
#include "rv_bench.h"
#include "ruvector.h"

typedef struct job {
    int what;
    size_t n;
    float *wide;
    uint16_t *half;
    int8_t *bytes;
} job;

static const char *const names[] = {"f32_to_f16",  "f16_to_f32", "f32_to_bf16",
                                    "bf16_to_f32", "f32_to_i8",  "i8_to_f32"};

static void run(void *arg)
{
    job *j = (job *)arg;
    switch (j->what) {
    case 0: rv_convert_f32_to_f16(j->wide, j->half, j->n); break;
    case 1: rv_convert_f16_to_f32(j->half, j->wide, j->n); break;
    case 2: rv_convert_f32_to_bf16(j->wide, j->half, j->n); break;
    case 3: rv_convert_bf16_to_f32(j->half, j->wide, j->n); break;
    case 4: rv_convert_f32_to_i8(j->wide, 100.0f, j->bytes, j->n); break;
    default: rv_convert_i8_to_f32(j->bytes, 0.01f, j->wide, j->n); break;
    }
    rv_bench_touch(j->wide);
}

/* One number at a time, as a caller does who has only one. */
static void run_single(void *arg)
{
    job *j = (job *)arg;
    for (size_t i = 0; i < j->n; i++) {
        switch (j->what) {
        case 0: j->half[i] = rv_f16_from_f32(j->wide[i]); break;
        case 1: j->wide[i] = rv_f32_from_f16(j->half[i]); break;
        case 2: j->half[i] = rv_bf16_from_f32(j->wide[i]); break;
        default: j->wide[i] = rv_f32_from_bf16(j->half[i]); break;
        }
    }
    rv_bench_touch(j->wide);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {1024, 32768, 40u << 20};
    const size_t most = sizes[2];
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    rv_bench b;
    job j;
    memset(&j, 0, sizeof j);
    rv_bench_begin(&b, "half", argc, argv);
    if (b.rounds > 5) b.rounds = 5; /* a call from main memory takes tens of milliseconds */
    j.wide = (float *)rv_bench_get(most * sizeof(float));
    j.half = (uint16_t *)rv_bench_get(most * sizeof(uint16_t));
    j.bytes = (int8_t *)rv_bench_get(most);
    rv_bench_fill(j.wide, most, 1);
    rv_convert_f32_to_i8(j.wide, 100.0f, j.bytes, most);
    for (j.what = 0; j.what < 6; j.what++) {
        char name[64];
        if (j.what < 4) {
            rv_convert_f32_to_f16(j.wide, j.half, most); /* sensible in either half type */
            snprintf(name, sizeof name, "%s_single", names[j.what]);
            j.n = sizes[0];
            if (rv_bench_wanted(&b, name)) {
                rv_bench_line(&b, name, j.n, 0, "scalar", rv_bench_time(&b, run_single, &j),
                              6.0 * (double)j.n, 0);
            }
        }
        for (size_t i = 0; i < 3 && rv_bench_wanted(&b, names[j.what]); i++) {
            j.n = sizes[i];
            rv_bench_line(&b, names[j.what], j.n, 0, isa, rv_bench_time(&b, run, &j),
                          (double)j.n * (j.what < 4 ? 6 : 5), 0);
        }
    }
    free(j.wide);
    free(j.half);
    free(j.bytes);
    return rv_bench_end(&b);
}
