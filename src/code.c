#ifndef RV_CODE_C
#define RV_CODE_C
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "topk.c"
#include "distance.c"
#include "rotate.c"
#include "pca.c"
#include "image.c"
#include "store.c"

/* Codes for walking a graph: records of whole cache lines from which the distance to a query is
   estimated with one integer dot product. Private to the graph index.

   A row x is moved by the mean, turned by an orthonormal map T (principal components, a random
   rotation, or none), and y = T (x - mean) is kept as integers c of 8, 4 or 1 bits with one scale.
   With <x - mean, q - mean> estimated by (|y|^2 / <c, y>) <c, T (q - mean)>, which is exact for q
   = x
   and unbiased under a random rotation,

       L2 = |x - mean|^2 + |q - mean|^2 - 2 <x - mean, q - mean>

   so a record needs two floats besides the integers. What a projection leaves out of x is in the
   norm; its product with what is left out of q is taken as zero.

   record: float h, float g, then integers; all kinds leave the integers under the first 8 bytes
   free, and the query is zero there, so that one dot product runs over the whole record. 4 bits: in
   each block of 64 bytes the low nibbles are elements 0..63, the high ones 64..127.

   Source: the estimator and the one-bit code: Gao, Long, RaBitQ, 2024; scales per vector:
   Aguerrebere et al., Similarity search in the blink of an eye with compressed indices (LVQ), 2023;
   projection before coding: Tepper et al., LeanVec, 2024. Differs from LeanVec in that queries and
   rows share one PCA basis, and from LVQ in the scale, which is RaBitQ's. */

enum { RV__CODE_NONE = 0, RV__CODE_PCA = 1, RV__CODE_SQ8 = 2, RV__CODE_SQ4 = 3, RV__CODE_BIT = 4 };

#define RV__CODE_HEAD 8u           /* bytes of h and g                                            */
#define RV__CODE_SAMPLE 2048u      /* rows on which the record size is chosen                     */
#define RV__CODE_BLOCK 64u         /* rows encoded together                                       */
#define RV__CODE_DIM_MIN 16u       /* up to here a vector is as short as a code, and bytes would be
                                      coarser than the gaps between low-dimensional neighbours    */

typedef struct rv__code {
    rv_alloc alloc;
    int kind;
    rv_metric metric;
    uint32_t dim;
    uint32_t n_comp;               /* elements coded                                              */
    uint32_t bits;
    uint32_t record;               /* bytes, a multiple of 64                                     */
    float *mean;                   /* [dim]                                                       */
    uint16_t *basis;               /* [n_comp, dim] as f16, PCA only: every query reads all of it */
    rv_rotation *rotation;         /* SQ4 and BIT only                                            */
    unsigned char *records;        /* [capacity, record]                                          */
    size_t capacity;
    int viewed;                    /* all arrays belong to an image                               */
} rv__code;

/* What a query becomes. element: [record * 8 / bits], 64-byte aligned. */
typedef struct rv__code_query {
    const int8_t *element;
    float base, slope, offset;     /* estimate = h + base - g * (slope * dot + offset)            */
} rv__code_query;

RV__FN void rv__code_free(rv__code *code)
{
    if (!code->viewed) {
        rv__put(&code->alloc, code->mean, code->dim, sizeof(float));
        rv__put(&code->alloc, code->basis, (size_t)code->n_comp * code->dim, sizeof(uint16_t));
        rv__put(&code->alloc, code->records, code->capacity, code->record);
    }
    rv_rotation_destroy(code->rotation);
    memset(code, 0, sizeof *code);
}

RV__FN size_t rv__code_bytes(const rv__code *code)
{
    if (code->kind == RV__CODE_NONE) return 0;
    return code->capacity * code->record + code->dim * sizeof(float) +
           (code->basis ? (size_t)code->n_comp * code->dim * sizeof(uint16_t) : 0);
}

RV__FN size_t rv__code_elements(const rv__code *code)
{
    return (size_t)code->record * 8u / code->bits;
}

