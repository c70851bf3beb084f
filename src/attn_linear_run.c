#ifndef RV_ATTN_LINEAR_RUN_C
#define RV_ATTN_LINEAR_RUN_C
#include "attn_linear.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "attn_linear.c"
#include "attn_linear_sums.c"

/* The walks over queries and keys.

   Queries are dealt out in parts, each of which owns a state. Forward: the sums over the keys
   between the parts' beginnings are made side by side and joined in order; then each part walks its
   queries, up to 64 at a time: read the state, add the keys of the chunk that a query sees as a
   small matrix, add the chunk's keys to the state. In no order there is one sum, which all read.

   Backward, with u_i = (d_out_i, -d_out_i . out_i) / denominator_i and u_j = (v_j, 1):
       slope by phi(q_i) = sum over the keys it sees of phi(k_j) (u_i . u_j)   the same walk
       slope by phi(k_j) = sum over the queries that see it of phi(q_i) (u_i . u_j)
       slope by v_j      = sum over those of (phi(q_i) . phi(k_j)) u_i         the walk reversed,
   with sums over queries of phi(q_i) u_i in place of those over keys. The log weight of a query in
   them is minus that of its denominator.

   All walks go in waves of about a millisecond, between which the caller is asked whether to go
   on. */

/* ---- forward ---- */

static void rv__linear_mix_seen(const rv__linear *a, const rv__linear_lane *l, size_t i, size_t n,
                                size_t j, size_t keys)
{
    if (a->kernels->peak_f32(l->v, keys * a->wide) < 0x7F800000u) {
        rv__linear_mix(a, l->s, n, l->v, keys, l->out, a->wide);
        return;
    }
    for (size_t r = 0; r < n; r++) /* zero times infinity: look at nothing that is not seen */
        a->kernels->attn_mix(l->s + r * RV__LINEAR_ROWS, 1, l->v, a->wide,
                             rv__linear_sees(a, i + r, j, keys), l->out + r * a->wide, a->wide,
                             a->wide);
}

/* Divides row r of l->out, that of query i, and writes what was asked for. */
static void rv__linear_finish(const rv__linear *a, const rv__linear_lane *l, size_t head, size_t i,
                              size_t r, double sum, double mass)
{
    const size_t at = head * a->io.n_q + i, dim = a->io.dim_v;
    const double least = a->map == RV__LINEAR_WAVE ? (double)a->eps * mass : 0.0;
    const double whole = a->map == RV__LINEAR_ELU ? sum + (double)a->eps : sum;
    const double count = a->map == RV__LINEAR_EXP ? (double)a->f : 1.0;
    const int gone = sum <= least;
    const float inverse = gone ? 0.0f : (float)(1.0 / whole);
    float *out = l->out + r * a->wide;
    if (gone) memset(out, 0, dim * sizeof(float));
    else a->kernels->scale_f32(inverse, out, dim);
    if (a->inverse) a->inverse[at] = inverse;
    if (a->ref) a->ref[at] = l->ref[r];
    if (a->grad) {
        l->last[r] = -inverse * a->kernels->dot_f32(l->g + r * a->wide, out, dim);
        a->last[at] = l->last[r];
        a->kernels->scale_f32(inverse, l->g + r * a->wide, dim);
        return;
    }
    memcpy(a->io.out + i * a->io.out_stride + head * dim, out, dim * sizeof(float));
    if (a->gone) a->gone[at] = (uint8_t)(gone && mass > 0.0);
    if (a->io.lse) {
        a->io.lse[at] = gone ? -rv__infinity()
                             : (float)(rv__log(whole / count) + (double)l->ref[r] +
                                       (double)l->wq[r]);
    }
}

