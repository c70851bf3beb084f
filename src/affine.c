#ifndef RV_AFFINE_C
#define RV_AFFINE_C
#include "affine.h"
#include "base.c"
#include "simd.c"

/* A walk over the shape gives each element its scale; one row per type tells its range and bits.

   Sources: ONNX operators QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear; Jacob et al.,
   Quantization and training of neural networks for efficient integer-arithmetic-only inference,
   2018. */

static const rv_affine_info rv__affine_infos[] = {
    {"i8", -128, 127, 8}, {"u8", 0, 255, 8},           {"i4", -8, 7, 4},
    {"u4", 0, 15, 4},     {"i16", -32768, 32767, 16}, {"u16", 0, 65535, 16},
};

RV_API const rv_affine_info *rv_affine_type_at(size_t i)
{
    return i < sizeof rv__affine_infos / sizeof rv__affine_infos[0] ? &rv__affine_infos[i] : NULL;
}

static size_t rv__affine_count(const rv_affine_shape *s)
{
    return rv__mul(rv__mul(s->outer, s->channels), s->inner);
}

RV_API size_t rv_affine_scales(const rv_affine_shape *shape)
{
    const rv_affine_shape *s = shape;
    if (s->block == 0) return s->channels;
    return rv__mul(rv__mul(s->outer, s->channels / s->block + (s->channels % s->block != 0)),
                   s->inner);
}

RV_API size_t rv_affine_bytes(rv_affine_type type, size_t n)
{
    const rv_affine_info *info = rv_affine_type_at((size_t)type);
    if (!info) return 0;
    return info->bits == 4 ? n / 2 + n % 2 : rv__mul(n, info->bits / 8);
}

/* Runs of elements that share a scale: `at` is its index. */
typedef struct rv__affine_walk {
    const rv_affine_shape *shape;
    size_t o, c, i, blocks, at;
} rv__affine_walk;

static void rv__affine_begin(rv__affine_walk *walk, const rv_affine_shape *shape)
{
    memset(walk, 0, sizeof *walk);
    walk->shape = shape;
    walk->blocks = shape->block
                       ? shape->channels / shape->block + (shape->channels % shape->block != 0)
                       : 0;
}

/* The length of the next run; past the end it does not matter. */
static size_t rv__affine_next(rv__affine_walk *walk)
{
    const rv_affine_shape *s = walk->shape;
    size_t run = s->inner, channels = 1;
    walk->at = walk->c;
    if (s->block) {
        walk->at = (walk->o * walk->blocks + walk->c / s->block) * s->inner + walk->i;
        run = 1;
        if (s->inner == 1) { /* the rest of the block, or of the channels */
            run = channels = s->block - walk->c % s->block;
            if (channels > s->channels - walk->c) run = channels = s->channels - walk->c;
        }
        if (++walk->i < s->inner) return run;
        walk->i = 0;
    }
    walk->c += channels;
    if (walk->c == s->channels) {
        walk->c = 0;
        walk->o++;
    }
    return run;
}

/* To the nearest, ties to even; |x| below 2^30. */
static int32_t rv__affine_round(double x)
{
    int32_t whole = (int32_t)x; /* towards 0 */
    double rest = x - (double)whole;
    if (rest > 0.5 || (rest == 0.5 && (whole & 1))) return whole + 1;
    if (rest < -0.5 || (rest == -0.5 && (whole & 1))) return whole - 1;
    return whole;
}

/* The same of a quotient of floats, first brought close to the range of all types: an infinity
   cannot be rounded. */
static int32_t rv__affine_quotient(float x, float scale)
{
    double q = (double)(x / scale);
    return rv__affine_round(q > 200000.0 ? 200000.0 : q < -200000.0 ? -200000.0 : q);
}

static rv_status rv__affine_check(rv_ctx *ctx, rv_affine_type type, const void *x,
                                  const rv_affine_shape *shape, const float *scale)
{
    size_t n;
    if (!rv_affine_type_at((size_t)type)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "type is %d; it must be one of rv_affine_type, 0..5",
                        (int)type);
    }
    if (!shape) return rv__fail(ctx, RV_ERR_ARG, 0, "shape is NULL");
    n = rv__affine_count(shape);
    if (n > SIZE_MAX / 8) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "a shape of %z, %z, %z does not fit the memory",
                        shape->outer, shape->channels, shape->inner);
    }
    if (n && (!x || !scale)) return rv__fail(ctx, RV_ERR_ARG, 0, "an input or scale is NULL");
    return RV_OK;
}

/* ---- scales that fit ---- */

