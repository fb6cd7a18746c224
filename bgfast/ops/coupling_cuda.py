"""The affine coupling step on CUDA tensors; halves of wider rows are read where they are."""

from __future__ import annotations

from bgfast_kernels.coupling import cuda_kernels
from bgfast_kernels.coupling.cuda_kernels import Rows
from torch import Tensor

from bgfast.ops.cuda import dtype_name, place


def affine_coupling(x: Tensor, raw_s: Tensor, t: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    """Return the result ``[..., m]`` and the log-determinants ``[...]``."""
    n, m = x.shape[:-1].numel(), x.shape[-1]
    held = [_two_dimensional(a, n, m) for a in (x, raw_s, t)]
    inputs = _rows(held[0]), _rows(held[1]), _rows(held[2])
    y, logdet = x.new_empty(x.shape), x.new_empty(x.shape[:-1])
    cuda_kernels.affine_coupling(
        *inputs,
        n,
        m,
        inverse,
        dtype_name(x),
        y.data_ptr(),
        logdet.data_ptr(),
        **place(x),
    )
    return y, logdet


def affine_coupling_grad(
    x: Tensor, raw_s: Tensor, t: Tensor, grad_y: Tensor, grad_logdet: Tensor, inverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients in x, raw_s and t, ``[..., m]`` each."""
    n, m = x.shape[:-1].numel(), x.shape[-1]
    held = [_two_dimensional(a, n, m) for a in (x, raw_s, t, grad_y)]
    inputs = _rows(held[0]), _rows(held[1]), _rows(held[2]), _rows(held[3])
    from_logdet = grad_logdet.detach().contiguous()
    gradients = (x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(x.shape))
    cuda_kernels.affine_coupling_grad(
        *inputs,
        from_logdet.data_ptr(),
        n,
        m,
        inverse,
        dtype_name(x),
        gradients[0].data_ptr(),
        gradients[1].data_ptr(),
        gradients[2].data_ptr(),
        **place(x),
    )
    return gradients


def _two_dimensional(x: Tensor, n: int, m: int) -> Tensor:
    """Return ``x`` as ``[n, m]`` with neighbouring numbers in a row; a copy only if it must."""
    rows = x.detach().reshape(n, m)
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _rows(x: Tensor) -> Rows:
    return Rows(x.data_ptr(), x.stride(0))
