"""Metropolis kernels: many independent walkers, each with its own temperature and random stream.

A kernel advances walkers ``start <= w < stop`` by ``n_frames * stride`` steps and stores every
``stride``-th. All a walker needs to go on is in its row of ``x``, ``u`` and ``states``, so cutting
a run into several calls, or the walkers among threads, changes no bit.

Acceptance is exp(-(v' - v) / tau) with v = u + k/2 (q - q0)^2 inside ``low <= q <= high``; a move
out of the interval is rejected. q is the system's coordinate, ``bias[W, 2]`` holds (k, q0),
``interval[W, 2]`` holds (low, high). Stored energies are u without the bias.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bgfast_kernels import cpu, random
from bgfast_kernels.montecarlo import dimer_energy as dimer
from bgfast_kernels.montecarlo.scalar import far_map

_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_NEVER = 40.0  # exp(-40) is below the resolution of the uniform number it is compared with


@functools.cache
def evaluate(energy: Callable[..., Any], coordinate: Callable[..., Any], key: str) -> Any:
    """Return the kernel ``(start, stop, x, parameters, n_scratch, u, q)`` that fills u and q."""

    @cpu.jit(key=key)
    def kernel(start, stop, x, parameters, n_scratch, u, q):  # type: ignore[no-untyped-def]
        scratch = np.empty(n_scratch)
        for w in range(start, stop):
            u[w] = energy(x[w], parameters, np.inf, scratch)
            q[w] = coordinate(x[w])

    return kernel


@functools.cache
def all_coordinates(energy: Callable[..., Any], coordinate: Callable[..., Any], key: str) -> Any:
    """Return the kernel that moves all coordinates at once, x' = x + step * normal(D).

    ``accepted[w]`` counts accepted steps; ``drift`` is not used, every energy being a full one.
    """

    @cpu.jit(key=key)
    def kernel(  # type: ignore[no-untyped-def]
        start,
        stop,
        x,
        u,
        states,
        tau,
        step,
        bias,
        interval,
        parameters,
        n_scratch,
        tables,
        stride,
        frames,
        energies,
        accepted,
        drift,
    ):
        scratch = np.empty(n_scratch)
        trial = np.empty(x.shape[1])
        for w in range(start, stop):
            k, centre = bias[w, 0], bias[w, 1]
            here = x[w]
            v = u[w] + 0.5 * k * (coordinate(here) - centre) ** 2
            for frame in range(frames.shape[1]):
                for _ in range(stride):
                    random.fill_normal(states[w], tables, trial)
                    for i in range(trial.size):
                        trial[i] = here[i] + step[w] * trial[i]
                    # v' - v <= -tau log(1 - uniform), drawn first: the energy can stop early.
                    limit = v - tau[w] * math.log1p(-random.next_double(states[w]))
                    q = coordinate(trial)
                    if interval[w, 0] <= q <= interval[w, 1]:
                        pull = 0.5 * k * (q - centre) ** 2
                        u_trial = energy(trial, parameters, limit - pull, scratch)
                        if u_trial <= limit - pull:
                            here[:] = trial
                            u[w] = u_trial
                            v = u_trial + pull
                            accepted[w] += 1
                frames[w, frame] = here
                energies[w, frame] = u[w]

    return kernel


@functools.cache
def dimer_particles(*, palindromic: bool = False) -> Any:
    """Return the kernel that sweeps over the dimer's particles.

    Each is moved within a square of half width ``step``. A step is a sweep; ``accepted[w]`` counts
    accepted moves of single particles. The running energy is recomputed at every stored frame;
    ``drift[w]`` is the largest correction so far.

    Parameters
    ----------
    palindromic
        Every other sweep of a frame goes backwards, so that an even ``stride`` of them is
        reversible as a whole. (A sweep in one direction keeps the distribution, but is not.)
    """
    key = "back and forth" if palindromic else "forth"

    @cpu.jit(key=key)
    def kernel(  # type: ignore[no-untyped-def]
        start,
        stop,
        x,
        u,
        states,
        tau,
        step,
        bias,
        interval,
        p,
        n_scratch,
        tables,
        stride,
        frames,
        energies,
        accepted,
        drift,
    ):
        n = x.shape[1] // 2
        q = np.empty((4, dimer.padded(n)))
        scratch = np.empty(n_scratch)
        sigma = p[1]
        for w in range(start, stop):
            here, state = x[w], states[w]
            dimer.load_particles(here, sigma, q)
            unit = step[w] / 2.0**31
            for frame in range(frames.shape[1]):
                running = u[w]
                for sweep in range(stride):
                    back = palindromic and sweep % 2 == 1
                    for k in range(n):
                        i = n - 1 - k if back else k
                        # Both displacements from one draw, 32 bits each, symmetric about 0.
                        bits = random.next_uint64(state)
                        high, low = np.int32(bits >> _HALF), np.int32(bits & _LOW)
                        x_new = here[2 * i] + unit * (np.float64(high) + 0.5)
                        y_new = here[2 * i + 1] + unit * (np.float64(low) + 0.5)
                        new_x, new_y = far_map(x_new), far_map(y_new)
                        old_x, old_y = far_map(here[2 * i]), far_map(here[2 * i + 1])
                        change = dimer.wall(p, new_x, new_y) - dimer.wall(p, old_x, old_y)
                        partner = i
                        pull = 0.0
                        if i < 2:
                            partner = 1 - i
                            other_x, other_y = here[2 * partner], here[2 * partner + 1]
                            d = math.sqrt((x_new - other_x) ** 2 + (y_new - other_y) ** 2)
                            if not interval[w, 0] <= d <= interval[w, 1]:
                                continue
                            d_old = dimer.distance(here)
                            pull = 0.5 * bias[w, 0] * (d - d_old) * (d + d_old - 2.0 * bias[w, 1])
                            other_x, other_y = far_map(other_x), far_map(other_y)
                            change += dimer.bond(p, new_x, new_y, other_x, other_y)
                            change -= dimer.bond(p, old_x, old_y, other_x, other_y)
                        change += p[0] * dimer.pair_change(
                            i, partner, new_x / sigma, new_y / sigma, q
                        )
                        cost = (change + pull) / tau[w]
                        if cost <= 0.0 or (
                            cost < _NEVER and random.next_double(state) < math.exp(-cost)
                        ):
                            here[2 * i], here[2 * i + 1] = x_new, y_new
                            q[0, i], q[1, i] = new_x / sigma, new_y / sigma
                            running += change
                            accepted[w] += 1
                u[w] = dimer.energy(here, p, np.inf, scratch)
                drift[w] = max(drift[w], abs(running - u[w]))
                frames[w, frame] = here
                energies[w, frame] = u[w]

    return kernel
