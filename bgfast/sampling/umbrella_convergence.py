"""Has umbrella sampling converged? Parts of the run that must agree, and a statement in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bgfast.sampling.umbrella_estimate import Array, Counts, FineGrid, LadderEstimate, estimate

PAIRS = (("started closed", "started open"), ("first half", "second half"))
"""Halves of a run that must agree: of the ladders, and of the time."""

# Beyond these the statement says that something is wrong:
_MIN_OVERLAP = 0.03  # Klimovich, Shirts and Mobley, J. Comput.-Aided Mol. Des. 29, 397
_MIN_ROUND_TRIPS = 4.0
_MAX_SIGMA = 3.5


@dataclass(frozen=True)
class Convergence:
    """What was found; see :class:`bgfast.sampling.umbrella.UmbrellaResult`.

    ``problems`` is empty if every check was passed.
    """

    halves: dict[str, LadderEstimate]
    disagreement: float
    problems: list[str]
    statement: str


def judge(
    whole: LadderEstimate,
    blocks: Counts,
    bias: Array,
    grid: FineGrid,
    round_trips: float,
    tolerance: float,
) -> Convergence:
    """Compare the halves of a run and look at errors, overlap and round trips.

    Parameters
    ----------
    whole
        Estimate from everything.
    blocks
        Counts of the successive parts of the run, ``[n, L, K, M]``; ladders of even index started
        closed.
    bias, grid
        As for :func:`bgfast.sampling.umbrella_estimate.estimate`.
    round_trips
        Trips first - last - first window per ladder.
    tolerance
        Wanted error in k_B T.
    """
    middle = len(blocks) // 2
    parts = (blocks[:, 0::2], blocks[:, 1::2], blocks[:middle], blocks[middle:])
    halves = {
        name: estimate(part.sum(axis=0, dtype=np.uint32), bias, grid)
        for name, part in zip((name for pair in PAIRS for name in pair), parts, strict=True)
    }
    apart = {
        pair: _largest_difference(halves[pair[0]].profile.f, halves[pair[1]].profile.f)
        for pair in PAIRS
    }
    problems = _problems(whole, round_trips, tolerance)
    for pair in PAIRS:
        problems += _disagreements(halves, pair, apart[pair])
    sentences = [
        f"Not converged: {'; '.join(problems)}." if problems else "Converged.",
        f"The error of F(d) is {whole.shape_error:.3f} k_B T or less within the bounds, delta_f is "
        f"{whole.delta_f}.",
        *(
            f"Delta_f is {halves[one].delta_f} ({one}) and {halves[other].delta_f} ({other}); "
            f"their profiles differ by at most {apart[one, other]:.3f} k_B T."
            for one, other in PAIRS
        ),
    ]
    return Convergence(halves, max(apart.values()), problems, " ".join(sentences))


def _largest_difference(f: Array, other: Array) -> float:
    """Return the largest difference of two curves whose means are the same, as for shape_error."""
    difference = f - other
    return float(np.abs(difference - difference.mean()).max())


def _problems(whole: LadderEstimate, round_trips: float, tolerance: float) -> list[str]:
    problems = []
    if not whole.error <= tolerance:
        problems.append(f"the error, {whole.error:.3f} k_B T, is above the wanted {tolerance:g}")
    if not whole.overlap.min() >= _MIN_OVERLAP:
        problems.append(f"the overlap of two windows is only {whole.overlap.min():.3f}")
    if round_trips < _MIN_ROUND_TRIPS:
        problems.append(f"walkers made only {round_trips:.1f} round trips per ladder")
    if n_empty := int(np.isnan(whole.profile.f).sum()):
        problems.append(f"{n_empty} bins were never visited")
    return problems


def _disagreements(
    halves: dict[str, LadderEstimate], pair: tuple[str, str], apart: float
) -> list[str]:
    one, other = (halves[name] for name in pair)
    names = " and ".join(pair)
    problems = []
    gap = abs(one.delta_f.value - other.delta_f.value)
    if not gap <= _MAX_SIGMA * math.hypot(one.delta_f.stderr, other.delta_f.stderr):
        problems.append(f"delta_f of {names} differ by {gap:.3f} k_B T")
    if not apart <= _MAX_SIGMA * math.hypot(one.shape_error, other.shape_error):
        problems.append(f"F(d) of {names} differ by up to {apart:.3f} k_B T")
    return problems
