"""Systems known by quadrature: networks and training modes side by side, judged by exact values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from bgfast.energies import Biased, Energy
from bgfast.experiments.annealed import AnnealedTarget, draw_annealed, flattening
from bgfast.experiments.data import StateData
from bgfast.experiments.estimates import plain_estimate
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import build_flow, draw, load_flow, seed_for, train
from bgfast.experiments.progress import Reporter
from bgfast.experiments.quadrature_config import FIRST as _FIRST
from bgfast.experiments.quadrature_config import QuadratureConfig
from bgfast.experiments.quadrature_data import simulate
from bgfast.experiments.quadrature_estimates import Model
from bgfast.experiments.quadrature_report import analyse
from bgfast.flows import Flow


def run(config: QuadratureConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Simulate, train every network in every mode, draw, compare; finished parts are skipped."""
    energy = config.system.energy()
    with folder.timed("data"):
        data = _data(config, energy, folder, reporter)
    for network in config.networks:
        _train_first(config, energy, data, network, folder, reporter)
    for model in models(config, folder):
        _train_and_draw(config, energy, data, model, folder, reporter)
    if config.anneal.n_samples:
        with folder.timed("annealing"):
            for model in models(config, folder):
                _anneal(config, energy, model, reporter)
    analyse_run(config, folder, reporter)


def analyse_run(config: QuadratureConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Compare the models of a run from their samples."""
    energy = config.system.energy()
    data = StateData.load(folder.data, energy.dim)
    with folder.timed("analysis"):
        analyse(config, energy, data, list(models(config, folder)), folder, reporter)


def models(config: QuadratureConfig, folder: RunFolder) -> Iterator[Model]:
    """Yield every network in every mode, with the folder of each."""
    for network in config.networks:
        for mode in config.training.modes:
            yield Model(network, mode, _folder_of(folder, network) / mode)


def _data(
    config: QuadratureConfig, energy: Energy, folder: RunFolder, reporter: Reporter
) -> StateData:
    if folder.data.exists():
        return StateData.load(folder.data, energy.dim)
    data = simulate(config, energy, reporter)
    data.save(folder.data)
    return StateData.load(folder.data, energy.dim)  # as a resumed run would see it


def _train_first(
    config: QuadratureConfig,
    energy: Energy,
    data: StateData,
    network: str,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    frames = data.frames(held_out=False)
    settings = config.flow.model_copy(update={"architecture": network})
    flow = build_flow(settings, energy.dim, seed_for(config.seed, network), frames, n_dim=1)
    _train(config, energy, frames, flow, _FIRST, network, folder, reporter)


def _train_and_draw(
    config: QuadratureConfig,
    energy: Energy,
    data: StateData,
    model: Model,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    n_first = sum(stage.steps for stage in config.training.schedule_of(_FIRST).stages)
    flow = load_flow(_folder_of(folder, model.network) / _FIRST, n_first, config.device)
    frames = data.frames(held_out=False)
    _train(config, energy, frames, flow, model.mode, model.network, folder, reporter)
    with folder.timed("sampling"):
        draw(
            flow,
            energy,
            model.folder / "samples.h5",
            config.sampling,
            1.0,
            seed_for(config.seed, f"latent {model.name}"),
            f"draw {model.name}",
            reporter,
            columns=lambda x: _sample_columns(config, x),
            attributes={"system": config.experiment, "model": model.name},
        )


def _anneal(config: QuadratureConfig, energy: Energy, model: Model, reporter: Reporter) -> None:
    """Anneal from a model; a flat target is flattened by what its plain weights say."""
    along, biased = config.system.reaction_coordinate, None
    if config.anneal.bias == "flatten":
        bias = flattening(plain_estimate(model.samples, config.analysis).profile)
        biased = None if bias is None else Biased(energy, along, bias)
    draw_annealed(
        load_flow(model.folder, config.training.schedule_of(model.mode).total_steps, config.device),
        AnnealedTarget(energy, along, biased=biased, local=energy),
        model.annealed,
        config.anneal,
        1.0,
        seed_for(config.seed, f"anneal {model.name}"),
        f"anneal {model.name}",
        reporter,
    )


def _train(
    config: QuadratureConfig,
    energy: Energy,
    frames: Tensor,
    flow: Flow,
    part: str,
    network: str,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    seed = seed_for(config.seed, f"train {network} {part}")
    with folder.timed("training"):
        train(
            flow.to(config.device),
            energy,
            config.training.schedule_of(part, seed),
            _folder_of(folder, network) / part,
            f"train {network} {'by example' if part == _FIRST else part}",
            reporter,
            data=frames,
            validation=None,
            reaction_coordinate=config.system.reaction_coordinate,
        )


def _sample_columns(config: QuadratureConfig, x: Tensor) -> dict[str, np.ndarray]:
    r = config.system.reaction_coordinate(x)
    return {"r": r.cpu().numpy(), "discard": np.zeros(len(x), dtype=bool)}


def _folder_of(folder: RunFolder, network: str) -> Path:
    return folder.path / network.replace("(", "_").replace(")", "_")
