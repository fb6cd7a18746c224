"""Free-energy profiles with their error bands, against references."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bgfast.analysis.figures.style import (
    ESTIMATE,
    PALE,
    REFERENCES,
    new_figure,
    say_nothing_to_show,
    style,
)
from bgfast.analysis.profiles import Profile

Array = NDArray[np.float64]
_LINES = ("--", ":", "-.", (0, (5, 1)), (0, (1, 1)))


def free_energy(
    profile: Profile,
    references: Mapping[str, Profile] | None = None,
    *,
    coordinate: str = "r",
    label: str = "reweighted",
    barrier: tuple[float, float] | None = None,
    f_max: float | None = None,
) -> Figure:
    """Draw a profile with its error band (one and two standard errors) and its references.

    Bins without samples are gaps; bins whose error is unknown are open circles. References are
    shifted vertically to the profile.

    Parameters
    ----------
    profile
        The estimate.
    references
        Label -> profile; drawn as lines, with a band where their error is not 0.
    coordinate
        Label of the horizontal axis.
    label
        Label of the estimate.
    barrier
        Range to shade.
    f_max
        Top of the vertical axis; by default what fits the curves.
    """
    with style():
        figure, ((axes,),) = new_figure(height=3.7)
        references = references or {}
        if barrier is not None:
            axes.axvspan(*barrier, color=PALE, alpha=0.6, lw=0, zorder=0)
        if np.isfinite(profile.f).any():
            draw_profile(axes, profile, label=label, color=ESTIMATE)
        elif not references:
            say_nothing_to_show(axes, "no sample of positive weight within the bounds")
        for i, (name, reference) in enumerate(references.items()):
            _draw_reference(axes, reference, offset_to(reference, profile), name, i)
        axes.set_xlim(profile.r[0], profile.r[-1])
        axes.set_xlabel(coordinate)
        axes.set_ylabel(r"free energy / $k_\mathrm{B}T$")
        if f_max is not None:
            axes.set_ylim(-0.05 * f_max, f_max)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
        return figure


def draw_profile(axes: Axes, profile: Profile, *, label: str, color: str) -> None:
    """Draw one profile with bands of one and two standard errors into ``axes``."""
    axes.plot(profile.r, profile.f, color=color, label=label, zorder=3)
    for n_errors, alpha in ((2, 0.13), (1, 0.25)):
        error = n_errors * profile.stderr
        low, high = profile.f - error, profile.f + error
        axes.fill_between(profile.r, low, high, color=color, alpha=alpha, lw=0, zorder=2)
    unknown = np.isfinite(profile.f) & ~np.isfinite(profile.stderr)
    if unknown.any():
        axes.plot(
            profile.r[unknown],
            profile.f[unknown],
            "o",
            ms=4,
            mfc="white",
            mec=color,
            mew=1,
            zorder=4,
            label="error unknown",
        )


def _draw_reference(axes: Axes, reference: Profile, offset: float, name: str, i: int) -> None:
    color = REFERENCES[i % len(REFERENCES)]
    f = reference.f + offset
    axes.plot(reference.r, f, color=color, ls=_LINES[i % len(_LINES)], lw=1.4, label=name, zorder=5)
    if np.nanmax(reference.stderr, initial=0.0) > 0:
        low, high = f - reference.stderr, f + reference.stderr
        axes.fill_between(reference.r, low, high, color=color, alpha=0.2, lw=0, zorder=2)


def offset_to(reference: Profile, profile: Profile) -> float:
    """Return the shift of the reference that fits the profile best where it is well sampled."""
    f = np.interp(profile.r, reference.r, reference.f, left=np.nan, right=np.nan)
    difference = profile.f - f
    finite = np.isfinite(difference)
    if not finite.any():
        return 0.0
    known = finite & (profile.stderr > 0)
    if not known.any():
        return float(difference[finite].mean())
    return float(np.average(difference[known], weights=profile.stderr[known] ** -2.0))
