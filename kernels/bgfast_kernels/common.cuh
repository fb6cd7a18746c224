// What the kernels share. The loader puts "#define REAL float" (or double) before it, and the
// kernel's own compile-time integers. Literals are written real(0.5): a double literal would pull
// float32 arithmetic up to double precision.

typedef REAL real;

// Two numbers that lie side by side in memory, moved by one instruction.
struct alignas(2 * sizeof(REAL)) real2 {
    real x, y;
};

#define ALL_LANES 0xffffffffu

// One reciprocal. In float32 the hardware's, within one unit in the last place; arguments are
// normal numbers. (tests/cuda_shim defines its own.)
#ifndef BGFAST_SHIM
__device__ __forceinline__ float reciprocal(float s) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(s));
    return inverse;
}
__device__ __forceinline__ double reciprocal(double s) { return 1.0 / s; }
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
