"""The repulsive part of Lennard-Jones alone."""

from __future__ import annotations

from typing import Any

from bgfast_kernels.pair.potential import Potential


def u(s: Any) -> Any:
    """Return ``r^-12``; ``s = r^2``."""
    return s**-6


REPULSION = Potential("repulsion", "repulsion r^-12", u)
