"""The energy cap on CUDA tensors."""

from __future__ import annotations

from bgfast_kernels.cap import cuda_kernels
from torch import Tensor

from bgfast.ops.cuda import dtype_name, packed, place


def lin_log_cap(u: Tensor, e_high: float, e_max: float) -> tuple[Tensor, Tensor]:
    """Return the capped energies and the derivative, in the shape of ``u``."""
    energies = packed(u)
    capped, derivative = u.new_empty(u.shape), u.new_empty(u.shape)
    cuda_kernels.lin_log_cap(
        energies.data_ptr(),
        u.numel(),
        e_high,
        e_max,
        dtype_name(u),
        capped.data_ptr(),
        derivative.data_ptr(),
        **place(u),
    )
    return capped, derivative
