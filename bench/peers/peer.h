/* peer.h - the frame of one contestant of make bench-peers: a process that obeys lines on stdin.

   A contestant derives from Peer, and ends its file with
       int main(int argc, char **argv) { MyPeer p; return peer_main(argc, argv, p); }
   It is started as  peer_X SET_DIR [VARIANT [INDEX_FILE]]  with a folder written by prepare.c.
   tools/bench_peers.py starts all contestants and sends the commands in turn, so that they are
   measured alternately on the same data; while one works the others wait in read().

     build THREADS           -> built seconds=S cpu=S rss=BYTES heap=BYTES own=BYTES
     restore                 -> restored ok=0|1 rss=BYTES heap=BYTES own=BYTES   from INDEX_FILE
     keep                    -> kept ok=0|1                             to INDEX_FILE
     search EF THREADS N     -> searched recall=R qps=Q p50=US p99=US   the first N queries, k = 10
     add N SECONDS           -> added n=N seconds=S recall=R     one by one, at most that long
     quit

   rss is RssAnon after malloc_trim, less what the process held before; the data set is a file
   mapping and does not count in it. heap is what glibc's malloc has handed out (mallinfo2), on the
   same baseline; own is what the library says itself, 0 where it says nothing. Rates on one thread
   (search, add) count that thread's processor time, which other load on the machine disturbs less
   than the wall clock; with more threads they count the wall clock, and p50, p99 always do.
   An answer counts as right when it is one of the exact 10, or as near as the 10th (ties), and not
   a repetition. Whatever a library prints on stdout goes to stderr.                             */
#ifndef RV_PEER_H
#define RV_PEER_H

#include <fcntl.h>
#include <malloc.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

struct Peer {
    std::string file;                     /* INDEX_FILE, may be empty                          */
    virtual ~Peer() {}
    /* Before anything else. variant: as named on the command line, may be empty. */
    virtual bool begin(const std::string &variant) { return variant.empty(); }
    /* base: [n, dim], stays valid. spare: rows that add() may bring later. */
    virtual void build(const float *base, size_t n, size_t dim, size_t spare, int threads) = 0;
    /* Untimed, after build or restore: search parameters that the library tunes by itself. */
    virtual void tune(int threads) { (void)threads; }
    virtual double own_bytes() { return 0; }
    virtual void set_ef(size_t ef, int threads) = 0;
    /* out: [k] row numbers, nearest first; returns how many. Called from several OpenMP threads. */
    virtual size_t search(const float *query, size_t k, uint32_t *out) = 0;
    virtual bool add(const float *row, size_t id) { (void)row; (void)id; return false; }
    virtual bool keep(const char *file) { (void)file; return false; }
    virtual bool restore(const char *file, const float *base, size_t n, size_t dim, size_t spare)
    {
        (void)file; (void)base; (void)n; (void)dim; (void)spare;
        return false;
    }
};

struct PeerSet {
    size_t n, dim, n_query, gt_k;
    const float *base, *query;
    const int32_t *gt_id;
    const double *gt_distance;
};

static inline double peer_now()
{
    std::chrono::duration<double> t = std::chrono::steady_clock::now().time_since_epoch();
    return t.count();
}

static inline double peer_cpu(clockid_t clock)           /* of this thread or this process        */
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline const void *peer_map(const std::string &path, size_t bytes)
{
    int fd = open(path.c_str(), O_RDONLY);
    struct stat st;
    void *p;
    if (fd < 0 || fstat(fd, &st) || (size_t)st.st_size < bytes) {
        fprintf(stderr, "%s: missing or short\n", path.c_str());
        exit(2);
    }
    p = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED) exit(2);
    return p;
}

static inline size_t peer_meta(const std::string &text, const char *name)
{
    size_t at = (" " + text).find(std::string(" ") + name + "=");
    if (at == std::string::npos) {
        fprintf(stderr, "meta: no %s\n", name);
        exit(2);
    }
    return strtoul(text.c_str() + at + strlen(name) + 1, NULL, 10);
}

