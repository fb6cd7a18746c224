"""The speed-up over local Monte Carlo, as on the slides, and the honest comparison beside it.

The slides divide the steps of one return trip of local Metropolis Monte Carlo by the energy
evaluations that data, training and sampling took. One return trip tells little about a free-energy
difference, so the same error is compared as well: after N return trips of exponential times the
variance of F_1 - F_2 is 2/N. Umbrella sampling needs no generator; its cost to the same error
stands beside.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bgfast._files import atomic_write
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.summary import load_summary
from bgfast.energies import DoubleWell, ParticleDimer
from bgfast.errors import UserError
from bgfast.experiments.config import RunConfig
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_evaluations import at_one_temperature, umbrella_evaluations
from bgfast.experiments.dimer_reference import load_references
from bgfast.experiments.evaluations import EnergyEvaluations
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import seed_for
from bgfast.experiments.progress import Reporter
from bgfast.experiments.quadrature_config import QuadratureConfig
from bgfast.experiments.quadrature_systems import DoubleWellSystem
from bgfast.sampling.return_trips import (
    Coordinate,
    Extrapolation,
    ReturnTrips,
    extrapolate,
    measure_return_trips,
)

FILE = "speedup.json"
_WALKERS = 32
_ENOUGH = 100


@dataclass(frozen=True)
class _Local:
    """Local Monte Carlo of a system, as the paper runs it, and of its flattened version."""

    energy: Any
    flat: Any
    start: np.ndarray
    coordinate: Coordinate
    cores: tuple[float, float]
    step: float
    stride: int
    q: np.ndarray
    f: np.ndarray
    f_flat: np.ndarray
    max_steps: int
    """Longest direct run of each walker; 0 where return trips are too rare to be seen."""


@dataclass(frozen=True)
class SpeedUp:
    """Costs in energy evaluations.

    Parameters
    ----------
    stderr
        Error of F_1 - F_2 of the run, in k_B T.
    evaluations
        What the run took.
    measured, flat, extrapolated
        Return trips: seen in the system (``None`` if too rare), in its flattened version, and
        scaled up from there.
    umbrella
        Umbrella sampling to the same error; NaN if the run has no such reference.
    """

    stderr: float
    evaluations: EnergyEvaluations
    measured: ReturnTrips | None
    flat: ReturnTrips
    extrapolated: Extrapolation
    umbrella: float

    @property
    def return_trip(self) -> Estimate:
        """Steps of one return trip: measured if they can be, else by diffusion."""
        if self.measured is not None and math.isfinite(self.measured.steps.value):
            return self.measured.steps
        return self.extrapolated.by_diffusion

    @property
    def local_to_same_error(self) -> float:
        """Steps of local Monte Carlo until F_1 - F_2 has the error of the run."""
        return 2 / self.stderr**2 * self.return_trip.value

    @property
    def factors(self) -> dict[str, float]:
        """What the run's evaluations go into, once for each comparison."""
        total = self.evaluations.total
        return {
            "one return trip of local Monte Carlo": self.return_trip.value / total,
            "local Monte Carlo to the same error": self.local_to_same_error / total,
            "umbrella sampling to the same error": self.umbrella / total,
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return what it says, line by line: name and value."""
        run, flat, scaled = self.evaluations, self.flat.steps, self.extrapolated
        rows = [
            ("error of the free-energy difference", f"{self.stderr:.2g} k_B T"),
            ("energies for data", f"{run.data:.3g}"),
            ("energies for training", f"{run.training:.3g}"),
            ("energies for sampling", f"{run.sampling:.3g}"),
            ("return trip in the flattened system", f"{_steps(flat)} steps"),
            ("... scaled up by diffusion", f"{_steps(scaled.by_diffusion)} steps"),
            ("... scaled up by exp(B - B_flat)", f"{_steps(scaled.by_barrier)} steps"),
        ]
        if self.measured is not None:
            seen = min(self.measured.crossings)
            rows.append(("return trip, measured", f"{_steps(self.measured.steps)} ({seen} seen)"))
        rows.append(("local Monte Carlo to the same error", f"{self.local_to_same_error:.2g}"))
        if math.isfinite(self.umbrella):
            rows.append(("umbrella sampling to the same error", f"{self.umbrella:.2g}"))
        factors = {k: v for k, v in self.factors.items() if math.isfinite(v)}
        return rows + [(f"factor over {name}", f"{value:.2g}") for name, value in factors.items()]


def speed_up(config: RunConfig, folder: RunFolder, reporter: Reporter) -> SpeedUp:
    """Measure return trips for the finished run in ``folder`` and compare; kept in speedup.json.

    Raises
    ------
    UserError
        If the run is neither a dimer nor a double well, or is not finished.
    """
    if not folder.summary.exists():
        raise UserError(f"{folder.path} holds no finished run (no summary.json)")
    summary = load_summary(folder.summary)
    stderr = summary["delta_f"]["stderr"]
    if stderr is None or not stderr > 0:
        raise UserError(f"{folder.path}: the error of the free-energy difference is unknown")
    umbrella = math.nan
    if isinstance(config, DimerConfig):
        local, evaluations = _dimer(config, summary), at_one_temperature(config)
        reference = load_references(config, folder).get(1.0)
        if reference is not None:
            share = (reference.delta_f.stderr / stderr) ** 2
            umbrella = umbrella_evaluations(reference) * share
    elif isinstance(config, QuadratureConfig) and isinstance(config.system, DoubleWellSystem):
        local = _double_well(config.system)
        evaluations = EnergyEvaluations(**summary["energy_evaluations"])
    else:
        raise UserError(f"{folder.path}: return trips are measured for dimer and double-well runs")
    found = _measured(local, stderr, evaluations, umbrella, config.seed, reporter)
    with atomic_write(folder.path / FILE) as file:
        entry = asdict(found) | {"factors": found.factors}
        text = json.dumps(_without_nan(entry), indent=1, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8")
    return found


def _measured(
    local: _Local,
    stderr: float,
    evaluations: EnergyEvaluations,
    umbrella: float,
    seed: int,
    reporter: Reporter,
) -> SpeedUp:
    flat = _trips(local, local.flat, "flattened", 4_000_000, seed, reporter)
    measured = None
    if local.max_steps:
        measured = _trips(local, local.energy, "system", local.max_steps, seed, reporter)
    extrapolated = extrapolate(flat, local.q, local.f, local.f_flat, local.cores)
    return SpeedUp(stderr, evaluations, measured, flat, extrapolated, umbrella)


def _trips(
    local: _Local, system: Any, name: str, max_steps: int, seed: int, reporter: Reporter
) -> ReturnTrips:
    with reporter.stage(f"return trips, {name}", _ENOUGH, "crossings") as advance:
        return measure_return_trips(
            system,
            np.tile(local.start, (_WALKERS, 1)),
            local.coordinate,
            local.cores,
            step=local.step,
            stride=local.stride,
            max_steps=max_steps,
            enough=_ENOUGH,
            seed=seed_for(seed, f"return trips {name}"),
            progress=lambda done, total: advance(done),
        )


def _double_well(section: DoubleWellSystem) -> _Local:
    """Return the well with the paper's step, flattened to a quarter (a4 = 1/4, a2 = 3/2) as there.

    Raises
    ------
    UserError
        If it has one well only.
    """
    energy = section.energy()
    if energy.a2 <= 0:
        raise UserError(f"there are two wells only if system.a2 > 0, got {energy.a2}")
    flat = DoubleWell(energy.dim, energy.a4 / 4, energy.a2 / 4, energy.a1, energy.k)
    q = np.linspace(-3.0, 3.0, 6001)

    def along(system: DoubleWell) -> np.ndarray:
        return system.a4 * q**4 - system.a2 * q**2 + system.a1 * q

    well = math.sqrt(energy.a2 / (2 * energy.a4))
    return _Local(
        energy=energy,
        flat=flat,
        start=np.array([-well] + [0.0] * (energy.dim - 1)),
        coordinate=lambda x: x[..., 0],
        cores=(-0.85 * well, 0.85 * well),
        step=0.1,
        stride=10,
        q=q,
        f=along(energy),
        f_flat=along(flat),
        max_steps=20_000_000,
    )


def _dimer(config: DimerConfig, summary: dict[str, Any]) -> _Local:
    """Return the dimer, its own double well flattened to a tenth; F changes by exactly as much.

    Raises
    ------
    UserError
        If it has one well only.
    """
    energy = config.system.energy()
    p = energy.params
    if p.a <= 0 or p.b <= 0:
        raise UserError(f"there are two wells only if a and b > 0, got a = {p.a}, b = {p.b}")
    settings = {name: getattr(p, name) for name in p.__dataclass_fields__}
    flat = ParticleDimer(**settings | {"a": p.a / 10, "b": p.b / 10})
    profile = summary["profile"]
    d, f = np.array(profile["r"]), np.array(profile["f"], dtype=np.float64)  # null becomes NaN
    known = np.isfinite(f)
    d, f = d[known], f[known]

    def v(system: ParticleDimer) -> np.ndarray:
        values: np.ndarray = system.double_well(torch.from_numpy(d)).numpy()
        return values

    well = math.sqrt(p.b / p.a)
    return _Local(
        energy=energy,
        flat=flat,
        start=energy.lattice_configuration(config.data.start[0]).numpy(),
        coordinate=energy.dimer_distance,
        cores=(p.d0 - 0.7 * well, p.d0 + 0.7 * well),
        step=0.02,
        stride=200,
        q=d,
        f=f,
        f_flat=f - v(energy) + v(flat),
        max_steps=0,
    )


def _steps(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} ± {estimate.stderr:.1g}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
