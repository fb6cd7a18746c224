"""One-dimensional kernel density: sums of Gaussians and of their derivatives in O(n).

The method is the fast Gauss transform (Greengard and Strain, SIAM J. Sci. Stat. Comput. 12, 79,
1991) with Chebyshev interpolation in place of Hermite series, and with logarithms where a density
is too small for it. See :mod:`bgfast_kernels.kde.transform`.
"""

import numpy as np
from numpy.typing import DTypeLike

from bgfast_kernels.spec import Arguments, KernelSpec, Tolerance, register


def sample(rng: np.random.Generator, n: int, dtype: DTypeLike) -> Arguments:
    """Return ``n`` points in two clusters of different width, with weights."""
    points = rng.standard_normal(n) * np.where(np.arange(n) % 2, 0.3, 1.0) + np.arange(n) % 2 * 4
    return {
        "points": points.astype(dtype),
        "bandwidth": 0.2,
        "weights": rng.uniform(0.5, 1.5, n).astype(dtype),
    }


SPEC = register(
    KernelSpec(
        name="kde",
        summary="log of a 1-D kernel density and its gradient",
        implementations={
            "numba": "bgfast_kernels.kde.transform:gauss_transform",
            "cuda": "bgfast_kernels.kde.cuda_kernels:Launcher",
        },
        sample=sample,
        arrays=("points", "weights"),
        tolerance={"float32": Tolerance(1e-5, 1e-5), "float64": Tolerance(1e-8, 1e-8)},
    )
)