/* Where coded component i sits among the elements of a query. */
RV__INLINE size_t rv__code_place(uint32_t bits, size_t i)
{
    if (bits == 8) return i + 8;
    if (bits == 1) return i + 64;
    return i < 56 ? i + 8 : i + 16; /* 4 bits: both halves of the first block start at 8 */
}

/* Bytes of a record that holds n components of so many bits. */
RV__FN size_t rv__code_record(uint32_t bits, size_t n)
{
    return rv__round_up(RV__CODE_HEAD + (n * bits + 7) / 8, 64);
}

/* y[n_comp] = T (x - mean); tmp: [dim + padded components]. */
static void rv__code_transform(const rv__code *code, const float *x, float *y, float *tmp)
{
    memcpy(tmp, x, code->dim * sizeof(float));
    rv_axpy_f32(-1.0f, code->mean, tmp, code->dim);
    if (code->basis) {
        rv__scan_find(RV_METRIC_IP, RV_DTYPE_F16, RV_ISA_BEST)(
            tmp, (const unsigned char *)code->basis, code->dim * sizeof(uint16_t), NULL,
            code->n_comp, code->dim, y);
        for (size_t i = 0; i < code->n_comp; i++) y[i] = -y[i];
    } else if (code->rotation) {
        rv_rotation_apply(code->rotation, tmp, y);
    } else {
        memcpy(y, tmp, code->dim * sizeof(float));
    }
}

/* Packs y into the integers of a record and sets its scale; square: |x - mean|^2, shift:
   <x - mean, mean>, zero: x is the zero vector. */
static void rv__code_pack(const rv__code *code, const float *y, float square, float shift, int zero,
                          unsigned char *record)
{
    size_t n = code->n_comp;
    float largest = 0.0f, dot = 0.0f, energy = 0.0f, h, g;
    memset(record, 0, code->record);
    for (size_t i = 0; i < n; i++) {
        float a = y[i] < 0.0f ? -y[i] : y[i];
        if (a > largest) largest = a;
        energy += y[i] * y[i];
    }
    if (code->bits == 8) {
        int8_t *c = (int8_t *)record + RV__CODE_HEAD;
        rv_convert_f32_to_i8(y, largest > 0.0f ? 127.0f / largest : 0.0f, c, n);
        for (size_t i = 0; i < n; i++) dot += (float)c[i] * y[i];
    } else if (code->bits == 4) {
        /* levels at odd multiples of half a step; the outermost 7 % of a Gaussian is cut to gain
           resolution for the rest */
        float root = n ? (float)sqrt((double)energy / (double)n) : 0.0f;
        float top = largest < 2.6f * root ? largest : 2.6f * root;
        float inverse = top > 0.0f ? 8.0f / top : 0.0f;
        for (size_t i = 0; i < n; i++) {
            float v = y[i] * inverse + 8.0f;
            int level = v <= 0.0f ? 0 : v >= 15.0f ? 15 : (int)v;
            size_t e = rv__code_place(4, i), block = e >> 7, at = e & 127u;
            record[block * 64 + (at & 63u)] |= (unsigned char)(at < 64 ? level : level << 4);
            dot += ((float)level - 7.5f) * y[i];
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            size_t e = rv__code_place(1, i);
            if (y[i] >= 0.0f) record[e >> 3] |= (unsigned char)(1u << (e & 7u));
            dot += y[i] < 0.0f ? -y[i] : y[i];
        }
    }
    g = dot > 0.0f ? energy / dot : 0.0f;
    if (code->metric == RV_METRIC_L2) {
        h = square;
        g *= 2.0f;
    } else if (code->metric == RV_METRIC_COSINE) {
        /* 1 - <x, q> is half the square of |x - q| for unit vectors; a zero vector lies half off */
        h = 0.5f * square + (zero ? 0.5f : 0.0f);
    } else {
        h = -shift; /* <mean, x - mean> */
    }
    memcpy(record, &h, sizeof h);
    memcpy(record + sizeof h, &g, sizeof g);
}

/* Scratch of rv__code_encode_rows and of rv__code_prepare, in floats. */
RV__FN size_t rv__code_scratch(const rv__code *code)
{
    return code->dim + 3 * rv__round_up(code->n_comp > code->dim ? code->n_comp : code->dim, 64) +
           64;
}

