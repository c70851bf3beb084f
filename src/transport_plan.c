#ifndef RV_TRANSPORT_PLAN_C
#define RV_TRANSPORT_PLAN_C
#include "transport.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "distance.c"
#include "transport.c"

/* Costs, Sinkhorn, exact plans.

   Sinkhorn in the log domain: with u = f / epsilon, v = g / epsilon and c = cost / epsilon

       v_j = -log sum_i a_i exp(u_i - c_ij)      columns hold
       u_i = -log sum_j b_j exp(v_j - c_ij)      rows hold

   from u = 0 on. What exponentials are taken of is at most 0 after the shift by the largest, and a
   double; the exponentials are floats. The costs are kept transposed besides, so that both halves
   walk along rows. The error of the columns before an update is known from the update: column j of
   the plan sums to b_j exp(v_j before - v_j after). The envelope theorem makes the plan the
   gradient by the costs and the potentials that by the weights.

   The exact plan: successive shortest paths. Each point i of x sends its mass along the cheapest
   way to a point of y that still wants some, where a way may take back what others send (Dijkstra
   over n + m points, with potentials that keep reduced costs at 0 or more). Masses are integers, so
   that every step ends a mass and the sums hold exactly. */

#define RV__TRANSPORT_CHUNK 256u
#define RV__TRANSPORT_NEVER -1e30              /* log of a weight of 0                          */
#define RV__TRANSPORT_UNITS 4503599627370496.0 /* 2^52 of mass in all                           */

/* ---- costs ---- */

RV_API rv_status rv_transport_costs(rv_ctx *ctx, float p, size_t dim, const rv_cloud *x,
                                    const rv_cloud *y, float *cost)
{
    const rv__kernels *kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    size_t left = 0, from, to;
    rv_status status;
    p = rv__default(p, 2.0f);
    status = rv__transport_check_p(ctx, p);
    if (!status) status = rv__transport_check_cloud(ctx, "x", x, dim);
    if (!status) status = rv__transport_check_cloud(ctx, "y", y, dim);
    if (status) return status;
    if (!cost) return rv__fail(ctx, RV_ERR_ARG, 0, "cost is NULL");
    from = x->stride ? x->stride : dim;
    to = y->stride ? y->stride : dim;
    for (size_t i = 0; i < x->n; i++) {
        for (size_t j = 0; j < y->n; j += 1024) {
            const size_t some = y->n - j < 1024 ? y->n - j : 1024;
            float *row = cost + i * y->n + j;
            status = rv__poll_by(ctx, &left, some * (dim + 8));
            if (status) return status;
            kernels->scan[RV_METRIC_L2][RV_DTYPE_F32](
                x->points + i * from, (const unsigned char *)(y->points + j * to),
                to * sizeof(float), NULL, some, dim, row);
            for (size_t t = 0; t < some && p != 2.0f; t++) {
                double slope;
                row[t] = (float)rv__transport_power(sqrt((double)row[t]), (double)p, &slope);
            }
        }
    }
    return rv__ok(ctx);
}

/* ---- Sinkhorn ---- */

/* One half of an iteration; rows of one side, potentials of the other. */
typedef struct rv__sinkhorn_half {
    const rv__kernels *kernels;
    const float *cost; /* [n, m] */
    const double *log_weight, *v; /* [m] */
    double *u;         /* [n] */
    double share;      /* 1 / epsilon */
    size_t n, m;
} rv__sinkhorn_half;

/* out[t] = log weight + v - c of the columns from j on; the largest. */
static double rv__sinkhorn_terms(const rv__sinkhorn_half *h, size_t i, size_t j, size_t n,
                                 double *out)
{
    const float *cost = h->cost + i * h->m + j;
    double top = -1e300;
    for (size_t t = 0; t < n; t++) {
        out[t] = h->log_weight[j + t] + h->v[j + t] - (double)cost[t] * h->share;
        top = out[t] > top ? out[t] : top;
    }
    return top;
}

