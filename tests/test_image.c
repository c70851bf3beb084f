/* The image format: written once more here from its description, and everything that a damaged or
   crafted image may say. Flat indexes carry it; what other kinds add is tested with them. */
#include "rv_test.h"
#include "rv_image_sign.h"

#define IMAGE_CAP 8192

static union {
    uint64_t align[IMAGE_CAP / 8 + 8];
    unsigned char bytes[IMAGE_CAP + 64];
} image_room, other_room;

/* On a multiple of 64. */
static unsigned char *room(unsigned char *bytes)
{
    return bytes + (64 - (uintptr_t)bytes % 64) % 64;
}

/* An index of every section: keys, removed rows, lengths under cosine. Returns the image's size. */
static size_t make_image(rv_metric metric, rv_dtype type, int keyed, int holes,
                         unsigned char *image)
{
    rv_flat_config config;
    rv_flat *index = NULL;
    float x[9 * 5];
    uint64_t keys[9];
    size_t bytes = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.dim = 5;
    config.metric = metric;
    config.type = type;
    for (size_t i = 0; i < 45; i++) x[i] = (float)(i % 7) - 2.5f;
    for (size_t i = 0; i < 9; i++) keys[i] = keyed ? 1000 + i * i : i;
    RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, keys, x, 9));
    if (holes) {
        RV_OKAY(&ctx, rv_flat_remove(&ctx, index, keys[0]));
        RV_OKAY(&ctx, rv_flat_remove(&ctx, index, keys[5]));
    }
    RV_OKAY(&ctx, rv_flat_save(&ctx, index, image, IMAGE_CAP, &bytes));
    rv_flat_destroy(index);
    return bytes;
}

/* Loads and views; both must say the same (view after load: what load refuses is refused too), and
   memory stays within what an image of that size can ask for. */
static rv_status load_image(const unsigned char *image, size_t bytes, char *message)
{
    rv_test_faults faults;
    rv_flat *index = NULL, *view = NULL;
    rv_status status, viewed;
    rv_ctx ctx;
    rv_test_ctx_faults(&ctx, &faults);
    status = rv_flat_load(&ctx, image, bytes, NULL, NULL, &index);
    if (message) memcpy(message, ctx.message, sizeof ctx.message);
    RV_CHECK((index != NULL) == (status == RV_OK));
    RV_CHECK(faults.peak_bytes <= 16 * bytes + 4096);
    rv_flat_destroy(index);
    viewed = rv_flat_view(&ctx, image, bytes, NULL, NULL, &view);
    if (viewed != RV_ERR_UNSUPPORTED && (uintptr_t)image % 64 == 0) RV_EQUAL(viewed, status);
    rv_flat_destroy(view);
    RV_EQUAL(faults.live_blocks, 0);
    return status;
}

/* Fills a row of the table; returns where the next section starts. */
static size_t put_section(size_t at, unsigned char *row, const char *tag, size_t elem, size_t count)
{
    memcpy(row, tag, 4);
    sign_put(row + 4, 4, elem);
    sign_put(row + 8, 8, at);
    sign_put(row + 16, 8, count);
    return (at + elem * count + 63) / 64 * 64;
}

static void put_f32(unsigned char *p, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    sign_put(p, 4, bits);
}

