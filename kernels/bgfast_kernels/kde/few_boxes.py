"""The fast transform where boxes are few: nothing is sorted.

A source adds to the moments of its box, and a target reads the polynomials of its box, wherever in
the array it is; one point's sixteen powers are two vectors. So points are read and sums are written
in their order, and threads share nothing else than what belongs to boxes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.kde.box_sums import collect_all, error_bound
from bgfast_kernels.kde.moments import mirror
from bgfast_kernels.kde.problem import LINE, Between, Boxes, Sums, lines, piece, sums_in
from bgfast_kernels.kde.sorting import locate
from bgfast_kernels.kde.tables import TERMS
from bgfast_kernels.simd import fill, fma, lane_sums, load, spread, store, store_between, where_bit
from bgfast_kernels.stages import Functions, share, together, wait

Float = NDArray[np.float64]
Int = NDArray[np.int32]
Bool = NDArray[np.bool_]

LEAST_POINTS_OF_A_BOX = 16
"""So many sources, on average, are worth a box that may be empty: else sorting is faster."""
_MOST_PARTS = 64
_WORTH_A_THREAD = 2**12
_LANES = 8  # of a vector
_BATCH = 64  # points whose boxes are found in one go
_BOX_IN_POINTS = 64  # as many points as take as long as a box takes besides them
_LEAST_OF_A_PART = 16  # points for each box


class _Room(NamedTuple):
    """What is found on the way: by part of the sources, by box, by thread."""

    parts: Float
    moments: Float
    magnitude: Float
    empty: Bool
    local: Float
    bound: Float
    box: Int
    powers: Float


@jit
def sum_in_few_boxes(
    of_team: Functions,
    threads: int,
    query: Float,
    points: Float,
    charges: Float,
    origin: float,
    width: float,
    n_boxes: int,
    half_width: float,
    fold: int,
    table: Float,
    error: Float,
    order: int,
    result: Float,
) -> bool:
    """Do what :func:`bgfast_kernels.kde.many_boxes.sum_in_many_boxes` does, the same arguments."""
    boxes = Boxes(n_boxes, origin, width, np.empty(0, np.int32), np.empty(0))
    between = Between(half_width, fold, table, error, order)
    sums = sums_in(result)
    m, n = len(query), len(points)
    if m + n + _BOX_IN_POINTS * n_boxes < 2 * _WORTH_A_THREAD:
        threads = 1
    # By the points alone, so that the order of the sums does not depend on the threads.
    parts = 1
    while parts < _MOST_PARTS and 2 * parts * _LEAST_OF_A_PART * (n_boxes + 1) <= n:
        parts *= 2
    sides = 1 if fold == 0 else 2
    of_part, of_thread = (n_boxes + 1) * TERMS, 3 * _BATCH
    size = (parts + 2) * of_part + sides * n_boxes * TERMS + 2 * n_boxes + 1
    floats = lines(size + threads * of_thread + 8 * LINE)
    by_part, floats = piece(floats, parts * of_part)
    moments, floats = piece(floats, sides * n_boxes * TERMS)
    magnitude, floats = piece(floats, n_boxes)
    local, floats = piece(floats, 2 * of_part)
    bound, floats = piece(floats, n_boxes + 1)
    powers, floats = piece(floats, threads * of_thread)
    room = _Room(
        by_part.reshape(parts, of_part),
        moments.reshape(sides, n_boxes * TERMS),
        magnitude,
        np.empty(n_boxes, np.bool_),
        local,
        bound,
        lines(threads * _BATCH).view(np.int32).reshape(threads, 2 * _BATCH),
        powers.reshape(threads, of_thread),
    )
    arguments = (query, points, charges, boxes, between, room, sums)
    together(of_team, threads, _stages, arguments)
    in_doubt: bool = sums.in_doubt[0]
    return in_doubt


@jit
def _stages(
    thread: int,
    n_threads: int,
    barrier: int,
    query: Float,
    points: Float,
    charges: Float,
    boxes: Boxes,
    between: Between,
    room: _Room,
    sums: Sums,
) -> None:
    n_boxes = boxes.n_boxes
    n_parts = len(room.parts)
    batch = (room.box[thread], room.powers[thread])
    start, stop = share(n_parts, 1, thread, n_threads)
    for part in range(start, stop):
        begin, end = share(len(points), 1, part, n_parts)
        _add_moments(points[begin:end], charges[begin:end], boxes, *batch, room.parts[part])
    _add_up(room.parts, thread, n_threads, 0, TERMS * n_boxes)
    wait(barrier)
    start, stop = share(n_boxes, 1, thread, n_threads)
    _add_up(room.parts, -1, n_threads, TERMS * start, TERMS * stop)
    room.moments[0, TERMS * start : TERMS * stop] = room.parts[0, TERMS * start : TERMS * stop]
    for b in range(start, stop):
        at = TERMS * b
        room.magnitude[b] = room.moments[0, at]  # it bounds errors where no charge is negative
        room.empty[b] = _all_zero(room.moments[0], at, at + TERMS)
        if between.fold != 0:
            mirror(room.moments, b, between.fold)
    wait(barrier)
    for b in range(start, stop):
        local = room.local[2 * b * TERMS : 2 * (b + 1) * TERMS]
        collect_all(b, room.empty, room.moments, between.fold, between.table, local)
        room.bound[b] = np.inf
        if len(between.error):
            room.bound[b] = error_bound(b, n_boxes, between.fold, between.error, room.magnitude)
    if thread == 0:
        room.local[2 * n_boxes * TERMS :] = 0.0
        room.bound[n_boxes] = np.inf
    wait(barrier)
    start, stop = share(len(query), _LANES, thread, n_threads)
    value, slope = sums.value[start:stop], sums.slope[start:stop]
    sums.zeros[start:stop] = 0.0
    bound = room.bound if len(between.error) else room.bound[:0]
    _evaluate(query[start:stop], boxes, *batch, room.local, bound, value, slope, sums.in_doubt)


@jit
def _all_zero(x: Float, start: int, stop: int) -> bool:
    zero = True
    for i in range(start, stop):
        zero &= x[i] == 0.0
    return zero


@jit
def _locate(x: Float, boxes: Boxes, box: Int, powers: Float) -> None:
    """Find boxes and t, t^2 and t^4 of a batch of points."""
    n = len(x)
    t, square, fourth = powers[:n], powers[_BATCH : _BATCH + n], powers[2 * _BATCH : 2 * _BATCH + n]
    locate(x, boxes.origin, 1.0 / boxes.width, boxes.n_boxes, box[:n], t)
    for i in range(n):
        square[i] = t[i] * t[i]
        fourth[i] = square[i] * square[i]


@jit(inline="always")  # type: ignore[untyped-decorator]
def _powers(powers: Float, i: int, one: Any) -> tuple[Any, Any]:
    """Return 1, t, ..., t^7 and t^8, ..., t^15 of a point of the batch as two vectors."""
    fourth = spread(powers, 2 * _BATCH + i)
    low = where_bit(1, spread(powers, i), one) * where_bit(2, spread(powers, _BATCH + i), one)
    low = low * where_bit(4, fourth, one)
    return low, low * (fourth * fourth)


@jit
def _add_moments(
    x: Float, charge: Float, boxes: Boxes, box: Int, powers: Float, moments: Float
) -> None:
    one = fill(x, 1.0)
    moments[:] = 0.0
    for first in range(0, len(x), _BATCH):
        n = min(_BATCH, len(x) - first)
        _locate(x[first : first + n], boxes, box, powers)
        for i in range(n):
            low, high = _powers(powers, i, one)
            c = spread(charge, first + i)
            at = TERMS * np.intp(box[i])
            store(moments, at, fma(c, low, load(moments, at)))
            store(moments, at + _LANES, fma(c, high, load(moments, at + _LANES)))


@jit
def _add_up(parts: Float, thread: int, n_threads: int, first: int, end: int) -> None:
    """Add up numbers ``first <= k < end`` of all parts, in pairs of neighbours: the first keeps.

    Of ``thread`` only what a thread has in its cache is added up, its own parts; of thread -1 what
    all threads have left, whose parts end amid a pair.
    """
    n_parts, width = len(parts), 1
    while width < n_parts:
        for left in range(0, n_parts, 2 * width):
            if _owner(left, left + 2 * width, n_parts, n_threads) == thread:
                for k in range(first, end):
                    parts[left, k] += parts[left + width, k]
        width *= 2


@jit
def _owner(start: int, stop: int, n_parts: int, n_threads: int) -> int:
    """Return the thread that the parts ``start <= i < stop`` belong to, -1 if to several."""
    for thread in range(n_threads):
        begin, end = share(n_parts, 1, thread, n_threads)
        if begin <= start and stop <= end:
            return thread
    return -1


@jit
def _evaluate(
    x: Float,
    boxes: Boxes,
    box: Int,
    powers: Float,
    local: Float,
    bound: Float,
    value: Float,
    slope: Float,
    in_doubt: Bool,
) -> None:
    one = fill(x, 1.0)
    for first in range(0, len(x), _BATCH):
        n = min(_BATCH, len(x) - first)
        _locate(x[first : first + n], boxes, box, powers)
        box[n:] = boxes.n_boxes  # of no point: zeros are read there
        for i in range(0, n, _LANES):
            v0, w0 = _at(local, box, powers, i, one)
            v1, w1 = _at(local, box, powers, i + 1, one)
            v2, w2 = _at(local, box, powers, i + 2, one)
            v3, w3 = _at(local, box, powers, i + 3, one)
            v4, w4 = _at(local, box, powers, i + 4, one)
            v5, w5 = _at(local, box, powers, i + 5, one)
            v6, w6 = _at(local, box, powers, i + 6, one)
            v7, w7 = _at(local, box, powers, i + 7, one)
            store_between(value, first + i, 0, n - i, lane_sums((v0, v1, v2, v3, v4, v5, v6, v7)))
            store_between(slope, first + i, 0, n - i, lane_sums((w0, w1, w2, w3, w4, w5, w6, w7)))
        if len(bound):
            for i in range(n):
                if not value[first + i] > bound[box[i]]:
                    value[first + i] = np.nan
                    in_doubt[0] = True


@jit(inline="always")  # type: ignore[untyped-decorator]
def _at(local: Float, box: Int, powers: Float, i: int, one: Any) -> tuple[Any, Any]:
    """Return vectors whose lanes add up to the two polynomials at a target of the batch."""
    low, high = _powers(powers, i, one)
    at = 2 * TERMS * np.intp(box[i])
    value = fma(low, load(local, at), high * load(local, at + _LANES))
    slope = fma(low, load(local, at + 2 * _LANES), high * load(local, at + 3 * _LANES))
    return value, slope
