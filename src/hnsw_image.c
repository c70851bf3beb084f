#ifndef RV_HNSW_IMAGE_C
#define RV_HNSW_IMAGE_C
#include "hnsw.h"
#include "base.c"
#include "image.c"
#include "rotate.c"
#include "store.c"
#include "code.c"
#include "hnsw.c"
#include "hnsw_search.c"
#include "hnsw_build.c"

/* Images, the check of the graph's invariants, and what there is to know about an index.

   Sections of an "HNSW" image, besides those of the store:
     HPAR  u32[16]: m, ef_construction, codes wanted, code_bytes, drop_vectors, levels, entry,
           learning tried, seed (low, high), code kind, components, bits, record bytes,
           rotation seed (low, high)
     with codes: CMEA f32[dim]; CBAS f32[components, dim] for PCA; CREC u8[n, record], where the
           first 8 bytes of a record are two little-endian floats
     with rows: LNK0 u32[n, 2 m]; HELD u64[(n + 63) / 64]
     for each level l above 0: SLTl u32[nodes], BLWl u32[nodes], LNKl u32[nodes, m]
   Lists end at the first 0xFFFFFFFF and have nothing behind it.

   What is loaded may be searched at once, so everything that is used as an index or steers a loop
   is validated here: ids in range, lists ended, levels nested, floats finite. That links are
   sensible and that all nodes can be reached is not; rv_hnsw_check tells. */

#define RV__HPAR 16u

/* ---- lists of links ---- */

/* Number of links, or UINT32_MAX when one is out of range or something stands behind the end. */
static uint32_t rv__links_count(const uint32_t *links, uint32_t degree, uint32_t n)
{
    uint32_t count = 0, rest;
    while (count < degree && links[count] < n) count++;
    for (rest = count; rest < degree && links[rest] == RV__NO_SLOT; rest++) {}
    return rest == degree ? count : UINT32_MAX;
}

static rv_status rv__layer_fault(rv_ctx *ctx, uint32_t level, uint32_t node, const char *what)
{
    return rv__fail(ctx, RV_ERR_FORMAT, node, "node %l of level %l %s", (uint64_t)node,
                    (uint64_t)level, what);
}

/* Everything a walk relies on in a layer above 0. */
static rv_status rv__layer_sound(rv_ctx *ctx, const rv_hnsw *index, uint32_t level)
{
    const rv__hnsw_layer *layer = &index->layer[level], *under = layer - 1;
    for (uint32_t node = 0; node < layer->n; node++) {
        const uint32_t *links = layer->links + (size_t)node * index->m;
        const uint32_t slot = layer->slot[node], below = layer->below[node];
        if (slot >= index->store.n) return rv__layer_fault(ctx, level, node, "stands for no row");
        if (level == 1 ? below != slot : below >= under->n || under->slot[below] != slot) {
            return rv__layer_fault(ctx, level, node, "is not on the level below");
        }
        if (rv__links_count(links, index->m, layer->n) == UINT32_MAX) {
            return rv__layer_fault(ctx, level, node, "has a link to nowhere");
        }
    }
    return RV_OK;
}

typedef struct rv__sound {
    const rv_hnsw *index;
    size_t bad[256]; /* per lane, the first bad node */
} rv__sound;

static void rv__sound_range(void *arg, size_t lane, size_t begin, size_t end)
{
    rv__sound *job = (rv__sound *)arg;
    const rv_hnsw *index = job->index;
    for (size_t i = begin; i < end; i++) {
        int sound = rv__links_count(index->links + i * index->degree, index->degree,
                                    index->store.n) != UINT32_MAX;
        if (sound && index->code.records) {
            float head[2];
            memcpy(head, index->code.records + i * index->code.record, sizeof head);
            sound = rv__finite_f32(head[0]) && rv__finite_f32(head[1]);
        }
        if (!sound && i < job->bad[lane]) job->bad[lane] = i;
    }
}

