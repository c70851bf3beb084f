/* not on: msan (it does not follow masked AVX-512 loads)
   Every kernel of every instruction set this machine can run, against plain loops in double
   (floats) or exact loops (integers); rows in heap blocks of exactly their size, at byte offsets
   0..3. */
#include "rv_test.h"

#include "golden/scalar.h"

#include "../src/mathx.c"
#include "../src/topk.c"
#include "../src/distance.c"

#define U (1.0 / 16777216.0) /* unit roundoff of float */

/* With -ffast-math compilers divide by approximate reciprocals, and the start-up code of some makes
   the processor take subnormal numbers for zero. */
#if defined(__FAST_MATH__)
#define SLOPPY (2 * U)
#define LEAST 1.1754943508222875e-38
#else
#define SLOPPY 0.0
#define LEAST 0.0
#endif

/* All tables that can run here: one per instruction set, and one per AVX-512 sub-feature. */
static size_t tables(const rv__kernels **list)
{
    size_t n = 0;
    for (int isa = RV_ISA_SCALAR; isa <= RV_ISA_WASM; isa++) {
        if (rv_isa_resolve((rv_isa)isa) == (rv_isa)isa) list[n++] = rv__kernels_for((rv_isa)isa);
    }
    return n + rv__kernels_more(list + n);
}

/* A copy of n bytes that ends where its heap block ends and starts `offset` bytes into it. */
typedef struct block {
    unsigned char *heap, *at;
} block;

static block block_of(const void *data, size_t n, size_t offset)
{
    block b;
    b.heap = (unsigned char *)malloc(n + offset + (n + offset == 0));
    if (!b.heap) exit(2);
    b.at = b.heap + offset;
    if (n) memcpy(b.at, data, n);
    return b;
}

/* Lengths 0..130 and 1536. */
static size_t length_at(size_t i)
{
    return i <= 130 ? i : 1536;
}
#define LENGTHS 132u

static double f16_value(uint16_t x)
{
    int e = x >> 10 & 31, m = x & 1023;
    double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return x >> 15 ? -v : v;
}

static double bf16_value(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return (double)v;
}

/* One row of a type from random numbers, and what it stands for. */
static void random_row(rv_test_rng *rng, int type, size_t n, unsigned char *row, double *value)
{
    float scale = 0.01f + 0.02f * (rv_test_f32(rng) + 1.0f), x;
    if (type == RV_DTYPE_I8) memcpy(row, &scale, 4);
    for (size_t i = 0; i < n; i++) {
        uint16_t h = (uint16_t)((rv_test_u64(rng) & 0x83FFu) | (13u + rv_test_below(rng, 3)) << 10);
        int8_t c = (int8_t)((int)rv_test_below(rng, 256) - 128);
        switch (type) {
        case RV_DTYPE_F16:
            memcpy(row + 2 * i, &h, 2);
            value[i] = f16_value(h);
            break;
        case RV_DTYPE_BF16:
            h = (uint16_t)((h & 0x807Fu) | (125u + rv_test_below(rng, 3)) << 7);
            memcpy(row + 2 * i, &h, 2);
            value[i] = bf16_value(h);
            break;
        case RV_DTYPE_I8:
            memcpy(row + 4 + i, &c, 1);
            value[i] = (double)c * (double)scale;
            break;
        case RV_DTYPE_U8:
            row[i] = (unsigned char)rv_test_below(rng, 256);
            value[i] = (double)row[i];
            break;
        default:
            x = rv_test_f32(rng);
            memcpy(row + 4 * i, &x, 4);
            value[i] = (double)x;
        }
    }
}

/* The distance and the bound on its error: the sum of magnitudes times u (3 + sqrt(n)), the random
   walk of n roundings. The scale of I8 rows costs one rounding per term more. */
static double reference(int metric, const double *a, const double *b, size_t n, double *bound)
{
    double sum = 0.0, size = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs(a[i] - b[i]), t = metric == RV_METRIC_L2 ? d * d : d;
        if (metric == RV_METRIC_IP || metric == RV_METRIC_COSINE) t = a[i] * b[i];
        sum = metric == RV_METRIC_LINF ? (t > sum ? t : sum) : sum + t;
        /* a difference carries the roundings of its operands */
        size += metric == RV_METRIC_L2                               ? t + 2.0 * d * fabs(b[i])
                : metric == RV_METRIC_L1 || metric == RV_METRIC_LINF ? t + fabs(b[i])
                                                                     : fabs(t);
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    *bound = U * (3.0 + sqrt((double)n)) * size;
    if (metric == RV_METRIC_IP) return -sum;
    if (metric != RV_METRIC_COSINE) return sum;
    if (aa == 0.0 || bb == 0.0) return aa == bb ? 0.0 : 1.0;
    *bound = U * (3.0 + sqrt((double)n)) * (1.0 + size / sqrt(aa * bb)) + 4.0 * U;
    return 1.0 - sum / sqrt(aa * bb);
}

/* The types a query of floats meets. */
static const rv_dtype types[] = {RV_DTYPE_F32, RV_DTYPE_F16, RV_DTYPE_BF16, RV_DTYPE_I8,
                                 RV_DTYPE_U8};

static void check_scan(const rv__kernels *k, int metric, int type, size_t n, size_t n_rows,
                       rv_test_rng *rng)
{
    const size_t bytes = rv_dtype_bytes((rv_dtype)type, n), offset = rv_test_below(rng, 4),
                 stride = bytes + offset;
    unsigned char *raw = (unsigned char *)malloc(stride * n_rows + 1);
    double *value = (double *)malloc(sizeof(double) * (n * (n_rows + 1) + 1)),
           *query = value + n * n_rows;
    float *q32 = (float *)malloc(4 * n + 1), *out = (float *)malloc(4 * n_rows);
    uint32_t *ids = (uint32_t *)malloc(4 * n_rows);
    block rows, q;
    if (!raw || !value || !q32 || !out || !ids) exit(2);
    random_row(rng, RV_DTYPE_F32, n, (unsigned char *)q32, query);
    memset(raw, 0xFF, stride * n_rows);
    for (size_t r = 0; r < n_rows; r++) random_row(rng, type, n, raw + r * stride, value + r * n);
    rows = block_of(raw, stride * (n_rows - 1) + bytes, offset);
    q = block_of(q32, 4 * n, rv_test_below(rng, 4));
    for (int gather = 0; gather < 2; gather++) {
        for (size_t r = 0; r < n_rows; r++) {
            ids[r] = (uint32_t)(gather ? rv_test_below(rng, n_rows) : r);
            out[r] = -77.0f;
        }
        k->scan[metric][type](q.at, rows.at, stride, gather ? ids : NULL, n_rows, n, out);
        for (size_t r = 0; r < n_rows; r++) {
            double bound, want = reference(metric, query, value + ids[r] * n, n, &bound);
            RV_NEAR((double)out[r], want, bound);
        }
    }
    free(rows.heap);
    free(q.heap);
    free(raw);
    free(value);
    free(q32);
    free(out);
    free(ids);
}

static void test_scan(void)
{
    const rv__kernels *list[16];
    size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 1);
    for (size_t t = 0; t < n_tables; t++) {
        for (int metric = 0; metric <= RV_METRIC_LINF; metric++) {
            for (size_t y = 0; y < RV_COUNT_OF(types); y++) {
                for (size_t i = 0; i < LENGTHS; i += RV_TEST_SCALE > 1 ? 7 : 1) {
                    rv_test_row(rv_dtype_name(types[y]),
                                length_at(i) + 10000 * (size_t)metric + 100000 * t);
                    check_scan(list[t], metric, (int)types[y], length_at(i),
                               i < 131 ? 1 + i % 13 : 5, &rng);
                }
            }
        }
    }
}

/* With -ffast-math the compiler orders the sums of each loop as it likes. */
#if defined(__FAST_MATH__)
#define CHECK_SAME(a, b) RV_NEAR((double)(a), (double)(b), 16 * U * fabs((double)(b)))
#else
#define CHECK_SAME(a, b) RV_EQUAL(rv__bits_f32(a), rv__bits_f32(b))
#endif

/* A distance does not depend on the place of its row: the same bits in a scan of more rows than a
   cache holds, in a short one, in a gather. */
