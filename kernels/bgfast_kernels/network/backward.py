"""Gradients of the layers' results, network by network and block by block, last layer to first."""

from __future__ import annotations

import functools
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
    SLOTS_OUT,
    TILES_IN,
    TILES_OUT,
)
from bgfast_kernels.network.packing import Bytes, Single, pack_rows, rows_of
from bgfast_kernels.network.products import UNITS_OF_ROWS, write_rows

Row = NDArray[np.int64]
Waiting = tuple[int, int, int, int, int, int, bool, int]
"""Where sums are, where the activations begin through which they go, where left factors go that are
made of them, where the gradients, and sums over their rows; how much further the next parts of
activations and of gradients are, whether there are two tiles of columns, and slots if they are a
group that has some; first 0: none wait."""

# Bytes from the memory for pairs of rows, six tiles, to 32 zeros and to sums over rows, 32 numbers.
_NOTHING, _SUMS = 6 * TILE, 6 * TILE + 2 * ROW


@functools.cache
def backward_kernel(parts: int) -> Any:
    """Return the kernel for numbers of so many parts: LLVM unrolls loops over as many."""

    @jit(key=str(parts))  # type: ignore[untyped-decorator]
    def backward(
        start: int,
        stop: int,
        origin: int,
        grad: Single,
        stride: int,
        n: int,
        weights: Bytes,
        table: NDArray[np.int64],
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
        table, groups, kept_tiles, gradient_tiles, n_biases
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
            Written, or with ``more`` added to: the gradient of the inputs, rows so many numbers
            apart; empty if not wanted.
        """
        strip = 2 * groups * TILE
        space = memory.scratch(2 * parts * strip + 14 * TILE + 4 * ROW)
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
        none = zero, zero, zero, zero, zero, zero, zero > 0, zero
        amx.configure(memory.address(configuration))
        n_blocks = stop - start
        for turn in range(count * n_blocks):
            k, i = turn // n_blocks, start + turn % n_blocks
            block, i = origin + i, i * count + k
            right = memory.address(weights) + k * (len(weights) // count)
            own = memory.address(kept) + (block * block_tiles + input_tiles + k * kept_tiles) * TILE
            to = memory.address(gradients) + i * gradient_tiles * TILE
            column_sums = memory.address(bias_sums) + 4 * i * n_biases
            given = memory.address(grad) + 4 * k * n * stride
            row = table[last]
            sums_to = column_sums + 4 * row[BIAS]
            at = to + row[GRADIENT] * TILE
            _given(given, stride, n, block, row, source, strip, parts, pairs, at, sums_to)
            activation, waiting = activations[k], none
            for layer in range(last, 0, -1):
                row, before = table[layer], table[layer - 1]
                tiles = row[TILES_IN]
                y, after = own + row[KEPT] * TILE, to + before[GRADIENT] * TILE
                next_kept = tiles * TILE  # that of the new gradients, too
                for t in range(0, tiles, 2):
                    two = t + 1 < tiles
                    _multiply(
                        right, row, t, two, source, strip, parts, sums, activation, pairs, waiting
                    )
                    step = t * TILE
                    sums_to = column_sums + 4 * before[BIAS] + ROW * t
                    slots = before[SLOTS_OUT] if t + 2 >= tiles else zero
                    y_at, left, keep = y + step, target + step, after + step
                    waiting = sums, y_at, left, keep, sums_to, next_kept, two, slots
                    sums, other_sums = other_sums, sums
                source, target = target, source
            row = table[0]
            if len(grad_x):
                for t in range(row[TILES_IN]):
                    _multiply(
                        right, row, t, False, source, strip, parts, sums, activation, pairs, waiting
                    )
                    waiting = none
                    at = memory.address(grad_x)
                    write_rows(sums, at, grad_x_stride, n, block, row[N_IN], t, more or k > 0)
            if waiting[0]:
                _finish(0, UNITS_OF_ROWS + 2 * parts, activation, strip, parts, pairs, waiting)
        amx.release()
        memory.keep(space)

    return backward


@jit
def _given(
    grad: int,
    stride: int,
    n: int,
    block: int,
    last_row: Row,
    target: int,
    strip: int,
    parts: int,
    pairs: int,
    to: int,
    column_sums: int,
) -> None:
    """Write the given gradient as left factors of both products, and its sums over the rows."""
    n_out, groups = last_row[N_OUT], last_row[GROUPS_OUT]
    next_kept = last_row[TILES_OUT] * TILE
    for g in range(groups):
        slots = last_row[SLOTS_OUT] if g == groups - 1 else 0
        left = right = memory.fill(0)
        for r in range(16):
            row = ROWS * block + r
            a = rows_of(grad, stride, n, row, 32 * g, n_out)
            b = rows_of(grad, stride, n, row, 32 * g + 16, n_out)
            c = rows_of(grad, stride, n, row + 16, 32 * g, n_out)
            d = rows_of(grad, stride, n, row + 16, 32 * g + 16, n_out)
            there = target + 2 * g * TILE + ROW * r
            at = pairs + ROW * r
            pack_rows(store, there, strip, at, 2 * TILE, parts, True, slots, a, b, c, d)
            left, right = left + (a + c), right + (b + d)
        two = 32 * g + 16 < n_out
        after = to + 2 * g * TILE
        for part in range(parts):
            memory.transpose_tile(pairs + 2 * part * TILE, after + part * next_kept)
            if two:
                at = pairs + (2 * part + 1) * TILE
                memory.transpose_tile(at, after + part * next_kept + TILE)
        _keep_sums(column_sums + 2 * g * ROW, two, left, right)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _multiply(
    weights: int,
    row: Row,
    t: int,
    two: bool,
    source: int,
    strip: int,
    parts: int,
    sums: int,
    activation: int,
    pairs: int,
    waiting: Waiting,
) -> None:
    """Write the sums of one or two tiles of columns, and finish meanwhile those that wait."""
    groups = row[GROUPS_OUT]
    right = weights + row[BACKWARD] + t * groups * parts * TILE
    offsets = pairs + _NOTHING
    given = (activation, strip, parts, pairs, waiting)
    products.multiply(
        _finish,
        given,
        UNITS_OF_ROWS + 2 * parts if waiting[0] else 0,
        two,
        source,
        strip,
        parts,
        right,
        groups,
        parts,
        row[SLOTS_OUT],
        offsets,
        sums,
    )


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _finish(
    first: int,
    last: int,
    activation: int,
    strip: int,
    parts: int,
    pairs: int,
    waiting: Waiting,
) -> None:
    """Do some of the units of what makes gradients of sums: two rows each, then a tile each.

    A row is multiplied by the derivative in one unit, and packed in the next.

    Parameters
    ----------
    first, last
        Units.
    activation, strip, parts
        As above.
    pairs
        Memory for six tiles, 32 zeros and 32 sums, the same for all units.
    waiting
        What waits.
    """
    sums, y, target, to, column_sums, next_kept, two, slots = waiting
    next_tile = TILE if two else 0  # gradients without a second tile are zeros, times anything
    row_sums = pairs + _SUMS
    for unit in range(first, min(last, UNITS_OF_ROWS)):
        r = unit * ROW
        if unit < ROWS // 2:
            a, b, c, d = products.row_of(sums + r)
            at = y + r
            above, below = low_halves(at), high_halves(at)
            next_above, next_below = low_halves(at + next_tile), high_halves(at + next_tile)
            for part in range(1, parts):
                low = at + part * next_kept
                above, below = above + low_halves(low), below + high_halves(low)
                low += next_tile
                next_above, next_below = next_above + low_halves(low), next_below + high_halves(low)
            for part in range(parts):  # activations come from far away
                memory.prefetch(at + part * next_kept + 2 * TILE)
                memory.prefetch(at + part * next_kept + 3 * TILE)
            a, c = a * derivative(activation, above), c * derivative(activation, below)
            b, d = b * derivative(activation, next_above), d * derivative(activation, next_below)
            products.set_row(sums + r, a, b, c, d)
            left, right = a + c, b + d
            if unit > 0:
                left, right = left + memory.load(row_sums), right + memory.load(row_sums + ROW)
            memory.store(row_sums, left)
            memory.store(row_sums + ROW, right)
        if unit > 0:
            r -= ROW
            a, b, c, d = products.row_of(sums + r)
            pack_rows(store, target + r, strip, pairs + r, 2 * TILE, parts, True, slots, a, b, c, d)
    for unit in range(max(first, UNITS_OF_ROWS), last):
        if unit == UNITS_OF_ROWS:
            _keep_sums(column_sums, two, memory.load(row_sums), memory.load(row_sums + ROW))
        tile = unit - UNITS_OF_ROWS
        part, side = tile // 2, tile % 2
        if side == 0 or two:
            memory.transpose_tile(pairs + tile * TILE, to + part * next_kept + side * TILE)


@jit(inline="always")  # type: ignore[untyped-decorator]
def _keep_sums(to: int, two: bool, left: Any, right: Any) -> None:
    memory.store(to, left)
    if two:
        memory.store(to + ROW, right)
