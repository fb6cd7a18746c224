"""report.html of the dimer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bgfast.analysis import (
    Bidirectional,
    Report,
    Table,
    write_summary,
)
from bgfast.analysis.figures import annealing_schedule, save
from bgfast.doctor import versions
from bgfast.energies import ParticleDimer
from bgfast.experiments.annealed_report import add_annealed
from bgfast.experiments.config import to_toml
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_estimates import DimerEstimates, estimates
from bgfast.experiments.dimer_figures import write_figures
from bgfast.experiments.dimer_pool import PooledEstimate
from bgfast.experiments.dimer_reference import load_references
from bgfast.experiments.dimer_summary import dimer_summary
from bgfast.experiments.dimer_temperatures import add_temperatures
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.progress import Reporter
from bgfast.flows import Sequential, describe


def analyse(
    config: DimerConfig,
    energy: ParticleDimer,
    data: StateData,
    simulated: Mapping[float, StateData],
    flow: Sequential,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    """Estimate from the samples of every temperature; write figures, summary and report.

    ``data`` is what the flow was trained on, at the temperature nearest to 1; the walkers held out
    in ``simulated`` serve the estimate at each temperature.
    """
    references = load_references(config, folder)
    found = estimates(config, energy, simulated, flow, folder, references, reporter)
    with reporter.stage("figures", 8, "figures"):
        figures = write_figures(config, energy, data, flow, folder, found)
        if found.annealed is not None:
            figures["anneal"] = str(folder.figures / "anneal.png")
            save(annealing_schedule(found.annealed.record), figures["anneal"])
    write_summary(folder.summary, dimer_summary(config, folder, found))
    _report(config, data, flow, folder, found, figures).write(folder.report)


def _report(
    config: DimerConfig,
    data: StateData,
    flow: Sequential,
    folder: RunFolder,
    found: DimerEstimates,
    figures: dict[str, str],
) -> Report:
    plain = found.plain[found.main]
    weights = plain.weights
    report = Report(
        "Bistable dimer in a repulsive fluid",
        f"{config.system.n_solvent} solvent particles, {describe(flow)}",
    )
    note = f"k_B T at tau = {found.main:g}, {found.recommended} estimate"
    report.add_headline("F(closed) - F(open)", found.delta_f, note)
    report.add_headline("samples", weights.n, f"{weights.discarded:,} outside the labelling")
    share = f"of plain weights, ESS/n = {weights.ess / weights.n:.1e}"
    report.add_headline("effective samples", f"{weights.ess:,.0f}", share)
    report.add_headline("largest weight", f"{weights.max_weight:.1%}", "of the total")
    report.add_headline("Pareto k", weights.pareto_k, "plain weights need less than 0.7")
    _add_result(report, config, found, figures)
    if "temperatures" in figures:
        add_temperatures(report, found, figures["temperatures"])
    pooled = found.pooled.get(found.main)
    if pooled is not None:
        _add_pool(report, pooled, figures)
    _add_plain(report, found, figures)
    if found.annealed is not None:
        reference = found.references.get(1.0)
        others = [] if reference is None else [["umbrella sampling", reference.delta_f, ""]]
        annealed = {"annealed": found.annealed}
        add_annealed(report, "F(closed) - F(open)", annealed, figures["anneal"], others)
    report.add_section(
        "What was generated",
        "The generated configuration of median energy near each of three distances, and the "
        "distribution of energies beside that of the simulations.",
        figures=[
            (figures["configurations"], "Generated configurations; the dimer is in colour."),
            (figures["energies"], "Reduced energies u."),
        ],
    )
    report.add_section(
        "Latent space",
        "Simulated frames of both states (held-out ones, if there are any) mapped to latent "
        "space, beside the prior.",
        figures=[(figures["latent"], "Latent radius, and two latent coordinates.")],
    )
    report.add_section(
        "Training", figures=[(figures["training"], "Terms of the loss; stages are marked.")]
    )
    report.add_section("Where the time went", table=_time_table(config, data, folder))
    report.add_details("Configuration as run", to_toml(config))
    report.add_details("Versions", versions())
    return report


def _add_result(
    report: Report, config: DimerConfig, found: DimerEstimates, figures: dict[str, str]
) -> None:
    pooled = found.pooled.get(found.main)
    if pooled is None:
        text = "Configurations drawn from the generator, reweighted to the Boltzmann distribution."
    else:
        text = (
            "Generated configurations are pooled with simulations that were not trained on; "
            "bidirectional (MBAR) weights of the pool need only that its members overlap where "
            f"they meet, which plain importance weights do not make use of."
            f"{_what_was_simulated(config, pooled)}"
        )
    text += "\n\nThe bands show one and two standard errors."
    agreement, reference = found.agreement(found.main), found.references.get(found.main)
    if agreement is not None:
        text += f"\n\n{agreement.sentence}"
    if reference is not None:
        text += f"\n\nUmbrella sampling: {reference.statement}"
    report.add_section(
        "Free energy along the dimer distance",
        text,
        table=_estimator_table(found),
        figures=[(figures["profile"], "Free energy of the dimer distance d.")],
        verdict=found.verdict,
    )


def _what_was_simulated(config: DimerConfig, pooled: PooledEstimate) -> str:
    text = ""
    if pooled.states is not None:
        text += (
            " Simulations of the two states sample each of them well and know nothing of the other;"
            " the generator connects them."
        )
        if config.data.flat_walkers:
            low, high = config.analysis.bounds
            text += (
                " They were run with a constant force in place of the dimer's own double well, so "
                f"that they cover the barrier, within d = {low:g} ... {config.analysis.split:g} "
                f"(closed) and {config.analysis.split:g} ... {high:g} (open)."
            )
        else:
            text += " They are the walkers held out of the training data."
    if pooled.windows is not None:
        windows = config.windows
        text += (
            f" Short simulations in {windows.n_windows} harmonic windows along d, "
            f"{windows.walkers} walkers each, started from generated configurations, relax these "
            "locally and cover all d."
        )
    return text


def _add_pool(report: Report, pooled: PooledEstimate, figures: dict[str, str]) -> None:
    rows: list[list[Any]] = [["everything", pooled.whole.delta_f, pooled.verdict.level]]
    if pooled.states is not None:
        level = pooled.states.verdict.level
        rows.append(["generator and states", pooled.states.delta_f(0, 1), level])
    if pooled.windows is not None:
        rows.append(["windows alone", pooled.windows.delta_f, pooled.windows.verdict.level])
    text = (
        "What the members of the pool say without one another. Generated rows carry "
        f"{pooled.whole.generated_share:.1%} of the pooled weight"
        f"; log Z of the labelling and range is {pooled.whole.log_z}."
    )
    report.add_section(
        "What each part contributes",
        text,
        table=Table(["part", "F(closed) - F(open), k_B T", "trust"], rows),
    )
    if pooled.states is not None:
        _add_overlap(report, pooled.states, figures)


def _add_overlap(report: Report, pooled: Bidirectional, figures: dict[str, str]) -> None:
    columns = ["state", "generated", "simulated", "walkers", "overlap", "ESS gen.", "ESS sim."]
    names = ["name", "n_generated", "n_simulated", "n_walkers", "overlap"]
    names += ["generated_ess", "simulated_ess"]
    rows = [[getattr(state, name) for name in names] for state in pooled.overlaps]
    report.add_section(
        "Overlap of generator and simulated states",
        "Work u + log q - f of generated and of simulated configurations. What the generator tells "
        "about the states rests on the configurations near 0, where the two distributions meet.",
        table=Table(columns, rows),
        figures=[(figures["work"], "Distribution of the work in each state.")],
    )


def _add_plain(report: Report, found: DimerEstimates, figures: dict[str, str]) -> None:
    report.add_section(
        "Plain importance weights",
        "A generated sample weighs exp(-u(x)/tau) / q(x). Samples outside the labelling of the "
        "solvent that the data cover are copies of others: they weigh nothing and are counted.",
        table=_temperature_table(found),
        figures=[(figures["weights"], "Distribution of the weights, and growth of the ESS.")],
        verdict=None if found.recommended == "plain" else found.plain_verdict,
    )


def _estimator_table(found: DimerEstimates) -> Table:
    plain = found.plain[found.main]
    rows: list[list[Any]] = [
        ["plain weights", plain.delta_f, found.plain_verdict.level, "generated samples alone"]
    ]
    if (pooled := found.pooled.get(found.main)) is not None:
        level = pooled.verdict.level
        rows.insert(0, ["bidirectional", pooled.whole.delta_f, level, "generated and simulated"])
    if (annealed := found.annealed) is not None and found.main == 1:
        what = "generated samples, moved by stages"
        rows.append(["annealed", annealed.delta_f, annealed.verdict.level, what])
    if (reference := found.references.get(found.main)) is not None:
        level = "good" if reference.converged else "caution"
        rows.append(["umbrella sampling", reference.delta_f, level, "simulations alone"])
    return Table(["estimator", "F(closed) - F(open), k_B T", "trust", "rests on"], rows)


def _temperature_table(found: DimerEstimates) -> Table:
    rows = [
        [f"{tau:g}", e.delta_f, e.weights.n, e.weights.ess, e.weights.pareto_k]
        for tau, e in sorted(found.plain.items())
    ]
    return Table(["tau", "F(closed) - F(open), k_B T", "n", "ESS", "Pareto k"], rows)


def _time_table(config: DimerConfig, data: StateData, folder: RunFolder) -> Table:
    n_walkers, n_frames = data.energy.shape
    held, flat = int(data.held_out.sum()), config.data.flat_walkers
    what = {
        "data": f"{n_walkers} walkers, {n_frames:,} frames each; {held} walkers held out"
        + (f"; {2 * flat} more without the double well" if flat else "")
        + (f"; trained at {n_tau} temperatures" if (n_tau := len(config.data.tau)) > 1 else ""),
        "training": f"{config.training.total_steps:,} steps",
        "windows": f"{config.windows.n_windows} windows, {config.windows.walkers} walkers each",
        "reference": "umbrella sampling with replica exchange",
        "sampling": f"{config.sampling.n:,} samples at {len(config.sampling.tau)} temperature(s)",
        "annealing": f"{config.anneal.n_samples:,} particles",
        "analysis": "estimates, figures, report",
    }
    seconds = folder.seconds()
    rows = [[name, f"{seconds[name]:.1f}", text] for name, text in what.items() if name in seconds]
    return Table(["stage", "seconds", "what was done"], rows)
