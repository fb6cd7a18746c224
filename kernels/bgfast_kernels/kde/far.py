"""Gaussian sums at targets so far out that the sums underflow: the terms one by one, in logarithms.

The points are sorted; a far target sees those within its radius ``sqrt(2 (s + MARGIN))``
bandwidths, s being the logarithm of its largest term: the rest is below ``exp(-MARGIN)`` of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import jit, parallel_rows

Float = NDArray[np.float64]
Index = NDArray[np.int64]
Bool = NDArray[np.bool_]

MARGIN = 45.0
_U_MAX = 1e75  # |u| is cut here so that u^2 and the first Hermite polynomials stay finite
_EXPONENT_MAX = 700.0  # a point of weight 0 can be nearer than all weight: exp() must not overflow


def radius(scale: float) -> float:
    """Return how many bandwidths away terms matter to a target, or a source, of this scale."""
    return math.sqrt(2 * (scale + MARGIN))


def find_scales(
    scale: Float, is_far: Bool, query: Float, points: Float, weights: Float, bandwidth: float
) -> None:
    """Set ``scale`` at the far targets to minus the logarithm of the largest term."""
    order, ordered = _sorted(points)
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights[order])
    rows = _in_order(np.flatnonzero(is_far), query)
    parallel_rows(
        _find_scales, len(rows), rows, scale, query, ordered, log_weights, 1 / bandwidth, min_rows=8
    )


def far_targets(
    sums: Float,
    next_sums: Float,
    query: Float,
    points: Float,
    charges: Float,
    bandwidth: float,
    order: int,
    scale: Float,
) -> None:
    """Overwrite the sums of both orders at the targets that have a scale."""
    index, ordered = _sorted(points)
    rows = _in_order(np.flatnonzero(scale), query)
    arguments = (rows, sums, next_sums, query, scale, ordered, charges[index], 1 / bandwidth, order)
    parallel_rows(_far_targets, len(rows), *arguments, min_rows=8)


def add_far_sources(
    sums: Float,
    next_sums: Float,
    query: Float,
    points: Float,
    charges: Float,
    scale: Float,
    bandwidth: float,
    order: int,
) -> None:
    """Add what the sources that have a scale contribute, one source after another."""
    index, ordered = _sorted(query)
    rows = np.flatnonzero((scale != 0) & (charges != 0))
    _add_far_sources(
        rows, sums, next_sums, points, scale, charges, index, ordered, 1 / bandwidth, order
    )


def _sorted(x: Float) -> tuple[Index, Float]:
    index = np.argsort(x, kind="stable")
    return index, x[index]


def _in_order(rows: Index, x: Float) -> Index:
    """Return the rows sorted by ``x``, so that equal targets are neighbours and done once."""
    return rows[np.argsort(x[rows], kind="stable")]


@jit
def _distance(a: float, b: float, inverse_bandwidth: float) -> float:
    u = (a - b) * inverse_bandwidth
    return min(max(u, -_U_MAX), _U_MAX)


@jit
def kernel_pair(u: float, order: int) -> tuple[float, float]:
    """Return K^(order)(u) and K^(order + 1)(u), both divided by K(u)."""
    lower, upper = 1.0, -u
    for k in range(1, order + 1):
        lower, upper = upper, -u * upper - k * lower
    return lower, upper


@jit
def _find_scales(
    start: int,
    stop: int,
    rows: Index,
    scale: Float,
    query: Float,
    points: Float,
    log_weights: Float,
    inverse_bandwidth: float,
) -> None:
    n = len(points)
    for row in range(start, stop):
        q = query[rows[row]]
        if row > start and q == query[rows[row - 1]]:
            scale[rows[row]] = scale[rows[row - 1]]
            continue
        right = np.searchsorted(points, q)
        left = right - 1
        best = -np.inf
        while left >= 0 or right < n:
            below = _distance(q, points[left], inverse_bandwidth) if left >= 0 else np.inf
            above = _distance(points[right], q, inverse_bandwidth) if right < n else np.inf
            nearest = min(below, above)
            if -0.5 * nearest * nearest < best - MARGIN:  # the weights are at most 1
                break
            if below <= above:
                best = max(best, log_weights[left] - 0.5 * below * below)
                left -= 1
            else:
                best = max(best, log_weights[right] - 0.5 * above * above)
                right += 1
        scale[rows[row]] = max(-best, 1e-300)  # 0 would mean an ordinary target


@jit
def _window(x: float, scale: float, ordered: Float, inverse_bandwidth: float) -> tuple[int, int]:
    u = math.sqrt(2.0 * (scale + MARGIN)) * (1.0 + 1e-12)
    length = u / inverse_bandwidth if u < _U_MAX else np.inf
    first = np.searchsorted(ordered, x - length, side="left")
    return int(first), int(np.searchsorted(ordered, x + length, side="right"))


@jit
def _far_targets(
    start: int,
    stop: int,
    rows: Index,
    sums: Float,
    next_sums: Float,
    query: Float,
    scale: Float,
    points: Float,
    charges: Float,
    inverse_bandwidth: float,
    order: int,
) -> None:
    for row in range(start, stop):
        i, before = rows[row], rows[max(start, row - 1)]
        if row > start and query[i] == query[before] and scale[i] == scale[before]:
            sums[i], next_sums[i] = sums[before], next_sums[before]
            continue
        value = slope = 0.0
        first, last = _window(query[i], scale[i], points, inverse_bandwidth)
        for j in range(first, last):
            u = _distance(query[i], points[j], inverse_bandwidth)
            weight = charges[j] * math.exp(min(scale[i] - 0.5 * u * u, _EXPONENT_MAX))
            lower, upper = kernel_pair(u, order)
            value += weight * lower
            slope += weight * upper
        sums[i] = value
        next_sums[i] = slope


@jit
def _add_far_sources(
    rows: Index,
    sums: Float,
    next_sums: Float,
    points: Float,
    scale: Float,
    charges: Float,
    index: Index,
    query: Float,
    inverse_bandwidth: float,
    order: int,
) -> None:
    for j in rows:
        first, last = _window(points[j], scale[j], query, inverse_bandwidth)
        for i in range(first, last):
            u = _distance(query[i], points[j], inverse_bandwidth)
            weight = charges[j] * math.exp(min(scale[j] - 0.5 * u * u, _EXPONENT_MAX))
            lower, upper = kernel_pair(u, order)
            sums[index[i]] += weight * lower
            next_sums[index[i]] += weight * upper
