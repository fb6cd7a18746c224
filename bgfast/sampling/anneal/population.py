"""Particles in latent space, and all that the intermediate densities need of them.

With log w = -u(x)/tau - log q(x) the importance weight of x = flow(z), the density of stage beta is

    pi_beta(z) ~ N(z; 0, tau) w(z)^beta    or    pi_beta(x) ~ q(x)^(1 - beta) exp(-beta u(x)/tau).

A labelling restricts all of them to one copy of equivalent configurations: w is 0 outside.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bgfast.energies import Energy
from bgfast.flows import Flow
from bgfast.flows.density import log_q

_LEAST_ROWS = 256
"""Matrix products of very few rows round differently: fewer are never evaluated."""
_FORCE_LIMIT = 1e6
"""Larger forces |du/dx| are shortened before they go back through the flow: float32 holds them."""


class Labelling(Protocol):
    """Which of the equivalent copies of a configuration (identical particles ...) is meant.

    Results are on the device of ``x``.
    """

    def inside(self, x: Tensor) -> Tensor:
        """Return which rows of ``x[n, dim]`` are the copy that is meant, bool, ``[n]``."""

    def canonical(self, x: Tensor) -> Tensor:
        """Return the copy that is meant of each row of ``x[n, dim]``."""

    def shuffled(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return a random copy of each row of ``x[n, dim]``, all equally likely."""


@dataclass(frozen=True)
class Particles:
    """N particles.

    Parameters
    ----------
    z, x
        Latent vectors and configurations, ``[N, dim]``, in the dtype of the flow.
    u
        Reduced energies, ``[N]``, float64, not divided by tau.
    log_q
        Log density of the flow, ``[N]``, float64.
    log_w
        Log importance weights, ``[N]``, float64; -infinity outside of the labelling and where
        something is not finite.
    slope
        Gradient of u/tau - log|det dx/dz| in z, ``[N, dim]``, zero where it is not finite; ``None``
        if it has not been computed. Forces beyond a limit are shortened.
    """

    z: Tensor
    x: Tensor
    u: Tensor
    log_q: Tensor
    log_w: Tensor
    slope: Tensor | None

    def __len__(self) -> int:
        return len(self.z)

    def take(self, index: Tensor) -> Particles:
        """Return the particles ``index[n]``."""
        return self._each(lambda rows: rows[index])

    def where(self, chosen: Tensor, other: Particles) -> Particles:
        """Return these particles where ``chosen[N]``, those of ``other`` elsewhere."""
        row = chosen[:, None]
        slope = None
        if self.slope is not None and other.slope is not None:
            slope = torch.where(row, self.slope, other.slope)
        return Particles(
            z=torch.where(row, self.z, other.z),
            x=torch.where(row, self.x, other.x),
            u=torch.where(chosen, self.u, other.u),
            log_q=torch.where(chosen, self.log_q, other.log_q),
            log_w=torch.where(chosen, self.log_w, other.log_w),
            slope=slope,
        )

    def replaced(self, chosen: Tensor, other: Particles) -> Particles:
        """Return these particles with ``other`` in place of those where ``chosen[N]``."""
        index = torch.arange(len(self), device=chosen.device)
        index[chosen] = len(self) + torch.arange(len(other), device=chosen.device)
        return joined([self, other]).take(index)

    def split(self, rows: int) -> Iterator[Particles]:
        """Yield the particles in pieces of at most ``rows``."""
        for start in range(0, len(self), rows):
            yield self._each(partial(_rows, start, start + rows))

    def _each(self, part: Callable[[Tensor], Tensor]) -> Particles:
        return Particles(
            z=part(self.z),
            x=part(self.x),
            u=part(self.u),
            log_q=part(self.log_q),
            log_w=part(self.log_w),
            slope=None if self.slope is None else part(self.slope),
        )


def _rows(start: int, stop: int, values: Tensor) -> Tensor:
    return values[start:stop]


def on_device(energy: Energy, device: torch.device) -> Energy:
    """Return the energy with its numbers on the device: itself on the CPU, elsewhere a copy."""
    return energy if device.type == "cpu" else copy.deepcopy(energy).to(device)


def joined(parts: list[Particles]) -> Particles:
    """Return the particles of all parts in one."""
    if len(parts) == 1:
        return parts[0]
    slope = None
    if all(p.slope is not None for p in parts):
        slope = torch.cat([p.slope for p in parts if p.slope is not None])
    return Particles(
        z=torch.cat([p.z for p in parts]),
        x=torch.cat([p.x for p in parts]),
        u=torch.cat([p.u for p in parts]),
        log_q=torch.cat([p.log_q for p in parts]),
        log_w=torch.cat([p.log_w for p in parts]),
        slope=slope,
    )


