"""What a timing depends on: processor, threads, versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bgfast_kernels import team

import bgfast

REQUIRED = ("numba", "numpy", "scipy", "torch")


def cores() -> int:
    """Return the number of processors this process may use, also where each thread has its own."""
    if (threads := team.openmp()) is not None:
        return threads.processors()
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(packages: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """Return processor and versions, those of ``packages`` where installed, and ``more``."""
    versions = {name: version for name in (*REQUIRED, *packages) if (version := _version(name))}
    return {
        "cpu": _cpu(),
        "avx512": "avx512f" in _cpuinfo(),
        "cores": cores(),
        "python": platform.python_version(),
        "bgfast": bgfast.__version__,
        **versions,
        **more,
    }


def line(machine: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _cpu() -> str:
    names = (s for s in _cpuinfo().splitlines() if s.startswith("model name"))
    return next((s.split(":")[1].strip() for s in names), platform.processor())
