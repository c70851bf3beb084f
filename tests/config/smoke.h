/* A small piece of work that touches memory, the dispatch and an index: 0 when all is well. The
   caller brings the context, so that it also runs without a C heap. */
#ifndef SMOKE_H
#define SMOKE_H

static int smoke(rv_ctx *ctx)
{
    static const float rows[4][3] = {
        {0.0f, 0.0f, 0.0f}, {1.0f, 0.0f, 0.0f}, {0.0f, 2.0f, 0.0f}, {0.0f, 0.0f, 4.0f}};
    static const float query[3] = {0.0f, 1.5f, 0.0f};
    rv_flat_config config;
    rv_flat *index = NULL;
    rv_hit hits[2];
    size_t n_hits = 0, i;
    int bad = 0;
    config.dim = 3;
    config.metric = RV_METRIC_L2;
    config.type = RV_DTYPE_F32;
    config.custom = NULL;
    config.custom_user = NULL;
    config.capacity = 0;
    if (rv_flat_create(ctx, &config, &index) != RV_OK) return 1;
    for (i = 0; i < 4; i++) bad |= rv_flat_add(ctx, index, 10 + i, rows[i]) != RV_OK;
    bad |= rv_flat_search(ctx, index, query, 2, NULL, hits, &n_hits) != RV_OK;
    bad |= n_hits != 2 || hits[0].key != 12 || hits[1].key != 10;
    rv_flat_destroy(index);
    return bad;
}

#endif
