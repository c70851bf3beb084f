/* glass (pyglass): headers, found through GLASS_DIR. HNSW, R 32, L 200, built on SQ8U;
   searched on sq8: SQ8U, sq4: SQ4U; both with an f16 refiner; prefetch tuned by the library. */
#include "peer.h"

#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <atomic>

#include "glass/hnsw/hnsw.hpp"
#include "glass/searcher/graph_searcher.hpp"

struct PeerGlass : Peer {
    std::string quantizer;
    std::unique_ptr<glass::GraphSearcherBase> searcher;

    bool begin(const std::string &variant) override
    {
        quantizer = variant == "sq8" ? "SQ8U" : variant == "sq4" ? "SQ4U" : "";
        return !quantizer.empty();
    }
    void take(glass::Graph<int32_t> graph, const float *base, size_t n, size_t dim)
    {
        searcher = glass::create_searcher(std::move(graph), "L2", quantizer, "FP16");
        searcher->SetData(base, (int32_t)n, (int32_t)dim);
    }
    void build(const float *base, size_t n, size_t dim, size_t, int) override
    {
        auto builder = glass::create_hnsw("L2", "SQ8U", 32, 200);
        glass::Graph<int32_t> graph = builder->Build(base, (int32_t)n, (int32_t)dim);
        if (!file.empty()) graph.save(file);
        take(std::move(graph), base, n, dim);
    }
    void tune(int) override { searcher->Optimize(1); }
    void set_ef(size_t ef, int) override { searcher->SetEf((int32_t)ef); }
    size_t search(const float *query, size_t k, uint32_t *out) override
    {
        searcher->Search(query, (int32_t)k, reinterpret_cast<int32_t *>(out), nullptr);
        return k;
    }
    bool keep(const char *) override { return true; }        /* build wrote the graph */
    bool restore(const char *name, const float *base, size_t n, size_t dim, size_t) override
    {
        glass::Graph<int32_t> graph;
        graph.load(name, "glass");
        take(std::move(graph), base, n, dim);
        return true;
    }
};

int main(int argc, char **argv)
{
    PeerGlass p;
    return peer_main(argc, argv, p);
}
