// Metropolis moves of all coordinates at once, many walkers, G lanes each: what
// metropolis.all_coordinates does, with the same random streams. The lanes of a group hold the same
// stream and decide alike; coordinate i belongs to lane i % G. Defines: REAL, D, G, BLOCK.
//
// The file of a system includes this one and says before what its energy is: a struct System of
// constants with `far` and `scale` (rows.cuh), SYSTEM_ARGUMENTS and SYSTEM, which makes it of them,
// coordinate(x), and energy_of(places, lane, p) of folded coordinates, the same number in every lane.
#include "random.cuh"

// k/2 (q - q0)^2, added to u; one rounding, so that a run cut in two keeps its bits.
__device__ __forceinline__ real with_bias(real u, real stiffness, real stretch) {
    return fma(real(0.5) * stiffness * stretch, stretch, u);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 4) all_coordinates(
    real *x, real *u, unsigned long long *states, const real *tau, const real *step,
    const real *bias, const real *interval, long long n, SYSTEM_ARGUMENTS,
    const double *__restrict__ layers, int n_frames, int stride, real *frames, real *energies,
    long long *accepted) {
    __shared__ real all_here[BLOCK / G][D];
    __shared__ real all_trials[BLOCK / G][D];
    __shared__ real all_places[BLOCK / G][D];  // of the trials, folded
    const System p = SYSTEM;
    const int lane = threadIdx.x % G;
    const Row walker = row_of_group<G>(n);
    const long long w = walker.index;
    real *here = all_here[threadIdx.x / G], *trial = all_trials[threadIdx.x / G];
    real *places = all_places[threadIdx.x / G];
    for (int i = lane; i < D; i += G) here[i] = trial[i] = x[w * D + i];
    __syncwarp();

    Stream stream = {states[4 * w], states[4 * w + 1], states[4 * w + 2], states[4 * w + 3]};
    const real width = step[w], temperature = tau[w];
    const real stiffness = bias[2 * w], centre = bias[2 * w + 1];
    const real low = interval[2 * w], high = interval[2 * w + 1];
    real energy = u[w], biased = with_bias(energy, stiffness, coordinate(trial) - centre);
    long long n_accepted = accepted[w];

    for (int frame = 0; frame < n_frames; ++frame) {
        for (int s = 0; s < stride; ++s) {
            __syncwarp();  // every lane has read the last trial
#pragma unroll 1  // one copy of the ziggurat
            for (int i = 0; i < D; ++i) {
                const real normal = real(next_normal(stream, layers));
                if (i % G != lane) continue;
                trial[i] = here[i] + width * normal;
                places[i] = fold(trial[i], p);
            }
            __syncwarp();
            const real limit = biased - temperature * real(log1p(-next_uniform(stream)));
            const real q = coordinate(trial), moved = energy_of(places, lane, p);
            const real moved_biased = with_bias(moved, stiffness, q - centre);
            if (low <= q && q <= high && moved_biased <= limit) {
                for (int i = lane; i < D; i += G) here[i] = trial[i];
                energy = moved;
                biased = moved_biased;
                ++n_accepted;
            }
        }
        if (!walker.own) continue;
        const long long row = w * n_frames + frame;
        for (int i = lane; i < D; i += G) frames[row * D + i] = here[i];
        if (lane == 0) energies[row] = energy;
    }

    if (!walker.own) return;
    for (int i = lane; i < D; i += G) x[w * D + i] = here[i];
    if (lane > 0) return;
    u[w] = energy;
    accepted[w] = n_accepted;
    states[4 * w] = stream.a;
    states[4 * w + 1] = stream.b;
    states[4 * w + 2] = stream.c;
    states[4 * w + 3] = stream.count;
}
