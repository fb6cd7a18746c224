"""The affine coupling step as a torch op: value, log-determinant and gradients in one pass each.

``torch.ops.bgfast.affine_coupling`` and ``affine_coupling_grad`` run the kernels and are tied
together by autograd functions; second derivatives are left to torch. The backend ``"torch"`` is
plain torch (:mod:`bgfast.ops.coupling_reference`) and left to autograd.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from bgfast_kernels.coupling import affine
from torch import Tensor
from torch.autograd import forward_ad

from bgfast.ops import coupling_cuda
from bgfast.ops.backend import eager_cpu, select_backend
from bgfast.ops.coupling_reference import reference_affine_coupling, reference_affine_grad
from bgfast.ops.library import batch_first, define, implement, in_memory, rows_alike, rows_of
from bgfast.ops.registry import TorchOp, register


def affine_coupling(
    x: Tensor, raw_s: Tensor, t: Tensor, *, inverse: bool, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Transform ``x`` by a bounded log-scale and a shift, differentiable twice.

    With ``s = S_MAX tanh(raw_s / S_MAX)`` the inverse step, from configuration to latent, is
    ``x exp(s) + t``, and the forward step ``(x - t) exp(-s)``.

    Parameters
    ----------
    x, raw_s, t
        Coordinates, unbounded log-scale and shift, ``[..., m]`` each, of one shape and dtype.
    inverse
        Direction of the step.
    backend
        ``"torch"``, ``"numba"``, ``"cuda"``, or ``None``: chosen by the tensor.

    Returns
    -------
    y
        ``[..., m]``.
    logdet
        ``log|det dy/dx|``, ``sum s`` for the inverse step and ``-sum s`` for the forward one,
        ``[...]``.

    Raises
    ------
    ValueError, TypeError
        If the arguments differ in shape, dtype or device.
    bgfast.ops.BackendError
        If the backend asked for cannot serve ``x``.
    """
    for name, other in (("raw_s", raw_s), ("t", t)):
        if (other.dtype, other.device) != (x.dtype, x.device):
            raise TypeError(
                f"{name} must be {x.dtype} on {x.device} like x, "
                f"got {other.dtype} on {other.device}"
            )
        if other.shape != x.shape or not x.ndim:
            raise ValueError(
                f"{name} must have the shape [..., m] of x, {list(x.shape)}, "
                f"got {list(other.shape)}"
            )
    forward_mode = forward_ad._current_level >= 0  # the kernels have no rule for it, torch has
    if select_backend("affine_coupling", x, backend) == "torch" or forward_mode:
        return reference_affine_coupling(x, raw_s, t, inverse=inverse)
    eager = eager_cpu(x)
    if torch.is_grad_enabled() and (x.requires_grad or raw_s.requires_grad or t.requires_grad):
        return (_tracked_eagerly if eager else _tracked)(x, raw_s, t, inverse)
    call = _affine_cpu if eager else torch.ops.bgfast.affine_coupling
    y, logdet = call(x, raw_s, t, inverse)
    return y, logdet


def affine_coupling_(x: Tensor, raw_s: Tensor, t: Tensor, logdet: Tensor, *, inverse: bool) -> None:
    """Replace ``x[n, m]`` by the result and add the log-determinants to ``logdet[n]``.

    For CPU tensors, without autograd. Rows of ``x`` may be parts of longer rows.

    Raises
    ------
    TypeError, ValueError
        As :func:`affine_coupling`; and if the numbers in a row of ``x`` are not side by side.
    """
    shape = _shape(x, (raw_s, t), logdet)
    if rows_of(x) is not x:
        raise ValueError(
            "x must have contiguous rows to be replaced where they are, "
            f"got shape {list(x.shape)} with strides {x.stride()}"
        )
    raw_s, t, place = rows_of(raw_s), rows_of(t), _place(x)
    added_to = _place(logdet)
    affine.affine_coupling(
        shape, place, _place(raw_s), _place(t), place, added_to, inverse, more=True
    )


