/* hyperbolic: golden values, identities, limits, gradients, bad input. */
#include "golden/hyperbolic.h"
#include "rv_test.h"

#define MOST 8 /* dimensions used here */

static double wall(void)
{
    return HUGE_VAL;
}

static double not_a_number(void)
{
    return wall() - wall();
}

/* NaN by its bits: -ffast-math takes comparisons for granted. */
static int is_nan(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7FFFFFFFFFFFFFFFull) > 0x7FF0000000000000ull;
}

static int all_nan(const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_nan(x[i])) return 0;
    return 1;
}

static int all_nan_f32(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_nan((double)x[i])) return 0;
    return 1;
}

static double length(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

/* Relative to the length of what is wanted. */
static double error_of(const double *got, const double *want, size_t n)
{
    double gap[MOST + 1], scale = length(want, n);
    for (size_t i = 0; i < n; i++) gap[i] = got[i] - want[i];
    return length(gap, n) / (scale > 0 ? scale : 1);
}

#define RV_VECTOR(got, want, n, tolerance) RV_NEAR(error_of((got), (want), (n)), 0, (tolerance))

static double uniform(rv_test_rng *rng)
{
    return (double)(rv_test_u64(rng) >> 11) / 4503599627370496.0 - 1.0;
}

/* A point of the ball at up to `reach` of its radius. */
static void random_point(rv_test_rng *rng, size_t dim, double c, double reach, double *x)
{
    double by;
    for (size_t i = 0; i < dim; i++) x[i] = uniform(rng);
    by = reach * fabs(uniform(rng)) / sqrt(c) / length(x, dim);
    for (size_t i = 0; i < dim; i++) x[i] *= by;
}

static const double curvatures[] = {0.1, 1.0, 4.0};

/* ---- golden values ---- */

static void test_golden_ball(void)
{
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_ball); i++) {
        double c = rv_golden_ball[i].c, out[3], other[3];
        const double *x = rv_golden_ball[i].x, *y = rv_golden_ball[i].y, *v = rv_golden_ball[i].v;
        rv_test_row("ball", i);
        RV_NEAR(rv_poincare_distance_f64(x, y, 3, c) / rv_golden_ball[i].distance, 1, 1e-14);
        rv_poincare_add_f64(x, y, 3, c, out);
        RV_VECTOR(out, rv_golden_ball[i].add, 3, 1e-13);
        rv_poincare_exp_f64(x, v, 3, c, out);
        RV_VECTOR(out, rv_golden_ball[i].exp, 3, 1e-13);
        rv_poincare_log_f64(x, y, 3, c, out);
        RV_VECTOR(out, rv_golden_ball[i].log, 3, 1e-13);
        rv_poincare_transport_f64(x, y, v, 3, c, out);
        RV_VECTOR(out, rv_golden_ball[i].transport, 3, 1e-13);
        rv_poincare_geodesic_f64(x, y, rv_golden_ball[i].t, 3, c, out);
        RV_VECTOR(out, rv_golden_ball[i].geodesic, 3, 1e-12);
        RV_NEAR(rv_poincare_distance_grad_f64(x, y, 3, c, out, other) / rv_golden_ball[i].distance,
                1, 1e-14);
        RV_VECTOR(out, rv_golden_ball[i].gradient, 3, 1e-13);
        RV_NEAR(rv_poincare_distance_grad_f64(y, x, 3, c, NULL, out) / rv_golden_ball[i].distance,
                1, 1e-14);
        RV_VECTOR(out, rv_golden_ball[i].gradient, 3, 1e-13);
        rv_poincare_scale_f64(rv_golden_ball[i].r, x, 3, c, out);
        RV_VECTOR(out, rv_golden_ball[i].scale, 3, 1e-13);
    }
    rv_test_row("cases", RV_COUNT_OF(rv_golden_ball));
    RV_CHECK(RV_COUNT_OF(rv_golden_ball) >= 100);
}

static void test_golden_sheet(void)
{
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_sheet); i++) {
        double c = rv_golden_sheet[i].c, x[4], y[4], v[4], out[4];
        rv_test_row("sheet", i);
        x[0] = 7; /* times of arguments are not read */
        y[0] = not_a_number();
        v[0] = -1e30;
        memcpy(x + 1, rv_golden_sheet[i].x, sizeof rv_golden_sheet[i].x);
        memcpy(y + 1, rv_golden_sheet[i].y, sizeof rv_golden_sheet[i].y);
        memcpy(v + 1, rv_golden_sheet[i].v, sizeof rv_golden_sheet[i].v);
        RV_NEAR(rv_lorentz_distance_f64(x, y, 3, c) / rv_golden_sheet[i].distance, 1, 1e-14);
        rv_lorentz_log_f64(x, y, 3, c, out);
        RV_VECTOR(out, rv_golden_sheet[i].log, 4, 1e-13);
        rv_lorentz_exp_f64(x, v, 3, c, out);
        RV_VECTOR(out, rv_golden_sheet[i].exp, 4, 1e-13);
        rv_lorentz_transport_f64(x, y, v, 3, c, out);
        RV_VECTOR(out, rv_golden_sheet[i].transport, 4, 2e-13);
    }
}

