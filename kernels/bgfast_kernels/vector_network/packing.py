"""Rows to columns of blocks and back, and weights to panels (see the layout)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import memory
from bgfast_kernels.network.packing import rows_of
from bgfast_kernels.vector_network.layout import (
    BACKWARD,
    BIAS,
    COLUMN,
    FORWARD,
    N_IN,
    N_OUT,
    PANEL,
    ROWS,
    TOGETHER,
)

Bytes = NDArray[np.uint8]
Single = NDArray[np.float32]

_VECTOR = 4 * PANEL  # bytes of a vector
_TILE = 16 * _VECTOR


@jit
def pack_forward(
    start: int,
    stop: int,
    panels: NDArray[np.int64],
    addresses: NDArray[np.int64],
    table: NDArray[np.int64],
    packed: Bytes,
    offsets: Single,
) -> None:
    """Write weights for the forward pass, and biases.

    Parameters
    ----------
    panels
        Networks, layers and panels of outputs; those from ``start`` to ``stop`` are worked on.
    addresses
        For every network, of the weights of all layers, then of their biases.
    table
        Of the layout.
    packed, offsets
        Written, network by network.
    """
    count, n_layers = len(addresses), len(table)
    space = memory.scratch(_TILE)
    tile = memory.address(space)
    for i in range(start, stop):
        k, layer, p = panels[i]
        row = table[layer]
        n_in, n_out = row[N_IN], row[N_OUT]
        to = memory.address(packed) + k * (len(packed) // count) + 4 * row[FORWARD]
        pack_panel(addresses[k, layer], n_in, n_out, p, tile, to)
        to = memory.address(offsets) + 4 * (k * (len(offsets) // count) + row[BIAS] + PANEL * p)
        memory.store(to, rows_of(addresses[k, n_layers + layer], n_out, 1, 0, PANEL * p, n_out))
    memory.keep(space)


@jit
def pack_panel(weights: int, n_in: int, n_out: int, p: int, tile: int, to: int) -> None:
    """Write panel ``p`` of a layer's outputs; ``to`` is where its panels begin.

    ``tile`` is the address of memory for a tile.
    """
    tiles = -(-n_in // 16)
    for t in range(tiles):
        for o in range(16):
            memory.store(
                tile + _VECTOR * o, rows_of(weights, n_in, n_out, 16 * p + o, 16 * t, n_in)
            )
        memory.transpose_tile(tile, to + (p * tiles + t) * _TILE)


@jit
def pack_backward(
    start: int,
    stop: int,
    panels: NDArray[np.int64],
    addresses: NDArray[np.int64],
    table: NDArray[np.int64],
    packed: Bytes,
) -> None:
    """Write weights for the backward pass; ``panels`` are those of inputs."""
    size = len(packed) // len(addresses)
    for i in range(start, stop):
        k, layer, p = panels[i]
        row = table[layer]
        n_in, n_out = row[N_IN], row[N_OUT]
        to = memory.address(packed) + k * size + 4 * (row[BACKWARD] + p * PANEL * n_out)
        for o in range(n_out):
            x = rows_of(addresses[k, layer], n_in, n_out, o, PANEL * p, n_in)
            memory.store(to + _VECTOR * o, x)


@jit
def sum_columns(columns: int, n_columns: int, sums: int) -> None:
    """Write the sums over the rows of a block; eight and eight columns, to a multiple of eight."""
    for t in range(-(-n_columns // TOGETHER)):
        total = memory.sums_of_columns(columns + t * TOGETHER * COLUMN)
        memory.store_some(sums + 4 * TOGETHER * t, TOGETHER, total)


@jit
def read_rows(
    numbers: int,
    stride: int,
    n: int,
    block: int,
    n_columns: int,
    repeat: bool,
    target: int,
    space: int,
) -> None:
    """Write the columns of a block of rows from ``target`` on.

    Parameters
    ----------
    numbers, stride, n
        Address of the first row, numbers from one row to the next, and how many there are.
    n_columns
        How many are read; others that there is room for are zeros.
    repeat
        Whether rows beyond the last are copies of it, or zeros. Inputs are copies: zeros might be
        too much for a network that the rows are not, and not a number times no gradient is not 0.
    space
        Address of memory for two tiles.
    """
    for t in range(-(-n_columns // 16)):
        for half in range(2):
            for r in range(16):
                row = ROWS * block + 16 * half + r
                if repeat:
                    row = min(row, n - 1)
                x = rows_of(numbers, stride, n, row, 16 * t, n_columns)
                memory.store(space + _VECTOR * r, x)
            to = target + 16 * t * COLUMN + half * _VECTOR
            if n_columns > 16 * t + 8:
                memory.transpose(space, to, COLUMN)
            else:
                _transpose_half(space, to)


@jit
def _transpose_half(space: int, to: int) -> None:
    """Write the first eight columns of a tile alone: there is no room for others."""
    memory.transpose_tile(space, space + _TILE)
    for c in range(8):
        memory.store(to + c * COLUMN, memory.load(space + _TILE + _VECTOR * c))


@jit
def write_rows(
    source: int,
    n_columns: int,
    numbers: int,
    stride: int,
    n: int,
    block: int,
    space: int,
    more: bool,
) -> None:
    """Copy the columns of a block to rows, as :func:`read_rows` takes them.

    ``more`` adds to what is there; ``space`` is the address of memory for two tiles.
    """
    for t in range(-(-n_columns // 16)):
        count = min(16, n_columns - 16 * t)
        for half in range(2):
            for c in range(16):
                x = memory.load(source + (16 * t + c) * COLUMN + half * _VECTOR)
                memory.store(space + _VECTOR * c, x)
            memory.transpose_tile(space, space + _TILE)
            first = ROWS * block + 16 * half
            for r in range(min(16, n - first)):
                x = memory.load(space + _TILE + _VECTOR * r)
                at = numbers + 4 * ((first + r) * stride + 16 * t)
                if more:
                    x = memory.load_some(at, count) + x
                memory.store_some(at, count, x)
