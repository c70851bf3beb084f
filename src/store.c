#ifndef RV_STORE_C
#define RV_STORE_C
#include "store.h"
#include "base.c"
#include "simd.c"
#include "half.c"
#include "distance.c"
#include "image.c"

/* Rows, keys and the map between them, private to the indexes.

   A row has a slot, a number below n that stays the same until compact. Slots of removed rows are
   used again, the lowest first. While keys are 0..n-1 in slot order ("identity") neither
   keys nor map exist. Otherwise the map is open addressing over slots, linear probing, a power of
   two of places, at most three quarters full; erasing shifts entries back, so there are no marks of
   the dead.

   Rows are packed elements of the type at a fixed stride (see rv__store_stride), spare bytes zero.
   Under cosine they are stored at unit length with the length beside them, so that a distance is
   one dot product; a zero vector stays zero. Lengths are summed in double.

   In an image: SPAR u32[8] = dim, type, metric, stride, n, removed rows, flags (1: no rows, 2:
   keys), 0; then, when n > 0: ROWS n * stride bytes in elements of the type (I8, U1: bytes, the
   scale of an I8 row little-endian), NORM f32[n] with cosine, KEYS u64[n] with flag 2 (a removed
   row's key has no meaning), GONE u64[(n + 63) / 64] with removed rows: bit slot % 64 of word
   slot / 64. */

#define RV__NO_SLOT 0xFFFFFFFFu
#define RV__STORE_MAX 0xFFFFFFFEu /* most slots */
#define RV__STORE_DIM_MAX 65535u
#define RV__STORE_PIECE 4096u /* keys handled between two polls */

typedef struct rv__store {
    rv_alloc alloc;
    uint32_t dim;
    rv_dtype type;
    rv_metric metric;
    rv_custom_fn custom;
    void *custom_user;
    size_t stride; /* bytes per row                                                     */
    uint32_t n;    /* slots in use, removed ones included                               */
    uint32_t n_removed, capacity;
    uint32_t hint;        /* no removed slot lies below                                        */
    int no_rows;          /* rows are not kept                                                 */
    uint32_t n_held;      /* set by the index: removed slots that must not be taken yet, ...   */
    const uint64_t *held; /* ... a bit per slot, all of them below capacity; NULL: none       */
    int viewed;           /* all arrays but the map belong to an image: read-only              */
    unsigned char *rows;  /* [capacity * stride] or NULL                                       */
    float *norms;         /* [capacity], length of the original vectors; cosine only           */
    uint64_t *keys;       /* [capacity], NULL in identity                                      */
    uint64_t *removed;    /* [(capacity + 63) / 64], a bit per slot, 0 from n on; NULL: none   */
    uint32_t *map;        /* [map_size], slots or RV__NO_SLOT; NULL in identity                */
    size_t map_size;
} rv__store;

typedef struct rv__store_spec {
    uint32_t dim;
    rv_metric metric;
    rv_dtype type;
    rv_custom_fn custom;
    void *custom_user;
    size_t capacity;
    int no_rows;
} rv__store_spec;

/* ---- filters ---- */

RV__FN int rv__filter_pass(const rv_filter *f, uint64_t key)
{
    if (!f) return 1;
    if (f->bits) {
        if (key >= f->n_bits) return 0;
        if (!((unsigned)f->bits[(size_t)(key / 8)] >> (key % 8) & 1u)) return 0;
    }
    return !f->accept || f->accept(f->user, key) != 0;
}

/* A filter that may refuse something, or NULL. */
RV__FN const rv_filter *rv__filter_of(const rv_filter *f)
{
    return f && (f->accept || f->bits) ? f : NULL;
}

RV__FN rv_status rv__filter_check(rv_ctx *ctx, const rv_filter *f)
{
    double share = f ? f->selectivity : 0.0;
    if (rv__finite_f32((float)share) && share >= 0.0 && share <= 1.0) return RV_OK;
    return rv__fail(ctx, RV_ERR_ARG, 0, "filter: selectivity is %f, must be 0..1", share);
}

/* ---- sizes ---- */

RV__FN size_t rv__store_vector_bytes(const rv__store *s)
{
    return s->type == RV_DTYPE_U1 ? ((size_t)s->dim + 7) / 8 : (size_t)s->dim * sizeof(float);
}

/* Rows of 64 bytes and more start on cache lines where padding to 64 costs less than 7 %, else on
   32 or 16 bytes under the same condition; all others are packed to 4 bytes. */
RV__FN size_t rv__store_stride(rv_dtype type, uint32_t dim)
{
    size_t bytes = rv_dtype_bytes(type, dim);
    for (size_t step = bytes >= 64 ? 64 : 4; step > 4; step /= 2) {
        size_t padded = (bytes + step - 1) / step * step;
        if (step >= 16 && (padded - bytes) * 100 < bytes * 7) return padded;
    }
    return (bytes + 3) / 4 * 4;
}

static size_t rv__store_words(size_t capacity)
{
    return (capacity + 63) / 64;
}

static size_t rv__store_map_size(size_t capacity)
{
    size_t size = 8;
    while (size - size / 4 < capacity) {
        if (size > SIZE_MAX / 2) return SIZE_MAX;
        size *= 2;
    }
    return size;
}

/* ---- blocks: all arrays of one capacity, got and given back together ---- */

typedef struct rv__store_blocks {
    unsigned char *rows;
    float *norms;
    uint64_t *keys, *removed;
    uint32_t *map;
    size_t map_size;
} rv__store_blocks;

static void rv__store_blocks_put(const rv__store *s, rv__store_blocks *b, size_t capacity)
{
    rv__put(&s->alloc, b->rows, capacity, s->stride);
    rv__put(&s->alloc, b->norms, capacity, sizeof(float));
    rv__put(&s->alloc, b->keys, capacity, sizeof(uint64_t));
    rv__put(&s->alloc, b->removed, rv__store_words(capacity), sizeof(uint64_t));
    rv__put(&s->alloc, b->map, b->map_size, sizeof(uint32_t));
    memset(b, 0, sizeof *b);
}

/* The arrays a store of this shape needs; the map is empty, removed bits are 0. */
static rv_status rv__store_blocks_get(rv_ctx *ctx, const rv__store *s, size_t capacity, int keyed,
                                      int holes, rv__store_blocks *b)
{
    size_t wanted = 0;
    rv_status status;
    int ok = 1;
    memset(b, 0, sizeof *b);
    if (capacity == 0) return RV_OK;
    if (!s->no_rows) {
        wanted = rv__mul(capacity, s->stride);
        b->rows = (unsigned char *)rv__get(&s->alloc, capacity, s->stride);
        ok = b->rows != NULL;
    }
    if (ok && s->metric == RV_METRIC_COSINE) {
        wanted = capacity * sizeof(float);
        b->norms = (float *)rv__get(&s->alloc, capacity, sizeof(float));
        ok = b->norms != NULL;
    }
    if (ok && keyed) {
        wanted = rv__mul(capacity, sizeof(uint64_t));
        b->keys = (uint64_t *)rv__get(&s->alloc, capacity, sizeof(uint64_t));
        b->map_size = rv__store_map_size(capacity);
        b->map = b->keys ? (uint32_t *)rv__get(&s->alloc, b->map_size, sizeof(uint32_t)) : NULL;
        ok = b->map != NULL;
    }
    if (ok && holes) {
        wanted = capacity / 8;
        b->removed = (uint64_t *)rv__get(&s->alloc, rv__store_words(capacity), sizeof(uint64_t));
        ok = b->removed != NULL;
    }
    status = ok ? RV_OK : rv__no_memory(ctx, wanted);
    if (!status && b->map) {
        status = rv__fill_polled(ctx, b->map, 0xFF, b->map_size * sizeof(uint32_t));
    }
    if (!status && b->removed) {
        status = rv__fill_polled(ctx, b->removed, 0, rv__store_words(capacity) * sizeof(uint64_t));
    }
    if (status) rv__store_blocks_put(s, b, capacity);
    return status;
}

