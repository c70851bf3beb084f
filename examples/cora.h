/* The citation graph Cora and two layers' weights, as tools/cora.py writes them into cora.bin. */
#ifndef CORA_H
#define CORA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct cora {
    uint32_t *words;                          /* the file, which all else lies in              */
    uint32_t nodes, features, classes, heads, hidden, edges, entries, tests;
    const uint32_t *start, *index;            /* citations: [nodes + 1], [edges]               */
    const uint32_t *x_start, *x_index;        /* words of each paper: [nodes + 1], [entries]   */
    const float *x_value;
    const uint32_t *labels, *test;            /* [nodes], [tests]                              */
    const float *params;                      /* of both layers                                */
} cora;

static uint32_t *cora_words(const char *path)
{
    uint32_t *words = NULL;
    FILE *file = fopen(path, "rb");
    long bytes;
    if (!file) return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (bytes = ftell(file)) > 0 &&
        fseek(file, 0, SEEK_SET) == 0 && (words = (uint32_t *)malloc((size_t)bytes)) != NULL &&
        fread(words, 1, (size_t)bytes, file) != (size_t)bytes) {
        free(words);
        words = NULL;
    }
    fclose(file);
    return words;
}

/* 0 when the file cannot be read. */
static int cora_open(cora *c, const char *folder)
{
    char path[1024];
    const uint32_t *at;
    if (snprintf(path, sizeof path, "%s/cora.bin", folder) >= (int)sizeof path) return 0;
    at = c->words = cora_words(path);
    if (!at) return 0;
    c->nodes = *at++;
    c->features = *at++;
    c->classes = *at++;
    c->heads = *at++;
    c->hidden = *at++;
    c->edges = *at++;
    c->entries = *at++;
    c->tests = *at++;
    c->start = at;
    c->index = c->start + c->nodes + 1;
    c->x_start = c->index + c->edges;
    c->x_index = c->x_start + c->nodes + 1;
    c->x_value = (const float *)(const void *)(c->x_index + c->entries);
    c->labels = c->x_index + 2 * (size_t)c->entries;
    c->test = c->labels + c->nodes;
    c->params = (const float *)(const void *)(c->test + c->tests);
    return 1;
}

#endif /* CORA_H */
