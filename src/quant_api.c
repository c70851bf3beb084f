#ifndef RV_QUANT_API_C
#define RV_QUANT_API_C
#include "quant.c"
#include "quant_scalar.c"
#include "quant_pq.c"
#include "quant_rabitq.c"
#include "image.c"

/* The public functions of the quantizers: configuration, training on a sample, parallel encoding,
   dispatch over the kinds, images.

   Image "QUAN": CONF u32[8] = kind, dim, metric, bits, m, iterations, epsilon as bits, trained;
   SEED u64[1]; when trained, SQ8, SQ4, BINARY: MIDS f32[2 dim] (mid, step) and UNIT f32[1]; PQ:
   BOOK f32[2^bits dim]; RABITQ: MEAN f32[dim]. */

static const struct {
    rv_quant_info info;
    uint32_t bits; /* 0: from the config */
    const rv__quant_ops *ops;
} rv__quant_kinds[] = {
    {{"sq8", "8", 1, "uniform quantizer, a step width per dimension"}, 8, &rv__quant_step_ops},
    {{"sq8_row", "8", 0, "uniform quantizer, a scale per row"}, 8, &rv__quant_row_ops},
    {{"sq4", "4", 1, "uniform quantizer, a step width per dimension"}, 4, &rv__quant_step_ops},
    {{"f16", "16", 0, "IEEE 754 binary16"}, 16, &rv__quant_row_ops},
    {{"bf16", "16", 0, "bfloat16"}, 16, &rv__quant_row_ops},
    {{"binary", "1", 1, "signs around the mean"}, 1, &rv__quant_step_ops},
    {{"pq", "4 or 8 per sub-quantizer", 1,
      "Jegou, Douze, Schmid, 2011; fast scan: Andre et al., 2015"},
     0,
     &rv__quant_pq_ops},
    {{"rabitq", "1 to 8", 1, "Gao, Long, 2024; Gao et al., 2025"}, 0, &rv__rabitq_ops},
};

#define RV__QUANT_KINDS (sizeof rv__quant_kinds / sizeof rv__quant_kinds[0])

RV_API const rv_quant_info *rv_quant_kind_at(size_t i)
{
    return i < RV__QUANT_KINDS ? &rv__quant_kinds[i].info : NULL;
}

/* ---- making ---- */

/* Checks a config and fills in its defaults. */
static rv_status rv__quant_resolve(rv_ctx *ctx, const rv_quant_config *from,
                                   rv_quant_config *config)
{
    const size_t kind = (size_t)from->kind;
    *config = *from;
    if (kind >= RV__QUANT_KINDS) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kind is %z, allowed: 0 to %z", kind,
                        RV__QUANT_KINDS - 1);
    }
    if (from->dim < 1 || from->dim > 65535) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dim is %z, allowed: 1 to 65535", (size_t)from->dim);
    }
    if (from->metric != RV_METRIC_L2 && from->metric != RV_METRIC_IP &&
        from->metric != RV_METRIC_COSINE) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "metric is %s, allowed: l2, ip, cosine",
                        rv_metric_name(from->metric));
    }
    if (from->kind == RV_QUANT_PQ) {
        if (from->bits == 0) config->bits = 4;
        if (config->bits != 4 && config->bits != 8) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "bits is %z, allowed for pq: 4, 8",
                            (size_t)from->bits);
        }
        if (from->m == 0) config->m = (from->dim + 3) / 4;
        if (config->m > from->dim) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "m is %z, allowed: 1 to dim (%z)",
                            (size_t)from->m, (size_t)from->dim);
        }
        if (from->iterations == 0) config->iterations = 16;
        if (config->iterations > 10000) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "iterations is %z, allowed: 1 to 10000",
                            (size_t)from->iterations);
        }
    } else if (from->kind == RV_QUANT_RABITQ) {
        if (from->bits == 0) config->bits = 1;
        if (config->bits > 8) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "bits is %z, allowed for rabitq: 1 to 8",
                            (size_t)from->bits);
        }
        if (from->epsilon == 0.0f) config->epsilon = 1.9f;
        if (!rv__finite_f32(config->epsilon) || config->epsilon < 0.0f ||
            config->epsilon > 100.0f) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "epsilon is %f, allowed: above 0 to 100",
                            (double)from->epsilon);
        }
    } else {
        config->bits = rv__quant_kinds[kind].bits;
        if (from->bits && from->bits != config->bits) {
            return rv__fail(ctx, RV_ERR_CONFIG, 0, "bits is %z, kind %s has %z: leave it 0",
                            (size_t)from->bits, rv__quant_kinds[kind].info.name,
                            (size_t)config->bits);
        }
    }
    return RV_OK;
}

