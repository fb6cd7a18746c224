"""Can a reweighted estimate be trusted? A verdict in words, with the numbers it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bgfast.analysis.profiles import Profile
from bgfast.analysis.weights import WeightSummary

Level = Literal["good", "caution", "poor"]
_LEVELS: tuple[Level, ...] = ("good", "caution", "poor")

# Where "good" ends and where "poor" begins.
PARETO_K = (0.5, 0.7)  # Vehtari et al. 2024
ESS = (1000.0, 100.0)  # relative error of a mean of order ess^-1/2: 3 %, 10 %
MAX_WEIGHT = (0.02, 0.1)
BIN_ESS = (30.0, 5.0)  # error of F in the bin of order ess^-1/2: 0.2 k_B T, 0.45 k_B T
STATE_ESS = (100.0, 10.0)
NONFINITE = (0.01, 0.1)
ESS_GROWTH = (2.0, 1.0)  # over a factor of 4 in n; 4 if the weights are well sampled


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it came out, and a sentence with the numbers.

    ``local`` findings concern a part of the coordinate (the barrier, a state), the others all
    weights.
    """

    level: Level
    sentence: str
    local: bool = False


@dataclass(frozen=True)
class Verdict:
    """How far importance weights can be trusted.

    Attributes
    ----------
    level
        The worst level among the findings.
    headline
        The verdict in one sentence.
    findings
        What it rests on.
    advice
        What to do next.
    """

    level: Level
    headline: str
    findings: tuple[Finding, ...]
    advice: str

    @property
    def sentences(self) -> list[str]:
        """Headline, findings and advice as plain sentences."""
        return [self.headline, *(finding.sentence for finding in self.findings), self.advice]


def trust(
    weights: WeightSummary,
    profile: Profile | None = None,
    barrier: tuple[float, float] | None = None,
    state_ess: tuple[float, float] | None = None,
) -> Verdict:
    """Judge importance weights, and the free energies computed with them.

    Parameters
    ----------
    weights
        Summary of the weights.
    profile
        Free-energy profile from the same samples; needs ``barrier``.
    barrier
        Range of the coordinate around the barrier, in which every bin is looked at.
    state_ess
        Effective samples of the two states of a free-energy difference.

    Raises
    ------
    ValueError
        If only one of ``profile`` and ``barrier`` is given, or no bin centre lies in ``barrier``.
    """
    if (profile is None) != (barrier is None):
        raise ValueError("give profile and barrier together, or neither")
    if weights.ess == 0:
        return _nothing_to_judge(weights)
    findings = [_effective_samples(weights), _largest_weight(weights), _tail(weights)]
    growth = _growth(weights)
    if growth is not None:
        findings.append(growth)
    if profile is not None and barrier is not None:
        findings.append(_barrier(profile, barrier))
    if state_ess is not None:
        findings.append(_states(state_ess))
    findings.append(_left_out(weights))
    overall = _worst([finding for finding in findings if not finding.local])
    level = _worst(findings)
    if level != overall and level == "poor":
        return Verdict(level, _LOCAL_HEADLINE, tuple(findings), _LOCAL_ADVICE)
    return Verdict(level, _HEADLINES[level], tuple(findings), _ADVICE[level])


def _worst(findings: list[Finding]) -> Level:
    return max((finding.level for finding in findings), key=_LEVELS.index)


_HEADLINES: dict[Level, str] = {
    "good": "The reweighted estimates and their error bars can be trusted.",
    "caution": "The reweighted estimates are usable with caution; read the error bars as lower "
    "bounds.",
    "poor": "The reweighted estimates cannot be trusted yet: a few samples decide them, and the "
    "error bars are too small.",
}

_BLIND_SPOT = "No weight can reveal a state that was never generated."

_ADVICE: dict[Level, str] = {
    "good": f"{_BLIND_SPOT} Compare with an independent reference where there is one.",
    "caution": "Draw several times more samples and see whether the estimate moves by more than "
    f"its error; train longer if it does. {_BLIND_SPOT}",
    "poor": "Train longer or with a larger network until the effective sample size grows; with "
    "so uneven weights, more samples from the same network help little. Until then do not quote "
    f"the reweighted numbers. {_BLIND_SPOT}",
}

_LOCAL_HEADLINE = (
    "The weights as a whole are usable, but part of the coordinate is hardly sampled: do not quote "
    "the free energy there."
)
_LOCAL_ADVICE = (
    "Draw more samples, or train with a larger weight of the reaction-coordinate term, which "
    f"spreads samples along the coordinate. {_BLIND_SPOT}"
)


def _nothing_to_judge(weights: WeightSummary) -> Verdict:
    sentence = (
        f"None of the {weights.n:,} draws has a positive weight: {weights.nonfinite:,} have a "
        f"non-finite weight, {weights.discarded:,} were discarded."
    )
    headline = "There is no reweighted estimate."
    advice = "Check the energies of the generated configurations and train longer."
    return Verdict("poor", headline, (Finding("poor", sentence),), advice)


