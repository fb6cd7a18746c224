"""The double well, one-dimensional or with harmonic coordinates beside it."""

from __future__ import annotations

from torch import Tensor

from bgfast.energies.base import Energy, far_map


class DoubleWell(Energy):
    """u(x) = a4 x1^4 - a2 x1^2 + a1 x1 + sum_{i >= 2} k/2 xi^2.

    Parameters
    ----------
    dim
        Number of coordinates, at least 1.
    a4, a2, a1
        Coefficients of the well along x1; a4 > 0.
    k
        Force constant of the other coordinates, k > 0.

    Notes
    -----
    The paper (arXiv:1812.01729) prints 1/4 a x^4 - 1/2 b x^2 + c x with a = 1, b = 6; its code and
    figures use the form above with a4 = 1, a2 = 6, a1 = 1, which are the defaults.
    """

    def __init__(
        self, dim: int = 2, a4: float = 1.0, a2: float = 6.0, a1: float = 1.0, k: float = 1.0
    ) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a positive integer, got {dim!r}")
        for name, value in (("a4", a4), ("k", k)):
            if not value > 0:
                raise ValueError(
                    f"{name} must be positive so that exp(-u) is normalisable, got {value}"
                )
        self.dim = dim
        self.a4, self.a2, self.a1, self.k = float(a4), float(a2), float(a1), float(k)

    def _energy(self, x: Tensor) -> Tensor:
        x = far_map(x)
        x1, others = x[..., 0], x[..., 1:]
        square = x1 * x1
        well = (self.a4 * square - self.a2) * square + self.a1 * x1
        return well + 0.5 * self.k * (others * others).sum(-1)

    def extra_repr(self) -> str:
        """Return the parameters, for ``repr``."""
        return f"dim={self.dim}, a4={self.a4}, a2={self.a2}, a1={self.a1}, k={self.k}"
