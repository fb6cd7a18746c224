"""How heavy the tail of the weights is: the Pareto shape k, from the largest weights alone.

Vehtari, Simpson, Gelman, Yao, Gabry, "Pareto smoothed importance sampling" (JMLR 25, 2024): a
generalised Pareto distribution fitted to the largest 3 sqrt(n) weights. The variance of the weights
exists for k < 1/2; estimates and their errors are unreliable in practice for k > 0.7.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_TAIL = 5  # the fit needs this many weights


def pareto_k(log_w: ArrayLike) -> float:
    """Return the Pareto shape k of the weights ``exp(log_w)``.

    Parameters
    ----------
    log_w
        Log weights, shape ``[n]``. Rows that are not finite have weight 0 and count in n.

    Returns
    -------
    float
        See :meth:`LargestWeights.pareto_k`.
    """
    log_w = np.asarray(log_w, dtype=np.float64)
    if log_w.ndim != 1:
        raise ValueError(f"log_w must have shape [n], got {list(log_w.shape)}")
    largest = LargestWeights(capacity=tail_length(log_w.size) + 1)
    largest.add(log_w[np.isfinite(log_w)])
    return largest.pareto_k(log_w.size)


def tail_length(n: int) -> int:
    """Return how many of n independent weights make the tail: 3 sqrt(n), or n/5 if n <= 225."""
    return math.floor(3 * math.sqrt(n)) if n > 225 else n // 5


class LargestWeights:
    """The ``capacity`` largest log weights of a stream, in memory that does not grow with it.

    Parameters
    ----------
    capacity
        How many to keep. The fit to n weights wants ``tail_length(n) + 1``; 32768 serve n = 1e8.
    """

    def __init__(self, capacity: int = 32768) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._kept: NDArray[np.float64] = np.empty(0)
        self._smallest_of_interest = -np.inf  # once full, nothing below it can enter

    def add(self, log_w: NDArray[np.float64]) -> None:
        """Take in finite log weights, shape ``[n]``."""
        new = log_w[log_w > self._smallest_of_interest]
        if not new.size:
            return
        self._kept = np.concatenate([self._kept, new])
        if self._kept.size > 2 * self.capacity:  # rarely, so that small chunks stay cheap
            self._shrink()

    def values(self) -> NDArray[np.float64]:
        """Return the largest log weights in ascending order, at most ``capacity`` of them."""
        if self._kept.size > self.capacity:
            self._shrink()
        return np.sort(self._kept)

    def pareto_k(self, n: int) -> float:
        """Return the Pareto shape k of the n weights whose largest are kept here.

        The fit sees the same numbers as one to all n weights, so the result is the same; beyond the
        capacity the tail is as long as the capacity allows.

        Returns
        -------
        float
            NaN if it cannot be told: fewer than 25 weights, or fewer positive ones than the tail
            needs. Minus infinity if all weights of the tail are equal: there is no tail at all.
        """
        log_w = self.values()
        length = min(tail_length(n), self.capacity - 1)
        if length < MIN_TAIL or log_w.size < length + 1:
            return math.nan
        return _fit(log_w[-length:], cutoff=float(log_w[-length - 1]))

    def _shrink(self) -> None:
        self._kept = np.partition(self._kept, -self.capacity)[-self.capacity :]
        self._smallest_of_interest = float(self._kept[0])


def _fit(tail: NDArray[np.float64], cutoff: float) -> float:
    """Fit the generalised Pareto distribution to log weights above the largest one below them.

    ArviZ derives the length of the tail from the number of draws; with few draws it is a fifth of
    them, so the tail followed by four times as many copies of the cutoff is fitted as it is.
    """
    from arviz_stats.base import array_stats  # 0.2 s to import, wanted only at the end of a run

    if np.exp(tail[0] - tail[-1]) == 1.0:
        return -math.inf
    length = tail.size
    draws = np.concatenate([np.full(4 * length, cutoff), tail])
    with np.errstate(all="ignore"):
        _, k = array_stats.psislw(-draws, r_eff=1 / draws.size)
    return float(k) if np.isfinite(k) else math.nan
