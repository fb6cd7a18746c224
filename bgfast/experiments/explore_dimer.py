"""Exploration of the dimer: from one closed configuration to the free energy along d."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bgfast.experiments import dimer
from bgfast.experiments.data import StateData
from bgfast.experiments.explore import explore_and_train
from bgfast.experiments.explore_dimer_config import ExploreDimerConfig
from bgfast.experiments.explore_dimer_report import analyse
from bgfast.experiments.explore_loop import Exploration, load_exploration
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import load_flow, usable_device
from bgfast.experiments.progress import Reporter


def run(config: ExploreDimerConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Explore, train once more, draw, simulate windows from what was drawn, estimate."""
    landscape, as_dimer = config.landscape(), config.as_dimer()
    energy = config.system.energy()
    flow = explore_and_train(config, landscape, folder, reporter)
    if not folder.data.exists():
        population(load_exploration(folder.path), config.analysis.split).save(folder.data)
    data = StateData.load(folder.data, energy.dim)
    dimer.draw_and_simulate(as_dimer, energy, data, None, flow, folder, reporter)
    analyse_run(config, folder, reporter)


def analyse_run(config: ExploreDimerConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Estimate and report from the files of a run whose samples are drawn."""
    data = StateData.load(folder.data, config.system.energy().dim)
    steps = config.as_dimer().training.total_steps
    flow = load_flow(folder.path, steps, usable_device(config.device))
    with folder.timed("analysis"):
        analyse(config, data, load_exploration(folder.path), flow, folder, reporter)


def sample_run(
    config: ExploreDimerConfig,
    folder: RunFolder,
    out: Path,
    *,
    n_samples: int | None,
    tau: float,
    seed: int,
    anneal: bool,
    reporter: Reporter,
) -> list[str]:
    """Draw and weigh more samples from the flow of a run; return what the weights are worth."""
    return dimer.sample_run(
        config.as_dimer(),
        folder,
        out,
        n_samples=n_samples,
        tau=tau,
        seed=seed,
        anneal=anneal,
        reporter=reporter,
    )


def population(exploration: Exploration, split: float) -> StateData:
    """Return the last population as data, every configuration a walker of one frame."""
    last = exploration.frames[-1]
    x = last.x.double().numpy()
    d = np.linalg.norm(x[:, 0:2] - x[:, 2:4], axis=1)
    return StateData(
        x=x[:, None],
        energy=last.energy.numpy()[:, None],
        state=(d >= split).astype(int),
        held_out=np.zeros(len(x), dtype=bool),
        reference=last.reference.numpy().reshape(-1, 2),
    )
