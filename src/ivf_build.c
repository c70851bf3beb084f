#ifndef RV_IVF_BUILD_C
#define RV_IVF_BUILD_C
#include "ivf.c"

/* Learning centres and codes, dealing rows out to lists, and the verbs that change an index.

   Everything that can fail comes first: rows get their list and code in arrays of their own, room
   is made, then rows enter lists, and last the store takes the vectors; when it refuses them, or
   the caller cancels, the lists are cut to what they were. Each step runs over rows in parallel or
   in slot order, so that the result does not depend on the number of workers. */

#define RV__IVF_PIECE 4096u      /* most rows dealt out together, ... */
#define RV__IVF_FLOATS 8388608u  /* ... and about so many numbers     */
#define RV__IVF_ROWS 0xFFFFFFFEu /* most slots                        */

/* Rows to deal out: vectors in the caller's form, or slots of the store. */
typedef struct rv__ivf_source {
    const rv__store *store;
    const unsigned char *vectors; /* [n] packed, or NULL                                          */
    const uint32_t *slots;        /* [n], or NULL: slot i                                         */
    size_t n;
} rv__ivf_source;

/* Row i as the store wants a query. */
static void rv__ivf_fetch(const rv__ivf_source *from, size_t i, void *query)
{
    if (from->vectors) {
        rv__store_prepare(from->store, from->vectors + i * rv__store_vector_bytes(from->store),
                          query);
    } else {
        rv__store_prepare_row(from->store, from->slots ? from->slots[i] : (uint32_t)i, query);
    }
}

/* Lists and codes of n rows. */
typedef struct rv__ivf_deal {
    const rv__ivf_source *from;
    const rv__ivf_lists *l;
    rv_isa isa;
    size_t n, code_bytes;
    uint32_t *list;          /* [n]                                                               */
    unsigned char *codes;    /* [n, code_bytes]                                                   */
    float *factors;          /* [n, 2]                                                            */
    /* a piece */
    size_t first;
    float *rows;             /* [piece, dim] when there are means                                 */
    float *distance;         /* [n_lists] of one row whose lists are dealt out to the lanes       */
    unsigned char *scratch;  /* [lanes, lane_bytes]: a query, then what codes or distances need   */
    size_t query_bytes, lane_bytes;
} rv__ivf_deal;

static void rv__ivf_fetch_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__ivf_deal *deal = (const rv__ivf_deal *)arg;
    unsigned char *query = deal->scratch + lane * deal->lane_bytes;
    for (size_t i = begin; i < end; i++) {
        rv__ivf_fetch(deal->from, deal->first + i, query);
        memcpy(deal->rows + i * deal->l->dim, query, deal->l->dim * sizeof(float));
    }
}

/* Distances of a prepared row to n centres from `first` on. */
static void rv__ivf_to_centres(const rv__ivf_deal *deal, const void *query, size_t first, size_t n,
                               float *distance)
{
    const rv__ivf_lists *l = deal->l;
    const unsigned char *means = (const unsigned char *)l->means;
    if (l->medoids) {
        rv__store_scan(&l->centres, deal->isa, query, NULL, first, n, distance);
    } else {
        l->kernels->scan[RV__OP_L2][RV__TYPE_F32](query, means + first * l->dim * sizeof(float),
                                                  l->dim * sizeof(float), NULL, n, l->dim,
                                                  distance);
    }
}

static uint32_t rv__ivf_argmin(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) best = x[i] < x[best] ? i : best;
    return (uint32_t)best;
}

/* Nearest centres by measuring all of them, for few rows and for metrics without means. */
static void rv__ivf_measure_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__ivf_deal *deal = (const rv__ivf_deal *)arg;
    const rv__ivf_lists *l = deal->l;
    unsigned char *query = deal->scratch + lane * deal->lane_bytes;
    float *distance = (float *)(void *)(query + deal->query_bytes);
    for (size_t i = begin; i < end; i++) {
        rv__ivf_fetch(deal->from, deal->first + i, query);
        if (l->means) memcpy(deal->rows + i * l->dim, query, l->dim * sizeof(float));
        rv__ivf_to_centres(deal, query, 0, l->n_lists, distance);
        deal->list[deal->first + i] = rv__ivf_argmin(distance, l->n_lists);
    }
}

/* Some lists for the one row at hand. */
static void rv__ivf_share_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__ivf_deal *deal = (const rv__ivf_deal *)arg;
    (void)lane;
    rv__ivf_to_centres(deal, deal->scratch, begin, end - begin, deal->distance + begin);
}

/* The same where one row is work enough for all lanes. */
static rv_status rv__ivf_measure_shared(rv_ctx *ctx, rv__ivf_deal *deal, size_t m)
{
    const rv__ivf_lists *l = deal->l;
    const size_t each = 1 + 500000u / l->dim; /* lists; sections start at multiples of it */
    deal->distance = (float *)(void *)(deal->scratch + deal->query_bytes);
    for (size_t i = 0; i < m; i++) {
        rv_status status;
        rv__ivf_fetch(deal->from, deal->first + i, deal->scratch);
        if (l->means) memcpy(deal->rows + i * l->dim, deal->scratch, l->dim * sizeof(float));
        status = rv__parallel_for(ctx, l->n_lists, each, 4 * each, rv__ivf_share_range, deal);
        if (status) return status;
        deal->list[deal->first + i] = rv__ivf_argmin(deal->distance, l->n_lists);
    }
    return RV_OK;
}

