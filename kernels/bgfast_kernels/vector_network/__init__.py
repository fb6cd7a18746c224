"""Dense networks on the processor's vector units, each in one pass over its rows.

A block of 32 rows goes from the first layer to the last, so that activations stay in a core's
cache. Lanes are samples: columns are filled up to a multiple of eight at most, rows to one of 32.
:mod:`bgfast_kernels.network` does the same on a matrix unit, with the same functions.

Numbers are float32 (:data:`WHOLE`), or rounded to bfloat16 (:data:`ROUNDED`) as on the matrix unit,
which halves the time of products. Ask :func:`is_supported` first.
"""

from __future__ import annotations

import functools

import llvmlite.binding
import numpy as np
from numba.core.registry import cpu_target
from numpy.typing import NDArray

from bgfast_kernels.cpu import parallel_rows
from bgfast_kernels.network.arrays import (
    Gradients,
    Rows,
    Single,
    check,
    gradients_of,
    kinds,
    results_of,
)
from bgfast_kernels.network.packed import Packed, addresses, memory_for
from bgfast_kernels.network.recycling import (
    Lasting,
    forget_idle_memory,
    forget_memory,
    of_activations,
    of_gradients,
)
from bgfast_kernels.network.weight_gradients import sum_blocks
from bgfast_kernels.vector_network.backward import backward as whole_backward
from bgfast_kernels.vector_network.bfloat16_backward import backward as rounded_backward
from bgfast_kernels.vector_network.bfloat16_forward import forward as rounded_forward
from bgfast_kernels.vector_network.forward import forward as whole_forward
from bgfast_kernels.vector_network.layout import (
    COLUMN,
    N_IN,
    N_OUT,
    ROUNDED,
    ROWS,
    SQUARE,
    WHOLE,
    Layout,
    layout,
    n_blocks,
    panels,
    squares,
)
from bgfast_kernels.vector_network.packing import pack_backward, pack_forward
from bgfast_kernels.vector_network.weight_gradients import weight_gradients

__all__ = [
    "ROUNDED",
    "WHOLE",
    "Gradients",
    "Packed",
    "Rows",
    "addresses",
    "backward",
    "forget_memory",
    "forward",
    "is_supported",
    "kept_memory",
    "pack",
]

Bytes = NDArray[np.uint8]

# Of the backward pass, in float32: the gradients of a layer stay in a second cache. Those in
# bfloat16, of twice as many, take as much room.
_BLOCKS_AT_ONCE = 16
_LEAST_PRODUCTS = 2**21  # products of numbers worth a thread
_LEAST_PANELS = 8
_LEAST_BIASES = 512  # worth a thread
_SPARE_COLUMNS = SQUARE - 1  # that squares may read behind the last one
_LEAST_LLVM = 16  # before, the rounding instruction returned integers
_FORWARD = {WHOLE: whole_forward, ROUNDED: rounded_forward}
_BACKWARD = {WHOLE: whole_backward, ROUNDED: rounded_backward}
_NO_NUMBERS = np.empty(0, np.float32)
_NO_BYTES = np.empty(0, np.uint8)


