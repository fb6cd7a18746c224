"""summary.json and report.html of the dimer's exploration."""

from __future__ import annotations

from typing import Any

from bgfast.analysis import Report, Table, write_summary
from bgfast.analysis.figures import save
from bgfast.doctor import versions
from bgfast.experiments.config import to_toml
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_estimates import DimerEstimates, estimates
from bgfast.experiments.dimer_figures import write_figures
from bgfast.experiments.dimer_reference import load_references
from bgfast.experiments.dimer_summary import dimer_summary
from bgfast.experiments.explore_dimer_config import ExploreDimerConfig
from bgfast.experiments.explore_film import draw_film
from bgfast.experiments.explore_loop import Exploration
from bgfast.experiments.explore_story import (
    add_exploration,
    add_found,
    evaluations,
    exploration_entry,
    time_table,
)
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.progress import Reporter
from bgfast.flows import Sequential, describe


def analyse(
    config: ExploreDimerConfig,
    data: StateData,
    exploration: Exploration,
    flow: Sequential,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    """Estimate from samples and windows; write figures, summary and report."""
    as_dimer, energy = config.as_dimer(), config.system.energy()
    references = load_references(as_dimer, folder)
    found = estimates(as_dimer, energy, {}, flow, folder, references, reporter)
    with reporter.stage("figures", 7, "figures"):
        figures = write_figures(as_dimer, energy, data, flow, folder, found)
        reference = references[1.0].profile if 1.0 in references else None
        figures["exploration"] = str(folder.figures / "exploration.png")
        save(draw_film(config, config.landscape(), exploration, reference), figures["exploration"])
    write_summary(
        folder.summary,
        dimer_summary(as_dimer, folder, found)
        | {
            "system": config.experiment,
            "exploration": exploration_entry(config, exploration),
            "energy_evaluations": evaluations(config, exploration, _simulated(config)),
        },
    )
    _report(config, exploration, flow, found, figures, folder).write(folder.report)


def _simulated(config: ExploreDimerConfig) -> int:
    """Return the Monte Carlo sweeps of all walkers: of the start, and in the windows."""
    windows = config.windows
    sweeps = windows.burn_in + windows.n_frames * windows.stride
    return config.settle + windows.n_windows * windows.walkers * sweeps


def _report(
    config: ExploreDimerConfig,
    exploration: Exploration,
    flow: Sequential,
    found: DimerEstimates,
    figures: dict[str, str],
    folder: RunFolder,
) -> Report:
    landscape = config.landscape()
    report = Report(
        "Exploration: bistable dimer in a repulsive fluid",
        f"{config.system.n_solvent} solvent particles, from one configuration at "
        f"{landscape.where}, {describe(flow)}",
    )
    add_found(report, config, exploration)
    note = f"k_B T, {found.recommended} estimate"
    report.add_headline("F(closed) - F(open)", found.delta_f, note)
    weights = found.plain[1.0].weights
    report.add_headline("samples", weights.n, f"{weights.discarded:,} outside the labelling")
    add_exploration(report, config, landscape, exploration, figures["exploration"])
    report.add_section(
        "Free energy along the dimer distance",
        _result(config, found),
        table=_estimator_table(found),
        figures=[(figures["profile"], "Free energy of the dimer distance d.")],
        verdict=found.verdict,
    )
    report.add_section(
        "What was generated",
        "The generated configuration of median energy near each of three distances, and the "
        "distribution of energies beside that of the last population.",
        figures=[
            (figures["configurations"], "Generated configurations; the dimer is in colour."),
            (figures["energies"], "Reduced energies u; simulated data: the last population."),
        ],
    )
    report.add_section(
        "Plain importance weights",
        "The weights of the generated samples without any simulation.",
        figures=[(figures["weights"], "Distribution of the weights, and growth of the ESS.")],
        verdict=found.plain_verdict,
    )
    report.add_section("Training", figures=[(figures["training"], "Losses of the last training.")])
    report.add_section("Where the time went", table=time_table(config, exploration, folder))
    report.add_details("Configuration as run", to_toml(config))
    report.add_details("Versions", versions())
    return report


def _result(config: ExploreDimerConfig, found: DimerEstimates) -> str:
    text = (
        "After the exploration the flow was trained once more, on the last population, and "
        f"{config.sampling.n:,} configurations were drawn."
    )
    if config.windows.n_windows:
        text += (
            f" Short simulations in {config.windows.n_windows} harmonic windows along d start from "
            "them, relax them locally, and are pooled with them (MBAR)."
        )
    if (pooled := found.pooled.get(1.0)) is not None:
        text += (
            f" The generated configurations hold {pooled.whole.generated_share:.1g} of the pooled "
            "weight: what they contribute is that windows can start all along d, barrier included. "
            "The flow has learnt the packings of the solvent near the one that it started from."
        )
    if (agreement := found.agreement(1.0)) is not None:
        text += f"\n\n{agreement.sentence}"
    if (reference := found.references.get(1.0)) is not None:
        text += f"\n\nUmbrella sampling: {reference.statement}"
    return text


def _estimator_table(found: DimerEstimates) -> Table:
    plain = found.plain[1.0].delta_f
    rows: list[list[Any]] = [["plain weights", plain, found.plain_verdict.level]]
    if (pooled := found.pooled.get(1.0)) is not None:
        rows.insert(0, ["samples and windows", pooled.whole.delta_f, pooled.verdict.level])
    if (reference := found.references.get(1.0)) is not None:
        level = "good" if reference.converged else "caution"
        rows.append(["umbrella sampling", reference.delta_f, level])
    return Table(["estimator", "F(closed) - F(open), k_B T", "trust"], rows)
