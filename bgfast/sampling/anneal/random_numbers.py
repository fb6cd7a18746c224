"""Random numbers where they are needed: of a NumPy generator, or drawn on a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def generator_of(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Return a source of random numbers on the device, with a seed drawn from ``rng``."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))


def random_rows(n: int, m: int, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Return uniform numbers ``[n, m]``, float64: of ``rng`` on the CPU, drawn there elsewhere."""
    if device.type == "cpu":
        return torch.from_numpy(rng.random((n, m)))
    generator = generator_of(rng, device)
    return torch.rand(n, m, generator=generator, dtype=torch.float64, device=device)
