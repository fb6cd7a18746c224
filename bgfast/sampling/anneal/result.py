"""What an annealing run found, and whether its islands agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from bgfast.analysis.diagnostics import Finding, Level, Verdict
from bgfast.analysis.estimate import Estimate
from bgfast.sampling.anneal.population import Evaluations

Array = NDArray[np.float64]

# Where "good" ends and where "poor" begins.
SCATTER = (0.2, 0.5)
"""Standard deviation of log Z over the islands."""
ANCESTORS = (100.0, 30.0)
"""Effective independent first draws, all islands together."""
ACCEPTANCE = (0.4, 0.2)
_LEVELS: tuple[Level, ...] = ("good", "caution", "poor")


@dataclass(frozen=True)
class Annealed:
    """Weighted samples of exp(-u/tau), and how they came about.

    Rows can be used as those of :func:`bgfast.sampling.generate.generate`: the mean of exp(log_w)
    estimates Z, averages are weighted means. Rows of one island are not independent: errors come
    from the islands (:func:`jackknife`).

    Parameters
    ----------
    z, x
        Latent vectors and configurations, ``[n, dim]``.
    u
        Reduced energies, ``[n]``, not divided by tau.
    log_q
        Log density of the flow, ``[n]``.
    log_w
        Log weights, ``[n]``; -infinity for rows outside of the labelling.
    island
        Island of each row, ``[n]``.
    log_z
        Estimate of log Z with its standard error.
    island_log_z
        That of each island.
    ancestors
        Effective number of independent first draws of each island.
    betas, steps
        The schedule, and the leapfrog step of each stage.
    ess
        ESS as a share of the particles in each stage, the least over islands.
    acceptance, sweep_acceptance
        Mean acceptance of the moves in each stage; NaN where there are no sweeps.
    evaluations
        What was computed, the pilot included.
    verdict
        Whether the islands agree, in words.
    """

    z: NDArray[np.floating]
    x: NDArray[np.floating]
    u: Array
    log_q: Array
    log_w: Array
    island: NDArray[np.int64]
    log_z: Estimate
    island_log_z: Array
    ancestors: Array
    betas: Array
    steps: Array
    ess: Array
    acceptance: Array
    sweep_acceptance: Array
    evaluations: Evaluations
    verdict: Verdict

    @property
    def stages(self) -> int:
        """Number of stages."""
        return self.betas.size

    @property
    def min_ess(self) -> float:
        """Least ESS, as a share of the particles, of any stage and island."""
        return float(self.ess.min())

    def reweighted(self, log_factor: ArrayLike) -> Annealed:
        """Return the same rows with ``log_factor[n]`` added to their log weights.

        Leads from a biased target to the system itself; log Z and verdict are those of the latter.
        """
        log_w = self.log_w + np.asarray(log_factor, dtype=np.float64)
        islands = [log_w[self.island == k] for k in range(self.island_log_z.size)]
        log_z = np.array([logsumexp(rows) - math.log(rows.size) for rows in islands])
        return replace(
            self,
            log_w=log_w,
            log_z=log_mean(log_z),
            island_log_z=log_z,
            verdict=judge(log_z, self.ancestors, self.moved),
        )

    @property
    def moved(self) -> Array:
        """Mean acceptance in each stage of those moves that are accepted more often."""
        return np.fmax(self.acceptance, self.sweep_acceptance)


def jackknife(
    sums: ArrayLike, transform: Callable[[Array], Any] = np.asarray
) -> tuple[Array, Array]:
    """Return ``transform`` of the summed islands, and its jackknife standard error.

    Parameters
    ----------
    sums
        Sums of each island, ``[K, ...]``.
    transform
        Function of the total, ``[...]``.

    Returns
    -------
    value, stderr
        Shapes of the result of ``transform``; the error is NaN for fewer than two islands.
    """
    sums = np.asarray(sums, dtype=np.float64)
    total, k = sums.sum(axis=0), len(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        value: Array = np.asarray(transform(total), dtype=np.float64)
        if k < 2:
            return value, np.full(value.shape, math.nan)
        without = np.array([transform((total - island) * (k / (k - 1))) for island in sums])
        deviation = without - without.mean(axis=0)
    stderr: Array = np.sqrt((k - 1) / k * np.square(deviation).sum(axis=0))
    return value, stderr


def log_mean(log_z: Array) -> Estimate:
    """Return the log of the mean of ``exp(log_z[K])`` over islands, with its error."""
    largest = float(log_z.max())
    if not math.isfinite(largest):
        return Estimate(-math.inf, math.nan)
    value, stderr = jackknife(np.exp(log_z - largest), lambda total: np.log(total / len(log_z)))
    return Estimate(largest + float(value), float(stderr))


def judge(log_z: Array, ancestors: Array, acceptance: Array) -> Verdict:
    """Judge an annealing run by its islands.

    Parameters
    ----------
    log_z
        Estimates of the islands, ``[K]``.
    ancestors
        Effective first draws of each, ``[K]``.
    acceptance
        Mean acceptance of each stage.
    """
    findings = (_scatter(log_z), _ancestors(ancestors), _acceptance(acceptance))
    level = max((finding.level for finding in findings), key=_LEVELS.index)
    return Verdict(level, _HEADLINES[level], findings, _ADVICE[level])


_HEADLINES: dict[Level, str] = {
    "good": "The islands agree: the annealed estimates and their errors can be trusted.",
    "caution": "The islands agree roughly: read the errors of the annealed estimates as lower "
    "bounds.",
    "poor": "The islands of the annealing do not agree: do not quote log Z, nor averages that rest "
    "on the annealing alone.",
}
_ADVICE: dict[Level, str] = {
    "good": "Islands cannot reveal what all of them miss: a state that was never generated.",
    "caution": "Use more samples and more draws for each, or train longer.",
    "poor": "Use more samples, more draws for each and more moves in a stage, or train longer. "
    "Local moves at the end that last long, with a bias along the coordinate, mend averages; they "
    "do not mend log Z.",
}


def _scatter(log_z: Array) -> Finding:
    if log_z.size < 2:
        return Finding("caution", "There is one island only: nothing tells how far it is off.")
    if not np.isfinite(log_z).all():
        return Finding("poor", "In some islands no particle is left that weighs anything.")
    scatter = float(log_z.std(ddof=1))
    sentence = f"log Z of the {log_z.size} islands scatters by {scatter:.2g}."
    return Finding(_level(scatter, SCATTER), sentence)


def _ancestors(ancestors: Array) -> Finding:
    total = float(ancestors.sum())
    sentence = f"The samples go back to {total:.0f} effective independent draws."
    return Finding(_level(-total, (-ANCESTORS[0], -ANCESTORS[1])), sentence)


def _acceptance(acceptance: Array) -> Finding:
    least = float(acceptance.min())
    sentence = f"At least {least:.0%} of the moves are accepted in every stage."
    return Finding(_level(-least, (-ACCEPTANCE[0], -ACCEPTANCE[1])), sentence)


def _level(value: float, limits: tuple[float, float]) -> Level:
    return _LEVELS[sum(value > limit for limit in limits)]
