#ifndef RV_IVF_IMAGE_C
#define RV_IVF_IMAGE_C
#include "ivf_build.c"
#include "ivf_search.c"

/* Images and the proof of an index's invariants.

   Image "IVF ": the sections of the rows (store.c); IPAR u32[8] = n_lists, codes, m, iterations,
   drop_vectors of the config, lists there are, flags (1 trained, 2 centres are rows), 0; ISED
   u64[1];
   SIZE u32[lists] rows of each list; IDS  u32[blocks * 32] slots, list after list, each list from a
   new block of 32 on, 0 behind its last row. When trained: CENT f32[lists * dim], or the bits of
   the centres; with codes the sections of a quantizer (quant_api.c), CODE u8[blocks * 16 n_sub] and
   FACT f32[blocks * n_factors * 32] as ivf.c describes them. */

static uint32_t rv__ivf_size_blocks(uint32_t size)
{
    return size / 32 + (size % 32 != 0);
}

static void rv__ivf_save_blocks(rv__image_writer *w, const rv__ivf_lists *l, const char *tag,
                                size_t elem, const unsigned char *array, size_t per_block)
{
    size_t blocks = 0;
    for (size_t i = 0; i < l->n_lists; i++) blocks += rv__ivf_size_blocks(l->size[i]);
    rv__image_section_begin(w, tag, elem, blocks * per_block);
    for (size_t i = 0; i < l->n_lists; i++) {
        for (uint32_t b = l->head[i]; b != RV__IVF_NONE; b = l->next[b]) {
            rv__image_put(w, elem, array + (size_t)b * per_block * elem, per_block);
        }
    }
}

static rv_status rv__ivf_save_centres(rv_ctx *ctx, rv__image_writer *w, const rv__ivf_lists *l)
{
    const rv__store *centres = &l->centres;
    const size_t bytes = l->medoids ? rv__store_vector_bytes(centres) : 0;
    const size_t elem = l->medoids && centres->type == RV_DTYPE_U1 ? 1 : sizeof(float);
    void *row;
    if (!l->medoids) {
        rv__image_section(w, "CENT", sizeof(float), l->means, (size_t)l->n_lists * l->dim);
        return RV_OK;
    }
    row = rv__get(&l->alloc, bytes, 1);
    if (!row) return rv__no_memory(ctx, bytes);
    rv__image_section_begin(w, "CENT", elem, l->n_lists * (bytes / elem));
    for (uint32_t i = 0; i < l->n_lists; i++) {
        rv__store_decode(centres, i, row);
        rv__image_put(w, elem, row, bytes / elem);
    }
    rv__put(&l->alloc, row, bytes, 1);
    return RV_OK;
}

RV_API rv_status rv_ivf_save(rv_ctx *ctx, const rv_ivf *index, void *image, size_t cap,
                             size_t *bytes)
{
    const rv__ivf_lists *l;
    rv__image_writer w;
    rv_status status = RV_OK;
    uint32_t params[8];
    if (!index) return rv__ivf_null(ctx, "index");
    if (!bytes) return rv__ivf_null(ctx, "bytes");
    l = &index->lists;
    params[0] = index->config.n_lists;
    params[1] = (uint32_t)index->config.codes;
    params[2] = index->config.m;
    params[3] = index->config.iterations;
    params[4] = index->config.drop_vectors != 0;
    params[5] = l->n_lists;
    params[6] = (l->trained ? 1u : 0u) | (l->medoids ? 2u : 0u);
    params[7] = 0;
    rv__image_begin(ctx, &w, "IVF ", image, cap);
    (void)rv__store_save(&w, &index->store);
    rv__image_section(&w, "IPAR", sizeof(uint32_t), params, 8);
    rv__image_section(&w, "ISED", sizeof(uint64_t), &index->seed, 1);
    rv__image_section(&w, "SIZE", sizeof(uint32_t), l->size, l->n_lists);
    rv__ivf_save_blocks(&w, l, "IDS ", sizeof(uint32_t), (const unsigned char *)l->ids, 32);
    if (l->trained) status = rv__ivf_save_centres(ctx, &w, l);
    if (status) return status;
    if (l->quant) {
        rv__quant_save(&w, l->quant);
        rv__ivf_save_blocks(&w, l, "CODE", 1, l->codes, 16 * l->n_sub);
        rv__ivf_save_blocks(&w, l, "FACT", sizeof(float), (const unsigned char *)l->factors,
                            32 * l->n_factors);
    }
    return rv__image_end(ctx, &w, bytes);
}