static void rv__sinkhorn_range(void *arg, size_t lane, size_t begin, size_t end)
{
    const rv__sinkhorn_half *h = (const rv__sinkhorn_half *)arg;
    double term[RV__TRANSPORT_CHUNK];
    float power[RV__TRANSPORT_CHUNK];
    (void)lane;
    for (size_t i = begin; i < end; i++) {
        double top = -1e300, sum = 0.0;
        for (size_t j = 0; j < h->m; j += RV__TRANSPORT_CHUNK) {
            const size_t n = h->m - j < RV__TRANSPORT_CHUNK ? h->m - j : RV__TRANSPORT_CHUNK;
            const double here = rv__sinkhorn_terms(h, i, j, n, term);
            double part = 0.0;
            if (here > top) {
                sum = sum > 0.0 ? sum * rv__exp(top - here) : 0.0;
                top = here;
            }
            for (size_t t = 0; t < n; t++) {
                const double x = term[t] - top;
                power[t] = x > -100.0 ? (float)x : -100.0f;
            }
            h->kernels->exp_f32(power, power, n);
            for (size_t t = 0; t < n; t++) part += (double)power[t];
            sum += part;
        }
        h->u[i] = -(top + rv__log(sum));
    }
}

/* A problem, settled: log weights, potentials by epsilon. */
typedef struct rv__sinkhorn {
    const rv__kernels *kernels;
    const float *cost; /* [n, m] */
    float *turned;     /* [m, n] */
    double *log_a, *log_b, *u, *v, *old;
    double share, tolerance;
    size_t n, m, iterations;
    double *history;   /* [iterations][n + m] of u and v, or NULL */
    double error;      /* out */
    size_t done;       /* out */
} rv__sinkhorn;

static rv_status rv__sinkhorn_update(rv_ctx *ctx, const rv__sinkhorn *s, int columns)
{
    rv__sinkhorn_half h;
    size_t work;
    h.kernels = s->kernels;
    h.cost = columns ? s->turned : s->cost;
    h.log_weight = columns ? s->log_a : s->log_b;
    h.v = columns ? s->u : s->v;
    h.u = columns ? s->v : s->u;
    h.n = columns ? s->m : s->n;
    h.m = columns ? s->n : s->m;
    h.share = s->share;
    work = 1 + 500000u / h.m;
    return rv__parallel_for(ctx, h.n, 1 + 20000u / h.m, work, rv__sinkhorn_range, &h);
}

/* sum of |columns - b| of the plan that `old` belongs to. */
static double rv__sinkhorn_error(const rv__sinkhorn *s)
{
    double sum = 0.0;
    for (size_t j = 0; j < s->m; j++) {
        double gap = s->old[j] - s->v[j];
        if (s->log_b[j] > 0.5 * RV__TRANSPORT_NEVER)
            sum += rv__exp(s->log_b[j]) * fabs(rv__expm1(gap < 700.0 ? gap : 700.0));
    }
    return sum;
}

RV__FN rv_status rv__sinkhorn_run(rv_ctx *ctx, rv__sinkhorn *s)
{
    rv_status status = RV_OK;
    size_t left = 0;
    for (size_t i = 0; i < s->n && !status; i++) {
        status = rv__poll_by(ctx, &left, s->m);
        for (size_t j = 0; j < s->m; j++) s->turned[j * s->n + i] = s->cost[i * s->m + j];
        s->u[i] = 0.0;
    }
    for (s->done = 0; !status; s->done++) {
        if (s->done) memcpy(s->old, s->v, s->m * sizeof(double));
        status = rv__sinkhorn_update(ctx, s, 1);
        if (status) break;
        if (s->done) {
            s->error = rv__sinkhorn_error(s);
            if (s->error <= s->tolerance || s->done == s->iterations) {
                memcpy(s->v, s->old, s->m * sizeof(double)); /* rows hold for these */
                break;
            }
        }
        status = rv__sinkhorn_update(ctx, s, 0);
        if (s->history && !status) {
            double *at = s->history + s->done * (s->n + s->m);
            memcpy(at, s->u, s->n * sizeof(double));
            memcpy(at + s->n, s->v, s->m * sizeof(double));
        }
    }
    return status;
}

