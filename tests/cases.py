"""Inputs shared by tests and benchmarks: the arguments of an op as its spec samples them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from bgfast_kernels import get

from bgfast.ops import TORCH_OPS
from bgfast.ops.registry import as_tensors

NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def arguments(op: str, n: int, dtype: torch.dtype, seed: int = 0) -> dict[str, Any]:
    """Return arguments of the op named ``op``: ``n`` rows (or points), arrays as tensors."""
    return as_tensors(get(op).sample(np.random.default_rng(seed), n, NUMPY_DTYPES[dtype]))


def in_float64(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` with every tensor in float64."""
    return {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}


def moved_by_rounding(
    function: Callable[..., Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    draws: int = 16,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return a function's results in float64, and how far rounding the inputs moves each number.

    Each number of ``inputs`` is moved up or down by half a unit in the last place of its dtype, at
    random; of ``draws`` such draws the largest change counts. It says how well conditioned the
    function is: no algorithm that is given rounded inputs does better.
    """
    generator = torch.Generator().manual_seed(0)
    exact = [t.double() for t in inputs]
    halves = [0.5 * torch.from_numpy(np.spacing(t.abs().numpy())).double() for t in inputs]
    results = list(function(*exact))
    moved = [torch.zeros_like(r) for r in results]
    for _ in range(draws):
        signs = [torch.randint(0, 2, t.shape, generator=generator) * 2 - 1 for t in exact]
        near = function(*(t + s * h for t, s, h in zip(exact, signs, halves, strict=True)))
        moved = [
            torch.maximum(m, (n - r).abs()) for m, n, r in zip(moved, near, results, strict=True)
        ]
    return results, moved


def assert_exact(
    name: str,
    found: Sequence[torch.Tensor],
    reference: Callable[[dict[str, Any]], Sequence[torch.Tensor]],
    arguments: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    """Compare the value of an op, and gradients after it, with its float64 reference.

    The errors are relative to the largest magnitude of the row, or of all if the op is not made of
    rows; see :class:`bgfast_kernels.Tolerance`.
    """
    tolerance = get(name).tolerance[str(dtype).removeprefix("torch.")]
    arrays = {k: v for k, v in arguments.items() if isinstance(v, torch.Tensor)}

    def exact(*values: torch.Tensor) -> Sequence[torch.Tensor]:
        return reference(arguments | dict(zip(arrays, values, strict=True)))

    draws = 16 if tolerance.roundings else 0
    expected, moved = moved_by_rounding(exact, [*arrays.values()], draws)
    for i, (value, e, m) in enumerate(zip(found, expected, moved, strict=True)):
        error = (value.cpu().double() - e).abs()
        error, size, change = (_largest(name, t) for t in (error, e.abs(), m))
        allowed = (tolerance.gradient if i else tolerance.value) * size
        assert (error <= allowed + tolerance.roundings * change).all()


def _largest(name: str, t: torch.Tensor) -> torch.Tensor:
    if not TORCH_OPS[name].rowwise:
        return t.max()
    return t.flatten(1).amax(1) if t.ndim > 1 else t
