"""Moments of the charges in source boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import jit
from bgfast_kernels.kde.tables import TERMS

Float = NDArray[np.float64]
Int = NDArray[np.int32]

CHUNK = 1024
"""How many sources are summed in one go."""
DIRECT_PAIRS = 24
"""Up to here summing the pairs of two boxes beats translating moments."""


@jit
def assign_slots(target_start: Int, source_start: Int, slot: Int) -> int:
    """Write the row of each box in the moments, -1 for boxes without; return how many rows."""
    most_targets = 0
    for b in range(len(slot)):
        most_targets = max(most_targets, target_start[b + 1] - target_start[b])
    n_slots = 0
    for b in range(len(slot)):
        slot[b] = -1
        if (source_start[b + 1] - source_start[b]) * most_targets > DIRECT_PAIRS:
            slot[b] = n_slots
            n_slots += 1
    return n_slots


@jit
def box_at(box_start: Int, place: int) -> int:
    """Return the box that holds the point in a place."""
    return int(np.searchsorted(box_start, place, side="right")) - 1


@jit
def moments_of(moments: Float, side: int, slot: int) -> Float:
    """Return the moments of a box, or of its mirror image (``side`` 1)."""
    row: Float = moments[side, slot * TERMS : (slot + 1) * TERMS]
    return row


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
        b, i0 = box_at(box_start, chunk), chunk
        while i0 < end:
            while box_start[b + 1] <= i0:
                b += 1
            i1 = min(box_start[b + 1], end)
            begins = box_start[b] == i0
            if slot[b] >= 0:
                row = moments_of(moments, 0, slot[b]) if begins else head
                _sum_moments(t[i0:i1], charge[i0:i1], row)
                if begins and fold != 0:
                    mirror(moments, slot[b], fold)
            if len(magnitude):
                total = _sum_absolute(charge[i0:i1])
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
        b = box_at(box_start, chunk * CHUNK)
        if box_start[b] == chunk * CHUNK:
            continue
        if slot[b] >= 0:
            row = moments_of(moments, 0, slot[b])
            for k in range(TERMS):
                row[k] += heads[chunk, k]
            if fold != 0:
                mirror(moments, slot[b], fold)
        if len(magnitude):
            magnitude[b] += heads[chunk, TERMS]


@jit
def mirror(moments: Float, slot: int, fold: int) -> None:
    """Write the moments of a box's mirror image."""
    row, mirrored = moments_of(moments, 0, slot), moments_of(moments, 1, slot)
    for k in range(TERMS):
        mirrored[k] = fold * row[k] if k % 2 == 0 else -fold * row[k]


@jit(fastmath={"reassoc"})  # type: ignore[untyped-decorator]
def _sum_absolute(charge: Float) -> float:
    total = 0.0
    for i in range(len(charge)):
        total += abs(charge[i])
    return total


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