static void check_places(const rv__kernels *k, int metric, int type, size_t n, rv_test_rng *rng)
{
    const size_t bytes = rv_dtype_bytes((rv_dtype)type, n),
                 n_rows = 40000 / bytes + 9 + rv_test_below(rng, 4);
    const rv__scan_fn scan = k->scan[metric][type];
    unsigned char *raw = (unsigned char *)malloc(bytes * n_rows);
    double *value = (double *)malloc(sizeof(double) * n * (n_rows + 1)),
           *query = value + n * n_rows;
    float *q32 = (float *)malloc(4 * n), *all = (float *)malloc(4 * n_rows),
          *out = (float *)malloc(4 * n_rows), few[8];
    uint32_t *ids = (uint32_t *)malloc(4 * n_rows);
    block rows;
    if (!raw || !value || !q32 || !all || !out || !ids) exit(2);
    random_row(rng, RV_DTYPE_F32, n, (unsigned char *)q32, query);
    for (size_t r = 0; r < n_rows; r++) {
        random_row(rng, type, n, raw + r * bytes, value + r * n);
        ids[r] = (uint32_t)rv_test_below(rng, n_rows);
    }
    rows = block_of(raw, bytes * n_rows, 0);
    scan(q32, rows.at, bytes, NULL, n_rows, n, all);
    scan(q32, rows.at, bytes, ids, n_rows, n, out);
    for (size_t r = 0; r < n_rows; r++) {
        double bound, want = reference(metric, query, value + r * n, n, &bound);
        const size_t count = r + 8 < n_rows ? 1 + r % 8 : 1;
        RV_NEAR((double)all[r], want, bound);
        CHECK_SAME(out[r], all[ids[r]]);
        scan(q32, (const unsigned char *)rows.at + r * bytes, bytes, NULL, count, n, few);
        for (size_t i = 0; i < count; i++) CHECK_SAME(few[i], all[r + i]);
    }
    free(rows.heap);
    free(raw);
    free(value);
    free(q32);
    free(all);
    free(out);
    free(ids);
}

static void test_places(void)
{
    static const size_t lengths[] = {40, 97, 384, 4100};
    const rv__kernels *list[16];
    size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 31);
    for (size_t t = 0; t < n_tables; t++) {
        for (int metric = 0; metric <= RV_METRIC_LINF; metric++) {
            for (size_t y = 0; y < RV_COUNT_OF(types); y++) {
                for (size_t i = t % 2; i < RV_COUNT_OF(lengths); i += RV_TEST_SCALE > 1 ? 3 : 1) {
                    rv_test_row(rv_dtype_name(types[y]),
                                lengths[i] + 10000 * (size_t)metric + 100000 * t);
                    check_places(list[t], metric, (int)types[y], lengths[i], &rng);
                }
            }
        }
    }
}

/* ab, aa, bb, each within the random walk of its own sum of magnitudes. */
static void check_parts(const rv__kernels *k, const void *x, const void *y, const double *a,
                        const double *b, size_t n)
{
    float sums[4] = {-77.0f, -77.0f, -77.0f, -77.0f};
    k->parts_f32((const float *)x, (const float *)y, n, sums);
    for (size_t part = 0; part < 3; part++) {
        const double *p = part == 2 ? b : a, *q = part == 1 ? a : b;
        double bound, want = reference(RV_METRIC_IP, p, q, n, &bound);
        RV_NEAR((double)sums[part], -want, bound);
    }
    RV_CHECK(sums[3] == -77.0f);
}

/* The plain dot product, of which the table's inner product distance is the negative. */
static void check_dot(const rv__kernels *k, int type, const void *x, const void *y, const double *a,
                      const double *b, size_t n)
{
    double bound, want = reference(RV_METRIC_IP, a, b, n, &bound);
    float got = type ? k->dot_u16[type - 1]((const uint16_t *)x, (const uint16_t *)y, n)
                     : k->dot_f32((const float *)x, (const float *)y, n);
    RV_NEAR((double)got, -want, bound);
}

static void test_pairs(void)
{
    const rv__kernels *list[16];
    size_t n_tables = tables(list);
    double *a = (double *)malloc(sizeof(double) * 1536),
           *b = (double *)malloc(sizeof(double) * 1536);
    unsigned char *ra = (unsigned char *)malloc(4 * 1536), *rb = (unsigned char *)malloc(4 * 1536);
    rv_test_rng rng;
    rv_test_seed(&rng, 2);
    for (size_t t = 0; t < n_tables; t++) {
        for (int type = 0; type <= RV_DTYPE_BF16; type++) {
            for (size_t i = 0; i < LENGTHS; i += RV_TEST_SCALE > 1 ? 7 : 1) {
                const size_t n = length_at(i), bytes = rv_dtype_bytes((rv_dtype)type, n);
                block x, y;
                random_row(&rng, type, n, ra, a);
                random_row(&rng, type, n, rb, b);
                x = block_of(ra, bytes, i % 4);
                y = block_of(rb, bytes, i / 4 % 4);
                rv_test_row(rv_dtype_name((rv_dtype)type), n + 100000 * t);
                if (type == RV_DTYPE_F32) check_parts(list[t], x.at, y.at, a, b, n);
                check_dot(list[t], type, x.at, y.at, a, b, n);
                for (int metric = 0; metric <= RV_METRIC_LINF; metric++) {
                    double bound, want = reference(metric, a, b, n, &bound);
                    const void *p = x.at, *q = y.at;
                    float got =
                        type ? list[t]->pair_u16[type - 1][metric]((const uint16_t *)p,
                                                                   (const uint16_t *)q, n)
                             : list[t]->pair_f32[metric]((const float *)p, (const float *)q, n);
                    RV_NEAR((double)got, want, bound);
                }
                free(x.heap);
                free(y.heap);
            }
        }
    }
    free(a);
    free(b);
    free(ra);
    free(rb);
}

/* Zero norms, NaN, infinity, huge and tiny values mean the same everywhere. */
static void test_meaning(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    const float inf = rv__infinity(), nan = rv__from_bits_f32(0x7FC00000);
    float a[70], b[70], out[5];
    uint32_t ids[5] = {0, 0, 0, 0, 0};
    for (size_t t = 0; t < n_tables; t++) {
        const rv__kernels *k = list[t];
        for (size_t n = 1; n <= 70; n++) {
            rv_test_row("table, n", 1000 * t + n);
            for (size_t i = 0; i < n; i++) a[i] = b[i] = 0.0f;
            RV_CHECK(k->pair_f32[RV_METRIC_COSINE](a, b, n) == 0.0f);
            a[n - 1] = 1.0f;
            RV_CHECK(k->pair_f32[RV_METRIC_COSINE](a, b, n) == 1.0f);
            RV_CHECK(k->pair_f32[RV_METRIC_COSINE](b, a, n) == 1.0f);
            b[n - 1] = -3.0f;
            RV_NEAR((double)k->pair_f32[RV_METRIC_COSINE](a, b, n), 2.0, 4 * U);
            for (int metric = 0; metric <= RV_METRIC_LINF; metric++) {
                for (size_t where = 0; where < n; where += 5) {
                    float old = a[where];
                    a[where] = nan;
                    RV_CHECK(rv__is_nan(k->pair_f32[metric](a, b, n)));
                    RV_CHECK(rv__is_nan(k->pair_f32[metric](b, a, n)));
                    a[where] = -nan;
                    RV_CHECK(rv__is_nan(k->pair_f32[metric](a, b, n)));
                    k->scan[metric][RV_DTYPE_F32](b, (const unsigned char *)a, 4 * n, ids, 5, n,
                                                  out);
                    for (size_t r = 0; r < 5; r++) RV_CHECK(rv__is_nan(out[r]));
                    a[where] = inf; /* against -3 or 0: inf, -3 * inf, inf * 0 = NaN */
                    if (metric == RV_METRIC_COSINE || (metric == RV_METRIC_IP && where < n - 1)) {
                        RV_CHECK(rv__is_nan(k->pair_f32[metric](a, b, n)));
                    } else {
                        RV_CHECK(rv__bits_f32(k->pair_f32[metric](a, b, n)) == 0x7F800000);
                    }
                    a[where] = old;
                }
            }
            /* Squares that overflow or vanish in float: the cosine is still right. */
            for (size_t i = 0; i < n; i++) {
                a[i] = 1e30f;
                b[i] = i % 2 ? 1e-30f : -1e-30f;
            }
            RV_NEAR((double)k->pair_f32[RV_METRIC_COSINE](a, b, n),
                    n % 2 ? 1.0 + 1.0 / (double)n : 1.0, 4 * U);
            k->scan[RV_METRIC_COSINE][RV_DTYPE_F32](a, (const unsigned char *)b, 4 * n, ids, 5, n,
                                                    out);
            RV_NEAR((double)out[4], n % 2 ? 1.0 + 1.0 / (double)n : 1.0, 4 * U);
        }
        RV_CHECK(k->pair_f32[RV_METRIC_COSINE](a, b, 0) == 0.0f);
        RV_CHECK(k->pair_f32[RV_METRIC_LINF](a, b, 0) == 0.0f);
    }
}

