"""What the GPU report measures of one kernel, and a case for every op that has a CUDA kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bgfast_kernels import get
from torch import Tensor

from bgfast.ops import TORCH_OPS
from bgfast.ops.registry import TorchOp, as_tensors

BACKEND = "cuda"
_SAMPLED = 10_000  # rows that are sampled on the host; more are copies of them


@dataclass(frozen=True)
class Case:
    """One kernel to be measured.

    Parameters
    ----------
    kernel, variant
        For the table.
    dtype
        Of the inputs.
    inputs
        ``inputs(n)`` -> tensors on the device.
    call
        Enqueues the kernel on the inputs and returns its outputs.
    reference
        The same in plain torch.
    bytes, flops, instructions
        Per row: memory read and written, arithmetic, and issued instructions at least; 0 where they
        were not counted.
    compare
        Whether to time the reference, too.
    """

    kernel: str
    variant: str
    dtype: torch.dtype
    inputs: Callable[[int], tuple[Tensor, ...]]
    call: Callable[..., tuple[Tensor, ...]]
    reference: Callable[..., tuple[Tensor, ...]]
    bytes: float
    flops: float
    instructions: float
    compare: bool


GOALS = (
    ("dimer energy+gradient", "us", "<=", 45.0),
    ("dimer energy+gradient", "eager", ">=", 100.0),
    ("kde density+gradient", "us", "<=", 100.0),
)
"""Kernel, column, and what it has to be for 100,000 rows in float32 in the usual mapping."""


def goals(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the rows of the report say on each of :data:`GOALS`."""
    for kernel, column, relation, wanted in GOALS:
        for row in rows:
            usual = row["dtype"] == "float32" and "*" in row["mapping"]
            if not usual or (row["kernel"], row["B"]) != (kernel, 100_000):
                continue
            found = row[column]
            reached = found <= wanted if relation == "<=" else found >= wanted
            goal = f"{column} {relation} {wanted:g}"
            yield {"what": kernel, "goal": goal, "found": found, "reached": reached}


def names() -> list[str]:
    """Return the names of all ops with a CUDA kernel."""
    return sorted(name for name in TORCH_OPS if "cuda" in get(name).implementations)


def of_ops(chosen: list[str], device: torch.device) -> Iterator[Case]:
    """Yield value and gradients of ops on the inputs their specs sample, called through torch.

    How much arithmetic an op takes, its spec does not say: the bound is that of memory.
    """
    for dtype in (torch.float32, torch.float64):
        for name in chosen:
            yield _case(TORCH_OPS[name], dtype, device)


def _case(op: TorchOp, dtype: torch.dtype, device: torch.device) -> Case:
    names = get(op.name).arrays
    few, more = _sample(op.name, 2, dtype), _sample(op.name, 4, dtype)
    fixed = {k: v for k, v in few.items() if k not in names}
    there = {
        place: {k: v.to(place) if isinstance(v, Tensor) else v for k, v in fixed.items()}
        for place in (torch.device("cpu"), device)
    }
    moved = _numbers(op, more) - _numbers(op, few)  # without what all rows share

    def inputs(n: int) -> tuple[Tensor, ...]:
        sampled = min(n, _SAMPLED) if op.rowwise else n
        drawn, found = _sample(op.name, sampled, dtype), []
        for k in names:
            rows = drawn[k].to(device)
            if more[k].shape != few[k].shape:  # not what all rows share
                rows = rows.repeat(-(-n // sampled), *[1] * (rows.ndim - 1))[:n].contiguous()
            found.append(rows)
        return tuple(found)

    def call(*arrays: Tensor) -> tuple[Tensor, ...]:
        arguments = there[arrays[0].device] | dict(zip(names, arrays, strict=True))
        return _results(op, lambda **a: op.function(**a, backend=BACKEND), arguments)

    def reference(*arrays: Tensor) -> tuple[Tensor, ...]:
        arguments = there[arrays[0].device] | dict(zip(names, arrays, strict=True))
        return _results(op, op.reference, arguments)

    return Case(
        kernel=f"{op.name} value+gradients" if op.differentiable else op.name,
        variant="*",
        dtype=dtype,
        inputs=inputs,
        call=call,
        reference=reference,
        bytes=moved * dtype.itemsize / 2,
        flops=0.0,
        instructions=0.0,
        compare=True,
    )


def _numbers(op: TorchOp, arguments: dict[str, Any]) -> int:
    """Return how many numbers the op reads and writes."""
    results = _results(op, op.reference, arguments)
    read = [arguments[k] for k in get(op.name).arrays]
    return sum(t.numel() for t in (*read, *results))


def _sample(name: str, n: int, dtype: torch.dtype) -> dict[str, Any]:
    numpy_dtype = str(dtype).removeprefix("torch.")
    return as_tensors(get(name).sample(np.random.default_rng(0), n, numpy_dtype))


def _results(
    op: TorchOp, function: Callable[..., Tensor], arguments: dict[str, Any]
) -> tuple[Tensor, ...]:
    wanted = {k: arguments[k].detach().requires_grad_() for k in op.differentiable}
    value = function(**(arguments | wanted))
    if not wanted:
        return (value,)
    return value.detach(), *torch.autograd.grad(value.sum(), [*wanted.values()])
