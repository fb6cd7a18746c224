"""Diagonal scaling, the S of "N10S"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bgfast.flows.base import Flow
from bgfast.flows.registry import LayerSettings, register


class Scaling(Flow):
    """Scale each coordinate by a trainable positive factor: ``x = z exp(log_scale)``.

    As in the code published with Noé et al., arXiv:1812.01729, the factors are free (their product
    is not held at 1) and start at 1; in a volume-preserving NICE flow this is the one layer that
    changes the entropy. (The published parameter is ours times -1: it scales from x to z.)
    """

    def __init__(self, dim: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(dim)
        self.log_scale = nn.Parameter(torch.zeros(dim, dtype=dtype))

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z * torch.exp(self.log_scale), self.log_scale.sum().expand(z.shape[0])

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * torch.exp(-self.log_scale), -self.log_scale.sum().expand(x.shape[0])


@register("S", "Scaling")
def _scaling(settings: LayerSettings) -> Flow:
    return Scaling(settings.dim, dtype=settings.dtype)
