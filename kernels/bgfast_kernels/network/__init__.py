"""A dense network with bfloat16 products, in one pass over its rows (processors with Intel AMX).

Inputs, weights and biases of the hidden layers are rounded to bfloat16; products are summed up and
activations evaluated in float32, and what goes into the next layer is rounded again. The weights of
the last layer keep all digits of a float32. In the backward pass the gradients that go into
products are rounded to bfloat16, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import parallel_rows
from bgfast_kernels.network import amx
from bgfast_kernels.network.activation import KINDS
from bgfast_kernels.network.amx import TILE, is_supported
from bgfast_kernels.network.backward import backward as _backward
from bgfast_kernels.network.forward import forward as _forward
from bgfast_kernels.network.layout import (
    BACKWARD,
    BIAS,
    FORWARD,
    N_IN,
    N_OUT,
    PARTS,
    WEIGHT,
    layout,
    n_blocks,
)
from bgfast_kernels.network.packing import pack_bias, pack_transposed, pack_weights
from bgfast_kernels.network.weight_gradients import squares, sum_blocks, weight_gradients

__all__ = ["Packed", "Rows", "backward", "forward", "is_supported", "kept_bytes", "pack"]

Single = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Blocks of the backward pass at a time: their gradients take 1.5 MB for three layers of 200.
_BLOCKS_AT_ONCE = 32
_CONFIGURATION = amx.configuration()
_NO_BYTES = np.empty(0, np.uint8)
_NO_NUMBERS = np.empty(0, np.float32)


class Rows(NamedTuple):
    """``n`` rows of float32 in ``numbers``, flat, the first numbers of rows ``stride`` apart."""

    numbers: Single
    stride: int
    n: int


class Packed(NamedTuple):
    """Weights and biases of a network, for the forward pass."""

    widths: tuple[int, ...]
    parts: int
    weights: Bytes
    biases: Single


def pack(weights: Sequence[Single], biases: Sequence[Single], parts: int = 1) -> Packed:
    """Return the network's numbers as :func:`forward` takes them.

    Parameters
    ----------
    weights, biases
        Of every layer, ``[widths[i + 1], widths[i]]`` and ``[widths[i + 1]]``, contiguous.
    parts
        How many bfloat16 numbers make a number, 1 or 2.
    """
    widths = _widths(weights)
    where = layout(widths, parts)
    packed, numbers = _aligned(where.forward_bytes), _aligned(4 * where.biases).view(np.float32)
    last = len(weights) - 1
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        row = where.table[i]
        pack_weights(weight.reshape(-1), *weight.shape, row[PARTS], packed, row[FORWARD])
        pack_bias(bias, parts == 1 and i < last, numbers, row[BIAS])
    return Packed(widths, parts, packed, numbers)


def kept_bytes(widths: tuple[int, ...], parts: int, n: int) -> int:
    """Return how many bytes the inputs of all layers take, for ``n`` rows."""
    return n_blocks(n) * layout(widths, parts).kept_tiles * TILE


def forward(packed: Packed, x: Rows, activation: str, kept: Bytes | None = None) -> Single:
    """Return the network's result for every row, ``[n, n_out]``.

    Parameters
    ----------
    packed
        The network.
    x
        Inputs.
    activation
        ``"relu"`` or ``"tanh"``, after every layer but the last.
    kept
        Memory of :func:`kept_bytes` bytes for what :func:`backward` needs, if that is to come;
        better at the beginning of a cache line.
    """
    where = layout(packed.widths, packed.parts)
    out = np.empty(x.n * packed.widths[-1], np.float32)
    parallel_rows(
        _forward,
        n_blocks(x.n),
        *(x.numbers, x.stride, x.n, packed.weights, packed.biases),
        *(where.table, where.parts, where.groups),
        *(KINDS[activation], _CONFIGURATION, out),
        *(_NO_BYTES if kept is None else kept, where.kept_tiles),
        min_rows=1,
    )
    return out.reshape(x.n, -1)


class Gradients(NamedTuple):
    """What :func:`backward` returns; ``x`` is empty and the others are if not asked for."""

    x: Single
    weights: list[Single]
    biases: list[Single]


def backward(
    weights: Sequence[Single],
    activation: str,
    grad: Rows,
    kept: Bytes,
    needs_x: bool,
    needs_parameters: bool,
    parts: int = 1,
) -> Gradients:
    """Return the gradients of the inputs, weights and biases.

    Parameters
    ----------
    weights
        Of every layer, contiguous.
    activation
        As in the forward pass.
    grad
        Gradient of the result.
    kept
        What :func:`forward` kept.
    needs_x, needs_parameters
        Which gradients are wanted.
    parts
        As in the forward pass.
    """
    widths = _widths(weights)
    where = layout(widths, parts)
    packed = _aligned(where.backward_bytes)
    for i, weight in enumerate(weights):
        pack_transposed(weight.reshape(-1), *weight.shape, parts, packed, where.table[i, BACKWARD])
    blocks = n_blocks(grad.n)
    at_once = min(blocks, _BLOCKS_AT_ONCE)
    gradients = _aligned(at_once * where.gradient_tiles * TILE)
    bias_sums = np.empty(at_once * where.biases, np.float32)
    grad_x = np.empty(grad.n * widths[0], np.float32) if needs_x else _NO_NUMBERS
    grad_weights = np.empty(where.weights, np.float32)
    grad_biases = np.zeros(where.biases, np.float32)
    for origin in range(0, blocks, at_once):
        n = min(at_once, blocks - origin)
        parallel_rows(
            _backward,
            n,
            *(origin, grad.numbers, grad.stride, grad.n, packed),
            *(where.table, where.parts, where.groups),
            *(KINDS[activation], _CONFIGURATION, kept, where.kept_tiles),
            *(gradients, where.gradient_tiles, bias_sums, where.biases, grad_x),
            min_rows=1,
        )
        if needs_parameters:
            parallel_rows(
                weight_gradients,
                len(squares(widths, parts)),
                *(
                    squares(widths, parts),
                    where.table,
                    parts,
                    _CONFIGURATION,
                    kept,
                    where.kept_tiles,
                ),
                *(gradients, where.gradient_tiles, origin, n, origin > 0, grad_weights),
                min_rows=1,
            )
            sum_blocks(bias_sums, where.biases, n, grad_biases)
    ends = [*where.table[1:, WEIGHT], where.weights]
    by_layer = zip(where.table, ends, strict=True)
    return Gradients(
        grad_x.reshape(-1, widths[0]),
        [grad_weights[row[WEIGHT] : end].reshape(row[N_OUT], row[N_IN]) for row, end in by_layer],
        [grad_biases[row[BIAS] : row[BIAS] + row[N_OUT]] for row in where.table],
    )


def _widths(weights: Sequence[Single]) -> tuple[int, ...]:
    return (weights[0].shape[1], *(len(weight) for weight in weights))


def _aligned(n_bytes: int) -> Bytes:
    """Return memory that begins at a cache line."""
    memory = np.empty(n_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes]
