// Hessian-vector product of a pair potential. Defines: REAL, N, DIM, G, BLOCK, CHUNK, TILE,
// PAIR_ENERGY, PAIR_HESSIAN, and RESIDENT, how many blocks have to fit on a multiprocessor: not told,
// ptxas spills to fit one more.
#include "common.cuh"
#include "pair/terms.cuh"
#include "gather.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK, RESIDENT) pair_hvp(
    const real *x, const real *v, long long n, PHYSICS_ARGUMENTS, real *out) {
    __shared__ real tiles[BLOCK / G][TILE][2 * DIM];
    const Physics p = PHYSICS;
    const int lane = threadIdx.x % G;
    const Row row = row_of_group<G>(n);
    x += row.index * (DIM * N);
    v += row.index * (DIM * N);
    out += row.index * (DIM * N);

    const auto load = [&](int j, real *q) { place_with_direction(x, v, j, p, q); };
    real mean[DIM];
    mean_of<2 * DIM>(lane, p, mean, load);
    for (int first = 0; first < N; first += CHUNK * G) {
        real own[CHUNK][2 * DIM], h[CHUNK][DIM];
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            load(first + c * G + lane, own[c]);
#pragma unroll
            for (int axis = 0; axis < DIM; ++axis) h[c][axis] = real(0);
        }
        each_partner<2 * DIM, DIM>(
            own, h, first, lane, tiles[threadIdx.x / G], load,
            [&](const real *qi, const real *qj, bool excluded, real *term) {
                pair_hessian(qi, qj, excluded, p, term);
            });
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            const int i = first + c * G + lane;
            if (row.own && i < N)
#pragma unroll
                for (int axis = 0; axis < DIM; ++axis) {
                    const int k = i * DIM + axis;
                    const real off = own[c][DIM + axis] - mean[axis];
                    const real in_phi = p.gradient * h[c][axis] + p.trap * off;
                    out[k] = in_phi * p.scale * p.scale * fold_slope(x[k], p);
                }
        }
    }
    if (!row.own) return;
#pragma unroll 1
    for (int i = lane; i < N; i += G)
#pragma unroll 1
        for (int axis = 0; axis < DIM; ++axis) {  // phi' H phi' v + g phi'' v
            const int k = i * DIM + axis;
            if (is_far(x[k], p))
                out[k] += gradient_at(x, i, axis, p) * fold_curvature(x[k], p) * v[k];
        }
}
