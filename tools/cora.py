#!/usr/bin/env python3
"""Makes cora.bin, which examples/gat_cora.c reads, from the files that the authors of Graph attention
networks published at github.com/PetarV-/GAT: the citation graph in data/ and the trained weights in
pre_trained/cora/. Needs numpy; nothing of it is part of this repository.

    python3 tools/cora.py --gat GAT --out folder
    GAT_CORA=folder ./gat_cora

Format, little-endian 32-bit words: nodes, features, classes, heads, hidden, edges, non-zero features,
test nodes; then graph start [nodes + 1], index [edges]; features start [nodes + 1], index, value;
labels [nodes]; test [test nodes]; both layers' parameters in the order of RV_GNN_EDGE_GAT. The authors'
logits carry a constant per head inside the leaky ReLU: here it is the score of an edge feature that is 1
on all edges."""

import argparse
import os
import pickle

import numpy


class Stub:
    """A scipy matrix without scipy: its fields."""
    def __setstate__(self, state):
        self.__dict__.update(state)


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if name == "csr_matrix":
            return Stub
        if name == "_reconstruct":
            return numpy.empty(0).__reduce__()[0]
        if (module, name) in (("collections", "defaultdict"), ("__builtin__", "list")):
            return super().find_class(module.replace("__builtin__", "builtins"), name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(numpy, name)
        raise pickle.UnpicklingError("%s.%s is not expected in these files" % (module, name))


def load(folder, name):
    with open(os.path.join(folder, "data", "ind.cora." + name), "rb") as file:
        return Unpickler(file, encoding="latin1").load()


def sparse_rows(matrix):
    """[(columns, values)] with columns ascending."""
    rows = []
    for begin, end in zip(matrix.indptr, matrix.indptr[1:]):
        order = numpy.argsort(matrix.indices[begin:end])
        rows.append((matrix.indices[begin:end][order], matrix.data[begin:end][order]))
    return rows


def dataset(folder):
    """Graph rows, feature rows, labels, test nodes: as utils/process.py there puts them together."""
    test = [int(line) for line in open(os.path.join(folder, "data", "ind.cora.test.index"))]
    features = sparse_rows(load(folder, "allx")) + sparse_rows(load(folder, "tx"))
    labels = numpy.vstack([load(folder, "ally"), load(folder, "ty")]).argmax(1)
    moved, labels_moved = list(features), labels.copy()
    for to, origin in zip(test, sorted(test)):
        moved[to], labels_moved[to] = features[origin], labels[origin]
    near = [set() for _ in moved]
    for i, js in load(folder, "graph").items():
        for j in js:
            near[i].add(j)
            near[j].add(i)
    features = [(columns, values / values.sum()) for columns, values in moved]
    return [sorted(js) for js in near], features, labels_moved, sorted(test)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


def fields(data):
    """{number: value} of a protocol buffer."""
    at, found = 0, {}
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            found[key >> 3], at = varint(data, at)
        else:
            size, at = (4, at) if key & 7 == 5 else varint(data, at)
            found[key >> 3] = data[at:at + size]
            at += size
    return found


def table(data, offset, size):
    """[(key, value)] of a block of the checkpoint's index, a sorted string table."""
    end = offset + size - 4 - 4 * int.from_bytes(data[offset + size - 4:offset + size], "little")
    at, key, rows = offset, b"", []
    while at < end:
        shared, at = varint(data, at)
        more, at = varint(data, at)
        length, at = varint(data, at)
        key = key[:shared] + data[at:at + more]
        rows.append((key, data[at + more:at + more + length]))
        at += more + length
    return rows


def checkpoint(folder):
    """{name: array} of all float variables."""
    path = os.path.join(folder, "pre_trained", "cora", "mod_cora.ckpt")
    data = open(path + ".index", "rb").read()
    values = open(path + ".data-00000-of-00001", "rb").read()
    at = len(data) - 48
    _, at = varint(data, at)
    _, at = varint(data, at)
    offset, at = varint(data, at)
    size, at = varint(data, at)
    arrays = {}
    for _, handle in table(data, offset, size):
        begin, used = varint(handle, 0)
        for name, value in table(data, begin, varint(handle, used)[0]):
            entry = fields(value)
            if name and entry.get(1) == 1:
                at, count = entry.get(4, 0), entry[5]
                arrays[name.decode()] = numpy.frombuffer(values[at:at + count], "<f4")
    return arrays


def layer(arrays, first, heads, out):
    """Heads first ..: each has three convolutions (W, destinations' a, sources' a) and a bias."""
    def name(stem, i, leaf):
        return stem + ("_%d" % i if i else "") + "/" + leaf
    w, src, dst, bias, constant = [], [], [], [], []
    for head in range(first, first + heads):
        w.append(arrays[name("conv1d", 3 * head, "kernel")].reshape(-1, out).T)
        dst.append(arrays[name("conv1d", 3 * head + 1, "kernel")])
        src.append(arrays[name("conv1d", 3 * head + 2, "kernel")])
        constant.append(arrays[name("conv1d", 3 * head + 1, "bias")] + arrays[name("conv1d", 3 * head + 2, "bias")])
        bias.append(arrays[name("BiasAdd", head, "biases")])
    ones, edge = numpy.zeros((heads, out), "<f4"), numpy.zeros((heads, out), "<f4")
    ones[:, 0] = 1
    edge[:, 0] = numpy.concatenate(constant)
    return numpy.concatenate([numpy.concatenate(w).reshape(-1), ones.reshape(-1), numpy.concatenate(src),
                              numpy.concatenate(dst), edge.reshape(-1), numpy.concatenate(bias)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--gat", required=True, help="a copy of github.com/PetarV-/GAT")
    parser.add_argument("--out", required=True, help="folder for cora.bin")
    options = parser.parse_args()
    near, features, labels, test = dataset(options.gat)
    arrays = checkpoint(options.gat)
    heads, hidden, classes, n_features = 8, 8, 7, 1433
    parts = [[len(near), n_features, classes, heads, hidden, sum(map(len, near)),
              sum(len(columns) for columns, _ in features), len(test)]]
    for rows in (near, [columns for columns, _ in features]):
        parts += [numpy.cumsum([0] + [len(row) for row in rows]), numpy.concatenate(rows)]
    words = [numpy.asarray(part).astype("<u4").tobytes() for part in parts]
    words += [numpy.concatenate([values for _, values in features]).astype("<f4").tobytes(),
              labels.astype("<u4").tobytes(), numpy.asarray(test).astype("<u4").tobytes(),
              layer(arrays, 0, heads, hidden).astype("<f4").tobytes(),
              layer(arrays, heads, 1, classes).astype("<f4").tobytes()]
    os.makedirs(options.out, exist_ok=True)
    with open(os.path.join(options.out, "cora.bin"), "wb") as file:
        file.write(b"".join(words))
    print("cora: %d nodes, %d edges, %d test nodes" % (parts[0][0], parts[0][5], parts[0][7]))


if __name__ == "__main__":
    main()