/* From the range of a part, low <= 0 <= high, to its scale and zero point. */
static void rv__affine_fit(const rv_affine_info *info, int asymmetric, float low, float high,
                           float *scale, int32_t *zero)
{
    if (!asymmetric) {
        float most = high > -low ? high : -low;
        *scale = most > 0.0f ? most / (float)info->high : 1.0f;
        if (!(*scale > 0.0f)) *scale = 1.4e-45f; /* the least there is */
        return;
    }
    *scale = high > low ? (high - low) / (float)(info->high - info->low) : 1.0f;
    if (!(*scale > 0.0f)) *scale = 1.4e-45f;
    *zero = rv__affine_quotient((float)info->low - low / *scale, 1.0f);
    if (*zero < info->low) *zero = info->low;
    if (*zero > info->high) *zero = info->high;
}

/* Widens the ranges over all elements, then turns them into scales. range: [2, scales]. */
static rv_status rv__affine_find_run(rv_ctx *ctx, const rv_affine_info *info, int asymmetric,
                                     const float *x, const rv_affine_shape *shape, float *range,
                                     float *scale, int32_t *zero)
{
    const size_t n = rv__affine_count(shape), m = rv_affine_scales(shape);
    rv__affine_walk walk;
    rv__affine_begin(&walk, shape);
    memset(range, 0, 2 * m * sizeof *range);
    for (size_t e = 0; e < n;) {
        const size_t end = e + rv__affine_next(&walk), at = walk.at;
        float low = range[at], high = range[m + at];
        for (; e < end; e++) {
            if (x[e] < low) low = x[e];
            if (x[e] > high) high = x[e];
            if (asymmetric && !rv__finite_f32(high - low)) break;
        }
        range[at] = low;
        range[m + at] = high;
        if (e < end) {
            return rv__fail(ctx, RV_ERR_ARG, e, "with x[%z] = %f the range leaves that of floats",
                            e, (double)x[e]);
        }
    }
    for (size_t at = 0; at < m; at++) {
        rv__affine_fit(info, asymmetric, range[at], range[m + at], &scale[at],
                       asymmetric ? &zero[at] : NULL);
        if (!asymmetric && zero) zero[at] = 0;
    }
    return RV_OK;
}

RV_API rv_status rv_affine_find(rv_ctx *ctx, rv_affine_type type, int asymmetric, const float *x,
                                const rv_affine_shape *shape, float *scale, int32_t *zero)
{
    rv_alloc alloc = rv__allocator(ctx);
    size_t n, m;
    float *range;
    rv_status status = rv__affine_check(ctx, type, x, shape, scale);
    if (status) return status;
    n = rv__affine_count(shape);
    m = rv_affine_scales(shape);
    if (!asymmetric && rv__affine_infos[type].low == 0) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "type is %s; symmetric codes need a signed one",
                        rv__affine_infos[type].name);
    }
    if (asymmetric && m && !zero) return rv__fail(ctx, RV_ERR_ARG, 0, "zero is NULL");
    status = rv__check_finite(ctx, "x", x, n);
    if (status) return status;
    range = (float *)rv__get(&alloc, m, 2 * sizeof *range);
    if (!range) return rv__no_memory(ctx, rv__mul(m, 2 * sizeof *range));
    status = rv__affine_find_run(ctx, &rv__affine_infos[type], asymmetric, x, shape, range, scale,
                                 zero);
    rv__put(&alloc, range, m, 2 * sizeof *range);
    return status ? status : rv__ok(ctx);
}

/* ---- codes ---- */

static rv_status rv__affine_check_scales(rv_ctx *ctx, rv_affine_type type,
                                         const rv_affine_shape *shape, const float *scale,
                                         const int32_t *zero)
{
    const rv_affine_info *info = &rv__affine_infos[type];
    const size_t m = rv__affine_count(shape) ? rv_affine_scales(shape) : 0;
    for (size_t i = 0; i < m; i++) {
        if (!rv__finite_f32(scale[i]) || !(scale[i] > 0.0f)) {
            return rv__fail(ctx, RV_ERR_ARG, i, "scale[%z] is %f; it must be above 0 and finite", i,
                            (double)scale[i]);
        }
        if (zero && (zero[i] < info->low || zero[i] > info->high)) {
            return rv__fail(ctx, RV_ERR_ARG, i, "zero[%z] is %d; it must be %d..%d", i,
                            (int)zero[i], (int)info->low, (int)info->high);
        }
    }
    return RV_OK;
}

