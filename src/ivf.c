#ifndef RV_IVF_C
#define RV_IVF_C
#include "ivf.h"
#include "base.c"
#include "simd.c"
#include "topk.c"
#include "distance.c"
#include "kmeans.c"
#include "image.c"
#include "quant_api.c"
#include "store.c"

/* Lists and codes of the inverted file; building, search and images are in the parts that follow.

   A list is a chain of blocks of 32 rows out of one pool: ids[block * 32 + lane] is the row's slot,
   codes and factors lie in parallel arrays. All blocks but the last of a chain are full; a row
   leaves by the list's last row taking its place. place[slot] = block * 32 + lane.

   Estimates. With the row's list centre C, mu the mean of all centres, q' = q - mu, C' = C - mu,
   r = x - C, and <r, q - C> estimated by (r^, q') - (r^, C') from the code of r,

       |q - x|^2 = |q - C|^2 + (|r|^2 + 2 (r^, C')) - 2 (r^, q')        (PQ: |r^|^2 for |r|^2)
       -q x      = -q C      + ((r^, C') - r C)     -   (r^, q')

   so that one table made from q' serves all lists; the bracket is a factor kept with the row. PQ:
   r^ is what the code decodes to. RABITQ: (r^, v) = f <y, P v> with the row's second factor f.

   Source of moving the centre's part into the row: the RaBitQ library; the formulas hold for any
   code. */

#define RV__IVF_BLOCK 32u
#define RV__IVF_NONE 0xFFFFFFFFu
#define RV__IVF_LISTS_MAX 1048576u
#define RV__IVF_RUN 8u    /* blocks scanned by one call of the kernel                          */
#define RV__IVF_CHUNK 64u /* elements decoded together                                          */
#define RV__IVF_LEAST 256u /* rows below which nothing is learned                               */

typedef struct rv__ivf_lists {
    rv_alloc alloc;
    const rv__kernels *kernels;
    uint32_t dim;
    rv_metric metric;
    uint32_t n_lists;
    int trained;
    int viewed;            /* arrays marked V belong to an image: nothing may change              */
    /* centres: float means, or rows of a store for metrics without means */
    float *means;          /* [n_lists, dim], or NULL                                             */
    float *offset;         /* [dim] mean of the means                                             */
    int8_t *coarse;        /* [n_lists, wide] bytes of the means less offset, or NULL             */
    float *coarse_factor;  /* [n_lists, 2] scale and squared length of those                      */
    size_t wide;
    int medoids;
    rv__store centres;
    /* codes */
    rv_quant *quant;       /* NULL: none                                                          */
    size_t n_sub;          /* nibbles per row, even                                               */
    size_t n_factors;      /* floats per row                                                      */
    /* chains */
    uint32_t *head, *tail, *size; /* [n_lists] each, one block of memory                          */
    uint32_t n_blocks, capacity;  /* blocks used or free, and room                                */
    uint32_t spare;        /* first block of the chain of free ones                               */
    unsigned char *codes;  /* [capacity, 16 n_sub]; V                                             */
    float *factors;        /* [capacity, n_factors, 32]; V                                        */
    uint32_t *ids;         /* [capacity, 32]; V                                                   */
    uint32_t *next;        /* [capacity] block behind this one                                    */
    uint32_t *owner;       /* [capacity] list of a block                                          */
} rv__ivf_lists;

struct rv_ivf {
    rv__store store;
    rv_ivf_config config;  /* as given                                                            */
    uint64_t seed;
    rv__ivf_lists lists;
    uint32_t *place;       /* [place_capacity] where a slot lies in the pool                      */
    size_t place_capacity;
};

static rv_status rv__ivf_null(rv_ctx *ctx, const char *what)
{
    return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
}

/* Metrics with means, for which there are codes. */
static int rv__ivf_dense(rv_metric metric)
{
    return metric == RV_METRIC_L2 || metric == RV_METRIC_IP || metric == RV_METRIC_COSINE;
}

/* ---- memory of the lists ---- */

static void rv__ivf_drop_pool(rv__ivf_lists *l)
{
    if (!l->viewed) {
        rv__put(&l->alloc, l->codes, (size_t)l->capacity * 16 * l->n_sub, 1);
        rv__put(&l->alloc, l->factors, (size_t)l->capacity * 32 * l->n_factors, sizeof(float));
        rv__put(&l->alloc, l->ids, (size_t)l->capacity * 32, sizeof(uint32_t));
    }
    rv__put(&l->alloc, l->next, l->capacity, sizeof(uint32_t));
    rv__put(&l->alloc, l->owner, l->capacity, sizeof(uint32_t));
    l->codes = NULL;
    l->factors = NULL;
    l->ids = l->next = l->owner = NULL;
    l->capacity = 0;
}

