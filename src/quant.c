#ifndef RV_QUANT_C
#define RV_QUANT_C
#include "quant.h"
#include "base.c"
#include "simd.c"
#include "half.c"
#include "distance.c"
#include "rotate.c"

/* What all quantizers share. A kind is a row of operations over one state; quant_scalar.c,
   quant_pq.c and quant_rabitq.c hold them, quant_api.c the public functions.

   A code is payload, factors, and in its last two bytes a bf16 number rounded up: the length of
   row - decode(row), from which the bounds follow,

       | |q-x|^2 - |q-x'|^2 | <= e (2 |q-x'| + e)      |q x - q x'| <= |q| e

   and between two codes, with e + f in place of e,

       | a b - a' b' | <= e |b'| + f |a'| + e f

   (RABITQ keeps the width of its probabilistic bound there and finds e from its factors.) To these
   the bounds add the rounding of the query where it becomes integers, and a few parts in 10^6 for
   float arithmetic. */

#define RV__QUANT_BLOCK 32u  /* rows encoded together, and rows of a fast-scan block          */
#define RV__QUANT_CHUNK 64u  /* elements decoded together                                     */
#define RV__QUANT_SAMPLE 65536u

typedef struct rv__quant_ops rv__quant_ops;

struct rv_quant {
    rv_alloc alloc;
    const rv__quant_ops *ops;
    const rv__kernels *kernels;
    rv_quant_config config;  /* resolved                                                       */
    uint64_t seed;
    int trained;
    size_t payload;          /* bytes before the factors                                       */
    size_t code_bytes;
    /* SQ8, SQ4, BINARY: value j is mid[j] + unit * step[j] * c, step in 0..1 */
    float *mid, *step;       /* [dim] each, one block                                          */
    float unit;
    /* PQ: sub-quantizer j covers width(j) dimensions from first(j) on */
    float *book;             /* per sub-quantizer [K][width]                                   */
    float *turned;           /* per sub-quantizer [width][K]                                   */
    /* RABITQ */
    rv_rotation *rotation;
    size_t padded;
    float *mean;             /* [dim], then its rotation [padded]                              */
};

/* A prepared query: this, then `elements` at the next cache line, then other arrays by kind. */
typedef struct rv__quant_query {
    float base;    /* estimate = base + ...                                                    */
    float length;  /* of the query, or of its distance to the mean                             */
    float scale;   /* of integer elements                                                      */
    float offset;  /* what integer codes add                                                   */
    float fuzz;    /* error of one code unit through rounding of the query                     */
    float table_scale, table_offset, table_fuzz; /* the same for the 8-bit tables              */
} rv__quant_query;

struct rv__quant_ops {
    /* Learns from s rows of a sample, packed, at unit length under cosine. */
    rv_status (*train)(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s);
    /* Floats of scratch for encode; codes of n <= RV__QUANT_BLOCK rows [n, dim], which it may
       use up. */
    size_t (*scratch)(const rv_quant *quant);
    void (*encode)(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                   float *scratch);
    /* Decoded elements first..first+n-1, n <= RV__QUANT_CHUNK, first a multiple of that; RABITQ: of
       the rotated row. */
    void (*chunk)(const rv_quant *quant, const unsigned char *code, size_t first, size_t n,
                  float *out);
    /* Bytes behind the head of a query, a multiple of 64; query may be used up: [dim], room for
       [padded]. */
    size_t (*query_bytes)(const rv_quant *quant);
    void (*prepare)(const rv_quant *quant, float *query, rv__quant_query *head,
                    unsigned char *data);
    void (*distance)(const rv_quant *quant, const rv__quant_query *head, const unsigned char *data,
                     const unsigned char *codes, const uint32_t *ids, size_t n, float *out,
                     float *bounds);
    /* At least the distance between a row and what its code decodes to. */
    float (*lost)(const rv_quant *quant, const unsigned char *code);
};

/* e or a little more as bf16. */
RV__INLINE uint16_t rv__quant_up(float e)
{
    uint32_t bits;
    e *= 1.000001f;
    memcpy(&bits, &e, sizeof bits);
    return (uint16_t)(bits >= 0x7F800000u ? 0x7F80u : (bits + 0xFFFFu) >> 16);
}