static void test_golden_stereo(void)
{
    static const double weights[] = {1, 2, 0.5};
    static const float weights_f32[] = {1, 2, 0.5};
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_stereo); i++) {
        double kappa = rv_golden_stereo[i].kappa, points[6], out[2];
        const double *x = rv_golden_stereo[i].x, *y = rv_golden_stereo[i].y,
                     *v = rv_golden_stereo[i].v;
        float fx[2], fy[2], fv[2], fp[6], fk = (float)kappa, fout[2];
        rv_test_row("stereo", i);
        memcpy(points, x, 16);
        memcpy(points + 2, y, 16);
        memcpy(points + 4, rv_golden_stereo[i].z, 16);
        RV_NEAR(rv_stereo_distance_f64(x, y, 2, kappa) / rv_golden_stereo[i].distance, 1, 1e-14);
        rv_stereo_add_f64(x, y, 2, kappa, out);
        RV_VECTOR(out, rv_golden_stereo[i].add, 2, 1e-14);
        rv_stereo_exp_f64(x, v, 2, kappa, out);
        RV_VECTOR(out, rv_golden_stereo[i].exp, 2, 1e-14);
        rv_stereo_log_f64(x, y, 2, kappa, out);
        RV_VECTOR(out, rv_golden_stereo[i].log, 2, 1e-14);
        rv_stereo_scale_f64(1.5, x, 2, kappa, out);
        RV_VECTOR(out, rv_golden_stereo[i].scale, 2, 1e-14);
        RV_EQUAL(rv_stereo_midpoint_f64(NULL, points, weights, 3, 2, kappa, out), RV_OK);
        RV_VECTOR(out, rv_golden_stereo[i].midpoint, 2, 1e-14);
        for (size_t j = 0; j < 6; j++) {
            fx[j % 2] = (float)x[j % 2];
            fy[j % 2] = (float)y[j % 2];
            fv[j % 2] = (float)v[j % 2];
            fp[j] = (float)points[j];
        }
        RV_NEAR((double)rv_stereo_distance(fx, fy, 2, fk) / rv_golden_stereo[i].distance, 1, 2e-6);
        rv_stereo_add(fx, fy, 2, fk, fout);
        for (size_t j = 0; j < 2; j++) RV_NEAR(fout[j], rv_golden_stereo[i].add[j], 2e-6);
        rv_stereo_exp(fx, fv, 2, fk, fout);
        for (size_t j = 0; j < 2; j++) RV_NEAR(fout[j], rv_golden_stereo[i].exp[j], 2e-6);
        rv_stereo_log(fx, fy, 2, fk, fout);
        for (size_t j = 0; j < 2; j++) RV_NEAR(fout[j], rv_golden_stereo[i].log[j], 2e-6);
        rv_stereo_scale(1.5f, fx, 2, fk, fout);
        for (size_t j = 0; j < 2; j++) RV_NEAR(fout[j], rv_golden_stereo[i].scale[j], 2e-6);
        RV_EQUAL(rv_stereo_midpoint(NULL, fp, weights_f32, 3, 2, fk, fout), RV_OK);
        for (size_t j = 0; j < 2; j++) RV_NEAR(fout[j], rv_golden_stereo[i].midpoint[j], 2e-6);
    }
}

/* Values that geomstats publishes for the ball of curvature -1; the first, in floats, stands for
   2 arsinh(2). */
static void test_published(void)
{
    static const double a[] = {0.5, 0.5}, b[] = {0.5, -0.5}, base[] = {0.3, 0.3}, to[] = {0.3, 0.5};
    double out[2];
    RV_NEAR(rv_poincare_distance_f64(a, b, 2, 1), 2.887270927429199, 3e-8);
    RV_NEAR(rv_poincare_distance_f64(a, b, 2, 1), 2.88727095035762068, 1e-15);
    rv_poincare_log_f64(base, to, 2, 1, out);
    RV_NEAR(out[0], -0.01733576, 5e-9);
    RV_NEAR(out[1], 0.21958634, 5e-9);
}

/* Floats compute as doubles do, but for rounding at the end. */
static void test_float(void)
{
    for (size_t i = 0; i < RV_COUNT_OF(rv_golden_ball); i++) {
        float c = (float)rv_golden_ball[i].c, x[3], y[3], v[3], out[4];
        double dc = (double)c, dx[3], dy[3], dv[3], want[4];
        for (size_t j = 0; j < 3; j++) {
            x[j] = 0.999f * (float)rv_golden_ball[i].x[j];
            y[j] = 0.999f * (float)rv_golden_ball[i].y[j];
            v[j] = (float)rv_golden_ball[i].v[j];
            dx[j] = (double)x[j];
            dy[j] = (double)y[j];
            dv[j] = (double)v[j];
        }
        rv_test_row("ball", i);
        want[0] = rv_poincare_distance_f64(dx, dy, 3, dc);
        RV_NEAR(rv_poincare_distance(x, y, 3, c), want[0], 1e-7 * want[0]);
        want[0] = rv_poincare_conformal_f64(dx, 3, dc);
        RV_NEAR(rv_poincare_conformal(x, 3, c), want[0], 1e-7 * want[0]);
#define SAME(n)                                                                                    \
    for (size_t j = 0; j < (n); j++) RV_NEAR(out[j], want[j], 2e-7 * length(want, (n)))
        rv_poincare_add(x, y, 3, c, out);
        rv_poincare_add_f64(dx, dy, 3, dc, want);
        SAME(3);
        rv_poincare_scale(0.75f, x, 3, c, out);
        rv_poincare_scale_f64(0.75, dx, 3, dc, want);
        SAME(3);
        rv_poincare_exp(x, v, 3, c, out);
        rv_poincare_exp_f64(dx, dv, 3, dc, want);
        SAME(3);
        rv_poincare_log(x, y, 3, c, out);
        rv_poincare_log_f64(dx, dy, 3, dc, want);
        SAME(3);
        rv_poincare_transport(x, y, v, 3, c, out);
        rv_poincare_transport_f64(dx, dy, dv, 3, dc, want);
        SAME(3);
        rv_poincare_geodesic(x, y, 0.25f, 3, c, out);
        rv_poincare_geodesic_f64(dx, dy, 0.25, 3, dc, want);
        SAME(3);
        (void)rv_poincare_distance_grad(x, y, 3, c, out, NULL);
        (void)rv_poincare_distance_grad_f64(dx, dy, 3, dc, want, NULL);
        SAME(3);
        rv_poincare_rgrad(x, v, 3, c, out);
        rv_poincare_rgrad_f64(dx, dv, 3, dc, want);
        SAME(3);
        rv_klein_from_poincare(x, 3, c, out);
        rv_klein_from_poincare_f64(dx, 3, dc, want);
        SAME(3);
        rv_poincare_from_klein(x, 3, c, out);
        rv_poincare_from_klein_f64(dx, 3, dc, want);
        SAME(3);
        rv_lorentz_from_poincare(x, 3, c, out);
        rv_lorentz_from_poincare_f64(dx, 3, dc, want);
        SAME(4);
        memcpy(out, x, sizeof x);
        memcpy(want, dx, sizeof dx);
        rv_poincare_sgd(out, v, 3, c, 0.5f);
        rv_poincare_sgd_f64(want, dv, 3, dc, 0.5);
        SAME(3);
    }
}

