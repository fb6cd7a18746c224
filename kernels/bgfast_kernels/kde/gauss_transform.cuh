// The fast Gauss transform of transform.py on the device, float64. Sources and targets come sorted;
// a run of points of one cell (a box of the lattice `width` wide) is a box. Nothing here depends on
// the order of threads, and no size has to be known on the host. Defines: REAL, TERMS, NEAR, REACH,
// CHUNK, BLOCK.
#include "common.cuh"

#define OUTPUTS (2 * TERMS)  // two polynomials: as many as lanes of a warp

// The lattice of cells. Its origin is the middle source, so that points astray cost the others no
// digits.
struct Lattice {
    real origin, width, inverse;
};

__device__ __forceinline__ Lattice lattice_of(const real *sources, long long n, real width) {
    return {sources[n / 2], width, reciprocal(width)};
}

// Ascending in x, NaN at the end as in the order of the points: the search for boxes relies on it.
__device__ __forceinline__ real cell_of(real x, const Lattice &lattice) {
    const real y = (x - lattice.origin) * lattice.inverse;
    return y < real(1e300) ? floor(fmax(y, real(-1e300))) : real(1e300);
}

// The coordinate within the cell, in [-1, 1], to full precision however far the cell is: the
// difference carries its rounding error, and fma that of the product.
__device__ __forceinline__ real within(real x, const Lattice &lattice) {
    const real d = x - lattice.origin;
    const real back = d - x;
    const real rounding = (x - (d - back)) - (lattice.origin + back);
    const real inside = fma(-cell_of(x, lattice), lattice.width, d) + rounding;
    const real t = real(2) * inside * lattice.inverse - real(1);
    return fmin(fmax(t, real(-1)), real(1));
}

// Mark the first point of every box; a point that is not finite, or, if asked, a charge that is no
// weight, poisons the result.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_mark(
    const real *x, long long n, const real *sources, long long n_lattice, real width,
    const real *charge, int weights, int *mark, real *poison) {
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) return;
    const Lattice lattice = lattice_of(sources, n_lattice, width);
    mark[i] = i == 0 || cell_of(x[i], lattice) != cell_of(x[i - 1], lattice);
    const bool bad_weight = weights && !(charge[i] >= real(0) && charge[i] <= real(1e300));
    if (!(fabs(x[i]) <= real(1e308)) || bad_weight) *poison = nan("");
}

// box[i] counts from 1. Write where every box starts, and its cell.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_boxes(
    const real *x, long long n, const real *sources, long long n_lattice, real width,
    const int *box, int *start, real *cell) {
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) return;
    const Lattice lattice = lattice_of(sources, n_lattice, width);
    if (i == 0 || box[i] != box[i - 1]) {
        start[box[i] - 1] = i;
        cell[box[i] - 1] = cell_of(x[i], lattice);
    }
    if (i == n - 1) start[box[i]] = n;
}

