#ifndef RV_QUANT_RABITQ_C
#define RV_QUANT_RABITQ_C
#include "quant.c"

/* RaBitQ. A row x is moved by the mean c and rotated at random, r = P (x - c); its code y is the
   point of the grid of odd halves {+-0.5, +-1.5, ...}, 2^(bits-1) of them to each side, whose
   direction is nearest to that of r. Then

       <x - c, q - c>  is estimated by  f <y, P (q - c)>,   f = |r|^2 / <y, r>

   which is exact for q = x and unbiased over the rotation, because the part of r across y points
   nowhere in particular. With t = <y, r> / (|y| |r|) the error is about normal with deviation
   |r| |q - c| sqrt(1 / t^2 - 1) / sqrt(D - 1); epsilon deviations are the bound.

       L2   |x - c|^2 + |q - c|^2 - 2 <x - c, q - c>
       -q x = -<q, c> - <x - c, c> - <x - c, q - c>

   Code: the integers y + 2^(bits-1) - 1/2, then f32 h (the first or second term above that belongs
   to the row), f32 f, u16 65535 t^2, bf16 deviation / |q - c|. Integers of 8 bits are signed bytes,
   less 128; of 4 to 7 bits the low four are nibbles (D in steps of 128, see rv__kernels); all other
   bits lie in planes of D bits, the lowest first.

   The decoded s y, s = <y, r> / |y|^2 = f t^2, is the point of y's line nearest to r, at a distance
   of |r| sqrt(1 - t^2); from this follows the bound between two codes, which needs no probability.

   With one bit the code is the signs. With more, the grid's scale is searched on a dozen values,
   then each coordinate may move by one step while that turns y towards r. Queries become signed
   bytes, two bytes from 4 bits on, where one would be coarser than the code.

   Sources: Gao, Long, RaBitQ: quantizing high-dimensional vectors with a theoretical error bound,
   2024;
   Gao, Gou, Xu, Yang, Long, Wong, Practical and asymptotically optimal quantization of
   high-dimensional vectors in Euclidean space for approximate nearest neighbor search, 2025.
   Differs from them in the search for the grid's scale, in nearest instead of random rounding of
   the query (its error enters the bound), and in how the integers are laid out. */

#define RV__RABITQ_TAIL 12u

/* Bits of an integer that are no planes: a byte, a nibble, or none. */
RV__INLINE unsigned rv__rabitq_whole(unsigned bits)
{
    return bits == 8 ? 8u : bits >= 4 ? 4u : 0u;
}

/* Query elements that the kernel for those wants. */
RV__INLINE size_t rv__rabitq_elements(size_t padded, unsigned bits)
{
    return rv__rabitq_whole(bits) == 4 ? rv__round_up(padded, 128) : padded;
}

/* Where the planes begin. */
RV__INLINE size_t rv__rabitq_first(size_t padded, unsigned bits)
{
    return rv__rabitq_elements(padded, bits) * rv__rabitq_whole(bits) / 8;
}

RV__INLINE size_t rv__rabitq_payload(size_t padded, unsigned bits)
{
    return rv__rabitq_first(padded, bits) + (bits - rv__rabitq_whole(bits)) * padded / 8;
}

RV__INLINE unsigned rv__rabitq_levels(const rv_quant *quant)
{
    return quant->config.bits >= 4 ? 2u : 1u;
}

/* y + this is the integer in the code. */
RV__INLINE float rv__rabitq_shift(unsigned bits)
{
    return 0.5f * (float)((1u << bits) - 1u);
}

static rv_status rv__rabitq_train(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t dim = quant->config.dim;
    double *sum = (double *)rv__get_zero(&quant->alloc, dim, sizeof(double));
    rv_status status = RV_OK;
    size_t left = 0;
    quant->mean = (float *)rv__get(&quant->alloc, dim + quant->padded, sizeof(float));
    if (!sum || !quant->mean) status = rv__no_memory(ctx, dim * sizeof(double));
    for (size_t i = 0; !status && i < s; i++) {
        status = rv__poll_by(ctx, &left, dim + 32);
        for (size_t j = 0; j < dim; j++) sum[j] += (double)sample[i * dim + j];
    }
    if (!status) {
        for (size_t j = 0; j < dim; j++) quant->mean[j] = (float)(sum[j] / (double)s);
        rv_rotation_apply(quant->rotation, quant->mean, quant->mean + dim);
    }
    rv__put(&quant->alloc, sum, dim, sizeof(double));
    return status;
}