/* ---- reading ---- */

static rv_status rv__ivf_load_centres(rv_ctx *ctx, const rv__image_reader *r,
                                      const rv__store *store, rv__ivf_lists *l)
{
    const size_t dim = l->dim;
    size_t count, each = store->type == RV_DTYPE_U1 ? (dim + 7) / 8 : dim;
    size_t elem = store->type == RV_DTYPE_U1 ? 1 : sizeof(float);
    rv_status status;
    void *rows = NULL;
    if (!rv__image_count(r, "CENT", elem, &count) || count != l->n_lists * each) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "section CENT is missing or of a wrong length");
    }
    status = rv__image_array(ctx, r, "CENT", elem, count, 0, &l->alloc, &rows);
    if (status) return status;
    if (!l->medoids) {
        l->means = (float *)rows;
        status = rv__image_check_finite(ctx, "CENT", l->means, count);
        return status ? status : rv__ivf_make_coarse(ctx, l);
    }
    status = rv__ivf_make_medoids(ctx, l, store, rows);
    rv__put(&l->alloc, rows, count, elem);
    if (status == RV_ERR_ARG)
        status = rv__fail(ctx, RV_ERR_FORMAT, 0, "a centre in the image cannot be");
    return status;
}

static rv_status rv__ivf_load_codes(rv_ctx *ctx, const rv__image_reader *r, rv__ivf_lists *l,
                                    int view)
{
    const rv_quant *quant;
    uint32_t conf[8];
    size_t count;
    void *p = NULL;
    rv_status status = rv__image_values(ctx, r, "CONF", sizeof(uint32_t), 8, conf);
    if (status) return status;
    if (conf[1] != l->dim || !conf[7]) { /* before memory is asked for */
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "the quantizer in the image is of other rows");
    }
    status = rv__quant_load(ctx, r, &l->quant);
    if (status) return status;
    quant = l->quant;
    if (quant->config.metric != RV_METRIC_IP ||
        !((quant->config.kind == RV_QUANT_PQ && quant->config.bits == 4) ||
          (quant->config.kind == RV_QUANT_RABITQ && quant->config.bits == 1))) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0,
                        "the quantizer in the image is not one of this index");
    }
    if (quant->mean) memset(quant->mean, 0, (l->dim + quant->padded) * sizeof(float));
    rv__ivf_shape(l);
    if (!rv__image_count(r, "CODE", 1, &count) || count != (size_t)l->n_blocks * 16 * l->n_sub ||
        !rv__image_count(r, "FACT", sizeof(float), &count) ||
        count != (size_t)l->n_blocks * 32 * l->n_factors) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0,
                        "section CODE or FACT is missing or of a wrong length");
    }
    status = rv__image_array(ctx, r, "CODE", 1, (size_t)l->n_blocks * 16 * l->n_sub, view,
                             &l->alloc, &p);
    if (status) return status;
    l->codes = (unsigned char *)p;
    status = rv__image_array(ctx, r, "FACT", sizeof(float), count, view, &l->alloc, &p);
    if (status) return status;
    l->factors = (float *)p;
    return rv__image_check_finite(ctx, "FACT", l->factors, count);
}

/* Chains from the sizes: the blocks of a list lie one behind the other. */
static rv_status rv__ivf_load_chains(rv_ctx *ctx, const rv__image_reader *r, const rv__store *store,
                                     rv__ivf_lists *l, int view)
{
    uint64_t rows = 0, blocks = 0;
    uint32_t block = 0;
    void *p = NULL;
    rv_status status = rv__image_values(ctx, r, "SIZE", sizeof(uint32_t), l->n_lists, l->size);
    if (status) return status;
    for (uint32_t i = 0; i < l->n_lists; i++) {
        rows += l->size[i];
        blocks += rv__ivf_size_blocks(l->size[i]);
    }
    if (rows != (uint64_t)store->n - store->n_removed || blocks > RV__IVF_NONE / 32) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "the lists hold %l rows, there are %l", rows,
                        (uint64_t)store->n - store->n_removed);
    }
    status =
        rv__image_array(ctx, r, "IDS ", sizeof(uint32_t), (size_t)blocks * 32, view, &l->alloc, &p);
    if (status) return status;
    l->ids = (uint32_t *)p;
    l->viewed = view;
    l->n_blocks = l->capacity = (uint32_t)blocks;
    l->next = (uint32_t *)rv__get(&l->alloc, (size_t)blocks, sizeof(uint32_t));
    l->owner = (uint32_t *)rv__get(&l->alloc, (size_t)blocks, sizeof(uint32_t));
    if (!l->next || !l->owner) return rv__no_memory(ctx, (size_t)blocks * sizeof(uint32_t));
    for (uint32_t i = 0; i < l->n_lists; i++) {
        uint32_t n = rv__ivf_size_blocks(l->size[i]);
        if (n == 0) continue;
        l->head[i] = block;
        for (; n > 0; n--, block++) {
            status = block % 65536 ? RV_OK : rv__poll(ctx);
            if (status) return status;
            l->next[block] = n > 1 ? block + 1 : RV__IVF_NONE;
            l->owner[block] = i;
            l->tail[i] = block;
        }
    }
    return RV_OK;
}

