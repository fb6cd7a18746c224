"""Densities and weights of samples that went through a flow.

The prior is N(0, tau 1): its variance is the relative temperature tau = T/T0. Wherever ``tau`` may
be a tensor it is broadcast against the batch dimensions, so that rows may differ in temperature.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bgfast.flows.base import Flow


def prior_sample(
    n: int,
    dim: int,
    tau: float = 1.0,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw ``z[n, dim]`` from the prior at relative temperature ``tau``.

    Raises
    ------
    ValueError
        If ``tau`` is not positive and finite.
    """
    z = torch.randn(n, dim, generator=generator, dtype=dtype, device=device)
    return z.mul_(math.sqrt(_checked(tau)))


def prior_log_prob(z: Tensor, tau: float | Tensor = 1.0) -> Tensor:
    """Return ``log N(z; 0, tau)[...]`` of ``z[..., dim]``, normalised.

    Raises
    ------
    ValueError
        If a number ``tau`` is not positive and finite.
    """
    return -0.5 * z.square().sum(-1) / _checked(tau) - 0.5 * z.shape[-1] * _log_2_pi(tau)


def log_prob(flow: Flow, x: Tensor, tau: float | Tensor = 1.0) -> Tensor:
    """Return ``log q(x)[...]``, the density the flow gives to ``x[..., dim]``.

    ``log q(x) = log N(z; 0, tau) + log|det dz/dx|``; its negative mean is the ML loss.
    """
    z, logdet = flow.inverse(x)
    return prior_log_prob(z, tau) + logdet


def log_q(z: Tensor, logdet: Tensor, tau: float | Tensor = 1.0) -> Tensor:
    """Return ``log q(x)[...]`` of ``x, logdet = flow.forward(z)``, without inverting the flow."""
    return prior_log_prob(z, tau) - logdet


def log_weight(energy: Tensor, z: Tensor, logdet: Tensor, tau: float | Tensor = 1.0) -> Tensor:
    """Return the log-weight ``log w[...]`` of ``x, logdet = flow.forward(z)`` in float64.

    ``log w = -u(x)/tau + |z|^2/(2 tau) + log|det dx/dz| + (dim/2) log(2 pi tau)``, so that the mean
    of w estimates the partition function ``Z = integral exp(-u/tau) dx``.

    Parameters
    ----------
    energy
        Reduced energies ``u(x)[...]``, not divided by ``tau``.
    z
        Latent samples ``[..., dim]``.
    logdet
        ``log|det dx/dz|[...]``.
    tau
        Relative temperature.

    Raises
    ------
    ValueError
        If the batch dimensions differ, or a number ``tau`` is not positive and finite.
    """
    if not energy.shape == logdet.shape == z.shape[:-1]:
        raise ValueError(
            f"energy and logdet must have the batch shape {list(z.shape[:-1])} of z, "
            f"got {list(energy.shape)} and {list(logdet.shape)}"
        )
    if isinstance(tau, Tensor):
        tau = tau.to(torch.float64)
    u_tau = energy.to(torch.float64) / _checked(tau)
    return -u_tau - log_q(z.to(torch.float64), logdet.to(torch.float64), tau)


def _log_2_pi(tau: float | Tensor) -> float | Tensor:
    if isinstance(tau, Tensor):
        return torch.log(2.0 * math.pi * tau)
    return math.log(2.0 * math.pi * tau)


def _checked(tau: float | Tensor) -> float | Tensor:
    # A tensor is not looked at: that would make a GPU wait.
    if not isinstance(tau, Tensor) and not (tau > 0.0 and math.isfinite(tau)):
        raise ValueError(f"tau must be positive and finite, got {tau!r}")
    return tau
