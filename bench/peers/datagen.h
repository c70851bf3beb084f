/* datagen.h - data sets for make bench-peers: a deterministic generator and readers of real sets.

   The generator makes clustered vectors of low intrinsic dimension, the kind that embeddings are:
   a latent space of n_latent axes with a decaying spectrum is embedded in dim axes by one random
   linear map shared by all rows; cluster centres are drawn in it; a row is

       map * (centre[c] + local[c] * z + spread * g) + noise * e        z: [n_local], g: [n_latent]

   with z, g, e near-normal and a decaying spectrum on z. Clusters have unequal weights and overlap.
   Queries are rows of the same distribution with other row numbers, so none is in the set. A row
   depends on (seed, dim, row number) and the number of clusters only: any number of threads and any
   block size give the same bits, on every IEEE machine when compiled with -ffp-contract=off (there
   is no log, cos or exp inside: normal numbers are sums of uniform ones).

   The difficulty (n_local, the spectra, cluster size) was chosen among three settings by the recall
   of hnswlib (200,000 rows, M 16), then frozen. It reaches recall@10 0.95 / 0.99 at a beam of
   about 20 / 35 on 200,000 x 768 and of about 110 / 430 on 1,000,000 x 128.

   Readers: .fvecs (int32 dim before each row) and .npy (version 1 or 2, '<f4', C order, 2-D).

   C99 and C++11. No globals. Thread class: pure once rvd_model_init has returned.              */
#ifndef RVD_DATAGEN_H
#define RVD_DATAGEN_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RVD_QUERY_ROW ((uint64_t)1 << 40)  /* queries are the rows from this number on */

typedef struct rvd_model {
    size_t   dim, n_latent, n_local, n_clusters;
    uint64_t seed;
    float    spread, noise;
    float   *map;                         /* [n_latent, dim]                                   */
    float   *centre;                      /* [n_clusters, n_latent]                            */
    float   *local;                       /* [n_clusters, n_local, n_latent]                   */
    float   *axis;                        /* [n_latent], spectrum of the shared space          */
    double  *upto;                        /* [n_clusters], cumulated weights, last is 1        */
} rvd_model;

/* ---- random numbers: splitmix64, one stream per purpose and row ------------------------------ */

static inline uint64_t rvd_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint64_t rvd_stream(uint64_t seed, uint64_t purpose, uint64_t row)
{
    uint64_t s = seed ^ (purpose * UINT64_C(0xD1342543DE82EF95));
    s = rvd_next(&s) ^ (row * UINT64_C(0xA24BAED4963EE407));
    return rvd_next(&s);
}

static inline double rvd_uniform(uint64_t *state)
{
    return (double)(rvd_next(state) >> 11) * (1.0 / 9007199254740992.0);
}

static inline float rvd_sum4(uint64_t x)  /* sum of four 16-bit uniforms, exact in a float */
{
    return (float)((x & 0xffff) + ((x >> 16) & 0xffff) + ((x >> 32) & 0xffff) + (x >> 48));
}

/* Near-normal, mean 0, variance 1: twelve uniforms. */
static inline float rvd_normal(uint64_t *state)
{
    float sum = rvd_sum4(rvd_next(state));
    sum += rvd_sum4(rvd_next(state));
    sum += rvd_sum4(rvd_next(state));
    return (sum - 393210.0f) * (1.0f / 65536.0f);
}

/* Near-normal, mean 0, variance 1, four uniforms: for noise, where tails do not matter. */
static inline float rvd_noise(uint64_t *state)
{
    return (rvd_sum4(rvd_next(state)) - 131070.0f) * (1.7320508f / 65536.0f);
}

/* ---- generator ----------------------------------------------------------------------------- */

static inline void rvd_model_free(rvd_model *m)
{
    free(m->map);
    free(m->centre);
    free(m->local);
    free(m->axis);
    free(m->upto);
    memset(m, 0, sizeof *m);
}

