"""One population carried from the flow's density to the target, and the pilot that plans it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor

from bgfast.sampling.anneal.hmc import hmc
from bgfast.sampling.anneal.local import LocalMoves, Mover
from bgfast.sampling.anneal.population import Particles, Target, joined
from bgfast.sampling.anneal.settings import AnnealSettings
from bgfast.sampling.anneal.weights import (
    ess_share,
    next_beta,
    scaled,
    systematic,
)
from bgfast.sampling.generate import latent_rows

Array = NDArray[np.float64]

PILOT_DRAWS = 8192
"""Least number of draws that the first beta rests on: their weights are the most uneven ones."""
FIRST_STEP = 0.1
FIRST_SWEEP_STEP = 0.1
ADAPT_FIRST, ADAPT_MOVES = 8, 2
"""HMC moves in the pilot's first stage, and in the others."""
ADAPT_GAIN = 1.0
NOTHING = "none of the flow's draws has a finite weight: there is nothing to anneal"


@dataclass(frozen=True)
class Stage:
    """One stage of the schedule.

    Parameters
    ----------
    beta
        Where the stage ends and its moves are made.
    step
        Leapfrog step size at the end.
    sweep_step
        Step size of the local moves; 0 if none are made.
    """

    beta: float
    step: float
    sweep_step: float


@dataclass(frozen=True)
class Island:
    """A finished population of N particles.

    Parameters
    ----------
    particles
        The particles.
    log_weights
        Their log weights, ``[N]``: the mean of exp(log_weights) estimates Z.
    ancestor
        Number of the first draw that each goes back to, ``[N]``.
    ess
        ESS as a share of N at the end of each stage, before resampling.
    acceptance
        Mean acceptance of HMC in each stage.
    sweep_acceptance
        Mean acceptance of the proposals by local moves in each stage; NaN where there are none.
    """

    particles: Particles
    log_weights: Array
    ancestor: NDArray[np.int64]
    ess: Array
    acceptance: Array
    sweep_acceptance: Array

    @property
    def log_z(self) -> float:
        """Estimate of log Z."""
        return float(logsumexp(self.log_weights) - math.log(self.log_weights.size))

    @property
    def ancestors(self) -> float:
        """Effective number of first draws that the particles go back to."""
        weights = np.exp(self.log_weights - logsumexp(self.log_weights))
        return float(1 / np.square(np.bincount(self.ancestor, weights)).sum())


def run_island(
    target: Target,
    settings: AnnealSettings,
    stages: list[Stage],
    local: LocalMoves | None,
    seed: int,
    progress: Callable[[], None],
) -> Island:
    """Carry a population through ``stages``; nothing is adapted, so that E[exp(log Z)] = Z."""
    rng = np.random.default_rng(seed)
    n = settings.per_island
    particles = first_draws(target, n * settings.n_draws, seed, settings.chunk)
    log_weights = np.where(particles.log_w.isfinite().cpu().numpy(), 0.0, -np.inf)
    ancestor = np.arange(len(particles))
    beta, records = 0.0, []
    for stage in stages:
        log_w = particles.log_w.cpu().numpy()
        log_weights = log_weights + scaled(log_w, stage.beta - beta)
        beta, share = stage.beta, ess_share(log_weights)
        first = len(particles) > n  # of many draws, as many go on as there are particles
        if first:
            share = min(1.0, share * settings.n_draws)
        if (first or share < settings.threshold) and np.isfinite(log_weights).any():
            index, log_weights = _resampled(log_weights, n, rng)
            particles = particles.take(torch.from_numpy(index).to(particles.z.device))
            ancestor = ancestor[index]
        particles, accepted, swept = moved(target, particles, stage, settings, local, rng)
        records.append((share, _mean_or_nan(accepted), _mean_or_nan(swept)))
        progress()
    if settings.final_sweeps and local is not None and np.isfinite(log_weights).any():
        if settings.kind == "smc":  # copies of one particle part ways in the sweeps
            index, log_weights = _resampled(log_weights, n, rng)
            particles = particles.take(torch.from_numpy(index).to(particles.z.device))
            ancestor = ancestor[index]
        step = stages[-1].sweep_step
        particles = final_frames(target, particles, settings, step, local, rng)
        log_weights = np.tile(log_weights, settings.kept_frames)
        ancestor = np.tile(ancestor, settings.kept_frames)
        progress()
    ess, acceptances, sweeps_accepted = np.array(records).T
    return Island(particles, log_weights, ancestor, ess, acceptances, sweeps_accepted)


