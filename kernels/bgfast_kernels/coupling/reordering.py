"""Columns of rows in another order, and gradients back to where they were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu

Single = NDArray[np.float32]
Int = NDArray[np.int64]

_LEAST_NUMBERS = 2**15  # worth a thread


def take_columns(rows: Single, columns: Int, result: Single) -> None:
    """Write ``rows[:, columns]`` to ``result``; both are contiguous.

    Raises
    ------
    IndexError
        If there is no such column.
    """
    _run(_take, rows, columns, result)


def put_columns(rows: Single, columns: Int, result: Single) -> None:
    """Write ``rows`` to ``result[:, columns]``: of a permutation, what :func:`take_columns` undoes.

    Raises
    ------
    IndexError
        If there is no such column.
    """
    _run(_put, rows, columns, result)


def _run(kernel: Any, rows: Single, columns: Int, result: Single) -> None:
    n_columns = rows.shape[1]
    if columns.shape != (n_columns,):
        raise IndexError(f"columns must be {n_columns} numbers, got shape {list(columns.shape)}")
    if not _within(columns, n_columns):
        raise IndexError(f"columns must be 0 to {n_columns - 1}, one is out of this range")
    least = max(1, _LEAST_NUMBERS // max(1, n_columns))
    cpu.parallel_rows(kernel, len(rows), rows, columns, result, min_rows=least)


@cpu.jit
def _within(columns: Int, end: int) -> bool:
    within = True
    for column in columns:
        within &= 0 <= column < end
    return within


@cpu.jit
def _take(start: int, stop: int, rows: Single, columns: Int, result: Single) -> None:
    for i in range(start, stop):
        for c in range(len(columns)):
            result[i, c] = rows[i, columns[c]]


@cpu.jit
def _put(start: int, stop: int, rows: Single, columns: Int, result: Single) -> None:
    for i in range(start, stop):
        for c in range(len(columns)):
            result[i, columns[c]] = rows[i, c]