static void rv__ivf_code_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__ivf_deal *deal = (const rv__ivf_deal *)arg;
    float *scratch = (float *)(void *)(deal->scratch + lane * deal->lane_bytes + deal->query_bytes);
    for (size_t i = begin; i < end; i++) {
        size_t row = deal->first + i;
        rv__ivf_code(deal->l, deal->rows + i * deal->l->dim, deal->list[row],
                     deal->codes + row * deal->code_bytes, deal->factors + 2 * row, scratch);
    }
}

/* Runs fn over m rows and polls every `section` of them. */
static rv_status rv__ivf_over_rows(rv_ctx *ctx, size_t m, size_t section, rv__range_fn fn,
                                   rv__ivf_deal *deal)
{
    return rv__parallel_for(ctx, m, section < 16 ? section : 16, section, fn, deal);
}

static rv_status rv__ivf_deal_piece(rv_ctx *ctx, rv__ivf_deal *deal, size_t m)
{
    const rv__ivf_lists *l = deal->l;
    const uint64_t each = (uint64_t)l->dim * l->n_lists; /* to measure a row */
    rv_status status;
    if (!l->trained) {
        for (size_t i = 0; i < m; i++) deal->list[deal->first + i] = 0;
        return rv__poll(ctx);
    }
    if (l->medoids || m < 32) {
        if (each > 2000000u) return rv__ivf_measure_shared(ctx, deal, m);
        return rv__ivf_over_rows(ctx, m, 1 + (size_t)(2000000u / each), rv__ivf_measure_range,
                                 deal);
    }
    status = rv__ivf_over_rows(ctx, m, 1 + 1000000u / ((size_t)l->dim + 16), rv__ivf_fetch_range,
                               deal);
    if (status) return status;
    return rv_kmeans_assign(ctx, l->means, l->n_lists, l->dim, deal->rows, 0, m,
                            deal->list + deal->first, NULL);
}

static void rv__ivf_deal_free(const rv_alloc *alloc, rv__ivf_deal *deal)
{
    rv__put(alloc, deal->list, deal->n, sizeof(uint32_t));
    rv__put(alloc, deal->codes, deal->n, deal->code_bytes);
    rv__put(alloc, deal->factors, 2 * deal->n, sizeof(float));
    memset(deal, 0, sizeof *deal);
}

/* Finds list and code of every row of a source; free the result with rv__ivf_deal_free. */
static rv_status rv__ivf_deal_out(rv_ctx *ctx, const rv_alloc *alloc, const rv__ivf_lists *l,
                                  const rv__ivf_source *from, rv__ivf_deal *deal)
{
    const size_t lanes = rv__lanes(ctx), some = RV__IVF_FLOATS / l->dim;
    const size_t most = some < RV__IVF_PIECE ? some : RV__IVF_PIECE;
    const size_t piece = from->n < most ? from->n : most;
    const size_t row_floats = l->means ? piece * l->dim : 0;
    size_t extra = l->n_lists * sizeof(float);
    rv_status status = RV_OK;
    memset(deal, 0, sizeof *deal);
    deal->from = from;
    deal->l = l;
    deal->isa = ctx ? ctx->isa : RV_ISA_BEST;
    deal->n = from->n;
    deal->code_bytes = rv__ivf_code_bytes(l);
    if (l->quant && rv__ivf_code_scratch(l) * sizeof(float) > extra)
        extra = rv__ivf_code_scratch(l) * sizeof(float);
    deal->query_bytes = rv__round_up(rv__store_query_bytes(from->store), 64);
    deal->lane_bytes = deal->query_bytes + rv__round_up(extra, 64);
    deal->list = (uint32_t *)rv__get(alloc, deal->n, sizeof(uint32_t));
    deal->codes = (unsigned char *)rv__get(alloc, deal->n, deal->code_bytes);
    deal->factors = (float *)rv__get(alloc, 2 * deal->n, sizeof(float));
    deal->rows = (float *)rv__get(alloc, row_floats, sizeof(float));
    deal->scratch = (unsigned char *)rv__get(alloc, lanes, deal->lane_bytes);
    if (!deal->list || !deal->codes || !deal->factors || !deal->rows || !deal->scratch) {
        status = rv__no_memory(ctx, rv__mul(deal->n, deal->code_bytes + 12));
    }
    for (; !status && deal->first < from->n; deal->first += piece) {
        size_t m = from->n - deal->first < piece ? from->n - deal->first : piece;
        status = rv__ivf_deal_piece(ctx, deal, m);
        if (!status && l->quant) {
            status = rv__ivf_over_rows(ctx, m, 1 + 200000u / ((size_t)l->dim + 16),
                                       rv__ivf_code_range, deal);
        }
    }
    rv__put(alloc, deal->scratch, lanes, deal->lane_bytes);
    rv__put(alloc, deal->rows, row_floats, sizeof(float));
    if (status) rv__ivf_deal_free(alloc, deal);
    return status;
}

/* Makes room in the pool for the rows of a deal. */
static rv_status rv__ivf_make_room(rv_ctx *ctx, rv__ivf_lists *l, const rv__ivf_deal *deal)
{
    size_t blocks = 0;
    uint32_t *more = (uint32_t *)rv__get_zero(&l->alloc, l->n_lists, sizeof(uint32_t));
    rv_status status = RV_OK;
    if (!more) return rv__no_memory(ctx, l->n_lists * sizeof(uint32_t));
    for (size_t i = 0; i < deal->n && !status; i++) {
        more[deal->list[i]]++;
        if (i % 65536 == 65535) status = rv__poll(ctx);
    }
    for (size_t i = 0; i < l->n_lists; i++) {
        blocks += ((size_t)l->size[i] + more[i] + 31) / 32 - ((size_t)l->size[i] + 31) / 32;
    }
    rv__put(&l->alloc, more, l->n_lists, sizeof(uint32_t));
    return status ? status : rv__ivf_pool_grow(ctx, l, blocks, deal->n > 1);
}

