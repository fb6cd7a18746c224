"""The torch ops of pair potentials and their derivatives.

``torch.ops.bgfast.pair_energy_grad`` and ``torch.ops.bgfast.pair_hvp`` run the kernels and know
nothing of derivatives; two autograd functions outside of them tie them together. Each takes, after
its tensors, what :func:`arguments` makes of the parameters.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from bgfast_kernels.pair import PairParameters, numba_kernels
from torch import Tensor

from bgfast.ops import pair_cuda
from bgfast.ops.library import (
    batch_first,
    define,
    energy_grad_fake,
    hvp_fake,
    implement,
    rows_alike,
)

Arguments = tuple[str, int, list[float]]


def arguments(p: PairParameters) -> Arguments:
    """Return the parameters as the ops take them: potential, dimensions, numbers."""
    return p.potential, p.n_dim, [p.eps, p.sigma, p.trap]


def energy_grad(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Return the energies ``[...]`` and gradients ``[..., D]``, both differentiable."""
    if x.requires_grad and torch.is_grad_enabled():
        return _tracked(x, *rest)
    u, grad = torch.ops.bgfast.pair_energy_grad(x, *rest)
    return u, grad


def hvp(x: Tensor, v: Tensor, *rest: Any) -> Tensor:
    """Return the Hessians at ``x`` applied to ``v``, ``[..., D]``, differentiable in ``v``."""
    product: Tensor = _Hvp.apply(x, v, *rest)  # type: ignore[no-untyped-call]
    return product


def _tracked(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    u, grad = _EnergyGrad.apply(x, *rest)  # type: ignore[no-untyped-call]
    return u, grad


class _EnergyGrad(torch.autograd.Function):
    """x -> u, dU/dx. The saved gradient is an output, so it is differentiated in turn."""

    @staticmethod
    def forward(
        x: Tensor, potential: str, n_dim: int, values: list[float]
    ) -> tuple[Tensor, Tensor]:
        u, grad = torch.ops.bgfast.pair_energy_grad(x, potential, n_dim, values)
        return u, grad

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.potential, ctx.n_dim, ctx.values = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor | None, grad_g: Tensor | None) -> tuple[Any, ...]:
        x, g = ctx.saved_tensors
        total = None if grad_u is None else grad_u.unsqueeze(-1) * g
        if grad_g is not None:
            second = hvp(x, grad_g, ctx.potential, ctx.n_dim, ctx.values)
            total = second if total is None else total + second
        return total, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *rest: Any) -> Any:
        return _tracked(*batch_first(info, in_dims, x), *rest), (0, 0)


class _Hvp(torch.autograd.Function):
    """x, v -> H(x) v; symmetric, hence its own transpose in v."""

    @staticmethod
    def forward(x: Tensor, v: Tensor, potential: str, n_dim: int, values: list[float]) -> Tensor:
        product: Tensor = torch.ops.bgfast.pair_hvp(x, v, potential, n_dim, values)
        return product

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.potential, ctx.n_dim, ctx.values = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        if grad is None:
            return None, None, None, None, None
        if ctx.needs_input_grad[0]:
            raise NotImplementedError(
                "the pair kernels have no third derivatives: detach x, or use backend='torch'"
            )
        (x,) = ctx.saved_tensors
        along = hvp(x, grad, ctx.potential, ctx.n_dim, ctx.values)
        return None, along, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, v: Tensor, *rest: Any) -> Any:
        return hvp(*batch_first(info, in_dims, x, v), *rest), 0


@functools.lru_cache(maxsize=64)
def _cached(potential: str, n_dim: int, values: tuple[float, ...]) -> PairParameters:
    return PairParameters(potential, n_dim, *values)


def _parameters(potential: str, n_dim: int, values: list[float]) -> PairParameters:
    return _cached(potential, n_dim, tuple(values))


def _energy_grad_cpu(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    array = x.detach().numpy()  # reshaping arrays costs a fraction of reshaping tensors
    shape = array.shape
    u, grad = numba_kernels.pair_energy_grad(array.reshape(-1, shape[-1]), _parameters(*rest))
    return torch.from_numpy(u.reshape(shape[:-1])), torch.from_numpy(grad.reshape(shape))


def _hvp_cpu(x: Tensor, v: Tensor, *rest: Any) -> Tensor:
    x_array, v_array = x.detach().numpy(), v.detach().numpy()
    rows = (-1, x_array.shape[-1])
    parameters = _parameters(*rest)
    product = numba_kernels.pair_hvp(x_array.reshape(rows), v_array.reshape(rows), parameters)
    return torch.from_numpy(product.reshape(x_array.shape))


def _energy_grad_cuda(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return pair_cuda.energy_grad(x, _parameters(*rest))


def _hvp_cuda(x: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return pair_cuda.hvp(x, v, _parameters(*rest))


def _define_ops() -> Any:
    rest = "str potential, int n_dim, float[] values"
    library = define(
        f"pair_energy_grad(Tensor x, {rest}) -> (Tensor, Tensor)",
        f"pair_hvp(Tensor x, Tensor v, {rest}) -> Tensor",
    )
    implement(
        library,
        "pair_energy_grad",
        cpu=_energy_grad_cpu,
        cuda=_energy_grad_cuda,
        fake=energy_grad_fake,
        vmap=rows_alike("pair_energy_grad", 1),
    )
    implement(
        library,
        "pair_hvp",
        cpu=_hvp_cpu,
        cuda=_hvp_cuda,
        fake=hvp_fake,
        vmap=rows_alike("pair_hvp", 2),
    )
    return library


_LIBRARY = _define_ops()  # the ops live as long as it does
