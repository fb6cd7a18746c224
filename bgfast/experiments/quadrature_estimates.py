"""What the samples of every network and training mode say, beside the exact values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bgfast.analysis import (
    Estimate,
    EstimatorResult,
    Pool,
    Profile,
    ProfileDeviation,
    bidirectional,
    profile_deviation,
    trust,
)
from bgfast.experiments.annealed_estimate import AnnealedEstimate, annealed_estimate
from bgfast.experiments.data import StateData
from bgfast.experiments.estimates import PlainEstimate, barrier_range, plain_estimate
from bgfast.experiments.evaluations import EnergyEvaluations, of_training
from bgfast.experiments.exact import Exact
from bgfast.experiments.pipeline import load_flow
from bgfast.experiments.pooling import generated_rows, simulated_rows
from bgfast.experiments.quadrature_config import FIRST, QuadratureConfig
from bgfast.experiments.quadrature_data import n_evaluations


@dataclass(frozen=True)
class Model:
    """A network after one mode of training."""

    network: str
    mode: str
    folder: Path

    @property
    def name(self) -> str:
        """Network and mode."""
        return f"{self.network} {self.mode}"

    @property
    def samples(self) -> Path:
        """File of its samples."""
        return self.folder / "samples.h5"

    @property
    def annealed(self) -> Path:
        """File of its annealed samples."""
        return self.folder / "annealed.h5"


@dataclass(frozen=True)
class Result:
    """Estimates of one model and how far they are from the exact values.

    Parameters
    ----------
    plain
        From importance weights; its ``delta_f`` has the sign of :class:`PlainEstimate`.
    estimators
        Estimator -> result, the free-energy difference being F(above the split) - F(below it).
    deviation
        Of the recommended profile from the exact one; ``None`` if no bin is filled.
    evaluations
        Energy evaluations that the recommended estimate took.
    annealed
        How annealing went, if there was any; its result is among the estimators.
    """

    plain: PlainEstimate
    estimators: dict[str, EstimatorResult]
    deviation: ProfileDeviation | None
    evaluations: EnergyEvaluations
    annealed: AnnealedEstimate | None = None

    @property
    def recommended(self) -> str:
        """Name of the estimator of the headline numbers."""
        return "bidirectional" if "bidirectional" in self.estimators else "plain"

    @property
    def delta_f(self) -> Estimate:
        """F(above the split) - F(below it) of the recommended estimator."""
        return self.estimators[self.recommended].delta_f

    @property
    def profile(self) -> Profile:
        """Profile of the recommended estimator."""
        return self.estimators[self.recommended].profile


def estimate(config: QuadratureConfig, data: StateData, model: Model, exact: Exact) -> Result:
    """Reweight the samples of ``model``; pool them with held-out walkers if there are any."""
    section = config.analysis
    plain = plain_estimate(model.samples, section)
    barrier = barrier_range(section, config.system.barrier)
    verdict = trust(plain.weights, plain.profile, barrier, plain.state_ess)
    difference = Estimate(-plain.delta_f.value, plain.delta_f.stderr)
    estimators = {"plain": EstimatorResult(difference, plain.profile, verdict)}
    if data.held_out.any():
        estimators["bidirectional"] = _bidirectional(config, data, model)
    annealed = None
    if model.annealed.exists():
        annealed = annealed_estimate(model.annealed, section, "above-below")
        estimators["annealed"] = annealed.result
    evaluations = EnergyEvaluations(
        data=n_evaluations(config),
        training=of_training(
            config.training.schedule_of(FIRST), config.training.schedule_of(model.mode)
        ),
        sampling=plain.weights.n,
    )
    result = Result(plain, estimators, None, evaluations, annealed)
    if not np.isfinite(result.profile.f).any():
        return result
    deviation = profile_deviation(result.profile, exact.profile, f_max=config.system.f_max)
    return Result(plain, estimators, deviation, evaluations, annealed)


def _bidirectional(config: QuadratureConfig, data: StateData, model: Model) -> EstimatorResult:
    section = config.analysis
    n_steps = config.training.schedule_of(model.mode).total_steps
    flow = load_flow(model.folder, n_steps, config.device)
    pool = Pool(
        generated_rows(model.samples, section.split),
        simulated_rows(data, flow, config.system.reaction_coordinate),
    )
    states = [f"{config.system.coordinate} {side} {section.split:g}" for side in "<>"]
    pooled = bidirectional(pool, states)
    profile = pooled.profile(section.bounds, section.n_bins)
    return EstimatorResult(pooled.delta_f(1, 0), profile, pooled.verdict)
