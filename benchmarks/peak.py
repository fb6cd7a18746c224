"""Peak memory of a call, as the kernel counts it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bgfast_kernels import network, vector_network

_PROC = Path("/proc/self")


def peak_growth(call: Callable[[], Any]) -> int:
    """Return by how many bytes the resident memory of this process rises at most during ``call``.

    What the call allocates and returns counts; memory that it finds free in the allocator, or that
    a call before has left for it, does not, so that is given back first.

    Raises
    ------
    NotImplementedError
        Where the peak cannot be reset (other systems than Linux).
    """
    gc.collect()
    for unit in (network, vector_network):
        unit.forget_memory()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        (_PROC / "clear_refs").write_text("5")  # the peak starts again at what is resident now
    except (AttributeError, OSError) as error:
        raise NotImplementedError(f"peak memory cannot be measured here: {error}") from error
    before = _kib("VmRSS")
    call()
    return max(0, _kib("VmHWM") - before) * 1024


def peak_resident() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    return _kib("VmHWM") * 1024


def _kib(field: str) -> int:
    lines = (_PROC / "status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))