static size_t rv__rabitq_scratch(const rv_quant *quant)
{
    return 2 * quant->padded;
}

/* Magnitudes k (y = k + 1/2) of |r| at scale t; returns the squared cosine up to |r|^2. */
static double rv__rabitq_try(const float *r, size_t n, float t, float top, float *k)
{
    float dot = 0.0f, square = 0.0f;
    for (size_t j = 0; j < n; j++) {
        float a = fabsf(r[j]), level = (float)(int32_t)(t * a) + 0.5f;
        level = level > top ? top : level;
        k[j] = level;
        dot += level * a;
        square += level * level;
    }
    return (double)dot * (double)dot / (double)square;
}

/* Moves single coordinates by one step while the direction improves; two rounds. */
static void rv__rabitq_polish(const float *r, size_t n, float top, float *k)
{
    double dot = 0.0, square = 0.0;
    for (size_t j = 0; j < n; j++) {
        dot += (double)k[j] * (double)fabsf(r[j]);
        square += (double)k[j] * (double)k[j];
    }
    for (int round = 0; round < 2; round++) {
        for (size_t j = 0; j < n; j++) {
            double a = (double)fabsf(r[j]), level = (double)k[j];
            /* the best level for this coordinate alone is a square / dot, the others fixed */
            double step = a * square > level * dot ? 1.0 : -1.0, d, s;
            if (level + step > (double)top || level + step < 0.0) continue;
            d = dot + step * a;
            s = square + 2.0 * step * level + 1.0;
            if (d * d * square <= dot * dot * s) continue;
            k[j] = (float)(level + step);
            dot = d;
            square = s;
        }
    }
}

/* Levels of r[n] into k[n]: magnitudes 0.5, 1.5, ... */
static void rv__rabitq_levels_of(const float *r, size_t n, unsigned bits, float *k)
{
    const float top = (float)(1u << (bits - 1)) - 0.5f;
    float largest = 0.0f, best_scale = 0.0f;
    double best = -1.0;
    for (size_t j = 0; j < n; j++) {
        largest = fabsf(r[j]) > largest ? fabsf(r[j]) : largest;
        k[j] = 0.5f;
    }
    if (bits == 1 || !(largest > 1e-30f) || largest > 1e30f) return;
    for (int i = 0; i < 12; i++) {
        float t = (top + 0.5f) / largest * (0.25f + 0.075f * (float)i);
        double score = rv__rabitq_try(r, n, t, top, k);
        if (score > best) {
            best = score;
            best_scale = t;
        }
    }
    (void)rv__rabitq_try(r, n, best_scale, top, k);
    rv__rabitq_polish(r, n, top, k);
}

/* Integers of the code of r[n]; sums over y in double. */
RV__FN void rv__rabitq_integers(const float *r, size_t n, unsigned bits, float *k,
                                unsigned char *code, double *dot, double *square)
{
    const float shift = rv__rabitq_shift(bits);
    const unsigned whole = rv__rabitq_whole(bits);
    unsigned char *planes = code + rv__rabitq_first(n, bits);
    memset(code, 0, rv__rabitq_payload(n, bits));
    rv__rabitq_levels_of(r, n, bits, k);
    *dot = *square = 0.0;
    for (size_t j = 0; j < n; j++) {
        float y = r[j] < 0.0f ? -k[j] : k[j];
        unsigned level = (unsigned)(int)(y + shift);
        *dot += (double)y * (double)r[j];
        *square += (double)y * (double)y;
        if (whole == 8) code[j] = (unsigned char)(level ^ 128u);
        if (whole == 4) {
            code[(j >> 7 << 6) + (j & 63u)] |=
                (unsigned char)((level & 15u) << ((j & 64u) ? 4 : 0));
        }
        for (unsigned b = whole; b < bits; b++) {
            planes[(b - whole) * n / 8 + (j >> 3)] |=
                (unsigned char)((level >> b & 1u) << (j & 7u));
        }
    }
}