static void rv__linear_back_query(const rv__linear *a, const rv__linear_lane *l, size_t head,
                                  size_t i, size_t n, size_t keys, const float *state)
{
    const size_t dim = a->io.dim;
    memset(l->df, 0, n * a->deep * sizeof(float));
    if (keys) {
        rv__linear_cross(a, l->g, a->wide, n, l->pack_v, a->io.dim_v, l->s);
        for (size_t r = 0; r < n; r++) {
            float *s = l->s + r * RV__LINEAR_ROWS;
            const float *e = l->e + r * RV__LINEAR_ROWS;
            for (size_t c = 0; c < keys; c++) s[c] = (s[c] + l->last[r]) * e[c];
        }
        rv__linear_mix(a, l->s, n, l->fk, keys, l->df, a->deep);
    }
    rv__linear_through(a, l, state, l->g, l->last, n, l->down, l->df);
    if (!a->grad->d_q) return;
    rv__linear_pull(a, 0, l->x, n, l->fq, l->df, l->t, l->out);
    for (size_t r = 0; r < n; r++)
        memcpy(a->grad->d_q + ((i + r) * a->base.heads + head) * dim, l->out + r * a->broad,
               dim * sizeof(float));
}

/* Queries i .. i + n - 1 of all heads that share the keys of kv, then their own keys. */
static void rv__linear_chunk(const rv__linear *a, const rv__linear_lane *l, size_t kv, size_t i,
                             size_t n, float *state)
{
    const size_t j = rv__linear_from(a, i), keys = rv__linear_from(a, i + n) - j;
    const float *z = state + a->io.dim_v * a->deep, *tail = rv__linear_tail(a, state);
    const float *packed = n * a->group > 3 ? l->pack_sum : NULL;
    if (packed) rv__linear_pack(a, state, l->pack_sum);
    if (keys) {
        rv__linear_keys(a, l, kv, j, keys);
        a->kernels->attn_pack(l->fk, a->deep, keys, a->f, l->pack_key);
        if (a->grad) a->kernels->attn_pack(l->v, a->wide, keys, a->io.dim_v, l->pack_v);
    }
    for (size_t head = kv * a->group; head < (kv + 1) * a->group; head++) {
        rv__linear_queries(a, l, head, i, n);
        if (a->grad) rv__linear_slopes(a, l, head, i, n);
        for (size_t r = 0; r < n; r++) {
            const size_t sees = rv__linear_sees(a, i + r, j, keys);
            l->ref[r] = tail[0];
            for (size_t c = 0; c < sees && rv__linear_scaled(a); c++)
                l->ref[r] = l->wk[c] > l->ref[r] ? l->wk[c] : l->ref[r];
            l->down[r] = tail[0] <= RV__LINEAR_NONE ? 0.0f : rv__expf(tail[0] - l->ref[r]);
        }
        memset(l->out, 0, n * a->wide * sizeof(float));
        if (keys) {
            rv__linear_visible(a, l, i, n, j, keys);
            rv__linear_scores(a, l, n, keys);
            rv__linear_mix_seen(a, l, i, n, j, keys);
        }
        rv__linear_read(a, l, state, packed, l->fq, n, l->down, l->out);
        for (size_t r = 0; r < n; r++) {
            double sum = (double)(l->down[r] * a->kernels->dot_f32(l->fq + r * a->deep, z, a->f));
            double mass = (double)(l->down[r] * tail[1]);
            for (size_t c = 0; c < keys; c++) {
                sum += (double)l->s[r * RV__LINEAR_ROWS + c];
                mass += (double)l->e[r * RV__LINEAR_ROWS + c];
            }
            rv__linear_finish(a, l, head, i + r, r, sum, mass);
        }
        if (a->grad) rv__linear_back_query(a, l, head, i, n, keys, state);
    }
    if (keys) rv__linear_absorb(a, l, state, keys, l->fk, l->v, l->one, l->wk);
}

static float *rv__linear_slot(const rv__linear *a, size_t kv, size_t part)
{
    return a->states + (kv * a->parts + part) * a->state_floats;
}

/* Queries of a part. */
static void rv__linear_part(const rv__linear *a, size_t part, size_t *begin, size_t *end)
{
    const size_t n = a->io.n_q;
    *begin = part * a->length < n ? part * a->length : n;
    *end = n - *begin < a->length ? n : *begin + a->length;
}

/* The keys that a part adds to the state of the one before it. */
static void rv__linear_piece(const rv__linear *a, size_t part, size_t *begin, size_t *end)
{
    size_t from, to;
    if (a->base.order == RV_ATTN_ANY) {
        const size_t n = a->io.n_k, each = (n + a->parts - 1) / a->parts;
        *begin = part * each < n ? part * each : n;
        *end = n - *begin < each ? n : *begin + each;
        return;
    }
    rv__linear_part(a, part, &from, &to);
    *end = rv__linear_from(a, from);
    *begin = 0;
    if (part == 0) return;
    rv__linear_part(a, part - 1, &from, &to);
    *begin = rv__linear_from(a, from);
}