/* Sizes of a code. */
static void rv__quant_measure(rv_quant *quant)
{
    const size_t dim = quant->config.dim, bits = quant->config.bits;
    size_t factors = 0;
    switch (quant->config.kind) {
    case RV_QUANT_F16:
    case RV_QUANT_BF16: quant->payload = 2 * dim; break;
    case RV_QUANT_SQ4:
        quant->payload = rv__round_up(dim, 128) / 2;
        factors = 4;
        break;
    case RV_QUANT_BINARY: quant->payload = rv__round_up(dim, 64) / 8; break;
    case RV_QUANT_PQ: quant->payload = (quant->config.m * bits + 7) / 8; break;
    case RV_QUANT_RABITQ:
        quant->payload = rv__rabitq_payload(quant->padded, quant->config.bits);
        factors = RV__RABITQ_TAIL - 2;
        break;
    default: quant->payload = 4 + dim; break;
    }
    quant->code_bytes = quant->payload + factors + 2;
}

static rv_status rv__quant_make(rv_ctx *ctx, const rv_quant_config *from, uint64_t seed,
                                rv_quant **out)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv_quant_config config;
    rv_quant *quant;
    rv_status status = rv__quant_resolve(ctx, from, &config);
    if (status) return status;
    quant = (rv_quant *)rv__get_zero(&alloc, 1, sizeof *quant);
    if (!quant) return rv__no_memory(ctx, sizeof *quant);
    quant->alloc = alloc;
    quant->config = config;
    quant->seed = seed;
    quant->ops = rv__quant_kinds[config.kind].ops;
    quant->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    quant->trained = !quant->ops->train;
    if (config.kind == RV_QUANT_RABITQ) {
        status = rv__rotation_create(ctx, config.dim, seed, &quant->rotation);
        if (status) {
            rv__put(&alloc, quant, 1, sizeof *quant);
            return status;
        }
        quant->padded = rv_rotation_dim(quant->rotation);
    }
    rv__quant_measure(quant);
    *out = quant;
    return RV_OK;
}

RV_API rv_status rv_quant_create(rv_ctx *ctx, const rv_quant_config *config, rv_quant **out)
{
    rv_status status;
    if (!config || !out)
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_create needs config and out");
    status = rv__quant_make(ctx, config, rv__seed(ctx), out);
    return status ? status : rv__ok(ctx);
}

/* Gives back what training made. */
static void rv__quant_forget(rv_quant *quant)
{
    const size_t dim = quant->config.dim;
    rv__put(&quant->alloc, quant->mid, 2 * dim, sizeof(float));
    rv__put(&quant->alloc, quant->book, rv__quant_pq_floats(quant), sizeof(float));
    rv__put(&quant->alloc, quant->mean, dim + quant->padded, sizeof(float));
    quant->mid = quant->book = quant->mean = NULL;
}

RV_API void rv_quant_destroy(rv_quant *quant)
{
    rv_alloc alloc;
    if (!quant) return;
    alloc = quant->alloc;
    rv__quant_forget(quant);
    rv_rotation_destroy(quant->rotation);
    rv__put(&alloc, quant, 1, sizeof *quant);
}

RV_API int rv_quant_trained(const rv_quant *quant)
{
    return quant->trained;
}

RV_API size_t rv_quant_code_bytes(const rv_quant *quant)
{
    return quant->code_bytes;
}

RV_API void rv_quant_config_of(const rv_quant *quant, rv_quant_config *config)
{
    *config = quant->config;
}

RV_API size_t rv_quant_bytes(const rv_quant *quant)
{
    const size_t dim = quant->config.dim;
    size_t bytes = sizeof *quant;
    if (quant->mid) bytes += 2 * dim * sizeof(float);
    if (quant->book) bytes += rv__quant_pq_floats(quant) * sizeof(float);
    if (quant->mean) bytes += (dim + quant->padded) * sizeof(float);
    return bytes + (quant->rotation ? rv_rotation_bytes(quant->rotation) : 0);
}

