"""Configuration of the dimer experiment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bgfast.energies import ParticleDimer
from bgfast.energies.particle_dimer import PRESETS
from bgfast.experiments.annealed import AnnealConfig
from bgfast.experiments.config import (
    AnalysisConfig,
    FlowConfig,
    RunConfig,
    RunTraining,
    SamplingConfig,
    Section,
    check_temperatures,
)


class DimerSystem(Section):
    """The system: a published parameter set, and whatever is to differ from it."""

    preset: Literal["default", "bgflow", "original", "figure"] = "default"
    n_solvent: int = Field(36, ge=0)
    eps: float | None = None
    sigma: float | None = None
    k_d: float | None = None
    d0: float | None = None
    a: float | None = None
    b: float | None = None
    c: float | None = None
    l: float | None = None  # noqa: E741 the paper's name of the box half width
    k_box: float | None = None

    def energy(self) -> ParticleDimer:
        """Return the system as an energy."""
        changes = self.model_dump(exclude={"preset", "n_solvent"}, exclude_none=True)
        return ParticleDimer(n_solvent=self.n_solvent, **(PRESETS[self.preset] | changes))

    @model_validator(mode="after")
    def _makes_an_energy(self) -> DimerSystem:
        self.energy()
        return self


class DimerData(Section):
    """Simulation of the two states, apart from each other.

    Parameters
    ----------
    tau
        Relative temperatures that are simulated to train on.
    n_walkers
        Independent walkers in each state at each temperature.
    burn_in
        Sweeps before the first kept frame; step sizes are adapted in the first half.
    n_frames, stride
        Frames kept of each walker, and sweeps between them.
    start
        Dimer distances at which the closed and the open walkers start.
    held_out
        Share of the walkers that is kept from training, to validate it.
    relabel
        Relabel identical particles: the solvent of every frame to a common reference, the dimer's
        two from left to right.
    flat_walkers
        Further walkers in each state at each sampled temperature, kept for the estimate and
        simulated with a constant force in place of the dimer's own double well, so that they cover
        the barrier. 0: the held-out walkers serve the estimate.
    """

    tau: tuple[float, ...] = (1.0,)
    n_walkers: int = Field(16, ge=2)
    burn_in: int = Field(2000, ge=50)
    n_frames: int = Field(1000, ge=1)
    stride: int = Field(20, ge=1)
    start: tuple[float, float] = (0.95, 2.05)
    held_out: float = Field(0.25, ge=0, lt=1)
    relabel: bool = True
    flat_walkers: int = Field(16, ge=0)

    @model_validator(mode="after")
    def _temperatures(self) -> DimerData:
        check_temperatures(self.tau)
        return self

    @property
    def main_tau(self) -> float:
        """The temperature nearest to 1; all data follow the labelling found at it."""
        return min(self.tau, key=lambda tau: abs(tau - 1))


class DimerWindows(Section):
    """Short simulations under harmonic biases along d, started from generated configurations.

    Parameters
    ----------
    n_windows
        Windows, evenly spread over the bounds of the analysis. 0: none.
    walkers
        Independent walkers in each window.
    spring
        Bias in k_B T: spring/2 (d - centre)^2, in place of the dimer's own double well.
    burn_in
        Sweeps before the first kept frame; step sizes are adapted in the first half.
    n_frames, stride
        Frames kept of each walker, and sweeps between them.
    """

    n_windows: int = Field(24, ge=0)
    walkers: int = Field(16, ge=2)
    spring: float = Field(120.0, gt=0, allow_inf_nan=False)
    burn_in: int = Field(2000, ge=50)
    n_frames: int = Field(200, ge=1)
    stride: int = Field(100, ge=1)


class DimerAnneal(AnnealConfig):
    """Annealing with defaults for the dimer: towards a target that is flat along d.

    Packings of the solvent do not relax within a stage, however many there are. So the stages are
    few, and sweeps of single-particle moves follow, 4000 in all, on a target along which d forgets
    within some 1200 sweeps on which side it started.
    """

    draws: int = Field(8, ge=1)
    leapfrog: int = Field(3, ge=1)
    cess: float = Field(0.9, gt=0, lt=1)
    sweeps: int = Field(10, ge=0, multiple_of=2)
    sweeps_from: float = Field(0.45, ge=0, le=1)
    hmc_until: float = Field(0.6, ge=0, le=1)
    final_sweeps: int = Field(500, ge=0, multiple_of=2)
    final_frames: int = Field(8, ge=1)
    bias: Literal["none", "flatten"] = "flatten"


class DimerConfig(RunConfig):
    """A whole run of the dimer.

    Parameters
    ----------
    reference
        Umbrella sampling to compare with: ``"compute"`` it unless it is in the cache, take it only
        if it is ``"cached"``, or ``"none"``.
    anneal
        Annealed samples at tau = 1.
    """

    experiment: Literal["dimer"]
    reference: Literal["compute", "cached", "none"] = "cached"
    system: DimerSystem = DimerSystem()
    data: DimerData = DimerData()
    flow: FlowConfig = FlowConfig()
    training: RunTraining
    sampling: SamplingConfig = SamplingConfig()
    anneal: DimerAnneal = DimerAnneal()
    windows: DimerWindows = DimerWindows()
    analysis: AnalysisConfig = AnalysisConfig(bounds=(0.5, 2.5), split=1.5)

    @model_validator(mode="after")
    def _starts_in_its_states(self) -> DimerConfig:
        if self.analysis.bounds[0] < 0:
            raise ValueError(
                f"analysis.bounds are dimer distances, at least 0, got {list(self.analysis.bounds)}"
            )
        closed, opened = self.data.start
        if not 0 < closed < self.analysis.split < opened:
            raise ValueError(
                f"data.start must be (closed, open) distances on either side of analysis.split = "
                f"{self.analysis.split}, got {[closed, opened]}"
            )
        low, high = self.analysis.bounds
        if self.data.flat_walkers and not low < closed < opened < high:
            raise ValueError(
                f"data.start must lie within analysis.bounds = {[low, high]}, "
                f"got {[closed, opened]}; or set data.flat_walkers = 0"
            )
        return self