static void rv__linear_absorb_keys(const rv__linear *a, size_t lane, size_t kv, size_t begin,
                                   size_t end, float *state)
{
    rv__linear_lane l;
    rv__linear_lane_at(a, lane, &l);
    begin += a->wave * a->step;
    if (end > begin && end - begin > a->step) end = begin + a->step;
    for (size_t j = begin; j < end; j += a->chunk) {
        const size_t n = end - j < a->chunk ? end - j : a->chunk;
        rv__linear_keys(a, &l, kv, j, n);
        rv__linear_absorb(a, &l, state, n, l.fk, l.v, l.one, l.wk);
    }
}

static void rv__linear_sum_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    for (size_t unit = first; unit < last; unit++) {
        const size_t kv = unit / a->parts, part = unit % a->parts;
        size_t begin, end;
        rv__linear_piece(a, part, &begin, &end);
        rv__linear_absorb_keys(a, lane, kv, begin, end, rv__linear_slot(a, kv, part));
    }
}

/* Keys that no query sees belong to the last state. */
static void rv__linear_rest_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    for (size_t kv = first; kv < last; kv++)
        rv__linear_absorb_keys(a, lane, kv, rv__linear_from(a, a->io.n_q), a->io.n_k,
                               rv__linear_slot(a, kv, a->parts - 1));
}

static void rv__linear_join_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    (void)lane;
    for (size_t kv = first; kv < last; kv++) {
        for (size_t part = 1; part < a->parts; part++)
            rv__linear_join(a, rv__linear_slot(a, kv, part), rv__linear_slot(a, kv, part - 1));
        for (size_t part = 0; part + 1 < a->parts && a->base.order == RV_ATTN_ANY; part++)
            memcpy(rv__linear_slot(a, kv, part), rv__linear_slot(a, kv, a->parts - 1),
                   a->state_floats * sizeof(float));
    }
}

static void rv__linear_rows_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    rv__linear_lane l;
    rv__linear_lane_at(a, lane, &l);
    for (size_t unit = first; unit < last; unit++) {
        const size_t kv = unit / a->parts, part = unit % a->parts;
        size_t begin, end;
        rv__linear_part(a, part, &begin, &end);
        begin += a->wave * a->step;
        if (end > begin && end - begin > a->step) end = begin + a->step;
        for (size_t i = begin; i < end; i += a->chunk)
            rv__linear_chunk(a, &l, kv, i, end - i < a->chunk ? end - i : a->chunk,
                             rv__linear_slot(a, kv, part));
    }
}

static void rv__linear_weights_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    const size_t n_q = a->io.n_q, n_k = a->io.n_k;
    const size_t blocks = (n_q + a->chunk - 1) / a->chunk;
    rv__linear_lane l;
    rv__linear_lane_at(a, lane, &l);
    for (size_t unit = first; unit < last; unit++) {
        const size_t head = unit / blocks, i = unit % blocks * a->chunk;
        const size_t n = n_q - i < a->chunk ? n_q - i : a->chunk;
        const size_t begin = a->wave * a->step;
        const size_t end = n_k - begin < a->step ? n_k : begin + a->step;
        rv__linear_queries(a, &l, head, i, n);
        memcpy(l.ref, a->ref + head * n_q + i, n * sizeof(float));
        for (size_t j = begin; j < end; j += a->chunk) {
            const size_t keys = end - j < a->chunk ? end - j : a->chunk;
            rv__linear_keys(a, &l, head / a->group, j, keys);
            a->kernels->attn_pack(l.fk, a->deep, keys, a->f, l.pack_key);
            rv__linear_visible(a, &l, i, n, j, keys);
            rv__linear_scores(a, &l, n, keys);
            for (size_t r = 0; r < n; r++) {
                float *w = a->io.weights + (head * n_q + i + r) * n_k + j;
                const float inverse = a->inverse[head * n_q + i + r];
                for (size_t c = 0; c < keys; c++) w[c] = l.s[r * RV__LINEAR_ROWS + c] * inverse;
            }
        }
    }
}

/* ---- backward ---- */

