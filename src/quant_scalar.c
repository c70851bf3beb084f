#ifndef RV_QUANT_SCALAR_C
#define RV_QUANT_SCALAR_C
#include "quant.c"

/* One number per dimension: F16, BF16, SQ8_ROW (a row of RV_DTYPE_I8), SQ8 and SQ4 (a step width
   per dimension from the range seen in training), BINARY (one bit around the mean).

   The trained kinds have mid[j] + unit * step[j] * c for value j. With v = step * c,

       |q - x'|^2 = |q - mid|^2 + unit^2 (|v|^2 - 2 <w, c>),   w = step (q - mid) / unit
       -q x'      = -q mid - unit <w, c>,                      w = step q

   so that a row needs |v|^2 and one dot product with its integers. SQ8 keeps the query as floats:
   its code starts with |v|^2, where the byte kernel finds the factor it multiplies with, and the
   product is divided out again. SQ4 and BINARY turn w into signed bytes and use exact integer
   products.

   Source of the uniform quantizer with a range per dimension: common practice, for example
   Aguerrebere et al., Similarity search in the blink of an eye with compressed indices, 2023. */

/* ---- F16, BF16, SQ8_ROW: rows the distance kernels read as they are ---- */

static int rv__quant_row_type(const rv_quant *quant)
{
    return quant->config.kind == RV_QUANT_F16 ? RV__TYPE_F16 :
           quant->config.kind == RV_QUANT_BF16 ? RV__TYPE_BF16 : RV__TYPE_I8;
}

static size_t rv__quant_row_scratch(const rv_quant *quant)
{
    (void)quant;
    return 0;
}

static void rv__quant_row_encode(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                                 float *scratch)
{
    const size_t dim = quant->config.dim;
    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        const float *row = rows + i * dim;
        unsigned char *code = codes + i * quant->code_bytes;
        int type = rv__quant_row_type(quant);
        if (type == RV__TYPE_I8) {
            uint32_t top = quant->kernels->peak_f32(row, dim);
            float scale = rv__from_bits_f32((int32_t)top) / 127.0f;
            if (!(scale > 1e-37f)) scale = 0.0f; /* its inverse would not be finite */
            rv__quant_put_f32(code, scale);
            quant->kernels->narrow_i8(row, scale > 0.0f ? 1.0f / scale : 0.0f,
                                      (int8_t *)code + 4, dim);
        } else if (type == RV__TYPE_F16) {
            quant->kernels->narrow_f16(row, (uint16_t *)(void *)code, dim);
        } else {
            quant->kernels->narrow_bf16(row, (uint16_t *)(void *)code, dim);
        }
        rv__quant_close(quant, row, code);
    }
}

static void rv__quant_row_chunk(const rv_quant *quant, const unsigned char *code, size_t first,
                                size_t n, float *out)
{
    const rv__kernels *kernels = quant->kernels;
    const void *halves = code + 2 * first;
    switch (rv__quant_row_type(quant)) {
    case RV__TYPE_F16: kernels->widen_f16((const uint16_t *)halves, out, n); break;
    case RV__TYPE_BF16: kernels->widen_bf16((const uint16_t *)halves, out, n); break;
    default: kernels->widen_i8((const int8_t *)code + 4 + first, rv__quant_get_f32(code), out, n);
    }
}

static size_t rv__quant_row_query(const rv_quant *quant)
{
    return rv__round_up(quant->config.dim * sizeof(float), 64);
}

static void rv__quant_row_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                                  unsigned char *data)
{
    head->length = rv_norm_f32(query, quant->config.dim);
    head->base = quant->config.metric == RV_METRIC_COSINE ? 1.0f : 0.0f;
    memcpy(data, query, quant->config.dim * sizeof(float));
}

static void rv__quant_row_distance(const rv_quant *quant, const rv__quant_query *head,
                                   const unsigned char *data, const unsigned char *codes,
                                   const uint32_t *ids, size_t n, float *out, float *bounds)
{
    int op = quant->config.metric == RV_METRIC_L2 ? RV__OP_L2 : RV__OP_IP;
    quant->kernels->scan[op][rv__quant_row_type(quant)](data, codes, quant->code_bytes, ids, n,
                                                        quant->config.dim, out);
    if (head->base != 0.0f) {
        for (size_t i = 0; i < n; i++) out[i] += head->base;
    }
    for (size_t i = 0; bounds && i < n; i++) {
        bounds[i] = rv__quant_bound(quant, head, out[i],
                                    rv__quant_error(quant, rv__quant_code(quant, codes, ids, i)));
    }
}