/* ---- training ---- */

/* Resolves the stride of rows a caller gives. */
static rv_status rv__quant_stride(rv_ctx *ctx, const rv_quant *quant, size_t *stride)
{
    const size_t dim = quant->config.dim;
    if (*stride == 0) *stride = dim;
    if (*stride >= dim) return RV_OK;
    return rv__fail(ctx, RV_ERR_DIM, 0, "stride is %z, allowed: 0 or at least dim (%z)", *stride,
                    dim);
}

/* Rows looked at by training: enough for the kind, at most about 64 MiB. */
static size_t rv__quant_sample_rows(const rv_quant *quant, size_t n)
{
    size_t most = RV__QUANT_SAMPLE, fits = ((size_t)1 << 24) / quant->config.dim;
    if (quant->config.kind == RV_QUANT_PQ && quant->config.bits == 4) most = 8192;
    if (fits < 4096) fits = 4096;
    if (most > fits) most = fits;
    return n < most ? n : most;
}

static rv_status rv__quant_sample(rv_ctx *ctx, const rv_quant *quant, const float *rows,
                                  size_t stride, size_t n, size_t s, float *sample)
{
    const size_t dim = quant->config.dim;
    size_t left = 0;
    for (size_t i = 0; i < s; i++) {
        uint64_t from = (uint64_t)i * n / s, to = (uint64_t)(i + 1) * n / s;
        size_t row = (size_t)(from + rv__mix(quant->seed + i) % (to - from));
        size_t bad = rv__find_not_finite(rows + row * stride, dim);
        rv_status status = rv__poll_by(ctx, &left, 3 * (dim + 32));
        if (status) return status;
        if (bad < dim) {
            return rv__fail(ctx, RV_ERR_ARG, row * stride + bad,
                            "element %z of row %z is not finite", bad, row);
        }
        memcpy(sample + i * dim, rows + row * stride, dim * sizeof(float));
        if (quant->config.metric == RV_METRIC_COSINE) rv__quant_normalise(sample + i * dim, dim);
    }
    return RV_OK;
}

RV_API rv_status rv_quant_train(rv_ctx *ctx, rv_quant *quant, const float *rows, size_t stride,
                                size_t n)
{
    rv_quant fresh;
    rv_status status;
    size_t s, dim;
    float *sample;
    if (!quant || (!rows && n))
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_train needs quant and rows");
    dim = quant->config.dim;
    status = rv__quant_stride(ctx, quant, &stride);
    if (status) return status;
    if (n == 0) return rv__fail(ctx, RV_ERR_ARG, 0, "n is 0, training needs at least one row");
    if (!quant->ops->train) return rv__ok(ctx);
    s = rv__quant_sample_rows(quant, n);
    sample = (float *)rv__get(&quant->alloc, rv__mul(s, dim), sizeof(float));
    if (!sample) return rv__no_memory(ctx, rv__mul(rv__mul(s, dim), sizeof(float)));
    fresh = *quant;
    fresh.mid = fresh.step = fresh.book = fresh.turned = fresh.mean = NULL;
    status = rv__quant_sample(ctx, quant, rows, stride, n, s, sample);
    if (!status) status = quant->ops->train(ctx, &fresh, sample, s);
    rv__put(&quant->alloc, sample, rv__mul(s, dim), sizeof(float));
    if (status) {
        rv__quant_forget(&fresh);
        return status;
    }
    rv__quant_forget(quant);
    *quant = fresh;
    quant->trained = 1;
    return rv__ok(ctx);
}

/* ---- encoding and decoding ---- */

typedef struct rv__quant_job {
    const rv_quant *quant;
    const float *rows;
    size_t stride;
    unsigned char *codes;
    float *scratch;     /* [lanes, lane_floats]: a block of rows, then the kind's */
    size_t lane_floats;
    size_t *bad;        /* [lanes] lowest element that cannot be coded, or SIZE_MAX */
} rv__quant_job;

/* First element of a row that has no code, or dim. */
static size_t rv__quant_refused(const rv_quant *quant, const float *row)
{
    const size_t dim = quant->config.dim;
    const uint32_t top = quant->kernels->peak_f32(row, dim);
    size_t bad = top < 0x7F800000u ? dim : rv__find_not_finite(row, dim);
    if (bad == dim && quant->config.kind == RV_QUANT_F16 &&
        quant->config.metric != RV_METRIC_COSINE && rv__from_bits_f32((int32_t)top) >= 65520.0f) {
        for (bad = 0; bad < dim && fabsf(row[bad]) < 65520.0f;) bad++;
    }
    return bad;
}

