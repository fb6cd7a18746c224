"""Configuration of the exploration of the dimer."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bgfast import ops
from bgfast.energies import ParticleDimer
from bgfast.experiments.config import AnalysisConfig, FlowConfig
from bgfast.experiments.dimer_config import (
    DimerAnneal,
    DimerConfig,
    DimerData,
    DimerSystem,
    DimerWindows,
)
from bgfast.experiments.dimer_data import N_FIXED, left_to_right
from bgfast.experiments.explore_config import ExploreConfig
from bgfast.experiments.explore_landscape import Landscape
from bgfast.experiments.pipeline import seed_for
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.exploration import Allowed


class ExploreDimerConfig(ExploreConfig):
    """Exploration of the dimer from one configuration in its closed state.

    Parameters
    ----------
    start
        Dimer distance of a lattice configuration, below the split.
    settle
        Sweeps of one walker in the closed state that turn it into a typical configuration, the one
        that exploration starts from.
    reference, system, windows
        As for the dimer, see :class:`bgfast.experiments.dimer_config.DimerConfig`.
    """

    experiment: Literal["explore-dimer"]
    reference: Literal["compute", "cached", "none"] = "cached"
    system: DimerSystem = DimerSystem()
    start: float = Field(0.95, gt=0)
    settle: int = Field(2000, ge=50)
    flow: FlowConfig = FlowConfig()
    windows: DimerWindows = DimerWindows()
    analysis: AnalysisConfig = AnalysisConfig(bounds=(0.5, 2.5), split=1.5)

    def landscape(self) -> Landscape:
        """Return what is explored, and from where."""
        energy = self.system.energy()
        start = self._settled(energy)
        return Landscape(
            energy=energy,
            start=start,
            coordinate=energy.dimer_distance,
            name="d",
            label="dimer distance d",
            where=f"d = {float(energy.dimer_distance(start)):.2f}",
            labelling=DimerLabelling(),
        )

    def as_dimer(self) -> DimerConfig:
        """Return the run of the dimer that estimates from the last training."""
        schedule = self.training.schedule(self.training.final, 0)
        return DimerConfig(
            experiment="dimer",
            seed=self.seed,
            device=self.device,
            reference=self.reference,
            system=self.system,
            data=DimerData(held_out=0, flat_walkers=0),
            flow=self.flow,
            training=schedule,
            sampling=self.sampling,
            windows=self.windows,
            anneal=DimerAnneal(n_samples=0),
            analysis=self.analysis,
        )

    def _settled(self, energy: ParticleDimer) -> Tensor:
        lattice = energy.lattice_configuration(self.start).numpy()
        sampler = MetropolisSampler(
            energy,
            lattice[None],
            moves="particle",
            seed=seed_for(self.seed, "start"),
            interval=(0.0, self.analysis.split),
        )
        sampler.adapt(self.settle // 2)
        rest = self.settle - self.settle // 2
        return left_to_right(torch.from_numpy(sampler.run(rest, stride=rest).x[0, -1]))

    @model_validator(mode="after")
    def _starts_closed(self) -> ExploreDimerConfig:
        if not self.start < self.analysis.split:
            raise ValueError(
                f"start must be a closed dimer, below analysis.split = {self.analysis.split}, "
                f"got {self.start}"
            )
        self.as_dimer()
        return self


class DimerLabelling:
    """Solvent labelled as in the mean of the population, the dimer's two from left to right."""

    def relabelled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the population relabelled, and its mean; see :class:`Labelling`."""
        ordered = left_to_right(x).double().cpu()
        reference = ordered.mean(0)
        relabelled = ops.relabel(ordered, reference, n_fixed=N_FIXED)[0]
        return relabelled.to(x), reference

    def region(self, reference: Tensor) -> Allowed:
        """Return the configurations that are labelled like ``reference``."""

        def allowed(x: Tensor) -> Tensor:
            canonical = ops.is_canonical(x.double().cpu(), reference, n_fixed=N_FIXED)
            return canonical & (x[:, 0] <= x[:, 2]).cpu()

        return allowed
