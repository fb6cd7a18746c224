"""Typical configurations of particles with pair potentials, for tests and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def cluster(
    rng: np.random.Generator,
    n: int,
    dtype: DTypeLike,
    n_particles: int,
    n_dim: int,
    sigma: float = 1.0,
    noise: float = 0.05,
) -> NDArray[Any]:
    """Return ``[n, n_particles * n_dim]`` configurations: sites of a lattice nearest to 0, moved.

    The lattice is square or cubic, its constant the distance of the least Lennard-Jones energy;
    every coordinate is moved by a normal number of standard deviation ``noise * sigma``.
    """
    side = int(np.ceil(n_particles ** (1 / n_dim))) | 1
    axis = np.arange(side) - (side - 1) / 2
    sites = np.stack(np.meshgrid(*[axis] * n_dim, indexing="ij"), -1).reshape(-1, n_dim)
    nearest = np.argsort((sites**2).sum(-1), kind="stable")[:n_particles]
    x = 2 ** (1 / 6) * sites[nearest] + noise * rng.normal(size=(n, n_particles, n_dim))
    return (sigma * x).reshape(n, n_particles * n_dim).astype(dtype)