static void rv__quant_encode_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__quant_job *job = (const rv__quant_job *)arg;
    const rv_quant *quant = job->quant;
    const size_t dim = quant->config.dim;
    float *block = job->scratch + lane * job->lane_floats;
    for (size_t at = begin; at < end; at += RV__QUANT_BLOCK) {
        size_t n = end - at < RV__QUANT_BLOCK ? end - at : RV__QUANT_BLOCK;
        for (size_t i = 0; i < n; i++) {
            const float *row = job->rows + (at + i) * job->stride;
            size_t bad = rv__quant_refused(quant, row);
            if (bad < dim) {
                size_t where = (at + i) * job->stride + bad;
                if (where < job->bad[lane]) job->bad[lane] = where;
                memset(block + i * dim, 0, dim * sizeof(float));
                continue;
            }
            memcpy(block + i * dim, row, dim * sizeof(float));
            if (quant->config.metric == RV_METRIC_COSINE) rv__quant_normalise(block + i * dim, dim);
        }
        quant->ops->encode(quant, block, n, job->codes + at * quant->code_bytes,
                           block + rv__round_up(RV__QUANT_BLOCK * dim, 16));
    }
}

/* Rows encoded between two polls: one to two ms. For PQ a few at least, because all of the book is
   read for them together: of tens of thousands of dimensions they take longer. */
static size_t rv__quant_encoded(const rv_quant *quant)
{
    const size_t least = quant->config.kind == RV_QUANT_PQ ? 8 : 1;
    size_t each = 1, rows; /* each: nanoseconds for an element, about */
    if (quant->config.kind == RV_QUANT_PQ) each = quant->config.bits == 4 ? 16 : 64;
    if (quant->config.kind == RV_QUANT_RABITQ) each = quant->config.bits == 1 ? 16 : 48;
    rows = 1 + 1500000u / (each * ((size_t)quant->config.dim + 32));
    return rows < least ? least : rows;
}

RV_API rv_status rv_quant_encode(rv_ctx *ctx, const rv_quant *quant, const float *rows,
                                 size_t stride, size_t n, void *codes)
{
    rv_alloc alloc = rv__allocator(ctx);
    size_t lanes = rv__lanes(ctx), worst = SIZE_MAX, dim, section;
    rv__quant_job job;
    rv_status status;
    if (!quant || (n && (!rows || !codes))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_encode needs quant, rows and codes");
    }
    dim = quant->config.dim;
    status = rv__quant_stride(ctx, quant, &stride);
    if (status) return status;
    if (!quant->trained)
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0, "the quantizer is not trained");
    if (n == 0) return rv__ok(ctx);
    job.quant = quant;
    job.rows = rows;
    job.stride = stride;
    job.codes = (unsigned char *)codes;
    job.lane_floats =
        rv__round_up(RV__QUANT_BLOCK * dim, 16) + rv__round_up(quant->ops->scratch(quant), 16);
    job.scratch = (float *)rv__get(&alloc, lanes, job.lane_floats * sizeof(float));
    job.bad = (size_t *)rv__get(&alloc, lanes, sizeof(size_t));
    if (!job.scratch || !job.bad) {
        status = rv__no_memory(ctx, lanes * job.lane_floats * sizeof(float));
    } else {
        for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
        section = rv__quant_encoded(quant);
        status = rv__parallel_for(ctx, n, section < RV__QUANT_BLOCK ? section : RV__QUANT_BLOCK,
                                  section, rv__quant_encode_range, &job);
        for (size_t i = 0; i < lanes; i++) worst = job.bad[i] < worst ? job.bad[i] : worst;
    }
    rv__put(&alloc, job.bad, lanes, sizeof(size_t));
    rv__put(&alloc, job.scratch, lanes, job.lane_floats * sizeof(float));
    if (status) return status;
    if (worst != SIZE_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, worst, "element %z of row %z is not finite or too large",
                        worst % stride, worst / stride);
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_quant_decode(rv_ctx *ctx, const rv_quant *quant, const void *codes, size_t n,
                                 float *rows)
{
    rv_alloc alloc = rv__allocator(ctx);
    const unsigned char *code = (const unsigned char *)codes;
    float *turned = NULL;
    rv_status status = RV_OK;
    size_t dim, wide, left = 0;
    if (!quant || (n && (!codes || !rows))) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_decode needs quant, codes and rows");
    }
    if (!quant->trained)
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0, "the quantizer is not trained");
    dim = wide = quant->config.dim;
    if (quant->rotation) {
        wide = quant->padded;
        turned = (float *)rv__get(&alloc, wide, sizeof(float));
        if (!turned) return rv__no_memory(ctx, wide * sizeof(float));
    }
    for (size_t i = 0; !status && i < n; i++, code += quant->code_bytes, rows += dim) {
        float *to = turned ? turned : rows;
        status = rv__poll_by(ctx, &left, 6 * (dim + 32));
        if (status) break;
        for (size_t at = 0; at < wide; at += RV__QUANT_CHUNK) {
            quant->ops->chunk(quant, code, at,
                              wide - at < RV__QUANT_CHUNK ? wide - at : RV__QUANT_CHUNK, to + at);
        }
        if (turned) rv_rotation_invert(quant->rotation, turned, rows);
    }
    rv__put(&alloc, turned, wide, sizeof(float));
    return status ? status : rv__ok(ctx);
}

