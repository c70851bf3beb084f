#ifndef RV_IMAGE_C
#define RV_IMAGE_C
#include "image.h"
#include "base.c"

/* Writer: one pass over the arrays of an index that sizes, copies, swaps bytes on big-endian
   machines and sums, so that save and its size question share one function. The header is written
   last: an image whose save was canceled is not valid. Reader: everything about the layout is
   checked in rv__image_open, once; afterwards a section is found by its tag, and its element size
   and count are compared with what the index expects before anything is allocated. */

#define RV__IMAGE_VERSION 1u
#define RV__IMAGE_HEAD 64u     /* bytes of the header                 */
#define RV__IMAGE_ENTRY 32u    /* bytes of a row of the section table */
#define RV__IMAGE_SECTIONS 48u /* most sections in an image           */

RV__FN uint32_t rv__image_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

RV__FN uint64_t rv__image_u64(const unsigned char *p)
{
    uint64_t x;
    if (rv__big_endian()) return (uint64_t)rv__image_u32(p) | (uint64_t)rv__image_u32(p + 4) << 32;
    memcpy(&x, p, sizeof x);
    return x;
}

RV__FN void rv__image_put_u32(unsigned char *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(x >> (8 * i));
}

RV__FN void rv__image_put_u64(unsigned char *p, uint64_t x)
{
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)(x >> (8 * i));
}

/* A tag as it stands in the image: its four letters in order. */
RV__FN uint32_t rv__image_tag(const char *tag)
{
    unsigned char bytes[4];
    memcpy(bytes, tag, 4);
    return rv__image_u32(bytes);
}

/* ---- checksum ---- */

typedef struct rv__image_sum {
    uint64_t lane[4];
} rv__image_sum;

RV__FN void rv__image_sum_begin(rv__image_sum *sum)
{
    for (uint64_t j = 0; j < 4; j++) sum->lane[j] = rv__mix(j);
}

#define RV__IMAGE_STEP(a, p)                                                                       \
    do {                                                                                           \
        (a) = ((a) ^ rv__image_u64(p)) * RV__SEED;                                                 \
        (a) = ((a) << 29) | ((a) >> 35);                                                           \
    } while (0)

/* Four independent chains hide the latency of the product. Each step is a bijection of the lane and
   of the word, so that a single changed word always changes the result. bytes: a multiple of 32. */
RV__FN void rv__image_sum_add(rv__image_sum *sum, const unsigned char *p, size_t bytes)
{
    uint64_t a = sum->lane[0], b = sum->lane[1], c = sum->lane[2], d = sum->lane[3];
    for (const unsigned char *end = p + bytes; p < end; p += 32) {
        RV__IMAGE_STEP(a, p);
        RV__IMAGE_STEP(b, p + 8);
        RV__IMAGE_STEP(c, p + 16);
        RV__IMAGE_STEP(d, p + 24);
    }
    sum->lane[0] = a;
    sum->lane[1] = b;
    sum->lane[2] = c;
    sum->lane[3] = d;
}

RV__FN uint64_t rv__image_sum_end(const rv__image_sum *sum, uint64_t bytes)
{
    uint64_t h = rv__mix(bytes / 8);
    for (int j = 0; j < 4; j++) h = rv__mix(h ^ sum->lane[j]);
    return h;
}

static uint64_t rv__image_head_sum(const unsigned char *header)
{
    unsigned char copy[RV__IMAGE_HEAD];
    rv__image_sum sum;
    memcpy(copy, header, sizeof copy);
    memset(copy + 40, 0, 8);
    rv__image_sum_begin(&sum);
    rv__image_sum_add(&sum, copy, sizeof copy);
    return rv__image_sum_end(&sum, sizeof copy);
}

/* Copies count elements, reversing the bytes of each where the machine is big-endian. dst and src
   may lie at any address. */
