"""The numbers the dimer's kernels compute with, on any device."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bgfast_kernels.dimer.parameters import CORE, D_MIN, X_FAR, DimerParameters


@functools.lru_cache(maxsize=64)
def constants(parameters: DimerParameters, dtype: DTypeLike) -> NDArray[Any]:
    """Return the numbers a kernel needs, in the order of ``numba_gradient`` and ``terms.cuh``.

    Lengths are in units of the power of two nearest to sigma: scaling by it is exact, and r^-16
    stays within float32 whatever the user's length unit.
    """
    p = parameters
    scale = 2.0 ** -round(math.log2(p.sigma))
    sigma = p.sigma * scale
    return np.array(
        [
            scale,
            p.k_d / scale**2,
            p.d0 * scale,
            p.a / scale**4,
            p.b / scale**2,
            p.c / scale,
            p.l * scale,
            p.k_box / scale**2,
            p.eps * sigma**12,
            (CORE * sigma) ** 2,
            (D_MIN * scale) ** 2,
            X_FAR,
        ],
        dtype,
    )
