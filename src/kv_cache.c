#ifndef RV_KV_CACHE_C
#define RV_KV_CACHE_C
#include "kv_cache.h"
#include "base.c"
#include "simd.c"
#include "half.c"
#include "dense.c"
#include "attn.c"

/* Pages of full precision come from slabs of up to 16 and go back to a queue of spare ones, so that
   neighbours in time are mostly neighbours in memory: attention takes such a run in one call. A
   quantized page is one block:

       zeros of K   float    [page / group][kv_heads * dim]
       zeros of V   float    [page][kv_heads][groups of dim_v]
       scales       uint16_t the same two, bfloat16 rounded up, so that no element is cut off
       codes of K   [page] rows of kv_heads * dim, codes of V likewise; eight codes in `bits` bytes

   x is about zero + scale * code, zero the least of the group, code = round((x - zero) / scale):
   the error is at most scale / 2, scale at most (1 + 1/128) (most - least) / (2^bits - 1).

   An append makes everything ready first - memory, rows, codes - and then changes the cache, which
   cannot fail. Deviation from KIVI: values are quantized with the page of their keys, not token by
   token at the end of the tail. */

#define RV__KV_RUN 16u /* pages of a slab, and of a run that is widened, at most */

typedef struct rv__kv_page {
    unsigned char *k, *v;    /* rows of the type, NULL when quantized                             */
    unsigned char *codes;    /* NULL when not                                                     */
} rv__kv_page;

typedef struct rv__kv_slab {
    unsigned char *block;
    size_t pages;
} rv__kv_slab;

struct rv_kv_cache {
    rv_alloc alloc;
    rv_kv_cache_config config;    /* defaults filled in                                           */
    size_t dk, dv, elem;          /* elements of a token's row, bytes of one                      */
    size_t groups, groups_v;      /* of a page's tokens, of a head's channels                     */
    size_t row_k, row_v;          /* bytes of a row of codes                                      */
    size_t at_zero_v, at_scale_k, at_scale_v, at_code_k, at_code_v, code_bytes;
    size_t count, first_page;
    rv__kv_page *pages;           /* [n_pages] from first_page on                                 */
    size_t n_pages, cap_pages;
    rv__kv_page *spare;           /* queue of memory for pages                                    */
    size_t n_spare, cap_spare, slab_pages;
    rv__kv_slab *slabs;
    size_t n_slabs, cap_slabs, n_codes;
};

/* ---- creation ---- */

static rv_status rv__kv_check(rv_ctx *ctx, rv_kv_cache_config *c)
{
    if (c->kv_heads == 0) c->kv_heads = 1;
    if (c->dim_v == 0) c->dim_v = c->dim;
    if (c->page == 0) c->page = 64;
    if (c->group == 0) c->group = c->page % 32 == 0 ? 32 : c->page;
    if (c->tail == 0) c->tail = 128;
    if (c->kv_heads > 65535u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kv_heads is %z, allowed: 1..65535",
                        (size_t)c->kv_heads);
    if (c->dim == 0 || c->dim > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim is %z, allowed: 1..65535", c->dim);
    if (c->dim_v > 65535u)
        return rv__fail(ctx, RV_ERR_DIM, 0, "dim_v is %z, allowed: 1..65535", c->dim_v);
    if (c->type != RV_DTYPE_F32 && c->type != RV_DTYPE_F16 && c->type != RV_DTYPE_BF16)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "type is %s, allowed: f32, f16, bf16",
                        rv_dtype_name(c->type));
    if (c->page < 16 || c->page > 64)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "page is %z, allowed: 16..64", (size_t)c->page);
    if (c->bits == 1 || c->bits > 8)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "bits is %z, allowed: 0, 2..8", (size_t)c->bits);
    if (c->group < 4 || c->page % c->group)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "group is %z, must be 4 or more and divide page (%z)",
                        (size_t)c->group, (size_t)c->page);
    if (c->tail > 1048576u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "tail is %z, allowed: up to 2^20", (size_t)c->tail);
    return RV_OK;
}

static void rv__kv_layout(rv_kv_cache *cache)
{
    const rv_kv_cache_config *c = &cache->config;
    size_t n_k, n_v;
    cache->dk = rv__mul(c->kv_heads, c->dim);
    cache->dv = rv__mul(c->kv_heads, c->dim_v);
    cache->elem = rv_dtype_bytes(c->type, 1);
    cache->groups = c->page / c->group;
    cache->groups_v = (c->dim_v + c->group - 1) / c->group;
    cache->row_k = rv__mul((cache->dk + 7) / 8, c->bits);
    cache->row_v = rv__mul((cache->dv + 7) / 8, c->bits);
    n_k = rv__mul(cache->groups, cache->dk);
    n_v = rv__mul(rv__mul(c->page, c->kv_heads), cache->groups_v);
    cache->at_zero_v = rv__mul(n_k, 4);
    cache->at_scale_k = rv__add(cache->at_zero_v, rv__mul(n_v, 4));
    cache->at_scale_v = rv__add(cache->at_scale_k, rv__mul(n_k, 2));
    cache->at_code_k = rv__add(cache->at_scale_v, rv__mul(n_v, 2));
    cache->at_code_v = rv__add(cache->at_code_k, rv__mul(c->page, cache->row_k));
    cache->code_bytes = rv__add(cache->at_code_v, rv__mul(c->page, cache->row_v));
}

