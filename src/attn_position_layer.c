#ifndef RV_ATTN_POSITION_LAYER_C
#define RV_ATTN_POSITION_LAYER_C
#include "attn_position.h"
#include "base.c"
#include "simd.c"
#include "mathx.c"
#include "attn.c"
#include "attn_position.c"

/* Biases by the layers of an index. The gated form is attention twice, each time with the other
   branch's keys at -infinity; its backward hands each branch its share of the slope by out. */

/* ---- hnsw_layer ---- */

static size_t rv__layer_count(const rv_attn_layer_config *config)
{
    return config && config->layers ? config->layers : 16;
}

RV_API size_t rv_attn_layer_params(const rv_attn_layer_config *config, const rv_attn_io *io)
{
    const size_t layers = rv__layer_count(config);
    const size_t heads = config ? rv__position_heads(&config->base) : 1;
    const size_t gate = config && config->gated && io ? io->dim + 1 : 0;
    return rv__mul(heads, rv__mul(layers, layers) + gate);
}

RV_API rv_status rv_attn_layer_init(rv_ctx *ctx, const rv_attn_layer_config *config,
                                    const rv_attn_io *io, float *params)
{
    const size_t layers = rv__layer_count(config), count = rv_attn_layer_params(config, io);
    const size_t heads = config ? rv__position_heads(&config->base) : 1;
    const size_t table = heads * layers * layers;
    rv__rng rng;
    if (!params) return rv__fail(ctx, RV_ERR_ARG, 0, "params is NULL");
    rv__rng_init(&rng, rv__seed(ctx));
    rv__position_xavier(&rng, layers, layers, params, table);
    if (count > table) {
        rv__position_xavier(&rng, io->dim, 1, params + table, heads * io->dim);
        memset(params + table + heads * io->dim, 0, heads * sizeof(float));
    }
    return rv__ok(ctx);
}

static void rv__layer_bias(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                           float *b)
{
    const size_t own = p->q_layer[i];
    const float *row = p->table ? p->table + (head * p->layers + own) * p->layers : NULL;
    for (size_t x = 0; x < n; x++) {
        const size_t layer = p->k_layer[j + x];
        b[x] = row ? row[layer] : 0.0f;
        if (p->branch == (layer == 0 ? 2 : 1)) b[x] = -rv__infinity();
    }
}

static void rv__layer_gather(const rv__position *p, size_t head, size_t i, size_t j, size_t n,
                             const float *ds, double *part)
{
    double *row = part + (head * p->layers + p->q_layer[i]) * p->layers;
    for (size_t x = 0; x < n; x++) row[p->k_layer[j + x]] += (double)ds[x];
}

static rv_status rv__layer_check(rv_ctx *ctx, const rv_attn_layer_config *c, const rv_attn_io *io,
                                 size_t layers)
{
    if (layers > 256)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "layers is %z, allowed: 1..256", layers);
    if ((!c->q_layer && io->n_q) || !c->k_layer)
        return rv__fail(ctx, RV_ERR_ARG, 0, "q_layer or k_layer is NULL");
    for (size_t i = 0; i < io->n_q; i++)
        if (c->q_layer[i] >= layers)
            return rv__fail(ctx, RV_ERR_ARG, i, "q_layer[%z] is %z; it must be below layers (%z)",
                            i, (size_t)c->q_layer[i], layers);
    for (size_t j = 0; j < io->n_k; j++)
        if (c->k_layer[j] >= layers)
            return rv__fail(ctx, RV_ERR_ARG, j, "k_layer[%z] is %z; it must be below layers (%z)",
                            j, (size_t)c->k_layer[j], layers);
    if (c->gated && c->base.sinks)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "sinks have no meaning for gated branches");
    if (c->gated && c->base.raw)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "raw has no meaning for gated branches");
    if (c->gated && io->lse)
        return rv__fail(ctx, RV_ERR_CONFIG, 0, "lse has no meaning for gated branches");
    return RV_OK;
}

/* The two branches: what they give, and how they are joined. */
typedef struct rv__layer_two {
    size_t heads, rows, n_out, n_w;  /* rows: heads * n_q                                         */
    float *out[2];                   /* [n_q, heads * dim_v]; backward: slopes by them            */
    float *lse[2];                   /* [heads, n_q]                                              */
    float *weights;                  /* [heads, n_q, n_k] of the upper branch, or NULL            */
    float *gate;                     /* [heads, n_q]                                              */
} rv__layer_two;

