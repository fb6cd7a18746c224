"""The bistable dimer in a repulsive Lennard-Jones fluid: energy, gradient, Hessian-vector product.

The energy of ``N = 2 + n_solvent`` particles in two dimensions, coordinates ``[x1, y1, x2, ...]``,
particles 1 and 2 being the dimer::

    u(x) = k_d (x1x + x2x)^2 + k_d x1y^2 + k_d x2y^2                centre and alignment
         + a/4 (d - d0)^4 - b/2 (d - d0)^2 + c (d - d0)             dimer, d = |x1 - x2|
         + k_box sum_{i, axis} max(|x_i| - l, 0)^2                  soft walls
         + eps sum_{i<j, (i,j) != (1,2)} (sigma / r_ij)^12          all pairs but the dimer's own

It is evaluated at phi(x), phi per coordinate the identity up to ``X_FAR`` and logarithmic beyond,
and the pair term goes on linearly in r^2 below ``CORE`` sigma, so that any finite x has a finite
energy and gradient. See :mod:`bgfast_kernels.dimer.parameters` for these constants.
"""

from bgfast_kernels.dimer.parameters import CORE, D_MIN, X_FAR, DimerParameters
from bgfast_kernels.dimer.samples import lattice
from bgfast_kernels.spec import KernelSpec, Tolerance, register

SPEC = register(
    KernelSpec(
        name="dimer",
        summary="dimer in a repulsive Lennard-Jones fluid: energy and gradient",
        implementations={
            "numba": "bgfast_kernels.dimer.numba_kernels:dimer_energy_grad",
            "cuda": "bgfast_kernels.dimer.cuda_kernels:dimer_energy_grad",
        },
        sample=lambda rng, n, dtype: {
            "x": lattice(rng, n, dtype, DimerParameters()),
            "parameters": DimerParameters(),
        },
        arrays=("x",),
        tolerance={"float32": Tolerance(1e-5, 1e-5), "float64": Tolerance(1e-12, 1e-12)},
    )
)

__all__ = ["CORE", "D_MIN", "SPEC", "X_FAR", "DimerParameters", "lattice"]