/* Three rows of dimension 3 under L2 with keys 70, 5 and 2^63, the second one removed. */
static void test_layout(void)
{
    static const float x[3][3] = {{1, -2, 0.5f}, {9, 9, 9}, {3, 4, 1e-30f}};
    static const uint64_t keys[3] = {70, 5, (uint64_t)1 << 63};
    unsigned char *image = room(image_room.bytes), *mine = room(other_room.bytes), rows[4][32];
    size_t bytes = 0, at = 64;
    rv_flat_config config;
    rv_flat *index = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.dim = 3;
    RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, keys, x, 3));
    RV_OKAY(&ctx, rv_flat_remove(&ctx, index, 5));
    RV_OKAY(&ctx, rv_flat_save(&ctx, index, image, IMAGE_CAP, &bytes));
    rv_flat_destroy(index);

    memset(mine, 0, IMAGE_CAP);
    memset(rows, 0, sizeof rows);
    sign_put(mine + at, 4, 3);       /* dim */
    sign_put(mine + at + 12, 4, 12); /* stride */
    sign_put(mine + at + 16, 4, 3);  /* n */
    sign_put(mine + at + 20, 4, 1);  /* removed */
    sign_put(mine + at + 24, 4, 2);  /* keys */
    at = put_section(at, rows[0], "SPAR", 4, 8);
    for (size_t i = 0; i < 9; i++) put_f32(mine + at + 4 * i, x[i / 3][i % 3]);
    at = put_section(at, rows[1], "ROWS", 4, 9);
    for (size_t i = 0; i < 3; i++) sign_put(mine + at + 8 * i, 8, keys[i]);
    at = put_section(at, rows[2], "KEYS", 8, 3);
    sign_put(mine + at, 8, 2);
    at = put_section(at, rows[3], "GONE", 8, 1);
    memcpy(mine + at, rows, sizeof rows);
    at += sizeof rows;
    memcpy(mine, "RVIM", 4);
    sign_put(mine + 4, 4, 1);
    memcpy(mine + 8, "FLAT", 4);
    sign_put(mine + 16, 8, at);
    sign_put(mine + 24, 4, 4);
    sign_image(mine, at);
    RV_EQUAL(bytes, at);
    RV_CHECK(memcmp(image, mine, at) == 0);
    /* computed once with Python integers from the description */
    RV_CHECK(sign_get(mine + 32, 8) == 0x954C421DA1B5F964ull);
    RV_CHECK(sign_get(mine + 40, 8) == 0x40D89758798D8F46ull);
}

static void test_info(void)
{
    unsigned char *image = room(image_room.bytes);
    size_t bytes = make_image(RV_METRIC_L2, RV_DTYPE_F32, 1, 1, image);
    char kind[5] = {9, 9, 9, 9, 9};
    uint64_t total = 0;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_OKAY(&ctx, rv_image_info(&ctx, image, 64, kind, &total));
    RV_CHECK(strcmp(kind, "FLAT") == 0 && total == bytes);
    RV_OKAY(&ctx, rv_image_info(&ctx, image, bytes, NULL, NULL));
    memmove(image + 1, image, bytes);
    RV_OKAY(&ctx, rv_image_info(&ctx, image + 1, bytes, kind, &total));
    RV_EQUAL(rv_image_info(&ctx, image + 1, 63, kind, &total), RV_ERR_FORMAT);
    RV_EQUAL(rv_image_info(&ctx, NULL, 64, kind, &total), RV_ERR_ARG);
    RV_EQUAL(rv_image_info(NULL, image, 64, kind, &total), RV_ERR_FORMAT);
}

/* ---- damage ---- */

static void test_truncated(void)
{
    unsigned char *image = room(image_room.bytes);
    size_t bytes = make_image(RV_METRIC_COSINE, RV_DTYPE_I8, 1, 1, image);
    for (size_t n = 0; n < bytes; n++) {
        unsigned char *part =
            (unsigned char *)malloc(n + 1); /* so that a sanitizer sees overreads */
        memcpy(part, image, n);
        rv_test_row("bytes", n);
        RV_EQUAL(load_image(part, n, NULL), RV_ERR_FORMAT);
        free(part);
    }
    RV_EQUAL(load_image(image, bytes + 40, NULL), RV_OK); /* a longer file is fine */
}

static void test_bit_flips(void)
{
    unsigned char *image = room(image_room.bytes);
    size_t bytes = make_image(RV_METRIC_L2, RV_DTYPE_F16, 1, 1, image);
    for (size_t bit = 0; bit < 8 * bytes; bit += RV_TEST_SCALE > 1 ? 13 : 1) {
        image[bit / 8] = (unsigned char)(image[bit / 8] ^ 1u << (bit % 8));
        rv_test_row("bit", bit);
        RV_EQUAL(load_image(image, bytes, NULL), RV_ERR_FORMAT);
        image[bit / 8] = (unsigned char)(image[bit / 8] ^ 1u << (bit % 8));
    }
    RV_EQUAL(load_image(image, bytes, NULL), RV_OK);
}

/* ---- images with right checksums that lie ---- */

