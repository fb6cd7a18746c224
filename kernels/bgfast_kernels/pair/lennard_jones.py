"""Lennard-Jones 12-6."""

from __future__ import annotations

from typing import Any

from bgfast_kernels.pair.potential import Potential


def u(s: Any) -> Any:
    """Return ``4 (r^-12 - r^-6)``; ``s = r^2``."""
    return 4 * (s**-6 - s**-3)


LENNARD_JONES = Potential("lennard_jones", "Lennard-Jones 12-6", u)
