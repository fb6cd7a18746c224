"""The CUDA kernels of pair potentials: how pairs are mapped to threads, and their launch.

G lanes (threads of a warp) per configuration, each with some of the particles in registers; all
partners pass through shared memory (*gather*, see ``gather.cuh``). The mapping depends on the
number of particles alone, so a configuration has the same bits in any batch.
"""

from __future__ import annotations

import functools

import numpy as np

from bgfast_kernels import cuda
from bgfast_kernels.pair.parameters import POTENTIALS, PairParameters, constants
from bgfast_kernels.pair.potential import derivatives, straight_line

BLOCK = 128
_SHARED_BYTES = 32 * 1024
_CHUNK = 5  # most particles that a lane holds at once


def lanes(n_particles: int) -> int:
    """Return how many threads serve a configuration: the fewest that hold it in registers."""
    return next((g for g in (2, 4, 8, 16) if n_particles <= _CHUNK * g), 32)


def energy_grad_program(
    potential: str, n_dim: int, n_particles: int, dtype: str, n_lanes: int
) -> cuda.Program:
    """Return the program of ``pair_energy_grad``."""
    return _program("energy_grad", potential, n_dim, n_particles, dtype, n_lanes)


def hvp_program(
    potential: str, n_dim: int, n_particles: int, dtype: str, n_lanes: int
) -> cuda.Program:
    """Return the program of ``pair_hvp``."""
    return _program("hvp", potential, n_dim, n_particles, dtype, n_lanes)


@functools.lru_cache(maxsize=256)
def _program(
    name: str, potential: str, n_dim: int, n_particles: int, dtype: str, n_lanes: int
) -> cuda.Program:
    numbers = n_dim * (2 if name == "hvp" else 1)
    per_particle = BLOCK // n_lanes * numbers * np.dtype(dtype).itemsize
    per_lane = -(-n_particles // n_lanes)  # particles, in equal passes of _CHUNK or fewer
    return cuda.Program(
        f"pair/{name}.cuh",
        dtype,
        (
            ("N", n_particles),
            ("DIM", n_dim),
            ("G", n_lanes),
            ("BLOCK", BLOCK),
            ("CHUNK", -(-per_lane // -(-per_lane // _CHUNK))),
            ("TILE", min(n_particles, _SHARED_BYTES // per_particle)),
            ("RESIDENT", 4 if dtype == "float32" else 3),
            ("PAIR_ENERGY", _statements(potential, "value", "slope")),
            ("PAIR_HESSIAN", _statements(potential, "slope", "curvature")),
        ),
    )


def _statements(potential: str, *names: str) -> str:
    """Return C that computes what is named, of ``derivatives``, from ``t``."""
    d = derivatives(POTENTIALS[potential])
    lines = straight_line({name: getattr(d, name) for name in names}, "real({})")
    return " ".join(f"const real {target} = {expression};" for target, expression in lines)


def programs() -> dict[str, cuda.Program]:
    """Return the programs of usual sizes, and of one that takes several passes."""
    found = {}
    for dtype in ("float32", "float64"):
        for potential, n_dim, n in (
            ("lennard_jones", 3, 13),
            ("lennard_jones", 3, 55),
            ("lennard_jones", 3, 200),
            ("repulsion", 2, 38),
        ):
            label = f"{potential} D={n_dim} N={n} gather-{lanes(n)} {dtype}"
            arguments = (potential, n_dim, n, dtype, lanes(n))
            found[f"pair_energy_grad {label}"] = energy_grad_program(*arguments)
            found[f"pair_hvp {label}"] = hvp_program(*arguments)
    return found


def pair_energy_grad(
    x: int,
    n: int,
    n_particles: int,
    parameters: PairParameters,
    dtype: str,
    u: int,
    grad: int,
    *,
    device: int,
    stream: int,
    n_lanes: int | None = None,
) -> None:
    """Enqueue the energies and gradients of ``n`` configurations.

    Parameters
    ----------
    x
        Device address of ``[n, n_particles * n_dim]``, contiguous.
    n
        Number of configurations; nothing is launched for 0.
    n_particles
        Number of particles, 2 or more.
    parameters
        Parameters of the energy.
    dtype
        ``"float32"`` or ``"float64"``.
    u, grad
        Device addresses of the results, ``[n]`` and like ``x``.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    n_lanes
        Another number of threads per configuration than that of :func:`lanes`: a power of two, 2
        to 32.
    """
    n_lanes = n_lanes or lanes(n_particles)
    p = parameters
    program = energy_grad_program(p.potential, p.n_dim, n_particles, dtype, n_lanes)
    _launch(program, "pair_energy_grad", (x,), n, p, (u, grad), device, stream)


def pair_hvp(
    x: int,
    v: int,
    n: int,
    n_particles: int,
    parameters: PairParameters,
    dtype: str,
    out: int,
    *,
    device: int,
    stream: int,
    n_lanes: int | None = None,
) -> None:
    """Enqueue the Hessians at each row of ``x`` applied to that of ``v``.

    ``out`` takes the result, like ``x``; see :func:`pair_energy_grad` for the rest.
    """
    n_lanes = n_lanes or lanes(n_particles)
    p = parameters
    program = hvp_program(p.potential, p.n_dim, n_particles, dtype, n_lanes)
    _launch(program, "pair_hvp", (x, v), n, p, (out,), device, stream)


def _launch(
    program: cuda.Program,
    kernel: str,
    inputs: tuple[int, ...],
    n: int,
    parameters: PairParameters,
    outputs: tuple[int, ...],
    device: int,
    stream: int,
) -> None:
    if n == 0:
        return
    arguments: list[np.generic] = [cuda.pointer(address) for address in inputs]
    arguments.append(np.int64(n))
    arguments.extend(constants(parameters, program.dtype))
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
