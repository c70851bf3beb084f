#ifndef RV_QUANT_PQ_C
#define RV_QUANT_PQ_C
#include "quant.c"
#include "kmeans.c"

/* Product quantization: the dimensions are cut into m runs, each run of a row is replaced by the
   nearest of K = 2^bits centroids of that run (k-means). A query turns into a table of K distances
   or products per run, so that an estimate is m look-ups. With K = 16 the tables fit registers:
   rows are packed 32 to a block and looked up with byte shuffles.

   The first dim % m runs are one dimension longer than the others. Codes: 8 bits: a byte per run;
   4 bits: run 2 i in the low half of byte i, run 2 i + 1 in the high half.

   Sources: Jegou, Douze, Schmid, Product quantization for nearest neighbor search, 2011; Andre,
   Kermarrec, Le Scouarnec, Cache locality is not enough: high-performance nearest neighbor search
   with product quantization fast scan, 2015; Quick ADC, 2017. */

/* Runs up to this long of K = 256 centroids are compared as they are, longer ones through tiles. */
#define RV__QUANT_PQ_NARROW 16u

RV__INLINE size_t rv__quant_pq_first(const rv_quant *quant, size_t s)
{
    size_t width = quant->config.dim / quant->config.m, more = quant->config.dim % quant->config.m;
    return s * width + (s < more ? s : more);
}

RV__INLINE size_t rv__quant_pq_width(const rv_quant *quant, size_t s)
{
    return rv__quant_pq_first(quant, s + 1) - rv__quant_pq_first(quant, s);
}

RV__INLINE size_t rv__quant_pq_size(const rv_quant *quant)
{
    return (size_t)1 << quant->config.bits;
}

/* Floats of book and turned and of the halved squared lengths [m][K] behind them. */
RV__INLINE size_t rv__quant_pq_floats(const rv_quant *quant)
{
    return rv__quant_pq_size(quant) * (2 * (size_t)quant->config.dim + quant->config.m);
}

RV__INLINE const float *rv__quant_pq_half(const rv_quant *quant, size_t s)
{
    return quant->turned + rv__quant_pq_size(quant) * (quant->config.dim + s);
}

RV__FN rv_status rv__quant_pq_room(rv_ctx *ctx, rv_quant *quant)
{
    quant->book = (float *)rv__get(&quant->alloc, rv__quant_pq_floats(quant), sizeof(float));
    if (!quant->book) return rv__no_memory(ctx, rv__quant_pq_floats(quant) * sizeof(float));
    quant->turned = quant->book + rv__quant_pq_size(quant) * quant->config.dim;
    return RV_OK;
}

/* Fills turned and the lengths from the book. */
RV__FN rv_status rv__quant_pq_turn(rv_ctx *ctx, rv_quant *quant)
{
    const size_t size = rv__quant_pq_size(quant);
    size_t left = 0;
    for (size_t s = 0; s < quant->config.m; s++) {
        size_t first = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *book = quant->book + size * first;
        float *turned = quant->turned + size * first;
        float *half = quant->turned + size * (quant->config.dim + s);
        for (size_t c = 0; c < size; c++) {
            rv_status status = rv__poll_by(ctx, &left, 8 * (width + 4));
            if (status) return status;
            half[c] = 0.0f;
            for (size_t j = 0; j < width; j++) {
                float x = book[c * width + j];
                turned[j * size + c] = x;
                half[c] += 0.5f * x * x;
            }
        }
    }
    return RV_OK;
}

static rv_status rv__quant_pq_train(rv_ctx *ctx, rv_quant *quant, const float *sample, size_t s)
{
    const size_t size = rv__quant_pq_size(quant);
    rv_kmeans_config config;
    rv_status status;
    memset(&config, 0, sizeof config);
    config.k = (uint32_t)size;
    config.iterations = quant->config.iterations;
    config.sample = size == 16 ? 512 : 256;
    if (s < size) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "pq of %z bits needs %z rows to train on, there are %z",
                        (size_t)quant->config.bits, size, s);
    }
    status = rv__quant_pq_room(ctx, quant);
    for (size_t i = 0; !status && i < quant->config.m; i++) {
        size_t first = rv__quant_pq_first(quant, i);
        status = rv__kmeans_train(ctx, &config, rv__mix(quant->seed + i), sample + first,
                                  quant->config.dim, s, rv__quant_pq_width(quant, i),
                                  quant->book + size * first, NULL, NULL);
    }
    return status ? status : rv__quant_pq_turn(ctx, quant);
}