/* Every live slot exactly once, nothing behind the ends; fills place. */
static rv_status rv__ivf_load_places(rv_ctx *ctx, rv_ivf *index)
{
    const rv__ivf_lists *l = &index->lists;
    rv_status status = rv__fill_polled(ctx, index->place, 0xFF,
                                       index->place_capacity * sizeof(uint32_t)); /* NONE */
    if (status) return status;
    for (uint32_t i = 0; i < l->n_lists; i++) {
        uint32_t left = l->size[i];
        for (uint32_t b = l->head[i]; b != RV__IVF_NONE; b = l->next[b]) {
            status = b % 1024 ? RV_OK : rv__poll(ctx);
            if (status) return status;
            for (uint32_t lane = 0; lane < 32; lane++) {
                uint32_t slot = l->ids[(size_t)b * 32 + lane], at = b * 32 + lane;
                if (left == 0 ? slot != 0
                              : (!rv__store_live(&index->store, slot) ||
                                 index->place[slot] != RV__IVF_NONE)) {
                    return rv__fail(ctx, RV_ERR_FORMAT, at,
                                    "entry %z of the lists is not a row of its own", (size_t)at);
                }
                if (left == 0) continue;
                index->place[slot] = at;
                left--;
            }
        }
    }
    return RV_OK;
}

static rv_status rv__ivf_load_lists(rv_ctx *ctx, const rv__image_reader *r, rv_ivf *index, int view)
{
    const rv__store *store = &index->store;
    const int dense = rv__ivf_dense(store->metric);
    uint32_t params[8];
    size_t count;
    int coded;
    rv_status status = rv__image_values(ctx, r, "IPAR", sizeof(uint32_t), 8, params);
    if (!status) status = rv__image_values(ctx, r, "ISED", sizeof(uint64_t), 1, &index->seed);
    if (status) return status;
    index->config.dim = store->dim;
    index->config.metric = store->metric;
    index->config.type = store->type;
    index->config.custom = store->custom;
    index->config.custom_user = store->custom_user;
    index->config.n_lists = params[0];
    index->config.codes =
        params[1] <= (uint32_t)RV_IVF_CODES_RABITQ ? (rv_ivf_codes)params[1] : RV_IVF_CODES_AUTO;
    index->config.m = params[2];
    index->config.iterations = params[3];
    index->config.drop_vectors = params[4] != 0;
    if (rv__ivf_check_config(NULL, &index->config) || params[1] != (uint32_t)index->config.codes ||
        params[4] > 1 || (params[4] != 0) != (store->no_rows != 0) || params[5] < 1 ||
        params[5] > RV__IVF_LISTS_MAX || params[6] > 3 ||
        (params[6] & 1u ? ((params[6] & 2u) != 0) == dense : params[6] != 0 || params[5] != 1) ||
        params[7] || !rv__image_count(r, "SIZE", sizeof(uint32_t), &count) || count != params[5]) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0,
                        "the parameters of the lists in the image contradict themselves");
    }
    status =
        rv__ivf_lists_init(ctx, &index->lists, &store->alloc, store->dim, store->metric, params[5]);
    if (status) return status;
    index->lists.trained = (params[6] & 1u) != 0;
    index->lists.medoids = (params[6] & 2u) != 0;
    coded = index->lists.trained && dense && rv__ivf_codes_of(&index->config) != RV_IVF_CODES_NONE;
    if (store->no_rows && !coded && store->n > 0) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "the image has neither vectors nor codes");
    }
    status = rv__ivf_load_chains(ctx, r, store, &index->lists, view);
    if (!status && index->lists.trained)
        status = rv__ivf_load_centres(ctx, r, store, &index->lists);
    if (!status && coded) status = rv__ivf_load_codes(ctx, r, &index->lists, view);
    if (!status) status = rv__ivf_place_room(ctx, index, store->n);
    if (!status) status = rv__ivf_load_places(ctx, index);
    return status;
}

