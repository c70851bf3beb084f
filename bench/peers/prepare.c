/* prepare.c - writes one data set of make bench-peers with its exact neighbours.

   prepare DIR synth N DIM N_QUERIES [SEED]
   prepare DIR file BASE[.fvecs|.npy] N_QUERIES [QUERIES_FILE] [normalize] [distinct]

   DIR/base.f32 [n, dim], DIR/query.f32 [n_queries, dim]: raw little-endian floats.
   DIR/gt.i32 [n_queries, 100], DIR/gt.f64: ids and squared distances of the exact neighbours.
   DIR/meta: one line of name=value words, written last: a folder without it is unfinished.

   distinct leaves out rows of zeros and rows equal to an earlier one, after normalize: SymphonyQG
   answers nothing right where a neighbour is the row again (its code divides by the distance).
   Without a query file every (n / n_queries)-th row becomes a query and leaves the set. The search
   is brute force in float over tiles; the best 160 per query are measured again in double, and
   the query is repeated wholly in double if a float error could have hidden a neighbour.
   Compile with -O3 -march=native -ffp-contract=off -pthread (the same bits on every machine). */
#define _POSIX_C_SOURCE 200809L
#include "datagen.h"
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GT_K = 100, GT_WIDE = 160, ROW_TILE = 6, QUERY_TILE = 4, N_THREADS_MAX = 64 };
typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));

typedef struct near_one {
    double   distance;
    uint32_t id;
} near_one;

typedef struct job {                      /* shared by the threads of one phase                */
    const rvd_model *model;
    uint64_t  first;
    float    *out;
    const float *base, *query;
    float    *norm;                       /* [n], squared norms of the rows                    */
    size_t    n, dim, n_query, next, step;
    int32_t  *gt_id;
    double   *gt_distance;
    size_t    n_repeated;
    int       failed;
    pthread_mutex_t lock;
} job;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "prepare: %s: %s\n", what, why);
    exit(1);
}

static void *grab(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) die("memory", "ran out");
    return p;
}

/* Takes the next piece of work: [*from, *to) of total. Returns 0 when none is left. */
static int take(job *j, size_t total, size_t *from, size_t *to)
{
    pthread_mutex_lock(&j->lock);
    *from = j->next;
    *to = *from + j->step < total ? *from + j->step : total;
    j->next = *to;
    pthread_mutex_unlock(&j->lock);
    return *from < total;
}

static void run_threads(job *j, size_t step, void *(*body)(void *))
{
    pthread_t threads[N_THREADS_MAX];
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (n < 1) n = 1;
    if (n > N_THREADS_MAX) n = N_THREADS_MAX;
    j->next = 0;
    j->step = step;
    for (long i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, body, j)) die("thread", "cannot start");
    for (long i = 0; i < n; i++) pthread_join(threads[i], NULL);
    if (j->failed) die("memory", "ran out");
}

static void *generate_some(void *arg)
{
    job *j = (job *)arg;
    size_t from, to;
    while (take(j, j->n, &from, &to))
        if (rvd_model_rows(j->model, j->first + from, to - from, j->out + from * j->dim))
            j->failed = 1;
    return NULL;
}

/* ---- exact search --------------------------------------------------------------------------- */

static double l2_double(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sum;
}

static float dot(const float *a, const float *b, size_t dim)
{
    lanes s = { 0 };
    float sum = 0;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        lanes x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        s += x * y;
    }
    for (int l = 0; l < 16; l++) sum += s[l];
    for (; i < dim; i++) sum += a[i] * b[i];
    return sum;
}

/* dots of QUERY_TILE queries with ROW_TILE rows, all of one length. out: [QUERY_TILE, ROW_TILE].
   The inner loops are unrolled so that the 24 sums stay in registers. */