static void rv__linear_turn(const float *s, size_t n, size_t keys, float *turned)
{
    for (size_t c = 0; c < keys; c++) {
        for (size_t r = 0; r < n; r++)
            turned[c * RV__LINEAR_ROWS + r] = s[r * RV__LINEAR_ROWS + c];
    }
}

/* Of n queries from i on: their features, u in l->g and l->last, the log weight that they have in
   sums over queries in l->down, NONE where their denominator vanished. */
static void rv__linear_late(const rv__linear *a, const rv__linear_lane *l, size_t head, size_t i,
                            size_t n)
{
    const size_t at = head * a->io.n_q + i;
    rv__linear_queries(a, l, head, i, n);
    rv__linear_slopes(a, l, head, i, n);
    for (size_t r = 0; r < n; r++) {
        const float inverse = a->inverse[at + r];
        a->kernels->scale_f32(inverse, l->g + r * a->wide, a->io.dim_v);
        l->last[r] = a->last[at + r];
        l->ref[r] = a->ref[at + r];
        l->down[r] = inverse == 0.0f ? RV__LINEAR_NONE : -l->ref[r];
    }
}

/* What queries summed up in state owe to the n keys in l: adds to l->df and l->dv. */
static void rv__linear_owe(const rv__linear *a, const rv__linear_lane *l, float *state, size_t n)
{
    const float *tail = rv__linear_tail(a, state);
    for (size_t r = 0; r < n; r++) {
        l->share[r] = rv__linear_scaled(a) ? rv__expf(l->wk[r] + tail[0]) : 1.0f;
        if (l->wk[r] <= RV__LINEAR_NONE || tail[0] <= RV__LINEAR_NONE) l->share[r] = 0.0f;
    }
    rv__linear_pack(a, state, l->pack_sum);
    rv__linear_read(a, l, state, l->pack_sum, l->fk, n, l->share, l->dv);
    rv__linear_through(a, l, state, l->v, l->one, n, l->share, l->df);
}

/* Writes the slopes of the n keys from j on. */
static void rv__linear_give(const rv__linear *a, const rv__linear_lane *l, size_t kv, size_t j,
                            size_t n)
{
    const size_t dim = a->io.dim, dim_v = a->io.dim_v, heads = a->base.kv_heads;
    if (a->grad->d_k) rv__linear_pull(a, 1, l->y, n, l->fk, l->df, l->t, l->x);
    for (size_t r = 0; r < n; r++) {
        const size_t row = (j + r) * heads + kv;
        if (a->config->keep && !a->config->keep[j + r]) continue;
        if (a->grad->d_k)
            memcpy(a->grad->d_k + row * dim, l->x + r * a->broad, dim * sizeof(float));
        if (a->grad->d_v)
            memcpy(a->grad->d_v + row * dim_v, l->dv + r * a->wide, dim_v * sizeof(float));
    }
}

/* A chunk of the walk back: its keys receive from later queries, which are in the state, and from
   its own queries, which then are added to the state. */
static void rv__linear_chunk_back(const rv__linear *a, const rv__linear_lane *l, size_t kv,
                                  size_t i, size_t n, float *state)
{
    const size_t j = rv__linear_from(a, i), keys = rv__linear_from(a, i + n) - j;
    if (keys) {
        rv__linear_keys(a, l, kv, j, keys);
        a->kernels->attn_pack(l->fk, a->deep, keys, a->f, l->pack_key);
        a->kernels->attn_pack(l->v, a->wide, keys, a->io.dim_v, l->pack_v);
        memset(l->df, 0, keys * a->deep * sizeof(float));
        memset(l->dv, 0, keys * a->wide * sizeof(float));
        rv__linear_owe(a, l, state, keys);
    }
    for (size_t head = kv * a->group; head < (kv + 1) * a->group; head++) {
        rv__linear_late(a, l, head, i, n);
        if (keys) {
            rv__linear_visible(a, l, i, n, j, keys);
            rv__linear_scores(a, l, n, keys);
            rv__linear_turn(l->s, n, keys, l->t);
            rv__linear_mix(a, l->t, keys, l->g, n, l->dv, a->wide);
            rv__linear_cross(a, l->g, a->wide, n, l->pack_v, a->io.dim_v, l->s);
            for (size_t r = 0; r < n; r++) {
                for (size_t c = 0; c < keys; c++) {
                    float *s = l->s + r * RV__LINEAR_ROWS + c;
                    *s = (*s + l->last[r]) * l->e[r * RV__LINEAR_ROWS + c];
                }
            }
            rv__linear_turn(l->s, n, keys, l->t);
            rv__linear_mix(a, l->t, keys, l->fq, n, l->df, a->deep);
        }
        rv__linear_absorb(a, l, state, n, l->fq, l->g, l->last, l->down);
    }
    if (keys) rv__linear_give(a, l, kv, j, keys);
}

