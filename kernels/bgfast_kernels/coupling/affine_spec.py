"""The affine coupling step: what it computes and what to try it on.

With a raw log-scale S and a shift t of the size of x, and s = S_MAX tanh(S / S_MAX)::

    inverse:   x -> x exp(s) + t         log-determinant  sum s
    forward:   x -> (x - t) exp(-s)      log-determinant -sum s
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bgfast_kernels.spec import Arguments, KernelSpec, register

S_MAX = 4.0
"""Largest log-scale of a step."""


def sample(rng: np.random.Generator, n: int, dtype: DTypeLike) -> Arguments:
    """Return ``n`` rows of x, raw log-scale and shift side by side, 38 numbers each."""
    x, raw_s, t = rng.normal(size=(3, n, 38))
    return {"rows": np.concatenate((x, 2.0 * raw_s, t), 1).astype(dtype)}


AFFINE = register(
    KernelSpec(
        name="affine_coupling",
        summary="affine coupling step, both directions: value and log-determinant",
        implementations={
            "numba": "bgfast_kernels.coupling.affine:affine_coupling",
            "cuda": "bgfast_kernels.coupling.cuda_kernels:affine_coupling",
        },
        sample=sample,
        arrays=("rows",),
    )
)
