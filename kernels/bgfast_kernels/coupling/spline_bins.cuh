// The spline's knots from its raw numbers, and the bin a number falls into, as in spline_bins.py and
// spline_segment.py. One thread works on one number; its raw numbers stand `m` apart, those of
// neighbouring threads side by side. Nothing of the size of the number of bins is kept:
// exponentials are computed again where they are needed.
// Comparisons are written so that a NaN is carried on, where fmin and fmax would drop it.

struct Spline {
    real bound, floor, half, half_low, unit, unit_low;
    real shift, exp_shift, exp_minus_shift, s_cap, min_slope;
};

#define SPLINE_ARGUMENTS                                                                           \
    real bound, real floor, real half, real half_low, real unit, real unit_low, real shift,       \
        real exp_shift, real exp_minus_shift, real s_cap, real min_slope
#define SPLINE                                                                                     \
    {                                                                                              \
        bound, floor, half, half_low, unit, unit_low, shift, exp_shift, exp_minus_shift, s_cap,    \
            min_slope                                                                              \
    }

// The nearest multiple of 2^-14, in float64 of 2^-43: exact in sums below 1024.
__device__ __forceinline__ real to_grid(real number) { return (number + real(768)) - real(768); }

// A number in two parts: a rounded one, or one whose sums are exact, and the rest.
struct Parts {
    real high, low;

    __device__ __forceinline__ void add(real number) {
        const real part = to_grid(number);
        high += part;
        low += number - part;
    }
};

__device__ __forceinline__ Parts product(real a, real b, real rest, real b_rest) {
    const real high = a * b;
    return {high, fma(a, b, -high) + (a * b_rest + rest * b)};
}

// K raw widths or heights: the sum of their exponentials.
struct Softmax {
    const real *raw;
    int m;
    real top, total, rest;

    __device__ __forceinline__ real weight(int j) const {
        return exp(raw[(long long)j * m] - top);
    }
    __device__ __forceinline__ Parts scale(const Spline &p) const {
        return product(total, p.unit, rest, p.unit_low);
    }
    __device__ __forceinline__ Parts middle(const Spline &p) const {
        return product(total, p.half, rest, p.half_low);
    }
};

__device__ __forceinline__ Softmax softmax_of(const real *raw, int n_bins, int m) {
    real top = raw[0];
    for (int j = 1; j < n_bins; ++j) {
        const real next = raw[(long long)j * m];
        top = next > top ? next : top;
    }
    Softmax found = {raw, m, top};
    Parts sum = {real(0), real(0)};
    for (int j = 0; j < n_bins; ++j) sum.add(found.weight(j));
    found.total = sum.high + sum.low;
    found.rest = sum.low - (found.total - sum.high);
    return found;
}

// How far a value is from the interval's lower end, as high - low, in exponentials.
__device__ __forceinline__ Parts from_lower_end(
    real value, const Softmax &numbers, const Spline &p) {
    const Parts scale = numbers.scale(p), middle = numbers.middle(p);
    const Parts place = product(scale.high, value, scale.low, real(0));
    const real place_high = to_grid(place.high), middle_high = to_grid(middle.high);
    return {
        place_high + middle_high,
        (place_high - place.high) + (middle_high - middle.high) - (place.low + middle.low)};
}

// How far a value is from its bin's lower knot and the bin's exponential; the sum of those before it
// and its own in the other numbers; the raw slopes at its two knots, 0 at the interval's ends, which
// stands for slope 1.
struct Bin {
    int k;
    real offset, weight;
    Parts other_before;
    real other_weight, left, right;
};

