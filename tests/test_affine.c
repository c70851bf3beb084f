/* Codes of few bits against ONNX, round trips, packing, faults. */
#include "grid_set.h"

#include "golden/affine.h"

/* Code e of a tensor, without the library. */
static int code_at(int kind, const unsigned char *codes, size_t e)
{
    int16_t i16;
    uint16_t u16;
    memcpy(&i16, codes + 2 * e, 2);
    memcpy(&u16, codes + 2 * e, 2);
    switch (kind) {
    case RV_AFFINE_I8: return (int)(signed char)codes[e];
    case RV_AFFINE_U8: return codes[e];
    case RV_AFFINE_I4: return ((codes[e / 2] >> (e % 2 ? 4 : 0) & 15) ^ 8) - 8;
    case RV_AFFINE_U4: return codes[e / 2] >> (e % 2 ? 4 : 0) & 15;
    case RV_AFFINE_I16: return i16;
    default: return u16;
    }
}

static void test_golden(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_affine); row++) {
        const int kind = rv_golden_affine[row].kind, axis = rv_golden_affine[row].axis;
        rv_affine_shape shape = {1, 1, 24, 0};
        float x[24], back[24], scale[12];
        unsigned char codes[64];
        int32_t zero[12];
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        if (axis == 0) shape.channels = 3, shape.inner = 8;
        if (axis == 1) shape.outer = 3, shape.channels = 4, shape.inner = 2;
        shape.block = (size_t)rv_golden_affine[row].block;
        RV_EQUAL(rv_affine_scales(&shape), axis < 0 ? 1 : axis == 0 ? 3 : shape.block ? 12 : 4);
        for (size_t i = 0; i < 12; i++) {
            scale[i] = (float)((row % 4 == 1 ? 0.3 : 1.0 / 64) * (double)(i + 1));
            zero[i] = rv_golden_affine[row].zero;
        }
        grid(1, x, 24);
        for (size_t i = 0; i < 24; i++) x[i] *= 4;
        memset(codes, 0xEE, sizeof codes);
        RV_OKAY(&ctx, rv_affine_quantize(&ctx, (rv_affine_type)kind, x, &shape, scale, zero,
                                                codes));
        for (size_t i = 0; i < 24; i++) {
            RV_EQUAL(code_at(kind, codes, i), rv_golden_affine[row].code[i]);
        }
        RV_EQUAL(codes[rv_affine_bytes((rv_affine_type)kind, 24)], 0xEE);
        RV_OKAY(&ctx, rv_affine_dequantize(&ctx, (rv_affine_type)kind, codes, &shape, scale, zero,
                                           back));
        for (size_t i = 0; i < 24; i++) RV_CHECK(back[i] == (float)rv_golden_affine[row].back[i]);
    }
}

static void test_dynamic(void)
{
    for (size_t row = 0; row < RV_COUNT_OF(rv_golden_dynamic); row++) {
        const rv_affine_shape shape = {1, 1, 6, 0};
        float x[6], scale = 0;
        unsigned char codes[6];
        int32_t zero = -1;
        rv_ctx ctx;
        rv_test_ctx(&ctx);
        rv_test_row("golden", row);
        grid((size_t)rv_golden_dynamic[row].v, x, 6);
        for (size_t i = 0; i < 6; i++) x[i] += (float)rv_golden_dynamic[row].shift;
        RV_OKAY(&ctx, rv_affine_find(&ctx, RV_AFFINE_U8, 1, x, &shape, &scale, &zero));
        RV_CHECK(scale == (float)rv_golden_dynamic[row].scale);
        RV_EQUAL(zero, rv_golden_dynamic[row].zero);
        RV_OKAY(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_U8, x, &shape, &scale, &zero, codes));
        for (size_t i = 0; i < 6; i++) RV_EQUAL(codes[i], rv_golden_dynamic[row].code[i]);
    }
}

