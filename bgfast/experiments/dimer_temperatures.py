"""Estimates at every sampled temperature of one network, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bgfast.analysis import Report, Table
from bgfast.analysis.figures import temperature_profiles
from bgfast.energies import ParticleDimer
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_estimates import DimerEstimates, estimates
from bgfast.experiments.dimer_reference import load_reference
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.progress import Reporter
from bgfast.flows import Sequential


def estimates_at_all(
    config: DimerConfig,
    energy: ParticleDimer,
    simulated: Mapping[float, StateData],
    flow: Sequential,
    folder: RunFolder,
    reporter: Reporter,
) -> dict[float, DimerEstimates]:
    """Return the estimates by temperature, that nearest to tau = 1 first.

    Parameters
    ----------
    config, energy, flow, folder, reporter
        The run.
    simulated
        Simulations that serve the estimate, at the temperatures that have any.
    """
    found = {}
    for tau in sorted(config.sampling.tau, key=lambda tau: (abs(tau - 1), tau)):
        sampling = config.sampling.model_copy(update={"tau": (tau,)})
        at_tau = config.model_copy(update={"sampling": sampling})
        reference = load_reference(folder, tau)
        data = simulated.get(tau)
        found[tau] = estimates(at_tau, energy, data, flow, folder, reference, reporter)
    return found


def draw_temperatures(found: Mapping[float, DimerEstimates]) -> Figure:
    """Draw the recommended profiles of all temperatures with their references."""
    profiles = {
        tau: (at_tau.profile, None if at_tau.reference is None else at_tau.reference.profile)
        for tau, at_tau in found.items()
    }
    return temperature_profiles(
        profiles, coordinate="dimer distance d", reference_label="umbrella sampling"
    )


def add_temperatures(report: Report, found: Mapping[float, DimerEstimates], figure: str) -> None:
    """Add the section that compares the temperatures, each with its reference."""
    columns = ["tau", "F(closed) - F(open), k_B T", "umbrella sampling", "standard errors apart"]
    columns += ["largest difference of F(d)", "rms", "estimator", "trust"]
    report.add_section(
        "Several temperatures from one network",
        "The latent variance is tau: the same network generates at every temperature. Generated "
        "configurations are weighed, and pooled with simulations, at each temperature on its own. "
        "Differences of F(d) from umbrella sampling are in k_B T at that temperature, over the "
        "range in which profiles are compared.",
        table=Table(columns, [_row(tau, at_tau) for tau, at_tau in sorted(found.items())]),
        figures=[(figure, "Free energy of the dimer distance d at each temperature.")],
    )


def _row(tau: float, found: DimerEstimates) -> list[Any]:
    agreement, reference = found.agreement, found.reference
    compared: list[Any] = ["", "", ""]
    if agreement is not None:
        apart = abs(agreement.delta_f) / agreement.stderr if agreement.stderr > 0 else np.nan
        compared = [apart, agreement.profile.largest, agreement.profile.rmse]
    reference_value = "" if reference is None else reference.delta_f
    return [
        f"{tau:g}",
        found.delta_f,
        reference_value,
        *compared,
        found.recommended,
        found.verdict.level,
    ]
