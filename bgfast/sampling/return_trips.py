"""How long local Metropolis Monte Carlo takes to leave a state and come back.

A return trip leads from the core of one state, q <= low, to that of the other, q >= high, and back.
Where it is too rare to be seen, it is measured in a flattened system and scaled up:

- by exp(B - B_flat), B the barrier of F(q) above its deepest minimum, as Noé et al.,
  arXiv:1812.01729, do;
- by the ratio of  integral_low^high exp(F) dq  *  integral exp(-F) dq, to which the mean return
  time of diffusion along q is proportional (Smoluchowski), whatever the shape of F.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bgfast.analysis.estimate import Estimate
from bgfast.sampling.metropolis import MetropolisSampler

Array = NDArray[np.float64]
Coordinate = Callable[[torch.Tensor], torch.Tensor]
Progress = Callable[[int, int], None]

_FRAMES = 250
"""Frames of each walker that are looked at together."""


@dataclass(frozen=True)
class ReturnTrips:
    """Crossings seen, and the mean steps of a return trip.

    Attributes
    ----------
    steps
        Mean steps of one walker from the first core to the second and back. NaN if not both ways
        were seen.
    crossings
        Ways there and ways back that were seen.
    total_steps
        Steps of all walkers together.
    """

    steps: Estimate
    crossings: tuple[int, int]
    total_steps: int


def measure_return_trips(
    system: Any,
    x0: Array,
    coordinate: Coordinate,
    cores: tuple[float, float],
    *,
    step: float,
    stride: int,
    max_steps: int,
    enough: int = 200,
    tau: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> ReturnTrips:
    """Run walkers with moves of all coordinates at once until enough crossings are seen.

    Parameters
    ----------
    system
        An energy that :class:`bgfast.sampling.MetropolisSampler` knows.
    x0
        Starts, ``[W, dim]``.
    coordinate
        Maps configurations ``[..., dim]`` to q ``[...]``.
    cores
        low and high; the states' cores are q <= low and q >= high.
    step
        Standard deviation of the proposal in every coordinate.
    stride
        Steps between two looks at q; crossings within it are missed.
    max_steps
        Longest run of each walker.
    enough
        Crossings each way after which the run ends.
    tau, seed
        Relative temperature, and seed of the walkers.
    progress
        Called as ``progress(crossings_seen, enough)``.

    Raises
    ------
    ValueError
        If the cores are not increasing, or a number is not positive.
    """
    low, high = cores
    if not low < high:
        raise ValueError(f"cores must be (low, high) with low < high, got {cores}")
    for name, value in (("stride", stride), ("max_steps", max_steps), ("enough", enough)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    sampler = MetropolisSampler(system, x0, tau=tau, step=step, moves="all", seed=seed)
    side = np.full(len(x0), -1)  # the core each walker was in last; -1 before its first
    frames_in = np.zeros(2)
    crossings = np.zeros(2, dtype=np.int64)
    done = 0
    while done < max_steps and crossings.min() < enough:
        n_frames = min(_FRAMES, -(-(max_steps - done) // stride))
        x = sampler.run(n_frames * stride, stride=stride).x
        q = coordinate(torch.from_numpy(x)).numpy()
        core = np.where(q <= low, 0, np.where(q >= high, 1, -1))
        last = _last_core(core, side)
        before = np.column_stack([side, last[:, :-1]])
        for state in (0, 1):
            frames_in[state] += (last == state).sum()
            crossings[state] += ((before == state) & (last == 1 - state)).sum()
        side = last[:, -1]
        done += n_frames * stride
        if progress is not None:
            progress(int(min(crossings.min(), enough)), enough)
    return ReturnTrips(
        _mean_steps(frames_in * stride, crossings),
        (int(crossings[0]), int(crossings[1])),
        done * len(x0),
    )


def _last_core(core: NDArray[np.int64], side: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replace the frames between the cores, -1, by the core the walker was in last."""
    joined = np.column_stack([side, core])
    index = np.where(joined >= 0, np.arange(joined.shape[1]), 0)
    latest = np.maximum.accumulate(index, axis=1)
    return np.take_along_axis(joined, latest, axis=1)[:, 1:]


def _mean_steps(steps_in: Array, crossings: NDArray[np.int64]) -> Estimate:
    """Return the sum of both mean times of leaving; times of leaving are nearly exponential."""
    if crossings.min() == 0:
        return Estimate(math.nan, math.nan)
    means = steps_in / crossings
    return Estimate(float(means.sum()), float(np.sqrt((means**2 / crossings).sum())))


@dataclass(frozen=True)
class Extrapolation:
    """The mean return trip of a system, scaled up from its flattened version.

    Attributes
    ----------
    by_barrier
        Steps, with exp(B - B_flat).
    by_diffusion
        Steps, with the ratio of Smoluchowski's integrals.
    barrier, flat_barrier
        B and B_flat in k_B T.
    """

    by_barrier: Estimate
    by_diffusion: Estimate
    barrier: float
    flat_barrier: float


def extrapolate(
    flat: ReturnTrips, q: Array, f: Array, f_flat: Array, cores: tuple[float, float]
) -> Extrapolation:
    """Scale the return trip of a flattened system up.

    Parameters
    ----------
    flat
        Measured in the flattened system.
    q
        Evenly spaced points, ``[n]``.
    f, f_flat
        F(q) of the system and of the flattened one in k_B T, up to constants, ``[n]``.
    cores
        As they were in the measurement.
    """
    barriers = _barrier(q, f, cores), _barrier(q, f_flat, cores)
    by_barrier = math.exp(barriers[0] - barriers[1])
    by_diffusion = math.exp(_log_trip(q, f, cores) - _log_trip(q, f_flat, cores))
    value, stderr = flat.steps.value, flat.steps.stderr
    return Extrapolation(
        Estimate(value * by_barrier, stderr * by_barrier),
        Estimate(value * by_diffusion, stderr * by_diffusion),
        *barriers,
    )


def _between(q: Array, cores: tuple[float, float]) -> NDArray[np.bool_]:
    return (q >= cores[0]) & (q <= cores[1])


def _barrier(q: Array, f: Array, cores: tuple[float, float]) -> float:
    return float(f[_between(q, cores)].max() - f.min())


def _log_trip(q: Array, f: Array, cores: tuple[float, float]) -> float:
    """Return the log of Smoluchowski's two integrals, up to the squared spacing."""
    lowest = f.min()
    up = f[_between(q, cores)] - lowest
    return float(up.max() + np.log(np.exp(up - up.max()).sum()) + np.log(np.exp(lowest - f).sum()))
