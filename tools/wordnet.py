#!/usr/bin/env python3
"""Makes examples/data/wordnet.bin, the text and word vectors of `make demo`.

    apt-get install wordnet-base
    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy scipy
    /tmp/venv/bin/python tools/wordnet.py                      # about a minute
    /tmp/venv/bin/python tools/wordnet.py --check              # decodes the file, compares the text

Input: data.{noun,verb,adj,adv} of WordNet 3.0 as packaged by Debian (wordnet-base 1:3.0-37). Its
licence permits redistribution and must travel with the data: examples/data/WORDNET-LICENSE is
written from the comment lines at the head of data.noun. Also made: examples/data/firmware.h, 256 of
the words with their vectors as C arrays.

Output: for each of the 117,659 synsets its first word and its definition (usage examples are left
out), and one vector of 128 signed bytes for every word that occurs at least three times. The format
is described in examples/wordnet.h, which is also the encoder: this script compiles it with cc.

Vectors: every synset makes a bag of words: all its words, definition and usage examples and, with
smaller weights, the words and definitions of the synsets it points to (hypernyms, parts, derived
forms, ...). Two words co-occur when they share a bag; the counts are divided by the bag's size, and
turned into positive pointwise mutual information with context counts raised to 0.75 (Levy,
Goldberg, Dagan, 2015). Truncated SVD by subspace iteration; the left singular vectors, each row
scaled to length one, rounded to whole multiples of one step. Endings (plural, -ed, -ing) are taken
off when what remains is a known word and the form is neither frequent nor a headword in -s, such as
"news"; find_root in examples/phrases.h does the same to a query.

The same input and the same numpy give the same bytes (one BLAS thread). The committed file was made
with Python 3.11.7, numpy 2.4.6, scipy 1.17.1."""

import argparse
import collections
import ctypes
import heapq
import os
import re
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILES = (("n", "noun"), ("v", "verb"), ("a", "adj"), ("r", "adv"))
DIM = 128
STEP = 0.75          # of the components' standard deviation
MIN_COUNT = 3        # of a word that gets a vector
STOP = 150           # the most frequent words keep their endings,
OFTEN = 40           # and so do headwords that occur as often as this or end in -s
# weight of the words of a synset at the other end of a pointer; its definition counts 0.4 of that
POINTERS = {"@": .3, "@i": .3, "~": .1, "~i": .1, "&": .5, "%p": .4, "#p": .3, "%s": .3, "%m": .3,
            "#m": .2, "#s": .2,
            "+": .3, "!": .2, "\\": .4, "=": .4, "*": .4, ">": .4, "<": .4, "$": .4, "^": .3,
            ";c": .4, ";r": .2}
