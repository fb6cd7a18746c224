"""The mean -log q of held-out examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bgfast.training.inputs import Examples
from bgfast.training.losses import ml_loss

if TYPE_CHECKING:
    from bgfast.flows import Flow

_ROWS = 8192


@torch.no_grad()
def validation_metrics(flow: Flow, validation: Examples) -> Tensor:
    """Return the mean -log q, and the share of the rows that it leaves out: ``[2]``, float64.

    They stay where the flow is. Without any row the mean is NaN.
    """
    sums = validation.x.new_zeros(2, dtype=torch.float64)
    for start in range(0, len(validation.x), _ROWS):
        part = validation.take(slice(start, start + _ROWS))
        loss = ml_loss(flow, *part)
        n_taken = len(part.x) - loss.n_left_out
        value = torch.where(n_taken > 0, loss.value.double() * n_taken, 0.0)
        sums += torch.stack([value, loss.n_left_out.double()])
    total, n_left_out = sums
    n = len(validation.x)
    return torch.stack([total / (n - n_left_out), n_left_out / n])
