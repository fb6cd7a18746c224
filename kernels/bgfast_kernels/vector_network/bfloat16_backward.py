"""Gradients of the layers' results from products of bfloat16 numbers, last layer to first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import halves, memory
from bgfast_kernels.network.activation import derivative
from bgfast_kernels.vector_network import products
from bgfast_kernels.vector_network.bfloat16_packing import to_pairs
from bgfast_kernels.vector_network.layout import (
    BACKWARD,
    COLUMN,
    GRADIENT,
    HALF_COLUMN,
    KEPT,
    N_IN,
    N_OUT,
    PANEL,
    TOGETHER,
)
from bgfast_kernels.vector_network.packing import Bytes, Single, read_rows, write_rows

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
    grad_x: Single,
    grad_x_stride: int,
    more: bool,
) -> None:
    """Work on the blocks from ``origin + start`` up to ``origin + stop``, network by network.

    The arguments are those of :func:`bgfast_kernels.vector_network.backward.backward`.
    """
    room = widest + 16
    space = memory.scratch(2 * room * COLUMN + 33 * _VECTOR)
    columns = memory.address(space)
    first = columns + room * COLUMN
    second = first + room * HALF_COLUMN
    tiles = second + room * HALF_COLUMN
    none = tiles + 32 * _VECTOR
    memory.store(none, memory.fill(0))
    count, last = len(activations), len(table) - 1
    n_blocks = stop - start
    for turn in range(count * n_blocks):
        k, i = turn // n_blocks, start + turn % n_blocks
        block = origin + i
        right = memory.address(weights) + k * (len(weights) // count)
        before = block * kept_of_block + inputs + k * kept_of_network
        own = memory.address(kept) + before * HALF_COLUMN
        before = i * gradients_of_block + k * gradients_of_network
        to = memory.address(gradients) + before * HALF_COLUMN
        given = memory.address(grad) + 4 * k * n * stride
        n_out = table[last, N_OUT]
        read_rows(given, stride, n, block, n_out, columns, tiles)
        source, target = first, second
        to_pairs(columns, n_out, source, to + table[last, GRADIENT] * HALF_COLUMN)
        for layer in range(last, 0, -1):
            row = table[layer]
            apart = to + table[layer - 1, GRADIENT] * HALF_COLUMN
            results = own + row[KEPT] * HALF_COLUMN
            _layer(source, row, right, none, activations[k], results, columns, target, apart)
            source, target = target, source
        if len(grad_x):
            _inputs(source, table[0], right, none, columns)
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
    sums: int,
    target: int,
    apart: int,
) -> None:
    """Write the columns of the gradient of a layer's inputs, in pairs and one by one.

    ``none`` is where eight zeros are, ``results`` where the results of the activation are that the
    inputs have been through, and ``sums`` the address of memory for what a product makes.
    """
    for t in range(-(-row[N_IN] // TOGETHER)):
        columns = t * TOGETHER * HALF_COLUMN
        for i in range(TOGETHER):  # they come from far away
            memory.prefetch(results + columns + _VECTOR * i)
        _multiply(source, row, weights, none, t, sums)
        for i in range(TOGETHER):
            kept = halves.load(results + columns + HALF_COLUMN * i)
            place = sums + COLUMN * i
            slope = derivative(activation, halves.first(kept))
            memory.store(place, memory.load(place) * slope)
            slope = derivative(activation, halves.second(kept))
            memory.store(place + _VECTOR, memory.load(place + _VECTOR) * slope)
        to_pairs(sums, TOGETHER, target + columns, apart + columns)


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
