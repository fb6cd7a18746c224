"""From counts of umbrella windows to F(d), its errors, and the halves that must agree."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import Profile
from bgfast.energies import ParticleDimer
from bgfast.sampling.wham import Unbiased, unbias

Array = NDArray[np.float64]
Counts = NDArray[np.uint32]

_FINE_BINS = 2000  # within the bounds, at least
_MARGIN = 0.1  # d may leave the bounds by this share of their distance
_POINTS = 8  # quadrature points of exp(-V / tau) in a fine bin


class FineGrid:
    """Fine bins of d, and the double well of the dimer averaged over each of them.

    Attributes
    ----------
    interval
        Range of the fine bins: the bounds and a margin on either side.
    centres
        Centres of the M fine bins, ``[M]``.
    double_well
        -log of the mean of exp(-V(d) / tau) in each, ``[M]``.
    """

    def __init__(
        self,
        energy: ParticleDimer,
        tau: float,
        bounds: tuple[float, float],
        n_bins: int,
        split: float,
    ) -> None:
        low, high = bounds
        self._bounds, self._n_bins, self._split = bounds, n_bins, split
        self._per_bin = -(-_FINE_BINS // n_bins)
        self._width = (high - low) / (n_bins * self._per_bin)
        margin = math.ceil(_MARGIN * n_bins * self._per_bin)
        below = min(margin, math.floor(low / self._width))
        self._inside = slice(below, below + n_bins * self._per_bin)
        n = below + n_bins * self._per_bin + margin
        self.interval = (low - below * self._width, low + (n - below) * self._width)
        index = np.arange(n, dtype=np.float64)
        self.centres: Array = self.interval[0] + (index + 0.5) * self._width
        points = (np.arange(_POINTS) + 0.5) / _POINTS - 0.5
        d = torch.from_numpy(self.centres[:, None] + self._width * points)
        v = energy.double_well(d).numpy() / tau
        self.double_well: Array = math.log(_POINTS) - logsumexp(-v, axis=1)

    def index(self, d: Array) -> NDArray[np.int64]:
        """Return the fine bin of each ``d[n]``, all of them within the interval."""
        index = ((d - self.interval[0]) / self._width).astype(np.int64)
        return np.minimum(index, self.centres.size - 1)

    def curve(self, unbiased: Unbiased) -> Curve:
        """Return F in the bins of the profile and delta_f, with the double well put back."""
        log_p = unbiased.log_p - self.double_well
        p = np.exp(log_p - log_p.max())
        bins = p[self._inside].reshape(self._n_bins, self._per_bin).sum(axis=1)
        edges = self.interval[0] + np.arange(p.size) * self._width
        closed = np.clip((self._split - edges) / self._width, 0, 1)  # the split may cut a fine bin
        with np.errstate(divide="ignore"):
            f = -np.log(bins / bins.sum())
            delta_f = float(np.log(p @ (1 - closed)) - np.log(p @ closed))
        return Curve(f, delta_f)

    def profile(self, f: Array, stderr: Array, counts: Array) -> Profile:
        """Return F(d) with its lowest bin at 0; ``counts[M]`` are samples without weight."""
        low, high = self._bounds
        f = np.where(np.isfinite(f), f, np.nan)
        in_bins = counts[self._inside].reshape(self._n_bins, self._per_bin).sum(axis=1)
        return Profile(
            r=low + (np.arange(self._n_bins) + 0.5) * (high - low) / self._n_bins,
            f=f - np.nanmin(f),
            stderr=np.where(np.isfinite(f), stderr, np.nan),
            counts=in_bins.astype(np.int64),
            ess=np.full(self._n_bins, np.nan),
        )


@dataclass(frozen=True)
class Curve:
    """-log of the share of each bin, ``[n_bins]``, and F(closed) - F(open)."""

    f: Array
    delta_f: float


@dataclass(frozen=True)
class LadderEstimate:
    """F(d) from some ladders, errors from a jackknife over them.

    Attributes
    ----------
    profile, delta_f
        As in :class:`bgfast.sampling.umbrella.UmbrellaResult`.
    shape_error
        Largest standard error of F(d) within the bounds when the mean of the curve is fixed.
    overlap
        MBAR overlap of window k and k + 1, ``[K - 1]``.
    """

    profile: Profile
    delta_f: Estimate
    shape_error: float
    overlap: Array

    @property
    def error(self) -> float:
        """The larger one of the errors of delta_f and of F(d); NaN if one is unknown."""
        return float(np.maximum(self.delta_f.stderr, self.shape_error))


def estimate(counts: Counts, bias: Array, grid: FineGrid) -> LadderEstimate:
    """Pool ladders, and leave out one at a time for the errors.

    Parameters
    ----------
    counts
        Samples of ladder l, window k in fine bin m, ``[L, K, M]``, L >= 2.
    bias
        Reduced bias of window k at fine bin m, ``[K, M]``.
    grid
        The fine bins.
    """
    pooled = counts.sum(axis=0, dtype=np.float64)
    unbiased = unbias(pooled, bias)
    best = grid.curve(unbiased)
    left_out = [
        grid.curve(unbias(pooled - own, bias, start=unbiased.f)) for own in counts.astype(float)
    ]
    f = np.array([curve.f for curve in left_out])
    with np.errstate(invalid="ignore"):  # a bin only one ladder reached has no error
        shape_error = _jackknife(f - f.mean(axis=1, keepdims=True)).max()
        stderr = _jackknife(f)
    return LadderEstimate(
        profile=grid.profile(best.f, stderr, pooled.sum(axis=0)),
        delta_f=Estimate(
            best.delta_f, float(_jackknife(np.array([curve.delta_f for curve in left_out])))
        ),
        shape_error=float(shape_error),
        overlap=unbiased.overlap,
    )


def without_double_well(energy: ParticleDimer, slope: float = 0.0) -> ParticleDimer:
    """Return the system with slope (d - d0) in place of the double well: a = b = 0, c = slope."""
    changed = replace(energy.params, a=0.0, b=0.0, c=slope)
    return ParticleDimer(**{name: getattr(changed, name) for name in changed.__dataclass_fields__})


def _jackknife(left_out: Array) -> Array:
    """Return the standard error from estimates that leave out one block each, ``[n, ...]``."""
    n = len(left_out)
    return np.asarray(np.sqrt((n - 1) * left_out.var(axis=0)))
