#ifndef PHRASES_H
#define PHRASES_H

/* Vectors of phrases and of all WordNet definitions, for demo.c; include after ruvector.h.

   A phrase's vector is the weighted mean of its words' vectors, weights a / (a + p(word)) as in
   Arora, Liang, Ma, 2017. A form without a vector uses that of its stem. A word too rare for a
   vector of its own, such as "acrophobia", gets the mean vector of the definitions it heads. */

#include "wordnet.h"
#include <stdio.h>

#define LEXICON_SLOTS (1u << 18)
#define NONE 0xFFFFFFFFu
#define HEAD_WEIGHT 0.7f
#define RARITY 4e-3f /* the a of the weights */

typedef struct word {
    uint32_t at, length; /* spelling in wordnet.spelling, lower case */
    uint32_t root;       /* the word whose vector it uses: itself, or without its ending */
    uint32_t count;      /* uses of it as a root in the text */
    uint32_t source;     /* of its vector: 0 none, 1 the file, 2 the definitions it heads */
} word;

typedef struct wordnet {
    wn_data data;
    word *words;
    uint32_t n_words;
    uint32_t *slots;     /* [LEXICON_SLOTS] word numbers */
    char *spelling;
    size_t spelling_bytes, spelling_room;
    uint32_t n_uses;     /* all words of the text */
    float *pool;         /* [n_words, dim] vectors of words */
    float *vectors;      /* [n_synsets, dim], unit length */
    size_t dim, n;
} wordnet;

static void *need(void *p)
{
    if (!p) {
        fprintf(stderr, "demo: out of memory\n");
        exit(1);
    }
    return p;
}

/* ---- words ---- */

/* The next run of letters and digits of *text in lower case into out[64]; 0 at the end. */
static uint32_t next_word(const char **text, char *out)
{
    const char *s = *text;
    uint32_t n = 0;
    while (*s && !wn_is_word(*s))
        s++;
    for (; wn_is_word(*s); s++)
        if (n < 63)
            out[n++] = (char)(*s >= 'A' && *s <= 'Z' ? *s + ('a' - 'A') : *s);
    out[n] = 0;
    *text = s;
    return n;
}

static uint32_t find_word(wordnet *w, const char *s, uint32_t length, int add)
{
    uint32_t i = wn_fnv((const uint8_t *)s, length) & (LEXICON_SLOTS - 1);
    word *fresh;
    for (; w->slots[i] != NONE; i = (i + 1) & (LEXICON_SLOTS - 1)) {
        const word *x = &w->words[w->slots[i]];
        if (x->length == length && memcmp(w->spelling + x->at, s, length) == 0)
            return w->slots[i];
    }
    if (!add || w->n_words == LEXICON_SLOTS / 2)
        return NONE;
    if (w->spelling_bytes + length > w->spelling_room) {
        w->spelling_room = w->spelling_room * 2 + 65536;
        w->spelling = (char *)need(realloc(w->spelling, w->spelling_room));
    }
    fresh = &w->words[w->n_words];
    memset(fresh, 0, sizeof *fresh);
    fresh->at = (uint32_t)w->spelling_bytes;
    fresh->length = length;
    fresh->root = NONE;
    memcpy(w->spelling + fresh->at, s, length);
    w->spelling_bytes += length;
    w->slots[i] = w->n_words;
    return w->n_words++;
}

/* The word that stands for s: itself when it has a vector, else one with a vector and without the
   ending, else itself. NONE: never seen (only when add is 0). */
static uint32_t find_root(wordnet *w, const char *s, uint32_t length, int add)
{
    static const char *const endings[][2] = {{"ies", "y"}, {"s", ""},    {"es", ""},  {"ed", ""},
                                             {"ed", "e"},  {"ing", ""}, {"ing", "e"}};
    uint32_t self = find_word(w, s, length, add), other = NONE;
    if (self != NONE && w->words[self].root != NONE)
        return w->words[self].root;
    for (size_t i = 0; i < 7 && other == NONE; i++) {
        uint32_t cut = (uint32_t)strlen(endings[i][0]);
        char stem[66];
        if (length < cut + 3 || (length > 1 && memcmp(s + length - 2, "ss", 2) == 0) ||
            memcmp(s + length - cut, endings[i][0], cut) != 0)
            continue;
        length -= cut;
        memcpy(stem, s, length);
        memcpy(stem + length, endings[i][1], strlen(endings[i][1]));
        other = find_word(w, stem, length + (uint32_t)strlen(endings[i][1]), 0);
        if ((other == NONE || !w->words[other].source) && cut > 1 &&
            stem[length - 1] == stem[length - 2])
            other = find_word(w, stem, length - 1, 0);
        other = other != NONE && w->words[other].source ? other : NONE;
        length += cut;
    }
    other = other == NONE ? self : other;
    if (self != NONE)
        w->words[self].root = other;
    return other;
}

/* ---- vectors ---- */