RV__FN void rv__image_copy(void *dst, const void *src, size_t elem_bytes, size_t count)
{
    unsigned char *to = (unsigned char *)dst;
    const unsigned char *from = (const unsigned char *)src;
    if (!count) return;
    if (elem_bytes == 1 || !rv__big_endian()) {
        memcpy(to, from, count * elem_bytes);
        return;
    }
    for (size_t i = 0; i < count; i++, to += elem_bytes, from += elem_bytes) {
        for (size_t b = 0; b < elem_bytes; b++) to[b] = from[elem_bytes - 1 - b];
    }
}

/* The same with polls; the elements of src may be many. */
RV__FN rv_status rv__image_copy_polled(rv_ctx *ctx, void *dst, const void *src, size_t elem_bytes,
                                       size_t count)
{
    const size_t piece = RV__PIECE / elem_bytes;
    for (size_t done = 0; done < count; done += piece) {
        size_t n = count - done < piece ? count - done : piece, at = done * elem_bytes;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        rv__image_copy((unsigned char *)dst + at, (const unsigned char *)src + at, elem_bytes, n);
    }
    return RV_OK;
}

/* ---- writer ---- */

typedef struct rv__image_writer {
    rv_ctx *ctx;
    unsigned char *image;   /* NULL: only sizes, from the start or since cap was exceeded       */
    size_t cap, at, summed; /* at: end of what was put, SIZE_MAX past any memory; summed: bytes
                                already in the checksum, header included                         */
    size_t next_poll;       /* where `at` will be                                               */
    int asked;              /* an image was given                                               */
    rv_status status;       /* of the first poll that canceled                                  */
    uint32_t kind, n;
    rv__image_sum sum;
    struct {
        uint32_t tag, elem_bytes;
        uint64_t offset, count;
    } entry[RV__IMAGE_SECTIONS];
} rv__image_writer;

/* image NULL: only the size is found. kind: four letters. */
RV__FN void rv__image_begin(rv_ctx *ctx, rv__image_writer *w, const char *kind, void *image,
                            size_t cap)
{
    memset(w, 0, sizeof *w);
    w->ctx = ctx;
    w->image = cap >= RV__IMAGE_HEAD ? (unsigned char *)image : NULL;
    w->asked = image != NULL;
    w->cap = cap;
    w->at = w->summed = RV__IMAGE_HEAD;
    w->kind = rv__image_tag(kind);
    rv__image_sum_begin(&w->sum);
    if (w->image) memset(w->image, 0, RV__IMAGE_HEAD);
}

/* Appends elements to the section begun last. A section may be put in several pieces. */
RV__FN void rv__image_put(rv__image_writer *w, size_t elem_bytes, const void *array, size_t count)
{
    const unsigned char *from = (const unsigned char *)array;
    const size_t piece = RV__PIECE / elem_bytes;
    size_t end = rv__add(w->at, rv__mul(count, elem_bytes));
    if (w->image && end > w->cap) w->image = NULL;
    while (w->image && count && !w->status) {
        size_t n = count < piece ? count : piece, whole;
        rv__image_copy(w->image + w->at, from, elem_bytes, n);
        w->at += n * elem_bytes;
        whole = (w->at - w->summed) & ~(size_t)31;
        rv__image_sum_add(&w->sum, w->image + w->summed, whole);
        w->summed += whole;
        from += n * elem_bytes;
        count -= n;
        if (w->at >= w->next_poll) {
            w->next_poll = w->at + RV__PIECE;
            w->status = rv__poll(w->ctx);
        }
    }
    w->at = end;
}

static void rv__image_pad(rv__image_writer *w)
{
    static const unsigned char zeros[RV__IMAGE_HEAD] = {0};
    size_t rest = w->at % RV__IMAGE_HEAD;
    if (rest && w->at != SIZE_MAX) rv__image_put(w, 1, zeros, RV__IMAGE_HEAD - rest);
}

/* Begins a section of count elements, all of which rv__image_put must bring before the next one. */
RV__FN void rv__image_section_begin(rv__image_writer *w, const char *tag, size_t elem_bytes,
                                    size_t count)
{
    RV_ASSERT(w->n < RV__IMAGE_SECTIONS);
    rv__image_pad(w);
    w->entry[w->n].tag = rv__image_tag(tag);
    w->entry[w->n].elem_bytes = (uint32_t)elem_bytes;
    w->entry[w->n].offset = (uint64_t)w->at;
    w->entry[w->n].count = (uint64_t)count;
    w->n++;
}