/* Enters the rows of a deal under the slots given (NULL: first + i); *entered: how many of them,
   also on failure. */
static rv_status rv__ivf_enter(rv_ctx *ctx, rv__ivf_lists *l, const rv__ivf_deal *deal,
                               const uint32_t *slots, uint32_t first, uint32_t *place,
                               size_t *entered)
{
    size_t left = 0;
    for (*entered = 0; *entered < deal->n; ++*entered) {
        const size_t i = *entered;
        uint32_t slot = slots ? slots[i] : first + (uint32_t)i, at;
        rv_status status = rv__poll_by(ctx, &left, 256 + 8 * l->n_sub);
        if (status) return status;
        at = rv__ivf_push(l, deal->list[i], slot);
        place[slot] = at;
        if (l->quant) {
            rv__ivf_put_code(l, at, deal->codes + i * deal->code_bytes, deal->factors + 2 * i);
        }
    }
    return RV_OK;
}

/* Cuts the chain of a list, whose size is right, behind its last row. */
static void rv__ivf_cut_chain(rv_ctx *ctx, rv__ivf_lists *l, uint32_t list)
{
    uint32_t last = RV__IVF_NONE, rest = l->head[list];
    for (uint32_t left = l->size[list]; left > 0; left -= left < 32 ? left : 32) {
        last = rest;
        rest = l->next[rest];
        if (left % 65536 < 32) rv__poll_undo(ctx);
    }
    l->tail[list] = last;
    if (last == RV__IVF_NONE) {
        l->head[list] = RV__IVF_NONE;
    } else {
        const uint32_t kept = (l->size[list] - 1) % 32 + 1;
        l->next[last] = RV__IVF_NONE;
        memset(l->ids + (size_t)last * 32 + kept, 0, (32 - kept) * sizeof(uint32_t));
    }
    while (rest != RV__IVF_NONE) {
        const uint32_t next = l->next[rest];
        l->next[rest] = l->spare;
        l->spare = rest;
        rest = next;
    }
}

/* Takes the first n rows of a deal, which came last into their lists, out again. */
static void rv__ivf_leave(rv_ctx *ctx, rv__ivf_lists *l, const rv__ivf_deal *deal, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        l->size[deal->list[i]]--;
        l->tail[deal->list[i]] = RV__IVF_NONE; /* to be cut */
        if (i % 65536 == 65535) rv__poll_undo(ctx);
    }
    for (uint32_t i = 0; i < l->n_lists; i++) {
        if (l->tail[i] == RV__IVF_NONE && l->head[i] != RV__IVF_NONE) rv__ivf_cut_chain(ctx, l, i);
    }
}

/* ---- learning ---- */

static size_t rv__ivf_sample_place(const rv_ivf *index, size_t i, size_t s, size_t n)
{
    uint64_t from = (uint64_t)i * n / s, to = (uint64_t)(i + 1) * n / s;
    return (size_t)(from + rv__mix(index->seed + i) % (to - from));
}

static size_t rv__ivf_choose_lists(const rv_ivf *index, size_t n)
{
    size_t lists = index->config.n_lists;
    if (lists == 0) lists = (size_t)(sqrt((double)n) + 0.5);
    if (lists > n / 8) lists = n / 8;
    return lists > RV__IVF_LISTS_MAX ? RV__IVF_LISTS_MAX : lists;
}

static rv_ivf_codes rv__ivf_codes_of(const rv_ivf_config *config)
{
    if (config->codes != RV_IVF_CODES_AUTO) return config->codes;
    return rv__ivf_dense(config->metric) ? RV_IVF_CODES_RABITQ : RV_IVF_CODES_NONE;
}

/* Random rows as centres. */
static rv_status rv__ivf_learn_medoids(rv_ctx *ctx, const rv_ivf *index, const rv__ivf_source *from,
                                       rv__ivf_lists *l)
{
    const rv__store *store = from->store;
    const size_t bytes = rv__store_vector_bytes(store);
    unsigned char *rows = (unsigned char *)rv__get(&l->alloc, l->n_lists, bytes);
    rv_status status = RV_OK;
    size_t left = 0;
    if (!rows) return rv__no_memory(ctx, l->n_lists * bytes);
    for (size_t i = 0; i < l->n_lists && !status; i++) {
        size_t row = rv__ivf_sample_place(index, i, l->n_lists, from->n);
        status = rv__poll_by(ctx, &left, bytes + 64);
        if (from->vectors) {
            memcpy(rows + i * bytes, from->vectors + row * bytes, bytes);
        } else {
            rv__store_decode(store, from->slots ? from->slots[row] : (uint32_t)row,
                             rows + i * bytes);
        }
    }
    if (!status) status = rv__ivf_make_medoids(ctx, l, store, rows);
    rv__put(&l->alloc, rows, l->n_lists, bytes);
    return status;
}

