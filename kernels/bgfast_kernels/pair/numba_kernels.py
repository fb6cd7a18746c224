"""Public CPU kernels of pair potentials: arrays in, arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu
from bgfast_kernels.pair.numba_rows import rows_kernels
from bgfast_kernels.pair.parameters import PairParameters, constants

Array = NDArray[Any]


def pair_energy_grad(x: Array, parameters: PairParameters) -> tuple[Array, Array]:
    """Return the energies and their gradients.

    Parameters
    ----------
    x
        ``[n, dim]`` configurations, ``dim`` a multiple of ``parameters.n_dim``, float32 or float64.
    parameters
        Parameters of the energy.

    Returns
    -------
    u, grad
        ``[n]`` energies and ``[n, dim]`` dU/dx in the dtype of ``x``.
    """
    n, dim = x.shape
    u, grad = np.empty(n, x.dtype), np.empty((n, dim), x.dtype)
    if n:
        kernel = rows_kernels(parameters.potential, parameters.n_dim)[0]
        flat, numbers = np.ascontiguousarray(x).reshape(-1), constants(parameters, x.dtype)
        lanes = 64 // x.dtype.itemsize
        cpu.parallel_rows(kernel, n, flat, numbers, dim, u, grad.reshape(-1), block=lanes)
    return u, grad


def pair_hvp(x: Array, v: Array, parameters: PairParameters) -> Array:
    """Return the Hessians at ``x[n, dim]`` applied to ``v[n, dim]``, ``[n, dim]``."""
    n, dim = x.shape
    out = np.empty((n, dim), x.dtype)
    if n:
        kernel = rows_kernels(parameters.potential, parameters.n_dim)[1]
        flat_x, flat_v = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(v).reshape(-1)
        numbers = constants(parameters, x.dtype)
        lanes = 64 // x.dtype.itemsize
        cpu.parallel_rows(kernel, n, flat_x, flat_v, numbers, dim, out.reshape(-1), block=lanes)
    return out