def _effective_samples(weights: WeightSummary) -> Finding:
    share = weights.ess / weights.n
    sentence = (
        f"The {weights.n:,} draws are worth {_number(weights.ess)} effective samples "
        f"(ESS/n = {share:.2g})."
    )
    if share < 0.01:
        sentence += (
            " With so small a share the ESS itself is an overestimate: it falls when a heavier "
            "weight turns up, so do not compare it across different n."
        )
    return Finding(_grade_high(weights.ess, ESS), sentence)


def _largest_weight(weights: WeightSummary) -> Finding:
    sentence = f"The largest weight holds {_percent(weights.max_weight)} of the total."
    return Finding(_grade_low(weights.max_weight, MAX_WEIGHT), sentence)


def _tail(weights: WeightSummary) -> Finding:
    k = weights.pareto_k
    if math.isnan(k):
        return Finding("caution", "There are too few positive weights to tell the Pareto k.")
    if k == -math.inf:
        return Finding("good", "The largest weights are all equal, so there is no heavy tail.")
    level = _grade_low(k, PARETO_K)
    meaning = {
        "good": "below 0.5: the weights have a finite variance and the errors mean what they say",
        "caution": "between 0.5 and 0.7: convergence is slow and errors are somewhat too small",
        "poor": "above 0.7: the weights behave as if they had no finite variance, and the "
        "bootstrap errors are themselves unreliable",
    }[level]
    return Finding(level, f"Pareto k = {k:.2f}, {meaning}.")


def _growth(weights: WeightSummary) -> Finding | None:
    """Compare the ESS with that of the first quarter of the draws."""
    quarter = [ess for n, ess in weights.history if n <= weights.n / 4 and ess > 0]
    if not quarter or weights.n < 1000:
        return None
    n_quarter = max(n for n, ess in weights.history if n <= weights.n / 4 and ess > 0)
    expected = weights.n / n_quarter
    growth = weights.ess / quarter[-1] * 4 / expected
    level = _grade_high(growth, ESS_GROWTH)
    if level == "good":
        return None
    sentence = (
        f"From {n_quarter:,} to {weights.n:,} draws the ESS grew by a factor of "
        f"{weights.ess / quarter[-1]:.2g} only, instead of {expected:.2g}: it is not converged."
    )
    return Finding(level, sentence)


def _barrier(profile: Profile, barrier: tuple[float, float]) -> Finding:
    inside = (profile.r >= barrier[0]) & (profile.r <= barrier[1])
    if not inside.any():
        raise ValueError(
            f"barrier {barrier} holds no bin; bin centres run from {profile.r[0]:.4g} "
            f"to {profile.r[-1]:.4g}"
        )
    ess = profile.ess[inside]
    level = _grade_high(float(ess.min()), BIN_ESS)
    sentence = (
        f"Around the barrier ({barrier[0]:g} to {barrier[1]:g}) the poorest bin holds "
        f"{_number(float(ess.min()))} effective samples, the median bin "
        f"{_number(float(np.median(ess)))}"
    )
    empty = int((ess == 0).sum())
    if empty:
        sentence += f"; {empty} of {ess.size} bins hold no sample"
    return Finding(level, sentence + ".", local=True)


def _states(state_ess: tuple[float, float]) -> Finding:
    below, above = state_ess
    sentence = (
        f"The two states hold {_number(below)} and {_number(above)} effective samples; the smaller "
        "number limits the free-energy difference."
    )
    return Finding(_grade_high(min(state_ess), STATE_ESS), sentence, local=True)


def _left_out(weights: WeightSummary) -> Finding:
    nonfinite, discarded = weights.nonfinite / weights.n, weights.discarded / weights.n
    level = _grade_low(nonfinite, NONFINITE)
    if not weights.nonfinite and not weights.discarded:
        return Finding(level, "Every draw has a finite weight and none was discarded.")
    sentence = (
        f"{_percent(nonfinite)} of the draws have a non-finite weight and {_percent(discarded)} "
        "were discarded on purpose; both count as draws of weight 0"
    )
    if discarded > 0.5:
        sentence += ", which costs efficiency but does not bias the estimate"
    return Finding(level, sentence + ".")


def _grade_low(value: float, limits: tuple[float, float]) -> Level:
    """Grade a number that should be low."""
    good_below, poor_above = limits
    return "good" if value < good_below else "caution" if value <= poor_above else "poor"


def _grade_high(value: float, limits: tuple[float, float]) -> Level:
    """Grade a number that should be high."""
    good_above, poor_below = limits
    return "good" if value >= good_above else "caution" if value >= poor_below else "poor"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _percent(share: float) -> str:
    percent = 100 * share
    if percent == 0:
        return "0 %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"