/* Everything a walk relies on in layer 0 and the records. */
static rv_status rv__hnsw_sound(rv_ctx *ctx, const rv_hnsw *index)
{
    const size_t lanes = rv__lanes(ctx);
    size_t bad = SIZE_MAX;
    rv__sound job;
    rv_status status;
    job.index = index;
    for (size_t i = 0; i < lanes; i++) job.bad[i] = SIZE_MAX;
    status = rv__parallel_for(ctx, index->store.n, 64, 65536, rv__sound_range, &job);
    if (status) return status;
    for (size_t i = 0; i < lanes; i++) bad = job.bad[i] < bad ? job.bad[i] : bad;
    if (bad == SIZE_MAX) return RV_OK;
    return rv__fail(ctx, RV_ERR_FORMAT, bad,
                    "node %z has a link to nowhere or a code that cannot be", bad);
}

/* ---- saving ---- */

/* Tag of a section of a level: "SLT1". */
static const char *rv__level_tag(const char *stem, uint32_t level, char tag[5])
{
    memcpy(tag, stem, 3);
    tag[3] = (char)('0' + (int)level);
    tag[4] = 0;
    return tag;
}

static void rv__hnsw_save_code(rv__image_writer *w, const rv__code *code, uint32_t n)
{
    const size_t total = (size_t)n * code->record;
    rv__image_section(w, "CMEA", sizeof(float), code->mean, code->dim);
    if (code->basis) {
        rv__image_section(w, "CBAS", sizeof(uint16_t), code->basis,
                          (size_t)code->n_comp * code->dim);
    }
    if (n == 0) return;
    rv__image_section_begin(w, "CREC", 1, total);
    if (!rv__big_endian()) {
        rv__image_put(w, 1, code->records, total);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const unsigned char *record = code->records + (size_t)i * code->record;
        rv__image_put(w, sizeof(float), record, 2);
        rv__image_put(w, 1, record + RV__CODE_HEAD, code->record - RV__CODE_HEAD);
    }
}

RV_API rv_status rv_hnsw_save(rv_ctx *ctx, const rv_hnsw *index, void *image, size_t cap,
                              size_t *bytes)
{
    rv__image_writer w;
    uint32_t par[RV__HPAR], n;
    uint64_t seed;
    if (!index || !bytes) return rv__fail(ctx, RV_ERR_ARG, 0, "index and bytes must not be NULL");
    n = index->store.n;
    seed = index->code.rotation ? rv_rotation_seed(index->code.rotation) : 0;
    par[0] = index->m;
    par[1] = index->ef_construction;
    par[2] = (uint32_t)index->wanted;
    par[3] = index->code_bytes;
    par[4] = index->drop_vectors ? 1u : 0u;
    par[5] = index->n_levels;
    par[6] = index->n_levels ? index->entry : 0;
    par[7] = index->code_tried ? 1u : 0u;
    par[8] = (uint32_t)index->seed;
    par[9] = (uint32_t)(index->seed >> 32);
    par[10] = (uint32_t)index->code.kind;
    par[11] = index->code.n_comp;
    par[12] = index->code.bits;
    par[13] = index->code.record;
    par[14] = (uint32_t)seed;
    par[15] = (uint32_t)(seed >> 32);
    rv__image_begin(ctx, &w, "HNSW", image, cap);
    rv__image_section(&w, "HPAR", sizeof(uint32_t), par, RV__HPAR);
    (void)rv__store_save(&w, &index->store);
    if (rv__hnsw_coded(index)) rv__hnsw_save_code(&w, &index->code, n);
    if (n) {
        rv__image_section(&w, "LNK0", sizeof(uint32_t), index->links, (size_t)n * index->degree);
        rv__image_section(&w, "HELD", sizeof(uint64_t), index->held, ((size_t)n + 63) / 64);
    }
    for (uint32_t l = 1; l < index->n_levels; l++) {
        const rv__hnsw_layer *layer = &index->layer[l];
        char tag[5];
        rv__image_section(&w, rv__level_tag("SLT", l, tag), sizeof(uint32_t), layer->slot,
                          layer->n);
        rv__image_section(&w, rv__level_tag("BLW", l, tag), sizeof(uint32_t), layer->below,
                          layer->n);
        rv__image_section(&w, rv__level_tag("LNK", l, tag), sizeof(uint32_t), layer->links,
                          (size_t)layer->n * index->m);
    }
    return rv__image_end(ctx, &w, bytes);
}

