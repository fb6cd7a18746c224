"""Metropolis sweeps of many dimer walkers on a CUDA device, float64."""

from __future__ import annotations

import functools

import numpy as np

from bgfast_kernels import cuda
from bgfast_kernels.dimer.constants import constants
from bgfast_kernels.dimer.parameters import DimerParameters

BLOCK = 128
_SHARED_BYTES = 40 * 1024
_BYTES_PER_PARTICLE = 32  # its place and its folded place


@functools.cache
def sweeps_program(n_particles: int) -> cuda.Program:
    """Return the program of ``dimer_sweeps``.

    Raises
    ------
    ValueError
        If a block's walkers do not fit into shared memory.
    """
    for lanes in (8, 16, 32):
        if BLOCK // lanes * n_particles * _BYTES_PER_PARTICLE <= _SHARED_BYTES:
            defines = (("N", n_particles), ("G", lanes), ("BLOCK", BLOCK))
            return cuda.Program("montecarlo/dimer_sweeps.cuh", "float64", defines)
    most = _SHARED_BYTES // (BLOCK // 32 * _BYTES_PER_PARTICLE)
    raise ValueError(f"sweeps on a CUDA device take up to {most} particles, got {n_particles}")


def programs() -> dict[str, cuda.Program]:
    """Return the programs of the usual size by label."""
    return {"dimer_sweeps N=38 float64": sweeps_program(38)}


def dimer_sweeps(
    walkers: dict[str, int],
    n: int,
    parameters: DimerParameters,
    n_frames: int,
    stride: int,
    frames: int,
    energies: int,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue ``n_frames * stride`` sweeps of ``n`` walkers, each ``stride``-th stored.

    Parameters
    ----------
    walkers
        Field of :class:`bgfast_kernels.montecarlo.Walkers` -> device address of such an array; the
        state is changed in place.
    n
        Number of walkers.
    parameters
        Parameters of the energy.
    n_frames, stride
        See :func:`bgfast_kernels.montecarlo.advance`.
    frames, energies
        Device addresses of ``[n, n_frames, dim]`` and ``[n, n_frames]``.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    """
    if n == 0 or n_frames == 0:
        return
    program = sweeps_program(parameters.n_particles)
    read = ("x", "u", "states", "tau", "step", "bias", "interval")
    cuda.launch(
        program,
        "dimer_sweeps",
        grid=-(-n * int(dict(program.defines)["G"]) // BLOCK),
        block=BLOCK,
        arguments=[
            *(cuda.pointer(walkers[name]) for name in read),
            np.int64(n),
            *constants(parameters, "float64"),
            np.int32(n_frames),
            np.int32(stride),
            *(cuda.pointer(a) for a in (frames, energies)),
            *(cuda.pointer(walkers[name]) for name in ("accepted", "drift")),
        ],
        device=device,
        stream=stream,
    )