/* g of each row; 0 or 1 where a branch is empty. */
static void rv__layer_gates(const rv__position *p, const float *params, const rv__layer_two *two)
{
    const size_t dim = p->a.io.dim, n_q = p->a.io.n_q;
    const float *u = params ? params + two->heads * p->layers * p->layers : NULL;
    for (size_t row = 0; row < two->rows; row++) {
        const size_t h = row / n_q;
        double z = 0.0;
        if (u)
            z = (double)p->a.kernels->dot_f32(u + h * dim, rv__position_query(p, h, row % n_q),
                                              dim) + (double)u[two->heads * dim + h];
        two->gate[row] = (float)(1.0 / (1.0 + rv__exp(-z)));
        if (two->lse[1][row] < -3.4e38f) two->gate[row] = 1.0f;
        else if (two->lse[0][row] < -3.4e38f) two->gate[row] = 0.0f;
    }
}

static rv_status rv__layer_branches(rv_ctx *ctx, rv__position *p, const rv_attn_io *io,
                                    const float *params, const rv__layer_two *two, float *weights)
{
    rv_attn_io with = *io;
    rv_status status = RV_OK;
    with.out_stride = 0;
    for (int b = 0; b < 2 && !status; b++) {
        p->branch = b + 1;
        with.out = two->out[b];
        with.lse = two->lse[b];
        with.weights = b ? two->weights : weights;
        status = rv__position_run(ctx, p, &with, NULL);
    }
    if (!status) rv__layer_gates(p, params, two);
    return status;
}

static rv_status rv__layer_mix(rv_ctx *ctx, rv__position *p, const rv_attn_io *io,
                               const float *params, const rv__layer_two *two)
{
    const size_t dim_v = p->a.io.dim_v, n_k = io->n_k;
    rv_status status = rv__layer_branches(ctx, p, io, params, two, io->weights);
    if (status) return status;
    for (size_t row = 0; row < two->rows; row++) {
        const size_t h = row / io->n_q, i = row % io->n_q, at = (i * two->heads + h) * dim_v;
        const float g = two->gate[row];
        float *out = io->out + i * p->a.io.out_stride + h * dim_v;
        for (size_t x = 0; x < dim_v; x++)
            out[x] = g * two->out[0][at + x] + (1.0f - g) * two->out[1][at + x];
        for (size_t x = row * n_k; io->weights && x < (row + 1) * n_k; x++)
            io->weights[x] = g * io->weights[x] + (1.0f - g) * two->weights[x];
    }
    return RV_OK;
}

/* Turns outputs into slopes by them, and gives q and the gate their part of the slope by g. */
static void rv__layer_split(const rv__position *p, const rv_attn_grad *grad, const float *params,
                            const rv__layer_two *two, float *d_q, double *d_gate)
{
    const size_t dim = p->a.io.dim, dim_v = p->a.io.dim_v, n_q = p->a.io.n_q;
    const float *u = params ? params + two->heads * p->layers * p->layers : NULL;
    for (size_t row = 0; row < two->rows; row++) {
        const size_t h = row / n_q, i = row % n_q, at = (i * two->heads + h) * dim_v;
        const float *q = rv__position_query(p, h, i);
        const float *d = grad->d_out + i * p->a.io.out_stride + h * dim_v, g = two->gate[row];
        double dz = 0.0;
        for (size_t x = 0; x < dim_v; x++) {
            dz += (double)d[x] * ((double)two->out[0][at + x] - (double)two->out[1][at + x]);
            two->out[0][at + x] = g * d[x];
            two->out[1][at + x] = (1.0f - g) * d[x];
        }
        if (g <= 0.0f || g >= 1.0f) continue;
        dz *= (double)g * (1.0 - (double)g);
        for (size_t x = 0; x < dim; x++) {
            if (d_q && u) d_q[(i * two->heads + h) * dim + x] += (float)dz * u[h * dim + x];
            d_gate[h * dim + x] += dz * (double)q[x];
        }
        d_gate[two->heads * dim + h] += dz;
    }
}

static void rv__position_plus(float *to, const float *from, size_t n)
{
    for (size_t x = 0; to && x < n; x++) to[x] += from[x];
}

/* space: [q | k | v | table] in floats. */
static rv_status rv__layer_back(rv_ctx *ctx, rv__position *p, const rv_attn_io *io,
                                const rv_attn_grad *grad, const float *params,
                                const rv__layer_two *two, float *space, double *d_gate)
{
    const size_t table = two->heads * p->layers * p->layers;
    const size_t n_q = io->n_q * two->heads * io->dim;
    const size_t n_k = io->n_k * p->a.config.kv_heads * io->dim;
    const size_t n_v = io->n_k * p->a.config.kv_heads * p->a.io.dim_v;
    rv_attn_io with = *io;
    rv_attn_grad first = *grad, second;
    rv_status status = rv__layer_branches(ctx, p, io, params, two, NULL);
    if (status) return status;
    memset(space, 0, n_q * sizeof(float));
    memset(d_gate, 0, two->heads * (io->dim + 1) * sizeof(double));
    rv__layer_split(p, grad, params, two, space, d_gate);
    with.out_stride = 0;
    first.d_out = two->out[0];
    p->branch = 1;
    status = rv__position_run(ctx, p, &with, &first);
    if (status) return status;
    rv__position_plus(grad->d_q, space, n_q);
    memset(&second, 0, sizeof second);
    second.d_out = two->out[1];
    second.d_q = grad->d_q ? space : NULL;
    second.d_k = grad->d_k ? space + n_q : NULL;
    second.d_v = grad->d_v ? space + n_q + n_k : NULL;
    second.d_params = grad->d_params ? space + n_q + n_k + n_v : NULL;
    p->branch = 2;
    status = rv__position_run(ctx, p, &with, &second);
    if (status) return status;
    rv__position_plus(grad->d_q, space, n_q);
    rv__position_plus(grad->d_k, space + n_q, n_k);
    rv__position_plus(grad->d_v, space + n_q + n_k, n_v);
    rv__position_plus(grad->d_params, space + n_q + n_k + n_v, table);
    for (size_t x = 0; grad->d_params && x < two->heads * (io->dim + 1); x++)
        grad->d_params[table + x] = (float)d_gate[x];
    return RV_OK;
}

