"""Networks of the same inputs, one after the other, each block of rows by block of rows.

So activations stay in the first cache, and the weights of a network in the second. Inputs are
packed anew for every network, which is little work.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import amx, memory, products
from bgfast_kernels.network.activation import activated
from bgfast_kernels.network.amx import ROW, TILE
from bgfast_kernels.network.halves import stream
from bgfast_kernels.network.layout import (
    BIAS,
    FORWARD,
    GROUPS_IN,
    KEPT,
    N_IN,
    N_OUT,
    PARTS,
    ROWS,
    SLOTS_IN,
    TILES_IN,
    TILES_OUT,
)
from bgfast_kernels.network.packing import Bytes, Single, pack_rows, rows_of
from bgfast_kernels.network.products import write_rows

Row = NDArray[np.int64]
Waiting = tuple[int, int, int, int, bool, int]
"""Where sums are, where left factors of them go, where they are kept and how much further their
next parts, whether they have two tiles of columns, and slots if they are a group that has some;
first 0: none wait."""


@functools.cache
def forward_kernel(parts: int) -> Any:
    """Return the kernel for numbers of so many parts: LLVM unrolls loops over as many."""

    @jit(key=str(parts))  # type: ignore[untyped-decorator]
    def forward(
        start: int,
        stop: int,
        x: Single,
        stride: int,
        n: int,
        weights: Bytes,
        biases: Single,
        table: NDArray[np.int64],
        groups: int,
        activations: NDArray[np.int64],
        configuration: Bytes,
        out: Single,
        kept: Bytes,
        kept_tiles: int,
    ) -> None:
        """Map the rows of blocks ``start <= block < stop`` through every network.

        Parameters
        ----------
        x, stride, n
            Inputs, flat, rows ``stride`` numbers apart, and how many rows there are.
        weights, biases
            Packed, of one network after another.
        table, groups, kept_tiles
            Of the layout.
        activations
            ``RELU`` or ``TANH``, of every network.
        configuration
            Of the tiles.
        out
            Results ``[network, n, n_out]``, flat.
        kept
            Inputs of all layers, for the backward pass; empty if there is none.
        """
        strip = 2 * groups * TILE
        space = memory.scratch(3 * parts * strip + 8 * TILE)
        inputs = memory.address(space)
        sums = inputs + 3 * parts * strip
        other_sums = sums + 4 * TILE
        count, last = len(activations), len(table) - 1
        input_tiles = table[0, TILES_IN] * parts
        block_tiles = input_tiles + count * kept_tiles
        zero = 0 * start  # not a literal, for which the kernel would be compiled again
        none = zero, zero, zero, zero, zero > 0, zero
        amx.configure(memory.address(configuration))
        n_blocks = stop - start
        for turn in range(count * n_blocks):
            k, block = turn // n_blocks, start + turn % n_blocks
            at = memory.address(kept) + block * block_tiles * TILE if len(kept) else zero
            there = at if k == 0 else zero
            _inputs(memory.address(x), stride, n, block, table[0], inputs, strip, parts, there)
            right = memory.address(weights) + k * (len(weights) // count)
            offsets = memory.address(biases) + 4 * k * (len(biases) // count)
            own = at + (input_tiles + k * kept_tiles) * TILE if at else 0
            activation, waiting, source = activations[k], none, inputs
            for layer in range(last):
                row = table[layer]
                tiles = row[TILES_OUT]
                target = inputs + (1 + layer % 2) * parts * strip
                after = own + table[layer + 1, KEPT] * TILE if at else 0
                for t in range(0, tiles, 2):
                    two = t + 1 < tiles
                    _multiply(
                        right,
                        offsets,
                        row,
                        t,
                        two,
                        source,
                        strip,
                        parts,
                        sums,
                        activation,
                        waiting,
                    )
                    there = after + t * TILE if at else 0
                    slots = table[layer + 1, SLOTS_IN] if t + 2 >= tiles else zero
                    waiting = sums, target + t * TILE, there, tiles * TILE, two, slots
                    sums, other_sums = other_sums, sums
                source = target
            row = table[last]
            to = memory.address(out) + 4 * k * n * row[N_OUT]
            for t in range(row[TILES_OUT]):
                _multiply(
                    right,
                    offsets,
                    row,
                    t,
                    False,
                    source,
                    strip,
                    parts,
                    sums,
                    activation,
                    waiting,
                )
                waiting = none
                write_rows(sums, to, row[N_OUT], n, block, row[N_OUT], t, False)
        amx.release()
        memory.keep(space)

    return forward


@jit
def _inputs(
    x: int,
    stride: int,
    n: int,
    block: int,
    row_0: Row,
    target: int,
    strip: int,
    parts: int,
    at: int,
) -> None:
    """Write the inputs of a block as left factors, and keep them from ``at`` on, if not 0."""
    n_in, groups = row_0[N_IN], row_0[GROUPS_IN]
    next_kept = row_0[TILES_IN] * TILE
    for g in range(groups):
        two = 32 * g + 16 < n_in
        slots = row_0[SLOTS_IN] if g == groups - 1 else 0
        for r in range(16):
            row, offset = ROWS * block + r, 2 * g * TILE + ROW * r
            a = rows_of(x, stride, n, row, 32 * g, n_in)
            b = rows_of(x, stride, n, row, 32 * g + 16, n_in)
            c = rows_of(x, stride, n, row + 16, 32 * g, n_in)
            d = rows_of(x, stride, n, row + 16, 32 * g + 16, n_in)
            there = at + offset if at else 0
            to = target + offset
            pack_rows(stream, to, strip, there, next_kept, parts, two, slots, a, b, c, d)


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _multiply(
    weights: int,
    biases: int,
    row: Row,
    t: int,
    two: bool,
    source: int,
    strip: int,
    parts: int,
    sums: int,
    activation: int,
    waiting: Waiting,
) -> None:
    """Write the sums of one or two tiles of columns, and finish meanwhile those that wait."""
    groups, parts_right = row[GROUPS_IN], row[PARTS] if parts == 1 else parts
    right = weights + row[FORWARD] + t * groups * parts_right * TILE
    offsets = biases + 4 * row[BIAS] + ROW * t
    given = (activation, strip, parts, waiting)
    products.multiply(
        _finish,
        given,
        products.UNITS_OF_ROWS if waiting[0] else 0,
        two,
        source,
        strip,
        parts,
        right,
        groups,
        parts_right,
        row[SLOTS_IN],
        offsets,
        sums,
    )


@jit(forceinline=True)  # type: ignore[untyped-decorator]
def _finish(
    first: int,
    last: int,
    activation: int,
    strip: int,
    parts: int,
    waiting: Waiting,
) -> None:
    """Activate some of the rows of sums that wait, and pack those before."""
    sums, target, at, next_kept, two, slots = waiting
    for unit in range(first, last):
        r = unit * ROW
        if unit < ROWS // 2:
            a, b, c, d = products.row_of(sums + r)
            a, b = activated(activation, parts, a), activated(activation, parts, b)
            c, d = activated(activation, parts, c), activated(activation, parts, d)
            products.set_row(sums + r, a, b, c, d)
        if unit > 0:
            r -= ROW
            a, b, c, d = products.row_of(sums + r)
            there = at + r if at else 0
            pack_rows(stream, target + r, strip, there, next_kept, parts, two, slots, a, b, c, d)
