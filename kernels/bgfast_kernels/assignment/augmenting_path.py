"""Linear assignment of squared distances by shortest augmenting paths, one configuration at a time.

For every configuration: the cost matrix and its row minima; rows whose cheapest particle is still
free take it; each row that is left is assigned along a shortest augmenting path (Dijkstra on
reduced costs; Jonker and Volgenant, Computing 38, 325 (1987); Crouse, IEEE TAES 52, 1679 (2016)).
Near the reference the first two steps do nearly all the work. A SIMD vector holds eight columns of
a row; the last one is padded with infinitely expensive columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu, simd

X_MAX = 1e140
"""Coordinates beyond it would overflow sums of squared distances."""

_LANES = 8
_PAD = 1e200  # coordinate of padding: its squared distance is infinite


def assign(x: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.int64]:
    """Return the permutations that bring particles closest to a reference configuration.

    Parameters
    ----------
    x
        Configurations, shape ``[B, N, dim]``.
    reference
        Shape ``[N, dim]``.

    Returns
    -------
    NDArray
        ``perm``, int64, shape ``[B, N]``: ``sum_k |x[perm[k]] - reference[k]|^2`` is least. The
        arithmetic is float64. A row with a coordinate that is not finite or beyond :data:`X_MAX`
        gets the identity.
    """
    n_rows, n_particles, _ = x.shape
    perm = np.empty((n_rows, n_particles), np.int64)
    perm[:] = np.arange(n_particles)
    target = np.ascontiguousarray(reference, np.float64)
    if perm.size and (np.abs(target) < X_MAX).all():
        cpu.parallel_rows(_assign_rows, n_rows, np.ascontiguousarray(x), target, perm)
    return perm


@cpu.jit
def _assign_rows(start, stop, x, reference, perm):  # type: ignore[no-untyped-def]
    n, dim = reference.shape
    width = (n + _LANES - 1) // _LANES * _LANES
    columns = np.full((dim, width), _PAD)
    cost = np.empty((n, width))
    row_dual, column_dual = np.empty(n), np.empty(width)
    row_of = np.empty(width, np.int64)
    index = np.arange(width).astype(np.float64)
    distance, barrier, previous = np.empty(width), np.empty(width), np.empty(width)
    lanes = np.empty(2 * _LANES)
    for b in range(start, stop):
        in_range = True
        for i in range(n):
            for d in range(dim):
                columns[d, i] = x[b, i, d]
                in_range &= abs(columns[d, i]) < X_MAX
        if not in_range:
            continue
        column_of = perm[b]
        _fill_cost(columns, reference, cost, row_dual, column_of, index, lanes)
        if _take_cheapest(column_of, row_of) == 0:
            continue
        column_dual[:] = 0.0
        for k in range(n):
            if column_of[k] < 0:
                distance[:] = np.inf
                barrier[:] = 0.0
                column = _search(
                    k,
                    cost,
                    row_dual,
                    column_dual,
                    row_of,
                    distance,
                    barrier,
                    previous,
                    index,
                    lanes,
                )
                _augment(
                    k, column, row_dual, column_dual, column_of, row_of, distance, barrier, previous
                )


@cpu.jit
def _least(values, indices, lanes):  # type: ignore[no-untyped-def]
    """Return the least lane of a vector and its index; ``lanes[16]`` is scratch."""
    simd.store(lanes, 0, values)
    simd.store(lanes, _LANES, indices)
    least, index = lanes[0], lanes[_LANES]
    for i in range(1, _LANES):
        less = lanes[i] < least
        index = lanes[_LANES + i] if less else index
        least = lanes[i] if less else least
    return least, np.int64(index)


@cpu.jit
def _fill_cost(  # type: ignore[no-untyped-def]
    columns, reference, cost, row_minimum, cheapest, index, lanes
):
    """Write squared distances, the minimum of each row and the column where it is."""
    n, dim = reference.shape
    zero = simd.load(index, 0) * 0.0
    for k in range(n):
        row = cost[k]
        least, where = zero + np.inf, zero
        for first in range(0, row.size, _LANES):
            squares = zero
            for d in range(dim):
                dx = simd.load(columns[d], first) - reference[k, d]
                squares = simd.fma(dx, dx, squares)
            simd.store(row, first, squares)
            where = simd.where_less(squares, least, simd.load(index, first), where)
            least = simd.smaller(squares, least)
        row_minimum[k], cheapest[k] = _least(least, where, lanes)
        # On the diagonal if it is there too: ties keep the labels.
        if row[k] == row_minimum[k]:
            cheapest[k] = k


@cpu.jit
def _take_cheapest(column_of, row_of):  # type: ignore[no-untyped-def]
    """Keep the cheapest column of each row unless it is taken; return how many rows go without."""
    row_of[:] = -1
    for k in range(column_of.size):
        if column_of[k] == k:
            row_of[k] = k
    without = 0
    for k in range(column_of.size):
        column = column_of[k]
        if row_of[column] < 0:
            row_of[column] = k
        elif row_of[column] != k:
            column_of[k] = -1
            without += 1
    return without


@cpu.jit
def _search(  # type: ignore[no-untyped-def]
    start, cost, row_dual, column_dual, row_of, distance, barrier, previous, index, lanes
):
    """Grow shortest paths from row ``start`` until they reach a free column; return it.

    ``distance`` holds the lengths, ``previous`` the row before each column, ``barrier`` infinity at
    columns that are settled.
    """
    zero = simd.load(index, 0) * 0.0
    row = start
    reached = 0.0
    while True:
        offset = zero + (reached - row_dual[row])
        least, where = zero + np.inf, zero
        for first in range(0, distance.size, _LANES):
            closed, old = simd.load(barrier, first), simd.load(distance, first)
            through = simd.load(cost[row], first) + (offset - simd.load(column_dual, first))
            through = through + closed
            before = simd.where_less(through, old, zero + row, simd.load(previous, first))
            simd.store(previous, first, before)
            new = simd.smaller(through, old)
            simd.store(distance, first, new)
            reachable = new + closed
            where = simd.where_less(reachable, least, simd.load(index, first), where)
            least = simd.smaller(reachable, least)
        reached, column = _least(least, where, lanes)
        barrier[column] = np.inf
        if row_of[column] < 0:
            return column
        row = row_of[column]


@cpu.jit
def _augment(  # type: ignore[no-untyped-def]
    start, column, row_dual, column_dual, column_of, row_of, distance, barrier, previous
):
    """Keep the duals feasible and assign row ``start`` along the path that ends at ``column``."""
    reached = distance[column]
    row_dual[start] += reached
    for i in range(row_of.size):
        if barrier[i] > 0.0:
            slack = reached - distance[i]
            column_dual[i] -= slack
            if row_of[i] >= 0:
                row_dual[row_of[i]] += slack
    while True:
        row = np.int64(previous[column])
        row_of[column] = row
        column_of[row], column = column, column_of[row]
        if row == start:
            return
