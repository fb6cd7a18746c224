"""What this machine and installation can do, found by trying it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

import torch
from bgfast_kernels import cpu, team

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
    yield Check("CPU threads", True, _threads())
    yield _attempt("numba kernels", _kernels_agree)
    yield _attempt("networks", _networks)
    yield _attempt("CUDA", _cuda)


def versions() -> dict[str, str]:
    """Return the versions of bgfast and of the packages its numbers depend on."""
    return {package: metadata.version(package) for package in PACKAGES}


def _threads() -> str:
    found = f"torch {torch.get_num_threads()}, kernels {cpu.get_threads()}"
    if (threads := team.openmp()) is None:
        return found
    bound = "bound" if threads.binding() else "not bound"
    return f"{found}, processors {threads.processors()}, threads {bound} to them"


def _attempt(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:  # the point of the command is to say what is wrong
        return Check(name, False, f"{type(error).__name__}: {error}")


def _kernels_agree() -> str:
    error = _largest_error("cpu", "numba")
    return f"ok, dimer energies agree with the torch reference to {error:.0e}"


def _largest_error(device: str, backend: str) -> float:
    from bgfast import ops
    from bgfast.energies import ParticleDimer

    energy = ParticleDimer()
    x = energy.lattice_configuration(1.5).expand(64, -1)
    noise = torch.Generator().manual_seed(0)
    x = x + 0.1 * torch.randn(x.shape, generator=noise, dtype=x.dtype)
    with ops.use_backend(backend):
        fast = energy.to(device).energy(x.to(device)).cpu()
    with ops.use_backend("torch"):
        slow = energy.to("cpu").energy(x)
    error = float(((fast - slow) / slow).abs().max())
    if not error < 1e-11:
        raise RuntimeError(f"dimer energies differ from the torch reference by {error:.1e}")
    return error


def _networks() -> str:
    from bgfast_kernels import network, vector_network

    from bgfast.flows.conditioner import Conditioner
    from bgfast.flows.dense_plain import plain_dense

    unit = "torch"
    if vector_network.is_supported():
        unit = "the processor's vector units (AVX-512)"
    if network.is_supported():
        unit = "the processor's matrix unit (AMX)"
    generator = torch.Generator().manual_seed(0)
    conditioner = Conditioner(38, 38, (128, 128), generator=generator)
    x = torch.randn(1024, 38, generator=generator)
    with torch.no_grad():
        fast = conditioner(x)
        weights, biases = ([t.double() for t in ts] for ts in conditioner.parameter_lists())
        exact = plain_dense(x.double(), weights, biases, conditioner.activation)
        error = float((fast - exact).norm() / exact.norm())
    if not error < 1e-5:
        raise RuntimeError(f"a network on {unit} differs from float64 by {error:.1e}")
    return f"float32 on {unit}, agrees with float64 to {error:.0e}"


def _cuda() -> str:
    from bgfast.ops.backend import why_no_cuda

    missing = why_no_cuda()
    if not torch.cuda.is_available():
        return f"{missing}; everything runs on the CPU"
    if missing:
        return f"{missing}; without the kernels, CUDA tensors go through plain torch"
    error = _largest_error("cuda", "cuda")
    return f"{torch.cuda.get_device_name()}; dimer energies agree to {error:.0e}"
