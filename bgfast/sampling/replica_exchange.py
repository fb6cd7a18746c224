"""Umbrella windows whose walkers change places: Hamiltonian replica exchange along a coordinate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast.sampling.metropolis import MetropolisSampler

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ADAPT_SWEEPS = 500
_ACCEPTANCE = 0.25  # at tau = 0.5, errors fall faster per second than with 0.4 or 0.55


class UmbrellaLadders:
    """Independent ladders of harmonic windows along the dimer distance d.

    A ladder has one walker in each of K windows, biased by k/2 (d - centre)^2. Every few sweeps
    neighbouring windows, in turn the even and the odd pairs, propose to swap their configurations.
    Windows, not configurations, are handed from walker to walker.

    Parameters
    ----------
    system
        The energy, a :class:`bgfast.energies.ParticleDimer`.
    x0
        Start of each ladder, ``[L, dim]``; all its windows start there.
    tau
        Relative temperature.
    centres
        Centres of the windows, ``[K]``, increasing.
    spring
        k in k_B T0 per unit of length squared.
    interval
        Range that d never leaves.
    seed
        Seed of walkers and swaps.

    Attributes
    ----------
    tried, swapped
        Proposed and accepted swaps of window k and k + 1 since the last
        :meth:`forget`, ``[K - 1]``.
    round_trips
        Trips of each ladder's walkers from the first window to the last and back, ``[L]``, since
        then.
    """

    def __init__(
        self,
        system: Any,
        x0: Array,
        tau: float,
        centres: Array,
        spring: float,
        interval: tuple[float, float],
        seed: int,
    ) -> None:
        self.n_ladders, self.n_windows = len(x0), len(centres)
        self.centres, self.spring, self.tau = centres, spring, tau
        walkers, swaps = np.random.SeedSequence(seed).generate_state(2)
        self._rng = np.random.default_rng(swaps)
        self.ladder: Integers = np.repeat(np.arange(self.n_ladders), self.n_windows)
        self.window: Integers = np.tile(np.arange(self.n_windows), self.n_ladders)
        # _walker[l, k]: who is in window k of ladder l.
        self._walker: Integers = np.arange(self.window.size).reshape(self._walker_shape)
        self._sampler = MetropolisSampler(
            system,
            np.repeat(x0, self.n_windows, axis=0),
            tau=tau,
            step=0.1 * np.sqrt(tau),
            moves="particle",
            seed=int(walkers),
            interval=interval,
            bias=np.stack([np.full(self.window.size, spring), centres[self.window]], axis=1),
        )
        self._step = np.full(self.n_windows, self._sampler.step[0])
        self._parity = 0
        self.forget()

    @property
    def _walker_shape(self) -> tuple[int, int]:
        return self.n_ladders, self.n_windows

    def forget(self) -> None:
        """Start the counts of swaps and round trips anew."""
        self.tried = np.zeros(self.n_windows - 1, np.int64)
        self.swapped = np.zeros(self.n_windows - 1, np.int64)
        self.round_trips = np.zeros(self.n_ladders, np.int64)
        # Where a walker of the ladder was last: 0 neither end, 1 first window, 2 last after first.
        self._leg = np.zeros(self.window.size, np.int64)

    def adapt(self) -> None:
        """Fit the step size of each window, common to all ladders; part of the burn-in."""
        log_step = np.log(self._sampler.adapt(_ADAPT_SWEEPS, _ACCEPTANCE))
        total = np.bincount(self.window, log_step, minlength=self.n_windows)
        self._step = np.exp(total / self.n_ladders)

    def advance(self, n_sweeps: int) -> Array:
        """Make ``n_sweeps`` sweeps and return each walker's d, ``[W]``."""
        self._sampler.walkers.bias[:, 1] = self.centres[self.window]
        self._sampler.walkers.step[:] = self._step[self.window]
        x = self._sampler.run(n_sweeps, stride=n_sweeps).x[:, 0]
        d: Array = np.hypot(x[:, 0] - x[:, 2], x[:, 1] - x[:, 3])
        return d

    def exchange(self, d: Array) -> None:
        """Let every second pair of neighbouring windows try to swap; ``d[W]`` as from advance."""
        first = slice(self._parity, self.n_windows - 1, 2)
        second = slice(self._parity + 1, self.n_windows, 2)
        self._parity = 1 - self._parity
        i, j = self._walker[:, first], self._walker[:, second]
        # Change of the summed bias when d_i goes to the second window and d_j to the first.
        cost = self.spring * (self.centres[second] - self.centres[first]) * (d[j] - d[i])
        accepted = self._rng.random(cost.shape) < np.exp(-np.maximum(cost, 0.0) / self.tau)
        self.tried[first] += self.n_ladders
        self.swapped[first] += accepted.sum(axis=0)
        i, j = i[accepted], j[accepted]
        self.window[i], self.window[j] = self.window[j], self.window[i]
        self._walker[self.ladder, self.window] = np.arange(self.window.size)
        self._count_trips()

    def _count_trips(self) -> None:
        at_first, at_last = self.window == 0, self.window == self.n_windows - 1
        self._leg[at_last & (self._leg == 1)] = 2
        home = at_first & (self._leg == 2)
        self.round_trips += np.bincount(self.ladder[home], minlength=self.n_ladders)
        self._leg[at_first] = 1
