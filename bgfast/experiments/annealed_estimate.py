"""What annealed samples say: free-energy difference, profile, and how far to trust them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast.analysis.diagnostics import Finding, Level, Verdict
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import Orientation, Profile
from bgfast.analysis.summary import EstimatorResult
from bgfast.experiments.config import AnalysisConfig
from bgfast.sampling.anneal import jackknife
from bgfast.sampling.store import open_samples

_STDERR = (0.1, 0.3)  # k_B T: where "good" ends and "poor" begins
_HEADLINES: dict[Level, str] = {
    "good": "The annealed estimate and its error can be trusted.",
    "caution": "The annealed estimate is usable with caution; read its error as a lower bound.",
    "poor": "The annealed estimate cannot be trusted: do not quote it.",
}


@dataclass(frozen=True)
class AnnealedEstimate:
    """What annealed samples say; errors are those of the islands.

    Parameters
    ----------
    delta_f
        F(below the split) - F(above it), k_B T; the other way round if asked for.
    profile
        Free energy along the reaction coordinate.
    log_z
        log of the partition function.
    verdict
        How far ``delta_f`` can be trusted.
    n
        Number of rows.
    record
        How they came about: betas, ESS and acceptance of the stages ...
    """

    delta_f: Estimate
    profile: Profile
    log_z: Estimate
    verdict: Verdict
    n: int
    record: dict[str, Any]

    @property
    def min_ess(self) -> float:
        """Least ESS of any stage and island, as a share of the particles."""
        return float(min(self.record["ess"]))

    @property
    def result(self) -> EstimatorResult:
        """The estimate as it stands beside those of other estimators."""
        return EstimatorResult(self.delta_f, self.profile, self.verdict)


def annealed_estimate(
    path: Path, config: AnalysisConfig, orientation: Orientation = "below-above"
) -> AnnealedEstimate:
    """Estimate from the file that :func:`draw_annealed` left."""
    with open_samples(path) as file:
        r, log_w, island = (file[name][()] for name in ("r", "log_w", "island"))
        record = json.loads(file.attrs["record"])
    delta_f, profile = estimate_of_islands(r, log_w, island, config, orientation)
    return AnnealedEstimate(
        delta_f=delta_f,
        profile=profile,
        log_z=Estimate(**record["log_z"]),
        verdict=_verdict(delta_f, record["verdict"]),
        n=len(r),
        record=record,
    )


def estimate_of_islands(
    r: NDArray[np.float64],
    log_w: NDArray[np.float64],
    island: NDArray[np.int64],
    config: AnalysisConfig,
    orientation: Orientation = "below-above",
) -> tuple[Estimate, Profile]:
    """Return the free-energy difference and the profile of annealed samples.

    Parameters
    ----------
    r, log_w, island
        Reaction coordinate, log weight and island of each sample, ``[n]``.
    config
        Bins and the coordinate's value between the states.
    orientation
        Sign of the difference.
    """
    w = np.exp(log_w - log_w[np.isfinite(log_w)].max()) if np.isfinite(log_w).any() else 0 * r
    states = np.zeros((int(island.max()) + 1, 2))
    np.add.at(states, (island, (r >= config.split).astype(int)), w)
    value, stderr = jackknife(states, lambda s: np.log(s[1]) - np.log(s[0]))
    sign = 1 if orientation == "below-above" else -1
    return Estimate(sign * float(value), float(stderr)), _profile(r, w, island, config)


def _verdict(delta_f: Estimate, islands: dict[str, Any]) -> Verdict:
    """Judge a free-energy difference by its error and by the islands.

    Moves at the end mend averages, so islands that disagree about log Z do not condemn it.
    """
    good, usable = _STDERR
    if not delta_f.stderr < usable:  # NaN too
        level: Level = "poor"
    else:
        level = "good" if delta_f.stderr < good and islands["level"] == "good" else "caution"
    sentence = (
        f"The free-energy difference of the islands has a standard error of {delta_f.stderr:.2g}."
    )
    findings = [Finding(**finding) for finding in islands["findings"]]
    return Verdict(
        level, _HEADLINES[level], (*findings, Finding(level, sentence)), islands["advice"]
    )


def _profile(r: np.ndarray, w: np.ndarray, island: np.ndarray, config: AnalysisConfig) -> Profile:
    low, high = config.bounds
    n_bins, n_islands = config.n_bins, int(island.max()) + 1
    inside = (r >= low) & (r <= high)
    r, w, island = r[inside], w[inside], island[inside]
    index = np.minimum(((r - low) / (high - low) * n_bins).astype(int), n_bins - 1)
    sums = np.zeros((n_islands, n_bins))
    np.add.at(sums, (island, index), w)
    f, stderr = jackknife(sums, lambda s: -np.log(s / s.sum()))
    f = np.where(np.isfinite(f), f, np.nan)
    if np.isfinite(f).any():
        f = f - np.nanmin(f)
    squares = np.bincount(index, w**2, minlength=n_bins)
    ess = np.divide(sums.sum(0) ** 2, squares, out=np.zeros(n_bins), where=squares > 0)
    return Profile(
        r=low + (np.arange(n_bins) + 0.5) * (high - low) / n_bins,
        f=f,
        stderr=np.where((sums > 0).sum(0) >= 2, stderr, np.nan),
        counts=np.bincount(index[w > 0], minlength=n_bins),
        ess=ess,
    )