/* Each part but the last begins with the queries of the next one. */
static void rv__linear_late_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    rv__linear_lane l;
    rv__linear_lane_at(a, lane, &l);
    for (size_t unit = first; unit < last; unit++) {
        const size_t kv = unit / a->parts, part = unit % a->parts;
        size_t begin, end;
        if (part + 1 == a->parts) continue;
        rv__linear_part(a, part + 1, &begin, &end);
        begin += a->wave * a->step;
        if (end > begin && end - begin > a->step) end = begin + a->step;
        for (size_t i = begin; i < end; i += a->chunk) {
            const size_t n = end - i < a->chunk ? end - i : a->chunk;
            for (size_t head = kv * a->group; head < (kv + 1) * a->group; head++) {
                rv__linear_late(a, &l, head, i, n);
                rv__linear_absorb(a, &l, rv__linear_slot(a, kv, part), n, l.fq, l.g, l.last,
                                  l.down);
            }
        }
    }
}

static void rv__linear_join_back_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    (void)lane;
    for (size_t kv = first; kv < last; kv++) {
        for (size_t part = a->parts - 1; part > 0; part--)
            rv__linear_join(a, rv__linear_slot(a, kv, part - 1), rv__linear_slot(a, kv, part));
    }
}

static void rv__linear_back_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    rv__linear_lane l;
    rv__linear_lane_at(a, lane, &l);
    for (size_t unit = first; unit < last; unit++) {
        const size_t kv = unit / a->parts, part = unit % a->parts;
        size_t begin, end;
        rv__linear_part(a, part, &begin, &end);
        if (end - begin <= a->wave * a->step) continue;
        end -= a->wave * a->step;
        if (end - begin > a->step) begin = end - a->step;
        for (size_t i = end; i > begin;) {
            const size_t n = i - begin < a->chunk ? i - begin : a->chunk;
            i -= n;
            rv__linear_chunk_back(a, &l, kv, i, n, rv__linear_slot(a, kv, part));
        }
    }
}

/* Keys that all queries see. */
static void rv__linear_early_range(void *arg, size_t lane, size_t first, size_t last)
{
    const rv__linear *a = (const rv__linear *)arg;
    const size_t all = rv__linear_from(a, 0), blocks = (all + a->chunk - 1) / a->chunk;
    rv__linear_lane l;
    rv__linear_lane_at(a, lane, &l);
    for (size_t unit = first; unit < last; unit++) {
        const size_t kv = unit / blocks, j = unit % blocks * a->chunk;
        const size_t n = all - j < a->chunk ? all - j : a->chunk;
        rv__linear_keys(a, &l, kv, j, n);
        memset(l.df, 0, n * a->deep * sizeof(float));
        memset(l.dv, 0, n * a->wide * sizeof(float));
        rv__linear_owe(a, &l, rv__linear_slot(a, kv, 0), n);
        rv__linear_give(a, &l, kv, j, n);
    }
}

/* ---- the whole ---- */

/* Calls fn in waves until items of each unit, at most `items`, are done. */
static rv_status rv__linear_waves(rv_ctx *ctx, rv__linear *a, size_t units, size_t items,
                                  rv__range_fn fn)
{
    const size_t section = items ? 1 + (a->step - 1) / (items < a->step ? items : a->step) : 1;
    rv_status status = RV_OK;
    for (a->wave = 0; a->wave * a->step < items && !status; a->wave++)
        status = rv__parallel_for(ctx, units, 1, section, fn, a);
    return status;
}

static size_t rv__linear_longest(const rv__linear *a)
{
    size_t most = 0;
    for (size_t part = 0; part < a->parts; part++) {
        size_t begin, end;
        rv__linear_piece(a, part, &begin, &end);
        if (end > begin && end - begin > most) most = end - begin;
    }
    return most;
}

