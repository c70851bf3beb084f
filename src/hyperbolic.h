#ifndef RV_HYPERBOLIC_H
#define RV_HYPERBOLIC_H
#include "base.h"

/* >>hyperbolic  Spaces of constant curvature: trees and other hierarchies fit into few dimensions
   of hyperbolic space with little distortion. Sectional curvature is -c, c > 0, in the Poincare
   ball and on the Lorentz sheet, and kappa of any sign in the stereographic model. Thread class:
   pure.

       double c = 1.0;
       float d = rv_poincare_distance(query, vector, n, 1.0f);
       rv_hnsw_config config = {0};
       config.dim = 5;
       config.metric = RV_METRIC_CUSTOM;
       config.custom = rv_poincare_metric;
       config.custom_user = &c;

   Functions without a suffix take and give floats, those with _f64 doubles; both compute in double,
   are written once and agree to the rounding of the result. Ball and stereographic points are
   [dim]; Lorentz points are [dim + 1], time first. Outputs may be the inputs. dim 0 is a space of
   one point: distances are 0. A base of NULL is the origin.

   Ball       |x| < 1 / sqrt(c). What lies on or beyond the rim is pulled in along its radius, as
              arguments and as results: to (1 - 2^-22) / sqrt(c) for floats, (1 - 2^-48) / sqrt(c)
              for doubles; points inside that are never moved. 1 - c |x|^2 is taken with twice the
              digits of a double, so distances of doubles keep 1e-12 as near to the rim as 1e-9.
   Lorentz    -t^2 + |x|^2 = -1 / c. The time of an argument is not read but computed, so any space
              part is a point; only rv_lorentz_inner reads it. Space parts up to 1e150.
   Stereo     kappa < 0 is the ball of c = -kappa; kappa > 0 a sphere of radius 1 / sqrt(kappa),
              seen from the pole opposite the origin; kappa = 0 Euclidean space, distance 2 |x - y|.
              All functions pass smoothly through kappa = 0. The pole has no coordinates: results
              there are infinite or NaN.
   Tangents   components in the coordinates of the model; the length of v at x is lambda |v| in the
              ball, lambda = 2 / (1 - c |x|^2), and the Lorentz norm on the sheet. The time of a
              Lorentz tangent is computed as well.

   NaN or infinity in an argument, c that is not positive and finite, kappa that is not finite: all
   results are NaN (statuses: RV_ERR_ARG). Scalars (r, t, rate) may be any finite number.
   Cost: O(dim) and a few elementary functions, about 0.1 us; matvec O(n_rows dim).

   Sources: Ungar, 2008 (gyrovectors, midpoint); Ganea, Becigneul, Hofmann, 2018 (maps of the ball);
   Nickel, Kiela, 2017 and 2018 (embeddings); Law et al., 2019 (centroid); Becigneul, Ganea, 2019
   (Adam); Bachmann, Becigneul, Ganea, 2020 (stereographic model). */

/* ---- the Poincare ball ---- */

RV_API float  rv_poincare_distance    (const float *x, const float *y, size_t dim, float c);
RV_API double rv_poincare_distance_f64(const double *x, const double *y, size_t dim, double c);
/* lambda at x, at least 2: how much longer a small step is than it looks. */
RV_API float  rv_poincare_conformal    (const float *x, size_t dim, float c);
RV_API double rv_poincare_conformal_f64(const double *x, size_t dim, double c);
/* In place: pulls x in, as above. */
RV_API void rv_poincare_project    (float *x, size_t dim, float c);
RV_API void rv_poincare_project_f64(double *x, size_t dim, double c);
/* Moebius addition: x (+) y. (-x) (+) x = 0; not commutative. */
RV_API void rv_poincare_add    (const float *x, const float *y, size_t dim, float c, float *out);
RV_API void rv_poincare_add_f64(const double *x, const double *y, size_t dim, double c,
                                double *out);