static rv_status rv__layer_gated(rv_ctx *ctx, rv__position *p, const rv_attn_io *io,
                                 const rv_attn_grad *grad, const float *params)
{
    const rv_alloc alloc = rv__allocator(ctx);
    const size_t dim = io->dim, kv = rv__mul(io->n_k, p->a.config.kv_heads);
    size_t n_space = 0, floats, n_gate;
    float *memory, *space;
    double *d_gate = NULL;
    rv__layer_two two;
    rv_status status;
    memset(&two, 0, sizeof two);
    two.heads = p->a.config.heads;
    two.rows = rv__mul(two.heads, io->n_q);
    two.n_out = rv__mul(two.rows, p->a.io.dim_v);
    two.n_w = io->weights && !grad ? rv__mul(two.rows, io->n_k) : 0;
    n_gate = two.heads * (dim + 1);
    if (grad) {
        n_space = rv__add(rv__mul(two.rows, dim), rv__mul(kv, dim));
        n_space = rv__add(n_space, rv__mul(kv, p->a.io.dim_v));
        n_space = rv__add(n_space, two.heads * p->layers * p->layers);
        d_gate = (double *)rv__get(&alloc, n_gate, sizeof(double));
        if (!d_gate) return rv__no_memory(ctx, n_gate * sizeof(double));
    }
    floats = rv__add(rv__add(rv__mul(2, two.n_out), rv__mul(3, two.rows)),
                     rv__add(two.n_w, n_space));
    memory = (float *)rv__get(&alloc, floats, sizeof(float));
    if (!memory) {
        status = rv__no_memory(ctx, rv__mul(floats, sizeof(float)));
    } else {
        two.out[0] = memory;
        two.out[1] = memory + two.n_out;
        two.lse[0] = two.out[1] + two.n_out;
        two.lse[1] = two.lse[0] + two.rows;
        two.gate = two.lse[1] + two.rows;
        space = two.gate + two.rows;
        if (two.n_w) two.weights = space;
        status = grad ? rv__layer_back(ctx, p, io, grad, params, &two, space, d_gate)
                      : rv__layer_mix(ctx, p, io, params, &two);
    }
    rv__put(&alloc, memory, floats, sizeof(float));
    rv__put(&alloc, d_gate, n_gate, sizeof(double));
    return status ? status : rv__ok(ctx);
}

static rv_status rv__layer_attend(rv_ctx *ctx, const rv_attn_layer_config *config,
                                  const rv_attn_io *io, const rv_attn_grad *grad)
{
    rv__position p;
    rv_status status;
    if (!config) return rv__fail(ctx, RV_ERR_ARG, 0, "config is NULL; layers are required");
    status = rv__position_open(ctx, &config->base, io, grad, &p);
    if (!status) status = rv__layer_check(ctx, config, io, rv__layer_count(config));
    if (status) return status;
    p.layers = rv__layer_count(config);
    p.q_layer = config->q_layer;
    p.k_layer = config->k_layer;
    p.table = config->params;
    p.bias = rv__layer_bias;
    p.gather = rv__layer_gather;
    p.score.n_part = rv__mul(p.a.config.heads, p.layers * p.layers);
    if (config->gated) return rv__layer_gated(ctx, &p, io, grad, config->params);
    return rv__position_run(ctx, &p, io, grad);
}

RV_API rv_status rv_attn_layer(rv_ctx *ctx, const rv_attn_layer_config *config,
                               const rv_attn_io *io)
{
    return rv__layer_attend(ctx, config, io, NULL);
}

RV_API rv_status rv_attn_layer_backward(rv_ctx *ctx, const rv_attn_layer_config *config,
                                        const rv_attn_io *io, const rv_attn_grad *grad)
{
    if (!grad) return rv__fail(ctx, RV_ERR_ARG, 0, "grad is NULL");
    return rv__layer_attend(ctx, config, io, grad);
}

#endif /* RV_ATTN_POSITION_LAYER_C */