RV_API rv_status rv_kv_cache_create(rv_ctx *ctx, const rv_kv_cache_config *config,
                                    rv_kv_cache **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv_kv_cache_config c;
    rv_kv_cache *cache;
    rv_status status;
    if (!config || !out) return rv__fail(ctx, RV_ERR_ARG, 0, "config and out must not be NULL");
    c = *config;
    status = rv__kv_check(ctx, &c);
    if (status) return status;
    cache = (rv_kv_cache *)rv__get_zero(&alloc, 1, sizeof *cache);
    if (!cache) return rv__no_memory(ctx, sizeof *cache);
    cache->alloc = alloc;
    cache->config = c;
    rv__kv_layout(cache);
    *out = cache;
    return rv__ok(ctx);
}

static size_t rv__kv_page_bytes(const rv_kv_cache *cache)
{
    return rv__mul(rv__mul(cache->config.page, rv__add(cache->dk, cache->dv)), cache->elem);
}

RV_API void rv_kv_cache_destroy(rv_kv_cache *cache)
{
    rv_alloc alloc;
    if (!cache) return;
    alloc = cache->alloc;
    for (size_t i = 0; i < cache->n_pages; i++)
        rv__put(&alloc, cache->pages[i].codes, cache->code_bytes, 1);
    for (size_t i = 0; i < cache->n_slabs; i++)
        rv__put(&alloc, cache->slabs[i].block, cache->slabs[i].pages, rv__kv_page_bytes(cache));
    rv__put(&alloc, cache->pages, cache->cap_pages, sizeof *cache->pages);
    rv__put(&alloc, cache->spare, cache->cap_spare, sizeof *cache->spare);
    rv__put(&alloc, cache->slabs, cache->cap_slabs, sizeof *cache->slabs);
    rv__put(&alloc, cache, 1, sizeof *cache);
}

RV_API size_t rv_kv_cache_count(const rv_kv_cache *cache)
{
    return cache->count;
}

RV_API size_t rv_kv_cache_first(const rv_kv_cache *cache)
{
    return cache->first_page * cache->config.page;
}

RV_API size_t rv_kv_cache_bytes(const rv_kv_cache *cache)
{
    return sizeof *cache + cache->cap_pages * sizeof *cache->pages +
           cache->cap_spare * sizeof *cache->spare + cache->cap_slabs * sizeof *cache->slabs +
           cache->slab_pages * rv__kv_page_bytes(cache) + cache->n_codes * cache->code_bytes;
}

/* ---- memory of pages ---- */

/* An array of at least `need` elements; capacity doubles. */
static rv_status rv__kv_grow(rv_ctx *ctx, rv_kv_cache *cache, void **array, size_t *cap,
                             size_t need, size_t size)
{
    size_t want = *cap ? *cap : 8;
    void *block;
    if (need <= *cap) return RV_OK;
    while (want < need) want = rv__mul(want, 2);
    block = rv__get(&cache->alloc, want, size);
    if (!block) return rv__no_memory(ctx, rv__mul(want, size));
    if (*array) memcpy(block, *array, *cap * size);
    rv__put(&cache->alloc, *array, *cap, size);
    *array = block;
    *cap = want;
    return RV_OK;
}

/* Makes spare pages until there are n; slabs grow with what there is. */
static rv_status rv__kv_reserve(rv_ctx *ctx, rv_kv_cache *cache, size_t n)
{
    const size_t page = cache->config.page, bytes = rv__kv_page_bytes(cache);
    while (cache->n_spare < n) {
        const size_t most = cache->slab_pages < RV__KV_RUN ? cache->slab_pages : RV__KV_RUN;
        const size_t pages = most ? most : 1;
        void *spare = cache->spare, *slabs = cache->slabs;
        unsigned char *block;
        rv_status status = rv__kv_grow(ctx, cache, &spare, &cache->cap_spare,
                                       cache->slab_pages + pages, sizeof *cache->spare);
        cache->spare = (rv__kv_page *)spare;
        if (!status)
            status = rv__kv_grow(ctx, cache, &slabs, &cache->cap_slabs, cache->n_slabs + 1,
                                 sizeof *cache->slabs);
        cache->slabs = (rv__kv_slab *)slabs;
        if (status) return status;
        block = (unsigned char *)rv__get(&cache->alloc, pages, bytes);
        if (!block) return rv__no_memory(ctx, rv__mul(pages, bytes));
        cache->slabs[cache->n_slabs].block = block;
        cache->slabs[cache->n_slabs++].pages = pages;
        for (size_t i = 0; i < pages; i++) {
            rv__kv_page *to = cache->spare + cache->n_spare++;
            to->k = block + i * page * cache->dk * cache->elem;
            to->v = block + (pages * cache->dk + i * cache->dv) * page * cache->elem;
            to->codes = NULL;
        }
        cache->slab_pages += pages;
    }
    return RV_OK;
}

/* Takes the memory of a page back: to the end of the queue, or, of pages that may come again, to
   its front. */
