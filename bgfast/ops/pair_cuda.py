"""Pair potentials on CUDA tensors."""

from __future__ import annotations

from bgfast_kernels.pair import PairParameters, cuda_kernels
from torch import Tensor

from bgfast.ops.cuda import dtype_name, packed, place


def energy_grad(x: Tensor, parameters: PairParameters) -> tuple[Tensor, Tensor]:
    """Return energies ``[...]`` and gradients ``[..., D]`` of ``x[..., D]``."""
    rows = packed(x)
    u, grad = x.new_empty(x.shape[:-1]), x.new_empty(x.shape)
    cuda_kernels.pair_energy_grad(
        rows.data_ptr(),
        u.numel(),
        x.shape[-1] // parameters.n_dim,
        parameters,
        dtype_name(x),
        u.data_ptr(),
        grad.data_ptr(),
        **place(x),
    )
    return u, grad


def hvp(x: Tensor, v: Tensor, parameters: PairParameters) -> Tensor:
    """Return the Hessians at ``x[..., D]`` applied to ``v[..., D]``."""
    rows, directions = packed(x), packed(v)
    out = x.new_empty(x.shape)
    cuda_kernels.pair_hvp(
        rows.data_ptr(),
        directions.data_ptr(),
        x.shape[:-1].numel(),
        x.shape[-1] // parameters.n_dim,
        parameters,
        dtype_name(x),
        out.data_ptr(),
        **place(x),
    )
    return out
