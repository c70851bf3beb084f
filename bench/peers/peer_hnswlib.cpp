/* hnswlib (Malkov, Yashunin), Debian package libhnswlib-dev. M 16, efConstruction 200. */
#include "peer.h"

#include <hnswlib/hnswlib.h>

struct PeerHnswlib : Peer {
    hnswlib::L2Space *space = nullptr;
    hnswlib::HierarchicalNSW<float> *index = nullptr;
    const size_t m = 16, ef_construction = 200;

    void build(const float *base, size_t n, size_t dim, size_t spare, int threads) override
    {
        delete index;
        delete space;
        space = new hnswlib::L2Space(dim);
        index = new hnswlib::HierarchicalNSW<float>(space, n + spare, m, ef_construction);
        index->addPoint(base, 0);
        #pragma omp parallel for schedule(dynamic, 64) num_threads(threads)
        for (size_t i = 1; i < n; i++) index->addPoint(base + i * dim, i);
    }
    void set_ef(size_t ef, int) override { index->setEf(ef); }
    size_t search(const float *query, size_t k, uint32_t *out) override
    {
        auto top = index->searchKnn(query, k);
        size_t n = top.size();
        for (size_t i = n; i-- > 0; top.pop()) out[i] = (uint32_t)top.top().second;
        return n;
    }
    bool add(const float *row, size_t id) override
    {
        index->addPoint(row, id);
        return true;
    }
    bool keep(const char *file) override
    {
        index->saveIndex(file);
        return true;
    }
    bool restore(const char *file, const float *, size_t n, size_t dim, size_t spare) override
    {
        space = new hnswlib::L2Space(dim);
        index = new hnswlib::HierarchicalNSW<float>(space, file, false, n + spare);
        return index->cur_element_count == n;
    }
};

int main(int argc, char **argv)
{
    PeerHnswlib p;
    return peer_main(argc, argv, p);
}
