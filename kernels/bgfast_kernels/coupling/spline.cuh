// Value and log-determinant of the rational-quadratic spline; the formulas stand in spline_rows.py.
// Defines: REAL, G, BLOCK, BLOCKS (of them at once, at least), INVERSE.
#include "common.cuh"
#include "rows.cuh"
#include "coupling/spline_bins.cuh"

// BLOCKS blocks at once is what it gets anyway; not told so, the compiler would spill to have six.
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCKS) spline_value(
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

        const real t = at.t, s = at.s, left = real(1) - t, a = t * left;
        const real inverse_d = reciprocal(((at.d0 - s) + (at.d1 - s)) * a + s);
        const real ratio = s * inverse_d;
        const real m_t = at.d1 * t * t + real(2) * s * a + at.d0 * left * left;
        const real log_slope = log(ratio * ratio * m_t);  // log dy/dx
        const real share = INVERSE ? t : (s * t * t + at.d0 * a) * inverse_d;
        const real found = at.end.high + (at.other.size * share + at.end.low);
        const real length = reciprocal(at.scale.high);
        real result = found * length;
        result += length * (fma(-result, at.scale.high, found) - result * at.scale.low);
        if (row.own) y[c] = outside ? value : result;
        total += outside ? real(0) : log_slope;
    }
    total = group_sum<G>(total);
    if (row.own && threadIdx.x % G == 0) logdet[row.index] = INVERSE ? -total : total;
}
