"""Where the tiles of a dense network's weights, activations and gradients lie in flat arrays.

Rows (samples) are worked on 32 at a time, a block; columns of an input in groups of 32 (what one
product of tiles sums up), columns of a result 16 at a time (the width of a tile). Numbers that are
missing at the ends are zeros.

A number is the sum of one, two or three bfloat16 numbers, its parts, each of the digits that those
before leave over. Of the products of n parts those count whose numbers add up to at most n + 1; the
others are below the last digit.

Left factors (activations, gradients of a block)
    ``[part, group, half of the rows]``: row r of a tile holds 16 words, word j the columns 2 j and
    2 j + 1 of the group.
Right factors (weights)
    ``[columns of the result, group, part]``: row j of a tile holds, for 16 results, the inputs
    2 j and 2 j + 1 of the group.
A last group of at most 16 columns, in several parts
    Most of its tiles would be zeros, so several products of parts are one product of tiles: these
    have two slots of 16 columns, or four of 8, for one part each. From slot to slot, tile to tile,
    left parts are 1, 2, 3, 1, 2, 1, and right parts 3, 2, 1, 2, 1, 1. Of two parts, the left ones
    are the first four of these, where a third is as good as any, and the right ones 2, 1, none, 1.
    What slots are left in a last tile are zeros in both. Tiles lie where otherwise parts do.
Kept activations and gradients, for the gradients of the weights
    ``[block, network, layer, part, columns]``, before the first network of a block the inputs of
    all: row r of a tile holds, for 16 columns, the rows r and r + 16 of the block; those of
    gradients are transposed, as they are left factors.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network.amx import TILE

ROWS = 32
"""Rows in a block."""

# Columns of the table, for every layer.
N_IN, N_OUT, GROUPS_IN, GROUPS_OUT, TILES_IN, TILES_OUT = range(6)
SLOTS_IN, SLOTS_OUT, PARTS, FORWARD, BACKWARD, BIAS, KEPT, GRADIENT, WEIGHT = range(6, 15)


class Layout(NamedTuple):
    """Sizes and offsets of a network; ``table`` has a row for every layer.

    Its columns are numbers of inputs and outputs, of groups of 32, of tiles of 16 and of slots in
    the last group (or 0) of either, of parts of a weight in the forward pass, where in the bytes of
    packed weights those of the layer begin (for the forward and for the backward pass), where in
    the numbers of packed biases, how many tiles come before those of the layer among the kept
    activations, and the gradients, of a block, and how many weights. The inputs of a network are
    kept once for all networks that share them: before the activations, which are counted without
    them.
    """

    table: NDArray[np.int64]
    parts: int
    forward_bytes: int
    backward_bytes: int
    biases: int
    input_tiles: int
    kept_tiles: int
    gradient_tiles: int
    weights: int
    groups: int
    """Most groups of any input or gradient."""

    def all_kept_tiles(self, count: int) -> int:
        """Return how many tiles a block of ``count`` networks keeps; they share their inputs."""
        return self.input_tiles + count * self.kept_tiles


@functools.lru_cache
def layout(widths: tuple[int, ...], parts: int) -> Layout:
    """Return where things lie for layers from ``widths[i]`` to ``widths[i + 1]`` columns.

    ``parts`` is that of all numbers but the weights of the last layer in the forward pass: beside
    activations of one part these have three, which are all digits of a float32.
    """
    n_layers = len(widths) - 1
    table = np.zeros((n_layers, 15), np.int64)
    ends = np.zeros(6, np.int64)
    for i in range(n_layers):
        n_in, n_out = widths[i], widths[i + 1]
        groups, tiles = (-(-n_in // 32), -(-n_out // 32)), (-(-n_in // 16), -(-n_out // 16))
        slots = _slots(n_in, parts), _slots(n_out, parts)
        parts_forward = 3 if parts == 1 and i == n_layers - 1 else parts
        table[i] = n_in, n_out, *groups, *tiles, *slots, parts_forward, *ends
        ends += (
            tiles[1] * groups[0] * parts_forward * TILE,
            tiles[0] * groups[1] * parts * TILE,
            tiles[1] * 16,
            tiles[0] * parts if i else 0,
            tiles[1] * parts,
            n_in * n_out,
        )
    groups_most = int(table[:, [GROUPS_IN, GROUPS_OUT]].max())
    end: list[int] = ends.tolist()
    inputs = int(table[0, TILES_IN]) * parts
    return Layout(table, parts, end[0], end[1], end[2], inputs, end[3], end[4], end[5], groups_most)


def _slots(n_columns: int, parts: int) -> int:
    """Return how many slots a last group has, 0 if it is like the others."""
    rest = n_columns % 32
    if parts == 1 or rest == 0 or rest > 16:
        return 0
    return 4 if rest <= 8 else 2


@jit
def tiles_of_slots(slots: int, parts: int) -> int:
    """Return how many tiles a last group of slots has."""
    products = 6 if parts == 3 else 4
    return -(-products // slots)


def n_blocks(n_rows: int) -> int:
    """Return the number of blocks that ``n_rows`` rows fill."""
    return -(-n_rows // ROWS)


@functools.lru_cache
def columns(widths: tuple[int, ...], count: int, tiles: int) -> NDArray[np.int64]:
    """Return network, layer and number of every tile of columns, ``TILES_IN`` or ``TILES_OUT``."""
    table = layout(widths, 1).table
    return np.array(
        [(k, i, t) for k in range(count) for i, row in enumerate(table) for t in range(row[tiles])],
        np.int64,
    )