/* r (x) x: the point at r times the distance of x from the origin, on the line of x. */
RV_API void rv_poincare_scale    (float r, const float *x, size_t dim, float c, float *out);
RV_API void rv_poincare_scale_f64(double r, const double *x, size_t dim, double c, double *out);
/* The matrix [n_rows, dim], row-major, acting on directions: exp_0(M log_0(x)). out: [n_rows], must
   not overlap x or the matrix. */
RV_API void rv_poincare_matvec    (const float *matrix, size_t n_rows, const float *x, size_t dim,
                                   float c, float *out);
RV_API void rv_poincare_matvec_f64(const double *matrix, size_t n_rows, const double *x, size_t dim,
                                   double c, double *out);
/* The point reached from base by the geodesic that starts as tangent, and its inverse. */
RV_API void rv_poincare_exp    (const float *base, const float *tangent, size_t dim, float c,
                                float *out);
RV_API void rv_poincare_exp_f64(const double *base, const double *tangent, size_t dim, double c,
                                double *out);
RV_API void rv_poincare_log    (const float *base, const float *point, size_t dim, float c,
                                float *out);
RV_API void rv_poincare_log_f64(const double *base, const double *point, size_t dim, double c,
                                double *out);
/* The tangent at from carried to to along the geodesic; keeps lengths and angles. NULL: origin. */
RV_API void rv_poincare_transport    (const float *from, const float *to, const float *tangent,
                                      size_t dim, float c, float *out);
RV_API void rv_poincare_transport_f64(const double *from, const double *to, const double *tangent,
                                      size_t dim, double c, double *out);
/* The point at share t of the way from x to y; t 0: x, 1: y; beyond them the line goes on. */
RV_API void rv_poincare_geodesic    (const float *x, const float *y, float t, size_t dim, float c,
                                     float *out);
RV_API void rv_poincare_geodesic_f64(const double *x, const double *y, double t, size_t dim,
                                     double c, double *out);

/* Weighted gyromidpoint of points [n, dim]: (1/2) (x) (sum w lambda x / sum w (lambda - 1)), which
   is the Lorentz centroid seen in the ball. weights: [n], not negative, sum positive, NULL: equal.
   n >= 1. Holds dim doubles; polls. */
RV_API rv_status rv_poincare_midpoint    (rv_ctx *ctx, const float *points, const float *weights,
                                          size_t n, size_t dim, float c, float *out);
RV_API rv_status rv_poincare_midpoint_f64(rv_ctx *ctx, const double *points, const double *weights,
                                          size_t n, size_t dim, double c, double *out);

typedef struct rv_frechet_config {
    double tolerance;     /* the last step is at most so long, > 0; default 1e-9                 */
    uint32_t iterations;  /* at most so many, 1..100000; default 1000                            */
    double *step;         /* out: length of the last step, above tolerance: not there yet; may be
                             NULL                                                                */
} rv_frechet_config;

/* The point with the least weighted sum of squared distances, by the Karcher flow from the
   midpoint: x <- exp_x(sum w log_x(p) / sum w). Weights as above. config NULL: defaults. Holds
   3 dim doubles; polls. */
RV_API rv_status rv_poincare_mean    (rv_ctx *ctx, const rv_frechet_config *config,
                                      const float *points, const float *weights, size_t n,
                                      size_t dim, float c, float *out);
RV_API rv_status rv_poincare_mean_f64(rv_ctx *ctx, const rv_frechet_config *config,
                                      const double *points, const double *weights, size_t n,
                                      size_t dim, double c, double *out);

/* ---- search in the ball ---- */

/* One query against rows [n_rows, dim]: out[i] is the distance, relative error below 2e-6. factors:
   [n_rows] as made by rv_poincare_factors, or NULL: they are computed, which about doubles the
   cost. Rows beyond the rim are pulled in. */
RV_API void rv_poincare_distance_many(const float *query, const float *rows, const float *factors,
                                      size_t n_rows, size_t dim, float c, float *out);
/* 1 / (1 - c |x|^2) of each row; minus that of rows which distances must pull in; NaN. */
RV_API void rv_poincare_factors(const float *rows, size_t n_rows, size_t dim, float c, float *out);
/* For rv_hnsw_config.custom and the other indexes: the distance of two points. user: const double
   *c, one number that must outlive the index. */
