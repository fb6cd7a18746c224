"""The dimer in a repulsive fluid written in plain torch: any device and dtype, any derivative.

Written from the formula (see :mod:`bgfast_kernels.dimer`), independently of the kernels. Each
continuation is ``value at the bound + slope there * what is left``, which has the right derivatives
of every order on both sides and never divides by zero.
"""

from __future__ import annotations

import torch
from bgfast_kernels.dimer import CORE, D_MIN, X_FAR, DimerParameters
from torch import Tensor


def reference_energy(x: Tensor, parameters: DimerParameters) -> Tensor:
    """Return the reduced energies, shape ``[...]``, of configurations ``x[..., D]``."""
    p = parameters
    r = fold_far(x).reshape(*x.shape[:-1], p.n_particles, 2)
    first, second = r[..., 0, :], r[..., 1, :]
    restraint = p.k_d * (
        (first[..., 0] + second[..., 0]) ** 2 + first[..., 1] ** 2 + second[..., 1] ** 2
    )
    q = _dimer_distance(first - second) - p.d0
    dimer = p.a / 4 * q**4 - p.b / 2 * q**2 + p.c * q
    beyond = r - r.clamp(-p.l, p.l)
    walls = p.k_box * (beyond**2).sum((-2, -1))
    return restraint + dimer + walls + _repulsion(r, p)


def reference_energy_grad(x: Tensor, parameters: DimerParameters) -> tuple[Tensor, Tensor]:
    """Return energies ``[...]`` and dU/dx ``[..., D]``, both differentiable."""

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        u = reference_energy(x, parameters)
        return u.sum(), u

    result: tuple[Tensor, Tensor] = torch.func.grad(total, has_aux=True)(x)
    return result[1], result[0]


def reference_hvp(x: Tensor, v: Tensor, parameters: DimerParameters) -> Tensor:
    """Return the Hessians at ``x[..., D]`` applied to ``v[..., D]``, differentiable."""

    def along(x: Tensor) -> Tensor:
        return (reference_energy_grad(x, parameters)[1] * v).sum()

    product: Tensor = torch.func.grad(along)(x)
    return product


def fold_far(x: Tensor) -> Tensor:
    """Return phi(x): x up to ``X_FAR``, ``sign(x) X_FAR (1 + log(|x| / X_FAR))`` beyond."""
    size = x.abs().clamp(min=X_FAR)
    far = torch.sign(x) * X_FAR * (1 + torch.log(size / X_FAR))
    return torch.where(x.abs() > X_FAR, far, x)


def _dimer_distance(r: Tensor) -> Tensor:
    s = (r**2).sum(-1)
    guarded = _at_least(s, D_MIN**2)
    d = guarded.sqrt()
    return d + (s - guarded) / (2 * d)


def _repulsion(r: Tensor, p: DimerParameters) -> Tensor:
    i, j = torch.triu_indices(p.n_particles, p.n_particles, 1, device=r.device)[:, 1:]
    s = ((r[..., i, :] - r[..., j, :]) ** 2).sum(-1) / p.sigma**2
    guarded = _at_least(s, CORE**2)
    pair = guarded**-6 - 6 * guarded**-7 * (s - guarded)
    return p.eps * pair.sum(-1)


def _at_least(s: Tensor, bound: float) -> Tensor:
    """Return max(s, bound), constant below the bound; NaN stays."""
    return torch.where(s < bound, torch.full_like(s, bound), s)
