#ifndef RV_KMEANS_C
#define RV_KMEANS_C
#include "kmeans.h"
#include "base.c"
#include "simd.c"
#include "topk.c"
#include "distance.c"

/* Lloyd's iteration. Assignment: tiles of dot products between a block of rows and some centroids,
   of which |c|^2 - 2 x c is compared; of few dimensions all centroids by a kernel of its own. Many
   centroids are taken in groups, so that a poll comes between any two of them. Update: the rows are
   sorted by cluster (counting sort, so in their order), each cluster sums its rows in that order in
   double. Both run in parallel over rows or clusters without ever adding numbers in an order that
   depends on the threads.

   A sample takes one row from each of m equal parts of the set, at a random place of the part.

   Sources: Lloyd, Least squares quantization in PCM, 1982; Arthur, Vassilvitskii, k-means++, 2007;
   spherical: Dhillon, Modha, Concept decompositions, 2001. */

#define RV__KMEANS_ROWS 192u /* most rows per block                                          */
#define RV__KMEANS_COLS 512u /* centroids per tile                                           */
#define RV__KMEANS_SMALL 16u /* dimensions up to which rows are compared without tiles       */
#define RV__KMEANS_NEAR 512u /* centroids the kernel for those is given at once              */
#define RV__KMEANS_WORK 1e8  /* products between two polls: two ms, up to ten                */
#define RV__KMEANS_MAX 16777216u
#define RV__KMEANS_MANY 524288u /* numbers looked at between two polls                       */

typedef struct rv__kmeans {
    const rv__kernels *kernels;
    const float *rows;
    size_t stride, n, dim;   /* the whole set                                                */
    size_t m;                /* rows looked at: a sample, or all                             */
    uint64_t seed;
    const float *centroids;
    const float *half;       /* [k] |c|^2 / 2, and room for 16 more                          */
    float *turned;           /* for few dimensions, else NULL: of each RV__KMEANS_NEAR
                                centroids [dim][so many, or the rest rounded up to 16]       */
    size_t k;
    size_t block;            /* rows per block                                               */
    size_t from, to;         /* the group of centroids at hand                               */
    float *best;             /* [m] the least scores so far; NULL: there is one group        */
    uint32_t *assign;        /* [m]                                                          */
    float *dist;             /* [m] or NULL                                                  */
    const uint32_t *order;   /* [m] rows by cluster                                          */
    const uint32_t *start;   /* [k + 1] where a cluster begins in order                      */
    float *out;              /* [k, dim] new centroids                                       */
    uint32_t piece_from, piece_to; /* places in order: a piece of a large cluster            */
    int spherical;
    unsigned char *scratch;  /* [lanes, lane_bytes]                                          */
    size_t lane_bytes;
} rv__kmeans;

/* Row i of the m looked at. */
static const float *rv__kmeans_row(const rv__kmeans *job, size_t i)
{
    uint64_t from, to;
    if (job->m == job->n) return job->rows + i * job->stride;
    from = (uint64_t)i * job->n / job->m;
    to = (uint64_t)(i + 1) * job->n / job->m;
    return job->rows + (size_t)(from + rv__mix(job->seed + i) % (to - from)) * job->stride;
}

/* Lowers best and where to the scores of one group; dots: [n]. */
RV__FN void rv__kmeans_least(const float *dots, const float *half, size_t n, uint32_t first,
                             float *best, uint32_t *where)
{
    float low[8];
    uint32_t at[8];
    size_t j = 0;
    for (size_t l = 0; l < 8; l++) {
        low[l] = rv__infinity();
        at[l] = 0;
    }
    for (; j + 8 <= n; j += 8) {
        for (size_t l = 0; l < 8; l++) {
            float score = half[j + l] - dots[j + l];
            uint32_t index = (uint32_t)(j + l);
            int less = score < low[l];
            low[l] = less ? score : low[l];
            at[l] = less ? index : at[l];
        }
    }
    for (size_t l = 0; l < (n & 7u); l++) {
        float score = half[j + l] - dots[j + l];
        if (score < low[l]) {
            low[l] = score;
            at[l] = (uint32_t)(j + l);
        }
    }
    for (size_t l = 0; l < 8; l++) {
        /* among lanes equal scores go to the lower index; among groups to the earlier group */
        int less = low[l] < *best || (low[l] == *best && *where >= first && at[l] + first < *where);
        if (less) {
            *best = low[l];
            *where = at[l] + first;
        }
    }
}

