"""Gradients of weights: sums over rows. Threads share out the weights, not the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import memory
from bgfast_kernels.vector_network import products
from bgfast_kernels.vector_network.columns import Bytes, Single
from bgfast_kernels.vector_network.layout import (
    GRADIENT,
    HALF_COLUMN,
    KEPT,
    N_IN,
    N_OUT,
    SQUARE,
    WEIGHT,
)

_VECTOR = 64


@jit
def weight_gradients(
    start: int,
    stop: int,
    squares: NDArray[np.int64],
    count: int,
    table: NDArray[np.int64],
    column: int,
    kept: Bytes,
    inputs: int,
    kept_of_network: int,
    kept_of_block: int,
    gradients: Bytes,
    gradients_of_network: int,
    gradients_of_block: int,
    origin: int,
    n_blocks: int,
    more: bool,
    by_weight: Single,
) -> None:
    """Sum over the rows of blocks from ``origin`` on, for some of the squares.

    Parameters
    ----------
    squares
        Of all weights of ``count`` networks.
    table, column
        Of the layout.
    kept, inputs, kept_of_network, kept_of_block
        What the forward pass kept, and its columns, as there.
    gradients, gradients_of_network, gradients_of_block
        What the backward pass wrote, of the ``n_blocks`` blocks from ``origin`` on.
    more
        Whether to add to the results, or to overwrite them.
    by_weight
        Gradients of the weights of all networks and layers, ``[n_out, n_in]`` each, flat.
    """
    right_step, left_step = kept_of_block * column, gradients_of_block * column
    n_weights = len(by_weight) // count
    for s in range(start, stop):
        k, layer, i, o = squares[s]
        row = table[layer]
        n_in, n_out = row[N_IN], row[N_OUT]
        columns = k * gradients_of_network + row[GRADIENT] + o
        left = memory.address(gradients) + columns * column
        columns = inputs + k * kept_of_network + row[KEPT] if layer else 0
        columns += origin * kept_of_block + i
        right = memory.address(kept) + columns * column
        # The next five inputs come from far away: squares of these fetch a line of each block.
        fives = SQUARE * column
        ahead = right + fives + o // SQUARE * _VECTOR % fives
        to = memory.address(by_weight) + 4 * (k * n_weights + row[WEIGHT] + o * n_in + i)
        blocks = left, left_step, right, right_step, n_blocks, ahead
        place = to, 4 * n_in, min(SQUARE, n_out - o), min(SQUARE, n_in - i)
        if column == HALF_COLUMN:
            products.square_of_pairs(*blocks, *place, more)
        else:
            products.square(*blocks, *place, more)