static void test_float_sheet(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 3);
    for (size_t i = 0; i < 30; i++) {
        float x[4], y[4], v[4], out[4], c = (float)curvatures[i % 3];
        double dx[4], dy[4], dv[4], want[4], dc = (double)c;
        for (size_t j = 0; j < 4; j++) {
            x[j] = 3 * rv_test_f32(&rng);
            y[j] = 3 * rv_test_f32(&rng);
            v[j] = rv_test_f32(&rng);
            dx[j] = (double)x[j];
            dy[j] = (double)y[j];
            dv[j] = (double)v[j];
        }
        RV_NEAR(rv_lorentz_inner(x, y, 3), rv_lorentz_inner_f64(dx, dy, 3), 1e-5);
        RV_NEAR(rv_lorentz_inner_f64(dx, dy, 3),
                dx[1] * dy[1] + dx[2] * dy[2] + dx[3] * dy[3] - dx[0] * dy[0], 1e-14);
        want[0] = rv_lorentz_distance_f64(dx, dy, 3, dc);
        RV_NEAR(rv_lorentz_distance(x, y, 3, c), want[0], 1e-7 * want[0]);
        rv_lorentz_exp(x, v, 3, c, out);
        rv_lorentz_exp_f64(dx, dv, 3, dc, want);
        SAME(4);
        rv_lorentz_log(x, y, 3, c, out);
        rv_lorentz_log_f64(dx, dy, 3, dc, want);
        SAME(4);
        rv_lorentz_transport(x, y, v, 3, c, out);
        rv_lorentz_transport_f64(dx, dy, dv, 3, dc, want);
        SAME(4);
        (void)rv_lorentz_distance_grad(x, y, 3, c, NULL, out);
        (void)rv_lorentz_distance_grad_f64(dx, dy, 3, dc, NULL, want);
        SAME(4);
        rv_lorentz_rgrad(x, v, 3, c, out);
        rv_lorentz_rgrad_f64(dx, dv, 3, dc, want);
        SAME(4);
        rv_poincare_from_lorentz(x, 3, c, out);
        rv_poincare_from_lorentz_f64(dx, 3, dc, want);
        SAME(3);
        memcpy(out, x, sizeof x);
        memcpy(want, dx, sizeof dx);
        rv_lorentz_sgd(out, v, 3, c, 0.5f);
        rv_lorentz_sgd_f64(want, dv, 3, dc, 0.5);
        SAME(4);
    }
#undef SAME
}

/* ---- identities ---- */

static void test_ball_identities(void)
{
    static const double turn[] = {0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1};
    rv_test_rng rng;
    rv_test_seed(&rng, 5);
    for (size_t i = 0; i < 300; i++) {
        double c = curvatures[i % 3], x[4], y[4], v[4], z[4], back[4], out[4], other[4], d;
        random_point(&rng, 4, c, 0.99, x);
        random_point(&rng, 4, c, 0.99, y);
        random_point(&rng, 4, c, 0.99, z);
        random_point(&rng, 4, c, 0.2, v);
        d = rv_poincare_distance_f64(x, y, 4, c);
        /* left cancellation: (-x) + (x + y) = y */
        rv_poincare_add_f64(x, y, 4, c, out);
        for (size_t j = 0; j < 4; j++) back[j] = -x[j];
        rv_poincare_add_f64(back, out, 4, c, out);
        RV_VECTOR(out, y, 4, 1e-11);
        /* exp and log undo each other, both ways; the length of the log is the distance */
        rv_poincare_log_f64(x, y, 4, c, out);
        RV_NEAR(rv_poincare_conformal_f64(x, 4, c) * length(out, 4), d, 1e-12 * d);
        rv_poincare_exp_f64(x, out, 4, c, out);
        RV_VECTOR(out, y, 4, 1e-11);
        rv_poincare_exp_f64(x, v, 4, c, out);
        rv_poincare_log_f64(x, out, 4, c, out);
        RV_VECTOR(out, v, 4, 1e-9);
        /* symmetric; kept by a Moebius shift and by turning */
        RV_NEAR(rv_poincare_distance_f64(y, x, 4, c), d, 1e-14 * d);
        rv_poincare_add_f64(z, x, 4, c, out);
        rv_poincare_add_f64(z, y, 4, c, other);
        RV_NEAR(rv_poincare_distance_f64(out, other, 4, c), d, 1e-10 * d);
        rv_poincare_matvec_f64(turn, 4, x, 4, c, out);
        rv_poincare_matvec_f64(turn, 4, y, 4, c, other);
        RV_NEAR(rv_poincare_distance_f64(out, other, 4, c), d, 1e-12 * d);
        RV_NEAR(out[0], -x[1], 1e-15 + 1e-14 * fabs(x[1]));
        /* 2 (x) x = x + x, and the distance from the origin doubles */
        rv_poincare_scale_f64(2, x, 4, c, out);
        rv_poincare_add_f64(x, x, 4, c, other);
        RV_VECTOR(out, other, 4, 1e-12);
        memset(back, 0, sizeof back);
        RV_NEAR(rv_poincare_distance_f64(back, out, 4, c),
                2 * rv_poincare_distance_f64(back, x, 4, c), 1e-9);
        /* transport keeps lengths and goes back */
        rv_poincare_transport_f64(x, y, v, 4, c, out);
        RV_NEAR(rv_poincare_conformal_f64(y, 4, c) * length(out, 4),
                rv_poincare_conformal_f64(x, 4, c) * length(v, 4),
                1e-11 * rv_poincare_conformal_f64(x, 4, c) * length(v, 4));
        rv_poincare_transport_f64(y, x, out, 4, c, out);
        RV_VECTOR(out, v, 4, 1e-10);
        /* a geodesic divides the distance, and runs through both ends */
        rv_poincare_geodesic_f64(x, y, 0.25, 4, c, out);
        RV_NEAR(rv_poincare_distance_f64(x, out, 4, c), 0.25 * d, 1e-11 * d);
        RV_NEAR(rv_poincare_distance_f64(out, y, 4, c), 0.75 * d, 1e-11 * d);
        rv_poincare_geodesic_f64(x, y, 1, 4, c, out);
        RV_VECTOR(out, y, 4, 1e-14);
        rv_poincare_geodesic_f64(x, y, 0, 4, c, out);
        RV_VECTOR(out, x, 4, 1e-14);
        /* and goes on beyond them */
        rv_poincare_geodesic_f64(x, y, -0.5, 4, c, out);
        RV_NEAR(rv_poincare_distance_f64(x, out, 4, c), 0.5 * d, 1e-10 * d);
        RV_NEAR(rv_poincare_distance_f64(out, y, 4, c), 1.5 * d, 1e-10 * d);
        rv_poincare_geodesic_f64(x, y, 1.5, 4, c, out);
        RV_NEAR(rv_poincare_distance_f64(x, out, 4, c), 1.5 * d, 1e-10 * d);
        RV_NEAR(rv_poincare_distance_f64(out, y, 4, c), 0.5 * d, 1e-10 * d);
    }
}

