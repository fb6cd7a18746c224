"""Networks whose hidden layers multiply bfloat16 numbers, one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.network import memory
from bgfast_kernels.network.activation import activated
from bgfast_kernels.vector_network import products
from bgfast_kernels.vector_network.columns import (
    Bytes,
    Single,
    from_pairs,
    read_rows,
    to_pairs,
    write_rows,
)
from bgfast_kernels.vector_network.forward import NO_ACTIVATION, whole_layer
from bgfast_kernels.vector_network.layout import (
    BIAS,
    COLUMN,
    FORWARD,
    HALF_COLUMN,
    KEPT,
    N_IN,
    N_OUT,
    PANEL,
    ROUNDED,
    TOGETHER,
)

_VECTOR = 64


@jit
def forward(
    start: int,
    stop: int,
    x: Single,
    stride: int,
    n: int,
    weights: Bytes,
    offsets: Single,
    table: NDArray[np.int64],
    widest: int,
    activations: NDArray[np.int64],
    out: Single,
    kept: Bytes,
    inputs: int,
    kept_of_network: int,
    kept_of_block: int,
) -> None:
    """Map the rows of blocks ``start <= block < stop`` through every network.

    The arguments are those of :func:`bgfast_kernels.vector_network.forward.forward`.
    """
    room = widest + PANEL
    space = memory.scratch(3 * room * COLUMN + 32 * _VECTOR)
    columns = memory.address(space)
    result = columns + room * COLUMN
    pairs = result + room * COLUMN
    next_pairs = pairs + room * HALF_COLUMN
    tiles = next_pairs + room * HALF_COLUMN
    count, last = len(activations), len(table) - 1
    keeps = len(kept) > 0
    n_blocks = stop - start
    for turn in range(count * n_blocks):
        k, block = turn // n_blocks, start + turn % n_blocks
        right = memory.address(weights) + k * (len(weights) // count)
        added = memory.address(offsets) + 4 * k * (len(offsets) // count)
        at = memory.address(kept) + block * kept_of_block * HALF_COLUMN
        n_in, n_out = table[0, N_IN], table[last, N_OUT]
        read_rows(memory.address(x), stride, n, block, n_in, True, columns, tiles)
        to_pairs(columns, n_in, pairs, at if keeps and k == 0 else 0)
        for layer in range(last):
            own = 0
            if keeps:
                before = inputs + k * kept_of_network + table[layer + 1, KEPT]
                own = at + before * HALF_COLUMN
            _layer(pairs, table[layer], right, added, activations[k], columns, next_pairs, own)
            pairs, next_pairs = next_pairs, pairs
        from_pairs(pairs, table[last, N_IN], columns)
        whole_layer(columns, table[last], right, added, result, NO_ACTIVATION)
        to = memory.address(out) + 4 * k * n * n_out
        write_rows(result, n_out, to, n_out, n, block, tiles, False)
    memory.keep(space)


@jit
def _layer(
    source: int,
    row: NDArray[np.int64],
    weights: int,
    offsets: int,
    activation: int,
    eight: int,
    target: int,
    own: int,
) -> None:
    """Write what a layer hands on.

    ``source`` and ``target`` are where pairs of columns are, ``own``, if not 0, where columns go
    one by one, and ``eight`` the address of memory for those that a product makes.
    """
    n_in, n_out = row[N_IN], row[N_OUT]
    pairs = -(-n_in // 2)
    panel = 4 * PANEL * (-(-pairs // PANEL) * PANEL)
    right, added = weights + 4 * row[FORWARD], offsets + 4 * row[BIAS]
    for t in range(-(-n_out // TOGETHER)):
        at = right + t // 2 * panel + t % 2 * 4 * TOGETHER
        products.multiply_pairs(source, at, pairs, added + 4 * TOGETHER * t, eight)
        for i in range(2 * TOGETHER):
            place = eight + _VECTOR * i
            memory.store(place, activated(activation, ROUNDED, memory.load(place)))
        columns = t * TOGETHER * HALF_COLUMN
        n_columns = min(TOGETHER, n_out - TOGETHER * t)
        to_pairs(eight, n_columns, target + columns, own + columns if own else 0)