static void rv__rabitq_encode(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                              float *scratch)
{
    const size_t dim = quant->config.dim, padded = quant->padded;
    float *r = scratch, *k = scratch + padded;
    for (size_t i = 0; i < n; i++) {
        float *row = rows + i * dim;
        unsigned char *code = codes + i * quant->code_bytes, *tail = code + quant->payload;
        double norm = 0.0, shift = 0.0, dot, square, f = 0.0, t2 = 0.0, width = 0.0;
        for (size_t j = 0; j < dim; j++) {
            row[j] -= quant->mean[j];
            norm += (double)row[j] * (double)row[j];
            shift += (double)row[j] * (double)quant->mean[j];
        }
        rv_rotation_apply(quant->rotation, row, r);
        rv__rabitq_integers(r, padded, quant->config.bits, k, code, &dot, &square);
        if (dot > 0.0 && norm > 0.0) {
            f = norm / dot;
            t2 = dot * dot / (square * norm);
            t2 = t2 < 1.0 ? t2 : 1.0;
            width = sqrt(norm * (1.0 / t2 - 1.0) / (double)(padded - 1));
        }
        rv__quant_put_f32(tail, (float)(quant->config.metric == RV_METRIC_L2 ? norm : -shift));
        rv__quant_put_f32(tail + 4, (float)f);
        rv__store_u16(tail + 8, (uint16_t)(65535.0 * t2 + 0.5));
        rv__quant_put_error(quant, code, (float)width);
    }
}

/* Elements first..first+n-1 of y. */
static void rv__rabitq_point(const rv_quant *quant, const unsigned char *code, size_t first,
                             size_t n, float *out)
{
    const unsigned bits = quant->config.bits, whole = rv__rabitq_whole(bits);
    const unsigned char *planes = code + rv__rabitq_first(quant->padded, bits);
    float shift = rv__rabitq_shift(bits);
    uint8_t level[RV__QUANT_CHUNK] = {0}, bit[RV__QUANT_CHUNK];
    if (whole == 8) { /* less 128 */
        memcpy(level, code + first, n);
        shift -= 128.0f;
    }
    if (whole == 4) rv__quant_get_nibbles(code, first, n, level);
    for (unsigned b = whole; b < bits; b++, planes += quant->padded / 8) {
        rv__quant_get_bits(planes, first, n, bit);
        for (size_t i = 0; i < n; i += 8) {
            uint64_t x = rv__load_u64(level + i) | rv__load_u64(bit + i) << b;
            memcpy(level + i, &x, sizeof x);
        }
    }
    quant->kernels->widen_i8((const int8_t *)level, 1.0f, out, n);
    for (size_t i = 0; i + 4 <= n; i += 4) { /* chunks of rotated rows are whole */
        for (size_t l = i; l < i + 4; l++) out[l] -= shift;
    }
}

static void rv__rabitq_chunk(const rv_quant *quant, const unsigned char *code, size_t first,
                             size_t n, float *out)
{
    const unsigned char *tail = code + quant->payload;
    const float *mean = quant->mean + quant->config.dim + first;
    float scale = rv__quant_get_f32(tail + 4) * (float)rv__load_u16(tail + 8) / 65535.0f;
    rv__rabitq_point(quant, code, first, n, out);
    rv__quant_move(mean, scale, out, n);
}

/* From the factors: |r|^2 (1 - t^2) is t^2 (D - 1) times the squared width; t^2, and with it s, is
   kept to half of 1 / 65535; and the rotation moves r and the mean by a few parts in 10^6 of their
   lengths and changes the lengths as much. */
static float rv__rabitq_lost(const rv_quant *quant, const unsigned char *code)
{
    const unsigned char *tail = code + quant->payload;
    double f = (double)rv__quant_get_f32(tail + 4), width = (double)rv__quant_error(quant, code);
    double t2 = ((double)rv__load_u16(tail + 8) + 0.5) / 65535.0, square = 0.0, norm, along;
    const double moved = rv__rotation_error(quant->rotation) + 2e-7;
    float point[RV__QUANT_CHUNK];
    for (size_t at = 0; at < quant->padded; at += RV__QUANT_CHUNK) {
        rv__rabitq_point(quant, code, at, RV__QUANT_CHUNK, point);
        square += rv__quant_square(point, RV__QUANT_CHUNK);
    }
    norm = f * f * square * t2;
    along = f * f * square * (0.51 / 65535.0) * (0.51 / 65535.0);
    return (float)(sqrt(width * width * (double)(quant->padded - 1) * t2 + along +
                        2.0 * moved * norm) +
                   2.0 * moved * sqrt(norm));
}

/* levels * [elements] bytes, then, with one bit, [padded / 4][16] floats and as many bytes. */
static size_t rv__rabitq_query(const rv_quant *quant)
{
    size_t bytes =
        rv__rabitq_levels(quant) * rv__rabitq_elements(quant->padded, quant->config.bits);
    return quant->config.bits == 1 ? bytes + 4 * quant->padded * (sizeof(float) + 1) : bytes;
}

