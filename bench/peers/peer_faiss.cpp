/* faiss, Debian package libfaiss-dev (built for the baseline instruction set; where the Python
   package faiss is at hand bench_peers.py prefers peer_faiss.py, whose build has AVX-512).
   hnsw: HNSW flat, M 16, efConstruction 200. ivfpq: IVF with 4-bit fast-scan product codes and
   exact rerank of 10 k candidates; ef is the number of lists probed. */
#include "peer.h"

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexRefine.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>

#include <math.h>

struct PeerFaiss : Peer {
    std::string kind;
    faiss::Index *index = nullptr;

    bool begin(const std::string &variant) override
    {
        kind = variant;
        return kind == "hnsw" || kind == "ivfpq";
    }
    void build(const float *base, size_t n, size_t dim, size_t, int) override
    {
        delete index;
        if (kind == "hnsw") {
            auto *h = new faiss::IndexHNSWFlat((int)dim, 16);
            h->hnsw.efConstruction = 200;
            index = h;
        } else {
            size_t lists = 1;
            while ((double)lists < 4 * sqrt((double)n)) lists *= 2;
            std::string what = "IVF" + std::to_string(lists) + ",PQ" +
                               std::to_string(dim >= 512 ? dim / 4 : dim / 2) + "x4fs,RFlat";
            index = faiss::index_factory((int)dim, what.c_str());
            index->train((int64_t)n, base);
        }
        index->add((int64_t)n, base);
    }
    void set_ef(size_t ef, int) override
    {
        if (kind == "hnsw") {
            dynamic_cast<faiss::IndexHNSW *>(index)->hnsw.efSearch = (int)ef;
        } else {
            auto *refine = dynamic_cast<faiss::IndexRefine *>(index);
            refine->k_factor = 10;
            dynamic_cast<faiss::IndexIVF *>(refine->base_index)->nprobe = ef;
        }
    }
    size_t search(const float *query, size_t k, uint32_t *out) override
    {
        float distance[100];
        int64_t id[100];
        size_t n = 0;
        index->search(1, query, (int64_t)k, distance, id);
        for (size_t i = 0; i < k; i++)
            if (id[i] >= 0) out[n++] = (uint32_t)id[i];
        return n;
    }
    bool add(const float *row, size_t) override
    {
        index->add(1, row);
        return true;
    }
    bool keep(const char *name) override
    {
        faiss::write_index(index, name);
        return true;
    }
    bool restore(const char *name, const float *, size_t n, size_t, size_t) override
    {
        index = faiss::read_index(name);
        return (size_t)index->ntotal == n;
    }
};

int main(int argc, char **argv)
{
    PeerFaiss p;
    return peer_main(argc, argv, p);
}