static void dot_tile(const float *query, const float *rows, size_t dim, float *out)
{
    lanes s[QUERY_TILE][ROW_TILE], q[QUERY_TILE];
    size_t whole = dim / 16 * 16;
    memset(s, 0, sizeof s);
    for (size_t i = 0; i < whole; i += 16) {
        _Pragma("GCC unroll 8") for (size_t a = 0; a < QUERY_TILE; a++)
            q[a] = *(const lanes *)(const void *)(query + a * dim + i);
        _Pragma("GCC unroll 8") for (size_t r = 0; r < ROW_TILE; r++) {
            lanes x = *(const lanes *)(const void *)(rows + r * dim + i);
            _Pragma("GCC unroll 8") for (size_t a = 0; a < QUERY_TILE; a++) s[a][r] += q[a] * x;
        }
    }
    for (size_t a = 0; a < QUERY_TILE; a++) {
        for (size_t r = 0; r < ROW_TILE; r++) {
            float sum = 0;
            for (int l = 0; l < 16; l++) sum += s[a][r][l];
            for (size_t i = whole; i < dim; i++) sum += query[a * dim + i] * rows[r * dim + i];
            out[a * ROW_TILE + r] = sum;
        }
    }
}

static int farther(const near_one *a, const near_one *b)    /* order: distance, then id        */
{
    return a->distance > b->distance || (a->distance == b->distance && a->id > b->id);
}

static void heap_offer(near_one *heap, size_t *n, size_t cap, near_one one)   /* worst on top   */
{
    size_t i;
    if (*n < cap) {
        i = (*n)++;
        while (i > 0 && farther(&one, &heap[(i - 1) / 2])) {
            heap[i] = heap[(i - 1) / 2];
            i = (i - 1) / 2;
        }
        heap[i] = one;
        return;
    }
    if (!farther(&heap[0], &one)) return;
    i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= cap) break;
        if (child + 1 < cap && farther(&heap[child + 1], &heap[child])) child++;
        if (!farther(&heap[child], &one)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = one;
}

static int compare_near(const void *a, const void *b)
{
    const near_one *x = (const near_one *)a, *y = (const near_one *)b;
    return farther(x, y) ? 1 : farther(y, x) ? -1 : 0;
}

static void settle(job *j, size_t q, near_one *heap, size_t n_heap)
{
    const float *query = j->query + q * j->dim;
    double worst_float = heap[0].distance, scale = 0;
    size_t keep;
    for (size_t i = 0; i < n_heap; i++) {
        double norm = (double)j->norm[heap[i].id];
        if (norm > scale) scale = norm;
        heap[i].distance = l2_double(query, j->base + (size_t)heap[i].id * j->dim, j->dim);
    }
    qsort(heap, n_heap, sizeof *heap, compare_near);
    keep = n_heap < GT_K ? n_heap : GT_K;
    /* |x|^2 - 2qx + |q|^2 in float: relative error below 16-lane sums of dim/16 + 20 terms. */
    scale = (double)dot(query, query, j->dim) + scale;
    if (n_heap < j->n && heap[keep - 1].distance >
        worst_float - 4 * scale * ((double)j->dim / 16 + 20) * 6e-8) {
        n_heap = 0;
        for (size_t i = 0; i < j->n; i++) {
            near_one one;
            one.id = (uint32_t)i;
            one.distance = l2_double(query, j->base + i * j->dim, j->dim);
            heap_offer(heap, &n_heap, GT_WIDE, one);
        }
        qsort(heap, n_heap, sizeof *heap, compare_near);
        pthread_mutex_lock(&j->lock);
        j->n_repeated++;
        pthread_mutex_unlock(&j->lock);
    }
    for (size_t i = 0; i < GT_K; i++) {
        j->gt_id[q * GT_K + i] = i < keep ? (int32_t)heap[i].id : -1;
        j->gt_distance[q * GT_K + i] = i < keep ? heap[i].distance : -1;
    }
}

