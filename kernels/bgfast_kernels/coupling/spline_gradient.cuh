// All gradients of the rational-quadratic spline in one pass; see spline_gradient.py for the
// notation. Defines: REAL, BLOCK.
#include "common.cuh"
#include "coupling/spline_bins.cuh"

// The gradients of K raw numbers. g_before and g_bin: derivatives by the size of each bin before bin
// k and by its own; before and weight: the exponentials of those.
__device__ __forceinline__ void softmax_gradient(
    const Softmax &numbers, int n_bins, int k, real g_before, real g_bin, real before, real weight,
    const Spline &p, real *out) {
    const real share = reciprocal(numbers.total), scale = p.rest * share;
    const real mean = (before * g_before + weight * g_bin) * share;
    for (int j = 0; j < n_bins; ++j) {
        const real g = j < k ? g_before : j == k ? g_bin : real(0);
        out[(long long)j * numbers.m] = numbers.weight(j) * (scale * (g - mean));
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK) spline_gradient(
    const real *x, const real *raw, const real *grad_value, const real *grad_logdet, long long n,
    int m, int n_bins, int inverse, SPLINE_ARGUMENTS, real *grad_x, real *grad_raw) {
    const Spline p = SPLINE;
    const long long element = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (element >= n * m) return;
    const long long row = element / m;
    const int column = int(element - row * m);
    const long long first = row * (3 * n_bins - 1) * m + column;
    const long long to_heights = (long long)n_bins * m;
    raw += first;
    grad_raw += first;

    const real point = x[element];
    const bool outside = fabs(point) > p.bound;
    const real inside = outside ? real(0) : point;
    const Softmax widths = softmax_of(raw, n_bins, m);
    const Softmax heights = softmax_of(raw + to_heights, n_bins, m);
    const Segment at =
        segment_of(inside, widths, heights, false, raw + 2 * to_heights, n_bins, p);

    const real inverse_w = reciprocal(at.w), s = at.s, d0 = at.d0, d1 = at.d1;
    const real t = (inside - at.x_k) * inverse_w, left = real(1) - t;
    const real a = t * left, a_t = left - t, d_s = real(1) - real(2) * a;
    const real inverse_d = reciprocal(at.bend * a + s);
    const real f = (s * t * t + d0 * a) * inverse_d;
    const real m_t = d1 * t * t + real(2) * s * a + d0 * left * left;
    const real inverse_m = reciprocal(m_t);
    // Derivatives of l = log dy/dx at fixed knots: by t, s, d0, d1.
    const real l_t =
        real(2) * ((d1 * t + s * a_t - d0 * left) * inverse_m - at.bend * a_t * inverse_d);
    const real l_s = real(2) * (at.w * reciprocal(at.h) + a * inverse_m - d_s * inverse_d);
    const real l_d0 = left * left * inverse_m - real(2) * a * inverse_d;
    const real l_d1 = t * t * inverse_m - real(2) * a * inverse_d;

    const real ratio = s * inverse_d, slope = ratio * ratio * m_t;
    const real g_value = grad_value[element];
    real g_l = inverse ? -grad_logdet[row] : grad_logdet[row];
    real g_y = g_value, g_x = g_value * slope + g_l * l_t * inverse_w;
    if (inverse) {
        g_x = (g_value + g_l * l_t * inverse_w) * reciprocal(slope);
        g_y = -g_x;
    }
    grad_x[element] = outside ? g_value : g_x;
    if (outside) g_y = g_l = real(0);  // nothing depends on the parameters there

    const real g_f = g_y * at.h * inverse_d;
    const real g_s = g_f * (t * t - f * d_s) + g_l * l_s;
    const real g_d0 = (g_f * a * (real(1) - f) + g_l * l_d0) * at.d0_of_raw;
    const real g_d1 = (g_l * l_d1 - g_f * a * f) * at.d1_of_raw;
    // y_k moves y; x_k moves t, by -1 / w; w moves t and s.
    const real g_knot = -(g_l * l_t * inverse_w + g_y * slope);
    const real g_h = g_s * inverse_w + g_y * f;
    const real g_w = g_knot * t - g_s * s * inverse_w;
    softmax_gradient(widths, n_bins, at.k, g_knot, g_w, at.w_before, at.w_weight, p, grad_raw);
    softmax_gradient(
        heights, n_bins, at.k, g_y, g_h, at.h_before, at.h_weight, p, grad_raw + to_heights);
    for (int j = 0; j < n_bins - 1; ++j)  // the right knot of bin j, the left one of bin j + 1
        grad_raw[2 * to_heights + (long long)j * m] =
            j == at.k ? g_d1 : j == at.k - 1 ? g_d0 : real(0);
}