RV__FN void rv__sinkhorn_logs(const float *weights, double sum, size_t n, double *out)
{
    const double whole = rv__log(sum);
    for (size_t i = 0; i < n; i++) {
        const double w = weights ? (double)weights[i] : 1.0;
        out[i] = w > 0.0 ? rv__log(w) - whole : RV__TRANSPORT_NEVER;
    }
}

/* plan, *cost and *value; row by row. */
static rv_status rv__sinkhorn_plan(rv_ctx *ctx, const rv__sinkhorn *s, float *plan, double *cost,
                                   double *value)
{
    size_t left = 0;
    *cost = *value = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const double base = s->log_a[i] + s->u[i];
        double row = 0.0;
        rv_status status = rv__poll_by(ctx, &left, 30 * s->m);
        if (status) return status;
        for (size_t j = 0; j < s->m; j++) {
            const double c = (double)s->cost[i * s->m + j];
            const double mass = rv__exp(base + s->log_b[j] + s->v[j] - c * s->share);
            row += mass * c;
            if (plan) plan[i * s->m + j] = (float)mass;
        }
        *cost += row;
        if (s->log_a[i] > 0.5 * RV__TRANSPORT_NEVER) *value += rv__exp(s->log_a[i]) * s->u[i];
    }
    for (size_t j = 0; j < s->m; j++)
        if (s->log_b[j] > 0.5 * RV__TRANSPORT_NEVER) *value += rv__exp(s->log_b[j]) * s->v[j];
    *value /= s->share;
    return RV_OK;
}

static rv_status rv__transport_check_io(rv_ctx *ctx, const rv_transport_io *io,
                                        const rv_transport_result *result, double *a, double *b)
{
    size_t left = 0;
    rv_status status;
    if (!io || !result || !io->cost) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "io, result or cost is NULL");
    }
    if (io->n < 1 || io->m < 1 || io->n > 0x7FFFFFFFu || io->m > 0x7FFFFFFFu)
        return rv__fail(ctx, RV_ERR_ARG, 0, "n and m are %z and %z, allowed: 1 to 2^31 - 1", io->n,
                        io->m);
    if (rv__mul(rv__mul(io->n, io->m), 8) == SIZE_MAX)
        return rv__fail(ctx, RV_ERR_MEMORY, 0, "%z times %z costs; that is no size", io->n, io->m);
    for (size_t i = 0; i < io->n; i++) {
        size_t bad;
        status = rv__poll_by(ctx, &left, io->m);
        if (status) return status;
        bad = rv__find_not_finite(io->cost + i * io->m, io->m);
        if (bad < io->m)
            return rv__fail(ctx, RV_ERR_ARG, i * io->m + bad, "cost[%z] is not finite",
                            i * io->m + bad);
    }
    status = rv__transport_check_weights(ctx, "a", io->a, io->n, a);
    return status ? status : rv__transport_check_weights(ctx, "b", io->b, io->m, b);
}

