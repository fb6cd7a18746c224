"""The film strip of an exploration: what was visited and generated, iteration by iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bgfast.analysis.figures.style import (
    DATA,
    ESTIMATE,
    GENERATED,
    INK,
    PALE,
    VERMILION,
    new_figure,
    style,
)
from bgfast.analysis.profiles import Profile
from bgfast.analysis.weights import normalised_weights

Array = NDArray[np.float64]
_MAX_POINTS = 1500


@dataclass(frozen=True)
class FilmFrame:
    """One picture of the strip.

    Attributes
    ----------
    title
        What it is.
    visited
        Coordinate of the population, ``[n]``.
    generated, log_w
        Coordinate and log weights of what the flow generates, ``[m]``. Without weights nothing is
        reweighted.
    points
        The population in the plane of the surface, ``[n, 2]``, if there is one.
    """

    title: str
    visited: Array
    generated: Array
    log_w: Array | None = None
    points: Array | None = None


@dataclass(frozen=True)
class Surface:
    """An energy surface to draw the population on.

    Attributes
    ----------
    energy
        Reduced energy, vectorised: ``energy(x[n, 2]) -> [n]``.
    window
        Range of the two coordinates.
    f_max
        The map is cut this far above its lowest point, in k_B T.
    labels
        Labels of the axes.
    """

    energy: Callable[[Array], Array]
    window: tuple[tuple[float, float], tuple[float, float]]
    f_max: float = 14.0
    labels: tuple[str, str] = ("$x_1$", "$x_2$")


def film_strip(
    frames: Sequence[FilmFrame],
    bounds: tuple[float, float],
    *,
    reference: Profile | None = None,
    surface: Surface | None = None,
    coordinate: str = "r",
    n_bins: int = 50,
    f_max: float = 14.0,
) -> Figure:
    """Draw the frames side by side.

    Top: the population on the energy surface, if there is one. Middle: densities along the
    coordinate. Bottom: their logarithms, in which states of little weight show.

    Parameters
    ----------
    frames
        At least one.
    bounds
        Range of the histograms.
    reference
        Free-energy profile to compare with.
    surface
        Where the population is drawn; frames need ``points`` then.
    coordinate
        Label of the horizontal axes.
    n_bins
        Number of bins.
    f_max
        Depth of the logarithmic picture, in k_B T.

    Raises
    ------
    ValueError
        If there is no frame, or a frame lacks points for the surface.
    """
    if not frames:
        raise ValueError("frames must hold at least one")
    if surface is not None and any(frame.points is None for frame in frames):
        raise ValueError("every frame needs points, because there is a surface")
    edges = np.linspace(*bounds, n_bins + 1)
    rows = 2 if surface is None else 3
    n = len(frames)
    with style():
        figure, grid = new_figure(
            rows,
            n,
            width=1.55 * n + 0.9,
            height=1.55 * rows + 0.5,
            height_ratios=[1.1, 0.8, 1.0][-rows:],
            sharex=False,
        )
        for j, frame in enumerate(frames):
            if surface is not None:
                _draw_surface(grid[0, j], surface, frame, first=j == 0)
            _draw_densities(grid[-2, j], frame, edges, reference)
            _draw_logarithms(grid[-1, j], frame, edges, reference, f_max)
            grid[0, j].set_title(frame.title, loc="center")
            grid[-1, j].set_xlabel(coordinate)
            grid[-2, j].tick_params(labelbottom=False)
            if j > 0:
                grid[-1, j].tick_params(labelleft=False)
        _same_top(list(grid[-2]))
        grid[-2, 0].set_ylabel("density")
        grid[-1, 0].set_ylabel(r"$\log\,p$")
        figure.align_ylabels(grid[:, 0])
        handles, labels = grid[-1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return figure


def evenly_chosen(n: int, at_most: int) -> list[int]:
    """Return at most ``at_most`` of 0 ... n - 1, evenly, the first and the last included."""
    if n <= at_most:
        return list(range(n))
    return [round(i * (n - 1) / (at_most - 1)) for i in range(at_most)]


def _draw_surface(axes: Axes, surface: Surface, frame: FilmFrame, *, first: bool) -> None:
    assert frame.points is not None
    x, y = (np.linspace(low, high, 121) for low, high in surface.window)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    u = np.asarray(surface.energy(grid.reshape(-1, 2)), dtype=np.float64).reshape(grid.shape[:2])
    u = np.where(u - u.min() <= surface.f_max, u - u.min(), np.nan)
    levels = np.linspace(0, surface.f_max, 15)
    axes.contourf(x, y, u, levels=levels, cmap="Blues_r", alpha=0.9)
    some = frame.points[:: max(1, len(frame.points) // _MAX_POINTS)]
    axes.scatter(some[:, 0], some[:, 1], s=1.5, color=VERMILION, alpha=0.6, lw=0)
    axes.set_xlim(*surface.window[0])
    axes.set_ylim(*surface.window[1])
    if first:
        axes.set_ylabel(surface.labels[1])
    else:
        axes.tick_params(labelleft=False)


def _draw_densities(axes: Axes, frame: FilmFrame, edges: Array, reference: Profile | None) -> None:
    for values, weights, draw in _curves(frame):
        density = _shares(values, weights, edges) / np.diff(edges)
        axes.stairs(density, edges, **draw)
    if reference is not None:
        p = _density(reference)
        axes.plot(reference.r, p, color=INK, lw=1.0)
    axes.set_yticks([])
    axes.set_xlim(edges[0], edges[-1])


def _draw_logarithms(
    axes: Axes, frame: FilmFrame, edges: Array, reference: Profile | None, f_max: float
) -> None:
    width = edges[1] - edges[0]
    top = 1.0 if reference is None else float(_density(reference).max()) * width
    for values, weights, draw in _curves(frame):
        shares = _shares(values, weights, edges) / top
        with np.errstate(divide="ignore"):
            log_p = np.where(shares > 0, np.log(shares), np.nan)
        baseline = -f_max if draw.get("fill") else None
        axes.stairs(log_p, edges, **draw, baseline=baseline)
    if reference is not None:
        axes.plot(reference.r, -reference.f, color=INK, lw=1.0, label="reference")
    axes.set_ylim(-f_max, 0.08 * f_max)
    axes.set_xlim(edges[0], edges[-1])


def _curves(frame: FilmFrame) -> list[tuple[Array, Array, dict[str, Any]]]:
    visited = np.full(frame.visited.size, 1 / max(frame.visited.size, 1))
    drawn = np.full(frame.generated.size, 1 / max(frame.generated.size, 1))
    fill: dict[str, Any] = {
        "fill": True,
        "color": DATA,
        "alpha": 0.45,
        "lw": 0,
        "label": "population",
    }
    curves: list[tuple[Array, Array, dict[str, Any]]] = [
        (frame.visited, visited, fill),
        (frame.generated, drawn, {"color": GENERATED, "lw": 1.1, "label": "generated"}),
    ]
    if frame.log_w is not None:
        weights = normalised_weights(frame.log_w)
        line: dict[str, Any] = {"color": ESTIMATE, "lw": 1.1, "label": "reweighted"}
        curves.append((frame.generated, weights, line))
    return curves


def _shares(values: Array, weights: Array, edges: Array) -> Array:
    """Return the share of the weight in each bin; values that are not finite are left out."""
    finite = np.isfinite(values)
    shares, _ = np.histogram(values[finite], edges, weights=weights[finite])
    return np.asarray(shares, dtype=np.float64)


def _density(reference: Profile) -> Array:
    p: Array = np.exp(-np.where(np.isfinite(reference.f), reference.f, np.inf))
    density: Array = p / (p.sum() * (reference.r[1] - reference.r[0]))
    return density


def _same_top(axes: list[Axes]) -> None:
    """Give the densities one scale, set by the broadest; what is narrower is cut."""
    tops = [max((float(a.dataLim.y1), 1e-12)) for a in axes]
    for a in axes:
        a.set_ylim(0, 1.6 * min(tops))
        a.set_facecolor("none")
        a.spines["bottom"].set_color(PALE)