static size_t rv__quant_pq_scratch(const rv_quant *quant)
{
    if (quant->config.bits == 4) return 0;
    return RV__QUANT_BLOCK * 256 + rv__gram_f32_scratch() / sizeof(float);
}

static void rv__quant_pq_put(const rv_quant *quant, unsigned char *code, size_t s, unsigned value)
{
    if (quant->config.bits == 8) {
        code[s] = (unsigned char)value;
    } else {
        code[s >> 1] |= (unsigned char)(value << ((s & 1u) ? 4 : 0));
    }
}

RV__INLINE unsigned rv__quant_pq_at(const rv_quant *quant, const unsigned char *code, size_t s)
{
    return quant->config.bits == 8 ? code[s] : (unsigned)(code[s >> 1] >> ((s & 1u) ? 4 : 0) & 15);
}

static void rv__quant_pq_encode(const rv_quant *quant, float *rows, size_t n, unsigned char *codes,
                                float *scratch)
{
    const size_t dim = quant->config.dim, m = quant->config.m, size = rv__quant_pq_size(quant);
    memset(codes, 0, n * quant->code_bytes);
    for (size_t s = 0; s < m; s++) {
        size_t first = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *half = rv__quant_pq_half(quant, s);
        if (quant->config.bits == 4 || width <= RV__QUANT_PQ_NARROW) {
            for (size_t i = 0; i < n; i++) {
                uint32_t where = quant->kernels->nearest_f32(rows + i * dim + first, width,
                                                             quant->turned + size * first, half,
                                                             size);
                rv__quant_pq_put(quant, codes + i * quant->code_bytes, s, where);
            }
            continue;
        }
        quant->kernels->gram_f32(rows + first, dim, n, quant->book + 256 * first, width, 256, width,
                                 scratch, 256, scratch + RV__QUANT_BLOCK * 256);
        for (size_t i = 0; i < n; i++) {
            float best = rv__infinity();
            uint32_t where = 0;
            rv__kmeans_least(scratch + i * 256, half, 256, 0, &best, &where);
            rv__quant_pq_put(quant, codes + i * quant->code_bytes, s, where);
        }
    }
    for (size_t i = 0; i < n; i++)
        rv__quant_close(quant, rows + i * dim, codes + i * quant->code_bytes);
}

static void rv__quant_pq_chunk(const rv_quant *quant, const unsigned char *code, size_t first,
                               size_t n, float *out)
{
    const size_t size = rv__quant_pq_size(quant), dim = quant->config.dim, m = quant->config.m;
    size_t s = first * m / dim, done = 0;
    while (rv__quant_pq_first(quant, s) > first) s--;
    while (rv__quant_pq_first(quant, s + 1) <= first) s++;
    for (; done < n; s++) {
        size_t from = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *row = quant->book + size * from + rv__quant_pq_at(quant, code, s) * width;
        for (size_t j = first + done - from; j < width && done < n; j++) out[done++] = row[j];
    }
}

static size_t rv__quant_pq_query(const rv_quant *quant)
{
    size_t bytes = rv__quant_pq_size(quant) * quant->config.m * sizeof(float);
    if (quant->config.bits == 4)
        bytes = rv__round_up(bytes, 64) + 16 * rv__round_up(quant->config.m, 2);
    return rv__round_up(bytes, 64);
}

/* Where the tables of bytes begin. */
static size_t rv__quant_pq_lut(const rv_quant *quant)
{
    return rv__round_up(16 * (size_t)quant->config.m * sizeof(float), 64);
}

