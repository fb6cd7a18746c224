"""What can be sampled: each system's parameters and kernels, and the state of its walkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu, random
from bgfast_kernels.dimer.parameters import DimerParameters
from bgfast_kernels.montecarlo import dimer_energy, metropolis, scalar

Array = NDArray[np.float64]


@dataclass(frozen=True)
class System:
    """A system of the Metropolis kernels.

    Parameters
    ----------
    name
        Which system it is; :mod:`bgfast_kernels.montecarlo.cuda_kernels` goes by it.
    dim
        Number of coordinates.
    coordinate
        Name of the coordinate that biases and intervals act on.
    parameters
        Numbers of the energy, as its kernel wants them.
    n_scratch
        Length of the scratch array of its energy.
    evaluate
        Kernel of :func:`bgfast_kernels.montecarlo.metropolis.evaluate`.
    kernels
        Kind of moves -> kernel that makes them.
    moves_per_step
        Kind of moves -> how many proposals are accepted or rejected in one step.
    """

    name: str
    dim: int
    coordinate: str
    parameters: Array
    n_scratch: int
    evaluate: Callable[..., None]
    kernels: Mapping[str, Callable[..., None]]
    moves_per_step: Mapping[str, int]


@dataclass
class Walkers:
    """State of W walkers, changed in place by :func:`advance`.

    Parameters
    ----------
    x
        Configurations, ``[W, dim]``.
    u
        Their energies, ``[W]``, without the bias.
    states
        Random streams, uint64, ``[W, 4]``.
    tau, step
        Relative temperature and step size, ``[W]``.
    bias
        ``[W, 2]``: (k, q0) of the bias k/2 (q - q0)^2, part of the energy that tau divides.
    interval
        ``[W, 2]``: (low, high), which the coordinate q never leaves.
    accepted
        Number of accepted proposals, int64, ``[W]``.
    drift
        Largest correction of an incremental energy so far, ``[W]``.
    """

    x: Array
    u: Array
    states: NDArray[np.uint64]
    tau: Array
    step: Array
    bias: Array
    interval: Array
    accepted: NDArray[np.int64]
    drift: Array


def evaluate(system: System, x: Array) -> tuple[Array, Array]:
    """Return the energy and the coordinate of every row of ``x[W, dim]``."""
    u, q = np.empty(len(x)), np.empty(len(x))
    x = np.ascontiguousarray(x)
    cpu.parallel_rows(
        system.evaluate, len(x), x, system.parameters, system.n_scratch, u, q, min_rows=64
    )
    return u, q


def advance(
    system: System, moves: str, walkers: Walkers, n_frames: int, stride: int
) -> tuple[Array, Array]:
    """Advance every walker by ``n_frames * stride`` steps.

    Returns
    -------
    frames, energies
        The configuration and u after every ``stride`` steps, ``[W, n_frames, dim]`` and
        ``[W, n_frames]``.
    """
    n_walkers = len(walkers.x)
    frames = np.empty((n_walkers, n_frames, system.dim))
    energies = np.empty((n_walkers, n_frames))
    cpu.parallel_rows(
        system.kernels[moves],
        n_walkers,
        walkers.x,
        walkers.u,
        walkers.states,
        walkers.tau,
        walkers.step,
        walkers.bias,
        walkers.interval,
        system.parameters,
        system.n_scratch,
        random.ziggurat_tables(),
        stride,
        frames,
        energies,
        walkers.accepted,
        walkers.drift,
        min_rows=1,
    )
    return frames, energies


def double_well(dim: int, a4: float, a2: float, a1: float, k: float) -> System:
    """Return the double well; its coordinate is x1."""
    return _all_coordinates_only(
        "double_well", dim, "x1", [a4, a2, a1, k], scalar.double_well, scalar.first_coordinate
    )


def mueller_brown(scale: float, terms: Array) -> System:
    """Return the Mueller-Brown surface; its coordinate is y.

    ``terms[4, 6]`` holds (A, a, b, c, x0, y0) of each Gaussian.
    """
    parameters = [scale, *np.asarray(terms, np.float64).ravel()]
    return _all_coordinates_only(
        "mueller_brown", 2, "y", parameters, scalar.mueller_brown, scalar.second_coordinate
    )


def dimer(parameters: DimerParameters) -> System:
    """Return the dimer in its fluid; its coordinate is the distance d."""
    energy, coordinate = dimer_energy.energy, dimer_energy.distance
    n = parameters.n_particles
    return System(
        name="dimer",
        dim=parameters.dim,
        coordinate="d",
        parameters=np.array(astuple(parameters)[1:], np.float64),
        n_scratch=dimer_energy.scratch_size(n),
        evaluate=metropolis.evaluate(energy, coordinate, "dimer"),
        kernels={
            "particle": metropolis.dimer_particles(),
            "particle-palindrome": metropolis.dimer_particles(palindromic=True),
            "all": metropolis.all_coordinates(energy, coordinate, "dimer"),
        },
        moves_per_step={"particle": n, "particle-palindrome": n, "all": 1},
    )


def _all_coordinates_only(
    name: str,
    dim: int,
    coordinate_name: str,
    parameters: list[float],
    energy: Callable[..., Any],
    coordinate: Callable[..., Any],
) -> System:
    return System(
        name=name,
        dim=dim,
        coordinate=coordinate_name,
        parameters=np.array(parameters, np.float64),
        n_scratch=0,
        evaluate=metropolis.evaluate(energy, coordinate, name),
        kernels={"all": metropolis.all_coordinates(energy, coordinate, name)},
        moves_per_step={"all": 1},
    )
