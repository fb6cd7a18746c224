"""The energy cap in plain torch: reference, and the source of second derivatives."""

from __future__ import annotations

import torch
from torch import Tensor


def reference_lin_log_cap(u: Tensor, e_high: float, e_max: float) -> Tensor:
    """Return what :func:`bgfast.ops.lin_log_cap` does, differentiable as often as one likes."""
    u = u.clamp(max=e_max)
    excess = (u - e_high).clamp(min=0)  # so that log1p is finite in the branch not taken
    return torch.where(u > e_high, e_high + excess.log1p(), u)


def reference_cap_gradient(u: Tensor, grad: Tensor, e_high: float, e_max: float) -> Tensor:
    """Return ``grad`` times the derivative of the cap, differentiable itself."""
    slope = 1 / (1 + (u - e_high).clamp(min=0))
    # In this order the infinities of u and NaN do not meet a factor of 0.
    slope = torch.where(u > e_high, slope, 1)
    return torch.where(u <= e_max, grad * slope, 0)
