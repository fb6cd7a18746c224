"""The fast transform where boxes are many: points are sorted into them.

Boxes without points cost next to nothing, and where two boxes hold few points their pairs are
summed one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.kde.box_sums import evaluate, unsort
from bgfast_kernels.kde.moments import CHUNK, assign_slots, box_moments, join
from bgfast_kernels.kde.problem import LINE, Between, Boxes, Sums, lines, piece, sums_in
from bgfast_kernels.kde.sorting import Boxed, Given, assign, count, find_places, place
from bgfast_kernels.kde.tables import TERMS
from bgfast_kernels.stages import Functions, share, together, wait

Float = NDArray[np.float64]
Int = NDArray[np.int32]

_WORTH_A_THREAD = 2**12  # points
_BOX_IN_POINTS = 64  # as many points as take as long to evaluate as a box takes besides them
_PIECES = 16


class _Sorting(NamedTuple):
    """Points on their way into boxes."""

    given: Given
    counts: Int
    boxed: Boxed


class _Room(NamedTuple):
    """What is found on the way: by box, by chunk of sources, by thread, by target in its box."""

    slot: Int
    moments: Float
    magnitude: Float
    heads: Float
    local: Float
    value: Float
    slope: Float


@jit
def sum_in_many_boxes(
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
    same: bool,
    box: Int,
    t: Float,
) -> bool:
    """Sum at the targets what the sources near them contribute; return whether a sum is in doubt.

    The arguments are flat, as numba takes longer to look at a named tuple than at ten arrays.

    Parameters
    ----------
    of_team, threads
        As for :func:`bgfast_kernels.stages.together`.
    query, points, charges
        Targets [m], sources [n], and their charges [n].
    origin, width, n_boxes, box, t
        See :class:`bgfast_kernels.kde.problem.Boxes`.
    half_width, fold, table, error, order
        See :class:`bgfast_kernels.kde.problem.Between`.
    result
        Where the sums of both orders go, [2, m], or those and zeros, [3, m].
    same
        Whether targets and sources are the same.
    """
    boxes = Boxes(n_boxes, origin, width, box, t)
    between = Between(half_width, fold, table, error, order)
    sums = sums_in(result)
    m, n = len(query), len(points)
    if m + n + _BOX_IN_POINTS * n_boxes < 2 * _WORTH_A_THREAD:
        threads = 1
    parts = max(1, min(threads, max(m, n) // (n_boxes + 1)))
    slots, sides, chunks = min(n_boxes, n), 1 if fold == 0 else 2, -(-n // CHUNK)

    # Two pieces of memory, not twenty: of many the allocator returns some to the system, and their
    # pages have to be asked for again in every call.
    per_box, per_thread = sides * slots * TERMS, 4 * TERMS
    size = 4 * m + 3 * n + per_box + chunks * (TERMS + 1) + n_boxes + threads * per_thread
    floats = lines(size + _PIECES * LINE)
    size = 2 * (m + n) + 2 * (parts + 1) * (n_boxes + 2) + n_boxes
    ints = lines(size // 2 + _PIECES * LINE).view(np.int32)

    borne = charges if same else charges[:0]
    first, floats, ints = _sorting(query, borne, boxes, 0, parts, floats, ints)
    second = first
    if not same:
        second, floats, ints = _sorting(points, charges, boxes, m, parts, floats, ints)
    slot, ints = piece(ints, n_boxes)
    moments, floats = piece(floats, per_box)
    magnitude, floats = piece(floats, n_boxes if len(error) else 0)
    heads, floats = piece(floats, chunks * (TERMS + 1))
    local, floats = piece(floats, threads * per_thread)
    value, floats = piece(floats, m)
    slope, floats = piece(floats, m)
    room = _Room(
        slot,
        moments.reshape(sides, slots * TERMS),
        magnitude,
        heads.reshape(chunks, TERMS + 1),
        local.reshape(threads, per_thread),
        value,
        slope,
    )
    together(of_team, threads, _stages, (first, second, same, boxes, between, room, sums))
    in_doubt: bool = sums.in_doubt[0]
    return in_doubt


@jit
def _sorting(
    x: Float, charge: Float, boxes: Boxes, at: int, parts: int, floats: Float, ints: Int
) -> tuple[_Sorting, Float, Int]:
    """Return points with room to sort them, and the memory left; ``at`` is the first of them."""
    n = len(x)
    if len(boxes.box):
        box, t = boxes.box[at : at + n], boxes.t[at : at + n]
    else:
        box, ints = piece(ints, n)
        t, floats = piece(floats, n)
    counts, ints = piece(ints, parts * (boxes.n_boxes + 1))
    start, ints = piece(ints, boxes.n_boxes + 2)
    rank, ints = piece(ints, n if at == 0 else 0)
    sorted_t, floats = piece(floats, n)
    sorted_charge, floats = piece(floats, len(charge))
    boxed = Boxed(start, rank, sorted_t, sorted_charge)
    counts = counts.reshape(parts, boxes.n_boxes + 1)
    return _Sorting(Given(x, charge, box, t), counts, boxed), floats, ints


@jit
def _stages(
    thread: int,
    n_threads: int,
    barrier: int,
    first: _Sorting,
    second: _Sorting,
    same: bool,
    boxes: Boxes,
    between: Between,
    room: _Room,
    sums: Sums,
) -> None:
    parts = min(n_threads, len(first.counts))
    targets, sources = first.boxed, second.boxed
    start, stop = share(len(room.magnitude), LINE, thread, n_threads)
    room.magnitude[start:stop] = 0.0
    if not len(boxes.box):
        assign(first.given, boxes.origin, boxes.width, boxes.n_boxes, thread, n_threads)
        if not same:
            assign(second.given, boxes.origin, boxes.width, boxes.n_boxes, thread, n_threads)
        if parts != n_threads:  # else what a thread counts is what it has assigned
            wait(barrier)
    count(first.given, first.counts[:parts], thread)
    if not same:
        count(second.given, second.counts[:parts], thread)
    wait(barrier)
    if thread == 0:
        find_places(first.counts[:parts], targets.start)
    if not same and thread == n_threads - 1:
        find_places(second.counts[:parts], sources.start)
    wait(barrier)
    if thread == 0:
        assign_slots(targets.start, sources.start, room.slot)
    place(first.given, first.counts[:parts], targets, thread)
    if not same:
        place(second.given, second.counts[:parts], sources, thread)
    wait(barrier)
    start, stop = share(sources.start[boxes.n_boxes], CHUNK, thread, n_threads)
    box_moments(
        start,
        stop,
        sources.start,
        sources.t,
        sources.charge,
        room.slot,
        between.fold,
        room.moments,
        room.magnitude,
        room.heads,
    )
    wait(barrier)
    if thread == 0:
        heads = room.heads[: -(-sources.start[boxes.n_boxes] // CHUNK)]
        join(sources.start, room.slot, between.fold, heads, room.moments, room.magnitude)
    wait(barrier)
    start, stop = share(len(room.value), 1, thread, n_threads)
    sums.zeros[start:stop] = 0.0
    evaluate(
        start,
        stop,
        targets.start,
        targets.t,
        sources.start,
        sources.t,
        sources.charge,
        room.slot,
        room.moments,
        room.magnitude,
        between.half_width,
        between.fold,
        between.table,
        between.error,
        between.order,
        room.local[thread],
        room.value,
        room.slope,
        sums.in_doubt,
    )
    wait(barrier)
    unsort(start, stop, targets.rank, room.value, room.slope, sums.value, sums.slope)
