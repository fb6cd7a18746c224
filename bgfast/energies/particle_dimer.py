"""The bistable dimer in a repulsive fluid, two-dimensional."""

from __future__ import annotations

import math
from dataclasses import asdict

import torch
from bgfast_kernels.dimer import DimerParameters
from torch import Tensor

from bgfast import ops
from bgfast.energies.base import Energy

PRESETS: dict[str, dict[str, float]] = {
    "default": {},
    "bgflow": {"c": -2.0, "k_box": 200.0},
    "original": {"k_box": 200.0},
    "figure": {"c": 4.0, "k_box": 200.0},
}
"""Parameters of published codes; `default` is the printed formula with the figures' barrier."""


class ParticleDimer(Energy):
    """Two particles bound by a double well in a box of repulsive particles.

    u(x) = k_d (x1x + x2x)^2 + k_d x1y^2 + k_d x2y^2
    + 1/4 a (d - d0)^4 - 1/2 b (d - d0)^2 + c (d - d0)
    + k_box sum_{i, axis} h(|x_i| - l) (|x_i| - l)^2
    + eps sum_{i<j, (i,j) != (1,2)} (sigma / r_ij)^12, with d = |x1 - x2| and h the step function.

    Coordinates are interleaved, ``[x1, y1, x2, y2, ...]``; particles 1 and 2 are the dimer. Every
    finite x has a finite energy and gradient: below r = 0.01 sigma the pair term goes on linearly
    in r^2, and beyond |x| = 1000 coordinates enter logarithmically (both C1).

    Parameters
    ----------
    n_solvent
        Number of solvent particles, 0 or more; ``dim = 2 (n_solvent + 2)``.
    eps, sigma
        Strength and length of the repulsion.
    k_d
        Force constant of the restraint that centres and aligns the dimer.
    d0, a, b, c
        Centre and coefficients of the dimer's double well.
    l, k_box
        Half width of the box and force constant of its walls.

    Notes
    -----
    arXiv:1812.01729; the paper's table (a = 25, b = 10) is not what its code evaluates: in the
    terms of this formula the code has a = 640, b = 200, which gives the barrier of the figures.
    """

    def __init__(
        self,
        n_solvent: int = 36,
        eps: float = 1.0,
        sigma: float = 1.1,
        k_d: float = 20.0,
        d0: float = 1.5,
        a: float = 640.0,
        b: float = 200.0,
        c: float = -1.0,
        l: float = 3.0,  # noqa: E741 the paper's name of the box half width
        k_box: float = 100.0,
    ) -> None:
        super().__init__()
        self.params = DimerParameters(
            n_solvent=n_solvent,
            eps=eps,
            sigma=sigma,
            k_d=k_d,
            d0=d0,
            a=a,
            b=b,
            c=c,
            l=l,
            k_box=k_box,
        )
        self.dim = self.params.dim

    @classmethod
    def preset(cls, name: str, n_solvent: int = 36) -> ParticleDimer:
        """Return the dimer with the parameters of a published code.

        Parameters
        ----------
        name
            ``"default"``, ``"bgflow"``, ``"original"`` or ``"figure"``; see :data:`PRESETS`.
        n_solvent
            Number of solvent particles.

        Raises
        ------
        ValueError
            If there is no preset of this name.
        """
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return cls(n_solvent=n_solvent, **PRESETS[name])

    def dimer_distance(self, x: Tensor) -> Tensor:
        """Return d = |x1 - x2|, shape ``[...]``."""
        x = self._checked(x)
        distance: Tensor = torch.linalg.vector_norm(x[..., 0:2] - x[..., 2:4], dim=-1)
        return distance

    def double_well(self, d: Tensor) -> Tensor:
        """Return V(d) = 1/4 a (d - d0)^4 - 1/2 b (d - d0)^2 + c (d - d0), shape of ``d``."""
        p = self.params
        s = d - p.d0
        v: Tensor = 0.25 * p.a * s**4 - 0.5 * p.b * s**2 + p.c * s
        return v

    def lattice_configuration(self, d: float) -> Tensor:
        """Return a start for simulations: the dimer at distance d, the solvent around it on a grid.

        Parameters
        ----------
        d
            Distance of the dimer particles.

        Returns
        -------
        Tensor
            Coordinates, shape ``[dim]``, float64. The grid points farthest from the dimer are used.
        """
        n = self.params.n_solvent
        dimer = torch.tensor([[-0.5 * d, 0.0], [0.5 * d, 0.0]], dtype=torch.float64)
        side = math.isqrt(max(n + 4, 1) - 1) + 1
        half = self.params.l - 0.25 * self.params.sigma
        axis = torch.linspace(-half, half, side, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis)
        room = torch.cdist(grid, dimer).min(dim=1).values
        kept = room.argsort(descending=True, stable=True)[:n].sort().values
        return torch.cat([dimer, grid[kept]]).reshape(-1)

    def _energy(self, x: Tensor) -> Tensor:
        return ops.dimer_energy(x, self.params)

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy, gradient = ops.dimer_energy_grad(x, self.params)
        return energy, -gradient

    def extra_repr(self) -> str:
        """Return the parameters, for ``repr``."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self.params).items())