/* Halves and bytes of zeros, not a number, infinity: what the float forms say. */
static void test_meaning_of_narrow(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    static const uint16_t one[2] = {0x3C00, 0x3F80}, inf[2] = {0x7C00, 0x7F80},
                          nan[2] = {0x7E00, 0x7FC0}; /* f16, bf16 */
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t n = 1; n <= 70; n++) {
            rv_test_row("table, n", 1000 * t + n);
            for (size_t type = 0; type < 2; type++) {
                uint16_t a[70], b[70];
                for (size_t i = 0; i < n; i++) a[i] = b[i] = 0;
                for (int metric = 0; metric <= RV_METRIC_LINF; metric++) {
                    float (*pair)(const uint16_t *, const uint16_t *, size_t) =
                        list[t]->pair_u16[type][metric];
                    RV_CHECK(pair(a, b, n) == 0.0f);
                    a[n / 2] = one[type];
                    RV_CHECK(pair(a, b, n) == (metric == RV_METRIC_IP ? 0.0f : 1.0f));
                    a[n / 2] = nan[type];
                    RV_CHECK(rv__is_nan(pair(a, b, n)) && rv__is_nan(pair(b, a, n)));
                    a[n / 2] = inf[type];
                    if (metric == RV_METRIC_COSINE || metric == RV_METRIC_IP)
                        RV_CHECK(rv__is_nan(pair(a, b, n))); /* times the zeros of b */
                    else RV_CHECK(rv__bits_f32(pair(a, b, n)) == 0x7F800000);
                    a[n / 2] = 0;
                    RV_CHECK(pair(a, b, 0) == 0.0f);
                }
            }
        }
    }
}

/* Rows of bytes: a query that is NaN or infinite, zero rows, no dimensions. */
static void test_meaning_of_u8(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    const float inf = rv__infinity(), nan = rv__from_bits_f32(0x7FC00000);
    uint8_t row[300];
    float q[300], out[5];
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t n = 1; n <= 300; n += n < 70 ? 1 : 115) { /* four rows at once, and one */
            const size_t at = n / 2;
            rv_test_row("table, n", 1000 * t + n);
            for (size_t i = 0; i < n; i++) {
                row[i] = 0;
                q[i] = 0.0f;
            }
            for (int metric = 0; metric <= RV_METRIC_LINF; metric++) {
                rv__scan_fn scan = list[t]->scan[metric][RV_DTYPE_U8];
                const float zero = metric == RV_METRIC_COSINE ? 1.0f : 0.0f;
                RV_CHECK(list[t]->scan[metric][RV_DTYPE_U1] == NULL);
                scan(q, row, 0, NULL, 5, n, out);
                for (size_t r = 0; r < 5; r++) RV_CHECK(out[r] == 0.0f);
                row[at] = 255;
                scan(q, row, 0, NULL, 5, n, out);
                if (metric == RV_METRIC_IP || metric == RV_METRIC_COSINE)
                    RV_CHECK(out[4] == zero);
                else RV_CHECK(out[4] == (metric == RV_METRIC_L2 ? 65025.0f : 255.0f));
                q[at] = nan;
                scan(q, row, 0, NULL, 5, n, out);
                for (size_t r = 0; r < 5; r++) RV_CHECK(rv__is_nan(out[r]));
                q[at] = inf;
                scan(q, row, 0, NULL, 5, n, out);
                if (metric == RV_METRIC_COSINE) RV_CHECK(rv__is_nan(out[4]));
                else
                    RV_CHECK(rv__bits_f32(out[4]) ==
                             (metric == RV_METRIC_IP ? (int32_t)0xFF800000u : 0x7F800000));
                q[at] = 1e30f; /* its square is beyond the floats, the cosine is not */
                scan(q, row, 0, NULL, 5, n, out);
                if (metric == RV_METRIC_COSINE) RV_NEAR((double)out[4], 0.0, 4 * U);
                scan(q, row, 0, NULL, 5, 0, out);
                for (size_t r = 0; r < 5; r++) RV_CHECK(out[r] == 0.0f);
                q[at] = 0.0f;
                row[at] = 0;
            }
        }
    }
}

/* ---- integers: exact ---- */

/* One pair: the largest difference, the sums of unsigned bytes. */
static void check_bytes(const rv__kernels *k, const uint8_t *p, const uint8_t *q, size_t n)
{
    uint32_t sums[3] = {0, 0, 0}, got[3], l1 = 0;
    int top = 0, top_u8 = 0;
    for (size_t j = 0; j < n; j++) {
        const int a = p[j], b = q[j], gap = abs(a - b);
        const int wrapped = abs((a < 128 ? a : a - 256) - (b < 128 ? b : b - 256));
        top = wrapped > top ? wrapped : top;
        top_u8 = gap > top_u8 ? gap : top_u8;
        l1 += (uint32_t)gap;
        sums[0] += (uint32_t)(a * b);
        sums[1] += (uint32_t)(a * a);
        sums[2] += (uint32_t)(b * b);
    }
    RV_EQUAL(k->linf_i8((const int8_t *)p, (const int8_t *)q, n), top);
    RV_EQUAL(k->linf_u8(p, q, n), top_u8);
    RV_EQUAL(k->l1_u8(p, q, n), l1);
    k->cosine_u8(p, q, n, got);
    for (size_t part = 0; part < 3; part++) RV_EQUAL(got[part], sums[part]);
}

/* The largest difference is found in whichever lane it stands, with small ones around it. */
static void test_largest_byte(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    uint8_t a[200], b[200];
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t n = 1; n <= 200; n++) {
            for (size_t j = 0; j < n; j++) {
                a[j] = (uint8_t)(j * 7);
                b[j] = (uint8_t)(j * 7 + j % 3);
            }
            a[n - 1] = 3;
            b[n - 1] = (uint8_t)(100 + n / 2); /* crosses 127, where signed bytes wrap */
            rv_test_row("table, n", 1000 * t + n);
            check_bytes(list[t], a, b, n);
            check_bytes(list[t], b, a, n);
        }
    }
}

static void test_byte_pairs(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    int8_t a[1536], b[1536];
    rv_test_rng rng;
    rv_test_seed(&rng, 3);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < LENGTHS * 2; i++) {
            const size_t n = length_at(i / 2);
            const rv__kernels *k = list[t];
            int32_t dot = 0, l2 = 0, l1 = 0, aa = 0, bb = 0, sums[3];
            uint32_t udot = 0, ul2 = 0;
            block x, y;
            const int8_t *p, *q;
            for (size_t j = 0; j < n; j++) { /* odd rounds: extremes only */
                a[j] = (int8_t)(i % 2 ? (rv_test_u64(&rng) & 1 ? -128 : 127)
                                      : (int)rv_test_below(&rng, 256) - 128);
                b[j] = (int8_t)(i % 2 ? (rv_test_u64(&rng) & 7 ? -128 : 127)
                                      : (int)rv_test_below(&rng, 256) - 128);
                dot += a[j] * b[j];
                aa += a[j] * a[j];
                bb += b[j] * b[j];
                l2 += (a[j] - b[j]) * (a[j] - b[j]);
                l1 += abs(a[j] - b[j]);
                udot += (uint32_t)(uint8_t)a[j] * (uint8_t)b[j];
                ul2 +=
                    (uint32_t)(((uint8_t)a[j] - (uint8_t)b[j]) * ((uint8_t)a[j] - (uint8_t)b[j]));
            }
            x = block_of(a, n, i % 4);
            y = block_of(b, n, i / 4 % 4);
            p = (const int8_t *)x.at;
            q = (const int8_t *)y.at;
            rv_test_row("table, n", 10000 * t + n);
            RV_EQUAL(k->dot_i8(p, q, n), dot);
            RV_EQUAL(k->l2sq_i8(p, q, n), l2);
            RV_EQUAL(k->l1_i8(p, q, n), l1);
            k->cosine_i8(p, q, n, sums);
            RV_EQUAL(sums[0], dot);
            RV_EQUAL(sums[1], aa);
            RV_EQUAL(sums[2], bb);
            RV_EQUAL(k->dot_u8(x.at, y.at, n), udot);
            RV_EQUAL(k->l2sq_u8(x.at, y.at, n), ul2);
            check_bytes(k, x.at, y.at, n);
            free(x.heap);
            free(y.heap);
        }
    }
}