/* n_rows: rows of the set, sets the number of clusters. Returns 0, or -1 when memory ran out. */
static inline int rvd_model_init(rvd_model *m, size_t n_rows, size_t dim, uint64_t seed)
{
    uint64_t s;
    double total = 0;
    float axis_decay, local_decay, local_scale;
    memset(m, 0, sizeof *m);
    m->dim = dim;
    m->seed = seed;
    m->n_latent = dim >= 512 ? 96 : dim >= 128 ? 80 : dim * 5 / 8 + 1;
    if (dim >= 512) {                     /* like text embeddings                             */
        m->n_local = 24;
        m->n_clusters = n_rows / 1000;
        m->spread = 0.35f;
        m->noise = 0.02f;
        axis_decay = 0.15f;
        local_decay = 0.25f;
        local_scale = 1.1f;
    } else {                              /* like image descriptors: flatter, more overlap    */
        m->n_local = dim >= 128 ? 40 : dim / 4 + 2;
        m->n_clusters = n_rows / 2000;
        m->spread = 0.7f;
        m->noise = 0.04f;
        axis_decay = 0.08f;
        local_decay = 0.1f;
        local_scale = 1.4f;
    }
    if (m->n_clusters < 20) m->n_clusters = 20;
    m->map = (float *)malloc(m->n_latent * dim * sizeof(float));
    m->centre = (float *)malloc(m->n_clusters * m->n_latent * sizeof(float));
    m->local = (float *)malloc(m->n_clusters * m->n_local * m->n_latent * sizeof(float));
    m->axis = (float *)malloc(m->n_latent * sizeof(float));
    m->upto = (double *)malloc(m->n_clusters * sizeof(double));
    if (!m->map || !m->centre || !m->local || !m->axis || !m->upto) {
        rvd_model_free(m);
        return -1;
    }
    for (size_t i = 0; i < m->n_latent; i++)
        m->axis[i] = 1.0f / sqrtf(1.0f + axis_decay * (float)i);
    s = rvd_stream(seed, 1, 0);
    for (size_t i = 0; i < m->n_latent * dim; i++)
        m->map[i] = rvd_normal(&s) / sqrtf((float)dim);
    for (size_t c = 0; c < m->n_clusters; c++) {
        float *local = m->local + c * m->n_local * m->n_latent;
        double u;
        s = rvd_stream(seed, 2, c);
        u = rvd_uniform(&s);
        total += 0.15 + 3 * u * u;
        m->upto[c] = total;
        for (size_t i = 0; i < m->n_latent; i++)
            m->centre[c * m->n_latent + i] = m->axis[i] * rvd_normal(&s);
        for (size_t j = 0; j < m->n_local; j++) {
            float scale = local_scale / sqrtf((float)m->n_local * (1.0f + local_decay * (float)j));
            for (size_t i = 0; i < m->n_latent; i++)
                local[j * m->n_latent + i] = scale * rvd_normal(&s);
        }
    }
    for (size_t c = 0; c < m->n_clusters; c++) m->upto[c] /= total;
    return 0;
}

/* out: [dim], row number `row`; latent: [n_latent] scratch. */
static inline void rvd_model_row(const rvd_model *m, uint64_t row, float *latent, float *out)
{
    uint64_t s = rvd_stream(m->seed, 3, row);
    double pick = rvd_uniform(&s);
    size_t low = 0, high = m->n_clusters - 1;
    const float *centre, *local;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (m->upto[mid] > pick) high = mid;
        else low = mid + 1;
    }
    centre = m->centre + low * m->n_latent;
    local = m->local + low * m->n_local * m->n_latent;
    for (size_t i = 0; i < m->n_latent; i++)
        latent[i] = centre[i] + m->spread * m->axis[i] * rvd_normal(&s);
    for (size_t j = 0; j < m->n_local; j++) {
        float z = rvd_normal(&s);
        for (size_t i = 0; i < m->n_latent; i++) latent[i] += z * local[j * m->n_latent + i];
    }
    for (size_t i = 0; i < m->dim; i++) out[i] = m->noise * rvd_noise(&s);
    for (size_t k = 0; k < m->n_latent; k++) {
        const float *map = m->map + k * m->dim;
        float y = latent[k];
        for (size_t i = 0; i < m->dim; i++) out[i] += y * map[i];
    }
}

