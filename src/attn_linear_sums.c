#ifndef RV_ATTN_LINEAR_SUMS_C
#define RV_ATTN_LINEAR_SUMS_C
#include "attn_linear.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "attn_linear.c"

/* Sums of features times values. A state holds [dim_v + 1][deep] of them, the last row those of the
   features alone, and behind that the log weight they are divided by and the sum of weights. Rows
   lie so that adding and reading are products of tiles, of which the kernels of attention make all:
   values turned times features to add, features times the packed state to read. */

/* A lane's scratch. */
typedef struct rv__linear_lane {
    float *x, *y;          /* [chunk][broad] queries, keys                                       */
    float *fq, *fk;        /* [chunk][deep] their features                                       */
    float *v, *out;        /* [chunk][wide]; out also serves as [chunk][broad]                    */
    float *turned;         /* [dim_v + 1][ROWS]                                                  */
    float *six;            /* [6][deep]                                                          */
    float *pack_key, *pack_sum, *pack_v;
    float *s, *e, *t;      /* [chunk][ROWS], t of six rows at least                              */
    float *wq, *wk, *ref, *down, *one, *share, *last; /* [ROWS]                                  */
    float *g, *df, *dv;    /* backward: [chunk][wide], [chunk][deep], [chunk][wide]              */
} rv__linear_lane;

static size_t rv__linear_take(size_t *total, size_t rows, size_t row)
{
    const size_t at = *total;
    *total = rv__add(at, rv__round_up(rv__mul(rows, row), 16));
    return at;
}

/* Where the pieces of a lane's scratch lie; lane_floats in all, SIZE_MAX when that overflows. */
static void rv__linear_layout(rv__linear *a)
{
    const size_t n = a->chunk, all = RV__LINEAR_ROWS;
    rv__linear_space *at = &a->at;
    size_t total = 0;
    at->x = rv__linear_take(&total, n, a->broad);
    at->y = rv__linear_take(&total, n, a->broad);
    at->fq = rv__linear_take(&total, n, a->deep);
    at->fk = rv__linear_take(&total, n, a->deep);
    at->v = rv__linear_take(&total, n, a->wide);
    at->out = rv__linear_take(&total, n, a->wide > a->broad ? a->wide : a->broad);
    at->turned = rv__linear_take(&total, all, rv__add(a->io.dim_v, 1));
    at->six = rv__linear_take(&total, 6, a->deep);
    at->pack_key = rv__linear_take(&total, all, a->deep);
    at->pack_sum = rv__linear_take(&total, rv__round_up(a->io.dim_v, all), a->deep);
    at->s = rv__linear_take(&total, n, all);
    at->e = rv__linear_take(&total, n, all);
    at->t = rv__linear_take(&total, n < 6 ? 6 : n, all);
    at->bits = rv__linear_take(&total, 7, all);
    if (a->grad) {
        at->g = rv__linear_take(&total, n, a->wide);
        at->df = rv__linear_take(&total, n, a->deep);
        at->dv = rv__linear_take(&total, n, a->wide);
        at->pack_v = rv__linear_take(&total, all, a->wide);
    }
    a->lane_floats = total;
}

static void rv__linear_lane_at(const rv__linear *a, size_t lane, rv__linear_lane *l)
{
    float *base = a->scratch + lane * a->lane_floats, *bits = base + a->at.bits;
    l->x = base + a->at.x;
    l->y = base + a->at.y;
    l->fq = base + a->at.fq;
    l->fk = base + a->at.fk;
    l->v = base + a->at.v;
    l->out = base + a->at.out;
    l->turned = base + a->at.turned;
    l->six = base + a->at.six;
    l->pack_key = base + a->at.pack_key;
    l->pack_sum = base + a->at.pack_sum;
    l->pack_v = base + a->at.pack_v;
    l->s = base + a->at.s;
    l->e = base + a->at.e;
    l->t = base + a->at.t;
    l->wq = bits;
    l->wk = bits + RV__LINEAR_ROWS;
    l->ref = bits + 2 * RV__LINEAR_ROWS;
    l->down = bits + 3 * RV__LINEAR_ROWS;
    l->one = bits + 4 * RV__LINEAR_ROWS;
    l->share = bits + 5 * RV__LINEAR_ROWS;
    l->last = bits + 6 * RV__LINEAR_ROWS;
    l->g = base + a->at.g;
    l->df = base + a->at.df;
    l->dv = base + a->at.dv;
    for (size_t r = 0; r < RV__LINEAR_ROWS; r++) l->one[r] = 1.0f;
}

