/* Images of the inverted file from bytes that nobody vouches for: load or view, then everything
   that can be done with the index.

   First byte: 0..7: a good image of that form, changed; anything else: see rv_fuzz.h. */
#include "ivf_set.h"
#include "rv_fuzz.h"

enum { ROWS = 260, DIM = 6, FORMS = RV_COUNT_OF(ivf_forms) };

static fuzz_good good[FORMS];

/* Each image is made once. */
static void make_good(size_t f)
{
    ivf_bed b;
    if (good[f].image) return;
    REQUIRE(ivf_bed_form(&b, f, ROWS, DIM, f % 2 == 0));
    good[f].image = ivf_image(&b.ctx, b.index, &good[f].bytes);
    REQUIRE(rv_test.bad == 0);
    ivf_bed_close(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *image;
    float query[64];
    size_t bytes, form;
    if (size < 1) return 0;
    form = data[0];
    for (size_t i = 0; i < 64; i++) query[i] = (float)i / 64.0f - 0.4f;
    if (form < FORMS) make_good(form);
    image = fuzz_image(data, size, form < FORMS ? &good[form] : NULL, &bytes);
    for (int view = 0; view < 2; view++) {
        const rv_custom_fn custom = form < FORMS ? ivf_form_custom(form) : NULL;
        rv_ivf *index = NULL;
        fuzz_heap heap;
        rv_ctx ctx;
        rv_status status;
        fuzz_ctx(&ctx, &heap, 4 * bytes + 65536);
        status = view ? rv_ivf_view(&ctx, image, bytes, custom, NULL, &index)
                      : rv_ivf_load(&ctx, image, bytes, custom, NULL, &index);
        REQUIRE((status == RV_OK) == (index != NULL));
        REQUIRE(status == RV_OK || ctx.message[0]);
        heap.limit = (size_t)1 << 28; /* beyond loading: growing, scratch of searches */
        if (index) REQUIRE(rv_ivf_check(&ctx, index) == RV_OK);
        if (index && sign_dim(image) <= 64) { /* the elements of the query */
            size_t count = rv_ivf_count(index);
            REQUIRE(ivf_exercise(&ctx, index, query, !view) == count);
            REQUIRE(rv_ivf_check(&ctx, index) == RV_OK);
        }
        rv_ivf_destroy(index);
        REQUIRE(heap.live == 0);
    }
    sign_aligned_free(image);
    return 0;
}