static void rv__affine_put(const rv_affine_info *info, unsigned char *codes, size_t e, int32_t q)
{
    if (info->bits == 8) {
        codes[e] = (unsigned char)(q & 255);
    } else if (info->bits == 4) {
        unsigned half = (unsigned)q & 15u;
        codes[e / 2] = (unsigned char)(e % 2 ? codes[e / 2] | half << 4 : half);
    } else {
        uint16_t word = (uint16_t)(q & 65535);
        memcpy(codes + 2 * e, &word, sizeof word);
    }
}

static int32_t rv__affine_get(const rv_affine_info *info, const unsigned char *codes, size_t e)
{
    int32_t q;
    if (info->bits == 8) {
        q = codes[e];
    } else if (info->bits == 4) {
        q = codes[e / 2] >> (e % 2 ? 4 : 0) & 15;
    } else {
        q = (int32_t)rv__load_u16(codes + 2 * e);
    }
    return q > info->high ? q - (1 << info->bits) : q;
}

RV_API rv_status rv_affine_quantize(rv_ctx *ctx, rv_affine_type type, const float *x,
                                    const rv_affine_shape *shape, const float *scale,
                                    const int32_t *zero, void *codes)
{
    const rv_affine_info *info;
    rv__affine_walk walk;
    size_t n;
    rv_status status = rv__affine_check(ctx, type, x, shape, scale);
    if (!status) status = rv__affine_check_scales(ctx, type, shape, scale, zero);
    if (status) return status;
    info = &rv__affine_infos[type];
    n = rv__affine_count(shape);
    if (n && !codes) return rv__fail(ctx, RV_ERR_ARG, 0, "codes is NULL");
    for (size_t e = 0; e < n; e++) {
        if (rv__is_nan(x[e])) {
            return rv__fail(ctx, RV_ERR_ARG, e, "x[%z] is NaN; it must be a number", e);
        }
    }
    rv__affine_begin(&walk, shape);
    for (size_t e = 0; e < n;) {
        const size_t end = e + rv__affine_next(&walk);
        const int32_t shift = zero ? zero[walk.at] : 0;
        const float step = scale[walk.at];
        for (; e < end; e++) {
            int32_t q = rv__affine_quotient(x[e], step) + shift;
            q = q < info->low ? info->low : q > info->high ? info->high : q;
            rv__affine_put(info, (unsigned char *)codes, e, q);
        }
    }
    return rv__ok(ctx);
}

RV_API rv_status rv_affine_dequantize(rv_ctx *ctx, rv_affine_type type, const void *codes,
                                      const rv_affine_shape *shape, const float *scale,
                                      const int32_t *zero, float *x)
{
    rv__affine_walk walk;
    size_t n;
    rv_status status = rv__affine_check(ctx, type, codes, shape, scale);
    if (!status) status = rv__affine_check_scales(ctx, type, shape, scale, zero);
    if (status) return status;
    n = rv__affine_count(shape);
    if (n && !x) return rv__fail(ctx, RV_ERR_ARG, 0, "x is NULL");
    rv__affine_begin(&walk, shape);
    for (size_t e = 0; e < n;) {
        const size_t end = e + rv__affine_next(&walk);
        const int32_t shift = zero ? zero[walk.at] : 0;
        const float step = scale[walk.at];
        for (; e < end; e++) {
            int32_t q = rv__affine_get(&rv__affine_infos[type], (const unsigned char *)codes, e);
            x[e] = (float)(q - shift) * step;
        }
    }
    return rv__ok(ctx);
}

/* ---- components ---- */

RV_API size_t rv_affine_pack_bytes(const rv_affine_component *parts, size_t n_parts)
{
    size_t bits = 0;
    for (size_t p = 0; p < n_parts; p++) {
        if (parts[p].dim < 1 || parts[p].bits < 2 || parts[p].bits > 16) return 0;
        bits = rv__add(bits, rv__mul(parts[p].dim, parts[p].bits));
    }
    return n_parts == 0 || bits > SIZE_MAX / 2 ? 0 : 4 * n_parts + (bits + 7) / 8;
}

static rv_status rv__affine_check_parts(rv_ctx *ctx, const rv_affine_component *parts,
                                        size_t n_parts, size_t n, const void *from, const void *to,
                                        size_t *dim)
{
    *dim = 0;
    if (!parts || n_parts < 1 || n_parts > 65535) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "parts is NULL or n_parts is %z; it must be 1..65535", n_parts);
    }
    for (size_t p = 0; p < n_parts; p++) {
        if (parts[p].dim < 1 || parts[p].bits < 2 || parts[p].bits > 16) {
            return rv__fail(ctx, RV_ERR_CONFIG, p,
                            "component %z has dim %z and %z bits; it needs 1 or more, and 2..16", p,
                            (size_t)parts[p].dim, (size_t)parts[p].bits);
        }
        *dim = rv__add(*dim, parts[p].dim);
    }
    if (rv__mul(n, rv__mul(*dim, 4)) == SIZE_MAX || rv_affine_pack_bytes(parts, n_parts) == 0) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z; that does not fit the memory", n);
    }
    if (n && (!from || !to)) return rv__fail(ctx, RV_ERR_ARG, 0, "x or codes is NULL");
    return RV_OK;
}

