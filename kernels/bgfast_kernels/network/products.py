"""Products of a block of 32 rows with 32, or 16, columns of a right factor; memory by address."""

from __future__ import annotations

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.layout import ROWS


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def begin(two: bool, offsets: int) -> None:
    """Set the sums to the 32 numbers at an address, in every row; to 16 without ``two``."""
    amx.load(0, offsets, 0)
    amx.load(2, offsets, 0)
    if two:
        amx.load(1, offsets + ROW, 0)
        amx.load(3, offsets + ROW, 0)
    else:
        amx.zero(1)
        amx.zero(3)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def fetch(
    two: bool, left: int, low: int, right: int, groups: int, parts: int, g: int, phase: int
) -> None:
    """Load what :func:`add` multiplies next; what comes in between gives it time to arrive.

    Parameters
    ----------
    two
        Whether there are two tiles of columns.
    left, low
        Where the left factor begins, and how much further its low part; 0 without one.
    right, groups, parts
        Where the first tile of columns of the right factor begins, its groups, and its parts: as
        many as the left factor, or three for one tile of columns beside a left factor of one part.
    g
        The group.
    phase
        0 with one tile of columns, or one part. Else 0, 1, 2 one after the other: the product of
        two high parts, or of a high and a low one; that of two low parts is left out.
    """
    left += 2 * g * TILE
    right += g * parts * TILE
    if not two:
        amx.load(4, left, ROW)
        amx.load(5, left + TILE, ROW)
        amx.stream(6, right + (parts - 1) * TILE, ROW)
        return
    next_right = right + groups * parts * TILE
    if phase == 0:
        amx.load(4, left, ROW)
        amx.stream(6, right + (parts - 1) * TILE, ROW)
        amx.stream(7, next_right + (parts - 1) * TILE, ROW)
        amx.load(5, left + TILE, ROW)
    elif phase == 1:
        amx.stream(6, right, ROW)
        amx.stream(7, next_right, ROW)
    else:
        amx.load(4, left + low, ROW)
        amx.load(5, left + low + TILE, ROW)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def add(two: bool, left: int, low: int, right: int, parts: int, g: int) -> None:
    """Add to the sums the products of what was fetched."""
    if two:
        amx.multiply(0, 4, 6)
        amx.multiply(1, 4, 7)
        amx.multiply(2, 5, 6)
        amx.multiply(3, 5, 7)
        return
    amx.multiply(0, 4, 6)
    amx.multiply(2, 5, 6)
    left += 2 * g * TILE
    right += g * parts * TILE
    for part in range(parts - 2, -1, -1):
        amx.stream(6, right + part * TILE, ROW)
        amx.multiply(0, 4, 6)
        amx.multiply(2, 5, 6)
    if low:
        amx.load(4, left + low, ROW)
        amx.load(5, left + low + TILE, ROW)
        amx.multiply(0, 4, 6)
        amx.multiply(2, 5, 6)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def end(sums: int) -> None:
    """Write the sums: rows 0-15 of columns 0-15, of columns 16-31, rows 16-31 of both."""
    amx.store(0, sums, ROW)
    amx.store(1, sums + TILE, ROW)
    amx.store(2, sums + 2 * TILE, ROW)
    amx.store(3, sums + 3 * TILE, ROW)


@jit
def write_rows(
    sums: int, to: int, stride: int, n: int, block: int, n_columns: int, t: int, more: bool
) -> None:
    """Copy what one tile of columns gave to columns ``16 t`` and on of rows ``stride`` apart.

    ``n`` and ``n_columns`` are how many rows and columns there are; ``more`` adds to them.
    """
    count = min(16, n_columns - 16 * t)
    for r in range(min(ROWS, n - ROWS * block)):
        value = memory.load(sums + (ROW * r if r < 16 else ROW * r + TILE))
        at = to + 4 * ((ROWS * block + r) * stride + 16 * t)
        if more:
            value = memory.load_some(at, count) + value
        memory.store_some(at, count, value)