static void rv__kmeans_assign_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__kmeans *job = (const rv__kmeans *)arg;
    const size_t dim = job->dim;
    float *dots = (float *)(void *)(job->scratch + lane * job->lane_bytes);
    float *copy = dots + job->block * RV__KMEANS_COLS;
    float *pack = copy + (job->m == job->n ? 0 : rv__round_up(job->block * dim, 16));
    float local[RV__KMEANS_ROWS];
    for (size_t at = begin; at < end; at += job->block) {
        size_t rows = end - at < job->block ? end - at : job->block, pitch = job->stride;
        const float *from = job->rows + at * pitch;
        uint32_t *assign = job->assign + at;
        float *best = job->best ? job->best + at : local;
        if (job->m != job->n) {
            for (size_t i = 0; i < rows; i++) {
                memcpy(copy + i * dim, rv__kmeans_row(job, at + i), dim * sizeof(float));
            }
            from = copy;
            pitch = dim;
        }
        for (size_t i = 0; job->from == 0 && i < rows; i++) {
            best[i] = rv__infinity();
            assign[i] = 0;
        }
        for (size_t c = job->from; c < job->to; c += RV__KMEANS_COLS) {
            size_t cols = job->to - c < RV__KMEANS_COLS ? job->to - c : RV__KMEANS_COLS;
            job->kernels->gram_f32(from, pitch, rows, job->centroids + c * dim, dim, cols, dim,
                                   dots, cols, pack);
            for (size_t i = 0; i < rows; i++) {
                rv__kmeans_least(dots + i * cols, job->half + c, cols, (uint32_t)c, best + i,
                                 assign + i);
            }
        }
        for (size_t i = 0; job->dist && job->to == job->k && i < rows; i++) {
            job->dist[at + i] = job->kernels->pair_f32[RV__OP_L2](
                from + i * pitch, job->centroids + (size_t)assign[i] * dim, dim);
        }
    }
}

static float rv__kmeans_square(const float *x, const float *y, size_t dim)
{
    float sum = 0.0f;
    for (size_t j = 0; j < dim; j++) sum += (x[j] - y[j]) * (x[j] - y[j]);
    return sum;
}

/* The same for few dimensions, where a tile of products would be mostly packing; the rest of half
   is infinite. The nearest of each RV__KMEANS_NEAR centroids are compared by their distances. */
static void rv__kmeans_small_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__kmeans *job = (const rv__kmeans *)arg;
    const size_t dim = job->dim, wide = rv__round_up(job->k, 16);
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        const float *row = rv__kmeans_row(job, i);
        float best = job->from ? job->best[i] : rv__infinity();
        uint32_t where = job->from ? job->assign[i] : 0;
        for (size_t c = job->from; c < job->to; c += RV__KMEANS_NEAR) {
            size_t n = wide - c < RV__KMEANS_NEAR ? wide - c : RV__KMEANS_NEAR;
            uint32_t at = (uint32_t)c + job->kernels->nearest_f32(row, dim, job->turned + c * dim,
                                                                  job->half + c, n);
            float d = wide <= RV__KMEANS_NEAR && !job->dist ?
                          0.0f :
                          rv__kmeans_square(row, job->centroids + at * dim, dim);
            where = d < best ? at : where;
            best = d < best ? d : best;
        }
        job->assign[i] = where;
        if (job->best) job->best[i] = best;
        if (job->dist) job->dist[i] = best;
    }
}

/* The centroid of a cluster from the sum of its rows. */
static void rv__kmeans_finish(const rv__kmeans *job, size_t c, const double *sum)
{
    const size_t dim = job->dim;
    float *out = job->out + c * dim;
    double square = 0.0, scale = 1.0 / (double)(job->start[c + 1] - job->start[c]);
    if (job->spherical) {
        for (size_t j = 0; j < dim; j++) square += sum[j] * sum[j];
        if (square > 0.0) scale = 1.0 / sqrt(square);
    }
    for (size_t j = 0; j < dim; j++) out[j] = (float)(sum[j] * scale);
}

/* Rows summed between two polls. */
static size_t rv__kmeans_piece(size_t dim)
{
    return 1 + 1500000u / (dim + 16); /* finding a row costs about as much as 16 numbers */
}

/* One centroid per item: the mean of its rows; a cluster without rows keeps what out holds. Large
   clusters are left out. */
