"""asv: peak memory of a call, beyond what is resident before it."""

from __future__ import annotations

from bgfast_kernels import names

from benchmarks.end_to_end import draw_and_reweight, training_step
from benchmarks.peak import peak_growth
from benchmarks.peers import same_weights
from benchmarks.throughput import OpCall

MIB = 2.0**20


class OpMemory:
    """An op with its gradient, inputs not counted."""

    params = (list(names()), ["float32"], [100_000])
    param_names = ("op", "dtype", "n")
    timeout = 300

    def setup(self, op: str, dtype: str, n: int) -> None:
        self.call = OpCall(op, "numba", dtype, n)

    def track_peak(self, op: str, dtype: str, n: int) -> float:
        return peak_growth(self.call) / MIB

    track_peak.unit = "MiB"  # type: ignore[attr-defined]


class RunMemory:
    """A training step, and drawing, which must not grow with the number of samples."""

    params = (["KL step", "draw and reweight"], [1024, 16_384])
    param_names = ("what", "n")
    timeout = 300

    def setup(self, what: str, n: int) -> None:
        flow = same_weights.make_flow()
        step = training_step(flow, n)
        self.call = step if what == "KL step" else lambda: draw_and_reweight(flow, n)

    def track_peak(self, what: str, n: int) -> float:
        return peak_growth(self.call) / MIB

    track_peak.unit = "MiB"  # type: ignore[attr-defined]
