"""asv: every registered op over backend, dtype and batch size, on one thread.

A new op is timed as soon as it is registered: inputs come from its ``KernelSpec``. The times (lower
is better: what ``asv continuous`` and ``asv publish`` look for regressions in) and the rates for
people are of one call with the gradient, where there is one, in CPU time.
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

BACKENDS = sorted({"torch", *(backend for op in names() for backend in get(op).implementations)})
DTYPES = ["float32", "float64"]
MOST_ROWS_TORCH = 1_000
"""The plain torch references form all pairs."""

_REPEATS = 7
_SECONDS = 0.02


class OpCall:
    """One call of an op with its gradient."""

    def __init__(self, op: str, backend: str, dtype: str, n: int) -> None:
        if backend != "torch" and backend not in get(op).implementations:
            raise NotImplementedError(f"{op} has no {backend}")
        if backend == "torch" and n > MOST_ROWS_TORCH:
            raise NotImplementedError("too large for torch")
        if backend == "cuda" and not torch.cuda.is_available():
            raise NotImplementedError("no GPU")
        self.device = "cuda" if backend == "cuda" else "cpu"
        sample = as_tensors(get(op).sample(np.random.default_rng(0), n, np.dtype(dtype)))
        arguments = {
            k: v.to(self.device) if isinstance(v, torch.Tensor) else v for k, v in sample.items()
        }
        entry = bgfast.ops.TORCH_OPS[op]
        self.inputs = [arguments[name].requires_grad_() for name in entry.differentiable]
        self.function = lambda: entry.function(**arguments, backend=backend)
        self()

    def forward(self) -> None:
        """Call without gradient: the kernel, and little else."""
        with torch.no_grad():
            self.function()
        if self.device == "cuda":
            torch.cuda.synchronize()

    def __call__(self) -> None:
        result = self.function()
        if self.inputs:
            torch.autograd.grad(result.sum(), self.inputs)
        if self.device == "cuda":
            torch.cuda.synchronize()


class OneThread:
    """A suite on one thread, in CPU time of the process: other processes do not disturb it."""

    timer = time.process_time
    timeout = 300
    rounds = 4  # commits take turns as often: a slow spell of the machine meets both
    repeat = (5, 20, 2.0)
    sample_time = 0.02

    def one_thread(self) -> None:
        cpu.set_threads(1)
        torch.set_num_threads(1)

    def teardown(self, *parameters: Any) -> None:
        cpu.set_threads(None)


class Ops(OneThread):
    """Time of a batch."""

    params = (list(names()), BACKENDS, DTYPES, [1_000, 20_000])
    param_names = ("op", "backend", "dtype", "n")

    def setup(self, op: str, backend: str, dtype: str, n: int) -> None:
        self.one_thread()
        self.call = OpCall(op, backend, dtype, n)

    def time_forward(self, op: str, backend: str, dtype: str, n: int) -> None:
        self.call.forward()

    def time_call(self, op: str, backend: str, dtype: str, n: int) -> None:
        self.call()


class Rates(OneThread):
    """Items (configurations, points) per second in large batches."""

    params = (list(names()), [b for b in BACKENDS if b != "torch"], ["float32"], [20_000])
    param_names = ("op", "backend", "dtype", "n")

    def setup(self, op: str, backend: str, dtype: str, n: int) -> None:
        self.one_thread()
        self.call = OpCall(op, backend, dtype, n)

    def track_items_per_second(self, op: str, backend: str, dtype: str, n: int) -> float:
        clock = time.perf_counter if backend == "cuda" else time.process_time
        return n / median_seconds(self.call, clock)

    track_items_per_second.unit = "items/s"  # type: ignore[attr-defined]


def median_seconds(call: Any, clock: Any, repeats: int = _REPEATS) -> float:
    start = clock()
    call()
    loops = max(1, int(_SECONDS / max(clock() - start, 1e-9)))
    times = []
    for _ in range(repeats):
        start = clock()
        for _ in range(loops):
            call()
        times.append((clock() - start) / loops)
    return statistics.median(times)
