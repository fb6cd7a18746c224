"""Pair potentials written in plain torch: any device and dtype, any derivative.

It calls the potential's own ``u(s)`` and leaves derivatives to autograd; nothing of the kernels'
derivation is used.
"""

from __future__ import annotations

import torch
from bgfast_kernels.pair import CORE, POTENTIALS, PairParameters
from torch import Tensor

from bgfast.ops.dimer_reference import fold_far


def reference_energy(x: Tensor, parameters: PairParameters) -> Tensor:
    """Return the reduced energies, shape ``[...]``, of configurations ``x[..., D]``."""
    p = parameters
    r = fold_far(x).reshape(*x.shape[:-1], -1, p.n_dim)
    i, j = torch.triu_indices(r.shape[-2], r.shape[-2], 1, device=x.device)
    s = ((r[..., i, :] - r[..., j, :]) ** 2).sum(-1) / p.sigma**2
    pairs = _continued(s, p.potential).sum(-1)
    off = r - r.mean(-2, keepdim=True)
    return p.eps * pairs + 0.5 * p.trap * (off**2).sum((-2, -1))


def reference_energy_grad(x: Tensor, parameters: PairParameters) -> tuple[Tensor, Tensor]:
    """Return energies ``[...]`` and dU/dx ``[..., D]``, both differentiable."""

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        u = reference_energy(x, parameters)
        return u.sum(), u

    result: tuple[Tensor, Tensor] = torch.func.grad(total, has_aux=True)(x)
    return result[1], result[0]


def reference_hvp(x: Tensor, v: Tensor, parameters: PairParameters) -> Tensor:
    """Return the Hessians at ``x[..., D]`` applied to ``v[..., D]``, differentiable."""

    def along(x: Tensor) -> Tensor:
        return (reference_energy_grad(x, parameters)[1] * v).sum()

    product: Tensor = torch.func.grad(along)(x)
    return product


def _continued(s: Tensor, potential: str) -> Tensor:
    """Return u(s), linear in s below CORE^2.

    The slope is taken at each s and not once: where nothing is left out, terms of that slope cancel
    in the derivatives, and the core's is larger by 1e28.
    """
    u = POTENTIALS[potential].u
    guarded = torch.where(s < CORE**2, torch.full_like(s, CORE**2), s)  # NaN stays
    slope: Tensor = torch.func.grad(lambda s: u(s).sum())(guarded)
    energy: Tensor = u(guarded) + slope * (s - guarded)
    return energy
