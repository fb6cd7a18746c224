"""Typical configurations of the dimer, for tests and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bgfast_kernels.dimer.parameters import DimerParameters


def lattice(
    rng: np.random.Generator,
    n: int,
    dtype: DTypeLike,
    parameters: DimerParameters,
    noise: float = 0.05,
) -> NDArray[Any]:
    """Return ``[n, dim]`` configurations: solvent on a square lattice in the box, with noise.

    The dimer lies on the x axis with d between 0.8 and 2.2. Lattice sites closest to it stay empty
    as far as there are more sites than solvent particles.
    """
    side = int(np.ceil(np.sqrt(parameters.n_solvent + 4)))
    axis = (np.arange(side) + 0.5) / side * 2 * parameters.l - parameters.l
    sites = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    to_dimer = np.hypot(np.maximum(np.abs(sites[:, 0]) - 0.75, 0.0), sites[:, 1])
    solvent = sites[np.argsort(-to_dimer, kind="stable")[: parameters.n_solvent]]
    x = np.zeros((n, parameters.n_particles, 2))
    x[:, 0, 0] = -rng.uniform(0.4, 1.1, n)
    x[:, 1, 0] = -x[:, 0, 0]
    x[:, 2:] = solvent
    x += noise * rng.normal(size=x.shape)
    return x.reshape(n, parameters.dim).astype(dtype)
