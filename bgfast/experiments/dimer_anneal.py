"""Annealing of the dimer: the labelling of its particles, and a target that is flat along d."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgfast import ops
from bgfast.energies import Bias, Biased, ParticleDimer
from bgfast.experiments.annealed import AnnealedTarget, draw_annealed
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_data import (
    N_FIXED,
    FlattenedData,
    left_to_right,
    outside_reference,
)
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow
from bgfast.sampling.anneal.random_numbers import random_rows
from bgfast.sampling.umbrella_estimate import without_double_well

_BEYOND = 0.2
"""How far a flat target goes beyond the starts of the two states."""
_POINTS = 400


class DimerLabelling:
    """The labelling of the solvent, and the order of the dimer's two, that the data cover.

    Parameters
    ----------
    data
        Data with a reference configuration; see :class:`bgfast.experiments.data.StateData`.
    """

    def __init__(self, data: StateData) -> None:
        if not data.reference.size:
            raise ValueError("the data follow no labelling: their reference is empty")
        self._reference = torch.from_numpy(data.reference.reshape(-1))

    def inside(self, x: Tensor) -> Tensor:
        """Return which rows of ``x[n, dim]`` follow the labelling, bool, ``[n]``."""
        return ~outside_reference(x, self._on_device_of(x))

    def canonical(self, x: Tensor) -> Tensor:
        """Return ``x[n, dim]`` with its particles relabelled."""
        return ops.relabel(left_to_right(x), self._on_device_of(x), n_fixed=N_FIXED)[0]

    def shuffled(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return ``x[n, dim]`` with the solvent, and the dimer's two, in a random order."""
        n, dim = x.shape
        n_particles = dim // 2
        order = random_rows(n, n_particles, rng, x.device).argsort(1)
        # The first two entries name the dimer's in the order they come; the others the solvent's.
        index = order.gather(1, (order >= N_FIXED).long().argsort(stable=True))
        particles = x.reshape(n, n_particles, 2)
        return torch.take_along_dim(particles, index[..., None], dim=1).reshape(n, dim)

    def _on_device_of(self, x: Tensor) -> Tensor:
        """Return the reference where ``x`` is; it is copied to a device once."""
        if self._reference.device != x.device:
            self._reference = self._reference.to(x.device)
        return self._reference


def dimer_target(
    config: DimerConfig, energy: ParticleDimer, data: StateData, simulated: StateData | None
) -> AnnealedTarget:
    """Return what the dimer is annealed to.

    A flat target lacks the double well V(d) between the two states and a little beyond; in its
    place is the constant force that balanced the flattened walkers, the mean of both states', if
    there are any in ``simulated``. Local moves, at that force alone, stay in this range.
    """
    labelling = DimerLabelling(data) if data.reference.size else None
    if config.anneal.bias == "none":
        return AnnealedTarget(energy, energy.dimer_distance, labelling)
    slope = float(simulated.slope.mean()) if isinstance(simulated, FlattenedData) else 0.0
    (low, high), (closed, opened) = config.analysis.bounds, config.data.start
    interval = (max(low, closed - _BEYOND), min(high, opened + _BEYOND))
    d = torch.linspace(*interval, _POINTS, dtype=torch.float64)
    removed = energy.double_well(d) - slope * (d - energy.params.d0)
    return AnnealedTarget(
        energy,
        energy.dimer_distance,
        labelling,
        biased=Biased(energy, energy.dimer_distance, Bias(d.numpy(), -removed.numpy())),
        local=without_double_well(energy, slope),
        interval=interval,
    )


def draw_annealed_dimer(
    flow: Flow,
    config: DimerConfig,
    energy: ParticleDimer,
    data: StateData,
    simulated: StateData | None,
    path: Path,
    tau: float,
    seed: int,
    reporter: Reporter,
) -> None:
    """Anneal the dimer into ``path``; see :func:`bgfast.experiments.annealed.draw_annealed`."""
    target = dimer_target(config, energy, data, simulated)
    title = f"anneal, tau = {tau:g}"
    draw_annealed(flow, target, path, config.anneal, tau, seed, title, reporter)
