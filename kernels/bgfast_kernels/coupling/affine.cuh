// The affine coupling step, both directions; the formula stands in affine_spec.py. Inputs are rows
// of m neighbouring numbers at any distance (halves of wider rows), results are dense.
// Defines: REAL, G, BLOCK, S_MAX.
#include "common.cuh"
#include "rows.cuh"

__device__ __forceinline__ real bounded(real raw) {
    return tanh(raw * (real(1) / real(S_MAX)));
}

extern "C" __global__ void __launch_bounds__(BLOCK) affine_value(
    const real *x, long long x_stride, const real *raw_s, long long s_stride, const real *t,
    long long t_stride, long long n, int m, int inverse, real *y, real *logdet) {
    const Row row = row_of_group<G>(n);
    x += row.index * x_stride;
    raw_s += row.index * s_stride;
    t += row.index * t_stride;
    y += row.index * m;

    real total = real(0);
    for (int k = threadIdx.x % G; k < m; k += G) {
        const real s = real(S_MAX) * bounded(raw_s[k]);
        total += s;
        const real after = inverse ? x[k] * exp(s) + t[k] : (x[k] - t[k]) * exp(-s);
        if (row.own) y[k] = after;
    }
    total = group_sum<G>(total);
    if (row.own && threadIdx.x % G == 0) logdet[row.index] = inverse ? total : -total;
}

extern "C" __global__ void __launch_bounds__(BLOCK) affine_gradient(
    const real *x, long long x_stride, const real *raw_s, long long s_stride, const real *t,
    long long t_stride, const real *grad_y, long long g_stride, const real *grad_logdet,
    long long n, int m, int inverse, real *grad_x, real *grad_s, real *grad_t) {
    const Row row = row_of_group<G>(n);
    if (!row.own) return;  // nothing below is done together
    const real from_logdet = grad_logdet[row.index];
    x += row.index * x_stride;
    raw_s += row.index * s_stride;
    t += row.index * t_stride;
    grad_y += row.index * g_stride;

    for (int k = threadIdx.x % G; k < m; k += G) {
        const real b = bounded(raw_s[k]);
        const real s = real(S_MAX) * b, g = grad_y[k];
        const real g_x = g * exp(inverse ? s : -s);
        const real moved = inverse ? x[k] : x[k] - t[k];
        const real g_s = g_x * moved + from_logdet;
        const long long at = row.index * m + k;
        grad_x[at] = g_x;
        grad_s[at] = (real(1) - b * b) * (inverse ? g_s : -g_s);
        grad_t[at] = inverse ? g : -g_x;
    }
}
