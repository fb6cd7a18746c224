"""Pictures of the particle dimer in its box, particles drawn to scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import ArrayLike, NDArray

from bgfast.analysis.figures.style import (
    GREY,
    INK,
    PALE,
    VERMILION,
    WIDTH,
    new_figure,
    say_nothing_to_show,
    style,
)


def dimer_configurations(
    configurations: Mapping[str, ArrayLike],
    *,
    box: float = 3.0,
    sigma: float = 1.1,
    energies: Mapping[str, float] | None = None,
) -> Figure:
    """Draw configurations side by side, the dimer in colour, particles with diameter sigma.

    Parameters
    ----------
    configurations
        Title -> one configuration, shape ``[2 n_particles]`` interleaved or ``[n_particles, 2]``;
        the first two particles are the dimer. An empty array leaves a note that there is none.
    box
        Half width of the box.
    sigma
        Length of the repulsion, in the unit of the coordinates.
    energies
        Title -> reduced energy, to be written beneath.

    Raises
    ------
    ValueError
        If there is no configuration, or one cannot be read as particles in two dimensions.
    """
    if not configurations:
        raise ValueError("configurations must hold at least one")
    particles = {title: _particles(title, x) for title, x in configurations.items()}
    n = len(particles)
    side = min(WIDTH / n, 3.2)
    with style():
        figure, (row,) = new_figure(1, n, width=side * n, height=side + 0.45)
        for axes, (title, x) in zip(row, particles.items(), strict=True):
            axes.set_title(title, loc="center", fontweight="normal")
            reach = box + 0.75 * sigma
            axes.set_xlim(-reach, reach)
            axes.set_ylim(-reach, reach)
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if x.size:
                _draw(axes, x, box, sigma)
            else:
                say_nothing_to_show(axes, "none generated")
            axes.set_xlabel(_caption(x, (energies or {}).get(title)), fontsize=8)
        return figure


def _particles(title: str, x: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(x, dtype=np.float64)
    if array.size == 0:
        return np.empty((0, 2))
    if array.ndim == 1 and array.size % 2 == 0:
        array = array.reshape(-1, 2)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < 2:
        raise ValueError(
            f"configuration {title!r} must have shape [2 n_particles] or [n_particles, 2], "
            f"got {list(array.shape)}"
        )
    return array


def _draw(axes: Axes, x: NDArray[np.float64], box: float, sigma: float) -> None:
    axes.add_patch(Rectangle((-box, -box), 2 * box, 2 * box, fc="#fafbfc", ec=GREY, lw=0.8))
    radius = sigma / 2
    solvent = [Circle(tuple(centre), radius) for centre in x[2:] if np.isfinite(centre).all()]
    axes.add_collection(PatchCollection(solvent, fc=PALE, ec=GREY, lw=0.7, alpha=0.85))
    axes.plot(x[:2, 0], x[:2, 1], color=INK, lw=1.5, zorder=4)
    dimer = [Circle(tuple(centre), radius) for centre in x[:2] if np.isfinite(centre).all()]
    axes.add_collection(PatchCollection(dimer, fc=VERMILION, ec=INK, lw=0.9, alpha=0.95, zorder=3))


def _caption(x: NDArray[np.float64], energy: float | None) -> str:
    if not x.size:
        return ""
    caption = f"d = {np.linalg.norm(x[0] - x[1]):.2f}"
    return caption if energy is None else f"{caption},  u = {energy:.1f}"
