"""Gradients of the layers' results from products of bfloat16 numbers, last layer to first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import halves, memory
from bgfast_kernels.network.activation import derivative
from bgfast_kernels.vector_network import products
from bgfast_kernels.vector_network.columns import (
    Bytes,
    Single,
    read_rows,
    sum_columns,
    to_pairs,
    write_rows,
)
from bgfast_kernels.vector_network.layout import (
    BACKWARD,
    BIAS,
    COLUMN,
    GRADIENT,
    HALF_COLUMN,
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

    The arguments are those of :func:`bgfast_kernels.vector_network.backward.backward`.
    """
    room = widest + PANEL
    space = memory.scratch(2 * room * COLUMN + 33 * _VECTOR)
    columns = memory.address(space)
    pairs = columns + room * COLUMN
    next_pairs = pairs + room * HALF_COLUMN
    tiles = next_pairs + room * HALF_COLUMN
    none = tiles + 32 * _VECTOR
    memory.store(none, memory.fill(0))
    count, last = len(activations), len(table) - 1
    n_blocks = stop - start
    for turn in range(count * n_blocks):
        k, i = turn // n_blocks, start + turn % n_blocks
        block = origin + i
        right = memory.address(weights) + k * (len(weights) // count)
        kept_before = block * kept_of_block + inputs + k * kept_of_network
        own = memory.address(kept) + kept_before * HALF_COLUMN
        gradients_before = i * gradients_of_block + k * gradients_of_network
        to = memory.address(gradients) + gradients_before * HALF_COLUMN
        added = memory.address(sums) + 4 * (i * count + k) * sums_of_network
        given = memory.address(grad) + 4 * k * n * stride
        n_out = table[last, N_OUT]
        read_rows(given, stride, n, block, n_out, False, columns, tiles)
        sum_columns(columns, n_out, added + 4 * table[last, BIAS])
        to_pairs(columns, n_out, pairs, to + table[last, GRADIENT] * HALF_COLUMN)
        for layer in range(last, 0, -1):
            row, before = table[layer], table[layer - 1]
            apart = to + before[GRADIENT] * HALF_COLUMN
            results = own + row[KEPT] * HALF_COLUMN
            sums_at = added + 4 * before[BIAS]
            _layer(
                *(pairs, row, right, none, activations[k], results),
                *(columns, sums_at, next_pairs, apart),
            )
            pairs, next_pairs = next_pairs, pairs
        if len(grad_x):
            _inputs(pairs, table[0], right, none, columns)
            at, n_in = memory.address(grad_x), table[0, N_IN]
            write_rows(columns, n_in, at, grad_x_stride, n, block, tiles, more or k > 0)
    memory.keep(space)


@jit
def _layer(
    source: int,
    row: NDArray[np.int64],
    weights: int,
    none: int,
    activation: int,
    results: int,
    eight: int,
    sums: int,
    target: int,
    apart: int,
) -> None:
    """Write the gradient of a layer's inputs.

    Parameters
    ----------
    source
        Address of the gradient of the layer's results, pairs of columns.
    row, weights
        Of the table, and address of the weights of the network.
    none
        Address of eight zeros.
    activation, results
        What the inputs have been through, and address of its results.
    eight
        Address of memory for the columns that a product makes.
    sums
        Address of where sums over rows go.
    target, apart
        Addresses of where pairs of columns go, for the next product, and columns one by one, for
        those that sum over rows.
    """
    n_in = row[N_IN]
    for t in range(-(-n_in // TOGETHER)):
        columns = t * TOGETHER * HALF_COLUMN
        for i in range(TOGETHER):  # they come from far away
            memory.prefetch(results + columns + _VECTOR * i)
        _multiply(source, row, weights, none, t, eight)
        for i in range(TOGETHER):
            kept = halves.load(results + columns + HALF_COLUMN * i)
            place = eight + COLUMN * i
            slope = derivative(activation, halves.first(kept))
            memory.store(place, memory.load(place) * slope)
            slope = derivative(activation, halves.second(kept))
            memory.store(place + _VECTOR, memory.load(place + _VECTOR) * slope)
        n_columns = min(TOGETHER, n_in - TOGETHER * t)
        sum_columns(eight, n_columns, sums + 4 * TOGETHER * t)
        to_pairs(eight, n_columns, target + columns, apart + columns)


@jit
def _inputs(source: int, row: NDArray[np.int64], weights: int, none: int, columns: int) -> None:
    """Write the columns of the gradient of a network's inputs, float32."""
    for t in range(-(-row[N_IN] // TOGETHER)):
        _multiply(source, row, weights, none, t, columns + t * TOGETHER * COLUMN)


@jit
def _multiply(
    source: int, row: NDArray[np.int64], weights: int, none: int, t: int, target: int
) -> None:
    """Write the ``t``-th eight columns of the gradient of a layer's inputs."""
    pairs = -(-row[N_OUT] // 2)
    at = weights + 4 * (row[BACKWARD] + t // 2 * PANEL * pairs + t % 2 * TOGETHER)
    products.multiply_pairs(source, at, pairs, none, target)
