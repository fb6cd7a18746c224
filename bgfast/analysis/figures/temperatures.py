"""Free-energy profiles at several temperatures in one picture, each with its reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from bgfast.analysis.figures.free_energy import draw_profile, offset_to
from bgfast.analysis.figures.style import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    say_nothing_to_show,
    style,
)
from bgfast.analysis.profiles import Profile

_COLORS = (BLUE, GREEN, VERMILION, PURPLE, SKY)


def temperature_profiles(
    profiles: Mapping[float, tuple[Profile, Profile | None]],
    *,
    coordinate: str = "r",
    reference_label: str = "reference",
    f_max: float | None = None,
) -> Figure:
    """Draw one profile per temperature, with error bands, and dashed references.

    Each profile is in units of its own k_B T, with its minimum at 0.

    Parameters
    ----------
    profiles
        Relative temperature -> profile and reference, or ``None`` if there is none. References are
        shifted vertically to their profiles.
    coordinate
        Label of the horizontal axis.
    reference_label
        What the dashed lines are, for the legend.
    f_max
        Top of the vertical axis; by default what fits the curves.
    """
    with style():
        figure, ((axes,),) = new_figure(height=3.9)
        for i, (tau, (profile, _)) in enumerate(sorted(profiles.items())):
            color = _COLORS[i % len(_COLORS)]
            if np.isfinite(profile.f).any():
                draw_profile(axes, profile, label=f"tau = {tau:g}", color=color)
        label: str | None = reference_label
        for profile, reference in profiles.values():
            if reference is not None:
                f = reference.f + offset_to(reference, profile)
                axes.plot(reference.r, f, color=INK, ls="--", lw=1.1, zorder=5, label=label)
                label = None
        if f_max is not None:
            axes.set_ylim(-0.05 * f_max, f_max)
        if not axes.get_lines():
            say_nothing_to_show(axes, "no sample of positive weight within the bounds")
        else:
            axes.legend(loc="best")
        axes.set_xlabel(coordinate)
        axes.set_ylabel(r"free energy / $k_\mathrm{B}T$")
        return figure
