"""Gradients of the layers' results, network by network and block by block, last layer to first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import memory
from bgfast_kernels.network.activation import derivative
from bgfast_kernels.vector_network import products
from bgfast_kernels.vector_network.columns import Bytes, Single, read_rows, sum_columns, write_rows
from bgfast_kernels.vector_network.layout import (
    BACKWARD,
    BIAS,
    COLUMN,
    GRADIENT,
    KEPT,
    N_IN,
    N_OUT,
    PANEL,
    TOGETHER,
)

_VECTOR = 64


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
    widest: int,
    activations: NDArray[np.int64],
    kept: Bytes,
    inputs: int,
    kept_of_network: int,
    kept_of_block: int,
    gradients: Bytes,
    gradients_of_network: int,
    gradients_of_block: int,
    sums: Single,
    sums_of_network: int,
    grad_x: Single,
    grad_x_stride: int,
    more: bool,
) -> None:
    """Work on the blocks from ``origin + start`` up to ``origin + stop``, network by network.

    Parameters
    ----------
    grad, stride, n
        Gradients of the networks' results, flat, rows ``stride`` numbers apart, and how many; those
        of the next network follow after ``stride * n``.
    weights
        Packed for the backward pass, of one network after another.
    table, widest
        Of the layout.
    activations
        ``RELU`` or ``TANH``, of every network.
    kept, inputs, kept_of_network, kept_of_block
        What the forward pass kept, and its columns, as there.
    gradients, gradients_of_network, gradients_of_block
        Written: the gradients of all layers' results, for blocks from ``origin`` on; and how many
        columns a network has and a block.
    sums, sums_of_network
        Written: their sums over the rows of each of these blocks, where biases have their places;
        and how many these are.
    grad_x, grad_x_stride, more
        Written, or with ``more`` added to: the gradient of the inputs, rows so many numbers apart;
        empty if not wanted.
    """
    space = memory.scratch((widest + PANEL) * COLUMN + 33 * _VECTOR)
    inputs_at = memory.address(space)
    room = inputs_at + (widest + PANEL) * COLUMN
    none = room + 32 * _VECTOR
    memory.store(none, memory.fill(0))
    count, last = len(activations), len(table) - 1
    n_blocks = stop - start
    for turn in range(count * n_blocks):
        k, i = turn // n_blocks, start + turn % n_blocks
        block = origin + i
        right = memory.address(weights) + k * (len(weights) // count)
        columns = block * kept_of_block + inputs + k * kept_of_network
        own = memory.address(kept) + columns * COLUMN
        columns = i * gradients_of_block + k * gradients_of_network
        to = memory.address(gradients) + columns * COLUMN
        added = memory.address(sums) + 4 * (i * count + k) * sums_of_network
        given = memory.address(grad) + 4 * k * n * stride
        source, n_out = to + table[last, GRADIENT] * COLUMN, table[last, N_OUT]
        read_rows(given, stride, n, block, n_out, False, source, room)
        sum_columns(source, n_out, added + 4 * table[last, BIAS])
        for layer in range(last, 0, -1):
            row, before = table[layer], table[layer - 1]
            target = to + before[GRADIENT] * COLUMN
            results = own + row[KEPT] * COLUMN
            _layer(source, row, right, none, target, activations[k], results)
            sum_columns(target, before[N_OUT], added + 4 * before[BIAS])
            source = target
        if len(grad_x):
            _layer(source, table[0], right, none, inputs_at, activations[k], 0)
            at, n_in = memory.address(grad_x), table[0, N_IN]
            write_rows(inputs_at, n_in, at, grad_x_stride, n, block, room, more or k > 0)
    memory.keep(space)


@jit
def _layer(
    source: int,
    row: NDArray[np.int64],
    weights: int,
    none: int,
    target: int,
    activation: int,
    results: int,
) -> None:
    """Write the columns of the gradient of a layer's inputs.

    ``none`` is where eight zeros are; ``results``, if not 0, where the results of the activation
    are that the inputs have been through.
    """
    n_out = row[N_OUT]
    right = weights + 4 * row[BACKWARD]
    for t in range(-(-row[N_IN] // TOGETHER)):
        at = right + 4 * (t // 2 * PANEL * n_out + t % 2 * TOGETHER)
        columns = t * TOGETHER * COLUMN
        if results:  # they come from far away
            for i in range(2 * TOGETHER):
                memory.prefetch(results + columns + _VECTOR * i)
        products.multiply(source, at, n_out, none, target + columns)
        if results:
            for i in range(2 * TOGETHER):
                place = columns + _VECTOR * i
                slope = derivative(activation, memory.load(results + place))
                memory.store(target + place, memory.load(target + place) * slope)
