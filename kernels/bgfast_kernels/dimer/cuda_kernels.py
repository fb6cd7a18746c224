"""The dimer's CUDA kernels: which one serves how many particles, and its launch.

Two mappings of the pairs to threads, each with G lanes (threads of a warp) per configuration:
*symmetric* computes every pair once with all particles in registers, *gather* every pair from both
sides with the partners in shared memory, for any number of particles. The mapping depends on the
number of particles alone, so a configuration has the same bits in any batch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from bgfast_kernels import cuda
from bgfast_kernels.dimer.constants import constants
from bgfast_kernels.dimer.parameters import DimerParameters

BLOCK = 128
_SHARED_BYTES = 32 * 1024
_MOST_SYMMETRIC = 64  # beyond, the registers of a lane do not suffice
_CHUNK = {"float32": 4, "float64": 2}  # particles a lane holds at once, in registers


@dataclass(frozen=True)
class Mapping:
    """How pairs are distributed over threads.

    Parameters
    ----------
    kind
        ``"symmetric"`` or ``"gather"``.
    lanes
        Threads per configuration: 2, 4, 8, 16 or 32.
    """

    kind: str
    lanes: int

    def __post_init__(self) -> None:
        if self.kind not in ("symmetric", "gather"):
            raise ValueError(f"kind must be 'symmetric' or 'gather', got {self.kind!r}")
        if self.lanes not in (2, 4, 8, 16, 32):
            raise ValueError(f"lanes must be 2, 4, 8, 16 or 32, got {self.lanes!r}")


def mapping(n_particles: int, dtype: str) -> Mapping:
    """Return the mapping that serves ``n_particles`` in ``dtype``."""
    if n_particles > _MOST_SYMMETRIC:
        return Mapping("gather", 32)
    if n_particles <= 8:
        return Mapping("symmetric", 2)
    if n_particles <= 16:
        return Mapping("symmetric", 4)
    return Mapping("symmetric", 8 if dtype == "float32" or n_particles <= 40 else 16)


def energy_grad_program(n_particles: int, dtype: str, chosen: Mapping) -> cuda.Program:
    """Return the program of ``dimer_energy_grad``."""
    return _program("energy_grad", n_particles, dtype, chosen, 2)


def hvp_program(n_particles: int, dtype: str, chosen: Mapping) -> cuda.Program:
    """Return the program of ``dimer_hvp``."""
    return _program("hvp", n_particles, dtype, chosen, 4)


@functools.lru_cache(maxsize=256)
def _program(
    name: str, n_particles: int, dtype: str, chosen: Mapping, numbers_per_particle: int
) -> cuda.Program:
    lanes = chosen.lanes
    defines = [("N", n_particles), ("G", lanes), ("BLOCK", BLOCK)]
    if chosen.kind == "symmetric":
        return cuda.Program(f"dimer/{name}.cuh", dtype, tuple(defines))
    per_particle = BLOCK // lanes * numbers_per_particle * np.dtype(dtype).itemsize
    defines += [
        ("CHUNK", min(_CHUNK[dtype], -(-n_particles // lanes))),
        ("TILE", min(n_particles, _SHARED_BYTES // per_particle)),
    ]
    return cuda.Program(f"dimer/{name}_gather.cuh", dtype, tuple(defines))


def programs() -> dict[str, cuda.Program]:
    """Return the programs of the usual size, and of one that is too large for symmetric lanes."""
    found = {}
    for dtype in ("float32", "float64"):
        for n in (38, 100):
            chosen = mapping(n, dtype)
            label = f"N={n} {chosen.kind}-{chosen.lanes} {dtype}"
            found[f"dimer_energy_grad {label}"] = energy_grad_program(n, dtype, chosen)
            found[f"dimer_hvp {label}"] = hvp_program(n, dtype, chosen)
    return found


def dimer_energy_grad(
    x: int,
    n: int,
    parameters: DimerParameters,
    dtype: str,
    u: int,
    grad: int,
    *,
    device: int,
    stream: int,
    chosen: Mapping | None = None,
) -> None:
    """Enqueue the energies and gradients of ``n`` configurations.

    Parameters
    ----------
    x
        Device address of ``[n, dim]``, contiguous, at a multiple of two numbers.
    n
        Number of configurations; nothing is launched for 0.
    parameters
        Parameters of the energy.
    dtype
        ``"float32"`` or ``"float64"``.
    u, grad
        Device addresses of the results, ``[n]`` and ``[n, dim]``; ``grad`` aligned like ``x``.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    chosen
        Another mapping than that of :func:`mapping`.
    """
    chosen = chosen or mapping(parameters.n_particles, dtype)
    program = energy_grad_program(parameters.n_particles, dtype, chosen)
    _launch(program, "dimer_energy_grad", (x,), n, parameters, (u, grad), device, stream)


def dimer_hvp(
    x: int,
    v: int,
    n: int,
    parameters: DimerParameters,
    dtype: str,
    out: int,
    *,
    device: int,
    stream: int,
    chosen: Mapping | None = None,
) -> None:
    """Enqueue the Hessians at ``x[n, dim]`` applied to ``v[n, dim]``.

    ``out[n, dim]`` takes the result; see :func:`dimer_energy_grad` for the rest.
    """
    chosen = chosen or mapping(parameters.n_particles, dtype)
    program = hvp_program(parameters.n_particles, dtype, chosen)
    _launch(program, "dimer_hvp", (x, v), n, parameters, (out,), device, stream)


def _launch(
    program: cuda.Program,
    kernel: str,
    inputs: tuple[int, ...],
    n: int,
    parameters: DimerParameters,
    outputs: tuple[int, ...],
    device: int,
    stream: int,
) -> None:
    if n == 0:
        return
    arguments: list[np.generic] = [cuda.pointer(address) for address in inputs]
    arguments.append(np.int64(n))
    arguments.extend(_numbers(parameters, program.dtype))
    arguments.extend(cuda.pointer(address) for address in outputs)
    groups_per_block = BLOCK // int(dict(program.defines)["G"])
    cuda.launch(
        program,
        kernel,
        grid=-(-n // groups_per_block),
        block=BLOCK,
        arguments=arguments,
        device=device,
        stream=stream,
    )


@functools.lru_cache(maxsize=64)
def _numbers(parameters: DimerParameters, dtype: str) -> tuple[np.generic, ...]:
    return tuple(constants(parameters, dtype))
