"""Hamiltonian Monte Carlo of many particles in latent space.

The leapfrog integrator may follow any force that is a function of position: it stays reversible and
keeps volume, and the acceptance step, with the true energies at both ends, keeps the move exact. So
forces are shortened to what a step can make use of; energies of 1e12 do no harm.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgfast.sampling.anneal.population import Particles, Target, joined
from bgfast.sampling.anneal.random_numbers import generator_of

_JITTER = 0.2
"""Step sizes vary by this share from particle to particle, against periodic orbits."""


def hmc(
    target: Target,
    particles: Particles,
    beta: float,
    step: float | Tensor,
    n_leapfrog: int,
    rng: np.random.Generator,
    chunk: int,
) -> tuple[Particles, Tensor]:
    """Make one HMC move of every particle, which leaves pi_beta invariant.

    Parameters
    ----------
    target, particles, beta
        The density pi_beta, and the particles.
    step
        Leapfrog step size, a number or a tensor with one; each particle's is within 20 % of it.
    n_leapfrog
        Leapfrog steps.
    rng
        Source of momenta, step sizes and acceptances.
    chunk
        Particles that are moved at once. Results do not depend on it but for rounding.

    Returns
    -------
    particles, probability
        The particles after the move, with slopes, and the acceptance probability of each, ``[N]``.
    """
    n, dim = particles.z.shape
    momentum, steps, log_uniform = _random_numbers(n, dim, step, rng, particles.z.device)
    moved, probabilities = [], []
    start = 0
    for part in particles.split(chunk):
        rows = slice(start, start + len(part))
        start += len(part)
        part, probability = _moved(
            target,
            part,
            beta,
            steps[rows].to(part.z),
            n_leapfrog,
            momentum[rows].to(part.z),
            log_uniform[rows].to(part.u),
        )
        moved.append(part)
        probabilities.append(probability)
    return joined(moved), torch.cat(probabilities)


def _random_numbers(
    n: int, dim: int, step: float | Tensor, rng: np.random.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return momenta, step sizes and logarithms of uniform numbers, float64, on the device.

    On a device they are drawn there, from a seed drawn from ``rng``.
    """
    if device.type == "cpu":
        momentum = torch.from_numpy(rng.standard_normal((n, dim)))
        steps = step * torch.from_numpy(rng.uniform(1 - _JITTER, 1 + _JITTER, n))
        return momentum, steps, torch.from_numpy(np.log1p(-rng.random(n)))
    like: dict[str, Any] = {"generator": generator_of(rng, device)}
    like |= {"dtype": torch.float64, "device": device}
    momentum = torch.randn(n, dim, **like)
    steps = step * (1 + _JITTER * (2 * torch.rand(n, **like) - 1))
    return momentum, steps, torch.log1p(-torch.rand(n, **like))


def _moved(
    target: Target,
    old: Particles,
    beta: float,
    step: Tensor,
    n_leapfrog: int,
    momentum: Tensor,
    log_uniform: Tensor,
) -> tuple[Particles, Tensor]:
    if old.slope is None:
        old = target.confined(target.particles(old.z, gradient=True, confined=False))
    half = 0.5 * step[:, None]
    p, new = momentum, old
    for _ in range(n_leapfrog):
        p = p + half * _force(new, beta, target.tau, step)
        new = target.particles(new.z + step[:, None] * p, gradient=True, confined=False)
        p = p + half * _force(new, beta, target.tau, step)
    new = target.confined(new)
    gain = target.potential(old, beta) - target.potential(new, beta)
    gain = gain + 0.5 * (momentum.double().square() - p.double().square()).sum(-1)
    gain = torch.where(gain.isnan(), -math.inf, gain)
    accepted = log_uniform < gain
    return new.where(accepted, old), gain.clamp(max=0.0).exp()


def _force(particles: Particles, beta: float, tau: float, step: Tensor) -> Tensor:
    """Return -grad of the potential, no longer than a step of typical length has use for."""
    assert particles.slope is not None
    force = -(1 - beta) / tau * particles.z - beta * particles.slope
    limit = math.sqrt(force.shape[1]) / step[:, None]
    length = torch.linalg.vector_norm(force, dim=-1, keepdim=True)
    return force * (limit / torch.maximum(length, limit))