static void *search_some(void *arg)
{
    job *j = (job *)arg;
    size_t from, to;
    while (take(j, j->n_query, &from, &to)) {
        size_t m = to - from, block = 252;
        near_one *heaps = (near_one *)grab(m * GT_WIDE * sizeof *heaps);
        size_t *count = (size_t *)grab(m * sizeof *count);
        float *bar = (float *)grab(m * sizeof *bar);
        float *norm_q = (float *)grab(m * sizeof *norm_q);
        for (size_t q = 0; q < m; q++) {
            const float *x = j->query + (from + q) * j->dim;
            count[q] = 0;
            bar[q] = INFINITY;
            norm_q[q] = dot(x, x, j->dim);
        }
        for (size_t r0 = 0; r0 < j->n; r0 += block) {
            size_t r1 = r0 + block < j->n ? r0 + block : j->n;
            for (size_t q = 0; q < m; q += QUERY_TILE) {
                size_t nq = m - q < QUERY_TILE ? m - q : QUERY_TILE;
                for (size_t r = r0; r < r1; r += ROW_TILE) {
                    size_t nr = r1 - r < ROW_TILE ? r1 - r : ROW_TILE;
                    float tile[QUERY_TILE * ROW_TILE];
                    const float *qs = j->query + (from + q) * j->dim;
                    const float *rows = j->base + r * j->dim;
                    if (nq == QUERY_TILE && nr == ROW_TILE) {
                        dot_tile(qs, rows, j->dim, tile);
                    } else {
                        for (size_t a = 0; a < nq; a++)
                            for (size_t b = 0; b < nr; b++)
                                tile[a * ROW_TILE + b] =
                                    dot(qs + a * j->dim, rows + b * j->dim, j->dim);
                    }
                    for (size_t a = 0; a < nq; a++) {
                        for (size_t b = 0; b < nr; b++) {
                            float d = j->norm[r + b] - 2 * tile[a * ROW_TILE + b] + norm_q[q + a];
                            near_one one, *heap = heaps + (q + a) * GT_WIDE;
                            if (!(d < bar[q + a])) continue;
                            one.distance = (double)d;
                            one.id = (uint32_t)(r + b);
                            heap_offer(heap, &count[q + a], GT_WIDE, one);
                            if (count[q + a] == GT_WIDE) bar[q + a] = (float)heap[0].distance;
                        }
                    }
                }
            }
        }
        for (size_t q = 0; q < m; q++) settle(j, from + q, heaps + q * GT_WIDE, count[q]);
        free(heaps);
        free(count);
        free(bar);
        free(norm_q);
    }
    return NULL;
}

/* ---- files ---------------------------------------------------------------------------------- */

static void write_file(const char *dir, const char *name, const void *data, size_t bytes)
{
    char path[1024];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f)) die(path, "cannot write");
}

static void normalize_rows(float *x, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < dim; k++) sum += (double)x[i * dim + k] * (double)x[i * dim + k];
        for (size_t k = 0; k < dim && sum > 0; k++)
            x[i * dim + k] = (float)((double)x[i * dim + k] / sqrt(sum));
    }
}

/* Returns the new number of rows. */
static size_t keep_distinct(float *base, size_t n, size_t dim)
{
    size_t mask = 1, kept = 0;
    uint32_t *table;                      /* open addressing: kept row + 1, 0 is free          */
    while (mask < 2 * n) mask *= 2;
    table = (uint32_t *)grab(mask * sizeof *table);
    memset(table, 0, mask * sizeof *table);
    mask--;
    for (size_t i = 0; i < n; i++) {
        const float *x = base + i * dim;
        size_t zeros = 0, at = (size_t)rvd_checksum(UINT64_C(0xCBF29CE484222325), x, dim) & mask;
        while (zeros < dim && x[zeros] == 0) zeros++;
        while (table[at] && memcmp(base + (table[at] - 1) * dim, x, dim * sizeof(float)) != 0)
            at = (at + 1) & mask;
        if (zeros == dim || table[at]) continue;
        memmove(base + kept * dim, x, dim * sizeof(float));
        table[at] = (uint32_t)++kept;
    }
    free(table);
    return kept;
}

/* Moves every step-th row out of base into query; returns the new number of rows. */
static size_t hold_out(float *base, size_t n, size_t dim, float *query, size_t n_query)
{
    size_t step = n / n_query, kept = 0, out = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % step == step / 2 && out < n_query) {
            memcpy(query + out++ * dim, base + i * dim, dim * sizeof(float));
        } else {
            memmove(base + kept++ * dim, base + i * dim, dim * sizeof(float));
        }
    }
    return kept;
}

