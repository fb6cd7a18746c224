"""The double well: networks and training modes side by side, judged by exact quadrature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from bgfast.energies import Biased, DoubleWell
from bgfast.experiments.annealed import AnnealedTarget, draw_annealed, flattening
from bgfast.experiments.config import RunTraining
from bgfast.experiments.data import StateData
from bgfast.experiments.double_well_config import FIRST as _FIRST
from bgfast.experiments.double_well_config import DoubleWellConfig
from bgfast.experiments.double_well_report import Model, analyse
from bgfast.experiments.estimates import plain_estimate
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import build_flow, draw, load_flow, seed_for, train
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow
from bgfast.sampling import MetropolisSampler


def run(config: DoubleWellConfig, folder: RunFolder, reporter: Reporter) -> None:
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


def analyse_run(config: DoubleWellConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Compare the models of a run from their samples."""
    energy = config.system.energy()
    data = StateData.load(folder.data, energy.dim)
    with folder.timed("analysis"):
        analyse(config, energy, data, list(models(config, folder)), folder, reporter)


def models(config: DoubleWellConfig, folder: RunFolder) -> Iterator[Model]:
    """Yield every network in every mode, with the folder of each."""
    for network in config.networks:
        for mode in config.training.modes:
            yield Model(network, mode, _folder_of(folder, network) / mode)


def _data(
    config: DoubleWellConfig, energy: DoubleWell, folder: RunFolder, reporter: Reporter
) -> StateData:
    if folder.data.exists():
        return StateData.load(folder.data, energy.dim)
    start = np.zeros((2, energy.dim))
    start[:, 0] = config.data.start
    with reporter.stage("simulate both wells", config.data.n_steps) as advance:
        sampler = MetropolisSampler(
            energy,
            start,
            step=config.data.step,
            moves="all",
            seed=seed_for(config.seed, "walkers"),
        )
        trajectory = sampler.run(config.data.n_steps, stride=config.data.stride)
        advance(config.data.n_steps)
    data = StateData(
        x=trajectory.x,
        energy=trajectory.energy,
        state=np.arange(2),
        held_out=np.zeros(2, dtype=bool),
        reference=np.empty((0, 1)),
    )
    data.save(folder.data)
    return StateData.load(folder.data, energy.dim)  # as a resumed run would see it


def _train_first(
    config: DoubleWellConfig,
    energy: DoubleWell,
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
    config: DoubleWellConfig,
    energy: DoubleWell,
    data: StateData,
    model: Model,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    n_first = sum(stage.steps for stage in _schedule(config, _FIRST, 0).stages)
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
            columns=_sample_columns,
            attributes={"system": "double-well", "model": model.name},
        )


def _anneal(config: DoubleWellConfig, energy: DoubleWell, model: Model, reporter: Reporter) -> None:
    """Anneal from a model; a flat target is flattened by what its plain weights say."""
    n_steps = sum(stage.steps for stage in _schedule(config, model.mode, 0).stages)
    biased = None
    if config.anneal.bias == "flatten":
        bias = flattening(plain_estimate(model.samples, config.analysis).profile)
        biased = None if bias is None else Biased(energy, _first_coordinate, bias)
    draw_annealed(
        load_flow(model.folder, n_steps, config.device),
        AnnealedTarget(energy, _first_coordinate, biased=biased, local=energy),
        model.annealed,
        config.anneal,
        1.0,
        seed_for(config.seed, f"anneal {model.name}"),
        f"anneal {model.name}",
        reporter,
    )


def _train(
    config: DoubleWellConfig,
    energy: DoubleWell,
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
            _schedule(config, part, seed),
            _folder_of(folder, network) / part,
            f"train {network} {'by example' if part == _FIRST else part}",
            reporter,
            data=frames,
            validation=None,
            reaction_coordinate=_first_coordinate,
        )


def _schedule(config: DoubleWellConfig, part: str, seed: int) -> RunTraining:
    stages = config.training.first if part == _FIRST else config.training.modes[part]
    return config.training.schedule(stages, seed)


def _first_coordinate(x: Tensor) -> Tensor:
    return x[..., 0]


def _sample_columns(x: Tensor) -> dict[str, np.ndarray]:
    return {"r": _first_coordinate(x).cpu().numpy(), "discard": np.zeros(len(x), dtype=bool)}


def _folder_of(folder: RunFolder, network: str) -> Path:
    return folder.path / network.replace("(", "_").replace(")", "_")
