"""Figures, summary.json and report.html of the double well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bgfast.analysis.comparison import ProfileDeviation, profile_deviation
from bgfast.analysis.diagnostics import trust
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.figures import (
    Generated,
    annealing_schedule,
    comparison,
    energy_surface,
    free_energy,
    loss_curves,
    read_metrics,
    save,
    weight_diagnostics,
)
from bgfast.analysis.report import Report, Table
from bgfast.analysis.summary import write_summary
from bgfast.doctor import versions
from bgfast.energies import DoubleWell
from bgfast.experiments.annealed import AnnealedEstimate, annealed_estimate
from bgfast.experiments.annealed_report import add_annealed, anneal_entry
from bgfast.experiments.config import AnalysisConfig, to_toml
from bgfast.experiments.data import StateData
from bgfast.experiments.double_well_config import DoubleWellConfig
from bgfast.experiments.estimates import (
    PlainEstimate,
    barrier_range,
    estimate_entry,
    plain_estimate,
    profile_entry,
    weights_entry,
)
from bgfast.experiments.exact import Exact, double_well_exact
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.progress import Reporter
from bgfast.sampling.store import read_columns
from bgfast.training.trainer import METRICS

_SHOWN = 100_000
_SOBOL = {
    "normal": "",
    "sobol": " Latent vectors are a Sobol sequence, more even than independent ones: the stated "
    "errors are those of independent samples, an upper bound.",
}
_BARRIER_HALF_WIDTH = 0.5
_F_MAX = 12.0
"""The profile is judged where the exact one is below this, in k_B T."""


@dataclass(frozen=True)
class Model:
    """A network after one mode of training."""

    network: str
    mode: str
    folder: Path

    @property
    def name(self) -> str:
        """Network and mode."""
        return f"{self.network} {self.mode}"

    @property
    def samples(self) -> Path:
        """File of its samples."""
        return self.folder / "samples.h5"

    @property
    def annealed(self) -> Path:
        """File of its annealed samples."""
        return self.folder / "annealed.h5"


@dataclass(frozen=True)
class Result:
    """Estimates of one model and how far they are from the exact values."""

    estimate: PlainEstimate
    delta_f: Estimate
    deviation: ProfileDeviation | None
    annealed: AnnealedEstimate | None


def analyse(
    config: DoubleWellConfig,
    energy: DoubleWell,
    data: StateData,
    models: list[Model],
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    """Reweight the samples of every model and compare with quadrature."""
    section = config.analysis
    exact = double_well_exact(energy, 1.0, section.bounds, section.n_bins, section.split)
    with reporter.stage("estimate", len(models), "models") as advance:
        results = {}
        for done, model in enumerate(models, 1):
            results[model.name] = _result(model, section, exact)
            advance(done)
    main = models[-1]
    with reporter.stage("figures", 5, "figures") as advance:
        figures = _figures(energy, data, models, results, exact, folder)
        advance(5)
    _summary(config, main, results, exact, folder)
    _report(config, main, results, exact, figures, folder)


def _result(model: Model, section: AnalysisConfig, exact: Exact) -> Result:
    estimate = plain_estimate(model.samples, section)
    annealed = annealed_estimate(model.annealed, section) if model.annealed.exists() else None
    below_above = estimate.delta_f
    deviation = None
    if np.isfinite(estimate.profile.f).any():
        deviation = profile_deviation(estimate.profile, exact.profile, f_max=_F_MAX)
    delta_f = Estimate(-below_above.value, below_above.stderr)
    return Result(estimate, delta_f, deviation, annealed)


def _figures(
    energy: DoubleWell,
    data: StateData,
    models: list[Model],
    results: dict[str, Result],
    exact: Exact,
    folder: RunFolder,
) -> dict[str, str]:
    generated: dict[str, dict[str, Generated]] = {}
    surfaces = {"simulated": data.frames(held_out=False).numpy()[:, :2]}
    for model in models:
        r, x = next(read_columns(model.samples, "r", "x", chunk=_SHOWN))
        profile = results[model.name].estimate.profile
        generated.setdefault(model.network, {})[model.mode] = Generated(r, profile)
        if model.network == models[-1].network:
            surfaces[model.name] = x[:, :2]
    main = models[-1]
    estimate = results[main.name].estimate
    (log_w,) = next(read_columns(main.samples, "log_w", chunk=_SHOWN))

    def surface(x: np.ndarray) -> np.ndarray:
        rows = torch.zeros(len(x), energy.dim, dtype=torch.float64)
        rows[:, :2] = torch.from_numpy(np.ascontiguousarray(x))
        return energy.energy(rows).numpy()

    pictures = {
        "comparison": comparison(generated, exact.profile),
        "profile": free_energy(
            estimate.profile, {"exact": exact.profile}, coordinate="$x_1$", label=main.name
        ),
        "surface": energy_surface(surface, surfaces),
        "weights": weight_diagnostics(log_w, estimate.weights),
        "training": loss_curves(
            read_metrics(main.folder / METRICS),
            {"ml": "by example: -log q", "kl": "by energy: KL", "rc": "along x1: E[log p]"},
        ),
    }
    if (annealed := results[main.name].annealed) is not None:
        pictures["anneal"] = annealing_schedule(annealed.record)
    folder.figures.mkdir(exist_ok=True)
    paths = {name: str(folder.figures / f"{name}.png") for name in pictures}
    for name, figure in pictures.items():
        save(figure, paths[name])
    return paths


def _summary(
    config: DoubleWellConfig,
    main: Model,
    results: dict[str, Result],
    exact: Exact,
    folder: RunFolder,
) -> None:
    def entry(result: Result) -> dict[str, object]:
        deviation = result.deviation
        entries: dict[str, object] = weights_entry(result.estimate.weights) | {
            "delta_f": estimate_entry(result.delta_f),
            "profile": profile_entry(result.estimate.profile),
            "profile_deviation": None
            if deviation is None
            else {"rmse": deviation.rmse, "largest": deviation.largest},
        }
        if result.annealed is not None:
            entries["anneal"] = anneal_entry(result.annealed, sign=-1)
        return entries

    write_summary(
        folder.summary,
        {
            "system": "double-well",
            "model": main.name,
            "delta_f_is": f"{_difference(config)}, k_B T",
            **entry(results[main.name]),
            "seconds": folder.seconds(),
            "exact": {
                "log_z": exact.log_z,
                "delta_f": exact.delta_f,
                "profile": profile_entry(exact.profile),
            },
            "models": {name: entry(result) for name, result in results.items()},
            "seed": config.seed,
            "versions": versions(),
        },
    )


def _report(
    config: DoubleWellConfig,
    main: Model,
    results: dict[str, Result],
    exact: Exact,
    figures: dict[str, str],
    folder: RunFolder,
) -> None:
    result = results[main.name]
    weights = result.estimate.weights
    report = Report(
        "Double well", f"{' and '.join(config.networks)}, {config.sampling.n:,} samples"
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
        verdict=trust(
            weights,
            result.estimate.profile,
            barrier_range(config.analysis, _BARRIER_HALF_WIDTH),
            result.estimate.state_ess,
        ),
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
            (figures["surface"], "What was simulated and what was generated, on the surface."),
        ],
    )
    if annealed := {k: v.annealed for k, v in results.items() if v.annealed is not None}:
        row = ["exact", f"{exact.delta_f:.4f}", f"{exact.log_z:.4f}"]
        add_annealed(report, _difference(config), annealed, figures["anneal"], [row], sign=-1)
    report.add_section("Weights", figures=[(figures["weights"], f"Weights of {main.name}.")])
    report.add_section("Training", figures=[(figures["training"], f"Losses of {main.name}.")])
    report.add_section("Where the time went", table=_time_table(folder))
    report.add_details("Configuration as run", to_toml(config))
    report.add_details("Versions", versions())
    report.write(folder.report)


def _difference(config: DoubleWellConfig) -> str:
    split = f"{config.analysis.split:g}"
    return f"F(x > {split}) - F(x < {split})"


def _table(config: DoubleWellConfig, results: dict[str, Result], exact: Exact) -> Table:
    rows = []
    for name, result in results.items():
        weights, deviation = result.estimate.weights, result.deviation
        rows.append(
            [
                name,
                result.delta_f,
                weights.log_z,
                f"{deviation.largest:.3f}" if deviation else "-",
                f"{weights.ess / weights.n:.3f}",
                weights.pareto_k,
            ]
        )
    rows.append(["exact", f"{exact.delta_f:.4f}", f"{exact.log_z:.4f}", "0", "", ""])
    return Table(
        ["model", _difference(config), "log Z", "largest error of F(x)", "ESS/n", "Pareto k"],
        rows,
        caption=f"Errors of F(x) where the exact one is below {_F_MAX:g} k_B T.",
    )


def _time_table(folder: RunFolder) -> Table:
    return Table(["stage", "seconds"], [[k, f"{v:.1f}"] for k, v in folder.seconds().items()])
