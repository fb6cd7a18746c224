"""The energy cap of training as a torch op: value and derivative in one pass.

``torch.ops.bgfast.lin_log_cap`` runs the kernels; the derivative is kept for the backward pass,
which multiplies by it. Second derivatives are left to torch. The backend ``"torch"`` is plain torch
(:mod:`bgfast.ops.cap_reference`) and left to autograd.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from bgfast_kernels.cap import check
from bgfast_kernels.cap.cap import lin_log_cap as cap_arrays
from torch import Tensor
from torch.autograd import forward_ad

from bgfast.ops import cap_cuda
from bgfast.ops.backend import eager_cpu, select_backend
from bgfast.ops.cap_reference import reference_cap_gradient, reference_lin_log_cap
from bgfast.ops.library import define, implement, rows_alike
from bgfast.ops.registry import TorchOp, register

_LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, torch.float64)}


def lin_log_cap(u: Tensor, e_high: float, e_max: float, backend: str | None = None) -> Tensor:
    """Cap energies: u up to ``e_high``, ``e_high + log(1 + u - e_high)`` to ``e_max``, then that.

    Parameters
    ----------
    u
        Energies of any shape.
    e_high
        Where the logarithm starts.
    e_max
        Where the derivative ends: 1 / (1 + e_max - e_high) there, 0 above.
    backend
        ``"torch"``, ``"numba"``, ``"cuda"``, or ``None``: chosen by the tensor.

    Returns
    -------
    capped
        In the shape and dtype of ``u``, differentiable twice. NaN stays NaN, with a zero gradient;
        infinity gives the value at ``e_max``, also with a zero gradient.

    Raises
    ------
    ValueError
        If ``e_high < e_max`` does not hold, or one of them is not finite in the dtype of ``u``.
    bgfast.ops.BackendError
        If the backend asked for cannot serve ``u``.
    """
    check(e_high, e_max)
    if select_backend("lin_log_cap", u, backend) == "torch" or forward_ad._current_level >= 0:
        return reference_lin_log_cap(u, e_high, e_max)
    largest = _LARGEST[u.dtype]
    if e_max > largest or e_high < -largest:
        raise ValueError(
            f"e_high and e_max must be finite in {u.dtype}, got {e_high:g} and {e_max:g}"
        )
    eager = eager_cpu(u)
    if torch.is_grad_enabled() and u.requires_grad:
        return (_tracked_eagerly if eager else _tracked)(u, e_high, e_max)
    call = _cap_cpu if eager else torch.ops.bgfast.lin_log_cap
    capped: Tensor = call(u, e_high, e_max)[0]
    return capped


class _Cap(torch.autograd.Function):
    """u -> capped, derivative; the derivative is there to be kept."""

    @staticmethod
    def forward(u: Tensor, e_high: float, e_max: float) -> tuple[Tensor, Tensor]:
        capped, derivative = torch.ops.bgfast.lin_log_cap(u, e_high, e_max)
        return capped, derivative

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        u, ctx.e_high, ctx.e_max = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(u, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
        return _pulled_back(*ctx.saved_tensors, grad, ctx.e_high, ctx.e_max), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *args: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
        pair: Any = _Cap.apply(*args)  # type: ignore[no-untyped-call]
        return pair, (in_dims[0], in_dims[0])


class _CapGrad(torch.autograd.Function):
    """u, derivative, grad -> grad derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, derivative: Tensor, grad: Tensor, e_high: float, e_max: float) -> Tensor:
        return _times(grad, derivative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, _, grad, ctx.e_high, ctx.e_max = inputs
        ctx.save_for_backward(u, grad)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        gradient = functools.partial(reference_cap_gradient, e_high=ctx.e_high, e_max=ctx.e_max)
        pullback: Any = torch.func.vjp(gradient, *ctx.saved_tensors)[1]
        from_u, from_grad = pullback(cotangent)
        return from_u, None, from_grad, None, None


class _EagerCap(torch.autograd.Function):
    """What :class:`_Cap` does, past the dispatcher: a part of the time for small batches."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, e_high: float, e_max: float) -> Tensor:
        capped, derivative = _cap_cpu(u, e_high, e_max)
        ctx.limits = e_high, e_max
        ctx.save_for_backward(u, derivative)
        return capped

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        u, derivative = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated itself
            return _pulled_back(u, derivative, grad, *ctx.limits), None, None
        return _times(grad, derivative), None, None


def _tracked_eagerly(u: Tensor, e_high: float, e_max: float) -> Tensor:
    capped: Tensor = _EagerCap.apply(u, e_high, e_max)  # type: ignore[no-untyped-call]
    return capped


def _tracked(u: Tensor, e_high: float, e_max: float) -> Tensor:
    capped: Tensor = _Cap.apply(u, e_high, e_max)[0]  # type: ignore[no-untyped-call]
    return capped


def _pulled_back(*args: Any) -> Tensor:
    gradient: Tensor = _CapGrad.apply(*args)  # type: ignore[no-untyped-call]
    return gradient


def _times(grad: Tensor, derivative: Tensor) -> Tensor:
    """Return the product, but 0 where the derivative is 0, whatever the gradient is there."""
    product: Tensor = torch.ops.aten.threshold_backward(grad * derivative, derivative, 0)
    return product


# The op itself knows nothing of derivatives of its results.


def _cap_cpu(u: Tensor, e_high: float, e_max: float) -> tuple[Tensor, Tensor]:
    energies = u.detach().numpy()  # allocating arrays costs a fraction of allocating tensors
    capped, derivative = (np.empty(energies.shape, energies.dtype) for _ in range(2))
    cap_arrays(energies.ravel(), e_high, e_max, capped.ravel(), derivative.ravel())
    return torch.from_numpy(capped), torch.from_numpy(derivative)


def _cap_fake(u: Tensor, e_high: float, e_max: float) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), u.new_empty(u.shape)


_LIBRARY = define("lin_log_cap(Tensor u, float e_high, float e_max) -> (Tensor, Tensor)")
implement(
    _LIBRARY,
    "lin_log_cap",
    cpu=_cap_cpu,
    cuda=cap_cuda.lin_log_cap,
    fake=_cap_fake,
    vmap=rows_alike("lin_log_cap", 1),
)


def _raw_calls(u: Tensor, e_high: float, e_max: float) -> list[tuple[Any, tuple[Any, ...]]]:
    return [(torch.ops.bgfast.lin_log_cap.default, (u, e_high, e_max))]


register(
    TorchOp(
        "lin_log_cap",
        lin_log_cap,
        reference=reference_lin_log_cap,
        differentiable=("u",),
        raw_calls=_raw_calls,
    )
)