RV__FN void rv__ivf_lists_free(rv__ivf_lists *l)
{
    rv__ivf_drop_pool(l);
    rv__put(&l->alloc, l->head, 3 * (size_t)l->n_lists, sizeof(uint32_t));
    rv__put(&l->alloc, l->means, (size_t)l->n_lists * l->dim, sizeof(float));
    rv__put(&l->alloc, l->offset, l->dim, sizeof(float));
    rv__put(&l->alloc, l->coarse, (size_t)l->n_lists * l->wide, 1);
    rv__put(&l->alloc, l->coarse_factor, 2 * (size_t)l->n_lists, sizeof(float));
    if (l->medoids) rv__store_free(&l->centres);
    rv_quant_destroy(l->quant);
    memset(l, 0, sizeof *l);
}

/* One list without codes and without a centre. */
RV__FN rv_status rv__ivf_lists_init(rv_ctx *ctx, rv__ivf_lists *l, const rv_alloc *alloc,
                                    uint32_t dim, rv_metric metric, uint32_t n_lists)
{
    memset(l, 0, sizeof *l);
    l->alloc = *alloc;
    l->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    l->dim = dim;
    l->metric = metric;
    l->n_lists = n_lists;
    l->spare = RV__IVF_NONE;
    l->head = (uint32_t *)rv__get(alloc, 3 * (size_t)n_lists, sizeof(uint32_t));
    if (!l->head) return rv__no_memory(ctx, 3 * (size_t)n_lists * sizeof(uint32_t));
    l->tail = l->head + n_lists;
    l->size = l->tail + n_lists;
    for (uint32_t i = 0; i < n_lists; i++) {
        l->head[i] = l->tail[i] = RV__IVF_NONE;
        l->size[i] = 0;
    }
    return RV_OK;
}

/* Bytes of the lists into stats, those that lie in an image included; returns how many do. */
RV__FN size_t rv__ivf_lists_bytes(const rv__ivf_lists *l, rv_ivf_stats *stats)
{
    const size_t blocks = l->capacity, n = l->n_lists;
    stats->code_bytes = blocks * (16 * l->n_sub + 32 * l->n_factors * sizeof(float));
    stats->list_bytes = (blocks * 34 + 3 * n) * sizeof(uint32_t);
    stats->centre_bytes = (l->means ? n * l->dim * sizeof(float) : 0) +
                          (l->offset ? l->dim * sizeof(float) : 0) +
                          (l->coarse ? n * (l->wide + 2 * sizeof(float)) : 0) +
                          (l->medoids ? rv__store_bytes(&l->centres) : 0) +
                          (l->quant ? rv_quant_bytes(l->quant) : 0);
    return l->viewed ? stats->code_bytes + blocks * 32 * sizeof(uint32_t) : 0;
}

/* A pool of another capacity for the same lists, not filled. */
static rv_status rv__ivf_pool_get(rv_ctx *ctx, const rv__ivf_lists *l, size_t capacity,
                                  rv__ivf_lists *to)
{
    *to = *l;
    to->codes = NULL;
    to->factors = NULL;
    to->capacity = (uint32_t)capacity;
    to->ids = (uint32_t *)rv__get(&l->alloc, capacity * 32, sizeof(uint32_t));
    to->next = (uint32_t *)rv__get(&l->alloc, capacity, sizeof(uint32_t));
    to->owner = (uint32_t *)rv__get(&l->alloc, capacity, sizeof(uint32_t));
    if (l->n_sub) {
        to->codes = (unsigned char *)rv__get(&l->alloc, rv__mul(capacity * 16, l->n_sub), 1);
        to->factors = (float *)rv__get(&l->alloc, capacity * 32 * l->n_factors, sizeof(float));
    }
    if (to->ids && to->next && to->owner && (!l->n_sub || (to->codes && to->factors))) return RV_OK;
    rv__ivf_drop_pool(to);
    return rv__no_memory(ctx, rv__mul(capacity * 16, l->n_sub + 8));
}