static void rv__kmeans_mean_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__kmeans *job = (const rv__kmeans *)arg;
    const size_t dim = job->dim;
    double *sum = (double *)(void *)(job->scratch + lane * job->lane_bytes);
    for (size_t c = begin; c < end; c++) {
        uint32_t from = job->start[c], to = job->start[c + 1];
        if (from == to || to - from > rv__kmeans_piece(dim)) continue;
        for (size_t j = 0; j < dim; j++) sum[j] = 0.0;
        for (uint32_t i = from; i < to; i++) {
            const float *row = rv__kmeans_row(job, job->order[i]);
            for (size_t j = 0; j < dim; j++) sum[j] += (double)row[j];
        }
        rv__kmeans_finish(job, c, sum);
    }
}

#define RV__KMEANS_BAND 64u /* dimensions that a lane sums of a large cluster */

/* Adds a piece of a large cluster to its sum, some dimensions each: rows come in their order for
   any number of lanes. */
static void rv__kmeans_band_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__kmeans *job = (const rv__kmeans *)arg;
    double *sum = (double *)(void *)job->scratch;
    const size_t last = end * RV__KMEANS_BAND < job->dim ? end * RV__KMEANS_BAND : job->dim;
    (void)lane;
    for (uint32_t i = job->piece_from; i < job->piece_to; i++) {
        const float *row = rv__kmeans_row(job, job->order[i]);
        for (size_t j = begin * RV__KMEANS_BAND; j < last; j++) sum[j] += (double)row[j];
    }
}

/* New centroids from the rows in order of clusters. */
static rv_status rv__kmeans_update(rv_ctx *ctx, rv__kmeans *job)
{
    const size_t dim = job->dim, piece = rv__kmeans_piece(dim);
    const size_t bands = (dim + RV__KMEANS_BAND - 1) / RV__KMEANS_BAND;
    double *sum = (double *)(void *)job->scratch;
    rv_status status =
        rv__parallel_for(ctx, job->k, 1, 1 + piece / (job->m / job->k + 1), rv__kmeans_mean_range,
                         job);
    for (size_t c = 0; c < job->k && !status; c++) {
        const uint32_t to = job->start[c + 1];
        job->piece_from = job->start[c];
        if (to - job->piece_from <= piece) continue;
        for (size_t j = 0; j < dim; j++) sum[j] = 0.0;
        for (; job->piece_from < to && !status; job->piece_from = job->piece_to) {
            size_t rest = to - job->piece_from;
            job->piece_to = rest < piece ? to : job->piece_from + (uint32_t)piece;
            status = rv__parallel_for(ctx, bands, 1, bands, rv__kmeans_band_range, job);
        }
        if (!status) rv__kmeans_finish(job, c, sum);
    }
    return status;
}

/* Centroids of a group, of all k where these are few: so many that a block of rows with them is no
   more than what may lie between two polls. A multiple of 64, or of RV__KMEANS_NEAR. */
static size_t rv__kmeans_group(const rv__kmeans *job)
{
    const size_t step = job->dim <= RV__KMEANS_SMALL ? RV__KMEANS_NEAR : 64;
    const double fits = RV__KMEANS_WORK / ((double)job->dim * (double)job->block);
    if (fits >= (double)job->k) return job->k;
    return fits < (double)step ? step : (size_t)fits / step * step;
}

/* Labels the rows with the nearest centroid of one group, or with what was nearer before. */
static rv_status rv__kmeans_label_group(rv_ctx *ctx, rv__kmeans *job)
{
    /* a row and a short centroid cost something of their own */
    const double dim = (double)job->dim, each = (double)(job->to - job->from) * (dim + 4.0);
    const double rows = RV__KMEANS_WORK / (each + 32.0 * dim + 512.0);
    return rv__parallel_for(ctx, job->m, job->block, rv__round_up(1 + (size_t)rows, job->block),
                            job->turned ? rv__kmeans_small_range : rv__kmeans_assign_range, job);
}

/* Floats of half and turned. */
static size_t rv__kmeans_table(size_t k, size_t dim)
{
    size_t wide = rv__round_up(k, 16);
    return dim > RV__KMEANS_SMALL ? wide : rv__mul(wide, dim + 1);
}

