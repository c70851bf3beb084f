/* kernels.cpp - the distance kernels of this library and of its peers, in turns on equal buffers.

   kernels PART[:TEXT] ...   with parts of: pairs many dram gemm; of these, the cases named like
                             TEXT, as in dram:l2_f16
   Every line printed that does not begin with # is
       CASE DIM WHO NS RATE SUM
   ns per pair of rows; rate in GB/s (pairs: both rows; many: the row; gemm: GFLOP/s); the sum of
   the results, in magnitude, by which tools/bench_peers.py sees that all have done the same work.

   WHO: ruvector is the public function (of pairs, or rv_metric_many); ruvector:find calls the
   pointer of rv_metric_find_f32, ruvector:pairs the public pair function once a row; simsimd calls
   the pointer of its run-time dispatch; faiss the functions of libfaiss-dev, linked; faiss-python
   those of the library named by RV_KERNELS_FAISS; openblas:KERNELS and openblas-python:KERNELS the
   libraries named by RV_KERNELS_BLAS and RV_KERNELS_BLAS_PYTHON. read adds up the same bytes: what
   the memory gives.

   Best of many short repetitions, of which each contestant has one in turn. Pairs and many: one
   query against rows that stay in the first-level cache with it. dram: a slice of a table four
   times as large, the next one at every repetition. many and dram give float16, bfloat16 and i8
   rows a float query on our side, which is what rv_metric_many takes; peers have one of the rows'
   type. WITH_SIMSIMD, WITH_FAISS: compiled with them.                                          */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#ifdef WITH_SIMSIMD
#include <simsimd/simsimd.h>
#endif
#ifdef WITH_FAISS
#include <faiss/Index.h>
#include <faiss/utils/distances.h>
#endif
#include "ruvector.h"

typedef unsigned char byte;
typedef std::function<double()> work; /* one repetition; returns the sum of its results */

static const size_t DIMS[] = {96, 128, 384, 768, 1024, 1536};
static const size_t L1_BYTES = 28672, SLICE = (size_t)64 << 20, SLICES = 4;

static volatile double sink;
static bool checking;            /* sums count every result, which a timed repetition leaves out */

static double now()
{
    std::chrono::duration<double> t = std::chrono::steady_clock::now().time_since_epoch();
    return t.count();
}

/* ---- contestants in turns ---- */

struct Round {
    struct One {
        std::string who;
        work run;
        double best, sum;
    };
    std::string name;
    size_t dim;
    std::vector<One> all;

    Round(const std::string &name, size_t dim) : name(name), dim(dim) {}
    void add(const std::string &who, work run) { all.push_back(One{who, run, 1e30, 0}); }
    /* pairs: in one repetition; amount: bytes or operations in one pair. */
    void measure(int rounds, double pairs, double amount)
    {
        checking = true;
        for (One &one : all) one.sum = one.run();
        checking = false;
        for (int r = 0; r < rounds; r++) {
            for (size_t i = 0; i < all.size(); i++) {
                One &one = all[(i + (size_t)r) % all.size()];
                double start = now();
                sink = one.run();
                one.best = std::min(one.best, now() - start);
            }
        }
        for (const One &one : all) {
            double ns = one.best / pairs * 1e9;
            printf("%s %zu %s %.3f %.2f %.7g\n", name.c_str(), dim, one.who.c_str(), ns,
                   amount / ns, one.sum < 0 ? -one.sum : one.sum);
        }
        fflush(stdout);
    }
};

/* ---- data ---- */

struct Kind {
    const char *name;
    rv_dtype type;
};
static const Kind KINDS[] = {{"f32", RV_DTYPE_F32},
                             {"f16", RV_DTYPE_F16},
                             {"bf16", RV_DTYPE_BF16},
                             {"i8", RV_DTYPE_I8},
                             {"bits", RV_DTYPE_U1}};

/* One query, in the type of the rows and in what rv_metric_many takes, and rows behind each other.
   Floats are in [0.5, 1), bytes in 0..127, with scale 1: no sum comes near zero. */
struct Rows {
    rv_dtype type;
    size_t dim, stride, skip, n; /* skip: bytes before the elements of a row */
    const byte *rows;
    const byte *query;
    const float *wide;
};

static uint32_t random32()
{
    static uint64_t state = 1;
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(state >> 32);
}