static void test_sheet_identities(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 6);
    for (size_t i = 0; i < 300; i++) {
        double c = curvatures[i % 3], p[4], q[4], x[5], y[5], v[5], out[5], back[5], d;
        random_point(&rng, 4, c, 0.99, p);
        random_point(&rng, 4, c, 0.99, q);
        d = rv_poincare_distance_f64(p, q, 4, c);
        rv_lorentz_from_poincare_f64(p, 4, c, x);
        rv_lorentz_from_poincare_f64(q, 4, c, y);
        RV_NEAR(c * rv_lorentz_inner_f64(x, x, 4), -1, 1e-11);
        RV_NEAR(rv_lorentz_distance_f64(x, y, 4, c), d, 1e-11 * d);
        rv_poincare_from_lorentz_f64(x, 4, c, out);
        RV_VECTOR(out, p, 4, 1e-14);
        rv_klein_from_poincare_f64(p, 4, c, out);
        rv_poincare_from_klein_f64(out, 4, c, out);
        RV_VECTOR(out, p, 4, 1e-11);
        rv_lorentz_log_f64(x, y, 4, c, v);
        RV_NEAR(rv_lorentz_inner_f64(x, v, 4), 0, 1e-12 * length(x, 5) * length(v, 5));
        rv_lorentz_exp_f64(x, v, 4, c, out);
        RV_VECTOR(out, y, 5, 1e-10);
        rv_lorentz_transport_f64(x, y, v, 4, c, out);
        rv_lorentz_log_f64(y, x, 4, c, back); /* the way on is the way back turned round */
        for (size_t j = 0; j < 5; j++) back[j] = -back[j];
        RV_VECTOR(out, back, 5, 1e-9);
        out[0] = 0;
        memcpy(out + 1, x + 1, 4 * sizeof *x);
        rv_lorentz_project_f64(out, 4, c);
        RV_VECTOR(out, x, 5, 1e-12);
        /* in place, one array beginning where the other does */
        memcpy(out, p, sizeof p);
        rv_lorentz_from_poincare_f64(out, 4, c, out);
        RV_VECTOR(out, x, 5, 0);
        rv_poincare_from_lorentz_f64(out, 4, c, out);
        RV_VECTOR(out, p, 4, 1e-14);
    }
}

/* No base is the origin; an origin of zeros is the same. */
static void test_origin(void)
{
    static const double zero[4] = {0, 0, 0, 0}, v[4] = {0, 0.3, -0.2, 0.1};
    double out[4], want[4];
    rv_poincare_exp_f64(NULL, v, 4, 1, out);
    RV_NEAR(length(out, 4), tanh(length(v, 4)), 1e-15);
    rv_poincare_exp_f64(zero, v, 4, 1, want);
    RV_VECTOR(out, want, 4, 0);
    rv_poincare_log_f64(NULL, out, 4, 1, out);
    RV_VECTOR(out, v, 4, 1e-15);
    rv_poincare_transport_f64(NULL, v, v, 4, 1, out);
    rv_poincare_transport_f64(zero, v, v, 4, 1, want);
    RV_VECTOR(out, want, 4, 0);
    RV_NEAR(out[1], 0.3 * (1 - 0.14), 1e-15);
    rv_lorentz_exp_f64(NULL, v, 3, 1, out);
    RV_NEAR(out[0], cosh(length(v, 4)), 1e-14);
    rv_lorentz_log_f64(NULL, out, 3, 1, out);
    RV_VECTOR(out, v, 4, 1e-15);
    rv_lorentz_transport_f64(NULL, v, v, 3, 1, out);
    rv_lorentz_transport_f64(zero, v, v, 3, 1, want);
    RV_VECTOR(out, want, 4, 0);
    rv_poincare_matvec_f64(zero, 1, v, 4, 1, out); /* a matrix that maps to nothing */
    RV_NEAR(out[0], 0, 0);
    rv_poincare_scale_f64(3, zero, 4, 1, out);
    RV_VECTOR(out, zero, 4, 0);
}

/* exp_0(M log_0(x)), with a matrix that is not square. */
static void test_matvec(void)
{
    static const double m[6] = {0.5, -1, 2, 0.25, 0.75, -0.5}, x[3] = {0.1, 0.2, -0.3};
    static const float m32[6] = {0.5f, -1, 2, 0.25f, 0.75f, -0.5f};
    for (size_t i = 0; i < 3; i++) {
        double c = curvatures[i], way[3], y[2], out[2];
        float x32[3] = {0.1f, 0.2f, -0.3f}, out32[2];
        rv_poincare_log_f64(NULL, x, 3, c, way);
        for (size_t j = 0; j < 2; j++)
            y[j] = m[3 * j] * way[0] + m[3 * j + 1] * way[1] + m[3 * j + 2] * way[2];
        rv_poincare_exp_f64(NULL, y, 2, c, y);
        rv_poincare_matvec_f64(m, 2, x, 3, c, out);
        RV_VECTOR(out, y, 2, 1e-14);
        rv_poincare_matvec(m32, 2, x32, 3, (float)c, out32);
        for (size_t j = 0; j < 2; j++) RV_NEAR(out32[j], y[j], 1e-6);
    }
}

