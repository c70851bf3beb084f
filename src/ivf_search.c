#ifndef RV_IVF_SEARCH_C
#define RV_IVF_SEARCH_C
#include "ivf.c"

/* Search: rank the lists, scan the nearest ones, measure the best candidates.

   Lists are ranked by bytes of the centres first and by the centres themselves among twice as many
   as wanted. Candidates are numbers: ordered distance in the upper half, slot in the lower, kept in
   a buffer that is cut to the best R whenever it fills up; the R-th gives the bar that most rows
   fail with one compare.

   A filter shrinks the set; the neighbours it leaves lie in more lists. With a share s of the keys
   passing (estimated on a sample of rows when not given), n_probe / sqrt(s) lists are looked into,
   and all of them while fewer than k rows have been found. */

#define RV__IVF_STEP 256u  /* rows measured or estimated by one call */
#define RV__IVF_SAMPLE 256u /* rows a filter is tried on              */

/* One query on its way; all arrays belong to one block of memory. */
typedef struct rv__ivf_query {
    const rv_ivf *index;
    const rv__ivf_lists *l;
    const rv__kernels *kernels;
    rv_isa isa;
    const rv_filter *filter;
    unsigned char *query;        /* prepared by the store                                         */
    float *moved;                /* [dim] or [padded], query less offset, used up by prepare      */
    int8_t *bytes;               /* [wide] query as bytes for the first look                      */
    rv__quant_query head;
    unsigned char *tables;       /* what the quantizer prepares                                   */
    const uint8_t *lut;          /* the tables of bytes in it                                     */
    float *score;                /* [n_lists]                                                     */
    uint32_t *order;             /* [n_lists] lists, nearest first, as far as ranked              */
    float *base;                 /* [n_lists] their distances, in step with order                 */
    uint32_t *pick;              /* [n_lists]                                                     */
    float *distance;             /* [piece]                                                       */
    uint64_t *closest;           /* [room] candidates                                             */
    size_t n_near, keep, room;   /* the best `keep` matter                                        */
    int open;                    /* no bar yet: every row is a candidate, also at infinity        */
    float bar;
    rv_ivf_trace trace;
    rv_ctx *ctx;                 /* polled on the way; NULL: by whoever runs the batch            */
    rv_status status;
} rv__ivf_query;

/* ---- candidates ---- */

static uint64_t rv__ivf_candidate(float distance, uint32_t slot)
{
    return (uint64_t)rv__order_distance(distance) << 32 | slot;
}

static float rv__ivf_distance(uint64_t candidate)
{
    return rv__unorder_f32((uint32_t)(candidate >> 32));
}

#define RV__IVF_POLL 65536 /* candidates moved, or rows scanned, between two polls */

/* Moves the k smallest of x[n] to the front, k < n. Canceled, x is in some order. Source: Hoare,
   Algorithm 65: find, 1961. */
static rv_status rv__ivf_select(rv_ctx *ctx, uint64_t *x, size_t n, size_t k)
{
    int64_t low = 0, high = (int64_t)n - 1, at = (int64_t)k;
    while (low < high) {
        const uint64_t pivot = x[at];
        int64_t i = low, j = high;
        rv_status status = high - low < RV__IVF_POLL ? RV_OK : rv__poll(ctx);
        if (status) return status;
        do {
            while (x[i] < pivot) i++;
            while (pivot < x[j]) j--;
            if (i <= j) {
                uint64_t swap = x[i];
                x[i++] = x[j];
                x[j--] = swap;
            }
        } while (i <= j);
        if (j < at) low = i;
        if (at < i) high = j;
    }
    return RV_OK;
}

/* A poll within a query whose context may be polled; what stops it is kept in its status. */
static int rv__ivf_stopped(rv__ivf_query *q)
{
    if (q->ctx && !q->status) q->status = rv__poll(q->ctx);
    return q->status != RV_OK;
}

static void rv__ivf_cut(rv__ivf_query *q)
{
    uint64_t worst = 0;
    if (q->n_near <= q->keep) return; /* also where nothing is to be cut: keep SIZE_MAX */
    if (!q->status) q->status = rv__ivf_select(q->ctx, q->closest, q->n_near, q->keep);
    q->n_near = q->keep;
    for (size_t i = 0; i < q->n_near; i++) worst = q->closest[i] > worst ? q->closest[i] : worst;
    /* equal distances pass, so that the outcome does not depend on the order of the rows */
    q->open = (worst >> 32) >= 0xFF7FFFFFu; /* FLT_MAX: what follows is no bar */
    if (!q->open) q->bar = rv__unorder_f32((uint32_t)(worst >> 32) + 1u);
}

