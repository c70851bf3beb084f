/* Training: InfoNCE, optimizer steps, normalization, dropout, negatives. ns is one call. */
#include "rv_bench.h"

#include "ruvector.h"

enum { ROWS = 512, DIM = 128, ALL = ROWS * DIM };

typedef struct job {
    const char *name;
    size_t kind;
    rv_status (*run)(struct job *j);
} job;

static float x[ALL], y[ALL], dx[ALL], dy[ALL], state[2 * ALL];
static uint32_t ids[ROWS], own[1];

static rv_status run_infonce(job *j)
{
    rv_infonce_io io;
    double loss = 0;
    rv_status status;
    memset(&io, 0, sizeof io);
    io.anchor = io.positives = x;
    io.negatives = x + DIM;
    io.dim = DIM;
    io.n_positives = 1;
    io.n_negatives = ROWS - 1;
    io.d_anchor = dx;
    if (j->kind) io.d_negatives = dx + DIM;
    status = rv_loss_infonce(NULL, NULL, &io, &loss);
    rv_bench_sink(loss);
    return status;
}

static rv_status run_batch(job *j)
{
    double loss = 0;
    rv_status status = rv_loss_infonce_batch(NULL, NULL, x, y, ROWS, DIM, &loss,
                                             j->kind ? dx : NULL, j->kind ? dy : NULL);
    rv_bench_sink(loss);
    return status;
}

static rv_status run_step(job *j)
{
    rv_optim_config config;
    memset(&config, 0, sizeof config);
    config.kind = (rv_optim_kind)j->kind;
    config.lr = 1e-9f;
    config.momentum = 0.9f;
    return rv_optim_step(NULL, &config, 5, dx, x, ALL, state);
}

static rv_status run_norm(job *j)
{
    rv_norm_config config = {RV_NORM_LAYER, 0};
    rv_norm_io io;
    rv_norm_grad grad;
    memset(&io, 0, sizeof io);
    memset(&grad, 0, sizeof grad);
    config.kind = (rv_norm_kind)(j->kind % 2);
    io.x = x;
    io.gamma = io.beta = y;
    io.n = ROWS;
    io.dim = DIM;
    io.out = dx;
    grad.d_out = y;
    grad.d_x = dx;
    if (j->kind < 2) return rv_norm_run(NULL, &config, &io);
    return rv_norm_backward(NULL, &config, &io, &grad);
}

static rv_status run_dropout(job *j)
{
    (void)j;
    return rv_dropout_run(NULL, 0.1f, 1, 3, x, ALL, dx);
}

static rv_status run_negatives(job *j)
{
    rv_negatives_config config;
    rv_negatives_io io;
    size_t n_ids = 0;
    memset(&config, 0, sizeof config);
    memset(&io, 0, sizeof io);
    config.kind = (rv_negatives_kind)j->kind;
    io.anchor = io.candidates = x;
    io.n = ROWS;
    io.dim = DIM;
    io.positives = own;
    io.n_positives = 1;
    return rv_negatives_select(NULL, &config, &io, 20, ids, &n_ids);
}

static job jobs[] = {
    {"infonce_anchor", 0, run_infonce}, {"infonce_all", 1, run_infonce},
    {"infonce_batch", 0, run_batch},    {"infonce_batch_grad", 1, run_batch},
    {"sgd", RV_OPTIM_SGD, run_step},    {"adam", RV_OPTIM_ADAM, run_step},
    {"adagrad", RV_OPTIM_ADAGRAD, run_step}, {"layer_norm", 0, run_norm},
    {"rms_norm", 1, run_norm},          {"layer_norm_grad", 2, run_norm},
    {"dropout", 0, run_dropout},        {"negatives_random", RV_NEGATIVES_RANDOM, run_negatives},
    {"negatives_hard", RV_NEGATIVES_HARD, run_negatives},
    {"negatives_weighted", RV_NEGATIVES_DISTANCE_WEIGHTED, run_negatives}};

static void run(void *arg)
{
    job *j = (job *)arg;
    if (j->run(j)) exit(2);
    rv_bench_touch(dx);
}

int main(int argc, char **argv)
{
    rv_bench b;
    rv_bench_begin(&b, "optim", argc, argv);
    for (size_t i = 0; i < ALL; i++) {
        x[i] = (float)((i * 2654435761u) & 0xFFFFu) / 32768.0f - 1.0f;
        y[i] = (float)((i * 40503u) & 0xFFFFu) / 32768.0f - 1.0f;
    }
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        if (!rv_bench_wanted(&b, jobs[i].name)) continue;
        rv_bench_line(&b, jobs[i].name, ROWS, DIM, rv_isa_name(rv_isa_resolve(RV_ISA_BEST)),
                      rv_bench_time(&b, run, &jobs[i]), 2.0 * sizeof x, 0);
    }
    return rv_bench_end(&b);
}