static int popcount(unsigned x)
{
    int n = 0;
    for (; x; x &= x - 1) n++;
    return n;
}

static void test_bits(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    uint8_t a[1536], b[1536];
    rv_test_rng rng;
    rv_test_seed(&rng, 4);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < LENGTHS; i++) {
            const size_t n = length_at(i);
            uint32_t differ = 0, both = 0, either = 0, counts[2];
            float out[9];
            uint32_t ids[9] = {0, 0, 0, 0, 0, 0, 0, 0, 0};
            block x, y;
            for (size_t j = 0; j < n; j++) {
                a[j] = (uint8_t)rv_test_u64(&rng);
                b[j] = (uint8_t)rv_test_u64(&rng);
                differ += (uint32_t)popcount(a[j] ^ b[j]);
                both += (uint32_t)popcount(a[j] & b[j]);
                either += (uint32_t)popcount(a[j] | b[j]);
            }
            x = block_of(a, n, i % 4);
            y = block_of(b, n, i / 4 % 4);
            rv_test_row("table, n", 10000 * t + n);
            RV_EQUAL(list[t]->hamming(x.at, y.at, n), differ);
            list[t]->overlap(x.at, y.at, n, counts);
            RV_EQUAL(counts[0], both);
            RV_EQUAL(counts[1], either);
            list[t]->scan_hamming(x.at, y.at, n, ids, 9, 8 * n, out);
            for (size_t r = 0; r < 9; r++) RV_CHECK(out[r] == (float)differ);
            list[t]->scan_jaccard(x.at, y.at, n, NULL, 1, 8 * n, out);
            RV_NEAR((double)out[0], either ? 1.0 - (double)both / (double)either : 0.0, 2 * U);
            free(x.heap);
            free(y.heap);
        }
    }
}

/* Rows of n bytes, stride bytes apart, in a block that ends with the last of them. fill: 0 or 255
   for all bytes of rows and its opposite for the query, else random. */
static void check_bit_rows(const rv__kernels *k, size_t n, size_t stride, size_t count, int fill,
                           rv_test_rng *rng)
{
    enum { MOST = 40 };
    const size_t used = count ? (count - 1) * stride + n : 0;
    uint8_t *raw = (uint8_t *)malloc(used + 1), query[1536];
    float out[MOST + 1];
    block rows, q;
    if (!raw) exit(2);
    for (size_t j = 0; j < n; j++)
        query[j] = (uint8_t)(fill < 0 ? (int)rv_test_below(rng, 256) : 255 - fill);
    for (size_t j = 0; j < used; j++)
        raw[j] = (uint8_t)(fill < 0 ? (int)rv_test_below(rng, 256) : fill);
    rows = block_of(raw, used, n % 4);
    q = block_of(query, n, n / 4 % 4);
    out[count] = -77.0f;
    k->scan_hamming(q.at, rows.at, stride, NULL, count, 8 * n, out);
    for (size_t r = 0; r < count; r++) {
        uint32_t differ = 0;
        for (size_t j = 0; j < n; j++)
            differ += (uint32_t)popcount((unsigned)(query[j] ^ raw[r * stride + j]));
        RV_CHECK(out[r] == (float)differ);
    }
    RV_CHECK(out[count] == -77.0f);
    free(rows.heap);
    free(q.heap);
    free(raw);
}

/* Rows of bits behind each other: every number of rows up to more than two groups of those that
   fit one vector, gaps between rows that keep and that break the alignment of words. */
static void test_bit_rows(void)
{
    static const size_t gaps[] = {0, 0, 1, 4, 8};
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 32);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < LENGTHS; i++) {
            const size_t n = length_at(i), most = n <= 16 ? 40 : 12;
            rv_test_row("table, n", 10000 * t + n);
            for (size_t g = 0; g < RV_COUNT_OF(gaps); g++) {
                for (size_t count = n <= 16 ? 0 : i % 4; count <= most; count += n <= 16 ? 1 : 4)
                    check_bit_rows(list[t], n, n + gaps[g], count, g ? -1 : 255 * (int)(i % 2),
                                   &rng);
            }
        }
    }
}

/* The element j of a packed row. */
static int code_at(int code, const uint8_t *row, size_t j)
{
    size_t in = j % 128;
    if (code == RV__CODE_I8) return (int8_t)row[j];
    if (code == RV__CODE_U1) return row[j / 8] >> j % 8 & 1;
    return in < 64 ? row[j / 128 * 64 + in] & 15 : row[j / 128 * 64 + in - 64] >> 4;
}

/* Estimates: two floats stand under the first 8 bytes of a row, where the query is zero. */
static void check_estimates(const rv__kernels *k, int code, int8_t *query, uint8_t *rows,
                            size_t stride, const uint32_t *ids, size_t n_rows, size_t n_bytes,
                            rv_test_rng *rng)
{
    const size_t n = n_bytes * (code == RV__CODE_I8 ? 1 : code == RV__CODE_U4 ? 2 : 8);
    const uint32_t bits = code == RV__CODE_I8 ? 8u : code == RV__CODE_U4 ? 4u : 1u;
    float terms[3], out[12];
    for (size_t j = 0; j < 3; j++) terms[j] = rv_test_f32(rng);
    for (size_t r = 0; r < n_rows; r++) {
        float head[2];
        head[0] = rv_test_f32(rng);
        head[1] = rv_test_f32(rng);
        memcpy(rows + r * stride, head, sizeof head);
    }
    memset(query, 0, code == RV__CODE_U1 ? 64 : 8);
    if (code == RV__CODE_U4) memset(query + 64, 0, 8);
    out[n_rows] = -77.0f;
    k->estimate(bits, query, rows, stride, ids, n_rows, n_bytes, terms, out);
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = rows + (ids ? ids[r] : r) * stride;
        double dot = 0, h, g, base = (double)terms[0], slope = (double)terms[1];
        double offset = (double)terms[2], mass;
        float head[2];
        memcpy(head, row, sizeof head);
        h = (double)head[0];
        g = (double)head[1];
        for (size_t j = 0; j < n; j++) dot += query[j] * code_at(code, row, j);
        mass = fabs(h) + fabs(base) + fabs(g) * (fabs(slope * dot) + fabs(offset));
        RV_NEAR((double)out[r], h + base - g * (slope * dot + offset), mass * 4 / 16777216.0);
    }
    RV_CHECK(out[n_rows] == -77.0f);
}