__device__ __forceinline__ Bin find_bin(
    const Parts &at, const Softmax &searched, const Softmax &other, const real *raw_slopes,
    int n_bins, const Spline &p) {
    const real floor = searched.total * p.floor;
    real weight = searched.weight(0), other_weight = other.weight(0), slope = raw_slopes[0];
    Parts sum = {real(0), real(0)}, other_sum = sum;
    Bin bin = {0, at.high - at.low, weight, other_sum, other_weight, real(0), slope};
    for (int j = 1; j < n_bins; ++j) {
        sum.add(weight);
        other_sum.add(other_weight);
        const real offset = (at.high - sum.high) - (fma(real(j), floor, at.low) + sum.low);
        weight = searched.weight(j);
        other_weight = other.weight(j);
        const real next_slope =
            j < n_bins - 1 ? raw_slopes[(long long)j * searched.m] : real(0);
        if (!(offset < real(0)))
            bin = {j, offset, weight, other_sum, other_weight, slope, next_slope};
        slope = next_slope;
    }
    return bin;
}

// The slope of a raw slope, and its derivative.
__device__ __forceinline__ real slope_of(real raw, const Spline &p, real *derivative) {
    const real shifted = raw + p.shift;
    const bool falls = shifted < real(0);
    // exp(-|raw + shift|); the sum would round.
    const real tail = exp(falls ? raw : -raw) * (falls ? p.exp_shift : p.exp_minus_shift);
    const real share = reciprocal(real(1) + tail);
    *derivative = shifted > p.s_cap ? real(0) : falls ? tail * share : share;
    const real line = falls ? real(0) : shifted > p.s_cap ? p.s_cap : shifted;
    return line + log1p(tail) + p.min_slope;
}

// Where in its bin a value lies, t, if the heights are searched and it is at the share e of the
// height; see spline_segment.py.
__device__ __forceinline__ real root_of(real e, real s, real d0, real d1) {
    const real over = real(1) - e, rest = over < real(0) ? real(0) : over;
    e = e < real(0) ? real(0) : e;
    const real g = d0 * rest - d1 * e;
    const real rise = real(2) * s * e, fall = real(2) * s * rest;
    real unused;
    const real q = fabs(g) + square_root(g * g + rise * fall, &unused);
    return g < real(0) ? q * reciprocal(q + fall) : rise * reciprocal(q + rise);
}

// Widths or heights in exponentials: those before the bin and its own, the bin's size, their total,
// and how many a unit of length has.
struct Side {
    real before, weight, size, total, scale;
};

// A bin in the terms of spline_rows.py.
struct Segment {
    int k;
    real t, s, d0, d1, d0_of_raw, d1_of_raw;
    Side searched, other;
    Parts end, scale;  // the lower knot of `other` from the middle; its scale
};

__device__ __forceinline__ Segment segment_of(
    real value, const Softmax &searched, const Softmax &other, bool by_height,
    const real *raw_slopes, int n_bins, const Spline &p) {
    const Parts from_end = from_lower_end(value, searched, p);
    const Bin bin = find_bin(from_end, searched, other, raw_slopes, n_bins, p);
    const real floor = searched.total * p.floor, other_floor = other.total * p.floor;
    const real size = bin.weight + floor, other_size = bin.other_weight + other_floor;
    const Parts middle = other.middle(p);
    Segment at;
    at.k = bin.k;
    at.d0 = slope_of(bin.left, p, &at.d0_of_raw);
    at.d1 = slope_of(bin.right, p, &at.d1_of_raw);
    const real across = other_size * searched.total, along = size * other.total;
    at.s = by_height ? along * reciprocal(across) : across * reciprocal(along);
    at.t = bin.offset * reciprocal(size);
    if (by_height) at.t = root_of(at.t, at.s, at.d0, at.d1);
    at.end = {
        bin.other_before.high - middle.high,
        fma(real(bin.k), other_floor, bin.other_before.low - middle.low)};
    at.scale = other.scale(p);
    const real before = (from_end.high - from_end.low) - bin.offset - real(bin.k) * floor;
    at.searched = {before, bin.weight, size, searched.total, searched.total * p.unit};
    at.other = {
        bin.other_before.high + bin.other_before.low, bin.other_weight, other_size, other.total,
        at.scale.high};
    return at;
}
