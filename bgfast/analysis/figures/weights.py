"""Weight diagnostics: distribution of log w, who carries the weight, growth of the ESS."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from bgfast.analysis.figures.style import (
    ESTIMATE,
    GENERATED,
    GREY,
    VERMILION,
    new_figure,
    say_nothing_to_show,
    style,
)
from bgfast.analysis.weights import WeightSummary, as_log_weights, normalised_weights


def weight_diagnostics(log_w: ArrayLike, summary: WeightSummary | None = None) -> Figure:
    """Draw three panels: histogram of log w, cumulative share of the weight, ESS against n.

    Parameters
    ----------
    log_w
        Log weights, shape ``[n]``; rows that are not finite weigh nothing.
    summary
        From :class:`bgfast.analysis.weights.WeightAccumulator`, for the ESS against n. Without it
        the ESS of the first 1, 2, 4 ... n rows is computed here.
    """
    logs = as_log_weights(log_w)
    w = normalised_weights(logs)
    with style():
        figure, ((left, middle, right),) = new_figure(1, 3, height=2.75)
        if not w.any():
            say_nothing_to_show(left, "no positive weight")
            middle.axis("off")
            right.axis("off")
            return figure
        _draw_log_weights(left, logs, w)
        _draw_shares(middle, w)
        history = summary.history if summary is not None else _history(w)
        end = (summary.n, summary.ess) if summary is not None else (w.size, _ess(w))
        _draw_growth(right, [*history, end])
        return figure


def _draw_log_weights(axes: Axes, logs: NDArray[np.float64], w: NDArray[np.float64]) -> None:
    """Draw log w relative to its largest value, as generated and as weighted."""
    finite = np.isfinite(logs)
    relative, share = logs[finite] - logs[finite].max(), w[finite]
    low = float(np.quantile(relative, 0.01))
    edges = np.linspace(min(low, -1.0), 0, 51)
    counts, _ = np.histogram(relative, edges, weights=np.full(relative.size, 1 / relative.size))
    weighted, _ = np.histogram(relative, edges, weights=share)
    axes.stairs(counts, edges, fill=True, color=GENERATED, alpha=0.4)
    axes.stairs(counts, edges, color=GENERATED, label="by number")
    axes.stairs(weighted, edges, color=ESTIMATE, label="by weight")
    axes.set_title("Distribution of log w")
    axes.set_xlabel(r"$\log w - \log w_\mathrm{max}$")
    axes.set_ylabel("share per bin")
    axes.set_xlim(edges[0], 0)
    axes.set_ylim(bottom=0, top=1.3 * max(float(counts.max()), float(weighted.max())))
    axes.legend(loc="upper left", handlelength=1)


def _draw_shares(axes: Axes, w: NDArray[np.float64]) -> None:
    share = np.cumsum(np.sort(w)[::-1])
    rank = np.arange(1, w.size + 1)
    shown = np.unique(np.geomspace(1, w.size, 400).astype(int)) - 1
    axes.semilogx(rank[shown], 100 * share[shown], color=ESTIMATE, marker="o" * (w.size == 1))
    axes.plot(rank[shown], 100 * rank[shown] / w.size, color=GREY, ls="--", lw=1.1)
    half = int(np.searchsorted(share, 0.5)) + 1
    axes.plot(half, 50, "o", color=VERMILION, ms=4.5, zorder=4)
    axes.annotate(
        f"half the weight:\n{half:,} sample{'s' * (half > 1)}",
        (half, 50),
        xytext=(-6, 6) if half > w.size**0.5 else (7, -6),
        textcoords="offset points",
        ha="right" if half > w.size**0.5 else "left",
        va="bottom" if half > w.size**0.5 else "top",
        fontsize=7.5,
    )
    axes.set_title("Who carries the weight")
    axes.set_xlabel("samples, heaviest first")
    axes.set_ylabel("share of the weight / %")
    axes.set_ylim(0, 103)


def _draw_growth(axes: Axes, history: list[tuple[int, float]]) -> None:
    n, ess = np.array(history, dtype=np.float64).T
    positive = ess > 0
    n, ess = n[positive], ess[positive]
    axes.loglog(n, ess, color=ESTIMATE, marker="o", ms=2.5, lw=1.2)
    axes.plot(n, ess[-1] * n / n[-1], color=GREY, ls="--", lw=1.1, label="proportional to n")
    axes.set_title("Effective samples")
    axes.set_xlabel("draws n")
    axes.set_ylabel("ESS of the first n")
    axes.legend(loc="upper left", handlelength=1.4)


def _history(w: NDArray[np.float64]) -> list[tuple[int, float]]:
    sizes = [2**i for i in range(w.size.bit_length()) if 2**i < w.size]
    return [(n, _ess(w[:n])) for n in sizes]


def _ess(w: NDArray[np.float64]) -> float:
    return float(w.sum() ** 2 / np.square(w).sum()) if w.any() else 0.0