static void rv__kv_release(rv_kv_cache *cache, rv__kv_page *page, int front)
{
    rv__kv_page *to = cache->spare + (front ? 0 : cache->n_spare);
    if (page->codes) {
        rv__put(&cache->alloc, page->codes, cache->code_bytes, 1);
        cache->n_codes--;
    }
    if (page->k) {
        if (front) memmove(to + 1, to, cache->n_spare * sizeof *to);
        to->k = page->k;
        to->v = page->v;
        to->codes = NULL;
        cache->n_spare++;
    }
    memset(page, 0, sizeof *page);
}

/* ---- rows ---- */

static void rv__kv_narrow(const rv_kv_cache *cache, const rv__kernels *kernels, const float *src,
                          size_t n, unsigned char *dst)
{
    uint16_t *half = (uint16_t *)(void *)dst;
    if (cache->config.type == RV_DTYPE_F32) memcpy(dst, src, n * sizeof(float));
    else if (cache->config.type == RV_DTYPE_F16) kernels->narrow_f16(src, half, n);
    else kernels->narrow_bf16(src, half, n);
}

static void rv__kv_widen(const rv_kv_cache *cache, const rv__kernels *kernels,
                         const unsigned char *src, size_t n, float *dst)
{
    const uint16_t *half = (const uint16_t *)(const void *)src;
    if (cache->config.type == RV_DTYPE_F32) memcpy(dst, src, n * sizeof(float));
    else if (cache->config.type == RV_DTYPE_F16) kernels->widen_f16(half, dst, n);
    else kernels->widen_bf16(half, dst, n);
}

static void rv__kv_pack(const uint8_t *codes, size_t n, uint32_t bits, unsigned char *out)
{
    for (size_t i = 0; i < n; i += 8, out += bits) {
        uint64_t word = 0;
        for (size_t b = 0; b < 8 && i + b < n; b++) word |= (uint64_t)codes[i + b] << (b * bits);
        for (uint32_t b = 0; b < bits; b++) out[b] = (unsigned char)(word >> (8 * b));
    }
}

static void rv__kv_unpack(const unsigned char *in, size_t n, uint32_t bits, float *out)
{
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    for (size_t i = 0; i < n; i += 8, in += bits) {
        uint64_t word = 0;
        for (uint32_t b = 0; b < bits; b++) word |= (uint64_t)in[b] << (8 * b);
        for (size_t b = 0; b < 8 && i + b < n; b++) out[i + b] = (float)(word >> (b * bits) & mask);
    }
}

/* Rows from .. from + n - 1 of a page as floats; k or v may be NULL. */
static void rv__kv_read(const rv_kv_cache *cache, const rv__kernels *kernels,
                        const rv__kv_page *page, size_t from, size_t n, float *k, float *v)
{
    const rv_kv_cache_config *c = &cache->config;
    const size_t dk = cache->dk, dv = cache->dv;
    if (page->k) {
        if (k) rv__kv_widen(cache, kernels, page->k + from * dk * cache->elem, n * dk, k);
        if (v) rv__kv_widen(cache, kernels, page->v + from * dv * cache->elem, n * dv, v);
        return;
    }
    for (size_t t = from; t < from + n && k; t++, k += dk) {
        const float *zero = (const float *)(const void *)page->codes + t / c->group * dk;
        const uint16_t *scale = (const uint16_t *)(const void *)(page->codes + cache->at_scale_k) +
                                t / c->group * dk;
        rv__kv_unpack(page->codes + cache->at_code_k + t * cache->row_k, dk, c->bits, k);
        for (size_t x = 0; x < dk; x++) k[x] = zero[x] + rv__bf16_f32(scale[x]) * k[x];
    }
    for (size_t t = from; t < from + n && v; t++, v += dv) {
        const size_t at = t * c->kv_heads * cache->groups_v;
        const float *zero = (const float *)(const void *)(page->codes + cache->at_zero_v) + at;
        const uint16_t *scale =
            (const uint16_t *)(const void *)(page->codes + cache->at_scale_v) + at;
        rv__kv_unpack(page->codes + cache->at_code_v + t * cache->row_v, dv, c->bits, v);
        for (size_t x = 0; x < dv; x++) {
            const size_t g = x / c->dim_v * cache->groups_v + x % c->dim_v / c->group;
            v[x] = zero[g] + rv__bf16_f32(scale[g]) * v[x];
        }
    }
}

/* ---- quantization ---- */

/* The least of n elements `step` apart, and a scale that reaches the most: bfloat16, rounded up. */
static uint16_t rv__kv_scale(const float *x, size_t n, size_t step, uint32_t bits, float *zero)
{
    float least = x[0], most = x[0];
    uint32_t word;
    for (size_t i = 1; i < n; i++) {
        const float y = x[i * step];
        least = y < least ? y : least;
        most = y > most ? y : most;
    }
    *zero = least;
    word = (uint32_t)rv__bits_f32((most - least) / (float)((1u << bits) - 1u));
    return (uint16_t)((word + 0xFFFFu) >> 16);
}

static uint8_t rv__kv_code(float x, float zero, float scale, uint32_t bits)
{
    const int32_t most = (int32_t)(1u << bits) - 1;
    const int32_t code = scale > 0.0f ? rv__round_i32((x - zero) / scale) : 0;
    return (uint8_t)(code > most ? most : code);
}