static rv_status rv__ivf_open(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                              void *custom_user, int view, rv_ivf **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__image_reader r;
    rv_ivf *index;
    rv_status status;
    if (!image) return rv__ivf_null(ctx, "image");
    if (!out) return rv__ivf_null(ctx, "out");
    status = rv__image_open(ctx, &r, image, bytes, "IVF ");
    if (status) return status;
    index = (rv_ivf *)rv__get_zero(&alloc, 1, sizeof *index);
    if (!index) return rv__no_memory(ctx, sizeof *index);
    index->lists.alloc = alloc;
    status = rv__store_load(ctx, &r, view, custom, custom_user, &index->store);
    if (status) {
        rv__put(&alloc, index, 1, sizeof *index);
        return status;
    }
    status = rv__ivf_load_lists(ctx, &r, index, view);
    if (status) {
        rv_ivf_destroy(index);
        return status;
    }
    *out = index;
    return rv__ok(ctx);
}

RV_API rv_status rv_ivf_load(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                             void *custom_user, rv_ivf **out)
{
    return rv__ivf_open(ctx, image, bytes, custom, custom_user, 0, out);
}

RV_API rv_status rv_ivf_view(rv_ctx *ctx, const void *image, size_t bytes, rv_custom_fn custom,
                             void *custom_user, rv_ivf **out)
{
    return rv__ivf_open(ctx, image, bytes, custom, custom_user, 1, out);
}

/* ---- proof ---- */

RV_API rv_status rv_ivf_check(rv_ctx *ctx, const rv_ivf *index)
{
    const rv__ivf_lists *l;
    uint64_t rows = 0, blocks = 0;
    if (!index) return rv__ivf_null(ctx, "index");
    l = &index->lists;
    for (uint32_t i = 0; i < l->n_lists; i++) {
        uint32_t left = l->size[i], last = RV__IVF_NONE;
        rv_status status = (i & 63u) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        for (uint32_t b = l->head[i]; b != RV__IVF_NONE; last = b, b = l->next[b]) {
            uint32_t n = left < 32 ? left : 32;
            if (blocks % 1024 == 1023) status = rv__poll(ctx);
            if (status) return status;
            if (b >= l->n_blocks || n == 0 || l->owner[b] != i || ++blocks > l->n_blocks) {
                return rv__fail(ctx, RV_ERR_FORMAT, b, "block %z of list %z is out of place",
                                (size_t)b, (size_t)i);
            }
            for (uint32_t lane = 0; lane < n; lane++) {
                uint32_t slot = l->ids[(size_t)b * 32 + lane];
                if (!rv__store_live(&index->store, slot) || index->place[slot] != b * 32 + lane) {
                    return rv__fail(ctx, RV_ERR_FORMAT, slot, "row %z is not where it should be",
                                    (size_t)slot);
                }
            }
            left -= n;
            rows += n;
        }
        if (left || last != l->tail[i]) {
            return rv__fail(ctx, RV_ERR_FORMAT, i, "the chain of list %z has a wrong end",
                            (size_t)i);
        }
    }
    for (uint32_t b = l->spare; b != RV__IVF_NONE; b = l->next[b]) {
        if (b >= l->n_blocks || ++blocks > l->n_blocks) {
            return rv__fail(ctx, RV_ERR_FORMAT, b, "block %z is free and in use", (size_t)b);
        }
    }
    if (rows != (uint64_t)index->store.n - index->store.n_removed || blocks != l->n_blocks) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "the lists hold %l rows in %l blocks, there are %z",
                        rows, blocks, rv_ivf_count(index));
    }
    return rv__ok(ctx);
}

#undef RV__IVF_BLOCK
#undef RV__IVF_CHUNK
#undef RV__IVF_LEAST
#undef RV__IVF_LISTS_MAX
#undef RV__IVF_NONE
#undef RV__IVF_RUN
#endif /* RV_IVF_IMAGE_C */