@dataclass
class Evaluations:
    """What was computed, in rows; those that only fill a batch up do not count.

    Parameters
    ----------
    flow
        Rows through the flow and the energy, without gradient.
    gradient
        The same with gradient.
    inverse
        Rows through the inverse of the flow, which needs no energy.
    starts
        Energies computed before local moves, of what they are to move.
    sweeps
        Sweeps of local moves, times the rows that are swept; the pilot's adaptation included.
    """

    flow: int = 0
    gradient: int = 0
    inverse: int = 0
    starts: int = 0
    sweeps: int = 0


class Target:
    """A flow and an energy: maps latent vectors to :class:`Particles`.

    Parameters
    ----------
    flow
        Map from latent to configuration space; a copy of it is used.
    energy
        Target energy, evaluated in float64.
    tau
        Relative temperature of the target; the latent variance is tau too.
    labelling
        Restricts the densities, or ``None``.
    """

    def __init__(
        self, flow: Flow, energy: Energy, tau: float = 1.0, labelling: Labelling | None = None
    ) -> None:
        if not 0 < tau < math.inf:
            raise ValueError(f"tau must be positive and finite, got {tau}")
        if flow.dim != energy.dim:
            raise ValueError(f"flow has {flow.dim} coordinates, energy {energy.dim}")
        self.flow = copy.deepcopy(flow).requires_grad_(False)
        self.tau = tau
        self.labelling = labelling
        self.evaluations = Evaluations()
        parameter = next(self.flow.parameters(), torch.empty(0, dtype=flow.dtype or torch.float64))
        self.dtype, self.device = parameter.dtype, parameter.device
        self.energy = on_device(energy, self.device)

    def particles(self, z: Tensor, *, gradient: bool = False, confined: bool = True) -> Particles:
        """Evaluate ``z[n, dim]``.

        Parameters
        ----------
        z
            Latent vectors in the dtype of the flow.
        gradient
            Whether the slope is wanted.
        confined
            Whether the labelling is looked at.
        """
        n = len(z)
        if n < _LEAST_ROWS:
            z = torch.cat([z, z.new_zeros(_LEAST_ROWS - n, z.shape[1])])
        if gradient:
            self.evaluations.gradient += n
            found = self._with_slope(z)
        else:
            self.evaluations.flow += n
            with torch.no_grad():
                x, logdet = self.flow(z)
                found = self._weighed(z, x, logdet, self.energy.energy(x.double()), None)
        found = next(found.split(n)) if n < _LEAST_ROWS else found
        return self.confined(found) if confined else found

    def inverse(self, x: Tensor) -> Tensor:
        """Return the latent vectors of ``x[n, dim]``, in the dtype of the flow."""
        self.evaluations.inverse += len(x)
        padded = torch.cat([x, x.new_zeros(max(0, _LEAST_ROWS - len(x)), x.shape[1])])
        with torch.no_grad():
            z: Tensor = self.flow.inverse(padded)[0][: len(x)]
        return z

    def confined(self, particles: Particles) -> Particles:
        """Return the particles with weight 0 for those outside of the labelling."""
        if self.labelling is None:
            return particles
        inside = self.labelling.inside(particles.x)
        return replace(particles, log_w=torch.where(inside, particles.log_w, -math.inf))

    def potential(self, particles: Particles, beta: float) -> Tensor:
        """Return -log pi_beta(z), ``[N]``, float64, but for a constant."""
        prior = particles.z.double().square().sum(-1) / (2 * self.tau)
        return prior - beta * particles.log_w if beta > 0 else prior

    def _with_slope(self, z: Tensor) -> Particles:
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            x, logdet = self.flow(at)
            u, force = self.energy.energy_and_force(x.detach().double())
            length = torch.linalg.vector_norm(force, dim=-1, keepdim=True)
            force = force * (_FORCE_LIMIT / length.clamp(min=_FORCE_LIMIT)) / self.tau
            value = -(x * force.to(x.dtype)).sum() - logdet.sum()
            (slope,) = torch.autograd.grad(value, at)
        finite = slope.isfinite().all(-1, keepdim=True)
        slope = torch.where(finite, slope, 0.0)
        return self._weighed(z, x.detach(), logdet.detach(), u.detach(), slope)

    def _weighed(
        self, z: Tensor, x: Tensor, logdet: Tensor, u: Tensor, slope: Tensor | None
    ) -> Particles:
        log_density = log_q(z.double(), logdet.double(), self.tau)
        log_w = -u / self.tau - log_density
        log_w = torch.where(log_w.isfinite(), log_w, -math.inf)
        return Particles(z, x, u, log_density, log_w, slope)