static void fill_row(rv_dtype type, size_t dim, byte *row, float *wide)
{
    for (size_t i = 0; i < dim; i++) {
        uint32_t x = random32(), bits = 0x3F000000u | (x & 0x7F0000u);
        uint16_t half = (uint16_t)(0x3800u | (x >> 13 & 0x3F8u)), top = (uint16_t)(bits >> 16);
        int8_t small = (int8_t)(x >> 25);
        float value;
        memcpy(&value, &bits, 4);
        switch ((int)type) {
        case RV_DTYPE_F32: memcpy(row + 4 * i, &value, 4); break;
        case RV_DTYPE_F16: memcpy(row + 2 * i, &half, 2); break;
        case RV_DTYPE_BF16: memcpy(row + 2 * i, &top, 2); break;
        case RV_DTYPE_I8: row[i] = (byte)small; break;
        default:
            if (i % 8 == 0) row[i / 8] = (byte)(x >> 24);
            break;
        }
        if (wide) wide[i] = type == RV_DTYPE_I8 ? (float)small : value;
    }
}

/* Fills memory with n rows (I8: each with a scale when `scaled`); query and wide hold dim. */
static Rows make_rows(rv_dtype type, size_t dim, bool scaled, byte *memory, size_t n, byte *query,
                      float *wide)
{
    const float one = 1.0f;
    const size_t kept = 97; /* so many rows are random, the rest repeat them */
    Rows r;
    r.type = type;
    r.dim = dim;
    r.skip = type == RV_DTYPE_I8 && scaled ? 4 : 0;
    r.stride = rv_dtype_bytes(type, dim) - (type == RV_DTYPE_I8 && !scaled ? 4 : 0);
    r.n = n ? n : SLICE * SLICES / r.stride;
    r.rows = memory;
    r.query = query;
    r.wide = wide;
    for (size_t i = 0; i < r.n; i++) {
        byte *row = memory + i * r.stride;
        if (i >= kept) memcpy(row, row - kept * r.stride, r.stride);
        else {
            if (r.skip) memcpy(row, &one, 4);
            fill_row(type, dim, row + r.skip, NULL);
        }
    }
    fill_row(type, dim, query, wide);
    return r;
}

/* ---- peers ---- */

typedef float (*pair_f32)(const float *a, const float *b, size_t n);
typedef void (*many_f32)(float *out, const float *query, const float *rows, size_t dim, size_t n);
typedef void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*sgemm64)(int order, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha,
                        const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                        float *c, int64_t ldc);

/* A symbol of the library that the environment names, NULL where there is none. */
template <class F> static F symbol(const char *variable, const char *name)
{
    const char *file = getenv(variable);
    void *library = file && *file ? dlopen(file, RTLD_NOW | RTLD_LOCAL) : NULL, *found;
    F f = NULL;
    if (file && *file && !library) fprintf(stderr, "kernels: %s\n", dlerror());
    found = library ? dlsym(library, name) : NULL;
    memcpy(&f, &found, sizeof f);
    return f;
}

struct Faiss {
    const char *name;
    pair_f32 l2, ip;
    many_f32 l2_many, ip_many;
};

static const std::vector<Faiss> &faisses()
{
    static const char *const file = "RV_KERNELS_FAISS";
    static std::vector<Faiss> list;
    if (!list.empty()) return list;
    Faiss f = {"faiss-python", symbol<pair_f32>(file, "_ZN5faiss10fvec_L2sqrEPKfS1_m"),
               symbol<pair_f32>(file, "_ZN5faiss18fvec_inner_productEPKfS1_m"),
               symbol<many_f32>(file, "_ZN5faiss13fvec_L2sqr_nyEPfPKfS2_mm"),
               symbol<many_f32>(file, "_ZN5faiss22fvec_inner_products_nyEPfPKfS2_mm")};
    if (f.l2 && f.ip && f.l2_many && f.ip_many) list.push_back(f);
#ifdef WITH_FAISS
    Faiss g = {"faiss", faiss::fvec_L2sqr, faiss::fvec_inner_product, faiss::fvec_L2sqr_ny,
               faiss::fvec_inner_products_ny};
    list.push_back(g);
#endif
    return list;
}