/* Offers n <= RV__IVF_STEP rows; ids and distance: [n]. */
static void rv__ivf_offer(rv__ivf_query *q, const uint32_t *ids, const float *distance, size_t n)
{
    size_t i = 0;
    if (q->n_near + n > q->room) rv__ivf_cut(q);
    for (;; i++) {
        if (!q->open) i = q->kernels->find_below(distance, i, n, q->bar);
        if (i >= n) break;
        if (q->filter && !rv__filter_pass(q->filter, rv__store_key(&q->index->store, ids[i])))
            continue;
        q->closest[q->n_near++] = rv__ivf_candidate(distance[i], ids[i]);
    }
    /* a sharp bar saves more than the cuts cost */
    if (q->n_near / 2 > q->keep) rv__ivf_cut(q);
}

/* ---- ranking the lists ---- */

/* Exact distances of the query to centres, ids NULL: the first n. */
static void rv__ivf_centres(rv__ivf_query *q, const uint32_t *ids, size_t n, float *out)
{
    const rv__ivf_lists *l = q->l;
    const int op = l->metric == RV_METRIC_L2 ? RV__OP_L2 : RV__OP_IP;
    const size_t stride = l->dim * sizeof(float), step = 16 + RV__WORK / l->dim / 16 * 16;
    for (size_t at = 0; at < n && !q->status; at += step) {
        const size_t some = n - at < step ? n - at : step, first = ids ? 0 : at;
        const uint32_t *list = ids ? ids + at : NULL;
        if (at > 0 && rv__ivf_stopped(q)) return;
        if (l->medoids) {
            rv__store_scan(&l->centres, q->isa, q->query, list, first, some, out + at);
        } else {
            q->kernels->scan[op][RV__TYPE_F32](q->query,
                                               (const unsigned char *)l->means + first * stride,
                                               stride, list, some, l->dim, out + at);
        }
    }
    for (size_t i = 0; !l->medoids && l->metric == RV_METRIC_COSINE && i < n; i++) out[i] += 1.0f;
}

/* Distances of all centres less what they have in common, from their bytes. */
static void rv__ivf_first_look(rv__ivf_query *q)
{
    const rv__ivf_lists *l = q->l;
    const float *x = l->metric == RV_METRIC_L2 ? q->moved : (const float *)(const void *)q->query;
    int32_t sums[RV__IVF_STEP];
    float top = 0.0f, scale;
    size_t since = 0;
    for (size_t j = 0; j < l->dim; j++) top = fabsf(x[j]) > top ? fabsf(x[j]) : top;
    scale = top > 1e-30f && top < 1e30f ? top / 127.0f : 1.0f;
    q->kernels->narrow_i8(x, 1.0f / scale, q->bytes, l->dim);
    for (size_t at = 0; at < l->n_lists; at += RV__IVF_STEP) {
        size_t n = l->n_lists - at < RV__IVF_STEP ? l->n_lists - at : RV__IVF_STEP;
        const float *factor = l->coarse_factor + 2 * at;
        since += n * l->wide;
        if (since > 8 * (size_t)RV__WORK) {
            since = 0;
            if (rv__ivf_stopped(q)) return;
        }
        q->kernels->dot_i8_scan(q->bytes, (const unsigned char *)l->coarse + at * l->wide, l->wide,
                                NULL, n, l->wide, sums);
        for (size_t i = 0; i < n; i++) {
            float product = scale * factor[2 * i] * (float)sums[i];
            q->score[at + i] =
                l->metric == RV_METRIC_L2 ? factor[2 * i + 1] - 2.0f * product : -product;
        }
    }
}

/* The `want` nearest lists into order and base; returns their number. */
static size_t rv__ivf_rank(rv__ivf_query *q, size_t want)
{
    const rv__ivf_lists *l = q->l;
    size_t n = l->n_lists, some = 2 * want + 16;
    if (want > n) want = n;
    if (!l->trained) {
        q->order[0] = 0;
        q->base[0] = 0.0f;
        return 1;
    }
    if (!l->coarse || some >= n) {
        rv__ivf_centres(q, NULL, n, q->score);
        return rv_topk_f32(q->score, n, want, q->order, q->base);
    }
    rv__ivf_first_look(q);
    if (q->status) return 0;
    some = rv_topk_f32(q->score, n, some, q->pick, NULL);
    rv__ivf_centres(q, q->pick, some, q->score);
    want = rv_topk_f32(q->score, some, want, q->order, q->base);
    for (size_t i = 0; i < want; i++) q->order[i] = q->pick[q->order[i]];
    return want;
}

/* ---- scanning ---- */

