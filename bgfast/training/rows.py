"""Evaluate flows and functions row by row so that a bad row cannot spoil the others' gradients.

A NaN that is masked in the value of a loss still reaches the gradient: 0 * NaN = NaN. So a bad row
has to be kept out of the graph, not only out of the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bgfast.training.waiting import host_may_look


def map_rows(
    mapping: Callable[[Tensor], tuple[Tensor, Tensor]], rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply one direction of a flow to the rows it maps to finite numbers.

    Parameters
    ----------
    mapping
        ``flow.forward`` or ``flow.inverse``: ``[n, dim] -> ([n, dim], [n])``.
    rows
        Its input, ``[n, dim]``.

    Returns
    -------
    mapped, logdet, kept
        Shapes ``[n, dim]``, ``[n]``, ``[n]`` (bool). Rows with a non-finite input, output or
        log-determinant are not ``kept``: zeros that carry no gradient.

    Notes
    -----
    On a device nobody waits for ``kept``: such a row may have left NaN among the activations, and
    then the gradient of the parameters is not finite. The trainer leaves out the whole step.
    """
    mapped, logdet = mapping(rows)
    finite = torch.isfinite(rows) & torch.isfinite(mapped)
    kept = finite.all(-1) & torch.isfinite(logdet)
    if not host_may_look(rows):
        return torch.where(kept[:, None], mapped, 0), torch.where(kept, logdet, 0), kept
    if bool(kept.all()):
        return mapped, logdet, kept
    # Rare: the bad rows have left NaN among the activations, so run again without them.
    good, good_logdet = mapping(rows[kept])
    mapped = torch.zeros_like(rows).index_put((kept,), good)
    logdet = rows.new_zeros(len(rows)).index_put((kept,), good_logdet)
    return mapped, logdet, kept


def evaluate_rows(
    function: Callable[[Tensor], Tensor], x: Tensor, name: str
) -> tuple[Tensor, Tensor]:
    """Evaluate a scalar function of each row, with a gradient that is finite in every row.

    Parameters
    ----------
    function
        ``[n, dim] -> [n]``, row i of the output depending on row i of the input alone.
    x
        Configurations, ``[n, dim]``.
    name
        What to call ``function`` in errors.

    Returns
    -------
    value, smooth
        ``value`` ``[n]`` is differentiable once in ``x``; where the gradient of ``function`` is
        not finite it counts as zero and ``smooth`` ``[n]`` (bool) is False.

    Raises
    ------
    ValueError
        If the output has another shape than ``[n]`` or does not depend differentiably on ``x``.
    """
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        value = function(at)
        if value.shape != x.shape[:1]:
            raise ValueError(
                f"{name} must map x of shape {list(x.shape)} to shape {list(x.shape[:1])}, "
                f"got {list(value.shape)}"
            )
        if not value.requires_grad:
            raise ValueError(f"{name} must be differentiable in x; its output has no gradient")
        (gradient,) = torch.autograd.grad(value.sum(), at)
    finite = torch.isfinite(gradient)
    gradient = torch.where(finite, gradient, 0)
    return _with_gradient(x, value.detach(), gradient), finite.all(-1)


def _with_gradient(x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    result: Tensor = _KnownGradient.apply(x, value, gradient)  # type: ignore[no-untyped-call]
    return result


class _KnownGradient(torch.autograd.Function):
    """``value`` as a function of ``x`` whose gradient has been computed already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_value: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_value.unsqueeze(-1) * gradient, None, None
