"""Energies of one configuration, as functions the Metropolis kernels call.

An energy takes ``(x[D], parameters, limit, scratch)`` and returns u(x); it may return any number
above ``limit`` as soon as it is certain that u(x) exceeds it. A coordinate takes ``x[D]`` and
returns the number that biases and intervals act on.
"""

from __future__ import annotations

import math

from bgfast_kernels import cpu

_X_FAR = 1000.0
_MAX_EXPONENT = 30.0
_N_GAUSSIANS = 4


@cpu.jit
def far_map(x):  # type: ignore[no-untyped-def]
    """Return x, or sign(x) X_FAR (1 + log(|x| / X_FAR)) where |x| is beyond X_FAR = 1000."""
    if abs(x) <= _X_FAR:
        return x
    return math.copysign(_X_FAR * (1.0 + math.log(abs(x) / _X_FAR)), x)


@cpu.jit
def first_coordinate(x):  # type: ignore[no-untyped-def]
    """Return x1, the coordinate of the double well."""
    return x[0]


@cpu.jit
def second_coordinate(x):  # type: ignore[no-untyped-def]
    """Return y, the coordinate of the Mueller-Brown surface."""
    return x[1]


@cpu.jit
def double_well(x, parameters, limit, scratch):  # type: ignore[no-untyped-def]
    """Return a4 x1^4 - a2 x1^2 + a1 x1 + sum_{i >= 2} k/2 xi^2; parameters (a4, a2, a1, k)."""
    x1 = far_map(x[0])
    square = x1 * x1
    others = 0.0
    for i in range(1, x.size):
        xi = far_map(x[i])
        others += xi * xi
    well = (parameters[0] * square - parameters[1]) * square + parameters[2] * x1
    return well + 0.5 * parameters[3] * others


@cpu.jit
def mueller_brown(x, parameters, limit, scratch):  # type: ignore[no-untyped-def]
    """Return scale * sum_k A_k exp(a_k dx^2 + b_k dx dy + c_k dy^2).

    Parameters are the scale, then (A, a, b, c, x0, y0) of each term; exponents above 30 go on
    linearly.
    """
    total = 0.0
    px, py = far_map(x[0]), far_map(x[1])
    for k in range(_N_GAUSSIANS):
        term = parameters[1 + 6 * k : 7 + 6 * k]
        dx, dy = px - term[4], py - term[5]
        exponent = term[1] * dx * dx + term[2] * dx * dy + term[3] * dy * dy
        below = min(exponent, _MAX_EXPONENT)
        total += term[0] * math.exp(below) * (1.0 + (exponent - below))
    return parameters[0] * total