/* Estimates for n rows of consecutive blocks from `block` on, n <= RV__IVF_STEP. */
static void rv__ivf_estimate(rv__ivf_query *q, uint32_t block, size_t n, float base, float *out)
{
    const rv__ivf_lists *l = q->l;
    const float twice = l->metric == RV_METRIC_L2 ? 2.0f : 1.0f;
    const float scale = twice * q->head.table_scale, offset = twice * q->head.table_offset;
    const size_t blocks = (n + 31) / 32;
    const float *factor = l->factors + (size_t)block * l->n_factors * 32;
    uint16_t sums[RV__IVF_STEP];
    q->kernels->pq4_scan(q->lut, l->codes + (size_t)block * 16 * l->n_sub, l->n_sub, blocks, sums);
    if (l->n_factors == 1) {
        base += offset;
        for (size_t i = 0; i < 32 * blocks; i++) out[i] = base + factor[i] + scale * (float)sums[i];
        return;
    }
    for (size_t b = 0; b < blocks; b++, factor += 64) {
        for (size_t i = 0; i < 32; i++) {
            out[32 * b + i] =
                base + factor[i] - factor[32 + i] * (offset + scale * (float)sums[32 * b + i]);
        }
    }
}

/* All rows of a list. measure: by their vectors although there are codes. */
static void rv__ivf_scan_list(rv__ivf_query *q, uint32_t list, float base, int measure)
{
    const rv__ivf_lists *l = q->l;
    const int coded = l->n_sub && !measure;
    const uint32_t weight = coded ? 1 : 1 + (uint32_t)(q->index->store.stride / 512);
    const uint32_t most = weight > 64 ? 1 : RV__IVF_RUN; /* blocks at once */
    uint32_t left = l->size[list], block = l->head[list], since = 0;
    q->trace.lists++;
    q->trace.scanned += left;
    while (left > 0) {
        const uint32_t first = block;
        const uint32_t *ids = l->ids + (size_t)block * 32;
        uint32_t n = left < 32 ? left : 32;
        for (uint32_t run = 1; n < left && run < most && l->next[block] == block + 1;
             run++) {
            n += left - n < 32 ? left - n : 32;
            block++;
        }
        if (coded) {
            rv__ivf_estimate(q, first, n, base, q->distance);
        } else {
            rv__store_scan(&q->index->store, q->isa, q->query, ids, 0, n, q->distance);
            q->trace.reranked += n;
        }
        rv__ivf_offer(q, ids, q->distance, n);
        left -= n;
        block = l->next[block];
        since += n * weight;
        if (since < RV__IVF_POLL / 4) continue;
        since = 0;
        if (rv__ivf_stopped(q)) return;
    }
}

/* Exact distances in place of estimates. */
static void rv__ivf_measure(rv__ivf_query *q)
{
    const size_t step = RV__IVF_STEP / (1 + q->index->store.stride / 16384); /* 4 MB of rows */
    uint32_t ids[RV__IVF_STEP];
    for (size_t at = 0; at < q->n_near; at += step) {
        size_t n = q->n_near - at < step ? q->n_near - at : step;
        if (rv__ivf_stopped(q)) return;
        for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)q->closest[at + i];
        rv__store_scan(&q->index->store, q->isa, q->query, ids, 0, n, q->distance);
        for (size_t i = 0; i < n; i++)
            q->closest[at + i] = rv__ivf_candidate(q->distance[i], ids[i]);
    }
    q->trace.reranked += q->n_near;
}

/* ---- setting up a query ---- */

typedef struct rv__ivf_plan {
    size_t query_bytes, moved_bytes, table_bytes, lists_bytes, near_bytes, bytes;
    size_t keep, room;
} rv__ivf_plan;

/* Memory of a query that keeps so many candidates out of a buffer of `room`. */
static void rv__ivf_plan_make(const rv_ivf *index, size_t keep, size_t room, rv__ivf_plan *plan)
{
    const rv__ivf_lists *l = &index->lists;
    size_t padded = l->quant ? l->quant->padded : 0;
    plan->keep = keep;
    plan->room = room;
    plan->query_bytes = rv__round_up(rv__store_query_bytes(&index->store), 64);
    plan->moved_bytes = rv__round_up((padded > l->dim ? padded : l->dim) * sizeof(float), 64);
    plan->table_bytes = l->quant ? l->quant->ops->query_bytes(l->quant) : 0;
    plan->lists_bytes = rv__round_up((size_t)l->n_lists * 4, 64);
    plan->near_bytes = rv__round_up(rv__mul(plan->room, sizeof(uint64_t)), 64);
    plan->bytes = plan->query_bytes + plan->moved_bytes + rv__round_up(l->wide, 64) +
                  plan->table_bytes + 4 * plan->lists_bytes + RV__IVF_STEP * sizeof(float);
    plan->bytes = rv__add(plan->bytes, plan->near_bytes);
}

/* memory: [plan bytes], on a multiple of 64. */
static void rv__ivf_begin(rv__ivf_query *q, const rv_ivf *index, const rv__ivf_plan *plan,
                          unsigned char *memory, rv_isa isa, const rv_filter *filter)
{
    memset(q, 0, sizeof *q);
    q->index = index;
    q->l = &index->lists;
    q->kernels = rv__kernels_for(isa);
    q->isa = isa;
    q->filter = filter;
    q->query = memory;
    q->moved = (float *)(void *)(memory += plan->query_bytes);
    q->bytes = (int8_t *)(memory += plan->moved_bytes);
    q->tables = memory += rv__round_up(q->l->wide, 64);
    q->score = (float *)(void *)(memory += plan->table_bytes);
    q->order = (uint32_t *)(void *)(memory += plan->lists_bytes);
    q->base = (float *)(void *)(memory += plan->lists_bytes);
    q->pick = (uint32_t *)(void *)(memory += plan->lists_bytes);
    q->distance = (float *)(void *)(memory += plan->lists_bytes);
    q->closest = (uint64_t *)(void *)(memory + RV__IVF_STEP * sizeof(float));
    q->keep = plan->keep;
    q->room = plan->room;
}

