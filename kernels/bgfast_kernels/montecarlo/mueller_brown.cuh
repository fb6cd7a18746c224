// Moves of both coordinates on the Mueller-Brown surface; the formula is that of
// scalar.mueller_brown. Defines: REAL, D = 2, G = 1, BLOCK.
#include "common.cuh"
#include "rows.cuh"

#define GAUSSIANS 4
#define MAX_EXPONENT real(30)  // larger exponents go on linearly

struct System {
    const real *parameters;  // the scale, then (A, a, b, c, x0, y0) of each term
    real far, scale;
};

#define SYSTEM_ARGUMENTS const real *__restrict__ parameters, real far
#define SYSTEM                                                                                     \
    { parameters, far, real(1) }

__device__ __forceinline__ real coordinate(const real *x) { return x[1]; }

__device__ __forceinline__ real energy_of(const real *places, int lane, const System &p) {
    real total = real(0);
#pragma unroll
    for (int k = 0; k < GAUSSIANS; ++k) {
        const real *term = p.parameters + 1 + 6 * k;
        const real dx = places[0] - term[4], dy = places[1] - term[5];
        const real exponent = term[1] * dx * dx + term[2] * dx * dy + term[3] * dy * dy;
        const real below = fmin(exponent, MAX_EXPONENT);
        total += term[0] * exp(below) * (real(1) + (exponent - below));
    }
    return p.parameters[0] * total;
}

#include "montecarlo/all_coordinates.cuh"