/* ---- loading ---- */

typedef struct rv__hnsw_loader {
    rv_ctx *ctx;
    rv__image_reader *reader;
    rv_hnsw *index;
    int view;
    uint32_t par[RV__HPAR];
} rv__hnsw_loader;

static rv_status rv__hnsw_contradicts(rv_ctx *ctx, const char *what)
{
    return rv__fail(ctx, RV_ERR_FORMAT, 0, "the %s of the image contradict themselves", what);
}

/* A section of rows * width elements. */
static rv_status rv__hnsw_load_array(const rv__hnsw_loader *loader, const char *tag,
                                     size_t elem_bytes, size_t rows, size_t width, void **out)
{
    const size_t count = rv__mul(rows, width);
    if (rv__mul(count, elem_bytes) >= SIZE_MAX - 2 * RV__LINE) {
        return rv__fail(loader->ctx, RV_ERR_FORMAT, 0, "section %s cannot be that large", tag);
    }
    return rv__image_array(loader->ctx, loader->reader, tag, elem_bytes, count, loader->view,
                           &loader->index->store.alloc, out);
}

static rv_status rv__hnsw_load_settings(rv__hnsw_loader *loader)
{
    const uint32_t *par = loader->par;
    rv_hnsw *index = loader->index;
    rv_hnsw_config config;
    const int fit = rv__hnsw_codes_fit(index->store.metric, index->store.type);
    memset(&config, 0, sizeof config);
    config.dim = index->store.dim;
    config.metric = index->store.metric;
    config.type = index->store.type;
    config.m = par[0];
    config.ef_construction = par[1];
    config.codes =
        par[2] <= (uint32_t)RV_HNSW_CODES_RABITQ ? (rv_hnsw_codes)par[2] : RV_HNSW_CODES_AUTO;
    config.code_bytes = par[3];
    config.drop_vectors = par[4] != 0;
    if (par[0] == 0 || par[1] == 0 || par[2] == 0 || par[2] != (uint32_t)config.codes ||
        par[4] > 1 || par[5] > RV__HNSW_LEVELS || par[7] > 1 ||
        rv__hnsw_check_config(NULL, &config) || index->store.n >= 0x7FFFFFFFu ||
        (!fit && par[10]) || (index->store.no_rows && (!par[10] || !par[4]))) {
        return rv__hnsw_contradicts(loader->ctx, "settings");
    }
    index->m = par[0];
    index->degree = 2u * par[0];
    index->ef_construction = par[1];
    index->wanted = config.codes;
    index->code_bytes = par[3];
    index->drop_vectors = par[4] != 0;
    index->n_levels = par[5];
    index->entry = par[6];
    index->code_tried = par[7] != 0;
    index->seed = par[8] | (uint64_t)par[9] << 32;
    return RV_OK;
}

/* A section of rows * width numbers: f32, or f16 of at most 1 (axes of unit length). */
static rv_status rv__hnsw_load_numbers(const rv__hnsw_loader *loader, const char *tag, int half,
                                       size_t rows, size_t width, void **out)
{
    rv_status status = rv__hnsw_load_array(loader, tag, half ? sizeof(uint16_t) : sizeof(float),
                                           rows, width, out);
    for (size_t i = 0; i < rows * width && !status; i++) {
        /* 0x3C01 is the number after 1 */
        int sound = half ? (((const uint16_t *)*out)[i] & 0x7FFFu) <= 0x3C01u
                         : rv__finite_f32(((const float *)*out)[i]);
        if (i % 1048576 == 1048575) status = rv__poll(loader->ctx);
        if (sound) continue;
        return rv__fail(loader->ctx, RV_ERR_FORMAT, i, "section %s: element %z cannot be", tag, i);
    }
    return status;
}