/* best: [m] when there is more than one group. */
static rv_status rv__kmeans_label(rv_ctx *ctx, rv__kmeans *job, float *half, float *best)
{
    const size_t wide = rv__round_up(job->k, 16), dim = job->dim, group = rv__kmeans_group(job);
    const int tiny = dim <= RV__KMEANS_SMALL;
    size_t left = 0;
    rv_status status = RV_OK;
    job->half = half;
    job->turned = tiny ? half + wide : NULL;
    job->best = group < job->k ? best : NULL;
    for (size_t c = 0; c < wide; c++) {
        const float *row = job->centroids + (c < job->k ? c : 0) * dim;
        const size_t first = c - c % RV__KMEANS_NEAR;
        const size_t n = wide - first < RV__KMEANS_NEAR ? wide - first : RV__KMEANS_NEAR;
        status = rv__poll_by(ctx, &left, 2 * (dim + 32));
        if (status) return status;
        half[c] = c < job->k ? 0.5f * rv_dot_f32(row, row, dim) : rv__infinity();
        for (size_t j = 0; tiny && j < dim; j++)
            job->turned[first * dim + j * n + (c - first)] = row[j];
    }
    for (job->from = 0; job->from < job->k && !status; job->from = job->to) {
        job->to = job->k - job->from < group ? job->k : job->from + group;
        status = rv__kmeans_label_group(ctx, job);
    }
    return status;
}

/* Rows per block: fewer where they are very long. */
static size_t rv__kmeans_block(size_t dim)
{
    return dim <= 8192 ? RV__KMEANS_ROWS : RV__KMEANS_ROWS / 4;
}

static size_t rv__kmeans_lane(size_t dim, int sampled)
{
    const size_t block = rv__kmeans_block(dim);
    size_t bytes = block * RV__KMEANS_COLS * sizeof(float) + rv__gram_f32_scratch();
    if (sampled) bytes += rv__round_up(block * dim, 16) * sizeof(float);
    if (bytes < dim * sizeof(double)) bytes = dim * sizeof(double);
    return rv__round_up(bytes, 64);
}

/* k-means++: each next centroid is a row drawn by its squared distance to the nearest so far. Works
   on at most 32 rows per cluster. dist: [m] scratch. */
static rv_status rv__kmeans_plus(rv_ctx *ctx, rv__kmeans *job, rv__rng *rng, float *centroids,
                                 float *dist)
{
    size_t m = job->m < 32 * job->k ? job->m : 32 * job->k, dim = job->dim;
    size_t pick = rv__rng_below(rng, (uint32_t)m);
    for (size_t c = 0; c < job->k; c++) {
        double total = 0.0, goal;
        rv_status status;
        memcpy(centroids + c * dim, rv__kmeans_row(job, (size_t)((uint64_t)pick * job->m / m)),
               dim * sizeof(float));
        for (size_t i = 0; i < m; i++) {
            float d;
            status = i % rv__kmeans_piece(dim) ? RV_OK : rv__poll(ctx);
            if (status) return status;
            d = job->kernels->pair_f32[RV__OP_L2](
                rv__kmeans_row(job, (size_t)((uint64_t)i * job->m / m)), centroids + c * dim, dim);
            if (c == 0 || d < dist[i]) dist[i] = d;
            total += (double)dist[i];
        }
        goal = (double)rv__rng_f32(rng) * total;
        pick = rv__rng_below(rng, (uint32_t)m); /* when all rows are centroids already */
        for (size_t i = 0; i < m && total > 0.0; i++) {
            goal -= (double)dist[i];
            if (goal < 0.0 || (i + 1 == m && dist[i] > 0.0f)) {
                pick = i;
                break;
            }
        }
    }
    return RV_OK;
}

/* k different rows at random: the first of a shuffle that only touches what it takes. */
static rv_status rv__kmeans_scatter(rv_ctx *ctx, const rv__kmeans *job, rv__rng *rng,
                                    float *centroids, uint32_t *order)
{
    for (size_t i = 0; i < job->m; i++) {
        rv_status status = i % RV__KMEANS_MANY ? RV_OK : rv__poll(ctx);
        if (status) return status;
        order[i] = (uint32_t)i;
    }
    for (size_t c = 0; c < job->k; c++) {
        size_t other = c + rv__rng_below(rng, (uint32_t)(job->m - c));
        uint32_t row = order[other];
        rv_status status = c % rv__kmeans_piece(job->dim) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        order[other] = order[c];
        order[c] = row;
        memcpy(centroids + c * job->dim, rv__kmeans_row(job, row), job->dim * sizeof(float));
    }
    return RV_OK;
}