static void rv__quant_swap(unsigned char *p, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++, p += size) {
        for (size_t b = 0; b < size / 2; b++) {
            unsigned char t = p[b];
            p[b] = p[size - 1 - b];
            p[size - 1 - b] = t;
        }
    }
}

RV_API void rv_quant_portable(const rv_quant *quant, void *codes, size_t n)
{
    unsigned char *code = (unsigned char *)codes;
    const int halves = quant->config.kind == RV_QUANT_F16 || quant->config.kind == RV_QUANT_BF16;
    const int first = quant->config.kind == RV_QUANT_SQ8 || quant->config.kind == RV_QUANT_SQ8_ROW;
    if (!rv__big_endian()) return;
    for (size_t i = 0; i < n; i++, code += quant->code_bytes) {
        unsigned char *tail = code + quant->payload;
        if (halves) rv__quant_swap(code, 2, quant->config.dim);
        if (first) rv__quant_swap(code, 4, 1);
        if (quant->config.kind == RV_QUANT_SQ4) rv__quant_swap(tail, 4, 1);
        if (quant->config.kind == RV_QUANT_RABITQ) {
            rv__quant_swap(tail, 4, 2);
            rv__quant_swap(tail + 8, 2, 1);
        }
        rv__quant_swap(code + quant->code_bytes - 2, 2, 1);
    }
}

/* ---- distances ---- */

static size_t rv__quant_head_bytes(void)
{
    return rv__round_up(sizeof(rv__quant_query), 64);
}

/* The head of a prepared query lies at its first multiple of 64 bytes. */
static const rv__quant_query *rv__quant_head(const void *prepared)
{
    const unsigned char *p = (const unsigned char *)prepared;
    return (const rv__quant_query *)(const void *)(p + (64 - ((uintptr_t)p & 63u)) % 64);
}

RV_API size_t rv_quant_query_bytes(const rv_quant *quant)
{
    size_t work = quant->config.dim > quant->padded ? quant->config.dim : quant->padded;
    return 64 + rv__quant_head_bytes() + quant->ops->query_bytes(quant) +
           rv__round_up(work * sizeof(float), 64);
}

RV_API rv_status rv_quant_prepare(rv_ctx *ctx, const rv_quant *quant, const float *query,
                                  void *prepared)
{
    unsigned char *p = (unsigned char *)prepared, *data;
    rv__quant_query *head;
    float *work;
    size_t bad;
    if (!quant || !query || !prepared) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_prepare needs quant, query and prepared");
    }
    if (!quant->trained)
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0, "the quantizer is not trained");
    bad = rv__find_not_finite(query, quant->config.dim);
    if (bad < quant->config.dim) {
        return rv__fail(ctx, RV_ERR_ARG, bad, "element %z of the query is not finite", bad);
    }
    p += (64 - ((uintptr_t)p & 63u)) % 64;
    head = (rv__quant_query *)(void *)p;
    data = p + rv__quant_head_bytes();
    work = (float *)(void *)(data + quant->ops->query_bytes(quant));
    memset(head, 0, sizeof *head);
    memcpy(work, query, quant->config.dim * sizeof(float));
    if (quant->config.metric == RV_METRIC_COSINE) rv__quant_normalise(work, quant->config.dim);
    quant->ops->prepare(quant, work, head, data);
    return rv__ok(ctx);
}

