// A pair and the trap; the formula stands in pair/__init__.py. Lengths are in units of the power of
// two nearest to sigma, see parameters.py. Defines: N particles in DIM dimensions; PAIR_ENERGY
// computes `value` and `slope`, PAIR_HESSIAN `slope` and `curvature`, all from t = sigma^2 / r^2.
#include "rows.cuh"

struct Physics {
    real scale, sigma_2, s_core, core_slope, energy, gradient, bend, trap, far;
};

#define PHYSICS_ARGUMENTS                                                                          \
    real scale, real sigma_2, real s_core, real core_slope, real energy, real gradient, real bend, \
        real trap, real far
#define PHYSICS                                                                                    \
    { scale, sigma_2, s_core, core_slope, energy, gradient, bend, trap, far }

__device__ __forceinline__ bool no_pair(int i, int j) { return i == j; }

// The place of particle i of the configuration at x; a place of its own far away if i >= N.
__device__ __forceinline__ void place(const real *x, int i, const Physics &p, real *r) {
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis)
        r[axis] = i < N ? fold(x[i * DIM + axis], p) : axis == 0 ? PADDING * real(i + 1) : real(0);
}

// r, then phi' v of particle i of the configuration at x.
__device__ __forceinline__ void place_with_direction(
    const real *x, const real *v, int i, const Physics &p, real *q) {
    place(x, i, p, q);
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis) {
        const int k = i * DIM + axis;
        q[DIM + axis] = i < N ? fold_slope(x[k], p) * v[k] : real(0);
    }
}

// The energy of a pair and t = u' r, r = r_i - r_j; within the core the energy is linear in s = r^2.
// Prefactors come later.
__device__ __forceinline__ real pair(
    const real *ri, const real *rj, bool excluded, const Physics &p, real *out) {
    real d[DIM], s = real(0);
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis) {
        d[axis] = ri[axis] - rj[axis];
        s += d[axis] * d[axis];
    }
    if (excluded) s = APART;
    const real outer = fmax(s, p.s_core);
    const real t = p.sigma_2 * reciprocal(outer);
    PAIR_ENERGY
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis) out[axis] = slope * d[axis];
    return value + p.core_slope * (s - outer);
}

// u' w + 2 u'' (w . r) r, w = v_i - v_j; r then v in qi and qj. The second part vanishes within the
// core.
__device__ __forceinline__ void pair_hessian(
    const real *qi, const real *qj, bool excluded, const Physics &p, real *out) {
    real d[DIM], w[DIM], s = real(0), along = real(0);
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis) {
        d[axis] = qi[axis] - qj[axis];
        w[axis] = qi[DIM + axis] - qj[DIM + axis];
        s += d[axis] * d[axis];
        along += d[axis] * w[axis];
    }
    if (excluded) s = APART;
    const real t = p.sigma_2 * reciprocal(fmax(s, p.s_core));
    PAIR_HESSIAN
    along *= (s < p.s_core ? real(0) : p.bend) * curvature;
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis) out[axis] = along * d[axis] + slope * w[axis];
}

// The mean over all particles of the last DIM of the COUNT numbers that load(i, q) gives; every lane
// of the group has to call it. Not needed without a trap.
template <int COUNT, class Load>
__device__ __forceinline__ void mean_of(int lane, const Physics &p, real *mean, Load load) {
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis) mean[axis] = real(0);
    if (p.trap == real(0)) return;  // the same in all lanes
    for (int i = lane; i < N; i += G) {
        real q[COUNT];
        load(i, q);
#pragma unroll
        for (int axis = 0; axis < DIM; ++axis) mean[axis] += q[COUNT - DIM + axis];
    }
#pragma unroll
    for (int axis = 0; axis < DIM; ++axis) mean[axis] = group_sum<G>(mean[axis]) / real(N);
}

// One coordinate of the gradient with respect to phi(x), in the user's unit: a plain loop for the
// few coordinates beyond far, which need it for the curvature of phi.
__device__ __forceinline__ real gradient_at(const real *x, int i, int axis, const Physics &p) {
    real ri[DIM], total = real(0), mean = real(0);
    place(x, i, p, ri);
#pragma unroll 1
    for (int j = 0; j < N; ++j) {
        real rj[DIM], out[DIM];
        place(x, j, p, rj);
        pair(ri, rj, no_pair(i, j), p, out);
#pragma unroll
        for (int a = 0; a < DIM; ++a)
            if (a == axis) {
                total += out[a];
                mean += rj[a];
            }
    }
    const real here = fold(x[i * DIM + axis], p);
    return p.scale * (p.gradient * total + p.trap * (here - mean / real(N)));
}