/* Puts blocks in place of the ones the store has, which are for others to give back. */
static void rv__store_adopt(rv__store *s, const rv__store_blocks *b, size_t capacity)
{
    s->rows = b->rows;
    s->norms = b->norms;
    s->keys = b->keys;
    s->removed = b->removed;
    s->map = b->map;
    s->map_size = b->map_size;
    s->capacity = (uint32_t)capacity;
}

/* Gives back the arrays of s that `keep` does not share. */
static void rv__store_drop(const rv__store *s, const rv__store *keep)
{
    rv__store_blocks b;
    b.rows = s->rows == keep->rows ? NULL : s->rows;
    b.norms = s->norms == keep->norms ? NULL : s->norms;
    b.keys = s->keys == keep->keys ? NULL : s->keys;
    b.removed = s->removed == keep->removed ? NULL : s->removed;
    b.map = s->map == keep->map ? NULL : s->map;
    b.map_size = s->map_size;
    rv__store_blocks_put(s, &b, s->capacity);
}

/* A store made by rv__store_compacted takes the place of the one it was made from. */
RV__FN void rv__store_swap(rv__store *s, const rv__store *with)
{
    rv__store_drop(s, with);
    *s = *with;
}

/* ... or is given up. */
RV__FN void rv__store_discard(const rv__store *s, rv__store *made)
{
    rv__store_drop(made, s);
    *made = *s;
}

RV__FN void rv__store_free(rv__store *s)
{
    rv__store_blocks none;
    rv__store empty;
    memset(&none, 0, sizeof none);
    memset(&empty, 0, sizeof empty);
    if (s->viewed) {
        rv__put(&s->alloc, s->map, s->map_size, sizeof(uint32_t));
        s->rows = NULL;
        s->norms = NULL;
        s->keys = s->removed = NULL;
        s->map = NULL;
        s->viewed = 0;
    }
    rv__store_drop(s, &empty);
    rv__store_adopt(s, &none, 0);
    s->n = s->n_removed = s->hint = 0;
}

/* Bytes of the arrays, also of those that lie in an image: rows with their lengths, and what keys
   need. */
RV__FN void rv__store_measure(const rv__store *s, size_t *vectors, size_t *keys)
{
    *vectors = s->rows ? (size_t)s->capacity * s->stride : 0;
    if (s->norms) *vectors += (size_t)s->capacity * sizeof(float);
    *keys = s->map ? s->map_size * sizeof(uint32_t) : 0;
    if (s->keys) *keys += (size_t)s->capacity * sizeof(uint64_t);
    if (s->removed) *keys += rv__store_words(s->capacity) * sizeof(uint64_t);
}

/* Bytes that the store itself holds. */
RV__FN size_t rv__store_bytes(const rv__store *s)
{
    size_t vectors, keys;
    if (s->viewed) return s->map ? s->map_size * sizeof(uint32_t) : 0;
    rv__store_measure(s, &vectors, &keys);
    return vectors + keys;
}

/* ---- making ---- */

static rv_status rv__store_check_spec(rv_ctx *ctx, const rv__store_spec *spec)
{
    if (spec->dim < 1 || spec->dim > RV__STORE_DIM_MAX) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "dim is %l, it must be 1..65535",
                        (uint64_t)spec->dim);
    }
    if ((unsigned)spec->metric > (unsigned)RV_METRIC_CUSTOM) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "metric is %d, it must be 0..7", (int)spec->metric);
    }
    if ((unsigned)spec->type > (unsigned)RV_DTYPE_U1) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "type is %d (%s), f32, f16, bf16, i8 and u1 are stored", (int)spec->type,
                        rv_dtype_name(spec->type));
    }
    if ((spec->metric == RV_METRIC_CUSTOM) != (spec->custom != NULL)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "custom must be given with RV_METRIC_CUSTOM and only then");
    }
    if (spec->metric != RV_METRIC_CUSTOM && !rv_metric_has(spec->metric, spec->type)) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "metric %s has no meaning for type %s",
                        rv_metric_name(spec->metric), rv_dtype_name(spec->type));
    }
    if (spec->capacity > RV__STORE_MAX) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "capacity is %z, it must be below 2^32 - 1",
                        spec->capacity);
    }
    return RV_OK;
}

/* An empty store with room for spec->capacity rows. On failure there is nothing to free. */
RV__FN rv_status rv__store_init(rv_ctx *ctx, rv__store *s, const rv__store_spec *spec)
{
    rv__store_blocks b;
    rv_status status = rv__store_check_spec(ctx, spec);
    memset(s, 0, sizeof *s);
    if (status) return status;
    s->alloc = rv__allocator(ctx);
    s->dim = spec->dim;
    s->type = spec->type;
    s->metric = spec->metric;
    s->custom = spec->custom;
    s->custom_user = spec->custom_user;
    s->no_rows = spec->no_rows != 0;
    s->stride = rv__store_stride(spec->type, spec->dim);
    status = rv__store_blocks_get(ctx, s, spec->capacity, 0, 0, &b);
    if (status == RV_OK) rv__store_adopt(s, &b, spec->capacity);
    return status;
}

RV__FN rv_status rv__store_writable(rv_ctx *ctx, const rv__store *s)
{
    if (!s->viewed) return RV_OK;
    return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                    "this index is a view of an image: it cannot be changed");
}

/* ---- keys ---- */

RV__FN int rv__store_live(const rv__store *s, uint32_t slot)
{
    return slot < s->n && !(s->removed && s->removed[slot / 64] >> (slot % 64) & 1u);
}

RV__FN uint64_t rv__store_key(const rv__store *s, uint32_t slot)
{
    return s->keys ? s->keys[slot] : slot;
}

/* The place of a key in a map over keys: where it is, or the empty place where it would be. */
static size_t rv__store_place(const uint32_t *map, size_t map_size, const uint64_t *keys,
                              uint64_t key)
{
    size_t mask = map_size - 1, at = (size_t)rv__mix(key) & mask;
    while (map[at] != RV__NO_SLOT && keys[map[at]] != key) at = (at + 1) & mask;
    return at;
}

RV__FN uint32_t rv__store_find(const rv__store *s, uint64_t key)
{
    if (s->keys) return s->map[rv__store_place(s->map, s->map_size, s->keys, key)];
    return key < s->n && rv__store_live(s, (uint32_t)key) ? (uint32_t)key : RV__NO_SLOT;
}

/* The same for a key that must be there. */
RV__FN rv_status rv__store_require(rv_ctx *ctx, const rv__store *s, uint64_t key, uint32_t *slot)
{
    *slot = rv__store_find(s, key);
    if (*slot == RV__NO_SLOT) return rv__fail(ctx, RV_ERR_NOT_FOUND, 0, "there is no key %l", key);
    return RV_OK;
}

