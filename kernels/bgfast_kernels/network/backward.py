"""Gradients of the layers' results, block of rows by block of rows, last layer to first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory
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
from bgfast_kernels.network.products import four_tiles, two_tiles, write_rows

Row = NDArray[np.int64]


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
    activation: int,
    configuration: Bytes,
    kept: Bytes,
    kept_tiles: int,
    gradients: Bytes,
    gradient_tiles: int,
    bias_sums: Single,
    n_biases: int,
    grad_x: Single,
) -> None:
    """Work on the blocks from ``origin + start`` up to ``origin + stop``.

    Parameters
    ----------
    grad, stride, n
        Gradient of the network's result, flat, rows ``stride`` numbers apart, and how many.
    weights
        Packed for the backward pass.
    table, parts, groups, kept_tiles, gradient_tiles, n_biases
        Of the layout.
    activation
        ``RELU`` or ``TANH``.
    configuration
        Of the tiles.
    kept
        What the forward pass kept.
    gradients
        Written: the gradients of all layers' results, for blocks from ``origin`` on.
    bias_sums
        Written: their sums over the rows of each block, for blocks from ``origin`` on.
    grad_x
        Written: the gradient of the inputs ``[n, n_in]``, flat; empty if not wanted.
    """
    strip = 2 * groups * TILE
    low = strip if parts == 2 else 0
    space = memory.scratch(2 * parts * strip + 8 * TILE + 2 * ROW)
    source = space.ctypes.data
    target = source + parts * strip
    sums = target + parts * strip
    pairs = sums + 4 * TILE
    nothing = pairs + 4 * TILE
    memory.store(nothing, memory.fill(0))
    memory.store(nothing + ROW, memory.fill(0))
    last = len(table) - 1
    amx.configure(configuration.ctypes.data)
    for i in range(start, stop):
        block = origin + i
        activations = kept.ctypes.data + block * kept_tiles * TILE
        to = gradients.ctypes.data + i * gradient_tiles * TILE
        column_sums = bias_sums.ctypes.data + 4 * i * n_biases
        row = table[last]
        _given(
            *(grad.ctypes.data, stride, n, block, row[N_OUT], source, low, pairs),
            *(to + row[GRADIENT] * TILE, column_sums + 4 * row[BIAS]),
        )
        for layer in range(last, 0, -1):
            row, before = table[layer], table[layer - 1]
            _hidden(
                *(weights.ctypes.data + row[BACKWARD], nothing, row, activation),
                *(source, target, low, sums, activations + row[KEPT] * TILE, pairs),
                *(to + before[GRADIENT] * TILE, column_sums + 4 * before[BIAS]),
            )
            source, target = target, source
        if len(grad_x):
            row = table[0]
            for t in range(row[TILES_IN]):
                right = weights.ctypes.data + row[BACKWARD] + t * row[GROUPS_OUT] * parts * TILE
                two_tiles(source, low, right, row[GROUPS_OUT], parts, nothing, sums)
                write_rows(sums, grad_x.ctypes.data, n, block, row[N_IN], t)
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
def _hidden(
    weights: int,
    nothing: int,
    row: Row,
    activation: int,
    source: int,
    target: int,
    low: int,
    sums: int,
    y: int,
    pairs: int,
    to: int,
    column_sums: int,
) -> None:
    """From the gradient of a layer's result to that of the layer before, through its activation.

    Parameters
    ----------
    weights
        Where those of the layer begin.
    nothing
        Where there are 32 zeros.
    row
        The layer's in the table.
    source, target, low
        Where left factors of products with weights are, and where those of the next layer go.
    y
        Where the layer's inputs, results of the activation, begin.
    pairs
        Memory for four tiles.
    to, column_sums
        Where the new gradients go, and their sums.
    """
    groups, tiles, parts = row[GROUPS_OUT], row[TILES_IN], 2 if low else 1
    pairs_low = 2 * TILE if low else 0
    kept_low = tiles * TILE if low else 0  # that of the new gradients, too
    for t in range(0, tiles, 2):
        right = weights + t * groups * parts * TILE
        two = t + 1 < tiles
        if two:
            four_tiles(source, low, right, groups, nothing, sums)
        else:
            two_tiles(source, low, right, groups, parts, nothing, sums)
        here = y + t * TILE
        _through_activation(activation, sums, here, TILE if two else 0, kept_low)
        left_sum = right_sum = memory.fill(0)
        for r in range(0, TILE, ROW):
            a, b = memory.load(sums + r), memory.load(sums + TILE + r)
            c, d = memory.load(sums + 2 * TILE + r), memory.load(sums + 3 * TILE + r)
            pack_rows(store, target + t * TILE + r, low, pairs + r, pairs_low, True, a, b, c, d)
            left_sum, right_sum = left_sum + (a + c), right_sum + (b + d)
        _keep(pairs, pairs_low, to + t * TILE, kept_low, two)
        _keep_sums(column_sums + t * ROW, two, left_sum, right_sum)


@jit
def _through_activation(activation: int, sums: int, y: int, next_tile: int, low: int) -> None:
    """Multiply four tiles of gradients by the derivative of the activation with results ``y``."""
    for r in range(0, TILE, ROW):
        for side in range(2):
            at = y + r + side * next_tile
            above, below = low_halves(at), high_halves(at)
            if low:
                above, below = above + low_halves(at + low), below + high_halves(at + low)
            here = sums + r + side * TILE
            memory.store(here, memory.load(here) * derivative(activation, above))
            here += 2 * TILE
            memory.store(here, memory.load(here) * derivative(activation, below))


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
