"""What the dimer's samples and simulations at one temperature say: plain and pooled estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bgfast.analysis import (
    Bidirectional,
    Estimate,
    Pool,
    Profile,
    ProfileDeviation,
    Rows,
    Verdict,
    bidirectional,
    profile_deviation,
    trust,
)
from bgfast.energies import ParticleDimer
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_data import FlattenedData
from bgfast.experiments.estimates import PlainEstimate, barrier_range, plain_estimate
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.progress import Reporter
from bgfast.flows import Sequential, log_prob
from bgfast.sampling.store import read_columns
from bgfast.sampling.umbrella import UmbrellaResult

STATES = ("closed", "open")
POOLED_ROWS = 2_000_000
"""Generated rows that enter the bidirectional estimate, at most: it holds them in memory."""
_GENERATOR_BATCHES = 64
_BARRIER_HALF_WIDTH = 0.15
_JUDGED = (0.8, 2.2)
"""Range of d in which profiles are compared with the reference."""
_AGREES = 2.5
"""Standard errors within which two estimates agree."""
_CHUNK = 8192


@dataclass(frozen=True)
class DimerEstimates:
    """All estimates of one run.

    Parameters
    ----------
    plain
        Relative temperature -> estimate from plain importance weights.
    main
        The temperature nearest to that of the simulations, tau = 1.
    plain_verdict
        How far the plain estimate at ``main`` can be trusted.
    pooled, pooled_profile
        Generated samples pooled with simulations that were not trained on; ``None`` if there are
        none or nothing was drawn at tau = 1.
    reference
        Umbrella sampling at ``main``, if there is one.
    """

    plain: dict[float, PlainEstimate]
    main: float
    plain_verdict: Verdict
    pooled: Bidirectional | None
    pooled_profile: Profile | None
    reference: UmbrellaResult | None

    @property
    def recommended(self) -> str:
        """Name of the estimator that the headline numbers come from."""
        return "plain" if self.pooled is None else "bidirectional"

    @property
    def delta_f(self) -> Estimate:
        """F(closed) - F(open) in k_B T, from the recommended estimator."""
        return self.plain[self.main].delta_f if self.pooled is None else self.pooled.delta_f(0, 1)

    @property
    def profile(self) -> Profile:
        """Free energy along d, from the recommended estimator."""
        return self.pooled_profile or self.plain[self.main].profile

    @property
    def verdict(self) -> Verdict:
        """How far the recommended estimate can be trusted."""
        return self.plain_verdict if self.pooled is None else self.pooled.verdict

    @property
    def agreement(self) -> Agreement | None:
        """How far the recommended estimate is from the reference, if there is one."""
        if self.reference is None or not np.isfinite(self.delta_f.value):
            return None
        low, high = _JUDGED
        inside = (self.profile.r >= low) & (self.profile.r <= high)
        if not np.isfinite(self.profile.f[inside]).any():
            return None
        reference = self.reference.delta_f
        return Agreement(
            delta_f=self.delta_f.value - reference.value,
            stderr=float(np.hypot(self.delta_f.stderr, reference.stderr)),
            profile=profile_deviation(self.profile, self.reference.profile, bounds=_JUDGED),
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
        verdict = "agrees with" if apart <= _AGREES else "does not agree with"
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
    simulated: StateData | None,
    flow: Sequential,
    folder: RunFolder,
    reference: UmbrellaResult | None,
    reporter: Reporter,
) -> DimerEstimates:
    """Estimate from the samples of every temperature, and from the simulations.

    The held-out walkers of ``simulated`` enter.
    """
    section = config.analysis
    plain: dict[float, PlainEstimate] = {}
    with reporter.stage("estimate", len(config.sampling.tau) + 1, "estimates") as advance:
        for tau in config.sampling.tau:
            plain[tau] = plain_estimate(folder.samples_at(tau), section)
            advance(len(plain))
        main = min(plain, key=lambda tau: abs(tau - 1))
        pooled = None
        if simulated is not None and simulated.held_out.any():
            pool = Pool(_generated(folder, config, main), _simulated(simulated, flow, main))
            if isinstance(simulated, FlattenedData):
                generated = _within(pool.generated, section.bounds)  # as the walkers are
                pool = Pool(
                    *(_flat(rows, simulated, energy, main) for rows in (generated, pool.simulated))
                )
            pooled = bidirectional(pool, STATES)
        profile = None if pooled is None else pooled.profile(section.bounds, section.n_bins)
    barrier = barrier_range(section, _BARRIER_HALF_WIDTH)
    at_main = plain[main]
    verdict = trust(at_main.weights, at_main.profile, barrier, at_main.state_ess)
    return DimerEstimates(plain, main, verdict, pooled, profile, reference)


def _flat(rows: Rows, simulated: FlattenedData, energy: ParticleDimer, tau: float) -> Rows:
    """Return the rows with the energy of the walkers, which lacks a part of u."""
    removed = simulated.removed(energy, rows.r, rows.state) / tau
    return replace(rows, u=rows.u - removed, log_target=-removed)


def _within(rows: Rows, bounds: tuple[float, float]) -> Rows:
    """Return the rows with those beyond the bounds outside of every state."""
    inside = (rows.r >= bounds[0]) & (rows.r <= bounds[1])
    return replace(rows, state=np.where(inside, rows.state, -1))


def _generated(folder: RunFolder, config: DimerConfig, tau: float) -> Rows:
    columns = ("r", "energy", "log_w", "discard")
    r, u, log_w, discard = next(read_columns(folder.samples_at(tau), *columns, chunk=POOLED_ROWS))
    u_tau = u / tau
    state = np.where(discard, -1, (r >= config.analysis.split).astype(int))
    batch = np.arange(len(u)) * _GENERATOR_BATCHES // len(u)
    return Rows(u=u_tau, log_q=-u_tau - log_w, state=state, r=r, block=batch)


@torch.no_grad()
def _simulated(data: StateData, flow: Sequential, tau: float) -> Rows:
    walkers = np.flatnonzero(data.held_out)
    n_frames = data.x.shape[1]
    x = data.frames(held_out=True)
    parameter = next(flow.parameters())
    parts = torch.split(x, _CHUNK)
    log_q = torch.cat([log_prob(flow, part.to(parameter), tau).cpu() for part in parts])
    d = torch.linalg.vector_norm(x[:, 0:2] - x[:, 2:4], dim=-1)
    return Rows(
        u=data.energy[walkers].ravel() / tau,
        log_q=log_q.double().numpy(),
        state=np.repeat(data.state[walkers], n_frames),
        r=d.numpy(),
        block=np.repeat(walkers, n_frames),
    )
