"""summary.json and report.html of the dimer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bgfast.analysis import Bidirectional, Report, Table, write_summary
from bgfast.doctor import versions
from bgfast.energies import ParticleDimer
from bgfast.experiments.config import to_toml
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_estimates import DimerEstimates
from bgfast.experiments.dimer_figures import write_figures
from bgfast.experiments.dimer_temperatures import add_temperatures, estimates_at_all
from bgfast.experiments.estimates import estimate_entry, profile_entry, weights_entry
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
    by_tau = estimates_at_all(config, energy, simulated, flow, folder, reporter)
    with reporter.stage("figures", 8, "figures"):
        figures = write_figures(config, energy, data, flow, folder, by_tau)
    write_summary(folder.summary, _summary(config, folder, by_tau))
    _report(config, data, flow, folder, by_tau, figures).write(folder.report)


def _summary(
    config: DimerConfig, folder: RunFolder, by_tau: Mapping[float, DimerEstimates]
) -> dict[str, Any]:
    """Return the summary: the numbers of the first temperature, then those of all."""
    main, found = next(iter(by_tau.items()))
    return {
        "system": "dimer",
        "tau": main,
        "seconds": folder.seconds(),
        "log_z_is": "of one labelling of the solvent, estimated with plain weights",
        **_estimates_entry(found),
        "temperatures": {repr(tau): _estimates_entry(at_tau) for tau, at_tau in by_tau.items()},
        "seed": config.seed,
        "versions": versions(),
    }


def _estimates_entry(found: DimerEstimates) -> dict[str, Any]:
    """Return what was found at one temperature."""
    plain = found.plain[found.main]
    estimators: dict[str, Any] = {
        "plain": {
            "delta_f": estimate_entry(plain.delta_f),
            "profile": profile_entry(plain.profile),
            "trust": found.plain_verdict.level,
        }
    }
    if found.pooled is not None and found.pooled_profile is not None:
        estimators["bidirectional"] = {
            "delta_f": estimate_entry(found.pooled.delta_f(0, 1)),
            "profile": profile_entry(found.pooled_profile),
            "trust": found.pooled.verdict.level,
        }
    return {
        **weights_entry(plain.weights),
        "estimator": found.recommended,
        "delta_f": estimate_entry(found.delta_f),
        "profile": profile_entry(found.profile),
        "trust": {"level": found.verdict.level, "sentences": found.verdict.sentences},
        "estimators": estimators,
        **_reference_entry(found),
    }


def _reference_entry(found: DimerEstimates) -> dict[str, Any]:
    reference, agreement = found.reference, found.agreement
    if reference is None:
        return {}
    entry: dict[str, Any] = {
        "reference": {
            "method": "umbrella sampling with replica exchange",
            "delta_f": estimate_entry(reference.delta_f),
            "profile": profile_entry(reference.profile),
            "converged": reference.converged,
        }
    }
    if agreement is not None:
        entry["agreement"] = {
            "delta_f": agreement.delta_f,
            "stderr": agreement.stderr,
            "profile_largest": agreement.profile.largest,
            "profile_rmse": agreement.profile.rmse,
            "profile_bounds": agreement.bounds,
        }
    return entry


def _report(
    config: DimerConfig,
    data: StateData,
    flow: Sequential,
    folder: RunFolder,
    by_tau: Mapping[float, DimerEstimates],
    figures: dict[str, str],
) -> Report:
    found = next(iter(by_tau.values()))
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
        add_temperatures(report, by_tau, figures["temperatures"])
    if found.pooled is not None:
        _add_overlap(report, found.pooled, figures)
    _add_plain(report, found, by_tau, figures)
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
    if found.pooled is None:
        text = "Configurations drawn from the generator, reweighted to the Boltzmann distribution."
    else:
        text = (
            "Generated configurations are pooled with simulations of the two states that were not "
            f"trained on. {_what_was_simulated(config)} The "
            "simulations sample each state well and know nothing of the other; the generator "
            "connects them. The bidirectional (MBAR) weights of the pool need only that generated "
            "and simulated configurations of each state overlap, which plain importance weights "
            "do not make use of."
        )
    text += " The bands show one and two standard errors."
    if found.agreement is not None:
        text += f"\n\n{found.agreement.sentence}"
    if found.reference is not None:
        text += f"\n\nUmbrella sampling: {found.reference.statement}"
    report.add_section(
        "Free energy along the dimer distance",
        text,
        table=_estimator_table(found),
        figures=[(figures["profile"], "Free energy of the dimer distance d.")],
        verdict=found.verdict,
    )


def _what_was_simulated(config: DimerConfig) -> str:
    if not config.data.flat_walkers:
        return "They are the walkers held out of the training data."
    low, high = config.analysis.bounds
    return (
        "They were run with a constant force in place of the dimer's own double well, so that they "
        "cover the barrier, "
        f"within d = {low:g} ... {config.analysis.split:g} (closed) and "
        f"{config.analysis.split:g} ... {high:g} (open); weights lead back to the "
        "system. The overlap and the work below are those of these flattened states."
    )


def _add_overlap(report: Report, pooled: Bidirectional, figures: dict[str, str]) -> None:
    columns = ["state", "generated", "simulated", "walkers", "overlap", "ESS gen.", "ESS sim."]
    names = ["name", "n_generated", "n_simulated", "n_walkers", "overlap"]
    names += ["generated_ess", "simulated_ess"]
    rows = [[getattr(state, name) for name in names] for state in pooled.overlaps]
    report.add_section(
        "Overlap of generator and simulations",
        "Work u + log q - f of generated and of simulated configurations. The estimate rests on "
        "the configurations near 0, where the two distributions meet.",
        table=Table(columns, rows),
        figures=[(figures["work"], "Distribution of the work in each state.")],
    )


def _add_plain(
    report: Report,
    found: DimerEstimates,
    by_tau: Mapping[float, DimerEstimates],
    figures: dict[str, str],
) -> None:
    report.add_section(
        "Plain importance weights",
        "A generated sample weighs exp(-u(x)/tau) / q(x). Samples outside the labelling of the "
        "solvent that the data cover are copies of others: they weigh nothing and are counted.",
        table=_plain_table(by_tau),
        figures=[(figures["weights"], "Distribution of the weights, and growth of the ESS.")],
        verdict=None if found.pooled is None else found.plain_verdict,
    )


def _estimator_table(found: DimerEstimates) -> Table:
    plain = found.plain[found.main]
    rows: list[list[Any]] = [
        ["plain weights", plain.delta_f, found.plain_verdict.level, "generated samples alone"]
    ]
    if found.pooled is not None:
        delta_f, level = found.pooled.delta_f(0, 1), found.pooled.verdict.level
        rows.insert(0, ["bidirectional", delta_f, level, "generated and simulated"])
    if (reference := found.reference) is not None:
        level = "good" if reference.converged else "caution"
        rows.append(["umbrella sampling", reference.delta_f, level, "simulations alone"])
    return Table(["estimator", "F(closed) - F(open), k_B T", "trust", "rests on"], rows)


def _plain_table(by_tau: Mapping[float, DimerEstimates]) -> Table:
    plain = {tau: found.plain[tau] for tau, found in sorted(by_tau.items())}
    rows = [
        [f"{tau:g}", e.delta_f, e.weights.n, e.weights.ess, e.weights.pareto_k]
        for tau, e in plain.items()
    ]
    return Table(["tau", "F(closed) - F(open), k_B T", "n", "ESS", "Pareto k"], rows)


def _time_table(config: DimerConfig, data: StateData, folder: RunFolder) -> Table:
    n_walkers, n_frames = data.energy.shape
    held, flat = int(data.held_out.sum()), config.data.flat_walkers
    what = {
        "data": f"{n_walkers} walkers, {n_frames:,} frames each; {held} walkers held out"
        + (f"; {2 * flat} more without the double well" if flat else ""),
        "training": f"{config.training.total_steps:,} steps",
        "reference": "umbrella sampling with replica exchange",
        "sampling": f"{config.sampling.n:,} samples at {len(config.sampling.tau)} temperature(s)",
        "analysis": "estimates, figures, report",
    }
    seconds = folder.seconds()
    rows = [[name, f"{seconds[name]:.1f}", text] for name, text in what.items() if name in seconds]
    return Table(["stage", "seconds", "what was done"], rows)
