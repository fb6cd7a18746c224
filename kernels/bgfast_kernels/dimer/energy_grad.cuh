// Energy and gradient of the dimer, every pair once. Defines: REAL, N, G, BLOCK.
#include "common.cuh"
#include "dimer/terms.cuh"
#include "dimer/symmetric.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK) dimer_energy_grad(
    const real *x, long long n, PHYSICS_ARGUMENTS, real *u, real *grad) {
    const Physics p = PHYSICS;
    const int lane = threadIdx.x % G;
    const Row row = row_of_group<G>(n);
    x += row.index * (2 * N);

    real own[K][2], g[K][2];
    const bool any_far = place_all(x, lane, p, own);
#pragma unroll
    for (int k = 0; k < K; ++k) g[k][0] = g[k][1] = real(0);
    real e = real(0);
    each_pair_once<2>(own, g, lane, [&](const real *ri, const real *rj, bool excluded, real *t) {
        e += pair(ri, rj, excluded, p, t);
    });
    e *= p.strength;

    real outside = real(0);
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
        for (int axis = 0; axis < 2; ++axis) {
            g[k][axis] = with_walls(g[k][axis], own[k][axis], p);
            const real beyond = k * G + lane < N ? beyond_walls(own[k][axis], p) : real(0);
            outside += beyond * beyond;
        }
    e += p.k_box * outside;

    real r1[2], r2[2], g1[2] = {real(0), real(0)}, g2[2] = {real(0), real(0)};
#pragma unroll
    for (int axis = 0; axis < 2; ++axis) {
        r1[axis] = __shfl_sync(ALL_LANES, own[0][axis], 0, G);
        r2[axis] = __shfl_sync(ALL_LANES, own[0][axis], 1, G);
    }
    const real dimer = dimer_terms(r1, r2, p, g1, g2);
    if (lane == 0) e += dimer;
#pragma unroll
    for (int axis = 0; axis < 2; ++axis)
        g[0][axis] += lane == 0 ? g1[axis] : lane == 1 ? g2[axis] : real(0);

    e = group_sum<G>(e);
    if (__any_sync(ALL_LANES, fabs(e) > real(0.5) * fabs(energy_at_core(p))))
        e += group_sum<G>(core_energy<G>(x, lane, p));

    if (!row.own) return;
    if (lane == 0) u[row.index] = e;
#pragma unroll
    for (int k = 0; k < K; ++k)
        if (k * G + lane < N)
            write_gradient(x, g[k], k * G + lane, any_far, p, grad + row.index * (2 * N));
}