/* |x - back| <= scale / 2 for every type, symmetric and not, per tensor, row and group; lengths
   that no group or byte divides. */
static void test_error(void)
{
    enum { ROWS = 5, DIM = 77, ALL = ROWS * DIM };
    const rv_affine_shape shapes[] = {{1, 1, ALL, 0}, {1, ROWS, DIM, 0}, {ROWS, DIM, 1, 32}};
    for (size_t t = 0; t < 36; t++) {
        const rv_affine_type type = (rv_affine_type)(t % 6);
        const rv_affine_shape *shape = &shapes[t / 6 % 3];
        const int asymmetric = t >= 18;
        float x[ALL], back[ALL], scale[ROWS * 3];
        int32_t zero[ROWS * 3];
        unsigned char codes[2 * ALL];
        double power = 0, noise = 0;
        rv_test_rng rng;
        rv_ctx ctx;
        if (!asymmetric && rv_affine_type_at(type)->low == 0) continue;
        rv_test_ctx(&ctx);
        rv_test_seed(&rng, t + 1);
        rv_test_row(rv_affine_type_at(type)->name, t);
        rv_test_fill(&rng, x, ALL);
        for (size_t i = 0; i < ALL; i++) x[i] *= 1.0f + (float)(i / DIM);
        RV_OKAY(&ctx, rv_affine_find(&ctx, type, asymmetric, x, shape, scale, zero));
        RV_OKAY(&ctx, rv_affine_quantize(&ctx, type, x, shape, scale, zero, codes));
        RV_OKAY(&ctx, rv_affine_dequantize(&ctx, type, codes, shape, scale, zero, back));
        for (size_t i = 0; i < ALL; i++) {
            size_t r = i / DIM, at = t / 6 % 3 == 0 ? 0 : t / 6 % 3 == 1 ? r : r * 3 + i % DIM / 32;
            double half = 0.5 * (double)scale[at];
            /* a zero point rounded by up to a half may cut half a step off at one end */
            RV_NEAR(back[i], x[i], half * (asymmetric ? 2.0 : 1.0) + 4 * U * fabs((double)x[i]));
            power += (double)x[i] * (double)x[i];
            noise += ((double)x[i] - (double)back[i]) * ((double)x[i] - (double)back[i]);
        }
        /* steps of r / 2^bits: noise about step^2 / 12 of values of variance r^2 / 12 */
        RV_CHECK(noise < 4 * power / pow(2.0, 2.0 * rv_affine_type_at(type)->bits - 2));
    }
}

static void test_edges(void)
{
    const rv_affine_shape one = {1, 1, 5, 0}, none = {0, 3, 5, 0};
    float x[5] = {0}, back[5], scale = 0;
    unsigned char codes[10];
    int32_t zero = 5;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_affine_find(&ctx, RV_AFFINE_I8, 0, x, &one, &scale, &zero));
    RV_CHECK(scale == 1.0f && zero == 0);
    RV_OKAY(&ctx, rv_affine_find(&ctx, RV_AFFINE_U4, 1, x, &one, &scale, &zero));
    RV_CHECK(scale == 1.0f && zero == 0);
    x[0] = infinite();
    x[1] = -infinite();
    x[2] = 3e38f;
    RV_OKAY(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_I4, x, &one, &scale, NULL, codes));
    RV_OKAY(&ctx, rv_affine_dequantize(&ctx, RV_AFFINE_I4, codes, &one, &scale, NULL, back));
    RV_CHECK(back[0] == 7 && back[1] == -8 && back[2] == 7 && back[3] == 0 && back[4] == 0);
    RV_CHECK(codes[2] == 0); /* the unused half of an odd length */
    RV_OKAY(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_I8, NULL, &none, NULL, NULL, NULL));
    RV_OKAY(&ctx, rv_affine_dequantize(&ctx, RV_AFFINE_I8, NULL, &none, NULL, NULL, NULL));
    RV_EQUAL(rv_affine_bytes(RV_AFFINE_U4, 5), 3);
    RV_EQUAL(rv_affine_bytes(RV_AFFINE_U16, 5), 10);
    RV_EQUAL(rv_affine_bytes((rv_affine_type)7, 5), 0);
}

