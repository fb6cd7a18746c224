// Energy and gradient of a pair potential. Defines: REAL, N, DIM, G, BLOCK, CHUNK, TILE, PAIR_ENERGY,
// PAIR_HESSIAN.
#include "common.cuh"
#include "pair/terms.cuh"
#include "gather.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK) pair_energy_grad(
    const real *x, long long n, PHYSICS_ARGUMENTS, real *u, real *grad) {
    __shared__ real tiles[BLOCK / G][TILE][DIM];
    const Physics p = PHYSICS;
    const int lane = threadIdx.x % G;
    const Row row = row_of_group<G>(n);
    x += row.index * (DIM * N);
    grad += row.index * (DIM * N);

    const auto load = [&](int j, real *r) { place(x, j, p, r); };
    real mean[DIM], pairs = real(0), spread = real(0);
    mean_of<DIM>(lane, p, mean, load);
    for (int first = 0; first < N; first += CHUNK * G) {
        real own[CHUNK][DIM], g[CHUNK][DIM];
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            place(x, first + c * G + lane, p, own[c]);
#pragma unroll
            for (int axis = 0; axis < DIM; ++axis) g[c][axis] = real(0);
        }
        each_partner<DIM, DIM>(
            own, g, first, lane, tiles[threadIdx.x / G], load,
            [&](const real *ri, const real *rj, bool excluded, real *out) {
                pairs += pair(ri, rj, excluded, p, out);
            });
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            const int i = first + c * G + lane;
            if (i < N)
#pragma unroll
                for (int axis = 0; axis < DIM; ++axis) {
                    const real off = own[c][axis] - mean[axis];
                    const real in_phi = p.gradient * g[c][axis] + p.trap * off;
                    const int k = i * DIM + axis;
                    spread += off * off;
                    if (row.own) grad[k] = in_phi * p.scale * fold_slope(x[k], p);
                }
        }
    }
    const real e = group_sum<G>(real(0.5) * (p.energy * pairs + p.trap * spread));
    if (row.own && lane == 0) u[row.index] = e;
}
