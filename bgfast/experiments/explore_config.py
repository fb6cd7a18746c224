"""Configuration of the exploration experiments."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, FiniteFloat, model_validator

from bgfast.experiments.config import (
    AnalysisConfig,
    FlowConfig,
    RunConfig,
    RunTraining,
    SamplingConfig,
    Section,
)
from bgfast.experiments.exact import Exact
from bgfast.experiments.explore_landscape import Landscape
from bgfast.experiments.quadrature_systems import (
    DoubleWellSystem,
    KnownSystem,
    MuellerBrownSystem,
)
from bgfast.sampling.exploration import Moves
from bgfast.training.schedule import Stage


class ExplorationSection(Section):
    """How the population is made and moved.

    Parameters
    ----------
    n_population
        Configurations in it.
    jitter
        Standard deviation of the normal numbers added to the copies of the one configuration.
    spread
        The whitening of the flow is fitted to copies with this much jitter: the scale on which
        there may be something to find.
    max_iterations
        Exploration ends after so many iterations, whether the other state was found or not.
    after
        Iterations that follow the one in which it was found.
    found
        The other state counts as found when it holds this share of the population.
    n_steps
        Metropolis steps of every configuration in each iteration.
    step, fresh
        See :class:`bgfast.sampling.exploration.Moves`.
    """

    n_population: int = Field(2000, ge=100)
    jitter: float = Field(0.05, gt=0)
    spread: float = Field(1.0, gt=0)
    max_iterations: int = Field(20, ge=1)
    after: int = Field(2, ge=0)
    found: float = Field(0.01, gt=0, lt=0.5)
    n_steps: int = Field(50, ge=1)
    step: tuple[float, float] = (0.02, 2.0)
    fresh: float = 0.0

    def moves(self) -> Moves:
        """Return how configurations are proposed."""
        return Moves(self.step, self.fresh)

    @model_validator(mode="after")
    def _makes_moves(self) -> ExplorationSection:
        self.moves()
        return self


class ExplorationTraining(Section):
    """What the flow is trained with.

    Parameters
    ----------
    first
        Stages on the jittered copies: by example.
    iteration
        Stages of each iteration, on the population as it then is.
    final
        Stages after the exploration, on the last population.
    """

    first: tuple[Stage, ...] = Field(min_length=1)
    iteration: tuple[Stage, ...] = Field(min_length=1)
    final: tuple[Stage, ...] = Field(min_length=1)
    rc_bounds: tuple[float, float]
    rc_bandwidth: float | None = None
    log_every: int = Field(25, ge=1)
    checkpoint_every: int = Field(500, ge=1)

    def schedule(self, stages: tuple[Stage, ...], seed: int) -> RunTraining:
        """Return the training made of ``stages``."""
        shared = self.model_dump(exclude={"first", "iteration", "final"})
        return RunTraining.model_validate(
            {**shared, "seed": seed, "stages": [stage.model_dump() for stage in stages]}
        )

    @model_validator(mode="after")
    def _trainable(self) -> ExplorationTraining:
        for stages in (self.first, self.iteration, self.final):
            self.schedule(stages, seed=0)
        return self


class ExploreConfig(RunConfig):
    """What every exploration has."""

    exploration: ExplorationSection = ExplorationSection()
    flow: FlowConfig = FlowConfig(hidden=(100, 100))
    training: ExplorationTraining
    sampling: SamplingConfig = SamplingConfig()
    analysis: AnalysisConfig

    @model_validator(mode="after")
    def _at_tau_one(self) -> ExploreConfig:
        if self.sampling.tau != (1.0,):
            raise ValueError(
                f"sampling.tau must be [1.0] for an exploration, got {list(self.sampling.tau)}"
            )
        return self


class ExploreKnownConfig(ExploreConfig):
    """Exploration of a system whose profile is known by quadrature.

    Parameters
    ----------
    start
        The one configuration that is known.
    """

    experiment: str
    system: KnownSystem
    start: tuple[FiniteFloat, ...]

    def landscape(self) -> Landscape:
        """Return what is explored, and from where."""
        system, start = self.system, torch.tensor(self.start)
        r = float(system.reaction_coordinate(start))
        return Landscape(
            energy=system.energy(),
            start=start,
            coordinate=system.reaction_coordinate,
            name=system.coordinate,
            label=system.axes[system.along],
            where=f"{system.coordinate} = {r:g}",
            window=system.window,
            plane=system.axes,
        )

    def exact(self) -> Exact:
        """Return what quadrature says."""
        section = self.analysis
        return self.system.exact(1.0, section.bounds, section.n_bins, section.split)

    @model_validator(mode="after")
    def _starts_somewhere(self) -> ExploreKnownConfig:
        dim = self.system.energy().dim
        if len(self.start) != dim:
            raise ValueError(f"start must hold {dim} coordinates, got {list(self.start)}")
        return self


class ExploreDoubleWellConfig(ExploreKnownConfig):
    """Exploration of the double well."""

    experiment: Literal["explore-double-well"]
    system: DoubleWellSystem = DoubleWellSystem()
    start: tuple[FiniteFloat, ...] = (-1.8, 0.0)
    analysis: AnalysisConfig = AnalysisConfig(bounds=(-2.5, 2.5), n_bins=50, split=0.0)


class ExploreMuellerConfig(ExploreKnownConfig):
    """Exploration of the Mueller-Brown surface."""

    experiment: Literal["explore-mueller"]
    system: MuellerBrownSystem = MuellerBrownSystem()
    start: tuple[FiniteFloat, ...] = (-0.5, 1.5)
    analysis: AnalysisConfig = AnalysisConfig(bounds=(-0.1, 1.7), n_bins=45, split=0.72)


EXPLORED: dict[str, type[ExploreKnownConfig]] = {
    "explore-double-well": ExploreDoubleWellConfig,
    "explore-mueller": ExploreMuellerConfig,
}
"""Explorations that quadrature judges, by the name in the configuration."""