static inline PeerSet peer_open(const std::string &dir)
{
    PeerSet s;
    char meta[512] = "";
    FILE *f = fopen((dir + "/meta").c_str(), "r");
    if (!f || !fgets(meta, sizeof meta, f)) {
        fprintf(stderr, "%s: no meta, run prepare\n", dir.c_str());
        exit(2);
    }
    fclose(f);
    s.n = peer_meta(meta, "n");
    s.dim = peer_meta(meta, "dim");
    s.n_query = peer_meta(meta, "n_query");
    s.gt_k = peer_meta(meta, "gt_k");
    s.base = (const float *)peer_map(dir + "/base.f32", s.n * s.dim * sizeof(float));
    s.query = (const float *)peer_map(dir + "/query.f32", s.n_query * s.dim * sizeof(float));
    s.gt_id = (const int32_t *)peer_map(dir + "/gt.i32", s.n_query * s.gt_k * sizeof(int32_t));
    s.gt_distance = (const double *)peer_map(dir + "/gt.f64", s.n_query * s.gt_k * sizeof(double));
    return s;
}

static inline double peer_rss()
{
    char line[256];
    double kib = 0;
    FILE *f;
    malloc_trim(0);
    f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "RssAnon:", 8) == 0) kib = atof(line + 8);
    if (f) fclose(f);
    return kib * 1024;
}

static inline double peer_heap()
{
    struct mallinfo2 m = mallinfo2();
    return (double)m.uordblks + (double)m.hblkhd;
}

/* Right answers among found[0..n): in the exact k, or no farther than the k-th. */
static inline size_t peer_right(const PeerSet &s, size_t q, const uint32_t *found, size_t n,
                                size_t k)
{
    const int32_t *gt = s.gt_id + q * s.gt_k;
    double bar = s.gt_distance[q * s.gt_k + k - 1] * (1 + 1e-6);
    size_t right = 0;
    for (size_t i = 0; i < n && i < k; i++) {
        bool good = std::find(gt, gt + k, (int32_t)found[i]) != gt + k;
        if (std::find(found, found + i, found[i]) != found + i || found[i] >= s.n) continue;
        if (!good) {
            const float *a = s.query + q * s.dim, *b = s.base + (size_t)found[i] * s.dim;
            double sum = 0;
            for (size_t d = 0; d < s.dim; d++) {
                double x = (double)a[d] - (double)b[d];
                sum += x * x;
            }
            good = sum <= bar;
        }
        right += good;
    }
    return right;
}

static inline void peer_search(Peer &peer, const PeerSet &s, FILE *out, size_t ef, int threads,
                               size_t n_query)
{
    const size_t k = 10;
    std::vector<uint32_t> found(n_query * k);
    std::vector<size_t> count(n_query);
    std::vector<double> us(n_query);
    size_t right = 0;
    double t0, seconds;
    peer.set_ef(ef, threads);
    omp_set_num_threads(threads);
    for (size_t i = 0; i < n_query && i < 20; i++) count[i] = peer.search(s.query, k, found.data());
    t0 = threads == 1 ? peer_cpu(CLOCK_THREAD_CPUTIME_ID) : peer_now();
    if (threads == 1) {
        for (size_t i = 0; i < n_query; i++) {
            double t = peer_now();
            count[i] = peer.search(s.query + i * s.dim, k, &found[i * k]);
            us[i] = (peer_now() - t) * 1e6;
        }
    } else {
        #pragma omp parallel for schedule(dynamic, 16) num_threads(threads)
        for (size_t i = 0; i < n_query; i++) {
            double t = peer_now();
            count[i] = peer.search(s.query + i * s.dim, k, &found[i * k]);
            us[i] = (peer_now() - t) * 1e6;
        }
    }
    seconds = (threads == 1 ? peer_cpu(CLOCK_THREAD_CPUTIME_ID) : peer_now()) - t0;
    for (size_t i = 0; i < n_query; i++) right += peer_right(s, i, &found[i * k], count[i], k);
    std::sort(us.begin(), us.end());
    fprintf(out, "searched recall=%.5f qps=%.1f p50=%.2f p99=%.2f\n",
            (double)right / (double)(n_query * k), (double)n_query / seconds, us[n_query / 2],
            us[n_query * 99 / 100]);
}

