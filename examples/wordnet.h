#ifndef WORDNET_H
#define WORDNET_H

/* Reader of examples/data/wordnet.bin: the headwords and definitions of WordNet 3.0 and a vector
   for every common word. Written by tools/wordnet.py, which compiles this very file as its encoder:
   each routine below both writes and reads, so the two directions cannot drift apart.

   File, little-endian:
       u32 header[16]   "RVWN", version, synsets, tokens, words, bytes of their spellings, bytes of
                        the rare spellings, word vectors, dim, characters, bytes of the text stream,
                        bytes of the vector stream, bits of the f32 step, FNV-1a of all that
                        follows, 0, 0
       u16 words_by_length[32], u16 chars_by_length[32]   canonical code lengths 0..31
       u8  char[characters]                                in canonical order
       text stream, vector stream                          arithmetic coded, see wn_text, wn_vectors

   The text is a stream of tokens: runs of letters and digits, and runs of anything else; a single
   blank between two of the first kind is left out. A tab ends a headword, a newline a definition.
   Tokens that occur at least twice form a vocabulary with a canonical Huffman code; the others are
   escaped and spelled. The bits of these codes are predicted by mixing adaptive counts under three
   contexts (Mahoney, 2005, describes such coders) and arithmetic coded: 8.7 bits per token with all
   spellings, where xz -9e needs 10.2. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WN_HEADER_BYTES (64 + 64 + 64)
#define WN_SLOT_BITS 17
#define WN_MAX_CTX 6
#define WN_ESCAPE "\x01"

/* ---- arithmetic coder with binary decisions ---- */

typedef struct wn_coder {
    uint8_t *at, *end; /* next byte; at stays at end when the stream is too short */
    uint32_t low, high, code;
    int writing;
} wn_coder;

static void wn_start(wn_coder *c, uint8_t *bytes, size_t n, int writing)
{
    c->at = bytes;
    c->end = bytes + n;
    c->low = 0;
    c->high = 0xFFFFFFFFu;
    c->code = 0;
    c->writing = writing;
    for (int i = 0; i < 4 && !writing; i++)
        c->code = c->code << 8 | (c->at < c->end ? *c->at++ : 0u);
}

/* p: probability of a one, 1..65535 of 65536. Writes bit, or returns the bit read. */
static int wn_bit(wn_coder *c, uint32_t p, int bit)
{
    uint32_t middle = c->low + (uint32_t)(((uint64_t)(c->high - c->low) * p) >> 16);
    if (!c->writing)
        bit = c->code <= middle;
    if (bit)
        c->high = middle;
    else
        c->low = middle + 1;
    while (((c->low ^ c->high) & 0xFF000000u) == 0) {
        if (c->writing) {
            if (c->at < c->end)
                *c->at++ = (uint8_t)(c->high >> 24);
        } else {
            c->code = c->code << 8 | (c->at < c->end ? *c->at++ : 0u);
        }
        c->low <<= 8;
        c->high = c->high << 8 | 255u;
    }
    return bit;
}

/* ---- model: adaptive probabilities under several contexts, mixed in the logistic domain ---- */

/* One canonical Huffman code: symbols numbered by length, then in a fixed order. */
typedef struct wn_alphabet {
    uint32_t first[32], offset[32], count[32];
} wn_alphabet;

/* A probability: 22 bits of it, then 10 bits of how often it was used (the rate falls as 1/uses).
   A slot holds the 15 of four binary decisions under one context, and a check of the context. */
typedef struct wn_model {
    uint32_t slot[1 << WN_SLOT_BITS][16];
    int32_t weight[64 * 8][WN_MAX_CTX + 2];
    int16_t stretch[4096];
    int32_t rate[256];
    uint32_t bits[64];
} wn_model;

static void wn_alphabet_init(wn_alphabet *a, const uint16_t *by_length)
{
    uint32_t code = 0, offset = 0;
    for (int i = 0; i < 32; i++) {
        code <<= 1;
        a->first[i] = code;
        a->offset[i] = offset;
        a->count[i] = by_length[i];
        code += by_length[i];
        offset += by_length[i];
    }
}

