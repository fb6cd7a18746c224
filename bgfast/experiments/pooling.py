"""Rows for the bidirectional estimate: generated samples and walkers not trained on."""

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
"""Generated rows that enter a bidirectional estimate, at most: it holds them in memory."""
_GENERATOR_BATCHES = 64
_CHUNK = 8192


def generated_rows(path: Path, split: float) -> Rows:
    """Return the samples in ``path`` at tau = 1; rows marked ``discard`` are in no state.

    Batches are drawn at random, so that the errors of Sobol samples are those of independent ones.
    """
    columns = ("r", "energy", "log_w", "discard")
    r, u, log_w, discard = next(read_columns(path, *columns, chunk=POOLED_ROWS))
    state = np.where(discard, -1, (r >= split).astype(int))
    batch = np.random.default_rng(0).permutation(len(u)) % _GENERATOR_BATCHES
    return Rows(u=u, log_q=-u - log_w, state=state, r=r, block=batch)


@torch.no_grad()
def simulated_rows(
    data: StateData, flow: Flow, reaction_coordinate: Callable[[Tensor], Tensor]
) -> Rows:
    """Return the frames of the held-out walkers of ``data`` with their density under ``flow``."""
    walkers = np.flatnonzero(data.held_out)
    n_frames = data.x.shape[1]
    x = data.frames(held_out=True)
    parameter = next(flow.parameters())
    log_q = [log_prob(flow, part.to(parameter)).cpu() for part in torch.split(x, _CHUNK)]
    return Rows(
        u=data.energy[walkers].ravel(),
        log_q=torch.cat(log_q).double().numpy(),
        state=np.repeat(data.state[walkers], n_frames),
        r=reaction_coordinate(x).numpy(),
        block=np.repeat(walkers, n_frames),
    )
