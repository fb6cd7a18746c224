"""A population on a device: weights and resampling stay there, and nothing waits until the end.

The same as :func:`bgfast.sampling.anneal.island.run_island` without local moves, but for the
random numbers: whether to resample is a mask instead of a branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bgfast.sampling.anneal.hmc import hmc
from bgfast.sampling.anneal.island import Island, Stage, first_draws
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.anneal.settings import AnnealSettings

_UNIT = 2.0**52  # of the weights as integers, whose sums do not depend on the order of adding


def run_device_island(
    target: Target,
    settings: AnnealSettings,
    stages: list[Stage],
    seed: int,
    progress: Callable[[], None],
) -> Island:
    """Carry a population through ``stages`` by moves in latent space alone.

    ``progress`` is called when a stage is enqueued.
    """
    rng = np.random.default_rng(seed)
    n = settings.per_island
    particles = first_draws(target, n * settings.n_draws, seed, settings.chunk)
    log_weights = torch.where(particles.log_w.isfinite(), 0.0, -math.inf).double()
    everyone = torch.arange(n, device=log_weights.device)
    ancestor = torch.arange(len(particles), device=log_weights.device)
    beta, records = 0.0, []
    for stage in stages:
        log_w = particles.log_w
        log_weights = log_weights + torch.where(log_w.isfinite(), stage.beta - beta, 1.0) * log_w
        beta, share = stage.beta, ess_share(log_weights)
        index = systematic(log_weights, n, rng.random())
        level = log_weights.logsumexp(0) - math.log(len(log_weights))
        if len(particles) > n:  # of many draws, as many go on as there are particles
            share = (share * settings.n_draws).clamp(max=1.0)
            log_weights = level.expand(n)
        else:
            resampled = (share < settings.threshold) & level.isfinite()
            index = torch.where(resampled, index, everyone)
            log_weights = torch.where(resampled, level, log_weights)
        particles, ancestor = particles.take(index), ancestor[index]
        accepted = []
        for _ in range(settings.steps):
            particles, probability = hmc(
                target, particles, beta, stage.step, settings.leapfrog, rng, settings.chunk
            )
            accepted.append(probability.mean())
        records.append(torch.stack([share, torch.stack(accepted).mean()]))
        progress()
    ess, acceptance = torch.stack(records).cpu().numpy().T
    no_sweeps = np.full(len(stages), math.nan)
    return Island(
        particles,
        log_weights.cpu().numpy().copy(),
        ancestor.cpu().numpy(),
        ess,
        acceptance,
        no_sweeps,
    )


def ess_share(log_weights: Tensor) -> Tensor:
    """Return the effective sample size of ``log_weights[N]`` as a share of N, 0 if none is."""
    value = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return (value.exp() / len(log_weights)).nan_to_num(nan=0.0)


def systematic(log_weights: Tensor, n: int, uniform: float) -> Tensor:
    """Return the indices ``[n]`` of a systematic resampling, in increasing order.

    Weights are rounded to integers: sums of floats would depend on how the device orders them.
    Where no weight is finite, the indices mean nothing.
    """
    shares = (log_weights - log_weights.logsumexp(0)).exp().nan_to_num(nan=0.0)
    edges = (shares * _UNIT).round().long().cumsum(0)
    total = edges[-1]
    points = torch.arange(n, device=log_weights.device, dtype=torch.float64) + uniform
    points = torch.minimum((points / n * total).long(), total - 1)
    return torch.searchsorted(edges, points, right=True)
