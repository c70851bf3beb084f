#ifndef RV_NEGATIVES_C
#define RV_NEGATIVES_C
#include "negatives.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "topk.c"
#include "loss.c"

/* The candidates that are no positives make a list; a strategy gives each a key, and the k smallest
   keys win (rv_topk_f32), or it shuffles the list. Drawing k of them without replacement with given
   weights is the same as taking the k largest of ln weight + Gumbel noise, which needs no weight as
   such: 1 / q spans hundreds of powers of ten in high dimensions.

   Sources: Schroff, Kalenichenko, Philbin, FaceNet, 2015 (semi-hard); Wu et al., Sampling matters
   in deep embedding learning, 2017 (distance weighted); Robinson et al., Contrastive learning with
   hard negative samples, 2021; Efraimidis, Spirakis, Weighted random sampling with a reservoir,
   2006. The fill of SEMI_HARD is ours: the source takes whatever there is. */

#define RV__NEGATIVES_POLL 65536u /* floats between two polls */

typedef struct rv__negatives {
    const rv__kernels *kernels;
    rv_negatives_config c; /* resolved */
    const rv_negatives_io *io;
    rv__rng rng;
    uint32_t *list, *index; /* [n_list] not positive; [k] */
    float *key;             /* [n_list] */
    unsigned char *taken;   /* [n] */
    size_t n_list, k;
} rv__negatives;

static rv_status rv__negatives_field(rv_ctx *ctx, const char *name, float x, float high, int open)
{
    if (rv__finite_f32(x) && x > 0.0f && (open ? x < high : x <= high)) return RV_OK;
    return rv__fail(ctx, RV_ERR_CONFIG, 0,
                    open ? "%s is %f; it must be above 0 and below %f"
                         : "%s is %f; it must be above 0 and at most %f",
                    name, (double)x, (double)high);
}

/* ---- strategies ---- */

/* Moves `count` random entries of list[first..] to its front. */
static void rv__negatives_shuffle(rv__negatives *s, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        size_t from = i + rv__rng_below(&s->rng, (uint32_t)(s->n_list - i));
        uint32_t moved = s->list[i];
        s->list[i] = s->list[from];
        s->list[from] = moved;
    }
}

/* 1 - cosine of the anchor, whose 1 / length is given, and a row. */
static double rv__negatives_distance(const rv__negatives *s, double inverse, size_t row)
{
    const size_t dim = s->io->dim;
    const float *x = s->io->candidates + row * dim;
    double cosine = rv__loss_dot(s->kernels, s->io->anchor, x, dim) * inverse *
                    rv__loss_inverse(s->kernels, x, dim);
    return cosine > 1.0 ? 0.0 : cosine < -1.0 ? 2.0 : 1.0 - cosine;
}

/* -ln q(x) of unit vectors in dim dimensions. */
static double rv__negatives_log_weight(double x, size_t dim)
{
    const double a = 2.0 - (double)dim, b = 1.5 - 0.5 * (double)dim;
    double sum = 0.0;
    if (a != 0.0) sum += a * rv__log(x > 1e-30 ? x : 1e-30);
    x = 1.0 - 0.25 * x * x;
    if (b != 0.0) sum += b * rv__log(x > 1e-30 ? x : 1e-30);
    return sum;
}

/* Random within the margin, else behind it, by distance. */
static float rv__negatives_semi_hard(rv__negatives *s, double d, double low)
{
    const float random = rv__rng_f32(&s->rng);
    if (d <= low) return (float)(8.0 - d);
    return d < low + (double)s->c.margin ? random : (float)(4.0 + d);
}

static float rv__negatives_weighted(rv__negatives *s, double d)
{
    const double most = rv__negatives_log_weight((double)s->c.cutoff, s->io->dim);
    double weight = rv__negatives_log_weight(sqrt(2.0 * d), s->io->dim);
    double u = ((double)(rv__rng_next(&s->rng) >> 11) + 0.5) / 9007199254740992.0;
    if (weight > most) weight = most;
    return (float)(rv__log(-rv__log(u)) - weight);
}

