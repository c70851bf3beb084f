#ifndef RV_POSITION_H
#define RV_POSITION_H
#include "base.h"

/* >>position  Places of tokens, told to attention: RoPE turns pairs of a row's elements by angles
   in proportion to its position, so that products of two rows depend on the difference of their
   positions alone; T5 sorts differences of positions into buckets and adds a learned bias to each.
   Slopes of ALiBi are rv_attn_slopes. Thread class: pure.

       rv_rope_config config = {0};
       rv_rope_io io = {0};
       io.x = queries;  io.n = n;  io.heads = 8;  io.dim = 64;  io.out = queries;
       rv_rope_run(ctx, &config, &io);

   Sources: Su et al., RoFormer: enhanced transformer with rotary position embedding, 2021; Chen
   et al., Extending context window of large language models via position interpolation, 2023
   (LINEAR); bloc97, NTK-aware scaled RoPE, 2023 (NTK); Peng et al., YaRN, 2023; Raffel et al.,
   Exploring the limits of transfer learning with a unified text-to-text transformer, 2020 (T5). */

typedef enum rv_rope_layout {
    RV_ROPE_PAIRS = 0, /* elements 2 t and 2 t + 1 turn together, as in the paper             */
    RV_ROPE_HALVES = 1 /* elements t and t + rotary_dim / 2, as in GPT-NeoX and Llama of HF   */
} rv_rope_layout;

/* With angle t of position p = p theta_t, theta_t = base^(-2 t / rotary_dim). */
typedef enum rv_rope_scaling {
    RV_ROPE_PLAIN = 0,
    RV_ROPE_LINEAR = 1, /* positions are divided by factor                                    */
    RV_ROPE_NTK = 2,    /* base times factor^(rotary_dim / (rotary_dim - 2))                  */
    RV_ROPE_YARN = 3    /* theta_t that turn less than `slow` times within `length` positions are
                           divided by factor, those of more than `fast` are not, between them a
                           ramp over t, as in the authors' code (the paper ramps over turns);
                           cosines and sines times 0.1 ln factor + 1                          */
} rv_rope_scaling;

/* Zero is the default of every field. */
typedef struct rv_rope_config {
    double base;          /* 1 to 1e9; default 10000                                          */
    size_t rotary_dim;    /* even, at most dim; elements behind it stay; default dim          */
    rv_rope_layout layout;
    rv_rope_scaling scaling;
    double factor;        /* 1 to 1e6, how much longer texts are than in training; default 1;
                             with a scaling only                                              */
    double length;        /* 1 to 1e9, of texts in training; required by YARN, only there     */
    double fast, slow;    /* turns, fast above slow above 0; default 32 and 1; YARN only      */
} rv_rope_config;

/* Row i stands at index[i] or at place[i], at first + i if both are NULL. */
typedef struct rv_rope_io {
    const float *x;         /* [n, heads * dim]                                               */
    size_t n, heads, dim;   /* rows; heads of a row, default 1; of a head, 2..65535           */
    size_t x_stride, out_stride; /* elements from row to row, 0: packed                       */
    size_t first;           /* default 0                                                      */
    const uint32_t *index;  /* [n], at most 2^20                                              */
    const float *place;     /* [n], any real numbers of magnitude at most 2^20                */
    const float *cosines;   /* [n_table, rotary_dim / 2] instead of the config's angles: row  */
    const float *sines;     /* index[i], else first + i; then no place, base or scaling       */
    size_t n_table;
    int transpose;          /* non-zero: turns back. The gradient by x, given that by out in x;
                               the inverse too, but for YaRN's factor                         */
    float *out;             /* [n, heads * dim], may be x with the same stride                */
} rv_rope_io;

/* out = x, every head turned by its row's position. Angles, sines and cosines in double: an error
   of 3 units in the last place of the pair's length at any position. NaN and infinity propagate
   within their pair. RV_ERR_CONFIG: config; RV_ERR_ARG: NULL, a position out of range, its row in
   ctx->where; RV_ERR_DIM: sizes. Cost O(n (heads dim + 30 rotary_dim)). Of a canceled call a part
   of the rows has been written. */
RV_API rv_status rv_rope_run(rv_ctx *ctx, const rv_rope_config *config, const rv_rope_io *io);

/* theta: [rotary_dim / 2] of a head of dim elements under any scaling (LINEAR: divided by factor).
   *gain: what cosines and sines are multiplied by; may be NULL. */
RV_API rv_status rv_rope_angles(rv_ctx *ctx, const rv_rope_config *config, size_t dim,
                                double *theta, double *gain);

/* Zero is the default of every field. */
typedef struct rv_t5_config {
    uint32_t buckets;      /* 2..65536, unless causal even and at least 4; default 32         */
    uint32_t max_distance; /* from which all share a bucket, above half the buckets of a side,
                              below 2^31; default 128                                         */
    int causal;            /* non-zero: keys after the query share bucket 0; else they have the
                              upper half of the buckets                                       */
} rv_t5_config;

/* out[x] = bucket of a key that stands first + x places after its query, x < n. A side of s buckets
   gives one to each of the distances below s / 2; distance d beyond goes to s / 2 (1 + log(2 d / s)
   / log(2 max_distance / s)), rounded down, at most s - 1. first, first + n: magnitude below 2^31.
   RV_ERR_CONFIG: config; RV_ERR_ARG: NULL, offsets out of range. */
RV_API rv_status rv_t5_buckets(rv_ctx *ctx, const rv_t5_config *config, int64_t first, size_t n,
                               uint32_t *out);

/* bias[h, i, j] += table[bucket of j - i - past][h]. table: [buckets, heads], bias: [heads, n_q,
   n_k]. Allocates 4 (n_q + n_k) bytes. Polls; of a canceled call a part has been added. */
RV_API rv_status rv_t5_add(rv_ctx *ctx, const rv_t5_config *config, const float *table,
                           size_t heads, size_t n_q, size_t n_k, size_t past, float *bias);
/* d_table, written, from d_bias, the gradient by bias. Sums in double. */
RV_API rv_status rv_t5_backward(rv_ctx *ctx, const rv_t5_config *config, const float *d_bias,
                                size_t heads, size_t n_q, size_t n_k, size_t past, float *d_table);

#endif /* RV_POSITION_H */
