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


@jit
def n_phases(two: bool, parts: int) -> int:
    """Return in how many phases the products of a group are added."""
    return parts * (parts + 1) // 2 if two else 1


@jit
def cadence(units: int, phases: int) -> tuple[int, int]:
    """Return how many units of other work to do at a time, and every how many phases.

    So that all are done after ``phases`` of them, evenly; of no phases nothing is said.
    """
    at_once = -(-units // max(1, phases))
    return at_once, max(1, phases // units)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def fetch(
    two: bool, left: int, next_part: int, right: int, groups: int, parts: int, g: int, phase: int
) -> None:
    """Load what :func:`add` multiplies next; what comes in between gives it time to arrive.

    Parameters
    ----------
    two
        Whether there are two tiles of columns.
    left, next_part
        Where the left factor begins, and how much further its next part.
    right, groups, parts
        Where the first tile of columns of the right factor begins, its groups, and its parts.
    g
        The group.
    phase
        One after the other they take in, of n parts, those products whose numbers add up to at
        most n + 1: (1, 1); (1, 2), (1, 1), (2, 1); or (1, 3), (1, 2), (2, 2), (2, 1), (3, 1),
        (1, 1). The others are below the last digit.
    """
    left += 2 * g * TILE
    right += g * parts * TILE
    if not two:
        amx.load(4, left, ROW)
        amx.load(5, left + TILE, ROW)
        amx.stream(6, right + (parts - 1) * TILE, ROW)
    elif phase == 0:
        right += (parts - 1) * TILE
        amx.load(4, left, ROW)
        amx.stream(6, right, ROW)
        amx.stream(7, right + groups * parts * TILE, ROW)
        amx.load(5, left + TILE, ROW)
    elif phase == 1 or phase == 3:
        right += (parts - 1 - (phase + 1) // 2) * TILE
        amx.stream(6, right, ROW)
        amx.stream(7, right + groups * parts * TILE, ROW)
    else:
        left += (phase // 2 if phase < 5 else 0) * next_part
        amx.load(4, left, ROW)
        amx.load(5, left + TILE, ROW)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def add(
    two: bool, left: int, next_part: int, parts_left: int, right: int, parts: int, g: int
) -> None:
    """Add to the sums the products of what was fetched.

    With one tile of columns that is a whole group, whose right factor may have more parts.
    """
    if two:
        amx.multiply(0, 4, 6)
        amx.multiply(1, 4, 7)
        amx.multiply(2, 5, 6)
        amx.multiply(3, 5, 7)
        return
    left += 2 * g * TILE
    right += g * parts * TILE
    amx.multiply(0, 4, 6)
    amx.multiply(2, 5, 6)
    for part in range(parts_left):
        if part > 0:
            amx.load(4, left + part * next_part, ROW)
            amx.load(5, left + part * next_part + TILE, ROW)
        for other in range(parts - 1 - max(part, 1), -1, -1):
            amx.stream(6, right + other * TILE, ROW)
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