/* Keys from distances, for all strategies that look at vectors. */
static rv_status rv__negatives_measure(rv_ctx *ctx, rv__negatives *s)
{
    const double inverse = rv__loss_inverse(s->kernels, s->io->anchor, s->io->dim);
    double low = 0.0;
    size_t done = RV__NEGATIVES_POLL;
    for (size_t i = 0; s->c.kind == RV_NEGATIVES_SEMI_HARD && i < s->io->n_positives; i++) {
        double d = rv__negatives_distance(s, inverse, s->io->positives[i]);
        if (d > low) low = d;
    }
    for (size_t i = 0; i < s->n_list; i++) {
        double d;
        if (done >= RV__NEGATIVES_POLL) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
            done = 0;
        }
        done += s->io->dim;
        d = rv__negatives_distance(s, inverse, s->list[i]);
        s->key[i] = s->c.kind == RV_NEGATIVES_SEMI_HARD
                        ? rv__negatives_semi_hard(s, d, low)
                    : s->c.kind == RV_NEGATIVES_DISTANCE_WEIGHTED ? rv__negatives_weighted(s, d)
                                                                  : (float)d;
    }
    return RV_OK;
}

/* The `count` smallest keys go to the front of the list, in order. */
static void rv__negatives_best(rv__negatives *s, size_t count)
{
    size_t kept = count;
    (void)rv_topk_f32(s->key, s->n_list, count, s->index, NULL);
    for (size_t i = 0; i < count; i++) {
        s->index[i] = s->list[s->index[i]];
        s->taken[s->index[i]] = 1;
    }
    /* the others close up behind; from the back, so that nothing is overwritten unread */
    for (size_t i = s->n_list, at = s->n_list; i-- > 0;) {
        if (!s->taken[s->list[i]]) s->list[--at] = s->list[i];
    }
    memcpy(s->list, s->index, kept * sizeof *s->list);
}

static rv_status rv__negatives_random(rv_ctx *ctx, rv__negatives *s)
{
    (void)ctx;
    rv__negatives_shuffle(s, 0, s->k);
    return RV_OK;
}

static rv_status rv__negatives_nearest(rv_ctx *ctx, rv__negatives *s)
{
    rv_status status = rv__negatives_measure(ctx, s);
    if (!status) rv__negatives_best(s, s->k);
    return status;
}

static rv_status rv__negatives_degree(rv_ctx *ctx, rv__negatives *s)
{
    const double own = rv__log(1.0 + (double)s->io->anchor_degree);
    (void)ctx;
    rv__negatives_shuffle(s, 0, s->n_list); /* equal keys go by position */
    for (size_t i = 0; i < s->n_list; i++) {
        double gap = rv__log(1.0 + (double)s->io->degrees[s->list[i]]) - own;
        s->key[i] = (float)fabs(gap);
    }
    rv__negatives_best(s, s->k);
    return RV_OK;
}

static rv_status rv__negatives_mixed(rv_ctx *ctx, rv__negatives *s)
{
    size_t hard = (size_t)ceil((double)s->c.hard_share * (double)s->k - 1e-6);
    rv_status status = rv__negatives_measure(ctx, s);
    if (status) return status;
    rv__negatives_best(s, hard);
    rv__negatives_shuffle(s, hard, s->k - hard);
    return RV_OK;
}

static const struct {
    rv_negatives_info info;
    rv_status (*run)(rv_ctx *ctx, rv__negatives *s); /* the chosen k to the front of the list */
} rv__negatives_kinds[] = {
    {{"random", 0, "uniform"}, rv__negatives_random},
    {{"hard", 1, "Robinson et al., 2021"}, rv__negatives_nearest},
    {{"semi_hard", 1, "Schroff, Kalenichenko, Philbin, 2015"}, rv__negatives_nearest},
    {{"distance_weighted", 1, "Wu et al., 2017"}, rv__negatives_nearest},
    {{"degree", 0, "degree matching"}, rv__negatives_degree},
    {{"mixed", 1, "Robinson et al., 2021"}, rv__negatives_mixed},
};

RV_API const rv_negatives_info *rv_negatives_kind_at(size_t i)
{
    return i < sizeof rv__negatives_kinds / sizeof rv__negatives_kinds[0]
               ? &rv__negatives_kinds[i].info
               : NULL;
}

/* ---- the call ---- */

static rv_status rv__negatives_resolve(rv_ctx *ctx, const rv_negatives_config *config,
                                       rv_negatives_config *c)
{
    rv_status status;
    memset(c, 0, sizeof *c);
    if (config) *c = *config;
    if (!rv_negatives_kind_at((size_t)c->kind)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "kind is %d; it must be one of rv_negatives_kind, 0..5", (int)c->kind);
    }
    c->margin = rv__default(c->margin, 0.1f);
    c->cutoff = rv__default(c->cutoff, 0.5f);
    c->hard_share = rv__default(c->hard_share, 0.5f);
    status = rv__negatives_field(ctx, "margin", c->margin, 2.0f, 0);
    if (!status) status = rv__negatives_field(ctx, "cutoff", c->cutoff, 1.414f, 1);
    if (!status) status = rv__negatives_field(ctx, "hard_share", c->hard_share, 1.0f, 0);
    return status;
}

