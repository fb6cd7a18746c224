"""Parameters of a pair energy, and the numbers its kernels compute with on any device."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bgfast_kernels.continuation import CORE, X_FAR
from bgfast_kernels.pair.lennard_jones import LENNARD_JONES
from bgfast_kernels.pair.potential import Potential, derivatives
from bgfast_kernels.pair.repulsion import REPULSION

POTENTIALS: dict[str, Potential] = {p.name: p for p in (LENNARD_JONES, REPULSION)}
"""Every potential by its name. A new one is a file like these two, and an entry here."""


@dataclass(frozen=True)
class PairParameters:
    """Parameters of ``eps sum_{i<j} u(r_ij^2 / sigma^2) + trap/2 sum_i |x_i - mean(x)|^2``.

    Parameters
    ----------
    potential
        Name of u, one of :data:`POTENTIALS`.
    n_dim
        Dimensions of space, 2 or 3.
    eps, sigma
        Strength and length of the potential.
    trap
        Force constant that holds the particles at their mean position; 0 for none.

    Raises
    ------
    TypeError
        If ``eps``, ``sigma`` or ``trap`` is not a number.
    ValueError
        If there is no such potential, ``n_dim`` is another one, a number is not finite, or
        ``sigma`` is not positive.
    """

    potential: str
    n_dim: int = 3
    eps: float = 1.0
    sigma: float = 1.0
    trap: float = 0.0

    def __post_init__(self) -> None:
        if self.potential not in POTENTIALS:
            raise ValueError(
                f"potential must be one of {', '.join(POTENTIALS)}, got {self.potential!r}"
            )
        if self.n_dim not in (2, 3):
            raise ValueError(f"n_dim must be 2 or 3, got {self.n_dim!r}")
        object.__setattr__(self, "n_dim", int(self.n_dim))
        for name in ("eps", "sigma", "trap"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(
                value, (int, float, np.integer, np.floating)
            ):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value!r}")
            object.__setattr__(self, name, float(value))
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive, got {self.sigma}")


@functools.lru_cache(maxsize=64)
def constants(parameters: PairParameters, dtype: DTypeLike) -> NDArray[Any]:
    """Return the numbers a kernel needs, in the order of ``numba_rows`` and ``terms.cuh``.

    Lengths y are in units of the power of two nearest to sigma: scaling by it is exact, and the
    powers of 1/r stay within float32 whatever the user's length unit.
    """
    p = parameters
    scale = 2.0 ** -round(math.log2(p.sigma))
    sigma_2 = (p.sigma * scale) ** 2
    d = derivatives(POTENTIALS[p.potential])
    core_slope = d.at(CORE**2)[1] / (d.value_factor * sigma_2)
    return np.array(
        [
            scale,
            sigma_2,
            CORE**2 * sigma_2,
            core_slope,
            p.eps * d.value_factor,  # of the energies' sum
            2.0 * p.eps * d.slope_factor / sigma_2,  # of the gradients' sum
            2.0 / sigma_2,  # of u'' beside u'
            p.trap / scale**2,
            X_FAR,
        ],
        dtype,
    )
