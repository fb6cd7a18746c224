"""asv: what a user waits for, on all cores in wall-clock time: training steps, drawing, weighing.

The flow is R8 with networks of 3 x 200 in float32, the energy the dimer's (38 particles).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.peers import same_weights
from benchmarks.throughput import median_seconds
from bgfast.analysis.weights import WeightAccumulator
from bgfast.energies import ParticleDimer
from bgfast.flows import Sequential
from bgfast.sampling.anneal import AnnealSettings, anneal
from bgfast.sampling.generate import generate
from bgfast.training import LinLogCap, kl_loss


def training_step(flow: Sequential, n: int) -> Callable[[], None]:
    """Return a step of KL training: draw, loss, gradient, Adam's update."""
    dimer, cap = ParticleDimer(), LinLogCap(1000.0)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-6, foreach=True)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        z = torch.randn(n, flow.dim, generator=generator, dtype=flow.dtype)
        optimizer.zero_grad()
        kl_loss(flow, dimer, z, 1.0, cap).value.backward()
        optimizer.step()

    return step


def draw_and_reweight(flow: Sequential, n: int) -> float:
    """Return the effective sample size of ``n`` draws."""
    weights = WeightAccumulator()
    for batch in generate(flow, ParticleDimer(), n):
        weights.update(batch.log_w)
    return weights.result().ess


class KLStep:
    """A step of KL training."""

    params = ([1024, 8192],)
    param_names = ("n",)
    timeout = 300

    def setup(self, n: int) -> None:
        self.step = training_step(same_weights.make_flow(), n)

    def time_step(self, n: int) -> None:
        self.step()

    def track_samples_per_second(self, n: int) -> float:
        return n / median_seconds(self.step, time.perf_counter, repeats=2)

    track_samples_per_second.unit = "samples/s"  # type: ignore[attr-defined]


class KLStepHigh(KLStep):
    """A step of KL training in precision "high"; checked against the usual flow."""

    contender, tolerance = "bgfast, high precision", 1e-4

    def setup(self, n: int) -> None:
        precision = same_weights.other_precisions().get(self.contender)
        if precision is None:
            raise NotImplementedError(f"this processor is not faster in {self.contender!r}")
        flow = same_weights.make_flow()
        rounded = same_weights.in_precision(flow, precision)
        z = torch.randn(256, flow.dim, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            off = (rounded(z)[0] - flow(z)[0]).abs()
        if not 0 < off.mean() < self.tolerance:
            raise AssertionError(f"configurations are off by {off.mean():.2g} on average")
        self.step = training_step(rounded, n)


class KLStepBFloat16(KLStepHigh):
    """A step of KL training with the networks in bfloat16; checked against the usual flow."""

    contender, tolerance = "bgfast, bfloat16 nets", 0.03


class DrawAndReweight:
    """Random numbers, flow, energies, weights, effective sample size."""

    params = ([1_000, 100_000],)
    param_names = ("n",)
    timeout = 600
    repeat = (3, 5, 60.0)
    warmup_time = 0.0  # a hundred thousand draws are long enough

    def setup(self, n: int) -> None:
        self.flow = same_weights.make_flow()
        draw_and_reweight(self.flow, 256)

    def time_draw(self, n: int) -> None:
        draw_and_reweight(self.flow, n)


class Annealing:
    """Annealed sequential Monte Carlo from the flow to the dimer, in a few stages.

    How many stages a run needs is up to its flow; here they are few whatever comes of it.
    """

    params = ([64, 10_000],)
    param_names = ("n",)
    timeout = 600
    repeat = 1
    warmup_time = 0.0

    def setup(self, n: int) -> None:
        self.flow = same_weights.make_flow((32, 32), "R2")
        self.settings = AnnealSettings(
            n_samples=n, islands=2, draws=2, leapfrog=2, cess=0.05, pilot=16
        )

    def time_anneal(self, n: int) -> None:
        anneal(self.flow, ParticleDimer(), self.settings)
