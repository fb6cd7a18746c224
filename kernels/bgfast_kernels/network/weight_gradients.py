"""Gradients of weights and biases: sums over rows. Threads share out the weights, not the rows."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory, products
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.layout import (
    GRADIENT,
    KEPT,
    N_IN,
    N_OUT,
    TILES_IN,
    TILES_OUT,
    WEIGHT,
    layout,
)
from bgfast_kernels.network.packing import Bytes, Single

# Blocks that a pass over all squares takes in, of one, two and three parts: their gradients stay in
# a core's first cache from square to square.
_BLOCKS_TOGETHER = (8, 4, 4)


@functools.lru_cache
def squares(widths: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """Return the 32 x 32 squares of all weights of ``count`` networks.

    Network, layer, first tile of outputs and of inputs.
    """
    table = layout(widths, 1).table
    return np.array(
        [
            (k, layer, o, i)
            for k in range(count)
            for layer, row in enumerate(table)
            for o in range(0, row[TILES_OUT], 2)
            for i in range(0, row[TILES_IN], 2)
        ],
        np.int64,
    )


@jit
def weight_gradients(
    start: int,
    stop: int,
    squares: NDArray[np.int64],
    count: int,
    table: NDArray[np.int64],
    parts: int,
    configuration: Bytes,
    kept: Bytes,
    kept_tiles: int,
    gradients: Bytes,
    gradient_tiles: int,
    origin: int,
    n_blocks: int,
    more: bool,
    result: Single,
) -> None:
    """Sum over the rows of blocks from ``origin`` on, for some of the squares.

    Parameters
    ----------
    squares
        Of all weights of ``count`` networks.
    table, parts, kept_tiles, gradient_tiles
        Of the layout.
    kept
        What the forward pass kept, of all blocks.
    gradients
        What the backward pass wrote, of the ``n_blocks`` blocks from ``origin`` on.
    more
        Whether to add to ``result``, or to overwrite it.
    result
        Gradients of the weights of all networks and layers, ``[n_out, n_in]`` each, flat, one after
        the other.
    """
    space = memory.scratch((stop - start) * 4 * TILE)
    sums = memory.address(space)
    input_tiles = table[0, TILES_IN] * parts
    right_step = (input_tiles + count * kept_tiles) * TILE
    left_step = count * gradient_tiles * TILE
    size = len(result) // count
    amx.configure(memory.address(configuration))
    begin = start
    while begin < stop:
        k, layer, _, _ = squares[begin]
        end = begin + 1
        while end < stop and squares[end, 0] == k and squares[end, 1] == layer:
            end += 1
        row = table[layer]
        before = row[KEPT] + input_tiles + k * kept_tiles if layer else 0
        left = memory.address(gradients) + (k * gradient_tiles + row[GRADIENT]) * TILE
        right = memory.address(kept) + origin * right_step + before * TILE
        of_layer = squares[begin:end]
        _sum_layer(of_layer, row, parts, left, left_step, right, right_step, n_blocks, sums)
        to = memory.address(result) + 4 * (k * size + row[WEIGHT])
        for square in range(end - begin):
            _, _, o, i = of_layer[square]
            _write_square(sums + square * 4 * TILE, row[N_OUT], row[N_IN], o, i, more, to)
        begin = end
    amx.release()
    memory.keep(space)


@jit
def _sum_layer(
    squares: NDArray[np.int64],
    row: NDArray[np.int64],
    parts: int,
    left: int,
    left_step: int,
    right: int,
    right_step: int,
    n_blocks: int,
    sums: int,
) -> None:
    """Sum up the squares of one layer, whose first tiles are at ``left`` and ``right``."""
    together = _BLOCKS_TOGETHER[parts - 1]
    for first in range(0, n_blocks, together):
        last = min(first + together, n_blocks)
        for square in range(len(squares)):
            _, _, o, i = squares[square]
            _add_products(
                left + first * left_step + o * TILE,
                left_step,
                right + first * right_step + i * TILE,
                right_step,
                last - first,
                parts,
                row[TILES_OUT],
                row[TILES_IN],
                o,
                i,
                first > 0,
                sums + square * 4 * TILE,
            )


@jit
def _add_products(
    left: int,
    left_step: int,
    right: int,
    right_step: int,
    n_blocks: int,
    parts: int,
    tiles_left: int,
    tiles_right: int,
    o: int,
    i: int,
    go_on: bool,
    sums: int,
) -> None:
    """Sum up four tiles: outputs o and inputs i, o and i + 1, then output o + 1 with both.

    ``left`` and ``right`` are where tile o of the gradients and tile i of the inputs are in the
    first block. Where there is no next tile, what belongs to it is not made. ``go_on`` adds to what
    is at ``sums``.
    """
    left_low, right_low = tiles_left * TILE, tiles_right * TILE
    both = o + 1 < tiles_left, i + 1 < tiles_right
    if go_on:
        amx.load(0, sums, ROW)
        amx.load(1, sums + TILE, ROW)
        amx.load(2, sums + 2 * TILE, ROW)
        amx.load(3, sums + 3 * TILE, ROW)
    else:
        amx.zero(0)
        amx.zero(1)
        amx.zero(2)
        amx.zero(3)
    for _ in range(n_blocks):  # parts in the order of products.multiply
        amx.load(4, left, ROW)
        if both[0]:
            amx.load(5, left + TILE, ROW)
        if parts == 3:
            _add_with_right(right + 2 * right_low, both)
        if parts >= 2:
            _add_with_right(right + right_low, both)
        if parts == 3:
            _add_with_left(left + left_low, both)
        _add_with_right(right, both)
        if parts == 3:
            _add_with_left(left + 2 * left_low, both)
            _add_with_left(left, both)
        if parts == 2:
            _add_with_left(left + left_low, both)
        left += left_step
        right += right_step
    products.end(sums)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _add_with_right(at: int, both: tuple[bool, bool]) -> None:
    """Load one or both tiles of inputs, and add their products with those of gradients."""
    amx.load(6, at, ROW)
    amx.multiply(0, 4, 6)
    if both[0]:
        amx.multiply(2, 5, 6)
    if both[1]:
        amx.load(7, at + TILE, ROW)
        amx.multiply(1, 4, 7)
        if both[0]:
            amx.multiply(3, 5, 7)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _add_with_left(at: int, both: tuple[bool, bool]) -> None:
    """Load one or both tiles of gradients, and add their products with those of inputs."""
    amx.load(4, at, ROW)
    amx.multiply(0, 4, 6)
    if both[1]:
        amx.multiply(1, 4, 7)
    if both[0]:
        amx.load(5, at + TILE, ROW)
        amx.multiply(2, 5, 6)
        if both[1]:
            amx.multiply(3, 5, 7)


@jit
def _write_square(sums: int, n_out: int, n_in: int, o: int, i: int, more: bool, to: int) -> None:
    """Copy four tiles to, or add them to, ``[n_out, n_in]`` float32."""
    for r in range(min(32, n_out - 16 * o)):
        for side in range(2):
            count = min(16, n_in - 16 * (i + side))
            if count > 0:
                at = to + 4 * ((16 * o + r) * n_in + 16 * (i + side))
                value = memory.load(sums + r // 16 * 2 * TILE + r % 16 * ROW + side * TILE)
                if more:
                    value = memory.load_some(at, count) + value
                memory.store_some(at, count, value)


@jit
def sum_blocks(
    start: int,
    stop: int,
    bias_sums: Single,
    n_biases: int,
    n_blocks: int,
    more: bool,
    total: NDArray[np.float64],
    result: Single,
) -> None:
    """Add up the sums of blocks, ``[n_blocks, n_biases]``, flat, for some of the biases.

    Parameters
    ----------
    more
        Whether to add to what is in ``total``.
    total, result
        Written; there may be many blocks, in several calls, one after the other.
    """
    for i in range(start, stop):
        total[i] = total[i] if more else 0.0
    for block in range(n_blocks):
        for i in range(start, stop):
            total[i] += bias_sums[block * n_biases + i]
    for i in range(start, stop):
        result[i] = total[i]
