"""Columns of a block of rows: from rows and back, summed up, and to pairs of bfloat16 numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import halves, memory
from bgfast_kernels.network.packing import rows_of
from bgfast_kernels.vector_network.layout import COLUMN, HALF_COLUMN, ROWS, TOGETHER

Bytes = NDArray[np.uint8]
Single = NDArray[np.float32]

_VECTOR = 64
_TILE = 16 * _VECTOR


@jit
def sum_columns(columns: int, n_columns: int, sums: int) -> None:
    """Write the sums over the rows of a block; eight and eight columns, to a multiple of eight."""
    for t in range(-(-n_columns // TOGETHER)):
        total = memory.sums_of_columns(columns + t * TOGETHER * COLUMN)
        memory.store_some(sums + 4 * TOGETHER * t, TOGETHER, total)


@jit
def read_rows(
    numbers: int,
    stride: int,
    n: int,
    block: int,
    n_columns: int,
    repeat: bool,
    target: int,
    space: int,
) -> None:
    """Write the columns of a block of rows from ``target`` on.

    Parameters
    ----------
    numbers, stride, n
        Address of the first row, numbers from one row to the next, and how many there are.
    n_columns
        How many are read; others that there is room for are zeros.
    repeat
        Whether rows beyond the last are copies of it, or zeros. Inputs are copies: zeros might be
        too much for a network that the rows are not, and not a number times no gradient is not 0.
    space
        Address of memory for two tiles.
    """
    for t in range(-(-n_columns // 16)):
        for half in range(2):
            for r in range(16):
                row = ROWS * block + 16 * half + r
                if repeat:
                    row = min(row, n - 1)
                x = rows_of(numbers, stride, n, row, 16 * t, n_columns)
                memory.store(space + _VECTOR * r, x)
            to = target + 16 * t * COLUMN + half * _VECTOR
            if n_columns > 16 * t + 8:
                memory.transpose(space, to, COLUMN)
            else:
                _transpose_half(space, to)


@jit
def _transpose_half(space: int, to: int) -> None:
    """Write the first eight columns of a tile alone: there is no room for others."""
    memory.transpose_tile(space, space + _TILE)
    for c in range(8):
        memory.store(to + c * COLUMN, memory.load(space + _TILE + _VECTOR * c))


@jit
def write_rows(
    source: int,
    n_columns: int,
    numbers: int,
    stride: int,
    n: int,
    block: int,
    space: int,
    more: bool,
) -> None:
    """Copy the columns of a block to rows, as :func:`read_rows` takes them.

    ``more`` adds to what is there; ``space`` is the address of memory for two tiles.
    """
    for t in range(-(-n_columns // 16)):
        count = min(16, n_columns - 16 * t)
        for half in range(2):
            for c in range(16):
                x = memory.load(source + (16 * t + c) * COLUMN + half * _VECTOR)
                memory.store(space + _VECTOR * c, x)
            memory.transpose_tile(space, space + _TILE)
            first = ROWS * block + 16 * half
            for r in range(min(16, n - first)):
                x = memory.load(space + _TILE + _VECTOR * r)
                at = numbers + 4 * ((first + r) * stride + 16 * t)
                if more:
                    x = memory.load_some(at, count) + x
                memory.store_some(at, count, x)


@jit
def to_pairs(columns: int, n_columns: int, pairs: int, apart: int) -> None:
    """Round columns of a block.

    Parameters
    ----------
    columns, n_columns
        Address of the first one, float32, and how many there are. The last one of an odd number is
        paired with zeros: what lies behind it may be NaN where numbers are infinite.
    pairs
        Address of where words go that two columns share.
    apart
        Address of where columns go one by one, or 0: nowhere.
    """
    for c in range(0, n_columns, 2):
        even, odd = columns + c * COLUMN, columns + (c + 1) * COLUMN
        low = halves.rounded(memory.load(even), memory.load(even + _VECTOR))
        high = halves.rounded(memory.fill(0), memory.fill(0))
        if c + 1 < n_columns:
            high = halves.rounded(memory.load(odd), memory.load(odd + _VECTOR))
        halves.store(pairs + c * HALF_COLUMN, halves.first_paired(low, high))
        halves.store(pairs + c * HALF_COLUMN + _VECTOR, halves.second_paired(low, high))
        if apart:
            halves.store(apart + c * HALF_COLUMN, low)
            halves.store(apart + (c + 1) * HALF_COLUMN, high)


@jit
def from_pairs(pairs: int, n_columns: int, columns: int) -> None:
    """Write columns that share words as float32; there is room for an even number."""
    for c in range(0, n_columns, 2):
        for half in (0, _VECTOR):
            words = pairs + c * HALF_COLUMN + half
            memory.store(columns + c * COLUMN + half, halves.low_halves(words))
            memory.store(columns + (c + 1) * COLUMN + half, halves.high_halves(words))
