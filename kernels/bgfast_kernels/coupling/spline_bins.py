"""The spline's knots from its raw numbers, and the bin a number falls into; lanes are elements.

``numbers`` holds the constants in the order of the indices below (``spline_parameters``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from bgfast_kernels import cpu
from bgfast_kernels.simd import (
    exponential,
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

BOUND, SMALLEST, REST, SHIFT, S_CAP, MIN_SLOPE = range(6)

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a kernel; LLVM may fuse a multiplication and an addition, nothing else."""
    return cast(F, cpu.jit(function, fastmath={"contract"}))


@kernel
def exponentials(raw: Any, first: Any, n_bins: Any, weights: Any) -> Any:
    """Set ``weights`` to ``exp(raw - max)`` of K raw numbers and return their sum."""
    lanes = lanes_in(raw)
    top = load(raw, first * lanes)
    for j in range(1, n_bins):
        top = larger(top, load(raw, (first + j) * lanes))
    total = fill(raw, 0.0)
    for j in range(n_bins):
        weight = exponential(load(raw, (first + j) * lanes) - top)
        store(weights, j * lanes, weight)
        total = total + weight
    return total


@kernel
def find_bin(
    value: Any, raw: Any, searched: Any, scale: Any, other: Any, n_bins: Any, numbers: Any
) -> Any:
    """Return the bin of ``value`` among the knots that ``searched`` defines.

    Returns
    -------
    k, before, weight, other_before, other_weight, left, right
        The bin's number as a float; its exponential and the sum of those before it, in
        ``searched`` and in ``other``; the raw slopes at its two knots. At the interval's ends the
        latter are 0, which stands for slope 1.
    """
    lanes = lanes_in(raw)
    k = fill(raw, 0.0)
    before, other_before, left = k, k, k
    weight, other_weight = load(searched, 0), load(other, 0)
    right = load(raw, 2 * n_bins * lanes)
    sum_searched, sum_other, slope = weight, other_weight, right
    for j in range(1, n_bins):
        knot = fma(scale, sum_searched, spread(numbers, SMALLEST) * j - numbers[BOUND])
        next_weight, next_other = load(searched, j * lanes), load(other, j * lanes)
        next_slope = fill(raw, 0.0)
        if j < n_bins - 1:
            next_slope = load(raw, (2 * n_bins + j) * lanes)
        k = where_less(value, knot, k, fill(raw, j))
        before = where_less(value, knot, before, sum_searched)
        weight = where_less(value, knot, weight, next_weight)
        other_before = where_less(value, knot, other_before, sum_other)
        other_weight = where_less(value, knot, other_weight, next_other)
        left = where_less(value, knot, left, slope)
        right = where_less(value, knot, right, next_slope)
        sum_searched = sum_searched + next_weight
        sum_other = sum_other + next_other
        slope = next_slope
    return k, before, weight, other_before, other_weight, left, right


@kernel
def knot_of(k: Any, before: Any, weight: Any, scale: Any, numbers: Any) -> Any:
    """Return a bin's lower knot and its width."""
    smallest = spread(numbers, SMALLEST)
    return fma(scale, before, smallest * k - numbers[BOUND]), fma(scale, weight, smallest)


@kernel
def slope_of(raw: Any, numbers: Any) -> Any:
    """Return the slope of a raw slope, and its derivative."""
    zero = 0.0 * spread(numbers, BOUND)
    cap = spread(numbers, S_CAP)
    shifted = raw + numbers[SHIFT]
    capped = smaller(cap, shifted)
    tail = exponential(-larger(capped, -capped))
    slope = larger(zero, capped) + log_one_plus(tail) + numbers[MIN_SLOPE]
    share = reciprocal(1.0 + tail)
    logistic = where_less(capped, zero, tail * share, share)
    return slope, where_less(cap, shifted, zero, logistic)