/* sum += weight * vectors of the words of text. Returns how many had one. */
static uint32_t add_text(wordnet *w, const char *text, float weight, float *sum)
{
    char s[64];
    uint32_t length, found = 0;
    while ((length = next_word(&text, s)) > 0) {
        uint32_t root = find_root(w, s, length, 0);
        if (root != NONE && w->words[root].source) {
            float p = (float)w->words[root].count / (float)w->n_uses;
            rv_axpy_f32(weight * RARITY / (RARITY + p), w->pool + root * w->dim, sum, w->dim);
            found++;
        }
    }
    return found;
}

static void to_unit(float *v, size_t dim)
{
    float norm = rv_norm_f32(v, dim);
    if (norm > 0)
        rv_scale_f32(1 / norm, v, dim);
}

/* Fills the lexicon from the data file: words with vectors first, then all others, counted. */
static void read_words(wordnet *w)
{
    const wn_data *d = &w->data;
    uint32_t *owner = (uint32_t *)need(malloc(d->n_vectors * sizeof(uint32_t)));
    uint32_t n = 0, length;
    char s[64];
    w->words = (word *)need(malloc(LEXICON_SLOTS / 2 * sizeof(word)));
    w->slots = (uint32_t *)need(malloc(LEXICON_SLOTS * sizeof(uint32_t)));
    memset(w->slots, 0xFF, LEXICON_SLOTS * sizeof(uint32_t));
    for (uint32_t i = 0; i < d->n_words; i++) {
        const char *spelled = d->words + d->word_at[i];
        if (!d->has_vector[i] || n == d->n_vectors)
            continue;
        length = next_word(&spelled, s);
        owner[n] = find_word(w, s, length, 1);
        w->words[owner[n]].root = owner[n];
        w->words[owner[n++]].source = 1;
    }
    for (size_t i = 0; i < w->n * 2; i++) {
        const char *text = d->text + (i % 2 ? d->gloss : d->head)[i / 2];
        while ((length = next_word(&text, s)) > 0) {
            w->words[find_root(w, s, length, 1)].count++;
            w->n_uses++;
        }
    }
    w->pool = (float *)need(calloc(w->n_words, w->dim * sizeof(float)));
    while (n-- > 0)
        rv_convert_i8_to_f32(d->vectors + n * w->dim, d->step, w->pool + owner[n] * w->dim, w->dim);
    free(owner);
}

static void embed_glosses(wordnet *w)
{
    for (size_t i = 0; i < w->n; i++) {
        float *v = w->vectors + i * w->dim;
        memset(v, 0, w->dim * sizeof(float));
        add_text(w, w->data.text + w->data.head[i], HEAD_WEIGHT, v);
        add_text(w, w->data.text + w->data.gloss[i], 1, v);
        to_unit(v, w->dim);
    }
}

/* Vectors for words that head definitions and have none in the file. */
static void derive_words(wordnet *w)
{
    char s[64];
    for (size_t i = 0; i < w->n; i++) {
        const char *head = w->data.text + w->data.head[i];
        uint32_t length;
        while ((length = next_word(&head, s)) > 0) {
            uint32_t root = find_root(w, s, length, 0);
            if (w->words[root].source == 1)
                continue;
            w->words[root].source = 2;
            rv_add_f32(w->vectors + i * w->dim, w->pool + root * w->dim, w->dim);
        }
    }
    for (uint32_t i = 0; i < w->n_words; i++)
        if (w->words[i].source == 2)
            to_unit(w->pool + i * w->dim, w->dim);
}

/* The first half of a gloss: what someone who has its meaning on the tongue might type. */
static void embed_half(wordnet *w, size_t i, float *out)
{
    char half[256];
    const char *gloss = w->data.text + w->data.gloss[i];
    size_t length = strlen(gloss) / 2;
    length = length < sizeof half - 1 ? length : sizeof half - 1;
    while (wn_is_word(gloss[length]) && length < sizeof half - 1)
        length++;
    memcpy(half, gloss, length);
    half[length] = 0;
    memset(out, 0, w->dim * sizeof(float));
    add_text(w, half, 1, out);
    to_unit(out, w->dim);
}

static const char *open_wordnet(wordnet *w, const char *path)
{
    const char *error = "cannot be read";
    uint8_t *file = (uint8_t *)need(malloc(8u << 20));
    FILE *f = fopen(path, "rb");
    memset(w, 0, sizeof *w);
    if (f) {
        size_t bytes = fread(file, 1, 8u << 20, f);
        fclose(f);
        error = wn_load(&w->data, file, bytes);
    }
    free(file);
    if (error)
        return error;
    w->dim = w->data.dim;
    w->n = w->data.n_synsets;
    w->vectors = (float *)need(malloc(w->n * w->dim * sizeof(float)));
    read_words(w);
    embed_glosses(w);
    derive_words(w);
    embed_glosses(w);
    return NULL;
}

static void close_wordnet(wordnet *w)
{
    wn_free(&w->data);
    free(w->words);
    free(w->slots);
    free(w->spelling);
    free(w->pool);
    free(w->vectors);
}

#endif /* PHRASES_H */