RV_API float rv_poincare_metric(void *user, const void *a, const void *b, size_t dim);
/* The same, faster in many dimensions: rows carry their factor behind their coordinates. pack makes
   out [dim + 1] of x [dim], pulled in; config.dim is dim + 1. */
RV_API void  rv_poincare_pack(const float *x, size_t dim, float c, float *out);
RV_API float rv_poincare_packed_metric(void *user, const void *a, const void *b, size_t packed_dim);

/* ---- gradients and steps in the ball ---- */

/* Returns the distance d; grad_x, grad_y (either may be NULL) get its Euclidean gradients, 0 where
   x = y; they must not overlap x and y. The gradient of d^2 is 2 d times that. Riemannian
   gradients have length 1. */
RV_API float  rv_poincare_distance_grad    (const float *x, const float *y, size_t dim, float c,
                                            float *grad_x, float *grad_y);
RV_API double rv_poincare_distance_grad_f64(const double *x, const double *y, size_t dim, double c,
                                            double *grad_x, double *grad_y);
/* Euclidean to Riemannian gradient at x: out = grad / lambda^2. */
RV_API void rv_poincare_rgrad    (const float *x, const float *grad, size_t dim, float c,
                                  float *out);
RV_API void rv_poincare_rgrad_f64(const double *x, const double *grad, size_t dim, double c,
                                  double *out);
/* One step of Riemannian gradient descent, in place: x <- exp_x(-rate rgrad). grad: Euclidean. */
RV_API void rv_poincare_sgd    (float *x, const float *grad, size_t dim, float c, float rate);
RV_API void rv_poincare_sgd_f64(double *x, const double *grad, size_t dim, double c, double rate);

typedef struct rv_radam_config {
    double rate;          /* > 0; default 0.001                                                   */
    double beta1, beta2;  /* forgetting of the moments, in (0,1); default 0.9, 0.999              */
    double epsilon;       /* > 0; default 1e-8                                                    */
    int amsgrad;          /* non-zero: the largest second moment so far (the paper's RAMSGrad)    */
} rv_radam_config;

/* What Adam keeps of one point, beside a moment of as many elements as the point; zero at first.
   The second moment is one number per point, of the squared length of the gradient. */
typedef struct rv_radam {
    double second, largest;
    uint64_t step;
} rv_radam;

/* One step of Riemannian Adam, in place; the moment is carried to the new point. grad: Euclidean.
   config NULL: defaults. RV_ERR_CONFIG leaves all as it was; NaN in grad or x: RV_ERR_ARG, too. */
RV_API rv_status rv_poincare_adam    (rv_ctx *ctx, const rv_radam_config *config, float *x,
                                      const float *grad, size_t dim, float c, float *moment,
                                      rv_radam *state);
RV_API rv_status rv_poincare_adam_f64(rv_ctx *ctx, const rv_radam_config *config, double *x,
                                      const double *grad, size_t dim, double c, double *moment,
                                      rv_radam *state);

/* ---- the Lorentz sheet ---- */

RV_API float  rv_lorentz_distance    (const float *x, const float *y, size_t dim, float c);
RV_API double rv_lorentz_distance_f64(const double *x, const double *y, size_t dim, double c);
/* -x[0] y[0] + x[1] y[1] + ... + x[dim] y[dim]; reads the times. */
RV_API float  rv_lorentz_inner    (const float *x, const float *y, size_t dim);
RV_API double rv_lorentz_inner_f64(const double *x, const double *y, size_t dim);
/* In place: sets the time of x. */
RV_API void rv_lorentz_project    (float *x, size_t dim, float c);
RV_API void rv_lorentz_project_f64(double *x, size_t dim, double c);
RV_API void rv_lorentz_exp    (const float *base, const float *tangent, size_t dim, float c,
                               float *out);
RV_API void rv_lorentz_exp_f64(const double *base, const double *tangent, size_t dim, double c,
                               double *out);
RV_API void rv_lorentz_log    (const float *base, const float *point, size_t dim, float c,
                               float *out);
