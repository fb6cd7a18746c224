// The dimer's energy for Monte Carlo: of one pair, one particle, a whole configuration. Places are
// folded and in the kernel's unit of length. Defines: N, G.
#include "dimer/terms.cuh"

// (r / unit)^-12 of a pair, linear in r^2 within the core.
__device__ __forceinline__ real pair_energy(const real *ri, const real *rj, const Physics &p) {
    const real dx = ri[0] - rj[0], dy = ri[1] - rj[1];
    const real s = dx * dx + dy * dy, guarded = fmax(s, p.s_core);
    const real inverse = reciprocal(guarded);
    const real inverse_2 = inverse * inverse;
    const real inverse_6 = inverse_2 * inverse_2 * inverse_2;
    return inverse_6 + real(6) * inverse_6 * inverse * (guarded - s);
}

__device__ __forceinline__ real wall_energy(const real *r, const Physics &p) {
    const real x = beyond_walls(r[0], p), y = beyond_walls(r[1], p);
    return p.k_box * (x * x + y * y);
}

__device__ __forceinline__ real bond_energy(const real *r1, const real *r2, const Physics &p) {
    real g1[2], g2[2];
    return dimer_terms(r1, r2, p, g1, g2);
}

__device__ __forceinline__ real distance(real x1, real y1, real x2, real y2) {
    const real s = (x1 - x2) * (x1 - x2) + (y1 - y2) * (y1 - y2);
    real inverse;
    return s > real(1e-280) ? square_root(s, &inverse) : real(0);
}

// The energy of the folded places, the same number in every lane of the group.
__device__ __forceinline__ real whole_energy(const real (*places)[2], int lane, const Physics &p) {
    real pairs = real(0), rest = real(0);
    for (int i = lane; i < N; i += G) {
        rest += wall_energy(places[i], p);
        for (int j = i + 1; j < N; ++j)
            if (!no_pair(i, j)) pairs += pair_energy(places[i], places[j], p);
    }
    if (lane == 0) rest += bond_energy(places[0], places[1], p);
    return group_sum<G>(p.strength * pairs + rest);
}
