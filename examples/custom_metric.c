/* A metric of your own: great-circle distance between places given as latitude and longitude.

       cc -I. examples/custom_metric.c -o custom_metric -lm && ./custom_metric */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include <math.h>
#include <stdio.h>

#define EARTH_KM 6371.0
#define DEGREE 0.017453292519943295

static const struct {
    const char *name;
    float at[2];
} places[] = {{"London", {51.51f, -0.13f}},     {"Paris", {48.86f, 2.35f}},
              {"Berlin", {52.52f, 13.41f}},     {"Cairo", {30.04f, 31.24f}},
              {"Nairobi", {-1.29f, 36.82f}},    {"Cape Town", {-33.92f, 18.42f}},
              {"Delhi", {28.61f, 77.21f}},      {"Beijing", {39.90f, 116.41f}},
              {"Tokyo", {35.68f, 139.69f}},     {"Sydney", {-33.87f, 151.21f}},
              {"Auckland", {-36.85f, 174.76f}}, {"Honolulu", {21.31f, -157.86f}},
              {"Anchorage", {61.22f, -149.90f}}, {"San Francisco", {37.77f, -122.42f}},
              {"New York", {40.71f, -74.01f}},  {"Lima", {-12.05f, -77.04f}},
              {"Sao Paulo", {-23.55f, -46.63f}}, {"Reykjavik", {64.15f, -21.94f}},
              {"Suva", {-18.14f, 178.44f}},     {"Apia", {-13.83f, -171.77f}}};
#define N (sizeof places / sizeof *places)

/* Haversine formula. Must be symmetric and pure; may run on several threads. */
static float kilometres(void *user, const void *a, const void *b, size_t dim)
{
    const float *p = (const float *)a, *q = (const float *)b;
    double dy = sin(DEGREE * (double)(p[0] - q[0]) / 2);
    double dx = sin(DEGREE * (double)(p[1] - q[1]) / 2);
    double h = dy * dy + cos(DEGREE * (double)p[0]) * cos(DEGREE * (double)q[0]) * dx * dx;
    (void)user;
    (void)dim;
    return (float)(2 * EARTH_KM * asin(sqrt(h < 1 ? h : 1)));
}

int main(void)
{
    static const float at_sea[2] = {-17.0f, -179.5f}; /* just across the date line from Suva */
    rv_hnsw_config config = {0};
    rv_hnsw *index = NULL;
    rv_hit hits[3];
    size_t n_hits;
    config.dim = 2;
    config.metric = RV_METRIC_CUSTOM;
    config.custom = kilometres;
    if (rv_hnsw_create(NULL, &config, &index))
        return 1;
    for (size_t i = 0; i < N; i++)
        if (rv_hnsw_add(NULL, index, i, places[i].at))
            return 1;
    if (rv_hnsw_search(NULL, index, at_sea, 3, 0, hits, &n_hits))
        return 1;
    for (size_t i = 0; i < n_hits; i++)
        printf("%5.0f km to %s\n", (double)hits[i].distance, places[hits[i].key].name);
    rv_hnsw_destroy(index);
    return n_hits != 3 || hits[0].key != 18 || hits[1].key != 19 || hits[2].key != 10;
}