/* Another vector; it has been checked. */
static void rv__ivf_aim(rv__ivf_query *q, const void *vector)
{
    const rv__ivf_lists *l = q->l;
    const float *x = (const float *)(const void *)q->query;
    q->n_near = 0;
    q->open = 1;
    rv__store_prepare(&q->index->store, vector, q->query);
    if (!l->means) return;
    for (size_t j = 0; j < l->dim; j++) q->moved[j] = x[j] - l->offset[j];
    memset(q->bytes, 0, l->wide);
}

/* Tables of the codes; uses up q->moved, so lists are ranked before. */
static void rv__ivf_tables(rv__ivf_query *q)
{
    const rv_quant *quant = q->l->quant;
    if (!quant) return;
    if (quant->rotation) {
        q->lut = q->tables + rv__rabitq_lut(quant);
        rv_rotation_apply(quant->rotation, q->moved, q->moved);
        rv__rabitq_tables(q->kernels, q->moved, quant->padded,
                          (float *)(void *)(q->tables + quant->padded),
                          q->tables + rv__rabitq_lut(quant), &q->head);
    } else {
        q->lut = q->tables + rv__quant_pq_lut(quant);
        quant->ops->prepare(quant, q->moved, &q->head, q->tables);
    }
}

/* Share of the rows that a filter lets pass. */
static double rv__ivf_share(const rv_ivf *index, const rv_filter *filter)
{
    const rv__store *store = &index->store;
    uint32_t tried = 0, passed = 0;
    if (filter->selectivity > 0.0) return filter->selectivity < 1.0 ? filter->selectivity : 1.0;
    for (uint64_t i = 0; i < RV__IVF_SAMPLE && store->n; i++) {
        uint32_t slot = (uint32_t)(rv__mix(i) % store->n);
        if (!rv__store_live(store, slot)) continue;
        tried++;
        passed += (uint32_t)rv__filter_pass(filter, rv__store_key(store, slot));
    }
    return ((double)passed + 0.5) / ((double)tried + 1.0);
}

static size_t rv__ivf_probes(const rv_ivf *index, const rv_ivf_options *options,
                             const rv_filter *filter)
{
    size_t n = index->lists.n_lists, probes = options ? options->n_probe : 0;
    if (probes == 0) probes = (n + 31) / 32 > 8 ? (n + 31) / 32 : 8;
    if (filter) {
        double more = (double)probes / sqrt(rv__ivf_share(index, filter));
        probes = more < (double)n ? (size_t)more + 1 : n;
    }
    return probes < n ? probes : n;
}

/* ---- k nearest ---- */

/* The candidates as hits, nearest first. */
static void rv__ivf_deliver(rv__ivf_query *q, rv_hit *hits)
{
    for (size_t i = 0; i < q->n_near && !q->status; i++) {
        hits[i].key = rv__store_key(&q->index->store, (uint32_t)q->closest[i]);
        hits[i].distance = rv__ivf_distance(q->closest[i]);
        if (i % RV__IVF_POLL == RV__IVF_POLL - 1 && rv__ivf_stopped(q)) return;
    }
    if (!q->status) q->status = rv__hits_sort(q->ctx, hits, q->n_near);
}

/* Looks into lists until `probes` are done and k candidates found, or all lists are. */
static void rv__ivf_look(rv__ivf_query *q, size_t probes, size_t k, int measure)
{
    size_t ranked = rv__ivf_rank(q, probes), at = 0;
    rv__ivf_tables(q);
    for (; at < ranked && !q->status; at++) {
        rv__ivf_scan_list(q, q->order[at], q->base[at], measure);
        (void)rv__ivf_stopped(q);
    }
    if (q->n_near < k && ranked < q->l->n_lists && !q->status) {
        rv__ivf_centres(q, NULL, q->l->n_lists, q->score);
        ranked = rv_topk_f32(q->score, q->l->n_lists, q->l->n_lists, q->pick, q->score);
        memcpy(q->base, q->score, ranked * sizeof(float));
        for (size_t i = 0; i < ranked && q->n_near < k && !q->status; i++) {
            size_t seen = 0;
            while (seen < at && q->order[seen] != q->pick[i]) seen++;
            if (seen == at) rv__ivf_scan_list(q, q->pick[i], q->base[i], measure);
            (void)rv__ivf_stopped(q);
        }
    }
}