static rv_status rv__sinkhorn_check(rv_ctx *ctx, const rv_sinkhorn_config *config,
                                    const rv_transport_io *io, rv__sinkhorn *s)
{
    float epsilon = 0.1f, tolerance = 1e-6f, low = io->cost[0], high = low;
    size_t left = RV__WORK;
    s->iterations = 1000;
    if (config && rv__given(config->epsilon)) epsilon = config->epsilon;
    if (config && rv__given(config->tolerance)) tolerance = config->tolerance;
    if (config && config->iterations) s->iterations = config->iterations;
    if (!rv__finite_f32(epsilon) || epsilon < 1e-30f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "epsilon is %f; it must be finite and above 0",
                        (double)epsilon);
    if (!rv__finite_f32(tolerance) || tolerance < 0.0f)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "tolerance is %f; it must be finite and above 0",
                        (double)tolerance);
    if (s->iterations > 1000000u)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "iterations is %z, allowed: 1 to 1000000",
                        s->iterations);
    for (size_t i = 0; i < io->n; i++) {
        const float *row = io->cost + i * io->m;
        rv_status status = rv__poll_by(ctx, &left, 2 * io->m);
        if (status) return status;
        for (size_t j = 0; j < io->m; j++) {
            low = row[j] < low ? row[j] : low;
            high = row[j] > high ? row[j] : high;
        }
    }
    if ((double)high - (double)low > 1e9 * (double)epsilon)
        return rv__fail(ctx, RV_ERR_CONFIG, 0,
                        "epsilon is %f, the costs span %f; that by epsilon must be at most 1e9",
                        (double)epsilon, (double)high - (double)low);
    s->share = 1.0 / (double)epsilon;
    s->tolerance = (double)tolerance;
    return RV_OK;
}

static rv_status rv__sinkhorn_write(rv_ctx *ctx, const rv__sinkhorn *s, const rv_transport_io *io,
                                    rv_transport_result *result)
{
    rv_transport_result r;
    rv_status status;
    memset(&r, 0, sizeof r);
    r.error = s->error;
    r.iterations = s->done;
    status = rv__sinkhorn_plan(ctx, s, io->plan, &r.cost, &r.value);
    if (status) return status;
    for (size_t i = 0; io->f && i < s->n; i++) io->f[i] = (float)(s->u[i] / s->share);
    for (size_t j = 0; io->g && j < s->m; j++) io->g[j] = (float)(s->v[j] / s->share);
    *result = r;
    return RV_OK;
}

RV_API rv_status rv_transport_sinkhorn(rv_ctx *ctx, const rv_sinkhorn_config *config,
                                       const rv_transport_io *io, rv_transport_result *result)
{
    const rv_alloc alloc = rv__allocator(ctx);
    double a, b, *at;
    size_t doubles;
    rv__sinkhorn s;
    rv_status status;
    memset(&s, 0, sizeof s);
    status = rv__transport_check_io(ctx, io, result, &a, &b);
    if (!status) status = rv__sinkhorn_check(ctx, config, io, &s);
    if (status) return status;
    s.kernels = rv__kernels_for(ctx ? ctx->isa : RV_ISA_BEST);
    s.n = io->n;
    s.m = io->m;
    s.cost = io->cost;
    doubles = 2 * s.n + 3 * s.m;
    at = (double *)rv__get(&alloc, doubles, sizeof(double));
    s.turned = (float *)rv__get(&alloc, s.n * s.m, sizeof(float));
    if (!at || !s.turned) {
        status = rv__no_memory(ctx, rv__add(s.n * s.m * sizeof(float), doubles * sizeof(double)));
    } else {
        s.log_a = at;
        s.u = s.log_a + s.n;
        s.log_b = s.u + s.n;
        s.v = s.log_b + s.m;
        s.old = s.v + s.m;
        rv__sinkhorn_logs(io->a, a, s.n, s.log_a);
        rv__sinkhorn_logs(io->b, b, s.m, s.log_b);
        status = rv__sinkhorn_run(ctx, &s);
        if (!status) status = rv__sinkhorn_write(ctx, &s, io, result);
    }
    rv__put(&alloc, s.turned, s.n * s.m, sizeof(float));
    rv__put(&alloc, at, doubles, sizeof(double));
    return status ? status : rv__ok(ctx);
}

/* ---- exact ---- */