/* x: a prepared row or query (unit length under cosine). */
RV__FN void rv__code_encode(const rv__code *code, const float *x, unsigned char *record,
                            float *scratch)
{
    float *y = scratch + code->dim, square = 0.0f, shift = 0.0f;
    rv__code_transform(code, x, y, scratch);
    for (size_t i = 0; i < code->dim; i++) {
        square += scratch[i] * scratch[i];
        shift += scratch[i] * code->mean[i];
    }
    rv__code_pack(code, y, square, shift, rv_dot_f32(x, x, code->dim) == 0.0f, record);
}

/* element: [rv__code_elements], 64-byte aligned. */
RV__FN void rv__code_prepare(const rv__code *code, const float *x, int8_t *element, float *scratch,
                             rv__code_query *query)
{
    float *y = scratch + code->dim, largest, step;
    size_t n = code->n_comp, elements = rv__code_elements(code);
    uint32_t top;
    int32_t sum = 0;
    rv__code_transform(code, x, y, scratch);
    top = rv__kernels_now()->peak_f32(y, n);
    memcpy(&largest, &top, sizeof largest);
    step = largest / 127.0f;
    memset(element, 0, elements);
    if (code->bits == 4) {
        int8_t *flat = (int8_t *)(scratch + code->dim + rv__round_up(n, 64) + 32);
        size_t first = n < 56 ? n : 56;
        rv_convert_f32_to_i8(y, step > 0.0f ? 1.0f / step : 0.0f, flat, n);
        memcpy(element + 8, flat, first);
        if (n > 56) memcpy(element + 72, flat + 56, n - 56);
        for (size_t i = 0; i < n; i++) sum += flat[i];
    } else {
        int8_t *c = element + rv__code_place(code->bits, 0);
        rv_convert_f32_to_i8(y, step > 0.0f ? 1.0f / step : 0.0f, c, n);
        if (code->bits == 1) {
            for (size_t i = 0; i < n; i++) sum += c[i];
        }
    }
    query->element = element;
    query->slope = code->bits == 1 ? 2.0f * step : step;
    query->offset = code->bits == 8   ? 0.0f
                    : code->bits == 4 ? -7.5f * step * (float)sum
                                      : -step * (float)sum;
    if (code->metric == RV_METRIC_IP) {
        query->base = -rv_dot_f32(x, code->mean, code->dim);
    } else {
        float square = rv_dot_f32(scratch, scratch, code->dim);
        query->base = code->metric == RV_METRIC_L2 ? square : 0.5f * square;
    }
}

/* Estimated distances from a query to records ids[0..n-1]. */
RV__FN void rv__code_scan(const rv__code *code, const rv__kernels *kernels,
                          const rv__code_query *query, const uint32_t *ids, size_t n, float *out)
{
    const float terms[3] = {query->base, query->slope, query->offset};
    kernels->estimate(code->bits, query->element, code->records, code->record, ids, n, code->record,
                      terms, out);
}

/* x[dim] = the row a record stands for (unit length under cosine only as far as the code goes). */
RV__FN void rv__code_decode(const rv__code *code, size_t slot, float *x, float *scratch)
{
    const unsigned char *record = code->records + slot * code->record;
    float *y = scratch, g, scale;
    memcpy(&g, record + sizeof(float), sizeof g);
    scale = code->metric == RV_METRIC_L2 ? 0.5f * g : g;
    for (size_t i = 0; i < code->n_comp; i++) {
        size_t e = rv__code_place(code->bits, i);
        if (code->bits == 8) {
            y[i] = scale * (float)((const int8_t *)record)[e];
        } else if (code->bits == 4) {
            unsigned byte = record[(e >> 7) * 64 + (e & 63u)];
            y[i] = scale * ((float)((e & 127u) < 64 ? byte & 15u : byte >> 4) - 7.5f);
        } else {
            y[i] = (record[e >> 3] >> (e & 7u) & 1u) ? scale : -scale;
        }
    }
    if (code->basis) {
        float *axis = y + rv__round_up(code->n_comp, 64);
        memcpy(x, code->mean, code->dim * sizeof(float));
        for (size_t i = 0; i < code->n_comp; i++) {
            rv_convert_f16_to_f32(code->basis + i * code->dim, axis, code->dim);
            rv_axpy_f32(y[i], axis, x, code->dim);
        }
        return;
    }
    if (code->rotation) {
        rv_rotation_invert(code->rotation, y, x);
    } else {
        memcpy(x, y, code->dim * sizeof(float));
    }
    rv_add_f32(code->mean, x, code->dim);
}

