"""The reference of the dimer, umbrella sampling, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bgfast._files import atomic_write
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import Profile
from bgfast.energies import ParticleDimer
from bgfast.experiments.progress import Reporter
from bgfast.sampling.umbrella import UmbrellaResult, UmbrellaSettings, umbrella_profile
from bgfast.sampling.umbrella_estimate import LadderEstimate

VERSION = 1
"""To be raised when the same settings give another result or the file another content."""


def dimer_reference(
    energy: ParticleDimer,
    tau: float = 1.0,
    *,
    bounds: tuple[float, float] = (0.5, 2.5),
    n_bins: int = 80,
    split: float = 1.5,
    seed: int = 0,
    settings: UmbrellaSettings | None = None,
    reporter: Reporter | None = None,
    cache: Path | None = None,
    compute: bool = True,
) -> UmbrellaResult | None:
    """Return F(d) by umbrella sampling, from the cache if it is there.

    Parameters
    ----------
    energy, tau, bounds, n_bins, split, settings, seed
        See :func:`bgfast.sampling.umbrella.umbrella_profile`; together they name the cached file.
    reporter
        Shows progress and notes; quiet if not given.
    cache
        Folder of the cache; :func:`default_cache` if not given. A file there that cannot be used is
        computed anew, a folder that cannot be written to is done without; both are noted.
    compute
        Whether to compute what is not in the cache; if not, ``None`` is returned.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    reporter = reporter or Reporter(quiet=True)
    settings = settings or UmbrellaSettings()
    key = {
        "version": VERSION,
        "parameters": asdict(energy.params),
        "tau": float(tau),
        "bounds": [float(bound) for bound in bounds],
        "n_bins": int(n_bins),
        "split": float(split),
        "seed": int(seed),
        "settings": asdict(settings),
    }
    path = _path(cache or default_cache(), key)
    if (cached := _load(path, key, reporter)) is not None:
        return cached
    if not compute:
        return None
    total = settings.burn_in + settings.sweeps
    with reporter.stage(f"umbrella sampling, tau = {tau:g}", total, "sweeps") as advance:
        result = umbrella_profile(
            energy,
            tau,
            bounds=bounds,
            n_bins=n_bins,
            split=split,
            settings=settings,
            seed=seed,
            progress=lambda done, _: advance(done),
        )
    _save(path, key, result, reporter)
    return result


def default_cache() -> Path:
    """Return ``$XDG_CACHE_HOME/bgfast``, or ``~/.cache/bgfast``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "bgfast"


def result_to_dict(result: UmbrellaResult) -> dict[str, Any]:
    """Return a result as JSON can hold it: lists for arrays, ``None`` for NaN."""
    encoded: dict[str, Any] = _encoded(result)
    return encoded


def result_from_dict(table: dict[str, Any]) -> UmbrellaResult:
    """Return the result that :func:`result_to_dict` encoded.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        If ``table`` is anything else.
    """
    values = {field.name: table[field.name] for field in fields(UmbrellaResult)}
    values |= _estimate_from(table)
    values["halves"] = {
        name: LadderEstimate(**_estimate_from(half)) for name, half in table["halves"].items()
    }
    values["exchange"] = _array(table["exchange"])
    low, high = table["interval"]
    values["interval"] = (low, high)
    return UmbrellaResult(**values)


def _estimate_from(table: dict[str, Any]) -> dict[str, Any]:
    profile = {field.name: _array(table["profile"][field.name]) for field in fields(Profile)}
    profile["counts"] = profile["counts"].astype(np.int64)
    value, stderr = (_number(table["delta_f"][name]) for name in ("value", "stderr"))
    return {
        "profile": Profile(**profile),
        "delta_f": Estimate(value, stderr),
        "shape_error": _number(table["shape_error"]),
        "overlap": _array(table["overlap"]),
    }


def _encoded(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _encoded(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: _encoded(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | tuple):
        return [_encoded(part) for part in value]
    if isinstance(value, np.generic):
        return _encoded(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _array(values: list[float | None]) -> np.ndarray:
    return np.array([_number(value) for value in values])


def _path(cache: Path, key: dict[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True)
    return Path(cache) / f"dimer-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _load(path: Path, key: dict[str, Any], reporter: Reporter) -> UmbrellaResult | None:
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] != key:
            raise ValueError("it belongs to another system")
        return result_from_dict(content["result"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reporter.note(f"cannot use the cached reference {path} ({error}); computing it anew")
        return None


def _save(path: Path, key: dict[str, Any], result: UmbrellaResult, reporter: Reporter) -> None:
    text = json.dumps({"key": key, "result": result_to_dict(result)}, indent=1, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        reporter.note(f"cannot keep the reference in {path.parent}: {error.strerror}")