/* Bits enter at the top of a window and leave as bytes. */
static unsigned char *rv__affine_pack_part(const float *x, size_t dim, uint32_t bits, float scale,
                                           uint64_t *window, uint32_t *held, unsigned char *out)
{
    const int32_t high = (1 << (bits - 1)) - 1;
    for (size_t j = 0; j < dim; j++) {
        int32_t q = rv__affine_quotient(x[j], scale);
        q = q > high ? high : q < -high ? -high : q;
        *window |= (uint64_t)(q & ((1 << bits) - 1)) << *held;
        for (*held += bits; *held >= 8; *held -= 8) {
            *out++ = (unsigned char)(*window & 255u);
            *window >>= 8;
        }
    }
    return out;
}

static void rv__affine_pack_row(const rv_affine_component *parts, size_t n_parts, const float *x,
                                unsigned char *code)
{
    unsigned char *out = code + 4 * n_parts;
    uint64_t window = 0;
    uint32_t held = 0;
    for (size_t p = 0; p < n_parts; p++) {
        float most = 0.0f, scale;
        uint32_t bits;
        for (size_t j = 0; j < parts[p].dim; j++) most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
        scale = most / (float)((1 << (parts[p].bits - 1)) - 1);
        if (!(scale > 0.0f)) scale = most > 0.0f ? 1.4e-45f : 1.0f;
        memcpy(&bits, &scale, sizeof bits);
        for (size_t b = 0; b < 4; b++) code[4 * p + b] = (unsigned char)(bits >> (8 * b) & 255u);
        out = rv__affine_pack_part(x, parts[p].dim, parts[p].bits, scale, &window, &held, out);
        x += parts[p].dim;
    }
    if (held) *out = (unsigned char)(window & 255u);
}

RV_API rv_status rv_affine_pack(rv_ctx *ctx, const rv_affine_component *parts, size_t n_parts,
                                const float *x, size_t n, uint8_t *codes)
{
    size_t dim, bytes;
    rv_status status = rv__affine_check_parts(ctx, parts, n_parts, n, x, codes, &dim);
    if (status) return status;
    status = rv__check_finite(ctx, "x", x, n * dim);
    if (status) return status;
    bytes = rv_affine_pack_bytes(parts, n_parts);
    for (size_t i = 0; i < n; i++) {
        rv__affine_pack_row(parts, n_parts, x + i * dim, codes + i * bytes);
    }
    return rv__ok(ctx);
}

static void rv__affine_unpack_row(const rv_affine_component *parts, size_t n_parts,
                                  const unsigned char *code, float *x)
{
    const unsigned char *from = code + 4 * n_parts;
    uint64_t window = 0;
    uint32_t held = 0;
    for (size_t p = 0; p < n_parts; p++) {
        const uint32_t bits = parts[p].bits;
        uint32_t word = 0;
        float scale;
        for (size_t b = 0; b < 4; b++) word |= (uint32_t)code[4 * p + b] << (8 * b);
        memcpy(&scale, &word, sizeof scale);
        for (size_t j = 0; j < parts[p].dim; j++) {
            int32_t q;
            for (; held < bits; held += 8) window |= (uint64_t)*from++ << held;
            q = (int32_t)(window & ((1u << bits) - 1u));
            window >>= bits;
            held -= bits;
            if (q >= 1 << (bits - 1)) q -= 1 << bits;
            *x++ = (float)q * scale;
        }
    }
}

RV_API rv_status rv_affine_unpack(rv_ctx *ctx, const rv_affine_component *parts, size_t n_parts,
                                  const uint8_t *codes, size_t n, float *x)
{
    size_t dim, bytes;
    rv_status status = rv__affine_check_parts(ctx, parts, n_parts, n, codes, x, &dim);
    if (status) return status;
    bytes = rv_affine_pack_bytes(parts, n_parts);
    for (size_t i = 0; i < n; i++) {
        rv__affine_unpack_row(parts, n_parts, codes + i * bytes, x + i * dim);
    }
    return rv__ok(ctx);
}

#endif /* RV_AFFINE_C */