/* out: [n, dim], the rows first, first + 1, ... Returns 0, or -1 when memory ran out. */
static inline int rvd_model_rows(const rvd_model *m, uint64_t first, size_t n, float *out)
{
    float *latent = (float *)malloc(m->n_latent * sizeof(float));
    if (!latent) return -1;
    for (size_t i = 0; i < n; i++) rvd_model_row(m, first + i, latent, out + i * m->dim);
    free(latent);
    return 0;
}

/* FNV-1a over the bits, to tell whether two machines made the same rows. */
static inline uint64_t rvd_checksum(uint64_t hash, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        hash = (hash ^ bits) * UINT64_C(0x100000001B3);
    }
    return hash;
}

/* ---- readers of real sets ------------------------------------------------------------------- */

static inline uint32_t rvd_le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline int rvd_fail(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    return -1;
}

/* Reads the header of a .npy file; leaves the file at the first element. Returns 0 or -1. */
static inline int rvd_npy_header(FILE *f, const char *path, size_t *n, size_t *dim)
{
    unsigned char head[12];
    char text[4096];
    char *shape;
    size_t len;
    unsigned long a = 0, b = 0;
    if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        return rvd_fail(path, "not a .npy file");
    len = (size_t)head[8] | (size_t)head[9] << 8;
    if (head[6] > 1) {
        if (fread(head + 10, 1, 2, f) != 2) return rvd_fail(path, "truncated header");
        len |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    }
    if (len >= sizeof text || fread(text, 1, len, f) != len)
        return rvd_fail(path, "bad header length");
    text[len] = 0;
    shape = strstr(text, "'shape':");
    if (!strstr(text, "'<f4'") || !strstr(text, "'fortran_order': False") || !shape)
        return rvd_fail(path, "want '<f4' in C order");
    shape = strchr(shape, '(');
    if (!shape || sscanf(shape, "(%lu, %lu)", &a, &b) != 2 || !a || !b)
        return rvd_fail(path, "want two dimensions");
    *n = a;
    *dim = b;
    return 0;
}

/* Reads a whole .fvecs or .npy file. *rows: [*n, *dim], malloc'ed. Returns 0, or -1 with a line on
   stderr. Little-endian machines only (both formats are). */
static inline int rvd_read(const char *path, float **rows, size_t *n, size_t *dim)
{
    FILE *f = fopen(path, "rb");
    size_t len = strlen(path), filled = 0, cap = 0;
    int npy = len > 4 && strcmp(path + len - 4, ".npy") == 0;
    float *x = NULL;
    unsigned char head[4];
    if (!f) return rvd_fail(path, "cannot open");
    *dim = 0;
    if (npy) {
        if (rvd_npy_header(f, path, n, dim)) goto fail;
        if (*dim > 65535 || *n > (size_t)-1 / sizeof(float) / *dim) goto fail;
        x = (float *)malloc(*n * *dim * sizeof(float));
        if (!x || fread(x, sizeof(float), *n * *dim, f) != *n * *dim) goto fail;
        fclose(f);
        *rows = x;
        return 0;
    }
    while (fread(head, 1, 4, f) == 4) {
        size_t d = rvd_le32(head);
        if (filled == 0) *dim = d;
        if (d != *dim || d == 0 || d > 65535) goto fail;
        if (filled == cap) {
            float *more;
            cap = cap ? cap * 2 : 1024;
            more = (float *)realloc(x, cap * d * sizeof(float));
            if (!more) goto fail;
            x = more;
        }
        if (fread(x + filled * d, sizeof(float), d, f) != d) goto fail;
        filled++;
    }
    if (!filled) goto fail;
    fclose(f);
    *rows = x;
    *n = filled;
    return 0;
fail:
    free(x);
    fclose(f);
    return rvd_fail(path, "malformed, truncated or too big");
}

#endif /* RVD_DATAGEN_H */
