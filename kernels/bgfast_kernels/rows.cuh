// What kernels of energies of rows share: the far map and the rows of a group of lanes. A struct of
// constants P has `far`, where coordinates begin to enter logarithmically, and `scale`, the unit of
// length, a power of two.

// A squared distance at which a pair adds nothing, and the spacing of particles that do not exist.
#define APART real(1e30)
#define PADDING real(1e12)

template <class P>
__device__ __forceinline__ bool is_far(real x, const P &p) { return fabs(x) > p.far; }

// phi(x).
template <class P>
__device__ __forceinline__ real phi(real x, const P &p) {
    if (!is_far(x, p)) return x;
    return copysign(p.far * (real(1) + log(fabs(x) * reciprocal(p.far))), x);
}

// phi(x) in the kernel's unit of length.
template <class P>
__device__ __forceinline__ real fold(real x, const P &p) { return phi(x, p) * p.scale; }

// phi'(x).
template <class P>
__device__ __forceinline__ real fold_slope(real x, const P &p) {
    return is_far(x, p) ? p.far / fabs(x) : real(1);
}

// phi''(x).
template <class P>
__device__ __forceinline__ real fold_curvature(real x, const P &p) {
    const real slope = fold_slope(x, p);
    return is_far(x, p) ? -copysign(slope * slope / p.far, x) : real(0);
}

// Row of x and whether it is this group's own: groups beyond the last row repeat it and write
// nothing, so that every lane takes part in every exchange.
struct Row {
    long long index;
    bool own;
};

template <int LANES>
__device__ __forceinline__ Row row_of_group(long long n) {
    const long long group = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    return {group < n ? group : n - 1, group < n};
}
