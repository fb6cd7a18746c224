"""Run experiments by name: the table of what there is, and the commands on run folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bgfast.errors import UserError
from bgfast.experiments import dimer, explore, explore_dimer, quadrature
from bgfast.experiments.config import RunConfig, preset_names, read_table, validated
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_reference import reference_at
from bgfast.experiments.explore_config import EXPLORED
from bgfast.experiments.explore_dimer_config import ExploreDimerConfig
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import usable_device
from bgfast.experiments.progress import Reporter
from bgfast.experiments.quadrature_config import CONFIGS
from bgfast.experiments.speedup import SpeedUp, speed_up
from bgfast.sampling.umbrella import UmbrellaResult


@dataclass(frozen=True)
class Experiment:
    """One kind of run.

    Parameters
    ----------
    config
        Model of its configuration.
    run
        Does all of it in a folder.
    analyse
        Does the estimates and the report again, from the samples in the folder.
    sample
        Draws more samples into a file and returns what their weights are worth in sentences;
        ``None`` if that makes no sense for the experiment.
    """

    config: type[RunConfig]
    run: Callable[[Any, RunFolder, Reporter], None]
    analyse: Callable[[Any, RunFolder, Reporter], None]
    sample: Callable[..., list[str]] | None = None


EXPERIMENTS: dict[str, Experiment] = {
    "dimer": Experiment(DimerConfig, dimer.run, dimer.analyse_run, dimer.sample_run),
    **{
        name: Experiment(config, quadrature.run, quadrature.analyse_run)
        for name, config in CONFIGS.items()
    },
    **{
        name: Experiment(config, explore.run, explore.analyse_run, explore.sample_run)
        for name, config in EXPLORED.items()
    },
    "explore-dimer": Experiment(
        ExploreDimerConfig,
        explore_dimer.run,
        explore_dimer.analyse_run,
        explore_dimer.sample_run,
    ),
}


def run_experiment(
    source: str,
    *,
    out: Path | None = None,
    quick: bool = False,
    overrides: tuple[str, ...] = (),
    resume: bool = False,
    reporter: Reporter | None = None,
) -> RunFolder:
    """Run a preset or a TOML file; see the command ``bgfast run``.

    Raises
    ------
    UserError
        If the configuration is wrong, or the folder cannot be used.
    """
    table = read_table(source, quick=quick, overrides=overrides)
    experiment, config = _experiment(table, source)
    usable_device(config.device)
    folder = RunFolder.open(out or Path("runs") / Path(source).stem, config, resume=resume)
    with reporter or Reporter() as shown:
        experiment.run(config, folder, shown)
    return folder


def analyze_run(
    path: Path, *, device: str | None = None, reporter: Reporter | None = None
) -> RunFolder:
    """Do the analysis of the run in ``path`` again; see ``bgfast analyze``."""
    folder, experiment, config = _finished(path, device)
    with reporter or Reporter() as shown:
        experiment.analyse(config, folder, shown)
    return folder


def sample_run(
    path: Path,
    out: Path,
    *,
    tau: float,
    seed: int,
    n_samples: int | None = None,
    anneal: bool = False,
    device: str | None = None,
    reporter: Reporter | None = None,
) -> list[str]:
    """Draw samples from the flow of the run in ``path`` into ``out``; see ``bgfast sample``.

    Returns
    -------
    list
        What the weights are worth, in sentences.

    Raises
    ------
    UserError
        If there is no such run, ``out`` exists, or tau is not positive.
    """
    folder, experiment, config = _finished(path, device)
    if experiment.sample is None:
        raise UserError(f"{path} holds several networks; bgfast sample needs a run with one")
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out")
    if not 0 < tau < float("inf"):
        raise UserError(f"--tau must be positive and finite, got {tau}")
    with reporter or Reporter() as shown:
        sentences: list[str] = experiment.sample(
            config,
            folder,
            out,
            n_samples=n_samples,
            tau=tau,
            seed=seed,
            anneal=anneal,
            reporter=shown,
        )
    return sentences


def references(
    source: str, taus: tuple[float, ...], reporter: Reporter | None = None
) -> dict[float, UmbrellaResult]:
    """Compute (or find) the dimer's reference at each tau; see ``bgfast reference``.

    Raises
    ------
    UserError
        If ``source`` is no dimer, or a tau is not positive.
    """
    _, config = _experiment(read_table(source), source)
    if not isinstance(config, DimerConfig):
        raise UserError(f"{source} is not a dimer; only the dimer has a reference by simulation")
    if bad := [tau for tau in taus if not 0 < tau < float("inf")]:
        raise UserError(f"--tau must be positive and finite, got {bad[0]}")
    with reporter or Reporter() as shown:
        return {tau: reference_at(config, tau, shown) for tau in taus}


def speed_up_of(path: Path, reporter: Reporter | None = None) -> SpeedUp:
    """Compare the run in ``path`` with local Monte Carlo; see ``bgfast speedup``."""
    folder, _, config = _finished(path, None)
    with reporter or Reporter() as shown:
        return speed_up(config, folder, shown)


def preset_descriptions() -> dict[str, str]:
    """Return name -> description of every preset."""
    return {name: str(read_table(name).get("description", "")) for name in preset_names()}


def _finished(path: Path, device: str | None) -> tuple[RunFolder, Experiment, RunConfig]:
    folder = RunFolder(path)
    table = folder.table() | ({"device": device} if device else {})
    return folder, *_experiment(table, str(folder.config))


def _experiment(table: dict[str, Any], source: str) -> tuple[Experiment, RunConfig]:
    name = table.get("experiment")
    if name not in EXPERIMENTS:
        known = ", ".join(repr(n) for n in EXPERIMENTS)
        raise UserError(f"{source}: experiment must be one of {known}, got {name!r}")
    experiment = EXPERIMENTS[name]
    return experiment, validated(experiment.config, table, source)