/* ---- training ---- */

/* Share of the 10 exact neighbours of sample rows that are among the `keep` nearest when only the
   leading n components are compared. y: [s, stride], square: |x - mean|^2. */
static rv_status rv__code_trial(rv_ctx *ctx, const float *exact, const float *y, size_t stride,
                                const float *square, size_t s, size_t n_query, size_t n,
                                size_t keep, float *line, uint32_t *index, double *share)
{
    size_t found = 0, total = 0, left = 0;
    for (size_t i = 0; i < n_query; i++) {
        uint32_t truth[10];
        size_t k, kept;
        rv_status status = rv__poll_by(ctx, &left, s * (n + 32) / 8);
        if (status) return status;
        memcpy(line, exact + i * s, s * sizeof(float));
        line[i] = rv__infinity();
        k = rv_topk_f32(line, s, 10, truth, NULL);
        for (size_t j = 0; j < s; j++) {
            line[j] = square[j] - 2.0f * rv_dot_f32(y + i * stride, y + j * stride, n);
        }
        line[i] = rv__infinity();
        kept = rv_topk_f32(line, s, keep, index, NULL);
        for (size_t a = 0; a < k; a++) {
            size_t b = 0;
            while (b < kept && index[b] != truth[a]) b++;
            found += b < kept;
        }
        total += k;
    }
    *share = total ? (double)found / (double)total : 1.0;
    return RV_OK;
}

/* The distances of the first n_query rows of a sample to all s of it, and the squared length of
   each less the mean. */
static rv_status rv__code_exact(rv_ctx *ctx, const rv__code *code, const float *sample, size_t s,
                                size_t n_query, float *exact, float *square)
{
    const size_t dim = code->dim, step = 16 + RV__WORK / dim / 16 * 16;
    size_t left = 0;
    for (size_t j = 0; j < s; j++) {
        rv_status status = rv__poll_by(ctx, &left, dim);
        if (status) return status;
        square[j] = 0.0f;
        for (size_t i = 0; i < dim; i++) {
            float d = sample[j * dim + i] - code->mean[i];
            square[j] += d * d;
        }
    }
    for (size_t i = 0; i < n_query; i++) {
        for (size_t j = 0; j < s; j += step) {
            const size_t n = s - j < step ? s - j : step;
            rv_status status = rv__poll_by(ctx, &left, n * dim / 4);
            if (status) return status;
            rv_metric_many(RV_METRIC_L2, RV_DTYPE_F32, sample + i * dim, sample + j * dim, 0, n,
                           dim, exact + i * s + j);
        }
    }
    return RV_OK;
}

/* Whether more than one row in a hundred has over a tenth of itself outside the leading n
   components, and over four times as much as the mean row. Such rows are few, but most of their
   neighbours are lost. y: [s, stride], square: [s]. */
static int rv__code_strays(const float *y, size_t stride, const float *square, size_t s, size_t n)
{
    float bound = 0.0f;
    size_t strays = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < s; i++) {
            const float inside = rv_dot_f32(y + i * stride, y + i * stride, n);
            const float outside = square[i] > inside ? 1.0f - inside / square[i] : 0.0f;
            if (pass) strays += outside > bound;
            else bound += outside * 4.0f / (float)s;
        }
        if (bound < 0.1f) bound = 0.1f;
    }
    return strays * 100 > s;
}

