"""Annealed samples of an experiment: settings, the file they are kept in, what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from bgfast.analysis.diagnostics import Finding, Level, Verdict
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import Orientation, Profile
from bgfast.analysis.summary import EstimatorResult
from bgfast.energies import Bias, Energy
from bgfast.experiments.config import AnalysisConfig, Section
from bgfast.experiments.pipeline import flow_digest
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow
from bgfast.sampling.anneal import Annealed, AnnealSettings, Labelling, anneal, jackknife
from bgfast.sampling.store import SampleWriter, open_samples

_LEAST_ESS = 10.0
_STDERR = (0.1, 0.3)  # k_B T: where "good" ends and "poor" begins
_HEADLINES: dict[Level, str] = {
    "good": "The annealed estimate and its error can be trusted.",
    "caution": "The annealed estimate is usable with caution; read its error as a lower bound.",
    "poor": "The annealed estimate cannot be trusted: do not quote it.",
}


class AnnealConfig(Section):
    """Annealing from the flow to the target; see :class:`bgfast.sampling.anneal.AnnealSettings`.

    Parameters
    ----------
    n_samples
        Particles; 0: no annealing.
    bias
        ``"flatten"``: anneal towards a target that is flat along the reaction coordinate, and
        reweight.
    """

    n_samples: int = Field(0, ge=0)
    islands: int = Field(8, ge=2)
    draws: int = Field(16, ge=1)
    steps: int = Field(1, ge=1)
    leapfrog: int = Field(5, ge=1)
    cess: float = Field(0.99, gt=0, lt=1)
    kind: Literal["smc", "ais"] = "smc"
    sweeps: int = Field(0, ge=0, multiple_of=2)
    sweeps_from: float = Field(0.5, ge=0, le=1)
    hmc_until: float = Field(1.0, ge=0, le=1)
    final_sweeps: int = Field(0, ge=0, multiple_of=2)
    final_frames: int = Field(1, ge=1)
    bias: Literal["none", "flatten"] = "none"

    @model_validator(mode="after")
    def _is_possible(self) -> AnnealConfig:
        if self.n_samples:
            self.settings()
        return self

    def settings(self) -> AnnealSettings:
        """Return the settings of the sampler."""
        return AnnealSettings(**self.model_dump(exclude={"bias"}))


@dataclass(frozen=True)
class AnnealedTarget:
    """What is annealed to.

    Parameters
    ----------
    energy
        The system.
    coordinate
        Reaction coordinate, ``x[n, dim]`` to ``[n]``.
    labelling
        Copy of equivalent configurations that is meant, or ``None``.
    biased
        Flattened energy, or ``None``.
    local, interval
        Energy of the local moves' proposals, the target's own if not given; and the interval of the
        coordinate that they stay in.
    """

    energy: Energy
    coordinate: Callable[[Tensor], Tensor]
    labelling: Labelling | None = None
    biased: Energy | None = None
    local: Energy | None = None
    interval: tuple[float, float] | None = None


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


def flattening(profile: Profile) -> Bias | None:
    """Return the bias -F(r) along the reaction coordinate, or ``None`` if too little is known.

    Bins with fewer than ten effective samples are bridged, and it is constant beyond the others.
    """
    known = np.isfinite(profile.f) & (profile.ess >= _LEAST_ESS)
    return Bias(profile.r[known], -profile.f[known]) if known.sum() >= 2 else None


def draw_annealed(
    flow: Flow,
    target: AnnealedTarget,
    path: Path,
    config: AnnealConfig,
    tau: float,
    seed: int,
    title: str,
    reporter: Reporter,
) -> None:
    """Anneal into the HDF5 file ``path``, unless it is there already; whole or not at all.

    Columns: ``z``, ``x``, ``energy``, ``log_q``, ``log_w`` (of the system, the bias removed),
    ``r``, ``island``, ``discard`` (outside of the labelling). The attribute ``record`` tells how
    they came about.
    """
    with reporter.stage(title, config.n_samples, "particles") as advance:
        if path.exists():
            return

        def show(done: int, total: int) -> None:
            advance(config.n_samples * done // total)

        found = anneal(
            flow,
            target.biased or target.energy,
            config.settings(),
            tau=tau,
            seed=seed,
            labelling=target.labelling,
            local=target.local,
            interval=target.interval,
            progress=show,
        )
        x = torch.from_numpy(found.x).double()
        u = target.energy.energy(x).numpy()
        found = found.reweighted((found.u - u) / tau)
        rows = {
            "z": found.z.astype(np.float32),
            "x": found.x.astype(np.float32),
            "energy": u,
            "log_q": found.log_q,
            "log_w": found.log_w,
            "r": target.coordinate(x).numpy(),
            "island": found.island,
            "discard": ~np.isfinite(found.log_w),
        }
        facts = {"tau": tau, "seed": seed, "n": len(u), "energy": repr(target.energy)}
        facts |= {"flow": flow_digest(flow), "settings": config.model_dump_json()}
        facts["record"] = json.dumps(_record(found))
        layout = {name: (values.shape[1:], values.dtype.str) for name, values in rows.items()}
        with SampleWriter(path, layout, facts) as writer:
            if not writer.n_rows:
                writer.append(**rows)


def annealed_estimate(
    path: Path, config: AnalysisConfig, orientation: Orientation = "below-above"
) -> AnnealedEstimate:
    """Estimate from the file that :func:`draw_annealed` left."""
    with open_samples(path) as file:
        r, log_w, island = (file[name][()] for name in ("r", "log_w", "island"))
        record = json.loads(file.attrs["record"])
    w = np.exp(log_w - log_w[np.isfinite(log_w)].max()) if np.isfinite(log_w).any() else 0 * r
    states = np.zeros((int(island.max()) + 1, 2))
    np.add.at(states, (island, (r >= config.split).astype(int)), w)
    value, stderr = jackknife(states, lambda s: np.log(s[1]) - np.log(s[0]))
    sign = 1 if orientation == "below-above" else -1
    delta_f = Estimate(sign * float(value), float(stderr))
    return AnnealedEstimate(
        delta_f=delta_f,
        profile=_profile(r, w, island, config),
        log_z=Estimate(**record["log_z"]),
        verdict=_verdict(delta_f, record["verdict"]),
        n=len(r),
        record=record,
    )


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


def _record(found: Annealed) -> dict[str, Any]:
    names = ("island_log_z", "ancestors", "betas", "steps", "ess", "acceptance", "sweep_acceptance")
    record: dict[str, Any] = {name: _finite(getattr(found, name)) for name in names}
    return record | {
        "log_z": asdict(found.log_z),
        "evaluations": asdict(found.evaluations),
        "verdict": asdict(found.verdict),
    }


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


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
