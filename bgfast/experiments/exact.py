"""References by quadrature for systems small enough to have them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from bgfast.analysis.comparison import exact_profile
from bgfast.analysis.profiles import Profile
from bgfast.energies import DoubleWell, MuellerBrown

Array = NDArray[np.float64]

_NEGLIGIBLE = 100.0
"""Regions this many k_B T above the minimum are left out."""
_POINTS = 200_001
_ACROSS = 601
_PANEL = 0.1
_NODES = 16


@dataclass(frozen=True)
class Exact:
    """What is known about a system at one relative temperature.

    Parameters
    ----------
    log_z
        Log of the partition function, the integral of exp(-u / tau).
    delta_f
        F(above the split) - F(below it) in k_B T.
    profile
        Free energy along the coordinate, averaged over the bins as a histogram does; error 0.
    """

    log_z: float
    delta_f: float
    profile: Profile


def double_well_exact(
    energy: DoubleWell, tau: float, bounds: tuple[float, float], n_bins: int, split: float
) -> Exact:
    """Integrate the double well along x1 by the trapezoidal rule; the rest is Gaussian.

    Parameters
    ----------
    energy
        The system.
    tau
        Relative temperature.
    bounds, n_bins
        Range and bins of the profile along x1.
    split
        Value of x1 that divides the two states.
    """
    reach = _reach(energy, tau, bounds)
    x, log_p = _log_boltzmann(energy, tau, -reach, reach, _POINTS)
    gaussian = 0.5 * (energy.dim - 1) * math.log(2 * math.pi * tau / energy.k)
    below = _log_integral(energy, tau, -reach, split)
    above = _log_integral(energy, tau, split, reach)
    return Exact(
        log_z=_log_trapezoid(x, log_p) + gaussian,
        delta_f=below - above,
        profile=exact_profile(lambda r: _energy_along(energy, r) / tau, bounds, n_bins),
    )


def mueller_brown_exact(
    energy: MuellerBrown, tau: float, bounds: tuple[float, float], n_bins: int, split: float
) -> Exact:
    """Integrate the Mueller-Brown surface: over x by the trapezoidal rule, along y by Gauss's.

    Integrands vanish at both ends in x, so that the trapezoidal rule converges exponentially there.

    Parameters
    ----------
    energy
        The system.
    tau
        Relative temperature.
    bounds, n_bins
        Range and bins of the profile along y.
    split
        Value of y that divides the two states.
    """
    (left, right), (bottom, top) = _box(energy, tau, bounds)
    x = np.linspace(left, right, _ACROSS)

    def along(y: Array) -> Array:
        """Return -log of the integral of exp(-u / tau) over x, shape of ``y``."""
        rows = [_on_grid(energy, x, part) / tau for part in np.array_split(y.ravel(), 64)]
        log_p = logsumexp(-np.concatenate(rows), axis=1) + math.log(x[1] - x[0])
        return np.asarray(-log_p.reshape(y.shape), dtype=np.float64)

    below = _log_gauss(along, bottom, split)
    above = _log_gauss(along, split, top)
    return Exact(
        log_z=float(np.logaddexp(below, above)),
        delta_f=below - above,
        profile=exact_profile(along, bounds, n_bins),
    )


def _box(
    energy: MuellerBrown, tau: float, bounds: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return ranges of x and y that hold ``bounds``; exp(-u / tau) is negligible outside them."""
    half = max(1.5, *(1.0 + abs(bound - 0.75) for bound in bounds))
    while True:
        x, y = np.linspace(-half, half, 601) - 0.25, np.linspace(-half, half, 601) + 0.75
        u = _on_grid(energy, x, y) / tau
        edge = min(u[0].min(), u[-1].min(), u[:, 0].min(), u[:, -1].min())
        if float(edge - u.min()) > _NEGLIGIBLE:
            return (float(x[0]), float(x[-1])), (float(y[0]), float(y[-1]))
        half *= 1.25


def _on_grid(energy: MuellerBrown, x: Array, y: Array) -> Array:
    """Return the energy ``[len(y), len(x)]``."""
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    u: Array = energy.energy(torch.from_numpy(grid)).numpy()
    return u


def _log_gauss(free_energy: Callable[[Array], Array], low: float, high: float) -> float:
    """Return log of the integral of exp(-free_energy) by Gauss's rule in narrow panels."""
    n_panels = math.ceil((high - low) / _PANEL)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    width = (high - low) / n_panels
    centre = low + (np.arange(n_panels) + 0.5) * width
    f = free_energy(centre[:, None] + 0.5 * width * nodes)
    return float(logsumexp(-f, b=np.broadcast_to(0.5 * width * weights, f.shape)))


def _reach(energy: DoubleWell, tau: float, bounds: tuple[float, float]) -> float:
    """Return an |x1| beyond ``bounds`` from which on exp(-u / tau) is negligible."""
    quadratic, linear = max(0.0, energy.a2) / energy.a4, abs(energy.a1) / energy.a4
    stationary = 1.0 + 2.0 * quadratic**0.5 + linear ** (1 / 3)  # beyond all stationary points
    reach = float(max(stationary, *(1.0 + abs(bound) for bound in bounds)))
    while True:
        u = _energy_along(energy, np.linspace(-reach, reach, 2001)) / tau
        if float(min(u[0], u[-1]) - u.min()) > _NEGLIGIBLE:
            return reach
        reach *= 1.5


def _log_integral(energy: DoubleWell, tau: float, low: float, high: float) -> float:
    return _log_trapezoid(*_log_boltzmann(energy, tau, low, high, _POINTS))


def _log_boltzmann(
    energy: DoubleWell, tau: float, low: float, high: float, n: int
) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(low, high, n)
    return x, -_energy_along(energy, x) / tau


def _energy_along(energy: DoubleWell, x1: np.ndarray) -> np.ndarray:
    at = torch.zeros(*x1.shape, energy.dim, dtype=torch.float64)
    at[..., 0] = torch.from_numpy(x1)
    u: np.ndarray = energy.energy(at).numpy()
    return u


def _log_trapezoid(x: np.ndarray, log_p: np.ndarray) -> float:
    weight = np.full(len(x), x[1] - x[0])
    weight[[0, -1]] *= 0.5
    return float(logsumexp(log_p, b=weight))