/* ---- limits ---- */

static void test_limits(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 7);
    for (size_t i = 0; i < 100; i++) {
        double x[3], y[3], a[3], b[3], gap[3], last, d, c = curvatures[i % 3];
        random_point(&rng, 3, 4, 0.9, x);
        random_point(&rng, 3, 4, 0.9, y);
        /* kappa < 0 is the ball, bit by bit */
        d = rv_poincare_distance_f64(x, y, 3, c);
        RV_CHECK(rv_stereo_distance_f64(x, y, 3, -c) == d);
        rv_poincare_exp_f64(x, y, 3, c, a);
        rv_stereo_exp_f64(x, y, 3, -c, b);
        RV_CHECK(memcmp(a, b, sizeof a) == 0);
        /* c -> 0 is Euclidean, lengths doubled */
        for (size_t j = 0; j < 3; j++) gap[j] = x[j] - y[j];
        d = 2 * length(gap, 3);
        RV_NEAR(rv_poincare_distance_f64(x, y, 3, 1e-12), d, 1e-11);
        RV_NEAR(rv_stereo_distance_f64(x, y, 3, 0), d, 1e-15);
        rv_poincare_log_f64(x, y, 3, 1e-12, a);
        for (size_t j = 0; j < 3; j++) RV_NEAR(a[j], y[j] - x[j], 1e-11);
        /* kappa > 0: a sphere, the angle between the points seen from its centre */
        for (size_t j = 0; j < 2; j++) {
            double up[4], down[4], sum = 0, k = j ? 1 : 3, *to = up;
            for (size_t side = 0; side < 2; side++, to = down) {
                const double *p = side ? y : x;
                double pp = k * length(p, 3) * length(p, 3);
                for (size_t n = 0; n < 3; n++) to[n] = 2 * sqrt(k) * p[n] / (1 + pp);
                to[3] = (1 - pp) / (1 + pp);
            }
            for (size_t n = 0; n < 4; n++) sum += up[n] * down[n];
            RV_NEAR(rv_stereo_distance_f64(x, y, 3, k), acos(sum) / sqrt(k), 1e-7);
        }
        /* no jump on the way through kappa = 0: the slope changes little */
        last = rv_stereo_distance_f64(x, y, 3, -0.5);
        for (int n = -499; n <= 500; n++) {
            double now = rv_stereo_distance_f64(x, y, 3, n * 1e-3);
            RV_CHECK(now < last + 1e-15 && last - now < 1e-3 * (1 + d));
            last = now;
        }
    }
}

/* On the sphere: antipodes are pi / sqrt(kappa) apart, exactly enough; the far side has a mean. */
static void test_sphere(void)
{
    static const double x[2] = {0.6, 0.8}, opposite[2] = {-0.6, -0.8}, origin[2] = {0, 0},
                        far_side[4] = {6, 8, 6.5, 7.5};
    double near_it[2] = {-0.6 + 1e-9, -0.8}, out[2], want[2], d;
    RV_NEAR(rv_stereo_distance_f64(x, opposite, 2, 1), 3.14159265358979324, 1e-15);
    d = rv_stereo_distance_f64(x, near_it, 2, 1);
    RV_NEAR(3.14159265358979324 - d, 1e-9, 1e-15); /* the metric is Euclidean at length 1 */
    RV_EQUAL(rv_stereo_midpoint_f64(NULL, far_side, NULL, 2, 2, 1, out), RV_OK);
    d = rv_stereo_distance_f64(far_side, far_side + 2, 2, 1);
    RV_NEAR(rv_stereo_distance_f64(far_side, out, 2, 1), d / 2, 1e-14);
    RV_NEAR(rv_stereo_distance_f64(far_side + 2, out, 2, 1), d / 2, 1e-14);
    memcpy(want, x, sizeof want);
    memcpy(near_it, opposite, sizeof want);
    {
        double both[4];
        memcpy(both, want, sizeof want);
        memcpy(both + 2, near_it, sizeof want);
        RV_EQUAL(rv_stereo_midpoint_f64(NULL, both, NULL, 2, 2, 1, out), RV_OK);
        RV_VECTOR(out, origin, 2, 1e-15); /* the centre of the sphere has no direction */
    }
}

/* ---- gradients by finite differences ---- */

static void test_gradients(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 8);
    for (size_t i = 0; i < 200; i++) {
        double c = curvatures[i % 3], x[3], y[3], gx[3], gy[3], d, got, h = 1e-6 / sqrt(c),
               moved[3], *at[2];
        random_point(&rng, 3, c, 0.95, x);
        random_point(&rng, 3, c, 0.95, y);
        if (i % 4 == 0) /* near each other */
            for (size_t j = 0; j < 3; j++) y[j] = x[j] + 1e-3 * uniform(&rng) / sqrt(c);
        d = rv_poincare_distance_f64(x, y, 3, c);
        RV_NEAR(rv_poincare_distance_grad_f64(x, y, 3, c, gx, gy), d, 0);
        at[0] = x;
        at[1] = y;
        for (size_t side = 0; side < 2; side++) {
            const double *grad = side ? gy : gx;
            double size = rv_poincare_conformal_f64(at[side], 3, c);
            RV_NEAR(length(grad, 3), size, 1e-10 * size); /* Riemannian length 1 */
            for (size_t j = 0; j < 3; j++) {
                double keep = at[side][j], up, down;
                at[side][j] = keep + h / size;
                up = rv_poincare_distance_f64(x, y, 3, c);
                at[side][j] = keep - h / size;
                down = rv_poincare_distance_f64(x, y, 3, c);
                at[side][j] = keep;
                RV_NEAR((up - down) / (2 * h), grad[j] / size, 3e-6);
            }
        }
        rv_poincare_rgrad_f64(x, gx, 3, c, moved);
        got = rv_poincare_conformal_f64(x, 3, c);
        for (size_t j = 0; j < 3; j++) RV_NEAR(moved[j], gx[j] / (got * got), 1e-14);
        /* a step of length s towards y makes the distance less by s */
        memcpy(moved, x, sizeof moved);
        rv_poincare_sgd_f64(moved, gx, 3, c, 0.25 * d);
        RV_NEAR(rv_poincare_distance_f64(moved, y, 3, c), 0.75 * d, 1e-10 * (1 + d));
        /* nothing pulls equal points apart */
        RV_NEAR(rv_poincare_distance_grad_f64(x, x, 3, c, gx, gy), 0, 0);
        RV_NEAR(length(gx, 3) + length(gy, 3), 0, 0);
    }
}

