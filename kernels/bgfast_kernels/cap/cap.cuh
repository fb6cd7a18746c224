// The energy cap of training, value and derivative in one pass; the formula stands in __init__.py.
// Defines: REAL, BLOCK.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK) lin_log_cap(
    const real *u, long long n, real e_high, real e_max, real *capped, real *derivative) {
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) return;
    const real x = u[i];
    real value = x, slope = x <= e_max ? real(1) : real(0);  // 0 for NaN
    if (x > e_high) {
        const real excess = (x > e_max ? e_max : x) - e_high;
        value = e_high + log1p(excess);
        slope *= reciprocal(real(1) + excess);
    }
    capped[i] = value;
    derivative[i] = slope;
}