static void test_codes(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 5);
    for (size_t t = 0; t < n_tables; t++) {
        for (int code = 0; code < 3; code++) {
            for (size_t round = 0; round < 40; round++) {
                const size_t n_bytes = 64 * (1 + round % 6), n_rows = 1 + round % 11,
                             stride = n_bytes + 64 * (round % 2);
                const size_t n = code == RV__CODE_I8   ? n_bytes
                                 : code == RV__CODE_U4 ? 2 * n_bytes
                                                       : 8 * n_bytes;
                rv_alloc alloc = rv__allocator(NULL);
                uint8_t *rows = (uint8_t *)rv__get(&alloc, n_rows, stride);
                int8_t *query = (int8_t *)rv__get(&alloc, n, 1);
                uint32_t ids[11];
                int32_t out[11];
                rv__dot_scan_fn scan = code == RV__CODE_I8   ? list[t]->dot_i8_scan
                                       : code == RV__CODE_U4 ? list[t]->dot_u4_scan
                                                             : list[t]->dot_u1_scan;
                for (size_t j = 0; j < n; j++) {
                    query[j] = (int8_t)(round < 6 ? (j & 1 ? 127 : -127)
                                                  : (int)rv_test_below(&rng, 255) - 127);
                }
                for (size_t j = 0; j < n_rows * stride; j++) {
                    rows[j] = (uint8_t)(round < 3   ? 0x80
                                        : round < 6 ? 0xFF
                                                    : (unsigned)rv_test_below(&rng, 256));
                }
                for (int gather = 0; gather < 2; gather++) {
                    for (size_t r = 0; r < n_rows; r++)
                        ids[r] = (uint32_t)(gather ? rv_test_below(&rng, n_rows) : r);
                    scan(query, rows, stride, gather ? ids : NULL, n_rows, n_bytes, out);
                    rv_test_row("table, code, round", 10000 * t + 1000 * (size_t)code + round);
                    for (size_t r = 0; r < n_rows; r++) {
                        int32_t want = 0;
                        for (size_t j = 0; j < n; j++)
                            want += query[j] * code_at(code, rows + ids[r] * stride, j);
                        RV_EQUAL(out[r], want);
                    }
                }
                check_estimates(list[t], code, query, rows, stride, round % 3 ? ids : NULL, n_rows,
                                n_bytes, &rng);
                rv__put(&alloc, rows, n_rows, stride);
                rv__put(&alloc, query, n, 1);
            }
        }
    }
}

static void test_gram_i8(void)
{
    static const struct {
        size_t na, nb, n;
    } rows[] = {{1, 1, 64},    {6, 64, 64},  {7, 65, 128}, {5, 3, 192},   {1, 200, 128},
                {13, 130, 64}, {33, 33, 256}, {40, 16, 64}, {64, 100, 320}};
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 6);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < RV_COUNT_OF(rows) * 3; i++) {
            const size_t na = rows[i / 3].na, nb = rows[i / 3].nb, n = rows[i / 3].n;
            const size_t lda = n + 64 * (i % 3), ldb = n + 64 * (i % 2);
            /* the last time: from the second panel to the end of the padding */
            const size_t first = i % 3 == 2 && nb > 64 ? 64 : 0;
            const size_t wanted = (i % 3 == 2 ? rv__round_up(nb, 16) : nb) - first;
            const size_t ldo = wanted + i % 3;
            rv_alloc alloc = rv__allocator(NULL);
            size_t bytes = rv__gram_i8_scratch(nb, n);
            void *packed = rv__get(&alloc, bytes, 1);
            int8_t *a = (int8_t *)malloc(na * lda), *b = (int8_t *)malloc(nb * ldb);
            int32_t *out = (int32_t *)malloc(4 * na * ldo);
            if (!a || !b || !out) exit(2);
            for (size_t j = 0; j < na * lda; j++)
                a[j] = (int8_t)(i % 3 == 1 ? -128 : (int)rv_test_below(&rng, 256) - 128);
            for (size_t j = 0; j < nb * ldb; j++)
                b[j] = (int8_t)(i % 3 == 1 ? -128 : (int)rv_test_below(&rng, 256) - 128);
            memset(out, 0x55, 4 * na * ldo);
            list[t]->pack_i8(b, ldb, nb, n, packed);
            list[t]->gram_i8(a, lda, na, first, wanted, n, out, ldo, packed);
            rv_test_row("table, row", 100 * t + i);
            for (size_t r = 0; r < na; r++) {
                for (size_t c = 0; c < ldo; c++) {
                    const size_t column = first + c < nb ? first + c : nb - 1;
                    int32_t want = 0;
                    for (size_t j = 0; j < n; j++) want += a[r * lda + j] * b[column * ldb + j];
                    RV_EQUAL(out[r * ldo + c],
                             c < wanted ? want : 0x55555555); /* nothing beside the result */
                }
            }
            free(a);
            free(b);
            free(out);
            rv__put(&alloc, packed, bytes, 1);
        }
    }
}

/* Distances of byte codes: each within rounding of the sum in double. */
static void test_line_i32(void)
{
    static const size_t counts[] = {0, 1, 15, 16, 17, 64, 100, 257, 512};
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 14);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < RV_COUNT_OF(counts); i++) {
            const size_t n = counts[i];
            int32_t dot[512];
            float h[512], g[512], *line = (float *)malloc(4 * n + 1);
            if (!line) exit(2);
            rv_test_fill(&rng, h, 512);
            rv_test_fill(&rng, g, 512);
            for (size_t j = 0; j < n; j++) dot[j] = (int32_t)rv_test_below(&rng, 2000000) - 1000000;
            list[t]->line_i32(dot, h, g, 0.25f, -0.001f, n, line);
            rv_test_row("table, row", 100 * t + i);
            for (size_t j = 0; j < n; j++) {
                double product = (double)-0.001f * (double)g[j] * dot[j];
                RV_NEAR(line[j], 0.25 + (double)h[j] + product,
                        4 * U * (0.25 + fabs((double)h[j]) + fabs(product)));
            }
            free(line);
        }
    }
}

/* Distances of a block are those of line_i32, bit by bit; the least ones are the minima of their
   classes, found here one by one. */
static void test_block_i32(void)
{
    static const size_t rows[] = {1, 3, 4, 6, 64, 67};
    enum { N = 96, LD = 100, NA = 67 };
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 15);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < RV_COUNT_OF(rows) * 3; i++) {
            const size_t na = rows[i / 3], n = i % 3 == 2 ? 0 : N;
            int32_t dot[NA * LD];
            float cell[NA * LD], want[N], h[N], g[N], row_h[NA], slope[NA];
            float row_low[NA * 16], column_low[16 * LD], row_want[NA * 16], column_want[16 * LD];
            rv_test_fill(&rng, h, N);
            rv_test_fill(&rng, g, N);
            rv_test_fill(&rng, row_h, NA);
            rv_test_fill(&rng, slope, NA);
            for (size_t j = 0; j < NA * LD; j++)
                dot[j] = (int32_t)rv_test_below(&rng, 2000) - 1000;
            memcpy(cell, dot, sizeof dot);
            rv_test_fill(&rng, row_low, NA * 16);
            for (size_t j = 0; j < NA * 16; j++) row_low[j] = row_low[j] * 100.0f;
            for (size_t j = 0; j < 16 * LD; j++)
                column_low[j] = j % 7 ? rv__infinity() : -300.0f;
            memcpy(row_want, row_low, sizeof row_low);
            memcpy(column_want, column_low, sizeof column_low);
            list[t]->block_i32(cell, LD, na, n, h, g, row_h, slope, row_low,
                               i % 3 == 0 ? column_low : NULL, LD);
            rv_test_row("table, row", 100 * t + i);
            for (size_t r = 0; r < na && n; r++) {
                list[t]->line_i32(dot + r * LD, h, g, row_h[r], slope[r], N, want);
                RV_EQUAL(memcmp(cell + r * LD, want, sizeof want), 0);
                RV_EQUAL(memcmp(cell + r * LD + N, dot + r * LD + N, 4 * (LD - N)), 0);
                for (size_t j = 0; j < N; j++) {
                    float *low = &row_want[16 * r + j % 16];
                    float *column = &column_want[r / 4 % 16 * LD + j];
                    *low = want[j] < *low ? want[j] : *low;
                    if (i % 3 == 0) *column = want[j] < *column ? want[j] : *column;
                }
            }
            RV_EQUAL(memcmp(row_low, row_want, sizeof row_low), 0);
            RV_EQUAL(memcmp(column_low, column_want, sizeof column_low), 0);
        }
    }
}

