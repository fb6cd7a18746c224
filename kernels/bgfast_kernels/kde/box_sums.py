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

_DIRECT_PAIRS = 24  # up to here summing the pairs of two boxes beats translating moments
_OUTPUTS = 2 * TERMS


@jit
def permute(x: Float, rank: Int, out: Float) -> None:
    """Put the numbers in the order of the boxes."""
    for i in range(len(x)):
        out[rank[i]] = x[i]


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
    """Put what :func:`evaluate` found in the order of the targets."""
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
def _boxes_starting_in(box_start: Int, start: int, stop: int) -> tuple[int, int]:
    """Return the range of boxes whose first point lies in ``start <= i < stop``."""
    inside = box_start[:-2]
    return int(np.searchsorted(inside, start)), int(np.searchsorted(inside, stop))


@jit(fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
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
) -> None:
    """Write the moments ``sum_j c_j t_j^k`` of some boxes, and of their mirror images.

    Also the sum of the absolute charges, unless ``magnitude`` is empty.
    """
    first, last = _boxes_starting_in(box_start, start, stop)
    for b in range(first, last):
        if len(magnitude):
            total = 0.0
            for i in range(box_start[b], box_start[b + 1]):
                total += abs(charge[i])
            magnitude[b] = total
        if slot[b] < 0:
            continue
        m0 = m1 = m2 = m3 = m4 = m5 = m6 = m7 = 0.0
        m8 = m9 = m10 = m11 = m12 = m13 = m14 = m15 = 0.0
        for i in range(box_start[b], box_start[b + 1]):
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
        row = moments[0, slot[b] * TERMS : (slot[b] + 1) * TERMS]
        row[0], row[1], row[2], row[3] = m0, m1, m2, m3
        row[4], row[5], row[6], row[7] = m4, m5, m6, m7
        row[8], row[9], row[10], row[11] = m8, m9, m10, m11
        row[12], row[13], row[14], row[15] = m12, m13, m14, m15
        mirrored = moments[1, slot[b] * TERMS : (slot[b] + 1) * TERMS]
        for k in range(TERMS):
            mirrored[k] = fold * row[k] if k % 2 == 0 else -fold * row[k]


@jit(fastmath={"contract"})  # type: ignore[untyped-decorator]
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
    value: Float,
    slope: Float,
) -> None:
    """Add the sums of both orders at the targets of some boxes; NaN where they are in doubt.

    ``fold`` is the parity of images in walls at both ends of the boxes, or 0: no walls. ``error``
    is the relative :func:`bgfast_kernels.kde.tables.box_error`, or empty to doubt none.
    """
    n_boxes = len(slot)
    near = len(table) // (TERMS * _OUTPUTS) // 2
    local = np.empty(_OUTPUTS)
    first, last = _boxes_starting_in(target_start, start, stop)
    for b in range(first, last):
        i0, i1 = target_start[b], target_start[b + 1]
        if i0 == i1:
            continue
        local[:] = 0.0
        expanded = False
        for cell in range(b - near, b + near + 1):
            s, side = _box_of(cell, n_boxes, fold)
            if s < 0 or source_start[s] == source_start[s + 1]:
                continue
            j0, j1 = source_start[s], source_start[s + 1]
            if (i1 - i0) * (j1 - j0) > _DIRECT_PAIRS:
                expanded = True
                source = moments[0 if side > 0 else 1, slot[s] * TERMS : (slot[s] + 1) * TERMS]
                _translate(source, table, (b - cell + near) * TERMS * _OUTPUTS, local)
                continue
            gap = 2.0 * half_width * (b - cell)
            sign = 1 if side > 0 else fold
            for i in range(i0, i1):
                for j in range(j0, j1):
                    u = gap + half_width * (target_t[i] - side * source_t[j])
                    lower, upper = far.kernel_pair(u, order)
                    weight = sign * charge[j] * math.exp(-0.5 * u * u)
                    value[i] += weight * lower
                    slope[i] += weight * upper
        if expanded:
            _add_polynomials(local, target_t[i0:i1], value[i0:i1], slope[i0:i1])
        if len(error):
            bound = 0.0
            for cell in range(b - len(error) + 1, b + len(error)):
                s, _ = _box_of(cell, n_boxes, fold)
                if s >= 0:
                    bound += error[abs(b - cell)] * magnitude[s]
            for i in range(i0, i1):
                if not value[i] > bound:
                    value[i] = np.nan


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
