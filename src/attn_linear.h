#ifndef RV_ATTN_LINEAR_H
#define RV_ATTN_LINEAR_H
#include "base.h"
#include "attn.h"

/* >>attn_linear  Attention in time and memory proportional to the number of keys. Where a key's
   influence on a query is a product of features, phi(q) . phi(k), the sums over keys do not depend
   on the query and are made once, S = sum of phi(k) v^T and z = sum of phi(k):

       out_i = S_i^T phi(q_i) / z_i . phi(q_i)      over the keys that query i sees

   in causal order as running sums. Four maps phi, and a recurrence with gates that needs no
   denominator. Heads, shared keys, strides, half types: as for rv_attn. Thread class: pure. The
   same bits for any number of threads. Cost per query and key O(features (dim + dim_v)).

       linear_elu   phi(x) = elu(x) + 1                                         features: dim
       linear_relu  phi(x) = relu(W x / sqrt(m)) + eps                          m
       performer    phi(x) = exp(W x' - |x'|^2 / 2) / sqrt(m)                   m, both_signs: 2 m
       rff          phi(x) = exp(|x'|^2 / 2) (cos W x', sin W x') / sqrt(m)     2 m

   with x' = x sqrt(scale / temperature), so that phi(q) . phi(k) of the last two is on average
   exp(scale / temperature q . k), the term of softmax; scale: default 1 / sqrt(dim). The rows of
   W: [m, dim] are standard normal; orthogonal within blocks of dim rows unless asked otherwise.
   Features are kept with the logarithm of their scale, a key's and a query's own, so that neither
   large vectors nor later keys harm earlier ones.

   What has no meaning here, and is refused with RV_ERR_CONFIG unless it is zero: softcap, windowed,
   slopes, sinks, dropout, raw and io->mask, because sums over keys know no pairs (keys hidden from
   all queries: `keep`); scale and temperature of linear_elu and linear_relu.

   A query that sees no key gives zeros and weights of zero, its lse is -infinity. NaN and infinity
   make the outputs of the queries that see them NaN. io->weights is phi(q_i) . phi(k_j) over the
   denominator, at the cost of O(n_q n_k features); io->lse the logarithm of the denominator.

   Sources: Katharopoulos et al., Transformers are RNNs, 2020 (elu, sums); Choromanski et al.,
   Rethinking attention with performers, 2021 (relu, performer, orthogonal blocks); Rahimi, Recht,
   Random features for large-scale kernel machines, 2007, and Peng et al., Random feature
   attention, 2021 (rff); Schlag et al., Linear transformers are secretly fast weight programmers,
   2021 (delta); Yang et al., Gated linear attention transformers, 2024, and Gated delta networks,
   2024. */

/* Zero is the default of every field. */
typedef struct rv_attn_linear_config {
    rv_attn_config base;     /* heads, kv_heads, scale (> 0), temperature, order, past            */
    uint32_t features;       /* m, at most 2^20; default dim ln dim, rounded up; not linear_elu   */
    int identity;            /* linear_relu: W is the identity, without the factor; features is 0 */
    int independent;         /* rows of W are independent, not orthogonal                         */
    int both_signs;          /* performer: W and -W, less variance for twice the features         */
    const float *projection; /* W: [features, dim] of the caller; default: drawn from ctx->seed by
                                every call at the cost of O(m dim^2), see rv_attn_linear_draw     */
    uint64_t redraw;         /* number of the drawing: another one, other features                */
    float eps;               /* linear_elu: added to denominators, default 1e-6. linear_relu:
                                default 1e-3. rff: see vanished, default 1e-3. performer: 0       */
    const uint8_t *keep;     /* [n_k], 0: hidden from all queries; default: all are kept          */
    const float *state;      /* sums over earlier keys, which all queries see; default: none      */
    float *state_out;        /* sums over all keys, may be state; written last, on success only   */
    size_t *vanished;        /* out: rows (of queries times heads) that see keys but whose
                                denominator is 0 or, rff, not above eps times the sum of |phi(q)|
                                |phi(k)|. They give zeros, weights of zero, an lse of -infinity   */
} rv_attn_linear_config;

/* m, as config and dim have it; 0 for a NULL. */
RV_API size_t rv_attn_linear_features(const rv_attn_linear_config *config, size_t dim);
/* W: [features, dim], as the calls with this ctx->seed and config draw it. */
RV_API rv_status rv_attn_linear_draw(rv_ctx *ctx, const rv_attn_linear_config *config, size_t dim,
                                     float *projection);

/* RV_ERR_ARG for a NULL, RV_ERR_DIM for sizes, RV_ERR_CONFIG for a configuration without meaning.
   Nothing is written on failure; of RV_ERR_CANCELED out, weights and lse are in part. */
RV_API rv_status rv_attn_linear_elu(rv_ctx *ctx, const rv_attn_linear_config *config,
                                    const rv_attn_io *io);