/* Takes a key that is present out of the map. Later entries of the run move back over the gap when
   their home does not lie behind it. */
static void rv__store_erase(rv__store *s, uint64_t key)
{
    size_t mask = s->map_size - 1, gap = rv__store_place(s->map, s->map_size, s->keys, key);
    for (size_t at = (gap + 1) & mask; s->map[at] != RV__NO_SLOT; at = (at + 1) & mask) {
        size_t home = (size_t)rv__mix(s->keys[s->map[at]]) & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            s->map[gap] = s->map[at];
            gap = at;
        }
    }
    s->map[gap] = RV__NO_SLOT;
}

/* Enters all live slots of n into an empty map. RV_ERR_EXISTS when a key appears twice. */
static rv_status rv__store_fill_map(rv_ctx *ctx, uint32_t *map, size_t map_size,
                                    const uint64_t *keys, const uint64_t *removed, uint32_t n)
{
    for (uint32_t slot = 0; slot < n; slot++) {
        size_t place;
        if (slot % RV__STORE_PIECE == 0) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
        if (removed && removed[slot / 64] >> (slot % 64) & 1u) continue;
        place = rv__store_place(map, map_size, keys, keys[slot]);
        if (map[place] != RV__NO_SLOT) {
            return rv__fail(ctx, RV_ERR_EXISTS, slot, "key %l appears twice", keys[slot]);
        }
        map[place] = slot;
    }
    return RV_OK;
}

/* Leaves identity: from here on every slot has a key of its own. */
static rv_status rv__store_keyed(rv_ctx *ctx, rv__store *s)
{
    size_t map_size = rv__store_map_size(s->capacity);
    uint64_t *keys;
    uint32_t *map;
    rv_status status;
    if (s->keys) return RV_OK;
    keys = (uint64_t *)rv__get(&s->alloc, s->capacity, sizeof(uint64_t));
    map = keys ? (uint32_t *)rv__get(&s->alloc, map_size, sizeof(uint32_t)) : NULL;
    if (!map) {
        rv__put(&s->alloc, keys, s->capacity, sizeof(uint64_t));
        return rv__no_memory(ctx, rv__mul(s->capacity, sizeof(uint64_t)));
    }
    status = rv__fill_polled(ctx, map, 0xFF, map_size * sizeof(uint32_t));
    for (uint32_t slot = 0; slot < s->n && !status; slot++) {
        if (slot % RV__STORE_PIECE == 0) status = rv__poll(ctx);
        keys[slot] = slot;
    }
    if (!status) status = rv__store_fill_map(ctx, map, map_size, keys, s->removed, s->n);
    if (status) {
        rv__put(&s->alloc, keys, s->capacity, sizeof(uint64_t));
        rv__put(&s->alloc, map, map_size, sizeof(uint32_t));
        return status;
    }
    s->keys = keys;
    s->map = map;
    s->map_size = map_size;
    return RV_OK;
}

/* Rows handled between two polls when one costs so many bytes or numbers: a few ms also where
   memory is touched for the first time. */
static size_t rv__store_section(size_t work)
{
    return 1 + 2 * RV__PIECE / (work + 256);
}

/* Rows of a piece of work out of such a section. */
static size_t rv__store_grain(size_t section)
{
    return section < 64 ? section : 64;
}

/* ---- moving rows ---- */

typedef struct rv__store_move_job {
    const rv__store *s;
    rv__store_blocks *b;
    const uint32_t *old_of_new; /* NULL: the same slots */
} rv__store_move_job;

static void rv__store_move_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__store_move_job *job = (const rv__store_move_job *)arg;
    const rv__store *s = job->s;
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        size_t old = job->old_of_new ? job->old_of_new[i] : i;
        if (job->b->rows)
            memcpy(job->b->rows + i * s->stride, s->rows + old * s->stride, s->stride);
        if (job->b->norms) job->b->norms[i] = s->norms[old];
        if (job->b->keys) job->b->keys[i] = rv__store_key(s, (uint32_t)old);
    }
}

/* A store with n slots of s in arrays of its own; holes: removed ones with them, then old_of_new is
   NULL. On failure there is nothing to free. */
static rv_status rv__store_moved(rv_ctx *ctx, const rv__store *s, size_t capacity, size_t n,
                                 const uint32_t *old_of_new, int keyed, int holes, rv__store *to)
{
    const size_t section = rv__store_section(s->stride);
    rv__store_move_job job;
    rv__store_blocks b;
    rv_status status = rv__store_blocks_get(ctx, s, capacity, keyed, holes, &b);
    if (status) return status;
    job.s = s;
    job.b = &b;
    job.old_of_new = old_of_new;
    status = rv__parallel_for(ctx, n, rv__store_grain(section), section, rv__store_move_rows, &job);
    if (!status && b.removed) {
        status = rv__copy_polled(ctx, b.removed, s->removed, rv__store_words(n) * sizeof(uint64_t));
    }
    if (!status && b.keys) {
        status = rv__store_fill_map(ctx, b.map, b.map_size, b.keys, b.removed, (uint32_t)n);
    }
    if (status) {
        rv__store_blocks_put(s, &b, capacity);
        return status;
    }
    *to = *s;
    rv__store_adopt(to, &b, capacity);
    to->n = (uint32_t)n;
    to->hint = 0;
    if (!holes) to->n_removed = 0;
    return RV_OK;
}

/* Room for capacity rows in all, removed ones included. */
RV__FN rv_status rv__store_reserve(rv_ctx *ctx, rv__store *s, size_t capacity)
{
    rv__store to;
    rv_status status = rv__store_writable(ctx, s);
    if (status) return status;
    if (capacity > RV__STORE_MAX) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "capacity is %z, it must be below 2^32 - 1", capacity);
    }
    if (capacity <= s->capacity) return RV_OK;
    status =
        rv__store_moved(ctx, s, capacity, s->n, NULL, s->keys != NULL, s->removed != NULL, &to);
    if (!status) rv__store_swap(s, &to);
    return status;
}

/* Room for more rows behind the last one; grows by half. */
RV__FN rv_status rv__store_grow(rv_ctx *ctx, rv__store *s, size_t more)
{
    size_t need, half = (size_t)s->capacity + s->capacity / 2;
    if (more > RV__STORE_MAX - s->n) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "%l rows and %z more exceed 2^32 - 2", (uint64_t)s->n,
                        more);
    }
    need = s->n + more;
    if (need <= s->capacity) return RV_OK;
    if (half > RV__STORE_MAX) half = RV__STORE_MAX;
    if (s->capacity && half > need) need = half;
    return rv__store_reserve(ctx, s, need < 16 ? 16 : need);
}

/* The live slots of s in order, and the new slot of each old one or RV__NO_SLOT (either may be
   NULL); *keyed becomes 1 when a slot changes. */
static rv_status rv__store_number(rv_ctx *ctx, const rv__store *s, uint32_t *old_of_new,
                                  uint32_t *new_slot, int *keyed)
{
    uint32_t at = 0;
    for (uint32_t slot = 0; slot < s->n; slot++) {
        const int live = rv__store_live(s, slot);
        rv_status status = slot % RV__STORE_PIECE ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (new_slot) new_slot[slot] = live ? at : RV__NO_SLOT;
        if (!live) continue;
        if (slot != at) *keyed = 1;
        if (old_of_new) old_of_new[at] = slot;
        at++;
    }
    return RV_OK;
}

