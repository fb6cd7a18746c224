"""Configuration of an experiment on a system that is known by quadrature."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    StringConstraints,
    field_validator,
    model_validator,
)

from bgfast.experiments.annealed import AnnealConfig
from bgfast.experiments.config import (
    AnalysisConfig,
    FlowConfig,
    RunConfig,
    RunTraining,
    SamplingConfig,
    Section,
)
from bgfast.experiments.quadrature_systems import (
    DoubleWell1DSystem,
    DoubleWellSystem,
    KnownSystem,
    MuellerBrownSystem,
)
from bgfast.flows import LAYERS
from bgfast.flows.parser import parse
from bgfast.training.schedule import Stage

FIRST = "first"
"""Folder of the training that all modes share."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+_-]+$")]
"""A name that can be a folder."""


def _as_point(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) else value


Point = Annotated[tuple[FiniteFloat, ...], BeforeValidator(_as_point), Field(min_length=1)]
"""A configuration; coordinates that are not given are 0, and a single number is the first one."""


class QuadratureData(Section):
    """Two disconnected Metropolis runs, one from each start, to train on.

    Parameters
    ----------
    start
        Where they start.
    n_steps, stride
        Steps of each run, and steps between kept frames.
    step
        Standard deviation of the proposal.
    held_out
        Further walkers from each start, confined to its side of the split, that are kept from
        training: with them there is a bidirectional estimate too.
    burn_in
        Steps of the held-out walkers before their first frame.
    """

    start: tuple[Point, Point]
    n_steps: int = Field(10_000, ge=1)
    stride: int = Field(10, ge=1)
    step: float = Field(0.1, gt=0)
    held_out: int = Field(0, ge=0)
    burn_in: int = Field(1000, ge=0)


class QuadratureTraining(Section):
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

    def schedule_of(self, part: str, seed: int = 0) -> RunTraining:
        """Return the training of a mode, or of :data:`FIRST`."""
        return self.schedule(self.first if part == FIRST else self.modes[part], seed)

    @model_validator(mode="after")
    def _modes_are_trainable(self) -> QuadratureTraining:
        if FIRST in self.modes:
            raise ValueError(f"a mode must not be called {FIRST!r}: that is the shared training")
        for stages in (self.first, *self.modes.values()):
            self.schedule(stages, seed=0)
        return self


class QuadratureConfig(RunConfig):
    """A whole run: every network in every training mode.

    Parameters
    ----------
    networks
        Architecture strings, compared side by side.
    flow
        What the networks share; its ``architecture`` is not used.
    anneal
        Annealed samples of every network in every mode.
    """

    experiment: str
    networks: tuple[str, ...] = Field(min_length=1)
    system: KnownSystem
    data: QuadratureData
    flow: FlowConfig = FlowConfig(hidden=(100, 100))
    training: QuadratureTraining
    sampling: SamplingConfig = SamplingConfig()
    anneal: AnnealConfig = AnnealConfig()
    analysis: AnalysisConfig

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
            raise ValueError(f"tau must be [1.0] for this experiment, got {list(sampling.tau)}")
        return sampling

    @model_validator(mode="after")
    def _starts_fit(self) -> QuadratureConfig:
        dim, along = self.system.energy().dim, self.system.along
        if too_long := [point for point in self.data.start if len(point) > dim]:
            raise ValueError(
                f"data.start must hold at most {dim} coordinates, got {list(too_long[0])}"
            )
        r = [(*point, *(0.0,) * dim)[along] for point in self.data.start]
        split = self.analysis.split
        if self.data.held_out and (r[0] >= split) == (r[1] >= split):
            raise ValueError(
                f"data.start must lie on both sides of analysis.split = {split:g} for held-out "
                f"walkers, got {r[0]:g} and {r[1]:g}"
            )
        return self


class DoubleWellData(QuadratureData):
    """Runs in both wells."""

    start: tuple[Point, Point] = ((-1.8,), (1.8,))


class MuellerBrownData(QuadratureData):
    """Runs in the two deepest minima."""

    start: tuple[Point, Point] = ((-0.5, 1.5), (0.5, 0.0))


class DoubleWellConfig(QuadratureConfig):
    """The double well in two or more dimensions."""

    experiment: Literal["double-well"]
    networks: tuple[str, ...] = Field(("N10S", "R10"), min_length=1)
    system: DoubleWellSystem = DoubleWellSystem()
    data: DoubleWellData = DoubleWellData()
    analysis: AnalysisConfig = AnalysisConfig(bounds=(-2.5, 2.5), n_bins=100, split=0.0)


class DoubleWell1DConfig(QuadratureConfig):
    """The double well in one dimension; coupling layers need two, so its network is M."""

    experiment: Literal["double-well-1d"]
    networks: tuple[str, ...] = Field(("M",), min_length=1)
    system: DoubleWell1DSystem = DoubleWell1DSystem()
    data: DoubleWellData = DoubleWellData()
    flow: FlowConfig = FlowConfig(hidden=(32,))
    analysis: AnalysisConfig = AnalysisConfig(bounds=(-2.5, 2.5), n_bins=100, split=0.0)


class MuellerBrownConfig(QuadratureConfig):
    """The Mueller-Brown surface."""

    experiment: Literal["mueller-brown"]
    networks: tuple[str, ...] = Field(("R8",), min_length=1)
    system: MuellerBrownSystem = MuellerBrownSystem()
    data: MuellerBrownData = MuellerBrownData()
    analysis: AnalysisConfig = AnalysisConfig(bounds=(-0.1, 1.7), n_bins=45, split=0.72)


CONFIGS: dict[str, type[QuadratureConfig]] = {
    "double-well": DoubleWellConfig,
    "double-well-1d": DoubleWell1DConfig,
    "mueller-brown": MuellerBrownConfig,
}
"""Experiments by name; a further system is an entry here and one in ``quadrature_systems``."""
