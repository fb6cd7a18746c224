"""Linear assignment of CUDA tensors."""

from __future__ import annotations

import torch
from bgfast_kernels.assignment import cuda_kernels
from torch import Tensor

from bgfast.ops.cuda import packed, place


def assign(x: Tensor, reference: Tensor) -> Tensor:
    """Return what :func:`bgfast.ops.assign` returns, float64 arithmetic for both dtypes."""
    rows, target = packed(x.double()), packed(reference.double())
    permutation = torch.empty(x.shape[:-1], dtype=torch.int64, device=x.device)
    n_particles, n_dim = reference.shape
    cuda_kernels.assign(
        rows.data_ptr(),
        target.data_ptr(),
        permutation.numel() // max(n_particles, 1),
        n_particles,
        n_dim,
        permutation.data_ptr(),
        **place(x),
    )
    return permutation