/* ---- components ---- */

static void test_pack(void)
{
    static const rv_affine_component parts[] = {{30, 8}, {17, 5}, {9, 5}},
                                     odd[] = {{3, 2}, {5, 16}};
    enum { N = 4, DIM = 56 };
    float x[N * DIM], back[N * DIM];
    uint8_t *codes;
    size_t bytes;
    rv_test_rng rng;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    rv_test_seed(&rng, 2);
    rv_test_fill(&rng, x, N * DIM);
    for (size_t j = 0; j < 30; j++) x[j] = 0; /* a component of zeros */
    bytes = rv_affine_pack_bytes(parts, 3);
    codes = (uint8_t *)malloc(N * bytes); /* exactly */
    if (!codes) exit(2);
    RV_EQUAL(bytes, 12 + (8 * 30 + 5 * 17 + 5 * 9 + 7) / 8); /* really as few as it says */
    RV_OKAY(&ctx, rv_affine_pack(&ctx, parts, 3, x, N, codes));
    RV_OKAY(&ctx, rv_affine_unpack(&ctx, parts, 3, codes, N, back));
    for (size_t i = 0; i < N * DIM; i++) {
        const size_t j = i % DIM, first = j < 30 ? 0 : j < 47 ? 30 : 47;
        const size_t last = j < 30 ? 30 : j < 47 ? 47 : 56;
        double most = 0;
        for (size_t k = first; k < last; k++) {
            double size = fabs((double)x[i - j + k]);
            most = size > most ? size : most;
        }
        RV_NEAR(back[i], x[i], 0.5 * most / (j < 30 ? 127 : 15) + 4 * U * most);
        /* the largest stays */
        if (fabs((double)x[i]) == most) RV_NEAR(back[i], x[i], 4 * U * most);
    }
    /* by hand: scale 2, levels -1 0 1 in two bits, low bits first: 11 00 01 -> 0x13 */
    x[0] = -2;
    x[1] = 0.9f;
    x[2] = 2;
    memset(x + 3, 0, 5 * sizeof *x);
    RV_EQUAL(rv_affine_pack_bytes(odd, 2), 8 + (6 + 80 + 7) / 8);
    RV_OKAY(&ctx, rv_affine_pack(&ctx, odd, 2, x, 1, codes));
    RV_CHECK(codes[0] == 0 && codes[1] == 0 && codes[2] == 0 && codes[3] == 0x40); /* 2.0f */
    RV_EQUAL(codes[8], 0x13);
    free(codes);
}

