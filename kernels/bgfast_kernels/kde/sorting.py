"""A counting sort of points by their box, in parts, one for each thread.

In every box the points of a part come after those of the parts before it: that is the order of a
stable sort, however many parts there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.stages import share

Float = NDArray[np.float64]
Int = NDArray[np.int32]


class Given(NamedTuple):
    """Points before they are sorted, and room for the box and the coordinate within it of each.

    ``charge`` is empty for points that bear none. In box ``n_boxes`` are points too far from
    everything to interact.
    """

    x: Float
    charge: Float
    box: Int
    t: Float


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


@jit
def assign(
    given: Given, origin: float, width: float, n_boxes: int, thread: int, n_threads: int
) -> None:
    """Find box and coordinate of the points of one thread."""
    start, stop = share(len(given.x), 1, thread, n_threads)
    x, box, t = given.x[start:stop], given.box[start:stop], given.t[start:stop]
    locate(x, origin, 1.0 / width, n_boxes, box, t)


@jit
def locate(x: Float, origin: float, inverse_width: float, n_boxes: int, box: Int, t: Float) -> None:
    """Find box and coordinate of points in a lattice; without branches, so it becomes vectors."""
    last, top, edge = n_boxes - 1.0, n_boxes + 1.0, n_boxes + 1e-6
    for i in range(len(x)):
        y = (x[i] - origin) * inverse_width
        y = y if y > -1.0 else -1.0
        y = y if y < top else top
        floor = np.floor(y)
        # The end itself, and what rounding puts behind it, belongs to the last box.
        floor = last if (y < edge) & (floor > last) else floor
        t[i] = 2.0 * (y - floor) - 1.0
        floor = last + 1.0 if (floor < 0.0) | (floor > last) else floor
        box[i] = np.int32(floor)


@jit
def count(given: Given, counts: Int, thread: int) -> None:
    """Count the points of one part, of as many as ``counts`` has rows, in each box."""
    if thread < len(counts):
        mine = counts[thread]
        mine[:] = 0
        start, stop = share(len(given.box), 1, thread, len(counts))
        for i in range(start, stop):
            mine[np.uint32(given.box[i])] += 1  # unsigned: none counts from the end


@jit
def find_places(counts: Int, start: Int) -> None:
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
def place(given: Given, places: Int, boxed: Boxed, thread: int) -> None:
    """Put the points of one part where they belong; ``places`` is used up."""
    if thread >= len(places):
        return
    mine = places[thread]
    start, stop = share(len(given.box), 1, thread, len(places))
    for i in range(start, stop):
        b = np.uint32(given.box[i])
        to = np.uint32(mine[b])
        mine[b] += 1
        if len(boxed.rank):
            boxed.rank[i] = to
        boxed.t[to] = given.t[i]
        if len(given.charge):
            boxed.charge[to] = given.charge[i]
