"""References beside a run of the dimer: made or found once, kept in the folder of the run."""

from __future__ import annotations

import json
from pathlib import Path

from bgfast._files import atomic_write
from bgfast.energies import ParticleDimer
from bgfast.errors import UserError
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.progress import Reporter
from bgfast.experiments.reference import dimer_reference, result_from_dict, result_to_dict
from bgfast.sampling.umbrella import UmbrellaResult


def keep_references(
    config: DimerConfig, energy: ParticleDimer, folder: RunFolder, reporter: Reporter
) -> None:
    """Put the reference at each sampled tau into the folder, as ``config.reference`` says."""
    if config.reference == "none":
        return
    for tau in config.sampling.tau:
        path = folder.reference_at(tau)
        if path.exists():
            continue
        result = _reference(config, energy, tau, reporter, compute=config.reference == "compute")
        if result is not None:
            with atomic_write(path) as file:
                file.write_text(json.dumps(result_to_dict(result)), encoding="utf-8")


def load_references(config: DimerConfig, folder: RunFolder) -> dict[float, UmbrellaResult]:
    """Return relative temperature -> reference, for those that are in the folder."""
    paths = {tau: folder.reference_at(tau) for tau in config.sampling.tau}
    return {tau: _loaded(path) for tau, path in paths.items() if path.exists()}


def _loaded(path: Path) -> UmbrellaResult:
    try:
        return result_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path} is damaged; delete it and run again with --resume") from None


def reference_at(config: DimerConfig, tau: float, reporter: Reporter) -> UmbrellaResult:
    """Return the reference of the configured system at relative temperature ``tau``."""
    result = _reference(config, config.system.energy(), tau, reporter, compute=True)
    assert result is not None
    return result


def _reference(
    config: DimerConfig, energy: ParticleDimer, tau: float, reporter: Reporter, *, compute: bool
) -> UmbrellaResult | None:
    section = config.analysis
    return dimer_reference(
        energy,
        tau,
        bounds=section.bounds,
        n_bins=section.n_bins,
        split=section.split,
        compute=compute,
        reporter=reporter,
    )