/* Room for so many more blocks than are in use. */
RV__FN rv_status rv__ivf_pool_grow(rv_ctx *ctx, rv__ivf_lists *l, size_t more, int exactly)
{
    size_t need = (size_t)l->n_blocks + more, half = (size_t)l->capacity + l->capacity / 2, used;
    rv__ivf_lists to;
    rv_status status;
    for (uint32_t b = l->spare; b != RV__IVF_NONE && need > l->capacity; b = l->next[b]) need--;
    if (need <= l->capacity) return RV_OK;
    if (!exactly && half > need) need = half;
    if (need > RV__IVF_NONE / 32) return rv__no_memory(ctx, SIZE_MAX);
    status = rv__ivf_pool_get(ctx, l, need, &to);
    if (status) return status;
    used = l->n_blocks;
    status = rv__copy_polled(ctx, to.ids, l->ids, used * 32 * sizeof(uint32_t));
    if (!status) status = rv__copy_polled(ctx, to.next, l->next, used * sizeof(uint32_t));
    if (!status) status = rv__copy_polled(ctx, to.owner, l->owner, used * sizeof(uint32_t));
    if (!status) status = rv__copy_polled(ctx, to.codes, l->codes, used * 16 * l->n_sub);
    if (!status) {
        status = rv__copy_polled(ctx, to.factors, l->factors,
                                 used * 32 * l->n_factors * sizeof(float));
    }
    if (status) {
        rv__ivf_drop_pool(&to);
        return status;
    }
    rv__ivf_drop_pool(l);
    *l = to;
    return RV_OK;
}

/* ---- rows in and out of lists ---- */

/* Writes n_sub nibbles, packed two to a byte, and factors. */
static void rv__ivf_put_code(rv__ivf_lists *l, uint32_t at, const unsigned char *code,
                             const float *factor)
{
    const uint32_t block = at / 32, lane = at % 32;
    unsigned char *to = l->codes + (size_t)block * 16 * l->n_sub + (lane & 15u);
    const unsigned keep = (lane & 16u) ? 0x0Fu : 0xF0u, shift = (lane & 16u) ? 4 : 0;
    for (size_t s = 0; s < l->n_sub; s += 2, to += 32) {
        unsigned pair = code[s / 2];
        to[0] = (unsigned char)((to[0] & keep) | (pair & 15u) << shift);
        to[16] = (unsigned char)((to[16] & keep) | (pair >> 4) << shift);
    }
    for (size_t i = 0; i < l->n_factors; i++) {
        l->factors[((size_t)block * l->n_factors + i) * 32 + lane] = factor[i];
    }
}

static void rv__ivf_get_code(const rv__ivf_lists *l, uint32_t at, unsigned char *code,
                             float *factor)
{
    const uint32_t block = at / 32, lane = at % 32;
    const unsigned char *from = l->codes + (size_t)block * 16 * l->n_sub + (lane & 15u);
    const unsigned shift = (lane & 16u) ? 4 : 0;
    for (size_t s = 0; s < l->n_sub; s += 2, from += 32) {
        unsigned low = (unsigned)(from[0] >> shift) & 15u,
                 high = (unsigned)(from[16] >> shift) & 15u;
        code[s / 2] = (unsigned char)(low | high << 4);
    }
    for (size_t i = 0; i < l->n_factors; i++) {
        factor[i] = l->factors[((size_t)block * l->n_factors + i) * 32 + lane];
    }
}

/* Moves row `from` of the pool to place `to`. */
static void rv__ivf_move(rv__ivf_lists *l, uint32_t from, uint32_t to)
{
    const uint32_t a = from % 32, b = to % 32;
    const unsigned char *src =
        l->n_sub ? l->codes + (size_t)(from / 32) * 16 * l->n_sub + (a & 15u) : NULL;
    unsigned char *dst = l->n_sub ? l->codes + (size_t)(to / 32) * 16 * l->n_sub + (b & 15u) : NULL;
    const unsigned keep = (b & 16u) ? 0x0Fu : 0xF0u;
    for (size_t s = 0; s < l->n_sub; s++, src += 16, dst += 16) {
        unsigned value = (unsigned)(*src >> ((a & 16u) ? 4 : 0)) & 15u;
        *dst = (unsigned char)((*dst & keep) | value << ((b & 16u) ? 4 : 0));
    }
    for (size_t i = 0; i < l->n_factors; i++) {
        l->factors[((size_t)(to / 32) * l->n_factors + i) * 32 + b] =
            l->factors[((size_t)(from / 32) * l->n_factors + i) * 32 + a];
    }
    l->ids[to] = l->ids[from];
}