static const rv__quant_ops rv__quant_row_ops = {
    NULL, rv__quant_row_scratch, rv__quant_row_encode, rv__quant_row_chunk, rv__quant_row_query,
    rv__quant_row_prepare, rv__quant_row_distance, rv__quant_error,
};

/* ---- SQ8, SQ4, BINARY ---- */

/* Levels of c: half is the largest magnitude. */
static float rv__quant_step_half(const rv_quant *quant)
{
    return quant->config.kind == RV_QUANT_SQ8   ? 127.0f
           : quant->config.kind == RV_QUANT_SQ4 ? 7.5f
                                                : 1.0f;
}

static rv_status rv__quant_step_range(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    float *low = quant->mid, *high = quant->step, widest = 0.0f;
    size_t left = 0;
    memcpy(low, sample, dim * sizeof(float));
    memcpy(high, sample, dim * sizeof(float));
    for (size_t i = 1; i < s; i++) {
        const float *row = sample + i * dim;
        rv_status status = rv__poll_by(ctx, &left, 2 * (dim + 32));
        if (status) return status;
        for (size_t j = 0; j < dim; j++) {
            low[j] = row[j] < low[j] ? row[j] : low[j];
            high[j] = row[j] > high[j] ? row[j] : high[j];
        }
    }
    for (size_t j = 0; j < dim; j++) {
        float half = 0.5f * high[j] - 0.5f * low[j];
        low[j] = 0.5f * low[j] + 0.5f * high[j];
        high[j] = half / rv__quant_step_half(quant);
        widest = high[j] > widest ? high[j] : widest;
    }
    /* steps below a millionth of the widest are widened, so that |v|^2 neither vanishes nor
       underflows; what is constant stays exact */
    quant->unit = widest > 1e-30f ? widest : 1.0f;
    for (size_t j = 0; j < dim; j++) {
        float step = high[j] / quant->unit;
        high[j] = high[j] > 0.0f ? (step > 1e-6f ? step : 1e-6f) : 0.0f;
    }
    return RV_OK;
}

static rv_status rv__quant_step_mean(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    double spread = 0.0;
    double *sum = (double *)rv__get_zero(&quant->alloc, dim, sizeof(double));
    rv_status status = RV_OK;
    size_t left = 0;
    if (!sum) return rv__no_memory(ctx, dim * sizeof(double));
    for (size_t i = 0; !status && i < s; i++) {
        status = rv__poll_by(ctx, &left, dim + 32);
        for (size_t j = 0; j < dim; j++) sum[j] += (double)sample[i * dim + j];
    }
    for (size_t j = 0; j < dim; j++) {
        quant->mid[j] = (float)(sum[j] / (double)s);
        quant->step[j] = 1.0f;
    }
    for (size_t i = 0; !status && i < s; i++) {
        status = rv__poll_by(ctx, &left, dim + 32);
        for (size_t j = 0; j < dim; j++) {
            spread += fabs((double)sample[i * dim + j] - (double)quant->mid[j]);
        }
    }
    spread /= (double)s * (double)dim;
    quant->unit = spread > 1e-30 ? (float)spread : 1.0f;
    rv__put(&quant->alloc, sum, dim, sizeof(double));
    return status;
}

static rv_status rv__quant_step_train(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    quant->mid = (float *)rv__get(&quant->alloc, 2 * dim, sizeof(float));
    if (!quant->mid) return rv__no_memory(ctx, 2 * dim * sizeof(float));
    quant->step = quant->mid + dim;
    if (quant->config.kind == RV_QUANT_BINARY) return rv__quant_step_mean(ctx, quant, sample, s);
    return rv__quant_step_range(ctx, quant, sample, s);
}

/* What the distance of a value from the middle is multiplied with to get its level: 1 / width, or,
   where that is next to nothing, a number of which no value makes an infinity or a NaN. */