/* The live rows in the same order, in arrays of their own of that capacity. new_slot: see
   rv__store_compacted. */
static rv_status rv__store_taken(rv_ctx *ctx, const rv__store *s, size_t capacity,
                                 uint32_t *new_slot, rv__store *to)
{
    const uint32_t live = s->n - s->n_removed;
    uint32_t *old_of_new = NULL;
    int keyed = s->keys != NULL;
    rv_status status = RV_OK;
    if (s->n_removed) {
        old_of_new = (uint32_t *)rv__get(&s->alloc, live, sizeof(uint32_t));
        if (!old_of_new) return rv__no_memory(ctx, (size_t)live * sizeof(uint32_t));
    }
    if (old_of_new || new_slot) status = rv__store_number(ctx, s, old_of_new, new_slot, &keyed);
    if (!status) status = rv__store_moved(ctx, s, capacity, live, old_of_new, keyed, 0, to);
    rv__put(&s->alloc, old_of_new, live, sizeof(uint32_t));
    return status;
}

/* The rows that are not removed in arrays of their own with room for more. */
RV__FN rv_status rv__store_copied(rv_ctx *ctx, const rv__store *s, size_t more, rv__store *to)
{
    const size_t wanted = rv__add(s->n - s->n_removed, more);
    rv_status status =
        rv__store_taken(ctx, s, wanted < s->capacity ? s->capacity : wanted, NULL, to);
    if (status) return status;
    to->held = NULL; /* those belong to a graph */
    to->n_held = 0;
    return RV_OK;
}

/* A store without the gaps of removed rows and without spare room, rows in the same order. It
   shares the arrays of s when there is nothing to close; it is taken by rv__store_swap or given up
   by rv__store_discard. new_slot: [n], the new slot of each old one or RV__NO_SLOT; may be NULL. */
RV__FN rv_status rv__store_compacted(rv_ctx *ctx, const rv__store *s, uint32_t *new_slot,
                                     rv__store *to)
{
    rv_status status = rv__store_writable(ctx, s);
    int keyed = 0; /* nothing moves, so it does not matter */
    if (status) return status;
    *to = *s;
    if (s->n_removed || s->capacity != s->n || s->removed)
        return rv__store_taken(ctx, s, s->n - s->n_removed, new_slot, to);
    return new_slot ? rv__store_number(ctx, s, NULL, new_slot, &keyed) : RV_OK;
}

/* Closes the gaps of removed rows in place. */
RV__FN rv_status rv__store_compact(rv_ctx *ctx, rv__store *s, uint32_t *new_slot)
{
    rv__store to;
    rv_status status = rv__store_compacted(ctx, s, new_slot, &to);
    if (!status) rv__store_swap(s, &to);
    return status;
}

/* Gives the rows up; distances, decode and prepare_row are gone. */
RV__FN void rv__store_drop_rows(rv__store *s)
{
    if (!s->viewed) rv__put(&s->alloc, s->rows, s->capacity, s->stride);
    s->rows = NULL;
    s->no_rows = 1;
}

/* ---- checking vectors ---- */

static uint32_t rv__store_bits(const unsigned char *p, size_t i)
{
    uint32_t bits;
    memcpy(&bits, p + i * sizeof bits, sizeof bits);
    return bits & 0x7FFFFFFFu;
}

static double rv__store_f64(const unsigned char *p, size_t i)
{
    float x;
    memcpy(&x, p + i * sizeof x, sizeof x);
    return (double)x;
}

/* Bits of the largest magnitude; NaN and infinity are above every number. */
static uint32_t rv__store_peak(const unsigned char *p, size_t n)
{
    return rv__kernels_now()->peak_f32((const float *)(const void *)p, n);
}

static double rv__store_length(const unsigned char *p, size_t n)
{
    double a = 0, b = 0, c = 0, d = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        double w = rv__store_f64(p, i), x = rv__store_f64(p, i + 1);
        double y = rv__store_f64(p, i + 2), z = rv__store_f64(p, i + 3);
        a += w * w;
        b += x * x;
        c += y * y;
        d += z * z;
    }
    for (; i < n; i++) {
        double w = rv__store_f64(p, i);
        a += w * w;
    }
    return sqrt((a + b) + (c + d));
}

/* Largest magnitude an element may have so that the type keeps it finite. */
static uint32_t rv__store_limit(const rv__store *s, int storing)
{
    if (storing && !s->no_rows && s->metric != RV_METRIC_COSINE) {
        if (s->type == RV_DTYPE_F16) return 0x477FEFFFu;  /* 65520 rounds to infinity          */
        if (s->type == RV_DTYPE_BF16) return 0x7F7F7FFFu; /* and so does 2^128 - 2^119         */
    }
    return 0x7F7FFFFFu;
}

/* Cosine keeps lengths as floats: FLT_MAX / 256 = 2^120 and below cannot overflow for 65535
   terms. */
static int rv__store_too_long(const rv__store *s, const unsigned char *p, uint32_t peak)
{
    return s->metric == RV_METRIC_COSINE && peak >= 0x7B800000u &&
           rv__store_length(p, s->dim) > 3.4028234663852886e38;
}

static int rv__store_acceptable(const rv__store *s, const unsigned char *p, int storing)
{
    uint32_t peak;
    if (s->type == RV_DTYPE_U1) return 1;
    peak = rv__store_peak(p, s->dim);
    return peak <= rv__store_limit(s, storing) && !rv__store_too_long(s, p, peak);
}

/* The sentence for a vector that is not acceptable; base is added to the element index. */
static rv_status rv__store_refuse(rv_ctx *ctx, const rv__store *s, const unsigned char *p,
                                  int storing, size_t base, const char *what)
{
    for (size_t i = 0; i < s->dim; i++) {
        uint32_t bits = rv__store_bits(p, i);
        if (bits <= rv__store_limit(s, storing)) continue;
        if (bits >= 0x7F800000u) {
            return rv__fail(ctx, RV_ERR_ARG, base + i, "%s: element %z is %s", what, base + i,
                            bits == 0x7F800000u ? "infinite" : "NaN");
        }
        return rv__fail(ctx, RV_ERR_ARG, base + i, "%s: element %z is %f, beyond the range of %s",
                        what, base + i, rv__store_f64(p, i), rv_dtype_name(s->type));
    }
    return rv__fail(ctx, RV_ERR_ARG, base, "%s: its length is beyond the range of a float", what);
}

static rv_status rv__store_check_as(rv_ctx *ctx, const rv__store *s, const void *vec,
                                    const char *what, int storing)
{
    const unsigned char *p = (const unsigned char *)vec;
    if (!p) return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
    if (rv__store_acceptable(s, p, storing)) return RV_OK;
    return rv__store_refuse(ctx, s, p, storing, 0, what);
}

/* For a query: NULL, NaN and infinity (and under cosine a length beyond a float) are RV_ERR_ARG
   with the element in ctx->where. add, replace and append check what they are given themselves. */
RV__FN rv_status rv__store_check(rv_ctx *ctx, const rv__store *s, const void *vec, const char *what)
{
    return rv__store_check_as(ctx, s, vec, what, 0);
}