/* Sorts the rows by cluster. start: [k + 2]. */
static rv_status rv__kmeans_sort(rv_ctx *ctx, const rv__kmeans *job, uint32_t *order,
                                 uint32_t *start)
{
    memset(start, 0, (job->k + 2) * sizeof(uint32_t));
    for (size_t i = 0; i < job->m; i++) {
        rv_status status = i % RV__KMEANS_MANY ? RV_OK : rv__poll(ctx);
        if (status) return status;
        start[job->assign[i] + 2]++;
    }
    for (size_t c = 2; c < job->k + 2; c++) start[c] += start[c - 1];
    for (size_t i = 0; i < job->m; i++) {
        rv_status status = i % RV__KMEANS_MANY ? RV_OK : rv__poll(ctx);
        if (status) return status;
        order[start[job->assign[i] + 1]++] = (uint32_t)i;
    }
    return RV_OK;
}

/* The sum of n distances, in order. */
static rv_status rv__kmeans_total(rv_ctx *ctx, const float *dist, size_t n, double *total)
{
    *total = 0.0;
    for (size_t i = 0; i < n; i++) {
        rv_status status = i % RV__KMEANS_MANY ? RV_OK : rv__poll(ctx);
        if (status) return status;
        *total += (double)dist[i];
    }
    return RV_OK;
}

/* A cluster without rows takes a row of the cluster with the largest sum of distances, which counts
   half from then on. weight: [k] scratch. */
static rv_status rv__kmeans_refill(rv_ctx *ctx, const rv__kmeans *job, rv__rng *rng,
                                   const float *dist, float *weight, float *centroids)
{
    const uint32_t *start = job->start;
    size_t left = 0;
    for (size_t c = 0; c < job->k; c++) {
        weight[c] = 0.0f;
        for (uint32_t i = start[c]; i < start[c + 1]; i++) {
            rv_status status = rv__poll_by(ctx, &left, 8); /* rows in any order */
            if (status) return status;
            weight[c] += dist[job->order[i]];
        }
    }
    for (size_t c = 0; c < job->k; c++) {
        size_t donor = 0;
        uint32_t pick;
        rv_status status;
        if (start[c] != start[c + 1]) continue;
        status = rv__poll(ctx);
        if (status) return status;
        for (size_t i = 1; i < job->k; i++) donor = weight[i] > weight[donor] ? i : donor;
        if (!(weight[donor] > 0.0f)) return RV_OK;
        weight[donor] *= 0.5f;
        pick = start[donor] + rv__rng_below(rng, start[donor + 1] - start[donor]);
        memcpy(centroids + c * job->dim, rv__kmeans_row(job, job->order[pick]),
               job->dim * sizeof(float));
    }
    return RV_OK;
}

typedef struct rv__kmeans_space {
    uint32_t *assign, *order, *start;
    float *dist, *half;
    size_t m, k;
} rv__kmeans_space;

static rv_status rv__kmeans_lloyd(rv_ctx *ctx, rv__kmeans *job, rv__kmeans_space *space,
                                  size_t iterations, float *centroids)
{
    double last = 0.0;
    rv__rng rng;
    rv_status status = RV_OK;
    rv__rng_init(&rng, job->seed);
    if (job->k <= 256) {
        status = rv__kmeans_plus(ctx, job, &rng, centroids, space->dist);
    } else {
        status = rv__kmeans_scatter(ctx, job, &rng, centroids, space->order);
    }
    job->centroids = centroids;
    job->assign = space->assign;
    job->dist = space->dist;
    job->order = space->order;
    job->start = space->start;
    job->out = centroids;
    for (size_t round = 0; !status && round < iterations; round++) {
        double total = 0.0;
        status = rv__kmeans_label(ctx, job, space->half, space->dist);
        if (!status) status = rv__kmeans_total(ctx, space->dist, job->m, &total);
        if (!status) status = rv__kmeans_sort(ctx, job, space->order, space->start);
        if (!status) status = rv__kmeans_update(ctx, job);
        if (status) break;
        if (round > 0 && last - total <= 1e-4 * last) break;
        last = total;
        if (round + 1 < iterations)
            status = rv__kmeans_refill(ctx, job, &rng, space->dist, space->half, centroids);
    }
    return status;
}