/* Codes of the residuals, which take the place of the sample. */
static rv_status rv__ivf_learn_codes(rv_ctx *ctx, const rv_ivf *index, rv__ivf_lists *l,
                                     float *sample, size_t s, const uint32_t *label)
{
    const size_t dim = l->dim;
    const rv_ivf_codes codes = rv__ivf_codes_of(&index->config);
    size_t left = 0;
    rv_quant_config config;
    rv_status status;
    if (codes == RV_IVF_CODES_NONE) return RV_OK;
    for (size_t i = 0; i < s; i++) {
        const float *mean = l->means + (size_t)label[i] * dim;
        status = rv__poll_by(ctx, &left, dim + 32);
        if (status) return status;
        for (size_t j = 0; j < dim; j++) sample[i * dim + j] -= mean[j];
    }
    memset(&config, 0, sizeof config);
    config.dim = l->dim;
    config.metric = RV_METRIC_IP; /* tables of products with the residual */
    config.kind = codes == RV_IVF_CODES_PQ ? RV_QUANT_PQ : RV_QUANT_RABITQ;
    if (codes == RV_IVF_CODES_PQ) {
        config.m = index->config.m;
        if (config.m == 0)
            config.m = dim <= 256 ? (l->dim + 3) / 4 : dim <= 512 ? 64 : (l->dim + 7) / 8;
    }
    status = rv__quant_make(ctx, &config, rv__mix(index->seed), &l->quant);
    if (!status) status = rv_quant_train(ctx, l->quant, sample, 0, s);
    if (status) return status;
    /* residuals have no mean to speak of; without one the formulas of ivf.c hold as they stand */
    if (l->quant->mean) memset(l->quant->mean, 0, (dim + l->quant->padded) * sizeof(float));
    return RV_OK;
}

/* Shape of the codes that follows from the quantizer. */
static void rv__ivf_shape(rv__ivf_lists *l)
{
    if (!l->quant) return;
    l->n_sub = l->quant->rotation ? l->quant->padded / 4 : rv__round_up(l->quant->config.m, 2);
    l->n_factors = l->quant->rotation ? 2 : 1;
}

static rv_status rv__ivf_learn_means(rv_ctx *ctx, const rv_ivf *index, const rv__ivf_source *from,
                                     rv__ivf_lists *l)
{
    const size_t dim = l->dim, most = ((size_t)1 << 25) / dim;
    size_t s = 48 * (size_t)l->n_lists, query_bytes = rv__store_query_bytes(from->store);
    size_t left = 0;
    rv_kmeans_config config;
    rv_status status = RV_OK;
    float *sample;
    uint32_t *label;
    void *query;
    if (s > most) s = most;
    if (s < 8192) s = 8192;
    if (s < 8 * (size_t)l->n_lists) s = 8 * (size_t)l->n_lists;
    if (s > from->n) s = from->n;
    sample = (float *)rv__get(&l->alloc, s, dim * sizeof(float));
    label = (uint32_t *)rv__get(&l->alloc, s, sizeof(uint32_t));
    query = rv__get(&l->alloc, query_bytes, 1);
    l->means = (float *)rv__get(&l->alloc, (size_t)l->n_lists * dim, sizeof(float));
    if (!sample || !label || !query || !l->means)
        status = rv__no_memory(ctx, s * dim * sizeof(float));
    for (size_t i = 0; !status && i < s; i++) {
        size_t row = rv__ivf_sample_place(index, i, s, from->n);
        status = rv__poll_by(ctx, &left, 3 * (dim + 64));
        if (!status && from->vectors) {
            const unsigned char *vector = from->vectors + row * dim * sizeof(float);
            status = rv__store_check(NULL, from->store, vector, "");
            if (status) {
                status = rv__fail(ctx, status, row * dim, "row %z holds values that cannot be kept",
                                  row);
            }
        }
        if (status) break;
        rv__ivf_fetch(from, row, query);
        memcpy(sample + i * dim, query, dim * sizeof(float));
    }
    if (!status) {
        memset(&config, 0, sizeof config);
        config.k = l->n_lists;
        config.iterations = index->config.iterations ? index->config.iterations : 10;
        config.sample = 1048576;
        config.spherical = l->metric == RV_METRIC_COSINE;
        status =
            rv__kmeans_train(ctx, &config, index->seed, sample, dim, s, dim, l->means, label, NULL);
    }
    if (!status) status = rv__ivf_make_coarse(ctx, l);
    if (!status) status = rv__ivf_learn_codes(ctx, index, l, sample, s, label);
    rv__put(&l->alloc, query, query_bytes, 1);
    rv__put(&l->alloc, label, s, sizeof(uint32_t));
    rv__put(&l->alloc, sample, s, dim * sizeof(float));
    return status;
}

/* Fresh, empty lists learned from a source; one list when it is small. */
static rv_status rv__ivf_learn(rv_ctx *ctx, const rv_ivf *index, const rv__ivf_source *from,
                               rv__ivf_lists *l)
{
    const rv__store *store = &index->store;
    const int tiny = from->n < RV__IVF_LEAST;
    rv_status status =
        rv__ivf_lists_init(ctx, l, &store->alloc, store->dim, store->metric,
                           tiny ? 1 : (uint32_t)rv__ivf_choose_lists(index, from->n));
    if (status || tiny) return status;
    status = rv__ivf_dense(store->metric) ? rv__ivf_learn_means(ctx, index, from, l)
                                          : rv__ivf_learn_medoids(ctx, index, from, l);
    if (status) {
        rv__ivf_lists_free(l);
        return status;
    }
    l->trained = 1;
    rv__ivf_shape(l);
    return RV_OK;
}

/* ---- the verbs ---- */

static rv_status rv__ivf_place_room(rv_ctx *ctx, rv_ivf *index, size_t need)
{
    size_t half = index->place_capacity + index->place_capacity / 2;
    uint32_t *place;
    rv_status status;
    if (need <= index->place_capacity) return RV_OK;
    if (half > need) need = half;
    place = (uint32_t *)rv__regrow_polled(ctx, &index->store.alloc, index->place,
                                          index->place_capacity, need, sizeof(uint32_t), &status);
    if (!place) return status;
    index->place = place;
    index->place_capacity = need;
    return RV_OK;
}