/* 4096 / (1 + exp(-x / 256)) by interpolation. */
static int wn_squash(int x)
{
    static const int table[33] = {1,    2,    3,    6,    10,   16,   27,   45,   73,   120,  194,
                                  310,  488,  747,  1101, 1546, 2047, 2549, 2994, 3348, 3607, 3785,
                                  3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094};
    int w = x & 127;
    int i = (x >> 7) + 16;
    if (x > 2047)
        return 4095;
    if (x < -2047)
        return 1;
    return (table[i] * (128 - w) + table[i + 1] * w + 64) >> 7;
}

static void wn_model_init(wn_model *m)
{
    int next = 0;
    memset(m, 0, sizeof *m);
    for (int x = -2047; x <= 2047; x++)
        for (int p = wn_squash(x); next <= p; next++)
            m->stretch[next] = (int16_t)x;
    for (; next < 4096; next++)
        m->stretch[next] = 2047;
    for (int i = 0; i < 256; i++)
        m->rate[i] = 65536 * 10 / (10 * i + 16);
    for (int i = 0; i < 64; i++)
        m->bits[i] = 0x80000000u;
    for (int i = 0; i < 64 * 8; i++)
        for (int j = 1; j <= WN_MAX_CTX; j++)
            m->weight[i][j] = 23000; /* 0.35 */
}

static void wn_learn(const wn_model *m, uint32_t *state, int bit)
{
    uint32_t uses = *state & 1023u;
    int32_t p = (int32_t)(*state >> 10);
    int32_t goal = bit ? 4194303 : 0;
    p += (int32_t)(((int64_t)(goal - p) * m->rate[uses]) >> 16);
    *state = (uint32_t)p << 10 | (uses < 255 ? uses + 1 : uses);
}

/* A decision with one context only. */
static int wn_plain(const wn_model *m, wn_coder *c, uint32_t *state, int bit)
{
    uint32_t p = *state >> 16;
    bit = wn_bit(c, p < 32 ? 32 : p > 65503 ? 65503 : p, bit);
    wn_learn(m, state, bit);
    return bit;
}

static uint32_t wn_hash(uint32_t a, uint32_t b)
{
    uint32_t h = a * 0x2F0B4C47u + b * 0x9E3779B1u + 0x7F4A7C15u;
    h = (h ^ h >> 15) * 0x85EBCA6Bu;
    return h ^ h >> 13;
}

static uint32_t *wn_slot(wn_model *m, uint32_t hash)
{
    uint32_t i = (hash * 0x9E3779B1u) >> (32 - WN_SLOT_BITS);
    uint32_t check = hash | 1u;
    uint32_t *s = m->slot[i];
    if (s[0] == check)
        return s;
    if (m->slot[i ^ 1u][0] == check)
        return m->slot[i ^ 1u];
    if ((m->slot[i ^ 1u][1] & 1023u) < (s[1] & 1023u))
        s = m->slot[i ^ 1u]; /* the less used of the two gives way */
    s[0] = check;
    for (int k = 1; k < 16; k++)
        s[k] = 0x80000000u;
    return s;
}

/* One decision: every context's probability is stretched to ln(p / (1 - p)), weighted, summed and
   squashed back; the weights (a set per confidence of the contexts) follow the error. */
static int wn_mix(wn_model *m, wn_coder *c, uint32_t **state, int n,
                  int32_t (*sets)[WN_MAX_CTX + 2], int bit)
{
    int x[WN_MAX_CTX + 1];
    int32_t *w;
    int known = 0, p, error;
    int64_t sum = 0;
    x[0] = 256;
    for (int i = 0; i < n; i++) {
        uint32_t v = *state[i];
        x[i + 1] = (v & 1023u) ? m->stretch[v >> 20] : 0;
        known = (v & 1023u) ? i : known;
    }
    w = sets[known];
    for (int i = 0; i <= n; i++)
        sum += (int64_t)w[i] * x[i];
    sum >>= 16;
    p = wn_squash(sum > 2047 ? 2047 : sum < -2047 ? -2047 : (int)sum);
    bit = wn_bit(c, (uint32_t)p * 16u + 8u, bit);
    error = (bit * 4095 - p) * 3;
    for (int i = 0; i <= n; i++)
        w[i] += (x[i] * error + 0x2000) >> 14;
    for (int i = 0; i < n; i++)
        wn_learn(m, state[i], bit);
    return bit;
}