/* rows: the page's k, then v, as floats; line: a row's codes. */
static void rv__kv_quantize(const rv_kv_cache *cache, const float *rows, uint8_t *line,
                            unsigned char *block)
{
    const rv_kv_cache_config *c = &cache->config;
    const size_t dk = cache->dk, dv = cache->dv;
    const float *v = rows + c->page * dk;
    float *zero_k = (float *)(void *)block, *zero_v = (float *)(void *)(block + cache->at_zero_v);
    uint16_t *scale_k = (uint16_t *)(void *)(block + cache->at_scale_k);
    uint16_t *scale_v = (uint16_t *)(void *)(block + cache->at_scale_v);
    for (size_t g = 0; g < cache->groups; g++)
        for (size_t x = 0; x < dk; x++)
            scale_k[g * dk + x] = rv__kv_scale(rows + g * c->group * dk + x, c->group, dk, c->bits,
                                               zero_k + g * dk + x);
    for (size_t t = 0; t < c->page; t++) {
        const size_t g = t / c->group * dk;
        for (size_t x = 0; x < dk; x++)
            line[x] = rv__kv_code(rows[t * dk + x], zero_k[g + x], rv__bf16_f32(scale_k[g + x]),
                                  c->bits);
        rv__kv_pack(line, dk, c->bits, block + cache->at_code_k + t * cache->row_k);
        for (size_t h = 0; h < c->kv_heads; h++) {
            for (size_t at = 0; at < c->dim_v; at += c->group, zero_v++, scale_v++) {
                const size_t n = c->dim_v - at < c->group ? c->dim_v - at : c->group;
                const float *from = v + t * dv + h * c->dim_v + at;
                *scale_v = rv__kv_scale(from, n, 1, c->bits, zero_v);
                for (size_t x = 0; x < n; x++)
                    line[h * c->dim_v + at + x] = rv__kv_code(from[x], *zero_v,
                                                              rv__bf16_f32(*scale_v), c->bits);
            }
        }
        rv__kv_pack(line, dv, c->bits, block + cache->at_code_v + t * cache->row_v);
    }
}

/* ---- append ---- */

typedef struct rv__kv_step {
    const rv__kernels *kernels;
    const float *k, *v;
    size_t n, k_stride, v_stride;
    size_t total;            /* tokens afterwards                                                 */
    size_t fresh;            /* pages that begin now                                              */
    size_t made;             /* pages that may have codes hanging on them                         */
    size_t seal;             /* pages, from the first on, that are to be quantized afterwards     */
    float *rows;             /* a page as floats                                                  */
    uint8_t *line;
} rv__kv_step;

static int rv__kv_fits(const rv_kv_cache *cache, float x)
{
    const float bound = cache->config.type == RV_DTYPE_F16    ? 65519.0f
                        : cache->config.bits                  ? 1e38f
                        : cache->config.type == RV_DTYPE_BF16 ? 3.39e38f
                                                              : 3.4028235e38f;
    return rv__finite_f32(x) && fabsf(x) <= bound;
}

static rv_status rv__kv_check_row(rv_ctx *ctx, const rv_kv_cache *cache, const char *name,
                                  const float *x, size_t at, size_t n)
{
    for (size_t i = at; i < at + n; i++)
        if (!rv__kv_fits(cache, x[i]))
            return rv__fail(ctx, RV_ERR_ARG, i, "%s[%z] is %f, %s cannot hold it", name, i,
                            (double)x[i],
                            cache->config.bits ? "a quantized cache"
                                               : rv_dtype_name(cache->config.type));
    return RV_OK;
}

static rv_status rv__kv_check_rows(rv_ctx *ctx, const rv_kv_cache *cache, const rv__kv_step *s)
{
    size_t left = 0;
    for (size_t t = 0; t < s->n; t++) {
        rv_status status = rv__poll_by(ctx, &left, 2 * (cache->dk + cache->dv));
        if (!status) status = rv__kv_check_row(ctx, cache, "k", s->k, t * s->k_stride, cache->dk);
        if (!status) status = rv__kv_check_row(ctx, cache, "v", s->v, t * s->v_stride, cache->dv);
        if (status) return status;
    }
    return RV_OK;
}

/* Memory for all that the step will make. Spare pages stay spare; codes hang on their pages. */
static rv_status rv__kv_prepare(rv_ctx *ctx, rv_kv_cache *cache, rv__kv_step *s)
{
    const size_t page = cache->config.page, tail = cache->config.tail;
    const size_t held = rv_kv_cache_first(cache);
    void *pages = cache->pages;
    rv_status status;
    s->total = rv__add(cache->count, s->n);
    if (s->total > SIZE_MAX / 2) return rv__no_memory(ctx, SIZE_MAX);
    s->fresh = (s->total + page - 1) / page - cache->first_page - cache->n_pages;
    s->seal = cache->config.bits && s->total > tail + held ? (s->total - tail - held) / page : 0;
    status = rv__kv_reserve(ctx, cache, s->fresh);
    if (!status)
        status = rv__kv_grow(ctx, cache, &pages, &cache->cap_pages, cache->n_pages + s->fresh,
                             sizeof *cache->pages);
    cache->pages = (rv__kv_page *)pages;
    if (status) return status;
    if (s->fresh)
        memcpy(cache->pages + cache->n_pages, cache->spare, s->fresh * sizeof *cache->pages);
    s->made = cache->n_pages + s->fresh;
    for (size_t i = 0; i < s->seal && !status; i++) {
        rv__kv_page *p = cache->pages + i;
        if (p->codes) continue;
        p->codes = (unsigned char *)rv__get(&cache->alloc, cache->code_bytes, 1);
        if (!p->codes) status = rv__no_memory(ctx, cache->code_bytes);
    }
    if (status || !s->seal) return status;
    s->rows = (float *)rv__get(&cache->alloc, rv__mul(page, cache->dk + cache->dv), sizeof(float));
    s->line = (uint8_t *)rv__get(&cache->alloc, cache->dk + cache->dv, 1);
    if (!s->rows || !s->line) return rv__no_memory(ctx, rv__mul(page, cache->dk + cache->dv));
    return RV_OK;
}

