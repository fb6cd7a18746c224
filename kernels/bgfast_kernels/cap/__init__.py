"""The energy cap of training: linear, then logarithmic, then constant.

With the two limits, both included in what lies below them::

    u <= e_high             u                              slope 1
    e_high < u <= e_max     e_high + log(1 + u - e_high)   slope 1 / (1 + u - e_high)
    e_max < u               the value at e_max             slope 0

Infinity is above e_max. NaN stays NaN and has slope 0, so that it reaches no gradient.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bgfast_kernels.spec import Arguments, KernelSpec, register


def check(e_high: float, e_max: float) -> None:
    """Raise ValueError unless ``e_high < e_max`` and both are finite."""
    if not -float("inf") < e_high < e_max < float("inf"):
        raise ValueError(
            f"e_high and e_max must be finite with e_high < e_max, got {e_high:g} and {e_max:g}"
        )


def sample(rng: np.random.Generator, n: int, dtype: DTypeLike) -> Arguments:
    """Return ``n`` energies of all three ranges, most of them in the logarithmic one."""
    u = rng.normal(size=(n, 1)) + 10.0 ** rng.uniform(0.0, 6.0, size=(n, 1))
    return {"u": u.astype(dtype), "e_high": 100.0, "e_max": 1e5}


SPEC = register(
    KernelSpec(
        name="lin_log_cap",
        summary="energy cap of training: value and derivative",
        implementations={
            "numba": "bgfast_kernels.cap.cap:lin_log_cap",
            "cuda": "bgfast_kernels.cap.cuda_kernels:lin_log_cap",
        },
        sample=sample,
        arrays=("u",),
    )
)