/* The same for n packed vectors; ctx->where counts from the first one. Polls. */
RV__FN rv_status rv__store_check_many(rv_ctx *ctx, const rv__store *s, const void *vecs, size_t n,
                                      const char *what)
{
    size_t bytes = rv__store_vector_bytes(s), every = 1 + ((size_t)1 << 20) / s->dim;
    const unsigned char *p = (const unsigned char *)vecs;
    if (!p) return rv__fail(ctx, RV_ERR_ARG, 0, "%s is NULL", what);
    for (size_t i = 0; i < n; i++, p += bytes) {
        rv_status status = i % every == 0 ? rv__poll(ctx) : RV_OK;
        if (!status && !rv__store_acceptable(s, p, 0)) {
            status = rv__store_refuse(ctx, s, p, 0, i * s->dim, what);
        }
        if (status) return status;
    }
    return RV_OK;
}

/* ---- encoding and decoding ---- */

#define RV__STORE_CHUNK                                                                            \
    64 /* floats converted on the stack at a time, because the caller's may lie
                              at any address */

/* out[i] = x[i] * factor; x at any address. */
static void rv__store_chunk(const unsigned char *p, double factor, float *out, size_t n)
{
    if (factor == 1.0) {
        memcpy(out, p, n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = (float)(rv__store_f64(p, i) * factor);
}

/* The value is scale * code with scale = peak / 127: the largest element meets code 127.
   Products are taken in double, so that denormal vectors neither overflow nor lose their codes. */
static void rv__store_encode_i8(const rv__store *s, unsigned char *row, const unsigned char *p,
                                double inv)
{
    uint32_t bits = rv__store_peak(p, s->dim);
    int8_t *codes = (int8_t *)(void *)(row + sizeof(float));
    float peak, scale, chunk[RV__STORE_CHUNK];
    memcpy(&peak, &bits, sizeof peak);
    scale = (float)((double)peak * inv / 127.0);
    memcpy(row, &scale, sizeof scale);
    if (!(scale > 0)) {
        memset(codes, 0, s->dim);
        return;
    }
    for (size_t i = 0; i < s->dim; i += RV__STORE_CHUNK) {
        size_t n = s->dim - i < RV__STORE_CHUNK ? s->dim - i : RV__STORE_CHUNK;
        rv__store_chunk(p + i * sizeof(float), 127.0 / (double)peak, chunk, n);
        rv_convert_f32_to_i8(chunk, 1.0f, codes + i, n);
    }
}

static void rv__store_copy_bits(const rv__store *s, unsigned char *out, const unsigned char *p)
{
    size_t bytes = ((size_t)s->dim + 7) / 8;
    memcpy(out, p, bytes);
    if (s->dim % 8) out[bytes - 1] = (unsigned char)(out[bytes - 1] & ((1u << (s->dim % 8)) - 1u));
}

static void rv__store_encode(rv__store *s, size_t slot, const unsigned char *p)
{
    size_t bytes = rv_dtype_bytes(s->type, s->dim), elem = rv_dtype_bytes(s->type, 1);
    unsigned char *row = s->rows ? s->rows + slot * s->stride : NULL;
    float chunk[RV__STORE_CHUNK];
    double inv = 1.0;
    if (s->norms) {
        double length = rv__store_length(p, s->dim);
        s->norms[slot] = (float)length;
        inv = length > 0 ? 1.0 / length : 1.0;
    }
    if (!row) return;
    memset(row + bytes, 0, s->stride - bytes);
    if (s->type == RV_DTYPE_U1) {
        rv__store_copy_bits(s, row, p);
        return;
    }
    if (s->type == RV_DTYPE_I8) {
        rv__store_encode_i8(s, row, p, inv);
        return;
    }
    for (size_t i = 0; i < s->dim; i += RV__STORE_CHUNK) {
        size_t n = s->dim - i < RV__STORE_CHUNK ? s->dim - i : RV__STORE_CHUNK;
        void *to = row + i * elem;
        rv__store_chunk(p + i * sizeof(float), inv, chunk, n);
        if (s->type == RV_DTYPE_F32) memcpy(to, chunk, n * sizeof(float));
        else if (s->type == RV_DTYPE_F16) rv_convert_f32_to_f16(chunk, (uint16_t *)to, n);
        else rv_convert_f32_to_bf16(chunk, (uint16_t *)to, n);
    }
}

/* A row as floats or bits at any address, times factor (not bits). */
static void rv__store_unpack(const rv__store *s, size_t slot, double factor, void *out)
{
    const unsigned char *row = s->rows + slot * s->stride;
    unsigned char *to = (unsigned char *)out;
    float chunk[RV__STORE_CHUNK], scale = 0.0f;
    if (s->type == RV_DTYPE_U1 || (s->type == RV_DTYPE_F32 && factor == 1.0)) {
        memcpy(out, row, rv__store_vector_bytes(s));
        return;
    }
    memcpy(&scale, row, sizeof scale); /* of an I8 row */
    for (size_t i = 0; i < s->dim; i += RV__STORE_CHUNK) {
        size_t n = s->dim - i < RV__STORE_CHUNK ? s->dim - i : RV__STORE_CHUNK;
        const void *half = row + i * sizeof(uint16_t);
        const void *codes = row + sizeof scale + i;
        if (s->type == RV_DTYPE_F16) rv_convert_f16_to_f32((const uint16_t *)half, chunk, n);
        else if (s->type == RV_DTYPE_BF16) rv_convert_bf16_to_f32((const uint16_t *)half, chunk, n);
        else if (s->type == RV_DTYPE_I8)
            rv_convert_i8_to_f32((const int8_t *)codes, scale, chunk, n);
        else memcpy(chunk, row + i * sizeof(float), n * sizeof(float));
        for (size_t k = 0; factor != 1.0 && k < n; k++)
            chunk[k] = (float)((double)chunk[k] * factor);
        memcpy(to + i * sizeof(float), chunk, n * sizeof(float));
    }
}

/* The vector in the caller's form: float[dim], or bits for U1, at any address. Needs the rows. */
RV__FN void rv__store_decode(const rv__store *s, uint32_t slot, void *out)
{
    rv__store_unpack(s, slot, s->norms ? (double)s->norms[slot] : 1.0, out);
}

/* ---- changing ---- */

static int rv__store_free_slot(const rv__store *s, uint32_t slot)
{
    uint64_t bit = (uint64_t)1 << (slot % 64);
    return s->removed && (s->removed[slot / 64] & bit) &&
           !(s->n_held && (s->held[slot / 64] & bit));
}

/* The slot that add takes for a key that is not present: the lowest removed one that is not held
   (in identity, the one of this key if it can be had), else slot n. */
RV__FN uint32_t rv__store_next(const rv__store *s, uint64_t key)
{
    size_t word = s->hint / 64;
    uint32_t bit = 0;
    if (s->n_removed == s->n_held) return s->n;
    if (!s->keys && key < s->n && rv__store_free_slot(s, (uint32_t)key)) return (uint32_t)key;
    for (;; word++) {
        uint64_t bits = s->removed[word] & ~(s->n_held ? s->held[word] : 0);
        if (!bits) continue;
        while (!(bits >> bit & 1u)) bit++;
        return (uint32_t)(word * 64 + bit);
    }
}

RV__FN rv_status rv__store_exists(rv_ctx *ctx, uint64_t key)
{
    return rv__fail(ctx, RV_ERR_EXISTS, 0, "key %l is present already", key);
}

/* Adds a row; *slot is where, see rv__store_next. */
RV__FN rv_status rv__store_add(rv_ctx *ctx, rv__store *s, uint64_t key, const void *vec,
                               uint32_t *slot)
{
    uint32_t at = rv__store_next(s, key);
    int reuse = at < s->n;
    rv_status status = rv__store_writable(ctx, s);
    if (!status) status = rv__store_check_as(ctx, s, vec, "vector", 1);
    if (status) return status;
    if (rv__store_find(s, key) != RV__NO_SLOT) return rv__store_exists(ctx, key);
    if (!reuse) status = rv__store_grow(ctx, s, 1);
    if (!status && !s->keys && key != at) status = rv__store_keyed(ctx, s);
    if (status) return status;
    if (s->keys) {
        s->map[rv__store_place(s->map, s->map_size, s->keys, key)] = at;
        s->keys[at] = key;
    }
    rv__store_encode(s, at, (const unsigned char *)vec);
    if (reuse) {
        s->removed[at / 64] &= ~((uint64_t)1 << (at % 64));
        s->n_removed--;
        if (at == s->hint) s->hint++;
    } else {
        s->n++;
    }
    *slot = at;
    return RV_OK;
}

/* Whether add would take this vector. */
RV__FN rv_status rv__store_check_new(rv_ctx *ctx, const rv__store *s, const void *vec)
{
    return rv__store_check_as(ctx, s, vec, "vector", 1);
}

/* The row of a live slot becomes another vector. */
RV__FN rv_status rv__store_replace(rv_ctx *ctx, rv__store *s, uint32_t slot, const void *vec)
{
    rv_status status = rv__store_writable(ctx, s);
    if (!status) status = rv__store_check_as(ctx, s, vec, "vector", 1);
    if (!status) rv__store_encode(s, slot, (const unsigned char *)vec);
    return status;
}

/* After this rv__store_remove cannot fail. */
RV__FN rv_status rv__store_removable(rv_ctx *ctx, rv__store *s)
{
    size_t words = rv__store_words(s->capacity);
    if (s->removed) return RV_OK;
    s->removed = (uint64_t *)rv__get_zero(&s->alloc, words, sizeof(uint64_t));
    return s->removed ? RV_OK : rv__no_memory(ctx, words * sizeof(uint64_t));
}

/* Forgets the key of a live slot. The row stays readable until the slot is used again. */
RV__FN rv_status rv__store_remove(rv_ctx *ctx, rv__store *s, uint32_t slot)
{
    rv_status status = rv__store_writable(ctx, s);
    if (!status) status = rv__store_removable(ctx, s);
    if (status) return status;
    if (s->keys) rv__store_erase(s, s->keys[slot]);
    s->removed[slot / 64] |= (uint64_t)1 << (slot % 64);
    if (s->n_removed++ == 0 || slot < s->hint) s->hint = slot;
    return RV_OK;
}

typedef struct rv__store_encode_job {
    rv__store *s;
    const unsigned char *vecs;
    size_t bytes;    /* of one vector                                     */
    size_t bad[256]; /* per lane, the first row that is not acceptable    */
} rv__store_encode_job;

static void rv__store_encode_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    rv__store_encode_job *job = (rv__store_encode_job *)arg;
    for (size_t i = begin; i < end; i++) {
        const unsigned char *p = job->vecs + i * job->bytes;
        if (rv__store_acceptable(job->s, p, 1)) rv__store_encode(job->s, job->s->n + i, p);
        else if (i < job->bad[lane]) job->bad[lane] = i;
    }
}

/* Writes n vectors into the slots behind the last one, which stay invisible. */
static rv_status rv__store_encode_many(rv_ctx *ctx, rv__store *s, const void *vecs, size_t n)
{
    rv__store_encode_job job;
    const size_t section = rv__store_section((size_t)s->dim * 4);
    size_t bad = SIZE_MAX, lanes = rv__lanes(ctx);
    rv_status status;
    job.s = s;
    job.vecs = (const unsigned char *)vecs;
    job.bytes = rv__store_vector_bytes(s);
    for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
    status =
        rv__parallel_for(ctx, n, rv__store_grain(section), section, rv__store_encode_rows, &job);
    if (status) return status;
    for (size_t i = 0; i < lanes; i++) bad = job.bad[i] < bad ? job.bad[i] : bad;
    if (bad == SIZE_MAX) return RV_OK;
    return rv__store_refuse(ctx, s, job.vecs + bad * job.bytes, 1, bad * s->dim, "vectors");
}

/* Whether n more rows with these keys keep the identity. */
static rv_status rv__store_continues(rv_ctx *ctx, const rv__store *s, const uint64_t *keys,
                                     size_t n, int *yes)
{
    size_t i = 0, left = 0;
    *yes = !s->keys && (keys || s->n == 0);
    for (; *yes && keys && i < n; i++) {
        rv_status status = rv__poll_by(ctx, &left, 1);
        if (status) return status;
        *yes = keys[i] == s->n + (uint64_t)i;
    }
    return RV_OK;
}

/* Enters the keys of n slots behind the last one; takes them out again when one is present, appears
   twice, or the caller cancels. */
static rv_status rv__store_enter_keys(rv_ctx *ctx, rv__store *s, const uint64_t *keys, size_t n)
{
    rv_status status = RV_OK;
    size_t done = 0;
    for (; done < n && !status; done++) {
        uint64_t key = keys ? keys[done] : (uint64_t)done;
        size_t place = rv__store_place(s->map, s->map_size, s->keys, key);
        if (done % RV__STORE_PIECE == 0) status = rv__poll(ctx);
        if (!status && s->map[place] != RV__NO_SLOT) {
            int twice = s->map[place] >= s->n;
            status = rv__fail(ctx, RV_ERR_EXISTS, done, "keys: element %z, %l, is %s", done, key,
                              twice ? "given twice" : "present already");
        }
        if (status) break;
        s->map[place] = s->n + (uint32_t)done;
        s->keys[s->n + done] = key;
    }
    while (status && done > 0) {
        rv__store_erase(s, s->keys[s->n + --done]);
        if (done % RV__STORE_PIECE == 0) rv__poll_undo(ctx);
    }
    return status;
}

/* Adds n packed rows in the slots n .. n + n - 1, all or none. keys NULL: 0..n-1. ctx->where is the
   element of vecs, or of keys with RV_ERR_EXISTS. */
RV__FN rv_status rv__store_append(rv_ctx *ctx, rv__store *s, const uint64_t *keys, const void *vecs,
                                  size_t n)
{
    rv_status status = rv__store_writable(ctx, s);
    int identity = 0;
    if (status || n == 0) return status;
    if (!vecs) return rv__fail(ctx, RV_ERR_ARG, 0, "vectors is NULL");
    status = rv__store_grow(ctx, s, n);
    if (!status) status = rv__store_encode_many(ctx, s, vecs, n);
    if (!status) status = rv__store_continues(ctx, s, keys, n, &identity);
    if (!status && !identity) {
        status = rv__store_keyed(ctx, s);
        if (!status) status = rv__store_enter_keys(ctx, s, keys, n);
    }
    if (!status) s->n += (uint32_t)n;
    return status;
}

/* ---- distances ---- */

/* A prepared query: the vector at a multiple of 64 bytes, then a mark for a zero vector, then,
   for a custom metric over rows that must be decoded, room for one. It serves one thread at a
   time. */
RV__FN size_t rv__store_query_bytes(const rv__store *s)
{
    size_t vector = rv__round_up(rv__store_vector_bytes(s), RV__LINE);
    int decodes = s->custom && s->type != RV_DTYPE_F32 && s->type != RV_DTYPE_U1;
    return vector + RV__LINE + (decodes ? vector : 0);
}

static void rv__store_mark(const rv__store *s, void *query, int zero)
{
    size_t bytes = rv__store_vector_bytes(s), at = rv__round_up(bytes, RV__LINE);
    unsigned char *p = (unsigned char *)query;
    memset(p + bytes, 0, at - bytes);
    p[at] = (unsigned char)zero;
}

/* A vector that rv__store_check let pass, as rv__store_scan wants it: cosine at unit length. */
RV__FN void rv__store_prepare(const rv__store *s, const void *vec, void *query)
{
    const unsigned char *p = (const unsigned char *)vec;
    double length = 1.0;
    if (s->type == RV_DTYPE_U1) {
        rv__store_copy_bits(s, (unsigned char *)query, p);
    } else if (s->metric == RV_METRIC_COSINE) {
        length = rv__store_length(p, s->dim);
        rv__store_chunk(p, length > 0 ? 1.0 / length : 1.0, (float *)query, s->dim);
    } else {
        memcpy(query, p, rv__store_vector_bytes(s));
    }
    rv__store_mark(s, query, !(length > 0));
}

/* A stored row as a query. Needs the rows. */
RV__FN void rv__store_prepare_row(const rv__store *s, uint32_t slot, void *query)
{
    rv__store_unpack(s, slot, 1.0, query);
    rv__store_mark(s, query, s->norms && !(s->norms[slot] > 0));
}

static void rv__store_scan_custom(const rv__store *s, const void *query, const uint32_t *ids,
                                  size_t first, size_t n, float *out)
{
    size_t vector = rv__round_up(rv__store_vector_bytes(s), RV__LINE);
    void *scratch = (void *)((uintptr_t)query + vector + RV__LINE);
    int whole = s->type == RV_DTYPE_F32 || s->type == RV_DTYPE_U1;
    for (size_t i = 0; i < n; i++) {
        size_t slot = ids ? ids[i] : first + i;
        const void *row = s->rows + slot * s->stride;
        if (!whole) {
            rv__store_unpack(s, slot, 1.0, scratch);
            row = scratch;
        }
        out[i] = s->custom(s->custom_user, query, row, s->dim);
    }
}

/* Distances from a prepared query to the rows ids[0..n-1], or first..first+n-1 when ids is NULL, as
   they are reported: cosine is 1 - dot within [0,2], two zero vectors 0, exactly one 1. */
RV__FN void rv__store_scan(const rv__store *s, rv_isa isa, const void *query, const uint32_t *ids,
                           size_t first, size_t n, float *out)
{
    const int cosine = s->metric == RV_METRIC_COSINE;
    const unsigned char *rows = s->rows + (ids ? 0 : first * s->stride);
    if (s->metric == RV_METRIC_CUSTOM) {
        rv__store_scan_custom(s, query, ids, first, n, out);
        return;
    }
    if (cosine &&
        ((const unsigned char *)query)[rv__round_up(rv__store_vector_bytes(s), RV__LINE)]) {
        for (size_t i = 0; i < n; i++)
            out[i] = s->norms[ids ? ids[i] : first + i] > 0 ? 1.0f : 0.0f;
        return;
    }
    rv__scan_find(cosine ? RV_METRIC_IP : s->metric, s->type, isa)(query, rows, s->stride, ids, n,
                                                                    s->dim, out);
    for (size_t i = 0; cosine && i < n; i++) {
        float d = 1.0f + out[i];
        out[i] = d < 0.0f ? 0.0f : d > 2.0f ? 2.0f : d;
    }
}

/* ---- images ---- */

static int rv__store_swaps(const rv__store *s)
{
    return s->type == RV_DTYPE_I8 && rv__big_endian();
}

static size_t rv__store_elem(const rv__store *s)
{
    if (s->type == RV_DTYPE_F32) return 4;
    return s->type == RV_DTYPE_F16 || s->type == RV_DTYPE_BF16 ? 2 : 1;
}

static void rv__store_save_rows(rv__image_writer *w, const rv__store *s)
{
    size_t elem = rv__store_elem(s), total = (size_t)s->n * s->stride;
    rv__image_section_begin(w, "ROWS", elem, total / elem);
    if (!rv__store_swaps(s)) {
        rv__image_put(w, elem, s->rows, total / elem);
        return;
    }
    for (uint32_t slot = 0; slot < s->n; slot++) {
        const unsigned char *row = s->rows + (size_t)slot * s->stride;
        rv__image_put(w, sizeof(float), row, 1);
        rv__image_put(w, 1, row + sizeof(float), s->stride - sizeof(float));
    }
}

/* Appends the sections named at the top. w belongs to the index, which ends it. */
RV__FN rv_status rv__store_save(rv__image_writer *w, const rv__store *s)
{
    uint32_t params[8];
    params[0] = s->dim;
    params[1] = (uint32_t)s->type;
    params[2] = (uint32_t)s->metric;
    params[3] = (uint32_t)s->stride;
    params[4] = s->n;
    params[5] = s->n_removed;
    params[6] = (s->no_rows ? 1u : 0u) | (s->keys && s->n ? 2u : 0u);
    params[7] = 0;
    rv__image_section(w, "SPAR", sizeof(uint32_t), params, 8);
    if (s->n == 0) return w->status;
    if (!s->no_rows) rv__store_save_rows(w, s);
    if (s->norms) rv__image_section(w, "NORM", sizeof(float), s->norms, s->n);
    if (s->keys) rv__image_section(w, "KEYS", sizeof(uint64_t), s->keys, s->n);
    if (s->n_removed) {
        rv__image_section(w, "GONE", sizeof(uint64_t), s->removed, rv__store_words(s->n));
    }
    return w->status;
}

static int rv__store_row_sound(const rv__store *s, size_t slot)
{
    const unsigned char *row = s->rows + slot * s->stride;
    unsigned bad = 0, mask = s->type == RV_DTYPE_F16 ? 0x7C00u : 0x7F80u;
    switch (s->type) {
    case RV_DTYPE_F32: return rv__store_peak(row, s->dim) < 0x7F800000u;
    case RV_DTYPE_F16:
    case RV_DTYPE_BF16:
        for (size_t i = 0; i < s->dim; i++) {
            uint16_t x;
            memcpy(&x, row + 2 * i, 2);
            bad |= (unsigned)((x & mask) == mask);
        }
        return !bad;
    case RV_DTYPE_I8:
        for (size_t i = 0; i < s->dim; i++) bad |= (unsigned)(row[sizeof(float) + i] == 0x80u);
        return !bad && rv__store_f64(row, 0) >= 0 && rv__store_bits(row, 0) < 0x7F800000u;
    case RV_DTYPE_U1:
    default: return s->dim % 8 == 0 || (row[(s->dim - 1) / 8] >> (s->dim % 8)) == 0;
    }
}

typedef struct rv__store_sound_job {
    const rv__store *s;
    size_t bad[256];
} rv__store_sound_job;

static void rv__store_sound_rows(void *arg, size_t lane, size_t begin, size_t end)
{
    rv__store_sound_job *job = (rv__store_sound_job *)arg;
    for (size_t i = begin; i < end; i++) {
        const float *norms = job->s->norms;
        int sound = !job->s->rows || rv__store_row_sound(job->s, i);
        if (norms) sound = sound && norms[i] >= 0 && rv__finite_f32(norms[i]);
        if (!sound && i < job->bad[lane]) job->bad[lane] = i;
    }
}

static rv_status rv__store_check_rows(rv_ctx *ctx, const rv__store *s)
{
    const size_t section = rv__store_section(s->stride);
    size_t bad = SIZE_MAX, lanes = rv__lanes(ctx);
    rv__store_sound_job job;
    rv_status status;
    if (!s->rows && !s->norms) return RV_OK; /* and then nothing here bounds n */
    job.s = s;
    for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
    status =
        rv__parallel_for(ctx, s->n, rv__store_grain(section), section, rv__store_sound_rows, &job);
    if (status) return status;
    for (size_t i = 0; i < lanes; i++) bad = job.bad[i] < bad ? job.bad[i] : bad;
    if (bad == SIZE_MAX) return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, bad, "row %z holds values that cannot be", bad);
}