static void rv__quant_step_inverse(const rv_quant *quant, float *inverse)
{
    for (size_t j = 0; j < quant->config.dim; j++) {
        float wide = quant->unit * quant->step[j];
        inverse[j] = wide > 1e-37f ? 1.0f / wide : 1.2e-38f;
    }
}

static size_t rv__quant_step_scratch(const rv_quant *quant)
{
    return quant->config.dim;
}

RV__INLINE float rv__quant_step_within(float x, float low, float high)
{
    float capped = x < high ? x : high;
    return capped > low ? capped : low;
}

/* out = (row - mid) * inverse + shift within low..high. As to the loops, see rv__quant_move. */
static void rv__quant_step_offsets(const float *RV__RESTRICT row, const float *RV__RESTRICT mid,
                                   const float *RV__RESTRICT inverse, float shift, float low,
                                   float high, float *RV__RESTRICT out, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (size_t l = i; l < i + 4; l++) {
            out[l] = rv__quant_step_within((row[l] - mid[l]) * inverse[l] + shift, low, high);
        }
    }
    for (; i < n; i++) {
        out[i] = rv__quant_step_within((row[i] - mid[i]) * inverse[i] + shift, low, high);
    }
}

/* x = (scale * x + shift) * step */
static void rv__quant_step_scale(float scale, float shift, const float *RV__RESTRICT step,
                                 float *RV__RESTRICT x, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (size_t l = i; l < i + 4; l++) x[l] = (scale * x[l] + shift) * step[l];
    }
    for (; i < n; i++) x[i] = (scale * x[i] + shift) * step[i];
}

/* Into those of rv__quant_get_nibbles; what is past n of a level is zero. */
static void rv__quant_step_put_nibbles(const uint8_t *level, size_t first, size_t n,
                                       unsigned char *code)
{
    const unsigned shift = (first & 64u) ? 4 : 0;
    code += first >> 7 << 6;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = rv__load_u64(code + i) | rv__load_u64(level + i) << shift;
        memcpy(code + i, &x, sizeof x);
    }
}

/* Bits of values not below the middle. */
static void rv__quant_step_put_bits(const float *row, const float *mid, size_t first, size_t n,
                                    unsigned char *code)
{
    size_t j = 0;
    code += first >> 3;
    for (; j + 8 <= n; j += 8, row += 8, mid += 8) {
        unsigned low = (unsigned)!(row[0] < mid[0]) | (unsigned)!(row[1] < mid[1]) << 1 |
                       (unsigned)!(row[2] < mid[2]) << 2 | (unsigned)!(row[3] < mid[3]) << 3;
        unsigned high = (unsigned)!(row[4] < mid[4]) | (unsigned)!(row[5] < mid[5]) << 1 |
                        (unsigned)!(row[6] < mid[6]) << 2 | (unsigned)!(row[7] < mid[7]) << 3;
        *code++ = (unsigned char)(low | high << 4);
    }
    for (size_t i = 0; j + i < n; i++)
        *code |= (unsigned char)((unsigned)!(row[i] < mid[i]) << i);
}

/* Elements first..first+n-1 of v; first a multiple of RV__QUANT_CHUNK, n at most that. */
static void rv__quant_step_values(const rv_quant *quant, const unsigned char *code, size_t first,
                                  size_t n, float *out)
{
    const float *step = quant->step + first;
    uint8_t level[RV__QUANT_CHUNK];
    level[0] = 0; /* compilers see neither that none are read when n is 0 nor that n is small */
    if (n > RV__QUANT_CHUNK) n = RV__QUANT_CHUNK;
    if (quant->config.kind == RV_QUANT_SQ8) {
        quant->kernels->widen_i8((const int8_t *)code + 4 + first, 1.0f, out, n);
        rv__quant_step_scale(1.0f, 0.0f, step, out, n);
    } else if (quant->config.kind == RV_QUANT_SQ4) {
        rv__quant_get_nibbles(code, first, n, level);
        quant->kernels->widen_i8((const int8_t *)level, 1.0f, out, n);
        rv__quant_step_scale(1.0f, -7.5f, step, out, n);
    } else {
        rv__quant_get_bits(code, first, n, level);
        quant->kernels->widen_i8((const int8_t *)level, 1.0f, out, n);
        rv__quant_step_scale(2.0f, -1.0f, step, out, n);
    }
}