static rv_status rv__hnsw_load_code(rv__hnsw_loader *loader)
{
    const uint32_t *par = loader->par;
    rv_hnsw *index = loader->index;
    rv__code *code = &index->code;
    const uint32_t n = index->store.n, dim = index->store.dim;
    void *records = NULL, *numbers = NULL;
    int kind;
    rv_status status;
    if (par[10] == RV__CODE_NONE) return RV_OK;
    kind = rv__hnsw_code_kind(index->wanted);
    if (kind == RV__CODE_PCA && par[10] == RV__CODE_SQ8) kind = RV__CODE_SQ8; /* all are needed */
    if ((int)par[10] != kind ||
        par[12] != (par[10] == RV__CODE_SQ4   ? 4u
                    : par[10] == RV__CODE_BIT ? 1u
                                              : 8u) ||
        par[11] == 0 ||
        (par[10] == RV__CODE_PCA ? par[11] > dim : par[10] == RV__CODE_SQ8 && par[11] != dim) ||
        par[11] > 65536u || par[13] != rv__code_record(par[12], par[11])) {
        return rv__hnsw_contradicts(loader->ctx, "codes");
    }
    code->kind = kind;
    code->metric = index->store.metric;
    code->dim = dim;
    code->n_comp = par[11];
    code->bits = par[12];
    code->record = par[13];
    code->viewed = loader->view;
    status = rv__hnsw_load_numbers(loader, "CMEA", 0, 1, dim, &numbers);
    code->mean = (float *)numbers;
    if (!status && code->kind == RV__CODE_PCA) {
        numbers = NULL;
        status = rv__hnsw_load_numbers(loader, "CBAS", 1, code->n_comp, dim, &numbers);
        code->basis = (uint16_t *)numbers;
    }
    if (!status && (code->kind == RV__CODE_SQ4 || code->kind == RV__CODE_BIT)) {
        rv_ctx own;
        memset(&own, 0, sizeof own);
        own.alloc = index->store.alloc;
        own.seed = par[14] | (uint64_t)par[15] << 32;
        status = rv_rotation_create(&own, dim, &code->rotation);
        if (status) return rv__fail(loader->ctx, status, 0, "%s", own.message);
        if (rv_rotation_dim(code->rotation) != code->n_comp) {
            return rv__hnsw_contradicts(loader->ctx, "codes");
        }
    }
    if (!status && n) {
        status = rv__hnsw_load_array(loader, "CREC", 1, n, code->record, &records);
        code->records = (unsigned char *)records;
        if (!status) code->capacity = n;
    }
    for (uint32_t i = 0; i < n && !status && rv__big_endian(); i++) {
        unsigned char head[RV__CODE_HEAD];
        memcpy(head, code->records + (size_t)i * code->record, sizeof head);
        rv__image_copy(code->records + (size_t)i * code->record, head, sizeof(float), 2);
    }
    return status;
}

/* Held nodes are removed rows. */
static rv_status rv__hnsw_load_held(rv__hnsw_loader *loader)
{
    rv_hnsw *index = loader->index;
    const rv__store *store = &index->store;
    uint32_t held = 0;
    for (uint32_t base = 0; base < store->n; base += 64) {
        const uint64_t word = index->held[base / 64];
        if (word & ~(store->removed ? store->removed[base / 64] : 0)) {
            return rv__hnsw_contradicts(loader->ctx, "held nodes");
        }
        for (uint64_t rest = word; rest; rest &= rest - 1) held++;
    }
    index->store.held = index->held;
    index->store.n_held = held;
    return RV_OK;
}

