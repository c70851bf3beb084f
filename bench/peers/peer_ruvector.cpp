/* This library. The variant is a list of words joined by '+': auto (default), none, pca, sq8, sq4,
   rabitq for the codes; drop gives the vectors up; f16 keeps them as f16; m=, efc=, bytes= (of a
   PCA code), rerank= set the numbers. Linked with the library compiled as C for the baseline. */
#include "peer.h"

#ifndef RV_THREADS
#define RV_THREADS
#endif
#include "ruvector.h"

struct PeerRuvector : Peer {
    rv_hnsw *index = nullptr;
    rv_hnsw_config config;
    rv_hnsw_options options;

    ~PeerRuvector() override { rv_hnsw_destroy(index); }
    static void check(rv_status status, const rv_ctx &ctx)
    {
        if (status == RV_OK) return;
        fprintf(stderr, "ruvector: %s: %s\n", rv_status_text(status), ctx.message);
        exit(3);
    }
    bool word(const std::string &w)
    {
        static const char *const codes[] = { "auto", "none", "pca", "sq8", "sq4", "rabitq" };
        size_t eq = w.find('=');
        if (eq != std::string::npos) {
            uint32_t value = (uint32_t)strtoul(w.c_str() + eq + 1, NULL, 10);
            std::string name = w.substr(0, eq);
            if (name == "m") config.m = value;
            else if (name == "efc") config.ef_construction = value;
            else if (name == "bytes") config.code_bytes = value;
            else if (name == "rerank") options.rerank = value;
            else return false;
            return true;
        }
        for (int i = 0; i < 6; i++) {
            if (w != codes[i]) continue;
            config.codes = (rv_hnsw_codes)i;
            return true;
        }
        if (w == "drop") config.drop_vectors = 1;
        else if (w == "f16") config.type = RV_DTYPE_F16;
        else return false;
        return true;
    }
    bool begin(const std::string &variant) override
    {
        memset(&config, 0, sizeof config);
        memset(&options, 0, sizeof options);
        for (size_t at = 0; at < variant.size();) {
            size_t end = std::min(variant.find('+', at), variant.size());
            if (!word(variant.substr(at, end - at))) return false;
            at = end + 1;
        }
        return true;
    }
    void build(const float *base, size_t n, size_t dim, size_t spare, int threads) override
    {
        rv_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        if (threads > 1) ctx.parallel = rv_parallel_threads;
        rv_hnsw_destroy(index);
        index = nullptr;
        config.dim = (uint32_t)dim;
        config.capacity = n + spare;
        check(rv_hnsw_create(&ctx, &config, &index), ctx);
        check(rv_hnsw_build(&ctx, index, NULL, base, n), ctx);
    }
    void set_ef(size_t ef, int) override { options.ef = (uint32_t)ef; }
    size_t search(const float *query, size_t k, uint32_t *out) override
    {
        rv_hit hits[100];
        size_t n = 0;
        if (rv_hnsw_search_with(NULL, index, query, k, &options, hits, &n) != RV_OK) return 0;
        for (size_t i = 0; i < n; i++) out[i] = (uint32_t)hits[i].key;
        return n;
    }
    bool add(const float *row, size_t id) override
    {
        return rv_hnsw_add(NULL, index, id, row) == RV_OK;
    }
    bool keep(const char *name) override
    {
        size_t bytes = 0;
        rv_hnsw_save(NULL, index, NULL, 0, &bytes);
        std::vector<char> image(bytes);
        FILE *f = fopen(name, "wb");
        if (!f) return false;
        bool ok = rv_hnsw_save(NULL, index, image.data(), bytes, &bytes) == RV_OK &&
                  fwrite(image.data(), 1, bytes, f) == bytes;
        return fclose(f) == 0 && ok;
    }
    bool restore(const char *name, const float *, size_t n, size_t, size_t) override
    {
        int fd = open(name, O_RDONLY);
        struct stat st;
        rv_ctx ctx;
        memset(&ctx, 0, sizeof ctx);
        if (fd < 0 || fstat(fd, &st)) return false;
        void *image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (image == MAP_FAILED) return false;
        rv_status status = rv_hnsw_load(&ctx, image, (size_t)st.st_size, NULL, NULL, &index);
        munmap(image, (size_t)st.st_size);
        return status == RV_OK && rv_hnsw_count(index) == n;
    }
    double own_bytes() override { return (double)rv_hnsw_bytes(index); }
};

int main(int argc, char **argv)
{
    PeerRuvector p;
    return peer_main(argc, argv, p);
}