RV_API void rv_quant_distance(const rv_quant *quant, const void *prepared, const void *codes,
                              size_t n, float *out, float *bounds)
{
    rv_quant_gather(quant, prepared, codes, NULL, n, out, bounds);
}

RV_API void rv_quant_gather(const rv_quant *quant, const void *prepared, const void *codes,
                            const uint32_t *ids, size_t n, float *out, float *bounds)
{
    const rv__quant_query *head = rv__quant_head(prepared);
    const unsigned char *data = (const unsigned char *)head + rv__quant_head_bytes();
    if (n)
        quant->ops->distance(quant, head, data, (const unsigned char *)codes, ids, n, out, bounds);
}

/* The bound of a pair whose decoded forms have the lengths la and lb and are apart `value` (IP,
   COSINE: have the product of that size). */
static float rv__quant_pair_bound(const rv_quant *quant, const unsigned char *a,
                                  const unsigned char *b, double la, double lb, double value)
{
    const int l2 = quant->config.metric == RV_METRIC_L2;
    /* squares and products that underflow; the same for the lengths */
    const double least = 1.2e-38, under = least * (double)(quant->config.dim + quant->padded);
    double e = (double)quant->ops->lost(quant, a) + least;
    double f = (double)quant->ops->lost(quant, b) + least;
    if (quant->rotation) { /* roundings of a decoded row; L2: the mean's are the same in both */
        const double moved = 2e-7 + (l2 ? 0.0 : rv__rotation_error(quant->rotation));
        e += moved * (la + e);
        f += moved * (lb + f);
    }
    if (quant->config.metric == RV_METRIC_COSINE) { /* of what had length 1 */
        e += 1e-7;
        f += 1e-7;
    }
    if (l2) {
        double gap = sqrt(fabs(value) + under) * 1.00001;
        return (float)(((e + f) * (2.0 * gap + e + f) + 1e-5 * fabs(value)) * 1.000001 + under);
    }
    return (float)((e * lb + f * la + e * f + 1e-5 * la * lb) * 1.000001 + 1e-7 * fabs(value) +
                   under);
}

RV_API float rv_quant_pair(const rv_quant *quant, const void *a, const void *b, float *bound)
{
    const size_t wide = quant->rotation ? quant->padded : quant->config.dim;
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    const int op = quant->config.metric == RV_METRIC_L2 ? RV__OP_L2 : RV__OP_IP;
    float x[RV__QUANT_CHUNK], y[RV__QUANT_CHUNK];
    double sum = 0.0, aa = 0.0, bb = 0.0;
    for (size_t at = 0; at < wide; at += RV__QUANT_CHUNK) {
        size_t n = wide - at < RV__QUANT_CHUNK ? wide - at : RV__QUANT_CHUNK;
        quant->ops->chunk(quant, p, at, n, x);
        quant->ops->chunk(quant, q, at, n, y);
        sum += (double)quant->kernels->pair_f32[op](x, y, n);
        if (bound) {
            aa += rv__quant_square(x, n);
            bb += rv__quant_square(y, n);
        }
    }
    if (quant->config.metric == RV_METRIC_COSINE) sum += 1.0;
    if (bound) *bound = rv__quant_pair_bound(quant, p, q, sqrt(aa), sqrt(bb), sum);
    return (float)sum;
}

/* ---- blocks ---- */

RV_API size_t rv_quant_block_bytes(const rv_quant *quant)
{
    if (quant->config.kind == RV_QUANT_PQ && quant->config.bits == 4)
        return rv__quant_pq_block(quant);
    if (quant->config.kind == RV_QUANT_RABITQ && quant->config.bits == 1)
        return rv__rabitq_block(quant);
    return 0;
}

