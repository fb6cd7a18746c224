"""Dense networks with bfloat16 products, each in one pass over its rows (with Intel AMX).

Numbers have one, two or three parts:

1. Inputs, weights and biases of the hidden layers are rounded to bfloat16; products are summed up
   and activations evaluated in float32, and what goes into the next layer is rounded again. The
   weights of the last layer keep all digits of a float32. In the backward pass gradients and all
   weights are rounded; gradients of biases are sums of what was not. What is too small for a normal
   number becomes zero.
2. Every number is the sum of two bfloat16 numbers, in both passes, which is float32 to about 1e-5.
3. Of three: those are all digits of a float32, and six products all of a product but the last bit
   or two. Numbers below 1e-30 lose digits, as parts that are not normal numbers are zeros.

Several networks of the same widths may share their inputs: those of one call.

Ask :func:`is_supported` first: it also asks the operating system for the unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import parallel_rows
from bgfast_kernels.network import amx
from bgfast_kernels.network.amx import TILE, is_supported
from bgfast_kernels.network.arrays import (
    Gradients,
    Rows,
    Single,
    check,
    gradients_of,
    kinds,
    results_of,
)
from bgfast_kernels.network.backward import backward_kernel
from bgfast_kernels.network.forward import forward_kernel
from bgfast_kernels.network.layout import (
    ROWS,
    TILES_IN,
    Layout,
    columns,
    layout,
    n_blocks,
)
from bgfast_kernels.network.packed import LEAST_COLUMNS, Packed, addresses, pack
from bgfast_kernels.network.packing import pack_backward
from bgfast_kernels.network.recycling import (
    Lasting,
    forget_idle_memory,
    forget_memory,
    of_activations,
    of_gradients,
)
from bgfast_kernels.network.weight_gradients import squares, sum_blocks, weight_gradients

__all__ = [
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

# Blocks of the backward pass at a time. The gradients of fewer would stay in a core's cache, but
# launching and adding up more often costs more.
_BLOCKS_AT_ONCE = 32
_LEAST_PRODUCTS = 2**22  # products of numbers worth a thread
_LEAST_BIASES = 512  # worth a thread
_CONFIGURATION = amx.configuration()
_NO_BYTES = np.empty(0, np.uint8)
_NO_NUMBERS = np.empty(0, np.float32)


def kept_memory(widths: tuple[int, ...], parts: int, n: int, count: int = 1) -> Bytes:
    """Return memory for the inputs of all layers of ``count`` packed networks, for ``n`` rows.

    It begins at a cache line. What is returned, or an array or tensor made of it, has to be held as
    long as they are needed.
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
        If ``activations`` are not as many as networks, ``kept`` or ``memory`` is too small, or
        ``kept`` does not begin at a cache line.
    """
    where, count = layout(packed.widths, packed.parts), packed.n_networks
    if kept is None:
        forget_idle_memory()
    elif len(kept) and kept.ctypes.data % 64:
        raise ValueError(
            "kept must begin at a cache line, as kept_memory does; this array does not"
        )
    check(count, activations, kept, _kept_bytes(where, x.n, count), x.n)
    out = results_of((count, x.n, packed.widths[-1]), memory)
    parallel_rows(
        forward_kernel(where.parts),
        n_blocks(x.n),
        *(x.numbers, x.stride, x.n, packed.weights, packed.biases),
        *(where.table, where.groups),
        *(kinds(activations), _CONFIGURATION, out.reshape(-1)),
        *(_NO_BYTES if kept is None else kept, where.kept_tiles),
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
    packed = _lasting.take("backward", count * where.backward_bytes)
    tiles = columns(widths, count, TILES_IN)
    parallel_rows(
        pack_backward,
        len(tiles),
        *(tiles, parameters, where.table, parts, packed),
        min_rows=LEAST_COLUMNS,
    )
    blocks = n_blocks(grad.n)
    at_once = max(1, min(blocks, _BLOCKS_AT_ONCE))
    gradients = _lasting.take("gradients", at_once * count * where.gradient_tiles * TILE)
    sums = _lasting.take("sums", 4 * at_once * count * where.biases).view(np.float32)
    to = Rows(_NO_NUMBERS, 0, 0) if grad_x is None else grad_x
    n_bytes = 4 * count * where.weights if needs_parameters else 0
    grad_weights = of_gradients.take(n_bytes).view(np.float32)
    if not blocks:
        grad_weights[:] = 0.0
    grad_biases = np.zeros(count * where.biases, np.float32)
    totals = np.empty(len(grad_biases))
    parted = squares(widths, count)
    for origin in range(0, blocks, at_once):
        n = min(at_once, blocks - origin)
        parallel_rows(
            backward_kernel(parts),
            n,
            *(origin, grad.numbers, grad.stride, grad.n, packed),
            *(where.table, where.groups),
            *(kinds(activations), _CONFIGURATION, kept, where.kept_tiles),
            *(gradients, where.gradient_tiles, sums, where.biases),
            *(to.numbers, to.stride, more),
            min_rows=_least_blocks(where, count),
        )
        if needs_parameters:
            parallel_rows(
                weight_gradients,
                len(parted),
                *(parted, count, where.table, parts, _CONFIGURATION, kept, where.kept_tiles),
                *(gradients, where.gradient_tiles, origin, n, origin > 0, grad_weights),
                min_rows=max(1, _LEAST_PRODUCTS // (n * 32**3)),
            )
            parallel_rows(
                sum_blocks,
                len(grad_biases),
                *(sums, len(grad_biases), n, origin > 0, totals, grad_biases),
                min_rows=_LEAST_BIASES,
            )
    if not needs_parameters:
        return Gradients([], [])
    return gradients_of(widths, count, grad_weights, grad_biases)


def _kept_bytes(where: Layout, n: int, count: int) -> int:
    return n_blocks(n) * where.all_kept_tiles(count) * TILE


def _least_blocks(where: Layout, count: int) -> int:
    """Return how many blocks of rows are worth a thread."""
    return max(1, _LEAST_PRODUCTS // (ROWS * where.weights * count))


_lasting = Lasting()
