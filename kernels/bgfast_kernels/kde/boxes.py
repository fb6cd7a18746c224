"""Sorting points into boxes of equal width, at most O(n) boxes whatever the range."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import jit, parallel_rows
from bgfast_kernels.kde.reflection import Walls
from bgfast_kernels.kde.sorting import MIN_ROWS, Boxed, count, extent, histograms, in_order
from bgfast_kernels.kde.tables import HALF_WIDTH, REACH

Float = NDArray[np.float64]
Int = NDArray[np.int32]

_NO_CHARGES: Float = np.empty(0)


def sort_into_boxes(
    query: Float, points: Float, charges: Float, bandwidth: float
) -> tuple[Boxed, Boxed]:
    """Sort targets and sources into one set of boxes ``2 HALF_WIDTH`` bandwidths wide.

    Raises
    ------
    ValueError
        If a target or a source is not finite.
    """
    same = points is query
    width = 2 * HALF_WIDTH * bandwidth
    lo_q, hi_q = _checked_range(query, "points" if same else "query")
    lo_p, hi_p = (lo_q, hi_q) if same else _checked_range(points, "points")
    # Only where a source and a target are within reach of each other is there work to do.
    reach = REACH * width
    lo = max(min(lo_q, lo_p), max(lo_q, lo_p) - reach)
    hi = min(max(hi_q, hi_p), min(hi_q, hi_p) + reach)
    n_boxes = max(0.0, hi - lo) / width + 1
    if n_boxes <= _most_boxes(len(query) + len(points)):
        pairs = _with_charges(query, points, charges)
        boxed = [_in_lattice(x, c, lo, width, int(n_boxes)) for x, c in pairs]
    else:
        boxed = _boxes_without_gaps(query, points, charges, width)
    return boxed[0], boxed[-1]


def has_lattice(walls: Walls, bandwidth: float, n: int) -> bool:
    """Return whether boxes from wall to wall are few enough for ``n`` points."""
    return (walls.hi - walls.lo) / (2 * HALF_WIDTH * bandwidth) + 1 <= _most_boxes(n)


def sort_between_walls(
    query: Float, points: Float, charges: Float, bandwidth: float, walls: Walls
) -> tuple[Boxed, Boxed, float]:
    """Sort targets and sources into boxes that fill the space between two walls.

    Returns
    -------
    targets, sources, half_width
        The third is half the width of a box in bandwidths.

    Raises
    ------
    ValueError
        If a target or a source is not finite.
    """
    length = walls.hi - walls.lo
    n_boxes = math.ceil(length / (2 * HALF_WIDTH * bandwidth))
    both = _unique(query, points)
    for x, name in zip(both, ("points",) if len(both) == 1 else ("query", "points"), strict=True):
        _checked_range(x, name)
    width = length / n_boxes
    pairs = _with_charges(query, points, charges)
    boxed = [_in_lattice(x, c, walls.lo, width, n_boxes) for x, c in pairs]
    return boxed[0], boxed[-1], 0.5 * width / bandwidth


def _most_boxes(n: int) -> int:
    return 4 * n + 64


def _unique(query: Float, points: Float) -> list[Float]:
    return [query] if points is query else [query, points]


def _with_charges(query: Float, points: Float, charges: Float) -> list[tuple[Float, Float]]:
    return [(query, charges)] if points is query else [(query, _NO_CHARGES), (points, charges)]


def _checked_range(x: Float, name: str) -> tuple[float, float]:
    lo, hi = extent(x)
    if math.isnan(lo):
        i = int(np.flatnonzero(~np.isfinite(x))[0])
        raise ValueError(f"{name} must be finite, got {x[i]} at index {i}; leave such points out")
    return lo, hi


def _in_lattice(x: Float, charges: Float, origin: float, width: float, n_boxes: int) -> Boxed:
    box, t, found = np.empty(len(x), np.int32), np.empty(len(x)), histograms(len(x), n_boxes)
    lattice = (origin, 1 / width, n_boxes)
    parallel_rows(_assign, len(x), x, *lattice, box, t, *found, block=found.size, min_rows=MIN_ROWS)
    return in_order(box, t, charges, found)


@jit
def _assign(
    start: int,
    stop: int,
    x: Float,
    origin: float,
    inverse_width: float,
    n_boxes: int,
    box: Int,
    t: Float,
    size: int,
    counts: Int,
) -> None:
    # From 0, and without branches: so it becomes vector instructions.
    given, to_box, to_t = x[start:stop], box[start:stop], t[start:stop]
    last, top, edge = n_boxes - 1.0, n_boxes + 1.0, n_boxes + 1e-6
    for i in range(len(given)):
        y = (given[i] - origin) * inverse_width
        y = y if y > -1.0 else -1.0
        y = y if y < top else top
        floor = np.floor(y)
        # The end itself, and what rounding puts behind it, belongs to the last box.
        floor = last if (y < edge) & (floor > last) else floor
        to_t[i] = 2.0 * (y - floor) - 1.0
        floor = last + 1.0 if (floor < 0.0) | (floor > last) else floor
        to_box[i] = np.int32(floor)
    count(start, stop, box, size, counts)


def _boxes_without_gaps(query: Float, points: Float, charges: Float, width: float) -> list[Boxed]:
    """Return points in boxes numbered without the gaps that no interaction bridges."""
    everything = np.concatenate(_unique(query, points))
    order = np.argsort(everything, kind="stable")
    box, t = np.empty(len(order), np.int32), np.empty(len(order))
    n_boxes = _assign_sorted(everything, order, width, box, t)
    m = len(query)
    first = _counting_sort(box[:m], t[:m], charges if points is query else _NO_CHARGES, n_boxes)
    return [first, first if points is query else _counting_sort(box[m:], t[m:], charges, n_boxes)]


@jit
def _assign_sorted(x: Float, order: NDArray[np.int64], width: float, box: Int, t: Float) -> int:
    first = previous = x[order[0]]
    base = last = 0
    for i in order:
        if x[i] - previous > REACH * width:
            first = x[i]
            base = last + REACH + 1
        y = (x[i] - first) / width
        floor = np.floor(y)
        last = base + int(floor)
        box[i] = last
        t[i] = 2.0 * (y - floor) - 1.0
        previous = x[i]
    return last + 1


def _counting_sort(box: Int, t: Float, charges: Float, n_boxes: int) -> Boxed:
    found = histograms(len(box), n_boxes)
    parallel_rows(count, len(box), box, *found, block=found.size, min_rows=MIN_ROWS)
    return in_order(box, t, charges, found)