static void test_header_lies(void)
{
    static const struct {
        size_t at;
        int width;
        uint64_t value;
        const char *text;
    } rows[] = {
        {0, 4, 0x12345678, "RVIM"},
        {4, 4, 0, "version 0"},
        {4, 4, 2, "version 2"},
        {8, 4, 0x57534E48, "kind FLAT"},
        {12, 4, 1, "contradicts"},
        {16, 8, 0, "contradicts"},
        {16, 8, 64, "contradicts"},
        {16, 8, UINT64_MAX, "contradicts"},
        {16, 8, ((uint64_t)1 << 60) + 32, "truncated"},
        {24, 4, 0, "outside its sections"},
        {24, 4, 3, "contradicts"},
        {24, 4, 49, "contradicts"},
        {24, 4, 0xFFFFFFFFu, "contradicts"},
        {28, 4, 1, "contradicts"},
        {48, 8, 1, "contradicts"},
        {56, 8, 1, "contradicts"},
    };
    unsigned char *image = room(image_room.bytes);
    char message[160];
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        size_t bytes = make_image(RV_METRIC_COSINE, RV_DTYPE_F32, 0, 0, image);
        rv_test_row(rows[i].text, i);
        RV_EQUAL(sign_get(image + 24, 4), 3);
        sign_put(image + rows[i].at, rows[i].width, rows[i].value);
        if (rows[i].at == 24 && rows[i].value == 0) bytes -= 32; /* without table on a 64 again */
        if (rows[i].at == 24 && rows[i].value == 3) bytes += 32; /* its table starts off one */
        if (rows[i].at == 24) sign_put(image + 16, 8, bytes);
        sign_image(image, bytes);
        RV_EQUAL(load_image(image, bytes + 32, message), RV_ERR_FORMAT);
        RV_CHECK(strstr(message, rows[i].text) != NULL);
    }
}

/* Fields of the section table: byte in the row of a section, value. */
static void test_table_lies(void)
{
    static const struct {
        const char *tag;
        size_t at;
        int width;
        uint64_t value;
    } rows[] = {
        {"SPAR", 0, 4, 0x53574F52}, /* ROWS twice */
        {"SPAR", 0, 4, 0x30303030}, /* none */
        {"SPAR", 4, 4, 0},          {"SPAR", 4, 4, 3},   {"SPAR", 4, 4, 16},
        {"SPAR", 4, 4, 0x80000004}, {"SPAR", 4, 4, 8},   {"SPAR", 8, 8, 0},
        {"SPAR", 8, 8, 128},        {"SPAR", 8, 8, 65},  {"SPAR", 8, 8, UINT64_MAX - 63},
        {"SPAR", 16, 8, 7},         {"SPAR", 16, 8, 9},  {"SPAR", 16, 8, UINT64_MAX},
        {"SPAR", 24, 8, 1},         {"ROWS", 16, 8, 0},  {"ROWS", 16, 8, UINT64_MAX / 4 + 1},
        {"ROWS", 16, 8, 1 << 30},   {"ROWS", 16, 8, 44}, {"ROWS", 4, 4, 1},
        {"KEYS", 16, 8, 8},         {"KEYS", 16, 8, 10}, {"KEYS", 0, 4, 1},
        {"GONE", 0, 4, 1},          {"GONE", 16, 8, 0},  {"GONE", 8, 8, 64},
    };
    unsigned char *image = room(image_room.bytes);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        size_t bytes = make_image(RV_METRIC_L2, RV_DTYPE_F32, 1, 1, image);
        rv_test_row(rows[i].tag, i);
        sign_put(sign_row(image, rows[i].tag) + rows[i].at, rows[i].width, rows[i].value);
        sign_image(image, bytes);
        RV_EQUAL(load_image(image, bytes, NULL), RV_ERR_FORMAT);
    }
}

