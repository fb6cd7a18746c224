"""Weights of samples from several biased ensembles: MBAR for a finely binned coordinate.

With every bias a function of one coordinate, all that MBAR (Shirts and Chodera, J. Chem. Phys. 129,
124105, 2008) needs of a sample is its coordinate, so samples can be counted in bins, as in WHAM
(Kumar et al., J. Comput. Chem. 13, 1011, 1992). The equations are the same up to the width of a
bin, and their size no longer depends on the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[np.float64]

_MAX_STEPS = 100
_RIDGE = 1e-9  # keeps the Newton equations solvable where ensembles do not overlap


@dataclass(frozen=True)
class Unbiased:
    """Solution of the MBAR equations.

    Attributes
    ----------
    log_p
        Log probability of each bin without bias, normalised, ``[M]``; -inf without samples.
    f
        -log Z of each biased ensemble relative to the first, ``[K]``.
    overlap
        MBAR overlap of each ensemble with the next, ``[K - 1]``: the chance that one of its samples
        is taken for one of the next ensemble. 0 cuts the chain.
    """

    log_p: Array
    f: Array
    overlap: Array


def unbias(counts: Array, bias: Array, start: Array | None = None) -> Unbiased:
    """Solve the MBAR equations for samples counted in bins.

    Parameters
    ----------
    counts
        Samples of ensemble k in bin m, ``[K, M]``; every ensemble has some.
    bias
        Reduced bias (divided by tau) of ensemble k at bin m, ``[K, M]``.
    start
        First guess of f, ``[K]``.

    Raises
    ------
    ValueError
        If the shapes differ or an ensemble has no samples.
    """
    if counts.shape != bias.shape or counts.ndim != 2:
        raise ValueError(
            f"counts and bias must share a shape [K, M], got {list(counts.shape)} and "
            f"{list(bias.shape)}"
        )
    n = counts.sum(axis=1)
    if not (n > 0).all():
        raise ValueError(f"every ensemble needs samples, ensemble {np.argmin(n)} has none")
    total = counts.sum(axis=0)
    seen = total > 0
    guess = _first_guess(counts, bias) if start is None else start
    f = _solve(n, total[seen], bias[:, seen], guess)
    log_density = _log_mixture(n, bias[:, seen], f)
    log_p = np.full(total.size, -np.inf)
    log_p[seen] = np.log(total[seen]) - log_density
    log_p -= logsumexp(log_p)
    share = np.exp(np.log(n)[:, None] + f[:, None] - bias[:, seen] - log_density)
    return Unbiased(log_p, f, ((share[1:] * share[:-1]) @ total[seen]) / n[:-1])


def _first_guess(counts: Array, bias: Array) -> Array:
    """Return f by the trapezoidal rule along the chain of ensembles (mean of both directions)."""
    p = counts / counts.sum(axis=1, keepdims=True)
    step = np.diff(bias, axis=0)
    rise = 0.5 * ((p[:-1] + p[1:]) * step).sum(axis=1)
    return np.concatenate([[0.0], np.cumsum(rise)])


def _log_mixture(n: Array, bias: Array, f: Array) -> Array:
    """Return log sum_k n_k exp(f_k - bias_k) in every bin."""
    mixture: Array = logsumexp((np.log(n) + f)[:, None] - bias, axis=0)
    return mixture


def _solve(n: Array, total: Array, bias: Array, f: Array) -> Array:
    """Minimise the convex sum_m total_m log mixture_m - sum_k n_k f_k by Newton's method, f_0 = 0.

    Its gradient vanishes where the MBAR equations hold.
    """

    def objective(f: Array) -> float:
        return float(total @ _log_mixture(n, bias, f) - n @ f)

    value = objective(f)
    for _ in range(_MAX_STEPS):
        share = np.exp((np.log(n) + f)[:, None] - bias - _log_mixture(n, bias, f))
        expected = share @ total
        hessian = np.diag(expected + _RIDGE * n) - (share * total) @ share.T
        step = np.zeros(n.size)
        step[1:] = np.linalg.solve(hessian[1:, 1:], (n - expected)[1:])
        new_value = objective(f + step)
        while new_value > value and np.abs(step).max() > 1e-12:
            step *= 0.5
            new_value = objective(f + step)
        f, value = f + step, new_value
        if np.abs(step).max() < 1e-10:
            break
    return f
