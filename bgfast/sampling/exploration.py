"""Latent-space Metropolis: a population of configurations moved in the latent space of a flow.

A configuration x = F(z) is moved in z. Seen from there it is distributed as
exp(-u(F(z)) / tau) |det dF/dz|, so a symmetric move z -> z' is accepted with probability

    min(1, exp(-[u(x') - u(x)] / tau + log|det dF(z')| - log|det dF(z)|)),

and the population stays in the Boltzmann distribution whatever the flow (arXiv:1812.01729). A flow
that generates two states makes them neighbours: a move from one to the other crosses no barrier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bgfast.energies import Energy
from bgfast.flows import Flow
from bgfast.flows.density import prior_log_prob

Allowed = Callable[[Tensor], Tensor]
"""``x[n, dim] -> [n]``, bool: the region that the population never leaves."""


@dataclass(frozen=True)
class Moves:
    """How configurations are proposed.

    Parameters
    ----------
    step
        ``(low, high)``: z' = z + s n with n ~ N(0, 1). Every proposal draws its own s,
        log-uniformly between the two, without a look at z: so moves stay symmetric, nothing has to
        be adapted, and short steps that are accepted alternate with long ones that lead far.
    fresh
        Share of the proposals that are drawn anew from the prior, z' ~ N(0, tau 1). In many
        dimensions a long step leaves the shell in which the prior lives; a fresh vector does not.

    Raises
    ------
    ValueError
        If the steps are not 0 < low <= high, or the share is not within 0 ... 1.
    """

    step: tuple[float, float] = (0.02, 2.0)
    fresh: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.step
        if not 0 < low <= high < math.inf:
            raise ValueError(f"step must be (low, high) with 0 < low <= high, got {self.step}")
        if not 0 <= self.fresh <= 1:
            raise ValueError(f"fresh must lie between 0 and 1, got {self.fresh}")


@dataclass(frozen=True)
class Population:
    """Configurations after some Metropolis steps.

    Parameters
    ----------
    x
        Configurations, ``[n, dim]``, in the dtype of the flow.
    energy
        Reduced energies u(x), ``[n]``, float64.
    acceptance
        Accepted share of all proposals.
    fresh_acceptance
        Accepted share of those drawn anew from the prior; NaN if there were none.
    """

    x: Tensor
    energy: Tensor
    acceptance: float
    fresh_acceptance: float


@torch.no_grad()
def latent_metropolis(
    flow: Flow,
    energy: Energy,
    x: Tensor,
    n_steps: int,
    moves: Moves | None = None,
    *,
    tau: float = 1.0,
    seed: int = 0,
    allowed: Allowed | None = None,
) -> Population:
    """Make ``n_steps`` Metropolis steps with every configuration, independently of each other.

    Parameters
    ----------
    flow
        Map from latent to configuration space; it only proposes.
    energy
        Target energy, evaluated in float64.
    x
        The population, ``[n, dim]``, in the dtype of the flow.
    n_steps
        Steps of each configuration.
    moves
        How to propose.
    tau
        Relative temperature.
    seed
        Seed of proposals and acceptance.
    allowed
        Region that is not left: proposals outside are refused. Default: everywhere.

    Raises
    ------
    ValueError
        If tau is not positive, or ``n_steps`` or the seed is negative.
    """
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be positive and finite, got {tau}")
    if n_steps < 0 or seed < 0:
        raise ValueError(f"n_steps and seed must not be negative, got {n_steps} and {seed}")
    moves = moves or Moves()
    generator = torch.Generator(x.device).manual_seed(seed)
    z, logdet = flow.inverse(x)
    u = energy.energy(x.double())
    log_p = -u / tau - logdet.double()
    n_accepted, n_fresh, n_fresh_accepted = (torch.zeros((), dtype=torch.int64) for _ in range(3))
    for _ in range(n_steps):
        proposed, fresh = _proposals(z, moves, tau, generator)
        x_new, logdet = flow.forward(proposed)
        u_new = energy.energy(x_new.double())
        log_p_new = -u_new / tau + logdet.double()
        log_ratio = log_p_new - log_p
        # A fresh vector is proposed with its prior density: the way back with that of the old one.
        back = prior_log_prob(z.double(), tau) - prior_log_prob(proposed.double(), tau)
        log_ratio = torch.where(fresh, log_ratio + back, log_ratio)
        uniform = torch.rand(len(x), generator=generator, dtype=torch.float64, device=x.device)
        accepted = (uniform.log() < log_ratio) & torch.isfinite(x_new).all(-1)  # False for NaN
        if allowed is not None and bool(accepted.any()):
            accepted[accepted.clone()] = allowed(x_new[accepted]).to(x.device)
        x, z = (torch.where(accepted[:, None], a, b) for a, b in ((x_new, x), (proposed, z)))
        u, log_p = (torch.where(accepted, a, b) for a, b in ((u_new, u), (log_p_new, log_p)))
        n_accepted += accepted.sum().cpu()
        n_fresh += fresh.sum().cpu()
        n_fresh_accepted += (accepted & fresh).sum().cpu()
    proposals = max(1, n_steps * len(x))
    share = float(n_fresh_accepted / n_fresh) if n_fresh else math.nan
    return Population(x, u, int(n_accepted) / proposals, share)


def _proposals(
    z: Tensor, moves: Moves, tau: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return proposed latent vectors ``[n, dim]``, and which of them are fresh, ``[n]``."""
    like: dict[str, Any] = {"generator": generator, "dtype": z.dtype, "device": z.device}
    low, high = (math.log(bound) for bound in moves.step)
    step = (low + (high - low) * torch.rand(len(z), 1, **like)).exp()
    fresh = torch.rand(len(z), **like) < moves.fresh
    noise = torch.randn(z.shape, **like)
    return torch.where(fresh[:, None], math.sqrt(tau) * noise, z + step * noise), fresh
