"""Pools of the dimer: generated samples, simulations of the two states, and windows along d."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bgfast.analysis import (
    Bidirectional,
    Estimate,
    Finding,
    Pool,
    Rows,
    Verdict,
    bidirectional,
)
from bgfast.analysis.biased import Bias, BiasedEstimate, pool_biased
from bgfast.analysis.biased_verdict import with_finding
from bgfast.analysis.diagnostics import Level
from bgfast.energies import ParticleDimer
from bgfast.experiments.config import AnalysisConfig
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_data import FlattenedData
from bgfast.experiments.dimer_windows import WindowData
from bgfast.experiments.pooling import simulated_rows
from bgfast.flows import Sequential

STATES = ("closed", "open")
AGREES = 2.5
"""Standard errors within which two estimates agree."""
_DISAGREES = 4.0


@dataclass(frozen=True)
class PooledEstimate:
    """Estimates at one temperature from the generator and simulations together.

    Parameters
    ----------
    whole
        All that there is, pooled.
    states
        Generator and the two states, which only it connects; ``None`` without such simulations.
    windows
        The windows alone; ``None`` if there are none.
    """

    whole: BiasedEstimate
    states: Bidirectional | None
    windows: BiasedEstimate | None

    @property
    def verdict(self) -> Verdict:
        """How far the whole can be trusted: its overlaps, and whether its parts agree."""
        verdict = self.whole.verdict
        if self.states is None or self.windows is None:
            return verdict
        return with_finding(verdict, _agreement(self.states.delta_f(0, 1), self.windows.delta_f))


def _agreement(states: Estimate, windows: Estimate) -> Finding:
    error = float(np.hypot(states.stderr, windows.stderr))
    difference = states.value - windows.value
    parts = f"generator with states {states} and windows alone {windows} k_B T"
    if not np.isfinite(difference) or not error > 0:
        return Finding("caution", f"The parts of the pool could not be compared: {parts}.")
    apart = abs(difference) / error
    level: Level = "good" if apart <= AGREES else "caution" if apart <= _DISAGREES else "poor"
    word = "agree" if level == "good" else "disagree"
    sentence = (
        f"Two parts of the pool that share no rows {word}: {parts}, {apart:.1f} standard errors "
        "apart."
    )
    return Finding(level, sentence)


def pooled_estimate(
    energy: ParticleDimer,
    flow: Sequential,
    section: AnalysisConfig,
    tau: float,
    generated: Rows,
    states: StateData | None,
    windows: WindowData | None,
) -> PooledEstimate | None:
    """Pool what there is at one temperature.

    Parameters
    ----------
    energy, flow
        The system, and the generator.
    section
        Range, bins and split.
    tau
        Relative temperature.
    generated
        From :func:`~bgfast.experiments.pooling.generated_rows`.
    states
        Simulations of the two states at ``tau``; the held-out walkers enter. Their energies are not
        divided by tau, those of the windows are.
    windows
        Simulations in windows at ``tau``.

    Returns
    -------
    PooledEstimate or None
        ``None`` if there is no simulation.
    """
    by_state = None
    sources: list[tuple[Rows, list[Bias]]] = []
    if states is not None and states.held_out.any():
        reduced = replace(states, energy=states.energy / tau)
        simulated = simulated_rows(reduced, flow, energy.dimer_distance, tau)
        by_state = bidirectional(_state_pool(generated, simulated, states, energy, tau), STATES)
        sources.append((simulated, _state_biases(states, energy, section, tau)))
    alone = None
    if windows is not None:
        simulated = simulated_rows(windows, flow, energy.dimer_distance, tau)
        sources.append((simulated, windows.biases(energy)))
        alone = _pool(None, sources[-1:], section)
    if not sources:
        return None
    return PooledEstimate(_pool(generated, sources, section), by_state, alone)


def _pool(
    generated: Rows | None, sources: Sequence[tuple[Rows, list[Bias]]], section: AnalysisConfig
) -> BiasedEstimate:
    biases = [bias for _, some in sources for bias in some]
    first = np.cumsum([0] + [len(some) for _, some in sources])
    rows = [
        replace(rows, state=rows.state + k) for (rows, _), k in zip(sources, first, strict=False)
    ]
    joined = {
        name: np.concatenate([getattr(r, name) for r in rows])
        for name in ("u", "log_q", "state", "r", "block")
    }
    return pool_biased(
        generated,
        Rows(**joined),
        biases,
        bounds=section.bounds,
        split=section.split,
        n_bins=section.n_bins,
    )


def _state_biases(
    data: StateData, energy: ParticleDimer, section: AnalysisConfig, tau: float
) -> list[Bias]:
    """Return what the walkers of each state were run under, divided by tau."""

    def bias_of(state: int) -> Bias:
        def value(d: np.ndarray) -> np.ndarray:
            here = (d >= section.split) == bool(state)
            if not isinstance(data, FlattenedData):
                return np.where(here, 0.0, np.inf)
            removed = data.removed(energy, d, np.full(d.shape, state)) / tau
            return np.where(here, -removed, np.inf)

        return Bias(f"the {STATES[state]} state", value)

    return [bias_of(state) for state in range(len(STATES))]


def _state_pool(
    generated: Rows, simulated: Rows, data: StateData, energy: ParticleDimer, tau: float
) -> Pool:
    """Return the pool of the two states, with the energy that the walkers were run with."""
    if not isinstance(data, FlattenedData):
        return Pool(generated, simulated)
    flat = []
    for rows in (generated, simulated):
        removed = data.removed(energy, rows.r, rows.state) / tau
        flat.append(replace(rows, u=rows.u - removed, log_target=-removed))
    return Pool(*flat)
