"""Checks of what a sampler is given: one clear error naming the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def as_array(value: Any) -> Array:
    """Return a float64 copy of an array or torch tensor."""
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu().numpy()
    return np.array(value, np.float64, order="C")


def configurations(x0: Any, dim: int) -> Array:
    """Return walker starts as a float64 copy, ``[W, dim]``."""
    x = as_array(x0)
    if x.ndim != 2 or x.shape[1] != dim or len(x) == 0:
        raise ValueError(f"x0 must have shape [W, {dim}] with W >= 1, got {list(x.shape)}")
    return x


def positive(name: str, value: Any, n: int) -> Array:
    """Return one positive number per walker, ``[n]``."""
    array = as_array(value)
    if array.shape not in ((), (n,)):
        raise ValueError(f"{name} must be a number or have shape [{n}], got {list(array.shape)}")
    bad = array[~((array > 0) & np.isfinite(array))]
    if bad.size:
        raise ValueError(f"{name} must be positive and finite, got {bad.flat[0]:g}")
    return np.full(n, array)


def _pairs(name: str, value: Any, n: int, meaning: str) -> Array:
    array = as_array(value)
    if array.shape not in ((2,), (n, 2)):
        got = f"shape {list(array.shape)}" if array.size > 2 else repr(value)
        raise ValueError(f"{name} must be {meaning} or have shape [{n}, 2], got {got}")
    if np.isnan(array).any():
        raise ValueError(f"{name} must not be NaN, got {array[np.isnan(array)].size} NaN")
    return np.array(np.broadcast_to(array, (n, 2)), order="C")


def biases(value: Any, n: int) -> Array:
    """Return one (k, centre) per walker, ``[n, 2]``; ``None`` is no bias."""
    bias = _pairs("bias", (0.0, 0.0) if value is None else value, n, "(k, centre)")
    if not np.isfinite(bias).all() or (bias[:, 0] < 0).any():
        wrong = bias[~np.isfinite(bias).all(axis=1) | (bias[:, 0] < 0)][0]
        raise ValueError(f"bias must be finite with k >= 0, got ({wrong[0]:g}, {wrong[1]:g})")
    return bias


def intervals(value: Any, n: int) -> Array:
    """Return one (low, high) per walker, ``[n, 2]``; ``None`` is no bounds."""
    interval = _pairs("interval", (-np.inf, np.inf) if value is None else value, n, "(low, high)")
    reversed_rows = np.flatnonzero(interval[:, 0] >= interval[:, 1])
    if reversed_rows.size:
        low, high = interval[reversed_rows[0]]
        raise ValueError(f"interval must have low < high, got ({low:g}, {high:g})")
    return interval


def frames(n_steps: int, stride: int) -> int:
    """Return how many frames ``n_steps`` are, one every ``stride``."""
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    if n_steps < 0 or n_steps % stride:
        raise ValueError(f"n_steps must be a multiple of stride = {stride}, got {n_steps}")
    return n_steps // stride
