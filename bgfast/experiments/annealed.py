"""Annealed samples of an experiment: settings, and the file they are kept in."""

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

from bgfast.analysis.profiles import Profile
from bgfast.energies import Bias, Energy
from bgfast.experiments.config import Section
from bgfast.experiments.pipeline import flow_digest
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow
from bgfast.sampling.anneal import Annealed, AnnealSettings, Labelling, anneal
from bgfast.sampling.store import SampleWriter

_LEAST_ESS = 10.0


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
