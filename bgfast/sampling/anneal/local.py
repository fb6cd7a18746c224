"""Metropolis moves in configuration space between, and after, the moves in latent space.

A sweep of single-particle moves costs a small part of one pass through the flow, but knows the
energy only. So a number of sweeps at exp(-v/tau), v an energy that the kernels know, makes one
proposal x -> x', which is accepted for pi_beta(x) ~ q(x) w(x)^beta with probability

    min(1, [pi_beta(x') / pi_beta(x)] exp((v(x') - v(x)) / tau)),

exact because a palindrome of reversible moves is reversible (sweeps go there and back). For v = u
the ratio is (w(x) / w(x'))^(1 - beta): nearly all proposals are accepted when beta is near 1, and
at beta = 1 all of them, without the flow. Where there is a labelling, every proposal starts at a
random copy of x and ends at the copy of x' that is meant; that is reversible too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bgfast.energies import Energy
from bgfast.sampling.anneal.population import Labelling, Particles, Target, joined
from bgfast.sampling.metropolis import MetropolisSampler, palindromic_moves

_ADAPT = 50
_ROUND_TRIP = 1e-3
"""Largest |flow(inverse(x)) - x| of a coordinate at which the inverse is believed."""


class LocalMoves:
    """Proposals by sweeps of local moves.

    Parameters
    ----------
    system
        Energy v of the proposals, one that :class:`~bgfast.sampling.MetropolisSampler` knows.
    tau
        Relative temperature.
    labelling
        See :class:`~bgfast.sampling.anneal.population.Labelling`.
    """

    def __init__(self, system: Energy, tau: float, labelling: Labelling | None) -> None:
        self.system, self.tau, self.labelling = system, tau, labelling
        self.moves = palindromic_moves(system)

    def step_size(self, x: Tensor, start: float, seed: int) -> float:
        """Return the step size at which 40 % of the moves of ``x[n, dim]`` are accepted."""
        usable = x.double().isfinite().all(-1)
        sampler = MetropolisSampler(
            self.system, x[usable], tau=self.tau, step=start, moves=self.moves, seed=seed
        )
        return float(np.median(sampler.adapt(_ADAPT)))

    def propose(
        self, x: Tensor, n_sweeps: int, step: float, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``x'[n, dim]`` and v at ``x`` and at ``x'``, ``[n]``, all float64."""
        here = x.double()
        start = here if self.labelling is None else self.labelling.shuffled(here, rng)
        sampler = MetropolisSampler(
            self.system,
            start,
            tau=self.tau,
            step=step,
            moves=self.moves,
            seed=int(rng.integers(2**62)),
        )
        before = torch.from_numpy(sampler.walkers.u.copy())
        trajectory = sampler.run(n_sweeps, stride=n_sweeps)
        there = torch.from_numpy(trajectory.x[:, 0])
        if self.labelling is not None:
            there = self.labelling.canonical(there)
        return there, before, torch.from_numpy(trajectory.energy[:, 0])


def local_move(
    target: Target,
    local: LocalMoves,
    particles: Particles,
    beta: float,
    n_sweeps: int,
    step: float,
    rng: np.random.Generator,
    chunk: int,
) -> tuple[Particles, Tensor]:
    """Make one move of ``n_sweeps`` sweeps of every particle, which leaves pi_beta invariant.

    Particles of weight 0 stay where they are.

    Returns
    -------
    particles, probability
        The particles after the move, and the acceptance probability of each, ``[N]``.
    """
    moving = particles.log_w.isfinite()
    x, before, after = local.propose(
        torch.where(moving[:, None], particles.x, particles.x[moving][:1]), n_sweeps, step, rng
    )
    target.evaluations.sweeps += n_sweeps * len(particles)
    new, trusted = _through_flow(target, x.to(particles.x), chunk)
    there, here = (p.log_q + beta * p.log_w for p in (new, particles))
    gain = there - here + (after - before) / target.tau
    gain = torch.where(gain.isnan() | ~trusted | ~moving, -torch.inf, gain)
    accepted = torch.from_numpy(np.log1p(-rng.random(len(particles)))) < gain
    return new.where(accepted, particles), gain.clamp(max=0.0).exp()


def _through_flow(target: Target, x: Tensor, chunk: int) -> tuple[Particles, Tensor]:
    """Return the particles at ``x``, and where the inverse of the flow leads back to ``x``."""
    parts, trusted = [], []
    for rows in torch.split(x, chunk):
        z = target.inverse(rows)
        part = target.particles(z)
        parts.append(part)
        trusted.append(((part.x - rows).abs() < _ROUND_TRIP).all(-1))
    return joined(parts), torch.cat(trusted)
