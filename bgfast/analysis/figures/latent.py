"""The latent picture: whether the data, mapped to latent space, look like the prior."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi

from bgfast.analysis.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILION,
    new_figure,
    say_nothing_to_show,
    style,
)

_STATES = (BLUE, ORANGE, GREEN, VERMILION)
_MAX_POINTS = 2000


def latent_picture(
    states: Mapping[str, ArrayLike], *, sigma: float = 1.0, axes_shown: tuple[int, int] = (0, 1)
) -> Figure:
    """Draw radius and two coordinates of latent vectors beside what the prior N(0, sigma^2) says.

    Parameters
    ----------
    states
        Label of a state -> latent vectors of its configurations, shape ``[n, dim]``.
    sigma
        Standard deviation of the prior.
    axes_shown
        Which two latent coordinates to scatter.

    Raises
    ------
    ValueError
        If an array is not ``[n, dim]`` with one dim for all, or a coordinate does not exist.
    """
    z = {name: _checked(name, values) for name, values in states.items()}
    dims = {values.shape[1] for values in z.values()}
    if len(dims) != 1:
        raise ValueError(f"all states must have the same dim, got {sorted(dims) or 'no state'}")
    dim = dims.pop()
    if not all(0 <= i < dim for i in axes_shown):
        raise ValueError(f"axes_shown must be below dim = {dim}, got {axes_shown}")
    with style():
        figure, ((left, right),) = new_figure(1, 2, height=3.2, width_ratios=(1.25, 1))
        if not any(len(values) for values in z.values()):
            say_nothing_to_show(left, "no finite latent vector")
            right.axis("off")
            return figure
        _draw_radii(left, z, dim, sigma)
        _draw_scatter(right, z, sigma, axes_shown)
        return figure


def _checked(name: str, values: ArrayLike) -> NDArray[np.float64]:
    z = np.asarray(values, dtype=np.float64)
    if z.ndim != 2:
        raise ValueError(f"latent vectors of {name!r} must be [n, dim], got {list(z.shape)}")
    return z[np.isfinite(z).all(axis=1)]


def _draw_radii(axes: Axes, z: Mapping[str, NDArray[np.float64]], dim: int, sigma: float) -> None:
    radii = {name: np.linalg.norm(values, axis=1) / sigma for name, values in z.items()}
    everything = np.concatenate(list(radii.values()))
    low = min(float(chi.ppf(1e-4, dim)), float(everything.min()))
    high = max(float(chi.ppf(1 - 1e-4, dim)), float(np.quantile(everything, 0.99)))
    edges = np.linspace(low, high, 41)
    for (name, values), color in zip(radii.items(), _STATES * len(radii), strict=False):
        if values.size:
            density, _ = np.histogram(values, edges)
            scaled = density / (values.size * np.diff(edges))
            axes.stairs(scaled, edges, fill=True, color=color, alpha=0.3)
            axes.stairs(scaled, edges, color=color, lw=1.2, label=name)
    grid = np.linspace(low, high, 400)
    axes.plot(grid, chi.pdf(grid, dim), color=INK, ls="--", lw=1.3, label=f"prior, chi({dim})")
    axes.set_title("Radius of latent vectors")
    axes.set_xlabel(r"$|z|\,/\,\sigma$")
    axes.set_ylabel("density")
    axes.set_yticks([])
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")


def _draw_scatter(
    axes: Axes, z: Mapping[str, NDArray[np.float64]], sigma: float, shown: tuple[int, int]
) -> None:
    first, second = shown
    for (name, values), color in zip(z.items(), _STATES * len(z), strict=False):
        some = values[:: max(1, len(values) // _MAX_POINTS)]  # evenly spread over the data
        axes.scatter(some[:, first], some[:, second], s=4, color=color, alpha=0.4, lw=0, label=name)
    for n in (1, 2, 3):
        axes.add_patch(Circle((0, 0), n * sigma, fill=False, ec=GREY, lw=0.8, ls="--"))
    axes.set_title("Two latent coordinates")
    axes.set_xlabel(f"$z_{{{first + 1}}}$")
    axes.set_ylabel(f"$z_{{{second + 1}}}$")
    reach = 4 * sigma
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
