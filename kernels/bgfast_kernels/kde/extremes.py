"""The least and the greatest of many numbers, and whether one of them is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.cpu import get_threads
from bgfast_kernels.simd import (
    WIDTH_BYTES,
    fill,
    larger,
    load,
    load_between,
    smaller,
    store,
)
from bgfast_kernels.stages import Functions, functions, share, together

Float = NDArray[np.float64]

_LANES = WIDTH_BYTES // 8
_WORTH_A_THREAD = 2**13


def extent(x: Float) -> tuple[float, float]:
    """Return the least and the greatest number; NaN twice if one is not finite, 0 for none."""
    ((lo, hi),) = extents(np.ascontiguousarray(x, np.float64))
    return lo, hi


def extents(*arrays: Float) -> list[list[float]]:
    """Return the :func:`extent` of each of some contiguous arrays."""
    found = np.empty((len(arrays), 2))
    find_extents(functions(), get_threads(), arrays, found)
    extents: list[list[float]] = found.tolist()
    return extents


@jit
def find_extents(
    of_team: Functions, threads: int, arrays: tuple[Float, ...], extents: Float
) -> None:
    """Write what :func:`extents` returns."""
    n = 0
    for x in arrays:
        n += len(x)
    if n < 2 * _WORTH_A_THREAD:
        threads = 1
    found = np.empty((threads, len(arrays), 3 * _LANES))
    for each in found.reshape(-1, 3 * _LANES):  # a thread may not come
        _look_at(np.empty(0), each)
    together(of_team, threads, _look, (arrays, found))
    for i, x in enumerate(arrays):
        lo, hi, poison = np.inf, -np.inf, 0.0
        for mine in found[:, i]:
            for lane in range(_LANES):
                lo, hi = min(lo, mine[lane]), max(hi, mine[_LANES + lane])
                poison += mine[2 * _LANES + lane]
        if len(x) == 0:
            lo = hi = 0.0
        extents[i, 0], extents[i, 1] = lo + poison, hi + poison


@jit
def _look(thread: int, n_threads: int, barrier: int, arrays: tuple[Float, ...], found: Any) -> None:
    for i, x in enumerate(arrays):
        start, stop = share(len(x), _LANES, thread, n_threads)
        _look_at(x[start:stop], found[thread, i])


@jit
def _look_at(x: Float, found: Float) -> None:
    """Write the least and the greatest number of each lane, and NaN for what is not finite or 0."""
    zero = fill(x, 0.0)
    least, greatest, poison = fill(x, np.inf), fill(x, -np.inf), zero
    whole = len(x) // _LANES * _LANES
    for k in range(0, whole, _LANES):
        given = load(x, k)
        least, greatest = smaller(least, given), larger(greatest, given)
        poison = poison + given * zero
    if whole < len(x):
        rest = len(x) - whole
        least = smaller(least, load_between(x, whole, 0, rest, least))
        greatest = larger(greatest, load_between(x, whole, 0, rest, greatest))
        poison = poison + load_between(x, whole, 0, rest, zero) * zero
    store(found, 0, least)
    store(found, _LANES, greatest)
    store(found, 2 * _LANES, poison)