typedef struct rv__exact {
    const float *cost;
    int64_t *flow;          /* [n, m] */
    int64_t *supply, *want; /* [n], [m] */
    double *u, *v;          /* potentials: u_i + v_j <= cost */
    double *row, *column;   /* lengths of the ways found; -1 in row: not reached */
    uint32_t *back_row;     /* [n] the column a row was reached from */
    uint32_t *back_column;  /* [m] the row a column was reached from */
    uint8_t *settled;       /* [m] */
    size_t n, m, left;
} rv__exact;

/* Integers in proportion to weights, RV__TRANSPORT_UNITS together. */
static void rv__exact_units(const float *weights, double sum, size_t n, int64_t *units)
{
    int64_t rest = (int64_t)RV__TRANSPORT_UNITS;
    size_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double w = (weights ? (double)weights[i] : 1.0) / sum;
        units[i] = (int64_t)(w * RV__TRANSPORT_UNITS + 0.5);
        rest -= units[i];
        if (units[i] > units[largest]) largest = i;
    }
    units[largest] += rest;
}

/* Columns reached from a row. */
static rv_status rv__exact_reach(rv_ctx *ctx, rv__exact *e, size_t row, double length)
{
    const float *cost = e->cost + row * e->m;
    e->row[row] = length;
    for (size_t j = 0; j < e->m; j++) {
        double over = (double)cost[j] - e->u[row] - e->v[j];
        if (over < 0.0) over = 0.0; /* rounding */
        if (!e->settled[j] && length + over < e->column[j]) {
            e->column[j] = length + over;
            e->back_column[j] = (uint32_t)row;
        }
    }
    return rv__poll_by(ctx, &e->left, 2 * e->m);
}

/* Shortest ways from row start on, until a column that wants mass is settled: *target. */
static rv_status rv__exact_search(rv_ctx *ctx, rv__exact *e, size_t start, size_t *target)
{
    rv_status status;
    for (size_t i = 0; i < e->n; i++) e->row[i] = -1.0;
    for (size_t j = 0; j < e->m; j++) {
        e->column[j] = 1e300;
        e->settled[j] = 0;
    }
    status = rv__exact_reach(ctx, e, start, 0.0);
    while (!status) {
        size_t next = e->m;
        for (size_t j = 0; j < e->m; j++)
            if (!e->settled[j] && (next == e->m || e->column[j] < e->column[next])) next = j;
        e->settled[next] = 1;
        *target = next;
        if (e->want[next] > 0) break;
        status = rv__poll_by(ctx, &e->left, 2 * e->m + 8 * e->n);
        for (size_t i = 0; i < e->n && !status; i++) {
            if (e->flow[i * e->m + next] <= 0 || e->row[i] >= 0.0) continue;
            e->back_row[i] = (uint32_t)next;
            status = rv__exact_reach(ctx, e, i, e->column[next]);
        }
    }
    return status;
}

static void rv__exact_augment(rv__exact *e, size_t start, size_t target)
{
    const double length = e->column[target];
    int64_t moved = e->supply[start] < e->want[target] ? e->supply[start] : e->want[target];
    for (size_t i = 0; i < e->n; i++)
        if (e->row[i] >= 0.0) e->u[i] += length - e->row[i];
    for (size_t j = 0; j < e->m; j++)
        if (e->settled[j]) e->v[j] -= length - e->column[j];
    for (size_t j = target, i;; j = e->back_row[i]) { /* what can be taken back */
        i = e->back_column[j];
        if (i == start) break;
        if (e->flow[i * e->m + e->back_row[i]] < moved)
            moved = e->flow[i * e->m + e->back_row[i]];
    }
    for (size_t j = target, i;; j = e->back_row[i]) {
        i = e->back_column[j];
        e->flow[i * e->m + j] += moved;
        if (i == start) break;
        e->flow[i * e->m + e->back_row[i]] -= moved;
    }
    e->supply[start] -= moved;
    e->want[target] -= moved;
}

