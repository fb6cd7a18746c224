"""Kernels of bgfast: arrays in, arrays out.

NumPy and numba; cupy is optional and never imported here. Importing this package compiles nothing.
"""

from bgfast_kernels.spec import KernelSpec, Tolerance, get, names

__all__ = ["KernelSpec", "Tolerance", "get", "names"]
