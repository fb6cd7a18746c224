"""Figures, summary.json and report.html of an exploration with an exact reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bgfast.analysis import (
    Estimate,
    EstimatorResult,
    ProfileDeviation,
    Report,
    estimators_entry,
    profile_deviation,
    trust,
    write_summary,
)
from bgfast.analysis.figures import (
    free_energy,
    loss_curves,
    read_metrics,
    save,
    weight_diagnostics,
)
from bgfast.analysis.summary import profile_entry, weights_entry
from bgfast.doctor import versions
from bgfast.experiments.config import to_toml
from bgfast.experiments.estimates import PlainEstimate, barrier_range, plain_estimate
from bgfast.experiments.exact import Exact
from bgfast.experiments.explore_config import ExploreKnownConfig
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
from bgfast.sampling.store import read_columns
from bgfast.training.trainer import METRICS

_SHOWN = 100_000
_AGREES = 2.5
"""Standard errors within which the estimate agrees with quadrature."""


@dataclass(frozen=True)
class Result:
    """What the final samples say, and how far it is from the exact values.

    Parameters
    ----------
    plain
        From importance weights.
    estimate
        The same; its ``delta_f`` is F(above the split) - F(below it).
    deviation
        Of the profile from the exact one; ``None`` if no bin is filled.
    exact
        What quadrature says.
    """

    plain: PlainEstimate
    estimate: EstimatorResult
    deviation: ProfileDeviation | None
    exact: Exact


def analyse(
    config: ExploreKnownConfig, exploration: Exploration, folder: RunFolder, reporter: Reporter
) -> None:
    """Reweight the final samples, compare with quadrature; write figures, summary and report."""
    result = _result(config, folder)
    with reporter.stage("figures", 4, "figures"):
        figures = _figures(config, exploration, result, folder)
    _summary(config, exploration, result, folder)
    _report(config, exploration, result, figures, folder).write(folder.report)


def _result(config: ExploreKnownConfig, folder: RunFolder) -> Result:
    section = config.analysis
    plain, exact = plain_estimate(folder.samples_at(1.0), section), config.exact()
    barrier = barrier_range(section, config.system.barrier)
    verdict = trust(plain.weights, plain.profile, barrier, plain.state_ess)
    deviation = None
    if np.isfinite(plain.profile.f).any():
        deviation = profile_deviation(plain.profile, exact.profile, f_max=config.system.f_max)
    delta_f = Estimate(-plain.delta_f.value, plain.delta_f.stderr)
    return Result(plain, EstimatorResult(delta_f, plain.profile, verdict), deviation, exact)


def _figures(
    config: ExploreKnownConfig, exploration: Exploration, result: Result, folder: RunFolder
) -> dict[str, str]:
    (log_w,) = next(read_columns(folder.samples_at(1.0), "log_w", chunk=_SHOWN))
    landscape, exact = config.landscape(), result.exact.profile
    profile = result.plain.profile
    pictures = {
        "exploration": draw_film(config, landscape, exploration, exact),
        "profile": free_energy(profile, {"exact": exact}, coordinate=landscape.label),
        "weights": weight_diagnostics(log_w, result.plain.weights),
        "training": loss_curves(
            read_metrics(folder.path / METRICS),
            {"ml": "by example: -log q", "kl": "by energy: KL", "rc": "along R: E[log p]"},
        ),
    }
    folder.figures.mkdir(exist_ok=True)
    paths = {name: str(folder.figures / f"{name}.png") for name in pictures}
    for name, figure in pictures.items():
        save(figure, paths[name])
    return paths


def _summary(
    config: ExploreKnownConfig, exploration: Exploration, result: Result, folder: RunFolder
) -> None:
    deviation, exact = result.deviation, result.exact
    write_summary(
        folder.summary,
        {
            "system": config.experiment,
            "delta_f_is": f"{_difference(config)}, k_B T",
            **weights_entry(result.plain.weights),
            **estimators_entry({"plain": result.estimate}, "plain"),
            "profile_deviation": None
            if deviation is None
            else {"rmse": deviation.rmse, "largest": deviation.largest},
            "exact": {
                "log_z": exact.log_z,
                "delta_f": exact.delta_f,
                "profile": profile_entry(exact.profile),
            },
            "exploration": exploration_entry(config, exploration),
            "energy_evaluations": evaluations(config, exploration),
            "seconds": folder.seconds(),
            "seed": config.seed,
            "versions": versions(),
        },
    )


def _report(
    config: ExploreKnownConfig,
    exploration: Exploration,
    result: Result,
    figures: dict[str, str],
    folder: RunFolder,
) -> Report:
    weights, landscape = result.plain.weights, config.landscape()
    report = Report(
        f"Exploration: {config.system.title}",
        f"{config.flow.architecture}, from one configuration at {landscape.where}",
    )
    add_found(report, config, exploration)
    note = f"exact {result.exact.delta_f:.4f} k_B T"
    report.add_headline(_difference(config), result.estimate.delta_f, note)
    report.add_headline("log Z", weights.log_z, f"exact {result.exact.log_z:.4f}")
    share = f"of {weights.n:,}, ESS/n = {weights.ess / weights.n:.2f}"
    report.add_headline("effective samples", f"{weights.ess:,.0f}", share)
    add_exploration(report, config, landscape, exploration, figures["exploration"])
    report.add_section(
        "The weighted histogram and the exact one",
        "After the exploration the flow was trained once more, on the last population, and "
        f"{weights.n:,} configurations were drawn and reweighted.\n\n{_agreement(config, result)}",
        figures=[(figures["profile"], "Free energy with one and two standard errors.")],
        verdict=result.estimate.verdict,
    )
    report.add_section("Weights", figures=[(figures["weights"], "Weights of the final samples.")])
    report.add_section("Training", figures=[(figures["training"], "Losses of the last training.")])
    report.add_section("Where the time went", table=time_table(config, exploration, folder))
    report.add_details("Configuration as run", to_toml(config))
    report.add_details("Versions", versions())
    return report


def _difference(config: ExploreKnownConfig) -> str:
    name, split = config.system.coordinate, f"{config.analysis.split:g}"
    return f"F({name} > {split}) - F({name} < {split})"


def _agreement(config: ExploreKnownConfig, result: Result) -> str:
    delta_f = result.estimate.delta_f
    if result.deviation is None or not delta_f.stderr > 0:
        return "One of the two states was not generated: there is nothing to compare."
    error = delta_f.value - result.exact.delta_f
    apart = abs(error) / delta_f.stderr
    verdict = "agrees with" if apart <= _AGREES else "does not agree with"
    return (
        f"The free-energy difference {verdict} quadrature: it is {error:+.4f} k_B T off, "
        f"{apart:.1f} times its standard error. Where the exact profile is below "
        f"{config.system.f_max:g} k_B T, the two differ by {result.deviation.largest:.3f} k_B T "
        f"at most, {result.deviation.rmse:.3f} on average (rms)."
    )