/* Rows into pages, pages into codes. */
static rv_status rv__kv_write(rv_ctx *ctx, rv_kv_cache *cache, const rv__kv_step *s)
{
    const size_t page = cache->config.page, dk = cache->dk, dv = cache->dv;
    size_t left = 0;
    rv_status status = RV_OK;
    for (size_t t = 0; t < s->n && !status; t++) {
        const size_t token = cache->count + t;
        const rv__kv_page *p = cache->pages + token / page - cache->first_page;
        rv__kv_narrow(cache, s->kernels, s->k + t * s->k_stride, dk,
                      p->k + token % page * dk * cache->elem);
        rv__kv_narrow(cache, s->kernels, s->v + t * s->v_stride, dv,
                      p->v + token % page * dv * cache->elem);
        status = rv__poll_by(ctx, &left, dk + dv);
    }
    for (size_t i = 0; i < s->seal && !status; i++) {
        const rv__kv_page *p = cache->pages + i;
        if (!p->k) continue;
        rv__kv_read(cache, s->kernels, p, 0, page, s->rows, s->rows + page * dk);
        rv__kv_quantize(cache, s->rows, s->line, p->codes);
        status = rv__poll_by(ctx, &left, 16 * page * (dk + dv));
    }
    return status;
}

/* What cannot fail: fresh pages are pages, sealed ones give their memory back, old ones go. */
static void rv__kv_commit(rv_kv_cache *cache, const rv__kv_step *s)
{
    const size_t page = cache->config.page, window = cache->config.window;
    /* the first of the new tokens sees from here on */
    const size_t seen = window && cache->count + 1 > window ? cache->count + 1 - window : 0;
    const size_t gone = seen / page > cache->first_page ? seen / page - cache->first_page : 0;
    cache->n_spare -= s->fresh;
    memmove(cache->spare, cache->spare + s->fresh, cache->n_spare * sizeof *cache->spare);
    cache->n_pages += s->fresh;
    cache->count = s->total;
    for (size_t i = 0; i < s->seal; i++) {
        rv__kv_page *p = cache->pages + i;
        rv__kv_page memory = *p;
        if (!p->k) continue;
        cache->n_codes++;
        memory.codes = NULL;
        rv__kv_release(cache, &memory, 0);
        p->k = p->v = NULL;
    }
    for (size_t i = 0; i < gone; i++) rv__kv_release(cache, cache->pages + i, 0);
    cache->n_pages -= gone;
    cache->first_page += gone;
    memmove(cache->pages, cache->pages + gone, cache->n_pages * sizeof *cache->pages);
}

RV_API rv_status rv_kv_cache_append(rv_ctx *ctx, rv_kv_cache *cache, const float *k, const float *v,
                                    size_t n, size_t k_stride, size_t v_stride)
{
    rv__kv_step s;
    rv_status status;
    if (!cache) return rv__fail(ctx, RV_ERR_ARG, 0, "cache must not be NULL");
    if (n == 0) return rv__ok(ctx);
    if (!k || !v) return rv__fail(ctx, RV_ERR_ARG, 0, "k and v must not be NULL");
    memset(&s, 0, sizeof s);
    s.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    s.k = k;
    s.v = v;
    s.n = n;
    s.k_stride = k_stride ? k_stride : cache->dk;
    s.v_stride = v_stride ? v_stride : cache->dv;
    if (s.k_stride < cache->dk || s.v_stride < cache->dv)
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "k_stride and v_stride are %z and %z, must be at least %z and %z",
                        s.k_stride, s.v_stride, cache->dk, cache->dv);
    status = rv__kv_check_rows(ctx, cache, &s);
    if (!status) status = rv__kv_prepare(ctx, cache, &s);
    if (!status) status = rv__kv_write(ctx, cache, &s);
    if (!status) {
        rv__kv_commit(cache, &s);
    } else {
        for (size_t i = 0; i < s.seal && i < s.made; i++) {
            rv__kv_page *p = cache->pages + i;
            if (!p->k || !p->codes) continue;
            rv__put(&cache->alloc, p->codes, cache->code_bytes, 1);
            p->codes = NULL;
        }
    }
    rv__put(&cache->alloc, s.rows, cache->config.page * (cache->dk + cache->dv), sizeof(float));
    rv__put(&cache->alloc, s.line, cache->dk + cache->dv, 1);
    return status ? status : rv__ok(ctx);
}