#ifdef WITH_SIMSIMD
static simsimd_metric_dense_punned_t simsimd_kernel(rv_metric metric, rv_dtype type)
{
    simsimd_datatype_t types[] = {simsimd_datatype_f32_k, simsimd_datatype_f16_k,
                                  simsimd_datatype_bf16_k, simsimd_datatype_i8_k,
                                  simsimd_datatype_b8_k};
    simsimd_metric_kind_t kind = type == RV_DTYPE_U1             ? simsimd_metric_hamming_k
                                 : metric == RV_METRIC_L2        ? simsimd_metric_l2sq_k
                                 : metric == RV_METRIC_COSINE    ? simsimd_metric_cos_k
                                                                 : simsimd_metric_dot_k;
    simsimd_kernel_punned_t kernel = NULL;
    simsimd_capability_t used;
    simsimd_metric_dense_punned_t f;
    simsimd_find_kernel_punned(kind, types[type], simsimd_capabilities(), simsimd_cap_any_k,
                               &kernel, &used);
    memcpy(&f, &kernel, sizeof f);
    return f;
}
#endif

/* ---- pairs, one query against rows ---- */

/* rows: which of them, and how often. */
struct Span {
    size_t *first; /* moved on by `step` rows, wrapping at the end, after each repetition */
    size_t n, times, step;
};

static size_t advance(const Rows &r, const Span &s)
{
    size_t first = *s.first;
    if (s.step) *s.first = first + 2 * s.step > r.n ? 0 : first + s.step;
    return first;
}

template <class F> static work each(const Rows &r, const Span &s, F f)
{
    return [=]() {
        const byte *rows = r.rows + advance(r, s) * r.stride + r.skip;
        double sum = 0;
        for (size_t t = 0; t < s.times; t++)
            for (size_t i = 0; i < s.n; i++) sum += (double)f(r.query, rows + i * r.stride, r.dim);
        return sum;
    };
}

template <class F> static work whole(const Rows &r, const Span &s, F f)
{
    static std::vector<float> out;
    if (out.size() < s.n) out.resize(s.n);
    float *o = out.data();
    return [=]() {
        const byte *rows = r.rows + advance(r, s) * r.stride;
        double sum = 0;
        for (size_t t = 0; t < s.times; t++) {
            f(rows, s.n, o);
            sum += (double)o[s.n - 1];
            for (size_t i = 0; checking && i + 1 < s.n; i++) sum += (double)o[i];
        }
        return sum;
    };
}

#define F32(p) ((const float *)(const void *)(p))
#define U16(p) ((const uint16_t *)(const void *)(p))
#define I8(p) ((const int8_t *)(p))
#define PAIR(call) each(r, s, [](const byte *a, const byte *b, size_t n) { return call; })

static work our_pair(rv_metric metric, const Rows &r, const Span &s)
{
    const bool l2 = metric == RV_METRIC_L2;
    switch ((int)r.type) {
    case RV_DTYPE_F32:
        return metric == RV_METRIC_COSINE ? PAIR(rv_cosine_f32(F32(a), F32(b), n))
               : l2                       ? PAIR(rv_l2sq_f32(F32(a), F32(b), n))
                                          : PAIR(rv_dot_f32(F32(a), F32(b), n));
    case RV_DTYPE_F16:
        return l2 ? PAIR(rv_l2sq_f16(U16(a), U16(b), n)) : PAIR(rv_dot_f16(U16(a), U16(b), n));
    case RV_DTYPE_BF16:
        return l2 ? PAIR(rv_l2sq_bf16(U16(a), U16(b), n)) : PAIR(rv_dot_bf16(U16(a), U16(b), n));
    case RV_DTYPE_I8:
        return l2 ? PAIR(rv_l2sq_i8(I8(a), I8(b), n)) : PAIR(rv_dot_i8(I8(a), I8(b), n));
    default: return PAIR(rv_hamming_u1(a, b, n));
    }
}

static void add_pairs(Round &round, rv_metric metric, const Rows &r, const Span &s)
{
#ifdef WITH_SIMSIMD
    simsimd_metric_dense_punned_t k = simsimd_kernel(metric, r.type);
    const bool bits = r.type == RV_DTYPE_U1; /* counted in bytes there */
    if (k) {
        round.add("simsimd", each(r, s, [=](const byte *a, const byte *b, size_t n) {
            simsimd_distance_t d;
            k(a, b, bits ? n / 8 : n, &d);
            return d;
        }));
    }
#endif
    (void)round, (void)metric, (void)r, (void)s;
}

static const char *metric_label(const Kind &kind, rv_metric metric)
{
    return kind.type == RV_DTYPE_U1      ? "hamming"
           : metric == RV_METRIC_COSINE  ? "cosine"
           : metric == RV_METRIC_L2      ? "l2"
                                         : "dot";
}