/* Adds the first queries as new points: same distribution, not in the set. Each is then searched
   for; recall is the share found at the first place. */
static inline void peer_add(Peer &peer, const PeerSet &s, FILE *out, size_t n, double most)
{
    double t0 = peer_cpu(CLOCK_THREAD_CPUTIME_ID), seconds;
    size_t done = 0, right = 0;
    omp_set_num_threads(1);
    while (done < n && done < s.n_query && peer_cpu(CLOCK_THREAD_CPUTIME_ID) - t0 < most) {
        if (!peer.add(s.query + done * s.dim, s.n + done)) break;
        done++;
    }
    seconds = peer_cpu(CLOCK_THREAD_CPUTIME_ID) - t0;
    peer.set_ef(64, 1);
    for (size_t i = 0; i < done; i++) {
        uint32_t found[10];
        size_t got = peer.search(s.query + i * s.dim, 10, found);
        right += got && found[0] == s.n + i;
    }
    fprintf(out, "added n=%zu seconds=%.4f recall=%.5f\n", done, seconds,
            done ? (double)right / (double)done : 0.0);
}

static inline int peer_main(int argc, char **argv, Peer &peer)
{
    char line[256], word[32];
    const size_t spare = 20000;
    PeerSet s;
    FILE *out;
    double rss, heap;
    if (argc < 2 || !peer.begin(argc > 2 ? argv[2] : "")) {
        fprintf(stderr, "usage: %s SET_DIR [VARIANT [INDEX_FILE]]\n", argv[0]);
        return 2;
    }
    if (argc > 3) peer.file = argv[3];
    s = peer_open(argv[1]);
    out = fdopen(dup(1), "w");
    dup2(2, 1);
    rss = peer_rss();
    heap = peer_heap();
    fprintf(out, "ready\n");
    fflush(out);
    while (fgets(line, sizeof line, stdin)) {
        double a = 0, b = 0, c = 0;
        if (sscanf(line, "%31s %lf %lf %lf", word, &a, &b, &c) < 1) continue;
        if (!strcmp(word, "quit")) break;
        if (!strcmp(word, "build")) {
            double t = peer_now(), cpu = peer_cpu(CLOCK_PROCESS_CPUTIME_ID);
            omp_set_num_threads((int)a);
            peer.build(s.base, s.n, s.dim, spare, (int)a);
            t = peer_now() - t;
            cpu = peer_cpu(CLOCK_PROCESS_CPUTIME_ID) - cpu;
            fprintf(out, "built seconds=%.3f cpu=%.3f rss=%.0f heap=%.0f own=%.0f\n", t, cpu,
                    peer_rss() - rss, peer_heap() - heap, peer.own_bytes());
            peer.tune((int)a);
        } else if (!strcmp(word, "restore")) {
            bool ok = !peer.file.empty() && access(peer.file.c_str(), R_OK) == 0 &&
                      peer.restore(peer.file.c_str(), s.base, s.n, s.dim, spare);
            fprintf(out, "restored ok=%d rss=%.0f heap=%.0f own=%.0f\n", ok, peer_rss() - rss,
                    peer_heap() - heap, ok ? peer.own_bytes() : 0.0);
            if (ok) peer.tune(2);
        } else if (!strcmp(word, "keep")) {
            fprintf(out, "kept ok=%d\n", !peer.file.empty() && peer.keep(peer.file.c_str()));
        } else if (!strcmp(word, "search")) {
            size_t n = (size_t)c > 0 && (size_t)c < s.n_query ? (size_t)c : s.n_query;
            peer_search(peer, s, out, (size_t)a, (int)b, n);
        } else if (!strcmp(word, "add")) {
            peer_add(peer, s, out, (size_t)a < spare ? (size_t)a : spare, b);
        } else {
            fprintf(out, "error unknown command\n");
        }
        fflush(out);
    }
    return 0;
}

#endif /* RV_PEER_H */