/* Parameters of the rows: index of the u32, value. */
static void test_parameter_lies(void)
{
    static const struct {
        size_t at;
        uint32_t value;
    } rows[] = {
        {0, 0},           {0, 4},  {0, 6},           {0, 65535},       {0, 65536},
        {0, 0xFFFFFFFFu}, {1, 1},  {1, 3},           {1, 4},           {1, 5},
        {1, 0xFFFFFFFFu}, {2, 2},  {2, 5},           {2, 8},           {2, 0xFFFFFFFFu},
        {3, 0},           {3, 16}, {3, 24},          {3, 0xFFFFFFFFu}, {4, 0},
        {4, 8},           {4, 10}, {4, 0xFFFFFFFEu}, {4, 0xFFFFFFFFu}, {4, 0x80000000u},
        {5, 0},           {5, 1},  {5, 3},           {5, 10},          {5, 0xFFFFFFFFu},
        {6, 1},           {6, 3},  {6, 4},           {6, 0xFFFFFFFFu}, {7, 1},
    };
    unsigned char *image = room(image_room.bytes);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        size_t bytes = make_image(RV_METRIC_L2, RV_DTYPE_F32, 1, 1, image);
        rv_status status;
        rv_test_row("parameter", i);
        sign_put(sign_section(image, "SPAR") + 4 * rows[i].at, 4, rows[i].value);
        sign_image(image, bytes);
        status = load_image(image, bytes, NULL);
        if (rows[i].at == 5 && rows[i].value == 0) {
            RV_EQUAL(status, RV_OK); /* without removed rows their section is not looked for */
        } else if (rows[i].at == 4 && rows[i].value >= 0x80000000u) {
            RV_CHECK(status == RV_ERR_FORMAT || status == RV_ERR_MEMORY); /* 32-bit machines */
        } else {
            RV_EQUAL(status, RV_ERR_FORMAT);
        }
    }
    { /* four billion rows of nothing: refused at once */
        size_t bytes = make_image(RV_METRIC_L2, RV_DTYPE_F32, 0, 0, image);
        sign_put(sign_section(image, "SPAR") + 16, 4, 0xFFFFFFFEu);
        sign_put(sign_section(image, "SPAR") + 24, 4, 1);
        sign_image(image, bytes);
        RV_EQUAL(load_image(image, bytes, NULL), RV_ERR_FORMAT);
    }
    { /* a metric without a function */
        size_t bytes = make_image(RV_METRIC_L2, RV_DTYPE_F32, 1, 1, image);
        sign_put(sign_section(image, "SPAR") + 8, 4, RV_METRIC_CUSTOM);
        sign_image(image, bytes);
        RV_EQUAL(load_image(image, bytes, NULL), RV_ERR_ARG);
    }
}

/* Values that no saved index holds. */
static void test_value_lies(void)
{
    static const struct {
        rv_metric metric;
        rv_dtype type;
        const char *tag;
        size_t at;
        int width;
        uint64_t value;
    } rows[] = {
        {RV_METRIC_L2, RV_DTYPE_F32, "ROWS", 44, 4, 0x7F800000},  /* infinity             */
        {RV_METRIC_L2, RV_DTYPE_F32, "ROWS", 176, 4, 0xFFC00000}, /* NaN, last element    */
        {RV_METRIC_COSINE, RV_DTYPE_F32, "ROWS", 0, 4, 0x7F800001},
        {RV_METRIC_L2, RV_DTYPE_F16, "ROWS", 12 * 8 + 8, 2, 0x7C00},
        {RV_METRIC_L1, RV_DTYPE_F16, "ROWS", 12, 2, 0xFE00},
        {RV_METRIC_L2, RV_DTYPE_BF16, "ROWS", 12 * 8, 2, 0xFF80},
        {RV_METRIC_IP, RV_DTYPE_BF16, "ROWS", 2, 2, 0x7FC1},
        {RV_METRIC_L2, RV_DTYPE_I8, "ROWS", 12, 4, 0x7F800000}, /* scale                */
        {RV_METRIC_L2, RV_DTYPE_I8, "ROWS", 12, 4, 0xBF800000},
        {RV_METRIC_L2, RV_DTYPE_I8, "ROWS", 12, 4, 0x7FC00000},
        {RV_METRIC_L2, RV_DTYPE_I8, "ROWS", 12 * 8 + 8, 1, 0x80}, /* code -128            */
        {RV_METRIC_COSINE, RV_DTYPE_F32, "NORM", 4, 4, 0xBF800000},
        {RV_METRIC_COSINE, RV_DTYPE_F32, "NORM", 32, 4, 0x7F800000},
        {RV_METRIC_COSINE, RV_DTYPE_I8, "NORM", 0, 4, 0x7FC00000},
        {RV_METRIC_HAMMING, RV_DTYPE_U1, "ROWS", 4, 1, 0x20}, /* a spare bit          */
        {RV_METRIC_L2, RV_DTYPE_F32, "KEYS", 8, 8, 1004},     /* twice                */
        {RV_METRIC_L2, RV_DTYPE_F32, "GONE", 0, 8, 1},        /* too few              */
        {RV_METRIC_L2, RV_DTYPE_F32, "GONE", 0, 8, 7},        /* too many             */
        {RV_METRIC_L2, RV_DTYPE_F32, "GONE", 0, 8, 0x201},    /* beyond the last row  */
        {RV_METRIC_L2, RV_DTYPE_F32, "GONE", 0, 8, 0x8000000000000001ull},
    };
    unsigned char *image = room(image_room.bytes);
    for (size_t i = 0; i < RV_COUNT_OF(rows); i++) {
        size_t bytes = make_image(rows[i].metric, rows[i].type, 1, 1, image);
        rv_test_row(rows[i].tag, i);
        sign_put(sign_section(image, rows[i].tag) + rows[i].at, rows[i].width, rows[i].value);
        sign_image(image, bytes);
        RV_EQUAL(load_image(image, bytes, NULL), RV_ERR_FORMAT);
    }
    { /* the key of a removed row has no meaning and may be another's */
        size_t bytes = make_image(RV_METRIC_L2, RV_DTYPE_F32, 1, 1, image);
        sign_put(sign_section(image, "KEYS"), 8, 1001);
        sign_image(image, bytes);
        RV_EQUAL(load_image(image, bytes, NULL), RV_OK);
    }
}