/* Writes symbol, or returns the symbol read. context: [n] hashes; set: 0..1, a group of weights. */
static uint32_t wn_symbol(wn_model *m, wn_coder *c, const wn_alphabet *a, const uint32_t *context,
                          int n, int set, uint32_t symbol)
{
    uint32_t *slot[WN_MAX_CTX], *state[WN_MAX_CTX];
    uint32_t code = 0, path = 1, node = 1, goal = 0;
    int goal_length = 0;
    if (c->writing) {
        while (symbol - a->offset[goal_length] >= a->count[goal_length])
            goal_length++;
        goal = a->first[goal_length] + symbol - a->offset[goal_length];
    }
    for (int depth = 0; depth < 31;) {
        int group = set * 32 + (depth < 15 ? depth : 15);
        int bit = c->writing ? (int)(goal >> (goal_length - 1 - depth)) & 1 : 0;
        if (depth % 4 == 0) {
            for (int i = 0; i < n; i++)
                slot[i] = wn_slot(m, wn_hash(context[i], path + (uint32_t)i * 0x1000193u));
            node = 1;
        }
        for (int i = 0; i < n; i++)
            state[i] = slot[i] + node;
        bit = wn_mix(m, c, state, n, m->weight + group * 8, bit);
        code = code << 1 | (uint32_t)bit;
        path = path << 1 | (uint32_t)bit;
        node = node << 1 | (uint32_t)bit;
        depth++;
        if (code - a->first[depth] < a->count[depth])
            return a->offset[depth] + code - a->first[depth];
    }
    return 0; /* a damaged stream */
}

/* ---- the data ---- */

typedef struct wn_data {
    uint32_t n_synsets, n_tokens, n_words, n_vectors, dim, n_chars;
    uint32_t word_bytes, rare_bytes;
    float step;
    uint16_t words_by_length[32], chars_by_length[32];
    uint8_t chars[256];
    char *words;         /* spellings, each with its NUL                                          */
    uint32_t *word_at;   /* [n_words] offsets into words                                          */
    uint8_t *has_vector; /* [n_words]                                                             */
    char *rare;          /* spellings of the escaped tokens in order of appearance                */
    uint32_t *tokens;    /* [n_tokens] word numbers                                               */
    int8_t *vectors;     /* [n_vectors, dim], of the words that have one, in their order          */
    char *text;          /* headwords and definitions, each with its NUL                          */
    uint32_t *head;      /* [n_synsets] offsets into text                                         */
    uint32_t *gloss;
} wn_data;

/* Writes or reads one spelling at s, NUL included, at most room bytes. Returns its bytes. */
static uint32_t wn_spell(wn_model *m, wn_coder *c, const wn_data *d, const wn_alphabet *letters,
                         char *s, uint32_t room, const char *before, uint32_t topic)
{
    uint32_t recent = 0, older = 0, n = 0;
    int same = 1; /* still a common prefix with the spelling before */
    while (n < room) {
        uint32_t context[6], symbol = 0;
        uint8_t expected = (uint8_t)*before;
        context[0] = wn_hash(1, topic);
        context[1] = wn_hash(2, recent & 0xFFu);
        context[2] = wn_hash(3, recent & 0xFFFFu);
        context[3] = wn_hash(4, recent & 0xFFFFFFu);
        context[4] = wn_hash(5 + older, recent);
        context[5] = wn_hash(6 + topic, same ? expected | n << 8 : recent << 16 | 0x8000u);
        if (c->writing)
            while (d->chars[symbol] != (uint8_t)s[n])
                symbol++;
        symbol = wn_symbol(m, c, letters, context, 6, 1, symbol);
        s[n] = (char)d->chars[symbol];
        same = same && (uint8_t)s[n] == expected;
        before += *before != 0;
        older = recent >> 24;
        recent = recent << 8 | (uint8_t)s[n];
        if (s[n++] == 0)
            return n;
    }
    if (n > 0)
        s[n - 1] = 0;
    return n;
}