static rv_status rv__store_check_removed(rv_ctx *ctx, const rv__store *s)
{
    uint32_t count = 0;
    size_t left = 0;
    if (!s->removed) return RV_OK;
    for (size_t i = 0; i < rv__store_words(s->n); i++) {
        rv_status status = rv__poll_by(ctx, &left, 64);
        if (status) return status;
        for (uint64_t word = s->removed[i]; word; word &= word - 1) count++;
    }
    if (count == s->n_removed && (s->n % 64 == 0 || s->removed[s->n / 64] >> (s->n % 64) == 0))
        return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, 0, "the removed rows of the image contradict their number");
}

static rv_status rv__store_load_arrays(rv_ctx *ctx, rv__image_reader *r, int view, int keyed,
                                       rv__store *s)
{
    void *p = NULL;
    size_t n = s->n, elem = rv__store_elem(s);
    rv_status status = RV_OK;
    if (!s->no_rows) {
        /* 64-bit product: n is below 2^32 and the stride below 2^19 */
        uint64_t total = (uint64_t)n * s->stride;
        if (total > SIZE_MAX - 2 * RV__LINE) return rv__no_memory(ctx, SIZE_MAX);
        status = rv__image_array(ctx, r, "ROWS", elem, (size_t)total / elem, view, &s->alloc, &p);
        if (status) return status;
        s->rows = (unsigned char *)p;
    }
    if (s->metric == RV_METRIC_COSINE) {
        status = rv__image_array(ctx, r, "NORM", sizeof(float), n, view, &s->alloc, &p);
        if (status) return status;
        s->norms = (float *)p;
    }
    if (keyed) {
        status = rv__image_array(ctx, r, "KEYS", sizeof(uint64_t), n, view, &s->alloc, &p);
        if (status) return status;
        s->keys = (uint64_t *)p;
    }
    if (s->n_removed) {
        status = rv__image_array(ctx, r, "GONE", sizeof(uint64_t), rv__store_words(n), view,
                                 &s->alloc, &p);
        if (status) return status;
        s->removed = (uint64_t *)p;
    }
    return RV_OK;
}

