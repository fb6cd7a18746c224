"""Gradients of the layers' results, block of rows by block of rows, last layer to first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory, products
from bgfast_kernels.network.activation import derivative
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.halves import high_halves, low_halves, store
from bgfast_kernels.network.layout import (
    BACKWARD,
    BIAS,
    GRADIENT,
    GROUPS_OUT,
    KEPT,
    N_IN,
    N_OUT,
    ROWS,
    TILES_IN,
)
from bgfast_kernels.network.packing import Bytes, Single, pack_rows, rows_of
from bgfast_kernels.network.products import write_rows

Row = NDArray[np.int64]
Waiting = tuple[int, int, int, int, int, int, bool]
"""Where sums are, where the activations begin through which they go, where left factors go that are
made of them, where the gradients, and sums over their rows; how much further low parts of
activations and of gradients are, and whether there are two tiles of columns; first 0: none wait."""

_UNITS = 20
_NOTHING, _SUMS = 4 * TILE, 4 * TILE + 2 * ROW


@jit
def backward(
    start: int,
    stop: int,
    origin: int,
    grad: Single,
    stride: int,
    n: int,
    weights: Bytes,
    table: NDArray[np.int64],
    parts: int,
    groups: int,
    activations: NDArray[np.int64],
    configuration: Bytes,
    kept: Bytes,
    kept_tiles: int,
    gradients: Bytes,
    gradient_tiles: int,
    bias_sums: Single,
    n_biases: int,
    grad_x: Single,
    grad_x_stride: int,
    more: bool,
) -> None:
    """Work on the blocks from ``origin + start`` up to ``origin + stop``, network by network.

    Parameters
    ----------
    grad, stride, n
        Gradients of the networks' results, flat, rows ``stride`` numbers apart, and how many;
        those of the next network follow after ``stride * n``.
    weights
        Packed for the backward pass, of one network after another.
    table, parts, groups, kept_tiles, gradient_tiles, n_biases
        Of the layout.
    activations
        ``RELU`` or ``TANH``, of every network.
    configuration
        Of the tiles.
    kept
        What the forward pass kept.
    gradients
        Written: the gradients of all layers' results, for blocks from ``origin`` on.
    bias_sums
        Written: their sums over the rows of each block, for blocks from ``origin`` on.
    grad_x, grad_x_stride, more
        Written, or with ``more`` added to: the gradient of the inputs, rows so many numbers apart;
        empty if not wanted.
    """
    strip = 2 * groups * TILE
    low = strip if parts == 2 else 0
    space = memory.scratch(2 * parts * strip + 12 * TILE + 4 * ROW)
    source = memory.address(space)
    target = source + parts * strip
    sums = target + parts * strip
    other_sums = sums + 4 * TILE
    pairs = sums + 8 * TILE
    memory.store(pairs + _NOTHING, memory.fill(0))
    memory.store(pairs + _NOTHING + ROW, memory.fill(0))
    count, last = len(activations), len(table) - 1
    input_tiles = table[0, TILES_IN] * parts
    block_tiles = input_tiles + count * kept_tiles
    zero = 0 * start  # not a literal, for which the kernel would be compiled again
    none = zero, zero, zero, zero, zero, zero, zero > 0
    amx.configure(memory.address(configuration))
    for i in range(count * start, count * stop):
        k, block = i % count, origin + i // count
        right = memory.address(weights) + k * (len(weights) // count)
        own = memory.address(kept) + (block * block_tiles + input_tiles + k * kept_tiles) * TILE
        to = memory.address(gradients) + i * gradient_tiles * TILE
        column_sums = memory.address(bias_sums) + 4 * i * n_biases
        given = memory.address(grad) + 4 * k * n * stride
        row = table[last]
        sums_to = column_sums + 4 * row[BIAS]
        at = to + row[GRADIENT] * TILE
        _given(given, stride, n, block, row[N_OUT], source, low, pairs, at, sums_to)
        activation, waiting = activations[k], none
        for layer in range(last, 0, -1):
            row, before = table[layer], table[layer - 1]
            tiles = row[TILES_IN]
            y, after = own + row[KEPT] * TILE, to + before[GRADIENT] * TILE
            kept_low = tiles * TILE if low else 0  # that of the new gradients, too
            for t in range(0, tiles, 2):
                two = t + 1 < tiles
                _multiply(right, row, t, two, source, low, sums, activation, pairs, waiting)
                step = t * TILE
                sums_to = column_sums + 4 * before[BIAS] + ROW * t
                waiting = sums, y + step, target + step, after + step, sums_to, kept_low, two
                sums, other_sums = other_sums, sums
            source, target = target, source
        row = table[0]
        if len(grad_x):
            for t in range(row[TILES_IN]):
                _multiply(right, row, t, False, source, low, sums, activation, pairs, waiting)
                waiting = none
                at = memory.address(grad_x)
                write_rows(sums, at, grad_x_stride, n, block, row[N_IN], t, more or k > 0)
        if waiting[0]:
            _finish(0, _UNITS, activation, low, pairs, waiting)
    amx.release()
    memory.keep(space)


@jit
def _given(
    grad: int,
    stride: int,
    n: int,
    block: int,
    n_out: int,
    target: int,
    low: int,
    pairs: int,
    to: int,
    column_sums: int,
) -> None:
    """Write the given gradient as left factors of both products, and its sums over the rows."""
    pairs_low = 2 * TILE if low else 0
    gradients_low = (n_out + 15) // 16 * TILE if low else 0
    for g in range((n_out + 31) // 32):
        left = right = memory.fill(0)
        for r in range(16):
            row = ROWS * block + r
            a = rows_of(grad, stride, n, row, 32 * g, n_out)
            b = rows_of(grad, stride, n, row, 32 * g + 16, n_out)
            c = rows_of(grad, stride, n, row + 16, 32 * g, n_out)
            d = rows_of(grad, stride, n, row + 16, 32 * g + 16, n_out)
            there = target + 2 * g * TILE + ROW * r
            pack_rows(store, there, low, pairs + ROW * r, pairs_low, True, a, b, c, d)
            left, right = left + (a + c), right + (b + d)
        two = 32 * g + 16 < n_out
        after = to + 2 * g * TILE
        _keep(pairs, pairs_low, after, gradients_low, two)
        _keep_sums(column_sums + 2 * g * ROW, two, left, right)


@jit
def _multiply(
    weights: int,
    row: Row,
    t: int,
    two: bool,
    source: int,
    low: int,
    sums: int,
    activation: int,
    pairs: int,
    waiting: Waiting,
) -> None:
    """Write the sums of one or two tiles of columns, and finish meanwhile those that wait."""
    groups, parts = row[GROUPS_OUT], 2 if low else 1
    right = weights + row[BACKWARD] + t * groups * parts * TILE
    phases = 3 if low and two else 1
    at_once = -(-16 // max(1, (groups - 1) * phases))
    done = 0 if waiting[0] else _UNITS
    products.begin(two, pairs + _NOTHING)
    for g in range(groups):
        if g == groups - 1 and done < 16:
            _finish(done, 16, activation, low, pairs, waiting)
            done = 16
        for phase in range(phases):
            products.fetch(two, source, low, right, groups, parts, g, phase)
            if done < _UNITS:
                _finish(done, min(done + at_once, _UNITS), activation, low, pairs, waiting)
                done += at_once
            products.add(two, source, low, right, parts, g)
    products.end(sums)
    if done < _UNITS:
        _finish(done, _UNITS, activation, low, pairs, waiting)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _finish(first: int, last: int, activation: int, low: int, pairs: int, waiting: Waiting) -> None:
    """Do some of the units of what makes gradients of sums: a row each, then a tile each.

    Parameters
    ----------
    first, last
        Units.
    activation, low
        As above.
    pairs
        Memory for four tiles, the same for all units.
    waiting
        What waits.
    """
    sums, y, target, to, column_sums, kept_low, two = waiting
    pairs_low = 2 * TILE if low else 0
    next_tile = TILE if two else 0
    row_sums = pairs + _SUMS
    for unit in range(first, min(last, 16)):
        r = unit * ROW
        a = memory.load(sums + r)
        b = memory.load(sums + TILE + r)
        c = memory.load(sums + 2 * TILE + r)
        d = memory.load(sums + 3 * TILE + r)
        at = y + r
        above, below = low_halves(at), high_halves(at)
        if low:
            above, below = above + low_halves(at + kept_low), below + high_halves(at + kept_low)
        a, c = a * derivative(activation, above), c * derivative(activation, below)
        for ahead in (2 * TILE, 3 * TILE):
            memory.prefetch(at + ahead)
            if low:
                memory.prefetch(at + ahead + kept_low)
        at += next_tile
        above, below = low_halves(at), high_halves(at)
        if low:
            above, below = above + low_halves(at + kept_low), below + high_halves(at + kept_low)
        b, d = b * derivative(activation, above), d * derivative(activation, below)
        pack_rows(store, target + r, low, pairs + r, pairs_low, True, a, b, c, d)
        left, right = a + c, b + d
        if unit > 0:
            left, right = left + memory.load(row_sums), right + memory.load(row_sums + ROW)
        memory.store(row_sums, left)
        memory.store(row_sums + ROW, right)
    for unit in range(max(first, 16), last):
        if unit == 16:
            _keep_sums(column_sums, two, memory.load(row_sums), memory.load(row_sums + ROW))
            memory.transpose_tile(pairs, to)
        elif unit == 17 and two:
            memory.transpose_tile(pairs + TILE, to + TILE)
        elif unit == 18 and low:
            memory.transpose_tile(pairs + 2 * TILE, to + kept_low)
        elif unit == 19 and low and two:
            memory.transpose_tile(pairs + 3 * TILE, to + kept_low + TILE)


@jit
def _keep(pairs: int, pairs_low: int, to: int, low: int, two: bool) -> None:
    """Write one or two tiles of gradients, transposed."""
    memory.transpose_tile(pairs, to)
    if low:
        memory.transpose_tile(pairs + pairs_low, to + low)
    if two:
        memory.transpose_tile(pairs + TILE, to + TILE)
        if low:
            memory.transpose_tile(pairs + pairs_low + TILE, to + low + TILE)


@jit(inline="always")  # type: ignore[untyped-decorator]
def _keep_sums(to: int, two: bool, left: Any, right: Any) -> None:
    memory.store(to, left)
    if two:
        memory.store(to + ROW, right)
