// Energy and gradient of the dimer for any N. Defines: REAL, N, G, BLOCK, CHUNK, TILE.
#include "common.cuh"
#include "dimer/terms.cuh"
#include "gather.cuh"

extern "C" __global__ void __launch_bounds__(BLOCK, 4) dimer_energy_grad(
    const real *x, long long n, PHYSICS_ARGUMENTS, real *u, real *grad) {
    __shared__ real tiles[BLOCK / G][TILE][2];
    const Physics p = PHYSICS;
    const int lane = threadIdx.x % G;
    const Row row = row_of_group<G>(n);
    x += row.index * (2 * N);
    grad += row.index * (2 * N);

    real r1[2], r2[2], g1[2] = {real(0), real(0)}, g2[2] = {real(0), real(0)};
    place(x, 0, p, r1);
    place(x, 1, p, r2);
    real e = dimer_terms(r1, r2, p, g1, g2);
    if (lane > 0) e = real(0);
    real pairs = real(0), lost = real(0), outside = real(0);
    for (int first = 0; first < N; first += CHUNK * G) {
        real own[CHUNK][2], g[CHUNK][2];
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            place(x, first + c * G + lane, p, own[c]);
            g[c][0] = g[c][1] = real(0);
        }
        each_partner<2, 2>(
            own, g, first, lane, tiles[threadIdx.x / G],
            [&](int j, real *r) { place(x, j, p, r); },
            [&](const real *ri, const real *rj, bool excluded, real *t) {
                // Compensated: a lane adds thousands of terms one after the other.
                const real term = pair(ri, rj, excluded, p, t) - lost;
                const real sum = pairs + term;
                lost = (sum - pairs) - term;
                pairs = sum;
            });
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            const int i = first + c * G + lane;
#pragma unroll
            for (int axis = 0; axis < 2; ++axis) {
                g[c][axis] = with_walls(g[c][axis], own[c][axis], p);
                g[c][axis] += i == 0 ? g1[axis] : i == 1 ? g2[axis] : real(0);
                const real beyond = i < N ? beyond_walls(own[c][axis], p) : real(0);
                outside += beyond * beyond;
            }
            if (row.own && i < N) write_gradient(x, g[c], i, true, p, grad);
        }
    }
    e += real(0.5) * p.strength * pairs + p.k_box * outside;

    e = group_sum<G>(e);
    if (__any_sync(ALL_LANES, fabs(e) > real(0.5) * fabs(energy_at_core(p))))
        e += group_sum<G>(core_energy<G>(x, lane, p));
    if (row.own && lane == 0) u[row.index] = e;
}
