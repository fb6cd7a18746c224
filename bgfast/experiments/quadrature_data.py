"""Metropolis data of a system known by quadrature: two runs to train on, more to estimate with."""

from __future__ import annotations

import numpy as np

from bgfast.energies import Energy
from bgfast.experiments.data import StateData, joined
from bgfast.experiments.pipeline import seed_for
from bgfast.experiments.progress import Reporter
from bgfast.experiments.quadrature_config import QuadratureConfig
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.metropolis import Trajectory


def simulate(config: QuadratureConfig, energy: Energy, reporter: Reporter) -> StateData:
    """Run one free walker from each start, and the held-out ones within their states."""
    settings = config.data
    start = np.zeros((2, energy.dim))
    for row, point in zip(start, settings.start, strict=True):
        row[: len(point)] = point
    state = (start[:, config.system.along] >= config.analysis.split).astype(int)
    n_runs = 1 + (settings.held_out > 0)
    with reporter.stage("simulate both states", n_runs * settings.n_steps) as advance:
        free = MetropolisSampler(
            energy, start, step=settings.step, moves="all", seed=seed_for(config.seed, "walkers")
        )
        parts = [_as_data(free.run(settings.n_steps, stride=settings.stride), state, False)]
        advance(settings.n_steps)
        if settings.held_out:
            split = config.analysis.split
            sides = np.array([(-np.inf, split), (split, np.inf)])
            confined = MetropolisSampler(
                energy,
                np.repeat(start, settings.held_out, axis=0),
                step=settings.step,
                moves="all",
                seed=seed_for(config.seed, "held-out walkers"),
                interval=np.repeat(sides[state], settings.held_out, axis=0),
            )
            confined.run(settings.burn_in, stride=max(settings.burn_in, 1))
            trajectory = confined.run(settings.n_steps, stride=settings.stride)
            parts.append(_as_data(trajectory, np.repeat(state, settings.held_out), True))
    return joined(parts)


def n_evaluations(config: QuadratureConfig) -> int:
    """Return the number of energies evaluated by :func:`simulate`: Monte Carlo steps x walkers."""
    settings = config.data
    confined = 2 * settings.held_out * (settings.burn_in + settings.n_steps)
    return 2 * settings.n_steps + confined


def _as_data(trajectory: Trajectory, state: np.ndarray, held_out: bool) -> StateData:
    return StateData(
        x=trajectory.x,
        energy=trajectory.energy,
        state=state,
        held_out=np.full(len(state), held_out),
        reference=np.empty((0, 1)),
    )
