"""Sums at the targets of a box, from the moments or the single charges of the boxes near it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import simd
from bgfast_kernels.cpu import jit
from bgfast_kernels.kde import far
from bgfast_kernels.kde.moments import DIRECT_PAIRS, box_at, moments_of
from bgfast_kernels.kde.tables import TERMS

Float = NDArray[np.float64]
Int = NDArray[np.int32]
Bool = NDArray[np.bool_]

_OUTPUTS = 2 * TERMS


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
    local: Float,
    values: Float,
    slopes: Float,
    in_doubt: Bool,
) -> None:
    """Write the sums of both orders at the targets in some places; NaN where they are in doubt.

    ``fold`` is the parity of images in walls at both ends of the boxes, or 0: no walls. ``error``
    is the relative :func:`bgfast_kernels.kde.tables.box_error`, or empty to doubt none;
    ``in_doubt[0]`` becomes True where there is doubt. ``local`` is room for ``2 TERMS`` numbers.
    """
    n_boxes = len(slot)
    b, i0 = box_at(target_start, start), start
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
                bound = error_bound(b, n_boxes, fold, error, magnitude)
        t, value, slope = target_t[i0:end], values[i0:end], slopes[i0:end]
        value[:] = 0.0
        slope[:] = 0.0
        if inside and n <= DIRECT_PAIRS:
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
    local[:_OUTPUTS] = 0.0
    for cell in range(b - near, b + near + 1):
        s, side = _box_of(cell, len(slot), fold)
        if s >= 0 and n * (source_start[s + 1] - source_start[s]) > DIRECT_PAIRS:
            expanded = True
            source = moments_of(moments, 0 if side > 0 else 1, slot[s])
            _translate(source, table, (b - cell + near) * TERMS * _OUTPUTS, local)
    return expanded


@jit
def collect_all(b: int, empty: Bool, moments: Float, fold: int, table: Float, local: Float) -> None:
    """Write the polynomials of box b, from the moments of all boxes near it."""
    near = _near(table)
    local[:] = 0.0
    for cell in range(b - near, b + near + 1):
        s, side = _box_of(cell, len(empty), fold)
        if s >= 0 and not empty[s]:
            source = moments_of(moments, 0 if side > 0 else 1, s)
            _translate(source, table, (b - cell + near) * TERMS * _OUTPUTS, local)


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
        if s < 0 or n * (start[s + 1] - start[s]) > DIRECT_PAIRS:
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
def error_bound(b: int, n_boxes: int, fold: int, error: Float, magnitude: Float) -> float:
    """Return below what the sum of a target in box b is in doubt."""
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
    """Add ``moments @ table`` to ``local``: even and odd rows apart, so that none waits for one."""
    a, b = simd.load(local, 0), simd.load(local, 8)
    c, d = simd.load(local, 16), simd.load(local, 24)
    e = f = g = h = simd.fill(local, 0.0)
    for k in range(0, TERMS, 2):
        even, odd = simd.spread(moments, k), simd.spread(moments, k + 1)
        row = base + k * _OUTPUTS
        a = simd.fma(even, simd.load(table, row), a)
        b = simd.fma(even, simd.load(table, row + 8), b)
        c = simd.fma(even, simd.load(table, row + 16), c)
        d = simd.fma(even, simd.load(table, row + 24), d)
        row += _OUTPUTS
        e = simd.fma(odd, simd.load(table, row), e)
        f = simd.fma(odd, simd.load(table, row + 8), f)
        g = simd.fma(odd, simd.load(table, row + 16), g)
        h = simd.fma(odd, simd.load(table, row + 24), h)
    simd.store(local, 0, a + e)
    simd.store(local, 8, b + f)
    simd.store(local, 16, c + g)
    simd.store(local, 24, d + h)


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
