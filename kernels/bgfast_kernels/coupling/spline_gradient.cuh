// All gradients of the rational-quadratic spline in one pass; see spline_gradient.py for the
// notation. Defines: REAL, BLOCK.
#include "common.cuh"
#include "coupling/spline_bins.cuh"

// The gradients of K raw numbers. g_before and g_bin: derivatives by the size of each bin before bin
// k and by its own; gap is their difference. None is computed by subtracting a mean.
__device__ __forceinline__ void softmax_gradient(
    const Softmax &numbers, int n_bins, int k, real g_before, real g_bin, real gap,
    const Side &side, real *out) {
    const real share = reciprocal(side.total), length = reciprocal(side.scale);
    const real before = k == 0 ? real(0) : side.before * share, own = side.weight * share;
    const real after = k == n_bins - 1 ? real(0) : real(1) - before - own;
    const real to_after = -length * (before * g_before + own * g_bin);
    const real to_bin = length * (after * g_bin - before * gap);
    const real to_before = length * (after * g_before + own * gap);
    for (int j = 0; j < n_bins; ++j) {
        const real g = j < k ? to_before : j == k ? to_bin : to_after;
        out[(long long)j * numbers.m] = numbers.weight(j) * g;
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
    const long long to_searched = inverse ? to_heights : 0, to_other = to_heights - to_searched;
    const Softmax searched = softmax_of(raw + to_searched, n_bins, m);
    const Softmax other = softmax_of(raw + to_other, n_bins, m);
    const Segment at =
        segment_of(inside, searched, other, inverse, raw + 2 * to_heights, n_bins, p);
    const real inverse_1 = at.searched.scale * reciprocal(at.searched.size);
    const real inverse_2 = at.other.scale * reciprocal(at.other.size);
    const real inverse_w = inverse ? inverse_2 : inverse_1;
    const real inverse_h = inverse ? inverse_1 : inverse_2;
    const real s = at.s, d0 = at.d0, d1 = at.d1, t = at.t, left = real(1) - t, a = t * left;
    const real e0 = d0 - s, e1 = d1 - s, bend = e0 + e1;
    const real of_left = d0 * left * left, of_right = d1 * t * t;
    const real inverse_d = reciprocal(bend * a + s);
    const real m_t = real(2) * s * a + (of_left + of_right), inverse_m = reciprocal(m_t);
    const real f = (s * t * t + d0 * a) * inverse_d;
    const real above = (s * left * left + d1 * a) * inverse_d;  // 1 - f
    // Derivatives of l = log dy/dx at fixed knots: by t, log s, d0, d1.
    const real l_t = real(2) * ((e1 * t - e0 * left) * inverse_m - bend * (left - t) * inverse_d);
    const real l_log_s = real(2) * a * (s * inverse_m + (d0 + d1) * inverse_d);
    const real l_d0 = left * left * inverse_m - real(2) * a * inverse_d;
    const real l_d1 = t * t * inverse_m - real(2) * a * inverse_d;

    const real ratio = s * inverse_d, slope = ratio * ratio * m_t;
    const real g_value = grad_value[element];
    real g_l = inverse ? -grad_logdet[row] : grad_logdet[row];
    const real by_log = g_l * l_t * inverse_w;
    const real g_x = inverse ? (g_value + by_log) * reciprocal(slope) : g_value * slope + by_log;
    grad_x[element] = outside ? g_value : g_x;
    // y_k moves y; x_k moves what x does, the other way round.
    real g_y = inverse ? -g_x : g_value, g_knot = inverse ? g_value : -g_x;
    if (outside) g_y = g_l = g_knot = real(0);  // nothing depends on the parameters there

    const real size_h = inverse ? at.searched.size : at.other.size;
    const real h = size_h * reciprocal(inverse ? at.searched.scale : at.other.scale);
    const real g_f = g_y * h * a * inverse_d;
    const real g_log_s = g_f * ratio * (of_right - of_left) + g_l * l_log_s;
    const real g_d0 = (g_f * above + g_l * l_d0) * at.d0_of_raw;
    const real g_d1 = (g_l * l_d1 - g_f * f) * at.d1_of_raw;
    // w and h move s, and what lies below them.
    const real of_w = g_log_s * inverse_w, of_h = g_log_s * inverse_h;
    const real g_w = g_knot * t - of_w, w_gap = g_knot * left + of_w;
    const real g_h = g_y * f + of_h, h_gap = g_y * above - of_h;
    softmax_gradient(
        searched, n_bins, at.k, inverse ? g_y : g_knot, inverse ? g_h : g_w,
        inverse ? h_gap : w_gap, at.searched, grad_raw + to_searched);
    softmax_gradient(
        other, n_bins, at.k, inverse ? g_knot : g_y, inverse ? g_w : g_h,
        inverse ? w_gap : h_gap, at.other, grad_raw + to_other);
    for (int j = 0; j < n_bins - 1; ++j)  // the right knot of bin j, the left one of bin j + 1
        grad_raw[2 * to_heights + (long long)j * m] =
            j == at.k ? g_d1 : j == at.k - 1 ? g_d0 : real(0);
}
