// Linear assignment of squared distances, a warp for each configuration: the shortest augmenting
// paths of augmenting_path.py, with its arithmetic. Lane l holds the columns l, l + 32, ...; the
// loops' counts are the same in all lanes. Defines: REAL = double, N particles, DIM, BLOCK.
#include "common.cuh"
#include "rows.cuh"

#define WARP 32
#define FREE N      // a column that no row has
#define FAR 1e300  // more than the sum of all squared distances

struct Nearest {
    double distance;
    int column;
};

// The least of a warp, the same in each lane; of equal ones the first column.
__device__ __forceinline__ Nearest nearest_of_warp(Nearest best) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const double other = __shfl_xor_sync(ALL_LANES, best.distance, distance);
        const int column = __shfl_xor_sync(ALL_LANES, best.column, distance);
        if (other < best.distance || (other == best.distance && column < best.column))
            best = {other, column};
    }
    return best;
}

__device__ __forceinline__ double cost(const double *particle, const double *target) {
    double squares = 0.0;
    for (int d = 0; d < DIM; ++d) {
        const double dx = particle[d] - target[d];
        squares = fma(dx, dx, squares);
    }
    return squares;
}

extern "C" __global__ void __launch_bounds__(BLOCK) assign(
    const double *__restrict__ x, const double *__restrict__ reference, double x_max, long long n,
    long long *permutation) {
    __shared__ double all_particles[BLOCK / WARP][N][DIM];
    __shared__ double all_row_duals[BLOCK / WARP][N], all_column_duals[BLOCK / WARP][N];
    __shared__ double all_distances[BLOCK / WARP][N];
    __shared__ int all_column_of[BLOCK / WARP][N], all_row_of[BLOCK / WARP][N];
    __shared__ int all_previous[BLOCK / WARP][N], all_settled[BLOCK / WARP][N];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const Row row = row_of_group<WARP>(n);
    double(*particles)[DIM] = all_particles[warp];
    double *row_dual = all_row_duals[warp], *column_dual = all_column_duals[warp];
    double *distance = all_distances[warp];
    int *column_of = all_column_of[warp], *row_of = all_row_of[warp];
    int *previous = all_previous[warp], *settled = all_settled[warp];

    bool in_range = true;
    for (int i = lane; i < N; i += WARP) {
        row_of[i] = FREE;
        column_dual[i] = 0.0;
        for (int d = 0; d < DIM; ++d) {
            particles[i][d] = x[(row.index * N + i) * DIM + d];
            in_range &= fabs(particles[i][d]) < x_max && fabs(reference[i * DIM + d]) < x_max;
        }
    }
    const bool solvable = __all_sync(ALL_LANES, in_range);
    __syncwarp();

    // The cheapest column of each row; the diagonal if it is among them: ties keep the labels.
    for (int k = lane; k < N; k += WARP) {
        double least = cost(particles[k], reference + k * DIM);
        int cheapest = k;
        for (int j = 0; j < N && solvable; ++j) {
            const double other = cost(particles[j], reference + k * DIM);
            if (other < least) {
                least = other;
                cheapest = j;
            }
        }
        row_dual[k] = least;
        column_of[k] = cheapest;
        if (cheapest == k) row_of[k] = k;
    }
    __syncwarp();
    // A row keeps it if nobody has it on the diagonal, and no row before wants it.
    for (int k = lane; k < N; k += WARP)
        if (column_of[column_of[k]] != column_of[k]) atomicMin(&row_of[column_of[k]], k);
    __syncwarp();
    for (int k = lane; k < N; k += WARP) settled[k] = row_of[column_of[k]] == k;
    __syncwarp();
    for (int k = lane; k < N; k += WARP)
        if (!settled[k]) column_of[k] = FREE;
    __syncwarp();

    for (int start = 0; start < N; ++start) {
        if (column_of[start] != FREE) continue;
        // Grow shortest paths until they reach a free column.
        for (int j = lane; j < N; j += WARP) {
            distance[j] = FAR;
            settled[j] = false;
        }
        Nearest reached = {0.0, FREE};
        int from = start;
        for (;;) {
            const double offset = reached.distance - row_dual[from];
            Nearest best = {FAR, FREE};
            for (int j = lane; j < N; j += WARP) {
                if (settled[j]) continue;
                const double through =
                    cost(particles[j], reference + from * DIM) + (offset - column_dual[j]);
                if (through < distance[j]) {
                    distance[j] = through;
                    previous[j] = from;
                }
                if (distance[j] < best.distance) best = {distance[j], j};
            }
            reached = nearest_of_warp(best);
            if (reached.column % WARP == lane) settled[reached.column] = true;
            if (row_of[reached.column] == FREE) break;
            from = row_of[reached.column];
        }
        // Keep the duals feasible, then assign along the path.
        for (int j = lane; j < N; j += WARP)
            if (settled[j]) {
                const double slack = reached.distance - distance[j];
                column_dual[j] -= slack;
                if (row_of[j] != FREE) row_dual[row_of[j]] += slack;
            }
        if (lane == 0) row_dual[start] += reached.distance;
        __syncwarp();
        if (lane == 0)
            for (int column = reached.column, taken = FREE; taken != start;) {
                taken = previous[column];
                row_of[column] = taken;
                const int before = column_of[taken];
                column_of[taken] = column;
                column = before;
            }
        __syncwarp();
    }

    if (!row.own) return;
    for (int k = lane; k < N; k += WARP) permutation[row.index * N + k] = column_of[k];
}