static void rv__linear_start(const rv__linear *a, const float *state)
{
    for (size_t kv = 0; kv < a->base.kv_heads; kv++) {
        for (size_t part = 0; part < a->parts; part++)
            rv__linear_clear(a, rv__linear_slot(a, kv, part));
        if (state)
            memcpy(rv__linear_slot(a, kv, 0), state + kv * a->state_floats,
                   a->state_floats * sizeof(float));
    }
}

static rv_status rv__linear_forward(rv_ctx *ctx, rv__linear *a)
{
    const size_t units = a->base.kv_heads * a->parts, n_q = a->io.n_q, n_k = a->io.n_k;
    rv_status status;
    rv__linear_start(a, a->config->state);
    status = rv__linear_waves(ctx, a, units, rv__linear_longest(a), rv__linear_sum_range);
    if (!status)
        status = rv__parallel_for(ctx, a->base.kv_heads, 1, 1, rv__linear_join_range, a);
    if (!status) status = rv__linear_waves(ctx, a, units, a->length, rv__linear_rows_range);
    if (a->grad || status) return status;
    if (a->io.weights)
        status = rv__linear_waves(ctx, a, a->base.heads * ((n_q + a->chunk - 1) / a->chunk), n_k,
                                  rv__linear_weights_range);
    if (!status && a->config->state_out)
        status = rv__linear_waves(ctx, a, a->base.kv_heads, n_k - rv__linear_from(a, n_q),
                                  rv__linear_rest_range);
    if (status) return status;
    if (a->config->vanished) {
        *a->config->vanished = 0;
        for (size_t i = 0; i < a->base.heads * n_q; i++) *a->config->vanished += a->gone[i];
    }
    for (size_t kv = 0; kv < a->base.kv_heads && a->config->state_out; kv++)
        memcpy(a->config->state_out + kv * a->state_floats,
               rv__linear_slot(a, kv, a->parts - 1), a->state_floats * sizeof(float));
    return RV_OK;
}

static rv_status rv__linear_backward(rv_ctx *ctx, rv__linear *a)
{
    const size_t kv_heads = a->base.kv_heads, units = kv_heads * a->parts;
    const size_t floats = rv__mul(a->io.n_k, kv_heads) * sizeof(float);
    const size_t early = (rv__linear_from(a, 0) + a->chunk - 1) / a->chunk;
    rv_status status = rv__linear_forward(ctx, a);
    if (status || (!a->grad->d_k && !a->grad->d_v)) return status;
    if (a->grad->d_k) status = rv__fill_polled(ctx, a->grad->d_k, 0, floats * a->io.dim);
    if (!status && a->grad->d_v)
        status = rv__fill_polled(ctx, a->grad->d_v, 0, floats * a->io.dim_v);
    if (status) return status;
    rv__linear_start(a, NULL);
    status = rv__linear_waves(ctx, a, units, a->parts > 1 ? a->length : 0, rv__linear_late_range);
    if (!status) status = rv__parallel_for(ctx, kv_heads, 1, 1, rv__linear_join_back_range, a);
    if (!status) status = rv__linear_waves(ctx, a, units, a->length, rv__linear_back_range);
    if (!status)
        status = rv__parallel_for(ctx, kv_heads * early, 1, a->step / a->chunk,
                                  rv__linear_early_range, a);
    return status;
}

/* How rows are dealt out. */
static void rv__linear_deal(rv__linear *a)
{
    const size_t most = a->io.n_q > a->io.n_k ? a->io.n_q : a->io.n_k;
    const double work = ((double)a->m * (double)a->broad + (double)a->deep *
                         (2.0 * (double)a->wide + 64.0)) * (double)(a->group + 1) + 2000.0;
    const double rows = RV__LINEAR_WORK / work / (a->grad ? 3.0 : 1.0);
    a->chunk = rows < 6.0 ? 6 : rows < (double)RV__LINEAR_ROWS ? (size_t)rows : RV__LINEAR_ROWS;
    if (a->chunk > most) a->chunk = most;
    a->step = rows < 1e6 ? (size_t)rows : 1000000u;
    a->step = a->step < a->chunk ? a->chunk : a->step - a->step % a->chunk;
    a->parts = (RV__LINEAR_PARTS + a->base.kv_heads - 1) / a->base.kv_heads;
    if (a->parts > most / RV__LINEAR_SHARE) a->parts = most / RV__LINEAR_SHARE;
    if (a->parts == 0) a->parts = 1;
    a->length = rv__round_up((a->io.n_q + a->parts - 1) / a->parts, a->chunk);
    rv__linear_layout(a);
}