static rv_status rv__ivf_check_config(rv_ctx *ctx, const rv_ivf_config *config)
{
    if (config->n_lists > RV__IVF_LISTS_MAX) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "n_lists is %z, allowed: 1 to 1048576",
                        (size_t)config->n_lists);
    }
    if ((unsigned)config->codes > (unsigned)RV_IVF_CODES_RABITQ) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "codes is %d, allowed: 0 to 3", (int)config->codes);
    }
    if (!rv__ivf_dense(config->metric) && config->codes > RV_IVF_CODES_NONE) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "codes need metric l2, ip or cosine, it is %s",
                        rv_metric_name(config->metric));
    }
    if (config->m > config->dim) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "m is %z, allowed: 1 to dim (%z)", (size_t)config->m,
                        (size_t)config->dim);
    }
    if (config->iterations > 10000) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "iterations is %z, allowed: 1 to 10000",
                        (size_t)config->iterations);
    }
    if (config->drop_vectors && rv__ivf_codes_of(config) == RV_IVF_CODES_NONE) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "drop_vectors is set, it needs codes");
    }
    return RV_OK;
}

RV_API rv_status rv_ivf_create(rv_ctx *ctx, const rv_ivf_config *config, rv_ivf **out)
{
    const rv_alloc alloc = rv__allocator(ctx);
    rv__store_spec spec;
    rv_ivf *index;
    rv_status status;
    if (!config) return rv__ivf_null(ctx, "config");
    if (!out) return rv__ivf_null(ctx, "out");
    index = (rv_ivf *)rv__get_zero(&alloc, 1, sizeof *index);
    if (!index) return rv__no_memory(ctx, sizeof *index);
    memset(&spec, 0, sizeof spec);
    spec.dim = config->dim;
    spec.metric = config->metric;
    spec.type = config->type;
    spec.custom = config->custom;
    spec.custom_user = config->custom_user;
    spec.capacity = config->capacity;
    spec.no_rows = config->drop_vectors;
    index->config = *config;
    index->seed = rv__seed(ctx);
    status = rv__store_init(ctx, &index->store, &spec);
    if (!status) {
        status = rv__ivf_check_config(ctx, config);
        if (!status)
            status = rv__ivf_lists_init(ctx, &index->lists, &alloc, config->dim, config->metric, 1);
        if (!status) {
            status = rv__ivf_place_room(ctx, index, config->capacity);
            if (status) rv__ivf_lists_free(&index->lists);
        }
        if (status) rv__store_free(&index->store);
    }
    if (status) {
        rv__put(&alloc, index, 1, sizeof *index);
        return status;
    }
    *out = index;
    return rv__ok(ctx);
}

RV_API void rv_ivf_destroy(rv_ivf *index)
{
    rv_alloc alloc;
    if (!index) return;
    alloc = index->store.alloc;
    rv__ivf_lists_free(&index->lists);
    rv__put(&alloc, index->place, index->place_capacity, sizeof(uint32_t));
    rv__store_free(&index->store);
    rv__put(&alloc, index, 1, sizeof *index);
}

/* Slots of all live rows, NULL when they are 0..n-1; *n is their number. */
static rv_status rv__ivf_live(rv_ctx *ctx, const rv__store *store, uint32_t **slots, size_t *n)
{
    uint32_t *out;
    size_t live = 0;
    rv_status status = RV_OK;
    *slots = NULL;
    *n = store->n - store->n_removed;
    if (!store->n_removed) return RV_OK;
    out = (uint32_t *)rv__get(&store->alloc, *n, sizeof(uint32_t));
    if (!out) return rv__no_memory(ctx, *n * sizeof(uint32_t));
    for (uint32_t slot = 0; slot < store->n && !status; slot++) {
        if (rv__store_live(store, slot)) out[live++] = slot;
        if (slot % 65536 == 0) status = rv__poll(ctx);
    }
    if (status) rv__put(&store->alloc, out, *n, sizeof(uint32_t));
    else *slots = out;
    return status;
}

/* Puts all rows of the store into fresh lists. */
static rv_status rv__ivf_fill(rv_ctx *ctx, const rv__ivf_source *from, rv__ivf_lists *l,
                              uint32_t *place)
{
    rv__ivf_deal deal;
    size_t entered;
    rv_status status = rv__ivf_deal_out(ctx, &l->alloc, l, from, &deal);
    if (status) return status;
    status = rv__ivf_make_room(ctx, l, &deal);
    if (!status) status = rv__ivf_enter(ctx, l, &deal, from->slots, 0, place, &entered);
    rv__ivf_deal_free(&l->alloc, &deal);
    return status;
}

RV_API rv_status rv_ivf_train(rv_ctx *ctx, rv_ivf *index)
{
    rv__ivf_source from;
    rv__ivf_lists fresh;
    rv_status status;
    uint32_t *slots, *place;
    size_t n;
    if (!index) return rv__ivf_null(ctx, "index");
    status = rv__store_writable(ctx, &index->store);
    if (status) return status;
    if (index->store.no_rows) {
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                        "the vectors were dropped: there is nothing to learn from");
    }
    status = rv__ivf_live(ctx, &index->store, &slots, &n);
    if (status) return status;
    memset(&from, 0, sizeof from);
    from.store = &index->store;
    from.slots = slots;
    from.n = n;
    place = (uint32_t *)rv__get(&index->store.alloc, index->place_capacity, sizeof(uint32_t));
    status = place ? rv__ivf_learn(ctx, index, &from, &fresh)
                   : rv__no_memory(ctx, index->place_capacity * 4);
    if (!status) {
        status = rv__ivf_fill(ctx, &from, &fresh, place);
        if (status) rv__ivf_lists_free(&fresh);
    }
    rv__put(&index->store.alloc, slots, n, sizeof(uint32_t));
    if (status) {
        rv__put(&index->store.alloc, place, index->place_capacity, sizeof(uint32_t));
        return status;
    }
    rv__put(&index->store.alloc, index->place, index->place_capacity, sizeof(uint32_t));
    rv__ivf_lists_free(&index->lists);
    index->place = place;
    index->lists = fresh;
    return rv__ok(ctx);
}

