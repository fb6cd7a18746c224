"""Tiles of a coupling's elements: one vector of them, whatever the number of coordinates.

Elements are the numbers of ``x[n, m]`` in memory order; a tile is as many of them as a vector
holds, so it may reach over the end of a row. Their parameters ``raw[n, P, m]`` then lie in several
runs, one for each row the tile touches, and are copied to a block, ``block[p * lanes + lane]``,
run by run with masked loads.
"""

from __future__ import annotations

from typing import Any

from bgfast_kernels import cpu
from bgfast_kernels.simd import fill, lanes_in, load, load_between, store, store_between


@cpu.jit
def read_tile(raw: Any, element: Any, count: Any, m: Any, n_parameters: Any, block: Any) -> None:
    """Copy the parameters of the elements ``element, ..., element + count - 1`` to ``block``."""
    lanes = lanes_in(raw)
    first = 0
    while first < count:
        row, column = divmod(element + first, m)
        last = min(count, first + m - column)
        origin = row * n_parameters * m + column - first
        for p in range(n_parameters):
            old = load(block, p * lanes)
            store(block, p * lanes, load_between(raw, origin + p * m, first, last, old))
        first = last


@cpu.jit
def write_tile(block: Any, raw: Any, element: Any, count: Any, m: Any, n_parameters: Any) -> None:
    """Copy ``block`` to the parameters of the elements ``element, ..., element + count - 1``."""
    lanes = lanes_in(raw)
    first = 0
    while first < count:
        row, column = divmod(element + first, m)
        last = min(count, first + m - column)
        origin = row * n_parameters * m + column - first
        for p in range(n_parameters):
            store_between(raw, origin + p * m, first, last, load(block, p * lanes))
        first = last


@cpu.jit
def of_rows(values: Any, element: Any, count: Any, m: Any, block: Any) -> Any:
    """Return, for each element of a tile, the number ``values[row]`` of its row."""
    for lane in range(count):
        block[lane] = values[(element + lane) // m]
    return load(block, 0)


@cpu.jit
def part_of(values: Any, element: Any, count: Any) -> Any:
    """Return ``count`` numbers from ``values[element]`` on as a vector, the other lanes zero."""
    return load_between(values, element, 0, count, fill(values, 0.0))


@cpu.jit
def sum_rows(block: Any, rows: Any, m: Any, sums: Any, row: Any) -> None:
    """Set ``sums[row + r]`` to the sum of ``block[r m : (r + 1) m]``, added in float64."""
    for r in range(rows):
        total = 0.0
        for j in range(r * m, (r + 1) * m):
            total += block[j]
        sums[row + r] = total