RV_API void rv_quant_pack(const rv_quant *quant, const void *codes, size_t n, void *blocks)
{
    const unsigned char *code = (const unsigned char *)codes;
    unsigned char *block = (unsigned char *)blocks;
    for (size_t at = 0; at < n; at += RV__QUANT_BLOCK, block += rv_quant_block_bytes(quant)) {
        size_t part = n - at < RV__QUANT_BLOCK ? n - at : RV__QUANT_BLOCK;
        if (quant->config.kind == RV_QUANT_PQ) {
            rv__quant_pq_pack(quant, code + at * quant->code_bytes, part, block);
        } else {
            rv__rabitq_pack(quant, code + at * quant->code_bytes, part, block);
        }
    }
}

RV_API void rv_quant_scan(const rv_quant *quant, const void *prepared, const void *blocks, size_t n,
                          float *out, float *bounds)
{
    const rv__quant_query *head = rv__quant_head(prepared);
    const unsigned char *data = (const unsigned char *)head + rv__quant_head_bytes();
    const unsigned char *block = (const unsigned char *)blocks;
    for (size_t at = 0; at < n; at += RV__QUANT_BLOCK, block += rv_quant_block_bytes(quant)) {
        size_t part = n - at < RV__QUANT_BLOCK ? n - at : RV__QUANT_BLOCK;
        if (quant->config.kind == RV_QUANT_PQ) {
            rv__quant_pq_scan(quant, head, data, block, part, out + at,
                              bounds ? bounds + at : NULL);
        } else {
            rv__rabitq_scan(quant, head, data, block, part, out + at, bounds ? bounds + at : NULL);
        }
    }
}

/* ---- images ---- */

/* The section that holds what training made, and how many floats; NULL: nothing is made. */
static const char *rv__quant_section(const rv_quant_config *config, size_t *count)
{
    switch (config->kind) {
    case RV_QUANT_SQ8:
    case RV_QUANT_SQ4:
    case RV_QUANT_BINARY: *count = 2 * (size_t)config->dim; return "MIDS";
    case RV_QUANT_PQ: *count = (config->bits == 8 ? 256 : 16) * (size_t)config->dim; return "BOOK";
    case RV_QUANT_RABITQ: *count = config->dim; return "MEAN";
    default: *count = 0; return NULL;
    }
}

/* Sections behind a tag prefix, so that an index can hold a quantizer in its own image. */
RV__FN void rv__quant_save(rv__image_writer *w, const rv_quant *quant)
{
    const float *made = quant->mid ? quant->mid : quant->book ? quant->book : quant->mean;
    uint32_t conf[8];
    size_t count;
    const char *tag = rv__quant_section(&quant->config, &count);
    conf[0] = (uint32_t)quant->config.kind;
    conf[1] = quant->config.dim;
    conf[2] = (uint32_t)quant->config.metric;
    conf[3] = quant->config.bits;
    conf[4] = quant->config.m;
    conf[5] = quant->config.iterations;
    memcpy(conf + 6, &quant->config.epsilon, 4);
    conf[7] = (uint32_t)quant->trained;
    rv__image_section(w, "CONF", 4, conf, 8);
    rv__image_section(w, "SEED", 8, &quant->seed, 1);
    if (made) rv__image_section(w, tag, 4, made, count);
    if (quant->mid) rv__image_section(w, "UNIT", 4, &quant->unit, 1);
}

static rv_status rv__quant_load_floats(rv_ctx *ctx, const rv__image_reader *r, const char *tag,
                                       size_t n, float *out)
{
    rv_status status = rv__image_values(ctx, r, tag, 4, n, out);
    return status ? status : rv__image_check_finite(ctx, tag, out, n);
}

/* Whether what training made is there in the length that the config asks for, which has to be known
   before memory is asked for. */
static rv_status rv__quant_check_state(rv_ctx *ctx, const rv__image_reader *r,
                                       const rv_quant_config *config)
{
    size_t count, wanted;
    const char *tag = rv__quant_section(config, &wanted);
    if (!tag || (rv__image_count(r, tag, 4, &count) && count == wanted)) return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, 0, "section %s is missing or of a wrong length", tag);
}