/* Where the tables of bytes begin. */
static size_t rv__rabitq_lut(const rv_quant *quant)
{
    return quant->padded + 4 * quant->padded * sizeof(float);
}

/* Sums of each subset of four neighbours. */
RV__FN void rv__rabitq_table(const float *q, size_t n, float *table)
{
    for (size_t g = 0; g < n / 4; g++, q += 4, table += 16) {
        table[0] = 0.0f;
        table[1] = q[0];
        table[2] = q[1];
        table[3] = q[0] + q[1];
        for (size_t i = 0; i < 4; i++) table[4 + i] = table[i] + q[2];
        for (size_t i = 0; i < 8; i++) table[8 + i] = table[i] + q[3];
    }
}

/* Table and bytes of a rotated query: their sum over a code is <y, q>. table: [n / 4][16]. */
RV__FN void rv__rabitq_tables(const rv__kernels *kernels, const float *q, size_t n, float *table,
                              uint8_t *lut, rv__quant_query *head)
{
    double sum = 0.0;
    rv__rabitq_table(q, n, table);
    rv__quant_table(kernels, table, n / 4, lut, head);
    for (size_t j = 0; j < n; j++) sum += (double)q[j];
    head->table_offset -= (float)(0.5 * sum);
}

static void rv__rabitq_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                               unsigned char *data)
{
    const size_t dim = quant->config.dim, padded = quant->padded;
    const size_t m = rv__rabitq_elements(padded, quant->config.bits);
    /* what integers of 8 bits lack goes with the shift */
    const float shift = rv__rabitq_shift(quant->config.bits) - (quant->config.bits == 8 ? 128 : 0);
    double product = 0.0, square = 0.0;
    float lost;
    int8_t *element = (int8_t *)data;
    for (size_t j = 0; j < dim; j++) {
        double moved = (double)query[j] - (double)quant->mean[j];
        product += (double)query[j] * (double)quant->mean[j];
        square += moved * moved;
        query[j] = (float)moved;
    }
    rv_rotation_apply(quant->rotation, query, query);
    head->length = (float)sqrt(square);
    head->base = (float)(quant->config.metric == RV_METRIC_L2 ? square :
                         quant->config.metric == RV_METRIC_IP ? -product : 1.0 - product);
    head->scale = rv__quant_narrow(quant, query, padded, m, element, &lost);
    head->offset = shift * (float)rv__quant_sum_i8(element, padded);
    if (quant->config.bits == 1) {
        rv__rabitq_tables(quant->kernels, query, padded, (float *)(void *)(data + padded),
                          data + rv__rabitq_lut(quant), head);
    }
    if (rv__rabitq_levels(quant) == 2) {
        for (size_t j = 0; j < padded; j++) query[j] -= head->scale * (float)element[j];
        /* the scale of the second byte is kept where tables have theirs */
        head->table_scale = rv__quant_narrow(quant, query, padded, m, element + m, &lost);
        head->table_offset = shift * (float)rv__quant_sum_i8(element + m, padded);
    }
    /* rounding points nowhere in particular either: |y| / sqrt(D) of it meets y */
    head->fuzz = lost * rv__rabitq_shift(quant->config.bits);
}

static void rv__rabitq_finish(const rv_quant *quant, const rv__quant_query *head,
                              float h, float f, float e, float fuzz, float *out, float *bound)
{
    const float twice = quant->config.metric == RV_METRIC_L2 ? 2.0f : 1.0f;
    float term = twice * f * *out, estimate = head->base + h - term;
    *out = estimate;
    if (!bound) return;
    *bound = twice * quant->config.epsilon * head->length * e + twice * f * fuzz +
             4e-6f * (fabsf(head->base) + fabsf(h) + fabsf(term));
}

/* out += scale <integers, element> for n <= 256 codes. */
static void rv__rabitq_products(const rv_quant *quant, const int8_t *element, float scale,
                                const unsigned char *codes, const uint32_t *ids, size_t n,
                                float *out)
{
    const unsigned bits = quant->config.bits, whole = rv__rabitq_whole(bits);
    const size_t first = rv__rabitq_first(quant->padded, bits), plane = quant->padded / 8;
    int32_t sums[256];
    if (whole) {
        rv__dot_scan_fn scan =
            whole == 8 ? quant->kernels->dot_i8_scan : quant->kernels->dot_u4_scan;
        scan(element, codes, quant->code_bytes, ids, n, first, sums);
        for (size_t i = 0; i < n; i++) out[i] += scale * (float)sums[i];
    }
    for (unsigned b = whole; b < bits; b++) {
        float weight = scale * (float)(1u << b);
        quant->kernels->dot_u1_scan(element, codes + first + (b - whole) * plane,
                                    quant->code_bytes, ids, n, plane, sums);
        for (size_t i = 0; i < n; i++) out[i] += weight * (float)sums[i];
    }
}