static bool meaningful(const Kind &kind, rv_metric metric)
{
    if (metric == RV_METRIC_COSINE) return kind.type == RV_DTYPE_F32;
    return kind.type != RV_DTYPE_U1 || metric == RV_METRIC_L2;
}

static void pairs_case(const Kind &kind, rv_metric metric, size_t dim, byte *memory, byte *query,
                       float *wide)
{
    Round round(std::string("pair_") + metric_label(kind, metric) + "_" + kind.name, dim);
    size_t zero = 0, bytes = (kind.type == RV_DTYPE_I8 ? dim : rv_dtype_bytes(kind.type, dim));
    size_t n = std::min((L1_BYTES - bytes) / bytes, (size_t)512);
    Rows r = make_rows(kind.type, dim, false, memory, n, query, wide);
    Span s = {&zero, n, 1 + std::min((size_t)2 << 20, bytes * 4096) / (bytes * n), 0};
    round.add("ruvector", our_pair(metric, r, s));
    if (kind.type == RV_DTYPE_F32) {
        rv_distance_f32 find = rv_metric_find_f32(metric, RV_ISA_BEST);
        round.add("ruvector:find", each(r, s, [=](const byte *a, const byte *b, size_t d) {
            return find(F32(a), F32(b), d);
        }));
    }
    add_pairs(round, metric, r, s);
    if (kind.type == RV_DTYPE_F32 && metric != RV_METRIC_COSINE) {
        for (const Faiss &f : faisses()) {
            pair_f32 call = metric == RV_METRIC_L2 ? f.l2 : f.ip;
            round.add(f.name, each(r, s, [=](const byte *a, const byte *b, size_t d) {
                return call(F32(a), F32(b), d);
            }));
        }
    }
    round.measure(300, (double)(s.n * s.times), 2.0 * (double)bytes);
}

static void add_read(Round &round, const Rows &r, const Span &s)
{
    round.add("read", [=]() {
        const byte *p = r.rows + advance(r, s) * r.stride;
        uint64_t sum[8] = {0, 0, 0, 0, 0, 0, 0, 0}, word;
        for (size_t t = 0; t < s.times; t++)
            for (size_t i = 0; i + 64 <= s.n * r.stride; i += 64)
                for (size_t j = 0; j < 8; j++) {
                    memcpy(&word, p + i + 8 * j, 8);
                    sum[j] += word;
                }
        return (double)(sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7]);
    });
}

static void many_case(const Kind &kind, rv_metric metric, size_t dim, bool dram, byte *memory,
                      byte *query, float *wide)
{
    Round round((dram ? "dram_" : "many_") + std::string(metric_label(kind, metric)) + "_" +
                    kind.name, dim);
    size_t at = 0, bytes = rv_dtype_bytes(kind.type, dim);
    size_t n = dram ? SLICE / bytes : std::min((L1_BYTES - 4 * dim) / (bytes + 4), (size_t)512);
    if (n < 4) n = 4; /* 1536 floats: 30 KiB with the query */
    Rows r = make_rows(kind.type, dim, true, memory, dram ? 0 : n, query, wide);
    Span s = {&at, n, dram ? 1 : 1 + std::min((size_t)2 << 20, bytes * 4096) / (bytes * n),
              dram ? n : 0};
    rv_metric m = kind.type == RV_DTYPE_U1 ? RV_METRIC_HAMMING : metric;
    const void *q = kind.type == RV_DTYPE_U1 ? (const void *)query : (const void *)wide;
    if (kind.type == RV_DTYPE_F32) q = query;
    round.add("ruvector", whole(r, s, [=](const byte *rows, size_t count, float *out) {
        rv_metric_many(m, r.type, q, rows, r.stride, count, r.dim, out);
    }));
    round.add("ruvector:pairs", our_pair(metric, r, s));
    add_pairs(round, metric, r, s);
    if (kind.type == RV_DTYPE_F32 && metric != RV_METRIC_COSINE) {
        for (const Faiss &f : faisses()) {
            many_f32 call = metric == RV_METRIC_L2 ? f.l2_many : f.ip_many;
            round.add(f.name, whole(r, s, [=](const byte *rows, size_t count, float *out) {
                call(out, F32(query), F32(rows), r.dim, count);
            }));
        }
    }
    if (dram) add_read(round, r, s);
    round.measure(dram ? 9 : 300, (double)(s.n * s.times), (double)bytes);
}

/* ---- gemm ---- */

