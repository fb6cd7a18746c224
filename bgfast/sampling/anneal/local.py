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

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bgfast.energies import Energy
from bgfast.sampling.anneal.population import Labelling, Particles, Target, joined
from bgfast.sampling.metropolis import MetropolisSampler, evaluate, palindromic_moves

ADAPT_SWEEPS = 50
"""Sweeps in which the step size is found."""
ADAPT_ACCEPTANCE = 0.4
_ROUND_TRIP = 1e-3
"""Largest |flow(inverse(x)) - x| of a coordinate at which the inverse is believed."""


class Mover(Protocol):
    """What makes local moves: :class:`LocalMoves`, or its counterpart on a device."""

    def move(
        self,
        target: Target,
        particles: Particles,
        beta: float,
        n_sweeps: int,
        step: float | Tensor,
        rng: np.random.Generator,
        chunk: int,
    ) -> tuple[Particles, Tensor]:
        """Make one move of ``n_sweeps`` sweeps of every particle, which leaves pi_beta invariant.

        Particles of weight 0, and those outside of the interval of the local moves, are not moved.

        Parameters
        ----------
        target, particles, beta
            The density pi_beta, and the particles.
        n_sweeps
            Sweeps that make the proposal, an even number.
        step
            Their step size, a number or a tensor with one.
        rng
            Source of sweeps and acceptances.
        chunk
            Particles that go through the flow at once.

        Returns
        -------
        particles, probability
            The particles after the move, and the acceptance probability of each, ``[N]``.
        """


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
    interval
        ``(low, high)`` that the coordinate of the system's moves never leaves, or ``None``.
        Particles outside of it are not moved.
    """

    def __init__(
        self,
        system: Energy,
        tau: float,
        labelling: Labelling | None,
        interval: tuple[float, float] | None = None,
    ) -> None:
        self.system, self.tau, self.labelling = system, tau, labelling
        self.interval = (-math.inf, math.inf) if interval is None else interval
        self.moves = palindromic_moves(system)

    def movable(self, x: Tensor) -> Tensor:
        """Return which rows of ``x[n, dim]`` can be moved, bool, ``[n]``."""
        u, coordinate = evaluate(self.system, x.double().numpy())
        low, high = self.interval
        return torch.from_numpy(np.isfinite(u) & (low <= coordinate) & (coordinate <= high))

    def step_size(self, target: Target, x: Tensor, start: float, seed: int) -> float:
        """Return the step size at which 40 % of the moves of ``x[n, dim]`` are accepted."""
        target.evaluations.starts += len(x)
        x = x[self.movable(x)]
        if not len(x):
            return start
        target.evaluations.starts += len(x)
        target.evaluations.sweeps += ADAPT_SWEEPS * len(x)
        sampler = MetropolisSampler(
            self.system,
            x,
            tau=self.tau,
            step=start,
            moves=self.moves,
            seed=seed,
            interval=self.interval,
        )
        return float(np.median(sampler.adapt(ADAPT_SWEEPS, ADAPT_ACCEPTANCE)))

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
            interval=self.interval,
        )
        before = torch.from_numpy(sampler.walkers.u.copy())
        trajectory = sampler.run(n_sweeps, stride=n_sweeps)
        there = torch.from_numpy(trajectory.x[:, 0])
        if self.labelling is not None:
            there = self.labelling.canonical(there)
        return there, before, torch.from_numpy(trajectory.energy[:, 0])

    def move(
        self,
        target: Target,
        particles: Particles,
        beta: float,
        n_sweeps: int,
        step: float | Tensor,
        rng: np.random.Generator,
        chunk: int,
    ) -> tuple[Particles, Tensor]:
        """Make one move of every particle; see :meth:`Mover.move`."""
        target.evaluations.starts += len(particles)
        moving = particles.log_w.isfinite() & self.movable(particles.x)
        log_uniform = torch.from_numpy(np.log1p(-rng.random(len(particles))))
        probability = torch.zeros_like(log_uniform)
        if not moving.any():
            return particles, probability
        old = particles.take(moving)
        x, before, after = self.propose(old.x, n_sweeps, float(step), rng)
        target.evaluations.starts += len(old)
        target.evaluations.sweeps += n_sweeps * len(old)
        new, trusted = through_flow(target, x.to(old.x), chunk)
        gain = new.log_q + beta * new.log_w - old.log_q - beta * old.log_w
        gain = gain + (after - before) / target.tau
        gain = torch.where(gain.isnan() | ~trusted, -torch.inf, gain)
        probability[moving] = gain.clamp(max=0.0).exp()
        return particles.replaced(moving, new.where(log_uniform[moving] < gain, old)), probability


def through_flow(target: Target, x: Tensor, chunk: int) -> tuple[Particles, Tensor]:
    """Return the particles at ``x``, and where the inverse of the flow leads back to ``x``."""
    parts, trusted = [], []
    for rows in torch.split(x, chunk):
        z = target.inverse(rows)
        part = target.particles(z)
        parts.append(part)
        trusted.append(((part.x - rows).abs() < _ROUND_TRIP).all(-1))
    return joined(parts), torch.cat(trusted)
