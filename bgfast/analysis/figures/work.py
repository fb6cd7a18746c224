"""Figure of the overlap between a generator and simulations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from bgfast.analysis.figures.style import (
    GENERATED,
    GREY,
    INK,
    new_figure,
    say_nothing_to_show,
    style,
)


def work_distributions(
    states: Mapping[str, tuple[ArrayLike, ArrayLike]], *, n_bins: int = 80
) -> Figure:
    """Draw, for each state, the work of generated rows beside that of simulated ones.

    Parameters
    ----------
    states
        State -> (work of generated rows, work of simulated frames), u + log q - f in k_B T. The two
        densities cross at 0; where they overlap, the samples tell about each other.
    n_bins
        Number of bins.

    Raises
    ------
    ValueError
        If there is no state.
    """
    if not states:
        raise ValueError("states must hold at least one state")
    with style():
        figure, (row,) = new_figure(1, len(states), width=3.6 * len(states), height=2.7)
        for axes, (name, (generated, simulated)) in zip(row, states.items(), strict=True):
            axes.set_title(name, loc="center", fontweight="normal")
            forward, backward = _finite(generated), _finite(simulated)
            if not forward.size or not backward.size:
                say_nothing_to_show(axes, "no finite work on one side")
                continue
            low = min(np.quantile(backward, 0.001), np.quantile(forward, 0.0))
            # The generated side has a long tail; it may take half of the picture.
            high = min(np.quantile(forward, 0.95), max(-low, 1.0))
            edges = np.linspace(min(low, -1.0), max(high, 1.0), n_bins + 1)
            for work, color, label in (
                (backward, GREY, "simulated"),
                (forward, GENERATED, "generated"),
            ):
                counts, _ = np.histogram(work, edges)
                density = counts / (work.size * np.diff(edges))
                axes.stairs(density, edges, fill=True, color=color, alpha=0.35, lw=0)
                axes.stairs(density, edges, color=color, lw=1.2, label=label)
            axes.axvline(0.0, color=INK, lw=0.8, ls="--")
            axes.set_xlabel(r"$u + \log q - f$ / $k_\mathrm{B}T$")
            axes.set_yticks([])
        row[0].set_ylabel("density")
        row[0].legend()
        return figure


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]