/* Picks the number of components: the fewest lines whose ranking keeps 95 % of the ten nearest of
   the sample, and that leave few rows astray; the whole set is denser and keeps fewer, which
   ranking by vectors makes up for. Energy alone would not do: between clusters lies most of the
   variance, within them most of the neighbours. axes: [most, dim], sample: [s, dim] prepared
   rows. */
static rv_status rv__code_choose(rv_ctx *ctx, rv__code *code, const float *axes,
                                 const float *sample, size_t s, size_t most)
{
    const size_t n_query = s < 64 ? s : 64;
    float *y = (float *)rv__get(&code->alloc, s * most, sizeof(float));
    float *exact = (float *)rv__get(&code->alloc, n_query * s, sizeof(float));
    float *square = (float *)rv__get(&code->alloc, 2 * s, sizeof(float));
    uint32_t *index = (uint32_t *)rv__get(&code->alloc, s, sizeof(uint32_t));
    rv_status status = RV_OK;
    if (!y || !exact || !square || !index) {
        status = rv__no_memory(ctx, s * most * sizeof(float));
    } else {
        status = rv_pca_apply(ctx, code->mean, axes, code->dim, most, sample, 0, s, y);
    }
    if (!status) {
        float *line = square + s;
        size_t n, step = 64;
        double kept = 0.0;
        status = rv__code_exact(ctx, code, sample, s, n_query, exact, square);
        for (n = step - RV__CODE_HEAD; !status && n < most; n += step) {
            status = rv__code_trial(ctx, exact, y, most, square, s, n_query, n, 10, line, index,
                                    &kept);
            if (kept >= 0.95 && !rv__code_strays(y, most, square, s, n)) break;
        }
        code->n_comp = (uint32_t)(n < most ? n : most);
    }
    rv__put(&code->alloc, index, s, sizeof(uint32_t));
    rv__put(&code->alloc, square, 2 * s, sizeof(float));
    rv__put(&code->alloc, exact, n_query * s, sizeof(float));
    rv__put(&code->alloc, y, s * most, sizeof(float));
    return status;
}

/* Step of a walk over all of 0..count-1 of which every part is spread evenly: near the golden
   section, without a common divisor. */
static size_t rv__code_step(size_t count)
{
    for (size_t step = count * 618 / 1000 + 1;; step++) {
        size_t a = step, b = count;
        while (b) {
            const size_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return step;
    }
}

/* Evenly spread live rows of the store as floats, in an order whose beginnings are as well:
   [*s, dim]. */
static rv_status rv__code_sample(rv_ctx *ctx, const rv__store *store, const rv_alloc *alloc,
                                 size_t most, float **out, size_t *s)
{
    size_t n = store->n, count = n < most ? n : most, got = 0, left = 0;
    const size_t step = rv__code_step(count);
    void *query = rv__get(alloc, rv__store_query_bytes(store), 1);
    float *rows = (float *)rv__get(alloc, count * store->dim, sizeof(float));
    rv_status status = RV_OK;
    if (!query || !rows) {
        rv__put(alloc, query, rv__store_query_bytes(store), 1);
        rv__put(alloc, rows, count * store->dim, sizeof(float));
        return rv__no_memory(ctx, count * store->dim * sizeof(float));
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)((uint64_t)(i * step % count) * n / count);
        status = rv__poll_by(ctx, &left, 2 * (store->dim + 32));
        if (status) break;
        if (!rv__store_live(store, slot)) continue;
        rv__store_prepare_row(store, slot, query);
        memcpy(rows + got++ * store->dim, query, store->dim * sizeof(float));
    }
    rv__put(alloc, query, rv__store_query_bytes(store), 1);
    if (status) {
        rv__put(alloc, rows, count * store->dim, sizeof(float));
        return status;
    }
    /* blocks are freed by their requested size, so a shortfall keeps the count it was made with */
    for (size_t i = got; got && i < count; i++) {
        memcpy(rows + i * store->dim, rows + (i % got) * store->dim, store->dim * sizeof(float));
    }
    *out = rows;
    *s = count;
    return RV_OK;
}

