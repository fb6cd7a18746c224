"""How far a free-energy profile is from a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from bgfast.analysis.profiles import Profile

_QUADRATURE_POINTS = 16


@dataclass(frozen=True)
class ProfileDeviation:
    """Deviation of a profile from a reference after the best vertical shift, in k_B T.

    Attributes
    ----------
    rmse
        Root mean square over the bins compared, each counted once.
    largest
        Largest absolute deviation.
    offset
        What was subtracted from profile - reference.
    n_bins
        How many bins were compared.
    """

    rmse: float
    largest: float
    offset: float
    n_bins: int


def profile_deviation(
    profile: Profile,
    reference: Profile,
    bounds: tuple[float, float] | None = None,
    f_max: float = np.inf,
) -> ProfileDeviation:
    """Compare two profiles; a free energy is defined up to a constant, so that is fitted first.

    The offset is the mean of profile - reference weighted by the inverse variances; bins of unknown
    error have no say in it. If no error is known, all bins count alike.

    Parameters
    ----------
    profile
        The profile to judge.
    reference
        The reference; interpolated linearly to the bins of ``profile`` if its bins differ.
    bounds
        Compare only bins whose centre lies within these.
    f_max
        Compare only bins where the reference lies at most this far above its minimum.

    Raises
    ------
    ValueError
        If no bin is left in which both profiles are finite.
    """
    reference_f, reference_stderr = _at(profile.r, reference)
    compared = np.isfinite(profile.f) & np.isfinite(reference_f)
    compared &= reference_f - np.nanmin(reference.f) <= f_max
    if bounds is not None:
        compared &= (profile.r >= bounds[0]) & (profile.r <= bounds[1])
    if not compared.any():
        raise ValueError("profile and reference have no finite bin in common within the range")
    difference = (profile.f - reference_f)[compared]
    variance = (profile.stderr**2 + reference_stderr**2)[compared]
    known = np.isfinite(variance) & (variance > 0)
    weight = np.ones(variance.size)
    if known.any():
        weight = np.divide(1.0, variance, out=np.zeros(variance.size), where=known)
    offset = float(np.average(difference, weights=weight))
    deviation = difference - offset
    return ProfileDeviation(
        rmse=float(np.sqrt(np.mean(deviation**2))),
        largest=float(np.abs(deviation).max()),
        offset=offset,
        n_bins=int(compared.sum()),
    )


def exact_profile(
    f: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    bounds: tuple[float, float],
    n_bins: int = 100,
) -> Profile:
    """Return the profile that a histogram would show for a known free energy.

    A histogram measures the mean density in a bin, not the density at its centre; where F is steep
    the two differ by ((F')^2 - F'') h^2 / 24 (0.1 k_B T for a double well and bins of h = 0.05).

    Parameters
    ----------
    f
        Known free energy in k_B T, vectorised: ``f(r[...]) -> [...]``.
    bounds
        Range of the histogram.
    n_bins
        Number of bins.

    Returns
    -------
    Profile
        With error 0, and infinite ``ess``; its minimum is 0.
    """
    low, high = bounds
    if not low < high:
        raise ValueError(f"bounds must be increasing, got {bounds}")
    width = (high - low) / n_bins
    r = low + (np.arange(n_bins, dtype=np.float64) + 0.5) * width
    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE_POINTS)
    at_nodes = np.asarray(f(r[:, None] + 0.5 * width * nodes), dtype=np.float64)
    mean = -logsumexp(-at_nodes, b=weights / 2, axis=1)
    return Profile(
        r=np.asarray(r, dtype=np.float64),
        f=mean - mean.min(),
        stderr=np.zeros(n_bins),
        counts=np.zeros(n_bins, dtype=np.int64),
        ess=np.full(n_bins, np.inf),
    )


def _at(
    r: NDArray[np.float64], profile: Profile
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return f and stderr of ``profile`` at ``r``; NaN outside its bins."""
    if profile.r.shape == r.shape and np.allclose(profile.r, r, rtol=0, atol=1e-9):
        return profile.f, profile.stderr
    f = np.interp(r, profile.r, profile.f, left=np.nan, right=np.nan)
    stderr = np.interp(r, profile.r, profile.stderr, left=np.nan, right=np.nan)
    return f, stderr