RV__INLINE float rv__quant_get_f32(const unsigned char *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__INLINE void rv__quant_put_f32(unsigned char *p, float x)
{
    memcpy(p, &x, sizeof x);
}

/* The length kept at the end of a code. */
RV__INLINE float rv__quant_error(const rv_quant *quant, const unsigned char *code)
{
    uint16_t bits;
    memcpy(&bits, code + quant->code_bytes - 2, sizeof bits);
    return rv__bf16_f32(bits);
}

RV__INLINE void rv__quant_put_error(const rv_quant *quant, unsigned char *code, float e)
{
    uint16_t bits = rv__quant_up(e);
    memcpy(code + quant->code_bytes - 2, &bits, sizeof bits);
}

RV__INLINE const unsigned char *rv__quant_code(const rv_quant *quant, const unsigned char *codes,
                                               const uint32_t *ids, size_t i)
{
    return codes + (ids ? ids[i] : i) * quant->code_bytes;
}

RV__INLINE double rv__quant_square_of(float x)
{
    return (double)x * (double)x;
}

/* Sum of squares in double, always in the same order, so that codes do not depend on the
   instruction set. */
RV__FN double rv__quant_square(const float *x, size_t n)
{
    double lane[8] = {0, 0, 0, 0, 0, 0, 0, 0}, rest = 0.0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) { /* written out: so they stay in registers */
        lane[0] += rv__quant_square_of(x[i]);
        lane[1] += rv__quant_square_of(x[i + 1]);
        lane[2] += rv__quant_square_of(x[i + 2]);
        lane[3] += rv__quant_square_of(x[i + 3]);
        lane[4] += rv__quant_square_of(x[i + 4]);
        lane[5] += rv__quant_square_of(x[i + 5]);
        lane[6] += rv__quant_square_of(x[i + 6]);
        lane[7] += rv__quant_square_of(x[i + 7]);
    }
    for (; i < n; i++) rest += rv__quant_square_of(x[i]);
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7])) + rest;
}

/* The squared distance between n elements of a row and what they decode to, which is used up. */
static double rv__quant_gap(const rv_quant *quant, const float *row, float *decoded, size_t n)
{
    quant->kernels->axpy_f32(-1.0f, row, decoded, n);
    return rv__quant_square(decoded, n);
}

/* x = mid + unit * x. Inner loops of constant length turn into vector instructions on every
   machine. */
RV__FN void rv__quant_move(const float *RV__RESTRICT mid, float unit, float *RV__RESTRICT x,
                           size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (size_t l = i; l < i + 4; l++) x[l] = mid[l] + unit * x[l];
    }
    for (; i < n; i++) x[i] = mid[i] + unit * x[i];
}

/* Nibbles, which share bytes with those 64 elements before or after: n from `first` on, rounded up
   to eight, which are taken at once. */
RV__FN void rv__quant_get_nibbles(const unsigned char *code, size_t first, size_t n,
                                  uint8_t *level)
{
    const unsigned shift = (first & 64u) ? 4 : 0;
    code += first >> 7 << 6;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = rv__load_u64(code + i) >> shift & 0x0F0F0F0F0F0F0F0Full;
        memcpy(level + i, &x, sizeof x);
    }
}

/* Bits as bytes 0 and 1, eight at once: each byte keeps its bit, adding carries it to the top. */
RV__FN void rv__quant_get_bits(const unsigned char *code, size_t first, size_t n, uint8_t *level)
{
    const uint64_t places =
        rv__big_endian() ? 0x0102040810204080ull : 0x8040201008040201ull;
    code += first >> 3;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = *code++ * 0x0101010101010101ull & places;
        x = (x + 0x7F7F7F7F7F7F7F7Full) >> 7 & 0x0101010101010101ull;
        memcpy(level + i, &x, sizeof x);
    }
}

/* Writes the distance between a row and what its code decodes to into the code. */
RV__FN void rv__quant_close(const rv_quant *quant, const float *row, unsigned char *code)
{
    float chunk[RV__QUANT_CHUNK];
    double sum = 0.0;
    for (size_t at = 0; at < quant->config.dim; at += RV__QUANT_CHUNK) {
        size_t n =
            quant->config.dim - at < RV__QUANT_CHUNK ? quant->config.dim - at : RV__QUANT_CHUNK;
        quant->ops->chunk(quant, code, at, n, chunk);
        sum += rv__quant_gap(quant, row + at, chunk, n);
    }
    rv__quant_put_error(quant, code, (float)sqrt(sum));
}

/* The bound that follows from the error e of a row, for an estimate of any metric. */
RV__INLINE float rv__quant_bound(const rv_quant *quant, const rv__quant_query *head, float estimate,
                                 float e)
{
    float near_zero = 4e-6f * (head->length + e) * (head->length + e);
    if (quant->config.metric == RV_METRIC_L2) {
        return e * (2.0f * sqrtf(estimate > 0.0f ? estimate : 0.0f) + e) + 8e-6f * fabsf(estimate) +
               near_zero;
    }
    return head->length * e + 8e-6f * fabsf(estimate) + near_zero;
}

