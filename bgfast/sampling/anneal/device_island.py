"""A population on a device: all of it stays there, and nothing waits for it.

The same as :func:`bgfast.sampling.anneal.island.run_island` but for the random numbers: whether to
resample is a mask instead of a branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bgfast.sampling.anneal.device_local import DeviceLocalMoves
from bgfast.sampling.anneal.device_weights import ess_share, scaled, systematic
from bgfast.sampling.anneal.island import Island, Stage, final_frames, first_draws, moved
from bgfast.sampling.anneal.population import Particles, Target
from bgfast.sampling.anneal.settings import AnnealSettings


@dataclass(frozen=True)
class DeviceIsland:
    """An island whose work is enqueued; its parameters are those of :class:`Island`, on the device.

    ``records[stage]`` holds (ESS, acceptance of HMC, acceptance of local moves).
    """

    particles: Particles
    log_weights: Tensor
    ancestor: Tensor
    records: Tensor

    def finished(self) -> Island:
        """Wait for the device and return the island."""
        ess, acceptance, sweep_acceptance = self.records.cpu().numpy().T
        return Island(
            self.particles,
            self.log_weights.cpu().numpy().copy(),
            self.ancestor.cpu().numpy(),
            ess,
            acceptance,
            sweep_acceptance,
        )


def run_device_island(
    target: Target,
    settings: AnnealSettings,
    stages: list[Stage],
    local: DeviceLocalMoves | None,
    seed: int,
    progress: Callable[[], None],
) -> DeviceIsland:
    """Carry a population through ``stages``.

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
        log_weights = log_weights + scaled(particles.log_w, stage.beta - beta)
        beta, share = stage.beta, ess_share(log_weights)
        index, level = _resampled(log_weights, n, rng)
        if len(particles) > n:  # of many draws, as many go on as there are particles
            share = (share * settings.n_draws).clamp(max=1.0)
            log_weights = level.expand(n)
        else:
            resampled = (share < settings.threshold) & level.isfinite()
            index = torch.where(resampled, index, everyone)
            log_weights = torch.where(resampled, level, log_weights)
        particles, ancestor = particles.take(index), ancestor[index]
        particles, accepted, swept = moved(target, particles, stage, settings, local, rng)
        records.append(torch.stack([share, _mean(accepted, share), _mean(swept, share)]))
        progress()
    if settings.final_sweeps and local is not None:
        if settings.kind == "smc":  # copies of one particle part ways in the sweeps
            index, level = _resampled(log_weights, n, rng)
            index = torch.where(level.isfinite(), index, everyone)
            particles, ancestor = particles.take(index), ancestor[index]
            log_weights = level.expand(n)
        step = stages[-1].sweep_step
        particles = final_frames(target, particles, settings, step, local, rng)
        log_weights = log_weights.repeat(settings.kept_frames)
        ancestor = ancestor.repeat(settings.kept_frames)
        progress()
    return DeviceIsland(particles, log_weights, ancestor, torch.stack(records))


def _resampled(log_weights: Tensor, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return resampled indices, and the log weight that each of them has then."""
    level = log_weights.logsumexp(0) - math.log(len(log_weights))
    return systematic(log_weights, n, rng.random()), level


def _mean(values: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(values).mean() if values else torch.full_like(like, math.nan)
