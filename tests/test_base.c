/* Versions, status texts, messages, the default allocator, the thread hook. */
#include "rv_test.h"

static void test_version(void)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", RV_VERSION_MAJOR, RV_VERSION_MINOR, RV_VERSION_PATCH);
    RV_CHECK(strcmp(rv_version(), text) == 0);
}

/* The values are stored by callers and never change. */
static void test_status(void)
{
    static const struct {
        rv_status status;
        int value;
        const char *text;
    } rows[] = {
        {RV_OK, 0, "ok"},
        {RV_DONE, 1, "no more results"},
        {RV_ERR_ARG, -1, "invalid argument"},
        {RV_ERR_DIM, -2, "dimension mismatch"},
        {RV_ERR_CONFIG, -3, "invalid configuration"},
        {RV_ERR_MEMORY, -4, "out of memory"},
        {RV_ERR_FORMAT, -5, "invalid image"},
        {RV_ERR_PARSE, -6, "syntax error"},
        {RV_ERR_NOT_FOUND, -7, "not found"},
        {RV_ERR_CANCELED, -8, "canceled"},
        {RV_ERR_UNSUPPORTED, -9, "not supported"},
        {RV_ERR_EXISTS, -10, "already exists"},
    };
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        rv_test_row(rows[i].text, i);
        RV_EQUAL(rows[i].status, rows[i].value);
        RV_CHECK(strcmp(rv_status_text(rows[i].status), rows[i].text) == 0);
    }
}

static void test_isa_values(void)
{
    RV_EQUAL(RV_ISA_BEST, 0);
    RV_EQUAL(RV_ISA_SCALAR, 1);
    RV_EQUAL(RV_ISA_AVX2, 2);
    RV_EQUAL(RV_ISA_AVX512, 3);
    RV_EQUAL(RV_ISA_NEON, 4);
    RV_EQUAL(RV_ISA_WASM, 5);
}

#ifdef RV_THREADS
#if defined(__GNUC__)
#define BUMP(p) __atomic_fetch_add((p), 1, __ATOMIC_RELAXED)
#else
#define BUMP(p) (*(p) += 1)
#endif
static void bump(void *arg, size_t i)
{
    (void)BUMP((int *)arg + i);
}

/* Every index exactly once, for none, one, few and many bodies. */
static void test_threads(void)
{
    static const size_t counts[] = {0, 1, 2, 3, 64, 65, 1000};
    int hits[1001];
    RV_CHECK(rv_processors() >= 1);
    for (size_t c = 0; c < RV_COUNT_OF(counts); c++) {
        rv_test_row("bodies", counts[c]);
        memset(hits, 0, sizeof hits);
        rv_parallel_threads(NULL, counts[c], bump, hits);
        for (size_t i = 0; i < counts[c]; i++) RV_EQUAL(hits[i], 1);
        RV_EQUAL(hits[counts[c]], 0);
    }
}
#endif

int main(void)
{
    rv_test_begin("base");
    RV_RUN(test_version);
    RV_RUN(test_status);
    RV_RUN(test_isa_values);
#ifdef RV_THREADS
    RV_RUN(test_threads);
#endif
    return rv_test_end();
}
