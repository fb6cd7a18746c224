"""The pilot on a device: the schedule is found there, with one number read for each stage.

How many stages there are depends on the numbers, so the host waits once in each, for its beta;
step sizes are adapted on the device and read at the end.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bgfast.sampling.anneal.device_local import DeviceLocalMoves
from bgfast.sampling.anneal.device_weights import ess_share, next_beta, scaled, systematic
from bgfast.sampling.anneal.hmc import hmc
from bgfast.sampling.anneal.island import (
    ADAPT_FIRST,
    ADAPT_GAIN,
    ADAPT_MOVES,
    FIRST_STEP,
    FIRST_SWEEP_STEP,
    NOTHING,
    PILOT_DRAWS,
    Stage,
    first_draws,
)
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.anneal.settings import AnnealSettings


def device_plan(
    target: Target, settings: AnnealSettings, local: DeviceLocalMoves | None, seed: int
) -> list[Stage]:
    """Return the schedule; see :func:`bgfast.sampling.anneal.island.plan`."""
    rng = np.random.default_rng(seed)
    n = settings.pilot
    particles = first_draws(target, max(n * settings.n_draws, PILOT_DRAWS), seed, settings.chunk)
    log_weights = torch.where(particles.log_w.isfinite(), 0.0, -math.inf).double()
    everyone = torch.arange(n, device=log_weights.device)
    step, sweep_step = (log_weights.new_full((), s) for s in (FIRST_STEP, FIRST_SWEEP_STEP))
    betas = [0.0]
    steps: list[Tensor] = []
    sweep_steps: list[Tensor] = []
    while betas[-1] < 1:
        first = not steps
        share = 1 / settings.n_draws if first and settings.n_draws > 1 else settings.cess
        new = next_beta(log_weights, particles.log_w, betas[-1], share)
        beta, total = _read(torch.stack([new, log_weights.logsumexp(0)]))
        if total == -math.inf:
            raise ValueError(NOTHING)
        log_weights = log_weights + scaled(particles.log_w, beta - betas[-1])
        betas.append(beta)
        index = systematic(log_weights, n, rng.random())
        level = (log_weights.logsumexp(0) - math.log(len(log_weights))).expand(n)
        if not first:
            resampled = ess_share(log_weights) < 0.5
            index = torch.where(resampled, index, everyone)
            level = torch.where(resampled, level, log_weights)
        particles, log_weights = particles.take(index), level
        sweeps = settings.sweeps_at(beta) if local is not None else 0
        if not sweeps or beta <= settings.hmc_until:
            for _ in range(max(ADAPT_FIRST if first else ADAPT_MOVES, settings.steps)):
                particles, probability = hmc(
                    target, particles, beta, step, settings.leapfrog, rng, settings.chunk
                )
                excess = log_weights.softmax(0) @ probability - settings.target_acceptance
                step = step * (ADAPT_GAIN * excess).exp()
        if local is not None and (sweeps or (beta == 1 and settings.final_sweeps)):
            alive = log_weights.isfinite()
            sweep_step = local.step_size(target, particles.x, alive, sweep_step, rng)
            for _ in range(settings.steps if sweeps else 0):
                particles, _ = local.move(
                    target, particles, beta, sweeps, sweep_step, rng, settings.chunk
                )
        steps.append(step)
        sweep_steps.append(sweep_step)
    sizes = _read(torch.stack(steps + sweep_steps))
    found = zip(betas[1:], sizes[: len(steps)], sizes[len(steps) :], strict=True)
    return [Stage(beta, step, sweep if local is not None else 0.0) for beta, step, sweep in found]


def _read(numbers: Tensor) -> list[float]:
    """Wait for the device and return the numbers: the only place of a plan where that happens."""
    values: list[float] = numbers.tolist()
    return values
