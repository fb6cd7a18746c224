"""Boxes of equal width for targets and sources, at most O(n) boxes whatever the range."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.kde.extremes import find_extents
from bgfast_kernels.kde.reflection import Walls
from bgfast_kernels.kde.tables import HALF_WIDTH, REACH
from bgfast_kernels.stages import Functions

Float = NDArray[np.float64]
Int = NDArray[np.int32]
Lattice = tuple[float, float, int]
"""Where box 0 of a row of boxes begins, how wide each is, and how many there are.

There are none if they would be too many for the points.
"""


@jit
def survey(
    of_team: Functions,
    threads: int,
    given: Float,
    query: Float,
    points: Float,
    same: bool,
    bandwidth: float,
    extents: Float,
) -> Lattice:
    """Write the extents of the three arrays, 0 for points that are the ``same`` as the query.

    Returns
    -------
    lattice
        Boxes ``2 HALF_WIDTH`` bandwidths wide, where targets and sources interact.
    """
    others = points[:0] if same else points
    find_extents(of_team, threads, (given, query, others), extents)
    (lo_q, hi_q), (lo_p, hi_p) = extents[1], extents[1 if same else 2]
    width = 2 * HALF_WIDTH * bandwidth
    # Only where a source and a target are within reach of each other is there work to do.
    reach = REACH * width
    lo = max(min(lo_q, lo_p), max(lo_q, lo_p) - reach)
    hi = min(max(hi_q, hi_p), min(hi_q, hi_p) + reach)
    n_boxes = max(0.0, hi - lo) / width + 1
    few_enough = n_boxes <= _most_boxes(len(query) + len(points))  # no: not for NaN
    return lo, width, int(n_boxes) if few_enough else 0


def lattice_between(walls: Walls, bandwidth: float, n: int) -> Lattice:
    """Return boxes that fill the space between two walls, for ``n`` targets and sources."""
    length = walls.hi - walls.lo
    n_boxes = length / (2 * HALF_WIDTH * bandwidth)
    if n_boxes + 1 > _most_boxes(n):
        return 0.0, 0.0, 0
    return walls.lo, length / math.ceil(n_boxes), math.ceil(n_boxes)


@jit
def _most_boxes(n: int) -> int:
    return 4 * n + 64


def boxes_without_gaps(x: Float, bandwidth: float) -> tuple[int, Int, Float]:
    """Return boxes as wide as those of :func:`survey`, without gaps nothing bridges.

    Returns
    -------
    n_boxes, box, t
        Their number, the box of each point, and its coordinate in [-1, 1] there.
    """
    order = np.argsort(x, kind="stable")
    box, t = np.empty(len(order), np.int32), np.empty(len(order))
    return _assign_sorted(x, order, 2 * HALF_WIDTH * bandwidth, box, t), box, t


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