// Lane k of a warp sums c t^k over the points of each box, lane TERMS the absolute charges. A warp
// walks over CHUNK points; what belongs to a box that began before them goes to its row of `head`.
// Lanes above TERMS copy lane TERMS.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_moments(
    const real *x, const real *charge, long long n, const real *sources, long long n_lattice,
    real width, const int *box, real *moments, real *head) {
    const long long chunk = ((long long)blockIdx.x * BLOCK + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32 < TERMS ? threadIdx.x % 32 : TERMS;
    const long long first = chunk * CHUNK;
    if (first >= n) return;
    const long long last = first + CHUNK < n ? first + CHUNK : n;
    const Lattice lattice = lattice_of(sources, n_lattice, width);
    const bool writes = threadIdx.x % 32 <= TERMS;
    const bool continues = first > 0 && box[first] == box[first - 1];
    int current = box[first];
    real *row = continues ? head + chunk * (TERMS + 1)
                          : moments + (long long)(current - 1) * (TERMS + 1);
    real sum = real(0);
#pragma unroll 1
    for (long long i = first; i < last; ++i) {
        if (box[i] != current) {
            if (writes) row[lane] = sum;
            current = box[i];
            row = moments + (long long)(current - 1) * (TERMS + 1);
            sum = real(0);
        }
        const real t = within(x[i], lattice), c = charge[i];
        const real t2 = t * t, t4 = t2 * t2, t8 = t4 * t4;
        real power = lane & 1 ? t : real(1);
        if (lane & 2) power *= t2;
        if (lane & 4) power *= t4;
        if (lane & 8) power *= t8;
        sum += lane == TERMS ? fabs(c) : c * power;
    }
    if (writes) row[lane] = sum;
}

// Add the heads of the chunks that begin within a box to its moments; a warp per box.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_join(
    long long n, const int *box, const int *start, real *moments, const real *head) {
    const int lane = threadIdx.x % 32;
    const int n_boxes = box[n - 1], n_warps = gridDim.x * (BLOCK / 32);
    if (lane > TERMS) return;
    for (int b = blockIdx.x * (BLOCK / 32) + threadIdx.x / 32; b < n_boxes; b += n_warps) {
        real sum = moments[(long long)b * (TERMS + 1) + lane];
        for (int c = start[b] / CHUNK + 1; c <= (start[b + 1] - 1) / CHUNK; ++c)
            sum += head[(long long)c * (TERMS + 1) + lane];
        moments[(long long)b * (TERMS + 1) + lane] = sum;
    }
}

// The polynomials of every target box, one coefficient per lane, and the bound on their error.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_local(
    long long n_targets, const int *target_box, const real *target_cell, long long n_sources,
    const int *source_box, const real *source_cell, const real *moments, const real *table,
    const real *error, real *local, real *bound) {
    const int lane = threadIdx.x % 32;
    const int n_boxes = target_box[n_targets - 1], n_filled = source_box[n_sources - 1];
    const int n_warps = gridDim.x * (BLOCK / 32);
    for (int b = blockIdx.x * (BLOCK / 32) + threadIdx.x / 32; b < n_boxes; b += n_warps) {
        const real cell = target_cell[b];
        int low = 0, high = n_filled;  // the first source box not below reach
        while (low < high) {
            const int middle = (low + high) / 2;
            if (source_cell[middle] < cell - real(REACH))
                low = middle + 1;
            else
                high = middle;
        }
        real sum = real(0), doubt = real(0);
        for (int s = low; s < n_filled && source_cell[s] <= cell + real(REACH); ++s) {
            const int offset = int(cell - source_cell[s]);
            const real *moment = moments + (long long)s * (TERMS + 1);
            doubt += error[offset < 0 ? -offset : offset] * moment[TERMS];
            if (offset < -NEAR || offset > NEAR) continue;
            const real *row = table + (offset + NEAR) * (TERMS * OUTPUTS) + lane;
#pragma unroll
            for (int k = 0; k < TERMS; ++k) sum += moment[k] * row[k * OUTPUTS];
        }
        local[(long long)b * OUTPUTS + lane] = sum;
        if (lane == 0) bound[b] = doubt;
    }
}

// Both sums at every target, in the order the targets had before they were sorted. Where `find` is
// set and the error bound is too large for the value, `doubtful` is 1.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_evaluate(
    const real *x, long long n, const real *sources, long long n_lattice, real width,
    const int *box, const long long *index, const real *local, const real *bound,
    const real *poison, int find, real *sums, real *slopes, int *doubtful) {
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) return;
    const Lattice lattice = lattice_of(sources, n_lattice, width);
    const real t = within(x[i], lattice);
    const real *polynomial = local + (long long)(box[i] - 1) * OUTPUTS;
    real value = polynomial[TERMS - 1], slope = polynomial[OUTPUTS - 1];
#pragma unroll
    for (int k = TERMS - 2; k >= 0; --k) {
        value = value * t + polynomial[k];
        slope = slope * t + polynomial[TERMS + k];
    }
    const long long target = index[i];
    sums[target] = value + *poison;
    slopes[target] = slope + *poison;
    if (find) doubtful[target] = !(value > bound[box[i] - 1]);
}
