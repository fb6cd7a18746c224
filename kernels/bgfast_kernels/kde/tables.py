"""The Gaussian's derivatives as polynomials between two boxes: the tables of the fast transform.

Lengths are in bandwidths and K(u) = exp(-u^2 / 2). Boxes are ``2 HALF_WIDTH`` wide; a point of a
box has the coordinate t in [-1, 1] within it. For a target and a source ``offset`` boxes apart,

    K^(k)(2 HALF_WIDTH offset + HALF_WIDTH (t_target - t_source))
        = sum_{a, b} table[offset, b, a] t_source^b t_target^a  +  error

is Chebyshev interpolation of degree ``TERMS - 1`` in both coordinates, written in powers.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

TERMS = 16
HALF_WIDTH = 0.75
NEAR = 6
"""Boxes farther apart than this do not see each other: K(9) = 3e-18."""
REACH = 12
"""Boxes this far apart still enter the error bound; the rest, K(16.5) = 7e-60, is neglected."""
INTERACTION = 2 * HALF_WIDTH * REACH
"""The same in bandwidths."""


def kernel_derivative(u: NDArray[np.floating], order: int) -> NDArray[np.floating]:
    """Return K^(order)(u) = (-1)^order He_order(u) exp(-u^2 / 2)."""
    lower, value = np.zeros_like(u), np.ones_like(u)
    for i in range(order):
        lower, value = value, -u * value - i * lower
    return value * np.exp(-u * u / 2)


@functools.lru_cache(maxsize=64)
def translation_table(order: int, half_width: float = HALF_WIDTH) -> NDArray[np.float64]:
    """Return the tables of K^(order) and K^(order + 1), side by side.

    Parameters
    ----------
    order
        Order of the first derivative, >= 0.
    half_width
        Half the width of the boxes, at most ``HALF_WIDTH``.

    Returns
    -------
    table
        Shape [2 near + 1, TERMS, 2 TERMS]: offset (target box - source box + near), power of the
        source coordinate, then the powers of the target coordinate for the two derivatives.
    """
    # Extended precision, and from Chebyshev to powers last: otherwise rounding costs six digits.
    degree = np.arange(TERMS, dtype=np.longdouble)
    angle = np.arccos(np.longdouble(-1)) * (degree + np.longdouble(0.5)) / TERMS
    node = np.cos(angle)
    to_chebyshev = np.cos(degree[:, None] * angle) * 2 / TERMS
    to_chebyshev[0] /= 2
    to_powers = np.zeros((TERMS, TERMS), dtype=np.longdouble)
    for k in range(TERMS):
        to_powers[: k + 1, k] = chebyshev.cheb2poly(np.eye(TERMS)[k, : k + 1])

    near = math.ceil(NEAR * HALF_WIDTH / half_width - 1e-9)
    offset = np.arange(-near, near + 1, dtype=np.longdouble)[:, None, None]
    u = half_width * (2 * offset + node - node[:, None])  # [offset, source node, target node]
    tables = []
    for k in (order, order + 1):
        coefficients = to_chebyshev @ kernel_derivative(u, k) @ to_chebyshev.T
        tables.append(to_powers @ coefficients @ to_powers.T)
    table = np.ascontiguousarray(np.concatenate(tables, axis=2), dtype=np.float64)
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=64)
def box_error(half_width: float = HALF_WIDTH) -> NDArray[np.float64]:
    """Return a bound on the error of K between boxes 0, 1, 2, ... apart, as far as REACH matters.

    Between near boxes it is twice the largest error of the table on a grid; beyond, the largest
    value of K, which is neglected there.
    """
    t = np.linspace(-1, 1, 33)
    powers = t[:, None] ** np.arange(TERMS)
    offset = np.arange(NEAR + 1)[:, None, None]
    exact = kernel_derivative(HALF_WIDTH * (2 * offset + t - t[:, None]), 0)
    table = translation_table(0)[NEAR:, :, :TERMS]
    near = 2 * np.abs(powers @ table @ powers.T - exact).max(axis=(1, 2))
    far = np.exp(-((2 * HALF_WIDTH * np.arange(NEAR, REACH)) ** 2) / 2)
    error = np.concatenate([near, far])
    # Narrower boxes have a smaller error than wide ones at the same, or a smaller, distance.
    apart = np.arange(math.ceil(REACH * HALF_WIDTH / half_width - 1e-9) + 1)
    wide_apart = np.floor((apart - 1) * (half_width / HALF_WIDTH) + 1e-9).astype(int) + 1
    return error[np.minimum(np.where(apart == 0, 0, wide_apart), REACH)]
