"""Weights of a population: conditional ESS, the next beta, systematic resampling."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[np.float64]

_BISECTIONS = 60
_LEAST_FIRST = 1e-6
_LEAST_GROWTH = 0.3
_LEAST_STEP = 0.005


def ess_share(log_weights: Array) -> float:
    """Return the effective sample size of ``log_weights[N]`` as a share of N."""
    if not np.isfinite(log_weights).any():
        return 0.0
    value = 2 * logsumexp(log_weights) - logsumexp(2 * log_weights)
    return float(np.exp(value) / log_weights.size)


def conditional_ess(log_weights: Array, log_increment: Array) -> float:
    """Return the conditional effective sample size as a share of N (Zhou et al. 2016).

    (sum W v)^2 / sum W v^2 with normalised weights W and incremental weights v: 1 if the increment
    is the same for all that weigh something.
    """
    with np.errstate(invalid="ignore"):  # -inf - inf: a particle that weighs nothing
        once, twice = log_weights + log_increment, log_weights + 2 * log_increment
    if not np.isfinite(once).any():
        return 0.0
    value = 2 * logsumexp(once) - logsumexp(twice) - logsumexp(log_weights)
    return float(np.exp(value))


def scaled(log_w: Array, beta: float) -> Array:
    """Return ``beta * log_w``, -infinity where ``log_w`` is, also for beta = 0."""
    value: Array = np.where(np.isfinite(log_w), beta, 1.0) * log_w
    return value


def next_beta(log_weights: Array, log_w: Array, beta: float, share: float) -> float:
    """Return the next beta: as large as keeps the conditional ESS at ``share``, at most 1.

    However small the conditional ESS, beta goes to 1e-6 at least, then grows by a factor of 1.3 or
    by 0.005 at least: no schedule has more than 250 stages.

    Parameters
    ----------
    log_weights
        Log weights of the particles, ``[N]``.
    log_w
        Their log importance weights, ``[N]``.
    beta
        The present beta.
    share
        Wanted conditional ESS as a share of N.
    """
    least = least_next(beta)

    def keeps(candidate: float) -> bool:
        return conditional_ess(log_weights, scaled(log_w, candidate - beta)) >= share

    if least == 1.0 or keeps(1.0):
        return 1.0
    if not keeps(least):
        return least
    low, high = math.log(least), 0.0  # a first beta may be tiny
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if keeps(math.exp(middle)) else (low, middle)
    return math.exp(low)


def least_next(beta: float) -> float:
    """Return the least beta that may follow on ``beta``."""
    return min(1.0, beta + max(_LEAST_FIRST, min(_LEAST_GROWTH * beta, _LEAST_STEP)))


def systematic(log_weights: Array, n: int, uniform: float) -> NDArray[np.int64]:
    """Return the indices ``[n]`` of a systematic resampling, in increasing order.

    Particle i is drawn n W_i times on average, rounded down or up.

    Parameters
    ----------
    log_weights
        Log weights, ``[N]``, at least one of them finite.
    n
        Number of draws.
    uniform
        A number in [0, 1), the only random one.
    """
    weights = np.exp(log_weights - logsumexp(log_weights))
    edges = np.cumsum(weights)
    points = (np.arange(n) + uniform) / n * edges[-1]
    index = np.searchsorted(edges, points, side="right")
    last = int(np.flatnonzero(weights)[-1])
    chosen: NDArray[np.int64] = np.minimum(index, last).astype(np.int64)
    return chosen