/* Every byte of header, parameters and table takes some other values, with right checksums: an
   error or an index, never a fault or more memory than the image justifies (see load_image). */
static void test_mutations(void)
{
    static const unsigned char values[] = {0, 1, 2, 4, 8, 0x40, 0x7F, 0x80, 0xFF};
    unsigned char *image = room(image_room.bytes);
    for (int type = RV_DTYPE_F32; type <= (int)RV_DTYPE_U1; type++) {
        size_t bytes = make_image(type == RV_DTYPE_U1 ? RV_METRIC_JACCARD : RV_METRIC_COSINE,
                                  (rv_dtype)type, 1, 1, image);
        for (size_t at = 0; at < bytes; at += RV_TEST_SCALE > 1 ? 5 : 1) {
            unsigned char was = image[at];
            for (size_t v = 0; v < RV_COUNT_OF(values); v++) {
                image[at] = values[v];
                sign_image(image, bytes);
                rv_test_row(rv_dtype_name((rv_dtype)type), at);
                (void)load_image(image, bytes, NULL);
            }
            image[at] = was;
        }
        sign_image(image, bytes);
        RV_EQUAL(load_image(image, bytes, NULL), RV_OK);
    }
}

/* ---- cancel ---- */

static rv_status save_and_load(rv_ctx *ctx, void *arg)
{
    const rv_flat *index = *(const rv_flat **)arg;
    rv_flat *copy = NULL;
    size_t bytes = 0, again = 0;
    unsigned char *image;
    uint64_t total = 0;
    rv_ctx calm;
    rv_status status = rv_flat_save(ctx, index, NULL, 0, &bytes);
    rv_test_ctx(&calm);
    if (status) return status;
    image = (unsigned char *)malloc(bytes);
    status = rv_flat_save(ctx, index, image, bytes, &again);
    /* a canceled save leaves no valid header */
    RV_EQUAL(rv_image_info(&calm, image, bytes, NULL, &total), status ? RV_ERR_FORMAT : RV_OK);
    if (!status) status = rv_flat_load(ctx, image, bytes, NULL, NULL, &copy);
    RV_CHECK((copy != NULL) == (status == RV_OK));
    rv_flat_destroy(copy);
    free(image);
    return status;
}

static void test_cancel(void)
{
    size_t n = RV_SCALED(120000, 9000);
    float *x = (float *)calloc(n * 32, sizeof(float));
    uint64_t *keys = (uint64_t *)malloc(n * sizeof(uint64_t));
    rv_flat_config config;
    rv_flat *index = NULL;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    memset(&config, 0, sizeof config);
    config.dim = 32;
    for (size_t i = 0; i < n; i++) keys[i] = 3 * i;
    RV_OKAY(&ctx, rv_flat_create(&ctx, &config, &index));
    RV_OKAY(&ctx, rv_flat_build(&ctx, index, keys, x, n));
    RV_CHECK(rv_test_cancel_sweep(save_and_load, &index) > 4);
    RV_CHECK(rv_test_oom_sweep(save_and_load, &index) > 3);
    rv_flat_destroy(index);
    free(x);
    free(keys);
}

int main(void)
{
    rv_test_begin("image");
    RV_RUN(test_layout);
    RV_RUN(test_info);
    RV_RUN(test_truncated);
    RV_RUN(test_bit_flips);
    RV_RUN(test_header_lies);
    RV_RUN(test_table_lies);
    RV_RUN(test_parameter_lies);
    RV_RUN(test_value_lies);
    RV_RUN(test_mutations);
    RV_RUN(test_cancel);
    return rv_test_end();
}
