"""Numbers in rows to tiles: weights, biases, activations and gradients (see the layout)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import halves, memory
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.layout import (
    BACKWARD,
    BIAS,
    FORWARD,
    GROUPS_IN,
    GROUPS_OUT,
    N_IN,
    N_OUT,
    PARTS,
)

Bytes = NDArray[np.uint8]
Single = NDArray[np.float32]


@jit
def pack_forward(
    start: int,
    stop: int,
    columns: NDArray[np.int64],
    addresses: NDArray[np.int64],
    table: NDArray[np.int64],
    parts: int,
    packed: Bytes,
    numbers: Single,
) -> None:
    """Write weights as right factors of the forward pass, and biases.

    Parameters
    ----------
    columns
        Networks, layers and tiles of 16 outputs; those from ``start`` to ``stop`` are worked on.
    addresses
        For every network, of the weights of all layers, then of their biases.
    table, parts
        Of the layout.
    packed, numbers
        Written, network by network: weights, and biases with zeros up to the end of their last
        tile. Biases of hidden layers are rounded if numbers have one part.
    """
    count, last = len(addresses), len(table) - 1
    for i in range(start, stop):
        k, layer, t = columns[i]
        row = table[layer]
        to = memory.address(packed) + k * (len(packed) // count) + row[FORWARD]
        to += t * row[GROUPS_IN] * row[PARTS] * TILE
        _pack_column(addresses[k, layer], row[N_OUT], row[N_IN], row[PARTS], t, to)
        n_out = row[N_OUT]
        x = rows_of(addresses[k, len(table) + layer], n_out, 1, 0, 16 * t, n_out)
        if parts == 1 and layer < last:
            x = halves.first(halves.rounded(x, x))
        to = memory.address(numbers) + 4 * k * (len(numbers) // count)
        memory.store(to + 4 * row[BIAS] + ROW * t, x)


@jit
def _pack_column(source: int, n_out: int, n_in: int, parts: int, t: int, to: int) -> None:
    space = memory.scratch(TILE)
    tile = memory.address(space)
    for g in range((n_in + 31) // 32):
        for part in range(parts):
            for o in range(16):
                if part == 0:  # the next column: weights come from far away
                    ahead = source + 4 * ((16 * (t + 1) + o) * n_in + 32 * g)
                    memory.prefetch(ahead)
                    memory.prefetch(ahead + ROW)
                a = rows_of(source, n_in, n_out, 16 * t + o, 32 * g, n_in)
                b = rows_of(source, n_in, n_out, 16 * t + o, 32 * g + 16, n_in)
                for _ in range(part):
                    known = halves.rounded(a, b)
                    a, b = a - halves.first(known), b - halves.second(known)
                halves.store(tile + ROW * o, halves.rounded(a, b))
            memory.transpose_tile(tile, to)
            to += TILE
    memory.keep(space)


@jit
def pack_backward(
    start: int,
    stop: int,
    columns: NDArray[np.int64],
    addresses: NDArray[np.int64],
    table: NDArray[np.int64],
    parts: int,
    packed: Bytes,
) -> None:
    """Write weights as right factors of the backward pass; ``columns`` are tiles of 16 inputs."""
    none = memory.fill(0)
    size = len(packed) // len(addresses)
    for i in range(start, stop):
        k, layer, t = columns[i]
        row = table[layer]
        source, n_out, n_in = addresses[k, layer], row[N_OUT], row[N_IN]
        to = memory.address(packed) + k * size + row[BACKWARD] + t * row[GROUPS_OUT] * parts * TILE
        for o in range(0, 32 * row[GROUPS_OUT], 2):
            for ahead in (o + 16, o + 17):
                memory.prefetch(source + 4 * (ahead * n_in + 16 * t))
            a = rows_of(source, n_in, n_out, o, 16 * t, n_in)
            b = rows_of(source, n_in, n_out, o + 1, 16 * t, n_in)
            for part in range(parts):
                low, high = halves.rounded(a, none), halves.rounded(b, none)
                halves.store(to + part * TILE, halves.first_paired(low, high))
                a, b = a - halves.first(low), b - halves.first(high)
            to += ROW if o % 32 < 30 else (parts - 1) * TILE + ROW


@jit(inline="always")  # type: ignore[untyped-decorator]
def pack_rows(
    write: Any,
    to: int,
    next_part: int,
    at: int,
    next_pairs: int,
    parts: int,
    two: bool,
    a: Any,
    b: Any,
    c: Any,
    d: Any,
) -> None:
    """Write 32 columns of the rows r and r + 16 of a block, row r of their tiles.

    Parameters
    ----------
    write
        How to write the tiles at ``at``.
    to, next_part
        Where row r of the left factors is to be, and how much further that of the next part.
    at, next_pairs
        The same for the tiles of words (row r, row r + 16); ``at`` = 0 for none.
    parts
        How many parts there are.
    two
        Whether there is a second tile of columns among these.
    a, b, c, d
        Columns 0-15 of row r, 16-31 of row r, 0-15 of row r + 16, 16-31 of row r + 16.
    """
    upper, lower = halves.rounded(a, b), halves.rounded(c, d)
    _write_part(write, to, at, two, upper, lower)
    for part in range(1, parts):
        a, b = a - halves.first(upper), b - halves.second(upper)
        c, d = c - halves.first(lower), d - halves.second(lower)
        upper, lower = halves.rounded(a, b), halves.rounded(c, d)
        there = at + part * next_pairs if at else 0
        _write_part(write, to + part * next_part, there, two, upper, lower)


@jit(inline="always")  # type: ignore[untyped-decorator]
def _write_part(write: Any, to: int, at: int, two: bool, upper: Any, lower: Any) -> None:
    halves.store(to, upper)
    halves.store(to + TILE, lower)
    if at:
        write(at, halves.first_paired(upper, lower))
        if two:
            write(at + TILE, halves.second_paired(upper, lower))


@jit(inline="always")  # type: ignore[untyped-decorator]
def rows_of(numbers: int, stride: int, n: int, row: int, column: int, n_columns: int) -> Any:
    """Load 16 numbers of a row from ``column`` on; zeros beyond the last row or column.

    ``numbers`` is the address of the first row, rows are ``stride`` numbers apart.
    """
    count = min(max(n_columns - column, 0), 16) if row < n else 0
    return memory.load_some(numbers + 4 * (row * stride + column), count)
