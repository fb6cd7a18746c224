"""What an op is: its name, implementations, tolerances and typical inputs.

Tests and benchmarks iterate over this registry, so an op that is registered is tested and timed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Tolerance:
    """Largest error against the float64 reference, relative to the largest magnitude of a row.

    Where the op itself makes much of a small change of its inputs, ``roundings`` times the largest
    change of the result, when every input moves by half a unit in the last place, comes on top.
    """

    value: float
    gradient: float
    roundings: float = 0.0


@dataclass(frozen=True)
class KernelSpec:
    """Description of one op that every backend answers to.

    Parameters
    ----------
    name
        Name of the op, also of its folder and of its torch op ``bgfast::<name>``.
    summary
        One line for tables.
    implementations
        Backend name -> ``"module:function"``; the module is imported at the first use.
    sample
        ``sample(rng, n, dtype)`` -> keyword arguments of the op: arrays with ``n`` rows (or points)
        and static parameters.
    arrays
        Names of the arguments that are arrays with ``n`` rows.
    tolerance
        dtype name -> tolerance against the float64 reference.
    """

    name: str
    summary: str
    implementations: Mapping[str, str]
    sample: Callable[[np.random.Generator, int, DTypeLike], Arguments]
    arrays: tuple[str, ...]
    tolerance: Mapping[str, Tolerance] = field(
        default_factory=lambda: {
            "float32": Tolerance(1e-5, 1e-5),
            "float64": Tolerance(1e-12, 1e-12),
        }
    )

    def load(self, backend: str) -> Callable[..., Any]:
        """Import and return the implementation for ``backend``.

        Raises
        ------
        KeyError
            If this op has no implementation for ``backend``.
        """
        return _imported(self.implementations[backend])


@functools.cache
def _imported(place: str) -> Callable[..., Any]:
    module, function = place.split(":")
    implementation: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return implementation


_REGISTRY: dict[str, KernelSpec] = {}


def register(spec: KernelSpec) -> KernelSpec:
    """Add ``spec`` to the registry; its name must be new."""
    if spec.name in _REGISTRY:
        raise ValueError(f"an op named {spec.name!r} is registered already")
    _REGISTRY[spec.name] = spec
    return spec


def get(name: str) -> KernelSpec:
    """Return the spec of the op ``name``."""
    try:
        return _REGISTRY[name]
    except KeyError:
        raise KeyError(f"no op named {name!r}; there are {', '.join(sorted(_REGISTRY))}") from None


def names() -> tuple[str, ...]:
    """Return the names of all ops, sorted."""
    return tuple(sorted(_REGISTRY))
