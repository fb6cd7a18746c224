// What the kernels share. The loader puts "#define REAL float" (or double) before it, and the
// kernel's own compile-time integers. Literals are written real(0.5): a double literal would pull
// float32 arithmetic up to double precision.

typedef REAL real;

// Two numbers that lie side by side in memory, moved by one instruction.
struct alignas(2 * sizeof(REAL)) real2 {
    real x, y;
};

#define ALL_LANES 0xffffffffu

// 1/s of a normal number. In float32 the hardware's approximation, within one unit in the last
// place; in float64 the hardware's 20 bits and Newton's method, where a division would be a call of
// a subroutine. (tests/cuda_shim has functions of its own in the place of these.)
#ifndef BGFAST_SHIM
__device__ __forceinline__ float reciprocal(float s) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(s));
    return inverse;
}
__device__ __forceinline__ double reciprocal(double s) {
    double inverse;
    asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(inverse) : "d"(s));
    double error = fma(-s, inverse, 1.0);
    inverse = fma(inverse, fma(error, error, error), inverse);
    error = fma(-s, inverse, 1.0);
    return fma(inverse, error, inverse);
}

// The square root of a normal positive number, and its inverse.
__device__ __forceinline__ float square_root(float s, float *inverse) {
    const float root = sqrt(s);
    *inverse = reciprocal(root);
    return root;
}
__device__ __forceinline__ double square_root(double s, double *inverse) {
    double y;
    asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(s));
    double error = fma(-s * y, y, 1.0);
    y = fma(y * error, fma(0.375, error, 0.5), y);
    error = fma(-s * y, y, 1.0);
    *inverse = y = fma(y * error, 0.5, y);
    const double root = s * y;
    return fma(fma(-root, root, s), 0.5 * y, root);
}
#endif

// The sum over a group of LANES neighbouring lanes, the same bits in each of them. Every lane of the
// warp has to call it.
template <int LANES>
__device__ __forceinline__ real group_sum(real value) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance, LANES);
    return value;
}
