/* Attention along the edges of a graph: logits of a row's entries, and sums of gathered rows.
   Weights lie as [entries][ld], heads side by side. */

/* n of LANES elements, n may exceed them. */
RV__ISA RV__INLINE rv__v RV__F(gnn_load)(const float *p, size_t n)
{
    return n >= RV__LANES ? rv__vload(p) : rv__vload_tail(p, n);
}

/* out += v, n lanes; not by a masked store, which costs some processors ten times a store. */
RV__ISA RV__INLINE void RV__F(gnn_add)(float *out, rv__v v, size_t n)
{
    float lanes[RV__LANES];
    if (n >= RV__LANES) {
        rv__vstore(out, rv__vadd(rv__vload(out), v));
        return;
    }
    rv__vstore(lanes, v);
    for (size_t i = 0; i < n; i++) out[i] += lanes[i];
}

RV__ISA RV__INLINE rv__v RV__F(gnn_leaky)(rv__v x, rv__v slope)
{
    return rv__vpick(rv__vless(x, rv__vzero()), rv__vmul(x, slope), x);
}

/* s[e][h] = sum over c of a[h][c] leaky(l[ids[e]][h][c] + r[h][c] + edge[eids[e]][h][c]); rows of
   heads * dim; edge may be NULL. */
RV__ISA static void RV__F(gnn_score)(const float *l, const uint32_t *ids, size_t n, const float *r,
                                     const float *a, float slope, size_t heads, size_t dim,
                                     const float *edge, const uint32_t *eids, float *s, size_t ld)
{
    const rv__v low = rv__vset(slope);
    for (size_t e = 0; e < n; e++) {
        const float *from = l + ids[e] * heads * dim;
        const float *along = edge ? edge + eids[e] * heads * dim : NULL;
        for (size_t h = 0; h < heads; h++) {
            rv__v sum = rv__vzero();
            for (size_t c = h * dim; c < (h + 1) * dim; c += RV__LANES) {
                const size_t left = (h + 1) * dim - c;
                rv__v x = rv__vadd(RV__F(gnn_load)(from + c, left), RV__F(gnn_load)(r + c, left));
                if (along) x = rv__vadd(x, RV__F(gnn_load)(along + c, left));
                sum = rv__vfma(RV__F(gnn_load)(a + c, left), RV__F(gnn_leaky)(x, low), sum);
            }
            s[e * ld + h] = rv__vsum(sum);
        }
    }
}

/* Columns at .. at + left - 1 of the sum, left <= LANES: of head `a`, from lane `dim` on of `b`. */
typedef struct {
    size_t a, b, at, left;
} RV__F(piece);

RV__ISA RV__INLINE rv__v RV__F(gnn_term)(int kind, const float *w, const float *row,
                                         const RV__F(piece) * p, rv__v lanes, rv__v dim, rv__v sum)
{
    rv__v x = rv__vset(w[p->a]);
    if (kind == RV__GNN_PAIR) x = rv__vpick(rv__vless(lanes, dim), x, rv__vset(w[p->b]));
    return rv__vfma(x, kind == RV__GNN_PART ? RV__F(gnn_load)(row + p->at, p->left)
                                               : rv__vload(row + p->at), sum);
}

/* Two or four pieces over all entries: one walk for several sums, which wait less for each
   other. */
RV__ISA RV__INLINE void RV__F(gnn_walk)(int kind, int four, const float *w, size_t ld,
                                        const uint32_t *ids, size_t n, const float *v, size_t width,
                                        size_t dim, const RV__F(piece) * p, size_t used, float *out)
{
    const RV__F(piece) p0 = p[0], p1 = p[1], p2 = p[2], p3 = p[3];
    const rv__v size = rv__vset((float)dim), lanes = rv__vload(rv__lane_numbers);
    rv__v a = rv__vzero(), b = a, c = a, d = a;
    for (size_t e = 0; e < n; e++, w += ld) {
        const float *row = v + ids[e] * width;
        a = RV__F(gnn_term)(kind, w, row, &p0, lanes, size, a);
        b = RV__F(gnn_term)(kind, w, row, &p1, lanes, size, b);
        if (four) c = RV__F(gnn_term)(kind, w, row, &p2, lanes, size, c);
        if (four) d = RV__F(gnn_term)(kind, w, row, &p3, lanes, size, d);
    }
    RV__F(gnn_add)(out + p0.at, a, p0.left);
    if (used > 1) RV__F(gnn_add)(out + p1.at, b, p1.left);
    if (used > 2) RV__F(gnn_add)(out + p2.at, c, p2.left);
    if (used > 3) RV__F(gnn_add)(out + p3.at, d, p3.left);
}

RV__ISA RV__INLINE void RV__F(gnn_mix_as)(int kind, const float *w, size_t ld, const uint32_t *ids,
                                          size_t n, const float *v, size_t heads, size_t dim,
                                          float *out)
{
    const size_t width = heads * dim, step = kind == RV__GNN_PAIR ? 2 : 1, span = step * dim;
    size_t head = 0, at = 0, end = span; /* end: of the head, or of the two */
    while (at < width) {
        RV__F(piece) p[4];
        size_t used = 0;
        do {
            RV__F(piece) *next = p + used++;
            next->a = head;
            next->b = head + step - 1;
            next->at = at;
            next->left = end - at < RV__LANES ? end - at : RV__LANES;
            at += next->left;
            if (at < end) continue;
            head += step;
            end += span;
        } while (used < 4 && at < width);
        for (size_t i = used; i < 4; i++) p[i] = p[0];
        if (used > 2) RV__F(gnn_walk)(kind, 1, w, ld, ids, n, v, width, dim, p, used, out);
        else RV__F(gnn_walk)(kind, 0, w, ld, ids, n, v, width, dim, p, used, out);
    }
}

/* out[h][c] += sum over e of w[e][h] v[ids[e]][h][c]; rows of heads * dim. */
RV__ISA static void RV__F(gnn_mix)(const float *w, size_t ld, const uint32_t *ids, size_t n,
                                   const float *v, size_t heads, size_t dim, float *out)
{
    if (RV__LANES > 1 && 2 * dim == RV__LANES && heads % 2 == 0)
        RV__F(gnn_mix_as)(RV__GNN_PAIR, w, ld, ids, n, v, heads, dim, out);
    else if (dim % RV__LANES == 0)
        RV__F(gnn_mix_as)(RV__GNN_WHOLE, w, ld, ids, n, v, heads, dim, out);
    else RV__F(gnn_mix_as)(RV__GNN_PART, w, ld, ids, n, v, heads, dim, out);
}