/* ---- products ---- */

/* s: [n][ROWS] = rows of x times packed rows. */
static void rv__linear_cross(const rv__linear *a, const float *x, size_t ld, size_t n,
                             const float *packed, size_t depth, float *s)
{
    for (size_t r = 0; r < n; r += 6)
        a->kernels->attn_logits(x + r * ld, ld, n - r < 6 ? n - r : 6, packed, depth,
                                s + r * RV__LINEAR_ROWS);
}

/* out: [n][width] += w: [n][ROWS] times rows: [keys][width]. */
static void rv__linear_mix(const rv__linear *a, const float *w, size_t n, const float *rows,
                           size_t keys, float *out, size_t width)
{
    for (size_t r = 0; r < n; r += 6)
        a->kernels->attn_mix(w + r * RV__LINEAR_ROWS, n - r < 6 ? n - r : 6, rows, width, keys,
                             out + r * width, width, width);
}

/* ---- states ---- */

static int rv__linear_scaled(const rv__linear *a)
{
    return a->map == RV__LINEAR_EXP || a->map == RV__LINEAR_WAVE;
}

/* Two floats: the log weight that the sums are divided by, the sum of weights. */
static float *rv__linear_tail(const rv__linear *a, float *state)
{
    return state + (a->io.dim_v + 1) * a->deep;
}

static void rv__linear_clear(const rv__linear *a, float *state)
{
    memset(state, 0, a->state_floats * sizeof(float));
    if (rv__linear_scaled(a)) rv__linear_tail(a, state)[0] = RV__LINEAR_NONE;
}

static void rv__linear_raise(const rv__linear *a, float *state, float top)
{
    float *tail = rv__linear_tail(a, state), down;
    if (!(top > tail[0])) return;
    down = rv__expf(tail[0] - top);
    a->kernels->scale_f32(down, state, (a->io.dim_v + 1) * a->deep);
    tail[0] = top;
    tail[1] *= down;
}

/* to += from. */
static void rv__linear_join(const rv__linear *a, float *to, float *from)
{
    float *tail = rv__linear_tail(a, to), *other = rv__linear_tail(a, from), down;
    if (other[0] <= RV__LINEAR_NONE && other[1] == 0.0f) return; /* NaN goes on */
    rv__linear_raise(a, to, other[0]);
    down = rv__expf(other[0] - tail[0]);
    a->kernels->axpy_f32(down, from, to, (a->io.dim_v + 1) * a->deep);
    tail[1] += down * other[1];
}

/* Adds n <= ROWS rows of features times values: [n][wide] and times last, all times exp(weight). */
static void rv__linear_absorb(const rv__linear *a, const rv__linear_lane *l, float *state, size_t n,
                              const float *f, const float *values, const float *last,
                              const float *weight)
{
    const size_t dim = a->io.dim_v;
    float *tail = rv__linear_tail(a, state), top = RV__LINEAR_NONE;
    for (size_t r = 0; r < n; r++) top = weight[r] > top ? weight[r] : top;
    if (rv__linear_scaled(a)) rv__linear_raise(a, state, top);
    for (size_t r = 0; r < n; r++) {
        float share = rv__linear_scaled(a) ? rv__expf(weight[r] - tail[0]) : 1.0f;
        if (weight[r] <= RV__LINEAR_NONE) share = 0.0f;
        for (size_t x = 0; x < dim; x++)
            l->turned[x * RV__LINEAR_ROWS + r] = values[r * a->wide + x] * share;
        l->turned[dim * RV__LINEAR_ROWS + r] = last[r] * share;
        tail[1] += share;
    }
    for (size_t x = 0; x < dim + 1; x += 6) { /* a chunk by itself: long sums lose digits */
        const size_t rows = dim + 1 - x < 6 ? dim + 1 - x : 6;
        memset(l->six, 0, rows * a->deep * sizeof(float));
        a->kernels->attn_mix(l->turned + x * RV__LINEAR_ROWS, rows, f, a->deep, n, l->six, a->deep,
                             a->deep);
        a->kernels->add_f32(l->six, state + x * a->deep, rows * a->deep);
    }
}

