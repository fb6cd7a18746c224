"""How an annealing run went: the schedule, and what each stage left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bgfast.analysis.figures.style import BLUE, GREEN, VERMILION, new_figure, style


def annealing_schedule(record: Mapping[str, Sequence[float | None]]) -> Figure:
    """Draw beta, the effective sample size and the acceptance of every stage.

    Parameters
    ----------
    record
        ``betas``; ``ess`` as a share of the particles; ``acceptance`` of HMC and
        ``sweep_acceptance`` of local moves, ``None`` where there were none. One entry per stage.
    """
    beta, ess, hmc, sweeps = (
        np.array(record[name], dtype=np.float64)
        for name in ("betas", "ess", "acceptance", "sweep_acceptance")
    )
    stage = np.arange(1, beta.size + 1)
    with style():
        figure, axes = new_figure(1, 3, height=2.6)
        schedule, weights, moves = axes[0]
        schedule.plot(np.append(0, stage), np.append(0, beta), color=BLUE, marker=".")
        schedule.set_ylabel("beta")
        weights.plot(stage, ess, color=BLUE, marker=".")
        weights.set_ylabel("least ESS / n")
        moves.plot(stage, hmc, color=GREEN, marker=".", label="HMC")
        if np.isfinite(sweeps).any():
            moves.plot(stage, sweeps, color=VERMILION, marker=".", label="local moves")
        moves.set_ylabel("acceptance")
        moves.legend()
        for panel in axes[0]:
            panel.set_xlabel("stage")
            panel.set_ylim(0, 1.03)
        return figure