RV_API void rv_lorentz_log_f64(const double *base, const double *point, size_t dim, double c,
                               double *out);
RV_API void rv_lorentz_transport    (const float *from, const float *to, const float *tangent,
                                     size_t dim, float c, float *out);
RV_API void rv_lorentz_transport_f64(const double *from, const double *to, const double *tangent,
                                     size_t dim, double c, double *out);
/* sum w x / (sqrt(c) |sum w x|_L), points: [n, dim + 1]; weights as for rv_poincare_midpoint. */
RV_API rv_status rv_lorentz_centroid    (rv_ctx *ctx, const float *points, const float *weights,
                                         size_t n, size_t dim, float c, float *out);
RV_API rv_status rv_lorentz_centroid_f64(rv_ctx *ctx, const double *points, const double *weights,
                                         size_t n, size_t dim, double c, double *out);
/* Returns the distance; grad_x, grad_y (either may be NULL) get its Riemannian gradients, tangents
   of length 1, 0 where x = y (the Euclidean ones are infinite there). No overlap with x and y. */
RV_API float  rv_lorentz_distance_grad    (const float *x, const float *y, size_t dim, float c,
                                           float *grad_x, float *grad_y);
RV_API double rv_lorentz_distance_grad_f64(const double *x, const double *y, size_t dim, double c,
                                           double *grad_x, double *grad_y);
/* Euclidean gradient in all dim + 1 coordinates to Riemannian gradient at x. */
RV_API void rv_lorentz_rgrad    (const float *x, const float *grad, size_t dim, float c,
                                 float *out);
RV_API void rv_lorentz_rgrad_f64(const double *x, const double *grad, size_t dim, double c,
                                 double *out);
/* As in the ball, but grad is a Riemannian gradient: a tangent at x. moment: [dim + 1]. */
RV_API void rv_lorentz_sgd    (float *x, const float *grad, size_t dim, float c, float rate);
RV_API void rv_lorentz_sgd_f64(double *x, const double *grad, size_t dim, double c, double rate);
RV_API rv_status rv_lorentz_adam    (rv_ctx *ctx, const rv_radam_config *config, float *x,
                                     const float *grad, size_t dim, float c, float *moment,
                                     rv_radam *state);
RV_API rv_status rv_lorentz_adam_f64(rv_ctx *ctx, const rv_radam_config *config, double *x,
                                     const double *grad, size_t dim, double c, double *moment,
                                     rv_radam *state);

/* ---- conversions; distances stay ---- */

RV_API void rv_lorentz_from_poincare    (const float *x, size_t dim, float c, float *out);
RV_API void rv_lorentz_from_poincare_f64(const double *x, size_t dim, double c, double *out);
RV_API void rv_poincare_from_lorentz    (const float *x, size_t dim, float c, float *out);
RV_API void rv_poincare_from_lorentz_f64(const double *x, size_t dim, double c, double *out);
/* Klein's ball, in which geodesics are straight: 2 x / (1 + c |x|^2). Points are pulled in. */
RV_API void rv_klein_from_poincare    (const float *x, size_t dim, float c, float *out);
RV_API void rv_klein_from_poincare_f64(const double *x, size_t dim, double c, double *out);
RV_API void rv_poincare_from_klein    (const float *x, size_t dim, float c, float *out);
RV_API void rv_poincare_from_klein_f64(const double *x, size_t dim, double c, double *out);

/* ---- the stereographic model, any kappa ---- */

RV_API float  rv_stereo_distance    (const float *x, const float *y, size_t dim, float kappa);
RV_API double rv_stereo_distance_f64(const double *x, const double *y, size_t dim, double kappa);
RV_API void rv_stereo_add    (const float *x, const float *y, size_t dim, float kappa, float *out);
RV_API void rv_stereo_add_f64(const double *x, const double *y, size_t dim, double kappa,
                              double *out);
RV_API void rv_stereo_scale    (float r, const float *x, size_t dim, float kappa, float *out);
RV_API void rv_stereo_scale_f64(double r, const double *x, size_t dim, double kappa, double *out);
RV_API void rv_stereo_exp    (const float *base, const float *tangent, size_t dim, float kappa,
                              float *out);