/* Deals new rows out to l, makes room, lets the store have them. On failure l holds what it held
   before. */
static rv_status rv__ivf_append(rv_ctx *ctx, rv_ivf *index, rv__ivf_lists *l,
                                const rv__ivf_source *from, const uint64_t *keys, uint32_t *place)
{
    size_t entered = 0;
    rv__ivf_deal deal;
    rv_status status = rv__ivf_deal_out(ctx, &l->alloc, l, from, &deal);
    if (status) return status;
    status = rv__ivf_make_room(ctx, l, &deal);
    if (!status) status = rv__ivf_enter(ctx, l, &deal, NULL, index->store.n, place, &entered);
    if (!status) status = rv__store_append(ctx, &index->store, keys, from->vectors, from->n);
    if (status) rv__ivf_leave(ctx, l, &deal, entered);
    rv__ivf_deal_free(&l->alloc, &deal);
    return status;
}

/* A first build: learn, then put what was there before and the new rows into fresh lists. */
static rv_status rv__ivf_build_first(rv_ctx *ctx, rv_ivf *index, const rv__ivf_source *from,
                                     const uint64_t *keys)
{
    rv__ivf_lists fresh;
    rv__ivf_source old;
    uint32_t *slots = NULL, *place;
    size_t n = 0;
    rv_status status = rv__ivf_learn(ctx, index, from, &fresh);
    if (status) return status;
    memset(&old, 0, sizeof old);
    place = (uint32_t *)rv__get(&fresh.alloc, index->place_capacity, sizeof(uint32_t));
    if (!place) status = rv__no_memory(ctx, index->place_capacity * sizeof(uint32_t));
    if (!status) status = rv__ivf_live(ctx, &index->store, &slots, &n);
    old.store = &index->store;
    old.slots = slots;
    old.n = n;
    if (!status && n) status = rv__ivf_fill(ctx, &old, &fresh, place);
    if (!status) status = rv__ivf_append(ctx, index, &fresh, from, keys, place);
    rv__put(&fresh.alloc, slots, n, sizeof(uint32_t));
    if (status) {
        rv__put(&fresh.alloc, place, index->place_capacity, sizeof(uint32_t));
        rv__ivf_lists_free(&fresh);
        return status;
    }
    rv__put(&fresh.alloc, index->place, index->place_capacity, sizeof(uint32_t));
    rv__ivf_lists_free(&index->lists);
    index->place = place;
    index->lists = fresh;
    return RV_OK;
}

RV_API rv_status rv_ivf_build(rv_ctx *ctx, rv_ivf *index, const uint64_t *keys, const void *vectors,
                              size_t n)
{
    rv__ivf_source from;
    rv_status status;
    if (!index) return rv__ivf_null(ctx, "index");
    status = rv__store_writable(ctx, &index->store);
    if (status) return status;
    if (n == 0) return rv__ok(ctx);
    if (!vectors) return rv__ivf_null(ctx, "vectors");
    if (n > RV__IVF_ROWS - index->store.n) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "%l rows and %z more exceed 2^32 - 2",
                        (uint64_t)index->store.n, n);
    }
    if (index->store.no_rows && !index->lists.trained && n < RV__IVF_LEAST) {
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                        "n is %z: dropped vectors need a first build of at least %z rows", n,
                        (size_t)RV__IVF_LEAST);
    }
    memset(&from, 0, sizeof from);
    from.store = &index->store;
    from.vectors = (const unsigned char *)vectors;
    from.n = n;
    status = rv__ivf_place_room(ctx, index, index->store.n + n);
    if (!status && !index->lists.trained && n >= RV__IVF_LEAST) {
        status = rv__ivf_build_first(ctx, index, &from, keys);
    } else if (!status) {
        status = rv__ivf_append(ctx, index, &index->lists, &from, keys, index->place);
    }
    return status ? status : rv__ok(ctx);
}

/* List and code of one vector that the store would take. */
static rv_status rv__ivf_deal_one(rv_ctx *ctx, rv_ivf *index, const void *vector,
                                  rv__ivf_source *from, rv__ivf_deal *deal)
{
    rv_status status = rv__store_writable(ctx, &index->store);
    if (!status) status = rv__store_check_new(ctx, &index->store, vector);
    if (status) return status;
    if (index->store.no_rows && !index->lists.trained) {
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                        "with dropped vectors the first rows must come through rv_ivf_build");
    }
    memset(from, 0, sizeof *from);
    from->store = &index->store;
    from->vectors = (const unsigned char *)vector;
    from->n = 1;
    status = rv__ivf_deal_out(ctx, &index->store.alloc, &index->lists, from, deal);
    if (status) return status;
    status = rv__ivf_pool_grow(ctx, &index->lists, 1, 0);
    if (status) rv__ivf_deal_free(&index->store.alloc, deal);
    return status;
}

