"""Rows of one source within one state, and their sums by block and by bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """Usable rows within the state from one source; every array has shape ``[n]``.

    ``block`` is the generator batch or the walker, 0 ... n_blocks - 1; ``log_target`` leads from
    the simulated density to the target.
    """

    work: Array
    r: Array
    block: Integers
    n_blocks: int
    log_target: Array

    def sums(self, values: Array) -> Array:
        """Return the sum of ``values[n]`` in each block, ``[n_blocks]``."""
        return np.bincount(self.block, values, minlength=self.n_blocks).astype(np.float64)

    def binned(self, edges: Array, log_unit: float) -> Binned:
        """Return the rows between the outer edges (both included) with their bins.

        Target factors are in units of exp(log_unit).
        """
        n_bins = edges.size - 1
        inside = (self.r >= edges[0]) & (self.r <= edges[-1])
        scaled = (self.r[inside] - edges[0]) / (edges[1] - edges[0])
        column = np.minimum(scaled.astype(np.int64), n_bins - 1)
        return Binned(
            self.work[inside],
            np.exp(self.log_target[inside] - log_unit),
            self.block[inside] * n_bins + column,
            (self.n_blocks, n_bins),
        )

    def in_one_bin(self, log_unit: float) -> Binned:
        """Return all rows in a single bin."""
        target = np.exp(self.log_target - log_unit)
        return Binned(self.work, target, self.block, (self.n_blocks, 1))


@dataclass(frozen=True)
class Binned:
    """Rows with their place in a table ``[n_blocks, n_bins]``.

    Work, target factor exp(log_target) in some unit, and flat index; each ``[n]``.
    """

    work: Array
    target: Array
    cell: Integers
    shape: tuple[int, int]

    def sums(self, values: Array) -> Array:
        """Return the sum of ``values[n]`` in each block and bin, ``[n_blocks, n_bins]``."""
        n_cells = self.shape[0] * self.shape[1]
        table: Array = np.bincount(self.cell, values, minlength=n_cells).astype(np.float64)
        return table.reshape(self.shape)
