"""The energy cap of training by energy: linear, then logarithmic, then constant."""

from __future__ import annotations

from dataclasses import dataclass

from bgfast_kernels.cap import check
from torch import Tensor

from bgfast.ops import lin_log_cap


@dataclass(frozen=True)
class LinLogCap:
    """u where u <= e_high, e_high + log(1 + u - e_high) above, constant above e_max.

    Without it the first generated configurations, with their overlapping particles, would decide
    every gradient.

    Parameters
    ----------
    e_high
        Where the logarithm starts, in k_B T.
    e_max
        Where the gradient ends, in k_B T; larger than ``e_high``.

    Raises
    ------
    ValueError
        If ``e_high < e_max`` does not hold or either is not finite.

    Notes
    -----
    As in the published code the energy is clamped first: +inf becomes the finite value at
    ``e_max`` with a zero gradient. NaN stays NaN; the losses leave such rows out.
    """

    e_high: float
    e_max: float = 1e10

    def __post_init__(self) -> None:
        check(self.e_high, self.e_max)

    def __call__(self, u: Tensor) -> Tensor:
        """Return the capped energies, in the shape and dtype of ``u``."""
        return lin_log_cap(u, self.e_high, self.e_max)
