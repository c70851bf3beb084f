/* Pairs (x, y) are two views of one hidden vector; a linear map W is trained with InfoNCE until W x
   is nearer to its own y than to those of others.

       cc -O2 -I. examples/train_infonce.c -o train_infonce -lm && ./train_infonce */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <stdio.h>
#include <string.h>

enum { TRAIN = 512, TEST = 256, N = TRAIN + TEST, HIDDEN = 8, IN = 32, OUT = 16, BATCH = 128 };

static float uniform(void)
{
    static uint32_t x = 7;
    x = x * 1664525u + 1013904223u;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

static float x[N][IN], y[N][OUT], w[OUT][IN], e[N][OUT], state[2 * OUT * IN], d_e[BATCH][OUT],
    d_w[OUT][IN];

static void make_pairs(void)
{
    static float view[HIDDEN][IN + OUT];
    for (int i = 0; i < OUT; i++)
        for (int j = 0; j < IN; j++) w[i][j] = 0.1f * uniform();
    for (int h = 0; h < HIDDEN; h++)
        for (int j = 0; j < IN + OUT; j++) view[h][j] = uniform();
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < IN; j++) x[i][j] = 0.2f * uniform();
        for (int j = 0; j < OUT; j++) y[i][j] = 0.2f * uniform();
        for (int h = 0; h < HIDDEN; h++) {
            float z = uniform();
            rv_axpy_f32(z, view[h], x[i], IN);
            rv_axpy_f32(z, view[h] + IN, y[i], OUT);
        }
    }
}

/* Share of test rows whose partner is the nearest of all 256; their loss. */
static double accuracy(rv_ctx *ctx, const rv_infonce_config *config, double *loss)
{
    float d[TEST];
    uint32_t nearest, right = 0;
    (void)rv_gemm_nt_f32(ctx, x[TRAIN], 0, w[0], 0, TEST, OUT, IN, 0, e[TRAIN], 0);
    (void)rv_loss_infonce_batch(ctx, config, e[TRAIN], y[TRAIN], TEST, OUT, loss, NULL, NULL);
    for (int i = 0; i < TEST; i++) {
        rv_metric_many(RV_METRIC_COSINE, RV_DTYPE_F32, e[TRAIN + i], y[TRAIN], 0, TEST, OUT, d);
        (void)rv_topk_f32(d, TEST, 1, &nearest, NULL);
        right += nearest == (uint32_t)i;
    }
    return 100.0 * right / TEST;
}

int main(void)
{
    rv_infonce_config config = {0.1f, RV_INFONCE_MEAN, 1, 0};
    rv_schedule_config schedule = {0.02f, 1e-4f, 10, 290};
    rv_optim_config optim = {RV_OPTIM_ADAM, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    double loss = 0, found = 0;
    rv_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    make_pairs();
    found = accuracy(&ctx, &config, &loss);
    printf("before: loss %.3f, %.1f %% of partners found\n", loss, found);
    (void)rv_optim_init(&ctx, &optim, OUT * IN, state);
    for (uint64_t step = 0; step < 300 && !ctx.status; step++) {
        const float *from = x[step % 4 * BATCH], *to = y[step % 4 * BATCH];
        (void)rv_gemm_nt_f32(&ctx, from, 0, w[0], 0, BATCH, OUT, IN, 0, e[0], 0);
        (void)rv_loss_infonce_batch(&ctx, &config, e[0], to, BATCH, OUT, &loss, d_e[0], NULL);
        memset(d_w, 0, sizeof d_w); /* d_w = d_e^T x */
        for (int i = 0; i < BATCH; i++)
            for (int j = 0; j < OUT; j++) rv_axpy_f32(d_e[i][j], from + i * IN, d_w[j], IN);
        (void)rv_schedule_lr(&ctx, &schedule, step, &optim.lr);
        (void)rv_optim_step(&ctx, &optim, step, w[0], d_w[0], OUT * IN, state);
    }
    found = accuracy(&ctx, &config, &loss);
    printf("after:  loss %.3f, %.1f %% of partners found%s\n", loss, found, ctx.message);
    return found < 90;
}
