"""What every exploration tells: whether, when and at what cost the other state was found."""

from __future__ import annotations

from typing import Any

from bgfast.analysis import Report, Table
from bgfast.experiments.evaluations import EnergyEvaluations, of_training
from bgfast.experiments.explore_config import ExploreConfig
from bgfast.experiments.explore_landscape import Landscape
from bgfast.experiments.explore_loop import Exploration
from bgfast.experiments.folder import RunFolder


def exploration_entry(config: ExploreConfig, exploration: Exploration) -> dict[str, Any]:
    """Return the exploration as it stands in summary.json."""
    found = exploration.found(config.exploration.found)
    frames = exploration.frames
    return {
        "found": found is not None,
        "found_in_iteration": found,
        "iterations": len(frames) - 1,
        "n_population": config.exploration.n_population,
        "below": [frame.below for frame in frames],
        "above": [frame.above for frame in frames],
        "acceptance": [frame.acceptance for frame in frames],
        "fresh_acceptance": [frame.fresh_acceptance for frame in frames],
        "losses": [frame.losses for frame in frames],
        "mean_energy": [float(frame.energy.mean()) for frame in frames],
    }


def evaluations(
    config: ExploreConfig, exploration: Exploration, simulated: int = 0
) -> EnergyEvaluations:
    """Return how many energies the run computed.

    Data are the moves of the population, and ``simulated`` steps of other Monte Carlo.
    """
    training = config.training
    n_iterations = len(exploration.frames) - 1
    first, iteration, final = (
        of_training(training.schedule(stages, seed=0))
        for stages in (training.first, training.iteration, training.final)
    )
    return EnergyEvaluations(
        data=simulated + sum(frame.evaluations for frame in exploration.frames),
        training=first + n_iterations * iteration + final,
        sampling=config.sampling.n,
    )


def add_found(report: Report, config: ExploreConfig, exploration: Exploration) -> None:
    """Add the headline that says whether the other state was found."""
    found = exploration.found(config.exploration.found)
    n = len(exploration.frames) - 1
    if found is None:
        report.add_headline("other state", "not found", f"in {n} iterations")
    else:
        report.add_headline("other state", "found", f"in iteration {found} of {n}")


def add_exploration(
    report: Report,
    config: ExploreConfig,
    landscape: Landscape,
    exploration: Exploration,
    figure: str,
) -> None:
    """Add the section with the film strip and the table of iterations."""
    section = config.exploration
    report.add_section(
        "From one configuration to both states",
        f"The only configuration given is at {landscape.where}. The flow is trained by example on "
        f"{section.n_population:,} copies of it with a jitter of {section.jitter:g}. Each "
        "iteration then trains it by energy, by example and along the coordinate, and moves every "
        f"configuration of the population by {section.n_steps} Metropolis steps in latent space. "
        "Moves are accepted with the Boltzmann factor: what is found is found with its weight."
        f"\n\n{_sentence(config, landscape, exploration)}",
        table=_table(landscape, config, exploration),
        figures=[
            (
                figure,
                "Population and generated configurations over the iterations, beside the "
                "reference; bottom: on a logarithmic scale.",
            )
        ],
    )


def time_table(config: ExploreConfig, exploration: Exploration, folder: RunFolder) -> Table:
    """Return the seconds of every stage, and what was done in them."""
    n = len(exploration.frames) - 1
    steps = sum(stage.steps for stage in config.training.final)
    what = {
        "exploration": f"{n} iterations",
        "training": f"{steps:,} steps",
        "windows": "short simulations from what was drawn",
        "reference": "umbrella sampling with replica exchange",
        "sampling": f"{config.sampling.n:,} samples",
        "analysis": "estimates, figures, report",
    }
    seconds = folder.seconds()
    rows = [[name, f"{seconds[name]:.1f}", text] for name, text in what.items() if name in seconds]
    return Table(["stage", "seconds", "what was done"], rows)


def _sentence(config: ExploreConfig, landscape: Landscape, exploration: Exploration) -> str:
    section, split = config.exploration, config.analysis.split
    found, last = exploration.found(section.found), exploration.frames[-1]
    where = f"of the population lie below {landscape.name} = {split:g}"
    if found is None:
        return (
            f"The other state was not found in {len(exploration.frames) - 1} iterations: at the "
            f"end {last.below:.1%} {where}, {last.above:.1%} above. What follows describes one "
            "state only."
        )
    return (
        f"The other state was found in iteration {found}: from then on it holds more than "
        f"{section.found:.0%} of the population. At the end {last.below:.1%} {where}, "
        f"{last.above:.1%} above."
    )


def _table(landscape: Landscape, config: ExploreConfig, exploration: Exploration) -> Table:
    split = f"{landscape.name} = {config.analysis.split:g}"
    columns = ["iteration", f"below {split}", f"above {split}", "mean u", "accepted"]
    columns += ["of fresh", "-log q", "KL", "E[log p]"]
    rows: list[list[Any]] = []
    for i, frame in enumerate(exploration.frames):
        losses = [frame.losses[name] for name in ("ml", "kl", "rc")]
        shares = [f"{frame.below:.2%}", f"{frame.above:.2%}"]
        accepted = [_share(frame.acceptance), _share(frame.fresh_acceptance)]
        terms = ["-" if value is None else f"{value:.2f}" for value in losses]
        rows.append([i, *shares, f"{float(frame.energy.mean()):.2f}", *accepted, *terms])
    return Table(columns, rows)


def _share(value: float) -> str:
    return f"{value:.2%}" if value == value else "-"  # NaN: nothing was proposed