/* query[n] as signed bytes times a scale; elements up to m are zero. Returns the scale and the
   length of what rounding took away in *lost. */
RV__FN float rv__quant_narrow(const rv_quant *quant, const float *query, size_t n, size_t m,
                              int8_t *element, float *lost)
{
    float top = 0.0f, scale;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) top = fabsf(query[i]) > top ? fabsf(query[i]) : top;
    scale = top / 127.0f;
    memset(element + n, 0, m - n);
    if (scale > 1e-37f && scale <= 1e36f) {
        quant->kernels->narrow_i8(query, 1.0f / scale, element, n);
    } else {
        memset(element, 0, n);
        scale = 0.0f;
    }
    for (size_t i = 0; i < n; i++) {
        float d = query[i] - scale * (float)element[i];
        sum += (double)(d * d);
    }
    *lost = (float)sqrt(sum);
    return scale;
}

RV__FN int32_t rv__quant_sum_i8(const int8_t *x, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* x to length 1; a zero vector stays. */
RV__FN void rv__quant_normalise(float *x, size_t n)
{
    double sum = rv__quant_square(x, n);
    size_t i = 0;
    if (!(sum > 0.0)) return;
    sum = 1.0 / sqrt(sum);
    for (; i + 4 <= n; i += 4) {
        for (size_t l = i; l < i + 4; l++) x[l] = (float)((double)x[l] * sum);
    }
    for (; i < n; i++) x[i] = (float)((double)x[i] * sum);
}

/* Least and largest of 16. Loops of constant length, so that they become vector instructions. */
static void rv__quant_extremes(const float *row, float *low, float *high)
{
    float a[8], b[8];
    for (size_t i = 0; i < 8; i++) {
        a[i] = row[i] < row[i + 8] ? row[i] : row[i + 8];
        b[i] = row[i] > row[i + 8] ? row[i] : row[i + 8];
    }
    for (size_t i = 0; i < 4; i++) {
        a[i] = a[i] < a[i + 4] ? a[i] : a[i + 4];
        b[i] = b[i] > b[i + 4] ? b[i] : b[i + 4];
    }
    a[0] = a[0] < a[2] ? a[0] : a[2];
    a[1] = a[1] < a[3] ? a[1] : a[3];
    b[0] = b[0] > b[2] ? b[0] : b[2];
    b[1] = b[1] > b[3] ? b[1] : b[3];
    *low = a[0] < a[1] ? a[0] : a[1];
    *high = b[0] > b[1] ? b[0] : b[1];
}

/* Tables of m sub-quantizers of 16 entries as bytes 0..254: entry = low(s) + step * byte, one step
   for all, such that no sum passes 16 bits. lut: [m rounded up to even][16]. */
RV__FN void rv__quant_table(const rv__kernels *kernels, const float *table, size_t m, uint8_t *lut,
                            rv__quant_query *head)
{
    double low_sum = 0.0, range_sum = 0.0;
    float widest = 0.0f, step, low, high;
    for (size_t s = 0; s < m; s++) {
        rv__quant_extremes(table + 16 * s, &low, &high);
        low_sum += (double)low;
        range_sum += (double)(high - low);
        widest = high - low > widest ? high - low : widest;
    }
    /* rounding adds at most half a step per table, hence the m less than 65535 */
    step = (float)(range_sum / (65535.0 - (double)m));
    if (step < widest / 254.0f) step = widest / 254.0f;
    if (!(step > 1e-37f && step <= 1e36f)) step = 1.0f;
    for (size_t s = 0; s < m; s += 16) {
        /* through the kernel that narrows floats to -127..127 */
        const size_t n = m - s < 16 ? m - s : 16;
        float wide[256];
        int8_t narrow[256];
        for (size_t t = 0; t < n; t++) {
            const float *row = table + 16 * (s + t);
            rv__quant_extremes(row, &low, &high);
            low += 127.0f * step;
            for (size_t i = 0; i < 16; i++) wide[16 * t + i] = row[i] - low;
        }
        kernels->narrow_i8(wide, 1.0f / step, narrow, 16 * n);
        for (size_t i = 0; i < 16 * n; i++) lut[16 * s + i] = (uint8_t)(narrow[i] + 127);
    }
    if (m & 1u) memset(lut + 16 * m, 0, 16);
    head->table_scale = step;
    head->table_offset = (float)low_sum;
    /* half a step, and what row - low - 127 step loses */
    head->table_fuzz = (0.5001f * step + 1e-6f * (widest + 127.0f * step)) * (float)m;
}

#endif /* RV_QUANT_C */