static void rv__ivf_enter_one(rv_ivf *index, const rv__ivf_deal *deal, uint32_t slot)
{
    uint32_t at = rv__ivf_push(&index->lists, deal->list[0], slot);
    index->place[slot] = at;
    if (index->lists.quant) rv__ivf_put_code(&index->lists, at, deal->codes, deal->factors);
}

static void rv__ivf_take_out(rv_ivf *index, uint32_t slot)
{
    uint32_t at = index->place[slot], moved;
    rv__ivf_pull(&index->lists, at, &moved);
    if (moved != RV__IVF_NONE) index->place[moved] = at;
}

RV_API rv_status rv_ivf_add(rv_ctx *ctx, rv_ivf *index, uint64_t key, const void *vector)
{
    rv__ivf_source from;
    rv__ivf_deal deal;
    uint32_t slot = 0;
    rv_status status;
    if (!index) return rv__ivf_null(ctx, "index");
    if (rv__store_find(&index->store, key) != RV__NO_SLOT) return rv__store_exists(ctx, key);
    status = rv__ivf_deal_one(ctx, index, vector, &from, &deal);
    if (status) return status;
    status = rv__ivf_place_room(ctx, index, (size_t)index->store.n + 1);
    if (!status) status = rv__store_add(ctx, &index->store, key, vector, &slot);
    if (!status) rv__ivf_enter_one(index, &deal, slot);
    rv__ivf_deal_free(&index->store.alloc, &deal);
    return status ? status : rv__ok(ctx);
}

/* Slot of a key that must be there. */
static rv_status rv__ivf_find(rv_ctx *ctx, const rv_ivf *index, uint64_t key, uint32_t *slot)
{
    if (!index) return rv__ivf_null(ctx, "index");
    return rv__store_require(ctx, &index->store, key, slot);
}

