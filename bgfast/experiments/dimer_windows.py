"""Short Monte Carlo under harmonic biases along d, started from generated configurations.

The generator supplies starts all along d, barrier included, that no simulation has to climb to;
a short local simulation relaxes them. As in the umbrella reference the dimer's own double well,
which depends on d alone, is left out while sampling, so that weak windows suffice; unlike there,
windows neither exchange configurations nor start from a lattice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bgfast.analysis.biased import Bias
from bgfast.energies import ParticleDimer
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerWindows
from bgfast.experiments.dimer_data import relabelled
from bgfast.experiments.pipeline import seed_for
from bgfast.experiments.progress import Reporter
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.umbrella_estimate import without_double_well

_PIECES = 20
_LEVELLED = 4
"""Starts are drawn from at least so many rows for each walker, whatever the largest weights."""


@dataclass(frozen=True)
class WindowData(StateData):
    """Walkers in windows; ``state`` is the window, ``energy`` that of the system, divided by tau.

    Parameters
    ----------
    centres
        Centres of the windows, ``[K]``.
    spring
        Bias in k_B T: spring/2 (d - centre)^2, in place of the dimer's double well.
    interval
        Range that d never leaves, ``[2]``.
    tau
        Relative temperature.
    """

    centres: np.ndarray
    spring: float
    interval: np.ndarray
    tau: float

    def biases(self, energy: ParticleDimer) -> list[Bias]:
        """Return what each window was run under, as its reduced bias on top of u / tau."""
        low, high = (float(bound) for bound in self.interval)

        def bias_around(centre: float) -> Bias:
            def value(d: np.ndarray) -> np.ndarray:
                v = energy.double_well(torch.from_numpy(d)).numpy() / self.tau
                bias = 0.5 * self.spring * (d - centre) ** 2 - v
                return np.where((d >= low) & (d <= high), bias, np.inf)

            return Bias(f"the window at d = {centre:.2f}", value)

        return [bias_around(float(centre)) for centre in self.centres]


def window_centres(config: DimerWindows, bounds: tuple[float, float]) -> np.ndarray:
    """Return the centres, evenly spread over the bounds, ``[K]``."""
    return np.linspace(*bounds, config.n_windows)


def choose_starts(
    config: DimerWindows,
    bounds: tuple[float, float],
    d: np.ndarray,
    log_w: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Choose which generated rows the walkers start from.

    They are drawn by importance weight from the rows near each centre, without replacement.
    Weights are levelled from above, such that a handful of huge ones does not decide.

    Parameters
    ----------
    config, bounds
        Windows, and the range they cover.
    d, log_w
        Dimer distance and log weight of usable rows, ``[n]``, n >= 1.
    seed
        Seed of the choice.

    Returns
    -------
    numpy.ndarray
        Indices ``[n_windows, walkers]``. Rows repeat only where there are too few.
    """
    rng = np.random.default_rng(seed)
    centres, n = window_centres(config, bounds), config.walkers
    least = min(_LEVELLED * n, d.size)
    spacing = (bounds[1] - bounds[0]) / max(config.n_windows - 1, 1)
    chosen = np.empty((config.n_windows, n), dtype=np.int64)
    for k, centre in enumerate(centres):
        distance = np.abs(d - centre)
        near = np.flatnonzero(distance <= spacing)
        if near.size < least:
            near = np.argpartition(distance, least - 1)[:least]
        level = np.partition(log_w[near], -least)[-least]
        key = np.minimum(log_w[near], level) + rng.gumbel(size=near.size)
        chosen[k] = np.resize(near[np.argsort(-key)[:n]], n)
    return chosen


def simulate_windows(
    energy: ParticleDimer,
    config: DimerWindows,
    bounds: tuple[float, float],
    tau: float,
    starts: np.ndarray,
    reference: np.ndarray,
    seed: int,
    reporter: Reporter,
) -> WindowData:
    """Simulate all windows.

    Parameters
    ----------
    energy
        The system.
    config
        Windows, walkers and lengths.
    bounds
        Dimer distances that no walker leaves.
    tau
        Relative temperature.
    starts
        Configurations ``[n_windows, walkers, dim]`` with d within the bounds.
    reference
        Labelling of the generator's training data, ``[n_particles, 2]``; empty if there is none.
    seed
        Seed of all walkers.
    reporter
        Shows progress.
    """
    centres = window_centres(config, bounds)
    window = np.repeat(np.arange(config.n_windows), config.walkers)
    sampler = MetropolisSampler(
        without_double_well(energy),
        starts.reshape(window.size, energy.dim),
        tau=tau,
        step=0.1 * np.sqrt(tau),
        moves="particle",
        seed=seed_for(seed, f"windows {tau!r}"),
        interval=bounds,
        bias=np.stack([np.full(window.size, config.spring * tau), centres[window]], axis=1),
    )
    n_sweeps = config.n_frames * config.stride
    title = f"simulate windows, tau = {tau:g}"
    frames, energies, done = [], [], config.burn_in
    with reporter.stage(title, config.burn_in + n_sweeps, "sweeps") as advance:
        rest = config.burn_in - config.burn_in // 2
        sampler.adapt(config.burn_in // 2)
        sampler.run(rest, stride=rest)
        for piece in np.array_split(np.arange(config.n_frames), _PIECES):
            if len(piece):
                trajectory = sampler.run(len(piece) * config.stride, stride=config.stride)
                frames.append(trajectory.x)
                energies.append(trajectory.energy)
                done += len(piece) * config.stride
                advance(done)
    x = np.concatenate(frames, axis=1)
    v = energy.double_well(energy.dimer_distance(torch.from_numpy(x))).numpy()
    data = WindowData(
        x=x,
        energy=(np.concatenate(energies, axis=1) + v) / tau,
        state=window,
        held_out=np.ones(window.size, dtype=bool),
        reference=np.empty((0, 2)),
        centres=centres,
        spring=config.spring,
        interval=np.array(bounds),
        tau=tau,
    )
    return relabelled(data, reference) if reference.size else data