/* ---- truncate, get ---- */

RV_API rv_status rv_kv_cache_truncate(rv_ctx *ctx, rv_kv_cache *cache, size_t n)
{
    const size_t window = cache ? cache->config.window : 0;
    size_t page, first, keep;
    rv__kv_page *last;
    if (!cache) return rv__fail(ctx, RV_ERR_ARG, 0, "cache must not be NULL");
    page = cache->config.page;
    first = rv_kv_cache_first(cache);
    if (n > cache->count)
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z, there are %z tokens", n, cache->count);
    if (n < cache->count && first > 0 && n + 1 < first + window)
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z, the window's pages are held from %z on only",
                        n, first + window - 1);
    keep = (n - first + page - 1) / page;
    last = n % page ? cache->pages + keep - 1 : NULL;
    if (last && !last->k) { /* opened again */
        const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
        const size_t n_row = rv__add(cache->dk, cache->dv);
        rv__kv_page memory;
        float *row = (float *)rv__get(&cache->alloc, n_row, sizeof(float));
        rv_status status = row ? rv__kv_reserve(ctx, cache, 1)
                               : rv__no_memory(ctx, rv__mul(n_row, sizeof(float)));
        for (size_t t = 0; t < n % page && !status; t++) {
            memory = cache->spare[0];
            rv__kv_read(cache, kernels, last, t, 1, row, row + cache->dk);
            rv__kv_narrow(cache, kernels, row, cache->dk, memory.k + t * cache->dk * cache->elem);
            rv__kv_narrow(cache, kernels, row + cache->dk, cache->dv,
                          memory.v + t * cache->dv * cache->elem);
        }
        rv__put(&cache->alloc, row, n_row, sizeof(float));
        if (status) return status;
        memory = cache->spare[0];
        memmove(cache->spare, cache->spare + 1, --cache->n_spare * sizeof *cache->spare);
        rv__kv_release(cache, last, 0);
        *last = memory;
    }
    while (cache->n_pages > keep) rv__kv_release(cache, cache->pages + --cache->n_pages, 1);
    cache->count = n;
    return rv__ok(ctx);
}

/* Tokens first .. first + n - 1 as floats, polled. */
static rv_status rv__kv_gather(rv_ctx *ctx, const rv_kv_cache *cache, size_t first, size_t n,
                               float *k, float *v)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    const size_t page = cache->config.page;
    size_t left = 0;
    while (n) {
        const size_t from = first % page, m = n < page - from ? n : page - from;
        const rv__kv_page *p = cache->pages + first / page - cache->first_page;
        rv_status status = rv__poll_by(ctx, &left, m * (cache->dk + cache->dv) * (p->k ? 1 : 4));
        if (status) return status;
        rv__kv_read(cache, kernels, p, from, m, k, v);
        if (k) k += m * cache->dk;
        if (v) v += m * cache->dv;
        first += m;
        n -= m;
    }
    return RV_OK;
}

RV_API rv_status rv_kv_cache_get(rv_ctx *ctx, const rv_kv_cache *cache, size_t first, size_t n,
                                 float *k, float *v)
{
    rv_status status;
    if (!cache) return rv__fail(ctx, RV_ERR_ARG, 0, "cache must not be NULL");
    if (first < rv_kv_cache_first(cache) || first > cache->count || n > cache->count - first)
        return rv__fail(ctx, RV_ERR_ARG, 0, "tokens %z + %z are asked for, held are %z .. %z",
                        first, n, rv_kv_cache_first(cache), cache->count);
    status = rv__kv_gather(ctx, cache, first, n, k, v);
    return status ? status : rv__ok(ctx);
}

/* ---- attend ---- */

typedef struct rv__kv_walk {
    const rv_kv_cache *cache;
    rv_attn_config config;   /* defaults filled in                                                */
    rv_attn_io io;
    size_t begin, at;        /* first token that is walked, token of query 0                      */
    int causal;
    float *memory;
    size_t room, out, lse, part, part_lse, zeros, k, v; /* places in memory                       */
} rv__kv_walk;

static rv_status rv__kv_check_io(rv_ctx *ctx, const rv_kv_cache *cache, const rv_attn_config *c,
                                 const rv_attn_io *io)
{
    const size_t held = cache->count - rv_kv_cache_first(cache);
    if (io->k || io->v)
        return rv__fail(ctx, RV_ERR_ARG, 0, "k and v must be NULL, the cache holds them");
    if (held == 0) return rv__fail(ctx, RV_ERR_DIM, 0, "the cache holds no token");
    if ((io->dim && io->dim != cache->config.dim) ||
        (io->dim_v && io->dim_v != cache->config.dim_v) || (io->n_k && io->n_k != held))
        return rv__fail(ctx, RV_ERR_DIM, 0,
                        "dim, dim_v and n_k are %z, %z and %z, must be 0 or %z, %z and %z", io->dim,
                        io->dim_v, io->n_k, cache->config.dim, cache->config.dim_v, held);
    if (io->k_stride || io->v_stride || io->type != RV_DTYPE_F32)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "k_stride, v_stride and type must be 0, the cache has its own");
    if (c->kv_heads && c->kv_heads != cache->config.kv_heads)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kv_heads is %z, must be 0 or the cache's (%z)",
                        (size_t)c->kv_heads, (size_t)cache->config.kv_heads);
    if (c->raw || (c->training && c->dropout != 0.0f))
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "raw and training must be 0: runs of pages are joined by their sums");
    if (c->order == RV_ATTN_CAUSAL_FIRST || c->past)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "past is %z, must be 0 and order not CAUSAL_FIRST: the cache knows it",
                        c->past);
    return RV_OK;
}