static void test_sheet_gradients(void)
{
    rv_test_rng rng;
    rv_test_seed(&rng, 9);
    for (size_t i = 0; i < 200; i++) {
        double c = curvatures[i % 3], p[3], x[4], y[4], gx[4], gy[4], v[4], moved[4], d, up, down,
               want, h = 1e-5 / sqrt(c), e[4];
        random_point(&rng, 3, c, 0.95, p);
        rv_lorentz_from_poincare_f64(p, 3, c, x);
        random_point(&rng, 3, c, 0.95, p);
        rv_lorentz_from_poincare_f64(p, 3, c, y);
        d = rv_lorentz_distance_grad_f64(x, y, 3, c, gx, gy);
        RV_NEAR(rv_lorentz_inner_f64(gx, gx, 3), 1, 1e-9);
        RV_NEAR(rv_lorentz_inner_f64(gy, gy, 3), 1, 1e-9);
        RV_NEAR(rv_lorentz_inner_f64(gx, x, 3), 0, 1e-11);
        for (size_t j = 0; j < 4; j++) e[j] = uniform(&rng);
        /* any ambient vector made a tangent; along it the distance changes by <g, v>_L */
        rv_lorentz_rgrad_f64(x, e, 3, c, v);
        RV_NEAR(rv_lorentz_inner_f64(v, x, 3), 0, 1e-10);
        want = sqrt(rv_lorentz_inner_f64(v, v, 3));
        for (size_t j = 0; j < 4; j++) v[j] *= h / want;
        rv_lorentz_exp_f64(x, v, 3, c, moved);
        up = rv_lorentz_distance_f64(moved, y, 3, c);
        for (size_t j = 0; j < 4; j++) v[j] = -v[j];
        rv_lorentz_exp_f64(x, v, 3, c, moved);
        down = rv_lorentz_distance_f64(moved, y, 3, c);
        RV_NEAR((up - down) / (2 * h), -rv_lorentz_inner_f64(gx, v, 3) / h, 2e-7);
        /* the gradient of f(x) = e x restricted to the sheet is rgrad(e) */
        rv_lorentz_rgrad_f64(x, e, 3, c, moved);
        want = rv_lorentz_inner_f64(moved, v, 3);
        RV_NEAR(e[0] * v[0] + e[1] * v[1] + e[2] * v[2] + e[3] * v[3], want, 1e-12 * length(x, 4));
        memcpy(moved, x, sizeof moved);
        rv_lorentz_sgd_f64(moved, gx, 3, c, 0.25 * d);
        RV_NEAR(rv_lorentz_distance_f64(moved, y, 3, c), 0.75 * d, 1e-10 * (1 + d));
        RV_NEAR(rv_lorentz_distance_grad_f64(x, x, 3, c, gx, NULL), 0, 0);
        RV_NEAR(length(gx, 4), 0, 0);
    }
}

/* ---- bad input ---- */

static void test_bad_curvature(void)
{
    double bad[5];
    static const double x[3] = {0.1, 0.2, 0.3};
    static const float f[3] = {0.1f, 0.2f, 0.3f};
    bad[0] = 0;
    bad[1] = -1;
    bad[2] = not_a_number();
    bad[3] = wall();
    bad[4] = -wall();
    for (size_t i = 0; i < 5; i++) {
        double c = bad[i], out[4];
        float fc = (float)c, fout[4];
        rv_test_row("c", i);
        RV_CHECK(is_nan(rv_poincare_distance_f64(x, x, 3, c)));
        RV_CHECK(is_nan((double)rv_poincare_distance(f, f, 3, fc)));
        RV_CHECK(is_nan(rv_poincare_conformal_f64(x, 3, c)));
        RV_CHECK(is_nan(rv_lorentz_distance_f64(x, x, 2, c)));
#define ALL(call, n)                                                                               \
    do {                                                                                           \
        memset(out, 0, sizeof out);                                                                \
        call;                                                                                      \
        RV_CHECK(all_nan(out, (n)));                                                               \
    } while (0)
        ALL(rv_poincare_add_f64(x, x, 3, c, out), 3);
        ALL(rv_poincare_scale_f64(2, x, 3, c, out), 3);
        ALL(rv_poincare_matvec_f64(x, 1, x, 3, c, out), 1);
        ALL(rv_poincare_exp_f64(x, x, 3, c, out), 3);
        ALL(rv_poincare_exp_f64(NULL, x, 3, c, out), 3);
        ALL(rv_poincare_log_f64(x, x, 3, c, out), 3);
        ALL(rv_poincare_transport_f64(x, x, x, 3, c, out), 3);
        ALL(rv_poincare_geodesic_f64(x, x, 0.5, 3, c, out), 3);
        ALL((void)rv_poincare_distance_grad_f64(x, x, 3, c, out, NULL), 3);
        ALL(rv_poincare_rgrad_f64(x, x, 3, c, out), 3);
        ALL((memcpy(out, x, sizeof x), rv_poincare_project_f64(out, 3, c)), 3);
        ALL((memcpy(out, x, sizeof x), rv_poincare_sgd_f64(out, x, 3, c, 1)), 3);
        ALL(rv_lorentz_exp_f64(x, x, 2, c, out), 3);
        ALL(rv_lorentz_log_f64(x, x, 2, c, out), 3);
        ALL(rv_lorentz_transport_f64(x, x, x, 2, c, out), 3);
        ALL(rv_lorentz_rgrad_f64(x, x, 2, c, out), 3);
        ALL((void)rv_lorentz_distance_grad_f64(x, x, 2, c, NULL, out), 3);
        ALL((memcpy(out, x, sizeof x), rv_lorentz_project_f64(out, 2, c)), 3);
        ALL((memcpy(out, x, sizeof x), rv_lorentz_sgd_f64(out, x, 2, c, 1)), 3);
        ALL(rv_lorentz_from_poincare_f64(x, 3, c, out), 4);
        ALL(rv_poincare_from_lorentz_f64(x, 2, c, out), 2);
        ALL(rv_klein_from_poincare_f64(x, 3, c, out), 3);
        ALL(rv_poincare_from_klein_f64(x, 3, c, out), 3);
        rv_poincare_factors(f, 1, 3, fc, fout);
        rv_poincare_distance_many(f, f, NULL, 1, 3, fc, fout + 1);
        RV_CHECK(all_nan_f32(fout, 2));
        if (i >= 2) { /* of any sign, but finite */
            RV_CHECK(is_nan(rv_stereo_distance_f64(x, x, 3, c)));
            ALL(rv_stereo_exp_f64(x, x, 3, c, out), 3);
        }
    }
}

