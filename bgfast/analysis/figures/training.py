"""Loss curves from ``metrics.jsonl``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d

from bgfast.analysis.figures.style import (
    GREY,
    TERMS,
    new_figure,
    say_nothing_to_show,
    style,
)

_SMOOTHED_BEYOND = 200  # points; fewer are shown as they are


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; a last line that is cut off (a run being killed) is left out.

    Raises
    ------
    ValueError
        If any other line is not a JSON object; the message names file and line.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines):
            raise ValueError(f"{path}, line {number}: not a JSON object")
    return rows


def loss_curves(
    metrics: Sequence[Mapping[str, Any]],
    terms: Mapping[str, str],
    *,
    step: str = "step",
    stage: str = "stage",
) -> Figure:
    """Draw one panel for each term of the loss over the training step; stages are marked.

    The vertical axis leaves out the highest and lowest percent of the values, so that a spike does
    not flatten the curve. Terms that no row holds are left out.

    Parameters
    ----------
    metrics
        Rows of ``metrics.jsonl``; numbers may be missing or null.
    terms
        Key in the rows -> label.
    step, stage
        Keys of the step and of the stage's name or number.
    """
    series = {label: _series(metrics, step, key) for key, label in terms.items()}
    series = {label: curve for label, curve in series.items() if curve[0].size}
    starts = _stage_starts(metrics, step, stage)
    n = max(len(series), 1)
    with style():
        figure, rows = new_figure(n, 1, height=0.6 + 1.45 * n, sharex=True)
        if not series:
            say_nothing_to_show(rows[0, 0], "no losses were recorded")
            return figure
        for i, (axes, (label, curve)) in enumerate(zip(rows[:, 0], series.items(), strict=True)):
            _draw(axes, *curve, color=TERMS[i % len(TERMS)])
            axes.set_ylabel(label)
            for first, _ in starts[1:]:
                axes.axvline(first, color=GREY, lw=0.8, ls=":", zorder=0)
        if len(starts) > 1:
            _name_stages(rows[0, 0], starts)
        figure.align_ylabels(rows[:, 0])
        rows[-1, 0].set_xlabel("training step")
        return figure


def _series(
    metrics: Sequence[Mapping[str, Any]], step: str, key: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pairs = [(row[step], row[key]) for row in metrics if row.get(key) is not None and step in row]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, 0], table[:, 1]


def _stage_starts(
    metrics: Sequence[Mapping[str, Any]], step: str, stage: str
) -> list[tuple[float, str]]:
    """Return (first step, name) of each stage, in order; a bare number becomes "stage number"."""
    starts: list[tuple[float, str]] = []
    previous: object = None
    for row in metrics:
        here = row.get(stage)
        if here is not None and here != previous and step in row:
            starts.append((float(row[step]), here if isinstance(here, str) else f"stage {here}"))
            previous = here
    return starts


def _name_stages(axes: Axes, starts: list[tuple[float, str]]) -> None:
    """Write the stages' names above the axes, leaving out those that would overlap."""
    low, high = axes.get_xlim()
    character = 0.011 * (high - low)  # width of one
    free_from = low
    for first, name in starts:
        if first >= free_from:
            axes.annotate(
                name,
                (first, 1.02),
                xycoords=("data", "axes fraction"),
                fontsize=7.5,
                color=GREY,
            )
            free_from = first + character * (len(name) + 1)


def _draw(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], color: str) -> None:
    if y.size <= _SMOOTHED_BEYOND:
        axes.plot(x, y, color=color, marker="o" if y.size == 1 else None)
    else:
        width = max(3, y.size // 80)
        axes.plot(x, y, color=color, alpha=0.25, lw=0.8)
        without_spikes = median_filter(y, width, mode="nearest")
        axes.plot(x, uniform_filter1d(without_spikes, width, mode="nearest"), color=color)
    low, high = np.quantile(y, [0.01, 0.99])
    margin = 0.12 * (high - low) or max(0.05 * abs(high), 0.5)
    axes.set_ylim(low - margin, high + margin)