static rv_status rv__kmeans_check(rv_ctx *ctx, const rv__kmeans *job)
{
    for (size_t i = 0; i < job->m; i++) {
        const float *row = rv__kmeans_row(job, i);
        size_t bad = rv__find_not_finite(row, job->dim);
        rv_status status = i % rv__kmeans_piece(job->dim) ? RV_OK : rv__poll(ctx);
        if (status) return status;
        if (bad < job->dim) {
            return rv__fail(ctx, RV_ERR_ARG, (size_t)(row - job->rows) + bad,
                            "element %z of row %z is not finite", bad,
                            (size_t)(row - job->rows) / job->stride);
        }
    }
    return RV_OK;
}

/* Labels every row of the set and sums the distances; lane scratch is made here. */
static rv_status rv__kmeans_all(rv_ctx *ctx, const rv_alloc *alloc, rv__kmeans *job,
                                uint32_t *assign, float *dist)
{
    size_t lanes = rv__lanes(ctx);
    const size_t spare = dist || rv__kmeans_group(job) == job->k ? 0 : job->n;
    float *half = (float *)rv__get(alloc, rv__kmeans_table(job->k, job->dim), sizeof(float));
    float *best = (float *)rv__get(alloc, spare, sizeof(float));
    rv_status status = RV_ERR_MEMORY;
    job->m = job->n;
    job->assign = assign;
    job->dist = dist;
    job->lane_bytes = rv__kmeans_lane(job->dim, 0);
    job->scratch = (unsigned char *)rv__get(alloc, lanes, job->lane_bytes);
    if (half && best && job->scratch) {
        status = rv__kmeans_label(ctx, job, half, dist ? dist : best);
    } else {
        status = rv__no_memory(ctx, rv__mul(lanes, job->lane_bytes));
    }
    rv__put(alloc, job->scratch, lanes, job->lane_bytes);
    rv__put(alloc, best, spare, sizeof(float));
    rv__put(alloc, half, rv__kmeans_table(job->k, job->dim), sizeof(float));
    return status;
}

static void rv__kmeans_open(rv_ctx *ctx, rv__kmeans *job, const float *rows, size_t stride,
                            size_t n, size_t dim, size_t k, uint64_t seed)
{
    memset(job, 0, sizeof *job);
    job->kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    job->rows = rows;
    job->stride = stride ? stride : dim;
    job->n = job->m = n;
    job->dim = dim;
    job->k = k;
    job->block = rv__kmeans_block(dim);
    job->seed = seed;
}

static rv_status rv__kmeans_fit(rv_ctx *ctx, const rv_alloc *alloc, rv__kmeans *job,
                                size_t iterations, float *centroids)
{
    size_t lanes = rv__lanes(ctx);
    rv__kmeans_space space;
    rv_status status = rv__kmeans_check(ctx, job);
    if (status) return status;
    space.assign = (uint32_t *)rv__get(alloc, job->m, sizeof(uint32_t));
    space.order = (uint32_t *)rv__get(alloc, job->m, sizeof(uint32_t));
    space.start = (uint32_t *)rv__get(alloc, job->k + 2, sizeof(uint32_t));
    space.dist = (float *)rv__get(alloc, job->m, sizeof(float));
    space.half = (float *)rv__get(alloc, rv__kmeans_table(job->k, job->dim), sizeof(float));
    job->lane_bytes = rv__kmeans_lane(job->dim, job->m != job->n);
    job->scratch = (unsigned char *)rv__get(alloc, lanes, job->lane_bytes);
    if (space.assign && space.order && space.start && space.dist && space.half && job->scratch) {
        status = rv__kmeans_lloyd(ctx, job, &space, iterations, centroids);
    } else {
        status = rv__no_memory(ctx, rv__mul(lanes, job->lane_bytes));
    }
    rv__put(alloc, job->scratch, lanes, job->lane_bytes);
    rv__put(alloc, space.half, rv__kmeans_table(job->k, job->dim), sizeof(float));
    rv__put(alloc, space.dist, job->m, sizeof(float));
    rv__put(alloc, space.start, job->k + 2, sizeof(uint32_t));
    rv__put(alloc, space.order, job->m, sizeof(uint32_t));
    rv__put(alloc, space.assign, job->m, sizeof(uint32_t));
    return status;
}