static void rv__linear_pack(const rv__linear *a, const float *state, float *packed)
{
    const size_t dim = a->io.dim_v;
    for (size_t x = 0; x < dim; x += RV__LINEAR_ROWS)
        a->kernels->attn_pack(state + x * a->deep, a->deep,
                              dim - x < RV__LINEAR_ROWS ? dim - x : RV__LINEAR_ROWS, a->f,
                              packed + x * a->deep);
}

/* out: [n][wide] += scale times what the state's values are for features f. packed NULL: so few
   rows that packing does not pay. */
static void rv__linear_read(const rv__linear *a, const rv__linear_lane *l, const float *state,
                            const float *packed, const float *f, size_t n, const float *scale,
                            float *out)
{
    const size_t dim = a->io.dim_v;
    for (size_t r = 0; r < n && !packed; r++) {
        a->kernels->scan_dot_f32(f + r * a->deep, (const unsigned char *)state,
                                 a->deep * sizeof(float), NULL, dim, a->f, l->turned);
        a->kernels->axpy_f32(scale[r], l->turned, out + r * a->wide, dim);
    }
    for (size_t x = 0; x < dim && packed; x += RV__LINEAR_ROWS) {
        const size_t cols = dim - x < RV__LINEAR_ROWS ? dim - x : RV__LINEAR_ROWS;
        rv__linear_cross(a, f, a->deep, n, packed + x * a->deep, a->f, l->t);
        for (size_t r = 0; r < n; r++)
            a->kernels->axpy_f32(scale[r], l->t + r * RV__LINEAR_ROWS, out + r * a->wide + x, cols);
    }
}

/* df: [n][deep] += scale (values times the state's rows, last times its last row). */
static void rv__linear_through(const rv__linear *a, const rv__linear_lane *l, const float *state,
                               const float *values, const float *last, size_t n,
                               const float *scale, float *df)
{
    const size_t dim = a->io.dim_v;
    for (size_t x = 0; x < dim; x += RV__LINEAR_ROWS) {
        const size_t cols = dim - x < RV__LINEAR_ROWS ? dim - x : RV__LINEAR_ROWS;
        for (size_t r = 0; r < n; r++) {
            for (size_t c = 0; c < cols; c++)
                l->t[r * RV__LINEAR_ROWS + c] = values[r * a->wide + x + c] * scale[r];
        }
        rv__linear_mix(a, l->t, n, state + x * a->deep, cols, df, a->deep);
    }
    for (size_t r = 0; r < n; r++)
        a->kernels->axpy_f32(last[r] * scale[r], state + dim * a->deep, df + r * a->deep, a->deep);
}

/* ---- rows ---- */

static void rv__linear_widen(const rv__linear *a, const void *from, size_t at, size_t n, float *to,
                             size_t width)
{
    if (a->io.type == RV_DTYPE_F32) memcpy(to, (const float *)from + at, n * sizeof(float));
    else if (a->io.type == RV_DTYPE_F16) a->kernels->widen_f16((const uint16_t *)from + at, to, n);
    else a->kernels->widen_bf16((const uint16_t *)from + at, to, n);
    for (size_t x = n; x < width; x++) to[x] = 0.0f;
}

/* Keys j .. j + n - 1: l->y, their features l->fk and log weights l->wk, values l->v. What is
   hidden is zero. */
static void rv__linear_keys(const rv__linear *a, const rv__linear_lane *l, size_t kv, size_t j,
                            size_t n)
{
    const uint8_t *keep = a->config->keep ? a->config->keep + j : NULL;
    for (size_t r = 0; r < n; r++) {
        float *y = l->y + r * a->broad, *v = l->v + r * a->wide;
        if (keep && !keep[r]) {
            memset(y, 0, a->broad * sizeof(float));
            memset(v, 0, a->wide * sizeof(float));
            continue;
        }
        rv__linear_widen(a, a->io.k, (j + r) * a->io.k_stride + kv * a->io.dim, a->io.dim, y,
                         a->broad);
        rv__linear_widen(a, a->io.v, (j + r) * a->io.v_stride + kv * a->io.dim_v, a->io.dim_v, v,
                         a->wide);
        if (rv__linear_scaled(a)) a->kernels->scale_f32(a->root, y, a->io.dim);
    }
    rv__linear_map(a, l->y, n, l->t, l->fk, l->wk);
    for (size_t r = 0; r < n && keep; r++) {
        if (keep[r]) continue;
        memset(l->fk + r * a->deep, 0, a->deep * sizeof(float));
        l->wk[r] = RV__LINEAR_NONE;
    }
}

