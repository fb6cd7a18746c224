"""Particles with a pair potential: energy, gradient, Hessian-vector product.

The energy of N particles in D = 2 or 3 dimensions, coordinates ``[x1, y1, (z1,) x2, ...]``::

    u(x) = eps sum_{i<j} u(r_ij^2 / sigma^2) + trap/2 sum_i |x_i - mean(x)|^2

One potential is one file that states u(s), ``s = r^2``, once, see
:mod:`bgfast_kernels.pair.potential`; the loop over all pairs is the same for all of them. To add
one, write a file like ``repulsion.py`` and enter it in :data:`POTENTIALS`: its kernels, torch op
and tests follow.

The energy is evaluated at phi(x), phi per coordinate the identity up to ``X_FAR`` and logarithmic
beyond, and u goes on linearly in r^2 below ``CORE`` sigma, so that any finite x has a finite energy
and gradient.
"""

from __future__ import annotations

from bgfast_kernels.continuation import CORE, X_FAR
from bgfast_kernels.pair.parameters import POTENTIALS, PairParameters
from bgfast_kernels.pair.potential import Potential
from bgfast_kernels.pair.samples import cluster
from bgfast_kernels.spec import KernelSpec, Tolerance, register


def _register(potential: Potential, n_dim: int) -> None:
    parameters = PairParameters(potential.name, n_dim, eps=1.3, sigma=1.1, trap=0.7)
    register(
        KernelSpec(
            name=f"pair_{potential.name}",
            summary=f"all pairs, {potential.summary}: energy and gradient",
            implementations={
                "numba": "bgfast_kernels.pair.numba_kernels:pair_energy_grad",
                "cuda": "bgfast_kernels.pair.cuda_kernels:pair_energy_grad",
            },
            sample=lambda rng, n, dtype: {
                "x": cluster(rng, n, dtype, 13, n_dim, parameters.sigma),
                "parameters": parameters,
            },
            arrays=("x",),
            # Attraction and repulsion cancel where the energy, or a force, crosses zero.
            tolerance={
                "float32": Tolerance(1e-6, 2e-6, 10.0),
                "float64": Tolerance(1e-12, 1e-12, 10.0),
            },
        )
    )


for _k, _potential in enumerate(POTENTIALS.values()):
    _register(_potential, 3 - _k % 2)  # samples in both dimensions

__all__ = ["CORE", "POTENTIALS", "X_FAR", "PairParameters", "Potential", "cluster"]