/* Appends a slot to a list; the pool has room. Returns its place; the code is still to be put. */
RV__FN uint32_t rv__ivf_push(rv__ivf_lists *l, uint32_t list, uint32_t slot)
{
    uint32_t lane = l->size[list] % 32, block = l->tail[list];
    if (lane == 0) {
        if (l->spare != RV__IVF_NONE) {
            block = l->spare;
            l->spare = l->next[block];
        } else {
            block = l->n_blocks++;
        }
        if (l->n_sub) {
            memset(l->codes + (size_t)block * 16 * l->n_sub, 0, 16 * l->n_sub);
            memset(l->factors + (size_t)block * 32 * l->n_factors, 0,
                   32 * l->n_factors * sizeof(float));
        }
        /* rows behind the last one name no slot but may be read */
        memset(l->ids + (size_t)block * 32, 0, 32 * sizeof(uint32_t));
        l->next[block] = RV__IVF_NONE;
        l->owner[block] = list;
        if (l->head[list] == RV__IVF_NONE) l->head[list] = block;
        else l->next[l->tail[list]] = block;
        l->tail[list] = block;
    }
    l->size[list]++;
    l->ids[(size_t)block * 32 + lane] = slot;
    return block * 32 + lane;
}

/* Takes out the row at a place; *moved is the slot that is there now, or none. */
RV__FN void rv__ivf_pull(rv__ivf_lists *l, uint32_t at, uint32_t *moved)
{
    const uint32_t list = l->owner[at / 32], lane = (l->size[list] - 1) % 32, block = l->tail[list];
    const uint32_t last = block * 32 + lane;
    *moved = RV__IVF_NONE;
    if (last != at) {
        rv__ivf_move(l, last, at);
        *moved = l->ids[at];
    }
    l->ids[last] = 0;
    l->size[list]--;
    if (lane > 0) return;
    if (l->head[list] == block) {
        l->head[list] = l->tail[list] = RV__IVF_NONE;
    } else {
        uint32_t before = l->head[list];
        while (l->next[before] != block) before = l->next[before];
        l->next[before] = RV__IVF_NONE;
        l->tail[list] = before;
    }
    l->next[block] = l->spare;
    l->spare = block;
}

/* ---- codes ---- */

/* Floats of scratch for rv__ivf_code. */
static size_t rv__ivf_code_scratch(const rv__ivf_lists *l)
{
    size_t wide = l->dim > l->quant->padded ? l->dim : l->quant->padded;
    return 2 * rv__round_up(wide, 16) + rv__round_up(l->quant->ops->scratch(l->quant), 16) +
           2 * wide;
}

/* Bytes of a code as rv__ivf_code makes it. */
static size_t rv__ivf_code_bytes(const rv__ivf_lists *l)
{
    return l->quant ? rv__round_up(l->quant->code_bytes + 2, 4) : 0;
}

/* Code and factors of a row of a list; x: [dim], at unit length under cosine. */
static void rv__ivf_code(const rv__ivf_lists *l, const float *x, uint32_t list, unsigned char *code,
                         float *factor, float *scratch)
{
    const rv_quant *quant = l->quant;
    const size_t dim = l->dim, wide = rv__round_up(dim > quant->padded ? dim : quant->padded, 16);
    const float *centre = l->means + (size_t)list * dim;
    float *r = scratch, *t = r + wide, *rest = t + wide;
    double square = 0.0, with_centre = 0.0, product = 0.0, decoded = 0.0;
    for (size_t j = 0; j < dim; j++) {
        r[j] = x[j] - centre[j];
        t[j] = centre[j] - l->offset[j];
        square += (double)r[j] * (double)r[j];
        with_centre += (double)r[j] * (double)centre[j];
    }
    if (quant->rotation) {
        double dot, length;
        rv_rotation_apply(quant->rotation, r, r);
        rv_rotation_apply(quant->rotation, t, t);
        rv__rabitq_integers(r, quant->padded, 1, rest, code, &dot, &length);
        factor[1] = dot > 0.0 ? (float)(square / dot) : 0.0f;
        for (size_t j = 0; j < quant->padded; j++) {
            product += (code[j >> 3] >> (j & 7u) & 1) ? (double)t[j] : -(double)t[j];
        }
        product *= 0.5 * (double)factor[1];
    } else {
        float chunk[RV__IVF_CHUNK];
        quant->ops->encode(quant, r, 1, code, rest);
        for (size_t at = 0; at < dim; at += RV__IVF_CHUNK) {
            size_t n = dim - at < RV__IVF_CHUNK ? dim - at : RV__IVF_CHUNK;
            quant->ops->chunk(quant, code, at, n, chunk);
            for (size_t j = 0; j < n; j++) {
                product += (double)chunk[j] * (double)t[at + j];
                decoded += (double)chunk[j] * (double)chunk[j];
            }
        }
        /* the distance to what the code decodes to: its error at the row's neighbours is that of
           the code times their distance, while |r|^2 would leave the distance to the centre in
           it */
        square = decoded;
        /* the error at the end of the code must not be read as a nibble */
        memset(code + quant->payload, 0, quant->code_bytes - quant->payload);
    }
    factor[0] = (float)(l->metric == RV_METRIC_L2 ? square + 2.0 * product : product - with_centre);
}

