// Moves of all coordinates of the dimer. Defines: REAL, N, D = 2 N, G, BLOCK.
#include "common.cuh"
#include "montecarlo/dimer_energy.cuh"

typedef Physics System;

#define SYSTEM_ARGUMENTS PHYSICS_ARGUMENTS
#define SYSTEM PHYSICS

__device__ __forceinline__ real coordinate(const real *x) {
    return distance(x[0], x[1], x[2], x[3]);
}

__device__ __forceinline__ real energy_of(const real *places, int lane, const System &p) {
    return whole_energy(reinterpret_cast<const real(*)[2]>(places), lane, p);
}

#include "montecarlo/all_coordinates.cuh"
