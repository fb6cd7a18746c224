"""Histograms of the reduced energy: data, generated, reweighted."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from bgfast.analysis.figures.style import (
    DATA,
    ESTIMATE,
    GENERATED,
    INK,
    new_figure,
    say_nothing_to_show,
    style,
)
from bgfast.analysis.weights import normalised_weights


def energy_histograms(
    generated: ArrayLike,
    log_w: ArrayLike | None = None,
    data: ArrayLike | None = None,
    *,
    n_bins: int = 80,
) -> Figure:
    """Draw histograms of the energies of generated, reweighted and simulated configurations.

    The axis spans the data and the better half of what was generated; the share of generated
    configurations above it is written into the figure.

    Parameters
    ----------
    generated
        Reduced energies of generated configurations, shape ``[n]``.
    log_w
        Their log weights, shape ``[n]``, for the reweighted histogram.
    data
        Reduced energies of simulated configurations, shape ``[m]``.
    n_bins
        Number of bins.

    Raises
    ------
    ValueError
        If ``log_w`` has not the shape of ``generated``.
    """
    u = np.asarray(generated, dtype=np.float64).ravel()
    u_data = np.empty(0) if data is None else np.asarray(data, dtype=np.float64).ravel()
    w = None if log_w is None else _weights(u, log_w)
    with style():
        figure, ((axes,),) = new_figure(height=3.0)
        axes.set_xlabel(r"reduced energy $u$ / $k_\mathrm{B}T$")
        axes.set_yticks([])
        axes.set_ylabel("density")
        axes.spines["left"].set_visible(False)
        if not np.isfinite(u).any() and not np.isfinite(u_data).any():
            say_nothing_to_show(axes, "no finite energy")
            return figure
        edges = np.linspace(*_span(u, u_data), n_bins + 1)
        top = _fill(axes, edges, u, GENERATED, "generated")
        if u_data.size:
            top = max(top, _fill(axes, edges, u_data, DATA, "simulated data"))
        if w is not None and w.any():
            share, _ = np.histogram(u[w > 0], edges, weights=w[w > 0])
            density = share / np.diff(edges)
            axes.stairs(density, edges, color=ESTIMATE, lw=1.6, label="reweighted")
            top = max(top, min(float(density.max()), 2 * top))  # one heavy weight must not flatten
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.08 * top)
        axes.legend(loc="upper right")
        above = np.mean(~(u <= edges[-1])) if u.size else 0.0  # NaN counts as above
        if above > 0:
            axes.annotate(
                f"{100 * above:.2g} % of the generated\nlie beyond this axis",
                (1, 0.45),
                xycoords="axes fraction",
                ha="right",
                color=INK,
                fontsize=8,
            )
        return figure


def _weights(u: NDArray[np.float64], log_w: ArrayLike) -> NDArray[np.float64]:
    logs = np.asarray(log_w, dtype=np.float64).ravel()
    if logs.shape != u.shape:
        raise ValueError(
            f"log_w must have the shape of generated, {list(u.shape)}, got {list(logs.shape)}"
        )
    return normalised_weights(np.where(np.isfinite(u), logs, -np.inf))


def _span(u: NDArray[np.float64], u_data: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range from the lowest energy to the top of the data and the better half of u."""
    u, u_data = u[np.isfinite(u)], u_data[np.isfinite(u_data)]
    everything = np.concatenate([u, u_data])
    low = float(everything.min())
    tops = []
    if u_data.size:
        tops.append(float(np.quantile(u_data, 0.9995)))
    if u.size:
        median = float(np.median(u))
        tops.append(median + 2 * max(median - low, 0.0) if not u_data.size else median)
    high = max(tops)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + 2 * margin


def _fill(
    axes: Axes,
    edges: NDArray[np.float64],
    values: NDArray[np.float64],
    color: str,
    label: str,
) -> float:
    """Draw a filled histogram, normalised by all values, also those beyond the edges.

    Returns
    -------
    float
        Its highest density.
    """
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    density = counts / (max(values.size, 1) * np.diff(edges))
    axes.stairs(density, edges, fill=True, color=color, alpha=0.35, lw=0)
    axes.stairs(density, edges, color=color, lw=1.2, label=label)
    return float(density.max())
