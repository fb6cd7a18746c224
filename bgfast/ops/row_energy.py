"""An energy of rows as torch ops: energy and gradient, Hessian-vector product, their derivatives.

:func:`define` makes ``torch.ops.bgfast.<name>_energy_grad(x, ...)`` and
``<name>_hvp(x, v, ...)`` of kernels. The ops themselves know nothing of derivatives;
:func:`energy_grad` and :func:`hvp` tie them together by two autograd functions outside of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def energy_grad(x: Tensor, name: str, *rest: Any) -> tuple[Tensor, Tensor]:
    """Return the energies ``[...]`` and gradients ``[..., D]``, both differentiable."""
    if x.requires_grad and torch.is_grad_enabled():
        return _tracked_energy_grad(x, name, *rest)
    u, grad = _op(name, "energy_grad")(x, *rest)
    return u, grad


def hvp(x: Tensor, v: Tensor, name: str, *rest: Any) -> Tensor:
    """Return the Hessians at ``x[..., D]`` applied to ``v[..., D]``, differentiable in ``v``."""
    product: Tensor = _Hvp.apply(x, v, name, *rest)  # type: ignore[no-untyped-call]
    return product


def check_direction(x: Tensor, v: Tensor) -> None:
    """Raise an error that says how ``v`` is not like ``x``."""
    if not isinstance(v, Tensor) or (v.dtype, v.device) != (x.dtype, x.device):
        got = f"{v.dtype} on {v.device}" if isinstance(v, Tensor) else type(v).__name__
        raise TypeError(f"v must be a tensor like x, {x.dtype} on {x.device}, got {got}")
    if v.shape != x.shape:
        raise ValueError(f"v must have the shape of x, {list(x.shape)}, got {list(v.shape)}")


def _op(name: str, kind: str) -> Any:
    return getattr(torch.ops.bgfast, f"{name}_{kind}")


class _EnergyGrad(torch.autograd.Function):
    """x -> u, dU/dx. The saved gradient is an output, so it is differentiated in turn."""

    @staticmethod
    def forward(x: Tensor, name: str, *rest: Any) -> tuple[Tensor, Tensor]:
        u, grad = _op(name, "energy_grad")(x, *rest)
        return u, grad

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, *ctx.rest = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor | None, grad_g: Tensor | None) -> tuple[Any, ...]:
        x, g = ctx.saved_tensors
        total = None if grad_u is None else grad_u.unsqueeze(-1) * g
        if grad_g is not None:
            second = hvp(x, grad_g, *ctx.rest)
            total = second if total is None else total + second
        return total, *(None for _ in ctx.rest)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *rest: Any) -> Any:
        return _tracked_energy_grad(x.movedim(in_dims[0] or 0, 0), *rest), (0, 0)


class _Hvp(torch.autograd.Function):
    """x, v -> H(x) v; symmetric, hence its own transpose in v."""

    @staticmethod
    def forward(x: Tensor, v: Tensor, name: str, *rest: Any) -> Tensor:
        product: Tensor = _op(name, "hvp")(x, v, *rest)
        return product

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, *ctx.rest = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        nothing = (None for _ in ctx.rest)
        if grad is None:
            return None, None, *nothing
        if ctx.needs_input_grad[0]:
            raise NotImplementedError(
                f"the {ctx.rest[0]} kernels have no third derivatives: detach x, "
                "or use backend='torch'"
            )
        (x,) = ctx.saved_tensors
        return None, hvp(x, grad, *ctx.rest), *nothing

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, v: Tensor, *rest: Any) -> Any:
        x, v = _batch_first(x, in_dims[0], info), _batch_first(v, in_dims[1], info)
        return hvp(x, v, *rest), 0


def _tracked_energy_grad(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    u, grad = _EnergyGrad.apply(x, *rest)  # type: ignore[no-untyped-call]
    return u, grad


def _batch_first(x: Tensor, dim: int | None, info: Any) -> Tensor:
    return x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)


def define(
    library: Any,
    name: str,
    schema: str,
    *,
    numba: tuple[Callable[..., Any], Callable[..., Any]],
    cuda: tuple[Callable[..., Any], Callable[..., Any]],
) -> None:
    """Define the two ops of an energy.

    Parameters
    ----------
    library
        The ``torch.library.Library`` of ``bgfast`` that the ops live in.
    name
        Name of the energy.
    schema
        The arguments after the tensors, such as ``"int n_dim, float[] values"``.
    numba
        Functions of arrays, ``(x[n, D], ...) -> (u[n], grad[n, D])`` and ``(x, v, ...) -> out``.
    cuda
        The same of CUDA tensors with any leading dimensions.
    """
    api: Any = torch.library

    def energy_grad_cpu(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        array = x.detach().numpy()  # reshaping arrays costs a fraction of reshaping tensors
        u, grad = numba[0](array.reshape(-1, array.shape[-1]), *rest)
        shape = array.shape
        return torch.from_numpy(u.reshape(shape[:-1])), torch.from_numpy(grad.reshape(shape))

    def hvp_cpu(x: Tensor, v: Tensor, *rest: Any) -> Tensor:
        x_array, v_array = x.detach().numpy(), v.detach().numpy()
        rows = (-1, x_array.shape[-1])
        product = numba[1](x_array.reshape(rows), v_array.reshape(rows), *rest)
        return torch.from_numpy(product.reshape(x_array.shape))

    def energy_grad_fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape[:-1]), x.new_empty(x.shape)

    def hvp_fake(x: Tensor, v: Tensor, *rest: Any) -> Tensor:
        return x.new_empty(x.shape)

    def energy_grad_vmap(info: Any, in_dims: Any, x: Tensor, *rest: Any) -> Any:
        return _op(name, "energy_grad")(_batch_first(x, in_dims[0], info), *rest), (0, 0)

    def hvp_vmap(info: Any, in_dims: Any, x: Tensor, v: Tensor, *rest: Any) -> Any:
        x, v = _batch_first(x, in_dims[0], info), _batch_first(v, in_dims[1], info)
        return _op(name, "hvp")(x, v, *rest), 0

    for kind, signature, cpu, device, fake, vmap in (
        (
            "energy_grad",
            f"(Tensor x, {schema}) -> (Tensor, Tensor)",
            energy_grad_cpu,
            cuda[0],
            energy_grad_fake,
            energy_grad_vmap,
        ),
        (
            "hvp",
            f"(Tensor x, Tensor v, {schema}) -> Tensor",
            hvp_cpu,
            cuda[1],
            hvp_fake,
            hvp_vmap,
        ),
    ):
        library.define(f"{name}_{kind}{signature}")
        library.impl(f"{name}_{kind}", cpu, "CPU")
        library.impl(f"{name}_{kind}", device, "CUDA")
        api.register_fake(f"bgfast::{name}_{kind}", fake, lib=library)
        api.register_vmap(f"bgfast::{name}_{kind}", vmap, lib=library)
