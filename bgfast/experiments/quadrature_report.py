"""summary.json and report.html of a system known by quadrature."""

from __future__ import annotations

from typing import Any

from bgfast.analysis import Report, Table, estimators_entry, write_summary
from bgfast.analysis.summary import profile_entry, weights_entry
from bgfast.doctor import versions
from bgfast.energies import Energy
from bgfast.experiments.annealed_report import add_annealed, anneal_entry
from bgfast.experiments.config import to_toml
from bgfast.experiments.data import StateData
from bgfast.experiments.exact import Exact
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.progress import Reporter
from bgfast.experiments.quadrature_config import QuadratureConfig
from bgfast.experiments.quadrature_estimates import Model, Result, estimate
from bgfast.experiments.quadrature_figures import write_figures

_SOBOL = {
    "normal": "",
    "sobol": " Latent vectors are a Sobol sequence, more even than independent ones: the stated "
    "errors are those of independent samples, an upper bound.",
}

_AGREES = 2.5
"""Standard errors within which an estimate agrees with the exact value."""
_WHICH = {
    "plain": "The estimate rests on the importance weights of the generated samples.",
    "bidirectional": "The estimate pools the generated samples with walkers that were simulated in "
    "each state and kept from training (MBAR); log Z is that of the importance weights alone.",
}
_PICTURES = {
    "densities": "Prior, generated and reweighted density beside exp(-u).",
    "surface": "What was simulated and what was generated, on the surface.",
}


