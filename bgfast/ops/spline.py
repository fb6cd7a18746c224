"""The rational-quadratic spline as a torch op: value, log-determinant and their gradients.

``torch.ops.bgfast.spline`` and ``torch.ops.bgfast.spline_gradient`` run the kernels; two autograd
functions outside of them tie them together. Second derivatives are those of the plain torch
reference (:mod:`bgfast.ops.spline_reference`), which also is the backend ``"torch"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from bgfast_kernels import get
from bgfast_kernels.coupling import spline as kernels
from bgfast_kernels.coupling.spline_parameters import check
from torch import Tensor

from bgfast.ops import spline_cuda
from bgfast.ops.backend import select_backend
from bgfast.ops.library import batch_first, define, implement, rows_alike
from bgfast.ops.registry import TorchOp, register
from bgfast.ops.spline_reference import reference_spline

Pair = tuple[Tensor, Tensor]


def rational_quadratic_spline(
    x: Tensor, raw: Tensor, bound: float, inverse: bool = False, backend: str | None = None
) -> Pair:
    """Map every coordinate by its own monotonic spline, the identity outside [-bound, bound].

    Durkan et al., Neural Spline Flows, arXiv:1906.04032. The map is C1, also at the ends, and
    differentiable twice in the sense of autograd (second derivatives jump at the knots).

    Parameters
    ----------
    x
        Numbers to map, shape ``[..., m]``.
    raw
        The output of a network, shape ``[..., 3 K - 1, m]``: K raw widths, K raw heights and
        K - 1 raw slopes for each coordinate. Zeros make the identity. See
        :mod:`bgfast_kernels.coupling.spline_parameters`.
    bound
        Half the length of the interval.
    inverse
        Apply the inverse map.
    backend
        ``"torch"``, ``"numba"``, ``"cuda"``, or ``None``: chosen by the tensor.

    Returns
    -------
    value
        Shape ``[..., m]``.
    logdet
        Sum over the coordinates of log|d value / dx|, shape ``[...]``. Finite for finite input; a
        NaN makes its own coordinate and its row's ``logdet`` NaN.

    Raises
    ------
    TypeError
        If ``x`` or ``raw`` is no floating-point tensor, or they differ in dtype or device.
    ValueError
        If the shapes do not fit, or ``bound`` is not positive.
    bgfast.ops.BackendError
        If the backend asked for cannot serve ``x``.
    """
    _check(x, raw, bound)
    if select_backend("spline", x, backend) == "torch":
        return reference_spline(x, raw, bound, inverse)
    if torch.is_grad_enabled() and (x.requires_grad or raw.requires_grad):
        return _tracked(x, raw, bound, inverse)
    value, logdet = torch.ops.bgfast.spline(x, raw, bound, inverse)
    return value, logdet


def _check(x: Tensor, raw: Tensor, bound: float) -> None:
    for name, tensor in (("x", x), ("raw", raw)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
    if (raw.dtype, raw.device) != (x.dtype, x.device):
        raise TypeError(
            f"raw must be like x, {x.dtype} on {x.device}, got {raw.dtype} on {raw.device}"
        )
    if x.ndim < 1 or raw.ndim != x.ndim + 1 or _row_shape(raw) != x.shape:
        raise ValueError(
            f"x[..., m] needs raw[..., 3 K - 1, m], got {list(x.shape)} and {list(raw.shape)}"
        )
    check(raw.shape[-2], bound)


def _row_shape(raw: Tensor) -> torch.Size:
    return torch.Size((*raw.shape[:-2], raw.shape[-1]))


class _Spline(torch.autograd.Function):
    """x, raw -> value, logdet."""

    @staticmethod
    def forward(x: Tensor, raw: Tensor, bound: float, inverse: bool) -> Pair:
        value, logdet = torch.ops.bgfast.spline(x, raw, bound, inverse)
        return value, logdet

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
        x, raw, ctx.bound, ctx.inverse = inputs
        ctx.save_for_backward(x, raw)

    @staticmethod
    def backward(ctx: Any, grad_value: Tensor, grad_logdet: Tensor) -> tuple[Any, ...]:
        grads = _SplineGradient.apply(  # type: ignore[no-untyped-call]
            *ctx.saved_tensors, grad_value, grad_logdet, ctx.bound, ctx.inverse
        )
        return *grads, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, raw: Tensor, *rest: Any
    ) -> tuple[Pair, tuple[int, int]]:
        x, raw = batch_first(info, in_dims, x, raw)
        return _tracked(x, raw, *rest), (0, 0)


class _SplineGradient(torch.autograd.Function):
    """x, raw and the gradients by value and logdet -> the gradients by x and raw."""

    @staticmethod
    def forward(
        x: Tensor,
        raw: Tensor,
        grad_value: Tensor,
        grad_logdet: Tensor,
        bound: float,
        inverse: bool,
    ) -> Pair:
        grad_x, grad_raw = torch.ops.bgfast.spline_gradient(
            x, raw, grad_value, grad_logdet, bound, inverse
        )
        return grad_x, grad_raw

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
        x, raw, grad_value, grad_logdet, ctx.bound, ctx.inverse = inputs
        ctx.save_for_backward(x, raw, grad_value, grad_logdet)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        def first_derivatives(x: Tensor, raw: Tensor, *outer: Tensor) -> Any:
            def spline(x: Tensor, raw: Tensor) -> Pair:
                return reference_spline(x, raw, ctx.bound, ctx.inverse)

            return torch.func.vjp(spline, x, raw)[1](outer)

        pull_back: Any = torch.func.vjp(first_derivatives, *ctx.saved_tensors)[1]
        return *pull_back(grads), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[Pair, tuple[int, int]]:
        tensors = batch_first(info, in_dims, *arguments[:4])
        grads: Pair = _SplineGradient.apply(*tensors, *arguments[4:])  # type: ignore[no-untyped-call]
        return grads, (0, 0)


def _tracked(x: Tensor, raw: Tensor, bound: float, inverse: bool) -> Pair:
    pair: Pair = _Spline.apply(x, raw, bound, inverse)  # type: ignore[no-untyped-call]
    return pair


# The ops themselves know nothing of derivatives.


def _spline_cpu(x: Tensor, raw: Tensor, bound: float, inverse: bool) -> Pair:
    shape = x.shape
    value, logdet = get("spline").load("numba")(*_rows(x, raw), bound, inverse)
    return torch.from_numpy(value.reshape(shape)), torch.from_numpy(logdet.reshape(shape[:-1]))


def _spline_gradient_cpu(
    x: Tensor,
    raw: Tensor,
    grad_value: Tensor,
    grad_logdet: Tensor,
    bound: float,
    inverse: bool,
) -> Pair:
    point, parameters = _rows(x, raw)
    outer = grad_value.detach().numpy().reshape(point.shape), grad_logdet.detach().numpy().ravel()
    grad_x, grad_raw = kernels.spline_gradient(point, parameters, *outer, bound, inverse)
    return (
        torch.from_numpy(grad_x.reshape(x.shape)),
        torch.from_numpy(grad_raw.reshape(raw.shape)),
    )


def _rows(x: Tensor, raw: Tensor) -> tuple[Any, Any]:
    n = int(np.prod(x.shape[:-1]))  # a -1 would be ambiguous without elements
    return (
        x.detach().numpy().reshape(n, x.shape[-1]),
        raw.detach().numpy().reshape(n, *raw.shape[-2:]),
    )


def _spline_fake(x: Tensor, raw: Tensor, bound: float, inverse: bool) -> Pair:
    return x.new_empty(x.shape), x.new_empty(x.shape[:-1])


def _spline_gradient_fake(x: Tensor, raw: Tensor, *rest: Any) -> Pair:
    return x.new_empty(x.shape), raw.new_empty(raw.shape)


def _define_ops() -> Any:
    library = define(
        "spline(Tensor x, Tensor raw, float bound, bool inverse) -> (Tensor, Tensor)",
        "spline_gradient(Tensor x, Tensor raw, Tensor grad_value, Tensor grad_logdet, "
        "float bound, bool inverse) -> (Tensor, Tensor)",
    )
    implement(
        library,
        "spline",
        cpu=_spline_cpu,
        cuda=spline_cuda.spline,
        fake=_spline_fake,
        vmap=rows_alike("spline", 2),
    )
    implement(
        library,
        "spline_gradient",
        cpu=_spline_gradient_cpu,
        cuda=spline_cuda.spline_gradient,
        fake=_spline_gradient_fake,
        vmap=rows_alike("spline_gradient", 4),
    )
    return library


_LIBRARY = _define_ops()  # the ops live as long as it does


def _joined(
    x: Tensor, raw: Tensor, bound: float, inverse: bool = False, backend: str | None = None
) -> Tensor:
    """Return value and logdet side by side, ``[..., m + 1]``: one tensor for the contract tests."""
    value, logdet = rational_quadratic_spline(x, raw, bound, inverse, backend)
    return torch.cat((value, logdet.unsqueeze(-1)), -1)


def _joined_reference(x: Tensor, raw: Tensor, bound: float, inverse: bool = False) -> Tensor:
    value, logdet = reference_spline(x, raw, bound, inverse)
    return torch.cat((value, logdet.unsqueeze(-1)), -1)


def _raw_calls(x: Tensor, raw: Tensor, bound: float) -> list[tuple[Any, tuple[Any, ...]]]:
    outer = torch.ones_like(x), torch.ones_like(x[..., 0])
    return [
        call
        for inverse in (False, True)
        for call in (
            (torch.ops.bgfast.spline.default, (x, raw, bound, inverse)),
            (torch.ops.bgfast.spline_gradient.default, (x, raw, *outer, bound, inverse)),
        )
    ]


register(
    TorchOp(
        "spline",
        _joined,
        reference=_joined_reference,
        differentiable=("x", "raw"),
        rowwise=False,  # two arrays have rows; tests/ops/test_spline.py holds the row contracts
        raw_calls=_raw_calls,
    )
)