static void test_bad_points(void)
{
    double bad[2];
    bad[0] = not_a_number();
    bad[1] = wall();
    for (size_t i = 0; i < 6; i++) {
        double x[4] = {0.1, 0.2, 0.3, 0}, y[4] = {0.3, -0.1, 0.2, 0}, out[4];
        float f[4], g[4], fout[4];
        rv_test_row("element", i);
        x[1 + i % 3 - (i % 3 == 2 ? 2 : 0)] = bad[i / 3];
        if (i % 3 == 2) x[2] = bad[i / 3];
        for (size_t j = 0; j < 4; j++) {
            f[j] = (float)x[j];
            g[j] = (float)y[j];
        }
        RV_CHECK(is_nan(rv_poincare_distance_f64(x, y, 3, 1)));
        RV_CHECK(is_nan(rv_poincare_distance_f64(y, x, 3, 1)));
        RV_CHECK(is_nan((double)rv_poincare_distance(f, g, 3, 1)));
        RV_CHECK(is_nan(rv_poincare_conformal_f64(x, 3, 1)));
        RV_CHECK(is_nan(rv_lorentz_distance_f64(x, y, 3, 1)));
        RV_CHECK(is_nan(rv_stereo_distance_f64(x, y, 3, 1)));
        ALL(rv_poincare_add_f64(x, y, 3, 1, out), 3);
        ALL(rv_poincare_add_f64(y, x, 3, 1, out), 3);
        ALL(rv_poincare_scale_f64(2, x, 3, 1, out), 3);
        ALL(rv_poincare_exp_f64(x, y, 3, 1, out), 3);
        ALL(rv_poincare_exp_f64(y, x, 3, 1, out), 3);
        ALL(rv_poincare_log_f64(y, x, 3, 1, out), 3);
        ALL(rv_poincare_transport_f64(y, y, x, 3, 1, out), 3);
        ALL(rv_poincare_geodesic_f64(x, y, 0.5, 3, 1, out), 3);
        ALL((void)rv_poincare_distance_grad_f64(y, x, 3, 1, out, NULL), 3);
        ALL(rv_poincare_rgrad_f64(y, x, 3, 1, out), 3);
        ALL(rv_lorentz_exp_f64(y, x, 3, 1, out), 4);
        ALL(rv_lorentz_log_f64(x, y, 3, 1, out), 4);
        ALL(rv_lorentz_transport_f64(y, x, y, 3, 1, out), 4);
        ALL(rv_lorentz_from_poincare_f64(x, 3, 1, out), 4);
        ALL(rv_poincare_from_lorentz_f64(x, 3, 1, out), 3);
        ALL(rv_klein_from_poincare_f64(x, 3, 1, out), 3);
        ALL(rv_poincare_from_klein_f64(x, 3, 1, out), 3);
        ALL((memcpy(out, x, sizeof x), rv_poincare_project_f64(out, 3, 1)), 3);
        rv_poincare_distance_many(g, f, NULL, 1, 3, 1, fout);
        RV_CHECK(all_nan_f32(fout, 1));
    }
    {
        static const double y[3] = {0.3, -0.1, 0.2};
        double out[4], nan_value = not_a_number();
        ALL(rv_poincare_scale_f64(nan_value, y, 3, 1, out), 3);
        ALL(rv_poincare_geodesic_f64(y, y, nan_value, 3, 1, out), 3);
        ALL((memcpy(out, y, sizeof y), rv_poincare_sgd_f64(out, y, 3, 1, nan_value)), 3);
    }
#undef ALL
}

