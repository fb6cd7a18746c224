"""The numbers of a run in ``summary.json``: strict JSON that any reader understands."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bgfast._files import atomic_write
from bgfast.analysis.diagnostics import Verdict
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import Profile
from bgfast.analysis.weights import WeightSummary


@dataclasses.dataclass(frozen=True)
class EstimatorResult:
    """What one estimator says.

    Attributes
    ----------
    delta_f
        Free-energy difference of the two states in k_B T.
    profile
        Free energy along the reaction coordinate.
    verdict
        How far it can be trusted.
    """

    delta_f: Estimate
    profile: Profile
    verdict: Verdict


def estimators_entry(results: Mapping[str, EstimatorResult], recommended: str) -> dict[str, Any]:
    """Return all estimates of a run as they stand in summary.json.

    ``estimators`` holds each by its name; ``delta_f``, ``profile`` and ``trust`` at the top are
    those of ``recommended``, whose name is ``estimator``.
    """
    best = results[recommended]
    return {
        "estimator": recommended,
        "delta_f": estimate_entry(best.delta_f),
        "profile": profile_entry(best.profile),
        "trust": {"level": best.verdict.level, "sentences": best.verdict.sentences},
        "estimators": {
            name: {
                "delta_f": estimate_entry(result.delta_f),
                "profile": profile_entry(result.profile),
                "trust": result.verdict.level,
            }
            for name, result in results.items()
        },
    }


def estimate_entry(estimate: Estimate) -> dict[str, float]:
    """Return an estimate as it stands in summary.json."""
    return {"value": estimate.value, "stderr": estimate.stderr}


def profile_entry(profile: Profile) -> dict[str, Any]:
    """Return a profile as it stands in summary.json."""
    return {"r": profile.r, "f": profile.f, "stderr": profile.stderr}


def weights_entry(weights: WeightSummary) -> dict[str, Any]:
    """Return the weights' numbers as they stand in summary.json."""
    return {
        "n": weights.n,
        "ess": weights.ess,
        "max_weight": weights.max_weight,
        "pareto_k": weights.pareto_k,
        "log_z": estimate_entry(weights.log_z),
        "nonfinite": weights.nonfinite,
        "discarded": weights.discarded,
    }


def write_summary(path: str | os.PathLike[str], summary: Mapping[str, Any]) -> None:
    """Write ``summary`` as strict JSON, under a temporary name that is then renamed.

    NumPy scalars and arrays, tuples, paths and dataclasses become what JSON has. NaN and infinity
    become null: JSON has no word for them.

    Raises
    ------
    TypeError
        If a value or a key cannot be written; the message names its place.
    """
    text = json.dumps(_jsonable(summary, "summary"), indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def load_summary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a summary; null where a number was not finite.

    Raises
    ------
    ValueError
        If the file is not a JSON object.
    """
    try:
        loaded = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(loaded).__name__}")
    return loaded


def _jsonable(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return _jsonable(value.tolist(), where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"{where} has the key {wrong[0]!r}; keys must be strings")
        return {key: _jsonable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{where} is a {type(value).__name__}, which JSON cannot hold")