/* The vocabulary, then the tokens. Returns 0, or -1 when the stream contradicts the header. */
static int wn_text(wn_model *m, wn_coder *c, wn_data *d)
{
    wn_alphabet letters, words;
    uint32_t at = 0, rare = 0, last[3] = {0, 0, 0}, in_head = 1, escape = d->n_words;
    const char *before = "";
    wn_alphabet_init(&letters, d->chars_by_length);
    wn_alphabet_init(&words, d->words_by_length);
    for (uint32_t i = 0, length = 0; i < d->n_words; i++) {
        char *s = d->words + at;
        if (at >= d->word_bytes)
            return -1;
        while (i >= words.offset[length] + words.count[length])
            length++;
        d->word_at[i] = at;
        at += wn_spell(m, c, d, &letters, s, d->word_bytes - at, before, length);
        d->has_vector[i] = (uint8_t)wn_plain(
            m, c, &m->bits[length * 2 + (*s >= 'a' && *s <= 'z')], d->has_vector[i]);
        if (strcmp(s, WN_ESCAPE) == 0)
            escape = i;
        before = s;
    }
    for (uint32_t i = 0; i < d->n_tokens; i++) {
        uint32_t context[3], t;
        context[0] = in_head;
        context[1] = wn_hash(11 + in_head, last[0]);
        context[2] = wn_hash(13 + last[1], last[0]);
        t = wn_symbol(m, c, &words, context, 3, 0, d->tokens[i]);
        if (t >= d->n_words)
            return -1;
        d->tokens[i] = t;
        if (t == escape) {
            if (rare >= d->rare_bytes)
                return -1;
            rare += wn_spell(m, c, d, &letters, d->rare + rare, d->rare_bytes - rare, "",
                             100 + in_head);
        } else if (d->words[d->word_at[t]] == '\t') {
            in_head = 0;
        } else if (d->words[d->word_at[t]] == '\n') {
            in_head = 1;
        }
        last[1] = last[0];
        last[0] = t + 1;
    }
    return 0;
}

/* Each component: is it zero, its sign, then its size in unary, counted per dimension. */
static void wn_vectors(wn_model *m, wn_coder *c, wn_data *d)
{
    uint32_t *state = m->slot[0]; /* [dim][8], any memory of the model will do */
    for (uint32_t i = 0; i < d->dim * 8; i++)
        state[i] = 0x80000000u;
    for (size_t i = 0; i < (size_t)d->n_vectors * d->dim; i++) {
        uint32_t *s = state + i % d->dim * 8;
        int value = d->vectors[i], size = value < 0 ? -value : value, n = 0;
        while (n < 127 && wn_plain(m, c, s + (n < 7 ? n : 7), n < size))
            n++;
        d->vectors[i] = (int8_t)(n && wn_bit(c, 32768, value < 0) ? -n : n);
    }
}

static int wn_is_word(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
}

/* Tokens to strings: text NULL only counts the bytes. Returns the bytes, 0 for a damaged stream. */
static size_t wn_join(wn_data *d, char *text)
{
    const char *rare = d->rare;
    size_t n = 0;
    uint32_t synset = 0;
    int blank = 0, tabs = 0;
    for (uint32_t i = 0; i < d->n_tokens; i++) {
        const char *s = d->words + d->word_at[d->tokens[i]];
        size_t length;
        if (strcmp(s, WN_ESCAPE) == 0) {
            s = rare;
            rare += strlen(rare) + 1;
        }
        length = strlen(s);
        if (*s == '\t' || *s == '\n') {
            if (synset >= d->n_synsets || tabs != (*s == '\n'))
                return 0;
            tabs = *s == '\t';
            if (text) {
                text[n] = 0;
                *(tabs ? &d->gloss[synset] : &d->head[synset + 1]) = (uint32_t)n + 1;
            }
            n++;
            synset += !tabs;
            blank = 0;
            continue;
        }
        if (blank && wn_is_word(*s)) {
            if (text)
                text[n] = ' ';
            n++;
        }
        if (text)
            memcpy(text + n, s, length);
        n += length;
        blank = wn_is_word(*s);
    }
    return synset == d->n_synsets ? n : 0;
}

