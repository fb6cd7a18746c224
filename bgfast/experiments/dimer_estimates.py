"""What the dimer's samples and simulations say: plain and bidirectional estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bgfast.analysis import (
    Estimate,
    Profile,
    ProfileDeviation,
    Verdict,
    profile_deviation,
    trust,
)
from bgfast.energies import ParticleDimer
from bgfast.experiments.annealed_estimate import AnnealedEstimate, annealed_estimate
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_pool import AGREES, PooledEstimate, pooled_estimate
from bgfast.experiments.dimer_windows import WindowData
from bgfast.experiments.estimates import PlainEstimate, barrier_range, plain_estimate
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pooling import generated_rows
from bgfast.experiments.progress import Reporter
from bgfast.flows import Sequential
from bgfast.sampling.umbrella import UmbrellaResult

_BARRIER_HALF_WIDTH = 0.15
JUDGED = (0.8, 2.2)
"""Range of d in which profiles are compared with the reference."""


@dataclass(frozen=True)
class DimerEstimates:
    """All estimates of one run.

    Parameters
    ----------
    plain
        Relative temperature -> estimate from plain importance weights.
    main
        The temperature of the headline numbers, the one nearest to 1.
    plain_verdict
        How far the plain estimate at ``main`` can be trusted.
    pooled
        Relative temperature -> generated samples pooled with simulations that were not trained on,
        where there are any.
    references
        Relative temperature -> umbrella sampling, where there is any.
    annealed
        Annealed samples at tau = 1, if there are any.
    """

    plain: dict[float, PlainEstimate]
    main: float
    plain_verdict: Verdict
    pooled: dict[float, PooledEstimate]
    references: dict[float, UmbrellaResult]
    annealed: AnnealedEstimate | None = None

    @property
    def recommended(self) -> str:
        """Name of the estimator that the headline numbers come from."""
        return "bidirectional" if self.main in self.pooled else "plain"

    @property
    def delta_f(self) -> Estimate:
        """F(closed) - F(open) in k_B T, from the recommended estimator."""
        return self.delta_f_at(self.main)

    @property
    def profile(self) -> Profile:
        """Free energy along d, from the recommended estimator."""
        return self.profile_at(self.main)

    @property
    def verdict(self) -> Verdict:
        """How far the recommended estimate can be trusted."""
        pooled = self.pooled.get(self.main)
        return self.plain_verdict if pooled is None else pooled.verdict

    def delta_f_at(self, tau: float) -> Estimate:
        """Return the best estimate of F(closed) - F(open) at ``tau``."""
        pooled = self.pooled.get(tau)
        return self.plain[tau].delta_f if pooled is None else pooled.whole.delta_f

    def profile_at(self, tau: float) -> Profile:
        """Return the best estimate of the profile at ``tau``."""
        pooled = self.pooled.get(tau)
        return self.plain[tau].profile if pooled is None else pooled.whole.profile

    def agreement(self, tau: float) -> Agreement | None:
        """Return how far the best estimate at ``tau`` is from its reference, if there is one."""
        reference, delta_f, profile = (
            self.references.get(tau),
            self.delta_f_at(tau),
            self.profile_at(tau),
        )
        if reference is None or not np.isfinite(delta_f.value):
            return None
        low, high = JUDGED
        inside = (profile.r >= low) & (profile.r <= high)
        if not np.isfinite(profile.f[inside]).any():
            return None
        return Agreement(
            delta_f=delta_f.value - reference.delta_f.value,
            stderr=float(np.hypot(delta_f.stderr, reference.delta_f.stderr)),
            profile=profile_deviation(profile, reference.profile, bounds=JUDGED),
            bounds=(low, high),
        )


@dataclass(frozen=True)
class Agreement:
    """A comparison with the reference, in k_B T.

    Parameters
    ----------
    delta_f
        Estimate of F(closed) - F(open) minus the reference.
    stderr
        Standard error of that difference.
    profile
        Deviation of the profiles within ``bounds``.
    bounds
        Range of d in which the profiles are compared.
    """

    delta_f: float
    stderr: float
    profile: ProfileDeviation
    bounds: tuple[float, float]

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        if not self.stderr > 0:
            return (
                "The error of the estimate is unknown, so it cannot be compared with the reference."
            )
        apart = abs(self.delta_f) / self.stderr
        verdict = "agrees with" if apart <= AGREES else "does not agree with"
        low, high = self.bounds
        return (
            f"F(closed) - F(open) {verdict} umbrella sampling: the difference is "
            f"{self.delta_f:+.2f} k_B T, {apart:.1f} times its standard error of "
            f"{self.stderr:.2f}. Between d = {low:g} and {high:g} the profiles differ by "
            f"{self.profile.largest:.2f} k_B T at most, {self.profile.rmse:.2f} on average (rms)."
        )


def estimates(
    config: DimerConfig,
    energy: ParticleDimer,
    simulated: Mapping[float, StateData],
    flow: Sequential,
    folder: RunFolder,
    references: dict[float, UmbrellaResult],
    reporter: Reporter,
) -> DimerEstimates:
    """Estimate from the samples of every temperature, and from the simulations.

    The held-out walkers of ``simulated`` and the windows enter at their temperatures.
    """
    section = config.analysis
    plain: dict[float, PlainEstimate] = {}
    pooled: dict[float, PooledEstimate] = {}
    with reporter.stage("estimate", 2 * len(config.sampling.tau), "estimates") as advance:
        for i, tau in enumerate(config.sampling.tau):
            plain[tau] = plain_estimate(folder.samples_at(tau), section)
            advance(2 * i + 1)
            windows = None
            if folder.windows_at(tau).exists():
                windows = WindowData.load(folder.windows_at(tau), energy.dim)
            rows = generated_rows(folder.samples_at(tau), section.split, tau, section.bounds)
            states = simulated.get(tau)
            estimate = pooled_estimate(energy, flow, section, tau, rows, states, windows)
            if estimate is not None:
                pooled[tau] = estimate
            advance(2 * i + 2)
    main = min(plain, key=lambda tau: abs(tau - 1))
    barrier = barrier_range(section, _BARRIER_HALF_WIDTH)
    at_main = plain[main]
    verdict = trust(at_main.weights, at_main.profile, barrier, at_main.state_ess)
    annealed = annealed_estimate(folder.annealed, section) if folder.annealed.exists() else None
    return DimerEstimates(plain, main, verdict, pooled, references, annealed)