/* Fills in what the cache knows and has rv_attn's checks made. */
static rv_status rv__kv_open(rv_ctx *ctx, const rv_kv_cache *cache, const rv_attn_config *config,
                             const rv_attn_io *io, rv__kv_walk *w)
{
    const size_t first = rv_kv_cache_first(cache), window = cache->config.window;
    const size_t held = cache->count - first;
    const float some = 0.0f;
    rv__attn a;
    rv_status status;
    memset(w, 0, sizeof *w);
    memset(&a, 0, sizeof a);
    if (config) a.config = *config;
    status = rv__kv_check_io(ctx, cache, &a.config, io);
    if (status) return status;
    a.io = *io;
    a.config.kv_heads = cache->config.kv_heads;
    if (a.config.heads == 0) a.config.heads = a.config.kv_heads;
    a.io.dim = cache->config.dim;
    a.io.dim_v = cache->config.dim_v;
    a.io.n_k = held;
    a.io.k = a.io.v = &some;
    rv__attn_settle(&a);
    status = rv__attn_check(ctx, &a);
    if (status) return status;
    w->cache = cache;
    w->causal = a.config.order == RV_ATTN_CAUSAL;
    if ((w->causal || a.config.windowed || a.config.slopes) && io->n_q > cache->count)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n_q is %z, there are %z tokens", io->n_q,
                        cache->count);
    w->at = cache->count > io->n_q ? cache->count - io->n_q : 0;
    w->begin = first;
    if (window && w->causal) {
        if (first > 0 && w->at + 1 < first + window)
            return rv__fail(ctx, RV_ERR_DIM, 0, "n_q is %z, whole windows are held for %z", io->n_q,
                            cache->count + 1 > first + window ? cache->count + 1 - first - window
                                                              : 0);
        if (!a.config.windowed) a.config.right = 0;
        if (!a.config.windowed || a.config.left > window - 1) a.config.left = window - 1;
        a.config.windowed = 1;
    } else if (window) {
        if (io->mask || io->weights)
            return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                            "mask and weights over a window need the order CAUSAL");
        if (cache->count - first > window) w->begin = cache->count - window;
    }
    if (w->causal && a.config.windowed && w->at > a.config.left && w->at - a.config.left > first)
        w->begin = io->mask || io->weights ? first : w->at - a.config.left;
    if (!w->causal && (a.config.windowed || a.config.slopes) && io->n_q > cache->count - w->begin)
        return rv__fail(ctx, RV_ERR_DIM, 0, "n_q is %z, %z tokens are seen", io->n_q,
                        cache->count - w->begin);
    w->config = a.config;
    w->io = a.io;
    return RV_OK;
}

static rv_status rv__kv_room(rv_ctx *ctx, rv__kv_walk *w, size_t at)
{
    const rv_alloc alloc = rv__allocator(ctx);
    w->room = at;
    w->memory = (float *)rv__get(&alloc, at, sizeof(float));
    return w->memory ? RV_OK : rv__no_memory(ctx, rv__mul(at, sizeof(float)));
}

/* All that is walked as one array of floats, through rv_attn: any mask, weights. */
static rv_status rv__kv_copy(rv_ctx *ctx, rv__kv_walk *w)
{
    const rv_kv_cache *cache = w->cache;
    const size_t n = cache->count - w->begin;
    size_t at = 0;
    rv_status status;
    w->k = rv__dense_room(&at, n, cache->dk);
    w->v = rv__dense_room(&at, n, cache->dv);
    status = rv__kv_room(ctx, w, at);
    if (status) return status;
    w->io.n_k = n;
    w->io.k = w->memory + w->k;
    w->io.v = w->memory + w->v;
    if (!w->causal && n > w->io.n_q) w->config.past = n - w->io.n_q;
    status = rv__kv_gather(ctx, cache, w->begin, n, w->memory + w->k, w->memory + w->v);
    return status ? status : rv_attn(ctx, &w->config, &w->io);
}

/* Tokens from `token` on that lie behind one another, or quantized ones to be widened together. */
static size_t rv__kv_run(const rv__kv_walk *w, size_t token)
{
    const rv_kv_cache *cache = w->cache;
    const size_t page = cache->config.page;
    const rv__kv_page *p = cache->pages + token / page - cache->first_page;
    size_t end = token / page + 1, pages = 1;
    for (; end < cache->first_page + cache->n_pages && pages < RV__KV_RUN; end++, pages++) {
        const rv__kv_page *next = cache->pages + end - cache->first_page;
        if (!p->k != !next->k) break;
        if (p->k && (next->k != p->k + pages * page * cache->dk * cache->elem ||
                     next->v != p->v + pages * page * cache->dv * cache->elem))
            break;
    }
    end *= page;
    return (end < cache->count ? end : cache->count) - token;
}