/* Returns the number of hits; they hold anything when the query was stopped. */
static size_t rv__ivf_knn(rv__ivf_query *q, const void *vector, size_t probes, size_t k,
                          rv_hit *hits)
{
    rv__ivf_aim(q, vector);
    rv__ivf_look(q, probes, k, 0);
    rv__ivf_cut(q);
    if (q->l->n_sub && !q->index->store.no_rows && !q->status) rv__ivf_measure(q);
    if (q->n_near > k && !q->status) {
        q->status = rv__ivf_select(q->ctx, q->closest, q->n_near, k);
        q->n_near = k;
    }
    if (!q->status) rv__ivf_deliver(q, hits);
    return q->n_near;
}

/* Candidates to keep for k hits. */
static size_t rv__ivf_keep(const rv_ivf *index, const rv_ivf_options *options, size_t k)
{
    size_t count = index->store.n - index->store.n_removed, keep = k;
    if (index->lists.n_sub && !index->store.no_rows) {
        keep = options && options->rerank ? options->rerank : rv__add(rv__mul(k, 4), 40);
        if (keep < k) keep = k;
    }
    return keep < count ? keep : count;
}

static const rv_filter *rv__ivf_filter(const rv_ivf_options *options)
{
    return rv__filter_of(options ? options->filter : NULL);
}

typedef struct rv__ivf_batch {
    const rv_ivf *index;
    const unsigned char *queries;
    size_t vector_bytes, k, probes;
    rv_hit *hits;
    size_t *n_hits;
    rv__ivf_query *lane; /* [lanes] */
} rv__ivf_batch;

static void rv__ivf_batch_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__ivf_batch *batch = (const rv__ivf_batch *)arg;
    for (size_t i = begin; i < end && !batch->lane[lane].status; i++) {
        batch->n_hits[i] = rv__ivf_knn(batch->lane + lane, batch->queries + i * batch->vector_bytes,
                                       batch->probes, batch->k, batch->hits + i * batch->k);
    }
}

/* Queries between two polls: a few ms at 10 ns for a code, 20 ns and a quarter for each byte of a
   row. */
static size_t rv__ivf_section(const rv_ivf *index, size_t probes, size_t keep)
{
    const rv__ivf_lists *l = &index->lists;
    const double row = 20.0 + 0.25 * (double)index->store.stride;
    const double scanned = (double)probes * (double)(index->store.n / l->n_lists + 1);
    const double work = 2e4 + 0.25 * (double)l->n_lists * (double)l->dim +
                        (l->n_sub ? scanned * 10.0 + (double)keep * row : scanned * row);
    return 1 + (size_t)(4e6 / work);
}

static rv_status rv__ivf_search_many(rv_ctx *ctx, const rv_ivf *index, const void *queries,
                                     size_t n, size_t k, const rv_ivf_options *options,
                                     rv_hit *hits, size_t *n_hits)
{
    const rv_filter *filter = rv__ivf_filter(options);
    rv_alloc alloc = rv__allocator(ctx);
    size_t lanes = rv__lanes(ctx) < n ? rv__lanes(ctx) : n, keep;
    unsigned char *memory;
    rv__ivf_batch batch;
    rv__ivf_plan plan;
    rv_status status;
    batch.probes = rv__ivf_probes(index, options, filter);
    keep = rv__ivf_keep(index, options, k);
    rv__ivf_plan_make(index, keep, rv__add(rv__mul(keep, 2), RV__IVF_STEP), &plan);
    batch.index = index;
    batch.queries = (const unsigned char *)queries;
    batch.vector_bytes = rv__store_vector_bytes(&index->store);
    batch.k = k;
    batch.hits = hits;
    batch.n_hits = n_hits;
    batch.lane = (rv__ivf_query *)rv__get(&alloc, lanes, sizeof(rv__ivf_query));
    memory = (unsigned char *)rv__get(&alloc, lanes, plan.bytes);
    if (!batch.lane || !memory) {
        status = rv__no_memory(ctx, rv__mul(lanes, plan.bytes));
    } else {
        for (size_t i = 0; i < lanes; i++) {
            rv__ivf_begin(batch.lane + i, index, &plan, memory + i * plan.bytes,
                          ctx ? ctx->isa : RV_ISA_BEST, filter);
            /* a lane on a thread of its own must not poll */
            if (n == 1 || rv__lanes(ctx) == 1) batch.lane[i].ctx = ctx;
        }
        status = rv__parallel_for(ctx, n, 1, rv__ivf_section(index, batch.probes, keep),
                                  rv__ivf_batch_range, &batch);
        if (!status) status = batch.lane[0].status;
    }
    if (!status && options && options->trace) {
        memset(options->trace, 0, sizeof *options->trace);
        for (size_t i = 0; i < lanes; i++) {
            options->trace->lists += batch.lane[i].trace.lists;
            options->trace->scanned += batch.lane[i].trace.scanned;
            options->trace->reranked += batch.lane[i].trace.reranked;
        }
    }
    rv__put(&alloc, memory, lanes, plan.bytes);
    rv__put(&alloc, batch.lane, lanes, sizeof(rv__ivf_query));
    return status;
}

