"""The affine coupling step in plain torch: reference, and the source of second derivatives."""

from __future__ import annotations

import torch
from bgfast_kernels.coupling import S_MAX
from torch import Tensor


def reference_affine_coupling(
    x: Tensor, raw_s: Tensor, t: Tensor, *, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Return what :func:`bgfast.ops.affine_coupling` does, differentiable as often as one likes."""
    s = bounded(raw_s)
    if inverse:
        return torch.addcmul(t, x, torch.exp(s)), s.sum(-1)
    return (x - t) * torch.exp(-s), -s.sum(-1)


def bounded(raw_s: Tensor) -> Tensor:
    """Bound a log-scale smoothly to (-S_MAX, S_MAX)."""
    s: Tensor = S_MAX * torch.tanh(raw_s / S_MAX)
    return s


def reference_affine_grad(
    x: Tensor, raw_s: Tensor, t: Tensor, grad_y: Tensor, grad_logdet: Tensor, inverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients in x, raw_s and t, differentiable themselves."""
    tanh = torch.tanh(raw_s / S_MAX)
    scale = torch.exp(S_MAX * tanh if inverse else -S_MAX * tanh)
    grad_x = grad_y * scale
    grad_s = grad_x * (x if inverse else x - t) + grad_logdet.unsqueeze(-1)
    grad_raw_s = (grad_s if inverse else -grad_s) * (1 - tanh.square())
    return grad_x, grad_raw_s, grad_y if inverse else -grad_x
