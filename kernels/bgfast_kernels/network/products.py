"""Products of a block of 32 rows with 32, or 16, columns of a right factor; memory by address."""

from __future__ import annotations

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.layout import ROWS


@jit
def four_tiles(left: int, low: int, right: int, groups: int, offsets: int, sums: int) -> None:
    """Write four tiles of sums: rows 0-15 of columns 0-15, of columns 16-31, rows 16-31 of both.

    Parameters
    ----------
    left, low
        Where the left factor begins, and how much further its low part; 0 without one. The right
        factor has as many parts; the product of the two low parts is left out.
    right
        Where the first of the two tiles of columns of the right factor begins.
    groups
        How many tiles to sum over.
    offsets
        Where 32 numbers are to be added to every row.
    sums
        Where the result is to be.
    """
    amx.load(0, offsets, 0)
    amx.load(1, offsets + ROW, 0)
    amx.load(2, offsets, 0)
    amx.load(3, offsets + ROW, 0)
    if low == 0:
        for g in range(groups):
            amx.load(4, left + 2 * g * TILE, ROW)
            amx.load(6, right + g * TILE, ROW)
            amx.multiply(0, 4, 6)
            amx.load(7, right + (groups + g) * TILE, ROW)
            amx.multiply(1, 4, 7)
            amx.load(5, left + (2 * g + 1) * TILE, ROW)
            amx.multiply(2, 5, 6)
            amx.multiply(3, 5, 7)
    else:
        for g in range(groups):
            amx.load(4, left + 2 * g * TILE, ROW)
            amx.load(6, right + (2 * g + 1) * TILE, ROW)
            amx.multiply(0, 4, 6)
            amx.load(7, right + (2 * (groups + g) + 1) * TILE, ROW)
            amx.multiply(1, 4, 7)
            amx.load(5, left + (2 * g + 1) * TILE, ROW)
            amx.multiply(2, 5, 6)
            amx.multiply(3, 5, 7)
            amx.load(6, right + 2 * g * TILE, ROW)
            amx.multiply(0, 4, 6)
            amx.multiply(2, 5, 6)
            amx.load(7, right + 2 * (groups + g) * TILE, ROW)
            amx.multiply(1, 4, 7)
            amx.multiply(3, 5, 7)
            amx.load(4, left + low + 2 * g * TILE, ROW)
            amx.multiply(0, 4, 6)
            amx.multiply(1, 4, 7)
            amx.load(5, left + low + (2 * g + 1) * TILE, ROW)
            amx.multiply(2, 5, 6)
            amx.multiply(3, 5, 7)
    amx.store(0, sums, ROW)
    amx.store(1, sums + TILE, ROW)
    amx.store(2, sums + 2 * TILE, ROW)
    amx.store(3, sums + 3 * TILE, ROW)


@jit
def two_tiles(
    left: int, low: int, right: int, groups: int, parts: int, offsets: int, sums: int
) -> None:
    """Write what :func:`four_tiles` does for 16 columns; the others are zeros.

    The right factor has ``parts`` parts: one or three beside a left factor of one part, else two.
    """
    amx.load(0, offsets, 0)
    amx.load(1, offsets, 0)
    for g in range(groups):
        amx.load(4, left + 2 * g * TILE, ROW)
        amx.load(5, left + (2 * g + 1) * TILE, ROW)
        for part in range(parts - 1, -1, -1):
            amx.load(6, right + (parts * g + part) * TILE, ROW)
            amx.multiply(0, 4, 6)
            amx.multiply(1, 5, 6)
        if low:
            amx.load(4, left + low + 2 * g * TILE, ROW)
            amx.load(5, left + low + (2 * g + 1) * TILE, ROW)
            amx.multiply(0, 4, 6)
            amx.multiply(1, 5, 6)
    amx.zero(2)
    amx.store(0, sums, ROW)
    amx.store(2, sums + TILE, ROW)
    amx.store(1, sums + 2 * TILE, ROW)
    amx.store(2, sums + 3 * TILE, ROW)


@jit
def write_rows(sums: int, out: int, n: int, block: int, n_columns: int, t: int) -> None:
    """Copy what :func:`two_tiles` wrote to columns ``16 t`` and on of ``out[n, n_columns]``."""
    count = min(16, n_columns - 16 * t)
    for r in range(min(ROWS, n - ROWS * block)):
        source = sums + (ROW * r if r < 16 else ROW * r + TILE)
        to = out + 4 * ((ROWS * block + r) * n_columns + 16 * t)
        memory.store_some(to, count, memory.load(source))
