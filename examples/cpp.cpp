// C++11: an owner that frees the index, throws on errors and takes std::vector.
//
//     g++ -std=c++11 -I. examples/cpp.cpp -o cpp -lm && ./cpp
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

class Index {
public:
    explicit Index(const rv_hnsw_config &config) : dim_(config.dim)
    {
        rv_ctx ctx = rv_ctx();
        rv_hnsw *index = nullptr;
        check(ctx, rv_hnsw_create(&ctx, &config, &index));
        index_.reset(index);
    }

    void add(std::uint64_t key, const std::vector<float> &row)
    {
        rv_ctx ctx = rv_ctx();
        if (row.size() != dim_)
            throw std::invalid_argument("wrong dimension");
        check(ctx, rv_hnsw_add(&ctx, index_.get(), key, row.data()));
    }

    std::vector<rv_hit> search(const std::vector<float> &query, std::size_t k) const
    {
        rv_ctx ctx = rv_ctx();
        std::vector<rv_hit> hits(k);
        if (query.size() != dim_)
            throw std::invalid_argument("wrong dimension");
        check(ctx, rv_hnsw_search(&ctx, index_.get(), query.data(), k, 0, hits.data(), &k));
        hits.resize(k);
        return hits;
    }

private:
    struct Destroy {
        void operator()(rv_hnsw *index) const { rv_hnsw_destroy(index); }
    };

    static void check(const rv_ctx &ctx, rv_status status)
    {
        if (status != RV_OK)
            throw std::runtime_error(std::string(rv_status_text(status)) + ": " + ctx.message);
    }

    std::unique_ptr<rv_hnsw, Destroy> index_;
    std::size_t dim_;
};

int main()
{
    rv_hnsw_config config = rv_hnsw_config(); // all zero: the defaults
    config.dim = 3;
    config.metric = RV_METRIC_COSINE;
    Index colours(config);
    colours.add(0xFF0000, {1, 0, 0});
    colours.add(0x00FF00, {0, 1, 0});
    colours.add(0x0000FF, {0, 0, 1});
    colours.add(0xFFFF00, {1, 1, 0});
    const std::vector<rv_hit> hits = colours.search({0.9f, 0.8f, 0.1f}, 2);
    for (const rv_hit &hit : hits)
        std::printf("%06llX at %.3f\n", static_cast<unsigned long long>(hit.key),
                    static_cast<double>(hit.distance));
    try {
        colours.add(0xFF0000, {1, 0, 0});
    } catch (const std::runtime_error &error) {
        std::printf("as expected: %s\n", error.what());
        return hits.size() == 2 && hits[0].key == 0xFFFF00 ? 0 : 1;
    }
    return 1;
}
