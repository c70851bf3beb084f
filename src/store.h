#ifndef RV_STORE_H
#define RV_STORE_H
#include "base.h"
#include "distance.h"

/* >>store  What every index keeps besides its own structure: vectors in a chosen type, u64 keys,
   and the map from key to row. Public parts only; the store itself is private to the indexes. */

/* Distance between two vectors in the caller's form, smaller is closer, finite for finite input and
   symmetric: float[dim], or bits for U1. It must be pure and may run on several threads. */
typedef float (*rv_custom_fn)(void *user, const void *a, const void *b, size_t dim);

/* A filter decides by key whether a row may be returned. Both members may be given: a row passes
   when both let it through. All zero (or NULL for the whole filter) lets everything through. */
typedef struct rv_filter {
    int (*accept)(void *user, uint64_t key); /* non-zero lets the key through; must be pure       */
    void *user;
    const uint8_t *bits;   /* bit key % 8 of byte key / 8; keys >= n_bits are refused             */
    uint64_t n_bits;
    double selectivity;    /* share of rows that pass, 0..1, if known; 0: the index estimates it  */
} rv_filter;

#endif /* RV_STORE_H */