/* What training made, into a quantizer that has none of it. */
static rv_status rv__quant_load_state(rv_ctx *ctx, const rv__image_reader *r, rv_quant *quant)
{
    const size_t dim = quant->config.dim;
    size_t count;
    const char *tag = rv__quant_section(&quant->config, &count);
    rv_status status;
    if (!tag) return RV_OK;
    if (quant->config.kind == RV_QUANT_PQ) {
        status = rv__quant_pq_room(ctx, quant);
        if (!status) status = rv__quant_load_floats(ctx, r, tag, count, quant->book);
        return status ? status : rv__quant_pq_turn(ctx, quant);
    }
    if (quant->config.kind == RV_QUANT_RABITQ) {
        quant->mean = (float *)rv__get(&quant->alloc, dim + quant->padded, sizeof(float));
        if (!quant->mean) return rv__no_memory(ctx, (dim + quant->padded) * sizeof(float));
        status = rv__quant_load_floats(ctx, r, tag, count, quant->mean);
        if (!status) rv_rotation_apply(quant->rotation, quant->mean, quant->mean + dim);
        return status;
    }
    quant->mid = (float *)rv__get(&quant->alloc, count, sizeof(float));
    if (!quant->mid) return rv__no_memory(ctx, count * sizeof(float));
    quant->step = quant->mid + dim;
    status = rv__quant_load_floats(ctx, r, tag, count, quant->mid);
    if (!status) status = rv__quant_load_floats(ctx, r, "UNIT", 1, &quant->unit);
    if (!status && !(quant->unit > 0.0f)) {
        status = rv__fail(ctx, RV_ERR_FORMAT, 0, "section UNIT is not positive");
    }
    for (size_t j = 0; !status && j < dim; j++) {
        if (!(quant->step[j] >= 0.0f && quant->step[j] <= 1.0f)) {
            status =
                rv__fail(ctx, RV_ERR_FORMAT, 0, "step %z in section MIDS is outside 0 to 1", j);
        }
    }
    return status;
}

RV__FN rv_status rv__quant_load(rv_ctx *ctx, const rv__image_reader *r, rv_quant **out)
{
    uint32_t conf[8];
    uint64_t seed;
    rv_quant_config config;
    rv_quant *quant;
    rv_status status = rv__image_values(ctx, r, "CONF", 4, 8, conf);
    if (!status) status = rv__image_values(ctx, r, "SEED", 8, 1, &seed);
    if (status) return status;
    memset(&config, 0, sizeof config);
    config.dim = conf[1];
    config.bits = conf[3];
    config.m = conf[4];
    config.iterations = conf[5];
    memcpy(&config.epsilon, conf + 6, 4);
    if (conf[0] >= RV__QUANT_KINDS || conf[2] > RV_METRIC_COSINE || conf[7] > 1) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0,
                        "section CONF names an unknown kind, metric or flag");
    }
    config.kind = (rv_quant_kind)conf[0];
    config.metric = (rv_metric)conf[2];
    if (conf[7]) status = rv__quant_check_state(ctx, r, &config);
    if (status) return status;
    status = rv__quant_make(ctx, &config, seed, &quant);
    if (status == RV_ERR_CONFIG) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "section CONF holds a config that is out of range");
    }
    if (status) return status;
    if (conf[7]) status = rv__quant_load_state(ctx, r, quant);
    if (status) {
        rv_quant_destroy(quant);
        return status;
    }
    quant->trained = conf[7] || !quant->ops->train;
    *out = quant;
    return RV_OK;
}

RV_API rv_status rv_quant_save(rv_ctx *ctx, const rv_quant *quant, void *image, size_t cap,
                               size_t *bytes)
{
    rv__image_writer w;
    if (!quant || !bytes)
        return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_save needs quant and bytes");
    rv__image_begin(ctx, &w, "QUAN", image, cap);
    rv__quant_save(&w, quant);
    return rv__image_end(ctx, &w, bytes);
}

RV_API rv_status rv_quant_load(rv_ctx *ctx, const void *image, size_t bytes, rv_quant **out)
{
    rv__image_reader r;
    rv_status status;
    if (!image || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "rv_quant_load needs image and out");
    status = rv__image_open(ctx, &r, image, bytes, "QUAN");
    if (!status) status = rv__quant_load(ctx, &r, out);
    return status ? status : rv__ok(ctx);
}

#undef RV__QUANT_KINDS
#undef RV__QUANT_BLOCK
#undef RV__QUANT_CHUNK
#undef RV__QUANT_SAMPLE
#undef RV__QUANT_PQ_NARROW
#undef RV__RABITQ_TAIL
#endif /* RV_QUANT_API_C */
