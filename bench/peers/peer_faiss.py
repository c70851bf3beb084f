"""faiss through its Python package, obeying the same lines as peer.h.

Queries per second come from whole-batch calls (the form that costs Python nothing), p50 and p99
from single calls, which carry some microseconds of Python each. Settings as in peer_faiss.cpp.
"""
import os
import sys
import time

import faiss
import numpy as np


def rss():
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def open_set(folder):
    with open(folder + "/meta") as f:
        meta = dict(word.split("=") for word in f.read().split())
    n, dim, nq, gk = (int(meta[x]) for x in ("n", "dim", "n_query", "gt_k"))
    load = lambda name, kind, shape: np.memmap(folder + name, kind, "r", shape=shape)
    return (load("/base.f32", "<f4", (n, dim)), np.array(load("/query.f32", "<f4", (nq, dim))),
            np.array(load("/gt.i32", "<i4", (nq, gk))), np.array(load("/gt.f64", "<f8", (nq, gk))))


def count_right(base, query, gt, gd, found):
    right = 0
    for q in range(len(found)):
        exact = set(gt[q, :10].tolist())
        seen = set()
        for one in found[q].tolist():
            if one < 0 or one >= len(base) or one in seen:
                continue
            seen.add(one)
            if one in exact:
                right += 1
            else:
                diff = base[one].astype("f8") - query[q].astype("f8")
                right += int((diff * diff).sum() <= gd[q, 9] * (1 + 1e-6))
    return right


class Faiss:
    def __init__(self, kind):
        self.kind, self.index = kind, None

    def build(self, base):
        n, dim = base.shape
        if self.kind == "hnsw":
            self.index = faiss.IndexHNSWFlat(dim, 16)
            self.index.hnsw.efConstruction = 200
        else:
            lists = 1
            while lists < 4 * n ** 0.5:
                lists *= 2
            m = dim // 4 if dim >= 512 else dim // 2
            self.index = faiss.index_factory(dim, "IVF%d,PQ%dx4fs,RFlat" % (lists, m))
            self.index.train(base)
        self.index.add(base)

    def set_ef(self, ef):
        if self.kind == "hnsw":
            self.index.hnsw.efSearch = ef
        else:
            refine = faiss.downcast_index(self.index)
            refine.k_factor = 10
            faiss.downcast_index(refine.base_index).nprobe = ef


def main():
    folder, kind = sys.argv[1], sys.argv[2]
    file = sys.argv[3] if len(sys.argv) > 3 else ""
    base, query, gt, gd = open_set(folder)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = Faiss(kind)
    before = rss()
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        args = [float(x) for x in rest] + [0, 0, 0]
        if word == "quit":
            break
        if word == "build":
            faiss.omp_set_num_threads(int(args[0]))
            start, cpu = time.perf_counter(), time.process_time()
            peer.build(base)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            print("built seconds=%.3f cpu=%.3f rss=%d heap=0 own=0" % (
                seconds, cpu, rss() - before), file=out)
        elif word == "restore":
            ok = bool(file) and os.path.exists(file)
            if ok:
                peer.index = faiss.read_index(file)
                ok = peer.index.ntotal == len(base)
            print("restored ok=%d rss=%d heap=0 own=0" % (ok, rss() - before), file=out)
        elif word == "keep":
            if file:
                faiss.write_index(peer.index, file)
            print("kept ok=%d" % bool(file), file=out)
        elif word == "search":
            n = int(args[2]) if 0 < args[2] < len(query) else len(query)
            faiss.omp_set_num_threads(int(args[1]))
            peer.set_ef(int(args[0]))
            peer.index.search(query[:20], 10)
            clock = time.thread_time if args[1] == 1 else time.perf_counter
            start = clock()
            _, found = peer.index.search(query[:n], 10)
            seconds = clock() - start
            single = []
            for q in range(min(n, 500)):
                t = time.perf_counter()
                peer.index.search(query[q:q + 1], 10)
                single.append((time.perf_counter() - t) * 1e6)
            single.sort()
            right = count_right(base, query, gt, gd, found)
            print("searched recall=%.5f qps=%.1f p50=%.2f p99=%.2f" % (
                right / (n * 10), n / seconds, single[len(single) // 2],
                single[len(single) * 99 // 100]), file=out)
        elif word == "add":
            faiss.omp_set_num_threads(1)
            cpu = time.thread_time()
            done = 0
            while done < args[0] and done < len(query) and time.thread_time() - cpu < args[1]:
                peer.index.add(query[done:done + 1])
                done += 1
            seconds = time.thread_time() - cpu
            peer.set_ef(64)
            _, found = peer.index.search(query[:max(done, 1)], 10)
            right = sum(int(found[i, 0] == len(base) + i) for i in range(done))
            print("added n=%d seconds=%.4f recall=%.5f" % (done, seconds, right / max(done, 1)),
                  file=out)
        out.flush()


main()
