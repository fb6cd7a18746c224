"""Throughput of every registered op for asv: items per second over op, dtype and batch size.

A new op is timed as soon as it is registered: inputs come from its ``KernelSpec``.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from bgfast_kernels import cpu, get, names

import bgfast.ops
from bgfast.ops.registry import as_tensors

_REPEATS = 7
_SECONDS = 0.05


class Throughput:
    """Forward (and, where there is one, gradient) of an op on one thread."""

    params = (list(names()), ["float32", "float64"], [1, 1_000, 20_000])
    param_names = ("op", "dtype", "n")
    timeout = 120

    def setup(self, op: str, dtype: str, n: int) -> None:
        cpu.set_threads(1)
        torch.set_num_threads(1)
        entry = bgfast.ops.TORCH_OPS[op]
        arguments = as_tensors(get(op).sample(np.random.default_rng(0), n, np.dtype(dtype)))
        self.inputs = [arguments[name].requires_grad_() for name in entry.differentiable]
        self.call = lambda: entry.function(**arguments, backend="numba")
        self._run()

    def teardown(self, *parameters: Any) -> None:
        cpu.set_threads(None)

    def track_items_per_second(self, op: str, dtype: str, n: int) -> float:
        return n / self._median_seconds()

    track_items_per_second.unit = "items/s"  # type: ignore[attr-defined]

    def _run(self) -> None:
        result = self.call()
        if self.inputs:
            torch.autograd.grad(result.sum(), self.inputs)

    def _median_seconds(self) -> float:
        start = time.perf_counter()
        self._run()
        loops = max(1, int(_SECONDS / (time.perf_counter() - start)))
        times = []
        for _ in range(_REPEATS):
            start = time.process_time()
            for _ in range(loops):
                self._run()
            times.append((time.process_time() - start) / loops)
        return statistics.median(times)