/* Queries i .. i + n - 1 of a head: l->x, their features l->fq and log weights l->wq. */
static void rv__linear_queries(const rv__linear *a, const rv__linear_lane *l, size_t head, size_t i,
                               size_t n)
{
    for (size_t r = 0; r < n; r++) {
        float *x = l->x + r * a->broad;
        memcpy(x, a->io.q + (i + r) * a->io.q_stride + head * a->io.dim,
               a->io.dim * sizeof(float));
        for (size_t c = a->io.dim; c < a->broad; c++) x[c] = 0.0f;
        if (rv__linear_scaled(a)) a->kernels->scale_f32(a->root, x, a->io.dim);
    }
    rv__linear_map(a, l->x, n, l->t, l->fq, l->wq);
}

/* Slopes of the loss by the outputs, l->g: [n][wide]. */
static void rv__linear_slopes(const rv__linear *a, const rv__linear_lane *l, size_t head, size_t i,
                              size_t n)
{
    const size_t dim = a->io.dim_v;
    for (size_t r = 0; r < n; r++) {
        float *g = l->g + r * a->wide;
        memcpy(g, a->grad->d_out + (i + r) * a->io.out_stride + head * dim, dim * sizeof(float));
        for (size_t c = dim; c < a->wide; c++) g[c] = 0.0f;
    }
}

/* ---- who sees whom ---- */

/* Keys below this are seen by all queries from i on; query i sees those below from(i + 1). */
static size_t rv__linear_from(const rv__linear *a, size_t i)
{
    size_t at = i + a->ahead;
    if (a->base.order == RV_ATTN_ANY) return a->io.n_k;
    at = at > a->behind ? at - a->behind : 0;
    return at < a->io.n_k ? at : a->io.n_k;
}

/* How many of the n keys from j on query i sees. */
static size_t rv__linear_sees(const rv__linear *a, size_t i, size_t j, size_t n)
{
    const size_t end = rv__linear_from(a, i + 1);
    return end <= j ? 0 : end - j < n ? end - j : n;
}

/* l->e: [n][ROWS] = exp(weight of key j + c - l->ref of query i + r), 0 where it is not seen. */
static void rv__linear_visible(const rv__linear *a, const rv__linear_lane *l, size_t i, size_t n,
                               size_t j, size_t keys)
{
    for (size_t r = 0; r < n; r++) {
        const size_t sees = rv__linear_sees(a, i + r, j, keys);
        float *e = l->e + r * RV__LINEAR_ROWS;
        for (size_t c = 0; c < sees; c++) e[c] = l->wk[c] - l->ref[r];
        if (rv__linear_scaled(a)) a->kernels->exp_f32(e, e, sees);
        for (size_t c = 0; c < sees; c++) {
            if (l->wk[c] <= RV__LINEAR_NONE) e[c] = 0.0f;
            else if (!rv__linear_scaled(a)) e[c] = 1.0f;
        }
        for (size_t c = sees; c < RV__LINEAR_ROWS; c++) e[c] = 0.0f;
    }
}

/* l->s = features of queries times those of the packed keys, times l->e. */
static void rv__linear_scores(const rv__linear *a, const rv__linear_lane *l, size_t n, size_t keys)
{
    rv__linear_cross(a, l->fq, a->deep, n, l->pack_key, a->f, l->s);
    for (size_t r = 0; r < n; r++) {
        float *s = l->s + r * RV__LINEAR_ROWS;
        const float *e = l->e + r * RV__LINEAR_ROWS;
        for (size_t c = 0; c < keys; c++) s[c] = e[c] == 0.0f ? 0.0f : s[c] * e[c];
        for (size_t c = keys; c < RV__LINEAR_ROWS; c++) s[c] = 0.0f;
    }
}

#endif /* RV_ATTN_LINEAR_SUMS_C */