/* What the code at a place decodes to, centre added; scratch as above. */
static void rv__ivf_decode(const rv__ivf_lists *l, uint32_t at, float *x, float *scratch)
{
    const rv_quant *quant = l->quant;
    const float *centre = l->means + (size_t)l->owner[at / 32] * l->dim;
    unsigned char *code = (unsigned char *)scratch;
    float *r = scratch + rv__round_up(l->n_sub / 2 + quant->code_bytes, 64) / sizeof(float),
          factor[2];
    rv__ivf_get_code(l, at, code, factor);
    if (quant->rotation) {
        /* signs times f have the right product with the row; their shortest form is 2 / pi of it */
        const float scale = 0.5f * factor[1] * 0.63661977f;
        for (size_t j = 0; j < quant->padded; j++)
            r[j] = (code[j >> 3] >> (j & 7u) & 1) ? scale : -scale;
        rv_rotation_invert(quant->rotation, r, x);
    } else {
        for (size_t from = 0; from < l->dim; from += RV__IVF_CHUNK) {
            size_t n = l->dim - from < RV__IVF_CHUNK ? l->dim - from : RV__IVF_CHUNK;
            quant->ops->chunk(quant, code, from, n, x + from);
        }
    }
    for (size_t j = 0; j < l->dim; j++) x[j] += centre[j];
}

/* ---- centres ---- */

/* Rows in the caller's form as centres, for a store's metric without means. */
static rv_status rv__ivf_make_medoids(rv_ctx *ctx, rv__ivf_lists *l, const rv__store *store,
                                      const void *rows)
{
    rv__store_spec spec;
    rv_status status;
    memset(&spec, 0, sizeof spec);
    spec.dim = store->dim;
    spec.metric = store->metric;
    spec.type = store->type == RV_DTYPE_U1 ? RV_DTYPE_U1 : RV_DTYPE_F32;
    spec.custom = store->custom;
    spec.custom_user = store->custom_user;
    status = rv__store_init(ctx, &l->centres, &spec);
    if (status) return status;
    l->medoids = 1;
    return rv__store_append(ctx, &l->centres, NULL, rows, l->n_lists);
}

/* Bytes of the means for a first look at them. */
static rv_status rv__ivf_make_coarse(rv_ctx *ctx, rv__ivf_lists *l)
{
    const size_t dim = l->dim, n = l->n_lists;
    size_t left = 0;
    l->offset = (float *)rv__get_zero(&l->alloc, dim, sizeof(float));
    if (!l->offset) return rv__no_memory(ctx, dim * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        rv_status status = rv__poll_by(ctx, &left, dim + 32);
        if (status) return status;
        rv_axpy_f32(1.0f / (float)n, l->means + i * dim, l->offset, dim);
    }
    if (dim < 64 || n < 64) return RV_OK;
    l->wide = rv__round_up(dim, 64);
    l->coarse = (int8_t *)rv__get_zero(&l->alloc, n, l->wide);
    l->coarse_factor = (float *)rv__get(&l->alloc, 2 * n, sizeof(float));
    if (!l->coarse || !l->coarse_factor) return rv__no_memory(ctx, n * l->wide);
    for (size_t i = 0; i < n; i++) {
        const float *mean = l->means + i * dim;
        float top = 0.0f, scale;
        double square = 0.0;
        rv_status status = rv__poll_by(ctx, &left, 4 * dim);
        if (status) return status;
        for (size_t j = 0; j < dim; j++) {
            float d = mean[j] - l->offset[j];
            top = fabsf(d) > top ? fabsf(d) : top;
            square += (double)d * (double)d;
        }
        scale = top > 1e-30f && top < 1e30f ? top / 127.0f : 1.0f;
        for (size_t j = 0; j < dim; j++) {
            float c = (mean[j] - l->offset[j]) / scale;
            l->coarse[i * l->wide + j] = (int8_t)rv__round_i32(c < -127.0f  ? -127.0f
                                                               : c > 127.0f ? 127.0f
                                                                            : c);
        }
        l->coarse_factor[2 * i] = scale;
        l->coarse_factor[2 * i + 1] = (float)square;
    }
    return RV_OK;
}

#endif /* RV_IVF_C */
