/* Distance kernels: pairs from L1, one query against rows in order and against random rows of a
   table in DRAM, the integer kernels that carry the graph walk, and the fast scan. ns is one call:
   a pair, or n rows.

   TABLE_MB= size of the table (default 1024). The library is compiled in, because half of the
   kernels are private. */
#include "rv_bench.h"

#define RV_STATIC
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

enum { GATHER = 512, IDS = 1 << 20 };

typedef struct job {
    rv_metric metric;
    rv_dtype type;
    rv__scan_fn scan; /* one of these three, or a pair */
    rv__dot_scan_fn dot_scan;
    const rv__kernels *kernels;
    int pair, pq4;
    const void *query;
    const unsigned char *rows;
    size_t stride, n, dim, at;
    const uint32_t *ids; /* [IDS], NULL: rows in order, wrapping at `wrap` rows */
    size_t wrap;
    float *out;
} job;

static const void *shared_query; /* float[8192] below 1 */
static const int8_t *byte_query;

static void run(void *arg)
{
    job *j = (job *)arg;
    const uint32_t *ids = NULL;
    const unsigned char *rows = j->rows;
    if (j->ids) {
        ids = j->ids + j->at;
        j->at = j->at + 2 * j->n > IDS ? 0 : j->at + j->n;
    } else if (j->wrap) {
        rows += j->at * j->stride;
        j->at = j->at + 2 * j->n > j->wrap ? 0 : j->at + j->n;
    }
    if (j->scan) j->scan(j->query, rows, j->stride, ids, j->n, j->dim, j->out);
    else if (j->dot_scan) {
        j->dot_scan((const int8_t *)j->query, rows, j->stride, ids, j->n, j->dim,
                    (int32_t *)(void *)j->out);
    } else if (j->pq4) {
        j->kernels->pq4_scan((const uint8_t *)j->query, rows, j->dim, j->n / 32,
                             (uint16_t *)(void *)j->out);
    }
    rv_bench_touch(j->out);
}

static void run_pair(void *arg)
{
    job *j = (job *)arg;
    const void *a = j->query, *b = j->rows;
    const rv__kernels *k = j->kernels;
    double x = 0;
    switch ((int)j->type) {
    case RV_DTYPE_F32:
        x = (double)k->pair_f32[j->metric]((const float *)a, (const float *)b, j->dim);
        break;
    case RV_DTYPE_F16:
    case RV_DTYPE_BF16:
        x = (double)k->pair_u16[j->type - 1][j->metric]((const uint16_t *)a, (const uint16_t *)b,
                                                        j->dim);
        break;
    case RV_DTYPE_I8:
        x = j->metric == RV_METRIC_L2 ? k->l2sq_i8((const int8_t *)a, (const int8_t *)b, j->dim)
                                      : k->dot_i8((const int8_t *)a, (const int8_t *)b, j->dim);
        break;
    default: x = k->hamming((const uint8_t *)a, (const uint8_t *)b, j->dim / 8); break;
    }
    rv_bench_sink(x);
}

static size_t pair_bytes(rv_dtype type, size_t dim)
{
    return type == RV_DTYPE_I8 ? dim : rv_dtype_bytes(type, dim);
}

static void pairs(rv_bench *b, const unsigned char *rows)
{
    static const size_t dims[] = {96, 128, 384, 768, 1024, 1536};
    static const rv_isa isas[] = {RV_ISA_SCALAR, RV_ISA_AVX2, RV_ISA_BEST};
    static const struct {
        rv_metric metric;
        rv_dtype type;
    } cases[] = {
        {RV_METRIC_L2, RV_DTYPE_F32},     {RV_METRIC_IP, RV_DTYPE_F32},
        {RV_METRIC_COSINE, RV_DTYPE_F32}, {RV_METRIC_L1, RV_DTYPE_F32},
        {RV_METRIC_LINF, RV_DTYPE_F32},   {RV_METRIC_L2, RV_DTYPE_F16},
        {RV_METRIC_IP, RV_DTYPE_F16},     {RV_METRIC_L2, RV_DTYPE_BF16},
        {RV_METRIC_IP, RV_DTYPE_BF16},    {RV_METRIC_L2, RV_DTYPE_I8},
        {RV_METRIC_IP, RV_DTYPE_I8},      {RV_METRIC_HAMMING, RV_DTYPE_U1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        char name[64];
        snprintf(name, sizeof name, "pair_%s_%s", rv_metric_name(cases[c].metric),
                 rv_dtype_name(cases[c].type));
        if (!rv_bench_wanted(b, name)) continue;
        for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
            if (isas[i] != RV_ISA_BEST && rv_isa_resolve(isas[i]) != isas[i]) continue;
            for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
                double bytes = 2.0 * (double)pair_bytes(cases[c].type, dims[d]);
                job j;
                memset(&j, 0, sizeof j);
                j.metric = cases[c].metric;
                j.type = cases[c].type;
                j.kernels = rv__kernels_for(isas[i]);
                j.query = rows + 65536;
                j.rows = rows;
                j.dim = dims[d];
                rv_bench_line_ws(b, name, 1, dims[d], rv_isa_name(j.kernels->isa),
                                 rv_bench_time(b, run_pair, &j), bytes, 0, bytes);
            }
        }
    }
}

static void fill_ids(uint32_t *ids, size_t n_rows)
{
    uint64_t state = 1;
    for (size_t i = 0; i < IDS; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        ids[i] = (uint32_t)((state >> 33) % n_rows);
    }
}