static rv_status rv__exact_run(rv_ctx *ctx, rv__exact *e)
{
    memset(e->v, 0, e->m * sizeof(double));
    for (size_t i = 0; i < e->n; i++) {
        float low = e->cost[i * e->m];
        rv_status status = rv__poll_by(ctx, &e->left, 2 * e->m);
        if (status) return status;
        for (size_t j = 1; j < e->m; j++)
            low = e->cost[i * e->m + j] < low ? e->cost[i * e->m + j] : low;
        e->u[i] = (double)low;
        for (size_t j = 0; j < e->m; j++) e->flow[i * e->m + j] = 0;
    }
    for (size_t i = 0; i < e->n; i++) {
        while (e->supply[i] > 0) {
            size_t target = 0; /* set by each search; gcc -O1 cannot see it */
            rv_status status = rv__exact_search(ctx, e, i, &target);
            if (status) return status;
            rv__exact_augment(e, i, target);
        }
    }
    return RV_OK;
}

static void rv__exact_write(const rv__exact *e, const rv_transport_io *io,
                            rv_transport_result *result)
{
    memset(result, 0, sizeof *result);
    for (size_t i = 0; i < e->n; i++) {
        double row = 0.0;
        for (size_t j = 0; j < e->m; j++) {
            const double mass = (double)e->flow[i * e->m + j] / RV__TRANSPORT_UNITS;
            row += mass * (double)e->cost[i * e->m + j];
            if (io->plan) io->plan[i * e->m + j] = (float)mass;
        }
        result->cost += row;
        if (io->f) io->f[i] = (float)e->u[i];
    }
    for (size_t j = 0; io->g && j < e->m; j++) io->g[j] = (float)e->v[j];
    result->value = result->cost;
}

RV_API rv_status rv_transport_exact(rv_ctx *ctx, const rv_transport_io *io,
                                    rv_transport_result *result)
{
    const rv_alloc alloc = rv__allocator(ctx);
    size_t eights, fours;
    double a, b, *numbers = NULL;
    int64_t *masses = NULL;
    uint32_t *backs = NULL;
    rv__exact e;
    rv_status status = rv__transport_check_io(ctx, io, result, &a, &b);
    if (status) return status;
    memset(&e, 0, sizeof e);
    e.n = io->n;
    e.m = io->m;
    e.cost = io->cost;
    eights = e.n * e.m + e.n + e.m;
    fours = e.n + e.m + (e.m + 3) / 4;
    masses = (int64_t *)rv__get(&alloc, eights, sizeof(int64_t));
    numbers = (double *)rv__get(&alloc, 2 * (e.n + e.m), sizeof(double));
    backs = (uint32_t *)rv__get(&alloc, fours, sizeof(uint32_t));
    if (!masses || !numbers || !backs) {
        status = rv__no_memory(ctx, rv__mul(eights, sizeof(int64_t)));
    } else {
        e.flow = masses;
        e.supply = e.flow + e.n * e.m;
        e.want = e.supply + e.n;
        e.u = numbers;
        e.v = e.u + e.n;
        e.row = e.v + e.m;
        e.column = e.row + e.n;
        e.back_row = backs;
        e.back_column = e.back_row + e.n;
        e.settled = (uint8_t *)(e.back_column + e.m);
        rv__exact_units(io->a, a, e.n, e.supply);
        rv__exact_units(io->b, b, e.m, e.want);
        status = rv__exact_run(ctx, &e);
        if (!status) rv__exact_write(&e, io, result);
    }
    rv__put(&alloc, backs, fours, sizeof(uint32_t));
    rv__put(&alloc, numbers, 2 * (e.n + e.m), sizeof(double));
    rv__put(&alloc, masses, eights, sizeof(int64_t));
    return status ? status : rv__ok(ctx);
}

#undef RV__TRANSPORT_CHUNK
#undef RV__TRANSPORT_NEVER
#undef RV__TRANSPORT_UNITS

#endif /* RV_TRANSPORT_PLAN_C */
