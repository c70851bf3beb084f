#ifndef RV_ROTATE_H
#define RV_ROTATE_H
#include "base.h"

/* >>rotate  A random rotation: an orthogonal map that spreads every vector evenly over all
   coordinates, so that one step width, or one bit, per coordinate serves them all. Lengths, dot
   products and distances stay as they are, up to rounding of about 1e-6. Vectors are padded with
   zeros to a multiple of 64, p. It costs about 4 p log2(p) additions and holds 16 p bytes where p
   is a power of two, half as much again where it is not; all of it follows from a seed. Thread
   class: shared-read. */

typedef struct rv_rotation rv_rotation;

/* dim: 1..65535. The map follows from dim and ctx->seed and is the same on every machine. */
RV_API rv_status rv_rotation_create (rv_ctx *ctx, size_t dim, rv_rotation **out);
RV_API void      rv_rotation_destroy(rv_rotation *rotation); /* NULL is fine */
RV_API size_t rv_rotation_dim(const rv_rotation *rotation);  /* outputs: dim rounded up to 64 */
RV_API uint64_t rv_rotation_seed(const rv_rotation *rotation); /* what ctx->seed makes it again */
RV_API size_t    rv_rotation_bytes  (const rv_rotation *rotation); /* memory held, see rv_alloc */
/* x: [dim], y: [rotation dim]. They may be the same buffer if it has room for y. */
RV_API void      rv_rotation_apply  (const rv_rotation *rotation, const float *x, float *y);
/* The inverse. y: [rotation dim] is used up; x: [dim], may be y. */
RV_API void      rv_rotation_invert (const rv_rotation *rotation, float *y, float *x);

#endif /* RV_ROTATE_H */
