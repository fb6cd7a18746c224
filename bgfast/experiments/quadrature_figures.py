"""Figures of a system known by quadrature."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure

from bgfast.analysis.figures import (
    Generated,
    annealing_schedule,
    comparison,
    densities,
    energy_surface,
    free_energy,
    loss_curves,
    read_metrics,
    save,
    weight_diagnostics,
)
from bgfast.energies import Energy
from bgfast.experiments.data import StateData
from bgfast.experiments.exact import Exact
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.quadrature_estimates import Model, Result
from bgfast.experiments.quadrature_systems import KnownSystem
from bgfast.sampling.store import read_columns
from bgfast.training.trainer import METRICS

_SHOWN = 100_000


def write_figures(
    system: KnownSystem,
    energy: Energy,
    data: StateData,
    models: list[Model],
    results: dict[str, Result],
    exact: Exact,
    folder: RunFolder,
) -> dict[str, str]:
    """Draw and save all figures; the last model is shown in detail. Return name -> path."""
    main, label = models[-1], system.axes[system.along]
    result = results[main.name]
    (log_w,) = next(read_columns(main.samples, "log_w", chunk=_SHOWN))
    generated: dict[str, dict[str, Generated]] = {}
    for model in models:
        (r,) = next(read_columns(model.samples, "r", chunk=_SHOWN))
        cell = Generated(r, results[model.name].profile)
        generated.setdefault(model.network, {})[model.mode] = cell
    pictures = {
        "comparison": comparison(generated, exact.profile, coordinate=label),
        "profile": free_energy(
            result.profile, {"exact": exact.profile}, coordinate=label, label=main.name
        ),
        "weights": weight_diagnostics(log_w, result.plain.weights),
        "training": loss_curves(
            read_metrics(main.folder / METRICS),
            {"ml": "by example: -log q", "kl": "by energy: KL", "rc": "along R: E[log p]"},
        ),
    }
    if energy.dim == 1:
        pictures["densities"] = densities(
            generated[main.network], exact.profile, partial(_energy_along, energy), coordinate=label
        )
    else:
        pictures["surface"] = _surface(system, energy, data, models, main.network)
    if result.annealed is not None:
        pictures["anneal"] = annealing_schedule(result.annealed.record)
    folder.figures.mkdir(exist_ok=True)
    paths = {name: str(folder.figures / f"{name}.png") for name in pictures}
    for name, figure in pictures.items():
        save(figure, paths[name])
    return paths


def _surface(
    system: KnownSystem, energy: Energy, data: StateData, models: list[Model], network: str
) -> Figure:
    """Draw the first two coordinates of what was simulated and of what ``network`` generated."""
    samples = {"simulated": data.frames(held_out=False).numpy()[:, :2]}
    for model in models:
        if model.network == network:
            (x,) = next(read_columns(model.samples, "x", chunk=_SHOWN))
            samples[model.name] = x[:, :2]

    def in_the_plane(x: np.ndarray) -> np.ndarray:
        rows = torch.zeros(len(x), energy.dim, dtype=torch.float64)
        rows[:, :2] = torch.from_numpy(np.ascontiguousarray(x))
        u: np.ndarray = energy.energy(rows).numpy()
        return u

    return energy_surface(in_the_plane, samples, bounds=system.window, coordinates=system.axes)


def _energy_along(energy: Energy, x: np.ndarray) -> np.ndarray:
    u: np.ndarray = energy.energy(torch.from_numpy(x)[:, None]).numpy()
    return u
