"""Blocks of samples: rows of an array transposed so that the lanes of a vector are samples.

A block is a flat buffer, ``block[k * lanes + r]`` = coordinate k of the block's sample r. Ragged
blocks are filled up with copies of their last row, so every row goes through the same vector code
and has the same bits wherever it stands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bgfast_kernels import cpu
from bgfast_kernels.continuation import X_FAR
from bgfast_kernels.simd import (
    any_less,
    fill,
    lanes_in,
    larger,
    load,
    prefetch,
    store,
    transpose_tile,
)


@cpu.jit
def new_block(source: Any, dim: Any) -> Any:
    """Return a zeroed block for rows of ``dim`` numbers like those of ``source``, aligned."""
    lanes = lanes_in(source)
    size = max(dim, lanes) * lanes
    memory = np.zeros(size + lanes, source.dtype)
    shift = (-memory.ctypes.data // memory.itemsize) % lanes
    return memory[shift : shift + size]


@cpu.jit
def read_block(source: Any, row: Any, rows: Any, dim: Any, scratch: Any, block: Any) -> None:
    """Fill ``block`` from ``rows`` <= lanes rows of the flat array ``source``."""
    lanes = lanes_in(source)
    if rows == lanes and dim >= lanes:
        _to_columns(source, row * dim, dim, block)
        return
    stride = max(dim, lanes)
    for r in range(lanes):
        origin = (row + min(r, rows - 1)) * dim
        for k in range(dim):
            scratch[r * stride + k] = source[origin + k]
    _to_columns(scratch, 0, stride, block)


@cpu.jit
def write_block(block: Any, target: Any, row: Any, rows: Any, dim: Any, scratch: Any) -> None:
    """Write the first ``rows`` samples of ``block`` to the flat array ``target``."""
    lanes = lanes_in(block)
    if rows == lanes and dim >= lanes:
        _to_rows(block, target, row * dim, dim)
        return
    stride = max(dim, lanes)
    _to_rows(block, scratch, 0, stride)
    for r in range(rows):
        for k in range(dim):
            target[(row + r) * dim + k] = scratch[r * stride + k]


@cpu.jit
def fetch_ahead(ahead: Any, dim: Any, i: Any) -> None:
    """Fetch a share of the rows that are needed next, to overlap memory and arithmetic.

    ``ahead`` is the source read from, the target written to, and the current row. Over
    ``i = 0, 2 lanes, ... < dim lanes`` the next block of the source and the present block of the
    target are fetched, two cache lines each per call.
    """
    source, target, row = ahead
    lanes = lanes_in(source)
    half = dim * lanes // 2
    read, write = (row + lanes) * dim + i // 2, row * dim + i // 2
    prefetch(source, read)
    prefetch(source, read + half)
    prefetch(target, write)
    prefetch(target, write + half)


@cpu.jit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def fold_far(x: Any, slope: Any, scale: Any, dim: Any) -> Any:
    """Replace x by scale phi(x); where any |x| > X_FAR, set ``slope`` to phi'(x), return True."""
    lanes = lanes_in(x)
    largest = fill(x, 0.0)
    for k in range(0, dim * lanes, lanes):
        xk = load(x, k)
        largest = larger(larger(xk, -xk), largest)
    far = any_less(fill(x, X_FAR), largest)
    if far:
        for k in range(dim * lanes):
            size = abs(x[k])
            slope[k] = 1.0
            if size > X_FAR:
                slope[k] = X_FAR / size
                x[k] = math.copysign(X_FAR * (1.0 + math.log(size / X_FAR)), x[k])
    scale_block(x, scale, dim)
    return far


@cpu.jit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def scale_block(x: Any, scale: Any, dim: Any) -> None:
    """Multiply a block by a power of two."""
    lanes = lanes_in(x)
    if scale != 1.0:
        for k in range(0, dim * lanes, lanes):
            store(x, k, load(x, k) * scale)


@cpu.jit
def _to_columns(source: Any, offset: Any, width: Any, block: Any) -> None:
    lanes = lanes_in(source)
    for k in range(0, width - lanes + 1, lanes):
        transpose_tile(source, offset + k, width, block, k * lanes, lanes)
    if width % lanes:  # the last tile overlaps the one before
        k = width - lanes
        transpose_tile(source, offset + k, width, block, k * lanes, lanes)


@cpu.jit
def _to_rows(block: Any, target: Any, offset: Any, width: Any) -> None:
    lanes = lanes_in(block)
    for k in range(0, width - lanes + 1, lanes):
        transpose_tile(block, k * lanes, lanes, target, offset + k, width)
    if width % lanes:
        k = width - lanes
        transpose_tile(block, k * lanes, lanes, target, offset + k, width)
