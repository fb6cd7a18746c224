"""The mean -log q of held-out examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bgfast.training.inputs import Examples
from bgfast.training.losses import ml_loss

if TYPE_CHECKING:
    from bgfast.flows import Flow

_ROWS = 8192


@torch.no_grad()
def validation_metrics(flow: Flow, validation: Examples) -> dict[str, float | None]:
    """Return validation_nll, and validation_nonfinite: the share of rows that it leaves out."""
    n, total, n_left_out = len(validation.x), 0.0, 0
    for start in range(0, n, _ROWS):
        part = validation.take(slice(start, start + _ROWS))
        loss = ml_loss(flow, *part)
        total += float(loss.value) * (len(part.x) - int(loss.n_left_out))
        n_left_out += int(loss.n_left_out)
    nll = total / (n - n_left_out) if n > n_left_out else None
    return {"validation_nll": nll, "validation_nonfinite": n_left_out / n}
