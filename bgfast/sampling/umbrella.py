"""F(d) of the dimer by umbrella sampling with replica exchange: a reference without a generator.

The dimer's own double well V depends on d alone, so it need not be sampled: the windows sample the
system without it, where F is smooth, and V(d) / tau is added in the end. Few, weak windows then
cover the range, and their walkers diffuse along d instead of climbing the barrier. That counts,
because the solvent, dense and nearly crystalline, changes its packing faster at other d.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import Profile
from bgfast.energies import ParticleDimer
from bgfast.sampling.replica_exchange import UmbrellaLadders
from bgfast.sampling.umbrella_convergence import judge
from bgfast.sampling.umbrella_estimate import (
    Counts,
    FineGrid,
    LadderEstimate,
    estimate,
    without_double_well,
)

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

EXCHANGE_EVERY = 4  # sweeps; rarer swaps slow the walkers down, more frequent ones cost overhead
_START = 0.225  # ladders start at this share of the bounds, or of what is left of it
_BLOCKS = 16  # parts of a run that are counted apart
_CHECKS = (2, 4, 8, 16)  # blocks after which the error is looked at


@dataclass(frozen=True)
class UmbrellaResult:
    """F(d) by umbrella sampling, and what tells whether it has converged.

    Attributes
    ----------
    tau
        Relative temperature.
    profile
        F(d) in k_B T; ``stderr`` is from a jackknife over ladders and belongs, as everywhere, to
        the density normalised within the bounds. ``counts`` are correlated samples without weight;
        ``ess`` is NaN.
    delta_f
        F(d < split) - F(d >= split) in k_B T, d within ``interval``.
    shape_error
        Largest standard error of F(d) within the bounds when the mean of the curve is fixed.
    halves
        ``"started closed"`` and ``"started open"`` (ladders), ``"first half"`` and
        ``"second half"`` (of the time).
    disagreement
        Largest difference of F(d) between two corresponding halves whose means are the same.
    exchange
        Acceptance of swaps between window k and k + 1, ``[K - 1]``.
    overlap
        MBAR overlap of window k and k + 1, ``[K - 1]``.
    round_trips
        Trips first - last - first window per ladder.
    interval
        Range that d could not leave.
    n_ladders, n_windows, sweeps, burn_in
        Independent ladders, windows of each, sweeps of each walker that were used and before them.
    converged, statement
        Whether every check was passed, and the checks in words.
    seconds
        Wall time.
    """

    tau: float
    profile: Profile
    delta_f: Estimate
    shape_error: float
    halves: dict[str, LadderEstimate]
    disagreement: float
    exchange: Array
    overlap: Array
    round_trips: float
    interval: tuple[float, float]
    n_ladders: int
    n_windows: int
    sweeps: int
    burn_in: int
    converged: bool
    statement: str
    seconds: float


@dataclass(frozen=True)
class UmbrellaSettings:
    """How the sampling is done; the defaults suit tau = 0.5 to 2.

    Parameters
    ----------
    n_windows, spring
        Windows, evenly spread over the bounds, and their strength in k_B T per unit of length
        squared: the bias divided by k_B T is spring/2 (d - centre)^2 at any tau.
    n_ladders
        Independent ladders, even, at least 4; half start closed, half open.
    sweeps
        Longest run of each walker, in sweeps of single-particle moves; at least 64.
    burn_in
        Sweeps before it.
    tolerance
        Error in k_B T at which the run ends earlier, that of delta_f and ``shape_error``. It is
        looked at after 1/8, 1/4 and 1/2 of ``sweeps``.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    n_windows: int = 28
    spring: float = 120.0
    n_ladders: int = 16
    sweeps: int = 140_000
    burn_in: int = 6000
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        for name in ("spring", "tolerance"):
            if not (value := getattr(self, name)) > 0 or math.isinf(value):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        least = {"n_windows": 2, "n_ladders": 4, "sweeps": _BLOCKS * EXCHANGE_EVERY, "burn_in": 0}
        for name, allowed in least.items():
            if (value := getattr(self, name)) < allowed:
                raise ValueError(f"{name} must be at least {allowed}, got {value}")
        if self.n_ladders % 2:
            raise ValueError(f"n_ladders must be even, got {self.n_ladders}")


