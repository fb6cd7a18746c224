"""Prior, generated and reweighted density of a one-dimensional system beside exp(-u)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bgfast.analysis.figures.double_well import Generated
from bgfast.analysis.figures.style import (
    ESTIMATE,
    GENERATED,
    GREY,
    INK,
    new_figure,
    style,
)
from bgfast.analysis.profiles import Profile

Array = NDArray[np.float64]
_PRIOR: dict[str, Any] = {"color": GREY, "lw": 1.1, "ls": "--", "label": "prior N(0, 1)"}
_EXACT: dict[str, Any] = {"color": INK, "lw": 1.2, "label": "exp(−u) / Z, exact"}


def densities(
    results: Mapping[str, Generated],
    exact: Profile,
    energy: Callable[[Array], Array],
    *,
    coordinate: str = "$x$",
    u_max: float = 14.0,
) -> Figure:
    """Draw what a one-dimensional generator does, one column for each training.

    Top: the standard normal prior, what the generator makes of it, and what reweighting makes of
    that, beside the exact density exp(-u) / Z. Bottom: the same on a logarithmic scale, as
    -log(density) beside the energy u, each shifted by the log of its normalisation.

    Parameters
    ----------
    results
        Training -> what was generated.
    exact
        Exact profile; its bins are used throughout.
    energy
        Reduced energy, vectorised: ``energy(x[n]) -> [n]``.
    coordinate
        Label of the horizontal axes.
    u_max
        Top of the logarithmic axes.

    Raises
    ------
    ValueError
        If ``results`` is empty.
    """
    if not results:
        raise ValueError("results must hold at least one training")
    width = exact.r[1] - exact.r[0]
    edges = np.append(exact.r - width / 2, exact.r[-1] + width / 2)
    x = np.linspace(edges[0], edges[-1], 601)
    u = np.asarray(energy(x), dtype=np.float64)
    u = u + np.log(np.trapezoid(np.exp(u.min() - u), x)) - u.min()
    prior = 0.5 * x**2 + 0.5 * np.log(2 * np.pi)
    n = len(results)
    with style():
        figure, grid = new_figure(
            2, n, width=max(2.3 * n, 3.4) + 0.7, height=5.0, sharex=True, sharey="row"
        )
        for column, (training, result) in enumerate(results.items()):
            top, bottom = grid[:, column]
            for axes, logarithmic in ((top, False), (bottom, True)):
                _draw_samples(axes, result, edges, logarithmic)
                for f, look in ((prior, _PRIOR), (u, _EXACT)):
                    axes.plot(x, f if logarithmic else np.exp(-f), **look)
            top.set_title(training, loc="center")
            bottom.set_xlabel(coordinate)
        grid[0, 0].set_ylabel("density")
        grid[0, 0].set_ylim(0, 1.25 * float(np.exp(-u.min())))
        grid[1, 0].set_ylabel("−log density")
        grid[1, 0].set_ylim(-1.0, u_max)
        grid[0, 0].set_xlim(edges[0], edges[-1])
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2 if n < 3 else 4)
        return figure


def _draw_samples(axes: Axes, result: Generated, edges: Array, logarithmic: bool) -> None:
    width = edges[1] - edges[0]
    counts, _ = np.histogram(result.x[np.isfinite(result.x)], edges)
    generated = counts / (max(result.x.size, 1) * width)
    p = np.exp(-result.profile.f) / (np.nansum(np.exp(-result.profile.f)) * width)
    known = np.isfinite(p) & np.isfinite(result.profile.stderr)
    error = result.profile.stderr if logarithmic else p * result.profile.stderr
    axes.stairs(
        _minus_log(generated) if logarithmic else generated,
        edges,
        color=GENERATED,
        lw=1.3,
        label="generated",
        baseline=None,
    )
    axes.errorbar(
        result.profile.r[known],
        (_minus_log(p) if logarithmic else p)[known],
        yerr=error[known],
        fmt="o",
        ms=2.2,
        color=ESTIMATE,
        elinewidth=0.7,
        label="reweighted ± standard error",
    )


def _minus_log(p: Array) -> Array:
    return np.where(p > 0, -np.log(np.where(p > 0, p, 1.0)), np.nan)
