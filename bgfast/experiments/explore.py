"""Exploration of a system whose exact profile is known: from one configuration to all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from bgfast.errors import UserError
from bgfast.experiments.estimates import plain_estimate, worth_sentences
from bgfast.experiments.explore_config import ExploreConfig, ExploreKnownConfig
from bgfast.experiments.explore_landscape import Landscape
from bgfast.experiments.explore_loop import explore, load_exploration
from bgfast.experiments.explore_report import analyse
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import draw, load_flow, seed_for, train, usable_device
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow


def run(config: ExploreKnownConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Explore, train once more, draw, reweight, compare; finished stages are not repeated."""
    landscape = config.landscape()
    flow = explore_and_train(config, landscape, folder, reporter)
    with folder.timed("sampling"):
        seed = seed_for(config.seed, "latent")
        _draw(config, landscape, flow, folder.samples_at(1.0), config.sampling.n, seed, reporter)
    analyse_run(config, folder, reporter)


def analyse_run(config: ExploreKnownConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Estimate and report from the files of a run whose samples are drawn."""
    with folder.timed("analysis"):
        analyse(config, load_exploration(folder.path), folder, reporter)


def sample_run(
    config: ExploreKnownConfig,
    folder: RunFolder,
    out: Path,
    *,
    n_samples: int | None,
    tau: float,
    seed: int,
    anneal: bool,
    reporter: Reporter,
) -> list[str]:
    """Draw and weigh more samples from the flow of a run; return what the weights are worth.

    Raises
    ------
    UserError
        If they are to be annealed, which is not needed here.
    """
    if anneal:
        raise UserError(f"{folder.path}: --anneal is for the dimer; plain weights suffice here")
    steps = sum(stage.steps for stage in config.training.final)
    flow = load_flow(folder.path, steps, usable_device(config.device))
    n_samples = n_samples or config.sampling.n
    _draw(config, config.landscape(), flow, out, n_samples, seed, reporter, tau)
    return worth_sentences(plain_estimate(out, config.analysis))


def explore_and_train(
    config: ExploreConfig, landscape: Landscape, folder: RunFolder, reporter: Reporter
) -> Flow:
    """Return the flow after the exploration and the final training on what it found."""
    usable_device(config.device)
    with folder.timed("exploration"):
        flow, exploration = explore(config, landscape, folder.path, reporter)
    with folder.timed("training"):
        schedule = config.training.schedule(
            config.training.final, seed_for(config.seed, "train final")
        )
        train(
            flow,
            landscape.energy,
            schedule,
            folder.path,
            "train on what was found",
            reporter,
            data=exploration.frames[-1].x,
            validation=None,
            reaction_coordinate=landscape.coordinate,
        )
    return flow


def _draw(
    config: ExploreKnownConfig,
    landscape: Landscape,
    flow: Flow,
    path: Path,
    n_samples: int,
    seed: int,
    reporter: Reporter,
    tau: float = 1.0,
) -> None:
    def columns(x: Tensor) -> Mapping[str, np.ndarray]:
        r = landscape.coordinate(x).cpu().numpy()
        return {"r": r, "discard": np.zeros(len(x), dtype=bool)}

    draw(
        flow,
        landscape.energy,
        path,
        config.sampling.model_copy(update={"n": n_samples}),
        tau,
        seed,
        f"draw and weigh, tau = {tau:g}",
        reporter,
        columns=columns,
        attributes={"system": config.experiment},
    )
