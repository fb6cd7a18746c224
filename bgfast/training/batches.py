"""The two sources of rows: examples in shuffled epochs, latent vectors at several temperatures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class ShuffledRows:
    """Row numbers of the examples in shuffled epochs, from a generator of its own.

    Every row comes once per epoch; a batch may take the end of one epoch and the start of the
    next, so that batches always have the size asked for.

    Parameters
    ----------
    n
        Number of examples, at least 1.
    seed
        Seed of the order.
    device
        Where the numbers are drawn and stay.
    """

    def __init__(self, n: int, seed: int, device: torch.device | str = "cpu") -> None:
        self._n = n
        self._generator = torch.Generator(device).manual_seed(seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        device = self._generator.device
        self._order = torch.randperm(self._n, generator=self._generator, device=device)
        self._position = 0

    def take(self, batch: int) -> Tensor:
        """Return the next ``batch`` row numbers, int64."""
        parts = []
        while batch > 0:
            if self._position == self._n:
                self._start_epoch()
            part = self._order[self._position : self._position + batch]
            self._position += len(part)
            batch -= len(part)
            parts.append(part)
        return torch.cat(parts)

    def state_dict(self) -> dict[str, Any]:
        """Return where in which epoch we are."""
        return {"epoch": self._epoch_state, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken."""
        self._generator.set_state(state["epoch"])
        self._start_epoch()
        self._position = state["position"]


class LatentRows:
    """Latent vectors z ~ N(0, tau I), the rows of one temperature next to each other.

    Parameters
    ----------
    dim
        Dimension of the flow.
    seed
        Seed of the generator, which lives on ``device``.
    dtype, device
        Of the vectors.
    """

    def __init__(self, dim: int, seed: int, dtype: torch.dtype, device: torch.device) -> None:
        self._dim = dim
        self._generator = torch.Generator(device).manual_seed(seed)
        self._dtype, self._device = dtype, device
        self._row_tau: dict[tuple[int, tuple[float, ...]], Tensor] = {}

    def draw(self, batch: int, tau: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Return ``(z[n, dim], tau[n])`` with n = ``batch`` rounded down to equal shares."""
        row_tau = self._temperatures(batch, tau)
        z = torch.randn(
            (len(row_tau), self._dim),
            generator=self._generator,
            dtype=self._dtype,
            device=self._device,
        )
        return z * row_tau.sqrt()[:, None], row_tau

    def _temperatures(self, batch: int, tau: tuple[float, ...]) -> Tensor:
        """Return the temperature of each row; copied to the device once, which waits for it."""
        if (batch, tau) not in self._row_tau:
            temperatures = torch.tensor(tau, dtype=self._dtype, device=self._device)
            self._row_tau[batch, tau] = temperatures.repeat_interleave(batch // len(tau))
        return self._row_tau[batch, tau]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the generator."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken."""
        self._generator.set_state(state["generator"])


def independent_seeds(seed: int, n: int) -> list[int]:
    """Return ``n`` seeds of statistically independent streams that belong to ``seed``."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(n, np.uint64) >> 1]