static std::string core(const char *variable, const char *name)
{
    typedef char *(*text)(void);
    text f = symbol<text>(variable, name);
    return f ? std::string(":") + f() : "";
}

static void gemm_case(size_t m, size_t k, float *a, float *b, float *c)
{
    Round round("gemm_" + std::to_string(m) + "x" + std::to_string(m), k);
    const int times = (int)(1 + 20000000 / (m * m * k)), mi = (int)m, ki = (int)k;
    sgemm f = symbol<sgemm>("RV_KERNELS_BLAS", "cblas_sgemm");
    sgemm64 g = symbol<sgemm64>("RV_KERNELS_BLAS_PYTHON", "scipy_cblas_sgemm64_");
    const auto run = [=](std::function<void()> once) -> work {
        return [=]() {
            for (int t = 0; t < times; t++) once();
            return (double)c[0] + (double)c[m * m - 1];
        };
    };
    round.add("ruvector", run([=]() {
        if (rv_gemm_nt_f32(NULL, a, k, b, k, m, m, k, 0, c, m)) abort();
    }));
    /* row-major, a as it is, b transposed */
    if (f) {
        round.add("openblas" + core("RV_KERNELS_BLAS", "openblas_get_corename"), run([=]() {
            f(101, 111, 112, mi, mi, ki, 1, a, ki, b, ki, 0, c, mi);
        }));
    }
    if (g) {
        round.add("openblas-python" + core("RV_KERNELS_BLAS_PYTHON",
                                           "scipy_openblas_get_corename64_"), run([=]() {
            g(101, 111, 112, mi, mi, ki, 1, a, ki, b, ki, 0, c, mi);
        }));
    }
    round.measure(m > 512 ? 8 : 60, (double)(m * m) * times, 2.0 * (double)k);
}

static void gemms(byte *memory)
{
    float *a = (float *)(void *)memory, *b = a + 1024 * 1536, *c = b + 1024 * 1536;
    for (size_t i = 0; i < 2 * 1024; i++) fill_row(RV_DTYPE_F32, 1536, memory + i * 6144, NULL);
    for (size_t m = 64; m <= 1024; m *= 4)
        for (size_t k : DIMS) gemm_case(m, k, a, b, c);
}

/* The versions, where there is a way to ask. */
static void describe()
{
    typedef char *(*text)(void);
    text config = symbol<text>("RV_KERNELS_BLAS", "openblas_get_config");
    printf("# ruvector: %s\n", rv_isa_name(rv_isa_resolve(RV_ISA_BEST)));
#ifdef WITH_SIMSIMD
    printf("# simsimd: %d.%d.%d\n", SIMSIMD_VERSION_MAJOR, SIMSIMD_VERSION_MINOR,
           SIMSIMD_VERSION_PATCH);
#endif
#ifdef WITH_FAISS
    printf("# faiss: %d.%d.%d\n", FAISS_VERSION_MAJOR, FAISS_VERSION_MINOR, FAISS_VERSION_PATCH);
#endif
    if (config) printf("# openblas: %s\n", config());
    config = symbol<text>("RV_KERNELS_BLAS_PYTHON", "scipy_openblas_get_config64_");
    if (config) printf("# openblas-python: %s\n", config());
}

/* Of the cases of one part those that are named like `like`. */
static void run_part(const std::string &part, const std::string &like, byte *memory)
{
    static const rv_metric metrics[] = {RV_METRIC_L2, RV_METRIC_IP, RV_METRIC_COSINE};
    byte *query = memory + SLICE * SLICES;
    float *wide = (float *)(void *)(query + 8192);
    for (const Kind &kind : KINDS) {
        for (rv_metric metric : metrics) {
            std::string name = std::string(metric_label(kind, metric)) + "_" + kind.name;
            if (!meaningful(kind, metric) || name.find(like) == std::string::npos) continue;
            for (size_t dim : DIMS) {
                if (part == "pairs") pairs_case(kind, metric, dim, memory, query, wide);
                else many_case(kind, metric, dim, part == "dram", memory, query, wide);
            }
        }
    }
}

int main(int argc, char **argv)
{
    const size_t size = SLICE * SLICES + 65536;
    void *table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) return 2;
    madvise(table, size, MADV_HUGEPAGE);
    describe();
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i], part = word.substr(0, word.find(':'));
        if (part == "gemm") gemms((byte *)table);
        else run_part(part, word.substr(std::min(word.size(), part.size() + 1)), (byte *)table);
    }
    return 0;
}