RV_API rv_status rv_ivf_search_batch(rv_ctx *ctx, const rv_ivf *index, const void *queries,
                                     size_t n_queries, size_t k, const rv_ivf_options *options,
                                     rv_hit *hits, size_t *n_hits)
{
    rv_status status;
    if (!index) return rv__ivf_null(ctx, "index");
    if (n_queries == 0) return rv__ok(ctx);
    if (!n_hits) return rv__ivf_null(ctx, "n_hits");
    if (!hits && k) return rv__ivf_null(ctx, "hits");
    status = rv__store_check_many(ctx, &index->store, queries, n_queries,
                                  n_queries == 1 ? "query" : "queries");
    if (!status) status = rv__filter_check(ctx, options ? options->filter : NULL);
    if (status) return status;
    if (options && options->trace) memset(options->trace, 0, sizeof *options->trace);
    if (k == 0 || rv_ivf_count(index) == 0) {
        for (size_t i = 0; i < n_queries; i++) n_hits[i] = 0;
        return rv__ok(ctx);
    }
    status = rv__ivf_search_many(ctx, index, queries, n_queries, k, options, hits, n_hits);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_ivf_search_with(rv_ctx *ctx, const rv_ivf *index, const void *query, size_t k,
                                    const rv_ivf_options *options, rv_hit *hits, size_t *n_hits)
{
    return rv_ivf_search_batch(ctx, index, query, 1, k, options, hits, n_hits);
}

RV_API rv_status rv_ivf_search(rv_ctx *ctx, const rv_ivf *index, const void *query, size_t k,
                               size_t n_probe, rv_hit *hits, size_t *n_hits)
{
    rv_ivf_options options;
    memset(&options, 0, sizeof options);
    options.n_probe = n_probe > RV__IVF_LISTS_MAX ? RV__IVF_LISTS_MAX : (uint32_t)n_probe;
    return rv_ivf_search_batch(ctx, index, query, 1, k, &options, hits, n_hits);
}

/* ---- range ---- */

/* Of what was offered since the last call, counts what lies within the radius (its order) and keeps
   the cap nearest of all. */
static rv_status rv__ivf_within(rv_ctx *ctx, rv__ivf_query *q, uint32_t radius, size_t cap,
                                size_t *found)
{
    size_t kept = *found < cap ? *found : cap, at = kept;
    for (size_t i = kept; i < q->n_near; i++) {
        if (q->closest[i] >> 32 <= radius) q->closest[at++] = q->closest[i];
    }
    *found += at - kept;
    q->n_near = at < cap ? at : cap;
    return at > cap && cap ? rv__ivf_select(ctx, q->closest, at, cap) : RV_OK;
}

RV_API rv_status rv_ivf_range(rv_ctx *ctx, const rv_ivf *index, const void *query, float radius,
                              const rv_ivf_options *options, rv_hit *hits, size_t cap,
                              size_t *n_hits)
{
    const rv_filter *filter = rv__ivf_filter(options);
    rv_alloc alloc = rv__allocator(ctx);
    unsigned char *memory;
    rv__ivf_query q;
    rv__ivf_plan plan;
    rv_ivf_stats stats;
    rv_status status;
    size_t ranked, found = 0;
    if (!index) return rv__ivf_null(ctx, "index");
    if (!n_hits) return rv__ivf_null(ctx, "n_hits");
    if (!hits && cap) return rv__ivf_null(ctx, "hits");
    if (rv__order_distance(radius) == RV__ORDER_NAN) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "radius is NaN, it must be a number");
    }
    status = rv__store_check(ctx, &index->store, query, "query");
    if (!status) status = rv__filter_check(ctx, filter);
    if (!status) status = rv__poll(ctx);
    if (status) return status;
    if (options && options->trace) memset(options->trace, 0, sizeof *options->trace);
    rv_ivf_stats_get(index, &stats);
    if (cap > stats.count) cap = stats.count;
    /* room for what is kept and one whole list */
    rv__ivf_plan_make(index, cap, cap + stats.largest + RV__IVF_STEP, &plan);
    memory = (unsigned char *)rv__get(&alloc, plan.bytes, 1);
    if (!memory) return rv__no_memory(ctx, plan.bytes);
    rv__ivf_begin(&q, index, &plan, memory, ctx ? ctx->isa : RV_ISA_BEST, filter);
    rv__ivf_aim(&q, query);
    q.ctx = ctx;
    q.keep = SIZE_MAX; /* nothing is dropped while a list is scanned */
    ranked = rv__ivf_rank(&q, rv__ivf_probes(index, options, filter));
    rv__ivf_tables(&q);
    status = q.status;
    for (size_t i = 0; !status && i < ranked; i++) {
        rv__ivf_scan_list(&q, q.order[i], q.base[i], !index->store.no_rows);
        status = q.status;
        if (!status) status = rv__ivf_within(ctx, &q, rv__order_distance(radius), cap, &found);
        if (!status) status = rv__poll(ctx);
    }
    if (!status) {
        rv__ivf_deliver(&q, hits);
        status = q.status;
    }
    if (!status) {
        *n_hits = found;
        if (options && options->trace) *options->trace = q.trace;
    }
    rv__put(&alloc, memory, plan.bytes, 1);
    return status ? status : rv__ok(ctx);
}