RV_API rv_status rv_attn_linear_relu(rv_ctx *ctx, const rv_attn_linear_config *config,
                                     const rv_attn_io *io);
RV_API rv_status rv_attn_performer(rv_ctx *ctx, const rv_attn_linear_config *config,
                                   const rv_attn_io *io);
RV_API rv_status rv_attn_rff(rv_ctx *ctx, const rv_attn_linear_config *config,
                             const rv_attn_io *io);

/* Floats of state and state_out, [kv_heads] times the sums of one head; 0 for a NULL. With n_q =
   n_k = 1, order RV_ATTN_CAUSAL and state = state_out a call is one step of decoding. */
RV_API size_t rv_attn_linear_elu_state(const rv_attn_linear_config *config, const rv_attn_io *io);
RV_API size_t rv_attn_linear_relu_state(const rv_attn_linear_config *config, const rv_attn_io *io);
RV_API size_t rv_attn_performer_state(const rv_attn_linear_config *config, const rv_attn_io *io);
RV_API size_t rv_attn_rff_state(const rv_attn_linear_config *config, const rv_attn_io *io);

/* Slopes by q, k and v; W, and a state that is given, are constants. Of io the inputs are looked
   at, out and lse are not; d_sinks and d_params must be NULL. Keys that no query sees have slopes
   of 0, so have vanished queries. state_out and vanished are not looked at. */
RV_API rv_status rv_attn_linear_elu_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_linear_relu_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                              const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_performer_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                            const rv_attn_io *io, const rv_attn_grad *grad);
RV_API rv_status rv_attn_rff_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                      const rv_attn_io *io, const rv_attn_grad *grad);

/* ---- the recurrence ---- */

/* A state S: [dim, dim_v] for each head of keys, changed by every token t and read after that:

       LINEAR       S_t = S_(t-1) + k_t v_t^T                            out_t = scale S_t^T q_t
       GATED        S_t = diag(exp g_t) S_(t-1) + k_t v_t^T
       DELTA        S_t = S_(t-1) + k_t (beta_t (v_t - S_(t-1)^T k_t))^T
       GATED_DELTA  both: S_(t-1) is first multiplied by diag(exp g_t)

   as the operator LinearAttention of ONNX. Keys should have length 1 for the delta rules, which
   otherwise may grow without limit where beta |k|^2 > 2. */
typedef enum rv_attn_rule {
    RV_ATTN_RULE_LINEAR = 0,
    RV_ATTN_RULE_GATED = 1,
    RV_ATTN_RULE_DELTA = 2,
    RV_ATTN_RULE_GATED_DELTA = 3
} rv_attn_rule;

/* Zero is the default of every field. */
typedef struct rv_attn_delta_config {
    rv_attn_config base;     /* heads, kv_heads, scale. order: the rules are causal; CAUSAL may be
                                said, past and everything else must be 0                          */
    rv_attn_rule rule;
    const float *decay;      /* g: [n_k, kv_heads, dim] or, per_head, [n_k, kv_heads], all <= 0;
                                -infinity clears. Required by the gated rules, NULL for others    */
    int per_head;
    const float *beta;       /* [n_k, kv_heads] or, shared, [n_k]. Required by the delta rules    */
    int shared;
    const uint8_t *keep;     /* [n_k], 0: the token does not change the state, nor does its gate  */
    const float *state;      /* S before the first token: [kv_heads, dim, dim_v]; default: zeros  */
    float *state_out;        /* S after the last, may be state; written last and on success only  */
    float *d_decay;          /* slopes, written by backward: in the shape of decay,               */
    float *d_beta;           /* of beta,                                                          */
    float *d_state;          /* and of state; default: not wanted                                 */
} rv_attn_delta_config;

/* n_q must be n_k. With 1 token and state = state_out a call is one step of decoding. io->weights:
   what out_i owes to v_j, not normalized, without what the state brings; O(n^2 dim). io->lse must
   be NULL, there is no denominator. NaN and infinity stay in the state from then on. RV_ERR_ARG for
   a NULL or a decay above 0 (its index in ctx->where), the rest as above. */
RV_API rv_status rv_attn_gated_delta_linear(rv_ctx *ctx, const rv_attn_delta_config *config,
                                            const rv_attn_io *io);
/* Floats of state: kv_heads * dim * dim_v; 0 for a NULL. */
RV_API size_t rv_attn_gated_delta_linear_state(const rv_attn_delta_config *config,
                                               const rv_attn_io *io);
/* Slopes by q, k, v, decay, beta and state. Keeps a state every 32 tokens and makes those between
   again: memory for n_k / 32 + 32 states of a head. d_sinks and d_params must be NULL. */
RV_API rv_status rv_attn_gated_delta_linear_backward(rv_ctx *ctx,
                                                     const rv_attn_delta_config *config,
                                                     const rv_attn_io *io,
                                                     const rv_attn_grad *grad);

#endif /* RV_ATTN_LINEAR_H */
