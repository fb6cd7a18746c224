"""The spline's knots from its raw numbers, and the bin a number falls into; lanes are elements.

Lengths are measured in exponentials of raw numbers: with a total of T over the K bins, the interval
from -bound to bound is T / (1 - K MIN_BIN) long, and its middle is 0. What is small beside the
interval, the place of a number within its bin, is the difference of a number and a sum of
exponentials; it keeps all its digits because both are split into a multiple of 2^-14, in float64
2^-43, sums of which are exact, and a rest.

``numbers`` holds the constants in the order of the indices below (``spline_parameters``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from bgfast_kernels import cpu
from bgfast_kernels.simd import (
    exp,
    fill,
    fma,
    lanes_in,
    larger,
    load,
    log_one_plus,
    reciprocal,
    smaller,
    spread,
    store,
    where_less,
)

BOUND, FLOOR, HALF, HALF_LOW, UNIT, UNIT_LOW = range(6)
SHIFT, EXP_SHIFT, EXP_MINUS_SHIFT, S_CAP, MIN_SLOPE = range(6, 11)

GRID = 768.0
"""Adding and subtracting it rounds to the multiples of 2^-14 or 2^-43: exact in sums below 1024."""

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a kernel; LLVM may fuse a multiplication and an addition, nothing else."""
    return cast(F, cpu.jit(function, fastmath={"contract"}))


def inlined(function: F) -> F:
    """Compile a kernel into its callers: from one function to another, vectors go by memory."""
    return cast(F, cpu.jit(function, fastmath={"contract"}, inline="always"))


@kernel
def exponentials(raw: Any, first: Any, n_bins: Any, block: Any) -> Any:
    """Fill ``block`` with ``exp(raw - max)`` of K numbers and the sums before each, in two parts.

    Returns the total in two parts, a rounded number and what rounding took from it.
    """
    lanes = lanes_in(raw)
    top = load(raw, first * lanes)
    for j in range(1, n_bins):
        top = larger(top, load(raw, (first + j) * lanes))
    high, low = fill(raw, 0.0), fill(raw, 0.0)
    for j in range(n_bins):
        weight = exp(load(raw, (first + j) * lanes) - top)
        store(block, 3 * j * lanes, weight)
        store(block, 3 * j * lanes + lanes, high)
        store(block, 3 * j * lanes + 2 * lanes, low)
        part = (weight + GRID) - GRID
        high, low = high + part, low + (weight - part)
    total = high + low
    return total, low - (total - high)


@kernel
def product(a: Any, b: Any, rest: Any, b_rest: Any) -> Any:
    """Return ``(a + rest) (b + b_rest)`` in two parts."""
    high = a * b
    return high, fma(a, b, -high) + fma(a, b_rest, rest * b)


@kernel
def scale_of(total: Any, rest: Any, numbers: Any) -> Any:
    """Return how many exponentials a unit of length has, in two parts."""
    return product(total, spread(numbers, UNIT), rest, spread(numbers, UNIT_LOW))


@kernel
def middle_of(total: Any, rest: Any, numbers: Any) -> Any:
    """Return how far the interval's middle is from its lower end, in two parts."""
    return product(total, spread(numbers, HALF), rest, spread(numbers, HALF_LOW))


@kernel
def from_lower_end(value: Any, total: Any, rest: Any, numbers: Any) -> Any:
    """Return how far ``value`` is from the interval's lower end, as ``high - low``.

    ``high`` is a multiple that has exact sums.
    """
    scale, scale_low = scale_of(total, rest, numbers)
    place, place_low = product(scale, value, scale_low, 0.0 * scale)
    middle, middle_low = middle_of(total, rest, numbers)
    place_high, middle_high = (place + GRID) - GRID, (middle + GRID) - GRID
    low = (place_high - place) + (middle_high - middle) - (place_low + middle_low)
    return place_high + middle_high, low


@kernel
def find_bin(
    high: Any, low: Any, raw: Any, searched: Any, floor: Any, other: Any, n_bins: Any
) -> Any:
    """Return the bin of the number ``high - low`` among the knots that ``searched`` defines.

    Returns
    -------
    k, offset, weight, other_high, other_low, other_weight, left, right
        The bin's number as a float; how far the number is from its lower knot; the bin's
        exponential; the sum of those before it, in two parts, and its own in ``other``; the raw
        slopes at its two knots. At the interval's ends the latter are 0, which stands for slope 1.
    """
    lanes = lanes_in(raw)
    zero = fill(raw, 0.0)
    k, number, left, other_high, other_low = zero, zero, zero, zero, zero
    weight, other_weight = load(searched, 0), load(other, 0)
    right = load(raw, 2 * n_bins * lanes)
    offset = high - low
    slope = right
    for j in range(1, n_bins):
        at = 3 * j * lanes
        number = number + 1.0
        next_low = fma(number, floor, low) + load(searched, at + 2 * lanes)
        next_offset = (high - load(searched, at + lanes)) - next_low
        next_slope = load(raw, (2 * n_bins + j) * lanes)
        k = where_less(next_offset, zero, k, number)
        offset = where_less(next_offset, zero, offset, next_offset)
        weight = where_less(next_offset, zero, weight, load(searched, at))
        other_high = where_less(next_offset, zero, other_high, load(other, at + lanes))
        other_low = where_less(next_offset, zero, other_low, load(other, at + 2 * lanes))
        other_weight = where_less(next_offset, zero, other_weight, load(other, at))
        left = where_less(next_offset, zero, left, slope)
        right = where_less(next_offset, zero, right, next_slope)
        slope = next_slope
    return k, offset, weight, other_high, other_low, other_weight, left, right


@kernel
def slope_of(raw: Any, numbers: Any) -> Any:
    """Return the slope of a raw slope, and its derivative."""
    zero = 0.0 * spread(numbers, BOUND)
    cap = spread(numbers, S_CAP)
    shifted = raw + numbers[SHIFT]
    # exp(-|raw + shift|); the sum would round.
    power = exp(where_less(shifted, zero, raw, -raw))
    tail = power * where_less(
        shifted, zero, spread(numbers, EXP_SHIFT), spread(numbers, EXP_MINUS_SHIFT)
    )
    slope = larger(zero, smaller(cap, shifted)) + log_one_plus(tail) + numbers[MIN_SLOPE]
    share = reciprocal(1.0 + tail)
    logistic = where_less(shifted, zero, tail * share, share)
    return slope, where_less(cap, shifted, zero, logistic)