/* The same rows from the cache (n of them again and again), in order and at random from DRAM. */
static void three(rv_bench *b, job *j, const char *name, size_t row_bytes, size_t table,
                  uint32_t *ids)
{
    static const char *const where[] = {"cache", "order", "random"};
    for (size_t w = 0; w < 3; w++) {
        char text[64];
        double bytes, set;
        snprintf(text, sizeof text, "%s_%s", name, where[w]);
        if (!rv_bench_wanted(b, text)) continue;
        j->n = w ? GATHER : 16384 / row_bytes / 32 * 32 + 32;
        if (j->n > 256 && !w) j->n = 256;
        j->ids = w == 2 ? ids : NULL;
        j->wrap = w == 1 ? table / j->stride : 0;
        j->at = 0;
        if (w == 2) fill_ids(ids, table / j->stride);
        bytes = (double)(row_bytes * j->n);
        set = w ? (double)table : bytes;
        rv_bench_line_ws(b, text, j->n, j->dim, rv_isa_name(rv_isa_resolve(RV_ISA_BEST)),
                         rv_bench_time(b, run, j), bytes, 0, set);
    }
}

static void tables(rv_bench *b, const unsigned char *rows, size_t table, uint32_t *ids, float *out)
{
    static const struct {
        rv_metric metric;
        rv_dtype type;
        size_t dim;
    } scans[] = {
        {RV_METRIC_L2, RV_DTYPE_F32, 768},     {RV_METRIC_COSINE, RV_DTYPE_F32, 768},
        {RV_METRIC_L2, RV_DTYPE_F32, 128},     {RV_METRIC_L2, RV_DTYPE_F16, 768},
        {RV_METRIC_L2, RV_DTYPE_BF16, 768},    {RV_METRIC_L2, RV_DTYPE_I8, 768},
        {RV_METRIC_HAMMING, RV_DTYPE_U1, 768}, {RV_METRIC_HAMMING, RV_DTYPE_U1, 128},
    };
    static const struct {
        const char *name;
        size_t n_bytes;
    } codes[] = {{"dot_i8", 64}, {"dot_i8", 128}, {"dot_i8", 256}, {"dot_i8", 768},
                 {"dot_u4", 64}, {"dot_u4", 384}, {"dot_u1", 64},  {"dot_u1", 128}};
    const rv__kernels *k = rv__kernels_for(RV_ISA_BEST);
    char name[64];
    job j;
    for (size_t i = 0; i < sizeof scans / sizeof scans[0]; i++) {
        memset(&j, 0, sizeof j);
        j.scan = rv__scan_find(scans[i].metric, scans[i].type, RV_ISA_BEST);
        j.dim = scans[i].dim;
        j.stride = rv_dtype_bytes(scans[i].type, j.dim);
        j.query = shared_query;
        j.rows = rows;
        j.out = out;
        snprintf(name, sizeof name, "scan_%s_%s", rv_metric_name(scans[i].metric),
                 rv_dtype_name(scans[i].type));
        three(b, &j, name, j.stride, table, ids);
    }
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        memset(&j, 0, sizeof j);
        j.dot_scan = codes[i].name[4] == 'i'   ? k->dot_i8_scan
                     : codes[i].name[5] == '4' ? k->dot_u4_scan
                                               : k->dot_u1_scan;
        j.dim = j.stride = codes[i].n_bytes;
        j.query = byte_query;
        j.rows = rows;
        j.out = out;
        three(b, &j, codes[i].name, j.stride, table, ids);
    }
    for (size_t m = 16; m <= 96; m *= 2) {
        memset(&j, 0, sizeof j);
        j.pq4 = 1;
        j.kernels = k;
        j.n = 512;
        j.dim = m;
        j.query = byte_query;
        j.rows = rows;
        j.out = out;
        if (!rv_bench_wanted(b, "pq4_scan")) continue;
        rv_bench_line(b, "pq4_scan", j.n, m, rv_isa_name(k->isa), rv_bench_time(b, run, &j),
                      (double)(m / 2 * j.n), 0);
    }
}

int main(int argc, char **argv)
{
    const char *text = rv_bench_option("TABLE_MB", argc, argv);
    size_t table = (size_t)(text ? atoi(text) : 1024) << 20;
    rv_alloc alloc = rv__allocator(NULL);
    unsigned char *rows = (unsigned char *)rv__get(&alloc, table, 1);
    uint32_t *ids = (uint32_t *)rv__get(&alloc, IDS, 4);
    float *out = (float *)rv__get(&alloc, 65536, 4), *query = (float *)rv__get(&alloc, 8192, 4);
    int8_t *bytes = (int8_t *)rv__get(&alloc, 16384, 1);
    rv_bench b;
    if (!rows || !ids || !out || !query || !bytes || table < 1u << 20) {
        fprintf(stderr, "bench_distance: no memory for a table of %lu bytes\n",
                (unsigned long)table);
        return 2;
    }
    /* Bytes 0x30..0x3F are sensible numbers in every type: no NaN, no subnormals. */
    for (size_t i = 0; i < table; i += 8) {
        uint64_t x =
            ((uint64_t)i * 0x9E3779B97F4A7C15ull & 0x0F0F0F0F0F0F0F0Full) | 0x3030303030303030ull;
        memcpy(rows + i, &x, 8);
    }
    for (size_t i = 0; i < 8192; i++) query[i] = (float)i / 8192.0f;
    for (size_t i = 0; i < 16384; i++) bytes[i] = (int8_t)((int)(i * 37 % 255) - 127);
    shared_query = query;
    byte_query = bytes;
    rv_bench_begin(&b, "distance", argc, argv);
    pairs(&b, rows);
    tables(&b, rows, table, ids, out);
    rv__put(&alloc, rows, table, 1);
    rv__put(&alloc, ids, IDS, 4);
    rv__put(&alloc, out, 65536, 4);
    rv__put(&alloc, query, 8192, 4);
    rv__put(&alloc, bytes, 16384, 1);
    return rv_bench_end(&b);
}
