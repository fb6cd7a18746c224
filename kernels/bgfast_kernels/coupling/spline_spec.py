"""The op "spline" and its typical inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bgfast_kernels.spec import KernelSpec, Tolerance, register


def _spline_sample(rng: np.random.Generator, n: int, dtype: DTypeLike) -> dict[str, Any]:
    m, n_bins = 7, 5
    return {
        "x": (1.5 * rng.normal(size=(n, m))).astype(dtype),
        "raw": rng.normal(size=(n, 3 * n_bins - 1, m)).astype(dtype),
        "bound": 4.0,
    }


SPLINE = register(
    KernelSpec(
        name="spline",
        summary="rational-quadratic spline coupling: value and log-determinant",
        implementations={
            "numba": "bgfast_kernels.coupling.spline:spline",
            "cuda": "bgfast_kernels.coupling.cuda_kernels:spline",
        },
        sample=_spline_sample,
        arrays=("x", "raw"),
        tolerance={"float32": Tolerance(1e-6, 2e-6, 5.0), "float64": Tolerance(1e-13, 1e-13, 25.0)},
    )
)