static int by_value(const void *a, const void *b)
{
    float x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* The order-th smallest of 16 classes, by qsort. */
static void test_order_low(void)
{
    enum { N = 48, LD = 64 };
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 16);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t order = 1; order <= 16; order++) {
            for (int both = 0; both < 2; both++) {
                float row_low[16 * N], column_low[16 * LD], bound[N];
                rv_test_fill(&rng, row_low, 16 * N);
                rv_test_fill(&rng, column_low, 16 * LD);
                for (size_t j = 0; j < 16 * N; j += 5) row_low[j] = rv__infinity();
                list[t]->order_low(row_low, both ? column_low : NULL, LD, N, order, bound);
                rv_test_row("table, order", 100 * t + order);
                for (size_t j = 0; j < N; j++) {
                    float class_low[16];
                    for (size_t c = 0; c < 16; c++) {
                        class_low[c] = row_low[16 * j + c];
                        if (both && column_low[c * LD + j] < class_low[c])
                            class_low[c] = column_low[c * LD + j];
                    }
                    qsort(class_low, 16, sizeof *class_low, by_value);
                    RV_EQUAL(memcmp(&bound[j], &class_low[order - 1], sizeof(float)), 0);
                }
            }
        }
    }
}

static void test_list_below(void)
{
    enum { N = 96 };
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 17);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < 60; i++) {
            const size_t begin = 16 * (i % 3), n = begin + 16 * (i % 4);
            const int own = i % 5 != 0; /* a bound for every position */
            float line[N], bounds[N], bound = (float)(i % 7) * 0.3f - 0.9f;
            uint32_t out[N + 16];
            size_t count, at = 0;
            rv_test_fill(&rng, line, N);
            rv_test_fill(&rng, bounds, N);
            if (i % 6 == 1) bound = -rv__infinity();
            if (i % 6 == 2) bounds[begin + 3] = rv__infinity();
            line[begin + 5] = i % 2 ? bound : bounds[begin + 5]; /* equal is not below */
            count = list[t]->list_below(line, own ? bounds : NULL, bound, begin, n, out);
            rv_test_row("table, round", 100 * t + i);
            for (size_t j = begin; j < n; j++) {
                if (!(line[j] < bound) && !(own && line[j] < bounds[j])) continue;
                RV_CHECK(at < count && out[at] == j);
                at++;
            }
            RV_EQUAL(at, count);
        }
    }
}

/* What line_i32 puts below the limit becomes -infinity, all else stays. */
static void test_strike_i32(void)
{
    enum { N = 80 };
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 18);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < 40; i++) {
            const size_t n = 16 * (i % 6);
            int32_t dot[N];
            float h[N], g[N], limit[N], want[N], line[N];
            rv_test_fill(&rng, h, N);
            rv_test_fill(&rng, g, N);
            rv_test_fill(&rng, limit, N);
            for (size_t j = 0; j < N; j++) dot[j] = (int32_t)rv_test_below(&rng, 2000) - 1000;
            list[t]->line_i32(dot, h, g, 0.1f, 0.001f, N, line);
            if (i % 2) limit[7] = line[7]; /* equal: stays */
            for (size_t j = 0; j < N; j++)
                want[j] = j < n && line[j] < limit[j] ? -rv__infinity() : limit[j];
            list[t]->strike_i32(dot, h, g, 0.1f, 0.001f, n, limit);
            rv_test_row("table, round", 100 * t + i);
            RV_EQUAL(memcmp(limit, want, sizeof want), 0);
        }
    }
}

static void test_gram_f32(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_alloc alloc = rv__allocator(NULL);
    size_t bytes = rv__gram_f32_scratch();
    void *scratch = rv__get(&alloc, bytes, 1);
    rv_test_rng rng;
    rv_test_seed(&rng, 7);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t round = 0; round < 40; round++) {
            const size_t na = 1 + rv_test_below(&rng, 20), nb = 1 + rv_test_below(&rng, 140);
            const size_t n = round < 30 ? round : 200 + rv_test_below(&rng, 500),
                         ldo = nb + round % 2;
            float *a = (float *)malloc(4 * na * n + 1), *b = (float *)malloc(4 * nb * n + 1),
                  *out = (float *)malloc(4 * na * ldo);
            if (!a || !b || !out) exit(2);
            rv_test_fill(&rng, a, na * n);
            rv_test_fill(&rng, b, nb * n);
            for (size_t j = 0; j < na * ldo; j++) out[j] = 2.0f;
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                list[t]->gemm_f32(a, n, na, b, n, nb, n, accumulate, out, ldo, scratch);
                rv_test_row("table, round", 100 * t + round);
                for (size_t r = 0; r < na; r++) {
                    for (size_t c = 0; c < nb; c++) {
                        double want = 0.0, size = 0.0;
                        for (size_t j = 0; j < n; j++) {
                            want += (double)a[r * n + j] * (double)b[c * n + j];
                            size += fabs((double)a[r * n + j] * (double)b[c * n + j]);
                        }
                        want *= accumulate + 1;
                        RV_NEAR((double)out[r * ldo + c], want,
                                U * (3.0 + sqrt((double)n)) * size * (accumulate + 1));
                    }
                    if (ldo > nb) RV_CHECK(out[r * ldo + nb] == 2.0f);
                }
            }
            free(a);
            free(b);
            free(out);
        }
    }
    rv__put(&alloc, scratch, bytes, 1);
}

static void test_pq4(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list), blocks = 3;
    rv_test_rng rng;
    rv_test_seed(&rng, 8);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t round = 0; round < 24; round++) {
            const size_t m = round < 20   ? 2 + 2 * (round % 20)
                             : round < 22 ? 256 + 2 * (round - 20)
                                          : 600;
            uint8_t *lut = (uint8_t *)malloc(16 * m), *codes = (uint8_t *)malloc(32 * m * blocks);
            uint8_t *packed = (uint8_t *)malloc(16 * m * blocks);
            uint16_t out[96];
            if (!lut || !codes || !packed) exit(2);
            for (size_t j = 0; j < 16 * m; j++)
                lut[j] = (uint8_t)(round % 4 == 3 ? 255 : rv_test_below(&rng, 256));
            for (size_t j = 0; j < 32 * m * blocks; j++)
                codes[j] = (uint8_t)rv_test_below(&rng, 16);
            for (size_t j = 0; j < blocks; j++)
                rv__pq4_pack(codes + 32 * m * j, m, packed + 16 * m * j);
            list[t]->pq4_scan(lut, packed, m, blocks, out);
            rv_test_row("table, m", 1000 * t + m);
            for (size_t r = 0; r < 32 * blocks; r++) {
                uint32_t want = 0;
                for (size_t s = 0; s < m; s++) want += lut[16 * s + codes[m * r + s]];
                RV_EQUAL(out[r], want > 65535 ? 65535 : want);
            }
            free(lut);
            free(codes);
            free(packed);
        }
    }
}

/* ---- arrays ---- */

static void test_arrays(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    rv_test_rng rng;
    rv_test_seed(&rng, 9);
    for (size_t t = 0; t < n_tables; t++) {
        const rv__kernels *k = list[t];
        for (size_t n = 0; n <= 130; n++) {
            float x[131], y[131];
            block bx, by;
            float *p, *q;
            rv_test_fill(&rng, x, n);
            rv_test_fill(&rng, y, n);
            bx = block_of(x, 4 * n, n % 4);
            by = block_of(y, 4 * n, n / 4 % 4);
            p = (float *)(void *)bx.at;
            q = (float *)(void *)by.at;
            rv_test_row("table, n", 1000 * t + n);
            k->axpy_f32(0.3f, p, q, n);
            for (size_t i = 0; i < n; i++) {
                float got;
                memcpy(&got, by.at + 4 * i, 4);
                RV_NEAR((double)got, (double)0.3f * (double)x[i] + (double)y[i],
                        2 * U * (fabs((double)x[i]) + fabs((double)y[i])));
            }
            memcpy(by.at, y, 4 * n);
            k->add_f32(p, q, n);
            k->scale_f32(0.5f, q, n);
            for (size_t i = 0; i < n; i++) {
                float got, sum = x[i] + y[i];
                memcpy(&got, by.at + 4 * i, 4);
                RV_CHECK(got == 0.5f * sum);
            }
            memcpy(by.at, y, 4 * n);
            for (size_t begin = 0; begin <= n; begin += 3) {
                size_t want = begin;
                while (want < n && !(y[want] < -0.9f)) want++;
                RV_EQUAL(k->find_below(q, begin, n, -0.9f), want);
            }
            for (size_t special = 0; special < 4; special++) {
                static const uint32_t bits[] = {0x3F800000u, 0xFF800000u, 0x7FC00001u, 0xFFFFFFFFu};
                const size_t at = n ? rv_test_below(&rng, (uint32_t)n) : 0;
                uint32_t most = 0;
                if (special && n) memcpy(by.at + 4 * at, &bits[special], 4);
                for (size_t j = 0; j < n; j++) {
                    uint32_t one;
                    memcpy(&one, by.at + 4 * j, 4);
                    one &= 0x7FFFFFFFu;
                    most = one > most ? one : most;
                }
                RV_EQUAL(k->peak_f32(q, n), most);
            }
            free(bx.heap);
            free(by.heap);
        }
    }
}

