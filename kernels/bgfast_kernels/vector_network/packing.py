"""Weights to panels, as float32 or as words of two bfloat16 numbers (see the layout)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import halves, memory
from bgfast_kernels.network.packing import rows_of
from bgfast_kernels.vector_network.columns import Bytes, Single
from bgfast_kernels.vector_network.layout import (
    BACKWARD,
    BIAS,
    FORWARD,
    N_IN,
    N_OUT,
    PANEL,
    ROUNDED,
)

_VECTOR = 4 * PANEL  # bytes
_TILE = 16 * _VECTOR


@jit
def pack_forward(
    start: int,
    stop: int,
    panels: NDArray[np.int64],
    addresses: NDArray[np.int64],
    table: NDArray[np.int64],
    parts: int,
    packed: Bytes,
    offsets: Single,
) -> None:
    """Write weights for the forward pass, and biases; those of the last layer are never rounded.

    Parameters
    ----------
    panels
        Networks, layers and panels of outputs; those from ``start`` to ``stop`` are worked on.
    addresses
        For every network, of the weights of all layers, then of their biases.
    table, parts
        Of the layout.
    packed, offsets
        Written, network by network.
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
        if parts == ROUNDED and layer < last:
            bias = halves.first(halves.rounded(bias, bias))
            _pack_pairs(addresses[k, layer], n_in, n_out, p, tile, to)
        else:
            _pack_whole(addresses[k, layer], n_in, n_out, p, tile, to)
        to = memory.address(offsets) + 4 * (k * (len(offsets) // count) + row[BIAS] + PANEL * p)
        memory.store(to, bias)
    memory.keep(space)


@jit
def _pack_whole(weights: int, n_in: int, n_out: int, p: int, tile: int, to: int) -> None:
    """Write panel ``p`` of a layer's outputs; ``to`` is where its panels begin.

    ``tile`` is the address of memory for a tile.
    """
    tiles = -(-n_in // 16)
    for t in range(tiles):
        for o in range(16):
            x = rows_of(weights, n_in, n_out, 16 * p + o, 16 * t, n_in)
            memory.store(tile + _VECTOR * o, x)
        memory.transpose_tile(tile, to + (p * tiles + t) * _TILE)


@jit
def _pack_pairs(weights: int, n_in: int, n_out: int, p: int, tile: int, to: int) -> None:
    """Write the same as words of two weights that follow each other."""
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
    parts: int,
    packed: Bytes,
) -> None:
    """Write weights for the backward pass; ``panels`` are those of inputs."""
    size = len(packed) // len(addresses)
    for i in range(start, stop):
        k, layer, p = panels[i]
        row, weights = table[layer], addresses[k, layer]
        n_in, n_out = row[N_IN], row[N_OUT]
        together = 2 if parts == ROUNDED else 1
        of_panel = -(-n_out // together) * _VECTOR
        to = memory.address(packed) + k * size + 4 * row[BACKWARD] + p * of_panel
        for o in range(0, n_out, together):
            x = rows_of(weights, n_in, n_out, o, PANEL * p, n_in)
            if parts == ROUNDED:
                y = rows_of(weights, n_in, n_out, o + 1, PANEL * p, n_in)
                words = halves.first_paired(halves.rounded(x, x), halves.rounded(y, y))
                halves.store(to, words)
            else:
                memory.store(to, x)
            to += _VECTOR
