// The spline's knots from its raw numbers, and the bin a number falls into. One thread works on one
// number; its raw numbers stand `m` apart, those of neighbouring threads side by side. Nothing of
// the size of the number of bins is kept: exponentials are computed again where they are needed.
// Comparisons are written so that a NaN is carried on, where fmin and fmax would drop it.

struct Spline {
    real bound, smallest, rest, shift, s_cap, min_slope;
};

#define SPLINE_ARGUMENTS                                                                           \
    real bound, real smallest, real rest, real shift, real s_cap, real min_slope
#define SPLINE                                                                                     \
    { bound, smallest, rest, shift, s_cap, min_slope }

// K raw widths or heights: the largest, and the sum of the exponentials relative to it.
struct Softmax {
    const real *raw;
    int m;
    real top, total;

    __device__ __forceinline__ real weight(int j) const { return exp(raw[(long long)j * m] - top); }
};

__device__ __forceinline__ Softmax softmax_of(const real *raw, int n_bins, int m) {
    Softmax found = {raw, m, raw[0], real(0)};
    for (int j = 1; j < n_bins; ++j) {
        const real next = raw[(long long)j * m];
        found.top = next > found.top ? next : found.top;
    }
    for (int j = 0; j < n_bins; ++j) found.total += found.weight(j);
    return found;
}

// A bin's exponential and the sum of those before it, in the numbers searched and in the others; the
// raw slopes at its two knots, 0 at the interval's ends, which stands for slope 1.
struct Bin {
    int k;
    real before, weight, other_before, other_weight, left, right;
};

__device__ __forceinline__ Bin find_bin(
    real value, const Softmax &searched, const Softmax &other, real scale, const real *raw_slopes,
    int n_bins, const Spline &p) {
    Bin bin = {0, real(0), searched.weight(0), real(0), other.weight(0), real(0), raw_slopes[0]};
    real sum = bin.weight, sum_other = bin.other_weight, slope = bin.right;
    for (int j = 1; j < n_bins; ++j) {
        const real knot = scale * sum + (p.smallest * real(j) - p.bound);
        const real next = searched.weight(j), next_other = other.weight(j);
        const real next_slope =
            j < n_bins - 1 ? raw_slopes[(long long)j * searched.m] : real(0);
        if (!(value < knot)) bin = {j, sum, next, sum_other, next_other, slope, next_slope};
        sum += next;
        sum_other += next_other;
        slope = next_slope;
    }
    return bin;
}

// The slope of a raw slope, and its derivative.
__device__ __forceinline__ real slope_of(real raw, const Spline &p, real *derivative) {
    const real shifted = raw + p.shift;
    const real capped = shifted > p.s_cap ? p.s_cap : shifted;
    const real tail = exp(-fabs(capped)), share = reciprocal(real(1) + tail);
    *derivative = shifted > p.s_cap ? real(0) : capped < real(0) ? tail * share : share;
    return (capped > real(0) ? capped : real(0)) + log1p(tail) + p.min_slope;
}

// A bin in the terms of spline_rows.py.
struct Segment {
    int k;
    real x_k, w, y_k, h, d0, d1, d0_of_raw, d1_of_raw, s, bend;
    real w_before, w_weight, h_before, h_weight;
};

// The bin of a value among the knots of `searched`, the heights if `by_height`, else the widths.
__device__ __forceinline__ Segment segment_of(
    real value, const Softmax &searched, const Softmax &other, bool by_height,
    const real *raw_slopes, int n_bins, const Spline &p) {
    const real scale = p.rest * reciprocal(searched.total);
    const real other_scale = p.rest * reciprocal(other.total);
    const Bin bin = find_bin(value, searched, other, scale, raw_slopes, n_bins, p);
    const real even = p.smallest * real(bin.k) - p.bound;
    const real from = scale * bin.before + even, size = scale * bin.weight + p.smallest;
    const real other_from = other_scale * bin.other_before + even;
    const real other_size = other_scale * bin.other_weight + p.smallest;
    Segment at;
    at.k = bin.k;
    at.x_k = by_height ? other_from : from;
    at.y_k = by_height ? from : other_from;
    at.w = by_height ? other_size : size;
    at.h = by_height ? size : other_size;
    at.w_before = by_height ? bin.other_before : bin.before;
    at.h_before = by_height ? bin.before : bin.other_before;
    at.w_weight = by_height ? bin.other_weight : bin.weight;
    at.h_weight = by_height ? bin.weight : bin.other_weight;
    at.d0 = slope_of(bin.left, p, &at.d0_of_raw);
    at.d1 = slope_of(bin.right, p, &at.d1_of_raw);
    at.s = at.h * reciprocal(at.w);
    at.bend = at.d0 + at.d1 - real(2) * at.s;
    return at;
}
