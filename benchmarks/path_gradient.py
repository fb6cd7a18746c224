"""Compare path gradients of the KL loss with plain ones: ``python -m benchmarks.path_gradient``.

For a single well, the double well and the dimer, with the networks (R4 for the single well),
batches and stages of the presets, from one flow that was trained by example:

- scatter: per-sample variance of the gradient, summed over all parameters, from independent
  batches; "median" is the median over the batches of the squared deviation from the mean, which a
  few rare configurations do not decide. Each at three flows: after training by example, and after
  the stage by energy with either estimator.
- ms: CPU time of one KL gradient on one thread.
- kl: excess of the KL loss on fresh latent vectors after that stage, over seeds of the latent
  vectors; 0 is the exact minimum for the wells, for the dimer (whose partition function is not
  known) the plain estimator's result.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine, timing
from bgfast.energies import DoubleWell, Energy
from bgfast.experiments.config import read_table, validated
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_data import simulate
from bgfast.experiments.exact import double_well_exact
from bgfast.experiments.pipeline import build_flow
from bgfast.experiments.progress import Reporter
from bgfast.experiments.quadrature_config import DoubleWellConfig
from bgfast.flows import Flow
from bgfast.sampling import MetropolisSampler
from bgfast.training import Stage, Trainer, TrainingConfig, kl_loss

ESTIMATORS = {"plain": False, "path": True}
N_TEST = 20_000


@dataclass(frozen=True)
class Case:
    """A system with its training; ``least`` is the exact minimum of the KL loss, if known."""

    name: str
    energy: Energy
    flow: Flow
    frames: Tensor
    coordinate: Callable[[Tensor], Tensor]
    bounds: tuple[float, float]
    by_example: Stage
    by_energy: Stage
    least: float | None

    def trained(self, flow: Flow, stage: Stage, seed: int) -> Flow:
        config = TrainingConfig(stages=(stage,), rc_bounds=self.bounds, seed=seed)
        flow, data = copy.deepcopy(flow), self.frames.float()
        Trainer(flow, self.energy, config, data, reaction_coordinate=self.coordinate).run()
        return flow

    def latent(self, n: int, seed: int) -> Tensor:
        return torch.randn(n, self.flow.dim, generator=torch.Generator().manual_seed(seed))

    def gradient(self, flow: Flow, z: Tensor, path: bool) -> Tensor:
        loss = kl_loss(flow, self.energy, z, 1.0, self.by_energy.cap, path_gradient=path)
        parts = torch.autograd.grad(loss.value, list(flow.parameters()))
        return torch.cat([part.flatten() for part in parts])

    @torch.no_grad()
    def kl(self, flow: Flow) -> float:
        parts = self.latent(N_TEST, 10**6).split(2048)
        losses = [kl_loss(flow, self.energy, z, 1.0, self.by_energy.cap).value for z in parts]
        sizes = [len(z) for z in parts]
        return float(np.average([float(loss) for loss in losses], weights=sizes))


def double_well(steps: int | None) -> Case:
    return _wells("double well", DoubleWell(2), "R10", steps)


def single_well(steps: int | None) -> Case:
    """Return the double well without its barrier: a target that the network can reach."""
    return _wells("single well", DoubleWell(2, a2=-1.0), "R4", steps)


def _wells(name: str, energy: DoubleWell, architecture: str, steps: int | None) -> Case:
    config = validated(DoubleWellConfig, read_table("double-well"), "double-well")
    start = np.zeros((2, energy.dim))
    start[:, 0] = [point[0] for point in config.data.start]
    sampler = MetropolisSampler(energy, start, step=config.data.step, moves="all", seed=0)
    x = sampler.run(config.data.n_steps, stride=config.data.stride).x
    frames = torch.from_numpy(x).flatten(0, 1)
    settings = config.flow.model_copy(update={"architecture": architecture})
    by_energy = config.training.modes["kl"][0]
    log_z = double_well_exact(energy, 1.0, config.analysis.bounds, 10, 0.0).log_z
    return Case(
        name,
        energy,
        build_flow(settings, energy.dim, 0, frames, n_dim=1),
        frames,
        lambda x: x[..., 0],
        config.analysis.bounds,
        config.training.first[0],
        by_energy.model_copy(update={"steps": steps or by_energy.steps}),
        0.5 * energy.dim * (1 + math.log(2 * math.pi)) - log_z,
    )


def dimer(steps: int | None) -> Case:
    config = validated(DimerConfig, read_table("dimer", quick=True), "dimer")
    energy = config.system.energy()
    data = simulate(energy, config.data, config.analysis.split, 0, Reporter(quiet=True))
    frames = data.frames(held_out=False)
    by_example, by_energy = read_table("dimer")["training"]["stages"]
    return Case(
        "dimer",
        energy,
        build_flow(config.flow, energy.dim, 0, frames),
        frames,
        energy.dimer_distance,
        config.analysis.bounds,
        Stage(**by_example | {"steps": 400}),
        Stage(**by_energy | {"steps": steps or 200}),
        None,
    )


def scatter(case: Case, flow: Flow, path: bool, n_batches: int) -> tuple[float, float]:
    """Return mean and median over the batches of |gradient - mean|^2, for a single sample."""
    n = case.by_energy.batch_kl
    gradients = torch.stack(
        [case.gradient(flow, case.latent(n, batch), path) for batch in range(n_batches)]
    ).double()
    square = (gradients - gradients.mean(0)).square().sum(1) * n * n_batches / (n_batches - 1)
    return float(square.mean()), float(square.median())


def measure(case: Case, n_seeds: int, n_batches: int, repeats: int) -> dict[str, Any]:
    """Return all numbers of one system."""
    start = case.trained(case.flow, case.by_example, 0)
    flows: dict[str, Flow] = {"by example": start}
    losses: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for seed in range(1, n_seeds + 1):
        for name, path in ESTIMATORS.items():
            stage = case.by_energy.model_copy(update={"path_gradient": path})
            flow = case.trained(start, stage, seed)
            losses[name].append(case.kl(flow))
            flows[f"by energy, {name}"] = flow
    z = case.latent(case.by_energy.batch_kl, 0)
    calls = [lambda path=path: case.gradient(start, z, path) for path in ESTIMATORS.values()]
    times = timing.interleaved(calls, repeats)
    least = statistics.mean(losses["plain"]) if case.least is None else case.least
    return {
        "system": case.name,
        "steps": case.by_energy.steps,
        "batch": len(z),
        "ms": {name: 1e3 * t[1] for name, t in zip(ESTIMATORS, times, strict=True)},
        "kl_before": case.kl(start) - least,
        "kl": {name: [value - least for value in losses[name]] for name in ESTIMATORS},
        "scatter": {
            where: {
                name: dict(
                    zip(("mean", "median"), scatter(case, flow, path, n_batches), strict=True)
                )
                for name, path in ESTIMATORS.items()
            }
            for where, flow in flows.items()
        },
    }


def show(found: dict[str, Any]) -> None:
    """Print the numbers of one system."""
    ms = found["ms"]
    print(f"\n{found['system']}, batches of {found['batch']}, {found['steps']} steps by energy")
    print(f"  gradient: plain {ms['plain']:.2f} ms, path {ms['path']:.2f} ms")
    for where, by_name in found["scatter"].items():
        for kind in ("mean", "median"):
            plain, path = by_name["plain"][kind], by_name["path"][kind]
            print(f"  {kind:>6} scatter {where}: plain {plain:.3g}, path {path:.3g}", end="")
            print(f", ratio {plain / path:.2f}")
    print(f"  excess KL before: {found['kl_before']:.4f}")
    for name, values in found["kl"].items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
        print(f"  excess KL after, {name}: {statistics.mean(values):.4f} +- {error:.4f}")


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--system", choices=["single-well", "double-well", "dimer"], action="append"
    )
    parser.add_argument("--steps", type=int, help="steps by energy [wells 400, dimer 200]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = {"single-well": single_well, "double-well": double_well, "dimer": dimer}
    rows = []
    for name in options.system or cases:
        case = cases[name](options.steps)
        rows.append(measure(case, options.seeds, options.batches, options.repeats))
        show(rows[-1])
    if options.json:
        found = {"versions": machine.describe(), "rows": rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