def plan(
    target: Target, settings: AnnealSettings, local: LocalMoves | None, seed: int
) -> list[Stage]:
    """Return the schedule: betas by conditional ESS, step sizes by acceptance.

    Found with a population of its own, so that the islands' estimates stay unbiased.
    """
    rng = np.random.default_rng(seed)
    n = settings.pilot
    particles = first_draws(target, max(n * settings.n_draws, PILOT_DRAWS), seed, settings.chunk)
    log_weights = np.where(particles.log_w.isfinite().cpu().numpy(), 0.0, -np.inf)
    if not np.isfinite(log_weights).any():
        raise ValueError(NOTHING)
    beta, step, sweep_step = 0.0, FIRST_STEP, FIRST_SWEEP_STEP
    stages: list[Stage] = []
    while beta < 1:
        log_w = particles.log_w.cpu().numpy()
        first = not stages
        share = 1 / settings.n_draws if first and settings.n_draws > 1 else settings.cess
        new = next_beta(log_weights, log_w, beta, share)
        log_weights = log_weights + scaled(log_w, new - beta)
        beta = new
        if first or ess_share(log_weights) < 0.5:
            index, log_weights = _resampled(log_weights, n, rng)
            particles = particles.take(torch.from_numpy(index).to(particles.z.device))
        sweeps = settings.sweeps_at(beta) if local is not None else 0
        if not sweeps or beta <= settings.hmc_until:
            for _ in range(max(ADAPT_MOVES if stages else ADAPT_FIRST, settings.steps)):
                particles, probability = hmc(
                    target, particles, beta, step, settings.leapfrog, rng, settings.chunk
                )
                excess = _mean(probability, log_weights) - settings.target_acceptance
                step *= math.exp(ADAPT_GAIN * excess)
        if local is not None and (sweeps or (beta == 1 and settings.final_sweeps)):
            finite = torch.from_numpy(np.flatnonzero(np.isfinite(log_weights)))
            alive = particles.take(finite.to(particles.z.device))
            sweep_step = local.step_size(target, alive.x, sweep_step, int(rng.integers(2**62)))
            for _ in range(settings.steps if sweeps else 0):
                particles, _ = local.move(
                    target, particles, beta, sweeps, sweep_step, rng, settings.chunk
                )
        stages.append(Stage(beta, step, sweep_step if local is not None else 0.0))
    return stages


def moved(
    target: Target,
    particles: Particles,
    stage: Stage,
    settings: AnnealSettings,
    local: Mover | None,
    rng: np.random.Generator,
) -> tuple[Particles, list[Tensor], list[Tensor]]:
    """Return the particles after the moves of a stage, and the mean acceptances of both kinds."""
    sweeps = settings.sweeps_at(stage.beta) if local is not None else 0
    accepted, swept = [], []
    for _ in range(settings.steps):
        if not sweeps or stage.beta <= settings.hmc_until:
            particles, probability = hmc(
                target, particles, stage.beta, stage.step, settings.leapfrog, rng, settings.chunk
            )
            accepted.append(probability.mean())
        if sweeps and local is not None:
            particles, probability = local.move(
                target, particles, stage.beta, sweeps, stage.sweep_step, rng, settings.chunk
            )
            swept.append(probability.mean())
    return particles, accepted, swept


def final_frames(
    target: Target,
    particles: Particles,
    settings: AnnealSettings,
    step: float,
    local: Mover,
    rng: np.random.Generator,
) -> Particles:
    """Return the particles after each of the final moves whose frames are kept, in one.

    All N of the first frame come first, so that their weights are those of ``particles[N]``, over
    and over again.
    """
    frames = []
    for _ in range(settings.final_frames):
        particles, _ = local.move(
            target, particles, 1.0, settings.final_sweeps, step, rng, settings.chunk
        )
        frames.append(particles)
    return joined(frames[-settings.kept_frames :])


def first_draws(target: Target, n: int, seed: int, chunk: int) -> Particles:
    """Return the first ``n`` draws from the flow that belong to ``seed``."""
    parts = []
    for start in range(0, n, chunk):
        z = latent_rows(
            start,
            min(start + chunk, n),
            target.energy.dim,
            seed,
            target.tau,
            target.dtype,
            target.device,
        )
        parts.append(target.particles(z))
    return joined(parts)


def _resampled(
    log_weights: Array, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Array]:
    """Return systematically resampled indices, and the weights after: equal, of the same mean."""
    mean = logsumexp(log_weights) - math.log(log_weights.size)
    return systematic(log_weights, n, rng.random()), np.full(n, mean)


def _mean_or_nan(values: list[Tensor]) -> float:
    return float(np.mean([float(value) for value in values])) if values else math.nan


def _mean(probability: Tensor, log_weights: Array) -> float:
    weights = np.exp(log_weights - logsumexp(log_weights))
    return float(weights @ probability.cpu().numpy())
