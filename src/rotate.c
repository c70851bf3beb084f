#ifndef RV_ROTATE_C
#define RV_ROTATE_C
#include "rotate.h"
#include "base.c"

/* A rotation from cheap parts, each of them orthogonal. One round:

   1. flip the signs of all coordinates at random;
   2. Walsh-Hadamard butterflies of strides 4, 8, ... over the first (even rounds) or last (odd
      rounds) 2^k coordinates, the largest power of two that fits;
   3. turn each pair (i, half + i + shift) by 45 degrees (a step of Kac's walk), which mixes what
      the strides and the window left apart.

   The shift replaces butterflies of strides 1 and 2: those need shuffles within a vector, while
   every step here works on runs of at least four floats, which compilers turn into vector
   instructions on every machine. The rounds (four where the window is everything, else six) make
   any vector, also one with a single non-zero coordinate, look like a random point of the sphere.
   The inverse runs the same steps backwards.

   Sources: Ailon, Chazelle, The fast Johnson-Lindenstrauss transform, 2009; Gao, Long, RaBitQ,
   2024,
   and its library, for the combination with Kac's walk. Differs from the latter in the strides and
   the shifted pairs. */

#define RV__ROTATION_ROUNDS 6u /* at most */

struct rv_rotation {
    rv_alloc alloc;
    uint64_t seed;
    size_t dim, padded, window, rounds;
    float *signs; /* [rounds, padded] plus or minus the factor that keeps lengths              */
};

/* Butterflies of strides h and 2 h over four runs of h floats; h is a multiple of 4. Inner loops of
   constant length turn into vector instructions everywhere. */
static void rv__rotation_four(float *RV__RESTRICT p, float *RV__RESTRICT q, float *RV__RESTRICT r,
                              float *RV__RESTRICT s, size_t h)
{
    for (size_t j = 0; j + 4 <= h; j += 4) {
        for (size_t i = j; i < j + 4; i++) {
            float a = p[i] + q[i], b = p[i] - q[i], c = r[i] + s[i], d = r[i] - s[i];
            p[i] = a + c;
            q[i] = b + d;
            r[i] = a - c;
            s[i] = b - d;
        }
    }
}

static void rv__rotation_two(float *RV__RESTRICT p, float *RV__RESTRICT q, size_t n)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        for (size_t i = j; i < j + 4; i++) {
            float a = p[i], b = q[i];
            p[i] = a + b;
            q[i] = a - b;
        }
    }
    for (; j < n; j++) {
        float a = p[j], b = q[j];
        p[j] = a + b;
        q[j] = a - b;
    }
}

static void rv__rotation_scale(float *RV__RESTRICT x, const float *RV__RESTRICT by, size_t n)
{
    for (size_t j = 0; j + 4 <= n; j += 4) {
        for (size_t i = j; i < j + 4; i++) x[i] *= by[i];
    }
}

/* n: a power of two, at least 64. Unscaled. */
static void rv__rotation_hadamard(float *x, size_t n)
{
    size_t h = 4;
    for (; 4 * h <= n; h *= 4) {
        for (float *p = x; p < x + n; p += 4 * h)
            rv__rotation_four(p, p + h, p + 2 * h, p + 3 * h, h);
    }
    if (h < n) {
        for (float *p = x; p < x + n; p += 2 * h) rv__rotation_two(p, p + h, h);
    }
}

/* Pairs i of the first half with (i + shift) mod half of the second. Unscaled. */
static void rv__rotation_walk(float *x, size_t n, size_t shift)
{
    size_t half = n / 2;
    rv__rotation_two(x, x + half + shift, half - shift);
    rv__rotation_two(x + half - shift, x + half, shift);
}

/* Any shift is as orthogonal as another; these leave single coordinates best spread. */
static size_t rv__rotation_shift(const rv_rotation *rotation, size_t round)
{
    return round + 1 + ((round & 1u) ? rotation->padded / 8 : 0);
}