/* W, from the caller or drawn, with padded rows; packed where there are rows enough. */
static rv_status rv__linear_weigh(rv_ctx *ctx, rv__linear *a)
{
    const size_t dim = a->io.dim;
    size_t left = 0;
    rv_status status = RV_OK;
    if (a->m == 0) return RV_OK;
    memset(a->w, 0, dim == a->broad ? 0 : a->m * a->broad * sizeof(float));
    if (!a->config->projection)
        status = rv__linear_fill(ctx, a->config, dim, a->m, a->w, a->broad);
    for (size_t i = 0; i < a->m && !status; i++) {
        status = rv__poll_by(ctx, &left, 2 * dim);
        if (a->config->projection)
            memcpy(a->w + i * a->broad, a->config->projection + i * dim, dim * sizeof(float));
        if (a->panels && !status && (i % RV__LINEAR_ROWS == RV__LINEAR_ROWS - 1 || i + 1 == a->m)) {
            const size_t first = i - i % RV__LINEAR_ROWS;
            a->kernels->attn_pack(a->w + first * a->broad, a->broad, i + 1 - first, dim,
                                  a->panels + first * dim);
        }
    }
    return status;
}

static rv_status rv__linear_run(rv_ctx *ctx, int map, const rv_attn_linear_config *config,
                                const rv_attn_io *io, const rv_attn_grad *grad)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t lanes = rv__lanes(ctx);
    size_t n_w, n_panels, n_states, n_rows, n_gone, n_scratch;
    rv__linear a;
    rv_status status = rv__linear_settle(ctx, map, config, io, grad, &a);
    if (status) return status;
    if (io->n_q == 0 && !config->state_out && !grad) return rv__ok(ctx);
    rv__linear_deal(&a);
    n_w = rv__mul(a.m, a.broad);
    n_panels = io->n_q * a.group + io->n_k < 8
                   ? 0 : rv__mul(rv__round_up(a.m, RV__LINEAR_ROWS), io->dim);
    n_states = rv__mul(a.base.kv_heads * a.parts, a.state_floats);
    n_rows = grad || io->weights ? rv__mul(rv__mul(a.base.heads, io->n_q), 3) : 0;
    n_gone = config->vanished && !grad ? rv__mul(a.base.heads, io->n_q) : 0;
    n_scratch = rv__mul(lanes, a.lane_floats);
    if (n_w) a.w = (float *)rv__get(&alloc, n_w, sizeof(float));
    if (n_w && n_panels) a.panels = (float *)rv__get(&alloc, n_panels, sizeof(float));
    a.states = (float *)rv__get(&alloc, n_states, sizeof(float));
    if (n_rows) a.inverse = (float *)rv__get(&alloc, n_rows, sizeof(float));
    if (n_gone) a.gone = (uint8_t *)rv__get(&alloc, n_gone, 1);
    a.scratch = (float *)rv__get(&alloc, n_scratch, sizeof(float));
    if ((n_w && !a.w) || (n_w && n_panels && !a.panels) || !a.states || (n_rows && !a.inverse) ||
        (n_gone && !a.gone) || !a.scratch) {
        status = rv__no_memory(ctx, rv__mul(rv__add(rv__add(n_w, n_panels),
                                                    rv__add(n_states, n_scratch)), sizeof(float)));
    } else {
        if (a.inverse) a.ref = a.inverse + n_rows / 3;
        if (a.inverse) a.last = a.ref + n_rows / 3;
        status = rv__linear_weigh(ctx, &a);
        if (!status) status = grad ? rv__linear_backward(ctx, &a) : rv__linear_forward(ctx, &a);
    }
    rv__put(&alloc, a.scratch, n_scratch, sizeof(float));
    rv__put(&alloc, a.gone, n_gone, 1);
    rv__put(&alloc, a.inverse, n_rows, sizeof(float));
    rv__put(&alloc, a.states, n_states, sizeof(float));
    rv__put(&alloc, a.panels, n_panels, sizeof(float));
    rv__put(&alloc, a.w, n_w, sizeof(float));
    return status ? status : rv__ok(ctx);
}

