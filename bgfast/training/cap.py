"""The energy cap of training by energy: linear, then logarithmic, then constant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
        if not -float("inf") < self.e_high < self.e_max < float("inf"):
            raise ValueError(
                f"e_high and e_max must be finite with e_high < e_max, "
                f"got {self.e_high:g} and {self.e_max:g}"
            )

    def __call__(self, u: Tensor) -> Tensor:
        """Return the capped energies, in the shape and dtype of ``u``."""
        u = u.clamp(max=self.e_max)
        excess = (u - self.e_high).clamp(min=0)  # so that log1p is finite in the branch not taken
        return torch.where(u > self.e_high, self.e_high + excess.log1p(), u)
