/* Codes, every kind: encode, decode, prepare a query, and one query against many codes in order and
   at random. ns is one row, or one query. Distances are measured with the codes in L2 and in main
   memory (name_dram); `scan` is the blocks of 32 rows. The bytes per row stand in the name. PQ is
   charged the 2 dim 2^bits operations of all distances to the centroids to encode, RABITQ the
   additions of the rotation; the distances, whatever they compute, the bytes of the codes. */
#include "rv_bench.h"
#include "ruvector.h"

enum { ROWS = 2048, CALL = 1024, L2_BYTES = 256 << 10, DRAM_BYTES = 160 << 20 };

typedef struct job {
    rv_bench *b;
    rv_quant *quant;
    float *rows, *out;
    unsigned char *codes, *table;
    void *prepared;
    uint32_t *ids;
    size_t dim, call;      /* rows per call */
    size_t unit, at, wrap; /* bytes of a row or block, place and end in rows or blocks */
    int blocks, ids_wanted;
} job;

static void run_encode(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_quant_encode(&ctx, j->quant, j->rows, 0, CALL, j->codes), ctx.message);
    rv_bench_touch(j->codes);
}

static void run_decode(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_quant_decode(&ctx, j->quant, j->codes, CALL, j->out), ctx.message);
    rv_bench_touch(j->out);
}

static void run_prepare(void *arg)
{
    job *j = (job *)arg;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    rv_bench_check(j->b, rv_quant_prepare(&ctx, j->quant, j->rows, j->prepared), ctx.message);
    rv_bench_touch(j->prepared);
}

/* The next rows of the table, round and round. */
static void run_distance(void *arg)
{
    job *j = (job *)arg;
    size_t step = j->blocks ? j->call / 32 : j->call;
    const unsigned char *at = j->table + j->at * j->unit;
    if (j->blocks) rv_quant_scan(j->quant, j->prepared, at, j->call, j->out, NULL);
    else if (j->ids_wanted) {
        rv_quant_gather(j->quant, j->prepared, j->table, j->ids + j->at, j->call, j->out, NULL);
    } else rv_quant_distance(j->quant, j->prepared, at, j->call, j->out, NULL);
    j->at = j->at + 2 * step > j->wrap ? 0 : j->at + step;
    rv_bench_touch(j->out);
}

static void many(job *j, const char *kind, const char *what, size_t row_bytes, size_t table)
{
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    size_t per = j->blocks ? 32 : 1, n = table / j->unit * per;
    double bytes;
    char name[96];
    snprintf(name, sizeof name, "%s%s %s B/row=%lu", what, table == DRAM_BYTES ? "_dram" : "", kind,
             (unsigned long)(j->blocks ? j->unit / 32 : row_bytes));
    if (!rv_bench_wanted(j->b, name)) return;
    j->call = n < CALL ? n / 32 * 32 : (size_t)CALL;
    bytes = (double)(j->unit * j->call) / (double)per;
    j->at = 0;
    j->wrap = n / per;
    for (size_t i = 0; j->ids_wanted && i < n; i++)
        j->ids[i] = (uint32_t)((i * UINT64_C(0x9E3779B97F4A7C15) >> 32) % n);
    rv_bench_rate(j->b, name, "rows", (double)j->call, n, j->dim, isa,
                  rv_bench_time(j->b, run_distance, j), bytes, 0, (double)table);
}

/* The table is the same ROWS codes over and over: values do not matter, addresses do. */
static void spread(job *j, const unsigned char *from, size_t bytes)
{
    for (size_t at = 0; at < DRAM_BYTES; at += bytes)
        memcpy(j->table + at, from, DRAM_BYTES - at < bytes ? DRAM_BYTES - at : bytes);
}

static double encode_flops(const rv_quant_config *c)
{
    double dim = (double)c->dim, log2_dim = 0;
    while ((double)(UINT64_C(2) << (int)log2_dim) <= dim) log2_dim++;
    if (c->kind == RV_QUANT_PQ) return 2 * dim * (double)(1u << c->bits) * CALL;
    return c->kind == RV_QUANT_RABITQ ? 8 * dim * log2_dim * CALL : 0;
}

