// Value and log-determinant of the rational-quadratic spline; the formulas stand in spline_rows.py.
// Defines: REAL, G, BLOCK, INVERSE.
#include "common.cuh"
#include "rows.cuh"
#include "coupling/spline_bins.cuh"

// Where in its bin y lies, t = (x - x_k) / w. Of the two ways to write the root the one that does
// not subtract nearly equal numbers is taken.
__device__ __forceinline__ real root(real y, const Segment &at) {
    const real e = (y - at.y_k) * reciprocal(at.h);
    const real quadratic = at.s - at.d0 + e * at.bend, linear = at.d0 - e * at.bend;
    const real product = real(2) * at.s * e;
    const real discriminant = linear * linear + real(2) * quadratic * product;
    real unused;  // the discriminant is positive but for rounding
    const real size = square_root(discriminant < real(1e-30) ? real(1e-30) : discriminant, &unused);
    const real q = fabs(linear) + size;
    const bool falls = linear < real(0);
    return (falls ? q : product) * reciprocal(falls ? real(2) * quadratic : q);
}

// Four blocks at once is what it gets anyway; not told so, the compiler would spill to make it six.
extern "C" __global__ void __launch_bounds__(BLOCK, 4) spline_value(
    const real *x, const real *raw, long long n, int m, int n_bins, SPLINE_ARGUMENTS, real *y,
    real *logdet) {
    const Spline p = SPLINE;
    const Row row = row_of_group<G>(n);
    x += row.index * m;
    raw += row.index * (3 * n_bins - 1) * m;
    y += row.index * m;

    real total = real(0);
    for (int c = threadIdx.x % G; c < m; c += G) {
        const real value = x[c];
        const bool outside = fabs(value) > p.bound;
        const real inside = outside ? real(0) : value;
        const long long to_heights = (long long)n_bins * m;
        const Softmax searched = softmax_of(raw + c + (INVERSE ? to_heights : 0), n_bins, m);
        const Softmax other = softmax_of(raw + c + (INVERSE ? 0 : to_heights), n_bins, m);
        const real *slopes = raw + c + 2 * to_heights;
        const Segment at = segment_of(inside, searched, other, INVERSE, slopes, n_bins, p);

        const real t = INVERSE ? root(inside, at) : (inside - at.x_k) * reciprocal(at.w);
        const real left = real(1) - t, a = t * left;
        const real inverse_d = reciprocal(at.bend * a + at.s), ratio = at.s * inverse_d;
        const real m_t = at.d1 * t * t + real(2) * at.s * a + at.d0 * left * left;
        const real log_slope = log(ratio * ratio * m_t);  // log dy/dx
        const real result = INVERSE ? at.w * t + at.x_k
                                    : at.h * inverse_d * (at.s * t * t + at.d0 * a) + at.y_k;
        if (row.own) y[c] = outside ? value : result;
        total += outside ? real(0) : log_slope;
    }
    total = group_sum<G>(total);
    if (row.own && threadIdx.x % G == 0) logdet[row.index] = INVERSE ? -total : total;
}
