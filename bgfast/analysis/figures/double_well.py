"""Figures of the double well: samples on the surface, networks and trainings side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from bgfast.analysis.figures.style import (
    ESTIMATE,
    GENERATED,
    GREY,
    INK,
    VERMILION,
    new_figure,
    say_nothing_to_show,
    style,
)
from bgfast.analysis.profiles import Profile

Array = NDArray[np.float64]
_MAX_POINTS = 3000


@dataclass(frozen=True)
class Generated:
    """What one network generated after one kind of training.

    Attributes
    ----------
    x
        Generated values of the coordinate, before reweighting, shape ``[n]``.
    profile
        Reweighted free-energy profile along it.
    """

    x: Array
    profile: Profile


def energy_surface(
    energy: Callable[[Array], Array],
    samples: Mapping[str, ArrayLike],
    *,
    bounds: tuple[tuple[float, float], tuple[float, float]] = ((-3.0, 3.0), (-4.0, 4.0)),
    f_max: float = 14.0,
    coordinates: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Draw a two-dimensional energy as a map and samples on it, one panel for each set.

    Parameters
    ----------
    energy
        Reduced energy, vectorised: ``energy(x[n, 2]) -> [n]``.
    samples
        Title -> samples, shape ``[n, 2]``; a random part of them is drawn.
    bounds
        Range of the two coordinates.
    f_max
        The map is cut this far above its lowest point, in k_B T.
    coordinates
        Labels of the axes.

    Raises
    ------
    ValueError
        If there is no set of samples, or one is not ``[n, 2]``.
    """
    if not samples:
        raise ValueError("samples must hold at least one set")
    points = {title: _points(title, values) for title, values in samples.items()}
    first, second = (np.linspace(low, high, 161) for low, high in bounds)
    grid = np.stack(np.meshgrid(first, second), axis=-1)
    u = np.asarray(energy(grid.reshape(-1, 2)), dtype=np.float64).reshape(grid.shape[:2])
    u = np.where(u - u.min() <= f_max, u - u.min(), np.nan)
    with style():
        figure, (row,) = new_figure(
            1, len(points), width=2.7 * len(points) + 0.9, height=2.9, sharex=True, sharey=True
        )
        levels = np.linspace(0, f_max, 15)
        for axes, (title, x) in zip(row, points.items(), strict=True):
            map_ = axes.contourf(first, second, u, levels=levels, cmap="Blues_r", alpha=0.9)
            axes.contour(first, second, u, levels=levels[::2], colors="white", linewidths=0.4)
            some = x[_chosen(len(x))]
            axes.scatter(some[:, 0], some[:, 1], s=2, color=VERMILION, alpha=0.5, lw=0)
            axes.set_title(title, loc="center", fontweight="normal")
            axes.set_xlabel(coordinates[0])
            axes.set_xlim(*bounds[0])
            axes.set_ylim(*bounds[1])
        row[0].set_ylabel(coordinates[1])
        bar = figure.colorbar(map_, ax=list(row), shrink=0.9, pad=0.02)
        bar.set_label(r"$u - u_\mathrm{min}$ / $k_\mathrm{B}T$")
        bar.outline.set_visible(False)
        return figure