static void distances(job *j, const char *kind, size_t row_bytes)
{
    size_t block_bytes = rv_quant_block_bytes(j->quant);
    spread(j, j->codes, row_bytes * ROWS);
    j->unit = row_bytes;
    j->blocks = j->ids_wanted = 0;
    many(j, kind, "distance", row_bytes, L2_BYTES);
    many(j, kind, "distance", row_bytes, DRAM_BYTES);
    j->ids_wanted = 1;
    many(j, kind, "gather", row_bytes, L2_BYTES);
    many(j, kind, "gather", row_bytes, DRAM_BYTES);
    if (block_bytes) {
        unsigned char *blocks = (unsigned char *)rv_bench_get(block_bytes * (ROWS / 32));
        rv_quant_pack(j->quant, j->codes, ROWS, blocks);
        spread(j, blocks, block_bytes * (ROWS / 32));
        free(blocks);
        j->unit = block_bytes;
        j->blocks = 1;
        j->ids_wanted = 0;
        many(j, kind, "scan", row_bytes, L2_BYTES);
        many(j, kind, "scan", row_bytes, DRAM_BYTES);
    }
}

static void kind_of(job *j, rv_quant_kind which, uint32_t bits, size_t dim)
{
    const char *isa = rv_isa_name(rv_isa_resolve(RV_ISA_BEST));
    double row_floats = (double)dim * sizeof(float), bytes;
    size_t row_bytes;
    char kind[48], name[64];
    rv_quant_config config;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    memset(&config, 0, sizeof config);
    config.kind = which;
    config.dim = (uint32_t)dim;
    config.bits = bits;
    snprintf(kind, sizeof kind, bits ? "%s%u" : "%s", rv_quant_kind_at(which)->name,
             (unsigned)bits);
    rv_bench_check(j->b, rv_quant_create(&ctx, &config, &j->quant), ctx.message);
    rv_bench_check(j->b, rv_quant_train(&ctx, j->quant, j->rows, 0, ROWS), ctx.message);
    j->dim = dim;
    row_bytes = rv_quant_code_bytes(j->quant);
    j->codes = (unsigned char *)rv_bench_get(row_bytes * ROWS);
    j->prepared = rv_bench_get(rv_quant_query_bytes(j->quant));
    rv_bench_check(j->b, rv_quant_encode(&ctx, j->quant, j->rows, 0, ROWS, j->codes), ctx.message);
    run_prepare(j);
    bytes = (row_floats + (double)row_bytes) * CALL;
    snprintf(name, sizeof name, "encode %s", kind);
    if (rv_bench_wanted(j->b, name)) {
        rv_bench_rate(j->b, name, "rows", CALL, CALL, dim, isa, rv_bench_time(j->b, run_encode, j),
                      bytes, encode_flops(&config), bytes);
    }
    snprintf(name, sizeof name, "decode %s", kind);
    if (rv_bench_wanted(j->b, name)) {
        rv_bench_rate(j->b, name, "rows", CALL, CALL, dim, isa, rv_bench_time(j->b, run_decode, j),
                      bytes, 0, bytes);
    }
    snprintf(name, sizeof name, "prepare %s", kind);
    if (rv_bench_wanted(j->b, name)) {
        rv_bench_rate(j->b, name, "queries", 1, 1, dim, isa, rv_bench_time(j->b, run_prepare, j),
                      row_floats, encode_flops(&config) / CALL, row_floats);
    }
    distances(j, kind, row_bytes);
    free(j->codes);
    free(j->prepared);
    rv_quant_destroy(j->quant);
}

int main(int argc, char **argv)
{
    static const struct {
        rv_quant_kind kind;
        uint32_t bits;
    } kinds[] = {{RV_QUANT_SQ8, 0},    {RV_QUANT_SQ8_ROW, 0}, {RV_QUANT_SQ4, 0},
                 {RV_QUANT_F16, 0},    {RV_QUANT_BF16, 0},    {RV_QUANT_BINARY, 0},
                 {RV_QUANT_PQ, 4},     {RV_QUANT_PQ, 8},      {RV_QUANT_RABITQ, 1},
                 {RV_QUANT_RABITQ, 4}, {RV_QUANT_RABITQ, 8}};
    static const size_t dims[] = {128, 768};
    rv_bench b;
    job j;
    memset(&j, 0, sizeof j);
    rv_bench_begin(&b, "quant", argc, argv);
    if (b.rounds > 3) b.rounds = 3; /* some 200 cases */
    j.b = &b;
    j.rows = (float *)rv_bench_get((size_t)ROWS * 768 * sizeof(float));
    j.out = (float *)rv_bench_get((size_t)CALL * 768 * sizeof(float));
    j.table = (unsigned char *)rv_bench_get(DRAM_BYTES);
    j.ids = (uint32_t *)rv_bench_get((DRAM_BYTES / 16) * sizeof(uint32_t)); /* the shortest code */
    rv_bench_fill(j.rows, (size_t)ROWS * 768, 1);
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            kind_of(&j, kinds[i].kind, kinds[i].bits, dims[d]);
    free(j.rows);
    free(j.out);
    free(j.table);
    free(j.ids);
    return rv_bench_end(&b);
}
