"""What this machine and installation can do, found by trying it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

import torch
from bgfast_kernels import cpu

PACKAGES = ("bgfast", "numpy", "scipy", "numba", "torch", "h5py")


@dataclass(frozen=True)
class Check:
    """Outcome of one check."""

    name: str
    ok: bool
    result: str


def checks() -> Iterator[Check]:
    """Yield what was found, kernels and torch compared on a small example."""
    yield Check("python", True, f"{sys.version.split()[0]} on {platform.platform()}")
    for package, version in versions().items():
        yield Check(package, True, version)
    yield Check(
        "CPU threads", True, f"torch {torch.get_num_threads()}, kernels {cpu.get_threads()}"
    )
    yield _attempt("numba kernels", _kernels_agree)
    yield _attempt("CUDA", _cuda)


def versions() -> dict[str, str]:
    """Return the versions of bgfast and of the packages its numbers depend on."""
    return {package: metadata.version(package) for package in PACKAGES}


def _attempt(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:  # the point of the command is to say what is wrong
        return Check(name, False, f"{type(error).__name__}: {error}")


def _kernels_agree() -> str:
    from bgfast import ops
    from bgfast.energies import ParticleDimer

    energy = ParticleDimer()
    x = energy.lattice_configuration(1.5).expand(64, -1)
    noise = torch.Generator().manual_seed(0)
    x = x + 0.1 * torch.randn(x.shape, generator=noise, dtype=x.dtype)
    with ops.use_backend("numba"):
        fast = energy.energy(x)
    with ops.use_backend("torch"):
        slow = energy.energy(x)
    error = float(((fast - slow) / slow).abs().max())
    if not error < 1e-11:
        raise RuntimeError(f"dimer energies differ from the torch reference by {error:.1e}")
    return f"ok, dimer energies agree with the torch reference to {error:.0e}"


def _cuda() -> str:
    if not torch.cuda.is_available():
        return f"no device: torch {torch.__version__} sees none; everything runs on the CPU"
    return f"{torch.cuda.get_device_name()}; energies use the torch backend on it"