/* A whole section. tag: four letters, unique in the image; elem_bytes 1, 2, 4 or 8. */
RV__FN void rv__image_section(rv__image_writer *w, const char *tag, size_t elem_bytes,
                              const void *array, size_t count)
{
    rv__image_section_begin(w, tag, elem_bytes, count);
    rv__image_put(w, elem_bytes, array, count);
}

/* Writes table and header. *bytes is the total also when cap was too small (RV_ERR_ARG). */
RV__FN rv_status rv__image_end(rv_ctx *ctx, rv__image_writer *w, size_t *bytes)
{
    unsigned char row[RV__IMAGE_ENTRY];
    rv__image_pad(w);
    for (uint32_t i = 0; i < w->n; i++) {
        rv__image_put_u32(row, w->entry[i].tag);
        rv__image_put_u32(row + 4, w->entry[i].elem_bytes);
        rv__image_put_u64(row + 8, w->entry[i].offset);
        rv__image_put_u64(row + 16, w->entry[i].count);
        rv__image_put_u64(row + 24, 0);
        rv__image_put(w, 1, row, sizeof row);
    }
    if (w->status) return w->status;
    if (w->at == SIZE_MAX) return rv__no_memory(ctx, w->at);
    *bytes = w->at;
    if (!w->asked) return rv__ok(ctx);
    if (!w->image) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "cap is %z, the image needs %z bytes", w->cap, w->at);
    }
    memcpy(w->image, "RVIM", 4);
    rv__image_put_u32(w->image + 4, RV__IMAGE_VERSION);
    rv__image_put_u32(w->image + 8, w->kind);
    rv__image_put_u64(w->image + 16, (uint64_t)w->at);
    rv__image_put_u32(w->image + 24, w->n);
    rv__image_put_u64(w->image + 32, rv__image_sum_end(&w->sum, w->at - RV__IMAGE_HEAD));
    rv__image_put_u64(w->image + 40, rv__image_head_sum(w->image));
    return rv__ok(ctx);
}

/* ---- reader ---- */

typedef struct rv__image_reader {
    const unsigned char *image, *table;
    size_t total;
    uint32_t n;
} rv__image_reader;

static rv_status rv__image_header(rv_ctx *ctx, const unsigned char *image, size_t bytes)
{
    uint64_t total, table;
    if (!image) return rv__fail(ctx, RV_ERR_ARG, 0, "image is NULL");
    if (bytes < RV__IMAGE_HEAD) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "image of %z bytes, a header has 64", bytes);
    }
    if (memcmp(image, "RVIM", 4) != 0) {
        return rv__fail(ctx, RV_ERR_FORMAT, 0, "not an image: it does not start with RVIM");
    }
    if (rv__image_u32(image + 4) != RV__IMAGE_VERSION) {
        return rv__fail(ctx, RV_ERR_FORMAT, 4, "image of format version %l, this library reads 1",
                        (uint64_t)rv__image_u32(image + 4));
    }
    if (rv__image_u64(image + 40) != rv__image_head_sum(image)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 40, "the header of the image is damaged");
    }
    total = rv__image_u64(image + 16);
    table = (uint64_t)rv__image_u32(image + 24) * RV__IMAGE_ENTRY;
    if (rv__image_u32(image + 12) || rv__image_u32(image + 28) || rv__image_u64(image + 48) ||
        rv__image_u64(image + 56) || rv__image_u32(image + 24) > RV__IMAGE_SECTIONS ||
        total < RV__IMAGE_HEAD + table || (total - table) % RV__IMAGE_HEAD) {
        return rv__fail(ctx, RV_ERR_FORMAT, 12, "the header of the image contradicts itself");
    }
    return RV_OK;
}

