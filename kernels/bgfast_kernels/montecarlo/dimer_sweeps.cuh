// Metropolis sweeps over the dimer's particles, many walkers, G lanes each: what
// metropolis.dimer_particles does, with the same random streams. The lanes of a group hold the same
// stream and decide alike; they share the sum over a particle's partners. Defines: REAL, N, G, BLOCK.
#include "common.cuh"
#include "montecarlo/dimer_energy.cuh"
#include "random.cuh"

#define NEVER real(40)  // exp(-40) is below the resolution of the uniform number

extern "C" __global__ void __launch_bounds__(BLOCK, 4) dimer_sweeps(
    real *x, real *u, unsigned long long *states, const real *tau, const real *step,
    const real *bias, const real *interval, long long n, PHYSICS_ARGUMENTS, int n_frames,
    int stride, int palindromic, real *frames, real *energies, long long *accepted, real *drift) {
    __shared__ real all_places[BLOCK / G][N][2];
    __shared__ real all_here[BLOCK / G][N][2];
    const Physics p = PHYSICS;
    const int lane = threadIdx.x % G;
    const Row walker = row_of_group<G>(n);
    const long long w = walker.index;
    real(*places)[2] = all_places[threadIdx.x / G];  // folded, in the kernel's unit of length
    real(*here)[2] = all_here[threadIdx.x / G];
    for (int i = lane; i < N; i += G)
        for (int axis = 0; axis < 2; ++axis) {
            here[i][axis] = x[(w * N + i) * 2 + axis];
            places[i][axis] = fold(here[i][axis], p);
        }
    __syncwarp();

    Stream stream = {states[4 * w], states[4 * w + 1], states[4 * w + 2], states[4 * w + 3]};
    const real unit = step[w] / real(2147483648.0), inverse_tau = reciprocal(tau[w]);
    const real stiffness = bias[2 * w], centre = bias[2 * w + 1];
    const real low = interval[2 * w], high = interval[2 * w + 1];
    real energy = u[w], largest_drift = drift[w];
    long long n_accepted = accepted[w];

    for (int frame = 0; frame < n_frames; ++frame) {
        real running = energy;
        for (int s = 0; s < stride; ++s)
            for (int k = 0; k < N; ++k) {
                const int i = palindromic && s % 2 == 1 ? N - 1 - k : k;
                // Both displacements from one draw, 32 bits each, symmetric about 0.
                const unsigned long long bits = next_bits(stream);
                const real moved[2] = {
                    here[i][0] + unit * (real(int(unsigned(bits >> 32))) + real(0.5)),
                    here[i][1] + unit * (real(int(unsigned(bits))) + real(0.5))};
                const real new_place[2] = {fold(moved[0], p), fold(moved[1], p)};
                real change = real(0);
                for (int j = lane; j < N; j += G)
                    if (!no_pair(i, j))
                        change += pair_energy(new_place, places[j], p) -
                                  pair_energy(places[i], places[j], p);
                change = p.strength * group_sum<G>(change);
                change += wall_energy(new_place, p) - wall_energy(places[i], p);
                bool inside = true;
                real pull = real(0);
                if (i < 2) {
                    const real *other = here[1 - i], *fixed = places[1 - i];
                    const real d = distance(moved[0], moved[1], other[0], other[1]);
                    const real d_old = distance(here[0][0], here[0][1], here[1][0], here[1][1]);
                    inside = low <= d && d <= high;
                    pull = real(0.5) * stiffness * (d - d_old) * (d + d_old - real(2) * centre);
                    // The bond does not change if its ends are exchanged.
                    change += bond_energy(new_place, fixed, p) - bond_energy(places[i], fixed, p);
                }
                const real cost = (change + pull) * inverse_tau;
                const bool accept =
                    inside && (cost <= real(0) ||
                               (cost < NEVER && next_uniform(stream) < exp(-cost)));
                __syncwarp();  // every lane has read the old place
                if (accept && lane == 0)
                    for (int axis = 0; axis < 2; ++axis) {
                        here[i][axis] = moved[axis];
                        places[i][axis] = new_place[axis];
                    }
                __syncwarp();
                if (accept) {
                    running += change;
                    ++n_accepted;
                }
            }
        energy = whole_energy(places, lane, p);
        largest_drift = fmax(largest_drift, fabs(running - energy));
        if (!walker.own) continue;
        const long long row = w * n_frames + frame;
        for (int i = lane; i < N; i += G)
            for (int axis = 0; axis < 2; ++axis)
                frames[(row * N + i) * 2 + axis] = here[i][axis];
        if (lane == 0) energies[row] = energy;
    }

    if (!walker.own) return;
    for (int i = lane; i < N; i += G)
        for (int axis = 0; axis < 2; ++axis) x[(w * N + i) * 2 + axis] = here[i][axis];
    if (lane > 0) return;
    u[w] = energy;
    drift[w] = largest_drift;
    accepted[w] = n_accepted;
    states[4 * w] = stream.a;
    states[4 * w + 1] = stream.b;
    states[4 * w + 2] = stream.c;
    states[4 * w + 3] = stream.count;
}