/* There are levels when there are nodes, and the entry is one of the top level. */
static int rv__hnsw_levels_sound(const rv_hnsw *index)
{
    const uint32_t top = index->n_levels;
    if (top == 0) return rv_hnsw_count(index) + index->store.n_held == 0;
    return rv_hnsw_count(index) + index->store.n_held != 0 &&
           index->entry < (top > 1 ? index->layer[top - 1].n : index->store.n);
}

static rv_status rv__hnsw_load_graph(rv__hnsw_loader *loader)
{
    rv_hnsw *index = loader->index;
    const uint32_t n = index->store.n;
    void *p = NULL;
    rv_status status = RV_OK;
    if (n) {
        status = rv__hnsw_load_array(loader, "LNK0", sizeof(uint32_t), n, index->degree, &p);
        if (status) return status;
        index->links = (uint32_t *)p;
        index->capacity = n;
        status =
            rv__hnsw_load_array(loader, "HELD", sizeof(uint64_t), ((size_t)n + 63) / 64, 1, &p);
        if (status) return status;
        index->held = (uint64_t *)p;
        status = rv__hnsw_load_held(loader);
        if (!status) status = rv__hnsw_sound(loader->ctx, index);
    }
    for (uint32_t l = 1; l < index->n_levels && !status; l++) {
        rv__hnsw_layer *layer = &index->layer[l];
        char tag[5];
        size_t count;
        if (!rv__image_count(loader->reader, rv__level_tag("SLT", l, tag), sizeof(uint32_t),
                             &count) ||
            count == 0 || count > n)
            return rv__hnsw_contradicts(loader->ctx, "levels");
        layer->capacity = (uint32_t)count;
        status = rv__hnsw_load_array(loader, tag, sizeof(uint32_t), count, 1, &p);
        if (status) return status;
        layer->slot = (uint32_t *)p;
        status = rv__hnsw_load_array(loader, rv__level_tag("BLW", l, tag), sizeof(uint32_t), count,
                                     1, &p);
        if (status) return status;
        layer->below = (uint32_t *)p;
        status = rv__hnsw_load_array(loader, rv__level_tag("LNK", l, tag), sizeof(uint32_t), count,
                                     index->m, &p);
        if (status) return status;
        layer->links = (uint32_t *)p;
        layer->n = (uint32_t)count;
        status = rv__layer_sound(loader->ctx, index, l);
    }
    if (!status && !rv__hnsw_levels_sound(index)) {
        status = rv__hnsw_contradicts(loader->ctx, "levels");
    }
    return status;
}

static rv_status rv__hnsw_open(rv_ctx *ctx, const void *image, size_t bytes, int view,
                               rv_custom_fn custom, void *custom_user, rv_hnsw **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__hnsw_loader loader;
    rv__image_reader reader;
    rv_hnsw *index;
    rv_status status;
    if (!out) return rv__fail(ctx, RV_ERR_ARG, 0, "out must not be NULL");
    status = rv__image_open(ctx, &reader, image, bytes, "HNSW");
    loader.ctx = ctx;
    loader.reader = &reader;
    loader.view = view;
    if (!status)
        status = rv__image_values(ctx, &reader, "HPAR", sizeof(uint32_t), RV__HPAR, loader.par);
    if (status) return status;
    index = (rv_hnsw *)rv__get_zero(&alloc, 1, sizeof *index);
    if (!index) return rv__no_memory(ctx, sizeof *index);
    loader.index = index;
    status = rv__store_load(ctx, &reader, view, custom, custom_user, &index->store);
    if (status) {
        rv__put(&alloc, index, 1, sizeof *index);
        return status;
    }
    index->code.alloc = index->store.alloc;
    /* also when there is no row yet, so that destroy and the writers know */
    index->store.viewed = view;
    status = rv__hnsw_load_settings(&loader);
    if (!status) status = rv__hnsw_load_code(&loader);
    if (!status) status = rv__hnsw_load_graph(&loader);
    if (status) {
        rv_hnsw_destroy(index);
        return status;
    }
    *out = index;
    return rv__ok(ctx);
}

