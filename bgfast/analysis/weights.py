"""Importance weights in float64 and flat memory: effective sample size, log Z, largest weight.

A sample x drawn with density q gets the weight w = exp(-u(x)) / q(x). Every drawn row counts in n,
also those with weight 0: rows whose log weight is NaN or infinite, and rows that were discarded on
purpose (outside the canonical labelling). That keeps log Z = log <w> exact for the kept region.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bgfast.analysis.estimate import Estimate
from bgfast.analysis.pareto import LargestWeights

_FIRST_CHECKPOINT = 64


@dataclass(frozen=True)
class WeightSummary:
    """What the weights of n draws say.

    Attributes
    ----------
    n
        Number of draws, those of weight 0 included.
    ess
        Effective sample size (sum w)^2 / sum w^2; 0 if no weight is positive.
    max_weight
        Share of the largest weight in the sum of all; NaN if no weight is positive.
    pareto_k
        Shape of the weights' tail, see :mod:`bgfast.analysis.pareto`.
    log_z
        log of the mean weight, in k_B T, and its standard error by the delta method.
    nonfinite
        Rows whose log weight was NaN or infinite.
    discarded
        Rows that were discarded on purpose.
    history
        Pairs (n, ESS of the first n draws), n growing by factors of sqrt(2).
    """

    n: int
    ess: float
    max_weight: float
    pareto_k: float
    log_z: Estimate
    nonfinite: int
    discarded: int
    history: tuple[tuple[int, float], ...]


class WeightAccumulator:
    """Takes in log weights chunk by chunk; memory does not grow with their number.

    Parameters
    ----------
    n_largest
        How many of the largest weights to keep for the Pareto k; 32768 serve 1e8 draws.
    """

    def __init__(self, n_largest: int = 32768) -> None:
        self.n = 0
        self.nonfinite = 0
        self.discarded = 0
        self._shift = -math.inf  # largest log weight so far; the sums are of exp(log_w - shift)
        self._sum_w = 0.0
        self._sum_w2 = 0.0
        self._largest = LargestWeights(n_largest)
        self._history: list[tuple[int, float]] = []
        self._next_checkpoint = _FIRST_CHECKPOINT

    def update(self, log_w: ArrayLike, discard: ArrayLike | None = None) -> None:
        """Take in one chunk.

        Parameters
        ----------
        log_w
            Log weights, shape ``[n]``. NaN and +-infinity get weight 0 and count as nonfinite.
        discard
            Boolean mask, shape ``[n]``: rows that get weight 0 on purpose. They count as discarded,
            whatever their log weight is.

        Raises
        ------
        ValueError
            If a shape is not ``[n]``.
        TypeError
            If ``discard`` is not boolean.
        """
        log_w = as_log_weights(log_w)
        mask = _as_mask(discard, log_w.size)
        start = 0
        while start < log_w.size:  # stop at checkpoints, so that the chunk size does not matter
            stop = min(log_w.size, start + self._next_checkpoint - self.n)
            self._add(log_w[start:stop], mask[start:stop])
            start = stop

    def merge(self, other: WeightAccumulator) -> None:
        """Take in everything that ``other`` has seen. The history of this one ends here."""
        self.n += other.n
        self.nonfinite += other.nonfinite
        self.discarded += other.discarded
        self._raise_shift(other._shift)
        if other._sum_w > 0:
            scale = math.exp(other._shift - self._shift)
            self._sum_w += scale * other._sum_w
            self._sum_w2 += scale**2 * other._sum_w2
        self._largest.add(other._largest.values())
        self._next_checkpoint = 2**63

    def result(self) -> WeightSummary:
        """Return the summary of all rows so far."""
        positive = self._sum_w > 0
        return WeightSummary(
            n=self.n,
            ess=self._ess(),
            max_weight=1 / self._sum_w if positive else math.nan,
            pareto_k=self._largest.pareto_k(self.n),
            log_z=self._log_z(),
            nonfinite=self.nonfinite,
            discarded=self.discarded,
            history=tuple(self._history),
        )

    def _add(self, log_w: NDArray[np.float64], discard: NDArray[np.bool_]) -> None:
        finite = np.isfinite(log_w)
        self.n += log_w.size
        self.discarded += int(discard.sum())
        self.nonfinite += int((~finite & ~discard).sum())
        kept = log_w[finite & ~discard]
        if kept.size:
            self._raise_shift(float(kept.max()))
            w = weights_from(kept, self._shift)
            self._sum_w += float(w.sum())
            self._sum_w2 += float(np.square(w).sum())
            self._largest.add(kept)
        if self.n == self._next_checkpoint:
            self._history.append((self.n, self._ess()))
            self._next_checkpoint = math.ceil(self.n * math.sqrt(2))

    def _raise_shift(self, largest: float) -> None:
        if largest > self._shift:
            scale = math.exp(self._shift - largest)
            self._sum_w *= scale
            self._sum_w2 *= scale**2
            self._shift = largest

    def _ess(self) -> float:
        return self._sum_w**2 / self._sum_w2 if self._sum_w > 0 else 0.0

    def _log_z(self) -> Estimate:
        if self.n == 0:
            return Estimate(math.nan, math.nan)
        if self._sum_w == 0:
            return Estimate(-math.inf, math.nan)
        value = self._shift + math.log(self._sum_w / self.n)
        if self.n == 1:
            return Estimate(value, math.nan)
        relative_variance = self.n / self._ess() - 1  # of one weight
        return Estimate(value, math.sqrt(max(relative_variance, 0.0) / (self.n - 1)))


def ess(log_w: ArrayLike) -> float:
    """Return the effective sample size (sum w)^2 / sum w^2 of ``log_w[n]``; non-finite rows are 0.

    Never quote it without n, the largest weight and the Pareto k: see
    :func:`bgfast.analysis.diagnostics.trust`.
    """
    log_w = as_log_weights(log_w)
    w = normalised_weights(log_w)
    return float(1 / np.square(w).sum()) if w.any() else 0.0


def weighted_mean(values: ArrayLike, log_w: ArrayLike) -> Estimate:
    """Return the weighted mean of ``values[n]`` with the standard error of a ratio estimator.

    Rows in which the value or the log weight is not finite get weight 0. The error is NaN for fewer
    than two rows of positive weight.

    Raises
    ------
    ValueError
        If the shapes are not both ``[n]``, or no row has a positive weight.
    """
    log_w = as_log_weights(log_w)
    values = np.asarray(values, dtype=np.float64)
    if values.shape != log_w.shape:
        raise ValueError(
            f"values must have the shape of log_w, {list(log_w.shape)}, got {list(values.shape)}"
        )
    used = np.isfinite(values) & np.isfinite(log_w)
    if not used.any():
        raise ValueError("no row has both a finite value and a finite log weight")
    w = normalised_weights(log_w[used])
    mean = float(w @ values[used])
    n_used = np.count_nonzero(w)
    if n_used < 2:
        return Estimate(mean, math.nan)
    variance = float(np.square(w) @ np.square(values[used] - mean)) * n_used / (n_used - 1)
    return Estimate(mean, math.sqrt(variance))


def as_log_weights(log_w: ArrayLike) -> NDArray[np.float64]:
    """Return ``log_w`` as float64 of shape ``[n]``, or raise ``ValueError``."""
    array = np.asarray(log_w, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"log_w must have shape [n], got {list(array.shape)}")
    return array


def weights_from(log_w: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    """Return ``exp(log_w - shift)``, 0 where ``log_w`` is not finite; ``shift`` >= max(log_w)."""
    with np.errstate(over="ignore", invalid="ignore"):  # the difference may overflow to -inf
        w = np.exp(log_w - shift)
    return np.where(np.isfinite(log_w), w, 0.0)


def normalised_weights(log_w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights of sum 1, shape ``[n]``; all 0 if no log weight is finite."""
    finite = np.isfinite(log_w)
    if not finite.any():
        return np.zeros_like(log_w)
    w = weights_from(log_w, float(log_w[finite].max()))
    normalised: NDArray[np.float64] = w / w.sum()
    return normalised


def _as_mask(discard: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    if discard is None:
        return np.zeros(n, dtype=bool)
    mask = np.asarray(discard)
    if mask.dtype != bool:
        raise TypeError(f"discard must be boolean, got {mask.dtype}")
    if mask.shape != (n,):
        raise ValueError(f"discard must have shape [{n}] like log_w, got {list(mask.shape)}")
    return mask