ENDINGS = (("ies", "y"), ("s", ""), ("es", ""), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"))


class Synset:
    """One line of a data file (man wndb)."""

    def __init__(self, kind, line):
        self.kind = kind
        fields, gloss = line.rstrip("\n").split("|", 1)
        fields = fields.split()
        n_words = int(fields[3], 16)
        words = fields[4:4 + 2 * n_words:2]
        self.words = [re.sub(r"\((a|p|ip)\)$", "", w).replace("_", " ") for w in words]
        at = 4 + 2 * n_words
        self.pointers = []
        for i in range(int(fields[at])):
            symbol, offset, kind = fields[at + 1 + 4 * i:at + 4 + 4 * i]
            self.pointers.append((symbol, ("a" if kind == "s" else kind, offset)))
        gloss = gloss.strip()
        self.definition = re.sub(r';?\s*"[^"]*"?[^;"]*', "", gloss).strip().strip(";").strip()
        self.usage = " ".join(re.findall(r'"([^"]*)"', gloss))


def read_synsets(folder):
    synsets, index = [], {}
    for kind, name in FILES:
        with open(os.path.join(folder, "data." + name), encoding="latin-1") as lines:
            for line in lines:
                if not line.startswith(" "):
                    index[kind, line[:8]] = len(synsets)
                    synsets.append(Synset(kind, line))
    return synsets, index


def write_license(folder, path):
    with open(os.path.join(folder, "data.noun"), encoding="latin-1") as lines:
        text = [re.sub(r"^ +\d+ ?", "", line).rstrip() for line in lines if line.startswith(" ")]
    with open(path, "w", encoding="ascii", newline="\n") as out:
        out.write("wordnet.bin, firmware.h and mammals.h are made from WordNet 3.0, derived works under this\n"
                  "licence:\n\n")
        out.write("\n".join(text).strip() + "\n")


# ---- text -------------------------------------------------------------------------------------

def tokens_of(text):
    return [t for t in re.findall(r"[A-Za-z0-9]+|[^A-Za-z0-9]+", text) if t != " "]


def words_of(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def huffman(counts):
    """Code lengths; ties broken by symbol, so that the result is the same everywhere."""
    heap = [(n, i, (symbol,)) for i, (symbol, n) in enumerate(sorted(counts.items()))]
    lengths = dict.fromkeys(counts, 0)
    heapq.heapify(heap)
    serial = len(heap)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in a[2] + b[2]:
            lengths[symbol] += 1
        heapq.heappush(heap, (a[0] + b[0], serial, a[2] + b[2]))
        serial += 1
    return lengths


def canonical(counts):
    lengths = huffman(counts)
    assert max(lengths.values()) < 31
    order = sorted(lengths, key=lambda s: (lengths[s], s.lower(), s))
    by_length = [0] * 32
    for symbol in order:
        by_length[lengths[symbol]] += 1
    return order, by_length


# ---- vectors ----------------------------------------------------------------------------------

class Stemmer:
    def __init__(self, counts, known, headwords):
        self.known = known
        self.keep = {w for w in headwords if w.endswith("s") or counts[w] >= OFTEN}
        self.keep |= {w for w, _ in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[:STOP]}
        self.cache = {}

    def __call__(self, word):
        if word not in self.cache:
            self.cache[word] = word if word in self.keep else self.strip(word)
        return self.cache[word]

    def strip(self, word):
        for ending, instead in ENDINGS:
            stem = word[:-len(ending)]
            if word.endswith(ending) and len(stem) >= 3 and not word.endswith("ss"):
                if stem + instead in self.known:
                    return stem + instead
                if len(ending) > 1 and stem[-1] == stem[-2] and stem[:-1] in self.known:
                    return stem[:-1]
        return word


def subspace_svd(np, matrix, k, rounds=5):
    """Leading k left singular vectors of a symmetric-shaped sparse matrix."""
    y = matrix @ np.random.default_rng(1).standard_normal((matrix.shape[1], k + 24))
    for _ in range(rounds):
        y, _ = np.linalg.qr(y)
        z, _ = np.linalg.qr(matrix.T @ y)
        y = matrix @ z
    q, _ = np.linalg.qr(y)
    u, _, _ = np.linalg.svd((matrix.T @ q).T, full_matrices=False)
    return (q @ u)[:, :k]


def train(synsets, index, text_words):
    """Returns ({word: row}, int8 rows, step)."""
    import numpy as np
    import scipy.sparse as sp
    counts = collections.Counter()
    for s in synsets:
        counts.update(words_of(s.words[0]) + words_of(s.definition))
    headwords = {w.lower() for s in synsets for w in s.words}
    stem = Stemmer(counts, {w for w in counts if w in text_words}, headwords)
    own = [[stem(w) for x in s.words for w in words_of(x)] for s in synsets]
    definition = [[stem(w) for w in words_of(s.definition)] for s in synsets]
    usage = [[stem(w) for w in words_of(s.usage)] for s in synsets]
    stems = collections.Counter()
    for word, n in counts.items():
        stems[stem(word)] += n
    vocabulary = sorted(w for w, n in stems.items() if n >= MIN_COUNT and w in text_words)
    row = {w: i for i, w in enumerate(vocabulary)}
    rows, columns, values = [], [], []
    for i, s in enumerate(synsets):
        bag = collections.Counter()
        for weight, words in ((1, own[i]), (1, definition[i]), (.5, usage[i])):
            for w in words:
                bag[w] += weight
        for symbol, target in s.pointers:
            weight = POINTERS.get(symbol, 0)
            if weight:
                for w in own[index[target]]:
                    bag[w] += weight
                for w in definition[index[target]]:
                    bag[w] += weight * .4
        for w, x in bag.items():
            if w in row:
                rows.append(row[w])
                columns.append(i)
                values.append(x)
    bags = sp.csr_matrix((values, (rows, columns)), shape=(len(row), len(synsets)))
    size = np.maximum(np.asarray(bags.sum(0)).ravel(), 1e-9)
    pairs = ((bags @ sp.diags(1 / size)) @ bags.T).tocsr()
    pairs.setdiag(pairs.diagonal() * .2)
    pairs = pairs.tocoo()
    total = np.asarray(pairs.tocsr().sum(1)).ravel()
    context = total ** .75
    pmi = np.log(pairs.data * context.sum() / (total[pairs.row] * context[pairs.col]))
    keep = pmi > 0
    pmi = sp.csr_matrix((pmi[keep], (pairs.row[keep], pairs.col[keep])), shape=pairs.shape)
    vectors = subspace_svd(np, pmi, DIM)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    step = float(np.float32(vectors.std() * STEP))
    return row, np.clip(np.rint(vectors / step), -127, 127).astype(np.int8), step


def write_firmware(path, synsets, row, vectors, text_counts):
    """The most frequent plain nouns and their vectors as C arrays, for examples/firmware.c."""
    kinds = collections.defaultdict(set)
    for s in synsets:
        for w in s.words:
            kinds[w].add(s.kind)
    nouns = [w for w in sorted(row, key=lambda w: (-text_counts[w], w))
             if kinds[w] in ({"n"}, {"n", "v"}) and len(w) > 3][:256]
    nouns.sort()
    with open(path, "w", encoding="ascii", newline="\n") as out:
        out.write("/* Generated by tools/wordnet.py from WordNet 3.0, see WORDNET-LICENSE. */\n"
                  "#define FIRMWARE_WORDS %d\n#define FIRMWARE_DIM %d\n"
                  "static const char *const firmware_words[FIRMWARE_WORDS] = {\n    %s};\n"
                  "static const int8_t firmware_vectors[FIRMWARE_WORDS][FIRMWARE_DIM] = {\n%s};\n"
                  % (len(nouns), vectors.shape[1], wrap('"%s"' % w for w in nouns),
                     ",\n".join("    {%s}" % wrap(map(str, vectors[row[w]]), ",") for w in nouns)))


def wrap(items, between=", "):
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) > 90:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += item + between
    lines[-1] = lines[-1][:-len(between)]
    return "\n     ".join(lines)


# ---- file -------------------------------------------------------------------------------------

class Data(ctypes.Structure):
    """wn_data of examples/wordnet.h."""
    _fields_ = ([(f, ctypes.c_uint32) for f in ("n_synsets", "n_tokens", "n_words", "n_vectors",
                                                "dim", "n_chars", "word_bytes", "rare_bytes")] +
                [("step", ctypes.c_float), ("words_by_length", ctypes.c_uint16 * 32),
                 ("chars_by_length", ctypes.c_uint16 * 32), ("chars", ctypes.c_uint8 * 256)] +
                [(f, ctypes.c_void_p) for f in ("words", "word_at", "has_vector", "rare", "tokens",
                                                "vectors", "text", "head", "gloss")])


GLUE = r'''
#include "wordnet.h"
#include <stdio.h>
static void wn_finish(wn_coder *c)
{
    for (int i = 24; i >= 0 && c->at < c->end; i -= 8)
        *c->at++ = (uint8_t)(c->high >> i);
}
static void put(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> 8 * i);
}
size_t encode(wn_data *d, uint8_t *file, size_t room)
{
    wn_model *m = (wn_model *)malloc(sizeof *m);
    wn_coder c;
    uint8_t *text = file + WN_HEADER_BYTES + d->n_chars, *vectors, *end;
    uint32_t h[12];
    wn_model_init(m);
    wn_start(&c, text, room - WN_HEADER_BYTES - 256, 1);
    if (wn_text(m, &c, d)) return 0;
    wn_finish(&c);
    vectors = c.at;
    wn_start(&c, vectors, room - (size_t)(vectors - file), 1);
    wn_vectors(m, &c, d);
    wn_finish(&c);
    end = c.at;
    free(m);
    memset(file, 0, WN_HEADER_BYTES);
    memcpy(file, "RVWN", 4);
    h[1] = 1; h[2] = d->n_synsets; h[3] = d->n_tokens; h[4] = d->n_words; h[5] = d->word_bytes;
    h[6] = d->rare_bytes; h[7] = d->n_vectors; h[8] = d->dim; h[9] = d->n_chars;
    h[10] = (uint32_t)(vectors - text); h[11] = (uint32_t)(end - vectors);
    for (int i = 1; i < 12; i++) put(file + 4 * i, h[i]);
    memcpy(h, &d->step, 4);
    put(file + 48, h[0]);
    for (int i = 0; i < 32; i++) {
        file[64 + 2 * i] = (uint8_t)d->words_by_length[i];
        file[65 + 2 * i] = (uint8_t)(d->words_by_length[i] >> 8);
        file[128 + 2 * i] = (uint8_t)d->chars_by_length[i];
        file[129 + 2 * i] = (uint8_t)(d->chars_by_length[i] >> 8);
    }
    memcpy(file + WN_HEADER_BYTES, d->chars, d->n_chars);
    put(file + 52, wn_fnv(file + 64, (size_t)(end - file) - 64));
    return (size_t)(end - file);
}
int dump(uint8_t *file, size_t bytes)
{
    wn_data d;
    const char *error = wn_load(&d, file, bytes);
    if (error) { fprintf(stderr, "%s\n", error); return 1; }
    for (uint32_t i = 0; i < d.n_synsets; i++)
        printf("%s\t%s\n", d.text + d.head[i], d.text + d.gloss[i]);
    fflush(stdout);
    wn_free(&d);
    return 0;
}
'''


def coder():
    folder = tempfile.mkdtemp()
    source, library = os.path.join(folder, "glue.c"), os.path.join(folder, "glue.so")
    with open(source, "w", encoding="ascii") as out:
        out.write(GLUE)
    subprocess.check_call(["cc", "-O2", "-shared", "-fPIC", "-I" + os.path.join(ROOT, "examples"),
                           source, "-o", library])
    return ctypes.CDLL(library)


def text_of(synsets):
    return "".join("%s\t%s\n" % (" ".join(s.words[0].split()), " ".join(s.definition.split()))
                   for s in synsets)


def build(synsets, index, path):
    stream, rare = [], []
    for line in text_of(synsets).splitlines():
        head, definition = line.split("\t")
        stream += tokens_of(head) + ["\t"] + tokens_of(definition) + ["\n"]
    counts = collections.Counter(stream)
    frequent = {t: n for t, n in counts.items() if n > 1}
    frequent["\x01"] = sum(1 for n in counts.values() if n == 1)
    order, words_by_length = canonical(frequent)
    number = {t: i for i, t in enumerate(order)}
    rare = [t for t in stream if t not in number]
    char_counts = collections.Counter("\0".join(order + rare) + "\0")
    chars, chars_by_length = canonical(char_counts)
    row, vectors, step = train(synsets, index, {t.lower() for t in order if t.isalnum()})
    write_firmware(os.path.join(os.path.dirname(path), "firmware.h"), synsets, row, vectors,
                   collections.Counter(t.lower() for t in stream))
    flags, rows = [], []
    for t in order:
        i = row.pop(t.lower(), None)
        flags.append(0 if i is None else 1)
        rows += [] if i is None else [i]
    assert not row
    vectors = vectors[rows]

    spelled = ("\0".join(order) + "\0").encode("latin-1")
    spelled_rare = ("\0".join(rare) + "\0").encode("latin-1")
    keep = [ctypes.create_string_buffer(spelled, len(spelled)), (ctypes.c_uint32 * len(order))(),
            (ctypes.c_uint8 * len(order))(*flags),
            ctypes.create_string_buffer(spelled_rare, len(spelled_rare)),
            (ctypes.c_uint32 * len(stream))(*[number.get(t, number["\x01"]) for t in stream]),
            ctypes.create_string_buffer(vectors.tobytes(), vectors.size)]
    data = Data(len(synsets), len(stream), len(order), len(rows), DIM, len(chars), len(spelled),
                len(spelled_rare), step)
    data.words_by_length[:] = words_by_length
    data.chars_by_length[:] = chars_by_length
    data.chars[:len(chars)] = "".join(chars).encode("latin-1")
    for field, buffer in zip(("words", "word_at", "has_vector", "rare", "tokens", "vectors"), keep):
        setattr(data, field, ctypes.cast(buffer, ctypes.c_void_p))
    room = 64 << 20
    out = ctypes.create_string_buffer(room)
    library = coder()
    library.encode.restype = ctypes.c_size_t
    n = library.encode(ctypes.byref(data), out, ctypes.c_size_t(room))
    assert n
    with open(path, "wb") as f:
        f.write(out.raw[:n])
    header = memoryview(out.raw[:64]).cast("I")
    print("%s: %d bytes: %d synsets, %d tokens, %d words, %d rare; text %d, %d vectors %d bytes"
          % (path, n, len(synsets), len(stream), len(order), len(rare), header[10], len(rows),
             header[11]))


def check(synsets, path):
    with open(path, "rb") as f:
        file = f.read()
    code = ("import ctypes,sys; b=open(sys.argv[2],'rb').read(); "
            "sys.exit(ctypes.CDLL(sys.argv[1]).dump(b, ctypes.c_size_t(len(b))))")
    got = subprocess.run([sys.executable, "-c", code, coder()._name, path], stdout=subprocess.PIPE,
                         check=True).stdout
    if got != text_of(synsets).encode("latin-1"):
        sys.exit("%s: the decoded text differs from WordNet's" % path)
    print("%s: %d bytes, %d synsets, text equal" % (path, len(file), len(synsets)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--dict", default="/usr/share/wordnet", help="folder of data.noun")
    parser.add_argument("--out", default=os.path.join(ROOT, "examples", "data", "wordnet.bin"))
    parser.add_argument("--check", action="store_true", help="decode the file, compare its text")
    args = parser.parse_args()
    synsets, index = read_synsets(args.dict)
    if not args.check:
        build(synsets, index, args.out)
        write_license(args.dict, os.path.join(os.path.dirname(args.out), "WORDNET-LICENSE"))
    check(synsets, args.out)


if __name__ == "__main__":
    main()
