"""An energy with a bias along a coordinate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from torch import Tensor, nn

from bgfast.energies.base import Energy

Coordinate = Callable[[Tensor], Tensor]


class Bias(nn.Module):
    """A bias b(r) through given points, C1, constant beyond the first and the last.

    Monotone piecewise cubic (PCHIP): it does not overshoot between the points.

    Parameters
    ----------
    r
        Values of the coordinate, ``[n]``, increasing, n >= 2.
    b
        The bias there, ``[n]``, in the unit of the energy.

    Raises
    ------
    ValueError
        If the shapes differ, ``r`` does not increase, or something is not finite.
    """

    coefficients: Tensor
    knots: Tensor

    def __init__(self, r: ArrayLike, b: ArrayLike) -> None:
        super().__init__()
        r, b = np.asarray(r, np.float64), np.asarray(b, np.float64)
        if r.ndim != 1 or r.shape != b.shape or r.size < 2:
            raise ValueError(
                f"r and b must have the same shape [n], n >= 2, got {r.shape}, {b.shape}"
            )
        if not (np.isfinite(r).all() and np.isfinite(b).all() and (np.diff(r) > 0).all()):
            raise ValueError("r must increase, and r and b must be finite")
        # A flat piece on either side brings the slope to 0 at the ends.
        width = r[-1] - r[0]
        knots = np.concatenate([[r[0] - width], r, [r[-1] + width]])
        cubic = PchipInterpolator(knots, np.concatenate([[b[0]], b, [b[-1]]]))
        self.register_buffer("knots", torch.from_numpy(knots))
        self.register_buffer("coefficients", torch.from_numpy(np.ascontiguousarray(cubic.c)))

    def forward(self, r: Tensor) -> Tensor:
        """Return b(r), shape and dtype of ``r``."""
        knots, c = self.knots.to(r.device), self.coefficients.to(r.device)
        inside = r.double().clamp(knots[0], knots[-1])
        piece = (torch.searchsorted(knots, inside.detach().contiguous(), right=True) - 1).clamp(
            0, len(knots) - 2
        )
        s = inside - knots[piece]
        value: Tensor = ((c[0][piece] * s + c[1][piece]) * s + c[2][piece]) * s + c[3][piece]
        return value.to(r.dtype)


class Biased(Energy):
    """u(x) + b(R(x)): weights exp(-(u + b)) lead back to exp(-u) by a factor exp(b / tau).

    Parameters
    ----------
    energy
        The energy u.
    coordinate
        R: ``x[..., dim]`` to ``[...]``, differentiable.
    bias
        b: ``[...]`` to ``[...]``, differentiable; see :class:`Bias`.
    """

    def __init__(self, energy: Energy, coordinate: Coordinate, bias: Coordinate) -> None:
        super().__init__()
        self.unbiased = energy
        self.coordinate = coordinate
        self.bias = bias
        self.dim = energy.dim

    def added(self, x: Tensor) -> Tensor:
        """Return b(R(x)), ``x[..., dim]`` to ``[...]``."""
        return self.bias(self.coordinate(x))

    def _energy(self, x: Tensor) -> Tensor:
        return self.unbiased.energy(x) + self.added(x)

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.requires_grad and torch.is_grad_enabled():
            return super()._energy_and_force(x)
        u, force = self.unbiased.energy_and_force(x)
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            added = self.added(at)
            (gradient,) = torch.autograd.grad(added.sum(), at)
        return u + added.detach(), force - gradient
