"""Networks of the same inputs, one after the other, each block of rows by block of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import memory
from bgfast_kernels.network.activation import activated
from bgfast_kernels.vector_network import products
from bgfast_kernels.vector_network.columns import Bytes, Single, read_rows, write_rows
from bgfast_kernels.vector_network.layout import (
    BIAS,
    COLUMN,
    FORWARD,
    KEPT,
    N_IN,
    N_OUT,
    PANEL,
    TOGETHER,
)

_FLOAT32 = 3  # parts of a number whose digits are all of a float32's
_VECTOR = 64
NO_ACTIVATION = -1


@jit
def forward(
    start: int,
    stop: int,
    x: Single,
    stride: int,
    n: int,
    weights: Bytes,
    offsets: Single,
    table: NDArray[np.int64],
    widest: int,
    activations: NDArray[np.int64],
    out: Single,
    kept: Bytes,
    inputs: int,
    kept_of_network: int,
    kept_of_block: int,
) -> None:
    """Map the rows of blocks ``start <= block < stop`` through every network.

    Parameters
    ----------
    x, stride, n
        Inputs, flat, rows ``stride`` numbers apart, and how many rows there are.
    weights, offsets
        Packed weights and biases, of one network after another.
    table, widest
        Of the layout.
    activations
        ``RELU`` or ``TANH``, of every network.
    out
        Results ``[network, n, n_out]``, flat.
    kept
        Inputs of all layers, for the backward pass; empty if there is none.
    inputs, kept_of_network, kept_of_block
        Columns of the inputs, of the later layers of a network, and of all networks.
    """
    space = memory.scratch((2 * widest + PANEL) * COLUMN + 32 * _VECTOR)
    first = memory.address(space)
    second = first + widest * COLUMN
    room = second + (widest + PANEL) * COLUMN
    count, last = len(activations), len(table) - 1
    keeps = len(kept) > 0
    n_blocks = stop - start
    for turn in range(count * n_blocks):
        k, block = turn // n_blocks, start + turn % n_blocks
        right = memory.address(weights) + k * (len(weights) // count)
        added = memory.address(offsets) + 4 * k * (len(offsets) // count)
        at = memory.address(kept) + block * kept_of_block * COLUMN
        source = at if keeps else first
        if k == 0 or not keeps:
            read_rows(memory.address(x), stride, n, block, table[0, N_IN], True, source, room)
        for layer in range(last):
            target = second if source == first else first
            if keeps:
                of_network = inputs + k * kept_of_network
                target = at + (of_network + table[layer + 1, KEPT]) * COLUMN
            whole_layer(source, table[layer], right, added, target, activations[k])
            source = target
        # Not where the result lies between columns that are kept: there is room for whole tiles.
        target = second if source == first else first
        n_out = table[last, N_OUT]
        whole_layer(source, table[last], right, added, target, NO_ACTIVATION)
        to = memory.address(out) + 4 * k * n * n_out
        write_rows(target, n_out, to, n_out, n, block, room, False)
    memory.keep(space)


@jit
def whole_layer(
    source: int, row: NDArray[np.int64], weights: int, offsets: int, target: int, activation: int
) -> None:
    """Write the columns of a layer's results; ``activation`` may be ``NO_ACTIVATION``."""
    n_in, n_out = row[N_IN], row[N_OUT]
    panel = 4 * PANEL * (-(-n_in // PANEL) * PANEL)
    right, added = weights + 4 * row[FORWARD], offsets + 4 * row[BIAS]
    for t in range(-(-n_out // TOGETHER)):
        at = right + t // 2 * panel + t % 2 * 4 * TOGETHER
        to = target + t * TOGETHER * COLUMN
        products.multiply(source, at, n_in, added + 4 * TOGETHER * t, to)
        if activation != NO_ACTIVATION:
            for i in range(2 * TOGETHER):
                x = memory.load(to + _VECTOR * i)
                memory.store(to + _VECTOR * i, activated(activation, _FLOAT32, x))