def comparison(
    results: Mapping[str, Mapping[str, Generated]],
    exact: Profile,
    *,
    coordinate: str = "$x_1$",
    f_max: float = 14.0,
) -> Figure:
    """Draw networks (rows) against trainings (columns): generated density, reweighted profile.

    Each cell shows the histogram of what was generated against the exact density, and beneath it
    the reweighted free energy with error bars against the exact one. What a training leaves out (a
    state never visited) stays visible as a gap.

    Parameters
    ----------
    results
        Network -> training -> result; combinations that were not run are left empty.
    exact
        Exact profile, see :func:`bgfast.analysis.comparison.exact_profile`; its bins are used for
        the histograms.
    coordinate
        Label of the horizontal axes.
    f_max
        Top of the free-energy axes.

    Raises
    ------
    ValueError
        If ``results`` is empty.
    """
    trainings = list(dict.fromkeys(mode for row in results.values() for mode in row))
    if not trainings:
        raise ValueError("results must hold at least one network with one training")
    n_rows, n_columns = 2 * len(results), len(trainings)
    with style():
        figure, grid = new_figure(
            n_rows,
            n_columns,
            width=max(2.1 * n_columns, 3.2) + 0.6,
            height=2.9 * len(results) + 0.5,
            sharex=True,
            height_ratios=[0.8, 1] * len(results),
        )
        for i, (network, row) in enumerate(results.items()):
            for j, training in enumerate(trainings):
                top, bottom = grid[2 * i, j], grid[2 * i + 1, j]
                if training in row:
                    _draw_density(top, row[training].x, exact)
                    _draw_free_energy(bottom, row[training].profile, exact, f_max)
                else:
                    say_nothing_to_show(top, "not run")
                    bottom.set_axis_off()
                if j > 0:
                    top.tick_params(labelleft=False)
                    bottom.tick_params(labelleft=False)
            grid[2 * i, 0].set_ylabel("density")
            grid[2 * i, 0].annotate(
                network,
                (0, 0.5),
                xytext=(-52, 0),
                xycoords="axes fraction",
                textcoords="offset points",
                rotation="vertical",
                ha="center",
                va="center",
                fontweight="bold",
                fontsize=9.5,
            )
            grid[2 * i + 1, 0].set_ylabel(r"$F$ / $k_\mathrm{B}T$")
        for j, training in enumerate(trainings):
            grid[0, j].set_title(training, loc="center")
            grid[-1, j].set_xlabel(coordinate)
        _same_scale(list(grid[::2].flat))
        figure.align_ylabels(grid[:, 0])
        handles, labels = _legend(list(grid.flat))
        figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels) if n_columns > 2 else 2
        )
        return figure


def _chosen(n: int) -> NDArray[np.int64]:
    """Return which of ``n`` rows are drawn.

    At random: every k-th row of a Sobol sequence would lie in a part of space.
    """
    return np.random.default_rng(0).permutation(n)[:_MAX_POINTS]


def _points(title: str, values: ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"samples {title!r} must have shape [n, 2], got {list(x.shape)}")
    return x


def _edges(profile: Profile) -> Array:
    width = profile.r[1] - profile.r[0]
    return np.append(profile.r - width / 2, profile.r[-1] + width / 2)


def _draw_density(axes: Axes, x: Array, exact: Profile) -> None:
    edges = _edges(exact)
    width = edges[1] - edges[0]
    counts, _ = np.histogram(x[np.isfinite(x)], edges)
    generated = counts / (max(x.size, 1) * width)
    p = np.exp(-exact.f)
    axes.stairs(generated, edges, fill=True, color=GENERATED, alpha=0.5, label="generated")
    axes.plot(exact.r, p / (p.sum() * width), color=INK, lw=1.1, label="exact")
    axes.set_yticks([])
    axes.set_ylim(bottom=0)


def _draw_free_energy(axes: Axes, profile: Profile, exact: Profile, f_max: float) -> None:
    axes.plot(exact.r, exact.f, color=INK, lw=1.1)
    shown = np.isfinite(profile.f)
    known = shown & np.isfinite(profile.stderr)
    offset = _offset(profile, exact, known)
    axes.errorbar(
        profile.r[known],
        profile.f[known] - offset,
        yerr=profile.stderr[known],
        fmt="o",
        ms=1.8,
        color=ESTIMATE,
        ecolor=ESTIMATE,
        elinewidth=0.7,
        label="reweighted ± standard error",
    )
    unknown = shown & ~known
    if unknown.any():
        axes.plot(
            profile.r[unknown],
            profile.f[unknown] - offset,
            "o",
            ms=2.6,
            mfc="white",
            mec=ESTIMATE,
            mew=0.7,
            label="error unknown",
        )
    if not shown.any():
        axes.text(
            0.5, 0.9, "no weight", transform=axes.transAxes, ha="center", color=GREY, fontsize=8
        )
    axes.set_ylim(-0.06 * f_max, f_max)


def _offset(profile: Profile, exact: Profile, known: NDArray[np.bool_]) -> float:
    """Return the vertical shift of the profile against the exact one where its error is known."""
    usable = known & (profile.stderr > 0)
    if not usable.any():
        return 0.0
    difference = profile.f[usable] - np.interp(profile.r[usable], exact.r, exact.f)
    return float(np.average(difference, weights=profile.stderr[usable] ** -2.0))


def _same_scale(axes: list[Axes]) -> None:
    """Give the densities one scale, set by the exact one; a collapsed histogram is cut."""
    tops = [float(np.max(line.get_ydata())) for a in axes for line in a.lines]
    for a in axes:
        a.set_ylim(0, 1.3 * max(tops, default=1.0))


def _legend(every: list[Axes]) -> tuple[list[Artist], list[str]]:
    found: dict[str, Artist] = {}
    for axes in every:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
