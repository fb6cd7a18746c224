"""Where in which bin a number lies; lanes are elements. ``spline_rows`` has the notation."""

from __future__ import annotations

from typing import Any

from bgfast_kernels.coupling.spline_bins import (
    FLOOR,
    UNIT,
    exponentials,
    find_bin,
    from_lower_end,
    inlined,
    kernel,
    middle_of,
    scale_of,
    slope_of,
)
from bgfast_kernels.simd import fma, larger, reciprocal, root, where_less


@inlined
def segment_of(
    value: Any, raw: Any, searched: Any, other: Any, n_bins: Any, inverse: Any, numbers: Any
) -> Any:
    """Find ``value`` among the widths, or among the heights if ``inverse``.

    ``searched`` and ``other`` are set to the exponentials of the widths and of the heights, or of
    the heights and of the widths.

    Returns
    -------
    place
        k, t, s, d0, d1 and the derivatives of the latter two by their raw slopes.
    of_searched, of_other
        In exponentials: those before the bin, and the bin's own; the size of the bin; their total;
        how many a unit of length has.
    other_end
        The lower knot in the other variable from the middle, in exponentials, in two parts; how
        many of them a unit of length has, in two parts.
    """
    first = n_bins if inverse else 0
    total, rest = exponentials(raw, first, n_bins, searched)
    other_total, other_rest = exponentials(raw, n_bins - first, n_bins, other)
    floor, other_floor = total * numbers[FLOOR], other_total * numbers[FLOOR]
    high, low = from_lower_end(value, total, rest, numbers)
    k, offset, weight, other_high, other_low, other_weight, left, right = find_bin(
        high, low, raw, searched, floor, other, n_bins
    )
    d0, d0_of_raw = slope_of(left, numbers)
    d1, d1_of_raw = slope_of(right, numbers)
    size, other_size = weight + floor, other_weight + other_floor
    share = offset * reciprocal(size)
    if inverse:
        s = size * other_total * reciprocal(other_size * total)
        t = root_of(share, s, d0, d1)
    else:
        s = other_size * total * reciprocal(size * other_total)
        t = share
    before = (high - low) - offset - k * floor
    middle, middle_low = middle_of(other_total, other_rest, numbers)
    end = (other_high - middle, fma(k, other_floor, other_low - middle_low))
    scale = scale_of(other_total, other_rest, numbers)
    of_searched = (before, weight, size, total, total * numbers[UNIT])
    of_other = (other_high + other_low, other_weight, other_size, other_total, scale[0])
    return (k, t, s, d0, d1, d0_of_raw, d1_of_raw), of_searched, of_other, (*end, *scale)


@kernel
def root_of(e: Any, s: Any, d0: Any, d1: Any) -> Any:
    """Return t for f = e.

    With e' = 1 - e and g = d0 e' - d1 e, t = 2 s e / (2 s e + g + S) and 1 - t = 2 s e' / (2 s e' -
    g + S), S^2 = g^2 + 4 s^2 e e'. The one that adds numbers of one sign is taken.
    """
    zero = 0.0 * e
    rest = larger(zero, 1.0 - e)
    e = larger(zero, e)
    g = d0 * rest - d1 * e
    rise, fall = 2.0 * s * e, 2.0 * s * rest
    q = larger(-g, g) + root(g * g + rise * fall)
    return where_less(g, zero, q, rise) * reciprocal(q + where_less(g, zero, fall, rise))
