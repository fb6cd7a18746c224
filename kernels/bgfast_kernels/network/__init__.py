"""A dense network with bfloat16 products, in one pass over its rows (processors with Intel AMX).

Numbers have one part or two:

1. Inputs, weights and biases of the hidden layers are rounded to bfloat16; products are summed up
   and activations evaluated in float32, and what goes into the next layer is rounded again. The
   weights of the last layer keep all digits of a float32. In the backward pass gradients and all
   weights are rounded.
2. Every number is the sum of two bfloat16 numbers, in both passes, which is float32 to about 1e-5.

Ask :func:`is_supported` first: it also asks the operating system for the unit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import parallel_rows
from bgfast_kernels.network import amx, memory
from bgfast_kernels.network.activation import KINDS
from bgfast_kernels.network.amx import TILE, is_supported
from bgfast_kernels.network.backward import backward as _backward
from bgfast_kernels.network.forward import forward as _forward
from bgfast_kernels.network.layout import (
    BIAS,
    N_IN,
    N_OUT,
    ROWS,
    TILES_IN,
    TILES_OUT,
    WEIGHT,
    Layout,
    columns,
    layout,
    n_blocks,
)
from bgfast_kernels.network.packing import pack_backward, pack_forward
from bgfast_kernels.network.recycling import Lasting, Recycled
from bgfast_kernels.network.weight_gradients import squares, sum_blocks, weight_gradients

__all__ = [
    "Gradients",
    "Packed",
    "Rows",
    "addresses",
    "backward",
    "forward",
    "is_supported",
    "kept_memory",
    "pack",
]

Single = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Blocks of the backward pass at a time: their gradients take 1.5 MB for three layers of 200.
_BLOCKS_AT_ONCE = 32
_LEAST_COLUMNS = 8  # tiles of columns worth a thread
_LEAST_PRODUCTS = 2**22  # products of numbers worth one
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


def addresses(*arrays: Single) -> NDArray[np.int64]:
    """Return where contiguous arrays lie in memory."""
    return np.array([array.ctypes.data for array in arrays], np.int64)


def pack(
    widths: tuple[int, ...],
    parameters: NDArray[np.int64],
    parts: int = 1,
    *,
    passing: bool = False,
) -> Packed:
    """Return the network's numbers as :func:`forward` takes them.

    Parameters
    ----------
    widths
        Columns of the inputs of all layers, and of the result.
    parameters
        Addresses of the float32 weights of all layers, ``[widths[i + 1], widths[i]]``, contiguous,
        then of their biases.
    parts
        How many bfloat16 numbers make a number, 1 or 2.
    passing
        Whether the next call of this thread may overwrite what is returned.
    """
    where = layout(widths, parts)
    if passing:
        packed = _lasting.take("forward", where.forward_bytes)
        numbers = _lasting.take("biases", 4 * where.biases).view(np.float32)
    else:
        packed = memory.scratch(where.forward_bytes)
        numbers = memory.scratch(4 * where.biases).view(np.float32)
    tiles = columns(widths, TILES_OUT)
    parallel_rows(
        pack_forward,
        len(tiles),
        *(tiles, parameters, where.table, parts, packed, numbers),
        min_rows=_LEAST_COLUMNS,
    )
    return Packed(widths, parts, packed, numbers)


def kept_memory(widths: tuple[int, ...], parts: int, n: int) -> Bytes:
    """Return memory for the inputs of all layers, for ``n`` rows; it begins at a cache line.

    The array itself has to be held as long as they are needed, as
    :meth:`bgfast_kernels.network.recycling.Recycled.take` says.
    """
    return _recycled.take(n_blocks(n) * layout(widths, parts).kept_tiles * TILE)


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
        :func:`kept_memory` for what :func:`backward` needs, if that is to come.

    Raises
    ------
    ValueError
        If ``kept`` does not begin at a cache line.
    """
    if kept is not None and kept.ctypes.data % 64:
        raise ValueError(
            "kept must begin at a cache line, as kept_memory does; this array does not"
        )
    if kept is None:
        _recycled.forget_idle()
    where = layout(packed.widths, packed.parts)
    out = np.empty(x.n * packed.widths[-1], np.float32)
    parallel_rows(
        _forward,
        n_blocks(x.n),
        *(x.numbers, x.stride, x.n, packed.weights, packed.biases),
        *(where.table, where.parts, where.groups),
        *(KINDS[activation], _CONFIGURATION, out),
        *(_NO_BYTES if kept is None else kept, where.kept_tiles),
        min_rows=_least_blocks(where),
    )
    return out.reshape(x.n, -1)


class Gradients(NamedTuple):
    """What :func:`backward` returns; empty where not asked for."""

    x: Single
    weights: list[Single]
    biases: list[Single]


def backward(
    widths: tuple[int, ...],
    parameters: NDArray[np.int64],
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
    widths, parameters
        As :func:`pack` takes them; biases are not needed.
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
    where = layout(widths, parts)
    packed = _lasting.take("backward", where.backward_bytes)
    tiles = columns(widths, TILES_IN)
    parallel_rows(
        pack_backward,
        len(tiles),
        *(tiles, parameters, where.table, parts, packed),
        min_rows=_LEAST_COLUMNS,
    )
    blocks = n_blocks(grad.n)
    at_once = min(blocks, _BLOCKS_AT_ONCE)
    gradients = _lasting.take("gradients", at_once * where.gradient_tiles * TILE)
    bias_sums = _lasting.take("sums", 4 * at_once * where.biases).view(np.float32)
    grad_x = np.empty(grad.n * widths[0], np.float32) if needs_x else _NO_NUMBERS
    grad_weights = np.empty(where.weights if needs_parameters else 0, np.float32)
    grad_biases = np.zeros(where.biases)  # many blocks, one after the other: in float64
    parted = squares(widths)
    for origin in range(0, blocks, at_once):
        n = min(at_once, blocks - origin)
        parallel_rows(
            _backward,
            n,
            *(origin, grad.numbers, grad.stride, grad.n, packed),
            *(where.table, where.parts, where.groups),
            *(KINDS[activation], _CONFIGURATION, kept, where.kept_tiles),
            *(gradients, where.gradient_tiles, bias_sums, where.biases, grad_x),
            min_rows=_least_blocks(where),
        )
        if needs_parameters:
            parallel_rows(
                weight_gradients,
                len(parted),
                *(parted, where.table, parts, _CONFIGURATION, kept, where.kept_tiles),
                *(gradients, where.gradient_tiles, origin, n, origin > 0, grad_weights),
                min_rows=max(1, _LEAST_PRODUCTS // (n * 32**3)),
            )
            sum_blocks(bias_sums, where.biases, n, grad_biases)
    by_row = grad_x.reshape(-1, widths[0])
    if not needs_parameters:
        return Gradients(by_row, [], [])
    ends = [*where.table[1:, WEIGHT], where.weights]
    by_layer = zip(where.table, ends, strict=True)
    return Gradients(
        by_row,
        [grad_weights[row[WEIGHT] : end].reshape(row[N_OUT], row[N_IN]) for row, end in by_layer],
        [grad_biases[row[BIAS] : row[BIAS] + row[N_OUT]].astype(np.float32) for row in where.table],
    )


def _least_blocks(where: Layout) -> int:
    """Return how many blocks of rows are worth a thread."""
    return max(1, _LEAST_PRODUCTS // (ROWS * where.weights))


_lasting = Lasting()
_recycled = Recycled()
