/* Semantic search over WordNet 3.0: finds the definitions that mean what a phrase means.

       cc -O2 -I. examples/demo.c -o build/demo -lm -lpthread
       build/demo "fear of heights" "device for measuring temperature"
       build/demo                                   sample queries, then a prompt
       build/demo --export glosses.fvecs            the vectors, for a bench

   The data and its licence: examples/data. Its decoder: wordnet.h. How a phrase becomes a vector:
   phrases.h. */

#define _DEFAULT_SOURCE 1 /* clock_gettime in strict C modes */
#define RV_STATIC /* what is not called is not compiled */
#define RUVECTOR_IMPLEMENTATION
#ifndef RV_THREADS
#define RV_THREADS
#endif
#include "ruvector.h"
#include "phrases.h"
#include <time.h>

#define PROBES 1000u

static double now(void)
{
#ifdef _WIN32
    return (double)clock() / CLOCKS_PER_SEC; /* wall time there */
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

static void check_status(const rv_ctx *ctx, rv_status status)
{
    if (status != RV_OK) {
        fprintf(stderr, "demo: %s: %s\n", rv_status_text(status), ctx->message);
        exit(1);
    }
}

/* ctx.poll: called every few milliseconds; returning non-zero would cancel the build. */
static double poll_from, poll_shown;
static int show_progress(void *user)
{
    double t = now() - poll_from;
    (void)user;
    if (t - poll_shown >= 0.25) {
        poll_shown = t;
        fprintf(stderr, "\rbuilding the index: %.1f s ", t);
        fflush(stderr);
    }
    return 0;
}

static rv_hnsw *build_index(const wordnet *w)
{
    rv_ctx ctx;
    rv_hnsw_config config;
    rv_hnsw_stats stats;
    rv_hnsw *index = NULL;
    double seconds, mb = 1.0 / (1 << 20);
    memset(&ctx, 0, sizeof ctx);
    memset(&config, 0, sizeof config);
    ctx.poll = show_progress;
    ctx.parallel = rv_parallel_threads;
    config.dim = (uint32_t)w->dim;
    config.metric = RV_METRIC_COSINE;
    poll_from = now();
    check_status(&ctx, rv_hnsw_create(&ctx, &config, &index));
    check_status(&ctx, rv_hnsw_build(&ctx, index, NULL, w->vectors, w->n));
    seconds = now() - poll_from;
    rv_hnsw_stats_get(index, &stats);
    fprintf(stderr, "\r%30s\r", "");
    printf("index:  built in %.2f s on %u processors, %.0f vectors per second\n", seconds,
           (unsigned)rv_processors(), (double)w->n / seconds);
    printf("memory: %.1f MB = vectors %.1f + codes %.1f + links %.1f + keys %.1f + rest\n",
           (double)stats.total_bytes * mb, (double)stats.vector_bytes * mb,
           (double)stats.code_bytes * mb, (double)stats.link_bytes * mb,
           (double)stats.key_bytes * mb);
    return index;
}

static void answer(wordnet *w, const rv_hnsw *index, const char *query, size_t k)
{
    rv_ctx ctx;
    rv_hit hits[100];
    size_t n_hits;
    float *v = (float *)need(calloc(w->dim, sizeof(float)));
    memset(&ctx, 0, sizeof ctx);
    printf("\n%s\n", query);
    if (add_text(w, query, 1, v) == 0) {
        printf("   none of these words is known\n");
    } else {
        to_unit(v, w->dim);
        check_status(&ctx, rv_hnsw_search(&ctx, index, v, k, 0, hits, &n_hits));
        for (size_t i = 0; i < n_hits; i++)
            printf("   %.3f  %s: %s\n", (double)hits[i].distance,
                   w->data.text + w->data.head[hits[i].key],
                   w->data.text + w->data.gloss[hits[i].key]);
    }
    free(v);
}

/* Recall@10 of half glosses against exact search, and queries per second of one thread. A found row
   as near as the tenth exact one counts: glosses that say the same have the same vector. */
static int report(wordnet *w, const rv_hnsw *index)
{
    rv_ctx ctx;
    rv_flat_config config;
    rv_flat *flat = NULL;
    rv_hit *exact = (rv_hit *)need(malloc(PROBES * 10 * sizeof(rv_hit))), hits[10];
    size_t n_exact[PROBES], n_hits, efs[] = {20, 40, 80, 160};
    float *queries = (float *)need(malloc(PROBES * w->dim * sizeof(float)));
    double t, recall = 0;
    memset(&ctx, 0, sizeof ctx);
    memset(&config, 0, sizeof config);
    ctx.parallel = rv_parallel_threads;
    config.dim = (uint32_t)w->dim;
    config.metric = RV_METRIC_COSINE;
    for (size_t i = 0; i < PROBES; i++)
        embed_half(w, i * w->n / PROBES, queries + i * w->dim);
    check_status(&ctx, rv_flat_create(&ctx, &config, &flat));
    check_status(&ctx, rv_flat_build(&ctx, flat, NULL, w->vectors, w->n));
    t = now();
    check_status(&ctx, rv_flat_search_batch(&ctx, flat, queries, PROBES, 10, NULL, exact, n_exact));
    t = now() - t;
    rv_flat_destroy(flat);
    printf("\nsearch for 10, %u half glosses:   recall   queries/s\n", PROBES);
    printf("   exact, %u threads               1.000  %10.0f\n", (unsigned)rv_processors(),
           PROBES / t);
    for (size_t e = 0; e < sizeof efs / sizeof *efs; e++) {
        size_t found = 0;
        t = now();
        for (size_t i = 0; i < PROBES; i++) {
            check_status(NULL, rv_hnsw_search(NULL, index, queries + i * w->dim, 10, efs[e], hits,
                                              &n_hits));
            for (size_t j = 0; j < n_hits; j++)
                found += hits[j].distance <= exact[i * 10 + 9].distance + 1e-5f;
        }
        t = now() - t;
        recall = (double)found / (PROBES * 10);
        printf("   hnsw, ef %3u, 1 thread          %.3f  %10.0f\n", (unsigned)efs[e], recall,
               PROBES / t);
    }
    free(exact);
    free(queries);
    return recall > 0.9;
}

/* fvecs: per row an int32 dim, then the floats, little-endian. */
static int export_vectors(wordnet *w, const char *path)
{
    FILE *f = fopen(path, "wb");
    int32_t dim = (int32_t)w->dim;
    int ok = f != NULL;
    for (size_t i = 0; ok && i < w->n; i++)
        ok = fwrite(&dim, 4, 1, f) == 1 && fwrite(w->vectors + i * w->dim, 4, w->dim, f) == w->dim;
    ok = f && fclose(f) == 0 && ok;
    printf(ok ? "%s: %u rows\n" : "%s: cannot be written\n", path, (unsigned)w->n);
    return ok;
}

int main(int argc, char **argv)
{
    static const char *const samples[] = {"fear of heights", "someone who repairs shoes",
                                          "device for measuring temperature",
                                          "frozen dessert made from milk and sugar"};
    const char *path = "examples/data/wordnet.bin", *export_path = NULL, *error;
    char line[512];
    wordnet w;
    rv_hnsw *index = NULL;
    double t = now();
    int first = 1, good;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first += 2) {
        if (strcmp(argv[first], "--data") == 0 && first + 1 < argc) {
            path = argv[first + 1];
        } else if (strcmp(argv[first], "--export") == 0 && first + 1 < argc) {
            export_path = argv[first + 1];
        } else {
            printf("usage: demo [--data FILE] [--export FILE.fvecs] [query ...]\n"
                   "Finds WordNet definitions by meaning. Without a query: samples, then a\n"
                   "prompt; an empty line ends it. --export writes the definitions' vectors.\n");
            return strcmp(argv[first], "--help") != 0;
        }
    }
    error = open_wordnet(&w, path);
    if (error) {
        fprintf(stderr, "demo: %s: %s\n", path, error);
        return 1;
    }
    printf("text:   %u definitions and %u word vectors of %u dimensions read, embedded in %.2f s\n",
           (unsigned)w.n, w.data.n_vectors, (unsigned)w.dim, now() - t);
    if (export_path) {
        good = export_vectors(&w, export_path);
        close_wordnet(&w);
        return !good;
    }
    index = build_index(&w);
    for (int i = first; i < argc; i++)
        answer(&w, index, argv[i], 5);
    for (size_t i = 0; first >= argc && i < sizeof samples / sizeof *samples; i++)
        answer(&w, index, samples[i], 5);
    good = report(&w, index);
    printf("all:    %.1f s\n", now() - t);
    while (first >= argc) {
        printf("\nquery> ");
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin) || line[strspn(line, " \t\r\n")] == 0)
            break;
        line[strcspn(line, "\r\n")] = 0;
        answer(&w, index, line, 10);
    }
    rv_hnsw_destroy(index);
    close_wordnet(&w);
    return !good;
}
