#ifndef RV_KV_CACHE_H
#define RV_KV_CACHE_H
#include "attn.h"

/* >>kv_cache  Keys and values of one sequence, token after token, for attention that goes on:
   append what a step made, attend with its queries. Held in pages; pages that are older than a tail
   may be quantized, pages that no query can see any more are given up. attend() is exact over what
   is held: decoding token by token, or in blocks of any size, is the causal attention over all of
   it at once, up to rounding.

       rv_kv_cache *cache;
       rv_kv_cache_config config = {0};
       rv_attn_config attn = {0};
       rv_attn_io io = {0};
       config.kv_heads = 8;  config.dim = 64;
       rv_kv_cache_create(ctx, &config, &cache);
       rv_kv_cache_append(ctx, cache, keys, values, 1, 0, 0);
       io.n_q = 1;  io.q = query;  io.out = out;  attn.heads = 32;  attn.order = RV_ATTN_CAUSAL;
       rv_kv_cache_attend(ctx, cache, &attn, &io);
       rv_kv_cache_destroy(cache);

   Memory per token: kv_heads (dim + dim_v) elements of the type; quantized to b bits
   kv_heads (dim + dim_v) (b + 48 / group) / 8 bytes, more where group does not divide dim_v.
   Thread class: shared-read. Sources: Kwon et al., 2023 (pages); Liu et al., KIVI, 2024
   (quantization: keys per channel, values per token, a tail as it is); Beltagy et al., 2020
   (window). */

typedef struct rv_kv_cache rv_kv_cache;

/* Zero is the default of every field but dim. */
typedef struct rv_kv_cache_config {
    uint32_t kv_heads;        /* heads of keys and values, 1..65535; default 1                    */
    size_t dim, dim_v;        /* of a head, 1..65535; dim_v default dim                           */
    rv_dtype type;            /* what is kept: F32 (default), F16 or BF16                         */
    uint32_t page;            /* tokens of a page, 16..64; default 64                             */
    uint32_t bits;            /* 2..8: quantize what is older than the tail; default 0: nothing   */
    uint32_t group;           /* tokens of a channel of K, channels of a head of V, that share a
                                 scale: a divisor of page, 4 or more; default 32, or page         */
    uint32_t tail;            /* newest tokens that are never quantized, up to 2^20; default 128.
                                 Pages are quantized whole: up to page - 1 more stay as they are  */
    size_t window;            /* a query sees this many tokens, its own included; older pages go.
                                 Default 0: all                                                   */
} rv_kv_cache_config;

RV_API rv_status rv_kv_cache_create(rv_ctx *ctx, const rv_kv_cache_config *config,
                                    rv_kv_cache **out);
RV_API void rv_kv_cache_destroy(rv_kv_cache *cache); /* NULL: nothing */

/* n tokens: k: [n, kv_heads * dim], v: [n, kv_heads * dim_v]; strides in elements, 0 = packed. With
   a window all n are kept until the next append, so that their own queries see whole windows:
   append long inputs in blocks. RV_ERR_ARG: NaN, infinity or what the type cannot hold (quantized:
   beyond 1e38), its index in ctx->where. On failure, cancellation too, the cache is as it was. */
RV_API rv_status rv_kv_cache_append(rv_ctx *ctx, rv_kv_cache *cache, const float *k, const float *v,
                                    size_t n, size_t k_stride, size_t v_stride);
/* Forgets all tokens from number n on, as a draft that was refused. A page that was quantized and
   now ends early is opened again: its values are the quantized ones. RV_ERR_ARG: n is more than
   there are, or so few that pages given up by the window would be seen again. On failure the cache
   is as it was. */
RV_API rv_status rv_kv_cache_truncate(rv_ctx *ctx, rv_kv_cache *cache, size_t n);

/* Attention of io->q over the cache. io: dim, dim_v and n_k are 0 or the cache's (n_k: count -
   first), k and v NULL, strides of q and out, mask, out, weights and lse as in rv_attn; columns of
   masks and weights are the tokens first .. count - 1. config->kv_heads is 0 or the cache's, heads
   a multiple of it. Under RV_ATTN_CAUSAL the queries are the last n_q tokens: query i is token
   count - n_q + i. RV_ATTN_ANY: all see all tokens (the last `window`). past, raw and training must
   be 0, the order not RV_ATTN_CAUSAL_FIRST. Walks runs of pages, joined by rv_attn_merge;
   quantized pages are widened 16 at a time. With mask or weights, or a window or slopes under
   RV_ATTN_ANY, all that is held is copied as floats. Errors as of rv_attn, and RV_ERR_DIM:
   nothing is held; more queries than tokens, or than whole windows are held for;
   RV_ERR_UNSUPPORTED: mask or weights under RV_ATTN_ANY of a cache with a window. Nothing is
   written on failure, but of RV_ERR_CANCELED with mask or weights. */
RV_API rv_status rv_kv_cache_attend(rv_ctx *ctx, const rv_kv_cache *cache,
                                    const rv_attn_config *config, const rv_attn_io *io);

RV_API size_t rv_kv_cache_count(const rv_kv_cache *cache); /* tokens appended and not truncated   */
RV_API size_t rv_kv_cache_first(const rv_kv_cache *cache); /* the first that is still held        */
RV_API size_t rv_kv_cache_bytes(const rv_kv_cache *cache); /* all memory                          */
/* Tokens first .. first + n - 1, which must be held, as attention sees them, packed: k: [n,
   kv_heads * dim], v: [n, kv_heads * dim_v]; either may be NULL. RV_ERR_ARG: not held. */
RV_API rv_status rv_kv_cache_get(rv_ctx *ctx, const rv_kv_cache *cache, size_t first, size_t n,
                                 float *k, float *v);

#endif /* RV_KV_CACHE_H */