/* Conversions give the same bits on every instruction set: all halves, and random floats. */
static void test_conversions(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list), n = 65536;
    uint16_t *h = (uint16_t *)malloc(2 * n), *back = (uint16_t *)malloc(2 * n);
    float *x = (float *)malloc(4 * n), *want = (float *)malloc(4 * n);
    int8_t *c = (int8_t *)malloc(n), *c0 = (int8_t *)malloc(n);
    rv_test_rng rng;
    rv_test_seed(&rng, 10);
    for (size_t t = 0; t < n_tables; t++) {
        const rv__kernels *k = list[t], *scalar = rv__kernels_for(RV_ISA_SCALAR);
        rv_test_row("table", t);
        /* Signalling NaN becomes quiet already in the registers of i386: none here for bfloat16. */
        for (size_t i = 0; i < n; i++) h[i] = (uint16_t)i;
        k->widen_f16(h, x, n);
        scalar->widen_f16(h, want, n);
        RV_CHECK(memcmp(x, want, 4 * n) == 0);
        k->narrow_f16(x, back, n); /* identity but for signalling NaN, made quiet */
        for (size_t i = 0; i < n; i++) RV_EQUAL(back[i], (i & 0x7FFF) > 0x7C00 ? i | 0x200 : i);
        k->widen_bf16(h, x, n);
        scalar->widen_bf16(h, want, n);
        RV_CHECK(memcmp(x, want, 4 * n) == 0);
        for (size_t round = 0; round < 8; round++) {
            for (size_t i = 0; i < n; i++) {
                uint32_t bits = (uint32_t)rv_test_u64(&rng);
                if (round & 1)
                    bits = (bits & 0x8FFFFFFFu) | 0x30000000u; /* around the range of halves */
                memcpy(&x[i], &bits, 4);
            }
            k->narrow_f16(x, back, n - 3);
            scalar->narrow_f16(x, h, n - 3);
            RV_CHECK(memcmp(h, back, 2 * (n - 3)) == 0);
            k->narrow_bf16(x, back, n - 3);
            scalar->narrow_bf16(x, h, n - 3);
            RV_CHECK(memcmp(h, back, 2 * (n - 3)) == 0);
            k->narrow_i8(x, round & 1 ? 1e4f : 1e-37f, c, n - 3);
            scalar->narrow_i8(x, round & 1 ? 1e4f : 1e-37f, c0, n - 3);
            RV_CHECK(memcmp(c, c0, n - 3) == 0);
            k->widen_i8(c, 0.37f, x, n - 3);
            scalar->widen_i8(c, 0.37f, want, n - 3);
            RV_CHECK(memcmp(x, want, 4 * (n - 3)) == 0);
        }
    }
    free(h);
    free(back);
    free(x);
    free(want);
    free(c);
    free(c0);
}

/* Distance in units of the last place of the wanted value, taken as a float. */
static double ulps(float got, double want)
{
    int e;
    if (rv__is_nan(got)) return want != want ? 0.0 : 1e30;
    if (fabs(want) > 3.4028235677973366e38) return fabs((double)got) > 3.4e38 ? 0.0 : 1e30;
    if (want != want) return 1e30;
    if (fabs((double)got - want) <= LEAST) return 0.0;
    (void)frexp(want, &e);
    return fabs((double)got - want) / ldexp(1.0, (e < -125 ? -125 : e) - 24);
}

static double sigmoid_reference(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* erf of the C library of the test, in double. */
static void test_elementary(void)
{
    static const struct {
        const char *name;
        double (*reference)(double);
        double low, high, limit;
    } rows[] = {
        {"exp", exp, -104.5, 89.5, 2.0},  {"log", log, 1e-42, 3e38, 2.0},
        {"tanh", tanh, -11.0, 11.0, 4.0}, {"sigmoid", sigmoid_reference, -104.0, 40.0, 4.0},
        {"erf", erf, -4.5, 4.5, 8.0},
    };
    const rv__kernels *list[16];
    const size_t n_tables = tables(list), n = RV_SCALED(200000, 2000) | 3;
    float *x = (float *)malloc(4 * n), *out = (float *)malloc(4 * n);
    rv_test_rng rng;
    rv_test_seed(&rng, 11);
    for (size_t t = 0; t < n_tables; t++) {
        void (*const fn[])(const float *, float *,
                           size_t) = {list[t]->exp_f32, list[t]->log_f32, list[t]->tanh_f32,
                                      list[t]->sigmoid_f32, list[t]->erf_f32};
        for (size_t row = 0; row < RV_COUNT_OF(rows); row++) {
            double worst = 0.0;
            size_t at = 0;
            for (size_t i = 0; i < n; i++) {
                double w = ((double)rv_test_f32(&rng) + 1.0) / 2.0;
                if (row == 1) {
                    x[i] = (float)(i % 2 ? 0.5 + 1.5 * w
                                         : exp(log(rows[row].low) +
                                               w * (log(rows[row].high) - log(rows[row].low))));
                } else {
                    x[i] = (float)(rows[row].low + w * (rows[row].high - rows[row].low));
                    if (i % 3 == 0) x[i] *= (float)ldexp(1.0, -(int)(i % 120));
                }
            }
            fn[row](x, out, n);
            for (size_t i = 0; i < n; i++) {
                double e = ulps(out[i], rows[row].reference((double)x[i]));
                if (e > worst) {
                    worst = e;
                    at = i;
                }
            }
            rv_test_row(rows[row].name, t);
            RV_CHECK(worst <= rows[row].limit);
            if (worst > rows[row].limit || getenv("RV_TEST_VERBOSE")) {
                printf("%s table %u: %.2f ulp at %.9g\n", rows[row].name, (unsigned)t, worst,
                       (double)x[at]);
            }
        }
    }
    free(x);
    free(out);
}

static void test_elementary_edges(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    const float inf = rv__infinity(), nan = rv__from_bits_f32(0x7FC00000);
    for (size_t t = 0; t < n_tables; t++) {
        const rv__kernels *k = list[t];
        for (size_t n = 1; n < 40; n++) { /* in vectors and in tails */
            float x[40], y[40];
            rv_test_row("table, n", 100 * t + n);
#define RV_TEST_EDGE(fn, value)                                                                    \
    for (size_t i = 0; i < n; i++) x[i] = (value);                                                 \
    memset(y, 0x55, sizeof y);                                                                     \
    k->fn(x, y, n);                                                                                \
    RV_CHECK(rv__bits_f32(y[n]) == 0x55555555)
            RV_TEST_EDGE(exp_f32, inf);
            RV_CHECK(rv__bits_f32(y[n - 1]) == 0x7F800000);
            RV_TEST_EDGE(exp_f32, -inf);
            RV_CHECK(y[n - 1] == 0.0f);
            RV_TEST_EDGE(exp_f32, 0.0f);
            RV_NEAR((double)y[n - 1], 1.0, SLOPPY);
            RV_TEST_EDGE(exp_f32, nan);
            RV_CHECK(rv__is_nan(y[n - 1]));
            RV_TEST_EDGE(log_f32, nan);
            RV_CHECK(rv__is_nan(y[n - 1]));
            RV_TEST_EDGE(log_f32, -1.0f);
            RV_CHECK(rv__is_nan(y[n - 1]));
            RV_TEST_EDGE(log_f32, -inf);
            RV_CHECK(rv__is_nan(y[n - 1]));
            RV_TEST_EDGE(log_f32, inf);
            RV_CHECK(rv__bits_f32(y[n - 1]) == 0x7F800000);
            RV_TEST_EDGE(log_f32, 0.0f);
            RV_CHECK(rv__bits_f32(y[n - 1]) == (int32_t)0xFF800000u);
            RV_TEST_EDGE(log_f32, -0.0f);
            RV_CHECK(rv__bits_f32(y[n - 1]) == (int32_t)0xFF800000u);
            RV_TEST_EDGE(log_f32, 1.0f);
            RV_CHECK(y[n - 1] == 0.0f);
            RV_TEST_EDGE(tanh_f32, nan);
            RV_CHECK(rv__is_nan(y[n - 1]));
            RV_TEST_EDGE(tanh_f32, inf);
            RV_NEAR((double)y[n - 1], 1.0, SLOPPY);
            RV_TEST_EDGE(tanh_f32, -inf);
            RV_NEAR((double)y[n - 1], -1.0, SLOPPY);
            RV_TEST_EDGE(sigmoid_f32, nan);
            RV_CHECK(rv__is_nan(y[n - 1]));
            RV_TEST_EDGE(sigmoid_f32, inf);
            RV_NEAR((double)y[n - 1], 1.0, SLOPPY);
            RV_TEST_EDGE(sigmoid_f32, -inf);
            RV_CHECK(y[n - 1] == 0.0f);
            RV_TEST_EDGE(erf_f32, nan);
            RV_CHECK(rv__is_nan(y[n - 1]));
            RV_TEST_EDGE(erf_f32, inf);
            RV_NEAR((double)y[n - 1], 1.0, SLOPPY);
            RV_TEST_EDGE(erf_f32, -inf);
            RV_NEAR((double)y[n - 1], -1.0, SLOPPY);
        }
    }
}

static void test_softmax(void)
{
    const rv__kernels *list[16];
    const size_t n_tables = tables(list);
    const float inf = rv__infinity();
    rv_test_rng rng;
    rv_test_seed(&rng, 12);
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t n = 1; n <= 130; n++) {
            float x[131], y[131];
            double sum = 0.0, top = -1e30;
            rv_test_row("table, n", 1000 * t + n);
            for (size_t i = 0; i < n; i++) {
                x[i] = 20.0f * rv_test_f32(&rng);
                top = (double)x[i] * -2.0 > top ? (double)x[i] * -2.0 : top;
            }
            y[n] = 7.0f;
            rv__softmax(list[t], x, -2.0f, y, n);
            for (size_t i = 0; i < n; i++) sum += exp((double)x[i] * -2.0 - top);
            for (size_t i = 0; i < n; i++) {
                /* the argument carries half an ulp of 40, the sum a random walk */
                double want = exp((double)x[i] * -2.0 - top) / sum;
                RV_NEAR((double)y[i], want, want * U * (64.0 + 4.0 + sqrt((double)n)) + 1e-45);
            }
            RV_CHECK(y[n] == 7.0f);
            for (size_t i = 0; i < n; i++) x[i] = -inf;
            rv__softmax(list[t], x, 1.0f, y, n);
            for (size_t i = 0; i < n; i++) RV_CHECK(y[i] == 0.0f);
            x[n / 2] = 3.0f;
            rv__softmax(list[t], x, 1.0f, y, n);
            for (size_t i = 0; i < n; i++) RV_CHECK(y[i] == (i == n / 2 ? 1.0f : 0.0f));
            x[0] = rv__from_bits_f32(0x7FC00000);
            rv__softmax(list[t], x, 1.0f, y, n);
            for (size_t i = 0; i < n; i++) RV_CHECK(rv__is_nan(y[i]));
        }
    }
}