static rv_status rv__store_load_map(rv_ctx *ctx, rv__store *s)
{
    rv_status status;
    if (!s->keys) return RV_OK;
    s->map_size = rv__store_map_size(s->capacity);
    s->map = (uint32_t *)rv__get(&s->alloc, s->map_size, sizeof(uint32_t));
    if (!s->map) return rv__no_memory(ctx, rv__mul(s->map_size, sizeof(uint32_t)));
    status = rv__fill_polled(ctx, s->map, 0xFF, s->map_size * sizeof(uint32_t));
    if (!status) status = rv__store_fill_map(ctx, s->map, s->map_size, s->keys, s->removed, s->n);
    if (status != RV_ERR_EXISTS) return status;
    return rv__fail(ctx, RV_ERR_FORMAT, 0, "a key appears twice in the image");
}

/* Reads and validates the sections of rv__store_save. view: arrays stay in the image; the map is
   built in memory. custom: for RV_METRIC_CUSTOM only, else not looked at. Without rows, lengths and
   keys nothing in the image bounds n: the index must hold it against arrays of its own before it
   works on n slots. On failure there is nothing to free. */
RV__FN rv_status rv__store_load(rv_ctx *ctx, rv__image_reader *r, int view, rv_custom_fn custom,
                                void *custom_user, rv__store *s)
{
    uint32_t params[8];
    rv__store_spec spec;
    rv_status status = rv__image_values(ctx, r, "SPAR", sizeof(uint32_t), 8, params);
    memset(s, 0, sizeof *s);
    if (status) return status;
    memset(&spec, 0, sizeof spec);
    spec.dim = params[0];
    spec.type = params[1] <= (uint32_t)RV_DTYPE_U1 ? (rv_dtype)params[1] : RV_DTYPE_F32;
    spec.metric = params[2] <= (uint32_t)RV_METRIC_CUSTOM ? (rv_metric)params[2] : RV_METRIC_L2;
    spec.no_rows = params[6] & 1u;
    if (spec.metric == RV_METRIC_CUSTOM) {
        if (!custom)
            return rv__fail(ctx, RV_ERR_ARG, 0,
                            "the image has a custom metric: custom must be given");
        spec.custom = custom;
        spec.custom_user = custom_user;
    }
    if (rv__store_check_spec(NULL, &spec) || params[1] != (uint32_t)spec.type ||
        params[2] != (uint32_t)spec.metric || params[3] != rv__store_stride(spec.type, spec.dim) ||
        params[4] > RV__STORE_MAX || params[5] > params[4] || params[6] > 3u || params[7] ||
        (params[4] == 0 && (params[6] & 2u))) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0,
                        "the parameters of the rows in the image contradict themselves");
    }
    status = view ? rv__image_check_view(ctx, r) : RV_OK;
    if (!status) status = rv__store_init(ctx, s, &spec);
    s->viewed = view != 0;
    if (status || params[4] == 0) return status;
    s->n = s->capacity = params[4];
    s->n_removed = params[5];
    status = rv__store_load_arrays(ctx, r, view, (params[6] & 2u) != 0, s);
    if (!status && rv__store_swaps(s) && s->rows) {
        for (uint32_t i = 0; !status && i < s->n; i++) {
            unsigned char scale[4];
            if (i % RV__STORE_PIECE == 0) status = rv__poll(ctx);
            memcpy(scale, s->rows + (size_t)i * s->stride, 4);
            rv__image_copy(s->rows + (size_t)i * s->stride, scale, 4, 1);
        }
    }
    if (!status) status = rv__store_check_removed(ctx, s);
    if (!status) status = rv__store_check_rows(ctx, s);
    if (!status) status = rv__store_load_map(ctx, s);
    if (status) rv__store_free(s);
    return status;
}

#undef RV__STORE_CHUNK
#undef RV__STORE_DIM_MAX
#undef RV__STORE_MAX
#undef RV__STORE_PIECE
#endif /* RV_STORE_C */
