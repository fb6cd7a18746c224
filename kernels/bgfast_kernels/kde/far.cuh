// Gaussian sums the boxes cannot vouch for, term by term in logarithms; see far.py. Sources come
// with their images in the walls: image k = -images ... images lies in the k-th interval.
// Defines: REAL, BLOCK.
#include "common.cuh"

#define U_MAX real(1e75)         // |u| is cut here: u^2 and the first Hermite polynomials stay finite
#define EXPONENT_MAX real(700)   // a point of weight 0 can be nearer than all weight

struct Images {
    real lo, hi;
    int count, parity;
};

// Image k of a source at p; sign is what its charge is multiplied with.
__device__ __forceinline__ real image_of(real p, int k, const Images &images, real *sign) {
    *sign = real(1);
    if (k % 2 == 0) return p + real(k) * (images.hi - images.lo);
    *sign = real(images.parity);
    return images.lo + images.hi + real(k) * (images.hi - images.lo) - p;
}

__device__ __forceinline__ real bandwidths(real a, real b, real inverse_bandwidth) {
    return fmin(fmax((a - b) * inverse_bandwidth, -U_MAX), U_MAX);
}

// Add charge exp(scale - u^2 / 2) He(u) of the orders `order` and `order + 1`.
__device__ __forceinline__ void add_term(
    real u, real charge, real scale, int order, real *value, real *slope) {
    real lower = real(1), upper = -u;
    for (int k = 1; k <= order; ++k) {
        const real next = -u * upper - real(k) * lower;
        lower = upper;
        upper = next;
    }
    const real weight = charge * exp(fmin(scale - real(0.5) * u * u, EXPONENT_MAX));
    *value += weight * lower;
    *slope += weight * upper;
}

__device__ __forceinline__ real warp_max(real value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value = fmax(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

// Overwrite the sums at the targets marked, a warp for one after the other. With `find` their scale
// is found first: minus the logarithm of the largest term (and 0 at all others).
extern "C" __global__ void __launch_bounds__(BLOCK, 4) kde_far_targets(
    const real *query, long long m, const real *points, const real *charge, long long n,
    real inverse_bandwidth, int order, real lo, real hi, int image_count, int parity,
    const int *marked, int find, const real *poison, real *scale, real *sums, real *slopes) {
    const Images images = {lo, hi, image_count, parity};
    const int lane = threadIdx.x % 32;
    const long long first = ((long long)blockIdx.x * BLOCK + threadIdx.x) / 32 * 32;
    const long long mine = first + lane;
    const bool mark = mine < m && (find ? marked[mine] != 0 : scale[mine] != real(0));
    if (find && mine < m && !mark) scale[mine] = real(0);
    const unsigned todo = __ballot_sync(ALL_LANES, mark);
    for (int which = 0; which < 32; ++which) {
        if (!(todo >> which & 1)) continue;
        const real q = query[first + which];
        real s;
        if (find) {
            real best = -U_MAX * U_MAX;
            for (long long j = lane; j < n; j += 32) {
                const real log_weight = log(charge[j]);  // -inf for weight 0
                for (int k = -images.count; k <= images.count; ++k) {
                    real sign;
                    const real p = image_of(points[j], k, images, &sign);
                    const real u = bandwidths(q, p, inverse_bandwidth);
                    best = fmax(best, log_weight - real(0.5) * u * u);
                }
            }
            s = fmax(-warp_max(best), real(1e-300));  // 0 would mean an ordinary target
        } else {
            s = scale[first + which];
        }
        real value = real(0), slope = real(0);
        for (long long j = lane; j < n; j += 32)
            for (int k = -images.count; k <= images.count; ++k) {
                real sign;
                const real p = image_of(points[j], k, images, &sign);
                const real u = bandwidths(q, p, inverse_bandwidth);
                add_term(u, sign * charge[j], s, order, &value, &slope);
            }
        value = group_sum<32>(value);
        slope = group_sum<32>(slope);
        if (lane == 0) {
            scale[first + which] = s;
            sums[first + which] = value + *poison;
            slopes[first + which] = slope + *poison;
        }
    }
}

// Mark the sources that have a scale and a charge.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_mark_far(
    const real *charge, const real *scale, long long n, int *mark) {
    const long long j = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (j < n) mark[j] = scale[j] != real(0) && charge[j] != real(0);
}

// count[j] is how many of the sources 0 ... j are marked: write their list.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_list(
    const int *mark, const int *count, long long n, int *list) {
    const long long j = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (j < n && mark[j]) list[count[j] - 1] = j;
}

// Add what the sources in the list contribute to every target.
extern "C" __global__ void __launch_bounds__(BLOCK) kde_far_sources(
    const real *query, long long m, const real *points, const real *charge, const real *scale,
    const int *list, const int *count, long long n, real inverse_bandwidth, int order, real lo,
    real hi, int image_count, int parity, real *sums, real *slopes) {
    const Images images = {lo, hi, image_count, parity};
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    const int listed = count[n - 1];
    if (i >= m || listed == 0) return;
    const real q = query[i];
    real value = real(0), slope = real(0);
    for (int l = 0; l < listed; ++l) {
        const int j = list[l];
        for (int k = -images.count; k <= images.count; ++k) {
            real sign;
            const real p = image_of(points[j], k, images, &sign);
            const real u = bandwidths(q, p, inverse_bandwidth);
            add_term(u, sign * charge[j], scale[j], order, &value, &slope);
        }
    }
    sums[i] += value;
    slopes[i] += slope;
}
