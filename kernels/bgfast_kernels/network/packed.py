"""Weights and biases as the forward pass of :mod:`bgfast_kernels.network` takes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import parallel_rows
from bgfast_kernels.network import memory
from bgfast_kernels.network.layout import TILES_OUT, columns, layout
from bgfast_kernels.network.packing import pack_forward
from bgfast_kernels.network.recycling import Lasting

Single = NDArray[np.float32]
Bytes = NDArray[np.uint8]

LEAST_COLUMNS = 8
"""Tiles of columns worth a thread."""


class Packed(NamedTuple):
    """Weights and biases of networks of the same widths, for the forward pass."""

    widths: tuple[int, ...]
    n_networks: int
    parts: int
    weights: Bytes
    biases: Single


def addresses(*arrays: Single) -> NDArray[np.int64]:
    """Return where contiguous arrays of one network lie in memory, as :func:`pack` takes that."""
    return np.array([[array.ctypes.data for array in arrays]], np.int64)


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
        How many bfloat16 numbers make a number, 1 to 3.
    passing
        Whether the next call of this thread may overwrite what is returned.
    """
    where, count = layout(widths, parts), len(parameters)
    packed, biases = memory_for(count * where.forward_bytes, count * where.biases, passing)
    tiles = columns(widths, count, TILES_OUT)
    parallel_rows(
        pack_forward,
        len(tiles),
        *(tiles, parameters, where.table, parts, packed, biases),
        min_rows=LEAST_COLUMNS,
    )
    return Packed(widths, count, parts, packed, biases)


def memory_for(n_bytes: int, n_biases: int, passing: bool) -> tuple[Bytes, Single]:
    """Return memory for weights and for biases; ``passing`` as :func:`pack` takes it."""
    if passing:
        weights = _lasting.take("forward", n_bytes)
        biases = _lasting.take("biases", 4 * n_biases)
    else:
        weights, biases = memory.scratch(n_bytes), memory.scratch(4 * n_biases)
    return weights, biases.view(np.float32)


_lasting = Lasting()
