"""Weights, and columns of a block, to words of two bfloat16 numbers each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import halves, memory
from bgfast_kernels.network.packing import rows_of
from bgfast_kernels.vector_network.layout import (
    BACKWARD,
    BIAS,
    COLUMN,
    FORWARD,
    HALF_COLUMN,
    N_IN,
    N_OUT,
    PANEL,
)
from bgfast_kernels.vector_network.packing import Bytes, Single, pack_panel

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
    """Write weights for the forward pass, those of the last layer as float32, and biases.

    The arguments are those of :func:`bgfast_kernels.vector_network.packing.pack_forward`.
    """
    count, last = len(addresses), len(table) - 1
    space = memory.scratch(_TILE)
    tile = memory.address(space)
    for i in range(start, stop):
        k, layer, p = panels[i]
        row = table[layer]
        n_in, n_out = row[N_IN], row[N_OUT]
        to = memory.address(packed) + k * (len(packed) // count) + 4 * row[FORWARD]
        bias = rows_of(addresses[k, last + 1 + layer], n_out, 1, 0, PANEL * p, n_out)
        if layer == last:
            pack_panel(addresses[k, layer], n_in, n_out, p, tile, to)
        else:
            bias = halves.first(halves.rounded(bias, bias))
            _pack_panel(addresses[k, layer], n_in, n_out, p, tile, to)
        to = memory.address(offsets) + 4 * (k * (len(offsets) // count) + row[BIAS] + PANEL * p)
        memory.store(to, bias)
    memory.keep(space)


@jit
def _pack_panel(weights: int, n_in: int, n_out: int, p: int, tile: int, to: int) -> None:
    """Write panel ``p`` of a hidden layer's outputs, as ``pack_panel`` does for float32."""
    tiles = -(-n_in // 32)
    for t in range(tiles):
        for o in range(16):
            first = rows_of(weights, n_in, n_out, 16 * p + o, 32 * t, n_in)
            second = rows_of(weights, n_in, n_out, 16 * p + o, 32 * t + 16, n_in)
            halves.store(tile + _VECTOR * o, halves.rounded(first, second))
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
        pairs = -(-n_out // 2)
        to = memory.address(packed) + k * size + 4 * (row[BACKWARD] + p * PANEL * pairs)
        for o in range(pairs):
            low = rows_of(addresses[k, layer], n_in, n_out, 2 * o, PANEL * p, n_in)
            high = rows_of(addresses[k, layer], n_in, n_out, 2 * o + 1, PANEL * p, n_in)
            words = halves.first_paired(halves.rounded(low, low), halves.rounded(high, high))
            halves.store(to + _VECTOR * o, words)


@jit
def to_pairs(columns: int, n_columns: int, pairs: int, apart: int) -> None:
    """Round columns of a block.

    Parameters
    ----------
    columns, n_columns
        Address of the first one, float32, and how many there are. The last one of an odd number is
        paired with zeros: what lies behind it may be NaN where numbers are infinite.
    pairs
        Address of where words go that two columns share.
    apart
        Address of where columns go one by one, or 0: nowhere.
    """
    for c in range(0, n_columns, 2):
        even, odd = columns + c * COLUMN, columns + (c + 1) * COLUMN
        low = halves.rounded(memory.load(even), memory.load(even + _VECTOR))
        high = halves.rounded(memory.fill(0), memory.fill(0))
        if c + 1 < n_columns:
            high = halves.rounded(memory.load(odd), memory.load(odd + _VECTOR))
        halves.store(pairs + c * HALF_COLUMN, halves.first_paired(low, high))
        halves.store(pairs + c * HALF_COLUMN + _VECTOR, halves.second_paired(low, high))
        if apart:
            halves.store(apart + c * HALF_COLUMN, low)
            halves.store(apart + (c + 1) * HALF_COLUMN, high)


@jit
def from_pairs(pairs: int, n_columns: int, columns: int) -> None:
    """Write columns that share words as float32; there is room for an even number."""
    for c in range(0, n_columns, 2):
        for half in (0, _VECTOR):
            words = pairs + c * HALF_COLUMN + half
            memory.store(columns + c * COLUMN + half, halves.low_halves(words))
            memory.store(columns + (c + 1) * COLUMN + half, halves.high_halves(words))
