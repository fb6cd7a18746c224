"""A cluster of Lennard-Jones particles."""

from __future__ import annotations

from bgfast_kernels.pair import PairParameters
from torch import Tensor

from bgfast import ops
from bgfast.energies.base import Energy


class LennardJones(Energy):
    """Lennard-Jones particles, held at their mean position by a harmonic trap.

    u(x) = 4 eps sum_{i<j} [(sigma / r_ij)^12 - (sigma / r_ij)^6]
    + oscillator/2 sum_i |x_i - mean(x)|^2.

    Coordinates are interleaved, ``[x1, y1, z1, x2, ...]``. Every finite x has a finite energy and
    gradient: below r = 0.01 sigma the pair term goes on linearly in r^2, and beyond |x| = 1000
    coordinates enter logarithmically (both C1).

    Parameters
    ----------
    n_particles
        Number of particles, 2 or more; ``dim = n_particles * n_dim``.
    n_dim
        Dimensions of space, 2 or 3.
    eps
        Depth of the pair's well.
    sigma
        Where a pair's energy crosses zero. The default has the minimum at r_m = 2^(1/6) sigma = 1.
    oscillator
        Force constant of the trap; 0 for none.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number of the range above.

    Notes
    -----
    With the defaults this is bgflow's ``LennardJonesPotential`` with its defaults: eps = 1, rm = 1,
    oscillator = True, oscillator_scale = 1. There ``rm`` is ``2^(1/6) sigma``. Codes that sum over
    ordered pairs (DEM) have twice the pair term: ``eps=2``.

    The energy does not change when all particles move together, so exp(-u) is a density over
    configurations of a fixed mean position, and only with a trap can it be normalised.
    """

    def __init__(
        self,
        n_particles: int = 13,
        n_dim: int = 3,
        eps: float = 1.0,
        sigma: float = 2 ** (-1 / 6),
        oscillator: float = 1.0,
    ) -> None:
        super().__init__()
        if isinstance(n_particles, bool) or not isinstance(n_particles, int):
            raise TypeError(f"n_particles must be an integer, got {n_particles!r}")
        if n_particles < 2:
            raise ValueError(f"n_particles must be 2 or more, got {n_particles}")
        if not oscillator >= 0:
            raise ValueError(f"oscillator must be 0 or more, got {oscillator!r}")
        self.params = PairParameters("lennard_jones", n_dim, eps, sigma, trap=oscillator)
        self.n_particles = n_particles
        self.dim = n_particles * self.params.n_dim

    def _energy(self, x: Tensor) -> Tensor:
        return ops.pair_energy(x, self.params)

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy, gradient = ops.pair_energy_grad(x, self.params)
        return energy, -gradient

    def extra_repr(self) -> str:
        """Return the parameters, for ``repr``."""
        p = self.params
        return (
            f"n_particles={self.n_particles}, n_dim={p.n_dim}, eps={p.eps}, sigma={p.sigma}, "
            f"oscillator={p.trap}"
        )
