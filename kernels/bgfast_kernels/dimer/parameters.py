"""Parameters of the dimer in solvent, and where its formula is continued."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from bgfast_kernels.continuation import CORE as CORE
from bgfast_kernels.continuation import X_FAR as X_FAR

_NUMBERS = (int, float, np.integer, np.floating)

D_MIN = 1e-6
"""Below it the dimer distance is ``D_MIN + (d^2 - D_MIN^2) / (2 D_MIN)``.

This is C1 and makes the gradient of the cusp at d = 0 finite: dd/dx = (x1 - x2) / max(d, D_MIN).
"""


@dataclass(frozen=True)
class DimerParameters:
    """Parameters of the energy, reduced units (k_B T0 and the length unit of the coordinates).

    Parameters
    ----------
    n_solvent
        Number of solvent particles, 0 or more.
    eps, sigma
        Strength and range of the pair term ``eps (sigma / r)^12``.
    k_d
        Restraint of the dimer's centre and alignment.
    d0, a, b, c
        Dimer term ``a/4 (d - d0)^4 - b/2 (d - d0)^2 + c (d - d0)``.
    l, k_box
        Half width of the box and strength of its soft walls.

    Raises
    ------
    TypeError
        If a parameter is not a number (``n_solvent``: an integer).
    ValueError
        If a parameter is not finite, ``n_solvent`` is negative, or ``sigma`` is not positive.
    """

    n_solvent: int = 36
    eps: float = 1.0
    sigma: float = 1.1
    k_d: float = 20.0
    d0: float = 1.5
    a: float = 640.0
    b: float = 200.0
    c: float = -1.0
    l: float = 3.0  # noqa: E741  the field's own name
    k_box: float = 100.0

    def __post_init__(self) -> None:
        n: object = self.n_solvent
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"n_solvent must be an integer, got {n!r}")
        if n < 0:
            raise ValueError(f"n_solvent must be 0 or more, got {n}")
        object.__setattr__(self, "n_solvent", int(n))
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(
                value, (int, float, np.integer, np.floating)
            ):
                raise TypeError(f"{field.name} must be a number, got {value!r}")
            if not math.isfinite(value):
                raise ValueError(f"{field.name} must be finite, got {value!r}")
            object.__setattr__(self, field.name, float(value))
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive, got {self.sigma}")

    @property
    def n_particles(self) -> int:
        """Number of particles, the dimer's two included."""
        return 2 + self.n_solvent

    @property
    def dim(self) -> int:
        """Number of coordinates, two per particle."""
        return 2 * self.n_particles
