// Hessian-vector product of the dimer, every pair once. Defines: REAL, N, G, BLOCK.
#include "common.cuh"
#include "dimer/terms.cuh"
#include "dimer/symmetric.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK) dimer_hvp(
    const real *x, const real *v, long long n, PHYSICS_ARGUMENTS, real *out) {
    const Physics p = PHYSICS;
    const int lane = threadIdx.x % G;
    const Row row = row_of_group<G>(n);
    x += row.index * (2 * N);
    v += row.index * (2 * N);

    real own[K][4], h[K][2];  // r, then phi' v
#pragma unroll
    for (int k = 0; k < K; ++k) {
        place_with_direction(x, v, k * G + lane, p, own[k]);
        h[k][0] = h[k][1] = real(0);
    }
    each_pair_once<4>(own, h, lane, [&](const real *qi, const real *qj, bool excluded, real *t) {
        pair_hessian(qi, qj, excluded, p, t);
    });
#pragma unroll
    for (int k = 0; k < K; ++k) add_wall_hessian(own[k], p, h[k]);

    real q1[4], q2[4], h1[2] = {real(0), real(0)}, h2[2] = {real(0), real(0)};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        q1[c] = __shfl_sync(ALL_LANES, own[0][c], 0, G);
        q2[c] = __shfl_sync(ALL_LANES, own[0][c], 1, G);
    }
    dimer_hessian(q1, q2, p, h1, h2);
#pragma unroll
    for (int axis = 0; axis < 2; ++axis)
        h[0][axis] += lane == 0 ? h1[axis] : lane == 1 ? h2[axis] : real(0);

    if (!row.own) return;
#pragma unroll
    for (int k = 0; k < K; ++k)
        if (k * G + lane < N)
            write_hessian(x, v, h[k], k * G + lane, p, out + row.index * (2 * N));
}
