"""The temperatures of one network side by side, each against its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bgfast.analysis import Report, Table
from bgfast.analysis.figures import temperature_profiles
from bgfast.experiments.dimer_estimates import JUDGED, DimerEstimates


def draw_temperatures(found: DimerEstimates) -> Figure:
    """Draw the best profile at each temperature with its reference."""
    references = {tau: reference.profile for tau, reference in found.references.items()}
    profiles = {tau: found.profile_at(tau) for tau in found.plain}
    low, high = JUDGED
    judged = [profile.f[(profile.r >= low) & (profile.r <= high)] for profile in profiles.values()]
    highest = np.nanmax(np.concatenate(judged), initial=0.0)
    return temperature_profiles(
        {tau: (profile, references.get(tau)) for tau, profile in profiles.items()},
        coordinate="dimer distance d",
        reference_label="umbrella sampling",
        f_max=1.3 * highest if highest > 0 else None,
    )


def add_temperatures(report: Report, found: DimerEstimates, figure: str) -> None:
    """Add the section that compares the temperatures."""
    columns = ["tau", "F(closed) - F(open), k_B T", "umbrella sampling", "standard errors apart"]
    columns += ["largest difference of F(d)", "rms", "trust"]
    report.add_section(
        "Several temperatures from one network",
        "The latent variance is tau, so that one network generates at every temperature. Generated "
        "configurations are weighed, and pooled with simulations, at each temperature on its own. "
        "Energies are in k_B T of that temperature; profiles are compared over the range in which "
        "the headline one is.",
        table=Table(columns, [_row(found, tau) for tau in sorted(found.plain)]),
        figures=[(figure, "Free energy of the dimer distance d at each temperature.")],
    )


def _row(found: DimerEstimates, tau: float) -> list[Any]:
    reference, agreement = found.references.get(tau), found.agreement(tau)
    compared: list[Any] = ["", "", ""]
    if agreement is not None:
        apart = abs(agreement.delta_f) / agreement.stderr if agreement.stderr > 0 else np.nan
        compared = [apart, agreement.profile.largest, agreement.profile.rmse]
    return [
        f"{tau:g}",
        found.delta_f_at(tau),
        "" if reference is None else reference.delta_f,
        *compared,
        found.pooled[tau].verdict.level if tau in found.pooled else "plain weights",
    ]
