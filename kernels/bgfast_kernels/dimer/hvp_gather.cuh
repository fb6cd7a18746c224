// Hessian-vector product of the dimer for any N. Defines: REAL, N, G, BLOCK, CHUNK, TILE.
#include "common.cuh"
#include "dimer/terms.cuh"
#include "gather.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK) dimer_hvp(
    const real *x, const real *v, long long n, PHYSICS_ARGUMENTS, real *out) {
    __shared__ real tiles[BLOCK / G][TILE][4];
    const Physics p = PHYSICS;
    const int lane = threadIdx.x % G;
    const Row row = row_of_group<G>(n);
    x += row.index * (2 * N);
    v += row.index * (2 * N);
    out += row.index * (2 * N);

    real q1[4], q2[4], h1[2] = {real(0), real(0)}, h2[2] = {real(0), real(0)};
    place_with_direction(x, v, 0, p, q1);
    place_with_direction(x, v, 1, p, q2);
    dimer_hessian(q1, q2, p, h1, h2);
    for (int first = 0; first < N; first += CHUNK * G) {
        real own[CHUNK][4], h[CHUNK][2];
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            place_with_direction(x, v, first + c * G + lane, p, own[c]);
            h[c][0] = h[c][1] = real(0);
        }
        each_partner<4, 2>(
            own, h, first, lane, tiles[threadIdx.x / G],
            [&](int j, real *q) { place_with_direction(x, v, j, p, q); },
            [&](const real *qi, const real *qj, bool excluded, real *t) {
                pair_hessian(qi, qj, excluded, p, t);
            });
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            const int i = first + c * G + lane;
            add_wall_hessian(own[c], p, h[c]);
#pragma unroll
            for (int axis = 0; axis < 2; ++axis)
                h[c][axis] += i == 0 ? h1[axis] : i == 1 ? h2[axis] : real(0);
            if (row.own && i < N) write_hessian(x, v, h[c], i, p, out);
        }
    }
}
