"""The network, block of rows by block of rows: activations never leave a core's cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory
from bgfast_kernels.network.activation import activate
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.halves import stream
from bgfast_kernels.network.layout import (
    BIAS,
    FORWARD,
    GROUPS_IN,
    KEPT,
    N_IN,
    N_OUT,
    PARTS,
    ROWS,
    TILES_OUT,
)
from bgfast_kernels.network.packing import Bytes, Single, pack_rows, rows_of
from bgfast_kernels.network.products import four_tiles, two_tiles, write_rows

Row = NDArray[np.int64]


@jit
def forward(
    start: int,
    stop: int,
    x: Single,
    stride: int,
    n: int,
    weights: Bytes,
    biases: Single,
    table: NDArray[np.int64],
    parts: int,
    groups: int,
    activation: int,
    configuration: Bytes,
    out: Single,
    kept: Bytes,
    kept_tiles: int,
) -> None:
    """Map the rows of blocks ``start <= block < stop``.

    Parameters
    ----------
    x, stride, n
        Inputs, flat, rows ``stride`` numbers apart, and how many rows there are.
    weights, biases
        Packed.
    table, parts, groups, kept_tiles
        Of the layout.
    activation
        ``RELU`` or ``TANH``.
    configuration
        Of the tiles.
    out
        Results ``[n, n_out]``, flat.
    kept
        Inputs of all layers, for the backward pass; empty if there is none.
    """
    strip = 2 * groups * TILE
    low = strip if parts == 2 else 0
    space = memory.scratch(2 * parts * strip + 4 * TILE)
    source = space.ctypes.data
    target = source + parts * strip
    sums = target + parts * strip
    right, offsets = weights.ctypes.data, biases.ctypes.data
    last = len(table) - 1
    amx.configure(configuration.ctypes.data)
    for block in range(start, stop):
        at = kept.ctypes.data + block * kept_tiles * TILE if len(kept) else 0
        _inputs(x.ctypes.data, stride, n, block, table[0, N_IN], source, low, at)
        for layer in range(last):
            row = table[layer]
            after = at + table[layer + 1, KEPT] * TILE if at else 0
            _hidden(right, offsets, row, activation, source, target, low, sums, after)
            source, target = target, source
        row = table[last]
        for t in range(row[TILES_OUT]):
            weight = right + row[FORWARD] + t * row[GROUPS_IN] * row[PARTS] * TILE
            offset = offsets + 4 * row[BIAS] + ROW * t
            two_tiles(source, low, weight, row[GROUPS_IN], row[PARTS], offset, sums)
            write_rows(sums, out.ctypes.data, n, block, row[N_OUT], t)
    amx.release()
    memory.keep(space)


@jit
def _inputs(
    x: int, stride: int, n: int, block: int, n_in: int, target: int, low: int, at: int
) -> None:
    """Write the inputs of a block as left factors, and keep them from ``at`` on, if not 0."""
    kept_low = (n_in + 15) // 16 * TILE if low else 0
    for g in range((n_in + 31) // 32):
        two = 32 * g + 16 < n_in
        for r in range(16):
            row, offset = ROWS * block + r, 2 * g * TILE + ROW * r
            a = rows_of(x, stride, n, row, 32 * g, n_in)
            b = rows_of(x, stride, n, row, 32 * g + 16, n_in)
            c = rows_of(x, stride, n, row + 16, 32 * g, n_in)
            d = rows_of(x, stride, n, row + 16, 32 * g + 16, n_in)
            there = at + offset if at else 0
            pack_rows(stream, target + offset, low, there, kept_low, two, a, b, c, d)


@jit
def _hidden(
    weights: int,
    biases: int,
    row: Row,
    activation: int,
    source: int,
    target: int,
    low: int,
    sums: int,
    at: int,
) -> None:
    """From the left factors at ``source`` to those at ``target``, kept from ``at`` on, if not 0."""
    groups, tiles, parts = row[GROUPS_IN], row[TILES_OUT], row[PARTS]
    kept_low = tiles * TILE if low else 0
    for t in range(0, tiles, 2):
        right = weights + row[FORWARD] + t * groups * parts * TILE
        offsets = biases + 4 * row[BIAS] + ROW * t
        two = t + 1 < tiles
        if two:
            four_tiles(source, low, right, groups, offsets, sums)
        else:
            two_tiles(source, low, right, groups, parts, offsets, sums)
        activate(activation, parts == 2, sums, 4 * TILE)
        for r in range(0, TILE, ROW):
            a, b = memory.load(sums + r), memory.load(sums + TILE + r)
            c, d = memory.load(sums + 2 * TILE + r), memory.load(sums + 3 * TILE + r)
            there = at + t * TILE + r if at else 0
            pack_rows(stream, target + t * TILE + r, low, there, kept_low, two, a, b, c, d)