/* Mean, basis and number of components from a sample [s, dim]; n_bytes 0: as many as it takes. */
static rv_status rv__code_train_axes(rv_ctx *ctx, rv__code *code, const float *sample, size_t s,
                                     size_t n_bytes)
{
    const size_t dim = code->dim;
    size_t most = n_bytes ? n_bytes - RV__CODE_HEAD : dim;
    float *axes;
    rv_status status = RV_OK;
    if (most > 512) most = 512;
    if (most > dim) most = dim;
    axes = (float *)rv__get(&code->alloc, most * dim, sizeof(float));
    if (!axes) return rv__no_memory(ctx, most * dim * sizeof(float));
    /* half the components cost a fifth of the time, and they are enough more often than not */
    for (size_t part = n_bytes || most <= 256 ? most : 256; !status; part = most) {
        status = rv_pca_train(ctx, sample, 0, s, dim, part, code->mean, axes, NULL, NULL);
        code->n_comp = (uint32_t)part;
        if (!status && !n_bytes) {
            status = rv__code_choose(ctx, code, axes, sample,
                                     s < RV__CODE_SAMPLE ? s : RV__CODE_SAMPLE, part);
        }
        if (part == most || code->n_comp < part) break;
    }
    if (!status && !n_bytes && code->n_comp == dim) {
        code->kind = RV__CODE_SQ8; /* turning would only cost every query its time */
    } else if (!status) {
        const size_t n = code->n_comp * dim;
        code->basis = (uint16_t *)rv__get(&code->alloc, n, sizeof(uint16_t));
        if (code->basis) rv_convert_f32_to_f16(axes, code->basis, n);
        else status = rv__no_memory(ctx, n * sizeof(uint16_t));
    }
    rv__put(&code->alloc, axes, most * dim, sizeof(float));
    return status;
}

/* Learns the map from the rows of the store. n_bytes: record size wanted for PCA, 0 = by trial.
   On failure code is empty. */
RV__FN rv_status rv__code_train(rv_ctx *ctx, rv__code *code, int kind, const rv__store *store,
                                uint32_t n_bytes)
{
    float *sample = NULL;
    size_t s = 0, dim = store->dim;
    rv_status status;
    memset(code, 0, sizeof *code);
    code->alloc = store->alloc;
    code->kind = kind;
    code->metric = store->metric;
    code->dim = store->dim;
    code->n_comp = store->dim;
    code->bits = kind == RV__CODE_SQ4 ? 4u : kind == RV__CODE_BIT ? 1u : 8u;
    status = rv__code_sample(ctx, store, &code->alloc, 8192, &sample, &s);
    if (status) return status;
    code->mean = (float *)rv__get_zero(&code->alloc, dim, sizeof(float));
    if (!code->mean) status = rv__no_memory(ctx, dim * sizeof(float));
    if (!status && kind == RV__CODE_PCA) {
        status = rv__code_train_axes(ctx, code, sample, s, n_bytes);
    } else if (!status) {
        size_t left = 0;
        for (size_t i = 0; i < s && !status; i++) {
            status = rv__poll_by(ctx, &left, dim + 32);
            rv_axpy_f32(1.0f / (float)s, sample + i * dim, code->mean, dim);
        }
        if (!status && kind != RV__CODE_SQ8) {
            status = rv_rotation_create(ctx, dim, &code->rotation);
            if (!status) code->n_comp = (uint32_t)rv_rotation_dim(code->rotation);
        }
    }
    code->record = (uint32_t)rv__code_record(code->bits, code->n_comp);
    rv__put(&code->alloc, sample, s * dim, sizeof(float));
    if (status) rv__code_free(code);
    return status;
}

RV__FN rv_status rv__code_reserve(rv_ctx *ctx, rv__code *code, size_t capacity)
{
    unsigned char *records;
    rv_status status;
    if (capacity <= code->capacity) return RV_OK;
    records = (unsigned char *)rv__regrow_polled(ctx, &code->alloc, code->records, code->capacity,
                                                 capacity, code->record, &status);
    if (!records) return status;
    code->records = records;
    code->capacity = capacity;
    return RV_OK;
}

/* ---- encoding many rows ---- */

