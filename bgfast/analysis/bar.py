"""Bennett's acceptance ratio (BAR): the free-energy difference of two densities sampled both ways.

Bennett, J. Comput. Phys. 22, 245 (1976). With x drawn from p_0 ("forward", work
w = u_1(x) - u_0(x), n_F rows) and from p_1 ("reverse"), the difference f = f_1 - f_0 solves

    sum_F fermi(c - w) = sum_R fermi(w - c),    c = f + log(n_R / n_F),    fermi(y) = 1/(1 + e^-y)

The two sums rise and fall with c, so there is one crossing c. Everything is on the log scale: the
sums may be as small as e^-1e9 when the two densities hardly overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from bgfast.analysis.estimate import Estimate

Array = NDArray[np.float64]

_EXPONENTIAL_BELOW = -40.0  # there fermi(y) = e^y to float64 precision


def bar(work_forward: ArrayLike, work_reverse: ArrayLike) -> Estimate:
    """Return the free-energy difference f_1 - f_0 in k_B T; swapped arguments give its negative.

    Parameters
    ----------
    work_forward
        u_1(x) - u_0(x) of independent samples x of p_0, shape ``[n_F]``. +infinity is a sample on
        which p_1 vanishes.
    work_reverse
        u_0(x) - u_1(x) of independent samples x of p_1, shape ``[n_R]``; +infinity likewise.

    Returns
    -------
    Estimate
        With Bennett's asymptotic standard error for independent rows. Not determined (NaN) if all
        the work of one direction is infinite.

    Raises
    ------
    ValueError
        If an array is not ``[n]`` with n >= 1, or holds NaN or -infinity.
    """
    forward = _as_work(work_forward, "work_forward")
    reverse = -_as_work(work_reverse, "work_reverse")
    n_forward, n_reverse = forward.size, reverse.size
    forward, reverse = forward[np.isfinite(forward)], reverse[np.isfinite(reverse)]
    c = crossing(forward, reverse)
    return Estimate(
        c - math.log(n_reverse / n_forward),
        bar_stderr(forward, reverse, c, n_forward, n_reverse),
    )


def crossing(forward: Array, reverse: Array, reverse_weight: float = 1.0) -> float:
    """Return the c at which sum fermi(c - forward) = reverse_weight * sum fermi(reverse - c).

    Parameters
    ----------
    forward, reverse
        Finite work u_1 - u_0 (the same sign for both) of samples of p_0 and of p_1, shape ``[n]``.
    reverse_weight
        What one row of ``reverse`` counts, below 1 for correlated frames.

    Returns
    -------
    float
        NaN if one of the arrays is empty.
    """
    if forward.size == 0 or reverse.size == 0:
        return math.nan

    def gap(c: float) -> float:
        above, log_above = scaled_fermi(c - forward)
        below, log_below = scaled_fermi(reverse - c)
        ratio = float(above.sum() / (reverse_weight * below.sum()))
        return math.log(ratio) + (log_above - log_below)

    ends = float(forward.min()), float(reverse.max())
    low = _step_until(lambda c: gap(c) <= 0, min(ends), -1.0)
    high = _step_until(lambda c: gap(c) >= 0, max(ends), 1.0)
    return float(brentq(gap, low, high, xtol=1e-12, rtol=1e-14, maxiter=500))


def fermi(y: Array) -> Array:
    """Return 1 / (1 + e^-y)."""
    value: Array = expit(y)
    return value


def scaled_fermi(y: Array) -> tuple[Array, float]:
    """Return fermi(y) / s and log s, s chosen such that the largest value does not underflow."""
    largest = float(y.max())
    if largest > _EXPONENTIAL_BELOW:
        return fermi(y), 0.0
    return np.exp(y - largest), largest


def effective_numbers(forward: Array, reverse: Array, c: float) -> tuple[float, float]:
    """Return (sum h)^2 / sum h^2 of both sides at the crossing c, h the terms of the two sums."""
    above, below = scaled_fermi(c - forward)[0], scaled_fermi(reverse - c)[0]
    return (
        float(above.sum() ** 2 / np.square(above).sum()),
        float(below.sum() ** 2 / np.square(below).sum()),
    )


def bar_stderr(
    forward: Array, reverse: Array, c: float, n_forward: float, n_reverse: float
) -> float:
    """Return the asymptotic standard error of f at the crossing c; NaN if there is none.

    f = const + log <fermi(w - c)>_R - log <fermi(c - w)>_F, so the relative variances of the two
    means add. ``n_forward`` and ``n_reverse`` also count rows that are left out of the arrays
    (infinite work); an ``n_reverse`` below the number of rows stands for correlated frames.
    """
    if math.isnan(c):
        return math.nan
    forward_ess, reverse_ess = effective_numbers(forward, reverse, c)
    reverse_ess *= min(1.0, n_reverse / reverse.size)
    variance = 1 / forward_ess - 1 / n_forward + 1 / reverse_ess - 1 / n_reverse
    return math.sqrt(max(variance, 0.0))


def _step_until(reached: Callable[[float], bool], start: float, step: float) -> float:
    """Go from ``start`` in steps that double until ``reached``."""
    at = start
    while not reached(at):
        if not math.isfinite(at):
            raise ValueError("the work values are too large for float64 arithmetic")
        at = start + step
        step *= 2
    return at


def _as_work(work: ArrayLike, name: str) -> Array:
    array = np.asarray(work, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must have shape [n] with n >= 1, got {list(array.shape)}")
    if np.isnan(array).any() or np.isneginf(array).any():
        raise ValueError(f"{name} must be finite or +infinity, got NaN or -infinity")
    return array
