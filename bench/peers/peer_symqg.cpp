/* SymphonyQG of the RaBitQ-Library (Gou et al., 2025): headers, found through SYMQG_DIR.
   Degree 32, ef 200 while building, three iterations: the settings of its manual. */
#include "peer.h"

#include <cmath>
#include <limits>
#include <memory>

#include "rabitqlib/index/symqg/qg.hpp"
#include "rabitqlib/index/symqg/qg_builder.hpp"

struct PeerSymqg : Peer {
    std::unique_ptr<rabitqlib::symqg::QuantizedGraph<float>> graph;

    void build(const float *base, size_t n, size_t dim, size_t, int threads) override
    {
        graph.reset(new rabitqlib::symqg::QuantizedGraph<float>(n, dim, 32));
        rabitqlib::symqg::QGBuilder builder(*graph, 200, base, (size_t)threads);
        builder.build();
    }
    void set_ef(size_t ef, int) override { graph->set_ef(ef); }
    size_t search(const float *query, size_t k, uint32_t *out) override
    {
        graph->search(query, (uint32_t)k, out);
        return k;
    }
    bool keep(const char *name) override
    {
        graph->save(name);
        return true;
    }
    bool restore(const char *name, const float *, size_t n, size_t, size_t) override
    {
        graph.reset(new rabitqlib::symqg::QuantizedGraph<float>());
        graph->load(name);
        return graph->num_vertices() == n;
    }
};

int main(int argc, char **argv)
{
    PeerSymqg p;
    return peer_main(argc, argv, p);
}
