"""Extremes and a counting sort of many numbers, in parts that threads share.

How many parts depends on the numbers alone. In every box the points of a part come after those of
the parts before it, so that the order is that of a stable sort, whoever works on which part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import get_threads, jit, parallel_rows
from bgfast_kernels.simd import (
    WIDTH_BYTES,
    fill,
    lanes_in,
    larger,
    load_between,
    smaller,
    spread,
    store,
)

Float = NDArray[np.float64]
Int = NDArray[np.int32]

MIN_ROWS = 8192
"""Fewest points worth a thread."""
_LANES = WIDTH_BYTES // 8
_PART = 4096  # fewest points worth a part
_MOST_PARTS = 64
_EXTENT_PART = 2**14
_EXTENT_ROWS = 2**15  # fewest points worth a thread that does no more than to look at them


class Boxed(NamedTuple):
    """Points in the order of their boxes.

    ``start[b] : start[b + 1]`` are the points of box b. The last box holds points too far from
    everything to interact. ``rank[i]`` is the place of point i; ``t`` holds the coordinates within
    the boxes, in [-1, 1], and ``charge`` the charges, if any, in the order of the boxes.
    """

    start: Int
    rank: Int
    t: Float
    charge: Float

    @property
    def n_inside(self) -> int:
        """Number of points that lie in a box."""
        return int(self.start[-2])


class Histograms(NamedTuple):
    """How many points of each part, ``size`` points long, lie in each box."""

    size: int
    counts: Int


def extent(x: Float) -> tuple[float, float]:
    """Return the least and the greatest number; NaN twice if one is not finite, 0 for none."""
    if len(x) == 0:
        return 0.0, 0.0
    x = np.ascontiguousarray(x)
    if len(x) < 2 * _EXTENT_ROWS or get_threads() == 1:
        lo, hi = _extent(x)
    else:
        found = np.empty((3, -(-len(x) // _EXTENT_PART) * _LANES))
        arguments = (_extremes, len(x), x, *found)
        parallel_rows(*arguments, block=_EXTENT_PART, min_rows=_EXTENT_ROWS)
        lo, hi = _reduce(*found)
    return lo, hi


@jit
def _extent(x: Float) -> tuple[float, float]:
    found = np.empty((3, -(-len(x) // _EXTENT_PART) * _LANES))
    _extremes(0, len(x), x, found[0], found[1], found[2])
    lo, hi = _reduce(found[0], found[1], found[2])
    return lo, hi


@jit
def _extremes(start: int, stop: int, x: Float, low: Float, high: Float, poison: Float) -> None:
    for first in range(start, stop, _EXTENT_PART):
        least = greatest = one = spread(x, first)
        zero = fill(x, 0.0)
        bad = zero
        last = min(first + _EXTENT_PART, stop)
        for i in range(first, last, lanes_in(x)):
            given = load_between(x, i, 0, last - i, one)
            least = smaller(least, given)
            greatest = larger(greatest, given)
            bad = bad + given * zero  # NaN for NaN and infinity
        to = first // _EXTENT_PART * _LANES
        store(low, to, least)
        store(high, to, greatest)
        store(poison, to, bad)


@jit
def _reduce(low: Float, high: Float, poison: Float) -> tuple[float, float]:
    lo, hi, bad = low[0], high[0], 0.0
    for i in range(len(low)):
        lo = min(lo, low[i])
        hi = max(hi, high[i])
        bad += poison[i]
    return lo + bad, hi + bad


def histograms(n: int, n_boxes: int) -> Histograms:
    """Return empty histograms of ``n`` points, which together are no larger than the points."""
    parts = max(1, min(_MOST_PARTS, n // _PART, n // (4 * n_boxes)))
    size = max(1, -(-n // parts))
    return Histograms(size, np.zeros((max(1, -(-n // size)), n_boxes + 1), np.int32))


@jit
def count(start: int, stop: int, box: Int, size: int, counts: Int) -> None:
    """Count the points of some parts in each box."""
    for first in range(start, stop, size):
        mine = counts[first // size]
        for i in range(first, min(first + size, stop)):
            mine[np.uint32(box[i])] += 1  # unsigned: none counts from the end


def in_order(box: Int, t: Float, charges: Float, found: Histograms) -> Boxed:
    """Sort points by their box; ``found`` holds how many there are and is used up."""
    start = np.empty(found.counts.shape[1] + 1, np.int32)
    _find_places(found.counts, start)
    boxed = Boxed(start, np.empty(len(box), np.int32), np.empty(len(t)), np.empty(len(charges)))
    arguments: tuple[Any, ...] = (box, t, charges, *found, *boxed[1:])
    parallel_rows(_place, len(box), *arguments, block=found.size, min_rows=MIN_ROWS)
    return boxed


@jit
def _find_places(counts: Int, start: Int) -> None:
    """Replace the counts by where the first point of a part goes in each box."""
    place = 0
    for b in range(counts.shape[1]):
        start[b] = place
        for part in range(counts.shape[0]):
            n = counts[part, b]
            counts[part, b] = place
            place += n
    start[counts.shape[1]] = place


@jit
def _place(
    start: int,
    stop: int,
    box: Int,
    t: Float,
    charges: Float,
    size: int,
    places: Int,
    rank: Int,
    sorted_t: Float,
    sorted_charges: Float,
) -> None:
    for first in range(start, stop, size):
        mine = places[first // size]
        for i in range(first, min(first + size, stop)):
            b = np.uint32(box[i])
            place = np.uint32(mine[b])
            mine[b] += 1
            rank[i] = place
            sorted_t[place] = t[i]
            if len(charges):
                sorted_charges[place] = charges[i]