def umbrella_profile(
    energy: ParticleDimer,
    tau: float = 1.0,
    *,
    bounds: tuple[float, float] = (0.5, 2.5),
    n_bins: int = 80,
    split: float = 1.5,
    settings: UmbrellaSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> UmbrellaResult:
    """Return F(d) from independent ladders of umbrella windows.

    Parameters
    ----------
    energy
        The system.
    tau
        Relative temperature.
    bounds, n_bins
        Range and bins of the profile.
    split
        Distance between the closed and the open state, within the bounds.
    settings
        How the sampling is done.
    seed
        Seed of everything: the same one gives the same result.
    progress
        Called as ``progress(sweeps_done, longest_run)``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    _check(tau, bounds, n_bins, split)
    settings = settings or UmbrellaSettings()
    began = time.perf_counter()
    grid = FineGrid(energy, tau, bounds, n_bins, split)
    ladders = UmbrellaLadders(
        without_double_well(energy),
        _starts(energy, bounds, settings.n_ladders),
        tau,
        np.linspace(*bounds, settings.n_windows),
        settings.spring * tau,
        grid.interval,
        seed,
    )
    bias = 0.5 * settings.spring * (grid.centres - ladders.centres[:, None]) ** 2
    rounds = settings.sweeps // _BLOCKS // EXCHANGE_EVERY
    burn_in = -(-settings.burn_in // EXCHANGE_EVERY)
    clock = _Clock(progress, burn_in + _BLOCKS * rounds)

    ladders.adapt()
    _run(ladders, burn_in, grid, clock)
    ladders.forget()
    blocks: list[Counts] = []
    for check in _CHECKS:
        blocks += [_run(ladders, rounds, grid, clock) for _ in range(check - len(blocks))]
        whole = estimate(np.sum(blocks, axis=0, dtype=np.uint32), bias, grid)
        if whole.error <= settings.tolerance:
            break
    clock.stop()

    round_trips = float(ladders.round_trips.mean())
    convergence = judge(whole, np.array(blocks), bias, grid, round_trips, settings.tolerance)
    return UmbrellaResult(
        tau=tau,
        profile=whole.profile,
        delta_f=whole.delta_f,
        shape_error=whole.shape_error,
        halves=convergence.halves,
        disagreement=convergence.disagreement,
        exchange=ladders.swapped / np.maximum(ladders.tried, 1),
        overlap=whole.overlap,
        round_trips=round_trips,
        interval=grid.interval,
        n_ladders=settings.n_ladders,
        n_windows=settings.n_windows,
        sweeps=len(blocks) * rounds * EXCHANGE_EVERY,
        burn_in=burn_in * EXCHANGE_EVERY,
        converged=not convergence.problems,
        statement=convergence.statement,
        seconds=time.perf_counter() - began,
    )


class _Clock:
    """Tells the progress in sweeps."""

    def __init__(self, progress: Progress | None, rounds: int) -> None:
        self._progress, self._total, self._done = progress, rounds, 0

    def tick(self) -> None:
        self._done += 1
        if self._done % 50 == 0:
            self._show(self._done)

    def stop(self) -> None:
        self._show(self._total)

    def _show(self, rounds: int) -> None:
        if self._progress is not None:
            self._progress(rounds * EXCHANGE_EVERY, self._total * EXCHANGE_EVERY)


def _run(ladders: UmbrellaLadders, rounds: int, grid: FineGrid, clock: _Clock) -> Counts:
    """Alternate sweeps and swaps; return how often each walker was in each fine bin, [L, K, M]."""
    counts = np.zeros((ladders.n_ladders, ladders.n_windows, grid.centres.size), np.uint32)
    for _ in range(rounds):
        d = ladders.advance(EXCHANGE_EVERY)
        counts[ladders.ladder, ladders.window, grid.index(d)] += 1  # no two walkers in one window
        ladders.exchange(d)
        clock.tick()
    return counts


def _starts(energy: ParticleDimer, bounds: tuple[float, float], n_ladders: int) -> Array:
    low, high = bounds
    inset = _START * (high - low)
    closed, opened = (energy.lattice_configuration(d).numpy() for d in (low + inset, high - inset))
    return np.array([opened if i % 2 else closed for i in range(n_ladders)])


def _check(tau: float, bounds: tuple[float, float], n_bins: int, split: float) -> None:
    low, high = bounds
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be positive and finite, got {tau}")
    if not 0 <= low < split < high < math.inf:
        raise ValueError(f"bounds must be 0 <= low < split < high, got {bounds}, split {split}")
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