static void rv__rabitq_distance(const rv_quant *quant, const rv__quant_query *head,
                                const unsigned char *data, const unsigned char *codes,
                                const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const size_t m = rv__rabitq_elements(quant->padded, quant->config.bits);
    for (size_t at = 0; at < n; at += 256) {
        size_t part = n - at < 256 ? n - at : 256;
        const unsigned char *from = ids ? codes : codes + at * quant->code_bytes;
        const uint32_t *list = ids ? ids + at : NULL;
        for (size_t i = 0; i < part; i++) out[at + i] = 0.0f;
        for (unsigned level = 0; level < rv__rabitq_levels(quant); level++) {
            const int8_t *element = (const int8_t *)data + level * m;
            float scale = level ? head->table_scale : head->scale;
            float offset = level ? head->table_offset : head->offset;
            rv__rabitq_products(quant, element, scale, from, list, part, out + at);
            for (size_t i = 0; i < part; i++) out[at + i] -= scale * offset;
        }
        for (size_t i = 0; i < part; i++) {
            const unsigned char *code = rv__quant_code(quant, from, list, i),
                                *tail = code + quant->payload;
            rv__rabitq_finish(quant, head, rv__quant_get_f32(tail), rv__quant_get_f32(tail + 4),
                              rv__quant_error(quant, code), quant->config.epsilon * head->fuzz,
                              out + at + i, bounds ? bounds + at + i : NULL);
        }
    }
}

static const rv__quant_ops rv__rabitq_ops = {
    rv__rabitq_train, rv__rabitq_scratch, rv__rabitq_encode, rv__rabitq_chunk,
    rv__rabitq_query, rv__rabitq_prepare, rv__rabitq_distance, rv__rabitq_lost,
};

/* ---- blocks of 32, one bit: 4 D bytes of nibbles, then h[32], f[32], bf16 e[32] ---- */

RV__FN size_t rv__rabitq_block(const rv_quant *quant)
{
    return 4 * quant->padded + 32 * 10; /* both multiples of 64 */
}

RV__FN void rv__rabitq_pack(const rv_quant *quant, const unsigned char *codes, size_t n,
                            unsigned char *block)
{
    unsigned char *tail = block + 4 * quant->padded;
    memset(block, 0, rv__rabitq_block(quant));
    for (size_t i = 0; i < n; i++) {
        const unsigned char *code = codes + i * quant->code_bytes;
        const unsigned char *from = code + quant->payload;
        for (size_t j = 0; j < quant->padded / 8; j++) {
            unsigned shift = (i & 16u) ? 4 : 0;
            block[32 * j + (i & 15u)] |= (unsigned char)((code[j] & 15u) << shift);
            block[32 * j + 16 + (i & 15u)] |= (unsigned char)((unsigned)(code[j] >> 4) << shift);
        }
        memcpy(tail + 4 * i, from, 4);
        memcpy(tail + 128 + 4 * i, from + 4, 4);
        memcpy(tail + 256 + 2 * i, code + quant->code_bytes - 2, 2);
    }
}

RV__FN void rv__rabitq_scan(const rv_quant *quant, const rv__quant_query *head,
                            const unsigned char *data, const unsigned char *block, size_t n,
                            float *out, float *bounds)
{
    const unsigned char *tail = block + 4 * quant->padded;
    uint16_t sums[RV__QUANT_BLOCK];
    quant->kernels->pq4_scan(data + rv__rabitq_lut(quant), block, quant->padded / 4, 1, sums);
    for (size_t i = 0; i < n; i++) {
        out[i] = head->table_offset + head->table_scale * (float)sums[i];
        rv__rabitq_finish(quant, head, rv__quant_get_f32(tail + 4 * i),
                          rv__quant_get_f32(tail + 128 + 4 * i),
                          rv__bf16_f32(rv__load_u16(tail + 256 + 2 * i)), head->table_fuzz, out + i,
                          bounds ? bounds + i : NULL);
    }
}

#endif /* RV_QUANT_RABITQ_C */
