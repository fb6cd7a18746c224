"""What all ops share where torch gets to know them: devices, shapes, batches of calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def define(*schemas: str) -> Any:
    """Define ops of ``torch.ops.bgfast`` and return their library; they live as long as it does."""
    api: Any = torch.library
    library = api.Library("bgfast", "FRAGMENT")
    for schema in schemas:
        library.define(schema)
    return library


def implement(
    library: Any,
    name: str,
    *,
    cpu: Callable[..., Any],
    cuda: Callable[..., Any],
    fake: Callable[..., Any],
    vmap: Callable[..., Any],
) -> None:
    """Tell torch how to run the op ``name`` that ``library``, of ``bgfast``, defines.

    Parameters
    ----------
    library
        What :func:`define` returned.
    name
        Name of the op in ``torch.ops.bgfast``.
    cpu, cuda
        The op for tensors of either kind.
    fake
        Takes the arguments of the op, returns empty tensors of the shapes that it returns.
    vmap
        Rule for a batch of calls, as :func:`torch.library.register_vmap` takes it.
    """
    api: Any = torch.library
    library.impl(name, cpu, "CPU")
    library.impl(name, cuda, "CUDA")
    api.register_fake(f"bgfast::{name}", fake, lib=library)
    api.register_vmap(f"bgfast::{name}", vmap, lib=library)


def batch_first(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> list[Tensor]:
    """Return the tensors of a batch of calls, each with the batch as its first dimension.

    Parameters
    ----------
    info, in_dims
        What a vmap rule is told; ``in_dims`` may go on beyond ``tensors``, which come first among
        the arguments of the op.
    tensors
        With the batch in the dimension that ``in_dims`` says; ``None``: the same for all calls.
    """
    return [
        tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=False)
    ]


def rows_alike(name: str, n_tensors: int) -> Callable[..., Any]:
    """Return the vmap rule of an op whose ``n_tensors`` first arguments have rows ``[..., m]``.

    A batch of calls is one call with more rows.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        tensors = batch_first(info, in_dims, *arguments[:n_tensors])
        result = getattr(torch.ops.bgfast, name)(*tensors, *arguments[n_tensors:])
        return result, 0 if isinstance(result, Tensor) else (0,) * len(result)

    return rule


def in_memory(x: Tensor) -> Tensor:
    """Return ``x``, or a copy if torch has only noted that its numbers are negated, or zeros."""
    if x.is_neg() or x._is_zerotensor():
        return torch.zeros_like(x) if x._is_zerotensor() else x.resolve_neg()
    return x


def rows_of(x: Tensor) -> Tensor:
    """Return ``x[..., m]`` as rows ``[n, m]`` that are contiguous in themselves, a copy if it must.

    Rows may be apart from each other, or all the same.
    """
    x = in_memory(x)
    if x.ndim != 2:
        n = math.prod(x.shape[:-1])  # a -1 would be ambiguous without elements
        x = x.reshape(n, x.shape[-1])
    return x if x.stride(1) == 1 or x.shape[1] <= 1 else x.contiguous()


def flat_rows(x: Tensor) -> tuple[Any, int]:
    """Return the numbers of rows ``[..., m]`` as a flat array, and how far apart rows begin in it.

    Memory is shared where rows are contiguous in themselves; what ``x`` is to autograd is left out.
    """
    m = x.shape[-1]
    if x.is_contiguous() and not x.is_neg():
        return x.detach().numpy().reshape(-1), m
    rows = rows_of(x.detach())
    n, row_stride = len(rows), rows.stride(0)
    if row_stride < m:
        rows, row_stride = rows.contiguous(), m
    return rows.as_strided(((n - 1) * row_stride + m if n else 0,), (1,)).numpy(), row_stride


def energy_grad_fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Return empty energies ``[...]`` and gradients ``[..., D]`` for ``x[..., D]``."""
    return x.new_empty(x.shape[:-1]), x.new_empty(x.shape)


def hvp_fake(x: Tensor, v: Tensor, *rest: Any) -> Tensor:
    """Return an empty product of the Hessians at ``x[..., D]`` with ``v[..., D]``, ``[..., D]``."""
    return x.new_empty(x.shape)