typedef struct rv__code_job {
    rv__code *code;
    const rv__store *store;
    const rv__kernels *kernels;
    const float *axes;             /* the basis as floats                                         */
    float *scratch;                /* [lanes, lane_floats]                                        */
    size_t lane_floats, query_floats;
} rv__code_job;

static void rv__code_encode_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__code_job *job = (const rv__code_job *)arg;
    rv__code *code = job->code;
    size_t dim = code->dim, n = code->n_comp;
    float *query = job->scratch + lane * job->lane_floats;
    float *rows = query + job->query_floats, *y = rows + RV__CODE_BLOCK * dim;
    float *pack = y + rv__round_up(RV__CODE_BLOCK * rv__round_up(n, 16), 16);
    int zero[RV__CODE_BLOCK];
    for (size_t at = begin; at < end; at += RV__CODE_BLOCK) {
        size_t m = end - at < RV__CODE_BLOCK ? end - at : RV__CODE_BLOCK;
        for (size_t i = 0; i < m; i++) {
            float *row = rows + i * dim;
            rv__store_prepare_row(job->store, (uint32_t)(at + i), query);
            zero[i] = code->metric == RV_METRIC_COSINE && rv_dot_f32(query, query, dim) == 0.0f;
            for (size_t j = 0; j < dim; j++) row[j] = query[j] - code->mean[j];
        }
        if (code->basis) {
            job->kernels->gram_f32(rows, dim, m, job->axes, dim, n, dim, y, n, pack);
        }
        for (size_t i = 0; i < m; i++) {
            float *row = rows + i * dim, *turned = y + i * n;
            if (code->rotation) {
                turned = y;
                rv_rotation_apply(code->rotation, row, turned);
            } else if (!code->basis) {
                turned = row;
            }
            rv__code_pack(code, turned, rv_dot_f32(row, row, dim), rv_dot_f32(row, code->mean, dim),
                          zero[i], code->records + (at + i) * code->record);
        }
    }
}

/* Rows encoded between two polls: about a ms of products with the basis, or of a rotation. */
static size_t rv__code_section(const rv__code *code)
{
    const double each = code->basis ? 8.0 + (double)code->n_comp / 32.0 : 16.0; /* element, ns */
    return 1 + (size_t)(1.5e6 / (each * (double)code->dim));
}

/* Encodes the first n rows of the store; the records are reserved. */
RV__FN rv_status rv__code_encode_rows(rv_ctx *ctx, rv__code *code, const rv__store *store,
                                      size_t n)
{
    const size_t section = rv__code_section(code);
    size_t lanes = rv__lanes(ctx), dim = code->dim, size = code->n_comp * dim;
    float *axes = NULL;
    rv__code_job job;
    rv_status status;
    job.code = code;
    job.store = store;
    job.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    job.query_floats = rv__round_up(rv__store_query_bytes(store) / sizeof(float) + 1, 16);
    job.lane_floats = rv__round_up(job.query_floats + RV__CODE_BLOCK * dim, 16) +
                      rv__round_up(RV__CODE_BLOCK * rv__round_up(code->n_comp, 16), 16) + 16;
    if (code->basis) {
        job.lane_floats += rv__round_up(rv__gram_f32_scratch() / sizeof(float) + 1, 16);
        axes = (float *)rv__get(&code->alloc, size, sizeof(float));
        if (!axes) return rv__no_memory(ctx, size * sizeof(float));
        rv_convert_f16_to_f32(code->basis, axes, size);
    }
    job.axes = axes;
    job.scratch = (float *)rv__get(&code->alloc, lanes * job.lane_floats, sizeof(float));
    status = job.scratch ? rv__parallel_for(ctx, n,
                                            section < RV__CODE_BLOCK ? section : RV__CODE_BLOCK,
                                            section, rv__code_encode_range, &job)
                         : rv__no_memory(ctx, lanes * job.lane_floats * sizeof(float));
    rv__put(&code->alloc, axes, size, sizeof(float));
    rv__put(&code->alloc, job.scratch, lanes * job.lane_floats, sizeof(float));
    return status;
}

#undef RV__CODE_BLOCK
#undef RV__CODE_SAMPLE

#endif /* RV_CODE_C */
