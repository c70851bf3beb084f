/* usearch: C++ headers, found through USEARCH_DIR, with the vector kernels of simsimd where its
   headers are found there too. Defaults: connectivity 16, expansion_add 128, f32. */
#include "peer.h"

#if __has_include(<simsimd/simsimd.h>)
#define USEARCH_USE_SIMSIMD 1
#endif
#define USEARCH_USE_FP16LIB 0
#include <usearch/index_dense.hpp>

struct PeerUsearch : Peer {
    using index_t = unum::usearch::index_dense_t;
    index_t index;

    static index_t make(size_t dim, size_t capacity)
    {
        using namespace unum::usearch;
        metric_punned_t metric(dim, metric_kind_t::l2sq_k, scalar_kind_t::f32_k);
        fprintf(stderr, "usearch kernels: %s\n", metric.isa_name());
        index_t made = index_t::make(metric, index_dense_config_t(16, 128, 64)).index;
        made.reserve(index_limits_t(capacity, 2));
        return made;
    }
    void build(const float *base, size_t n, size_t dim, size_t spare, int threads) override
    {
        index = make(dim, n + spare);
        #pragma omp parallel for schedule(dynamic, 64) num_threads(threads)
        for (size_t i = 0; i < n; i++)
            index.add(i, base + i * dim, (size_t)omp_get_thread_num());
    }
    void set_ef(size_t ef, int) override { index.change_expansion_search(ef); }
    size_t search(const float *query, size_t k, uint32_t *out) override
    {
        auto found = index.search(query, k, (size_t)omp_get_thread_num());
        size_t n = found.size();
        for (size_t i = 0; i < n; i++) out[i] = (uint32_t)found[i].member.key;
        return n;
    }
    bool add(const float *row, size_t id) override { return (bool)index.add(id, row, (size_t)0); }
    bool keep(const char *name) override { return (bool)index.save(name); }
    bool restore(const char *name, const float *, size_t n, size_t dim, size_t spare) override
    {
        index = make(dim, 16);
        if (!index.load(name)) return false;
        index.reserve(unum::usearch::index_limits_t(n + spare, 2));
        return index.size() == n;
    }
    double own_bytes() override { return (double)index.memory_usage(); }
};

int main(int argc, char **argv)
{
    PeerUsearch p;
    return peer_main(argc, argv, p);
}