def analyse(
    config: QuadratureConfig,
    energy: Energy,
    data: StateData,
    models: list[Model],
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    """Reweight the samples of every model and compare with quadrature."""
    section = config.analysis
    exact = config.system.exact(1.0, section.bounds, section.n_bins, section.split)
    with reporter.stage("estimate", len(models), "models") as advance:
        results = {}
        for done, model in enumerate(models, 1):
            results[model.name] = estimate(config, data, model, exact)
            advance(done)
    main = models[-1]
    with reporter.stage("figures", 5, "figures"):
        figures = write_figures(config.system, energy, data, models, results, exact, folder)
    write_summary(folder.summary, _summary(config, main, results, exact, folder))
    _report(config, main, results, exact, figures, folder).write(folder.report)


def _summary(
    config: QuadratureConfig,
    main: Model,
    results: dict[str, Result],
    exact: Exact,
    folder: RunFolder,
) -> dict[str, Any]:
    return {
        "system": config.experiment,
        "model": main.name,
        "delta_f_is": f"{_difference(config)}, k_B T",
        **_entry(results[main.name]),
        "seconds": folder.seconds(),
        "exact": {
            "log_z": exact.log_z,
            "delta_f": exact.delta_f,
            "profile": profile_entry(exact.profile),
        },
        "models": {name: _entry(result) for name, result in results.items()},
        "seed": config.seed,
        "versions": versions(),
    }


def _entry(result: Result) -> dict[str, Any]:
    deviation = result.deviation
    return {
        **weights_entry(result.plain.weights),
        **estimators_entry(result.estimators, result.recommended),
        "profile_deviation": None
        if deviation is None
        else {"rmse": deviation.rmse, "largest": deviation.largest},
        "energy_evaluations": result.evaluations,
        **({} if result.annealed is None else {"anneal": anneal_entry(result.annealed)}),
    }


def _report(
    config: QuadratureConfig,
    main: Model,
    results: dict[str, Result],
    exact: Exact,
    figures: dict[str, str],
    folder: RunFolder,
) -> Report:
    result = results[main.name]
    weights = result.plain.weights
    report = Report(
        config.system.title, f"{' and '.join(config.networks)}, {config.sampling.n:,} samples"
    )
    report.add_headline(_difference(config), result.delta_f, f"exact {exact.delta_f:.4f} k_B T")
    report.add_headline("log Z", weights.log_z, f"exact {exact.log_z:.4f}")
    report.add_headline(
        "effective samples",
        f"{weights.ess:,.0f}",
        f"of {weights.n:,}, ESS/n = {weights.ess / weights.n:.2f}",
    )
    report.add_headline("Pareto k", weights.pareto_k, main.name)
    report.add_section(
        f"Can {main.name} be trusted?",
        f"{_WHICH[result.recommended]}\n\n{_agreement(config, result, exact)}",
        verdict=result.estimators[result.recommended].verdict,
    )
    report.add_section(
        "Training modes side by side",
        "Every network is trained by example first and then in each mode. Top: density of what was "
        "generated, before reweighting. Bottom: reweighted free energy with its error, beside the "
        "exact one. Training by energy alone may collapse to one of the two states; its reweighted "
        "profile is then wrong where nothing was generated, however small its error bars."
        + _SOBOL[config.sampling.latent],
        table=_table(config, results, exact),
        figures=[(figures["comparison"], "Networks and training modes.")],
    )
    report.add_section(
        f"Free energy from {main.name}",
        figures=[
            (figures["profile"], "Reweighted profile with one and two standard errors."),
            *((figures[name], caption) for name, caption in _PICTURES.items() if name in figures),
        ],
    )
    if annealed := {k: v.annealed for k, v in results.items() if v.annealed is not None}:
        row = ["exact", f"{exact.delta_f:.4f}", f"{exact.log_z:.4f}"]
        add_annealed(report, _difference(config), annealed, figures["anneal"], [row])
    report.add_section("Weights", figures=[(figures["weights"], f"Weights of {main.name}.")])
    report.add_section("Training", figures=[(figures["training"], f"Losses of {main.name}.")])
    report.add_section("Where the time went", table=_time_table(folder))
    report.add_section("Energy evaluations", table=_evaluations_table(main, result))
    report.add_details("Configuration as run", to_toml(config))
    report.add_details("Versions", versions())
    return report


def _agreement(config: QuadratureConfig, result: Result, exact: Exact) -> str:
    """Compare the recommended estimate with the exact values, in words."""
    off = result.delta_f.value - exact.delta_f
    if result.deviation is None or not result.delta_f.stderr > 0:
        return "Too little was sampled to compare the estimate with quadrature."
    apart = abs(off) / result.delta_f.stderr
    verdict = "agrees with" if apart <= _AGREES else "does not agree with"
    return (
        f"{_difference(config)} {verdict} quadrature: it is off by {off:+.4f} k_B T, {apart:.1f} "
        f"times its standard error. log Z is off by "
        f"{result.plain.weights.log_z.value - exact.log_z:+.4f}. The profile is off by "
        f"{result.deviation.largest:.3f} k_B T at most, {result.deviation.rmse:.3f} on average "
        f"(rms), where the exact one is below {config.system.f_max:g} k_B T."
    )


def _difference(config: QuadratureConfig) -> str:
    split = f"{config.analysis.split:g}"
    r = config.system.coordinate
    return f"F({r} > {split}) - F({r} < {split})"


def _table(config: QuadratureConfig, results: dict[str, Result], exact: Exact) -> Table:
    estimators = list(next(iter(results.values())).estimators)
    rows = []
    for name, result in results.items():
        weights, deviation = result.plain.weights, result.deviation
        rows.append(
            [
                name,
                *(result.estimators[estimator].delta_f for estimator in estimators),
                weights.log_z,
                f"{deviation.largest:.3f}" if deviation else "-",
                f"{weights.ess / weights.n:.3f}",
                weights.pareto_k,
            ]
        )
    exact_differences = [f"{exact.delta_f:.4f}"] * len(estimators)
    rows.append(["exact", *exact_differences, f"{exact.log_z:.4f}", "0", "", ""])
    differences = [f"{_difference(config)}, {estimator}" for estimator in estimators]
    r = config.system.coordinate
    return Table(
        ["model", *differences, "log Z", f"largest error of F({r})", "ESS/n", "Pareto k"],
        rows,
        caption=f"Errors of F({r}) where the exact one is below {config.system.f_max:g} k_B T.",
    )


def _evaluations_table(main: Model, result: Result) -> Table:
    counts = result.evaluations
    return Table(
        ["for", "evaluations of u"],
        [["data", counts.data], ["training", counts.training], ["sampling", counts.sampling]],
        caption=f"What the estimate from {main.name} took; u with its force counts once.",
    )


def _time_table(folder: RunFolder) -> Table:
    return Table(["stage", "seconds"], [[k, f"{v:.1f}"] for k, v in folder.seconds().items()])
