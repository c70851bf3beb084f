/* Search on a microcontroller: 256 words with vectors of 128 signed bytes lie in flash as a const
   array; a query needs about 1.5 KB of stack, no heap and no file.
   also on: cortex-m4f

       arm-none-eabi-gcc -std=c99 -Os -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 \
           -ffunction-sections -fdata-sections -Wl,--gc-sections --specs=rdimon.specs -I. \
           examples/firmware.c -o firmware.elf -lm                      and likewise with any cc */
#define RV_STATIC    /* what is not called is not linked */
#define RV_NO_STDLIB /* no malloc is even referred to */
#ifndef RV_NO_SIMD
#define RV_NO_SIMD
#endif
#undef RV_THREADS
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include "data/firmware.h"
#include <stdio.h>

enum { NEAREST = 4 };

static int word_number(const char *word)
{
    for (int i = 0; i < FIRMWARE_WORDS; i++)
        if (strcmp(firmware_words[i], word) == 0)
            return i;
    return 0;
}

/* best: [NEAREST + 1] numbers of the words nearest to query, nearest first. Cosine of signed bytes:
   a dot product is exact in 32 bits. */
static void search(const int8_t *query, uint32_t *best)
{
    float distance[FIRMWARE_WORDS];
    for (int i = 0; i < FIRMWARE_WORDS; i++)
        distance[i] = rv_cosine_i8(query, firmware_vectors[i], FIRMWARE_DIM);
    rv_topk_f32(distance, FIRMWARE_WORDS, NEAREST + 1, best, NULL);
}

int main(void)
{
    static const char *const pairs[][2] = {{"ship", "vessel"}, {"blood", "heart"}};
    uint32_t best[NEAREST + 1];
    int found = 0, pairs_n = (int)(sizeof pairs / sizeof *pairs);
    for (int i = 0; i < pairs_n; i++) {
        int word = word_number(pairs[i][0]);
        search(firmware_vectors[word], best);
        printf("%s:", firmware_words[best[0]]); /* the word itself comes first */
        for (int j = 1; j <= NEAREST; j++) {
            printf(" %s", firmware_words[best[j]]);
            found += strcmp(firmware_words[best[j]], pairs[i][1]) == 0;
        }
        printf("\n");
    }
    return found != pairs_n;
}