RV_API rv_status rv_image_info(rv_ctx *ctx, const void *image, size_t bytes, char kind[5],
                               uint64_t *total_bytes)
{
    const unsigned char *p = (const unsigned char *)image;
    rv_status status = rv__image_header(ctx, p, bytes);
    if (status) return status;
    if (kind) {
        memcpy(kind, p + 8, 4);
        kind[4] = 0;
    }
    if (total_bytes) *total_bytes = rv__image_u64(p + 16);
    return rv__ok(ctx);
}

static rv_status rv__image_check_sum(rv_ctx *ctx, const unsigned char *image, size_t total)
{
    rv__image_sum sum;
    rv__image_sum_begin(&sum);
    for (size_t at = RV__IMAGE_HEAD; at < total; at += RV__PIECE) {
        size_t n = total - at < RV__PIECE ? total - at : RV__PIECE;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        rv__image_sum_add(&sum, image + at, n);
    }
    if (rv__image_sum_end(&sum, total - RV__IMAGE_HEAD) != rv__image_u64(image + 32)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 32,
                        "the image is damaged: its checksum does not match");
    }
    return RV_OK;
}

/* Checks header, checksum and section table; image may lie at any address and have more bytes than
   its total. Allocates nothing. */
RV__FN rv_status rv__image_open(rv_ctx *ctx, rv__image_reader *r, const void *image, size_t bytes,
                                const char *kind)
{
    const unsigned char *p = (const unsigned char *)image;
    uint64_t total, end = RV__IMAGE_HEAD, table;
    rv_status status = rv__image_header(ctx, p, bytes);
    if (status) return status;
    total = rv__image_u64(p + 16);
    if (rv__image_u32(p + 8) != rv__image_tag(kind)) {
        return rv__fail(ctx, RV_ERR_FORMAT, 8, "the image is not of kind %s", kind);
    }
    if (total > bytes) {
        return rv__fail(ctx, RV_ERR_FORMAT, bytes, "the image is truncated: %z bytes of %l", bytes,
                        total);
    }
    status = rv__image_check_sum(ctx, p, (size_t)total);
    if (status) return status;
    r->image = p;
    r->total = (size_t)total;
    r->n = rv__image_u32(p + 24);
    table = total - (uint64_t)r->n * RV__IMAGE_ENTRY;
    r->table = p + (size_t)table;
    for (uint32_t i = 0; i < r->n; i++) {
        const unsigned char *row = r->table + i * RV__IMAGE_ENTRY;
        uint64_t elem = rv__image_u32(row + 4), offset = rv__image_u64(row + 8);
        uint64_t count = rv__image_u64(row + 16);
        if ((elem != 1 && elem != 2 && elem != 4 && elem != 8) || offset != end ||
            count > (table - offset) / elem || rv__image_u64(row + 24)) {
            return rv__fail(ctx, RV_ERR_FORMAT, (size_t)(row - p),
                            "section %l of the image is malformed", (uint64_t)i);
        }
        /* table is a multiple of 64 as well, so that the rounded end cannot pass it */
        end = (offset + count * elem + RV__IMAGE_HEAD - 1) & ~(uint64_t)(RV__IMAGE_HEAD - 1);
        for (uint32_t j = 0; j < i; j++) {
            if (rv__image_u32(r->table + j * RV__IMAGE_ENTRY) == rv__image_u32(row)) {
                return rv__fail(ctx, RV_ERR_FORMAT, (size_t)(row - p),
                                "the image has a section twice");
            }
        }
    }
    if (end != table) {
        return rv__fail(ctx, RV_ERR_FORMAT, (size_t)end,
                        "the image has bytes outside its sections");
    }
    return RV_OK;
}

static const unsigned char *rv__image_find(const rv__image_reader *r, const char *tag)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const unsigned char *row = r->table + i * RV__IMAGE_ENTRY;
        if (rv__image_u32(row) == rv__image_tag(tag)) return row;
    }
    return NULL;
}

/* 1 and the number of elements when there is such a section of such elements; otherwise 0. */
RV__FN int rv__image_count(const rv__image_reader *r, const char *tag, size_t elem_bytes,
                           size_t *count)
{
    const unsigned char *row = rv__image_find(r, tag);
    *count = 0;
    if (!row || rv__image_u32(row + 4) != elem_bytes) return 0;
    *count = (size_t)rv__image_u64(row + 16);
    return 1;
}