/* ---- iterator ---- */

/* Rows of the lists opened so far wait in `pool` by estimate. The best of them are measured a batch
   at a time into `ready`, sorted farthest first; rows are given from its end. After a batch half of
   it is given before the next is measured, and more lists are opened as more rows are given. */
struct rv_ivf_iter {
    rv_alloc alloc;
    rv_filter filter;
    int filtered;
    rv__ivf_query q;
    unsigned char *memory;
    size_t memory_bytes;
    size_t ranked, opened, goal; /* lists, how many are open, how many are to be                  */
    size_t step;                 /* how many to open next                                         */
    uint64_t given, scanned;     /* rows                                                          */
    uint64_t *pool;
    size_t n_pool, pool_room;
    rv_hit *ready;
    size_t n_ready, ready_room, floor; /* measured rows are given down to floor                   */
    int unsorted;                /* ready is to be sorted before more is given                    */
    size_t batch;
};

RV_API void rv_ivf_iter_destroy(rv_ivf_iter *iter)
{
    rv_alloc alloc;
    if (!iter) return;
    alloc = iter->alloc;
    rv__put(&alloc, iter->ready, iter->ready_room, sizeof(rv_hit));
    rv__put(&alloc, iter->pool, iter->pool_room, sizeof(uint64_t));
    rv__put(&alloc, iter->memory, iter->memory_bytes, 1);
    rv__put(&alloc, iter, 1, sizeof *iter);
}

RV_API rv_status rv_ivf_iter_create(rv_ctx *ctx, const rv_ivf *index, const void *query,
                                    const rv_ivf_options *options, rv_ivf_iter **out)
{
    const rv_filter *filter = rv__ivf_filter(options);
    rv_alloc alloc = rv__allocator(ctx);
    rv_ivf_iter *iter;
    rv__ivf_plan plan;
    rv_status status;
    if (!index) return rv__ivf_null(ctx, "index");
    if (!out) return rv__ivf_null(ctx, "out");
    status = rv__store_check(ctx, &index->store, query, "query");
    if (!status) status = rv__filter_check(ctx, filter);
    if (status) return status;
    iter = (rv_ivf_iter *)rv__get_zero(&alloc, 1, sizeof *iter);
    if (!iter) return rv__no_memory(ctx, sizeof *iter);
    iter->alloc = alloc;
    rv__ivf_plan_make(index, 0, RV__IVF_STEP, &plan);
    iter->memory_bytes = plan.bytes;
    iter->memory = (unsigned char *)rv__get(&alloc, plan.bytes, 1);
    if (!iter->memory) {
        rv_ivf_iter_destroy(iter);
        return rv__no_memory(ctx, plan.bytes);
    }
    if (filter) {
        iter->filter = *filter;
        iter->filtered = 1;
    }
    rv__ivf_begin(&iter->q, index, &plan, iter->memory, ctx ? ctx->isa : RV_ISA_BEST,
                  iter->filtered ? &iter->filter : NULL);
    rv__ivf_aim(&iter->q, query);
    iter->q.ctx = ctx;
    iter->ranked = rv__ivf_rank(&iter->q, index->lists.n_lists);
    rv__ivf_tables(&iter->q);
    if (iter->q.status) {
        status = iter->q.status;
        rv_ivf_iter_destroy(iter);
        return status;
    }
    iter->step = rv__ivf_probes(index, options, filter);
    iter->batch = options && options->rerank ? options->rerank : 64;
    *out = iter;
    return rv__ok(ctx);
}

/* Opens lists up to the goal: their rows join the pool. Stopped, it goes on from there. */
static rv_status rv__ivf_iter_open(rv_ctx *ctx, rv_ivf_iter *iter)
{
    rv__ivf_query *q = &iter->q;
    size_t rows = 0;
    rv_status status = rv__poll(ctx);
    if (status) return status;
    for (size_t i = iter->opened; i < iter->goal; i++) rows += q->l->size[q->order[i]];
    if (iter->n_pool + rows + RV__IVF_STEP > iter->pool_room) {
        size_t room = iter->n_pool + rows + RV__IVF_STEP;
        uint64_t *pool = (uint64_t *)rv__regrow_polled(
            ctx, &iter->alloc, iter->pool, iter->pool_room, room, sizeof(uint64_t), &status);
        if (!pool) return status;
        iter->pool = pool;
        iter->pool_room = room;
    }
    q->ctx = ctx;
    q->status = RV_OK;
    q->closest = iter->pool;
    q->room = iter->pool_room;
    q->keep = SIZE_MAX;
    q->n_near = iter->n_pool;
    while (iter->opened < iter->goal && !q->status) {
        const uint32_t list = q->order[iter->opened];
        rv__ivf_scan_list(q, list, q->base[iter->opened], 0);
        if (q->status) break; /* the part of a list is forgotten */
        iter->opened++;
        iter->scanned += q->l->size[list];
        iter->n_pool = q->n_near;
        if (iter->opened < iter->goal) (void)rv__ivf_stopped(q);
    }
    return q->status;
}

