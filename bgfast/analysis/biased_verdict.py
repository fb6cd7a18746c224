"""Do simulations under biases and the generator overlap enough? A verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgfast.analysis.diagnostics import Finding, Level, Verdict
from bgfast.analysis.overlap import FRAMES_PER_WALKER, LEFT_OUT, OVERLAP, WALKERS

Array = NDArray[np.float64]

_LEVELS: tuple[Level, ...] = ("good", "caution", "poor")


@dataclass(frozen=True)
class SimulationSummary:
    """One simulation of a pool.

    Attributes
    ----------
    name
        What it was.
    n_frames, n_walkers
        Usable frames, and the walkers that they come from.
    inefficiency
        Statistical inefficiency g along the walkers.
    n_effective
        n_frames / g.
    """

    name: str
    n_frames: int
    n_walkers: int
    inefficiency: float
    n_effective: float


def judge(
    simulations: Sequence[SimulationSummary],
    overlap_matrix: Array,
    n_left_out: int,
    n_simulated: int,
    converged: bool,
) -> Verdict:
    """Say whether the overlap carries the estimate.

    Parameters
    ----------
    simulations
        What was simulated.
    overlap_matrix
        Of generator (first) and simulations.
    n_left_out, n_simulated
        Simulated rows that could not be used, and all of them.
    converged
        Whether the MBAR equations were solved.
    """
    findings = [_connection(simulations, overlap_matrix), _walkers(simulations)]
    if not converged:
        findings.append(Finding("poor", "The MBAR equations could not be solved."))
    if n_left_out:
        share = n_left_out / n_simulated
        level: Level = "good" if share < LEFT_OUT[0] else "caution"
        findings.append(
            Finding(
                "poor" if share > LEFT_OUT[1] else level,
                f"{n_left_out:,} of {n_simulated:,} simulated rows were left out (not finite, or "
                "outside of the range); if they differ from the others, the estimate is biased.",
            )
        )
    return _verdict(findings)


def with_finding(verdict: Verdict, finding: Finding) -> Verdict:
    """Return the verdict of a pool with one more finding."""
    return _verdict([*verdict.findings, finding])


def _verdict(findings: Sequence[Finding]) -> Verdict:
    worst = max((finding.level for finding in findings), key=_LEVELS.index)
    return Verdict(worst, _HEADLINES[worst], tuple(findings), _ADVICE)


_HEADLINES: dict[Level, str] = {
    "good": "The pool is connected well enough for the free energies and their errors.",
    "caution": "The pooled free energies are usable with caution; read the errors as lower bounds.",
    "poor": "The pool is not connected well enough: its free energies and their errors cannot be "
    "trusted.",
}
_TAKES_PART = 1e-3
"""Overlap with a simulation from which on the generator's samples matter."""
_ADVICE = "No overlap can reveal a part of configuration space that neither side visited."


def weakest_link(overlap_matrix: Array) -> tuple[int, int, float]:
    """Return the weakest link of the strongest tree that joins all simulations.

    Links are overlaps O_ij + O_ji, for two samples 1 minus the second eigenvalue of their overlap
    matrix. The tree may lead through the generator (index 0), but need not join it.
    """
    links = overlap_matrix + overlap_matrix.T
    n = len(links)
    joined, outside = [1], set(range(n)) - {1}
    edges: list[tuple[int, int, float]] = []
    while outside:  # Prim's algorithm
        i, j = max(((i, j) for i in joined for j in outside), key=lambda pair: links[pair])
        edges.append((i, j, float(links[i, j])))
        joined.append(j)
        outside.remove(j)
    if sum(0 in edge[:2] for edge in edges) == 1:  # the generator is a leaf
        edges = [edge for edge in edges if 0 not in edge[:2]]
    return min(edges, key=lambda edge: edge[2], default=(1, 1, 1.0))


def _connection(simulations: Sequence[SimulationSummary], overlap_matrix: Array) -> Finding:
    names = ["the generator", *(simulation.name for simulation in simulations)]
    i, j, link = weakest_link(overlap_matrix)
    with_generator = (overlap_matrix[0, 1:] + overlap_matrix[1:, 0]).max()
    sentence = (
        f"The weakest of the overlaps that join the simulations is {link:.2g}, between {names[i]} "
        f"and {names[j]}; "
    )
    if with_generator >= _TAKES_PART:
        sentence += f"the generator overlaps by up to {with_generator:.2g} with one of them."
    else:
        sentence += (
            f"the generator overlaps with none ({with_generator:.1g} at most): its samples add "
            "nothing to the estimate, which rests on the simulations alone."
        )
    good_above, poor_below = OVERLAP
    level: Level = "good" if link >= good_above else "caution" if link >= poor_below else "poor"
    return Finding(level, sentence)


def _walkers(simulations: Sequence[SimulationSummary]) -> Finding:
    fewest = min(simulations, key=lambda simulation: simulation.n_walkers)
    slowest = min(simulations, key=lambda s: s.n_effective / max(s.n_walkers, 1))
    frames = slowest.n_effective / max(slowest.n_walkers, 1)
    good_above, poor_below = WALKERS
    n = fewest.n_walkers
    level: Level = "good" if n >= good_above else "caution" if n >= poor_below else "poor"
    sentence = (
        f"Every simulation has at least {n} independent walkers, each with {frames:.0f} "
        f"independent frames or more (fewest in {slowest.name})"
    )
    if frames < FRAMES_PER_WALKER <= slowest.n_frames / max(slowest.n_walkers, 1):
        level = "caution" if level == "good" else level
        sentence += "; walkers hardly forget where they started, so run them longer"
    return Finding(level, sentence + ".")