/* As rv_rotation_create, with the seed given. */
RV__FN rv_status rv__rotation_create(rv_ctx *ctx, size_t dim, uint64_t seed, rv_rotation **out)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv_rotation *rotation;
    uint64_t bits = 0;
    rv__rng rng;
    double inside, outside = sqrt(0.5);
    if (dim < 1 || dim > 65535 || !out) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "rotation: dim is %z, allowed: 1 to 65535", dim);
    }
    rotation = (rv_rotation *)rv__get_zero(&alloc, 1, sizeof *rotation);
    if (!rotation) return rv__no_memory(ctx, sizeof *rotation);
    rotation->alloc = alloc;
    rotation->seed = seed;
    rotation->dim = dim;
    rotation->padded = rv__round_up(dim, 64);
    rotation->window = 64;
    while (rotation->window * 2 <= rotation->padded) rotation->window *= 2;
    rotation->rounds = rotation->window == rotation->padded ? 4 : RV__ROTATION_ROUNDS;
    rotation->signs = (float *)rv__get(&alloc, rotation->rounds * rotation->padded, sizeof(float));
    if (!rotation->signs) {
        rv__put(&alloc, rotation, 1, sizeof *rotation);
        return rv__no_memory(ctx, RV__ROTATION_ROUNDS * rv__round_up(dim, 64) * sizeof(float));
    }
    /* the butterflies of the window cover window / 4 coordinates, the walk pairs */
    inside = sqrt(4.0 / (double)rotation->window) * sqrt(0.5);
    rv__rng_init(&rng, seed);
    for (size_t i = 0; i < rotation->rounds * rotation->padded; i++) {
        size_t round = i / rotation->padded, at = i % rotation->padded;
        size_t first = (round & 1u) ? rotation->padded - rotation->window : 0;
        int in = at >= first && at < first + rotation->window;
        if (at % 64 == 0) bits = rv__rng_next(&rng);
        rotation->signs[i] =
            (float)((bits >> at % 64 & 1u) ? -1.0 : 1.0) * (float)(in ? inside : outside);
    }
    *out = rotation;
    return RV_OK;
}

RV_API rv_status rv_rotation_create(rv_ctx *ctx, size_t dim, rv_rotation **out)
{
    rv_status status = rv__rotation_create(ctx, dim, rv__seed(ctx), out);
    return status ? status : rv__ok(ctx);
}

RV_API void rv_rotation_destroy(rv_rotation *rotation)
{
    rv_alloc alloc;
    if (!rotation) return;
    alloc = rotation->alloc;
    rv__put(&alloc, rotation->signs, rotation->rounds * rotation->padded, sizeof(float));
    rv__put(&alloc, rotation, 1, sizeof *rotation);
}

RV_API size_t rv_rotation_dim(const rv_rotation *rotation)
{
    return rotation->padded;
}

RV_API uint64_t rv_rotation_seed(const rv_rotation *rotation)
{
    return rotation->seed;
}

RV_API size_t rv_rotation_bytes(const rv_rotation *rotation)
{
    return sizeof *rotation + rotation->rounds * rotation->padded * sizeof(float);
}

/* At most the distance between a rotated row and its exact image, in lengths of the row: each round
   rounds factors, products, butterflies and pairs, by half a unit in the last place each. */
RV__FN double rv__rotation_error(const rv_rotation *rotation)
{
    size_t depth = 1;
    for (size_t wide = rotation->window; wide > 1; wide /= 2) depth++;
    return 6e-8 * (double)(rotation->rounds * depth);
}

RV_API void rv_rotation_apply(const rv_rotation *rotation, const float *x, float *y)
{
    size_t n = rotation->padded;
    if (y != x) memcpy(y, x, rotation->dim * sizeof(float));
    for (size_t i = rotation->dim; i < n; i++) y[i] = 0.0f;
    for (size_t round = 0; round < rotation->rounds; round++) {
        rv__rotation_scale(y, rotation->signs + round * n, n);
        rv__rotation_hadamard((round & 1u) ? y + n - rotation->window : y, rotation->window);
        rv__rotation_walk(y, n, rv__rotation_shift(rotation, round));
    }
}

RV_API void rv_rotation_invert(const rv_rotation *rotation, float *y, float *x)
{
    size_t n = rotation->padded;
    for (size_t round = rotation->rounds; round-- > 0;) {
        rv__rotation_walk(y, n, rv__rotation_shift(rotation, round));
        rv__rotation_hadamard((round & 1u) ? y + n - rotation->window : y, rotation->window);
        rv__rotation_scale(y, rotation->signs + round * n, n);
    }
    if (x != y) memcpy(x, y, rotation->dim * sizeof(float));
}

#undef RV__ROTATION_ROUNDS
#endif /* RV_ROTATE_C */