RV_API rv_status rv_ivf_update(rv_ctx *ctx, rv_ivf *index, uint64_t key, const void *vector)
{
    rv__ivf_source from;
    rv__ivf_deal deal;
    uint32_t slot;
    rv_status status = rv__ivf_find(ctx, index, key, &slot);
    if (!status) status = rv__ivf_deal_one(ctx, index, vector, &from, &deal);
    if (status) return status;
    status = rv__store_replace(ctx, &index->store, slot, vector);
    if (!status) {
        rv__ivf_take_out(index, slot);
        rv__ivf_enter_one(index, &deal, slot);
    }
    rv__ivf_deal_free(&index->store.alloc, &deal);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_ivf_upsert(rv_ctx *ctx, rv_ivf *index, uint64_t key, const void *vector)
{
    if (rv_ivf_contains(index, key)) return rv_ivf_update(ctx, index, key, vector);
    return rv_ivf_add(ctx, index, key, vector);
}

RV_API rv_status rv_ivf_remove(rv_ctx *ctx, rv_ivf *index, uint64_t key)
{
    uint32_t slot;
    rv_status status = rv__ivf_find(ctx, index, key, &slot);
    if (!status) status = rv__store_remove(ctx, &index->store, slot);
    if (status) return status;
    rv__ivf_take_out(index, slot);
    return rv__ok(ctx);
}

RV_API int rv_ivf_contains(const rv_ivf *index, uint64_t key)
{
    return index && rv__store_find(&index->store, key) != RV__NO_SLOT;
}

RV_API rv_status rv_ivf_get(rv_ctx *ctx, const rv_ivf *index, uint64_t key, void *out)
{
    rv_alloc alloc = rv__allocator(ctx);
    uint32_t slot;
    size_t floats;
    float *scratch;
    rv_status status = rv__ivf_find(ctx, index, key, &slot);
    if (status) return status;
    if (!out) return rv__ivf_null(ctx, "out");
    if (!index->store.no_rows) {
        rv__store_decode(&index->store, slot, out);
        return rv__ok(ctx);
    }
    floats = index->store.dim + 64 + index->lists.n_sub + index->lists.quant->code_bytes +
             index->lists.quant->padded;
    scratch = (float *)rv__get(&alloc, floats, sizeof(float));
    if (!scratch) return rv__no_memory(ctx, floats * sizeof(float));
    rv__ivf_decode(&index->lists, index->place[slot], scratch,
                   scratch + rv__round_up(index->store.dim, 16));
    for (size_t j = 0; index->store.norms && j < index->store.dim; j++)
        scratch[j] *= index->store.norms[slot];
    memcpy(out, scratch, index->store.dim * sizeof(float));
    rv__put(&alloc, scratch, floats, sizeof(float));
    return rv__ok(ctx);
}

RV_API size_t rv_ivf_count(const rv_ivf *index)
{
    return index ? index->store.n - index->store.n_removed : 0;
}

/* Fills stats; returns the bytes among them that lie in an image. */
static size_t rv__ivf_measure_all(const rv_ivf *index, rv_ivf_stats *stats)
{
    const rv__ivf_lists *l = &index->lists;
    const rv__store *store = &index->store;
    size_t image;
    memset(stats, 0, sizeof *stats);
    stats->count = rv_ivf_count(index);
    stats->n_lists = l->n_lists;
    stats->smallest = l->size[0];
    for (size_t i = 0; i < l->n_lists; i++) {
        if (l->size[i] < stats->smallest) stats->smallest = l->size[i];
        if (l->size[i] > stats->largest) stats->largest = l->size[i];
    }
    stats->row_code_bytes = (uint32_t)(l->n_sub / 2 + l->n_factors * sizeof(float));
    image = rv__ivf_lists_bytes(l, stats);
    stats->list_bytes += index->place_capacity * sizeof(uint32_t);
    rv__store_measure(store, &stats->vector_bytes, &stats->key_bytes);
    stats->total_bytes = sizeof *index + stats->vector_bytes + stats->key_bytes +
                         stats->code_bytes + stats->list_bytes + stats->centre_bytes;
    if (store->viewed) image += stats->vector_bytes + stats->key_bytes - rv__store_bytes(store);
    return image;
}

RV_API void rv_ivf_stats_get(const rv_ivf *index, rv_ivf_stats *stats)
{
    if (!stats) return;
    memset(stats, 0, sizeof *stats);
    if (index) (void)rv__ivf_measure_all(index, stats);
}

RV_API size_t rv_ivf_bytes(const rv_ivf *index)
{
    rv_ivf_stats stats;
    size_t image;
    if (!index) return 0;
    image = rv__ivf_measure_all(index, &stats);
    return stats.total_bytes - image;
}

RV_API rv_status rv_ivf_reserve(rv_ctx *ctx, rv_ivf *index, size_t capacity)
{
    rv_status status;
    if (!index) return rv__ivf_null(ctx, "index");
    status = rv__store_reserve(ctx, &index->store, capacity);
    if (!status) status = rv__ivf_place_room(ctx, index, capacity);
    return status ? status : rv__ok(ctx);
}

/* The chains of l, each block behind the one before, in a pool of just that size. new_slot: the new
   names of the slots; place: where each of those lies. */
static rv_status rv__ivf_lay_out(rv_ctx *ctx, const rv__ivf_lists *l, const uint32_t *new_slot,
                                 rv__ivf_lists *to, uint32_t *place)
{
    uint32_t block = 0;
    size_t work = 0;
    for (uint32_t list = 0; list < l->n_lists; list++) {
        uint32_t left = l->size[list];
        to->head[list] = to->tail[list] = RV__IVF_NONE;
        to->size[list] = left;
        for (uint32_t b = l->head[list]; b != RV__IVF_NONE; b = l->next[b], block++) {
            const uint32_t *from = l->ids + (size_t)b * 32;
            uint32_t *ids = to->ids + (size_t)block * 32;
            rv_status status = rv__poll_by(ctx, &work, 512 + 16 * l->n_sub);
            if (status) return status;
            if (to->head[list] == RV__IVF_NONE) to->head[list] = block;
            else to->next[block - 1] = block;
            to->tail[list] = block;
            to->next[block] = RV__IVF_NONE;
            to->owner[block] = list;
            for (uint32_t i = 0; i < 32; i++) {
                ids[i] = left ? new_slot[from[i]] : 0;
                if (!left) continue;
                place[ids[i]] = block * 32 + i;
                left--;
            }
            if (!l->n_sub) continue;
            memcpy(to->codes + (size_t)block * 16 * l->n_sub, l->codes + (size_t)b * 16 * l->n_sub,
                   16 * l->n_sub);
            memcpy(to->factors + (size_t)block * 32 * l->n_factors,
                   l->factors + (size_t)b * 32 * l->n_factors, 32 * l->n_factors * sizeof(float));
        }
    }
    to->n_blocks = block;
    to->spare = RV__IVF_NONE;
    return RV_OK;
}

RV_API rv_status rv_ivf_compact(rv_ctx *ctx, rv_ivf *index)
{
    rv__ivf_lists *l, to;
    rv__store store;
    rv_alloc alloc;
    uint32_t *new_slot, *place, *chains;
    size_t blocks = 0, n, live, n_lists;
    rv_status status;
    if (!index) return rv__ivf_null(ctx, "index");
    status = rv__store_writable(ctx, &index->store);
    if (status) return status;
    alloc = index->store.alloc;
    l = &index->lists;
    n = index->store.n;
    n_lists = l->n_lists;
    live = n - index->store.n_removed;
    for (size_t i = 0; i < n_lists; i++) blocks += ((size_t)l->size[i] + 31) / 32;
    new_slot = (uint32_t *)rv__get(&alloc, n, sizeof(uint32_t));
    place = (uint32_t *)rv__get(&alloc, live, sizeof(uint32_t));
    chains = (uint32_t *)rv__get(&alloc, 3 * n_lists, sizeof(uint32_t));
    status = new_slot && place && chains ? rv__ivf_pool_get(ctx, l, blocks, &to)
                                         : rv__no_memory(ctx, rv__mul(n, sizeof(uint32_t)));
    if (!status) {
        to.head = chains;
        to.tail = chains + n_lists;
        to.size = chains + 2 * n_lists;
        status = rv__store_compacted(ctx, &index->store, new_slot, &store);
        if (!status) {
            status = rv__ivf_lay_out(ctx, l, new_slot, &to, place);
            if (status) rv__store_discard(&index->store, &store);
        }
        if (status) rv__ivf_drop_pool(&to);
    }
    rv__put(&alloc, new_slot, n, sizeof(uint32_t));
    if (status) {
        rv__put(&alloc, chains, 3 * n_lists, sizeof(uint32_t));
        rv__put(&alloc, place, live, sizeof(uint32_t));
        return status;
    }
    rv__store_swap(&index->store, &store);
    rv__put(&alloc, l->head, 3 * n_lists, sizeof(uint32_t));
    rv__ivf_drop_pool(l);
    *l = to;
    rv__put(&alloc, index->place, index->place_capacity, sizeof(uint32_t));
    index->place = place;
    index->place_capacity = live;
    return rv__ok(ctx);
}

#undef RV__IVF_FLOATS
#undef RV__IVF_PIECE
#undef RV__IVF_ROWS
#endif /* RV_IVF_BUILD_C */