static void rv__quant_step_chunk(const rv_quant *quant, const unsigned char *code, size_t first,
                                 size_t n, float *out)
{
    rv__quant_step_values(quant, code, first, n, out);
    rv__quant_move(quant->mid + first, quant->unit, out, n);
}

/* Levels of n elements from `first` on into the code. */
static void rv__quant_step_put(const rv_quant *quant, const float *row, const float *inverse,
                               size_t first, size_t n, unsigned char *code)
{
    const float *mid = quant->mid + first;
    float x[RV__QUANT_CHUNK];
    if (quant->config.kind == RV_QUANT_SQ8) {
        rv__quant_step_offsets(row + first, mid, inverse + first, 0.0f, -127.0f, 127.0f, x, n);
        quant->kernels->narrow_i8(x, 1.0f, (int8_t *)code + 4 + first, n);
    } else if (quant->config.kind == RV_QUANT_SQ4) {
        /* whole numbers 0..15 for -7.5..7.5 */
        int8_t level[RV__QUANT_CHUNK] = {0};
        rv__quant_step_offsets(row + first, mid, inverse + first, 7.5f, 0.0f, 15.0f, x, n);
        quant->kernels->narrow_i8(x, 1.0f, level, n);
        rv__quant_step_put_nibbles((const uint8_t *)level, first, n, code);
    } else {
        rv__quant_step_put_bits(row + first, mid, first, n, code);
    }
}

static void rv__quant_step_row(const rv_quant *quant, const float *row, const float *inverse,
                               unsigned char *code)
{
    const size_t dim = quant->config.dim;
    double square = 0.0, lost = 0.0;
    for (size_t at = 0; at < dim; at += RV__QUANT_CHUNK) {
        const size_t n = dim - at < RV__QUANT_CHUNK ? dim - at : RV__QUANT_CHUNK;
        float x[RV__QUANT_CHUNK];
        rv__quant_step_put(quant, row, inverse, at, n, code);
        rv__quant_step_values(quant, code, at, n, x);
        if (quant->config.kind != RV_QUANT_BINARY) square += rv__quant_square(x, n);
        rv__quant_move(quant->mid + at, quant->unit, x, n);
        lost += rv__quant_gap(quant, row + at, x, n);
    }
    if (quant->config.kind == RV_QUANT_SQ8) rv__quant_put_f32(code, (float)square);
    if (quant->config.kind == RV_QUANT_SQ4) rv__quant_put_f32(code + quant->payload, (float)square);
    rv__quant_put_error(quant, code, (float)sqrt(lost));
}

static void rv__quant_step_encode(const rv_quant *quant, float *rows, size_t n,
                                  unsigned char *codes, float *scratch)
{
    memset(codes, 0, n * quant->code_bytes);
    rv__quant_step_inverse(quant, scratch);
    for (size_t i = 0; i < n; i++) {
        rv__quant_step_row(quant, rows + i * quant->config.dim, scratch,
                           codes + i * quant->code_bytes);
    }
}

/* Elements of the integer query: those of the payload. */
static size_t rv__quant_step_elements(const rv_quant *quant)
{
    return quant->config.kind == RV_QUANT_SQ4 ? 2 * quant->payload : 8 * quant->payload;
}

static size_t rv__quant_step_query(const rv_quant *quant)
{
    if (quant->config.kind == RV_QUANT_SQ8) return rv__quant_row_query(quant);
    return rv__round_up(rv__quant_step_elements(quant), 64);
}

static void rv__quant_step_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                                   unsigned char *data)
{
    const size_t dim = quant->config.dim;
    double base = 0.0, square = 0.0, unit = (double)quant->unit;
    for (size_t j = 0; j < dim; j++) {
        double q = (double)query[j], mid = (double)quant->mid[j];
        square += q * q;
        if (quant->config.metric == RV_METRIC_L2) {
            base += (q - mid) * (q - mid);
            query[j] = (float)((double)quant->step[j] * (q - mid) / unit);
        } else {
            base -= q * mid;
            query[j] = (float)((double)quant->step[j] * q);
        }
    }
    head->length = (float)sqrt(square);
    head->base = (float)(quant->config.metric == RV_METRIC_COSINE ? base + 1.0 : base);
    if (quant->config.kind == RV_QUANT_SQ8) {
        memcpy(data, query, dim * sizeof(float));
    } else {
        int8_t *element = (int8_t *)data;
        float lost;
        size_t m = rv__quant_step_elements(quant);
        head->scale = rv__quant_narrow(quant, query, dim, m, element, &lost);
        /* bits count 0 and 1 for -1 and 1, nibbles 0..15 for -7.5..7.5 */
        head->offset = rv__quant_step_half(quant) * (float)rv__quant_sum_i8(element, dim);
        head->fuzz = lost * rv__quant_step_half(quant) * sqrtf((float)dim);
    }
}

