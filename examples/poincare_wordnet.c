/* WordNet's mammals in hyperbolic space: learned in five dimensions and scored, then learned in two
   and drawn as a disk, the root in the middle. The picture goes to the standard output:

       cc -O2 -I. examples/poincare_wordnet.c -o mammals -lm && ./mammals > mammals.svg

   Method: Nickel, Kiela, Poincare embeddings for learning hierarchical representations, 2017. */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include "data/mammals.h"
#include <stdio.h>
#include <time.h>

static float points[MAMMALS * 5];
static int above[MAMMALS], below[MAMMALS], parent[MAMMALS];

static int learn(uint32_t dim, uint32_t epochs, double c, rv_embed_score *score)
{
    rv_embed_config config = {0};
    rv_ctx ctx = {0};
    clock_t start = clock();
    config.dim = dim;
    config.epochs = epochs;
    config.c = c;
    config.rate = 0.1;
    if (rv_embed_train(&ctx, &config, mammal_pairs, MAMMAL_PAIRS, MAMMALS, points) ||
        rv_embed_evaluate(&ctx, &config, points, mammal_pairs, MAMMAL_PAIRS, MAMMALS, score)) {
        fprintf(stderr, "%s\n", ctx.message);
        return 1;
    }
    fprintf(stderr, "%u dimensions: mean rank %.3f, MAP %.3f, %.1f s\n", (unsigned)dim,
            score->mean_rank, score->map, (double)(clock() - start) / CLOCKS_PER_SEC);
    return 0;
}

static void draw(void)
{
    const float root[2] = {-points[0], -points[1]};
    printf("<svg xmlns='http://www.w3.org/2000/svg' viewBox='-1050 -1050 2100 2100'>\n"
           "<rect x='-1050' y='-1050' width='2100' height='2100' fill='white'/>\n"
           "<circle r='1000' fill='#f7f7f4' stroke='#888'/>\n"
           "<g fill='none' stroke='#3a6ea5' stroke-opacity='.35' stroke-width='1.5'>\n");
    for (int i = 0; i < MAMMALS; i++) /* a shift that keeps all distances */
        rv_poincare_add(root, points + 2 * i, 2, 1.0f, points + 2 * i);
    for (int i = 1; i < MAMMALS; i++) {
        printf("<polyline points='");
        for (int step = 0; step <= 16; step++) {
            float at[2];
            rv_poincare_geodesic(points + 2 * parent[i], points + 2 * i, (float)step / 16.0f, 2,
                                 1.0f, at);
            printf("%.0f,%.0f ", 1000.0 * (double)at[0], 1000.0 * (double)at[1]);
        }
        printf("'/>\n");
    }
    printf("</g>\n<g font-family='sans-serif' text-anchor='middle' fill='#b03a2e'>\n");
    for (int i = 0; i < MAMMALS; i++) {
        double x = 1000.0 * (double)points[2 * i], y = 1000.0 * (double)points[2 * i + 1];
        printf("<circle cx='%.1f' cy='%.1f' r='%d'/>\n", x, y, below[i] > 20 ? 6 : 3);
        if (below[i] > 35)
            printf("<text x='%.1f' y='%.1f' font-size='%d' fill='black'>%s</text>\n", x, y - 10,
                   below[i] > 150 ? 34 : 22, mammals[i]);
    }
    printf("</g>\n</svg>\n");
}

int main(void)
{
    rv_embed_score score, flat;
    for (int i = 0; i < MAMMAL_PAIRS; i++) {
        above[mammal_pairs[2 * i]]++;
        below[mammal_pairs[2 * i + 1]]++;
    }
    for (int i = 0; i < MAMMAL_PAIRS; i++) { /* of all that are above it, the parent is lowest */
        uint32_t child = mammal_pairs[2 * i], other = mammal_pairs[2 * i + 1];
        if (above[other] >= above[parent[child]]) parent[child] = (int)other;
    }
    if (learn(5, 500, 0.25, &score) || learn(2, 300, 1.0, &flat)) return 1;
    draw();
    return score.mean_rank > 1.2 || score.map < 0.94;
}
