"""Coupling steps: one half of the coordinates, transformed by what was computed from the other."""

from bgfast_kernels.coupling.affine_spec import AFFINE, S_MAX

__all__ = ["AFFINE", "S_MAX"]
