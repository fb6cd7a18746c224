"""The Mueller-Brown surface."""

from __future__ import annotations

import torch
from torch import Tensor

from bgfast.energies.base import Energy, far_map

_MAX_EXPONENT = 30.0


class MuellerBrown(Energy):
    """Four Gaussian terms in the plane, scaled to units of k_B T.

    u(x, y) = scale * sum_k A_k exp(a_k dx_k^2 + b_k dx_k dy_k + c_k dy_k^2), dx_k = x - x0_k,
    dy_k = y - y0_k. The fourth exponent grows without bound: above 30 the exponential goes on
    linearly (C1), far outside the region where exp(-u) has any weight.

    Parameters
    ----------
    scale
        Factor to units of k_B T, positive.
    """

    A = (-200.0, -100.0, -170.0, 15.0)
    a = (-1.0, -1.0, -6.5, 0.7)
    b = (0.0, 0.0, 11.0, 0.6)
    c = (-10.0, -10.0, -6.5, 0.7)
    x0 = (1.0, 0.0, -0.5, -1.0)
    y0 = (0.0, 0.5, 1.5, 1.0)

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.dim = 2
        self.scale = float(scale)

    def _energy(self, x: Tensor) -> Tensor:
        x = far_map(x)
        energy = torch.zeros_like(x[..., 0])
        for A, a, b, c, x0, y0 in zip(
            self.A, self.a, self.b, self.c, self.x0, self.y0, strict=True
        ):
            dx, dy = x[..., 0] - x0, x[..., 1] - y0
            exponent = a * dx * dx + b * dx * dy + c * dy * dy
            below = exponent.clamp(max=_MAX_EXPONENT)
            energy = energy + A * below.exp() * (1 + (exponent - below))
        return self.scale * energy

    def extra_repr(self) -> str:
        """Return the parameters, for ``repr``."""
        return f"scale={self.scale}"
