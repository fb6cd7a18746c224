// Moves of all coordinates of the double well; the formula is that of scalar.double_well.
// Defines: REAL, D, G, BLOCK.
#include "common.cuh"
#include "rows.cuh"

struct System {
    real a4, a2, a1, k, far, scale;
};

#define SYSTEM_ARGUMENTS real a4, real a2, real a1, real k, real far
#define SYSTEM                                                                                     \
    { a4, a2, a1, k, far, real(1) }

__device__ __forceinline__ real coordinate(const real *x) { return x[0]; }

__device__ __forceinline__ real energy_of(const real *places, int lane, const System &p) {
    const real x1 = places[0], square = x1 * x1;
    real others = real(0);
    for (int i = lane; i < D; i += G)
        if (i > 0) others += places[i] * places[i];
    const real well = (p.a4 * square - p.a2) * square + p.a1 * x1;
    return well + real(0.5) * p.k * group_sum<G>(others);
}

#include "montecarlo/all_coordinates.cuh"
