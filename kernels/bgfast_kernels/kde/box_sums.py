"""The kernels of the fast transform: moments of source boxes, sums at the targets of a box."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import simd
from bgfast_kernels.cpu import jit
from bgfast_kernels.kde import far
from bgfast_kernels.kde.tables import TERMS

Float = NDArray[np.float64]
Int = NDArray[np.int32]
Bool = NDArray[np.bool_]

CHUNK = 1024
"""How many sources are summed in one go."""

_DIRECT_PAIRS = 24  # up to here summing the pairs of two boxes beats translating moments
_OUTPUTS = 2 * TERMS


@jit
def unsort(
    start: int,
    stop: int,
    rank: Int,
    value: Float,
    slope: Float,
    sums: Float,
    next_sums: Float,
) -> None:
    """Put what :func:`evaluate` found in the order of the targets.

    Threads that wrote it there themselves would wait for each other's cache lines.
    """
    for i in range(start, stop):
        sums[i] = value[rank[i]]
        next_sums[i] = slope[rank[i]]


@jit
def assign_slots(target_start: Int, source_start: Int, slot: Int) -> int:
    """Write the row of each box in the moments, -1 for boxes without; return how many rows."""
    most_targets = 0
    for b in range(len(slot)):
        most_targets = max(most_targets, target_start[b + 1] - target_start[b])
    n_slots = 0
    for b in range(len(slot)):
        slot[b] = -1
        if (source_start[b + 1] - source_start[b]) * most_targets > _DIRECT_PAIRS:
            slot[b] = n_slots
            n_slots += 1
    return n_slots


@jit
def _box_at(box_start: Int, place: int) -> int:
    """Return the box that holds the point in a place."""
    return int(np.searchsorted(box_start, place, side="right")) - 1


@jit
def box_moments(
    start: int,
    stop: int,
    box_start: Int,
    t: Float,
    charge: Float,
    slot: Int,
    fold: int,
    moments: Float,
    magnitude: Float,
    heads: Float,
) -> None:
    """Write the moments ``sum_j c_j t_j^k`` of boxes, and of their mirror images.

    Also the sum of the absolute charges, unless ``magnitude`` is empty. Sources in the places
    ``start <= i < stop`` are summed by chunks, wherever boxes begin: what a chunk has of a box that
    begins before it goes to ``heads``, for :func:`join` to add.
    """
    for chunk in range(start, stop, CHUNK):
        end = min(chunk + CHUNK, stop)
        head = heads[chunk // CHUNK]
        b, i0 = _box_at(box_start, chunk), chunk
        while i0 < end:
            while box_start[b + 1] <= i0:
                b += 1
            i1 = min(box_start[b + 1], end)
            begins = box_start[b] == i0
            if slot[b] >= 0:
                row = _row(moments, 0, slot[b]) if begins else head
                _sum_moments(t[i0:i1], charge[i0:i1], row)
                if begins and fold != 0:
                    _mirror(moments, slot[b], fold)
            if len(magnitude):
                total = 0.0
                for i in range(i0, i1):
                    total += abs(charge[i])
                if begins:
                    magnitude[b] = total
                else:
                    head[TERMS] = total
            i0 = i1


@jit
def join(
    box_start: Int, slot: Int, fold: int, heads: Float, moments: Float, magnitude: Float
) -> None:
    """Add to the boxes what :func:`box_moments` found behind the ends of their first chunks."""
    for chunk in range(1, len(heads)):
        b = _box_at(box_start, chunk * CHUNK)
        if box_start[b] == chunk * CHUNK:
            continue
        if slot[b] >= 0:
            row = _row(moments, 0, slot[b])
            for k in range(TERMS):
                row[k] += heads[chunk, k]
            if fold != 0:
                _mirror(moments, slot[b], fold)
        if len(magnitude):
            magnitude[b] += heads[chunk, TERMS]


@jit
def _row(moments: Float, side: int, slot: int) -> Float:
    """Return the moments of a box, or of its mirror image (``side`` 1)."""
    row: Float = moments[side, slot * TERMS : (slot + 1) * TERMS]
    return row


@jit
def _mirror(moments: Float, slot: int, fold: int) -> None:
    row, mirrored = _row(moments, 0, slot), _row(moments, 1, slot)
    for k in range(TERMS):
        mirrored[k] = fold * row[k] if k % 2 == 0 else -fold * row[k]


@jit(fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _sum_moments(t: Float, charge: Float, row: Float) -> None:
    m0 = m1 = m2 = m3 = m4 = m5 = m6 = m7 = 0.0
    m8 = m9 = m10 = m11 = m12 = m13 = m14 = m15 = 0.0
    for i in range(len(t)):
        x = t[i]
        x2 = x * x
        x4 = x2 * x2
        x8 = x4 * x4
        c0 = charge[i]
        c1 = c0 * x
        c2 = c0 * x2
        c3 = c1 * x2
        c4 = c0 * x4
        c5 = c1 * x4
        c6 = c2 * x4
        c7 = c3 * x4
        m0 += c0
        m1 += c1
        m2 += c2
        m3 += c3
        m4 += c4
        m5 += c5
        m6 += c6
        m7 += c7
        m8 += c0 * x8
        m9 += c1 * x8
        m10 += c2 * x8
        m11 += c3 * x8
        m12 += c4 * x8
        m13 += c5 * x8
        m14 += c6 * x8
        m15 += c7 * x8
    row[0], row[1], row[2], row[3] = m0, m1, m2, m3
    row[4], row[5], row[6], row[7] = m4, m5, m6, m7
    row[8], row[9], row[10], row[11] = m8, m9, m10, m11
    row[12], row[13], row[14], row[15] = m12, m13, m14, m15


@jit
def evaluate(
    start: int,
    stop: int,
    target_start: Int,
    target_t: Float,
    source_start: Int,
    source_t: Float,
    charge: Float,
    slot: Int,
    moments: Float,
    magnitude: Float,
    half_width: float,
    fold: int,
    table: Float,
    error: Float,
    order: int,
    values: Float,
    slopes: Float,
    in_doubt: Bool,
) -> None:
    """Write the sums of both orders at the targets in some places; NaN where they are in doubt.

    ``fold`` is the parity of images in walls at both ends of the boxes, or 0: no walls. ``error``
    is the relative :func:`bgfast_kernels.kde.tables.box_error`, or empty to doubt none;
    ``in_doubt[0]`` becomes True where there is doubt.
    """
    n_boxes = len(slot)
    local = np.empty(_OUTPUTS)
    b, i0 = _box_at(target_start, start), start
    while i0 < stop:
        while target_start[b + 1] <= i0:
            b += 1
        end = min(target_start[b + 1], stop)
        n = target_start[b + 1] - target_start[b]
        inside = b < n_boxes
        bound = np.inf
        expanded = False
        if inside:
            expanded = _collect(b, n, source_start, slot, moments, fold, table, local)
            if len(error):
                bound = _error_bound(b, n_boxes, fold, error, magnitude)
        t, value, slope = target_t[i0:end], values[i0:end], slopes[i0:end]
        value[:] = 0.0
        slope[:] = 0.0
        if inside and n <= _DIRECT_PAIRS:
            sources = (source_start, source_t, charge)
            _add_pairs(b, n, t, sources, half_width, fold, table, order, value, slope)
        if expanded:
            _add_polynomials(local, t, value, slope)
        if len(error):
            for i in range(len(value)):
                if not value[i] > bound:
                    value[i] = np.nan
                    in_doubt[0] = True
        i0 = end


@jit
def _near(table: Float) -> int:
    """Return how many boxes away a table reaches."""
    return len(table) // (TERMS * _OUTPUTS) // 2


@jit
def _collect(
    b: int,
    n: int,
    source_start: Int,
    slot: Int,
    moments: Float,
    fold: int,
    table: Float,
    local: Float,
) -> bool:
    """Write the polynomials of the ``n`` targets in box b; return whether there are any."""
    near = _near(table)
    expanded = False
    local[:] = 0.0
    for cell in range(b - near, b + near + 1):
        s, side = _box_of(cell, len(slot), fold)
        if s >= 0 and n * (source_start[s + 1] - source_start[s]) > _DIRECT_PAIRS:
            expanded = True
            source = _row(moments, 0 if side > 0 else 1, slot[s])
            _translate(source, table, (b - cell + near) * TERMS * _OUTPUTS, local)
    return expanded


@jit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def _add_pairs(
    b: int,
    n: int,
    t: Float,
    sources: tuple[Int, Float, Float],
    half_width: float,
    fold: int,
    table: Float,
    order: int,
    value: Float,
    slope: Float,
) -> None:
    """Add what boxes of few sources contribute to the ``n`` targets in box b, pair by pair."""
    start, source_t, charge = sources
    near = _near(table)
    for cell in range(b - near, b + near + 1):
        s, side = _box_of(cell, len(start) - 2, fold)
        if s < 0 or n * (start[s + 1] - start[s]) > _DIRECT_PAIRS:
            continue
        gap = 2.0 * half_width * (b - cell)
        sign = 1 if side > 0 else fold
        for i in range(len(t)):
            for j in range(start[s], start[s + 1]):
                u = gap + half_width * (t[i] - side * source_t[j])
                lower, upper = far.kernel_pair(u, order)
                weight = sign * charge[j] * math.exp(-0.5 * u * u)
                value[i] += weight * lower
                slope[i] += weight * upper


@jit
def _error_bound(b: int, n_boxes: int, fold: int, error: Float, magnitude: Float) -> float:
    bound = 0.0
    for cell in range(b - len(error) + 1, b + len(error)):
        s, _ = _box_of(cell, n_boxes, fold)
        if s >= 0:
            bound += error[abs(b - cell)] * magnitude[s]
    return bound


@jit
def _box_of(cell: int, n_boxes: int, fold: int) -> tuple[int, float]:
    """Return the box whose image lies in a cell, and -1 if mirrored, else 1; box -1 for none."""
    if 0 <= cell < n_boxes:
        return cell, 1.0
    if fold == 0:
        return -1, 1.0
    cell %= 2 * n_boxes
    return (cell, 1.0) if cell < n_boxes else (2 * n_boxes - 1 - cell, -1.0)


@jit
def _translate(moments: Float, table: Float, base: int, local: Float) -> None:
    """Add ``moments @ table`` to ``local``: four vectors that stay in registers."""
    a, b = simd.load(local, 0), simd.load(local, 8)
    c, d = simd.load(local, 16), simd.load(local, 24)
    for k in range(TERMS):
        moment = simd.spread(moments, k)
        row = base + k * _OUTPUTS
        a = simd.fma(moment, simd.load(table, row), a)
        b = simd.fma(moment, simd.load(table, row + 8), b)
        c = simd.fma(moment, simd.load(table, row + 16), c)
        d = simd.fma(moment, simd.load(table, row + 24), d)
    simd.store(local, 0, a)
    simd.store(local, 8, b)
    simd.store(local, 16, c)
    simd.store(local, 24, d)


@jit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def _add_polynomials(local: Float, t: Float, value: Float, slope: Float) -> None:
    for i in range(len(t)):
        x = t[i]
        v, w = local[TERMS - 1], local[_OUTPUTS - 1]
        for k in range(TERMS - 2, -1, -1):
            v = v * x + local[k]
            w = w * x + local[TERMS + k]
        value[i] += v
        slope[i] += w