/* As rv_kmeans_train, with the seed given and arguments that are known to be good. */
RV__FN rv_status rv__kmeans_train(rv_ctx *ctx, const rv_kmeans_config *config, uint64_t seed,
                                  const float *rows, size_t stride, size_t n, size_t dim,
                                  float *centroids, uint32_t *assign, double *inertia)
{
    rv_alloc alloc = rv__allocator(ctx);
    size_t most = rv__mul(config->k, config->sample ? config->sample : 64);
    rv__kmeans job;
    rv_status status;
    rv__kmeans_open(ctx, &job, rows, stride, n, dim, config->k, seed);
    job.spherical = config->spherical;
    if (most < 2048) most = 2048;
    if (most < n) job.m = most;
    status =
        rv__kmeans_fit(ctx, &alloc, &job, config->iterations ? config->iterations : 12, centroids);
    if (!status && (assign || inertia)) {
        float *dist = inertia ? (float *)rv__get(&alloc, n, sizeof(float)) : NULL;
        uint32_t *labels = assign ? assign : (uint32_t *)rv__get(&alloc, n, sizeof(uint32_t));
        if (!labels || (inertia && !dist)) {
            status = rv__no_memory(ctx, rv__mul(n, sizeof(float)));
        } else {
            status = rv__kmeans_all(ctx, &alloc, &job, labels, dist);
        }
        if (!status && inertia) {
            status = rv__kmeans_total(ctx, dist, n, inertia);
        }
        if (!assign) rv__put(&alloc, labels, n, sizeof(uint32_t));
        rv__put(&alloc, dist, n, sizeof(float));
    }
    return status;
}

RV_API rv_status rv_kmeans_train(rv_ctx *ctx, const rv_kmeans_config *config, const float *rows,
                                 size_t stride, size_t n, size_t dim, float *centroids,
                                 uint32_t *assign, double *inertia)
{
    rv_status status;
    if (!config || !rows || !centroids) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "kmeans needs config, rows and centroids");
    }
    if (dim < 1 || dim > 65535 || (stride != 0 && stride < dim)) {
        return rv__fail(ctx, RV_ERR_ARG, 0,
                        "kmeans: dim is %z, allowed: 1 to 65535; stride %z, at least dim", dim,
                        stride);
    }
    if (n > 0xFFFFFFF0u)
        return rv__fail(ctx, RV_ERR_ARG, 0, "kmeans: n is %z, allowed: below 2^32 - 16", n);
    if (config->k < 1 || config->k > RV__KMEANS_MAX || config->k > n) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kmeans: k is %z, allowed: 1 to n (%z) and 2^24",
                        (size_t)config->k, n);
    }
    if (config->iterations > 10000) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kmeans: iterations is %z, allowed: 1 to 10000",
                        (size_t)config->iterations);
    }
    if (config->sample > 1048576) {
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "kmeans: sample is %z, allowed: 1 to 1048576",
                        (size_t)config->sample);
    }
    status = rv__kmeans_train(ctx, config, rv__seed(ctx), rows, stride, n, dim, centroids, assign,
                              inertia);
    return status ? status : rv__ok(ctx);
}

RV_API rv_status rv_kmeans_assign(rv_ctx *ctx, const float *centroids, size_t k, size_t dim,
                                  const float *rows, size_t stride, size_t n, uint32_t *assign,
                                  float *dist)
{
    rv_alloc alloc = rv__allocator(ctx);
    rv__kmeans job;
    rv_status status;
    if (dim < 1 || dim > 65535 || k < 1 || k > RV__KMEANS_MAX || (stride != 0 && stride < dim) ||
        n > 0xFFFFFFF0u) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "kmeans: dim %z, k %z or n %z is out of range", dim, k,
                        n);
    }
    if (n == 0) return rv__ok(ctx);
    rv__kmeans_open(ctx, &job, rows, stride, n, dim, k, 0);
    job.centroids = centroids;
    status = rv__kmeans_all(ctx, &alloc, &job, assign, dist);
    return status ? status : rv__ok(ctx);
}

#undef RV__KMEANS_BAND
#undef RV__KMEANS_COLS
#undef RV__KMEANS_MANY
#undef RV__KMEANS_MAX
#undef RV__KMEANS_NEAR
#undef RV__KMEANS_ROWS
#undef RV__KMEANS_SMALL
#undef RV__KMEANS_WORK
#endif /* RV_KMEANS_C */
