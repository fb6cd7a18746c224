"""summary.json of the dimer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bgfast.analysis.summary import (
    EstimatorResult,
    estimate_entry,
    estimators_entry,
    profile_entry,
    weights_entry,
)
from bgfast.doctor import versions
from bgfast.experiments.annealed_report import anneal_entry
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_estimates import Agreement, DimerEstimates
from bgfast.experiments.dimer_evaluations import dimer_evaluations, with_annealing
from bgfast.experiments.dimer_pool import PooledEstimate
from bgfast.experiments.evaluations import EnergyEvaluations
from bgfast.experiments.folder import RunFolder
from bgfast.sampling.umbrella import UmbrellaResult


def dimer_summary(config: DimerConfig, folder: RunFolder, found: DimerEstimates) -> dict[str, Any]:
    """Return what summary.json holds."""
    main = found.main
    return {
        "system": "dimer",
        "tau": main,
        **weights_entry(found.plain[main].weights),
        "seconds": folder.seconds(),
        "log_z_is": "of one labelling of the solvent, estimated with plain weights",
        **estimators_entry(_estimators(found), found.recommended),
        **_parts(found.pooled.get(main)),
        **({} if found.annealed is None else {"anneal": anneal_entry(found.annealed)}),
        **_reference(found.references.get(main)),
        **_agreement(found.agreement(main)),
        "temperatures": {repr(tau): _temperature(found, tau) for tau in found.plain},
        "energy_evaluations": asdict(_evaluations(config, found)),
        "seed": config.seed,
        "versions": versions(),
    }


def _evaluations(config: DimerConfig, found: DimerEstimates) -> EnergyEvaluations:
    evaluations = dimer_evaluations(config)
    if found.annealed is None:
        return evaluations
    return with_annealing(evaluations, found.annealed.record["evaluations"])


def _estimators(found: DimerEstimates) -> dict[str, EstimatorResult]:
    plain, pooled = found.plain[found.main], found.pooled.get(found.main)
    results = {"plain": EstimatorResult(plain.delta_f, plain.profile, found.plain_verdict)}
    if pooled is not None:
        whole = pooled.whole
        results["bidirectional"] = EstimatorResult(whole.delta_f, whole.profile, pooled.verdict)
    if found.annealed is not None and found.main == 1:
        results["annealed"] = found.annealed.result
    return results


def _parts(pooled: PooledEstimate | None) -> dict[str, Any]:
    """Return what the parts of the pool say without one another."""
    if pooled is None:
        return {}
    parts: dict[str, Any] = {
        "generated_share_of_weight": pooled.whole.generated_share,
        "log_z": estimate_entry(pooled.whole.log_z),
    }
    if pooled.states is not None:
        parts["generator_and_states"] = {"delta_f": estimate_entry(pooled.states.delta_f(0, 1))}
    if pooled.windows is not None:
        parts["windows_alone"] = {"delta_f": estimate_entry(pooled.windows.delta_f)}
    return {"parts_of_the_pool": parts}


def _reference(reference: UmbrellaResult | None) -> dict[str, Any]:
    if reference is None:
        return {}
    entry = {
        "method": "umbrella sampling with replica exchange",
        "delta_f": estimate_entry(reference.delta_f),
        "stderr": reference.delta_f.stderr,
        "profile": profile_entry(reference.profile),
        "converged": reference.converged,
    }
    return {"reference": entry}


def _agreement(agreement: Agreement | None) -> dict[str, Any]:
    if agreement is None:
        return {}
    entry = {
        "delta_f": agreement.delta_f,
        "stderr": agreement.stderr,
        "profile_largest": agreement.profile.largest,
        "profile_rmse": agreement.profile.rmse,
        "profile_bounds": agreement.bounds,
    }
    return {"agreement": entry}


def _temperature(found: DimerEstimates, tau: float) -> dict[str, Any]:
    return (
        weights_entry(found.plain[tau].weights)
        | {
            "estimator": "bidirectional" if tau in found.pooled else "plain",
            "delta_f": estimate_entry(found.delta_f_at(tau)),
            "profile": profile_entry(found.profile_at(tau)),
        }
        | _parts(found.pooled.get(tau))
        | _reference(found.references.get(tau))
        | _agreement(found.agreement(tau))
    )
