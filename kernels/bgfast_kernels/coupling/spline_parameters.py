"""Constants of the rational-quadratic spline, and the numbers its kernels need.

With K bins on [-bound, bound] and the raw numbers of one coordinate, widths W[K], heights H[K] and
slopes S[K - 1]::

    w = 2 bound (MIN_BIN + (1 - K MIN_BIN) softmax(W))      widths of the bins, heights alike
    d = MIN_SLOPE + softplus(min(S + SHIFT, S_CAP))         slopes at the K - 1 inner knots

as in the code published with Durkan et al., arXiv:1906.04032, but for the shift, which makes raw
zeros the identity, and the cap, which no trained network comes near and which keeps every finite
input finite. At the two ends the slope is 1 and the map goes on as the identity: C1.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MIN_BIN = 1e-3
"""Smallest width and height of a bin, as a share of the interval."""

MIN_SLOPE = 1e-3
"""Smallest slope at a knot."""

S_CAP = 1000.0
"""Raw slopes beyond it count as it."""

SHIFT = math.log(math.expm1(1.0 - MIN_SLOPE))
"""Added to raw slopes, so that raw zero is slope 1."""

MAX_BINS = 256


def check(n_parameters: int, bound: float) -> int:
    """Return the number of bins K of ``n_parameters = 3 K - 1`` raw numbers per coordinate.

    Raises
    ------
    ValueError
        If there is no such K in 2..256, or ``bound`` is not a positive finite number.
    """
    n_bins, rest = divmod(n_parameters + 1, 3)
    if rest or not 2 <= n_bins <= MAX_BINS:
        raise ValueError(
            f"raw must hold 3 K - 1 numbers per coordinate with 2 <= K <= {MAX_BINS} bins, "
            f"got {n_parameters}"
        )
    if not (math.isfinite(bound) and bound > 0):
        raise ValueError(f"bound must be a positive finite number, got {bound!r}")
    return n_bins


@functools.lru_cache(maxsize=64)
def constants(bound: float, n_bins: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return the numbers a kernel needs, in the order of ``spline_bins``.

    Two of them come in two parts, a rounded number and what rounding took from it.
    """
    rest = 1 - n_bins * Fraction(MIN_BIN)
    whole = [
        Fraction(bound),
        Fraction(MIN_BIN) / rest,
        *_two_parts(1 / (2 * rest), dtype),
        *_two_parts(1 / (2 * Fraction(bound) * rest), dtype),
    ]
    slopes = [SHIFT, math.exp(SHIFT), math.exp(-SHIFT), S_CAP, MIN_SLOPE]
    return np.array([*map(float, whole), *slopes], dtype)


def _two_parts(number: Fraction, dtype: DTypeLike) -> tuple[Fraction, Fraction]:
    rounded = Fraction(float(np.array(float(number), dtype)))
    return rounded, number - rounded
