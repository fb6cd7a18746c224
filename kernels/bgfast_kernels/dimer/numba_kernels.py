"""The dimer's public CPU kernels: arrays in, arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu
from bgfast_kernels.dimer.constants import constants
from bgfast_kernels.dimer.numba_gradient import energy_grad_rows
from bgfast_kernels.dimer.numba_hvp import hvp_rows
from bgfast_kernels.dimer.parameters import DimerParameters

Array = NDArray[Any]


def dimer_energy_grad(x: Array, parameters: DimerParameters) -> tuple[Array, Array]:
    """Return the energies and their gradients.

    Parameters
    ----------
    x
        ``[n, dim]`` configurations, float32 or float64.
    parameters
        Parameters of the energy.

    Returns
    -------
    u, grad
        ``[n]`` energies and ``[n, dim]`` dU/dx in the dtype of ``x``.
    """
    n, dim = x.shape
    u = np.empty(n, x.dtype)
    grad = np.empty((n, dim), x.dtype)
    if n:
        flat = np.ascontiguousarray(x).reshape(-1)
        numbers = constants(parameters, x.dtype)
        lanes = 64 // x.dtype.itemsize
        cpu.parallel_rows(energy_grad_rows, n, flat, numbers, dim, u, grad.reshape(-1), block=lanes)
    return u, grad


def dimer_hvp(x: Array, v: Array, parameters: DimerParameters) -> Array:
    """Return the Hessians at ``x[n, dim]`` applied to ``v[n, dim]``, ``[n, dim]``."""
    n, dim = x.shape
    out = np.empty((n, dim), x.dtype)
    if n:
        flat_x, flat_v = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(v).reshape(-1)
        numbers = constants(parameters, x.dtype)
        lanes = 64 // x.dtype.itemsize
        cpu.parallel_rows(hvp_rows, n, flat_x, flat_v, numbers, dim, out.reshape(-1), block=lanes)
    return out