static rv_status rv__linear_run_back(rv_ctx *ctx, int map, const rv_attn_linear_config *config,
                                     const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv_attn_io inputs;
    if (!io || !grad) return rv__fail(ctx, RV_ERR_ARG, 0, "io and grad must not be NULL");
    inputs = *io;
    inputs.out = inputs.weights = inputs.lse = NULL;
    return rv__linear_run(ctx, map, config, &inputs, grad);
}

/* Sizes that are not yet checked; 0 for those without meaning. */
static size_t rv__linear_state_of(int map, const rv_attn_linear_config *config,
                                  const rv_attn_io *io)
{
    rv__linear a;
    size_t heads;
    if (!config || !io || io->dim == 0 || io->dim > 65535u) return 0;
    memset(&a, 0, sizeof a);
    a.map = map;
    a.config = config;
    a.io = *io;
    if (a.io.dim_v == 0) a.io.dim_v = io->dim;
    rv__linear_shape(&a);
    heads = config->base.kv_heads ? config->base.kv_heads : config->base.heads;
    return rv__mul(heads ? heads : 1, a.state_floats);
}

RV_API rv_status rv_attn_linear_elu(rv_ctx *ctx, const rv_attn_linear_config *config,
                                    const rv_attn_io *io)
{
    return rv__linear_run(ctx, RV__LINEAR_ELU, config, io, NULL);
}

RV_API rv_status rv_attn_linear_relu(rv_ctx *ctx, const rv_attn_linear_config *config,
                                     const rv_attn_io *io)
{
    return rv__linear_run(ctx, RV__LINEAR_RELU, config, io, NULL);
}

RV_API rv_status rv_attn_performer(rv_ctx *ctx, const rv_attn_linear_config *config,
                                   const rv_attn_io *io)
{
    return rv__linear_run(ctx, RV__LINEAR_EXP, config, io, NULL);
}

RV_API rv_status rv_attn_rff(rv_ctx *ctx, const rv_attn_linear_config *config,
                             const rv_attn_io *io)
{
    return rv__linear_run(ctx, RV__LINEAR_WAVE, config, io, NULL);
}

RV_API rv_status rv_attn_linear_elu_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                             const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__linear_run_back(ctx, RV__LINEAR_ELU, config, io, grad);
}

RV_API rv_status rv_attn_linear_relu_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                              const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__linear_run_back(ctx, RV__LINEAR_RELU, config, io, grad);
}

RV_API rv_status rv_attn_performer_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                            const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__linear_run_back(ctx, RV__LINEAR_EXP, config, io, grad);
}

RV_API rv_status rv_attn_rff_backward(rv_ctx *ctx, const rv_attn_linear_config *config,
                                      const rv_attn_io *io, const rv_attn_grad *grad)
{
    return rv__linear_run_back(ctx, RV__LINEAR_WAVE, config, io, grad);
}

RV_API size_t rv_attn_linear_elu_state(const rv_attn_linear_config *config, const rv_attn_io *io)
{
    return rv__linear_state_of(RV__LINEAR_ELU, config, io);
}

RV_API size_t rv_attn_linear_relu_state(const rv_attn_linear_config *config, const rv_attn_io *io)
{
    return rv__linear_state_of(RV__LINEAR_RELU, config, io);
}

RV_API size_t rv_attn_performer_state(const rv_attn_linear_config *config, const rv_attn_io *io)
{
    return rv__linear_state_of(RV__LINEAR_EXP, config, io);
}

RV_API size_t rv_attn_rff_state(const rv_attn_linear_config *config, const rv_attn_io *io)
{
    return rv__linear_state_of(RV__LINEAR_WAVE, config, io);
}

#undef RV__LINEAR_ROWS
#undef RV__LINEAR_WIDE
#undef RV__LINEAR_SHARE
#undef RV__LINEAR_PARTS
#undef RV__LINEAR_WORK
#undef RV__LINEAR_NONE

#endif /* RV_ATTN_LINEAR_RUN_C */