static rv_status rv__image_locate(rv_ctx *ctx, const rv__image_reader *r, const char *tag,
                                  size_t elem_bytes, size_t count, const unsigned char **out)
{
    const unsigned char *row = rv__image_find(r, tag);
    if (!row) return rv__fail(ctx, RV_ERR_FORMAT, 0, "the image has no section %s", tag);
    if (rv__image_u32(row + 4) != elem_bytes || rv__image_u64(row + 16) != count) {
        return rv__fail(ctx, RV_ERR_FORMAT, (size_t)(row - r->image),
                        "section %s has %l elements of %l bytes, not %z of %z", tag,
                        rv__image_u64(row + 16), (uint64_t)rv__image_u32(row + 4), count,
                        elem_bytes);
    }
    *out = r->image + (size_t)rv__image_u64(row + 8);
    return RV_OK;
}

/* Copies a section of exactly count elements to the caller's array. */
RV__FN rv_status rv__image_values(rv_ctx *ctx, const rv__image_reader *r, const char *tag,
                                  size_t elem_bytes, size_t count, void *out)
{
    const unsigned char *from = NULL;
    rv_status status = rv__image_locate(ctx, r, tag, elem_bytes, count, &from);
    return status ? status : rv__image_copy_polled(ctx, out, from, elem_bytes, count);
}

/* Refuses values of a section that are not finite. */
RV__FN rv_status rv__image_check_finite(rv_ctx *ctx, const char *tag, const float *x, size_t count)
{
    const size_t piece = RV__PIECE / sizeof(float);
    for (size_t at = 0; at < count; at += piece) {
        size_t n = count - at < piece ? count - at : piece;
        rv_status status = rv__poll(ctx);
        if (status) return status;
        if (rv__find_not_finite(x + at, n) < n) {
            return rv__fail(ctx, RV_ERR_FORMAT, 0, "section %s has a value that is not finite",
                            tag);
        }
    }
    return RV_OK;
}

/* Whether the arrays of an image can be used where they lie. */
RV__FN rv_status rv__image_check_view(rv_ctx *ctx, const rv__image_reader *r)
{
    if (rv__big_endian()) {
        return rv__fail(ctx, RV_ERR_UNSUPPORTED, 0,
                        "an image can be viewed on little-endian machines only: load it");
    }
    if ((uintptr_t)r->image % RV__LINE) {
        return rv__fail(ctx, RV_ERR_ARG, 0, "a viewed image must start on a multiple of 64 bytes");
    }
    return RV_OK;
}

/* A section of exactly count elements. view 0: a copy from alloc (free it with rv__put and the same
   count and elem_bytes); view 1: a pointer into the image, which must not be written through. */
RV__FN rv_status rv__image_array(rv_ctx *ctx, const rv__image_reader *r, const char *tag,
                                 size_t elem_bytes, size_t count, int view, const rv_alloc *alloc,
                                 void **out)
{
    const unsigned char *from = NULL;
    rv_status status = rv__image_locate(ctx, r, tag, elem_bytes, count, &from);
    void *block;
    if (status) return status;
    if (view) {
        status = rv__image_check_view(ctx, r);
        if (status) return status;
        *out = (void *)(uintptr_t)from;
        return RV_OK;
    }
    block = rv__get(alloc, count, elem_bytes);
    if (!block) return rv__no_memory(ctx, count * elem_bytes);
    status = rv__image_copy_polled(ctx, block, from, elem_bytes, count);
    if (status) {
        rv__put(alloc, block, count, elem_bytes);
        return status;
    }
    *out = block;
    return RV_OK;
}

#undef RV__IMAGE_ENTRY
#undef RV__IMAGE_HEAD
#undef RV__IMAGE_SECTIONS
#undef RV__IMAGE_STEP
#undef RV__IMAGE_VERSION
#endif /* RV_IMAGE_C */
