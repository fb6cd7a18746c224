"""The Gauss transform as a torch op whose derivatives are Gauss transforms again.

``torch.ops.bgfast.gauss_transform`` runs the kernel and knows nothing of derivatives;
:func:`gauss_transform` adds them, to any order. float64 only.
"""

from __future__ import annotations

from typing import Any

import torch
from bgfast_kernels import get
from bgfast_kernels.kde.reflection import Walls
from torch import Tensor

from bgfast.ops.gauss_transform_cuda import gauss_transform_cuda
from bgfast.ops.library import define, implement

Sums = tuple[Tensor, Tensor, Tensor]


def gauss_transform(
    query: Tensor | None,
    points: Tensor,
    charges: Tensor,
    scale: Tensor | None,
    scale_of_query: bool,
    bandwidth: float,
    order: int,
    bounds: list[float],
    parity: int,
) -> Sums:
    """Return ``sum_j c_j K^(k)((q_i - p_j) / h) exp(s)`` for k = order and order + 1, and s.

    Differentiable in ``query`` [m], ``points`` [n] and ``charges`` [n], with s held constant; the
    arguments are those of :func:`bgfast_kernels.kde.transform.gauss_transform`, all float64. No
    ``query`` means the points themselves, which is cheaper than to pass them twice. ``bounds`` is
    empty or holds the two walls, ``parity`` the factor of a charge at every reflection.
    """
    arguments = (query, points, charges, scale, scale_of_query, bandwidth, order, bounds, parity)
    sums: Sums = _GaussTransform.apply(*arguments)  # type: ignore[no-untyped-call]
    return sums


class _GaussTransform(torch.autograd.Function):
    """The slope in q is the second output; it is differentiated in turn where it is used."""

    @staticmethod
    def forward(
        query: Tensor | None,
        points: Tensor,
        charges: Tensor,
        scale: Tensor | None,
        scale_of_query: bool,
        bandwidth: float,
        order: int,
        bounds: list[float],
        parity: int,
    ) -> Sums:
        sums: Sums = torch.ops.bgfast.gauss_transform(
            query, points, charges, scale, scale_of_query, bandwidth, order, bounds, parity
        )
        return sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Sums) -> None:
        query, points, charges, scale, ctx.scale_of_query, ctx.bandwidth = inputs[:6]
        ctx.order, ctx.bounds, ctx.parity = inputs[6:]
        _, next_sums, found = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(found)
        scale = found if scale is None else scale
        ctx.save_for_backward(query, points, charges, scale, next_sums)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, next_g: Tensor | None, _: Any) -> tuple[Any, ...]:
        q, p, c, scale, next_sums = ctx.saved_tensors
        of_query, h, k = ctx.scale_of_query, ctx.bandwidth, ctx.order
        bounds, parity = ctx.bounds, ctx.parity
        wants_q, wants_p, wants_c = ctx.needs_input_grad[:3]
        targets, sources = (None, p) if q is None else (p, q)
        grad_q = grad_p = grad_c = None
        # Each output contributes as one of order k: the second output is one of order k + 1.
        for weight, i in ((g, k), (next_g, k + 1)):
            if weight is None:
                continue
            if wants_q or (q is None and wants_p):
                slope = next_sums
                if i > k:
                    slope = gauss_transform(q, p, c, scale, of_query, h, i, bounds, parity)[1]
                if q is None:
                    grad_p = _plus_product(grad_p, weight, slope)
                else:
                    grad_q = _plus_product(grad_q, weight, slope)
            if wants_p or wants_c:
                sign = -1 if i % 2 else 1  # K^(i) is odd or even; the roles are exchanged
                sums, slopes, _ = gauss_transform(
                    targets, sources, weight, scale, not of_query, h, i, bounds, sign * parity
                )
                grad_p = _plus_product(grad_p, c, slopes, sign) if wants_p else None
                if wants_c:
                    grad_c = sums * sign if grad_c is None else grad_c + sums * sign
        grad_q, grad_p = (None if x is None else x / h for x in (grad_q, grad_p))
        return grad_q, grad_p, grad_c, None, None, None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[Sums, tuple[int, int, int]]:
        return _each(gauss_transform, info.batch_size, in_dims, arguments), (0, 0, 0)


def _plus_product(total: Tensor | None, a: Tensor, b: Tensor, sign: int = 1) -> Tensor:
    if total is None:
        return a * b if sign == 1 else -a * b
    return torch.addcmul(total, a, b, value=sign)


def _each(function: Any, size: int, in_dims: tuple[int | None, ...], arguments: Any) -> Sums:
    """Call ``function`` for each element of the batch and stack what it returns."""
    rows = []
    for i in range(size):
        pairs = zip(arguments, in_dims, strict=True)
        rows.append(function(*(a.select(d, i) if isinstance(d, int) else a for a, d in pairs)))
    sums, next_sums, scale = (torch.stack(column) for column in zip(*rows, strict=True))
    return sums, next_sums, scale


def _gauss_transform_cpu(
    query: Tensor | None,
    points: Tensor,
    charges: Tensor,
    scale: Tensor | None,
    scale_of_query: bool,
    bandwidth: float,
    order: int,
    bounds: list[float],
    parity: int,
) -> Sums:
    sources = points.numpy(force=True)
    targets = sources if query is None else query.numpy(force=True)
    sums, next_sums, found = get("kde").load("numba")(
        targets,
        sources,
        charges.numpy(force=True),
        bandwidth,
        order,
        None if scale is None else scale.numpy(force=True),
        scale_of_query,
        Walls(bounds[0], bounds[1], parity) if bounds else None,
    )
    return torch.from_numpy(sums), torch.from_numpy(next_sums), torch.from_numpy(found)


def _gauss_transform_fake(
    query: Tensor | None, points: Tensor, charges: Tensor, scale: Tensor | None, *rest: Any
) -> Sums:
    targets = points if query is None else query
    found = targets.new_empty(targets.shape if scale is None else 0)
    return targets.new_empty(targets.shape), targets.new_empty(targets.shape), found


def _gauss_transform_vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
    op = torch.ops.bgfast.gauss_transform
    return _each(op, info.batch_size, in_dims, arguments), (0, 0, 0)


def _define_op() -> Any:
    library = define(
        "gauss_transform(Tensor? query, Tensor points, Tensor charges, Tensor? scale, "
        "bool scale_of_query, float bandwidth, int order, float[] bounds, int parity) "
        "-> (Tensor, Tensor, Tensor)"
    )
    implement(
        library,
        "gauss_transform",
        cpu=_gauss_transform_cpu,
        cuda=gauss_transform_cuda,
        fake=_gauss_transform_fake,
        vmap=_gauss_transform_vmap,
    )
    return library


_LIBRARY = _define_op()  # the op lives as long as it does
