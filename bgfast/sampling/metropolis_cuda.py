"""Metropolis sweeps on a CUDA device: the walkers' state goes there, frames come back."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from bgfast_kernels.dimer import DimerParameters
from bgfast_kernels.montecarlo import System, Walkers, cuda_kernels
from numpy.typing import NDArray
from torch import Tensor

from bgfast.ops.backend import BackendError, why_no_cuda
from bgfast.ops.cuda import place

Array = NDArray[np.float64]


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
    if (system.coordinate, moves) != ("d", "particle"):
        raise ValueError("on a CUDA device there are only sweeps over the particles of the dimer")
    cuda_kernels.sweeps_program(system.dim // 2)
    if missing := why_no_cuda():
        raise BackendError(f"Monte Carlo cannot run on {device}: {missing}")
    return device


def advance(
    system: System, walkers: Walkers, n_frames: int, stride: int, device: torch.device
) -> tuple[Array, Array]:
    """Advance every walker as :func:`bgfast_kernels.montecarlo.advance` does, on the device.

    The walkers keep their random streams, so they make the CPU's moves up to rounding.
    """
    state = {field.name: _to(getattr(walkers, field.name), device) for field in fields(walkers)}
    x = state["x"]
    frames, energies = x.new_empty(len(x), n_frames, system.dim), x.new_empty(len(x), n_frames)
    cuda_kernels.dimer_sweeps(
        {name: tensor.data_ptr() for name, tensor in state.items()},
        len(x),
        DimerParameters(system.dim // 2 - 2, *system.parameters.tolist()),
        n_frames,
        stride,
        frames.data_ptr(),
        energies.data_ptr(),
        **place(x),
    )
    for name in ("x", "u", "states", "accepted", "drift"):
        array = getattr(walkers, name)
        array[:] = state[name].cpu().numpy().view(array.dtype)
    return frames.cpu().numpy(), energies.cpu().numpy()


def _to(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy an array to the device; the streams' unsigned integers as signed ones."""
    signed = array.view(np.int64) if array.dtype == np.uint64 else array
    return torch.tensor(signed, device=device)
