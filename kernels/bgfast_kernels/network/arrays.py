"""What the passes through networks are given and return, on whatever unit they run."""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.network.activation import KINDS

Bytes = NDArray[np.uint8]
Single = NDArray[np.float32]

BIASES_TOGETHER = 16
"""Biases of a layer are followed by room up to a multiple of it."""


class Rows(NamedTuple):
    """``n`` rows of float32 in ``numbers``, flat, the first numbers of rows ``stride`` apart."""

    numbers: Single
    stride: int
    n: int


class Gradients(NamedTuple):
    """Gradients of all weights, and of all biases, of one network after another."""

    weights: list[Single]
    biases: list[Single]


def gradients_of(
    widths: tuple[int, ...], count: int, by_weight: Single, by_bias: Single
) -> Gradients:
    """Return as arrays of their shapes what the kernels wrote.

    Between the biases of two layers there is room with any numbers.
    """
    by_layer = _slices(widths, count)
    return Gradients(
        [by_weight[a:b].reshape(shape) for (a, b, shape), _ in by_layer],
        [by_bias[a:b] for _, (a, b) in by_layer],
    )


def results_of(shape: tuple[int, int, int], memory: Single | None) -> Single:
    """Return an array for results, ``[network, n, n_out]``, in ``memory`` if it is given."""
    if memory is None:
        return np.empty(shape, np.float32)
    size = math.prod(shape)
    if memory.dtype != np.float32 or memory.size < size:
        kind = f"{memory.size} of {memory.dtype}"
        raise ValueError(f"memory must have room for {size} numbers of float32, it is {kind}")
    return memory[:size].reshape(shape)


def check(count: int, activations: tuple[str, ...], kept: Bytes | None, least: int, n: int) -> None:
    """Raise unless there are ``count`` activations, and ``least`` bytes if any are kept."""
    if len(activations) != count:
        raise ValueError(f"activations must be one for each of {count} networks, got {activations}")
    if kept is not None and len(kept) < least:
        raise ValueError(f"kept must be kept_memory for {n} rows of {count} networks, it is less")


@functools.lru_cache
def _slices(
    widths: tuple[int, ...], count: int
) -> list[tuple[tuple[int, int, tuple[int, int]], tuple[int, int]]]:
    """Return where weights, and where biases, of all layers of all networks begin and end."""
    found, weight, bias = [], 0, 0
    for n_in, n_out in [*itertools.pairwise(widths)] * count:
        end = weight + n_out * n_in
        found.append(((weight, end, (n_out, n_in)), (bias, bias + n_out)))
        weight, bias = end, bias - (-n_out // BIASES_TOGETHER) * BIASES_TOGETHER
    return found


@functools.lru_cache
def kinds(activations: tuple[str, ...]) -> NDArray[np.int64]:
    """Return what kernels are told of activations."""
    return np.array([KINDS[activation] for activation in activations], np.int64)
