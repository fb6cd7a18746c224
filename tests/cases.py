"""Inputs shared by tests and benchmarks: the arguments of an op as its spec samples them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from bgfast_kernels import get

from bgfast.ops.registry import as_tensors

NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def arguments(op: str, n: int, dtype: torch.dtype, seed: int = 0) -> dict[str, Any]:
    """Return arguments of the op named ``op``: ``n`` rows (or points), arrays as tensors."""
    return as_tensors(get(op).sample(np.random.default_rng(seed), n, NUMPY_DTYPES[dtype]))


def in_float64(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` with every tensor in float64."""
    return {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