@functools.cache
def is_supported(parts: int = WHOLE) -> bool:
    """Return whether numba compiles for AVX-512, for ``ROUNDED`` also for products of bfloat16."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    if parts == WHOLE:
        return "+avx512f" in features
    recent = llvmlite.binding.llvm_version_info[0] >= _LEAST_LLVM
    return recent and {"+avx512f", "+avx512bw", "+avx512bf16"} <= set(features)


def pack(
    widths: tuple[int, ...],
    parameters: NDArray[np.int64],
    parts: int,
    *,
    passing: bool = False,
) -> Packed:
    """Return the numbers of networks as :func:`forward` takes them.

    Parameters
    ----------
    widths
        Columns of the inputs of all layers, and of the result.
    parameters
        A row for every network: addresses of the float32 weights of all layers,
        ``[widths[i + 1], widths[i]]``, contiguous, then of their biases.
    parts
        :data:`WHOLE` or :data:`ROUNDED`.
    passing
        Whether the next call of this thread may overwrite what is returned.
    """
    where, count = layout(widths, parts), len(parameters)
    packed, biases = memory_for(4 * count * where.forward, count * where.biases, passing)
    columns = panels(widths, count, N_OUT)
    parallel_rows(
        pack_forward,
        len(columns),
        *(columns, parameters, where.table, parts, packed, biases),
        min_rows=_LEAST_PANELS,
    )
    return Packed(widths, count, parts, packed, biases)


def kept_memory(widths: tuple[int, ...], parts: int, n: int, count: int = 1) -> Bytes:
    """Return memory for the inputs of all layers of ``count`` networks, for ``n`` rows.

    What is returned, or an array or tensor made of it, has to be held as long as they are needed.
    """
    return of_activations.take(_kept_bytes(layout(widths, parts), n, count))


def forward(
    packed: Packed,
    x: Rows,
    activations: tuple[str, ...],
    kept: Bytes | None = None,
    memory: Single | None = None,
) -> Single:
    """Return the networks' results for every row, ``[network, n, n_out]``.

    Parameters
    ----------
    packed
        The networks.
    x
        Inputs.
    activations
        For every network ``"relu"`` or ``"tanh"``, after all its layers but the last.
    kept
        :func:`kept_memory` for what :func:`backward` needs, if that is to come.
    memory
        Where as many numbers may be written as are returned; by default new memory.

    Raises
    ------
    ValueError
        If ``activations`` are not as many as networks, or ``kept`` or ``memory`` is too small.
    """
    where, count = layout(packed.widths, packed.parts), packed.n_networks
    if kept is None:
        forget_idle_memory()
    check(count, activations, kept, _kept_bytes(where, x.n, count), x.n)
    out = results_of((count, x.n, packed.widths[-1]), memory)
    parallel_rows(
        _FORWARD[packed.parts],
        n_blocks(x.n),
        *(x.numbers, x.stride, x.n, packed.weights, packed.biases),
        *(where.table, where.widest, kinds(activations), out.reshape(-1)),
        *(_NO_BYTES if kept is None else kept, where.inputs, where.kept, where.kept_columns(count)),
        min_rows=_least_blocks(where, count),
    )
    return out


def backward(
    widths: tuple[int, ...],
    parameters: NDArray[np.int64],
    activations: tuple[str, ...],
    grad: Rows,
    kept: Bytes,
    grad_x: Rows | None,
    needs_parameters: bool,
    parts: int,
    *,
    more: bool = False,
) -> Gradients:
    """Write the gradient of the inputs, and return those of the weights and biases.

    Parameters
    ----------
    widths, parameters
        As :func:`pack` takes them; biases are not needed.
    activations
        As in the forward pass.
    grad
        Gradients of the results; the rows of the next network follow after ``n`` rows.
    kept
        What :func:`forward` kept.
    grad_x
        Where the gradient of the inputs goes, if it is wanted.
    needs_parameters
        Whether those of the parameters are wanted; else the lists are empty.
    parts
        As in the forward pass.
    more
        Whether to add to what is at ``grad_x``.

    Raises
    ------
    ValueError
        If ``activations`` are not as many as networks, or ``kept`` is too small.
    """
    where, count = layout(widths, parts), len(parameters)
    check(count, activations, kept, _kept_bytes(where, grad.n, count), grad.n)
    packed = _lasting.take("backward", 4 * count * where.backward)
    columns = panels(widths, count, N_IN)
    parallel_rows(
        pack_backward,
        len(columns),
        *(columns, parameters, where.table, parts, packed),
        min_rows=_LEAST_PANELS,
    )
    blocks = n_blocks(grad.n)
    at_once = max(1, min(blocks, _BLOCKS_AT_ONCE * COLUMN // where.column))
    of_block = where.gradient_columns(count)
    gradients = _lasting.take("gradients", (at_once * of_block + _SPARE_COLUMNS) * where.column)
    to = Rows(_NO_NUMBERS, 0, 0) if grad_x is None else grad_x
    n_bytes = 4 * count * where.weights if needs_parameters else 0
    by_weight = of_gradients.take(n_bytes).view(np.float32)
    if not blocks:
        by_weight[:] = 0.0
    by_bias = np.zeros(count * where.biases, np.float32)
    totals = np.empty(len(by_bias))
    of_weights = squares(widths, count)
    activities = kept, where.inputs, where.kept, where.kept_columns(count)
    results = gradients, where.gradients, of_block
    sums = _lasting.take("sums", 4 * at_once * count * where.biases).view(np.float32)
    for origin in range(0, blocks, at_once):
        n = min(at_once, blocks - origin)
        parallel_rows(
            _BACKWARD[parts],
            n,
            *(origin, grad.numbers, grad.stride, grad.n, packed),
            *(where.table, where.widest, kinds(activations), *activities, *results),
            *(sums, where.biases, to.numbers, to.stride, more),
            min_rows=_least_blocks(where, count),
        )
        if needs_parameters:
            parallel_rows(
                weight_gradients,
                len(of_weights),
                *(of_weights, count, where.table, where.column, *activities, *results),
                *(origin, n, origin > 0, by_weight),
                min_rows=max(1, _LEAST_PRODUCTS // (n * ROWS * 25)),
            )
            parallel_rows(
                sum_blocks,
                len(by_bias),
                *(sums, len(by_bias), n, origin > 0, totals, by_bias),
                min_rows=_LEAST_BIASES,
            )
    if not needs_parameters:
        return Gradients([], [])
    return gradients_of(widths, count, by_weight, by_bias)


def _kept_bytes(where: Layout, n: int, count: int) -> int:
    return (n_blocks(n) * where.kept_columns(count) + _SPARE_COLUMNS) * where.column


def _least_blocks(where: Layout, count: int) -> int:
    """Return how many blocks of rows are worth a thread."""
    return max(1, _LEAST_PRODUCTS // (ROWS * where.weights * count))


_lasting = Lasting()
