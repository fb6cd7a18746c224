"""Kernels of bgfast: arrays in, arrays out.

NumPy and numba; cupy is optional and never imported here. Importing this package compiles nothing.
"""

from bgfast_kernels import assignment as assignment
from bgfast_kernels import cap as cap
from bgfast_kernels import coupling as coupling
from bgfast_kernels import dimer as dimer
from bgfast_kernels import kde as kde
from bgfast_kernels import pair as pair
from bgfast_kernels.spec import KernelSpec, Tolerance, get, names

__all__ = ["KernelSpec", "Tolerance", "get", "names"]
