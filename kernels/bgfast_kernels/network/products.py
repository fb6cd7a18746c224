"""Products of a block of 32 rows with 32, or 16, columns of a right factor; memory by address."""

from __future__ import annotations

from typing import Any

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.layout import ROWS, tiles_of_slots

UNITS_OF_ROWS = ROWS // 2 + 1
"""Units of work on sums that wait after which their rows are done.

In each but the last one work on a row of each tile begins, in the next one it ends: all at once it
would be a chain so long that the processor, waiting for its end, has no room for products behind.
"""


@jit(inline="always")  # type: ignore[untyped-decorator]
def multiply(
    finish: Any,
    given: Any,
    units: int,
    two: bool,
    left: int,
    next_part: int,
    parts_left: int,
    right: int,
    groups: int,
    parts: int,
    slots: int,
    offsets: int,
    sums: int,
) -> None:
    """Write the sums of one or two tiles of columns, and do meanwhile what waits.

    The matrix unit works while the vector units do. What waits may be the last columns of this very
    left factor, so its rows are done before the last group is fetched, evenly over the phases; all
    at once and before anything else if that group is the only one.

    Parameters
    ----------
    finish, given, units
        ``finish(first, last, *given)`` does some of so many units, those of rows first.
    two
        Whether there are two tiles of columns.
    left, next_part, parts_left
        Where the left factor begins, how much further its next part, and how many there are.
    right, groups, parts
        Where the first tile of columns of the right factor begins, its groups, and its parts.
    slots
        Of the last group; 0 if it is like the others.
    offsets
        Where 32 numbers are to be added to every row; 16 without ``two``.
    sums
        Where the result is to be: rows 0-15 of columns 0-15, of columns 16-31, rows 16-31 of both.
    """
    phases = parts_left * (parts_left + 1) // 2 if two else 1
    before_last = (groups - 1) * phases
    at_once = -(-UNITS_OF_ROWS // max(1, before_last))
    every = max(1, before_last // UNITS_OF_ROWS)
    done, turn = 0, 0
    if groups == 1 and units > 0:
        finish(0, UNITS_OF_ROWS, *given)
        done = UNITS_OF_ROWS
    _begin(two, offsets)
    for g in range(groups):
        folded = slots > 0 and g == groups - 1
        for phase in range(tiles_of_slots(slots, parts) if folded else phases):
            if folded:
                _fetch_slots(two, left, next_part, right, groups, parts, g, phase)
            else:
                _fetch(two, left, next_part, right, groups, parts, g, phase)
            if done < units and turn == 0:
                until = min(done + at_once, units)
                finish(done, until, *given)
                done = until
            turn = turn + 1 if turn + 1 < every else 0
            _add(two, folded, left, next_part, parts_left, right, parts, g)
    end(sums)
    if done < units:
        finish(done, units, *given)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _begin(two: bool, offsets: int) -> None:
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
def _fetch(
    two: bool, left: int, next_part: int, right: int, groups: int, parts: int, g: int, phase: int
) -> None:
    """Load what :func:`_add` multiplies next; what comes in between gives it time to arrive.

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
        One after the other they take in the products (1, 1); (1, 2), (1, 1), (2, 1); or (1, 3),
        (1, 2), (2, 2), (2, 1), (3, 1), (1, 1) of parts.
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
def _fetch_slots(
    two: bool, left: int, next_part: int, right: int, groups: int, parts: int, g: int, tile: int
) -> None:
    """Load the same of a group of slots, tile by tile."""
    left += 2 * g * TILE + tile * next_part
    right += (g * parts + tile) * TILE
    amx.load(4, left, ROW)
    amx.stream(6, right, ROW)
    if two:
        amx.stream(7, right + groups * parts * TILE, ROW)
    amx.load(5, left + TILE, ROW)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _add(
    two: bool,
    folded: bool,
    left: int,
    next_part: int,
    parts_left: int,
    right: int,
    parts: int,
    g: int,
) -> None:
    """Add to the sums the products of what was fetched.

    With one tile of columns that is a whole group, whose right factor may have more parts, unless
    it has slots.
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
    if folded:
        return
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


@jit(inline="always")  # type: ignore[untyped-decorator]
def row_of(at: int) -> tuple[Any, Any, Any, Any]:
    """Return the same row of all four tiles of sums; ``at`` is where that of the first begins."""
    return (
        memory.load(at),
        memory.load(at + TILE),
        memory.load(at + 2 * TILE),
        memory.load(at + 3 * TILE),
    )


@jit(inline="always")  # type: ignore[untyped-decorator]
def set_row(at: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """Write what :func:`row_of` returns."""
    memory.store(at, a)
    memory.store(at + TILE, b)
    memory.store(at + 2 * TILE, c)
    memory.store(at + 3 * TILE, d)


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
