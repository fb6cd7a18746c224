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
    SLOTS_IN,
    SLOTS_OUT,
    tiles_of_slots,
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
        _pack_column(addresses[k, layer], row, t, to)
        n_out = row[N_OUT]
        x = rows_of(addresses[k, len(table) + layer], n_out, 1, 0, 16 * t, n_out)
        if parts == 1 and layer < last:
            x = halves.first(halves.rounded(x, x))
        to = memory.address(numbers) + 4 * k * (len(numbers) // count)
        memory.store(to + 4 * row[BIAS] + ROW * t, x)


@jit
def _pack_column(source: int, row: NDArray[np.int64], t: int, to: int) -> None:
    n_in, n_out, parts, slots = row[N_IN], row[N_OUT], row[PARTS], row[SLOTS_IN]
    space = memory.scratch(3 * TILE)
    tile = memory.address(space)
    whole = n_in // 32 if slots else row[GROUPS_IN]
    for g in range(whole):
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
    if slots:
        none = halves.rounded(memory.fill(0), memory.fill(0))
        for o in range(16):
            x = rows_of(source, n_in, n_out, 16 * t + o, 32 * whole, n_in)
            first, second, third = _three_parts(x, memory.fill(0))
            a, b, c, d, e, f = _right_parts(parts, none, first, second, third)
            _write_slots(tile + ROW * o, TILE, slots, parts, a, b, c, d, e, f)
        for i in range(tiles_of_slots(slots, parts)):
            memory.transpose_tile(tile + i * TILE, to + i * TILE)
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
        slots = row[SLOTS_OUT]
        whole = n_out // 32 if slots else row[GROUPS_OUT]
        for o in range(0, 32 * whole, 2):
            for ahead in (o + 16, o + 17):
                memory.prefetch(source + 4 * (ahead * n_in + 16 * t))
            a = rows_of(source, n_in, n_out, o, 16 * t, n_in)
            b = rows_of(source, n_in, n_out, o + 1, 16 * t, n_in)
            for part in range(parts):
                low, high = halves.rounded(a, none), halves.rounded(b, none)
                halves.store(to + part * TILE, halves.first_paired(low, high))
                a, b = a - halves.first(low), b - halves.first(high)
            to += ROW if o % 32 < 30 else (parts - 1) * TILE + ROW
        if slots:
            _pack_slots(source, n_in, n_out, t, 32 * whole, slots, parts, to)


@jit
def _pack_slots(
    source: int, n_in: int, n_out: int, t: int, first: int, slots: int, parts: int, to: int
) -> None:
    """Write the inputs of tile t of the outputs from ``first`` on as a group of slots."""
    none = halves.rounded(memory.fill(0), memory.fill(0))
    rows = 16 // slots
    for i in range(rows):
        a = rows_of(source, n_in, n_out, first + 2 * i, 16 * t, n_in)
        b = rows_of(source, n_in, n_out, first + 2 * i + 1, 16 * t, n_in)
        of_a, of_b = _three_parts(a, memory.fill(0)), _three_parts(b, memory.fill(0))
        words = _right_parts(
            parts,
            none,
            halves.first_paired(of_a[0], of_b[0]),
            halves.first_paired(of_a[1], of_b[1]),
            halves.first_paired(of_a[2], of_b[2]),
        )
        at, step = to + i * ROW, rows * ROW
        halves.store(at, words[0])
        halves.store(at + step, words[1])
        halves.store(at + 2 * step, words[2])
        halves.store(at + 3 * step, words[3])
        if parts == 3:
            halves.store(at + 4 * step, words[4])
            halves.store(at + 5 * step, words[5])
            if slots == 4:
                halves.store(at + 6 * step, none)
                halves.store(at + 7 * step, none)


@jit(inline="always")  # type: ignore[untyped-decorator]
def pack_rows(
    write: Any,
    to: int,
    next_part: int,
    at: int,
    next_pairs: int,
    parts: int,
    two: bool,
    slots: int,
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
    slots
        Of the group, if it has some; else 0.
    a, b, c, d
        Columns 0-15 of row r, 16-31 of row r, 0-15 of row r + 16, 16-31 of row r + 16.
    """
    if slots:
        upper_1, upper_2, upper_3 = _three_parts(a, b)
        lower_1, lower_2, lower_3 = _three_parts(c, d)
        _write_left_slots(to, next_part, slots, parts, upper_1, upper_2, upper_3)
        _write_left_slots(to + TILE, next_part, slots, parts, lower_1, lower_2, lower_3)
        if at:
            _keep(write, at, two, upper_1, lower_1)
            _keep(write, at + next_pairs, two, upper_2, lower_2)
            if parts == 3:
                _keep(write, at + 2 * next_pairs, two, upper_3, lower_3)
        return
    for part in range(parts):
        upper, lower = halves.rounded(a, b), halves.rounded(c, d)
        halves.store(to + part * next_part, upper)
        halves.store(to + part * next_part + TILE, lower)
        if at:
            _keep(write, at + part * next_pairs, two, upper, lower)
        a, b = a - halves.first(upper), b - halves.second(upper)
        c, d = c - halves.first(lower), d - halves.second(lower)


@jit(inline="always")  # type: ignore[untyped-decorator]
def _keep(write: Any, at: int, two: bool, upper: Any, lower: Any) -> None:
    write(at, halves.first_paired(upper, lower))
    if two:
        write(at + TILE, halves.second_paired(upper, lower))


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _three_parts(a: Any, b: Any) -> tuple[Any, Any, Any]:
    first = halves.rounded(a, b)
    a, b = a - halves.first(first), b - halves.second(first)
    second = halves.rounded(a, b)
    third = halves.rounded(a - halves.first(second), b - halves.second(second))
    return first, second, third


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _write_left_slots(
    to: int, next_tile: int, slots: int, parts: int, first: Any, second: Any, third: Any
) -> None:
    _write_slots(to, next_tile, slots, parts, first, second, third, first, second, first)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _right_parts(
    parts: int, none: Any, first: Any, second: Any, third: Any
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Return what the slots of a right factor hold."""
    if parts == 2:
        return second, first, none, first, none, none
    return third, second, first, second, first, first


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _write_slots(
    to: int, next_tile: int, slots: int, parts: int, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any
) -> None:
    """Write a row of the tiles whose slots hold the beginnings of six vectors."""
    if slots == 4:
        halves.store(to, halves.first_quarters(a, b, c, d))
        if parts == 3:
            none = halves.rounded(memory.fill(0), memory.fill(0))
            halves.store(to + next_tile, halves.first_quarters(e, f, none, none))
    else:
        halves.store(to, halves.first_halves(a, b))
        halves.store(to + next_tile, halves.first_halves(c, d))
        if parts == 3:
            halves.store(to + 2 * next_tile, halves.first_halves(e, f))


@jit(inline="always")  # type: ignore[untyped-decorator]
def rows_of(numbers: int, stride: int, n: int, row: int, column: int, n_columns: int) -> Any:
    """Load 16 numbers of a row from ``column`` on; zeros beyond the last row or column.

    ``numbers`` is the address of the first row, rows are ``stride`` numbers apart.
    """
    count = min(max(n_columns - column, 0), 16) if row < n else 0
    return memory.load_some(numbers + 4 * (row * stride + column), count)
