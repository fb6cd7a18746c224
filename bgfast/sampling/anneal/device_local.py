"""Local moves on a device: the walkers never leave it, and nothing waits for it.

The same as :mod:`bgfast.sampling.anneal.local` but for the random numbers. Every particle is swept,
and a mask, not a selection, keeps those that must not move.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bgfast.sampling import adaptation, metropolis_cuda
from bgfast.sampling.anneal.local import (
    ADAPT_ACCEPTANCE,
    ADAPT_SWEEPS,
    LocalMoves,
    through_flow,
)
from bgfast.sampling.anneal.population import Particles, Target, on_device
from bgfast.sampling.anneal.random_numbers import generator_of
from bgfast.sampling.metropolis import monte_carlo

_COORDINATES: dict[str, Callable[[Tensor], Tensor]] = {
    "x1": lambda x: x[:, 0],
    "y": lambda x: x[:, 1],
    "d": lambda x: torch.linalg.vector_norm(x[:, 0:2] - x[:, 2:4], dim=-1),
}
"""Name of the coordinate that an interval acts on -> the coordinate."""


class DeviceLocalMoves:
    """Proposals by sweeps of local moves, made on a device.

    Parameters
    ----------
    local
        The moves.
    device
        Where.

    Raises
    ------
    ValueError
        If there is no kernel for them.
    bgfast.ops.BackendError
        If CUDA kernels cannot run here.
    """

    def __init__(self, local: LocalMoves, device: torch.device) -> None:
        system = monte_carlo(local.system)
        device = metropolis_cuda.check(system, local.moves, device)
        self.local = local
        self._energy = on_device(local.system, device)
        self._coordinate = _COORDINATES[system.coordinate]
        self._moves = metropolis_cuda.DeviceMoves(system, local.moves, device)
        self._proposals = system.moves_per_step[local.moves]

    def step_size(
        self,
        target: Target,
        x: Tensor,
        wanted: Tensor,
        start: Tensor,
        rng: np.random.Generator,
    ) -> Tensor:
        """Return the step size at which 40 % of the moves of ``x[n, dim]`` are accepted.

        That of the rows ``wanted[n]`` which can be moved; ``start`` if there are none. Both are
        tensors with one number.
        """
        x = x.double()
        u, movable = self._energies(target, x)
        target.evaluations.sweeps += ADAPT_SWEEPS * len(x)
        state = self._state(x, u, start, rng)
        for i, length in enumerate(adaptation.rounds(ADAPT_SWEEPS)):
            state["accepted"].zero_()
            self._moves.advance(state, 1, length)
            acceptance = state["accepted"] / (length * self._proposals)
            state["step"] *= adaptation.log_change(acceptance - ADAPT_ACCEPTANCE, i).exp()
        return _median(state["step"], wanted & movable, start)

    def move(
        self,
        target: Target,
        particles: Particles,
        beta: float,
        n_sweeps: int,
        step: float | Tensor,
        rng: np.random.Generator,
        chunk: int,
    ) -> tuple[Particles, Tensor]:
        """Make one move of every particle; see :meth:`bgfast.sampling.anneal.local.Mover.move`."""
        here = particles.x.double()
        before, movable = self._energies(target, here)
        moving = particles.log_w.isfinite() & movable
        labelling = self.local.labelling
        start = here if labelling is None else labelling.shuffled(here, rng)
        frames, energies = self._moves.advance(self._state(start, before, step, rng), 1, n_sweeps)
        target.evaluations.sweeps += n_sweeps * len(here)
        there = frames[:, 0] if labelling is None else labelling.canonical(frames[:, 0])
        new, trusted = through_flow(target, there.to(particles.x.dtype), chunk)
        gain = new.log_q + beta * new.log_w - particles.log_q - beta * particles.log_w
        gain = gain + (energies[:, 0] - before) / target.tau
        gain = torch.where(gain.isnan() | ~trusted | ~moving, -math.inf, gain)
        generator = generator_of(rng, gain.device)
        uniform = torch.rand(len(gain), generator=generator, dtype=gain.dtype, device=gain.device)
        moved = new.where(torch.log1p(-uniform) < gain, particles)
        return moved, gain.clamp(max=0.0).exp()

    def _energies(self, target: Target, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return v and which rows can be moved, ``[n]``."""
        target.evaluations.starts += len(x)
        with torch.no_grad():
            u = self._energy.energy(x)
        low, high = self.local.interval
        coordinate = self._coordinate(x)
        return u, u.isfinite() & (low <= coordinate) & (coordinate <= high)

    def _state(
        self, x: Tensor, u: Tensor, step: float | Tensor, rng: np.random.Generator
    ) -> metropolis_cuda.State:
        """Return walkers at ``x``, each with a random stream of its own, drawn on the device."""
        n, numbers = len(x), x.new_ones(len(x))
        states = torch.empty(n, 4, dtype=torch.int64, device=x.device)
        low, high = self.local.interval
        return {
            "x": x.clone(memory_format=torch.contiguous_format),
            "u": u.clone(),
            "states": states.random_(-(2**63), None, generator=generator_of(rng, x.device)),
            "tau": self.local.tau * numbers,
            "step": step * numbers,
            "bias": x.new_zeros(n, 2),
            "interval": torch.stack([x.new_full((n,), low), x.new_full((n,), high)], dim=1),
            "accepted": torch.zeros(n, dtype=torch.int64, device=x.device),
            "drift": x.new_zeros(n),
        }


def _median(values: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Return the median of ``values[n]`` where ``chosen[n]``; ``otherwise`` if nothing is."""
    ordered = torch.where(chosen, values, math.inf).sort().values
    n = chosen.sum()
    middle = torch.stack([(n - 1) // 2, n // 2]).clamp(min=0)
    return torch.where(n > 0, ordered.gather(0, middle).mean(), otherwise)