static void make_synth(job *j, float **base, float **query, uint64_t seed)
{
    rvd_model model;
    size_t n = j->n;
    if (rvd_model_init(&model, n, j->dim, seed)) die("memory", "ran out");
    *base = (float *)grab(n * j->dim * sizeof(float));
    *query = (float *)grab(j->n_query * j->dim * sizeof(float));
    j->model = &model;
    j->first = 0;
    j->out = *base;
    run_threads(j, 1000, generate_some);
    j->first = RVD_QUERY_ROW;
    j->out = *query;
    j->n = j->n_query;
    run_threads(j, 1000, generate_some);
    j->n = n;
    rvd_model_free(&model);
}

int main(int argc, char **argv)
{
    job j;
    float *base = NULL, *query = NULL;
    char meta[512];
    int synth = argc > 2 && strcmp(argv[2], "synth") == 0;
    int file = argc > 2 && strcmp(argv[2], "file") == 0;
    memset(&j, 0, sizeof j);
    pthread_mutex_init(&j.lock, NULL);
    if (synth && argc >= 6) {
        j.n = strtoul(argv[3], NULL, 10);
        j.dim = strtoul(argv[4], NULL, 10);
        j.n_query = strtoul(argv[5], NULL, 10);
        if (j.n < 1000 || j.dim < 8 || j.n_query < 1) die("synth", "N >= 1000, DIM >= 8");
        make_synth(&j, &base, &query, argc > 6 ? strtoul(argv[6], NULL, 10) : 1);
    } else if (file && argc >= 5) {
        int normalize = 0, distinct = 0;
        const char *queries = NULL;
        size_t want = strtoul(argv[4], NULL, 10);
        for (int i = 5; i < argc; i++) {
            if (strcmp(argv[i], "normalize") == 0) normalize = 1;
            else if (strcmp(argv[i], "distinct") == 0) distinct = 1;
            else queries = argv[i];
        }
        if (rvd_read(argv[3], &base, &j.n, &j.dim)) return 1;
        if (normalize) normalize_rows(base, j.n, j.dim);
        if (distinct) j.n = keep_distinct(base, j.n, j.dim);
        if (queries) {
            size_t dim;
            if (rvd_read(queries, &query, &j.n_query, &dim)) return 1;
            if (dim != j.dim) die(queries, "other dimension than the base");
            if (j.n_query > want) j.n_query = want;
            if (normalize) normalize_rows(query, j.n_query, j.dim);
        } else {
            j.n_query = want < j.n / 2 ? want : j.n / 2;
            query = (float *)grab(j.n_query * j.dim * sizeof(float));
            j.n = hold_out(base, j.n, j.dim, query, j.n_query);
        }
    } else {
        die("usage", "DIR synth N DIM NQ [SEED] | "
            "DIR file BASE NQ [QUERIES] [normalize] [distinct]");
    }
    mkdir(argv[1], 0777);
    write_file(argv[1], "base.f32", base, j.n * j.dim * sizeof(float));
    write_file(argv[1], "query.f32", query, j.n_query * j.dim * sizeof(float));
    j.base = base;
    j.query = query;
    j.norm = (float *)grab(j.n * sizeof(float));
    for (size_t i = 0; i < j.n; i++) j.norm[i] = dot(base + i * j.dim, base + i * j.dim, j.dim);
    j.gt_id = (int32_t *)grab(j.n_query * GT_K * sizeof(int32_t));
    j.gt_distance = (double *)grab(j.n_query * GT_K * sizeof(double));
    run_threads(&j, 256, search_some);
    write_file(argv[1], "gt.i32", j.gt_id, j.n_query * GT_K * sizeof(int32_t));
    write_file(argv[1], "gt.f64", j.gt_distance, j.n_query * GT_K * sizeof(double));
    snprintf(meta, sizeof meta, "n=%lu dim=%lu n_query=%lu gt_k=%d repeated=%lu checksum=%016llx\n",
             (unsigned long)j.n, (unsigned long)j.dim, (unsigned long)j.n_query, (int)GT_K,
             (unsigned long)j.n_repeated,
             (unsigned long long)rvd_checksum(UINT64_C(0xCBF29CE484222325), base, j.n * j.dim));
    write_file(argv[1], "meta", meta, strlen(meta));
    fputs(meta, stdout);
    return 0;
}