static void test_errors(void)
{
    rv_affine_shape shape = {1, 1, 4, 0};
    rv_affine_component part = {4, 8};
    float x[4] = {1, 2, 3, 4}, scale = 77;
    uint8_t codes[16] = {0};
    int32_t zero = 200;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_FAILS(&ctx, rv_affine_find(&ctx, (rv_affine_type)6, 0, x, &shape, &scale, NULL),
             RV_ERR_CONFIG, "type is 6");
    RV_FAILS(&ctx, rv_affine_find(&ctx, RV_AFFINE_U8, 0, x, &shape, &scale, NULL), RV_ERR_CONFIG,
             "type is u8");
    RV_FAILS(&ctx, rv_affine_find(&ctx, RV_AFFINE_U8, 1, x, &shape, &scale, NULL), RV_ERR_ARG,
             "zero is NULL");
    RV_FAILS(&ctx, rv_affine_find(&ctx, RV_AFFINE_U8, 1, NULL, &shape, &scale, &zero), RV_ERR_ARG,
             "NULL");
    RV_FAILS(&ctx, rv_affine_find(&ctx, RV_AFFINE_U8, 1, x, NULL, &scale, &zero), RV_ERR_ARG,
             "shape is NULL");
    x[0] = -3e38f;
    x[1] = 3e38f;
    RV_FAILS(&ctx, rv_affine_find(&ctx, RV_AFFINE_U8, 1, x, &shape, &scale, &zero), RV_ERR_ARG,
             "with x[1] = 3e38");
    x[2] = not_a_number();
    RV_FAILS(&ctx, rv_affine_find(&ctx, RV_AFFINE_I8, 0, x, &shape, &scale, NULL), RV_ERR_ARG,
             "x[2] is NaN");
    RV_EQUAL(ctx.where, 2);
    RV_CHECK(scale == 77 && zero == 200);
    RV_FAILS(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_I8, x, &shape, &scale, NULL, codes),
             RV_ERR_ARG,
             "x[2] is NaN");
    RV_FAILS(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_I8, x, &shape, &scale, &zero, codes),
             RV_ERR_ARG,
             "zero[0] is 200; it must be -128..127");
    RV_FAILS(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_I8, x, &shape, &scale, NULL, NULL),
             RV_ERR_ARG,
             "codes is NULL");
    scale = 0;
    RV_FAILS(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_I8, x, &shape, &scale, NULL, codes),
             RV_ERR_ARG,
             "scale[0] is 0");
    RV_FAILS(&ctx, rv_affine_dequantize(&ctx, RV_AFFINE_I8, codes, &shape, &scale, NULL, x),
             RV_ERR_ARG,
             "scale[0] is 0");
    scale = 1;
    RV_FAILS(&ctx, rv_affine_dequantize(&ctx, RV_AFFINE_I8, codes, &shape, &scale, NULL, NULL),
             RV_ERR_ARG, "x is NULL");
    shape.outer = SIZE_MAX;
    RV_FAILS(&ctx, rv_affine_quantize(&ctx, RV_AFFINE_I8, x, &shape, &scale, NULL, codes),
             RV_ERR_ARG,
             "does not fit");
    RV_FAILS(&ctx, rv_affine_pack(&ctx, &part, 1, x, 1, codes), RV_ERR_ARG, "x[2] is NaN");
    RV_FAILS(&ctx, rv_affine_pack(&ctx, &part, 0, x, 1, codes), RV_ERR_CONFIG, "n_parts is 0");
    RV_FAILS(&ctx, rv_affine_pack(&ctx, &part, 1, NULL, 1, codes), RV_ERR_ARG, "NULL");
    RV_FAILS(&ctx, rv_affine_pack(&ctx, &part, 1, x, SIZE_MAX, codes), RV_ERR_ARG, "does not fit");
    part.bits = 17;
    RV_FAILS(&ctx, rv_affine_unpack(&ctx, &part, 1, codes, 1, x), RV_ERR_CONFIG, "17 bits");
    RV_EQUAL(rv_affine_pack_bytes(&part, 1), 0);
    part.bits = 1;
    RV_EQUAL(rv_affine_pack_bytes(&part, 1), 0);
}

static rv_status sweep(rv_ctx *ctx, void *arg)
{
    const rv_affine_shape shape = {1, 4, 5, 0};
    float scale[4] = {77};
    const float *x = (const float *)arg;
    rv_status status = rv_affine_find(ctx, RV_AFFINE_I8, 0, x, &shape, scale, NULL);
    if (status) RV_CHECK(scale[0] == 77);
    return status;
}

static void test_faults(void)
{
    float x[20];
    grid(1, x, 20);
    RV_EQUAL(rv_test_oom_sweep(sweep, x), 2);
}

int main(void)
{
    rv_test_begin("affine");
    RV_RUN(test_golden);
    RV_RUN(test_dynamic);
    RV_RUN(test_error);
    RV_RUN(test_edges);
    RV_RUN(test_pack);
    RV_RUN(test_errors);
    RV_RUN(test_faults);
    return rv_test_end();
}
