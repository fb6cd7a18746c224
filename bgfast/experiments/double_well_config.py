"""Configuration of the double-well experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints, field_validator, model_validator

from bgfast.energies import DoubleWell
from bgfast.experiments.annealed import AnnealConfig
from bgfast.experiments.config import (
    AnalysisConfig,
    FlowConfig,
    RunConfig,
    RunTraining,
    SamplingConfig,
    Section,
)
from bgfast.flows import LAYERS
from bgfast.flows.parser import parse
from bgfast.training.schedule import Stage

FIRST = "first"
"""Folder of the training that all modes share."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+_-]+$")]
"""A name that can be a folder."""


class DoubleWellSystem(Section):
    """Coefficients of the double well, see :class:`bgfast.energies.DoubleWell`."""

    dim: int = Field(2, ge=2)
    a4: float = Field(1.0, gt=0)
    a2: float = 6.0
    a1: float = 1.0
    k: float = Field(1.0, gt=0)

    def energy(self) -> DoubleWell:
        """Return the system as an energy."""
        return DoubleWell(self.dim, self.a4, self.a2, self.a1, self.k)


class DoubleWellData(Section):
    """Two disconnected Metropolis runs, one from each start.

    Parameters
    ----------
    start
        Values of x1 at which they start.
    n_steps, stride
        Steps of each run, and steps between kept frames.
    step
        Standard deviation of the proposal.
    """

    start: tuple[FiniteFloat, FiniteFloat] = (-1.8, 1.8)
    n_steps: int = Field(10_000, ge=1)
    stride: int = Field(10, ge=1)
    step: float = Field(0.1, gt=0)


class DoubleWellTraining(Section):
    """Training by example first, then each mode from there.

    Parameters
    ----------
    first
        Stages that all modes share.
    modes
        Name of a mode -> its stages.
    steps
        Total number of steps of the first part and of each mode; as the stages say, if not given.
    """

    first: tuple[Stage, ...] = Field(min_length=1)
    modes: dict[Name, tuple[Stage, ...]] = Field(min_length=1)
    rc_bounds: tuple[float, float] = (-2.5, 2.5)
    rc_bandwidth: float | None = None
    rc_estimator: Literal["kde", "histogram"] = "kde"
    log_every: int = Field(25, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    steps: int | None = Field(None, ge=1)

    def schedule(self, stages: tuple[Stage, ...], seed: int) -> RunTraining:
        """Return the training made of ``stages``."""
        shared = self.model_dump(exclude={"first", "modes"})
        return RunTraining.model_validate(
            {**shared, "seed": seed, "stages": [stage.model_dump() for stage in stages]}
        )

    @model_validator(mode="after")
    def _modes_are_trainable(self) -> DoubleWellTraining:
        if FIRST in self.modes:
            raise ValueError(f"a mode must not be called {FIRST!r}: that is the shared training")
        for stages in (self.first, *self.modes.values()):
            self.schedule(stages, seed=0)
        return self


class DoubleWellConfig(RunConfig):
    """A whole run of the double well: every network in every training mode.

    Parameters
    ----------
    networks
        Architecture strings, compared side by side.
    flow
        What the networks share; its ``architecture`` is not used.
    anneal
        Annealed samples of every network in every mode.
    """

    experiment: Literal["double-well"]
    networks: tuple[str, ...] = Field(("N10S", "R10"), min_length=1)
    system: DoubleWellSystem = DoubleWellSystem()
    data: DoubleWellData = DoubleWellData()
    flow: FlowConfig = FlowConfig(hidden=(100, 100))
    training: DoubleWellTraining
    sampling: SamplingConfig = SamplingConfig()
    anneal: AnnealConfig = AnnealConfig()
    analysis: AnalysisConfig = AnalysisConfig(bounds=(-2.5, 2.5), n_bins=100, split=0.0)

    @field_validator("networks")
    @classmethod
    def _parse(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for spec in networks:
            parse(spec, LAYERS)
        if len(set(networks)) < len(networks):
            raise ValueError(f"networks must differ from each other, got {list(networks)}")
        return networks

    @field_validator("sampling")
    @classmethod
    def _at_tau_one(cls, sampling: SamplingConfig) -> SamplingConfig:
        if sampling.tau != (1.0,):
            raise ValueError(f"tau must be [1.0] for the double well, got {list(sampling.tau)}")
        return sampling
