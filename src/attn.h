#ifndef RV_ATTN_H
#define RV_ATTN_H
#include "base.h"
#include "distance.h"

/* >>attn  Attention: every query weighs all keys it sees by softmax(logits) and takes that mean of
   the values. For query i and key j of a head

       logit = scale / temperature * q_i . k_j            scaled dot product
       logit = cap * tanh(logit / cap)                    if softcap > 0
       logit = logit - slope |i + past - j| + add_ij      ALiBi, additive mask
       w_ij  = exp(logit) / (exp(sink) + sum of exp(logit) over the keys that i sees)
       out_i = sum over j of w_ij v_j

   exact, tile by tile, in memory proportional to n_q + n_k. A query that sees no key gives zeros
   and weights of zero, its lse is -infinity. Infinite logits of masks are -infinity only; NaN, or a
   logit of +infinity, makes the query's output NaN. Logits and weights are accurate to about
   sqrt(dim) / 2^24 of the sums of magnitudes they are made of, weights to 3e-7 besides. The same
   bits for any number of threads. Thread class: pure.

   Sources: Vaswani et al., 2017 (scaled dot product, heads, causal order); Milakov, Gimelshein,
   2018, Rabe, Staats, 2021, Dao et al., 2022 and Dao, 2024 (one pass over tiles); Shazeer, 2019
   (one head of keys for all); Ainslie et al., 2023 (groups of heads); Press et al., 2022 (ALiBi);
   Beltagy et al., 2020 (windows); Xiao et al., 2024 (sinks); Gemma Team, 2024 (softcap). */

typedef enum rv_attn_order {
    RV_ATTN_ANY = 0,     /* every query sees every key                                            */
    RV_ATTN_CAUSAL = 1,  /* query i sees key j where j <= i + n_k - n_q: the last sees all        */
    RV_ATTN_CAUSAL_FIRST = 2 /* j <= i + past: the first query sees key 0 when past is 0          */
} rv_attn_order;

/* Where a query may not look. What is given must all agree; [n_q, n_k] for one head, `head`
   elements from one head's to the next one's, 0: the same for all heads. */
typedef struct rv_attn_mask {
    const uint8_t *allow;     /* 0 hides                                                          */
    const float *add;         /* added to the logit; -infinity hides                              */
    size_t allow_head, add_head;
    int (*visible)(void *user, size_t head, size_t i, size_t j); /* 0 hides; on several threads   */
    void *user;
} rv_attn_mask;

/* Zero is the default of every field. */
typedef struct rv_attn_config {
    uint32_t heads;           /* default 1                                                        */
    uint32_t kv_heads;        /* heads of keys and values, a divisor of heads; default heads.
                                 Query head h reads head h * kv_heads / heads                     */
    float scale;              /* default 1 / sqrt(dim)                                            */
    float temperature;        /* above 0; default 1                                               */
    float softcap;            /* above 0; default: none                                           */
    rv_attn_order order;
    size_t past;              /* keys before the first query's own; CAUSAL: n_k - n_q             */
    int windowed;             /* non-zero: query i sees i + past - left .. i + past + right       */
    size_t left, right;
    const float *slopes;      /* [heads] of ALiBi, >= 0; default: none                            */
    const float *sinks;       /* [heads] logits that have no value; default: none                 */
    float dropout;            /* of weights, [0, 1), while training: dropped ones are 0, the others
                                 weigh 1 / (1 - dropout) times as much                            */
    int training;             /* 0: dropout does nothing                                          */
    uint64_t stream;          /* which weights, with ctx->seed: one per layer and step            */
    int raw;                  /* non-zero: weights exp(logit - largest logit), not divided by their
                                 sum; no backward                                                 */
} rv_attn_config;

/* The loss' slopes. d_q, d_k and d_v have the shapes of q, k and v with packed rows, f32
   whatever the type; they are written, not added to. NULL: not wanted. */
typedef struct rv_attn_grad {
    const float *d_out;       /* [n_q, heads * dim_v] with the rows of out (out_stride)           */
    float *d_q;               /* [n_q, heads * dim]                                               */
    float *d_k;               /* [n_k, kv_heads * dim]                                            */
    float *d_v;               /* [n_k, kv_heads * dim_v]                                          */
    float *d_sinks;           /* [heads], of config->sinks                                        */
    float *d_params;          /* of the mechanism's parameters, where it has any                  */
} rv_attn_grad;

/* Row-major. Strides count elements from one row to the next, 0 = packed; head h of a row starts at
   h * dim (values, outputs: h * dim_v). out must not overlap the inputs. */
typedef struct rv_attn_io {
    size_t n_q, n_k;          /* queries, keys                                                    */
    size_t dim, dim_v;        /* of a head, 1..65535; dim_v default dim                           */
    const float *q;           /* [n_q, heads * dim]                                               */
    const void *k;            /* [n_k, kv_heads * dim] of the type                                */
    const void *v;            /* [n_k, kv_heads * dim_v] of the type                              */
    rv_dtype type;            /* of k and v: F32 (default), F16 or BF16                           */
    size_t q_stride, k_stride, v_stride, out_stride;
    const rv_attn_mask *mask; /* default: none                                                    */
    float *out;               /* [n_q, heads * dim_v]                                             */
    float *weights;           /* [heads, n_q, n_k], before dropout; default: not wanted           */
    float *lse;               /* [heads, n_q] log of the denominators, default: not wanted        */
} rv_attn_io;

/* RV_ERR_ARG for a NULL, RV_ERR_DIM for sizes, RV_ERR_CONFIG for a configuration without meaning.
   Nothing is written on failure but of RV_ERR_CANCELED. */
RV_API rv_status rv_attn(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io);

/* Slopes by everything the forward reads, given io as it was then (out, weights and lse are not
   looked at). Logits are computed again: memory proportional to n_q + n_k. Errors as above, and
   RV_ERR_ARG without d_out. */
RV_API rv_status rv_attn_backward(rv_ctx *ctx, const rv_attn_config *config, const rv_attn_io *io,
                                  const rv_attn_grad *grad);

/* Joins attention over two sets of keys: out_a = what attention over both would be, lse_a likewise.
   out: [n, dim_v], lse: [n]. Source: Liu et al., Ring Attention, 2024. */
RV_API void rv_attn_merge(float *out_a, float *lse_a, const float *out_b, const float *lse_b,
                          size_t n, size_t dim_v);

/* slopes[heads] of ALiBi: 2^(-8 h / heads) for a power of two, else interleaved as in the paper. */
RV_API void rv_attn_slopes(size_t heads, float *slopes);

#endif /* RV_ATTN_H */