static uint32_t wn_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t wn_fnv(const uint8_t *p, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 16777619u;
    return h;
}

static void wn_free(wn_data *d)
{
    free(d->words);
    free(d->word_at);
    free(d->has_vector);
    free(d->rare);
    free(d->tokens);
    free(d->vectors);
    free(d->text);
    free(d->head);
    free(d->gloss);
    memset(d, 0, sizeof *d);
}

/* Decodes a file image. Returns NULL, or what is wrong with it. */
static const char *wn_load(wn_data *d, uint8_t *file, size_t bytes)
{
    wn_model *m;
    wn_coder c;
    uint32_t h[16], words = 0, chars = 0;
    size_t n_text;
    int bad;
    memset(d, 0, sizeof *d);
    if (bytes < WN_HEADER_BYTES || memcmp(file, "RVWN", 4) != 0 || wn_u32(file + 4) != 1)
        return "not a WordNet data file of version 1";
    for (int i = 0; i < 16; i++)
        h[i] = wn_u32(file + 4 * i);
    for (int i = 2; i < 12; i++)
        if (h[i] > 100000000u || h[i] == 0)
            return "a count in the header is out of range";
    if (h[9] > 256 || h[8] > 1024 || WN_HEADER_BYTES + h[9] + h[10] + h[11] != bytes ||
        wn_fnv(file + 64, bytes - 64) != h[13])
        return "the file is truncated or damaged";
    d->n_synsets = h[2];
    d->n_tokens = h[3];
    d->n_words = h[4];
    d->word_bytes = h[5];
    d->rare_bytes = h[6];
    d->n_vectors = h[7];
    d->dim = h[8];
    d->n_chars = h[9];
    memcpy(&d->step, &h[12], 4);
    for (int i = 0; i < 32; i++) {
        d->words_by_length[i] = (uint16_t)(file[64 + 2 * i] | file[65 + 2 * i] << 8);
        d->chars_by_length[i] = (uint16_t)(file[128 + 2 * i] | file[129 + 2 * i] << 8);
        words += d->words_by_length[i];
        chars += d->chars_by_length[i];
    }
    if (words != d->n_words || chars != d->n_chars)
        return "the code lengths do not agree with the counts";
    memcpy(d->chars, file + WN_HEADER_BYTES, d->n_chars);
    m = (wn_model *)malloc(sizeof *m);
    d->words = (char *)malloc(d->word_bytes);
    d->word_at = (uint32_t *)calloc(d->n_words, 4);
    d->has_vector = (uint8_t *)calloc(d->n_words, 1);
    d->rare = (char *)calloc(d->rare_bytes + 1, 1);
    d->tokens = (uint32_t *)calloc(d->n_tokens, 4);
    d->vectors = (int8_t *)calloc(d->n_vectors, d->dim);
    d->head = (uint32_t *)calloc(d->n_synsets + 1, 4);
    d->gloss = (uint32_t *)calloc(d->n_synsets + 1, 4);
    bad = !m || !d->words || !d->word_at || !d->has_vector || !d->rare || !d->tokens ||
          !d->vectors || !d->head || !d->gloss;
    if (!bad) {
        wn_model_init(m);
        wn_start(&c, file + WN_HEADER_BYTES + h[9], h[10], 0);
        bad = wn_text(m, &c, d) != 0;
        wn_start(&c, file + WN_HEADER_BYTES + h[9] + h[10], h[11], 0);
        wn_vectors(m, &c, d);
    }
    free(m);
    if (!bad) {
        n_text = wn_join(d, NULL);
        d->text = n_text ? (char *)malloc(n_text) : NULL;
        bad = !d->text;
        if (!bad)
            wn_join(d, d->text);
    }
    if (bad)
        wn_free(d);
    return bad ? "out of memory, or a damaged stream" : NULL;
}

#endif /* WORDNET_H */