static rv_status rv__negatives_check(rv_ctx *ctx, const rv_negatives_io *io, rv_negatives_kind kind)
{
    rv_status status = RV_OK;
    if (io->n > UINT32_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n is %z; it must be below 2^32", io->n);
    }
    if (io->n_positives && !io->positives) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "positives is NULL");
    }
    for (size_t i = 0; i < io->n_positives; i++) {
        if (io->positives[i] >= io->n) {
            return rv__fail(ctx, RV_ERR_ARG, i, "positives[%z] is %z; it must be below n, %z", i,
                            (size_t)io->positives[i], io->n);
        }
    }
    if (kind == RV_NEGATIVES_DEGREE && io->n && !io->degrees) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "degrees is NULL; DEGREE needs it");
    }
    if (kind == RV_NEGATIVES_SEMI_HARD && io->n_positives == 0) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "n_positives is 0; SEMI_HARD needs 1 or more");
    }
    if (!rv_negatives_kind_at((size_t)kind)->vectors) return RV_OK;
    if (kind == RV_NEGATIVES_DISTANCE_WEIGHTED && io->dim < 2) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "dim is %z; DISTANCE_WEIGHTED needs 2 or more",
                        io->dim);
    }
    status = rv__loss_check_size(ctx, io->n, io->dim);
    if (!status) status = rv__loss_check(ctx, "anchor", io->anchor, io->dim);
    if (!status) status = rv__loss_check(ctx, "candidates", io->candidates, io->n * io->dim);
    return status;
}

/* Scratch, all in one block: list, key, index, taken. */
static void rv__negatives_begin(rv__negatives *s, uint32_t *block, size_t k, uint64_t seed)
{
    const size_t n = s->io->n;
    s->list = block;
    s->key = (float *)(void *)(block + n);
    s->index = block + 2 * n;
    s->taken = (unsigned char *)(block + 2 * n + k);
    s->n_list = 0;
    memset(s->taken, 0, n);
    rv__rng_init(&s->rng, seed);
    for (size_t i = 0; i < s->io->n_positives; i++) s->taken[s->io->positives[i]] = 1;
    for (size_t i = 0; i < n; i++) {
        if (!s->taken[i]) s->list[s->n_list++] = (uint32_t)i;
    }
    s->k = k < s->n_list ? k : s->n_list;
}

RV_API rv_status rv_negatives_select(rv_ctx *ctx, const rv_negatives_config *config,
                                     const rv_negatives_io *io, size_t k, uint32_t *ids,
                                     size_t *n_ids)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__negatives s;
    uint32_t *block;
    size_t bytes;
    rv_status status = rv__negatives_resolve(ctx, config, &s.c);
    if (!status && (!io || !n_ids)) status = rv__fail(ctx, RV_ERR_ARG, 0, "io or n_ids is NULL");
    if (!status) status = rv__negatives_check(ctx, io, s.c.kind);
    if (!status && k && !ids) status = rv__fail(ctx, RV_ERR_ARG, 0, "ids is NULL");
    if (status) return status;
    if (k > io->n) k = io->n;
    bytes = rv__add(rv__mul(io->n, 9), rv__mul(k, 4));
    block = (uint32_t *)rv__get(&alloc, bytes, 1);
    if (!block) return rv__no_memory(ctx, bytes);
    s.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    s.io = io;
    rv__negatives_begin(&s, block, k, rv__seed(ctx));
    status = rv__negatives_kinds[s.c.kind].run(ctx, &s);
    if (!status) {
        if (s.k) memcpy(ids, s.list, s.k * sizeof *ids);
        *n_ids = s.k;
    }
    rv__put(&alloc, block, bytes, 1);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_negatives_in_batch(rv_ctx *ctx, size_t batch, size_t anchor, size_t positive,
                                       int keep_positive, uint32_t *ids, size_t *n_ids)
{
    size_t count = 0;
    if (batch > UINT32_MAX || anchor >= batch || positive >= batch) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "anchor %z and positive %z must be below batch, %z, and that below 2^32",
                        anchor, positive, batch);
    }
    if (!n_ids || (batch > 1 && !ids)) return rv__fail(ctx, RV_ERR_ARG, 0, "ids or n_ids is NULL");
    for (size_t i = 0; i < batch; i++) {
        if (i != anchor && (keep_positive || i != positive)) ids[count++] = (uint32_t)i;
    }
    *n_ids = count;
    return rv__ok(ctx);
}

#undef RV__NEGATIVES_POLL

#endif /* RV_NEGATIVES_C */