/* Beyond the rim: pulled in along the radius, in every function as rv_poincare_project does it. */
static void test_rim(void)
{
    static const double reach[] = {1, 1.000001, 3, 1e10, 1e160, 1e307};
    for (size_t i = 0; i < RV_COUNT_OF(reach) * 3; i++) {
        double c = curvatures[i % 3], x[3] = {0.48, -0.6, 0.64}, y[3] = {0.1, 0.1, 0.1}, in[3],
               out[3], want[3], gap;
        float f[3], fin[3], fy[3], fc = (float)c, fout[3], many[2];
        rv_test_row("reach", i / 3);
        for (size_t j = 0; j < 3; j++) {
            x[j] *= reach[i / 3] / sqrt(c);
            in[j] = x[j];
            f[j] = (float)(x[j] < -1e30 ? -1e30 : x[j] > 1e30 ? 1e30 : x[j]);
            fin[j] = f[j];
            fy[j] = (float)y[j];
        }
        rv_poincare_project_f64(in, 3, c);
        gap = 1 - sqrt(c) * length(in, 3);
        RV_CHECK(gap > 3e-15 && gap < 5e-15);
        RV_NEAR(in[0] / in[1], -0.8, 1e-14);
        memcpy(out, in, sizeof in);
        rv_poincare_project_f64(out, 3, c);
        RV_VECTOR(out, in, 3, 5e-16);
        RV_NEAR(rv_poincare_distance_f64(x, y, 3, c), rv_poincare_distance_f64(in, y, 3, c), 0.3);
        rv_poincare_log_f64(y, x, 3, c, out);
        rv_poincare_log_f64(y, in, 3, c, want);
        RV_VECTOR(out, want, 3, 0.02);
        /* and in floats, whose results stay inside as floats */
        rv_poincare_project(fin, 3, fc);
        gap = 1 - sqrt((double)fc) * sqrt((double)fin[0] * (double)fin[0] +
                                          (double)fin[1] * (double)fin[1] +
                                          (double)fin[2] * (double)fin[2]);
        RV_CHECK(gap > 1.7e-7 && gap < 3.2e-7);
        RV_NEAR(rv_poincare_distance(f, fy, 3, fc), rv_poincare_distance(fin, fy, 3, fc), 0.5);
        rv_poincare_distance_many(f, fy, NULL, 1, 3, fc, many);
        rv_poincare_distance_many(fy, f, NULL, 1, 3, fc, many + 1);
        RV_NEAR(many[0], rv_poincare_distance(f, fy, 3, fc), 1e-6 * (double)many[0]);
        RV_NEAR(many[1], rv_poincare_distance(f, fy, 3, fc), 1e-6 * (double)many[1]);
        rv_poincare_exp(fy, f, 3, fc, fout);
        RV_CHECK(rv_poincare_conformal(fout, 3, fc) < 4.3e6f);
        RV_CHECK(rv_poincare_conformal(fout, 3, fc) > 2.0f);
    }
}

/* Long steps end at the rim (ball) or where coordinates end (sheet), never outside or in NaN. */
static void test_long_steps(void)
{
    static const double x[3] = {0.3, 0.2, -0.1}, origin[4] = {0, 0, 0, 0},
                        rate[] = {1e3, 1e30, 1e200, 1e300};
    for (size_t i = 0; i < RV_COUNT_OF(rate); i++) {
        double v[4] = {0, 0.5, -0.25, 1}, out[4], d;
        rv_test_row("rate", i);
        for (size_t j = 0; j < 4; j++) v[j] *= rate[i];
        rv_poincare_exp_f64(x, v + 1, 3, 1, out);
        d = 1 - length(out, 3);
        RV_CHECK(d > 3e-15 && d < 5e-15);
        rv_poincare_scale_f64(rate[i], x, 3, 1, out);
        d = 1 - length(out, 3);
        RV_CHECK(d > 3e-15 && d < 5e-15);
        rv_poincare_geodesic_f64(x, v + 1, -rate[i], 3, 1, out);
        d = 1 - length(out, 3);
        RV_CHECK(d > 3e-15 && d < 5e-15);
        if (rate[i] < 1e150) {
            rv_lorentz_exp_f64(NULL, v, 3, 1, out);
            RV_NEAR(rv_lorentz_distance_f64(out, origin, 3, 1), 300, 1e-10);
            RV_CHECK(out[0] > 1e100 && out[0] < 1e140);
        }
    }
}

static void test_no_dimensions(void)
{
    double x = 0.5, out = 7;
    float fx = 0.5f, fout = 7;
    rv_ctx ctx;
    rv_test_ctx(&ctx);
    RV_NEAR(rv_poincare_distance_f64(&x, &x, 0, 1), 0, 0);
    RV_NEAR(rv_poincare_distance(&fx, &fx, 0, 1), 0, 0);
    RV_NEAR(rv_poincare_conformal(&fx, 0, 1), 2, 0);
    RV_NEAR(rv_stereo_distance_f64(&x, &x, 0, 1), 0, 0);
    RV_NEAR(rv_lorentz_distance_f64(&x, &x, 0, 1), 0, 0);
    rv_poincare_exp_f64(&x, &x, 0, 1, &out);
    rv_poincare_log_f64(&x, &x, 0, 1, &out);
    rv_poincare_add_f64(&x, &x, 0, 1, &out);
    RV_OKAY(&ctx, rv_poincare_midpoint_f64(&ctx, &x, NULL, 2, 0, 1, &out));
    RV_OKAY(&ctx, rv_poincare_mean_f64(&ctx, NULL, &x, NULL, 2, 0, 1, &out));
    RV_NEAR(out, 7, 0);
    rv_lorentz_from_poincare_f64(&x, 0, 4, &out);
    RV_NEAR(out, 0.5, 0);
    rv_poincare_distance_many(&fx, &fx, NULL, 1, 0, 1, &fout);
    RV_NEAR(fout, 0, 0);
    rv_poincare_pack(&fx, 0, 1, &fout);
    RV_NEAR(fout, 1, 0);
    RV_NEAR(rv_poincare_packed_metric(&x, &fx, &fx, 0), 0, 0);
}

int main(void)
{
    rv_test_begin("hyperbolic");
    RV_RUN(test_golden_ball);
    RV_RUN(test_golden_sheet);
    RV_RUN(test_golden_stereo);
    RV_RUN(test_published);
    RV_RUN(test_float);
    RV_RUN(test_float_sheet);
    RV_RUN(test_ball_identities);
    RV_RUN(test_sheet_identities);
    RV_RUN(test_origin);
    RV_RUN(test_matvec);
    RV_RUN(test_limits);
    RV_RUN(test_sphere);
    RV_RUN(test_gradients);
    RV_RUN(test_sheet_gradients);
    RV_RUN(test_bad_curvature);
    RV_RUN(test_bad_points);
    RV_RUN(test_rim);
    RV_RUN(test_long_steps);
    RV_RUN(test_no_dimensions);
    return rv_test_end();
}
