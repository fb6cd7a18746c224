"""Do generator and simulations overlap enough? Numbers per state, and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgfast.analysis.bar import bar_stderr, effective_numbers
from bgfast.analysis.diagnostics import Finding, Level, Verdict
from bgfast.analysis.pooled_state import PooledState

# Where "good" ends and where "poor" begins.
OVERLAP = (0.03, 0.003)  # 0.03: Klimovich, Shirts and Mobley, J. Comput.-Aided Mol. Des. 29, 397
MATCHES = (50.0, 10.0)  # error of log Z of order matches^-1/2: 0.14 k_B T, 0.3 k_B T
WALKERS = (8, 2)  # no error can be told from one walker
LEFT_OUT = (0.001, 0.01)  # share of simulated rows; leaving them out biases the estimate
# Only ever "caution", as the error bar takes them into account:
FRAMES_PER_WALKER = 5.0  # independent ones
SCATTER = 2.0  # error from blocks over the error of n_effective independent frames

_LEVELS: tuple[Level, ...] = ("good", "caution", "poor")


@dataclass(frozen=True)
class StateOverlap:
    """Overlap of generator and simulation within one state.

    Attributes
    ----------
    name
        Name of the state.
    n_generated, share_generated
        Usable generated rows within the state, and their share of all that were drawn.
    n_simulated, n_walkers
        Usable simulated frames, and the walkers that they come from.
    inefficiency
        Statistical inefficiency g of the work along the walkers.
    n_effective
        n_simulated / g.
    overlap
        MBAR overlap of the two samples within the state (1 - second eigenvalue of their 2 x 2
        overlap matrix): 1 if the generator is exact there up to a constant, 0 without overlap.
    generated_ess, simulated_ess
        Effective number of generated rows that look simulated, (sum h)^2 / sum h^2 with
        h = fermi(c - w), and of simulated frames that look generated (with 1 - h, divided by g).
        The smaller one limits the estimate.
    median_work_generated, median_work_simulated
        Medians of the dissipated work u + log q - f. Apart by much more than the width of the
        distributions, nothing connects the two.
    bar_stderr
        Error of log Z if n_effective frames were independent (Bennett's asymptotic formula).
    stderr
        Error of log Z from resampling walkers and batches: the one that is quoted.
    """

    name: str
    n_generated: int
    share_generated: float
    n_simulated: int
    n_walkers: int
    inefficiency: float
    n_effective: float
    overlap: float
    generated_ess: float
    simulated_ess: float
    median_work_generated: float
    median_work_simulated: float
    bar_stderr: float
    stderr: float


def state_overlap(name: str, state: PooledState, n_walkers: int, stderr: float) -> StateOverlap:
    """Return the overlap of one state; 0, or NaN for the medians, if a side has no rows."""
    generated, simulated = state.generated.work, state.simulated.work
    overlap = generated_ess = simulated_ess = 0.0
    bennett = median_generated = median_simulated = math.nan
    if state.solved:
        overlap = _matches(state) * (1 / generated.size + 1 / state.n_effective)
        generated_ess, simulated_ess = effective_numbers(generated, simulated, state.crossing)
        simulated_ess *= state.frame_weight
        bennett = bar_stderr(
            generated, simulated, state.crossing, state.n_generated, state.n_effective
        )
        median_generated = float(np.median(generated)) - state.f
        median_simulated = float(np.median(simulated)) - state.f
    return StateOverlap(
        name=name,
        n_generated=generated.size,
        share_generated=generated.size / state.n_generated,
        n_simulated=simulated.size,
        n_walkers=n_walkers,
        inefficiency=1 / state.frame_weight,
        n_effective=state.n_effective,
        overlap=overlap,
        generated_ess=generated_ess,
        simulated_ess=simulated_ess,
        median_work_generated=median_generated,
        median_work_simulated=median_simulated,
        bar_stderr=bennett,
        stderr=stderr,
    )


def overlap_matrix(states: Sequence[PooledState]) -> NDArray[np.float64]:
    """Return the MBAR overlap matrix of the generator (first) and all states.

    Entry (i, j) is the chance that a sample of density i is taken for one of density j, given the
    numbers of rows; rows sum to 1. Unlike ``StateOverlap.overlap`` it counts generated rows outside
    of the state as well.
    """
    matrix = np.eye(1 + len(states))
    for k, state in enumerate(states, start=1):
        if state.solved:
            matches = _matches(state)
            matrix[0, k] = matches / state.n_generated
            matrix[k, 0] = matches / state.n_effective
            matrix[k, k] -= matrix[k, 0]
            matrix[0, 0] -= matrix[0, k]
    return matrix


def judge(overlaps: Sequence[StateOverlap], left_out_simulated: int, n_simulated: int) -> Verdict:
    """Say whether the overlap carries the estimate.

    Parameters
    ----------
    overlaps
        One per state.
    left_out_simulated, n_simulated
        Simulated rows that could not be used, and all simulated rows.
    """
    findings = [finding for overlap in overlaps for finding in _findings(overlap)]
    if left_out_simulated:
        share = left_out_simulated / n_simulated
        sentence = (
            f"{left_out_simulated:,} of {n_simulated:,} simulated rows were left out (not finite, "
            "or outside of every state); if they differ from the others, the estimate is biased."
        )
        level: Level = "good" if share < LEFT_OUT[0] else "caution"
        findings.append(Finding("poor" if share > LEFT_OUT[1] else level, sentence))
    worst = max((finding.level for finding in findings), key=_LEVELS.index)
    return Verdict(worst, _HEADLINES[worst], tuple(findings), _ADVICE[worst])


_HEADLINES: dict[Level, str] = {
    "good": "Generator and simulations overlap well enough for the free energies and their errors.",
    "caution": "The bidirectional free energies are usable with caution; read the errors as lower "
    "bounds.",
    "poor": "The overlap of generator and simulations is too thin: the bidirectional free energies "
    "and their errors cannot be trusted.",
}

_BLIND_SPOT = "No overlap can reveal a part of a state that neither side visited."

_ADVICE: dict[Level, str] = {
    "good": _BLIND_SPOT,
    "caution": "Train longer, generate more samples, or run more and longer walkers, whichever the "
    f"findings above name. {_BLIND_SPOT}",
    "poor": "Train longer or with more simulated data until both work distributions share a range; "
    "more samples of the same kind help little.",
}


def _findings(overlap: StateOverlap) -> list[Finding]:
    if min(overlap.n_generated, overlap.n_simulated) == 0:
        return [
            Finding(
                "poor",
                f"In {overlap.name} there are {overlap.n_generated:,} generated and "
                f"{overlap.n_simulated:,} simulated rows; its free energy is unknown without both.",
            )
        ]
    findings = [_shared_range(overlap), _walkers(overlap)]
    if overlap.stderr > SCATTER * overlap.bar_stderr:
        sentence = (
            f"In {overlap.name}, walkers and batches scatter more than their rows suggest: "
            f"resampling them gives an error of {overlap.stderr:.2g} k_B T, "
            f"{overlap.n_effective:,.0f} independent frames would give {overlap.bar_stderr:.2g}."
        )
        findings.append(Finding("caution", sentence))
    return findings


def _shared_range(overlap: StateOverlap) -> Finding:
    matches = min(overlap.generated_ess, overlap.simulated_ess)
    level = max(_grade(overlap.overlap, OVERLAP), _grade(matches, MATCHES), key=_LEVELS.index)
    sentence = (
        f"In {overlap.name}, {_number(overlap.generated_ess)} effective of {overlap.n_generated:,} "
        f"generated rows look simulated, {_number(overlap.simulated_ess)} effective of "
        f"{overlap.n_simulated:,} simulated frames look generated (overlap {overlap.overlap:.2g})."
    )
    return Finding(level, sentence)


def _walkers(overlap: StateOverlap) -> Finding:
    level = _grade(overlap.n_walkers, WALKERS)
    frames = overlap.n_effective / overlap.n_walkers
    sentence = (
        f"The simulation of {overlap.name} has {overlap.n_walkers:,} independent walkers of "
        f"{_number(frames)} independent frames each"
    )
    if overlap.n_walkers < 2:
        sentence += "; from a single walker no error can be told"
    elif level == "caution":
        sentence += "; with so few walkers the error itself is uncertain"
    if frames < FRAMES_PER_WALKER <= overlap.n_simulated / overlap.n_walkers:
        level = "caution" if level == "good" else level
        sentence += "; walkers hardly forget where they started, so run them longer"
    return Finding(level, sentence + ".")


def _matches(state: PooledState) -> float:
    """Return the sum of h (1 - h) over all rows, h the chance that a row was simulated."""
    generated, simulated = state.fermi(state.generated), state.fermi(state.simulated)
    return float(
        (generated * (1 - generated)).sum()
        + state.frame_weight * (simulated * (1 - simulated)).sum()
    )


def _grade(value: float, limits: tuple[float, float]) -> Level:
    """Grade a number that should be high."""
    good_above, poor_below = limits
    return "good" if value >= good_above else "caution" if value >= poor_below else "poor"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
