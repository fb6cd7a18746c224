"""The rational-quadratic spline on CUDA tensors."""

from __future__ import annotations

from bgfast_kernels.coupling import cuda_kernels
from torch import Tensor

from bgfast.ops.cuda import dtype_name, packed, place


def spline(x: Tensor, raw: Tensor, bound: float, inverse: bool) -> tuple[Tensor, Tensor]:
    """Return the values ``[..., m]`` and the log-determinants ``[...]``."""
    point, numbers = packed(x), packed(raw)
    value, logdet = x.new_empty(x.shape), x.new_empty(x.shape[:-1])
    cuda_kernels.spline(
        point.data_ptr(),
        numbers.data_ptr(),
        logdet.numel(),
        x.shape[-1],
        raw.shape[-2],
        bound,
        inverse,
        dtype_name(x),
        value.data_ptr(),
        logdet.data_ptr(),
        **place(x),
    )
    return value, logdet


def spline_gradient(
    x: Tensor, raw: Tensor, grad_value: Tensor, grad_logdet: Tensor, bound: float, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients by the input ``x`` and by ``raw``."""
    inputs = [packed(a) for a in (x, raw, grad_value, grad_logdet)]
    grad_x, grad_raw = x.new_empty(x.shape), raw.new_empty(raw.shape)
    cuda_kernels.spline_gradient(
        inputs[0].data_ptr(),
        inputs[1].data_ptr(),
        inputs[2].data_ptr(),
        inputs[3].data_ptr(),
        grad_logdet.numel(),
        x.shape[-1],
        raw.shape[-2],
        bound,
        inverse,
        dtype_name(x),
        grad_x.data_ptr(),
        grad_raw.data_ptr(),
        **place(x),
    )
    return grad_x, grad_raw
