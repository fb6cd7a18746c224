"""Estimates from a file of weighted samples, in flat memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bgfast.analysis.diagnostics import trust
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import Profile, ProfileAccumulator
from bgfast.analysis.weights import WeightAccumulator, WeightSummary
from bgfast.experiments.config import AnalysisConfig
from bgfast.sampling.store import read_columns


@dataclass(frozen=True)
class PlainEstimate:
    """What plain importance weights say.

    Parameters
    ----------
    weights
        Summary of the weights.
    profile
        Free energy along the reaction coordinate.
    delta_f
        F(below the split) - F(above it), k_B T.
    state_ess
        Effective samples below and above the split.
    """

    weights: WeightSummary
    profile: Profile
    delta_f: Estimate
    state_ess: tuple[float, float]


def plain_estimate(path: Path, config: AnalysisConfig) -> PlainEstimate:
    """Reweight the samples in ``path``; rows marked ``discard`` get weight 0 and are counted.

    Errors are those of independent rows; for Sobol latents that is an upper bound.
    """
    weights = WeightAccumulator()
    profile = ProfileAccumulator(config.bounds, config.n_bins, config.split)
    shuffle = np.random.default_rng(0)
    for columns in read_columns(path, "r", "log_w", "discard"):
        # Neighbours in a Sobol sequence are spread out, rows a power of 2 apart are close together:
        # the bootstrap's batches must not follow either.
        order = shuffle.permutation(len(columns[0]))
        r, log_w, discard = (column[order] for column in columns)
        discard = discard.astype(bool)
        weights.update(log_w, discard)
        profile.update(r, np.where(discard, -np.inf, log_w))
    return PlainEstimate(
        weights.result(), profile.profile(), profile.delta_f(), profile.state_ess()
    )


def barrier_range(config: AnalysisConfig, half_width: float) -> tuple[float, float]:
    """Return the range around the split that is looked at as the barrier, at least one bin wide."""
    low, high = config.bounds
    half_width = max(half_width, (high - low) / config.n_bins)
    return config.split - half_width, config.split + half_width


def worth_sentences(found: PlainEstimate) -> list[str]:
    """Return what plain weights are worth, in sentences."""
    return trust(found.weights, state_ess=found.state_ess).sentences
