"""Rows of a pool: generated samples and walkers not trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgfast.analysis import Rows
from bgfast.experiments.data import StateData
from bgfast.flows import Flow, log_prob
from bgfast.sampling.store import read_columns

POOLED_ROWS = 2_000_000
"""Generated rows that enter a pool, at most: it holds them in memory."""
_GENERATOR_BATCHES = 64
_CHUNK = 8192


def generated_rows(
    path: Path, split: float, tau: float = 1.0, bounds: tuple[float, float] | None = None
) -> Rows:
    """Return the samples in ``path``, which were drawn at ``tau``.

    Rows marked ``discard`` and rows outside of ``bounds`` are in no state, which is written -1.
    Batches are drawn at random, so that the errors of Sobol samples are those of independent ones.
    """
    columns = ("r", "energy", "log_w", "discard")
    r, u, log_w, discard = next(read_columns(path, *columns, chunk=POOLED_ROWS))
    outside = discard.astype(bool)
    if bounds is not None:
        outside |= ~((r >= bounds[0]) & (r <= bounds[1]))
    return Rows(
        u=u / tau,
        log_q=-u / tau - log_w,
        state=np.where(outside, -1, (r >= split).astype(int)),
        r=r,
        block=np.random.default_rng(0).permutation(len(u)) % _GENERATOR_BATCHES,
    )


@torch.no_grad()
def simulated_rows(
    data: StateData,
    flow: Flow,
    reaction_coordinate: Callable[[Tensor], Tensor],
    tau: float = 1.0,
) -> Rows:
    """Return the frames of the held-out walkers of ``data`` with their density under ``flow``.

    The energies of ``data`` are taken as they are, the density is the one at ``tau``.
    """
    walkers = np.flatnonzero(data.held_out)
    n_frames = data.x.shape[1]
    x = data.frames(held_out=True)
    parameter = next(flow.parameters())
    parts = torch.split(x, _CHUNK)
    log_q = [log_prob(flow, part.to(parameter), tau).cpu() for part in parts]
    return Rows(
        u=data.energy[walkers].ravel(),
        log_q=torch.cat(log_q).double().numpy(),
        state=np.repeat(data.state[walkers], n_frames),
        r=reaction_coordinate(x).numpy(),
        block=np.repeat(walkers, n_frames),
    )
