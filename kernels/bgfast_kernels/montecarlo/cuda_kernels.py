"""Metropolis moves of many walkers on a CUDA device, float64."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bgfast_kernels import cuda
from bgfast_kernels.continuation import X_FAR
from bgfast_kernels.dimer.constants import constants
from bgfast_kernels.dimer.parameters import DimerParameters
from bgfast_kernels.montecarlo.systems import System

BLOCK = 128
_SHARED_NUMBERS = 40 * 1024 // 8
_LANES = (1, 2, 4, 8, 16, 32)

MOVES = {
    "double_well": ("all",),
    "mueller_brown": ("all",),
    "dimer": ("particle", "particle-palindrome", "all"),
}
"""Name of a system -> the kinds of moves that have a CUDA kernel."""


@dataclass(frozen=True)
class Places:
    """Device addresses of what :func:`advance` reads and writes.

    Parameters
    ----------
    walkers
        Field of :class:`bgfast_kernels.montecarlo.Walkers` -> address of such an array; the state
        is changed in place.
    parameters
        ``System.parameters``.
    tables
        :func:`bgfast_kernels.random.ziggurat_tables`.
    frames, energies
        ``[n, n_frames, dim]`` and ``[n, n_frames]``, to write.
    """

    walkers: Mapping[str, int]
    parameters: int
    tables: int
    frames: int
    energies: int


@functools.cache
def program(name: str, moves: str, dim: int) -> cuda.Program:
    """Return the program that makes such moves of a system of ``dim`` coordinates.

    Raises
    ------
    ValueError
        If there is none, or a block's walkers do not fit into shared memory.
    """
    if moves not in MOVES.get(name, ()):
        raise ValueError(f"there are no moves {moves!r} of the {name} on a CUDA device")
    sweeps = moves != "all"
    lanes = _lanes(dim, arrays=2 if sweeps else 3, least=8 if name == "dimer" else 1)
    defines = {"N": dim // 2} if name == "dimer" else {}
    if not sweeps:
        defines["D"] = dim
    defines |= {"G": lanes, "BLOCK": BLOCK}
    path = "dimer_sweeps" if sweeps else name
    return cuda.Program(f"montecarlo/{path}.cuh", "float64", tuple(defines.items()))


def _lanes(dim: int, arrays: int, least: int) -> int:
    """Return how many lanes share a walker: enough that a block's walkers fit its memory."""
    for lanes in _LANES:
        if lanes >= least and BLOCK // lanes * arrays * dim <= _SHARED_NUMBERS:
            return lanes
    most = _SHARED_NUMBERS // (BLOCK // _LANES[-1] * arrays)
    raise ValueError(f"walkers on a CUDA device have up to {most} coordinates, got {dim}")


def programs() -> dict[str, cuda.Program]:
    """Return the programs of the usual sizes by label."""
    return {
        "dimer_sweeps N=38 float64": program("dimer", "particle", 76),
        "all_coordinates dimer N=38 float64": program("dimer", "all", 76),
        "all_coordinates double_well D=2 float64": program("double_well", "all", 2),
        "all_coordinates double_well D=100 float64": program("double_well", "all", 100),
        "all_coordinates mueller_brown float64": program("mueller_brown", "all", 2),
    }


def advance(
    system: System,
    moves: str,
    n: int,
    n_frames: int,
    stride: int,
    places: Places,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue ``n_frames * stride`` steps of ``n`` walkers, each ``stride``-th stored.

    Parameters
    ----------
    system, moves
        What is moved and how; see :data:`MOVES`.
    n
        Number of walkers.
    n_frames, stride
        See :func:`bgfast_kernels.montecarlo.advance`.
    places
        Where everything is.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    """
    if n == 0 or n_frames == 0:
        return
    chosen = program(system.name, moves, system.dim)
    walkers = {name: cuda.pointer(address) for name, address in places.walkers.items()}
    read = ("x", "u", "states", "tau", "step", "bias", "interval")
    arguments: list[np.generic] = [walkers[name] for name in read]
    arguments += [np.int64(n), *_constants(system, places)]
    if moves == "all":
        arguments += [cuda.pointer(places.tables), np.int32(n_frames), np.int32(stride)]
    else:
        back = np.int32(moves == "particle-palindrome")
        arguments += [np.int32(n_frames), np.int32(stride), back]
    arguments += [cuda.pointer(places.frames), cuda.pointer(places.energies), walkers["accepted"]]
    if moves != "all":
        arguments.append(walkers["drift"])
    cuda.launch(
        chosen,
        "all_coordinates" if moves == "all" else "dimer_sweeps",
        grid=-(-n * int(dict(chosen.defines)["G"]) // BLOCK),
        block=BLOCK,
        arguments=arguments,
        device=device,
        stream=stream,
    )


def _constants(system: System, places: Places) -> list[np.generic]:
    """Return the numbers of the energy as the kernel of the system takes them."""
    if system.name == "dimer":
        numbers = system.parameters.tolist()
        return list(constants(DimerParameters(system.dim // 2 - 2, *numbers), "float64"))
    if system.name == "mueller_brown":
        return [cuda.pointer(places.parameters), np.float64(X_FAR)]
    return [*system.parameters, np.float64(X_FAR)]
