"""Where a dense network's weights, activations and gradients lie in flat arrays.

Rows (samples) are worked on 32 at a time, a block: two vectors of 16 lanes. Numbers of a column
follow each other for the rows of a block, columns of a layer follow each other, eight and eight: up
to there is room.

Weights
    ``[columns, 16 at a time][what is summed over][16]``, so that eight that multiply the same
    activations follow each other: columns of the result in the forward pass, of the inputs in the
    backward pass. What is missing is zero.
Kept activations
    ``[block][inputs, then network by network the inputs of later layers][32 rows]``.
Gradients
    ``[block][network][results of all layers][32 rows]``.

Numbers are float32, or with one part bfloat16. Then weights are words of two that are summed over
one after the other, but for those of the last layer in the forward pass, and a column of a block is
one vector.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS = 32
"""Rows in a block."""

COLUMN = 4 * ROWS
"""Bytes of a column of a block in float32, or of a pair of columns in bfloat16."""

HALF_COLUMN = COLUMN // 2
"""Bytes of a column of a block in bfloat16."""

WHOLE, ROUNDED = 0, 1
"""Parts of a number: none where it is float32, one where it is bfloat16."""

PANEL = 16
"""Columns of weights side by side."""

TOGETHER = 8
"""Columns that a product makes at once."""

SQUARE = 5
"""Columns of either side in a product that sums over rows."""

SIDE = SQUARE * COLUMN // 64
"""Squares that follow each other with the same inputs, whose cache lines of a block they fetch."""

# Columns of the table, for every layer.
N_IN, N_OUT, FORWARD, BACKWARD, BIAS, KEPT, GRADIENT, WEIGHT = range(8)


class Layout(NamedTuple):
    """Sizes and offsets of a network; ``table`` has a row for every layer.

    Its columns are numbers of inputs and outputs, where in the words of packed weights those of the
    layer begin (for the forward and for the backward pass), where in the numbers of packed biases,
    how many columns come before its inputs among the kept ones of a network (that of the first
    layer, whose inputs networks share, is 0) and before its results among the gradients, and how
    many weights.
    """

    table: NDArray[np.int64]
    forward: int
    backward: int
    biases: int
    inputs: int
    kept: int
    gradients: int
    weights: int
    widest: int
    """Most columns of any layer, with room."""

    column: int
    """Bytes of a column of a block that is kept, or of gradients."""

    def kept_columns(self, count: int) -> int:
        """Return how many columns a block of ``count`` networks keeps.

        An odd number: blocks that lie powers of two apart would share places in a cache.
        """
        return (self.inputs + count * self.kept) | 1

    def gradient_columns(self, count: int) -> int:
        """Return how many columns of gradients a block of ``count`` networks has, odd as well."""
        return (count * self.gradients) | 1


@functools.lru_cache
def layout(widths: tuple[int, ...], parts: int) -> Layout:
    """Return where things lie for layers from ``widths[i]`` to ``widths[i + 1]`` columns.

    Raises
    ------
    ValueError
        If ``parts`` is neither :data:`WHOLE` nor :data:`ROUNDED`.
    """
    if parts not in (WHOLE, ROUNDED):
        raise ValueError(
            f"parts must be {WHOLE} (float32) or {ROUNDED} (bfloat16) on vector units, got {parts}"
        )
    room = [up_to(width, TOGETHER) for width in widths]
    table = np.zeros((len(widths) - 1, 8), np.int64)
    ends = np.zeros(6, np.int64)
    for i in range(len(table)):
        n_in, n_out = widths[i], widths[i + 1]
        table[i] = n_in, n_out, *ends
        whole = parts == WHOLE or i == len(table) - 1
        ends += (
            up_to(n_out, PANEL) * up_to(n_in if whole else words(n_in), PANEL),
            up_to(n_in, PANEL) * (n_out if parts == WHOLE else words(n_out)),
            up_to(n_out, PANEL),
            room[i] if i else 0,
            room[i + 1],
            n_in * n_out,
        )
    forward, backward, biases, kept, gradients, weights = ends.tolist()
    column = COLUMN if parts == WHOLE else HALF_COLUMN
    sizes = kept, gradients, weights, max(room), column
    return Layout(table, forward, backward, biases, room[0], *sizes)


def up_to(n: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not below ``n``."""
    return -(-n // step) * step


def words(n: int) -> int:
    """Return how many words of two numbers ``n`` of them take."""
    return (n + 1) // 2


def n_blocks(n_rows: int) -> int:
    """Return the number of blocks that ``n_rows`` rows fill."""
    return -(-n_rows // ROWS)


@functools.lru_cache
def panels(widths: tuple[int, ...], count: int, side: int) -> NDArray[np.int64]:
    """Return network, layer and number of every panel of columns, of ``N_IN`` or ``N_OUT``."""
    table = layout(widths, WHOLE).table
    return np.array(
        [
            (k, i, p)
            for k in range(count)
            for i, row in enumerate(table)
            for p in range(-(-row[side] // PANEL))
        ],
        np.int64,
    )


@functools.lru_cache
def squares(widths: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """Return network, layer, first input and first output of all squares of weights.

    Inputs five by five, and for these ``SIDE`` squares of outputs, whose gradients stay in a second
    cache from one five to the next; then the next outputs.
    """
    table = layout(widths, WHOLE).table
    step = SIDE * SQUARE
    return np.array(
        [
            (k, layer, i, o)
            for k in range(count)
            for layer, row in enumerate(table)
            for first in range(0, row[N_OUT], step)
            for i in range(0, row[N_IN], SQUARE)
            for o in range(first, min(first + step, row[N_OUT]), SQUARE)
        ],
        np.int64,
    )