/* <w, c> of codes into out; SQ8: of n <= 256 codes. */
static void rv__quant_step_products(const rv_quant *quant, const rv__quant_query *head,
                                    const unsigned char *data, const unsigned char *codes,
                                    const uint32_t *ids, size_t n, float *out)
{
    int32_t sums[256];
    if (quant->config.kind == RV_QUANT_SQ8) {
        const float *w = (const float *)(const void *)data;
        quant->kernels->scan[RV__OP_IP][RV__TYPE_I8](w, codes, quant->code_bytes, ids, n,
                                                     quant->config.dim, out);
        for (size_t i = 0; i < n; i++) {
            float square = rv__quant_get_f32(rv__quant_code(quant, codes, ids, i));
            out[i] = square > 0.0f ? -out[i] / square : 0.0f;
        }
        return;
    }
    if (quant->config.kind == RV_QUANT_SQ4) {
        quant->kernels->dot_u4_scan((const int8_t *)data, codes, quant->code_bytes, ids, n,
                                    quant->payload, sums);
        for (size_t i = 0; i < n; i++) out[i] = head->scale * ((float)sums[i] - head->offset);
    } else {
        quant->kernels->dot_u1_scan((const int8_t *)data, codes, quant->code_bytes, ids, n,
                                    quant->payload, sums);
        for (size_t i = 0; i < n; i++)
            out[i] = head->scale * (2.0f * (float)sums[i] - head->offset);
    }
}

static void rv__quant_step_distance(const rv_quant *quant, const rv__quant_query *head,
                                    const unsigned char *data, const unsigned char *codes,
                                    const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const float unit = quant->unit, square_unit = unit * unit;
    const int l2 = quant->config.metric == RV_METRIC_L2;
    for (size_t at = 0; at < n; at += 256) {
        size_t part = n - at < 256 ? n - at : 256;
        const unsigned char *from = ids ? codes : codes + at * quant->code_bytes;
        const uint32_t *list = ids ? ids + at : NULL;
        rv__quant_step_products(quant, head, data, from, list, part, out + at);
        for (size_t i = 0; i < part; i++) {
            const unsigned char *code = rv__quant_code(quant, from, list, i);
            float square = (float)quant->config.dim, fuzz, estimate;
            if (quant->config.kind == RV_QUANT_SQ8) square = rv__quant_get_f32(code);
            if (quant->config.kind == RV_QUANT_SQ4)
                square = rv__quant_get_f32(code + quant->payload);
            if (l2) {
                estimate = head->base + square_unit * (square - 2.0f * out[at + i]);
                estimate = estimate > 0.0f ? estimate : 0.0f;
                fuzz =
                    2.0f * square_unit * head->fuzz + 4e-6f * (head->base + square_unit * square);
            } else {
                estimate = head->base - unit * out[at + i];
                fuzz = unit * head->fuzz + 4e-6f * (fabsf(head->base) + fabsf(unit * out[at + i]));
            }
            out[at + i] = estimate;
            if (bounds) {
                float e = rv__quant_error(quant, code);
                /* the estimate is off by fuzz, so is the distance the bound starts from */
                bounds[at + i] =
                    fuzz + rv__quant_bound(quant, head, l2 ? estimate + fuzz : estimate, e);
            }
        }
    }
}

static const rv__quant_ops rv__quant_step_ops = {
    rv__quant_step_train, rv__quant_step_scratch, rv__quant_step_encode, rv__quant_step_chunk,
    rv__quant_step_query, rv__quant_step_prepare, rv__quant_step_distance, rv__quant_error,
};

#endif /* RV_QUANT_SCALAR_C */
