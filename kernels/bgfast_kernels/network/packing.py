"""Numbers in rows to tiles: weights, biases, activations and gradients (see the layout)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import halves, memory
from bgfast_kernels.network.amx import ROW, TILE

Bytes = NDArray[np.uint8]
Single = NDArray[np.float32]


@jit
def pack_weights(
    weight: Single, n_out: int, n_in: int, parts: int, packed: Bytes, offset: int
) -> None:
    """Write ``weight[n_out, n_in]``, flat, as right factors of the forward pass.

    Three parts hold all digits of a float32.
    """
    space = memory.scratch(TILE)
    tile, source, to = space.ctypes.data, weight.ctypes.data, packed.ctypes.data + offset
    for t in range((n_out + 15) // 16):
        for g in range((n_in + 31) // 32):
            for part in range(parts):
                for o in range(16):
                    row = 16 * t + o
                    a = rows_of(source, n_in, n_out, row, 32 * g, n_in)
                    b = rows_of(source, n_in, n_out, row, 32 * g + 16, n_in)
                    for _ in range(part):
                        known = halves.rounded(a, b)
                        a, b = a - halves.first(known), b - halves.second(known)
                    halves.store(tile + ROW * o, halves.rounded(a, b))
                memory.transpose_tile(tile, to)
                to += TILE
    memory.keep(space)


@jit
def pack_transposed(
    weight: Single, n_out: int, n_in: int, parts: int, packed: Bytes, offset: int
) -> None:
    """Write ``weight[n_out, n_in]``, flat, as right factors of the backward pass."""
    none = memory.fill(0)
    source, to = weight.ctypes.data, packed.ctypes.data + offset
    for t in range((n_in + 15) // 16):
        for g in range((n_out + 31) // 32):
            for j in range(16):
                row = 32 * g + 2 * j
                a = rows_of(source, n_in, n_out, row, 16 * t, n_in)
                b = rows_of(source, n_in, n_out, row + 1, 16 * t, n_in)
                for part in range(parts):
                    low, high = halves.rounded(a, none), halves.rounded(b, none)
                    halves.store(to + part * TILE + ROW * j, halves.first_paired(low, high))
                    a, b = a - halves.first(low), b - halves.first(high)
            to += parts * TILE


@jit
def pack_bias(bias: Single, round_it: bool, numbers: Single, offset: int) -> None:
    """Write a bias, rounded to bfloat16 if asked to, and zeros up to the end of its last tile."""
    source, to = bias.ctypes.data, numbers.ctypes.data + 4 * offset
    for t in range((len(bias) + 15) // 16):
        x = rows_of(source, len(bias), 1, 0, 16 * t, len(bias))
        memory.store(to + ROW * t, halves.first(halves.rounded(x, x)) if round_it else x)


@jit(inline="always")  # type: ignore[untyped-decorator]
def pack_rows(
    to: int, low: int, at: int, paired_low: int, two: bool, a: Any, b: Any, c: Any, d: Any
) -> None:
    """Write 32 columns of the rows r and r + 16 of a block, row r of their tiles.

    Parameters
    ----------
    to, low
        Where row r of the left factors is to be, and how much further its low parts; 0 for none.
    at, paired_low
        The same for the tiles of words (row r, row r + 16); ``at`` = 0 for none.
    two
        Whether there is a second tile of columns among these.
    a, b, c, d
        Columns 0-15 of row r, 16-31 of row r, 0-15 of row r + 16, 16-31 of row r + 16.
    """
    upper, lower = halves.rounded(a, b), halves.rounded(c, d)
    halves.store(to, upper)
    halves.store(to + TILE, lower)
    if at:
        halves.store(at, halves.first_paired(upper, lower))
        if two:
            halves.store(at + TILE, halves.second_paired(upper, lower))
    if low:
        upper = halves.rounded(a - halves.first(upper), b - halves.second(upper))
        lower = halves.rounded(c - halves.first(lower), d - halves.second(lower))
        halves.store(to + low, upper)
        halves.store(to + low + TILE, lower)
        if at:
            halves.store(at + paired_low, halves.first_paired(upper, lower))
            if two:
                halves.store(at + paired_low + TILE, halves.second_paired(upper, lower))


@jit(inline="always")  # type: ignore[untyped-decorator]
def rows_of(numbers: int, stride: int, n: int, row: int, column: int, n_columns: int) -> Any:
    """Load 16 numbers of a row from ``column`` on; zeros beyond the last row or column.

    ``numbers`` is the address of the first row, rows are ``stride`` numbers apart.
    """
    count = min(max(n_columns - column, 0), 16) if row < n else 0
    return memory.load_some(numbers + 4 * (row * stride + column), count)