RV_API rv_status rv_hnsw_load(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_hnsw **out)
{
    return rv__hnsw_open(ctx, image, bytes, 0, custom, custom_user, out);
}

RV_API rv_status rv_hnsw_view(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, rv_hnsw **out)
{
    return rv__hnsw_open(ctx, image, bytes, 1, custom, custom_user, out);
}

/* ---- statistics ---- */

static size_t rv__hnsw_links_bytes(const rv_hnsw *index)
{
    size_t bytes = index->capacity * index->degree * sizeof(uint32_t);
    bytes += (index->capacity + 63) / 64 * sizeof(uint64_t);
    for (uint32_t l = 1; l < RV__HNSW_LEVELS; l++)
        bytes += rv__hnsw_layer_bytes(index, &index->layer[l]);
    return bytes;
}

static size_t rv__hnsw_rotation_bytes(const rv_hnsw *index)
{
    return index->code.rotation ? rv_rotation_bytes(index->code.rotation) : 0;
}

RV_API size_t rv_hnsw_bytes(const rv_hnsw *index)
{
    size_t bytes;
    if (!index) return 0;
    bytes = sizeof *index + rv__store_bytes(&index->store) + rv__hnsw_rotation_bytes(index);
    if (index->store.viewed) return bytes;
    return bytes + rv__code_bytes(&index->code) + rv__hnsw_links_bytes(index);
}

RV_API void rv_hnsw_stats_get(const rv_hnsw *index, rv_hnsw_stats *stats)
{
    const rv__store *store;
    if (!stats) return;
    memset(stats, 0, sizeof *stats);
    if (!index) return;
    store = &index->store;
    stats->count = rv_hnsw_count(index);
    stats->removed = store->n_held;
    stats->n_levels = index->n_levels;
    stats->level_count[0] = stats->count + store->n_held;
    for (uint32_t l = 1; l < index->n_levels; l++) stats->level_count[l] = index->layer[l].n;
    for (uint32_t slot = 0; slot < store->n; slot++) {
        const uint32_t *links = index->links + (size_t)slot * index->degree;
        uint32_t n = 0;
        if (!rv__store_live(store, slot) && !(index->held[slot / 64] >> (slot % 64) & 1u)) continue;
        while (n < index->degree && links[n] != RV__NO_SLOT) n++;
        stats->degree_count[n]++;
    }
    rv__store_measure(store, &stats->vector_bytes, &stats->key_bytes);
    stats->code_bytes = rv__code_bytes(&index->code) + rv__hnsw_rotation_bytes(index);
    stats->link_bytes = rv__hnsw_links_bytes(index);
    stats->total_bytes = sizeof *index + stats->vector_bytes + stats->code_bytes +
                         stats->link_bytes + stats->key_bytes;
    if (rv__hnsw_coded(index)) {
        stats->code_record = index->code.record;
        stats->code_dim = index->code.n_comp;
        stats->code_bits = index->code.bits;
    }
}

/* ---- check ---- */

/* No self link, no link twice. */
static int rv__links_distinct(const uint32_t *links, uint32_t count, uint32_t self)
{
    for (uint32_t i = 0; i < count; i++) {
        if (links[i] == self) return 0;
        for (uint32_t j = 0; j < i; j++) {
            if (links[i] == links[j]) return 0;
        }
    }
    return 1;
}

static int rv__hnsw_in_graph(const rv_hnsw *index, uint32_t slot)
{
    return rv__store_live(&index->store, slot) || (index->held[slot / 64] >> (slot % 64) & 1u) != 0;
}