/* The scalar functions for the library's own use; 2 ulp, sine and cosine absolute. */
static void test_scalar_functions(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 13);
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_scalar); i++) {
        const double x = rv_golden_scalar[i].x, want = rv_golden_scalar[i].value;
        double s, c;
        rv_test_row("golden", i);
#if defined(__FAST_MATH__)
        if (fabs(x) < 1e-307 && x != 0) continue; /* denormals are taken as zero */
#endif
        rv__sincos(x, &s, &c);
        switch (rv_golden_scalar[i].function) {
        case 0: RV_NEAR(rv__exp(x), want, fabs(want) * 4.5e-16); break;
        case 3: RV_NEAR(s, want, 2.3e-16); break;
        case 4: RV_NEAR(c, want, 2.3e-16); break;
        default: RV_NEAR(rv__log(x), want, fabs(want) * 4.5e-16); break;
        }
    }
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_curved); i++) {
        const double x = rv_golden_curved[i].x, want = rv_golden_curved[i].value, ulp = 2.3e-16;
        rv_test_row("curved", i);
        switch (rv_golden_curved[i].function) {
        case 0: RV_NEAR(rv__log1p(x), want, fabs(want) * 4 * ulp); break;
        case 1: RV_NEAR(rv__expm1(x), want, fabs(want) * 4 * ulp); break;
        case 2: RV_NEAR(rv__asinh(x), want, fabs(want) * 8 * ulp); break;
        case 3: RV_NEAR(rv__tanh(x), want, fabs(want) * 8 * ulp); break;
        case 4: RV_NEAR(rv__atan2(x, 0.5), want, fabs(want) * 4 * ulp); break;
        default: RV_NEAR(rv__atan2(x, -2.0), want, fabs(want) * 4 * ulp); break;
        }
    }
    RV_NEAR(rv__atan2(0.0, 0.0) + rv__tanh(0.0) + rv__asinh(0.0) + rv__log1p(0.0), 0, 0);
    RV_CHECK(rv__log1p(-1.0) < -1.7e308 && rv__asinh(1e300) > 691.0);
    for (size_t i = 0; i < RV_SCALED(100000, 1000); i++) {
        double w = (double)(rv_test_u64(&rng) >> 11) / 9007199254740992.0, x = w * 1400.0 - 700.0;
        double s, c;
        RV_NEAR(rv__log(rv__exp(x)), x, fabs(x) * 2.3e-16 + 4.5e-16);
        rv__sincos(x * 1000.0, &s, &c);
        RV_NEAR(s * s + c * c, 1.0, 1e-15);
        RV_CHECK(ulps(rv__expf((float)(x / 8.0)), exp((double)(float)(x / 8.0))) <= 2.0);
        RV_CHECK(ulps(rv__logf((float)w), log((double)(float)w)) <= 2.0);
    }
    RV_CHECK(rv__exp(-1000.0) == 0.0);
    RV_CHECK(rv__exp(1000.0) > 1.7e308);
    RV_NEAR(rv__exp(-740.0), 4.199558e-322, 1e-323);
    RV_CHECK(rv__log(0.0) < -1.7e308);
    RV_CHECK(rv__log(-0.0) < -1.7e308);
    if (LEAST == 0.0) RV_NEAR(rv__log(ldexp(1.0, -1040)), -1040.0 * 0.69314718055994531, 4e-13);
    RV_CHECK(!rv__finite_f64(rv__log(-1.0)));
    {
        volatile float infinity = rv__infinity(); /* a constant would mislead -ffast-math */
        double s, c;
        RV_CHECK(!rv__finite_f64(rv__log((double)infinity)));
        rv__sincos(1e7, &s, &c);
        RV_CHECK(!rv__finite_f64(s) && !rv__finite_f64(c));
        RV_CHECK(!rv__finite_f64(rv__exp((double)rv__from_bits_f32(0x7FC00000))));
    }
}

int main(void)
{
    rv_test_begin("white_simd");
    RV_RUN(test_scan);
    RV_RUN(test_places);
    RV_RUN(test_pairs);
    RV_RUN(test_meaning);
    RV_RUN(test_meaning_of_narrow);
    RV_RUN(test_meaning_of_u8);
    RV_RUN(test_byte_pairs);
    RV_RUN(test_largest_byte);
    RV_RUN(test_bits);
    RV_RUN(test_bit_rows);
    RV_RUN(test_codes);
    RV_RUN(test_gram_i8);
    RV_RUN(test_line_i32);
    RV_RUN(test_block_i32);
    RV_RUN(test_order_low);
    RV_RUN(test_list_below);
    RV_RUN(test_strike_i32);
    RV_RUN(test_gram_f32);
    RV_RUN(test_pq4);
    RV_RUN(test_arrays);
    RV_RUN(test_conversions);
    RV_RUN(test_elementary);
    RV_RUN(test_elementary_edges);
    RV_RUN(test_softmax);
    RV_RUN(test_scalar_functions);
    return rv_test_end();
}