/* Joins the part, of queries from i0 on, with what there is. */
static void rv__kv_join(const rv__kv_walk *w, size_t i0)
{
    const size_t heads = w->config.heads, dim_v = w->io.dim_v, n_q = w->io.n_q;
    for (size_t i = i0; i < n_q; i++)
        for (size_t h = 0; h < heads; h++)
            rv_attn_merge(w->memory + w->out + (i * heads + h) * dim_v,
                          w->memory + w->lse + h * n_q + i,
                          w->memory + w->part + ((i - i0) * heads + h) * dim_v,
                          w->memory + w->part_lse + h * (n_q - i0) + i - i0, 1, dim_v);
}

/* Attention over one run of n tokens. */
static rv_status rv__kv_part(rv_ctx *ctx, const rv__kv_walk *w, size_t token, size_t n)
{
    const rv_kv_cache *cache = w->cache;
    const size_t page = cache->config.page, from = token % page;
    const rv__kv_page *p = cache->pages + token / page - cache->first_page;
    /* under causal order the queries before the run see nothing of it */
    const size_t i0 = w->causal && token > w->at ? token - w->at : 0;
    rv_attn_config config = w->config;
    rv_attn_io io = w->io;
    rv_status status = RV_OK;
    if (i0 >= io.n_q) return RV_OK;
    io.q += i0 * io.q_stride;
    io.n_q -= i0;
    io.n_k = n;
    io.k_stride = io.v_stride = io.out_stride = 0;
    io.out = w->memory + w->part;
    io.lse = w->memory + w->part_lse;
    config.sinks = NULL;
    if (w->causal) {
        config.order = RV_ATTN_CAUSAL_FIRST;
        config.past = w->at > token ? w->at - token : 0;
    }
    if (p->k) {
        io.type = cache->config.type;
        io.k = p->k + from * cache->dk * cache->elem;
        io.v = p->v + from * cache->dv * cache->elem;
    } else {
        io.k = w->memory + w->k;
        io.v = w->memory + w->v;
        status = rv__kv_gather(ctx, cache, token, n, w->memory + w->k, w->memory + w->v);
    }
    if (!status) status = rv_attn(ctx, &config, &io);
    if (!status) rv__kv_join(w, i0);
    return status;
}

/* Run by run. */
static rv_status rv__kv_runs(rv_ctx *ctx, rv__kv_walk *w)
{
    const rv_kv_cache *cache = w->cache;
    const size_t heads = w->config.heads, n_q = w->io.n_q, dim_v = w->io.dim_v;
    const size_t row = rv__mul(heads, dim_v), pairs = rv__mul(heads, n_q);
    const size_t wide = cache->n_codes ? RV__KV_RUN * cache->config.page : 0;
    size_t at = 0;
    float *lse;
    rv_status status;
    w->out = rv__dense_room(&at, n_q, row);
    w->lse = rv__dense_room(&at, heads, n_q);
    w->part = rv__dense_room(&at, n_q, row);
    w->part_lse = rv__dense_room(&at, heads, n_q);
    w->zeros = rv__dense_room(&at, 1, dim_v);
    w->k = rv__dense_room(&at, wide, cache->dk);
    w->v = rv__dense_room(&at, wide, cache->dv);
    status = rv__kv_room(ctx, w, at);
    if (status) return status;
    memset(w->memory + w->out, 0, n_q * row * sizeof(float));
    memset(w->memory + w->zeros, 0, dim_v * sizeof(float));
    lse = w->memory + w->lse;
    for (size_t i = 0; i < pairs; i++) lse[i] = -rv__infinity();
    for (size_t token = w->begin, n; token < cache->count && !status; token += n) {
        n = rv__kv_run(w, token);
        status = rv__kv_part(ctx, w, token, n);
    }
    for (size_t i = 0; i < pairs && w->config.sinks && !status; i++)
        rv_attn_merge(w->memory + w->out + (i % n_q * heads + i / n_q) * dim_v, lse + i,
                      w->memory + w->zeros, w->config.sinks + i / n_q, 1, dim_v);
    for (size_t i = 0; i < n_q && !status; i++)
        memcpy(w->io.out + i * w->io.out_stride, w->memory + w->out + i * row, row * sizeof(float));
    if (!status && w->io.lse) memcpy(w->io.lse, lse, pairs * sizeof(float));
    return status;
}

RV_API rv_status rv_kv_cache_attend(rv_ctx *ctx, const rv_kv_cache *cache,
                                    const rv_attn_config *config, const rv_attn_io *io)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__kv_walk w;
    rv_status status;
    if (!cache || !io) return rv__fail(ctx, RV_ERR_ARG, 0, "cache and io must not be NULL");
    status = rv__kv_open(ctx, cache, config, io, &w);
    if (status || io->n_q == 0) return status ? status : rv__ok(ctx);
    if (io->mask || io->weights || (!w.causal && (w.config.windowed || w.config.slopes)))
        status = rv__kv_copy(ctx, &w);
    else status = rv__kv_runs(ctx, &w);
    rv__put(&alloc, w.memory, w.room, sizeof(float));
    return status ? status : rv__ok(ctx);
}

#undef RV__KV_RUN

#endif /* RV_KV_CACHE_C */