static rv_status rv__hnsw_check_upper(rv_ctx *ctx, const rv_hnsw *index)
{
    for (uint32_t l = 1; l < index->n_levels; l++) {
        const rv__hnsw_layer *layer = &index->layer[l];
        rv_status status = rv__layer_sound(ctx, index, l);
        if (!status) status = rv__poll(ctx);
        if (status) return status;
        for (uint32_t node = 0; node < layer->n; node++) {
            const uint32_t *links = layer->links + (size_t)node * index->m;
            uint32_t count = rv__links_count(links, index->m, layer->n);
            if (!rv__links_distinct(links, count, node)) {
                return rv__layer_fault(ctx, l, node, "has a link to itself or one twice");
            }
            if (!rv__hnsw_in_graph(index, layer->slot[node])) {
                return rv__layer_fault(ctx, l, node, "stands for a row that was given up");
            }
        }
    }
    return RV_OK;
}

static rv_status rv__hnsw_check_base(rv_ctx *ctx, const rv_hnsw *index)
{
    const rv__store *store = &index->store;
    for (uint32_t slot = 0; slot < store->n; slot++) {
        const uint32_t *links = index->links + (size_t)slot * index->degree;
        uint32_t count = rv__links_count(links, index->degree, store->n);
        const int in_graph = rv__hnsw_in_graph(index, slot);
        if (!rv__links_distinct(links, count, slot)) {
            return rv__layer_fault(ctx, 0, slot, "has a link to itself or one twice");
        }
        for (uint32_t i = 0; i < count; i++) {
            if (in_graph && rv__hnsw_in_graph(index, links[i])) continue;
            return rv__layer_fault(ctx, 0, slot, "is linked with a node that was given up");
        }
        if (rv__store_live(store, slot) &&
            rv__store_find(store, rv__store_key(store, slot)) != slot) {
            return rv__layer_fault(ctx, 0, slot, "is not found by its key");
        }
        if (slot % 16384 == 16383) {
            rv_status status = rv__poll(ctx);
            if (status) return status;
        }
    }
    return RV_OK;
}

/* Every row is reached from the entry. */
static rv_status rv__hnsw_check_reach(rv_ctx *ctx, const rv_hnsw *index)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t n = index->store.n, words = (n + 63) / 64;
    rv__reach reach;
    rv_status status = RV_OK;
    reach.head = reach.tail = 0;
    reach.seen = (uint64_t *)rv__get_zero(&alloc, words, sizeof(uint64_t));
    reach.queue = (uint32_t *)rv__get(&alloc, n, sizeof(uint32_t));
    if (!reach.seen || !reach.queue) {
        status = rv__no_memory(ctx, n * sizeof(uint32_t));
    } else {
        rv__reach_push(&reach, rv__hnsw_entry_slot(index));
        status = rv__reach_flood(ctx, index, &reach);
    }
    for (uint32_t slot = 0; slot < n && !status; slot++) {
        if ((reach.seen[slot / 64] >> (slot % 64) & 1u) || !rv__store_live(&index->store, slot))
            continue;
        status = rv__layer_fault(ctx, 0, slot, "cannot be reached");
    }
    rv__put(&alloc, reach.queue, n, sizeof(uint32_t));
    rv__put(&alloc, reach.seen, words, sizeof(uint64_t));
    return status;
}

RV_API rv_status rv_hnsw_check(rv_ctx *ctx, const rv_hnsw *index)
{
    rv_status status;
    if (!index) return rv__fail(ctx, RV_ERR_ARG, 0, "index must not be NULL");
    if (!rv__hnsw_levels_sound(index)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "%l levels for %z rows, or a bad entry",
                        (uint64_t)index->n_levels, rv_hnsw_count(index));
    }
    status = rv__hnsw_sound(ctx, index);
    if (!status) status = rv__hnsw_check_upper(ctx, index);
    if (!status) status = rv__hnsw_check_base(ctx, index);
    if (!status && index->n_levels) status = rv__hnsw_check_reach(ctx, index);
    return status ? status : rv__ok(ctx);
}

#undef RV__CODE_HEAD
#undef RV__HNSW_LEVELS
#undef RV__HPAR

#endif /* RV_HNSW_IMAGE_C */
