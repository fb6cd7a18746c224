"""Metropolis moves on a CUDA device: the walkers' state goes there, frames come back."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from bgfast_kernels import random
from bgfast_kernels.montecarlo import System, Walkers, cuda_kernels
from numpy.typing import NDArray
from torch import Tensor

from bgfast.ops.backend import BackendError, why_no_cuda
from bgfast.ops.cuda import place

Array = NDArray[np.float64]
State = dict[str, Tensor]
"""Field of :class:`bgfast_kernels.montecarlo.Walkers` -> such an array on the device; the streams'
unsigned integers as signed ones."""

_CHANGED = ("x", "u", "states", "accepted", "drift")


def check(system: System, moves: str, device: torch.device | str) -> torch.device:
    """Return the device if it can make these moves of this system.

    Raises
    ------
    ValueError
        If it is no CUDA device, or there is no kernel for the system and moves.
    bgfast.ops.BackendError
        If CUDA kernels cannot run here; the message says what is missing.
    """
    device = torch.device(device)
    if device.type != "cuda":
        raise ValueError(f"device must be a CUDA device or None for the CPU, got {device}")
    cuda_kernels.program(system.name, moves, system.dim)
    if missing := why_no_cuda():
        raise BackendError(f"Monte Carlo cannot run on {device}: {missing}")
    return device


class DeviceMoves:
    """Moves of walkers whose state is on a device; they never wait for it.

    Parameters
    ----------
    system, moves
        What is moved, and how.
    device
        Where; see :func:`check`.
    """

    def __init__(self, system: System, moves: str, device: torch.device) -> None:
        self.system, self.moves, self.device = system, moves, device
        self._parameters = torch.tensor(system.parameters, device=device)
        self._tables = torch.tensor(random.ziggurat_tables(), device=device)

    def advance(self, state: State, n_frames: int, stride: int) -> tuple[Tensor, Tensor]:
        """Advance every walker as :func:`bgfast_kernels.montecarlo.advance` does.

        ``state`` is changed in place. The walkers keep their random streams, so they make the CPU's
        moves up to rounding.
        """
        x = state["x"]
        frames = x.new_empty(len(x), n_frames, self.system.dim)
        energies = x.new_empty(len(x), n_frames)
        places = cuda_kernels.Places(
            walkers={name: tensor.data_ptr() for name, tensor in state.items()},
            parameters=self._parameters.data_ptr(),
            tables=self._tables.data_ptr(),
            frames=frames.data_ptr(),
            energies=energies.data_ptr(),
        )
        cuda_kernels.advance(self.system, self.moves, len(x), n_frames, stride, places, **place(x))
        return frames, energies

    def advance_walkers(self, walkers: Walkers, n_frames: int, stride: int) -> tuple[Array, Array]:
        """Advance walkers of the host: their state goes to the device and comes back."""
        state = {field.name: self._copy(getattr(walkers, field.name)) for field in fields(walkers)}
        frames, energies = self.advance(state, n_frames, stride)
        for name in _CHANGED:
            array = getattr(walkers, name)
            array[:] = state[name].cpu().numpy().view(array.dtype)
        return frames.cpu().numpy(), energies.cpu().numpy()

    def _copy(self, array: NDArray[np.generic]) -> Tensor:
        signed = array.view(np.int64) if array.dtype == np.uint64 else array
        return torch.tensor(signed, device=self.device)