RV_API void rv_stereo_exp_f64(const double *base, const double *tangent, size_t dim, double kappa,
                              double *out);
RV_API void rv_stereo_log    (const float *base, const float *point, size_t dim, float kappa,
                              float *out);
RV_API void rv_stereo_log_f64(const double *base, const double *point, size_t dim, double kappa,
                              double *out);
/* The projected mean of the embedding, on the near side also where kappa > 0; of points whose mean
   is the centre of the sphere: the origin. */
RV_API rv_status rv_stereo_midpoint    (rv_ctx *ctx, const float *points, const float *weights,
                                        size_t n, size_t dim, float kappa, float *out);
RV_API rv_status rv_stereo_midpoint_f64(rv_ctx *ctx, const double *points, const double *weights,
                                        size_t n, size_t dim, double kappa, double *out);

/* ---- embedding a hierarchy ---- */

typedef enum rv_embed_model {
    RV_EMBED_POINCARE = 0, /* points [dim]; steps x - rate rgrad, pulled in (2017)               */
    RV_EMBED_LORENTZ = 1   /* points [dim + 1]; steps exp_x(-rate rgrad) (2018)                  */
} rv_embed_model;

/* How far training has come; filled in before every call of ctx->poll. */
typedef struct rv_embed_progress {
    uint32_t epoch, epochs;   /* epochs done, and to do in all                                   */
    double loss;              /* mean over the pairs of the last whole epoch; NaN before         */
} rv_embed_progress;

typedef struct rv_embed_config {
    uint32_t dim;             /* required, 1..4096                                               */
    rv_embed_model model;     /* default RV_EMBED_POINCARE                                       */
    double c;                 /* > 0, finite; default 1. The smaller, the sharper: 1/4 doubles all
                                 distances of the loss                                           */
    uint32_t epochs;          /* passes over the edges, 1..10^6; default 500                     */
    uint32_t negatives;       /* unlinked nodes drawn per edge, 1..1024; default 50              */
    double rate;              /* learning rate, > 0; default 0.05                                */
    uint32_t burn_in;         /* first epochs at a lower rate, at most epochs; default 20        */
    double burn_in_factor;    /* the rate times this, in (0,1]; 1: no burn-in; default 0.1       */
    int warm;                 /* non-zero: start from the points in out, not from random ones    */
    uint64_t seed;            /* default: that of ctx                                            */
    rv_embed_progress *progress; /* out, may be NULL                                             */
} rv_embed_config;

/* Learns points such that the two nodes of an edge are nearer than the first and an unlinked one:
   loss -log(exp(-d(u,v)) / sum over v and the negatives of exp(-d(u,w))). edges: [n_edges, 2] pairs
   (u, v) of nodes below n_nodes, u != v; for a hierarchy all pairs of node and ancestor. out:
   [n_nodes, dim], Lorentz [n_nodes, dim + 1]. One thread; polls. Cost: epochs n_edges negatives
   times about 20 + 2 dim ns, on the sheet more than twice that. Holds 8 bytes per coordinate and 12
   per edge. On failure out is unchanged. */
RV_API rv_status rv_embed_train(rv_ctx *ctx, const rv_embed_config *config, const uint32_t *edges,
                                size_t n_edges, size_t n_nodes, float *out);

typedef struct rv_embed_score {
    double mean_rank;         /* over edges: rank of d(u,v) among d(u,w), w not linked from u; 1 is
                                 best                                                            */
    double map;               /* mean over nodes with edges of the average precision; 1 is best  */
} rv_embed_score;

/* How well distances give the edges back, as in Nickel, Kiela, 2017. Only dim, model and c of the
   config are read; edges counted once. O(n_nodes) per node with edges, O(log) per pair; polls.
   Without edges both are 1. */
RV_API rv_status rv_embed_evaluate(rv_ctx *ctx, const rv_embed_config *config, const float *points,
                                   const uint32_t *edges, size_t n_edges, size_t n_nodes,
                                   rv_embed_score *out);

#endif /* RV_HYPERBOLIC_H */
