"""Coupling steps: one half of the coordinates, transformed by what was computed from the other."""

from bgfast_kernels.coupling.affine_spec import AFFINE, S_MAX
from bgfast_kernels.coupling.spline_spec import SPLINE

__all__ = ["AFFINE", "SPLINE", "S_MAX"]