class _Affine(torch.autograd.Function):
    """x, raw_s, t -> y, logdet."""

    @staticmethod
    def forward(x: Tensor, raw_s: Tensor, t: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        y, logdet = torch.ops.bgfast.affine_coupling(x, raw_s, t, inverse)
        return y, logdet

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.inverse = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Any, ...]:
        return *_grad(*ctx.saved_tensors, grad_y, grad_logdet, ctx.inverse), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *args: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        x, raw_s, t = batch_first(info, in_dims, *args[:3])
        return _tracked(x, raw_s, t, args[3]), (0, 0)


class _AffineGrad(torch.autograd.Function):
    """x, raw_s, t, grad_y, grad_logdet -> grad_x, grad_raw_s, grad_t."""

    @staticmethod
    def forward(
        x: Tensor, raw_s: Tensor, t: Tensor, grad_y: Tensor, grad_logdet: Tensor, inverse: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.bgfast.affine_coupling_grad(
            x, raw_s, t, grad_y, grad_logdet, inverse
        )
        return gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.inverse = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
        gradients = functools.partial(reference_affine_grad, inverse=ctx.inverse)
        pullback: Any = torch.func.vjp(gradients, *ctx.saved_tensors)[1]
        return *pullback(cotangents), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *args: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        return _grad(*batch_first(info, in_dims, *args[:5]), args[5]), (0, 0, 0)


class _EagerAffine(torch.autograd.Function):
    """What :class:`_Affine` does, past the dispatcher: a third of the time for small batches."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, raw_s: Tensor, t: Tensor, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.inverse = inverse
        ctx.save_for_backward(x, raw_s, t)
        return _affine_cpu(x, raw_s, t, inverse)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Any, ...]:
        # A pass that is to be differentiated goes through functions that can be.
        gradients: Any = _grad if torch.is_grad_enabled() else _affine_grad_cpu
        return *gradients(*ctx.saved_tensors, grad_y, grad_logdet, ctx.inverse), None


def _tracked_eagerly(x: Tensor, raw_s: Tensor, t: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    y, logdet = _EagerAffine.apply(x, raw_s, t, inverse)  # type: ignore[no-untyped-call]
    return y, logdet


def _tracked(x: Tensor, raw_s: Tensor, t: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    y, logdet = _Affine.apply(x, raw_s, t, inverse)  # type: ignore[no-untyped-call]
    return y, logdet


def _grad(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = _AffineGrad.apply(*args)  # type: ignore[no-untyped-call]
    return gradients


# The ops themselves know nothing of derivatives.


_LIKE: dict[torch.dtype, Any] = {torch.float32: affine.FLOAT32, torch.float64: affine.FLOAT64}


def _shape(x: Tensor, alike: Sequence[Tensor], by_row: Tensor) -> affine.Shape:
    """Check what an op was given: the kernels get addresses, and believe the first tensor."""
    dtype, shape = x.dtype, x.shape
    rows, like = shape[:-1], _LIKE.get(dtype)
    if like is None or by_row.dtype != dtype or {each.dtype for each in alike} != {dtype}:
        dtypes = [str(tensor.dtype) for tensor in (x, *alike, by_row)]
        raise TypeError(f"tensors must all be float32 or all float64, got {', '.join(dtypes)}")
    if by_row.shape != rows or {each.shape for each in alike} != {shape}:
        shapes = [str(list(tensor.shape)) for tensor in (x, *alike, by_row)]
        raise ValueError(
            "tensors must have the shape [..., m] of x, and log-determinants [...], "
            f"got {', '.join(shapes)}"
        )
    return affine.Shape(math.prod(rows), shape[-1], like)


def _place(rows: Tensor) -> affine.Rows:
    """Return where they lie: they have to stay alive as long as that is used."""
    return rows.data_ptr(), rows.stride(0)


def _new_rows(x: Tensor) -> Tensor:
    """Return memory of the shape of ``x``; quicker than ``x.new_empty``, which small calls feel."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _affine_cpu(x: Tensor, raw_s: Tensor, t: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    y, logdet = _new_rows(x), x.new_empty(x.shape[:-1])
    shape = _shape(x, (raw_s, t), logdet)
    x, raw_s, t = rows_of(x), rows_of(raw_s), rows_of(t)
    result, by_row = (y.data_ptr(), shape.m), (logdet.data_ptr(), 1)
    affine.affine_coupling(shape, _place(x), _place(raw_s), _place(t), result, by_row, inverse)
    return y, logdet


def _affine_grad_cpu(
    x: Tensor, raw_s: Tensor, t: Tensor, grad_y: Tensor, grad_logdet: Tensor, inverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, grad_raw_s, grad_t = _new_rows(x), _new_rows(x), _new_rows(x)
    shape = _shape(x, (raw_s, t, grad_y), grad_logdet)
    x, raw_s, t, grad_y = rows_of(x), rows_of(raw_s), rows_of(t), rows_of(grad_y)
    grad_logdet = in_memory(grad_logdet).reshape(-1)
    affine.affine_coupling_grad(
        shape,
        _place(x),
        _place(raw_s),
        _place(t),
        _place(grad_y),
        _place(grad_logdet),
        (grad_x.data_ptr(), shape.m),
        (grad_raw_s.data_ptr(), shape.m),
        (grad_t.data_ptr(), shape.m),
        inverse,
    )
    return grad_x, grad_raw_s, grad_t


def _affine_fake(x: Tensor, raw_s: Tensor, t: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[:-1])


def _affine_grad_fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(x.shape)


def _define_ops() -> Any:
    inputs = "Tensor x, Tensor raw_s, Tensor t"
    library = define(
        f"affine_coupling({inputs}, bool inverse) -> (Tensor, Tensor)",
        f"affine_coupling_grad({inputs}, Tensor grad_y, Tensor grad_logdet, bool inverse)"
        " -> (Tensor, Tensor, Tensor)",
    )
    implement(
        library,
        "affine_coupling",
        cpu=_affine_cpu,
        cuda=coupling_cuda.affine_coupling,
        fake=_affine_fake,
        vmap=rows_alike("affine_coupling", 3),
    )
    implement(
        library,
        "affine_coupling_grad",
        cpu=_affine_grad_cpu,
        cuda=coupling_cuda.affine_coupling_grad,
        fake=_affine_grad_fake,
        vmap=rows_alike("affine_coupling_grad", 5),
    )
    return library


_LIBRARY = _define_ops()  # the ops live as long as it does


def _side_by_side(step: Any) -> Any:
    """Return ``step`` as a function of x, raw_s and t in one tensor: both directions in one."""

    def both(rows: Tensor, **options: Any) -> Tensor:
        parts = rows.chunk(3, -1)
        results = [step(*parts, inverse=inverse, **options) for inverse in (False, True)]
        return torch.cat([part for y, d in results for part in (y, d.unsqueeze(-1))], -1)

    return both


def _raw_calls(rows: Tensor) -> list[tuple[Any, tuple[Any, ...]]]:
    x, raw_s, t = rows.chunk(3, -1)
    ops = torch.ops.bgfast
    return [
        (op, (*args, inverse))
        for inverse in (False, True)
        for op, args in (
            (ops.affine_coupling.default, (x, raw_s, t)),
            (ops.affine_coupling_grad.default, (x, raw_s, t, t, x[..., 0])),
        )
    ]


register(
    TorchOp(
        "affine_coupling",
        _side_by_side(affine_coupling),
        reference=_side_by_side(reference_affine_coupling),
        differentiable=("rows",),
        may_overflow=True,
        raw_calls=_raw_calls,
    )
)
