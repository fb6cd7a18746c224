"""Batched linear assignment: relabel identical particles next to a reference configuration."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bgfast_kernels.spec import Arguments, KernelSpec, register


def sample(rng: np.random.Generator, n: int, dtype: DTypeLike) -> Arguments:
    """Return ``n`` configurations of 36 particles displaced from a grid, half of them shuffled."""
    axis = np.linspace(-2.7, 2.7, 6)
    reference = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(36, 2)
    x = reference + 0.3 * rng.standard_normal((n, 36, 2))
    shuffled = rng.permuted(np.tile(np.arange(36), (n, 1)), axis=1)
    shuffled[: n // 2] = np.arange(36)
    x = np.take_along_axis(x, shuffled[:, :, None], axis=1)
    return {"x": x.astype(dtype), "reference": reference.astype(dtype)}


SPEC = register(
    KernelSpec(
        name="assignment",
        summary="least-squares relabelling of N identical particles",
        implementations={
            "numba": "bgfast_kernels.assignment.augmenting_path:assign",
            "cuda": "bgfast_kernels.assignment.cuda_kernels:assign",
        },
        sample=sample,
        arrays=("x",),
    )
)