/* Measures the best of the pool. */
static rv_status rv__ivf_iter_refill(rv_ctx *ctx, rv_ivf_iter *iter)
{
    rv__ivf_query *q = &iter->q;
    const int exact = !q->l->n_sub || q->index->store.no_rows;
    size_t take = iter->batch < iter->n_pool ? iter->batch : iter->n_pool;
    if (iter->n_ready + take > iter->ready_room) {
        size_t room = 2 * (iter->n_ready + take);
        rv_status status;
        rv_hit *ready = (rv_hit *)rv__regrow_polled(
            ctx, &iter->alloc, iter->ready, iter->ready_room, room, sizeof(rv_hit), &status);
        if (!ready) return status;
        iter->ready = ready;
        iter->ready_room = room;
    }
    q->ctx = ctx;
    q->status = RV_OK;
    if (take < iter->n_pool) q->status = rv__ivf_select(ctx, iter->pool, iter->n_pool, take);
    q->closest = iter->pool;
    q->n_near = take;
    if (!exact && !q->status) rv__ivf_measure(q);
    if (q->status) return q->status; /* all of it is still in the pool */
    for (size_t i = 0; i < take; i++) {
        rv_hit *hit = iter->ready + iter->n_ready++;
        hit->key = rv__store_key(&q->index->store, (uint32_t)iter->pool[i]);
        hit->distance = rv__ivf_distance(iter->pool[i]);
    }
    iter->n_pool -= take;
    memmove(iter->pool, iter->pool + take, iter->n_pool * sizeof(uint64_t));
    iter->unsorted = 1;
    /* where estimates order the pool exactly, nothing in it comes before what was taken */
    iter->floor = iter->n_pool == 0 || exact ? iter->n_ready - take : iter->n_ready / 2;
    return RV_OK;
}

/* Sorts what is ready, farthest first. */
static rv_status rv__ivf_iter_sort(rv_ctx *ctx, rv_ivf_iter *iter)
{
    rv_status status = iter->unsorted ? rv__hits_sort(ctx, iter->ready, iter->n_ready) : RV_OK;
    if (status || !iter->unsorted) return status;
    for (size_t i = 0; i < iter->n_ready / 2; i++) {
        rv_hit swap = iter->ready[i];
        iter->ready[i] = iter->ready[iter->n_ready - 1 - i];
        iter->ready[iter->n_ready - 1 - i] = swap;
    }
    iter->unsorted = 0;
    return RV_OK;
}

/* Whether more lists should be open for what has been given. */
static int rv__ivf_iter_wants(const rv_ivf_iter *iter)
{
    return iter->opened < iter->ranked &&
           (iter->opened == 0 || iter->given * 16 > iter->scanned + 256 ||
            (iter->n_pool == 0 && iter->n_ready == 0));
}

RV_API rv_status rv_ivf_iter_next(rv_ctx *ctx, rv_ivf_iter *iter, rv_hit *hit)
{
    rv_status status;
    if (!iter) return rv__ivf_null(ctx, "iter");
    if (!hit) return rv__ivf_null(ctx, "hit");
    while (iter->opened < iter->goal || rv__ivf_iter_wants(iter)) {
        if (iter->opened == iter->goal) {
            const size_t rest = iter->ranked - iter->opened;
            iter->goal += rest < iter->step ? rest : iter->step;
            iter->step = rv__mul(iter->step, 2);
            iter->floor = iter->n_ready; /* what is ready meets the new rows first */
        }
        status = rv__ivf_iter_open(ctx, iter);
        if (status) return status;
    }
    while (iter->unsorted || (iter->n_ready <= iter->floor && iter->n_pool > 0)) {
        status = iter->unsorted ? RV_OK : rv__ivf_iter_refill(ctx, iter);
        if (!status) status = rv__ivf_iter_sort(ctx, iter);
        if (status) return status;
    }
    if (iter->n_ready == 0) return rv__done(ctx);
    *hit = iter->ready[--iter->n_ready];
    iter->given++;
    return rv__ok(ctx);
}

#undef RV__IVF_POLL
#undef RV__IVF_STEP
#undef RV__ORDER_NAN
#undef RV__IVF_SAMPLE
#endif /* RV_IVF_SEARCH_C */
