"""Simulated data of the two states of a system: made, split into training and held out, kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import h5py
import numpy as np
import torch

from bgfast._files import atomic_write
from bgfast.sampling.store import StoreError, open_samples


@dataclass(frozen=True)
class StateData:
    """Frames of independent walkers, each confined to one state.

    Parameters
    ----------
    x
        Frames, ``[n_walkers, n_frames, dim]``, float64; kept on disk in float32.
    energy
        Reduced energies, ``[n_walkers, n_frames]``.
    state
        State of each walker, ``[n_walkers]``: 0 below the split, 1 above it.
    held_out
        Walkers kept from training, ``[n_walkers]``, boolean.
    reference
        Configuration ``[n_particles, n_dim]`` whose labelling the frames follow; empty if the
        frames are as simulated.
    """

    x: np.ndarray
    energy: np.ndarray
    state: np.ndarray
    held_out: np.ndarray
    reference: np.ndarray

    def frames(self, *, held_out: bool) -> torch.Tensor:
        """Return training (or held-out) frames, ``[n, dim]``, float64."""
        x = self.x[self.held_out == held_out]
        return torch.from_numpy(x.reshape(-1, x.shape[-1]))

    def save(self, path: Path) -> None:
        """Write all of it to an HDF5 file, whole or not at all."""
        with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
            for name, values in vars(self).items():
                file.create_dataset(name, data=values, dtype="f4" if name == "x" else None)

    @classmethod
    def load(cls, path: Path, dim: int) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        StoreError
            If the file is missing or damaged, or its frames do not have ``dim`` coordinates.
        """
        with open_samples(path) as file:
            try:
                values = {name: file[name][()] for name in cls.__dataclass_fields__}
            except (KeyError, OSError, RuntimeError) as error:
                raise StoreError(f"{path} is damaged ({error}); start in another --out") from error
        x = values["x"]
        if x.ndim != 3 or x.shape[-1] != dim:
            raise StoreError(f"{path} holds frames of another system, {list(x.shape)}")
        return cls(**values | {"x": x.astype(np.float64)})


def joined(parts: list[StateData]) -> StateData:
    """Return the walkers of all ``parts``; they must have equally many frames."""
    names = ("x", "energy", "state", "held_out")
    stacked = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    return replace(parts[0], **stacked)


def hold_out(n_walkers: int, share: float) -> np.ndarray:
    """Mark the last ``share`` of the walkers (at least one, if there are two) as held out."""
    n = min(n_walkers - 1, max(1, round(share * n_walkers))) if share > 0 else 0
    return np.arange(n_walkers) >= n_walkers - n