static void rv__quant_pq_prepare(const rv_quant *quant, float *query, rv__quant_query *head,
                                 unsigned char *data)
{
    const size_t size = rv__quant_pq_size(quant);
    float *table = (float *)(void *)data;
    head->length = rv_norm_f32(query, quant->config.dim);
    head->base = quant->config.metric == RV_METRIC_COSINE ? 1.0f : 0.0f;
    for (size_t s = 0; s < quant->config.m; s++) {
        size_t first = rv__quant_pq_first(quant, s), width = rv__quant_pq_width(quant, s);
        const float *turned = quant->turned + size * first;
        float *row = table + size * s;
        for (size_t c = 0; c < size; c++) row[c] = 0.0f;
        for (size_t j = 0; j < width; j++, turned += size) {
            const float x = query[first + j];
            if (quant->config.metric == RV_METRIC_L2) {
                for (size_t c = 0; c < size / 16 * 16; c++) {
                    float d = x - turned[c];
                    row[c] += d * d;
                }
            } else {
                for (size_t c = 0; c < size / 16 * 16; c++) row[c] -= x * turned[c];
            }
        }
    }
    if (size == 16)
        rv__quant_table(quant->kernels, table, quant->config.m, data + rv__quant_pq_lut(quant),
                        head);
}

static float rv__quant_pq_sum(const rv_quant *quant, const float *table, const unsigned char *code)
{
    const size_t m = quant->config.m;
    float a = 0.0f, b = 0.0f;
    size_t s = 0;
    if (quant->config.bits == 8) {
        for (; s + 2 <= m; s += 2) {
            a += table[256 * s + code[s]];
            b += table[256 * s + 256 + code[s + 1]];
        }
        if (s < m) a += table[256 * s + code[s]];
    } else {
        for (; s + 2 <= m; s += 2) {
            unsigned pair = code[s >> 1];
            a += table[16 * s + (pair & 15u)];
            b += table[16 * s + 16 + (pair >> 4)];
        }
        if (s < m) a += table[16 * s + (code[s >> 1] & 15u)];
    }
    return a + b;
}

static void rv__quant_pq_distance(const rv_quant *quant, const rv__quant_query *head,
                                  const unsigned char *data, const unsigned char *codes,
                                  const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const float *table = (const float *)(const void *)data;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *code = rv__quant_code(quant, codes, ids, i);
        if (ids && i + 4 < n) RV__PREFETCH(codes + ids[i + 4] * quant->code_bytes);
        out[i] = head->base + rv__quant_pq_sum(quant, table, code);
        if (bounds) bounds[i] = rv__quant_bound(quant, head, out[i], rv__quant_error(quant, code));
    }
}

static const rv__quant_ops rv__quant_pq_ops = {
    rv__quant_pq_train, rv__quant_pq_scratch, rv__quant_pq_encode, rv__quant_pq_chunk,
    rv__quant_pq_query, rv__quant_pq_prepare, rv__quant_pq_distance, rv__quant_error,
};

/* ---- blocks of 32: 16 m' bytes of nibbles (m' = m rounded up to even), then 32 bf16 errors ----
   */

RV__FN size_t rv__quant_pq_block(const rv_quant *quant)
{
    return rv__round_up(16 * rv__round_up(quant->config.m, 2) + 64, 64);
}

RV__FN void rv__quant_pq_pack(const rv_quant *quant, const unsigned char *codes, size_t n,
                              unsigned char *block)
{
    const size_t m = quant->config.m;
    memset(block, 0, rv__quant_pq_block(quant));
    for (size_t i = 0; i < n; i++) {
        const unsigned char *code = codes + i * quant->code_bytes;
        for (size_t s = 0; s < m; s++) {
            block[16 * s + (i & 15u)] |=
                (unsigned char)(rv__quant_pq_at(quant, code, s) << ((i & 16u) ? 4 : 0));
        }
        memcpy(block + 16 * rv__round_up(m, 2) + 2 * i, code + quant->code_bytes - 2, 2);
    }
}

/* One block; n <= 32. */
RV__FN void rv__quant_pq_scan(const rv_quant *quant, const rv__quant_query *head,
                              const unsigned char *data, const unsigned char *block, size_t n,
                              float *out, float *bounds)
{
    const size_t m = rv__round_up(quant->config.m, 2);
    uint16_t sums[RV__QUANT_BLOCK];
    quant->kernels->pq4_scan(data + rv__quant_pq_lut(quant), block, m, 1, sums);
    for (size_t i = 0; i < n; i++) {
        out[i] = head->base + head->table_offset + head->table_scale * (float)sums[i];
        if (bounds) {
            float e = rv__bf16_f32(rv__load_u16(block + 16 * m + 2 * i));
            bounds[i] =
                head->table_fuzz + rv__quant_bound(quant, head, out[i] + head->table_fuzz, e);
        }
    }
}

#endif /* RV_QUANT_PQ_C */
